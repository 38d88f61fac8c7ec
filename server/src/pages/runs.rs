//! `/runs`: operators start runs, watch them and stop them.

use std::path::Path as FilePath;

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Redirect, Response};
use axum_extra::extract::Form;
use serde_json::Value;
use trainer::config::Preset;

use crate::auth::visitor::Operator;
use crate::domain::ids::{CheckpointId, RunId, SnapshotId};
use crate::domain::run::RunKind;
use crate::error::{AppError, AppResult, FieldError};
use crate::pages::run_form::RunForm;
use crate::state::AppState;
use crate::store;
use crate::store::checkpoints::Checkpoint;
use crate::store::run_events::RunEvent;
use crate::store::runs::{Run, SnapshotChoice};
use crate::web::chart::Chart;
use crate::web::page::{Page, render};

/// Runs on the list.
const LISTED: i64 = 200;

/// Log lines shown of a run; the stream and the files have all.
const LOG_LINES: i64 = 300;

/// Metrics rows read for the curves, the newest.
const METRIC_ROWS: i64 = 20_000;

/// Files of a run's folder that may be downloaded.
const FILES: [&str; 3] = ["config.json", "metrics.jsonl", "samples.jsonl"];

#[derive(Template)]
#[template(path = "runs/index.html")]
struct RunsPage {
    page: Page,
    runs: Vec<Run>,
    kinds: [RunKind; 4],
}

/// `GET /runs`.
pub async fn index(State(state): State<AppState>, page: Page, _: Operator) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let runs = store::runs::list(&mut db, LISTED).await?;
    let page = page.titled("runs-title");
    let kinds = RunKind::ALL;
    Ok(render(&RunsPage { page, runs, kinds })?.into_response())
}

#[derive(Template)]
#[template(path = "runs/new.html")]
struct NewRunPage {
    page: Page,
    kind: RunKind,
    kinds: [RunKind; 4],
    presets: [Preset; 3],
    form: RunForm,
    errors: Vec<FieldError>,
    models: Vec<Checkpoint>,
    rewards: Vec<Checkpoint>,
    snapshots: Vec<SnapshotChoice>,
    texts: Vec<SnapshotChoice>,
    demonstrations: Vec<SnapshotChoice>,
}

/// Which form is asked for.
#[derive(Debug, serde::Deserialize)]
pub struct NewQuery {
    kind: Option<String>,
}

/// `GET /runs/new?kind=`.
pub async fn new(
    State(state): State<AppState>,
    page: Page,
    _: Operator,
    Query(query): Query<NewQuery>,
) -> AppResult<Response> {
    let kind = query.kind.as_deref().unwrap_or("generation");
    let kind: RunKind = kind
        .parse()
        .map_err(|message: String| AppError::invalid("kind", message))?;
    show_form(&state, page, kind, RunForm::new(kind), Vec::new()).await
}

async fn show_form(
    state: &AppState,
    page: Page,
    kind: RunKind,
    form: RunForm,
    errors: Vec<FieldError>,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let checkpoints = store::checkpoints::list(&mut db).await?;
    let snapshots = store::runs::list_snapshots(&mut db).await?;
    drop(db);
    let (rewards, models) = checkpoints
        .into_iter()
        .partition(|one| one.kind == "reward");
    let of_kind = |kind: &str| -> Vec<SnapshotChoice> {
        let found = snapshots.iter().filter(|one| one.kind == kind);
        found.cloned().collect()
    };
    let status = match errors.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::UNPROCESSABLE_ENTITY,
    };
    let body = render(&NewRunPage {
        page: page.titled("runs-new"),
        kind,
        kinds: RunKind::ALL,
        presets: Preset::ALL,
        form,
        errors,
        models,
        rewards,
        snapshots: of_kind(kind.snapshot_kind()),
        texts: of_kind("texts"),
        demonstrations: of_kind("demonstrations"),
    })?;
    Ok((status, body).into_response())
}

/// `POST /runs`: queues a run.
pub async fn create(
    State(state): State<AppState>,
    page: Page,
    Operator(operator): Operator,
    Form(form): Form<RunForm>,
) -> AppResult<Response> {
    let kind: RunKind = form
        .kind
        .parse()
        .map_err(|message: String| AppError::invalid("kind", message))?;
    let mut transaction = state.db.begin().await?;
    match form
        .queue(&mut transaction, kind, operator.account_id)
        .await
    {
        Ok(id) => {
            transaction.commit().await?;
            Ok(Redirect::to(&format!("/runs/{id}")).into_response())
        }
        Err(AppError::Invalid(errors)) => {
            drop(transaction);
            show_form(&state, page, kind, form, errors).await
        }
        Err(error) => Err(error),
    }
}

