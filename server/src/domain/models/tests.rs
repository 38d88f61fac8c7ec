//! Models whose wins are known by construction.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
use super::*;
use crate::domain::ids::{AccountId, CompletionId, RankingId, TaskId};
use crate::domain::labels::{Completion, Labeler, Model, Said};
use crate::domain::task::Purpose;

const K: usize = 3;

/// One ranking of three models' completions of each prompt, as `ranks` says of the prompt; the first half of
/// the prompts is chat, the others are rewriting.
fn ranked(n_prompts: usize, ranks: impl Fn(usize) -> [i16; K]) -> Labels {
    let category = |prompt| {
        if prompt < n_prompts / 2 {
            "chat"
        } else {
            "rewrite"
        }
    };
    let mut labels = Labels {
        categories: (0..n_prompts).map(|own| category(own).to_owned()).collect(),
        labelers: vec![Labeler {
            id: AccountId::new(),
            name: "Ada".to_owned(),
            is_simulated: false,
        }],
        models: (0..K)
            .map(|number| Model {
                name: format!("model-{number}"),
                checkpoint_id: None,
            })
            .collect(),
        ..Labels::default()
    };
    for prompt in 0..n_prompts {
        for place in 0..K {
            labels.completions.push(Completion {
                id: CompletionId::new(),
                prompt,
                place,
                length: 1,
                model: place,
            });
        }
        let said = ranks(prompt).into_iter().enumerate();
        let said = said.map(|(slot, rank)| Said {
            completion: prompt * K + slot,
            slot: slot as i16,
            rank: Some(rank),
            scales: Vec::new(),
            flags: Vec::new(),
        });
        labels.labels.push(Label {
            id: RankingId::new(),
            labeler: 0,
            prompt,
            task: TaskId::new(),
            repeat_of: None,
            purpose: Purpose::Label,
            is_adjudication: false,
            form_version: 1,
            at: "2026-11-26T12:00:00Z".parse().unwrap(),
            active_ms: None,
            is_untouched: None,
            is_too_fast: None,
            display_order: vec![0, 1, 2],
            said: said.collect(),
        });
    }
    labels
}

#[test]
fn a_model_that_never_lost_in_a_category_has_no_interval_there() {
    // In chat the first always wins; in rewriting each wins now and then, and so each does in the whole.
    let labels = ranked(48, |prompt| match prompt {
        0..24 => [1, 2 + (prompt % 2) as i16, 3 - (prompt % 2) as i16],
        _ => {
            let mut ranks = [1, 2, 3];
            ranks.rotate_right(prompt % 3);
            ranks
        }
    });
    let found = Models::of(&labels);
    assert!(!found.is_undetermined);
    for own in &found.models {
        assert!(own.is_determined);
        assert!(own.davidson.interval().is_some() && own.plackett_luce.interval().is_some());
    }
    // Two are told apart by the difference of their strengths, which has an interval of its own.
    for pair in &found.pairs {
        let strength = |place: usize| found.models[place].davidson.value.unwrap();
        let difference = pair.difference.value.unwrap();
        let expected = strength(pair.first) - strength(pair.second);
        assert!((difference - expected).abs() < 1e-9);
        assert!(pair.difference.interval().is_some() && pair.difference.n_prompts == 48);
    }
    let best = found.pairs.iter().find(|pair| pair.first == 0).unwrap();
    assert!(best.difference.low.unwrap() > 0.0);
    let [chat, rewrite] = &found.categories[..] else {
        panic!("two categories")
    };
    assert_eq!(
        (chat.category.as_str(), chat.is_undetermined),
        ("chat", true)
    );
    assert_eq!(chat.models[0].name, "model-0");
    for own in &chat.models {
        // The order is told, and how often each won, with an interval.
        assert!(!own.is_determined && own.davidson.value.is_some());
        assert_eq!((own.davidson.low, own.davidson.high), (None, None));
        assert_eq!(
            (own.plackett_luce.low, own.plackett_luce.high),
            (None, None)
        );
        assert!(own.win_rate.value.is_some());
    }
    assert!(!rewrite.is_undetermined);
    assert!(
        rewrite
            .models
            .iter()
            .all(|own| own.davidson.interval().is_some())
    );
}

#[test]
fn a_model_that_never_lost_at_all_is_said_to_be_undetermined() {
    let found = Models::of(&ranked(48, |prompt| {
        [1, 2 + (prompt % 2) as i16, 3 - (prompt % 2) as i16]
    }));
    assert!(found.is_undetermined);
    assert!(found.models.iter().all(|own| own.davidson.low.is_none()));
    assert!(
        found
            .pairs
            .iter()
            .all(|pair| pair.difference.value.is_none())
    );
}
