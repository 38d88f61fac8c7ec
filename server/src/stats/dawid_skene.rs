//! How well each labeler flags, and what is probably true, told from the flags alone: Dawid and
//! Skene's model (Applied Statistics 1979), for flags (0 and 1) and for any categories.
//!
//! Each unit is truly of one category, and each labeler says each category with probabilities of
//! their own that depend on the true one. Labelers err independently. The most probable values are
//! found by expectation and maximisation from the shares of votes, with Dirichlet priors
//! ([`Priors`]) so that a labeler of few ratings is not held to be perfect, and so that a crowd
//! that is mostly right is told from its mirror image.
//!
//! Only units that two or more labelers rated say anything of labelers. Where one rated a unit more
//! than once each rating counts, as in the paper.

mod spread;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::interval::Estimate;
use super::labels::Rating;
use super::linear::Cholesky;

use self::spread::{Spread, interval, subtract};

/// Most rounds of expectation and maximisation.
const MOST_ROUNDS: usize = 5000;

/// Rounds end when no probability moves by more.
const STILL: f64 = 1e-8;

/// Most parameters with which there are intervals: the work grows with their third power. Flags
/// have two for each labeler.
const MOST_WITH_INTERVALS: usize = 1500;

/// Units that are imagined beforehand (Dirichlet parameters less 1). All 0 is maximum likelihood.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Priors {
    /// Of each category.
    pub category: f64,
    /// That each labeler told rightly, of each category.
    pub right: f64,
    /// That each labeler told wrongly, of each category; the wrong answers share them.
    pub wrong: f64,
}

impl Default for Priors {
    /// One unit of each category; each labeler told three of four rightly.
    fn default() -> Self {
        Self {
            category: 1.0,
            right: 3.0,
            wrong: 1.0,
        }
    }
}

/// How a labeler rates.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Labeler {
    /// Which labeler.
    pub labeler: usize,
    /// Ratings of units that another one rated too.
    pub n: usize,
    /// How probable each answer is (inner) where each category is true (outer).
    pub rates: Vec<Vec<f64>>,
    /// How probable it is that the answer is right where each category is true. n is how many such
    /// units they probably rated. The interval is normal on log odds, from the observed information
    /// (Louis 1982), which allows for the truth being uncertain, and by [`dawid_skene_by`] from the
    /// clusters where that is wider; none where there are more than 1,500 parameters.
    pub right: Vec<Estimate>,
    /// How many clusters with such a unit they probably rated, by true category: the chance that at
    /// least one unit is of it, summed over clusters. Without clusters each unit is one.
    pub n_clusters: Vec<usize>,
}

impl Labeler {
    /// How probable a flag (1) is where it is due; none for more than two categories.
    pub fn sensitivity(&self) -> Option<Estimate> {
        self.of_flag(1)
    }

    /// How probable no flag (0) is where none is due; none for more than two categories.
    pub fn specificity(&self) -> Option<Estimate> {
        self.of_flag(0)
    }

    /// How many clusters the sensitivity (1) or specificity (0) rests on.
    pub fn clusters_of_flag(&self, category: usize) -> usize {
        self.n_clusters.get(category).copied().unwrap_or_default()
    }

    fn of_flag(&self, category: usize) -> Option<Estimate> {
        let is_flag = self.right.len() == 2;
        self.right.get(category).copied().filter(|_| is_flag)
    }
}

/// What the ratings tell.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DawidSkene {
    /// Labelers who rated a unit that another one rated too, in ascending order.
    pub labelers: Vec<Labeler>,
    /// The share of each category among the units that two or more labelers rated; n counts these.
    /// The interval is as that of [`Labeler::right`].
    pub categories: Vec<Estimate>,
    /// How probable each category is for each unit that one of these labelers rated.
    pub units: BTreeMap<usize, Vec<f64>>,
    /// Whether the rounds ended by themselves.
    pub has_converged: bool,
}

impl DawidSkene {
    /// How a labeler rates.
    pub fn labeler(&self, labeler: usize) -> Option<&Labeler> {
        let found = self
            .labelers
            .binary_search_by_key(&labeler, |own| own.labeler);
        found.ok().map(|place| &self.labelers[place])
    }
}

