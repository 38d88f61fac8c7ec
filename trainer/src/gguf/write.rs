//! From a Hugging Face folder to a GGUF file that llama.cpp reads.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, IntoInnerError};
use std::path::Path;

use candle_core::quantized::gguf_file::{self, Value as GgufValue};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use serde_json::Value;
use tokenizers::Tokenizer;

use super::tokenizer::GgufTokenizer;
use super::{metadata, names, rope};
use crate::checkpoint;
use crate::error::{AtPath, Result, TrainerError};
use crate::model::architecture::{Architecture, SCORE};
use crate::model::transformer_config::{Activation, Positions, RopeScaling, TransformerConfig};
use crate::model::weights::Weights;

/// How matrices are written; biases, norms and learned positions stay f32, as llama.cpp wants them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// Every number as it is.
    F32,
    /// Halves.
    F16,
    /// Eight bits with one scale for 32 numbers; f16 where rows are no multiple of 32.
    Q8_0,
}

impl Numbers {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Q8_0];

    /// The word on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
        }
    }

    /// `general.file_type`: llama.cpp's numbers for "all f32", "mostly f16" and "mostly q8_0".
    fn file_type(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q8_0 => 7,
        }
    }
}

impl std::str::FromStr for Numbers {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let found = Self::ALL
            .into_iter()
            .find(|numbers| numbers.as_str() == text);
        found.ok_or_else(|| format!("unknown type {text:?}: use f32, f16 or q8_0"))
    }
}

/// Writes the model in `folder` as the GGUF file `place`.
///
/// # Errors
/// A sentence: a family or a setting that llama.cpp does not know, a reward model, a tokenizer that
/// GGUF has no word for, a number too large for f16, or the place is taken.
pub fn export(folder: &Path, place: &Path, numbers: Numbers) -> Result<()> {
    let config = TransformerConfig::read(folder)?;
    let refuse = |message: String| TrainerError::checkpoint(folder, message);
    complaint(&config).map_or(Ok(()), |message| Err(refuse(message)))?;
    let weights = Weights::read(folder, &config, &Device::Cpu)?;
    if weights.has(SCORE) {
        let message = "is a reward model; GGUF files hold language models";
        return Err(refuse(message.to_owned()));
    }
    let mut fields = Fields(Vec::new());
    general(&mut fields, folder, numbers);
    shape(&mut fields, &config);
    tokenizer(&mut fields, folder, config.vocab_size)?;
    let mut tensors = names::give_out(&config, weights.tensors())?;
    if let Positions::Rotary {
        theta,
        scaling: scaling @ RopeScaling::Llama3 { .. },
    } = config.positions
    {
        let factors = rope::factors(scaling, config.head_dim, theta);
        let factors = Tensor::from_vec(factors, config.head_dim / 2, &Device::Cpu)?;
        tensors.insert(names::ROPE_FACTORS.to_owned(), factors);
    }
    let tensors = quantise(&tensors, numbers).map_err(|error| refuse(error.to_string()))?;
    write_file(place, &fields.0, &tensors)
}

/// What llama.cpp does not compute, or computes in another way.
fn complaint(config: &TransformerConfig) -> Option<String> {
    let architecture = config.architecture;
    let word = architecture.model_type();
    metadata::family(word)
        .map_or_else(
            || Some(format!("is {word}, which llama.cpp does not know")),
            |_| None,
        )
        .or_else(|| match architecture {
            Architecture::Gpt2 if config.activation != Activation::GeluTanh => Some(
                "has another activation than gelu_new, the only one of llama.cpp's gpt2".to_owned(),
            ),
            Architecture::Qwen3 if config.biases.attention_in => {
                Some("has biases in attention, which llama.cpp's qwen3 has not".to_owned())
            }
            Architecture::Qwen2 | Architecture::Qwen3 if config.biases.feed_forward => Some(
                format!("has biases in the feed-forward layer, which llama.cpp's {word} has not"),
            ),
            _ => None,
        })
}

/// Key-value pairs in the order in which they are written.
struct Fields(Vec<(String, GgufValue)>);

impl Fields {
    fn put(&mut self, key: impl Into<String>, value: GgufValue) {
        self.0.push((key.into(), value));
    }

