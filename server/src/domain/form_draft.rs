//! A form as it is being edited: rows of typed words, which an admin adds, moves and removes, and which
//! become a form when nothing is wrong with them.

use serde_json::{Map, Value, json};

use crate::domain::form::{Choice, Flag, Form, Scale, Texts};
use crate::domain::form_versions::Section;
use crate::message::Message;

/// The languages that a form is written in.
pub const LANGUAGES: [&str; 2] = ["en", "zh"];

/// Longest label, in characters.
pub const LONGEST_LABEL: usize = 200;

/// Longest explanation, in characters.
pub const LONGEST_HELP: usize = 500;

/// Longest key.
pub const LONGEST_KEY: usize = 60;

/// Bounds of the overall rating (constraint `ratings_overall_range`).
const OVERALL: std::ops::RangeInclusive<i16> = 1..=7;

/// Bounds of further scales.
const SCALES: std::ops::RangeInclusive<i16> = -10..=10;

/// Most values of a scale: they stand beside each other as buttons.
const MOST_VALUES: i16 = 11;

/// One entry, as typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    /// The key in exports.
    pub key: String,
    /// Lowest value of a scale.
    pub min: String,
    /// Highest value of a scale.
    pub max: String,
    /// What is asked.
    pub label: Texts,
    /// When to say yes.
    pub help: Texts,
    /// What the lowest value means.
    pub low: Texts,
    /// What the highest value means.
    pub high: Texts,
}

impl Row {
    /// What was typed in a language, or nothing.
    pub fn text<'a>(texts: &'a Texts, lang: &str) -> &'a str {
        texts.get(lang).map_or("", String::as_str)
    }

    fn texts(&mut self, field: &str) -> Option<&mut Texts> {
        match field {
            "label" => Some(&mut self.label),
            "help" => Some(&mut self.help),
            "low" => Some(&mut self.low),
            "high" => Some(&mut self.high),
            _ => None,
        }
    }

    fn of_scale(key: &str, scale: &Scale) -> Self {
        Self {
            key: key.to_owned(),
            min: scale.min.to_string(),
            max: scale.max.to_string(),
            label: scale.label.clone(),
            low: scale.low.clone(),
            high: scale.high.clone(),
            help: Texts::new(),
        }
    }
}

/// Something wrong with a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// The row's part of the form.
    pub section: Section,
    /// Its index there.
    pub index: usize,
    /// `key`, `label`, `help`, `low`, `high`, `min` or `max`; empty of the part as a whole.
    pub field: &'static str,
    /// What to change.
    pub message: Message,
}

/// A form as it is being edited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FormDraft {
    overall: Vec<Row>,
    scales: Vec<Row>,
    flags: Vec<Row>,
    reasons: Vec<Row>,
    prompt_flags: Vec<Row>,
    pii_kinds: Vec<Row>,
    languages: Vec<Row>,
    /// Whether what is asked in reviews was on the page: where it was not, it stays as it is.
    has_review: bool,
}

/// Most rows of any part.
const MOST_ROWS: usize = 100;

/// Fewest and most rows of a part.
fn sizes(section: Section) -> (usize, usize) {
    match section {
        Section::Overall => (1, 1),
        Section::Scales => (0, 10),
        Section::Flags => (0, 40),
        Section::Reasons => (1, 20),
        Section::PromptFlags => (0, 40),
        Section::PiiKinds => (0, 20),
        Section::Languages => (0, MOST_ROWS),
    }
}

impl FormDraft {
    /// A form to begin with.
    pub fn of(form: &Form) -> Self {
        let scales = form.scales.iter();
        let of_flags = |flags: &[Flag]| -> Vec<Row> {
            let row = |flag: &Flag| Row {
                key: flag.key.clone(),
                label: flag.label.clone(),
                help: flag.help.clone(),
                ..Row::default()
            };
            flags.iter().map(row).collect()
        };
        let of_choices = |choices: &[Choice]| -> Vec<Row> {
            let row = |choice: &Choice| Row {
                key: choice.key.clone(),
                label: choice.label.clone(),
                ..Row::default()
            };
            choices.iter().map(row).collect()
        };
        let reasons = form.skip_reasons.iter().map(|reason| Row {
            key: reason.key.clone(),
            label: reason.label.clone(),
            ..Row::default()
        });
        Self {
            overall: vec![Row::of_scale("", &form.overall)],
            scales: scales
                .map(|one| Row::of_scale(&one.key, &one.scale))
                .collect(),
            flags: of_flags(&form.flags),
            reasons: reasons.collect(),
            prompt_flags: of_flags(&form.prompt_flags),
            pii_kinds: of_choices(&form.pii_kinds),
            languages: of_choices(&form.languages),
            has_review: true,
        }
    }

