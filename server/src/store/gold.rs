//! Gold tasks: copies of tasks whose right answer is known, mixed into the queue unseen. What is known is a
//! version beside those before it; what labelers said is scored against the newest.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use sqlx::types::Json;

use crate::domain::gold::{Facts, GoldAnswer, GoldScore};
use crate::domain::ids::{AccountId, ProjectId, TaskId};
use crate::domain::task::Purpose;
use crate::error::{AppError, AppResult, OnConstraint};

/// How many labelers a gold or screening task is given to at most: everybody.
pub const EVERYBODY: i16 = 10_000;

/// Makes a copy of a task with a known answer: gold, or a screening task. The caller holds a transaction.
///
/// # Errors
/// `NotFound` where there is no such task or it has nothing to be ranked; `Conflict` where it is no task for
/// the dataset, or a gold task was made of it already and is still mixed in.
pub async fn make(
    db: &mut PgConnection,
    source: TaskId,
    purpose: Purpose,
    answer: &GoldAnswer,
    by: AccountId,
) -> AppResult<TaskId> {
    let id = copy(&mut *db, source, purpose).await?;
    insert_answer(db, id, answer, by).await?;
    Ok(id)
}

/// Copies a task that ranks or compares, with its candidates.
async fn copy(db: &mut PgConnection, source: TaskId, purpose: Purpose) -> AppResult<TaskId> {
    let found = sqlx::query!(
        r#"SELECT purpose, kind IN ('rank', 'compare') AS "has_ranks!" FROM tasks WHERE id = $1"#,
        source.0
    )
    .fetch_optional(&mut *db)
    .await?
    .ok_or(AppError::NotFound("task"))?;
    if found.purpose != Purpose::Label.as_str() || !found.has_ranks {
        return Err(AppError::conflict("error-gold-of-label"));
    }
    let id = TaskId::new();
    sqlx::query!(
        r#"
        INSERT INTO tasks (id, project_id, prompt_id, kind, purpose, overlap, language, copy_of)
        SELECT $1, project_id, prompt_id, kind, $3, $4, language, id FROM tasks WHERE id = $2
        "#,
        id.0,
        source.0,
        purpose.as_str(),
        EVERYBODY
    )
    .execute(&mut *db)
    .await
    .on_constraint("tasks_gold_copy_key", || {
        AppError::conflict("error-gold-already")
    })?;
    sqlx::query!(
        r#"
        INSERT INTO candidates (task_id, slot, completion_id)
        SELECT $1, slot, completion_id FROM candidates WHERE task_id = $2
        "#,
        id.0,
        source.0
    )
    .execute(db)
    .await?;
    Ok(id)
}

/// Adds the next version of what is known of a gold or screening task, and returns its number.
///
/// # Errors
/// `NotFound` where it is neither; `Conflict` where somebody else adds one at this moment.
pub async fn insert_answer(
    db: &mut PgConnection,
    id: TaskId,
    answer: &GoldAnswer,
    by: AccountId,
) -> AppResult<i32> {
    let json = serde_json::to_value(answer).map_err(anyhow::Error::from)?;
    let version = sqlx::query_scalar!(
        r#"
        INSERT INTO gold_answers (task_id, version, answer, created_by)
        SELECT $1, (SELECT coalesce(max(version), 0) + 1 FROM gold_answers WHERE task_id = $1), $2, $3
        FROM tasks WHERE id = $1 AND purpose IN ('gold', 'screening')
        RETURNING version
        "#,
        id.0,
        json,
        by.0
    )
    .fetch_optional(db)
    .await
    .on_constraint("gold_answers_pkey", || {
        AppError::conflict("error-gold-at-once")
    })?;
    version.ok_or(AppError::NotFound("task"))
}

/// A version of what is known.
#[derive(Debug)]
pub struct AnswerVersion {
    /// 1 for the first.
    pub version: i32,
    /// What is known.
    pub answer: GoldAnswer,
    /// Who wrote it down.
    pub by: Option<String>,
    /// When.
    pub at: DateTime<Utc>,
}

