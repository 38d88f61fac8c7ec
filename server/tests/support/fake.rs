//! Rows to work with: a project with open ranking tasks.

use server::domain::form::Form;
use server::domain::ids::{CompletionId, ProjectId, PromptId, TaskId};
use server::domain::task::TaskKind;
use server::store;
use sqlx::PgPool;

/// A project with `n` open tasks of `k` candidates each.
pub(crate) async fn project(
    db: &PgPool,
    n: usize,
    k: usize,
    overlap: i16,
    lease_seconds: i32,
) -> ProjectId {
    let mut transaction = db.begin().await.unwrap();
    let id = store::projects::insert(&mut transaction, "study", "Study", overlap, lease_seconds)
        .await
        .unwrap();
    let form = serde_json::to_value(Form::default()).unwrap();
    store::projects::insert_form(&mut transaction, id, &form)
        .await
        .unwrap();
    let guidelines = serde_json::json!({"en": "# Be fair", "zh": "# 公平"});
    store::projects::insert_guidelines(&mut transaction, id, &guidelines, None)
        .await
        .unwrap();
    for task in 0..n {
        let prompt_id = PromptId::new();
        sqlx::query(
            "INSERT INTO prompts (id, project_id, external_id, body) VALUES ($1, $2, $3, $4)",
        )
        .bind(prompt_id.0)
        .bind(id.0)
        .bind(format!("p{task}"))
        .bind(serde_json::json!(format!("What is {task} + 1?")))
        .execute(&mut *transaction)
        .await
        .unwrap();
        let mut completions = Vec::new();
        for slot in 0..k {
            let completion_id = CompletionId::new();
            sqlx::query("INSERT INTO completions (id, prompt_id, text, model) VALUES ($1, $2, $3, 'secret-model')")
                .bind(completion_id.0)
                .bind(prompt_id.0)
                .bind(format!(
                "It is **{}**, says {slot}.{}",
                task + slot,
                " Truly so.".repeat(slot)
            ))
                .execute(&mut *transaction)
                .await
                .unwrap();
            completions.push(completion_id);
        }
        store::tasks::insert(
            &mut transaction,
            id,
            prompt_id,
            TaskKind::Rank,
            None,
            &completions,
        )
        .await
        .unwrap();
    }
    transaction.commit().await.unwrap();
    acknowledge(db).await;
    id
}

/// Every account has read the guidelines of every project.
pub(crate) async fn acknowledge(db: &PgPool) {
    sqlx::query(
        "INSERT INTO acknowledgements (account_id, project_id, subject, version)
         SELECT a.id, g.project_id, 'guidelines', g.version FROM accounts a CROSS JOIN guidelines g
         ON CONFLICT DO NOTHING",
    )
    .execute(db)
    .await
    .unwrap();
}

/// An open task of another kind than a ranking, over a prompt or without one.
pub(crate) async fn task(
    db: &PgPool,
    project_id: ProjectId,
    kind: TaskKind,
    prompt: Option<&str>,
    brief: Option<serde_json::Value>,
) -> TaskId {
    let id = TaskId::new();
    let prompt_id = match prompt {
        Some(text) => Some(self::prompt(db, project_id, &id.to_string(), text).await),
        None => None,
    };
    sqlx::query(
        "INSERT INTO tasks (id, project_id, prompt_id, kind, overlap, brief) VALUES ($1, $2, $3, $4, 1, $5)",
    )
    .bind(id.0)
    .bind(project_id.0)
    .bind(prompt_id.map(|prompt| prompt.0))
    .bind(kind.as_str())
    .bind(brief)
    .execute(db)
    .await
    .unwrap();
    id
}

/// A prompt without completions.
pub(crate) async fn prompt(db: &PgPool, project_id: ProjectId, name: &str, text: &str) -> PromptId {
    let id = PromptId::new();
    sqlx::query("INSERT INTO prompts (id, project_id, external_id, body) VALUES ($1, $2, $3, $4)")
        .bind(id.0)
        .bind(project_id.0)
        .bind(name)
        .bind(serde_json::json!(text))
        .execute(db)
        .await
        .unwrap();
    id
}
