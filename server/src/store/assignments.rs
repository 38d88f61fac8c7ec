//! The queue: leasing, drafting, submitting and skipping.
//!
//! The promises (one labeler at most once on a task, never more holders than places) are unique
//! constraints; this code only chooses rows such that they are not hit.

use rand::Rng;
use rand::seq::SliceRandom;
use serde_json::Value;
use sqlx::{Connection, PgConnection};

use crate::domain::assignment::AssignmentStatus;
use crate::domain::form::Form;
use crate::domain::ids::{AccountId, AssignmentId, ProjectId, RankingId, TaskId};
use crate::domain::ranking::RankingInput;
use crate::error::{AppError, AppResult};
use crate::message::Message;
use crate::store::rankings;

/// Most live leases of one account in a project. A program may hold a few tasks, so that it never
/// waits for the next; one that leased all of them would leave nothing to the others until its
/// leases end. The page holds one.
pub const MOST_LEASES: usize = 10;

/// A fresh or renewed lease.
#[derive(Debug, Clone)]
pub struct Lease {
    /// The assignment.
    pub assignment_id: AssignmentId,
    /// Its task.
    pub task_id: TaskId,
    /// Slots in the order shown.
    pub display_order: Vec<i16>,
}

/// An assignment with what its rules need.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// Key.
    pub id: AssignmentId,
    /// Its task.
    pub task_id: TaskId,
    /// The project of the task.
    pub project_id: ProjectId,
    /// Where it stands.
    pub status: AssignmentStatus,
    /// Slots in the order shown.
    pub display_order: Vec<i16>,
    /// Version of the form it is labelled under.
    pub form_version: i32,
    /// Version of the guidelines it is labelled under.
    pub guidelines_version: i32,
    /// What was saved so far.
    pub draft: Option<Value>,
    /// Counts saves, so that two tabs notice each other.
    pub draft_revision: i64,
    /// When the lease ends.
    pub lease_until: chrono::DateTime<chrono::Utc>,
}

/// The live leases of a labeler, newest first, in one project or in all. No lease makes more than
/// [`MOST_LEASES`] in a project; a draft that revives one that ran out may.
pub async fn list_live(
    db: &mut PgConnection,
    labeler_id: AccountId,
    project_id: Option<ProjectId>,
) -> sqlx::Result<Vec<AssignmentId>> {
    let ids = sqlx::query_scalar!(
        r#"
        SELECT a.id
        FROM assignments a
        JOIN tasks t ON t.id = a.task_id
        WHERE a.labeler_id = $1 AND ($2::UUID IS NULL OR t.project_id = $2)
          AND a.status = 'leased' AND a.lease_until > now()
        ORDER BY a.leased_at DESC, a.id DESC
        "#,
        labeler_id.0,
        project_id.map(|project| project.0)
    )
    .fetch_all(db)
    .await?;
    Ok(ids.into_iter().map(AssignmentId).collect())
}

/// How often a lease is tried again because another request of the same labeler ended their work on
/// the task, late, between choosing and holding it, or because two requests waited for each other.
const TRIES: usize = 10;

/// Leases the oldest open task that this labeler has not had. None when there is none. Call it
/// outside a transaction, so that the locks of one step are gone before the next.
///
/// # Errors
/// `Conflict` when this labeler holds [`MOST_LEASES`] already, or when other requests of theirs ended
/// work on every task that was chosen; otherwise only our own failures.
pub async fn lease(
    db: &mut PgConnection,
    project_id: ProjectId,
    labeler_id: AccountId,
    rng: &mut impl Rng,
) -> AppResult<Option<Lease>> {
    release_expired(db, project_id).await?;
    for _ in 0..TRIES {
        let mut transaction = db.begin().await?;
        lock_account(&mut transaction, labeler_id).await?;
        // Rows that others are leasing right now are passed over. Only when nothing else is left
        // do we wait for them, since one of them may still have a free place.
        let mut task_id = pick_unlocked(&mut transaction, project_id, labeler_id).await?;
        if task_id.is_none() {
            task_id = match pick_waiting(&mut transaction, project_id, labeler_id).await {
                // A wait for one task may hold another that was taken meanwhile. Of two requests that
                // wait for each other so, Postgres ends one, with all its locks; it waits again.
                Err(error) if is_deadlock(&error) => {
                    transaction.rollback().await?;
                    continue;
                }
                picked => picked?,
            };
        }
        let Some(task_id) = task_id else {
            transaction.commit().await?;
            return Ok(None);
        };
        check_may_lease(&mut transaction, project_id, labeler_id).await?;
        let lease = hold_place(&mut transaction, task_id, labeler_id, rng).await?;
        transaction.commit().await?;
        if lease.is_some() {
            return Ok(lease);
        }
    }
    Err(AppError::conflict("error-busy-account"))
}

