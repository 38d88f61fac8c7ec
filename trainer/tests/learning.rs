//! Whole runs on a tiny model: each algorithm learns what its data teaches, the same seed gives
//! the same bytes, and whatever can't work ends in a sentence and leaves nothing behind.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[expect(dead_code, reason = "other tests use the rest")]
mod place;
mod tiny;

use std::path::Path;

use candle_core::Device;
use place::*;
use serde_json::{Value, json};
use tiny::{Kept, WORDS, write_lines};
use trainer::error::TrainerError;
use trainer::loss::PreferenceModel;
use trainer::model::heads::RewardModel;
use trainer::model::weights::Trainable;
use trainer::ppo;
use trainer::progress::Event;
use trainer::reward;
use trainer::sft;

#[test]
fn supervised_fine_tuning_lowers_the_held_out_loss() {
    let place = Place::new();
    let mut job = place.sft("sft");
    job.config.epochs = 20;
    let mut progress = Kept::default();
    let outcome = sft::run(&job, &mut progress).unwrap();
    let (before, after) = (
        outcome.summary["held_out_loss_before"],
        outcome.summary["held_out_loss"],
    );
    assert!(
        after < 0.7 * before,
        "held-out loss {before} before, {after} after"
    );
    assert!(progress.checks().iter().all(|(_, passed)| *passed));
}

/// Demonstrations of `n_prompts` prompts, four by different labelers for each.
fn repeated_demonstrations(n_prompts: usize) -> Vec<Value> {
    let demonstration = |index: usize| {
        let prompt = format!("say {}", WORDS[index % n_prompts]);
        json!({"id": format!("d{index}"), "messages": [
            {"role": "user", "content": prompt},
            {"role": "assistant", "content": WORDS[index / n_prompts]},
        ]})
    };
    (0..4 * n_prompts).map(demonstration).collect()
}

#[test]
fn demonstrations_are_held_out_by_prompt_and_no_loss_is_told_where_none_can_be() {
    let place = Place::new();
    let run = |n_prompts: usize| {
        let mut job = place.sft(&format!("sft-{n_prompts}"));
        job.config.epochs = 1;
        let lines = repeated_demonstrations(n_prompts);
        job.data = write_lines(&place.path("repeated.jsonl"), lines);
        let mut progress = Kept::default();
        let summary = sft::run(&job, &mut progress).unwrap().summary;
        let losses = progress.metric("held_out/loss").len();
        (summary["n_train"], summary["n_held_out"], losses)
    };
    // A tenth of the demonstrations would be 2, all 4 of one prompt are held out.
    assert_eq!(run(5), (16.0, 4.0, 2));
    assert_eq!(run(1), (4.0, 0.0, 0));
}

#[test]
fn a_reward_model_learns_a_preference_that_length_cannot_explain() {
    let place = Place::new();
    let mut job = place.reward("reward");
    job.config.epochs = 6;
    let mut progress = Kept::default();
    let summary = reward::run(&job, &mut progress).unwrap().summary;
    assert!(summary["held_out_accuracy_low"] > 0.7, "{summary:?}");
    assert_eq!(summary["length_only_accuracy"], 0.5, "{summary:?}");
    assert_eq!(progress.metric("held_out/accuracy").len(), 7);
}

/// Each of the other losses learns the same preference.
#[test]
fn a_reward_model_learns_by_every_loss() {
    let place = Place::new();
    for (index, model) in [
        PreferenceModel::PlackettLuce,
        PreferenceModel::Davidson { nu: 0.5 },
        PreferenceModel::RaoKupper { threshold: 0.5 },
    ]
    .into_iter()
    .enumerate()
    {
        let mut job = place.reward(&format!("run {index}"));
        job.config.loss.model = model;
        let made = reward::run(&job, &mut Kept::default()).unwrap();
        let accuracy = made.summary["held_out_accuracy"];
        assert!(accuracy > 0.8, "{model:?}: {accuracy}");
    }
}

