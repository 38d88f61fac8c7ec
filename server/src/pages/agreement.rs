//! `/agreement`: how far labelers agree, how well and how fast each works, and what decides besides the
//! texts. For those who administer the project; models are not named here.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};

use crate::auth::visitor::{ProjectAdmin, Visitor};
use crate::domain::agreement::{Agreement, FEWEST};
use crate::domain::form::Form;
use crate::domain::ids::AccountId;
use crate::domain::labels::{Filter, FilterInput};
use crate::domain::prompt::CATEGORIES;
use crate::error::{AppError, AppResult};
use crate::figures;
use crate::i18n::Lang;
use crate::message::Message;
use crate::pages::agreement_labelers::SORTS;
use crate::pages::agreement_tables::View;
use crate::pages::figure_sections::Section;
use crate::pages::figure_tables::{FigureTable, Picture, Words, download};
use crate::pages::prompts::choose_project;
use crate::state::AppState;
use crate::stats::agreement::TiePolicy;
use crate::store;
use crate::store::labels::{Choices, MOST};
use crate::store::projects::Project;
use crate::web::page::{Page, render};

/// The policies on ties, as an address has them.
const POLICIES: [(&str, TiePolicy); 3] = [
    ("left_out", TiePolicy::LeftOut),
    ("half", TiePolicy::Half),
    ("category", TiePolicy::Category),
];

/// What is looked at, and how.
#[derive(Debug, Default, Clone, serde::Deserialize)]
pub struct AgreementQuery {
    /// Short name of the project; the first one when empty.
    #[serde(default)]
    project: String,
    /// Which rankings.
    #[serde(flatten)]
    filter: FilterInput,
    /// How ties count in what is drawn: `left_out`, `half`, `category`, or empty for the first.
    #[serde(default)]
    ties: String,
    /// By what labelers are sorted.
    #[serde(default)]
    sort: String,
    /// Of a download: which table.
    #[serde(default)]
    table: String,
}

impl AgreementQuery {
    fn policy_word(&self) -> &str {
        if self.ties.is_empty() {
            "left_out"
        } else {
            &self.ties
        }
    }

    fn policy(&self) -> AppResult<TiePolicy> {
        let word = self.policy_word();
        let found = POLICIES.iter().find(|(own, _)| *own == word);
        let refuse = || AppError::invalid("ties", Message::new("error-unknown-choice"));
        found.map(|(_, policy)| *policy).ok_or_else(refuse)
    }

    fn sort(&self) -> AppResult<&str> {
        let word = if self.sort.is_empty() {
            "agreement"
        } else {
            &self.sort
        };
        match SORTS.contains(&word) {
            true => Ok(word),
            false => Err(AppError::invalid(
                "sort",
                Message::new("error-unknown-choice"),
            )),
        }
    }

    fn filter(&self) -> AppResult<Filter> {
        self.filter.parse().map_err(AppError::Invalid)
    }
}

/// What an address has after the `?` to keep a project, a filter and a choice. Everything in it was
/// checked, and has no letter that an address would need to write in another way.
pub(crate) fn query_of(project: &Project, filter: &FilterInput, more: &[(&str, &str)]) -> String {
    let own = [&[("project", project.slug.as_str())], more].concat();
    format!("?{}", filter_of(filter, &own))
}

/// The fields of a filter that narrow, and more, as an address has them.
pub(crate) fn filter_of(filter: &FilterInput, more: &[(&str, &str)]) -> String {
    let own = [
        ("since", filter.since.as_str()),
        ("until", &filter.until),
        ("category", &filter.category),
        ("language", &filter.language),
        ("kind", &filter.kind),
        ("form_version", &filter.form_version),
        ("simulated", &filter.simulated),
    ];
    let given = more
        .iter()
        .chain(&own)
        .filter(|(_, value)| !value.is_empty());
    let parts: Vec<String> = given
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    parts.join("&")
}

/// The fields that narrow the rankings, as the page shows them.
pub(crate) struct FilterForm {
    pub(crate) projects: Vec<Project>,
    pub(crate) project: Project,
    pub(crate) input: FilterInput,
    pub(crate) choices: Choices,
}

impl FilterForm {
    pub(crate) fn categories(&self) -> [&'static str; 10] {
        CATEGORIES
    }

    pub(crate) fn is_project(&self, other: &Project) -> bool {
        self.project.id == other.id
    }

    pub(crate) fn is_form_version(&self, version: &i32) -> bool {
        self.input.form_version == version.to_string()
    }
}

