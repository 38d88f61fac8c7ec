//! A whole PPO-ptx update against one in plain PyTorch, from the same rollout: what the four models
//! say, rewards, advantages, three passes of losses and gradient norms, and every parameter and
//! average afterwards. `tests/fixtures/make_ppo.py` made the numbers.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde::Deserialize;

use super::episode::Episode;
use super::learn::{Learning, Rates};
use super::texts::Texts;
use super::{Learner, Models};
use crate::config::{MissingEos, PpoConfig, Preset};
use crate::model::architecture::{OUTPUT, SCORE};
use crate::model::heads::RewardModel;
use crate::model::transformer::Transformer;
use crate::model::weights::Trainable;
use crate::optim::{AdamW, Gradients, WeightAverage};
use crate::progress::Silent;
use crate::schedule::Schedule;
use crate::sft::LearningRow;
use crate::text::TextCodec;

#[derive(Deserialize)]
struct Expected {
    settings: Settings,
    families: HashMap<String, String>,
    texts: Vec<Vec<u32>>,
    steps: Vec<Step>,
    episodes: Vec<ExpectedEpisode>,
}

#[derive(Deserialize)]
struct Settings {
    inner_epochs: usize,
    temperature: f64,
    kl_coefficient: f64,
    gamma: f64,
    lam: f64,
    clip: f64,
    value_clip: f64,
    missing_eos_penalty: f64,
    ptx_coefficient: f64,
    ema_decay: f64,
    policy_rate: f64,
    value_rate: f64,
    betas: [f64; 2],
    epsilon: f64,
    max_grad_norm: f64,
}

#[derive(Deserialize)]
struct Step {
    policy_loss: f64,
    value_loss: f64,
    text_loss: f64,
    clipped: f64,
    policy_norm: f64,
    value_norm: f64,
}

