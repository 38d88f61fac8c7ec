//! Submissions: a labeler's finished work, written in one transaction and never changed. A correction
//! is a new version beside the old one.

use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

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

/// What came of a submission that stands.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stands {
    /// This request wrote it.
    Written(Submitted),
    /// The same request was carried out before.
    Repeated(Submitted),
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
    let assignment = assignments::find(db, id, labeler_id).await?;
    submit_found(db, assignment, labeler_id, new).await
}

/// [`submit`] for an assignment that was found a moment ago.
///
/// # Errors
/// As [`submit`].
pub async fn submit_found(
    db: &mut PgConnection,
    mut assignment: Assignment,
    labeler_id: AccountId,
    new: &NewSubmission<'_>,
) -> AppResult<Submitted> {
    if new.idempotency_key.is_empty() || new.idempotency_key.len() > 200 {
        return Err(AppError::invalid(
            "Idempotency-Key",
            Message::new("error-length").with("most", 200),
        ));
    }
    let content = new.input.to_json().map_err(anyhow::Error::from)?;
    let digest = digest(&content)?;
    for _ in 0..TRIES {
        let form = assignments::find_form(db, &assignment).await?;
        let said = parse(db, &assignment, new.input, &form).await?;
        let request = Request {
            assignment: &assignment,
            labeler_id,
            new,
            content: &content,
            digest: &digest,
        };
        match write(db, &request, &said).await? {
            Some(Stands::Written(submitted)) => {
                metrics::counter!("plackett_submissions_total").increment(1);
                return Ok(submitted);
            }
            Some(Stands::Repeated(submitted)) => return Ok(submitted),
            None => (),
        }
        assignment = assignments::find(db, assignment.id, labeler_id).await?;
    }
    Err(AppError::conflict("error-busy-account"))
}

/// How often a submission is read again because the form of its assignment changed meanwhile: it expired and was
/// leased again.
const TRIES: usize = 3;

/// A submission on its way to the database.
#[derive(Debug)]
pub(super) struct Request<'a> {
    /// As it was when the submission was read.
    pub(super) assignment: &'a Assignment,
    /// Who submits.
    pub(super) labeler_id: AccountId,
    /// What came in.
    pub(super) new: &'a NewSubmission<'a>,
    /// What was said, as the draft keeps it.
    pub(super) content: &'a Value,
    /// To tell a repeat from another use of its key.
    pub(super) digest: &'a [u8],
}

impl Request<'_> {
    /// How the time was spent: never more of it than has passed.
    pub(super) fn time(&self) -> TimeSpent {
        self.new.time.within(self.assignment.elapsed_ms)
    }
}

/// Writes what was said in one transaction, which for a ranking is one statement. None when the form has changed
/// since it was read.
async fn write(
    db: &mut PgConnection,
    request: &Request<'_>,
    said: &Said,
) -> AppResult<Option<Stands>> {
    let assignment = request.assignment;
    if let (Said::Ranking(ranking), false) = (said, assignment.purpose == Purpose::Screening) {
        return rankings::submit(db, request, ranking).await;
    }
    let mut transaction = db.begin().await?;
    let stands = match said {
        Said::Ranking(ranking) => rankings::submit(&mut transaction, request, ranking).await?,
        Said::Writing(writing, view) => match begin(&mut transaction, request).await? {
            Begun::Repeated(submitted) => Some(Stands::Repeated(submitted)),
            Begun::OtherForm => None,
            Begun::Head(head) => Some(Stands::Written(
                writings::insert(&mut transaction, assignment, &head, writing, view).await?,
            )),
        },
        Said::Review(review) => match begin(&mut transaction, request).await? {
            Begun::Repeated(submitted) => Some(Stands::Repeated(submitted)),
            Begun::OtherForm => None,
            Begun::Head(head) => Some(Stands::Written(
                reviews::insert(&mut transaction, assignment.id, &head, review).await?,
            )),
        },
    };
    if stands.is_some() && assignment.purpose == Purpose::Screening {
        screening_work::advance(&mut transaction, assignment.task_id).await?;
    }
    transaction.commit().await?;
    Ok(stands)
}

/// What came of beginning a submission.
enum Begun<'a> {
    /// What was said is to be written.
    Head(Head<'a>),
    /// The same request was carried out before.
    Repeated(Submitted),
    /// The form has changed since the submission was read.
    OtherForm,
}

