//! The clipped losses of a token, and sums of what is told of them. A sum has one summand for each
//! real token, so that no mean over it can include padding.

use crate::config::PpoConfig;
use crate::kl::{clamped, estimators};

/// The clipped policy loss of a token and its gradient by the log-ratio to the policy that drew it:
/// max(-A * ratio, -A * clip(ratio, 1 - c, 1 + c)) (Schulman et al., arXiv 1707.06347).
pub(super) fn policy_loss(log_ratio: f64, advantage: f64, clip: f64) -> (f64, f64) {
    let ratio = log_ratio.exp();
    let free = -advantage * ratio;
    let clipped = -advantage * ratio.clamp(1.0 - clip, 1.0 + clip);
    if free >= clipped {
        (free, free)
    } else {
        (clipped, 0.0)
    }
}

/// The clipped value loss of a token and its gradient by the new value:
/// half of max((V - R)^2, (clip(V, old - c, old + c) - R)^2).
pub(super) fn value_loss(new: f64, old: f64, target: f64, clip: f64) -> (f64, f64) {
    let limited = new.max(old - clip).min(old + clip);
    let (free, clipped) = (
        (new - target).powi(2) / 2.0,
        (limited - target).powi(2) / 2.0,
    );
    if free >= clipped {
        (free, new - target)
    } else {
        (clipped, 0.0)
    }
}

/// Of the policy's losses.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PolicySums {
    pub(super) tokens: f64,
    pub(super) loss: f64,
    pub(super) ratio: f64,
    pub(super) lowest_ratio: f64,
    pub(super) highest_ratio: f64,
    /// By k2, to the policy that drew the tokens.
    pub(super) approximate_kl: f64,
    /// Tokens whose ratio lies beyond the clip.
    pub(super) clipped: f64,
}

impl Default for PolicySums {
    fn default() -> Self {
        Self {
            tokens: 0.0,
            loss: 0.0,
            ratio: 0.0,
            lowest_ratio: f64::INFINITY,
            highest_ratio: f64::NEG_INFINITY,
            approximate_kl: 0.0,
            clipped: 0.0,
        }
    }
}

impl PolicySums {
    /// Takes in a token; returns the gradient of its loss by its new log-probability.
    pub(super) fn take(&mut self, new: f64, old: f64, advantage: f64, config: &PpoConfig) -> f64 {
        let free = new - old;
        let log_ratio = clamped(free, config.log_ratio_clamp);
        let (loss, slope) = policy_loss(log_ratio, advantage, config.clip);
        let ratio = log_ratio.exp();
        self.tokens += 1.0;
        self.loss += loss;
        self.ratio += ratio;
        self.lowest_ratio = self.lowest_ratio.min(ratio);
        self.highest_ratio = self.highest_ratio.max(ratio);
        self.approximate_kl += estimators(log_ratio).1;
        self.clipped += f64::from(u8::from((ratio - 1.0).abs() > config.clip));
        // Beyond its clamp the log-ratio does not move.
        match log_ratio == free {
            true => slope,
            false => 0.0,
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.tokens += other.tokens;
        self.loss += other.loss;
        self.ratio += other.ratio;
        self.lowest_ratio = self.lowest_ratio.min(other.lowest_ratio);
        self.highest_ratio = self.highest_ratio.max(other.highest_ratio);
        self.approximate_kl += other.approximate_kl;
        self.clipped += other.clipped;
    }
}

/// Of the value model's losses.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ValueSums {
    pub(super) tokens: f64,
    pub(super) loss: f64,
    /// Tokens whose value moved beyond the clip.
    pub(super) clipped: f64,
}

