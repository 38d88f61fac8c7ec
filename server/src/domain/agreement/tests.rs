//! Figures of labelers whose rankings are known by construction.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
use std::collections::HashMap;

use super::*;
use crate::domain::gold::{Facts, GoldAnswer};
use crate::domain::ids::{AccountId, CompletionId, RankingId, TaskId};
use crate::domain::labels::{Completion, Labeler, Said};

const K: usize = 4;

/// `n_labelers` who each rank `n_prompts` prompts of four completions as `ranks` says of labeler and prompt.
fn said(n_labelers: usize, n_prompts: usize, ranks: impl Fn(usize, usize) -> [i16; K]) -> Labels {
    let mut labels = Labels {
        categories: vec!["chat".to_owned(); n_prompts],
        flags: vec!["rude".to_owned()],
        scales: vec!["overall".to_owned()],
        ..Labels::default()
    };
    for number in 0..n_labelers {
        labels.labelers.push(Labeler {
            id: AccountId::new(),
            name: format!("Labeler {number}"),
            is_simulated: false,
        });
    }
    for prompt in 0..n_prompts {
        let task = TaskId::new();
        for place in 0..K {
            labels.completions.push(Completion {
                id: CompletionId::new(),
                prompt,
                place,
                length: 10 * (place + 1),
                model: 0,
            });
        }
        for labeler in 0..n_labelers {
            let said = ranks(labeler, prompt).into_iter().enumerate();
            let said = said.map(|(slot, rank)| Said {
                completion: prompt * K + slot,
                slot: slot as i16,
                rank: Some(rank),
                scales: vec![(0, 8 - rank)],
                flags: vec![(0, rank == 4)],
            });
            labels.labels.push(Label {
                id: RankingId::new(),
                labeler,
                prompt,
                task,
                repeat_of: None,
                purpose: Purpose::Label,
                is_adjudication: false,
                form_version: 1,
                at: "2026-11-26T12:00:00Z".parse().unwrap(),
                active_ms: Some(1000 * (prompt as i64 + 1)),
                is_untouched: None,
                is_too_fast: Some(prompt < 4),
                display_order: vec![0, 1, 2, 3],
                said: said.collect(),
            });
        }
    }
    labels
}

fn value(figure: &Figure) -> f64 {
    figure.value.unwrap()
}

#[test]
fn nothing_is_told_of_fewer_than_ten_prompts() {
    let alike = |_, _| [1, 2, 3, 4];
    for (n_prompts, is_told) in [(FEWEST - 1, false), (FEWEST, true)] {
        let found = Agreement::of(&said(3, n_prompts, alike), 10);
        let overall = &found.overall;
        for figure in [
            &overall.agreement.ties_left_out,
            &overall.agreement.tau_b,
            &overall.w,
            &found.labelers[0].quality,
            &found.pairs[0].agreement.ties_half,
            &found.flags[0].prevalence,
            &found.flags[0].same,
            &found.flags[0].ac1,
            &found.flags[0].kappa,
            &found.flags[0].labelers[0].sensitivity,
            &found.flags[0].labelers[0].specificity,
            &overall.alpha_of_ranks,
            &overall.alpha_of_ratings[0].alpha,
            &overall.ties,
            &overall.too_fast,
            &overall.longer,
            &found.labelers[0].longer,
            &found.labelers[0].too_fast,
        ] {
            assert_eq!(figure.value.is_some(), is_told, "{figure:?}");
        }
        // What it would rest on is told all the same.
        assert_eq!(overall.agreement.ties_left_out.n, 18 * n_prompts);
    }
    let nothing = Agreement::of(&Labels::default(), 10);
    assert_eq!(
        (
            nothing.n_rankings,
            nothing.labelers.len(),
            nothing.weeks.len()
        ),
        (0, 0, 0)
    );
}

