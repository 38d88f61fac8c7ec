//! Tests of agreement, against a count by hand and by another program.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::fixtures::{close, made};
use super::super::interval::Interval;
use super::*;

fn read() -> Vec<Ranking> {
    let rankings = made()["agreement"]["rankings"].clone();
    let rankings = rankings.as_array().unwrap().iter();
    rankings
        .map(|own| Ranking {
            prompt: own["prompt"].as_u64().unwrap() as usize,
            labeler: own["labeler"].as_u64().unwrap() as usize,
            ranks: serde_json::from_value(own["ranks"].clone()).unwrap(),
        })
        .collect()
}

fn counts(of: &Counts) -> [u64; 4] {
    [of.same, of.opposite, of.one_tie, of.both_tie]
}

#[test]
fn the_three_policies_differ_in_what_a_tie_counts() {
    // Pairs: the same way, the opposite way, a tie against an order, and two ties.
    let counts = Counts {
        same: 5,
        opposite: 2,
        one_tie: 2,
        both_tie: 1,
    };
    assert_eq!(counts.share(TiePolicy::LeftOut), Some(5.0 / 7.0));
    assert_eq!(counts.share(TiePolicy::Half), Some(0.7));
    assert_eq!(counts.share(TiePolicy::Category), Some(0.6));
    let only_ties = Counts {
        both_tie: 3,
        ..Counts::default()
    };
    assert_eq!(only_ties.share(TiePolicy::LeftOut), None);
    assert_eq!(only_ties.share(TiePolicy::Half), Some(1.0));
}

#[test]
fn pairs_that_both_ranked_are_compared() {
    let a = [Some(1), Some(2), Some(2), None, Some(4)];
    let b = [Some(3), Some(5), Some(1), Some(1), Some(5)];
    // 0-1 same, 0-2 opposite, 0-4 same, 1-2 a tie against an order, 1-4 the same, 2-4 same.
    let found = Counts::of(&a, &b);
    assert_eq!(counts(&found), [3, 1, 2, 0]);
    // What the shorter does not have is not ranked.
    assert_eq!(counts(&Counts::of(&a[..2], &b)), [1, 0, 0, 0]);
    assert_eq!(Counts::of(&[], &b), Counts::default());
}

#[test]
fn counts_and_tau_b_are_those_of_another_program() {
    let (made, found) = (made(), Agreement::of(&read(), &Bootstrap::new(1)));
    let pairs: BTreeMap<String, [u64; 4]> =
        serde_json::from_value(made["agreement"]["counts"].clone()).unwrap();
    let taus: BTreeMap<String, (f64, usize)> =
        serde_json::from_value(made["agreement"]["tau_b"].clone()).unwrap();
    let mut total = [0; 4];
    for (key, four) in &pairs {
        let (a, b) = key.split_once(' ').unwrap();
        let (a, b) = (a.parse().unwrap(), b.parse().unwrap());
        if four.iter().sum::<u64>() == 0 {
            assert_eq!(found.pair(a, b), None);
            continue;
        }
        assert_eq!(&counts(&found.pair(a, b).unwrap().counts), four, "{key}");
        assert_eq!(found.pair(a, b), found.pair(b, a));
        for (sum, own) in total.iter_mut().zip(four) {
            *sum += own;
        }
        if let Some((tau, n)) = taus.get(key) {
            let own = found.pair(a, b).unwrap().tau_b.unwrap();
            close(own.value, *tau, 1e-12);
            assert_eq!(own.n, *n);
        }
    }
    assert_eq!(counts(&found.overall.counts), total);
    let repeats: BTreeMap<String, [u64; 4]> =
        serde_json::from_value(made["agreement"]["repeats"].clone()).unwrap();
    assert!(!repeats.is_empty());
    for (key, four) in repeats {
        let labeler = key.split_once(' ').unwrap().0.parse().unwrap();
        let own = found.repeat(labeler).map(|own| counts(&own.counts));
        assert_eq!(own.unwrap_or_default(), four);
    }
}

#[test]
fn a_labelers_figures_are_those_of_their_pairs() {
    let found = Agreement::of(&read(), &Bootstrap::new(1));
    for (labeler, own) in found.labelers() {
        let pairs = found
            .pairs()
            .filter(|(pair, _)| pair.0 == labeler || pair.1 == labeler);
        let mut sum = [0; 4];
        for (_, pair) in pairs {
            for (sum, one) in sum.iter_mut().zip(counts(&pair.counts)) {
                *sum += one;
            }
        }
        assert_eq!(counts(&own.counts), sum);
    }
    assert!(found.labelers().count() > 3);
    // Without what is told of each labeler, all together are the same.
    assert_eq!(Agreed::of(&read(), &Bootstrap::new(1)), found.overall);
}

#[test]
fn no_two_labelers_of_a_prompt_agree_on_nothing() {
    for rankings in [
        vec![],
        vec![Ranking::complete(0, 0, &[1, 2])],
        vec![
            Ranking::complete(0, 0, &[1, 2]),
            Ranking::complete(1, 1, &[1, 2]),
        ],
        vec![Ranking::complete(0, 0, &[1]), Ranking::complete(0, 1, &[1])],
        vec![
            Ranking::complete(0, 0, &[]),
            Ranking::complete(0, 1, &[1, 2]),
        ],
    ] {
        let found = Agreement::of(&rankings, &Bootstrap::new(1));
        assert_eq!(
            (found.overall.n_prompts, found.overall.n_ranking_pairs),
            (0, 0)
        );
        let shares = TiePolicy::ALL.map(|policy| found.overall.share(policy));
        assert_eq!((shares, found.overall.tau_b), ([None; 3], None));
        assert_eq!(found.labelers().count() + found.pairs().count(), 0);
    }
}

