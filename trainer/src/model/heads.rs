//! Reward and value models: the language model with its output projection replaced by one number
//! (InstructGPT, appendix C). Saved as `LlamaForSequenceClassification`, or what the family calls it,
//! with one label.

use std::path::Path;

use candle_core::{Device, Tensor};

use crate::error::{AtPath, Result, TrainerError};
use crate::model::architecture::{OUTPUT, SCORE};
use crate::model::attention::{Pass, linear};
use crate::model::batch::TokenBatch;
use crate::model::ensemble::{Members, mean_and_deviation};
use crate::model::lora::{Adapter, Fresh, LoraConfig};
use crate::model::transformer::{Transformer, TransformerConfig};
use crate::model::weights::{Trainable, Weights};
use crate::rng::{standard_normal, stream};

/// A trunk with a scalar head, or with one for each member of an ensemble. The score of a sequence
/// is read at its last token (EOS).
pub struct RewardModel {
    /// The network below the head.
    pub trunk: Transformer,
    /// One row for each member, `[members, hidden]`.
    heads: Tensor,
    /// Subtracted from every score, so that the mean over a reference set is 0.
    pub bias: f64,
    /// The same for each member; empty where all have `bias`.
    member_biases: Vec<f64>,
}

/// Key in `config.json` that keeps the bias.
pub const BIAS_KEY: &str = "reward_bias";

/// What a reward model is made of before it has learnt anything.
#[derive(Clone, Copy)]
pub struct Beginning<'a> {
    /// What learns.
    pub trainable: Trainable,
    /// The adapter that learns in place of the blocks, where there is one.
    pub lora: Option<&'a LoraConfig>,
    /// How many heads there are.
    pub members: usize,
    /// Seed of heads and adapter.
    pub seed: u64,
}

impl RewardModel {
    /// A fresh head, drawn from N(0, 1/(hidden + 1)) (lm-human-preferences; Stiennon et al.), on a
    /// language model's folder.
    ///
    /// # Errors
    /// A sentence about the folder.
    pub fn from_language_model(
        folder: &Path,
        device: &Device,
        trainable: Trainable,
        seed: u64,
    ) -> Result<Self> {
        let beginning = Beginning {
            trainable,
            lora: None,
            members: 1,
            seed,
        };
        Self::begin(folder, device, beginning)
    }

    /// The same with an adapter or several heads; each head has a stream of its own.
    ///
    /// # Errors
    /// A sentence about the folder or the adapter's shape.
    pub fn begin(folder: &Path, device: &Device, beginning: Beginning) -> Result<Self> {
        let Beginning {
            trainable,
            lora,
            members,
            seed,
        } = beginning;
        let config = TransformerConfig::read(folder)?;
        let mut weights = Weights::read(folder, &config, device)?;
        weights.remove(OUTPUT);
        let deviation = (1.0 / (config.hidden_size as f32 + 1.0)).sqrt();
        let mut heads = Vec::with_capacity(members * config.hidden_size);
        for member in 0..members {
            let mut rng = stream(seed, "reward head", member as u64);
            heads.extend((0..config.hidden_size).map(|_| standard_normal(&mut rng) * deviation));
        }
        weights.insert(
            SCORE,
            Tensor::from_vec(heads, (members, config.hidden_size), device)?,
        );
        if let Some(config_of_adapter) = lora {
            let first = trainable.n_frozen(config.num_hidden_layers)?;
            let fresh = Fresh {
                config: config_of_adapter,
                seed,
                purpose: "reward adapter",
            };
            weights.put_on_fresh(&config, first, fresh)?;
        }
        Self::from_weights(config, weights, device, trainable, 0.0)
    }

    /// Reads a reward model's folder; of an ensemble, the mean head.
    ///
    /// # Errors
    /// A sentence about the folder: for one, that it has no reward head.
    pub fn load(folder: &Path, device: &Device, trainable: Trainable) -> Result<Self> {
        let config = TransformerConfig::read(folder)?;
        let bias = read_bias(folder)?;
        let weights = Weights::read(folder, &config, device)?;
        weights.get(SCORE, &[1, config.hidden_size])?;
        Self::from_weights(config, weights, device, trainable, bias)
    }

    /// The same with nothing to train, and with every member of an ensemble where the folder holds
    /// one.
    ///
    /// # Errors
    /// A sentence about the folder.
    pub fn load_members(folder: &Path, device: &Device) -> Result<Self> {
        let model = Self::load(folder, device, Trainable::Nothing)?;
        let width = model.trunk.config.hidden_size;
        match Members::read(folder, width, device)? {
            Some(members) => model.with_members(members),
            None => Ok(model),
        }
    }

    /// A reward model over a base that is in memory, whose tensors it shares: the adapter, with a
    /// head among its tensors, makes it one. What `trainable` lets learn is a copy of its own.
    ///
    /// # Errors
    /// When the adapter fits another network.
    pub fn on_base(
        base: &Transformer,
        adapter: &Adapter,
        bias: f64,
        trainable: Trainable,
    ) -> Result<Self> {
        let mut weights = base.weights().base()?;
        weights.remove(OUTPUT);
        weights.put_on(adapter);
        weights.get(SCORE, &[1, base.config.hidden_size])?;
        Self::from_weights(base.config.clone(), weights, &base.device, trainable, bias)
    }

