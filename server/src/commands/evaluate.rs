//! `plackett evaluate`: how often a reward model orders a pair as the labelers did, beside what
//! length alone reaches.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use trainer::judge::Judge;
use trainer::records::{self, Placed, RankedPrompt};
use trainer::reward::{Accuracy, Place, bootstrap_units, by_unit, count_right, units};

use crate::commands::score::tell_left_out;
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
/// the prompts cannot tell one, as a single prompt cannot, and the accuracy itself where no ranking
/// has a strict pair. Lines that do not fit the model's context are left out and counted.
///
/// # Errors
/// A sentence about model or data.
pub async fn run(data: &DataConfig, command: EvaluateCommand) -> anyhow::Result<()> {
    let model = data.find_model(command.model);
    let measure = move || -> anyhow::Result<()> {
        let figures = measure(&model, &command.data)?;
        match writeln!(std::io::stdout().lock(), "{figures:#}") {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            written => Ok(written?),
        }
    };
    tokio::task::spawn_blocking(measure).await?
}

fn measure(model: &Path, data: &Path) -> trainer::Result<Value> {
    let records: Vec<Placed<RankedPrompt>> = records::read_placed(data)?;
    let judge = Judge::load(model)?;
    let (mut known, mut long) = (Vec::new(), Vec::new());
    let (mut model, mut longer, mut shorter) = (Vec::new(), Vec::new(), Vec::new());
    for placed in records {
        let Some(rows) = judge.rows(&placed)? else {
            long.push(placed);
            continue;
        };
        let completions = placed.record.completions.iter();
        let ranks: Vec<u32> = completions.map(|one| one.rank).collect();
        let lengths = rows.lengths();
        let negated: Vec<f32> = lengths.iter().map(|length| -length).collect();
        model.push(count_right(&judge.scores(&rows)?, &ranks));
        longer.push(count_right(&lengths, &ranks));
        shorter.push(count_right(&negated, &ranks));
        known.push(placed);
    }
    let lines: Vec<usize> = long.iter().map(|placed| placed.line).collect();
    tell_left_out(&judge, &long, known.len(), &lines)?;
    let units = units(&known)?;
    let interval = |counts: Vec<(f64, usize)>| {
        let places = known.iter().zip(&units).map(|(placed, unit)| Place {
            unit,
            prompt: &placed.record.id,
        });
        bootstrap_units(&by_unit(places.zip(counts)), SEED)
    };
    // There is nothing to learn the direction on, so the baseline gets the better one.
    let (longer, shorter) = (interval(longer), interval(shorter));
    let longer_is_better = longer.value >= shorter.value;
    let length_only = if longer_is_better { longer } else { shorter };
    let has_pairs = longer.n_pairs > 0;
    Ok(json!({
        "rankings": known.len(),
        "left_out": long.len(),
        "accuracy": describe(interval(model)),
        "length_only": describe(length_only),
        "longer_is_better": has_pairs.then_some(longer_is_better),
    }))
}

fn describe(accuracy: Accuracy) -> Value {
    json!({
        "value": (accuracy.n_pairs > 0).then_some(accuracy.value),
        "low": accuracy.interval.map(|interval| interval.low),
        "high": accuracy.interval.map(|interval| interval.high),
        "pairs": accuracy.n_pairs,
        "prompts": accuracy.n_prompts,
        "units": accuracy.n_units,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::commands::score::tests::{place, ranking};

    #[test]
    fn what_cannot_be_measured_is_null_and_what_is_too_long_is_counted() {
        let tied = [ranking("a", "say", &[1, 1]), ranking("b", "now", &[2, 2])];
        let (_folder, model, data) = place(&tied);
        let figures = measure(&model, &data).unwrap();
        assert_eq!(figures["accuracy"]["value"], Value::Null);
        assert_eq!(figures["length_only"]["value"], Value::Null);
        assert_eq!(figures["longer_is_better"], Value::Null);
        assert_eq!(
            (&figures["rankings"], &figures["left_out"]),
            (&json!(2), &json!(0))
        );
        let mut long = ranking("long", &"say ".repeat(500), &[1, 2]);
        let text: String = [
            ranking("a", "say", &[1, 2, 3]),
            long.clone(),
            // The same text under another id.
            ranking("c", "say", &[2, 1]),
            ranking("b", "now", &[1, 2]),
        ]
        .iter()
        .map(|line| format!("{line}\n"))
        .collect();
        std::fs::write(&data, text).unwrap();
        let figures = measure(&model, &data).unwrap();
        let accuracy = &figures["accuracy"];
        assert!(accuracy["value"].is_number(), "{figures}");
        let n = |name: &str| accuracy[name].as_u64().unwrap();
        assert_eq!((n("pairs"), n("prompts"), n("units")), (5, 3, 2));
        assert_eq!(
            (&figures["rankings"], &figures["left_out"]),
            (&json!(3), &json!(1))
        );
        long["completions"][0]["text"] = json!("");
        std::fs::write(&data, format!("\n{long}\n")).unwrap();
        let said = measure(&model, &data).unwrap_err().to_string();
        assert!(
            said.contains("data.jsonl, line 2, field completions"),
            "{said}"
        );
    }
}
