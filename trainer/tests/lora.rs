//! Low-rank adapters: what they compute and learn, how they are written and read, and whole runs
//! with them and with ensembles of reward heads.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[expect(dead_code, reason = "other tests use the rest")]
mod place;
mod tiny;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor, Var};
use place::Place;
use tiny::Kept;
use trainer::adapter;
use trainer::checkpoint::{self, CheckpointKind, Lineage, sha256_of_weights};
use trainer::config::{EnsembleScore, LoraConfig, LoraTarget};
use trainer::gguf::Numbers;
use trainer::model::architecture::SCORE;
use trainer::model::attention::Pass;
use trainer::model::batch::TokenBatch;
use trainer::model::ensemble::Members;
use trainer::model::heads::{Beginning, RewardModel};
use trainer::model::lora::{Adapter, Fresh, is_adapter, names};
use trainer::model::transformer::Transformer;
use trainer::model::weights::{Trainable, Weights};
use trainer::ppo::Gold;
use trainer::progress::Event;
use trainer::rng::{standard_normal, stream};
use trainer::{ppo, reward, sft};

const FAMILIES: [&str; 5] = ["openai-gpt", "gpt2", "llama3", "qwen2", "qwen3"];

fn family(name: &str) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    fixtures.join("families").join(name)
}

fn rows() -> Vec<Vec<u32>> {
    vec![
        vec![3, 9, 4, 1, 5],
        vec![7, 2, 6],
        vec![8, 8, 1, 0, 2, 3, 4],
    ]
}

fn lora(rank: usize) -> LoraConfig {
    LoraConfig {
        rank,
        ..LoraConfig::default()
    }
}

/// A judge that learns by an adapter, which has moved away from where it began.
fn judge(folder: &Path, lora: &LoraConfig, trainable: Trainable) -> RewardModel {
    let beginning = Beginning {
        trainable,
        lora: Some(lora),
        members: 1,
        seed: 3,
    };
    let model = RewardModel::begin(folder, &Device::Cpu, beginning).unwrap();
    move_on(model.trunk.weights().variables());
    model
}

/// Draws every B.
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

fn language_model(folder: &Path, lora: &LoraConfig, trainable: Trainable) -> Transformer {
    let fresh = Fresh {
        config: lora,
        seed: 3,
        purpose: "test",
    };
    Transformer::load_adapted(folder, &Device::Cpu, trainable, Some(fresh)).unwrap()
}

fn merged(model: &Transformer, trainable: Trainable) -> Transformer {
    let weights = Weights::from_tensors(model.weights().merged().unwrap());
    Transformer::from_weights(model.config.clone(), weights, &Device::Cpu, trainable).unwrap()
}

fn hidden(model: &Transformer, pass: Pass) -> Tensor {
    let batch = TokenBatch::new(&rows(), 0, &Device::Cpu).unwrap();
    model.hidden(&batch, pass).unwrap()
}

/// The outputs times drawn numbers: what is made a loss by its sum. (Their squares would hardly do,
/// since a norm comes last.)
fn projected(model: &Transformer) -> Tensor {
    let hidden = hidden(model, Pass::Tracked);
    let mut rng = stream(9, "projection", 0);
    let n = hidden.elem_count();
    let values: Vec<f32> = (0..n).map(|_| standard_normal(&mut rng)).collect();
    let projection = Tensor::from_vec(values, hidden.shape(), &Device::Cpu).unwrap();
    (hidden * projection).unwrap()
}

fn largest(tensor: &Tensor) -> f32 {
    let largest = tensor.abs().unwrap().max_all().unwrap();
    largest.to_scalar().unwrap()
}

fn relative(found: &Tensor, wanted: &Tensor) -> f32 {
    largest(&(found - wanted).unwrap()) / largest(wanted).max(1e-6)
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    let numbers: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
    numbers.into_iter().map(f32::to_bits).collect()
}

