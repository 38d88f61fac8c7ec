//! Options of PPO in whole runs: what each changes, when a run ends by itself, and what its folder
//! tells.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[expect(dead_code, reason = "other tests use the rest")]
mod place;
#[expect(dead_code, reason = "other tests use the rest")]
mod tiny;

use std::path::Path;

use place::{Place, weights};
use serde_json::{Value, json};
use tiny::Kept;
use trainer::advantage::AdvantageWhitening;
use trainer::config::{EarlyStop, PpoConfig, Preset};
use trainer::kl::KlEstimator;
use trainer::ppo::{self, Gold, PpoJob};
use trainer::progress::Event;
use trainer::records::Prompt;
use trainer::schedule::Schedule;
use trainer::sft;

fn log(progress: &Kept) -> String {
    let events = progress.events.iter();
    let lines: Vec<&str> = events
        .filter_map(|event| match event {
            Event::Log { message } => Some(message.as_str()),
            _ => None,
        })
        .collect();
    lines.join("\n")
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A run whose policy does not move, so that only draws differ from batch to batch.
fn still(place: &Place, reward: &Path, out: &str, stop: EarlyStop) -> PpoJob {
    let mut job = place.ppo(reward, out);
    job.config = PpoConfig {
        iterations: 12,
        stop,
        ..job.config
    };
    job.config.policy_optimiser.learning_rate = 0.0;
    job
}

/// Item 53: each reason stands in the log, in the summary and on the model card, and nothing is
/// learnt from the batch that shows it.
#[test]
fn a_run_ends_by_itself_and_says_why() {
    let place = Place::new();
    let reward = place.trained_reward("reward");
    let rules = [
        (
            "stopped_by_eos_floor",
            "ended by themselves for 2 iterations running",
            EarlyStop {
                eos_floor: 1.0,
                patience: 2,
                ..EarlyStop::default()
            },
        ),
        (
            "stopped_by_reward_drop",
            "standard deviations below that of the first iteration",
            EarlyStop {
                reward_drop: 1e-6,
                patience: 1,
                ..EarlyStop::default()
            },
        ),
        (
            "stopped_by_spread_floor",
            "the standard deviation of the scores was below",
            EarlyStop {
                spread_floor: 1.0,
                patience: 1,
                ..EarlyStop::default()
            },
        ),
    ];
    for (figure, words, stop) in rules {
        let job = still(&place, &reward, figure, stop);
        let mut progress = Kept::default();
        let made = ppo::run(&job, &mut progress).unwrap();
        let n = made.summary["n_iterations"];
        assert_eq!(made.summary[figure], 1.0, "{:?}", made.summary);
        assert!((1.0..12.0).contains(&n), "{figure}: {n}");
        assert_eq!(progress.metric("policy/loss").len() as f64, n);
        assert_eq!(progress.metric("objective/score").len() as f64, n + 1.0);
        let said = format!("before learning from iteration {}: ", n + 1.0);
        assert!(log(&progress).contains(&said), "{}", log(&progress));
        assert!(log(&progress).contains(words), "{}", log(&progress));
        let card = std::fs::read_to_string(made.checkpoint.join("README.md")).unwrap();
        assert!(card.contains(words), "{card}");
    }
    // The same run without rules goes to its end.
    let job = still(&place, &reward, "none", EarlyStop::default());
    let summary = ppo::run(&job, &mut Kept::default()).unwrap().summary;
    assert_eq!(summary["n_iterations"], 12.0);
    assert!(summary.keys().all(|key| !key.starts_with("stopped_by_")));
}

/// Item 37.
#[test]
fn a_policy_that_waits_for_the_whole_run_is_the_one_it_began_as() {
    let place = Place::new();
    let reward = place.trained_reward("reward");
    let run = |out: &str, waits: usize| {
        let mut job = place.ppo(&reward, out);
        (job.config.iterations, job.config.policy_waits) = (3, waits);
        let mut progress = Kept::default();
        let made = ppo::run(&job, &mut progress).unwrap();
        let counts =
            ["policy/loss", "ptx/loss", "value/loss"].map(|name| progress.metric(name).len());
        (weights(&made.checkpoint), counts)
    };
    let load =
        |path: &Path| candle_core::safetensors::load(path, &candle_core::Device::Cpu).unwrap();
    let (_, counts) = run("two", 2);
    assert_eq!(counts, [1, 1, 3]);
    let (_, counts) = run("all", 3);
    assert_eq!(counts, [0, 0, 3]);
    let base = load(&place.path("base/model.safetensors"));
    let kept = load(&place.path("all/checkpoint/model.safetensors"));
    for (name, tensor) in base {
        let numbers = |tensor: &candle_core::Tensor| -> Vec<f32> {
            tensor.flatten_all().unwrap().to_vec1().unwrap()
        };
        assert_eq!(numbers(&tensor), numbers(&kept[&name]), "{name}");
    }
}

type Change = fn(&mut PpoConfig);

/// Each option changes what is learnt, and the same one gives the same bytes.
#[test]
fn every_option_of_the_update_changes_what_is_learnt() {
    let place = Place::new();
    let reward = place.trained_reward("reward");
    let run = |out: &str, change: &dyn Fn(&mut PpoConfig)| {
        let mut job = place.ppo(&reward, out);
        // So that the KL and the clips have something to do.
        job.config.kl_coefficient = 0.5;
        job.config.inner_epochs = 3;
        job.config.max_new_tokens = 12;
        change(&mut job.config);
        weights(&ppo::run(&job, &mut Kept::default()).unwrap().checkpoint)
    };
    let plain = run("plain", &|_| ());
    let options: [(&str, Change); 12] = [
        ("k2", |config| config.kl_estimator = KlEstimator::K2),
        ("k3", |config| config.kl_estimator = KlEstimator::K3),
        ("kl_clamp", |config| config.kl_clamp = 1e-4),
        ("log_ratio_clamp", |config| config.log_ratio_clamp = 1e-4),
        ("kl_target", |config| config.approximate_kl_target = 1e-6),
        ("reward_clip", |config| config.reward_clip = 1e-3),
        ("whiten_rewards", |config| config.whiten_rewards = true),
        ("off", |config| {
            config.whiten_advantages = AdvantageWhitening::Off;
        }),
        ("minibatch", |config| {
            config.whiten_advantages = AdvantageWhitening::Minibatch;
        }),
        ("truncate_at", |config| {
            config.truncate_at = Some("good".to_owned());
        }),
        ("linear", |config| {
            config.schedule = Schedule::Linear { floor: 0.0 }
        }),
        ("penalty", |config| config.missing_eos_penalty = 0.5),
    ];
    for (name, change) in options {
        assert!(run(name, &change) != plain, "{name} changes nothing");
    }
    assert!(run("k3 again", &options[1].1) == run("k3 once more", &options[1].1));
}

#[test]
fn a_text_that_is_not_one_token_cannot_end_completions() {
    let place = Place::new();
    let reward = place.trained_reward("reward");
    let mut job = place.ppo(&reward, "nowhere");
    job.config.truncate_at = Some("good bad".to_owned());
    let error = ppo::run(&job, &mut Kept::default())
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("setting truncate_at: "), "{error}");
    assert!(error.contains("2 tokens"), "{error}");
    assert!(!job.out.exists());
}

