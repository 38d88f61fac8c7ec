//! `plackett serve`: the web server, with one worker as a child process by default.

use std::net::SocketAddr;

use anyhow::Context;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::net::TcpListener;

use crate::commands::database::Database;
use crate::config::{DataConfig, ServeConfig};
use crate::router::{GRACE, router};
use crate::state::AppState;

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
    let database = Database::open(&data, 32).await?;
    let mut state = AppState::new(database.pool.clone(), config, data);
    state.metrics = Some(
        PrometheusBuilder::new()
            .install_recorder()
            .context("cannot install the metrics recorder")?,
    );
    println!("Plackett listens on {}", state.config.public_url());

    let app = router(state).into_make_service_with_connect_info::<SocketAddr>();
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let server = axum::serve(listener, app).with_graceful_shutdown(async move {
        stop_signal().await;
        tracing::info!("stopping: requests in flight may end");
        stop.send_replace(true);
    });
    // Event streams never end by themselves, so the wait for them is bounded.
    tokio::select! {
        ended = async { server.await } => ended?,
        () = async {
            let _ = stopped.wait_for(|stopped| *stopped).await;
            tokio::time::sleep(GRACE).await;
        } => tracing::warn!("some requests did not end in time"),
    }
    database.close().await;
    Ok(())
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
