//! Rankings with their ratings and comparisons: written together, never changed.

use sha2::{Digest, Sha256};
use sqlx::PgConnection;

use crate::domain::ids::{AssignmentId, RankingId};
use crate::domain::ranking::{Ranking, RankingInput};
use crate::error::AppResult;
use crate::store::assignments::Assignment;

/// A ranking found by its idempotency key.
#[derive(Debug)]
pub struct Existing {
    /// Key.
    pub id: RankingId,
    /// Digest of the request that made it.
    pub request_sha256: Vec<u8>,
}

/// Digest of a submission's content, to tell a repeat from another use of its key.
///
/// # Errors
/// Never in practice: the input came from JSON or a form.
pub fn digest(input: &RankingInput) -> AppResult<Vec<u8>> {
    let bytes = serde_json::to_vec(input).map_err(anyhow::Error::from)?;
    Ok(Sha256::digest(&bytes).to_vec())
}

/// Finds the ranking that a key made.
pub async fn find_by_key(
    db: &mut PgConnection,
    assignment_id: AssignmentId,
    key: &str,
) -> sqlx::Result<Option<Existing>> {
    sqlx::query_as!(
        Existing,
        r#"
        SELECT id AS "id: RankingId", request_sha256
        FROM rankings
        WHERE assignment_id = $1 AND idempotency_key = $2
        "#,
        assignment_id.0,
        key
    )
    .fetch_optional(db)
    .await
}

/// Writes a ranking with its ratings and all its pairs. The caller holds the transaction.
pub async fn insert(
    db: &mut PgConnection,
    assignment: &Assignment,
    key: &str,
    digest: &[u8],
    ranking: &Ranking,
) -> sqlx::Result<RankingId> {
    let id = RankingId::new();
    sqlx::query!(
        r#"
        INSERT INTO rankings (id, assignment_id, version, idempotency_key, request_sha256, note)
        SELECT $1, $2, coalesce(max(version), 0) + 1, $3, $4, $5 FROM rankings WHERE assignment_id = $2
        "#,
        id.0,
        assignment.id.0,
        key,
        digest,
        ranking.note
    )
    .execute(&mut *db)
    .await?;
    for judgement in &ranking.judgements {
        sqlx::query!(
            r#"
            INSERT INTO ratings (ranking_id, completion_id, slot, rank, overall, flags)
            SELECT $1, completion_id, slot, $4, $5, $6 FROM candidates WHERE task_id = $2 AND slot = $3
            "#,
            id.0,
            assignment.task_id.0,
            judgement.slot,
            judgement.rank,
            judgement.rating,
            serde_json::json!(judgement.flags)
        )
        .execute(&mut *db)
        .await?;
    }
    let pairs = ranking.comparisons();
    let preferred: Vec<i16> = pairs.iter().map(|pair| pair.preferred).collect();
    let other: Vec<i16> = pairs.iter().map(|pair| pair.other).collect();
    let ties: Vec<bool> = pairs.iter().map(|pair| pair.is_tie).collect();
    sqlx::query!(
        r#"
        INSERT INTO comparisons (ranking_id, preferred_id, other_id, is_tie)
        SELECT $1, a.completion_id, b.completion_id, pair.is_tie
        FROM unnest($3::SMALLINT[], $4::SMALLINT[], $5::BOOLEAN[]) AS pair (preferred, other, is_tie)
        JOIN candidates a ON a.task_id = $2 AND a.slot = pair.preferred
        JOIN candidates b ON b.task_id = $2 AND b.slot = pair.other
        "#,
        id.0,
        assignment.task_id.0,
        &preferred,
        &other,
        &ties
    )
    .execute(db)
    .await?;
    Ok(id)
}
