//! A JSON body whose refusal names the wrong field, as every other refusal of the API does.

use std::error::Error;

use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;

use crate::error::{AppError, FieldError};

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
        return AppError::Invalid(vec![FieldError::of_json(
            &wrong.path().to_string(),
            wrong.inner(),
        )]);
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
