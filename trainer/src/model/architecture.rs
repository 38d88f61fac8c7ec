//! The families of networks, and where their folders keep each tensor.
//!
//! Inside the trainer every tensor has the name that Llama's folders give it, and every matrix is
//! `[out, in]`. GPT's folders call them differently, keep matrices as `[in, out]`, and queries, keys
//! and values as one; [`Architecture::take_in`] and [`Architecture::give_out`] translate, and are
//! the inverse of each other to the bit.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Tensor;

use crate::error::{Result, TrainerError};
use crate::model::transformer_config::TransformerConfig;

/// A family of decoder-only networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// The first GPT: norms after each part, none at the end.
    OpenaiGpt,
    /// GPT-2, and GPT-3's shapes without its sparse attention.
    Gpt2,
    /// Llama and its kin, SmolLM2 among them.
    Llama,
    /// Qwen2 and 2.5: Llama with biases on queries, keys and values.
    Qwen2,
    /// Qwen3: Llama with norms on queries and keys.
    Qwen3,
}

/// Name of the embedding's tensor.
pub const EMBEDDING: &str = "model.embed_tokens.weight";
/// Name of the learned positions' tensor.
pub const POSITIONS: &str = "model.embed_positions.weight";
/// Name of the output projection's tensor.
pub const OUTPUT: &str = "lm_head.weight";
/// Name of a reward or value model's head.
pub const SCORE: &str = "score.weight";
/// Beginning of the final norm's tensors' names.
pub const FINAL_NORM: &str = "model.norm";

/// Parts of a GPT block by our names, by GPT's, and whether it is a matrix, which GPT keeps as
/// `[in, out]`. Queries, keys and values are apart.
const GPT_PARTS: [(&str, &str, bool); 5] = [
    ("input_layernorm", "ln_1", false),
    ("self_attn.o_proj", "attn.c_proj", true),
    ("post_attention_layernorm", "ln_2", false),
    ("mlp.up_proj", "mlp.c_fc", true),
    ("mlp.down_proj", "mlp.c_proj", true),
];

/// Queries, keys and values, in the order in which GPT keeps them as one.
const QKV: [&str; 3] = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];
const GPT_QKV: &str = "attn.c_attn";

impl Architecture {
    /// Every family.
    pub const ALL: [Self; 5] = [
        Self::OpenaiGpt,
        Self::Gpt2,
        Self::Llama,
        Self::Qwen2,
        Self::Qwen3,
    ];

