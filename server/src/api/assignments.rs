//! `/api/v1/.../assignments`: the labeler's work for programs. The same store functions as the
//! pages, so the same promises.

use axum::Json;
use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use rand::SeedableRng;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::PgConnection;
use utoipa::ToSchema;

use crate::api::address::ApiQuery;
use crate::api::json::JsonBody;
use crate::auth::worker::{Holder, Lessee, Worker};
use crate::domain::assignment::AssignmentStatus;
use crate::domain::ids::{AccountId, AssignmentId, ProjectId};
use crate::domain::ranking::RankingInput;
use crate::domain::review::ReviewInput;
use crate::domain::submission::{Input, TimeSpent};
use crate::domain::task::TaskKind;
use crate::domain::writing::{Brief, WritingInput};
use crate::error::{AppError, AppResult};
use crate::state::AppState;
use crate::store;
use crate::store::submissions::NewSubmission;

/// A candidate as a labeler's program sees it: nothing of the model behind it.
#[derive(Serialize, ToSchema)]
pub struct CandidateView {
    /// Place in the order shown, 1 for the first: what drafts and submissions name it by.
    position: usize,
    /// The completion's text.
    text: String,
}

/// An assignment.
#[derive(Serialize, ToSchema)]
pub struct AssignmentView {
    /// Id for draft, submission and skip.
    #[schema(value_type = String, format = Uuid)]
    id: AssignmentId,
    /// The project of its task.
    #[schema(value_type = String, format = Uuid)]
    project_id: ProjectId,
    /// What is done in it.
    kind: TaskKind,
    /// Where it stands. One that expired can still be submitted: late work is kept.
    status: AssignmentStatus,
    /// The prompt: a string, or turns with `role` and `content`; null where the labeler writes one.
    #[schema(value_type = Object)]
    prompt: serde_json::Value,
    /// Use-case category of the prompt; empty where the labeler writes one.
    category: String,
    /// Of a demonstration: what to write.
    #[serde(skip_serializing_if = "Option::is_none")]
    brief: Option<Brief>,
    /// The candidates in the order shown, random for each assignment; none where nothing is ranked.
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
    /// The draft's revision; 0 before the first.
    draft_revision: i64,
}

/// What a labeler's program sees of their own assignment.
async fn view(
    db: &mut PgConnection,
    id: AssignmentId,
    labeler_id: AccountId,
) -> AppResult<AssignmentView> {
    let assignment = store::assignments::find(db, id, labeler_id).await?;
    let task = store::tasks::find_view(db, assignment.task_id).await?;
    // In the table a lease that ran out stays `leased` until somebody leases the next task.
    let ran_out = assignment.lease_until <= chrono::Utc::now();
    let status = match assignment.status {
        AssignmentStatus::Leased if ran_out => AssignmentStatus::Expired,
        status => status,
    };
    let candidates = assignment
        .display_order
        .iter()
        .enumerate()
        .map(|(index, slot)| CandidateView {
            position: index + 1,
            text: task.texts.get(*slot as usize).cloned().unwrap_or_default(),
        });
    let brief = match assignment.kind {
        TaskKind::Demonstrate => Some(Brief::read(task.brief).map_err(anyhow::Error::from)?),
        _ => None,
    };
    Ok(AssignmentView {
        id,
        brief,
        project_id: assignment.project_id,
        kind: assignment.kind,
        status,
        candidates: candidates.collect(),
        prompt: task.prompt,
        category: task.category,
        lease_until: assignment.lease_until,
        guidelines_version: assignment.guidelines_version,
        form_version: assignment.form_version,
        draft: assignment.draft,
        draft_revision: assignment.draft_revision,
    })
}

