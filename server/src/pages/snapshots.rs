//! `/snapshots`: frozen selections, their hashes and their downloads.

use askama::Template;
use async_stream::stream;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, ETAG};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum_extra::extract::Form;
use futures_util::StreamExt;
use tokio_util::io::ReaderStream;

use crate::auth::visitor::{Admin, Visitor};
use crate::domain::ids::SnapshotId;
use crate::domain::prompt::CATEGORIES;
use crate::domain::snapshot::{ExportFormat, Selection, SnapshotKind};
use crate::error::{AppError, AppResult, FieldError};
use crate::exchange::export;
use crate::message::Message;
use crate::state::AppState;
use crate::store;
use crate::store::projects::Project;
use crate::store::snapshots::Snapshot;
use crate::web::page::{Page, render};

/// Snapshots on one page of the list.
const PAGE_LENGTH: usize = 50;

/// Bytes that wait between the database and a slow reader.
const PIPE: usize = 64 * 1024;

#[derive(Template)]
#[template(path = "snapshots/index.html")]
struct SnapshotsPage {
    page: Page,
    projects: Vec<Project>,
    snapshots: Vec<Snapshot>,
    next: Option<SnapshotId>,
    form: SnapshotForm,
    errors: Vec<FieldError>,
}

#[derive(Template)]
#[template(path = "snapshots/show.html")]
struct SnapshotPage {
    page: Page,
    snapshot: Snapshot,
    formats: Vec<&'static str>,
    may_export: bool,
}

/// The form that takes a snapshot.
#[derive(Debug, Default, serde::Deserialize)]
pub struct SnapshotForm {
    #[serde(default)]
    project: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    categories: Vec<String>,
    #[serde(default)]
    include_simulated: bool,
    #[serde(default)]
    reviewed_categories: bool,
    #[serde(default)]
    include_personal: bool,
}

impl SnapshotsPage {
    fn kinds(&self) -> [(SnapshotKind, String); 4] {
        SnapshotKind::ALL.map(|kind| (kind, self.page.t(&format!("snapshots-kind-{kind}"))))
    }

    fn is_kind(&self, kind: &SnapshotKind) -> bool {
        self.form.kind == kind.as_str()
    }

    fn kind_of(&self, snapshot: &Snapshot) -> String {
        self.page.t(&format!("snapshots-kind-{}", snapshot.kind))
    }

    fn categories(&self) -> [(&'static str, bool); 10] {
        CATEGORIES.map(|word| {
            let is_chosen = self.form.categories.iter().any(|chosen| chosen == word);
            (word, is_chosen)
        })
    }
}

impl SnapshotPage {
    fn kind(&self) -> String {
        let key = format!("snapshots-kind-{}", self.snapshot.kind);
        self.page.t(&key)
    }

    fn about(&self, format: &str) -> String {
        let key = match format {
            "trl" => "snapshots-format-trl",
            _ => "snapshots-format-own",
        };
        self.page.t(key)
    }
}

/// Those who train and those who look after the data see snapshots; labelers do not.
fn check_may_see(visitor: &Visitor) -> AppResult<()> {
    if visitor.is_admin || visitor.is_operator {
        Ok(())
    } else {
        Err(AppError::Forbidden("admin"))
    }
}

/// Where the list goes on.
#[derive(Debug, Default, serde::Deserialize)]
pub struct SnapshotsQuery {
    /// The last snapshot seen.
    #[serde(default)]
    pub(crate) before: Option<SnapshotId>,
}

/// `GET /snapshots`.
pub async fn index(
    State(state): State<AppState>,
    page: Page,
    visitor: Visitor,
    Query(query): Query<SnapshotsQuery>,
) -> AppResult<Response> {
    check_may_see(&visitor)?;
    let form = SnapshotForm::default();
    show_list(&state, page, query.before, form, Vec::new()).await
}

async fn show_list(
    state: &AppState,
    page: Page,
    before: Option<SnapshotId>,
    form: SnapshotForm,
    errors: Vec<FieldError>,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let projects = store::projects::list(&mut db).await?;
    let mut snapshots = store::snapshots::list(&mut db, before, PAGE_LENGTH as i64 + 1).await?;
    drop(db);
    let has_more = snapshots.len() > PAGE_LENGTH;
    snapshots.truncate(PAGE_LENGTH);
    let next = snapshots.last().filter(|_| has_more).map(|last| last.id);
    let status = if errors.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::UNPROCESSABLE_ENTITY
    };
    let body = render(&SnapshotsPage {
        page: page.titled("snapshots-title"),
        projects,
        snapshots,
        next,
        form,
        errors,
    })?;
    Ok((status, body).into_response())
}

