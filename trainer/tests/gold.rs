//! What PPO is told beside the reward that it trains against: a second opinion, and the loss on
//! texts kept out of training. Neither may change what is trained.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[expect(dead_code, reason = "other tests use the rest")]
mod place;
#[expect(dead_code, reason = "other tests use the rest")]
mod tiny;

use candle_core::Device;
use place::{Place, weights};
use serde_json::Value;
use tiny::Kept;
use trainer::config::KeepPolicy;
use trainer::model::heads::RewardModel;
use trainer::model::weights::Trainable;
use trainer::ppo::{self, Gold};
use trainer::progress::Event;
use trainer::records::Prompt;
use trainer::sft::Outcome;
use trainer::text::TextCodec;

fn goods(_: &Prompt, completion: &str) -> f64 {
    let words = completion.split_whitespace();
    words.filter(|word| *word == "good").count() as f64
}

fn samples(progress: &Kept) -> Vec<&Value> {
    let events = progress.events.iter();
    let found = events.filter_map(|event| match event {
        Event::Sample { data, .. } if data.get("moment").is_some() => Some(data),
        _ => None,
    });
    found.collect()
}

#[test]
fn a_known_utility_is_told_for_every_batch_and_changes_nothing() {
    let place = Place::new();
    let reward = place.trained_reward("reward");
    let without = ppo::run(&place.ppo(&reward, "without"), &mut Kept::default()).unwrap();
    assert!(!without.summary.contains_key("gold_before"));

    let mut job = place.ppo(&reward, "with");
    job.gold = Some(Gold::Utility(Box::new(goods)));
    let mut progress = Kept::default();
    let with = ppo::run(&job, &mut progress).unwrap();
    assert_eq!(weights(&with.checkpoint), weights(&without.checkpoint));
    let told = progress.metric("objective/gold");
    assert_eq!(told.len(), job.config.iterations);
    // A mean of counts over a batch.
    let n = job.config.batch_episodes as f64;
    assert!(
        told.iter().all(|mean| (mean * n).fract() == 0.0),
        "{told:?}"
    );
    assert!(told.iter().any(|mean| *mean > 0.0));

    let samples = samples(&progress);
    let own = |data: &Value| {
        goods(
            &Prompt::Text(String::new()),
            data["completion"].as_str().unwrap(),
        )
    };
    assert!(samples.iter().all(|data| data["gold"] == own(data)));
    let mean_of = |moment: &str| {
        let of = samples.iter().filter(|data| data["moment"] == moment);
        of.map(|data| own(data)).sum::<f64>() / job.config.evaluation_prompts as f64
    };
    assert_eq!(with.summary["gold_before"], mean_of("before"));
    assert_eq!(with.summary["gold_after"], mean_of("after"));
    let gain = with.summary["gold_after"] - with.summary["gold_before"];
    assert!((with.summary["gold_gain"] - gain).abs() < 1e-12);
}

/// With the policy's tokenizer it reads the tokens as they were drawn, as the reward model does.
#[test]
fn the_reward_model_as_its_own_second_opinion_agrees_with_itself() {
    let place = Place::new();
    let reward = place.trained_reward("reward");
    let mut job = place.ppo(&reward, "ppo");
    job.gold = Some(Gold::Model(reward));
    let mut progress = Kept::default();
    let summary = ppo::run(&job, &mut progress).unwrap().summary;
    let (gold, score) = (
        progress.metric("objective/gold"),
        progress.metric("objective/score"),
    );
    assert_eq!(gold.len(), score.len());
    for (gold, score) in gold.iter().zip(&score) {
        assert!((gold - score).abs() < 1e-5, "{gold} {score}");
    }
    assert!((summary["gold_after"] - summary["reward_after"]).abs() < 1e-5);
    // The checkpoint names it.
    let lineage = std::fs::read(job.out.join("checkpoint/plackett.json")).unwrap();
    let lineage: Value = serde_json::from_slice(&lineage).unwrap();
    assert_eq!(lineage["parents"]["gold"], lineage["parents"]["reward"]);
    assert!(lineage["parents"]["gold"].is_string());
}

/// With another tokenizer it reads the text.
#[test]
fn a_second_opinion_with_another_tokenizer_reads_the_text() {
    let place = Place::new();
    let reward = place.trained_reward("reward");
    let other = place.trained_reward("other");
    let path = other.join("tokenizer.json");
    let changed = std::fs::read_to_string(&path).unwrap() + "\n";
    std::fs::write(&path, changed).unwrap();
    // Or it would be seen that this is not the tokenizer that it was made with.
    std::fs::remove_file(other.join("plackett.json")).unwrap();
    let mut job = place.ppo(&reward, "ppo");
    job.gold = Some(Gold::Model(other.clone()));
    let mut progress = Kept::default();
    ppo::run(&job, &mut progress).unwrap();

    let codec = TextCodec::load(&other).unwrap();
    let model = RewardModel::load(&other, &Device::Cpu, Trainable::Nothing).unwrap();
    let samples = samples(&progress);
    assert_eq!(samples.len(), 2 * job.config.evaluation_prompts);
    for data in samples {
        let prompt: Prompt = serde_json::from_value(data["prompt"].clone()).unwrap();
        let mut row = codec.encode_prompt(&prompt).unwrap();
        row.extend(codec.encode(data["completion"].as_str().unwrap()).unwrap());
        row.push(codec.eos_id);
        let score = f64::from(model.score_rows(&[row]).unwrap()[0]);
        let told = data["gold"].as_f64().unwrap();
        assert!((told - score).abs() < 1e-5, "{told} {score}");
    }
}

