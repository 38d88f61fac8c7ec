//! What an address says, read so that a refusal names the wrong part, as one of a body does.

use std::str::FromStr;

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Query, RawPathParams};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use crate::api::json::find_cause;
use crate::error::{AppError, FieldError};

/// Reads the one id in an address.
pub struct IdPath<T>(pub T);

impl<T: FromStr, S: Send + Sync> FromRequestParts<S> for IdPath<T> {
    type Rejection = AppError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, AppError> {
        let given = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|error| AppError::Rejected(error.status(), error.body_text().into()))?;
        let (name, text) = given.iter().next().ok_or(AppError::NotFound("page"))?;
        text.parse().map(Self).map_err(|_| {
            refuse(
                name,
                "must be an id: a UUID, as the lists give it, not a short name",
            )
        })
    }
}

/// Reads what follows the `?`.
pub struct ApiQuery<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for ApiQuery<T> {
    type Rejection = AppError;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, AppError> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(explain(&rejection)),
        }
    }
}

/// `serde_urlencoded` has no error type of its own.
type QueryError = serde_path_to_error::Error<serde::de::value::Error>;

fn explain(rejection: &QueryRejection) -> AppError {
    match find_cause::<QueryError>(rejection) {
        Some(wrong) => {
            let path = wrong.path().to_string();
            let field = match path.as_str() {
                "." => "query",
                name => name,
            };
            refuse(field, &wrong.inner().to_string())
        }
        None => AppError::Rejected(rejection.status(), rejection.body_text().into()),
    }
}

fn refuse(field: &str, message: &str) -> AppError {
    AppError::Malformed(vec![FieldError::new(field, message)])
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::domain::ids::ProjectId;

    #[derive(Debug, serde::Deserialize)]
    struct Filter {
        #[serde(default)]
        project: Option<ProjectId>,
    }

    fn read(address: &str) -> Result<Filter, String> {
        let uri = address.parse().unwrap();
        match Query::<Filter>::try_from_uri(&uri) {
            Ok(Query(filter)) => Ok(filter),
            Err(rejection) => Err(explain(&rejection).to_string()),
        }
    }

    #[test]
    fn a_wrong_part_of_a_query_is_named() {
        let id = ProjectId::new();
        let read_id = read(&format!("/x?project={id}")).unwrap().project;
        assert_eq!(read_id, Some(id));
        assert_eq!(read("/x").unwrap().project, None);
        let refused = read("/x?project=study").unwrap_err();
        assert!(refused.starts_with("project: "), "{refused}");
    }
}
