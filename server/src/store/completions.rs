//! Completions, and the task over them. A task and its candidates appear together: nobody can be
//! handed a task whose candidates are still being written.

use serde_json::Value;
use sqlx::PgConnection;

use crate::domain::ids::{CheckpointId, CompletionId, ProjectId, PromptId, RunId, TaskId};
use crate::store::copy::CopyRows;

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

/// A prompt's completions, to be stored with a task over all of them.
#[derive(Debug)]
pub struct NewTask<'a> {
    /// The prompt.
    pub prompt_id: PromptId,
    /// The prompt's language tag, where known.
    pub language: Option<&'a str>,
    /// How many labelers it is given to.
    pub overlap: i16,
    /// The completions, in slot order.
    pub completions: &'a [NewCompletion],
}

/// A task that was opened.
#[derive(Debug)]
pub struct OpenedTask {
    /// Key.
    pub id: TaskId,
    /// Keys of its completions, in slot order.
    pub completions: Vec<CompletionId>,
}

/// Stores completions and opens their tasks, inside the caller's transaction. Three statements,
/// however many tasks there are.
pub async fn insert_tasks(
    db: &mut PgConnection,
    project_id: ProjectId,
    tasks: &[NewTask<'_>],
    run_id: Option<RunId>,
) -> sqlx::Result<Vec<OpenedTask>> {
    let (mut task_rows, mut candidate_rows) = (CopyRows::new(6), CopyRows::new(3));
    let mut completion_rows = CopyRows::new(8);
    let run_id = run_id.map(|id| id.0);
    let mut opened = Vec::with_capacity(tasks.len());
    for task in tasks {
        let id = TaskId::new();
        let mut completions = Vec::with_capacity(task.completions.len());
        task_rows
            .row()
            .uuid(id.0)
            .uuid(project_id.0)
            .uuid(task.prompt_id.0)
            .small(task.overlap)
            .uuid_or_null(run_id)
            .text_or_null(task.language);
        for (slot, completion) in (0i16..).zip(task.completions) {
            let completion_id = CompletionId::new();
            completions.push(completion_id);
            completion_rows
                .row()
                .uuid(completion_id.0)
                .uuid(task.prompt_id.0)
                // Postgres keeps no NUL in text, but a model may write one.
                .text(&completion.text.replace('\0', "\u{fffd}"))
                .text(&completion.model)
                .uuid_or_null(completion.checkpoint_id.map(|id| id.0))
                .uuid_or_null(run_id)
                .json(&completion.sampling)
                .bool(completion.is_finished);
            candidate_rows
                .row()
                .uuid(id.0)
                .small(slot)
                .uuid(completion_id.0);
        }
        opened.push(OpenedTask { id, completions });
    }
    completion_rows
        .send(
            &mut *db,
            "COPY completions (id, prompt_id, text, model, checkpoint_id, run_id, sampling, is_finished)
             FROM STDIN (FORMAT BINARY)",
        )
        .await?;
    task_rows
        .send(
            &mut *db,
            "COPY tasks (id, project_id, prompt_id, overlap, run_id, language) FROM STDIN (FORMAT BINARY)",
        )
        .await?;
    candidate_rows
        .send(
            db,
            "COPY candidates (task_id, slot, completion_id) FROM STDIN (FORMAT BINARY)",
        )
        .await?;
    Ok(opened)
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
    let task = sqlx::query!(
        r#"
        SELECT q.language,
               coalesce($3, (p.overlap_by_category ->> q.category)::SMALLINT, p.overlap) AS "overlap!"
        FROM projects p
        JOIN prompts q ON q.id = $2
        WHERE p.id = $1
        "#,
        project_id.0,
        prompt_id.0,
        overlap
    )
    .fetch_one(&mut *db)
    .await?;
    let task = NewTask {
        prompt_id,
        language: task.language.as_deref(),
        overlap: task.overlap,
        completions,
    };
    let opened = insert_tasks(db, project_id, &[task], run_id).await?;
    let first = opened.first().ok_or(sqlx::Error::RowNotFound)?;
    Ok(first.id)
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
