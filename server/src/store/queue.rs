//! The queue: which task a labeler gets next, and the lease of it.
//!
//! The promises (one labeler at most once on a task, never more holders than places) are unique
//! constraints; this code only chooses rows such that they are not hit. The order is a key of each
//! task, so the next one is the first entry of an index that holds open tasks only.

use rand::Rng;
use rand::seq::SliceRandom;
use sqlx::{Connection, PgConnection};

use crate::domain::ids::{AccountId, AssignmentId, ProjectId, TaskId};
use crate::domain::task::TaskKind;
use crate::error::{AppError, AppResult};
use crate::message::Message;
use crate::store::repeats;

/// Most live leases of one account in a project. A program may hold a few tasks, so that it never
/// waits for the next; one that leased all of them would leave nothing to the others until its
/// leases end. The page holds two: the one in sight, and the next.
pub const MOST_LEASES: usize = 10;

/// How often a lease is tried again because another request of the same labeler ended their work on
/// the task, late, between choosing and holding it, or because two requests waited for each other.
const TRIES: usize = 10;

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

/// What decides whether a labeler may take a task of a project, and which.
#[derive(Debug)]
pub(crate) struct Rules {
    /// The labeler.
    pub(crate) labeler_id: AccountId,
    /// The project.
    pub(crate) project_id: ProjectId,
    /// Primary language tags that the labeler works in; empty is any.
    pub(crate) languages: Vec<String>,
    /// A program that ranks, and neither writes nor reviews.
    is_simulated: bool,
    gold_share: f64,
    repeat_share: f64,
    pub(crate) repeat_after_days: i16,
    guidelines_version: i32,
    form_version: i32,
}

impl Rules {
    /// Those of a candidate, whose tasks are chosen already.
    pub(crate) fn of_screening(
        labeler_id: AccountId,
        project_id: ProjectId,
        guidelines_version: i32,
        form_version: i32,
    ) -> Self {
        Self {
            labeler_id,
            project_id,
            languages: Vec::new(),
            is_simulated: false,
            gold_share: 0.0,
            repeat_share: 0.0,
            repeat_after_days: 0,
            guidelines_version,
            form_version,
        }
    }
}

/// Leases the next task of a project for a labeler: now and then a gold task or one that they did
/// before, otherwise the first of the queue that they have not had. None when there is none. Call it
/// outside a transaction, so that the locks of one step are gone before the next.
///
/// # Errors
/// `Conflict` when this labeler is not assigned to the project, has not acknowledged its rules, holds
/// [`MOST_LEASES`] already, or when other requests of theirs ended work on every task that was chosen;
/// otherwise only our own failures.
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
        let rules = find_rules(&mut transaction, project_id, labeler_id).await?;
        let task_id = match pick(&mut transaction, &rules, rng).await {
            // A wait for one task may hold another that was taken meanwhile. Of two requests that
            // wait for each other so, Postgres ends one, with all its locks; it waits again.
            Err(error) if is_deadlock(&error) => {
                transaction.rollback().await?;
                continue;
            }
            picked => picked?,
        };
        let Some(task_id) = task_id else {
            transaction.commit().await?;
            return Ok(None);
        };
        let lease = hold_place(&mut transaction, &rules, task_id, rng).await?;
        transaction.commit().await?;
        if lease.is_some() {
            return Ok(lease);
        }
    }
    Err(AppError::conflict("error-busy-account"))
}

