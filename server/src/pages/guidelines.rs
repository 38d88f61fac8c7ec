//! `/guidelines`: what a labeler reads and acknowledges before they work, of each of their projects: the
//! guidelines and what they consent to. What changed since they read it last comes first.

use askama::Template;
use axum::extract::{Form, State};
use axum::response::{IntoResponse, Redirect, Response};
use serde_json::json;
use sqlx::Connection;

use crate::auth::visitor::{Labeler, Visitor};
use crate::domain::audit::AuditAction;
use crate::domain::form::text_in;
use crate::domain::ids::ProjectId;
use crate::error::{AppError, AppResult};
use crate::pages::project_rules::{DiffLine, diff_lines};
use crate::state::AppState;
use crate::store;
use crate::store::audit_events::NewEvent;
use crate::store::members::Subject;
use crate::store::questions::Published;
use crate::store::rules::RuleToRead;
use crate::web::markdown;
use crate::web::page::{Page, render};
use crate::web::text_view::TextView;

/// A subject of a project as it is read.
struct Rule {
    subject: String,
    version: i32,
    html: String,
    /// Whether it waits for this reader.
    is_due: bool,
    /// Whether this reader said no to it.
    is_refused: bool,
    /// Whether this reader labels here.
    is_asked: bool,
    acknowledged: Option<i32>,
    /// What the newest version changed of the one that they acknowledged last.
    changes: Vec<DiffLine>,
}

/// A project of the reader's.
struct Project {
    id: ProjectId,
    name: String,
    may_edit: bool,
    /// Whether a task of it waits for the reader: only then is there a next task to read first for.
    has_tasks: bool,
    rules: Vec<Rule>,
    /// Questions that an admin answered for everybody.
    published: Vec<PublishedView>,
}

/// A question and its answer, laid out.
struct PublishedView {
    question: TextView,
    answer: TextView,
}

impl PublishedView {
    fn new(published: &Published) -> Self {
        Self {
            question: TextView::new(&published.question, None),
            answer: TextView::new(&published.answer, None),
        }
    }
}

impl Project {
    fn is_due(&self) -> bool {
        self.rules.iter().any(|rule| rule.is_due)
    }
}

#[derive(Template)]
#[template(path = "guidelines/index.html")]
struct GuidelinesPage {
    page: Page,
    projects: Vec<Project>,
}

impl GuidelinesPage {
    fn n_due(&self) -> usize {
        let waiting = self.projects.iter().filter(|project| project.has_tasks);
        let rules = waiting.flat_map(|project| &project.rules);
        rules.filter(|rule| rule.is_due).count()
    }

    fn word(&self, rule: &Rule, key: &str) -> String {
        self.page.t(&format!("guidelines-{key}-{}", rule.subject))
    }
}

impl Rule {
    /// Whether the reader may say that they do not agree.
    fn may_decline(&self) -> bool {
        self.subject == Subject::Consent.as_str() && self.is_due
    }

    /// Whether the reader agreed to something that they may take back.
    fn may_withdraw(&self) -> bool {
        let is_consent = self.subject == Subject::Consent.as_str();
        is_consent && self.is_asked && self.acknowledged.is_some()
    }

    /// Whether the reader has acknowledged this very version.
    fn is_acknowledged(&self) -> bool {
        self.acknowledged == Some(self.version)
    }

    fn new(rule: &RuleToRead, lang: &str) -> Self {
        let text = text_in(&rule.texts.0, lang);
        let changes = match &rule.acknowledged_texts {
            Some(old) if rule.is_due() => diff_lines(&text_in(&old.0, lang), &text),
            _ => Vec::new(),
        };
        Self {
            subject: rule.subject.clone(),
            version: rule.version,
            html: markdown::to_html(&text),
            is_due: rule.is_due(),
            is_refused: rule.is_refused(),
            is_asked: rule.is_asked,
            acknowledged: rule.acknowledged,
            changes,
        }
    }
}

/// `GET /guidelines`: the projects that wait for the reader first.
pub async fn index(
    State(state): State<AppState>,
    page: Page,
    visitor: Visitor,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let reader = visitor.account_id;
    let rules = store::rules::list_to_read(&mut db, reader, visitor.is_labeler).await?;
    // A candidate reads the rules of the projects that they are screened for, and nobody else without a role.
    if !visitor.has_role() && rules.is_empty() {
        return Err(AppError::Forbidden("labeler"));
    }
    let administered = match visitor.is_project_admin {
        true => store::members::list_administered(&mut db, reader).await?,
        false => Vec::new(),
    };
    let waiting = match rules.iter().any(RuleToRead::is_due) {
        true => store::home::list_waiting(&mut db, reader).await?,
        false => Vec::new(),
    };
    let mut projects: Vec<Project> = Vec::new();
    for rule in &rules {
        if projects
            .last()
            .is_none_or(|last| last.id != rule.project_id)
        {
            projects.push(Project {
                id: rule.project_id,
                name: rule.project.clone(),
                may_edit: administered.iter().any(|one| one.id == rule.project_id),
                has_tasks: waiting.iter().any(|one| one.project_id == rule.project_id),
                rules: Vec::new(),
                published: store::questions::list_published(&mut db, rule.project_id)
                    .await?
                    .iter()
                    .map(PublishedView::new)
                    .collect(),
            });
        }
        if let Some(project) = projects.last_mut() {
            project.rules.push(Rule::new(rule, page.lang.tag()));
        }
    }
    projects.sort_by_key(|project| !project.is_due());
    let page = page.titled("guidelines-title");
    Ok(render(&GuidelinesPage { page, projects })?.into_response())
}