/// What ratings with values from 0 to `n_categories` - 1 tell. None where no unit was rated by two
/// labelers, where a value is another one, for fewer than two categories, and for priors that are
/// negative or not numbers.
pub fn dawid_skene(ratings: &[Rating], n_categories: usize, priors: &Priors) -> Option<DawidSkene> {
    fit(ratings, n_categories, priors, |unit| unit, false)
}

/// The same where units hang together, as the completions of a prompt do: who misreads a prompt errs
/// on all of them. The intervals are then of a sandwich (Godambe 1960) that takes all units of a cluster
/// as one observation, or of the information where that is wider.
pub fn dawid_skene_by(
    ratings: &[Rating],
    n_categories: usize,
    priors: &Priors,
    cluster: impl Fn(usize) -> usize,
) -> Option<DawidSkene> {
    fit(ratings, n_categories, priors, cluster, true)
}

fn fit(
    ratings: &[Rating],
    n_categories: usize,
    priors: &Priors,
    cluster: impl Fn(usize) -> usize,
    is_clustered: bool,
) -> Option<DawidSkene> {
    let all = [priors.category, priors.right, priors.wrong];
    if n_categories < 2 || !all.iter().all(|own| *own >= 0.0 && own.is_finite()) {
        return None;
    }
    let crowd = Crowd::read(ratings, n_categories, *priors)?;
    if crowd.shared.is_empty() {
        return None;
    }
    let votes = |alike: &Alike| alike.votes(n_categories);
    let mut truths: Vec<Vec<f64>> = crowd.shared.iter().map(votes).collect();
    let mut model = crowd.model(&truths);
    let mut has_converged = false;
    for _ in 0..MOST_ROUNDS {
        truths = crowd.truths(&crowd.shared, &model);
        let next = crowd.model(&truths);
        has_converged = model.distance(&next) < STILL;
        model = next;
        if has_converged {
            break;
        }
    }
    let alone = crowd.truths(&crowd.alone, &model);
    let shared = crowd.shared.iter().zip(&truths);
    let all = shared.chain(crowd.alone.iter().zip(&alone));
    let all = all.flat_map(|(own, truth)| own.units.iter().map(|unit| (*unit, truth.clone())));
    let units = all.collect();
    let counts = crowd.counts(&truths);
    let information = crowd.information(&model, &truths, &counts);
    let slopes = if is_clustered && information.is_some() {
        crowd.slopes_of_clusters(&model, &truths, &cluster)
    } else {
        Vec::new()
    };
    let spread = information.map(|information| Spread {
        information,
        slopes,
    });
    let clusters = crowd.count_clusters(&truths, &cluster);
    Some(DawidSkene {
        labelers: crowd.qualities(&model, (&counts, &clusters), spread.as_ref()),
        categories: crowd.shares(&model, spread.as_ref())?,
        units,
        has_converged,
    })
}

/// Units that the same labelers said the same of: there are far fewer of these than units, since
/// most are not flagged.
struct Alike {
    /// The places of labelers with the categories they said.
    said: Vec<(usize, usize)>,
    units: Vec<usize>,
}

struct Crowd {
    n_categories: usize,
    priors: Priors,
    labelers: Vec<usize>,
    /// Units that two or more labelers rated.
    shared: Vec<Alike>,
    /// Other units that one of their labelers rated.
    alone: Vec<Alike>,
}

/// The parameters.
struct Model {
    categories: Vec<f64>,
    /// By labeler, true category and answer.
    rates: Vec<f64>,
}

impl Alike {
    /// The share of each category among the ratings.
    fn votes(&self, n_categories: usize) -> Vec<f64> {
        let mut shares = vec![0.0; n_categories];
        for (_, category) in &self.said {
            shares[*category] += 1.0 / self.said.len() as f64;
        }
        shares
    }
}

impl Model {
    /// The largest difference of a probability.
    fn distance(&self, other: &Self) -> f64 {
        let both = self.rates.iter().zip(&other.rates);
        let both = both.chain(self.categories.iter().zip(&other.categories));
        both.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    }
}

