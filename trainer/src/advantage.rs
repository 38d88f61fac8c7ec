//! Generalised advantage estimation (Schulman et al., arXiv 1506.02438) and whitening.

use serde::{Deserialize, Serialize};

/// Advantages and returns of one episode. After its last token the value is 0. InstructGPT does
/// not discount (gamma 1); it prints no lambda, 0.95 is that of lm-human-preferences.
pub fn gae(rewards: &[f64], values: &[f64], gamma: f64, lambda: f64) -> (Vec<f64>, Vec<f64>) {
    let mut advantages = vec![0.0; rewards.len()];
    let (mut next_value, mut running) = (0.0, 0.0);
    for t in (0..rewards.len()).rev() {
        let surprise = rewards[t] + gamma * next_value - values[t];
        running = surprise + gamma * lambda * running;
        advantages[t] = running;
        next_value = values[t];
    }
    let returns = advantages
        .iter()
        .zip(values)
        .map(|(advantage, value)| advantage + value)
        .collect();
    (advantages, returns)
}

/// Over which tokens advantages are whitened before the policy's loss; returns never are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdvantageWhitening {
    /// Not at all (DeepSpeed-Chat).
    Off,
    /// Over a round's episodes, once (summarize_from_feedback_details, TRL, OpenRLHF).
    #[default]
    Batch,
    /// Over each minibatch's episodes, before its step (lm-human-preferences).
    Minibatch,
}

/// Shifts to mean 0 and scales to variance 1, with the biased variance plus 1e-8, as
/// lm-human-preferences does.
pub fn whiten(values: &mut [f64]) {
    scale_to_variance_one(values, 0.0);
}

/// Scales to variance 1 around the mean, which stays where it is (lm-human-preferences' whitening
/// of rewards, without a shift of the mean).
pub fn whiten_around_mean(values: &mut [f64]) {
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    scale_to_variance_one(values, mean);
}

fn scale_to_variance_one(values: &mut [f64], new_mean: f64) {
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values
        .iter()
        .map(|value| (value - mean).powi(2))
        .sum::<f64>()
        / n;
    let scale = (variance + 1e-8).sqrt().recip();
    for value in values {
        *value = (*value - mean) * scale + new_mean;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: &[f64], expected: &[f64]) {
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    #[test]
    fn advantages_and_returns_of_a_late_reward() {
        let (advantages, returns) = gae(&[0.0, 0.0, 1.0], &[0.5, 0.5, 0.5], 1.0, 0.95);
        close(&advantages, &[0.451_25, 0.475, 0.5]);
        close(&returns, &[0.951_25, 0.975, 1.0]);
    }

    /// Item 31 of the checklist: the vector of item 32, with its mean of 5 kept.
    #[test]
    fn rewards_are_whitened_around_their_mean() {
        let mut values: Vec<f64> = (1..=9).map(f64::from).collect();
        whiten_around_mean(&mut values);
        close(
            &[values[0], values[4], values[8]],
            &[3.450_807, 5.0, 6.549_193],
        );
    }

    #[test]
    fn whitening_uses_the_biased_variance() {
        let mut values: Vec<f64> = (1..=9).map(f64::from).collect();
        whiten(&mut values);
        close(
            &[values[0], values[4], values[8]],
            &[-1.549_193, 0.0, 1.549_193],
        );
    }
}
