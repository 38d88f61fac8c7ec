//! The form that starts a run: what was typed, and what it means. Every wrong field is named, and
//! nothing is queued then. What only models and data can tell, for one that a reward model has
//! another tokenizer, the trainer says when the run starts, before it trains.

use serde_json::{Map, Value, json};
use sqlx::PgConnection;
use trainer::config::{Keep, KeepPolicy, Preset};

use crate::domain::ids::{AccountId, CheckpointId, RunId, SnapshotId};
use crate::domain::run::{GenerationConfig, RunKind, resolve_config};
use crate::error::{AppError, AppResult, FieldError};
use crate::message::Message;
use crate::store;
use crate::store::checkpoints::Checkpoint;
use crate::store::runs::{NewRun, SnapshotChoice};

/// What was typed.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(default)]
pub struct RunForm {
    /// `sft`, `reward`, `ppo`, `dpo` or `generation`.
    pub kind: String,
    /// The run's name.
    pub name: String,
    /// The name of a preset.
    pub preset: String,
    /// The model to start from.
    pub base: String,
    /// What the run reads.
    pub snapshot: String,
    /// The reward model of PPO, or one that judges the epochs of SFT; may be empty for SFT.
    pub reward: String,
    /// The second opinion of PPO; may be empty.
    pub gold: String,
    /// Texts for the pretraining term of PPO, or to mix in with demonstrations; may be empty.
    pub texts: String,
    /// Demonstrations for the zero point of a reward model.
    pub demonstrations: String,
    /// Candidates for each prompt; the project's when empty.
    pub candidates: String,
    /// Sampling temperature.
    pub temperature: String,
    /// Top-p.
    pub top_p: String,
    /// Longest completion.
    pub max_new_tokens: String,
    /// Seed of generation.
    pub seed: String,
    /// Labelers for each task; the project's when empty.
    pub overlap: String,
    /// Settings that differ from the preset's, as a JSON object.
    pub settings: String,
}

impl RunForm {
    /// The form with its defaults.
    pub fn new(kind: RunKind) -> Self {
        let generation = GenerationConfig::default();
        Self {
            kind: kind.to_string(),
            preset: Preset::Demo.as_str().to_owned(),
            temperature: generation.temperature.to_string(),
            top_p: generation.top_p.to_string(),
            max_new_tokens: generation.max_new_tokens.to_string(),
            // Another press of the button shall draw other completions.
            seed: rand::random::<u32>().to_string(),
            ..Self::default()
        }
    }

    /// Whether a choice is the chosen one.
    pub fn chose(&self, typed: &str, choice: &(impl ToString + ?Sized)) -> bool {
        typed == choice.to_string()
    }

    /// Queues the run, inside the caller's transaction.
    ///
    /// # Errors
    /// `Invalid` with every wrong field.
    pub async fn queue(
        &self,
        db: &mut PgConnection,
        kind: RunKind,
        created_by: AccountId,
    ) -> AppResult<RunId> {
        let mut errors = Vec::new();
        let name = self.name.trim();
        if name.is_empty() || name.chars().count() > 100 {
            errors.push(wrong(
                "name",
                Message::new("error-length").with("most", 100),
            ));
        }
        let config = note(self.config(kind), &mut errors);
        let snapshots = store::runs::list_snapshots(&mut *db).await?;
        let chosen = choose("snapshot", &self.snapshot, &snapshots, kind.snapshot_kind());
        let snapshot = note(chosen, &mut errors);
        let base = self.checkpoint(db, "base", &self.base, false).await?;
        let base = note(base, &mut errors);
        let mut reward = None;
        if kind == RunKind::Ppo || (kind == RunKind::Sft && !self.reward.is_empty()) {
            let found = self.checkpoint(db, "reward", &self.reward, true).await?;
            reward = note(found, &mut errors);
        }
        let by_reward = config.as_ref().filter(|config| keeps_by_reward(config));
        if kind == RunKind::Sft && self.reward.is_empty() && by_reward.is_some() {
            errors.push(wrong("reward", Message::new("error-keep-needs-reward")));
        }
        let mut gold = None;
        if kind == RunKind::Ppo && !self.gold.is_empty() {
            let found = self.checkpoint(db, "gold", &self.gold, true).await?;
            gold = note(found, &mut errors);
        }
        let by_gold = config.as_ref().filter(|config| keeps_by_gold(config));
        if kind == RunKind::Ppo && self.gold.is_empty() && by_gold.is_some() {
            errors.push(wrong("gold", Message::new("error-keep-needs-gold")));
        }
        if let (Some(first), Some(second)) = (&reward, &gold)
            && first.sha256 == second.sha256
        {
            errors.push(wrong("gold", Message::new("error-gold-is-reward")));
        }
        let mut optional = |of: &[RunKind], field: &str, typed: &str| {
            if !of.contains(&kind) || typed.is_empty() {
                return None;
            }
            let found = choose(field, typed, &snapshots, field);
            note(found, &mut errors).map(|one| one.id)
        };
        let texts = optional(&[RunKind::Ppo, RunKind::Sft], "texts", &self.texts);
        let demonstrations = optional(&[RunKind::Reward], "demonstrations", &self.demonstrations);
        let (Some(mut config), Some(snapshot), Some(base), true) =
            (config, snapshot, base, errors.is_empty())
        else {
            return Err(AppError::Invalid(errors));
        };
        if kind == RunKind::Generation && self.leaves_open("candidates", &self.candidates) {
            let settings = store::projects::find_settings(&mut *db, snapshot.project_id).await?;
            let candidates = settings.map(|settings| settings.candidates);
            config["candidates"] = json!(candidates.ok_or(AppError::NotFound("project"))?);
        }
        let run = NewRun {
            project_id: snapshot.project_id,
            kind: kind.as_str(),
            name,
            preset: if kind == RunKind::Generation {
                ""
            } else {
                &self.preset
            },
            config: &config,
            snapshot_id: snapshot.id,
            texts_snapshot_id: texts,
            demonstrations_snapshot_id: demonstrations,
            base_checkpoint_id: base.id,
            reward_checkpoint_id: reward.map(|model| model.id),
            gold_checkpoint_id: gold.map(|model| model.id),
            created_by: Some(created_by),
        };
        Ok(store::runs::insert(db, &run).await?)
    }

