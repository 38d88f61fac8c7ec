//! Tokenizers of GGUF files: byte-level BPE with merges, in one of the ways of cutting text into words
//! that llama.cpp and Hugging Face's tokenizers both know ([`Cutting`]).

use serde_json::{Map, Value, json};

use crate::cutting::Cutting;

/// What a token is; `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// Made of bytes or merges.
    Normal,
    /// Left out of texts: BOS, EOS, marks of roles.
    Control,
    /// Found whole in a text before it is cut.
    UserDefined,
    /// A row of the embedding without a token.
    Unused,
}

impl TokenKind {
    const ALL: [Self; 4] = [Self::Normal, Self::Control, Self::UserDefined, Self::Unused];

    pub(super) fn number(self) -> i32 {
        match self {
            Self::Normal => 1,
            Self::Control => 3,
            Self::UserDefined => 4,
            Self::Unused => 5,
        }
    }

    pub(super) fn of_number(number: i32) -> Option<Self> {
        // Where a file has a token for what is unknown, it comes in no text.
        let number = if number == UNKNOWN { 3 } else { number };
        let same = |kind: &Self| kind.number() == number;
        Self::ALL.into_iter().find(same)
    }
}

const UNKNOWN: i32 = 2;

/// A tokenizer as GGUF has it.
#[derive(Debug, PartialEq)]
pub(super) struct GgufTokenizer {
    /// How text is cut.
    pub(super) cutting: Cutting,
    /// Every row of the embedding.
    pub(super) tokens: Vec<(String, TokenKind)>,
    /// Pairs of tokens, a space between them, the first to merge first.
    pub(super) merges: Vec<String>,
    /// BOS, where the tokenizer puts it before every text.
    pub(super) added_bos: Option<usize>,
}

impl GgufTokenizer {
    /// `tokenizer.json`.
    pub(super) fn to_file(&self) -> Value {
        let kept = || {
            let tokens = self.tokens.iter().enumerate();
            tokens.filter(|(_, (_, kind))| *kind != TokenKind::Unused)
        };
        let added: Vec<Value> = kept()
            .filter(|(_, (_, kind))| *kind != TokenKind::Normal)
            .map(|(id, (content, kind))| {
                json!({
                    "id": id, "content": content, "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false, "special": *kind == TokenKind::Control,
                })
            })
            .collect();
        let vocabulary: Map<String, Value> = kept()
            .map(|(id, (token, _))| (token.clone(), json!(id)))
            .collect();
        json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": self.cutting.normalizer(),
            "pre_tokenizer": self.cutting.pre_tokenizer(),
            "post_processor": self.added_bos.map(|id| bos_first(id, &self.tokens[id].0)),
            "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                // Llama 3 takes a word that is a token as it is, whatever merges would make of it.
                "ignore_merges": self.cutting == Cutting::Llama3,
                "vocab": vocabulary, "merges": self.merges,
            },
        })
    }

    /// The other way, for an embedding of `n_rows`. Whether BOS is put first is left open.
    ///
    /// # Errors
    /// A sentence on what GGUF has no word for.
    pub(super) fn from_file(file: &Value, n_rows: usize) -> Result<Self, String> {
        let model = &file["model"];
        let is_set = |name: &str| !matches!(&model[name], Value::Null | Value::Bool(false));
        if model["type"] != "BPE" {
            return Err(format!("is a tokenizer of type {}, not BPE", model["type"]));
        }
        for name in [
            "continuing_subword_prefix",
            "end_of_word_suffix",
            "byte_fallback",
            "dropout",
        ] {
            if is_set(name) && model[name] != "" {
                return Err(format!("sets {name}, which GGUF has no word for"));
            }
        }
        let cutting = Cutting::of_file(file).ok_or_else(|| {
            let known = Cutting::NAMES;
            format!("cuts text into words in another way than those that GGUF names {known}")
        })?;
        let has_normalizer = match &file["normalizer"] {
            Value::Null => false,
            normalizer if normalizer["type"] == "NFC" => true,
            _ => return Err("changes texts before it reads them, which GGUF does not".to_owned()),
        };
        if has_normalizer != cutting.normalises()
            || is_set("ignore_merges") != (cutting == Cutting::Llama3)
        {
            let word = cutting.word();
            return Err(format!(
                "differs from what GGUF calls {word} in its normalizer or in ignore_merges"
            ));
        }
        let mut tokens: Vec<Option<(String, TokenKind)>> = vec![None; n_rows];
        let mut put = |id: &Value, token: &str, kind: TokenKind| {
            let place = id.as_u64().and_then(|id| tokens.get_mut(id as usize));
            let place = place.ok_or_else(|| {
                format!("gives {token:?} the id {id}, which no row of the embedding has")
            })?;
            *place = Some((token.to_owned(), kind));
            Ok::<(), String>(())
        };
        for (token, id) in model["vocab"].as_object().into_iter().flatten() {
            put(id, token, TokenKind::Normal)?;
        }
        for added in file["added_tokens"].as_array().into_iter().flatten() {
            let kind = match added["special"].as_bool() {
                Some(true) => TokenKind::Control,
                _ => TokenKind::UserDefined,
            };
            put(
                &added["id"],
                added["content"].as_str().unwrap_or_default(),
                kind,
            )?;
        }
        let unused = |(id, token): (usize, Option<_>)| {
            token.unwrap_or_else(|| (format!("[PAD{id}]"), TokenKind::Unused))
        };
        let merges = model["merges"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|merge| match merge {
                Value::String(merge) => Ok(merge.clone()),
                pair => match (pair[0].as_str(), pair[1].as_str()) {
                    (Some(left), Some(right)) => Ok(format!("{left} {right}")),
                    _ => Err(format!("has a merge {pair} that is no pair")),
                },
            });
        Ok(Self {
            cutting,
            tokens: tokens.into_iter().enumerate().map(unused).collect(),
            merges: merges.collect::<Result<_, String>>()?,
            added_bos: None,
        })
    }
}

/// A post-processor that puts BOS before a text.
fn bos_first(id: usize, token: &str) -> Value {
    let bos = json!({"SpecialToken": {"id": token, "type_id": 0}});
    let text = |name: &str| json!({"Sequence": {"id": name, "type_id": 0}});
    json!({
        "type": "TemplateProcessing",
        "single": [bos, text("A")],
        "pair": [bos, text("A"), bos, text("B")],
        "special_tokens": {token: {"id": token, "ids": [id], "tokens": [token]}},
    })
}
