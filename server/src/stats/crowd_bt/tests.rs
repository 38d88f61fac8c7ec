//! Tests of Crowd-BT on simulated labelers.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use proptest::prelude::*;
use rand::Rng;
use trainer::rng::stream;

use super::super::correlation::spearman;
use super::super::fixtures::{close, made};
use super::*;

/// Labelers who, on a prompt's pairs, are right as often as their accuracy says: they rank by a
/// hidden value and noise of their own.
struct Crowd {
    accuracy: Vec<f64>,
    rankings: Vec<Ranking>,
}

/// The standard deviation of noise on each value (standard normal themselves) with which two are
/// ordered rightly with this probability: differences have the standard deviation √2, noise on them
/// √2·s, and the probability that both have the same sign is 1/2 + atan(1/s)/π.
fn noise(accuracy: f64) -> f64 {
    1.0 / (std::f64::consts::PI * (accuracy - 0.5)).tan()
}

fn crowd(n_labelers: usize, n_prompts: usize, each: usize, k: usize, seed: u64) -> Crowd {
    let mut rng = stream(seed, "crowd", 0);
    let accuracy: Vec<f64> = (0..n_labelers)
        .map(|own| 0.55 + 0.4 * own as f64 / (n_labelers - 1) as f64)
        .collect();
    let mut normal = move || f64::from(trainer::rng::standard_normal(&mut rng));
    let mut rng = stream(seed, "who", 0);
    let mut rankings = Vec::new();
    for prompt in 0..n_prompts {
        let truth: Vec<f64> = (0..k).map(|_| normal()).collect();
        let mut who: Vec<usize> = Vec::new();
        while who.len() < each {
            let labeler = rng.random_range(0..n_labelers);
            if !who.contains(&labeler) {
                who.push(labeler);
            }
        }
        for labeler in who {
            let seen = truth
                .iter()
                .map(|own| own + noise(accuracy[labeler]) * normal());
            let seen: Vec<f64> = seen.collect();
            let rank = |own: &f64| 1 + seen.iter().filter(|other| *other > own).count() as i16;
            let ranks: Vec<i16> = seen.iter().map(rank).collect();
            rankings.push(Ranking::complete(prompt, labeler, &ranks));
        }
    }
    Crowd { accuracy, rankings }
}

fn order(found: &CrowdBt, crowd: &Crowd) -> f64 {
    let eta: Vec<f64> = found.labelers.iter().map(|own| own.eta.value).collect();
    spearman(&eta, &crowd.accuracy).unwrap().value
}

/// 5,000 rankings of five completions, three for each prompt.
#[test]
fn the_order_of_forty_labelers_is_recovered() {
    for seed in 0..3 {
        let crowd = crowd(40, 1667, 3, 5, seed);
        let found = crowd_bt(&crowd.rankings, &Priors::default()).unwrap();
        let rho = order(&found, &crowd);
        assert!(found.has_converged && rho > 0.95, "{rho}");
        // The values too are near: a little above, since what is easy for one is easy for others.
        for (own, accuracy) in found.labelers.iter().zip(&crowd.accuracy) {
            assert!(
                (own.eta.value - accuracy).abs() < 0.12,
                "{own:?} {accuracy}"
            );
        }
    }
}

/// What 40 times as many rankings tell is held by about 95 of 100 intervals.
#[test]
fn intervals_hold_what_more_rankings_tell() {
    let long = crowd_bt(&crowd(20, 20_000, 3, 4, 50).rankings, &Priors::default()).unwrap();
    let (mut held, mut all) = (0, 0);
    for seed in 0..5 {
        let short = crowd_bt(&crowd(20, 500, 3, 4, seed).rankings, &Priors::default()).unwrap();
        for (own, truth) in short.labelers.iter().zip(&long.labelers) {
            let Interval { low, high } = own.eta.interval.unwrap();
            held += usize::from(low <= truth.eta.value && truth.eta.value <= high);
            all += 1;
        }
    }
    assert!(all == 100 && held >= 88, "{held}");
}

/// See `crowd_bt` in the script: a general maximiser, derivatives by differences.
#[test]
fn quality_and_scores_are_those_of_another_program() {
    let made = &made()["crowd_bt"];
    let rankings: Vec<(usize, usize, Vec<i16>)> =
        serde_json::from_value(made["rankings"].clone()).unwrap();
    let rankings: Vec<Ranking> = rankings
        .into_iter()
        .map(|(prompt, labeler, ranks)| Ranking::complete(prompt, labeler, &ranks))
        .collect();
    let found = crowd_bt(&rankings, &Priors::default()).unwrap();
    let numbers = |name: &str| -> Vec<f64> { serde_json::from_value(made[name].clone()).unwrap() };
    let (eta, errors) = (numbers("eta"), numbers("errors_of_log_odds"));
    for ((own, eta), error) in found.labelers.iter().zip(eta).zip(errors) {
        close(own.eta.value, eta, 1e-5);
        let interval = own.eta.interval.unwrap();
        let width = log_odds(interval.high) - log_odds(interval.low);
        close(width / (2.0 * 1.959_964), error, 1e-4);
    }
    let scores: BTreeMap<usize, Vec<f64>> = serde_json::from_value(made["scores"].clone()).unwrap();
    for (prompt, expected) in scores {
        for (own, expected) in found.scores[&prompt].iter().zip(expected) {
            close(*own, expected, 1e-4);
        }
    }
}

