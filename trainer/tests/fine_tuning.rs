//! Supervised fine-tuning as InstructGPT has it, on a tiny model: packed rows, dropout, pretraining
//! texts mixed in, and the choice of an epoch.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[expect(dead_code, reason = "other tests use the rest")]
mod place;
mod tiny;

use std::path::Path;

use candle_core::{Device, Tensor};
use place::*;
use serde_json::{Value, json};
use tiny::{Kept, WORDS, write_lines};
use trainer::config::Keep;
use trainer::error::TrainerError;
use trainer::model::attention::Pass;
use trainer::model::batch::TokenBatch;
use trainer::model::heads::RewardModel;
use trainer::model::transformer::Transformer;
use trainer::model::weights::Trainable;
use trainer::progress::Event;
use trainer::records::Prompt;
use trainer::sft::SftJob;
use trainer::text::TextCodec;
use trainer::{ppo, reward, sft};

/// Ends with the metrics and the summary of a run.
fn run(job: &SftJob) -> (Kept, sft::Outcome) {
    let mut progress = Kept::default();
    let outcome = sft::run(job, &mut progress).unwrap();
    assert!(progress.checks().iter().all(|(_, passed)| *passed));
    (progress, outcome)
}

fn says(progress: &Kept, words: &str) -> bool {
    progress
        .events
        .iter()
        .any(|event| matches!(event, Event::Log { message } if message.contains(words)))
}

/// The loss before training with this checkpoint as the base, on the same held-out demonstrations.
fn measured_again(job: &SftJob, checkpoint: &Path, out: &Path, figure: &str) -> f64 {
    let again = SftJob {
        config: job.config.clone(),
        data: job.data.clone(),
        texts: None,
        base: checkpoint.to_owned(),
        reward: job.reward.clone(),
        out: out.to_owned(),
        saving: job.saving,
    };
    run(&again).1.summary[figure]
}

#[test]
fn a_packed_run_learns_what_one_with_padding_learns() {
    let place = Place::new();
    let weights = |out: &str, pack_tokens| {
        let mut job = place.sft(out);
        job.config.pack_tokens = pack_tokens;
        let (progress, outcome) = run(&job);
        let file = outcome.checkpoint.join("model.safetensors");
        let tensors = candle_core::safetensors::load(file, &Device::Cpu).unwrap();
        (progress, tensors)
    };
    let (padded, packed) = (weights("padded", None), weights("packed", Some(20)));
    for name in ["train/loss", "train/grad_norm", "held_out/loss"] {
        let (a, b) = (padded.0.metric(name), packed.0.metric(name));
        assert!(a.len() == b.len() && !a.is_empty());
        for (a, b) in a.iter().zip(&b) {
            assert!((a - b).abs() < 1e-3, "{name}: {a} and {b}");
        }
    }
    for (name, tensor) in &padded.1 {
        let difference = (tensor - &packed.1[name]).unwrap().abs().unwrap();
        let largest: f32 = difference.max_all().unwrap().to_scalar().unwrap();
        assert!(largest < 1e-3, "{name}: {largest:e}");
    }
    let check = "packing invariance: model".to_owned();
    assert!(packed.0.checks().contains(&(check.clone(), true)));
    assert!(!padded.0.checks().contains(&(check, true)));
}

