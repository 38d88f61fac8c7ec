//! What the labeling page shows of a task that ranks or compares: the template's parts, made from what
//! the store knows and what was said so far.

use askama::Template;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::domain::form::{Flag, Form, NamedScale, Scale, text_in};
use crate::domain::ids::AssignmentId;
use crate::domain::keys::{Action, Bindings};
use crate::domain::ranking::{CandidateInput, RankingInput, STRENGTHS};
use crate::domain::submission::TimeSpent;
use crate::domain::task::TaskKind;
use crate::error::{AppError, AppResult, FieldError};
use crate::pages::correcting::Correcting;
use crate::pages::questions;
use crate::pages::work::{path_of, standing_of};
use crate::store;
use crate::store::assignments::Assignment;
use crate::store::history::Version;
use crate::web::page::{Page, render};
use crate::web::text_view::{Conversation, TextView};

/// One candidate as shown.
struct Card {
    position: usize,
    letter: char,
    text: TextView,
    input: CandidateInput,
    /// Letters of those ranked below it and rated higher.
    above: String,
    /// Letters of those ranked above it and rated lower.
    below: String,
}

/// A scale of the form as shown.
struct ScaleView {
    key: String,
    label: String,
    low: String,
    high: String,
    values: Vec<i16>,
}

/// One flag of the form as shown.
struct FlagView {
    key: String,
    label: String,
    help: String,
}

/// One step of the scale from "A far better" to "B far better".
struct Preference {
    value: String,
    /// How strong, in one word.
    word: String,
    /// The whole of it in words.
    label: String,
    /// 4 3 2 1 = 1 2 3 4.
    mark: String,
    is_chosen: bool,
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

/// A version of what was submitted.
struct VersionView {
    version: i32,
    created_at: DateTime<Utc>,
    /// Such as `B > A = D > C`.
    order: String,
}

#[derive(Template)]
#[template(path = "rank/show.html")]
struct RankPage {
    page: Page,
    id: AssignmentId,
    is_compare: bool,
    prompt: Conversation,
    cards: Vec<Card>,
    ranks: Vec<i16>,
    overall: ScaleView,
    scales: Vec<ScaleView>,
    flags: Vec<FlagView>,
    preferences: Vec<Preference>,
    skip_reasons: Vec<(String, String)>,
    all_bad: bool,
    note: String,
    revision: i64,
    idempotency_key: String,
    complaints: Vec<Complaint>,
    notice: Notice,
    correcting: Option<Correcting>,
    /// What was submitted, the newest first.
    versions: Vec<VersionView>,
    /// The order in a newer draft that another window saved; empty where there is none.
    newer: String,
    /// How much of the work is done: a labeler's today, a candidate's of their screening.
    standing: String,
    is_late: bool,
    /// Whether the page was shown before; without, its script says so.
    is_opened: bool,
    lease_until: DateTime<Utc>,
    time: TimeSpent,
    bindings: Bindings,
    owner: String,
    /// Whether they are a labeler, and have a history; a candidate has not.
    is_labeler: bool,
    /// The part of the page that asks about the task.
    questions: String,
}

impl RankPage {
    fn path(&self) -> String {
        path_of(TaskKind::Rank, self.id)
    }

    /// Whether a part of a card is complained of.
    fn is_wrong(&self, part: &str, position: &usize) -> bool {
        self.is_anchor_wrong(&format!("{part}-{position}"))
    }

    fn is_anchor_wrong(&self, anchor: &str) -> bool {
        self.complaints
            .iter()
            .any(|complaint| complaint.anchor.as_deref() == Some(anchor))
    }

    /// What is printed on the key of an action.
    fn cap(&self, action: &Action) -> String {
        self.bindings.key(*action).cap()
    }

    /// The version that saving corrects, where it does.
    fn replaces(&self) -> String {
        match (&self.notice, &self.correcting) {
            (Notice::SubmittedElsewhere, _) => "newest".to_owned(),
            (_, Some(correcting)) => correcting.newest.to_string(),
            _ => String::new(),
        }
    }

    fn letters(&self) -> String {
        join_letters(self.cards.iter().map(|card| card.letter))
    }
}

impl Card {
    fn has_rank(&self, rank: &i16) -> bool {
        self.input.rank == Some(*rank)
    }

