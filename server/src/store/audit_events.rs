//! The audit log: who did what. An event is written in the transaction of the deed and never changed.

use chrono::{DateTime, Utc};
use futures_util::Stream;
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::audit::AuditAction;
use crate::domain::ids::{AccountId, AuditEventId, ProjectId};

/// An event to be written.
#[derive(Debug, Clone)]
pub struct NewEvent {
    account_id: Option<AccountId>,
    action: AuditAction,
    subject: Option<(&'static str, Option<Uuid>)>,
    project_id: Option<ProjectId>,
    data: Value,
}

impl NewEvent {
    /// Something that a signed-in account did.
    pub fn by(account_id: AccountId, action: AuditAction) -> Self {
        Self {
            account_id: Some(account_id),
            ..Self::by_nobody(action)
        }
    }

    /// Something that was done from the command line, where nobody signs in.
    pub fn by_command_line(action: AuditAction) -> Self {
        Self::by_nobody(action).with(json!({"by": "command line"}))
    }

    /// Something that an account did, or the command line.
    pub fn by_either(account_id: Option<AccountId>, action: AuditAction) -> Self {
        match account_id {
            Some(account_id) => Self::by(account_id, action),
            None => Self::by_command_line(action),
        }
    }

    /// Something of which nobody knows who did it.
    pub fn by_nobody(action: AuditAction) -> Self {
        Self {
            account_id: None,
            action,
            subject: None,
            project_id: None,
            data: json!({}),
        }
    }

    /// What it was done to: a noun of ours and its key.
    #[must_use]
    pub fn to(mut self, kind: &'static str, id: impl Into<Option<Uuid>>) -> Self {
        self.subject = Some((kind, id.into()));
        self
    }

    /// In which project.
    #[must_use]
    pub fn within(mut self, project_id: ProjectId) -> Self {
        self.project_id = Some(project_id);
        self
    }

    /// Further members of the object that says more: numbers, names of fields, choices. Never a secret
    /// or a text that somebody wrote.
    #[must_use]
    pub fn with(mut self, more: Value) -> Self {
        if let (Value::Object(data), Value::Object(more)) = (&mut self.data, more) {
            data.extend(more);
        }
        self
    }
}

/// Writes an event, in the caller's transaction.
pub async fn record(db: &mut PgConnection, event: NewEvent) -> sqlx::Result<()> {
    let (subject_kind, subject_id) = event.subject.unzip();
    sqlx::query!(
        r#"
        INSERT INTO audit_events (id, account_id, action, subject_kind, subject_id, project_id, data)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        "#,
        AuditEventId::new().0,
        event.account_id.map(|id| id.0),
        event.action.as_str(),
        subject_kind,
        subject_id.flatten(),
        event.project_id.map(|id| id.0),
        event.data
    )
    .execute(db)
    .await?;
    Ok(())
}

/// An event as it is shown.
#[derive(Debug, Clone)]
pub struct AuditEvent {
    /// Key; later events have later keys.
    pub id: AuditEventId,
    /// When.
    pub at: DateTime<Utc>,
    /// Who.
    pub account_id: Option<AccountId>,
    /// Their name.
    pub account: Option<String>,
    /// What, as the database's word.
    pub action: String,
    /// A noun.
    pub subject_kind: Option<String>,
    /// Its key.
    pub subject_id: Option<Uuid>,
    /// Its name, where it has one.
    pub subject: Option<String>,
    /// Where.
    pub project_id: Option<ProjectId>,
    /// The project's name.
    pub project: Option<String>,
    /// More.
    pub data: Value,
}

/// What the log is narrowed to.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Only what this account did.
    pub account_id: Option<AccountId>,
    /// Only this action.
    pub action: Option<AuditAction>,
    /// Only in this project.
    pub project_id: Option<ProjectId>,
    /// Not before.
    pub from: Option<DateTime<Utc>>,
    /// Before.
    pub until: Option<DateTime<Utc>>,
    /// Only events before this one.
    pub before: Option<AuditEventId>,
    /// Only in projects that this account may administer.
    pub administered_by: Option<AccountId>,
}

