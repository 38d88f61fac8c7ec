//! A reward model in use: scores of texts, as [`crate::reward`] trained it to read them, whatever
//! model wrote them.

use std::path::Path;

use candle_core::Device;

use crate::checkpoint::{CheckpointKind, inspect};
use crate::error::{Result, TrainerError};
use crate::model::heads::RewardModel;
use crate::model::weights::Trainable;
use crate::records::{Prompt, RankedPrompt};
use crate::text::TextCodec;

/// Rows that pass through the model together.
const MICRO_ROWS: usize = 8;

/// A reward model, ready to score.
pub struct Judge {
    codec: TextCodec,
    model: RewardModel,
}

impl Judge {
    /// Loads a reward model's folder.
    ///
    /// # Errors
    /// A sentence about the folder: for one, that it holds no reward model.
    pub fn load(folder: &Path) -> Result<Self> {
        if inspect(folder)?.kind != CheckpointKind::Reward {
            return Err(TrainerError::checkpoint(folder, "is not a reward model"));
        }
        Ok(Self {
            codec: TextCodec::load(folder)?,
            model: RewardModel::load(folder, &Device::Cpu, Trainable::Nothing)?,
        })
    }

    /// The score of each completion, in the record's order.
    ///
    /// # Errors
    /// When a completion does not fit the model's context.
    pub fn score(&self, record: &RankedPrompt) -> Result<Vec<f32>> {
        let texts = record.completions.iter();
        let texts: Vec<&str> = texts.map(|completion| completion.text.as_str()).collect();
        let name = |index: usize| {
            let completion = &record.completions[index].id;
            format!("completion {completion} of {}", record.id)
        };
        self.score_texts(&record.prompt, &texts, &name)
    }

    /// The score of each text as a completion of `prompt`, read at the EOS that is put after it.
    /// `name` names a text in errors.
    ///
    /// # Errors
    /// When a text does not fit the model's context.
    pub fn score_texts(
        &self,
        prompt: &Prompt,
        texts: &[&str],
        name: &dyn Fn(usize) -> String,
    ) -> Result<Vec<f32>> {
        let prompt = self.codec.encode_prompt(prompt)?;
        let room = self.model.trunk.config.max_position_embeddings;
        let mut rows = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            let mut row = prompt.clone();
            row.extend(self.codec.encode(text)?);
            row.push(self.codec.eos_id);
            if row.len() > room {
                let message = format!("holds {room} tokens; {} needs {}", name(index), row.len());
                return Err(TrainerError::Config {
                    field: "context".into(),
                    message,
                });
            }
            rows.push(row);
        }
        // Rows of similar length together waste little on padding.
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|index| rows[*index].len());
        let mut scores = vec![0.0; rows.len()];
        for places in order.chunks(MICRO_ROWS) {
            let micro: Vec<Vec<u32>> = places.iter().map(|index| rows[*index].clone()).collect();
            let found = self.model.score_rows(&micro, self.codec.pad_id)?;
            for (index, score) in places.iter().zip(found) {
                scores[*index] = score;
            }
        }
        Ok(scores)
    }

    /// The length of each completion in tokens, in the record's order.
    ///
    /// # Errors
    /// When the tokenizer refuses a text.
    pub fn lengths(&self, record: &RankedPrompt) -> Result<Vec<f32>> {
        let completions = record.completions.iter();
        completions
            .map(|completion| Ok(self.codec.encode(&completion.text)?.len() as f32))
            .collect()
    }
}
