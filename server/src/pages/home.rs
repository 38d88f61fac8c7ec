//! `GET /`: what is waiting for each role of the visitor.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};

use crate::error::AppResult;
use crate::state::AppState;
use crate::store;
use crate::web::page::{Page, render};

#[derive(Template)]
#[template(path = "home/index.html")]
struct HomePage {
    page: Page,
    figures: store::projects::Figures,
    /// Tasks that this labeler has submitted, and may still take.
    submitted: i64,
    waiting: i64,
}

/// Shows the visitor's home, or the way to it.
pub async fn index(State(state): State<AppState>, page: Page) -> AppResult<Response> {
    let Some(visitor) = page.visitor.clone() else {
        return Ok(Redirect::to("/sign-in").into_response());
    };
    let mut db = state.db.acquire().await?;
    let figures = store::projects::figures(&mut db, visitor.account_id).await?;
    let progress = store::tasks::progress(&mut db, visitor.account_id).await?;
    Ok(render(&HomePage {
        page: page.titled("home-title"),
        figures,
        submitted: progress.done,
        waiting: progress.waiting,
    })?
    .into_response())
}
