//! What every kind of run checks before it trains, and tells.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[expect(dead_code, reason = "other tests use the rest")]
mod place;
#[expect(dead_code, reason = "other tests use the rest")]
mod tiny;

use place::Place;
use tiny::Kept;
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
