//! `/work`: what a labeler does next. It leads to the page of the task that they hold, or of the next
//! one in the queue; a candidate to their screening.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use rand::SeedableRng;
use sqlx::PgConnection;

use crate::auth::visitor::Visitor;
use crate::domain::ids::{AccountId, AssignmentId, ProjectId};
use crate::domain::task::TaskKind;
use crate::error::{AppError, AppResult};
use crate::state::AppState;
use crate::store;
use crate::store::members::Place;
use crate::store::queue::Lease;
use crate::store::tasks::Progress;
use crate::web::page::{Page, render};
use crate::web::submitted::Submitted;

#[derive(Template)]
#[template(path = "work/index.html")]
struct WorkPage {
    page: Page,
    progress: Progress,
}

/// The page of an assignment.
pub fn path_of(kind: TaskKind, id: AssignmentId) -> String {
    match kind {
        TaskKind::Rank | TaskKind::Compare => format!("/rank/{id}"),
        TaskKind::Demonstrate => format!("/demonstrate/{id}"),
        TaskKind::Review => format!("/review/{id}"),
    }
}

/// `GET /work`: to the open assignment; without one, how many tasks are waiting. It changes nothing:
/// browsers fetch links ahead of a click.
pub async fn index(
    State(state): State<AppState>,
    page: Page,
    visitor: Visitor,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let Some(labeler) = find_labeler(&mut db, visitor).await? else {
        return Ok(Redirect::to("/screening").into_response());
    };
    if let Some((id, kind)) = store::assignments::find_open(&mut db, labeler.account_id).await? {
        return Ok(Redirect::to(&path_of(kind, id)).into_response());
    }
    let progress = store::tasks::progress(&mut db, labeler.account_id).await?;
    let title = match progress.waiting {
        0 => "work-none-title",
        _ => "work-next-title",
    };
    Ok(render(&WorkPage {
        page: page.titled(title),
        progress,
    })?
    .into_response())
}

/// What comes next.
#[derive(Debug, Default, serde::Deserialize)]
pub struct WorkQuery {
    /// The screening, and when that is over how it went: what a candidate goes on to, even when their last
    /// task made them a labeler.
    #[serde(default)]
    screening: bool,
}

/// `POST /work`: leases the next task, unless one is open, and goes to it; to guidelines that have not
/// been acknowledged where no other project has a task.
pub async fn create(
    State(state): State<AppState>,
    visitor: Visitor,
    Query(query): Query<WorkQuery>,
) -> AppResult<Redirect> {
    let mut db = state.db.acquire().await?;
    let who = visitor.account_id;
    if query.screening {
        return Ok(Redirect::to(&lease_screening(&mut db, who).await?));
    }
    let next = match find_labeler(&mut db, visitor).await? {
        Some(labeler) => lease_next(&mut db, labeler.account_id).await?,
        None => lease_screening(&mut db, who).await?,
    };
    Ok(Redirect::to(&next))
}

/// The visitor as a labeler; none for a candidate, whose work is their screening.
///
/// # Errors
/// `Forbidden` for anybody else.
async fn find_labeler(db: &mut PgConnection, visitor: Visitor) -> AppResult<Option<Visitor>> {
    if visitor.is_labeler {
        return Ok(Some(visitor));
    }
    match store::screenings::list_projects(db, visitor.account_id)
        .await?
        .is_empty()
    {
        true => Err(AppError::Forbidden("labeler")),
        false => Ok(None),
    }
}

/// The path of the open assignment or of a new one; of the guidelines where these come first; of
/// `/work`, which says so, when no task is waiting.
async fn lease_next(db: &mut PgConnection, labeler_id: AccountId) -> AppResult<String> {
    if let Some((id, kind)) = store::assignments::find_open(&mut *db, labeler_id).await?
        && !store::ahead::end_if_stale(&mut *db, id).await?
    {
        return open(db, kind, id).await;
    }
    Ok(match lease_fresh(db, labeler_id, true).await? {
        Fresh::Lease(lease) => path_of(lease.kind, lease.assignment_id),
        Fresh::AcknowledgeFirst(project_id) => format!("/guidelines#project-{project_id}"),
        Fresh::Nothing => "/work".to_owned(),
    })
}

/// The path of a task that is shown from here on.
async fn open(db: &mut PgConnection, kind: TaskKind, id: AssignmentId) -> AppResult<String> {
    store::assignments::open(db, id).await?;
    Ok(path_of(kind, id))
}

