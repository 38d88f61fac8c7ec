//! The shape of a network, from `config.json`; what would load and then compute something else is
//! refused here.

use std::path::Path;

use serde_json::Value;

use crate::checkpoint;
use crate::error::{AtPath, Result, TrainerError};
use crate::model::architecture::{
    Architecture, EMBEDDING, OUTPUT, POSITIONS, SCORE, split_our_name,
};

/// Larger numbers in `config.json` are nonsense, and would take all memory before anything else
/// could tell.
const LARGEST_DIMENSION: usize = 1 << 20;

/// Most numbers in the table of rotations, which is made before any weight is looked at: a gigabyte,
/// sixteen times that of Llama 3's 131,072 positions.
const LARGEST_ROTATION: usize = 1 << 28;

/// What shapes a decoder-only network.
#[derive(Debug, Clone, PartialEq)]
pub struct TransformerConfig {
    /// The family.
    pub architecture: Architecture,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the feed-forward layer.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads, shared by groups of query heads.
    pub num_key_value_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Size of the vocabulary.
    pub vocab_size: usize,
    /// Longest sequence, in tokens.
    pub max_position_embeddings: usize,
    /// Added to the variance in norms.
    pub norm_epsilon: f64,
    /// How a token knows its place.
    pub positions: Positions,
    /// Inside the feed-forward layer.
    pub activation: Activation,
    /// Which projections have a bias.
    pub biases: Biases,
    /// Whether the output projection is the embedding.
    pub tie_word_embeddings: bool,
}

/// How a token knows its place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Positions {
    /// A learned vector for each place, added to the embedding (GPT).
    Learned,
    /// Queries and keys are rotated (Su et al., arXiv 2104.09864).
    Rotary {
        /// Base of the frequencies.
        theta: f64,
        /// How the frequencies are stretched for a longer context.
        scaling: RopeScaling,
    },
}

/// How rotary frequencies are stretched for a context longer than that of pretraining.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Every frequency divided by a factor (Chen et al., arXiv 2306.15595).
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Low frequencies divided, high ones kept, those between blended (Llama 3.1).
    Llama3 {
        /// The factor.
        factor: f64,
        /// Wavelengths above the old context over this are divided.
        low_freq_factor: f64,
        /// Wavelengths below the old context over this are kept.
        high_freq_factor: f64,
        /// Context of pretraining, in tokens.
        original_context: f64,
    },
}

/// The function inside the feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x times sigmoid(x).
    Silu,
    /// GELU by the error function.
    Gelu,
    /// GELU by tanh, as GPT has it.
    GeluTanh,
    /// max(x, 0).
    Relu,
}

/// Which projections have a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Biases {
    /// Queries, keys and values.
    pub attention_in: bool,
    /// Attention's output.
    pub attention_out: bool,
    /// The feed-forward layer.
    pub feed_forward: bool,
}