/// What it cannot read at once is its beginning, which is left out and told: it ends no run.
#[test]
fn a_second_opinion_that_reads_few_tokens_sees_the_ends() {
    let place = Place::new();
    let reward = place.trained_reward("reward");
    let other = place.trained_reward("other");
    let change = |name: &str, change: &dyn Fn(String) -> String| {
        let path = other.join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, change(text)).unwrap();
    };
    change("tokenizer.json", &|text| text + "\n");
    std::fs::remove_file(other.join("plackett.json")).unwrap();
    change("config.json", &|text| {
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config["max_position_embeddings"] = 12.into();
        config.to_string()
    });
    let mut job = place.ppo(&reward, "ppo");
    job.gold = Some(Gold::Model(other.clone()));
    let mut progress = Kept::default();
    ppo::run(&job, &mut progress).unwrap();
    let told = progress.events.iter().any(|event| match event {
        Event::Log { message } => message.contains("second opinion reads 12 tokens: it saw"),
        _ => false,
    });
    assert!(told);

    let codec = TextCodec::load(&other).unwrap();
    let model = RewardModel::load(&other, &Device::Cpu, Trainable::Nothing).unwrap();
    for data in samples(&progress) {
        let prompt: Prompt = serde_json::from_value(data["prompt"].clone()).unwrap();
        let mut row = codec.encode_prompt(&prompt).unwrap();
        row.extend(codec.encode(data["completion"].as_str().unwrap()).unwrap());
        row.push(codec.eos_id);
        let end = row.split_off(row.len().saturating_sub(12));
        let score = f64::from(model.score_rows(&[end]).unwrap()[0]);
        let told = data["gold"].as_f64().unwrap();
        assert!((told - score).abs() < 1e-5, "{told} {score}");
    }
}

/// Item 54 of the checklist: the second opinion chooses, not the reward model that is trained
/// against, which likes the last policy best.
#[test]
fn the_policy_that_the_second_opinion_likes_best_is_kept() {
    let place = Place::new();
    let reward = place.trained_reward("reward");
    let run = |out: &str, keep: KeepPolicy, gold: fn(f64) -> f64, ema_decay: f64| {
        let mut job = place.ppo(&reward, out);
        job.config.iterations = 12;
        job.config.batch_episodes = 32;
        job.config.kl_budget = 1e3;
        job.config.kl_coefficient = 0.0;
        job.config.ema_decay = ema_decay;
        job.config.evaluation_prompts = 12;
        job.config.keep = keep;
        job.config.keep_every = 1;
        let utility = move |prompt: &Prompt, text: &str| gold(goods(prompt, text));
        job.gold = Some(Gold::Utility(Box::new(utility)));
        ppo::run(&job, &mut Kept::default()).unwrap()
    };
    // Some of the word that the reward model likes, but not too much of it.
    let some: fn(f64) -> f64 = |n| 6.0 * n - n * n;
    for ema_decay in [0.0, 0.5] {
        let name = |kind: &str| format!("{kind}-{ema_decay}");
        let last = run(&name("last"), KeepPolicy::Last, some, ema_decay);
        let best = run(&name("best"), KeepPolicy::BestGold, some, ema_decay);
        let kept = best.summary["kept_iteration"];
        assert!(kept > 0.0 && kept < 12.0, "{kept}");
        let gold = |made: &Outcome, moment: &str| made.summary[&format!("gold_{moment}")];
        let (of_best, of_last) = (gold(&best, "after"), gold(&last, "after"));
        assert!(of_best > of_last, "{of_best} {of_last} {kept}");
        assert!(of_best > gold(&best, "before"), "{of_best} {kept}");
        assert_ne!(weights(&best.checkpoint), weights(&last.checkpoint));
        assert!(!last.summary.contains_key("kept_iteration"));
    }
    // One that sees no difference keeps the base.
    let base = run("indifferent", KeepPolicy::BestGold, |_| 1.0, 0.0);
    assert_eq!(base.summary["kept_iteration"], 0.0);
    assert_eq!(base.summary["gold_after"], base.summary["gold_before"]);

    let mut job = place.ppo(&reward, "nobody");
    job.config.keep = KeepPolicy::BestGold;
    let error = ppo::run(&job, &mut Kept::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("keep"), "{error}");
    assert!(!job.out.exists());
}

#[test]
fn the_loss_on_texts_is_told_without_the_pretraining_term_too_and_changes_nothing() {
    let place = Place::new();
    let reward = place.trained_reward("reward");
    let plain = |out: &str| {
        let mut job = place.ppo(&reward, out);
        job.config.ptx_coefficient = 0.0;
        job
    };
    let mut without = plain("without");
    without.texts = None;
    let mut silent = Kept::default();
    let without = ppo::run(&without, &mut silent).unwrap();
    assert!(silent.metric("objective/text_loss_held_out").is_empty());
    assert!(!without.summary.contains_key("text_loss_held_out"));

    let with = plain("with");
    let mut progress = Kept::default();
    let made = ppo::run(&with, &mut progress).unwrap();
    assert_eq!(weights(&made.checkpoint), weights(&without.checkpoint));
    let losses = progress.metric("objective/text_loss_held_out");
    assert_eq!(losses.len(), with.config.iterations);
    assert_eq!(losses[0], made.summary["text_loss_held_out_before"]);
    assert!(losses[0] != losses[1] && losses.iter().all(|loss| *loss > 0.0));
    assert!(made.summary["text_loss_held_out"] != losses[losses.len() - 1]);
    assert!(progress.metric("ptx/loss").is_empty());
}
