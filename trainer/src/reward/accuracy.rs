//! How often a reward model orders a held-out pair as the labeler did, with an interval, beside
//! what length alone reaches on the same pairs.

use std::collections::BTreeMap;
use std::fmt;

use rand::Rng;

use super::groups::Group;
use crate::loss::strict_pairs;
use crate::rng::stream;

/// Resamples of the bootstrap.
const RESAMPLES: usize = 1000;

/// Share of pairs in the right order, with an interval.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub struct Accuracy {
    /// Share of strict pairs; equal scores count one half.
    pub value: f64,
    /// Lower end of the 95 % interval, by bootstrap over prompts.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Strict pairs.
    pub n_pairs: usize,
}

impl fmt::Display for Accuracy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{:.3} [{:.3}, {:.3}]",
            self.value, self.low, self.high
        )
    }
}

/// Pairs in the right order (equal scores count one half), and pairs.
pub fn count_right(scores: &[f32], ranks: &[u32]) -> (f64, usize) {
    let pairs = strict_pairs(ranks);
    let right =
        pairs.iter().map(
            |(better, worse)| match scores[*better].partial_cmp(&scores[*worse]) {
                Some(std::cmp::Ordering::Greater) => 1.0,
                Some(std::cmp::Ordering::Equal) => 0.5,
                _ => 0.0,
            },
        );
    (right.sum(), pairs.len())
}

/// Adds up what several rankings of one prompt count, in the order of the prompts' ids.
pub fn by_prompt<'a>(
    ids: impl Iterator<Item = &'a str>,
    counts: &[(f64, usize)],
) -> Vec<(f64, usize)> {
    let mut sums: BTreeMap<&str, (f64, usize)> = BTreeMap::new();
    for (id, (right, pairs)) in ids.zip(counts) {
        let sum = sums.entry(id).or_default();
        sum.0 += right;
        sum.1 += pairs;
    }
    sums.into_values().collect()
}

/// Accuracy with a percentile interval by resampling prompts, since pairs of one prompt are not
/// independent.
pub fn bootstrap(counts: &[(f64, usize)], seed: u64) -> Accuracy {
    let share = |right: f64, pairs: usize| right / f64::from(pairs.max(1) as u32);
    let mut rng = stream(seed, "bootstrap", 0);
    let mut shares: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let (mut right, mut pairs) = (0.0, 0);
            for _ in counts {
                let (r, p) = counts[rng.random_range(0..counts.len())];
                right += r;
                pairs += p;
            }
            share(right, pairs)
        })
        .collect();
    shares.sort_by(f64::total_cmp);
    let n_pairs = counts.iter().map(|(_, pairs)| pairs).sum();
    Accuracy {
        value: share(counts.iter().map(|(right, _)| right).sum(), n_pairs),
        low: shares[RESAMPLES * 25 / 1000],
        high: shares[RESAMPLES * 975 / 1000 - 1],
        n_pairs,
    }
}

/// What a rule that looks at nothing but length counts on each held-out prompt. Whether longer or
/// shorter is better is chosen on the training pairs.
pub(crate) fn count_by_length(train: &[Group], held_out: &[Group]) -> Vec<(f64, usize)> {
    let count = |groups: &[Group], sign: f32| -> Vec<(f64, usize)> {
        let scored = groups.iter().map(|group| {
            let scores: Vec<f32> = group
                .lengths
                .iter()
                .map(|length| sign * *length as f32)
                .collect();
            count_right(&scores, &group.ranks)
        });
        scored.collect()
    };
    let right = |sign| {
        count(train, sign)
            .iter()
            .map(|(right, _)| right)
            .sum::<f64>()
    };
    let sign = if right(1.0) >= right(-1.0) { 1.0 } else { -1.0 };
    let ids = held_out.iter().map(|group| group.prompt_id.as_str());
    by_prompt(ids, &count(held_out, sign))
}

/// By how much one way of scoring is more accurate than another on the same pairs, with the
/// interval of the difference: prompts that are hard for both do not widen it.
pub(crate) fn difference(a: &[(f64, usize)], b: &[(f64, usize)], seed: u64) -> Accuracy {
    let both = a.iter().zip(b);
    let counts: Vec<(f64, usize)> = both.map(|(a, b)| (a.0 - b.0, a.1)).collect();
    bootstrap(&counts, seed)
}

/// Mean and standard deviation.
pub fn mean_and_deviation(values: &[f32]) -> (f64, f64) {
    let n = values.len().max(1) as f64;
    let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>() / n;
    let variance = values
        .iter()
        .map(|value| (f64::from(*value) - mean).powi(2))
        .sum::<f64>()
        / n;
    (mean, variance.sqrt())
}
