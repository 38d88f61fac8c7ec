//! `/runs/{id}/events`: a run's events as server-sent events. The rows are the truth and their
//! numbers are the event ids; a notification only wakes the stream, so nothing is lost or sent
//! twice, however often the connection breaks.

use std::convert::Infallible;

use async_stream::stream;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::auth::visitor::Operator;
use crate::domain::ids::RunId;
use crate::error::{AppError, AppResult};
use crate::state::AppState;
use crate::store;
use crate::store::run_events::RunEvent;

/// Rows read at once.
const PAGE: i64 = 500;

/// Where a stream starts.
#[derive(Debug, serde::Deserialize)]
pub struct Start {
    /// Events after this number; 0 starts at the first.
    #[serde(default)]
    after: i64,
}

/// `GET /runs/{id}/events`: events after `Last-Event-ID`, or else after `?after=`. The stream ends
/// with an event `end` when the run is over and everything was sent.
pub async fn index(
    State(state): State<AppState>,
    _: Operator,
    Path(id): Path<RunId>,
    Query(start): Query<Start>,
    headers: HeaderMap,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    store::runs::find(&mut db, id)
        .await?
        .ok_or(AppError::NotFound("run"))?;
    drop(db);
    let seen = headers
        .get("last-event-id")
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse().ok());
    let mut after = seen.unwrap_or(start.after);
    // Following starts before the first look, so that nothing falls between the two.
    let mut follower = state.run_feed.follow(id);
    let events = stream! {
        loop {
            let (is_over, rows) = match look(&state, id, after).await {
                Ok(seen) => seen,
                Err(error) => {
                    // The browser comes back by itself and says where it was.
                    tracing::warn!(%id, %error, "a stream of events ends early");
                    break;
                }
            };
            let has_rows = !rows.is_empty();
            for row in rows {
                after = row.seq;
                yield Ok::<_, Infallible>(to_event(&row));
            }
            if has_rows {
                continue;
            }
            if is_over {
                yield Ok(Event::default().event("end").data("{}"));
                break;
            }
            if !follower.wait().await {
                break;
            }
        }
    };
    // A proxy that collects the answer before passing it on would hold the events back.
    let headers = [("x-accel-buffering", "no")];
    Ok((headers, Sse::new(events).keep_alive(KeepAlive::default())).into_response())
}

/// Whether the run is over, and the next events. In this order: once a run is over, it gets no
/// more events.
async fn look(state: &AppState, id: RunId, after: i64) -> AppResult<(bool, Vec<RunEvent>)> {
    let mut db = state.db.acquire().await?;
    let run = store::runs::find(&mut db, id).await?;
    let rows = store::run_events::list_after(&mut db, id, after, PAGE).await?;
    Ok((run.is_none_or(|run| run.is_over()), rows))
}

fn to_event(row: &RunEvent) -> Event {
    let mut data = row.data.clone();
    data["at"] = json!(row.at);
    Event::default()
        .id(row.seq.to_string())
        .event(&row.kind)
        .data(data.to_string())
}