/// Item 18 of the checklist.
#[test]
fn demonstrations_score_mean_0_when_they_are_given() {
    let place = Place::new();
    let mut job = place.reward("reward");
    job.demonstrations = Some(place.path("demonstrations.jsonl"));
    let checkpoint = reward::run(&job, &mut Kept::default()).unwrap().checkpoint;
    let codec = trainer::text::TextCodec::load(&checkpoint).unwrap();
    let model = RewardModel::load(&checkpoint, &Device::Cpu, Trainable::Nothing).unwrap();
    let rows: Vec<Vec<u32>> = demonstrations(40)
        .iter()
        .map(|line| {
            let text = line["messages"][0]["content"].as_str().unwrap().to_owned();
            let mut row = codec
                .encode_prompt(&trainer::records::Prompt::Text(text))
                .unwrap();
            let answer = line["messages"][1]["content"].as_str().unwrap();
            row.extend(codec.encode(answer).unwrap());
            row.push(codec.eos_id);
            row
        })
        .collect();
    let scores = model.score_rows(&rows).unwrap();
    let mean = scores.iter().map(|score| f64::from(*score)).sum::<f64>() / scores.len() as f64;
    assert!(mean.abs() < 1e-5, "{mean}");

    // The same run without them differs by one number for all, so no pair changes its order.
    let without = place.trained_reward("without demonstrations");
    let without = RewardModel::load(&without, &Device::Cpu, Trainable::Nothing).unwrap();
    let others = without.score_rows(&rows).unwrap();
    let shifts: Vec<f32> = scores.iter().zip(&others).map(|(a, b)| a - b).collect();
    let shift = (model.bias - without.bias) as f32;
    assert!(shift.abs() > 1e-3, "the two shifts are the same: {shift}");
    for own in shifts {
        assert!((own + shift).abs() < 1e-5, "{own} instead of {}", -shift);
    }
}

#[test]
fn ppo_raises_the_reward_and_checks_itself_first() {
    let place = Place::new();
    let mut reward_job = place.reward("reward");
    reward_job.config.epochs = 6;
    let reward = reward::run(&reward_job, &mut Kept::default())
        .unwrap()
        .checkpoint;
    let mut job = place.ppo(&reward, "ppo");
    job.config.iterations = 25;
    job.config.batch_episodes = 32;
    job.config.evaluation_prompts = 12;
    let mut progress = Kept::default();
    let outcome = ppo::run(&job, &mut progress).unwrap();
    let (before, after) = (
        outcome.summary["reward_before"],
        outcome.summary["reward_after"],
    );
    assert!(
        after > before + 0.5,
        "reward {before} before, {after} after"
    );
    assert!(
        outcome.summary["kl_last_batch"] > 0.0,
        "{:?}",
        outcome.summary
    );

    // Item 26: of many completions k1 has a mean above 0.
    let kl = progress.metric("objective/kl");
    assert!(kl.iter().sum::<f64>() > 0.0, "{kl:?}");
    // Item 51: every iteration tells all of these.
    for name in [
        "objective/kl",
        "objective/root_kl",
        "objective/kl_coefficient",
        "objective/reward",
        "objective/score",
        "objective/entropy",
        "objective/response_length",
        "objective/eos_rate",
        "policy/ratio",
        "policy/approximate_kl",
        "policy/clipped_share",
        "policy/grad_norm",
        "value/clipped_share",
        "value/explained_variance",
        "value/grad_norm",
        "time/tokens_per_second",
    ] {
        let told = progress.metric(name);
        assert_eq!(told.len(), kl.len(), "{name}");
        assert!(told.iter().all(|value| value.is_finite()), "{name}");
    }
    let roots = progress.metric("objective/root_kl");
    for (kl, root) in kl.iter().zip(roots) {
        assert!((kl.max(0.0).sqrt() - root).abs() < 1e-12);
    }

    let checks = progress.checks();
    assert!(checks.iter().all(|(_, passed)| *passed), "{checks:?}");
    for name in [
        "vocabulary",
        "chat template",
        "KL is 0 before the first step",
        "ratio is 1 before the first step",
        "gradient coverage: policy",
        "gradient coverage: value model",
        "value equals reward at the last token",
        "reference and reward model did not change",
    ] {
        assert!(
            checks.iter().any(|(found, _)| found == name),
            "{name} was not checked"
        );
    }
    let samples = std::fs::read_to_string(job.out.join("samples.jsonl")).unwrap();
    for kind in ["before", "after"] {
        let marked = format!("\"kind\":\"{kind}\"");
        assert_eq!(
            samples
                .lines()
                .filter(|line| line.contains(&marked))
                .count(),
            12
        );
    }
}