/// Leases the next task.
///
/// An account holds at most 10 leases in a project: enough to work ahead, too few to keep the others
/// waiting. A candidate whose screening has begun gets its tasks, one at a time: the one that they hold
/// comes again until it is done.
#[utoipa::path(
    post,
    path = "/api/v1/projects/{id}/assignments",
    operation_id = "lease_task",
    params(("id" = String, Path, format = Uuid, description = "id of the project")),
    responses(
        (status = 201, description = "leased", body = AssignmentView,
            headers(("Location" = String, description = "address of the assignment"))),
        (status = 204, description = "no task is waiting for this labeler"),
        (status = 403, description = "not a labeler"),
        (status = 404, description = "no such project"),
        (status = 409, description = "the labeler is not assigned to the project or has not acknowledged its guidelines; or this account holds 10 leases in the project already: `GET /api/v1/assignments` lists them, and submitting or skipping one makes room. Seldom: its other requests change the same tasks at this moment"),
    ),
    security(("bearer" = []))
)]
pub async fn create(
    State(state): State<AppState>,
    Lessee {
        visitor: labeler,
        project_id,
        screening,
    }: Lessee,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let mut rng = rand_chacha::ChaCha12Rng::from_os_rng();
    let who = labeler.account_id;
    let lease = match screening {
        None => store::queue::lease(&mut db, project_id, who, &mut rng).await?,
        Some(id) => store::screening_work::lease(&mut db, id, who, &mut rng).await?,
    };
    let Some(lease) = lease else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let view = view(&mut db, lease.assignment_id, who).await?;
    let address = format!("/api/v1/assignments/{}", view.id);
    Ok((StatusCode::CREATED, [(LOCATION, address)], Json(view)).into_response())
}

/// Which leases to list.
#[derive(Deserialize)]
pub struct AssignmentsQuery {
    /// Only those of this project.
    #[serde(default)]
    project: Option<ProjectId>,
}

/// Lists one's own live leases, newest first.
///
/// For a program that lost an answer: what it holds is here, drafts included. Leases that ended and
/// work that is done are not.
#[utoipa::path(
    get,
    path = "/api/v1/assignments",
    operation_id = "list_assignments",
    params(("project" = Option<String>, Query, format = Uuid, description = "id of a project; without it, of all")),
    responses(
        (status = 200, description = "at most 10 of each project", body = Vec<AssignmentView>),
        (status = 403, description = "not a labeler"),
    ),
    security(("bearer" = []))
)]
pub async fn index(
    State(state): State<AppState>,
    Holder { visitor: labeler }: Holder,
    ApiQuery(query): ApiQuery<AssignmentsQuery>,
) -> AppResult<Json<Vec<AssignmentView>>> {
    let mut db = state.db.acquire().await?;
    let who = labeler.account_id;
    let held = match labeler.is_labeler {
        true => store::assignments::list_live(&mut db, who, query.project).await?,
        false => store::screening_work::list_live(&mut db, who, query.project).await?,
    };
    let mut views = Vec::with_capacity(held.len());
    for id in held {
        views.push(view(&mut db, id, who).await?);
    }
    Ok(Json(views))
}

/// One's own assignment, whatever its status.
#[utoipa::path(
    get,
    path = "/api/v1/assignments/{id}",
    operation_id = "show_assignment",
    params(("id" = String, Path, format = Uuid, description = "id of the assignment")),
    responses(
        (status = 200, description = "the assignment", body = AssignmentView),
        (status = 403, description = "not a labeler"),
        (status = 404, description = "no such assignment of this labeler"),
    ),
    security(("bearer" = []))
)]
pub async fn show(
    State(state): State<AppState>,
    Worker {
        visitor: labeler,
        id,
    }: Worker,
) -> AppResult<Json<AssignmentView>> {
    let mut db = state.db.acquire().await?;
    Ok(Json(view(&mut db, id, labeler.account_id).await?))
}

