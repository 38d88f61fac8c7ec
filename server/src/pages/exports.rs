//! `/exports`: snapshots as files. One is asked for on the snapshot's page, built in the background and
//! downloaded from here, as often and in as many pieces as the reader likes.

use axum::extract::{Path, Request, State};
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, ETAG};
use axum::response::{IntoResponse, Redirect, Response};
use axum_extra::extract::Form;
use serde_json::json;
use tower::ServiceExt;
use tower_http::services::ServeFile;

use crate::auth::visitor::{ProjectAdmin, Visitor};
use crate::domain::audit::AuditAction;
use crate::domain::export::Container;
use crate::domain::ids::{ExportId, SnapshotId};
use crate::error::{AppError, AppResult};
use crate::exchange::export_file::folder;
use crate::pages::snapshots::{ExportQuery, file_name};
use crate::state::AppState;
use crate::store;
use crate::store::audit_events::NewEvent;
use crate::store::exports::Export;
use crate::web::conditional::EntityTag;

/// `POST /snapshots/{id}/exports`: has a snapshot built into a file.
pub async fn create(
    State(state): State<AppState>,
    ProjectAdmin(visitor): ProjectAdmin,
    Path(id): Path<SnapshotId>,
    Form(query): Form<ExportQuery>,
) -> AppResult<Redirect> {
    want(&state, &visitor, id, &query).await?;
    Ok(Redirect::to(&format!("/snapshots/{id}#exports")))
}

/// Asks for an export of a snapshot and wakes its builder.
///
/// # Errors
/// `NotFound`, or `Invalid` with the first wrong word.
pub async fn want(
    state: &AppState,
    visitor: &Visitor,
    id: SnapshotId,
    query: &ExportQuery,
) -> AppResult<Export> {
    let mut db = state.db.acquire().await?;
    let snapshot = store::snapshots::find(&mut db, id).await?;
    let snapshot = snapshot.ok_or(AppError::NotFound("snapshot"))?;
    let who = visitor.account_id;
    store::members::find_administered(&mut db, who, snapshot.project_id).await?;
    let kind = snapshot.parsed_kind()?;
    let choice = query.choice(kind)?;
    let wanted = store::exports::want(&mut db, id, kind, &choice, Some(who)).await?;
    let export = store::exports::find(&mut db, wanted).await?;
    let export = export.ok_or(AppError::NotFound("export"))?;
    if export.status == "ready" && !path_of(state, &export)?.is_file() {
        store::exports::want_again(&mut db, wanted).await?;
        let waiting = store::exports::find(&mut db, wanted).await?;
        state.exports_wanted.notify_one();
        return waiting.ok_or(AppError::NotFound("export"));
    }
    state.exports_wanted.notify_one();
    Ok(export)
}

fn path_of(state: &AppState, export: &Export) -> AppResult<std::path::PathBuf> {
    let folder = folder(&state.data.data_dir()).map_err(anyhow::Error::from)?;
    Ok(folder.join(export.file_name()?))
}

/// `GET /exports/{id}`: the file. A download that broke off goes on where it broke (`Range`, with `If-Range`
/// only where the file is still the same), and whoever has the file is not sent it again: `ETag` is the
/// SHA-256 of its bytes.
pub async fn show(
    State(state): State<AppState>,
    ProjectAdmin(visitor): ProjectAdmin,
    Path(id): Path<ExportId>,
    mut request: Request,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let export = store::exports::find(&mut db, id).await?;
    let export = export.ok_or(AppError::NotFound("export"))?;
    let snapshot = store::snapshots::find(&mut db, export.snapshot_id).await?;
    let snapshot = snapshot.ok_or(AppError::NotFound("snapshot"))?;
    store::members::find_administered(&mut db, visitor.account_id, snapshot.project_id).await?;
    let (Some(sha256), "ready") = (&export.sha256, export.status.as_str()) else {
        return Err(AppError::conflict("exports-not-ready"));
    };
    let path = path_of(&state, &export)?;
    if !path.is_file() {
        return Err(AppError::conflict("exports-file-gone"));
    }
    let choice = export.choice()?;
    let tag = EntityTag::new(&[sha256])?;
    if let Some(answer) = tag.answer(request.headers()) {
        return Ok(answer);
    }
    tag.settle(request.headers_mut());
    // Before the first byte, so that none leaves unnoted.
    let event = NewEvent::by(visitor.account_id, AuditAction::Export);
    let event = event
        .to("snapshot", snapshot.id.0)
        .within(snapshot.project_id);
    let words =
        json!({"format": export.format, "container": export.container, "items": export.n_items});
    store::audit_events::record(&mut db, event.with(words)).await?;
    drop(db);
    let kind = match choice.container {
        Container::Jsonl => "application/x-ndjson; charset=utf-8",
        Container::Parquet => "application/vnd.apache.parquet",
        Container::Dataset => "application/x-tar",
    };
    let served = ServeFile::new(path).oneshot(request).await;
    let mut response = served.map_err(anyhow::Error::from)?.into_response();
    let name = file_name(&snapshot, &export.format);
    let name = name.trim_end_matches("jsonl").to_owned() + choice.extension();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(ETAG, tag.value());
    let disposition = format!("attachment; filename=\"{name}\"");
    if let Ok(value) = HeaderValue::from_str(&disposition) {
        headers.insert(CONTENT_DISPOSITION, value);
    }
    Ok(response)
}