#[test]
fn samples_show_prompts_as_written_and_no_loss_is_told_of_texts_that_were_not_given() {
    let place = Place::new();
    let reward = place.trained_reward("reward");
    let written: Vec<Value> = WORDS
        .iter()
        .map(|word| {
            json!([
                {"role": "user", "content": "say red"},
                {"role": "assistant", "content": "red"},
                {"role": "user", "content": format!("say {word}")},
            ])
        })
        .collect();
    let lines = written
        .iter()
        .enumerate()
        .map(|(index, prompt)| json!({"id": format!("c{index}"), "prompt": prompt}));
    let mut job = place.ppo(&reward, "ppo");
    job.prompts = write_lines(&place.path("conversations.jsonl"), lines);
    job.texts = None;
    let mut progress = Kept::default();
    ppo::run(&job, &mut progress).unwrap();
    let shown: Vec<&Value> = progress
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Sample { data, .. } if data["kind"] != "tokens" => Some(&data["prompt"]),
            _ => None,
        })
        .collect();
    assert_eq!(shown.len(), 2 * job.config.evaluation_prompts);
    assert!(
        shown.iter().all(|prompt| written.contains(prompt)),
        "{shown:?}"
    );
    assert!(!progress.metric("policy/loss").is_empty());
    assert!(progress.metric("ptx/loss").is_empty());
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    let place = Place::new();
    let (first, second) = (
        place.trained_reward("reward-1"),
        place.trained_reward("reward-2"),
    );
    assert!(weights(&first) == weights(&second));

    let policy = |out: &str, seed: u64| {
        let mut job = place.ppo(&first, out);
        job.config.seed = seed;
        weights(&ppo::run(&job, &mut Kept::default()).unwrap().checkpoint)
    };
    let reference = policy("ppo-1", 1);
    assert!(reference == policy("ppo-2", 1));
    assert!(reference != policy("ppo-3", 2));

    let tuned = |out: &str| {
        weights(
            &sft::run(&place.sft(out), &mut Kept::default())
                .unwrap()
                .checkpoint,
        )
    };
    assert!(tuned("sft-1") == tuned("sft-2"));
}

#[test]
fn training_the_upper_layer_only_leaves_the_lower_ones_alone_and_shares_them() {
    let place = Place::new();
    let mut reward_job = place.reward("reward");
    reward_job.config.train_layers = Some(1);
    let reward = reward::run(&reward_job, &mut Kept::default())
        .unwrap()
        .checkpoint;
    let mut job = place.ppo(&reward, "ppo");
    job.config.train_layers = Some(1);
    let mut progress = Kept::default();
    let policy = ppo::run(&job, &mut progress).unwrap().checkpoint;
    let load = |folder: &Path| {
        candle_core::safetensors::load(folder.join("model.safetensors"), &candle_core::Device::Cpu)
            .unwrap()
    };
    let (old, new) = (load(&place.path("base")), load(&policy));
    for (name, tensor) in &new {
        let changed = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()
            != old[name].flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let is_upper = name.contains("layers.1.") || name == "model.norm.weight";
        assert_eq!(changed, is_upper, "{name}");
    }
    let log = format!("{:?}", progress.events);
    assert!(log.contains("the same in all four models and run once"));
}

