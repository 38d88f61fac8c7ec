//! The network against transformers and PyTorch: the same logits, log-probabilities, gradients,
//! scores, tokens and greedy completions, on a tiny random model in the repository and on SmolLM2
//! where it has been fetched. `fixtures/make_fixtures.py` made the numbers.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde::Deserialize;
use trainer::checkpoint::{self, CheckpointKind, Lineage};
use trainer::generate::{SampleRequest, generate};
use trainer::model::attention::Pass;
use trainer::model::batch::TokenBatch;
use trainer::model::heads::RewardModel;
use trainer::model::token_log_probs;
use trainer::model::transformer::{Transformer, pages_for};
use trainer::model::weights::Trainable;
use trainer::records::{Message, Prompt};
use trainer::sampling::SamplingConfig;
use trainer::text::TextCodec;

const PASSES: [Pass; 2] = [Pass::Frozen, Pass::Tracked];

#[derive(Deserialize)]
struct Expected {
    texts: Vec<TextCase>,
    conversations: Vec<Conversation>,
    temperature: f64,
    rows: Vec<Row>,
    #[serde(default)]
    loss: f64,
    #[serde(default)]
    scores: Vec<f32>,
    #[serde(default)]
    greedy: Vec<Vec<u32>>,
}

#[derive(Deserialize)]
struct TextCase {
    text: String,
    ids: Vec<u32>,
}

#[derive(Deserialize)]
struct Conversation {
    messages: Vec<Message>,
    ids: Vec<u32>,
}

#[derive(Deserialize)]
struct Row {
    ids: Vec<u32>,
    log_probs: Vec<f32>,
    entropies: Vec<f32>,
    #[serde(default)]
    positions: Vec<Position>,
}

#[derive(Deserialize)]
struct Position {
    position: usize,
    tokens: Vec<usize>,
    logits: Vec<f32>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn tiny_folder() -> PathBuf {
    fixtures().join("tiny")
}

fn tiny(trainable: Trainable) -> Transformer {
    Transformer::load(&tiny_folder(), &Device::Cpu, trainable).unwrap()
}

fn expected(name: &str) -> Expected {
    serde_json::from_slice(&std::fs::read(fixtures().join(name)).unwrap()).unwrap()
}

fn expected_tensors() -> HashMap<String, Tensor> {
    let path = fixtures().join("tiny_expected.safetensors");
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

/// The folder of SmolLM2: what `PLACKETT_TEST_MODEL` names, else where the program keeps models.
fn smollm2_folder() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let data = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or(home.map(|home| home.join(".local/share")))
        .map(|share| share.join("plackett"));
    let kept = [data, Some(PathBuf::from("/var/lib/plackett"))];
    let folder = std::env::var_os("PLACKETT_TEST_MODEL")
        .map(PathBuf::from)
        .into_iter()
        .chain(
            kept.into_iter()
                .flatten()
                .map(|data| data.join("models/smollm2-135m-instruct")),
        )
        .find(|folder| folder.is_dir());
    if folder.is_none() {
        eprintln!(
            "skipped: no smollm2-135m-instruct in the data folder or under PLACKETT_TEST_MODEL"
        );
    }
    folder
}

fn ids(expected: &Expected) -> Vec<Vec<u32>> {
    expected.rows.iter().map(|row| row.ids.clone()).collect()
}

fn largest(tensor: &Tensor) -> f32 {
    tensor
        .abs()
        .unwrap()
        .max_all()
        .unwrap()
        .to_scalar()
        .unwrap()
}

fn distance(a: &Tensor, b: &Tensor) -> f32 {
    largest(&(a - b).unwrap())
}

/// Hidden states of every position that has a next token, and those tokens.
fn learnt(model: &Transformer, rows: &[Vec<u32>], pass: Pass) -> (Tensor, Tensor) {
    let batch = TokenBatch::new(rows, 0, &Device::Cpu).unwrap();
    let hidden = model.hidden(&batch, pass).unwrap().flatten_to(1).unwrap();
    let mut positions = Vec::new();
    let mut targets = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        for (position, next) in row.iter().enumerate().skip(1) {
            positions.push(batch.flat_index(index, position - 1));
            targets.push(*next);
        }
    }
    let n = positions.len();
    let positions = Tensor::from_vec(positions, n, &Device::Cpu).unwrap();
    let targets = Tensor::from_vec(targets, n, &Device::Cpu).unwrap();
    (hidden.index_select(&positions, 0).unwrap(), targets)
}

