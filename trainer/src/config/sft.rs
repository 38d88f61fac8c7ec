//! Settings of supervised fine-tuning.

use super::{Preset, Recipe, Setting, first_broken_rule, recipe};
use crate::optim::{AdamWSettings, EpsilonPlacement};
use crate::schedule::Decay;

recipe! {
    /// Settings of supervised fine-tuning (paper C.1). The paper's residual dropout of 0.2 is not part of this trainer.
    SftConfig {
        /// Decides the split, the order of the data and every other random choice.
        seed: u64 = [0, 0, 0], "none", "not printed; any";
        /// How often each demonstration is seen.
        epochs: usize = [10, 2, 16], "passes", "paper C.1";
        /// Demonstrations in one optimiser step.
        batch_size: usize = [8, 8, 32], "demonstrations", "paper C.1, 1.3B and 6B";
        /// Demonstrations in one forward pass; only memory and speed depend on it.
        micro_batch_size: usize = [8, 4, 8], "demonstrations", "not printed; fits memory";
        /// Upper layers that are trained; 0 trains everything.
        trainable_layers: usize = [0, 4, 0], "layers", "paper: everything is trained";
        /// Longest prompt with completion; longer ones are left out and counted.
        max_tokens: usize = [128, 256, 2048], "tokens", "paper appendix C, context of 2k";
        /// Highest learning rate.
        learning_rate: f64 = [3e-3, 1e-4, 9.65e-6], "per step", "paper C.1, 1.3B and 6B";
        /// How the learning rate falls.
        decay: Decay = [Decay::Cosine, Decay::Cosine, Decay::Cosine], "none", "paper C.1";
        /// Where it ends, as a part of the highest.
        decay_floor: f64 = [0.1, 0.1, 0.1], "fraction", "paper C.1";
        /// Steps of warm-up, from a tenth of the highest learning rate.
        warm_up_steps: usize = [0, 4, 0], "steps", "paper C.1, none";
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
        /// Part of the demonstrations that is held out for evaluation.
        held_out_fraction: f64 = [0.2, 0.1, 0.12], "fraction", "paper table 6: 1,653 of 14,378";
        /// Steps between two evaluations on held-out demonstrations.
        evaluate_every: usize = [10, 10, 50], "steps", "not printed; any";
    }
}

impl SftConfig {
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

impl Recipe for SftConfig {
    fn preset(preset: Preset) -> Self {
        Self::defaults(preset)
    }

    fn settings() -> &'static [Setting] {
        Self::SETTINGS
    }

    fn check(&self) -> Result<(), (&'static str, &'static str)> {
        first_broken_rule(&[
            ("epochs", self.epochs > 0, "must be at least 1"),
            ("batch_size", self.batch_size > 0, "must be at least 1"),
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
