//! `/review/{id}`: a labeler says what a prompt is.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::response::{Html, Response};
use axum_extra::extract::Form as HtmlForm;
use serde_json::Value;

use crate::auth::visitor::Labeler;
use crate::domain::form::Choice;
use crate::domain::ids::AssignmentId;
use crate::domain::review::{Found, MOST_PASSAGES, ReviewInput};
use crate::domain::task::TaskKind;
use crate::error::AppResult;
use crate::pages::answer::{
    self, AnswerPage, Around, Question, SelectOption, ShowQuery, Shown, edit_list,
};
use crate::pages::answer_form::AnswerForm;
use crate::state::AppState;
use crate::web::page::{Page, render};
use crate::web::text_view::Conversation;

/// An entry of personal data as shown.
struct FoundView {
    number: String,
    kind_field: String,
    passage_field: String,
    kinds: Vec<SelectOption>,
    passage: String,
}

impl FoundView {
    fn new(index: &str, number: &str, found: &Found, kinds: &[Choice], lang: &str) -> Self {
        Self {
            number: number.to_owned(),
            kind_field: format!("found[{index}].kind"),
            passage_field: format!("found[{index}].passage"),
            kinds: SelectOption::of_choices(kinds, lang, Some(&found.kind)),
            passage: found.passage.clone(),
        }
    }
}

#[derive(Template)]
#[template(path = "review/show.html")]
struct ReviewPage {
    page: Page,
    around: Around,
    prompt: Conversation,
    categories: Vec<SelectOption>,
    languages: Vec<SelectOption>,
    flags: Vec<Question>,
    personal_data: Question,
    found: Vec<FoundView>,
    /// An entry for a script to add.
    more: FoundView,
}

impl ReviewPage {
    fn most_passages(&self) -> usize {
        MOST_PASSAGES
    }

    /// Whether an entry can be taken away: one stays.
    fn can_remove(&self) -> bool {
        self.found.len() > 1
    }
}

/// The page of a review.
struct Review;

impl AnswerPage for Review {
    const KIND: TaskKind = TaskKind::Review;

    fn edit(said: &mut Value, action: &str) -> Option<String> {
        match action.starts_with("add_found") || action.starts_with("remove_found") {
            true => edit_list(said, "found", "found", "kind", MOST_PASSAGES, action),
            false => None,
        }
    }

    fn render(page: Page, around: Around, shown: Shown<'_>) -> AppResult<Html<String>> {
        let input: ReviewInput = serde_json::from_value(shown.said.clone()).unwrap_or_default();
        let (form, lang) = (shown.form, page.lang.tag());
        let mut found = input.found.clone();
        found.resize(found.len().max(1), Found::default());
        let flags = form.prompt_flags.iter();
        render(&ReviewPage {
            prompt: Conversation::new(&shown.task.prompt, shown.task.language.as_deref()),
            categories: SelectOption::categories(&page, input.category.as_deref()),
            languages: SelectOption::of_choices(&form.languages, lang, input.language.as_deref()),
            flags: flags
                .map(|flag| Question::of_flag(flag, lang, input.flags.get(&flag.key).copied()))
                .collect(),
            personal_data: Question {
                name: "personal_data".to_owned(),
                label: page.t("review-personal-data"),
                help: page.t("review-personal-data-help"),
                answer: input.personal_data,
            },
            found: (found.iter().enumerate())
                .map(|(index, found)| {
                    let (place, number) = (index.to_string(), (index + 1).to_string());
                    FoundView::new(&place, &number, found, &form.pii_kinds, lang)
                })
                .collect(),
            more: FoundView::new("__I__", "__N__", &Found::default(), &form.pii_kinds, lang),
            around,
            page: page.titled("review-title"),
        })
    }
}

/// `GET /review/{id}`.
pub async fn show(
    State(state): State<AppState>,
    page: Page,
    Labeler(labeler): Labeler,
    Path(id): Path<AssignmentId>,
    Query(query): Query<ShowQuery>,
) -> AppResult<Response> {
    answer::show::<Review>(&state, page, &labeler, id, &query).await
}

/// `POST /review/{id}`: saves, submits, skips, or adds or takes away an entry, by the button pressed.
pub async fn update(
    State(state): State<AppState>,
    page: Page,
    Labeler(labeler): Labeler,
    Path(id): Path<AssignmentId>,
    HtmlForm(form): HtmlForm<AnswerForm>,
) -> AppResult<Response> {
    answer::update::<Review>(&state, page, &labeler, id, &form).await
}
