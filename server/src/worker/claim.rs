//! The life of a run in a worker: claim, heartbeat, work, end.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc::unbounded_channel;
use tokio_util::sync::CancellationToken;
use trainer::TrainerError;
use trainer::checkpoint::{CheckpointInfo, inspect};
use trainer::progress::Progress;
use trainer::run_folder::RunFolder;
use trainer::savepoint::SavePolicy;

use crate::config::DataConfig;
use crate::domain::ids::{CheckpointId, PromptId, SnapshotId};
use crate::domain::run::{GenerationConfig, RunKind};
use crate::exchange::export::write_snapshot;
use crate::store;
use crate::store::completions::NewCompletion;
use crate::store::runs::{Ending, Run};
use crate::worker::generation::{Answered, GenerationJob, draw_candidates};
use crate::worker::report::{Reporter, StopFlag, persist, write_events};
use crate::worker::train::{TrainingJob, read_config, train};

/// How often a worker says that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// How often an idle worker looks at the queue.
const POLL: Duration = Duration::from_secs(1);

/// A worker: one run at a time.
#[derive(Debug, Clone)]
pub struct Worker {
    /// The database.
    pub db: PgPool,
    /// Where run folders live.
    pub data: DataConfig,
    /// Its name, one for each process.
    pub name: String,
}

/// What a run made, on its way into the database.
enum Product {
    Checkpoint {
        path: PathBuf,
        info: CheckpointInfo,
        summary: Value,
    },
    Candidates {
        config: GenerationConfig,
        answered: Vec<Answered>,
    },
}

impl Worker {
    /// Works until `stop`, or, if `until_idle`, until the queue is empty.
    ///
    /// # Errors
    /// Never for what a run does wrong; when the database stays away.
    pub async fn run(&self, stop: &CancellationToken, until_idle: bool) -> anyhow::Result<()> {
        let mut failures = 0;
        let mut was_cut_off_at: Option<Instant> = None;
        while !stop.is_cancelled() {
            // After an outage others get the time to speak again, as in [`Worker::beat`].
            let claimed = match was_cut_off_at {
                Some(at) if at.elapsed() < 2 * HEARTBEAT => self.claim().await,
                _ => self.claim_next().await,
            };
            match claimed {
                Ok(Some(run)) => {
                    failures = 0;
                    self.execute(&run, stop).await;
                    continue;
                }
                Ok(None) if until_idle => return Ok(()),
                Ok(None) => failures = 0,
                Err(error) if failures >= 30 => return Err(error.into()),
                Err(error) => {
                    failures += 1;
                    was_cut_off_at = Some(Instant::now());
                    tracing::warn!(%error, "the queue of runs cannot be read, trying again");
                }
            }
            tokio::select! {
                () = stop.cancelled() => (),
                () = tokio::time::sleep(POLL) => (),
            }
        }
        Ok(())
    }

