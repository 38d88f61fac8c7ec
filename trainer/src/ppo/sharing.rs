//! With adapters, four models over one base: what they share, what that saves, and that it changes
//! nothing.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

use super::episode::Episode;
use super::learn::{Learning, Rates};
use super::models::load_models;
use super::texts::Texts;
use super::{Learner, Models, PpoJob};
use crate::adapter;
use crate::checkpoint::{self, CheckpointKind, Lineage, sha256_of_weights};
use crate::config::{LoraConfig, PpoConfig, Preset};
use crate::model::architecture::SCORE;
use crate::model::heads::{Beginning, RewardModel};
use crate::model::lora::{Fresh, is_adapter};
use crate::model::transformer::Transformer;
use crate::model::weights::{Trainable, Weights, address};
use crate::optim::AdamW;
use crate::progress::Silent;
use crate::rng::{standard_normal, stream};
use crate::savepoint::SavePolicy;
use crate::text::TextCodec;

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny")
}

/// A judge by an adapter on the tiny model that has learnt something, in `folder`.
fn write_judge(folder: &Path, lora: &LoraConfig) {
    let beginning = Beginning {
        trainable: Trainable::UpperLayers(2),
        lora: Some(lora),
        members: 1,
        seed: 5,
    };
    let model = RewardModel::begin(&tiny(), &Device::Cpu, beginning).unwrap();
    let weights = model.trunk.weights();
    for (name, variable) in weights.variables() {
        let mut rng = stream(6, name, 0);
        let n = variable.elem_count();
        let values: Vec<f32> = (0..n).map(|_| 0.1 * standard_normal(&mut rng)).collect();
        let values = Tensor::from_vec(values, variable.shape(), &Device::Cpu).unwrap();
        variable.set(&values).unwrap();
    }
    let (base, head) = (
        sha256_of_weights(&tiny()).unwrap(),
        model.mean_head().unwrap(),
    );
    let lineage = Lineage::new(CheckpointKind::Reward);
    let tensors = weights.merged().unwrap();
    checkpoint::write_with(folder, &tiny(), &tensors, Some(0.5), &lineage, |folder| {
        adapter::write(folder, weights, &model.trunk.config, Some(head), &base)
    })
    .unwrap();
}

fn job(reward: PathBuf, lora: LoraConfig, train_layers: Option<usize>) -> PpoJob {
    PpoJob {
        config: PpoConfig {
            lora: Some(lora),
            train_layers,
            inner_epochs: 3,
            ..PpoConfig::preset(Preset::Tiny)
        },
        prompts: PathBuf::new(),
        texts: None,
        base: tiny(),
        reward,
        gold: None,
        out: PathBuf::new(),
        saving: SavePolicy::default(),
    }
}

/// The same four models, each with a base of its own.
fn apart(job: &PpoJob) -> Models {
    let trainable = job.config.trainable();
    let base = || Transformer::load(&tiny(), &Device::Cpu, Trainable::Nothing).unwrap();
    let fresh = Fresh {
        config: job.config.lora.as_ref().unwrap(),
        seed: job.config.seed,
        purpose: "policy adapter",
    };
    let own = adapter::read_for_folder(&job.reward, &tiny())
        .unwrap()
        .unwrap();
    let judge = |trainable| RewardModel::on_base(&base(), &own, 0.5, trainable).unwrap();
    Models {
        policy: Transformer::load_adapted(&tiny(), &Device::Cpu, trainable, Some(fresh)).unwrap(),
        reference: base(),
        reward: judge(Trainable::Nothing),
        value: judge(trainable),
        shared: false,
    }
}

