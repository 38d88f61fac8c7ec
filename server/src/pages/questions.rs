//! `/questions`: what labelers ask about the tasks at hand, and what admins answer. Labelers see their own,
//! admins all. A part of every task's page asks without leaving it: as a plain form in a window of its own,
//! and in place where `static/js/questions.js` runs.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum_extra::extract::Form as HtmlForm;
use sqlx::PgConnection;

use crate::auth::visitor::{Labeler, ProjectAdmin, Visitor};
use crate::domain::ids::{AnswerId, AssignmentId, QuestionId};
use crate::error::{AppError, AppResult, FieldError};
use crate::message::Message;
use crate::pages::work::path_of;
use crate::state::AppState;
use crate::store;
use crate::store::projects::Project;
use crate::store::questions::{Filter, LONGEST_ANSWER, LONGEST_QUESTION, Question};
use crate::web::page::{Page, render};
use crate::web::text_view::{Conversation, TextView};

/// Questions on one page of the list.
const PAGE_LENGTH: usize = 30;

/// The states that an admin's list can be narrowed to; the first is the usual one.
const STATES: [&str; 3] = ["open", "answered", "all"];

/// A question as pages show it.
struct QuestionView {
    question: Question,
    text: TextView,
    answers: Vec<AnswerView>,
    /// The page of the task, where the asker still works on it.
    path: Option<String>,
    prompt: Conversation,
}

/// An answer as pages show it.
struct AnswerView {
    id: AnswerId,
    text: TextView,
    by: String,
    at: chrono::DateTime<chrono::Utc>,
    is_unread: bool,
    /// The question as every labeler reads it.
    published: Option<TextView>,
}

impl QuestionView {
    fn new(question: Question) -> Self {
        let answers = question.answers.0.iter().map(|answer| AnswerView {
            id: answer.id,
            text: TextView::new(&answer.markdown, None),
            by: answer.by.clone(),
            at: answer.at,
            is_unread: answer.is_unread,
            published: answer
                .published_question
                .as_deref()
                .map(|text| TextView::new(text, None)),
        });
        let kind = question.kind.parse();
        Self {
            text: TextView::new(&question.markdown, None),
            answers: answers.collect(),
            path: kind
                .ok()
                .filter(|_| question.is_open)
                .map(|kind| path_of(kind, question.assignment_id)),
            prompt: match question.body.is_null() {
                true => Conversation::default(),
                false => Conversation::new(&question.body, question.language.as_deref()),
            },
            question,
        }
    }

    /// Whether the button that was pressed stood here.
    fn is(&self, id: &Option<QuestionId>) -> bool {
        *id == Some(self.question.id)
    }
}

#[derive(Template)]
#[template(path = "questions/index.html")]
struct QuestionsPage {
    page: Page,
    is_admin: bool,
    projects: Vec<Project>,
    query: QuestionsQuery,
    questions: Vec<QuestionView>,
    next: Option<QuestionId>,
    n_unread: i64,
    errors: Vec<FieldError>,
    /// What was typed as an answer and could not be taken, and to which question.
    typed: AnswerForm,
    typed_to: Option<QuestionId>,
}

/// What the list is narrowed to.
#[derive(Debug, Default, serde::Deserialize)]
pub struct QuestionsQuery {
    /// Short name of a project; all when empty.
    #[serde(default)]
    project: String,
    /// `open`, `answered` or `all`; for admins.
    #[serde(default)]
    state: String,
    /// The last question of the page before.
    #[serde(default)]
    before: Option<QuestionId>,
}

impl QuestionsPage {
    fn states(&self) -> [(&'static str, String); 3] {
        STATES.map(|state| (state, self.page.t(&format!("questions-state-{state}"))))
    }

    fn is_state(&self, state: &str) -> bool {
        self.query.state == state || (self.query.state.is_empty() && state == STATES[0])
    }

    /// The project that the list is narrowed to, as addresses name it.
    fn nav_query(&self) -> String {
        match self.query.project.as_str() {
            "" => String::new(),
            slug => format!("?project={slug}"),
        }
    }

    fn longest_answer(&self) -> usize {
        LONGEST_ANSWER
    }

    fn longest_question(&self) -> usize {
        LONGEST_QUESTION
    }

    fn purpose_key(&self, view: &QuestionView) -> String {
        format!("tasks-state-{}", view.question.purpose)
    }
}

/// `GET /questions`.
pub async fn index(
    State(state): State<AppState>,
    page: Page,
    visitor: Visitor,
    Query(query): Query<QuestionsQuery>,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let refused = Refused::default();
    show(&mut db, page, &visitor, query, refused).await
}

/// An answer that could not be taken, as it was typed.
#[derive(Default)]
struct Refused {
    errors: Vec<FieldError>,
    typed: AnswerForm,
    to: Option<QuestionId>,
}

async fn show(
    db: &mut PgConnection,
    page: Page,
    visitor: &Visitor,
    query: QuestionsQuery,
    refused: Refused,
) -> AppResult<Response> {
    let is_admin = visitor.is_project_admin;
    if !is_admin && !visitor.is_labeler {
        return Err(AppError::Forbidden("labeler"));
    }
    let projects = store::members::list_administered(db, visitor.account_id).await?;
    let project = match query.project.as_str() {
        "" => None,
        slug => Some(
            projects
                .iter()
                .find(|project| project.slug == slug)
                .ok_or(AppError::NotFound("project"))?,
        ),
    };
    let filter = Filter {
        project_id: project.map(|project| project.id),
        administered_by: is_admin.then_some(visitor.account_id),
        asked_by: (!is_admin).then_some(visitor.account_id),
        assignment_id: None,
        is_answered: match (is_admin, query.state.as_str()) {
            (false, _) | (true, "all") => None,
            (true, "" | "open") => Some(false),
            (true, "answered") => Some(true),
            _ => {
                let message = Message::new("error-unknown-choice");
                return Err(AppError::invalid("state", message));
            }
        },
        before: query.before,
    };
    let mut found = store::questions::list(db, filter, PAGE_LENGTH as i64 + 1).await?;
    let has_more = found.len() > PAGE_LENGTH;
    found.truncate(PAGE_LENGTH);
    let next = found.last().filter(|_| has_more).map(|last| last.id);
    let status = match refused.errors.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::UNPROCESSABLE_ENTITY,
    };
    let template = QuestionsPage {
        page: page.titled("questions-title"),
        is_admin,
        projects,
        query,
        questions: found.into_iter().map(QuestionView::new).collect(),
        next,
        n_unread: visitor.news.n_unread,
        errors: refused.errors,
        typed: refused.typed,
        typed_to: refused.to,
    };
    Ok((status, render(&template)?).into_response())
}

