//! `/snapshots`: frozen selections, their hashes and their downloads.

use askama::Template;
use async_stream::stream;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum_extra::extract::Form;
use futures_util::StreamExt;
use serde_json::json;
use sqlx::PgConnection;
use tokio_util::io::ReaderStream;

use crate::auth::visitor::{ProjectAdmin, Visitor};
use crate::domain::audit::AuditAction;
use crate::domain::export::{Aggregation, Container, ExportChoice, ExportFormat, Margin, REVISION};
use crate::domain::ids::{AccountId, SnapshotId};
use crate::domain::prompt::CATEGORIES;
use crate::domain::snapshot::{Labels, Selection, SnapshotKind};
use crate::error::{AppError, AppResult, FieldError};
use crate::exchange::export;
use crate::message::Message;
use crate::pages::snapshot_filters::{self, TIES};
use crate::state::AppState;
use crate::store;
use crate::store::audit_events::NewEvent;
use crate::store::exports::Export;
use crate::store::projects::Project;
use crate::store::snapshots::Snapshot;
use crate::web::conditional::EntityTag;
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
    exports: Vec<Export>,
    may_export: bool,
}

/// The form that takes a snapshot.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct SnapshotForm {
    project: String,
    name: String,
    kind: String,
    categories: Vec<String>,
    include_simulated: bool,
    reviewed_categories: bool,
    include_personal: bool,
    /// Of rankings: `adjudicated`, `all` or `labels`; the first when empty.
    labels: String,
    pub(super) least_agreement: String,
    pub(super) ties: String,
    pub(super) without_single: bool,
    pub(super) least_gold: String,
    pub(super) least_quality: String,
    pub(super) without_unproven: bool,
    /// An address a line.
    pub(super) without_labelers: String,
}

impl SnapshotsPage {
    fn kinds(&self) -> [(SnapshotKind, String); 4] {
        SnapshotKind::ALL.map(|kind| (kind, self.page.t(&format!("snapshots-kind-{kind}"))))
    }

    fn labels(&self) -> [(Labels, String); 3] {
        Labels::ALL.map(|labels| (labels, self.page.t(&format!("snapshots-labels-{labels}"))))
    }

    fn ties(&self) -> [(&'static str, String); 3] {
        TIES.map(|(word, _)| {
            let key = format!("agreement-policy-{}", word.replace('_', "-"));
            (word, self.page.t(&key))
        })
    }

    /// Whether the form leaves anything out.
    fn leaves_out(&self) -> bool {
        let form = &self.form;
        [
            &form.least_agreement,
            &form.least_gold,
            &form.least_quality,
            &form.without_labelers,
        ]
        .iter()
        .any(|text| !text.is_empty())
    }

    fn is_labels(&self, labels: &Labels) -> bool {
        self.form.labels == labels.as_str()
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

    /// Of rankings: what became of labels that somebody decided between.
    fn labels(&self) -> Option<String> {
        let key = format!("snapshots-labels-{}", self.snapshot.labels);
        (self.snapshot.kind == SnapshotKind::Rankings.as_str()).then(|| self.page.t(&key))
    }

    /// What it was narrowed to and what it left out.
    fn filters(&self) -> Vec<String> {
        snapshot_filters::describe(&self.page, &self.snapshot)
    }

    fn about(&self, format: &str) -> String {
        let own = format == self.snapshot.kind;
        let key = match own {
            true => "snapshots-format-own".to_owned(),
            false => format!("snapshots-format-{format}"),
        };
        self.page.t(&key)
    }

    fn is_rankings(&self) -> bool {
        self.snapshot.kind == SnapshotKind::Rankings.as_str()
    }

    fn containers(&self) -> &'static [Container] {
        Container::ALL
    }

    fn margins(&self) -> &'static [Margin] {
        Margin::ALL
    }

    fn aggregations(&self) -> &'static [Aggregation] {
        Aggregation::ALL
    }

    /// Whether any export is waiting or being built, so that the page looks again.
    fn is_underway(&self) -> bool {
        self.exports.iter().any(Export::is_underway)
    }

    /// The choices that are not the default ones.
    fn choices_of(&self, export: &Export) -> String {
        let margin = (export.margin != Margin::default().as_str())
            .then(|| self.page.t(&format!("snapshots-margin-{}", export.margin)));
        let aggregation = (export.aggregation != Aggregation::default().as_str()).then(|| {
            self.page
                .t(&format!("snapshots-aggregation-{}", export.aggregation))
        });
        let said: Vec<String> = margin.into_iter().chain(aggregation).collect();
        said.join(" · ")
    }
}