    /// Whether neither a field nor the settings say what a setting is.
    fn leaves_open(&self, name: &str, typed: &str) -> bool {
        let settings: Value = serde_json::from_str(&self.settings).unwrap_or_default();
        typed.trim().is_empty() && settings[name].is_null()
    }

    /// Every setting of the run.
    fn config(&self, kind: RunKind) -> Result<Value, FieldError> {
        let mut changes = match self.settings.trim() {
            "" => Value::Object(Map::new()),
            text => serde_json::from_str(text).map_err(|error| {
                wrong(
                    "settings",
                    Message::new("error-not-json").with("reason", error),
                )
            })?,
        };
        if kind != RunKind::Generation {
            let preset: Preset = self
                .preset
                .parse()
                .map_err(|_: String| wrong("preset", Message::new("error-unknown-choice")))?;
            return resolve_config(kind, preset, &changes)
                .map_err(|message| wrong("settings", message));
        }
        let typed = [
            ("candidates", &self.candidates),
            ("temperature", &self.temperature),
            ("top_p", &self.top_p),
            ("max_new_tokens", &self.max_new_tokens),
            ("seed", &self.seed),
            ("overlap", &self.overlap),
        ];
        for (field, text) in typed {
            if text.trim().is_empty() {
                continue;
            }
            let value: Value = serde_json::from_str(text.trim())
                .ok()
                .filter(Value::is_number)
                .ok_or_else(|| wrong(field, Message::new("error-not-a-number")))?;
            if let Some(changes) = changes.as_object_mut() {
                changes.entry(field).or_insert(value);
            }
        }
        resolve_config(kind, Preset::Demo, &changes).map_err(|message| wrong("settings", message))
    }

    async fn checkpoint(
        &self,
        db: &mut PgConnection,
        field: &str,
        typed: &str,
        is_reward: bool,
    ) -> AppResult<Result<Checkpoint, FieldError>> {
        let Ok(id) = typed.parse::<CheckpointId>() else {
            return Ok(Err(wrong(field, Message::new("error-choose-checkpoint"))));
        };
        Ok(match store::checkpoints::find(db, id).await? {
            None => Err(wrong(field, Message::new("error-no-checkpoint"))),
            Some(found) if (found.kind == "reward") == is_reward => Ok(found),
            Some(_) if is_reward => Err(wrong(field, Message::new("error-not-a-reward-model"))),
            Some(_) => Err(wrong(field, Message::new("error-a-reward-model"))),
        })
    }
}

fn wrong(field: &str, message: impl Into<Message>) -> FieldError {
    FieldError::new(field, message)
}

/// Whether a reward model decides which epoch of SFT is kept.
fn keeps_by_reward(config: &Value) -> bool {
    config["keep"] == json!(Keep::BestReward)
}

/// Whether a second opinion decides which policy of PPO is kept.
fn keeps_by_gold(config: &Value) -> bool {
    config["keep"] == json!(KeepPolicy::BestGold)
}

/// Keeps the value, or the error.
fn note<T>(result: Result<T, FieldError>, errors: &mut Vec<FieldError>) -> Option<T> {
    result.map_err(|error| errors.push(error)).ok()
}

fn choose<'a>(
    field: &str,
    typed: &str,
    snapshots: &'a [SnapshotChoice],
    kind: &str,
) -> Result<&'a SnapshotChoice, FieldError> {
    let id: SnapshotId = typed
        .parse()
        .map_err(|_| wrong(field, Message::new("error-choose-snapshot")))?;
    let found = snapshots
        .iter()
        .find(|one| one.id == id && one.kind == kind);
    found.ok_or_else(|| {
        wrong(
            field,
            Message::new("error-choose-snapshot-of").with("kind", kind),
        )
    })
}
