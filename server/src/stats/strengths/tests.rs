//! Tests of strengths, against other programs, a published example and simulated comparisons.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use proptest::prelude::*;
use rand::Rng;
use rand::seq::index::sample;
use trainer::rng::stream;

use super::super::fixtures::{close, made};
use super::super::interval::{Interval, wilson};
use super::super::labels::ItemRanking;
use super::*;

fn few(prior: f64) -> Settings {
    let bootstrap = Bootstrap {
        seed: 1,
        resamples: 30,
    };
    Settings { prior, bootstrap }
}

fn won(prompt: usize, preferred: usize, other: usize) -> Comparison {
    Comparison {
        prompt,
        preferred,
        other,
        is_tie: false,
    }
}

fn tied(prompt: usize, preferred: usize, other: usize) -> Comparison {
    Comparison {
        is_tie: true,
        ..won(prompt, preferred, other)
    }
}

fn comparisons() -> Vec<Comparison> {
    let rows: Vec<(usize, usize, usize, bool)> =
        serde_json::from_value(made()["strengths"]["comparisons"].clone()).unwrap();
    rows.into_iter()
        .map(|(prompt, preferred, other, is_tie)| Comparison {
            prompt,
            preferred,
            other,
            is_tie,
        })
        .collect()
}

#[track_caller]
fn same(found: &Result<Strengths, Unfit>, expected: &str) {
    let expected: Vec<f64> = serde_json::from_value(made()["strengths"][expected].clone()).unwrap();
    let found = found.as_ref().unwrap();
    assert_eq!(found.items.len(), expected.len());
    for (own, expected) in found.items.iter().zip(expected) {
        close(own.value.value, expected, 1e-6);
    }
}

#[test]
fn bradley_terry_is_that_of_choix() {
    let comparisons = comparisons();
    let fit = |ties, prior| bradley_terry(&comparisons, ties, &few(prior));
    same(&fit(Ties::LeftOut, 0.01), "bradley_terry");
    same(&fit(Ties::Half, 0.01), "bradley_terry_halves");
    same(&fit(Ties::LeftOut, 0.0), "bradley_terry_likelihood");
}

/// See `strengths` in the script: a general maximiser, derivatives by differences.
#[test]
fn davidson_is_that_of_another_program() {
    let found = davidson(&comparisons(), &few(0.01));
    same(&found, "davidson");
    let ties = found.unwrap().ties.unwrap();
    close(
        ties.value,
        made()["strengths"]["davidson_nu"].as_f64().unwrap(),
        1e-6,
    );
    assert_eq!(ties.n, 60);
}

#[test]
fn plackett_luce_is_that_of_choix_and_with_ties_that_of_another_program() {
    let rankings: Vec<Vec<usize>> =
        serde_json::from_value(made()["strengths"]["rankings"].clone()).unwrap();
    let strict: Vec<ItemRanking> = rankings
        .into_iter()
        .enumerate()
        .map(|(prompt, items)| ItemRanking {
            prompt,
            ranks: items.into_iter().zip(1..).collect(),
        })
        .collect();
    same(&plackett_luce(&strict, &few(0.01)), "plackett_luce");
    same(
        &plackett_luce(&strict, &few(0.0)),
        "plackett_luce_likelihood",
    );
    let groups: Vec<Vec<Vec<usize>>> =
        serde_json::from_value(made()["strengths"]["tied_rankings"].clone()).unwrap();
    let with_ties: Vec<ItemRanking> = groups
        .into_iter()
        .enumerate()
        .map(|(prompt, groups)| {
            let ranked = groups.into_iter().zip(1_i16..);
            let ranks =
                ranked.flat_map(|(own, rank)| own.into_iter().map(move |item| (item, rank)));
            ItemRanking {
                prompt,
                ranks: ranks.collect(),
            }
        })
        .collect();
    same(&plackett_luce(&with_ties, &few(0.01)), "plackett_luce_ties");
}

