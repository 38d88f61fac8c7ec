//! Everything that can go wrong in a run, each as one sentence for the person who can mend it.

use std::fmt;
use std::path::PathBuf;

/// What every fallible function of the trainer returns.
pub type Result<T> = std::result::Result<T, TrainerError>;

/// Why a run could not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainerError {
    /// A line of a file, or a setting, that can't be used.
    #[error("{}: {message}", Place { file, line: *line, field })]
    Input {
        /// The file.
        file: PathBuf,
        /// Its line, counted from 1; 0 when the file as a whole is meant.
        line: u64,
        /// The field; empty when the line as a whole is meant.
        field: String,
        /// What is wrong.
        message: String,
    },
    /// A model that can't do what is asked of it.
    #[error("{0}")]
    Model(String),
    /// A checkpoint folder that can't be read or written.
    #[error("{0}")]
    Checkpoint(String),
    /// A self-check that failed: training would produce a wrong model, so the run does not start.
    #[error("{0}")]
    Refused(String),
    /// Somebody asked the run to stop.
    #[error("the run was cancelled")]
    Cancelled,
    /// A file that can't be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// What the tensor library reports.
    #[error("tensor: {0}")]
    Tensor(#[from] candle_core::Error),
}

struct Place<'a> {
    file: &'a PathBuf,
    line: u64,
    field: &'a str,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ", line {}", self.line)?;
        }
        if !self.field.is_empty() {
            write!(f, ", field `{}`", self.field)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_error_names_file_line_and_field() {
        let error = TrainerError::Input {
            file: PathBuf::from("rankings.jsonl"),
            line: 7,
            field: "completions[2].rank".to_owned(),
            message: "must be a whole number".to_owned(),
        };
        assert_eq!(
            error.to_string(),
            "rankings.jsonl, line 7, field `completions[2].rank`: must be a whole number"
        );
    }
}
