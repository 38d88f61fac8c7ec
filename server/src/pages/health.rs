//! What load balancers and Prometheus ask: `/healthz`, `/readyz`, `/metrics`.

use axum::extract::State;
use axum::http::StatusCode;

use crate::error::{AppError, AppResult};
use crate::state::AppState;

/// `GET /healthz`: the process answers.
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: the database answers too.
pub async fn readyz(
    State(state): State<AppState>,
) -> Result<&'static str, (StatusCode, &'static str)> {
    crate::store::answers(&state.db)
        .await
        .map(|()| "ready\n")
        .map_err(|_| {
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "the database does not answer\n",
            )
        })
}

/// `GET /metrics`: Prometheus text.
pub async fn metrics(State(state): State<AppState>) -> AppResult<String> {
    let handle = state.metrics.as_ref().ok_or(AppError::NotFound("page"))?;
    let pool = &state.db;
    metrics::gauge!("plackett_db_connections").set(f64::from(pool.size()));
    metrics::gauge!("plackett_db_connections_idle").set(pool.num_idle() as f64);
    for (status, count) in crate::store::queue_figures(pool).await? {
        metrics::gauge!("plackett_runs", "status" => status).set(count as f64);
    }
    Ok(handle.render())
}
