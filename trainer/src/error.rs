//! What can go wrong, as sentences for the person who can mend it.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// The crate's result.
pub type Result<T> = std::result::Result<T, TrainerError>;

/// Why a run ended without a result.
#[derive(Debug, thiserror::Error)]
pub enum TrainerError {
    /// A line of a data file is wrong.
    #[error("{}: {message}", place(file, *line, field))]
    Input {
        /// The file.
        file: PathBuf,
        /// The line, 1-based.
        line: usize,
        /// The field.
        field: String,
        /// What is wrong with it.
        message: String,
    },
    /// A model folder cannot be used.
    #[error("{}: {message}", path.display())]
    Checkpoint {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A setting is out of range or contradicts another.
    #[error("setting {}: {}", one_sentence(field), one_sentence(message))]
    Config {
        /// The setting.
        field: Cow<'static, str>,
        /// What is wrong with it.
        message: String,
    },
    /// A check failed, so what was trained, or would have been, is worthless.
    #[error("a check of the run failed: {0}")]
    Refused(String),
    /// Training left the numbers that a computer can hold.
    #[error("training diverged: {0}")]
    Diverged(String),
    /// The operator asked for it.
    #[error("cancelled")]
    Cancelled,
    /// A model could not be fetched.
    #[error("{0}")]
    Fetch(String),
    /// A file could not be read or written.
    #[error("{}: {}", path.display(), one_sentence(&source.to_string()))]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A tensor operation failed.
    #[error("tensor operation: {}", one_sentence(&.0.to_string()))]
    Tensor(#[from] candle_core::Error),
}

impl TrainerError {
    /// An error about a model folder or file.
    pub fn checkpoint(path: &Path, message: impl Into<String>) -> Self {
        Self::Checkpoint {
            path: path.to_owned(),
            message: one_sentence(&message.into()),
        }
    }

    /// An error about one line of a data file.
    pub fn input(file: &Path, line: usize, field: &str, message: impl Into<String>) -> Self {
        Self::Input {
            file: file.to_owned(),
            line,
            field: one_sentence(field),
            message: one_sentence(&message.into()),
        }
    }
}

/// What [`TrainerError::Input`] has as the field where the line is no record at all.
pub(crate) const WHOLE_LINE: &str = "JSON";

/// What it has where no single line is wrong.
pub(crate) const WHOLE_FILE: &str = "file";

/// Where a data file is wrong, as far as it can be said.
fn place(file: &Path, line: usize, field: &str) -> String {
    let file = file.display();
    match field {
        WHOLE_FILE => file.to_string(),
        WHOLE_LINE => format!("{file}, line {line}"),
        field => format!("{file}, line {line}, field {field}"),
    }
}

/// Longest sentence about what somebody else wrote, in characters.
const LONGEST_SENTENCE: usize = 600;

/// A message as one line of bounded length. What parsers say quotes what they read, which may be
/// a whole file, and what libraries say may carry a backtrace.
pub(crate) fn one_sentence(message: &str) -> String {
    // The first line of a backtrace.
    let message = message.split("\n   0: ").next().unwrap_or_default();
    let mut sentence = String::new();
    let mut n = 0;
    for character in message.chars() {
        let character = match character.is_control() {
            true => ' ',
            false => character,
        };
        if character == ' ' && sentence.ends_with(' ') {
            continue;
        }
        if n == LONGEST_SENTENCE {
            sentence.push('…');
            break;
        }
        sentence.push(character);
        n += 1;
    }
    sentence.truncate(sentence.trim_end().len());
    sentence
}

/// Names the file in an input or output error.
pub trait AtPath<T> {
    /// Names the file in an input or output error.
    fn at(self, path: &Path) -> Result<T>;
}

impl<T> AtPath<T> for std::io::Result<T> {
    fn at(self, path: &Path) -> Result<T> {
        self.map_err(|source| TrainerError::Io {
            path: path.to_owned(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_parser_quotes_becomes_one_line_of_bounded_length() {
        assert_eq!(one_sentence("is\n  torn:\t at\u{0}0\n"), "is torn: at 0");
        assert_eq!(one_sentence("is torn"), "is torn");
        let long = one_sentence(&"ä".repeat(10_000_000));
        assert_eq!(long.chars().count(), LONGEST_SENTENCE + 1);
        let error = TrainerError::input(Path::new("f"), 1, &"x".repeat(10_000), "a\nb");
        let said = error.to_string();
        assert!(said.len() < 700 && !said.contains('\n'), "{said}");
        let error = candle_core::Error::Msg("one\ntwo\n   0: main\n   1: x".to_owned());
        let said = TrainerError::from(error).to_string();
        assert_eq!(said, "tensor operation: one two");
    }
}
