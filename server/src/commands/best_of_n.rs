//! `plackett generate --best-of N`: of N completions of each prompt, the one that a reward model
//! scores highest.

use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use serde_json::Value;
use trainer::best_of_n::{self, BestOfNJob, Drawn, Point};
use trainer::records::Prompt;

use crate::commands::out_file::replace;
use crate::commands::train::{Printer, stop_on_signal};
use crate::domain::run::GenerationConfig;

/// A line of the file: a prompt with its best completion.
#[derive(Debug, Serialize)]
struct Line<'a> {
    id: &'a str,
    prompt: &'a Prompt,
    completions: [LineCompletion<'a>; 1],
}

#[derive(Debug, Serialize)]
struct LineCompletion<'a> {
    id: String,
    text: &'a str,
    model: &'a str,
    sampling: Value,
    is_finished: bool,
    score: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    gold: Option<f64>,
}

/// Draws, writes the best completions to `out`, and prints what fewer samples would have reached.
/// `name` is what the completions say of their model.
///
/// # Errors
/// A sentence about prompts, models, settings or the file.
pub async fn run(
    job: BestOfNJob,
    config: &GenerationConfig,
    name: &str,
    out: &Path,
) -> anyhow::Result<()> {
    let mut printer = Printer::default();
    stop_on_signal(printer.stop.clone());
    let drawn = tokio::task::spawn_blocking(move || best_of_n::run(&job, &mut printer)).await??;
    write_lines(out, name, config, &drawn)
        .with_context(|| format!("{} cannot be written", out.display()))?;
    println!("wrote {} prompts to {}", drawn.chosen.len(), out.display());
    for point in &drawn.curve {
        println!("{}", describe(point, config));
    }
    Ok(())
}

/// What the best of so many samples is worth, as a line. The bound on KL is one to what is drawn from,
/// which is the model itself only at temperature 1 and without top-p.
fn describe(point: &Point, config: &GenerationConfig) -> String {
    let whom = match config.temperature == 1.0 && config.top_p == 1.0 {
        true => "the model".to_owned(),
        false => format!(
            "the model at temperature {} and top-p {}",
            config.temperature, config.top_p
        ),
    };
    let gold = point.gold.map(|gold| format!(", gold {gold}"));
    format!(
        "best of {}: reward {}{}, KL to {whom} at most {:.4} nats",
        point.n,
        point.reward,
        gold.unwrap_or_default(),
        point.kl_bound
    )
}

fn write_lines(
    path: &Path,
    model: &str,
    config: &GenerationConfig,
    drawn: &Drawn,
) -> anyhow::Result<()> {
    replace(path, |out| {
        for one in &drawn.chosen {
            let line = Line {
                id: &one.id,
                prompt: &one.prompt,
                completions: [LineCompletion {
                    id: format!("{}-1", one.id),
                    text: &one.text,
                    model,
                    sampling: config.describe(one.stream),
                    is_finished: one.is_finished,
                    score: one.score,
                    gold: one.gold,
                }],
            };
            writeln!(out, "{}", serde_json::to_string(&line)?)?;
        }
        Ok(())
    })
}
