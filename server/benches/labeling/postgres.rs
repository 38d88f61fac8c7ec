//! The throw-away Postgres: a database for each case, copied from one that was filled once, and
//! pgbench beside them.

use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, PgPool};

use crate::machine;

/// pgbench's scale, about 1 GB: as many branches as there are clients at most. With fewer, clients would wait for each
/// other's branch, as its manual says.
pub(crate) const SCALE: u32 = 64;

/// The database of pgbench.
const PGBENCH: &str = "pgbench";

/// A cluster that nobody else uses.
pub(crate) struct Postgres {
    options: PgConnectOptions,
    pool: PgPool,
    /// Its first process.
    pub(crate) postmaster: u32,
}

impl Postgres {
    /// Connects to `DATABASE_URL`.
    pub(crate) async fn connect() -> anyhow::Result<Self> {
        let url = std::env::var("DATABASE_URL")
            .context("no DATABASE_URL: run this through .ci/with-postgres --durable")?;
        let options: PgConnectOptions = url.parse()?;
        let pool = open(options.clone()).await?;
        let backend: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
            .fetch_one(&pool)
            .await?;
        let postmaster = machine::parent(backend as u32)?;
        Ok(Self {
            options,
            pool,
            postmaster,
        })
    }

    /// Its version and the settings that decide what a commit costs.
    pub(crate) async fn describe(&self) -> anyhow::Result<Value> {
        let mut found = serde_json::Map::new();
        for name in [
            "server_version",
            "fsync",
            "synchronous_commit",
            "full_page_writes",
            "shared_buffers",
            "max_connections",
        ] {
            let value: String = sqlx::query_scalar(AssertSqlSafe(format!("SHOW {name}")))
                .fetch_one(&self.pool)
                .await?;
            found.insert(name.to_owned(), json!(value));
        }
        Ok(Value::Object(found))
    }

    /// Makes an empty database with this program's schema.
    pub(crate) async fn create(&self, name: &str) -> anyhow::Result<()> {
        self.execute(format!("CREATE DATABASE {name}")).await?;
        let pool = self.open(name).await?;
        server::MIGRATOR.run(&pool).await?;
        pool.close().await;
        Ok(())
    }

    /// Copies a database, and lets what that wrote reach the disk before anything is measured.
    pub(crate) async fn copy(&self, from: &str, name: &str) -> anyhow::Result<()> {
        self.execute(format!(
            "CREATE DATABASE {name} TEMPLATE {from} STRATEGY file_copy"
        ))
        .await?;
        self.settle().await
    }

    /// Writes out what waits.
    pub(crate) async fn settle(&self) -> anyhow::Result<()> {
        self.execute("CHECKPOINT".to_owned()).await
    }

    pub(crate) async fn drop(&self, name: &str) -> anyhow::Result<()> {
        self.execute(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            .await
    }

    pub(crate) async fn open(&self, name: &str) -> anyhow::Result<PgPool> {
        open(self.options.clone().database(name)).await
    }

    /// Where a program finds a database.
    pub(crate) fn url(&self, name: &str) -> String {
        self.options
            .clone()
            .database(name)
            .to_url_lossy()
            .to_string()
    }

    async fn execute(&self, statement: String) -> anyhow::Result<()> {
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Fills pgbench's own database.
    pub(crate) async fn prepare_pgbench(&self) -> anyhow::Result<()> {
        self.execute(format!("CREATE DATABASE {PGBENCH}")).await?;
        self.pgbench(&["-i", "-q", "-s", &SCALE.to_string()])
            .await?;
        self.settle().await
    }

    /// Runs pgbench's standard script, TPC-B-like, with prepared statements.
    pub(crate) async fn measure_pgbench(
        &self,
        n_clients: usize,
        warm_up_seconds: u64,
        seconds: u64,
    ) -> anyhow::Result<Value> {
        self.settle().await?;
        let load_average = machine::load_average()?;
        self.run_pgbench(n_clients, warm_up_seconds).await?;
        let earlier = machine::Cpu::read(0, self.postmaster)?;
        let said = self.run_pgbench(n_clients, seconds).await?;
        let used = machine::Cpu::read(0, self.postmaster)?.since(earlier);
        let number = |before: &str| -> anyhow::Result<f64> {
            let rest = said.split(before).nth(1);
            let word = rest.and_then(|rest| rest.split_whitespace().next());
            let word = word.with_context(|| format!("pgbench does not say {before:?}: {said}"))?;
            Ok(word.parse()?)
        };
        let tps = number("tps = ")?;
        let n = number("number of transactions actually processed: ")?;
        Ok(json!({
            "tps": tps,
            "latency_ms": number("latency average = ")?,
            "postgres_cpu_seconds_per_transaction": used.postgres / n,
            "load_average_before": load_average,
        }))
    }

    async fn run_pgbench(&self, n_clients: usize, seconds: u64) -> anyhow::Result<String> {
        let (clients, threads) = (n_clients.to_string(), n_clients.min(2).to_string());
        let seconds = seconds.max(1).to_string();
        self.pgbench(&[
            "-M", "prepared", "-c", &clients, "-j", &threads, "-T", &seconds,
        ])
        .await
    }

    async fn pgbench(&self, arguments: &[&str]) -> anyhow::Result<String> {
        // sqlx adds a word of its own to the address.
        let url = self.url(PGBENCH);
        let (place, query) = url.split_once('?').unwrap_or((&url, ""));
        let known: Vec<&str> = query
            .split('&')
            .filter(|word| !word.starts_with("statement-cache-capacity"))
            .collect();
        let mut command = Command::new("pgbench");
        command
            .args(arguments)
            .arg(format!("{place}?{}", known.join("&")));
        let output = tokio::task::spawn_blocking(move || command.output())
            .await?
            .context("pgbench, of the package postgresql, does not start")?;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "pgbench: {errors}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

async fn open(options: PgConnectOptions) -> anyhow::Result<PgPool> {
    Ok(PgPoolOptions::new()
        .max_connections(2)
        .connect_with(options)
        .await?)
}
