//! `/audit`: who did what. Admins of everything see all of it; those of single projects see what was done
//! in theirs. Nothing here can be changed.

use std::pin::pin;

use askama::Template;
use async_stream::stream;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use futures_util::StreamExt;
use serde_json::json;
use sqlx::PgConnection;

use crate::auth::visitor::{ProjectAdmin, Visitor};
use crate::domain::audit::AuditAction;
use crate::domain::ids::{AccountId, AuditEventId, ProjectId};
use crate::error::{AppError, AppResult, FieldError};
use crate::message::Message;
use crate::pages::audit_details::{details, noun};
use crate::state::AppState;
use crate::store;
use crate::store::audit_events::{Actor, AuditEvent, AuditFilter, NewEvent};
use crate::store::projects::Project;
use crate::web::page::{Page, render};

/// Events on one page of the list.
const PAGE_LENGTH: usize = 100;

#[derive(Template)]
#[template(path = "audit/index.html")]
struct AuditPage {
    page: Page,
    query: AuditQuery,
    events: Vec<AuditEvent>,
    next: Option<AuditEventId>,
    actors: Vec<Actor>,
    projects: Vec<Project>,
}

/// What the log is narrowed to; what is blank narrows nothing.
#[derive(Debug, Default, Clone, serde::Deserialize)]
#[serde(default)]
pub struct AuditQuery {
    account: String,
    action: String,
    project: String,
    /// A day, UTC: `2026-11-26`.
    from: String,
    /// A day, UTC, included.
    to: String,
    /// The last event of the page before.
    before: String,
}

impl AuditQuery {
    /// The same as a filter, of what a visitor may see.
    ///
    /// # Errors
    /// `Invalid` with every field that cannot be read; `NotFound` for a project that is not theirs.
    async fn filter_for(&self, db: &mut PgConnection, visitor: &Visitor) -> AppResult<AuditFilter> {
        let mut filter = self.filter()?;
        filter.administered_by = (!visitor.is_admin).then_some(visitor.account_id);
        if let (Some(owner), Some(project)) = (filter.administered_by, filter.project_id) {
            store::members::find_administered(db, owner, project).await?;
        }
        Ok(filter)
    }

    /// The same as a filter of everything.
    ///
    /// # Errors
    /// `Invalid` with every field that cannot be read.
    fn filter(&self) -> AppResult<AuditFilter> {
        let mut errors = Vec::new();
        let account_id = read::<AccountId>("account", &self.account, &mut errors);
        let action = read::<AuditAction>("action", &self.action, &mut errors);
        let project_id = read::<ProjectId>("project", &self.project, &mut errors);
        let from = read::<NaiveDate>("from", &self.from, &mut errors);
        let to = read::<NaiveDate>("to", &self.to, &mut errors);
        let before = read::<AuditEventId>("before", &self.before, &mut errors);
        if !errors.is_empty() {
            return Err(AppError::Invalid(errors));
        }
        let midnight = |day: NaiveDate| -> DateTime<Utc> { day.and_time(NaiveTime::MIN).and_utc() };
        Ok(AuditFilter {
            account_id,
            action,
            project_id,
            from: from.map(midnight),
            until: to.and_then(|day| day.succ_opt()).map(midnight),
            before,
            administered_by: None,
        })
    }

