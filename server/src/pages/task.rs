//! `/tasks/{id}`: one task for admins, with its prompt, its candidates and its labels side by side, what was
//! written in it or said of its prompt, and where its right answer is written down. Names of models stay out
//! of it.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use sqlx::PgConnection;

use crate::auth::visitor::ProjectAdmin;
use crate::domain::form::Form;
use crate::domain::gold::{Facts, GoldAnswer};
use crate::domain::ids::{AssignmentId, TaskId};
use crate::domain::task::{Purpose, TaskKind};
use crate::domain::writing::Brief;
use crate::error::{AppResult, FieldError};
use crate::pages::labels::{LabelsView, reason_label};
use crate::pages::task_texts::{self, SubmissionView};
use crate::pages::tasks::find_project;
use crate::state::AppState;
use crate::store;
use crate::store::gold::AnswerVersion;
use crate::store::task_labels::{Label, TaskDetail};
use crate::web::page::{Page, render};
use crate::web::text_view::Conversation;

#[derive(Template)]
#[template(path = "tasks/show.html")]
struct TaskPage {
    page: Page,
    task: TaskDetail,
    prompt: Conversation,
    /// The instruction or the use case that labelers write from.
    given: Conversation,
    labels: LabelsView,
    /// What was written, or said of the prompt.
    submissions: Vec<SubmissionView>,
    form: Form,
    /// What is known of it, newest first.
    answers: Vec<AnswerVersion>,
    /// What the form that writes the right answer down begins with.
    known: GoldAnswer,
    /// Whether it begins with a label.
    is_from_label: bool,
    n_exposed: usize,
    errors: Vec<FieldError>,
}

impl TaskPage {
    fn lang(&self) -> &'static str {
        self.page.lang.tag()
    }

    fn kind(&self) -> String {
        self.page.t(&format!("task-kind-{}", self.task.kind))
    }

    fn category(&self) -> String {
        self.page.category(&self.task.category)
    }

    /// What labelers write from, by its name.
    fn given_title(&self) -> String {
        let is_few_shot = self
            .task
            .brief
            .as_ref()
            .is_some_and(|brief| !brief["instruction"].is_null());
        self.page.t(match is_few_shot {
            true => "demonstrate-instruction",
            false => "demonstrate-use-case",
        })
    }

    fn purpose(&self) -> String {
        self.page.t(&format!("task-purpose-{}", self.task.purpose))
    }

    fn chosen_by(&self) -> String {
        self.page.t(&format!("task-chosen-{}", self.task.chosen_by))
    }

    fn is(&self, purpose: &str) -> bool {
        self.task.purpose == purpose
    }

    /// Whether candidates are put in order in it.
    fn has_ranks(&self) -> bool {
        let kind: Result<TaskKind, _> = self.task.kind.parse();
        matches!(kind, Ok(TaskKind::Rank | TaskKind::Compare))
    }

    /// Whether its answer can be written down: what gold and screening tasks are made of, and they themselves.
    fn takes_answer(&self) -> bool {
        self.has_ranks() && (self.is(Purpose::Label.as_str()) || !self.answers.is_empty())
    }

    fn ranks(&self) -> std::ops::RangeInclusive<i16> {
        1..=self.task.texts.len() as i16
    }

    fn flags(&self) -> Vec<(&str, String)> {
        let label = |flag: &crate::domain::form::Flag| {
            crate::domain::form::text_in(&flag.label, self.page.lang.tag())
        };
        let flags = self.form.flags.iter();
        flags.map(|flag| (flag.key.as_str(), label(flag))).collect()
    }

    fn knows_rank(&self, number: &usize, rank: &i16) -> bool {
        let known = self.known.of_slot(*number as i16 - 1);
        known.is_some_and(|known| known.rank == Some(*rank))
    }

    fn knows_flag(&self, number: &usize, key: &str, answer: bool) -> bool {
        let known = self.known.of_slot(*number as i16 - 1);
        known.is_some_and(|known| known.flags.get(key) == Some(&answer))
    }

    fn knows_flags(&self, number: &usize) -> bool {
        let known = self.known.of_slot(*number as i16 - 1);
        known.is_some_and(|known| !known.flags.is_empty())
    }

    fn reason(&self, key: &str) -> String {
        reason_label(&self.form, key, self.lang())
    }
}

/// How the page is asked for.
#[derive(Debug, Default, serde::Deserialize)]
pub struct TaskQuery {
    /// Whether labelers are named.
    #[serde(default)]
    names: bool,
    /// The label that the right answer is to begin with.
    #[serde(default)]
    from: Option<AssignmentId>,
}

/// `GET /tasks/{id}`.
pub async fn show(
    State(state): State<AppState>,
    page: Page,
    ProjectAdmin(admin): ProjectAdmin,
    Path(id): Path<TaskId>,
    Query(query): Query<TaskQuery>,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    find_project(&mut db, &admin, id).await?;
    let asked = Asked {
        query,
        known: None,
        errors: Vec::new(),
    };
    respond(&mut db, page, id, asked).await
}

/// What the page shows besides the task.
pub(super) struct Asked {
    /// How it was asked for.
    pub(super) query: TaskQuery,
    /// What was typed as the right answer and could not be taken.
    pub(super) known: Option<GoldAnswer>,
    /// Why it could not be taken.
    pub(super) errors: Vec<FieldError>,
}

/// The page of a task.
pub(super) async fn respond(
    db: &mut PgConnection,
    page: Page,
    id: TaskId,
    asked: Asked,
) -> AppResult<Response> {
    let task = store::task_labels::find_task(db, id).await?;
    let labels = store::task_labels::list(db, id).await?;
    let versions = store::task_labels::list_versions(db, id).await?;
    let answers = store::gold::list_answers(db, id).await?;
    let form = store::projects::newest_form(db, task.project_id).await?;
    let from = labels
        .iter()
        .find(|label| asked.query.from == Some(label.assignment_id));
    let known = asked
        .known
        .or_else(|| from.map(answer_of))
        .or_else(|| answers.first().map(|newest| newest.answer.clone()));
    let status = match asked.errors.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::UNPROCESSABLE_ENTITY,
    };
    let page = page.titled("task-title");
    let brief = Brief::read(task.brief.clone()).map_err(anyhow::Error::from)?;
    let given = brief
        .text()
        .map(|text| Conversation::new(&text.into(), task.language.as_deref()));
    let n_exposed = labels.len();
    let is_from_label = from.is_some();
    let mut labels = LabelsView::new(&page, &task, labels, &form, asked.query.names);
    let submissions = task_texts::submissions(&page, &task, &form, &mut labels.others, &versions);
    let template = TaskPage {
        prompt: Conversation::new(&task.body, task.language.as_deref()),
        given: given.unwrap_or_default(),
        n_exposed,
        is_from_label,
        labels,
        submissions,
        known: known.unwrap_or_default(),
        answers,
        form,
        task,
        errors: asked.errors,
        page,
    };
    Ok((status, render(&template)?).into_response())
}

/// What a label says, as a right answer to begin with.
fn answer_of(label: &Label) -> GoldAnswer {
    let facts = label.said.0.iter().map(|said| Facts {
        slot: said.slot,
        rank: said.rank,
        flags: said.flags.clone(),
    });
    GoldAnswer {
        candidates: facts.collect(),
    }
}
