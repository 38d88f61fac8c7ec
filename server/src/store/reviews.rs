//! Reviews: what labelers said of prompts. Never changed.

use sqlx::PgConnection;

use crate::domain::ids::{AssignmentId, ReviewId};
use crate::domain::review::Review;
use crate::error::AppResult;
use crate::store::submissions::{Head, Submitted};

/// Writes a review. The caller holds the transaction.
pub(super) async fn insert(
    db: &mut PgConnection,
    assignment_id: AssignmentId,
    head: &Head<'_>,
    review: &Review,
) -> AppResult<Submitted> {
    let id = ReviewId::new();
    let content = serde_json::to_value(review).map_err(anyhow::Error::from)?;
    sqlx::query!(
        r#"
        INSERT INTO reviews (id, assignment_id, version, idempotency_key, request_sha256, content, note,
                             active_ms, idle_ms)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        "#,
        id.0,
        assignment_id.0,
        head.version,
        head.key,
        head.digest,
        content,
        review.note,
        head.time.active_ms,
        head.time.idle_ms
    )
    .execute(db)
    .await?;
    Ok(Submitted {
        id: id.0,
        version: head.version,
    })
}
