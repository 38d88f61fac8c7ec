//! `/tasks`: what labelers are doing, who does it, and what is done. Names of models stay out of it.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use sqlx::PgConnection;

use crate::auth::visitor::{ProjectAdmin, Visitor};
use crate::domain::audit::AuditAction;
use crate::domain::form::{Form, text_in};
use crate::domain::ids::{ProjectId, TaskId};
use crate::domain::prompt::CATEGORIES;
use crate::domain::task::TaskKind;
use crate::domain::writing::Brief;
use crate::error::{AppError, AppResult};
use crate::message::Message;
use crate::pages::prompts::{choose_project, excerpt};
use crate::state::AppState;
use crate::store;
use crate::store::audit_events::NewEvent;
use crate::store::projects::Project;
use crate::store::tasks::{TaskFilter, TaskItem};
use crate::web::page::{Page, render};

/// Tasks on one page of the list.
const PAGE_LENGTH: usize = 50;

/// The states that the list can be narrowed to.
const STATES: [&str; 7] = [
    "open",
    "held",
    "done",
    "closed",
    "gold",
    "repeat",
    "screening",
];

#[derive(Template)]
#[template(path = "tasks/index.html")]
struct TasksPage {
    page: Page,
    projects: Vec<Project>,
    project: Option<Project>,
    query: TasksQuery,
    rows: Vec<TaskRow>,
    form: Form,
    next: Option<TaskId>,
}

/// A task as the list shows it.
struct TaskRow {
    task: TaskItem,
    excerpt: String,
    /// How a demonstration comes about, as a key of the catalogue.
    writes: Option<String>,
}

/// What the list is narrowed to.
#[derive(Debug, Default, Clone, serde::Deserialize)]
pub struct TasksQuery {
    /// Short name of the project; the first one when empty.
    #[serde(default)]
    project: String,
    /// `open`, `held`, `done`, `closed`, a purpose, or empty.
    #[serde(default)]
    state: String,
    /// A kind of task, or empty.
    #[serde(default)]
    kind: String,
    /// Text to look for.
    #[serde(default)]
    search: String,
    /// A category, or empty.
    #[serde(default)]
    category: String,
    /// How many tasks were opened just now.
    #[serde(default)]
    opened: Option<i64>,
    /// The last task of the page before.
    #[serde(default)]
    before: Option<TaskId>,
}

impl TasksPage {
    fn states(&self) -> [(&'static str, String); 7] {
        STATES.map(|state| (state, self.page.t(&format!("tasks-state-{state}"))))
    }

    fn categories(&self) -> [(&'static str, String); 10] {
        CATEGORIES.map(|word| (word, self.page.t(&format!("category-{word}"))))
    }

    fn kinds(&self) -> Vec<(TaskKind, String)> {
        let kinds = TaskKind::ALL.iter();
        kinds
            .map(|kind| (*kind, self.page.t(&format!("tasks-kind-{kind}"))))
            .collect()
    }

    fn is_kind(&self, kind: &TaskKind) -> bool {
        self.query.kind == kind.as_str()
    }

    fn is_project(&self, project: &Project) -> bool {
        self.project
            .as_ref()
            .is_some_and(|chosen| chosen.id == project.id)
    }
}

impl TasksPage {
    /// What the labeler chose as the reason for skipping.
    fn reason(&self, key: &str) -> String {
        let reasons = &self.form.skip_reasons;
        let reason = reasons.iter().find(|reason| reason.key == key);
        reason.map_or_else(
            || key.to_owned(),
            |reason| text_in(&reason.label, self.page.lang.tag()),
        )
    }
}

impl TaskRow {
    fn new(task: TaskItem) -> Self {
        // Without a prompt, what the labeler was given to write from.
        let brief = Brief::read(task.brief.clone()).ok();
        let given = brief.as_ref().and_then(Brief::text).unwrap_or_default();
        let excerpt = match task.body.is_null() {
            true => excerpt(&given.into()),
            false => excerpt(&task.body),
        };
        let writes = brief.filter(|_| task.kind == TaskKind::Demonstrate.as_str());
        let writes = writes.map(|brief| match task.body.is_null() {
            true => format!("tasks-writes-{}", brief.kind.as_str().replace('_', "-")),
            false => "tasks-writes-answer".to_owned(),
        });
        Self {
            task,
            excerpt,
            writes,
        }
    }

    /// Where the task stands, in one word.
    fn state(&self) -> &'static str {
        let overlap = i64::from(self.task.overlap);
        if self.task.n_submitted >= overlap {
            "done"
        } else if self.task.is_closed {
            "closed"
        } else if i64::from(self.task.n_held) > self.task.n_submitted {
            "held"
        } else {
            "open"
        }
    }

    /// Whether so many labelers get it: a gold task has a place for everybody.
    fn has_places(&self) -> bool {
        !matches!(self.task.purpose.as_str(), "gold" | "screening")
    }

    fn badge(&self) -> &'static str {
        match self.state() {
            "done" => "badge-finished",
            "closed" => "badge-cancelled",
            "held" => "badge-leased",
            _ => "",
        }
    }

