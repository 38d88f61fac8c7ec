//! The settings of a project as a form: what was typed, and what it means. Every wrong field is named,
//! and nothing is changed then.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::domain::project::{
    LEASE_SECONDS, LEAST_SECONDS, LONGEST_NAME, LONGEST_SLUG, MIXED_IN_PERCENT, OVERLAPS,
    REPEAT_AFTER_DAYS, is_slug,
};
use crate::domain::prompt::CATEGORIES;
use crate::domain::ranking::CANDIDATES;
use crate::domain::task::NextTask;
use crate::error::FieldError;
use crate::message::Message;
use crate::store::projects::Settings;

/// A field that takes a number: its name, bounds and step.
#[derive(Debug, Clone, Copy)]
pub struct NumberField {
    /// In the form; its words are `projects-<name>` and `projects-<name>-help`.
    pub name: &'static str,
    /// Lowest value.
    pub low: f32,
    /// Highest value.
    pub high: f32,
    /// Between values.
    pub step: &'static str,
}

impl NumberField {
    fn whole(name: &'static str, range: &RangeInclusive<impl Into<f64> + Copy>) -> Self {
        Self {
            name,
            low: (*range.start()).into() as f32,
            high: (*range.end()).into() as f32,
            step: "1",
        }
    }

    fn percent(name: &'static str, range: &RangeInclusive<f32>) -> Self {
        Self {
            name,
            low: *range.start(),
            high: *range.end(),
            step: "0.1",
        }
    }

    /// The name in keys of messages.
    pub fn key(&self) -> String {
        self.name.replace('_', "-")
    }
}

/// The numbers of a project, in the order of the page.
pub fn number_fields() -> [NumberField; 8] {
    let candidates = *CANDIDATES.start() as i16..=*CANDIDATES.end() as i16;
    [
        NumberField::whole("candidates", &candidates),
        NumberField::whole("overlap", &OVERLAPS),
        NumberField::whole("lease_seconds", &LEASE_SECONDS),
        NumberField::whole("least_seconds", &LEAST_SECONDS),
        NumberField::percent("gold_percent", &MIXED_IN_PERCENT),
        NumberField::percent("repeat_percent", &MIXED_IN_PERCENT),
        NumberField::whole("repeat_after_days", &REPEAT_AFTER_DAYS),
        NumberField::percent("evaluation_percent", &(0.0..=100.0)),
    ]
}

/// What was typed, by the field's name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SettingsForm {
    values: BTreeMap<String, String>,
}

/// A share as a percentage, without the digits that it never had.
fn percent(share: f32) -> String {
    let percent = (f64::from(share) * 1000.0).round() / 10.0;
    percent.to_string()
}

impl SettingsForm {
    /// The fields of a page's form.
    pub fn read(fields: Vec<(String, String)>) -> Self {
        let trimmed = |(name, value): (String, String)| (name, value.trim().to_owned());
        Self {
            values: fields.into_iter().map(trimmed).collect(),
        }
    }

    /// The settings that a project has, or that a new one begins with.
    pub fn of(settings: &Settings) -> Self {
        let mut values = BTreeMap::from([
            ("name", settings.name.clone()),
            ("candidates", settings.candidates.to_string()),
            ("overlap", settings.overlap.to_string()),
            ("lease_seconds", settings.lease_seconds.to_string()),
            ("least_seconds", settings.least_seconds.to_string()),
            ("gold_percent", percent(settings.gold_share)),
            ("repeat_percent", percent(settings.repeat_share)),
            ("repeat_after_days", settings.repeat_after_days.to_string()),
            ("evaluation_percent", percent(settings.evaluation_share)),
            ("next_task", settings.next_task.clone()),
            ("is_open", settings.is_open.to_string()),
        ])
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect::<BTreeMap<_, _>>();
        for category in CATEGORIES {
            if let Some(overlap) = settings.overlap_by_category[category].as_i64() {
                values.insert(format!("overlap_{category}"), overlap.to_string());
            }
        }
        Self { values }
    }

