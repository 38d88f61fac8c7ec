//! Calls the trainer with the settings of a run. The worker and `plackett train` share this, so a
//! run by page and a run by command are the same run.

use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde_json::Value;
use trainer::dpo::DpoJob;
use trainer::ppo::PpoJob;
use trainer::progress::Progress;
use trainer::reward::RewardJob;
use trainer::savepoint::SavePolicy;
use trainer::sft::{Outcome, SftJob};
use trainer::{Result, TrainerError};

use crate::domain::run::RunKind;

/// A training run: every setting and every file.
#[derive(Debug, Clone)]
pub struct TrainingJob {
    /// `Sft`, `Reward`, `Ppo` or `Dpo`.
    pub kind: RunKind,
    /// Every setting, as resolved by [`crate::domain::run::resolve_config`].
    pub config: Value,
    /// Demonstrations, rankings or prompts, JSONL.
    pub data: PathBuf,
    /// Texts for the pretraining term of PPO.
    pub texts: Option<PathBuf>,
    /// Demonstrations whose mean score a reward model takes as zero.
    pub demonstrations: Option<PathBuf>,
    /// The model to start from.
    pub base: PathBuf,
    /// The reward model of PPO.
    pub reward: Option<PathBuf>,
    /// The run's folder.
    pub out: PathBuf,
    /// When savepoints are kept, and whether to go on from one.
    pub saving: SavePolicy,
}

/// Runs the job to its end on this thread.
///
/// # Errors
/// What the trainer says; `Config` when PPO has no reward model or the settings do not fit.
pub fn train(job: &TrainingJob, progress: &mut dyn Progress) -> Result<Outcome> {
    match job.kind {
        RunKind::Sft => {
            let job = SftJob {
                config: read_config(&job.config)?,
                data: job.data.clone(),
                base: job.base.clone(),
                out: job.out.clone(),
                saving: job.saving,
            };
            trainer::sft::run(&job, progress)
        }
        RunKind::Reward => {
            let job = RewardJob {
                config: read_config(&job.config)?,
                data: job.data.clone(),
                demonstrations: job.demonstrations.clone(),
                base: job.base.clone(),
                out: job.out.clone(),
                saving: job.saving,
            };
            trainer::reward::run(&job, progress)
        }
        RunKind::Ppo => {
            let reward = job.reward.clone().ok_or(TrainerError::Config {
                field: "reward".into(),
                message: "PPO needs a reward model".to_owned(),
            })?;
            let job = PpoJob {
                config: read_config(&job.config)?,
                prompts: job.data.clone(),
                texts: job.texts.clone(),
                base: job.base.clone(),
                reward,
                out: job.out.clone(),
                saving: job.saving,
            };
            trainer::ppo::run(&job, progress)
        }
        RunKind::Dpo => {
            let job = DpoJob {
                config: read_config(&job.config)?,
                data: job.data.clone(),
                base: job.base.clone(),
                out: job.out.clone(),
                saving: job.saving,
            };
            trainer::dpo::run(&job, progress)
        }
        RunKind::Generation => Err(TrainerError::Config {
            field: "kind".into(),
            message: "generation trains nothing".to_owned(),
        }),
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
