//! Settings of supervised fine-tuning.

use serde::{Deserialize, Serialize};

use super::{
    Preset, adam, check_adam, check_memory, check_schedule, in_range, torch_adamw, trainable,
};
use crate::error::{Result, TrainerError};
use crate::model::weights::Trainable;
use crate::optim::AdamConfig;
use crate::schedule::Schedule;

/// What is learnt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Learn {
    /// Of demonstrations, the last answer and its EOS.
    #[default]
    Answers,
    /// Of plain texts, every token: a language model's pretraining. The data are texts, and what is
    /// held out is held out by text.
    Everything,
}

impl Learn {
    /// What rows of the data are called.
    pub(crate) fn rows(self) -> &'static str {
        match self {
            Self::Answers => "demonstrations",
            Self::Everything => "rows of texts",
        }
    }
}

/// Whose epoch's weights become the checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// The last one's.
    #[default]
    Last,
    /// The one with the lowest held-out loss.
    BestLoss,
    /// The one whose answers to held-out prompts a reward model scores highest (C.1: how the
    /// paper chose, for the loss rises after one epoch while people still prefer the later ones).
    BestReward,
}

/// Supervised fine-tuning on demonstrations, or pretraining on texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SftConfig {
    /// Seed of shuffling, splitting, dropout and sampling.
    pub seed: u64,
    /// What is learnt, and of what (not printed; InstructGPT learns answers).
    #[serde(default)]
    pub learn: Learn,
    /// Train this many upper layers; none trains everything.
    pub train_layers: Option<usize>,
    /// Passes over the demonstrations (C.3: 2 for the start of PPO; C.1: 16 for SFT models).
    pub epochs: usize,
    /// Demonstrations in a step (C.1: 32).
    pub batch_size: usize,
    /// Demonstrations longer than this many tokens are left out, and counted; texts are cut into
    /// rows of so many.
    pub max_tokens: usize,
    /// Several demonstrations of a step share a row of up to this many tokens, without seeing each
    /// other: the same gradient without padding. It is also what goes through the network at
    /// once, and so bounds the memory. None pads four demonstrations to the longest of them
    /// (ours).
    #[serde(default)]
    pub pack_tokens: Option<usize>,
    /// Share of the numbers dropped from the embedding and from what each layer adds to the
    /// residual stream, in training passes only (C.1: 0.2); 0 is off.
    #[serde(default)]
    pub dropout: f64,
    /// Share of pretraining texts in the tokens that are learnt, where texts are given (C.3: 10 %
    /// pretraining data; that tokens are counted is ours).
    #[serde(default)]
    pub pretraining_share: f64,
    /// Texts are cut to rows of this many tokens.
    #[serde(default = "row_tokens")]
    pub pretraining_tokens: usize,
    /// Share of the demonstrations held out to measure the loss.
    pub held_out_share: f64,
    /// Whose epoch's weights become the checkpoint.
    #[serde(default)]
    pub keep: Keep,
    /// Held-out prompts answered after each epoch, where a reward model is given (ours).
    #[serde(default = "reward_prompts")]
    pub reward_prompts: usize,
    /// Longest of those answers, in tokens.
    #[serde(default = "reward_tokens")]
    pub reward_tokens: usize,
    /// The run is fitted to this much memory, in GiB, by micro-batches and recomputation; none is no
    /// limit (ours).
    #[serde(default)]
    pub memory_limit_gib: Option<f64>,
    /// Blocks keep only their input and run again in the backward pass: less memory, about a third
    /// more time, the same gradients. Off, it is still used where the limit asks for it (ours).
    #[serde(default)]
    pub recompute_activations: bool,
    /// Demonstrations that pass through the network together where they are not packed; none is 4,
    /// or fewer where the limit on memory asks for it (ours).
    #[serde(default)]
    pub micro_rows: Option<usize>,
    /// The optimiser (C.3: 5e-6 for the 1.3B model).
    pub optimiser: AdamConfig,
    /// Shape of the learning rate (C.1: cosine to 10 %).
    pub schedule: Schedule,
}

fn row_tokens() -> usize {
    1024
}

fn reward_prompts() -> usize {
    64
}

fn reward_tokens() -> usize {
    256
}

