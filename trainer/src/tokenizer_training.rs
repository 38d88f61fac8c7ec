//! A tokenizer from texts: byte-level BPE (Sennrich et al., arXiv 1508.07909, over bytes as in GPT-2),
//! special tokens, and a chat template.
//!
//! Texts are cut into words by the `tokenizers` crate, which also reads what is written here. The
//! merges are learnt here and not by its trainer: where the same token can be made by two merges,
//! that one settles ties by the order of a hash table, and the same texts must give the same bytes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::path::Path;

use ahash::{AHashMap, AHashSet};
use rayon::prelude::*;
use serde_json::{Value, json};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{
    Normalizer, NormalizerWrapper, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
    PreTokenizerWrapper,
};

use crate::cutting::Cutting;
use crate::error::{Result, TrainerError};
use crate::model::architecture::Architecture;

/// Begins a conversation.
pub const BOS: &str = "<|begin|>";
/// Ends an assistant's turn, and a text of pretraining.
pub const EOS: &str = "<|end|>";
/// Fills up rows.
pub const PAD: &str = "<|pad|>";
/// Special tokens, in the order of their ids: the first three, and a mark for each role.
pub const SPECIAL_TOKENS: [&str; 6] = [BOS, EOS, PAD, "<|system|>", "<|user|>", "<|assistant|>"];

/// Every turn begins with the mark of its role, and the assistant's end with EOS. Turns begin and
/// end at special tokens, so that a turn has the same tokens alone and within a conversation.
pub const CHAT_TEMPLATE: &str = "{{ bos_token }}{% for message in messages %}\
    {{ '<|' + message['role'] + '|>' + message['content'] }}\
    {% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";

/// A pair that is found less often is no pattern and becomes no token (as in the tokenizers of
/// Hugging Face's own examples).
const LEAST_COUNT: i64 = 2;

/// Texts are counted in pieces of about this many bytes, cut at line ends.
const PIECE: usize = 1 << 16;

/// A tokenizer as files of a model folder have it.
#[derive(Debug)]
pub struct TrainedTokenizer {
    /// `tokenizer.json`.
    pub tokenizer: Value,
    /// `tokenizer_config.json`.
    pub settings: Value,
    /// How many tokens it has: those asked for, or fewer where the texts hold no more patterns.
    pub n_tokens: usize,
}

/// Learns `n_tokens` tokens from texts, for a model of a family that reads `context` tokens at once.
/// The order of the texts does not matter.
///
/// # Errors
/// `Config` when there is no room for the bytes; `Checkpoint` when a text cannot be cut into words.
pub fn train(
    texts: &[String],
    n_tokens: usize,
    architecture: Architecture,
    context: usize,
) -> Result<TrainedTokenizer> {
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let least = SPECIAL_TOKENS.len() + alphabet.len();
    if !(least..=1 << 20).contains(&n_tokens) {
        let message = format!("is {n_tokens}; it must be {least} (bytes, special tokens) to 2^20");
        return Err(TrainerError::Config {
            field: "vocabulary".into(),
            message,
        });
    }
    let cutting = architecture.cutting();
    let mut learner = Learner::new(&alphabet, count_words(texts, cutting)?);
    while learner.tokens.len() < n_tokens && learner.merge_most_frequent() {}
    Ok(TrainedTokenizer {
        n_tokens: learner.tokens.len(),
        settings: settings(context),
        tokenizer: file(&learner.tokens, &learner.merges, cutting),
    })
}

/// Every word of the texts, in GPT-2's alphabet for bytes, with how often it is there.
fn count_words(texts: &[String], cutting: Cutting) -> Result<BTreeMap<String, i64>> {
    let pieces: Vec<&str> = texts.iter().flat_map(|text| pieces(text)).collect();
    let refuse =
        |error: tokenizers::Error| TrainerError::checkpoint(Path::new("texts"), error.to_string());
    let knife = Knife::new(cutting).map_err(refuse)?;
    let counts = pieces
        .par_iter()
        .map(|piece| knife.count_words(piece).map_err(refuse));
    let counts = counts.try_reduce(AHashMap::new, |mut all, more| {
        for (word, n) in more {
            *all.entry(word).or_default() += n;
        }
        Ok(all)
    })?;
    Ok(counts.into_iter().collect())
}

fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let (mut start, mut end) = (0, 0);
    for line in text.split_inclusive('\n') {
        end += line.len();
        if end - start >= PIECE {
            pieces.push(&text[start..end]);
            start = end;
        }
    }
    pieces.push(&text[start..]);
    pieces
}

/// What cuts texts into words, as the tokenizer's file will say.
struct Knife {
    normalizer: Option<NormalizerWrapper>,
    words: PreTokenizerWrapper,
}

impl Knife {
    fn new(cutting: Cutting) -> tokenizers::Result<Self> {
        Ok(Self {
            normalizer: serde_json::from_value(cutting.normalizer())?,
            words: serde_json::from_value(cutting.pre_tokenizer())?,
        })
    }

    fn count_words(&self, text: &str) -> tokenizers::Result<AHashMap<String, i64>> {
        let mut words = PreTokenizedString::from(text);
        if let Some(normalizer) = &self.normalizer {
            words.normalize(|text| normalizer.normalize(text))?;
        }
        self.words.pre_tokenize(&mut words)?;
        let mut counts = AHashMap::new();
        for (word, ..) in words.get_splits(OffsetReferential::Original, OffsetType::Byte) {
            *counts.entry(word.to_owned()).or_default() += 1;
        }
        Ok(counts)
    }
}

type Pair = (u32, u32);

/// What is known while merges are learnt. Nothing depends on the order of a hash table: pairs are
/// chosen by count, and of those with the same count the one with the lowest ids.
struct Learner {
    tokens: Vec<String>,
    ids: AHashMap<String, u32>,
    merges: Vec<(String, String)>,
    words: Vec<Vec<u32>>,
    counts: Vec<i64>,
    pairs: AHashMap<Pair, i64>,
    /// Words that hold a pair, or held it once.
    places: AHashMap<Pair, Vec<u32>>,
    /// May name counts of the past; those are put right when they come up.
    queue: BinaryHeap<(i64, Reverse<Pair>)>,
}

impl Learner {
    fn new(alphabet: &[char], words: BTreeMap<String, i64>) -> Self {
        let tokens: Vec<String> = SPECIAL_TOKENS
            .iter()
            .map(|token| (*token).to_owned())
            .chain(alphabet.iter().map(char::to_string))
            .collect();
        let ids: AHashMap<String, u32> = (0..).zip(&tokens).map(|(i, t)| (t.clone(), i)).collect();
        let by_letter: AHashMap<char, u32> = (SPECIAL_TOKENS.len() as u32..)
            .zip(alphabet)
            .map(|(id, letter)| (*letter, id))
            .collect();
        let mut learner = Self {
            tokens,
            ids,
            merges: Vec::new(),
            words: Vec::with_capacity(words.len()),
            counts: Vec::with_capacity(words.len()),
            pairs: AHashMap::new(),
            places: AHashMap::new(),
            queue: BinaryHeap::new(),
        };
        for (index, (word, count)) in (0..).zip(words) {
            let letters = word.chars().filter_map(|letter| by_letter.get(&letter));
            learner.words.push(letters.copied().collect());
            learner.counts.push(count);
            learner.count_pairs(index, 1);
        }
        let counted = learner.pairs.iter();
        learner.queue = counted
            .map(|(pair, count)| (*count, Reverse(*pair)))
            .collect();
        learner
    }

    /// Adds the pairs of a word to the counts, or takes them off (`sign` -1).
    fn count_pairs(&mut self, index: u32, sign: i64) {
        let count = sign * self.counts[index as usize];
        for pair in self.words[index as usize].windows(2) {
            let pair = (pair[0], pair[1]);
            *self.pairs.entry(pair).or_default() += count;
            if sign > 0 {
                let places = self.places.entry(pair).or_default();
                if places.last() != Some(&index) {
                    places.push(index);
                }
            }
        }
    }

    /// Makes a token of the most frequent pair; says whether there was one.
    fn merge_most_frequent(&mut self) -> bool {
        while let Some((count, Reverse(pair))) = self.queue.pop() {
            let now = self.pairs.get(&pair).copied().unwrap_or(0);
            if now < LEAST_COUNT {
                continue;
            }
            if now != count {
                self.queue.push((now, Reverse(pair)));
                continue;
            }
            self.merge(pair);
            return true;
        }
        false
    }

