//! Tests of Dawid and Skene's model, against the paper, another program and simulated labelers.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use proptest::prelude::*;
use rand::Rng;
use trainer::rng::stream;

use super::super::fixtures::{close, made, numbers};
use super::super::interval::Interval;
use super::*;

/// Table 1 of the paper: five anaesthetists on 45 patients, the first of them three times; seven
/// answers for each patient.
const PATIENTS: &str = "
    1111111 3334334 1122122 2223121 2223222 2223322 1222111 3333433 2222223 2322223
    4444444 2223343 1111111 2223212 1211111 1112111 1111111 1111111 2222221 2221322
    2222222 2222221 2223222 2212222 1111111 1111111 2322222 1111111 1111111 1121121
    1111111 3333233 1111111 2222222 2223232 4334343 2212232 2323233 3333432 1111111
    1111111 1212111 2322222 1211111 2222222";

fn patients() -> Vec<Rating> {
    let mut ratings = Vec::new();
    for (unit, answers) in PATIENTS.split_whitespace().enumerate() {
        let labelers = [0, 0, 0, 1, 2, 3, 4];
        for (labeler, answer) in labelers.into_iter().zip(answers.chars()) {
            ratings.push(Rating {
                unit,
                labeler,
                value: answer.to_digit(10).unwrap() as i32 - 1,
            });
        }
    }
    ratings
}

const LIKELIHOOD: Priors = Priors {
    category: 0.0,
    right: 0.0,
    wrong: 0.0,
};

/// Section 4 of the paper: shares 0.40, 0.42, 0.11 and 0.07 by maximum likelihood.
#[test]
fn the_papers_example_is_reproduced() {
    let found = dawid_skene(&patients(), 4, &LIKELIHOOD).unwrap();
    assert!(found.has_converged);
    for (own, expected) in found.categories.iter().zip([0.40, 0.42, 0.11, 0.07]) {
        close(own.value, expected, 5e-3);
        assert_eq!(own.n, 45);
    }
    // The first patient is of class 1 for all, the eleventh of class 4.
    close(found.units[&0][0], 1.0, 1e-6);
    close(found.units[&10][3], 1.0, 1e-6);
    assert_eq!(found.labelers[0].n, 135);
}

/// See `dawid_skene` in the script: a general maximiser, derivatives by differences.
#[test]
fn rates_and_intervals_are_those_of_another_program() {
    for case in made()["dawid_skene"].as_array().unwrap() {
        let rows: Vec<(usize, usize, i32)> =
            serde_json::from_value(case["ratings"].clone()).unwrap();
        let ratings: Vec<Rating> = rows
            .into_iter()
            .map(|(unit, labeler, value)| Rating {
                unit,
                labeler,
                value,
            })
            .collect();
        let n_categories = case["n_categories"].as_u64().unwrap() as usize;
        let found = dawid_skene(&ratings, n_categories, &Priors::default()).unwrap();
        let error = |own: &Estimate| {
            let odds = |share: f64| (share / (1.0 - share)).ln();
            let Interval { low, high } = own.interval.unwrap();
            (odds(high) - odds(low)) / (2.0 * 1.959_964)
        };
        for (own, expected) in found.categories.iter().zip(numbers(&case["categories"])) {
            close(own.value, expected[0], 1e-5);
            close(error(own), expected[1], 1e-3);
        }
        let rates: Vec<Vec<Vec<f64>>> = serde_json::from_value(case["rates"].clone()).unwrap();
        let errors: Vec<Vec<f64>> =
            serde_json::from_value(case["errors_of_log_odds"].clone()).unwrap();
        for ((own, rates), errors) in found.labelers.iter().zip(rates).zip(errors) {
            for (own, expected) in own.rates.iter().flatten().zip(rates.iter().flatten()) {
                close(*own, *expected, 1e-5);
            }
            for (own, expected) in own.right.iter().zip(errors) {
                close(error(own), expected, 1e-3);
            }
        }
    }
}

