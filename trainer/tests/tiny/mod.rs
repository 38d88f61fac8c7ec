//! A language model small enough to train in a test: two Llama blocks with drawn weights and a
//! tokenizer of one token for each word, in a folder like any other checkpoint.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde_json::{Value, json};
use trainer::progress::{Event, Progress};
use trainer::rng::{standard_normal, stream};

/// Words that the tokenizer knows, besides the special tokens.
pub(crate) const WORDS: [&str; 16] = [
    "good", "bad", "red", "blue", "green", "cat", "dog", "fish", "one", "two", "three", "say",
    "name", "count", "please", "now",
];
const SPECIAL: [&str; 4] = ["<unk>", "<eos>", "<user>", "<assistant>"];
const HIDDEN: usize = 32;
const INNER: usize = 64;
const LAYERS: usize = 2;

/// Writes the model into `folder`.
pub(crate) fn write_model(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let vocabulary: Vec<&str> = SPECIAL.into_iter().chain(WORDS).collect();
    write(folder, "config.json", &config(vocabulary.len()));
    write(folder, "tokenizer.json", &tokenizer(&vocabulary));
    let template = "{% for m in messages %}{% if m.role == 'assistant' %}<assistant> {{ m.content }}\
                    <eos>{% else %}<user> {{ m.content }}{% endif %}{% endfor %}\
                    {% if add_generation_prompt %}<assistant>{% endif %}";
    let special = json!({"eos_token": "<eos>", "pad_token": "<eos>", "chat_template": template});
    write(folder, "tokenizer_config.json", &special);
    candle_core::safetensors::save(&weights(vocabulary.len()), folder.join("model.safetensors"))
        .unwrap();
}

fn write(folder: &Path, name: &str, value: &Value) {
    std::fs::write(folder.join(name), value.to_string()).unwrap();
}

fn config(n_tokens: usize) -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN,
        "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": n_tokens, "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true,
        "hidden_act": "silu", "bos_token_id": null, "eos_token_id": 1, "pad_token_id": 1,
    })
}

fn tokenizer(vocabulary: &[&str]) -> Value {
    let ids: serde_json::Map<String, Value> = vocabulary
        .iter()
        .enumerate()
        .map(|(id, word)| ((*word).to_owned(), json!(id)))
        .collect();
    let added = |(id, content): (usize, &&str)| {
        json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        })
    };
    let added: Vec<Value> = SPECIAL.iter().enumerate().map(added).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": null, "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": ids, "unk_token": "<unk>"},
    })
}

fn weights(n_tokens: usize) -> HashMap<String, Tensor> {
    let mut tensors = HashMap::new();
    let mut rng = stream(11, "tiny model", 0);
    let mut matrix = |name: String, rows: usize, columns: usize, deviation: f32| {
        let values: Vec<f32> = (0..rows * columns)
            .map(|_| standard_normal(&mut rng) * deviation)
            .collect();
        let tensor = Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap();
        tensors.insert(name, tensor);
    };
    matrix(
        "model.embed_tokens.weight".to_owned(),
        n_tokens,
        HIDDEN,
        0.3,
    );
    for layer in 0..LAYERS {
        let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
        matrix(name("self_attn.q_proj"), HIDDEN, HIDDEN, 0.15);
        matrix(name("self_attn.k_proj"), HIDDEN / 2, HIDDEN, 0.15);
        matrix(name("self_attn.v_proj"), HIDDEN / 2, HIDDEN, 0.15);
        matrix(name("self_attn.o_proj"), HIDDEN, HIDDEN, 0.15);
        matrix(name("mlp.gate_proj"), INNER, HIDDEN, 0.15);
        matrix(name("mlp.up_proj"), INNER, HIDDEN, 0.15);
        matrix(name("mlp.down_proj"), HIDDEN, INNER, 0.15);
    }
    let norms = (0..LAYERS)
        .flat_map(|layer| {
            ["input_layernorm", "post_attention_layernorm"]
                .map(|part| format!("model.layers.{layer}.{part}.weight"))
        })
        .chain(["model.norm.weight".to_owned()]);
    for name in norms {
        let ones = Tensor::ones(HIDDEN, candle_core::DType::F32, &Device::Cpu).unwrap();
        tensors.insert(name, ones);
    }
    tensors
}

/// Writes lines of JSON.
pub(crate) fn write_lines(path: &Path, lines: impl IntoIterator<Item = Value>) -> PathBuf {
    let text: String = lines.into_iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(path, text).unwrap();
    path.to_owned()
}

/// Keeps every event, and asks the run to stop once so many are there. Logs and checks do not count:
/// a life of a run begins with as many as it has to tell.
#[derive(Default)]
pub(crate) struct Kept {
    /// The events so far.
    pub(crate) events: Vec<Event>,
    /// Ask the run to stop at this many events that are no logs and no checks.
    pub(crate) cancel_at: Option<usize>,
}

impl Kept {
    /// The values of a metric in their order.
    pub(crate) fn metric(&self, name: &str) -> Vec<f64> {
        self.events
            .iter()
            .filter_map(|event| match event {
                Event::Metrics { values, .. } => values.get(name).copied(),
                _ => None,
            })
            .collect()
    }

    /// The names of the checks, each with whether it held.
    pub(crate) fn checks(&self) -> Vec<(String, bool)> {
        self.events
            .iter()
            .filter_map(|event| match event {
                Event::Check { name, passed, .. } => Some((name.clone(), *passed)),
                _ => None,
            })
            .collect()
    }
}

impl Progress for Kept {
    fn record(&mut self, event: Event) {
        self.events.push(event);
    }

    fn is_cancelled(&self) -> bool {
        let counts = |event: &&Event| !matches!(event, Event::Log { .. } | Event::Check { .. });
        self.cancel_at
            .is_some_and(|limit| self.events.iter().filter(counts).count() >= limit)
    }
}