    fn merge(&mut self, pair: Pair) {
        let (left, right) = (&self.tokens[pair.0 as usize], &self.tokens[pair.1 as usize]);
        let whole = format!("{left}{right}");
        self.merges.push((left.clone(), right.clone()));
        // The same letters may have become a token by another way.
        let fresh = self.tokens.len() as u32;
        let id = *self.ids.entry(whole.clone()).or_insert(fresh);
        if id == fresh {
            self.tokens.push(whole);
        }
        let mut grown = AHashSet::new();
        for index in self.places.remove(&pair).unwrap_or_default() {
            let merged = merged(&self.words[index as usize], pair, id);
            if merged.len() == self.words[index as usize].len() {
                continue;
            }
            self.count_pairs(index, -1);
            self.words[index as usize] = merged;
            self.count_pairs(index, 1);
            let pairs = self.words[index as usize].windows(2);
            grown.extend(
                pairs
                    .map(|p| (p[0], p[1]))
                    .filter(|p| p.0 == id || p.1 == id),
            );
        }
        for pair in grown {
            self.queue.push((self.pairs[&pair], Reverse(pair)));
        }
    }
}

/// A word with every occurrence of `pair`, from the left, become `id`.
fn merged(word: &[u32], pair: Pair, id: u32) -> Vec<u32> {
    let mut merged = Vec::with_capacity(word.len());
    let mut rest = word;
    while let [first, tail @ ..] = rest {
        match tail {
            [second, after @ ..] if (*first, *second) == pair => {
                merged.push(id);
                rest = after;
            }
            _ => {
                merged.push(*first);
                rest = tail;
            }
        }
    }
    merged
}

/// `tokenizer.json`.
fn file(tokens: &[String], merges: &[(String, String)], cutting: Cutting) -> Value {
    let special = |(id, content): (usize, &&str)| {
        json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        })
    };
    let special: Vec<Value> = SPECIAL_TOKENS.iter().enumerate().map(special).collect();
    let vocabulary: serde_json::Map<String, Value> = tokens
        .iter()
        .enumerate()
        .map(|(id, token)| (token.clone(), json!(id)))
        .collect();
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": special,
        "normalizer": cutting.normalizer(),
        "pre_tokenizer": cutting.pre_tokenizer(),
        "post_processor": null,
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": false, "vocab": vocabulary, "merges": merges,
        },
    })
}

