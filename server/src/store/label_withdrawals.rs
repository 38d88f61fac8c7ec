//! Labelers whose labels are withdrawn from a project: snapshots that are taken while a row is open leave
//! out what they said. What was frozen before stays as it is.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::ids::{AccountId, ProjectId};

/// A withdrawal, open or ended.
#[derive(Debug)]
pub struct LabelWithdrawal {
    /// Whose labels.
    pub account_id: AccountId,
    /// Their name.
    pub name: String,
    /// Whether they did it themselves, by withdrawing their consent.
    pub is_own: bool,
    /// Who did it.
    pub withdrawn_by: Option<String>,
    /// When.
    pub withdrawn_at: DateTime<Utc>,
    /// Who took the labels in again.
    pub ended_by: Option<String>,
    /// When.
    pub ended_at: Option<DateTime<Utc>>,
}

/// Every withdrawal of a project: open ones first, then the newest.
pub async fn list(
    db: &mut PgConnection,
    project_id: ProjectId,
) -> sqlx::Result<Vec<LabelWithdrawal>> {
    sqlx::query_as!(
        LabelWithdrawal,
        r#"
        SELECT w.account_id AS "account_id: AccountId", u.name,
               w.withdrawn_by IS NOT DISTINCT FROM w.account_id AS "is_own!",
               b.name AS "withdrawn_by?", w.withdrawn_at, e.name AS "ended_by?", w.ended_at
        FROM label_withdrawals w
        JOIN accounts u ON u.id = w.account_id
        LEFT JOIN accounts b ON b.id = w.withdrawn_by
        LEFT JOIN accounts e ON e.id = w.ended_by
        WHERE w.project_id = $1
        ORDER BY w.ended_at IS NOT NULL, w.withdrawn_at DESC, w.id
        "#,
        project_id.0
    )
    .fetch_all(db)
    .await
}

/// Whose labels are withdrawn from a project now.
pub async fn list_open(
    db: &mut PgConnection,
    project_id: ProjectId,
) -> sqlx::Result<Vec<AccountId>> {
    sqlx::query_scalar!(
        r#"
        SELECT account_id AS "id: AccountId" FROM label_withdrawals
        WHERE project_id = $1 AND ended_at IS NULL
        ORDER BY account_id
        "#,
        project_id.0
    )
    .fetch_all(db)
    .await
}

/// Somebody who said something in a project.
#[derive(Debug)]
pub struct Said {
    /// Who.
    pub id: AccountId,
    /// Their name.
    pub name: String,
    /// Their address.
    pub email: String,
    /// Submissions.
    pub n_submitted: i64,
    /// Whether their labels are withdrawn now.
    pub is_withdrawn: bool,
}

/// Everybody who submitted something in a project, by name.
pub async fn list_labelers(
    db: &mut PgConnection,
    project_id: ProjectId,
) -> sqlx::Result<Vec<Said>> {
    sqlx::query_as!(
        Said,
        r#"
        SELECT u.id AS "id: AccountId", u.name, u.email, s.n AS "n_submitted!",
               EXISTS (SELECT 1 FROM label_withdrawals w
                       WHERE w.project_id = $1 AND w.account_id = u.id AND w.ended_at IS NULL) AS "is_withdrawn!"
        FROM (SELECT a.labeler_id, count(*) AS n
              FROM assignments a JOIN tasks t ON t.id = a.task_id
              WHERE t.project_id = $1 AND a.status = 'submitted'
              GROUP BY a.labeler_id) s
        JOIN accounts u ON u.id = s.labeler_id
        ORDER BY u.name, u.email, u.id
        "#,
        project_id.0
    )
    .fetch_all(db)
    .await
}

/// Withdraws the labels of an account from a project. False where they are withdrawn already.
pub async fn begin(
    db: &mut PgConnection,
    project_id: ProjectId,
    account_id: AccountId,
    by: AccountId,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"
        INSERT INTO label_withdrawals (id, project_id, account_id, withdrawn_by)
        VALUES ($1, $2, $3, $4)
        ON CONFLICT (project_id, account_id) WHERE ended_at IS NULL DO NOTHING
        "#,
        Uuid::now_v7(),
        project_id.0,
        account_id.0,
        by.0
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Ends the open withdrawal of an account's labels, so that later snapshots take them in again; with
/// `only_own` only one that they began themselves. False where there is none.
pub async fn end(
    db: &mut PgConnection,
    project_id: ProjectId,
    account_id: AccountId,
    by: AccountId,
    only_own: bool,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"
        UPDATE label_withdrawals SET ended_at = now(), ended_by = $3
        WHERE project_id = $1 AND account_id = $2 AND ended_at IS NULL
          AND (NOT $4 OR withdrawn_by = account_id)
        "#,
        project_id.0,
        account_id.0,
        by.0,
        only_own
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() > 0)
}