    fn has_rating(&self, rating: &i16) -> bool {
        self.input.rating == Some(*rating)
    }

    fn has_scale(&self, key: &str, value: &i16) -> bool {
        self.input.scales.get(key) == Some(value)
    }

    fn answered(&self, key: &str, value: bool) -> bool {
        self.input.flags.get(key) == Some(&value)
    }

    fn n_answered(&self) -> usize {
        self.input.flags.len()
    }
}

/// What the page says first.
#[derive(Debug)]
pub(super) enum Notice {
    /// Nothing.
    Nothing,
    /// Nothing, and the page will be shown later.
    Ahead,
    /// The draft was saved, by the button that pages without scripts have.
    Saved,
    /// The ranks are the order shown: nothing was written yet, and the labeler is asked once.
    Untouched,
    /// Another window of the labeler submitted this task first; nothing was written.
    SubmittedElsewhere,
    /// Nothing was written, and why.
    Refused(AppError),
}

impl Notice {
    fn status(&self) -> StatusCode {
        match self {
            Self::Nothing | Self::Ahead | Self::Saved => StatusCode::OK,
            Self::Untouched => StatusCode::UNPROCESSABLE_ENTITY,
            Self::SubmittedElsewhere => StatusCode::CONFLICT,
            Self::Refused(error) => error.status(),
        }
    }

    fn is_saved(&self) -> bool {
        matches!(self, Self::Saved)
    }

    fn is_untouched(&self) -> bool {
        matches!(self, Self::Untouched)
    }

    fn is_submitted_elsewhere(&self) -> bool {
        matches!(self, Self::SubmittedElsewhere)
    }