/// `POST /snapshots`: freezes a selection.
pub async fn create(
    State(state): State<AppState>,
    page: Page,
    visitor: Visitor,
    Form(form): Form<SnapshotForm>,
) -> AppResult<Response> {
    check_may_see(&visitor)?;
    let made = match read_selection(&state, &form).await {
        Ok(selection) => {
            export::create_snapshot(&state.db, &selection, Some(visitor.account_id)).await
        }
        Err(error) => Err(error),
    };
    match made {
        Ok(id) => Ok(Redirect::to(&format!("/snapshots/{id}")).into_response()),
        Err(AppError::Invalid(errors)) => show_list(&state, page, None, form, errors).await,
        Err(error) => Err(error),
    }
}

async fn read_selection(state: &AppState, form: &SnapshotForm) -> AppResult<Selection> {
    let mut db = state.db.acquire().await?;
    let project = store::projects::find_by_slug(&mut db, &form.project)
        .await?
        .ok_or_else(|| AppError::invalid("project", Message::new("error-choose-project")))?;
    let kind = form
        .kind
        .parse()
        .map_err(|_: String| AppError::invalid("kind", Message::new("error-unknown-choice")))?;
    Ok(Selection {
        project_id: project.id,
        kind,
        name: form.name.trim().to_owned(),
        categories: form.categories.clone(),
        include_simulated: form.include_simulated,
        reviewed_categories: form.reviewed_categories,
        include_personal: form.include_personal,
    })
}

async fn find(state: &AppState, id: SnapshotId) -> AppResult<Snapshot> {
    let mut db = state.db.acquire().await?;
    store::snapshots::find(&mut db, id)
        .await?
        .ok_or(AppError::NotFound("snapshot"))
}

/// `GET /snapshots/{id}`.
pub async fn show(
    State(state): State<AppState>,
    mut page: Page,
    visitor: Visitor,
    Path(id): Path<SnapshotId>,
) -> AppResult<Response> {
    check_may_see(&visitor)?;
    let snapshot = find(&state, id).await?;
    let kind = snapshot.parsed_kind()?;
    page.title.clone_from(&snapshot.name);
    Ok(render(&SnapshotPage {
        page,
        formats: kind
            .formats()
            .iter()
            .map(|format| format.word(kind))
            .collect(),
        snapshot,
        may_export: visitor.is_admin,
    })?
    .into_response())
}

/// Which format to write.
#[derive(Debug, serde::Deserialize)]
pub struct ExportQuery {
    /// The snapshot's own, or `trl`.
    #[serde(default)]
    format: String,
}

/// `GET /snapshots/{id}/export?format=`: streams the snapshot.
pub async fn export(
    State(state): State<AppState>,
    _: Admin,
    Path(id): Path<SnapshotId>,
    Query(query): Query<ExportQuery>,
) -> AppResult<Response> {
    let snapshot = find(&state, id).await?;
    let kind = snapshot.parsed_kind()?;
    let format = match query.format.as_str() {
        "" => ExportFormat::Plackett,
        word => ExportFormat::parse(word, kind)
            .map_err(|_| AppError::invalid("format", Message::new("error-unknown-choice")))?,
    };
    let mut response = Body::from_stream(stream_export(state, id, format)).into_response();
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-ndjson; charset=utf-8"),
    );
    let disposition = format!(
        "attachment; filename=\"{}\"",
        file_name(&snapshot, format.word(kind))
    );
    if let Ok(value) = HeaderValue::from_str(&disposition) {
        headers.insert(CONTENT_DISPOSITION, value);
    }
    if format == ExportFormat::Plackett
        && let Ok(value) = HeaderValue::from_str(&format!("\"{}\"", snapshot.sha256))
    {
        headers.insert(ETAG, value);
    }
    Ok(response)
}

/// A name that every file system takes: project, snapshot, format.
fn file_name(snapshot: &Snapshot, format: &str) -> String {
    let plain = |letter: char| match letter {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' => letter,
        _ => '-',
    };
    let name: String = snapshot.name.chars().map(plain).take(60).collect();
    let hash: String = snapshot.sha256.chars().take(8).collect();
    format!("{}-{name}-{hash}.{format}.jsonl", snapshot.project_slug)
}

/// The bytes of an export as they come from the database. A failure on the way breaks the
/// connection off, so that half a file is never taken for a whole one.
fn stream_export(
    state: AppState,
    id: SnapshotId,
    format: ExportFormat,
) -> impl futures_util::Stream<Item = std::io::Result<Bytes>> + Send {
    let (mut writer, reader) = tokio::io::duplex(PIPE);
    let writing = tokio::spawn(async move {
        let mut db = state.db.acquire().await?;
        export::write_as(&mut db, id, format, &mut writer).await
    });
    stream! {
        let mut chunks = ReaderStream::with_capacity(reader, PIPE);
        while let Some(chunk) = chunks.next().await {
            yield chunk;
        }
        let failure = match writing.await {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => error,
            Err(error) => error.into(),
        };
        tracing::error!(%id, error = format!("{failure:#}"), "an export failed");
        yield Err(std::io::Error::other(failure));
    }
}