impl Crowd {
    /// None where a value is no category.
    fn read(ratings: &[Rating], n_categories: usize, priors: Priors) -> Option<Self> {
        let mut units: BTreeMap<usize, Vec<(usize, usize)>> = BTreeMap::new();
        for rating in ratings {
            let category = usize::try_from(rating.value).ok()?;
            let said = (rating.labeler, category);
            (category < n_categories).then(|| units.entry(rating.unit).or_default().push(said))?;
        }
        let is_shared = |said: &[(usize, usize)]| said.iter().any(|own| own.0 != said[0].0);
        let shared = units.values().filter(|said| is_shared(said));
        let labelers: BTreeSet<usize> = shared.flatten().map(|own| own.0).collect();
        let labelers: Vec<usize> = labelers.into_iter().collect();
        let mut alike: BTreeMap<Vec<(usize, usize)>, Vec<usize>> = BTreeMap::new();
        for (unit, said) in units {
            let places = said.into_iter().map(|(labeler, category)| {
                let place = labelers.binary_search(&labeler).ok()?;
                Some((place, category))
            });
            if let Some(mut places) = places.collect::<Option<Vec<_>>>() {
                places.sort_unstable();
                alike.entry(places).or_default().push(unit);
            }
        }
        let alike = alike.into_iter().map(|(said, units)| Alike { said, units });
        let (shared, alone) = alike.partition(|own| is_shared(&own.said));
        Some(Self {
            n_categories,
            priors,
            labelers,
            shared,
            alone,
        })
    }

    /// Where the rates of a labeler for a true category begin.
    fn row(&self, labeler: usize, category: usize) -> usize {
        (labeler * self.n_categories + category) * self.n_categories
    }

    /// Units that are imagined of a true category with this answer.
    fn imagined(&self, category: usize, answer: usize) -> f64 {
        if category == answer {
            self.priors.right
        } else {
            self.priors.wrong / (self.n_categories as f64 - 1.0)
        }
    }

    /// The most probable parameters, given how probable each category is for each unit.
    fn model(&self, truths: &[Vec<f64>]) -> Model {
        let c = self.n_categories;
        let mut categories = vec![self.priors.category; c];
        let mut rates = Vec::with_capacity(self.labelers.len() * c * c);
        for _ in &self.labelers {
            let pairs = (0..c).flat_map(|category| (0..c).map(move |answer| (category, answer)));
            rates.extend(pairs.map(|(category, answer)| self.imagined(category, answer)));
        }
        for (alike, truth) in self.shared.iter().zip(truths) {
            for (category, share) in truth.iter().enumerate() {
                let units = share * alike.units.len() as f64;
                categories[category] += units;
                for (labeler, answer) in &alike.said {
                    rates[self.row(*labeler, category) + answer] += units;
                }
            }
        }
        normalise(&mut categories);
        rates.chunks_exact_mut(c).for_each(normalise);
        Model { categories, rates }
    }

    /// How probable each category is for each of these.
    fn truths(&self, all: &[Alike], model: &Model) -> Vec<Vec<f64>> {
        // A probability of 0 keeps a logarithm that can be added up.
        let log = |own: &f64| own.max(f64::MIN_POSITIVE).ln();
        let categories: Vec<f64> = model.categories.iter().map(log).collect();
        let rates: Vec<f64> = model.rates.iter().map(log).collect();
        let of = |alike: &Alike| {
            let mut truth = categories.clone();
            for (category, sum) in truth.iter_mut().enumerate() {
                for (labeler, answer) in &alike.said {
                    *sum += rates[self.row(*labeler, category) + answer];
                }
            }
            let most = truth.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            truth.iter_mut().for_each(|own| *own = (*own - most).exp());
            normalise(&mut truth);
            truth
        };
        all.iter().map(of).collect()
    }