    fn is_newer_draft(&self) -> bool {
        matches!(self, Self::Refused(error) if error.is_newer_draft())
    }
}

/// The page of an assignment with what was said so far.
pub(super) async fn show(
    db: &mut PgConnection,
    page: Page,
    assignment: &Assignment,
    input: &RankingInput,
    notice: Notice,
) -> AppResult<Response> {
    let visitor = page.visitor.as_ref().ok_or(AppError::SignInRequired)?;
    let who = visitor.account_id;
    let form = store::assignments::find_form(db, assignment).await?;
    let task = store::tasks::find_view(db, assignment.task_id).await?;
    // A page that is fetched ahead is shown after one more submission.
    let ahead = i64::from(matches!(notice, Notice::Ahead));
    let standing = standing_of(db, &page, visitor, ahead).await?;
    let bindings = store::key_bindings::find(db, who).await?;
    let correcting = Correcting::find(&mut *db, assignment).await?;
    let versions = match correcting {
        Some(_) => store::history::list_versions(&mut *db, assignment.id).await?,
        None => Vec::new(),
    };
    let versions = versions.iter();
    let versions = versions.map(|version| version_view(&page, assignment, version));
    let versions = versions.collect();
    let newer = match &assignment.draft {
        Some(draft) if notice.is_newer_draft() => serde_json::from_value(draft.clone())
            .map_or_else(|_| String::new(), |draft| draft_order(&page, &draft)),
        _ => String::new(),
    };
    let lang = page.lang.tag();
    let is_compare = assignment.kind == TaskKind::Compare;
    let complaints = match &notice {
        Notice::Refused(error) => complaints(&page, error, is_compare),
        _ => Vec::new(),
    };
    let title = match (&correcting, is_compare) {
        (Some(_), _) => "rank-edit-title",
        (None, true) => "rank-compare-title",
        (None, false) => "rank-title",
    };
    let template = RankPage {
        id: assignment.id,
        is_compare,
        prompt: Conversation::new(&task.prompt, task.language.as_deref()),
        cards: cards(assignment, &task.texts, input),
        ranks: (1..=assignment.display_order.len() as i16).collect(),
        overall: scale_view("rating", &form.overall, lang),
        scales: form
            .scales
            .iter()
            .map(|NamedScale { key, scale }| scale_view(key, scale, lang))
            .collect(),
        flags: flag_views(&form, lang),
        preferences: match is_compare {
            true => preferences(&page, input),
            false => Vec::new(),
        },
        skip_reasons: form
            .skip_reasons
            .iter()
            .map(|r| (r.key.clone(), text_in(&r.label, lang)))
            .collect(),
        all_bad: input.all_bad,
        note: input.note.clone(),
        revision: assignment.draft_revision,
        idempotency_key: uuid::Uuid::new_v4().to_string(),
        complaints,
        correcting,
        versions,
        newer,
        standing,
        is_late: assignment.is_late(),
        is_opened: assignment.is_opened() || matches!(notice, Notice::Ahead),
        lease_until: assignment.lease_until,
        time: assignment.time,
        bindings,
        owner: who.to_string(),
        is_labeler: page.visitor.as_ref().is_some_and(|own| own.is_labeler),
        questions: match &page.visitor {
            Some(visitor) => questions::part(db, &page, visitor, assignment.id).await?,
            None => String::new(),
        },
        page: page.titled(title),
        notice,
    };
    Ok((template.notice.status(), render(&template)?).into_response())
}

/// The letter of the candidate shown at `index`.
pub(super) fn letter(index: usize) -> char {
    char::from(b'A' + index as u8)
}

fn cards(assignment: &Assignment, texts: &[String], input: &RankingInput) -> Vec<Card> {
    let contradictions = input.contradictions();
    let card = |(index, slot): (usize, &i16)| {
        let position = index + 1;
        let text = texts.get(*slot as usize).map_or("", String::as_str);
        let given = input
            .candidates
            .iter()
            .find(|item| item.position == position);
        let others = |pick: &dyn Fn(&(usize, usize)) -> Option<usize>| {
            let letters = contradictions.iter().filter_map(pick);
            join_letters(letters.map(|other| letter(other - 1)))
        };
        Card {
            position,
            letter: letter(index),
            text: TextView::new(text, None),
            input: given.cloned().unwrap_or_default(),
            above: others(&|(better, worse)| (*better == position).then_some(*worse)),
            below: others(&|(better, worse)| (*worse == position).then_some(*better)),
        }
    };
    assignment
        .display_order
        .iter()
        .enumerate()
        .map(card)
        .collect()
}

/// `A, B`.
fn join_letters(letters: impl Iterator<Item = char>) -> String {
    letters.map(String::from).collect::<Vec<_>>().join(", ")
}

fn scale_view(key: &str, scale: &Scale, lang: &str) -> ScaleView {
    ScaleView {
        key: key.to_owned(),
        label: text_in(&scale.label, lang),
        low: text_in(&scale.low, lang),
        high: text_in(&scale.high, lang),
        values: (scale.min..=scale.max).collect(),
    }
}

fn flag_views(form: &Form, lang: &str) -> Vec<FlagView> {
    let view = |flag: &Flag| FlagView {
        key: flag.key.clone(),
        label: text_in(&flag.label, lang),
        help: text_in(&flag.help, lang),
    };
    form.flags.iter().map(view).collect()
}

/// From "A far better" over a tie to "B far better".
fn preferences(page: &Page, input: &RankingInput) -> Vec<Preference> {
    let rank = |position: usize| {
        let item = input
            .candidates
            .iter()
            .find(|item| item.position == position);
        item.and_then(|item| item.rank)
    };
    let preferred = match (rank(1), rank(2)) {
        (Some(first), Some(second)) => Some(first.cmp(&second)),
        _ => None,
    };
    let step = |position: usize, strength: i16| {
        let wins = match position {
            1 => std::cmp::Ordering::Less,
            _ => std::cmp::Ordering::Greater,
        };
        let letter = letter(position - 1).to_string();
        Preference {
            value: format!("{position}-{strength}"),
            word: page.t(&format!("rank-strength-{strength}")),
            label: page.t_with(&format!("rank-prefer-{strength}"), "letter", letter),
            mark: String::new(),
            is_chosen: preferred == Some(wins) && input.strength == Some(strength),
        }
    };
    let tie = Preference {
        value: "tie".to_owned(),
        word: page.t("rank-strength-0"),
        label: page.t("rank-prefer-0"),
        mark: String::new(),
        is_chosen: preferred == Some(std::cmp::Ordering::Equal),
    };
    let first = STRENGTHS.rev().map(|strength| step(1, strength));
    let second = STRENGTHS.map(|strength| step(2, strength));
    let steps = first.chain(std::iter::once(tie)).chain(second);
    // What stands on a step is the digit that chooses it.
    let numbered = steps
        .zip(1..)
        .map(|(step, digit): (Preference, u8)| Preference {
            mark: digit.to_string(),
            ..step
        });
    numbered.collect()
}

/// A version in one line, by the letters that the labeler sees.
fn version_view(page: &Page, assignment: &Assignment, version: &Version) -> VersionView {
    let ranks = assignment.display_order.iter().enumerate();
    let ranks = ranks.map(|(index, slot)| {
        let rank = version.ranks.get(*slot as usize).copied().flatten();
        (letter(index), rank)
    });
    let order = order_of(page, ranks, version.strength, version.is_all_bad);
    VersionView {
        version: version.version,
        created_at: version.created_at,
        order,
    }
}

/// A draft in one line.
fn draft_order(page: &Page, draft: &RankingInput) -> String {
    let ranks = draft.candidates.iter();
    let ranks = ranks.filter(|item| item.position > 0);
    let ranks = ranks.map(|item| (letter(item.position - 1), item.rank));
    order_of(page, ranks, draft.strength, draft.all_bad)
}

/// A ranking in one line, such as `B > A = D > C`; who has no rank is named after it.
fn order_of(
    page: &Page,
    ranks: impl Iterator<Item = (char, Option<i16>)>,
    strength: Option<i16>,
    is_all_bad: bool,
) -> String {
    let mut places: Vec<(i16, char)> = Vec::new();
    let mut unjudged = Vec::new();
    for (letter, rank) in ranks {
        match rank {
            Some(rank) => places.push((rank, letter)),
            None => unjudged.push(letter),
        }
    }
    places.sort_unstable();
    let mut order = String::new();
    for (index, (rank, letter)) in places.iter().enumerate() {
        if index > 0 {
            let is_tie = places[index - 1].0 == *rank;
            order.push_str(if is_tie { " = " } else { " > " });
        }
        order.push(*letter);
    }
    let strength = strength.map(|strength| page.t(&format!("rank-strength-{strength}")));
    let unjudged = (!unjudged.is_empty() && !places.is_empty()).then(|| {
        page.t_with(
            "rank-unjudged",
            "letters",
            join_letters(unjudged.into_iter()),
        )
    });
    let all_bad = is_all_bad.then(|| page.t("rank-all-bad"));
    let parts = [Some(order), strength, unjudged, all_bad];
    let parts = parts.into_iter().flatten().filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join(" · ")
}

/// What was refused, by the letters that the labeler sees instead of the JSON's names.
fn complaints(page: &Page, error: &AppError, is_compare: bool) -> Vec<Complaint> {
    let AppError::Invalid(fields) = error else {
        return Vec::new();
    };
    let complaint = |error: &FieldError| {
        let Some((index, name)) = candidate_field(&error.field) else {
            let anchor = match error.field.as_str() {
                "note" => Some("note".to_owned()),
                "strength" | "preference" => Some("preference".to_owned()),
                _ => None,
            };
            let text = match error.field.as_str() {
                "candidates" => page.say(&error.message),
                _ => page.complaint(error),
            };
            return Complaint { anchor, text };
        };
        if is_compare && name == "rank" {
            return Complaint {
                anchor: Some("preference".to_owned()),
                text: page.t("rank-wrong-preference"),
            };
        }
        let message = page.say(&error.message);
        Complaint {
            anchor: Some(format!("{name}-{}", index + 1)),
            text: page.t_args(
                &format!("rank-wrong-{name}"),
                &[("letter", letter(index).to_string()), ("message", message)],
            ),
        }
    };
    let mut complaints: Vec<Complaint> = fields.iter().map(complaint).collect();
    // Neither of two has a rank: that is one thing to say.
    complaints.dedup_by(|a, b| a.anchor.as_deref() == Some("preference") && a.text == b.text);
    complaints
}

/// The candidate and the part of its card that a field such as `candidates[2].rank` is about. The
/// page's form names every candidate, in the order shown.
fn candidate_field(field: &str) -> Option<(usize, &'static str)> {
    let (index, name) = field.strip_prefix("candidates[")?.split_once("].")?;
    let part = match name.split('.').next()? {
        "rank" => "rank",
        "rating" => "rating",
        "scales" => "scales",
        "flags" => "flags",
        "note" => "note",
        _ => return None,
    };
    Some((index.parse().ok()?, part))
}