#[derive(Template)]
#[template(path = "runs/show.html")]
struct RunPage {
    page: Page,
    run: Run,
    last_seq: i64,
    charts: Vec<Chart>,
    checks: Vec<Check>,
    lines: Vec<Line>,
    samples: Vec<SampleView>,
    base: Option<Checkpoint>,
    reward: Option<Checkpoint>,
    made: Option<CheckpointId>,
    snapshot: Option<SnapshotChoice>,
    texts: Option<SnapshotChoice>,
    demonstrations: Option<SnapshotChoice>,
    config: String,
    figures: Vec<(String, String)>,
    files: Vec<&'static str>,
    n_tasks: i64,
}

impl RunPage {
    fn status_text(&self) -> String {
        status_text(&self.page, &self.run.status)
    }
}

impl RunsPage {
    fn status_text(&self, status: &str) -> String {
        status_text(&self.page, status)
    }

    fn start_text(&self, kind: &RunKind) -> String {
        self.page.t(&format!("runs-start-{kind}"))
    }
}

impl NewRunPage {
    fn start_text(&self, kind: &RunKind) -> String {
        self.page.t(&format!("runs-start-{kind}"))
    }

    fn about_text(&self) -> String {
        self.page.t(&format!("runs-about-{}", self.kind))
    }

    fn snapshot_text(&self) -> String {
        self.page
            .t(&format!("runs-snapshot-{}", self.kind.snapshot_kind()))
    }

    fn preset_text(&self, preset: &Preset) -> String {
        self.page.t(&format!("runs-preset-{}", preset.as_str()))
    }
}

fn status_text(page: &Page, status: &str) -> String {
    page.t(&format!("runs-status-{status}"))
}

/// A check at the start of the run.
struct Check {
    name: String,
    passed: bool,
    detail: String,
}

/// A line of the log.
struct Line {
    time: String,
    text: String,
}

/// A prompt with what was answered before and after training.
#[derive(Default)]
struct SampleView {
    prompt: String,
    before: Option<Answer>,
    after: Option<Answer>,
}

/// One completion to look at.
struct Answer {
    text: String,
    reward: Option<String>,
    kl: Option<String>,
    is_cut_off: bool,
}

/// `GET /runs/{id}`.
pub async fn show(
    State(state): State<AppState>,
    page: Page,
    _: Operator,
    Path(id): Path<RunId>,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    // The number first: what comes after it arrives by the stream.
    let last_seq = store::run_events::last_seq(&mut db, id).await?;
    let run = store::runs::find(&mut db, id)
        .await?
        .ok_or(AppError::NotFound("run"))?;
    let db = &mut *db;
    let of_kind = async |db: &mut sqlx::PgConnection, kind: &str, limit: i64| {
        store::run_events::list_kind(db, id, kind, last_seq, limit).await
    };
    let metrics = of_kind(db, "metrics", METRIC_ROWS).await?;
    let checks = of_kind(db, "check", 100).await?;
    let lines = of_kind(db, "log", LOG_LINES).await?;
    let samples = of_kind(db, "sample", 200).await?;
    let snapshots = store::runs::list_snapshots(&mut *db).await?;
    let chosen = |id: Option<SnapshotId>| {
        let found = snapshots.iter().find(|one| Some(one.id) == id);
        found.cloned()
    };
    let body = RunPage {
        last_seq,
        charts: Chart::from_metrics(metrics.iter().map(|event| &event.data)),
        checks: checks.iter().map(to_check).collect(),
        lines: lines.iter().map(to_line).collect(),
        samples: pair_samples(&samples),
        base: find_checkpoint(db, run.base_checkpoint_id).await?,
        reward: find_checkpoint(db, run.reward_checkpoint_id).await?,
        made: store::checkpoints::find_of_run(db, id).await?,
        n_tasks: store::completions::count_tasks_of_run(db, id).await?,
        snapshot: chosen(run.snapshot_id),
        texts: chosen(run.texts_snapshot_id),
        demonstrations: chosen(run.demonstrations_snapshot_id),
        config: format!("{:#}", run.config),
        figures: figures(&run.summary),
        files: present_files(run.folder.as_deref()),
        page: Page {
            title: run.name.clone(),
            ..page
        },
        run,
    };
    Ok(render(&body)?.into_response())
}

async fn find_checkpoint(
    db: &mut sqlx::PgConnection,
    id: Option<CheckpointId>,
) -> AppResult<Option<Checkpoint>> {
    match id {
        Some(id) => Ok(store::checkpoints::find(db, id).await?),
        None => Ok(None),
    }
}

