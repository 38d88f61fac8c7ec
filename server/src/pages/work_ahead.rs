//! `/work/ahead` and `/work/{id}/open`: the task that waits behind the one in sight. The page's script
//! leases it while the labeler works, and says when it is shown.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};

use crate::auth::visitor::Labeler;
use crate::auth::worker::Worker;
use crate::domain::assignment::AssignmentStatus;
use crate::error::AppResult;
use crate::pages::work::{Fresh, lease_fresh, path_of};
use crate::state::AppState;
use crate::store;

/// Where the waiting task's page is.
#[derive(serde::Serialize)]
struct Ahead {
    path: String,
}

/// `POST /work/ahead`: leases the next task for a short time, or renews the lease of the one that waits
/// already: there is at most one. 204 where no task is waiting.
pub async fn create(
    State(state): State<AppState>,
    Labeler(labeler): Labeler,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let who = labeler.account_id;
    let waiting = store::ahead::find_and_renew(&mut db, who).await?;
    let is_stale = match waiting {
        Some((id, _)) => store::ahead::end_if_stale(&mut db, id).await?,
        None => false,
    };
    let waiting = match waiting {
        Some(waiting) if !is_stale => Some(waiting),
        _ => match lease_fresh(&mut db, who, false).await? {
            Fresh::Lease(lease) => {
                let id = lease.assignment_id;
                match store::ahead::settle(&mut db, id, who).await? {
                    true => Some((id, lease.kind)),
                    false => store::ahead::find_and_renew(&mut db, who).await?,
                }
            }
            Fresh::AcknowledgeFirst(_) | Fresh::Nothing => None,
        },
    };
    Ok(match waiting {
        Some((id, kind)) => {
            let path = path_of(kind, id);
            (StatusCode::CREATED, Json(Ahead { path })).into_response()
        }
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

/// How an assignment stands when its page is shown.
#[derive(serde::Serialize)]
pub struct Opened {
    /// Whether its place is held.
    is_held: bool,
    lease_until: DateTime<Utc>,
    /// Of its draft: another window may have written one.
    revision: i64,
}

/// `POST /work/{id}/open`: the page of a lease that was fetched ahead is in sight now, and its time
/// begins.
pub async fn open(
    State(state): State<AppState>,
    Worker {
        visitor: labeler,
        id,
    }: Worker,
) -> AppResult<Json<Opened>> {
    let mut db = state.db.acquire().await?;
    store::assignments::find(&mut db, id, labeler.account_id).await?;
    if !store::ahead::end_if_stale(&mut db, id).await? {
        store::assignments::open(&mut db, id).await?;
    }
    let assignment = store::assignments::find(&mut db, id, labeler.account_id).await?;
    Ok(Json(Opened {
        is_held: assignment.status == AssignmentStatus::Leased,
        lease_until: assignment.lease_until,
        revision: assignment.draft_revision,
    }))
}
