//! A reward model in use: scores of texts, as [`crate::reward`] trained it to read them, whatever
//! model wrote them.

use std::path::Path;

use candle_core::Device;

use crate::checkpoint::{CheckpointKind, inspect};
use crate::error::{Result, TrainerError};
use crate::model::heads::RewardModel;
use crate::records::{Placed, Prompt, RankedPrompt};
use crate::text::TextCodec;

/// Rows that pass through the model together: as many completions as a labeler ranks at once.
const MICRO_ROWS: usize = 9;

/// A reward model, ready to score.
pub struct Judge {
    codec: TextCodec,
    model: RewardModel,
}

/// A ranking as tokens.
pub struct Rows {
    /// Its prompt.
    pub prompt: Vec<u32>,
    /// Prompt, completion and EOS, in the record's order.
    pub rows: Vec<Vec<u32>>,
}

impl Rows {
    /// The length of each completion in tokens, without EOS, in the record's order.
    pub fn lengths(&self) -> Vec<f32> {
        let rows = self.rows.iter();
        rows.map(|row| (row.len() - self.prompt.len() - 1) as f32)
            .collect()
    }
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
            model: RewardModel::load_members(folder, &Device::Cpu)?,
        })
    }

    /// Tokens that a row may have.
    pub fn room(&self) -> usize {
        self.model.trunk.config.max_position_embeddings
    }

    /// Heads whose mean is the score; one where the model is no ensemble.
    pub fn n_members(&self) -> usize {
        self.model.n_members()
    }

    /// A ranking as the model reads it; none where a row does not fit the model's context.
    ///
    /// # Errors
    /// When the tokenizer or the template refuses a text, by line and field.
    pub fn rows(&self, placed: &Placed<RankedPrompt>) -> Result<Option<Rows>> {
        let record = &placed.record;
        let prompt = placed.at_field("prompt", self.codec.encode_prompt(&record.prompt))?;
        let mut rows = Vec::with_capacity(record.completions.len());
        for (index, completion) in record.completions.iter().enumerate() {
            let field = format!("completions[{index}].text");
            let tokens = self.codec.encode_completion(&completion.text);
            rows.push([prompt.clone(), placed.at_field(&field, tokens)?].concat());
        }
        let fits = rows.iter().all(|row| row.len() <= self.room());
        Ok(fits.then_some(Rows { prompt, rows }))
    }

    /// The score of each completion, in the record's order.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn scores(&self, rows: &Rows) -> Result<Vec<f32>> {
        let found = self.scores_with_deviation(rows)?;
        Ok(found.into_iter().map(|(score, _)| score).collect())
    }

    /// The same, each with the deviation between the scores of an ensemble's members, 0 where there
    /// is one head.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn scores_with_deviation(&self, rows: &Rows) -> Result<Vec<(f32, f64)>> {
        let mut scores = Vec::with_capacity(rows.rows.len());
        for rows in rows.rows.chunks(MICRO_ROWS) {
            scores.extend(self.model.score_rows_with_deviation(rows)?);
        }
        Ok(scores)
    }

    /// Every member's score of each text as a completion of `prompt`: for each member one score of each
    /// text. None where one of them does not fit the model's context, since it was then not read whole.
    ///
    /// # Errors
    /// When the tokenizer or the template refuses a text.
    pub fn score_by_member(
        &self,
        prompt: &Prompt,
        texts: &[&str],
    ) -> Result<Option<Vec<Vec<f64>>>> {
        let prompt = self.codec.encode_prompt(prompt)?;
        let mut rows = Vec::with_capacity(texts.len());
        for text in texts {
            rows.push([prompt.clone(), self.codec.encode_completion(text)?].concat());
        }
        if rows.iter().any(|row| row.len() > self.room()) {
            return Ok(None);
        }
        let mut members = vec![Vec::with_capacity(rows.len()); self.n_members()];
        for rows in rows.chunks(MICRO_ROWS) {
            for scores in self.model.score_rows_by_member(rows)? {
                for (member, score) in members.iter_mut().zip(scores) {
                    member.push(f64::from(score));
                }
            }
        }
        Ok(Some(members))
    }

    /// The score of each text as a completion of `prompt`, read at the EOS that is put after it, and
    /// how many of them it saw without the beginning of their prompt, since they are longer in its
    /// tokens than it can read.
    ///
    /// # Errors
    /// When the tokenizer refuses a text.
    pub fn score_texts(&self, prompt: &Prompt, texts: &[&str]) -> Result<(Vec<f32>, usize)> {
        let prompt = self.codec.encode_prompt(prompt)?;
        let room = self.model.trunk.config.max_position_embeddings;
        let mut rows = Vec::with_capacity(texts.len());
        let (mut whole, mut cut) = (Vec::new(), Vec::new());
        for (index, text) in texts.iter().enumerate() {
            let mut row = prompt.clone();
            row.extend(self.codec.encode(text)?);
            row.push(self.codec.eos_id);
            if row.len() > room {
                row.drain(..row.len() - room);
                cut.push(index);
            } else {
                whole.push(index);
            }
            rows.push(row);
        }
        let mut scores = vec![0.0; rows.len()];
        // Those that are cut begin unlike the others.
        for places in whole.chunks(MICRO_ROWS).chain(cut.chunks(MICRO_ROWS)) {
            let micro: Vec<Vec<u32>> = places.iter().map(|index| rows[*index].clone()).collect();
            let found = self.model.score_rows(&micro)?;
            for (index, score) in places.iter().zip(found) {
                scores[*index] = score;
            }
        }
        Ok((scores, cut.len()))
    }
}
