//! The settings of a run's page: each with its value and where that comes from.

use serde_json::Value;
use trainer::config::Preset;
use trainer::config::sources::{nearest_preset, settings};

use crate::domain::run::RunKind;
use crate::store::runs::Run;
use crate::web::page::Page;

/// A setting.
pub struct SettingRow {
    /// Its path.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Where the value comes from; empty for a run that trains nothing.
    pub source: String,
    /// Whether it was chosen for this run.
    pub is_changed: bool,
}

/// Every setting, in the order of the config. What the trainer says of a source is in English, as
/// all that it says.
pub fn rows(page: &Page, run: &Run) -> Vec<SettingRow> {
    let kind = run.kind.parse::<RunKind>().ok();
    let Some(kind) = kind.and_then(RunKind::trains) else {
        let fields = run.config.as_object().into_iter().flatten();
        let row = |(name, value): (&String, &Value)| SettingRow {
            name: name.clone(),
            value: text(value),
            source: String::new(),
            is_changed: false,
        };
        return fields.map(row).collect();
    };
    let preset = run.preset.parse::<Preset>();
    let preset = preset.unwrap_or_else(|_| nearest_preset(kind, &run.config));
    let found = settings(kind, preset, &run.config).into_iter();
    found
        .map(|one| SettingRow {
            name: one.setting,
            value: text(&one.value),
            source: match one.is_changed {
                true => page.t("runs-setting-changed"),
                false => one.source.to_owned(),
            },
            is_changed: one.is_changed,
        })
        .collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}
