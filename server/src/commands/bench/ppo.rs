//! Iterations of PPO, timed within runs as operators start them: sampling, the passes of all four models,
//! and one step of the optimisers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use trainer::config::{EarlyStop, LoraConfig, PpoConfig, Preset, RewardConfig};
use trainer::memory::PeakWatch;
use trainer::ppo::{self, PpoJob};
use trainer::progress::{Event, Progress, Silent};
use trainer::records::Prompt;
use trainer::reward::{self, RewardJob};
use trainer::savepoint::SavePolicy;
use trainer::text::TextCodec;

/// Episodes of an iteration.
const EPISODES: usize = 8;
/// Tokens of a prompt, and of a completion at most.
const TOKENS: usize = 64;

const WORDS: [&str; 16] = [
    "river", "paper", "window", "music", "garden", "winter", "doctor", "bridge", "letter",
    "market", "silver", "planet", "ticket", "engine", "island", "mirror",
];

/// What was measured of a run.
pub(super) struct Iterations {
    /// How long each took, without the first.
    pub(super) took: Vec<Duration>,
    /// Tokens of the completions of one, on average.
    pub(super) n_tokens: usize,
    /// The highest memory of the run, in bytes, where the system tells.
    pub(super) peak: Option<u64>,
}

/// Trains a reward model for a moment, with the same adapter or without, and runs PPO against it for
/// `repeats` iterations after one that is not counted.
///
/// # Errors
/// When the model in `base` cannot be trained.
pub(super) fn measure(
    base: &Path,
    repeats: usize,
    lora: Option<LoraConfig>,
) -> anyhow::Result<Iterations> {
    let place = tempfile::tempdir()?;
    let base = &endless(base, place.path())?;
    let codec = TextCodec::load(base)?;
    let prompts = place.path().join("prompts.jsonl");
    let lines = (0..(repeats + 1) * EPISODES).map(|index| {
        let text = prompt(&codec, index)?;
        Ok(json!({"id": index.to_string(), "prompt": text}).to_string())
    });
    let lines: Vec<String> = lines.collect::<anyhow::Result<_>>()?;
    std::fs::write(&prompts, lines.join("\n") + "\n")?;
    let reward = train_reward_model(base, place.path(), lora.as_ref())?;
    let job = PpoJob {
        config: PpoConfig {
            iterations: repeats + 1,
            batch_episodes: EPISODES,
            minibatches: 1,
            max_new_tokens: TOKENS,
            ptx_coefficient: 0.0,
            evaluation_prompts: 0,
            // A step of this size moves nothing that would end the run.
            policy_optimiser: optimiser(1e-7),
            value_optimiser: optimiser(1e-7),
            token_samples: 0,
            stop: EarlyStop {
                patience: 1_000_000,
                ..PpoConfig::preset(Preset::Tiny).stop
            },
            lora,
            ..PpoConfig::preset(Preset::Tiny)
        },
        prompts,
        texts: None,
        base: base.to_owned(),
        reward,
        gold: None,
        out: place.path().join("ppo"),
        saving: SavePolicy::default(),
    };
    let mut laps = Laps::default();
    let watch = PeakWatch::start();
    ppo::run(&job, &mut laps)?;
    laps.iterations(repeats, watch.bytes())
}

fn optimiser(learning_rate: f64) -> trainer::optim::AdamConfig {
    let mut config = PpoConfig::preset(Preset::Tiny).policy_optimiser;
    config.learning_rate = learning_rate;
    config
}

/// A prompt of [`TOKENS`] tokens, those of the chat template among them, and unlike the others.
fn prompt(codec: &TextCodec, index: usize) -> anyhow::Result<String> {
    let mut words: Vec<String> = vec![format!("{index}")];
    loop {
        let text = words.join(" ");
        let n = codec.encode_prompt(&Prompt::Text(text.clone()))?.len();
        if n >= TOKENS {
            return Ok(text);
        }
        let word = WORDS[(index * 7 + words.len() * 5) % WORDS.len()];
        words.push(word.to_owned());
        ensure!(words.len() <= TOKENS, "no prompt comes to {TOKENS} tokens");
    }
}