    /// `model_type` in `config.json`.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::OpenaiGpt => "openai-gpt",
            Self::Gpt2 => "gpt2",
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    /// The family of a `model_type`.
    pub fn of_model_type(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|architecture| architecture.model_type() == word)
    }

    fn class_prefix(self) -> &'static str {
        match self {
            Self::OpenaiGpt => "OpenAIGPT",
            Self::Gpt2 => "GPT2",
            Self::Llama => "Llama",
            Self::Qwen2 => "Qwen2",
            Self::Qwen3 => "Qwen3",
        }
    }

    /// transformers' class of a language model.
    pub fn language_model_class(self) -> String {
        let head = match self {
            Self::OpenaiGpt | Self::Gpt2 => "LMHeadModel",
            _ => "ForCausalLM",
        };
        format!("{}{head}", self.class_prefix())
    }

    /// transformers' class of a reward model.
    pub fn reward_model_class(self) -> String {
        format!("{}ForSequenceClassification", self.class_prefix())
    }

    /// Whether it is GPT or GPT-2: learned positions, LayerNorm, one matrix for queries, keys and
    /// values.
    pub fn is_gpt(self) -> bool {
        matches!(self, Self::OpenaiGpt | Self::Gpt2)
    }

    /// Whether norms follow each part instead of going before it.
    pub fn norms_after(self) -> bool {
        self == Self::OpenaiGpt
    }

    /// Whether queries and keys are normed within each head.
    pub fn norms_heads(self) -> bool {
        self == Self::Qwen3
    }

    /// Our names and matrices from those of a folder.
    ///
    /// # Errors
    /// A sentence naming a tensor that the architecture does not have, or one of the wrong shape.
    pub fn take_in(
        self,
        tensors: BTreeMap<String, Tensor>,
        config: &TransformerConfig,
    ) -> Result<BTreeMap<String, Tensor>> {
        let mut ours = BTreeMap::new();
        for (name, tensor) in tensors {
            if is_derived(&name) || (config.tie_word_embeddings && name == OUTPUT) {
                continue;
            }
            if !self.is_gpt() {
                ours.insert(name, tensor);
                continue;
            }
            let unknown = || {
                let message = format!("holds a tensor that the architecture does not have: {name}");
                TrainerError::checkpoint(Path::new("model.safetensors"), message)
            };
            // Folders of the bare network leave the prefix out.
            let inner = name.strip_prefix("transformer.").unwrap_or(&name);
            if let Some(whole) = self.whole_name(inner) {
                ours.insert(whole, tensor);
                continue;
            }
            let (layer, part, kind) = split_gpt_name(inner).ok_or_else(unknown)?;
            let place = |part: &str| format!("model.layers.{layer}.{part}.{kind}");
            if part == GPT_QKV {
                for (part, piece) in QKV.iter().zip(split_qkv(&tensor, &name)?) {
                    ours.insert(place(part), piece);
                }
                continue;
            }
            let (part, _, is_matrix) = GPT_PARTS
                .into_iter()
                .find(|(_, theirs, _)| *theirs == part)
                .ok_or_else(unknown)?;
            let tensor = match is_matrix && kind == "weight" && tensor.rank() == 2 {
                true => tensor.t()?.contiguous()?,
                false => tensor,
            };
            ours.insert(place(part), tensor);
        }
        Ok(ours)
    }

    /// The names and matrices of a folder from ours.
    ///
    /// # Errors
    /// When the device has no memory.
    pub fn give_out(self, tensors: &BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Tensor>> {
        if !self.is_gpt() {
            return Ok(tensors.clone());
        }
        let mut theirs = BTreeMap::new();
        for (name, tensor) in tensors {
            if let Some(whole) = self.folder_name(name) {
                theirs.insert(whole, tensor.clone());
                continue;
            }
            let Some((layer, part, kind)) = split_our_name(name) else {
                theirs.insert(name.clone(), tensor.clone());
                continue;
            };
            let place = |part: &str| format!("transformer.h.{layer}.{part}.{kind}");
            if part == QKV[0] {
                let pieces =
                    QKV.map(|part| &tensors[&format!("model.layers.{layer}.{part}.{kind}")]);
                theirs.insert(place(GPT_QKV), join_qkv(pieces)?);
            } else if let Some((_, part, is_matrix)) =
                GPT_PARTS.into_iter().find(|(ours, ..)| *ours == part)
            {
                let tensor = match is_matrix && kind == "weight" {
                    true => tensor.t()?.contiguous()?,
                    false => tensor.clone(),
                };
                theirs.insert(place(part), tensor);
            }
        }
        Ok(theirs)
    }

    /// GPT's names of what is there once, `(ours, theirs)`.
    fn whole_names(self) -> [(&'static str, &'static str); 5] {
        let (tokens, positions) = match self {
            Self::OpenaiGpt => ("tokens_embed.weight", "positions_embed.weight"),
            _ => ("wte.weight", "wpe.weight"),
        };
        [
            (EMBEDDING, tokens),
            (POSITIONS, positions),
            ("model.norm.weight", "ln_f.weight"),
            ("model.norm.bias", "ln_f.bias"),
            // The heads stand outside the network and keep their names.
            (OUTPUT, OUTPUT),
        ]
    }

    fn whole_name(self, theirs: &str) -> Option<String> {
        let names = self.whole_names();
        let found = names.into_iter().find(|(_, name)| *name == theirs);
        found
            .map(|(ours, _)| ours.to_owned())
            .or_else(|| (theirs == SCORE).then(|| SCORE.to_owned()))
    }

    fn folder_name(self, ours: &str) -> Option<String> {
        let names = self.whole_names();
        let (_, theirs) = names
            .into_iter()
            .find(|(name, _)| *name == ours && *name != OUTPUT)?;
        Some(format!("transformer.{theirs}"))
    }
}

/// What some writers store although it follows from the configuration: rotary frequencies, and
/// GPT's causal masks.
fn is_derived(name: &str) -> bool {
    name.ends_with("rotary_emb.inv_freq")
        || name.ends_with(".attn.bias")
        || name.ends_with(".attn.masked_bias")
}

/// `h.3.attn.c_proj.weight` as `(3, attn.c_proj, weight)`.
fn split_gpt_name(name: &str) -> Option<(usize, &str, &str)> {
    let (layer, rest) = name.strip_prefix("h.")?.split_once('.')?;
    let (part, kind) = rest.rsplit_once('.')?;
    matches!(kind, "weight" | "bias").then_some(())?;
    Some((layer.parse().ok()?, part, kind))
}

/// `model.layers.3.self_attn.o_proj.weight` as `(3, self_attn.o_proj, weight)`.
pub fn split_our_name(name: &str) -> Option<(usize, &str, &str)> {
    let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (part, kind) = rest.rsplit_once('.')?;
    Some((layer.parse().ok()?, part, kind))
}

