//! `/gold`: tasks whose right answer is known, how often each was seen, and how far labelers agree with
//! them. They are made on the page of a task.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum_extra::extract::Form as HtmlForm;

use crate::auth::visitor::ProjectAdmin;
use crate::domain::audit::AuditAction;
use crate::domain::gold::{GoldAnswer, GoldScore, Tally};
use crate::domain::ids::{AccountId, TaskId};
use crate::domain::task::Purpose;
use crate::error::{AppError, AppResult};
use crate::message::Message;
use crate::pages::prompts::{choose_project, excerpt};
use crate::pages::rank_form::RankForm;
use crate::pages::task::{self, Asked, TaskQuery};
use crate::pages::tasks::find_project;
use crate::state::AppState;
use crate::store;
use crate::store::audit_events::NewEvent;
use crate::store::gold::{GoldTask, Scored};
use crate::store::projects::Project;
use crate::web::page::{Page, render};

#[derive(Template)]
#[template(path = "gold/index.html")]
struct GoldPage {
    page: Page,
    projects: Vec<Project>,
    project: Option<Project>,
    /// Share of leases that are gold, 0 to 1.
    gold_share: f32,
    tasks: Vec<TaskRow>,
    labelers: Vec<LabelerRow>,
}

/// A gold task with how far all labelers agree with it.
struct TaskRow {
    task: GoldTask,
    excerpt: String,
    score: GoldScore,
}

/// A labeler with how far they agree with all gold tasks.
struct LabelerRow {
    name: String,
    is_simulated: bool,
    score: GoldScore,
    n_labels: usize,
}

/// Which project.
#[derive(Debug, Default, serde::Deserialize)]
pub struct ProjectQuery {
    /// Short name; the first one when empty.
    #[serde(default)]
    pub(super) project: String,
}

impl GoldPage {
    /// A share with what it rests on: "83 % (n = 24)"; a dash where there is nothing.
    fn share(&self, tally: &Tally) -> String {
        share_of(&self.page, tally.share(), i64::from(tally.n))
    }

    fn percent(&self) -> String {
        format!("{:.1} %", self.gold_share * 100.0)
    }

    fn is_project(&self, project: &Project) -> bool {
        self.project
            .as_ref()
            .is_some_and(|own| own.id == project.id)
    }
}

/// A share with what it rests on, as pages show it.
pub(super) fn share_of(page: &Page, share: Option<f64>, n: i64) -> String {
    match share {
        Some(share) => page.t_args(
            "gold-share-of",
            &[
                ("share", format!("{:.0}", share * 100.0)),
                ("n", n.to_string()),
            ],
        ),
        None => "–".to_owned(),
    }
}

/// `GET /gold`.
pub async fn index(
    State(state): State<AppState>,
    page: Page,
    ProjectAdmin(admin): ProjectAdmin,
    Query(query): Query<ProjectQuery>,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let projects = store::members::list_administered(&mut db, admin.account_id).await?;
    let project = choose_project(&projects, &query.project)?;
    let (mut tasks, mut scores, mut gold_share) = (Vec::new(), Vec::new(), 0.0);
    if let Some(project) = &project {
        tasks = store::gold::list(&mut db, project.id).await?;
        scores = store::gold::scores(&mut db, project.id).await?;
        let settings = store::projects::find_settings(&mut db, project.id).await?;
        gold_share = settings.map_or(0.0, |settings| settings.gold_share);
    }
    drop(db);
    Ok(render(&GoldPage {
        page: page.titled("gold-title"),
        projects,
        project,
        gold_share,
        labelers: labeler_rows(&scores),
        tasks: tasks
            .into_iter()
            .map(|task| task_row(task, &scores))
            .collect(),
    })?
    .into_response())
}

fn task_row(task: GoldTask, scores: &[Scored]) -> TaskRow {
    let own = scores.iter().filter(|scored| scored.task_id == task.id);
    TaskRow {
        excerpt: excerpt(&task.body),
        score: own.map(|scored| scored.score).sum(),
        task,
    }
}

/// By name, simulated ones last.
fn labeler_rows(scores: &[Scored]) -> Vec<LabelerRow> {
    let mut rows: BTreeMap<(bool, &str, AccountId), (GoldScore, usize)> = BTreeMap::new();
    for scored in scores {
        let key = (scored.is_simulated, scored.name.as_str(), scored.labeler_id);
        let (sum, n) = rows.entry(key).or_default();
        *sum = sum.plus(scored.score);
        *n += 1;
    }
    let row =
        |((is_simulated, name, _), (score, n_labels)): ((bool, &str, AccountId), _)| LabelerRow {
            name: name.to_owned(),
            is_simulated,
            score,
            n_labels,
        };
    rows.into_iter().map(row).collect()
}

/// `POST /tasks/{id}/gold`: writes the right answer down: of a task for the dataset as a new gold or screening
/// task, whichever button was pressed; of one of those as a new version.
pub async fn create(
    State(state): State<AppState>,
    page: Page,
    ProjectAdmin(admin): ProjectAdmin,
    Path(id): Path<TaskId>,
    HtmlForm(form): HtmlForm<RankForm>,
) -> AppResult<Response> {
    let mut db = state.db.begin().await?;
    let project = find_project(&mut db, &admin, id).await?;
    let source = store::task_labels::find_task(&mut db, id).await?;
    let fields = store::projects::newest_form(&mut db, source.project_id).await?;
    let n = source.texts.len();
    let input = form.input(n).map_err(AppError::Invalid)?;
    let answer = match GoldAnswer::of_input(&input, n, &fields) {
        Ok(answer) => answer,
        Err(errors) => {
            let asked = Asked {
                query: TaskQuery::default(),
                known: Some(GoldAnswer::typed(&input)),
                errors,
            };
            return task::respond(&mut db, page, id, asked).await;
        }
    };
    let made = match source.purpose.parse() {
        Ok(Purpose::Gold | Purpose::Screening) => {
            store::gold::insert_answer(&mut db, id, &answer, admin.account_id).await?;
            id
        }
        _ => {
            let purpose = match form.get("purpose") {
                "gold" => Purpose::Gold,
                "screening" => Purpose::Screening,
                _ => {
                    let message = Message::new("error-unknown-choice");
                    return Err(AppError::invalid("purpose", message));
                }
            };
            store::gold::make(&mut db, id, purpose, &answer, admin.account_id).await?
        }
    };
    let event = NewEvent::by(admin.account_id, AuditAction::GoldAnswered);
    let event = event.to("task", made.0).within(project.id);
    store::audit_events::record(&mut db, event).await?;
    db.commit().await?;
    Ok(Redirect::to(&format!("/tasks/{made}")).into_response())
}

/// `POST /gold/{id}/retire`: nobody gets the gold task any more; what was said of it goes on counting.
pub async fn retire(
    State(state): State<AppState>,
    ProjectAdmin(admin): ProjectAdmin,
    Path(id): Path<TaskId>,
) -> AppResult<Redirect> {
    let mut db = state.db.begin().await?;
    let project = find_project(&mut db, &admin, id).await?;
    let task = store::task_labels::find_task(&mut db, id).await?;
    if task.purpose != Purpose::Gold.as_str() {
        return Err(AppError::NotFound("task"));
    }
    store::tasks::close(&mut db, id).await?;
    let event = NewEvent::by(admin.account_id, AuditAction::GoldRetired);
    let event = event.to("task", id.0).within(project.id);
    store::audit_events::record(&mut db, event).await?;
    db.commit().await?;
    Ok(Redirect::to(&format!(
        "/gold?project={}",
        task.project_slug
    )))
}