impl TransformerConfig {
    /// Reads and checks `config.json`.
    ///
    /// # Errors
    /// A sentence: no such folder, no configuration, an architecture that we do not know, or a
    /// setting that we do not compute.
    pub fn read(folder: &Path) -> Result<Self> {
        if !folder.is_dir() {
            return Err(TrainerError::checkpoint(folder, "is not a folder"));
        }
        let path = folder.join("config.json");
        checkpoint::refuse_run_folder(folder)?;
        if !path.exists() && folder.join("adapter_config.json").exists() {
            let message = "is an adapter without its base; a checkpoint has the adapter added to \
                           the base's weights, and holds this folder as adapter/";
            return Err(TrainerError::checkpoint(folder, message));
        }
        let bytes = std::fs::read(&path).at(&path)?;
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|error| TrainerError::checkpoint(&path, format!("is not JSON: {error}")))?;
        Self::parse(&value).map_err(|message| TrainerError::checkpoint(&path, message))
    }

    /// The same from the configuration itself.
    ///
    /// # Errors
    /// A sentence.
    pub fn parse(value: &Value) -> std::result::Result<Self, String> {
        let model_type = value["model_type"].as_str().unwrap_or("none");
        let architecture = Architecture::of_model_type(model_type).ok_or_else(|| {
            let known = Architecture::ALL.map(Architecture::model_type).join(", ");
            format!("model_type is {model_type:?}; supported are {known}")
        })?;
        let fields = Fields {
            value,
            architecture,
        };
        fields.refuse_unsupported()?;
        let config = match architecture.is_gpt() {
            true => fields.gpt()?,
            false => fields.llama()?,
        };
        config.check()?;
        Ok(config)
    }

    /// Whether the network, or a head on top of it, reads a tensor of this name (ours).
    pub fn has_tensor(&self, name: &str) -> bool {
        let is_gpt = self.architecture.is_gpt();
        let Some((layer, part, kind)) = split_our_name(name) else {
            return match name {
                EMBEDDING | OUTPUT | SCORE => true,
                POSITIONS => self.positions == Positions::Learned,
                "model.norm.weight" => !self.architecture.norms_after(),
                "model.norm.bias" => is_gpt && !self.architecture.norms_after(),
                _ => false,
            };
        };
        let (is_there, has_bias) = match part {
            "input_layernorm" | "post_attention_layernorm" => (true, is_gpt),
            "self_attn.q_proj" | "self_attn.k_proj" | "self_attn.v_proj" => {
                (true, self.biases.attention_in)
            }
            "self_attn.o_proj" => (true, self.biases.attention_out),
            "self_attn.q_norm" | "self_attn.k_norm" => (self.architecture.norms_heads(), false),
            "mlp.gate_proj" => (!is_gpt, self.biases.feed_forward),
            "mlp.up_proj" | "mlp.down_proj" => (true, self.biases.feed_forward),
            _ => (false, false),
        };
        let is_kind = kind == "weight" || (kind == "bias" && has_bias);
        layer < self.num_hidden_layers && is_there && is_kind
    }

    fn check(&self) -> std::result::Result<(), String> {
        for (name, value) in [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("head_dim", self.head_dim),
        ] {
            if !(1..=LARGEST_DIMENSION).contains(&value) {
                return Err(format!("{name} is {value}"));
            }
        }
        let (heads, key_heads) = (self.num_attention_heads, self.num_key_value_heads);
        if !heads.is_multiple_of(key_heads) {
            return Err("num_attention_heads is not a multiple of num_key_value_heads".to_owned());
        }
        if self.architecture.is_gpt() && heads * self.head_dim != self.hidden_size {
            return Err("the hidden size is not a multiple of the number of heads".to_owned());
        }
        self.check_size()?;
        if !(self.norm_epsilon > 0.0 && self.norm_epsilon < 1.0) {
            return Err(format!("the epsilon of norms is {}", self.norm_epsilon));
        }
        let Positions::Rotary { theta, scaling } = self.positions else {
            return Ok(());
        };
        if self.head_dim * self.max_position_embeddings > LARGEST_ROTATION {
            return Err(format!(
                "max_position_embeddings is {}, too many for heads of {} numbers",
                self.max_position_embeddings, self.head_dim
            ));
        }
        if self.head_dim % 2 == 1 {
            return Err(format!(
                "a head has {} numbers; rotary positions need an even number",
                self.head_dim
            ));
        }
        if !(theta.is_finite() && theta > 1.0) {
            return Err(format!("rope_theta is {theta}"));
        }
        scaling.check()
    }
}

impl RopeScaling {
    /// From `rope_scaling`, or what transformers 5 keeps under `rope_parameters`.
    ///
    /// # Errors
    /// A sentence: a kind that we do not compute, or a field that is missing.
    pub fn parse(rope: &Value) -> std::result::Result<Self, String> {
        let kind = rope["rope_type"].as_str().or(rope["type"].as_str());
        let get = |name: &str| match &rope[name] {
            Value::Null => Err(format!("rope scaling has no field {name}")),
            found => float(found, name, 0.0),
        };
        match kind.unwrap_or("default") {
            "default" => Ok(Self::None),
            "linear" => Ok(Self::Linear {
                factor: get("factor")?,
            }),
            "llama3" => Ok(Self::Llama3 {
                factor: get("factor")?,
                low_freq_factor: get("low_freq_factor")?,
                high_freq_factor: get("high_freq_factor")?,
                original_context: get("original_max_position_embeddings")?,
            }),
            other => Err(format!("rope scaling {other:?} is not supported")),
        }
    }

    fn check(self) -> std::result::Result<(), String> {
        let wrong = |name: &str, value: f64| Err(format!("rope scaling's {name} is {value}"));
        match self {
            Self::None => Ok(()),
            Self::Linear { factor } | Self::Llama3 { factor, .. }
                if !(factor.is_finite() && factor >= 1.0) =>
            {
                wrong("factor", factor)
            }
            Self::Linear { .. } => Ok(()),
            Self::Llama3 {
                low_freq_factor: low,
                high_freq_factor: high,
                original_context: context,
                ..
            } => match (low > 0.0 && high > low && high.is_finite(), context >= 1.0) {
                (false, _) => wrong("high_freq_factor", high),
                (_, false) => wrong("original_max_position_embeddings", context),
                _ => Ok(()),
            },
        }
    }

    /// The frequency of a pair of numbers, stretched.
    pub fn stretch(self, frequency: f64) -> f64 {
        match self {
            Self::None => frequency,
            Self::Linear { factor } => frequency / factor,
            Self::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_context,
            } => {
                let wavelengths = original_context * frequency / std::f64::consts::TAU;
                let kept = (wavelengths - low_freq_factor) / (high_freq_factor - low_freq_factor);
                let kept = kept.clamp(0.0, 1.0);
                frequency * kept + frequency / factor * (1.0 - kept)
            }
        }
    }
}

