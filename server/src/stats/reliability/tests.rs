//! Tests of reliability, against other programs and published examples.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use proptest::prelude::*;

use super::super::fixtures::{close, made};
use super::super::interval::{Bootstrap, Interval};
use super::super::labels::Ranking;
use super::*;

const SCALES: [(&str, Scale); 3] = [
    ("nominal", Scale::Nominal),
    ("ordinal", Scale::Ordinal),
    ("interval", Scale::Interval),
];

fn few() -> Bootstrap {
    Bootstrap {
        seed: 1,
        resamples: 60,
    }
}

/// Ratings of a labeler by line, of a unit by sign; a dot is missing.
fn read(lines: &[&str]) -> Vec<Rating> {
    let mut ratings = Vec::new();
    for (labeler, line) in lines.iter().enumerate() {
        for (unit, sign) in line.chars().filter(|sign| *sign != ' ').enumerate() {
            ratings.extend(sign.to_digit(10).map(|value| Rating {
                unit,
                labeler,
                value: value as i32,
            }));
        }
    }
    ratings
}

fn triples(rows: &serde_json::Value) -> Vec<Rating> {
    let rows: Vec<(usize, usize, i32)> = serde_json::from_value(rows.clone()).unwrap();
    rows.into_iter()
        .map(|(unit, labeler, value)| Rating {
            unit,
            labeler,
            value,
        })
        .collect()
}

/// Four observers and twelve units with missing values: Krippendorff, Computing Krippendorff's
/// Alpha-Reliability (2011), section C; the same data are Gwet's (Handbook of Inter-Rater
/// Reliability, 2014, table 2.10).
const FOUR: [&str; 4] = [
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
];

#[test]
fn alpha_is_that_of_krippendorffs_examples() {
    let ratings = read(&FOUR);
    for (scale, expected) in [
        (Scale::Nominal, 0.743),
        (Scale::Ordinal, 0.815),
        (Scale::Interval, 0.849),
    ] {
        let found = krippendorff_alpha(&ratings, scale, &few()).unwrap();
        close(found.estimate.value, expected, 5e-4);
        // One unit was rated by a single observer.
        assert_eq!((found.estimate.n, found.n_ratings), (11, 40));
    }
    // Two observers, ten units, two values (section A): 0.095.
    let ratings = read(&["0 1 0 0 0 0 0 0 1 0", "1 1 1 0 0 1 0 0 0 0"]);
    let found = krippendorff_alpha(&ratings, Scale::Nominal, &few()).unwrap();
    close(found.estimate.value, 0.095, 5e-4);
}

/// AC1 0.77544 and Fleiss' kappa 0.76117, with the standard errors 0.14295 and 0.15302 (the example
/// of Gwet's irrCAC on these data).
#[test]
fn ac1_and_kappa_are_those_of_gwets_example() {
    let ratings = read(&FOUR);
    // Student's t with 11 degrees of freedom.
    let t = 2.200_985;
    for (found, value, error) in [
        (gwet_ac1(&ratings, 5), 0.77544, 0.14295),
        (fleiss_kappa(&ratings), 0.76117, 0.15302),
    ] {
        let found = found.unwrap();
        close(found.estimate.value, value, 6e-6);
        let Interval { low, high } = found.estimate.interval.unwrap();
        close(low, value - t * error, 2e-5);
        close(high, 1.0, 1e-12);
        assert_eq!(found.estimate.n, 11);
    }
}

/// Ten subjects, fourteen raters, five categories: Fleiss' kappa 0.210 (Wikipedia, Fleiss' kappa).
#[test]
fn fleiss_kappa_is_that_of_the_published_example() {
    let table = [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ];
    let mut ratings = Vec::new();
    for (unit, row) in table.iter().enumerate() {
        let values = row.iter().enumerate();
        let values = values.flat_map(|(value, times)| vec![value as i32; *times]);
        ratings.extend(values.enumerate().map(|(labeler, value)| Rating {
            unit,
            labeler,
            value,
        }));
    }
    let found = fleiss_kappa(&ratings).unwrap();
    close(found.estimate.value, 0.210, 5e-4);
    close(found.observed, 0.378, 5e-4);
    close(found.expected, 0.213, 5e-4);
}

/// Fifty applications read by two: both yes 20, both no 15; kappa 0.4 (Wikipedia, Cohen's kappa).
#[test]
fn cohens_kappa_is_that_of_the_published_example() {
    let cells = [((1, 1), 20), ((1, 0), 5), ((0, 1), 10), ((0, 0), 15)];
    let pairs: Vec<(i32, i32)> = cells.iter().flat_map(|(pair, n)| vec![*pair; *n]).collect();
    let found = cohen_kappa(&pairs).unwrap();
    close(found.estimate.value, 0.4, 1e-12);
    close(found.observed, 0.7, 1e-12);
    close(found.expected, 0.5, 1e-12);
}

