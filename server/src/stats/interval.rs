//! How sure an estimate is: Wilson's interval, the bootstrap, and the quantiles that others need.

use rand::RngCore;
use serde::Serialize;
use statrs::distribution::{ChiSquared, ContinuousCDF, Normal, StudentsT};
use trainer::rng::stream;

/// Share of intervals that hold the true value, everywhere in these statistics.
pub const CONFIDENCE: f64 = 0.95;

/// Resamples of a bootstrap that does not say otherwise.
pub const RESAMPLES: usize = 1000;

/// Share of resamples that must tell a figure for the others to be an interval of it.
const ENOUGH: f64 = 0.5;

/// The ends of a 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// The interval within `low` and `high`, as for a share that cannot leave 0 to 1.
    pub fn within(self, low: f64, high: f64) -> Self {
        Self {
            low: self.low.clamp(low, high),
            high: self.high.clamp(low, high),
        }
    }

    /// The interval of a figure that grows with this one.
    pub(super) fn map(self, rising: impl Fn(f64) -> f64) -> Self {
        Self {
            low: rising(self.low),
            high: rising(self.high),
        }
    }

    /// `value` and `quantile` standard errors on both sides; none where the error is 0, which says
    /// that the sample has no spread and not that the value is certain.
    pub(super) fn around(value: f64, standard_error: f64, quantile: f64) -> Option<Self> {
        let interval = Self {
            low: value - quantile * standard_error,
            high: value + quantile * standard_error,
        };
        let is_known = interval.low.is_finite() && interval.high.is_finite();
        (is_known && standard_error > 0.0).then_some(interval)
    }
}

/// A value with what it rests on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Estimate {
    /// The value, always finite.
    pub value: f64,
    /// Its 95 % interval; none where the data cannot tell one. The function that estimates says
    /// which kind it is.
    pub interval: Option<Interval>,
    /// How many it rests on; the function that estimates says of what.
    pub n: usize,
}

impl Estimate {
    /// None where the value is not finite.
    pub(super) fn new(value: f64, interval: Option<Interval>, n: usize) -> Option<Self> {
        let estimate = Self { value, interval, n };
        value.is_finite().then_some(estimate)
    }
}

/// The point below which a standard normal variable falls with probability `p`; none unless `p` is
/// within 0 and 1, both excluded.
pub fn normal_quantile(p: f64) -> Option<f64> {
    (p > 0.0 && p < 1.0).then(|| Normal::standard().inverse_cdf(p))
}

/// The same of Student's t with `freedom` degrees of freedom; none unless that is positive too.
pub fn student_quantile(p: f64, freedom: f64) -> Option<f64> {
    let is_within = p > 0.0 && p < 1.0 && freedom.is_finite();
    let student = StudentsT::new(0.0, 1.0, freedom).ok()?;
    is_within.then(|| student.inverse_cdf(p))
}

/// How many standard errors a 95 % interval reaches on each side.
pub(super) fn two_sided() -> f64 {
    normal_quantile((1.0 + CONFIDENCE) / 2.0).unwrap_or(1.959_963_984_540_054)
}

/// The same where the standard error is itself estimated from `n` values.
pub(super) fn two_sided_student(n: usize) -> Option<f64> {
    student_quantile((1.0 + CONFIDENCE) / 2.0, n.checked_sub(1)? as f64)
}

/// The probability that a chi-square variable with `freedom` degrees of freedom is at least `x`:
/// the p value of a statistic of `x`. None unless `freedom` is positive and `x` a number.
pub fn chi_square_survival(x: f64, freedom: f64) -> Option<f64> {
    let distribution = ChiSquared::new(freedom).ok()?;
    let is_known = !x.is_nan() && freedom.is_finite();
    is_known.then(|| distribution.sf(x.max(0.0)).clamp(0.0, 1.0))
}

/// Wilson's interval (1927) of a share of `successes` in `n` trials. Either may have a fraction, as
/// where a tie is half a win. None unless there is a trial and 0 <= successes <= n.
pub fn wilson(successes: f64, n: f64) -> Option<Interval> {
    if !(n > 0.0 && n.is_finite() && (0.0..=n).contains(&successes)) {
        return None;
    }
    let (share, z) = (successes / n, two_sided());
    let z2 = z * z / n;
    let centre = (share + z2 / 2.0) / (1.0 + z2);
    let half = z * (share * (1.0 - share) / n + z2 / (4.0 * n)).sqrt() / (1.0 + z2);
    // Rounding leaves an end that is exactly 0 or 1 a little beside it.
    let (low, high) = (centre - half, centre + half);
    Some(Interval {
        low: if successes == 0.0 { 0.0 } else { low.max(0.0) },
        high: if successes == n { 1.0 } else { high.min(1.0) },
    })
}

/// A seeded percentile bootstrap (Efron 1979): the same seed and data give the same interval.
///
/// What is drawn with replacement are units that are independent of each other, such as prompts,
/// not the pairs within them. With few units (fewer than about 20) percentile intervals are too
/// narrow; that is why every estimate says its n.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bootstrap {
    /// Decides every draw.
    pub seed: u64,
    /// How often to resample. 1,000 tells the ends of a 95 % interval to about a twentieth of its
    /// width.
    pub resamples: usize,
}

