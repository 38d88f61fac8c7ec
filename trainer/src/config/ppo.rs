//! Settings of PPO with the ptx term.

use serde::{Deserialize, Serialize};

use super::{Preset, Recipe, Setting, first_broken_rule, recipe};
use crate::optim::{AdamWSettings, EpsilonPlacement};

/// What happens to the score of a response that reached its length limit without ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MissingEos {
    /// The score is replaced by minus the penalty (openai/lm-human-preferences).
    Replace,
    /// The penalty is taken off the score (TRL).
    Subtract,
    /// Nothing.
    Keep,
}

recipe! {
    /// Settings of PPO (paper C.4 and section 3.5).
    PpoConfig {
        /// Decides the order of prompts, every sampled token and every other random choice.
        seed: u64 = [0, 0, 0], "none", "not printed; any";
        /// Responses sampled in all; the run has `episodes / rollouts_per_iteration` iterations.
        episodes: usize = [256, 384, 256_000], "responses", "paper C.4";
        /// Responses sampled in one iteration.
        rollouts_per_iteration: usize = [32, 32, 512], "responses", "paper C.4";
        /// Optimiser steps in one pass over the rollouts.
        minibatches: usize = [2, 2, 8], "steps", "paper C.4: 512 in minibatches of 64";
        /// Passes over the rollouts of one iteration.
        inner_epochs: usize = [2, 2, 1], "passes", "paper C.4";
        /// Responses in one forward pass; only memory and speed depend on it.
        micro_batch_size: usize = [16, 8, 8], "responses", "not printed; fits memory";
        /// Upper layers of policy and value model that are trained; 0 trains everything.
        trainable_layers: usize = [0, 4, 0], "layers", "paper: everything is trained";
        /// Longest prompt; longer ones are left out and counted.
        max_prompt_tokens: usize = [64, 128, 1024], "tokens", "paper appendix C";
        /// Longest response.
        max_new_tokens: usize = [12, 32, 1024], "tokens", "paper appendix C";
        /// Sampling temperature; log-probs are taken at the same one. Top-p is always off, so that the KL is the KL of
        /// what is sampled.
        temperature: f64 = [1.0, 1.0, 1.0], "none", "paper C.4";
        /// What happens to the score of a response that never ended: replace, subtract or keep.
        missing_eos: MissingEos = [MissingEos::Keep, MissingEos::Subtract, MissingEos::Replace], "none",
            "not printed; openai/lm-human-preferences";
        /// How much a response that never ended costs.
        missing_eos_penalty: f64 = [1.0, 1.0, 1.0], "reward", "not printed; openai/lm-human-preferences";
        /// Highest learning rate of the policy.
        policy_learning_rate: f64 = [2e-3, 3e-5, 8.05e-6], "per step",
            "final value not printed; E.9: above 8.05e-6 PPO diverged";
        /// Highest learning rate of the value model.
        value_learning_rate: f64 = [2e-3, 1e-4, 9e-6], "per step", "paper C.4, 1.3B and 6B";
        /// Iterations of warm-up from a tenth of the highest learning rate; constant afterwards.
        warm_up_iterations: usize = [0, 2, 10], "iterations", "paper C.4";
        /// Cost of one nat between policy and reference model.
        kl_coefficient: f64 = [0.01, 0.05, 0.02], "reward per nat", "paper C.4";
        /// KL per response to which the coefficient is steered; 0 keeps it fixed.
        kl_target: f64 = [0.0, 0.0, 0.0], "nats per response", "paper C.4: fixed";
        /// Episodes over which the steered coefficient moves.
        kl_horizon: f64 = [10_000.0, 10_000.0, 10_000.0], "responses", "not used; openai/lm-human-preferences";
        /// The run stops when the mean KL of an iteration passes it; 0 for no limit.
        kl_budget: f64 = [0.0, 20.0, 0.0], "nats per response", "not printed; no limit";
        /// Discount of later rewards.
        discount: f64 = [1.0, 1.0, 1.0], "none", "paper C.4: no discount";
        /// Lambda of generalised advantage estimation.
        lambda: f64 = [0.95, 0.95, 0.95], "none", "not printed; openai/lm-human-preferences";
        /// How far the ratio may move before the policy loss stops pushing.
        clip: f64 = [0.2, 0.2, 0.2], "ratio", "paper C.4";
        /// How far a value may move from its old one before the value loss stops pushing.
        value_clip: f64 = [0.2, 0.2, 0.2], "reward", "not printed; openai/lm-human-preferences";
        /// Weight of the value loss; policy and value model are separate, so it only meets the clipping of gradients.
        value_coefficient: f64 = [0.1, 0.1, 0.1], "none", "not printed; openai/lm-human-preferences";
        /// Whether advantages are scaled to mean 0 and variance 1 over the rollouts of one iteration.
        whiten_advantages: bool = [true, true, true], "none", "not printed; openai/lm-human-preferences";
        /// Whether rewards are scaled to variance 1, keeping their mean.
        whiten_rewards: bool = [false, false, false], "none", "not printed; off";
        /// Weight of the language-model gradient on plain text beside PPO's.
        ptx_coefficient: f64 = [0.5, 0.5, 27.8], "none", "paper C.4";
        /// Plain texts for each response, when a file of them is given.
        ptx_texts_per_episode: usize = [1, 1, 8], "texts", "paper C.4";
        /// Longest piece of a plain text.
        ptx_tokens: usize = [32, 64, 2048], "tokens", "paper appendix C";
        /// Decay of the moving average of the policy's weights, which becomes the checkpoint; 0 saves the last weights.
        average_decay: f64 = [0.0, 0.0, 0.992], "none", "paper C.4";
        /// Adam's decay of the first moment.
        beta1: f64 = [0.9, 0.9, 0.9], "none", "paper appendix C";
        /// Adam's decay of the second moment.
        beta2: f64 = [0.95, 0.95, 0.95], "none", "paper appendix C";
        /// Adam's epsilon.
        epsilon: f64 = [1e-5, 1e-5, 1e-5], "none", "not printed; openai/lm-human-preferences";
        /// Where epsilon stands: torch or tensorflow.
        epsilon_placement: EpsilonPlacement = [EpsilonPlacement::Torch, EpsilonPlacement::Torch,
            EpsilonPlacement::Torch], "none", "not printed; PyTorch";
        /// Decoupled weight decay of matrices.
        weight_decay: f64 = [0.0, 0.0, 0.0], "per learning rate", "not printed; none";
        /// Largest global norm of the gradients; 0 turns clipping off.
        max_gradient_norm: f64 = [1.0, 1.0, 1.0], "norm", "not printed; OpenRLHF";
        /// Fixed prompts that are answered before and after, with the same seed.
        evaluation_prompts: usize = [4, 8, 16], "prompts", "not printed; any";
    }
}

