//! Reviews: what labelers said of prompts. Never changed.

use sqlx::PgConnection;

use crate::domain::ids::{AssignmentId, ReviewId};
use crate::domain::review::Review;
use crate::error::AppResult;
use crate::store::submissions::{Existing, Head, Submitted};

/// Finds the review that a key made.
pub(super) async fn find_by_key(
    db: &mut PgConnection,
    assignment_id: AssignmentId,
    key: &str,
) -> sqlx::Result<Option<Existing>> {
    let row = sqlx::query!(
        r#"
        SELECT id, version, request_sha256
        FROM reviews
        WHERE assignment_id = $1 AND idempotency_key = $2
        "#,
        assignment_id.0,
        key
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| Existing {
        submitted: Submitted {
            id: row.id,
            version: row.version,
        },
        request_sha256: row.request_sha256,
    }))
}

/// The newest version of an assignment's review; 0 before the first.
pub(super) async fn newest_version(db: &mut PgConnection, id: AssignmentId) -> sqlx::Result<i32> {
    sqlx::query_scalar!(
        r#"SELECT coalesce(max(version), 0) AS "version!" FROM reviews WHERE assignment_id = $1"#,
        id.0
    )
    .fetch_one(db)
    .await
}

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