#[derive(Deserialize)]
struct ExpectedEpisode {
    prompt: Vec<u32>,
    completion: Vec<u32>,
    ended: bool,
    reward: f64,
    kl: f64,
    old: Vec<f64>,
    values: Vec<f64>,
    returns: Vec<f64>,
    whitened: Vec<f64>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn family(name: &str) -> PathBuf {
    fixtures().join("families").join(name)
}

fn tensors(path: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

/// The judge's trunk with the head of its fixtures, as a folder like any other.
fn write_judge(name: &str, folder: &Path) {
    let model = Transformer::load(&family(name), &Device::Cpu, Trainable::Nothing).unwrap();
    let mut all = model.weights().tensors().clone();
    let head = &tensors(&family(name).join("expected.safetensors"))[SCORE];
    all.remove(OUTPUT);
    all.insert(SCORE.to_owned(), head.clone());
    std::fs::copy(family(name).join("config.json"), folder.join("config.json")).unwrap();
    safetensors::serialize_to_file(&all, None, &folder.join("model.safetensors")).unwrap();
}

fn config(settings: &Settings) -> PpoConfig {
    let adam = |rate: f64| crate::optim::AdamConfig {
        learning_rate: rate,
        beta1: settings.betas[0],
        beta2: settings.betas[1],
        epsilon: settings.epsilon,
        weight_decay: 0.0,
        max_grad_norm: settings.max_grad_norm,
        ..PpoConfig::preset(Preset::Tiny).policy_optimiser
    };
    PpoConfig {
        train_layers: None,
        inner_epochs: settings.inner_epochs,
        // One, so that the order of the episodes does not matter.
        minibatches: 1,
        temperature: settings.temperature,
        kl_coefficient: settings.kl_coefficient,
        gamma: settings.gamma,
        lambda: settings.lam,
        clip: settings.clip,
        value_clip: settings.value_clip,
        missing_eos: MissingEos::Subtract,
        missing_eos_penalty: settings.missing_eos_penalty,
        ptx_coefficient: settings.ptx_coefficient,
        ptx_examples_per_episode: 0.75,
        ema_decay: settings.ema_decay,
        schedule: Schedule::Constant {
            warmup: 0,
            from: 1.0,
        },
        policy_optimiser: adam(settings.policy_rate),
        value_optimiser: adam(settings.value_rate),
        ..PpoConfig::preset(Preset::Tiny)
    }
}

fn assert_near(what: &str, found: f64, wanted: f64) {
    let d = (found - wanted).abs() / wanted.abs().max(1.0);
    assert!(d < 1e-4, "{what}: {found}, PyTorch has {wanted}");
}

fn assert_all_near(what: &str, found: &[f64], wanted: &[f64]) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    for (found, wanted) in found.iter().zip(wanted) {
        assert_near(what, *found, *wanted);
    }
}

/// Every tensor of `found` within 1e-4 of the largest number that PyTorch has in it.
fn assert_tensors_near(
    kind: &str,
    found: &BTreeMap<String, Tensor>,
    wanted: &HashMap<String, Tensor>,
) {
    let prefix = format!("{kind}.");
    let n_wanted = wanted.keys().filter(|key| key.starts_with(&prefix)).count();
    assert_eq!(found.len(), n_wanted, "{kind}: {:?}", found.keys());
    for (name, tensor) in found {
        let wanted = &wanted[&format!("{prefix}{name}")];
        let relative = largest(&(tensor - wanted).unwrap()) / largest(wanted);
        assert!(relative < 1e-4, "{prefix}{name}: {relative:e}");
    }
}

/// Micro-batches of any size, and blocks that run again, included.
#[test]
fn one_update_is_that_of_pytorch() {
    for (micro_rows, recomputes) in [(super::MICRO_ROWS, false), (2, true), (1, false)] {
        assert_one_update(micro_rows, recomputes);
    }
}

/// Item 50: gradients added up over small batches, of policy and value model, are those of all
/// episodes at once.
fn assert_adds_up(learner: &Learner, episodes: &[Episode], micro_rows: usize) {
    let views: Vec<&Episode> = episodes.iter().collect();
    let added = |rows: usize| {
        let mut sums = [Gradients::default(), Gradients::default()];
        for micro in views.chunks(rows) {
            learner.policy_gradient(micro, 0.1, &mut sums[0]).unwrap();
            learner.value_gradient(micro, 0.1, &mut sums[1]).unwrap();
        }
        sums
    };
    let (parts, whole) = (added(micro_rows), added(views.len()));
    let models = [&learner.models.policy, &learner.models.value.trunk];
    for ((parts, whole), model) in parts.iter().zip(&whole).zip(models) {
        for name in model.weights().variables().keys() {
            let (part, all) = (parts.get(name).unwrap(), whole.get(name).unwrap());
            let relative = largest(&(part - all).unwrap()) / largest(all);
            assert!(relative < 1e-5, "{name}: {relative:e}");
        }
    }
}

fn largest(tensor: &Tensor) -> f32 {
    let largest = tensor.abs().unwrap().max_all().unwrap();
    largest.to_scalar().unwrap()
}

fn assert_one_update(micro_rows: usize, recomputes: bool) {
    let expected = std::fs::read(fixtures().join("ppo_update.json")).unwrap();
    let expected: Expected = serde_json::from_slice(&expected).unwrap();
    let config = config(&expected.settings);
    config.check().unwrap();

    let folder = tempfile::tempdir().unwrap();
    write_judge(&expected.families["judge"], folder.path());
    let load = |name: &str, trainable| {
        let folder = family(&expected.families[name]);
        Transformer::load(&folder, &Device::Cpu, trainable).unwrap()
    };
    let judge = |trainable| RewardModel::load(folder.path(), &Device::Cpu, trainable).unwrap();
    let mut models = Models {
        policy: load("policy", Trainable::Everything),
        reference: load("reference", Trainable::Nothing),
        reward: judge(Trainable::Nothing),
        value: judge(Trainable::Everything),
        shared: false,
    };
    models.policy.set_recompute(recomputes);
    models.value.trunk.set_recompute(recomputes);
    // Only its padding id is asked for.
    let codec = TextCodec::load(&fixtures().join("tiny")).unwrap();
    let learnt = expected
        .texts
        .iter()
        .map(|tokens| LearningRow {
            tokens: tokens.clone(),
            start: 1,
        })
        .collect();
    let held_out = Vec::new();
    let texts = Texts { learnt, held_out };
    let average = WeightAverage::new(models.policy.weights().variables(), config.ema_decay);
    let mut learner = Learner {
        policy_optimiser: AdamW::new(config.policy_optimiser.clone()),
        value_optimiser: AdamW::new(config.value_optimiser.clone()),
        average: Some(average.unwrap()),
        kl_coefficient: config.kl_coefficient,
        next_text: 0,
        best: None,
        micro_rows,
        truncate_at: None,
        config: &config,
        codec: &codec,
        models: &models,
        written: &[],
        texts: &texts,
        gold: None,
    };
    let mut episodes: Vec<Episode> = expected
        .episodes
        .iter()
        .map(|episode| Episode::new(&episode.prompt, &episode.completion, episode.ended, 2))
        .collect();
    learner.appraise(&mut episodes, &mut Silent).unwrap();
    learner.credit(&mut episodes);
    for (found, wanted) in episodes.iter().zip(&expected.episodes) {
        assert_near("reward", found.reward, wanted.reward);
        assert_near("KL", found.kl(), wanted.kl);
        assert_all_near("log-probabilities", &found.old, &wanted.old);
        assert_all_near("values", &found.values, &wanted.values);
        assert_all_near("returns", &found.returns, &wanted.returns);
        assert_all_near("advantages", &found.advantages, &wanted.whitened);
    }

    assert_adds_up(&learner, &episodes, micro_rows);
    let full = Rates {
        policy: 1.0,
        value: 1.0,
    };
    let mut learning = Learning::new(episodes);
    let learnt = learner.learn(&mut learning, 0, full, &mut Silent);
    let figures = learnt.unwrap();
    let policy = figures.policy.as_ref().unwrap();
    let mean = |pick: fn(&Step) -> f64| {
        expected.steps.iter().map(pick).sum::<f64>() / expected.steps.len() as f64
    };
    assert_near("policy loss", policy.loss, mean(|step| step.policy_loss));
    assert_near(
        "value loss",
        figures.value_loss,
        mean(|step| step.value_loss),
    );
    assert_near("policy norm", policy.norm, mean(|step| step.policy_norm));
    assert_near(
        "value norm",
        figures.value_norm,
        mean(|step| step.value_norm),
    );
    let text_loss = figures.text_loss.unwrap();
    assert_near("text loss", text_loss, mean(|step| step.text_loss));
    // The clips took part, and so did ratios other than 1 within them, or equal numbers would say
    // little about either.
    let clipped = mean(|step| step.clipped);
    assert_near("clipped share", policy.clipped_share, clipped);
    assert!(clipped > 0.05 && clipped < 0.6, "{clipped}");
    assert!(expected.steps[1].clipped < 0.9);
    assert!(figures.clipped_values_share > 0.0);

    let wanted = tensors(&fixtures().join("ppo_update.safetensors"));
    let trained = models.policy.weights().tensors().clone();
    assert_tensors_near("policy", &trained, &wanted);
    let trained = models.value.trunk.weights().tensors().clone();
    assert_tensors_near("value", &trained, &wanted);
    learner
        .average
        .unwrap()
        .adopt(models.policy.weights().variables())
        .unwrap();
    let averaged = models.policy.weights().tensors().clone();
    assert_tensors_near("average", &averaged, &wanted);
}