/// `config.json`, with complaints that name the field.
struct Fields<'a> {
    value: &'a Value,
    architecture: Architecture,
}

type Found<T> = std::result::Result<T, String>;

impl Fields<'_> {
    fn number(&self, name: &str) -> Found<usize> {
        match &self.value[name] {
            Value::Null => Err(format!("has no field {name}")),
            found => found
                .as_u64()
                .and_then(|number| usize::try_from(number).ok())
                .ok_or_else(|| format!("{name} is {found}, not a whole number")),
        }
    }

    fn number_or(&self, name: &str, default: usize) -> Found<usize> {
        match &self.value[name] {
            Value::Null => Ok(default),
            _ => self.number(name),
        }
    }

    fn float_or(&self, name: &str, default: f64) -> Found<f64> {
        float(&self.value[name], name, default)
    }

    fn is_on(&self, name: &str, default: bool) -> Found<bool> {
        match &self.value[name] {
            Value::Null => Ok(default),
            found => found
                .as_bool()
                .ok_or_else(|| format!("{name} is {found}, not true or false")),
        }
    }

    /// Settings that change what is computed and that we do not compute.
    fn refuse_unsupported(&self) -> Found<()> {
        for name in [
            "use_sliding_window",
            "scale_attn_by_inverse_layer_idx",
            "add_cross_attention",
        ] {
            if self.is_on(name, false)? {
                return Err(format!("{name} is not supported"));
            }
        }
        if !self.is_on("scale_attn_weights", true)? {
            return Err("scale_attn_weights false is not supported".to_owned());
        }
        Ok(())
    }

    fn activation(&self, name: &str, default: &str) -> Found<Activation> {
        let word = self.value[name].as_str().unwrap_or(default);
        match word {
            "silu" | "swish" => Ok(Activation::Silu),
            // The first GPT calls the form by tanh simply "gelu".
            "gelu" if self.architecture == Architecture::OpenaiGpt => Ok(Activation::GeluTanh),
            "gelu" => Ok(Activation::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
            "relu" => Ok(Activation::Relu),
            other => Err(format!("{name} {other:?} is not supported")),
        }
    }

    /// Of GPT and GPT-2, whose fields have names of their own.
    fn gpt(&self) -> Found<TransformerConfig> {
        let hidden_size = self.number("n_embd")?;
        let num_attention_heads = self.number("n_head")?;
        let name = match self.architecture {
            Architecture::OpenaiGpt => "afn",
            _ => "activation_function",
        };
        Ok(TransformerConfig {
            architecture: self.architecture,
            hidden_size,
            intermediate_size: self.number_or("n_inner", hidden_size.saturating_mul(4))?,
            num_hidden_layers: self.number("n_layer")?,
            num_attention_heads,
            num_key_value_heads: num_attention_heads,
            head_dim: hidden_size / num_attention_heads.max(1),
            vocab_size: self.number("vocab_size")?,
            max_position_embeddings: self.number("n_positions")?,
            norm_epsilon: self.float_or("layer_norm_epsilon", 1e-5)?,
            positions: Positions::Learned,
            activation: self.activation(name, "gelu_new")?,
            biases: Biases {
                attention_in: true,
                attention_out: true,
                feed_forward: true,
            },
            tie_word_embeddings: self.is_on("tie_word_embeddings", true)?,
        })
    }

    /// Of Llama and what follows it.
    fn llama(&self) -> Found<TransformerConfig> {
        let hidden_size = self.number("hidden_size")?;
        let num_attention_heads = self.number("num_attention_heads")?;
        let activation = self.activation("hidden_act", "silu")?;
        if activation != Activation::Silu {
            return Err(format!(
                "hidden_act {} is not supported, only \"silu\"",
                self.value["hidden_act"]
            ));
        }
        let attention = self.is_on("attention_bias", false)?;
        let is_qwen2 = self.architecture == Architecture::Qwen2;
        Ok(TransformerConfig {
            architecture: self.architecture,
            hidden_size,
            intermediate_size: self.number("intermediate_size")?,
            num_hidden_layers: self.number("num_hidden_layers")?,
            num_attention_heads,
            num_key_value_heads: self.number_or("num_key_value_heads", num_attention_heads)?,
            head_dim: self.number_or("head_dim", hidden_size / num_attention_heads.max(1))?,
            vocab_size: self.number("vocab_size")?,
            max_position_embeddings: self.number("max_position_embeddings")?,
            norm_epsilon: self.float_or("rms_norm_eps", 1e-6)?,
            positions: self.rotary()?,
            activation,
            biases: Biases {
                // Qwen2 has these without saying so.
                attention_in: attention || is_qwen2,
                attention_out: attention && !is_qwen2,
                feed_forward: self.is_on("mlp_bias", false)?,
            },
            tie_word_embeddings: self.is_on("tie_word_embeddings", false)?,
        })
    }

    /// transformers 5 keeps everything under `rope_parameters`; older versions keep the base at
    /// the top and the rest under `rope_scaling`.
    fn rotary(&self) -> Found<Positions> {
        let (new, old) = (&self.value["rope_parameters"], &self.value["rope_scaling"]);
        let theta = match &new["rope_theta"] {
            Value::Null => self.float_or("rope_theta", 10_000.0)?,
            found => float(found, "rope_theta", 10_000.0)?,
        };
        let rope = if old.is_object() { old } else { new };
        let scaling = RopeScaling::parse(rope)?;
        Ok(Positions::Rotary { theta, scaling })
    }
}

