//! The distance between policy and reference model: estimators per token (Schulman,
//! "Approximating KL divergence") and the control of its weight.

use serde::{Deserialize, Serialize};

/// The estimators k1, k2, k3 of a token, for d = log pi - log reference, in nats. k1 is unbiased
/// and enters the reward; k2 and k3 are never negative.
pub fn estimators(d: f64) -> (f64, f64, f64) {
    (d, d * d / 2.0, (-d).exp() - 1.0 + d)
}

/// Which estimator is the penalty of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KlEstimator {
    /// The log-ratio itself: unbiased, and what lm-human-preferences, TRL and OpenRLHF take.
    #[default]
    K1,
    /// Half of its square: biased, of low variance.
    K2,
    /// exp(-d) - 1 + d: unbiased and never negative; large where the reference is much likelier.
    K3,
}

impl KlEstimator {
    /// The penalty of a token, in nats, for d = log pi - log reference. `clamp` is its largest size,
    /// 0 being none.
    pub fn of(self, d: f64, clamp: f64) -> f64 {
        let (k1, k2, k3) = estimators(d);
        let penalty = match self {
            Self::K1 => k1,
            Self::K2 => k2,
            Self::K3 => k3,
        };
        clamped(penalty, clamp)
    }
}

/// A value within +-`limit`; a limit of 0 is none.
pub fn clamped(value: f64, limit: f64) -> f64 {
    match limit > 0.0 {
        true => value.clamp(-limit, limit),
        false => value,
    }
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

    /// Item 26 of the checklist: the vector, and the clamp.
    #[test]
    fn a_penalty_is_the_chosen_estimator_within_its_clamp() {
        assert_eq!(KlEstimator::K1.of(0.5, 0.0), 0.5);
        assert_eq!(KlEstimator::K2.of(0.5, 0.0), 0.125);
        assert!((KlEstimator::K3.of(0.5, 0.0) - 0.106_530_7).abs() < 1e-7);
        assert_eq!(KlEstimator::K1.of(-0.5, 0.0), -0.5);
        assert!(KlEstimator::K3.of(-0.5, 0.0) > 0.0);
        assert_eq!(KlEstimator::K1.of(-12.0, 10.0), -10.0);
        assert_eq!(KlEstimator::K3.of(-12.0, 10.0), 10.0);
        assert_eq!(KlEstimator::K1.of(9.0, 10.0), 9.0);
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
