//! What can go wrong, as sentences for the person who can mend it.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// The crate's result.
pub type Result<T> = std::result::Result<T, TrainerError>;

/// Why a run ended without a result.
#[derive(Debug, thiserror::Error)]
pub enum TrainerError {
    /// A line of a data file is wrong.
    #[error("{}, line {line}, field {field}: {message}", file.display())]
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
    #[error("setting {field}: {message}")]
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
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A tensor operation failed.
    #[error("tensor operation: {0}")]
    Tensor(#[from] candle_core::Error),
}

impl TrainerError {
    /// An error about a model folder or file.
    pub fn checkpoint(path: &Path, message: impl Into<String>) -> Self {
        Self::Checkpoint {
            path: path.to_owned(),
            message: message.into(),
        }
    }

    /// An error about one line of a data file.
    pub fn input(file: &Path, line: usize, field: &str, message: impl Into<String>) -> Self {
        Self::Input {
            file: file.to_owned(),
            line,
            field: field.to_owned(),
            message: message.into(),
        }
    }
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
