//! Consents that labelers declined, or agreed to and withdrew.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::ids::{AccountId, ProjectId};

/// Writes down that a labeler does not agree to the newest version of a project's consent; with
/// `withdraws` that what they agreed to before holds no longer either. Returns when they had agreed,
/// inside; none where `version` is not the newest.
pub async fn insert(
    db: &mut PgConnection,
    account_id: AccountId,
    project_id: ProjectId,
    version: i32,
    withdraws: bool,
) -> sqlx::Result<Option<Option<DateTime<Utc>>>> {
    let newest = sqlx::query_scalar!(
        "SELECT max(version) FROM consents WHERE project_id = $1",
        project_id.0
    )
    .fetch_one(&mut *db)
    .await?;
    if newest != Some(version) {
        return Ok(None);
    }
    let agreed = sqlx::query!(
        r#"
        UPDATE acknowledgements SET withdrawn_at = now()
        WHERE account_id = $1 AND project_id = $2 AND subject = 'consent' AND withdrawn_at IS NULL AND $3
        RETURNING at
        "#,
        account_id.0,
        project_id.0,
        withdraws
    )
    .fetch_all(&mut *db)
    .await?;
    let agreed_at = agreed.into_iter().map(|row| row.at).max();
    sqlx::query!(
        r#"
        INSERT INTO consent_refusals (id, account_id, project_id, version, agreed_at)
        VALUES ($1, $2, $3, $4, $5)
        "#,
        Uuid::now_v7(),
        account_id.0,
        project_id.0,
        version,
        agreed_at
    )
    .execute(db)
    .await?;
    Ok(Some(agreed_at))
}

/// Ends the leases that a labeler holds in a project; drafts are kept.
pub async fn release_leases(
    db: &mut PgConnection,
    account_id: AccountId,
    project_id: ProjectId,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        UPDATE assignments SET status = 'expired', place = NULL, ended_at = now()
        WHERE id IN (
            SELECT a.id FROM assignments a
            JOIN tasks t ON t.id = a.task_id
            WHERE a.status = 'leased' AND a.labeler_id = $1 AND t.project_id = $2
            ORDER BY t.id, a.id
            FOR UPDATE OF t, a
        )
        "#,
        account_id.0,
        project_id.0
    )
    .execute(db)
    .await?;
    Ok(())
}
