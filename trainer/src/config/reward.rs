//! Settings of reward-model training.

use super::{Preset, Recipe, Setting, first_broken_rule, recipe};
use crate::optim::{AdamWSettings, EpsilonPlacement};
use crate::schedule::Decay;

recipe! {
    /// Settings of reward-model training (paper C.2 and section 3.5).
    RewardConfig {
        /// Decides the split, the order of the data, the start of the head and every other random choice.
        seed: u64 = [0, 0, 0], "none", "not printed; any";
        /// How often each ranking is seen; more than one overfits quickly.
        epochs: usize = [8, 2, 1], "passes", "paper C.2";
        /// Prompts in one optimiser step, each with all its comparisons.
        batch_prompts: usize = [8, 8, 64], "prompts", "paper C.2";
        /// Completions in one forward pass of frozen parts and of evaluation; only memory and speed depend on it.
        micro_batch_size: usize = [16, 10, 16], "completions", "not printed; fits memory";
        /// Upper layers that are trained; 0 trains everything.
        trainable_layers: usize = [0, 4, 0], "layers", "paper: everything is trained";
        /// Longest prompt with completion; a longer prompt is left out and counted.
        max_tokens: usize = [128, 256, 2048], "tokens", "paper appendix C, context of 2k";
        /// Highest learning rate.
        learning_rate: f64 = [2e-3, 1e-4, 9e-6], "per step", "paper C.2";
        /// How the learning rate falls.
        decay: Decay = [Decay::Cosine, Decay::Cosine, Decay::Cosine], "none", "paper C.2";
        /// Where it ends, as a part of the highest.
        decay_floor: f64 = [0.1, 0.1, 0.1], "fraction", "paper C.2";
        /// Steps of warm-up, from a tenth of the highest learning rate.
        warm_up_steps: usize = [0, 2, 0], "steps", "not printed; none";
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
        /// Part of the prompts that is held out for evaluation, unless the rankings file says it.
        held_out_fraction: f64 = [0.25, 0.25, 0.35], "fraction", "paper table 6: 17,887 of 51,096";
        /// Steps between two evaluations on held-out prompts.
        evaluate_every: usize = [8, 10, 50], "steps", "not printed; any";
    }
}

impl RewardConfig {
    /// The constants of its optimiser.
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
}

impl Recipe for RewardConfig {
    fn preset(preset: Preset) -> Self {
        Self::defaults(preset)
    }

    fn settings() -> &'static [Setting] {
        Self::SETTINGS
    }

    fn check(&self) -> Result<(), (&'static str, &'static str)> {
        first_broken_rule(&[
            ("epochs", self.epochs > 0, "must be at least 1"),
            (
                "batch_prompts",
                self.batch_prompts > 0,
                "must be at least 1",
            ),
            (
                "micro_batch_size",
                self.micro_batch_size > 0,
                "must be at least 1",
            ),
            ("max_tokens", self.max_tokens >= 8, "must be at least 8"),
            ("learning_rate", self.learning_rate > 0.0, "must be above 0"),
            (
                "held_out_fraction",
                (0.0..1.0).contains(&self.held_out_fraction),
                "must be at least 0 and below 1",
            ),
            (
                "evaluate_every",
                self.evaluate_every > 0,
                "must be at least 1",
            ),
        ])
    }
}
