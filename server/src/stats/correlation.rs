//! How far orders go together: Kendall's tau-b and Spearman's rho of two, Kendall's W of three or
//! more.

use serde::Serialize;

use super::interval::{Bootstrap, Estimate, Interval, chi_square_survival, two_sided};
use super::labels::{Ranking, by_prompt};

/// Fewest values for the approximate interval of a correlation; below it the approximation is poor.
const FEWEST_FOR_INTERVAL: usize = 10;

/// Kendall's tau-b (1945) from the pairs of two weak orders: ordered the same way, the opposite
/// way, tied by the first only, tied by the second only. None where one of them ties everything.
pub(super) fn tau_b_of_counts(
    same: u64,
    opposite: u64,
    first_ties: u64,
    second_ties: u64,
) -> Option<f64> {
    let strict = (same + opposite) as f64;
    let scale = ((strict + first_ties as f64) * (strict + second_ties as f64)).sqrt();
    let tau = (same as f64 - opposite as f64) / scale;
    (scale > 0.0).then(|| tau.clamp(-1.0, 1.0))
}

/// Kendall's tau-b of two series, with ties; n counts values. Looks at all pairs, so n² steps. The
/// interval is Fieller, Hartley and Pearson's (1957): atanh(tau) has variance 0.437 / (n - 4); none
/// for fewer than 10 values or at ±1. None where the series have different lengths, a series does
/// not vary, or a value is not a number.
pub fn kendall_tau_b(x: &[f64], y: &[f64]) -> Option<Estimate> {
    if !is_comparable(x, y) {
        return None;
    }
    let (mut same, mut opposite, mut first_ties, mut second_ties) = (0, 0, 0, 0);
    for index in 0..x.len() {
        for other in index + 1..x.len() {
            let (first, second) = (x[index].total_cmp(&x[other]), y[index].total_cmp(&y[other]));
            match (x[index] == x[other], y[index] == y[other]) {
                (true, true) => (),
                (true, false) => first_ties += 1,
                (false, true) => second_ties += 1,
                (false, false) if first == second => same += 1,
                (false, false) => opposite += 1,
            }
        }
    }
    let tau = tau_b_of_counts(same, opposite, first_ties, second_ties)?;
    let n = x.len();
    Estimate::new(tau, fisher(tau, n, 0.437 / (n as f64 - 4.0)), n)
}

/// [`kendall_tau_b`] of two rankings of the same completions, over those that both ranked.
pub fn tau_b_of_ranks(a: &[Option<i16>], b: &[Option<i16>]) -> Option<Estimate> {
    let both = a.iter().zip(b);
    let both = both.filter_map(|(a, b)| Some((f64::from((*a)?), f64::from((*b)?))));
    let (a, b): (Vec<f64>, Vec<f64>) = both.unzip();
    kendall_tau_b(&a, &b)
}

/// Spearman's rho of two series: Pearson's coefficient of their ranks, ties sharing the mean of the
/// places they take; n counts values. The interval is Bonett and Wright's (2000): atanh(rho) has
/// variance (1 + rho²/2) / (n - 3); none for fewer than 10 values or at ±1. None as in
/// [`kendall_tau_b`].
pub fn spearman(x: &[f64], y: &[f64]) -> Option<Estimate> {
    if !is_comparable(x, y) {
        return None;
    }
    let n = x.len();
    let (x, y) = (places(x), places(y));
    // Ranks have the mean (n + 1) / 2 whatever the ties.
    let mean = (n as f64 + 1.0) / 2.0;
    let product = |a: &[f64], b: &[f64]| -> f64 {
        let both = a.iter().zip(b);
        both.map(|(a, b)| (a - mean) * (b - mean)).sum()
    };
    let scale = (product(&x, &x) * product(&y, &y)).sqrt();
    if scale <= 0.0 {
        return None;
    }
    let rho = (product(&x, &y) / scale).clamp(-1.0, 1.0);
    let variance = (1.0 + rho * rho / 2.0) / (n as f64 - 3.0);
    Estimate::new(rho, fisher(rho, n, variance), n)
}

fn is_comparable(x: &[f64], y: &[f64]) -> bool {
    let mut all = x.iter().chain(y);
    x.len() == y.len() && all.all(|value| !value.is_nan())
}