#[test]
fn a_fresh_adapter_changes_nothing_and_a_trained_one_is_its_merged_weights() {
    for name in FAMILIES {
        let base = Transformer::load(&family(name), &Device::Cpu, Trainable::Nothing).unwrap();
        let model = language_model(&family(name), &lora(3), Trainable::Everything);
        for pass in [Pass::Frozen, Pass::Tracked] {
            let (ours, theirs) = (hidden(&model, pass), hidden(&base, pass));
            assert_eq!(
                ours.to_vec3::<f32>().unwrap(),
                theirs.to_vec3::<f32>().unwrap()
            );
        }
        // As long as B is zero, so is the gradient by A: the check of a run opens B for a moment.
        let gradients = projected(&model).sum_all().unwrap().backward().unwrap();
        for (key, variable) in model.weights().variables() {
            let is_inner = key.ends_with("lora_A.weight");
            let slope = largest(gradients.get(variable).unwrap());
            assert_eq!(slope == 0.0, is_inner, "{name}: {key} {slope:e}");
        }
        move_on(model.weights().variables());
        let away = relative(&hidden(&model, Pass::Frozen), &hidden(&base, Pass::Frozen));
        assert!(away > 1e-2, "{name}: the adapter does nothing, {away:e}");
        let whole = merged(&model, Trainable::Nothing);
        for pass in [Pass::Frozen, Pass::Tracked] {
            let d = relative(&hidden(&model, pass), &hidden(&whole, pass));
            assert!(d < 1e-5, "{name}: {d:e}");
        }
    }
}

/// The gradient by the merged weight W, which PyTorch agrees with (tests/families.rs), gives those
/// by A and B: s B^T G and s G A^T.
#[test]
fn gradients_are_those_of_the_merged_weights_and_the_base_has_none() {
    for name in FAMILIES {
        let lora = lora(3);
        let model = language_model(&family(name), &lora, Trainable::Everything);
        move_on(model.weights().variables());
        let whole = merged(&model, Trainable::Everything);
        let gradients =
            |model: &Transformer| projected(model).sum_all().unwrap().backward().unwrap();
        let (ours, by_whole) = (gradients(&model), gradients(&whole));
        let mut n = 0;
        for (weight, variable) in whole.weights().variables() {
            let [inner, outer] = names(weight.strip_suffix(".weight").unwrap_or(weight));
            let Some(a) = model.weights().variables().get(&inner) else {
                continue;
            };
            let b = &model.weights().variables()[&outer];
            let slope = (by_whole.get(variable).unwrap() * lora.scale()).unwrap();
            let by_a = b.t().unwrap().matmul(&slope).unwrap();
            let by_b = slope.matmul(&a.t().unwrap()).unwrap();
            for (found, wanted) in [(a, by_a), (b, by_b)] {
                let d = relative(ours.get(found).unwrap(), &wanted);
                assert!(d < 1e-4, "{name}, {weight}: {d:e}");
            }
            n += 2;
        }
        assert_eq!(n, model.weights().variables().len(), "{name}");
        assert!(
            model
                .weights()
                .variables()
                .keys()
                .all(|name| is_adapter(name))
        );
        for (name, tensor) in model.weights().tensors() {
            if !is_adapter(name) {
                assert!(
                    ours.get(tensor).is_none(),
                    "a gradient by {name} was computed"
                );
            }
        }
    }
}