impl Bootstrap {
    /// One of 1,000 resamples.
    pub fn new(seed: u64) -> Self {
        let resamples = RESAMPLES;
        Self { seed, resamples }
    }

    /// Calls `each` with the units drawn, `n` numbers below `n`, once for each resample. Figures
    /// with another `name` or `index` draw independently. Not at all where `n` is 0.
    pub fn resample(&self, name: &str, index: u64, n: usize, mut each: impl FnMut(&[u32])) {
        let Ok(below) = u32::try_from(n) else { return };
        if n == 0 {
            return;
        }
        let mut rng = stream(self.seed, name, index);
        let mut drawn = vec![0; n];
        for _ in 0..self.resamples {
            for unit in &mut drawn {
                // Of 2^32 numbers some units get one more than others, which nobody will ever see.
                *unit = ((u64::from(rng.next_u32()) * u64::from(below)) >> 32) as u32;
            }
            each(&drawn);
        }
    }

    /// The interval of any figure over `n` units, told from those drawn. Resamples that cannot tell
    /// it are left out. None where fewer than half can, and where all say the same, which says
    /// nothing about other units.
    pub fn interval(
        &self,
        name: &str,
        index: u64,
        n: usize,
        mut figure: impl FnMut(&[u32]) -> Option<f64>,
    ) -> Option<Interval> {
        let mut found = Vec::new();
        self.resample(name, index, n, |drawn| found.extend(figure(drawn)));
        percentiles(found, self.resamples)
    }

    /// The mean of values of independent units; n counts them. Values that are not finite are left
    /// out.
    pub fn mean(&self, name: &str, index: u64, values: &[f64]) -> Option<Estimate> {
        let finite = values.iter().copied().filter(|value| value.is_finite());
        let values: Vec<f64> = finite.collect();
        let n = values.len();
        let mean = |sum: f64| sum / n as f64;
        let interval = self.interval(name, index, n, |drawn| {
            Some(mean(drawn.iter().map(|unit| values[*unit as usize]).sum()))
        });
        Estimate::new(mean(values.iter().sum()), interval, n)
    }

    /// A share of a whole, given the part and the whole of each unit (say, pairs alike and pairs);
    /// n is the whole, units without any are passed over. Where all units are wholly in or wholly
    /// out no resample shows the other case: then the interval is the exact one of as many draws
    /// (see [`all_alike`]).
    pub fn share(&self, name: &str, index: u64, units: &[(f64, f64)]) -> Option<Estimate> {
        let is_counted = |(part, whole): &&(f64, f64)| part.is_finite() && *whole > 0.0;
        let units: Vec<(f64, f64)> = units.iter().filter(is_counted).copied().collect();
        let sum = |sums: (f64, f64), unit: &(f64, f64)| (sums.0 + unit.0, sums.1 + unit.1);
        let (part, whole) = units.iter().fold((0.0, 0.0), sum);
        let interval = self.interval(name, index, units.len(), |drawn| {
            let drawn = drawn.iter().map(|unit| &units[*unit as usize]);
            let (part, whole) = drawn.fold((0.0, 0.0), sum);
            Some(part / whole)
        });
        let value = part / whole;
        let interval = interval.or_else(|| all_alike(value, units.len()));
        Estimate::new(value, interval, whole.round() as usize)
    }
}

/// The interval that the figures of `asked` resamples make, by the rule of [`Bootstrap::interval`].
pub(super) fn percentiles(mut found: Vec<f64>, asked: usize) -> Option<Interval> {
    found.retain(|value| value.is_finite());
    found.sort_by(f64::total_cmp);
    let (first, last) = (*found.first()?, *found.last()?);
    if (found.len() as f64) < ENOUGH * asked as f64 || first == last {
        return None;
    }
    let tail = ((1.0 - CONFIDENCE) / 2.0 * found.len() as f64) as usize;
    Some(Interval {
        low: *found.get(tail)?,
        high: *found.get(found.len() - 1 - tail)?,
    })
}

