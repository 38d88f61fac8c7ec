//! What admins do about screenings: the tasks that are asked, and who is invited. The cut-offs, on the same page, are
//! in `screening_rules.rs`.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum_extra::extract::Form as HtmlForm;
use sqlx::PgConnection;

use crate::auth::visitor::{ProjectAdmin, Visitor};
use crate::domain::audit::AuditAction;
use crate::domain::ids::{AccountId, ProjectId, ScreeningId, TaskId};
use crate::domain::screening::Rules;
use crate::error::{AppError, AppResult, FieldError};
use crate::message::Message;
use crate::pages::prompts::{choose_project, excerpt};
use crate::pages::screening::{OutcomeView, topic_label};
use crate::pages::screening_rules::RulesForm;
use crate::pages::tasks;
use crate::state::AppState;
use crate::store;
use crate::store::audit_events::NewEvent;
use crate::store::projects::Project;
use crate::store::screenings::{Screening, Source, Whose};
use crate::web::page::{Page, render};

#[derive(Template)]
#[template(path = "screening/index.html")]
struct CandidatesPage {
    page: Page,
    projects: Vec<Project>,
    project: Option<Project>,
    /// The cut-offs as they were typed, otherwise those in force.
    rules: RulesForm,
    sources: Vec<SourceRow>,
    candidates: Vec<CandidateRow>,
    shown: Shown,
}

/// A screening task as the list shows it.
struct SourceRow {
    source: Source,
    excerpt: String,
}

/// A candidate as the list shows them.
struct CandidateRow {
    screening: Screening,
    outcome: Option<OutcomeView>,
    /// Whether a new invitation is possible.
    may_retake: bool,
}

/// What can have been done on the page before it is shown again; said as `screening-done-<word>`.
const DONE: [&str; 5] = ["invited", "withdrawn", "rules", "asked", "removed"];

/// What the page says besides its lists.
#[derive(Default)]
pub(super) struct Shown {
    /// An invite link, once, and whose.
    link: Option<(String, String)>,
    /// What was done just now, a word of [`DONE`]; anything else says nothing.
    done: String,
    /// What was wrong with a form.
    errors: Vec<FieldError>,
    /// The address and the name as they were typed.
    email: String,
    name: String,
    /// The cut-offs as they were typed, where they were not saved.
    rules: Option<RulesForm>,
    /// Somebody saved other cut-offs since the page was opened: what differs between theirs and what was typed.
    meanwhile: Vec<(String, String)>,
}

impl Shown {
    /// What was done just now, and nothing else.
    pub(super) fn after(done: String) -> Self {
        Self {
            done,
            ..Self::default()
        }
    }

    /// Cut-offs that were not saved, and why: what is wrong with them, or what they would change of those that
    /// somebody saved meanwhile.
    pub(super) fn unsaved(
        rules: RulesForm,
        errors: Vec<FieldError>,
        meanwhile: Vec<(String, String)>,
    ) -> Self {
        Self {
            errors,
            rules: Some(rules),
            meanwhile,
            ..Self::default()
        }
    }
}

impl CandidatesPage {
    fn is_project(&self, project: &Project) -> bool {
        self.project
            .as_ref()
            .is_some_and(|own| own.id == project.id)
    }

    /// What was done just now, as a sentence.
    fn done(&self) -> Option<String> {
        let word = DONE.iter().find(|word| **word == self.shown.done)?;
        Some(self.page.t(&format!("screening-done-{word}")))
    }

    /// Accounts are made by admins of everything.
    fn may_make_accounts(&self) -> bool {
        self.page
            .visitor
            .as_ref()
            .is_some_and(|visitor| visitor.is_admin)
    }

    fn status(&self, row: &CandidateRow) -> String {
        self.page
            .t(&format!("screening-status-{}", row.screening.status))
    }

    fn badge(&self, row: &CandidateRow) -> &'static str {
        badge_of(&row.screening.status)
    }

    fn kind(&self, row: &SourceRow) -> String {
        self.page.t(&format!("task-kind-{}", row.source.kind))
    }

    fn topics(&self, row: &CandidateRow) -> String {
        topics_of(&self.page, &row.screening)
    }
}

