//! What every handler shares.

use std::sync::Arc;

use sqlx::PgPool;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use crate::auth::throttle::SignInThrottle;
use crate::config::{DataConfig, ServeConfig};
use crate::figures::Figures;
use crate::store::run_feed::RunFeed;

/// Shared by every handler; cheap to clone.
#[derive(Clone)]
pub struct AppState {
    /// The database pool.
    pub db: PgPool,
    /// Settings of the server.
    pub config: Arc<ServeConfig>,
    /// Where models and runs live.
    pub data: Arc<DataConfig>,
    /// Slows down guessing of passwords.
    pub throttle: Arc<SignInThrottle>,
    /// Wakes the builder of exports.
    pub exports_wanted: Arc<Notify>,
    /// Wakes the pages that follow a run.
    pub run_feed: Arc<RunFeed>,
    /// Requests that are carried to their end, which the end of the server waits for.
    pub under_way: TaskTracker,
    /// Figures that were made and still hold.
    pub figures: Arc<Figures>,
    /// Renders `/metrics`; none in tests that do not install a recorder.
    pub metrics: Option<metrics_exporter_prometheus::PrometheusHandle>,
}

impl AppState {
    /// State over a pool, with the given settings.
    pub fn new(db: PgPool, config: ServeConfig, data: DataConfig) -> Self {
        Self {
            run_feed: Arc::new(RunFeed::new(db.clone())),
            db,
            config: Arc::new(config),
            data: Arc::new(data),
            exports_wanted: Arc::new(Notify::new()),
            throttle: Arc::new(SignInThrottle::new()),
            under_way: TaskTracker::new(),
            figures: Arc::new(Figures::default()),
            metrics: None,
        }
    }
}
