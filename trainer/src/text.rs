//! Between text and tokens: the tokenizer, the chat template, and the rules for BOS, EOS and
//! padding. Padding is masked by length, never by token id, so a real EOS always counts.

mod template;

use std::io::ErrorKind;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};
use tokenizers::Tokenizer;

use self::template::render;
use crate::checkpoint;
use crate::error::{AtPath, Result, TrainerError};
use crate::foreign;
use crate::records::{Message, Prompt};

/// The tokenizer and the chat template of a model folder.
pub struct TextCodec {
    tokenizer: Tokenizer,
    template: String,
    bos_token: String,
    eos_token: String,
    /// The token that ends a completion.
    pub eos_id: u32,
    /// Fills up rows; never read, since rows are masked by length.
    pub pad_id: u32,
    vocab_hash: String,
}

impl TextCodec {
    /// Reads `tokenizer.json` and the chat template of a model folder.
    ///
    /// # Errors
    /// A sentence naming the file that is missing or wrong.
    pub fn load(folder: &Path) -> Result<Self> {
        if !folder.is_dir() {
            return Err(TrainerError::checkpoint(folder, "is not a folder"));
        }
        let path = folder.join("tokenizer.json");
        if !path.exists() {
            checkpoint::refuse_run_folder(folder)?;
            return Err(TrainerError::checkpoint(
                folder,
                "has no tokenizer.json, so text cannot be read or written",
            ));
        }
        let bytes = std::fs::read(&path).at(&path)?;
        let tokenizer = read_tokenizer(&bytes).map_err(|message| {
            TrainerError::checkpoint(&path, format!("is not a tokenizer: {message}"))
        })?;
        let config_path = folder.join("tokenizer_config.json");
        let config: Value = match read_if_there(&config_path)? {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                TrainerError::checkpoint(&config_path, format!("is not JSON: {error}"))
            })?,
            None => Value::Null,
        };
        let template_path = folder.join("chat_template.jinja");
        let template = match read_if_there(&template_path)? {
            Some(bytes) => String::from_utf8(bytes).map_err(|error| {
                TrainerError::checkpoint(&template_path, format!("is not text: {error}"))
            })?,
            None => config["chat_template"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        };
        if template.is_empty() {
            return Err(TrainerError::checkpoint(
                folder,
                "has no chat template, so prompts cannot be put to the model",
            ));
        }
        let eos_token = token_text(&config["eos_token"])
            .ok_or_else(|| TrainerError::checkpoint(&config_path, "names no eos_token"))?;
        let eos_id = tokenizer
            .token_to_id(&eos_token)
            .ok_or_else(|| TrainerError::checkpoint(&path, format!("has no token {eos_token}")))?;
        let pad_id = token_text(&config["pad_token"])
            .and_then(|text| tokenizer.token_to_id(&text))
            .unwrap_or(eos_id);
        Ok(Self {
            tokenizer,
            template,
            bos_token: token_text(&config["bos_token"]).unwrap_or_default(),
            eos_token,
            eos_id,
            pad_id,
            vocab_hash: hex::encode(Sha256::digest(&bytes)),
        })
    }

    /// The prompt as the model sees it, ready for its answer.
    ///
    /// # Errors
    /// When the template refuses the turns.
    pub fn encode_prompt(&self, prompt: &Prompt) -> Result<Vec<u32>> {
        self.encode_conversation(&prompt.messages())
    }

    fn encode_conversation(&self, messages: &[Message]) -> Result<Vec<u32>> {
        let rendered = render(&self.template, messages, &self.bos_token, &self.eos_token)
            .map_err(|message| TrainerError::checkpoint(Path::new("chat template"), message))?;
        // The template writes its own special tokens, so the tokenizer adds none: BOS comes once.
        let tokens = self.encode(&rendered)?;
        match tokens.is_empty() {
            true => Err(TrainerError::checkpoint(
                Path::new("chat template"),
                "makes nothing of the prompt",
            )),
            false => Ok(tokens),
        }
    }

    /// The tokens of a completion, without EOS.
    ///
    /// # Errors
    /// When the tokenizer refuses the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        foreign::call(|| self.tokenizer.encode(text, false))
            .map(|encoding| encoding.get_ids().to_vec())
            .map_err(|message| TrainerError::checkpoint(Path::new("tokenizer"), message))
    }

    /// The tokens of a completion with EOS at its end.
    ///
    /// # Errors
    /// When the tokenizer refuses the text or makes nothing of it: there would be no answer to
    /// learn or to judge.
    pub fn encode_completion(&self, text: &str) -> Result<Vec<u32>> {
        let mut tokens = self.encode(text)?;
        if tokens.is_empty() {
            let message = "makes nothing of the text";
            return Err(TrainerError::checkpoint(Path::new("tokenizer"), message));
        }
        tokens.push(self.eos_id);
        Ok(tokens)
    }

    /// The text of tokens, special tokens left out.
    ///
    /// # Errors
    /// When a token is unknown.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        foreign::call(|| self.tokenizer.decode(tokens, true))
            .map_err(|message| TrainerError::checkpoint(Path::new("tokenizer"), message))
    }

    /// The text of tokens, special tokens among it.
    ///
    /// # Errors
    /// When a token is unknown.
    pub fn decode_all(&self, tokens: &[u32]) -> Result<String> {
        foreign::call(|| self.tokenizer.decode(tokens, false))
            .map_err(|message| TrainerError::checkpoint(Path::new("tokenizer"), message))
    }

    /// The texts of special tokens, which become those tokens wherever they stand in a text.
    pub fn special_tokens(&self) -> Vec<String> {
        let added = self.tokenizer.get_added_tokens_decoder();
        let special = added.into_values().filter(|token| token.special);
        let mut texts: Vec<String> = special
            .map(|token| token.content)
            .filter(|text| !text.is_empty())
            .collect();
        texts.sort_unstable();
        texts
    }

    /// A token to pad with that is neither EOS nor BOS, with its text: transformers takes every
    /// padding id for padding, and would read a reward model's score one token too early.
    ///
    /// # Errors
    /// When the tokenizer of `folder` has none.
    pub fn padding_of_a_reward_model(&self, folder: &Path) -> Result<(u32, String)> {
        self.padding_apart_from_eos().ok_or_else(|| {
            let message = "has no special token apart from EOS and BOS to pad with; transformers \
                           would read a reward model's score at the wrong token";
            TrainerError::checkpoint(folder, message)
        })
    }

    fn padding_apart_from_eos(&self) -> Option<(u32, String)> {
        if self.pad_id != self.eos_id {
            return Some((self.pad_id, self.tokenizer.id_to_token(self.pad_id)?));
        }
        let added = self.tokenizer.get_added_tokens_decoder();
        added
            .into_iter()
            .filter(|(id, token)| {
                token.special && *id != self.eos_id && token.content != self.bos_token
            })
            .min_by_key(|(id, _)| *id)
            .map(|(id, token)| (id, token.content))
    }

    /// Refuses a tokenizer that knows more tokens than the model has embeddings for.
    ///
    /// # Errors
    /// A sentence with both numbers.
    pub fn check_fits(&self, folder: &Path, vocab_size: usize) -> Result<()> {
        let ids = self.tokenizer.get_vocab(true);
        match ids.values().max() {
            Some(id) if *id as usize >= vocab_size => Err(TrainerError::checkpoint(
                folder,
                format!("tokenizer.json has a token {id}, but vocab_size is {vocab_size}"),
            )),
            _ => Ok(()),
        }
    }

    /// SHA-256 of the chat template: two models with different ones must not be mixed.
    pub fn template_hash(&self) -> String {
        hex::encode(Sha256::digest(self.template.as_bytes()))
    }

    /// SHA-256 of `tokenizer.json`.
    pub fn vocab_hash(&self) -> &str {
        &self.vocab_hash
    }
}

/// A token in `tokenizer_config.json` is a string or an object with `content`.
fn token_text(value: &Value) -> Option<String> {
    value
        .as_str()
        .or_else(|| value["content"].as_str())
        .map(str::to_owned)
}

/// The bytes of a file that a folder need not have.
fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        read => read.at(path).map(Some),
    }
}

/// A tokenizer that neither cuts nor pads, as transformers uses it whatever its file says, and that
/// makes the same tokens of the same text each time.
fn read_tokenizer(bytes: &[u8]) -> std::result::Result<Tokenizer, String> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let dropout = &value["model"]["dropout"];
    if !dropout.is_null() && dropout.as_f64() != Some(0.0) {
        return Err(format!(
            "its dropout of {dropout} would give the same text other tokens each time"
        ));
    }
    foreign::call(|| {
        let mut tokenizer = Tokenizer::from_bytes(bytes)?;
        tokenizer.with_truncation(None)?;
        tokenizer.with_padding(None);
        Ok::<_, tokenizers::Error>(tokenizer)
    })
}
