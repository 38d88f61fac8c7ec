//! Tasks that come back to the labeler who did them, days later and in a new order, to learn how
//! steady they are. A repeat is a task of its own for that labeler alone: nobody ever has one task
//! twice, and a dataset never holds the second answer.

use sqlx::PgConnection;

use crate::domain::ids::{AccountId, ProjectId, TaskId};
use crate::store::queue::Rules;

/// A repeat for this labeler, locked: one that waits for them (its lease ran out), or a new one of a
/// task that they did long enough ago and never again. None when there is no such task.
pub(crate) async fn find_or_make(
    db: &mut PgConnection,
    rules: &Rules,
) -> sqlx::Result<Option<TaskId>> {
    let waiting = sqlx::query_scalar!(
        r#"
        SELECT t.id
        FROM tasks t
        WHERE t.only_for = $2 AND t.purpose = 'repeat' AND t.project_id = $1
          AND t.closed_at IS NULL AND t.n_held < t.overlap
          AND NOT EXISTS (
              SELECT 1 FROM assignments a
              WHERE a.task_id = t.id AND a.labeler_id = $2 AND a.status <> 'expired')
        LIMIT 1
        FOR UPDATE OF t SKIP LOCKED
        "#,
        rules.project_id.0,
        rules.labeler_id.0
    )
    .fetch_optional(&mut *db)
    .await?;
    match waiting {
        Some(id) => Ok(Some(TaskId(id))),
        None => make(db, rules).await,
    }
}

/// Makes a repeat of a random one of the hundred tasks that this labeler did longest ago.
async fn make(db: &mut PgConnection, rules: &Rules) -> sqlx::Result<Option<TaskId>> {
    let id = TaskId::new();
    let made = sqlx::query_scalar!(
        r#"
        WITH old AS (
            SELECT t.*
            FROM assignments a
            JOIN tasks t ON t.id = a.task_id
            WHERE a.labeler_id = $2 AND a.status = 'submitted' AND t.project_id = $1
              AND t.purpose = 'label' AND t.kind IN ('rank', 'compare') AND NOT a.is_adjudication
              AND a.ended_at <= now() - make_interval(days => $3::INT)
              AND NOT EXISTS (SELECT 1 FROM tasks r WHERE r.only_for = $2 AND r.repeat_of = t.id AND r.purpose = 'repeat')
            ORDER BY a.ended_at
            LIMIT 100
        ), chosen AS (
            SELECT * FROM old ORDER BY random() LIMIT 1
        ), made AS (
            INSERT INTO tasks (id, project_id, prompt_id, kind, purpose, overlap, language, repeat_of, only_for)
            SELECT $4, project_id, prompt_id, kind, 'repeat', 1, language, id, $2 FROM chosen
            RETURNING id, repeat_of
        ), copied AS (
            INSERT INTO candidates (task_id, slot, completion_id)
            SELECT made.id, c.slot, c.completion_id FROM made JOIN candidates c ON c.task_id = made.repeat_of
        )
        SELECT id FROM made
        "#,
        rules.project_id.0,
        rules.labeler_id.0,
        i32::from(rules.repeat_after_days),
        id.0
    )
    .fetch_optional(db)
    .await?;
    Ok(made.map(TaskId))
}

/// What a labeler said of a task at first and when it came back.
#[derive(Debug)]
pub struct Repeated {
    /// Who.
    pub labeler_id: AccountId,
    /// Their name.
    pub name: String,
    /// Whether a program labelled.
    pub is_simulated: bool,
    /// The task that came back.
    pub task_id: TaskId,
    /// Ranks at first, by slot; none where it was not judged.
    pub first: Vec<Option<i16>>,
    /// Ranks days later, likewise.
    pub again: Vec<Option<i16>>,
}

/// Every task of a project that came back to its labeler and was submitted again, in the order of its second
/// submission. Of both the first version counts: a correction knows more than the labeler did.
pub async fn list(db: &mut PgConnection, project_id: ProjectId) -> sqlx::Result<Vec<Repeated>> {
    sqlx::query_as!(
        Repeated,
        r#"
        SELECT a.labeler_id AS "labeler_id: AccountId", u.name, u.is_simulated,
               o.task_id AS "task_id: TaskId",
               ARRAY(SELECT x.rank FROM ratings x WHERE x.ranking_id = f.id ORDER BY x.slot)
                   AS "first!: Vec<Option<i16>>",
               ARRAY(SELECT x.rank FROM ratings x WHERE x.ranking_id = r.id ORDER BY x.slot)
                   AS "again!: Vec<Option<i16>>"
        FROM tasks t
        JOIN assignments a ON a.task_id = t.id AND a.labeler_id = t.only_for AND a.status = 'submitted'
        JOIN rankings r ON r.assignment_id = a.id AND r.version = 1
        JOIN assignments o ON o.task_id = t.repeat_of AND o.labeler_id = t.only_for AND o.status = 'submitted'
        JOIN rankings f ON f.assignment_id = o.id AND f.version = 1
        JOIN accounts u ON u.id = a.labeler_id
        WHERE t.project_id = $1 AND t.purpose = 'repeat'
        ORDER BY r.created_at, r.id
        "#,
        project_id.0
    )
    .fetch_all(db)
    .await
}
