//! Model folders: Hugging Face's files, plus `plackett.json` that says where the model came from,
//! and a model card. A folder appears whole or not at all: it is written beside its place and
//! renamed.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::disk;
use crate::error::{AtPath, Result, TrainerError};
use crate::model::heads::BIAS_KEY;
use crate::model::transformer::TransformerConfig;
use crate::model::weights;
use crate::text::TextCodec;

/// What a checkpoint is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckpointKind {
    /// As it came.
    Base,
    /// Fine-tuned on demonstrations.
    Sft,
    /// Scores completions.
    Reward,
    /// Trained by PPO or DPO.
    Policy,
}

impl CheckpointKind {
    /// The word in the database and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Sft => "sft",
            Self::Reward => "reward",
            Self::Policy => "policy",
        }
    }
}

/// Where a checkpoint came from; `plackett.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lineage {
    /// What it is for.
    pub kind: CheckpointKind,
    /// Version of the program that wrote it.
    pub program: String,
    /// Checkpoints it was made from, by role: SHA-256 of their weights.
    #[serde(default)]
    pub parents: BTreeMap<String, String>,
    /// SHA-256 of the data files it was trained on, by role.
    #[serde(default)]
    pub data: BTreeMap<String, String>,
    /// SHA-256 of the chat template.
    #[serde(default)]
    pub template: String,
    /// SHA-256 of `tokenizer.json`.
    #[serde(default)]
    pub vocabulary: String,
    /// SHA-256 of the checkpoint's own weights, as [`sha256_of_weights`] takes it.
    #[serde(default)]
    pub weights: String,
    /// Every setting of the run.
    #[serde(default)]
    pub config: Value,
    /// Final figures of the run.
    #[serde(default)]
    pub summary: BTreeMap<String, f64>,
    /// What a user of the model should know.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Further sections of the model card, each with its lines of Markdown.
    #[serde(skip)]
    pub sections: Vec<(String, Vec<String>)>,
    /// Further JSON files of the folder, by name.
    #[serde(skip)]
    pub files: BTreeMap<String, Value>,
}

impl Lineage {
    /// A lineage without parents.
    pub fn new(kind: CheckpointKind) -> Self {
        Self {
            kind,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            parents: BTreeMap::new(),
            data: BTreeMap::new(),
            template: String::new(),
            vocabulary: String::new(),
            weights: String::new(),
            config: Value::Null,
            summary: BTreeMap::new(),
            notes: Vec::new(),
            sections: Vec::new(),
            files: BTreeMap::new(),
        }
    }
}

/// What a folder holds.
#[derive(Debug, Clone)]
pub struct CheckpointInfo {
    /// What it is for.
    pub kind: CheckpointKind,
    /// Architecture as `config.json` names it.
    pub architecture: String,
    /// Numbers in `model.safetensors`.
    pub n_parameters: u64,
    /// SHA-256 of `model.safetensors`.
    pub sha256: String,
}

/// Files that a model folder brings along besides weights and configuration.
const COMPANIONS: [&str; 6] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "chat_template.jinja",
    "LICENSE",
];

/// Looks at a folder without loading the model.
///
/// # Errors
/// A sentence: no folder, unknown architecture, missing or torn file, no tokenizer.
pub fn inspect(folder: &Path) -> Result<CheckpointInfo> {
    let shape = TransformerConfig::read(folder)?;
    TextCodec::load(folder)?;
    let named = named_architecture(folder)?;
    let files = weights::files(folder)?;
    Ok(CheckpointInfo {
        kind: kind(folder, named.as_deref())?,
        architecture: named.unwrap_or_else(|| shape.architecture.language_model_class()),
        n_parameters: files.iter().try_fold(0, |n, file| {
            Ok::<_, TrainerError>(u64::saturating_add(n, count_parameters(file)?))
        })?,
        sha256: sha256_of_weights(folder)?,
    })
}

/// The class that `config.json` names.
fn named_architecture(folder: &Path) -> Result<Option<String>> {
    let path = folder.join("config.json");
    let bytes = std::fs::read(&path).at(&path)?;
    let config: Value = serde_json::from_slice(&bytes)
        .map_err(|error| TrainerError::checkpoint(&path, error.to_string()))?;
    Ok(config["architectures"][0].as_str().map(str::to_owned))
}

