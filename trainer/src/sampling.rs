//! Drawing the next token. Each sample has a random stream of its own, so what it draws does not
//! depend on which rows it is batched with.

use rand::Rng;
use rand_chacha::ChaCha12Rng;
use serde::{Deserialize, Serialize};

use crate::nn::simd;

/// How completions are drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplingConfig {
    /// Divides the logits; 1 samples the model's own distribution.
    pub temperature: f64,
    /// Smallest set of tokens whose probabilities add up to this; 1 is off.
    pub top_p: f64,
    /// Longest completion, in tokens, EOS included.
    pub max_new_tokens: usize,
    /// Seed of all draws.
    pub seed: u64,
}

impl SamplingConfig {
    /// Says which setting is out of range, if one is.
    pub fn complaint(&self) -> Option<(&'static str, String)> {
        if !(self.temperature > 0.0 && self.temperature <= 10.0) {
            return Some(("temperature", "must be above 0 and at most 10".to_owned()));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Some(("top_p", "must be above 0 and at most 1".to_owned()));
        }
        if !(1..=4096).contains(&self.max_new_tokens) {
            return Some(("max_new_tokens", "must be 1 to 4096".to_owned()));
        }
        None
    }
}

/// Draws a token from `logits`, and says how likely it was: the logarithm of its probability, at the
/// temperature and among the tokens that could be drawn.
pub fn draw(logits: &[f32], config: &SamplingConfig, rng: &mut ChaCha12Rng) -> (u32, f64) {
    let scale = (1.0 / config.temperature) as f32;
    let mut weights = logits.to_vec();
    simd::exp_in_place(&mut weights, simd::highest(logits), scale);
    if config.top_p < 1.0 {
        keep_nucleus(&mut weights, config.top_p);
    }
    let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
    let mut left = rng.random::<f64>() * total;
    let mut last = 0;
    for (token, weight) in weights.iter().enumerate() {
        if *weight > 0.0 {
            last = token;
            left -= f64::from(*weight);
            if left < 0.0 {
                break;
            }
        }
    }
    (last as u32, (f64::from(weights[last]) / total).ln())
}

/// Sets to 0 all but the likeliest tokens that together reach `top_p` (Holtzman et al.,
/// arXiv 1904.09751).
fn keep_nucleus(weights: &mut [f32], top_p: f64) {
    let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
    let mut order: Vec<usize> = (0..weights.len()).filter(|i| weights[*i] > 1e-8).collect();
    order.sort_unstable_by(|a, b| weights[*b].total_cmp(&weights[*a]).then(a.cmp(b)));
    let mut sum = 0.0;
    let mut kept = 0;
    for index in &order {
        sum += f64::from(weights[*index]);
        kept += 1;
        if sum >= top_p * total {
            break;
        }
    }
    let mut keep = vec![false; weights.len()];
    for index in &order[..kept] {
        keep[*index] = true;
    }
    for (weight, keep) in weights.iter_mut().zip(keep) {
        if !keep {
            *weight = 0.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::stream;

    fn config(temperature: f64, top_p: f64) -> SamplingConfig {
        SamplingConfig {
            temperature,
            top_p,
            max_new_tokens: 1,
            seed: 0,
        }
    }

    #[test]
    fn tokens_are_drawn_as_often_as_their_probability_says() {
        let logits = [0.0_f32, 1.0, 2.0].map(|x| x * 0.5);
        let mut rng = stream(3, "draw", 0);
        let mut counts = [0.0_f64; 3];
        for _ in 0..30_000 {
            let (token, log_prob) = draw(&logits, &config(0.5, 1.0), &mut rng);
            let likely = f64::from(token) - (0..3).map(|i| f64::from(i).exp()).sum::<f64>().ln();
            assert!((log_prob - likely).abs() < 1e-6);
            counts[token as usize] += 1.0 / 30_000.0;
        }
        let total: f64 = (0..3).map(|i| f64::from(i).exp()).sum();
        for (i, count) in counts.iter().enumerate() {
            assert!(
                (count - (i as f64).exp() / total).abs() < 0.01,
                "{counts:?}"
            );
        }
    }

    #[test]
    fn the_nucleus_leaves_out_the_tail() {
        let logits = [0.5_f32.ln(), 0.3_f32.ln(), 0.2_f32.ln()];
        let mut rng = stream(3, "draw", 0);
        let drawn: Vec<u32> = (0..500)
            .map(|_| draw(&logits, &config(1.0, 0.7), &mut rng).0)
            .collect();
        assert!(drawn.contains(&0) && drawn.contains(&1) && !drawn.contains(&2));
    }
}