/// Gradients of the mean negative log-probability by name.
fn loss_gradients(model: &Transformer, rows: &[Vec<u32>]) -> (f64, HashMap<String, Tensor>) {
    let (hidden, targets) = learnt(model, rows, Pass::Tracked);
    let n = targets.dim(0).unwrap();
    let values = token_log_probs::evaluate(&hidden, model.head(), &targets, 1.0).unwrap();
    let by_log_prob = Tensor::full(-1.0 / n as f32, n, &Device::Cpu).unwrap();
    let scalar =
        token_log_probs::surrogate(&hidden, model.head(), &targets, 1.0, &by_log_prob).unwrap();
    let store = scalar.backward().unwrap();
    let gradients = model
        .weights()
        .variables()
        .iter()
        .filter_map(|(name, variable)| Some((name.clone(), store.get(variable)?.clone())))
        .collect();
    let log_probs: Vec<f32> = values.log_prob.to_vec1().unwrap();
    let loss = -log_probs.iter().map(|x| f64::from(*x)).sum::<f64>() / n as f64;
    (loss, gradients)
}

fn assert_tokens_equal(folder: &Path, expected: &Expected) {
    let codec = TextCodec::load(folder).unwrap();
    for case in &expected.texts {
        assert_eq!(codec.encode(&case.text).unwrap(), case.ids, "{}", case.text);
    }
    for case in &expected.conversations {
        let prompt = Prompt::Conversation(case.messages.clone());
        assert_eq!(codec.encode_prompt(&prompt).unwrap(), case.ids);
    }
}

fn assert_log_probs_equal(model: &Transformer, expected: &Expected, tolerance: f32) {
    for pass in PASSES {
        let (hidden, targets) = learnt(model, &ids(expected), pass);
        let found =
            token_log_probs::evaluate(&hidden, model.head(), &targets, expected.temperature)
                .unwrap();
        let log_probs: Vec<f32> = expected
            .rows
            .iter()
            .flat_map(|row| row.log_probs.clone())
            .collect();
        let entropies: Vec<f32> = expected
            .rows
            .iter()
            .flat_map(|row| row.entropies.clone())
            .collect();
        let wanted = |values: Vec<f32>| Tensor::new(values, &Device::Cpu).unwrap();
        let d = distance(&found.log_prob, &wanted(log_probs));
        assert!(d < tolerance, "{pass:?} log-probabilities differ by {d:e}");
        let d = distance(&found.entropy, &wanted(entropies));
        assert!(d < tolerance, "{pass:?} entropies differ by {d:e}");
    }
}

#[test]
fn text_becomes_the_same_tokens_as_in_transformers() {
    assert_tokens_equal(&tiny_folder(), &expected("tiny_expected.json"));
}

#[test]
fn logits_equal_those_of_transformers() {
    let (model, expected, tensors) = (
        tiny(Trainable::Everything),
        expected("tiny_expected.json"),
        expected_tensors(),
    );
    let batch = TokenBatch::new(&ids(&expected), 0, &Device::Cpu).unwrap();
    for pass in PASSES {
        let hidden = model.hidden(&batch, pass).unwrap();
        for (index, length) in batch.lengths.iter().enumerate() {
            let row = hidden.get(index).unwrap().narrow(0, 0, *length).unwrap();
            let logits = model.logits(&row).unwrap();
            let d = distance(&logits, &tensors[&format!("logits.{index}")]);
            assert!(d < 1e-4, "{pass:?}, row {index}: {d:e}");
        }
    }
    assert_log_probs_equal(&model, &expected, 1e-4);
}

#[test]
fn gradients_equal_those_of_pytorch() {
    let (expected, tensors) = (expected("tiny_expected.json"), expected_tensors());
    let (loss, gradients) = loss_gradients(&tiny(Trainable::Everything), &ids(&expected));
    assert!((loss - expected.loss).abs() < 1e-5, "{loss}");
    let wanted: Vec<_> = tensors
        .iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix("gradient.")?, tensor)))
        .collect();
    assert_eq!(wanted.len(), 3 * 9 + 2);
    for (name, wanted) in wanted {
        let relative = distance(&gradients[name], wanted) / largest(wanted);
        assert!(relative < 1e-3, "{name}: {relative:e}");
    }
}

#[test]
fn every_trainable_weight_gets_a_gradient_and_no_frozen_one_does() {
    let rows = ids(&expected("tiny_expected.json"));
    let (_, all) = loss_gradients(&tiny(Trainable::Everything), &rows);
    for (trainable, n_wanted) in [
        (Trainable::Everything, 29),
        (Trainable::UpperLayers(3), 28),
        (Trainable::UpperLayers(1), 10),
    ] {
        let model = tiny(trainable);
        let (_, gradients) = loss_gradients(&model, &rows);
        assert_eq!(model.weights().variables().len(), n_wanted);
        assert_eq!(gradients.len(), n_wanted, "{trainable:?}");
        for (name, gradient) in &gradients {
            assert!(largest(gradient) > 0.0, "{trainable:?}: {name}");
            // Freezing what lies below changes nothing above.
            let relative = distance(gradient, &all[name]) / largest(&all[name]);
            assert!(relative < 1e-4, "{trainable:?}: {name} {relative:e}");
        }
    }
    let model = tiny(Trainable::Nothing);
    assert!(model.weights().variables().is_empty());
    let (hidden, _) = learnt(&model, &rows, Pass::Tracked);
    assert!(!hidden.track_op());
}

