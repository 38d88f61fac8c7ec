//! `/rank`: a labeler's work. Everything works as plain forms; `static/js/rank.js` adds keys and
//! drafts that save themselves.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum_extra::extract::Form as HtmlForm;

use crate::auth::visitor::{Labeler, Visitor};
use crate::domain::assignment::AssignmentStatus;
use crate::domain::form::{Form, text_in};
use crate::domain::ids::AssignmentId;
use crate::domain::ranking::{CandidateInput, RankingInput};
use crate::domain::submission::{Input, TimeSpent};
use crate::error::{AppError, AppResult, FieldError};
use crate::pages::rank_form::RankForm;
use crate::pages::work::go_on;
use crate::state::AppState;
use crate::store;
use crate::store::assignments::Assignment;
use crate::store::submissions::NewSubmission;
use crate::web::page::{Page, render};
use crate::web::text_view::{Conversation, TextView};

/// One candidate as shown.
struct Card {
    position: usize,
    letter: char,
    text: TextView,
    input: CandidateInput,
}

/// One flag of the form as shown.
struct FlagView {
    key: String,
    label: String,
    help: String,
}

/// Something to mend, and where on the page.
struct Complaint {
    /// The id of the part it is about.
    anchor: Option<String>,
    text: String,
}

impl Complaint {
    /// Names the line for the part it is about.
    fn id(&self) -> &str {
        self.anchor.as_deref().unwrap_or("other")
    }
}

#[derive(Template)]
#[template(path = "rank/show.html")]
struct RankPage {
    page: Page,
    id: AssignmentId,
    prompt: Conversation,
    cards: Vec<Card>,
    ranks: Vec<i16>,
    ratings: Vec<i16>,
    rating_label: String,
    rating_low: String,
    rating_high: String,
    flags: Vec<FlagView>,
    skip_reasons: Vec<(String, String)>,
    note: String,
    revision: i64,
    idempotency_key: String,
    complaints: Vec<Complaint>,
    has_newer_draft: bool,
    saved: bool,
    done: i64,
    waiting: i64,
    is_late: bool,
}

impl RankPage {
    /// Whether a part of a card is complained of.
    fn is_wrong(&self, part: &str, position: &usize) -> bool {
        let anchor = format!("{part}-{position}");
        self.complaints
            .iter()
            .any(|complaint| complaint.anchor.as_ref() == Some(&anchor))
    }
}

impl Card {
    fn has_rank(&self, rank: &i16) -> bool {
        self.input.rank == Some(*rank)
    }

    fn has_rating(&self, rating: &i16) -> bool {
        self.input.rating == Some(*rating)
    }

    fn answered(&self, key: &str, value: bool) -> bool {
        self.input.flags.get(key) == Some(&value)
    }

    fn n_answered(&self) -> usize {
        self.input.flags.len()
    }
}

/// What the page says first.
enum Notice {
    Nothing,
    /// The draft was saved, by the button that pages without scripts have.
    Saved,
    /// Nothing was written, and why.
    Refused(AppError),
}

/// The query of a task's page.
#[derive(serde::Deserialize)]
pub struct ShowQuery {
    /// Whether the draft was saved just now.
    #[serde(default)]
    saved: bool,
}

/// `GET /rank/{id}`.
pub async fn show(
    State(state): State<AppState>,
    page: Page,
    Labeler(labeler): Labeler,
    Path(id): Path<AssignmentId>,
    Query(query): Query<ShowQuery>,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let assignment = store::assignments::find(&mut db, id, labeler.account_id).await?;
    if !assignment.status.is_open() {
        return Ok(Redirect::to("/work").into_response());
    }
    let input: RankingInput = assignment
        .draft
        .clone()
        .and_then(|draft| serde_json::from_value(draft).ok())
        .unwrap_or_default();
    store::assignments::open(&mut db, id).await?;
    drop(db);
    let notice = match query.saved {
        true => Notice::Saved,
        false => Notice::Nothing,
    };
    show_input(&state, page, &labeler, &assignment, &input, notice).await
}

