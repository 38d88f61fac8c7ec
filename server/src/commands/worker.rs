//! `plackett worker`: carries out runs from the queue.

use std::io::Read;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::commands::database::Database;
use crate::commands::model::register_models;
use crate::commands::serve::stop_signal;
use crate::config::DataConfig;
use crate::worker::claim::Worker;
use crate::worker::supervise::NAME_VARIABLE;

/// A stopped worker ends its run within this time, or is ended in the middle of it.
const GRACE: Duration = Duration::from_secs(10);

/// Settings of `plackett worker`.
#[derive(Debug, Clone, clap::Args)]
pub struct WorkerCommand {
    /// Its name, different for each worker. Default: host, process and a random part.
    #[arg(long, env = NAME_VARIABLE)]
    pub name: Option<String>,

    /// End when the queue is empty.
    #[arg(long)]
    pub until_idle: bool,

    /// End when standard input does: the process that holds its other end has gone.
    #[arg(long, hide = true)]
    pub exit_with_parent: bool,
}

/// Works until a stop signal.
///
/// # Errors
/// When the database cannot be opened or stays away.
pub async fn run(data: &DataConfig, command: WorkerCommand) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    if command.exit_with_parent {
        follow_parent(stop.clone());
    }
    let signalled = stop.clone();
    tokio::spawn(async move {
        stop_signal().await;
        stop_soon(&signalled);
    });
    let database = Database::open(data, 6).await?;
    if let Err(error) = register_models(&database.pool, data).await {
        tracing::warn!(
            error = format!("{error:#}"),
            "a model folder is not registered"
        );
    }
    let worker = Worker {
        db: database.pool.clone(),
        data: data.clone(),
        name: command.name.unwrap_or_else(own_name),
    };
    tracing::info!(name = worker.name, "waiting for runs");
    let worked = worker.run(&stop, command.until_idle).await;
    database.close().await;
    worked
}

fn own_name() -> String {
    let host = nix::sys::utsname::uname()
        .map(|name| name.nodename().to_string_lossy().into_owned())
        .unwrap_or_default();
    format!("{host}-{}-{}", std::process::id(), uuid::Uuid::now_v7())
}

/// Asks for a stop when standard input ends.
fn follow_parent(stop: CancellationToken) {
    std::thread::spawn(move || {
        let mut rest = [0u8; 64];
        while matches!(std::io::stdin().read(&mut rest), Ok(n) if n > 0) {}
        stop_soon(&stop);
    });
}

/// Asks for a stop, and sees to it: a step of a large model may take longer than anybody waits.
fn stop_soon(stop: &CancellationToken) {
    stop.cancel();
    std::thread::spawn(|| {
        std::thread::sleep(GRACE);
        eprintln!("plackett: the run did not end in time");
        std::process::exit(1);
    });
}
