//! From a GGUF file of the Llama family to a Hugging Face folder that transformers loads.
//!
//! Two things differ between the formats: tensor names, and the rows of the query and key
//! projections, which GGUF interleaves for its form of the rotary embedding.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use candle_core::quantized::gguf_file::{Content, Value as GgufValue};
use candle_core::{Device, Tensor};
use serde_json::{Value, json};

use crate::checkpoint::{CheckpointKind, Lineage, write_atomically, write_folder};
use crate::error::{AtPath, Result, TrainerError};

/// Marks of a token in `tokenizer.ggml.token_type`: 3 is a control token.
const CONTROL_TOKEN: i64 = 3;

/// Dequantises `file` into the folder `place`, in f32.
///
/// # Errors
/// A sentence: not GGUF, another architecture, a missing field, or the place is taken.
pub fn convert(file: &Path, place: &Path, notes: &[String]) -> Result<()> {
    let mut reader = std::io::BufReader::new(File::open(file).at(file)?);
    let content = Content::read(&mut reader)
        .map_err(|error| TrainerError::checkpoint(file, format!("is not a GGUF file: {error}")))?;
    let metadata = Metadata {
        content: &content,
        file,
    };
    let architecture = metadata.text("general.architecture")?;
    if architecture != "llama" {
        let message =
            format!("holds architecture {architecture:?}; only \"llama\" is supported so far");
        return Err(TrainerError::checkpoint(file, message));
    }
    let config = metadata.config()?;
    let (heads, key_heads) = (
        config["num_attention_heads"].as_u64().unwrap_or(1),
        config["num_key_value_heads"].as_u64().unwrap_or(1),
    );
    let mut tensors = BTreeMap::new();
    for name in content.tensor_infos.keys() {
        let tensor = content
            .tensor(&mut reader, name, &Device::Cpu)?
            .dequantize(&Device::Cpu)?;
        let tensor = match name {
            name if name.ends_with("attn_q.weight") => restore_rows(&tensor, heads as usize)?,
            name if name.ends_with("attn_k.weight") => restore_rows(&tensor, key_heads as usize)?,
            _ => tensor,
        };
        let Some(name) = hugging_face_name(name) else {
            return Err(TrainerError::checkpoint(
                file,
                format!("holds an unknown tensor {name}"),
            ));
        };
        tensors.insert(name, tensor);
    }
    let mut lineage = Lineage::new(CheckpointKind::Base);
    lineage.notes = notes.to_vec();
    write_atomically(place, |folder| {
        write_folder(folder, &config, &tensors, &lineage)?;
        for (name, value) in [
            ("tokenizer.json", metadata.tokenizer()?),
            ("tokenizer_config.json", metadata.tokenizer_config()?),
        ] {
            let path = folder.join(name);
            std::fs::write(&path, value.to_string()).at(&path)?;
        }
        Ok(())
    })
}

/// Undoes GGUF's interleaving of the two halves of each head's rows.
fn restore_rows(weight: &Tensor, heads: usize) -> Result<Tensor> {
    let (out, width) = weight.dims2()?;
    let half = out / heads / 2;
    Ok(weight
        .reshape((heads, half, 2, width))?
        .transpose(1, 2)?
        .contiguous()?
        .reshape((out, width))?)
}

fn hugging_face_name(name: &str) -> Option<String> {
    let fixed = match name {
        "token_embd.weight" => Some("model.embed_tokens.weight"),
        "output_norm.weight" => Some("model.norm.weight"),
        "output.weight" => Some("lm_head.weight"),
        _ => None,
    };
    if let Some(fixed) = fixed {
        return Some(fixed.to_owned());
    }
    let (layer, part) = name.strip_prefix("blk.")?.split_once('.')?;
    let part = match part.strip_suffix(".weight")? {
        "attn_norm" => "input_layernorm",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_output" => "self_attn.o_proj",
        "ffn_norm" => "post_attention_layernorm",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        _ => return None,
    };
    Some(format!("model.layers.{layer}.{part}.weight"))
}

/// The file's key-value pairs, with errors that name the key.
struct Metadata<'a> {
    content: &'a Content,
    file: &'a Path,
}

