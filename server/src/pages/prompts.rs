//! `/prompts`: what there is to answer and rank, and where files come in.

use std::io::{Seek, SeekFrom, Write};

use anyhow::Context;
use askama::Template;
use axum::extract::multipart::Field;
use axum::extract::{Multipart, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use clap::ValueEnum;
use serde_json::{Value, json};

use crate::auth::visitor::{ProjectAdmin, Visitor};
use crate::domain::audit::AuditAction;
use crate::domain::ids::PromptId;
use crate::error::{AppError, AppResult};
use crate::exchange::import::{FileFormat, Report, import};
use crate::exchange::records::ImportKind;
use crate::message::Message;
use crate::state::AppState;
use crate::store;
use crate::store::audit_events::NewEvent;
use crate::store::projects::Project;
use crate::store::prompts::{Prompt, PromptFilter};
use crate::web::page::{Page, render};

/// Prompts on one page of the list.
const PAGE_LENGTH: usize = 50;

/// Characters of a prompt that a list shows.
const EXCERPT: usize = 160;

#[derive(Template)]
#[template(path = "prompts/index.html")]
struct PromptsPage {
    page: Page,
    projects: Vec<Project>,
    project: Option<Project>,
    query: PromptsQuery,
    rows: Vec<PromptRow>,
    counts: Vec<(String, i64)>,
    next: Option<PromptId>,
    outcome: Option<Outcome>,
}

/// A prompt as the list shows it.
struct PromptRow {
    prompt: Prompt,
    excerpt: String,
}

/// What became of an import.
struct Outcome {
    kind: &'static str,
    report: Report,
}

impl Outcome {
    /// The values of the sentence that says how much was imported.
    fn words(&self, page: &Page) -> [(&'static str, String); 2] {
        let kind = page.t(&format!("prompts-kind-{}", self.kind));
        [("n", self.report.n_records.to_string()), ("kind", kind)]
    }
}

/// What the list is narrowed to.
#[derive(Debug, Default, Clone, serde::Deserialize)]
pub struct PromptsQuery {
    /// Short name of the project; the first one when empty.
    #[serde(default)]
    project: String,
    /// Text to look for.
    #[serde(default)]
    search: String,
    /// A category, or empty.
    #[serde(default)]
    category: String,
    /// The last prompt of the page before.
    #[serde(default)]
    before: Option<PromptId>,
}

impl PromptsPage {
    fn kinds(&self) -> [ImportKind; 6] {
        ImportKind::ALL
    }

    fn is_project(&self, project: &Project) -> bool {
        self.project
            .as_ref()
            .is_some_and(|chosen| chosen.id == project.id)
    }
}

/// The beginning of a prompt's last turn, on one line.
pub(crate) fn excerpt(body: &Value) -> String {
    let text = match body {
        Value::String(text) => text.as_str(),
        Value::Array(turns) => turns
            .last()
            .and_then(|turn| turn["content"].as_str())
            .unwrap_or_default(),
        _ => "",
    };
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut short: String = line.chars().take(EXCERPT).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    short
}

/// The project that a page is about: the one named, or the first.
pub(crate) fn choose_project(projects: &[Project], slug: &str) -> AppResult<Option<Project>> {
    if slug.is_empty() {
        return Ok(projects.first().cloned());
    }
    let found = projects.iter().find(|project| project.slug == slug);
    found
        .cloned()
        .map(Some)
        .ok_or(AppError::NotFound("project"))
}

/// What an address names the project by that its page is about: `?project=SLUG`, or nothing.
pub(crate) fn project_query(project: &Option<Project>) -> String {
    let query = |project: &Project| format!("?project={}", project.slug);
    project.as_ref().map(query).unwrap_or_default()
}

/// `GET /prompts`.
pub async fn index(
    State(state): State<AppState>,
    page: Page,
    ProjectAdmin(visitor): ProjectAdmin,
    Query(query): Query<PromptsQuery>,
) -> AppResult<Response> {
    show(&state, page, &visitor, query, None).await
}

async fn show(
    state: &AppState,
    page: Page,
    visitor: &Visitor,
    query: PromptsQuery,
    outcome: Option<Outcome>,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let projects = store::members::list_administered(&mut db, visitor.account_id).await?;
    let project = choose_project(&projects, &query.project)?;
    let (mut prompts, mut counts) = (Vec::new(), Vec::new());
    if let Some(project) = &project {
        let filter = PromptFilter {
            search: query.search.trim().to_owned(),
            category: query.category.clone(),
            before: query.before,
        };
        let limit = PAGE_LENGTH as i64 + 1;
        prompts = store::prompts::list(&mut db, project.id, &filter, limit).await?;
        counts = store::prompts::count_by_category(&mut db, project.id).await?;
    }
    drop(db);
    let has_more = prompts.len() > PAGE_LENGTH;
    prompts.truncate(PAGE_LENGTH);
    let next = prompts.last().filter(|_| has_more).map(|last| last.id);
    let is_refused = outcome.as_ref().is_some_and(|done| !done.report.is_clean());
    let body = render(&PromptsPage {
        page: page.titled("prompts-title"),
        projects,
        project,
        query,
        rows: prompts.into_iter().map(PromptRow::new).collect(),
        counts,
        next,
        outcome,
    })?;
    let status = if is_refused {
        StatusCode::UNPROCESSABLE_ENTITY
    } else {
        StatusCode::OK
    };
    Ok((status, body).into_response())
}

impl PromptRow {
    fn new(prompt: Prompt) -> Self {
        let excerpt = excerpt(&prompt.body);
        Self { prompt, excerpt }
    }
}

/// The form of an import, as far as it has come in.
#[derive(Default)]
struct Upload {
    project: String,
    kind: String,
    format: String,
    file: Option<(String, std::fs::File)>,
}

/// `POST /prompts/import`: a file or pasted lines, whole or not at all.
pub async fn create(
    State(state): State<AppState>,
    page: Page,
    ProjectAdmin(visitor): ProjectAdmin,
    form: Multipart,
) -> AppResult<Response> {
    let most = state.config.max_upload_mib;
    let upload = read_upload(form)
        .await
        .map_err(|error| name_limit(error, most))?;
    let kind = ImportKind::from_str(&upload.kind, false)
        .map_err(|_| AppError::invalid("kind", Message::new("error-choose-kind")))?;
    let (name, file) = upload
        .file
        .ok_or_else(|| AppError::invalid("file", Message::new("error-choose-file")))?;
    let format = match upload.format.as_str() {
        "" => FileFormat::of_name(&name),
        word => FileFormat::from_str(word, false)
            .map_err(|_| AppError::invalid("format", Message::new("error-choose-format")))?,
    };
    let mut db = state.db.begin().await?;
    let projects = store::members::list_administered(&mut db, visitor.account_id).await?;
    let project = projects
        .into_iter()
        .find(|project| project.slug == upload.project);
    let project = project.ok_or(AppError::NotFound("project"))?;
    let report = import(&mut db, &project, kind, format, file).await?;
    if report.is_clean() {
        let event = NewEvent::by(visitor.account_id, AuditAction::Import).within(project.id);
        let event = event.with(json!({"kind": kind.as_str(), "records": report.n_records}));
        store::audit_events::record(&mut db, event).await?;
        db.commit().await?;
    } else {
        db.rollback().await?;
    }
    let query = PromptsQuery {
        project: project.slug,
        ..PromptsQuery::default()
    };
    let kind = kind.as_str();
    let outcome = Outcome { kind, report };
    show(&state, page, &visitor, query, Some(outcome)).await
}

/// Reads the form's fields; a file goes to a temporary file, so that memory stays flat.
async fn read_upload(mut form: Multipart) -> AppResult<Upload> {
    let mut upload = Upload::default();
    while let Some(field) = form.next_field().await.map_err(refused)? {
        match field.name().unwrap_or_default() {
            "project" => upload.project = field.text().await.map_err(refused)?,
            "kind" => upload.kind = field.text().await.map_err(refused)?,
            "format" => upload.format = field.text().await.map_err(refused)?,
            // An empty file field means that nothing was chosen, and lines may be pasted instead.
            "file" | "lines" => {
                let name = field.file_name().unwrap_or_default().to_owned();
                if let Some(file) = save(field).await? {
                    upload.file.get_or_insert((name, file));
                }
            }
            other => {
                let message = Message::new("error-unknown-field");
                return Err(AppError::invalid(other, message));
            }
        }
    }
    Ok(upload)
}

/// Of a file that is too large: how large it may be, and what to do.
fn name_limit(error: AppError, most: usize) -> AppError {
    match error {
        AppError::Rejected(status, _) if status == StatusCode::PAYLOAD_TOO_LARGE => {
            let message = Message::new("error-upload-too-large").with("most", most);
            AppError::Rejected(status, message)
        }
        error => error,
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err wants"
)]
fn refused(error: axum::extract::multipart::MultipartError) -> AppError {
    AppError::Rejected(error.status(), error.body_text().into())
}

/// Writes a field to a temporary file, rewound; none when the field is empty.
async fn save(mut field: Field<'_>) -> AppResult<Option<std::fs::File>> {
    let mut file = tempfile::tempfile().context("no temporary file can be made")?;
    let mut is_empty = true;
    while let Some(chunk) = field.chunk().await.map_err(refused)? {
        is_empty &= chunk.is_empty();
        let written = tokio::task::spawn_blocking(move || file.write_all(&chunk).map(|()| file));
        file = written
            .await
            .map_err(anyhow::Error::from)?
            .context("the upload cannot be kept")?;
    }
    file.seek(SeekFrom::Start(0))
        .context("the upload cannot be read")?;
    Ok((!is_empty).then_some(file))
}
