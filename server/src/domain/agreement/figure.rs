//! One figure as it is told: with what it rests on and an interval, or not at all.

use serde::Serialize;
use utoipa::ToSchema;

use crate::stats::agreement::{Agreed, TiePolicy};
use crate::stats::interval::Estimate;
use crate::stats::position::Test;

/// Fewest independent units (prompts, or rankings where each counts alone) that a figure is told from.
/// With fewer, bootstrap intervals are much too narrow, and a reader takes chance for a finding.
pub const FEWEST: usize = 10;

/// A figure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, ToSchema)]
pub struct Figure {
    /// Null where it would rest on too few.
    pub value: Option<f64>,
    /// Lower end of the 95 % interval; null where the data cannot tell one.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
    /// How many it rests on: pairs of completions, rankings, completions or tasks.
    pub n: usize,
    /// How many of those are independent of each other: prompts, or as many as `n`.
    pub n_prompts: usize,
}

impl Figure {
    /// An estimate over prompts, told where there are enough of them.
    pub fn of(estimate: Option<Estimate>, n_prompts: usize) -> Self {
        let n = estimate.map_or(0, |own| own.n);
        let told = estimate.filter(|_| n_prompts >= FEWEST);
        let interval = told.and_then(|own| own.interval);
        Self {
            value: told.map(|own| own.value),
            low: interval.map(|own| own.low),
            high: interval.map(|own| own.high),
            n,
            n_prompts,
        }
    }

    /// An estimate whose n counts independent units, none of which share a prompt with another.
    pub fn of_units(estimate: Option<Estimate>) -> Self {
        Self::of(estimate, estimate.map_or(0, |own| own.n))
    }

    /// Both ends of the interval.
    pub fn interval(&self) -> Option<(f64, f64)> {
        Some((self.low?, self.high?))
    }
}

/// How far two labelers agree, by each policy on ties.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, ToSchema)]
pub struct Shares {
    /// Share of pairs of completions, ordered strictly by both labelers, that both order alike.
    pub ties_left_out: Figure,
    /// The same over all pairs; one tie against a strict order is half alike, two ties are alike.
    pub ties_half: Figure,
    /// The same over all pairs, where a tie is a third answer.
    pub ties_category: Figure,
    /// Kendall's tau-b, the mean over pairs of rankings; n counts those.
    pub tau_b: Figure,
}

impl Shares {
    /// What the statistics found.
    pub fn of(agreed: &Agreed) -> Self {
        let figure = |estimate| Figure::of(estimate, agreed.n_prompts);
        Self {
            ties_left_out: Figure::of(agreed.ties_left_out, agreed.n_prompts_strict),
            ties_half: figure(agreed.ties_half),
            ties_category: figure(agreed.ties_category),
            tau_b: Figure::of(agreed.tau_b, agreed.n_prompts_tau_b),
        }
    }

    /// The share by a policy.
    pub fn by(&self, policy: TiePolicy) -> &Figure {
        match policy {
            TiePolicy::LeftOut => &self.ties_left_out,
            TiePolicy::Half => &self.ties_half,
            TiePolicy::Category => &self.ties_category,
        }
    }
}

/// A chi-square test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Chance {
    /// The statistic.
    pub chi_square: f64,
    /// Its degrees of freedom.
    pub freedom: usize,
    /// The probability of a statistic this large by chance alone.
    pub p: f64,
}

impl From<Test> for Chance {
    fn from(test: Test) -> Self {
        Self {
            chi_square: test.chi_square,
            freedom: test.freedom,
            p: test.p,
        }
    }
}