#[test]
fn an_adapter_and_its_gradient_agree_with_finite_differences_through_the_network() {
    let model = language_model(&family("llama3"), &lora(2), Trainable::UpperLayers(1));
    let variables = model.weights().variables();
    move_on(variables);
    let gradients = projected(&model).sum_all().unwrap().backward().unwrap();
    let value = || {
        let numbers: Vec<f32> = projected(&model).flatten_all().unwrap().to_vec1().unwrap();
        numbers.into_iter().map(f64::from).sum::<f64>()
    };
    for (name, variable) in variables {
        let gradient = gradients.get(variable).unwrap();
        let norm = gradient.sqr().unwrap().sum_all().unwrap();
        let norm = f64::from(norm.to_scalar::<f32>().unwrap()).sqrt();
        // Along the gradient itself, where the slope is its norm.
        let before = variable.as_tensor().copy().unwrap();
        let direction = (gradient / norm).unwrap();
        let at = |step: f64| {
            let moved = (&before + (&direction * step).unwrap()).unwrap();
            variable.set(&moved).unwrap();
            value()
        };
        let slope = (at(1e-2) - at(-1e-2)) / 2e-2;
        variable.set(&before).unwrap();
        assert!(
            (slope / norm - 1.0).abs() < 2e-2,
            "{name}: {slope} and {norm}"
        );
    }
}

fn write_judge(base: &Path, model: &RewardModel, place: &Path) {
    let lineage = Lineage::new(CheckpointKind::Reward);
    let (weights, hash) = (model.trunk.weights(), sha256_of_weights(base).unwrap());
    let tensors = weights.merged().unwrap();
    let head = model.mean_head().unwrap();
    checkpoint::write_with(place, base, &tensors, Some(0.25), &lineage, |folder| {
        adapter::write(folder, weights, &model.trunk.config, Some(head), &hash)
    })
    .unwrap();
}

/// Item 11 of the checklist: with an adapter the head is saved too, and scores come back to the bit
/// once both are on the same base again; on another base they are not put.
#[test]
fn adapter_and_head_on_their_base_give_the_same_scores_to_the_bit() {
    let place = Place::new();
    let only_some = LoraConfig {
        targets: vec![LoraTarget::Value, LoraTarget::Query, LoraTarget::Down],
        ..lora(2)
    };
    let base = place.path("base");
    for (index, (shape, trainable)) in [
        (lora(4), Trainable::Everything),
        (lora(4), Trainable::UpperLayers(1)),
        (only_some, Trainable::Everything),
    ]
    .iter()
    .enumerate()
    {
        let mut model = judge(&base, shape, *trainable);
        model.bias = 0.25;
        let folder = place.path(&format!("judge-{index}"));
        write_judge(&base, &model, &folder);
        let wanted = model.score_rows(&rows()).unwrap();
        let on = Transformer::load(&base, &Device::Cpu, Trainable::Nothing).unwrap();
        let found = adapter::read_for_folder(&folder, &base).unwrap().unwrap();
        let again = RewardModel::on_base(&on, &found, 0.25, Trainable::Nothing).unwrap();
        let scores = again.score_rows(&rows()).unwrap();
        assert_eq!(
            scores
                .iter()
                .map(|score| score.to_bits())
                .collect::<Vec<_>>(),
            wanted
                .iter()
                .map(|score| score.to_bits())
                .collect::<Vec<_>>()
        );
        let whole = RewardModel::load(&folder, &Device::Cpu, Trainable::Nothing).unwrap();
        for (merged, wanted) in whole.score_rows(&rows()).unwrap().iter().zip(&wanted) {
            assert!((merged - wanted).abs() < 1e-5, "{merged} {wanted}");
        }
        let other = adapter::read_for(&folder, "another hash", &on.config).unwrap();
        assert!(other.is_none());
    }
}