/// What an update makes of both learning models, and what was said of the episodes before it.
fn update(job: &PpoJob, models: &Models) -> (BTreeMap<String, Vec<f32>>, Vec<Vec<f64>>) {
    let codec = TextCodec::load(&tiny()).unwrap();
    let texts = Texts {
        learnt: Vec::new(),
        held_out: Vec::new(),
    };
    let mut learner = Learner {
        policy_optimiser: AdamW::new(job.config.policy_optimiser.clone()),
        value_optimiser: AdamW::new(job.config.value_optimiser.clone()),
        average: None,
        kl_coefficient: job.config.kl_coefficient,
        next_text: 0,
        best: None,
        micro_rows: super::MICRO_ROWS,
        truncate_at: None,
        config: &job.config,
        codec: &codec,
        models,
        written: &[],
        texts: &texts,
        gold: None,
    };
    let mut episodes = vec![
        Episode::new(&[5, 9, 20], &[7, 30, 2], true, 2),
        Episode::new(&[8, 44], &[12, 13, 14, 15], false, 2),
        Episode::new(&[3, 3, 60, 61], &[99, 2], true, 2),
    ];
    learner.appraise(&mut episodes, &mut Silent).unwrap();
    let said = episodes.iter().map(|episode| {
        let lists = [&episode.old, &episode.reference, &episode.values];
        let mut all: Vec<f64> = lists.into_iter().flatten().copied().collect();
        all.push(episode.reward);
        all
    });
    let said = said.collect();
    learner.credit(&mut episodes);
    let full = Rates {
        policy: 1.0,
        value: 1.0,
    };
    let mut learning = Learning::new(episodes);
    learner.learn(&mut learning, 0, full, &mut Silent).unwrap();
    let all = [
        ("policy", models.policy.weights()),
        ("value", models.value.trunk.weights()),
    ];
    let learnt = all.into_iter().flat_map(|(model, weights)| {
        weights.variables().iter().map(move |(name, variable)| {
            let numbers = variable.flatten_all().unwrap().to_vec1().unwrap();
            (format!("{model} {name}"), numbers)
        })
    });
    (learnt.collect(), said)
}

fn numbers_of(weights: &Weights, is_wanted: impl Fn(&str) -> bool) -> usize {
    let wanted = weights.tensors().iter().filter(|(name, _)| is_wanted(name));
    wanted.map(|(_, tensor)| tensor.elem_count()).sum()
}

#[test]
fn one_base_serves_four_models_with_the_bits_of_four_bases() {
    let folder = tempfile::tempdir().unwrap();
    let lora = LoraConfig {
        rank: 4,
        ..LoraConfig::default()
    };
    let reward = folder.path().join("judge");
    write_judge(&reward, &lora);
    for (train_layers, runs_once) in [(None, false), (Some(1), false), (Some(2), true)] {
        let job = job(reward.clone(), lora.clone(), train_layers);
        let models = load_models(&job, &TextCodec::load(&tiny()).unwrap(), false).unwrap();
        // With adapters of the judge below what is trained, the lower blocks differ.
        assert_eq!(models.shared, runs_once, "{train_layers:?}");

        // The same storage, not copies.
        let base = models.policy.weights();
        let others = [
            models.reference.weights(),
            models.reward.trunk.weights(),
            models.value.trunk.weights(),
        ];
        let mut n_shared = 0;
        for (name, tensor) in base.tensors().iter().filter(|(name, _)| !is_adapter(name)) {
            for other in others {
                assert_eq!(address(tensor), address(&other.tensors()[name]), "{name}");
                n_shared += 1;
            }
        }
        assert!(n_shared > 60, "{n_shared}");
        assert_eq!(models.bases(), 1);
        // What learns is the value model's own.
        for (name, variable) in models.value.trunk.weights().variables() {
            let theirs = &models.reward.trunk.weights().tensors()[name];
            assert_ne!(address(variable), address(theirs), "{name}");
        }

        // One base, an adapter for the policy, two for the judges; what of the judge's the value
        // model does not train, both have in common.
        let wanted = numbers_of(base, |_| true)
            + numbers_of(others[1], |name| is_adapter(name) || name == SCORE)
            + numbers_of(others[2], |name| {
                models.value.trunk.weights().variables().contains_key(name)
            });
        assert_eq!(models.bytes(), wanted * size_of::<f32>());

        let separate = apart(&job);
        assert_eq!(separate.bases(), 4);
        assert!(
            separate.bytes() > 3 * models.bytes(),
            "{}",
            separate.bytes()
        );
        let (learnt, said) = update(&job, &models);
        let (learnt_apart, said_apart) = update(&job, &separate);
        assert_eq!(said, said_apart);
        assert_eq!(learnt, learnt_apart);

        // The merged checkpoint, as another program would read it, says the same of the episodes.
        let whole = RewardModel::load(&reward, &Device::Cpu, Trainable::Nothing).unwrap();
        let row = vec![vec![5, 9, 20, 7, 30, 2]];
        let (merged, ours) = (
            whole.score_rows(&row).unwrap()[0],
            models.reward.score_rows(&row).unwrap()[0],
        );
        assert!((merged - ours).abs() < 1e-5, "{merged} {ours}");
    }
}
