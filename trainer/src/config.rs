//! Every setting of a run, and the presets. A constant that InstructGPT (arXiv 2203.02155) prints
//! says where; one that it does not print says "not printed" and whose it is.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::error::{Result, TrainerError};
use crate::kl::KlControl;
use crate::model::weights::Trainable;
use crate::optim::{AdamConfig, EpsilonPlacement};
use crate::schedule::Schedule;

/// A named set of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Seconds on a tiny model, for tests.
    Tiny,
    /// Minutes for SmolLM2-135M on two CPU cores, by training the upper layers only.
    Demo,
    /// The constants of the paper. Its dropout of 0.2 and the 10 % of pretraining data in SFT are
    /// not built yet.
    Instructgpt,
}

impl Preset {
    /// Every preset, smallest first.
    pub const ALL: [Self; 3] = [Self::Tiny, Self::Demo, Self::Instructgpt];

    /// The word on the command line and in forms.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tiny => "tiny",
            Self::Demo => "demo",
            Self::Instructgpt => "instructgpt",
        }
    }
}

impl std::str::FromStr for Preset {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|preset| preset.as_str() == text)
            .ok_or_else(|| format!("unknown preset {text:?}: use tiny, demo or instructgpt"))
    }
}

/// Adam as InstructGPT has it (appendix C: betas 0.9 and 0.95); epsilon, decay and clipping are
/// not printed, see [`AdamConfig`].
fn adam(learning_rate: f64) -> AdamConfig {
    AdamConfig {
        learning_rate,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-5,
        epsilon_placement: EpsilonPlacement::Torch,
        weight_decay: 0.0,
        max_grad_norm: 1.0,
    }
}

fn trainable(layers: Option<usize>) -> Trainable {
    layers.map_or(Trainable::Everything, Trainable::UpperLayers)
}

fn in_range(field: impl Into<Cow<'static, str>>, value: f64, low: f64, high: f64) -> Result<()> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(TrainerError::Config {
        field: field.into(),
        message: format!("is {value}; it must be {low} to {high}"),
    })
}

/// Checks an optimiser that is the setting `name`.
fn check_adam(name: &str, adam: &AdamConfig) -> Result<()> {
    for (field, value, low, high) in [
        ("learning_rate", adam.learning_rate, 0.0, 1.0),
        ("beta1", adam.beta1, 0.0, 0.999_999),
        ("beta2", adam.beta2, 0.0, 0.999_999),
        // Without it, a parameter whose gradient is 0 so far would move by 0 / 0.
        ("epsilon", adam.epsilon, 1e-12, 1.0),
        ("weight_decay", adam.weight_decay, 0.0, 1.0),
        ("max_grad_norm", adam.max_grad_norm, 0.0, 1e9),
    ] {
        in_range(format!("{name}.{field}"), value, low, high)?;
    }
    Ok(())
}

fn check_schedule(schedule: &Schedule) -> Result<()> {
    match schedule {
        Schedule::Cosine { floor } => in_range("schedule.floor", *floor, 0.0, 1.0),
        Schedule::Constant { from, .. } => in_range("schedule.from", *from, 0.0, 1.0),
    }
}

/// Supervised fine-tuning on demonstrations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SftConfig {
    /// Seed of shuffling and splitting.
    pub seed: u64,
    /// Train this many upper layers; none trains everything.
    pub train_layers: Option<usize>,
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
        check_schedule(&self.schedule)?;
        check_adam("optimiser", &self.optimiser)
    }
}

/// The K-wise reward model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardConfig {
    /// Seed of the head, of shuffling and splitting.
    pub seed: u64,
    /// Train this many upper layers; none trains everything.
    pub train_layers: Option<usize>,
    /// Passes over the rankings (C.2: 1; several overfit quickly).
    pub epochs: usize,
    /// Prompts in a step, each with all its comparisons (C.2: 64).
    pub batch_prompts: usize,
    /// Prompt and completion together must fit this many tokens (C: 2048).
    pub max_tokens: usize,
    /// Share of the prompts held out to measure accuracy.
    pub held_out_share: f64,
    /// Parts that the prompts are divided into, each held out once from a model trained on the
    /// rest, so that accuracy is measured on all of them; 0 is off. (E.2 does so with 5 parts, by
    /// labelers.) The checkpoint is a model of its own.
    #[serde(default)]
    pub cross_validation_folds: usize,
    /// The optimiser (C.2: 9e-6).
    pub optimiser: AdamConfig,
    /// Shape of the learning rate (C.2: cosine to 10 %).
    pub schedule: Schedule,
}

