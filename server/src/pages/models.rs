//! `/models`: the models whose completions were ranked, compared. For those who administer the project,
//! and for operators; labelers never see it, since models are named here.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};

use crate::auth::visitor::Visitor;
use crate::domain::agreement::{FEWEST, Figure};
use crate::domain::labels::FilterInput;
use crate::domain::models::{ModelFigures, Models, PairOfModels};
use crate::error::{AppError, AppResult};
use crate::figures;
use crate::i18n::Lang;
use crate::pages::agreement::{FilterForm, choose_simulated, filter_of, newest, query_of};
use crate::pages::figure_sections::{Matrix, MatrixCell, MatrixRow, Section};
use crate::pages::figure_tables::{Column, FigureTable, Picture, Row, Unit, Words, download};
use crate::pages::prompts::choose_project;
use crate::pages::snapshots::list_projects;
use crate::state::AppState;
use crate::store;
use crate::store::labels::MOST;
use crate::web::gauge::Gauge;
use crate::web::page::{Page, render};

/// Models that are shown as a matrix, at most.
const MOST_IN_MATRIX: usize = 12;

/// Pairs on the page.
const MOST_PAIRS: usize = 20;

/// What is looked at.
#[derive(Debug, Default, Clone, serde::Deserialize)]
pub struct ModelsQuery {
    /// Short name of the project; the first one when empty.
    #[serde(default)]
    project: String,
    /// Which rankings.
    #[serde(flatten)]
    filter: FilterInput,
    /// Of a download: which table.
    #[serde(default)]
    table: String,
}

#[derive(Template)]
#[template(path = "models/index.html")]
struct ModelsPage {
    page: Page,
    form: Option<FilterForm>,
    about: String,
    notes: Vec<String>,
    sections: Vec<Section>,
    downloads: Vec<(String, String)>,
    json: String,
}

/// Those who train and those who look after the data may know which model is which.
///
/// # Errors
/// `Forbidden` for everybody else.
pub fn check_may_see(visitor: &Visitor) -> AppResult<()> {
    if visitor.is_project_admin || visitor.is_operator {
        Ok(())
    } else {
        Err(AppError::Forbidden("admin"))
    }
}

/// `GET /models`.
pub async fn index(
    State(state): State<AppState>,
    page: Page,
    visitor: Visitor,
    Query(mut query): Query<ModelsQuery>,
) -> AppResult<Response> {
    check_may_see(&visitor)?;
    query.filter.parse().map_err(AppError::Invalid)?;
    let page = page.titled("models-title");
    let mut db = state.db.acquire().await?;
    let projects = list_projects(&mut db, &visitor).await?;
    let Some(project) = choose_project(&projects, &query.project)? else {
        drop(db);
        let body = render(&ModelsPage {
            page,
            form: None,
            about: String::new(),
            notes: Vec::new(),
            sections: Vec::new(),
            downloads: Vec::new(),
            json: String::new(),
        })?;
        return Ok(body.into_response());
    };
    let choices = store::labels::find_choices(&mut db, project.id).await?;
    drop(db);
    let note = choose_simulated(&state, &project, &mut query.filter).await?;
    let note = note.map(|key| page.t_with(key, "fewest", FEWEST));
    let filter = query.filter.parse().map_err(AppError::Invalid)?;
    let found = figures::models(&state, project.id, &filter).await?;
    let view = View {
        words: Words { page: &page },
        may_see_checkpoints: visitor.is_operator,
        is_whole: false,
    };
    let sections = view.sections(&found);
    let downloads = sections
        .iter()
        .flat_map(|section| &section.tables)
        .map(|table| {
            let more = [("table", table.id)];
            let address = format!("/models/export{}", query_of(&project, &query.filter, &more));
            (address, format!("{}.csv", table.id))
        });
    let mut downloads: Vec<(String, String)> = downloads.collect();
    downloads.dedup();
    let body = render(&ModelsPage {
        json: format!(
            "/api/v1/projects/{}/models?{}",
            project.id,
            filter_of(&query.filter, &[])
        ),
        about: view.about(&found),
        notes: note.into_iter().chain(view.notes(&found)).collect(),
        sections,
        downloads,
        form: Some(FilterForm {
            projects,
            project,
            input: query.filter,
            choices,
        }),
        page,
    })?;
    Ok(body.into_response())
}

