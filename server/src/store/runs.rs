//! The queue of runs. A run is claimed by one worker only (`FOR UPDATE SKIP LOCKED`), and every
//! later change by that worker names it, so a worker that was given up cannot come back and
//! overwrite what was decided without it.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::domain::ids::{AccountId, CheckpointId, ProjectId, RunId, SnapshotId};
use crate::store::run_events;

/// A running run without a heartbeat for this many seconds has lost its worker.
pub const SILENT_SECONDS: f64 = 30.0;

/// A row of `runs`.
#[derive(Debug, Clone)]
pub struct Run {
    /// Key.
    pub id: RunId,
    /// Project of its snapshot.
    pub project_id: ProjectId,
    /// `sft`, `reward`, `ppo`, `dpo` or `generation`.
    pub kind: String,
    /// The name given to it.
    pub name: String,
    /// The preset it started from; empty for a generation run.
    pub preset: String,
    /// Every setting.
    pub config: Value,
    /// What it reads.
    pub snapshot_id: Option<SnapshotId>,
    /// Texts for the pretraining term of PPO, or to mix in with demonstrations.
    pub texts_snapshot_id: Option<SnapshotId>,
    /// Demonstrations whose mean score a reward model takes as zero.
    pub demonstrations_snapshot_id: Option<SnapshotId>,
    /// The model it starts from.
    pub base_checkpoint_id: Option<CheckpointId>,
    /// The reward model of PPO, or one that judges the epochs of SFT.
    pub reward_checkpoint_id: Option<CheckpointId>,
    /// The second opinion of PPO.
    pub gold_checkpoint_id: Option<CheckpointId>,
    /// `queued`, `running`, `finished`, `failed` or `cancelled`.
    pub status: String,
    /// What it does now.
    pub phase: String,
    /// How far the phase is.
    pub progress_step: i64,
    /// How far the phase goes.
    pub progress_total: i64,
    /// Its last words, when it failed.
    pub error: Option<String>,
    /// Final figures.
    pub summary: Value,
    /// Its folder, once claimed.
    pub folder: Option<String>,
    /// The worker that claimed it.
    pub worker: Option<String>,
    /// When the worker was last heard of.
    pub heartbeat_at: Option<DateTime<Utc>>,
    /// When somebody asked it to stop.
    pub cancel_requested_at: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was claimed.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
}

impl Run {
    /// Whether it is neither queued nor running any more.
    pub fn is_over(&self) -> bool {
        matches!(self.status.as_str(), "finished" | "failed" | "cancelled")
    }

    /// Whether it can go on where it stopped. Drawing completions keeps no savepoints.
    pub fn can_resume(&self) -> bool {
        matches!(self.status.as_str(), "failed" | "cancelled") && self.kind != "generation"
    }

    /// How far the phase is, in percent.
    pub fn percent(&self) -> i64 {
        match self.progress_total {
            total if total > 0 => (100 * self.progress_step / total).clamp(0, 100),
            _ => 0,
        }
    }
}

/// What is needed to queue a run.
#[derive(Debug, Clone)]
pub struct NewRun<'a> {
    /// Project of its snapshot.
    pub project_id: ProjectId,
    /// What it does.
    pub kind: &'a str,
    /// The name given to it.
    pub name: &'a str,
    /// The preset it starts from.
    pub preset: &'a str,
    /// Every setting.
    pub config: &'a Value,
    /// What it reads.
    pub snapshot_id: SnapshotId,
    /// Texts for the pretraining term, or to mix in.
    pub texts_snapshot_id: Option<SnapshotId>,
    /// Demonstrations for a reward model's zero point.
    pub demonstrations_snapshot_id: Option<SnapshotId>,
    /// The model it starts from.
    pub base_checkpoint_id: CheckpointId,
    /// The reward model.
    pub reward_checkpoint_id: Option<CheckpointId>,
    /// The second opinion.
    pub gold_checkpoint_id: Option<CheckpointId>,
    /// Who made it.
    pub created_by: Option<AccountId>,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub enum Ending {
    /// It did what it was for; its figures.
    Finished(Value),
    /// It could not; why.
    Failed(String),
    /// Somebody asked it to stop.
    Cancelled,
}

