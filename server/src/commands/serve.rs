//! `plackett serve`: the web server, with one worker as a child process by default.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;

use crate::commands::database::Database;
use crate::commands::demo;
use crate::config::{DataConfig, ServeConfig};
use crate::router::{GRACE, router};
use crate::state::AppState;
use crate::worker;
use crate::worker::supervise::{Supervisor, WorkerProgram};

/// How often recorded times are moved into their summaries.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// Serves until a stop signal, then lets requests in flight end.
///
/// # Errors
/// When the address is taken or the database cannot be opened.
pub async fn run(data: DataConfig, config: ServeConfig) -> anyhow::Result<()> {
    let listener = TcpListener::bind(config.listen).await.with_context(|| {
        format!(
            "cannot listen on {}: choose another address with --listen",
            config.listen
        )
    })?;
    let database = Database::open(&data, config.database_connections()).await?;
    let mut state = AppState::new(database.pool.clone(), config, data);
    let metrics = PrometheusBuilder::new()
        .install_recorder()
        .context("cannot install the metrics recorder")?;
    tokio::spawn(keep_up(metrics.clone()));
    state.metrics = Some(metrics);
    crate::commands::model::register_models(&state.db, &state.data).await?;
    if state.config.demo {
        demo::seed(&state.db, &state.data.models_dir()).await?;
    }
    println!("Plackett listens on {}", state.config.public_url());
    if state.config.demo {
        demo::print_links(&state.db, &state.config.public_url()).await?;
    }

    let builder = tokio::spawn(worker::exports::run(
        state.db.clone(),
        state.data.data_dir(),
        state.exports_wanted.clone(),
    ));
    let supervisor = start_worker(&state)?;
    let run_feed = state.run_feed.clone();
    let under_way = state.under_way.clone();
    let app = router(state).into_make_service_with_connect_info::<SocketAddr>();
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let server = axum::serve(listener, app).with_graceful_shutdown(async move {
        stop_signal().await;
        tracing::info!("stopping: requests in flight may end");
        stop.send_replace(true);
        run_feed.close();
    });
    let ended = async {
        server.await?;
        // Of a request whose asker has gone, no connection is left that the server waits for.
        under_way.close();
        under_way.wait().await;
        std::io::Result::Ok(())
    };
    // A browser may hold its connection for as long as it likes, so the wait is bounded.
    tokio::select! {
        ended = ended => ended?,
        () = async {
            let _ = stopped.wait_for(|stopped| *stopped).await;
            tokio::time::sleep(GRACE).await;
        } => tracing::warn!("some requests did not end in time"),
    }
    if let Some(supervisor) = supervisor {
        supervisor.stop().await;
    }
    builder.abort();
    database.close().await;
    Ok(())
}

/// Moves recorded times into their summaries again and again: between two readings of `/metrics`,
/// which may never come, they would pile up.
async fn keep_up(metrics: PrometheusHandle) {
    let mut ticks = tokio::time::interval(METRICS_UPKEEP);
    loop {
        ticks.tick().await;
        metrics.run_upkeep();
    }
}

/// Starts a worker as a child process, unless told not to.
fn start_worker(state: &AppState) -> anyhow::Result<Option<Supervisor>> {
    if state.config.no_worker {
        return Ok(None);
    }
    let program = WorkerProgram::own(&state.data)?;
    Ok(Some(Supervisor::start(state.db.clone(), program)))
}

/// Ends at Ctrl-C or SIGTERM.
pub async fn stop_signal() {
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => (),
        () = terminate => (),
    }
}