/// The part of a task's page that asks.
#[derive(Template)]
#[template(path = "questions/part.html")]
struct QuestionsPart<'a> {
    page: &'a Page,
    assignment_id: AssignmentId,
    key: String,
    questions: Vec<QuestionView>,
    n_unread: usize,
}

impl QuestionsPart<'_> {
    fn longest_question(&self) -> usize {
        LONGEST_QUESTION
    }
}

/// The part of a task's page that asks, as HTML: what this labeler asked about the task, its answers, and a
/// form. Nothing for somebody who is no labeler.
///
/// # Errors
/// When the database fails.
pub async fn part(
    db: &mut PgConnection,
    page: &Page,
    visitor: &Visitor,
    assignment_id: AssignmentId,
) -> AppResult<String> {
    if !visitor.is_labeler {
        return Ok(String::new());
    }
    let filter = Filter {
        assignment_id: Some(assignment_id),
        asked_by: Some(visitor.account_id),
        ..Default::default()
    };
    let found = match store::questions::has_any(db, assignment_id).await? {
        true => store::questions::list(db, filter, PAGE_LENGTH as i64).await?,
        false => Vec::new(),
    };
    let questions: Vec<QuestionView> = found.into_iter().map(QuestionView::new).collect();
    let answers = questions.iter().flat_map(|view| &view.answers);
    let part = QuestionsPart {
        page,
        assignment_id,
        key: uuid::Uuid::new_v4().to_string(),
        n_unread: answers.filter(|answer| answer.is_unread).count(),
        questions,
    };
    Ok(part.render()?)
}

/// The form that asks.
#[derive(serde::Deserialize)]
pub struct QuestionForm {
    assignment_id: AssignmentId,
    #[serde(default)]
    question: String,
    #[serde(default)]
    key: String,
}

/// `POST /questions`: a labeler asks about a task of theirs.
pub async fn create(
    State(state): State<AppState>,
    Labeler(labeler): Labeler,
    HtmlForm(form): HtmlForm<QuestionForm>,
) -> AppResult<Redirect> {
    let mut db = state.db.acquire().await?;
    let who = labeler.account_id;
    let id =
        store::questions::ask(&mut db, form.assignment_id, who, &form.question, &form.key).await?;
    // An admin who labels would find it on another page of the list.
    let state = match labeler.is_project_admin {
        true => "?state=all",
        false => "",
    };
    Ok(Redirect::to(&format!("/questions{state}#question-{id}")))
}

/// `POST /questions/read`: the labeler has read the answers.
pub async fn mark_read(
    State(state): State<AppState>,
    Labeler(labeler): Labeler,
) -> AppResult<Redirect> {
    let mut db = state.db.acquire().await?;
    store::questions::mark_read(&mut db, labeler.account_id).await?;
    Ok(Redirect::to("/questions"))
}

/// The form that answers.
#[derive(Debug, Default, serde::Deserialize)]
pub struct AnswerForm {
    #[serde(default)]
    answer: String,
    /// Whether every labeler of the project is to read it.
    #[serde(default)]
    publish: bool,
    /// The question as they read it.
    #[serde(default)]
    published_question: String,
}

/// `POST /questions/{id}/answers`.
pub async fn answer(
    State(state): State<AppState>,
    page: Page,
    ProjectAdmin(admin): ProjectAdmin,
    Path(id): Path<QuestionId>,
    HtmlForm(form): HtmlForm<AnswerForm>,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let published = form.publish.then_some(form.published_question.as_str());
    let who = admin.account_id;
    match store::questions::answer(&mut db, id, who, &form.answer, published).await {
        Ok(_) => {
            Ok(Redirect::to(&format!("/questions?state=answered#question-{id}")).into_response())
        }
        Err(AppError::Invalid(errors)) => {
            let query = QuestionsQuery {
                state: "all".to_owned(),
                ..Default::default()
            };
            let refused = Refused {
                errors,
                typed: form,
                to: Some(id),
            };
            show(&mut db, page, &admin, query, refused).await
        }
        Err(error) => Err(error),
    }
}

/// `POST /answers/{id}/withdraw`: a published answer is the asker's alone again.
pub async fn withdraw(
    State(state): State<AppState>,
    ProjectAdmin(admin): ProjectAdmin,
    Path(id): Path<AnswerId>,
) -> AppResult<Redirect> {
    let mut db = state.db.acquire().await?;
    match store::questions::withdraw(&mut db, id, admin.account_id).await? {
        true => Ok(Redirect::to("/questions?state=answered")),
        false => Err(AppError::NotFound("answer")),
    }
}
