//! The settings of each kind of run, and the presets they start from.
//!
//! Each recipe is a table: one row for each setting, with what it means, its unit, its value in each preset, and where
//! the value of the `instructgpt` preset comes from. The same rows make the struct, the defaults and the help of the
//! form, so that they can't drift apart. "paper" is arXiv 2203.02155; "not printed" marks what the paper leaves open,
//! with the source that is used instead.

mod generate;
mod ppo;
mod reward;
mod sft;

use std::path::PathBuf;
use std::str::FromStr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use generate::GenerateConfig;
pub use ppo::{MissingEos, PpoConfig};
pub use reward::RewardConfig;
pub use sft::SftConfig;

use crate::error::{Result, TrainerError};

/// A complete set of defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Seconds on the tiny checkpoint of the tests.
    Tiny,
    /// SmolLM2-135M on two CPU cores in minutes, by training only the upper layers.
    Demo,
    /// The paper's constants; for a large model on an accelerator.
    Instructgpt,
}

impl Preset {
    /// Every preset, smallest first.
    pub const ALL: [Self; 3] = [Self::Tiny, Self::Demo, Self::Instructgpt];

    /// Its name in files, flags and forms.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tiny => "tiny",
            Self::Demo => "demo",
            Self::Instructgpt => "instructgpt",
        }
    }
}

impl FromStr for Preset {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        let found = Self::ALL.into_iter().find(|preset| preset.name() == name);
        found.ok_or_else(|| format!("unknown preset `{name}`: choose tiny, demo or instructgpt"))
    }
}

/// What is known about one setting, for help texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Its name in files and flags.
    pub name: &'static str,
    /// What it does.
    pub meaning: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// Where the value of the `instructgpt` preset comes from.
    pub source: &'static str,
}

/// The settings of one kind of run.
pub trait Recipe: Serialize + DeserializeOwned {
    /// The defaults of `preset`.
    fn preset(preset: Preset) -> Self;

    /// What each setting means, in the order of the struct.
    fn settings() -> &'static [Setting];

    /// Looks for values that can't work.
    ///
    /// # Errors
    /// The name of the first such setting and what is wrong with it.
    fn check(&self) -> std::result::Result<(), (&'static str, &'static str)>;

    /// The defaults of `preset` with `changes` on top.
    ///
    /// # Errors
    /// A change to a setting that does not exist, or to a value that can't work.
    fn resolve(preset: Preset, changes: &Map<String, Value>) -> Result<Self> {
        let mut settings = serde_json::to_value(Self::preset(preset)).unwrap_or_default();
        for (name, value) in changes {
            let Some(place) = settings.get_mut(name) else {
                let known: Vec<&str> = Self::settings()
                    .iter()
                    .map(|setting| setting.name)
                    .collect();
                return Err(setting_error(
                    name,
                    &format!("there is no such setting; there are {}", known.join(", ")),
                ));
            };
            let previous = std::mem::replace(place, value.clone());
            if let Err(error) = serde_json::from_value::<Self>(settings.clone()) {
                return Err(setting_error(
                    name,
                    &format!("can't be {value} (the default is {previous}): {error}"),
                ));
            }
        }
        let recipe: Self = serde_json::from_value(settings)
            .map_err(|error| setting_error("", &error.to_string()))?;
        recipe
            .check()
            .map_err(|(name, message)| setting_error(name, message))?;
        Ok(recipe)
    }
}

fn setting_error(field: &str, message: &str) -> TrainerError {
    TrainerError::Input {
        file: PathBuf::from("settings"),
        line: 0,
        field: field.to_owned(),
        message: message.to_owned(),
    }
}

