//! Passwords: argon2id in PHC form, off the async threads, few at a time (each takes 19 MiB).

use std::sync::LazyLock;

use anyhow::Context;
use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use tokio::sync::Semaphore;

use crate::message::Message;

/// Shortest password accepted (NIST SP 800-63B asks for at least 8 and no composition rules).
pub const SHORTEST: usize = 10;

/// Longest password accepted, in bytes, so that nobody makes us hash a novel.
pub const LONGEST: usize = 256;

/// Turns at hashing. Whoever waits for one waits for all who came before, and holds nothing meanwhile that others
/// need.
pub static TURNS: Semaphore = Semaphore::const_new(2);

/// Compared against when the account is unknown, so that both answers take as long.
static NOBODYS: LazyLock<String> = LazyLock::new(|| {
    Argon2::default()
        .hash_password(b"no account has this")
        .map(|hash| hash.to_string())
        .unwrap_or_default()
});

/// The argon2id hash of `password` in PHC form.
///
/// # Errors
/// When hashing fails, which only exhausted memory can cause.
pub async fn hash(password: String) -> anyhow::Result<String> {
    let _permit = TURNS.acquire().await?;
    tokio::task::spawn_blocking(move || {
        Argon2::default()
            .hash_password(password.as_bytes())
            .map(|hash| hash.to_string())
            .context("cannot hash the password")
    })
    .await?
}

/// Whether `password` fits `stored`; takes as long when nothing is stored.
///
/// # Errors
/// When the stored hash cannot be read.
pub async fn verify(password: String, stored: Option<String>) -> anyhow::Result<bool> {
    let _permit = TURNS.acquire().await?;
    tokio::task::spawn_blocking(move || {
        let known = stored.is_some();
        let stored = stored.unwrap_or_else(|| NOBODYS.clone());
        let hash = PasswordHash::new(&stored).context("a stored password hash cannot be read")?;
        let fits = Argon2::default()
            .verify_password(password.as_bytes(), &hash)
            .is_ok();
        Ok(fits && known)
    })
    .await?
}

/// Says in a sentence why `password` is refused, if it is.
pub fn complaint(password: &str) -> Option<Message> {
    if password.chars().count() < SHORTEST {
        return Some(Message::new("error-password-short").with("least", SHORTEST));
    }
    (password.len() > LONGEST).then(|| Message::new("error-password-long").with("most", LONGEST))
}
