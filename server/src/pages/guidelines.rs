//! `/guidelines`: how to judge, in the visitor's language. Admins write new versions.

use askama::Template;
use axum::extract::{Form, State};
use axum::response::{IntoResponse, Redirect, Response};

use crate::auth::visitor::{Admin, Visitor};
use crate::domain::form::{Texts, text_in};
use crate::domain::ids::ProjectId;
use crate::error::{AppError, AppResult};
use crate::message::Message;
use crate::state::AppState;
use crate::store;
use crate::web::markdown;
use crate::web::page::{Page, render};

/// A project's guidelines as shown.
struct Guidelines {
    project_id: ProjectId,
    project: String,
    version: i32,
    html: String,
    texts: Texts,
}

#[derive(Template)]
#[template(path = "guidelines/index.html")]
struct GuidelinesPage {
    page: Page,
    guidelines: Vec<Guidelines>,
    may_edit: bool,
}

impl Guidelines {
    fn text(&self, lang: &str) -> &str {
        self.texts.get(lang).map_or("", String::as_str)
    }
}

/// `GET /guidelines`.
pub async fn index(
    State(state): State<AppState>,
    page: Page,
    visitor: Visitor,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let mut guidelines = Vec::new();
    for project in store::projects::list(&mut db).await? {
        let (version, texts) = store::projects::find_guidelines(&mut db, project.id)
            .await?
            .unwrap_or_default();
        let texts: Texts = serde_json::from_value(texts).unwrap_or_default();
        guidelines.push(Guidelines {
            project_id: project.id,
            project: project.name,
            version,
            html: markdown::to_html(&text_in(&texts, page.lang.tag())),
            texts,
        });
    }
    let page = page.titled("guidelines-title");
    Ok(render(&GuidelinesPage {
        page,
        guidelines,
        may_edit: visitor.is_admin,
    })?
    .into_response())
}

/// The form that writes a new version.
#[derive(serde::Deserialize)]
pub struct GuidelinesForm {
    project_id: ProjectId,
    en: String,
    zh: String,
}

/// `POST /guidelines`: a new version; old labels keep theirs.
pub async fn create(
    State(state): State<AppState>,
    Admin(admin): Admin,
    Form(form): Form<GuidelinesForm>,
) -> AppResult<Redirect> {
    if form.en.trim().is_empty() && form.zh.trim().is_empty() {
        return Err(AppError::invalid(
            "en",
            Message::new("error-guidelines-empty"),
        ));
    }
    let mut db = state.db.acquire().await?;
    store::projects::find(&mut db, form.project_id)
        .await?
        .ok_or(AppError::NotFound("project"))?;
    let texts = serde_json::json!({"en": form.en, "zh": form.zh});
    store::projects::insert_guidelines(&mut db, form.project_id, &texts, Some(admin.account_id))
        .await?;
    Ok(Redirect::to("/guidelines"))
}
