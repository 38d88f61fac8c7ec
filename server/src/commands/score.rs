//! `plackett score`: a reward model's score for each completion of a rankings file; or, with `--project`, how
//! far several disagree over that project's open tasks (`disagreement.rs`).

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use trainer::judge::{Judge, Rows};
use trainer::records::{self, Placed, RankedPrompt, name_lines};
use trainer::{Result, TrainerError};

use crate::commands::disagreement;
use crate::config::DataConfig;

/// Settings of `plackett score`.
#[derive(Debug, Clone, clap::Args)]
pub struct ScoreCommand {
    /// The reward model's folder.
    #[arg(
        long,
        value_name = "DIR",
        required_unless_present = "project",
        requires = "data"
    )]
    pub model: Option<PathBuf>,

    /// Rankings, JSONL.
    #[arg(long, value_name = "FILE", requires = "model")]
    pub data: Option<PathBuf>,

    /// Instead: measure how far the members of an ensemble disagree over this project's open tasks, and
    /// write it on the tasks. Where the project's next task is the most informative one, the queue follows.
    ///
    /// The disagreement of a task is the mean, over its pairs of candidates, of the variance across members
    /// of the probability that the one is preferred, sigmoid(r_i - r_j): 0 to 0.25.
    #[arg(
        long,
        value_name = "SLUG",
        conflicts_with = "model",
        requires = "ensemble"
    )]
    pub project: Option<String>,

    /// With --project: folders of reward models. Those that have several members count as so many.
    #[arg(long, value_name = "DIR", num_args = 1.., requires = "project")]
    pub ensemble: Vec<PathBuf>,
}

/// With a project, measures its open tasks. Otherwise prints one JSON object for each line of the file: id, and completions with their scores, and how
/// far the members of an ensemble lie apart. Lines that do not fit the model's context are left out,
/// and counted on the error output.
///
/// # Errors
/// A sentence about model or data.
pub async fn run(data: &DataConfig, command: ScoreCommand) -> anyhow::Result<()> {
    if let Some(project) = &command.project {
        return disagreement::run(data, project, command.ensemble).await;
    }
    let (Some(model), Some(file)) = (command.model, command.data) else {
        anyhow::bail!("give --model and --data, or --project and --ensemble");
    };
    let model = data.find_model(model);
    let score = move || -> anyhow::Result<()> {
        match score(&model, &file, &mut std::io::stdout().lock()) {
            // Whoever reads the lines has enough of them.
            Err(TrainerError::Io { source, .. }) if source.kind() == ErrorKind::BrokenPipe => {
                Ok(())
            }
            ended => Ok(ended?),
        }
    };
    tokio::task::spawn_blocking(score).await?
}

fn score(model: &Path, data: &Path, out: &mut dyn Write) -> Result<()> {
    let records: Vec<Placed<RankedPrompt>> = records::read_placed(data)?;
    let judge = Judge::load(model)?;
    let mut n_scored = 0;
    let mut long = Vec::new();
    for placed in &records {
        let Some(rows) = judge.rows(placed)? else {
            long.push(placed.line);
            continue;
        };
        n_scored += 1;
        let line = tell(&judge, &placed.record, &rows)?;
        writeln!(out, "{line}").map_err(|source| TrainerError::Io {
            path: "standard output".into(),
            source,
        })?;
    }
    tell_left_out(&judge, &records, n_scored, &long)
}

/// Says on the error output which lines were left out.
///
/// # Errors
/// When nothing is left.
pub fn tell_left_out(
    judge: &Judge,
    records: &[Placed<RankedPrompt>],
    n_left: usize,
    long: &[usize],
) -> Result<()> {
    let room = judge.room();
    if let (0, Some(first)) = (n_left, records.first()) {
        let message =
            format!("holds more than {room} tokens in a row, as does every other ranking");
        return Err(first.error("completions", message));
    }
    if !long.is_empty() {
        eprintln!(
            "{} rankings hold more than {room} tokens in a row: {} are left out",
            long.len(),
            name_lines(long)
        );
    }
    Ok(())
}

/// What is printed of a record: its id, and each completion with its score and, where the model
/// is an ensemble, the deviation between the members' scores.
fn tell(judge: &Judge, record: &RankedPrompt, rows: &Rows) -> Result<Value> {
    let scores = judge.scores_with_deviation(rows)?;
    let completions = record.completions.iter().zip(scores);
    let completions: Vec<Value> = completions
        .map(|(one, (score, deviation))| {
            let mut told = json!({"id": one.id, "rank": one.rank, "score": score});
            if judge.n_members() > 1 {
                told["deviation"] = json!(deviation);
            }
            told
        })
        .collect();
    Ok(json!({"id": record.id, "completions": completions}))
}

