//! Where each setting's value comes from: one table, read by the command line, the run's folder and
//! its page. A test holds it against the settings, so none can be without a source.

mod table;

use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value, json};

use self::table::{DPO, PPO, REWARD, Row, SFT};
use super::{DpoConfig, PpoConfig, Preset, RewardConfig, SftConfig};
use crate::disk;
use crate::error::{AtPath, Result};

/// What a run trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// [`SftConfig`].
    Sft,
    /// [`RewardConfig`].
    Reward,
    /// [`PpoConfig`].
    Ppo,
    /// [`DpoConfig`].
    Dpo,
}

/// A setting, its value and why it has that value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Setting {
    /// Its path, as `--set` takes it.
    pub setting: String,
    /// Its value.
    pub value: Value,
    /// Where the value comes from.
    pub source: &'static str,
    /// Whether it is another than the preset's.
    pub is_changed: bool,
}

/// The source of a value that is another than the preset's.
const CHANGED: &str = "chosen for this run";

/// The source of a setting that the table does not know: those of a later version.
const UNKNOWN: &str = "not known to this version";

/// File in a run's folder.
const FILE: &str = "config_sources.json";

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Sft, Self::Reward, Self::Ppo, Self::Dpo];

    /// The presets that define it.
    pub fn presets(self) -> impl Iterator<Item = Preset> {
        Preset::ALL
            .into_iter()
            .filter(move |preset| preset.defines(self))
    }

    fn table(self) -> &'static [Row] {
        match self {
            Self::Sft => SFT,
            Self::Reward => REWARD,
            Self::Ppo => PPO,
            Self::Dpo => DPO,
        }
    }

    fn preset(self, preset: Preset) -> Value {
        let value = match self {
            Self::Sft => serde_json::to_value(SftConfig::preset(preset)),
            Self::Reward => serde_json::to_value(RewardConfig::preset(preset)),
            Self::Ppo => serde_json::to_value(PpoConfig::preset(preset)),
            Self::Dpo => serde_json::to_value(DpoConfig::preset(preset)),
        };
        value.unwrap_or_default()
    }
}

/// Where a preset has a setting's value from; none for a setting that does not exist.
pub fn source(kind: Kind, preset: Preset, setting: &str) -> Option<&'static str> {
    let row = kind.table().iter().find(|row| row.setting == setting)?;
    let of = |preset| flat(&kind.preset(preset)).remove(setting);
    let is_small = matches!(preset, Preset::Tiny | Preset::Demo);
    Some(match is_small && of(preset) == of(Preset::Instructgpt) {
        true => row.source(Preset::Instructgpt),
        false => row.source(preset),
    })
}

/// Every setting of a resolved config, in its order.
pub fn settings(kind: Kind, preset: Preset, config: &Value) -> Vec<Setting> {
    let usual = flat(&kind.preset(preset));
    flat(config)
        .into_iter()
        .map(|(setting, value)| {
            let is_changed = usual.get(&setting) != Some(&value);
            let source = match is_changed {
                true => CHANGED,
                false => source(kind, preset, &setting).unwrap_or(UNKNOWN),
            };
            Setting {
                setting,
                value,
                source,
                is_changed,
            }
        })
        .collect()
}

/// The preset that a resolved config has most values of, for a run that was not told.
pub fn nearest_preset(kind: Kind, config: &Value) -> Preset {
    let n_equal = |preset: &Preset| {
        let found = settings(kind, *preset, config);
        found.iter().filter(|one| !one.is_changed).count()
    };
    // Of equals the last is the largest; the paper's comes before those named after other work.
    let candidates = kind.presets().collect::<Vec<_>>().into_iter().rev();
    candidates
        .max_by_key(n_equal)
        .unwrap_or(Preset::Instructgpt)
}

/// Leaves by path. What has a `kind` is one setting: its other fields mean nothing without it.
fn flat(config: &Value) -> Map<String, Value> {
    fn visit(path: &str, value: &Value, into: &mut Map<String, Value>) {
        match value.as_object() {
            Some(fields) if !fields.contains_key("kind") => {
                for (name, value) in fields {
                    let path = match path {
                        "" => name.clone(),
                        path => format!("{path}.{name}"),
                    };
                    visit(&path, value, into);
                }
            }
            _ => {
                into.insert(path.to_owned(), value.clone());
            }
        }
    }
    let mut all = Map::new();
    visit("", config, &mut all);
    all
}

/// Writes `config_sources.json` beside `config.json`.
///
/// # Errors
/// When the folder cannot be written.
pub(crate) fn write(folder: &Path, kind: Kind, config: &impl Serialize) -> Result<()> {
    let path = folder.join(FILE);
    let config = serde_json::to_value(config)
        .map_err(std::io::Error::from)
        .at(&path)?;
    let preset = nearest_preset(kind, &config);
    disk::write(
        &path,
        text(kind, "nearest_preset", preset, &config).as_bytes(),
    )
}

