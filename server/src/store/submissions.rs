//! Submissions: a labeler's finished work, written in one transaction and never changed. A correction
//! is a new version beside the old one.

use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::domain::assignment::AssignmentStatus;
use crate::domain::form::Form;
use crate::domain::ids::{AccountId, AssignmentId};
use crate::domain::ranking::Ranking;
use crate::domain::review::Review;
use crate::domain::submission::{Input, TimeSpent};
use crate::domain::task::{Purpose, TaskKind};
use crate::domain::writing::{Brief, Writing};
use crate::error::{AppError, AppResult};
use crate::message::Message;
use crate::store::assignments::{self, Assignment};
use crate::store::tasks::{self, TaskView};
use crate::store::{rankings, reviews, screening_work, writings};

/// How many of their last submissions a labeler can correct.
pub const CORRECTABLE: i64 = 20;

/// One submission, as it is sent.
#[derive(Debug)]
pub struct NewSubmission<'a> {
    /// Made by the client, one for each submission.
    pub idempotency_key: &'a str,
    /// What was said.
    pub input: &'a Input,
    /// How the time in the task was spent.
    pub time: TimeSpent,
    /// The version that this corrects, which must be the newest; none for the first.
    pub replaces: Option<i32>,
    /// The draft's revision that was in sight: a newer draft that says something else is not passed over
    /// unseen. None where the client does not look.
    pub revision: Option<i64>,
}

/// What was written, by this request or by the same one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Submitted {
    /// Key of the ranking (or what the task's kind makes).
    pub id: Uuid,
    /// 1 for the first, one more for each correction.
    pub version: i32,
}

/// A submission found by its idempotency key.
#[derive(Debug)]
pub(super) struct Existing {
    /// What it wrote.
    pub(super) submitted: Submitted,
    /// Digest of the request that made it.
    pub(super) request_sha256: Vec<u8>,
}

/// Writes a submission in one transaction. The same key and content again is the same submission; a
/// late one is kept, and takes its place back if that is still free.
///
/// # Errors
/// `Invalid` with every wrong field; `Conflict` when something else was submitted or skipped, when
/// the version to correct is not the newest, or not among this labeler's last [`CORRECTABLE`], or when another
/// window saved a newer draft.
pub async fn submit(
    db: &mut PgConnection,
    id: AssignmentId,
    labeler_id: AccountId,
    new: &NewSubmission<'_>,
) -> AppResult<Submitted> {
    if new.idempotency_key.is_empty() || new.idempotency_key.len() > 200 {
        return Err(AppError::invalid(
            "Idempotency-Key",
            Message::new("error-length").with("most", 200),
        ));
    }
    let mut transaction = db.begin().await?;
    assignments::lock_task(&mut transaction, id).await?;
    let assignment = assignments::find(&mut transaction, id, labeler_id).await?;
    let form = assignments::find_form(&mut transaction, &assignment).await?;
    let content = new.input.to_json().map_err(anyhow::Error::from)?;
    let digest = digest(&content)?;
    let key = new.idempotency_key;
    let said = parse(&mut transaction, &assignment, new.input, &form).await?;
    let kind = assignment.kind;
    if let Some(existing) = find_by_key(&mut transaction, kind, id, key).await? {
        return match existing.request_sha256 == digest {
            true => Ok(existing.submitted),
            false => Err(AppError::conflict("error-key-used")),
        };
    }
    let newest = newest_version(&mut transaction, kind, id).await?;
    match (assignment.status, new.replaces) {
        (AssignmentStatus::Leased, None) => (),
        (AssignmentStatus::Expired, None) => take_place_back(&mut transaction, id).await?,
        (AssignmentStatus::Submitted, Some(version)) if version == newest => {
            check_correctable(&mut transaction, id, labeler_id).await?;
        }
        (AssignmentStatus::Submitted, Some(_)) => {
            return Err(AppError::conflict("error-corrected-already"));
        }
        (AssignmentStatus::Submitted, None) => {
            return Err(AppError::conflict("error-submitted-already"));
        }
        (AssignmentStatus::Skipped, _) => {
            return Err(AppError::conflict("error-skipped-already"));
        }
        (_, Some(_)) => return Err(AppError::conflict("error-nothing-to-correct")),
    }
    let is_newest = new
        .revision
        .is_none_or(|seen| seen == assignment.draft_revision);
    if !is_newest && !is_draft(&assignment, &content) {
        return Err(AppError::conflict("error-draft-newer"));
    }
    let time = new.time.within(assignment.elapsed_ms);
    let time = end(&mut transaction, id, &content, time).await?;
    let head = Head {
        version: newest + 1,
        key,
        digest: &digest,
        time,
    };
    let submitted = match &said {
        Said::Ranking(ranking) => {
            rankings::insert(&mut transaction, &assignment, &head, ranking).await?
        }
        Said::Writing(writing, view) => {
            writings::insert(&mut transaction, &assignment, &head, writing, view).await?
        }
        Said::Review(review) => reviews::insert(&mut transaction, id, &head, review).await?,
    };
    if assignment.purpose == Purpose::Screening {
        screening_work::advance(&mut transaction, assignment.task_id).await?;
    }
    transaction.commit().await?;
    metrics::counter!("plackett_submissions_total").increment(1);
    Ok(submitted)
}