impl PpoConfig {
    /// The constants of both optimisers.
    #[must_use]
    pub fn optimiser(&self) -> AdamWSettings {
        AdamWSettings {
            beta1: self.beta1,
            beta2: self.beta2,
            epsilon: self.epsilon,
            epsilon_placement: self.epsilon_placement,
            weight_decay: self.weight_decay,
            max_gradient_norm: self.max_gradient_norm,
        }
    }

    /// Iterations of the whole run, at least one.
    #[must_use]
    pub fn iterations(&self) -> usize {
        (self.episodes / self.rollouts_per_iteration).max(1)
    }
}

impl Recipe for PpoConfig {
    fn preset(preset: Preset) -> Self {
        Self::defaults(preset)
    }

    fn settings() -> &'static [Setting] {
        Self::SETTINGS
    }

    fn check(&self) -> Result<(), (&'static str, &'static str)> {
        first_broken_rule(&[
            ("episodes", self.episodes > 0, "must be at least 1"),
            (
                "rollouts_per_iteration",
                self.rollouts_per_iteration > 1,
                "must be at least 2",
            ),
            (
                "minibatches",
                self.minibatches > 0 && self.minibatches <= self.rollouts_per_iteration,
                "must be at least 1 and at most rollouts_per_iteration",
            ),
            ("inner_epochs", self.inner_epochs > 0, "must be at least 1"),
            (
                "micro_batch_size",
                self.micro_batch_size > 0,
                "must be at least 1",
            ),
            (
                "max_prompt_tokens",
                self.max_prompt_tokens > 0,
                "must be at least 1",
            ),
            (
                "max_new_tokens",
                self.max_new_tokens > 0,
                "must be at least 1",
            ),
            ("temperature", self.temperature > 0.0, "must be above 0"),
            (
                "kl_coefficient",
                self.kl_coefficient >= 0.0,
                "must not be negative",
            ),
            (
                "discount",
                (0.0..=1.0).contains(&self.discount),
                "must be from 0 to 1",
            ),
            (
                "lambda",
                (0.0..=1.0).contains(&self.lambda),
                "must be from 0 to 1",
            ),
            ("clip", self.clip > 0.0, "must be above 0"),
            ("value_clip", self.value_clip > 0.0, "must be above 0"),
            (
                "average_decay",
                (0.0..1.0).contains(&self.average_decay),
                "must be at least 0 and below 1",
            ),
            ("ptx_tokens", self.ptx_tokens > 1, "must be at least 2"),
        ])
    }
}