/// Makes the leases of an account wait for each other, so that each counts those before it. Before
/// any task is locked: two leases of one account then never wait for each other's tasks. The lock
/// leaves other tables free to refer to the account.
async fn lock_account(db: &mut PgConnection, id: AccountId) -> sqlx::Result<()> {
    sqlx::query_scalar!(
        "SELECT id FROM accounts WHERE id = $1 FOR NO KEY UPDATE",
        id.0
    )
    .fetch_optional(db)
    .await?;
    Ok(())
}

/// Refuses one more lease to an account, locked, that holds as many as it may.
async fn check_may_lease(
    db: &mut PgConnection,
    project_id: ProjectId,
    labeler_id: AccountId,
) -> AppResult<()> {
    let held = list_live(db, labeler_id, Some(project_id)).await?.len();
    if held < MOST_LEASES {
        return Ok(());
    }
    let message = Message::new("error-most-leases").with("held", held);
    Err(AppError::Conflict(message.with("most", MOST_LEASES)))
}

/// SQLSTATE 40P01.
fn is_deadlock(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.as_deref() == Some("40P01")
}

/// Ends leases whose time ran out; their places are free again, their drafts are kept. Rows that
/// others hold are passed over, and as a transaction of its own it keeps no lock while a lease
/// waits for one, so neither waits for the other.
async fn release_expired(db: &mut PgConnection, project_id: ProjectId) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        UPDATE assignments SET status = 'expired', place = NULL, ended_at = now()
        WHERE id IN (
            SELECT a.id FROM assignments a
            JOIN tasks t ON t.id = a.task_id
            WHERE a.status = 'leased' AND a.lease_until <= now() AND t.project_id = $1
            ORDER BY a.id
            FOR UPDATE OF t, a SKIP LOCKED
        )
        "#,
        project_id.0
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The query of both pickers: the oldest task with a free place that this labeler has not had,
/// locked as its last words say. A macro, since the queries are checked when they are compiled.
macro_rules! pick_task {
    ($db:expr, $project_id:expr, $labeler_id:expr, $lock:tt) => {
        sqlx::query_scalar!(
            r#"
        SELECT t.id
        FROM tasks t
        WHERE t.project_id = $1 AND t.closed_at IS NULL AND t.n_held < t.overlap
          AND NOT EXISTS (
              SELECT 1 FROM assignments a
              WHERE a.task_id = t.id AND a.labeler_id = $2 AND a.status <> 'expired')
        ORDER BY t.created_at, t.id
        LIMIT 1
        "# + $lock,
            $project_id.0,
            $labeler_id.0
        )
        .fetch_optional($db)
        .await
        .map(|id| id.map(TaskId))
    };
}

/// Passes over tasks that others hold.
async fn pick_unlocked(
    db: &mut PgConnection,
    project_id: ProjectId,
    labeler_id: AccountId,
) -> sqlx::Result<Option<TaskId>> {
    pick_task!(
        db,
        project_id,
        labeler_id,
        "FOR UPDATE OF t SKIP LOCKED\n        "
    )
}

/// Waits for tasks that others hold.
async fn pick_waiting(
    db: &mut PgConnection,
    project_id: ProjectId,
    labeler_id: AccountId,
) -> sqlx::Result<Option<TaskId>> {
    pick_task!(db, project_id, labeler_id, "FOR UPDATE OF t\n        ")
}

/// Takes the lowest free place of a locked task. An expired assignment of the same labeler is
/// renewed, with its order and draft. None when this labeler ended work on the task after it was
/// chosen: the choice cannot see what another request of theirs wrote while it ran.
async fn hold_place(
    db: &mut PgConnection,
    task_id: TaskId,
    labeler_id: AccountId,
    rng: &mut impl Rng,
) -> AppResult<Option<Lease>> {
    let slots = sqlx::query_scalar!(
        "SELECT slot FROM candidates WHERE task_id = $1 ORDER BY slot",
        task_id.0
    )
    .fetch_all(&mut *db)
    .await?;
    let mut order = slots;
    order.shuffle(rng);
    let row = sqlx::query!(
        r#"
        INSERT INTO assignments
            (id, task_id, labeler_id, place, display_order, guidelines_version, form_version, lease_until)
        SELECT $1, t.id, $2, free.place, $4,
               coalesce((SELECT max(version) FROM guidelines g WHERE g.project_id = t.project_id), 0),
               coalesce((SELECT max(version) FROM forms f WHERE f.project_id = t.project_id), 0),
               now() + make_interval(secs => p.lease_seconds)
        FROM tasks t
        JOIN projects p ON p.id = t.project_id
        CROSS JOIN LATERAL (
            SELECT n::SMALLINT AS place FROM generate_series(0, t.overlap - 1) AS n
            WHERE NOT EXISTS (SELECT 1 FROM assignments a WHERE a.task_id = t.id AND a.place = n)
            ORDER BY n LIMIT 1
        ) AS free
        WHERE t.id = $3
        ON CONFLICT ON CONSTRAINT assignments_task_labeler_key DO UPDATE
            SET status = 'leased', place = EXCLUDED.place, leased_at = now(),
                lease_until = EXCLUDED.lease_until, ended_at = NULL
            WHERE assignments.status = 'expired'
        RETURNING id, display_order
        "#,
        AssignmentId::new().0,
        labeler_id.0,
        task_id.0,
        &order
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| Lease {
        assignment_id: AssignmentId(row.id),
        task_id,
        display_order: row.display_order,
    }))
}