/// What came of asking the queue.
pub(super) enum Fresh {
    /// A lease.
    Lease(Lease),
    /// Nothing else is waiting, and the guidelines of this project come before its tasks.
    AcknowledgeFirst(ProjectId),
    /// No task is waiting.
    Nothing,
}

/// Leases the next task of the labeler's projects, the oldest project first. A project whose guidelines or
/// consent they have not acknowledged is passed over, and comes up when nothing else is waiting and it has a
/// task for them; one whose consent they declined does not. The time of a task that `opens` begins.
pub(super) async fn lease_fresh(
    db: &mut PgConnection,
    labeler_id: AccountId,
    opens: bool,
) -> AppResult<Fresh> {
    let places = store::members::list_places(&mut *db, labeler_id).await?;
    let mut rng = rand_chacha::ChaCha12Rng::from_os_rng();
    for place in places.iter().filter(|place| place.has_acknowledged) {
        let project_id = place.project_id;
        let lease = match opens {
            true => store::queue::lease_and_open(db, project_id, labeler_id, &mut rng).await,
            false => store::queue::lease(db, project_id, labeler_id, &mut rng).await,
        };
        match lease {
            Ok(Some(lease)) => return Ok(Fresh::Lease(lease)),
            Ok(None) => (),
            // Another request of theirs may have taken the last that they may hold, or an admin may
            // have changed the project since the list was read.
            Err(AppError::Conflict(message)) => tracing::info!(%message, "no lease"),
            Err(error) => return Err(error),
        }
    }
    if !places.iter().any(Place::is_waiting) {
        return Ok(Fresh::Nothing);
    }
    let waiting = store::home::list_waiting(db, labeler_id).await?;
    let mut unread = places.iter().filter(|place| place.is_waiting());
    let first = unread.find(|place| waiting.iter().any(|one| one.project_id == place.project_id));
    Ok(first.map_or(Fresh::Nothing, |place| {
        Fresh::AcknowledgeFirst(place.project_id)
    }))
}

/// After work that is written: on to the next task. When leasing fails the work is still safe, so
/// the labeler sees the page that offers the next task instead of an error.
pub async fn go_on(db: &mut PgConnection, worker: &Visitor) -> Response {
    Redirect::to(&next(db, worker).await).into_response()
}

/// The same after a submission, which the page that follows confirms.
pub async fn go_on_from(db: &mut PgConnection, worker: &Visitor, submitted: Submitted) -> Response {
    let next = next(db, worker).await;
    Redirect::to(&submitted.say_at(&next)).into_response()
}

async fn next(db: &mut PgConnection, worker: &Visitor) -> String {
    let next = match worker.is_labeler {
        true => lease_next(db, worker.account_id).await,
        false => lease_screening(db, worker.account_id).await,
    };
    next.unwrap_or_else(|error| {
        tracing::warn!(?error, "the next task could not be leased");
        "/work".to_owned()
    })
}

/// The path of a candidate's next task; of their screening when all is done.
async fn lease_screening(db: &mut PgConnection, account_id: AccountId) -> AppResult<String> {
    let mut rng = rand_chacha::ChaCha12Rng::from_os_rng();
    let started = store::screening_work::find_started(&mut *db, account_id, None).await?;
    if let Some(id) = started
        && let Some(lease) = store::screening_work::lease(db, id, account_id, &mut rng).await?
    {
        return open(db, lease.kind, lease.assignment_id).await;
    }
    Ok("/screening".to_owned())
}

/// How far somebody is, as the pages of tasks say it: a candidate with their screening; a labeler with their day,
/// `ahead` submissions from now, since a page that is shown all day has no time to count all that they ever did.
///
/// # Errors
/// When the database fails.
pub async fn standing_of(
    db: &mut PgConnection,
    page: &Page,
    worker: &Visitor,
    ahead: i64,
) -> AppResult<String> {
    let who = worker.account_id;
    if worker.is_labeler {
        let today = store::tasks::count_today(db, who).await? + ahead;
        return Ok(page.t_with("rank-today", "n", today));
    }
    let progress = store::screening_work::progress(db, who).await?;
    let (done, waiting) = (progress.done.to_string(), progress.waiting.to_string());
    Ok(page.t_args("answer-progress", &[("done", done), ("waiting", waiting)]))
}
