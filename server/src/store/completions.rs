//! Completions, and the task over them. A task and its candidates appear together: nobody can be
//! handed a task whose candidates are still being written.

use serde_json::Value;
use sqlx::PgConnection;

use crate::domain::ids::{CheckpointId, CompletionId, ProjectId, PromptId, RunId, TaskId};

/// One model output for a prompt, to be stored.
#[derive(Debug, Clone)]
pub struct NewCompletion {
    /// The text.
    pub text: String,
    /// Who made it.
    pub model: String,
    /// The checkpoint that made it, where it is one of ours.
    pub checkpoint_id: Option<CheckpointId>,
    /// How it was drawn.
    pub sampling: Value,
    /// False when the token limit cut it off.
    pub is_finished: bool,
}

/// Stores a prompt's completions and opens a task over all of them, inside the caller's
/// transaction. Without an `overlap` the task has the one that its project has for the prompt's category.
pub async fn insert_task(
    db: &mut PgConnection,
    project_id: ProjectId,
    prompt_id: PromptId,
    completions: &[NewCompletion],
    overlap: Option<i16>,
    run_id: Option<RunId>,
) -> sqlx::Result<TaskId> {
    let task_id = TaskId::new();
    sqlx::query!(
        r#"
        INSERT INTO tasks (id, project_id, prompt_id, overlap, run_id, language)
        SELECT $1, p.id, q.id, coalesce($4, (p.overlap_by_category ->> q.category)::SMALLINT, p.overlap), $5, q.language
        FROM projects p
        JOIN prompts q ON q.id = $3
        WHERE p.id = $2
        "#,
        task_id.0,
        project_id.0,
        prompt_id.0,
        overlap,
        run_id.map(|id| id.0)
    )
    .execute(&mut *db)
    .await?;
    for (slot, completion) in (0i16..).zip(completions) {
        let id = insert(&mut *db, prompt_id, completion, run_id).await?;
        sqlx::query!(
            "INSERT INTO candidates (task_id, slot, completion_id) VALUES ($1, $2, $3)",
            task_id.0,
            slot,
            id.0
        )
        .execute(&mut *db)
        .await?;
    }
    Ok(task_id)
}

/// Stores one completion.
pub async fn insert(
    db: &mut PgConnection,
    prompt_id: PromptId,
    completion: &NewCompletion,
    run_id: Option<RunId>,
) -> sqlx::Result<CompletionId> {
    let id = CompletionId::new();
    sqlx::query!(
        r#"
        INSERT INTO completions (id, prompt_id, text, model, checkpoint_id, run_id, sampling, is_finished)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        "#,
        id.0,
        prompt_id.0,
        // Postgres keeps no NUL in text, but a model may write one.
        completion.text.replace('\0', "\u{fffd}"),
        completion.model,
        completion.checkpoint_id.map(|id| id.0),
        run_id.map(|id| id.0),
        completion.sampling,
        completion.is_finished
    )
    .execute(db)
    .await?;
    Ok(id)
}

/// How many tasks a run opened.
pub async fn count_tasks_of_run(db: &mut PgConnection, run_id: RunId) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "n!" FROM tasks WHERE run_id = $1"#,
        run_id.0
    )
    .fetch_one(db)
    .await
}
