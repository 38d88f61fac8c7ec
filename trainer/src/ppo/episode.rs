//! One prompt and its sampled completion, and how episodes lie in a batch. Every list of an
//! episode has one entry for each real token of the completion, so no mean can include padding.

use std::collections::BTreeMap;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::model::batch::TokenBatch;

/// One prompt and its sampled completion, with what the models say of it.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Episode {
    /// Prompt, completion, and EOS even where the completion lacks one: the reward model reads
    /// its score there.
    pub(super) tokens: Vec<u32>,
    pub(super) start: usize,
    /// Tokens of the completion, its own EOS included.
    pub(super) n: usize,
    /// It ended with EOS, or with the text that ends completions as EOS does.
    pub(super) is_finished: bool,
    /// Output of the frozen blocks, `[tokens, hidden]`: for the policy, and for the value model
    /// where that differs.
    #[serde(skip)]
    pub(super) policy_lower: Option<Tensor>,
    #[serde(skip)]
    pub(super) value_lower: Option<Tensor>,
    /// Log-probability of each token when it was drawn, from the pass with the cache.
    pub(super) drawn: Vec<f64>,
    /// The same from the pass that trains: what ratios are taken to.
    pub(super) old: Vec<f64>,
    pub(super) reference: Vec<f64>,
    pub(super) entropy: Vec<f64>,
    pub(super) values: Vec<f64>,
    /// What the reward model says, and what training sees: the same unless EOS is missing, the reward
    /// is clipped, or the members of an ensemble are asked for something else than their mean.
    pub(super) reward: f64,
    pub(super) score: f64,
    /// Between the members of an ensemble; none where the reward model is a single one.
    pub(super) deviation: Option<f64>,
    /// The second opinion, where there is one; training never sees it.
    pub(super) gold: Option<f64>,
    /// What each token is rewarded with: its KL, and the score with the last.
    pub(super) rewards: Vec<f64>,
    /// As estimated.
    pub(super) raw_advantages: Vec<f64>,
    /// As the policy's loss sees them.
    pub(super) advantages: Vec<f64>,
    pub(super) returns: Vec<f64>,
}

impl Episode {
    /// A completion of a prompt, with EOS where it lacks one, before anything is said of it.
    pub(super) fn new(prompt: &[u32], completion: &[u32], is_finished: bool, eos_id: u32) -> Self {
        let mut tokens = [prompt, completion].concat();
        if completion.last() != Some(&eos_id) {
            tokens.push(eos_id);
        }
        Self {
            tokens,
            start: prompt.len(),
            n: completion.len(),
            is_finished,
            policy_lower: None,
            value_lower: None,
            drawn: Vec::new(),
            old: Vec::new(),
            reference: Vec::new(),
            entropy: Vec::new(),
            values: Vec::new(),
            reward: 0.0,
            score: 0.0,
            deviation: None,
            gold: None,
            rewards: Vec::new(),
            raw_advantages: Vec::new(),
            advantages: Vec::new(),
            returns: Vec::new(),
        }
    }

    /// The tokens of the prompt.
    pub(super) fn prompt(&self) -> &[u32] {
        &self.tokens[..self.start]
    }

    /// The tokens of the completion, its own EOS included.
    pub(super) fn completion(&self) -> &[u32] {
        &self.tokens[self.start..self.start + self.n]
    }

    /// The log-ratio of each token to the reference, in nats.
    pub(super) fn log_ratios(&self) -> impl Iterator<Item = f64> {
        let pairs = self.old.iter().zip(&self.reference);
        pairs.map(|(old, reference)| old - reference)
    }

    /// Of the whole completion, by k1.
    pub(super) fn kl(&self) -> f64 {
        self.log_ratios().sum()
    }
}

/// Places of the episodes of each prompt.
pub(super) fn by_prompt(episodes: &[&Episode]) -> Vec<Vec<usize>> {
    let mut sets: Vec<Vec<usize>> = Vec::new();
    let mut known: BTreeMap<&[u32], usize> = BTreeMap::new();
    for (index, episode) in episodes.iter().enumerate() {
        let set = *known.entry(episode.prompt()).or_insert(sets.len());
        match sets.get_mut(set) {
            Some(set) => set.push(index),
            None => sets.push(vec![index]),
        }
    }
    sets
}

/// Reads a scalar of each completion token of a batch: its places there, and the tokens.
pub(super) fn token_positions(batch: &TokenBatch, episodes: &[&Episode]) -> (Vec<u32>, Vec<u32>) {
    let (mut positions, mut targets) = (Vec::new(), Vec::new());
    for (row, episode) in episodes.iter().enumerate() {
        for t in 0..episode.n {
            // The position before a token is the state it was chosen in.
            positions.push(batch.flat_index(row, episode.start + t - 1));
            targets.push(episode.tokens[episode.start + t]);
        }
    }
    (positions, targets)
}

pub(super) fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0.0), |(sum, n), value| (sum + value, n + 1.0));
    if n > 0.0 { sum / n } else { 0.0 }
}
