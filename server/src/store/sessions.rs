//! Browser sessions: found by the hash of their token, with an idle and an absolute limit.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::domain::ids::{AccountId, SessionId};
use crate::store::accounts::Account;

/// A session as its owner sees it.
#[derive(Debug)]
pub struct Session {
    /// Key to revoke it by.
    pub id: SessionId,
    /// What the browser called itself.
    pub user_agent: String,
    /// When it was opened.
    pub created_at: DateTime<Utc>,
    /// When it was last used.
    pub last_seen_at: DateTime<Utc>,
}

impl Session {
    /// Whether this is the session with that id.
    pub fn is(&self, id: &Option<SessionId>) -> bool {
        *id == Some(self.id)
    }
}

/// What waits for somebody, as the navigation says it.
#[derive(Debug, Clone, Copy, Default)]
pub struct News {
    /// Answers to their questions that they have not read.
    pub n_unread: i64,
    /// Questions that nobody has answered, in projects that they may administer.
    pub n_open: i64,
    /// Whether they are, or were, screened to become a labeler, and are none.
    pub is_candidate: bool,
}

/// Opens a session that lasts `days` at most.
pub async fn insert(
    db: &mut PgConnection,
    token_hash: &[u8],
    account_id: AccountId,
    user_agent: &str,
    days: u32,
) -> sqlx::Result<()> {
    let agent: String = user_agent.chars().take(200).collect();
    let days = i32::try_from(days).unwrap_or(i32::MAX);
    sqlx::query!(
        r#"
        INSERT INTO sessions (token_hash, id, account_id, user_agent, expires_at)
        VALUES ($1, $2, $3, $4, now() + make_interval(days => $5))
        "#,
        token_hash,
        SessionId::new().0,
        account_id.0,
        agent,
        days
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Finds the live session of a token, its enabled account and what waits for that, and notes that it was used (at
/// most once a minute, so that reading pages does not write).
pub async fn find_and_touch(
    db: &mut PgConnection,
    token_hash: &[u8],
    idle_hours: u32,
) -> sqlx::Result<Option<(Account, SessionId, News)>> {
    let idle_hours = i32::try_from(idle_hours).unwrap_or(i32::MAX);
    let row = sqlx::query!(
        r#"
        SELECT s.id AS session_id, s.last_seen_at < now() - interval '1 minute' AS "is_stale!",
               a.id AS "id: AccountId", a.email, a.name, a.password_hash, a.roles, a.is_simulated,
               a.created_at, a.disabled_at,
               EXISTS (SELECT 1 FROM members m WHERE m.account_id = a.id AND m.role = 'admin') AS "is_project_admin!",
               (SELECT count(*) FROM questions q JOIN answers w ON w.question_id = q.id
                WHERE q.asked_by = a.id
                  AND NOT EXISTS (SELECT 1 FROM answer_reads r
                                  WHERE r.answer_id = w.id AND r.account_id = a.id)) AS "n_unread!",
               CASE WHEN 'admin' = ANY (a.roles)
                         OR EXISTS (SELECT 1 FROM members m WHERE m.account_id = a.id AND m.role = 'admin')
                   THEN (SELECT count(*) FROM questions q
                         WHERE NOT EXISTS (SELECT 1 FROM answers w WHERE w.question_id = q.id)
                           AND may_administer(a.id, q.project_id))
                   ELSE 0 END AS "n_open!",
               NOT 'labeler' = ANY (a.roles)
                   AND EXISTS (SELECT 1 FROM screenings c
                               WHERE c.account_id = a.id AND c.status <> 'withdrawn') AS "is_candidate!"
        FROM sessions s
        JOIN accounts a ON a.id = s.account_id
        WHERE s.token_hash = $1
          AND s.expires_at > now()
          AND s.last_seen_at > now() - make_interval(hours => $2)
          AND a.disabled_at IS NULL
        "#,
        token_hash,
        idle_hours
    )
    .fetch_optional(&mut *db)
    .await?;
    let Some(row) = row else { return Ok(None) };
    if row.is_stale {
        sqlx::query!(
            "UPDATE sessions SET last_seen_at = now() WHERE token_hash = $1",
            token_hash
        )
        .execute(db)
        .await?;
    }
    let account = Account {
        id: row.id,
        email: row.email,
        name: row.name,
        password_hash: row.password_hash,
        roles: row.roles,
        is_simulated: row.is_simulated,
        created_at: row.created_at,
        disabled_at: row.disabled_at,
        is_project_admin: row.is_project_admin,
    };
    let news = News {
        n_unread: row.n_unread,
        n_open: row.n_open,
        is_candidate: row.is_candidate,
    };
    Ok(Some((account, SessionId(row.session_id), news)))
}

/// The sessions of an account, newest first.
pub async fn list(db: &mut PgConnection, account_id: AccountId) -> sqlx::Result<Vec<Session>> {
    sqlx::query_as!(
        Session,
        r#"
        SELECT id AS "id: SessionId", user_agent, created_at, last_seen_at
        FROM sessions
        WHERE account_id = $1 AND expires_at > now()
        ORDER BY last_seen_at DESC
        "#,
        account_id.0
    )
    .fetch_all(db)
    .await
}

/// Ends one session of an account.
pub async fn delete(
    db: &mut PgConnection,
    account_id: AccountId,
    id: SessionId,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "DELETE FROM sessions WHERE account_id = $1 AND id = $2",
        account_id.0,
        id.0
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Ends every session of an account.
pub async fn delete_all(db: &mut PgConnection, account_id: AccountId) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM sessions WHERE account_id = $1", account_id.0)
        .execute(db)
        .await?;
    Ok(())
}
