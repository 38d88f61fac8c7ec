//! What every kind of run checks before it trains, and tells.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[expect(dead_code, reason = "other tests use the rest")]
mod place;
#[expect(dead_code, reason = "other tests use the rest")]
mod tiny;

use place::{Place, rankings};
use serde_json::json;
use tiny::{Kept, write_lines};
use trainer::progress::Event;
use trainer::{dpo, ppo, reward, sft};

/// The checks that hold, in their order; a failed one ends the run.
fn names(progress: &Kept) -> Vec<String> {
    let checks = progress.checks();
    assert!(checks.iter().all(|(_, passed)| *passed), "{checks:?}");
    checks.into_iter().map(|(name, _)| name).collect()
}

fn detail(progress: &Kept, wanted: &str) -> String {
    let found = progress.events.iter().find_map(|event| match event {
        Event::Check { name, detail, .. } if name == wanted => Some(detail.clone()),
        _ => None,
    });
    found.unwrap()
}

/// Items 6, 7 and 11 of the checklist.
#[test]
fn every_kind_of_run_checks_its_models_and_data_first() {
    let place = Place::new();
    let mut progress = Kept::default();
    let tuned = sft::run(&place.sft("sft"), &mut progress)
        .unwrap()
        .checkpoint;
    let first = [
        "weights: base",
        "chat template: base",
        "vocabulary: base",
        "text survives the tokenizer",
    ];
    let own = names(&progress);
    assert_eq!(own[..4], first);
    assert_eq!(own[4], "weights are finite: model");
    // A model from elsewhere has no record.
    assert!(detail(&progress, "weights: base").contains("nothing is recorded"));

    let mut progress = Kept::default();
    let mut job = place.reward("reward");
    job.base = tuned;
    let judge = reward::run(&job, &mut progress).unwrap().checkpoint;
    let own = names(&progress);
    assert_eq!(own[..4], first);
    assert_eq!(own[4], "weights are finite: reward model");
    assert_eq!(own[5], "head survives saving: reward model");
    for what in ["weights: base", "chat template: base", "vocabulary: base"] {
        assert!(detail(&progress, what).ends_with("as recorded"), "{what}");
    }

    let mut progress = Kept::default();
    let mut job = place.dpo("dpo");
    job.base = place.path("sft").join("checkpoint");
    dpo::run(&job, &mut progress).unwrap();
    let own = names(&progress);
    assert_eq!(own[..4], first);
    assert_eq!(own[4], "weights are finite: policy");
    assert!(detail(&progress, "weights: base").ends_with("as recorded"));

    let mut progress = Kept::default();
    let mut job = place.ppo(&judge, "ppo");
    job.base = place.path("sft").join("checkpoint");
    ppo::run(&job, &mut progress).unwrap();
    let own = names(&progress);
    for name in [
        "vocabulary",
        "chat template",
        "weights: policy",
        "weights: reward model",
        "chat template: reward model",
        "vocabulary: reward model",
        "text survives the tokenizer",
        "weights are finite: policy",
        "weights are finite: reward model",
        "head survives saving: value model",
    ] {
        assert!(own.iter().any(|own| own == name), "{name}: {own:?}");
    }
    assert!(detail(&progress, "chat template").contains("SHA-256 "));
}

fn says(progress: &Kept, words: &[&str]) -> bool {
    let mut events = progress.events.iter();
    events.any(|event| {
        matches!(event, Event::Log { message } if words.iter().all(|words| message.contains(words)))
    })
}

/// No gradient reaches a head by completions that are all the same, which says nothing of the model.
#[test]
fn rankings_of_equal_texts_do_not_fail_the_check_of_gradients() {
    let place = Place::new();
    let write = |n_equal: usize| {
        let mut lines = rankings(20);
        for line in lines.iter_mut().take(n_equal) {
            for completion in line["completions"].as_array_mut().unwrap() {
                completion["text"] = json!("red");
            }
        }
        // Good ones among them, so that some are trained on.
        lines.rotate_left(n_equal / 2);
        write_lines(&place.path("rankings.jsonl"), lines);
    };
    write(16);
    let mut progress = Kept::default();
    reward::run(&place.reward("some"), &mut progress).unwrap();
    let words = "prefer one of two completions that are the same";
    assert!(says(&progress, &[words]), "{:?}", progress.events);
    write(20);
    let error = reward::run(&place.reward("all"), &mut Kept::default()).unwrap_err();
    let said = error.to_string();
    assert!(
        said.contains("field completions: are the same in each"),
        "{said}"
    );
    assert!(!place.path("all").exists());
}

/// What a run leaves unread, and what it reads as no text, its log tells.
#[test]
fn every_kind_of_run_tells_what_is_to_be_known_of_its_data() {
    let place = Place::new();
    let judge = place.trained_reward("judge");
    let change = |name: &str, from: &str, to: &str| {
        let path = place.path(name);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(path, text.replacen(from, to, 1)).unwrap();
    };
    for name in ["demonstrations", "rankings", "prompts"] {
        change(&format!("{name}.jsonl"), "{\"id\":", "{\"xid\":1,\"id\":");
    }
    change("demonstrations.jsonl", "please say", "<eos> say");
    let runs: [&dyn Fn(&mut Kept); 3] = [
        &|progress| drop(sft::run(&place.sft("sft"), progress).unwrap()),
        &|progress| {
            let mut job = place.reward("reward");
            job.demonstrations = Some(place.path("demonstrations.jsonl"));
            drop(reward::run(&job, progress).unwrap());
        },
        &|progress| drop(ppo::run(&place.ppo(&judge, "ppo"), progress).unwrap()),
    ];
    for (index, (run, file)) in runs
        .into_iter()
        .zip(["demonstrations", "rankings", "prompts"])
        .enumerate()
    {
        let mut progress = Kept::default();
        run(&mut progress);
        let file = format!("{file}.jsonl: ");
        let unread = "nothing reads the field xid, which 1 lines have, the first line 1";
        assert!(says(&progress, &[&file, unread]), "{:?}", progress.events);
        let marked = [
            "demonstrations.jsonl: ",
            "1 texts",
            "line 1, field messages[0].content",
        ];
        assert_eq!(says(&progress, &marked), index < 2, "{:?}", progress.events);
    }
}

#[test]
fn a_checkpoint_whose_weights_were_changed_since_is_refused() {
    let place = Place::new();
    let judge = place.trained_reward("judge");
    let path = judge.join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 4;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let mut progress = Kept::default();
    let error = ppo::run(&place.ppo(&judge, "ppo"), &mut progress)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("weights: reward model") && error.contains("was recorded"),
        "{error}"
    );
    assert!(
        progress
            .checks()
            .contains(&("weights: reward model".to_owned(), false))
    );
}
