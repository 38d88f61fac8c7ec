//! Demonstrations: answers written by people.

use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::ids::{DemonstrationId, ProjectId};
use crate::store::imports::{Refusal, refused_indexes};
use crate::store::prompts::pick;

/// A demonstration to store.
#[derive(Debug, Clone)]
pub struct NewDemonstration {
    /// Its id in the file, unique within the project.
    pub external_id: String,
    /// An array of turns that ends with the assistant's.
    pub messages: Value,
    /// One of the ten categories.
    pub category: String,
    /// What it was made of, with others: those of one writing stay on one side of a split.
    pub writing: Option<String>,
}

/// Stores demonstrations, in order; returns the indexes of those whose id is taken.
pub async fn insert_all(
    db: &mut PgConnection,
    project_id: ProjectId,
    demonstrations: &[NewDemonstration],
) -> sqlx::Result<Vec<(usize, Refusal)>> {
    let ids: Vec<Uuid> = demonstrations
        .iter()
        .map(|_| DemonstrationId::new().0)
        .collect();
    let names: Vec<String> = demonstrations
        .iter()
        .map(|row| row.external_id.clone())
        .collect();
    let messages: Vec<Value> = demonstrations
        .iter()
        .map(|row| row.messages.clone())
        .collect();
    let categories: Vec<String> = demonstrations
        .iter()
        .map(|row| row.category.clone())
        .collect();
    let writings: Vec<Option<String>> = demonstrations
        .iter()
        .map(|row| row.writing.clone())
        .collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let inserted = sqlx::query_scalar!(
        r#"
        INSERT INTO demonstrations (id, project_id, external_id, messages, category, writing)
        SELECT n.id, $1, n.external_id, n.messages, n.category, n.writing
        FROM unnest($2::uuid[], $3::text[], $4::jsonb[], $5::text[], $6::text[])
            AS n (id, external_id, messages, category, writing)
        ON CONFLICT ON CONSTRAINT demonstrations_external_id_key DO NOTHING
        RETURNING id
        "#,
        project_id.0,
        &ids,
        &names,
        &messages,
        &categories,
        &writings as &[Option<String>]
    )
    .fetch_all(&mut *db)
    .await?;
    let refused = refused_indexes(&ids, &inserted);
    let earlier = find_earlier(db, project_id, &pick(&names, &refused)).await?;
    Ok(Refusal::explain(&names, refused, &earlier))
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
        "SELECT external_id FROM demonstrations WHERE project_id = $1 AND external_id = ANY($2) AND created_at <> now()",
        project_id.0,
        names
    )
    .fetch_all(db)
    .await
}