/// Item 25 on what a run tells: what the tokens of an episode are rewarded with adds up.
#[test]
fn some_episodes_are_shown_token_by_token() {
    let place = Place::new();
    let reward = place.trained_reward("reward");
    let mut job = place.ppo(&reward, "ppo");
    job.config = PpoConfig {
        iterations: 5,
        token_samples: 3,
        token_samples_every: 2,
        kl_coefficient: 0.1,
        ..job.config
    };
    job.gold = Some(Gold::Utility(Box::new(|_: &Prompt, text: &str| {
        text.len() as f64
    })));
    ppo::run(&job, &mut Kept::default()).unwrap();
    let samples = std::fs::read_to_string(job.out.join("samples.jsonl")).unwrap();
    let samples: Vec<Value> = samples
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &Value| line["sample"]["kind"] == "tokens")
        .collect();
    let steps: Vec<&Value> = samples.iter().map(|line| &line["step"]).collect();
    assert_eq!(json!(steps), json!([1, 1, 1, 3, 3, 3, 5, 5, 5]));
    for line in &samples {
        let sample = &line["sample"];
        let tokens = sample["tokens"].as_array().unwrap();
        let number = |token: &Value, name: &str| token[name].as_f64().unwrap();
        let sum = |name: &str| tokens.iter().map(|token| number(token, name)).sum::<f64>();
        let (score, kl) = (number(sample, "score"), number(sample, "kl"));
        assert!((sum("kl") - kl).abs() < 1e-9);
        assert!((sum("reward") - (score - 0.1 * kl)).abs() < 1e-9);
        assert_eq!(
            number(sample, "gold"),
            sample["completion"].as_str().unwrap().len() as f64
        );
        let texts: Vec<&str> = tokens
            .iter()
            .map(|one| one["text"].as_str().unwrap())
            .collect();
        let shown = texts.join(" ");
        let words = sample["completion"].as_str().unwrap().split_whitespace();
        assert!(
            words.into_iter().all(|word| shown.contains(word)),
            "{shown}"
        );
        for token in tokens {
            let gap = number(token, "log_prob") - number(token, "reference_log_prob");
            assert!((gap - number(token, "kl")).abs() < 1e-12);
            for name in ["value", "advantage", "return"] {
                assert!(number(token, name).is_finite());
            }
        }
    }
}