/// A draft to save: the content of a submission of the task's kind so far, with `time` and `revision`
/// beside it. This is the shape for tasks that rank or compare; the others take the members of
/// `WritingInput` or `ReviewInput` in the place of `candidates`, `strength` and `all_bad`.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "describes the JSON, which is read by the task's kind"
)]
pub struct DraftInput {
    /// One entry for each candidate judged so far.
    candidates: Vec<crate::domain::ranking::CandidateInput>,
    /// Of a comparison of two: how much better the preferred one is, 1 (barely) to 4 (far).
    strength: Option<i16>,
    /// None of the candidates is any good.
    all_bad: bool,
    /// Anything the labeler wants to add.
    note: String,
    /// How the time in the task was spent so far.
    time: Option<TimeSpent>,
    /// Save only over this revision; another tab's newer draft is then a 409.
    revision: Option<i64>,
}

/// Takes a member out of a JSON object and reads it; none where it is missing or null.
fn take<T: serde::de::DeserializeOwned>(body: &mut Value, name: &str) -> AppResult<Option<T>> {
    let member = body
        .as_object_mut()
        .and_then(|object| object.shift_remove(name));
    serde_json::from_value(member.unwrap_or_default())
        .map_err(|error| AppError::invalid(name, error.to_string()))
}

/// What saving a draft answers.
#[derive(Serialize, ToSchema)]
pub struct DraftSaved {
    /// The draft's revision now.
    revision: i64,
    /// When the lease ends now (RFC 3339, UTC).
    lease_until: chrono::DateTime<chrono::Utc>,
    /// Whether the place is still held. Where it is not, others may have taken it; the draft is kept,
    /// and the work can still be submitted.
    is_held: bool,
}

/// Saves a draft in place of the one before, and renews the lease.
#[utoipa::path(
    put,
    path = "/api/v1/assignments/{id}/draft",
    params(("id" = String, Path, format = Uuid, description = "id of the assignment")),
    request_body = DraftInput,
    responses(
        (status = 200, description = "saved", body = DraftSaved),
        (status = 403, description = "not a labeler"),
        (status = 404, description = "no such assignment of this labeler"),
        (status = 409, description = "the work has ended, or the draft has another revision by now"),
        (status = 422, description = "wrong fields, each named"),
    ),
    security(("bearer" = []))
)]
pub async fn save_draft(
    State(state): State<AppState>,
    Worker {
        visitor: labeler,
        id,
    }: Worker,
    JsonBody(mut body): JsonBody<Value>,
) -> AppResult<Json<DraftSaved>> {
    let mut db = state.db.acquire().await?;
    let who = labeler.account_id;
    let revision: Option<i64> = take(&mut body, "revision")?;
    let time: Option<TimeSpent> = take(&mut body, "time")?;
    let kind = store::assignments::find_kind(&mut db, id, who).await?;
    let input = Input::from_json(kind, body).map_err(|error| AppError::Invalid(vec![error]))?;
    let time = time.unwrap_or_default();
    let saved = store::assignments::save_draft(&mut db, id, who, &input, time, revision).await?;
    Ok(Json(DraftSaved {
        revision: saved.revision,
        lease_until: saved.lease_until,
        is_held: saved.is_held,
    }))
}

/// A submission, by the kind of its task: `rank` and `compare` take a ranking, `demonstrate` a
/// demonstration, `review` a review.
#[derive(ToSchema)]
#[serde(untagged)]
pub enum SubmissionInput {
    /// Of a ranking or a comparison of two.
    Ranking(RankingInput),
    /// Of a demonstration.
    Writing(WritingInput),
    /// Of a review of a prompt.
    Review(ReviewInput),
}

/// What a submission answers.
#[derive(Serialize, ToSchema)]
pub struct Submitted {
    /// What was written.
    id: uuid::Uuid,
    /// The same, where it is a ranking.
    #[serde(skip_serializing_if = "Option::is_none")]
    ranking_id: Option<uuid::Uuid>,
    /// 1, and one more for each correction.
    version: i32,
}

