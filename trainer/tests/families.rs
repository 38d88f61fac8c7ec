//! Every family of networks against transformers and PyTorch: the same logits, loss, gradients,
//! scores and greedy completions from folders as transformers writes them, and back to the same
//! folders. `fixtures/make_families.py` made the numbers.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde::Deserialize;
use trainer::checkpoint::{self, CheckpointKind, Lineage};
use trainer::generate::{SampleRequest, generate};
use trainer::model::attention::Pass;
use trainer::model::batch::TokenBatch;
use trainer::model::heads::RewardModel;
use trainer::model::transformer::Transformer;
use trainer::model::weights::{self, Trainable};
use trainer::sampling::SamplingConfig;

const FAMILIES: [&str; 6] = [
    "openai-gpt",
    "gpt2",
    "llama3",
    "llama-linear",
    "qwen2",
    "qwen3",
];

#[derive(Deserialize)]
struct Expected {
    rows: Vec<Vec<u32>>,
    loss: f64,
    scores: Vec<f32>,
    greedy: Vec<Vec<u32>>,
}

/// A family's folder with what transformers computes on it.
struct Family {
    folder: PathBuf,
    expected: Expected,
    tensors: HashMap<String, Tensor>,
}

impl Family {
    fn load(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures/families")
            .join(name);
        let expected = std::fs::read(folder.join("expected.json")).unwrap();
        Self {
            expected: serde_json::from_slice(&expected).unwrap(),
            tensors: candle_core::safetensors::load(
                folder.join("expected.safetensors"),
                &Device::Cpu,
            )
            .unwrap(),
            folder,
        }
    }

    fn model(&self, trainable: Trainable) -> Transformer {
        Transformer::load(&self.folder, &Device::Cpu, trainable).unwrap()
    }
}

fn largest(tensor: &Tensor) -> f32 {
    let largest = tensor.abs().unwrap().max_all().unwrap();
    largest.to_scalar().unwrap()
}

fn distance(a: &Tensor, b: &Tensor) -> f32 {
    largest(&(a - b).unwrap())
}

fn batch(rows: &[Vec<u32>]) -> TokenBatch {
    TokenBatch::new(rows, 0, &Device::Cpu).unwrap()
}

#[test]
fn logits_are_those_of_transformers() {
    for name in FAMILIES {
        let family = Family::load(name);
        let rows = &family.expected.rows;
        for pass in [Pass::Frozen, Pass::Tracked] {
            let model = family.model(Trainable::Everything);
            let hidden = model.hidden(&batch(rows), pass).unwrap();
            for (index, row) in rows.iter().enumerate() {
                let hidden = hidden.get(index).unwrap().narrow(0, 0, row.len()).unwrap();
                let logits = model.logits(&hidden).unwrap();
                let d = distance(&logits, &family.tensors[&format!("logits.{index}")]);
                assert!(d < 1e-4, "{name}, {pass:?}, row {index}: {d:e}");
            }
        }
    }
}

/// Mean negative log-likelihood of every token after the first of its row.
fn loss(model: &Transformer, rows: &[Vec<u32>]) -> Tensor {
    let hidden = model.hidden(&batch(rows), Pass::Tracked).unwrap();
    let mut losses = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let hidden = hidden.get(index).unwrap();
        let seen = hidden.narrow(0, 0, row.len() - 1).unwrap();
        let log_probs = candle_nn::ops::log_softmax(&model.logits(&seen).unwrap(), 1).unwrap();
        let targets = Tensor::new(&row[1..], &Device::Cpu).unwrap();
        let targets = targets.unsqueeze(1).unwrap();
        losses.push(log_probs.gather(&targets, 1).unwrap());
    }
    let all = Tensor::cat(&losses, 0).unwrap();
    all.mean_all().unwrap().neg().unwrap()
}