/// Turns a table of settings into a struct with documentation, presets and help texts. A row reads
/// `name: type = [tiny, demo, instructgpt], "unit", "source of the last value";`.
macro_rules! recipe {
    (
        $(#[$attribute:meta])*
        $recipe:ident {
            $($(#[doc = $meaning:literal])+
            $name:ident: $type:ty = [$tiny:expr, $demo:expr, $paper:expr], $unit:literal, $source:literal;)+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $recipe {
            $(
                $(#[doc = $meaning])+
                #[doc = ""]
                #[doc = concat!("Unit: ", $unit, ". Presets: tiny ", stringify!($tiny), ", demo ", stringify!($demo),
                    ", instructgpt ", stringify!($paper), " (", $source, ").")]
                pub $name: $type,
            )+
        }

        impl $recipe {
            const SETTINGS: &'static [$crate::config::Setting] = &[$(
                $crate::config::Setting {
                    name: stringify!($name),
                    meaning: concat!($($meaning),+),
                    unit: $unit,
                    source: $source,
                },
            )+];

            fn defaults(preset: $crate::config::Preset) -> Self {
                match preset {
                    $crate::config::Preset::Tiny => Self { $($name: $tiny),+ },
                    $crate::config::Preset::Demo => Self { $($name: $demo),+ },
                    $crate::config::Preset::Instructgpt => Self { $($name: $paper),+ },
                }
            }
        }
    };
}
pub(crate) use recipe;

/// Names the first setting whose rule does not hold.
pub(crate) fn first_broken_rule(
    rules: &[(&'static str, bool, &'static str)],
) -> std::result::Result<(), (&'static str, &'static str)> {
    match rules.iter().find(|(_, holds, _)| !holds) {
        Some((name, _, message)) => Err((name, message)),
        None => Ok(()),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use serde_json::json;

    use super::*;

    fn changes(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn every_preset_is_sound<R: Recipe>() {
        for preset in Preset::ALL {
            R::preset(preset).check().unwrap();
            let settings = serde_json::to_value(R::preset(preset)).unwrap();
            let names: Vec<&str> = settings
                .as_object()
                .unwrap()
                .keys()
                .map(String::as_str)
                .collect();
            assert_eq!(
                names,
                R::settings()
                    .iter()
                    .map(|setting| setting.name)
                    .collect::<Vec<_>>()
            );
            assert_eq!(Preset::from_str(preset.name()), Ok(preset));
        }
        assert!(
            R::settings()
                .iter()
                .all(|setting| !setting.source.is_empty() && !setting.unit.is_empty())
        );
    }

    #[test]
    fn every_preset_of_every_recipe_passes_its_own_check() {
        every_preset_is_sound::<SftConfig>();
        every_preset_is_sound::<RewardConfig>();
        every_preset_is_sound::<PpoConfig>();
        every_preset_is_sound::<GenerateConfig>();
    }

    #[test]
    fn a_change_goes_on_top_of_the_preset() {
        let config =
            RewardConfig::resolve(Preset::Instructgpt, &changes(json!({"epochs": 2}))).unwrap();
        assert_eq!((config.epochs, config.batch_prompts), (2, 64));
    }

    #[test]
    fn an_unknown_setting_is_named() {
        let error =
            PpoConfig::resolve(Preset::Tiny, &changes(json!({"learning_speed": 1}))).unwrap_err();
        assert!(error.to_string().contains("learning_speed"), "{error}");
    }

    #[test]
    fn a_value_of_the_wrong_type_is_named_with_the_default() {
        let error =
            SftConfig::resolve(Preset::Demo, &changes(json!({"epochs": "many"}))).unwrap_err();
        assert!(
            error.to_string().contains("epochs") && error.to_string().contains("many"),
            "{error}"
        );
    }

    #[test]
    fn a_value_that_can_not_work_is_named() {
        let error =
            PpoConfig::resolve(Preset::Tiny, &changes(json!({"temperature": 0.0}))).unwrap_err();
        assert!(error.to_string().contains("temperature"), "{error}");
    }

    #[test]
    fn the_instructgpt_preset_has_the_constants_of_the_paper() {
        let ppo = PpoConfig::preset(Preset::Instructgpt);
        assert_eq!(
            (
                ppo.rollouts_per_iteration,
                ppo.minibatches,
                ppo.inner_epochs,
                ppo.episodes
            ),
            (512, 8, 1, 256_000)
        );
        assert_eq!(
            (ppo.kl_coefficient, ppo.ptx_coefficient, ppo.average_decay),
            (0.02, 27.8, 0.992)
        );
        let reward = RewardConfig::preset(Preset::Instructgpt);
        assert_eq!(
            (reward.learning_rate, reward.decay_floor, reward.epochs),
            (9e-6, 0.1, 1)
        );
        assert_eq!((reward.beta1, reward.beta2), (0.9, 0.95));
    }
}
