//! Settings of direct preference optimisation. None of it is in InstructGPT; "the DPO paper" is
//! Rafailov et al. 2023, arXiv 2305.18290.

use serde::{Deserialize, Serialize};

use super::{Preset, adam, check_adam, check_memory, check_schedule, in_range, trainable};
use crate::error::Result;
use crate::loss::direct::DirectLoss;
use crate::model::weights::Trainable;
use crate::optim::AdamConfig;
use crate::schedule::Schedule;

/// Direct preference optimisation on rankings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DpoConfig {
    /// Seed of shuffling and splitting.
    pub seed: u64,
    /// Train this many upper layers; none trains everything.
    pub train_layers: Option<usize>,
    /// Passes over the rankings (the DPO paper does not print it; 1 as InstructGPT's reward model,
    /// C.2).
    pub epochs: usize,
    /// Prompts in a step, each with all its pairs (the DPO paper, appendix B: 64 pairs;
    /// InstructGPT's reward model, C.2: 64 prompts).
    pub batch_prompts: usize,
    /// Prompt and completion together must fit this many tokens (InstructGPT, C: 2048).
    pub max_tokens: usize,
    /// Share of the prompts held out to measure accuracy.
    pub held_out_share: f64,
    /// How strongly the policy is held to the reference: beta (not in InstructGPT; 0.1 from the DPO
    /// paper, appendix B, which takes 0.5 for summaries).
    pub beta: f64,
    /// What a pair costs (the DPO paper, equation 7).
    pub loss: DirectLoss,
    /// The run is fitted to this much memory, in GiB, by micro-batches and recomputation; none is no
    /// limit (ours).
    #[serde(default)]
    pub memory_limit_gib: Option<f64>,
    /// Blocks keep only their input and run again in the backward pass: less memory, about a third
    /// more time, the same gradients. Off, it is still used where the limit asks for it (ours).
    #[serde(default)]
    pub recompute_activations: bool,
    /// Completions that pass through the network together; none is 9, or fewer where the limit on
    /// memory asks for it (ours). All of a prompt's share a backward pass.
    #[serde(default)]
    pub micro_rows: Option<usize>,
    /// The optimiser (the DPO paper, appendix B: RMSprop at 1e-6; here Adam at the same rate).
    pub optimiser: AdamConfig,
    /// Shape of the learning rate (the DPO paper, appendix B: constant after 150 steps of warm-up
    /// from 0).
    pub schedule: Schedule,
}

impl DpoConfig {
    /// The settings of a preset.
    pub fn preset(preset: Preset) -> Self {
        let base = Self {
            seed: 1,
            train_layers: None,
            epochs: 1,
            batch_prompts: 64,
            max_tokens: 2048,
            held_out_share: 0.2,
            beta: 0.1,
            loss: DirectLoss::default(),
            memory_limit_gib: None,
            recompute_activations: false,
            micro_rows: None,
            optimiser: adam(1e-6),
            schedule: Schedule::Constant {
                warmup: 150,
                from: 0.0,
            },
        };
        // Runs of fewer steps than the paper's warm-up.
        let small = Self {
            schedule: Schedule::Cosine { floor: 0.1 },
            ..base.clone()
        };
        match preset {
            Preset::Tiny => Self {
                epochs: 2,
                batch_prompts: 4,
                max_tokens: 256,
                optimiser: adam(1e-3),
                ..small
            },
            Preset::Demo => Self {
                train_layers: Some(4),
                epochs: 3,
                batch_prompts: 8,
                max_tokens: 512,
                optimiser: adam(5e-5),
                ..small
            },
            // DPO came later than both; `Preset::defines` says that one has no say here.
            Preset::Instructgpt | Preset::LmHumanPreferences => base,
            // The paper's own runs on summaries; the rows of summarize_from_feedback_details.
            Preset::Summarize => Self {
                max_tokens: 638,
                beta: 0.5,
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
        in_range("max_tokens", self.max_tokens as f64, 2.0, 1e6)?;
        in_range("beta", self.beta, 1e-4, 100.0)?;
        check_memory(self.memory_limit_gib, &[("micro_rows", self.micro_rows)])?;
        self.loss.check()?;
        check_schedule("schedule", &self.schedule)?;
        check_adam("optimiser", &self.optimiser)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use serde_json::json;

    use super::*;
    use crate::config::overlay;

    #[test]
    fn the_instructgpt_preset_holds_the_dpo_papers_constants() {
        let config = DpoConfig::preset(Preset::Instructgpt);
        assert_eq!((config.beta, config.batch_prompts), (0.1, 64));
        assert_eq!(config.optimiser.learning_rate, 1e-6);
        let warmup = Schedule::Constant {
            warmup: 150,
            from: 0.0,
        };
        assert_eq!(config.schedule, warmup);
        let plain = DirectLoss::Sigmoid {
            label_smoothing: 0.0,
        };
        assert_eq!(config.loss, plain);
        assert_eq!(DpoConfig::preset(Preset::Summarize).beta, 0.5);
    }

    #[test]
    fn another_loss_is_a_setting_and_what_is_out_of_range_is_named() {
        let preset = DpoConfig::preset(Preset::Tiny);
        let changed = |changes| overlay(&preset, &changes).unwrap();
        assert_eq!(
            changed(json!({"loss": {"kind": "ipo"}})).loss,
            DirectLoss::Ipo
        );
        let smoothed = changed(json!({"loss": {"label_smoothing": 0.1}}));
        let expected = DirectLoss::Sigmoid {
            label_smoothing: 0.1,
        };
        assert_eq!(smoothed.loss, expected);
        for (changes, field) in [
            (json!({"beta": 0}), "beta"),
            (json!({"micro_rows": 0}), "micro_rows"),
            (
                json!({"loss": {"label_smoothing": 0.5}}),
                "loss.label_smoothing",
            ),
            (json!({"optimiser": {"beta1": 1}}), "optimiser.beta1"),
        ] {
            let error = changed(changes).check().unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
    }
}