/// Item 1 of the checklist: padding is EOS too, and still EOS is learnt.
#[test]
fn an_answer_that_was_learnt_ends_by_itself() {
    let place = Place::new();
    for (out, pack_tokens) in [("padded", None), ("packed", Some(128))] {
        let mut job = place.sft(out);
        job.config.epochs = 20;
        job.config.pack_tokens = pack_tokens;
        let checkpoint = run(&job).1.checkpoint;
        let codec = TextCodec::load(&checkpoint).unwrap();
        assert_eq!(codec.pad_id, codec.eos_id);
        let nothing = Trainable::Nothing;
        let model = Transformer::load(&checkpoint, &Device::Cpu, nothing).unwrap();
        let mut early = Vec::new();
        // The first 48 questions differ, the run knows 40 of them.
        for line in &demonstrations(48) {
            let text = |turn: usize| line["messages"][turn]["content"].as_str().unwrap();
            let mut row = codec
                .encode_prompt(&Prompt::Text(text(0).to_owned()))
                .unwrap();
            let start = row.len();
            row.extend(codec.encode(text(1)).unwrap());
            let batch = TokenBatch::new(&[row.clone()], codec.pad_id, &Device::Cpu).unwrap();
            let hidden = model.hidden(&batch, Pass::Frozen).unwrap().get(0).unwrap();
            let logits = model.logits(&hidden).unwrap();
            let shares = candle_nn::ops::softmax(&logits, 1).unwrap();
            let shares: Vec<Vec<f32>> = shares.to_vec2().unwrap();
            let of_eos = |position: usize| shares[position][codec.eos_id as usize];
            let end = of_eos(row.len() - 1);
            assert!(end > 0.5, "{}: P(EOS) is {end} at the end", text(0));
            early.extend((start - 1..row.len() - 1).map(of_eos));
        }
        // Not everywhere: an answer of two words seldom ends after the first, or before it.
        let mean = early.iter().sum::<f32>() / early.len() as f32;
        assert!(mean < 0.2, "P(EOS) is {mean} before the end");
    }
}

/// Item 3 of the checklist: whole, or not at all.
#[test]
fn prompts_that_are_too_long_are_left_out_and_counted() {
    let place = Place::new();
    let long = ["please"; 40].join(" ");
    let mut lines = demonstrations(20);
    for index in [4, 11] {
        lines[index]["messages"][0]["content"] = json!(long);
    }
    let mut job = place.sft("sft");
    job.data = write_lines(&place.path("some long.jsonl"), lines);
    job.config.max_tokens = 24;
    let (progress, outcome) = run(&job);
    assert!(says(
        &progress,
        "2 demonstrations are longer than 24 tokens: lines 5, 12 are left out"
    ));
    let n = outcome.summary["n_train"] + outcome.summary["n_held_out"];
    assert_eq!(n, 18.0);

    let judge = place.trained_reward("judge");
    let mut lines = prompts(12);
    lines[2]["prompt"] = json!(long);
    let mut job = place.ppo(&judge, "ppo");
    job.prompts = write_lines(&place.path("one long prompt.jsonl"), lines);
    job.config.max_prompt_tokens = 24;
    job.config.iterations = 1;
    let mut progress = Kept::default();
    ppo::run(&job, &mut progress).unwrap();
    assert!(says(&progress, "1 prompts"), "{:?}", progress.events);
    let shown = format!("{:?}", progress.events);
    assert!(!shown.contains(&long));
}

fn lowest(values: &[f64]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value < values[best] {
            best = index;
        }
    }
    best
}

#[test]
fn the_epoch_with_the_lowest_held_out_loss_is_kept() {
    let place = Place::new();
    let job = |out: &str, keep| {
        let mut job = place.sft(out);
        job.data = place.path("noise.jsonl");
        job.config.epochs = 12;
        job.config.held_out_share = 0.3;
        job.config.keep = keep;
        job
    };
    let best = job("best", Keep::BestLoss);
    let (progress, outcome) = run(&best);
    let losses = progress.metric("held_out/loss");
    assert_eq!(losses.len(), 13);
    let epoch = lowest(&losses[1..]);
    assert!(epoch < 11, "nothing was overfitted: {losses:?}");
    let lowest = losses[1 + epoch];
    assert_eq!(outcome.summary["kept_epoch"], (epoch + 1) as f64);
    assert_eq!(outcome.summary["held_out_loss"], lowest);
    let again = place.path("again");
    let measured = measured_again(&best, &outcome.checkpoint, &again, "held_out_loss_before");
    assert_eq!(measured, lowest);

    let which = format!("The weights after epoch {} of 12 were kept", epoch + 1);
    assert!(says(&progress, &which));
    let card = std::fs::read_to_string(outcome.checkpoint.join("README.md")).unwrap();
    assert!(card.contains(&which), "{card}");

    let (progress, outcome) = run(&job("last", Keep::Last));
    assert_eq!(progress.metric("held_out/loss"), losses);
    assert_eq!(outcome.summary["held_out_loss"], losses[12]);
    assert_eq!(outcome.summary["kept_epoch"], 12.0);
}