/// Decides whether what simulated labelers said is in the figures, where the address does not: while people have
/// ranked too little for any figure, it is. Returns what has to be said of it, as a key of the catalogue; nothing
/// in a project in which no program ranked.
pub(crate) async fn choose_simulated(
    state: &AppState,
    project: &Project,
    input: &mut FilterInput,
) -> AppResult<Option<&'static str>> {
    let fewest = FEWEST as i64;
    let mut db = state.db.acquire().await?;
    let found = store::simulated::find(&mut db, project.id, fewest).await?;
    let is_alone = found.has_any && found.n_by_people < fewest;
    let note = match input.simulated.as_str() {
        _ if !found.has_any => None,
        "" if is_alone => Some("figures-simulated-alone"),
        "true" => Some("figures-simulated-in"),
        _ => Some("figures-simulated-out"),
    };
    if input.simulated.is_empty() {
        input.simulated = is_alone.to_string();
    }
    Ok(note)
}

/// Until when rankings are in the figures.
pub(crate) fn newest(page: &Page, at: &DateTime<Utc>) -> String {
    page.t_with("figures-newest", "at", page.time(at))
}

#[derive(Template)]
#[template(path = "agreement/index.html")]
struct AgreementPage {
    page: Page,
    form: Option<FilterForm>,
    /// What has to be said of simulated labelers.
    note: Option<String>,
    query: AgreementQuery,
    found: std::sync::Arc<Agreement>,
    sections: Vec<Section>,
    downloads: Vec<(String, String)>,
    json: String,
}