fn badge_of(status: &str) -> &'static str {
    match status {
        "passed" => "badge-passed",
        "failed" => "badge-failed",
        "started" => "badge-leased",
        "waiting" => "badge-warn",
        _ => "",
    }
}

fn topics_of(page: &Page, screening: &Screening) -> String {
    let topics = screening.topics.iter();
    let labels: Vec<String> = topics.map(|word| topic_label(page, word)).collect();
    labels.join(", ")
}

/// The page of a project's screening.
pub(super) async fn show(
    db: &mut PgConnection,
    page: Page,
    admin: &Visitor,
    slug: &str,
    mut shown: Shown,
) -> AppResult<Response> {
    let projects = store::members::list_administered(db, admin.account_id).await?;
    let project = choose_project(&projects, slug)?;
    let (mut sources, mut screenings, mut in_force) = (Vec::new(), Vec::new(), Rules::default());
    if let Some(project) = &project {
        in_force = store::screenings::find_rules(db, project.id).await?;
        sources = store::screenings::list_sources(db, project.id).await?;
        let whose = Whose {
            project_id: Some(project.id),
            ..Default::default()
        };
        screenings = store::screenings::list(db, whose).await?;
    }
    let status = match (shown.meanwhile.is_empty(), shown.errors.is_empty()) {
        (false, _) => StatusCode::CONFLICT,
        (_, false) => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::OK,
    };
    let rules = shown.rules.take();
    let rules = rules.unwrap_or_else(|| RulesForm::of(&in_force));
    let page = page.titled("screening-title");
    // Of somebody's several screenings only the newest can be followed by another.
    let is_newest = |index: usize| {
        let own = screenings[index].account_id;
        !screenings[..index]
            .iter()
            .any(|newer| newer.account_id == own)
    };
    let candidates = screenings.iter().enumerate().map(|(index, screening)| {
        let is_over = matches!(screening.status.as_str(), "failed" | "withdrawn");
        CandidateRow {
            outcome: screening
                .outcome
                .as_ref()
                .map(|outcome| OutcomeView::new(&page, &outcome.0)),
            may_retake: is_over && is_newest(index),
            screening: screening.clone(),
        }
    });
    let source_row = |source: Source| SourceRow {
        excerpt: excerpt(&source.body),
        source,
    };
    let template = CandidatesPage {
        candidates: candidates.collect(),
        sources: sources.into_iter().map(source_row).collect(),
        projects,
        project,
        rules,
        shown,
        page,
    };
    Ok((status, render(&template)?).into_response())
}

#[derive(Template)]
#[template(path = "screening/candidate.html")]
struct CandidatePage {
    page: Page,
    screening: Screening,
    outcome: Option<OutcomeView>,
    items: Vec<ItemRow>,
}

/// One task of a screening.
struct ItemRow {
    item: store::screening_work::Item,
    excerpt: String,
}

impl CandidatePage {
    fn status(&self) -> String {
        self.page
            .t(&format!("screening-status-{}", self.screening.status))
    }

    fn badge(&self) -> &'static str {
        badge_of(&self.screening.status)
    }

    fn topics(&self) -> String {
        topics_of(&self.page, &self.screening)
    }

    fn kind(&self, row: &ItemRow) -> String {
        self.page.t(&format!("task-kind-{}", row.item.kind))
    }

    fn item_status(&self, row: &ItemRow) -> String {
        self.page
            .t(&format!("tasks-assignment-{}", row.item.status))
    }

    fn share(&self, tally: &crate::domain::gold::Tally) -> String {
        let n = i64::from(tally.n + tally.n_open);
        crate::pages::gold::share_of(&self.page, tally.share_of_all(), n)
    }
}

