//! The task that waits behind the one in sight: leased before it is needed, so that a labeler never waits
//! for it, and for a short time, so that nobody else waits long for one that is never opened.

use sqlx::{Connection, PgConnection};

use crate::domain::ids::{AccountId, AssignmentId};
use crate::domain::task::TaskKind;
use crate::error::AppResult;
use crate::store::assignments;

/// How long a lease ahead lasts until it is renewed or its task is opened, in seconds.
pub const SECONDS: f64 = 300.0;

/// The task that already waits behind the one in sight, with its lease renewed; of several the oldest.
pub async fn find_and_renew(
    db: &mut PgConnection,
    labeler_id: AccountId,
) -> AppResult<Option<(AssignmentId, TaskKind)>> {
    let row = sqlx::query!(
        r#"
        UPDATE assignments a
        SET lease_until = greatest(a.lease_until, now() + make_interval(secs => $2))
        FROM tasks t
        WHERE t.id = a.task_id AND a.id = (
            SELECT id FROM assignments
            WHERE labeler_id = $1 AND status = 'leased' AND opened_at IS NULL AND lease_until > now()
            ORDER BY leased_at, id
            LIMIT 1)
        RETURNING a.id, t.kind
        "#,
        labeler_id.0,
        SECONDS
    )
    .fetch_optional(db)
    .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let kind = row.kind.parse();
    let kind = kind.map_err(|message: String| anyhow::anyhow!(message))?;
    Ok(Some((AssignmentId(row.id), kind)))
}

/// Makes a fresh lease one ahead: it ends soon. False, and the lease is given back, where this labeler's
/// other window was faster: one task waits, never two.
pub async fn settle(
    db: &mut PgConnection,
    id: AssignmentId,
    labeler_id: AccountId,
) -> sqlx::Result<bool> {
    let mut transaction = db.begin().await?;
    assignments::lock_task(&mut transaction, id).await?;
    let is_kept = sqlx::query_scalar!(
        r#"
        UPDATE assignments a
        SET status = CASE WHEN o.is_first THEN a.status ELSE 'expired' END,
            place = CASE WHEN o.is_first THEN a.place END,
            ended_at = CASE WHEN o.is_first THEN NULL ELSE now() END,
            lease_until = least(a.lease_until, now() + make_interval(secs => $3))
        FROM (
            SELECT NOT EXISTS (
                SELECT 1
                FROM assignments b
                JOIN assignments mine ON mine.id = $1
                WHERE b.labeler_id = $2 AND b.status = 'leased' AND b.opened_at IS NULL
                  AND b.lease_until > now() AND (b.leased_at, b.id) < (mine.leased_at, mine.id)
            ) AS is_first
        ) o
        WHERE a.id = $1 AND a.labeler_id = $2 AND a.status = 'leased' AND a.opened_at IS NULL
        RETURNING o.is_first AS "is_first!"
        "#,
        id.0,
        labeler_id.0,
        SECONDS
    )
    .fetch_optional(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(is_kept.unwrap_or(false))
}

/// Ends a lease whose task was never shown where the rules have changed since: other guidelines or another consent
/// are to be acknowledged first, or the project is no longer the labeler's. The task comes again under the rules
/// in force. True where it was ended.
pub async fn end_if_stale(db: &mut PgConnection, id: AssignmentId) -> sqlx::Result<bool> {
    let is_stale = sqlx::query_scalar!(
        r#"
        SELECT (p.archived_at IS NOT NULL
                OR NOT (p.is_open OR EXISTS (
                    SELECT 1 FROM members m WHERE m.project_id = p.id AND m.account_id = a.labeler_id))
                OR a.guidelines_version <> coalesce((SELECT max(version) FROM guidelines WHERE project_id = p.id), 0)
                OR EXISTS (
                    SELECT 1 FROM (SELECT max(version) AS version FROM consents WHERE project_id = p.id) c
                    WHERE c.version IS NOT NULL AND NOT EXISTS (
                        SELECT 1 FROM acknowledgements k
                        WHERE k.account_id = a.labeler_id AND k.project_id = p.id AND k.subject = 'consent'
                          AND k.version = c.version AND k.withdrawn_at IS NULL))) AS "is_stale!"
        FROM assignments a
        JOIN tasks t ON t.id = a.task_id
        JOIN projects p ON p.id = t.project_id
        WHERE a.id = $1 AND a.status = 'leased' AND a.opened_at IS NULL AND t.purpose <> 'screening'
        "#,
        id.0
    )
    .fetch_optional(&mut *db)
    .await?;
    if is_stale != Some(true) {
        return Ok(false);
    }
    let mut transaction = db.begin().await?;
    assignments::lock_task(&mut transaction, id).await?;
    let ended = sqlx::query!(
        r#"
        UPDATE assignments SET status = 'expired', place = NULL, ended_at = now()
        WHERE id = $1 AND status = 'leased' AND opened_at IS NULL
        "#,
        id.0
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(ended.rows_affected() > 0)
}
