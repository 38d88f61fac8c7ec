//! Calls the trainer with the settings of a run. The worker and `plackett train` share this, so a
//! run by page and a run by command are the same run.

use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use trainer::config::Preset;
use trainer::config::sources::name_preset;
use trainer::dpo::DpoJob;
use trainer::memory::Plan;
use trainer::ppo::{Gold, PpoJob};
use trainer::progress::Progress;
use trainer::reward::RewardJob;
use trainer::savepoint::SavePolicy;
use trainer::sft::{Outcome, SftJob};
use trainer::{Result, TrainerError};

use crate::domain::run::RunKind;
use crate::worker::ended;

/// A training run: every setting and every file.
#[derive(Debug, Clone)]
pub struct TrainingJob {
    /// `Sft`, `Reward`, `Ppo` or `Dpo`.
    pub kind: RunKind,
    /// Every setting, as resolved by [`crate::domain::run::resolve_config`].
    pub config: Value,
    /// Demonstrations, rankings or prompts, JSONL.
    pub data: PathBuf,
    /// Texts for the pretraining term of PPO, or to mix in with demonstrations.
    pub texts: Option<PathBuf>,
    /// Demonstrations whose mean score a reward model takes as zero.
    pub demonstrations: Option<PathBuf>,
    /// The model to start from.
    pub base: PathBuf,
    /// The reward model of PPO, or one that judges the epochs of SFT.
    pub reward: Option<PathBuf>,
    /// A second reward model, whose scores of PPO's completions are only shown.
    pub gold: Option<PathBuf>,
    /// The run's folder.
    pub out: PathBuf,
    /// The preset that was chosen, where that is known: the run's folder names it.
    pub preset: Option<Preset>,
    /// When savepoints are kept, and whether to go on from one.
    pub saving: SavePolicy,
}

/// The job as the trainer knows it.
enum Job {
    Sft(SftJob),
    Reward(RewardJob),
    Ppo(Box<PpoJob>),
    Dpo(DpoJob),
}

impl Job {
    fn of(job: &TrainingJob) -> Result<Self> {
        Ok(match job.kind {
            RunKind::Sft => Self::Sft(SftJob {
                config: read_config(&job.config)?,
                data: job.data.clone(),
                texts: job.texts.clone(),
                base: job.base.clone(),
                reward: job.reward.clone(),
                out: job.out.clone(),
                saving: job.saving,
            }),
            RunKind::Reward => Self::Reward(RewardJob {
                config: read_config(&job.config)?,
                data: job.data.clone(),
                demonstrations: job.demonstrations.clone(),
                base: job.base.clone(),
                out: job.out.clone(),
                saving: job.saving,
            }),
            RunKind::Ppo => Self::Ppo(Box::new(PpoJob {
                config: read_config(&job.config)?,
                prompts: job.data.clone(),
                texts: job.texts.clone(),
                base: job.base.clone(),
                reward: job.reward.clone().ok_or(TrainerError::Config {
                    field: "reward".into(),
                    message: "PPO needs a reward model".to_owned(),
                })?,
                gold: job.gold.clone().map(Gold::Model),
                out: job.out.clone(),
                saving: job.saving,
            })),
            RunKind::Dpo => Self::Dpo(DpoJob {
                config: read_config(&job.config)?,
                data: job.data.clone(),
                base: job.base.clone(),
                out: job.out.clone(),
                saving: job.saving,
            }),
            RunKind::Generation => {
                return Err(TrainerError::Config {
                    field: "kind".into(),
                    message: "generation trains nothing".to_owned(),
                });
            }
        })
    }
}

/// Runs the job to its end on this thread. One that is to go on and had come to its end already
/// trains nothing again.
///
/// # Errors
/// What the trainer says; `Config` when PPO has no reward model or the settings do not fit.
pub fn train(job: &TrainingJob, progress: &mut dyn Progress) -> Result<Outcome> {
    if let Some(made) = ended::find(job, progress)? {
        return Ok(made);
    }
    let made = match Job::of(job)? {
        Job::Sft(job) => trainer::sft::run(&job, progress),
        Job::Reward(job) => trainer::reward::run(&job, progress),
        Job::Ppo(job) => trainer::ppo::run(&job, progress),
        Job::Dpo(job) => trainer::dpo::run(&job, progress),
    };
    // Also of a run that was stopped or failed.
    let named = match (job.kind.trains(), job.preset) {
        (Some(kind), Some(preset)) => name_preset(&job.out, kind, preset, &settings(job)?),
        _ => Ok(()),
    };
    let made = made?;
    named.map(|()| made)
}

/// Every setting of the job, as its checkpoint will name them.
///
/// # Errors
/// `Config`, as [`read_config`] says.
pub fn settings(job: &TrainingJob) -> Result<Value> {
    Ok(match Job::of(job)? {
        Job::Sft(job) => json!(job.config),
        Job::Reward(job) => json!(job.config),
        Job::Ppo(job) => json!(job.config),
        Job::Dpo(job) => json!(job.config),
    })
}

/// How the job would take its batches apart, and what memory it would need, without training.
///
/// # Errors
/// As [`train`] says of data and settings, and when nothing fits the limit on memory.
pub fn estimate(job: &TrainingJob) -> Result<Plan> {
    match Job::of(job)? {
        Job::Sft(job) => trainer::sft::estimate(&job),
        Job::Reward(job) => trainer::reward::estimate(&job),
        Job::Ppo(job) => trainer::ppo::estimate(&job),
        Job::Dpo(job) => trainer::dpo::estimate(&job),
    }
}

/// The settings of a run's row as the trainer's type.
///
/// # Errors
/// `Config`, naming the setting.
pub fn read_config<C: DeserializeOwned>(config: &Value) -> Result<C> {
    serde_json::from_value(config.clone()).map_err(|error| TrainerError::Config {
        field: "config".into(),
        message: error.to_string(),
    })
}