/// The page of one candidate.
pub(super) async fn show_one(
    db: &mut PgConnection,
    page: Page,
    screening: Screening,
) -> AppResult<Response> {
    let items = store::screening_work::list_items(db, screening.id).await?;
    let page = page.titled("screening-candidate");
    let row = |item: store::screening_work::Item| ItemRow {
        excerpt: excerpt(&item.body),
        item,
    };
    Ok(render(&CandidatePage {
        outcome: screening
            .outcome
            .as_ref()
            .map(|outcome| OutcomeView::new(&page, &outcome.0)),
        items: items.into_iter().map(row).collect(),
        screening,
        page,
    })?
    .into_response())
}

/// A project that an admin may administer, by its short name.
pub(super) async fn find_project(
    db: &mut PgConnection,
    admin: &Visitor,
    slug: &str,
) -> AppResult<Project> {
    let projects = store::members::list_administered(db, admin.account_id).await?;
    let found = projects.into_iter().find(|project| project.slug == slug);
    found.ok_or(AppError::NotFound("project"))
}

/// A screening of a project that an admin may administer.
async fn find_screening(
    db: &mut PgConnection,
    admin: &Visitor,
    id: ScreeningId,
) -> AppResult<Screening> {
    let screening = store::screenings::find(db, id).await?;
    let (who, project_id) = (admin.account_id, screening.project_id);
    match store::members::may_administer(db, who, project_id).await? {
        true => Ok(screening),
        false => Err(AppError::NotFound("screening")),
    }
}

/// Writes down that an admin did something about the screening of a project.
async fn log(
    db: &mut PgConnection,
    admin: &Visitor,
    action: AuditAction,
    project_id: ProjectId,
    account_id: Option<AccountId>,
) -> sqlx::Result<()> {
    let event = NewEvent::by(admin.account_id, action).within(project_id);
    let event = match account_id {
        Some(id) => event.to("account", id.0),
        None => event.to("project", project_id.0),
    };
    store::audit_events::record(db, event).await
}

/// The page again, which says what was done.
pub(super) fn back(slug: &str, done: &str) -> Response {
    Redirect::to(&format!("/screening?project={slug}&done={done}")).into_response()
}

async fn refuse(
    db: &mut PgConnection,
    page: Page,
    admin: &Visitor,
    slug: &str,
    errors: Vec<FieldError>,
) -> AppResult<Response> {
    let shown = Shown {
        errors,
        ..Default::default()
    };
    show(db, page, admin, slug, shown).await
}

/// The form that asks for a text.
#[derive(Debug, serde::Deserialize)]
pub struct DemonstrationForm {
    project: String,
    /// The id of a prompt.
    #[serde(default)]
    prompt: String,
}

/// `POST /screening/demonstrations`: candidates to come answer this prompt.
pub async fn add_demonstration(
    State(state): State<AppState>,
    page: Page,
    ProjectAdmin(admin): ProjectAdmin,
    HtmlForm(form): HtmlForm<DemonstrationForm>,
) -> AppResult<Response> {
    let mut transaction = state.db.begin().await?;
    let project = find_project(&mut transaction, &admin, &form.project).await?;
    match store::screenings::add_demonstration(&mut transaction, project.id, &form.prompt).await {
        Ok(_) => {
            let action = AuditAction::ScreeningTasks;
            log(&mut transaction, &admin, action, project.id, None).await?;
            transaction.commit().await?;
            Ok(back(&form.project, "asked"))
        }
        Err(AppError::Invalid(errors)) => {
            transaction.rollback().await?;
            let mut db = state.db.acquire().await?;
            refuse(&mut db, page, &admin, &form.project, errors).await
        }
        Err(error) => Err(error),
    }
}

/// `POST /screening/tasks/{id}/remove`: candidates to come are not asked this any more.
pub async fn remove_task(
    State(state): State<AppState>,
    ProjectAdmin(admin): ProjectAdmin,
    Path(id): Path<TaskId>,
) -> AppResult<Response> {
    let mut db = state.db.begin().await?;
    let project = tasks::find_project(&mut db, &admin, id).await?;
    if !store::screenings::remove_source(&mut db, id).await? {
        return Err(AppError::NotFound("task"));
    }
    let action = AuditAction::ScreeningTasks;
    log(&mut db, &admin, action, project.id, None).await?;
    db.commit().await?;
    Ok(back(&project.slug, "removed"))
}

