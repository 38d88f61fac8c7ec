//! The labeling form as data: the overall scale, the yes/no flags, what is asked of a prompt and the
//! reasons to skip. A project's forms are versioned, and each label names the version it was given under.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A text in each language of the pages.
pub type Texts = BTreeMap<String, String>;

/// The overall rating.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Scale {
    /// Lowest value.
    pub min: i16,
    /// Highest value.
    pub max: i16,
    /// What is asked.
    pub label: Texts,
    /// What the lowest value means.
    #[serde(default)]
    pub low: Texts,
    /// What the highest value means.
    #[serde(default)]
    pub high: Texts,
}

/// A yes/no question about one candidate, or about a prompt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Flag {
    /// The key in exports.
    pub key: String,
    /// What is asked.
    pub label: Texts,
    /// When to say yes.
    #[serde(default)]
    pub help: Texts,
}

/// A further scale on which each candidate is rated.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NamedScale {
    /// The key in exports.
    pub key: String,
    /// The scale.
    #[serde(flatten)]
    pub scale: Scale,
}

/// A reason to skip a task.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SkipReason {
    /// The key in exports.
    pub key: String,
    /// What it says.
    pub label: Texts,
}

/// One of several answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Choice {
    /// The key in exports.
    pub key: String,
    /// What it says.
    pub label: Texts,
}

/// A form. What a stored one lacks, because it was written before that was asked, is as in the standard
/// form.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Form {
    /// The overall rating.
    pub overall: Scale,
    /// Further scales for each candidate, in the order shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scales: Vec<NamedScale>,
    /// The yes/no flags, in the order shown.
    pub flags: Vec<Flag>,
    /// Reasons to skip.
    pub skip_reasons: Vec<SkipReason>,
    /// The yes/no flags of a prompt's review, in the order shown.
    #[serde(default = "standard_prompt_flags")]
    pub prompt_flags: Vec<Flag>,
    /// Kinds of personal data that a review names.
    #[serde(default = "standard_pii_kinds")]
    pub pii_kinds: Vec<Choice>,
    /// Languages of prompts, by primary tag, as labelers' languages and the queue have them.
    #[serde(default = "standard_languages")]
    pub languages: Vec<Choice>,
}

fn standard_prompt_flags() -> Vec<Flag> {
    Form::default().prompt_flags
}

fn standard_pii_kinds() -> Vec<Choice> {
    Form::default().pii_kinds
}

fn standard_languages() -> Vec<Choice> {
    Form::default().languages
}

/// The form that new projects start with: the fields of InstructGPT's Table 3 for candidates, those of
/// its Table 7 for prompts.
const STANDARD: &str = include_str!("../../demo/form.json");

impl Form {
    /// Whether the form asks this flag.
    pub fn has_flag(&self, key: &str) -> bool {
        self.flags.iter().any(|flag| flag.key == key)
    }

    /// The further scale of this key.
    pub fn scale(&self, key: &str) -> Option<&Scale> {
        let found = self.scales.iter().find(|scale| scale.key == key);
        found.map(|named| &named.scale)
    }

    /// Whether the form asks this flag of a prompt.
    pub fn has_prompt_flag(&self, key: &str) -> bool {
        self.prompt_flags.iter().any(|flag| flag.key == key)
    }

    /// Whether the form knows this kind of personal data.
    pub fn has_pii_kind(&self, key: &str) -> bool {
        self.pii_kinds.iter().any(|kind| kind.key == key)
    }

    /// Whether the form knows this language.
    pub fn has_language(&self, tag: &str) -> bool {
        self.languages.iter().any(|language| language.key == tag)
    }

    /// Whether the form knows this reason.
    pub fn has_skip_reason(&self, key: &str) -> bool {
        self.skip_reasons.iter().any(|reason| reason.key == key)
    }
}

impl Default for Form {
    fn default() -> Self {
        serde_json::from_str(STANDARD).unwrap_or_else(|error| panic!("demo/form.json: {error}"))
    }
}

/// The text of a language, else English, else any. A blank text says nothing and hides none.
pub fn text_in(texts: &Texts, lang: &str) -> String {
    let written = |key: &str| texts.get(key).filter(|text| !text.trim().is_empty());
    let chosen = written(lang)
        .or_else(|| written("en"))
        .or_else(|| texts.values().find(|text| !text.trim().is_empty()));
    chosen.cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_form_asks_the_papers_eleven_flags_in_both_languages() {
        let form = Form::default();
        assert_eq!(
            (form.overall.min, form.overall.max, form.flags.len()),
            (1, 7, 11)
        );
        assert!(
            form.flags
                .iter()
                .all(|flag| flag.label.contains_key("en") && flag.label.contains_key("zh"))
        );
        assert!(
            form.skip_reasons
                .iter()
                .all(|reason| reason.label.contains_key("zh"))
        );
    }

    #[test]
    fn the_standard_form_asks_of_prompts_what_table_7_has_in_both_languages() {
        let form = Form::default();
        let keys: Vec<&str> = form
            .prompt_flags
            .iter()
            .map(|flag| flag.key.as_str())
            .collect();
        assert_eq!(
            keys,
            [
                "ambiguous",
                "sensitive_content",
                "identity_dependent",
                "closed_domain",
                "continuation_style",
                "requests_opinion",
                "requests_advice",
                "requests_moral_judgment",
                "safety_constraints",
                "other_constraints",
                "intent_unclear"
            ]
        );
        let kinds: Vec<&str> = form
            .pii_kinds
            .iter()
            .map(|kind| kind.key.as_str())
            .collect();
        assert_eq!(
            kinds,
            ["name", "email", "phone", "address", "id_number", "other"]
        );
        let texts = (form
            .prompt_flags
            .iter()
            .flat_map(|flag| [&flag.label, &flag.help]))
        .chain(form.pii_kinds.iter().map(|kind| &kind.label))
        .chain(form.languages.iter().map(|language| &language.label));
        for text in texts {
            assert!(
                text.contains_key("en") && text.contains_key("zh"),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_form_from_before_prompts_were_reviewed_gets_the_standard_and_an_emptied_one_stays_empty() {
        let mut stored = serde_json::to_value(Form::default()).unwrap_or_default();
        let added = ["prompt_flags", "pii_kinds", "languages"];
        for name in added {
            stored[name] = serde_json::json!([]);
        }
        let emptied: Form = serde_json::from_value(stored.clone()).expect("a form");
        assert!(emptied.prompt_flags.is_empty() && emptied.languages.is_empty());
        for name in added {
            stored.as_object_mut().map(|form| form.shift_remove(name));
        }
        let older: Form = serde_json::from_value(stored).expect("a form");
        assert_eq!(older.prompt_flags.len(), 11);
        assert!(older.has_pii_kind("email") && older.has_language("ar"));
    }

    #[test]
    fn a_blank_text_does_not_hide_the_other_language() {
        let texts = |en: &str, zh: &str| {
            Texts::from([
                ("en".to_owned(), en.to_owned()),
                ("zh".to_owned(), zh.to_owned()),
            ])
        };
        assert_eq!(text_in(&texts(" \n", "好"), "en"), "好");
        assert_eq!(text_in(&texts("good", ""), "zh"), "good");
        assert_eq!(text_in(&texts("", ""), "zh"), "");
    }
}