/// Of a correction.
#[derive(Deserialize)]
pub struct SubmissionQuery {
    /// The version that it corrects.
    #[serde(default)]
    replaces: Option<i32>,
}

/// Submits a ranking, or whatever the task's kind asks for. With `replaces`, corrects one of the last 20
/// submissions: a new version is written beside the old one. A member `time` of the body says how the
/// time in the task was spent, and `revision` which draft was in sight: if another window saved a newer one
/// that says something else, that is a 409. Repeating a request with the same key and content changes nothing and gives
/// the same answer.
#[utoipa::path(
    post,
    path = "/api/v1/assignments/{id}/submission",
    operation_id = "submit_ranking",
    params(
        ("id" = String, Path, format = Uuid, description = "id of the assignment"),
        ("Idempotency-Key" = String, Header, description = "made by the client, one for each submission"),
        ("replaces" = Option<i32>, Query, description = "the version that this corrects; it must be the newest"),
    ),
    request_body = SubmissionInput,
    responses(
        (status = 201, description = "written", body = Submitted),
        (status = 403, description = "not a labeler"),
        (status = 404, description = "no such assignment of this labeler"),
        (status = 409, description = "submitted or skipped already, the key was used for something else, or the draft has another revision by now"),
        (status = 422, description = "wrong or missing fields, each named"),
    ),
    security(("bearer" = []))
)]
pub async fn submit(
    State(state): State<AppState>,
    Worker {
        visitor: labeler,
        id,
    }: Worker,
    ApiQuery(query): ApiQuery<SubmissionQuery>,
    headers: HeaderMap,
    JsonBody(mut body): JsonBody<Value>,
) -> AppResult<(StatusCode, Json<Submitted>)> {
    let key = headers
        .get("idempotency-key")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let mut db = state.db.acquire().await?;
    let who = labeler.account_id;
    let time: Option<TimeSpent> = take(&mut body, "time")?;
    let revision: Option<i64> = take(&mut body, "revision")?;
    let assignment = store::assignments::find(&mut db, id, who).await?;
    let kind = assignment.kind;
    let input = Input::from_json(kind, body).map_err(|error| AppError::Invalid(vec![error]))?;
    let new = NewSubmission {
        revision,
        idempotency_key: key,
        input: &input,
        time: time.unwrap_or_default(),
        replaces: query.replaces,
    };
    let written = store::submissions::submit_found(&mut db, assignment, who, &new).await?;
    let is_ranking = matches!(kind, TaskKind::Rank | TaskKind::Compare);
    let submitted = Submitted {
        id: written.id,
        ranking_id: is_ranking.then_some(written.id),
        version: written.version,
    };
    Ok((StatusCode::CREATED, Json(submitted)))
}

/// Why a task is skipped.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SkipInput {
    /// Why.
    reason: String,
    /// Anything the labeler wants to add.
    #[serde(default)]
    note: String,
}

/// Gives an assignment back with a reason.
#[utoipa::path(
    post,
    path = "/api/v1/assignments/{id}/skip",
    operation_id = "skip_task",
    params(("id" = String, Path, format = Uuid, description = "id of the assignment")),
    request_body = SkipInput,
    responses(
        (status = 204, description = "given back"),
        (status = 403, description = "not a labeler"),
        (status = 404, description = "no such assignment of this labeler"),
        (status = 409, description = "the work has ended already"),
        (status = 422, description = "unknown reason"),
    ),
    security(("bearer" = []))
)]
pub async fn skip(
    State(state): State<AppState>,
    Worker {
        visitor: labeler,
        id,
    }: Worker,
    JsonBody(input): JsonBody<SkipInput>,
) -> AppResult<StatusCode> {
    let mut db = state.db.acquire().await?;
    store::assignments::skip(&mut db, id, labeler.account_id, &input.reason, &input.note).await?;
    Ok(StatusCode::NO_CONTENT)
}
