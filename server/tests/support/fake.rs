//! Rows to work with: a project with open ranking tasks.

use server::domain::form::Form;
use server::domain::ids::{CompletionId, ProjectId, PromptId, TaskId};
use server::domain::task::TaskKind;
use server::store;
use sqlx::{PgConnection, PgPool};

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
        let prompt = format!("What is {task} + 1?");
        let texts: Vec<String> = (0..k)
            .map(|slot| {
                let more = " Truly so.".repeat(slot);
                format!("It is **{}**, says {slot}.{more}", task + slot)
            })
            .collect();
        insert_task(&mut transaction, id, &format!("p{task}"), &prompt, &texts).await;
    }
    transaction.commit().await.unwrap();
    acknowledge(db).await;
    id
}

/// Adds a ranking task over these texts to a project.
pub(crate) async fn insert_task(
    db: &mut PgConnection,
    project_id: ProjectId,
    external_id: &str,
    prompt: &str,
    texts: &[String],
) {
    let prompt_id = PromptId::new();
    sqlx::query("INSERT INTO prompts (id, project_id, external_id, body) VALUES ($1, $2, $3, $4)")
        .bind(prompt_id.0)
        .bind(project_id.0)
        .bind(external_id)
        .bind(serde_json::json!(prompt))
        .execute(&mut *db)
        .await
        .unwrap();
    let mut completions = Vec::new();
    for text in texts {
        let completion_id = CompletionId::new();
        sqlx::query("INSERT INTO completions (id, prompt_id, text, model) VALUES ($1, $2, $3, 'secret-model')")
            .bind(completion_id.0)
            .bind(prompt_id.0)
            .bind(text)
            .execute(&mut *db)
            .await
            .unwrap();
        completions.push(completion_id);
    }
    store::tasks::insert(
        db,
        project_id,
        prompt_id,
        TaskKind::Rank,
        None,
        &completions,
    )
    .await
    .unwrap();
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

/// Changes what the database guards, as a version before that guard could.
pub(crate) async fn rewrite(db: &PgPool, statement: &str) {
    let mut transaction = db.begin().await.unwrap();
    for statement in ["SET LOCAL session_replication_role = 'replica'", statement] {
        sqlx::query(sqlx::AssertSqlSafe(statement.to_owned()))
            .execute(&mut *transaction)
            .await
            .unwrap();
    }
    transaction.commit().await.unwrap();
}