    fn text(&mut self, key: impl Into<String>, value: &str) {
        self.put(key, GgufValue::String(value.to_owned()));
    }

    fn number(&mut self, key: impl Into<String>, value: usize) {
        // Every dimension of a model was checked to be far below.
        self.put(key, GgufValue::U32(value as u32));
    }

    fn float(&mut self, key: impl Into<String>, value: f64) {
        self.put(key, GgufValue::F32(value as f32));
    }
}

fn general(fields: &mut Fields, folder: &Path, numbers: Numbers) {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    fields.text("general.name", &name);
    fields.put("general.file_type", GgufValue::U32(numbers.file_type()));
    // Version of the layout of quantised blocks.
    fields.put("general.quantization_version", GgufValue::U32(2));
}

fn shape(fields: &mut Fields, config: &TransformerConfig) {
    let word = config.architecture.model_type();
    let own = |key: &str| format!("{word}.{key}");
    fields.text("general.architecture", word);
    fields.number(own("block_count"), config.num_hidden_layers);
    fields.number(own("context_length"), config.max_position_embeddings);
    fields.number(own("embedding_length"), config.hidden_size);
    fields.number(own("feed_forward_length"), config.intermediate_size);
    fields.number(own("attention.head_count"), config.num_attention_heads);
    fields.number(own("vocab_size"), config.vocab_size);
    let Positions::Rotary { theta, scaling } = config.positions else {
        fields.float(own("attention.layer_norm_epsilon"), config.norm_epsilon);
        return;
    };
    fields.number(own("attention.head_count_kv"), config.num_key_value_heads);
    fields.float(own("attention.layer_norm_rms_epsilon"), config.norm_epsilon);
    for key in [
        "attention.key_length",
        "attention.value_length",
        "rope.dimension_count",
    ] {
        fields.number(own(key), config.head_dim);
    }
    fields.float(own("rope.freq_base"), theta);
    match scaling {
        RopeScaling::None => {}
        RopeScaling::Linear { factor } => {
            fields.text(own("rope.scaling.type"), "linear");
            fields.float(own("rope.scaling.factor"), factor);
        }
        // llama.cpp reads factors; the settings that made them are for whoever reads the file back.
        RopeScaling::Llama3 { .. } => {
            fields.text(rope::SETTINGS, &rope::settings(scaling).to_string());
        }
    }
}

fn read_json(path: &Path) -> Result<Value> {
    let bytes = std::fs::read(path).at(path)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| TrainerError::checkpoint(path, error.to_string()))
}

fn tokenizer(fields: &mut Fields, folder: &Path, n_rows: usize) -> Result<()> {
    let path = folder.join("tokenizer.json");
    let refuse = |message: String| TrainerError::checkpoint(&path, message);
    let file = read_json(&path)?;
    let described = GgufTokenizer::from_file(&file, n_rows).map_err(refuse)?;
    let settings = read_json(&folder.join("tokenizer_config.json"))?;
    let id = |name: &str| {
        let token = settings[name]
            .as_str()
            .or(settings[name]["content"].as_str());
        let same = |token: &str| described.tokens.iter().position(|(text, _)| text == token);
        token.and_then(same)
    };
    let bos = id("bos_token");
    let eos = id("eos_token").ok_or_else(|| refuse("has no EOS among its tokens".to_owned()))?;
    let adds_bos = match added_before(&path)?.as_slice() {
        [] => false,
        [first] if Some(*first as usize) == bos => true,
        other => {
            let message = format!("puts the tokens {other:?} before a text; GGUF can say BOS only");
            return Err(refuse(message));
        }
    };
    fields.text("tokenizer.ggml.model", "gpt2");
    fields.text("tokenizer.ggml.pre", described.cutting.word());
    let texts = described
        .tokens
        .iter()
        .map(|(text, _)| GgufValue::String(text.clone()));
    let kinds = described
        .tokens
        .iter()
        .map(|(_, kind)| GgufValue::I32(kind.number()));
    let merges = described
        .merges
        .iter()
        .map(|merge| GgufValue::String(merge.clone()));
    fields.put("tokenizer.ggml.tokens", GgufValue::Array(texts.collect()));
    fields.put(
        "tokenizer.ggml.token_type",
        GgufValue::Array(kinds.collect()),
    );
    fields.put("tokenizer.ggml.merges", GgufValue::Array(merges.collect()));
    for (name, id) in [
        ("bos", bos),
        ("eos", Some(eos)),
        ("padding", id("pad_token")),
        ("unknown", id("unk_token")),
    ] {
        if let Some(id) = id {
            fields.number(format!("tokenizer.ggml.{name}_token_id"), id);
        }
    }
    fields.put("tokenizer.ggml.add_bos_token", GgufValue::Bool(adds_bos));
    if let Some(template) = template(folder, &settings) {
        fields.text("tokenizer.chat_template", &template);
    }
    Ok(())
}