#[test]
fn loss_and_every_gradient_are_those_of_pytorch() {
    for name in FAMILIES {
        let family = Family::load(name);
        let model = family.model(Trainable::Everything);
        let loss = loss(&model, &family.expected.rows);
        let found = f64::from(loss.to_scalar::<f32>().unwrap());
        let d = (found - family.expected.loss).abs();
        assert!(d < 1e-4, "{name}: loss {found}, {d:e} apart");
        let store = loss.backward().unwrap();
        let ours: BTreeMap<String, Tensor> = model
            .weights()
            .variables()
            .iter()
            .map(|(name, variable)| (name.clone(), store.get(variable).unwrap().clone()))
            .collect();
        // Gradients have the shapes of weights, so they go out as weights do.
        let theirs = model.config.architecture.give_out(&ours).unwrap();
        let wanted: Vec<&String> = family
            .tensors
            .keys()
            .filter(|key| key.starts_with("gradient."))
            .collect();
        assert_eq!(theirs.len(), wanted.len(), "{name}: {:?}", theirs.keys());
        for key in wanted {
            let wanted = &family.tensors[key];
            let found = &theirs[key.strip_prefix("gradient.").unwrap()];
            let relative = distance(found, wanted) / largest(wanted).max(1e-6);
            assert!(relative < 1e-3, "{name}: {key} {relative:e}");
        }
    }
}

#[test]
fn scores_are_those_of_transformers_by_the_long_way_and_the_short() {
    for name in FAMILIES {
        let family = Family::load(name);
        let place = tempfile::tempdir().unwrap();
        // A reward model as the fixtures' script made it: the trunk with another head.
        let folder = place.path().join("judge");
        std::fs::create_dir(&folder).unwrap();
        let config = std::fs::read(family.folder.join("config.json")).unwrap();
        std::fs::write(folder.join("config.json"), config).unwrap();
        let model = family.model(Trainable::Nothing);
        let mut tensors = model
            .config
            .architecture
            .give_out(model.weights().tensors())
            .unwrap();
        tensors.insert(
            "score.weight".to_owned(),
            family.tensors["score.weight"].clone(),
        );
        let file = folder.join("model.safetensors");
        safetensors::serialize_to_file(&tensors, None, &file).unwrap();
        let judge = RewardModel::load(&folder, &Device::Cpu, Trainable::Everything).unwrap();
        let rows = &family.expected.rows;
        let scores = judge.score_rows(rows).unwrap();
        for (found, wanted) in scores.iter().zip(&family.expected.scores) {
            assert!((found - wanted).abs() < 1e-4, "{name}: {scores:?}");
        }
        // The short way through the top block gives the same.
        let rows_batch = batch(rows);
        let lower = judge.trunk.lower(&rows_batch).unwrap();
        let last = judge
            .scores_from(&lower, &rows_batch, Pass::Tracked)
            .unwrap();
        let last: Vec<f32> = last.to_vec1().unwrap();
        for (found, wanted) in last.iter().zip(&scores) {
            assert!((found - wanted).abs() < 1e-5, "{name}: {last:?}");
        }
    }
}

/// What is saved is what was read: the same tensors by the same names, whatever the form on disk.
#[test]
fn a_folder_that_is_read_and_written_holds_what_it_held() {
    for name in FAMILIES {
        let family = Family::load(name);
        let model = family.model(Trainable::Nothing);
        let written = model
            .config
            .architecture
            .give_out(model.weights().tensors())
            .unwrap();
        let mut theirs = HashMap::new();
        for file in weights::files(&family.folder).unwrap() {
            theirs.extend(candle_core::safetensors::load(file, &Device::Cpu).unwrap());
        }
        assert_eq!(written.len(), theirs.len(), "{name}");
        for (key, tensor) in theirs {
            let tensor = tensor.to_dtype(candle_core::DType::F32).unwrap();
            assert_eq!(distance(&tensor, &written[&key]), 0.0, "{name}: {key}");
        }
    }
}

#[test]
fn the_likeliest_tokens_are_those_of_transformers() {
    for name in FAMILIES {
        let family = Family::load(name);
        let rows = &family.expected.rows;
        // So cold that the likeliest token is always drawn; prompts of three lengths in one batch.
        let config = SamplingConfig {
            temperature: 1e-4,
            top_p: 1.0,
            max_new_tokens: 12,
            seed: 5,
        };
        let requests: Vec<SampleRequest> = (0..rows.len())
            .map(|prompt| SampleRequest {
                prompt,
                stream: prompt as u64,
            })
            .collect();
        let model = family.model(Trainable::Nothing);
        // No token ends a completion, as in the fixtures' script.
        let samples = generate(&model, rows, &requests, &config, u32::MAX, &mut |_| true).unwrap();
        for (sample, wanted) in samples.iter().zip(&family.expected.greedy) {
            assert_eq!(sample.tokens, *wanted, "{name}");
        }
    }
}