    /// The rows of a part.
    pub fn rows(&self, section: Section) -> &[Row] {
        match section {
            Section::Overall => &self.overall,
            Section::Scales => &self.scales,
            Section::Flags => &self.flags,
            Section::Reasons => &self.reasons,
            Section::PromptFlags => &self.prompt_flags,
            Section::PiiKinds => &self.pii_kinds,
            Section::Languages => &self.languages,
        }
    }

    fn rows_mut(&mut self, section: Section) -> &mut Vec<Row> {
        match section {
            Section::Overall => &mut self.overall,
            Section::Scales => &mut self.scales,
            Section::Flags => &mut self.flags,
            Section::Reasons => &mut self.reasons,
            Section::PromptFlags => &mut self.prompt_flags,
            Section::PiiKinds => &mut self.pii_kinds,
            Section::Languages => &mut self.languages,
        }
    }

    /// Reads the fields of the page's form, named `flags-0-key` or `flags-0-label-en`. Names of anything
    /// else are passed over.
    pub fn read<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut draft = Self {
            overall: vec![Row::default()],
            ..Self::default()
        };
        for (name, value) in fields {
            draft.has_review |= name == "review";
            let mut parts = name.split('-');
            let section = parts.next().and_then(find_section);
            let index = parts.next().and_then(|part| part.parse::<usize>().ok());
            let (Some(section), Some(index), Some(field)) = (section, index, parts.next()) else {
                continue;
            };
            let rows = draft.rows_mut(section);
            if index >= MOST_ROWS {
                continue;
            }
            if rows.len() <= index {
                rows.resize(index + 1, Row::default());
            }
            let (row, lang) = (&mut rows[index], parts.next());
            match (field, lang) {
                ("key", None) => value.trim().clone_into(&mut row.key),
                ("min", None) => value.trim().clone_into(&mut row.min),
                ("max", None) => value.trim().clone_into(&mut row.max),
                (field, Some(lang)) if LANGUAGES.contains(&lang) => {
                    if let Some(texts) = row.texts(field) {
                        texts.insert(lang.to_owned(), value.trim().to_owned());
                    }
                }
                _ => (),
            }
        }
        draft
    }

    /// Carries out a button of the page: `flags-add`, `flags-up-2`, `flags-down-2` or `flags-remove-2`.
    /// Returns where the row stands now; none when the word is no such button's.
    pub fn change(&mut self, action: &str) -> Option<(Section, usize)> {
        let mut parts = action.split('-');
        let section = parts.next().and_then(find_section)?;
        let verb = parts.next()?;
        let index: Option<usize> = parts.next().and_then(|part| part.parse().ok());
        let most = sizes(section).1;
        let rows = self.rows_mut(section);
        match (verb, index) {
            ("add", None) if rows.len() < most => {
                rows.push(Row::default());
                Some((section, rows.len() - 1))
            }
            ("up", Some(index)) if (1..rows.len()).contains(&index) => {
                rows.swap(index, index - 1);
                Some((section, index - 1))
            }
            ("down", Some(index)) if index + 1 < rows.len() => {
                rows.swap(index, index + 1);
                Some((section, index + 1))
            }
            ("remove", Some(index)) if section != Section::Overall && index < rows.len() => {
                rows.remove(index);
                Some((section, index.saturating_sub(1)))
            }
            _ => None,
        }
    }

    /// Everything that is wrong.
    pub fn complaints(&self) -> Vec<Complaint> {
        let mut found = Vec::new();
        for section in Section::ALL {
            let rows = self.rows(section);
            let (least, most) = sizes(section);
            if !(least..=most).contains(&rows.len()) {
                let message = Message::new("projects-form-rows").with("low", least);
                found.push(Complaint {
                    section,
                    index: 0,
                    field: "",
                    message: message.with("high", most),
                });
            }
            for (index, row) in rows.iter().enumerate() {
                let is_taken = rows[..index].iter().any(|other| other.key == row.key);
                let wrong = row_complaints(section, row, is_taken).into_iter();
                found.extend(wrong.map(|(field, message)| Complaint {
                    section,
                    index,
                    field,
                    message,
                }));
            }
        }
        found
    }

    /// The form, written over the last version, of which parts that are not edited here stay as they are.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn finish(&self, last: &Value) -> Result<Value, Vec<Complaint>> {
        let complaints = self.complaints();
        if !complaints.is_empty() {
            return Err(complaints);
        }
        let mut form = last.as_object().cloned().unwrap_or_default();
        let of = |section| -> Vec<Value> {
            let rows = self.rows(section).iter();
            rows.map(|row| to_json(section, row)).collect()
        };
        let mut set = |name: &str, value: Value| form.insert(name.to_owned(), value);
        set("overall", of(Section::Overall).pop().unwrap_or_default());
        set("scales", of(Section::Scales).into());
        set("flags", of(Section::Flags).into());
        set("skip_reasons", of(Section::Reasons).into());
        if self.has_review {
            set("prompt_flags", of(Section::PromptFlags).into());
            set("pii_kinds", of(Section::PiiKinds).into());
            set("languages", of(Section::Languages).into());
        }
        Ok(Value::Object(form))
    }
}

