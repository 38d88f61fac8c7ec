//! Exports that are built into files: wanted, being built, ready or failed.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::domain::export::{ExportChoice, ExportFormat, REVISION};
use crate::domain::ids::{AccountId, ExportId, SnapshotId};
use crate::domain::snapshot::SnapshotKind;
use crate::error::AppResult;

/// An export of a snapshot.
#[derive(Debug, Clone)]
pub struct Export {
    /// Key, and the name of its file.
    pub id: ExportId,
    /// What it is an export of.
    pub snapshot_id: SnapshotId,
    /// The snapshot's kind.
    pub kind: String,
    /// The snapshot's records, of which `n_done` are written.
    pub n_items: i64,
    /// Word of the format.
    pub format: String,
    /// Word of the container.
    pub container: String,
    /// Word of what pairs carry.
    pub margin: String,
    /// Word of how labelers are put together.
    pub aggregation: String,
    /// Of the formats that it is written in.
    pub revision: i16,
    /// `waiting`, `building`, `ready` or `failed`.
    pub status: String,
    /// Records written so far.
    pub n_done: i64,
    /// Lines or table rows, when it is ready.
    pub n_rows: Option<i64>,
    /// Bytes of the file, when it is ready.
    pub n_bytes: Option<i64>,
    /// Of the file, in lower-case hex, when it is ready.
    pub sha256: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
}

impl Export {
    /// The choice that decides its bytes.
    ///
    /// # Errors
    /// When the database holds a word that this program does not know.
    pub fn choice(&self) -> anyhow::Result<ExportChoice> {
        let kind: SnapshotKind = self.kind.parse().map_err(anyhow::Error::msg)?;
        Ok(ExportChoice {
            format: ExportFormat::parse(&self.format, kind).map_err(anyhow::Error::msg)?,
            container: self.container.parse().map_err(anyhow::Error::msg)?,
            margin: self.margin.parse().map_err(anyhow::Error::msg)?,
            aggregation: self.aggregation.parse().map_err(anyhow::Error::msg)?,
        })
    }

    /// The name of its file in the folder of exports.
    ///
    /// # Errors
    /// As [`Export::choice`].
    pub fn file_name(&self) -> anyhow::Result<String> {
        Ok(format!("{}.{}", self.id, self.choice()?.extension()))
    }

    /// Whether somebody waits for it.
    pub fn is_underway(&self) -> bool {
        matches!(self.status.as_str(), "waiting" | "building")
    }
}

/// Reads exports by a condition over `e` and `s`. A macro, since the queries are checked when they are
/// compiled.
macro_rules! select {
    ($rest:literal, $($argument:expr),+) => {
        sqlx::query_as!(
            Export,
            r#"
            SELECT e.id AS "id: ExportId", e.snapshot_id AS "snapshot_id: SnapshotId", s.kind, s.n_items, e.format,
                   e.container, e.margin, e.aggregation, e.revision, e.status, e.n_done, e.n_rows, e.n_bytes, e.sha256,
                   e.error, e.created_at
            FROM exports e
            JOIN snapshots s ON s.id = e.snapshot_id
            "# + $rest,
            $($argument),+
        )
    };
}

/// Finds an export.
pub async fn find(db: &mut PgConnection, id: ExportId) -> sqlx::Result<Option<Export>> {
    select!("WHERE e.id = $1", id.0).fetch_optional(db).await
}

/// The exports of a snapshot, newest first.
pub async fn list(db: &mut PgConnection, snapshot_id: SnapshotId) -> sqlx::Result<Vec<Export>> {
    select!(
        "WHERE e.snapshot_id = $1 ORDER BY e.created_at DESC, e.id DESC",
        snapshot_id.0
    )
    .fetch_all(db)
    .await
}