#[test]
fn the_epoch_whose_answers_score_highest_is_kept() {
    let place = Place::new();
    let judge = place.trained_reward("judge");
    let mut job = place.sft("sft");
    // The judge likes "good", and no demonstration says it: the longer, the worse.
    let lines = demonstrations(48);
    let lines = lines
        .into_iter()
        .filter(|line| !line.to_string().contains("good"));
    job.data = write_lines(&place.path("never good.jsonl"), lines);
    job.config.epochs = 5;
    job.config.reward_prompts = 64;
    job.config.keep = Keep::BestReward;
    let error = sft::run(&job, &mut Kept::default()).unwrap_err();
    assert!(error.to_string().contains("no reward model"), "{error}");
    job.reward = Some(judge.clone());
    let (progress, outcome) = run(&job);
    let rewards = progress.metric("held_out/reward");
    assert_eq!(rewards.len(), 6);
    let negated: Vec<f64> = rewards[1..].iter().map(|reward| -reward).collect();
    let epoch = lowest(&negated);
    assert!(epoch < 4, "the last epoch is the best: {rewards:?}");
    assert_eq!(outcome.summary["kept_epoch"], (epoch + 1) as f64);
    assert_eq!(outcome.summary["held_out_reward"], rewards[1 + epoch]);
    let again = place.path("again");
    let figure = "held_out_reward_before";
    let measured = measured_again(&job, &outcome.checkpoint, &again, figure);
    assert_eq!(measured, rewards[1 + epoch]);
    assert!(says(&progress, "score highest"));

    // A reward model that reads other tokens judges nothing.
    let path = judge.join("tokenizer.json");
    let changed = std::fs::read_to_string(&path).unwrap() + "\n";
    std::fs::write(&path, changed).unwrap();
    job.out = place.path("other tokens");
    let error = sft::run(&job, &mut Kept::default()).unwrap_err();
    assert!(matches!(&error, TrainerError::Refused(_)), "{error}");
}

#[test]
fn an_epoch_cannot_be_chosen_where_nothing_can_be_held_out() {
    let place = Place::new();
    let mut job = place.sft("nowhere");
    job.data = write_lines(&place.path("one.jsonl"), demonstrations(1));
    job.config.keep = Keep::BestLoss;
    let error = sft::run(&job, &mut Kept::default()).unwrap_err();
    assert!(error.to_string().starts_with("setting keep: "), "{error}");
    job.config.keep = Keep::Last;
    job.reward = Some(place.trained_reward("judge"));
    let error = sft::run(&job, &mut Kept::default()).unwrap_err();
    let expected = "setting held_out_share: holds out no demonstration";
    assert!(error.to_string().starts_with(expected), "{error}");
    assert!(!place.path("nowhere").exists());
}

