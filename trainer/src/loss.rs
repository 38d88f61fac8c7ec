//! The losses, each over a flat vector of exactly the entries that count, so that no mean can include padding.
//!
//! * [`k_wise_loss`]: the reward model's loss (InstructGPT section 3.5, equation 1).
//! * [`policy_loss`], [`value_loss`]: PPO's clipped surrogate and clipped value loss.
//! * [`language_model_loss`]: mean negative log-likelihood per token, for SFT and the ptx term.
//!
//! The divisor of the K-wise loss: the paper drops ties and divides by C(K,2), but does not say whether a dropped tie
//! still counts in the divisor. Here it does not: each prompt is divided by its number of strict pairs, so that a
//! prompt with ties weighs as much as any other. A prompt without a strict pair says nothing and is left out.

use candle_core::{Device, Tensor};

use crate::error::Result;

/// A strict preference between two entries of a list, by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// The entry with the better (lower) rank.
    pub preferred: usize,
    /// The other.
    pub other: usize,
}

/// Every strict pair of a weak order given as ranks (1 is best); ties give no pair.
#[must_use]
pub fn strict_pairs(ranks: &[u32]) -> Vec<Pair> {
    let mut pairs = Vec::with_capacity(ranks.len() * ranks.len().saturating_sub(1) / 2);
    for first in 0..ranks.len() {
        for second in first + 1..ranks.len() {
            match ranks[first].cmp(&ranks[second]) {
                std::cmp::Ordering::Less => pairs.push(Pair {
                    preferred: first,
                    other: second,
                }),
                std::cmp::Ordering::Greater => pairs.push(Pair {
                    preferred: second,
                    other: first,
                }),
                std::cmp::Ordering::Equal => {}
            }
        }
    }
    pairs
}

/// `ln(sigmoid(x))` for any shape, finite for every finite `x`: `min(x, 0) - ln(1 + exp(-|x|))`.
///
/// # Errors
/// Only what the tensor library reports.
pub fn log_sigmoid(x: &Tensor) -> Result<Tensor> {
    let negative_part = x.minimum(&x.zeros_like()?)?;
    // Not `abs`: its gradient at 0 is 1 here, which would double the gradient of two equal scores.
    let distance = (x.relu()? + x.neg()?.relu()?)?;
    let softplus = ((distance.neg()?.exp()? + 1.0)?).log()?;
    Ok((negative_part - softplus)?)
}

/// The K-wise loss over a batch of prompts: for each prompt the mean of `-ln(sigmoid(r_preferred - r_other))` over its
/// strict pairs, then the mean over `prompts`.
///
/// `scores` is `[n]`, the completions of all prompts one after the other; `ranks` holds the ranks of each prompt in
/// the same order. `prompts` is the divisor of the outer mean: the number of prompts in the whole batch when this is
/// one micro-batch of it. Source: arXiv 2203.02155 section 3.5; ties dropped as in C.2.
///
/// # Errors
/// Only what the tensor library reports, e.g. fewer scores than ranks.
pub fn k_wise_loss(scores: &Tensor, ranks: &[Vec<u32>], prompts: usize) -> Result<Tensor> {
    let (mut preferred, mut other, mut weights) = (Vec::new(), Vec::new(), Vec::new());
    let mut start = 0;
    for ranks_of_prompt in ranks {
        let pairs = strict_pairs(ranks_of_prompt);
        let weight = 1.0 / (pairs.len().max(1) * prompts) as f32;
        for pair in pairs {
            preferred.push((start + pair.preferred) as u32);
            other.push((start + pair.other) as u32);
            weights.push(weight);
        }
        start += ranks_of_prompt.len();
    }
    if weights.is_empty() {
        return Ok((scores.sum_all()? * 0.0)?);
    }
    let device = scores.device();
    let preferred = scores.index_select(&index_tensor(preferred, device)?, 0)?; // [pairs]
    let other = scores.index_select(&index_tensor(other, device)?, 0)?; // [pairs]
    let weights = float_tensor(&weights, device)?; // [pairs]
    let log_likelihood = log_sigmoid(&(preferred - other)?)?; // [pairs]
    Ok((log_likelihood * weights)?.sum_all()?.neg()?)
}