    /// Gives up runs whose worker is silent, then claims the next one.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn claim_next(&self) -> sqlx::Result<Option<Run>> {
        self.watch_others().await?;
        self.claim().await
    }

    /// Claims the next run, whole or not at all.
    async fn claim(&self) -> sqlx::Result<Option<Run>> {
        let mut transaction = self.db.begin().await?;
        let runs_dir = self.data.runs_dir();
        let runs_dir = runs_dir.to_string_lossy();
        let run = store::runs::claim(&mut transaction, &self.name, &runs_dir).await?;
        transaction.commit().await?;
        Ok(run)
    }

    /// Carries out a claimed run and ends it; what goes wrong is its last words.
    pub async fn execute(&self, run: &Run, stop: &CancellationToken) {
        tracing::info!(id = %run.id, kind = run.kind, name = run.name, "run claimed");
        let flag = StopFlag::default();
        let (sender, receiver) = unbounded_channel();
        let worker = self.name.clone();
        let writer = write_events(self.db.clone(), run.id, worker, receiver, flag.clone());
        let writer = tokio::spawn(writer);
        let heart = tokio::spawn(self.clone().beat(run.clone(), stop.clone(), flag.clone()));

        let made = self.work(run, Reporter::new(sender, flag.clone())).await;
        if let Err(error) = writer.await {
            tracing::error!(id = %run.id, %error, "the writer of events ended");
        }
        let ended = self.end(run, made, stop.is_cancelled()).await;
        heart.abort();
        match ended {
            Ok(status) => tracing::info!(id = %run.id, status, "run ended"),
            Err(error) => {
                tracing::error!(id = %run.id, error = format!("{error:#}"), "the run's end is not recorded");
            }
        }
    }

    /// Says that the worker is alive, hears whether the run is to stop, and gives up runs of
    /// other workers that are silent.
    async fn beat(self, run: Run, stop: CancellationToken, flag: StopFlag) {
        let mut ticks = tokio::time::interval(HEARTBEAT);
        // A worker that was cut off does not judge others before they could speak again: what
        // kept it from the database may have kept them.
        let mut was_heard = false;
        loop {
            tokio::select! {
                _ = ticks.tick() => (),
                () = stop.cancelled(), if !flag.is_raised() => flag.raise(),
            }
            match self.heartbeat(&run).await {
                Ok(asked) => {
                    if asked != Some(false) {
                        flag.raise();
                    }
                    if was_heard && let Err(error) = self.watch_others().await {
                        tracing::warn!(%error, "silent workers cannot be looked for");
                    }
                    was_heard = true;
                }
                Err(error) => {
                    was_heard = false;
                    tracing::warn!(id = %run.id, %error, "no heartbeat");
                }
            }
        }
    }

    /// Whether the run is to stop; none when it is no longer this worker's.
    async fn heartbeat(&self, run: &Run) -> sqlx::Result<Option<bool>> {
        let mut db = self.db.acquire().await?;
        store::runs::heartbeat(&mut db, run.id, &self.name).await
    }

    /// Gives up runs whose worker is silent, as [`Worker::claim_next`] does, for while this worker
    /// claims nothing.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn watch_others(&self) -> sqlx::Result<()> {
        let mut transaction = self.db.begin().await?;
        give_up_silent(&mut transaction).await?;
        transaction.commit().await
    }

    /// Writes the data, then trains or generates on a blocking thread.
    async fn work(&self, run: &Run, mut reporter: Reporter) -> anyhow::Result<Product> {
        let kind: RunKind = run
            .kind
            .parse()
            .map_err(|message: String| anyhow!(message))?;
        let folder = run.folder.as_ref().context("the run has no folder")?;
        let out = PathBuf::from(folder);
        let mut db = self.db.acquire().await?;
        tokio::fs::create_dir_all(&out)
            .await
            .with_context(|| format!("{folder} cannot be made"))?;
        let snapshot = run.snapshot_id.context("the run names no snapshot")?;
        let data = out.join("data.jsonl");
        write_data(&mut db, snapshot, &data).await?;
        let texts = write_optional(&mut db, run.texts_snapshot_id, &out, "texts.jsonl").await?;
        let demonstrations = run.demonstrations_snapshot_id;
        let demonstrations =
            write_optional(&mut db, demonstrations, &out, "demonstrations.jsonl").await?;
        let base = run
            .base_checkpoint_id
            .context("the run names no base checkpoint")?;
        let base = find_folder(&mut db, base).await?;
        let reward = find_optional(&mut db, run.reward_checkpoint_id).await?;
        let gold = find_optional(&mut db, run.gold_checkpoint_id).await?;
        drop(db);
        let config = run.config.clone();
        // Somebody worked on it before and was stopped.
        let resume = out.join("config.json").exists();
        let job = TrainingJob {
            kind,
            config,
            data,
            texts,
            demonstrations,
            base,
            reward,
            gold,
            out,
            preset: run.preset.parse().ok(),
            saving: SavePolicy {
                resume,
                ..SavePolicy::default()
            },
        };
        let work = move || match kind {
            RunKind::Generation => generate(&job, &mut reporter),
            RunKind::Sft | RunKind::Reward | RunKind::Ppo | RunKind::Dpo => {
                fit(&job, &mut reporter)
            }
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(made) => Ok(made?),
            Err(error) if error.is_panic() => {
                bail!(
                    "the trainer panicked: {}",
                    panic_message(&*error.into_panic())
                )
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Records what the run made and that it ended, in one transaction. A database that is away
    /// for a moment is waited for, since hours of training may hang on it.
    async fn end(
        &self,
        run: &Run,
        made: anyhow::Result<Product>,
        is_stopping: bool,
    ) -> anyhow::Result<&'static str> {
        let ending = match made {
            Ok(product) => match persist(run.id, || self.store_product(run, &product)).await {
                Ok(true) => return Ok("finished"),
                Ok(false) => return Ok("no longer this worker's"),
                Err(error) => Ending::Failed(format!("{error:#}")),
            },
            Err(error) if is_cancelled(&error) => {
                match persist(run.id, || self.heartbeat(run)).await? {
                    None => return Ok("no longer this worker's"),
                    Some(true) => Ending::Cancelled,
                    Some(false) if is_stopping => {
                        Ending::Failed("the worker was stopped before the run ended".to_owned())
                    }
                    Some(false) => Ending::Failed("its events could not be written".to_owned()),
                }
            }
            Err(error) => Ending::Failed(format!("{error:#}")),
        };
        persist(run.id, || self.finish(run, &ending)).await?;
        Ok(match ending {
            Ending::Finished(_) => "finished",
            Ending::Failed(_) => "failed",
            Ending::Cancelled => "cancelled",
        })
    }

    async fn finish(&self, run: &Run, ending: &Ending) -> sqlx::Result<()> {
        let mut transaction = self.db.begin().await?;
        store::runs::finish(&mut transaction, run.id, &self.name, ending).await?;
        transaction.commit().await
    }

    async fn store_product(&self, run: &Run, product: &Product) -> anyhow::Result<bool> {
        let mut transaction = self.db.begin().await?;
        let summary = match product {
            Product::Checkpoint {
                path,
                info,
                summary,
            } => {
                let path = path.to_string_lossy();
                let parent = run.base_checkpoint_id;
                let db = &mut *transaction;
                let id =
                    store::checkpoints::insert(db, &run.name, &path, info, Some(run.id), parent)
                        .await?;
                let event = ("checkpoint".to_owned(), json!({"id": id, "path": path}));
                store::runs::record(&mut transaction, run.id, &self.name, &[event]).await?;
                summary.clone()
            }
            Product::Candidates { config, answered } => {
                store_candidates(&mut transaction, run, config, answered).await?
            }
        };
        let ending = Ending::Finished(summary);
        let is_ours = store::runs::finish(&mut transaction, run.id, &self.name, &ending).await?;
        if is_ours {
            transaction.commit().await?;
        }
        Ok(is_ours)
    }
}

async fn give_up_silent(db: &mut PgConnection) -> sqlx::Result<()> {
    for id in store::runs::fail_silent(db).await? {
        tracing::warn!(%id, "a run's worker stopped reporting");
    }
    Ok(())
}

fn is_cancelled(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(TrainerError::Cancelled))
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| {
            payload
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
        })
        .unwrap_or_else(|| "no message".to_owned())
}