/// What is known of a task, newest first.
///
/// # Errors
/// When a stored answer cannot be read.
pub async fn list_answers(db: &mut PgConnection, id: TaskId) -> AppResult<Vec<AnswerVersion>> {
    let rows = sqlx::query!(
        r#"
        SELECT g.version, g.answer, g.created_at, a.name AS "by?"
        FROM gold_answers g
        LEFT JOIN accounts a ON a.id = g.created_by
        WHERE g.task_id = $1
        ORDER BY g.version DESC
        "#,
        id.0
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(AnswerVersion {
                version: row.version,
                answer: read(row.answer)?,
                by: row.by,
                at: row.created_at,
            })
        })
        .collect()
}

/// A stored answer.
pub(super) fn read(json: Value) -> AppResult<GoldAnswer> {
    Ok(serde_json::from_value(json).map_err(anyhow::Error::from)?)
}

/// A gold or screening task as a list shows it.
#[derive(Debug)]
pub struct GoldTask {
    /// Key.
    pub id: TaskId,
    /// The prompt's id in its file.
    pub external_id: String,
    /// The prompt.
    pub body: Value,
    /// What is done in it.
    pub kind: String,
    /// What is known, the newest version.
    pub answer: GoldAnswer,
    /// Labelers who have seen it: they will not see it again, and may talk.
    pub n_exposed: i64,
    /// Whether nobody gets it any more.
    pub is_retired: bool,
}

/// The gold tasks of a project, those in use first, newest first.
///
/// # Errors
/// When a stored answer cannot be read.
pub async fn list(db: &mut PgConnection, project_id: ProjectId) -> AppResult<Vec<GoldTask>> {
    let rows = sqlx::query!(
        r#"
        SELECT t.id, p.external_id, p.body, t.kind, t.closed_at IS NOT NULL AS "is_retired!",
               (SELECT count(*) FROM assignments a WHERE a.task_id = t.id) AS "n_exposed!",
               (SELECT g.answer FROM gold_answers g WHERE g.task_id = t.id
                ORDER BY g.version DESC LIMIT 1) AS answer
        FROM tasks t
        JOIN prompts p ON p.id = t.prompt_id
        WHERE t.project_id = $1 AND t.purpose = 'gold'
        ORDER BY t.closed_at IS NOT NULL, t.id DESC
        "#,
        project_id.0
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(GoldTask {
                id: TaskId(row.id),
                external_id: row.external_id,
                body: row.body,
                kind: row.kind,
                answer: read(row.answer.unwrap_or_default())?,
                n_exposed: row.n_exposed,
                is_retired: row.is_retired,
            })
        })
        .collect()
}

/// How far one labeler agrees with one gold task.
#[derive(Debug)]
pub struct Scored {
    /// The gold task.
    pub task_id: TaskId,
    /// Who labelled it.
    pub labeler_id: AccountId,
    /// Their name.
    pub name: String,
    /// Whether a program did.
    pub is_simulated: bool,
    /// How far they agree with what is known.
    pub score: GoldScore,
}

/// Scores a project's labels of gold tasks, in the order of submission. Of each label the first version counts: it is
/// what the labeler said before anything could tell them what the task was for.
///
/// # Errors
/// When a stored answer cannot be read.
pub async fn scores(db: &mut PgConnection, project_id: ProjectId) -> AppResult<Vec<Scored>> {
    let rows = sqlx::query!(
        r#"
        SELECT t.id, a.labeler_id, u.name, u.is_simulated, g.answer,
               (SELECT coalesce(jsonb_agg(jsonb_strip_nulls(
                           jsonb_build_object('slot', x.slot, 'rank', x.rank, 'flags', x.flags))), '[]')
                FROM ratings x WHERE x.ranking_id = r.id) AS "said!: Json<Vec<Facts>>"
        FROM tasks t
        JOIN assignments a ON a.task_id = t.id AND a.status = 'submitted' AND NOT a.is_adjudication
        JOIN accounts u ON u.id = a.labeler_id
        JOIN rankings r ON r.assignment_id = a.id AND r.version = 1
        CROSS JOIN LATERAL (
            SELECT answer FROM gold_answers g WHERE g.task_id = t.id ORDER BY version DESC LIMIT 1
        ) g
        WHERE t.project_id = $1 AND t.purpose = 'gold'
        ORDER BY r.created_at, r.id
        "#,
        project_id.0
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Scored {
                task_id: TaskId(row.id),
                labeler_id: AccountId(row.labeler_id),
                name: row.name,
                is_simulated: row.is_simulated,
                score: read(row.answer)?.score(&row.said.0),
            })
        })
        .collect()
}
