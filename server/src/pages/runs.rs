//! `/runs`: operators start runs, watch them and stop them.

use std::path::Path as FilePath;

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Redirect, Response};
use axum_extra::extract::Form;
use trainer::config::Preset;

use crate::auth::visitor::Operator;
use crate::domain::audit::AuditAction;
use crate::domain::ids::{AccountId, CheckpointId, RunId, SnapshotId};
use crate::domain::run::RunKind;
use crate::error::{AppError, AppResult, FieldError};
use crate::message::Message;
use crate::pages::run_figures::{self, Curve, Fact, Headline};
use crate::pages::run_form::RunForm;
use crate::pages::run_over_optimisation::{self, FIRST_BATCH, Frontier};
use crate::pages::run_report::{self, ReportView};
use crate::pages::run_samples::{self, Sample};
use crate::pages::run_settings::{self, SettingRow};
use crate::state::AppState;
use crate::store;
use crate::store::audit_events::NewEvent;
use crate::store::checkpoints::Checkpoint;
use crate::store::run_events::RunEvent;
use crate::store::runs::{Run, SnapshotChoice};
use crate::web::page::{Page, render};

/// Runs on the list.
const LISTED: i64 = 200;

/// Log lines shown of a run; the stream and the files have all.
const LOG_LINES: i64 = 300;

/// Metrics rows read for the curves, the newest.
const METRIC_ROWS: i64 = 20_000;

/// Prompts whose answers are shown, the first ones: the same before and after training.
const ANSWERED_PROMPTS: i64 = 100;

/// Completions shown of a run that draws them, the newest.
const COMPLETIONS: i64 = 200;

/// Samples shown at once; the others wait, so that the curves are not far below.
const SAMPLES: usize = 4;

/// Files of a run's folder that may be downloaded.
const FILES: [&str; 5] = [
    "config.json",
    "metrics.jsonl",
    "samples.jsonl",
    "config_sources.json",
    "report.json",
];

