//! Passes that keep only each block's input give the gradients of passes that keep everything, to
//! the bit, on every family of networks.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use trainer::model::attention::Pass;
use trainer::model::batch::TokenBatch;
use trainer::model::heads::RewardModel;
use trainer::model::recompute;
use trainer::model::transformer::Transformer;
use trainer::model::weights::Trainable;
use trainer::optim::Gradients;
use trainer::sft::{LearningRow, add_gradient};

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
                let store = recompute::backward(&scalar.sum_all().unwrap()).unwrap();
                let variables = model.trunk.weights().variables();
                gradients[index].add(&store, variables, 1.0).unwrap();
            }
            assert_same(&folder, &model.trunk, &gradients[0], &gradients[1]);
        }
    }
}