/// The task to lease, locked.
async fn pick(
    db: &mut PgConnection,
    rules: &Rules,
    rng: &mut impl Rng,
) -> sqlx::Result<Option<TaskId>> {
    let draw: f64 = rng.random();
    let mut found = None;
    if draw < rules.gold_share {
        found = pick_gold(db, rules).await?;
    } else if draw < rules.gold_share + rules.repeat_share {
        found = repeats::find_or_make(db, rules).await?;
    }
    // Rows that others are leasing right now are passed over. Only when nothing else is left do we
    // wait for them, since one of them may still have a free place.
    if found.is_none() {
        found = pick_unlocked(db, rules).await?;
    }
    if found.is_none() {
        found = pick_waiting(db, rules).await?;
    }
    match found {
        None => pick_known(db, rules).await,
        found => Ok(found),
    }
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

/// Reads what the lease depends on, in a statement after the lock, so that it sees what those before
/// it wrote. A simulated labeler reads no guidelines.
async fn find_rules(
    db: &mut PgConnection,
    project_id: ProjectId,
    labeler_id: AccountId,
) -> AppResult<Rules> {
    let row = sqlx::query!(
        r#"
        SELECT p.gold_share, p.repeat_share, p.repeat_after_days, u.is_simulated,
               p.is_open OR m.account_id IS NOT NULL OR u.is_simulated AS "is_assigned!",
               p.archived_at IS NOT NULL AS "is_archived!",
               coalesce(m.languages, '{}') AS "languages!",
               coalesce(g.version, 0) AS "guidelines_version!",
               coalesce((SELECT max(version) FROM forms f WHERE f.project_id = p.id), 0) AS "form_version!",
               u.is_simulated
               OR (g.version IS NULL OR EXISTS (
                       SELECT 1 FROM acknowledgements k
                       WHERE k.account_id = u.id AND k.project_id = p.id
                         AND k.subject = 'guidelines' AND k.version = g.version))
                  AND (c.version IS NULL OR EXISTS (
                       SELECT 1 FROM acknowledgements k
                       WHERE k.account_id = u.id AND k.project_id = p.id
                         AND k.subject = 'consent' AND k.version = c.version AND k.withdrawn_at IS NULL)) AS "has_acknowledged!",
               (SELECT count(*) FROM assignments a JOIN tasks t ON t.id = a.task_id
                WHERE a.labeler_id = u.id AND t.project_id = p.id
                  AND a.status = 'leased' AND a.lease_until > now()) AS "held!"
        FROM projects p
        JOIN accounts u ON u.id = $2
        LEFT JOIN members m ON m.project_id = p.id AND m.account_id = u.id
        CROSS JOIN LATERAL (SELECT max(version) AS version FROM guidelines WHERE project_id = p.id) g
        CROSS JOIN LATERAL (SELECT max(version) AS version FROM consents WHERE project_id = p.id) c
        WHERE p.id = $1
        "#,
        project_id.0,
        labeler_id.0
    )
    .fetch_optional(db)
    .await?
    .ok_or(AppError::NotFound("project"))?;
    if row.is_archived || !row.is_assigned {
        return Err(AppError::conflict("error-not-assigned"));
    }
    if !row.has_acknowledged {
        return Err(AppError::conflict("error-acknowledge-first"));
    }
    if row.held >= MOST_LEASES as i64 {
        let message = Message::new("error-most-leases").with("held", row.held);
        return Err(AppError::Conflict(message.with("most", MOST_LEASES)));
    }
    Ok(Rules {
        labeler_id,
        project_id,
        languages: row.languages,
        is_simulated: row.is_simulated,
        gold_share: f64::from(row.gold_share),
        repeat_share: f64::from(row.repeat_share),
        repeat_after_days: row.repeat_after_days,
        guidelines_version: row.guidelines_version,
        form_version: row.form_version,
    })
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

/// The query of both pickers: the first task of the queue with a free place that this labeler has not
/// had, in a language of theirs, but for those that the words after `unless` leave out, locked as its last
/// words say. `OFFSET 0` has each exclusion looked up by the key of a task that is met: made a join, it would
/// read all that the labeler ever had, for one task. A macro, since the queries are checked when they are
/// compiled.
macro_rules! pick_task {
    ($db:expr, $rules:expr, $unless:tt, $lock:tt) => {
        sqlx::query_scalar!(
            r#"
        SELECT t.id
        FROM tasks t
        WHERE t.project_id = $1 AND t.purpose = 'label' AND t.closed_at IS NULL AND t.n_held < t.overlap
          AND (cardinality($3::TEXT[]) = 0 OR t.language IS NULL OR t.language = ANY($3))
          AND NOT ($4 AND t.kind IN ('demonstrate', 'review'))
          AND NOT EXISTS (
              SELECT 1 FROM assignments a
              WHERE a.task_id = t.id AND a.labeler_id = $2 AND a.status <> 'expired'
              OFFSET 0)
        "# + $unless
                + r#"
        ORDER BY t.sort_key, t.id
        LIMIT 1
        "# + $lock,
            $rules.project_id.0,
            $rules.labeler_id.0,
            &$rules.languages,
            $rules.is_simulated
        )
        .fetch_optional($db)
        .await
        .map(|id| id.map(TaskId))
    };
}

/// Passes over tasks that others hold, and over those whose copy this labeler had as gold or when they were
/// screened: they would know them again.
async fn pick_unlocked(db: &mut PgConnection, rules: &Rules) -> sqlx::Result<Option<TaskId>> {
    pick_task!(
        db,
        rules,
        "AND NOT EXISTS (
              SELECT 1 FROM tasks c JOIN assignments a ON a.task_id = c.id
              WHERE c.copy_of = t.id AND a.labeler_id = $2
              OFFSET 0)",
        "FOR UPDATE OF t SKIP LOCKED\n        "
    )
}

/// The same, waiting for tasks that others hold.
async fn pick_waiting(db: &mut PgConnection, rules: &Rules) -> sqlx::Result<Option<TaskId>> {
    pick_task!(
        db,
        rules,
        "AND NOT EXISTS (
              SELECT 1 FROM tasks c JOIN assignments a ON a.task_id = c.id
              WHERE c.copy_of = t.id AND a.labeler_id = $2
              OFFSET 0)",
        "FOR UPDATE OF t\n        "
    )
}

