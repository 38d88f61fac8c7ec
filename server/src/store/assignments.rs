//! A labeler's work on a task, from lease to its end: opening, drafting and skipping. The queue is in
//! `queue.rs`, submissions in `submissions.rs`.

use std::sync::Arc;

use serde_json::Value;
use sqlx::{Connection, PgConnection};

use crate::domain::assignment::AssignmentStatus;
use crate::domain::form::Form;
use crate::domain::ids::{AccountId, AssignmentId, ProjectId, TaskId};
use crate::domain::ranking::LONGEST_NOTE;
use crate::domain::submission::{Input, TimeSpent};
use crate::domain::task::{Purpose, TaskKind};
use crate::error::{AppError, AppResult};
use crate::message::Message;
use crate::store::{forms, screening_work};

/// What a labeler holds and has not ended, in any project: what is in sight before what waits behind
/// it, the oldest first.
pub async fn find_open(
    db: &mut PgConnection,
    labeler_id: AccountId,
) -> AppResult<Option<(AssignmentId, TaskKind)>> {
    let row = sqlx::query!(
        r#"
        SELECT a.id, t.kind
        FROM assignments a
        JOIN tasks t ON t.id = a.task_id
        WHERE a.labeler_id = $1 AND a.status = 'leased' AND a.lease_until > now()
        ORDER BY a.opened_at IS NULL, a.leased_at, a.id
        LIMIT 1
        "#,
        labeler_id.0
    )
    .fetch_optional(db)
    .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let kind = row
        .kind
        .parse()
        .map_err(|message: String| anyhow::anyhow!(message))?;
    Ok(Some((AssignmentId(row.id), kind)))
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
    /// What is done in the task.
    pub kind: TaskKind,
    /// What the task is there for. Never sent to a labeler.
    pub purpose: Purpose,
    /// How many labelers the task is given to.
    pub overlap: i16,
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
    /// Counts changes, so that two tabs notice each other.
    pub draft_revision: i64,
    /// When the lease ends.
    pub lease_until: chrono::DateTime<chrono::Utc>,
    /// When it was leased.
    pub leased_at: chrono::DateTime<chrono::Utc>,
    /// When its page was first shown.
    pub opened_at: Option<chrono::DateTime<chrono::Utc>>,
    /// How the time in it was spent so far.
    pub time: TimeSpent,
    /// Milliseconds since its page was first shown under this lease, or since the lease where it was not, and those
    /// spent before the lease was renewed.
    pub elapsed_ms: i64,
}

impl Assignment {
    /// Whether its page was shown, or its work has ended.
    pub fn is_opened(&self) -> bool {
        self.opened_at.is_some() || self.status != AssignmentStatus::Leased
    }

    /// Whether its lease ran out before it was submitted. In the table it stays `leased` until somebody leases
    /// the next task.
    pub fn is_late(&self) -> bool {
        self.status.is_open() && self.lease_until <= chrono::Utc::now()
    }
}

/// The live leases of a labeler, newest first, in one project or in all. No lease makes more than
/// [`MOST_LEASES`](super::queue::MOST_LEASES) in a project; a draft that revives one that ran out may.
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

/// Finds a labeler's own assignment; somebody else's does not exist for them. `IS NOT DISTINCT FROM` is a test that no
/// index serves: the row is found by its key, and never among all that the labeler had.
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
        SELECT a.id, a.task_id, t.project_id, t.kind, t.purpose, t.overlap, a.status, a.display_order, a.form_version,
               a.guidelines_version, a.draft, a.draft_revision, a.lease_until, a.leased_at, a.opened_at,
               a.active_ms, a.idle_ms,
               (extract(epoch FROM clock_timestamp() - coalesce(a.opened_at, a.leased_at)) * 1000)::BIGINT
                   + a.spent_before_ms AS "elapsed_ms!"
        FROM assignments a
        JOIN tasks t ON t.id = a.task_id
        WHERE a.id = $1 AND a.labeler_id IS NOT DISTINCT FROM $2
        "#,
        id.0,
        labeler_id.0
    )
    .fetch_optional(db)
    .await?
    .ok_or(AppError::NotFound("assignment"))?;
    Ok(Assignment {
        elapsed_ms: row.elapsed_ms,
        id,
        task_id: TaskId(row.task_id),
        project_id: ProjectId(row.project_id),
        kind: row
            .kind
            .parse()
            .map_err(|message: String| anyhow::anyhow!(message))?,
        purpose: row
            .purpose
            .parse()
            .map_err(|message: String| anyhow::anyhow!(message))?,
        overlap: row.overlap,
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
        leased_at: row.leased_at,
        opened_at: row.opened_at,
        time: TimeSpent {
            active_ms: row.active_ms,
            idle_ms: row.idle_ms,
        },
    })
}

/// The form of an assignment.
///
/// # Errors
/// When the stored form cannot be read.
pub async fn find_form(db: &mut PgConnection, assignment: &Assignment) -> AppResult<Arc<Form>> {
    forms::find(db, assignment.project_id, assignment.form_version).await
}

