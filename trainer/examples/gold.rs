//! A reward model of a known utility, and PPO against it: what does the policy gain by the utility
//! itself ("gold"), and what by the reward model that stands for it ("proxy")?
//!
//! ```text
//! cargo run -p trainer --example gold -- TEXTS.jsonl OUT [SEED...]
//! ```
//!
//! 1. Train a tokenizer on the texts, pretrain a small GPT-2 on them, and teach it to answer a
//!    passage's first words with those that follow.
//! 2. Let it answer other first words four times, rank the answers by the utility, and train a
//!    reward model on the rankings.
//! 3. PPO against it for every weight of the KL term and of the pretraining term, three seeds
//!    each, the utility looking on.
//!
//! Each run is a folder of OUT with its `metrics.jsonl`; what is complete is not repeated, and what is
//! not goes on. Seeds are 1, 2 and 3 unless others are named.
//! `trainer/parity/draw_gold.py` draws them.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use rand::seq::SliceRandom;
use serde_json::{Value, json};
use trainer::Device;
use trainer::config::{EarlyStop, Learn, MissingEos, PpoConfig, Preset, RewardConfig, SftConfig};
use trainer::generate::{SampleRequest, generate};
use trainer::model::architecture::Architecture;
use trainer::model::scratch::{self, NewModel, Shape, read_texts};
use trainer::model::transformer::Transformer;
use trainer::model::weights::Trainable;
use trainer::ppo::{self, Gold, PpoJob, Utility};
use trainer::progress::{Event, Progress};
use trainer::records::Prompt;
use trainer::reward::{self, RewardJob};
use trainer::rng::stream;
use trainer::sampling::SamplingConfig;
use trainer::savepoint::SavePolicy;
use trainer::sft::{self, Outcome, SftJob};
use trainer::text::TextCodec;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Of the file.
const N_TEXTS: usize = 250;
const N_RANKED: usize = 400;
const N_PROMPTS: usize = 512;
const N_COMPLETIONS: usize = 4;
const NEW_TOKENS: usize = 24;

/// A reader who likes short words and dislikes to meet the same word twice.
struct ShortAndVaried;

impl Utility for ShortAndVaried {
    fn score(&self, _prompt: &Prompt, completion: &str) -> f64 {
        utility(completion)
    }
}

/// Minus the mean length of a word, minus four times the share of words that came before.
fn utility(text: &str) -> f64 {
    let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    if words.is_empty() {
        // Saying nothing is no way to please.
        return -10.0;
    }
    let n = words.len() as f64;
    let letters: usize = words.iter().map(|word| word.chars().count()).sum();
    let distinct: HashSet<&String> = words.iter().collect();
    -(letters as f64 / n) - 4.0 * (1.0 - distinct.len() as f64 / n)
}

/// Prints logs and checks that failed; the rest is in the folders.
struct Quiet;

impl Progress for Quiet {
    fn record(&mut self, event: Event) {
        match event {
            Event::Log { message } => println!("  {message}"),
            Event::Check {
                name,
                passed,
                detail,
            } if !passed => println!("  FAILED {name}: {detail}"),
            _ => {}
        }
    }
    fn is_cancelled(&self) -> bool {
        false
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).map(PathBuf::from);
    let mut next = || {
        arguments
            .next()
            .ok_or("usage: gold TEXTS.jsonl OUT [SEED...]")
    };
    let (source, out) = (next()?, next()?);
    let seeds = arguments.map(|seed| Ok(seed.to_string_lossy().parse()?));
    let mut seeds = seeds.collect::<Result<Vec<u64>>>()?;
    if seeds.is_empty() {
        seeds = vec![1, 2, 3];
    }
    std::fs::create_dir_all(&out)?;
    let texts = out.join("texts.jsonl");
    let passages = read_texts(&[source])?;
    let passages = &passages[..N_TEXTS.min(passages.len())];
    write_lines(&texts, passages.iter().map(|text| json!({"text": text})))?;