/// Writes a snapshot's items to a file, and checks that they are still what was frozen.
async fn write_data(db: &mut PgConnection, id: SnapshotId, path: &Path) -> anyhow::Result<()> {
    let promised = store::runs::find_snapshot_sha256(&mut *db, id)
        .await?
        .context("the run's snapshot does not exist")?;
    let file = tokio::fs::File::create(path)
        .await
        .with_context(|| format!("{} cannot be written", path.display()))?;
    let mut out = tokio::io::BufWriter::new(file);
    let found = write_snapshot(db, id, &mut out).await?;
    out.flush().await?;
    if found != promised {
        bail!("the snapshot's export has SHA-256 {found}, but {promised} was frozen");
    }
    Ok(())
}

/// Writes a snapshot that a run may name to a file of its folder, if it names one.
async fn write_optional(
    db: &mut PgConnection,
    id: Option<SnapshotId>,
    out: &Path,
    name: &str,
) -> anyhow::Result<Option<PathBuf>> {
    let Some(id) = id else {
        return Ok(None);
    };
    let path = out.join(name);
    write_data(db, id, &path).await?;
    Ok(Some(path))
}

async fn find_optional(
    db: &mut PgConnection,
    id: Option<CheckpointId>,
) -> anyhow::Result<Option<PathBuf>> {
    match id {
        Some(id) => Ok(Some(find_folder(db, id).await?)),
        None => Ok(None),
    }
}