/// What PPO's policy loss says about one minibatch; every mean is over real response tokens.
#[derive(Debug)]
pub struct PolicyLoss {
    /// The loss, a scalar, summed over tokens and divided by `tokens`.
    pub loss: Tensor,
    /// `pi_new / pi_old` per token, `[n]`, detached.
    pub ratio: Tensor,
}

/// PPO's clipped surrogate: sum over tokens of `max(-A * ratio, -A * clip(ratio, 1 - clip, 1 + clip))`, divided by
/// `tokens` (the count of the whole minibatch when this is one micro-batch of it). All inputs are `[n]`.
///
/// # Errors
/// Only what the tensor library reports.
pub fn policy_loss(
    log_probs: &Tensor,
    old_log_probs: &Tensor,
    advantages: &Tensor,
    clip: f64,
    tokens: usize,
) -> Result<PolicyLoss> {
    let ratio = (log_probs - old_log_probs)?.exp()?; // [n]
    let plain = (advantages.neg()? * &ratio)?;
    let clipped = (advantages.neg()? * ratio.clamp(1.0 - clip, 1.0 + clip)?)?;
    let loss = (plain.maximum(&clipped)?.sum_all()? / tokens as f64)?;
    Ok(PolicyLoss {
        loss,
        ratio: ratio.detach(),
    })
}

/// PPO's clipped value loss: sum over tokens of `0.5 * max((V - R)^2, (V_clipped - R)^2)`, divided by `tokens`, where
/// `V_clipped` stays within `clip` of the old value. All inputs are `[n]`.
///
/// # Errors
/// Only what the tensor library reports.
pub fn value_loss(
    values: &Tensor,
    old_values: &Tensor,
    returns: &Tensor,
    clip: f64,
    tokens: usize,
) -> Result<Tensor> {
    let moved = (values - old_values)?.clamp(-clip, clip)?;
    let clipped = (old_values + moved)?;
    let error = (values - returns)?.sqr()?;
    let clipped_error = (clipped - returns)?.sqr()?;
    Ok((error.maximum(&clipped_error)?.sum_all()? * (0.5 / tokens as f64))?)
}

/// Sum over tokens of `-log_prob`, divided by `tokens`; `log_probs` is `[n]`.
///
/// # Errors
/// Only what the tensor library reports.
pub fn language_model_loss(log_probs: &Tensor, tokens: usize) -> Result<Tensor> {
    Ok((log_probs.sum_all()?.neg()? / tokens as f64)?)
}

/// Row numbers as a tensor, `[n]`.
///
/// # Errors
/// Only what the tensor library reports.
pub fn index_tensor(rows: Vec<u32>, device: &Device) -> Result<Tensor> {
    let count = rows.len();
    Ok(Tensor::from_vec(rows, count, device)?)
}

