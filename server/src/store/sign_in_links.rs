//! Single-use links: an invite to a new account, or a way back into one.

use sqlx::PgConnection;

use crate::auth::token::{self, Token};
use crate::domain::ids::AccountId;

/// How long an invite works.
pub const INVITE_HOURS: i32 = 7 * 24;

/// Makes a link's token for an account, valid for `hours`.
///
/// # Errors
/// When the system has no randomness or the database refuses.
pub async fn create(
    db: &mut PgConnection,
    account_id: AccountId,
    created_by: Option<AccountId>,
    hours: i32,
) -> anyhow::Result<Token> {
    let token = Token::generate()?;
    sqlx::query!(
        r#"
        INSERT INTO sign_in_links (token_hash, account_id, created_by, expires_at)
        VALUES ($1, $2, $3, now() + make_interval(hours => $4))
        "#,
        token.hash(),
        account_id.0,
        created_by.map(|id| id.0),
        hours
    )
    .execute(db)
    .await?;
    Ok(token)
}

/// Whether a link still works, without using it (a page that only looks must not spend it).
pub async fn find(db: &mut PgConnection, secret: &str) -> sqlx::Result<Option<AccountId>> {
    let row = sqlx::query!(
        r#"
        SELECT l.account_id
        FROM sign_in_links l
        JOIN accounts a ON a.id = l.account_id
        WHERE l.token_hash = $1 AND l.used_at IS NULL AND l.expires_at > now() AND a.disabled_at IS NULL
        "#,
        token::hash(secret)
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| AccountId(row.account_id)))
}

/// Uses a link up: of two at once, one gets the account.
pub async fn consume(db: &mut PgConnection, secret: &str) -> sqlx::Result<Option<AccountId>> {
    let row = sqlx::query!(
        r#"
        UPDATE sign_in_links l
        SET used_at = now()
        FROM accounts a
        WHERE l.token_hash = $1 AND l.used_at IS NULL AND l.expires_at > now()
          AND a.id = l.account_id AND a.disabled_at IS NULL
        RETURNING l.account_id
        "#,
        token::hash(secret)
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| AccountId(row.account_id)))
}