/// Ends the assignment, in the caller's transaction; what was said stays as its draft, where a correction begins.
async fn begin<'a>(db: &mut PgConnection, request: &Request<'a>) -> AppResult<Begun<'a>> {
    let time = request.time();
    let row = sqlx::query!(
        r#"
        SELECT outcome AS "outcome!", said, version, active, idle
        FROM begin_submission($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        "#,
        request.assignment.id.0,
        request.labeler_id.0,
        request.new.idempotency_key,
        request.digest,
        request.new.replaces,
        request.new.revision,
        request.assignment.form_version,
        request.content,
        time.active_ms,
        time.idle_ms,
        CORRECTABLE
    )
    .fetch_one(db)
    .await?;
    let submitted = match read_outcome(&row.outcome, row.said, row.version)? {
        Some(Stands::Written(submitted)) => submitted,
        Some(Stands::Repeated(submitted)) => return Ok(Begun::Repeated(submitted)),
        None => return Ok(Begun::OtherForm),
    };
    Ok(Begun::Head(Head {
        version: submitted.version,
        key: request.new.idempotency_key,
        digest: request.digest,
        time: TimeSpent {
            active_ms: row.active.unwrap_or_default(),
            idle_ms: row.idle.unwrap_or_default(),
        },
    }))
}

/// Reads what `begin_submission` or `submit_ranking` says came of a submission. None when the form has changed
/// since it was read.
pub(super) fn read_outcome(
    outcome: &str,
    said: Option<Uuid>,
    version: Option<i32>,
) -> AppResult<Option<Stands>> {
    let submitted = Submitted {
        // Of one that is yet to be written there is none.
        id: said.unwrap_or_default(),
        version: version.unwrap_or_default(),
    };
    let refusal = match outcome {
        "written" => return Ok(Some(Stands::Written(submitted))),
        "repeated" => return Ok(Some(Stands::Repeated(submitted))),
        "other_form" => return Ok(None),
        "not_found" => return Err(AppError::NotFound("assignment")),
        "key_used" => "error-key-used",
        "corrected_already" => "error-corrected-already",
        "submitted_already" => "error-submitted-already",
        "skipped_already" => "error-skipped-already",
        "nothing_to_correct" => "error-nothing-to-correct",
        "newer_draft" => "error-draft-newer",
        "too_old_to_correct" => {
            let message = Message::new("error-too-old-to-correct").with("most", CORRECTABLE);
            return Err(AppError::Conflict(message));
        }
        other => return Err(anyhow::anyhow!("a submission ended as {other:?}").into()),
    };
    Err(AppError::conflict(refusal))
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

/// The newest version of what was submitted for an assignment; 0 before the first.
pub async fn newest_version(db: &mut PgConnection, id: AssignmentId) -> sqlx::Result<i32> {
    sqlx::query_scalar!(
        r#"SELECT coalesce(max(version), 0) AS "version!" FROM submissions WHERE assignment_id = $1"#,
        id.0
    )
    .fetch_one(db)
    .await
}

/// A submission found by its idempotency key.
#[derive(Debug)]
pub(super) struct Existing {
    /// What it wrote.
    pub(super) submitted: Submitted,
    /// Digest of the request that made it.
    pub(super) request_sha256: Vec<u8>,
}

/// Finds the submission that a key made.
pub(super) async fn find_by_key(
    db: &mut PgConnection,
    assignment_id: AssignmentId,
    key: &str,
) -> sqlx::Result<Option<Existing>> {
    let row = sqlx::query!(
        r#"
        SELECT id AS "id!", version AS "version!", request_sha256 AS "request_sha256!"
        FROM submissions
        WHERE assignment_id = $1 AND idempotency_key = $2
        "#,
        assignment_id.0,
        key
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| Existing {
        submitted: Submitted {
            id: row.id,
            version: row.version,
        },
        request_sha256: row.request_sha256,
    }))
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
        FROM submissions said
        WHERE said.assignment_id = $1
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

/// This labeler's last submissions, newest first, at most [`CORRECTABLE`]. What was said in a screening can
/// be corrected until its last task is done: from then on it is graded and counted as it stands.
pub async fn list_correctable(
    db: &mut PgConnection,
    labeler_id: AccountId,
    limit: i64,
) -> sqlx::Result<Vec<AssignmentId>> {
    let ids = sqlx::query_scalar!(
        r#"SELECT id AS "id!" FROM correctable_assignments($1, $2)"#,
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
