//! `/screening/grading`: admins grade what candidates wrote, one text at a time, without knowing who wrote it.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum_extra::extract::Form as HtmlForm;
use sqlx::PgConnection;

use crate::auth::visitor::{ProjectAdmin, Visitor};
use crate::domain::ids::TaskId;
use crate::domain::ranking::LONGEST_NOTE;
use crate::domain::screening::GRADES;
use crate::error::{AppError, AppResult, FieldError};
use crate::state::AppState;
use crate::store;
use crate::web::page::{Page, render};
use crate::web::text_view::{Conversation, TextView};

/// A text as the page shows it.
struct Shown {
    task_id: TaskId,
    prompt: Conversation,
    text: TextView,
    n_waiting: i64,
}

#[derive(Template)]
#[template(path = "screening/grading.html")]
struct GradingPage {
    page: Page,
    shown: Option<Shown>,
    note: String,
    errors: Vec<FieldError>,
}

impl GradingPage {
    fn grades(&self) -> std::ops::RangeInclusive<i16> {
        GRADES
    }

    fn longest_note(&self) -> usize {
        LONGEST_NOTE
    }
}

/// `GET /screening/grading`: the next text that waits for this admin's grade.
pub async fn index(
    State(state): State<AppState>,
    page: Page,
    ProjectAdmin(admin): ProjectAdmin,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    show(&mut db, page, &admin, String::new(), Vec::new()).await
}

async fn show(
    db: &mut PgConnection,
    page: Page,
    admin: &Visitor,
    note: String,
    errors: Vec<FieldError>,
) -> AppResult<Response> {
    let found = store::screening_grades::next_text(db, admin.account_id).await?;
    let shown = found.map(|found| {
        let language = found.language.as_deref();
        let text = found.content["response"].as_str().unwrap_or_default();
        Shown {
            task_id: found.task_id,
            prompt: Conversation::new(&found.body, language),
            text: TextView::new(text, language),
            n_waiting: found.n_waiting,
        }
    });
    let status = match errors.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::UNPROCESSABLE_ENTITY,
    };
    let template = GradingPage {
        page: page.titled("screening-grading"),
        shown,
        note,
        errors,
    };
    Ok((status, render(&template)?).into_response())
}

/// The form that grades.
#[derive(Debug, serde::Deserialize)]
pub struct GradeForm {
    task_id: TaskId,
    #[serde(default)]
    grade: String,
    #[serde(default)]
    note: String,
}

/// `POST /screening/grading`: grades a text, and goes on to the next.
pub async fn create(
    State(state): State<AppState>,
    page: Page,
    ProjectAdmin(admin): ProjectAdmin,
    HtmlForm(form): HtmlForm<GradeForm>,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let grade = form.grade.parse().unwrap_or(0);
    let who = admin.account_id;
    match store::screening_grades::grade(&mut db, form.task_id, who, grade, &form.note).await {
        Ok(()) => Ok(Redirect::to("/screening/grading").into_response()),
        Err(AppError::Invalid(errors)) => show(&mut db, page, &admin, form.note, errors).await,
        Err(error) => Err(error),
    }
}
