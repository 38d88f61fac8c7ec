//! Is the longer text preferred?

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::interval::{Bootstrap, Estimate};
use super::labels::{Ranking, by_prompt};

/// How often the longer of two completions is the better one.
#[derive(Debug, Clone, PartialEq)]
pub struct LengthBias {
    /// Over all labelers: the share of pairs in which the longer one is preferred. n counts pairs,
    /// a pair once for each labeler who ranked it. The interval resamples prompts
    /// ([`Bootstrap::share`]).
    pub overall: Estimate,
    /// Prompts that have such a pair.
    pub n_prompts: usize,
    /// The same by labeler, with their prompts that have such a pair.
    labelers: BTreeMap<usize, (Estimate, usize)>,
}

impl LengthBias {
    /// From all rankings, in any order, and the length of each completion: `length(prompt, place)`,
    /// where the place is that in the ranks of the prompt; in any unit, none where it is not known.
    /// Pairs that a labeler ties and pairs of the same length do not count. None where there is no
    /// pair.
    pub fn of(
        rankings: &[Ranking],
        length: impl Fn(usize, usize) -> Option<usize>,
        bootstrap: &Bootstrap,
    ) -> Option<Self> {
        let mut overall = Vec::new();
        let mut labelers: BTreeMap<usize, Vec<(f64, f64)>> = BTreeMap::new();
        by_prompt(rankings, |prompt, own| {
            let mut by_labeler: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
            for ranking in own {
                let ranked = ranking.ranks.iter().enumerate();
                let ranked =
                    ranked.filter_map(|(place, rank)| Some((length(prompt, place)?, (*rank)?)));
                let (longer, pairs) = count(&ranked.collect::<Vec<_>>());
                let sum = by_labeler.entry(ranking.labeler).or_default();
                *sum = (sum.0 + longer, sum.1 + pairs);
            }
            let all = by_labeler.values();
            overall.push(all.fold((0.0, 0.0), |sum, own| (sum.0 + own.0, sum.1 + own.1)));
            for (labeler, sum) in by_labeler {
                labelers.entry(labeler).or_default().push(sum);
            }
        });
        let labelers = labelers.into_iter().filter_map(|(labeler, prompts)| {
            let name = "length bias of a labeler";
            let share = bootstrap.share(name, labeler as u64, &prompts)?;
            Some((labeler, (share, n_telling(&prompts))))
        });
        Some(Self {
            overall: bootstrap.share("length bias", 0, &overall)?,
            n_prompts: n_telling(&overall),
            labelers: labelers.collect(),
        })
    }

    /// The share of a labeler, and how many of their prompts have such a pair.
    pub fn labeler(&self, labeler: usize) -> Option<(Estimate, usize)> {
        self.labelers.get(&labeler).copied()
    }
}

/// Prompts with a pair.
fn n_telling(prompts: &[(f64, f64)]) -> usize {
    prompts.iter().filter(|own| own.1 > 0.0).count()
}

/// Pairs of different lengths and ranks in which the longer is the better, and all of them.
fn count(ranked: &[(usize, i16)]) -> (f64, f64) {
    let (mut longer, mut pairs) = (0.0, 0.0);
    for (index, one) in ranked.iter().enumerate() {
        for other in &ranked[index + 1..] {
            let (length, rank) = (one.0.cmp(&other.0), one.1.cmp(&other.1));
            if length != Ordering::Equal && rank != Ordering::Equal {
                pairs += 1.0;
                longer += f64::from(u8::from(length != rank));
            }
        }
    }
    (longer, pairs)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn the_longer_of_a_pair_is_counted_where_it_is_better() {
        // Lengths of the completions of prompts 0 and 1; one is not known.
        let lengths = [
            vec![Some(10), Some(20), Some(20), Some(5)],
            vec![Some(1), None, Some(3)],
        ];
        let length = |prompt: usize, place: usize| *lengths.get(prompt)?.get(place)?;
        let rankings = [
            Ranking::complete(0, 7, &[3, 1, 2, 2]),
            Ranking::complete(1, 7, &[1, 2, 3]),
            Ranking {
                prompt: 1,
                labeler: 9,
                ranks: vec![Some(2), Some(1), None],
            },
        ];
        let found = LengthBias::of(&rankings, length, &Bootstrap::new(1)).unwrap();
        // Of 7: 20 is before 10, another 20 too, and 20 is before 5, but 5 before 10; equal lengths
        // and a tie do not count. Then 1 is before 3.
        assert_eq!(found.overall.n, 5);
        assert!((found.overall.value - 3.0 / 5.0).abs() < 1e-12);
        let (share, n_prompts) = found.labeler(7).unwrap();
        assert_eq!((share.value, n_prompts), (found.overall.value, 2));
        // Who has no pair has no share.
        assert_eq!(found.labeler(9), None);
        assert_eq!(found.n_prompts, 2);
        let none = LengthBias::of(&rankings, |_, _| Some(4), &Bootstrap::new(1));
        assert_eq!(none, None);
    }

    #[test]
    fn the_interval_is_over_prompts() {
        // Twenty prompts with ten pairs each: half of them wholly for the longer, half wholly
        // against.
        let rankings: Vec<Ranking> = (0..20)
            .map(|prompt| {
                let rising = [1, 2, 3, 4, 5];
                let ranks = rising.map(|rank| if prompt % 2 == 0 { rank } else { 6 - rank });
                Ranking::complete(prompt, prompt % 3, &ranks)
            })
            .collect();
        let found = LengthBias::of(&rankings, |_, place| Some(place), &Bootstrap::new(1)).unwrap();
        assert_eq!((found.overall.value, found.overall.n), (0.5, 200));
        // As wide as of twenty coins, not of two hundred: ±0.22.
        let interval = found.overall.interval.unwrap();
        assert!(
            (interval.high - interval.low - 0.44).abs() < 0.08,
            "{interval:?}"
        );
    }
}
