//! Does the place on the page decide?

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::figure::{Chance, Figure};
use crate::domain::labels::Label;
use crate::stats::position::position_bias;

/// Expected first ranks of each place from which on the chi-square test is told (Cochran 1954).
pub(super) const FEWEST_EXPECTED: f64 = 5.0;

/// Position bias.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub struct Positions {
    /// By number of candidates.
    pub tables: Vec<Table>,
    /// All tables that have enough rankings in one test; null where there is none.
    pub test: Option<Chance>,
    /// Rankings of that test.
    pub n: usize,
    /// Rankings that are left out, since the file that they came from does not say in which order the
    /// candidates were shown.
    pub n_without_order: usize,
}

/// Places of tasks with as many candidates.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Table {
    /// Candidates.
    pub k: usize,
    /// Rankings.
    pub n: usize,
    /// Share of first ranks that each place would have without bias.
    pub expected: f64,
    /// Each place, the first shown first.
    pub slots: Vec<Slot>,
    /// Whether all places come first equally often; null where fewer than five first ranks are expected
    /// of each.
    pub test: Option<Chance>,
}

/// A place on the page.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Slot {
    /// 1 is shown first.
    pub position: usize,
    /// How often the candidate shown here came first; those who share the first rank share it. n counts
    /// rankings.
    pub first: Figure,
    /// Its mean rank.
    pub mean_rank: Figure,
}

impl Positions {
    /// Of these rankings; those in which a candidate has no rank, or whose order is not known, say nothing.
    pub fn of(labels: &[&Label]) -> Self {
        let mut by_k: BTreeMap<usize, Vec<Vec<i16>>> = BTreeMap::new();
        for ranks in labels.iter().filter_map(|label| label.ranks_as_shown()) {
            by_k.entry(ranks.len()).or_default().push(ranks);
        }
        let enough = by_k.iter();
        let enough = enough.filter(|(k, own)| own.len() as f64 >= FEWEST_EXPECTED * **k as f64);
        let enough: Vec<&Vec<i16>> = enough.flat_map(|(_, own)| own).collect();
        let tested = position_bias(&enough);
        Self {
            tables: by_k.values().filter_map(|own| table(own)).collect(),
            n: tested.as_ref().map_or(0, |own| own.n),
            test: tested.and_then(|own| own.test).map(Chance::from),
            n_without_order: labels
                .iter()
                .filter(|label| label.display_order.is_empty())
                .count(),
        }
    }
}

fn table(rankings: &[Vec<i16>]) -> Option<Table> {
    let found = position_bias(rankings)?.tables.pop()?;
    let slot = |(place, own): (usize, &crate::stats::position::Place)| Slot {
        position: place + 1,
        first: Figure::of_units(Some(own.share)),
        mean_rank: Figure::of_units(Some(own.mean_rank)),
    };
    let test = found.test.filter(|_| found.expected >= FEWEST_EXPECTED);
    Some(Table {
        k: found.k,
        n: found.n,
        expected: 1.0 / found.k as f64,
        slots: found.places.iter().enumerate().map(slot).collect(),
        test: test.map(Chance::from),
    })
}
