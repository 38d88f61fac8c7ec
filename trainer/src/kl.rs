//! How far the policy is from the reference model, and how much that costs.
//!
//! With `d = ln pi(token) - ln ref(token)` of a token sampled from `pi`: k1 = d, k2 = d^2 / 2, k3 = exp(-d) - 1 + d.
//! All three estimate the same divergence; k1 is unbiased and may be negative for one batch, k3 never is.
//! The reward uses k1, as in openai/lm-human-preferences; k2 between two policies of one update is its `approxkl`.

use serde::{Deserialize, Serialize};

/// `d`: unbiased.
#[must_use]
pub fn k1(log_ratio: f64) -> f64 {
    log_ratio
}

/// `d^2 / 2`: biased, low variance, never negative.
#[must_use]
pub fn k2(log_ratio: f64) -> f64 {
    0.5 * log_ratio * log_ratio
}

/// `exp(-d) - 1 + d`: unbiased and never negative.
#[must_use]
pub fn k3(log_ratio: f64) -> f64 {
    (-log_ratio).exp_m1() + log_ratio
}

/// The rewards of one response: `-beta * (ln pi - ln ref)` for each token, and `score` on the last one.
/// `log_probs` and `reference_log_probs` have one entry for each response token.
#[must_use]
pub fn rewards_of_response(
    log_probs: &[f32],
    reference_log_probs: &[f32],
    beta: f64,
    score: f32,
) -> Vec<f32> {
    let penalty =
        |(policy, reference): (&f32, &f32)| (-beta * k1(f64::from(policy - reference))) as f32;
    let mut rewards: Vec<f32> = log_probs
        .iter()
        .zip(reference_log_probs)
        .map(penalty)
        .collect();
    if let Some(last) = rewards.last_mut() {
        *last += score;
    }
    rewards
}

/// Sets the KL coefficient of the next iteration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KlController {
    /// The coefficient now.
    pub beta: f64,
    /// Nats per response to steer to; `None` keeps beta fixed, as InstructGPT does.
    pub target: Option<f64>,
    /// Episodes over which a full error of 20 % changes beta by 20 %.
    pub horizon: f64,
}

impl KlController {
    /// Takes note of the mean KL (nats per response) over `episodes` responses:
    /// `beta *= 1 + clip(kl / target - 1, -0.2, 0.2) * episodes / horizon` (openai/lm-human-preferences).
    pub fn update(&mut self, kl: f64, episodes: usize) {
        if let Some(target) = self.target {
            let error = (kl / target - 1.0).clamp(-0.2, 0.2);
            self.beta *= 1.0 + error * episodes as f64 / self.horizon;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimators_match_the_reference_vector() {
        for (found, expected) in [(k1(0.5), 0.5), (k2(0.5), 0.125), (k3(0.5), 0.106_530_7)] {
            assert!((found - expected).abs() < 1e-7, "{found} is not {expected}");
        }
    }

    #[test]
    fn the_adaptive_controller_matches_the_reference_vector() {
        let mut controller = KlController {
            beta: 0.15,
            target: Some(6.0),
            horizon: 10_000.0,
        };
        controller.update(12.0, 512);
        assert!((controller.beta / 0.15 - 1.010_24).abs() < 1e-9);
    }

    #[test]
    fn the_fixed_controller_never_moves() {
        let mut controller = KlController {
            beta: 0.02,
            target: None,
            horizon: 10_000.0,
        };
        controller.update(1e9, 512);
        assert!((controller.beta - 0.02).abs() < f64::EPSILON);
    }

    #[test]
    fn rewards_sum_to_the_score_minus_beta_times_the_kl() {
        let rewards = rewards_of_response(&[-1.0, -2.0, -0.5], &[-1.5, -1.0, -0.5], 0.1, 3.0);
        let sum: f32 = rewards.iter().sum();
        assert!((sum - (3.0 - 0.1 * (0.5 - 1.0))).abs() < 1e-6);
        assert!((rewards[2] - 3.0).abs() < 1e-6);
    }
}
