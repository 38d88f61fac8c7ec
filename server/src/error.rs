//! The one error type of the web side: it becomes a page with a way back, or problem+json.
//!
//! `into_response` is pure: it carries the error in the response's extensions. The middleware
//! [`crate::web::errors::render`] logs it once, with the request id, and renders it for the
//! asker: JSON under `/api`, a page elsewhere.

use std::fmt;
use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::message::Message;

/// What a handler returns.
pub type AppResult<T> = Result<T, AppError>;

/// One thing that is wrong with the input, named so that a person can mend it.
#[derive(Debug, Clone)]
pub struct FieldError {
    /// The field's name as the form or the JSON has it.
    pub field: String,
    /// A sentence that says what to change.
    pub message: Message,
}

impl FieldError {
    /// A wrong field and what to change in it.
    pub fn new(field: impl Into<String>, message: impl Into<Message>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
        }
    }

    /// A field of a JSON document that cannot be read: the path to it and why.
    pub fn of_json(path: &str, error: &serde_json::Error) -> Self {
        let message = error.to_string();
        Self::new(name_field(path, &message), message)
    }
}

/// The path of a wrong value. Of a field that is missing or unknown, only the message has the
/// name: the path leads to where it should be or is.
fn name_field(path: &str, message: &str) -> String {
    let rest = message
        .strip_prefix("missing field `")
        .or_else(|| message.strip_prefix("unknown field `"));
    let name = rest.and_then(|rest| rest.split('`').next());
    match (path, name) {
        (".", Some(name)) => name.to_owned(),
        (".", None) => "body".to_owned(),
        (path, Some(name)) if path != name && !path.ends_with(&format!(".{name}")) => {
            format!("{path}.{name}")
        }
        (path, _) => path.to_owned(),
    }
}

/// Why a request was not carried out.
#[derive(Debug, Clone)]
pub enum AppError {
    /// The thing named does not exist, or is not for this visitor.
    NotFound(&'static str),
    /// Nobody is signed in.
    SignInRequired,
    /// Signed in, but without the role that this needs.
    Forbidden(&'static str),
    /// The input is wrong; every wrong field is named.
    Invalid(Vec<FieldError>),
    /// The address itself cannot be read; every wrong part of it is named.
    Malformed(Vec<FieldError>),
    /// The request contradicts what is already so.
    Conflict(Message),
    /// Too many tries; may be repeated after so many seconds.
    TooManyRequests {
        /// Seconds to wait.
        retry_after_seconds: u64,
    },
    /// A refusal of the framework (bad path, unsupported media type, body too large...).
    Rejected(StatusCode, Message),
    /// Our own failure. Logged in full, shown as a request id.
    Internal(Arc<anyhow::Error>),
}

impl AppError {
    /// One wrong field.
    pub fn invalid(field: impl Into<String>, message: impl Into<Message>) -> Self {
        Self::Invalid(vec![FieldError::new(field, message)])
    }

    /// A contradiction, by the key of its sentence in the catalogue.
    pub fn conflict(key: &'static str) -> Self {
        Self::Conflict(Message::new(key))
    }

    /// Whether nothing was written because another window of the labeler saved its draft first.
    pub fn is_newer_draft(&self) -> bool {
        matches!(self, Self::Conflict(message) if message.is("error-draft-newer"))
    }

    /// The HTTP status of this error.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::SignInRequired => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::TooManyRequests { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Rejected(status, _) => *status,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What the asker is told. Never the inside of an internal error.
    pub fn message(&self) -> Message {
        match self {
            Self::NotFound(what) => Message::new("error-not-found").with("what", what),
            Self::SignInRequired => Message::new("error-sign-in-first"),
            Self::Forbidden(role) => Message::new("error-needs-role").with("role", role),
            Self::Invalid(fields) | Self::Malformed(fields) => {
                let complaints = fields
                    .iter()
                    .map(|error| format!("{}: {}", error.field, error.message));
                Message::Verbatim(complaints.collect::<Vec<_>>().join("; "))
            }
            Self::Conflict(message) | Self::Rejected(_, message) => message.clone(),
            Self::TooManyRequests {
                retry_after_seconds,
            } => Message::new("error-too-many-tries").with("seconds", retry_after_seconds),
            Self::Internal(_) => Message::new("error-internal"),
        }
    }
}

impl fmt::Display for AppError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message().fmt(formatter)
    }
}

/// SQLSTATEs of a text that Postgres cannot hold: U+0000 in a text, and in JSON.
const UNFIT_TEXTS: [&str; 2] = ["22021", "22P05"];

impl From<sqlx::Error> for AppError {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|error| error.code());
        if code.is_some_and(|code| UNFIT_TEXTS.contains(&&*code)) {
            return Self::invalid("text", Message::new("error-no-nul"));
        }
        Self::Internal(Arc::new(error.into()))
    }
}

impl From<anyhow::Error> for AppError {
    fn from(error: anyhow::Error) -> Self {
        Self::Internal(Arc::new(error))
    }
}

impl From<askama::Error> for AppError {
    fn from(error: askama::Error) -> Self {
        Self::Internal(Arc::new(error.into()))
    }
}

impl IntoResponse for AppError {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Turns a violated constraint, by name, into an error that the asker can mend.
pub trait OnConstraint<T> {
    /// Replaces the violation of `constraint` by `error()`.
    fn on_constraint(self, constraint: &str, error: impl FnOnce() -> AppError) -> AppResult<T>;
}

impl<T> OnConstraint<T> for Result<T, sqlx::Error> {
    fn on_constraint(self, constraint: &str, error: impl FnOnce() -> AppError) -> AppResult<T> {
        self.map_err(|failure| match &failure {
            sqlx::Error::Database(database) if database.constraint() == Some(constraint) => error(),
            _ => failure.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_unknown_field_is_named_where_it_belongs() {
        let missing = "missing field `rank` at line 1 column 2";
        assert_eq!(name_field(".", missing), "rank");
        assert_eq!(name_field("candidates[0]", missing), "candidates[0].rank");
        assert_eq!(
            name_field("candidates[0].rank", missing),
            "candidates[0].rank"
        );
        let wrong = "invalid type: string \"a\", expected i16";
        assert_eq!(
            name_field("candidates[0].rank", wrong),
            "candidates[0].rank"
        );
        assert_eq!(name_field(".", wrong), "body");
    }
}
