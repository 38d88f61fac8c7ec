//! `/screening`: the test that makes somebody a labeler. A candidate reads what is asked, begins, and sees how
//! it went; an admin sees all candidates of a project (`screening_candidates.rs`) and grades what they wrote
//! (`screening_grading.rs`).

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum_extra::extract::Form as HtmlForm;
use rand::SeedableRng;
use sqlx::PgConnection;

use crate::auth::visitor::Visitor;
use crate::domain::form::{Texts, text_in};
use crate::domain::gold::Tally;
use crate::domain::ids::ScreeningId;
use crate::domain::screening::{LONGEST_WORDS, Outcome, Rules, TOPICS};
use crate::error::{AppError, AppResult, FieldError};
use crate::pages::gold::share_of;
use crate::pages::screening_candidates::{self, Shown};
use crate::pages::screening_rules;
use crate::pages::work::go_on;
use crate::state::AppState;
use crate::store;
use crate::store::screenings::{Screening, SelfAssessment, Source, Whose};
use crate::web::markdown;
use crate::web::page::{Page, render};

/// The numbers of a screening as both its candidate and admins read them.
pub(super) struct OutcomeView {
    /// What was asked, what came of it, what was needed, and whether that was enough.
    pub(super) tests: Vec<TestView>,
}

/// One of the tests.
pub(super) struct TestView {
    pub(super) name: String,
    pub(super) reached: String,
    pub(super) needed: String,
    pub(super) passed: bool,
    /// What was left open, which counts as not agreed.
    pub(super) n_open: u32,
}

impl OutcomeView {
    pub(super) fn new(page: &Page, outcome: &Outcome) -> Self {
        let share = |name: &str, tally: &Tally, least: f64, passed: Option<bool>| {
            let all = i64::from(tally.n + tally.n_open);
            passed.map(|passed| TestView {
                name: page.t(name),
                reached: share_of(page, tally.share_of_all(), all),
                needed: format!("{:.0} %", least * 100.0),
                passed,
                n_open: tally.n_open,
            })
        };
        let rules = &outcome.rules;
        let grades = &outcome.demonstrations;
        let texts = outcome.demonstrations_passed().map(|passed| TestView {
            name: page.t("screening-demonstrations"),
            reached: page.t_args(
                "screening-grade-of",
                &[
                    ("mean", format!("{:.1}", grades.mean().unwrap_or_default())),
                    ("n", grades.n.to_string()),
                ],
            ),
            needed: format!("{:.1}", rules.least_demonstrations),
            passed,
            n_open: 0,
        });
        let flags = share(
            "screening-flags",
            &outcome.flags,
            rules.least_flags,
            outcome.flags_passed(),
        );
        let ranks = share(
            "screening-ranks",
            &outcome.ranks,
            rules.least_ranks,
            outcome.ranks_passed(),
        );
        Self {
            tests: [flags, ranks, texts].into_iter().flatten().collect(),
        }
    }
}

#[derive(Template)]
#[template(path = "screening/show.html")]
struct ScreeningPage {
    page: Page,
    screening: Screening,
    rules: Rules,
    /// Tasks of each kind that are asked.
    n_ranks: usize,
    n_texts: usize,
    asks_flags: bool,
    asks_ranks: bool,
    guidelines: Option<String>,
    outcome: Option<OutcomeView>,
    said: SelfAssessment,
    errors: Vec<FieldError>,
}

impl ScreeningPage {
    fn is(&self, status: &str) -> bool {
        self.screening.status == status
    }

    fn topics(&self) -> Vec<(&'static str, String, bool)> {
        let topic = |word: &&'static str| {
            let is_chosen = self.said.topics.iter().any(|chosen| chosen == *word);
            (*word, topic_label(&self.page, word), is_chosen)
        };
        TOPICS.iter().map(topic).collect()
    }

    fn percent(&self, share: &f64) -> String {
        screening_rules::percent(*share)
    }

    fn grade(&self) -> String {
        self.rules.least_demonstrations.to_string()
    }

    fn longest_words(&self) -> usize {
        LONGEST_WORDS
    }
}

/// What a topic of the self-assessment is called.
pub(super) fn topic_label(page: &Page, word: &str) -> String {
    page.t(&format!("screening-topic-{}", word.replace('_', "-")))
}

/// Which project, and what was done there just now.
#[derive(Debug, Default, serde::Deserialize)]
pub struct ScreeningQuery {
    /// Short name of the project; the first one when empty.
    #[serde(default)]
    project: String,
    /// See `screening_candidates`.
    #[serde(default)]
    done: String,
}

