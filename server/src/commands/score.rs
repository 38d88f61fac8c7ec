//! `plackett score`: a reward model's score for each completion of a rankings file.

use std::path::PathBuf;

use serde_json::json;
use trainer::judge::Judge;
use trainer::records::{self, RankedPrompt};

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
