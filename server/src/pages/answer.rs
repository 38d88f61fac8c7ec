//! What the pages have in common on which a labeler writes or reviews: drafts, submissions, corrections
//! and skips, around the fields of the page's own. Everything works as plain forms; `static/js/answer.js`
//! adds drafts that save themselves and submissions that survive a lost connection.

use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Redirect, Response};
use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::auth::visitor::Visitor;
use crate::domain::assignment::AssignmentStatus;
use crate::domain::form::{Choice, Flag, Form, text_in};
use crate::domain::ids::AssignmentId;
use crate::domain::prompt::CATEGORIES;
use crate::domain::submission::{Input, TimeSpent};
use crate::domain::task::TaskKind;
use crate::error::{AppError, AppResult, FieldError};
use crate::pages::answer_form::AnswerForm;
use crate::pages::correcting::Correcting;
use crate::pages::work::{go_on, go_on_from, path_of, standing_of};
use crate::pages::{newer_draft, questions};
use crate::state::AppState;
use crate::store;
use crate::store::assignments::Assignment;
use crate::store::submissions::NewSubmission;
use crate::store::tasks::TaskView;
use crate::web::page::Page;
use crate::web::submitted::Submitted;

/// A page on which one kind of task is done.
pub trait AnswerPage {
    /// The kind.
    const KIND: TaskKind;

    /// Carries out a button that changes the form itself, such as one more entry of a list. Returns the
    /// part of the page to go to; none where the button is no such one.
    fn edit(said: &mut Value, action: &str) -> Option<String>;

    /// The page.
    ///
    /// # Errors
    /// When a stored row cannot be read or the template fails.
    fn render(page: Page, around: Around, shown: Shown<'_>) -> AppResult<Html<String>>;
}

/// What a page shows of a task, and what was said so far.
pub struct Shown<'a> {
    /// The task.
    pub task: &'a TaskView,
    /// The form of the assignment.
    pub form: &'a Form,
    /// What was said so far, as JSON.
    pub said: &'a Value,
}

/// Something to mend, and where on the page.
pub struct Complaint {
    /// The field it is about, whose part of the page has the same id.
    pub field: Option<String>,
    /// With the field's name.
    pub text: String,
    /// Without it, for beside the field.
    pub message: String,
}

/// What stands around the fields of every such page.
pub struct Around {
    /// The assignment.
    pub id: AssignmentId,
    /// The page's own address.
    pub path: String,
    /// The draft's revision.
    pub revision: i64,
    /// A fresh key for the submission.
    pub idempotency_key: String,
    /// What this corrects.
    pub correcting: Option<Correcting>,
    /// What was refused.
    pub complaints: Vec<Complaint>,
    /// Another window saved first: what its draft says that is not said here, by the names of the fields.
    pub newer: Option<Vec<(String, String)>>,
    /// The draft was saved, by the button that pages without scripts have.
    pub saved: bool,
    /// Whether the page was shown before; without, its script says so.
    pub is_opened: bool,
    /// The lease ran out.
    pub is_late: bool,
    /// When it does.
    pub lease_until: DateTime<Utc>,
    /// How far the visitor is, in words.
    pub standing: String,
    /// How the time in the task was spent so far.
    pub time: TimeSpent,
    /// Keys and words of the reasons to skip.
    pub skip_reasons: Vec<(String, String)>,
    /// The note so far.
    pub note: String,
    /// The page of the last submission, to correct it.
    pub last: Option<String>,
    /// The part of the page that asks about the task.
    pub questions: String,
}

impl Around {
    /// The version that saving corrects; empty where there is none.
    pub fn replaces(&self) -> String {
        let correcting = self.correcting.as_ref();
        correcting.map_or_else(String::new, |correcting| correcting.newest.to_string())
    }

    /// What is wrong with a field, if something is.
    pub fn wrong(&self, field: &str) -> Option<&str> {
        let about = |complaint: &&Complaint| complaint.field.as_deref() == Some(field);
        let found = self.complaints.iter().find(about);
        found.map(|complaint| complaint.message.as_str())
    }
}

