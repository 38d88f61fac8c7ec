//! How often a reward model orders a held-out pair as the labeler did, with an interval, beside
//! what length alone reaches on the same pairs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use rand::Rng;

use super::groups::Group;
use crate::loss::strict_pairs;
use crate::rng::stream;

/// Resamples of the bootstrap.
const RESAMPLES: usize = 1000;

/// The ends of a 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Share of pairs in the right order, with an interval.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Accuracy {
    /// Share of strict pairs; equal scores count one half.
    pub value: f64,
    /// The 95 % interval over units; none where they cannot tell one: a single unit, or several that
    /// are all alike.
    #[serde(default)]
    pub interval: Option<Interval>,
    /// Strict pairs.
    pub n_pairs: usize,
    /// Prompts that have such pairs.
    #[serde(default)]
    pub n_prompts: usize,
    /// What they are divided into: prompts, but those with the same text or of the same customer
    /// together. 0 where an earlier version counted prompts only.
    #[serde(default)]
    pub n_units: usize,
}

impl Accuracy {
    /// The figures of a summary: the value as `name`, and the ends of the interval where there is
    /// one.
    pub fn figures(&self, name: &str) -> Vec<(String, f64)> {
        let mut figures = vec![(name.to_owned(), self.value)];
        if let Some(interval) = self.interval {
            figures.push((format!("{name}_low"), interval.low));
            figures.push((format!("{name}_high"), interval.high));
        }
        figures
    }
}

impl fmt::Display for Accuracy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:.3} ", self.value)?;
        match self.interval {
            Some(Interval { low, high }) => write!(formatter, "[{low:.3}, {high:.3}]"),
            None => formatter.write_str("(no interval)"),
        }
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

/// What the pairs of a unit count.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct UnitCount {
    /// In the right order; equal scores count one half.
    pub(crate) right: f64,
    pub(crate) pairs: usize,
    /// Prompts that have pairs.
    pub(crate) prompts: usize,
}

/// Which prompt a ranking is of, and which unit that prompt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place<'a> {
    /// What stays on one side of every split.
    pub unit: &'a str,
    /// The prompt's id.
    pub prompt: &'a str,
}

/// Adds up what several rankings of one unit count, in the order of the units' names.
pub fn by_unit<'a>(counts: impl Iterator<Item = (Place<'a>, (f64, usize))>) -> Vec<UnitCount> {
    let mut sums: BTreeMap<&str, (UnitCount, BTreeSet<&str>)> = BTreeMap::new();
    for (place, (right, pairs)) in counts {
        let (sum, prompts) = sums.entry(place.unit).or_default();
        sum.right += right;
        sum.pairs += pairs;
        if pairs > 0 {
            prompts.insert(place.prompt);
        }
    }
    let sums = sums.into_values();
    sums.map(|(sum, prompts)| UnitCount {
        prompts: prompts.len(),
        ..sum
    })
    .collect()
}

/// [`bootstrap`] over units.
pub fn bootstrap_units(counts: &[UnitCount], seed: u64) -> Accuracy {
    let pairs: Vec<_> = counts.iter().map(|own| (own.right, own.pairs)).collect();
    of_units(bootstrap(&pairs, seed), counts)
}

fn of_units(accuracy: Accuracy, counts: &[UnitCount]) -> Accuracy {
    Accuracy {
        n_prompts: counts.iter().map(|own| own.prompts).sum(),
        ..accuracy
    }
}

/// Accuracy with an interval over prompts: that of [`bootstrap_mean`], or, where every prompt is
/// right or every one wrong, so that no resample shows the other case, the exact one of as many
/// draws (Clopper and Pearson 1934: its far end is 0.025^(1/n)).
pub fn bootstrap(counts: &[(f64, usize)], seed: u64) -> Accuracy {
    let mut accuracy = bootstrap_mean(counts, seed);
    let n = accuracy.n_prompts;
    if accuracy.interval.is_none() && n >= 2 {
        let room = 0.025f64.powf(1.0 / n as f64);
        let right: f64 = counts.iter().map(|(right, _)| right).sum();
        if right == accuracy.n_pairs as f64 {
            let (low, high) = (room, 1.0);
            accuracy.interval = Some(Interval { low, high });
        } else if right == 0.0 {
            let (low, high) = (0.0, 1.0 - room);
            accuracy.interval = Some(Interval { low, high });
        }
    }
    accuracy
}