/// GPT keeps queries, keys and values as one, and so does PEFT's adapter of it.
#[test]
fn every_familys_adapter_is_read_as_it_was_written() {
    let some = LoraConfig {
        targets: vec![LoraTarget::Value, LoraTarget::Query, LoraTarget::Up],
        ..lora(3)
    };
    for name in FAMILIES {
        for shape in [lora(3), some.clone()] {
            let model = language_model(&family(name), &shape, Trainable::UpperLayers(1));
            move_on(model.weights().variables());
            let folder = tempfile::tempdir().unwrap();
            adapter::write(folder.path(), model.weights(), &model.config, None, "x").unwrap();
            let found = adapter::read_for(folder.path(), "x", &model.config);
            let (found, wanted) = (
                found.unwrap().unwrap(),
                Adapter::of(model.weights()).unwrap(),
            );
            assert_eq!(found.config, wanted.config);
            let (ours, theirs) = (found.tensors.keys(), wanted.tensors.keys());
            assert_eq!(
                ours.collect::<Vec<_>>(),
                theirs.collect::<Vec<_>>(),
                "{name}"
            );
            for (key, tensor) in &wanted.tensors {
                assert_eq!(bits(&found.tensors[key]), bits(tensor), "{name}: {key}");
            }
        }
    }
}

#[test]
fn a_shape_that_does_not_fit_is_refused_in_a_sentence() {
    let place = Place::new();
    let mut job = place.sft("sft");
    job.config.lora = Some(lora(17));
    let error = sft::run(&job, &mut Kept::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("lora.rank: is 17"), "{error}");
    let gate = LoraConfig {
        targets: vec![LoraTarget::Gate],
        ..lora(2)
    };
    let fresh = Fresh {
        config: &gate,
        seed: 1,
        purpose: "test",
    };
    let everything = Trainable::Everything;
    let error = Transformer::load_adapted(&family("gpt2"), &Device::Cpu, everything, Some(fresh));
    let error = error.err().unwrap().to_string();
    assert!(error.contains("lora.targets"), "{error}");
    job.config.lora = Some(LoraConfig {
        targets: vec![LoraTarget::Key, LoraTarget::Key],
        ..lora(2)
    });
    let error = job.config.check().unwrap_err().to_string();
    assert!(error.contains("lora.targets"), "{error}");
}

fn tensors(path: &Path) -> BTreeMap<String, Tensor> {
    let all = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    all.into_iter().collect()
}

#[test]
fn fine_tuning_by_an_adapter_lowers_the_held_out_loss_and_keeps_the_rest() {
    let place = Place::new();
    let mut job = place.sft("sft");
    job.config.epochs = 20;
    job.config.optimiser.learning_rate = 1e-2;
    job.config.lora = Some(lora(4));
    let mut progress = Kept::default();
    let made = sft::run(&job, &mut progress).unwrap();
    let losses = ["held_out_loss_before", "held_out_loss"].map(|key| made.summary[key]);
    assert!(losses[1] < 0.75 * losses[0], "{losses:?}");
    assert!(progress.checks().iter().all(|(_, passed)| *passed));
    let before = tensors(&place.path("base/model.safetensors"));
    let after = tensors(&made.checkpoint.join("model.safetensors"));
    for (name, tensor) in &before {
        let is_adapted = name.contains("_proj");
        assert_eq!(bits(tensor) != bits(&after[name]), is_adapted, "{name}");
    }
    // What transformers reads is the base with the adapter on.
    let imported = trainer::hub::import(&made.checkpoint, None, &place.path("models")).unwrap();
    let adapter = adapter::read_for_folder(&imported, &job.base)
        .unwrap()
        .unwrap();
    let base = Transformer::load(&job.base, &Device::Cpu, Trainable::Nothing).unwrap();
    let mut weights = base.weights().base().unwrap();
    weights.put_on(&adapter);
    let shape = base.config;
    let on = Transformer::from_weights(shape, weights, &Device::Cpu, Trainable::Nothing).unwrap();
    let whole = Transformer::load(&made.checkpoint, &Device::Cpu, Trainable::Nothing).unwrap();
    let d = relative(&hidden(&on, Pass::Frozen), &hidden(&whole, Pass::Frozen));
    assert!(d < 1e-5, "{d:e}");

    // (From a GGUF file, see tests/gguf.rs.) The adapter by itself is no model.
    let alone = made.checkpoint.join(adapter::FOLDER);
    let error = trainer::gguf::export(&alone, &place.path("alone.gguf"), Numbers::F32);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("an adapter without its base"), "{error}");
}