/// C.3, with all of a text's tokens learnt.
#[test]
fn a_tenth_of_what_is_learnt_are_pretraining_texts_where_they_are_given() {
    let place = Place::new();
    // One text with a rule: each word is followed by the same other one.
    let text = WORDS.repeat(2).join(" ");
    let lines = (0..6).map(|index| json!({"id": format!("t{index}"), "text": text}));
    let texts = write_lines(&place.path("rule.jsonl"), lines);
    let job = |out: &str| {
        let mut job = place.sft(out);
        job.config.epochs = 20;
        // The same steps with texts and without, apart from the texts.
        job.config.pretraining_tokens = 12;
        job
    };
    let (without, outcome) = run(&job("without"));
    assert!(without.metric("ptx/loss").is_empty());
    assert!(!outcome.summary.contains_key("pretraining_share"));

    let mut mixed = job("mixed");
    mixed.texts = Some(texts);
    let (progress, outcome) = run(&mixed);
    let share = outcome.summary["pretraining_share"];
    assert!((share - 0.1).abs() < 0.01, "{share}");
    let losses = progress.metric("ptx/loss");
    let n_steps = progress.metric("train/loss").len();
    assert!(losses.len() > 20 && losses.len() < n_steps, "{losses:?}");
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let (first, last) = (mean(&losses[..5]), mean(&losses[losses.len() - 5..]));
    assert!(last < 0.7 * first, "{first} before, {last} after");
    assert!(says(&progress, "10 % of the learnt tokens"));
    // The demonstrations come in the same order.
    assert_eq!(
        progress.metric("train/loss")[0],
        without.metric("train/loss")[0]
    );
    let card = outcome.checkpoint.join("plackett.json");
    let card: Value = serde_json::from_slice(&std::fs::read(card).unwrap()).unwrap();
    assert!(card["data"]["texts"].is_string(), "{card}");

    mixed.out = place.path("off");
    mixed.config.pretraining_share = 0.0;
    let (progress, _) = run(&mixed);
    assert!(progress.metric("ptx/loss").is_empty());
    assert!(says(&progress, "the texts are not used"));
    assert_eq!(progress.metric("train/loss"), without.metric("train/loss"));
}

#[test]
fn dropout_changes_what_is_learnt_and_the_seed_alone_decides_how() {
    let place = Place::new();
    let tuned = |out: &str, dropout, pack_tokens| {
        let mut job = place.sft(out);
        job.config.dropout = dropout;
        job.config.pack_tokens = pack_tokens;
        let (progress, outcome) = run(&job);
        let before = progress.metric("held_out/loss")[0];
        (weights(&outcome.checkpoint), before)
    };
    for pack_tokens in [None, Some(64)] {
        let name = |run: &str| format!("{run} {pack_tokens:?}");
        let without = tuned(&name("without"), 0.0, pack_tokens);
        let with = tuned(&name("with"), 0.2, pack_tokens);
        assert!(with.0 != without.0);
        assert_eq!(with.1, without.1, "the held-out loss is measured without");
        assert!(with.0 == tuned(&name("again"), 0.2, pack_tokens).0);
    }
}

/// Item 12 of the checklist.
#[test]
fn two_passes_of_a_reward_model_are_equal_after_fine_tuning_with_dropout() {
    let place = Place::new();
    let mut job = place.sft("sft");
    job.config.dropout = 0.2;
    let checkpoint = run(&job).1.checkpoint;
    let everything = Trainable::Everything;
    let judge = RewardModel::from_language_model(&checkpoint, &Device::Cpu, everything, 1);
    let judge = judge.unwrap();
    let batch = TokenBatch::new(&[vec![4, 5, 6, 1], vec![7, 1]], 1, &Device::Cpu).unwrap();
    let numbers = |tensor: Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let scores = || {
        let lower = judge.trunk.lower(&batch).unwrap();
        numbers(judge.scores_from(&lower, &batch, Pass::Tracked).unwrap())
    };
    assert_eq!(scores(), scores());
    let hidden = || numbers(judge.trunk.hidden(&batch, Pass::Tracked).unwrap());
    assert_eq!(hidden(), hidden());

    // A reward run on top of it, whose every pass trains, tells the same twice.
    let trained = |out: &str| {
        let mut job = place.reward(out);
        job.base = checkpoint.clone();
        let mut progress = Kept::default();
        reward::run(&job, &mut progress).unwrap();
        progress.metric("train/loss")
    };
    assert_eq!(trained("reward-1"), trained("reward-2"));
}