/// Asks for an export by this revision of the formats. One that there is already is the same; one that failed is
/// built anew.
///
/// # Errors
/// Only our own failures.
pub async fn want(
    db: &mut PgConnection,
    snapshot_id: SnapshotId,
    kind: SnapshotKind,
    choice: &ExportChoice,
    by: Option<AccountId>,
) -> AppResult<ExportId> {
    let id = sqlx::query_scalar!(
        r#"
        INSERT INTO exports (id, snapshot_id, format, container, margin, aggregation, revision, created_by)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        ON CONFLICT ON CONSTRAINT exports_choice_key DO UPDATE
            SET status = CASE exports.status WHEN 'failed' THEN 'waiting' ELSE exports.status END
        RETURNING id
        "#,
        ExportId::new().0,
        snapshot_id.0,
        choice.format.word(kind),
        choice.container.as_str(),
        choice.margin.as_str(),
        choice.aggregation.as_str(),
        REVISION,
        by.map(|id| id.0)
    )
    .fetch_one(db)
    .await?;
    Ok(ExportId(id))
}

/// Has an export built once more, since its file is gone.
pub async fn want_again(db: &mut PgConnection, id: ExportId) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE exports SET status = 'waiting', n_done = 0 WHERE id = $1 AND status = 'ready'",
        id.0
    )
    .execute(db)
    .await?;
    Ok(())
}

/// An export as one builder took it. What it says after another took its place changes nothing.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    /// The export.
    pub id: ExportId,
    /// 1 for its first builder.
    number: i32,
}

/// Takes the next export to build: one that waits, or one whose builder has not been heard of for a
/// minute.
pub async fn claim(db: &mut PgConnection) -> sqlx::Result<Option<Claim>> {
    let row = sqlx::query!(
        r#"
        UPDATE exports SET status = 'building', heartbeat_at = now(), n_done = 0, error = NULL, n_claims = n_claims + 1
        WHERE id = (
            SELECT id FROM exports
            WHERE status = 'waiting'
               OR (status = 'building' AND heartbeat_at < now() - interval '1 minute')
            ORDER BY created_at
            LIMIT 1
            FOR UPDATE SKIP LOCKED)
        RETURNING id, n_claims
        "#
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| Claim {
        id: ExportId(row.id),
        number: row.n_claims,
    }))
}

/// Notes how far the builder is, and that it lives.
pub async fn report(db: &mut PgConnection, claim: Claim, n_done: i64) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE exports SET n_done = $2, heartbeat_at = now() WHERE id = $1 AND n_claims = $3 AND status = 'building'",
        claim.id.0,
        n_done,
        claim.number
    )
    .execute(db)
    .await?;
    Ok(())
}

/// What was built, or why it was not.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// The file is there.
    Ready {
        /// Lines or table rows.
        n_rows: i64,
        /// Bytes.
        n_bytes: i64,
        /// In lower-case hex.
        sha256: &'a str,
    },
    /// A sentence that says why.
    Failed(&'a str),
}

/// Ends the building of an export.
pub async fn finish(
    db: &mut PgConnection,
    claim: Claim,
    outcome: &Outcome<'_>,
) -> sqlx::Result<()> {
    let (status, rows, bytes, sha256, error) = match outcome {
        Outcome::Ready {
            n_rows,
            n_bytes,
            sha256,
        } => ("ready", Some(*n_rows), Some(*n_bytes), Some(*sha256), None),
        Outcome::Failed(why) => ("failed", None, None, None, Some(*why)),
    };
    sqlx::query!(
        r#"
        UPDATE exports e
        SET status = $2, n_rows = $3, n_bytes = $4, sha256 = $5, error = $6, finished_at = now(),
            n_done = CASE $2 WHEN 'ready' THEN s.n_items ELSE n_done END
        FROM snapshots s
        WHERE e.id = $1 AND e.n_claims = $7 AND e.status = 'building' AND s.id = e.snapshot_id
        "#,
        claim.id.0,
        status,
        rows,
        bytes,
        sha256,
        error,
        claim.number
    )
    .execute(db)
    .await?;
    Ok(())
}
