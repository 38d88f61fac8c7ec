//! Tasks and their candidates.

use serde_json::Value;
use sqlx::PgConnection;

use crate::domain::ids::{CompletionId, ProjectId, PromptId, RunId, TaskId};

/// What a labeler sees of a task: nothing of the models behind it.
#[derive(Debug)]
pub struct TaskView {
    /// The prompt: a string or turns.
    pub prompt: Value,
    /// Use-case category.
    pub category: String,
    /// Texts of the candidates in slot order.
    pub texts: Vec<String>,
}

/// Opens a ranking task over completions of one prompt.
pub async fn insert(
    db: &mut PgConnection,
    project_id: ProjectId,
    prompt_id: PromptId,
    run_id: Option<RunId>,
    completions: &[CompletionId],
) -> sqlx::Result<TaskId> {
    let id = TaskId::new();
    sqlx::query!(
        r#"
        INSERT INTO tasks (id, project_id, prompt_id, overlap, run_id)
        SELECT $1, p.id, $3, p.overlap, $4 FROM projects p WHERE p.id = $2
        "#,
        id.0,
        project_id.0,
        prompt_id.0,
        run_id.map(|run| run.0)
    )
    .execute(&mut *db)
    .await?;
    let slots: Vec<i16> = (0..completions.len() as i16).collect();
    let completions: Vec<uuid::Uuid> = completions.iter().map(|completion| completion.0).collect();
    sqlx::query!(
        r#"
        INSERT INTO candidates (task_id, slot, completion_id)
        SELECT $1, slot, completion_id FROM unnest($2::SMALLINT[], $3::UUID[]) AS c (slot, completion_id)
        "#,
        id.0,
        &slots,
        &completions
    )
    .execute(db)
    .await?;
    Ok(id)
}

/// The prompt and the candidates' texts of a task.
pub async fn find_view(db: &mut PgConnection, id: TaskId) -> sqlx::Result<TaskView> {
    let prompt = sqlx::query!(
        "SELECT p.body, p.category FROM tasks t JOIN prompts p ON p.id = t.prompt_id WHERE t.id = $1",
        id.0
    )
    .fetch_one(&mut *db)
    .await?;
    let texts = sqlx::query_scalar!(
        r#"
        SELECT c.text
        FROM candidates k
        JOIN completions c ON c.id = k.completion_id
        WHERE k.task_id = $1
        ORDER BY k.slot
        "#,
        id.0
    )
    .fetch_all(db)
    .await?;
    Ok(TaskView {
        prompt: prompt.body,
        category: prompt.category,
        texts,
    })
}

/// How many tasks this labeler has done and could still take, over all projects.
pub async fn progress(
    db: &mut PgConnection,
    labeler_id: crate::domain::ids::AccountId,
) -> sqlx::Result<(i64, i64)> {
    let row = sqlx::query!(
        r#"
        SELECT
            (SELECT count(*) FROM assignments WHERE labeler_id = $1 AND status = 'submitted') AS "done!",
            (SELECT count(*) FROM tasks t
             WHERE t.closed_at IS NULL AND t.n_held < t.overlap
               AND NOT EXISTS (SELECT 1 FROM assignments a
                               WHERE a.task_id = t.id AND a.labeler_id = $1 AND a.status <> 'expired')) AS "waiting!"
        "#,
        labeler_id.0
    )
    .fetch_one(db)
    .await?;
    Ok((row.done, row.waiting))
}
