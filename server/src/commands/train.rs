//! `plackett train`: a training run from files, without any database.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Map, Value};
use trainer::TrainerError;
use trainer::checkpoint::sha256_of_weights;
use trainer::config::Preset;
use trainer::config::sources::{Setting, settings};
use trainer::progress::{Event, Progress};
use trainer::savepoint::{KEPT, SavePolicy};

use crate::commands::serve::stop_signal;
use crate::config::DataConfig;
use crate::domain::run::{RunKind, resolve_config};
use crate::worker::report::StopFlag;
use crate::worker::train::{TrainingJob, estimate, train};

/// Settings of `plackett train`.
#[derive(Debug, Clone, clap::Args)]
pub struct TrainCommand {
    /// sft, reward, ppo or dpo.
    pub kind: RunKind,

    /// Demonstrations (sft), rankings (reward, dpo) or prompts (ppo), JSONL; texts for sft with
    /// `--set learn=everything`.
    #[arg(long, value_name = "FILE", required_unless_present = "list_settings")]
    pub data: Option<PathBuf>,

    /// The model to start from: a folder, or the name of a model that was pulled or imported.
    #[arg(long, value_name = "DIR", required_unless_present = "list_settings")]
    pub base: Option<PathBuf>,

    /// The reward model of PPO; for sft, one that scores sampled answers after each epoch.
    #[arg(long, value_name = "DIR")]
    pub reward: Option<PathBuf>,

    /// A second reward model beside that of PPO, which training never sees: its scores show
    /// over-optimisation.
    #[arg(long, value_name = "DIR")]
    pub gold: Option<PathBuf>,

    /// Pretraining texts, JSONL: for sft mixed in with the demonstrations; for ppo the pretraining
    /// term, some being kept out of it to measure what the policy forgets.
    #[arg(long, value_name = "FILE")]
    pub texts: Option<PathBuf>,

    /// Demonstrations whose mean score a reward model takes as zero, JSONL.
    #[arg(long, value_name = "FILE")]
    pub demonstrations: Option<PathBuf>,

    /// Folder for settings, metrics, samples and the checkpoint.
    #[arg(long, value_name = "DIR", required_unless_present_any = ["estimate", "list_settings"])]
    pub out: Option<PathBuf>,

    /// Go on where the run in that folder stopped, as if it had not.
    #[arg(long)]
    pub resume: bool,

    /// Keep a savepoint at the first end of a step after so many minutes; 0 after every step. One
    /// is kept at a stop by Ctrl-C too.
    #[arg(long, value_name = "MINUTES", default_value_t = 10.0)]
    pub save_every: f64,

    /// How many savepoints stay; the oldest goes once the newest is whole.
    #[arg(long, value_name = "N", default_value_t = KEPT)]
    pub keep: usize,

    /// With --resume: go on after this step, whose savepoint was kept, and do the later ones again.
    #[arg(long, value_name = "STEP", requires = "resume")]
    pub from: Option<usize>,

    /// Say how much memory the run would need, and train nothing.
    #[arg(long)]
    pub estimate: bool,

    /// tiny, demo, instructgpt, summarize or lm-human-preferences; --settings says where each has its
    /// values from.
    #[arg(long, default_value = "demo")]
    pub preset: Preset,

    /// Print every setting with its value and where that comes from, and train nothing: `plackett train
    /// --settings ppo --preset instructgpt`.
    #[arg(long = "settings")]
    pub list_settings: bool,

    /// A setting that differs from the preset's, for example policy_optimiser.learning_rate=1e-5.
    /// lora.rank=8 trains low-rank adapters (LoRA) in place of whole layers, off in every preset;
    /// members=3 gives a reward model three heads, and ensemble.kind=worst has PPO take the lowest of
    /// their scores.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
}