    /// Ratings of units that are truly of each category, by labeler and category.
    fn counts(&self, truths: &[Vec<f64>]) -> Vec<f64> {
        let c = self.n_categories;
        let mut counts = vec![0.0; self.labelers.len() * c];
        for (alike, truth) in self.shared.iter().zip(truths) {
            let units = alike.units.len() as f64;
            for (labeler, _) in &alike.said {
                let own = counts[labeler * c..][..c].iter_mut().zip(truth);
                own.for_each(|(sum, share)| *sum += units * share);
            }
        }
        counts
    }

    /// How probable it is that a cluster has a unit of each category that the labeler rated, summed over
    /// clusters, by labeler and category.
    fn count_clusters(&self, truths: &[Vec<f64>], cluster: &impl Fn(usize) -> usize) -> Vec<f64> {
        let c = self.n_categories;
        // The chance that it has none.
        let mut none: BTreeMap<(usize, usize), f64> = BTreeMap::new();
        for (alike, truth) in self.shared.iter().zip(truths) {
            let labelers: BTreeSet<usize> = alike.said.iter().map(|own| own.0).collect();
            for unit in &alike.units {
                for labeler in &labelers {
                    for (category, share) in truth.iter().enumerate() {
                        let key = (cluster(*unit), labeler * c + category);
                        *none.entry(key).or_insert(1.0) *= 1.0 - share;
                    }
                }
            }
        }
        let mut counts = vec![0.0; self.labelers.len() * c];
        for ((_, place), none) in none {
            counts[place] += 1.0 - none;
        }
        counts
    }

    /// The slopes of the likelihood of each cluster's ratings by free parameter.
    fn slopes_of_clusters(
        &self,
        model: &Model,
        truths: &[Vec<f64>],
        cluster: &impl Fn(usize) -> usize,
    ) -> Vec<BTreeMap<usize, f64>> {
        let mut clusters: BTreeMap<usize, BTreeMap<usize, f64>> = BTreeMap::new();
        for (alike, truth) in self.shared.iter().zip(truths) {
            let mut mean: BTreeMap<usize, f64> = BTreeMap::new();
            for (category, share) in truth.iter().enumerate() {
                for (place, slope) in self.slopes(&alike.said, category, model) {
                    *mean.entry(place).or_default() += share * slope;
                }
            }
            for unit in &alike.units {
                let own = clusters.entry(cluster(*unit)).or_default();
                for (place, slope) in &mean {
                    *own.entry(*place).or_default() += slope;
                }
            }
        }
        clusters.into_values().collect()
    }

    /// How each labeler rates.
    fn qualities(
        &self,
        model: &Model,
        (counts, clusters): (&[f64], &[f64]),
        spread: Option<&Spread>,
    ) -> Vec<Labeler> {
        let c = self.n_categories;
        let labelers = self.labelers.iter().zip(counts.chunks_exact(c));
        let labelers = labelers
            .enumerate()
            .filter_map(|(place, (labeler, counts))| {
                let row = |category| &model.rates[self.row(place, category)..][..c];
                let right = (0..c).map(|category| {
                    let value = row(category)[category];
                    let wrong = (0..c).filter(|answer| *answer != category);
                    // What the log odds of the right answer lose as those of a wrong one rise.
                    let weights: Vec<(usize, f64)> = wrong
                        .map(|answer| {
                            let weight = -row(category)[answer] / (1.0 - value);
                            (self.free(place, category, answer), weight)
                        })
                        .collect();
                    let interval = interval(value, &weights, spread);
                    Estimate::new(value, interval, counts[category].round() as usize)
                });
                Some(Labeler {
                    labeler: *labeler,
                    n: counts.iter().sum::<f64>().round() as usize,
                    rates: (0..c).map(|category| row(category).to_vec()).collect(),
                    right: right.collect::<Option<_>>()?,
                    n_clusters: clusters[place * c..][..c]
                        .iter()
                        .map(|own| own.round() as usize)
                        .collect(),
                })
            });
        labelers.collect()
    }

