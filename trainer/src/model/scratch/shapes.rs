//! How large a new model is, and the sizes that papers name.

use serde_json::{Value, json};

use crate::error::{Result, TrainerError};
use crate::model::architecture::{Architecture, EMBEDDING, FINAL_NORM, POSITIONS};
use crate::model::transformer_config::TransformerConfig;

/// The shape of a new model. Its output projection is its embedding, as in GPT-2 and the smaller
/// models of every family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// The family.
    pub architecture: Architecture,
    /// Blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; as many as query heads where none is given. GPT has no fewer.
    pub key_value_heads: Option<usize>,
    /// Longest sequence, in tokens.
    pub context: usize,
}

/// A shape that a paper names.
#[derive(Debug, Clone, Copy)]
pub struct NamedShape {
    /// Its name on the command line.
    pub name: &'static str,
    /// The shape.
    pub shape: Shape,
}

const fn gpt(
    name: &'static str,
    layers: usize,
    hidden: usize,
    heads: usize,
    context: usize,
) -> NamedShape {
    let shape = Shape {
        architecture: Architecture::Gpt2,
        layers,
        hidden,
        heads,
        key_value_heads: None,
        context,
    };
    NamedShape { name, shape }
}

/// Tokens of GPT-2's and GPT-3's vocabulary.
pub const GPT2_VOCABULARY: usize = 50_257;

impl NamedShape {
    /// GPT-2's four (Radford et al. 2019, table 2, with the heads of its code), and GPT-3's eight
    /// (table 2.1 of arXiv 2005.14165). GPT-3's are dense here, where every other layer of the
    /// paper's is sparse. Two rows of that table do not multiply out, and stand here as heads of 128:
    /// `xl` prints 24 heads for a width of 2048, and `13b` a width of 5140 for 40 heads.
    pub const ALL: [Self; 12] = [
        gpt("gpt2-small", 12, 768, 12, 1024),
        gpt("gpt2-medium", 24, 1024, 16, 1024),
        gpt("gpt2-large", 36, 1280, 20, 1024),
        gpt("gpt2-xl", 48, 1600, 25, 1024),
        gpt("gpt3-small", 12, 768, 12, 2048),
        gpt("gpt3-medium", 24, 1024, 16, 2048),
        gpt("gpt3-large", 24, 1536, 16, 2048),
        gpt("gpt3-xl", 24, 2048, 16, 2048),
        gpt("gpt3-2.7b", 32, 2560, 32, 2048),
        gpt("gpt3-6.7b", 32, 4096, 32, 2048),
        gpt("gpt3-13b", 40, 5120, 40, 2048),
        gpt("gpt3-175b", 96, 12_288, 96, 2048),
    ];

    /// The shape of that name.
    ///
    /// # Errors
    /// Names them all.
    pub fn find(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|shape| shape.name == name);
        found.ok_or_else(|| {
            let known = Self::ALL.map(|shape| shape.name).join(", ");
            TrainerError::Config {
                field: "shape".into(),
                message: format!("{name:?} is not known; known are {known}"),
            }
        })
    }
}

impl Shape {
    /// Width inside the feed-forward layer: four times the width, and for a gated layer two thirds of
    /// that (Touvron et al., arXiv 2302.13971, section 2.2), rounded up to a multiple of 32.
    fn intermediate(&self) -> usize {
        match self.architecture.is_gpt() {
            true => 4 * self.hidden,
            false => (8 * self.hidden).div_ceil(3).next_multiple_of(32),
        }
    }

    /// `config.json` without the ids of special tokens.
    ///
    /// # Errors
    /// `Config` with what does not fit together.
    pub fn config(&self, vocabulary: usize) -> Result<Value> {
        let refuse = |message: String| {
            let field = "shape".into();
            Err(TrainerError::Config { field, message })
        };
        let (hidden, heads) = (self.hidden, self.heads);
        let key_value_heads = self.key_value_heads.unwrap_or(heads);
        if heads == 0 || !hidden.is_multiple_of(heads) {
            return refuse(format!(
                "a width of {hidden} is not a multiple of {heads} heads"
            ));
        }
        if self.architecture.is_gpt() && key_value_heads != heads {
            return refuse(format!(
                "{} has as many key heads as query heads: {heads}, not {key_value_heads}",
                self.architecture.model_type()
            ));
        }
        let mut config = json!({
            "architectures": [self.architecture.language_model_class()],
            "model_type": self.architecture.model_type(),
            "vocab_size": vocabulary,
            "initializer_range": 0.02,
            "tie_word_embeddings": true,
            "dtype": "float32",
            "torch_dtype": "float32",
        });
        let rest = match self.architecture {
            Architecture::Gpt2 | Architecture::OpenaiGpt => json!({
                "n_layer": self.layers, "n_embd": hidden, "n_head": heads, "n_positions": self.context,
                "layer_norm_epsilon": 1e-5,
                // None of the papers' dropout: the trainer has none.
                "embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0,
            }),
            _ => json!({
                "num_hidden_layers": self.layers, "hidden_size": hidden,
                "intermediate_size": self.intermediate(),
                "num_attention_heads": heads, "num_key_value_heads": key_value_heads,
                "head_dim": hidden / heads, "max_position_embeddings": self.context,
                "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 10_000.0,
                "attention_dropout": 0.0, "use_cache": true,
            }),
        };
        let more = match self.architecture {
            Architecture::Gpt2 => json!({"activation_function": "gelu_new"}),
            Architecture::OpenaiGpt => json!({"afn": "gelu"}),
            Architecture::Llama => json!({"attention_bias": false, "mlp_bias": false}),
            Architecture::Qwen2 => json!({"use_sliding_window": false}),
            Architecture::Qwen3 => json!({"use_sliding_window": false, "attention_bias": false}),
        };
        for (key, value) in [rest, more].iter().filter_map(Value::as_object).flatten() {
            config[key.as_str()] = value.clone();
        }
        match TransformerConfig::parse(&config) {
            Ok(_) => Ok(config),
            Err(message) => refuse(message),
        }
    }

