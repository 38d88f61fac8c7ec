//! Learning from rankings without a reward model: whole runs of direct preference optimisation on
//! a tiny model; and without learning at all: the best of n samples.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[expect(dead_code, reason = "other tests use the rest")]
mod place;
mod tiny;

use std::path::PathBuf;

use place::*;
use serde_json::json;
use tiny::{Kept, write_lines};
use trainer::best_of_n::{self, BestOfNJob, Drawn};
use trainer::checkpoint::{CheckpointKind, inspect};
use trainer::dpo;
use trainer::error::TrainerError;
use trainer::loss::direct::DirectLoss;
use trainer::reward;
use trainer::sampling::SamplingConfig;

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

/// Two judges of the same preference that learnt from different heads and orders, and the samples.
struct Bench {
    place: Place,
    proxy: PathBuf,
    gold: PathBuf,
}

impl Bench {
    fn new() -> Self {
        let place = Place::new();
        let judge = |out: &str, seed: u64| {
            let mut job = place.reward(out);
            job.config.epochs = 6;
            job.config.seed = seed;
            reward::run(&job, &mut Kept::default()).unwrap().checkpoint
        };
        let (proxy, gold) = (judge("proxy", 1), judge("gold", 2));
        Self { place, proxy, gold }
    }

    fn job(&self, n: usize, seed: u64) -> BestOfNJob {
        BestOfNJob {
            n,
            sampling: SamplingConfig {
                temperature: 1.0,
                top_p: 1.0,
                max_new_tokens: 8,
                seed,
            },
            model: self.place.path("base"),
            reward: self.proxy.clone(),
            gold: Some(self.gold.clone()),
            prompts: self.place.path("prompts.jsonl"),
        }
    }

    fn draw(&self, n: usize, seed: u64) -> Drawn {
        best_of_n::run(&self.job(n, seed), &mut Kept::default()).unwrap()
    }
}

#[test]
fn more_samples_raise_the_score_and_what_another_judge_says() {
    let bench = Bench::new();
    let drawn = bench.draw(32, 1);
    let sizes: Vec<usize> = drawn.curve.iter().map(|point| point.n).collect();
    assert_eq!(sizes, [1, 2, 4, 8, 16, 32]);
    for pair in drawn.curve.windows(2) {
        assert!(pair[1].reward.value > pair[0].reward.value, "{pair:?}");
        assert!(pair[1].kl_bound > pair[0].kl_bound, "{pair:?}");
    }
    let golds: Vec<f64> = drawn
        .curve
        .iter()
        .map(|point| point.gold.unwrap().value)
        .collect();
    assert!(golds[5] > golds[0] + 0.2, "{golds:?}");

    // The best of all is what is kept, and it says "good" more often than the usual sample.
    let n = drawn.chosen.len() as f64;
    assert_eq!(n, 12.0);
    let mean = drawn.chosen.iter().map(|one| one.score).sum::<f64>() / n;
    assert!((mean - drawn.curve[5].reward.value).abs() < 1e-9);
    let gold = drawn.chosen.iter().map(|one| one.gold.unwrap());
    assert!((gold.sum::<f64>() / n - golds[5]).abs() < 1e-9);
    let goods = |drawn: &Drawn| {
        let texts = drawn.chosen.iter().map(|one| one.text.as_str());
        texts
            .map(|text| text.matches("good").count())
            .sum::<usize>()
    };
    let (best, usual) = (goods(&drawn), goods(&bench.draw(1, 1)));
    assert!(best > 2 * usual, "{best} {usual}");
}

/// The estimate from 32 samples against runs that drew four and kept the best.
#[test]
fn what_fewer_samples_reach_is_what_the_curve_says() {
    let bench = Bench::new();
    let said = bench.draw(32, 1).curve[2].reward;
    let runs: Vec<f64> = (100..116)
        .map(|seed| bench.draw(4, seed).curve[2].reward.value)
        .collect();
    let (n, mean) = (
        runs.len() as f64,
        runs.iter().sum::<f64>() / runs.len() as f64,
    );
    let variance = runs.iter().map(|run| (run - mean).powi(2)).sum::<f64>() / (n - 1.0);
    // Its own error is about that of eight such runs.
    let error = (variance / n + variance / 8.0).sqrt();
    assert!(
        (said.value - mean).abs() < 3.0 * error,
        "{said} {mean} {error}"
    );
}

#[test]
fn a_prompts_samples_depend_on_no_other_prompt() {
    let bench = Bench::new();
    let all = bench.draw(4, 1);
    assert_eq!(all.chosen, bench.draw(4, 1).chosen);
    let mut job = bench.job(4, 1);
    job.prompts = write_lines(&bench.place.path("fewer.jsonl"), prompts(3));
    let fewer = best_of_n::run(&job, &mut Kept::default()).unwrap();
    assert_eq!(fewer.chosen[..], all.chosen[..3]);
}

#[test]
fn a_model_that_judges_nothing_and_a_wrong_number_are_refused_in_a_sentence() {
    let bench = Bench::new();
    let refuse = |job: BestOfNJob| {
        let error = best_of_n::run(&job, &mut Kept::default()).unwrap_err();
        error.to_string()
    };
    let mut job = bench.job(4, 1);
    job.reward = bench.place.path("base");
    assert!(refuse(job).contains("is not a reward model"));
    let mut job = bench.job(4, 1);
    job.model = bench.gold.clone();
    assert!(refuse(job).contains("is a reward model"));
    // Its upper layers would train.
    let mut job = bench.place.dpo("out");
    job.base = bench.gold.clone();
    job.config.train_layers = Some(1);
    let error = dpo::run(&job, &mut Kept::default()).unwrap_err();
    assert!(error.to_string().contains("is a reward model"), "{error}");
    assert!(!job.out.exists());
    assert!(refuse(bench.job(0, 1)).contains("best_of"));
    let mut job = bench.job(4, 1);
    job.sampling.max_new_tokens = 126;
    let error = refuse(job);
    assert!(
        error.contains("prompts.jsonl, line 1, field prompt"),
        "{error}"
    );

    let mut progress = Kept {
        cancel_at: Some(2),
        ..Kept::default()
    };
    let error = best_of_n::run(&bench.job(4, 1), &mut progress).unwrap_err();
    assert!(matches!(error, TrainerError::Cancelled), "{error}");
}