    /// The filter as the query of an address, without where the page begins.
    fn address(&self) -> String {
        let pairs = [
            ("account", &self.account),
            ("action", &self.action),
            ("project", &self.project),
            ("from", &self.from),
            ("to", &self.to),
        ];
        // All of them are ids, words or days by now: nothing to escape.
        let pairs = pairs.into_iter().filter(|(_, value)| !value.is_empty());
        let pairs = pairs.map(|(name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join("&")
    }
}

/// Reads a field that may be blank.
fn read<T: std::str::FromStr>(field: &str, text: &str, errors: &mut Vec<FieldError>) -> Option<T> {
    if text.trim().is_empty() {
        return None;
    }
    let read = text.trim().parse().ok();
    if read.is_none() {
        errors.push(FieldError::new(field, Message::new("error-unreadable")));
    }
    read
}

impl AuditPage {
    fn actions(&self) -> Vec<(&'static str, String)> {
        let actions = AuditAction::ALL.iter();
        actions
            .map(|action| (action.as_str(), self.action_text(action.as_str())))
            .collect()
    }

    fn action_text(&self, word: &str) -> String {
        self.page
            .t(&format!("audit-action-{}", word.replace('_', "-")))
    }

    /// What it was done to: its name, or its noun and key.
    fn subject(&self, event: &AuditEvent) -> String {
        let kind = event.subject_kind.as_deref();
        let kind = kind.map(|kind| noun(&self.page, kind)).unwrap_or_default();
        match (&event.subject, event.subject_id) {
            (Some(name), _) => name.clone(),
            (None, Some(id)) => format!("{kind} {id}"),
            (None, None) => kind,
        }
    }

    /// What more there is to say, one part for each member.
    fn details(&self, event: &AuditEvent) -> Vec<(String, String)> {
        details(&self.page, &event.data)
    }

    fn is_chosen(&self, chosen: &str, id: &impl ToString) -> bool {
        chosen == id.to_string()
    }
}

/// `GET /audit`.
pub async fn index(
    State(state): State<AppState>,
    page: Page,
    ProjectAdmin(visitor): ProjectAdmin,
    Query(query): Query<AuditQuery>,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let filter = query.filter_for(&mut db, &visitor).await?;
    let mut events = store::audit_events::list(&mut db, &filter, PAGE_LENGTH as i64 + 1).await?;
    let actors = store::audit_events::list_actors(&mut db, filter.administered_by).await?;
    let projects = store::members::list_administered(&mut db, visitor.account_id).await?;
    drop(db);
    let has_more = events.len() > PAGE_LENGTH;
    events.truncate(PAGE_LENGTH);
    let next = events.last().filter(|_| has_more).map(|last| last.id);
    Ok(render(&AuditPage {
        page: page.titled("audit-title"),
        query,
        events,
        next,
        actors,
        projects,
    })?
    .into_response())
}

/// `GET /audit/export`: the log as JSON lines, oldest first, streamed. That it was taken is its last line.
pub async fn export(
    State(state): State<AppState>,
    ProjectAdmin(visitor): ProjectAdmin,
    Query(query): Query<AuditQuery>,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let filter = AuditFilter {
        before: None,
        ..query.filter_for(&mut db, &visitor).await?
    };
    let mut event = NewEvent::by(visitor.account_id, AuditAction::Export).to("audit", None);
    if let Some(project) = filter.project_id {
        event = event.within(project);
    }
    store::audit_events::record(&mut db, event).await?;
    let lines = stream! {
        let mut events = pin!(store::audit_events::stream(&mut db, &filter));
        while let Some(event) = events.next().await {
            yield event.map(|event| line(&event)).map_err(std::io::Error::other);
        }
    };
    let mut response = Body::from_stream(lines).into_response();
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("application/x-ndjson; charset=utf-8");
    headers.insert(CONTENT_TYPE, kind);
    let disposition = HeaderValue::from_static("attachment; filename=\"audit.jsonl\"");
    headers.insert(CONTENT_DISPOSITION, disposition);
    Ok(response)
}

/// An event as a line.
fn line(event: &AuditEvent) -> Bytes {
    let subject = event
        .subject_kind
        .as_ref()
        .map(|kind| json!({"kind": kind, "id": event.subject_id, "name": event.subject}));
    let account = event
        .account_id
        .map(|id| json!({"id": id, "name": event.account}));
    let project = event
        .project_id
        .map(|id| json!({"id": id, "name": event.project}));
    let line = json!({
        "id": event.id,
        "at": event.at,
        "account": account,
        "action": event.action,
        "subject": subject,
        "project": project,
        "data": event.data,
    });
    Bytes::from(format!("{line}\n"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn a_day_is_counted_from_midnight_to_midnight_utc_and_wrong_fields_are_named() {
        let query = AuditQuery {
            from: "2026-11-26".to_owned(),
            to: "2026-11-26".to_owned(),
            action: "import".to_owned(),
            ..AuditQuery::default()
        };
        let filter = query.filter().unwrap();
        let length = filter.until.unwrap() - filter.from.unwrap();
        assert_eq!(length.num_hours(), 24);
        assert_eq!(
            query.address(),
            "action=import&from=2026-11-26&to=2026-11-26"
        );
        let wrong = AuditQuery {
            account: "ada".to_owned(),
            to: "yesterday".to_owned(),
            ..AuditQuery::default()
        };
        let AppError::Invalid(errors) = wrong.filter().unwrap_err() else {
            panic!("no complaint")
        };
        let fields: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["account", "to"]);
    }
}