#[test]
fn coefficients_are_those_of_other_programs() {
    let made = &made()["reliability"];
    for case in made["many"].as_array().unwrap() {
        let ratings = triples(&case["ratings"]);
        let n_categories = case["n_categories"].as_u64().unwrap() as usize;
        for (name, scale) in SCALES {
            let found = krippendorff_alpha(&ratings, scale, &few()).unwrap();
            close(found.estimate.value, case[name].as_f64().unwrap(), 1e-12);
        }
        for (name, found) in [
            ("fleiss", fleiss_kappa(&ratings)),
            ("ac1", gwet_ac1(&ratings, n_categories)),
        ] {
            let (found, expected) = (found.unwrap(), &case[name]);
            let interval = found.estimate.interval.unwrap();
            for (figure, found) in [
                ("value", found.estimate.value),
                ("observed", found.observed),
                ("expected", found.expected),
                ("low", interval.low),
                ("high", interval.high),
            ] {
                close(found, expected[figure].as_f64().unwrap(), 1e-8);
            }
        }
    }
    for case in made["cohen"].as_array().unwrap() {
        let pairs: Vec<(i32, i32)> = serde_json::from_value(case["pairs"].clone()).unwrap();
        let found = cohen_kappa(&pairs).unwrap().estimate;
        let interval = found.interval.unwrap();
        close(found.value, case["value"].as_f64().unwrap(), 1e-12);
        close(interval.low, case["low"].as_f64().unwrap(), 1e-6);
        close(interval.high, case["high"].as_f64().unwrap(), 1e-6);
    }
}

#[test]
fn what_cannot_be_told_from_chance_has_no_coefficient() {
    let alone = read(&["1 2 3", "..."]);
    let one = read(&["1 . .", ". 2 .", ". . 3"]);
    for ratings in [&[][..], &alone, &one] {
        for (_, scale) in SCALES {
            assert_eq!(krippendorff_alpha(ratings, scale, &few()), None);
        }
        assert_eq!((fleiss_kappa(ratings), gwet_ac1(ratings, 2)), (None, None));
    }
    assert_eq!(cohen_kappa(&[]), None);
    assert_eq!(cohen_kappa(&[(1, 1), (1, 1)]), None);
    // Extremes do no harm.
    let far = [
        (i32::MIN, i32::MAX),
        (i32::MAX, i32::MAX),
        (i32::MIN, i32::MIN),
    ];
    assert!(cohen_kappa(&far).unwrap().estimate.value.is_finite());
}

/// A flag that is nearly never set: labelers agree on 98 of 100 units.
#[test]
fn ac1_is_steady_where_flags_are_rare_and_kappa_is_not() {
    let mut first = "0".repeat(100);
    let mut second = first.clone();
    first.replace_range(0..1, "1");
    second.replace_range(1..2, "1");
    let ratings = read(&[&first, &second]);
    let ac1 = gwet_ac1(&ratings, 2).unwrap();
    close(ac1.observed, 0.98, 1e-12);
    assert!(ac1.estimate.value > 0.97);
    assert!(fleiss_kappa(&ratings).unwrap().estimate.value < 0.0);
    // Never set: kappa and alpha cannot tell, AC1 can, without an interval.
    let never = read(&["00000", "00000"]);
    assert_eq!(fleiss_kappa(&never), None);
    assert_eq!(krippendorff_alpha(&never, Scale::Nominal, &few()), None);
    let never = gwet_ac1(&never, 2).unwrap().estimate;
    assert_eq!((never.value, never.interval, never.n), (1.0, None, 5));
    assert_eq!(gwet_ac1(&read(&["00", "00"]), 1), None);
}

#[test]
fn the_last_rating_of_a_unit_counts() {
    let mut ratings = read(&["1 2 1", "1 1 1"]);
    ratings.push(Rating {
        unit: 1,
        labeler: 0,
        value: 1,
    });
    ratings.push(Rating {
        unit: 2,
        labeler: 1,
        value: 2,
    });
    let same = read(&["1 1 1", "1 1 2"]);
    assert_eq!(fleiss_kappa(&ratings), fleiss_kappa(&same));
    assert_eq!(rated_by_both(&ratings, 0, 1), [(1, 1), (1, 1), (1, 2)]);
    assert_eq!(rated_by_both(&ratings, 0, 2), []);
}