/// Seven baseball teams, 1987: Agresti, Categorical Data Analysis (2002), table 10.10; the
/// estimates are those of Turner and Firth's BradleyTerry2 (Journal of Statistical Software 2012),
/// against Baltimore.
#[test]
fn bradley_terry_is_that_of_the_published_example() {
    // Milwaukee, Detroit, Toronto, New York, Boston, Cleveland, Baltimore; wins of the row.
    let wins = [
        [0, 7, 9, 7, 7, 9, 11],
        [6, 0, 7, 5, 11, 9, 9],
        [4, 6, 0, 7, 7, 8, 12],
        [6, 8, 6, 0, 6, 7, 10],
        [6, 2, 6, 7, 0, 7, 12],
        [4, 4, 5, 6, 6, 0, 6],
        [2, 4, 1, 3, 1, 7, 0],
    ];
    let mut comparisons = Vec::new();
    for (team, row) in wins.iter().enumerate() {
        for (other, times) in row.iter().enumerate() {
            for _ in 0..*times {
                comparisons.push(won(comparisons.len(), team, other));
            }
        }
    }
    let found = bradley_terry(&comparisons, Ties::LeftOut, &few(0.0)).unwrap();
    let expected = [1.5814, 1.4364, 1.2945, 1.2476, 1.1077, 0.6839];
    for (team, expected) in expected.into_iter().enumerate() {
        close(found.difference(team, 6).unwrap().value, expected, 6e-5);
    }
    assert!(found.is_determined);
    assert_eq!(
        (found.n, found.n_prompts, found.items[0].value.n),
        (273, 273, 78)
    );
}

#[test]
fn two_items_have_the_odds_of_their_wins() {
    let mut comparisons: Vec<Comparison> = (0..30).map(|prompt| won(prompt, 8, 3)).collect();
    comparisons.extend((30..40).map(|prompt| won(prompt, 3, 8)));
    let found = bradley_terry(&comparisons, Ties::LeftOut, &few(0.0)).unwrap();
    close(found.difference(8, 3).unwrap().value, 3.0_f64.ln(), 1e-9);
    close(found.win_probability(8, 3).unwrap().value, 0.75, 1e-9);
    close(
        found.item(3).unwrap().value.value,
        -3.0_f64.ln() / 2.0,
        1e-9,
    );
    assert_eq!((found.item(4), found.difference(3, 4)), (None, None));
    // Twenty ties more: halves, and in Davidson's model a third case, with an odds of ν√3.
    comparisons.extend((40..60).map(|prompt| tied(prompt, 3, 8)));
    let halves = bradley_terry(&comparisons, Ties::Half, &few(0.0)).unwrap();
    close(halves.win_probability(8, 3).unwrap().value, 2.0 / 3.0, 1e-9);
    let third = davidson(&comparisons, &few(0.0)).unwrap();
    close(third.difference(8, 3).unwrap().value, 3.0_f64.ln(), 1e-9);
    close(third.ties.unwrap().value, 2.0 / 3.0_f64.sqrt(), 1e-9);
    close(third.win_probability(8, 3).unwrap().value, 2.0 / 3.0, 1e-9);
}

#[test]
fn items_that_nothing_connects_are_told_of() {
    let comparisons = [
        won(0, 1, 2),
        won(1, 2, 1),
        won(2, 9, 7),
        tied(3, 7, 9),
        won(4, 7, 9),
        // An item and itself are no comparison.
        won(5, 4, 4),
    ];
    let groups = Unfit::Disconnected(vec![vec![1, 2], vec![7, 9]]);
    for found in [
        bradley_terry(&comparisons, Ties::Half, &few(0.01)),
        davidson(&comparisons, &few(0.01)),
    ] {
        assert_eq!(found, Err(groups.clone()));
    }
    assert!(groups.to_string().contains("never compared"));
    let rankings = [
        ItemRanking {
            prompt: 0,
            ranks: vec![(1, 1), (2, 2)],
        },
        ItemRanking {
            prompt: 1,
            ranks: vec![(7, 1), (9, 2)],
        },
    ];
    assert_eq!(plackett_luce(&rankings, &few(0.01)), Err(groups));
}

#[test]
fn who_never_loses_needs_a_prior() {
    let comparisons = [won(0, 0, 1), won(1, 1, 2), won(2, 2, 1), won(3, 0, 2)];
    let fit = |prior| bradley_terry(&comparisons, Ties::Half, &few(prior));
    assert_eq!(fit(0.0), Err(Unfit::Undetermined));
    let found = fit(0.01).unwrap();
    assert!(!found.is_determined);
    assert!(found.item(0).unwrap().value.value > found.item(1).unwrap().value.value);
    for prior in [-1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(fit(prior), Err(Unfit::NoEnd));
    }
}