/// Whatever is left: a task that is known from its copy is better labelled than never done.
async fn pick_known(db: &mut PgConnection, rules: &Rules) -> sqlx::Result<Option<TaskId>> {
    pick_task!(db, rules, "", "FOR UPDATE OF t\n        ")
}

/// Any gold task whose prompt this labeler has not had, in this task or another: what comes a second time is
/// known again, and says that it is not there for its label.
async fn pick_gold(db: &mut PgConnection, rules: &Rules) -> sqlx::Result<Option<TaskId>> {
    let id = sqlx::query_scalar!(
        r#"
        SELECT t.id
        FROM tasks t
        WHERE t.project_id = $1 AND t.purpose = 'gold' AND t.closed_at IS NULL AND t.n_held < t.overlap
          AND (cardinality($3::TEXT[]) = 0 OR t.language IS NULL OR t.language = ANY($3))
          AND NOT ($4 AND t.kind IN ('demonstrate', 'review'))
          AND NOT EXISTS (
              SELECT 1 FROM assignments a JOIN tasks o ON o.id = a.task_id
              WHERE a.labeler_id = $2 AND o.prompt_id = t.prompt_id)
        ORDER BY random()
        LIMIT 1
        FOR UPDATE OF t SKIP LOCKED
        "#,
        rules.project_id.0,
        rules.labeler_id.0,
        &rules.languages,
        rules.is_simulated
    )
    .fetch_optional(db)
    .await?;
    Ok(id.map(TaskId))
}

/// Takes the lowest free place of a locked task: among n + 1 places n holders leave one free. An
/// expired assignment of the same labeler is renewed, with its order and draft. None when this labeler
/// ended work on the task after it was chosen: the choice cannot see what another request of theirs
/// wrote while it ran.
pub(crate) async fn hold_place(
    db: &mut PgConnection,
    rules: &Rules,
    task_id: TaskId,
    rng: &mut impl Rng,
) -> AppResult<Option<Lease>> {
    let task = sqlx::query!(
        r#"
        SELECT kind, ARRAY(SELECT slot FROM candidates WHERE task_id = $1 ORDER BY slot) AS "slots!"
        FROM tasks
        WHERE id = $1
        "#,
        task_id.0
    )
    .fetch_one(&mut *db)
    .await?;
    let kind = task
        .kind
        .parse()
        .map_err(|message: String| anyhow::anyhow!(message))?;
    let mut order = task.slots;
    order.shuffle(rng);
    let row = sqlx::query!(
        r#"
        INSERT INTO assignments
            (id, task_id, labeler_id, place, display_order, guidelines_version, form_version, lease_until,
             chosen_by, disagreement)
        SELECT $1, t.id, $2, free.place, $4, $5, $6, now() + make_interval(secs => p.lease_seconds),
               t.chosen_by, t.disagreement
        FROM tasks t
        JOIN projects p ON p.id = t.project_id
        CROSS JOIN LATERAL (
            SELECT n::SMALLINT AS place FROM generate_series(0, t.n_held) AS n
            WHERE NOT EXISTS (SELECT 1 FROM assignments a WHERE a.task_id = t.id AND a.place = n)
            ORDER BY n LIMIT 1
        ) AS free
        WHERE t.id = $3
        ON CONFLICT ON CONSTRAINT assignments_task_labeler_key DO UPDATE
            SET status = 'leased', place = EXCLUDED.place, leased_at = now(),
                lease_until = EXCLUDED.lease_until, ended_at = NULL, opened_at = NULL,
                -- The rules in force now; but what was typed belongs to its form.
                guidelines_version = EXCLUDED.guidelines_version,
                form_version = CASE WHEN assignments.draft IS NULL
                    THEN EXCLUDED.form_version ELSE assignments.form_version END,
                chosen_by = EXCLUDED.chosen_by, disagreement = EXCLUDED.disagreement
            WHERE assignments.status = 'expired'
        RETURNING id, display_order
        "#,
        AssignmentId::new().0,
        rules.labeler_id.0,
        task_id.0,
        &order,
        rules.guidelines_version,
        rules.form_version
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| Lease {
        assignment_id: AssignmentId(row.id),
        task_id,
        kind,
        display_order: row.display_order,
    }))
}
