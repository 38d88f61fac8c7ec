//! GGUF files from anywhere: read, or refused in one sentence with nothing left behind.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod small_gguf;

use std::path::Path;

use candle_core::Device;
use candle_core::quantized::gguf_file::Value;
use small_gguf::{build, fields};
use trainer::error::Result;
use trainer::gguf::convert;
use trainer::model::transformer::Transformer;
use trainer::model::weights::Trainable;
use trainer::text::TextCodec;

/// Fields that have a default.
const OPTIONAL: [&str; 4] = [
    "general.alignment",
    "llama.rope.freq_base",
    "tokenizer.ggml.bos_token_id",
    "tokenizer.chat_template",
];

fn try_bytes(folder: &Path, bytes: &[u8]) -> Result<()> {
    let file = folder.join("model.gguf");
    std::fs::write(&file, bytes).unwrap();
    convert(&file, &folder.join("model"), &[])
}

fn assert_refused(folder: &Path, bytes: &[u8], words: &str) {
    let said = try_bytes(folder, bytes).unwrap_err().to_string();
    assert!(
        said.contains("model.gguf: ") && said.contains(words),
        "{said}"
    );
    assert!(said.len() < 900 && !said.contains('\n'), "{said}");
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1, "{said}");
}

#[test]
fn a_whole_file_becomes_a_model_and_a_truncated_one_is_refused_at_every_length() {
    let folder = tempfile::tempdir().unwrap();
    let whole = build(&fields());
    for length in 0..whole.len() {
        assert_refused(folder.path(), &whole[..length], "");
    }
    try_bytes(folder.path(), &whole).unwrap();
    let model = folder.path().join("model");
    Transformer::load(&model, &Device::Cpu, Trainable::Everything).unwrap();
    assert_eq!(TextCodec::load(&model).unwrap().encode("ab").unwrap(), [4]);
}

#[test]
fn a_file_that_lies_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |name: &str, value: Value, words: &str| {
        let mut changed = fields();
        changed.iter_mut().find(|field| field.0 == name).unwrap().1 = value;
        assert_refused(folder.path(), &build(&changed), words);
    };
    let number = Value::U32;
    let text = |text: &str| Value::String(text.to_owned());
    refused("general.alignment", number(0), "gave up");
    refused("general.architecture", text("bert"), "\"bert\"");
    refused(
        "llama.attention.head_count",
        number(0),
        "num_attention_heads is 0",
    );
    refused("llama.attention.head_count", number(3), "attn_q.weight");
    refused(
        "llama.attention.head_count_kv",
        number(0),
        "num_key_value_heads is 0",
    );
    refused(
        "llama.block_count",
        number(u32::MAX),
        "num_hidden_layers is",
    );
    refused(
        "llama.embedding_length",
        text("8"),
        "llama.embedding_length has",
    );
    refused(
        "llama.rope.freq_base",
        Value::F32(f32::NAN),
        "llama.rope.freq_base is NaN",
    );
    refused(
        "tokenizer.ggml.tokens",
        text("a"),
        "tokenizer.ggml.tokens has",
    );
    let types = Value::Array(vec![Value::I32(3); 9]);
    refused("tokenizer.ggml.token_type", types, "token_type");
    let merges = Value::Array(vec![Value::I32(3)]);
    refused("tokenizer.ggml.merges", merges, "tokenizer.ggml.merges has");
    for (index, (name, _)) in fields().iter().enumerate() {
        let mut fewer = fields();
        fewer.remove(index);
        // llama.cpp knows what to take where one of these is missing.
        if OPTIONAL.contains(name) {
            let place = tempfile::tempdir().unwrap();
            try_bytes(place.path(), &build(&fewer)).unwrap();
            continue;
        }
        // As many key heads as query heads, which the tensors contradict: that shows on loading.
        if *name == "llama.attention.head_count_kv" {
            let place = tempfile::tempdir().unwrap();
            try_bytes(place.path(), &build(&fewer)).unwrap();
            let model = place.path().join("model");
            let loaded = Transformer::load(&model, &Device::Cpu, Trainable::Nothing);
            let said = loaded.err().unwrap().to_string();
            assert!(said.contains("k_proj"), "{said}");
            continue;
        }
        let said = match *name {
            "tokenizer.ggml.pre" => "has a tokenizer of kind \"gpt2\"/\"\"",
            name => name,
        };
        assert_refused(folder.path(), &build(&fewer), said);
    }
    // A tensor of more numbers than there are.
    let mut bytes = build(&fields());
    let name = b"blk.0.ffn_up.weight";
    let at = bytes.windows(name.len()).position(|part| part == name);
    let at = at.unwrap() + name.len() + 4;
    for dims in [[1_u64 << 63, 2], [1 << 32, 1 << 32], [0, 8], [1 << 40, 1]] {
        bytes[at..at + 16].copy_from_slice(&dims.map(u64::to_le_bytes).concat());
        assert_refused(
            folder.path(),
            &bytes,
            "tensor blk.0.ffn_up.weight cannot be read",
        );
    }
}