/// A judge by an adapter on `base`, of so many members.
fn trained_judge(place: &Place, base: &Path, members: usize, out: &str) -> PathBuf {
    let mut job = place.reward(out);
    job.base = base.to_owned();
    job.config.epochs = 6;
    job.config.lora = Some(lora(4));
    job.config.members = members;
    job.config.optimiser.learning_rate = 1e-2;
    let made = reward::run(&job, &mut Kept::default()).unwrap();
    let accuracy = made.summary["held_out_accuracy"];
    assert!(accuracy > 0.75, "{:?}", made.summary);
    made.checkpoint
}

fn says(progress: &Kept, words: &str) -> bool {
    let mut events = progress.events.iter();
    events.any(|event| matches!(event, Event::Log { message } if message.contains(words)))
}

/// The policy's base is itself a fine-tuned checkpoint, and the judge was trained on it.
#[test]
fn ppo_by_adapters_over_one_base_raises_the_reward() {
    let place = Place::new();
    let mut first = place.sft("sft");
    first.config.lora = Some(lora(4));
    let base = sft::run(&first, &mut Kept::default()).unwrap().checkpoint;
    let judge = trained_judge(&place, &base, 1, "judge");
    let mut job = place.ppo(&judge, "ppo");
    job.base = base;
    job.gold = Some(Gold::Model(place.trained_reward("gold")));
    job.config.recompute_activations = true;
    job.config.iterations = 25;
    job.config.batch_episodes = 32;
    job.config.evaluation_prompts = 12;
    job.config.policy_optimiser.learning_rate = 5e-3;
    job.config.value_optimiser.learning_rate = 5e-3;
    job.config.lora = Some(lora(4));
    let mut progress = Kept::default();
    let made = ppo::run(&job, &mut progress).unwrap();
    let gain = made.summary["reward_gain"];
    assert!(gain > 0.5, "{:?}", made.summary);
    assert!(made.summary["kl_last_batch"] > 0.0);
    let [gold, own] = ["objective/gold", "objective/score"].map(|name| progress.metric(name));
    assert!(gold.len() > 10 && gold.len() == own.len());
    let checks = progress.checks();
    assert!(checks.iter().all(|(_, passed)| *passed), "{checks:?}");
    assert!(says(&progress, "over one base"), "{:?}", progress.events);
    let on = adapter::read_for_folder(&made.checkpoint, &job.base).unwrap();
    assert!(on.is_some());
    Transformer::load(&made.checkpoint, &Device::Cpu, Trainable::Nothing).unwrap();
}

#[test]
fn ppo_by_adapters_takes_a_judge_from_elsewhere_at_the_price_of_a_second_base() {
    let place = Place::new();
    let judge = place.trained_reward("judge");
    let mut job = place.ppo(&judge, "ppo");
    job.config.lora = Some(lora(4));
    job.config.train_layers = Some(1);
    let mut progress = Kept::default();
    ppo::run(&job, &mut progress).unwrap();
    assert!(progress.checks().iter().all(|(_, passed)| *passed));
    assert!(says(&progress, "over 2 bases"), "{:?}", progress.events);
    assert!(!says(&progress, "belongs on other weights"));

    // One that was trained by an adapter, on another base.
    let mut first = place.sft("sft");
    first.config.epochs = 1;
    job.base = sft::run(&first, &mut Kept::default()).unwrap().checkpoint;
    job.reward = trained_judge(&place, &place.path("base"), 1, "adapted");
    job.out = place.path("ppo-2");
    let mut progress = Kept::default();
    ppo::run(&job, &mut progress).unwrap();
    assert!(says(&progress, "over 2 bases") && says(&progress, "belongs on other weights"));
}