/// `config.json` stays what it was; the sources stand beside it.
#[test]
fn a_runs_folder_says_where_each_setting_comes_from() {
    let place = Place::new();
    let reward = place.trained_reward("reward");
    let mut job = place.ppo(&reward, "ppo");
    job.config.clip = 0.3;
    ppo::run(&job, &mut Kept::default()).unwrap();
    let config = read(&job.out.join("config.json"));
    let config: PpoConfig = serde_json::from_value(config).unwrap();
    assert_eq!(config, job.config);
    let beside = read(&job.out.join("config_sources.json"));
    assert_eq!(beside["nearest_preset"], json!(Preset::Tiny));
    let source = |name: &str| beside["sources"][name].as_str().unwrap().to_owned();
    assert_eq!(source("clip"), "chosen for this run");
    assert_eq!(source("gamma"), "InstructGPT C.4: no discount");
    assert!(source("policy_optimiser.epsilon").contains("lm-human-preferences"));
    sft::run(&place.sft("sft"), &mut Kept::default()).unwrap();
    for folder in ["sft", "reward"] {
        let beside = read(&place.path(folder).join("config_sources.json"));
        assert_eq!(beside["nearest_preset"], json!(Preset::Tiny), "{folder}");
    }
}

/// With a second opinion that falls as the reward model's rises, a run says where it should have
/// ended.
#[test]
fn a_run_with_a_second_opinion_says_how_far_it_paid_to_optimise() {
    let place = Place::new();
    let reward = place.trained_reward("reward");
    let mut job = place.ppo(&reward, "ppo");
    job.config.iterations = 12;
    job.config.batch_episodes = 32;
    job.config.kl_budget = 1e3;
    job.config.kl_coefficient = 0.0;
    // Some of the word that the reward model likes, but not too much of it.
    let gold = |_: &Prompt, text: &str| {
        let n = text
            .split_whitespace()
            .filter(|word| *word == "good")
            .count() as f64;
        4.0 * n - 0.5 * n * n
    };
    job.gold = Some(Gold::Utility(Box::new(gold)));
    let mut progress = Kept::default();
    let summary = ppo::run(&job, &mut progress).unwrap().summary;
    let (alpha, beta) = (summary["gold_alpha"], summary["gold_beta"]);
    // Too much of the word costs, and the run comes so far.
    let gold = progress.metric("objective/gold");
    let highest = gold.iter().copied().fold(f64::MIN, f64::max);
    assert!(highest > gold[0] + 0.1, "{gold:?}");
    assert!(summary["gold_fit_r_squared"] > 0.3, "{summary:?}");
    let told = log(&progress);
    assert!(
        told.contains("by the second opinion the gain follows d ("),
        "{told}"
    );
    match summary.get("gold_peak_root_kl") {
        Some(distance) => assert!((distance - (alpha / beta - 1.0).exp()).abs() < 1e-9 * distance),
        None => assert!(told.contains("it has no peak"), "{told}"),
    }
    assert_eq!(progress.metric("objective/gold_std").len(), 12);
}
