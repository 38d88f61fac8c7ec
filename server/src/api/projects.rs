//! `GET /api/v1/projects`: which projects there are, for programs that label.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::visitor::Visitor;
use crate::domain::ids::ProjectId;
use crate::error::AppResult;
use crate::state::AppState;
use crate::store;

/// A project.
#[derive(Serialize, ToSchema)]
pub struct ProjectView {
    /// Id for the other addresses.
    #[schema(value_type = String, format = Uuid)]
    id: ProjectId,
    /// Short name.
    slug: String,
    /// The name shown.
    name: String,
}

/// Lists projects.
#[utoipa::path(
    get,
    path = "/api/v1/projects",
    operation_id = "list_projects",
    responses((status = 200, description = "every project", body = Vec<ProjectView>)),
    security(("bearer" = []))
)]
pub async fn index(State(state): State<AppState>, _: Visitor) -> AppResult<Json<Vec<ProjectView>>> {
    let mut db = state.db.acquire().await?;
    let projects = store::projects::list(&mut db).await?;
    let view = |project: store::projects::Project| ProjectView {
        id: project.id,
        slug: project.slug,
        name: project.name,
    };
    Ok(Json(projects.into_iter().map(view).collect()))
}
