//! Settings of a generation run.

use super::{Preset, Recipe, Setting, first_broken_rule, recipe};

recipe! {
    /// Settings of a generation run: K completions for each prompt.
    GenerateConfig {
        /// Decides every sampled token.
        seed: u64 = [0, 0, 0], "none", "not printed; any";
        /// Completions for each prompt; labelers rank 4 to 9.
        completions_per_prompt: usize = [4, 5, 9], "completions", "paper section 3.5: 4 to 9";
        /// Sampling temperature.
        temperature: f64 = [1.0, 1.0, 1.0], "none", "paper C.4, for rollouts";
        /// Smallest set of tokens whose probabilities reach it is sampled from; 1 turns it off.
        top_p: f64 = [1.0, 0.95, 1.0], "probability", "not printed; off";
        /// Longest completion.
        max_new_tokens: usize = [12, 64, 1024], "tokens", "paper appendix C";
        /// Longest prompt; longer ones are left out and counted.
        max_prompt_tokens: usize = [64, 256, 1024], "tokens", "paper appendix C";
    }
}

impl Recipe for GenerateConfig {
    fn preset(preset: Preset) -> Self {
        Self::defaults(preset)
    }

    fn settings() -> &'static [Setting] {
        Self::SETTINGS
    }

    fn check(&self) -> Result<(), (&'static str, &'static str)> {
        first_broken_rule(&[
            (
                "completions_per_prompt",
                self.completions_per_prompt > 0,
                "must be at least 1",
            ),
            (
                "temperature",
                self.temperature >= 0.0,
                "must not be negative",
            ),
            (
                "top_p",
                self.top_p > 0.0 && self.top_p <= 1.0,
                "must be above 0 and at most 1",
            ),
            (
                "max_new_tokens",
                self.max_new_tokens > 0,
                "must be at least 1",
            ),
            (
                "max_prompt_tokens",
                self.max_prompt_tokens > 0,
                "must be at least 1",
            ),
        ])
    }
}
