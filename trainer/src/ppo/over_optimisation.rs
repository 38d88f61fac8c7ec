//! How far it pays to optimise against a reward model: Gao et al., "Scaling laws for reward model
//! overoptimization" (arXiv 2210.10760). With d the square root of the KL to the policy before
//! training, in nats, what a policy gains by reinforcement learning, by a judge it is not trained
//! against, follows d (alpha - beta ln d). Both are fitted by least squares; the curve tells where
//! more training stops to pay.

use rand::Rng;

use crate::rng::stream;

/// Points nearer than this to the start are not fitted: the form has an infinite slope there, and
/// KL is estimated badly (ours; the paper leaves the start out without a number).
pub const LEAST_DISTANCE: f64 = 0.25;

/// Fewest points that a curve is fitted to (ours): three would always lie on one.
pub const LEAST_POINTS: usize = 5;

/// A peak farther out, a KL of 10,000 nats, is no prediction but a curve that only rises.
const FARTHEST_PEAK: f64 = 100.0;

/// Resamples of the points for an interval, and least and most of a hundred that lie within it. Of
/// long runs fewer are drawn, so that a page does not wait for them.
const RESAMPLES: usize = 400;
const POINTS_OF_RESAMPLES: usize = 400_000;
const WITHIN: (f64, f64) = (2.5, 97.5);

/// A fitted offset + d (alpha - beta ln d).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Curve {
    /// The gain at d = 0. It would be 0 if the batch that gains are taken over were not itself a
    /// noisy mean; without a number for it that noise would tilt the curve.
    pub offset: f64,
    /// Gain for each unit of distance at d = 1.
    pub alpha: f64,
    /// How fast that falls.
    pub beta: f64,
    /// Points it was fitted to.
    pub n: usize,
    /// Share of the gains' variation around their mean that it explains.
    pub r_squared: f64,
}

/// Where a curve is highest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peak {
    /// Square root of the KL there.
    pub distance: f64,
    /// The gain there over that at d = 0.
    pub gain: f64,
}

impl Curve {
    /// The gain at a distance.
    pub fn at(&self, distance: f64) -> f64 {
        self.offset
            + match distance > 0.0 {
                true => distance * (self.alpha - self.beta * distance.ln()),
                false => 0.0,
            }
    }

    /// d* = exp(alpha / beta - 1), and the gain beta d* there; none where the curve only
    /// rises, as far as anybody goes.
    pub fn peak(&self) -> Option<Peak> {
        let distance = (self.alpha / self.beta - 1.0).exp();
        let peak = Peak {
            distance,
            gain: self.beta * distance,
        };
        (self.beta > 0.0 && distance < FARTHEST_PEAK && peak.gain.is_finite()).then_some(peak)
    }
}

/// The curve nearest to pairs of distance and gain by least squares. It is linear in 1, d and
/// -d ln d, so the fit is exact. None where too few points lie far enough from the start, or at too
/// few distances.
pub fn fit(points: &[(f64, f64)]) -> Option<Curve> {
    let far = points
        .iter()
        .filter(|(d, gain)| *d >= LEAST_DISTANCE && d.is_finite() && gain.is_finite());
    let rows: Vec<[f64; 3]> = far.map(|(d, gain)| [*d, -d * d.ln(), *gain]).collect();
    let n = rows.len();
    if n < LEAST_POINTS {
        return None;
    }
    // Around their means, which leaves two unknowns.
    let means: [f64; 3] =
        std::array::from_fn(|i| rows.iter().map(|row| row[i]).sum::<f64>() / n as f64);
    let sum = |i: usize, j: usize| -> f64 {
        let products = rows
            .iter()
            .map(|row| (row[i] - means[i]) * (row[j] - means[j]));
        products.sum()
    };
    let (aa, ab, bb) = (sum(0, 0), sum(0, 1), sum(1, 1));
    let (ay, by, yy) = (sum(0, 2), sum(1, 2), sum(2, 2));
    let determinant = aa * bb - ab * ab;
    if determinant <= 1e-9 * aa * bb {
        return None;
    }
    let alpha = (bb * ay - ab * by) / determinant;
    let beta = (aa * by - ab * ay) / determinant;
    let offset = means[2] - alpha * means[0] - beta * means[1];
    let missed = rows
        .iter()
        .map(|[a, b, y]| (y - offset - alpha * a - beta * b).powi(2))
        .sum::<f64>();
    Some(Curve {
        offset,
        alpha,
        beta,
        n,
        r_squared: if yy > 0.0 { 1.0 - missed / yy } else { 1.0 },
    })
}