#[test]
fn bad_data_is_named_and_leaves_nothing_behind() {
    let place = Place::new();
    let mut lines = rankings(3);
    lines[1]["completions"][2]["rank"] = json!("first");
    let data = write_lines(&place.path("broken.jsonl"), lines);
    let mut job = place.reward("nowhere");
    job.data = data;
    let error = reward::run(&job, &mut Kept::default()).unwrap_err();
    let TrainerError::Input { line, .. } = &error else {
        panic!("expected an error about the data, got {error}");
    };
    assert_eq!(*line, 2);
    assert!(error.to_string().contains("broken.jsonl"), "{error}");

    let mut tied = place.reward("nowhere");
    let mut lines = rankings(3);
    for line in &mut lines {
        for completion in line["completions"].as_array_mut().unwrap() {
            completion["rank"] = json!(1);
        }
    }
    tied.data = write_lines(&place.path("tied.jsonl"), lines);
    let error = reward::run(&tied, &mut Kept::default()).unwrap_err();
    assert!(error.to_string().contains("tied"), "{error}");

    let mut long = place.sft("nowhere");
    long.config.max_tokens = 3;
    let error = sft::run(&long, &mut Kept::default()).unwrap_err();
    let expected = "line 1, field messages: is longer than 3 tokens";
    assert!(error.to_string().contains(expected), "{error}");

    let mut missing = place.ppo(&place.path("no such model"), "nowhere");
    missing.texts = None;
    let error = ppo::run(&missing, &mut Kept::default()).unwrap_err();
    assert!(error.to_string().contains("no such model"), "{error}");
    assert!(!place.path("nowhere").exists());
}

/// Makes the model's template refuse turns of the system, as those of some models do, and its
/// tokenizer drop every `~`.
fn refuse_some_text(base: &Path) {
    let change = |name: &str, from: &str, to: &str| {
        let path = base.join(name);
        let old = std::fs::read_to_string(&path).unwrap();
        assert!(old.contains(from), "{old}");
        std::fs::write(&path, old.replacen(from, to, 1)).unwrap();
    };
    let start = "{% for m in messages %}";
    let refusal = "{% if m.role == 'system' %}{{ m.no.such }}{% endif %}";
    let template = format!("{start}{refusal}");
    change("tokenizer_config.json", start, &template);
    change(
        "tokenizer.json",
        "\"normalizer\":null",
        r#""normalizer":{"type":"Replace","pattern":{"String":"~"},"content":""}"#,
    );
}

#[test]
fn text_that_cannot_be_encoded_is_named_by_file_line_and_field() {
    let place = Place::new();
    let reward = place.trained_reward("reward");
    refuse_some_text(&place.path("base"));
    let system = json!([{"role": "system", "content": "now"}, {"role": "user", "content": "say"}]);
    // Lines are counted as in the file, blank ones too.
    let write = |good: &Value, bad: &Value| {
        let path = place.path("broken.jsonl");
        std::fs::write(&path, format!("{good}\n\n{bad}\n")).unwrap();
        path
    };
    let assert_names = |error: TrainerError, expected: &str| {
        let error = error.to_string();
        let named = error.split_once("broken.jsonl").unwrap().1;
        assert!(named.starts_with(expected), "{error}");
    };

    let good = &demonstrations(1)[0];
    let mut bad = good.clone();
    bad["messages"] = json!([system[0], system[1], {"role": "assistant", "content": "red"}]);
    let mut job = place.sft("nowhere");
    job.data = write(good, &bad);
    let error = sft::run(&job, &mut Kept::default()).unwrap_err();
    assert_names(error, ", line 3, field messages: chat template: ");
    bad["messages"] = good["messages"].clone();
    bad["messages"][1]["content"] = json!("~");
    job.data = write(good, &bad);
    let error = sft::run(&job, &mut Kept::default()).unwrap_err();
    let nothing = "tokenizer: makes nothing of the text";
    assert_names(error, &format!(", line 3, field messages: {nothing}"));

    let good = &rankings(1)[0];
    let mut bad = good.clone();
    bad["prompt"] = system.clone();
    let mut job = place.reward("nowhere");
    job.data = write(good, &bad);
    let error = reward::run(&job, &mut Kept::default()).unwrap_err();
    assert_names(error, ", line 3, field prompt: chat template: ");
    bad["prompt"] = good["prompt"].clone();
    bad["completions"][2]["text"] = json!("~");
    job.data = write(good, &bad);
    let error = reward::run(&job, &mut Kept::default()).unwrap_err();
    assert_names(
        error,
        &format!(", line 3, field completions[2].text: {nothing}"),
    );

    let good = &prompts(1)[0];
    let mut bad = good.clone();
    bad["prompt"] = system;
    let mut job = place.ppo(&reward, "nowhere");
    job.prompts = write(good, &bad);
    let error = ppo::run(&job, &mut Kept::default()).unwrap_err();
    assert_names(error, ", line 3, field prompt: chat template: ");
    assert!(!place.path("nowhere").exists());
}

