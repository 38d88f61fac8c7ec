//! `plackett score`: a reward model's score for each completion of a rankings file.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use trainer::checkpoint::{CheckpointKind, inspect};
use trainer::model::heads::RewardModel;
use trainer::records::{self, RankedPrompt};
use trainer::text::TextCodec;
use trainer::{Device, Result, TrainerError};

use crate::config::DataConfig;

/// Settings of `plackett score`.
#[derive(Debug, Clone, clap::Args)]
pub struct ScoreCommand {
    /// The reward model's folder.
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,

    /// Rankings, JSONL.
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
}

/// Prints one JSON object for each line of the file: id, and completions with their scores, and
/// how far the members of an ensemble lie apart.
///
/// # Errors
/// A sentence about model or data.
pub async fn run(data: &DataConfig, command: ScoreCommand) -> anyhow::Result<()> {
    let model = data.find_model(command.model);
    let score = move || {
        let records: Vec<RankedPrompt> = records::read(&command.data)?;
        let judge = Judge::load(&model)?;
        for record in &records {
            println!("{}", judge.tell(record)?);
        }
        anyhow::Ok(())
    };
    tokio::task::spawn_blocking(score).await?
}

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
            model: RewardModel::load_members(folder, &Device::Cpu)?,
        })
    }

    /// The score of each completion, in the record's order.
    ///
    /// # Errors
    /// When a completion does not fit the model's context.
    pub fn score(&self, record: &RankedPrompt) -> Result<Vec<f32>> {
        self.model
            .score_rows(&self.rows(record)?, self.codec.pad_id)
    }

    /// What is printed of a record: its id, and each completion with its score and, where the model
    /// is an ensemble, the deviation between the members' scores.
    ///
    /// # Errors
    /// When a completion does not fit the model's context.
    pub fn tell(&self, record: &RankedPrompt) -> Result<Value> {
        let (rows, pad_id) = (self.rows(record)?, self.codec.pad_id);
        let scores = self.model.score_rows_with_deviation(&rows, pad_id)?;
        let completions = record.completions.iter().zip(scores);
        let completions: Vec<Value> = completions
            .map(|(one, (score, deviation))| {
                let mut told = json!({"id": one.id, "rank": one.rank, "score": score});
                if self.model.n_members() > 1 {
                    told["deviation"] = json!(deviation);
                }
                told
            })
            .collect();
        Ok(json!({"id": record.id, "completions": completions}))
    }

    /// Prompt, completion and EOS of each completion.
    fn rows(&self, record: &RankedPrompt) -> Result<Vec<Vec<u32>>> {
        let prompt = self.codec.encode_prompt(&record.prompt)?;
        let room = self.model.trunk.config.max_position_embeddings;
        let mut rows = Vec::with_capacity(record.completions.len());
        for completion in &record.completions {
            let mut row = prompt.clone();
            row.extend(self.codec.encode(&completion.text)?);
            row.push(self.codec.eos_id);
            if row.len() > room {
                let message = format!(
                    "holds {room} tokens; completion {} of {} needs {}",
                    completion.id,
                    record.id,
                    row.len()
                );
                return Err(TrainerError::Config {
                    field: "context".into(),
                    message,
                });
            }
            rows.push(row);
        }
        Ok(rows)
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use trainer::checkpoint::{Lineage, write_with};
    use trainer::model::architecture::SCORE;
    use trainer::model::heads::Beginning;
    use trainer::model::weights::Trainable;

    use super::*;

    #[test]
    fn an_ensembles_scores_come_with_their_deviation_and_a_single_models_alone() {
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../trainer/tests/fixtures/tiny");
        let folder = tempfile::tempdir().unwrap();
        let record = json!({"id": "p", "prompt": "the cat", "completions": [
            {"id": "a", "text": "the mat", "rank": 1}, {"id": "b", "text": "no", "rank": 2},
        ]});
        let record: RankedPrompt = serde_json::from_value(record).unwrap();
        for members in [1, 3] {
            let beginning = Beginning {
                trainable: Trainable::Nothing,
                lora: None,
                members,
                seed: 2,
            };
            let model = RewardModel::begin(&base, &Device::Cpu, beginning).unwrap();
            let mut tensors = model.trunk.weights().tensors().clone();
            tensors.insert(SCORE.to_owned(), model.mean_head().unwrap());
            let place = folder.path().join(members.to_string());
            let lineage = Lineage::new(CheckpointKind::Reward);
            write_with(&place, &base, &tensors, Some(0.0), &lineage, |folder| {
                let members = model.members();
                members.map_or(Ok(()), |members| members.write(folder))
            })
            .unwrap();
            let judge = Judge::load(&place).unwrap();
            let told = judge.tell(&record).unwrap();
            let scores = judge.score(&record).unwrap();
            for (one, score) in told["completions"].as_array().unwrap().iter().zip(scores) {
                assert_eq!(one["score"], json!(score));
                let deviation = one["deviation"].as_f64();
                assert_eq!(deviation.is_some_and(|it| it > 0.0), members > 1, "{told}");
                assert_eq!(deviation.is_none(), members == 1, "{told}");
            }
        }
    }
}
