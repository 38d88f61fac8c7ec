//! A model that has learnt nothing yet: a configuration, drawn weights and a tokenizer trained on
//! given texts, in a folder like any other model's.
//!
//! Weights are drawn from N(0, 0.02) as GPT-2's (Radford et al. 2019, and its code), biases are 0 and
//! norms 1. In GPT-2, and so in GPT-3's shapes, the projections back into the residual stream are
//! scaled by one over the root of their number; Llama, Qwen and the first GPT draw all alike.

mod shapes;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use serde_json::{Value, json};

pub use self::shapes::{GPT2_VOCABULARY, NamedShape, Shape, tensor_shapes};
use crate::checkpoint::{CheckpointKind, Lineage, write_atomically, write_folder};
use crate::error::{AtPath, Result, TrainerError};
use crate::model::architecture::{Architecture, split_our_name};
use crate::model::transformer_config::TransformerConfig;
use crate::records::{self, TextRecord};
use crate::rng::{standard_normal, stream};
use crate::tokenizer_training::{self, BOS, EOS, PAD, SPECIAL_TOKENS};

/// Deviation of drawn weights: GPT-2's, and what transformers calls `initializer_range`.
const DEVIATION: f64 = 0.02;

/// What is to be made.
#[derive(Debug, Clone)]
pub struct NewModel {
    /// Its shape.
    pub shape: Shape,
    /// Tokens of its vocabulary; it gets fewer where the texts hold fewer patterns.
    pub vocabulary: usize,
    /// Seed of the weights.
    pub seed: u64,
}

/// The texts of files: each `text` of a `.jsonl` file, and any other file whole.
///
/// # Errors
/// A sentence: a file cannot be read, is not UTF-8, or a line of it is wrong.
pub fn read_texts(files: &[impl AsRef<Path>]) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    for file in files.iter().map(AsRef::as_ref) {
        if file
            .extension()
            .is_some_and(|extension| extension == "jsonl")
        {
            let records = records::read::<TextRecord>(file)?.into_iter();
            texts.extend(records.map(|record| record.text));
        } else {
            texts.push(std::fs::read_to_string(file).at(file)?);
        }
    }
    Ok(texts)
}

/// Trains the tokenizer, draws the weights and writes the folder `place`; returns how many tokens
/// the vocabulary has.
///
/// # Errors
/// A sentence: the shape does not fit together, the vocabulary is too small, the place is taken.
pub fn write(place: &Path, wanted: &NewModel, texts: &[String]) -> Result<usize> {
    // Before the long work, what is wrong with the shape.
    wanted.shape.config(wanted.vocabulary)?;
    let trained = tokenizer_training::train(
        texts,
        wanted.vocabulary,
        wanted.shape.architecture,
        wanted.shape.context,
    )?;
    let mut config = wanted.shape.config(trained.n_tokens)?;
    let id = |token: &str| SPECIAL_TOKENS.iter().position(|special| *special == token);
    let ids = json!({"bos_token_id": id(BOS), "eos_token_id": id(EOS), "pad_token_id": id(PAD)});
    for (name, id) in ids.as_object().into_iter().flatten() {
        config[name.as_str()] = id.clone();
    }
    let parsed = TransformerConfig::parse(&config)
        .map_err(|message| TrainerError::checkpoint(place, message))?;
    let tensors = draw(&parsed, wanted.seed)?;
    let mut lineage = Lineage::new(CheckpointKind::Base);
    lineage.config = json!({"seed": wanted.seed});
    lineage.notes = vec![
        "Weights are drawn, not learnt: it says nothing that makes sense before it is pretrained."
            .to_owned(),
        format!(
            "Its tokenizer, {} tokens, was trained on {} texts.",
            trained.n_tokens,
            texts.len()
        ),
    ];
    write_atomically(place, |folder| {
        let tensors = parsed.architecture.give_out(&tensors)?;
        write_folder(folder, &config, &tensors, &lineage)?;
        let files: [(&str, &Value); 3] = [
            ("tokenizer.json", &trained.tokenizer),
            ("tokenizer_config.json", &trained.settings),
            ("generation_config.json", &ids),
        ];
        for (name, value) in files {
            let path = folder.join(name);
            std::fs::write(&path, value.to_string()).at(&path)?;
        }
        Ok(())
    })?;
    Ok(trained.n_tokens)
}

/// Fresh weights by our names. Each tensor has a random stream of its own, so that a block more
/// changes nothing in those below.
///
/// # Errors
/// When there is no memory.
pub fn draw(config: &TransformerConfig, seed: u64) -> Result<BTreeMap<String, Tensor>> {
    let mut tensors = BTreeMap::new();
    for (name, shape) in tensor_shapes(config) {
        let n = shape.iter().product();
        let values = match kind(&name) {
            Kind::Zero => vec![0.0; n],
            Kind::One => vec![1.0; n],
            Kind::Drawn => {
                let mut rng = stream(seed, &format!("new weights of {name}"), 0);
                let deviation = deviation(config, &name) as f32;
                (0..n)
                    .map(|_| standard_normal(&mut rng) * deviation)
                    .collect()
            }
        };
        tensors.insert(name, Tensor::from_vec(values, shape, &Device::Cpu)?);
    }
    Ok(tensors)
}

enum Kind {
    Zero,
    One,
    Drawn,
}

fn kind(name: &str) -> Kind {
    let (part, is_bias) = match name.rsplit_once('.') {
        Some((part, kind)) => (part, kind == "bias"),
        None => (name, false),
    };
    match (is_bias, part.ends_with("norm")) {
        (true, _) => Kind::Zero,
        (false, true) => Kind::One,
        (false, false) => Kind::Drawn,
    }
}

fn deviation(config: &TransformerConfig, name: &str) -> f64 {
    let part = split_our_name(name).map(|(_, part, _)| part);
    let returns = matches!(part, Some("self_attn.o_proj" | "mlp.down_proj"));
    match config.architecture == Architecture::Gpt2 && returns {
        true => DEVIATION / (2.0 * config.num_hidden_layers as f64).sqrt(),
        false => DEVIATION,
    }
}