    /// A short name for everything that it says, by which a page knows whether the settings are still those that
    /// it showed.
    pub fn fingerprint(&self) -> String {
        let said = serde_json::to_vec(&self.values).unwrap_or_default();
        hex::encode(&Sha256::digest(&said)[..8])
    }

    /// Whether it was typed into a page that showed other settings than these. Who says nothing of what they saw,
    /// as a program may, is not asked.
    pub fn is_outdated(&self, saved: &Self) -> bool {
        let shown = self.value("last");
        !shown.is_empty() && shown != saved.fingerprint()
    }

    /// The settings that the page goes by on which wrong fields are mended: still those that were shown when
    /// they were typed, since it tells nothing of others that were saved meanwhile.
    pub fn last(&self, saved: &Self) -> String {
        match self.value("last") {
            "" => saved.fingerprint(),
            shown => shown.to_owned(),
        }
    }

    /// What was typed into a field.
    pub fn value(&self, name: &str) -> &str {
        self.values.get(name).map_or("", String::as_str)
    }

    /// What was typed as the overlap of a category.
    pub fn overlap_of(&self, category: &str) -> &str {
        self.value(&format!("overlap_{category}"))
    }

    /// The settings.
    ///
    /// # Errors
    /// Every wrong field.
    pub fn parse(&self) -> Result<Settings, Vec<FieldError>> {
        let mut errors = Vec::new();
        let name = self.value("name").to_owned();
        if name.is_empty() || name.chars().count() > LONGEST_NAME {
            let message = Message::new("error-length").with("most", LONGEST_NAME);
            errors.push(FieldError::new("name", message));
        }
        let mut numbers = BTreeMap::new();
        for field in number_fields() {
            match self.number(field.name, field.low, field.high, field.step == "1") {
                Ok(number) => _ = numbers.insert(field.name, number),
                Err(error) => errors.push(error),
            }
        }
        let mut by_category = Map::new();
        for category in CATEGORIES {
            let name = format!("overlap_{category}");
            if self.value(&name).is_empty() {
                continue;
            }
            let (low, high) = (f32::from(*OVERLAPS.start()), f32::from(*OVERLAPS.end()));
            match self.number(&name, low, high, true) {
                Ok(number) => _ = by_category.insert(category.to_owned(), json!(number as i16)),
                Err(error) => errors.push(error),
            }
        }
        let next_task = self.value("next_task").parse::<NextTask>();
        let is_open = self.value("is_open").parse::<bool>();
        let unknown = |field: &str| FieldError::new(field, Message::new("error-unknown-choice"));
        if next_task.is_err() {
            errors.push(unknown("next_task"));
        }
        if is_open.is_err() {
            errors.push(unknown("is_open"));
        }
        let (Ok(next_task), Ok(is_open), true) = (next_task, is_open, errors.is_empty()) else {
            return Err(errors);
        };
        let number = |name: &str| numbers.get(name).copied().unwrap_or_default();
        Ok(Settings {
            name,
            candidates: number("candidates") as i16,
            overlap: number("overlap") as i16,
            overlap_by_category: Value::Object(by_category),
            lease_seconds: number("lease_seconds") as i32,
            next_task: next_task.to_string(),
            evaluation_share: number("evaluation_percent") / 100.0,
            gold_share: number("gold_percent") / 100.0,
            repeat_share: number("repeat_percent") / 100.0,
            repeat_after_days: number("repeat_after_days") as i16,
            least_seconds: number("least_seconds") as i16,
            is_open,
        })
    }

    fn number(&self, name: &str, low: f32, high: f32, is_whole: bool) -> Result<f32, FieldError> {
        let typed = self.value(name);
        let number: f32 = typed
            .parse()
            .ok()
            .filter(|number: &f32| number.is_finite())
            .ok_or_else(|| FieldError::new(name, Message::new("error-not-a-number")))?;
        if is_whole && number.fract() != 0.0 {
            return Err(FieldError::new(name, Message::new("error-not-whole")));
        }
        if !(low..=high).contains(&number) {
            let message = Message::new("error-outside").with("low", low);
            return Err(FieldError::new(name, message.with("high", high)));
        }
        Ok(number)
    }