impl ValueSums {
    /// Takes in a token; returns the gradient of its loss by its new value.
    pub(super) fn take(&mut self, new: f64, old: f64, target: f64, clip: f64) -> f64 {
        let (loss, slope) = value_loss(new, old, target, clip);
        self.tokens += 1.0;
        self.loss += loss;
        self.clipped += f64::from(u8::from((new - old).abs() > clip));
        slope
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.tokens += other.tokens;
        self.loss += other.loss;
        self.clipped += other.clipped;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Preset;

    /// Item 35 of the checklist.
    #[test]
    fn the_policy_gradient_is_that_of_finite_differences_on_both_sides_of_the_clip() {
        for advantage in [-1.3, 0.7] {
            for log_ratio in [-0.5, -0.05, 0.0, 0.05, 0.6] {
                let (_, slope) = policy_loss(log_ratio, advantage, 0.2);
                let shifted = |by: f64| policy_loss(log_ratio + by, advantage, 0.2).0;
                let expected = (shifted(1e-6) - shifted(-1e-6)) / 2e-6;
                assert!(
                    (slope - expected).abs() < 1e-5,
                    "{advantage} {log_ratio}: {slope} {expected}"
                );
            }
        }
        assert_eq!(policy_loss(1.0, 0.0, 0.2).1, 0.0);
    }

    /// Item 36.
    #[test]
    fn a_value_that_moved_too_far_towards_its_target_learns_nothing_more() {
        let (_, slope) = value_loss(0.5, 0.0, 1.0, 0.2);
        assert_eq!(slope, 0.0);
        let (loss, slope) = value_loss(0.1, 0.0, 1.0, 0.2);
        assert!((loss - 0.405).abs() < 1e-12 && (slope + 0.9).abs() < 1e-12);
    }

    /// Items 51 and 52: two micro-batches of three tokens and one, computed by hand. A mean of the
    /// micro-batches' means would be others.
    #[test]
    fn ratio_approximate_kl_and_clipped_share_are_sums_over_tokens() {
        let config = PpoConfig::preset(Preset::Tiny);
        let (mut first, mut second) = (PolicySums::default(), PolicySums::default());
        for (new, old) in [(-1.0, -1.0), (-1.0, -1.1), (-1.5, -1.0)] {
            first.take(new, old, 2.0, &config);
        }
        second.take(-2.0, -3.0, -1.0, &config);
        first.add(&second);
        assert_eq!(first.tokens, 4.0);
        let ratios = [1.0, 0.1_f64.exp(), (-0.5_f64).exp(), 1.0_f64.exp()];
        assert!((first.ratio - ratios.iter().sum::<f64>()).abs() < 1e-12);
        assert!((first.lowest_ratio - 0.606_530_66).abs() < 1e-8);
        assert!((first.highest_ratio - 1.0_f64.exp()).abs() < 1e-8);
        // (0 + 0.01 + 0.25 + 1) / 2
        assert!((first.approximate_kl - 0.63).abs() < 1e-12);
        assert_eq!(first.clipped, 2.0);
        // -2 * (1 + e^0.1 + e^-0.5) for the first three, none of whose clips binds upwards; and
        // e for the last, which is worse than the clip would have it.
        let loss = -2.0 * (ratios[0] + ratios[1] + ratios[2]) + ratios[3];
        assert!((first.loss - loss).abs() < 1e-12);

        let mut values = ValueSums::default();
        for (new, old, target) in [(0.1, 0.0, 1.0), (0.5, 0.0, 1.0), (0.0, 0.0, 2.0)] {
            values.take(new, old, target, 0.2);
        }
        assert_eq!((values.tokens, values.clipped), (3.0, 1.0));
        assert!((values.loss - (0.405 + 0.32 + 2.0)).abs() < 1e-12);
    }

    #[test]
    fn a_log_ratio_beyond_its_clamp_learns_nothing() {
        let mut config = PpoConfig::preset(Preset::Tiny);
        config.log_ratio_clamp = 2.0;
        // A ratio of e^3 with a negative advantage is what the clip of the ratio does not bound.
        let mut sums = PolicySums::default();
        assert_eq!(sums.take(-1.0, -4.0, -1.0, &config), 0.0);
        assert!((sums.loss - 2.0_f64.exp()).abs() < 1e-12);
        assert!(sums.take(-1.0, -2.0, -1.0, &config) > 0.0);
    }
}
