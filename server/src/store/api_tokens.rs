//! Bearer tokens of programs that speak the JSON API.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::auth::token::Token;
use crate::domain::ids::{AccountId, ApiTokenId};
use crate::store::accounts::Account;

/// A token as its owner sees it; the secret is shown once, at its making.
#[derive(Debug)]
pub struct ApiToken {
    /// Key to revoke it by.
    pub id: ApiTokenId,
    /// What its owner calls it.
    pub label: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last used.
    pub last_used_at: Option<DateTime<Utc>>,
}

/// Makes a token for an account.
///
/// # Errors
/// When the system has no randomness or the database refuses.
pub async fn create(
    db: &mut PgConnection,
    account_id: AccountId,
    label: &str,
) -> anyhow::Result<Token> {
    let token = Token::generate()?;
    sqlx::query!(
        "INSERT INTO api_tokens (id, token_hash, account_id, label) VALUES ($1, $2, $3, $4)",
        ApiTokenId::new().0,
        token.hash(),
        account_id.0,
        label
    )
    .execute(db)
    .await?;
    Ok(token)
}

/// The enabled account of a token that was not revoked, and notes that the token was used (at most
/// once a minute, so that asking does not write).
pub async fn find_account(
    db: &mut PgConnection,
    token_hash: &[u8],
) -> sqlx::Result<Option<Account>> {
    let row = sqlx::query!(
        r#"
        SELECT coalesce(t.last_used_at < now() - interval '1 minute', TRUE) AS "is_stale!",
               a.id AS "id: AccountId", a.email, a.name, a.password_hash, a.roles, a.is_simulated,
               a.created_at, a.disabled_at,
               EXISTS (SELECT 1 FROM members m WHERE m.account_id = a.id AND m.role = 'admin') AS "is_project_admin!"
        FROM api_tokens t
        JOIN accounts a ON a.id = t.account_id
        WHERE t.token_hash = $1 AND t.revoked_at IS NULL AND a.disabled_at IS NULL
        "#,
        token_hash
    )
    .fetch_optional(&mut *db)
    .await?;
    let Some(row) = row else { return Ok(None) };
    if row.is_stale {
        sqlx::query!(
            "UPDATE api_tokens SET last_used_at = now() WHERE token_hash = $1",
            token_hash
        )
        .execute(db)
        .await?;
    }
    Ok(Some(Account {
        id: row.id,
        email: row.email,
        name: row.name,
        password_hash: row.password_hash,
        roles: row.roles,
        is_simulated: row.is_simulated,
        created_at: row.created_at,
        disabled_at: row.disabled_at,
        is_project_admin: row.is_project_admin,
    }))
}

/// The live tokens of an account, newest first.
pub async fn list(db: &mut PgConnection, account_id: AccountId) -> sqlx::Result<Vec<ApiToken>> {
    sqlx::query_as!(
        ApiToken,
        r#"
        SELECT id AS "id: ApiTokenId", label, created_at, last_used_at
        FROM api_tokens
        WHERE account_id = $1 AND revoked_at IS NULL
        ORDER BY created_at DESC
        "#,
        account_id.0
    )
    .fetch_all(db)
    .await
}

/// Revokes a token of an account.
pub async fn revoke(
    db: &mut PgConnection,
    account_id: AccountId,
    id: ApiTokenId,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "UPDATE api_tokens SET revoked_at = now() WHERE account_id = $1 AND id = $2 AND revoked_at IS NULL",
        account_id.0,
        id.0
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}