/// One answer of several, in the visitor's language.
pub struct SelectOption {
    /// The value sent.
    pub value: String,
    /// What it says.
    pub label: String,
    /// Whether it is chosen.
    pub is_chosen: bool,
}

impl SelectOption {
    /// The ten categories, most frequent first.
    pub fn categories(page: &Page, chosen: Option<&str>) -> Vec<Self> {
        let option = |word: &str| Self {
            value: word.to_owned(),
            label: page.category(word),
            is_chosen: chosen == Some(word),
        };
        CATEGORIES.into_iter().map(option).collect()
    }

    /// Choices of a form.
    pub fn of_choices(choices: &[Choice], lang: &str, chosen: Option<&str>) -> Vec<Self> {
        let option = |choice: &Choice| Self {
            value: choice.key.clone(),
            label: text_in(&choice.label, lang),
            is_chosen: chosen == Some(choice.key.as_str()),
        };
        choices.iter().map(option).collect()
    }
}

/// Adds an entry to a list of a form, or takes one away, by a button such as `add_pair` or
/// `remove_pair-2`. Returns the part of the page to go to.
pub fn edit_list(
    said: &mut Value,
    list: &str,
    noun: &str,
    first_field: &str,
    most: usize,
    action: &str,
) -> Option<String> {
    let members = said.as_object_mut()?;
    let entries = members
        .entry(list)
        .or_insert_with(|| Value::Array(Vec::new()));
    let entries = entries.as_array_mut()?;
    if action == format!("add_{noun}") {
        if entries.len() < most {
            entries.push(Value::Object(serde_json::Map::new()));
        }
        return Some(format!("{list}[{}].{first_field}", entries.len() - 1));
    }
    let number: usize = action
        .strip_prefix(&format!("remove_{noun}-"))?
        .parse()
        .ok()?;
    if (1..=entries.len()).contains(&number) {
        entries.remove(number - 1);
    }
    Some(list.to_owned())
}

/// A yes/no question as shown.
pub struct Question {
    /// Its field.
    pub name: String,
    /// What is asked.
    pub label: String,
    /// When to say yes.
    pub help: String,
    /// The answer so far.
    pub answer: Option<bool>,
}

impl Question {
    /// A flag of a form.
    pub fn of_flag(flag: &Flag, lang: &str, answer: Option<bool>) -> Self {
        Self {
            name: format!("flags.{}", flag.key),
            label: text_in(&flag.label, lang),
            help: text_in(&flag.help, lang),
            answer,
        }
    }

    /// Whether this is the answer so far: `yes`, `no` or none.
    pub fn is(&self, word: &str) -> bool {
        self.answer
            == match word {
                "yes" => Some(true),
                "no" => Some(false),
                _ => None,
            }
    }
}

/// The query of a task's page.
#[derive(serde::Deserialize)]
pub struct ShowQuery {
    /// Whether the draft was saved just now.
    #[serde(default)]
    saved: bool,
}

/// What the page says first.
enum Notice {
    Nothing,
    Saved,
    /// Nothing was written, and why.
    Refused(AppError),
}

/// Shows a task that is open, or one of the last submissions to correct it; otherwise leads to the page
/// where it belongs.
///
/// # Errors
/// `NotFound` for an assignment of somebody else.
pub async fn show<P: AnswerPage>(
    state: &AppState,
    page: Page,
    labeler: &Visitor,
    id: AssignmentId,
    query: &ShowQuery,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let who = labeler.account_id;
    let assignment = store::assignments::find(&mut db, id, who).await?;
    if assignment.kind != P::KIND {
        return Ok(Redirect::to(&path_of(assignment.kind, id)).into_response());
    }
    let is_correctable = assignment.status == AssignmentStatus::Submitted && {
        let last = store::submissions::list_correctable(&mut db, who, i64::MAX).await?;
        last.contains(&id)
    };
    if !assignment.status.is_open() && !is_correctable {
        return Ok(Redirect::to("/work").into_response());
    }
    drop(db);
    let said = assignment.draft.clone().unwrap_or_default();
    let notice = match query.saved {
        true => Notice::Saved,
        false => Notice::Nothing,
    };
    show_said::<P>(state, page, labeler, &assignment, &said, notice).await
}