/// The interval of a correlation whose inverse hyperbolic tangent has this variance.
fn fisher(value: f64, n: usize, variance: f64) -> Option<Interval> {
    if n < FEWEST_FOR_INTERVAL || value.abs() >= 1.0 {
        return None;
    }
    let interval = Interval::around(value.atanh(), variance.sqrt(), two_sided())?;
    Some(interval.map(f64::tanh))
}

/// Places from 1, the lowest value first; equal values share the mean of the places they take.
pub(super) fn places(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut places = vec![0.0; values.len()];
    let mut before = 0;
    for tied in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let place = before as f64 + (tied.len() as f64 + 1.0) / 2.0;
        tied.iter().for_each(|index| places[*index] = place);
        before += tied.len();
    }
    places
}

/// Kendall's coefficient of concordance.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Concordance {
    /// W with Kendall's correction for ties, 0 (no common order) to 1 (all rank alike).
    pub w: f64,
    /// m (n - 1) W.
    pub chi_square: f64,
    /// n - 1.
    pub freedom: usize,
    /// The probability of a W this large if all ranked at random, from the chi-square distribution:
    /// an approximation that is too cautious for few labelers (Legendre 2005).
    pub p: f64,
    /// Labelers, m.
    pub n_labelers: usize,
    /// Items, n.
    pub n_items: usize,
}

/// Kendall's W (1939) of three or more rankings of the same items, one slice for each labeler;
/// lower ranks are better, which items are ranks of is told by place. Ties share the mean of their
/// places. Items that not all ranked are left out. None for fewer than three labelers or two such
/// items, and where all tie everything.
pub fn kendall_w<R: AsRef<[Option<i16>]>>(rankings: &[R]) -> Option<Concordance> {
    let m = rankings.len();
    if m < 3 {
        return None;
    }
    let rank = |ranking: &R, item: usize| ranking.as_ref().get(item).copied().flatten();
    let longest = rankings.iter().map(|own| own.as_ref().len()).max()?;
    let items: Vec<usize> = (0..longest)
        .filter(|item| rankings.iter().all(|own| rank(own, *item).is_some()))
        .collect();
    let n = items.len();
    if n < 2 {
        return None;
    }
    let mut sums = vec![0.0; n];
    // Kendall's T: the sum of t³ - t over groups of t ties.
    let mut ties = 0.0;
    for ranking in rankings {
        let own = items.iter().filter_map(|item| rank(ranking, *item));
        let own: Vec<f64> = own.map(f64::from).collect();
        let places = places(&own);
        for (sum, place) in sums.iter_mut().zip(&places) {
            *sum += place;
        }
        // Each of t ties adds t² - 1.
        let size = |place: &f64| places.iter().filter(|other| *other == place).count() as f64;
        ties += places
            .iter()
            .map(|place| size(place).powi(2) - 1.0)
            .sum::<f64>();
    }
    let (m, n_items) = (m as f64, n as f64);
    let mean = m * (n_items + 1.0) / 2.0;
    let spread: f64 = sums.iter().map(|sum| (sum - mean).powi(2)).sum();
    let most = m * m * (n_items.powi(3) - n_items) - m * ties;
    if most <= 0.0 {
        return None;
    }
    let w = (12.0 * spread / most).clamp(0.0, 1.0);
    let chi_square = m * (n_items - 1.0) * w;
    Some(Concordance {
        w,
        chi_square,
        freedom: n - 1,
        p: chi_square_survival(chi_square, n_items - 1.0)?,
        n_labelers: rankings.len(),
        n_items: n,
    })
}

/// The mean of Kendall's W over prompts that three or more labelers ranked, with a bootstrap
/// interval over prompts; n counts those. The first ranking of a labeler counts.
///
/// Labelers who rank at random still have a W of 1/m on average, which is what to hold this
/// against.
pub fn mean_concordance(rankings: &[Ranking], bootstrap: &Bootstrap) -> Option<Estimate> {
    let mut found = Vec::new();
    by_prompt(rankings, |_, own| {
        let mut first: Vec<&Ranking> = Vec::new();
        for ranking in own {
            if first.iter().all(|other| other.labeler != ranking.labeler) {
                first.push(ranking);
            }
        }
        let ranks: Vec<&[Option<i16>]> = first.iter().map(|own| own.ranks.as_slice()).collect();
        found.extend(kendall_w(&ranks).map(|concordance| concordance.w));
    });
    bootstrap.mean("concordance", 0, &found)
}

#[cfg(test)]
mod tests;
