//! Checkpoints: model folders that name where they came from. One folder has one row.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use trainer::checkpoint::CheckpointInfo;

use crate::domain::ids::{CheckpointId, RunId};

/// A row of `checkpoints`.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Key.
    pub id: CheckpointId,
    /// `base`, `sft`, `reward` or `policy`.
    pub kind: String,
    /// The name shown.
    pub name: String,
    /// Its folder.
    pub path: String,
    /// Architecture as its `config.json` names it.
    pub architecture: String,
    /// Numbers in its weights.
    pub n_parameters: i64,
    /// SHA-256 of its weights in lower-case hex.
    pub sha256: String,
    /// The run that made it.
    pub run_id: Option<RunId>,
    /// The checkpoint it was trained from.
    pub parent_id: Option<CheckpointId>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

impl Checkpoint {
    /// Numbers in its weights, in millions.
    pub fn millions(&self) -> String {
        format!("{:.1}", self.n_parameters as f64 / 1e6)
    }

    /// The beginning of the hash, enough to tell checkpoints apart.
    pub fn short_sha256(&self) -> &str {
        self.sha256.get(..12).unwrap_or(&self.sha256)
    }
}

/// Finds a checkpoint.
pub async fn find(db: &mut PgConnection, id: CheckpointId) -> sqlx::Result<Option<Checkpoint>> {
    sqlx::query_as!(
        Checkpoint,
        r#"
        SELECT id AS "id: CheckpointId", kind, name, path, architecture, n_parameters, sha256,
               run_id AS "run_id: RunId", parent_id AS "parent_id: CheckpointId", created_at
        FROM checkpoints
        WHERE id = $1
        "#,
        id.0
    )
    .fetch_optional(db)
    .await
}

/// Finds a checkpoint that a row may name.
pub async fn find_optional(
    db: &mut PgConnection,
    id: Option<CheckpointId>,
) -> sqlx::Result<Option<Checkpoint>> {
    match id {
        Some(id) => find(db, id).await,
        None => Ok(None),
    }
}

/// Every checkpoint, newest first.
pub async fn list(db: &mut PgConnection) -> sqlx::Result<Vec<Checkpoint>> {
    sqlx::query_as!(
        Checkpoint,
        r#"
        SELECT id AS "id: CheckpointId", kind, name, path, architecture, n_parameters, sha256,
               run_id AS "run_id: RunId", parent_id AS "parent_id: CheckpointId", created_at
        FROM checkpoints
        ORDER BY created_at DESC, id DESC
        "#
    )
    .fetch_all(db)
    .await
}

/// What a run made, if it made a checkpoint.
pub async fn find_of_run(
    db: &mut PgConnection,
    run_id: RunId,
) -> sqlx::Result<Option<CheckpointId>> {
    sqlx::query_scalar!(
        r#"SELECT id AS "id: CheckpointId" FROM checkpoints WHERE run_id = $1 LIMIT 1"#,
        run_id.0
    )
    .fetch_optional(db)
    .await
}

/// Whether a folder has a row.
pub async fn is_known(db: &mut PgConnection, path: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT 1 FROM checkpoints WHERE path = $1) AS "known!""#,
        path
    )
    .fetch_one(db)
    .await
}

/// Adds a folder, and returns its row's id; a folder that has a row keeps it.
pub async fn insert(
    db: &mut PgConnection,
    name: &str,
    path: &str,
    info: &CheckpointInfo,
    run_id: Option<RunId>,
    parent_id: Option<CheckpointId>,
) -> sqlx::Result<CheckpointId> {
    sqlx::query_scalar!(
        r#"
        INSERT INTO checkpoints (id, kind, name, path, architecture, n_parameters, sha256, run_id, parent_id)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        ON CONFLICT (path) DO UPDATE SET path = excluded.path
        RETURNING id AS "id: CheckpointId"
        "#,
        CheckpointId::new().0,
        info.kind.as_str(),
        name,
        path,
        info.architecture,
        info.n_parameters as i64,
        info.sha256,
        run_id.map(|id| id.0),
        parent_id.map(|id| id.0)
    )
    .fetch_one(db)
    .await
}

/// The checkpoints that were trained from this one.
pub async fn list_children(
    db: &mut PgConnection,
    id: CheckpointId,
) -> sqlx::Result<Vec<Checkpoint>> {
    sqlx::query_as!(
        Checkpoint,
        r#"
        SELECT id AS "id: CheckpointId", kind, name, path, architecture, n_parameters, sha256,
               run_id AS "run_id: RunId", parent_id AS "parent_id: CheckpointId", created_at
        FROM checkpoints
        WHERE parent_id = $1
        ORDER BY created_at, id
        "#,
        id.0
    )
    .fetch_all(db)
    .await
}
