//! Whole steps of direct preference optimisation against plain PyTorch, from the same weights: what
//! the reference says, losses, margins, gradient norms, and every parameter after three steps, for
//! each form of the loss. `tests/fixtures/make_dpo.py` made the numbers.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde::Deserialize;

use super::learner::{Fit, Learner, Ranking};
use super::measure::HeldOut;
use crate::config::{DpoConfig, Preset};
use crate::loss::direct::DirectLoss;
use crate::model::transformer::Transformer;
use crate::model::weights::Trainable;
use crate::progress::Silent;
use crate::reward::groups::Group;
use crate::schedule::Schedule;

#[derive(Deserialize)]
struct Expected {
    policy: String,
    eos: u32,
    adam: Adam,
    rankings: Vec<ExpectedRanking>,
    runs: BTreeMap<String, Run>,
}

#[derive(Deserialize)]
struct Adam {
    rate: f64,
    betas: [f64; 2],
    epsilon: f64,
    max_grad_norm: f64,
}

#[derive(Deserialize)]
struct ExpectedRanking {
    prompt: Vec<u32>,
    completions: Vec<Vec<u32>>,
    ranks: Vec<u32>,
}

#[derive(Deserialize)]
struct Run {
    reference: String,
    loss: String,
    label_smoothing: f64,
    beta: f64,
    steps: Vec<ExpectedStep>,
    references: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct ExpectedStep {
    loss: f64,
    norm: f64,
    margin: f64,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn load(family: &str, trainable: Trainable) -> Transformer {
    let folder = fixtures().join("families").join(family);
    Transformer::load(&folder, &Device::Cpu, trainable).unwrap()
}

fn config(adam: &Adam, run: &Run) -> DpoConfig {
    let preset = DpoConfig::preset(Preset::Tiny);
    DpoConfig {
        beta: run.beta,
        loss: match run.loss.as_str() {
            "ipo" => DirectLoss::Ipo,
            _ => DirectLoss::Sigmoid {
                label_smoothing: run.label_smoothing,
            },
        },
        schedule: Schedule::Constant {
            warmup: 0,
            from: 1.0,
        },
        optimiser: crate::optim::AdamConfig {
            learning_rate: adam.rate,
            beta1: adam.betas[0],
            beta2: adam.betas[1],
            epsilon: adam.epsilon,
            max_grad_norm: adam.max_grad_norm,
            ..preset.optimiser.clone()
        },
        ..preset
    }
}

fn rankings(expected: &Expected) -> Vec<Ranking> {
    let ranking = |(index, wanted): (usize, &ExpectedRanking)| {
        let n = wanted.ranks.len();
        let rows = wanted.completions.iter();
        let rows = rows.map(|tokens| [&wanted.prompt[..], tokens, &[expected.eos]].concat());
        Ranking {
            group: Group {
                index,
                ranks: wanted.ranks.clone(),
                ratings: vec![None; n],
                rows: rows.collect(),
                lengths: wanted.completions.iter().map(Vec::len).collect(),
                lowers: vec![None; n],
                ..Group::new(&index.to_string())
            },
            reference: Vec::new(),
        }
    };
    expected.rankings.iter().enumerate().map(ranking).collect()
}

fn assert_near(what: &str, found: f64, wanted: f64) {
    let d = (found - wanted).abs() / wanted.abs().max(1.0);
    assert!(d < 1e-4, "{what}: {found}, PyTorch has {wanted}");
}

/// Every tensor within 1e-4 of the largest number that PyTorch has in it.
fn assert_tensors_near(
    name: &str,
    found: &BTreeMap<String, Tensor>,
    wanted: &HashMap<String, Tensor>,
) {
    let prefix = format!("{name}.");
    let n_wanted = wanted.keys().filter(|key| key.starts_with(&prefix)).count();
    assert_eq!(found.len(), n_wanted, "{name}: {:?}", found.keys());
    let largest = |tensor: &Tensor| -> f32 {
        let largest = tensor.abs().unwrap().max_all().unwrap();
        largest.to_scalar().unwrap()
    };
    for (name, tensor) in found {
        let wanted = &wanted[&format!("{prefix}{name}")];
        let relative = largest(&(tensor - wanted).unwrap()) / largest(wanted);
        assert!(relative < 1e-4, "{prefix}{name}: {relative:e}");
    }
}

#[test]
fn three_steps_of_each_loss_are_those_of_pytorch() {
    let expected = std::fs::read(fixtures().join("dpo_update.json")).unwrap();
    let expected: Expected = serde_json::from_slice(&expected).unwrap();
    let wanted = fixtures().join("dpo_update.safetensors");
    let wanted = candle_core::safetensors::load(wanted, &Device::Cpu).unwrap();
    assert_eq!(expected.runs.len(), 4);
    // Also with one completion at a time, and blocks that run again (item 50 of the checklist).
    let ways = [(8, false), (3, false), (1, true)];
    let runs = ways.map(|way| expected.runs.iter().map(move |run| (way, run)));
    for ((micro_rows, recomputes), (name, run)) in runs.into_iter().flatten() {
        let config = config(&expected.adam, run);
        config.check().unwrap();
        let mut learner = Learner::new(&config, micro_rows);
        let mut rankings = rankings(&expected);
        let reference = load(&run.reference, Trainable::Nothing);
        learner
            .refer(&reference, &mut rankings, &mut Silent)
            .unwrap();
        for (found, wanted) in rankings.iter().zip(&run.references) {
            assert_eq!(found.reference.len(), wanted.len());
            for (found, wanted) in found.reference.iter().zip(wanted) {
                assert_near("reference", *found, *wanted);
            }
        }
        // What a frozen model kept of the rows is not the policy's.
        for ranking in &mut rankings {
            ranking.group.lowers.fill(None);
        }
        let mut policy = load(&expected.policy, Trainable::Everything);
        policy.set_recompute(recomputes);
        let mut fit = Fit::new(policy, &config, BTreeMap::new());
        for (number, wanted) in run.steps.iter().enumerate() {
            let step = learner.step(&mut fit, &mut rankings, 3, &mut Silent);
            let step = step.unwrap();
            let what = |figure: &str| format!("{name}, step {}: {figure}", number + 1);
            assert_near(&what("loss"), step.measure.loss(), wanted.loss);
            assert_near(&what("margin"), step.measure.margin(), wanted.margin);
            assert_near(&what("norm"), step.norm, wanted.norm);
        }
        assert_tensors_near(name, fit.policy.weights().tensors(), &wanted);

        // The figures of a pass that learns nothing follow on those of the last step.
        let measures = learner.measure(&fit.policy, &mut rankings, &mut Silent);
        let now = HeldOut::new(&rankings, &measures.unwrap(), 1);
        assert_eq!(now.accuracy.n_pairs, 9);
        assert!(now.all.loss() < run.steps[2].loss, "{name}");
        assert!((now.margin.value - now.all.margin()).abs() < 1e-12);
    }
}
