//! Krippendorff's alpha (Content Analysis, 4th edition 2018, chapter 12): one less the observed
//! disagreement over the one expected by chance.

use std::collections::BTreeMap;

use serde::Serialize;

use super::super::correlation::places;
use super::super::interval::{Bootstrap, Estimate};
use super::super::labels::{Ranking, Rating, by_prompt};
use super::{by_unit, categories, place};

/// What the distance of two values means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// Same or different.
    Nominal,
    /// How many ratings lie between them.
    Ordinal,
    /// Their difference.
    Interval,
}

/// Krippendorff's alpha.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Alpha {
    /// 1: all agree; 0: as by chance; below: worse than by chance. n counts units that two or more
    /// labelers rated. The interval is a percentile bootstrap.
    pub estimate: Estimate,
    /// Ratings of these units.
    pub n_ratings: usize,
    /// Clusters, such as prompts, that these units are of: what is independent of each other.
    pub n_clusters: usize,
}

/// Alpha over the ratings of all units that two or more labelers rated, with a bootstrap interval
/// that resamples units. None where there is no such unit or all their ratings are the same: then
/// nothing tells agreement from chance.
pub fn krippendorff_alpha(
    ratings: &[Rating],
    scale: Scale,
    bootstrap: &Bootstrap,
) -> Option<Alpha> {
    krippendorff_alpha_by(ratings, scale, |unit| unit, bootstrap)
}

/// The same where units hang together, as the completions of a prompt do: the bootstrap resamples
/// the clusters that `cluster` tells of each unit.
pub fn krippendorff_alpha_by(
    ratings: &[Rating],
    scale: Scale,
    cluster: impl Fn(usize) -> usize,
    bootstrap: &Bootstrap,
) -> Option<Alpha> {
    let units = by_unit(ratings).into_iter();
    let mut clustered: Vec<_> = units.map(|unit| (cluster(unit.0), unit)).collect();
    clustered.sort_by_key(|(cluster, _)| *cluster);
    alpha(&clustered, scale, bootstrap)
}

/// Ordinal alpha of the ranks that labelers gave: a unit is a completion, and the bootstrap
/// resamples prompts, since the ranks of one prompt hang together. Only the order of ranks counts:
/// those who share a rank take the mean of the places that they take, so that who ties the first
/// three and who does not put the same completion last. As ranks are compared over all prompts, it
/// is at its best where all prompts have as many completions.
pub fn alpha_of_ranks(rankings: &[Ranking], bootstrap: &Bootstrap) -> Option<Alpha> {
    let mut clustered = Vec::new();
    by_prompt(rankings, |prompt, own| {
        let mut ratings = Vec::new();
        for ranking in own {
            let ranked = ranking.ranks.iter().enumerate();
            let ranked = ranked.filter_map(|(unit, rank)| Some((unit, f64::from((*rank)?))));
            let (units, ranks): (Vec<usize>, Vec<f64>) = ranked.unzip();
            ratings.extend(
                units
                    .iter()
                    .zip(places(&ranks))
                    .map(|(unit, place)| Rating {
                        unit: *unit,
                        labeler: ranking.labeler,
                        // Mean places are halves.
                        value: (2.0 * place) as i32,
                    }),
            );
        }
        clustered.extend(by_unit(&ratings).into_iter().map(|unit| (prompt, unit)));
    });
    alpha(&clustered, Scale::Ordinal, bootstrap)
}

/// What a cluster of units adds.
struct Sums {
    /// Ratings of each category that it has.
    ratings: Vec<(usize, f64)>,
    /// Krippendorff's coincidences of each two different categories that it has, by their place in
    /// `Table::pairs`; each two are counted once.
    coincidences: Vec<(usize, f64)>,
}

/// All clusters, and what the sums are of.
struct Table {
    categories: Vec<i32>,
    /// Different categories that some unit has both of.
    pairs: Vec<(usize, usize)>,
    clusters: Vec<Sums>,
    n_units: usize,
    n_ratings: usize,
}