#[test]
fn padding_and_neighbours_do_not_change_a_row() {
    let model = tiny(Trainable::Everything);
    let rows = ids(&expected("tiny_expected.json"));
    for pass in PASSES {
        for pad_id in [0, 2] {
            let together = TokenBatch::new(&rows, pad_id, &Device::Cpu).unwrap();
            let together = model.hidden(&together, pass).unwrap();
            for (index, row) in rows.iter().enumerate() {
                let alone =
                    TokenBatch::new(std::slice::from_ref(row), pad_id, &Device::Cpu).unwrap();
                let alone = model.hidden(&alone, pass).unwrap().get(0).unwrap();
                let beside = together.get(index).unwrap();
                let d = distance(&beside.narrow(0, 0, row.len()).unwrap(), &alone);
                assert!(d < 1e-4, "{pass:?}, pad {pad_id}, row {index}: {d:e}");
            }
        }
    }
}

/// What the top block leaves out must change neither scores nor gradients.
#[test]
fn scores_read_at_the_last_token_alone_are_those_of_the_whole_pass() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("judge");
    judge_folder(&place);
    let rows = ids(&expected("tiny_expected.json"));
    let batch = TokenBatch::new(&rows, 0, &Device::Cpu).unwrap();
    for trainable in [Trainable::Everything, Trainable::UpperLayers(1)] {
        let judge = RewardModel::load(&place, &Device::Cpu, trainable).unwrap();
        let lower = judge.trunk.lower(&batch).unwrap();
        let hidden = judge.trunk.upper_of(&lower, &batch, Pass::Tracked).unwrap();
        let whole = judge.scores(&hidden, &batch).unwrap();
        let last = judge.scores_from(&lower, &batch, Pass::Tracked).unwrap();
        assert!(distance(&whole, &last) < 1e-5);
        let weights = Tensor::arange(1.0_f32, 1.0 + rows.len() as f32, &Device::Cpu).unwrap();
        let gradients = |scores: &Tensor| {
            (scores * &weights)
                .unwrap()
                .sum_all()
                .unwrap()
                .backward()
                .unwrap()
        };
        let (whole, last) = (gradients(&whole), gradients(&last));
        for (name, variable) in judge.trunk.weights().variables() {
            let d = distance(whole.get(variable).unwrap(), last.get(variable).unwrap());
            assert!(d < 1e-4, "{name}: {d:e}");
        }
    }
}

#[test]
fn the_cache_gives_the_same_log_probabilities() {
    let model = tiny(Trainable::Nothing);
    for row in ids(&expected("tiny_expected.json")) {
        let n_first = row.len() / 2;
        let mut cache = model.new_cache(pages_for(row.len())).unwrap();
        let (ids, first) = model.read(&[&row[..n_first]], &mut cache).unwrap();
        let mut found = vec![first];
        for token in &row[n_first..] {
            found.push(model.step(&ids, &[*token], &mut cache).unwrap());
        }
        let found = Tensor::cat(&found, 0).unwrap();
        let batch = TokenBatch::new(std::slice::from_ref(&row), 0, &Device::Cpu).unwrap();
        let whole = model.hidden(&batch, Pass::Tracked).unwrap().get(0).unwrap();
        let whole = whole
            .narrow(0, n_first - 1, row.len() - n_first + 1)
            .unwrap();
        let log_softmax = |hidden: &Tensor| {
            candle_nn::ops::log_softmax(&model.logits(hidden).unwrap(), 1).unwrap()
        };
        let d = distance(&log_softmax(&found), &log_softmax(&whole));
        assert!(d < 1e-4, "{d:e}");
    }
}

fn sample(model: &Transformer, prompts: &[Vec<u32>], k: u64, temperature: f64) -> Vec<Vec<u32>> {
    let config = SamplingConfig {
        temperature,
        top_p: 1.0,
        max_new_tokens: 12,
        seed: 5,
    };
    let requests: Vec<SampleRequest> = (0..prompts.len())
        .flat_map(|prompt| {
            (0..k).map(move |sample| SampleRequest {
                prompt,
                stream: prompt as u64 * k + sample,
            })
        })
        .collect();
    let samples = generate(model, prompts, &requests, &config, 2, &mut |_| true).unwrap();
    samples.into_iter().map(|sample| sample.tokens).collect()
}

