//! `/projects`: what researchers set. Everybody who administers a project sees it, and no other.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum_extra::extract::Form as HtmlForm;

use crate::auth::visitor::{Admin, ProjectAdmin};
use crate::domain::audit::AuditAction;
use crate::domain::form::Form;
use crate::domain::ids::ProjectId;
use crate::domain::prompt::CATEGORIES;
use crate::domain::task::NextTask;
use crate::error::{AppError, AppResult, FieldError, OnConstraint};
use crate::message::Message;
use crate::pages::audit_details::details;
use crate::pages::project_settings::{NumberField, SettingsForm, number_fields};
use crate::state::AppState;
use crate::store;
use crate::store::audit_events::NewEvent;
use crate::store::projects::{Figures, Project, Settings};
use crate::web::page::{Page, render};

#[derive(Template)]
#[template(path = "projects/index.html")]
struct ProjectsPage {
    page: Page,
    projects: Vec<(Project, Figures)>,
    may_create: bool,
}

#[derive(Template)]
#[template(path = "projects/new.html")]
struct NewProjectPage {
    page: Page,
    form: SettingsForm,
    errors: Vec<FieldError>,
}

#[derive(Template)]
#[template(path = "projects/show.html")]
struct ProjectPage {
    page: Page,
    project: Project,
    figures: Figures,
    form: SettingsForm,
    /// The settings that the reader has seen, as a short name: see [`SettingsForm::fingerprint`].
    last: String,
    /// Somebody saved others since the page was opened: what differs between theirs and what was typed.
    meanwhile: Vec<(String, String)>,
    errors: Vec<FieldError>,
    is_saved: bool,
}

/// What the fields of both pages need.
trait Fields {
    fn page(&self) -> &Page;
    fn errors(&self) -> &[FieldError];

    /// What is wrong with a field, if something is.
    fn error_of(&self, name: &str) -> Option<String> {
        let error = self.errors().iter().find(|error| error.field == name);
        error.map(|error| self.page().say(&error.message))
    }

    /// A wrong field and what to change in it.
    fn complaint(&self, error: &FieldError) -> String {
        let page = self.page();
        let Some(category) = error.field.strip_prefix("overlap_") else {
            return page.complaint(error);
        };
        let category = page.category(category);
        let field = page.t_with("projects-overlap-of", "category", category);
        let message = page.say(&error.message);
        page.t_args("error-field", &[("field", field), ("message", message)])
    }

    fn label(&self, field: &NumberField) -> String {
        self.page().t(&format!("projects-{}", field.key()))
    }

    fn help(&self, field: &NumberField) -> String {
        self.page().t(&format!("projects-{}-help", field.key()))
    }

    fn numbers(&self) -> [NumberField; 8] {
        number_fields()
    }

