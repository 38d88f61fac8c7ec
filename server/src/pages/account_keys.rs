//! `/account/keys`: which key does what on the labeling pages. Both sides are chosen from lists.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum_extra::extract::Form as HtmlForm;

use crate::auth::visitor::Labeler;
use crate::domain::keys::{Action, Bindings, Key};
use crate::error::{AppError, AppResult};
use crate::message::Message;
use crate::state::AppState;
use crate::store;
use crate::web::page::{Page, render};

#[derive(Template)]
#[template(path = "account/keys.html")]
struct KeysPage {
    page: Page,
    rows: Vec<Row>,
    keys: Vec<Key>,
    are_on: bool,
    saved: bool,
    complaints: Vec<String>,
}

/// An action and the key chosen for it.
struct Row {
    action: Action,
    key: Key,
    is_wrong: bool,
}

impl Row {
    fn has(&self, key: &Key) -> bool {
        self.key == *key
    }
}

/// The query of the page.
#[derive(serde::Deserialize)]
pub struct KeysQuery {
    /// Whether keys were saved just now.
    #[serde(default)]
    saved: bool,
}

/// `GET /account/keys`.
pub async fn index(
    State(state): State<AppState>,
    page: Page,
    Labeler(labeler): Labeler,
    Query(query): Query<KeysQuery>,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let bindings = store::key_bindings::find(&mut db, labeler.account_id).await?;
    let row = |action| Row {
        action,
        key: bindings.key(action),
        is_wrong: false,
    };
    let template = KeysPage {
        page: page.titled("account-keys-title"),
        rows: Action::all().map(row).collect(),
        keys: Key::all().collect(),
        are_on: bindings.are_on,
        saved: query.saved,
        complaints: Vec::new(),
    };
    Ok(render(&template)?.into_response())
}

/// The form: a key for each action, `are_on`, and `reset` where all are to be as at first.
#[derive(serde::Deserialize)]
pub struct KeysForm(Vec<(String, String)>);

impl KeysForm {
    fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// `POST /account/keys`: a key that would do two things is refused, with both by name.
pub async fn update(
    State(state): State<AppState>,
    page: Page,
    Labeler(labeler): Labeler,
    HtmlForm(form): HtmlForm<KeysForm>,
) -> AppResult<Response> {
    let are_on = form.get("are_on").is_some();
    let mut chosen = BTreeMap::new();
    if form.get("reset").is_none() {
        for action in Action::all() {
            let Some(name) = form.get(action.as_str()) else {
                continue;
            };
            let key = Key::from_name(name).ok_or_else(|| {
                AppError::invalid(action.as_str(), Message::new("error-unknown-choice"))
            })?;
            chosen.insert(action, key);
        }
    }
    let clashes = match Bindings::choose(chosen.clone(), are_on) {
        Ok(bindings) => {
            let mut db = state.db.acquire().await?;
            store::key_bindings::save(&mut db, labeler.account_id, &bindings).await?;
            return Ok(Redirect::to("/account/keys?saved=true").into_response());
        }
        Err(clashes) => clashes,
    };
    let name = |action: Action| page.t(&format!("key-{}", action.as_str()));
    let complaint = |clash: &crate::domain::keys::Clash| {
        page.t_args(
            "account-keys-clash",
            &[
                ("key", clash.key.cap()),
                ("first", name(clash.first)),
                ("second", name(clash.second)),
            ],
        )
    };
    let first = Bindings::default();
    let row = |action| Row {
        action,
        key: chosen.get(&action).copied().unwrap_or(first.key(action)),
        is_wrong: clashes
            .iter()
            .any(|clash| clash.first == action || clash.second == action),
    };
    let template = KeysPage {
        rows: Action::all().map(row).collect(),
        keys: Key::all().collect(),
        are_on,
        saved: false,
        complaints: clashes.iter().map(complaint).collect(),
        page: page.titled("account-keys-title"),
    };
    Ok((StatusCode::UNPROCESSABLE_ENTITY, render(&template)?).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::i18n::{Lang, find};

    #[test]
    fn every_action_has_a_name_in_both_languages() {
        for lang in Lang::ALL {
            for action in Action::all() {
                let key = format!("key-{}", action.as_str());
                assert!(find(lang, &key).is_some(), "{lang}: no {key}");
            }
        }
    }
}
