//! What the trainer writes, transformers loads unchanged and computes the same with. Runs
//! `check_transformers.py` with the Python that `PLACKETT_TEST_PYTHON` names, which needs torch,
//! transformers and, for adapters, peft; says so and does nothing where there is none.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[expect(dead_code, reason = "other tests use the rest")]
mod place;
#[expect(dead_code, reason = "other tests use the rest")]
mod tiny;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use candle_core::{Device, Tensor};
use place::Place;
use serde_json::{Value, json};
use tiny::Kept;
use trainer::adapter;
use trainer::checkpoint::{self, CheckpointKind, Lineage};
use trainer::config::{LoraConfig, LoraTarget};
use trainer::model::architecture::Architecture;
use trainer::model::attention::Pass;
use trainer::model::batch::TokenBatch;
use trainer::model::heads::{Beginning, RewardModel};
use trainer::model::lora::Fresh;
use trainer::model::scratch::{self, NewModel, Shape};
use trainer::model::token_log_probs;
use trainer::model::transformer::Transformer;
use trainer::model::weights::Trainable;
use trainer::records::Prompt;
use trainer::rng::{standard_normal, stream};
use trainer::text::TextCodec;
use trainer::{reward, sft};

const CASES: [(&str, &str); 3] = [
    ("why?\n\n1. say so", "the cat sat"),
    ("rank 12 dogs", "from best  to worst\n\n3"),
    ("the mat", "no"),
];
const BIAS: f64 = 0.75;

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// Writes `base` as a policy and as a reward model with a fresh head.
fn write_both(base: &Path, folder: &Path) -> (PathBuf, PathBuf) {
    let (policy, reward) = (folder.join("policy"), folder.join("reward"));
    let model = Transformer::load(base, &Device::Cpu, Trainable::UpperLayers(1)).unwrap();
    let lineage = Lineage::new(CheckpointKind::Policy);
    checkpoint::write(&policy, base, model.weights().tensors(), None, &lineage).unwrap();
    let judge =
        RewardModel::from_language_model(base, &Device::Cpu, Trainable::UpperLayers(1), 3).unwrap();
    let lineage = Lineage::new(CheckpointKind::Reward);
    let tensors = judge.trunk.weights().tensors();
    checkpoint::write(&reward, base, tensors, Some(BIAS), &lineage).unwrap();
    (policy, reward)
}

/// What every token of `row` makes likely next, `[tokens, vocabulary]`.
fn logits(model: &Transformer, row: &[u32]) -> Vec<Vec<f32>> {
    let batch = TokenBatch::new(&[row.to_vec()], 0, &Device::Cpu).unwrap();
    let hidden = model.hidden(&batch, Pass::Frozen).unwrap().get(0).unwrap();
    model.logits(&hidden).unwrap().to_vec2().unwrap()
}

/// Mean log-probability of `completion` after `prompt`.
fn mean_log_prob(model: &Transformer, prompt: &[u32], completion: &[u32]) -> f32 {
    let row = [prompt, completion].concat();
    let batch = TokenBatch::new(&[row], 0, &Device::Cpu).unwrap();
    let hidden = model.hidden(&batch, Pass::Frozen).unwrap().get(0).unwrap();
    let read = hidden
        .narrow(0, prompt.len() - 1, completion.len())
        .unwrap();
    let targets = Tensor::new(completion, &Device::Cpu).unwrap();
    let found = token_log_probs::evaluate(&read, model.head(), &targets, 1.0).unwrap();
    found.log_prob.mean_all().unwrap().to_scalar().unwrap()
}

