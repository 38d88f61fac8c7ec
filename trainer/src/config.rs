//! Every setting of a run, and the presets. A constant that InstructGPT (arXiv 2203.02155) prints
//! says where; one that it does not print says "not printed" and whose it is.

mod dpo;
mod early_stop;
mod ppo;
mod preset;
mod reward;
mod sft;
pub mod sources;

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::Serialize;

pub use self::dpo::DpoConfig;
pub use self::early_stop::EarlyStop;
pub use self::ppo::{KeepPolicy, MissingEos, PpoConfig};
pub use self::preset::Preset;
pub use self::reward::RewardConfig;
pub use self::sft::{Keep, Learn, SftConfig};
use crate::error::{Result, TrainerError};
pub use crate::model::ensemble::EnsembleScore;
pub use crate::model::lora::{LoraConfig, LoraTarget};
use crate::model::weights::Trainable;
use crate::optim::{AdamConfig, EpsilonPlacement};
use crate::schedule::Schedule;

/// Adam as InstructGPT has it (appendix C: betas 0.9 and 0.95); epsilon, decay and clipping are
/// not printed, see [`AdamConfig`].
fn adam(learning_rate: f64) -> AdamConfig {
    AdamConfig {
        learning_rate,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-5,
        epsilon_placement: EpsilonPlacement::Torch,
        weight_decay: 0.0,
        max_grad_norm: 1.0,
    }
}

/// AdamW as summarize_from_feedback_details has it (arXiv 2403.17031: epsilon 1e-5): the betas and the
/// decay that torch has by itself, and no clipping.
fn torch_adamw(learning_rate: f64) -> AdamConfig {
    AdamConfig {
        beta2: 0.999,
        weight_decay: 0.01,
        max_grad_norm: 0.0,
        ..adam(learning_rate)
    }
}

/// Adam as lm-human-preferences has it: TensorFlow's, with an epsilon of 1e-5, and no clipping.
fn tensorflow_adam(learning_rate: f64) -> AdamConfig {
    AdamConfig {
        beta2: 0.999,
        epsilon_placement: EpsilonPlacement::Tensorflow,
        max_grad_norm: 0.0,
        ..adam(learning_rate)
    }
}

fn trainable(layers: Option<usize>) -> Trainable {
    layers.map_or(Trainable::Everything, Trainable::UpperLayers)
}

fn in_range(field: impl Into<Cow<'static, str>>, value: f64, low: f64, high: f64) -> Result<()> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(TrainerError::Config {
        field: field.into(),
        message: format!("is {value}; it must be {low} to {high}"),
    })
}

/// Checks an optimiser that is the setting `name`.
fn check_adam(name: &str, adam: &AdamConfig) -> Result<()> {
    for (field, value, low, high) in [
        ("learning_rate", adam.learning_rate, 0.0, 1.0),
        ("beta1", adam.beta1, 0.0, 0.999_999),
        ("beta2", adam.beta2, 0.0, 0.999_999),
        // Without it, a parameter whose gradient is 0 so far would move by 0 / 0.
        ("epsilon", adam.epsilon, 1e-12, 1.0),
        ("weight_decay", adam.weight_decay, 0.0, 1.0),
        ("max_grad_norm", adam.max_grad_norm, 0.0, 1e9),
    ] {
        in_range(format!("{name}.{field}"), value, low, high)?;
    }
    Ok(())
}

/// Checks the shape of an adapter, where there is one.
pub(crate) fn check_lora(lora: Option<&LoraConfig>) -> Result<()> {
    let Some(lora) = lora else {
        return Ok(());
    };
    in_range("lora.rank", lora.rank as f64, 1.0, 4096.0)?;
    in_range("lora.alpha", lora.alpha, 1e-6, 1e6)?;
    let different: BTreeSet<LoraTarget> = lora.targets.iter().copied().collect();
    if different.is_empty() || different.len() < lora.targets.len() {
        return Err(TrainerError::Config {
            field: "lora.targets".into(),
            message: "names nothing, or something twice".to_owned(),
        });
    }
    Ok(())
}

