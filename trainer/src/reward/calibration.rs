//! Whether a reward model is as sure as it is right: the difference of two rewards says that the
//! better one is preferred with the probability sigmoid(r_better - r_worse) (InstructGPT, 3.5).
//!
//! Bins go by confidence max(p, 1 - p), not by p: a pair has no first and second, so with each pair
//! taken both ways what is too sure on one side cancels on the other, and with the better one
//! always first every outcome is 1.

use std::collections::BTreeMap;

use rand::seq::SliceRandom;

use super::accuracy::Accuracy;
use super::measured::{Pair, accuracy};
use crate::loss::log_sigmoid;
use crate::rng::stream;

/// Bins of the reliability diagram, of equal numbers of pairs.
const BINS: usize = 10;

/// How well probabilities fit what labelers chose.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Calibration {
    /// Up to ten bins of equally many pairs, the least confident first.
    pub bins: Vec<Bin>,
    /// As the model is.
    pub raw: Distances,
    /// What differences of rewards are to be divided by for the lowest NLL on all pairs; none where
    /// no finite one has it: the pairs are all in the right order, or no better than chance.
    pub temperature: Option<f64>,
    /// With temperatures: each half of the prompts, drawn by the seed, is measured with the one
    /// that fits the other half. None where a half has none.
    pub scaled: Option<Distances>,
}

/// Pairs of similar confidence.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Bin {
    /// Lowest max(p, 1 - p) of its pairs.
    pub from: f64,
    /// Highest.
    pub to: f64,
    /// Mean.
    pub confidence: f64,
    /// How often the more probable one was preferred.
    pub accuracy: Accuracy,
}

/// Distances between probabilities and what came.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Distances {
    /// Expected calibration error: mean of |accuracy - confidence| over the bins (Guo et al. 2017,
    /// arXiv 1706.04599, there with bins of equal width).
    pub ece: f64,
    /// Mean of (1 - p)^2, p being the probability of what was preferred (Brier 1950).
    pub brier: f64,
    /// Mean of -ln p; 0.693 by guessing.
    pub nll: f64,
}