/// Those who train see snapshots, since runs read them, and those who look after the data; labelers do
/// not.
fn check_may_see(visitor: &Visitor) -> AppResult<()> {
    if visitor.is_project_admin || visitor.is_operator {
        Ok(())
    } else {
        Err(AppError::Forbidden("admin"))
    }
}

/// Whose projects a visitor's snapshots are cut to; none for those who see all.
pub(crate) fn limited_to(visitor: &Visitor) -> Option<AccountId> {
    let sees_all = visitor.is_admin || visitor.is_operator;
    (!sees_all).then_some(visitor.account_id)
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
    show_list(&state, page, &visitor, query.before, form, Vec::new()).await
}

async fn show_list(
    state: &AppState,
    page: Page,
    visitor: &Visitor,
    before: Option<SnapshotId>,
    form: SnapshotForm,
    errors: Vec<FieldError>,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let projects = list_projects(&mut db, visitor).await?;
    let limit = PAGE_LENGTH as i64 + 1;
    let owner = limited_to(visitor);
    let mut snapshots = store::snapshots::list(&mut db, owner, before, limit).await?;
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
    let made = match read_selection(&state, &visitor, &form).await {
        Ok(selection) => {
            export::create_snapshot(&state.db, &selection, Some(visitor.account_id)).await
        }
        Err(error) => Err(error),
    };
    match made {
        Ok(id) => Ok(Redirect::to(&format!("/snapshots/{id}")).into_response()),
        Err(AppError::Invalid(errors)) => {
            show_list(&state, page, &visitor, None, form, errors).await
        }
        Err(error) => Err(error),
    }
}

/// The projects whose snapshots and figures of models a visitor may see.
pub(crate) async fn list_projects(
    db: &mut PgConnection,
    visitor: &Visitor,
) -> sqlx::Result<Vec<Project>> {
    match limited_to(visitor) {
        None => store::projects::list(db).await,
        Some(id) => store::members::list_administered(db, id).await,
    }
}

async fn read_selection(
    state: &AppState,
    visitor: &Visitor,
    form: &SnapshotForm,
) -> AppResult<Selection> {
    let mut db = state.db.acquire().await?;
    let projects = list_projects(&mut db, visitor).await?;
    let project = projects
        .into_iter()
        .find(|project| project.slug == form.project);
    let project = project
        .ok_or_else(|| AppError::invalid("project", Message::new("error-choose-project")))?;
    let kind = form
        .kind
        .parse()
        .map_err(|_: String| AppError::invalid("kind", Message::new("error-unknown-choice")))?;
    let filters = snapshot_filters::read(&mut db, project.id, form).await?;
    Ok(Selection {
        filters,
        project_id: project.id,
        kind,
        name: form.name.trim().to_owned(),
        categories: form.categories.clone(),
        include_simulated: form.include_simulated,
        reviewed_categories: form.reviewed_categories,
        include_personal: form.include_personal,
        labels: match form.labels.as_str() {
            "" => Labels::default(),
            word => word.parse().map_err(|_: String| {
                AppError::invalid("labels", Message::new("error-unknown-choice"))
            })?,
        },
    })
}

/// A snapshot that a visitor may see; another does not exist for them.
pub(crate) async fn find(
    db: &mut PgConnection,
    visitor: &Visitor,
    id: SnapshotId,
) -> AppResult<Snapshot> {
    let found = store::snapshots::find(&mut *db, id).await?;
    let snapshot = found.ok_or(AppError::NotFound("snapshot"))?;
    let may_see = match limited_to(visitor) {
        None => true,
        Some(id) => store::members::may_administer(db, id, snapshot.project_id).await?,
    };
    match may_see {
        true => Ok(snapshot),
        false => Err(AppError::NotFound("snapshot")),
    }
}

/// `GET /snapshots/{id}`.
pub async fn show(
    State(state): State<AppState>,
    mut page: Page,
    visitor: Visitor,
    Path(id): Path<SnapshotId>,
) -> AppResult<Response> {
    check_may_see(&visitor)?;
    let mut db = state.db.acquire().await?;
    let snapshot = find(&mut db, &visitor, id).await?;
    let may_export =
        store::members::may_administer(&mut db, visitor.account_id, snapshot.project_id).await?;
    let kind = snapshot.parsed_kind()?;
    let exports = store::exports::list(&mut db, id).await?;
    drop(db);
    page.title.clone_from(&snapshot.name);
    Ok(render(&SnapshotPage {
        page,
        formats: ExportFormat::of(kind)
            .iter()
            .map(|format| format.word(kind))
            .collect(),
        snapshot,
        exports,
        may_export,
    })?
    .into_response())
}

