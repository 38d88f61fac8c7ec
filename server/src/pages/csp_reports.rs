//! `/csp-reports`: what browsers refused to do because of our content security policy. A text that slipped
//! through would show here first, and in `/metrics` as `plackett_csp_reports_total`.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::StatusCode;
use serde_json::Value;

use crate::error::{AppError, AppResult};
use crate::message::Message;
use crate::web::errors::loggable;

/// Longest report, in bytes. A browser's is about one kilobyte.
pub const LONGEST: usize = 16 * 1024;

/// Longest value that a log line has of it, in characters.
const LONGEST_VALUE: usize = 200;

/// Reports written to the log in one minute. Anybody may send them, so the rest is only counted.
const MOST_LOGGED: u32 = 10;

/// The directives of our policy: each is a label of the metric, and no sender makes up others.
const DIRECTIVES: [&str; 16] = [
    "base-uri",
    "connect-src",
    "default-src",
    "font-src",
    "form-action",
    "frame-ancestors",
    "frame-src",
    "img-src",
    "media-src",
    "object-src",
    "script-src",
    "script-src-attr",
    "script-src-elem",
    "style-src",
    "style-src-attr",
    "style-src-elem",
];

/// When the current minute of the log began, and how many reports it has.
static LOGGED: Mutex<Option<(Instant, u32)>> = Mutex::new(None);

/// `POST /csp-reports`: counts a report, and logs it while there are few.
pub async fn create(body: Bytes) -> AppResult<StatusCode> {
    let report = read(&body)
        .ok_or_else(|| AppError::invalid("csp-report", Message::new("error-csp-report")))?;
    metrics::counter!("plackett_csp_reports_total", "directive" => report.directive).increment(1);
    if may_log() {
        tracing::warn!(
            directive = report.directive,
            blocked = ?report.blocked,
            page = ?report.page,
            sample = ?report.sample,
            "a browser refused something because of the content security policy"
        );
    }
    Ok(StatusCode::NO_CONTENT)
}

/// What a report says, short.
#[derive(Debug, PartialEq, Eq)]
struct Report {
    directive: &'static str,
    blocked: String,
    page: String,
    sample: String,
}

/// Reads a report as `report-uri` sends it; none where it is not one.
fn read(body: &[u8]) -> Option<Report> {
    let json: Value = serde_json::from_slice(body).ok()?;
    let report = json.get("csp-report")?.as_object()?;
    let value = |name: &str| {
        let value = report.get(name).and_then(Value::as_str).unwrap_or_default();
        value.chars().take(LONGEST_VALUE).collect::<String>()
    };
    let name = match value("effective-directive") {
        name if name.is_empty() => value("violated-directive"),
        name => name,
    };
    // The rest of an older browser's value is the policy's own words.
    let name = name.split(' ').next().unwrap_or_default();
    let known = DIRECTIVES.into_iter().find(|known| *known == name);
    Some(Report {
        directive: known.unwrap_or("other"),
        blocked: value("blocked-uri"),
        page: path_of(&value("document-uri")),
        sample: value("script-sample"),
    })
}

/// The path of an address, as logs may have it.
fn path_of(address: &str) -> String {
    let after_scheme = address.split_once("://").map_or(address, |(_, rest)| rest);
    let path = after_scheme
        .find('/')
        .map_or("", |index| &after_scheme[index..]);
    loggable(path).to_owned()
}

/// Whether the log has room for one more in this minute.
fn may_log() -> bool {
    let Ok(mut logged) = LOGGED.lock() else {
        return false;
    };
    let now = Instant::now();
    let (began, count) = match *logged {
        Some((began, count)) if now.duration_since(began) < Duration::from_secs(60) => {
            (began, count)
        }
        _ => (now, 0),
    };
    *logged = Some((began, count.saturating_add(1)));
    count < MOST_LOGGED
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(body: &str) -> Option<Report> {
        read(body.as_bytes())
    }

    #[test]
    fn a_browsers_report_is_read_and_its_values_are_bounded() {
        let long = "x".repeat(5_000);
        let body = format!(
            r#"{{"csp-report": {{"effective-directive": "img-src", "blocked-uri": "https://evil.example/{long}",
                "document-uri": "http://127.0.0.1:8080/sign-in/secret", "script-sample": ""}}}}"#
        );
        let read = report(&body);
        assert!(
            read.as_ref().is_some_and(|read| read.directive == "img-src"
                && read.blocked.len() == LONGEST_VALUE
                && read.page == "/sign-in/…"),
            "{read:?}"
        );
    }

    #[test]
    fn directives_that_a_sender_made_up_share_one_label() {
        let made_up = report(r#"{"csp-report": {"effective-directive": "mine"}}"#);
        assert_eq!(made_up.map(|read| read.directive), Some("other"));
        let older = report(r#"{"csp-report": {"violated-directive": "style-src 'self'"}}"#);
        assert_eq!(older.map(|read| read.directive), Some("style-src"));
    }

    #[test]
    fn what_is_no_report_is_none() {
        for body in ["", "[]", "{}", "{\"csp-report\": 1}", "nonsense"] {
            assert_eq!(report(body), None, "{body}");
        }
    }
}