#[test]
fn a_cancelled_run_stops_and_leaves_no_checkpoint() {
    let place = Place::new();
    let reward = place.trained_reward("reward");
    let mut progress = Kept {
        cancel_at: Some(30),
        ..Kept::default()
    };
    let mut job = place.ppo(&reward, "ppo");
    job.config.iterations = 1000;
    let error = ppo::run(&job, &mut progress).unwrap_err();
    assert!(matches!(error, TrainerError::Cancelled), "{error}");
    assert!(!job.out.join("checkpoint").exists());
}

/// Item 7 of the checklist.
#[test]
fn ppo_refuses_a_reward_model_with_another_tokenizer() {
    let place = Place::new();
    let reward = place.trained_reward("reward");
    let path = reward.join("tokenizer.json");
    let changed = std::fs::read_to_string(&path).unwrap() + "\n";
    std::fs::write(&path, changed).unwrap();
    let mut progress = Kept::default();
    let job = place.ppo(&reward, "ppo");
    let error = ppo::run(&job, &mut progress).unwrap_err();
    assert!(matches!(&error, TrainerError::Refused(_)), "{error}");
    let refused = ("vocabulary".to_owned(), false);
    assert!(progress.checks().contains(&refused));
    assert!(!job.out.join("checkpoint").exists());
}

/// Item 53: the KL budget.
#[test]
fn ppo_ends_before_it_learns_from_a_batch_beyond_its_kl_budget() {
    let place = Place::new();
    let reward = place.trained_reward("reward");
    let mut job = place.ppo(&reward, "ppo");
    job.config.iterations = 25;
    job.config.kl_budget = 0.01;
    let mut progress = Kept::default();
    let summary = ppo::run(&job, &mut progress).unwrap().summary;
    let n = summary["n_iterations"];
    assert!(n > 0.0 && n < 25.0, "{summary:?}");
    assert!(summary["kl_last_batch"] > 0.01);
    assert_eq!(progress.metric("policy/loss").len() as f64, n);
    assert_eq!(progress.metric("objective/kl").len() as f64, n + 1.0);
}

#[test]
fn ppo_refuses_a_reward_model_with_another_chat_template() {
    let place = Place::new();
    let reward = place.trained_reward("reward");
    let path = reward.join("tokenizer_config.json");
    let changed = std::fs::read_to_string(&path)
        .unwrap()
        .replace("<user> ", "<user>  ");
    std::fs::write(&path, changed).unwrap();
    let mut progress = Kept::default();
    let job = place.ppo(&reward, "ppo");
    let error = ppo::run(&job, &mut progress).unwrap_err();
    assert!(matches!(&error, TrainerError::Refused(_)), "{error}");
    assert!(
        progress
            .checks()
            .contains(&("chat template".to_owned(), false))
    );
    assert!(!job.out.join("checkpoint").exists());
}

#[test]
fn a_folder_that_holds_a_run_is_refused_before_training() {
    let place = Place::new();
    place.trained_reward("reward");
    let mut progress = Kept::default();
    let error = reward::run(&place.reward("reward"), &mut progress).unwrap_err();
    assert!(error.to_string().contains("already"), "{error}");
    assert!(progress.metric("train/loss").is_empty());
}