#[test]
fn what_says_nothing_has_no_strengths() {
    let itself = [won(0, 4, 4)];
    for comparisons in [&[][..], &itself] {
        let found = bradley_terry(comparisons, Ties::Half, &few(0.01));
        assert_eq!(found, Err(Unfit::TooFew));
        assert_eq!(davidson(comparisons, &few(0.01)), Err(Unfit::TooFew));
    }
    let ties = [tied(0, 1, 2), tied(1, 1, 2)];
    assert_eq!(
        bradley_terry(&ties, Ties::LeftOut, &few(0.01)),
        Err(Unfit::TooFew)
    );
    assert_eq!(davidson(&ties, &few(0.01)), Err(Unfit::OnlyTies));
    let even = bradley_terry(&ties, Ties::Half, &few(0.01)).unwrap();
    close(even.win_probability(1, 2).unwrap().value, 0.5, 1e-12);
    assert_eq!(even.items[0].value.interval, None);
    let long = ItemRanking {
        prompt: 0,
        ranks: (0..=LONGEST_TIE).map(|item| (item, 1)).collect(),
    };
    let many: Vec<Comparison> = (0..MOST_ITEMS).map(|item| won(0, item, item + 1)).collect();
    assert_eq!(
        bradley_terry(&many, Ties::Half, &few(0.01)),
        Err(Unfit::TooMany)
    );
    assert_eq!(plackett_luce(&[long], &few(0.01)), Err(Unfit::TieTooLong));
    let alone = ItemRanking {
        prompt: 0,
        ranks: vec![(3, 1), (3, 2)],
    };
    assert_eq!(plackett_luce(&[alone], &few(0.01)), Err(Unfit::TooFew));
}

#[test]
fn davidson_without_ties_is_bradley_terry() {
    let strict: Vec<Comparison> = comparisons()
        .into_iter()
        .filter(|own| !own.is_tie)
        .collect();
    let found = davidson(&strict, &few(0.01)).unwrap();
    let expected = bradley_terry(&strict, Ties::LeftOut, &few(0.01)).unwrap();
    assert_eq!(found.ties.unwrap().value, 0.0);
    for (own, expected) in found.items.iter().zip(&expected.items) {
        close(own.value.value, expected.value.value, 1e-8);
    }
}

/// Rankings of two are comparisons, and a tie of two is half a win for each.
#[test]
fn plackett_luce_of_pairs_is_bradley_terry() {
    let comparisons = comparisons();
    let rankings: Vec<ItemRanking> = comparisons
        .iter()
        .map(|own| ItemRanking {
            prompt: own.prompt,
            ranks: vec![
                (own.preferred, 1),
                (own.other, if own.is_tie { 1 } else { 2 }),
            ],
        })
        .collect();
    let found = plackett_luce(&rankings, &few(0.01)).unwrap();
    let expected = bradley_terry(&comparisons, Ties::Half, &few(0.01)).unwrap();
    for (own, expected) in found.items.iter().zip(&expected.items) {
        close(own.value.value, expected.value.value, 1e-8);
        close(
            own.value.interval.unwrap().low,
            expected.value.interval.unwrap().low,
            1e-6,
        );
    }
}

/// Hunter's MM steps, written out: a strength is what it was chosen over the sum of 1 / (weight of
/// those left).
#[test]
fn newton_ends_where_mm_steps_end() {
    let mut rng = stream(2, "rankings", 0);
    let rankings: Vec<ItemRanking> = (0..50)
        .map(|prompt| ItemRanking {
            prompt,
            ranks: sample(&mut rng, 6, 4).into_iter().zip(1..).collect(),
        })
        .collect();
    let mut weights = [1.0_f64; 6];
    for _ in 0..3000 {
        let (mut chosen, mut sums) = ([0.0; 6], [0.0; 6]);
        for ranking in &rankings {
            let items: Vec<usize> = ranking.ranks.iter().map(|own| own.0).collect();
            for left in (0..3).map(|stage| &items[stage..]) {
                chosen[left[0]] += 1.0;
                let sum: f64 = left.iter().map(|item| weights[*item]).sum();
                left.iter().for_each(|item| sums[*item] += 1.0 / sum);
            }
        }
        for item in 0..6 {
            weights[item] = chosen[item] / sums[item];
        }
    }
    let found = plackett_luce(&rankings, &few(0.0)).unwrap();
    for item in 1..6 {
        let expected = (weights[item] / weights[0]).ln();
        close(found.difference(item, 0).unwrap().value, expected, 1e-8);
    }
}

/// A ranking of five for each prompt, by utilities with Gumbel noise, which is Plackett and Luce's
/// model; each item is 0.3 better than the one before.
fn simulated(n_prompts: usize, n_items: usize, seed: u64) -> Vec<ItemRanking> {
    let mut rng = stream(seed, "simulated", 0);
    let mut rankings = Vec::new();
    for prompt in 0..n_prompts {
        let items = sample(&mut rng, n_items, 5.min(n_items)).into_vec();
        let mut scored: Vec<(usize, f64)> = items
            .into_iter()
            .map(|item| {
                let gumbel = -(-(rng.random::<f64>().max(1e-300)).ln()).ln();
                (item, 0.3 * item as f64 + gumbel)
            })
            .collect();
        scored.sort_by(|a, b| b.1.total_cmp(&a.1));
        rankings.push(ItemRanking {
            prompt,
            ranks: scored.into_iter().map(|own| own.0).zip(1..).collect(),
        });
    }
    rankings
}

