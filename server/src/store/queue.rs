//! The queue: which task a labeler gets next, and the lease of it.
//!
//! The promises (one labeler at most once on a task, never more holders than places) are unique
//! constraints; the choice only picks rows such that they are not hit. The order is a key of each
//! task, so the next one is the first entry of an index that holds open tasks only.
//!
//! Choosing and holding is one call of the function `lease_next`, whose statements see what those before them
//! locked (`migrations/20261127100000_lease_and_submit_in_one_call.sql`): a lease waits for the database once.

use rand::Rng;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::ids::{AccountId, AssignmentId, ProjectId, TaskId};
use crate::domain::task::TaskKind;
use crate::error::{AppError, AppResult};
use crate::message::Message;

/// Most live leases of one account in a project. A program may hold a few tasks, so that it never
/// waits for the next; one that leased all of them would leave nothing to the others until its
/// leases end. The page holds two: the one in sight, and the next.
pub const MOST_LEASES: usize = 10;

/// How often a lease is tried again because another request of the same labeler ended their work on
/// the task, late, between choosing and holding it, or because two requests waited for each other.
const TRIES: usize = 10;

/// Most candidates of a task: a random number decides where each is shown.
const MOST_CANDIDATES: usize = 9;

/// A fresh or renewed lease.
#[derive(Debug, Clone)]
pub struct Lease {
    /// The assignment.
    pub assignment_id: AssignmentId,
    /// Its task.
    pub task_id: TaskId,
    /// What is done in it.
    pub kind: TaskKind,
    /// Slots in the order shown.
    pub display_order: Vec<i16>,
}

/// Leases the next task of a project for a labeler: now and then a gold task or one that they did
/// before, otherwise the first of the queue that they have not had. None when there is none. Call it
/// outside a transaction, so that the locks of one step are gone before the next.
///
/// # Errors
/// `NotFound` for an unknown project; `Conflict` when this labeler is not assigned to the project, has not
/// acknowledged its rules, holds [`MOST_LEASES`] already, or when other requests of theirs ended work on every
/// task that was chosen; otherwise only our own failures.
pub async fn lease(
    db: &mut PgConnection,
    project_id: ProjectId,
    labeler_id: AccountId,
    rng: &mut impl Rng,
) -> AppResult<Option<Lease>> {
    lease_as(db, project_id, labeler_id, false, rng).await
}

/// [`lease`] for a task that is shown at once: its time begins.
///
/// # Errors
/// As [`lease`].
pub async fn lease_and_open(
    db: &mut PgConnection,
    project_id: ProjectId,
    labeler_id: AccountId,
    rng: &mut impl Rng,
) -> AppResult<Option<Lease>> {
    lease_as(db, project_id, labeler_id, true, rng).await
}

async fn lease_as(
    db: &mut PgConnection,
    project_id: ProjectId,
    labeler_id: AccountId,
    opens: bool,
    rng: &mut impl Rng,
) -> AppResult<Option<Lease>> {
    let mut passes_expired = false;
    for _ in 0..TRIES {
        let draw: f64 = rng.random();
        let asked = sqlx::query!(
            r#"
            SELECT outcome AS "outcome!", n_held, lease_id, chosen, chosen_kind, shown
            FROM lease_next($1, $2, $3, $4, $5, $6, $7, $8, $9)
            "#,
            project_id.0,
            labeler_id.0,
            AssignmentId::new().0,
            TaskId::new().0,
            draw,
            &shuffle(rng),
            MOST_LEASES as i64,
            passes_expired,
            opens
        )
        .fetch_one(&mut *db)
        .await;
        let row = match asked {
            // A wait for one task may hold another that was taken meanwhile. Of two requests that
            // wait for each other so, Postgres ends one, with all its locks; it waits again.
            Err(error) if is_deadlock(&error) => continue,
            asked => asked?,
        };
        match row.outcome.as_str() {
            "leased" => return read_lease(row.lease_id, row.chosen, row.chosen_kind, row.shown),
            "nothing" => return Ok(None),
            "busy" => (),
            "expired_first" => {
                release_expired(&mut *db, project_id).await?;
                passes_expired = true;
            }
            "unknown_project" => return Err(AppError::NotFound("project")),
            "not_assigned" => return Err(AppError::conflict("error-not-assigned")),
            "acknowledge_first" => return Err(AppError::conflict("error-acknowledge-first")),
            "most_leases" => {
                let held = row.n_held.unwrap_or_default();
                let message = Message::new("error-most-leases").with("held", held);
                return Err(AppError::Conflict(message.with("most", MOST_LEASES)));
            }
            other => return Err(anyhow::anyhow!("lease_next says {other:?}").into()),
        }
    }
    Err(AppError::conflict("error-busy-account"))
}

/// The lease that the database tells, if it tells one.
fn read_lease(
    id: Option<Uuid>,
    task: Option<Uuid>,
    kind: Option<String>,
    display_order: Option<Vec<i16>>,
) -> AppResult<Option<Lease>> {
    let (Some(id), Some(task), Some(kind), Some(display_order)) = (id, task, kind, display_order)
    else {
        return Ok(None);
    };
    Ok(Some(Lease {
        assignment_id: AssignmentId(id),
        task_id: TaskId(task),
        kind: kind
            .parse()
            .map_err(|message: String| anyhow::anyhow!(message))?,
        display_order,
    }))
}

/// A random number for each candidate that a task may have: they are shown in the order of theirs.
fn shuffle(rng: &mut impl Rng) -> Vec<f64> {
    (0..MOST_CANDIDATES).map(|_| rng.random()).collect()
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

/// Takes the lowest free place of a locked task. An expired assignment of the same labeler is renewed, with its
/// order and draft. None when this labeler ended work on the task after it was chosen.
pub(crate) async fn hold_place(
    db: &mut PgConnection,
    task_id: TaskId,
    labeler_id: AccountId,
    guidelines_version: i32,
    form_version: i32,
    rng: &mut impl Rng,
) -> AppResult<Option<Lease>> {
    let row = sqlx::query!(
        "SELECT lease_id, task_kind, shown FROM hold_place($1, $2, $3, $4, $5, $6, FALSE)",
        task_id.0,
        labeler_id.0,
        AssignmentId::new().0,
        &shuffle(rng),
        guidelines_version,
        form_version
    )
    .fetch_one(db)
    .await?;
    read_lease(row.lease_id, Some(task_id.0), row.task_kind, row.shown)
}
