//! Requests are carried to their end although whoever asked has gone away.
//!
//! A server that drops the work of a request when its connection closes may drop it while Postgres is beginning or
//! ending a transaction. The driver then takes back what is over already ("there is no transaction in progress"), or
//! gives a connection on in which one has begun that nobody ends.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument;

use crate::error::AppError;

/// Answers a request on a task of its own, which goes on where nobody waits for the answer any more.
pub async fn to_the_end(request: Request, next: Next) -> Response {
    let work = next.run(request).instrument(tracing::Span::current());
    match tokio::spawn(work).await {
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
    use axum::middleware::from_fn;
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
        let app = Router::new()
            .route("/", get(handler))
            .layer(from_fn(to_the_end));
        let request = Request::builder().uri("/").body(Body::empty()).unwrap();
        {
            let mut answer = std::pin::pin!(app.oneshot(request));
            tokio::select! {
                _ = &mut answer => panic!("it waits"),
                () = begun.notified() => (),
            }
        }
        // The asker has gone away.
        go_on.notify_one();
        let ended = tokio::time::timeout(Duration::from_secs(20), ended).await;
        assert_eq!(ended.unwrap().unwrap(), "done");
    }
}