/// Freezing what lies below changes nothing above.
#[test]
fn upper_layers_alone_receive_the_gradients_of_the_whole() {
    for name in FAMILIES {
        let family = Family::load(name);
        let rows = &family.expected.rows;
        let whole = family.model(Trainable::Everything);
        let all = loss(&whole, rows).backward().unwrap();
        let part = family.model(Trainable::UpperLayers(1));
        let some = loss(&part, rows).backward().unwrap();
        assert!(part.weights().variables().len() < whole.weights().variables().len());
        for (key, variable) in part.weights().variables() {
            let wanted = all.get(&whole.weights().variables()[key]).unwrap();
            let relative =
                distance(some.get(variable).unwrap(), wanted) / largest(wanted).max(1e-6);
            assert!(relative < 1e-4, "{name}: {key} {relative:e}");
        }
    }
}

/// A card, a lineage and the family's own class names.
#[test]
fn a_checkpoint_names_the_class_that_transformers_loads() {
    let wanted = [
        (
            "openai-gpt",
            "OpenAIGPTLMHeadModel",
            "OpenAIGPTForSequenceClassification",
        ),
        ("gpt2", "GPT2LMHeadModel", "GPT2ForSequenceClassification"),
        (
            "llama3",
            "LlamaForCausalLM",
            "LlamaForSequenceClassification",
        ),
        (
            "qwen2",
            "Qwen2ForCausalLM",
            "Qwen2ForSequenceClassification",
        ),
        (
            "qwen3",
            "Qwen3ForCausalLM",
            "Qwen3ForSequenceClassification",
        ),
    ];
    for (name, language_model, reward_model) in wanted {
        let family = Family::load(name);
        let model = family.model(Trainable::Nothing);
        assert_eq!(
            model.config.architecture.language_model_class(),
            language_model
        );
        assert_eq!(model.config.architecture.reward_model_class(), reward_model);
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("copy");
        let lineage = Lineage::new(CheckpointKind::Policy);
        let tensors = model.weights().tensors();
        checkpoint::write(&folder, &family.folder, tensors, None, &lineage).unwrap();
        let config = std::fs::read(folder.join("config.json")).unwrap();
        let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        assert_eq!(config["architectures"][0], language_model);
        let again = Transformer::load(&folder, &Device::Cpu, Trainable::Nothing).unwrap();
        let bits = |model: &Transformer| model.weights().hash().unwrap();
        assert_eq!(bits(&model), bits(&again), "{name}");
    }
}

/// Item 2 of the checklist: the first logits that GPT-2 of 124 million parameters gives this row, as
/// published with lm-human-preference-details, whatever padding stands before or behind it.
/// `PLACKETT_TEST_GPT2` names that model's folder.
#[test]
fn gpt2_gives_the_published_logits() {
    let Some(folder) = std::env::var_os("PLACKETT_TEST_GPT2") else {
        println!("skipped: PLACKETT_TEST_GPT2 names no folder of GPT-2 124M");
        return;
    };
    let folder = std::path::PathBuf::from(folder);
    let model = Transformer::load(&folder, &Device::Cpu, Trainable::Nothing).unwrap();
    let row = vec![23073, 11, 339, 561];
    for rows in [vec![row.clone()], vec![row, vec![5; 9]]] {
        let batch = TokenBatch::new(&rows, 50256, &Device::Cpu).unwrap();
        let hidden = model.hidden(&batch, Pass::Tracked).unwrap();
        let first = hidden.narrow(0, 0, 1).unwrap().squeeze(0).unwrap();
        let logits: Vec<Vec<f32>> = model.logits(&first).unwrap().to_vec2().unwrap();
        let wanted = [-35.2869, -34.2875, -38.1608];
        for (found, wanted) in logits[0].iter().zip(wanted) {
            assert!((found - wanted).abs() < 1e-3, "{found} {wanted}");
        }
    }
}
