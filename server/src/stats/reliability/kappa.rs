//! Cohen's and Fleiss' kappa and Gwet's AC1, with intervals from their large-sample variances.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::super::interval::{Estimate, Interval, two_sided, two_sided_student};
use super::super::labels::Rating;
use super::{by_unit, categories, place};

/// Agreement beyond chance on categories.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Kappa {
    /// (observed - expected) / (1 - expected); n counts units that two or more labelers rated. The
    /// interval is analytic.
    pub estimate: Estimate,
    /// The share of two labelers' answers on a unit that are the same.
    pub observed: f64,
    /// The share that the coefficient holds to be chance.
    pub expected: f64,
    /// Clusters, such as prompts, that these units are of: what is independent of each other.
    pub n_clusters: usize,
}

/// The values that two labelers gave to the units that both rated, in the order of the units.
pub fn rated_by_both(ratings: &[Rating], first: usize, second: usize) -> Vec<(i32, i32)> {
    let by = |labeler| {
        let own = ratings.iter().filter(move |own| own.labeler == labeler);
        own.map(|rating| (rating.unit, rating.value))
            .collect::<BTreeMap<_, _>>()
    };
    let (first, second) = (by(first), by(second));
    let both = first.iter();
    both.filter_map(|(unit, value)| Some((*value, *second.get(unit)?)))
        .collect()
}

/// Cohen's kappa (1960) of two labelers' answers on the same units. The interval is that of Fleiss,
/// Cohen and Everitt (1969), normal; none where the variance is 0. None for no units, and where
/// both always say the same one thing.
pub fn cohen_kappa(pairs: &[(i32, i32)]) -> Option<Kappa> {
    let both: Vec<(usize, Vec<i32>)> = pairs.iter().map(|(a, b)| (0, vec![*a, *b])).collect();
    let categories = categories(&both);
    let (q, n) = (categories.len(), pairs.len() as f64);
    let mut table = vec![vec![0.0; q]; q];
    for (a, b) in pairs {
        table[place(&categories, *a)][place(&categories, *b)] += 1.0 / n;
    }
    let rows: Vec<f64> = table.iter().map(|row| row.iter().sum()).collect();
    let columns: Vec<f64> = (0..q)
        .map(|column| table.iter().map(|row| row[column]).sum())
        .collect();
    let observed: f64 = (0..q).map(|own| table[own][own]).sum();
    let expected: f64 = rows.iter().zip(&columns).map(|(row, own)| row * own).sum();
    if q < 2 || expected >= 1.0 {
        return None;
    }
    let kappa = (observed - expected) / (1.0 - expected);
    let mut spread = -(observed * expected - 2.0 * expected + observed).powi(2);
    for a in 0..q {
        for b in 0..q {
            let sum = columns[a] + rows[b];
            spread += table[a][b]
                * if a == b {
                    ((1.0 - expected) - sum * (1.0 - observed)).powi(2)
                } else {
                    ((1.0 - observed) * sum).powi(2)
                };
        }
    }
    let error = (spread.max(0.0) / n).sqrt() / (1.0 - expected).powi(2);
    let interval = around(kappa, error, Some(two_sided()));
    Some(Kappa {
        estimate: Estimate::new(kappa, interval, pairs.len())?,
        observed,
        expected,
        n_clusters: pairs.len(),
    })
}

/// Fleiss' kappa (1971), for two or more labelers who need not be the same on each unit nor as many
/// (Gwet 2014, chapter 5: units that only one rated still tell how often each category comes). The
/// interval is Gwet's, by Student's t over units. None where no unit was rated twice, or all
/// ratings are the same: for rare flags see [`gwet_ac1`].
pub fn fleiss_kappa(ratings: &[Rating]) -> Option<Kappa> {
    fleiss_kappa_by(ratings, |unit| unit)
}

/// The same where units hang together, as the completions of a prompt do: what all units of a cluster
/// add is one observation (the linearised variance of a cluster sample), and Student's t is over
/// clusters.
pub fn fleiss_kappa_by(ratings: &[Rating], cluster: impl Fn(usize) -> usize) -> Option<Kappa> {
    let units = by_unit(ratings);
    let n_categories = categories(&units).len();
    chance_corrected(&units, n_categories, cluster, |shares| {
        // Two ratings drawn from all are the same; each rating's part in that is its category's
        // share.
        (
            shares.iter().map(|share| share * share).sum(),
            shares.to_vec(),
        )
    })
}

