//! Runs: their kinds, which snapshot and checkpoints each kind reads, and their settings.
//!
//! Settings are resolved when a run is made: the row holds every setting, not a preset's name and
//! changes to it, so a later version's presets cannot change an old run.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use trainer::config::sources::Kind;
use trainer::config::{DpoConfig, PpoConfig, Preset, RewardConfig, SftConfig, overlay};
use trainer::sampling::SamplingConfig;

/// What a run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunKind {
    /// Supervised fine-tuning on demonstrations.
    Sft,
    /// Training a reward model on rankings.
    Reward,
    /// PPO against a reward model.
    Ppo,
    /// Direct preference optimisation on rankings.
    Dpo,
    /// Drawing completions and opening tasks over them.
    Generation,
}

impl RunKind {
    /// Every kind, in the order of the pipeline.
    pub const ALL: [Self; 5] = [
        Self::Generation,
        Self::Sft,
        Self::Reward,
        Self::Ppo,
        Self::Dpo,
    ];

    /// The word in the database, in URLs and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sft => "sft",
            Self::Reward => "reward",
            Self::Ppo => "ppo",
            Self::Dpo => "dpo",
            Self::Generation => "generation",
        }
    }

    /// What it trains; none for generation, which trains nothing.
    pub fn trains(self) -> Option<Kind> {
        match self {
            Self::Sft => Some(Kind::Sft),
            Self::Reward => Some(Kind::Reward),
            Self::Ppo => Some(Kind::Ppo),
            Self::Dpo => Some(Kind::Dpo),
            Self::Generation => None,
        }
    }

    /// The presets that say how it is done.
    pub fn presets(self) -> Vec<Preset> {
        self.trains()
            .map_or(Vec::new(), |kind| kind.presets().collect())
    }

    /// The kind of snapshot that it reads.
    pub fn snapshot_kind(self) -> &'static str {
        match self {
            Self::Sft => "demonstrations",
            Self::Reward | Self::Dpo => "rankings",
            Self::Ppo | Self::Generation => "prompts",
        }
    }
}

impl std::fmt::Display for RunKind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl std::str::FromStr for RunKind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| {
                format!("unknown kind of run {text:?}: use sft, reward, ppo, dpo or generation")
            })
    }
}

/// Fewest candidates of a task.
pub const MIN_CANDIDATES: usize = 4;
/// Most candidates of a task.
pub const MAX_CANDIDATES: usize = 9;

/// Settings of a generation run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerationConfig {
    /// Candidates for each prompt, 4 to 9.
    pub candidates: usize,
    /// Divides the logits.
    pub temperature: f64,
    /// Smallest set of tokens whose probabilities add up to this; 1 is off.
    pub top_p: f64,
    /// Longest completion, in tokens.
    pub max_new_tokens: usize,
    /// Seed of all draws.
    pub seed: u64,
    /// How many labelers each new task is given to; by the project's rules for its category where this
    /// says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<i16>,
}

impl Default for GenerationConfig {
    fn default() -> Self {
        Self {
            candidates: 5,
            temperature: 1.0,
            top_p: 1.0,
            max_new_tokens: 64,
            seed: 1,
            overlap: None,
        }
    }
}

impl GenerationConfig {
    /// How completions are drawn.
    pub fn sampling(&self) -> SamplingConfig {
        SamplingConfig {
            temperature: self.temperature,
            top_p: self.top_p,
            max_new_tokens: self.max_new_tokens,
            seed: self.seed,
        }
    }

    /// Says which setting is out of range, if one is.
    pub fn complaint(&self) -> Option<(&'static str, String)> {
        if !(MIN_CANDIDATES..=MAX_CANDIDATES).contains(&self.candidates) {
            return Some(("candidates", "must be 4 to 9".to_owned()));
        }
        let is_overlap = |overlap| crate::domain::project::OVERLAPS.contains(&overlap);
        if !self.overlap.is_none_or(is_overlap) {
            return Some(("overlap", "must be 1 to 100".to_owned()));
        }
        self.sampling().complaint()
    }
}

/// Every setting of a run of `kind`, from a preset and changes to it (a JSON object).
///
/// # Errors
/// A sentence that names the setting.
pub fn resolve_config(kind: RunKind, preset: Preset, changes: &Value) -> Result<Value, String> {
    if !changes.is_object() {
        return Err("settings must be a JSON object such as {\"seed\": 2}".to_owned());
    }
    if kind.trains().is_some_and(|trains| !preset.defines(trains)) {
        let names = kind.presets().into_iter().map(Preset::as_str);
        let names: Vec<&str> = names.collect();
        let (preset, names) = (preset.as_str(), names.join(", "));
        return Err(format!("preset {preset} has no {kind}: use one of {names}"));
    }
    let resolved = match kind {
        RunKind::Sft => overlay(&SftConfig::preset(preset), changes)
            .and_then(|config| config.check().map(|()| serde_json::to_value(config))),
        RunKind::Reward => overlay(&RewardConfig::preset(preset), changes)
            .and_then(|config| config.check().map(|()| serde_json::to_value(config))),
        RunKind::Ppo => overlay(&PpoConfig::preset(preset), changes)
            .and_then(|config| config.check().map(|()| serde_json::to_value(config))),
        RunKind::Dpo => overlay(&DpoConfig::preset(preset), changes)
            .and_then(|config| config.check().map(|()| serde_json::to_value(config))),
        RunKind::Generation => {
            let config = overlay(&GenerationConfig::default(), changes);
            let config = config.map_err(|error| error.to_string())?;
            if let Some((field, message)) = config.complaint() {
                return Err(format!("setting {field}: {message}"));
            }
            Ok(serde_json::to_value(config))
        }
    };
    resolved
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_resolved_config_holds_every_setting() {
        let config = resolve_config(RunKind::Ppo, Preset::Tiny, &json!({"seed": 9})).unwrap();
        let read: PpoConfig = serde_json::from_value(config).unwrap();
        assert_eq!(
            read,
            PpoConfig {
                seed: 9,
                ..PpoConfig::preset(Preset::Tiny)
            }
        );
    }

    #[test]
    fn a_wrong_setting_is_named() {
        let wrong = |kind, changes| resolve_config(kind, Preset::Tiny, &changes).unwrap_err();
        assert!(wrong(RunKind::Sft, json!({"epoch": 1})).contains("epoch"));
        assert!(wrong(RunKind::Reward, json!({"held_out_share": 2})).contains("held_out_share"));
        assert!(wrong(RunKind::Dpo, json!({"beta": 0})).contains("beta"));
        assert!(wrong(RunKind::Generation, json!({"candidates": 3})).contains("candidates"));
        assert!(wrong(RunKind::Generation, json!({"temperature": 0.0})).contains("temperature"));
        assert!(wrong(RunKind::Ppo, json!([])).contains("JSON object"));
        let lhp = Preset::LmHumanPreferences;
        let error = resolve_config(RunKind::Sft, lhp, &json!({})).unwrap_err();
        assert!(error.contains("has no sft") && error.contains("summarize"));
        let error = resolve_config(RunKind::Dpo, lhp, &json!({})).unwrap_err();
        assert!(error.contains("has no dpo") && error.contains("summarize"));
        assert!(resolve_config(RunKind::Ppo, lhp, &json!({})).is_ok());
    }
}
