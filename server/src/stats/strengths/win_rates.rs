//! How often an item is preferred, as counted.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::super::interval::{Estimate, wilson};
use super::super::labels::Comparison;

/// How often an item was preferred to another one, or to any.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct WinRate {
    /// It was preferred.
    pub wins: usize,
    /// Both were as good.
    pub ties: usize,
    /// The other was preferred.
    pub losses: usize,
    /// Prompts that these comparisons are of.
    pub n_prompts: usize,
    /// Wins and half of the ties, of all comparisons; n counts those. The interval is Wilson's for
    /// as many trials as there are prompts: comparisons of one prompt hang together, and count as
    /// one.
    pub rate: Estimate,
}

impl WinRate {
    fn flipped(self) -> Self {
        let flip = |end: f64| 1.0 - end;
        let interval = self.rate.interval;
        Self {
            wins: self.losses,
            losses: self.wins,
            rate: Estimate {
                value: flip(self.rate.value),
                interval: interval.map(|own| super::super::interval::Interval {
                    low: flip(own.high),
                    high: flip(own.low),
                }),
                ..self.rate
            },
            ..self
        }
    }
}

/// Win rates of items and of each two of them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WinRates {
    items: BTreeMap<usize, WinRate>,
    /// Of the lower item against the higher.
    pairs: BTreeMap<(usize, usize), WinRate>,
}

#[derive(Default)]
struct Count {
    wins: usize,
    ties: usize,
    losses: usize,
    prompts: BTreeSet<usize>,
}

impl Count {
    fn add(&mut self, own: &Comparison, item: usize) {
        self.prompts.insert(own.prompt);
        *if own.is_tie {
            &mut self.ties
        } else if own.preferred == item {
            &mut self.wins
        } else {
            &mut self.losses
        } += 1;
    }

    fn rate(&self) -> Option<WinRate> {
        let n = self.wins + self.ties + self.losses;
        let value = (self.wins as f64 + self.ties as f64 / 2.0) / n as f64;
        let trials = self.prompts.len() as f64;
        Some(WinRate {
            wins: self.wins,
            ties: self.ties,
            losses: self.losses,
            n_prompts: self.prompts.len(),
            rate: Estimate::new(value, wilson(value * trials, trials), n)?,
        })
    }
}

impl WinRates {
    /// Of all comparisons of two different items.
    pub fn of(comparisons: &[Comparison]) -> Self {
        let mut items: BTreeMap<usize, Count> = BTreeMap::new();
        let mut pairs: BTreeMap<(usize, usize), Count> = BTreeMap::new();
        for own in comparisons.iter().filter(|own| own.preferred != own.other) {
            let low = own.preferred.min(own.other);
            let high = own.preferred.max(own.other);
            pairs.entry((low, high)).or_default().add(own, low);
            for item in [low, high] {
                items.entry(item).or_default().add(own, item);
            }
        }
        fn rates<K: Ord>(counts: BTreeMap<K, Count>) -> BTreeMap<K, WinRate> {
            let rates = counts.into_iter();
            rates
                .filter_map(|(key, count)| Some((key, count.rate()?)))
                .collect()
        }
        Self {
            items: rates(items),
            pairs: rates(pairs),
        }
    }

    /// Each item with its rate against all others, in ascending order.
    pub fn items(&self) -> impl Iterator<Item = (usize, &WinRate)> {
        self.items.iter().map(|(item, rate)| (*item, rate))
    }

    /// An item against all others; none where it was compared with none.
    pub fn item(&self, item: usize) -> Option<&WinRate> {
        self.items.get(&item)
    }

    /// The first against the second; none where they were never compared.
    pub fn pair(&self, first: usize, second: usize) -> Option<WinRate> {
        if first <= second {
            self.pairs.get(&(first, second)).copied()
        } else {
            let rate = self.pairs.get(&(second, first));
            rate.map(|rate| rate.flipped())
        }
    }
}