fn kind(folder: &Path, architecture: Option<&str>) -> Result<CheckpointKind> {
    let scores = architecture.is_some_and(|name| name.ends_with("ForSequenceClassification"));
    Ok(match read_lineage(folder)? {
        Some(lineage) => lineage.kind,
        None if scores => CheckpointKind::Reward,
        None => CheckpointKind::Base,
    })
}

/// Refuses the folder of a run in place of the model that it made.
pub(crate) fn refuse_run_folder(folder: &Path) -> Result<()> {
    let made = folder.join("checkpoint");
    if !made.join("config.json").exists() || folder.join("model.safetensors").exists() {
        return Ok(());
    }
    let message = format!(
        "is the folder of a run; the model that it made is {}",
        made.display()
    );
    Err(TrainerError::checkpoint(folder, message))
}

/// Refuses a reward model where one is wanted that writes: its weights load as those of a language
/// model do, and make no sense as such.
///
/// # Errors
/// When it is a reward model, or the folder cannot be read.
pub fn check_writes(folder: &Path) -> Result<()> {
    TransformerConfig::read(folder)?;
    match kind(folder, named_architecture(folder)?.as_deref())? {
        CheckpointKind::Reward => {
            let message = "is a reward model, which scores texts and writes none";
            Err(TrainerError::checkpoint(folder, message))
        }
        _ => Ok(()),
    }
}

/// What a folder says of where it came from; a model from elsewhere says nothing.
///
/// # Errors
/// When `plackett.json` is damaged.
pub fn read_lineage(folder: &Path) -> Result<Option<Lineage>> {
    let path = folder.join("plackett.json");
    let Ok(bytes) = std::fs::read(&path) else {
        return Ok(None);
    };
    let lineage = serde_json::from_slice(&bytes);
    lineage
        .map(Some)
        .map_err(|error| TrainerError::checkpoint(&path, error.to_string()))
}

/// Numbers in a safetensors file, from its header alone.
fn count_parameters(path: &Path) -> Result<u64> {
    let torn = |message: String| TrainerError::checkpoint(path, message);
    let mut file = File::open(path).at(path)?;
    let size = file.metadata().at(path)?.len();
    let mut length = [0u8; 8];
    file.read_exact(&mut length).at(path)?;
    let length = u64::from_le_bytes(length);
    if length > size.saturating_sub(8) {
        return Err(torn(
            "is torn: its header is longer than the file".to_owned(),
        ));
    }
    let mut header = vec![0; usize::try_from(length).unwrap_or(0)];
    file.read_exact(&mut header).at(path)?;
    let header: HashMap<String, Value> = serde_json::from_slice(&header)
        .map_err(|error| torn(format!("has a torn header: {error}")))?;
    let mut n = 0;
    for tensor in header.values().filter(|tensor| tensor["shape"].is_array()) {
        let end = tensor["data_offsets"][1].as_u64().unwrap_or(0);
        if end.checked_add(8 + length).is_none_or(|end| end > size) {
            return Err(torn("is torn: it ends before its last tensor".to_owned()));
        }
        let shape = tensor["shape"].as_array().into_iter().flatten();
        let own = shape.filter_map(Value::as_u64).fold(1, u64::saturating_mul);
        n = u64::saturating_add(n, own);
    }
    Ok(n)
}

/// SHA-256 of a file in lower-case hex.
///
/// # Errors
/// When it cannot be read.
pub fn sha256(path: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    std::io::copy(&mut File::open(path).at(path)?, &mut hasher).at(path)?;
    Ok(hex::encode(hasher.finalize()))
}

/// SHA-256 of a model folder's weights: of the one file, or of the hashes of all files in their
/// order.
///
/// # Errors
/// A sentence: there are none, or one cannot be read.
pub fn sha256_of_weights(folder: &Path) -> Result<String> {
    let files = weights::files(folder)?;
    if let [file] = files.as_slice() {
        return sha256(file);
    }
    let mut hasher = Sha256::new();
    for file in files {
        hasher.update(sha256(&file)?);
    }
    Ok(hex::encode(hasher.finalize()))
}

/// Writes a checkpoint: `tensors`, by our names, as f32, the rest after `template_folder`, which is the model it
/// was trained from. `reward_bias` makes it a reward model.
///
/// # Errors
/// When the place is taken or the disk full.
pub fn write(
    place: &Path,
    template_folder: &Path,
    tensors: &BTreeMap<String, Tensor>,
    reward_bias: Option<f64>,
    lineage: &Lineage,
) -> Result<()> {
    let nothing = |_: &Path| Ok(());
    write_with(
        place,
        template_folder,
        tensors,
        reward_bias,
        lineage,
        nothing,
    )
}

