//! `plackett migrate`: brings the database to this program's schema. Every other subcommand does
//! so too; this one does nothing else.

use crate::commands::database::Database;
use crate::config::DataConfig;

/// Migrates and says so.
///
/// # Errors
/// When the database does not answer or a migration fails.
pub async fn run(data: &DataConfig) -> anyhow::Result<()> {
    let database = Database::open(data, 2).await?;
    println!(
        "The database is at version {}.",
        crate::MIGRATOR
            .iter()
            .map(|step| step.version)
            .max()
            .unwrap_or(0)
    );
    database.close().await;
    Ok(())
}
