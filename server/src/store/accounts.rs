//! Accounts: who signs in and what each may do.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::domain::ids::AccountId;
use crate::domain::role::Role;
use crate::error::{AppError, AppResult, OnConstraint};
use crate::message::Message;

/// A row of `accounts`.
#[derive(Debug, Clone)]
pub struct Account {
    /// Key.
    pub id: AccountId,
    /// Lower-case address to sign in with.
    pub email: String,
    /// The name shown.
    pub name: String,
    /// argon2id in PHC form; none until an invite was used.
    pub password_hash: Option<String>,
    /// Role words.
    pub roles: Vec<String>,
    /// Made by `plackett simulate`.
    pub is_simulated: bool,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was switched off.
    pub disabled_at: Option<DateTime<Utc>>,
    /// Administers single projects (those that [`super::members::list_administered`] lists).
    pub is_project_admin: bool,
}

impl Account {
    /// Whether the account has the role.
    pub fn has(&self, role: Role) -> bool {
        self.may(role.as_str())
    }

    /// Whether the account has the role of that word.
    pub fn may(&self, role: &str) -> bool {
        self.roles.iter().any(|word| word == role)
    }
}

/// Longest e-mail address, in bytes (RFC 5321).
pub const LONGEST_EMAIL: usize = 254;

/// An e-mail address as we compare it: trimmed, lower case.
pub fn normalise_email(email: &str) -> String {
    email.trim().to_lowercase()
}

/// Finds an account by its address, disabled ones too.
pub async fn find_by_email(db: &mut PgConnection, email: &str) -> sqlx::Result<Option<Account>> {
    sqlx::query_as!(
        Account,
        r#"
        SELECT id AS "id: AccountId", email, name, password_hash, roles, is_simulated, created_at, disabled_at,
               EXISTS (SELECT 1 FROM members m WHERE m.account_id = accounts.id AND m.role = 'admin') AS "is_project_admin!"
        FROM accounts
        WHERE email = $1
        "#,
        normalise_email(email)
    )
    .fetch_optional(db)
    .await
}

/// Finds an account by its id, disabled ones too.
pub async fn find(db: &mut PgConnection, id: AccountId) -> sqlx::Result<Option<Account>> {
    sqlx::query_as!(
        Account,
        r#"
        SELECT id AS "id: AccountId", email, name, password_hash, roles, is_simulated, created_at, disabled_at,
               EXISTS (SELECT 1 FROM members m WHERE m.account_id = accounts.id AND m.role = 'admin') AS "is_project_admin!"
        FROM accounts
        WHERE id = $1
        "#,
        id.0
    )
    .fetch_optional(db)
    .await
}

/// Every account, real ones first, then by name.
pub async fn list(db: &mut PgConnection) -> sqlx::Result<Vec<Account>> {
    sqlx::query_as!(
        Account,
        r#"
        SELECT id AS "id: AccountId", email, name, password_hash, roles, is_simulated, created_at, disabled_at,
               EXISTS (SELECT 1 FROM members m WHERE m.account_id = accounts.id AND m.role = 'admin') AS "is_project_admin!"
        FROM accounts
        ORDER BY is_simulated, name, id
        "#
    )
    .fetch_all(db)
    .await
}

/// Makes an account without a password; it gets one through a sign-in link. One without a role of its own
/// may still administer single projects.
///
/// # Errors
/// `Invalid` when the address is taken or is none.
pub async fn insert(
    db: &mut PgConnection,
    email: &str,
    name: &str,
    roles: &[Role],
    is_simulated: bool,
) -> AppResult<AccountId> {
    let email = normalise_email(email);
    if !email.contains('@') || email.len() > LONGEST_EMAIL || email.contains(char::is_whitespace) {
        return Err(AppError::invalid(
            "email",
            Message::new("error-not-an-email"),
        ));
    }
    let name = name.trim();
    if name.is_empty() || name.chars().count() > 100 {
        return Err(AppError::invalid(
            "name",
            Message::new("error-length").with("most", 100),
        ));
    }
    let id = AccountId::new();
    let words: Vec<String> = roles.iter().map(ToString::to_string).collect();
    sqlx::query!(
        "INSERT INTO accounts (id, email, name, roles, is_simulated) VALUES ($1, $2, $3, $4, $5)",
        id.0,
        email,
        name,
        &words,
        is_simulated
    )
    .execute(db)
    .await
    .on_constraint("accounts_email_key", || {
        AppError::invalid("email", Message::new("error-email-taken"))
    })?;
    Ok(id)
}

/// Replaces the roles of an account.
pub async fn set_roles(db: &mut PgConnection, id: AccountId, roles: &[Role]) -> sqlx::Result<bool> {
    let words: Vec<String> = roles.iter().map(ToString::to_string).collect();
    let done = sqlx::query!("UPDATE accounts SET roles = $2 WHERE id = $1", id.0, &words)
        .execute(db)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Sets the password hash.
pub async fn set_password(db: &mut PgConnection, id: AccountId, hash: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE accounts SET password_hash = $2 WHERE id = $1",
        id.0,
        hash
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Switches an account off or on. Off ends its sessions at once (they no longer find it).
pub async fn set_disabled(
    db: &mut PgConnection,
    id: AccountId,
    disabled: bool,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "UPDATE accounts SET disabled_at = CASE WHEN $2 THEN now() END WHERE id = $1",
        id.0,
        disabled
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}