/// The model in `base` with another end of text, one that it never writes, so that every completion
/// has as many tokens as it may and each run does the same work. The weights are linked, not copied.
fn endless(base: &Path, place: &Path) -> anyhow::Result<PathBuf> {
    const CONFIG: &str = "tokenizer_config.json";
    let folder = place.join("base");
    std::fs::create_dir(&folder)?;
    let entries = std::fs::read_dir(base).with_context(|| format!("reading {}", base.display()))?;
    for entry in entries {
        let path = entry?.path().canonicalize()?;
        if let Some(name) = path.file_name() {
            std::os::unix::fs::symlink(&path, folder.join(name))?;
        }
    }
    let read = |name: &str| -> anyhow::Result<Value> {
        let path = folder.join(name);
        let text = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(serde_json::from_slice(&text)?)
    };
    let mut config = read(CONFIG)?;
    let used = ["bos_token", "eos_token", "pad_token", "unk_token"].map(|name| {
        let token = &config[name];
        token.get("content").unwrap_or(token).clone()
    });
    let tokenizer = read("tokenizer.json")?;
    let special = tokenizer["added_tokens"].as_array().into_iter().flatten();
    let mut special = special.filter(|token| token["special"] == json!(true));
    // Where there is none, completions end where the model ends them, and the tokens told are fewer.
    if let Some(token) = special.rfind(|token| !used.contains(&token["content"])) {
        config["eos_token"] = token["content"].clone();
        std::fs::remove_file(folder.join(CONFIG))?;
        std::fs::write(folder.join(CONFIG), serde_json::to_vec_pretty(&config)?)?;
    }
    Ok(folder)
}

/// One step over two rankings.
fn train_reward_model(
    base: &Path,
    place: &Path,
    lora: Option<&LoraConfig>,
) -> anyhow::Result<PathBuf> {
    let data = place.join("rankings.jsonl");
    let ranking = |index: usize| {
        let completion = |k: usize| {
            let word = WORDS[(index * 5 + k * 3) % WORDS.len()];
            json!({"id": k.to_string(), "text": word, "rank": k + 1})
        };
        let completions: Vec<_> = (0..4).map(completion).collect();
        json!({"id": index.to_string(), "prompt": WORDS[index], "completions": completions})
            .to_string()
    };
    let lines: Vec<String> = (0..4).map(ranking).collect();
    std::fs::write(&data, lines.join("\n") + "\n")?;
    let job = RewardJob {
        config: RewardConfig {
            epochs: 1,
            lora: lora.cloned(),
            ..RewardConfig::preset(Preset::Tiny)
        },
        data,
        demonstrations: None,
        base: base.to_owned(),
        out: place.join("reward"),
        saving: SavePolicy::default(),
    };
    let outcome = reward::run(&job, &mut Silent).context("training a reward model to be asked")?;
    Ok(outcome.checkpoint)
}

/// Hears when each iteration ended, and how long its completions were.
#[derive(Default)]
struct Laps {
    ended: BTreeMap<u64, Instant>,
    lengths: Vec<f64>,
}

impl Progress for Laps {
    fn record(&mut self, event: Event) {
        let Event::Metrics { step, values } = event else {
            return;
        };
        if values.contains_key("objective/kl") {
            self.ended.insert(step, Instant::now());
            self.lengths.extend(values.get("objective/response_length"));
        }
    }
}

impl Laps {
    fn iterations(&self, repeats: usize, peak: Option<u64>) -> anyhow::Result<Iterations> {
        let ends: Vec<Instant> = self.ended.values().copied().collect();
        let took: Vec<Duration> = ends.windows(2).map(|two| two[1] - two[0]).collect();
        ensure!(
            took.len() == repeats,
            "{} of {repeats} iterations were told of",
            took.len()
        );
        let mean = self.lengths.iter().sum::<f64>() / self.lengths.len().max(1) as f64;
        Ok(Iterations {
            peak,
            took,
            n_tokens: (mean * EPISODES as f64).round() as usize,
        })
    }
}