    /// The share of each category.
    fn shares(&self, model: &Model, spread: Option<&Spread>) -> Option<Vec<Estimate>> {
        let shares = model
            .categories
            .iter()
            .enumerate()
            .map(|(category, share)| {
                let others = model.categories.iter().enumerate().skip(1);
                let weights: Vec<(usize, f64)> = others
                    .map(|(other, its)| {
                        let loss = -its / (1.0 - share);
                        (other - 1, if other == category { 1.0 } else { loss })
                    })
                    .collect();
                Estimate::new(*share, interval(*share, &weights, spread), self.n_units())
            });
        shares.collect()
    }

    fn n_units(&self) -> usize {
        self.shared.iter().map(|own| own.units.len()).sum()
    }

    /// The place among the free parameters of a wrong answer's log odds against the right one;
    /// those of the categories' shares come first.
    fn free(&self, labeler: usize, category: usize, answer: usize) -> usize {
        let others = self.n_categories - 1;
        let before = usize::from(answer > category);
        others + (labeler * self.n_categories + category) * others + answer - before
    }

    fn n_free(&self) -> usize {
        (self.n_categories - 1) * (1 + self.labelers.len() * self.n_categories)
    }

    /// The observed information on log odds: what it would be if the truth were known, less the
    /// variance of the slopes that comes of not knowing it (Louis 1982). None where it is not
    /// positive.
    fn information(&self, model: &Model, truths: &[Vec<f64>], counts: &[f64]) -> Option<Cholesky> {
        let (c, n) = (self.n_categories, self.n_free());
        if n > MOST_WITH_INTERVALS {
            return None;
        }
        let mut information = vec![0.0; n * n];
        // A multinomial of this many units, on log odds against one of its categories.
        let mut add = |weight: f64, shares: &[f64], place: &dyn Fn(usize) -> Option<usize>| {
            let places = || (0..c).filter_map(|own| Some((own, place(own)?)));
            for (one, at) in places() {
                information[at * n + at] += weight * shares[one];
                for (other, its) in places() {
                    information[at * n + its] -= weight * shares[one] * shares[other];
                }
            }
        };
        let n_units = self.n_units() as f64 + c as f64 * self.priors.category;
        add(n_units, &model.categories, &|own| own.checked_sub(1));
        let imagined = self.priors.right + self.priors.wrong;
        for (labeler, own) in counts.chunks_exact(c).enumerate() {
            for (category, count) in own.iter().enumerate() {
                let row = &model.rates[self.row(labeler, category)..][..c];
                add(count + imagined, row, &|answer| {
                    (answer != category).then(|| self.free(labeler, category, answer))
                });
            }
        }
        for (alike, truth) in self.shared.iter().zip(truths) {
            let units = alike.units.len() as f64;
            let slopes = (0..c).map(|category| self.slopes(&alike.said, category, model));
            let mut mean: BTreeMap<usize, f64> = BTreeMap::new();
            for (own, share) in slopes.zip(truth) {
                subtract(&mut information, n, &own, units * share);
                for (place, slope) in own {
                    *mean.entry(place).or_default() += share * slope;
                }
            }
            subtract(&mut information, n, &mean, -units);
        }
        Cholesky::of(information, n)
    }

    /// The derivatives of the likelihood of a unit's ratings, if it were truly of this category.
    fn slopes(
        &self,
        said: &[(usize, usize)],
        category: usize,
        model: &Model,
    ) -> BTreeMap<usize, f64> {
        let mut slopes = BTreeMap::new();
        for other in 1..self.n_categories {
            let is_it = f64::from(u8::from(other == category));
            slopes.insert(other - 1, is_it - model.categories[other]);
        }
        for (labeler, said) in said {
            let row = &model.rates[self.row(*labeler, category)..][..self.n_categories];
            for (answer, rate) in row.iter().enumerate().filter(|own| own.0 != category) {
                let slope = f64::from(u8::from(answer == *said)) - rate;
                *slopes
                    .entry(self.free(*labeler, category, answer))
                    .or_default() += slope;
            }
        }
        slopes
    }
}

/// Divides by the sum; where that is 0, all alike.
fn normalise(values: &mut [f64]) {
    let (sum, n) = (values.iter().sum::<f64>(), values.len() as f64);
    for value in values {
        *value = if sum > 0.0 { *value / sum } else { 1.0 / n };
    }
}

#[cfg(test)]
mod tests;