/// A mean over pairs, given their sum and number for each prompt, with a percentile interval by
/// resampling prompts, since pairs of one prompt are not independent. No interval where all
/// resamples would be the same, which says nothing about other prompts.
pub fn bootstrap_mean(counts: &[(f64, usize)], seed: u64) -> Accuracy {
    let counts: Vec<(f64, usize)> = counts.iter().filter(|(_, n)| *n > 0).copied().collect();
    let share = |right: f64, pairs: usize| right / f64::from(pairs.max(1) as u32);
    let n_pairs = counts.iter().map(|(_, pairs)| pairs).sum();
    let mut accuracy = Accuracy {
        value: share(counts.iter().map(|(right, _)| right).sum(), n_pairs),
        interval: None,
        n_pairs,
        n_prompts: counts.len(),
        n_units: counts.len(),
    };
    let mut shares = counts.iter().map(|(right, pairs)| share(*right, *pairs));
    let first = shares.next();
    if shares.all(|other| Some(other) == first) {
        return accuracy;
    }
    let mut rng = stream(seed, "bootstrap", 0);
    let mut shares: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let (mut right, mut pairs) = (0.0, 0);
            for _ in &counts {
                let (r, p) = counts[rng.random_range(0..counts.len())];
                right += r;
                pairs += p;
            }
            share(right, pairs)
        })
        .collect();
    shares.sort_by(f64::total_cmp);
    accuracy.interval = Some(Interval {
        low: shares[RESAMPLES * 25 / 1000],
        high: shares[RESAMPLES * 975 / 1000 - 1],
    });
    accuracy
}

/// Whether longer completions are better in the training pairs, as far as length alone tells.
pub(super) fn longer_is_better(train: &[Group]) -> bool {
    let right = |sign| -> f64 {
        let counts = train.iter().map(|group| count_length(group, sign));
        counts.map(|(right, _)| right).sum()
    };
    right(1.0) >= right(-1.0)
}

/// What length alone counts on a ranking.
fn count_length(group: &Group, sign: f32) -> (f64, usize) {
    let lengths = group.lengths.iter();
    let scores: Vec<f32> = lengths.map(|length| sign * *length as f32).collect();
    count_right(&scores, &group.ranks)
}

/// What a rule that looks at nothing but length counts on each ranking.
pub(super) fn count_lengths(groups: &[Group], longer_is_better: bool) -> Vec<(f64, usize)> {
    let sign = if longer_is_better { 1.0 } else { -1.0 };
    let counts = groups.iter().map(|group| count_length(group, sign));
    counts.collect()
}

/// What a rule that looks at nothing but length counts on each held-out unit. Whether longer or
/// shorter is better is chosen on the training pairs.
pub(crate) fn count_by_length(train: &[Group], held_out: &[Group]) -> Vec<UnitCount> {
    let counts = count_lengths(held_out, longer_is_better(train));
    by_unit(held_out.iter().map(Group::place).zip(counts))
}

/// Pairs that a model has in the right order, and pairs, of each unit.
pub(super) fn count_by_scores(groups: &[Group], scores: &[Vec<f32>]) -> Vec<UnitCount> {
    let both = groups.iter().zip(scores);
    by_unit(both.map(|(group, scores)| (group.place(), count_right(scores, &group.ranks))))
}

/// The 95 % interval of a figure over `n` prompts by drawing as many with replacement; draws of
/// which it cannot be told are left out. None where it can be told of none, or where all are the
/// same, which says nothing about other prompts.
pub(super) fn percentile_interval(
    n: usize,
    seed: u64,
    figure: &mut dyn FnMut(&[usize]) -> Option<f64>,
) -> Option<Interval> {
    let mut rng = stream(seed, "bootstrap of a figure", 0);
    let mut found: Vec<f64> = (0..RESAMPLES)
        .filter_map(|_| {
            let chosen: Vec<usize> = (0..n).map(|_| rng.random_range(0..n)).collect();
            figure(&chosen)
        })
        .collect();
    found.sort_by(f64::total_cmp);
    if found.first() == found.last() {
        return None;
    }
    Some(Interval {
        low: *found.get(found.len() * 25 / 1000)?,
        high: *found.get((found.len() * 975 / 1000).saturating_sub(1))?,
    })
}