/// `GET /models/export?table=`: a table as CSV, with all its rows, in English.
pub async fn export(
    State(state): State<AppState>,
    mut page: Page,
    visitor: Visitor,
    Query(mut query): Query<ModelsQuery>,
) -> AppResult<Response> {
    check_may_see(&visitor)?;
    query.filter.parse().map_err(AppError::Invalid)?;
    let mut db = state.db.acquire().await?;
    let projects = list_projects(&mut db, &visitor).await?;
    drop(db);
    let project = choose_project(&projects, &query.project)?;
    let project = project.ok_or(AppError::NotFound("project"))?;
    choose_simulated(&state, &project, &mut query.filter).await?;
    let filter = query.filter.parse().map_err(AppError::Invalid)?;
    let found: Arc<Models> = figures::models(&state, project.id, &filter).await?;
    page.lang = Lang::En;
    let view = View {
        words: Words { page: &page },
        may_see_checkpoints: false,
        is_whole: true,
    };
    let sections = view.sections(&found).into_iter();
    let tables: Vec<FigureTable> = sections.flat_map(|section| section.tables).collect();
    download(&tables, &query.table, &project.slug)
}

/// The scale that holds the strengths of all of these models.
fn scale_of<'a>(models: impl IntoIterator<Item = &'a ModelFigures>) -> (f64, f64) {
    let figures = models
        .into_iter()
        .flat_map(|own| [&own.davidson, &own.plackett_luce]);
    let told: Vec<(f64, Option<(f64, f64)>)> = figures
        .filter_map(|figure: &Figure| Some((figure.value?, figure.interval())))
        .collect();
    Gauge::scale(told.iter())
}

/// What makes sections of figures.
struct View<'a> {
    words: Words<'a>,
    may_see_checkpoints: bool,
    is_whole: bool,
}