async fn find_folder(db: &mut PgConnection, id: CheckpointId) -> anyhow::Result<PathBuf> {
    let checkpoint = store::checkpoints::find(db, id).await?;
    let checkpoint = checkpoint.context("the run's checkpoint does not exist")?;
    Ok(PathBuf::from(checkpoint.path))
}

fn fit(job: &TrainingJob, progress: &mut dyn Progress) -> trainer::Result<Product> {
    let outcome = train(job, progress)?;
    Ok(Product::Checkpoint {
        info: inspect(&outcome.checkpoint)?,
        path: outcome.checkpoint,
        summary: json!(outcome.summary),
    })
}

fn generate(job: &TrainingJob, listener: &mut dyn Progress) -> trainer::Result<Product> {
    let config: GenerationConfig = read_config(&job.config)?;
    let mut folder = RunFolder::create(&job.out, &config, listener)?;
    let job = GenerationJob {
        config: config.clone(),
        model: job.base.clone(),
        prompts: job.data.clone(),
    };
    let progress: &mut dyn Progress = &mut folder;
    let answered = draw_candidates(&job, progress)?;
    progress.go_on()?;
    Ok(Product::Candidates { config, answered })
}

/// Stores completions and opens a task for each prompt; returns the run's figures.
async fn store_candidates(
    db: &mut PgConnection,
    run: &Run,
    config: &GenerationConfig,
    answered: &[Answered],
) -> anyhow::Result<Value> {
    let snapshot = run.snapshot_id.context("the run names no snapshot")?;
    let prompts = store::runs::list_snapshot_items(&mut *db, snapshot).await?;
    let base = run
        .base_checkpoint_id
        .context("the run names no base checkpoint")?;
    let checkpoint = store::checkpoints::find(&mut *db, base).await?;
    let model = checkpoint
        .context("the run's checkpoint does not exist")?
        .name;
    let mut n_completions = 0;
    for prompt in answered {
        // Line n of the data file is item n of the snapshot.
        let prompt_id = prompts.get(prompt.index).copied().map(PromptId);
        let prompt_id = prompt_id.context("the snapshot has fewer items than its export")?;
        let completions = prompt.completions.iter().map(|drawn| NewCompletion {
            text: drawn.text.clone(),
            model: model.clone(),
            checkpoint_id: Some(base),
            sampling: config.describe(drawn.stream),
            is_finished: drawn.is_finished,
        });
        let completions: Vec<NewCompletion> = completions.collect();
        n_completions += completions.len();
        let project = run.project_id;
        store::completions::insert_task(
            db,
            project,
            prompt_id,
            &completions,
            config.overlap,
            Some(run.id),
        )
        .await?;
    }
    store::queue_order::place_new(&mut *db, run.project_id).await?;
    Ok(json!({
        "tasks": answered.len(),
        "completions": n_completions,
        "prompts_left_out": prompts.len() - answered.len(),
    }))
}