/// The tokens that the tokenizer puts before a text when it is asked to add special tokens.
fn added_before(path: &Path) -> Result<Vec<u32>> {
    let refuse = |error: tokenizers::Error| TrainerError::checkpoint(path, error.to_string());
    let tokenizer = Tokenizer::from_file(path).map_err(refuse)?;
    let plain = tokenizer.encode("a", false).map_err(refuse)?;
    let whole = tokenizer.encode("a", true).map_err(refuse)?;
    let before = whole.get_ids().strip_suffix(plain.get_ids());
    before.map(<[u32]>::to_vec).ok_or_else(|| {
        let message = "puts tokens after a text, which is not supported";
        TrainerError::checkpoint(path, message)
    })
}

fn template(folder: &Path, settings: &Value) -> Option<String> {
    let file = std::fs::read_to_string(folder.join("chat_template.jinja")).ok();
    file.or_else(|| settings["chat_template"].as_str().map(str::to_owned))
}

/// The largest number of an f16.
const LARGEST_HALF: f32 = 65_504.0;

fn quantise(
    tensors: &BTreeMap<String, Tensor>,
    numbers: Numbers,
) -> Result<BTreeMap<String, QTensor>> {
    let mut quantised = BTreeMap::new();
    for (name, tensor) in tensors {
        let is_matrix = tensor.rank() == 2 && name != "position_embd.weight";
        let width = tensor.dims().last().copied().unwrap_or(0);
        let kind = match numbers {
            Numbers::F32 => GgmlDType::F32,
            _ if !is_matrix => GgmlDType::F32,
            Numbers::Q8_0 if width.is_multiple_of(32) => GgmlDType::Q8_0,
            _ => GgmlDType::F16,
        };
        if kind == GgmlDType::F16 {
            let largest = tensor.abs()?.max_all()?.to_scalar::<f32>()?;
            if largest > LARGEST_HALF {
                let message = format!("{name} holds {largest}, which is too large for f16");
                return Err(TrainerError::Diverged(message));
            }
        }
        quantised.insert(name.clone(), QTensor::quantize(tensor, kind)?);
    }
    Ok(quantised)
}

/// The file appears whole or not at all.
fn write_file(
    place: &Path,
    fields: &[(String, GgufValue)],
    tensors: &BTreeMap<String, QTensor>,
) -> Result<()> {
    if place.exists() {
        let message = "exists already; choose another file";
        return Err(TrainerError::checkpoint(place, message));
    }
    let parent = checkpoint::parent_of(place);
    std::fs::create_dir_all(parent).at(parent)?;
    let folder = tempfile::Builder::new()
        .prefix(".writing-")
        .tempdir_in(parent)
        .at(parent)?;
    let written = folder.path().join("model.gguf");
    let fields: Vec<(&str, &GgufValue)> = fields
        .iter()
        .map(|(key, value)| (key.as_str(), value))
        .collect();
    let tensors: Vec<(&str, &QTensor)> = tensors
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor))
        .collect();
    let mut writer = BufWriter::new(File::create(&written).at(&written)?);
    gguf_file::write(&mut writer, &fields, &tensors)?;
    let file = writer
        .into_inner()
        .map_err(IntoInnerError::into_error)
        .at(&written)?;
    file.sync_all().at(&written)?;
    std::fs::rename(&written, place).at(place)
}