/// `[in, 3 out]` as three `[out, in]`, or `[3 out]` as three `[out]`.
fn split_qkv(tensor: &Tensor, name: &str) -> Result<[Tensor; 3]> {
    let last = tensor.rank().saturating_sub(1);
    let width = tensor.dims().last().copied().unwrap_or(0);
    if width == 0 || width % 3 != 0 || tensor.rank() > 2 {
        let message = format!(
            "tensor {name} is {:?}, not three matrices in one",
            tensor.dims()
        );
        let path = Path::new("model.safetensors");
        return Err(TrainerError::checkpoint(path, message));
    }
    let piece = |index: usize| -> Result<Tensor> {
        let piece = tensor.narrow(last, index * width / 3, width / 3)?;
        let piece = if last == 1 { piece.t()? } else { piece };
        // A copy of its own, so that the whole can be let go.
        Ok(piece.contiguous()?.copy()?)
    };
    Ok([piece(0)?, piece(1)?, piece(2)?])
}

fn join_qkv(pieces: [&Tensor; 3]) -> Result<Tensor> {
    let last = pieces[0].rank() - 1;
    let turned = pieces.map(|piece| match last {
        1 => piece.t(),
        _ => Ok(piece.clone()),
    });
    let turned = turned
        .into_iter()
        .collect::<candle_core::Result<Vec<_>>>()?;
    Ok(Tensor::cat(&turned, last)?.contiguous()?)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use serde_json::json;

    use super::*;
    use crate::nn::test_support::{distance, random};

    fn gpt2() -> TransformerConfig {
        TransformerConfig::parse(&json!({
            "model_type": "gpt2", "n_embd": 4, "n_head": 2, "n_layer": 1, "vocab_size": 5,
            "n_positions": 6,
        }))
        .unwrap()
    }

    fn folder() -> BTreeMap<String, Tensor> {
        [
            ("wte.weight", vec![5, 4]),
            ("wpe.weight", vec![6, 4]),
            ("h.0.ln_1.weight", vec![4]),
            ("h.0.ln_1.bias", vec![4]),
            ("h.0.attn.c_attn.weight", vec![4, 12]),
            ("h.0.attn.c_attn.bias", vec![12]),
            ("h.0.attn.c_proj.weight", vec![4, 4]),
            ("h.0.attn.c_proj.bias", vec![4]),
            ("h.0.ln_2.weight", vec![4]),
            ("h.0.ln_2.bias", vec![4]),
            ("h.0.mlp.c_fc.weight", vec![4, 16]),
            ("h.0.mlp.c_fc.bias", vec![16]),
            ("h.0.mlp.c_proj.weight", vec![16, 4]),
            ("h.0.mlp.c_proj.bias", vec![4]),
            ("ln_f.weight", vec![4]),
            ("ln_f.bias", vec![4]),
        ]
        .into_iter()
        .map(|(name, shape)| (format!("transformer.{name}"), random(name, &shape)))
        .collect()
    }

    #[test]
    fn gpt2_folders_come_in_and_go_out_as_they_were() {
        let theirs = folder();
        let mut written = theirs.clone();
        // Masks that old writers store, and a head that is the embedding.
        written.insert(
            "transformer.h.0.attn.bias".to_owned(),
            random("mask", &[1, 1, 6, 6]),
        );
        written.insert(OUTPUT.to_owned(), theirs["transformer.wte.weight"].clone());
        let ours = Architecture::Gpt2.take_in(written, &gpt2()).unwrap();
        assert_eq!(ours.len(), theirs.len() + 4);
        let up = &ours["model.layers.0.mlp.up_proj.weight"];
        assert_eq!(up.dims(), [16, 4]);
        let keys = &ours["model.layers.0.self_attn.k_proj.weight"];
        let middle = theirs["transformer.h.0.attn.c_attn.weight"].narrow(1, 4, 4);
        assert_eq!(distance(keys, &middle.unwrap().t().unwrap()), 0.0);
        let back = Architecture::Gpt2.give_out(&ours).unwrap();
        assert_eq!(
            back.keys().collect::<Vec<_>>(),
            theirs.keys().collect::<Vec<_>>()
        );
        for (name, tensor) in &theirs {
            assert_eq!(distance(tensor, &back[name]), 0.0, "{name}");
        }
    }

    #[test]
    fn a_folder_of_the_bare_network_is_read_and_a_strange_tensor_named() {
        let bare: BTreeMap<String, Tensor> = folder()
            .into_iter()
            .map(|(name, tensor)| (name.replace("transformer.", ""), tensor))
            .collect();
        let ours = Architecture::Gpt2.take_in(bare.clone(), &gpt2()).unwrap();
        assert!(ours.contains_key(EMBEDDING) && ours.contains_key("model.norm.bias"));
        let mut strange = bare;
        strange.insert("h.0.attn.extra.weight".to_owned(), random("x", &[1]));
        let error = Architecture::Gpt2.take_in(strange, &gpt2()).unwrap_err();
        assert!(
            error.to_string().contains("h.0.attn.extra.weight"),
            "{error}"
        );
    }
}