impl AgreementPage {
    fn policies(&self) -> [(&'static str, String); 3] {
        POLICIES.map(|(word, _)| {
            let key = format!("agreement-policy-{}", word.replace('_', "-"));
            (word, self.page.t(&key))
        })
    }

    fn sorts(&self) -> [(&'static str, String); 12] {
        SORTS.map(|word| {
            let key = format!("agreement-sort-{}", word.replace('_', "-"));
            (word, self.page.t(&key))
        })
    }

    fn about(&self) -> String {
        let found = &self.found;
        let values = [
            ("rankings", found.n_rankings),
            ("prompts", found.n_prompts),
            (
                "labelers",
                found
                    .labelers
                    .iter()
                    .filter(|own| own.n_rankings > 0)
                    .count(),
            ),
            ("gold", found.n_gold),
            ("repeats", found.n_repeats),
            ("decisions", found.n_adjudications),
        ];
        let values = values.map(|(name, n)| (name, n.to_string()));
        let about = self.page.t_args("agreement-about", &values);
        match &found.newest {
            Some(at) => format!("{about} {}", newest(&self.page, at)),
            None => about,
        }
    }
}

#[derive(Template)]
#[template(path = "agreement/show.html")]
struct LabelerPage {
    page: Page,
    back: String,
    about: String,
    fewest: usize,
    is_simulated: bool,
    sections: Vec<Section>,
}

/// Whose figures, of which project.
struct Place {
    projects: Vec<Project>,
    project: Option<Project>,
    form: Form,
    choices: Choices,
}

async fn find_place(state: &AppState, visitor: &Visitor, slug: &str) -> AppResult<Place> {
    let mut db = state.db.acquire().await?;
    let projects = store::members::list_administered(&mut db, visitor.account_id).await?;
    let project = choose_project(&projects, slug)?;
    let (mut form, mut choices) = (None, Choices::default());
    if let Some(project) = &project {
        form = store::projects::find_form(&mut db, project.id).await?;
        choices = store::labels::find_choices(&mut db, project.id).await?;
    }
    let form = form.map(|(_, fields)| serde_json::from_value(fields));
    let form: Option<Form> = form.transpose().map_err(anyhow::Error::from)?;
    Ok(Place {
        form: form.unwrap_or_default(),
        projects,
        project,
        choices,
    })
}

/// `GET /agreement`.
pub async fn index(
    State(state): State<AppState>,
    page: Page,
    ProjectAdmin(visitor): ProjectAdmin,
    Query(mut query): Query<AgreementQuery>,
) -> AppResult<Response> {
    let policy = query.policy()?;
    query.filter()?;
    let sort = query.sort()?.to_owned();
    let page = page.titled("agreement-title");
    let place = find_place(&state, &visitor, &query.project).await?;
    let Some(project) = place.project else {
        let body = render(&AgreementPage {
            page,
            form: None,
            note: None,
            query,
            found: std::sync::Arc::new(Agreement::of(&Default::default(), 0)),
            sections: Vec::new(),
            downloads: Vec::new(),
            json: String::new(),
        })?;
        return Ok(body.into_response());
    };
    let note = choose_simulated(&state, &project, &mut query.filter).await?;
    let found = figures::agreement(&state, project.id, &query.filter()?).await?;
    let kept = query_of(&project, &query.filter, &[("ties", &query.ties)]);
    let view = View {
        words: Words { page: &page },
        policy,
        sort: &sort,
        form: &place.form,
        least_seconds: found.least_seconds,
        query: &kept,
        is_whole: false,
    };
    let sections = view.sections(&found);
    let downloads = tables(
        &View {
            is_whole: true,
            ..view
        }
        .sections(&found),
    );
    let downloads = downloads.into_iter().map(|table| {
        let more = [("ties", query.ties.as_str()), ("table", table.id)];
        let address = format!(
            "/agreement/export{}",
            query_of(&project, &query.filter, &more)
        );
        (address, format!("{}.csv", table.id))
    });
    let downloads = downloads.collect();
    let json = filter_of(&query.filter, &[]);
    let body = render(&AgreementPage {
        json: format!("/api/v1/projects/{}/agreement?{json}", project.id),
        sections,
        downloads,
        note: note.map(|key| page.t_with(key, "fewest", FEWEST)),
        form: Some(FilterForm {
            projects: place.projects,
            project,
            input: query.filter.clone(),
            choices: place.choices,
        }),
        page,
        query,
        found,
    })?;
    Ok(body.into_response())
}

/// Every table of the sections.
fn tables(sections: &[Section]) -> Vec<FigureTable> {
    let own = sections.iter();
    own.flat_map(|section| section.tables.iter().chain(&section.more))
        .cloned()
        .collect()
}

/// `GET /agreement/export?table=`: a table as CSV, with all its rows, in English.
pub async fn export(
    State(state): State<AppState>,
    mut page: Page,
    ProjectAdmin(visitor): ProjectAdmin,
    Query(mut query): Query<AgreementQuery>,
) -> AppResult<Response> {
    let policy = query.policy()?;
    query.filter()?;
    let place = find_place(&state, &visitor, &query.project).await?;
    let project = place.project.ok_or(AppError::NotFound("project"))?;
    choose_simulated(&state, &project, &mut query.filter).await?;
    let found = figures::agreement(&state, project.id, &query.filter()?).await?;
    page.lang = Lang::En;
    let view = View {
        words: Words { page: &page },
        policy,
        sort: "name",
        form: &place.form,
        least_seconds: found.least_seconds,
        query: "",
        is_whole: true,
    };
    download(&tables(&view.sections(&found)), &query.table, &project.slug)
}

/// `GET /agreement/labelers/{id}`: one labeler of a project.
pub async fn show(
    State(state): State<AppState>,
    mut page: Page,
    ProjectAdmin(visitor): ProjectAdmin,
    Path(id): Path<AccountId>,
    Query(mut query): Query<AgreementQuery>,
) -> AppResult<Response> {
    let policy = query.policy()?;
    query.filter()?;
    let place = find_place(&state, &visitor, &query.project).await?;
    let project = place.project.ok_or(AppError::NotFound("project"))?;
    choose_simulated(&state, &project, &mut query.filter).await?;
    let filter = query.filter()?;
    let mut db = state.db.acquire().await?;
    let account = store::accounts::find(&mut db, id).await?;
    let account = account.ok_or(AppError::NotFound("account"))?;
    drop(db);
    page.title.clone_from(&account.name);
    let found = figures::agreement(&state, project.id, &filter).await?;
    let history = figures::history(&state, project.id, &filter, id).await?;
    let own = found.labelers.iter().find(|own| own.labeler_id == id);
    // The names of all accounts are not for an admin of one project.
    if own.is_none() && !visitor.is_admin {
        return Err(AppError::NotFound("account"));
    }
    let kept = query_of(&project, &query.filter, &[("ties", &query.ties)]);
    let view = View {
        words: Words { page: &page },
        policy,
        sort: "",
        form: &place.form,
        least_seconds: found.least_seconds,
        query: &kept,
        is_whole: false,
    };
    let sections = match (own, history.as_ref()) {
        (Some(own), Some(history)) => view.of_labeler(&found, own, history),
        _ => Vec::new(),
    };
    let n = own.map_or(0, |own| own.n_rankings);
    let policy = format!("agreement-ties-{}", query.policy_word().replace('_', "-"));
    let values = [
        ("n", n.to_string()),
        ("project", project.name.clone()),
        ("policy", page.t(&policy)),
    ];
    let body = render(&LabelerPage {
        back: format!("/agreement{kept}"),
        about: page.t_args("agreement-labeler-about", &values),
        is_simulated: account.is_simulated,
        fewest: found.fewest,
        page,
        sections,
    })?;
    Ok(body.into_response())
}