#[test]
fn three_who_agree_agree_in_every_figure_and_two_of_three_half_way() {
    let found = Agreement::of(&said(3, 12, |_, _| [1, 2, 3, 4]), 5);
    let overall = &found.overall;
    let figures = [
        value(&overall.agreement.ties_category),
        value(&overall.agreement.tau_b),
        value(&overall.w),
        value(&overall.alpha_of_ranks),
        value(&overall.alpha_of_ratings[0].alpha),
        value(&found.flags[0].same),
        value(&found.flags[0].kappa),
    ];
    for figure in figures {
        assert!((figure - 1.0).abs() < 1e-9, "{figures:?}");
    }
    assert!((value(&found.flags[0].prevalence) - 0.25).abs() < 1e-9);
    // Four of twelve were done in under five seconds, and the longer ones never won.
    assert!((value(&overall.too_fast) - 4.0 / 12.0).abs() < 1e-9);
    assert_eq!(
        (value(&overall.seconds), value(&overall.longer)),
        (6.5, 0.0)
    );
    // The third turns everything around: of three pairs of labelers one agrees.
    let turned = |labeler, _| {
        if labeler == 2 {
            [4, 3, 2, 1]
        } else {
            [1, 2, 3, 4]
        }
    };
    let found = Agreement::of(&said(3, 12, turned), 5);
    assert!((value(&found.overall.agreement.ties_left_out) - 1.0 / 3.0).abs() < 1e-9);
    let of = |labeler: usize| value(&found.labelers[labeler].quality);
    assert!(of(0) > 0.9 && of(2) < 0.2, "{} {}", of(0), of(2));
}

#[test]
fn the_place_on_the_page_is_tested_where_each_is_expected_five_times() {
    // Whoever is shown first is first.
    let found = Agreement::of(&said(2, 12, |_, _| [1, 2, 3, 4]), 5);
    let table = &found.position.tables[0];
    assert_eq!((table.k, table.n, table.slots.len()), (4, 24, 4));
    assert_eq!(value(&table.slots[0].first), 1.0);
    assert!(table.test.unwrap().p < 1e-6 && found.position.test == table.test);
    // Of twelve rankings each place is expected first three times.
    assert_eq!(found.labelers[0].position, None);
    // What a file brought without its order was shown in no order that is known.
    let mut brought = said(2, 12, |_, _| [1, 2, 3, 4]);
    for label in brought.labels.iter_mut().filter(|own| own.labeler == 0) {
        label.display_order.clear();
    }
    let position = Agreement::of(&brought, 5).position;
    assert_eq!((position.tables[0].n, position.n_without_order), (12, 12));
    let found = Agreement::of(
        &said(1, 20, |_, prompt| {
            let mut ranks = [1, 2, 3, 4];
            ranks.rotate_right(prompt % 4);
            ranks
        }),
        5,
    );
    assert!((found.labelers[0].position.unwrap().p - 1.0).abs() < 1e-9);
}

#[test]
fn a_prompt_counts_in_the_week_of_its_last_ranking() {
    let mut labels = said(2, 24, |_, _| [1, 2, 3, 4]);
    for label in &mut labels.labels {
        // The second half is ranked by one labeler on a Sunday, by the other on the Monday after.
        label.at = match (label.prompt < 12, label.labeler) {
            (true, _) | (false, 0) => "2026-11-22T23:00:00Z".parse().unwrap(),
            (false, _) => "2026-11-23T01:00:00Z".parse().unwrap(),
        };
    }
    let found = Agreement::of(&labels, 5);
    let weeks: Vec<_> = found
        .weeks
        .iter()
        .map(|week| (week.name.as_str(), week.n_rankings))
        .collect();
    assert_eq!(weeks, [("2026-11-16", 24), ("2026-11-23", 24)]);
    assert!(
        found
            .weeks
            .iter()
            .all(|week| week.agreement.ties_left_out.n == 72)
    );
    let history = History::of(&labels, 0);
    let weeks: Vec<_> = history
        .weeks
        .iter()
        .map(|week| (week.name.as_str(), week.n_rankings))
        .collect();
    assert_eq!(weeks, [("2026-11-16", 12), ("2026-11-23", 12)]);
    assert_eq!(value(&history.categories[0].agreement.ties_half), 1.0);
}

