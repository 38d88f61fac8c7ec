//! How text is cut into words before tokens are made of them: the ways that llama.cpp and Hugging
//! Face's tokenizers both know. A model that reads other tokens than it learnt is worth nothing, so
//! whatever is not one of them is refused where it matters.

use serde_json::{Value, json};

use crate::model::architecture::Architecture;

/// A way of cutting text into words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cutting {
    /// GPT-2's pattern.
    Gpt2,
    /// GPT-2's, each digit by itself.
    Smollm,
    /// That of Qwen2 and Qwen3.
    Qwen2,
    /// That of Llama 3.
    Llama3,
}

/// Qwen2's pattern, from its published `tokenizer.json`.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Llama 3's, from its published `tokenizer.json`: up to three digits together.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

impl Cutting {
    const ALL: [Self; 4] = [Self::Gpt2, Self::Smollm, Self::Qwen2, Self::Llama3];

    /// Every name that is read.
    pub(crate) const NAMES: &str = "gpt-2, smollm, qwen2, llama-bpe";

    /// The word in `tokenizer.ggml.pre`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Gpt2 => "gpt-2",
            Self::Smollm => "smollm",
            Self::Qwen2 => "qwen2",
            Self::Llama3 => "llama-bpe",
        }
    }

    /// The way that llama.cpp calls `word`.
    pub(crate) fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cutting| cutting.word() == word)
    }

    /// `pre_tokenizer` of `tokenizer.json`.
    pub(crate) fn pre_tokenizer(self) -> Value {
        let split = |pattern: &str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false});
        let gpt2 = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        let sequence = |parts: Vec<Value>| json!({"type": "Sequence", "pretokenizers": parts});
        match self {
            Self::Gpt2 => gpt2,
            Self::Smollm => sequence(vec![
                json!({"type": "Digits", "individual_digits": true}),
                gpt2,
            ]),
            Self::Qwen2 => sequence(vec![split(QWEN2), bytes]),
            Self::Llama3 => sequence(vec![split(LLAMA3), bytes]),
        }
    }

    /// That of a `tokenizer.json`. Offsets do not matter to us, nor to llama.cpp.
    pub(crate) fn of_file(file: &Value) -> Option<Self> {
        let plain = |value: &Value| without_offsets(value.clone());
        let found = plain(&file["pre_tokenizer"]);
        let same = |cutting: &Self| plain(&cutting.pre_tokenizer()) == found;
        Self::ALL.into_iter().find(same)
    }

    /// Whether texts are put in Unicode's form NFC first.
    pub(crate) fn normalises(self) -> bool {
        self == Self::Qwen2
    }

    /// `normalizer` of `tokenizer.json`.
    pub(crate) fn normalizer(self) -> Value {
        match self.normalises() {
            true => json!({"type": "NFC"}),
            false => Value::Null,
        }
    }
}

/// A pre-tokenizer without the setting that changes no token.
fn without_offsets(mut value: Value) -> Value {
    if let Some(fields) = value.as_object_mut() {
        fields.remove("trim_offsets");
        for field in fields.values_mut() {
            *field = without_offsets(field.take());
        }
    }
    if let Some(parts) = value.as_array_mut() {
        for part in parts {
            *part = without_offsets(part.take());
        }
    }
    value
}

impl Architecture {
    /// How a new model of the family cuts text. GPT-2's way gives every text back as it was. Qwen2's
    /// must be Qwen2's, since transformers reads every folder of that family so, whatever its files
    /// say; it gives texts back in Unicode's form NFC.
    pub(crate) fn cutting(self) -> Cutting {
        match self {
            Self::Qwen2 => Cutting::Qwen2,
            _ => Cutting::Gpt2,
        }
    }
}
