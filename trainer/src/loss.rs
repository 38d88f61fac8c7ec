//! The K-wise reward loss of InstructGPT, section 3.5: all pairs of a prompt's completions as one
//! batch element.

use candle_core::Tensor;

use crate::error::Result;

/// log sigmoid(x) without overflow: min(x, 0) - ln(1 + exp(-|x|)).
pub fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}

/// The strict pairs (better, worse) of a weak order given as ranks, 1 being best. Ties make no
/// pair (appendix C.2).
pub fn strict_pairs(ranks: &[u32]) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    for (better, rank) in ranks.iter().enumerate() {
        for (worse, other) in ranks.iter().enumerate() {
            if rank < other {
                pairs.push((better, worse));
            }
        }
    }
    pairs
}

/// Loss of one prompt and its gradient by the rewards:
/// -1/P * sum over pairs of log sigmoid(r_better - r_worse), P being the number of strict pairs.
///
/// The paper divides by C(K, 2) and drops ties without saying whether they still count in the
/// divisor; dividing by the strict pairs keeps the weight of prompts equal. Without ties both are
/// the same. None when all are tied.
pub fn kwise_loss(rewards: &[f32], ranks: &[u32]) -> Option<(f64, Vec<f32>)> {
    let pairs = strict_pairs(ranks);
    if pairs.is_empty() {
        return None;
    }
    let weight = 1.0 / pairs.len() as f64;
    let mut loss = 0.0;
    let mut gradient = vec![0.0_f64; rewards.len()];
    for (better, worse) in pairs {
        let margin = f64::from(rewards[better]) - f64::from(rewards[worse]);
        loss -= weight * log_sigmoid(margin);
        // d/dx of -log sigmoid(x) is -sigmoid(-x).
        let slope = -weight * log_sigmoid(-margin).exp();
        gradient[better] += slope;
        gradient[worse] -= slope;
    }
    Some((
        loss,
        gradient.into_iter().map(|value| value as f32).collect(),
    ))
}

/// A scalar whose gradient by `values` is `by_values`: how a gradient that was worked out by hand
/// enters the backward pass. Its value means nothing.
///
/// # Errors
/// On shapes that do not fit.
pub fn with_gradient(values: &Tensor, by_values: &Tensor) -> Result<Tensor> {
    Ok((values * by_values.detach())?.sum_all()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Computed in double precision from the formula; also in the mission's test vectors.
    #[test]
    fn the_loss_and_gradient_of_four_ranked_rewards() {
        let (loss, gradient) = kwise_loss(&[2.0, 1.0, 0.0, -1.0], &[1, 2, 3, 4]).expect("pairs");
        assert!((loss - 0.207_038_1).abs() < 1e-7, "{loss}");
        let expected = [-0.072_595_0, -0.019_867_2, 0.019_867_2, 0.072_595_0];
        for (found, expected) in gradient.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-7, "{gradient:?}");
        }
    }

    #[test]
    fn ties_make_no_pair_and_all_tied_is_no_loss() {
        assert_eq!(strict_pairs(&[1, 1, 2]), [(0, 2), (1, 2)]);
        assert!(kwise_loss(&[0.3, 0.1], &[1, 1]).is_none());
        let (loss, gradient) = kwise_loss(&[0.5, 0.5, 0.5], &[1, 1, 2]).expect("pairs");
        assert!((loss - std::f64::consts::LN_2).abs() < 1e-12);
        assert_eq!(gradient, [-0.25, -0.25, 0.5]);
    }

    #[test]
    fn log_sigmoid_is_finite_far_out() {
        assert_eq!(log_sigmoid(1e4), 0.0);
        assert_eq!(log_sigmoid(-1e4), -1e4);
    }

    proptest! {
        #[test]
        fn the_gradient_is_that_of_finite_differences(
            rewards in proptest::collection::vec(-3.0_f32..3.0, 5),
            ranks in proptest::collection::vec(1_u32..5, 5),
        ) {
            if let Some((_, gradient)) = kwise_loss(&rewards, &ranks) {
                for i in 0..rewards.len() {
                    let shifted = |by: f32| {
                        let mut moved = rewards.clone();
                        moved[i] += by;
                        kwise_loss(&moved, &ranks).map_or(0.0, |(loss, _)| loss)
                    };
                    let slope = (shifted(0.01) - shifted(-0.01)) / 0.02;
                    prop_assert!((slope - f64::from(gradient[i])).abs() < 1e-4);
                }
            }
        }
    }
}
