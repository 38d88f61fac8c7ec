//! `/api/v1/exports`: snapshots as files, for programs.

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::address::{ApiQuery, IdPath};
use crate::auth::visitor::ProjectAdmin;
use crate::domain::ids::{ExportId, SnapshotId};
use crate::error::{AppError, AppResult};
use crate::pages::snapshots::ExportQuery;
use crate::state::AppState;
use crate::store;
use crate::store::exports::Export;

/// An export of a snapshot as a file.
#[derive(Serialize, ToSchema)]
pub struct ExportView {
    /// Id for its addresses.
    #[schema(value_type = String, format = Uuid)]
    id: ExportId,
    /// What it is an export of.
    #[schema(value_type = String, format = Uuid)]
    snapshot_id: SnapshotId,
    /// How rows are written.
    format: String,
    /// What they are put into.
    container: String,
    /// What pairs carry.
    margin: String,
    /// How several labelers are put together.
    aggregation: String,
    /// Of the formats: the same choice by another is another export.
    revision: i16,
    /// `waiting`, `building`, `ready` or `failed`.
    status: String,
    /// Records of the snapshot.
    n_items: i64,
    /// Records written so far.
    n_done: i64,
    /// Lines or table rows, when it is ready.
    n_rows: Option<i64>,
    /// Bytes of the file, when it is ready.
    n_bytes: Option<i64>,
    /// Of the file, in lower-case hex, when it is ready.
    sha256: Option<String>,
    /// Why it failed.
    error: Option<String>,
    /// When it was asked for.
    created_at: DateTime<Utc>,
}

impl From<Export> for ExportView {
    fn from(export: Export) -> Self {
        Self {
            id: export.id,
            snapshot_id: export.snapshot_id,
            format: export.format,
            container: export.container,
            margin: export.margin,
            aggregation: export.aggregation,
            revision: export.revision,
            status: export.status,
            n_items: export.n_items,
            n_done: export.n_done,
            n_rows: export.n_rows,
            n_bytes: export.n_bytes,
            sha256: export.sha256,
            error: export.error,
            created_at: export.created_at,
        }
    }
}

/// Has a snapshot built into a file, in the background.
///
/// The same snapshot and choice are the same export and the same bytes; asking again builds nothing
/// twice. Where a new version of the program writes other bytes, it is a new export of a higher `revision`.
#[utoipa::path(
    post,
    path = "/api/v1/snapshots/{id}/exports",
    operation_id = "build_export",
    params(
        ("id" = String, Path, format = Uuid, description = "id of the snapshot"),
        ("format" = Option<String>, Query, description = "the snapshot's own, named after its kind (the default); rankings: `trl`, `trl-implicit`, `trl-unpaired`, `nectar`, `hh`, `summarize`; demonstrations: `alpaca`, `sharegpt`; prompts: `trl`"),
        ("container" = Option<String>, Query, description = "`jsonl` (the default), `parquet`, or `dataset`: a tar archive with Parquet files by split, a card and checksums"),
        ("margin" = Option<String>, Query, description = "of TRL's pairs: `none` (the default), `ranks` or `ratings`"),
        ("aggregation" = Option<String>, Query, description = "of rankings: `labelers` (the default) or `mean-rank`"),
    ),
    responses(
        (status = 202, description = "wanted, being built, or ready", body = ExportView,
            headers(("Location" = String, description = "address of the export"))),
        (status = 403, description = "not an admin"),
        (status = 404, description = "no such snapshot"),
        (status = 422, description = "a word that is none of the choices"),
    ),
    security(("bearer" = []))
)]
pub async fn create(
    State(state): State<AppState>,
    ProjectAdmin(visitor): ProjectAdmin,
    IdPath(id): IdPath<SnapshotId>,
    ApiQuery(query): ApiQuery<ExportQuery>,
) -> AppResult<Response> {
    let export = crate::pages::exports::want(&state, &visitor, id, &query).await?;
    let address = format!("/api/v1/exports/{}", export.id);
    let view = ExportView::from(export);
    Ok((StatusCode::ACCEPTED, [(LOCATION, address)], Json(view)).into_response())
}

/// How far an export is, and what it is when it is ready.
#[utoipa::path(
    get,
    path = "/api/v1/exports/{id}",
    operation_id = "show_export",
    params(("id" = String, Path, format = Uuid, description = "id of the export")),
    responses(
        (status = 200, description = "the export", body = ExportView),
        (status = 403, description = "not an admin"),
        (status = 404, description = "no such export"),
    ),
    security(("bearer" = []))
)]
pub async fn show(
    State(state): State<AppState>,
    ProjectAdmin(visitor): ProjectAdmin,
    IdPath(id): IdPath<ExportId>,
) -> AppResult<Json<ExportView>> {
    let mut db = state.db.acquire().await?;
    let export = store::exports::find(&mut db, id).await?;
    let export = export.ok_or(AppError::NotFound("export"))?;
    let snapshot = store::snapshots::find(&mut db, export.snapshot_id).await?;
    let snapshot = snapshot.ok_or(AppError::NotFound("snapshot"))?;
    store::members::find_administered(&mut db, visitor.account_id, snapshot.project_id).await?;
    Ok(Json(export.into()))
}

/// Downloads an export that is ready, whole or a part of it (`Range`).
#[utoipa::path(
    get,
    path = "/api/v1/exports/{id}/file",
    operation_id = "download_export",
    params(("id" = String, Path, format = Uuid, description = "id of the export")),
    responses(
        (status = 200, description = "the file", body = Vec<u8>, content_type = "application/octet-stream",
            headers(
                ("Content-Disposition" = String, description = "a name for the file"),
                ("ETag" = String, description = "the export's `sha256`"),
            )),
        (status = 206, description = "the part asked for; the whole file where `If-Range` names another"),
        (status = 304, description = "the file is the one that `If-None-Match` names"),
        (status = 403, description = "not an admin"),
        (status = 404, description = "no such export"),
        (status = 409, description = "not ready yet, or its file is gone: have it built again"),
        (status = 412, description = "the file is none of those that `If-Match` names"),
    ),
    security(("bearer" = []))
)]
pub async fn file(
    state: State<AppState>,
    admin: ProjectAdmin,
    IdPath(id): IdPath<ExportId>,
    request: Request,
) -> AppResult<Response> {
    crate::pages::exports::show(state, admin, Path(id), request).await
}
