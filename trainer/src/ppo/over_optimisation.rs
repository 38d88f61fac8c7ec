//! How far it pays to optimise against a reward model: Gao et al., "Scaling laws for reward model
//! overoptimization" (arXiv 2210.10760). With d the square root of the KL to the policy before
//! training, in nats, what a policy gains by reinforcement learning, by a judge it is not trained
//! against, follows d (alpha - beta ln d). Both are fitted by least squares; the curve tells where
//! more training stops to pay.

/// Points nearer than this to the start are not fitted: the form has an infinite slope there, and
/// KL is estimated badly (ours; the paper leaves the start out without a number).
pub const LEAST_DISTANCE: f64 = 0.25;

/// Fewest points that a curve is fitted to (ours): two would always lie on one.
pub const LEAST_POINTS: usize = 4;

/// A fitted d (alpha - beta ln d).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Curve {
    /// Gain for each unit of distance at d = 1.
    pub alpha: f64,
    /// How fast that falls.
    pub beta: f64,
    /// Points it was fitted to.
    pub n: usize,
    /// Share of the gains' variation around 0 that it explains.
    pub r_squared: f64,
}

/// Where a curve is highest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peak {
    /// Square root of the KL there.
    pub distance: f64,
    /// The gain there.
    pub gain: f64,
}

impl Curve {
    /// The gain at a distance.
    pub fn at(&self, distance: f64) -> f64 {
        match distance > 0.0 {
            true => distance * (self.alpha - self.beta * distance.ln()),
            false => 0.0,
        }
    }

    /// d* = exp(alpha / beta - 1), and the gain beta d* there; none where the curve only rises.
    pub fn peak(&self) -> Option<Peak> {
        let distance = (self.alpha / self.beta - 1.0).exp();
        let peak = Peak {
            distance,
            gain: self.beta * distance,
        };
        (self.beta > 0.0 && distance.is_finite() && peak.gain.is_finite()).then_some(peak)
    }
}

/// The curve nearest to pairs of distance and gain by least squares. It is linear in d and -d ln d,
/// so the fit is exact. None where too few points lie far enough from the start, or all at one
/// distance.
pub fn fit(points: &[(f64, f64)]) -> Option<Curve> {
    let far = points
        .iter()
        .filter(|(d, gain)| *d >= LEAST_DISTANCE && d.is_finite() && gain.is_finite());
    let rows: Vec<[f64; 3]> = far.map(|(d, gain)| [*d, -d * d.ln(), *gain]).collect();
    if rows.len() < LEAST_POINTS {
        return None;
    }
    let sum = |i: usize, j: usize| rows.iter().map(|row| row[i] * row[j]).sum::<f64>();
    let (aa, ab, bb) = (sum(0, 0), sum(0, 1), sum(1, 1));
    let (ay, by, yy) = (sum(0, 2), sum(1, 2), sum(2, 2));
    let determinant = aa * bb - ab * ab;
    if determinant <= 1e-9 * aa * bb {
        return None;
    }
    let alpha = (bb * ay - ab * by) / determinant;
    let beta = (aa * by - ab * ay) / determinant;
    let missed = rows
        .iter()
        .map(|[a, b, y]| (y - alpha * a - beta * b).powi(2))
        .sum::<f64>();
    Some(Curve {
        alpha,
        beta,
        n: rows.len(),
        r_squared: if yy > 0.0 { 1.0 - missed / yy } else { 1.0 },
    })
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
    use crate::rng::{standard_normal, stream};

    /// The paper's gold curve of its 1.2B proxy, about.
    const TRUTH: Curve = Curve {
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
        assert!((found.alpha - 0.35).abs() < 0.01, "{found:?}");
        assert!((found.beta - 0.12).abs() < 0.01, "{found:?}");
        assert!(
            found.r_squared < 0.999 && found.r_squared > 0.95,
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
        for (da, db) in [(1e-3, 0.0), (-1e-3, 0.0), (0.0, 1e-3), (0.0, -1e-3)] {
            let other = Curve {
                alpha: found.alpha + da,
                beta: found.beta + db,
                ..found
            };
            assert!(missed(&other) > missed(&found));
        }
    }

    #[test]
    fn points_at_the_start_do_not_count_and_too_few_make_no_curve() {
        let mut points: Vec<_> = distances(20).map(|d| (d, TRUTH.at(d))).collect();
        points.extend([(0.0, 5.0), (0.1, -7.0)]);
        assert_eq!(fit(&points).unwrap().n, 20);
        assert_eq!(fit(&points[..3]), None);
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
