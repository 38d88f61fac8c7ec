//! The key-value pairs of a GGUF file, with errors that name the key, and the configuration and
//! tokenizer that they make.

use std::path::Path;

use candle_core::quantized::gguf_file::{Content, Value as GgufValue};
use serde_json::{Value, json};

use super::rope;
use super::tokenizer::{GgufTokenizer, TokenKind};
use crate::cutting::Cutting;
use crate::error::{Result, TrainerError};
use crate::model::architecture::Architecture;
use crate::model::transformer_config::RopeScaling;

/// Families that llama.cpp knows by the same name as we do.
const FAMILIES: [Architecture; 4] = [
    Architecture::Gpt2,
    Architecture::Llama,
    Architecture::Qwen2,
    Architecture::Qwen3,
];

/// The family that GGUF calls `word`.
pub(super) fn family(word: &str) -> Option<Architecture> {
    let known = FAMILIES.into_iter();
    let mut known = known.filter(|family| family.model_type() == word);
    known.next()
}

/// The file's key-value pairs, with errors that name the key.
pub(super) struct Metadata<'a> {
    pub(super) content: &'a Content,
    pub(super) file: &'a Path,
    pub(super) architecture: Architecture,
}

impl<'a> Metadata<'a> {
    /// Finds out the family.
    pub(super) fn new(content: &'a Content, file: &'a Path) -> Result<Self> {
        let mut metadata = Self {
            content,
            file,
            architecture: Architecture::Llama,
        };
        let word = metadata.text("general.architecture")?;
        metadata.architecture = family(&word).ok_or_else(|| {
            let known = FAMILIES.map(Architecture::model_type).join(", ");
            metadata.error(format!(
                "holds architecture {word:?}; supported are {known}"
            ))
        })?;
        Ok(metadata)
    }

    fn error(&self, message: String) -> TrainerError {
        TrainerError::checkpoint(self.file, message)
    }

    fn find(&self, key: &str) -> Option<&GgufValue> {
        self.content.metadata.get(key)
    }

    fn get(&self, key: &str) -> Result<&GgufValue> {
        let missing = || self.error(format!("has no field {key}"));
        self.find(key).ok_or_else(missing)
    }

    fn wrong(&self, key: &str) -> TrainerError {
        self.error(format!("field {key} has an unexpected type"))
    }

    fn text(&self, key: &str) -> Result<String> {
        let text = self.get(key)?.to_string().cloned();
        text.map_err(|_| self.wrong(key))
    }

    fn integer(&self, key: &str) -> Result<u64> {
        self.get(key)?.to_u64().map_err(|_| self.wrong(key))
    }

    fn integer_or(&self, key: &str, default: u64) -> Result<u64> {
        match self.find(key) {
            None => Ok(default),
            Some(_) => self.integer(key),
        }
    }

    fn float(&self, key: &str) -> Result<f64> {
        // As printed in f32, so that 1e-5 does not become 9.99999974e-6.
        let value = self.get(key)?.to_f32().map_err(|_| self.wrong(key))?;
        if !value.is_finite() {
            // JSON would have a null for it, and so the default of who reads that.
            return Err(self.error(format!("field {key} is {value}")));
        }
        value.to_string().parse().map_err(|_| self.wrong(key))
    }

    fn list(&self, key: &str) -> Result<&[GgufValue]> {
        let list = self.get(key)?.to_vec();
        list.map(Vec::as_slice).map_err(|_| self.wrong(key))
    }

    fn texts(&self, key: &str) -> Result<Vec<String>> {
        let texts = self.list(key)?.iter().map(|text| text.to_string().cloned());
        texts
            .collect::<candle_core::Result<_>>()
            .map_err(|_| self.wrong(key))
    }

    fn has_tensor(&self, name: &str) -> bool {
        self.content.tensor_infos.contains_key(name)
    }

