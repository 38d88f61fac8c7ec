//! `plackett evaluate`: how often a reward model orders a pair as the labelers did, beside what
//! length alone reaches.

use std::path::PathBuf;

use serde_json::json;
use trainer::judge::Judge;
use trainer::records::{self, RankedPrompt};
use trainer::reward::{Accuracy, bootstrap, by_prompt, count_right};

use crate::config::DataConfig;

/// Seed of the bootstrap: the same file gives the same interval.
const SEED: u64 = 1;

/// Settings of `plackett evaluate`.
#[derive(Debug, Clone, clap::Args)]
pub struct EvaluateCommand {
    /// The reward model's folder.
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,

    /// Rankings that the model was not trained on, JSONL.
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
}

/// Prints one JSON object with the accuracies, each with its 95 % interval; its ends are null where
/// the prompts cannot tell one, as a single prompt cannot.
///
/// # Errors
/// A sentence about model or data.
pub async fn run(data: &DataConfig, command: EvaluateCommand) -> anyhow::Result<()> {
    let model = data.find_model(command.model);
    let measure = move || {
        let records: Vec<RankedPrompt> = records::read(&command.data)?;
        let judge = Judge::load(&model)?;
        let (mut model, mut longer, mut shorter) = (Vec::new(), Vec::new(), Vec::new());
        for record in &records {
            let ranks: Vec<u32> = record.completions.iter().map(|one| one.rank).collect();
            let lengths = judge.lengths(record)?;
            let negated: Vec<f32> = lengths.iter().map(|length| -length).collect();
            model.push(count_right(&judge.score(record)?, &ranks));
            longer.push(count_right(&lengths, &ranks));
            shorter.push(count_right(&negated, &ranks));
        }
        let ids = || records.iter().map(|record| record.id.as_str());
        let interval = |counts| bootstrap(&by_prompt(ids(), counts), SEED);
        // There is nothing to learn the direction on, so the baseline gets the better one.
        let (longer, shorter) = (interval(&longer), interval(&shorter));
        let length_only = if longer.value >= shorter.value {
            longer
        } else {
            shorter
        };
        let figures = json!({
            "rankings": records.len(),
            "accuracy": describe(interval(&model)),
            "length_only": describe(length_only),
            "longer_is_better": longer.value >= shorter.value,
        });
        println!("{figures:#}");
        anyhow::Ok(())
    };
    tokio::task::spawn_blocking(measure).await?
}

fn describe(accuracy: Accuracy) -> serde_json::Value {
    json!({
        "value": accuracy.value,
        "low": accuracy.interval.map(|interval| interval.low),
        "high": accuracy.interval.map(|interval| interval.high),
        "pairs": accuracy.n_pairs,
        "prompts": accuracy.n_prompts,
    })
}