    fn state_key(&self) -> String {
        format!("tasks-state-{}", self.state())
    }
}

/// `GET /tasks`.
pub async fn index(
    State(state): State<AppState>,
    page: Page,
    ProjectAdmin(visitor): ProjectAdmin,
    Query(query): Query<TasksQuery>,
) -> AppResult<Response> {
    if !query.state.is_empty() && !STATES.contains(&query.state.as_str()) {
        return Err(AppError::invalid(
            "state",
            Message::new("error-choose-state"),
        ));
    }
    let kind = match query.kind.as_str() {
        "" => None,
        word => {
            let known = word.parse::<TaskKind>();
            let unknown = |_| AppError::invalid("kind", Message::new("error-unknown-choice"));
            Some(known.map_err(unknown)?)
        }
    };
    if !query.category.is_empty() && !CATEGORIES.contains(&query.category.as_str()) {
        let message = Message::new("error-unknown-choice");
        return Err(AppError::invalid("category", message));
    }
    let mut db = state.db.acquire().await?;
    let projects = store::members::list_administered(&mut db, visitor.account_id).await?;
    let project = choose_project(&projects, &query.project)?;
    let mut tasks = Vec::new();
    if let Some(project) = &project {
        let limit = PAGE_LENGTH as i64 + 1;
        let filter = TaskFilter {
            state: query.state.clone(),
            kind,
            search: query.search.trim().to_owned(),
            category: query.category.clone(),
            before: query.before,
        };
        tasks = store::tasks::list(&mut db, project.id, &filter, limit).await?;
    }
    let form = match &project {
        Some(project) => store::projects::find_form(&mut db, project.id).await?,
        None => None,
    };
    let form = form.and_then(|(_, fields)| serde_json::from_value(fields).ok());
    drop(db);
    let has_more = tasks.len() > PAGE_LENGTH;
    tasks.truncate(PAGE_LENGTH);
    let next = tasks.last().filter(|_| has_more).map(|last| last.id);
    Ok(render(&TasksPage {
        page: page.titled("tasks-title"),
        projects,
        project,
        query,
        form: form.unwrap_or_default(),
        rows: tasks.into_iter().map(TaskRow::new).collect(),
        next,
    })?
    .into_response())
}

/// The project of a task that a visitor may administer.
pub(super) async fn find_project(
    db: &mut PgConnection,
    visitor: &Visitor,
    id: TaskId,
) -> AppResult<Project> {
    let not_found = || AppError::NotFound("task");
    let project: Option<ProjectId> = store::tasks::find_project(&mut *db, id).await?;
    let project = project.ok_or_else(not_found)?;
    let found = store::members::find_administered(db, visitor.account_id, project).await;
    found.map_err(|error| match error {
        AppError::NotFound(_) => not_found(),
        other => other,
    })
}

/// `POST /tasks/{id}/close`: nobody leases the task any more.
pub async fn close(
    State(state): State<AppState>,
    ProjectAdmin(visitor): ProjectAdmin,
    Path(id): Path<TaskId>,
) -> AppResult<Redirect> {
    let mut transaction = state.db.begin().await?;
    let project = find_project(&mut transaction, &visitor, id).await?;
    store::tasks::close(&mut transaction, id).await?;
    let event = NewEvent::by(visitor.account_id, AuditAction::TaskClosed);
    let event = event.to("task", id.0).within(project.id);
    store::audit_events::record(&mut transaction, event).await?;
    transaction.commit().await?;
    Ok(Redirect::to(&format!("/tasks?project={}", project.slug)))
}

/// `POST /tasks/{id}/reopen`: its free places are leased again.
pub async fn reopen(
    State(state): State<AppState>,
    ProjectAdmin(visitor): ProjectAdmin,
    Path(id): Path<TaskId>,
) -> AppResult<Redirect> {
    let mut transaction = state.db.begin().await?;
    let project = find_project(&mut transaction, &visitor, id).await?;
    if !store::tasks::reopen(&mut transaction, project.id, id).await? {
        return Err(AppError::NotFound("task"));
    }
    let event = NewEvent::by(visitor.account_id, AuditAction::TaskReopened);
    let event = event.to("task", id.0).within(project.id);
    store::audit_events::record(&mut transaction, event).await?;
    transaction.commit().await?;
    Ok(Redirect::to(&format!("/tasks?project={}", project.slug)))
}
