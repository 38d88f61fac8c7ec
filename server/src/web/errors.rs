//! Turns an error into what its asker can read: problem+json (RFC 9457) under `/api`, a page with
//! a way back elsewhere. Logs internal errors once, with the request id.

use askama::Template;
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use serde_json::json;

use crate::error::AppError;
use crate::web::page::Page;

/// The header that carries the request id, in and out.
pub const REQUEST_ID: &str = "x-request-id";

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage {
    page: Page,
    status: u16,
    message: String,
    fields: Vec<crate::error::FieldError>,
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
    if matches!(error, AppError::SignInRequired) {
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
            StatusCode::PAYLOAD_TOO_LARGE => "this is larger than the server accepts",
            StatusCode::METHOD_NOT_ALLOWED => "this address does not take that method",
            StatusCode::FORBIDDEN => "this request came from another site",
            StatusCode::REQUEST_TIMEOUT => "this took too long",
            _ => status.canonical_reason().unwrap_or("refused"),
        };
        AppError::Rejected(status, reason.to_owned())
    })
}

fn problem(error: &AppError, request_id: &str) -> Response {
    let status = error.status();
    let fields = match error {
        AppError::Invalid(fields) => fields.as_slice(),
        _ => &[],
    };
    let body = json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("error"),
        "status": status.as_u16(),
        "detail": error.message(),
        "errors": fields,
        "request_id": request_id,
    });
    let headers = [(CONTENT_TYPE, "application/problem+json")];
    let mut response = (status, headers, body.to_string()).into_response();
    add_retry_after(error, &mut response);
    response
}

fn error_page(page: Page, error: &AppError, request_id: String) -> Response {
    let template = ErrorPage {
        page: page.titled("error-title"),
        status: error.status().as_u16(),
        message: error.message(),
        fields: match error {
            AppError::Invalid(fields) => fields.clone(),
            _ => Vec::new(),
        },
        request_id,
    };
    let body = template.render().unwrap_or_else(|_| error.message());
    let mut response = (error.status(), axum::response::Html(body)).into_response();
    add_retry_after(error, &mut response);
    response
}

fn add_retry_after(error: &AppError, response: &mut Response) {
    if let AppError::TooManyRequests {
        retry_after_seconds,
    } = error
    {
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(*retry_after_seconds));
    }
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