/// Finds a labeler's own assignment; somebody else's does not exist for them.
///
/// # Errors
/// `NotFound`.
pub async fn find(
    db: &mut PgConnection,
    id: AssignmentId,
    labeler_id: AccountId,
) -> AppResult<Assignment> {
    let row = sqlx::query!(
        r#"
        SELECT a.id, a.task_id, t.project_id, a.status, a.display_order, a.form_version,
               a.guidelines_version, a.draft, a.draft_revision, a.lease_until
        FROM assignments a
        JOIN tasks t ON t.id = a.task_id
        WHERE a.id = $1 AND a.labeler_id = $2
        "#,
        id.0,
        labeler_id.0
    )
    .fetch_optional(db)
    .await?
    .ok_or(AppError::NotFound("assignment"))?;
    Ok(Assignment {
        id,
        task_id: TaskId(row.task_id),
        project_id: ProjectId(row.project_id),
        status: row
            .status
            .parse()
            .map_err(|message: String| anyhow::anyhow!(message))?,
        display_order: row.display_order,
        form_version: row.form_version,
        guidelines_version: row.guidelines_version,
        draft: row.draft,
        draft_revision: row.draft_revision,
        lease_until: row.lease_until,
    })
}

/// The form of an assignment.
///
/// # Errors
/// When the stored form cannot be read.
pub async fn find_form(db: &mut PgConnection, assignment: &Assignment) -> AppResult<Form> {
    let fields =
        super::projects::find_form_version(db, assignment.project_id, assignment.form_version)
            .await?;
    match fields {
        Some(fields) => Ok(serde_json::from_value(fields).map_err(anyhow::Error::from)?),
        None => Ok(Form::default()),
    }
}

/// Saves a draft and renews the lease. With `revision`, only over that one, so that two tabs
/// never overwrite each other unseen. Returns the new revision.
///
/// # Errors
/// `Invalid` for wrong fields, `Conflict` when the work has ended or another tab saved.
pub async fn save_draft(
    db: &mut PgConnection,
    id: AssignmentId,
    labeler_id: AccountId,
    input: &RankingInput,
    revision: Option<i64>,
) -> AppResult<i64> {
    let assignment = find(db, id, labeler_id).await?;
    let form = find_form(db, &assignment).await?;
    let complaints = input.complaints(assignment.display_order.len(), &form);
    if !complaints.is_empty() {
        return Err(AppError::Invalid(complaints));
    }
    let draft = serde_json::to_value(input).map_err(anyhow::Error::from)?;
    let saved = sqlx::query_scalar!(
        r#"
        UPDATE assignments a
        SET draft = $3, draft_revision = draft_revision + 1,
            lease_until = CASE WHEN a.status = 'leased'
                THEN greatest(a.lease_until, now() + make_interval(secs => p.lease_seconds))
                ELSE a.lease_until END
        FROM tasks t
        JOIN projects p ON p.id = t.project_id
        WHERE a.id = $1 AND a.labeler_id = $2 AND t.id = a.task_id
          AND a.status IN ('leased', 'expired')
          AND ($4::BIGINT IS NULL OR a.draft_revision = $4)
        RETURNING a.draft_revision
        "#,
        id.0,
        labeler_id.0,
        draft,
        revision
    )
    .fetch_optional(&mut *db)
    .await?;
    saved.ok_or_else(|| match assignment.status {
        AssignmentStatus::Leased | AssignmentStatus::Expired => {
            AppError::conflict("error-draft-newer")
        }
        _ => AppError::conflict("error-draft-ended"),
    })
}