/// Where the peak lies in 95 of 100 resamples of the points: least and most distance, the most being
/// infinite where more than 2.5 of 100 curves only rise. Resamples that no curve can be fitted to are
/// left out. None where nothing can be fitted.
pub fn peak_interval(points: &[(f64, f64)], seed: u64) -> Option<(f64, f64)> {
    fit(points)?;
    let n = (POINTS_OF_RESAMPLES / points.len()).clamp(40, RESAMPLES) as u64;
    let mut found: Vec<f64> = (0..n)
        .filter_map(|index| {
            let mut rng = stream(seed, "over-optimisation", index);
            let drawn = (0..points.len()).map(|_| points[rng.random_range(0..points.len())]);
            let curve = fit(&drawn.collect::<Vec<_>>())?;
            Some(curve.peak().map_or(f64::INFINITY, |peak| peak.distance))
        })
        .collect();
    found.sort_by(f64::total_cmp);
    let last = found.len().checked_sub(1)?;
    let at = |percent: f64| found[(last as f64 * percent / 100.0).round() as usize];
    Some((at(WITHIN.0), at(WITHIN.1)))
}

/// Mean scores of batches as gains over the first one, in its standard deviations: in this unit what
/// different judges say can stand in one picture, and compares with the paper's, whose judges are
/// shifted and scaled in this way. None where the first batch had no spread.
pub fn gains(means: &[f64], first_deviation: f64) -> Option<Vec<f64>> {
    let first = means.first()?;
    (first_deviation > 0.0).then(|| {
        let gain = |mean: &f64| (mean - first) / first_deviation;
        means.iter().map(gain).collect()
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::rng::standard_normal;

    /// The paper's gold curve of its 1.2B proxy, about.
    const TRUTH: Curve = Curve {
        offset: 0.0,
        alpha: 0.35,
        beta: 0.12,
        n: 0,
        r_squared: 1.0,
    };

    fn distances(n: usize) -> impl Iterator<Item = f64> {
        (0..n).map(move |i| 0.3 + 9.0 * i as f64 / n as f64)
    }

    #[test]
    fn a_curve_is_found_again_from_its_points() {
        let points: Vec<_> = distances(20).map(|d| (d, TRUTH.at(d))).collect();
        let found = fit(&points).unwrap();
        assert!((found.alpha - 0.35).abs() < 1e-9 && (found.beta - 0.12).abs() < 1e-9);
        assert!(found.offset.abs() < 1e-9);
        assert_eq!(found.n, 20);
        assert!((found.r_squared - 1.0).abs() < 1e-12);
        // exp(0.35 / 0.12 - 1)
        let peak = found.peak().unwrap();
        assert!((peak.distance - 6.798_26).abs() < 1e-3, "{peak:?}");
        assert!((peak.gain - 0.12 * 6.798_26).abs() < 1e-3);
    }

    #[test]
    fn the_peak_is_the_highest_point_of_the_curve() {
        let peak = TRUTH.peak().unwrap();
        assert!((TRUTH.at(peak.distance) - peak.gain).abs() < 1e-12);
        for by in [-0.01, 0.01] {
            assert!(TRUTH.at(peak.distance + by) < peak.gain);
        }
    }

    /// With noise the error of each shrinks as that of a mean does.
    #[test]
    fn noise_moves_the_curve_by_little_and_lowers_what_it_explains() {
        let mut rng = stream(9, "over-optimisation", 0);
        let mut noisy = |d| (d, TRUTH.at(d) + 0.05 * f64::from(standard_normal(&mut rng)));
        let points: Vec<_> = distances(400).map(&mut noisy).collect();
        let found = fit(&points).unwrap();
        assert!((found.alpha - 0.35).abs() < 0.02, "{found:?}");
        assert!((found.beta - 0.12).abs() < 0.01, "{found:?}");
        assert!(
            found.r_squared < 0.999 && found.r_squared > 0.9,
            "{found:?}"
        );
    }

    #[test]
    fn least_squares_leaves_residues_that_no_other_curve_makes_smaller() {
        let points = [(0.5, 0.3), (1.0, 0.2), (2.0, 0.9), (3.0, 0.4), (4.0, 0.8)];
        let found = fit(&points).unwrap();
        let missed = |curve: &Curve| -> f64 {
            let each = points.iter().map(|(d, gain)| (curve.at(*d) - gain).powi(2));
            each.sum()
        };
        for (by, step) in [0, 1, 2]
            .into_iter()
            .flat_map(|by| [(by, 1e-3), (by, -1e-3)])
        {
            let moved = |index: usize| if index == by { step } else { 0.0 };
            let (da, db) = (moved(0), moved(1));
            let other = Curve {
                offset: found.offset + moved(2),
                alpha: found.alpha + da,
                beta: found.beta + db,
                ..found
            };
            assert!(missed(&other) > missed(&found));
        }
    }

    /// The first batch is a noisy mean too: all gains are off by the same, and the curve is not.
    #[test]
    fn an_error_of_the_first_batch_moves_no_peak() {
        let shifted: Vec<_> = distances(20).map(|d| (d, TRUTH.at(d) - 0.2)).collect();
        let found = fit(&shifted).unwrap();
        assert!((found.offset + 0.2).abs() < 1e-9, "{found:?}");
        let (peak, wanted) = (found.peak().unwrap(), TRUTH.peak().unwrap());
        assert!((peak.distance - wanted.distance).abs() < 1e-6);
        assert!((peak.gain - wanted.gain).abs() < 1e-6);
    }

    #[test]
    fn the_interval_of_a_peak_holds_it_and_is_open_where_points_say_little() {
        let noisy = |n: usize, span: f64, noise: f64| -> Vec<(f64, f64)> {
            let mut rng = stream(9, "over-optimisation", 1);
            let places = (0..n).map(|i| 0.5 + span * i as f64 / n as f64);
            places
                .map(|d| {
                    (
                        d,
                        TRUTH.at(d) + noise * f64::from(standard_normal(&mut rng)),
                    )
                })
                .collect()
        };
        let wanted = TRUTH.peak().unwrap().distance;
        let (low, high) = peak_interval(&noisy(200, 12.0, 0.05), 1).unwrap();
        assert!(low < wanted && wanted < high, "{low} {high}");
        assert!(high < 2.0 * low, "{low} {high}");
        // Points that are all near the start.
        let (_, high) = peak_interval(&noisy(20, 0.05, 0.1), 1).unwrap();
        assert!(high > 100.0, "{high}");
        assert_eq!(peak_interval(&[(1.0, 1.0); 10], 1), None);
        let again = peak_interval(&noisy(200, 12.0, 0.05), 1).unwrap();
        assert_eq!(
            (low, peak_interval(&noisy(200, 12.0, 0.05), 1).unwrap().1),
            again
        );
    }

    #[test]
    fn points_at_the_start_do_not_count_and_too_few_make_no_curve() {
        let mut points: Vec<_> = distances(20).map(|d| (d, TRUTH.at(d))).collect();
        points.extend([(0.0, 5.0), (0.1, -7.0)]);
        assert_eq!(fit(&points).unwrap().n, 20);
        assert_eq!(fit(&points[..4]), None);
        assert_eq!(fit(&[(1.0, 1.0); 10]), None);
        assert_eq!(fit(&[]), None);
    }

    #[test]
    fn a_curve_that_only_rises_has_no_peak() {
        let points: Vec<_> = distances(20)
            .map(|d| (d, d * (0.3 + 0.1 * d.ln())))
            .collect();
        let found = fit(&points).unwrap();
        assert!(found.beta < 0.0);
        assert_eq!(found.peak(), None);
        let flat = Curve {
            beta: 1e-9,
            ..TRUTH
        };
        assert_eq!(flat.peak(), None);
    }

    #[test]
    fn gains_are_in_deviations_of_the_first_batch() {
        assert_eq!(gains(&[1.0, 3.0, 0.0], 2.0), Some(vec![0.0, 1.0, -0.5]));
        assert_eq!(gains(&[1.0], 0.0), None);
        assert_eq!(gains(&[], 1.0), None);
    }
}