fn find_section(word: &str) -> Option<Section> {
    Section::ALL
        .into_iter()
        .find(|section| section.as_str() == word)
}

/// Whether a text can be a key: it names a column for those who read exports.
fn is_key(text: &str) -> bool {
    let starts_well = text.starts_with(|letter: char| letter.is_ascii_lowercase());
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    starts_well && text.len() <= LONGEST_KEY && text.bytes().all(is_plain)
}

fn row_complaints(section: Section, row: &Row, is_taken: bool) -> Vec<(&'static str, Message)> {
    let mut found = Vec::new();
    if section != Section::Overall {
        if !is_key(&row.key) {
            let message = Message::new("projects-form-bad-key");
            found.push(("key", message.with("most", LONGEST_KEY)));
        } else if is_taken {
            found.push(("key", Message::new("error-comes-twice")));
        }
    }
    if row.label.values().all(|text| text.trim().is_empty()) {
        found.push(("label", Message::new("projects-form-no-label")));
    }
    let texts = [
        ("label", &row.label, LONGEST_LABEL),
        ("help", &row.help, LONGEST_HELP),
        ("low", &row.low, LONGEST_LABEL),
        ("high", &row.high, LONGEST_LABEL),
    ];
    for (field, texts, most) in texts {
        if texts.values().any(|text| text.chars().count() > most) {
            found.push((field, Message::new("error-longer-than").with("most", most)));
        }
    }
    if section.has_bounds() {
        found.extend(bound_complaints(section, row));
    }
    found
}

fn bound_complaints(section: Section, row: &Row) -> Option<(&'static str, Message)> {
    let range = match section {
        Section::Overall => OVERALL,
        _ => SCALES,
    };
    let read = |text: &str| {
        text.parse::<i16>()
            .ok()
            .filter(|value| range.contains(value))
    };
    let outside = || {
        let message = Message::new("error-outside").with("low", range.start());
        message.with("high", range.end())
    };
    let Some(min) = read(&row.min) else {
        return Some(("min", outside()));
    };
    let Some(max) = read(&row.max) else {
        return Some(("max", outside()));
    };
    if max <= min || max - min >= MOST_VALUES {
        let message = Message::new("projects-form-bounds").with("most", MOST_VALUES);
        return Some(("max", message));
    }
    None
}

