//! `GET /api/v1/projects`: the projects that a program may label in or administers.

use std::collections::HashSet;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::visitor::Visitor;
use crate::domain::ids::ProjectId;
use crate::error::{AppError, AppResult};
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

/// Lists the projects that one may label in, is screened for or administers; of an operator's, all.
#[utoipa::path(
    get,
    path = "/api/v1/projects",
    operation_id = "list_projects",
    responses(
        (status = 200, description = "the projects, oldest first", body = Vec<ProjectView>),
        (status = 403, description = "without a role or a screening"),
    ),
    security(("bearer" = []))
)]
pub async fn index(
    State(state): State<AppState>,
    visitor: Visitor,
) -> AppResult<Json<Vec<ProjectView>>> {
    let mut db = state.db.acquire().await?;
    let mut projects = store::projects::list(&mut db).await?;
    if !visitor.is_admin && !visitor.is_operator {
        let who = visitor.account_id;
        let mut own: HashSet<ProjectId> = HashSet::new();
        if visitor.is_labeler {
            let places = store::members::list_places(&mut db, who).await?;
            own.extend(places.iter().map(|place| place.project_id));
        }
        let administered = store::members::list_administered(&mut db, who).await?;
        own.extend(administered.iter().map(|project| project.id));
        own.extend(store::screenings::list_projects(&mut db, who).await?);
        if own.is_empty() && !visitor.has_role() {
            return Err(AppError::Forbidden("labeler"));
        }
        projects.retain(|project| own.contains(&project.id));
    }
    let view = |project: store::projects::Project| ProjectView {
        id: project.id,
        slug: project.slug,
        name: project.name,
    };
    Ok(Json(projects.into_iter().map(view).collect()))
}
