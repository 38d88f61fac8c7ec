//! Does the place of a completion on the page decide how it is ranked?
//!
//! The order of display is random, so each place should come first as often as any other. Tables
//! are by the number of completions, since a place among four is another one than among nine.

use std::collections::BTreeMap;

use serde::Serialize;

use super::correlation::places;
use super::interval::{Estimate, Interval, chi_square_survival, two_sided_student, wilson};

/// One place on the page.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Place {
    /// Times that the completion shown here came first; where t share the first rank, each has 1/t.
    pub first: f64,
    /// The share of rankings in which it came first; n counts rankings. The interval is Wilson's.
    pub share: Estimate,
    /// Its mean rank, ties sharing the mean of their ranks; without bias (k + 1) / 2. n counts
    /// rankings. The interval is Student's; none for one ranking, and where all are the same.
    pub mean_rank: Estimate,
}

/// A chi-square test of whether all places come first equally often.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Test {
    /// The statistic.
    pub chi_square: f64,
    /// Its degrees of freedom.
    pub freedom: usize,
    /// The probability of a statistic this large without bias.
    pub p: f64,
}

/// The places of rankings of `k` completions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Table {
    /// Completions of each ranking.
    pub k: usize,
    /// Rankings.
    pub n: usize,
    /// Each place, the first shown first.
    pub places: Vec<Place>,
    /// How often each place is expected first: n / k. The approximation of the test wants 5 or
    /// more.
    pub expected: f64,
    /// None where no ranking tells a first from the others.
    pub test: Option<Test>,
}

/// Tables of all rankings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PositionBias {
    /// By the number of completions, ascending.
    pub tables: Vec<Table>,
    /// Rankings.
    pub n: usize,
    /// All tables in one test: statistics and degrees of freedom added up.
    pub test: Option<Test>,
}

/// Position bias of complete rankings, each given as the ranks of the completions in the order in
/// which they were shown to that labeler; lower is better. For one labeler give those of that
/// labeler. Rankings of fewer than two completions say nothing; none where there are no others.
///
/// The statistic is the sum of (first - expected)² over the variance that each place has where the
/// order of display is random, which is n/k where no two share the first rank (Pearson's
/// chi-square) and less where some do.
pub fn position_bias<R: AsRef<[i16]>>(rankings: &[R]) -> Option<PositionBias> {
    let mut by_k: BTreeMap<usize, Vec<&[i16]>> = BTreeMap::new();
    for ranks in rankings
        .iter()
        .map(AsRef::as_ref)
        .filter(|ranks| ranks.len() >= 2)
    {
        by_k.entry(ranks.len()).or_default().push(ranks);
    }
    let tables: Vec<Table> = by_k
        .into_iter()
        .filter_map(|(k, rankings)| table(k, &rankings))
        .collect();
    let tests = || tables.iter().filter_map(|table| table.test);
    let n: usize = tables.iter().map(|table| table.n).sum();
    let all = test(
        tests().map(|own| own.chi_square).sum(),
        tests().map(|own| own.freedom).sum(),
    );
    (n > 0).then_some(PositionBias {
        test: all,
        n,
        tables,
    })
}

fn test(chi_square: f64, freedom: usize) -> Option<Test> {
    Some(Test {
        chi_square,
        freedom,
        p: chi_square_survival(chi_square, freedom as f64)?,
    })
}

fn table(k: usize, rankings: &[&[i16]]) -> Option<Table> {
    let (n, places_of_k) = (rankings.len() as f64, k as f64);
    let mut first = vec![0.0; k];
    // Sum of the variances of a place's share of the first rank.
    let mut variance = 0.0;
    let (mut sums, mut squares) = (vec![0.0; k], vec![0.0; k]);
    for ranks in rankings {
        let best = ranks.iter().min()?;
        let tied = ranks.iter().filter(|rank| *rank == best).count() as f64;
        for (place, rank) in ranks.iter().enumerate() {
            if rank == best {
                first[place] += 1.0 / tied;
            }
        }
        variance += (places_of_k - tied) / (tied * places_of_k * places_of_k);
        let as_numbers: Vec<f64> = ranks.iter().copied().map(f64::from).collect();
        for (place, rank) in places(&as_numbers).into_iter().enumerate() {
            // From the middle, so that little is lost to rounding.
            let rank = rank - (places_of_k + 1.0) / 2.0;
            sums[place] += rank;
            squares[place] += rank * rank;
        }
    }
    let expected = n / places_of_k;
    // The variance times k / (k - 1): places are not independent, since their shares add up to 1.
    let scale = variance * places_of_k / (places_of_k - 1.0);
    let spread: f64 = first.iter().map(|own| (own - expected).powi(2)).sum();
    let t = two_sided_student(rankings.len());
    let place = |place: usize| {
        let mean = sums[place] / n;
        let deviation = ((squares[place] - n * mean * mean).max(0.0) / (n - 1.0)).sqrt();
        let mean_rank = mean + (places_of_k + 1.0) / 2.0;
        let error = deviation / n.sqrt();
        let around = |t| Interval::around(mean_rank, error, t).filter(|_| error > 1e-9);
        let interval = t.and_then(around).map(|own| own.within(1.0, places_of_k));
        Some(Place {
            first: first[place],
            share: Estimate::new(first[place] / n, wilson(first[place], n), rankings.len())?,
            mean_rank: Estimate::new(mean_rank, interval, rankings.len())?,
        })
    };
    Some(Table {
        k,
        n: rankings.len(),
        places: (0..k).map(place).collect::<Option<_>>()?,
        expected,
        test: (scale > 1e-12)
            .then(|| test(spread / scale, k - 1))
            .flatten(),
    })
}

#[cfg(test)]
mod tests;