impl Calibration {
    /// None without pairs.
    pub(super) fn of(pairs: &[Pair<'_>], seed: u64) -> Option<Self> {
        if pairs.is_empty() {
            return None;
        }
        let differences: Vec<f64> = pairs.iter().map(|pair| pair.difference).collect();
        Some(Self {
            bins: bins(&differences)
                .into_iter()
                .filter_map(|bin| bin.describe(pairs, seed))
                .collect(),
            raw: Distances::of(&differences),
            temperature: fit_temperature(&differences),
            scaled: cross_fitted(pairs, seed).map(|scaled| Distances::of(&scaled)),
        })
    }
}

impl Distances {
    fn of(differences: &[f64]) -> Self {
        let n = differences.len() as f64;
        let mean = |of: &dyn Fn(f64) -> f64| differences.iter().map(|d| of(*d)).sum::<f64>() / n;
        let gap = |bin: &RawBin| (bin.right - bin.confidence).abs();
        Self {
            ece: bins(differences).iter().map(gap).sum::<f64>() / n,
            brier: mean(&|d| sigmoid(-d).powi(2)),
            nll: mean(&|d| -log_sigmoid(d)),
        }
    }
}

fn sigmoid(x: f64) -> f64 {
    log_sigmoid(x).exp()
}

/// Pairs of similar confidence, by their places.
struct RawBin {
    places: Vec<usize>,
    /// Sum of max(p, 1 - p).
    confidence: f64,
    /// Pairs in the right order.
    right: f64,
    from: f64,
    to: f64,
}

impl RawBin {
    fn describe(self, pairs: &[Pair<'_>], seed: u64) -> Option<Bin> {
        let inside = self.places.iter().map(|place| &pairs[*place]);
        Some(Bin {
            from: self.from,
            to: self.to,
            confidence: self.confidence / self.places.len() as f64,
            accuracy: accuracy(inside.map(|pair| (pair.prompt_id, (pair.right(), 1))), seed)?,
        })
    }
}

/// Bins of equally many pairs, but for one. Pairs of equal confidence stay in their order.
fn bins(differences: &[f64]) -> Vec<RawBin> {
    let mut order: Vec<usize> = (0..differences.len()).collect();
    order.sort_by(|a, b| differences[*a].abs().total_cmp(&differences[*b].abs()));
    let n_bins = BINS.min(order.len());
    let bin = |index: usize| {
        let n = order.len();
        let places = order[index * n / n_bins..(index + 1) * n / n_bins].to_vec();
        let confidence = |place: &usize| sigmoid(differences[*place].abs());
        let right = |place: &usize| match differences[*place] {
            difference if difference > 0.0 => 1.0,
            difference if difference < 0.0 => 0.0,
            _ => 0.5,
        };
        RawBin {
            confidence: places.iter().map(confidence).sum(),
            right: places.iter().map(right).sum(),
            from: places.first().map_or(0.5, confidence),
            to: places.last().map_or(0.5, confidence),
            places,
        }
    };
    (0..n_bins).map(bin).collect()
}

/// The temperature T with the lowest mean of -ln sigmoid(d / T). By 1 / T that is convex, so the
/// zero of its slope is found by halving. None where there is no such zero.
fn fit_temperature(differences: &[f64]) -> Option<f64> {
    // -d sigmoid(-b d), summed.
    let slope = |b: f64| -> f64 { differences.iter().map(|d| -d * sigmoid(-b * d)).sum() };
    let has_wrong = differences.iter().any(|d| *d < 0.0);
    if !has_wrong || slope(0.0) >= 0.0 {
        return None;
    }
    let mut high = 1.0;
    while slope(high) <= 0.0 {
        high *= 2.0;
        if !f64::is_finite(high) {
            return None;
        }
    }
    let mut low = 0.0;
    loop {
        let middle = f64::midpoint(low, high);
        // As far as doubles go.
        if middle <= low || middle >= high {
            break;
        }
        match slope(middle) < 0.0 {
            true => low = middle,
            false => high = middle,
        }
    }
    (low > 0.0).then(|| 1.0 / low)
}

/// Differences, each divided by the temperature that fits the half of the prompts that it is not
/// in.
fn cross_fitted(pairs: &[Pair<'_>], seed: u64) -> Option<Vec<f64>> {
    let halves = halves(pairs, seed);
    let of_half = |half: usize| {
        let inside = pairs.iter().filter(|pair| halves[pair.prompt_id] == half);
        fit_temperature(&inside.map(|pair| pair.difference).collect::<Vec<_>>())
    };
    let temperatures = [of_half(1)?, of_half(0)?];
    let scaled = pairs
        .iter()
        .map(|pair| pair.difference / temperatures[halves[pair.prompt_id]]);
    Some(scaled.collect())
}

/// The half of each prompt.
fn halves<'a>(pairs: &[Pair<'a>], seed: u64) -> BTreeMap<&'a str, usize> {
    let mut halves: BTreeMap<&str, usize> = pairs.iter().map(|pair| (pair.prompt_id, 0)).collect();
    let mut order: Vec<&str> = halves.keys().copied().collect();
    order.shuffle(&mut stream(seed, "calibration", 0));
    for (place, prompt) in order.into_iter().enumerate() {
        halves.insert(prompt, place % 2);
    }
    halves
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn pair(prompt_id: &str, difference: f64) -> Pair<'_> {
        Pair {
            prompt_id,
            difference,
            better: 1,
            worse: 1,
        }
    }

    /// Of `n` pairs with the differences +d and -d, `right` are right: NLL is lowest where
    /// sigmoid(d / T) = right / n, so T = d / ln(right / wrong).
    #[test]
    fn the_temperature_of_two_differences_has_a_closed_form() {
        let differences = |d: f64| [[d; 15].as_slice(), &[-d; 5]].concat();
        for d in [1e-3, 0.5, 3.0, 200.0] {
            let temperature = fit_temperature(&differences(d)).unwrap();
            let expected = d / 3.0f64.ln();
            assert!((temperature / expected - 1.0).abs() < 1e-9, "{temperature}");
        }
    }

    /// Against scikit-learn and scipy, see `make_report.py`.
    #[test]
    fn bins_errors_and_temperature_are_those_of_scikit_learn_and_scipy() {
        let made: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/fixtures/report.json")).unwrap();
        for case in made["calibration"].as_array().unwrap() {
            let of = |name: &str| case[name].as_f64().unwrap();
            let differences: Vec<f64> =
                serde_json::from_value(case["differences"].clone()).unwrap();
            // Each pair of a prompt of its own.
            let prompts: Vec<String> = (0..differences.len()).map(|n| n.to_string()).collect();
            let pairs = prompts.iter().zip(&differences);
            let pairs: Vec<Pair<'_>> = pairs.map(|(prompt, d)| pair(prompt, *d)).collect();
            let found = Calibration::of(&pairs, 1).unwrap();
            for (name, value) in [
                ("ece", found.raw.ece),
                ("brier", found.raw.brier),
                ("nll", found.raw.nll),
            ] {
                assert!((value - of(name)).abs() < 1e-9, "{name}: {value}");
            }
            let expected: Vec<[f64; 2]> = serde_json::from_value(case["bins"].clone()).unwrap();
            assert_eq!(found.bins.len(), expected.len());
            for (bin, [confidence, right]) in found.bins.iter().zip(expected) {
                assert!((bin.confidence - confidence).abs() < 1e-9, "{bin:?}");
                assert!((bin.accuracy.value - right).abs() < 1e-9, "{bin:?}");
                assert!(bin.from <= bin.confidence && bin.confidence <= bin.to);
            }
            // The minimiser finds the place to the root of what it sees of the value.
            let temperature = found.temperature.unwrap();
            assert!(
                (temperature / of("temperature") - 1.0).abs() < 1e-5,
                "{temperature}"
            );
            let scaled: Vec<f64> = differences.iter().map(|d| d / temperature).collect();
            let nll = Distances::of(&scaled).nll;
            assert!((nll - of("nll_at_temperature")).abs() < 1e-12, "{nll}");
        }
    }

    #[test]
    fn there_is_no_temperature_where_none_is_finite() {
        assert_eq!(fit_temperature(&[1.0, 2.0]), None);
        assert_eq!(fit_temperature(&[1.0, -2.0]), None);
        assert_eq!(fit_temperature(&[0.0, 0.0]), None);
        assert!(Calibration::of(&[], 1).is_none());
    }

    /// A model that says 0.88 and is right in 3 of 4 pairs is too sure by 0.13. With a temperature
    /// both halves say 0.75.
    #[test]
    fn a_temperature_takes_away_what_is_too_sure() {
        let prompts: Vec<String> = (0..40).map(|index| format!("p{index}")).collect();
        let pairs: Vec<Pair<'_>> = prompts
            .iter()
            .flat_map(|prompt| [2.0, 2.0, 2.0, -2.0].map(|d| pair(prompt, d)))
            .collect();
        let found = Calibration::of(&pairs, 1).unwrap();
        let confidence = sigmoid(2.0);
        assert!((found.raw.ece - (confidence - 0.75)).abs() < 1e-12);
        let brier = 0.75 * (1.0 - confidence).powi(2) + 0.25 * confidence.powi(2);
        assert!((found.raw.brier - brier).abs() < 1e-12);
        let nll = -0.75 * confidence.ln() - 0.25 * (1.0 - confidence).ln();
        assert!((found.raw.nll - nll).abs() < 1e-12);
        let temperature = found.temperature.unwrap();
        assert!((temperature - 2.0 / 3.0f64.ln()).abs() < 1e-9);
        let scaled = found.scaled.unwrap();
        assert!(scaled.ece < 1e-9, "{scaled:?}");
        assert!((scaled.brier - 0.75 * 0.25).abs() < 1e-9);
        assert_eq!(found.bins.len(), BINS);
        for bin in &found.bins {
            assert_eq!((bin.accuracy.n_pairs, bin.accuracy.n_prompts), (16, 4));
            assert_eq!(bin.accuracy.value, 0.75);
        }
    }

    #[test]
    fn one_prompt_has_no_other_half_to_fit_on() {
        let pairs = [pair("p", 2.0), pair("p", 1.0), pair("p", -1.0)];
        let found = Calibration::of(&pairs, 1).unwrap();
        assert!(found.temperature.is_some());
        assert_eq!(found.scaled, None);
        assert_eq!(found.bins.len(), 3);
        assert!(found.bins.iter().all(|bin| bin.accuracy.interval.is_none()));
    }
}
