//! Where GGUF keeps each tensor, and how it turns some of them. Both ways go by way of our own names
//! (see [`crate::model::architecture`]), and are the inverse of each other to the bit.
//!
//! Two things differ besides names. Llama's files interleave the two halves of each head's rows of
//! the query and key projections, for their form of the rotary embedding; those of Qwen do not.
//! GPT-2's hold queries, keys and values as one matrix, `[out, in]` like all others.

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::error::Result;
use crate::model::architecture::{Architecture, EMBEDDING, OUTPUT, POSITIONS, split_our_name};
use crate::model::transformer_config::TransformerConfig;

/// Frequency factors of Llama 3.1's rotary scaling; follows from the configuration.
pub(super) const ROPE_FACTORS: &str = "rope_freqs.weight";

/// What is there once, `(ours, theirs)`.
const WHOLE: [(&str, &str); 5] = [
    (EMBEDDING, "token_embd.weight"),
    (POSITIONS, "position_embd.weight"),
    ("model.norm.weight", "output_norm.weight"),
    ("model.norm.bias", "output_norm.bias"),
    (OUTPUT, "output.weight"),
];

/// Parts of a block, `(ours, theirs)`.
const PARTS: [(&str, &str); 11] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

const QKV: [&str; 3] = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];
const GPT_QKV: &str = "attn_qkv";

/// GGUF's name of what is there once.
pub(super) fn whole(ours: &str) -> &'static str {
    let found = WHOLE.iter().find(|(name, _)| *name == ours);
    found.map_or("", |(_, theirs)| theirs)
}

/// Our name and tensor of one of GGUF's, or three where it is GPT-2's queries, keys and values; none
/// where the name is unknown.
pub(super) fn take_in(
    config: &TransformerConfig,
    name: &str,
    tensor: &Tensor,
) -> Result<Option<Vec<(String, Tensor)>>> {
    if let Some((ours, _)) = WHOLE.iter().find(|(_, theirs)| *theirs == name) {
        return Ok(Some(vec![((*ours).to_owned(), tensor.clone())]));
    }
    let Some((layer, part, kind)) = split(name) else {
        return Ok(None);
    };
    let place = |part: &str| format!("model.layers.{layer}.{part}.{kind}");
    if part == GPT_QKV && config.architecture == Architecture::Gpt2 {
        let rows = tensor.dim(0)? / 3;
        let pieces = (0..3).zip(QKV).map(|(index, part)| {
            let piece = tensor.narrow(0, index * rows, rows)?.copy()?;
            Ok((place(part), piece))
        });
        return pieces.collect::<Result<_>>().map(Some);
    }
    let Some((ours, _)) = PARTS.iter().find(|(_, theirs)| *theirs == part) else {
        return Ok(None);
    };
    let tensor = match interleaved_heads(config, ours) {
        Some(heads) => swap_halves(tensor, heads, Form::Interleaved)?,
        None => tensor.clone(),
    };
    Ok(Some(vec![(place(ours), tensor)]))
}

/// GGUF's names and tensors from ours.
pub(super) fn give_out(
    config: &TransformerConfig,
    tensors: &BTreeMap<String, Tensor>,
) -> Result<BTreeMap<String, Tensor>> {
    let mut theirs = BTreeMap::new();
    for (name, tensor) in tensors {
        if let Some((_, whole)) = WHOLE.iter().find(|(ours, _)| ours == name) {
            theirs.insert((*whole).to_owned(), tensor.clone());
            continue;
        }
        let Some((layer, part, kind)) = split_our_name(name) else {
            continue;
        };
        let place = |part: &str| format!("blk.{layer}.{part}.{kind}");
        if config.architecture == Architecture::Gpt2 && QKV.contains(&part) {
            let pieces = QKV.map(|part| &tensors[&format!("model.layers.{layer}.{part}.{kind}")]);
            theirs.insert(place(GPT_QKV), Tensor::cat(&pieces, 0)?);
        } else if let Some((_, found)) = PARTS.iter().find(|(ours, _)| *ours == part) {
            let tensor = match interleaved_heads(config, part) {
                Some(heads) => swap_halves(tensor, heads, Form::Halves)?,
                None => tensor.clone(),
            };
            theirs.insert(place(found), tensor);
        }
    }
    Ok(theirs)
}

/// `blk.3.attn_q.weight` as `(3, attn_q, weight)`.
fn split(name: &str) -> Option<(usize, &str, &str)> {
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let (part, kind) = rest.split_once('.')?;
    matches!(kind, "weight" | "bias").then_some(())?;
    Some((layer.parse().ok()?, part, kind))
}

/// The heads of a part whose rows are interleaved.
fn interleaved_heads(config: &TransformerConfig, part: &str) -> Option<usize> {
    match (config.architecture, part) {
        (Architecture::Llama, "self_attn.q_proj") => Some(config.num_attention_heads),
        (Architecture::Llama, "self_attn.k_proj") => Some(config.num_key_value_heads),
        _ => None,
    }
}

/// How the rows of a head lie.
#[derive(Clone, Copy)]
enum Form {
    /// The first half, then the second (Hugging Face).
    Halves,
    /// One of each in turn (GGUF).
    Interleaved,
}

/// The rows `[out, ...]` in the other form.
fn swap_halves(tensor: &Tensor, heads: usize, form: Form) -> Result<Tensor> {
    let rows = tensor.dim(0)?;
    let width = tensor.elem_count() / rows.max(1);
    let half = rows / heads / 2;
    let turned = match form {
        Form::Halves => tensor.reshape((heads, 2, half, width))?,
        Form::Interleaved => tensor.reshape((heads, half, 2, width))?,
    };
    let turned = turned.transpose(1, 2)?.contiguous()?;
    Ok(turned.reshape(tensor.shape())?)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use candle_core::Device;

    use super::*;

    #[test]
    fn rows_of_a_head_are_interleaved_and_laid_back() {
        // Two heads of four rows each.
        let rows = Tensor::arange(0f32, 8.0, &Device::Cpu).unwrap();
        let rows = rows.reshape((8, 1)).unwrap();
        let theirs = swap_halves(&rows, 2, Form::Halves).unwrap();
        let numbers =
            |tensor: &Tensor| -> Vec<f32> { tensor.flatten_all().unwrap().to_vec1().unwrap() };
        assert_eq!(numbers(&theirs), [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
        let back = swap_halves(&theirs, 2, Form::Interleaved).unwrap();
        assert_eq!(numbers(&back), numbers(&rows));
    }
}
