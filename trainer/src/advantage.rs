//! Generalised advantage estimation and whitening, over the response tokens of one rollout.
//!
//! Plain numbers in, plain numbers out: sums run in f64, so that the order of a batch does not show.
//! GAE: arXiv 1506.02438 equation 16. InstructGPT uses no discount (C.4); lambda is not printed there, 0.95 is from
//! openai/lm-human-preferences `train_policy.py`.

/// Advantages and returns of one response; both have one entry for each response token.
#[derive(Debug, Clone, PartialEq)]
pub struct Advantages {
    /// How much better than expected each token turned out.
    pub advantages: Vec<f32>,
    /// What the value model shall predict: advantage plus old value, taken before whitening.
    pub returns: Vec<f32>,
}

/// GAE over one response. `rewards` and `values` have one entry for each response token; after the last token the
/// value is 0. `gamma` is the discount, `lambda` the trade between bias and variance, both in 0..=1.
#[must_use]
pub fn generalised_advantages(
    rewards: &[f32],
    values: &[f32],
    gamma: f64,
    lambda: f64,
) -> Advantages {
    let mut advantages = vec![0.0; rewards.len()];
    let (mut next_value, mut running) = (0.0, 0.0);
    for index in (0..rewards.len()).rev() {
        let value = f64::from(values[index]);
        let surprise = f64::from(rewards[index]) + gamma * next_value - value;
        running = surprise + gamma * lambda * running;
        advantages[index] = running as f32;
        next_value = value;
    }
    let returns = advantages
        .iter()
        .zip(values)
        .map(|(advantage, value)| advantage + value)
        .collect();
    Advantages {
        advantages,
        returns,
    }
}

/// Scales `values` to unit variance, and to mean 0 when `shift_mean`; otherwise the mean stays. The variance is the
/// biased one plus 1e-8, as in openai/lm-human-preferences `utils/core.py`.
pub fn whiten(values: &mut [f32], shift_mean: bool) {
    let (mean, variance) = mean_and_variance(values);
    let scale = 1.0 / (variance + 1e-8).sqrt();
    for value in values {
        let whitened = (f64::from(*value) - mean) * scale;
        *value = (if shift_mean {
            whitened
        } else {
            whitened + mean
        }) as f32;
    }
}

/// Mean and biased variance; (0, 0) of nothing.
#[must_use]
pub fn mean_and_variance(values: &[f32]) -> (f64, f64) {
    if values.is_empty() {
        return (0.0, 0.0);
    }
    let count = values.len() as f64;
    let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>() / count;
    let variance = values
        .iter()
        .map(|value| (f64::from(*value) - mean).powi(2))
        .sum::<f64>()
        / count;
    (mean, variance)
}

/// `1 - Var(returns - values) / Var(returns)`: 1 is a perfect value model, 0 one that knows nothing; 0 when the
/// returns do not vary.
#[must_use]
pub fn explained_variance(values: &[f32], returns: &[f32]) -> f64 {
    let errors: Vec<f32> = returns
        .iter()
        .zip(values)
        .map(|(target, value)| target - value)
        .collect();
    let (_, variance_of_returns) = mean_and_variance(returns);
    if variance_of_returns < 1e-12 {
        return 0.0;
    }
    1.0 - mean_and_variance(&errors).1 / variance_of_returns
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
        }
    }

    #[test]
    fn the_reference_vector_holds() {
        let found = generalised_advantages(&[0.0, 0.0, 1.0], &[0.5, 0.5, 0.5], 1.0, 0.95);
        close(&found.advantages, &[0.45125, 0.475, 0.5]);
        close(&found.returns, &[0.95125, 0.975, 1.0]);
    }

    #[test]
    fn with_lambda_one_the_returns_are_the_sums_of_later_rewards() {
        let found = generalised_advantages(&[1.0, -2.0, 4.0], &[0.3, 9.0, -1.0], 1.0, 1.0);
        close(&found.returns, &[3.0, 2.0, 4.0]);
    }

    #[test]
    fn whitening_uses_the_biased_variance() {
        let mut values: Vec<f32> = (1..=9u8).map(f32::from).collect();
        whiten(&mut values, true);
        close(
            &[values[0], values[4], values[8]],
            &[-1.549_193, 0.0, 1.549_193],
        );
    }

    #[test]
    fn whitening_without_shift_keeps_the_mean() {
        let mut values = vec![9.0, 10.0, 11.0];
        whiten(&mut values, false);
        let (mean, variance) = mean_and_variance(&values);
        assert!((mean - 10.0).abs() < 1e-5 && (variance - 1.0).abs() < 1e-5);
    }

    #[test]
    fn explained_variance_is_one_for_the_truth_and_zero_for_a_constant() {
        let returns = [1.0, 2.0, 4.0];
        assert!((explained_variance(&returns, &returns) - 1.0).abs() < 1e-9);
        assert!(explained_variance(&[2.0, 2.0, 2.0], &returns).abs() < 1e-9);
    }
}
