//! Learning from rankings without a reward model: whole runs of direct preference optimisation on a
//! tiny model.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[expect(dead_code, reason = "other tests use the rest")]
mod place;
mod tiny;

use std::path::PathBuf;

use place::*;
use serde_json::json;
use tiny::{Kept, write_lines};
use trainer::checkpoint::{CheckpointKind, inspect};
use trainer::dpo;
use trainer::loss::direct::DirectLoss;

/// Item 21 of the checklist: the implicit reward beside length alone.
#[test]
fn dpo_learns_a_preference_that_length_cannot_explain_and_checks_itself_first() {
    let place = Place::new();
    let mut job = place.dpo("dpo");
    job.config.epochs = 6;
    let mut progress = Kept::default();
    let made = dpo::run(&job, &mut progress).unwrap();
    let summary = &made.summary;
    assert!(summary["held_out_accuracy_low"] > 0.7, "{summary:?}");
    assert!(summary["held_out_margin_low"] > 0.0, "{summary:?}");
    assert_eq!(summary["length_only_accuracy"], 0.5, "{summary:?}");
    assert!(summary["held_out_loss"] < summary["held_out_loss_before"]);
    // At the reference no completion is preferred.
    assert_eq!(progress.metric("held_out/accuracy").len(), 7);
    assert_eq!(progress.metric("held_out/accuracy")[0], 0.5);
    assert_eq!(progress.metric("held_out/margin")[0], 0.0);
    let loss = progress.metric("held_out/loss")[0];
    assert!((loss - std::f64::consts::LN_2).abs() < 1e-12, "{loss}");
    let first = progress.metric("train/loss")[0];
    assert!((first - std::f64::consts::LN_2).abs() < 1e-4, "{first}");

    let checks = progress.checks();
    assert!(checks.iter().all(|(_, passed)| *passed), "{checks:?}");
    for name in [
        "padding invariance: policy",
        "log-ratio is 0 before the first step",
        "gradient coverage: policy",
    ] {
        let is_there = checks.iter().any(|(found, _)| found == name);
        assert!(is_there, "{name} was not checked");
    }
    let info = inspect(&made.checkpoint).unwrap();
    assert_eq!(info.kind, CheckpointKind::Policy);
}

#[test]
fn each_other_loss_learns_it_too() {
    let place = Place::new();
    for (index, loss) in [
        DirectLoss::Sigmoid {
            label_smoothing: 0.1,
        },
        DirectLoss::Ipo,
    ]
    .into_iter()
    .enumerate()
    {
        let mut job = place.dpo(&format!("run {index}"));
        job.config.epochs = 4;
        job.config.loss = loss;
        let summary = dpo::run(&job, &mut Kept::default()).unwrap().summary;
        let accuracy = summary["held_out_accuracy"];
        assert!(accuracy > 0.75, "{loss:?}: {accuracy}");
    }
}

/// What beta is for: the tighter it holds, the less the log-probabilities move.
#[test]
fn a_high_beta_holds_the_policy_near_the_reference() {
    let place = Place::new();
    let moved = |beta: f64| {
        let mut job = place.dpo(&format!("beta {beta}"));
        job.config.beta = beta;
        job.config.epochs = 6;
        let made = dpo::run(&job, &mut Kept::default()).unwrap();
        // A margin is beta times the difference of the log-ratios.
        made.summary["held_out_margin"] / beta
    };
    let (loose, tight) = (moved(0.05), moved(5.0));
    assert!(loose > 2.0 * tight && tight > 0.0, "{loose} {tight}");
}

#[test]
fn dpo_of_the_upper_layer_leaves_the_lower_ones_alone_and_the_same_seed_gives_the_same_bytes() {
    let place = Place::new();
    let train = |out: &str, seed: u64| -> PathBuf {
        let mut job = place.dpo(out);
        job.config.train_layers = Some(1);
        job.config.seed = seed;
        dpo::run(&job, &mut Kept::default()).unwrap().checkpoint
    };
    let policy = train("first", 1);
    assert!(weights(&policy) == weights(&train("second", 1)));
    assert!(weights(&policy) != weights(&train("third", 2)));
    let load = |folder: PathBuf| {
        let path = folder.join("model.safetensors");
        candle_core::safetensors::load(path, &candle_core::Device::Cpu).unwrap()
    };
    let (old, new) = (load(place.path("base")), load(policy));
    for (name, tensor) in &new {
        let values = |tensor: &candle_core::Tensor| {
            let flat = tensor.flatten_all().unwrap();
            flat.to_vec1::<f32>().unwrap()
        };
        let changed = values(tensor) != values(&old[name]);
        let is_upper = name.contains("layers.1.") || name == "model.norm.weight";
        assert_eq!(changed, is_upper, "{name}");
    }
}

#[test]
fn rankings_that_dpo_cannot_learn_from_end_in_a_sentence_and_leave_nothing_behind() {
    let place = Place::new();
    let mut lines = rankings(3);
    for line in &mut lines {
        for completion in line["completions"].as_array_mut().unwrap() {
            completion["rank"] = json!(1);
        }
    }
    let mut job = place.dpo("nowhere");
    job.data = write_lines(&place.path("tied.jsonl"), lines);
    let error = dpo::run(&job, &mut Kept::default()).unwrap_err();
    assert!(error.to_string().contains("ties everything"), "{error}");
    job.data = write_lines(&place.path("one.jsonl"), rankings(1));
    let error = dpo::run(&job, &mut Kept::default()).unwrap_err();
    assert!(error.to_string().contains("too few"), "{error}");
    assert!(!place.path("nowhere").exists());
}