#[test]
fn intervals_hold_the_truth_as_often_as_they_say() {
    let (mut held, mut all) = (0, 0);
    for seed in 0..25 {
        let settings = Settings {
            bootstrap: Bootstrap {
                seed,
                resamples: 300,
            },
            ..Settings::new(seed)
        };
        let rankings = simulated(150, 6, seed);
        let found = plackett_luce(&rankings, &settings).unwrap();
        assert_eq!(found.n_resamples, 300);
        for item in 1..6 {
            let Interval { low, high } =
                found.difference(item, item - 1).unwrap().interval.unwrap();
            held += usize::from(low <= 0.3 && 0.3 <= high);
            all += 1;
        }
    }
    assert!(all == 125 && held >= 108, "{held}");
}

/// A thousand fits of ten models from ten thousand rankings.
#[test]
fn ten_thousand_prompts_are_resampled_a_thousand_times() {
    let rankings = simulated(10_000, 10, 1);
    let comparisons: Vec<Comparison> = rankings.iter().flat_map(ItemRanking::comparisons).collect();
    let bt = bradley_terry(&comparisons, Ties::Half, &Settings::new(1)).unwrap();
    let pl = plackett_luce(&rankings, &Settings::new(1)).unwrap();
    assert_eq!(
        (bt.n, bt.n_prompts, pl.n, pl.n_resamples),
        (100_000, 10_000, 10_000, 1000)
    );
    close(pl.difference(9, 0).unwrap().value, 2.7, 0.15);
}

#[test]
fn win_rates_are_counted_by_pair_and_by_item() {
    let comparisons = [
        won(0, 1, 2),
        won(0, 1, 2),
        tied(1, 2, 1),
        won(2, 2, 1),
        won(2, 3, 1),
        won(2, 3, 3),
    ];
    let found = WinRates::of(&comparisons);
    let pair = found.pair(1, 2).unwrap();
    assert_eq!(
        (pair.wins, pair.ties, pair.losses, pair.n_prompts),
        (2, 1, 1, 3)
    );
    assert_eq!((pair.rate.value, pair.rate.n), (0.625, 4));
    // As three trials: what was said of a prompt twice counts once.
    assert_eq!(pair.rate.interval, wilson(0.625 * 3.0, 3.0));
    let other = found.pair(2, 1).unwrap();
    assert_eq!((other.wins, other.losses, other.rate.value), (1, 2, 0.375));
    let (one, another) = (pair.rate.interval.unwrap(), other.rate.interval.unwrap());
    close(one.low + another.high, 1.0, 1e-12);
    assert_eq!(found.item(1).unwrap().rate.value, 0.5);
    assert_eq!(
        found.items().map(|own| own.0).collect::<Vec<_>>(),
        [1, 2, 3]
    );
    assert_eq!((found.pair(2, 3), found.item(4)), (None, None));
    assert_eq!(WinRates::of(&[]), WinRates::default());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn strengths_add_up_to_0_and_do_not_depend_on_names(
        said in prop::collection::vec((0usize..5, 0usize..5, 0usize..5, any::<bool>()), 0..30),
    ) {
        let comparisons: Vec<Comparison> = said
            .iter()
            .map(|(prompt, preferred, other, is_tie)| Comparison {
                prompt: *prompt, preferred: *preferred, other: *other, is_tie: *is_tie,
            })
            .collect();
        let renamed: Vec<Comparison> = comparisons
            .iter()
            .map(|own| Comparison {
                preferred: 70 - own.preferred, other: 70 - own.other, ..*own
            })
            .collect();
        for fit in [
            |own: &[Comparison]| bradley_terry(own, Ties::Half, &few(0.01)),
            |own: &[Comparison]| davidson(own, &few(0.01)),
        ] {
            let (found, other) = (fit(&comparisons), fit(&renamed));
            prop_assert_eq!(found.is_ok(), other.is_ok());
            prop_assert!(!matches!(found, Err(Unfit::NoEnd)));
            if let (Ok(found), Ok(other)) = (found, other) {
                let sum: f64 = found.items.iter().map(|own| own.value.value).sum();
                prop_assert!(sum.abs() < 1e-9);
                for own in &found.items {
                    let its = other.item(70 - own.item).unwrap();
                    prop_assert!((own.value.value - its.value.value).abs() < 1e-5);
                }
                let (a, b) = (found.items[0].item, found.items[1].item);
                let chance = |a, b| found.win_probability(a, b).unwrap().value;
                prop_assert!((chance(a, b) + chance(b, a) - 1.0).abs() < 1e-9);
            }
        }
    }
}