/// Which format to write, and with which choices; an empty word is the default.
#[derive(Debug, Default, serde::Deserialize)]
pub struct ExportQuery {
    #[serde(default)]
    format: String,
    #[serde(default)]
    container: String,
    #[serde(default)]
    margin: String,
    #[serde(default)]
    aggregation: String,
}

impl ExportQuery {
    /// The choice, for a snapshot of `kind`.
    ///
    /// # Errors
    /// `Invalid` with the first wrong word.
    pub fn choice(&self, kind: SnapshotKind) -> AppResult<ExportChoice> {
        let unknown = |field: &str| AppError::invalid(field, Message::new("error-unknown-choice"));
        let format = match self.format.as_str() {
            "" => ExportFormat::Plackett,
            word => ExportFormat::parse(word, kind).map_err(|_| unknown("format"))?,
        };
        Ok(ExportChoice {
            format,
            container: word_of(&self.container).ok_or_else(|| unknown("container"))?,
            margin: word_of(&self.margin).ok_or_else(|| unknown("margin"))?,
            aggregation: word_of(&self.aggregation).ok_or_else(|| unknown("aggregation"))?,
        })
    }
}

/// The value of a word; of an empty one the default.
fn word_of<T: Default + std::str::FromStr>(word: &str) -> Option<T> {
    match word {
        "" => Some(T::default()),
        word => word.parse().ok(),
    }
}

/// What names the bytes of an export as JSON lines: the hash of the snapshot's own lines, and of another format
/// also how it is written.
fn tag(
    snapshot: &Snapshot,
    kind: SnapshotKind,
    choice: &ExportChoice,
) -> anyhow::Result<EntityTag> {
    if choice.is_canonical() {
        return EntityTag::new(&[&snapshot.sha256]);
    }
    EntityTag::new(&[
        &snapshot.sha256,
        choice.format.word(kind),
        choice.margin.as_str(),
        choice.aggregation.as_str(),
        &format!("r{REVISION}"),
    ])
}

/// `GET /snapshots/{id}/export?format=`: streams the snapshot, unless whoever asks has it already.
pub async fn export(
    State(state): State<AppState>,
    ProjectAdmin(visitor): ProjectAdmin,
    Path(id): Path<SnapshotId>,
    Query(query): Query<ExportQuery>,
    asked: HeaderMap,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let snapshot = find(&mut db, &visitor, id).await?;
    // An operator who administers another project sees this one, and does not export it.
    store::members::find_administered(&mut db, visitor.account_id, snapshot.project_id).await?;
    let kind = snapshot.parsed_kind()?;
    let choice = query.choice(kind)?;
    if choice.container != Container::Jsonl {
        // Tables are written in one piece: they are built first, and downloaded then.
        return Err(AppError::invalid(
            "container",
            Message::new("snapshots-build-first"),
        ));
    }
    let tag = tag(&snapshot, kind, &choice)?;
    if let Some(answer) = tag.answer(&asked) {
        return Ok(answer);
    }
    // Before the first byte, so that none leaves unnoted.
    let event = NewEvent::by(visitor.account_id, AuditAction::Export);
    let event = event.to("snapshot", id.0).within(snapshot.project_id);
    let event = event.with(json!({"format": choice.format.word(kind), "items": snapshot.n_items}));
    store::audit_events::record(&mut db, event).await?;
    drop(db);
    let mut response = Body::from_stream(stream_export(state, id, choice)).into_response();
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-ndjson; charset=utf-8"),
    );
    let disposition = format!(
        "attachment; filename=\"{}\"",
        file_name(&snapshot, choice.format.word(kind))
    );
    if let Ok(value) = HeaderValue::from_str(&disposition) {
        headers.insert(CONTENT_DISPOSITION, value);
    }
    headers.insert(ETAG, tag.value());
    Ok(response)
}

/// A name that every file system takes: project, snapshot, format.
pub fn file_name(snapshot: &Snapshot, format: &str) -> String {
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
    choice: ExportChoice,
) -> impl futures_util::Stream<Item = std::io::Result<Bytes>> + Send {
    let (mut writer, reader) = tokio::io::duplex(PIPE);
    let writing = tokio::spawn(async move {
        let mut db = state.db.acquire().await?;
        export::write_as(&mut db, id, &choice, &mut writer).await
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