/// Checks a limit on memory and sizes of micro-batches.
fn check_memory(limit_gib: Option<f64>, sizes: &[(&'static str, Option<usize>)]) -> Result<()> {
    if let Some(limit) = limit_gib {
        in_range("memory_limit_gib", limit, 1e-3, 1e6)?;
    }
    for (name, size) in sizes {
        if let Some(size) = size {
            in_range(*name, *size as f64, 1.0, 1e5)?;
        }
    }
    Ok(())
}

/// Checks a schedule that is the setting `name`.
fn check_schedule(name: &str, schedule: &Schedule) -> Result<()> {
    match schedule {
        Schedule::Cosine { floor } | Schedule::Linear { floor } => {
            in_range(format!("{name}.floor"), *floor, 0.0, 1.0)
        }
        Schedule::Constant { from, .. } => in_range(format!("{name}.from"), *from, 0.0, 1.0),
    }
}

/// Overlays settings given as JSON on a preset's; an unknown setting is an error.
///
/// # Errors
/// Names the setting.
pub fn overlay<C: Serialize + serde::de::DeserializeOwned>(
    preset: &C,
    changes: &serde_json::Value,
) -> Result<C> {
    let mut value = serde_json::to_value(preset).map_err(|error| TrainerError::Config {
        field: "config".into(),
        message: error.to_string(),
    })?;
    merge(&mut value, changes);
    serde_path_to_error::deserialize(value).map_err(|error| TrainerError::Config {
        field: error.path().to_string().into(),
        message: error.inner().to_string(),
    })
}

/// Objects are merged by key; one that names another `kind` is replaced whole, since its other
/// fields belong to that kind. A null says that an optional setting is off.
fn merge(into: &mut serde_json::Value, changes: &serde_json::Value) {
    match (into, changes) {
        (serde_json::Value::Object(into), serde_json::Value::Object(changes))
            if changes
                .get("kind")
                .is_none_or(|kind| into.get("kind") == Some(kind)) =>
        {
            for (key, change) in changes {
                merge(
                    into.entry(key.clone()).or_insert(serde_json::Value::Null),
                    change,
                );
            }
        }
        (into, change) => *into = change.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_keeps_the_rest_of_the_preset_and_an_unknown_setting_is_named() {
        let preset = PpoConfig::preset(Preset::Tiny);
        let changed = overlay(
            &preset,
            &json!({"iterations": 7, "policy_optimiser": {"learning_rate": 0.5}}),
        );
        let changed = changed.expect("known settings");
        assert_eq!(
            (changed.iterations, changed.policy_optimiser.learning_rate),
            (7, 0.5)
        );
        assert_eq!(
            changed.policy_optimiser.beta2,
            preset.policy_optimiser.beta2
        );
        let changed = overlay(
            &PpoConfig::preset(Preset::Demo),
            &json!({"train_layers": null, "schedule": {"kind": "cosine", "floor": 0.2}}),
        );
        let changed = changed.expect("known settings");
        assert_eq!(changed.train_layers, None);
        assert_eq!(changed.schedule, Schedule::Cosine { floor: 0.2 });
        let error = overlay(&preset, &json!({"iterations": "ten"})).expect_err("no number");
        assert!(error.to_string().contains("iterations"), "{error}");
        let error = overlay(&preset, &json!({"learning_rate": 1})).expect_err("unknown");
        assert!(error.to_string().contains("learning_rate"), "{error}");
    }

    #[test]
    fn a_setting_that_would_break_the_arithmetic_is_refused_by_name() {
        for (change, field) in [
            (json!({"value_clip": -0.1}), "value_clip"),
            (json!({"ptx_tokens": 0}), "ptx_tokens"),
            (json!({"micro_rows": 0}), "micro_rows"),
            (json!({"samples_per_prompt": 0}), "samples_per_prompt"),
            (json!({"samples_per_prompt": 16}), "samples_per_prompt"),
            (json!({"samples_per_prompt": 3}), "samples_per_prompt"),
            (json!({"lora": {"rank": 0}}), "lora.rank"),
            (json!({"lora": {"alpha": 0}}), "lora.alpha"),
            (json!({"lora": {"targets": []}}), "lora.targets"),
            (
                json!({"ensemble": {"kind": "uncertainty", "weight": -1}}),
                "ensemble.weight",
            ),
            (json!({"memory_limit_gib": -1}), "memory_limit_gib"),
            (
                json!({"policy_optimiser": {"beta2": 1}}),
                "policy_optimiser.beta2",
            ),
            (
                json!({"value_optimiser": {"epsilon": 0}}),
                "value_optimiser.epsilon",
            ),
            (
                json!({"value_optimiser": {"learning_rate": -1}}),
                "value_optimiser.learning_rate",
            ),
            (json!({"truncate_at": ""}), "truncate_at"),
            (json!({"policy_waits": 1000}), "policy_waits"),
            (json!({"stop": {"eos_floor": 2}}), "stop.eos_floor"),
            (
                json!({"stop": {"reward_drop": 1, "patience": 0}}),
                "stop.patience",
            ),
            (
                json!({"kl_control": {"kind": "adaptive", "target": 0, "horizon": 1}}),
                "kl_control.target",
            ),
            (
                json!({"kl_control": {"kind": "adaptive", "target": 6, "horizon": 1.6}}),
                "kl_control.horizon",
            ),
            (
                json!({
                    "kl_coefficient": 0,
                    "kl_control": {"kind": "adaptive", "target": 6, "horizon": 1000}
                }),
                "kl_coefficient",
            ),
            (
                json!({"keep": "best_gold", "evaluation_prompts": 0}),
                "keep",
            ),
            (
                json!({"value_schedule": {"kind": "linear", "floor": 2}}),
                "value_schedule.floor",
            ),
        ] {
            let config = overlay(&PpoConfig::preset(Preset::Tiny), &change).expect("known");
            let error = config.check().expect_err("out of range").to_string();
            assert!(error.contains(field), "{error}");
        }
    }

    #[test]
    fn every_preset_is_within_its_ranges() {
        for preset in Preset::ALL {
            SftConfig::preset(preset).check().expect("sft");
            RewardConfig::preset(preset).check().expect("reward");
            PpoConfig::preset(preset).check().expect("ppo");
            DpoConfig::preset(preset).check().expect("dpo");
        }
    }

    /// Item 5 of the checklist.
    #[test]
    fn a_missing_eos_replaces_the_score_or_is_taken_off_it() {
        assert_eq!(MissingEos::Replace.apply(3.0, 1.0), -1.0);
        assert_eq!(MissingEos::Subtract.apply(3.0, 1.0), 2.0);
    }

    /// Items 28, 29, 31, 34, 38, 39 and 40 of the checklist.
    #[test]
    fn the_other_presets_hold_the_constants_of_their_sources() {
        let tensorflow = crate::optim::EpsilonPlacement::Tensorflow;
        let style = PpoConfig::preset(Preset::LmHumanPreferences);
        let posts = PpoConfig::preset(Preset::Summarize);
        let batches = (style.batch_episodes, style.minibatches, style.inner_epochs);
        assert_eq!(batches, (512, 1, 4));
        assert_eq!((style.max_prompt_tokens, style.max_new_tokens), (64, 24));
        assert_eq!((style.kl_coefficient, style.temperature), (0.15, 0.7));
        // 1,000,000 episodes: there rounded up, for summaries down.
        assert_eq!((style.iterations, posts.iterations), (1954, 1953));
        let control = crate::kl::KlControl::Adaptive {
            target: 6.0,
            horizon: 10_000.0,
        };
        assert_eq!(style.kl_control, control);
        assert_eq!(
            (style.truncate_at.as_deref(), style.truncate_after),
            (Some("."), 16)
        );
        assert_eq!(
            style.missing_eos.apply(3.0, style.missing_eos_penalty),
            -1.0
        );
        assert!(style.whiten_rewards);
        let minibatch = crate::advantage::AdvantageWhitening::Minibatch;
        assert_eq!(style.whiten_advantages, minibatch);
        assert_eq!(style.schedule, Schedule::Linear { floor: 0.0 });
        let adam = &style.policy_optimiser;
        assert_eq!((adam.learning_rate, adam.epsilon), (1e-5, 1e-5));
        assert_eq!(
            (adam.epsilon_placement, adam.max_grad_norm),
            (tensorflow, 0.0)
        );
        let judge = RewardConfig::preset(Preset::LmHumanPreferences);
        assert_eq!(
            (judge.batch_prompts, judge.optimiser.learning_rate),
            (32, 5e-5)
        );
        let rates = (judge.epochs, judge.max_tokens, &judge.schedule);
        assert_eq!(rates, (1, 89, &Schedule::Linear { floor: 0.0 }));

        let batches = (posts.batch_episodes, posts.minibatches, posts.inner_epochs);
        assert_eq!(batches, (512, 1, 4));
        assert_eq!((posts.max_prompt_tokens, posts.max_new_tokens), (512, 53));
        assert_eq!((posts.kl_coefficient, posts.temperature), (0.05, 0.7));
        assert_eq!(posts.kl_control, crate::kl::KlControl::Fixed);
        assert_eq!(
            (posts.clip, posts.value_clip, posts.lambda),
            (0.2, 0.2, 0.95)
        );
        assert!(!posts.whiten_rewards);
        let adam = &posts.policy_optimiser;
        assert_eq!((adam.learning_rate, adam.weight_decay), (3e-6, 0.01));
        let torch = crate::optim::EpsilonPlacement::Torch;
        assert_eq!((adam.epsilon_placement, adam.max_grad_norm), (torch, 0.0));
        assert_eq!(
            posts.missing_eos.apply(3.0, posts.missing_eos_penalty),
            -1.0
        );
        assert_eq!(posts.schedule, Schedule::Linear { floor: 0.0 });
        let judge = RewardConfig::preset(Preset::Summarize);
        assert_eq!((judge.epochs, judge.batch_prompts), (1, 64));
        assert_eq!(
            (judge.optimiser.learning_rate, judge.max_tokens),
            (3e-6, 638)
        );
        assert_eq!(judge.schedule, Schedule::Cosine { floor: 0.0 });
        let tuned = SftConfig::preset(Preset::Summarize);
        assert_eq!(
            (tuned.epochs, tuned.batch_size, tuned.dropout),
            (1, 128, 0.0)
        );
        assert_eq!(
            (tuned.optimiser.learning_rate, tuned.max_tokens),
            (3e-6, 562)
        );
        assert_eq!(tuned.schedule, Schedule::Cosine { floor: 0.0 });
        for config in [style, posts] {
            assert_eq!((config.ptx_coefficient, config.ema_decay), (0.0, 0.0));
            assert_eq!((config.gamma, config.lambda), (1.0, 0.95));
            assert_eq!((config.clip, config.value_clip), (0.2, 0.2));
            assert_eq!(config.value_schedule, None);
            let optimisers = [&config.policy_optimiser, &config.value_optimiser];
            for adam in optimisers {
                assert_eq!((adam.beta1, adam.beta2, adam.epsilon), (0.9, 0.999, 1e-5));
            }
        }
    }

    /// As a run before these settings wrote them.
    #[test]
    fn settings_of_an_older_run_of_ppo_mean_what_they_meant() {
        let mut old = serde_json::to_value(PpoConfig::preset(Preset::Tiny)).expect("a config");
        for newer in [
            "lora",
            "ensemble",
            "kl_estimator",
            "kl_clamp",
            "log_ratio_clamp",
            "approximate_kl_target",
            "reward_clip",
            "whiten_rewards",
            "whiten_advantages",
            "truncate_at",
            "truncate_after",
            "policy_waits",
            "samples_per_prompt",
            "value_schedule",
            "keep",
            "keep_every",
            "stop",
            "token_samples",
            "token_samples_every",
        ] {
            assert!(old.as_object_mut().expect("fields").remove(newer).is_some());
        }
        let read: PpoConfig = serde_json::from_value(old).expect("an older config");
        read.check().expect("in range");
        let batch = crate::advantage::AdvantageWhitening::Batch;
        assert_eq!(read.whiten_advantages, batch);
        assert_eq!(read.stop, EarlyStop::default());
        assert_eq!((read.policy_waits, read.token_samples_every), (0, 0));
        assert_eq!(read.samples_per_prompt, 1);
    }

    /// Items 17, 29, 38, 39, 40 and 43.
    #[test]
    fn the_instructgpt_preset_holds_the_papers_constants() {
        let reward = RewardConfig::preset(Preset::Instructgpt);
        assert_eq!((reward.epochs, reward.batch_prompts), (1, 64));
        assert_eq!(reward.optimiser.learning_rate, 9e-6);
        assert_eq!(reward.schedule, Schedule::Cosine { floor: 0.1 });
        let ppo = PpoConfig::preset(Preset::Instructgpt);
        let batches = (ppo.batch_episodes, ppo.minibatches, ppo.inner_epochs);
        assert_eq!(batches, (512, 8, 1));
        assert_eq!((ppo.kl_coefficient, ppo.clip), (0.02, 0.2));
        assert_eq!((ppo.temperature, ppo.gamma), (1.0, 1.0));
        assert_eq!(ppo.kl_control, crate::kl::KlControl::Fixed);
        assert_eq!(ppo.ptx_coefficient, 27.8);
        assert_eq!((ppo.ptx_examples_per_episode, ppo.ema_decay), (8.0, 0.992));
        let warmup = Schedule::Constant {
            warmup: 10,
            from: 0.1,
        };
        assert_eq!(ppo.schedule, warmup);
        let fixed = ppo.value_schedule.expect("a schedule of its own");
        assert!([0, 9, 499].map(|step| fixed.factor(step, 500)) == [1.0; 3]);
        assert_eq!(
            (ppo.iterations, ppo.lambda, ppo.value_clip),
            (500, 0.95, 0.2)
        );
        assert_eq!((ppo.max_prompt_tokens, ppo.max_new_tokens), (1000, 1000));
        assert_eq!(ppo.policy_optimiser.learning_rate, 8e-6);
        assert_eq!(ppo.value_optimiser.learning_rate, 9e-6);
        for adam in [&ppo.policy_optimiser, &ppo.value_optimiser] {
            assert_eq!((adam.beta1, adam.beta2, adam.epsilon), (0.9, 0.95, 1e-5));
            assert_eq!((adam.weight_decay, adam.max_grad_norm), (0.0, 1.0));
        }
    }
}
