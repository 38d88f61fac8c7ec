//! What a refusal says: a sentence of the catalogue, so that a page says it in its reader's
//! language and the JSON API in English.

use std::fmt;

use crate::i18n::{Lang, text};

/// A sentence for the person, or the program, that asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A sentence of the catalogue with its values.
    Catalogue {
        /// Key in `server/locales/`; refusals of no single page are in `errors.ftl`.
        key: &'static str,
        /// Values by name.
        values: Vec<(&'static str, String)>,
    },
    /// A sentence as it stands: what a library or the trainer says, in English.
    Verbatim(String),
}

impl Message {
    /// The sentence of the catalogue under `key`.
    pub fn new(key: &'static str) -> Self {
        Self::Catalogue {
            key,
            values: Vec::new(),
        }
    }

    /// The same sentence with one more value in it.
    #[must_use]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers pass numbers as they are"
    )]
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        if let Self::Catalogue { values, .. } = &mut self {
            values.push((name, value.to_string()));
        }
        self
    }

    /// Whether it is the sentence under `key`.
    pub fn is(&self, key: &str) -> bool {
        matches!(self, Self::Catalogue { key: own, .. } if *own == key)
    }

    /// The sentence in a language.
    pub fn text(&self, lang: Lang) -> String {
        match self {
            Self::Catalogue { key, values } => text(lang, key, values),
            Self::Verbatim(sentence) => sentence.clone(),
        }
    }
}

/// In English, as logs, the command line and the JSON API have it.
impl fmt::Display for Message {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text(Lang::En))
    }
}

impl From<String> for Message {
    fn from(sentence: String) -> Self {
        Self::Verbatim(sentence)
    }
}

impl From<&str> for Message {
    fn from(sentence: &str) -> Self {
        Self::Verbatim(sentence.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_said_in_the_readers_language_and_printed_in_english() {
        let message = Message::new("error-longer-than").with("most", 4000);
        assert_eq!(message.to_string(), "is longer than 4000 characters");
        assert_eq!(message.text(Lang::Zh), "超过 4000 个字符");
        let verbatim = Message::from("expected a number");
        assert_eq!(verbatim.text(Lang::Zh), "expected a number");
    }
}