async fn show_input(
    state: &AppState,
    page: Page,
    labeler: &Visitor,
    assignment: &Assignment,
    input: &RankingInput,
    notice: Notice,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let form = store::assignments::find_form(&mut db, assignment).await?;
    let task = store::tasks::find_view(&mut db, assignment.task_id).await?;
    let progress = store::tasks::progress(&mut db, labeler.account_id).await?;
    let lang = page.lang.tag();
    let cards = assignment
        .display_order
        .iter()
        .enumerate()
        .map(|(index, slot)| {
            let text = task.texts.get(*slot as usize).map_or("", String::as_str);
            let given = input
                .candidates
                .iter()
                .find(|item| item.position == index + 1);
            Card {
                position: index + 1,
                letter: letter(index),
                text: TextView::new(text, None),
                input: given.cloned().unwrap_or_default(),
            }
        });
    let (status, complaints) = match &notice {
        Notice::Refused(error) => (error.status(), complaints(&page, error)),
        _ => (StatusCode::OK, Vec::new()),
    };
    let has_newer_draft = matches!(&notice, Notice::Refused(error) if is_newer_draft(error));
    let template = RankPage {
        id: assignment.id,
        prompt: Conversation::new(&task.prompt, task.language.as_deref()),
        cards: cards.collect(),
        ranks: (1..=assignment.display_order.len() as i16).collect(),
        ratings: (form.overall.min..=form.overall.max).collect(),
        rating_label: text_in(&form.overall.label, lang),
        rating_low: text_in(&form.overall.low, lang),
        rating_high: text_in(&form.overall.high, lang),
        flags: flag_views(&form, lang),
        skip_reasons: form
            .skip_reasons
            .iter()
            .map(|r| (r.key.clone(), text_in(&r.label, lang)))
            .collect(),
        note: input.note.clone(),
        revision: assignment.draft_revision,
        idempotency_key: uuid::Uuid::new_v4().to_string(),
        complaints,
        has_newer_draft,
        saved: matches!(notice, Notice::Saved),
        done: progress.done,
        waiting: progress.waiting,
        is_late: assignment.status == AssignmentStatus::Expired,
        page: page.titled("rank-title"),
    };
    Ok((status, render(&template)?).into_response())
}

/// The letter of the candidate shown at `index`.
fn letter(index: usize) -> char {
    char::from(b'A' + index as u8)
}

/// What was refused, by the letters that the labeler sees instead of the JSON's names.
fn complaints(page: &Page, error: &AppError) -> Vec<Complaint> {
    let AppError::Invalid(fields) = error else {
        return Vec::new();
    };
    let complaint = |error: &FieldError| {
        let Some((index, name)) = candidate_field(&error.field) else {
            return Complaint {
                anchor: (error.field == "note").then(|| "note".to_owned()),
                text: page.complaint(error),
            };
        };
        let message = page.say(&error.message);
        Complaint {
            anchor: Some(format!("{name}-{}", index + 1)),
            text: page.t_args(
                &format!("rank-wrong-{name}"),
                &[("letter", letter(index).to_string()), ("message", message)],
            ),
        }
    };
    fields.iter().map(complaint).collect()
}

/// The candidate and the part of its card that a field such as `candidates[2].rank` is about. The
/// page's form names every candidate, in the order shown.
fn candidate_field(field: &str) -> Option<(usize, &'static str)> {
    let (index, name) = field.strip_prefix("candidates[")?.split_once("].")?;
    let part = match name.split('.').next()? {
        "rank" => "rank",
        "rating" => "rating",
        "flags" => "flags",
        _ => return None,
    };
    Some((index.parse().ok()?, part))
}

fn flag_views(form: &Form, lang: &str) -> Vec<FlagView> {
    let view = |flag: &crate::domain::form::Flag| FlagView {
        key: flag.key.clone(),
        label: text_in(&flag.label, lang),
        help: text_in(&flag.help, lang),
    };
    form.flags.iter().map(view).collect()
}

/// `POST /rank/{id}`: saves, submits or skips, by the button pressed. After the last two the next
/// task follows at once. A ranking that cannot be taken comes back as it
/// was typed.
pub async fn update(
    State(state): State<AppState>,
    page: Page,
    Labeler(labeler): Labeler,
    Path(id): Path<AssignmentId>,
    HtmlForm(form): HtmlForm<RankForm>,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let who = labeler.account_id;
    if form.get("action") == "skip" {
        store::assignments::skip(&mut db, id, who, form.get("reason"), form.get("skip_note"))
            .await?;
        return Ok(go_on(&mut db, who).await);
    }
    let assignment = store::assignments::find(&mut db, id, who).await?;
    let given = form
        .input(assignment.display_order.len())
        .map_err(AppError::Invalid)?;
    let input = Input::Ranking(given.clone());
    let time = TimeSpent::default();
    let result = if form.get("action") == "save" {
        let revision = form.revision();
        let saved = store::assignments::save_draft(&mut db, id, who, &input, time, revision).await;
        saved.map(|_| Redirect::to(&format!("/rank/{id}?saved=true")).into_response())
    } else {
        let key = form.get("idempotency_key");
        let new = NewSubmission {
            idempotency_key: key,
            input: &input,
            time,
            replaces: None,
        };
        match store::submissions::submit(&mut db, id, who, &new).await {
            Ok(_) => return Ok(go_on(&mut db, who).await),
            Err(error) => Err(error),
        }
    };
    // As it is now: another window may have saved meanwhile.
    let assignment = store::assignments::find(&mut db, id, who).await?;
    drop(db);
    match result {
        Err(error) if matches!(error, AppError::Invalid(_)) || is_newer_draft(&error) => {
            show_input(
                &state,
                page,
                &labeler,
                &assignment,
                &given,
                Notice::Refused(error),
            )
            .await
        }
        result => result,
    }
}

/// Whether another window of the labeler saved first.
fn is_newer_draft(error: &AppError) -> bool {
    matches!(error, AppError::Conflict(message) if message.is("error-draft-newer"))
}