/// The form that invites.
#[derive(Debug, Default, serde::Deserialize)]
pub struct InviteForm {
    project: String,
    #[serde(default)]
    email: String,
    #[serde(default)]
    name: String,
}

/// `POST /screening/candidates`: invites somebody, by an account without a role that is made for them where
/// there is none, and shows the link to sign in with, once. An admin of single projects invites only accounts
/// that are there, and gets no link: it would sign in as somebody who may do more than they.
pub async fn invite(
    State(state): State<AppState>,
    page: Page,
    ProjectAdmin(admin): ProjectAdmin,
    HtmlForm(form): HtmlForm<InviteForm>,
) -> AppResult<Response> {
    let mut transaction = state.db.begin().await?;
    let project = find_project(&mut transaction, &admin, &form.project).await?;
    let known = store::accounts::find_by_email(&mut transaction, &form.email).await?;
    let made = match known {
        Some(account) => Ok(account.id),
        None if admin.is_admin => {
            let (email, name) = (&form.email, &form.name);
            store::screenings::insert_candidate(&mut transaction, email, name).await
        }
        // Accounts are made by admins of everything.
        None => Err(AppError::invalid(
            "email",
            Message::new("error-no-such-address"),
        )),
    };
    let id = match made {
        Ok(id) => id,
        Err(AppError::Invalid(errors)) => {
            transaction.rollback().await?;
            let shown = Shown {
                errors,
                email: form.email,
                name: form.name,
                ..Default::default()
            };
            let mut db = state.db.acquire().await?;
            return show(&mut db, page, &admin, &form.project, shown).await;
        }
        Err(error) => return Err(error),
    };
    store::screenings::invite(&mut transaction, project.id, id, admin.account_id).await?;
    let action = AuditAction::ScreeningInvited;
    log(&mut transaction, &admin, action, project.id, Some(id)).await?;
    if !admin.is_admin {
        transaction.commit().await?;
        return Ok(back(&project.slug, "invited"));
    }
    let hours = store::sign_in_links::INVITE_HOURS;
    let by = Some(admin.account_id);
    let token = store::sign_in_links::create(&mut transaction, id, by, hours).await?;
    transaction.commit().await?;
    let url = state.config.public_url();
    let shown = Shown {
        link: Some((form.email, format!("{url}/sign-in/{}", token.reveal()))),
        ..Default::default()
    };
    let mut db = state.db.acquire().await?;
    show(&mut db, page, &admin, &form.project, shown).await
}

/// `POST /screening/{id}/retake`: a new invitation for somebody whose screening is over.
pub async fn retake(
    State(state): State<AppState>,
    ProjectAdmin(admin): ProjectAdmin,
    Path(id): Path<ScreeningId>,
) -> AppResult<Response> {
    let mut db = state.db.begin().await?;
    let screening = find_screening(&mut db, &admin, id).await?;
    let (project_id, account_id) = (screening.project_id, screening.account_id);
    store::screenings::invite(&mut db, project_id, account_id, admin.account_id).await?;
    let action = AuditAction::ScreeningInvited;
    log(&mut db, &admin, action, project_id, Some(account_id)).await?;
    db.commit().await?;
    Ok(back(&screening.project_slug, "invited"))
}

/// `POST /screening/{id}/withdraw`: takes an invitation back that was not begun.
pub async fn withdraw(
    State(state): State<AppState>,
    ProjectAdmin(admin): ProjectAdmin,
    Path(id): Path<ScreeningId>,
) -> AppResult<Response> {
    let mut db = state.db.begin().await?;
    let screening = find_screening(&mut db, &admin, id).await?;
    if !store::screenings::withdraw(&mut db, id).await? {
        return Err(AppError::conflict("error-screening-begun"));
    }
    let (project_id, account_id) = (screening.project_id, screening.account_id);
    let action = AuditAction::ScreeningWithdrawn;
    log(&mut db, &admin, action, project_id, Some(account_id)).await?;
    db.commit().await?;
    Ok(back(&screening.project_slug, "withdrawn"))
}
