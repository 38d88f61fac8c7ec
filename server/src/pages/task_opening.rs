//! `/tasks/new`: an admin opens tasks. What an order comes to is shown before anything is written.

use askama::Template;
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{Multipart, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use sha2::{Digest, Sha256};

use crate::auth::visitor::{ProjectAdmin, Visitor};
use crate::domain::form::{Form, text_in};
use crate::domain::opening::{MOST_OVERLAP, MOST_TASKS, Order, Work, read_texts};
use crate::domain::prompt::CATEGORIES;
use crate::domain::ranking::CANDIDATES;
use crate::error::{AppError, AppResult, FieldError};
use crate::message::Message;
use crate::pages::answer::SelectOption;
use crate::pages::prompts::choose_project;
use crate::state::AppState;
use crate::store;
use crate::store::openings::{Count, Opened};
use crate::store::projects::Project;
use crate::store::prompts::Origins;
use crate::web::page::{Page, render};

#[derive(Template)]
#[template(path = "tasks/new.html")]
struct OpeningPage {
    page: Page,
    projects: Vec<Project>,
    project: Option<Project>,
    origins: Origins,
    form: Form,
    given: OpeningForm,
    errors: Vec<FieldError>,
    preview: Option<Preview>,
}

/// What an order comes to.
struct Preview {
    count: Count,
    /// Says which order it is of, so that no other is opened in its place.
    order: String,
    /// It came to something else when the button was pressed.
    has_changed: bool,
}

/// The form as it was sent.
#[derive(Debug, Default)]
pub struct OpeningForm {
    project: String,
    key: String,
    work: String,
    categories: Vec<String>,
    language: String,
    source: String,
    most: String,
    only_new: bool,
    n_candidates: String,
    pairs: String,
    texts: String,
    overlap: String,
    action: String,
    shown: String,
    order: String,
}

impl OpeningForm {
    /// A form that nobody has filled in yet.
    fn new(project: String) -> Self {
        Self {
            project,
            key: uuid::Uuid::new_v4().to_string(),
            work: Work::Rank.as_str().to_owned(),
            only_new: true,
            ..Self::default()
        }
    }

    /// The order; of the parts of the form, those that its work needs.
    ///
    /// # Errors
    /// Every field that cannot be read.
    fn order(&self) -> Result<Order, Vec<FieldError>> {
        let Ok(work) = self.work.parse::<Work>() else {
            let message = Message::new("error-unknown-choice");
            return Err(vec![FieldError::new("work", message)]);
        };
        let mut errors = Vec::new();
        let most = number(&mut errors, "most", &self.most);
        let overlap = number(&mut errors, "overlap", &self.overlap);
        let n_candidates = match work.has_candidates() {
            true => number(&mut errors, "n_candidates", &self.n_candidates),
            false => None,
        };
        let takes_texts = matches!(work, Work::FewShot | Work::UserBased);
        let texts = match takes_texts.then(|| read_texts(&self.texts)).transpose() {
            Ok(texts) => texts.unwrap_or_default(),
            Err(wrong) => {
                errors.extend(wrong);
                Vec::new()
            }
        };
        if !errors.is_empty() {
            return Err(errors);
        }
        let chosen = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let of_prompts = work.is_of_prompts();
        Ok(Order {
            work,
            categories: match of_prompts {
                true => self.categories.clone(),
                false => Vec::new(),
            },
            language: chosen(&self.language),
            source: chosen(&self.source).filter(|_| of_prompts),
            most,
            only_new: self.only_new,
            n_candidates,
            one_pair: work == Work::Compare && self.pairs == "one",
            texts,
            overlap,
        })
    }
}

/// A number that may be left out.
fn number<T: std::str::FromStr>(
    errors: &mut Vec<FieldError>,
    field: &str,
    text: &str,
) -> Option<T> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    let read = text.parse().ok();
    if read.is_none() {
        let message = Message::new("error-not-a-number");
        errors.push(FieldError::new(field, message));
    }
    read
}

impl OpeningPage {
    fn works(&self) -> Vec<SelectOption> {
        let option = |work: &Work| SelectOption {
            value: work.as_str().to_owned(),
            label: self
                .page
                .t(&format!("tasks-work-{}", work.as_str().replace('_', "-"))),
            is_chosen: self.given.work == work.as_str(),
        };
        Work::ALL.iter().map(option).collect()
    }