async fn show_said<P: AnswerPage>(
    state: &AppState,
    page: Page,
    labeler: &Visitor,
    assignment: &Assignment,
    said: &Value,
    notice: Notice,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let who = labeler.account_id;
    let form = store::assignments::find_form(&mut db, assignment).await?;
    let task = store::tasks::find_view(&mut db, assignment.task_id).await?;
    let standing = standing_of(&mut db, &page, labeler, 0).await?;
    let correcting = Correcting::find(&mut db, assignment).await?;
    let last = store::submissions::find_last(&mut db, who).await?;
    let questions = questions::part(&mut db, &page, labeler, assignment.id).await?;
    drop(db);
    let lang = page.lang.tag();
    let (status, complaints) = match &notice {
        Notice::Refused(error) => (error.status(), complaints::<P>(&page, &form, error)),
        _ => (StatusCode::OK, Vec::new()),
    };
    let newer = match &notice {
        Notice::Refused(error) if error.is_newer_draft() => {
            let draft = assignment.draft.clone().unwrap_or_default();
            let differences = newer_draft::differences(&draft, said).into_iter();
            let told = differences.map(|(field, value)| {
                let text = told(&page, &field, &value);
                (field_name::<P>(&page, &form, &field), text)
            });
            Some(told.collect())
        }
        _ => None,
    };
    let reasons = form.skip_reasons.iter();
    let around = Around {
        id: assignment.id,
        path: path_of(P::KIND, assignment.id),
        revision: assignment.draft_revision,
        idempotency_key: uuid::Uuid::new_v4().to_string(),
        correcting,
        complaints,
        newer,
        saved: matches!(notice, Notice::Saved),
        is_opened: assignment.is_opened(),
        is_late: assignment.is_late(),
        lease_until: assignment.lease_until,
        standing,
        time: assignment.time,
        skip_reasons: reasons
            .map(|reason| (reason.key.clone(), text_in(&reason.label, lang)))
            .collect(),
        note: said["note"].as_str().unwrap_or_default().to_owned(),
        last: last
            .filter(|(id, _)| *id != assignment.id)
            .map(|(id, kind)| path_of(kind, id)),
        questions,
    };
    let shown = Shown {
        task: &task,
        form: &form,
        said,
    };
    let body = P::render(page, around, shown)?;
    Ok((status, body).into_response())
}

/// What was refused, each by the name that its field has on the page.
fn complaints<P: AnswerPage>(page: &Page, form: &Form, error: &AppError) -> Vec<Complaint> {
    match error {
        AppError::Invalid(fields) => fields
            .iter()
            .map(|error| {
                let message = page.say(&error.message);
                let name = field_name::<P>(page, form, &error.field);
                let words = [("field", name), ("message", message.clone())];
                Complaint {
                    field: is_of_page(error).then(|| error.field.clone()),
                    text: page.t_args("error-field", &words),
                    message,
                }
            })
            .collect(),
        error if error.is_newer_draft() => Vec::new(),
        error => {
            let message = page.say(&error.message());
            vec![Complaint {
                field: None,
                text: message.clone(),
                message,
            }]
        }
    }
}

/// Whether a part of the page has the field's name: not what the database or the protocol refuses.
fn is_of_page(error: &FieldError) -> bool {
    !matches!(error.field.as_str(), "text" | "Idempotency-Key" | "body")
}

/// What the page calls a field: a flag by its question, an entry of a list by its number.
fn field_name<P: AnswerPage>(page: &Page, form: &Form, field: &str) -> String {
    if let Some(key) = field.strip_prefix("flags.") {
        let flag = form.prompt_flags.iter().find(|flag| flag.key == key);
        let label = flag.map(|flag| text_in(&flag.label, page.lang.tag()));
        return label.unwrap_or_else(|| field.to_owned());
    }
    let (name, number) = match field.split_once('[').and_then(|(list, rest)| {
        let (index, member) = rest.split_once("].")?;
        Some((format!("{list}-{member}"), index.parse::<usize>().ok()? + 1))
    }) {
        Some((name, number)) => (name, number),
        None => (field.to_owned(), 0),
    };
    let key = format!("{}-field-{}", P::KIND, name.replace('_', "-"));
    match page.t_with(&key, "n", number) {
        text if text == key => page.field(field),
        text => text,
    }
}