#[test]
fn an_ensembles_checkpoint_scores_the_mean_of_its_members() {
    let place = Place::new();
    let mut job = place.reward("judge");
    job.config.members = 3;
    let mut progress = Kept::default();
    let made = reward::run(&job, &mut progress).unwrap();
    assert!(
        made.summary["held_out_accuracy"] > 0.8,
        "{:?}",
        made.summary
    );
    assert!(progress.checks().iter().all(|(_, passed)| *passed));
    if let Some(area) = made.summary.get("disagreement_area") {
        let ends = ["low", "high"].map(|end| made.summary[&format!("disagreement_area_{end}")]);
        assert!((0.0..=1.0).contains(area) && ends[0] <= *area && *area <= ends[1]);
    } else {
        assert!(says(&progress, "nothing to tell apart"));
    }
    let single = RewardModel::load(&made.checkpoint, &Device::Cpu, Trainable::Nothing).unwrap();
    let all = RewardModel::load_members(&made.checkpoint, &Device::Cpu).unwrap();
    assert_eq!((single.n_members(), all.n_members()), (1, 3));
    let single_scores = single.score_rows(&rows()).unwrap();
    assert_eq!(all.score_rows(&rows()).unwrap(), single_scores);
    let batch = TokenBatch::new(&rows(), 0, &Device::Cpu).unwrap();
    let hidden = all.trunk.hidden(&batch, Pass::Frozen).unwrap();
    let members: Vec<Vec<f32>> = all
        .member_scores(&hidden, &batch)
        .unwrap()
        .to_vec2()
        .unwrap();
    let told = all.score_rows_with_deviation(&rows()).unwrap();
    for ((own, score), (_, deviation)) in members.iter().zip(&single_scores).zip(told) {
        let mean = own.iter().sum::<f32>() / 3.0;
        assert!((mean - score).abs() < 1e-5, "{own:?} {score}");
        let squares = own.iter().map(|x| (x - mean).powi(2)).sum::<f32>();
        let wanted = f64::from((squares / 3.0).sqrt());
        assert!(deviation > 0.0 && (deviation - wanted).abs() < 1e-5);
    }
    // Other seeds, other draws: no two heads are alike.
    let width = all.trunk.config.hidden_size;
    let found = Members::read(&made.checkpoint, width, &Device::Cpu)
        .unwrap()
        .unwrap();
    let mean = found.heads.mean_keepdim(0).unwrap();
    let written = tensors(&made.checkpoint.join("model.safetensors"));
    assert_eq!(bits(&mean), bits(&written[SCORE]));
    let head = |member: usize| found.heads.get(member).unwrap();
    assert!(relative(&head(0), &head(1)) > 0.1 && relative(&head(1), &head(2)) > 0.1);
}

#[test]
fn ppo_takes_the_lowest_score_of_an_ensemble_and_refuses_to_without_one() {
    let place = Place::new();
    let base = place.path("base");
    let judge = trained_judge(&place, &base, 3, "judge");
    let score = |ensemble: EnsembleScore, out: &str| {
        let mut job = place.ppo(&judge, out);
        job.config.lora = Some(lora(4));
        job.config.ensemble = ensemble;
        let mut progress = Kept::default();
        ppo::run(&job, &mut progress).unwrap();
        assert!(progress.checks().iter().all(|(_, passed)| *passed));
        assert!(progress.metric("objective/member_deviation")[0] > 0.0);
        progress.metric("objective/score")[0]
    };
    // The first batch is the same, since nothing has been learnt.
    let mean = score(EnsembleScore::Mean, "mean");
    let worst = score(EnsembleScore::Worst, "worst");
    let careful = score(EnsembleScore::Uncertainty { weight: 2.0 }, "careful");
    assert!(worst < mean && careful < mean, "{mean} {worst} {careful}");

    let mut job = place.ppo(&place.trained_reward("single"), "refused");
    job.config.ensemble = EnsembleScore::Worst;
    let error = ppo::run(&job, &mut Kept::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("setting ensemble"), "{error}");
}