    fn categories(&self) -> Vec<SelectOption> {
        let option = |word: &str| SelectOption {
            value: word.to_owned(),
            label: self.page.category(word),
            is_chosen: self.given.categories.iter().any(|chosen| chosen == word),
        };
        CATEGORIES.into_iter().map(option).collect()
    }

    /// The languages of the project's prompts, then the other ones of its form.
    fn languages(&self) -> Vec<SelectOption> {
        let lang = self.page.lang.tag();
        let known = &self.form.languages;
        let of_prompts = self.origins.languages.iter();
        let others = known.iter().map(|language| &language.key);
        let others = others.filter(|key| !self.origins.languages.contains(key));
        let option = |key: &String| SelectOption {
            value: key.clone(),
            label: known
                .iter()
                .find(|language| language.key == *key)
                .map_or_else(|| key.clone(), |language| text_in(&language.label, lang)),
            is_chosen: self.given.language == *key,
        };
        of_prompts.chain(others).map(option).collect()
    }

    fn numbers_of_candidates(&self) -> Vec<SelectOption> {
        // Two and three are for comparisons alone; an order to rank so few is refused.
        let option = |n: usize| SelectOption {
            value: n.to_string(),
            label: self.page.t_with("tasks-at-random", "n", n),
            is_chosen: self.given.n_candidates == n.to_string(),
        };
        (2..=*CANDIDATES.end()).map(option).collect()
    }

    fn is_project(&self, project: &Project) -> bool {
        self.project
            .as_ref()
            .is_some_and(|chosen| chosen.id == project.id)
    }

    fn most_tasks(&self) -> usize {
        MOST_TASKS
    }

    fn most_overlap(&self) -> i16 {
        MOST_OVERLAP
    }
}

/// Which project the form is for.
#[derive(Debug, Default, serde::Deserialize)]
pub struct NewQuery {
    /// Short name; the first one when empty.
    #[serde(default)]
    project: String,
}

/// `GET /tasks/new`.
pub async fn new(
    State(state): State<AppState>,
    page: Page,
    ProjectAdmin(admin): ProjectAdmin,
    Query(query): Query<NewQuery>,
) -> AppResult<Response> {
    let given = OpeningForm::new(query.project);
    show(&state, page, &admin, given, Vec::new(), None).await
}

async fn show(
    state: &AppState,
    page: Page,
    admin: &Visitor,
    given: OpeningForm,
    errors: Vec<FieldError>,
    preview: Option<Preview>,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let projects = store::members::list_administered(&mut db, admin.account_id).await?;
    let project = choose_project(&projects, &given.project)?;
    let (mut origins, mut form) = (Origins::default(), None);
    if let Some(project) = &project {
        origins = store::prompts::find_origins(&mut db, project.id).await?;
        form = store::projects::find_form(&mut db, project.id).await?;
    }
    drop(db);
    let form = form.map(|(_, fields)| serde_json::from_value(fields));
    let form = form.transpose().map_err(anyhow::Error::from)?;
    let status = match errors.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::UNPROCESSABLE_ENTITY,
    };
    let body = render(&OpeningPage {
        page: page.titled("tasks-new"),
        projects,
        project,
        origins,
        form: form.unwrap_or_default(),
        given,
        errors,
        preview,
    })?;
    Ok((status, body).into_response())
}

/// `POST /tasks/new`: shows what the order comes to; once that was shown, opens the tasks.
pub async fn create(
    State(state): State<AppState>,
    page: Page,
    ProjectAdmin(admin): ProjectAdmin,
    form: Multipart,
) -> AppResult<Response> {
    let given = read(form).await?;
    match carry_out(&state, &admin, &given).await {
        Ok(Done::Opened(n)) => {
            let address = format!("/tasks?project={}&opened={n}", given.project);
            Ok(Redirect::to(&address).into_response())
        }
        Ok(Done::Counted(preview)) => {
            show(&state, page, &admin, given, Vec::new(), Some(preview)).await
        }
        Err(AppError::Invalid(errors)) => show(&state, page, &admin, given, errors, None).await,
        Err(error) => Err(error),
    }
}

enum Done {
    Counted(Preview),
    Opened(i64),
}