    /// The short name of a new project.
    ///
    /// # Errors
    /// When it cannot be one.
    pub fn slug(&self) -> Result<&str, FieldError> {
        let slug = self.value("slug");
        match is_slug(slug) {
            true => Ok(slug),
            false => Err(FieldError::new(
                "slug",
                Message::new("error-not-a-slug").with("most", LONGEST_SLUG),
            )),
        }
    }

    /// What differs, for the audit log: from what to what, by field.
    pub fn changes(&self, old: &Self) -> Value {
        let mut changes = Map::new();
        let names = self.values.keys().chain(old.values.keys());
        for name in names {
            let (before, after) = (old.value(name), self.value(name));
            if before != after {
                changes.insert(name.clone(), json!({"from": before, "to": after}));
            }
        }
        Value::Object(changes)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::i18n::{Lang, find};

    fn form(changes: &[(&str, &str)]) -> SettingsForm {
        let mut form = SettingsForm::of(&Settings::new("Study"));
        for (name, value) in changes {
            form.values.insert((*name).to_owned(), (*value).to_owned());
        }
        form
    }

    #[test]
    fn what_a_project_has_is_read_back_as_it_was() {
        let typed = form(&[
            ("gold_percent", "2.5"),
            ("overlap_chat", "3"),
            ("next_task", "random"),
            ("is_open", "false"),
        ]);
        let settings = typed.parse().unwrap();
        assert_eq!(settings.overlap_by_category, json!({"chat": 3}));
        assert!((settings.gold_share - 0.025).abs() < 1e-6 && !settings.is_open);
        assert_eq!(SettingsForm::of(&settings), typed);
        let changes = typed.changes(&form(&[]));
        assert_eq!(
            changes,
            json!({"gold_percent": {"from": "0", "to": "2.5"}, "overlap_chat": {"from": "", "to": "3"},
                   "next_task": {"from": "oldest", "to": "random"}, "is_open": {"from": "true", "to": "false"}})
        );
    }

    #[test]
    fn what_was_typed_beside_other_settings_is_outdated() {
        let shown = form(&[]);
        let saved = form(&[("overlap", "3")]);
        assert_ne!(shown.fingerprint(), saved.fingerprint());
        let typed = form(&[("last", &shown.fingerprint()), ("overlap", "2")]);
        assert!(!typed.is_outdated(&shown) && typed.is_outdated(&saved));
        assert_eq!(typed.last(&saved), shown.fingerprint());
        let unsaid = form(&[("overlap", "2")]);
        assert!(!unsaid.is_outdated(&saved));
        assert_eq!(unsaid.last(&saved), saved.fingerprint());
    }

    #[test]
    fn every_wrong_field_is_named_at_once() {
        let typed = form(&[
            ("name", ""),
            ("candidates", "10"),
            ("overlap", "1.5"),
            ("gold_percent", "51"),
            ("lease_seconds", "an hour"),
            ("overlap_chat", "0"),
            ("next_task", "newest"),
            ("is_open", ""),
        ]);
        let errors = typed.parse().unwrap_err();
        let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "name",
                "candidates",
                "overlap",
                "lease_seconds",
                "gold_percent",
                "overlap_chat",
                "next_task",
                "is_open"
            ]
        );
        assert!(form(&[("slug", "A b")]).slug().is_err());
    }

    #[test]
    fn every_field_has_its_words_in_both_languages() {
        let mut keys = Vec::new();
        for field in number_fields() {
            let key = field.key();
            keys.extend([
                format!("projects-{key}"),
                format!("projects-{key}-help"),
                format!("field-{key}"),
            ]);
        }
        for order in NextTask::ALL {
            keys.push(format!("projects-next-{order}"));
        }
        for lang in Lang::ALL {
            for key in &keys {
                assert!(find(lang, key).is_some(), "no {key} in {lang}");
            }
        }
    }
}
