//! `/api/v1/projects/{id}/agreement`: the same figures as on the page, for programs that draw or keep them.

use axum::Json;
use axum::extract::State;

use crate::api::address::{ApiQuery, IdPath};
use crate::auth::visitor::ProjectAdmin;
use crate::domain::agreement::Agreement;
use crate::domain::ids::ProjectId;
use crate::domain::labels::FilterInput;
use crate::error::{AppError, AppResult};
use crate::figures;
use crate::state::AppState;
use crate::store;

/// How far labelers of a project agree, how well each works, and what decides besides the texts.
///
/// Rests on the newest version of each submitted ranking, the newest 20,000 that pass the filter.
/// Intervals are of 95 %, by bootstrap over prompts where nothing else is said. A value is null where it
/// would rest on fewer prompts than `fewest`.
#[utoipa::path(
    get,
    path = "/api/v1/projects/{id}/agreement",
    operation_id = "show_agreement",
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
        (status = 200, description = "the figures", body = Agreement),
        (status = 403, description = "not an admin"),
        (status = 404, description = "no such project, or one that you do not administer"),
        (status = 422, description = "a wrong filter"),
    ),
    security(("bearer" = []))
)]
pub async fn show(
    State(state): State<AppState>,
    ProjectAdmin(visitor): ProjectAdmin,
    IdPath(id): IdPath<ProjectId>,
    ApiQuery(input): ApiQuery<FilterInput>,
) -> AppResult<Json<Agreement>> {
    let filter = input.parse().map_err(AppError::Invalid)?;
    let mut db = state.db.acquire().await?;
    store::members::find_administered(&mut db, visitor.account_id, id).await?;
    drop(db);
    let figures = figures::agreement(&state, id, &filter).await?;
    Ok(Json(Agreement::clone(&figures)))
}