impl Metadata<'_> {
    fn get(&self, key: &str) -> Result<&GgufValue> {
        let missing = || TrainerError::checkpoint(self.file, format!("has no field {key}"));
        self.content.metadata.get(key).ok_or_else(missing)
    }

    fn wrong(&self, key: &str) -> TrainerError {
        TrainerError::checkpoint(self.file, format!("field {key} has an unexpected type"))
    }

    fn text(&self, key: &str) -> Result<String> {
        self.get(key)?
            .to_string()
            .cloned()
            .map_err(|_| self.wrong(key))
    }

    fn integer(&self, key: &str) -> Result<u32> {
        self.get(key)?.to_u32().map_err(|_| self.wrong(key))
    }

    fn float(&self, key: &str) -> Result<f64> {
        // As printed in f32, so that 1e-5 does not become 9.99999974e-6.
        let value = self.get(key)?.to_f32().map_err(|_| self.wrong(key))?;
        value.to_string().parse().map_err(|_| self.wrong(key))
    }

    fn list(&self, key: &str) -> Result<&[GgufValue]> {
        self.get(key)?
            .to_vec()
            .map(Vec::as_slice)
            .map_err(|_| self.wrong(key))
    }

    fn tokens(&self) -> Result<Vec<String>> {
        let key = "tokenizer.ggml.tokens";
        self.list(key)?
            .iter()
            .map(|token| token.to_string().cloned().map_err(|_| self.wrong(key)))
            .collect()
    }

    fn config(&self) -> Result<Value> {
        let n_tokens = self.list("tokenizer.ggml.tokens")?.len();
        Ok(json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_act": "silu",
            "attention_bias": false,
            "mlp_bias": false,
            "attention_dropout": 0.0,
            "hidden_size": self.integer("llama.embedding_length")?,
            "intermediate_size": self.integer("llama.feed_forward_length")?,
            "num_hidden_layers": self.integer("llama.block_count")?,
            "num_attention_heads": self.integer("llama.attention.head_count")?,
            "num_key_value_heads": self.integer("llama.attention.head_count_kv")?,
            "max_position_embeddings": self.integer("llama.context_length")?,
            "rms_norm_eps": self.float("llama.attention.layer_norm_rms_epsilon")?,
            "rope_theta": self.float("llama.rope.freq_base")?,
            "tie_word_embeddings": !self.content.tensor_infos.contains_key("output.weight"),
            "vocab_size": n_tokens,
            "bos_token_id": self.integer("tokenizer.ggml.bos_token_id")?,
            "eos_token_id": self.integer("tokenizer.ggml.eos_token_id")?,
            "pad_token_id": self.integer("tokenizer.ggml.padding_token_id").unwrap_or(2),
            "torch_dtype": "float32",
            "dtype": "float32",
            "use_cache": true,
        }))
    }

    /// The byte-level BPE tokenizer in the file format of Hugging Face's tokenizers.
    fn tokenizer(&self) -> Result<Value> {
        let kind = self.text("tokenizer.ggml.model")?;
        let split = self.text("tokenizer.ggml.pre")?;
        if (kind.as_str(), split.as_str()) != ("gpt2", "smollm") {
            let message = format!(
                "has a tokenizer of kind {kind:?}/{split:?}; only \"gpt2\"/\"smollm\" is supported so far"
            );
            return Err(TrainerError::checkpoint(self.file, message));
        }
        let tokens = self.tokens()?;
        let mut special = Vec::new();
        for (id, mark) in self.list("tokenizer.ggml.token_type")?.iter().enumerate() {
            if mark.to_i32().map(i64::from).ok() == Some(CONTROL_TOKEN) {
                special.push(json!({
                    "id": id, "content": tokens[id], "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false, "special": true,
                }));
            }
        }
        let merges = self.list("tokenizer.ggml.merges")?;
        let merges: Vec<&String> = merges
            .iter()
            .filter_map(|merge| merge.to_string().ok())
            .collect();
        let vocabulary: serde_json::Map<String, Value> = tokens
            .into_iter()
            .enumerate()
            .map(|(id, token)| (token, json!(id)))
            .collect();
        let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        Ok(json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": special,
            "normalizer": null,
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [{"type": "Digits", "individual_digits": true}, byte_level],
            },
            "post_processor": null,
            "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                "ignore_merges": false, "vocab": vocabulary, "merges": merges,
            },
        }))
    }

    fn tokenizer_config(&self) -> Result<Value> {
        let tokens = self.tokens()?;
        let token = |key: &str| -> Result<Value> {
            let id = self.integer(key)? as usize;
            Ok(tokens.get(id).map_or(Value::Null, |token| json!(token)))
        };
        let eos = token("tokenizer.ggml.eos_token_id")?;
        Ok(json!({
            // The class that reads tokenizer.json as it stands: transformers 5 builds GPT2Tokenizer
            // anew without the splitting of digits, which changes the tokens of "\n\n1".
            "tokenizer_class": "PreTrainedTokenizerFast",
            "add_prefix_space": false,
            "add_bos_token": false,
            "clean_up_tokenization_spaces": false,
            "model_max_length": self.integer("llama.context_length")?,
            "bos_token": token("tokenizer.ggml.bos_token_id")?,
            "pad_token": token("tokenizer.ggml.padding_token_id").unwrap_or(eos.clone()),
            "eos_token": eos,
            "unk_token": token("tokenizer.ggml.unknown_token_id").unwrap_or(Value::Null),
            "chat_template": self.text("tokenizer.chat_template")?,
        }))
    }
}
