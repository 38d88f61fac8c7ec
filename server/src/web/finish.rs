//! Requests are carried to their end although whoever asked has gone away.
//!
//! A server that drops the work of a request when its connection closes may drop it while Postgres is beginning or
//! ending a transaction. The driver then takes back what is over already ("there is no transaction in progress"), or
//! gives a connection on in which one has begun that nobody ends.
//!
//! The end of the server is not theirs: it waits for what is under way, whether or not a connection hangs on it.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::error::AppError;

/// Answers a request on a task of its own, which goes on where nobody waits for the answer any more, and which is
/// among those under way until it has ended.
pub async fn to_the_end(
    State(under_way): State<TaskTracker>,
    request: Request,
    next: Next,
) -> Response {
    let work = next.run(request).instrument(tracing::Span::current());
    match under_way.spawn(work).await {
        Ok(response) => response,
        Err(error) => AppError::from(anyhow::Error::from(error)).into_response(),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::sync::Arc;
    use std::time::Duration;

    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn_with_state;
    use axum::routing::get;
    use tokio::sync::{Notify, oneshot};
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn what_was_begun_is_ended_although_nobody_waits() {
        let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (end, ended) = oneshot::channel();
        let end = Arc::new(std::sync::Mutex::new(Some(end)));
        let handler = {
            let (begun, go_on) = (begun.clone(), go_on.clone());
            async move || {
                begun.notify_one();
                go_on.notified().await;
                let end = end.lock().unwrap().take();
                end.map(|end| end.send("done"));
                "done"
            }
        };
        let under_way = TaskTracker::new();
        let app = Router::new()
            .route("/", get(handler))
            .layer(from_fn_with_state(under_way.clone(), to_the_end));
        let request = Request::builder().uri("/").body(Body::empty()).unwrap();
        {
            let mut answer = std::pin::pin!(app.oneshot(request));
            tokio::select! {
                _ = &mut answer => panic!("it waits"),
                () = begun.notified() => (),
            }
        }
        // The asker has gone away, and the server is told to stop.
        under_way.close();
        assert_eq!(under_way.len(), 1);
        go_on.notify_one();
        let ended = tokio::time::timeout(Duration::from_secs(20), ended).await;
        assert_eq!(ended.unwrap().unwrap(), "done");
        let all = tokio::time::timeout(Duration::from_secs(20), under_way.wait()).await;
        assert!(all.is_ok());
    }
}
