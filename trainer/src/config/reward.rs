//! Settings of a reward model.

use serde::{Deserialize, Serialize};

use super::{
    Preset, adam, check_adam, check_lora, check_memory, check_schedule, in_range, tensorflow_adam,
    torch_adamw, trainable,
};
use crate::error::Result;
use crate::loss::{PreferenceModel, RankingLoss};
use crate::model::lora::LoraConfig;
use crate::model::weights::Trainable;
use crate::optim::AdamConfig;
use crate::schedule::Schedule;

fn one() -> usize {
    1
}

/// The K-wise reward model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardConfig {
    /// Seed of the head, of shuffling and splitting.
    pub seed: u64,
    /// Train this many upper layers; none trains everything.
    pub train_layers: Option<usize>,
    /// Train low-rank adapters in place of those layers (Hu et al., arXiv 2106.09685); none, as in
    /// the paper, trains the layers themselves. The head learns with it.
    #[serde(default)]
    pub lora: Option<LoraConfig>,
    /// Passes over the rankings (C.2: 1; several overfit quickly).
    pub epochs: usize,
    /// Prompts in a step, each with all its comparisons (C.2: 64).
    pub batch_prompts: usize,
    /// Prompt and completion together must fit this many tokens (C: 2048).
    pub max_tokens: usize,
    /// Share of the prompts held out to measure accuracy.
    pub held_out_share: f64,
    /// Parts that the prompts are divided into, each held out once from a model trained on the
    /// rest, so that accuracy is measured on all of them; 0 is off. (E.2 does so by labelers, see
    /// `labeler_folds`.) The checkpoint is a model of its own. Folds keep no savepoints: a run that
    /// is stopped within them begins them anew.
    #[serde(default)]
    pub cross_validation_folds: usize,
    /// Heads over one trunk, each with a seed of its own and trained on its own draw of the prompts'
    /// units with replacement (Christiano et al., arXiv 1706.03741, section 2.2.3: an ensemble of 3; InstructGPT: 1). The
    /// score is their mean, and how far they lie apart says how sure it is.
    #[serde(default = "one")]
    pub members: usize,
    /// Groups that the labelers are divided into, each held out once from a model trained on the
    /// others' rankings, to measure how well it does on labelers it has not learnt from; 0 is off.
    /// (E.2: 5.) As many more models are trained; the checkpoint is none of them.
    #[serde(default)]
    pub labeler_folds: usize,
    /// Whether each pass takes the rankings in an order of its own; off, in that of the file, as
    /// another trainer would read it.
    #[serde(default = "yes")]
    pub shuffle: bool,
    /// How a ranking becomes a loss (3.5: all strict pairs; nothing added).
    #[serde(default)]
    pub loss: RankingLoss,
    /// The run is fitted to this much memory, in GiB, by micro-batches and recomputation; none is no
    /// limit (ours).
    #[serde(default)]
    pub memory_limit_gib: Option<f64>,
    /// Blocks keep only their input and run again in the backward pass: less memory, about a third
    /// more time, the same gradients. Off, it is still used where the limit asks for it (ours).
    #[serde(default)]
    pub recompute_activations: bool,
    /// Completions that pass through the network together; none is 9, or fewer where the limit
    /// on memory asks for it (ours).
    #[serde(default)]
    pub micro_rows: Option<usize>,
    /// Prompts in one backward pass, each with all its completions; none is 4, or fewer where the
    /// limit on memory asks for it (ours).
    #[serde(default)]
    pub micro_prompts: Option<usize>,
    /// The optimiser (C.2: 9e-6).
    pub optimiser: AdamConfig,
    /// Shape of the learning rate (C.2: cosine to 10 %; whether it warms up is not printed).
    pub schedule: Schedule,
}

fn yes() -> bool {
    true
}

impl RewardConfig {
    /// The settings of a preset.
    pub fn preset(preset: Preset) -> Self {
        let base = Self {
            seed: 1,
            train_layers: None,
            lora: None,
            epochs: 1,
            batch_prompts: 64,
            max_tokens: 2048,
            held_out_share: 0.2,
            cross_validation_folds: 0,
            members: 1,
            labeler_folds: 0,
            shuffle: true,
            memory_limit_gib: None,
            recompute_activations: false,
            micro_rows: None,
            micro_prompts: None,
            loss: RankingLoss::default(),
            optimiser: adam(9e-6),
            schedule: Schedule::Cosine { floor: 0.1 },
        };
        match preset {
            Preset::Tiny => Self {
                epochs: 2,
                batch_prompts: 4,
                max_tokens: 256,
                optimiser: adam(3e-3),
                ..base
            },
            Preset::Demo => Self {
                // The output of the layers below is computed once, so that many passes over few
                // rankings cost little; docs/first-run.md has what was tried.
                train_layers: Some(2),
                epochs: 5,
                batch_prompts: 8,
                max_tokens: 512,
                // A few hundred rankings leave few for measuring.
                cross_validation_folds: 3,
                optimiser: adam(3e-4),
                ..base
            },
            Preset::Instructgpt => base,
            Preset::Summarize => Self {
                max_tokens: 638,
                optimiser: torch_adamw(3e-6),
                schedule: Schedule::Cosine { floor: 0.0 },
                ..base
            },
            Preset::LmHumanPreferences => Self {
                batch_prompts: 32,
                max_tokens: 89,
                loss: RankingLoss {
                    model: PreferenceModel::PlackettLuce,
                    ..RankingLoss::default()
                },
                optimiser: tensorflow_adam(5e-5),
                schedule: Schedule::Linear { floor: 0.0 },
                ..base
            },
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
        in_range("batch_prompts", self.batch_prompts as f64, 1.0, 1e5)?;
        in_range("held_out_share", self.held_out_share, 0.01, 0.9)?;
        for (name, folds) in [
            ("cross_validation_folds", self.cross_validation_folds),
            ("labeler_folds", self.labeler_folds),
        ] {
            if folds != 0 {
                in_range(name, folds as f64, 2.0, 100.0)?;
            }
        }
        in_range("max_tokens", self.max_tokens as f64, 2.0, 1e6)?;
        in_range("members", self.members as f64, 1.0, 64.0)?;
        let sizes = [
            ("micro_rows", self.micro_rows),
            ("micro_prompts", self.micro_prompts),
        ];
        check_memory(self.memory_limit_gib, &sizes)?;
        self.loss.check()?;
        check_lora(self.lora.as_ref())?;
        check_schedule("schedule", &self.schedule)?;
        check_adam("optimiser", &self.optimiser)
    }
}