/// A submission that is right, with what writing it needs.
enum Said {
    Ranking(Ranking),
    /// With the task's prompt, which it answers.
    Writing(Writing, Box<TaskView>),
    Review(Review),
}

/// Checks a submission by what its task asks for.
async fn parse(
    db: &mut PgConnection,
    assignment: &Assignment,
    input: &Input,
    form: &Form,
) -> AppResult<Said> {
    let said = match (assignment.kind, input) {
        (TaskKind::Rank | TaskKind::Compare, Input::Ranking(input)) => input
            .parse(&assignment.display_order, form)
            .map(Said::Ranking),
        (TaskKind::Demonstrate, Input::Writing(input)) => {
            let view = tasks::find_view(db, assignment.task_id).await?;
            let brief = Brief::read(view.brief.clone()).map_err(anyhow::Error::from)?;
            let writing = input.parse(&brief, !view.prompt.is_null(), form);
            writing.map(|writing| Said::Writing(writing, Box::new(view)))
        }
        (TaskKind::Review, Input::Review(input)) => input.parse(form).map(Said::Review),
        _ => return Err(AppError::conflict("error-other-kind")),
    };
    said.map_err(AppError::Invalid)
}

/// Finds the submission that a key made.
async fn find_by_key(
    db: &mut PgConnection,
    kind: TaskKind,
    id: AssignmentId,
    key: &str,
) -> sqlx::Result<Option<Existing>> {
    match kind {
        TaskKind::Rank | TaskKind::Compare => rankings::find_by_key(db, id, key).await,
        TaskKind::Demonstrate => writings::find_by_key(db, id, key).await,
        TaskKind::Review => reviews::find_by_key(db, id, key).await,
    }
}

/// The newest version of what was submitted for an assignment; 0 before the first.
pub async fn newest_version(
    db: &mut PgConnection,
    kind: TaskKind,
    id: AssignmentId,
) -> sqlx::Result<i32> {
    match kind {
        TaskKind::Rank | TaskKind::Compare => rankings::newest_version(db, id).await,
        TaskKind::Demonstrate => writings::newest_version(db, id).await,
        TaskKind::Review => reviews::newest_version(db, id).await,
    }
}

/// What every kind of submission carries.
#[derive(Debug)]
pub(super) struct Head<'a> {
    /// 1, 2, 3 ...
    pub(super) version: i32,
    /// Idempotency key.
    pub(super) key: &'a str,
    /// Digest of what was said.
    pub(super) digest: &'a [u8],
    /// How the time in the task was spent until now.
    pub(super) time: TimeSpent,
}

/// Digest of a submission's content, to tell a repeat from another use of its key. How long it took is
/// no part of it.
fn digest(content: &Value) -> AppResult<Vec<u8>> {
    let bytes = serde_json::to_vec(content).map_err(anyhow::Error::from)?;
    Ok(Sha256::digest(&bytes).to_vec())
}

/// Whether this is what the assignment's draft says.
fn is_draft(assignment: &Assignment, content: &Value) -> bool {
    read_draft(assignment).is_some_and(|draft| draft == *content)
}

/// What the draft says, as a submission of it would be written.
fn read_draft(assignment: &Assignment) -> Option<Value> {
    let input = Input::from_json(assignment.kind, assignment.draft.clone()?).ok()?;
    input.to_json().ok()
}