    /// A model that learns by a fresh adapter over this one, whose other tensors it shares, and by
    /// its own copy of the head.
    ///
    /// # Errors
    /// When the adapter's shape does not fit.
    pub fn with_fresh_adapter(&self, trainable: Trainable, fresh: Fresh) -> Result<Self> {
        let config = self.trunk.config.clone();
        let mut weights = self.trunk.weights().base()?;
        let first = trainable.n_frozen(config.num_hidden_layers)?;
        weights.put_on_fresh(&config, first, fresh)?;
        weights.insert(SCORE, self.mean_head()?.detach());
        Self::from_weights(config, weights, &self.trunk.device, trainable, self.bias)
    }

    /// The same network, with nothing to train, under the heads of an ensemble.
    ///
    /// # Errors
    /// On heads of another width.
    pub fn with_members(&self, members: Members) -> Result<Self> {
        let config = self.trunk.config.clone();
        let mut weights = self.trunk.weights().frozen_copy()?;
        weights.insert(SCORE, members.heads);
        let (device, nothing) = (&self.trunk.device, Trainable::Nothing);
        let mut model = Self::from_weights(config, weights, device, nothing, self.bias)?;
        model.member_biases = members.biases;
        Ok(model)
    }

    fn from_weights(
        config: TransformerConfig,
        weights: Weights,
        device: &Device,
        trainable: Trainable,
        bias: f64,
    ) -> Result<Self> {
        let width = config.hidden_size;
        let trunk = Transformer::from_weights(config, weights, device, trainable)?;
        let members = trunk.weights().tensors().get(SCORE);
        let members = members.map_or(1, |heads| heads.dim(0).unwrap_or(1));
        let heads = trunk.weights().get(SCORE, &[members, width])?;
        Ok(Self {
            trunk,
            heads,
            bias,
            member_biases: Vec::new(),
        })
    }

    /// How many heads there are.
    pub fn n_members(&self) -> usize {
        self.heads.dims()[0]
    }

    /// The mean of the heads, `[1, hidden]`.
    ///
    /// # Errors
    /// When the device has no memory.
    pub fn mean_head(&self) -> Result<Tensor> {
        match self.n_members() {
            1 => Ok(self.heads.clone()),
            _ => Ok(self.heads.mean_keepdim(0)?),
        }
    }

    /// Sets what is subtracted from each member's scores, and its mean from those of all.
    pub fn set_biases(&mut self, biases: Vec<f64>) {
        self.bias = biases.iter().sum::<f64>() / biases.len().max(1) as f64;
        self.member_biases = biases;
    }

    /// The members with their biases, where there are several.
    pub fn members(&self) -> Option<Members> {
        let n = self.n_members();
        (n > 1).then(|| Members {
            heads: self.heads.detach(),
            biases: (0..n).map(|member| self.bias_of(member)).collect(),
        })
    }

    fn bias_of(&self, member: usize) -> f64 {
        self.member_biases.get(member).copied().unwrap_or(self.bias)
    }

    /// The heads, `[members, hidden]`.
    pub fn heads(&self) -> &Tensor {
        &self.heads
    }

    /// A copy with nothing to train, that shares frozen tensors with this one.
    ///
    /// # Errors
    /// When the device has no memory.
    pub fn frozen_copy(&self) -> Result<Self> {
        let trunk = self.trunk.frozen_copy()?;
        let heads = trunk.weights().get(SCORE, self.heads.dims())?;
        Ok(Self {
            trunk,
            heads,
            bias: self.bias,
            member_biases: self.member_biases.clone(),
        })
    }

    /// One number for each position, `[batch, time]`, from the trunk's `hidden`
    /// `[batch, time, hidden]`.
    ///
    /// # Errors
    /// On shapes that do not fit.
    pub fn values(&self, hidden: &Tensor) -> Result<Tensor> {
        let values = linear(hidden, &self.mean_head()?)?.squeeze(2)?;
        Ok((values - self.bias)?)
    }

    /// The score of each row, `[batch]`, at its last real token, from the trunk's `hidden`
    /// `[batch, time, hidden]`: of an ensemble, the mean.
    ///
    /// # Errors
    /// On shapes that do not fit.
    pub fn scores(&self, hidden: &Tensor, batch: &TokenBatch) -> Result<Tensor> {
        self.score_last(&batch.last(hidden)?)
    }

    /// The same from the output of the frozen blocks, `[batch, time, hidden]`, where nothing else
    /// is wanted: much cheaper where the top block is trained.
    ///
    /// # Errors
    /// On shapes that do not fit.
    pub fn scores_from(&self, lower: &Tensor, batch: &TokenBatch, pass: Pass) -> Result<Tensor> {
        self.score_last(&self.trunk.upper_last(lower, batch, pass)?)
    }

