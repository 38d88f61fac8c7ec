//! `plackett score`: a reward model's score for each completion of a rankings file.

use std::path::{Path, PathBuf};

use serde_json::json;
use trainer::checkpoint::{CheckpointKind, inspect};
use trainer::model::heads::RewardModel;
use trainer::model::weights::Trainable;
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

/// Prints one JSON object for each line of the file: id, and completions with their scores.
///
/// # Errors
/// A sentence about model or data.
pub async fn run(data: &DataConfig, command: ScoreCommand) -> anyhow::Result<()> {
    let model = data.find_model(command.model);
    let score = move || {
        let records: Vec<RankedPrompt> = records::read(&command.data)?;
        let judge = Judge::load(&model)?;
        for record in &records {
            let scores = judge.score(record)?;
            let completions = record.completions.iter().zip(scores);
            let completions: Vec<_> = completions
                .map(|(one, score)| json!({"id": one.id, "rank": one.rank, "score": score}))
                .collect();
            println!("{}", json!({"id": record.id, "completions": completions}));
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
            model: RewardModel::load(folder, &Device::Cpu, Trainable::Nothing)?,
        })
    }

    /// The score of each completion, in the record's order.
    ///
    /// # Errors
    /// When a completion does not fit the model's context.
    pub fn score(&self, record: &RankedPrompt) -> Result<Vec<f32>> {
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
        self.model.score_rows(&rows, self.codec.pad_id)
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
