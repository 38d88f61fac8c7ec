//! `/guidelines`: how to judge, in the visitor's language. Admins write new versions.

use askama::Template;
use axum::extract::{Form, State};
use axum::response::{IntoResponse, Redirect, Response};

use crate::auth::visitor::{Admin, Labeler, Visitor};
use crate::domain::form::{Texts, text_in};
use crate::domain::ids::ProjectId;
use crate::error::{AppError, AppResult};
use crate::message::Message;
use crate::state::AppState;
use crate::store;
use crate::store::members::Subject;
use crate::web::markdown;
use crate::web::page::{Page, render};

/// A project's guidelines as shown.
struct Guidelines {
    project_id: ProjectId,
    project: String,
    version: i32,
    html: String,
    texts: Texts,
    /// Whether this labeler has acknowledged this version; none where nobody is asked.
    acknowledged: Option<bool>,
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
    let places = match visitor.is_labeler {
        true => store::members::list_places(&mut db, visitor.account_id).await?,
        false => Vec::new(),
    };
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
            acknowledged: places
                .iter()
                .find(|place| place.project_id == project.id && version > 0)
                .map(|place| place.has_acknowledged),
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

/// The form that acknowledges a version.
#[derive(serde::Deserialize)]
pub struct AcknowledgementForm {
    project_id: ProjectId,
    version: i32,
}

/// `POST /guidelines/acknowledgements`: this labeler has read a version, and works by it from now on.
pub async fn acknowledge(
    State(state): State<AppState>,
    Labeler(labeler): Labeler,
    Form(form): Form<AcknowledgementForm>,
) -> AppResult<Redirect> {
    let mut db = state.db.acquire().await?;
    let is_newest = store::members::acknowledge(
        &mut db,
        labeler.account_id,
        form.project_id,
        Subject::Guidelines,
        form.version,
    )
    .await?;
    match is_newest {
        true => Ok(Redirect::to("/work")),
        false => Err(AppError::conflict("error-not-newest")),
    }
}