    /// How many numbers a model of this shape has.
    ///
    /// # Errors
    /// As [`Shape::config`].
    pub fn n_parameters(&self, vocabulary: usize) -> Result<u64> {
        let config = TransformerConfig::parse(&self.config(vocabulary)?);
        let config = config.map_err(|message| TrainerError::Config {
            field: "shape".into(),
            message,
        })?;
        let size =
            |(_, shape): (String, Vec<usize>)| shape.iter().map(|n| *n as u64).product::<u64>();
        Ok(tensor_shapes(&config).into_iter().map(size).sum())
    }
}

/// Every tensor of a language model whose output is its embedding, by our names, with its shape.
pub fn tensor_shapes(config: &TransformerConfig) -> Vec<(String, Vec<usize>)> {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let queries = config.num_attention_heads * config.head_dim;
    let keys = config.num_key_value_heads * config.head_dim;
    let parts = [
        ("input_layernorm", vec![hidden]),
        ("self_attn.q_proj", vec![queries, hidden]),
        ("self_attn.k_proj", vec![keys, hidden]),
        ("self_attn.v_proj", vec![keys, hidden]),
        ("self_attn.o_proj", vec![hidden, queries]),
        ("self_attn.q_norm", vec![config.head_dim]),
        ("self_attn.k_norm", vec![config.head_dim]),
        ("post_attention_layernorm", vec![hidden]),
        ("mlp.gate_proj", vec![inner, hidden]),
        ("mlp.up_proj", vec![inner, hidden]),
        ("mlp.down_proj", vec![hidden, inner]),
    ];
    let mut all = vec![
        (EMBEDDING.to_owned(), vec![config.vocab_size, hidden]),
        (
            POSITIONS.to_owned(),
            vec![config.max_position_embeddings, hidden],
        ),
        (format!("{FINAL_NORM}.weight"), vec![hidden]),
        (format!("{FINAL_NORM}.bias"), vec![hidden]),
    ];
    for layer in 0..config.num_hidden_layers {
        for (part, shape) in &parts {
            all.push((format!("model.layers.{layer}.{part}.weight"), shape.clone()));
            all.push((format!("model.layers.{layer}.{part}.bias"), vec![shape[0]]));
        }
    }
    all.retain(|(name, _)| config.has_tensor(name));
    all
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    /// The exact counts of the released GPT-2 models, and GPT-3's to the digits that its table prints.
    #[test]
    fn named_shapes_have_the_sizes_of_their_papers() {
        let n = |name: &str| {
            let shape = NamedShape::find(name).unwrap().shape;
            shape.n_parameters(GPT2_VOCABULARY).unwrap()
        };
        assert_eq!(n("gpt2-small"), 124_439_808);
        assert_eq!(n("gpt2-medium"), 354_823_168);
        assert_eq!(n("gpt2-large"), 774_030_080);
        assert_eq!(n("gpt2-xl"), 1_557_611_200);
        for (name, printed) in [
            ("gpt3-small", 125e6),
            ("gpt3-medium", 350e6),
            ("gpt3-large", 760e6),
            ("gpt3-xl", 1.3e9),
            ("gpt3-2.7b", 2.7e9),
            ("gpt3-6.7b", 6.7e9),
            ("gpt3-13b", 13e9),
            ("gpt3-175b", 175e9),
        ] {
            let found = n(name) as f64;
            assert!((found / printed - 1.0).abs() < 0.025, "{name}: {found}");
        }
    }

    #[test]
    fn what_does_not_fit_together_is_refused_by_name() {
        let small = NamedShape::find("gpt2-small").unwrap().shape;
        for (shape, words) in [
            (Shape { heads: 7, ..small }, "multiple of 7 heads"),
            (Shape { heads: 0, ..small }, "multiple of 0 heads"),
            (
                Shape {
                    key_value_heads: Some(4),
                    ..small
                },
                "as many key heads",
            ),
            (Shape { layers: 0, ..small }, "num_hidden_layers is 0"),
        ] {
            let error = shape.config(500).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let error = NamedShape::find("gpt5").unwrap_err().to_string();
        assert!(error.contains("gpt3-175b"), "{error}");
    }
}
