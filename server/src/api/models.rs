//! `/api/v1/projects/{id}/models`: models compared, the same figures as on the page.

use axum::Json;
use axum::extract::State;

use crate::api::address::{ApiQuery, IdPath};
use crate::auth::visitor::Visitor;
use crate::domain::ids::ProjectId;
use crate::domain::labels::FilterInput;
use crate::domain::models::Models;
use crate::error::{AppError, AppResult};
use crate::figures;
use crate::pages::models::check_may_see;
use crate::pages::snapshots::limited_to;
use crate::state::AppState;
use crate::store;

/// The models whose completions were ranked, compared: strengths by Davidson's model (Bradley-Terry with
/// ties) and by Plackett and Luce's, win rates, by category.
///
/// Strengths are log odds against the mean of the models that can be compared, with percentile bootstrap
/// intervals over prompts.
#[utoipa::path(
    get,
    path = "/api/v1/projects/{id}/models",
    operation_id = "show_models",
    params(
        ("id" = String, Path, format = Uuid, description = "id of the project"),
        ("since" = Option<String>, Query, format = Date, description = "said on this day, UTC, or later"),
        ("until" = Option<String>, Query, format = Date, description = "said on this day, UTC, or before"),
        ("category" = Option<String>, Query, description = "use-case category of the prompt"),
        ("language" = Option<String>, Query, description = "language tag of the prompt"),
        ("kind" = Option<String>, Query, description = "`rank` or `compare`"),
        ("form_version" = Option<String>, Query, description = "version of the form"),
        ("simulated" = Option<String>, Query, description = "`true` to look at simulated labelers too"),
    ),
    responses(
        (status = 200, description = "the figures", body = Models),
        (status = 403, description = "neither an admin nor an operator"),
        (status = 404, description = "no such project, or one that you may not see"),
        (status = 422, description = "a wrong filter"),
    ),
    security(("bearer" = []))
)]
pub async fn show(
    State(state): State<AppState>,
    visitor: Visitor,
    IdPath(id): IdPath<ProjectId>,
    ApiQuery(input): ApiQuery<FilterInput>,
) -> AppResult<Json<Models>> {
    check_may_see(&visitor)?;
    let filter = input.parse().map_err(AppError::Invalid)?;
    if let Some(owner) = limited_to(&visitor) {
        let mut db = state.db.acquire().await?;
        store::members::find_administered(&mut db, owner, id).await?;
    }
    let figures = figures::models(&state, id, &filter).await?;
    Ok(Json(Models::clone(&figures)))
}
