//! Plain texts of the pretraining mix.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::ids::{ProjectId, TextId};
use crate::store::imports::{Refusal, refused_indexes};
use crate::store::prompts::pick;

/// A text to store.
#[derive(Debug, Clone)]
pub struct NewText {
    /// Its id in the file, unique within the project.
    pub external_id: String,
    /// The text.
    pub body: String,
}

/// Stores texts, in order; returns the indexes of those whose id is taken.
pub async fn insert_all(
    db: &mut PgConnection,
    project_id: ProjectId,
    texts: &[NewText],
) -> sqlx::Result<Vec<(usize, Refusal)>> {
    let ids: Vec<Uuid> = texts.iter().map(|_| TextId::new().0).collect();
    let names: Vec<String> = texts.iter().map(|row| row.external_id.clone()).collect();
    let bodies: Vec<String> = texts.iter().map(|row| row.body.clone()).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let inserted = sqlx::query_scalar!(
        r#"
        INSERT INTO texts (id, project_id, external_id, body)
        SELECT n.id, $1, n.external_id, n.body
        FROM unnest($2::uuid[], $3::text[], $4::text[]) AS n (id, external_id, body)
        ON CONFLICT ON CONSTRAINT texts_external_id_key DO NOTHING
        RETURNING id
        "#,
        project_id.0,
        &ids,
        &names,
        &bodies
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
        "SELECT external_id FROM texts WHERE project_id = $1 AND external_id = ANY($2) AND created_at <> now()",
        project_id.0,
        names
    )
    .fetch_all(db)
    .await
}