#[test]
fn who_turns_every_pair_around_is_found_out() {
    let mut crowd = crowd(6, 200, 4, 5, 3);
    for ranking in crowd.rankings.iter_mut().filter(|own| own.labeler == 5) {
        for rank in ranking.ranks.iter_mut().flatten() {
            *rank = 10 - *rank;
        }
    }
    let found = crowd_bt(&crowd.rankings, &Priors::default()).unwrap();
    assert!(found.labeler(5).unwrap().eta.value < 0.15);
    assert!(found.labeler(4).unwrap().eta.value > 0.8);
    assert_eq!(found.labeler(6), None);
}

#[test]
fn other_numbers_for_labelers_change_nothing() {
    let crowd = crowd(8, 100, 3, 4, 1);
    let renamed: Vec<Ranking> = crowd
        .rankings
        .iter()
        .map(|own| Ranking {
            labeler: 90 - 7 * own.labeler,
            ..own.clone()
        })
        .collect();
    let before = crowd_bt(&crowd.rankings, &Priors::default()).unwrap();
    let after = crowd_bt(&renamed, &Priors::default()).unwrap();
    for own in &before.labelers {
        let its = after.labeler(90 - 7 * own.labeler).unwrap();
        close(own.eta.value, its.eta.value, 1e-6);
        assert_eq!((own.eta.n, own.n_prompts), (its.eta.n, its.n_prompts));
    }
}

#[test]
fn scores_follow_the_better_labelers() {
    // On many prompts 0, 1 and 2 agree and 3 does not; then 0 stands against 3.
    let mut rankings = Vec::new();
    for prompt in 0..30 {
        rankings.extend((0..3).map(|labeler| Ranking::complete(prompt, labeler, &[1, 2, 3])));
        rankings.push(Ranking::complete(prompt, 3, &[2, 3, 1]));
    }
    rankings.push(Ranking::complete(99, 3, &[1, 2]));
    rankings.push(Ranking::complete(99, 0, &[2, 1]));
    let found = crowd_bt(&rankings, &Priors::default()).unwrap();
    let scores = &found.scores[&99];
    assert!(
        scores[1] > 0.5 && (scores[0] + scores[1]).abs() < 1e-9,
        "{scores:?}"
    );
    let quality = found.labeler(0).unwrap();
    assert_eq!((quality.eta.n, quality.n_prompts), (91, 31));
}

#[test]
fn only_pairs_that_two_labelers_ranked_say_anything() {
    let missing = |prompt, labeler, ranks: &[Option<i16>]| Ranking {
        prompt,
        labeler,
        ranks: ranks.to_vec(),
    };
    let priors = Priors::default();
    for rankings in [
        vec![],
        vec![
            Ranking::complete(0, 0, &[1, 2]),
            Ranking::complete(0, 0, &[2, 1]),
        ],
        vec![
            Ranking::complete(0, 0, &[1, 2]),
            Ranking::complete(1, 1, &[2, 1]),
        ],
        vec![Ranking::complete(0, 0, &[1]), Ranking::complete(0, 1, &[])],
        // No pair in common.
        vec![
            missing(0, 0, &[Some(1), Some(2), None]),
            missing(0, 1, &[None, Some(1), Some(2)]),
        ],
    ] {
        assert_eq!(crowd_bt(&rankings, &priors), None);
    }
    // A tie is no vote.
    let tied = [
        Ranking::complete(0, 0, &[1, 2]),
        Ranking::complete(0, 1, &[1, 1]),
    ];
    assert_eq!(crowd_bt(&tied, &priors), None);
    let rankings = [
        missing(0, 0, &[Some(1), Some(2), None]),
        missing(0, 1, &[Some(1), Some(2), Some(2)]),
        Ranking::complete(1, 2, &[1, 2]),
    ];
    let found = crowd_bt(&rankings, &priors).unwrap();
    assert_eq!(
        found
            .labelers
            .iter()
            .map(|own| (own.labeler, own.eta.n))
            .collect::<Vec<_>>(),
        [(0, 1), (1, 1)]
    );
    assert_eq!(found.labelers[0].eta.interval, None);
    assert_eq!(found.scores.keys().collect::<Vec<_>>(), [&0]);
    assert_eq!(found.scores[&0][2], 0.0);
    for priors in [
        Priors {
            quality: (0.0, 1.0),
            ..priors
        },
        Priors {
            spread: f64::NAN,
            ..priors
        },
    ] {
        assert_eq!(crowd_bt(&rankings, &priors), None);
    }
}

