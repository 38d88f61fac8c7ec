//! `/adjudication`: tasks whose labelers contradict each other, the most divided first, and the decision
//! between them, which is a label of its own.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum_extra::extract::Form as HtmlForm;
use sqlx::PgConnection;

use crate::auth::visitor::{ProjectAdmin, Visitor};
use crate::domain::audit::AuditAction;
use crate::domain::conflict::{Conflict, Ranks, conflicts};
use crate::domain::form::{Form, NamedScale, text_in};
use crate::domain::ids::{AssignmentId, TaskId};
use crate::domain::prompt::CATEGORIES;
use crate::domain::ranking::{CandidateInput, RankingInput, STRENGTHS};
use crate::domain::task::TaskKind;
use crate::error::{AppError, AppResult, FieldError};
use crate::message::Message;
use crate::pages::labels::LabelsView;
use crate::pages::prompts::{choose_project, excerpt};
use crate::pages::rank_form::RankForm;
use crate::pages::tasks::find_project;
use crate::state::AppState;
use crate::store;
use crate::store::adjudication::{Case, Figures, Filter};
use crate::store::audit_events::NewEvent;
use crate::store::projects::Project;
use crate::store::task_labels::{Label, TaskDetail};
use crate::web::page::{Page, render};
use crate::web::text_view::Conversation;

/// Cases on one page of the list.
const PAGE_LENGTH: usize = 50;

/// The states that the list can be narrowed to; the first is the usual one.
const STATES: [&str; 3] = ["undecided", "decided", "all"];

/// The kinds of tasks that have conflicts.
const KINDS: [TaskKind; 2] = [TaskKind::Rank, TaskKind::Compare];

#[derive(Template)]
#[template(path = "adjudication/index.html")]
struct AdjudicationPage {
    page: Page,
    projects: Vec<Project>,
    project: Option<Project>,
    query: AdjudicationQuery,
    figures: Figures,
    cases: Vec<CaseRow>,
    has_more: bool,
    /// Whether programs are among the labelers.
    has_simulated: bool,
}

/// A case as the list shows it.
struct CaseRow {
    case: Case,
    excerpt: String,
}

/// What the list is narrowed to.
#[derive(Debug, Default, serde::Deserialize)]
pub struct AdjudicationQuery {
    /// Short name of the project; the first one when empty.
    #[serde(default)]
    project: String,
    /// `undecided`, `decided` or `all`.
    #[serde(default)]
    state: String,
    /// A category, or empty.
    #[serde(default)]
    category: String,
    /// `rank`, `compare`, or empty.
    #[serde(default)]
    kind: String,
    /// Which page of the list, 0 for the first.
    #[serde(default)]
    page: usize,
    /// The task that was decided just now.
    #[serde(default)]
    decided: Option<TaskId>,
}

impl AdjudicationPage {
    fn is_project(&self, project: &Project) -> bool {
        self.project
            .as_ref()
            .is_some_and(|own| own.id == project.id)
    }