/// `tokenizer_config.json`.
fn settings(context: usize) -> Value {
    json!({
        // The class that reads tokenizer.json as it stands.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": false,
        // Bytes leave nothing unknown; without this, Qwen2's class would add a token for it.
        "unk_token": null,
        "add_prefix_space": false,
        "clean_up_tokenization_spaces": false,
        "model_max_length": context,
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": PAD,
        "chat_template": CHAT_TEMPLATE,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::collections::HashSet;
    use std::str::FromStr;

    use tokenizers::models::bpe::{BPE, BpeTrainer};
    use tokenizers::{AddedToken, Tokenizer, TokenizerImpl};

    use super::*;

    /// Texts that this repository owns.
    fn texts() -> Vec<String> {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        ["README.md", "docs/checklist.md", "docs/first-run.md"]
            .map(|name| std::fs::read_to_string(root.join(name)).unwrap())
            .to_vec()
    }

    fn vocabulary(file: &Value) -> &serde_json::Map<String, Value> {
        file["model"]["vocab"].as_object().unwrap()
    }

    /// The reference is the trainer of the tokenizers crate.
    #[test]
    fn tokens_and_merges_are_those_of_the_tokenizers_crate() {
        let n = 900;
        let ours = train(&texts(), n, Architecture::Gpt2, 64)
            .unwrap()
            .tokenizer;
        let special = SPECIAL_TOKENS
            .map(|token| AddedToken::from(token, true))
            .to_vec();
        let alphabet: HashSet<char> = ByteLevel::alphabet().into_iter().collect();
        let mut trainer = BpeTrainer::builder()
            .vocab_size(n)
            .min_frequency(2)
            .show_progress(false)
            .special_tokens(special)
            .initial_alphabet(alphabet)
            .build();
        let cut = ByteLevel::new(false, true, true);
        let mut theirs: TokenizerImpl<
            BPE,
            tokenizers::NormalizerWrapper,
            ByteLevel,
            ByteLevel,
            ByteLevel,
        > = TokenizerImpl::new(BPE::default());
        theirs.with_pre_tokenizer(Some(cut));
        theirs.train(&mut trainer, texts().iter()).unwrap();
        let theirs: Value = serde_json::from_str(&theirs.to_string(false).unwrap()).unwrap();
        assert_eq!(vocabulary(&ours).len(), n);
        assert_eq!(vocabulary(&theirs).len(), n);
        for (token, id) in vocabulary(&ours) {
            assert_eq!(vocabulary(&theirs)[token], *id, "{token}");
        }
        assert_eq!(ours["model"]["merges"], theirs["model"]["merges"]);
    }

    #[test]
    fn text_comes_back_as_it_was_and_a_word_is_one_token() {
        let file = train(&texts(), 900, Architecture::Gpt2, 64)
            .unwrap()
            .tokenizer;
        let tokenizer = Tokenizer::from_str(&file.to_string()).unwrap();
        let texts = texts();
        let strange = "naïve 東京 🦀\u{301}\t\r\n\n  x\u{0}  don't 12345 \u{feff} end ";
        for text in texts
            .iter()
            .map(String::as_str)
            .chain([strange, " ", "\n", "a"])
        {
            let encoding = tokenizer.encode(text, false).unwrap();
            assert_eq!(tokenizer.decode(encoding.get_ids(), true).unwrap(), text);
        }
        let n_bytes: usize = texts.iter().map(String::len).sum();
        let count = |text: &String| tokenizer.encode(text.as_str(), false).unwrap().len();
        let n_tokens: usize = texts.iter().map(count).sum();
        assert!(
            n_tokens * 2 < n_bytes,
            "{n_tokens} tokens for {n_bytes} bytes"
        );
        assert_eq!(tokenizer.encode(" the", false).unwrap().len(), 1);
        for (id, token) in (0..).zip(SPECIAL_TOKENS) {
            assert_eq!(tokenizer.token_to_id(token), Some(id));
        }
    }

    /// Qwen2's way: digits by themselves, and texts come back in the form NFC.
    #[test]
    fn a_tokenizer_for_qwen2_cuts_as_qwen2_does() {
        let file = train(&texts(), 900, Architecture::Qwen2, 64)
            .unwrap()
            .tokenizer;
        let tokenizer = Tokenizer::from_str(&file.to_string()).unwrap();
        let tokens = |text: &str| tokenizer.encode(text, false).unwrap().get_ids().to_vec();
        let back = |text: &str| tokenizer.decode(&tokens(text), true).unwrap();
        assert_eq!(tokens("12345").len(), 5);
        assert_eq!(back("e\u{301} 東京\n\n  don't "), "\u{e9} 東京\n\n  don't ");
        for text in texts() {
            assert_eq!(back(&text), text);
        }
    }

    #[test]
    fn the_same_texts_give_the_same_bytes_in_whatever_order_they_come() {
        let bytes = |texts: &[String]| {
            train(texts, 1200, Architecture::Gpt2, 64)
                .unwrap()
                .tokenizer
                .to_string()
        };
        let mut texts = texts();
        let first = bytes(&texts);
        assert_eq!(first, bytes(&texts));
        texts.reverse();
        assert_eq!(first, bytes(&texts));
    }

    #[test]
    fn short_texts_give_fewer_tokens_and_too_small_a_vocabulary_is_refused() {
        let texts = vec!["ab ab ab abab".to_owned()];
        let trained = train(&texts, 1000, Architecture::Gpt2, 64).unwrap();
        // "ab" and " ab"; "abab" comes up once.
        assert_eq!(trained.n_tokens, 262 + 2);
        let error = train(&texts, 100, Architecture::Gpt2, 64)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("vocabulary") && error.contains("262"),
            "{error}"
        );
    }
}