    fn categories(&self) -> [(&'static str, String); 10] {
        CATEGORIES.map(|word| (word, self.page().category(word)))
    }

    fn orders(&self) -> Vec<(&'static str, String)> {
        let orders = NextTask::ALL.iter();
        orders
            .map(|order| {
                (
                    order.as_str(),
                    self.page().t(&format!("projects-next-{order}")),
                )
            })
            .collect()
    }
}

impl Fields for NewProjectPage {
    fn page(&self) -> &Page {
        &self.page
    }
    fn errors(&self) -> &[FieldError] {
        &self.errors
    }
}

impl Fields for ProjectPage {
    fn page(&self) -> &Page {
        &self.page
    }
    fn errors(&self) -> &[FieldError] {
        &self.errors
    }
}

/// The status of a page with wrong fields or without.
pub(crate) fn status_of<T>(errors: &[T]) -> StatusCode {
    match errors.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

/// `GET /projects`.
pub async fn index(
    State(state): State<AppState>,
    page: Page,
    ProjectAdmin(visitor): ProjectAdmin,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let mut projects = Vec::new();
    for project in store::members::list_administered(&mut db, visitor.account_id).await? {
        let figures = store::projects::figures(&mut db, project.id).await?;
        projects.push((project, figures));
    }
    Ok(render(&ProjectsPage {
        page: page.titled("projects-title"),
        projects,
        may_create: visitor.is_admin,
    })?
    .into_response())
}

/// `GET /projects/new`.
pub async fn new(page: Page, _: Admin) -> AppResult<Response> {
    show_new(page, SettingsForm::of(&Settings::new("")), Vec::new())
}

fn show_new(page: Page, form: SettingsForm, errors: Vec<FieldError>) -> AppResult<Response> {
    let status = status_of(&errors);
    let body = render(&NewProjectPage {
        page: page.titled("projects-new"),
        form,
        errors,
    })?;
    Ok((status, body).into_response())
}

/// `POST /projects`: makes a project with the standard form.
pub async fn create(
    State(state): State<AppState>,
    page: Page,
    Admin(admin): Admin,
    HtmlForm(fields): HtmlForm<Vec<(String, String)>>,
) -> AppResult<Response> {
    let form = SettingsForm::read(fields);
    let (slug, settings) = match (form.slug(), form.parse()) {
        (Ok(slug), Ok(settings)) => (slug, settings),
        (slug, settings) => {
            let mut errors: Vec<FieldError> = slug.err().into_iter().collect();
            errors.extend(settings.err().into_iter().flatten());
            return show_new(page, form, errors);
        }
    };
    let mut transaction = state.db.begin().await?;
    let (overlap, lease) = (settings.overlap, settings.lease_seconds);
    let made = store::projects::insert(&mut transaction, slug, &settings.name, overlap, lease)
        .await
        .on_constraint("projects_slug_key", || {
            AppError::invalid("slug", Message::new("error-slug-taken"))
        });
    let id = match made {
        Ok(id) => id,
        Err(AppError::Invalid(errors)) => return show_new(page, form, errors),
        Err(error) => return Err(error),
    };
    store::projects::update_settings(&mut transaction, id, &settings).await?;
    let standard = serde_json::to_value(Form::default()).map_err(anyhow::Error::from)?;
    let by = admin.account_id;
    store::forms::publish(&mut transaction, id, 0, &standard, by).await?;
    let event = NewEvent::by(by, AuditAction::ProjectCreated).within(id);
    store::audit_events::record(&mut transaction, event).await?;
    transaction.commit().await?;
    Ok(Redirect::to(&format!("/projects/{id}")).into_response())
}

/// Where somebody comes from.
#[derive(Debug, serde::Deserialize)]
pub struct ProjectQuery {
    /// There when settings were just saved.
    saved: Option<String>,
}

/// `GET /projects/{id}`.
pub async fn show(
    State(state): State<AppState>,
    page: Page,
    ProjectAdmin(visitor): ProjectAdmin,
    Path(id): Path<ProjectId>,
    Query(query): Query<ProjectQuery>,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let project = store::members::find_administered(&mut db, visitor.account_id, id).await?;
    let settings = store::projects::find_settings(&mut db, id).await?;
    let settings = settings.ok_or(AppError::NotFound("project"))?;
    drop(db);
    let form = SettingsForm::of(&settings);
    let shown = Shown {
        last: form.fingerprint(),
        form,
        is_saved: query.saved.is_some(),
        ..Shown::default()
    };
    show_project(&state, page, project, shown).await
}

/// What the page of a project says besides what the project has.
#[derive(Default)]
struct Shown {
    form: SettingsForm,
    last: String,
    errors: Vec<FieldError>,
    meanwhile: Vec<(String, String)>,
    is_saved: bool,
}

async fn show_project(
    state: &AppState,
    mut page: Page,
    project: Project,
    shown: Shown,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let figures = store::projects::figures(&mut db, project.id).await?;
    drop(db);
    page.title.clone_from(&project.name);
    let status = match shown.meanwhile.is_empty() {
        true => status_of(&shown.errors),
        false => StatusCode::CONFLICT,
    };
    let body = render(&ProjectPage {
        page,
        project,
        figures,
        last: shown.last,
        form: shown.form,
        meanwhile: shown.meanwhile,
        errors: shown.errors,
        is_saved: shown.is_saved,
    })?;
    Ok((status, body).into_response())
}

/// `POST /projects/{id}`: changes the settings. A new order of the queue is carried out at once. What somebody
/// else saved since the page was opened is not saved over: the page comes back with both.
pub async fn update(
    State(state): State<AppState>,
    page: Page,
    ProjectAdmin(visitor): ProjectAdmin,
    Path(id): Path<ProjectId>,
    HtmlForm(fields): HtmlForm<Vec<(String, String)>>,
) -> AppResult<Response> {
    let mut transaction = state.db.begin().await?;
    let project =
        store::members::find_administered(&mut transaction, visitor.account_id, id).await?;
    let form = SettingsForm::read(fields);
    // Of two who save at once the second sees what the first saved.
    store::projects::lock(&mut transaction, id).await?;
    let old = store::projects::find_settings(&mut transaction, id).await?;
    let old = SettingsForm::of(&old.ok_or(AppError::NotFound("project"))?);
    let settings = match form.parse() {
        Ok(settings) => settings,
        Err(errors) => {
            drop(transaction);
            let shown = Shown {
                last: form.last(&old),
                form,
                errors,
                ..Shown::default()
            };
            return show_project(&state, page, project, shown).await;
        }
    };
    let new = SettingsForm::of(&settings);
    let changes = new.changes(&old);
    if changes != serde_json::json!({}) && form.is_outdated(&old) {
        drop(transaction);
        let shown = Shown {
            meanwhile: details(&page, &changes),
            last: old.fingerprint(),
            form,
            ..Shown::default()
        };
        return show_project(&state, page, project, shown).await;
    }
    if changes != serde_json::json!({}) {
        store::projects::update_settings(&mut transaction, id, &settings).await?;
        store::queue_order::place_all(&mut transaction, id).await?;
        let event = NewEvent::by(visitor.account_id, AuditAction::SettingsChanged).within(id);
        store::audit_events::record(&mut transaction, event.with(changes)).await?;
    }
    transaction.commit().await?;
    Ok(Redirect::to(&format!("/projects/{id}?saved=yes")).into_response())
}

/// The form that archives a project or restores it.
#[derive(serde::Deserialize)]
pub struct ArchivedForm {
    archived: bool,
}

/// `POST /projects/{id}/archived`: labelers no longer see it; nothing is deleted.
pub async fn set_archived(
    State(state): State<AppState>,
    ProjectAdmin(visitor): ProjectAdmin,
    Path(id): Path<ProjectId>,
    HtmlForm(form): HtmlForm<ArchivedForm>,
) -> AppResult<Redirect> {
    let mut transaction = state.db.begin().await?;
    store::members::find_administered(&mut transaction, visitor.account_id, id).await?;
    if store::projects::set_archived(&mut transaction, id, form.archived).await? {
        let action = match form.archived {
            true => AuditAction::ProjectArchived,
            false => AuditAction::ProjectRestored,
        };
        let event = NewEvent::by(visitor.account_id, action).within(id);
        store::audit_events::record(&mut transaction, event).await?;
    }
    transaction.commit().await?;
    Ok(Redirect::to(&format!("/projects/{id}")))
}