impl Table {
    /// Of units with the cluster that each is in, those of a cluster together.
    fn new(clustered: &[(usize, (usize, Vec<i32>))]) -> Self {
        let paired = clustered.iter().filter(|(_, unit)| unit.1.len() >= 2);
        let units: Vec<(usize, Vec<i32>)> = paired.clone().map(|(_, unit)| unit.clone()).collect();
        let categories = categories(&units);
        let mut places: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        let mut table = Self {
            categories,
            pairs: Vec::new(),
            clusters: Vec::new(),
            n_units: units.len(),
            n_ratings: units.iter().map(|unit| unit.1.len()).sum(),
        };
        let paired: Vec<_> = paired.collect();
        for cluster in paired.chunk_by(|a, b| a.0 == b.0) {
            let (mut ratings, mut coincidences) = (BTreeMap::new(), BTreeMap::new());
            for (_, (_, values)) in cluster {
                let mut own: BTreeMap<usize, f64> = BTreeMap::new();
                for value in values {
                    *own.entry(place(&table.categories, *value)).or_default() += 1.0;
                }
                let others = values.len() as f64 - 1.0;
                for (index, (category, count)) in own.iter().enumerate() {
                    *ratings.entry(*category).or_default() += count;
                    for (other, times) in own.iter().skip(index + 1) {
                        let pair = (*category, *other);
                        let pairs = &mut table.pairs;
                        let place = *places.entry(pair).or_insert_with(|| {
                            pairs.push(pair);
                            pairs.len() - 1
                        });
                        *coincidences.entry(place).or_default() += count * times / others;
                    }
                }
            }
            table.clusters.push(Sums {
                ratings: ratings.into_iter().collect(),
                coincidences: coincidences.into_iter().collect(),
            });
        }
        table
    }

    /// Alpha of clusters, each as often as it comes.
    fn alpha(&self, clusters: impl Iterator<Item = usize>, scale: Scale) -> Option<f64> {
        let mut ratings = vec![0.0; self.categories.len()];
        let mut coincidences = vec![0.0; self.pairs.len()];
        for sums in clusters.filter_map(|cluster| self.clusters.get(cluster)) {
            for (category, count) in &sums.ratings {
                ratings[*category] += count;
            }
            for (pair, count) in &sums.coincidences {
                coincidences[*pair] += count;
            }
        }
        let n: f64 = ratings.iter().sum();
        // On an ordinal scale two categories are as far apart as the mean places of their ratings;
        // that is the same as Krippendorff's sum over the ratings between them.
        let mut before = 0.0;
        let at: Vec<f64> = match scale {
            Scale::Nominal => Vec::new(),
            Scale::Ordinal => ratings
                .iter()
                .map(|count| {
                    before += count;
                    before - count / 2.0
                })
                .collect(),
            Scale::Interval => self.categories.iter().copied().map(f64::from).collect(),
        };
        let distance = |a: usize, b: usize| match scale {
            Scale::Nominal => 1.0,
            Scale::Ordinal | Scale::Interval => (at[a] - at[b]).powi(2),
        };
        // Both disagreements are sums over ordered pairs, so twice those over pairs.
        let both = self.pairs.iter().zip(&coincidences);
        let observed: f64 = both.map(|((a, b), count)| count * distance(*a, *b)).sum();
        let expected = match scale {
            Scale::Nominal => (n * n - ratings.iter().map(|own| own * own).sum::<f64>()) / 2.0,
            // The sum over pairs of a squared difference is n times the sum of squares around the
            // mean.
            Scale::Ordinal | Scale::Interval => {
                let both = || ratings.iter().zip(&at);
                let mean = both().map(|(count, at)| count * at).sum::<f64>() / n;
                n * both()
                    .map(|(count, at)| count * (at - mean).powi(2))
                    .sum::<f64>()
            }
        };
        let varies = ratings.iter().filter(|count| **count > 0.0).count() > 1;
        let alpha = 1.0 - (n - 1.0) * observed / expected;
        (varies && alpha.is_finite()).then_some(alpha)
    }
}

fn alpha(
    clustered: &[(usize, (usize, Vec<i32>))],
    scale: Scale,
    bootstrap: &Bootstrap,
) -> Option<Alpha> {
    let table = Table::new(clustered);
    let n = table.clusters.len();
    let value = table.alpha(0..n, scale)?;
    let interval = bootstrap.interval("alpha", scale as u64, n, |drawn| {
        table.alpha(drawn.iter().map(|cluster| *cluster as usize), scale)
    });
    Some(Alpha {
        estimate: Estimate::new(value, interval, table.n_units)?,
        n_ratings: table.n_ratings,
        n_clusters: n,
    })
}
