//! The events of a run: append-only, numbered 1, 2, 3 ... without gaps.
//!
//! Whoever appends holds the lock of the run's row until commit. So numbers become visible in
//! order, and a reader that has seen number n has seen everything before it.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;

use crate::domain::ids::RunId;

/// The channel that wakes readers; its payload is the run's id.
pub const CHANNEL: &str = "run_events";

/// A row of `run_events`.
#[derive(Debug, Clone)]
pub struct RunEvent {
    /// Its number within the run.
    pub seq: i64,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// `status`, `phase`, `metrics`, `log`, `check`, `sample`, `report` or `checkpoint`.
    pub kind: String,
    /// Its fields.
    pub data: Value,
}

/// Appends events inside the caller's transaction and returns the last number given.
///
/// # Errors
/// When there is no such run, or the database fails.
pub async fn append(
    db: &mut PgConnection,
    run_id: RunId,
    events: &[(String, Value)],
) -> sqlx::Result<i64> {
    sqlx::query_scalar!("SELECT id FROM runs WHERE id = $1 FOR UPDATE", run_id.0)
        .fetch_one(&mut *db)
        .await?;
    let last = last_seq(&mut *db, run_id).await?;
    let kinds: Vec<String> = events.iter().map(|(kind, _)| kind.clone()).collect();
    let datas: Vec<Value> = events
        .iter()
        .map(|(_, data)| without_nul(data.clone()))
        .collect();
    sqlx::query!(
        r#"
        INSERT INTO run_events (run_id, seq, kind, data)
        SELECT $1, $2 + item.n, item.kind, item.data
        FROM unnest($3::text[], $4::jsonb[]) WITH ORDINALITY AS item (kind, data, n)
        "#,
        run_id.0,
        last,
        &kinds,
        &datas
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!("SELECT pg_notify($1, $2)", CHANNEL, run_id.to_string())
        .execute(&mut *db)
        .await?;
    Ok(last + events.len() as i64)
}

/// Postgres keeps no NUL in text, but a model may write one.
fn without_nul(value: Value) -> Value {
    match value {
        Value::String(text) if text.contains('\0') => Value::String(text.replace('\0', "\u{fffd}")),
        Value::Array(items) => Value::Array(items.into_iter().map(without_nul).collect()),
        Value::Object(fields) => {
            let fields = fields.into_iter();
            Value::Object(
                fields
                    .map(|(name, value)| (name, without_nul(value)))
                    .collect(),
            )
        }
        other => other,
    }
}

/// The highest number of a run; 0 when it has no events.
pub async fn last_seq(db: &mut PgConnection, run_id: RunId) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"SELECT coalesce(max(seq), 0) AS "seq!" FROM run_events WHERE run_id = $1"#,
        run_id.0
    )
    .fetch_one(db)
    .await
}

/// Up to `limit` events after number `after`, in order.
pub async fn list_after(
    db: &mut PgConnection,
    run_id: RunId,
    after: i64,
    limit: i64,
) -> sqlx::Result<Vec<RunEvent>> {
    sqlx::query_as!(
        RunEvent,
        "SELECT seq, at, kind, data FROM run_events WHERE run_id = $1 AND seq > $2 ORDER BY seq LIMIT $3",
        run_id.0,
        after,
        limit
    )
    .fetch_all(db)
    .await
}

/// The last `limit` events of one kind up to number `up_to`, in order.
pub async fn list_kind(
    db: &mut PgConnection,
    run_id: RunId,
    kind: &str,
    up_to: i64,
    limit: i64,
) -> sqlx::Result<Vec<RunEvent>> {
    let mut events = sqlx::query_as!(
        RunEvent,
        r#"
        SELECT seq, at, kind, data FROM run_events
        WHERE run_id = $1 AND kind = $2 AND seq <= $3
        ORDER BY seq DESC LIMIT $4
        "#,
        run_id.0,
        kind,
        up_to,
        limit
    )
    .fetch_all(db)
    .await?;
    events.reverse();
    Ok(events)
}
