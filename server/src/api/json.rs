//! A JSON body whose refusal names the wrong field, as every other refusal of the API does.

use std::error::Error;

use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;

use crate::error::AppError;

/// Reads a JSON body.
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = AppError;
    async fn from_request(request: Request, state: &S) -> Result<Self, AppError> {
        match axum::Json::from_request(request, state).await {
            Ok(axum::Json(value)) => Ok(Self(value)),
            Err(rejection) => Err(explain(&rejection)),
        }
    }
}

fn explain(rejection: &JsonRejection) -> AppError {
    if let JsonRejection::JsonDataError(error) = rejection
        && let Some(wrong) = find_cause::<serde_path_to_error::Error<serde_json::Error>>(error)
    {
        let message = wrong.inner().to_string();
        let field = name_field(&wrong.path().to_string(), &message);
        return AppError::invalid(field, message);
    }
    AppError::Rejected(rejection.status(), rejection.body_text().into())
}

/// The first cause of a kind.
pub(super) fn find_cause<'e, E: Error + 'static>(
    error: &'e (dyn Error + 'static),
) -> Option<&'e E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
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
