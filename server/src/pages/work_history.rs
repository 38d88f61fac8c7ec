//! `/work/history`: a labeler's last submissions, each of which opens again to be corrected; and
//! `/work/last`, the way back to the last one.

use askama::Template;
use axum::extract::State;
use axum::response::{Html, Redirect};
use serde_json::Value;

use crate::auth::visitor::Labeler;
use crate::domain::writing::Brief;
use crate::error::AppResult;
use crate::pages::work::path_of;
use crate::state::AppState;
use crate::store;
use crate::store::history::Past;
use crate::web::page::{Page, render};

/// How much of a prompt the list shows, in characters.
const EXCERPT: usize = 140;

#[derive(Template)]
#[template(path = "work/history.html")]
struct HistoryPage {
    page: Page,
    past: Vec<Item>,
}

/// One line of the list.
struct Item {
    past: Past,
    path: String,
    excerpt: String,
}

/// `GET /work/history`.
pub async fn index(
    State(state): State<AppState>,
    page: Page,
    Labeler(labeler): Labeler,
) -> AppResult<Html<String>> {
    let mut db = state.db.acquire().await?;
    let past = store::history::list(&mut db, labeler.account_id).await?;
    let item = |past: Past| Item {
        path: path_of(past.kind, past.id),
        excerpt: excerpt(&given(&past)),
        past,
    };
    render(&HistoryPage {
        page: page.titled("work-history-title"),
        past: past.into_iter().map(item).collect(),
    })
}

/// `GET /work/last`: to the last submission, or to the list when there is none.
pub async fn last(State(state): State<AppState>, Labeler(labeler): Labeler) -> AppResult<Redirect> {
    let mut db = state.db.acquire().await?;
    let past = store::history::list(&mut db, labeler.account_id).await?;
    let path = past.first().map(|past| path_of(past.kind, past.id));
    Ok(Redirect::to(path.as_deref().unwrap_or("/work/history")))
}

/// The prompt, or what the labeler wrote one from.
fn given(past: &Past) -> Value {
    let brief = Brief::read(past.brief.clone()).ok();
    let text = brief.as_ref().and_then(Brief::text);
    match (past.prompt.is_null(), text) {
        (true, Some(text)) => text.into(),
        _ => past.prompt.clone(),
    }
}

/// The beginning of a prompt, of its last turn where it is a conversation, in one line.
fn excerpt(prompt: &Value) -> String {
    let text = match prompt {
        Value::Array(turns) => turns.last().and_then(|turn| turn["content"].as_str()),
        other => other.as_str(),
    };
    let words: Vec<&str> = text.unwrap_or_default().split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(EXCERPT) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_one_short_line_of_the_last_turn() {
        let turns = serde_json::json!([
            {"role": "user", "content": "first"}, {"role": "user", "content": "then\n\n this"}
        ]);
        assert_eq!(excerpt(&turns), "then this");
        let long = excerpt(&Value::String("好".repeat(300)));
        assert_eq!(
            (long.chars().count(), long.ends_with('…')),
            (EXCERPT + 1, true)
        );
        assert_eq!(excerpt(&Value::Null), "");
    }
}