#[derive(Template)]
#[template(path = "runs/index.html")]
struct RunsPage {
    page: Page,
    runs: Vec<Run>,
    kinds: [RunKind; RunKind::ALL.len()],
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
    kinds: [RunKind; RunKind::ALL.len()],
    presets: Vec<Preset>,
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
        .map_err(|_: String| AppError::invalid("kind", Message::new("error-unknown-choice")))?;
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
        presets: kind.presets(),
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
        .map_err(|_: String| AppError::invalid("kind", Message::new("error-unknown-choice")))?;
    let mut transaction = state.db.begin().await?;
    match form
        .queue(&mut transaction, kind, operator.account_id)
        .await
    {
        Ok(id) => {
            let deed = AuditAction::RunStarted;
            note(&mut transaction, operator.account_id, deed, id).await?;
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

/// Notes what an operator did with a run.
async fn note(
    db: &mut sqlx::PgConnection,
    operator: AccountId,
    deed: AuditAction,
    id: RunId,
) -> AppResult<()> {
    let run = store::runs::find(&mut *db, id).await?;
    let run = run.ok_or(AppError::NotFound("run"))?;
    let event = NewEvent::by(operator, deed).to("run", id.0);
    let event = event.within(run.project_id);
    let event = event.with(serde_json::json!({"kind": run.kind}));
    Ok(store::audit_events::record(db, event).await?)
}

#[derive(Template)]
#[template(path = "runs/show.html")]
struct RunPage {
    page: Page,
    run: Run,
    last_seq: i64,
    headlines: Vec<Headline>,
    report: Option<ReportView>,
    samples: Vec<Sample>,
    more_samples: Vec<Sample>,
    curves: Vec<Curve>,
    more_curves: Vec<Curve>,
    facts: Vec<Fact>,
    checks: Vec<Check>,
    lines: Vec<Line>,
    base: Option<Checkpoint>,
    reward: Option<Checkpoint>,
    gold: Option<Checkpoint>,
    made: Option<CheckpointId>,
    snapshot: Option<SnapshotChoice>,
    texts: Option<SnapshotChoice>,
    demonstrations: Option<SnapshotChoice>,
    settings: Vec<SettingRow>,
    over_optimisation: Option<Frontier>,
    files: Vec<&'static str>,
    n_tasks: i64,
}

impl RunPage {
    fn status_text(&self) -> String {
        status_text(&self.page, &self.run.status)
    }

    /// How many rows of all a table has.
    fn chosen(&self, n: usize, all: usize) -> [(&'static str, String); 2] {
        [("n", n.to_string()), ("all", all.to_string())]
    }

    /// Why a finished PPO run did fewer iterations than it was asked for.
    fn early_end(&self) -> Option<String> {
        let (summary, config) = (&self.run.summary, &self.run.config);
        let (done, all) = (
            summary["n_iterations"].as_f64()?,
            config["iterations"].as_f64()?,
        );
        if done >= all {
            return None;
        }
        let rule = |name: &str| config["stop"][name].as_f64().unwrap_or_default();
        let values = [
            ("done", done),
            ("all", all),
            ("budget", config["kl_budget"].as_f64()?),
            ("deviations", rule("reward_drop")),
            ("eos", rule("eos_floor")),
            ("spread", rule("spread_floor")),
            ("patience", rule("patience")),
        ];
        let values = values.map(|(name, value)| (name, value.to_string()));
        // An older trainer knew one reason only, and did not name it.
        let reasons = summary.as_object()?.keys();
        let mut reasons = reasons.filter_map(|key| key.strip_prefix("stopped_by_"));
        let reason = reasons.next().unwrap_or("kl_budget");
        let key = format!("runs-ended-by-{}", reason.replace('_', "-"));
        Some(self.page.t_args(&key, &values))
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

    /// A snapshot as a choice. A narrow list cuts the end off, so what tells it from others comes
    /// first, and the project last.
    fn choice_text(&self, snapshot: &SnapshotChoice) -> String {
        let count = |noun: &str, n: i64| self.page.t_with(&format!("snapshots-n-{noun}"), "n", n);
        let mut parts = vec![
            snapshot.name.clone(),
            count(&snapshot.kind, snapshot.n_items),
        ];
        if snapshot.kind == "rankings" {
            parts.push(count("prompts", snapshot.n_prompts));
        }
        if snapshot.includes_simulated {
            parts.push(self.page.t("snapshots-simulated"));
        }
        parts.push(self.page.short_time(&snapshot.created_at));
        let lists = [&self.snapshots, &self.texts, &self.demonstrations];
        let mut choices = lists.into_iter().flatten();
        if choices.any(|other| other.project_id != snapshot.project_id) {
            parts.push(snapshot.project.clone());
        }
        parts.join(" · ")
    }

    /// A model as a choice, likewise: runs of one name make models of one name.
    fn model_text(&self, model: &Checkpoint) -> String {
        let kind = self.page.t(&format!("checkpoints-kind-{}", model.kind));
        let size = format!("{} M", model.millions());
        let made = self.page.short_time(&model.created_at);
        [model.name.clone(), kind, size, made].join(" · ")
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
    // Gains are measured from the first batch, which a long run told too long ago to be among those.
    let first_batch = match metrics.len() as i64 == METRIC_ROWS {
        true => {
            let (name, step) = (run_over_optimisation::DISTANCE, FIRST_BATCH as i64);
            store::run_events::find_metrics(&mut *db, id, name, step, last_seq).await?
        }
        false => None,
    };
    let mut samples =
        store::run_events::list_answers(&mut *db, id, ANSWERED_PROMPTS, last_seq).await?;
    if samples.is_empty() {
        samples = of_kind(db, "sample", COMPLETIONS).await?;
    }
    let report = run_report::find(&mut *db, &page, id, last_seq).await?;
    let snapshots = store::runs::list_snapshots(&mut *db).await?;
    let chosen = |id: Option<SnapshotId>| {
        let found = snapshots.iter().find(|one| Some(one.id) == id);
        found.cloned()
    };
    let charts = run_figures::charts(&run, metrics.iter().map(|event| &event.data));
    let headlines = run_figures::headlines(&page, &run, &charts);
    let batches = first_batch.iter().chain(&metrics);
    let over_optimisation = run_over_optimisation::find(&page, batches.map(|event| &event.data));
    let (curves, more_curves) = run_figures::curves(&page, charts);
    let mut samples = run_samples::pair(&samples);
    let more_samples = samples.split_off(samples.len().min(SAMPLES));
    let body = RunPage {
        last_seq,
        headlines,
        report,
        over_optimisation,
        samples,
        more_samples,
        curves,
        more_curves,
        facts: run_figures::facts(&page, &run.summary),
        checks: checks.iter().map(to_check).collect(),
        lines: lines.iter().map(to_line).collect(),
        base: store::checkpoints::find_optional(db, run.base_checkpoint_id).await?,
        reward: store::checkpoints::find_optional(db, run.reward_checkpoint_id).await?,
        gold: store::checkpoints::find_optional(db, run.gold_checkpoint_id).await?,
        made: store::checkpoints::find_of_run(db, id).await?,
        n_tasks: store::completions::count_tasks_of_run(db, id).await?,
        snapshot: chosen(run.snapshot_id),
        texts: chosen(run.texts_snapshot_id),
        demonstrations: chosen(run.demonstrations_snapshot_id),
        settings: run_settings::rows(&page, &run),
        files: present_files(run.folder.as_deref()),
        page: Page {
            title: run.name.clone(),
            ..page
        },
        run,
    };
    Ok(render(&body)?.into_response())
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
    Operator(operator): Operator,
    Path(id): Path<RunId>,
) -> AppResult<Redirect> {
    let mut transaction = state.db.begin().await?;
    store::runs::find(&mut transaction, id)
        .await?
        .ok_or(AppError::NotFound("run"))?;
    if !store::runs::request_cancel(&mut transaction, id).await? {
        return Err(AppError::conflict("error-run-over"));
    }
    let deed = AuditAction::RunStopped;
    note(&mut transaction, operator.account_id, deed, id).await?;
    transaction.commit().await?;
    Ok(Redirect::to(&format!("/runs/{id}")))
}

/// `POST /runs/{id}/resume`: goes on where it stopped.
pub async fn resume(
    State(state): State<AppState>,
    Operator(operator): Operator,
    Path(id): Path<RunId>,
) -> AppResult<Redirect> {
    let mut transaction = state.db.begin().await?;
    store::runs::find(&mut transaction, id)
        .await?
        .ok_or(AppError::NotFound("run"))?;
    if !store::runs::resume(&mut transaction, id).await? {
        return Err(AppError::conflict("error-run-cannot-resume"));
    }
    let deed = AuditAction::RunResumed;
    note(&mut transaction, operator.account_id, deed, id).await?;
    transaction.commit().await?;
    Ok(Redirect::to(&format!("/runs/{id}")))
}

/// `GET /runs/{id}/files/{name}`: settings, metrics, samples or the report from the run's folder.
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
