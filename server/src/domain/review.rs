//! What a labeler says of a prompt, parsed from a form or from JSON: its use-case category, its
//! language, the flags of InstructGPT's Table 7 and personal data that it holds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::form::Form;
use crate::domain::ranking::LONGEST_NOTE;
use crate::domain::writing::{too_long, unknown_category, unknown_language};
use crate::error::FieldError;
use crate::message::Message;

/// Longest passage that is quoted from a prompt, in characters.
pub const LONGEST_PASSAGE: usize = 500;

/// Most passages with personal data that are quoted from one prompt.
pub const MOST_PASSAGES: usize = 30;

/// Personal data in a prompt.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// What it is: a key of the form's kinds of personal data.
    #[serde(default)]
    pub kind: String,
    /// The words of the prompt that are personal data.
    #[serde(default)]
    pub passage: String,
}

impl Found {
    /// An entry with nothing in it is none.
    fn is_blank(&self) -> bool {
        self.kind.is_empty() && self.passage.trim().is_empty()
    }
}

/// A review as it comes in, as a submission or a draft. What is missing is unanswered, which is not
/// "no".
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReviewInput {
    /// Use-case category, one of the ten of InstructGPT's Table 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Language of the prompt: a key of the form's languages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Answered flags only.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub flags: BTreeMap<String, bool>,
    /// Whether the prompt holds personal data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personal_data: Option<bool>,
    /// The personal data found. Entries with nothing in them do not count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub found: Vec<Found>,
    /// Anything the labeler wants to add.
    #[serde(default)]
    pub note: String,
}

/// A review, complete but for what may stay unanswered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Review {
    /// One of the ten categories.
    pub category: String,
    /// Primary language tag.
    pub language: String,
    /// Answered flags only.
    pub flags: BTreeMap<String, bool>,
    /// Whether the prompt holds personal data; none where it was not answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub personal_data: Option<bool>,
    /// The personal data found.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub found: Vec<Found>,
    /// Anything the labeler wanted to add.
    #[serde(skip)]
    pub note: String,
}

impl ReviewInput {
    /// Checks everything but completeness, which only a submission needs. Fields are named as in the
    /// JSON: `found[0].passage` is of the first entry.
    pub fn complaints(&self, form: &Form) -> Vec<FieldError> {
        let mut errors = Vec::new();
        errors.extend(unknown_category(self.category.as_deref()));
        errors.extend(unknown_language(self.language.as_deref(), form));
        for key in self.flags.keys().filter(|key| !form.has_prompt_flag(key)) {
            let message = Message::new("error-no-such-flag");
            errors.push(FieldError::new(format!("flags.{key}"), message));
        }
        for (index, found) in self.found.iter().enumerate() {
            let at = |name: &str| format!("found[{index}].{name}");
            if !found.kind.is_empty() && !form.has_pii_kind(&found.kind) {
                let message = Message::new("error-unknown-choice");
                errors.push(FieldError::new(at("kind"), message));
            }
            errors.extend(too_long(at("passage"), &found.passage, LONGEST_PASSAGE));
        }
        if self.found.len() > MOST_PASSAGES {
            let message = Message::new("error-most-passages").with("most", MOST_PASSAGES);
            errors.push(FieldError::new("found", message));
        }
        errors.extend(too_long("note".to_owned(), &self.note, LONGEST_NOTE));
        errors
    }

    /// The review, if category and language are given, and what is said of personal data fits
    /// together.
    ///
    /// # Errors
    /// Every wrong or missing field.
    pub fn parse(&self, form: &Form) -> Result<Review, Vec<FieldError>> {
        let mut errors = self.complaints(form);
        errors.extend(self.missing());
        if !errors.is_empty() {
            return Err(errors);
        }
        let found = self.named().map(|(_, found)| Found {
            kind: found.kind.clone(),
            passage: found.passage.trim().to_owned(),
        });
        Ok(Review {
            category: self.category.clone().unwrap_or_default(),
            language: self.language.clone().unwrap_or_default(),
            flags: self.flags.clone(),
            personal_data: self.personal_data,
            found: found.collect(),
            note: self.note.trim().to_owned(),
        })
    }

    /// The entries that hold something, with their places.
    fn named(&self) -> impl Iterator<Item = (usize, &Found)> {
        let found = self.found.iter().enumerate();
        found.filter(|(_, found)| !found.is_blank())
    }

    /// What a submission needs and this has not.
    fn missing(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut complain = |field: String, key: &'static str| {
            errors.push(FieldError::new(field, Message::new(key)));
        };
        if self.category.is_none() {
            complain("category".to_owned(), "error-choose-one");
        }
        if self.language.is_none() {
            complain("language".to_owned(), "error-choose-one");
        }
        let is_named = self.named().next().is_some();
        match self.personal_data {
            Some(true) if !is_named => complain("found".to_owned(), "error-name-personal-data"),
            None | Some(false) if is_named => {
                complain("personal_data".to_owned(), "error-personal-data-named");
            }
            _ => (),
        }
        for (index, found) in self.named() {
            if found.kind.is_empty() {
                complain(format!("found[{index}].kind"), "error-choose-one");
            }
            if found.passage.trim().is_empty() {
                complain(format!("found[{index}].passage"), "error-is-empty");
            }
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use serde_json::json;

    use super::*;

    fn review(value: serde_json::Value) -> ReviewInput {
        serde_json::from_value(value).unwrap()
    }

    fn fields(value: serde_json::Value) -> Vec<String> {
        match review(value).parse(&Form::default()) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.into_iter().map(|error| error.field).collect(),
        }
    }

    #[test]
    fn category_and_language_are_needed_and_flags_may_stay_unanswered() {
        assert_eq!(fields(json!({})), ["category", "language"]);
        let given =
            review(json!({"category": "chat", "language": "zh", "flags": {"ambiguous": false}}));
        let parsed = given.parse(&Form::default()).unwrap();
        let stored = serde_json::to_value(&parsed).unwrap();
        let expected = json!({"category": "chat", "language": "zh", "flags": {"ambiguous": false}});
        assert_eq!(stored, expected);
    }

    #[test]
    fn every_wrong_field_is_named() {
        let wrong = json!({
            "category": "Chat", "language": "xx", "flags": {"rude": true}, "personal_data": true,
            "found": [{"kind": "shoe size", "passage": "44"}, {}, {"kind": "email"}, {"passage": "Ada"}],
            "note": "x".repeat(4001),
        });
        let expected = [
            "category",
            "language",
            "flags.rude",
            "found[0].kind",
            "note",
            "found[2].passage",
            "found[3].kind",
        ];
        assert_eq!(fields(wrong), expected);
    }

    #[test]
    fn personal_data_is_quoted_where_there_is_some_and_only_there() {
        let said = |personal_data: Option<bool>, found: serde_json::Value| {
            let mut value = json!({"category": "chat", "language": "en", "found": found});
            if let Some(answer) = personal_data {
                value["personal_data"] = json!(answer);
            }
            fields(value)
        };
        let one = json!([{"kind": "email", "passage": "ada@example.org"}]);
        assert!(said(Some(true), one.clone()).is_empty());
        assert_eq!(said(Some(true), json!([{}])), ["found"]);
        assert_eq!(said(Some(false), one.clone()), ["personal_data"]);
        assert_eq!(said(None, one), ["personal_data"]);
        assert!(said(None, json!([{}])).is_empty());
        assert!(said(Some(false), json!([])).is_empty());
    }
}