async fn carry_out(state: &AppState, admin: &Visitor, given: &OpeningForm) -> AppResult<Done> {
    let order = given.order().map_err(AppError::Invalid)?;
    let mut db = state.db.acquire().await?;
    let projects = store::members::list_administered(&mut db, admin.account_id).await?;
    let project = projects
        .into_iter()
        .find(|project| project.slug == given.project)
        .ok_or_else(|| AppError::invalid("project", Message::new("error-choose-project")))?;
    let name = name_of(&order)?;
    let preview = |count: Count, has_changed: bool| {
        Done::Counted(Preview {
            count,
            order: name.clone(),
            has_changed,
        })
    };
    // Only what was shown is opened: neither another order nor another number of tasks.
    if given.action == "open" && given.order == name {
        let (id, key, who) = (project.id, &given.key, admin.account_id);
        let shown = given.shown.parse().unwrap_or_default();
        let opened = store::openings::open(&mut db, id, &order, key, shown, who).await?;
        return Ok(match opened {
            Opened::Tasks(n) => Done::Opened(n),
            Opened::Changed(count) => preview(count, true),
        });
    }
    let count = store::openings::count(&mut db, project.id, &order, &given.key).await?;
    Ok(preview(count, given.action == "open"))
}

/// A short name for an order: a digest of everything that it says.
fn name_of(order: &Order) -> AppResult<String> {
    let bytes = serde_json::to_vec(order).map_err(anyhow::Error::from)?;
    Ok(hex::encode(&Sha256::digest(&bytes)[..8]))
}

/// Reads the form. A file's lines take the place of pasted ones, so that all that is ordered stands in
/// the form that comes back.
async fn read(mut form: Multipart) -> AppResult<OpeningForm> {
    let mut given = OpeningForm::default();
    while let Some(field) = form.next_field().await.map_err(refused)? {
        let name = field.name().unwrap_or_default().to_owned();
        let text = text_of(field).await?;
        let place = match name.as_str() {
            "project" => &mut given.project,
            "key" => &mut given.key,
            "work" => &mut given.work,
            "language" => &mut given.language,
            "source" => &mut given.source,
            "most" => &mut given.most,
            "n_candidates" => &mut given.n_candidates,
            "pairs" => &mut given.pairs,
            "texts" => &mut given.texts,
            "overlap" => &mut given.overlap,
            "action" => &mut given.action,
            "shown" => &mut given.shown,
            "order" => &mut given.order,
            "categories" => {
                given.categories.push(text);
                continue;
            }
            "only_new" => {
                given.only_new = text == "true";
                continue;
            }
            "file" => {
                if !text.is_empty() {
                    given.texts = text;
                }
                continue;
            }
            other => {
                let message = Message::new("error-unknown-field");
                return Err(AppError::invalid(other, message));
            }
        };
        *place = text;
    }
    if given.key.is_empty() || given.key.len() > 200 {
        let message = Message::new("error-length").with("most", 200);
        return Err(AppError::invalid("key", message));
    }
    Ok(given)
}

/// A field as a text of UTF-8.
async fn text_of(field: Field<'_>) -> AppResult<String> {
    let name = field.name().unwrap_or_default().to_owned();
    let bytes = field.bytes().await.map_err(refused)?;
    let text = String::from_utf8(bytes.to_vec());
    text.map_err(|_| AppError::invalid(name, Message::new("error-unreadable")))
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err wants"
)]
fn refused(error: MultipartError) -> AppError {
    AppError::Rejected(error.status(), error.body_text().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_the_form_that_the_work_does_not_need_are_passed_over() {
        let given = OpeningForm {
            work: "review".to_owned(),
            n_candidates: "x".to_owned(),
            texts: "{".to_owned(),
            pairs: "one".to_owned(),
            categories: vec!["chat".to_owned()],
            most: " 20 ".to_owned(),
            ..OpeningForm::default()
        };
        let order = given.order();
        let order = order.unwrap_or_else(|errors| panic!("{errors:?}"));
        assert_eq!((order.most, order.n_candidates), (Some(20), None));
        assert!(order.texts.is_empty() && !order.one_pair);
        let wrong = OpeningForm {
            work: "rank".to_owned(),
            overlap: "two".to_owned(),
            ..given
        };
        let errors = wrong.order().err().unwrap_or_default();
        let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["overlap", "n_candidates"]);
    }
}