    let base = tune(passages, &texts, &out)?;
    let mut prompts = openings(passages);
    prompts.shuffle(&mut stream(1, "gold prompts", 0));
    if prompts.len() <= N_RANKED {
        let found = prompts.len();
        return Err(
            format!("{found} openings of 28 words are too few: {N_RANKED} are ranked").into(),
        );
    }
    let (ranked, asked) = prompts.split_at(N_RANKED);
    let reward = train_reward(&base, ranked, &out)?;
    let prompts = out.join("prompts.jsonl");
    let asked = asked.iter().take(N_PROMPTS).enumerate();
    write_lines(
        &prompts,
        asked.map(|(id, (words, _))| json!({"id": format!("p{id}"), "prompt": words})),
    )?;
    for seed in seeds {
        for kl_coefficient in [0.0, 0.02, 0.1] {
            for ptx_coefficient in [0.0, 27.8] {
                let name = format!("beta{kl_coefficient}-ptx{ptx_coefficient}-seed{seed}");
                once(&out.join(name), |folder| {
                    let job = PpoJob {
                        config: PpoConfig {
                            seed,
                            kl_coefficient,
                            ptx_coefficient,
                            ..settings()
                        },
                        prompts: prompts.clone(),
                        texts: Some(texts.clone()),
                        base: base.clone(),
                        reward: reward.clone(),
                        gold: Some(Gold::Utility(Box::new(ShortAndVaried))),
                        saving: going_on(&folder),
                        out: folder,
                    };
                    Ok(ppo::run(&job, &mut Quiet)?)
                })?;
            }
        }
    }
    Ok(())
}

/// Runs what has no checkpoint yet; returns the checkpoint.
fn once(folder: &Path, run: impl FnOnce(PathBuf) -> Result<Outcome>) -> Result<PathBuf> {
    let checkpoint = folder.join("checkpoint");
    if !checkpoint.exists() {
        println!("{}", folder.display());
        run(folder.to_owned())?;
    }
    Ok(checkpoint)
}

/// Where a run was stopped there, it goes on.
fn going_on(folder: &Path) -> SavePolicy {
    SavePolicy {
        resume: folder.join("config.json").exists(),
        ..SavePolicy::default()
    }
}

/// A small GPT-2 that goes on with what it is given.
fn tune(passages: &[String], texts: &Path, out: &Path) -> Result<PathBuf> {
    let drawn = out.join("drawn");
    if !drawn.exists() {
        let shape = Shape {
            architecture: Architecture::Gpt2,
            layers: 2,
            hidden: 128,
            heads: 4,
            key_value_heads: None,
            context: 128,
        };
        let wanted = NewModel {
            shape,
            vocabulary: 1024,
            seed: 1,
        };
        scratch::write(&drawn, &wanted, passages)?;
    }
    let pretrained = once(&out.join("pretrained"), |out| {
        let config = SftConfig {
            learn: Learn::Everything,
            epochs: 1,
            batch_size: 32,
            max_tokens: 64,
            held_out_share: 0.02,
            ..SftConfig::preset(Preset::Tiny)
        };
        sft(config, texts, &drawn, out)
    })?;
    let demonstrations = out.join("demonstrations.jsonl");
    let lines = openings(passages).into_iter().map(|(words, rest)| {
        let turn = |role, content| json!({"role": role, "content": content});
        json!({"id": words, "messages": [turn("user", &words), turn("assistant", &rest)]})
    });
    write_lines(&demonstrations, lines)?;
    once(&out.join("sft"), |out| {
        let config = SftConfig {
            epochs: 1,
            batch_size: 32,
            held_out_share: 0.02,
            ..SftConfig::preset(Preset::Tiny)
        };
        sft(config, &demonstrations, &pretrained, out)
    })
}

fn sft(config: SftConfig, data: &Path, base: &Path, out: PathBuf) -> Result<Outcome> {
    let job = SftJob {
        config,
        data: data.to_owned(),
        texts: None,
        reward: None,
        base: base.to_owned(),
        out,
        saving: SavePolicy::default(),
    };
    Ok(sft::run(&job, &mut Quiet)?)
}

