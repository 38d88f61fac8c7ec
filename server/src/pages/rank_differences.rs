//! `/rank/{id}/differences`: two candidates side by side with what differs marked, word by word. A page of
//! its own, or the part that the labeling page shows in place.

use std::time::Duration;

use askama::Template;
use axum::extract::{Query, State};
use axum::response::{Html, IntoResponse, Response};
use similar::{ChangeTag, TextDiff};

use crate::auth::worker::Worker;
use crate::domain::ids::AssignmentId;
use crate::error::{AppError, AppResult};
use crate::message::Message;
use crate::pages::rank_view::letter;
use crate::state::AppState;
use crate::store;
use crate::web::page::{Page, render};

/// How long the search for the shortest difference may take; after it a longer one is shown.
const PATIENCE: Duration = Duration::from_millis(200);

/// A run of text that both have or only one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    text: String,
    is_own: bool,
}

/// One of the two.
#[derive(Debug)]
struct Side {
    letter: char,
    pieces: Vec<Piece>,
    /// Words that the other has not.
    n_own: usize,
}

#[derive(Template)]
#[template(path = "rank/differences.html", blocks = ["differences"])]
struct DifferencesPage {
    page: Page,
    id: AssignmentId,
    sides: [Side; 2],
}

/// Which two, by their place on the page.
#[derive(serde::Deserialize)]
pub struct DifferencesQuery {
    a: usize,
    b: usize,
    /// Only the part that another page shows in place.
    #[serde(default)]
    part: bool,
}

/// `GET /rank/{id}/differences?a=1&b=3`.
pub async fn show(
    State(state): State<AppState>,
    page: Page,
    Worker {
        visitor: labeler,
        id,
    }: Worker,
    Query(query): Query<DifferencesQuery>,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let assignment = store::assignments::find(&mut db, id, labeler.account_id).await?;
    let task = store::tasks::find_view(&mut db, assignment.task_id).await?;
    drop(db);
    let text = |field: &str, position: usize| {
        let index = position.checked_sub(1);
        let slot = index.and_then(|index| assignment.display_order.get(index));
        let text = slot.and_then(|slot| task.texts.get(*slot as usize));
        text.ok_or_else(|| AppError::invalid(field, Message::new("error-no-such-candidate")))
    };
    let (first, second) = (text("a", query.a)?.clone(), text("b", query.b)?.clone());
    let compared = tokio::task::spawn_blocking(move || compare(&first, &second));
    let [(first, n_first), (second, n_second)] = compared.await.map_err(anyhow::Error::from)?;
    let template = DifferencesPage {
        page: page.titled("rank-differences"),
        id,
        sides: [
            Side {
                letter: letter(query.a - 1),
                pieces: first,
                n_own: n_first,
            },
            Side {
                letter: letter(query.b - 1),
                pieces: second,
                n_own: n_second,
            },
        ],
    };
    if query.part {
        return Ok(Html(template.as_differences().render()?).into_response());
    }
    Ok(render(&template)?.into_response())
}

/// Both texts in pieces, and how many words of each the other has not. Words are those of Unicode, so
/// that Chinese is compared character by character.
fn compare(first: &str, second: &str) -> [(Vec<Piece>, usize); 2] {
    let diff = TextDiff::configure()
        .timeout(PATIENCE)
        .diff_unicode_words(first, second);
    let mut sides = [(Vec::new(), 0), (Vec::new(), 0)];
    for change in diff.iter_all_changes() {
        let word = change.value();
        let (is_own, whose) = match change.tag() {
            ChangeTag::Equal => (false, 0..2),
            ChangeTag::Delete => (true, 0..1),
            ChangeTag::Insert => (true, 1..2),
        };
        for (pieces, n_own) in &mut sides[whose] {
            if is_own && word.contains(char::is_alphanumeric) {
                *n_own += 1;
            }
            push(pieces, word, is_own);
        }
    }
    sides.map(|(pieces, n_own)| (close_gaps(pieces), n_own))
}

/// Adds a word to the last piece, or begins another.
fn push(pieces: &mut Vec<Piece>, word: &str, is_own: bool) {
    match pieces.last_mut() {
        Some(last) if last.is_own == is_own => last.text.push_str(word),
        _ => pieces.push(Piece {
            text: word.to_owned(),
            is_own,
        }),
    }
}

/// A space between two marked words is marked too: one mark is easier to read than many.
fn close_gaps(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut closed: Vec<Piece> = Vec::new();
    let n = pieces.len();
    for (index, piece) in pieces.into_iter().enumerate() {
        let is_gap = !piece.is_own && index > 0 && index + 1 < n && piece.text.trim().is_empty();
        push(&mut closed, &piece.text, piece.is_own || is_gap);
    }
    closed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(pieces: &[Piece]) -> Vec<&str> {
        let own = pieces.iter().filter(|piece| piece.is_own);
        own.map(|piece| piece.text.as_str()).collect()
    }

    fn whole(pieces: &[Piece]) -> String {
        pieces.iter().map(|piece| piece.text.as_str()).collect()
    }

    #[test]
    fn what_only_one_has_is_marked_and_nothing_is_lost() {
        let texts = ("The red fox ran away.", "The quick brown fox ran home.");
        let [(a, n_a), (b, n_b)] = compare(texts.0, texts.1);
        assert_eq!((own(&a), n_a), (vec!["red", "away"], 2));
        assert_eq!((own(&b), n_b), (vec!["quick brown", "home"], 3));
        assert_eq!((whole(&a).as_str(), whole(&b).as_str()), texts);
        let [(same, n), _] = compare("a\nb", "a\nb");
        assert_eq!((own(&same).len(), n), (0, 0));
    }

    #[test]
    fn chinese_is_compared_character_by_character() {
        let [(a, _), (b, _)] = compare("巴黎是法国的首都", "巴黎是法国首都。");
        assert_eq!((own(&a), own(&b)), (vec!["的"], vec!["。"]));
    }

    #[test]
    fn long_texts_without_a_word_in_common_are_kept_whole() {
        let text = |word: &str| {
            (0..60_000)
                .map(|n| format!("{word}{n} "))
                .collect::<String>()
        };
        let (first, second) = (text("a"), text("b"));
        let [(a, _), (b, _)] = compare(&first, &second);
        assert_eq!((whole(&a), whole(&b)), (first, second));
    }
}