    fn states(&self) -> [(&'static str, String); 3] {
        STATES.map(|state| (state, self.page.t(&format!("adjudication-state-{state}"))))
    }

    fn is_state(&self, state: &str) -> bool {
        self.query.state == state || (self.query.state.is_empty() && state == STATES[0])
    }

    fn categories(&self) -> [(&'static str, String); 10] {
        CATEGORIES.map(|word| (word, self.page.category(word)))
    }

    fn kinds(&self) -> [(TaskKind, String); 2] {
        KINDS.map(|kind| (kind, self.page.t(&format!("task-kind-{kind}"))))
    }

    fn category_of(&self, row: &CaseRow) -> String {
        self.page.category(&row.case.category)
    }

    fn next_page(&self) -> usize {
        self.query.page + 1
    }
}

impl CaseRow {
    /// Share of pairs in conflict, in per cent.
    fn percent(&self) -> String {
        let share = f64::from(self.case.n_conflicts) / f64::from(self.case.n_pairs.max(1));
        format!("{:.0} %", share * 100.0)
    }
}

/// `GET /adjudication`.
pub async fn index(
    State(state): State<AppState>,
    page: Page,
    ProjectAdmin(admin): ProjectAdmin,
    Query(query): Query<AdjudicationQuery>,
) -> AppResult<Response> {
    let wrong = |field| AppError::invalid(field, Message::new("error-unknown-choice"));
    let filter = Filter {
        is_decided: match query.state.as_str() {
            "" | "undecided" => Some(false),
            "decided" => Some(true),
            "all" => None,
            _ => return Err(wrong("state")),
        },
        category: query.category.clone(),
        kind: query.kind.clone(),
    };
    if !filter.category.is_empty() && !CATEGORIES.contains(&filter.category.as_str()) {
        return Err(wrong("category"));
    }
    let mut db = state.db.acquire().await?;
    let projects = store::members::list_administered(&mut db, admin.account_id).await?;
    let project = choose_project(&projects, &query.project)?;
    let (mut cases, mut figures) = (Vec::new(), Figures::default());
    let mut has_simulated = false;
    if let Some(project) = &project {
        let offset = query.page.saturating_mul(PAGE_LENGTH);
        let offset = i64::try_from(offset).map_err(|_| wrong("page"))?;
        let limit = PAGE_LENGTH as i64 + 1;
        cases = store::adjudication::list(&mut db, project.id, &filter, offset, limit).await?;
        figures = store::adjudication::figures(&mut db, project.id).await?;
        has_simulated = store::simulated::find(&mut db, project.id, 1)
            .await?
            .has_any;
    }
    drop(db);
    let has_more = cases.len() > PAGE_LENGTH;
    cases.truncate(PAGE_LENGTH);
    let row = |case: Case| CaseRow {
        excerpt: excerpt(&case.body),
        case,
    };
    Ok(render(&AdjudicationPage {
        page: page.titled("adjudication-title"),
        projects,
        project,
        query,
        figures,
        cases: cases.into_iter().map(row).collect(),
        has_more,
        has_simulated,
    })?
    .into_response())
}

#[derive(Template)]
#[template(path = "adjudication/show.html")]
struct CasePage {
    page: Page,
    task: TaskDetail,
    prompt: Conversation,
    labels: LabelsView,
    conflicts: Vec<Conflict>,
    form: Form,
    /// What the decision's form begins with.
    input: RankingInput,
    /// Whether that is what one label says.
    is_from_label: bool,
    is_decided: bool,
    /// Why this admin cannot decide.
    refusal: Option<String>,
    idempotency_key: String,
    errors: Vec<String>,
}

impl CasePage {
    fn item(&self, number: &usize) -> Option<&CandidateInput> {
        let items = &self.input.candidates;
        items.iter().find(|item| item.position == *number)
    }

    fn has_rank(&self, number: &usize, rank: &i16) -> bool {
        self.item(number)
            .is_some_and(|item| item.rank == Some(*rank))
    }

    fn cannot_judge(&self, number: &usize) -> bool {
        self.item(number).is_some_and(|item| item.cannot_judge)
    }

    fn has_scale(&self, number: &usize, key: &str, value: &i16) -> bool {
        self.item(number)
            .is_some_and(|item| item.scales.get(key) == Some(value))
    }

    fn has_rating(&self, number: &usize, rating: &i16) -> bool {
        self.item(number)
            .is_some_and(|item| item.rating == Some(*rating))
    }

    fn answered(&self, number: &usize, key: &str, value: bool) -> bool {
        self.item(number)
            .is_some_and(|item| item.flags.get(key) == Some(&value))
    }

    fn has_flags(&self, number: &usize) -> bool {
        self.item(number).is_some_and(|item| !item.flags.is_empty())
    }

    fn ranks(&self) -> std::ops::RangeInclusive<i16> {
        1..=self.task.texts.len() as i16
    }

    fn ratings(&self) -> std::ops::RangeInclusive<i16> {
        self.form.overall.min..=self.form.overall.max
    }

    fn strengths(&self) -> std::ops::RangeInclusive<i16> {
        STRENGTHS
    }

    fn has_strength(&self, strength: &i16) -> bool {
        self.input.strength == Some(*strength)
    }

    fn is_comparison(&self) -> bool {
        self.task.kind == TaskKind::Compare.as_str()
    }

    fn rating_label(&self) -> String {
        text_in(&self.form.overall.label, self.page.lang.tag())
    }

    /// Further scales: key, what is asked, and the values.
    fn scales(&self) -> Vec<(&str, String, Vec<i16>)> {
        let lang = self.page.lang.tag();
        let scales = self.form.scales.iter();
        scales
            .map(|NamedScale { key, scale }| {
                let values = (scale.min..=scale.max).collect();
                (key.as_str(), text_in(&scale.label, lang), values)
            })
            .collect()
    }

    fn flags(&self) -> Vec<(&str, String)> {
        let lang = self.page.lang.tag();
        let flags = self.form.flags.iter();
        flags
            .map(|flag| (flag.key.as_str(), text_in(&flag.label, lang)))
            .collect()
    }

    /// "Candidate 1 before 3: 2, the other way round: 1".
    fn say(&self, conflict: &Conflict) -> String {
        let values = [
            ("first", (conflict.first.0 + 1).to_string()),
            ("nfirst", conflict.first.1.to_string()),
            ("second", (conflict.second.0 + 1).to_string()),
            ("nsecond", conflict.second.1.to_string()),
            ("ties", conflict.n_ties.to_string()),
        ];
        self.page.t_args("adjudication-conflict", &values)
    }
}

/// How a case is asked for.
#[derive(Debug, Default, serde::Deserialize)]
pub struct CaseQuery {
    /// Whether labelers are named.
    #[serde(default)]
    names: bool,
    /// The label that the decision is to begin with.
    #[serde(default)]
    from: Option<AssignmentId>,
}

/// `GET /adjudication/{id}`: the labels of a task side by side, and the form that decides.
pub async fn show(
    State(state): State<AppState>,
    page: Page,
    ProjectAdmin(admin): ProjectAdmin,
    Path(id): Path<TaskId>,
    Query(query): Query<CaseQuery>,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    find_project(&mut db, &admin, id).await?;
    respond(&mut db, page, &admin, id, query, None).await
}

/// The page of a case; with what was typed and why it could not be taken.
async fn respond(
    db: &mut PgConnection,
    page: Page,
    admin: &Visitor,
    id: TaskId,
    query: CaseQuery,
    refused: Option<(RankingInput, Vec<FieldError>)>,
) -> AppResult<Response> {
    let task = store::task_labels::find_task(db, id).await?;
    if task.purpose != "label" || task.texts.is_empty() {
        return Err(AppError::NotFound("task"));
    }
    let labels = store::task_labels::list(db, id).await?;
    let form = store::projects::newest_form(db, task.project_id).await?;
    let submitted = || labels.iter().filter(|label| label.version.is_some());
    let ranks = submitted()
        .filter(|label| !label.is_adjudication)
        .map(ranks_of);
    let decision = submitted()
        .filter(|label| label.is_adjudication)
        .max_by_key(|label| label.said_at);
    let begun = submitted().find(|label| query.from == Some(label.assignment_id));
    let own = labels
        .iter()
        .find(|label| label.labeler_id == admin.account_id && !label.is_adjudication);
    let status = match refused.is_some() {
        true => StatusCode::UNPROCESSABLE_ENTITY,
        false => StatusCode::OK,
    };
    let (typed, errors) = match refused {
        Some((input, errors)) => (Some(input), errors),
        None => (None, Vec::new()),
    };
    let page = page.titled("adjudication-case");
    let template = CasePage {
        prompt: Conversation::new(&task.body, task.language.as_deref()),
        conflicts: conflicts(&ranks.collect::<Vec<_>>()),
        input: typed
            .or_else(|| begun.map(answers_of))
            .or_else(|| decision.map(input_of))
            .unwrap_or_default(),
        is_from_label: begun.is_some(),
        is_decided: decision.is_some(),
        refusal: own.map(|_| page.t("error-adjudicate-own")),
        idempotency_key: uuid::Uuid::new_v4().to_string(),
        errors: errors.iter().map(|error| complaint(&page, error)).collect(),
        labels: LabelsView::new(&page, &task, labels, &form, query.names),
        form,
        task,
        page,
    };
    Ok((status, render(&template)?).into_response())
}

/// A wrong field by the number of the candidate that an admin sees.
fn complaint(page: &Page, error: &FieldError) -> String {
    let number = error
        .field
        .strip_prefix("candidates[")
        .and_then(|rest| rest.split(']').next()?.parse::<usize>().ok());
    match number {
        Some(index) => page.t_args(
            "error-field",
            &[
                ("field", page.t_with("labels-candidate-n", "n", index + 1)),
                ("message", page.say(&error.message)),
            ],
        ),
        None => page.complaint(error),
    }
}

fn ranks_of(label: &Label) -> Ranks {
    let said = label.said.0.iter();
    said.map(|said| (said.slot, said.rank)).collect()
}

/// A decision as the form that made it.
fn input_of(label: &Label) -> RankingInput {
    let candidates = label.said.0.iter().map(|said| CandidateInput {
        position: said.slot as usize + 1,
        rank: said.rank,
        cannot_judge: said.rank.is_none() && !label.is_all_bad,
        rating: said.rating,
        scales: said.scales.clone(),
        flags: said.flags.clone(),
        note: said.note.clone(),
    });
    RankingInput {
        candidates: candidates.collect(),
        strength: label.strength,
        all_bad: label.is_all_bad,
        note: label.note.clone(),
    }
}

/// What a label answers, as a decision to begin with; what its labeler noted stays theirs.
fn answers_of(label: &Label) -> RankingInput {
    RankingInput {
        note: String::new(),
        ..input_of(label)
    }
}

/// `POST /adjudication/{id}`: decides.
pub async fn create(
    State(state): State<AppState>,
    page: Page,
    ProjectAdmin(admin): ProjectAdmin,
    Path(id): Path<TaskId>,
    HtmlForm(form): HtmlForm<RankForm>,
) -> AppResult<Response> {
    let mut db = state.db.begin().await?;
    let project = find_project(&mut db, &admin, id).await?;
    let task = store::task_labels::find_task(&mut db, id).await?;
    let n = task.texts.len();
    let mut input = form.input(n).map_err(AppError::Invalid)?;
    input.strength = form.get("strength").parse().ok();
    let key = form.get("idempotency_key");
    match store::adjudication::decide(&mut db, id, admin.account_id, &input, key).await {
        Ok(_) => {
            let event = NewEvent::by(admin.account_id, AuditAction::TaskAdjudicated);
            let event = event.to("task", id.0).within(project.id);
            store::audit_events::record(&mut db, event).await?;
            db.commit().await?;
            let next = format!("/adjudication?project={}&decided={id}", project.slug);
            Ok(Redirect::to(&next).into_response())
        }
        Err(AppError::Invalid(errors)) => {
            let refused = Some((input, errors));
            respond(&mut db, page, &admin, id, CaseQuery::default(), refused).await
        }
        Err(error) => Err(error),
    }
}