/// By how much one way of scoring is more accurate than another on the same pairs, with the
/// interval of the difference: units that are hard for both do not widen it.
pub(crate) fn difference(a: &[UnitCount], b: &[UnitCount], seed: u64) -> Accuracy {
    let both = a.iter().zip(b);
    let counts: Vec<(f64, usize)> = both.map(|(a, b)| (a.right - b.right, a.pairs)).collect();
    of_units(bootstrap_mean(&counts, seed), a)
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn equal_scores_count_one_half_and_ties_do_not_count() {
        assert_eq!(count_right(&[1.0, 0.0, 0.0], &[1, 2, 3]), (2.5, 3));
        assert_eq!(count_right(&[1.0, 0.0], &[1, 1]), (0.0, 0));
    }

    #[test]
    fn the_interval_holds_the_value() {
        let counts: Vec<(f64, usize)> = (0..40).map(|i| (f64::from(i % 7), 6)).collect();
        let accuracy = bootstrap(&counts, 1);
        let Interval { low, high } = accuracy.interval.unwrap();
        assert!(
            low < accuracy.value && accuracy.value < high,
            "{accuracy:?}"
        );
        assert_eq!((accuracy.n_pairs, accuracy.n_prompts), (240, 40));
    }

    /// Prompts of a customer are as unsure together as they are few customers.
    #[test]
    fn a_unit_counts_once_however_many_prompts_it_has() {
        let names: Vec<String> = (0..40).map(|index| format!("p{index}")).collect();
        let units: Vec<String> = (0..40).map(|index| format!("u{}", index / 10)).collect();
        let count = |unit: &dyn Fn(usize) -> usize| {
            let counts = (0..40).map(|index| {
                // A customer's prompts are all hard or all easy.
                let right = if index / 10 % 2 == 0 { 5.0 } else { 1.0 };
                let (unit, prompt) = (&units[unit(index)], &names[index]);
                (Place { unit, prompt }, (right, 6))
            });
            by_unit(counts)
        };
        let width = |accuracy: Accuracy| {
            let Interval { low, high } = accuracy.interval.unwrap();
            high - low
        };
        let together = bootstrap_units(&count(&|index| index), 1);
        assert_eq!(
            (together.n_units, together.n_prompts, together.n_pairs),
            (4, 40, 240)
        );
        let one = bootstrap_units(&count(&|_| 0), 1);
        assert_eq!((one.n_units, one.n_prompts, one.interval), (1, 40, None));
        let own = names.iter().enumerate().map(|(index, name)| {
            let right = if index / 10 % 2 == 0 { 5.0 } else { 1.0 };
            let place = Place {
                unit: name,
                prompt: name,
            };
            (place, (right, 6))
        });
        let apart = bootstrap_units(&by_unit(own), 1);
        assert_eq!((apart.n_units, apart.value), (40, together.value));
        assert!(width(together) > 2.0 * width(apart), "{together} {apart}");
        // Two rankings of one prompt are no two prompts, and one without pairs is none.
        let place = Place {
            unit: "u",
            prompt: "p",
        };
        let other = Place {
            prompt: "q",
            ..place
        };
        let counts = by_unit([(place, (1.0, 1)), (place, (1.0, 2)), (other, (0.0, 0))].into_iter());
        assert_eq!(
            counts,
            [UnitCount {
                right: 2.0,
                pairs: 3,
                prompts: 1
            }]
        );
    }

    /// One prompt says nothing about others, and nor do prompts without a strict pair.
    #[test]
    fn a_single_prompt_has_no_interval() {
        for counts in [vec![(5.0, 6)], vec![(5.0, 6), (0.0, 0)], vec![(6.0, 6)]] {
            let accuracy = bootstrap(&counts, 1);
            assert_eq!((accuracy.interval, accuracy.n_prompts), (None, 1));
            let figures = accuracy.figures("accuracy");
            assert_eq!(figures, [("accuracy".to_owned(), accuracy.value)]);
            assert!(accuracy.to_string().ends_with("(no interval)"));
        }
        assert_eq!(bootstrap(&[], 1).interval, None);
    }

    /// Every resample of prompts that are all right is all right. The exact interval says how much
    /// that is worth: 0.025 = 0.5^n has its solution at n = 5.3, so 5 prompts reach just below one
    /// half, and 6 above.
    #[test]
    fn prompts_that_are_all_right_do_not_look_certain() {
        let interval = |right: f64, n: usize| bootstrap(&vec![(right, 3); n], 1).interval;
        let low = |n| interval(3.0, n).unwrap().low;
        assert!((low(2) - 0.025f64.sqrt()).abs() < 1e-12);
        assert!(low(5) < 0.5 && low(6) > 0.5);
        let wrong = interval(0.0, 6).unwrap();
        assert!((wrong.high - (1.0 - low(6))).abs() < 1e-12 && wrong.low == 0.0);
        assert_eq!(interval(1.5, 6), None);
        assert_eq!(bootstrap_mean(&[(0.0, 1); 6], 1).interval, None);
    }
}