fn to_check(event: &RunEvent) -> Check {
    let text = |name: &str| event.data[name].as_str().unwrap_or_default().to_owned();
    Check {
        name: text("name"),
        passed: event.data["passed"].as_bool().unwrap_or(false),
        detail: text("detail"),
    }
}

fn to_line(event: &RunEvent) -> Line {
    Line {
        time: event.at.format("%H:%M:%S").to_string(),
        text: event.data["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
    }
}

/// Puts answers to the same prompt side by side. Answers without a moment (of a generation run)
/// stand alone, as answers after.
fn pair_samples(events: &[RunEvent]) -> Vec<SampleView> {
    let mut views: Vec<(Option<i64>, SampleView)> = Vec::new();
    for event in events {
        let data = &event.data["data"];
        let index = data["prompt_index"].as_i64();
        let known = views
            .iter()
            .position(|(known, _)| index.is_some() && *known == index);
        let place = known.unwrap_or_else(|| {
            let prompt = prompt_text(&data["prompt"]);
            views.push((
                index,
                SampleView {
                    prompt,
                    ..SampleView::default()
                },
            ));
            views.len() - 1
        });
        let number = |name: &str| data[name].as_f64().map(|value| format!("{value:.3}"));
        let answer = Answer {
            text: data["completion"].as_str().unwrap_or_default().to_owned(),
            reward: number("reward"),
            kl: number("kl"),
            is_cut_off: data["is_finished"].as_bool() == Some(false),
        };
        match data["moment"].as_str() {
            Some("before") => views[place].1.before = Some(answer),
            _ => views[place].1.after = Some(answer),
        }
    }
    views.into_iter().map(|(_, view)| view).collect()
}

/// A prompt is a text or turns.
fn prompt_text(prompt: &Value) -> String {
    match prompt.as_array() {
        Some(turns) => {
            let turns = turns.iter().map(|turn| {
                let text = |name: &str| turn[name].as_str().unwrap_or_default();
                format!("{}: {}", text("role"), text("content"))
            });
            turns.collect::<Vec<_>>().join("\n")
        }
        None => prompt.as_str().unwrap_or_default().to_owned(),
    }
}

fn figures(summary: &Value) -> Vec<(String, String)> {
    let fields = summary.as_object().into_iter().flatten();
    fields
        .map(|(name, value)| {
            let text = match value.as_f64() {
                Some(number) if !value.is_i64() && !value.is_u64() => format!("{number:.4}"),
                _ => value.to_string(),
            };
            (name.clone(), text)
        })
        .collect()
}

fn present_files(folder: Option<&str>) -> Vec<&'static str> {
    let Some(folder) = folder else {
        return Vec::new();
    };
    let files = FILES.into_iter();
    files
        .filter(|name| FilePath::new(folder).join(name).is_file())
        .collect()
}

/// `POST /runs/{id}/cancel`.
pub async fn cancel(
    State(state): State<AppState>,
    _: Operator,
    Path(id): Path<RunId>,
) -> AppResult<Redirect> {
    let mut transaction = state.db.begin().await?;
    store::runs::find(&mut transaction, id)
        .await?
        .ok_or(AppError::NotFound("run"))?;
    if !store::runs::request_cancel(&mut transaction, id).await? {
        return Err(AppError::Conflict("this run is over already".to_owned()));
    }
    transaction.commit().await?;
    Ok(Redirect::to(&format!("/runs/{id}")))
}

/// `GET /runs/{id}/files/{name}`: settings, metrics or samples from the run's folder.
pub async fn file(
    State(state): State<AppState>,
    _: Operator,
    Path((id, name)): Path<(RunId, String)>,
) -> AppResult<Response> {
    let name = FILES
        .into_iter()
        .find(|known| *known == name)
        .ok_or(AppError::NotFound("file"))?;
    let mut db = state.db.acquire().await?;
    let run = store::runs::find(&mut db, id)
        .await?
        .ok_or(AppError::NotFound("run"))?;
    drop(db);
    let folder = run.folder.ok_or(AppError::NotFound("file"))?;
    let file = tokio::fs::File::open(FilePath::new(&folder).join(name))
        .await
        .map_err(|_| AppError::NotFound("file"))?;
    let kind = match name.ends_with(".json") {
        true => "application/json",
        false => "application/x-ndjson",
    };
    let disposition = format!("attachment; filename=\"run-{id}-{name}\"");
    let body = axum::body::Body::from_stream(tokio_util::io::ReaderStream::new(file));
    Ok((
        [
            (CONTENT_TYPE, kind.to_owned()),
            (CONTENT_DISPOSITION, disposition),
        ],
        body,
    )
        .into_response())
}