/// The 95 % interval of a share that is 0 or 1 in every one of `n` independent units: its far end
/// is 0.025^(1/n) from the other case (Clopper and Pearson 1934). None for other shares and for
/// fewer than two units.
pub fn all_alike(share: f64, n: usize) -> Option<Interval> {
    if n < 2 {
        return None;
    }
    let room = ((1.0 - CONFIDENCE) / 2.0).powf(1.0 / n as f64);
    let (low, high) = match share {
        1.0 => (room, 1.0),
        0.0 => (0.0, 1.0 - room),
        _ => return None,
    };
    Some(Interval { low, high })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use proptest::prelude::*;

    use super::*;
    use crate::stats::fixtures::{close, made, numbers};

    #[test]
    fn quantiles_and_tails_are_those_of_scipy() {
        let made = &made()["interval"];
        for row in numbers(&made["normal_quantile"]) {
            close(normal_quantile(row[0]).unwrap(), row[1], 1e-9);
        }
        for row in numbers(&made["student_quantile"]) {
            let found = student_quantile(row[0], row[1]).unwrap();
            close(found, row[2], 1e-8 * (1.0 + row[2].abs()));
        }
        for row in numbers(&made["chi_square_survival"]) {
            let found = chi_square_survival(row[0], row[1]).unwrap();
            close(found / row[2], 1.0, 1e-8);
        }
        for row in numbers(&made["wilson"]) {
            let found = wilson(row[0], row[1]).unwrap();
            close(found.low, row[2], 1e-9);
            close(found.high, row[3], 1e-9);
        }
    }

    #[test]
    fn what_has_no_answer_has_none() {
        for p in [0.0, 1.0, -1.0, 2.0, f64::NAN] {
            assert_eq!((normal_quantile(p), student_quantile(p, 3.0)), (None, None));
        }
        for freedom in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(student_quantile(0.5, freedom), None);
            assert_eq!(chi_square_survival(1.0, freedom), None);
        }
        assert_eq!(chi_square_survival(f64::NAN, 1.0), None);
        assert_eq!(chi_square_survival(-1.0, 1.0), Some(1.0));
        for (successes, n) in [(0.0, 0.0), (2.0, 1.0), (-1.0, 1.0), (f64::NAN, 1.0)] {
            assert_eq!(wilson(successes, n), None);
        }
        let bootstrap = Bootstrap::new(1);
        assert_eq!(bootstrap.mean("mean", 0, &[]), None);
        assert_eq!(bootstrap.mean("mean", 0, &[f64::NAN]), None);
        assert_eq!(bootstrap.share("share", 0, &[(0.0, 0.0)]), None);
        let one = bootstrap.mean("mean", 0, &[2.0]).unwrap();
        assert_eq!((one.value, one.interval, one.n), (2.0, None, 1));
        let none = Bootstrap {
            resamples: 0,
            ..bootstrap
        };
        assert_eq!(none.mean("mean", 0, &[1.0, 2.0]).unwrap().interval, None);
    }

    /// The standard error of a mean of n is s/√n, and its interval near ±1.96 of them.
    #[test]
    fn the_interval_of_a_mean_is_as_wide_as_theory_says() {
        let values: Vec<f64> = (0..400).map(|i| f64::from(i * 37 % 101)).collect();
        let found = Bootstrap::new(4).mean("mean", 0, &values).unwrap();
        let spread = |value: &f64| (value - found.value).powi(2);
        let deviation = (values.iter().map(spread).sum::<f64>() / 400.0).sqrt();
        let Interval { low, high } = found.interval.unwrap();
        close((high - low) / (2.0 * 1.96 * deviation / 20.0), 1.0, 0.08);
        assert_eq!(found, Bootstrap::new(4).mean("mean", 0, &values).unwrap());
        assert_ne!(found, Bootstrap::new(5).mean("mean", 0, &values).unwrap());
        assert_ne!(found, Bootstrap::new(4).mean("mean", 1, &values).unwrap());
    }

    #[test]
    fn units_that_are_all_alike_have_the_exact_interval() {
        let bootstrap = Bootstrap::new(1);
        let all = bootstrap.share("share", 0, &[(6.0, 6.0); 10]).unwrap();
        let Interval { low, high } = all.interval.unwrap();
        assert_eq!((all.value, all.n, high), (1.0, 60, 1.0));
        // Ten of ten: 0.6915 (Clopper and Pearson's tables give 0.69).
        close(low, 0.6915, 1e-4);
        let none = bootstrap.share("share", 0, &[(0.0, 6.0); 10]).unwrap();
        close(none.interval.unwrap().high, 1.0 - low, 1e-12);
        // All alike at one half: nothing is known of how far others would be.
        assert_eq!(
            bootstrap
                .share("share", 0, &[(3.0, 6.0); 10])
                .unwrap()
                .interval,
            None
        );
    }

    proptest! {
        #[test]
        fn an_interval_of_a_share_is_within_0_and_1(
            units in prop::collection::vec((0u8..7, 0u8..7), 1..30), seed: u64,
        ) {
            let units: Vec<(f64, f64)> = units
                .into_iter()
                .map(|(a, b)| (f64::from(a.min(b)), f64::from(b)))
                .collect();
            let bootstrap = Bootstrap { seed, resamples: 50 };
            if let Some(found) = bootstrap.share("share", 0, &units) {
                prop_assert!((0.0..=1.0).contains(&found.value));
                if let Some(Interval { low, high }) = found.interval {
                    prop_assert!(0.0 <= low && low <= high && high <= 1.0);
                }
            }
        }

        #[test]
        fn wilsons_interval_holds_the_share(n in 1u32..500, share in 0.0f64..=1.0) {
            let successes = (f64::from(n) * share).floor();
            let found = wilson(successes, f64::from(n)).unwrap();
            let share = successes / f64::from(n);
            prop_assert!(found.low <= share && share <= found.high);
        }
    }
}
