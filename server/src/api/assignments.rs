//! `/api/v1/.../assignments`: the labeler's work for programs. The same store functions as the
//! pages, so the same promises.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use rand::SeedableRng;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::json::JsonBody;
use crate::auth::visitor::Labeler;
use crate::domain::ids::{AssignmentId, ProjectId};
use crate::domain::ranking::RankingInput;
use crate::error::{AppError, AppResult};
use crate::state::AppState;
use crate::store;

/// A candidate as a labeler's program sees it: nothing of the model behind it.
#[derive(Serialize, ToSchema)]
pub struct CandidateView {
    /// Place in the order shown, 1 for the first.
    position: usize,
    /// The completion's text.
    text: String,
}

/// A leased assignment.
#[derive(Serialize, ToSchema)]
pub struct AssignmentView {
    /// Id for draft, submission and skip.
    #[schema(value_type = String, format = Uuid)]
    id: AssignmentId,
    /// The prompt: a string, or turns with `role` and `content`.
    #[schema(value_type = Object)]
    prompt: serde_json::Value,
    /// Use-case category.
    category: String,
    /// The candidates in the order shown, random for each assignment.
    candidates: Vec<CandidateView>,
    /// When the lease ends (RFC 3339, UTC); saving a draft renews it.
    lease_until: chrono::DateTime<chrono::Utc>,
    /// Version of the guidelines in force.
    guidelines_version: i32,
    /// Version of the form in force.
    form_version: i32,
    /// What was saved so far.
    #[schema(value_type = Object)]
    draft: Option<serde_json::Value>,
}

/// Leases the next task.
#[utoipa::path(
    post,
    path = "/api/v1/projects/{id}/assignments",
    params(("id" = String, Path, description = "project")),
    responses(
        (status = 201, description = "leased", body = AssignmentView),
        (status = 204, description = "no task is waiting for this labeler"),
        (status = 401, description = "no or wrong bearer token"),
        (status = 403, description = "not a labeler"),
        (status = 404, description = "no such project"),
        (status = 409, description = "other requests of this account take tasks at the same time"),
    ),
    security(("bearer" = []))
)]
pub async fn create(
    State(state): State<AppState>,
    Labeler(labeler): Labeler,
    Path(project_id): Path<ProjectId>,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    store::projects::find(&mut db, project_id)
        .await?
        .ok_or(AppError::NotFound("project"))?;
    let mut rng = rand_chacha::ChaCha12Rng::from_os_rng();
    let lease =
        store::assignments::lease(&mut db, project_id, labeler.account_id, &mut rng).await?;
    let Some(lease) = lease else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let assignment =
        store::assignments::find(&mut db, lease.assignment_id, labeler.account_id).await?;
    let task = store::tasks::find_view(&mut db, lease.task_id).await?;
    let candidates = lease
        .display_order
        .iter()
        .enumerate()
        .map(|(index, slot)| CandidateView {
            position: index + 1,
            text: task.texts.get(*slot as usize).cloned().unwrap_or_default(),
        });
    let view = AssignmentView {
        id: lease.assignment_id,
        prompt: task.prompt,
        category: task.category,
        candidates: candidates.collect(),
        lease_until: assignment.lease_until,
        guidelines_version: assignment.guidelines_version,
        form_version: assignment.form_version,
        draft: assignment.draft,
    };
    Ok((StatusCode::CREATED, Json(view)).into_response())
}

/// A draft to save.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DraftInput {
    /// One entry for each candidate judged so far.
    #[serde(default)]
    candidates: Vec<crate::domain::ranking::CandidateInput>,
    /// Anything the labeler wants to add.
    #[serde(default)]
    note: String,
    /// Save only over this revision; another tab's newer draft is then a 409.
    #[serde(default)]
    revision: Option<i64>,
}

/// What saving a draft answers.
#[derive(Serialize, ToSchema)]
pub struct DraftSaved {
    /// The draft's revision now.
    revision: i64,
}

/// Saves a draft and renews the lease.
#[utoipa::path(
    put,
    path = "/api/v1/assignments/{id}/draft",
    params(("id" = String, Path, description = "assignment")),
    request_body = DraftInput,
    responses(
        (status = 200, description = "saved", body = DraftSaved),
        (status = 404, description = "no such assignment of this labeler"),
        (status = 409, description = "the work has ended, or another tab saved a newer draft"),
        (status = 422, description = "wrong fields, each named"),
    ),
    security(("bearer" = []))
)]
pub async fn save_draft(
    State(state): State<AppState>,
    Labeler(labeler): Labeler,
    Path(id): Path<AssignmentId>,
    JsonBody(input): JsonBody<DraftInput>,
) -> AppResult<Json<DraftSaved>> {
    let mut db = state.db.acquire().await?;
    let ranking = RankingInput {
        candidates: input.candidates,
        note: input.note,
    };
    let revision =
        store::assignments::save_draft(&mut db, id, labeler.account_id, &ranking, input.revision)
            .await?;
    Ok(Json(DraftSaved { revision }))
}

/// What a submission answers.
#[derive(Serialize, ToSchema)]
pub struct Submitted {
    /// The ranking that was written.
    #[schema(value_type = String, format = Uuid)]
    ranking_id: crate::domain::ids::RankingId,
}

/// Submits a ranking. Repeating a request with the same key and content changes nothing and gives
/// the same answer.
#[utoipa::path(
    post,
    path = "/api/v1/assignments/{id}/submission",
    params(
        ("id" = String, Path, description = "assignment"),
        ("Idempotency-Key" = String, Header, description = "made by the client, one for each submission"),
    ),
    request_body = RankingInput,
    responses(
        (status = 201, description = "written", body = Submitted),
        (status = 404, description = "no such assignment of this labeler"),
        (status = 409, description = "submitted or skipped already, or the key was used for something else"),
        (status = 422, description = "wrong or missing fields, each named"),
    ),
    security(("bearer" = []))
)]
pub async fn submit(
    State(state): State<AppState>,
    Labeler(labeler): Labeler,
    Path(id): Path<AssignmentId>,
    headers: HeaderMap,
    JsonBody(input): JsonBody<RankingInput>,
) -> AppResult<(StatusCode, Json<Submitted>)> {
    let key = headers
        .get("idempotency-key")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let mut db = state.db.acquire().await?;
    let ranking_id =
        store::assignments::submit(&mut db, id, labeler.account_id, key, &input).await?;
    Ok((StatusCode::CREATED, Json(Submitted { ranking_id })))
}

/// Why a task is skipped.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SkipInput {
    /// Key of one of the form's reasons.
    reason: String,
    /// Anything the labeler wants to add.
    #[serde(default)]
    note: String,
}

/// Gives an assignment back with a reason.
#[utoipa::path(
    post,
    path = "/api/v1/assignments/{id}/skip",
    params(("id" = String, Path, description = "assignment")),
    request_body = SkipInput,
    responses(
        (status = 204, description = "given back"),
        (status = 404, description = "no such assignment of this labeler"),
        (status = 409, description = "the work has ended already"),
        (status = 422, description = "unknown reason"),
    ),
    security(("bearer" = []))
)]
pub async fn skip(
    State(state): State<AppState>,
    Labeler(labeler): Labeler,
    Path(id): Path<AssignmentId>,
    JsonBody(input): JsonBody<SkipInput>,
) -> AppResult<StatusCode> {
    let mut db = state.db.acquire().await?;
    store::assignments::skip(&mut db, id, labeler.account_id, &input.reason, &input.note).await?;
    Ok(StatusCode::NO_CONTENT)
}