/// Rare flags: 8 % of 2,000 units; ten labelers of known sensitivity and specificity, three for
/// each unit.
fn flags(seed: u64) -> (Vec<(f64, f64)>, Vec<bool>, Vec<Rating>) {
    let mut rng = stream(seed, "flags", 0);
    let labelers: Vec<(f64, f64)> = (0..10)
        .map(|own| (0.6 + 0.035 * f64::from(own), 0.99 - 0.01 * f64::from(own)))
        .collect();
    let truth: Vec<bool> = (0..2000).map(|_| rng.random_bool(0.08)).collect();
    let mut ratings = Vec::new();
    for (unit, truth) in truth.iter().enumerate() {
        let first = rng.random_range(0..10);
        for labeler in [
            first,
            (first + 1 + unit % 4) % 10,
            (first + 6 + unit % 3) % 10,
        ] {
            let (sensitivity, specificity) = labelers[labeler];
            let is_set = rng.random_bool(if *truth {
                sensitivity
            } else {
                1.0 - specificity
            });
            ratings.push(Rating {
                unit,
                labeler,
                value: i32::from(is_set),
            });
        }
    }
    (labelers, truth, ratings)
}

#[test]
fn intervals_hold_the_sensitivity_and_specificity_of_simulated_labelers() {
    let (mut held, mut all) = (0, 0);
    let (mut by_model, mut by_most) = (0, 0);
    for seed in 0..5 {
        let (labelers, truth, ratings) = flags(seed);
        let found = dawid_skene(&ratings, 2, &Priors::default()).unwrap();
        assert!(found.has_converged);
        for (own, (sensitivity, specificity)) in found.labelers.iter().zip(labelers) {
            for (found, truth) in [
                (own.sensitivity().unwrap(), sensitivity),
                (own.specificity().unwrap(), specificity),
            ] {
                let Interval { low, high } = found.interval.unwrap();
                held += usize::from(low <= truth && truth <= high);
                all += 1;
            }
            assert!(own.sensitivity().unwrap().n < 100 && own.specificity().unwrap().n > 400);
        }
        // What is probably true is so more often than what most said.
        let wrong = |said: &dyn Fn(usize) -> bool| {
            truth
                .iter()
                .enumerate()
                .filter(|(unit, truth)| said(*unit) != **truth)
                .count()
        };
        by_model += wrong(&|unit| found.units[&unit][1] > 0.5);
        by_most += wrong(&|unit| {
            let own = ratings.iter().filter(|own| own.unit == unit);
            own.map(|own| own.value).sum::<i32>() >= 2
        });
    }
    assert!(by_model < by_most, "{by_model} {by_most}");
    assert!(all == 100 && held >= 88, "{held}");
}

#[test]
fn units_of_one_labeler_say_nothing_of_labelers_but_are_judged() {
    let (_, _, mut ratings) = flags(1);
    let before = dawid_skene(&ratings, 2, &Priors::default()).unwrap();
    let alone = |unit, labeler| Rating {
        unit,
        labeler,
        value: 1,
    };
    ratings.extend([alone(5000, 0), alone(5001, 9), alone(5002, 77)]);
    let after = dawid_skene(&ratings, 2, &Priors::default()).unwrap();
    assert_eq!(before.labelers, after.labelers);
    // The specific one is more to be believed, and of the stranger nothing is known.
    assert!(after.units[&5000][1] > after.units[&5001][1]);
    assert_eq!(after.units.get(&5002), None);
    assert_eq!(after.labeler(77), None);
}

#[test]
fn other_numbers_for_labelers_change_nothing() {
    let (_, _, ratings) = flags(2);
    let renamed: Vec<Rating> = ratings
        .iter()
        .map(|own| Rating {
            labeler: 90 - 7 * own.labeler,
            ..*own
        })
        .collect();
    let before = dawid_skene(&ratings, 2, &Priors::default()).unwrap();
    let after = dawid_skene(&renamed, 2, &Priors::default()).unwrap();
    for own in &before.labelers {
        let its = after.labeler(90 - 7 * own.labeler).unwrap();
        close(
            own.sensitivity().unwrap().value,
            its.sensitivity().unwrap().value,
            1e-6,
        );
        close(
            own.specificity().unwrap().value,
            its.specificity().unwrap().value,
            1e-6,
        );
    }
}

