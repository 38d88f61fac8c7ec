//! A step of reward training over drawn rankings, to be timed.

use std::path::Path;

use candle_core::Device;

use super::groups::Group;
use super::learner::{Fit, Learner};
use crate::config::{Preset, RewardConfig};
use crate::error::Result;
use crate::memory::{Estimate, Plan};
use crate::model::heads::RewardModel;
use crate::model::weights::Trainable;
use crate::progress::Silent;

/// The sizes of a step.
#[derive(Debug, Clone, Copy)]
pub struct StepShape {
    /// Rankings that are learnt from.
    pub prompts: usize,
    /// Completions of each.
    pub completions: usize,
    /// Tokens of each prompt.
    pub prompt_tokens: usize,
    /// Tokens of each completion, EOS among them.
    pub completion_tokens: usize,
}

impl StepShape {
    /// Different tokens of a step.
    pub fn n_tokens(self) -> usize {
        self.prompts * (self.prompt_tokens + self.completions * self.completion_tokens)
    }
}

/// A reward model, every layer of which learns, and rankings to learn from.
pub struct StepBench {
    config: RewardConfig,
    plan: Plan,
    fit: Fit,
    groups: Vec<Group>,
}

impl StepBench {
    /// On the language model in `folder`. One ranking at a time shares a backward pass, and `rows` of
    /// its completions pass together: with 1, each has a pass of its own, the prompt included.
    ///
    /// # Errors
    /// A sentence about the folder or the device.
    pub fn new(folder: &Path, device: &Device, shape: StepShape, rows: usize) -> Result<Self> {
        let config = RewardConfig {
            batch_prompts: shape.prompts,
            // So that the learning rate does not end.
            epochs: 1_000_000,
            ..RewardConfig::preset(Preset::Tiny)
        };
        let part = Trainable::Everything;
        let model = RewardModel::from_language_model(folder, device, part, 1)?;
        let vocabulary = model.trunk.config.vocab_size as u32;
        let group = |index: usize| Group {
            index,
            ranks: (1..=shape.completions as u32).collect(),
            ratings: vec![None; shape.completions],
            lengths: vec![shape.completion_tokens - 1; shape.completions],
            lowers: vec![None; shape.completions],
            rows: (0..shape.completions)
                .map(|k| row(index, k, shape, vocabulary))
                .collect(),
            prompt_id: index.to_string(),
            unit: index.to_string(),
            labeler: None,
            category: None,
            split: None,
        };
        let estimate = Estimate {
            phase: "measuring",
            parts: Vec::new(),
        };
        Ok(Self {
            plan: Plan {
                prompts: 1,
                rows,
                is_packed: false,
                recomputes: false,
                estimate,
            },
            fit: Fit::new(model, &config),
            groups: (0..shape.prompts).map(group).collect(),
            config,
        })
    }

    /// Learns from all rankings, one step of the optimiser.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn step(&mut self) -> Result<()> {
        let mut learner = Learner::new(&self.config, &self.plan);
        let (fit, groups) = (&mut self.fit, &mut self.groups);
        learner.epoch(fit, groups, 0, &mut Silent, &mut |_, _, _| Ok(()))
    }
}

/// A prompt of the ranking's own and a completion that differs from the others from its first token
/// on.
fn row(index: usize, k: usize, shape: StepShape, vocabulary: u32) -> Vec<u32> {
    let token = |i: usize| (i % (vocabulary as usize - 3).max(1)) as u32 + 3;
    let prompt = (0..shape.prompt_tokens).map(|t| token(index * 31 + t * 7));
    let completion = (0..shape.completion_tokens).map(|t| token(index * 17 + k * 5 + t * 11 + 1));
    prompt.chain(completion).collect()
}
