//! `/api/v1/snapshots`: what programs download; taking one is a person's work on a page or the
//! command line.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::address::{ApiQuery, IdPath};
use crate::auth::visitor::ProjectAdmin;
use crate::domain::ids::{ProjectId, SnapshotId};
use crate::domain::snapshot_filters::{Filters, LeftOut};
use crate::error::AppResult;
use crate::pages::snapshots::{self, ExportQuery, SnapshotsQuery};
use crate::state::AppState;
use crate::store;
use crate::store::snapshots::Snapshot;

/// Snapshots in one answer, at most.
const PAGE_LENGTH: i64 = 100;

/// A frozen selection.
#[derive(Serialize, ToSchema)]
pub struct SnapshotView {
    /// Id for the other addresses.
    #[schema(value_type = String, format = Uuid)]
    id: SnapshotId,
    /// The project it was taken of.
    #[schema(value_type = String, format = Uuid)]
    project_id: ProjectId,
    /// `rankings`, `demonstrations`, `prompts` or `texts`.
    kind: String,
    /// Its name.
    name: String,
    /// Whether what simulated labelers said was taken too.
    includes_simulated: bool,
    /// Of rankings that somebody decided between: `adjudicated` (the decision in place of the labels), `all`
    /// or `labels` (no decisions).
    labels: String,
    /// Which tasks and labelers were left out on purpose.
    filters: Filters,
    /// How many those were, by reason; withdrawn labels are left out always.
    left_out: LeftOut,
    /// Lines of the export.
    n_items: i64,
    /// Distinct prompts.
    n_prompts: i64,
    /// Of the export in its own format, lower-case hex.
    sha256: String,
    /// When it was taken.
    created_at: DateTime<Utc>,
}

impl From<Snapshot> for SnapshotView {
    fn from(snapshot: Snapshot) -> Self {
        Self {
            id: snapshot.id,
            project_id: snapshot.project_id,
            kind: snapshot.kind,
            name: snapshot.name,
            includes_simulated: snapshot.includes_simulated,
            labels: snapshot.labels,
            filters: snapshot.filters.0,
            left_out: snapshot.left_out.0,
            n_items: snapshot.n_items,
            n_prompts: snapshot.n_prompts,
            sha256: snapshot.sha256,
            created_at: snapshot.created_at,
        }
    }
}

/// Lists snapshots of the projects that one administers, newest first; `before` goes on after the last of a full answer of 100.
#[utoipa::path(
    get,
    path = "/api/v1/snapshots",
    operation_id = "list_snapshots",
    params(("before" = Option<String>, Query, format = Uuid, description = "id of the last snapshot seen")),
    responses(
        (status = 200, description = "at most 100 snapshots", body = Vec<SnapshotView>),
        (status = 403, description = "not an admin"),
    ),
    security(("bearer" = []))
)]
pub async fn index(
    State(state): State<AppState>,
    ProjectAdmin(visitor): ProjectAdmin,
    ApiQuery(query): ApiQuery<SnapshotsQuery>,
) -> AppResult<Json<Vec<SnapshotView>>> {
    let mut db = state.db.acquire().await?;
    let owner = snapshots::limited_to(&visitor);
    let found = store::snapshots::list(&mut db, owner, query.before, PAGE_LENGTH).await?;
    Ok(Json(found.into_iter().map(SnapshotView::from).collect()))
}

/// One snapshot.
#[utoipa::path(
    get,
    path = "/api/v1/snapshots/{id}",
    operation_id = "show_snapshot",
    params(("id" = String, Path, format = Uuid, description = "id of the snapshot")),
    responses(
        (status = 200, description = "the snapshot", body = SnapshotView),
        (status = 403, description = "not an admin"),
        (status = 404, description = "no such snapshot"),
    ),
    security(("bearer" = []))
)]
pub async fn show(
    State(state): State<AppState>,
    ProjectAdmin(visitor): ProjectAdmin,
    IdPath(id): IdPath<SnapshotId>,
) -> AppResult<Json<SnapshotView>> {
    let mut db = state.db.acquire().await?;
    let found = snapshots::find(&mut db, &visitor, id).await?;
    Ok(Json(found.into()))
}

/// Downloads a snapshot, one JSON object a line.
///
/// The same snapshot gives the same bytes each time. A failure on the way breaks the connection off,
/// so that half a file is never taken for a whole one.
#[utoipa::path(
    get,
    path = "/api/v1/snapshots/{id}/export",
    operation_id = "export_snapshot",
    params(
        ("id" = String, Path, format = Uuid, description = "id of the snapshot"),
        ("format" = Option<String>, Query, description = "the snapshot's own, named after its kind (the default), or one of those that `POST .../exports` lists, as JSON lines"),
        ("margin" = Option<String>, Query, description = "of TRL's pairs: `none` (the default), `ranks` or `ratings`"),
        ("aggregation" = Option<String>, Query, description = "of rankings: `labelers` (the default) or `mean-rank`"),
    ),
    responses(
        (status = 200, description = "the lines", body = String, content_type = "application/x-ndjson",
            headers(
                ("Content-Disposition" = String, description = "a name for the file"),
                ("ETag" = String, description = "names these bytes; of the snapshot's own format it is its `sha256`"),
            )),
        (status = 304, description = "the bytes are those that `If-None-Match` names"),
        (status = 403, description = "not an admin"),
        (status = 404, description = "no such snapshot"),
        (status = 412, description = "the bytes are none of those that `If-Match` names"),
        (status = 422, description = "a format that this kind does not have"),
    ),
    security(("bearer" = []))
)]
pub async fn export(
    state: State<AppState>,
    admin: ProjectAdmin,
    IdPath(id): IdPath<SnapshotId>,
    ApiQuery(query): ApiQuery<ExportQuery>,
    asked: HeaderMap,
) -> AppResult<Response> {
    snapshots::export(state, admin, Path(id), Query(query), asked).await
}