fn float(value: &Value, name: &str, default: f64) -> Found<f64> {
    match value {
        Value::Null => Ok(default),
        found => found
            .as_f64()
            .ok_or_else(|| format!("{name} is {found}, not a number")),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use serde_json::json;

    use super::*;

    fn llama() -> Value {
        json!({
            "model_type": "llama", "hidden_size": 64, "intermediate_size": 128,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "vocab_size": 100, "max_position_embeddings": 256, "rms_norm_eps": 1e-5,
        })
    }

    #[test]
    fn what_we_do_not_compute_is_refused_by_name() {
        for (change, words) in [
            (json!({"model_type": "mamba"}), "model_type is \"mamba\""),
            (json!({"hidden_act": "gelu"}), "hidden_act"),
            (json!({"use_sliding_window": true}), "use_sliding_window"),
            (
                json!({"rope_scaling": {"type": "yarn"}}),
                "rope scaling \"yarn\"",
            ),
            (
                json!({"rope_scaling": {"type": "linear"}}),
                "no field factor",
            ),
            (
                json!({"rope_scaling": {"type": "linear", "factor": 0}}),
                "factor is 0",
            ),
            (json!({"num_key_value_heads": 3}), "not a multiple"),
            (json!({"hidden_size": 0}), "hidden_size is 0"),
            (json!({"hidden_size": "64"}), "hidden_size is \"64\""),
            (json!({"vocab_size": null}), "no field vocab_size"),
            (json!({"head_dim": 15}), "even number"),
            (json!({"rms_norm_eps": -1}), "epsilon"),
            (
                json!({"num_hidden_layers": 1_000_000_000}),
                "num_hidden_layers is",
            ),
            (
                json!({"vocab_size": 1_000_000_000_000_u64}),
                "vocab_size is",
            ),
            (json!({"num_attention_heads": -4}), "-4, not a whole number"),
            (json!({"num_attention_heads": 0}), "num_attention_heads is"),
            (json!({"hidden_size": u64::MAX}), "hidden_size is"),
            (json!({"intermediate_size": 1.5}), "1.5, not a whole number"),
            (
                json!({"head_dim": 1 << 20, "max_position_embeddings": 1 << 20}),
                "too many for heads",
            ),
            (
                json!({"model_type": "gpt2", "n_embd": u64::MAX, "n_head": 1, "n_layer": 1,
                       "n_positions": 8}),
                "hidden_size is",
            ),
        ] {
            let mut value = llama();
            for (key, change) in change.as_object().unwrap() {
                value[key] = change.clone();
            }
            let error = TransformerConfig::parse(&value).unwrap_err();
            assert!(error.contains(words), "{words}: {error}");
        }
    }

    #[test]
    fn both_places_of_the_rotary_base_are_read() {
        let theta = |extra: Value| {
            let mut value = llama();
            for (key, change) in extra.as_object().unwrap() {
                value[key] = change.clone();
            }
            match TransformerConfig::parse(&value).unwrap().positions {
                Positions::Rotary { theta, .. } => theta,
                Positions::Learned => unreachable!("a Llama rotates"),
            }
        };
        assert_eq!(theta(json!({})), 10_000.0);
        assert_eq!(theta(json!({"rope_theta": 5e5})), 5e5);
        let new = json!({"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}});
        assert_eq!(theta(new), 1e6);
    }

    #[test]
    fn llama3_keeps_high_frequencies_and_divides_low_ones() {
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 8192.0,
        };
        assert_eq!(scaling.stretch(1.0), 1.0);
        assert_eq!(scaling.stretch(1e-5), 1e-5 / 8.0);
        // In the middle of the blend, 2.5 wavelengths in the old context: half of each.
        let middle = 2.5 * std::f64::consts::TAU / 8192.0;
        let wanted = 0.5 * middle + 0.5 * middle / 8.0;
        assert!((scaling.stretch(middle) - wanted).abs() < 1e-12);
    }
}
