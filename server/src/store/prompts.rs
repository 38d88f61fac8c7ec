//! Prompts: what models are asked.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::ids::{ProjectId, PromptId};
use crate::store::imports::{Refusal, refused_indexes};

/// A prompt to store.
#[derive(Debug, Clone)]
pub struct NewPrompt {
    /// Its id in the file, unique within the project.
    pub external_id: String,
    /// A JSON text, or an array of turns.
    pub body: Value,
    /// One of the ten categories.
    pub category: String,
    /// Whose prompt it is, where the file says.
    pub customer: Option<String>,
    /// Language tag, where the file says.
    pub language: Option<String>,
}

/// A prompt as a list shows it.
#[derive(Debug, Clone)]
pub struct Prompt {
    /// Key; later prompts have later keys.
    pub id: PromptId,
    /// Its id in the file it came from.
    pub external_id: String,
    /// A JSON text, or an array of turns.
    pub body: Value,
    /// One of the ten categories.
    pub category: String,
    /// Language tag, where known.
    pub language: Option<String>,
    /// Where it came from.
    pub source: String,
    /// When it was stored.
    pub created_at: DateTime<Utc>,
    /// How many completions it has.
    pub n_completions: i64,
}

/// Which prompts to list.
#[derive(Debug, Clone, Default)]
pub struct PromptFilter {
    /// Text that the id or the body holds; empty for any.
    pub search: String,
    /// A category; empty for any.
    pub category: String,
    /// Only prompts older than this one: the last of the page before.
    pub before: Option<PromptId>,
}

/// Stores prompts, in order; returns the indexes of those whose id is taken.
pub async fn insert_all(
    db: &mut PgConnection,
    project_id: ProjectId,
    prompts: &[NewPrompt],
) -> sqlx::Result<Vec<(usize, Refusal)>> {
    let rows: Vec<&NewPrompt> = prompts.iter().collect();
    let (ids, inserted) = insert_new(db, project_id, &rows).await?;
    let refused = refused_indexes(&ids, &inserted);
    let names: Vec<String> = rows.iter().map(|row| row.external_id.clone()).collect();
    let earlier = find_earlier(db, project_id, &pick(&names, &refused)).await?;
    Ok(Refusal::explain(&names, refused, &earlier))
}

/// Stores those prompts whose id is free, the first of several with one id. Returns the keys that all
/// would have, and the keys of those that were stored.
pub(crate) async fn insert_new(
    db: &mut PgConnection,
    project_id: ProjectId,
    prompts: &[&NewPrompt],
) -> sqlx::Result<(Vec<Uuid>, Vec<Uuid>)> {
    let ids: Vec<Uuid> = prompts.iter().map(|_| PromptId::new().0).collect();
    if ids.is_empty() {
        return Ok((ids, Vec::new()));
    }
    let names: Vec<String> = prompts.iter().map(|row| row.external_id.clone()).collect();
    let bodies: Vec<Value> = prompts.iter().map(|row| row.body.clone()).collect();
    let categories: Vec<String> = prompts.iter().map(|row| row.category.clone()).collect();
    let customers: Vec<Option<String>> = prompts.iter().map(|row| row.customer.clone()).collect();
    let languages: Vec<Option<String>> = prompts.iter().map(|row| row.language.clone()).collect();
    let inserted = sqlx::query_scalar!(
        r#"
        INSERT INTO prompts (id, project_id, external_id, body, category, language, customer)
        SELECT n.id, $1, n.external_id, n.body, n.category, n.language, n.customer
        FROM unnest($2::uuid[], $3::text[], $4::jsonb[], $5::text[], $6::text[], $7::text[])
             AS n (id, external_id, body, category, language, customer)
        ON CONFLICT ON CONSTRAINT prompts_external_id_key DO NOTHING
        RETURNING id
        "#,
        project_id.0,
        &ids,
        &names,
        &bodies,
        &categories,
        &languages as &[Option<String>],
        &customers as &[Option<String>]
    )
    .fetch_all(db)
    .await?;
    Ok((ids, inserted))
}

/// The texts at some indexes.
pub(crate) fn pick(names: &[String], indexes: &[usize]) -> Vec<String> {
    indexes.iter().map(|index| names[*index].clone()).collect()
}

/// Which of these ids the project had before this transaction.
async fn find_earlier(
    db: &mut PgConnection,
    project_id: ProjectId,
    names: &[String],
) -> sqlx::Result<Vec<String>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query_scalar!(
        "SELECT external_id FROM prompts WHERE project_id = $1 AND external_id = ANY($2) AND created_at <> now()",
        project_id.0,
        names
    )
    .fetch_all(db)
    .await
}

/// A page of a project's prompts, newest first.
pub async fn list(
    db: &mut PgConnection,
    project_id: ProjectId,
    filter: &PromptFilter,
    limit: i64,
) -> sqlx::Result<Vec<Prompt>> {
    sqlx::query_as!(
        Prompt,
        r#"
        SELECT p.id AS "id: PromptId", p.external_id, p.body, p.category, p.language, p.source, p.created_at,
               (SELECT count(*) FROM completions c WHERE c.prompt_id = p.id) AS "n_completions!"
        FROM prompts p
        WHERE p.project_id = $1
          AND ($2 = '' OR p.category = $2)
          AND ($3 = '' OR strpos(lower(p.external_id), lower($3)) > 0
               OR strpos(lower(prompt_text(p.body)), lower($3)) > 0)
          AND ($4::uuid IS NULL OR p.id < $4)
        ORDER BY p.id DESC
        LIMIT $5
        "#,
        project_id.0,
        filter.category,
        filter.search,
        filter.before.map(|id| id.0),
        limit
    )
    .fetch_all(db)
    .await
}

/// How many prompts a project has in each category, most first.
pub async fn count_by_category(
    db: &mut PgConnection,
    project_id: ProjectId,
) -> sqlx::Result<Vec<(String, i64)>> {
    let rows = sqlx::query!(
        r#"
        SELECT category, count(*) AS "n!"
        FROM prompts
        WHERE project_id = $1
        GROUP BY category
        ORDER BY count(*) DESC, category
        "#,
        project_id.0
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.category, row.n)).collect())
}

/// Where the prompts of a project come from, and which languages they are in, where that is known.
#[derive(Debug, Default)]
pub struct Origins {
    /// Sources, in alphabetical order.
    pub sources: Vec<String>,
    /// Language tags, in alphabetical order.
    pub languages: Vec<String>,
}

/// The sources and languages of a project's prompts.
pub async fn find_origins(db: &mut PgConnection, project_id: ProjectId) -> sqlx::Result<Origins> {
    sqlx::query_as!(
        Origins,
        r#"
        SELECT coalesce(array_agg(DISTINCT source ORDER BY source), '{}') AS "sources!",
               coalesce(array_agg(DISTINCT language ORDER BY language) FILTER (WHERE language IS NOT NULL), '{}')
                   AS "languages!"
        FROM prompts
        WHERE project_id = $1
        "#,
        project_id.0
    )
    .fetch_one(db)
    .await
}