/// Queues a run.
pub async fn insert(db: &mut PgConnection, run: &NewRun<'_>) -> sqlx::Result<RunId> {
    let id = RunId::new();
    sqlx::query!(
        r#"
        INSERT INTO runs (id, project_id, kind, name, preset, config, snapshot_id,
                          texts_snapshot_id, base_checkpoint_id, reward_checkpoint_id, created_by,
                          demonstrations_snapshot_id, gold_checkpoint_id)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
        "#,
        id.0,
        run.project_id.0,
        run.kind,
        run.name,
        run.preset,
        run.config,
        run.snapshot_id.0,
        run.texts_snapshot_id.map(|id| id.0),
        run.base_checkpoint_id.0,
        run.reward_checkpoint_id.map(|id| id.0),
        run.created_by.map(|id| id.0),
        run.demonstrations_snapshot_id.map(|id| id.0),
        run.gold_checkpoint_id.map(|id| id.0)
    )
    .execute(&mut *db)
    .await?;
    append_status(db, id, "queued", None).await?;
    Ok(id)
}

async fn append_status(
    db: &mut PgConnection,
    id: RunId,
    status: &str,
    error: Option<&str>,
) -> sqlx::Result<()> {
    let data = match error {
        Some(error) => json!({"status": status, "error": error}),
        None => json!({"status": status}),
    };
    run_events::append(db, id, &[("status".to_owned(), data)]).await?;
    Ok(())
}

/// Finds a run.
pub async fn find(db: &mut PgConnection, id: RunId) -> sqlx::Result<Option<Run>> {
    sqlx::query_as!(
        Run,
        r#"
        SELECT id AS "id: RunId", project_id AS "project_id: ProjectId", kind, name, preset, config,
               snapshot_id AS "snapshot_id: SnapshotId",
               texts_snapshot_id AS "texts_snapshot_id: SnapshotId",
               demonstrations_snapshot_id AS "demonstrations_snapshot_id: SnapshotId",
               base_checkpoint_id AS "base_checkpoint_id: CheckpointId",
               reward_checkpoint_id AS "reward_checkpoint_id: CheckpointId",
               gold_checkpoint_id AS "gold_checkpoint_id: CheckpointId",
               status, phase, progress_step, progress_total, error, summary, folder, worker,
               heartbeat_at, cancel_requested_at, created_at, started_at, finished_at
        FROM runs
        WHERE id = $1
        "#,
        id.0
    )
    .fetch_optional(db)
    .await
}