#[cfg(test)]
pub(crate) mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use tempfile::TempDir;
    use trainer::Device;
    use trainer::checkpoint::{CheckpointKind, Lineage, write_with};
    use trainer::config::{Preset, RewardConfig};
    use trainer::model::architecture::SCORE;
    use trainer::model::heads::{Beginning, RewardModel};
    use trainer::model::weights::Trainable;
    use trainer::progress::Silent;
    use trainer::reward::{self, RewardJob};
    use trainer::savepoint::SavePolicy;

    use super::*;

    /// A ranking of as many completions as there are ranks.
    pub(crate) fn ranking(id: &str, prompt: &str, ranks: &[u32]) -> Value {
        let completions = ranks.iter().enumerate().map(|(index, rank)| {
            let text = ["red", "blue and red", "no", "yes yes"][index % 4];
            json!({"id": index.to_string(), "text": text, "rank": rank})
        });
        let completions: Vec<Value> = completions.collect();
        json!({"id": id, "prompt": prompt, "completions": completions})
    }

    /// A folder with a reward model, as `run/checkpoint`, and a file of these lines.
    pub(crate) fn place(lines: &[Value]) -> (TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, lines: &[Value]| {
            let path = folder.path().join(name);
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            std::fs::write(&path, text).unwrap();
            path
        };
        let few: Vec<Value> = (0..4)
            .map(|n| ranking(&n.to_string(), &format!("say {n}"), &[1, 2]))
            .collect();
        let job = RewardJob {
            config: RewardConfig {
                epochs: 1,
                ..RewardConfig::preset(Preset::Tiny)
            },
            data: write("few.jsonl", &few),
            demonstrations: None,
            base: Path::new(env!("CARGO_MANIFEST_DIR")).join("../trainer/tests/fixtures/tiny"),
            out: folder.path().join("run"),
            saving: SavePolicy::default(),
        };
        let model = reward::run(&job, &mut Silent).unwrap().checkpoint;
        let data = write("data.jsonl", lines);
        (folder, model, data)
    }

    fn long() -> Value {
        let mut long = ranking("long", "say", &[1, 2]);
        long["completions"][1]["text"] = json!("word ".repeat(500));
        long
    }

    #[test]
    fn scores_are_those_of_each_row_alone_and_what_is_too_long_is_left_out() {
        let ranks: Vec<u32> = (1..=11).collect();
        let (_folder, model, data) = place(&[
            ranking("a", "say", &ranks),
            long(),
            ranking("b", "now", &[1, 1]),
        ]);
        let mut out = Vec::new();
        score(&model, &data, &mut out).unwrap();
        let lines: Vec<Value> = out
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(
            (&lines[0]["id"], &lines[1]["id"]),
            (&json!("a"), &json!("b"))
        );
        let judge = Judge::load(&model).unwrap();
        let records: Vec<Placed<RankedPrompt>> = records::read_placed(&data).unwrap();
        let rows = judge.rows(&records[0]).unwrap().unwrap();
        assert_eq!(rows.rows.len(), 11, "more than pass together");
        for (row, told) in rows
            .rows
            .iter()
            .zip(lines[0]["completions"].as_array().unwrap())
        {
            let alone = judge.scores(&Rows {
                prompt: rows.prompt.clone(),
                rows: vec![row.clone()],
            });
            let (alone, told) = (alone.unwrap()[0], told["score"].as_f64().unwrap());
            assert!((f64::from(alone) - told).abs() < 1e-4, "{alone} {told}");
        }
        let (_folder, model, data) = place(&[long()]);
        let said = score(&model, &data, &mut Vec::new())
            .unwrap_err()
            .to_string();
        let words = "data.jsonl, line 1, field completions: holds more than 128 tokens";
        assert!(said.contains(words), "{said}");
    }

    #[test]
    fn a_reader_that_goes_away_is_an_error_and_no_panic() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let (_folder, model, data) = place(&[ranking("a", "say", &[1, 2])]);
        let ended = score(&model, &data, &mut Closed);
        assert!(matches!(ended, Err(TrainerError::Io { source, .. })
                if source.kind() == ErrorKind::BrokenPipe));
    }

    #[test]
    fn an_ensembles_scores_come_with_their_deviation_and_a_single_models_alone() {
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../trainer/tests/fixtures/tiny");
        let folder = tempfile::tempdir().unwrap();
        let record = json!({"id": "p", "prompt": "the cat", "completions": [
            {"id": "a", "text": "the mat", "rank": 1}, {"id": "b", "text": "no", "rank": 2},
        ]});
        let data = folder.path().join("data.jsonl");
        std::fs::write(&data, format!("{record}\n")).unwrap();
        let records: Vec<Placed<RankedPrompt>> = records::read_placed(&data).unwrap();
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
            let rows = judge.rows(&records[0]).unwrap().unwrap();
            let told = tell(&judge, &records[0].record, &rows).unwrap();
            let scores = judge.scores(&rows).unwrap();
            for (one, score) in told["completions"].as_array().unwrap().iter().zip(scores) {
                assert_eq!(one["score"], json!(score));
                let deviation = one["deviation"].as_f64();
                assert_eq!(deviation.is_some_and(|it| it > 0.0), members > 1, "{told}");
                assert_eq!(deviation.is_none(), members == 1, "{told}");
            }
        }
    }
}
