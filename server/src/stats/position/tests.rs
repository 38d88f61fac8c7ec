//! Tests of position bias, against scipy and simulated labelers.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use proptest::prelude::*;
use rand::Rng;
use rand::seq::SliceRandom;
use trainer::rng::stream;

use super::super::fixtures::{close, made, numbers};
use super::*;

#[test]
fn without_ties_the_test_is_that_of_scipy() {
    let made = &made()["position"];
    let shown: Vec<Vec<i16>> = serde_json::from_value(made["shown"].clone()).unwrap();
    let found = position_bias(&shown).unwrap();
    let table = &found.tables[0];
    assert_eq!((table.k, table.n, found.n), (4, shown.len(), shown.len()));
    let first: Vec<f64> = serde_json::from_value(made["first"].clone()).unwrap();
    for (place, first) in table.places.iter().zip(first) {
        close(place.first, first, 1e-9);
        close(place.share.value, first / shown.len() as f64, 1e-12);
    }
    let test = table.test.unwrap();
    close(test.chi_square, made["chi_square"].as_f64().unwrap(), 1e-9);
    close(test.p, made["p"].as_f64().unwrap(), 1e-9);
    assert_eq!((test.freedom, found.test), (3, Some(test)));
    for (place, expected) in table.places.iter().zip(numbers(&made["mean_rank"])) {
        let interval = place.mean_rank.interval.unwrap();
        close(place.mean_rank.value, expected[0], 1e-12);
        close(interval.low, expected[1], 1e-8);
        close(interval.high, expected[2], 1e-8);
    }
}

#[test]
fn those_who_share_the_first_rank_share_the_count() {
    let found = position_bias(&[[1, 1, 2], [2, 1, 1], [3, 2, 1]]).unwrap();
    let first: Vec<f64> = found.tables[0].places.iter().map(|own| own.first).collect();
    assert_eq!(first, [0.5, 1.0, 1.5]);
    let means: Vec<f64> = found.tables[0]
        .places
        .iter()
        .map(|own| own.mean_rank.value)
        .collect();
    // (1.5 + 3 + 3) / 3 and so on.
    for (own, expected) in means.iter().zip([2.5, 5.0 / 3.0, 5.5 / 3.0]) {
        close(*own, expected, 1e-12);
    }
    // A place has the variance (3 - 2) / (2·9) twice and 2/9 once, in all 1/3; 3/2 of that is 1/2.
    close(
        found.test.unwrap().chi_square,
        (0.25 + 0.0 + 0.25) / 0.5,
        1e-12,
    );
}

#[test]
fn lengths_are_told_apart_and_tested_together() {
    let rankings: Vec<Vec<i16>> = vec![
        vec![1, 2],
        vec![1, 2],
        vec![1, 2],
        vec![1, 2, 3],
        vec![1, 2, 3],
        vec![4],
        vec![],
    ];
    let found = position_bias(&rankings).unwrap();
    assert_eq!((found.n, found.tables.len()), (5, 2));
    let tests: Vec<Test> = found.tables.iter().map(|own| own.test.unwrap()).collect();
    // 3 and 0 of 1.5 each; 2, 0 and 0 of 2/3 each.
    close(tests[0].chi_square, 3.0, 1e-12);
    close(tests[1].chi_square, 4.0, 1e-12);
    let all = found.test.unwrap();
    close(all.chi_square, 7.0, 1e-12);
    assert_eq!(all.freedom, 3);
    close(found.tables[0].expected, 1.5, 1e-12);
    // All ranks of a place are the same: no interval of the mean.
    assert_eq!(found.tables[0].places[0].mean_rank.interval, None);
}

#[test]
fn what_says_nothing_has_no_test() {
    assert_eq!(position_bias::<Vec<i16>>(&[]), None);
    assert_eq!(position_bias(&[vec![1_i16], vec![]]), None);
    let all_tied = position_bias(&[[2_i16, 2, 2], [1, 1, 1]]).unwrap();
    assert_eq!((all_tied.test, all_tied.tables[0].test), (None, None));
    assert_eq!(all_tied.tables[0].places[0].mean_rank.value, 2.0);
}

/// Without bias one of twenty p values is below 0.05, with ties too, and with bias nearly all are.
#[test]
fn p_values_are_what_they_say() {
    let mut rng = stream(2, "position", 0);
    let (mut without, mut with, mut low) = (0, 0, 0);
    for _ in 0..400 {
        let mut rankings: Vec<Vec<i16>> = Vec::new();
        for _ in 0..60 {
            let mut ranks: Vec<i16> = (0..5).map(|_| rng.random_range(1..4)).collect();
            ranks.shuffle(&mut rng);
            rankings.push(ranks);
        }
        let p = position_bias(&rankings).unwrap().test.unwrap().p;
        without += usize::from(p < 0.05);
        low += usize::from(p < 0.5);
        // Three of ten take what they see first.
        for ranks in &mut rankings[..18] {
            ranks[0] = 0;
        }
        with += usize::from(position_bias(&rankings).unwrap().test.unwrap().p < 0.05);
    }
    assert!((8..=34).contains(&without), "{without}");
    assert!((165..=235).contains(&low), "{low}");
    assert!(with > 350, "{with}");
}

proptest! {
    #[test]
    fn shares_add_up_to_1_and_means_to_the_middle(
        rankings in prop::collection::vec(prop::collection::vec(-3i16..4, 0..6), 0..20),
    ) {
        if let Some(found) = position_bias(&rankings) {
            for table in &found.tables {
                let shares: f64 = table.places.iter().map(|own| own.share.value).sum();
                prop_assert!((shares - 1.0).abs() < 1e-9);
                let middle = (table.k as f64 + 1.0) / 2.0;
                let means: f64 = table.places.iter().map(|own| own.mean_rank.value).sum();
                prop_assert!((means / table.k as f64 - middle).abs() < 1e-9);
                prop_assert!(table.test.is_none_or(|own| (0.0..=1.0).contains(&own.p)));
            }
        } else {
            prop_assert!(rankings.iter().all(|own| own.len() < 2));
        }
    }
}