/// Of ten prompts with ten pairs each, five are ordered alike and five the other way round.
#[test]
fn the_interval_is_over_prompts() {
    let up = [1, 2, 3, 4, 5];
    let down = up.map(|rank| 6 - rank);
    let rankings: Vec<Ranking> = (0..10)
        .flat_map(|prompt| {
            let second = if prompt % 2 == 0 { up } else { down };
            [
                Ranking::complete(prompt, 0, &up),
                Ranking::complete(prompt, 1, &second),
            ]
        })
        .collect();
    let found = Agreement::of(&rankings, &Bootstrap::new(3)).overall;
    let share = found.ties_left_out.unwrap();
    assert_eq!((share.value, share.n, found.n_prompts), (0.5, 100, 10));
    // Ten coins: 2 to 8 heads. A hundred would be within 0.4 and 0.6.
    let Interval { low, high } = share.interval.unwrap();
    close(low, 0.2, 1e-9);
    close(high, 0.8, 1e-9);
    assert_eq!(found.tau_b.unwrap().value, 0.0);
    // All alike: of ten prompts the exact interval.
    let alike: Vec<Ranking> = rankings
        .into_iter()
        .filter(|own| own.prompt % 2 == 0)
        .collect();
    let share = Agreement::of(&alike, &Bootstrap::new(3))
        .overall
        .ties_half
        .unwrap();
    assert_eq!(share.interval, all_alike(1.0, 5));
}

fn many(n_prompts: usize) -> Vec<Ranking> {
    use rand::Rng;
    let mut rng = trainer::rng::stream(1, "many", 0);
    let mut rankings = Vec::new();
    for prompt in 0..n_prompts {
        let first = rng.random_range(0..40);
        for labeler in [first, (first + 7) % 40, (first + 19) % 40] {
            let ranks: Vec<i16> = (0..5).map(|_| rng.random_range(1..=5)).collect();
            rankings.push(Ranking::complete(prompt, labeler, &ranks));
        }
    }
    rankings
}

#[test]
fn ten_thousand_prompts_are_counted_to_the_last_pair() {
    let rankings = many(10_000);
    let found = Agreement::of(&rankings, &Bootstrap::new(1));
    assert_eq!(
        (found.overall.n_prompts, found.overall.n_ranking_pairs),
        (10_000, 30_000)
    );
    // Labelers who rank at random order half of the pairs alike.
    close(found.overall.ties_left_out.unwrap().value, 0.5, 0.01);
}

fn rankings() -> impl Strategy<Value = Vec<Ranking>> {
    let rank = prop::option::weighted(0.9, 1i16..4);
    let ranking = (0usize..6, 0usize..5, prop::collection::vec(rank, 0..6));
    let ranking = ranking.prop_map(|(prompt, labeler, ranks)| Ranking {
        prompt,
        labeler,
        ranks,
    });
    prop::collection::vec(ranking, 0..25)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn shares_and_their_intervals_are_within_0_and_1(rankings in rankings(), seed: u64) {
        let found = Agreement::of(&rankings, &Bootstrap { seed, resamples: 40 });
        let all = found.pairs().map(|(_, own)| own);
        let all = all.chain(found.labelers().map(|(_, own)| own)).chain([&found.overall]);
        for own in all {
            for share in TiePolicy::ALL.iter().filter_map(|policy| own.share(*policy)) {
                prop_assert!((0.0..=1.0).contains(&share.value));
                if let Some(Interval { low, high }) = share.interval {
                    prop_assert!(0.0 <= low && low <= high && high <= 1.0);
                }
            }
            if let Some(tau) = own.tau_b {
                prop_assert!((-1.0..=1.0).contains(&tau.value));
            }
        }
    }

    #[test]
    fn other_numbers_for_labelers_change_nothing(rankings in rankings(), seed: u64) {
        let bootstrap = Bootstrap { seed, resamples: 40 };
        let renamed: Vec<Ranking> = rankings
            .iter()
            .map(|own| Ranking { labeler: 90 - 10 * own.labeler, ..own.clone() })
            .collect();
        let (before, after) = (
            Agreement::of(&rankings, &bootstrap),
            Agreement::of(&renamed, &bootstrap),
        );
        prop_assert_eq!(before.overall, after.overall);
        for ((a, b), own) in before.pairs() {
            prop_assert_eq!(own.counts, after.pair(90 - 10 * a, 90 - 10 * b).unwrap().counts);
        }
    }

    #[test]
    fn who_repeats_another_agrees_wholly(ranks in prop::collection::vec(1i16..5, 2..8)) {
        let rankings = [Ranking::complete(0, 3, &ranks), Ranking::complete(0, 8, &ranks)];
        let found = Agreement::of(&rankings, &Bootstrap::new(1)).overall;
        for policy in [TiePolicy::Half, TiePolicy::Category] {
            prop_assert_eq!(found.share(policy).unwrap().value, 1.0);
        }
        let different = ranks.iter().any(|rank| *rank != ranks[0]);
        prop_assert_eq!(found.tau_b.map(|tau| tau.value), different.then_some(1.0));
    }
}