/// What stands in a field, as a reader sees it.
fn told(page: &Page, field: &str, value: &Value) -> String {
    match value {
        Value::Bool(true) => page.t("answer-yes"),
        Value::Bool(false) => page.t("answer-no"),
        Value::String(word) if field == "category" => page.category(word),
        Value::String(text) => text.clone(),
        Value::Null => "–".to_owned(),
        other => other.to_string(),
    }
}

/// Saves, submits, skips or changes the form, by the button pressed. After a submission or a skip the next
/// task follows at once. What cannot be taken comes back as it was typed.
///
/// # Errors
/// `NotFound` for an assignment of somebody else; `Invalid` for a field that no page sends.
pub async fn update<P: AnswerPage>(
    state: &AppState,
    page: Page,
    labeler: &Visitor,
    id: AssignmentId,
    form: &AnswerForm,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let who = labeler.account_id;
    let action = form.get("action");
    if action == "skip" {
        store::assignments::skip(&mut db, id, who, form.get("reason"), form.get("skip_note"))
            .await?;
        return Ok(go_on(&mut db, labeler).await);
    }
    let mut said = form.json();
    let edited = P::edit(&mut said, action);
    let input = Input::from_json(P::KIND, said.clone());
    let input = input.map_err(|error| AppError::Invalid(vec![error]))?;
    let path = path_of(P::KIND, id);
    let result = if edited.is_some() || action == "save" {
        let revision = form.revision();
        let saved =
            store::assignments::save_draft(&mut db, id, who, &input, form.time(), revision).await;
        saved.map(|_| match edited {
            Some(part) => Redirect::to(&format!("{path}#{part}")).into_response(),
            None => Redirect::to(&format!("{path}?saved=true")).into_response(),
        })
    } else {
        let new = NewSubmission {
            idempotency_key: form.get("idempotency_key"),
            input: &input,
            time: form.time(),
            replaces: form.replaces(),
            revision: form.revision(),
        };
        let assignment = store::assignments::find(&mut db, id, who).await?;
        let is_late = assignment.is_late();
        match store::submissions::submit_found(&mut db, assignment, who, &new).await {
            Ok(written) => {
                let submitted = Submitted::new(written.version, is_late);
                return Ok(go_on_from(&mut db, labeler, submitted).await);
            }
            Err(error) => Err(error),
        }
    };
    match result {
        Err(error @ (AppError::Invalid(_) | AppError::Conflict(_))) => {
            // As it is now: another window may have saved meanwhile.
            let assignment = store::assignments::find(&mut db, id, who).await?;
            drop(db);
            let notice = Notice::Refused(error);
            show_said::<P>(state, page, labeler, &assignment, &said, notice).await
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_button_adds_an_entry_or_takes_one_away_and_the_others_stay() {
        let mut said = json!({"pairs": [{"query": "a"}, {"query": "b"}, {"query": "c"}]});
        let mut press = |action: &str| {
            (
                edit_list(&mut said, "pairs", "pair", "query", 4, action),
                said.clone(),
            )
        };
        let (part, after) = press("add_pair");
        assert_eq!(part.as_deref(), Some("pairs[3].query"));
        assert_eq!(after["pairs"].as_array().map(Vec::len), Some(4));
        // No more than the most.
        assert_eq!(press("add_pair").0.as_deref(), Some("pairs[3].query"));
        let (part, after) = press("remove_pair-2");
        assert_eq!(part.as_deref(), Some("pairs"));
        assert_eq!(after["pairs"], json!([{"query": "a"}, {"query": "c"}, {}]));
        assert_eq!(press("remove_pair-9").1["pairs"], after["pairs"]);
        assert_eq!(press("submit").0, None);
    }
}