/// The query of the list and of the export. A macro, since queries are checked when they are compiled.
macro_rules! select_events {
    ($filter:expr, $end:tt $(, $more:expr)*) => {
        sqlx::query_as!(
            AuditEvent,
            r#"
        SELECT e.id AS "id: AuditEventId", e.at, e.account_id AS "account_id: AccountId", u.name AS "account?",
               e.action, e.subject_kind, e.subject_id,
               coalesce(s.name, n.name, r.name) AS subject,
               e.project_id AS "project_id: ProjectId", p.name AS "project?", e.data
        FROM audit_events e
        LEFT JOIN accounts u ON u.id = e.account_id
        LEFT JOIN projects p ON p.id = e.project_id
        LEFT JOIN accounts s ON e.subject_kind = 'account' AND s.id = e.subject_id
        LEFT JOIN snapshots n ON e.subject_kind = 'snapshot' AND n.id = e.subject_id
        LEFT JOIN runs r ON e.subject_kind = 'run' AND r.id = e.subject_id
        WHERE ($1::UUID IS NULL OR e.account_id = $1)
          AND ($2::TEXT IS NULL OR e.action = $2)
          AND ($3::UUID IS NULL OR e.project_id = $3)
          AND ($4::TIMESTAMPTZ IS NULL OR e.at >= $4)
          AND ($5::TIMESTAMPTZ IS NULL OR e.at < $5)
          AND ($6::UUID IS NULL OR e.id < $6)
          AND ($7::UUID IS NULL OR e.project_id IN (SELECT q.id FROM projects q WHERE may_administer($7, q.id)))
        "# + $end,
            $filter.account_id.map(|id| id.0),
            $filter.action.map(AuditAction::as_str),
            $filter.project_id.map(|id| id.0),
            $filter.from,
            $filter.until,
            $filter.before.map(|id| id.0),
            $filter.administered_by.map(|id| id.0)
            $(, $more)*
        )
    };
}

/// The newest events, at most `limit`.
pub async fn list(
    db: &mut PgConnection,
    filter: &AuditFilter,
    limit: i64,
) -> sqlx::Result<Vec<AuditEvent>> {
    select_events!(
        filter,
        "ORDER BY e.id DESC
        LIMIT $8",
        limit
    )
    .fetch_all(db)
    .await
}

/// All events, oldest first, as the database sends them.
pub fn stream<'db>(
    db: &'db mut PgConnection,
    filter: &AuditFilter,
) -> impl Stream<Item = sqlx::Result<AuditEvent>> + Send + use<'db> {
    select_events!(filter, "ORDER BY e.id").fetch(db)
}

/// Somebody whose deeds the log may hold.
#[derive(Debug, Clone)]
pub struct Actor {
    /// Key.
    pub id: AccountId,
    /// Name.
    pub name: String,
    /// Address.
    pub email: String,
}

/// Whom the log can be narrowed to: everybody who is no program, or with `administered_by` those who did
/// something in projects that this account may administer. By name.
pub async fn list_actors(
    db: &mut PgConnection,
    administered_by: Option<AccountId>,
) -> sqlx::Result<Vec<Actor>> {
    sqlx::query_as!(
        Actor,
        r#"
        SELECT id AS "id: AccountId", name, email
        FROM accounts
        WHERE NOT is_simulated
          AND ($1::UUID IS NULL OR id IN (
              SELECT e.account_id FROM audit_events e
              WHERE e.project_id IN (SELECT q.id FROM projects q WHERE may_administer($1, q.id))))
        ORDER BY name, email, id
        "#,
        administered_by.map(|id| id.0)
    )
    .fetch_all(db)
    .await
}