#[test]
fn gold_and_repeats_hold_a_labeler_against_what_is_known_and_against_themselves() {
    // Labeler 0 ranks by slot, labeler 1 swaps the first two.
    let swapped = |labeler, _| {
        if labeler == 1 {
            [2, 1, 3, 4]
        } else {
            [1, 2, 3, 4]
        }
    };
    let mut labels = said(2, 36, swapped);
    let first: Vec<TaskId> = labels.labels.iter().map(|label| label.task).collect();
    labels.gold = HashMap::new();
    for label in &mut labels.labels {
        match label.prompt {
            // Of gold tasks the order of the first three is known, and that the last is not rude.
            0..12 => {
                label.purpose = Purpose::Gold;
                let known = (0..4).map(|slot| Facts {
                    slot,
                    rank: (slot < 3).then_some(slot + 1),
                    flags: (slot == 3)
                        .then(|| ("rude".to_owned(), false))
                        .into_iter()
                        .collect(),
                });
                let known = GoldAnswer {
                    candidates: known.collect(),
                };
                labels.gold.insert(label.task, known);
            }
            // The next are what the last repeat.
            24..36 => {
                label.purpose = Purpose::Repeat;
                label.repeat_of = Some(first[(label.prompt - 12) * 2]);
                // The same completions, as they stood in the first task.
                for said in &mut label.said {
                    said.completion -= 12 * K;
                }
                // The second time labeler 1 is right.
                if label.labeler == 1 {
                    label.said[0].rank = Some(1);
                    label.said[1].rank = Some(2);
                }
            }
            _ => (),
        }
    }
    let originals = labels.labels.iter();
    let originals = originals.filter(|label| (12..24).contains(&label.prompt));
    labels.originals = originals.cloned().collect();
    // What is held against a repeat is what was first said, whatever a correction says.
    for label in &mut labels.labels {
        if (12..24).contains(&label.prompt) {
            label.said.iter_mut().for_each(|said| said.rank = Some(1));
        }
    }
    // A tie of what is known is half right.
    let tied = labels.labels.iter_mut().find(|label| label.labeler == 0);
    tied.unwrap()
        .said
        .iter_mut()
        .for_each(|said| said.rank = Some(1));
    let found = Agreement::of(&labels, 5);
    assert_eq!(
        (found.n_rankings, found.n_gold, found.n_repeats),
        (24, 24, 24)
    );
    let [one, other] = &found.labelers[..] else {
        panic!("two labelers")
    };
    // Of the first, one of twelve tasks with three known pairs each is tied.
    assert!((value(&one.gold) - 34.5 / 36.0).abs() < 1e-9);
    assert_eq!((one.gold.n, one.gold.n_prompts), (36, 12));
    assert!((value(&other.gold) - 2.0 / 3.0).abs() < 1e-9);
    // Both say that the last is rude.
    assert_eq!((value(&one.gold_flags), one.gold_flags.n), (0.0, 12));
    assert_eq!(value(&one.repeats.ties_left_out), 1.0);
    assert!((value(&other.repeats.ties_left_out) - 5.0 / 6.0).abs() < 1e-9);
    assert_eq!(other.repeats.ties_left_out.n_prompts, 12);
}

#[test]
fn a_labeler_who_met_one_other_only_has_no_quality() {
    let found = Agreement::of(&said(2, 40, |_, _| [1, 2, 3, 4]), 5);
    let quality = found.labelers[0].quality;
    assert_eq!(
        (quality.value, quality.low, quality.high),
        (None, None, None)
    );
    // What there is is told all the same.
    assert_eq!((quality.n, quality.n_prompts), (240, 40));
    let found = Agreement::of(&said(3, 40, |_, _| [1, 2, 3, 4]), 5);
    assert!(value(&found.labelers[0].quality) > 0.9);
}

#[test]
fn only_prompts_that_tell_something_are_counted() {
    // Of twelve prompts one is not wholly tied.
    let mostly_tied = |_, prompt| {
        if prompt == 0 { [1, 2, 3, 4] } else { [1; K] }
    };
    let found = Agreement::of(&said(2, 12, mostly_tied), 5);
    let agreement = &found.overall.agreement;
    let left_out = agreement.ties_left_out;
    assert_eq!(
        (left_out.value, left_out.n, left_out.n_prompts),
        (None, 6, 1)
    );
    assert_eq!(
        (agreement.tau_b.value, agreement.tau_b.n_prompts),
        (None, 1)
    );
    assert_eq!(
        (value(&agreement.ties_half), agreement.ties_half.n_prompts),
        (1.0, 12)
    );
    let (all, own) = (found.overall.longer, found.labelers[0].longer);
    assert_eq!((all.value, all.n_prompts), (None, 1));
    assert_eq!((own.value, own.n_prompts), (None, 1));
    // The test of position rests on those rankings only that it takes.
    let untold = Agreement::of(&said(1, 12, |_, _| [1, 2, 3, 4]), 5);
    assert_eq!(untold.labelers[0].n_position, 0);
    let told = Agreement::of(&said(1, 20, |_, _| [1, 2, 3, 4]), 5);
    assert_eq!(told.labelers[0].n_position, 20);
}