/// Gwet's AC1 (2008), for two or more labelers who need not be the same on each unit nor as many.
/// `n_categories` is the number of possible answers (2 for a flag), whether or not all of them
/// came. The interval is Gwet's (2014, chapter 5), by Student's t over units; none where all units
/// say the same. None where no unit was rated twice, and for fewer than two possible answers.
pub fn gwet_ac1(ratings: &[Rating], n_categories: usize) -> Option<Kappa> {
    gwet_ac1_by(ratings, n_categories, |unit| unit)
}

/// The same where units hang together, as in [`fleiss_kappa_by`].
pub fn gwet_ac1_by(
    ratings: &[Rating],
    n_categories: usize,
    cluster: impl Fn(usize) -> usize,
) -> Option<Kappa> {
    let units = by_unit(ratings);
    let n_categories = n_categories.max(categories(&units).len());
    if n_categories < 2 {
        return None;
    }
    let others = n_categories as f64 - 1.0;
    chance_corrected(&units, n_categories, cluster, |shares| {
        let rest = shares.iter().map(|share| (1.0 - share) / others);
        let expected = shares.iter().map(|share| share * (1.0 - share) / others);
        (expected.sum(), rest.collect())
    })
}

/// A coefficient whose chance agreement is `expected(shares)`, given the share of each category:
/// its value, and what a rating of each category adds to it, which the variance needs (Gwet 2014,
/// chapter 5).
fn chance_corrected(
    units: &[(usize, Vec<i32>)],
    n_categories: usize,
    cluster: impl Fn(usize) -> usize,
    expected: impl Fn(&[f64]) -> (f64, Vec<f64>),
) -> Option<Kappa> {
    let categories = categories(units);
    let n = units.len() as f64;
    // The share of each category in each unit.
    let within: Vec<Vec<f64>> = units
        .iter()
        .map(|(_, values)| {
            let mut shares = vec![0.0; n_categories];
            for value in values {
                shares[place(&categories, *value)] += 1.0 / values.len() as f64;
            }
            shares
        })
        .collect();
    let shares: Vec<f64> = (0..n_categories)
        .map(|category| within.iter().map(|own| own[category]).sum::<f64>() / n)
        .collect();
    // The share of pairs of labelers who agree on a unit; none where only one rated it.
    let agreement = |(unit, shares): (&(usize, Vec<i32>), &Vec<f64>)| {
        let m = unit.1.len() as f64;
        let same: f64 = shares
            .iter()
            .map(|share| (share * m) * (share * m - 1.0))
            .sum();
        (m > 1.0).then(|| same / (m * (m - 1.0)))
    };
    let agreements: Vec<Option<f64>> = units.iter().zip(&within).map(agreement).collect();
    let n_compared = agreements.iter().flatten().count();
    if n_compared == 0 {
        return None;
    }
    let observed = agreements.iter().flatten().sum::<f64>() / n_compared as f64;
    let (expected, adds) = expected(&shares);
    let room = 1.0 - expected;
    // Where all ratings are the same the shares add up to 1 only within rounding.
    if room < 1e-12 {
        return None;
    }
    let value = (observed - expected) / room;
    // What each cluster adds to the coefficient beyond its share, summed over its units.
    let mut adds_of: BTreeMap<usize, f64> = BTreeMap::new();
    let mut compared = BTreeSet::new();
    for ((unit, _), (agreement, shares)) in units.iter().zip(agreements.iter().zip(&within)) {
        let cluster = cluster(*unit);
        if agreement.is_some() {
            compared.insert(cluster);
        }
        *adds_of.entry(cluster).or_default() += {
            let own = agreement.map_or(0.0, |agreement| {
                n / n_compared as f64 * (agreement - expected) / room
            });
            let chance: f64 = shares
                .iter()
                .zip(&adds)
                .map(|(share, add)| share * add)
                .sum();
            own - 2.0 * (1.0 - value) * (chance - expected) / room - value
        };
    }
    let spread: f64 = adds_of.values().map(|own| own * own).sum();
    let n_clusters = adds_of.len() as f64;
    let error = (spread * n_clusters / (n_clusters - 1.0)).sqrt() / n;
    Some(Kappa {
        estimate: Estimate::new(
            value,
            around(value, error, two_sided_student(adds_of.len())),
            n_compared,
        )?,
        observed,
        expected,
        n_clusters: compared.len(),
    })
}

/// An interval up to 1; none where the standard error is 0 but for rounding. There is no lower end:
/// units that one labeler rated can make chance so large that a coefficient is below -1.
fn around(value: f64, error: f64, quantile: Option<f64>) -> Option<Interval> {
    if error < 1e-9 {
        return None;
    }
    let interval = Interval::around(value, error, quantile?)?;
    Some(interval.within(f64::NEG_INFINITY, 1.0))
}