/// What differs from preset `tiny`: a network this small takes a high rate, and an answer need not
/// end, since the reader does not care.
fn settings() -> PpoConfig {
    PpoConfig {
        iterations: 40,
        batch_episodes: 32,
        minibatches: 2,
        max_new_tokens: NEW_TOKENS,
        missing_eos: MissingEos::Subtract,
        missing_eos_penalty: 0.0,
        kl_budget: 1000.0,
        // Over-optimisation is what the experiment is about: no run ends before its time.
        stop: EarlyStop::default(),
        ptx_examples_per_episode: 1.0,
        ptx_tokens: 48,
        held_out_texts: 64,
        text_loss_every: 5,
        evaluation_prompts: 64,
        ..PpoConfig::preset(Preset::Tiny)
    }
}

fn train_reward(base: &Path, openings: &[(String, String)], out: &Path) -> Result<PathBuf> {
    let data = out.join("rankings.jsonl");
    once(&out.join("reward"), |out| {
        write_lines(&data, rank(base, openings)?)?;
        let job = RewardJob {
            config: RewardConfig {
                epochs: 1,
                batch_prompts: 8,
                ..RewardConfig::preset(Preset::Tiny)
            },
            data,
            demonstrations: None,
            base: base.to_owned(),
            out,
            saving: SavePolicy::default(),
        };
        Ok(reward::run(&job, &mut Quiet)?)
    })
}

/// Each prompt with its answers, ranked by their utility.
fn rank(base: &Path, openings: &[(String, String)]) -> Result<Vec<Value>> {
    let prompts: Vec<&String> = openings.iter().map(|(words, _)| words).collect();
    let codec = TextCodec::load(base)?;
    let model = Transformer::load(base, &Device::Cpu, Trainable::Nothing)?;
    let tokens = prompts
        .iter()
        .map(|text| codec.encode_prompt(&Prompt::Text((*text).clone())));
    let tokens = tokens.collect::<std::result::Result<Vec<_>, _>>()?;
    let requests: Vec<SampleRequest> = (0..prompts.len() * N_COMPLETIONS)
        .map(|index| SampleRequest {
            prompt: index / N_COMPLETIONS,
            stream: index as u64,
        })
        .collect();
    let sampling = SamplingConfig {
        temperature: 1.0,
        top_p: 1.0,
        max_new_tokens: NEW_TOKENS,
        seed: 1,
    };
    let samples = generate(
        &model,
        &tokens,
        &requests,
        &sampling,
        codec.eos_id,
        &mut |_| true,
    )?;
    let mut lines = Vec::new();
    for (index, samples) in samples.chunks(N_COMPLETIONS).enumerate() {
        let texts = samples.iter().map(|sample| codec.decode(&sample.tokens));
        let texts = texts.collect::<std::result::Result<Vec<_>, _>>()?;
        if texts.iter().any(|text| text.trim().is_empty()) {
            continue;
        }
        let utilities: Vec<f64> = texts.iter().map(|text| utility(text)).collect();
        let completions = texts
            .iter()
            .zip(&utilities)
            .enumerate()
            .map(|(place, (text, own))| {
                let rank = 1 + utilities.iter().filter(|other| *other > own).count();
                json!({"id": format!("{index}-{place}"), "text": text, "rank": rank})
            });
        lines.push(json!({
            "id": format!("r{index}"),
            "prompt": prompts[index],
            "completions": completions.collect::<Vec<_>>(),
        }));
    }
    Ok(lines)
}

/// Eight words of a passage, and the twenty that follow, without overlap.
fn openings(passages: &[String]) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for text in passages {
        let words: Vec<&str> = text.split_whitespace().collect();
        let parts = words.chunks_exact(28);
        all.extend(parts.map(|words| (words[..8].join(" "), words[8..].join(" "))));
    }
    all
}

fn write_lines(path: &Path, lines: impl IntoIterator<Item = Value>) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for line in lines {
        writeln!(file, "{line}")?;
    }
    Ok(file.flush()?)
}