/// Trains and prints what happens, one line for each event.
///
/// # Errors
/// A sentence about data, model or settings.
pub async fn run(data: &DataConfig, command: TrainCommand) -> anyhow::Result<()> {
    if command.kind == RunKind::Generation {
        bail!("generation trains nothing: use `plackett generate`");
    }
    if command.list_settings {
        return print_settings(&command);
    }
    if command.kind == RunKind::Ppo && command.reward.is_none() {
        bail!("ppo needs a reward model: name it by --reward");
    }
    let on_rankings = matches!(command.kind, RunKind::Reward | RunKind::Dpo);
    if on_rankings && command.reward.is_some() {
        let kind = command.kind;
        bail!("--reward belongs to ppo and sft; {kind} starts from --base");
    }
    if on_rankings && command.texts.is_some() {
        bail!("--texts belongs to ppo and sft");
    }
    if command.kind != RunKind::Ppo && command.gold.is_some() {
        bail!("--gold belongs to ppo");
    }
    if let (Some(reward), Some(gold)) = (&command.reward, &command.gold) {
        let (reward, gold) = (
            data.find_model(reward.clone()),
            data.find_model(gold.clone()),
        );
        if sha256_of_weights(&reward)? == sha256_of_weights(&gold)? {
            bail!("--gold is the model of --reward: a second opinion is another model's");
        }
    }
    if command.kind != RunKind::Reward && command.demonstrations.is_some() {
        bail!("--demonstrations belongs to reward; for sft they are --data");
    }
    let every = Duration::try_from_secs_f64(command.save_every * 60.0);
    let saving = SavePolicy {
        every: Some(every.context("--save-every: give minutes, 0 or more")?),
        keep: command.keep,
        resume: command.resume,
        from: command.from,
    };
    if command.keep == 0 {
        bail!("--keep: at least one savepoint must stay");
    }
    let changes = parse_settings(&command.settings)?;
    let config = resolve_config(command.kind, command.preset, &changes);
    let job = TrainingJob {
        kind: command.kind,
        config: config.map_err(anyhow::Error::msg)?,
        data: command.data.context("--data: name the data")?,
        texts: command.texts,
        demonstrations: command.demonstrations,
        base: data.find_model(command.base.context("--base: name a model")?),
        reward: command.reward.map(|reward| data.find_model(reward)),
        gold: command.gold.map(|gold| data.find_model(gold)),
        // Only an estimate, which writes nothing, comes without a folder.
        out: command.out.unwrap_or_default(),
        preset: Some(command.preset),
        saving,
    };
    if command.estimate {
        let plan = tokio::task::spawn_blocking(move || estimate(&job)).await??;
        for part in &plan.estimate.parts {
            println!("{} {}", part.bytes, part.name);
        }
        println!("{} total", plan.estimate.total());
        println!("{plan}");
        return Ok(());
    }
    let mut printer = Printer::default();
    stop_on_signal(printer.stop.clone());
    let out = job.out.clone();
    let made = tokio::task::spawn_blocking(move || train(&job, &mut printer)).await?;
    if let Err(TrainerError::Cancelled) = &made {
        let out = out.display();
        bail!("stopped; the same command with --resume goes on from what is kept in {out}");
    }
    let outcome = made?;
    println!("checkpoint {}", outcome.checkpoint.display());
    for (name, value) in &outcome.summary {
        println!("{name} {value}");
    }
    Ok(())
}

