//! Which key does what on the labeling pages, for each account that chose.

use sqlx::PgConnection;
use sqlx::types::Json;

use crate::domain::ids::AccountId;
use crate::domain::keys::{Bindings, Stored};

/// The keys of an account; those at first where it chose none.
pub async fn find(db: &mut PgConnection, account_id: AccountId) -> sqlx::Result<Bindings> {
    let row = sqlx::query!(
        r#"SELECT keys AS "keys: Json<Stored>", are_on FROM key_bindings WHERE account_id = $1"#,
        account_id.0
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map_or_else(Bindings::default, |row| {
        Bindings::from_stored(&row.keys, row.are_on)
    }))
}

/// Keeps the keys that an account chose.
pub async fn save(
    db: &mut PgConnection,
    account_id: AccountId,
    bindings: &Bindings,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        INSERT INTO key_bindings (account_id, keys, are_on) VALUES ($1, $2, $3)
        ON CONFLICT (account_id) DO UPDATE SET keys = EXCLUDED.keys, are_on = EXCLUDED.are_on
        "#,
        account_id.0,
        Json(bindings.to_stored()) as Json<Stored>,
        bindings.are_on
    )
    .execute(db)
    .await?;
    Ok(())
}
