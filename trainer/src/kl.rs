//! The distance between policy and reference model: estimators per token (Schulman,
//! "Approximating KL divergence") and the control of its weight.

use serde::{Deserialize, Serialize};

/// The estimators k1, k2, k3 of a token, for d = log pi - log reference, in nats. k1 is unbiased
/// and enters the reward; k2 and k3 are never negative.
pub fn estimators(d: f64) -> (f64, f64, f64) {
    (d, d * d / 2.0, (-d).exp() - 1.0 + d)
}

/// How the weight of the KL term moves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum KlControl {
    /// The weight stays (InstructGPT: 0.02).
    Fixed,
    /// The weight is steered towards a KL for each sequence, in nats (lm-human-preferences).
    Adaptive {
        /// KL aimed at.
        target: f64,
        /// Episodes over which an error is corrected.
        horizon: f64,
    },
}

impl KlControl {
    /// The weight after `episodes` more episodes with mean KL `kl`.
    pub fn update(&self, weight: f64, kl: f64, episodes: usize) -> f64 {
        match self {
            Self::Fixed => weight,
            Self::Adaptive { target, horizon } => {
                let error = (kl / target - 1.0).clamp(-0.2, 0.2);
                weight * (1.0 + error * episodes as f64 / horizon)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimators_at_one_half() {
        let (k1, k2, k3) = estimators(0.5);
        assert_eq!((k1, k2), (0.5, 0.125));
        assert!((k3 - 0.106_530_7).abs() < 1e-7);
    }

    #[test]
    fn the_adaptive_weight_moves_by_at_most_a_fifth_of_the_horizon() {
        let control = KlControl::Adaptive {
            target: 6.0,
            horizon: 10_000.0,
        };
        assert!((control.update(1.0, 12.0, 512) - 1.010_24).abs() < 1e-9);
        assert!((control.update(1.0, 0.0, 512) - 0.989_76).abs() < 1e-9);
        assert_eq!(KlControl::Fixed.update(0.02, 99.0, 512), 0.02);
    }
}