impl View<'_> {
    fn t(&self, key: &str) -> String {
        self.words.page.t(key)
    }

    fn about(&self, found: &Models) -> String {
        let values = [
            ("rankings", found.n_rankings),
            ("prompts", found.n_prompts),
            ("models", found.models.len()),
        ];
        let values = values.map(|(name, n)| (name, n.to_string()));
        let about = self.words.page.t_args("models-about", &values);
        match &found.newest {
            Some(at) => format!("{about} {}", newest(self.words.page, at)),
            None => about,
        }
    }

    /// What has to be known before the figures are read.
    fn notes(&self, found: &Models) -> Vec<String> {
        let mut notes = Vec::new();
        if found.is_cut {
            notes.push(self.words.page.t_with("figures-cut", "most", MOST));
        }
        if found.models.len() == 1 {
            notes.push(self.t("models-only-one"));
        }
        if found.n_groups > 1 {
            let groups = (1..=found.n_groups).map(|group| {
                let members = found.models.iter().filter(|own| own.group == group);
                let names: Vec<&str> = members.map(|own| own.name.as_str()).collect();
                format!("{group}: {}", names.join(", "))
            });
            let groups: Vec<String> = groups.collect();
            let values = [
                ("n", found.n_groups.to_string()),
                ("groups", groups.join("; ")),
            ];
            notes.push(self.words.page.t_args("models-groups", &values));
        }
        if found.is_undetermined {
            notes.push(self.t("models-undetermined"));
        }
        notes
    }

    fn section(&self, id: &'static str, tables: Vec<FigureTable>) -> Section {
        Section {
            id,
            title: self.t(&format!("models-{id}")),
            help: self.t(&format!("models-{id}-help")),
            timeline: None,
            matrix: None,
            tables,
            more: Vec::new(),
        }
    }

    fn sections(&self, found: &Models) -> Vec<Section> {
        let strengths = self.models(
            "strengths",
            self.t("models-strengths"),
            &found.models,
            scale_of(&found.models),
        );
        let ties = found.ties.iter().enumerate().map(|(group, figure)| {
            let name = match found.ties.len() {
                1 => self.t("models-nu"),
                _ => self.words.page.t_with("models-nu-of", "group", group + 1),
            };
            let cell = self.words.number(figure, Unit::Comparisons);
            Row::new(format!("group {}", group + 1), name, vec![cell])
                .noted(self.t("models-nu-meaning"))
        });
        let ties = FigureTable {
            id: "ties",
            title: self.t("models-ties"),
            of: self.t("figures-of"),
            columns: vec![self.words.plain_column("nu", "models-figure")],
            rows: ties.collect(),
        };
        let mut sections = vec![
            self.section("strengths", vec![strengths, ties]),
            Section {
                matrix: self.matrix(found),
                ..self.section("pairs", vec![self.pairs(found)])
            },
        ];
        let all = found.categories.iter().flat_map(|own| &own.models);
        let scale = scale_of(all);
        let categories = found.categories.iter().map(|own| {
            let values = [
                ("category", self.words.page.category(&own.category)),
                ("rankings", own.n_rankings.to_string()),
                ("prompts", own.n_prompts.to_string()),
            ];
            let mut title = self.words.page.t_args("models-category", &values);
            if own.is_undetermined {
                title = format!("{title}. {}", self.t("models-undetermined"));
            }
            let mut table = self.models("categories", title, &own.models, scale);
            // Said once, above.
            table
                .columns
                .iter_mut()
                .for_each(|column| column.meaning.clear());
            if self.is_whole {
                for row in &mut table.rows {
                    let category = self.words.page.category(&own.category);
                    row.name = format!("{category}: {}", row.name);
                }
            }
            table
        });
        let mut categories: Vec<FigureTable> = categories.collect();
        if self.is_whole && !categories.is_empty() {
            let rows = categories
                .iter()
                .flat_map(|table| table.rows.clone())
                .collect();
            categories.truncate(1);
            categories
                .iter_mut()
                .for_each(|table| table.rows.clone_from(&rows));
        }
        sections.push(self.section("categories", categories));
        sections
    }

    fn models(
        &self,
        id: &'static str,
        title: String,
        models: &[ModelFigures],
        scale: (f64, f64),
    ) -> FigureTable {
        let words = &self.words;
        let rows = models.iter().map(|own| {
            let cells = vec![
                words.on_scale(&own.davidson, Unit::Comparisons, scale),
                words.on_scale(&own.plackett_luce, Unit::RankingsOfPrompts, scale),
                words.share(&own.win_rate, Unit::Comparisons, (None, Some(0.5))),
            ];
            let key = own
                .checkpoint_id
                .map_or(own.name.clone(), |id| id.to_string());
            let n = words
                .page
                .t_with("agreement-n-rankings", "n", own.n_rankings);
            let row = Row::new(key, &own.name, cells).noted(n);
            match own.checkpoint_id.filter(|_| self.may_see_checkpoints) {
                Some(id) => row.linked(format!("/checkpoints/{id}")),
                None => row,
            }
        });
        FigureTable {
            id,
            title,
            of: self.t("models-model"),
            columns: self.columns(),
            rows: rows.collect(),
        }
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            self.words.column("davidson", "models-davidson"),
            self.words.column("plackett_luce", "models-plackett-luce"),
            self.words.column("win_rate", "models-win-rate"),
        ]
    }

    fn pairs(&self, found: &Models) -> FigureTable {
        let most = if self.is_whole {
            usize::MAX
        } else {
            MOST_PAIRS
        };
        let name = |place: usize| found.models[place].name.as_str();
        let row = |pair: &PairOfModels| {
            let cell = self
                .words
                .share(&pair.rate, Unit::Comparisons, (None, Some(0.5)));
            let versus = format!("{} : {}", name(pair.first), name(pair.second));
            let values = [
                ("wins", pair.wins),
                ("ties", pair.ties),
                ("losses", pair.losses),
            ];
            let values = values.map(|(name, n)| (name, n.to_string()));
            let note = self.words.page.t_args("models-counts", &values);
            let difference = self.words.number(&pair.difference, Unit::Prompts);
            Row::new(versus.clone(), versus, vec![cell, difference]).noted(note)
        };
        FigureTable {
            id: "pairs",
            title: self.t("models-pairs"),
            of: self.t("models-two"),
            columns: vec![
                self.words.column("win_rate", "models-first-wins"),
                self.words.column("difference", "models-difference"),
            ],
            rows: found.pairs.iter().take(most).map(row).collect(),
        }
    }

    /// How often the model of a row is preferred to that of a column, where they are few.
    fn matrix(&self, found: &Models) -> Option<Matrix> {
        let n = found.models.len();
        if !(3..=MOST_IN_MATRIX).contains(&n) {
            return None;
        }
        let figure = |row: usize, column: usize| {
            let pair = |a, b| {
                found
                    .pairs
                    .iter()
                    .find(|own| (own.first, own.second) == (a, b))
            };
            let flip = |end: f64| 1.0 - end;
            match (pair(row, column), pair(column, row)) {
                (Some(pair), _) => pair.rate,
                (_, Some(pair)) => Figure {
                    value: pair.rate.value.map(flip),
                    low: pair.rate.high.map(flip),
                    high: pair.rate.low.map(flip),
                    ..pair.rate
                },
                _ => Figure::default(),
            }
        };
        let rows = (0..n).map(|row| MatrixRow {
            name: found.models[row].name.clone(),
            cells: (0..n)
                .map(|column| {
                    let cell = MatrixCell::new(&figure(row, column), [0.35, 0.45, 0.55, 0.65]);
                    (row != column).then_some(cell)
                })
                .collect(),
        });
        Some(Matrix {
            title: self.t("models-matrix"),
            rows: rows.collect(),
        })
    }
}
