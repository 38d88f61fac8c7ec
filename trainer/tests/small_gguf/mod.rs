//! A GGUF file of the Llama family with one block and a few tokens.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::io::Cursor;

use candle_core::quantized::gguf_file::{Value, write};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};

const HIDDEN: usize = 8;
const INNER: usize = 16;

/// The file's fields, to be changed before [`build`].
pub(crate) fn fields() -> Vec<(&'static str, Value)> {
    let text = |text: &str| Value::String(text.to_owned());
    let texts = |all: &[&str]| Value::Array(all.iter().map(|one| text(one)).collect());
    let number = Value::U32;
    vec![
        ("general.architecture", text("llama")),
        ("general.alignment", number(32)),
        ("llama.embedding_length", number(HIDDEN as u32)),
        ("llama.feed_forward_length", number(INNER as u32)),
        ("llama.block_count", number(1)),
        ("llama.attention.head_count", number(2)),
        ("llama.attention.head_count_kv", number(1)),
        ("llama.context_length", number(32)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("llama.rope.freq_base", Value::F32(10_000.0)),
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text("smollm")),
        (
            "tokenizer.ggml.tokens",
            texts(&["<s>", "</s>", "a", "b", "ab"]),
        ),
        (
            "tokenizer.ggml.token_type",
            Value::Array([3, 3, 1, 1, 1].map(Value::I32).to_vec()),
        ),
        ("tokenizer.ggml.merges", texts(&["a b"])),
        ("tokenizer.ggml.bos_token_id", number(0)),
        ("tokenizer.ggml.eos_token_id", number(1)),
        (
            "tokenizer.chat_template",
            text("{% for m in messages %}{{ m.content }}{% endfor %}"),
        ),
    ]
}

/// The file's bytes.
pub(crate) fn build(fields: &[(&str, Value)]) -> Vec<u8> {
    let tensors = [
        ("token_embd.weight", vec![5, HIDDEN]),
        ("output_norm.weight", vec![HIDDEN]),
        ("blk.0.attn_norm.weight", vec![HIDDEN]),
        ("blk.0.attn_q.weight", vec![HIDDEN, HIDDEN]),
        ("blk.0.attn_k.weight", vec![HIDDEN / 2, HIDDEN]),
        ("blk.0.attn_v.weight", vec![HIDDEN / 2, HIDDEN]),
        ("blk.0.attn_output.weight", vec![HIDDEN, HIDDEN]),
        ("blk.0.ffn_norm.weight", vec![HIDDEN]),
        ("blk.0.ffn_gate.weight", vec![INNER, HIDDEN]),
        ("blk.0.ffn_up.weight", vec![INNER, HIDDEN]),
        ("blk.0.ffn_down.weight", vec![HIDDEN, INNER]),
    ];
    let tensors = tensors.map(|(name, shape)| {
        let ones = Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap();
        (name, QTensor::quantize(&ones, GgmlDType::F32).unwrap())
    });
    let fields: Vec<(&str, &Value)> = fields.iter().map(|(name, value)| (*name, value)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, one)| (*name, one)).collect();
    let mut file = Cursor::new(Vec::new());
    write(&mut file, &fields, &tensors).unwrap();
    file.into_inner()
}
