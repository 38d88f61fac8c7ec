//! Turns an error into what its asker can read: problem+json (RFC 9457) under `/api`, a page with
//! a way back elsewhere. Logs internal errors once, with the request id.

use askama::Template;
use axum::body::HttpBody;
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::error::{AppError, FieldError};
use crate::message::Message;
use crate::web::page::Page;

/// The header that carries the request id, in and out.
pub const REQUEST_ID: &str = "x-request-id";

/// Why a request was not carried out (RFC 9457).
#[derive(Serialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: the status says which problem it is.
    #[serde(rename = "type")]
    kind: &'static str,
    /// What the status is called.
    title: &'static str,
    /// The status.
    status: u16,
    /// What is wrong, in a sentence.
    detail: String,
    /// Every wrong field; empty where no field is to blame.
    errors: Vec<WrongField>,
    /// Names the request in the server's log.
    request_id: String,
}

/// A wrong field and what to change in it.
#[derive(Serialize, ToSchema)]
pub struct WrongField {
    /// Its path in the JSON that was sent, whose lists are counted from 0: `candidates[0].rank`. Or
    /// the name of a header or of a part of the address.
    field: String,
    /// What to change.
    message: String,
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage {
    page: Page,
    status: u16,
    /// Something was sent after the session had ended: it can be sent again.
    signed_out: bool,
    lines: Vec<String>,
    request_id: String,
}

/// Middleware: renders whatever error the handlers, extractors or the framework left.
pub async fn render(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let request_id = parts
        .headers
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let mut page = Page::from_parts(&parts);
    let has_body = !body.is_end_stream();
    let response = next.run(Request::from_parts(parts, body)).await;
    let Some(error) = find_error(&path, &response) else {
        return response;
    };
    if let Some(visitor) = response.extensions().get::<crate::auth::visitor::Visitor>() {
        page.visitor = Some(visitor.clone());
    }
    if let AppError::Internal(cause) = &error {
        tracing::error!(%request_id, path = loggable(&path), error = format!("{cause:#}"), "a request failed");
    }
    if path.starts_with("/api/") {
        return problem(&error, &request_id);
    }
    // Whoever sent a form is told how to send it again: a redirect would throw away what was typed.
    if !has_body && matches!(error, AppError::SignInRequired) {
        return Redirect::to("/sign-in").into_response();
    }
    error_page(page, &error, request_id)
}

/// A path as logs may have it: that of a sign-in link is a secret.
pub fn loggable(path: &str) -> &str {
    match path.strip_prefix("/sign-in/") {
        Some(_) => "/sign-in/…",
        None => path,
    }
}

/// Our own error, or a refusal by the framework as plain text.
fn find_error(path: &str, response: &Response) -> Option<AppError> {
    let status = response.status();
    if let Some(error) = response.extensions().get::<AppError>() {
        return Some(error.clone());
    }
    // Programs ask this address, and its refusal is its own plain text.
    if path == "/readyz" {
        return None;
    }
    let is_text = response
        .headers()
        .get(CONTENT_TYPE)
        .is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"));
    let refused = status.is_client_error() || status.is_server_error();
    (refused && is_text).then(|| {
        let reason = match status {
            StatusCode::NOT_FOUND => return AppError::NotFound("page"),
            StatusCode::BAD_REQUEST => Message::new("error-unreadable-address"),
            StatusCode::PAYLOAD_TOO_LARGE => Message::new("error-too-large"),
            StatusCode::METHOD_NOT_ALLOWED => Message::new("error-other-method"),
            StatusCode::FORBIDDEN => Message::new("error-other-site"),
            StatusCode::REQUEST_TIMEOUT => Message::new("error-took-too-long"),
            _ => status.canonical_reason().unwrap_or("refused").into(),
        };
        AppError::Rejected(status, reason)
    })
}

fn problem(error: &AppError, request_id: &str) -> Response {
    let status = error.status();
    let errors = match error {
        AppError::Invalid(fields) | AppError::Malformed(fields) => {
            fields.iter().map(WrongField::from).collect()
        }
        _ => Vec::new(),
    };
    let body = json!(Problem {
        kind: "about:blank",
        title: status.canonical_reason().unwrap_or("error"),
        status: status.as_u16(),
        detail: error.message().to_string(),
        errors,
        request_id: request_id.to_owned(),
    });
    let headers = [(CONTENT_TYPE, "application/problem+json")];
    let mut response = (status, headers, body.to_string()).into_response();
    add_headers(error, &mut response);
    response
}

impl From<&FieldError> for WrongField {
    fn from(error: &FieldError) -> Self {
        Self {
            field: error.field.clone(),
            message: error.message.to_string(),
        }
    }
}

fn error_page(page: Page, error: &AppError, request_id: String) -> Response {
    let lines = match error {
        AppError::Invalid(fields) => fields.iter().map(|field| page.complaint(field)).collect(),
        _ => vec![error.message().text(page.lang)],
    };
    let template = ErrorPage {
        page: page.titled("error-title"),
        status: error.status().as_u16(),
        signed_out: matches!(error, AppError::SignInRequired),
        lines,
        request_id,
    };
    let body = template
        .render()
        .unwrap_or_else(|_| error.message().to_string());
    let mut response = (error.status(), axum::response::Html(body)).into_response();
    add_headers(error, &mut response);
    response
}

/// What HTTP wants beside the body: when to come back, and how to say who one is (browsers open no
/// dialog of their own for this scheme).
fn add_headers(error: &AppError, response: &mut Response) {
    let (name, value) = match error {
        AppError::TooManyRequests {
            retry_after_seconds,
        } => (RETRY_AFTER, HeaderValue::from(*retry_after_seconds)),
        AppError::SignInRequired => (WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
        _ => return,
    };
    response.headers_mut().insert(name, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_of_a_sign_in_link_is_not_logged() {
        assert_eq!(loggable("/sign-in/secret"), "/sign-in/…");
        assert_eq!(loggable("/sign-in"), "/sign-in");
        assert_eq!(loggable("/runs/1"), "/runs/1");
    }
}