impl SftConfig {
    /// The settings of a preset.
    pub fn preset(preset: Preset) -> Self {
        let base = Self {
            seed: 1,
            learn: Learn::Answers,
            train_layers: None,
            epochs: 2,
            batch_size: 32,
            max_tokens: 2048,
            pack_tokens: Some(2048),
            dropout: 0.2,
            pretraining_share: 0.1,
            pretraining_tokens: row_tokens(),
            held_out_share: 0.1,
            // What the paper says of choosing an epoch is said of SFT models, not of the start of
            // PPO, which this preset is.
            keep: Keep::Last,
            reward_prompts: reward_prompts(),
            reward_tokens: reward_tokens(),
            memory_limit_gib: None,
            recompute_activations: false,
            micro_rows: None,
            optimiser: adam(5e-6),
            schedule: Schedule::Cosine { floor: 0.1 },
        };
        // Few steps on few layers do not overfit so far that dropout would help.
        let small = Self {
            dropout: 0.0,
            ..base.clone()
        };
        match preset {
            Preset::Tiny => Self {
                epochs: 3,
                batch_size: 4,
                max_tokens: 128,
                pack_tokens: Some(128),
                pretraining_tokens: 32,
                reward_prompts: 4,
                reward_tokens: 8,
                optimiser: adam(3e-3),
                ..small
            },
            Preset::Demo => Self {
                train_layers: Some(4),
                batch_size: 8,
                max_tokens: 256,
                pack_tokens: Some(1024),
                pretraining_tokens: 64,
                reward_prompts: 24,
                reward_tokens: 64,
                optimiser: adam(1e-4),
                ..small
            },
            Preset::Summarize => Self {
                epochs: 1,
                batch_size: 128,
                max_tokens: 562,
                pack_tokens: None,
                dropout: 0.0,
                pretraining_share: 0.0,
                optimiser: torch_adamw(3e-6),
                schedule: Schedule::Cosine { floor: 0.0 },
                ..base
            },
            // lm-human-preferences fine-tunes nothing, see [`Preset::defines`].
            Preset::Instructgpt | Preset::LmHumanPreferences => base,
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
        if let Some(tokens) = self.pack_tokens {
            in_range("pack_tokens", tokens as f64, 2.0, 1e6)?;
        }
        in_range("dropout", self.dropout, 0.0, 0.9)?;
        in_range("pretraining_share", self.pretraining_share, 0.0, 0.9)?;
        in_range(
            "pretraining_tokens",
            self.pretraining_tokens as f64,
            2.0,
            1e6,
        )?;
        in_range("reward_prompts", self.reward_prompts as f64, 1.0, 1e5)?;
        in_range("reward_tokens", self.reward_tokens as f64, 1.0, 4096.0)?;
        if self.keep != Keep::Last && self.held_out_share == 0.0 {
            return Err(TrainerError::Config {
                field: "keep".into(),
                message: "compares epochs by held-out demonstrations, but held_out_share is 0"
                    .to_owned(),
            });
        }
        check_memory(self.memory_limit_gib, &[("micro_rows", self.micro_rows)])?;
        check_schedule(&self.schedule)?;
        check_adam("optimiser", &self.optimiser)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use serde_json::json;

    use super::*;
    use crate::config::overlay;

    /// Settings as a run before these settings wrote them.
    #[test]
    fn settings_of_an_older_run_mean_what_they_meant() {
        let mut old = serde_json::to_value(SftConfig::preset(Preset::Tiny)).unwrap();
        for newer in [
            "pack_tokens",
            "dropout",
            "pretraining_share",
            "pretraining_tokens",
            "keep",
            "reward_prompts",
            "reward_tokens",
        ] {
            assert!(old.as_object_mut().unwrap().remove(newer).is_some());
        }
        let read: SftConfig = serde_json::from_value(old).unwrap();
        assert_eq!((read.pack_tokens, read.keep), (None, Keep::Last));
        assert_eq!((read.dropout, read.pretraining_share), (0.0, 0.0));
        read.check().unwrap();
    }

    #[test]
    fn an_epoch_cannot_be_chosen_without_held_out_demonstrations() {
        let complain = |changes| {
            let config = overlay(&SftConfig::preset(Preset::Tiny), &changes).unwrap();
            config.check().unwrap_err().to_string()
        };
        let said = complain(json!({"keep": "best_loss", "held_out_share": 0.0}));
        assert!(said.starts_with("setting keep: "), "{said}");
        let said = complain(json!({"dropout": 1.0}));
        assert!(said.starts_with("setting dropout: "), "{said}");
    }

    /// C.1 and C.3.
    #[test]
    fn the_instructgpt_preset_holds_the_papers_constants() {
        let config = SftConfig::preset(Preset::Instructgpt);
        assert_eq!((config.epochs, config.batch_size), (2, 32));
        assert_eq!((config.dropout, config.pretraining_share), (0.2, 0.1));
        assert_eq!(config.optimiser.learning_rate, 5e-6);
        assert_eq!(config.schedule, Schedule::Cosine { floor: 0.1 });
    }
}