/// The same, with what `extra` writes into the folder before it appears.
///
/// # Errors
/// As [`write()`], or those of `extra`.
pub fn write_with(
    place: &Path,
    template_folder: &Path,
    tensors: &BTreeMap<String, Tensor>,
    reward_bias: Option<f64>,
    lineage: &Lineage,
    extra: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    for (name, tensor) in tensors {
        // One sum finds any value that is not finite.
        let sum = tensor.abs()?.sum_all()?.to_scalar::<f32>()?;
        if !sum.is_finite() {
            let message = format!("{name} holds values that are not finite");
            return Err(TrainerError::Diverged(message));
        }
    }
    if let Some((name, value)) = lineage.summary.iter().find(|(_, n)| !n.is_finite()) {
        return Err(TrainerError::Diverged(format!("{name} is {value}")));
    }
    write_atomically(place, |folder| {
        let path = template_folder.join("config.json");
        let bytes = std::fs::read(&path).at(&path)?;
        let mut config: Value = serde_json::from_slice(&bytes)
            .map_err(|error| TrainerError::checkpoint(&path, error.to_string()))?;
        let architecture = TransformerConfig::parse(&config)
            .map_err(|message| TrainerError::checkpoint(&path, message))?
            .architecture;
        config["dtype"] = json!("float32");
        config["torch_dtype"] = json!("float32");
        match reward_bias {
            Some(bias) => {
                config["architectures"] = json!([architecture.reward_model_class()]);
                config["num_labels"] = json!(1);
                config["id2label"] = json!({"0": "reward"});
                config["label2id"] = json!({"reward": 0});
                config[BIAS_KEY] = json!(bias);
            }
            None => config["architectures"] = json!([architecture.language_model_class()]),
        }
        let mut lineage = lineage.clone();
        let tokenizer = template_folder.join("tokenizer.json");
        if tokenizer.exists() {
            lineage.vocabulary = sha256(&tokenizer)?;
        }
        write_folder(folder, &config, &architecture.give_out(tensors)?, &lineage)?;
        for name in COMPANIONS {
            let source = template_folder.join(name);
            if source.exists() {
                disk::copy(&source, &folder.join(name))?;
            }
        }
        extra(folder)?;
        match reward_bias {
            Some(_) => set_padding_apart(folder, &mut config),
            None => Ok(()),
        }
    })
}

/// Gives a reward model's folder a padding token other than EOS. A score is read at EOS, and
/// transformers takes the last token that is not the padding id for a row's end: with EOS as
/// padding it would read one token too early.
fn set_padding_apart(folder: &Path, config: &mut Value) -> Result<()> {
    let (id, text) = TextCodec::load(folder)?.padding_of_a_reward_model(folder)?;
    config["pad_token_id"] = json!(id);
    write_json(folder, "config.json", config)?;
    let path = folder.join("tokenizer_config.json");
    let bytes = std::fs::read(&path).at(&path)?;
    let mut tokenizer: Value = serde_json::from_slice(&bytes)
        .map_err(|error| TrainerError::checkpoint(&path, error.to_string()))?;
    tokenizer["pad_token"] = json!(text);
    write_json(folder, "tokenizer_config.json", &tokenizer)
}

/// Writes a JSON file into a folder.
///
/// # Errors
/// When the disk is full.
pub(crate) fn write_json(folder: &Path, name: &str, value: &Value) -> Result<()> {
    let path = folder.join(name);
    disk::write(&path, format!("{value:#}\n").as_bytes())
}