/// `GET /screening`: an admin's list; a candidate goes to their newest screening.
pub async fn index(
    State(state): State<AppState>,
    page: Page,
    visitor: Visitor,
    Query(query): Query<ScreeningQuery>,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    if visitor.is_project_admin {
        let shown = Shown::after(query.done);
        return screening_candidates::show(&mut db, page, &visitor, &query.project, shown).await;
    }
    let whose = Whose {
        account_id: Some(visitor.account_id),
        ..Default::default()
    };
    let own = store::screenings::list(&mut db, whose).await?;
    let newest = own
        .iter()
        .find(|screening| screening.status != "withdrawn")
        .ok_or(AppError::Forbidden("admin"))?;
    Ok(Redirect::to(&format!("/screening/{}", newest.id)).into_response())
}

/// `GET /screening/{id}`: one's own screening; of somebody else's, what an admin sees.
pub async fn show(
    State(state): State<AppState>,
    page: Page,
    visitor: Visitor,
    Path(id): Path<ScreeningId>,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let screening = store::screenings::find(&mut db, id).await?;
    if screening.account_id == visitor.account_id && screening.status != "withdrawn" {
        return respond(
            &mut db,
            page,
            screening,
            SelfAssessment::default(),
            Vec::new(),
        )
        .await;
    }
    let (who, project_id) = (visitor.account_id, screening.project_id);
    match store::members::may_administer(&mut db, who, project_id).await? {
        true => screening_candidates::show_one(&mut db, page, screening).await,
        false => Err(AppError::NotFound("screening")),
    }
}

async fn respond(
    db: &mut PgConnection,
    page: Page,
    screening: Screening,
    said: SelfAssessment,
    errors: Vec<FieldError>,
) -> AppResult<Response> {
    let sources = store::screenings::list_sources(db, screening.project_id).await?;
    let rules = store::screenings::find_rules(db, screening.project_id).await?;
    let guidelines = store::projects::find_guidelines(db, screening.project_id).await?;
    let guidelines = guidelines.map(|(_, texts)| {
        let texts: Texts = serde_json::from_value(texts).unwrap_or_default();
        markdown::to_html(&text_in(&texts, page.lang.tag()))
    });
    let is_text = |source: &&Source| source.kind == "demonstrate";
    let status = match errors.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::UNPROCESSABLE_ENTITY,
    };
    let template = ScreeningPage {
        n_texts: sources.iter().filter(is_text).count(),
        n_ranks: sources.iter().filter(|source| !is_text(source)).count(),
        asks_flags: sources.iter().any(|source| source.n_flags > 0),
        asks_ranks: sources.iter().any(|source| source.n_pairs > 0),
        outcome: screening
            .outcome
            .as_ref()
            .map(|outcome| OutcomeView::new(&page, &outcome.0)),
        page: page.titled("screening-title"),
        screening,
        rules,
        guidelines,
        said,
        errors,
    };
    Ok((status, render(&template)?).into_response())
}

/// The form that begins a screening.
#[derive(Debug, Default, serde::Deserialize)]
pub struct StartForm {
    #[serde(default)]
    topics: Vec<String>,
    #[serde(default)]
    words: String,
    /// Whether the guidelines were read.
    #[serde(default)]
    read: bool,
}

/// `POST /screening/{id}/start`: begins one's own screening, and goes to its first task.
pub async fn start(
    State(state): State<AppState>,
    page: Page,
    visitor: Visitor,
    Path(id): Path<ScreeningId>,
    HtmlForm(form): HtmlForm<StartForm>,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let screening = store::screenings::find(&mut db, id).await?;
    if screening.account_id != visitor.account_id {
        return Err(AppError::NotFound("screening"));
    }
    let said = SelfAssessment {
        topics: form.topics,
        words: form.words,
    };
    let has_guidelines = store::projects::find_guidelines(&mut db, screening.project_id).await?;
    let started = match has_guidelines.is_some() && !form.read {
        true => Err(AppError::invalid(
            "read",
            crate::message::Message::new("error-screening-read"),
        )),
        false => {
            let mut rng = rand_chacha::ChaCha12Rng::from_os_rng();
            store::screenings::start(&mut db, id, visitor.account_id, &said, &mut rng).await
        }
    };
    match started {
        Ok(()) => Ok(go_on(&mut db, &visitor).await),
        Err(AppError::Invalid(errors)) => respond(&mut db, page, screening, said, errors).await,
        Err(error) => Err(error),
    }
}

/// `POST /screening/{id}/next`: goes on with one's own screening.
pub async fn next(
    State(state): State<AppState>,
    visitor: Visitor,
    Path(id): Path<ScreeningId>,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let screening = store::screenings::find(&mut db, id).await?;
    match screening.account_id == visitor.account_id && !visitor.is_labeler {
        true => Ok(go_on(&mut db, &visitor).await),
        false => Err(AppError::NotFound("screening")),
    }
}