impl RewardConfig {
    /// The settings of a preset.
    pub fn preset(preset: Preset) -> Self {
        let base = Self {
            seed: 1,
            train_layers: None,
            epochs: 1,
            batch_prompts: 64,
            max_tokens: 2048,
            held_out_share: 0.2,
            cross_validation_folds: 0,
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
        if self.cross_validation_folds != 0 {
            in_range(
                "cross_validation_folds",
                self.cross_validation_folds as f64,
                2.0,
                100.0,
            )?;
        }
        in_range("max_tokens", self.max_tokens as f64, 2.0, 1e6)?;
        check_schedule(&self.schedule)?;
        check_adam("optimiser", &self.optimiser)
    }
}

/// What happens to the score of a completion that reached its length limit without EOS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MissingEos {
    /// Minus the penalty takes the place of the score (lm-human-preferences).
    Replace,
    /// The penalty is taken off the score (TRL).
    Subtract,
}

impl MissingEos {
    /// The score that training sees.
    pub fn apply(self, score: f64, penalty: f64) -> f64 {
        match self {
            Self::Replace => -penalty,
            Self::Subtract => score - penalty,
        }
    }
}

/// PPO against a reward model, with the pretraining term (PPO-ptx).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PpoConfig {
    /// Seed of sampling and shuffling.
    pub seed: u64,
    /// Train this many upper layers of policy and value model; none trains everything.
    pub train_layers: Option<usize>,
    /// Rounds of sampling and learning (C.4: 256,000 episodes in batches of 512).
    pub iterations: usize,
    /// Episodes in a round (C.4: 512).
    pub batch_episodes: usize,
    /// Steps that a round's episodes are split into (C.4: 8 of 64).
    pub minibatches: usize,
    /// Passes over a round's episodes (C.4: 1).
    pub inner_epochs: usize,
    /// Longest completion, in tokens (C: 1,000).
    pub max_new_tokens: usize,
    /// Longest prompt, in tokens; longer ones are left out, and counted (C: 1,000).
    pub max_prompt_tokens: usize,
    /// Sampling temperature (C.4: 1); log-probabilities are taken at the same one, top-p is off.
    pub temperature: f64,
    /// Weight of the KL term for each token (C.4: 0.02).
    pub kl_coefficient: f64,
    /// How that weight moves (C.4: fixed).
    pub kl_control: KlControl,
    /// The run ends when the mean KL of a sequence exceeds this, in nats (not printed; ours).
    pub kl_budget: f64,
    /// Discount (C.4: none).
    pub gamma: f64,
    /// Lambda of the advantage estimate (not printed; 0.95 from lm-human-preferences).
    pub lambda: f64,
    /// Clipping of the policy ratio (C.4: 0.2).
    pub clip: f64,
    /// Clipping of the value's change (not printed; 0.2 from lm-human-preferences).
    pub value_clip: f64,
    /// What happens to the score of a completion that does not end with EOS (not printed;
    /// replaced as in lm-human-preferences). The reward model reads it with EOS added.
    pub missing_eos: MissingEos,
    /// How much such a completion costs (not printed; 1 from lm-human-preferences).
    pub missing_eos_penalty: f64,
    /// Weight of the pretraining gradient, gamma in the paper (C.4: 27.8); 0 is plain PPO.
    pub ptx_coefficient: f64,
    /// Pretraining examples for each episode (C.4: 8).
    pub ptx_examples_per_episode: f64,
    /// Tokens of a pretraining example.
    pub ptx_tokens: usize,
    /// The policy's optimiser (E.9: rates above 8.05e-6 diverged at 1.3B without ptx).
    pub policy_optimiser: AdamConfig,
    /// The value model's optimiser (C.4: 9e-6).
    pub value_optimiser: AdamConfig,
    /// Shape of both learning rates (C.4: constant after 10 iterations of warm-up from 1/10).
    pub schedule: Schedule,
    /// Decay of the average of weights that becomes the checkpoint (C.4: 0.992); 0 is off.
    pub ema_decay: f64,
    /// Prompts answered before and after training, for people to compare.
    pub evaluation_prompts: usize,
}