/// The newest runs, newest first.
pub async fn list(db: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<Run>> {
    sqlx::query_as!(
        Run,
        r#"
        SELECT id AS "id: RunId", project_id AS "project_id: ProjectId", kind, name, preset, config,
               snapshot_id AS "snapshot_id: SnapshotId",
               texts_snapshot_id AS "texts_snapshot_id: SnapshotId",
               demonstrations_snapshot_id AS "demonstrations_snapshot_id: SnapshotId",
               base_checkpoint_id AS "base_checkpoint_id: CheckpointId",
               reward_checkpoint_id AS "reward_checkpoint_id: CheckpointId",
               gold_checkpoint_id AS "gold_checkpoint_id: CheckpointId",
               status, phase, progress_step, progress_total, error, summary, folder, worker,
               heartbeat_at, cancel_requested_at, created_at, started_at, finished_at
        FROM runs
        ORDER BY created_at DESC, id DESC
        LIMIT $1
        "#,
        limit
    )
    .fetch_all(db)
    .await
}

/// Takes the oldest queued run for `worker`; its folder will be `<runs_dir>/<its id>`. Call it
/// inside a transaction.
pub async fn claim(
    db: &mut PgConnection,
    worker: &str,
    runs_dir: &str,
) -> sqlx::Result<Option<Run>> {
    let claimed = sqlx::query_scalar!(
        r#"
        UPDATE runs
        SET status = 'running', worker = $1, folder = $2 || '/' || id::text,
            heartbeat_at = now(), started_at = now()
        WHERE id = (SELECT id FROM runs WHERE status = 'queued'
                    ORDER BY created_at, id LIMIT 1 FOR UPDATE SKIP LOCKED)
        RETURNING id AS "id: RunId"
        "#,
        worker,
        runs_dir
    )
    .fetch_optional(&mut *db)
    .await?;
    let Some(id) = claimed else {
        return Ok(None);
    };
    append_status(db, id, "running", None).await?;
    find(db, id).await
}

/// Says that `worker` is alive, and hears whether the run is to stop. None when the run is no
/// longer this worker's.
pub async fn heartbeat(
    db: &mut PgConnection,
    id: RunId,
    worker: &str,
) -> sqlx::Result<Option<bool>> {
    sqlx::query_scalar!(
        r#"
        UPDATE runs SET heartbeat_at = now()
        WHERE id = $1 AND worker = $2 AND status = 'running'
        RETURNING cancel_requested_at IS NOT NULL AS "asked!"
        "#,
        id.0,
        worker
    )
    .fetch_optional(db)
    .await
}

/// Appends events of a running run and updates how far it is, inside the caller's transaction.
/// Returns whether the run is to stop; none, and nothing is written, when the run is no longer
/// this worker's.
pub async fn record(
    db: &mut PgConnection,
    id: RunId,
    worker: &str,
    events: &[(String, Value)],
) -> sqlx::Result<Option<bool>> {
    let phase = events.iter().rev().find(|(kind, _)| kind == "phase");
    let phase = phase.map(|(_, data)| data);
    let number = |name: &str| phase.and_then(|data| data[name].as_i64());
    let asked = sqlx::query_scalar!(
        r#"
        UPDATE runs
        SET heartbeat_at = now(), phase = coalesce($3, phase),
            progress_step = coalesce($4, progress_step),
            progress_total = coalesce($5, progress_total)
        WHERE id = $1 AND worker = $2 AND status = 'running'
        RETURNING cancel_requested_at IS NOT NULL AS "asked!"
        "#,
        id.0,
        worker,
        phase.and_then(|data| data["name"].as_str()),
        number("step"),
        number("total")
    )
    .fetch_optional(&mut *db)
    .await?;
    if asked.is_some() {
        run_events::append(db, id, events).await?;
    }
    Ok(asked)
}

/// Ends a run of `worker`, inside the caller's transaction. False when the run is no longer its.
pub async fn finish(
    db: &mut PgConnection,
    id: RunId,
    worker: &str,
    ending: &Ending,
) -> sqlx::Result<bool> {
    let (status, error, summary) = match ending {
        Ending::Finished(summary) => ("finished", None, Some(summary)),
        Ending::Failed(error) => ("failed", Some(error.replace('\0', "\u{fffd}")), None),
        Ending::Cancelled => ("cancelled", None, None),
    };
    let updated = sqlx::query!(
        r#"
        UPDATE runs
        SET status = $3, error = $4, summary = coalesce($5, summary), finished_at = now()
        WHERE id = $1 AND worker = $2 AND status = 'running'
        "#,
        id.0,
        worker,
        status,
        error,
        summary
    )
    .execute(&mut *db)
    .await?;
    if updated.rows_affected() == 0 {
        return Ok(false);
    }
    append_status(db, id, status, error.as_deref()).await?;
    Ok(true)
}

/// Asks a run to stop, inside the caller's transaction: a queued one is cancelled at once, a
/// running one when its worker hears of it. False when it is over already.
pub async fn request_cancel(db: &mut PgConnection, id: RunId) -> sqlx::Result<bool> {
    let status = sqlx::query_scalar!(
        r#"
        UPDATE runs
        SET cancel_requested_at = coalesce(cancel_requested_at, now()),
            status = CASE status WHEN 'queued' THEN 'cancelled' ELSE status END,
            finished_at = CASE status WHEN 'queued' THEN now() END
        WHERE id = $1 AND status IN ('queued', 'running')
        RETURNING status
        "#,
        id.0
    )
    .fetch_optional(&mut *db)
    .await?;
    match status.as_deref() {
        Some("cancelled") => append_status(db, id, "cancelled", None).await?,
        Some(_) => {
            let line = json!({"message": "asked to stop"});
            run_events::append(db, id, &[("log".to_owned(), line)]).await?;
        }
        None => return Ok(false),
    }
    Ok(true)
}

/// Queues a training run again that failed or was stopped, inside the caller's transaction: its
/// worker goes on from the newest savepoint. False when it did neither.
pub async fn resume(db: &mut PgConnection, id: RunId) -> sqlx::Result<bool> {
    let queued = sqlx::query!(
        r#"
        UPDATE runs
        SET status = 'queued', worker = NULL, error = NULL, cancel_requested_at = NULL,
            finished_at = NULL
        WHERE id = $1 AND status IN ('failed', 'cancelled') AND kind <> 'generation'
        "#,
        id.0
    )
    .execute(&mut *db)
    .await?;
    if queued.rows_affected() == 0 {
        return Ok(false);
    }
    append_status(db, id, "queued", None).await?;
    Ok(true)
}

/// Marks runs as failed whose worker has not been heard of for too long, inside the caller's
/// transaction. Returns which.
pub async fn fail_silent(db: &mut PgConnection) -> sqlx::Result<Vec<RunId>> {
    fail_where(db, None, "the worker stopped reporting").await
}

/// Marks what `worker` was running as failed with `error`, inside the caller's transaction.
/// Returns which.
pub async fn fail_of_worker(
    db: &mut PgConnection,
    worker: &str,
    error: &str,
) -> sqlx::Result<Vec<RunId>> {
    fail_where(db, Some(worker), error).await
}

async fn fail_where(
    db: &mut PgConnection,
    worker: Option<&str>,
    error: &str,
) -> sqlx::Result<Vec<RunId>> {
    let error = error.replace('\0', "\u{fffd}");
    let failed = sqlx::query_scalar!(
        r#"
        UPDATE runs SET status = 'failed', error = $2, finished_at = now()
        WHERE status = 'running'
          AND (worker = $1 OR ($1::text IS NULL AND heartbeat_at < now() - make_interval(secs => $3)))
        RETURNING id AS "id: RunId"
        "#,
        worker,
        error,
        SILENT_SECONDS
    )
    .fetch_all(&mut *db)
    .await?;
    for id in &failed {
        append_status(db, *id, "failed", Some(&error)).await?;
    }
    Ok(failed)
}

/// A snapshot as a choice in a form.
#[derive(Debug, Clone)]
pub struct SnapshotChoice {
    /// Key.
    pub id: SnapshotId,
    /// Its project.
    pub project_id: ProjectId,
    /// The project's name.
    pub project: String,
    /// Its name.
    pub name: String,
    /// Its items.
    pub n_items: i64,
    /// Distinct prompts.
    pub n_prompts: i64,
    /// What it holds.
    pub kind: String,
    /// SHA-256 of its export.
    pub sha256: String,
    /// Whether what simulated labelers said is in it.
    pub includes_simulated: bool,
    /// When it was taken.
    pub created_at: DateTime<Utc>,
}

/// Every snapshot that a run may read, newest first.
pub async fn list_snapshots(db: &mut PgConnection) -> sqlx::Result<Vec<SnapshotChoice>> {
    sqlx::query_as!(
        SnapshotChoice,
        r#"
        SELECT s.id AS "id: SnapshotId", s.project_id AS "project_id: ProjectId",
               p.name AS project, s.name, s.n_items, s.n_prompts, s.kind, s.sha256,
               s.includes_simulated, s.created_at
        FROM snapshots s JOIN projects p ON p.id = s.project_id
        ORDER BY s.created_at DESC, s.id DESC
        "#
    )
    .fetch_all(db)
    .await
}

/// The items of a snapshot, by position.
pub async fn list_snapshot_items(
    db: &mut PgConnection,
    id: SnapshotId,
) -> sqlx::Result<Vec<uuid::Uuid>> {
    sqlx::query_scalar!(
        "SELECT item_id FROM snapshot_items WHERE snapshot_id = $1 ORDER BY position",
        id.0
    )
    .fetch_all(db)
    .await
}

/// SHA-256 of a snapshot's export, as it was frozen.
pub async fn find_snapshot_sha256(
    db: &mut PgConnection,
    id: SnapshotId,
) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!("SELECT sha256 FROM snapshots WHERE id = $1", id.0)
        .fetch_optional(db)
        .await
}