#[test]
fn what_cannot_be_told_is_not() {
    let two = |value| {
        [0, 1].map(|labeler| Rating {
            unit: 0,
            labeler,
            value,
        })
    };
    let priors = Priors::default();
    assert_eq!(dawid_skene(&[], 2, &priors), None);
    assert_eq!(dawid_skene(&two(1)[..1], 2, &priors), None);
    assert_eq!(dawid_skene(&two(2), 2, &priors), None);
    assert_eq!(dawid_skene(&two(-1), 2, &priors), None);
    assert_eq!(dawid_skene(&two(0), 1, &priors), None);
    let negative = Priors {
        wrong: -1.0,
        ..priors
    };
    assert_eq!(dawid_skene(&two(1), 2, &negative), None);
    // More than two categories have no sensitivity.
    let found = dawid_skene(&two(2), 3, &priors).unwrap();
    assert_eq!(found.labelers[0].sensitivity(), None);
    assert_eq!(found.labelers[0].right.len(), 3);
}

/// See `clusters` in the script: a sandwich by clusters, or the inverse information.
#[test]
fn what_hangs_together_has_the_intervals_of_another_program() {
    let made = &made()["clusters"];
    let each = made["each"].as_u64().unwrap() as usize;
    let rows: Vec<(usize, usize, i32)> = serde_json::from_value(made["ratings"].clone()).unwrap();
    let ratings: Vec<Rating> = rows
        .into_iter()
        .map(|(unit, labeler, value)| Rating {
            unit,
            labeler,
            value,
        })
        .collect();
    let found = dawid_skene_by(&ratings, 2, &Priors::default(), |unit| unit / each).unwrap();
    let (wrong, errors) = (
        numbers(&made["wrong"]),
        numbers(&made["errors_of_log_odds"]),
    );
    for ((own, wrong), errors) in found.labelers.iter().zip(wrong).zip(errors) {
        for category in 0..2 {
            let right = own.right[category];
            close(right.value, 1.0 - wrong[category], 1e-5);
            let odds = |share: f64| (share / (1.0 - share)).ln();
            let Interval { low, high } = right.interval.unwrap();
            let error = (odds(high) - odds(low)) / (2.0 * 1.959_964);
            close(error, errors[category], 1e-3);
        }
        // Nearly every prompt has something that is not to be flagged.
        assert!((25..=30).contains(&own.clusters_of_flag(0)), "{own:?}");
        assert!(own.clusters_of_flag(1) < own.sensitivity().unwrap().n);
    }
    // Without clusters they are narrower.
    let alone = dawid_skene(&ratings, 2, &Priors::default()).unwrap();
    let width = |own: Estimate| {
        let interval = own.interval.unwrap();
        interval.high - interval.low
    };
    let sum = |found: &DawidSkene| -> f64 {
        let labelers = found.labelers.iter();
        labelers.map(|own| width(own.specificity().unwrap())).sum()
    };
    assert!(
        sum(&found) > 1.2 * sum(&alone),
        "{} {}",
        sum(&found),
        sum(&alone)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn probabilities_are_within_0_and_1_and_add_up(
        said in prop::collection::vec((0usize..6, 0usize..4, 0i32..3), 0..40),
        likelihood: bool,
    ) {
        let priors = if likelihood { LIKELIHOOD } else { Priors::default() };
        let ratings: Vec<Rating> = said
            .iter()
            .map(|(unit, labeler, value)| Rating { unit: *unit, labeler: *labeler, value: *value })
            .collect();
        if let Some(found) = dawid_skene(&ratings, 3, &priors) {
            let rates = found.labelers.iter().flat_map(|own| own.rates.iter());
            let shares: Vec<f64> = found.categories.iter().map(|own| own.value).collect();
            for row in rates.chain(found.units.values()).chain([&shares]) {
                prop_assert!(row.iter().all(|own| (0.0..=1.0).contains(own)));
                prop_assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            }
        }
    }
}
