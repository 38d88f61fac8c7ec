//! `GET /api/v1/openapi.json`: the API's description, made from the handlers themselves.

use axum::Json;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use crate::api::{assignments, projects, snapshots};

#[derive(OpenApi)]
#[openapi(
    info(title = "Plackett", description = "Lease ranking tasks, save drafts, submit rankings."),
    paths(
        projects::index,
        assignments::create,
        assignments::save_draft,
        assignments::submit,
        assignments::skip,
        snapshots::index,
        snapshots::show,
    ),
    modifiers(&Bearer)
)]
struct Description;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        let scheme =
            SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        description
            .components
            .get_or_insert_with(Default::default)
            .add_security_scheme("bearer", scheme);
    }
}

/// The description.
pub async fn show() -> Json<utoipa::openapi::OpenApi> {
    Json(Description::openapi())
}
