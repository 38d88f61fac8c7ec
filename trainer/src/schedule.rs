//! The learning rate of each step: warm-up, then constant, linear or cosine decay.

use serde::{Deserialize, Serialize};

/// How the learning rate falls after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Not at all (InstructGPT's PPO, C.4).
    Constant,
    /// In a straight line to `floor` of the peak.
    Linear,
    /// Along half a cosine to `floor` of the peak (InstructGPT's SFT and reward model, C.1 and C.2: 10 %).
    Cosine,
}

/// A learning-rate schedule over a known number of steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The highest learning rate.
    pub peak: f64,
    /// How it falls.
    pub decay: Decay,
    /// Where the fall ends, as a fraction of `peak`.
    pub floor: f64,
    /// Steps of linear warm-up before the fall starts.
    pub warm_up_steps: u64,
    /// Where the warm-up starts, as a fraction of `peak` (InstructGPT's PPO: 1/10).
    pub warm_up_from: f64,
    /// Steps in all.
    pub total_steps: u64,
}

impl Schedule {
    /// The learning rate of step `step`, counted from 0.
    #[must_use]
    pub fn learning_rate(&self, step: u64) -> f64 {
        if step < self.warm_up_steps {
            let progress = step as f64 / self.warm_up_steps as f64;
            return self.peak * (self.warm_up_from + (1.0 - self.warm_up_from) * progress);
        }
        let steps_of_decay = self
            .total_steps
            .saturating_sub(self.warm_up_steps + 1)
            .max(1);
        let progress = ((step - self.warm_up_steps) as f64 / steps_of_decay as f64).min(1.0);
        let remaining = match self.decay {
            Decay::Constant => return self.peak,
            Decay::Linear => 1.0 - progress,
            Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
        };
        self.peak * (self.floor + (1.0 - self.floor) * remaining)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(decay: Decay, warm_up_steps: u64) -> Schedule {
        Schedule {
            peak: 1.0,
            decay,
            floor: 0.1,
            warm_up_steps,
            warm_up_from: 0.1,
            total_steps: 11,
        }
    }

    fn close(found: f64, expected: f64) {
        assert!(
            (found - expected).abs() < 1e-12,
            "{found} is not {expected}"
        );
    }

    #[test]
    fn a_cosine_starts_at_the_peak_and_ends_at_a_tenth() {
        let cosine = schedule(Decay::Cosine, 0);
        close(cosine.learning_rate(0), 1.0);
        close(cosine.learning_rate(5), 0.55);
        close(cosine.learning_rate(10), 0.1);
    }

    #[test]
    fn the_warm_up_starts_at_a_tenth_and_a_constant_stays() {
        let constant = schedule(Decay::Constant, 10);
        close(constant.learning_rate(0), 0.1);
        close(constant.learning_rate(5), 0.55);
        close(constant.learning_rate(10), 1.0);
        close(constant.learning_rate(1000), 1.0);
    }

    #[test]
    fn a_line_is_straight() {
        let linear = schedule(Decay::Linear, 0);
        close(linear.learning_rate(5), 0.55);
        close(linear.learning_rate(10), 0.1);
    }
}
