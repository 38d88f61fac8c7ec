//! Opening the database, for every subcommand that needs one.

use std::time::Duration;

use anyhow::Context;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgPool};

use crate::MIGRATOR;
use crate::config::DataConfig;
use crate::local_postgres::LocalPostgres;

/// A connection that rested longer than this is asked whether it still lives before it is used: after
/// a restart of Postgres it does not. One in use would notice anyway, and asking every time is a round
/// trip for nothing.
const RESTED: Duration = Duration::from_secs(5);

/// How long connections may take to come back when the pool is closed. Who still holds one then has had its time:
/// what it has not committed is undone when the program ends.
const CLOSING: Duration = Duration::from_secs(5);

/// An open database, and the private cluster behind it where there is one.
pub struct Database {
    /// The pool, migrated.
    pub pool: PgPool,
    local: Option<LocalPostgres>,
}

impl Database {
    /// Connects to `DATABASE_URL`, or starts the private cluster, and migrates.
    ///
    /// # Errors
    /// One sentence that says what to install, start or change.
    pub async fn open(config: &DataConfig, connections: u32) -> anyhow::Result<Self> {
        let (options, local) = match &config.database_url {
            Some(url) => {
                let options: PgConnectOptions =
                    url.parse().context("DATABASE_URL cannot be read")?;
                (options, None)
            }
            None => {
                let data_dir = config.data_dir();
                let local =
                    tokio::task::spawn_blocking(move || LocalPostgres::start(&data_dir)).await??;
                (local.connect_options(), Some(local))
            }
        };
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(Duration::from_secs(30))
            .test_before_acquire(false)
            .before_acquire(|connection, meta| {
                Box::pin(async move {
                    if meta.idle_for > RESTED {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_with(options.application_name("plackett"))
            .await
            .context("the database does not answer")?;
        MIGRATOR
            .run(&pool)
            .await
            .context("the database cannot be migrated")?;
        Ok(Self { pool, local })
    }

    /// Closes the pool, and stops the private cluster unless another program still uses it.
    pub async fn close(self) {
        let others = match &self.local {
            Some(_) => {
                let counting = tokio::time::timeout(CLOSING, count_other_clients(&self.pool));
                counting.await.ok().and_then(Result::ok)
            }
            None => None,
        };
        let closing = tokio::time::timeout(CLOSING, self.pool.close());
        if closing.await.is_err() {
            tracing::warn!("some work on the database did not end in time");
        }
        let (Some(local), Some(0)) = (self.local, others) else {
            return;
        };
        let stopped = tokio::task::spawn_blocking(move || local.stop()).await;
        if let Ok(Err(error)) = stopped {
            tracing::warn!(error = format!("{error:#}"), "Postgres goes on running");
        }
    }
}

/// Programs other than this one that are connected to our database.
async fn count_other_clients(pool: &PgPool) -> sqlx::Result<i64> {
    let own = i64::from(pool.size());
    let all = sqlx::query_scalar!(
        r#"SELECT count(*) AS "n!" FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"#
    )
    .fetch_one(pool)
    .await?;
    Ok((all - own).max(0))
}