/// The form that acknowledges a version.
#[derive(serde::Deserialize)]
pub struct AcknowledgementForm {
    project_id: ProjectId,
    #[serde(default)]
    subject: Option<String>,
    version: i32,
}

/// `POST /guidelines/acknowledgements`: this labeler has read a version, and works by it from now on.
/// Leads on to what else waits to be read, or to work.
pub async fn acknowledge(
    State(state): State<AppState>,
    Labeler(labeler): Labeler,
    Form(form): Form<AcknowledgementForm>,
) -> AppResult<Redirect> {
    let subject = form.subject.as_deref().unwrap_or("guidelines");
    let subject: Subject = subject
        .parse()
        .map_err(|_: String| AppError::NotFound("page"))?;
    let mut db = state.db.acquire().await?;
    let reader = labeler.account_id;
    let rules = store::rules::list_to_read(&mut db, reader, true).await?;
    let is_theirs = |rule: &RuleToRead| rule.project_id == form.project_id && rule.is_asked;
    if !rules.iter().any(is_theirs) {
        return Err(AppError::NotFound("project"));
    }
    let (project_id, version) = (form.project_id, form.version);
    let mut transaction = db.begin().await?;
    let is_newest =
        store::members::acknowledge(&mut transaction, reader, project_id, subject, version).await?;
    if !is_newest {
        return Err(AppError::conflict("error-not-newest"));
    }
    // Whoever agrees again takes back that their labels are to be left out, and no admin's word.
    if subject == Subject::Consent
        && store::label_withdrawals::end(&mut transaction, project_id, reader, reader, true).await?
    {
        let event = NewEvent::by(reader, AuditAction::LabelsRestored).within(project_id);
        let event = event.to("account", reader.0);
        store::audit_events::record(&mut transaction, event).await?;
    }
    transaction.commit().await?;
    let rules = store::rules::list_to_read(&mut db, reader, true).await?;
    let next = rules.iter().find(|rule| rule.is_due());
    Ok(match next {
        Some(rule) => Redirect::to(&format!("/guidelines#{}-{}", rule.subject, rule.project_id)),
        None => Redirect::to("/work"),
    })
}

/// The form that says no to a consent.
#[derive(serde::Deserialize)]
pub struct RefusalForm {
    project_id: ProjectId,
    version: i32,
    /// Whether what was agreed to before holds no longer either.
    #[serde(default)]
    withdraw: bool,
}

/// `POST /guidelines/refusals`: this labeler does not agree to the newest consent of a project, or no longer.
/// They get no task of it, and go on with their other projects. What they said before is left out of later
/// snapshots where they withdraw.
pub async fn refuse(
    State(state): State<AppState>,
    Labeler(labeler): Labeler,
    Form(form): Form<RefusalForm>,
) -> AppResult<Redirect> {
    let mut transaction = state.db.begin().await?;
    let (reader, project_id) = (labeler.account_id, form.project_id);
    let rules = store::rules::list_to_read(&mut transaction, reader, true).await?;
    let is_theirs = |rule: &RuleToRead| rule.project_id == project_id && rule.is_asked;
    if !rules.iter().any(is_theirs) {
        return Err(AppError::NotFound("project"));
    }
    let (version, withdraws) = (form.version, form.withdraw);
    let agreed =
        store::consent_refusals::insert(&mut transaction, reader, project_id, version, withdraws);
    let agreed = agreed.await?;
    let agreed = agreed.ok_or_else(|| AppError::conflict("error-not-newest"))?;
    let action = match agreed {
        Some(_) => AuditAction::ConsentWithdrawn,
        None => AuditAction::ConsentDeclined,
    };
    let event = NewEvent::by(reader, action).within(project_id);
    let event = event.with(json!({"version": version}));
    store::audit_events::record(&mut transaction, event).await?;
    if agreed.is_some() {
        // In the place of an admin's, which an admin could end.
        store::label_withdrawals::end(&mut transaction, project_id, reader, reader, false).await?;
        store::label_withdrawals::begin(&mut transaction, project_id, reader, reader).await?;
        let event = NewEvent::by(reader, AuditAction::LabelsWithdrawn).within(project_id);
        let event = event.to("account", reader.0);
        store::audit_events::record(&mut transaction, event).await?;
    }
    store::consent_refusals::release_leases(&mut transaction, reader, project_id).await?;
    transaction.commit().await?;
    Ok(Redirect::to(&format!("/guidelines#consent-{project_id}")))
}