/// What is done in the task of a labeler's own assignment.
///
/// # Errors
/// `NotFound`.
pub async fn find_kind(
    db: &mut PgConnection,
    id: AssignmentId,
    labeler_id: AccountId,
) -> AppResult<TaskKind> {
    let kind = sqlx::query_scalar!(
        "SELECT t.kind FROM assignments a JOIN tasks t ON t.id = a.task_id WHERE a.id = $1 AND a.labeler_id IS NOT DISTINCT FROM $2",
        id.0,
        labeler_id.0
    )
    .fetch_optional(db)
    .await?
    .ok_or(AppError::NotFound("assignment"))?;
    Ok(kind
        .parse()
        .map_err(|message: String| anyhow::anyhow!(message))?)
}

/// A draft as it was saved.
#[derive(Debug, Clone, Copy)]
pub struct SavedDraft {
    /// The draft's revision now.
    pub revision: i64,
    /// When the lease ends now.
    pub lease_until: chrono::DateTime<chrono::Utc>,
    /// Whether the place is still held: of a lease that ran out and was given to others it is not.
    pub is_held: bool,
}

/// Saves a draft, of a correction too, and renews the lease. With `revision`, only over that one, so
/// that two tabs never overwrite each other unseen. What is there already conflicts with nothing: it may have
/// come by a request whose answer was lost.
///
/// # Errors
/// `Invalid` for wrong fields, `Conflict` when the work was skipped or another tab saved.
pub async fn save_draft(
    db: &mut PgConnection,
    id: AssignmentId,
    labeler_id: AccountId,
    input: &Input,
    time: TimeSpent,
    revision: Option<i64>,
) -> AppResult<SavedDraft> {
    let assignment = find(db, id, labeler_id).await?;
    let form = find_form(db, &assignment).await?;
    let complaints = input.complaints(assignment.display_order.len(), &form);
    if !complaints.is_empty() {
        return Err(AppError::Invalid(complaints));
    }
    let draft = input.to_json().map_err(anyhow::Error::from)?;
    let time = time.within(assignment.elapsed_ms);
    let saved = sqlx::query_as!(
        SavedDraft,
        r#"
        UPDATE assignments a
        SET draft = $3, draft_revision = a.draft_revision + (a.draft IS DISTINCT FROM $3)::INTEGER,
            active_ms = greatest(a.active_ms, $5), idle_ms = greatest(a.idle_ms, $6),
            lease_until = CASE WHEN a.status = 'leased'
                THEN greatest(a.lease_until, now() + make_interval(secs => p.lease_seconds))
                ELSE a.lease_until END
        FROM tasks t
        JOIN projects p ON p.id = t.project_id
        WHERE a.id = $1 AND a.labeler_id = $2 AND t.id = a.task_id
          -- A correction's draft never comes from a window that has not seen what was submitted.
          AND CASE a.status
              WHEN 'skipped' THEN FALSE
              WHEN 'submitted' THEN a.draft_revision = $4
              ELSE $4::BIGINT IS NULL OR a.draft_revision = $4 OR a.draft = $3 END
        RETURNING a.draft_revision AS revision, a.lease_until, a.status = 'leased' AS "is_held!"
        "#,
        id.0,
        labeler_id.0,
        draft,
        revision,
        time.active_ms,
        time.idle_ms
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

/// Notes that the page of a lease is shown, which a prefetched one's was not: its time begins now.
pub async fn open(db: &mut PgConnection, id: AssignmentId) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        UPDATE assignments a
        SET opened_at = now(),
            lease_until = greatest(a.lease_until, now() + make_interval(secs => p.lease_seconds))
        FROM tasks t
        JOIN projects p ON p.id = t.project_id
        WHERE a.id = $1 AND t.id = a.task_id AND a.status = 'leased' AND a.opened_at IS NULL
        "#,
        id.0
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Locks the task of an assignment, before the assignment itself: leasing locks in that order, so
/// that none waits for the other.
pub(super) async fn lock_task(db: &mut PgConnection, id: AssignmentId) -> sqlx::Result<()> {
    sqlx::query!(
        "SELECT t.id FROM tasks t JOIN assignments a ON a.task_id = t.id WHERE a.id = $1 FOR UPDATE OF t",
        id.0
    )
    .fetch_optional(db)
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
    let note = note.trim();
    if note.chars().count() > LONGEST_NOTE {
        let message = Message::new("error-longer-than").with("most", LONGEST_NOTE);
        return Err(AppError::invalid("note", message));
    }
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
    if assignment.purpose == Purpose::Screening {
        screening_work::advance(&mut transaction, assignment.task_id).await?;
    }
    transaction.commit().await?;
    match done.rows_affected() {
        1 => Ok(()),
        _ => Err(AppError::conflict("error-ended-already")),
    }
}
