//! `/rank`: a labeler's work on a task that ranks candidates or compares two. Everything works as plain
//! forms; `static/js/rank.js` adds keys, drafts that save themselves and the next task without a wait.

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum_extra::extract::Form as HtmlForm;
use sqlx::PgConnection;

use crate::auth::visitor::Visitor;
use crate::auth::worker::Worker;
use crate::domain::assignment::AssignmentStatus;
use crate::domain::ids::AccountId;
use crate::domain::ranking::RankingInput;
use crate::domain::submission::Input;
use crate::domain::task::TaskKind;
use crate::error::{AppError, AppResult};
use crate::pages::rank_form::{RankForm, Replaces};
use crate::pages::rank_view::{self, Notice};
use crate::pages::work::{go_on, go_on_from, path_of};
use crate::state::AppState;
use crate::store;
use crate::store::assignments::Assignment;
use crate::store::submissions::{CORRECTABLE, NewSubmission, list_correctable};
use crate::web::page::Page;
use crate::web::submitted::Submitted;

/// The query of a task's page.
#[derive(serde::Deserialize)]
pub struct ShowQuery {
    /// Whether the draft was saved just now.
    #[serde(default)]
    saved: bool,
    /// Whether the page is fetched before it is shown: its time does not begin yet.
    #[serde(default)]
    ahead: bool,
}

/// `GET /rank/{id}`. What was submitted lately opens again, to be corrected.
pub async fn show(
    State(state): State<AppState>,
    page: Page,
    Worker {
        visitor: labeler,
        id,
    }: Worker,
    Query(query): Query<ShowQuery>,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let who = labeler.account_id;
    let assignment = store::assignments::find(&mut db, id, who).await?;
    if let Some(elsewhere) = elsewhere(&mut db, &assignment, who).await? {
        return Ok(Redirect::to(&elsewhere).into_response());
    }
    let notice = match (query.ahead, query.saved) {
        (true, _) => Notice::Ahead,
        (false, true) => Notice::Saved,
        (false, false) => Notice::Nothing,
    };
    let said = said(&assignment);
    rank_view::show(&mut db, page, &assignment, &said, notice).await
}

/// Where an assignment that has no page here is to be found.
async fn elsewhere(
    db: &mut PgConnection,
    assignment: &Assignment,
    labeler_id: AccountId,
) -> AppResult<Option<String>> {
    if !matches!(assignment.kind, TaskKind::Rank | TaskKind::Compare) {
        return Ok(Some(path_of(assignment.kind, assignment.id)));
    }
    Ok(match assignment.status {
        AssignmentStatus::Leased | AssignmentStatus::Expired => None,
        AssignmentStatus::Skipped => Some("/work".to_owned()),
        AssignmentStatus::Submitted => {
            let last = list_correctable(db, labeler_id, CORRECTABLE).await?;
            (!last.contains(&assignment.id)).then(|| "/work/history".to_owned())
        }
    })
}

/// What was said so far: the draft, which after a submission is what was submitted.
fn said(assignment: &Assignment) -> RankingInput {
    let draft = assignment.draft.clone();
    draft
        .and_then(|draft| serde_json::from_value(draft).ok())
        .unwrap_or_default()
}

/// `POST /rank/{id}`: saves, submits or skips, by the button pressed. After the last two the next
/// task follows at once. What cannot be taken comes back as it was typed.
pub async fn update(
    State(state): State<AppState>,
    page: Page,
    Worker {
        visitor: labeler,
        id,
    }: Worker,
    HtmlForm(form): HtmlForm<RankForm>,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let who = labeler.account_id;
    if form.get("action") == "skip" {
        store::assignments::skip(&mut db, id, who, form.get("reason"), form.get("skip_note"))
            .await?;
        return Ok(go_on(&mut db, &labeler).await);
    }
    let assignment = store::assignments::find(&mut db, id, who).await?;
    let n = assignment.display_order.len();
    let given = form.input(n).map_err(AppError::Invalid)?;
    let is_save = form.get("action") == "save";
    if !is_save && given.is_untouched(n) && form.get("confirmed").is_empty() {
        return rank_view::show(&mut db, page, &assignment, &given, Notice::Untouched).await;
    }
    let result = match is_save {
        true => save(&mut db, &assignment, who, &given, &form).await,
        false => submit(&mut db, assignment, &labeler, &given, &form).await,
    };
    let notice = match result {
        Ok(response) => return Ok(response),
        Err(AppError::Conflict(message))
            if message.is("error-submitted-already") || message.is("error-corrected-already") =>
        {
            Notice::SubmittedElsewhere
        }
        Err(error) if error.is_newer_draft() || matches!(error, AppError::Invalid(_)) => {
            Notice::Refused(error)
        }
        Err(error) => return Err(error),
    };
    // As it is now: another window may have saved meanwhile.
    let assignment = store::assignments::find(&mut db, id, who).await?;
    rank_view::show(&mut db, page, &assignment, &given, notice).await
}

async fn save(
    db: &mut PgConnection,
    assignment: &Assignment,
    labeler_id: AccountId,
    given: &RankingInput,
    form: &RankForm,
) -> AppResult<Response> {
    let id = assignment.id;
    let input = Input::Ranking(given.clone());
    let (time, revision) = (form.time(), form.revision());
    store::assignments::save_draft(db, id, labeler_id, &input, time, revision).await?;
    Ok(Redirect::to(&format!("/rank/{id}?saved=true")).into_response())
}

async fn submit(
    db: &mut PgConnection,
    assignment: Assignment,
    labeler: &Visitor,
    given: &RankingInput,
    form: &RankForm,
) -> AppResult<Response> {
    let replaces = match form.replaces() {
        Replaces::Nothing => None,
        Replaces::Version(version) => Some(version),
        Replaces::Newest => Some(store::submissions::newest_version(db, assignment.id).await?),
    };
    let new = NewSubmission {
        idempotency_key: form.get("idempotency_key"),
        input: &Input::Ranking(given.clone()),
        time: form.time(),
        replaces,
        revision: form.revision(),
    };
    let is_late = assignment.is_late();
    let who = labeler.account_id;
    let written = store::submissions::submit_found(db, assignment, who, &new).await?;
    let submitted = Submitted::new(written.version, is_late);
    Ok(go_on_from(db, labeler, submitted).await)
}
