//! The shape of a Llama network, from `config.json`; what would load and then compute something
//! else is refused here.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{AtPath, Result, TrainerError};

/// Larger numbers in `config.json` are nonsense, and would take all memory before anything else
/// could tell.
const LARGEST_DIMENSION: usize = 1 << 20;

/// The part of `config.json` that shapes the network.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LlamaConfig {
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the gated feed-forward layer.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads, shared by groups of query heads.
    pub num_key_value_heads: usize,
    /// Width of one head; hidden size over heads where it is not given.
    #[serde(default)]
    pub head_dim: Option<usize>,
    /// Size of the vocabulary.
    pub vocab_size: usize,
    /// Longest sequence, in tokens.
    pub max_position_embeddings: usize,
    /// Added to the variance in norms.
    pub rms_norm_eps: f64,
    /// Base of the rotary embedding.
    #[serde(default = "default_theta")]
    pub rope_theta: f64,
    /// Whether the output projection is the embedding.
    #[serde(default)]
    pub tie_word_embeddings: bool,
}

fn default_theta() -> f64 {
    10_000.0
}

impl LlamaConfig {
    /// Reads and checks `config.json`.
    ///
    /// # Errors
    /// A sentence: no such folder, no configuration, or an architecture we do not know.
    pub fn read(folder: &Path) -> Result<Self> {
        if !folder.is_dir() {
            return Err(TrainerError::checkpoint(folder, "is not a folder"));
        }
        let path = folder.join("config.json");
        let bytes = std::fs::read(&path).at(&path)?;
        let value: serde_json::Value = serde_json::from_slice(&bytes)
            .map_err(|error| TrainerError::checkpoint(&path, format!("is not JSON: {error}")))?;
        let model_type = value["model_type"].as_str().unwrap_or("none");
        if model_type != "llama" {
            let message =
                format!("model_type is {model_type:?}; only \"llama\" is supported so far");
            return Err(TrainerError::checkpoint(&path, message));
        }
        // transformers 5 keeps the base under rope_parameters, older versions at the top.
        let theta = value["rope_parameters"]["rope_theta"].as_f64();
        let scaling = [&value["rope_scaling"], &value["rope_parameters"]]
            .into_iter()
            .filter_map(|rope| rope["rope_type"].as_str().or_else(|| rope["type"].as_str()))
            .find(|kind| *kind != "default");
        if let Some(kind) = scaling {
            return Err(TrainerError::checkpoint(
                &path,
                format!("rope scaling {kind:?} is not supported"),
            ));
        }
        let mut config: Self = serde_json::from_value(value.clone())
            .map_err(|error| TrainerError::checkpoint(&path, error.to_string()))?;
        config.rope_theta = theta.unwrap_or(config.rope_theta);
        config.check(&path, &value)?;
        if config.num_key_value_heads == 0
            || !config
                .num_attention_heads
                .is_multiple_of(config.num_key_value_heads)
        {
            return Err(TrainerError::checkpoint(
                &path,
                "num_attention_heads is not a multiple of num_key_value_heads",
            ));
        }
        Ok(config)
    }

    /// What would load and then compute something else, or nothing, is refused here.
    fn check(&self, path: &Path, given: &serde_json::Value) -> Result<()> {
        let refuse = |message: String| Err(TrainerError::checkpoint(path, message));
        for name in ["attention_bias", "mlp_bias"] {
            if given[name].as_bool() == Some(true) {
                return refuse(format!("{name} is not supported"));
            }
        }
        let activation = given["hidden_act"].as_str().unwrap_or("silu");
        if activation != "silu" {
            return refuse(format!(
                "hidden_act {activation:?} is not supported, only \"silu\""
            ));
        }
        for (name, value) in [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
        ] {
            if !(1..=LARGEST_DIMENSION).contains(&value) {
                return refuse(format!("{name} is {value}"));
            }
        }
        if self.head_dim() == 0 || self.head_dim() % 2 == 1 {
            return refuse(format!(
                "a head has {} numbers; rotary positions need an even number",
                self.head_dim()
            ));
        }
        Ok(())
    }

    /// Width of one head.
    pub fn head_dim(&self) -> usize {
        self.head_dim
            .unwrap_or(self.hidden_size / self.num_attention_heads.max(1))
    }
}