/// Whether the draft of something submitted says something else than its newest version does: the labeler
/// began a correction.
///
/// # Errors
/// When the database fails.
pub async fn is_being_corrected(db: &mut PgConnection, assignment: &Assignment) -> AppResult<bool> {
    let Some(draft) = read_draft(assignment) else {
        return Ok(false);
    };
    let digest = digest(&draft)?;
    let is_newest = sqlx::query_scalar!(
        r#"
        SELECT said.request_sha256 = $2 AS "is_newest!"
        FROM (
            SELECT version, request_sha256 FROM rankings WHERE assignment_id = $1
            UNION ALL
            SELECT version, request_sha256 FROM writings WHERE assignment_id = $1
            UNION ALL
            SELECT version, request_sha256 FROM reviews WHERE assignment_id = $1
        ) said
        ORDER BY said.version DESC
        LIMIT 1
        "#,
        assignment.id.0,
        digest
    )
    .fetch_optional(db)
    .await?;
    Ok(is_newest == Some(false))
}

/// Marks an assignment submitted. What was said stays as its draft, where a correction begins. Returns
/// the time spent so far.
async fn end(
    db: &mut PgConnection,
    id: AssignmentId,
    content: &Value,
    time: TimeSpent,
) -> sqlx::Result<TimeSpent> {
    let row = sqlx::query!(
        r#"
        UPDATE assignments
        SET status = 'submitted', ended_at = CASE status WHEN 'submitted' THEN coalesce(ended_at, now()) ELSE now() END,
            draft = $2, draft_revision = draft_revision + 1,
            active_ms = greatest(active_ms, $3), idle_ms = greatest(idle_ms, $4)
        WHERE id = $1
        RETURNING active_ms, idle_ms
        "#,
        id.0,
        content,
        time.active_ms,
        time.idle_ms
    )
    .fetch_one(db)
    .await?;
    Ok(TimeSpent {
        active_ms: row.active_ms,
        idle_ms: row.idle_ms,
    })
}

/// Refuses to correct what is not among this labeler's last submissions.
async fn check_correctable(
    db: &mut PgConnection,
    id: AssignmentId,
    labeler_id: AccountId,
) -> AppResult<()> {
    let last = list_correctable(db, labeler_id, CORRECTABLE).await?;
    match last.contains(&id) {
        true => Ok(()),
        false => Err(AppError::Conflict(
            Message::new("error-too-old-to-correct").with("most", CORRECTABLE),
        )),
    }
}

/// This labeler's last submissions, newest first, at most [`CORRECTABLE`]. What was said in a screening can
/// be corrected until its last task is done: from then on it is graded and counted as it stands.
pub async fn list_correctable(
    db: &mut PgConnection,
    labeler_id: AccountId,
    limit: i64,
) -> sqlx::Result<Vec<AssignmentId>> {
    let ids = sqlx::query_scalar!(
        r#"
        SELECT a.id FROM assignments a
        WHERE a.labeler_id = $1 AND a.status = 'submitted' AND NOT a.is_adjudication
          AND NOT EXISTS (
              SELECT 1
              FROM screening_items i
              JOIN screenings s ON s.id = i.screening_id
              WHERE i.task_id = a.task_id AND s.status <> 'started')
        ORDER BY a.ended_at DESC, a.id DESC
        LIMIT $2
        "#,
        labeler_id.0,
        limit.min(CORRECTABLE)
    )
    .fetch_all(db)
    .await?;
    Ok(ids.into_iter().map(AssignmentId).collect())
}

/// This labeler's last submission, if there is one, with its kind: where a correction begins.
pub async fn find_last(
    db: &mut PgConnection,
    labeler_id: AccountId,
) -> AppResult<Option<(AssignmentId, TaskKind)>> {
    let Some(id) = list_correctable(&mut *db, labeler_id, 1).await?.pop() else {
        return Ok(None);
    };
    let assignment = assignments::find(db, id, labeler_id).await?;
    Ok(Some((id, assignment.kind)))
}

/// Of an expired assignment whose task is locked: a free place again, or late without one.
async fn take_place_back(db: &mut PgConnection, id: AssignmentId) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        UPDATE assignments a
        SET status = 'submitted', is_late = TRUE, ended_at = NULL,
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
