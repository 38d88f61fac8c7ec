//! Passes that keep only each block's input give the gradients of passes that keep everything, to
//! the bit, on every family of networks.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor, Var};
use trainer::config::LoraConfig;
use trainer::model::attention::Pass;
use trainer::model::batch::TokenBatch;
use trainer::model::dropout::Dropout;
use trainer::model::heads::{Beginning, RewardModel};
use trainer::model::lora::Fresh;
use trainer::model::transformer::Transformer;
use trainer::model::weights::Trainable;
use trainer::nn::backward::backward;
use trainer::optim::Gradients;
use trainer::rng::{standard_normal, stream};
use trainer::sft::{Feed, LearningRow, add_gradient, add_gradient_of};

fn families() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/families");
    let found = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = found.filter(|path| path.is_dir()).collect();
    found.sort();
    assert!(found.len() >= 4, "{found:?}");
    found
}

fn rows() -> Vec<LearningRow> {
    let row = |i: u32| LearningRow {
        tokens: (0..6 + i % 4).map(|t| 3 + (7 * i + 11 * t) % 30).collect(),
        start: 1 + i as usize % 3,
    };
    (0..5).map(row).collect()
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

fn assert_same(name: &Path, model: &Transformer, kept: &Gradients, again: &Gradients) {
    assert!(!model.weights().variables().is_empty());
    for parameter in model.weights().variables().keys() {
        let (kept, again) = (kept.get(parameter).unwrap(), again.get(parameter).unwrap());
        assert_eq!(bits(kept), bits(again), "{}: {parameter}", name.display());
    }
}

const PARTS: [Trainable; 3] = [
    Trainable::Everything,
    Trainable::UpperLayers(1),
    Trainable::UpperLayers(2),
];

#[test]
fn a_language_models_gradients_are_the_same_to_the_bit() {
    for folder in families() {
        for part in PARTS {
            let mut model = Transformer::load(&folder, &Device::Cpu, part).unwrap();
            let mut gradients = [Gradients::default(), Gradients::default()];
            let mut losses = [0.0; 2];
            for (index, recompute) in [false, true].into_iter().enumerate() {
                model.set_recompute(recompute);
                // Twice, so that gradients add up over micro-batches too.
                for micro in rows().chunks(3) {
                    let own = &mut gradients[index];
                    losses[index] += add_gradient(&model, micro, 0, 0.1, own).unwrap();
                }
            }
            assert_eq!(losses[0], losses[1]);
            assert_same(&folder, &model, &gradients[0], &gradients[1]);
        }
    }
}

/// The pass that reads the last position alone, several batches in one backward pass.
#[test]
fn a_reward_models_gradients_are_the_same_to_the_bit() {
    for folder in families() {
        for part in PARTS {
            let model = RewardModel::from_language_model(&folder, &Device::Cpu, part, 1);
            let mut model = model.unwrap();
            let mut gradients = [Gradients::default(), Gradients::default()];
            for (index, recompute) in [false, true].into_iter().enumerate() {
                model.trunk.set_recompute(recompute);
                let scores: Vec<Tensor> = rows()
                    .chunks(2)
                    .map(|rows| {
                        let rows: Vec<Vec<u32>> =
                            rows.iter().map(|row| row.tokens.clone()).collect();
                        let batch = TokenBatch::new(&rows, 0, &Device::Cpu).unwrap();
                        let lower = model.trunk.lower(&batch).unwrap();
                        model.scores_from(&lower, &batch, Pass::Tracked).unwrap()
                    })
                    .collect();
                let scalar = Tensor::cat(&scores, 0).unwrap().sqr().unwrap();
                let store = backward(&scalar.sum_all().unwrap()).unwrap();
                let variables = model.trunk.weights().variables();
                gradients[index].add(&store, variables, 1.0).unwrap();
            }
            assert_same(&folder, &model.trunk, &gradients[0], &gradients[1]);
        }
    }
}

fn lora() -> LoraConfig {
    LoraConfig {
        rank: 3,
        ..LoraConfig::default()
    }
}

/// Draws every B, which is zero at first.
fn move_on(variables: &BTreeMap<String, Var>) {
    for (name, variable) in variables {
        if name.ends_with("lora_B.weight") {
            let mut rng = stream(1, name, 0);
            let n = variable.elem_count();
            let values: Vec<f32> = (0..n).map(|_| 0.1 * standard_normal(&mut rng)).collect();
            let values = Tensor::from_vec(values, variable.shape(), &Device::Cpu).unwrap();
            variable.set(&values).unwrap();
        }
    }
}

fn relative(found: &Tensor, wanted: &Tensor) -> f32 {
    let largest = |tensor: &Tensor| -> f32 {
        let largest = tensor.abs().unwrap().max_all().unwrap();
        largest.to_scalar().unwrap()
    };
    largest(&(found - wanted).unwrap()) / largest(wanted).max(1e-6)
}

/// Of all rows, packed into one or not, and under dropout.
fn gradients(model: &Transformer, is_packed: bool, dropout: Option<&Dropout>) -> Gradients {
    let rows = rows();
    let feed = Feed { is_packed, dropout };
    let mut gradients = Gradients::default();
    add_gradient_of(model, &rows, feed, 0, 0.1, &mut gradients).unwrap();
    gradients
}

/// Of every family: blocks that run again give the same to the bit, rows of one text or packed, with
/// dropout and without; and packing changes nothing.
#[test]
fn an_adapters_gradients_are_those_of_recomputed_and_of_packed_passes() {
    let dropout = Dropout::new(0.2, 1, 1, 0);
    let config = lora();
    let fresh = Fresh {
        config: &config,
        seed: 3,
        purpose: "test",
    };
    for folder in families() {
        let name = folder.display();
        for part in [Trainable::Everything, Trainable::UpperLayers(1)] {
            let model = Transformer::load_adapted(&folder, &Device::Cpu, part, Some(fresh));
            let mut model = model.unwrap();
            move_on(model.weights().variables());
            let names: Vec<String> = model.weights().variables().keys().cloned().collect();
            let mut found = Vec::new();
            for (is_packed, dropout) in [
                (false, None),
                (true, None),
                (false, dropout.as_ref()),
                (true, dropout.as_ref()),
            ] {
                model.set_recompute(false);
                let kept = gradients(&model, is_packed, dropout);
                model.set_recompute(true);
                let again = gradients(&model, is_packed, dropout);
                for parameter in &names {
                    let (kept, again) =
                        (kept.get(parameter).unwrap(), again.get(parameter).unwrap());
                    assert_eq!(bits(kept), bits(again), "{name}: {parameter}");
                }
                found.push(kept);
            }
            for parameter in &names {
                let [alone, packed, dropped] =
                    [0, 1, 2].map(|index: usize| found[index].get(parameter).unwrap());
                let off = relative(packed, alone);
                assert!(off < 1e-4, "{name}: {parameter} {off:e}");
                assert!(relative(dropped, alone) > 1e-2, "{name}: {parameter}");
            }
        }
    }
}

/// The pass that reads the last position alone, for several heads over an adapter.
#[test]
fn so_are_those_of_an_ensemble() {
    let shape = lora();
    for folder in families() {
        let beginning = Beginning {
            trainable: Trainable::UpperLayers(2),
            lora: Some(&shape),
            members: 3,
            seed: 3,
        };
        let mut model = RewardModel::begin(&folder, &Device::Cpu, beginning).unwrap();
        move_on(model.trunk.weights().variables());
        let rows: Vec<Vec<u32>> = rows().into_iter().map(|row| row.tokens).collect();
        let batch = TokenBatch::new(&rows, 0, &Device::Cpu).unwrap();
        let mut store = |recomputes: bool| {
            model.trunk.set_recompute(recomputes);
            let lower = model.trunk.lower(&batch).unwrap();
            let scores = model.member_scores_from(&lower, &batch, Pass::Tracked);
            let scalar = scores.unwrap().sqr().unwrap().sum_all().unwrap();
            let store = backward(&scalar).unwrap();
            let variables = model.trunk.weights().variables().iter();
            let own = variables.map(|(name, one)| (name.clone(), bits(store.get(one).unwrap())));
            own.collect::<BTreeMap<String, Vec<u32>>>()
        };
        let kept = store(false);
        assert!(kept.contains_key("score.weight") && kept.len() > 4);
        assert_eq!(kept, store(true), "{}", folder.display());
    }
}