    /// `last` is `[batch, hidden]`.
    fn score_last(&self, last: &Tensor) -> Result<Tensor> {
        let scores = linear(last, &self.mean_head()?)?.squeeze(1)?;
        Ok((scores - self.bias)?)
    }

    /// Every member's score of each row, `[batch, members]`, from the trunk's `hidden`.
    ///
    /// # Errors
    /// On shapes that do not fit.
    pub fn member_scores(&self, hidden: &Tensor, batch: &TokenBatch) -> Result<Tensor> {
        self.score_last_by_member(&batch.last(hidden)?)
    }

    /// The same from the output of the frozen blocks.
    ///
    /// # Errors
    /// On shapes that do not fit.
    pub fn member_scores_from(
        &self,
        lower: &Tensor,
        batch: &TokenBatch,
        pass: Pass,
    ) -> Result<Tensor> {
        self.score_last_by_member(&self.trunk.upper_last(lower, batch, pass)?)
    }

    /// `last` is `[batch, hidden]`.
    fn score_last_by_member(&self, last: &Tensor) -> Result<Tensor> {
        let scores = linear(last, &self.heads)?;
        let biases = (0..self.n_members()).map(|member| self.bias_of(member) as f32);
        let biases: Vec<f32> = biases.collect();
        let biases = Tensor::from_vec(biases, (1, self.n_members()), scores.device())?;
        Ok(scores.broadcast_sub(&biases)?)
    }

    /// The scores of token rows without history; what all have in common at their beginning is read
    /// once.
    ///
    /// # Errors
    /// When a row is empty or longer than the context.
    pub fn score_rows(&self, rows: &[Vec<u32>]) -> Result<Vec<f32>> {
        let batch = TokenBatch::alike(rows, &self.trunk.device)?;
        let hidden = self.trunk.hidden(&batch, Pass::Frozen)?;
        Ok(self.scores(&hidden, &batch)?.to_vec1()?)
    }

    /// The scores of token rows, and between the members' scores of each the deviation, 0 where
    /// there is one head.
    ///
    /// # Errors
    /// When a row is empty or longer than the context.
    pub fn score_rows_with_deviation(&self, rows: &[Vec<u32>]) -> Result<Vec<(f32, f64)>> {
        let batch = TokenBatch::alike(rows, &self.trunk.device)?;
        let hidden = self.trunk.hidden(&batch, Pass::Frozen)?;
        let scores = self.scores(&hidden, &batch)?.to_vec1::<f32>()?;
        let members = self.member_scores(&hidden, &batch)?.to_vec2::<f32>()?;
        let deviations = members.iter().map(|members| {
            let members: Vec<f64> = members.iter().map(|score| f64::from(*score)).collect();
            mean_and_deviation(&members).1
        });
        Ok(scores.into_iter().zip(deviations).collect())
    }

    /// Every member's score of token rows: for each row one score of each member.
    ///
    /// # Errors
    /// When a row is empty or longer than the context.
    pub fn score_rows_by_member(&self, rows: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
        let batch = TokenBatch::alike(rows, &self.trunk.device)?;
        let hidden = self.trunk.hidden(&batch, Pass::Frozen)?;
        Ok(self.member_scores(&hidden, &batch)?.to_vec2()?)
    }
}

/// What a reward model's `config.json` says is subtracted from its scores; 0 where it says nothing.
///
/// # Errors
/// When it cannot be read, or says something that is no number.
pub fn read_bias(folder: &Path) -> Result<f64> {
    let path = folder.join("config.json");
    let bytes = std::fs::read(&path).at(&path)?;
    let value: serde_json::Value = serde_json::from_slice(&bytes)
        .map_err(|error| TrainerError::checkpoint(&path, format!("is not JSON: {error}")))?;
    match &value[BIAS_KEY] {
        serde_json::Value::Null => Ok(0.0),
        found => {
            let bias = found.as_f64().filter(|bias| (*bias as f32).is_finite());
            let message = format!("{BIAS_KEY} is {found}, not a number that a score can have");
            bias.ok_or_else(|| TrainerError::checkpoint(&path, message))
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    /// Item 10 of the checklist; the width is 48, so the deviation is 1/7.
    #[test]
    fn a_fresh_head_has_deviation_one_over_the_root_of_width_plus_one() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny");
        let mut all = Vec::new();
        for seed in 0..50 {
            let nothing = Trainable::Nothing;
            let model = RewardModel::from_language_model(&folder, &Device::Cpu, nothing, seed);
            let model = model.unwrap();
            assert_eq!(model.bias, 0.0);
            let head = model.heads.flatten_all().unwrap();
            all.extend(head.to_vec1::<f32>().unwrap());
        }
        let (mean, deviation) = crate::reward::mean_and_deviation(&all);
        assert!(mean.abs() < 0.015, "{mean}");
        assert!((7.0 * deviation - 1.0).abs() < 0.06, "{deviation}");
    }
}