/// Logits of every position are many numbers; they are told where the vocabulary is small.
fn numbers(policy: &Path, reward: &Path, tells_logits: bool) -> Value {
    let codec = TextCodec::load(policy).unwrap();
    let model = Transformer::load(policy, &Device::Cpu, Trainable::Nothing).unwrap();
    let judge = RewardModel::load(reward, &Device::Cpu, Trainable::Nothing).unwrap();
    let rows: Vec<Value> = CASES
        .iter()
        .map(|(prompt, text)| {
            let prompt = Prompt::Text((*prompt).to_owned());
            let prompt_ids = codec.encode_prompt(&prompt).unwrap();
            let mut completion_ids = codec.encode(text).unwrap();
            completion_ids.push(codec.eos_id);
            let row = [prompt_ids.clone(), completion_ids.clone()].concat();
            json!({
                "messages": prompt.messages(),
                "text": text,
                "log_prob": mean_log_prob(&model, &prompt_ids, &completion_ids),
                "logits": tells_logits.then(|| logits(&model, &row)),
                "score": judge.score_rows(&[row]).unwrap()[0],
                "prompt_ids": prompt_ids,
                "completion_ids": completion_ids,
            })
        })
        .collect();
    json!({"policy": policy, "reward": reward, "rows": rows})
}