    /// A field of the family's own.
    fn own(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture.model_type())
    }

    /// `config.json`. `ties` says whether the output projection is the embedding; `factors` are those
    /// of Llama 3.1's rotary scaling, where there are any.
    pub(super) fn config(&self, ties: bool, factors: Option<&[f32]>) -> Result<Value> {
        let n_tokens = self.list("tokenizer.ggml.tokens")?.len();
        let number = |key: &str| self.integer(&self.own(key));
        let mut config = json!({
            "architectures": [self.architecture.language_model_class()],
            "model_type": self.architecture.model_type(),
        });
        let shape = match self.architecture {
            Architecture::Gpt2 => json!({
                "activation_function": "gelu_new",
                "n_embd": number("embedding_length")?,
                "n_inner": number("feed_forward_length")?,
                "n_layer": number("block_count")?,
                "n_head": number("attention.head_count")?,
                "n_positions": number("context_length")?,
                "layer_norm_epsilon": self.float(&self.own("attention.layer_norm_epsilon"))?,
            }),
            _ => self.rotating_shape(factors)?,
        };
        let bos = self.integer_or("tokenizer.ggml.bos_token_id", u64::MAX)?;
        let eos = self.integer("tokenizer.ggml.eos_token_id")?;
        let ids = json!({
            "tie_word_embeddings": ties,
            "vocab_size": n_tokens,
            "bos_token_id": (bos != u64::MAX).then_some(bos),
            "eos_token_id": eos,
            "pad_token_id": self.integer_or("tokenizer.ggml.padding_token_id", eos)?,
            "torch_dtype": "float32",
            "dtype": "float32",
            "use_cache": true,
        });
        for (key, value) in [shape, ids].iter().filter_map(Value::as_object).flatten() {
            config[key.as_str()] = value.clone();
        }
        Ok(config)
    }

    /// The part of Llama and its kin.
    fn rotating_shape(&self, factors: Option<&[f32]>) -> Result<Value> {
        let number = |key: &str| self.integer(&self.own(key));
        let (hidden, heads) = (number("embedding_length")?, number("attention.head_count")?);
        let usual = hidden / heads.max(1);
        let head_dim = self.integer_or(&self.own("attention.key_length"), usual)?;
        let rotated = self.integer_or(&self.own("rope.dimension_count"), head_dim)?;
        let values = self.integer_or(&self.own("attention.value_length"), head_dim)?;
        if (rotated, values) != (head_dim, head_dim) {
            let message = format!(
                "has heads of {head_dim} numbers of which {rotated} are rotated, and values of {values}; all must be the same"
            );
            return Err(self.error(message));
        }
        let context = number("context_length")?;
        let window = self.integer_or(&self.own("attention.sliding_window"), 0)?;
        if (1..context).contains(&window) {
            let message = format!("sees a window of {window} tokens only; that is not supported");
            return Err(self.error(message));
        }
        let theta = self.own("rope.freq_base");
        let theta = match self.find(&theta) {
            None => 10_000.0,
            Some(_) => self.float(&theta)?,
        };
        let mut shape = json!({
            "hidden_act": "silu",
            "attention_bias": self.has_tensor("blk.0.attn_q.bias"),
            "mlp_bias": self.has_tensor("blk.0.ffn_up.bias"),
            "attention_dropout": 0.0,
            "hidden_size": hidden,
            "intermediate_size": number("feed_forward_length")?,
            "num_hidden_layers": number("block_count")?,
            "num_attention_heads": heads,
            "num_key_value_heads": self.integer_or(&self.own("attention.head_count_kv"), heads)?,
            "max_position_embeddings": context,
            "rms_norm_eps": self.float(&self.own("attention.layer_norm_rms_epsilon"))?,
            "rope_theta": theta,
        });
        if head_dim != usual || self.architecture == Architecture::Qwen3 {
            shape["head_dim"] = json!(head_dim);
        }
        if let Some(scaling) = self.rope_scaling(head_dim as usize, theta, factors)? {
            shape["rope_scaling"] = scaling;
        }
        Ok(shape)
    }

    /// The settings of rotary scaling that a file of our own holds.
    fn written_scaling(&self) -> Option<RopeScaling> {
        let text = self.find(rope::SETTINGS)?.to_string().ok()?;
        RopeScaling::parse(&serde_json::from_str(text).ok()?).ok()
    }

    fn rope_scaling(
        &self,
        head_dim: usize,
        theta: f64,
        factors: Option<&[f32]>,
    ) -> Result<Option<Value>> {
        let kind = self.own("rope.scaling.type");
        let kind = match self.find(&kind) {
            None => "none".to_owned(),
            Some(_) => self.text(&kind)?,
        };
        match (kind.as_str(), factors) {
            ("none", None) => Ok(None),
            ("none", Some(factors)) => {
                let found =
                    rope::scaling_of_factors(factors, head_dim, theta, self.written_scaling());
                found.map(|scaling| Some(rope::settings(scaling))).ok_or_else(|| {
                    let message = "stretches its rotary frequencies by factors that are not those of Llama 3.1";
                    self.error(message.to_owned())
                })
            }
            ("linear", None) => {
                let factor = self.float(&self.own("rope.scaling.factor"))?;
                Ok(Some(json!({"rope_type": "linear", "factor": factor})))
            }
            (other, _) => {
                let message = format!(
                    "stretches its rotary frequencies as {other:?}; supported are none and linear"
                );
                Err(self.error(message))
            }
        }
    }

    /// The byte-level BPE tokenizer.
    fn gguf_tokenizer(&self) -> Result<GgufTokenizer> {
        let kind = self.text("tokenizer.ggml.model")?;
        let pre = "tokenizer.ggml.pre";
        let word = match self.find(pre) {
            None => String::new(),
            Some(_) => self.text(pre)?,
        };
        let cutting = Cutting::of_word(&word).filter(|_| kind == "gpt2");
        let cutting = cutting.ok_or_else(|| {
            let known = Cutting::NAMES;
            self.error(format!(
                "has a tokenizer of kind {kind:?}/{word:?}; supported is \"gpt2\" with {known}"
            ))
        })?;
        let (tokens, types) = ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type");
        let (texts, numbers) = (self.texts(tokens)?, self.list(types)?);
        if texts.len() != numbers.len() {
            return Err(self.error(format!(
                "has {} tokens in {tokens}, {} in {types}",
                texts.len(),
                numbers.len()
            )));
        }
        let with_kind = |(token, number): (String, &GgufValue)| {
            let kind = number.to_i32().ok();
            let kind = kind.and_then(TokenKind::of_number);
            let kind = kind.ok_or_else(|| {
                self.error(format!("field {types} says {number:?} of token {token:?}"))
            });
            kind.map(|kind| (token, kind))
        };
        let tokens: Vec<(String, TokenKind)> = texts
            .into_iter()
            .zip(numbers)
            .map(with_kind)
            .collect::<Result<_>>()?;
        let adds = "tokenizer.ggml.add_bos_token";
        let adds_bos = match self.find(adds) {
            // As llama.cpp does where the file does not say.
            None => cutting == Cutting::Llama3,
            Some(adds_bos) => adds_bos.to_bool().map_err(|_| self.wrong(adds))?,
        };
        let bos = "tokenizer.ggml.bos_token_id";
        let added_bos = match adds_bos {
            false => None,
            true => Some(self.integer(bos)? as usize),
        };
        if added_bos.is_some_and(|id| id >= tokens.len()) {
            return Err(self.error(format!("field {bos} names no token")));
        }
        Ok(GgufTokenizer {
            cutting,
            tokens,
            merges: self.texts("tokenizer.ggml.merges")?,
            added_bos,
        })
    }

    /// What whoever loads the folder elsewhere should know of its tokenizer.
    pub(super) fn remark(&self) -> Result<Option<String>> {
        let cutting = self.gguf_tokenizer()?.cutting;
        let differs = self.architecture == Architecture::Qwen2 && cutting != Cutting::Qwen2;
        Ok(differs.then(|| {
            format!(
                "Text is cut as {} does it; transformers reads every Qwen2 folder in Qwen2's own way.",
                cutting.word()
            )
        }))
    }

    /// `tokenizer.json`.
    pub(super) fn tokenizer(&self) -> Result<Value> {
        self.gguf_tokenizer().map(|tokenizer| tokenizer.to_file())
    }

    /// `tokenizer_config.json`.
    pub(super) fn tokenizer_config(&self) -> Result<Value> {
        let tokens = self.texts("tokenizer.ggml.tokens")?;
        let token = |key: &str| -> Result<Value> {
            match self.find(key) {
                None => Ok(Value::Null),
                Some(_) => {
                    let id = self.integer(key)? as usize;
                    Ok(tokens.get(id).map_or(Value::Null, |token| json!(token)))
                }
            }
        };
        let eos = token("tokenizer.ggml.eos_token_id")?;
        let padding = token("tokenizer.ggml.padding_token_id")?;
        let padding = if padding.is_null() { &eos } else { &padding };
        let mut config = json!({
            // The class that reads tokenizer.json as it stands: transformers 5 builds GPT2Tokenizer
            // anew without the splitting of digits, which changes the tokens of "\n\n1".
            "tokenizer_class": "PreTrainedTokenizerFast",
            "add_prefix_space": false,
            "add_bos_token": false,
            "clean_up_tokenization_spaces": false,
            "model_max_length": self.integer(&self.own("context_length"))?,
            "bos_token": token("tokenizer.ggml.bos_token_id")?,
            "pad_token": padding,
            "eos_token": eos,
            "unk_token": token("tokenizer.ggml.unknown_token_id")?,
        });
        // A base model may have none; whoever puts prompts to it says so.
        let template = "tokenizer.chat_template";
        if self.find(template).is_some() {
            config["chat_template"] = json!(self.text(template)?);
        }
        Ok(config)
    }
}
