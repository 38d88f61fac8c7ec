//! A folder with the tiny model and data for every kind of run.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::{Path, PathBuf};

use rand::Rng;
use serde_json::{Value, json};
use tempfile::TempDir;
use trainer::config::{DpoConfig, PpoConfig, Preset, RewardConfig, SftConfig};
use trainer::dpo::DpoJob;
use trainer::ppo::PpoJob;
use trainer::reward::{self, RewardJob};
use trainer::rng::stream;
use trainer::savepoint::SavePolicy;
use trainer::sft::SftJob;

use crate::tiny::{Kept, WORDS, write_lines, write_model};

/// A folder with the tiny model and data for every kind of run.
pub(crate) struct Place {
    folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_model(&folder.path().join("base"));
        let place = Self { folder };
        write_lines(&place.path("rankings.jsonl"), rankings(60));
        write_lines(&place.path("demonstrations.jsonl"), demonstrations(40));
        write_lines(&place.path("noise.jsonl"), noise(24));
        write_lines(&place.path("prompts.jsonl"), prompts(12));
        write_lines(&place.path("texts.jsonl"), texts(20));
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn sft(&self, out: &str) -> SftJob {
        SftJob {
            config: SftConfig::preset(Preset::Tiny),
            data: self.path("demonstrations.jsonl"),
            texts: None,
            base: self.path("base"),
            reward: None,
            out: self.path(out),
            saving: SavePolicy::default(),
        }
    }

    pub(crate) fn reward(&self, out: &str) -> RewardJob {
        RewardJob {
            config: RewardConfig::preset(Preset::Tiny),
            data: self.path("rankings.jsonl"),
            demonstrations: None,
            base: self.path("base"),
            out: self.path(out),
            saving: SavePolicy::default(),
        }
    }

    pub(crate) fn dpo(&self, out: &str) -> DpoJob {
        DpoJob {
            config: DpoConfig::preset(Preset::Tiny),
            data: self.path("rankings.jsonl"),
            base: self.path("base"),
            out: self.path(out),
            saving: SavePolicy::default(),
        }
    }

    pub(crate) fn ppo(&self, reward: &Path, out: &str) -> PpoJob {
        PpoJob {
            config: PpoConfig::preset(Preset::Tiny),
            prompts: self.path("prompts.jsonl"),
            texts: Some(self.path("texts.jsonl")),
            base: self.path("base"),
            reward: reward.to_owned(),
            gold: None,
            out: self.path(out),
            saving: SavePolicy::default(),
        }
    }

    pub(crate) fn trained_reward(&self, out: &str) -> PathBuf {
        let mut progress = Kept::default();
        reward::run(&self.reward(out), &mut progress)
            .unwrap()
            .checkpoint
    }
}

pub(crate) fn words(rng: &mut impl Rng, n: usize) -> Vec<&'static str> {
    (0..n)
        .map(|_| WORDS[rng.random_range(0..WORDS.len())])
        .collect()
}

/// Completions of six words; the more often they say "good", the better they rank, ties included.
pub(crate) fn rankings(n: usize) -> Vec<Value> {
    let mut rng = stream(3, "rankings", 0);
    let ranking = |index: usize| {
        let texts: Vec<Vec<&str>> = (0..4)
            .map(|_| {
                let mut text = words(&mut rng, 6);
                let n_good = rng.random_range(0..4);
                text.iter_mut().take(n_good).for_each(|word| *word = "good");
                text
            })
            .collect();
        let goods: Vec<usize> = texts
            .iter()
            .map(|text| text.iter().filter(|word| **word == "good").count())
            .collect();
        let completions: Vec<Value> = texts
            .iter()
            .zip(&goods)
            .enumerate()
            .map(|(place, (text, own))| {
                let rank = 1 + goods.iter().filter(|other| *other > own).count();
                json!({"id": place.to_string(), "text": text.join(" "), "rank": rank})
            })
            .collect();
        let prompt = words(&mut rng, 3).join(" ");
        json!({"id": format!("p{index}"), "prompt": prompt, "completions": completions})
    };
    (0..n).map(ranking).collect()
}

/// Answers that repeat the last word of the question. The first 48 questions differ, and each word
/// is asked for in several ways, so what is held out by prompt can be learnt from the others.
pub(crate) fn demonstrations(n: usize) -> Vec<Value> {
    const OPENINGS: [&str; 3] = ["please say", "now say", "please name"];
    let demonstration = |index: usize| {
        let word = WORDS[index % WORDS.len()];
        let opening = OPENINGS[index / WORDS.len() % OPENINGS.len()];
        json!({"id": format!("d{index}"), "messages": [
            {"role": "user", "content": format!("{opening} {word}")},
            {"role": "assistant", "content": format!("{word} {word}")},
        ]})
    };
    (0..n).map(demonstration).collect()
}

/// Demonstrations whose answers nothing tells beforehand.
fn noise(n: usize) -> Vec<Value> {
    let mut rng = stream(8, "noise", 0);
    let demonstration = |index: usize| {
        json!({"id": format!("d{index}"), "messages": [
            {"role": "user", "content": words(&mut rng, 3).join(" ")},
            {"role": "assistant", "content": words(&mut rng, 4).join(" ")},
        ]})
    };
    (0..n).map(demonstration).collect()
}

pub(crate) fn prompts(n: usize) -> Vec<Value> {
    let mut rng = stream(5, "prompts", 0);
    (0..n)
        .map(|index| json!({"id": format!("q{index}"), "prompt": words(&mut rng, 3).join(" ")}))
        .collect()
}

pub(crate) fn texts(n: usize) -> Vec<Value> {
    let mut rng = stream(6, "texts", 0);
    (0..n)
        .map(|index| json!({"id": format!("t{index}"), "text": words(&mut rng, 12).join(" ")}))
        .collect()
}

pub(crate) fn weights(checkpoint: &Path) -> Vec<u8> {
    std::fs::read(checkpoint.join("model.safetensors")).unwrap()
}