/// Writes it again for a run whose preset is known: as `preset`, where a run that was not told has the
/// `nearest_preset`. Where there is none, there is no run.
///
/// # Errors
/// When the folder cannot be written.
pub fn name_preset(folder: &Path, kind: Kind, preset: Preset, config: &Value) -> Result<()> {
    let path = folder.join(FILE);
    if !path.is_file() {
        return Ok(());
    }
    disk::write(&path, text(kind, "preset", preset, config).as_bytes())
}

fn text(kind: Kind, word: &str, preset: Preset, config: &Value) -> String {
    let sources: Map<String, Value> = settings(kind, preset, config)
        .into_iter()
        .map(|one| (one.setting, one.source.into()))
        .collect();
    let told = json!({word: preset, "sources": sources});
    format!("{told:#}\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A value that differs from the paper's cannot have the paper's source, and one of the small
    /// presets that does not differ has it.
    #[test]
    fn every_setting_of_every_preset_has_a_source_of_its_own() {
        for kind in Kind::ALL {
            let papers = flat(&kind.preset(Preset::Instructgpt));
            for preset in kind.presets() {
                for (setting, value) in flat(&kind.preset(preset)) {
                    let of = |preset| source(kind, preset, &setting);
                    let own = of(preset).unwrap_or_else(|| panic!("{kind:?} {setting}: none"));
                    assert!(!own.is_empty(), "{kind:?} {setting}");
                    let is_papers = papers.get(&setting) == Some(&value);
                    let has_papers_source = Some(own) == of(Preset::Instructgpt);
                    let is_small = matches!(preset, Preset::Tiny | Preset::Demo);
                    let is_right = match is_papers {
                        true => has_papers_source || !is_small,
                        false => !has_papers_source,
                    };
                    assert!(
                        is_right,
                        "{kind:?} {setting}: {} has {value} from {own}",
                        preset.as_str()
                    );
                }
            }
        }
    }

    #[test]
    fn the_table_has_each_setting_once_and_no_other() {
        for kind in Kind::ALL {
            let config = flat(&kind.preset(Preset::Tiny));
            let rows: BTreeSet<&str> = kind.table().iter().map(|row| row.setting).collect();
            assert_eq!(rows.len(), kind.table().len(), "{kind:?}");
            let settings: BTreeSet<&str> = config.keys().map(String::as_str).collect();
            assert_eq!(rows, settings, "{kind:?}");
        }
    }

    #[test]
    fn a_changed_setting_is_told_and_the_preset_is_found_again() {
        for kind in Kind::ALL {
            for preset in kind.presets() {
                let mut config = kind.preset(preset);
                config["seed"] = json!(77);
                assert_eq!(nearest_preset(kind, &config), preset, "{kind:?}");
                for one in settings(kind, preset, &config) {
                    assert_eq!(one.is_changed, one.setting == "seed", "{one:?}");
                    assert_eq!(one.source == CHANGED, one.is_changed, "{one:?}");
                }
            }
        }
    }

    #[test]
    fn the_preset_that_was_chosen_is_named_whatever_is_nearest() {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let config = Kind::Sft.preset(Preset::Tiny);
        let read = || -> Value {
            let text = std::fs::read(folder.path().join(FILE)).unwrap_or_default();
            serde_json::from_slice(&text).unwrap_or_default()
        };
        let name = |preset| name_preset(folder.path(), Kind::Sft, preset, &config);
        assert!(
            name(Preset::Demo).is_ok() && read().is_null(),
            "no run is there"
        );
        assert!(write(folder.path(), Kind::Sft, &config).is_ok());
        assert_eq!(read()["nearest_preset"], json!(Preset::Tiny));
        assert!(name(Preset::Demo).is_ok());
        assert_eq!(read()["preset"], json!(Preset::Demo));
        assert_eq!(read().get("nearest_preset"), None);
        let changed = settings(Kind::Sft, Preset::Demo, &config);
        let changed = changed.iter().find(|one| one.is_changed);
        let changed = changed.map(|one| one.setting.as_str()).unwrap_or_default();
        assert_eq!(read()["sources"][changed], CHANGED);
    }

    #[test]
    fn a_setting_with_a_kind_is_one_setting() {
        let config = json!({"a": {"b": 1, "c": {"kind": "x", "y": 2}}, "d": null});
        let flat = flat(&config);
        assert_eq!(flat["a.b"], 1);
        assert_eq!(flat["a.c"], json!({"kind": "x", "y": 2}));
        assert_eq!(flat.len(), 3);
    }
}
