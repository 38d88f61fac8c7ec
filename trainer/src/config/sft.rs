//! Settings of supervised fine-tuning.

use serde::{Deserialize, Serialize};

use super::{Preset, adam, check_adam, check_lora, check_schedule, in_range, trainable};
use crate::error::Result;
use crate::model::lora::LoraConfig;
use crate::model::weights::Trainable;
use crate::optim::AdamConfig;
use crate::schedule::Schedule;

/// Supervised fine-tuning on demonstrations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SftConfig {
    /// Seed of shuffling and splitting.
    pub seed: u64,
    /// Train this many upper layers; none trains everything.
    pub train_layers: Option<usize>,
    /// Train low-rank adapters in place of those layers (Hu et al., arXiv 2106.09685); none, as in
    /// the paper, trains the layers themselves.
    #[serde(default)]
    pub lora: Option<LoraConfig>,
    /// Passes over the demonstrations (C.3: 2 for the start of PPO; C.1: 16 for SFT models).
    pub epochs: usize,
    /// Demonstrations in a step (C.1: 32).
    pub batch_size: usize,
    /// Demonstrations longer than this many tokens are left out, and counted.
    pub max_tokens: usize,
    /// Share of the demonstrations held out to measure the loss.
    pub held_out_share: f64,
    /// The optimiser (C.3: 5e-6 for the 1.3B model).
    pub optimiser: AdamConfig,
    /// Shape of the learning rate (C.1: cosine to 10 %).
    pub schedule: Schedule,
}

impl SftConfig {
    /// The settings of a preset.
    pub fn preset(preset: Preset) -> Self {
        let base = Self {
            seed: 1,
            train_layers: None,
            lora: None,
            epochs: 2,
            batch_size: 32,
            max_tokens: 2048,
            held_out_share: 0.1,
            optimiser: adam(5e-6),
            schedule: Schedule::Cosine { floor: 0.1 },
        };
        match preset {
            Preset::Tiny => Self {
                epochs: 3,
                batch_size: 4,
                max_tokens: 128,
                optimiser: adam(3e-3),
                ..base
            },
            Preset::Demo => Self {
                train_layers: Some(4),
                batch_size: 8,
                max_tokens: 256,
                optimiser: adam(1e-4),
                ..base
            },
            Preset::Instructgpt => base,
        }
    }

    /// What learns.
    pub fn trainable(&self) -> Trainable {
        trainable(self.train_layers)
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// Names the setting.
    pub fn check(&self) -> Result<()> {
        in_range("epochs", self.epochs as f64, 1.0, 1000.0)?;
        in_range("batch_size", self.batch_size as f64, 1.0, 1e5)?;
        in_range("held_out_share", self.held_out_share, 0.0, 0.9)?;
        in_range("max_tokens", self.max_tokens as f64, 2.0, 1e6)?;
        check_lora(self.lora.as_ref())?;
        check_schedule(&self.schedule)?;
        check_adam("optimiser", &self.optimiser)
    }
}
