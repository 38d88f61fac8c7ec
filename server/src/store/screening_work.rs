//! A candidate's work on their copies of screening tasks: the one lease that they hold at a time, and what
//! follows when the last task is done.

use rand::Rng;
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{Connection, PgConnection};

use crate::domain::gold::{Facts, GoldScore};
use crate::domain::ids::{AccountId, AssignmentId, ProjectId, ScreeningId, TaskId};
use crate::error::{AppError, AppResult};
use crate::store::queue::{self, Lease};
use crate::store::tasks::Progress;
use crate::store::{gold, screening_grades};

/// Whether an assignment is a candidate's own, of a screening that goes on: what somebody without the role
/// of a labeler may work on.
pub async fn is_own_work(
    db: &mut PgConnection,
    id: AssignmentId,
    account_id: AccountId,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        SELECT EXISTS (
            SELECT 1
            FROM assignments a
            JOIN screening_items i ON i.task_id = a.task_id
            JOIN screenings s ON s.id = i.screening_id
            WHERE a.id = $1 AND a.labeler_id = $2 AND s.account_id = $2 AND s.status = 'started') AS "is_own!"
        "#,
        id.0,
        account_id.0
    )
    .fetch_one(db)
    .await
}

/// The screening that an account works on: in one project, or in any.
pub async fn find_started(
    db: &mut PgConnection,
    account_id: AccountId,
    project_id: Option<ProjectId>,
) -> sqlx::Result<Option<ScreeningId>> {
    let id = sqlx::query_scalar!(
        r#"
        SELECT id FROM screenings
        WHERE account_id = $1 AND status = 'started' AND ($2::UUID IS NULL OR project_id = $2)
        ORDER BY started_at, id
        LIMIT 1
        "#,
        account_id.0,
        project_id.map(|id| id.0)
    )
    .fetch_optional(db)
    .await?;
    Ok(id.map(ScreeningId))
}

/// The live leases of a candidate, newest first, in one project or in all.
pub async fn list_live(
    db: &mut PgConnection,
    account_id: AccountId,
    project_id: Option<ProjectId>,
) -> sqlx::Result<Vec<AssignmentId>> {
    let ids = sqlx::query_scalar!(
        r#"
        SELECT a.id
        FROM assignments a
        JOIN screening_items i ON i.task_id = a.task_id
        JOIN screenings s ON s.id = i.screening_id AND s.status = 'started'
        WHERE a.labeler_id = $1 AND s.account_id = $1 AND ($2::UUID IS NULL OR s.project_id = $2)
          AND a.status = 'leased' AND a.lease_until > now()
        ORDER BY a.leased_at DESC, a.id DESC
        "#,
        account_id.0,
        project_id.map(|id| id.0)
    )
    .fetch_all(db)
    .await?;
    Ok(ids.into_iter().map(AssignmentId).collect())
}

/// Leases the next task of a screening, or finds the one that is leased. None when all is done.
///
/// # Errors
/// `NotFound` for a screening that the account does not work on.
pub async fn lease(
    db: &mut PgConnection,
    id: ScreeningId,
    account_id: AccountId,
    rng: &mut impl Rng,
) -> AppResult<Option<Lease>> {
    let mut transaction = db.begin().await?;
    // Tasks before assignments and their screening, the order in which a submission or a skip locks them: the other
    // way round, a window that submits and one that goes on would wait for each other.
    sqlx::query!(
        r#"
        SELECT t.id
        FROM tasks t
        JOIN screening_items i ON i.task_id = t.id
        JOIN screenings s ON s.id = i.screening_id
        WHERE s.id = $1 AND s.account_id = $2 AND s.status = 'started'
        ORDER BY t.id
        FOR UPDATE OF t
        "#,
        id.0,
        account_id.0
    )
    .fetch_all(&mut *transaction)
    .await?;
    // Two windows that go on at once get the same task.
    let screening = sqlx::query!(
        r#"
        SELECT coalesce((SELECT max(version) FROM guidelines g WHERE g.project_id = s.project_id), 0)
                   AS "guidelines_version!",
               coalesce((SELECT max(version) FROM forms f WHERE f.project_id = s.project_id), 0)
                   AS "form_version!"
        FROM screenings s
        WHERE s.id = $1 AND s.account_id = $2 AND s.status = 'started'
        FOR UPDATE OF s
        "#,
        id.0,
        account_id.0
    )
    .fetch_optional(&mut *transaction)
    .await?
    .ok_or(AppError::NotFound("screening"))?;
    sqlx::query!(
        r#"
        UPDATE assignments a
        SET status = 'expired', place = NULL, ended_at = now()
        FROM screening_items i
        WHERE i.screening_id = $1 AND a.task_id = i.task_id AND a.status = 'leased' AND a.lease_until <= now()
        "#,
        id.0
    )
    .execute(&mut *transaction)
    .await?;
    let next = sqlx::query!(
        r#"
        SELECT i.task_id, t.kind, a.id AS "assignment_id?", a.display_order AS "display_order?",
               coalesce(a.status = 'leased', FALSE) AS "is_leased!"
        FROM screening_items i
        JOIN tasks t ON t.id = i.task_id
        LEFT JOIN assignments a ON a.task_id = i.task_id AND a.labeler_id = $2
        WHERE i.screening_id = $1 AND coalesce(a.status, 'expired') IN ('leased', 'expired')
        ORDER BY i.position
        LIMIT 1
        "#,
        id.0,
        account_id.0
    )
    .fetch_optional(&mut *transaction)
    .await?;
    let Some(next) = next else {
        return Ok(None);
    };
    let task_id = TaskId(next.task_id);
    if let (true, Some(assignment), Some(display_order)) =
        (next.is_leased, next.assignment_id, next.display_order)
    {
        transaction.commit().await?;
        let kind = next
            .kind
            .parse()
            .map_err(|message: String| anyhow::anyhow!(message))?;
        return Ok(Some(Lease {
            assignment_id: AssignmentId(assignment),
            task_id,
            kind,
            display_order,
        }));
    }
    let lease = queue::hold_place(
        &mut transaction,
        task_id,
        account_id,
        screening.guidelines_version,
        screening.form_version,
        rng,
    )
    .await?;
    transaction.commit().await?;
    Ok(lease)
}

