//! `plackett generate`: candidates for the prompts of a file, or the best of many completions,
//! without any database.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Serialize;
use serde_json::Value;
use trainer::best_of_n::BestOfNJob;
use trainer::records::Prompt;

use crate::commands::best_of_n;
use crate::commands::out_file::replace;
use crate::commands::train::{Printer, stop_on_signal};
use crate::config::DataConfig;
use crate::domain::run::GenerationConfig;
use crate::worker::generation::{Answered, GenerationJob, draw_candidates};

/// Settings of `plackett generate`.
#[derive(Debug, Clone, clap::Args)]
pub struct GenerateCommand {
    /// The model's folder.
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,

    /// Prompts, JSONL.
    #[arg(long, value_name = "FILE")]
    pub prompts: PathBuf,

    /// Where to write prompts with completions, JSONL.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,

    /// The name that the completions carry. Default: the model folder's.
    #[arg(long)]
    pub name: Option<String>,

    /// Different completions for each prompt, 4 to 9.
    #[arg(long, default_value_t = GenerationConfig::default().candidates)]
    pub candidates: usize,

    /// Instead of candidates, draw so many completions of each prompt and write the one that the
    /// reward model scores highest.
    #[arg(
        long,
        value_name = "N",
        requires = "reward",
        conflicts_with = "candidates"
    )]
    pub best_of: Option<usize>,

    /// The reward model that chooses the best.
    #[arg(long, value_name = "DIR", requires = "best_of")]
    pub reward: Option<PathBuf>,

    /// Another reward model that scores what the first one chose, to see whether it agrees.
    #[arg(long, value_name = "DIR", requires = "best_of")]
    pub gold: Option<PathBuf>,

    /// Divides the logits; 1 samples the model's own distribution.
    #[arg(long, default_value_t = GenerationConfig::default().temperature)]
    pub temperature: f64,

    /// Sample from the likeliest tokens that together reach this probability; 1 is off.
    #[arg(long, default_value_t = GenerationConfig::default().top_p)]
    pub top_p: f64,

    /// Longest completion, in tokens.
    #[arg(long, default_value_t = GenerationConfig::default().max_new_tokens)]
    pub max_new_tokens: usize,

    /// Seed of all draws.
    #[arg(long, default_value_t = GenerationConfig::default().seed)]
    pub seed: u64,
}

/// A line of the file: a prompt with its completions.
#[derive(Debug, Serialize)]
struct Line<'a> {
    id: &'a str,
    prompt: &'a Prompt,
    completions: Vec<LineCompletion<'a>>,
}

#[derive(Debug, Serialize)]
struct LineCompletion<'a> {
    id: String,
    text: &'a str,
    model: &'a str,
    sampling: Value,
    is_finished: bool,
}

/// Draws and writes.
///
/// # Errors
/// A sentence about prompts, model, settings or the file.
pub async fn run(data: &DataConfig, command: GenerateCommand) -> anyhow::Result<()> {
    check_place(&command.out)?;
    let is_own_input = std::fs::canonicalize(&command.out).is_ok_and(|out| {
        std::fs::canonicalize(&command.prompts).is_ok_and(|prompts| prompts == out)
    });
    if is_own_input {
        bail!(
            "--out: {} is the file of --prompts; name another",
            command.out.display()
        );
    }
    let model = data.find_model(command.model);
    let config = GenerationConfig {
        candidates: command.candidates,
        temperature: command.temperature,
        top_p: command.top_p,
        max_new_tokens: command.max_new_tokens,
        seed: command.seed,
        ..GenerationConfig::default()
    };
    let folder = std::path::absolute(&model)?;
    let folder_name = folder
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let name = command.name.or(folder_name).unwrap_or_default();
    if let (Some(n), Some(reward)) = (command.best_of, command.reward) {
        let job = BestOfNJob {
            n,
            sampling: config.sampling(),
            model,
            reward: data.find_model(reward),
            gold: command.gold.map(|gold| data.find_model(gold)),
            prompts: command.prompts,
        };
        return best_of_n::run(job, &config, &name, &command.out).await;
    }
    let job = GenerationJob {
        config: config.clone(),
        model,
        prompts: command.prompts,
    };
    let mut printer = Printer::default();
    stop_on_signal(printer.stop.clone());
    let answered =
        tokio::task::spawn_blocking(move || draw_candidates(&job, &mut printer)).await??;
    write_lines(&command.out, &name, &config, &answered)
        .with_context(|| format!("{} cannot be written", command.out.display()))?;
    println!(
        "wrote {} prompts to {}",
        answered.len(),
        command.out.display()
    );
    Ok(())
}

/// Says what would be wrong with the file before hours are spent on what goes into it.
fn check_place(out: &Path) -> anyhow::Result<()> {
    if out.is_dir() {
        bail!("--out: {} is a folder; name a file", out.display());
    }
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    match folder {
        Some(folder) if !folder.is_dir() => bail!("--out: there is no folder {}", folder.display()),
        _ => Ok(()),
    }
}

fn write_lines(
    path: &Path,
    model: &str,
    config: &GenerationConfig,
    answered: &[Answered],
) -> anyhow::Result<()> {
    replace(path, |out| {
        for prompt in answered {
            let completions = prompt.completions.iter().enumerate();
            let line = Line {
                id: &prompt.id,
                prompt: &prompt.prompt,
                completions: completions
                    .map(|(place, drawn)| LineCompletion {
                        id: format!("{}-{}", prompt.id, place + 1),
                        text: &drawn.text,
                        model,
                        sampling: config.describe(drawn.stream),
                        is_finished: drawn.is_finished,
                    })
                    .collect(),
            };
            writeln!(out, "{}", serde_json::to_string(&line)?)?;
        }
        Ok(())
    })
}