/// Numbers as a tensor, `[n]`.
///
/// # Errors
/// Only what the tensor library reports.
pub fn float_tensor(values: &[f32], device: &Device) -> Result<Tensor> {
    Ok(Tensor::from_slice(values, values.len(), device)?)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use candle_core::Var;

    use super::*;

    fn variable(values: &[f32]) -> Var {
        Var::from_tensor(&float_tensor(values, &Device::Cpu).unwrap()).unwrap()
    }

    fn gradient(loss: &Tensor, variable: &Var) -> Vec<f32> {
        loss.backward()
            .unwrap()
            .get(variable.as_tensor())
            .unwrap()
            .to_vec1()
            .unwrap()
    }

    fn close(found: &[f32], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (f64::from(*found) - expected).abs() < 1e-6,
                "{found} is not {expected}"
            );
        }
    }

    #[test]
    fn the_k_wise_loss_and_its_gradient_match_the_reference_vector() {
        let scores = variable(&[2.0, 1.0, 0.0, -1.0]);
        let loss = k_wise_loss(scores.as_tensor(), &[vec![1, 2, 3, 4]], 1).unwrap();
        close(&[loss.to_scalar::<f32>().unwrap()], &[0.207_038_1]);
        close(
            &gradient(&loss, &scores),
            &[-0.072_595_0, -0.019_867_2, 0.019_867_2, 0.072_595_0],
        );
    }

    #[test]
    fn ties_give_no_pair_and_do_not_count_in_the_divisor() {
        assert_eq!(strict_pairs(&[1, 1, 2]).len(), 2);
        assert!(strict_pairs(&[3, 3]).is_empty());
        let scores = variable(&[0.0, 0.0, 0.0]);
        let loss = k_wise_loss(scores.as_tensor(), &[vec![1, 1, 2]], 1).unwrap();
        close(
            &[loss.to_scalar::<f32>().unwrap()],
            &[std::f64::consts::LN_2],
        );
    }

    #[test]
    fn two_prompts_of_different_size_weigh_the_same() {
        let scores = variable(&[1.0, 0.0, 0.0, 0.0, 0.0]);
        let loss = k_wise_loss(scores.as_tensor(), &[vec![1, 2], vec![1, 2, 3]], 2).unwrap();
        let expected = 0.5 * ((1.0 + (-1.0f64).exp()).ln() + std::f64::consts::LN_2);
        close(&[loss.to_scalar::<f32>().unwrap()], &[expected]);
    }

    #[test]
    fn a_batch_of_ties_only_has_no_loss() {
        let scores = variable(&[1.0, 5.0]);
        let loss = k_wise_loss(scores.as_tensor(), &[vec![2, 2]], 1).unwrap();
        close(&[loss.to_scalar::<f32>().unwrap()], &[0.0]);
        assert!(loss.backward().unwrap().get(scores.as_tensor()).is_none());
    }

    #[test]
    fn the_log_sigmoid_is_finite_far_from_zero() {
        let x = variable(&[1e4, -1e4, 0.0]);
        let y = log_sigmoid(x.as_tensor()).unwrap();
        close(
            &y.to_vec1::<f32>().unwrap(),
            &[0.0, -1e4, -std::f64::consts::LN_2],
        );
        close(&gradient(&y.sum_all().unwrap(), &x), &[0.0, 1.0, 0.5]);
    }

    #[test]
    fn the_policy_loss_stops_pushing_beyond_the_clip() {
        let old = float_tensor(&[0.0, 0.0, 0.0], &Device::Cpu).unwrap();
        let advantages = float_tensor(&[1.0, 1.0, 0.0], &Device::Cpu).unwrap();
        let new = variable(&[0.0, 0.5, 0.1]);
        let result = policy_loss(new.as_tensor(), &old, &advantages, 0.2, 3).unwrap();
        close(
            &[result.loss.to_scalar::<f32>().unwrap()],
            &[-(1.0 + 1.2) / 3.0],
        );
        close(&gradient(&result.loss, &new), &[-1.0 / 3.0, 0.0, 0.0]);
    }

    #[test]
    fn the_value_loss_gives_no_gradient_to_a_value_that_already_moved_far_enough() {
        let old = float_tensor(&[0.0, 0.0], &Device::Cpu).unwrap();
        let returns = float_tensor(&[1.0, 1.0], &Device::Cpu).unwrap();
        let values = variable(&[0.5, 0.1]);
        let loss = value_loss(values.as_tensor(), &old, &returns, 0.2, 2).unwrap();
        close(&[loss.to_scalar::<f32>().unwrap()], &[0.25 * (0.64 + 0.81)]);
        close(&gradient(&loss, &values), &[0.0, -0.45]);
    }

    #[test]
    fn micro_batches_add_up_to_the_whole_batch() {
        let scores = [0.3, -0.2, 0.9, 0.1];
        let whole =
            k_wise_loss(variable(&scores).as_tensor(), &[vec![1, 2], vec![2, 1]], 2).unwrap();
        let first = k_wise_loss(variable(&scores[..2]).as_tensor(), &[vec![1, 2]], 2).unwrap();
        let second = k_wise_loss(variable(&scores[2..]).as_tensor(), &[vec![2, 1]], 2).unwrap();
        let sum = first.to_scalar::<f32>().unwrap() + second.to_scalar::<f32>().unwrap();
        close(&[whole.to_scalar::<f32>().unwrap()], &[f64::from(sum)]);
    }
}