/// Has Python compare what the folders hold with what we compute.
fn check(policy: &Path, reward: &Path, tells_logits: bool) {
    let Some(python) = std::env::var_os("PLACKETT_TEST_PYTHON") else {
        eprintln!("skipped: PLACKETT_TEST_PYTHON names no Python with torch and transformers");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    run(
        &python,
        folder.path(),
        &numbers(policy, reward, tells_logits),
    );
}

/// Writes the numbers into `folder` and runs the script on them.
fn run(python: &OsStr, folder: &Path, numbers: &Value) {
    let file = folder.join("numbers.json");
    std::fs::write(&file, numbers.to_string()).unwrap();
    let output = Command::new(python)
        .arg(tests().join("check_transformers.py"))
        .arg(&file)
        .output()
        .unwrap();
    let (said, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{said}{errors}");
    eprint!("{said}");
}

fn check_written(base: &Path, tells_logits: bool) {
    let folder = tempfile::tempdir().unwrap();
    let (policy, reward) = write_both(base, folder.path());
    check(&policy, &reward, tells_logits);
}

#[test]
fn a_policy_and_a_reward_model_load_in_transformers_and_compute_the_same() {
    check_written(&tests().join("fixtures/tiny"), true);
}

/// Writes an adapter on `base`, with a head or without, and what it computes there.
fn adapter_case(base: &Path, name: &str, lora: &LoraConfig, is_judge: bool, at: &Path) -> Value {
    let rows: Vec<Vec<u32>> = vec![vec![3, 9, 4, 1, 5], vec![7, 2, 6], vec![8, 8, 1, 3, 3]];
    let trainable = Trainable::UpperLayers(1);
    let fresh = Fresh {
        config: lora,
        seed: 3,
        purpose: "test",
    };
    let judge = || {
        let beginning = Beginning {
            trainable,
            lora: Some(lora),
            members: 1,
            seed: 3,
        };
        RewardModel::begin(base, &Device::Cpu, beginning).unwrap()
    };
    let judge = is_judge.then(judge);
    let model = Transformer::load_adapted(base, &Device::Cpu, trainable, Some(fresh)).unwrap();
    let trunk = judge.as_ref().map_or(&model, |judge| &judge.trunk);
    for (name, variable) in trunk.weights().variables() {
        if name.ends_with("lora_B.weight") {
            let mut rng = stream(2, name, 0);
            let n = variable.elem_count();
            let values: Vec<f32> = (0..n).map(|_| 0.3 * standard_normal(&mut rng)).collect();
            let values = Tensor::from_vec(values, variable.shape(), &Device::Cpu).unwrap();
            variable.set(&values).unwrap();
        }
    }
    std::fs::create_dir_all(at).unwrap();
    let head = judge.as_ref().map(|judge| judge.mean_head().unwrap());
    let hash = checkpoint::sha256_of_weights(base).unwrap();
    adapter::write(at, trunk.weights(), &trunk.config, head, &hash).unwrap();
    let mut case = json!({
        "name": name, "base": base, "adapter": at.join(adapter::FOLDER), "rows": rows,
    });
    match &judge {
        Some(judge) => case["scores"] = json!(judge.score_rows(&rows).unwrap()),
        None => {
            let batch = TokenBatch::new(&rows, 0, &Device::Cpu).unwrap();
            let last = batch.last(&model.hidden(&batch, Pass::Frozen).unwrap());
            let logits = model.logits(&last.unwrap()).unwrap();
            case["logits"] = json!(logits.to_vec2::<f32>().unwrap());
        }
    }
    case
}

/// Of each family, with some projections and with all, as a language model and as a reward model.
#[test]
fn peft_puts_an_adapter_on_its_base_and_computes_the_same() {
    let Some(python) = std::env::var_os("PLACKETT_TEST_PYTHON") else {
        eprintln!(
            "skipped: PLACKETT_TEST_PYTHON names no Python with torch, transformers and peft"
        );
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let some = LoraConfig {
        rank: 2,
        targets: vec![LoraTarget::Value, LoraTarget::Query, LoraTarget::Down],
        ..LoraConfig::default()
    };
    let all = LoraConfig {
        rank: 3,
        alpha: 4.5,
        ..LoraConfig::default()
    };
    let mut cases = Vec::new();
    for family in ["openai-gpt", "gpt2", "llama3", "qwen2", "qwen3"] {
        for (lora, is_judge) in [(&some, false), (&all, false), (&all, true)] {
            let base = tests().join("fixtures/families").join(family);
            let name = format!("{family}-{}-{is_judge}", lora.targets.len());
            let at = folder.path().join(&name);
            cases.push(adapter_case(&base, &name, lora, is_judge, &at));
        }
    }
    run(&python, folder.path(), &json!({"adapters": cases}));
}

#[test]
fn smollm2_loads_in_transformers_and_computes_the_same() {
    match std::env::var_os("PLACKETT_TEST_MODEL") {
        Some(folder) => check_written(Path::new(&folder), false),
        None => eprintln!("skipped: PLACKETT_TEST_MODEL names no model folder"),
    }
}

/// A new model of the family, with a tokenizer of its own.
fn write_new(folder: &Path, architecture: Architecture) {
    let root = tests().join("../..");
    let texts = scratch::read_texts(&[root.join("docs/checklist.md")]).unwrap();
    let wanted = NewModel {
        shape: Shape {
            architecture,
            layers: 2,
            hidden: 64,
            heads: 4,
            key_value_heads: (!architecture.is_gpt()).then_some(2),
            context: 128,
        },
        vocabulary: 500,
        seed: 9,
    };
    scratch::write(folder, &wanted, &texts).unwrap();
}

/// What whole runs write, for every family: demonstrations learnt, then rankings.
#[test]
fn checkpoints_of_every_family_load_in_transformers_and_compute_the_same() {
    for architecture in Architecture::ALL {
        let place = Place::new();
        let base = place.path(architecture.model_type());
        write_new(&base, architecture);
        let mut job = place.sft("sft");
        job.base = base;
        job.config.epochs = 1;
        let policy = sft::run(&job, &mut Kept::default()).unwrap().checkpoint;
        let mut job = place.reward("reward");
        job.base = policy.clone();
        job.config.epochs = 1;
        let reward = reward::run(&job, &mut Kept::default()).unwrap().checkpoint;
        eprintln!("{}", architecture.model_type());
        check(&policy, &reward, true);
    }
}

#[test]
fn a_reward_model_pads_with_another_token_than_the_one_it_reads() {
    let folder = tempfile::tempdir().unwrap();
    let (_, reward) = write_both(&tests().join("fixtures/tiny"), folder.path());
    let codec = TextCodec::load(&reward).unwrap();
    let config: Value =
        serde_json::from_slice(&std::fs::read(reward.join("config.json")).unwrap()).unwrap();
    assert_ne!(codec.pad_id, codec.eos_id);
    assert_eq!(config["pad_token_id"], json!(codec.pad_id));
}