#[test]
fn alpha_of_ranks_compares_completions_and_resamples_prompts() {
    let rankings: Vec<Ranking> = (0..12)
        .flat_map(|prompt| {
            let second = if prompt % 3 == 0 {
                [4, 3, 2, 1]
            } else {
                [1, 2, 3, 4]
            };
            [
                Ranking::complete(prompt, 0, &[1, 2, 3, 4]),
                Ranking::complete(prompt, 1, &second),
            ]
        })
        .collect();
    let found = alpha_of_ranks(&rankings, &Bootstrap::new(1)).unwrap();
    assert_eq!((found.estimate.n, found.n_ratings), (48, 96));
    // Two thirds of the prompts alike, one third turned around: near 2/3 - 1/3.
    close(found.estimate.value, 0.34, 0.01);
    let by_prompt = found.estimate.interval.unwrap();
    let as_units: Vec<Rating> = rankings
        .iter()
        .flat_map(|own| {
            let ranks = own.ranks.iter().enumerate();
            ranks.map(|(place, rank)| Rating {
                unit: own.prompt * 4 + place,
                labeler: own.labeler,
                value: rank.unwrap().into(),
            })
        })
        .collect();
    let by_unit = krippendorff_alpha(&as_units, Scale::Ordinal, &Bootstrap::new(1)).unwrap();
    close(by_unit.estimate.value, found.estimate.value, 1e-12);
    let by_unit = by_unit.estimate.interval.unwrap();
    // Prompts are fewer than completions, and all completions of one agree or not together.
    assert!(by_prompt.high - by_prompt.low > 1.3 * (by_unit.high - by_unit.low));
    assert_eq!(alpha_of_ranks(&rankings[..1], &few()), None);
}

/// Of simulated labelers with a known alpha, nine of ten intervals and more hold it.
#[test]
fn intervals_hold_the_truth_as_often_as_they_say() {
    use rand::Rng;
    let mut rng = trainer::rng::stream(3, "coverage", 0);
    // Two labelers say the truth, 0 or 1 as often, with probability 0.9: they agree on 0.82, so
    // that alpha, kappa and AC1 are 0.64.
    let (mut alpha, mut ac1) = (0, 0);
    for seed in 0..100 {
        let mut ratings = Vec::new();
        for unit in 0..100 {
            let truth = rng.random_range(0..2);
            for labeler in 0..2 {
                let value = if rng.random_bool(0.9) {
                    truth
                } else {
                    1 - truth
                };
                ratings.push(Rating {
                    unit,
                    labeler,
                    value,
                });
            }
        }
        let bootstrap = Bootstrap {
            seed,
            resamples: 400,
        };
        let holds = |interval: Interval| interval.low <= 0.64 && 0.64 <= interval.high;
        let found = krippendorff_alpha(&ratings, Scale::Nominal, &bootstrap).unwrap();
        alpha += usize::from(holds(found.estimate.interval.unwrap()));
        let found = gwet_ac1(&ratings, 2).unwrap();
        ac1 += usize::from(holds(found.estimate.interval.unwrap()));
    }
    assert!((89..=100).contains(&alpha), "{alpha}");
    assert!((89..=100).contains(&ac1), "{ac1}");
}

/// See `clusters` in the script: derivatives by the units' weights, and krippendorff on mean places.
#[test]
fn what_hangs_together_has_the_figures_of_other_programs() {
    let made = &made()["clusters"];
    let each = made["each"].as_u64().unwrap() as usize;
    let ratings = triples(&made["ratings"]);
    for (name, found) in [
        ("ac1", gwet_ac1_by(&ratings, 2, |unit| unit / each)),
        ("fleiss", fleiss_kappa_by(&ratings, |unit| unit / each)),
    ] {
        let found = found.unwrap();
        let interval = found.estimate.interval.unwrap();
        let number = |key: &str| made[name][key].as_f64().unwrap();
        close(found.estimate.value, number("value"), 1e-9);
        close(interval.low, number("low"), 1e-6);
        close(interval.high, number("high"), 1e-6);
        assert_eq!((found.estimate.n, found.n_clusters), (120, 30));
    }
    let rows: Vec<(usize, usize, Vec<i16>)> =
        serde_json::from_value(made["rankings"].clone()).unwrap();
    let rankings: Vec<Ranking> = rows
        .iter()
        .map(|(prompt, labeler, ranks)| Ranking::complete(*prompt, *labeler, ranks))
        .collect();
    let found = alpha_of_ranks(&rankings, &few()).unwrap();
    close(
        found.estimate.value,
        made["alpha_of_ranks"].as_f64().unwrap(),
        1e-12,
    );
    assert_eq!(found.n_clusters, 20);
}

#[test]
fn who_ties_the_first_three_and_who_does_not_agree_on_the_last() {
    let rankings: Vec<Ranking> = (0..20)
        .flat_map(|prompt| {
            [
                Ranking::complete(prompt, 0, &[1, 1, 1, 2]),
                Ranking::complete(prompt, 1, &[1, 2, 3, 4]),
            ]
        })
        .collect();
    let found = alpha_of_ranks(&rankings, &few()).unwrap().estimate.value;
    assert!(found > 0.6, "{found}");
}

