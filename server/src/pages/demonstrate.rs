//! `/demonstrate/{id}`: a labeler writes a demonstration, as the task's brief asks for.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::{Html, Response};
use axum_extra::extract::Form as HtmlForm;
use serde_json::Value;

use crate::auth::worker::Worker;
use crate::domain::few_shot::{PAIRS, Pair};
use crate::domain::task::{BriefKind, TaskKind};
use crate::domain::writing::{Brief, LONGEST_TEXT, WritingInput};
use crate::error::AppResult;
use crate::pages::answer::{self, AnswerPage, Around, SelectOption, ShowQuery, Shown, edit_list};
use crate::pages::answer_form::AnswerForm;
use crate::state::AppState;
use crate::web::page::{Page, render};
use crate::web::text_view::Conversation;

/// A pair as shown.
struct PairView {
    number: String,
    query_field: String,
    response_field: String,
    query: String,
    response: String,
}

impl PairView {
    fn new(index: usize, pair: &Pair) -> Self {
        Self {
            query: pair.query.clone(),
            response: pair.response.clone(),
            ..Self::named(&index.to_string(), &(index + 1).to_string())
        }
    }

    /// An empty one, whose place a script fills in.
    fn template() -> Self {
        Self::named("__I__", "__N__")
    }

    fn named(index: &str, number: &str) -> Self {
        Self {
            number: number.to_owned(),
            query_field: format!("pairs[{index}].query"),
            response_field: format!("pairs[{index}].response"),
            query: String::new(),
            response: String::new(),
        }
    }
}

#[derive(Template)]
#[template(path = "demonstrate/show.html")]
struct DemonstratePage {
    page: Page,
    around: Around,
    /// What to do, in a word of the catalogue.
    about: &'static str,
    /// The prompt to answer; empty where there is none.
    prompt: Conversation,
    /// The use case or the instruction that is given.
    given: Conversation,
    is_few_shot: bool,
    asks_prompt: bool,
    asks_instruction: bool,
    input: WritingInput,
    pairs: Vec<PairView>,
    /// A pair for a script to add.
    more: PairView,
    categories: Vec<SelectOption>,
    languages: Vec<SelectOption>,
}

impl DemonstratePage {
    fn longest(&self) -> usize {
        LONGEST_TEXT
    }

    fn most_pairs(&self) -> usize {
        *PAIRS.end()
    }

    /// Whether a pair can be taken away: the fewest stay.
    fn can_remove(&self) -> bool {
        self.pairs.len() > *PAIRS.start()
    }

    fn limit_words(&self) -> String {
        self.page.t_with("demonstrate-limit", "most", LONGEST_TEXT)
    }

    fn pairs_words(&self) -> String {
        let words = [
            ("fewest", PAIRS.start().to_string()),
            ("most", PAIRS.end().to_string()),
        ];
        self.page.t_args("demonstrate-pairs-help", &words)
    }
}

/// The page of a demonstration.
struct Demonstrate;

impl AnswerPage for Demonstrate {
    const KIND: TaskKind = TaskKind::Demonstrate;

    fn edit(said: &mut Value, action: &str) -> Option<String> {
        match action.starts_with("add_pair") || action.starts_with("remove_pair") {
            true => edit_list(said, "pairs", "pair", "query", *PAIRS.end(), action),
            false => None,
        }
    }

    fn render(page: Page, around: Around, shown: Shown<'_>) -> AppResult<Html<String>> {
        let task = shown.task;
        let brief = Brief::read(task.brief.clone()).map_err(anyhow::Error::from)?;
        let input: WritingInput = serde_json::from_value(shown.said.clone()).unwrap_or_default();
        let is_few_shot = brief.kind == BriefKind::FewShot;
        let has_prompt = !task.prompt.is_null();
        let mut pairs = input.pairs.clone();
        pairs.resize(pairs.len().max(*PAIRS.start()), Pair::default());
        let about = match (brief.kind, has_prompt) {
            (BriefKind::Plain, true) => "demonstrate-about-answer",
            (BriefKind::Plain, false) => "demonstrate-about-own",
            (BriefKind::FewShot, _) => "demonstrate-about-few-shot",
            (BriefKind::UserBased, _) => "demonstrate-about-user-based",
        };
        let language = input.language.as_deref().or(task.language.as_deref());
        let lang = page.lang.tag();
        render(&DemonstratePage {
            about,
            prompt: Conversation::new(&task.prompt, task.language.as_deref()),
            given: brief
                .text()
                .map(|text| Conversation::new(&text.into(), task.language.as_deref()))
                .unwrap_or_default(),
            is_few_shot,
            asks_prompt: !is_few_shot && !has_prompt,
            asks_instruction: is_few_shot && brief.instruction.is_none(),
            categories: SelectOption::categories(&page, input.category.as_deref()),
            languages: SelectOption::of_choices(&shown.form.languages, lang, language),
            input,
            pairs: (pairs.iter().enumerate())
                .map(|(index, pair)| PairView::new(index, pair))
                .collect(),
            more: PairView::template(),
            around,
            page: page.titled("demonstrate-title"),
        })
    }
}

/// `GET /demonstrate/{id}`.
pub async fn show(
    State(state): State<AppState>,
    page: Page,
    Worker {
        visitor: labeler,
        id,
    }: Worker,
    Query(query): Query<ShowQuery>,
) -> AppResult<Response> {
    answer::show::<Demonstrate>(&state, page, &labeler, id, &query).await
}

/// `POST /demonstrate/{id}`: saves, submits, skips, or adds or takes away a pair, by the button pressed.
pub async fn update(
    State(state): State<AppState>,
    page: Page,
    Worker {
        visitor: labeler,
        id,
    }: Worker,
    HtmlForm(form): HtmlForm<AnswerForm>,
) -> AppResult<Response> {
    answer::update::<Demonstrate>(&state, page, &labeler, id, &form).await
}