/// A row without fault as the form has it; what is blank is left out.
fn to_json(section: Section, row: &Row) -> Value {
    let mut entry = Map::new();
    if section != Section::Overall {
        entry.insert("key".to_owned(), json!(row.key));
    }
    if section.has_bounds() {
        for (name, text) in [("min", &row.min), ("max", &row.max)] {
            entry.insert(
                name.to_owned(),
                json!(text.parse::<i16>().unwrap_or_default()),
            );
        }
    }
    let written = |texts: &Texts| -> Texts {
        let texts = texts.iter().filter(|(_, text)| !text.is_empty());
        texts
            .map(|(lang, text)| (lang.clone(), text.clone()))
            .collect()
    };
    entry.insert("label".to_owned(), json!(written(&row.label)));
    let texts = match section {
        Section::Overall | Section::Scales => vec![("low", &row.low), ("high", &row.high)],
        Section::Flags | Section::PromptFlags => vec![("help", &row.help)],
        Section::Reasons | Section::PiiKinds | Section::Languages => Vec::new(),
    };
    for (name, texts) in texts {
        let texts = written(texts);
        if !texts.is_empty() {
            entry.insert(name.to_owned(), json!(texts));
        }
    }
    Value::Object(entry)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::domain::form_versions::changes;

    /// Every input of the page, as a browser sends it.
    fn fields(draft: &FormDraft) -> Vec<(String, String)> {
        let mut fields = vec![("review".to_owned(), "yes".to_owned())];
        for section in Section::ALL {
            for (index, row) in draft.rows(section).iter().enumerate() {
                let name = |field: &str| format!("{}-{index}-{field}", section.as_str());
                fields.push((name("key"), row.key.clone()));
                fields.push((name("min"), row.min.clone()));
                fields.push((name("max"), row.max.clone()));
                for (field, texts) in [
                    ("label", &row.label),
                    ("help", &row.help),
                    ("low", &row.low),
                    ("high", &row.high),
                ] {
                    for (lang, text) in texts {
                        fields.push((name(&format!("{field}-{lang}")), text.clone()));
                    }
                }
            }
        }
        fields
    }

    fn read(fields: &[(String, String)]) -> FormDraft {
        FormDraft::read(
            fields
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        )
    }

    #[test]
    fn a_form_that_nobody_touched_comes_back_as_it_was() {
        let form = Form::default();
        let draft = FormDraft::of(&form);
        let again = read(&fields(&draft));
        assert_eq!(again, draft);
        let mut last = serde_json::to_value(&form).unwrap();
        last["of_another_part"] = json!([1]);
        let finished = again.finish(&last).unwrap();
        assert_eq!(finished["of_another_part"], json!([1]));
        let finished: Form = serde_json::from_value(finished).unwrap();
        assert_eq!(changes(&form, &finished), []);
    }

    #[test]
    fn what_reviews_ask_is_edited_and_stays_where_the_page_did_not_have_it() {
        let form = Form::default();
        let mut draft = FormDraft::of(&form);
        let last = serde_json::to_value(&form).unwrap();
        assert!(draft.change("promptflags-remove-0").is_some());
        assert!(draft.change("pii-up-1").is_some());
        for index in (0..draft.languages.len()).rev() {
            draft.change(&format!("languages-remove-{index}"));
        }
        let again = read(&fields(&draft));
        let finished: Form = serde_json::from_value(again.finish(&last).unwrap()).unwrap();
        assert_eq!(finished.prompt_flags.len(), form.prompt_flags.len() - 1);
        assert_eq!(finished.pii_kinds[0].key, form.pii_kinds[1].key);
        assert!(finished.languages.is_empty(), "an emptied part stays empty");
        let sections: Vec<Section> = changes(&form, &finished)
            .iter()
            .map(|change| change.section)
            .collect();
        assert!(sections.contains(&Section::PromptFlags) && sections.contains(&Section::PiiKinds));
        // A page of before reviews were edited here.
        let mut older = fields(&FormDraft::of(&form));
        older.retain(|(name, _)| {
            !["review", "promptflags", "pii", "languages"]
                .iter()
                .any(|part| name.starts_with(part))
        });
        let finished = read(&older).finish(&last).unwrap();
        assert_eq!(finished["languages"], last["languages"]);
    }

    #[test]
    fn rows_are_added_moved_and_removed() {
        let mut draft = FormDraft::of(&Form::default());
        let keys = |draft: &FormDraft| -> Vec<String> {
            let rows = draft.rows(Section::Flags).iter();
            rows.map(|row| row.key.clone()).take(3).collect()
        };
        let first = keys(&draft);
        assert_eq!(draft.change("flags-up-1"), Some((Section::Flags, 0)));
        assert_eq!(
            keys(&draft),
            [first[1].clone(), first[0].clone(), first[2].clone()]
        );
        assert_eq!(draft.change("flags-down-0"), Some((Section::Flags, 1)));
        assert_eq!(keys(&draft), first);
        assert_eq!(draft.change("flags-remove-0"), Some((Section::Flags, 0)));
        assert_eq!(keys(&draft)[0], first[1]);
        assert_eq!(draft.change("scales-add"), Some((Section::Scales, 0)));
        for impossible in [
            "flags-up-0",
            "flags-down-99",
            "overall-remove-0",
            "overall-add",
            "flags",
            "no-add",
        ] {
            assert_eq!(draft.change(impossible), None, "{impossible}");
        }
    }

    #[test]
    fn every_wrong_field_is_named() {
        let mut draft = FormDraft::of(&Form::default());
        draft.change("scales-add");
        draft.overall[0].max = "8".to_owned();
        draft.scales[0].key = "Truthful".to_owned();
        (draft.scales[0].min, draft.scales[0].max) = ("5".to_owned(), "5".to_owned());
        draft.flags[1].key = draft.flags[0].key.clone();
        draft.flags[2].help.insert("en".to_owned(), "x".repeat(501));
        draft.reasons.clear();
        let complaints = draft.finish(&json!({})).unwrap_err();
        let places = complaints
            .iter()
            .map(|one| (one.section.as_str(), one.index, one.field));
        let expected = [
            ("overall", 0, "max"),
            ("scales", 0, "key"),
            ("scales", 0, "label"),
            ("scales", 0, "max"),
            ("flags", 1, "key"),
            ("flags", 2, "help"),
            ("reasons", 0, ""),
        ];
        assert_eq!(places.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_scale_of_eleven_values_is_the_longest() {
        let mut row = Row::of_scale("truthful", &Form::default().overall);
        (row.min, row.max) = ("-5".to_owned(), "5".to_owned());
        assert_eq!(bound_complaints(Section::Scales, &row), None);
        row.max = "6".to_owned();
        assert!(bound_complaints(Section::Scales, &row).is_some());
    }
}