/// Each of two labelers misreads one prompt in ten as a whole; forty prompts of five completions.
#[test]
fn intervals_hold_the_truth_where_a_prompt_is_misread_as_a_whole() {
    use rand::Rng;
    let mut rng = trainer::rng::stream(5, "misread", 0);
    // They agree on 0.82 of completions, which are flagged or not as often: alpha and AC1 are 0.64.
    let (mut alpha, mut ac1, mut ac1_alone) = (0, 0, 0);
    for seed in 0..200 {
        let mut ratings = Vec::new();
        for prompt in 0..40 {
            let misread: [bool; 2] = [0, 1].map(|_| rng.random_bool(0.1));
            for place in 0..5 {
                let truth = rng.random_bool(0.5);
                ratings.extend([0, 1].map(|labeler| Rating {
                    unit: prompt * 5 + place,
                    labeler,
                    value: i32::from(truth != misread[labeler]),
                }));
            }
        }
        let bootstrap = Bootstrap {
            seed,
            resamples: 200,
        };
        let holds = |estimate: super::super::interval::Estimate| {
            let Interval { low, high } = estimate.interval.unwrap();
            usize::from(low <= 0.64 && 0.64 <= high)
        };
        let prompt = |unit: usize| unit / 5;
        let found = krippendorff_alpha_by(&ratings, Scale::Nominal, prompt, &bootstrap).unwrap();
        assert_eq!((found.estimate.n, found.n_clusters), (200, 40));
        alpha += holds(found.estimate);
        ac1 += holds(gwet_ac1_by(&ratings, 2, prompt).unwrap().estimate);
        ac1_alone += holds(gwet_ac1(&ratings, 2).unwrap().estimate);
    }
    assert!(alpha >= 172 && ac1 >= 176, "{alpha} {ac1}");
    // What took completions as independent held it far less often than it said.
    assert!(ac1_alone < 160, "{ac1_alone}");
}

prop_compose! {
    fn ratings()(
        said in prop::collection::vec((0usize..8, 0usize..4, -2i32..3), 0..40)
    ) -> Vec<Rating> {
        let said = said.into_iter();
        said.map(|(unit, labeler, value)| Rating { unit, labeler, value }).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn coefficients_are_at_most_1_and_finite(ratings in ratings()) {
        for (_, scale) in SCALES {
            if let Some(found) = krippendorff_alpha(&ratings, scale, &few()) {
                prop_assert!(found.estimate.value <= 1.0 + 1e-12);
            }
        }
        for found in [fleiss_kappa(&ratings), gwet_ac1(&ratings, 5)].into_iter().flatten() {
            let value = found.estimate.value;
            prop_assert!(value.is_finite() && value <= 1.0 + 1e-9);
            prop_assert!((-1e-9..=1.0 + 1e-9).contains(&found.observed));
            if let Some(Interval { low, high }) = found.estimate.interval {
                prop_assert!(low <= value && value <= high + 1e-9 && high <= 1.0);
            }
        }
    }

    #[test]
    fn other_numbers_for_labelers_and_units_change_nothing(ratings in ratings()) {
        let other: Vec<Rating> = ratings
            .iter()
            .map(|own| Rating { unit: own.unit * 5 + 3, labeler: 100 - own.labeler, ..*own })
            .collect();
        for (_, scale) in SCALES {
            prop_assert_eq!(
                krippendorff_alpha(&ratings, scale, &few()),
                krippendorff_alpha(&other, scale, &few())
            );
        }
        let value = |found: Option<Kappa>| found.map(|own| own.estimate.value);
        prop_assert_eq!(value(fleiss_kappa(&ratings)), value(fleiss_kappa(&other)));
    }

    #[test]
    fn perfect_agreement_is_1(values in prop::collection::vec(0i32..4, 2..15)) {
        let ratings: Vec<Rating> = values
            .iter()
            .enumerate()
            .flat_map(|(unit, value)| {
                [0, 1, 2].map(|labeler| Rating { unit, labeler, value: *value })
            })
            .collect();
        let varies = values.iter().any(|value| *value != values[0]);
        for (_, scale) in SCALES {
            let found = krippendorff_alpha(&ratings, scale, &few());
            prop_assert_eq!(found.map(|own| own.estimate.value), varies.then_some(1.0));
        }
        let pairs: Vec<(i32, i32)> = values.iter().map(|own| (*own, *own)).collect();
        for found in [fleiss_kappa(&ratings), cohen_kappa(&pairs)] {
            prop_assert_eq!(found.is_some(), varies);
            prop_assert!(found.is_none_or(|own| (own.estimate.value - 1.0).abs() < 1e-9));
        }
        let ac1 = gwet_ac1(&ratings, 4).unwrap().estimate.value;
        prop_assert!((ac1 - 1.0).abs() < 1e-9);
    }
}