/// The folder that `place` lies in; a bare name lies in the working folder.
pub(crate) fn parent_of(place: &Path) -> &Path {
    match place.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Fills `place` by way of a folder beside it, so that it appears whole or not at all.
///
/// # Errors
/// When the place is taken, or `fill` fails.
pub fn write_atomically(place: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if place.exists() {
        return Err(TrainerError::checkpoint(
            place,
            "exists already; choose another folder",
        ));
    }
    let parent = parent_of(place);
    if !parent.exists() {
        disk::create_folder(parent)?;
        disk::sync(parent_of(parent))?;
    }
    let folder = tempfile::Builder::new()
        .prefix(disk::TORN)
        .tempdir_in(parent)
        .at(parent)?;
    fill(folder.path())?;
    // What a run's row promises must still be there after the power fails.
    sync_all(folder.path())?;
    disk::sync(folder.path())?;
    disk::rename(folder.path(), place)?;
    disk::sync(parent)
}

/// Syncs what a folder holds, folders within it included.
fn sync_all(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).at(folder)? {
        let path = entry.at(folder)?.path();
        if path.is_dir() {
            sync_all(&path)?;
        }
        disk::sync(&path)?;
    }
    Ok(())
}

/// Writes configuration, weights, lineage and model card into an existing folder.
///
/// # Errors
/// When the disk is full.
pub fn write_folder(
    folder: &Path,
    config: &Value,
    tensors: &BTreeMap<String, Tensor>,
    lineage: &Lineage,
) -> Result<()> {
    write_json(folder, "config.json", config)?;
    for (name, value) in &lineage.files {
        write_json(folder, name, value)?;
    }
    let path = folder.join("README.md");
    disk::write(&path, model_card(lineage).as_bytes())?;
    let path = folder.join("model.safetensors");
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    disk::write_tensors(&path, tensors, Some(metadata))?;
    let lineage = Lineage {
        weights: sha256_of_weights(folder)?,
        ..lineage.clone()
    };
    let lineage = serde_json::to_value(lineage).unwrap_or(Value::Null);
    write_json(folder, "plackett.json", &lineage)
}

/// The model card, from the lineage.
fn model_card(lineage: &Lineage) -> String {
    let mut card = format!(
        "# {} model made by Plackett {}\n",
        lineage.kind.as_str(),
        lineage.program
    );
    let mut section = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            card.push_str(&format!("\n## {title}\n\n{}\n", lines.join("\n")));
        }
    };
    section(
        "Good to know",
        lineage
            .notes
            .iter()
            .map(|note| format!("- {note}"))
            .collect(),
    );
    section(
        "Results",
        lineage
            .summary
            .iter()
            .map(|(name, value)| format!("- {name}: {value:.6}"))
            .collect(),
    );
    for (title, lines) in &lineage.sections {
        section(title, lines.clone());
    }
    section(
        "Data (SHA-256)",
        lineage
            .data
            .iter()
            .map(|(name, hash)| format!("- {name}: `{hash}`"))
            .collect(),
    );
    section(
        "Made from (SHA-256)",
        lineage
            .parents
            .iter()
            .map(|(name, hash)| format!("- {name}: `{hash}`"))
            .collect(),
    );
    section(
        "Settings",
        vec![
            "```json".to_owned(),
            format!("{:#}", lineage.config),
            "```".to_owned(),
        ],
    );
    card
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn a_wrong_folder_gets_a_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let sentence = |path: &Path| inspect(path).unwrap_err().to_string();
        assert!(sentence(&folder.path().join("none")).ends_with("is not a folder"));
        assert!(sentence(folder.path()).contains("config.json"));
        std::fs::write(
            folder.path().join("config.json"),
            r#"{"model_type":"mamba"}"#,
        )
        .unwrap();
        assert!(sentence(folder.path()).contains("model_type is \"mamba\""));
        // The settings of a run are called as those of a model are.
        let made = folder.path().join("checkpoint");
        std::fs::create_dir(&made).unwrap();
        std::fs::write(made.join("config.json"), "{}").unwrap();
        let hint = "is the folder of a run; the model that it made is";
        assert!(sentence(folder.path()).contains(hint));
        let codec = TextCodec::load(folder.path()).err().unwrap();
        assert!(codec.to_string().contains(hint));
        let writes = check_writes(folder.path()).unwrap_err();
        assert!(writes.to_string().contains(hint));
    }

    #[test]
    fn a_bare_name_lies_in_the_working_folder() {
        assert_eq!(parent_of(Path::new("model")), Path::new("."));
        assert_eq!(parent_of(Path::new("a/model")), Path::new("a"));
        assert_eq!(parent_of(Path::new("/")), Path::new("."));
    }

    #[test]
    fn a_failed_write_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("model");
        let failed = write_atomically(&place, |inside| {
            std::fs::write(inside.join("half"), "x").unwrap();
            Err(TrainerError::Cancelled)
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