/// Writes ranking, ratings and comparisons in one transaction. The same key and content again is
/// the same submission; a late one is kept, and takes its place back if that is still free.
///
/// # Errors
/// `Invalid` with every wrong field; `Conflict` when something else was submitted or skipped.
pub async fn submit(
    db: &mut PgConnection,
    id: AssignmentId,
    labeler_id: AccountId,
    idempotency_key: &str,
    input: &RankingInput,
) -> AppResult<RankingId> {
    if idempotency_key.is_empty() || idempotency_key.len() > 200 {
        return Err(AppError::invalid(
            "Idempotency-Key",
            Message::new("error-length").with("most", 200),
        ));
    }
    let mut transaction = db.begin().await?;
    lock_task(&mut transaction, id).await?;
    let assignment = find(&mut transaction, id, labeler_id).await?;
    let form = find_form(&mut transaction, &assignment).await?;
    let ranking = input
        .parse(&assignment.display_order, &form)
        .map_err(AppError::Invalid)?;
    let digest = rankings::digest(input)?;
    if let Some(existing) = rankings::find_by_key(&mut transaction, id, idempotency_key).await? {
        return match existing.request_sha256 == digest {
            true => Ok(existing.id),
            false => Err(AppError::conflict("error-key-used")),
        };
    }
    match assignment.status {
        AssignmentStatus::Leased => (),
        AssignmentStatus::Expired => take_place_back(&mut transaction, id).await?,
        AssignmentStatus::Submitted => {
            return Err(AppError::conflict("error-submitted-already"));
        }
        AssignmentStatus::Skipped => {
            return Err(AppError::conflict("error-skipped-already"));
        }
    }
    let ranking_id = rankings::insert(
        &mut transaction,
        &assignment,
        idempotency_key,
        &digest,
        &ranking,
    )
    .await?;
    sqlx::query!(
        "UPDATE assignments SET status = 'submitted', ended_at = now() WHERE id = $1",
        id.0
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    metrics::counter!("plackett_submissions_total").increment(1);
    Ok(ranking_id)
}

/// Locks the task of an assignment, before the assignment itself: leasing locks in that order, so
/// that none waits for the other.
async fn lock_task(db: &mut PgConnection, id: AssignmentId) -> sqlx::Result<()> {
    sqlx::query!(
        "SELECT t.id FROM tasks t JOIN assignments a ON a.task_id = t.id WHERE a.id = $1 FOR UPDATE OF t",
        id.0
    )
    .fetch_optional(db)
    .await?;
    Ok(())
}

/// Of an expired assignment whose task is locked: a free place again, or late without one.
async fn take_place_back(db: &mut PgConnection, id: AssignmentId) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        UPDATE assignments a
        SET status = 'submitted', is_late = TRUE,
            place = (
                SELECT n::SMALLINT FROM generate_series(0, t.overlap - 1) AS n
                WHERE NOT EXISTS (SELECT 1 FROM assignments b WHERE b.task_id = t.id AND b.place = n)
                ORDER BY n LIMIT 1)
        FROM tasks t
        WHERE a.id = $1 AND t.id = a.task_id
        "#,
        id.0
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Gives an assignment back with a reason.
///
/// # Errors
/// `Invalid` for an unknown reason, `Conflict` when the work has ended.
pub async fn skip(
    db: &mut PgConnection,
    id: AssignmentId,
    labeler_id: AccountId,
    reason: &str,
    note: &str,
) -> AppResult<()> {
    let mut transaction = db.begin().await?;
    lock_task(&mut transaction, id).await?;
    let assignment = find(&mut transaction, id, labeler_id).await?;
    let form = find_form(&mut transaction, &assignment).await?;
    if !form.has_skip_reason(reason) {
        return Err(AppError::invalid(
            "reason",
            Message::new("error-choose-reason"),
        ));
    }
    let note: String = note.trim().chars().take(4000).collect();
    let done = sqlx::query!(
        r#"
        UPDATE assignments a
        SET status = 'skipped', place = NULL, skip_reason = $3,
            -- Sent again, it keeps what was said first.
            skip_note = CASE a.status WHEN 'skipped' THEN a.skip_note ELSE $4 END,
            ended_at = CASE a.status WHEN 'skipped' THEN a.ended_at ELSE now() END
        WHERE id = $1 AND labeler_id = $2
          AND (status IN ('leased', 'expired') OR (status = 'skipped' AND skip_reason = $3))
        "#,
        id.0,
        labeler_id.0,
        reason,
        note
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    match done.rows_affected() {
        1 => Ok(()),
        _ => Err(AppError::conflict("error-ended-already")),
    }
}