/// Rankings of two completions each, by labelers who meet as `met` says and are right as often as their
/// accuracy; they may tie what they are not sure of.
fn meetings(met: &[&[usize]], accuracy: &[f64], ties: &[f64], n: usize, seed: u64) -> Vec<Ranking> {
    let mut rng = stream(seed, "meetings", 0);
    let mut rankings = Vec::new();
    for prompt in 0..n {
        for labeler in met[prompt % met.len()] {
            let ranks = if rng.random_bool(ties[*labeler]) {
                [1, 1]
            } else if rng.random_bool(accuracy[*labeler]) {
                [1, 2]
            } else {
                [2, 1]
            };
            // Which of both is better differs.
            let ranks = if prompt % 3 == 0 {
                ranks
            } else {
                [ranks[1], ranks[0]]
            };
            rankings.push(Ranking::complete(prompt, *labeler, &ranks));
        }
    }
    rankings
}

#[test]
fn of_two_labelers_it_is_not_told_who_is_better() {
    let accuracy = [0.9, 0.6];
    let rankings = meetings(&[&[0, 1]], &accuracy, &[0.0; 2], 1200, 1);
    let found = crowd_bt(&rankings, &Priors::default()).unwrap();
    for (own, accuracy) in found.labelers.iter().zip(accuracy) {
        assert!(!own.is_identified);
        // And the interval says so: it holds what is true of either.
        let Interval { low, high } = own.eta.interval.unwrap();
        assert!(low < accuracy && accuracy < high, "{low} {high}");
    }
}

#[test]
fn labelers_are_identified_where_an_odd_number_of_them_met_in_a_circle() {
    let identified = |met: &[&[usize]]| -> Vec<bool> {
        let rankings = meetings(met, &[0.9, 0.6, 0.8, 0.7, 0.9], &[0.0; 5], 3000, 2);
        let found = crowd_bt(&rankings, &Priors::default()).unwrap();
        found.labelers.iter().map(|own| own.is_identified).collect()
    };
    assert_eq!(identified(&[&[0, 1], &[1, 2]]), [false; 3]);
    assert_eq!(
        identified(&[&[0, 1], &[1, 2], &[2, 3], &[3, 0]]),
        [false; 4]
    );
    // Three who met each other, and one who met one of them; two others met nobody else.
    assert_eq!(identified(&[&[0, 1], &[1, 2], &[2, 0], &[2, 3]]), [true; 4]);
    assert_eq!(
        identified(&[&[0, 1, 2], &[3, 4]]),
        [true, true, true, false, false]
    );
    let five: [&[usize]; 5] = [&[0, 1], &[1, 2], &[2, 3], &[3, 4], &[4, 0]];
    assert_eq!(identified(&five), [true; 5]);
    // The value of the fourth is told through the third alone.
    let met: [&[usize]; 4] = [&[0, 1], &[1, 2], &[2, 0], &[2, 3]];
    let accuracy = [0.95, 0.8, 0.9, 0.7];
    let rankings = meetings(&met, &accuracy, &[0.0; 4], 20_000, 3);
    let found = crowd_bt(&rankings, &Priors::default()).unwrap();
    for (own, accuracy) in found.labelers.iter().zip(accuracy) {
        close(own.eta.value, accuracy, 0.03);
    }
}

#[test]
fn who_ties_what_is_hard_is_not_the_worse_for_it() {
    let accuracy = [0.9, 0.9, 0.9, 0.97];
    let rankings = meetings(&[&[0, 1, 2, 3]], &accuracy, &[0.0, 0.0, 0.0, 0.4], 3000, 4);
    let found = crowd_bt(&rankings, &Priors::default()).unwrap();
    close(found.labelers[3].eta.value, 0.97, 0.02);
    close(found.labelers[0].eta.value, 0.9, 0.02);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn quality_is_within_0_and_1(
        said in prop::collection::vec(
            (0usize..4, 0usize..4, prop::collection::vec(1i16..4, 0..5)), 0..15,
        ),
    ) {
        let rankings: Vec<Ranking> = said
            .iter()
            .map(|(prompt, labeler, ranks)| Ranking::complete(*prompt, *labeler, ranks))
            .collect();
        if let Some(found) = crowd_bt(&rankings, &Priors::default()) {
            for own in &found.labelers {
                prop_assert!(own.eta.value > 0.0 && own.eta.value < 1.0);
                if let Some(Interval { low, high }) = own.eta.interval {
                    prop_assert!(0.0 <= low && low <= own.eta.value);
                    prop_assert!(own.eta.value <= high && high <= 1.0);
                }
            }
            prop_assert!(found.scores.values().flatten().all(|score| score.is_finite()));
        }
    }
}