/// Every setting with its value and where that comes from, one a line.
fn print_settings(command: &TrainCommand) -> anyhow::Result<()> {
    let kind = command.kind.trains();
    let kind = kind.context("generation trains nothing, and has no presets")?;
    let changes = parse_settings(&command.settings)?;
    let config = resolve_config(command.kind, command.preset, &changes);
    let config = config.map_err(anyhow::Error::msg)?;
    let line = |one: Setting| {
        let allowed =
            allowed_values(command, &one).map_or(String::new(), |words| format!("  [{words}]"));
        let (setting, value) = (&one.setting, &one.value);
        format!("{setting} = {value}{allowed}  ({})\n", one.source)
    };
    let found = settings(kind, command.preset, &config).into_iter();
    let text: String = found.map(line).collect();
    // At once, for a reader that stops early.
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

/// The values that a setting of words may have; none for a setting of numbers or texts. The settings know
/// them: asked for a word that is none of them, they name those that are.
fn allowed_values(command: &TrainCommand, one: &Setting) -> Option<String> {
    const NO_WORD: &str = "?";
    let asked = match &one.value {
        Value::Bool(_) => return Some("true, false".to_owned()),
        Value::Number(_) | Value::Array(_) => return None,
        Value::Object(_) => format!("{}.kind", one.setting),
        Value::String(_) | Value::Null => one.setting.clone(),
    };
    let mut changes = Map::new();
    insert(&mut changes, &asked, Value::from(NO_WORD))?;
    let refusal = resolve_config(command.kind, command.preset, &Value::Object(changes)).err()?;
    let (_, named) = refusal.split_once("unknown variant `?`, expected ")?;
    let words: Vec<&str> = named.split('`').skip(1).step_by(2).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

/// Raises the flag at Ctrl-C or SIGTERM, so that the work ends at its next step.
pub fn stop_on_signal(stop: StopFlag) {
    tokio::spawn(async move {
        stop_signal().await;
        stop.raise();
    });
}

/// `a.b=1` becomes `{"a": {"b": 1}}`; what is not JSON is a text.
fn parse_settings(settings: &[String]) -> anyhow::Result<Value> {
    let mut all = Map::new();
    for setting in settings {
        let (key, value) = setting
            .split_once('=')
            .with_context(|| format!("--set {setting}: write it as key=value"))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        insert(&mut all, key, value)
            .with_context(|| format!("--set {setting}: contradicts another --set"))?;
    }
    Ok(Value::Object(all))
}

fn insert(into: &mut Map<String, Value>, key: &str, value: Value) -> Option<()> {
    match key.split_once('.') {
        Some((first, rest)) => {
            let inner = into
                .entry(first)
                .or_insert_with(|| Value::Object(Map::new()));
            insert(inner.as_object_mut()?, rest, value)
        }
        None => {
            into.insert(key.to_owned(), value);
            Some(())
        }
    }
}

/// Prints events as lines.
#[derive(Debug, Default)]
pub struct Printer {
    /// Raised to end the work.
    pub stop: StopFlag,
    /// Print to standard error, where standard output is the result.
    pub to_stderr: bool,
    phase: String,
}

impl Progress for Printer {
    fn record(&mut self, event: Event) {
        let line = match event {
            Event::Phase { name, step, total } => {
                // Steps show in the metrics; a new phase is a line, each of its moves is not.
                if self.phase == name {
                    return;
                }
                self.phase.clone_from(&name);
                format!("phase {name} {step}/{total}")
            }
            Event::Metrics { step, values } => {
                let values: Vec<String> = values
                    .iter()
                    .map(|(name, value)| format!("{name}={value:.5}"))
                    .collect();
                format!("step {step} {}", values.join(" "))
            }
            Event::Log { message } => format!("log {message}"),
            Event::Check {
                name,
                passed,
                detail,
            } => {
                let word = if passed { "passed" } else { "FAILED" };
                format!("check {word} {name}: {detail}")
            }
            Event::Sample { step, data } => format!("sample {step} {data}"),
            Event::Report { data } => format!("report {data}"),
            Event::Checkpoint { path } => format!("checkpoint {}", path.display()),
        };
        if self.to_stderr {
            eprintln!("{line}");
        } else {
            println!("{line}");
        }
    }

    fn is_cancelled(&self) -> bool {
        self.stop.is_raised()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_of_words_name_the_words_that_they_take() {
        let command = |kind: &str| {
            let words = ["train", kind, "--settings", "--preset", "tiny"];
            <Whole as clap::Parser>::try_parse_from(words)
                .unwrap()
                .command
        };
        let allowed = |command: &TrainCommand, setting: &str| {
            let kind = command.kind.trains().unwrap();
            let config = resolve_config(command.kind, command.preset, &json!({})).unwrap();
            let mut found = settings(kind, command.preset, &config).into_iter();
            let found = found.find(|one| one.setting == setting);
            allowed_values(
                command,
                &found.unwrap_or_else(|| panic!("no setting {setting}")),
            )
        };
        let sft = command("sft");
        let learn = allowed(&sft, "learn").unwrap();
        assert_eq!(learn, "answers, everything");
        assert!(allowed(&sft, "keep").unwrap().contains("best_reward"));
        assert_eq!(allowed(&sft, "seed"), None);
        assert_eq!(
            allowed(&sft, "recompute_activations").as_deref(),
            Some("true, false")
        );
        // Each word is one that the setting takes, or contradicts another for a reason of its own.
        for word in learn.split(", ") {
            let taken = resolve_config(sft.kind, sft.preset, &json!({"learn": word}));
            let refusal = taken.err().unwrap_or_default();
            assert!(!refusal.contains("unknown variant"), "{refusal}");
        }
    }

    #[derive(clap::Parser)]
    struct Whole {
        #[command(flatten)]
        command: TrainCommand,
    }

    #[test]
    fn settings_nest_by_dots_and_contradictions_are_named() {
        let parse = |settings: &[&str]| {
            parse_settings(
                &settings
                    .iter()
                    .map(|text| (*text).to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(
            parse(&[
                "seed=3",
                "optimiser.learning_rate=1e-4",
                "optimiser.beta1=0.8"
            ])
            .unwrap(),
            json!({"seed": 3, "optimiser": {"learning_rate": 1e-4, "beta1": 0.8}})
        );
        assert!(
            parse(&["seed"])
                .unwrap_err()
                .to_string()
                .contains("key=value")
        );
        let error = parse(&["seed=1", "seed.x=2"]).unwrap_err();
        assert!(error.to_string().contains("contradicts"));
    }
}