#[test]
fn the_likeliest_tokens_are_those_of_transformers() {
    let expected = expected("tiny_expected.json");
    // So cold that the likeliest token is always drawn; prompts of four lengths in one batch.
    let found = sample(&tiny(Trainable::Nothing), &ids(&expected), 2, 1e-4);
    for (index, tokens) in found.iter().enumerate() {
        assert_eq!(*tokens, expected.greedy[index / 2], "sample {index}");
    }
}

#[test]
fn a_batch_draws_what_each_prompt_draws_alone_and_twice_the_same() {
    let model = tiny(Trainable::Nothing);
    let prompts = ids(&expected("tiny_expected.json"));
    let together = sample(&model, &prompts, 1, 1.0);
    assert_eq!(together, sample(&model, &prompts, 1, 1.0));
    for (index, prompt) in prompts.iter().enumerate() {
        let config = SamplingConfig {
            temperature: 1.0,
            top_p: 1.0,
            max_new_tokens: 12,
            seed: 5,
        };
        let request = SampleRequest {
            prompt: 0,
            stream: index as u64,
        };
        let prompt = std::slice::from_ref(prompt);
        let alone = generate(&model, prompt, &[request], &config, 2, &mut |_| true).unwrap();
        assert_eq!(alone[0].tokens, together[index], "prompt {index}");
    }
}

/// Items 3 and 4 of the checklist.
#[test]
fn a_completion_ends_at_its_first_eos_or_at_the_limit() {
    let model = tiny(Trainable::Nothing);
    let prompts = ids(&expected("tiny_expected.json"));
    let config = SamplingConfig {
        temperature: 1.0,
        top_p: 1.0,
        max_new_tokens: 12,
        seed: 5,
    };
    let request = [SampleRequest {
        prompt: 0,
        stream: 0,
    }];
    let draw = |eos_id| {
        let samples = generate(&model, &prompts, &request, &config, eos_id, &mut |_| true);
        samples.unwrap().remove(0)
    };
    let whole = draw(u32::MAX);
    assert!(!whole.is_finished && whole.tokens.len() == 12);
    let eos_id = whole.tokens[4];
    let end = whole.tokens.iter().position(|token| *token == eos_id);
    let ended = draw(eos_id);
    assert!(ended.is_finished);
    assert_eq!(ended.tokens, whole.tokens[..=end.unwrap()]);
}

/// A folder with the tiny model and the reward head of the fixtures.
fn judge_folder(place: &Path) {
    let mut tensors = tiny(Trainable::Nothing).weights().tensors().clone();
    let head = expected_tensors()["score.weight"].clone();
    tensors.insert("score.weight".to_owned(), head);
    let lineage = Lineage::new(CheckpointKind::Reward);
    checkpoint::write(place, &tiny_folder(), &tensors, Some(0.0), &lineage).unwrap();
}

#[test]
fn scores_equal_those_of_transformers_and_survive_saving_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let expected = expected("tiny_expected.json");
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    judge_folder(&first);
    let judge = RewardModel::load(&first, &Device::Cpu, Trainable::Everything).unwrap();
    let scores = judge.score_rows(&ids(&expected)).unwrap();
    for (found, wanted) in scores.iter().zip(&expected.scores) {
        assert!((found - wanted).abs() < 1e-4, "{scores:?}");
    }
    let tensors = judge.trunk.weights().tensors();
    let lineage = Lineage::new(CheckpointKind::Reward);
    checkpoint::write(&second, &first, tensors, Some(judge.bias), &lineage).unwrap();
    let again = RewardModel::load(&second, &Device::Cpu, Trainable::Nothing).unwrap();
    assert_eq!(scores, again.score_rows(&ids(&expected)).unwrap());
}

#[test]
fn smollm2_computes_what_transformers_computes() {
    let Some(folder) = smollm2_folder() else {
        return;
    };
    let expected = expected("smollm2.json");
    assert_tokens_equal(&folder, &expected);
    let model = Transformer::load(&folder, &Device::Cpu, Trainable::Nothing).unwrap();
    assert_log_probs_equal(&model, &expected, 1e-3);
    for row in &expected.rows {
        let batch = TokenBatch::new(std::slice::from_ref(&row.ids), 0, &Device::Cpu).unwrap();
        let hidden = model.hidden(&batch, Pass::Frozen).unwrap().get(0).unwrap();
        let logits: Vec<Vec<f32>> = model.logits(&hidden).unwrap().to_vec2().unwrap();
        for at in &row.positions {
            for (token, wanted) in at.tokens.iter().zip(&at.logits) {
                let d = (logits[at.position][*token] - wanted).abs();
                assert!(d < 1e-3, "position {}, token {token}: {d:e}", at.position);
            }
        }
    }
}