impl PpoConfig {
    /// The settings of a preset.
    pub fn preset(preset: Preset) -> Self {
        let base = Self {
            seed: 1,
            train_layers: None,
            iterations: 500,
            batch_episodes: 512,
            minibatches: 8,
            inner_epochs: 1,
            max_new_tokens: 1000,
            max_prompt_tokens: 1000,
            temperature: 1.0,
            kl_coefficient: 0.02,
            kl_control: KlControl::Fixed,
            kl_budget: 100.0,
            gamma: 1.0,
            lambda: 0.95,
            clip: 0.2,
            value_clip: 0.2,
            missing_eos: MissingEos::Replace,
            missing_eos_penalty: 1.0,
            ptx_coefficient: 27.8,
            ptx_examples_per_episode: 8.0,
            ptx_tokens: 1024,
            policy_optimiser: adam(8e-6),
            value_optimiser: adam(9e-6),
            schedule: Schedule::Constant {
                warmup: 10,
                from: 0.1,
            },
            ema_decay: 0.992,
            evaluation_prompts: 16,
        };
        let small = Self {
            minibatches: 2,
            kl_budget: 30.0,
            // A small model rarely ends within the limit of a short run; replacing every score
            // would leave nothing to learn from.
            missing_eos: MissingEos::Subtract,
            missing_eos_penalty: 0.0,
            // 27.8 is known to be unstable at small scale (DeepSpeed-Chat's notes); ours is small.
            ptx_coefficient: 0.5,
            ptx_examples_per_episode: 0.125,
            schedule: Schedule::Constant {
                warmup: 3,
                from: 0.1,
            },
            // Averaging over more steps than the run has would undo it.
            ema_decay: 0.0,
            ..base.clone()
        };
        match preset {
            Preset::Tiny => Self {
                iterations: 3,
                batch_episodes: 8,
                max_new_tokens: 8,
                max_prompt_tokens: 128,
                ptx_tokens: 32,
                policy_optimiser: adam(1e-3),
                value_optimiser: adam(1e-3),
                evaluation_prompts: 4,
                ..small
            },
            Preset::Demo => Self {
                train_layers: Some(4),
                iterations: 24,
                batch_episodes: 32,
                // Long enough for about half of the completions to end by themselves, as those do
                // that the demo's reward model learns from.
                max_new_tokens: 64,
                max_prompt_tokens: 96,
                ptx_tokens: 64,
                policy_optimiser: adam(1e-4),
                value_optimiser: adam(1e-4),
                evaluation_prompts: 48,
                ..small
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
        in_range("iterations", self.iterations as f64, 1.0, 1e7)?;
        in_range("batch_episodes", self.batch_episodes as f64, 2.0, 1e5)?;
        in_range(
            "minibatches",
            self.minibatches as f64,
            1.0,
            self.batch_episodes as f64,
        )?;
        in_range("inner_epochs", self.inner_epochs as f64, 1.0, 100.0)?;
        in_range("max_new_tokens", self.max_new_tokens as f64, 1.0, 4096.0)?;
        in_range("max_prompt_tokens", self.max_prompt_tokens as f64, 1.0, 1e6)?;
        in_range("temperature", self.temperature, 0.01, 10.0)?;
        in_range("kl_coefficient", self.kl_coefficient, 0.0, 100.0)?;
        in_range("kl_budget", self.kl_budget, 0.0, 1e9)?;
        in_range("gamma", self.gamma, 0.0, 1.0)?;
        in_range("lambda", self.lambda, 0.0, 1.0)?;
        in_range("clip", self.clip, 0.0, 10.0)?;
        in_range("value_clip", self.value_clip, 0.0, 1e9)?;
        in_range("missing_eos_penalty", self.missing_eos_penalty, -1e6, 1e6)?;
        in_range("ptx_coefficient", self.ptx_coefficient, 0.0, 1e4)?;
        in_range(
            "ptx_examples_per_episode",
            self.ptx_examples_per_episode,
            0.0,
            1e3,
        )?;
        in_range("ptx_tokens", self.ptx_tokens as f64, 2.0, 1e6)?;
        in_range("ema_decay", self.ema_decay, 0.0, 0.999_999)?;
        in_range(
            "evaluation_prompts",
            self.evaluation_prompts as f64,
            0.0,
            1e5,
        )?;
        if let KlControl::Adaptive { target, horizon } = self.kl_control {
            in_range("kl_control.target", target, 1e-6, 1e9)?;
            in_range("kl_control.horizon", horizon, 1.0, 1e12)?;
        }
        check_schedule(&self.schedule)?;
        check_adam("policy_optimiser", &self.policy_optimiser)?;
        check_adam("value_optimiser", &self.value_optimiser)
    }
}

/// Overlays settings given as JSON on a preset's; an unknown setting is an error.
///
/// # Errors
/// Names the setting.
pub fn overlay<C: Serialize + serde::de::DeserializeOwned>(
    preset: &C,
    changes: &serde_json::Value,
) -> Result<C> {
    let mut value = serde_json::to_value(preset).map_err(|error| TrainerError::Config {
        field: "config".into(),
        message: error.to_string(),
    })?;
    merge(&mut value, changes);
    serde_path_to_error::deserialize(value).map_err(|error| TrainerError::Config {
        field: error.path().to_string().into(),
        message: error.inner().to_string(),
    })
}

/// Objects are merged by key; one that names another `kind` is replaced whole, since its other
/// fields belong to that kind. A null says that an optional setting is off.
fn merge(into: &mut serde_json::Value, changes: &serde_json::Value) {
    match (into, changes) {
        (serde_json::Value::Object(into), serde_json::Value::Object(changes))
            if changes
                .get("kind")
                .is_none_or(|kind| into.get("kind") == Some(kind)) =>
        {
            for (key, change) in changes {
                merge(
                    into.entry(key.clone()).or_insert(serde_json::Value::Null),
                    change,
                );
            }
        }
        (into, change) => *into = change.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_keeps_the_rest_of_the_preset_and_an_unknown_setting_is_named() {
        let preset = PpoConfig::preset(Preset::Tiny);
        let changed = overlay(
            &preset,
            &json!({"iterations": 7, "policy_optimiser": {"learning_rate": 0.5}}),
        );
        let changed = changed.expect("known settings");
        assert_eq!(
            (changed.iterations, changed.policy_optimiser.learning_rate),
            (7, 0.5)
        );
        assert_eq!(
            changed.policy_optimiser.beta2,
            preset.policy_optimiser.beta2
        );
        let changed = overlay(
            &PpoConfig::preset(Preset::Demo),
            &json!({"train_layers": null, "schedule": {"kind": "cosine", "floor": 0.2}}),
        );
        let changed = changed.expect("known settings");
        assert_eq!(changed.train_layers, None);
        assert_eq!(changed.schedule, Schedule::Cosine { floor: 0.2 });
        let error = overlay(&preset, &json!({"iterations": "ten"})).expect_err("no number");
        assert!(error.to_string().contains("iterations"), "{error}");
        let error = overlay(&preset, &json!({"learning_rate": 1})).expect_err("unknown");
        assert!(error.to_string().contains("learning_rate"), "{error}");
    }

    #[test]
    fn a_setting_that_would_break_the_arithmetic_is_refused_by_name() {
        for (change, field) in [
            (json!({"value_clip": -0.1}), "value_clip"),
            (json!({"ptx_tokens": 0}), "ptx_tokens"),
            (
                json!({"policy_optimiser": {"beta2": 1}}),
                "policy_optimiser.beta2",
            ),
            (
                json!({"value_optimiser": {"epsilon": 0}}),
                "value_optimiser.epsilon",
            ),
            (
                json!({"value_optimiser": {"learning_rate": -1}}),
                "value_optimiser.learning_rate",
            ),
            (
                json!({"kl_control": {"kind": "adaptive", "target": 0, "horizon": 1}}),
                "kl_control.target",
            ),
        ] {
            let config = overlay(&PpoConfig::preset(Preset::Tiny), &change).expect("known");
            let error = config.check().expect_err("out of range").to_string();
            assert!(error.contains(field), "{error}");
        }
    }

    #[test]
    fn every_preset_is_within_its_ranges() {
        for preset in Preset::ALL {
            SftConfig::preset(preset).check().expect("sft");
            RewardConfig::preset(preset).check().expect("reward");
            PpoConfig::preset(preset).check().expect("ppo");
        }
    }
}