/// How far a candidate is, as the pages of tasks say it.
pub async fn progress(db: &mut PgConnection, account_id: AccountId) -> sqlx::Result<Progress> {
    sqlx::query_as!(
        Progress,
        r#"
        SELECT count(*) FILTER (WHERE a.status IN ('submitted', 'skipped')) AS "done!",
               count(*) FILTER (WHERE coalesce(a.status, 'expired') = 'expired') AS "waiting!"
        FROM screenings s
        JOIN screening_items i ON i.screening_id = s.id
        LEFT JOIN assignments a ON a.task_id = i.task_id AND a.labeler_id = s.account_id
        WHERE s.account_id = $1 AND s.status = 'started'
        "#,
        account_id.0
    )
    .fetch_one(db)
    .await
}

/// After a candidate ended a task: when it was the last one, the screening waits for its grades or is
/// decided. The caller holds the transaction that ended it.
pub(super) async fn advance(db: &mut PgConnection, task_id: TaskId) -> AppResult<()> {
    let done = sqlx::query_scalar!(
        r#"
        UPDATE screenings s
        SET status = 'waiting', finished_at = now()
        FROM screening_items own
        WHERE own.task_id = $1 AND s.id = own.screening_id AND s.status = 'started'
          AND NOT EXISTS (
              SELECT 1 FROM screening_items i
              LEFT JOIN assignments a ON a.task_id = i.task_id AND a.labeler_id = s.account_id
              WHERE i.screening_id = s.id AND coalesce(a.status, '') NOT IN ('submitted', 'skipped'))
        RETURNING s.id
        "#,
        task_id.0
    )
    .fetch_optional(&mut *db)
    .await?;
    match done {
        Some(id) => screening_grades::decide(db, ScreeningId(id)).await,
        None => Ok(()),
    }
}

/// One task of a screening, with how the candidate did.
#[derive(Debug)]
pub struct Item {
    /// The candidate's copy.
    pub task_id: TaskId,
    /// What is done in it.
    pub kind: String,
    /// The prompt's id in its file.
    pub external_id: String,
    /// The prompt.
    pub body: Value,
    /// Of the assignment: `leased`, `submitted`, `skipped` or `expired`; `waiting` before it is leased.
    pub status: String,
    /// How far the candidate agrees with what is known now.
    pub score: GoldScore,
    /// Grades, of a text.
    pub grades: Vec<i16>,
    /// What graders noted, where they noted something.
    pub notes: Vec<String>,
}

/// The tasks of a screening in the order in which they are asked.
///
/// # Errors
/// When a stored answer cannot be read.
pub async fn list_items(db: &mut PgConnection, id: ScreeningId) -> AppResult<Vec<Item>> {
    let rows = sqlx::query!(
        r#"
        SELECT i.task_id, t.kind, coalesce(p.external_id, '') AS "external_id!",
               coalesce(p.body, 'null') AS "body!", coalesce(a.status, 'waiting') AS "status!",
               (SELECT g.answer FROM gold_answers g WHERE g.task_id = i.source_id
                ORDER BY g.version DESC LIMIT 1) AS answer,
               (SELECT coalesce(jsonb_agg(jsonb_strip_nulls(
                           jsonb_build_object('slot', x.slot, 'rank', x.rank, 'flags', x.flags))), '[]')
                FROM ratings x
                WHERE x.ranking_id = (SELECT r.id FROM rankings r WHERE r.assignment_id = a.id
                                      ORDER BY r.version DESC LIMIT 1)) AS "said!: Json<Vec<Facts>>",
               ARRAY(SELECT g.grade FROM grades g WHERE g.task_id = i.task_id ORDER BY g.created_at, g.id)
                   AS "grades!",
               ARRAY(SELECT g.note FROM grades g WHERE g.task_id = i.task_id AND g.note <> ''
                     ORDER BY g.created_at, g.id) AS "notes!"
        FROM screening_items i
        JOIN screenings s ON s.id = i.screening_id
        JOIN tasks t ON t.id = i.task_id
        LEFT JOIN prompts p ON p.id = t.prompt_id
        LEFT JOIN assignments a ON a.task_id = i.task_id AND a.labeler_id = s.account_id
        WHERE i.screening_id = $1
        ORDER BY i.position
        "#,
        id.0
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            let answer = row.answer.map(gold::read).transpose()?.unwrap_or_default();
            Ok(Item {
                task_id: TaskId(row.task_id),
                kind: row.kind,
                external_id: row.external_id,
                body: row.body,
                status: row.status,
                score: answer.score(&row.said.0),
                grades: row.grades,
                notes: row.notes,
            })
        })
        .collect()
}
