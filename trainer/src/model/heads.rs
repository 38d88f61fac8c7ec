//! Reward and value models: the language model with its output projection replaced by one number
//! (InstructGPT, appendix C). Saved as `LlamaForSequenceClassification`, or what the family calls it,
//! with one label.

use std::path::Path;

use candle_core::{Device, Tensor};

use crate::error::{AtPath, Result, TrainerError};
use crate::model::architecture::{OUTPUT, SCORE};
use crate::model::attention::{Pass, linear};
use crate::model::batch::TokenBatch;
use crate::model::transformer::{Transformer, TransformerConfig};
use crate::model::weights::{Trainable, Weights};
use crate::rng::{standard_normal, stream};

/// A trunk with a scalar head. The score of a sequence is read at its last token (EOS).
pub struct RewardModel {
    /// The network below the head.
    pub trunk: Transformer,
    head: Tensor,
    /// Subtracted from every score, so that the mean over a reference set is 0.
    pub bias: f64,
}

/// Key in `config.json` that keeps the bias.
pub const BIAS_KEY: &str = "reward_bias";

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
        let config = TransformerConfig::read(folder)?;
        let mut weights = Weights::read(folder, &config, device)?;
        weights.remove(OUTPUT);
        let mut rng = stream(seed, "reward head", 0);
        let deviation = (1.0 / (config.hidden_size as f32 + 1.0)).sqrt();
        let head: Vec<f32> = (0..config.hidden_size)
            .map(|_| standard_normal(&mut rng) * deviation)
            .collect();
        weights.insert(
            SCORE,
            Tensor::from_vec(head, (1, config.hidden_size), device)?,
        );
        Self::from_weights(config, weights, device, trainable, 0.0)
    }

    /// Reads a reward model's folder.
    ///
    /// # Errors
    /// A sentence about the folder: for one, that it has no reward head.
    pub fn load(folder: &Path, device: &Device, trainable: Trainable) -> Result<Self> {
        let config = TransformerConfig::read(folder)?;
        let path = folder.join("config.json");
        let bytes = std::fs::read(&path).at(&path)?;
        let value: serde_json::Value = serde_json::from_slice(&bytes)
            .map_err(|error| TrainerError::checkpoint(&path, format!("is not JSON: {error}")))?;
        let bias = match &value[BIAS_KEY] {
            serde_json::Value::Null => 0.0,
            found => {
                let bias = found.as_f64().filter(|bias| (*bias as f32).is_finite());
                let message = format!("{BIAS_KEY} is {found}, not a number that a score can have");
                bias.ok_or_else(|| TrainerError::checkpoint(&path, message))?
            }
        };
        let weights = Weights::read(folder, &config, device)?;
        Self::from_weights(config, weights, device, trainable, bias)
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
        let head = trunk.weights().get(SCORE, &[1, width])?;
        Ok(Self { trunk, head, bias })
    }

    /// The head, `[1, hidden]`.
    pub fn head(&self) -> &Tensor {
        &self.head
    }

    /// A copy with nothing to train, that shares frozen tensors with this one.
    ///
    /// # Errors
    /// When the device has no memory.
    pub fn frozen_copy(&self) -> Result<Self> {
        let trunk = self.trunk.frozen_copy()?;
        let head = trunk.weights().get(SCORE, self.head.dims())?;
        Ok(Self {
            trunk,
            head,
            bias: self.bias,
        })
    }

    /// One number for each position, `[batch, time]`, from the trunk's `hidden`
    /// `[batch, time, hidden]`.
    ///
    /// # Errors
    /// On shapes that do not fit.
    pub fn values(&self, hidden: &Tensor) -> Result<Tensor> {
        let values = linear(hidden, &self.head)?.squeeze(2)?;
        Ok((values - self.bias)?)
    }

    /// The score of each row, `[batch]`, at its last real token, from the trunk's `hidden`
    /// `[batch, time, hidden]`.
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
        let scores = linear(last, &self.head)?.squeeze(1)?;
        Ok((scores - self.bias)?)
    }

    /// The scores of token rows without history.
    ///
    /// # Errors
    /// When a row is longer than the context.
    pub fn score_rows(&self, rows: &[Vec<u32>], pad_id: u32) -> Result<Vec<f32>> {
        let batch = TokenBatch::new(rows, pad_id, &self.trunk.device)?;
        let hidden = self.trunk.hidden(&batch, Pass::Frozen)?;
        Ok(self.scores(&hidden, &batch)?.to_vec1()?)
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
            let head = model.head.flatten_all().unwrap();
            all.extend(head.to_vec1::<f32>().unwrap());
        }
        let (mean, deviation) = crate::reward::mean_and_deviation(&all);
        assert!(mean.abs() < 0.015, "{mean}");
        assert!((7.0 * deviation - 1.0).abs() < 0.06, "{deviation}");
    }
}
