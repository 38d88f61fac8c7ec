//! Tasks that come back to the labeler who did them, days later and in a new order, to learn how
//! steady they are. A repeat is a task of its own for that labeler alone: nobody ever has one task
//! twice, and a dataset never holds the second answer.

use sqlx::PgConnection;

use crate::domain::ids::{AccountId, ProjectId, TaskId};

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
