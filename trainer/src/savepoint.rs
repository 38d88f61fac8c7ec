//! Savepoints: all that a run needs to go on where it stopped, as if it had never stopped. On the
//! CPU what it makes then is the same to the bit.
//!
//! They lie in `savepoints/` of the run's folder, one folder for each, named by its step. A
//! savepoint appears whole or not at all, and one that was damaged later is passed over for the one
//! before it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::checkpoint::{sha256, sha256_of_weights, write_atomically};
use crate::disk;
use crate::error::{AtPath, Result, TrainerError};

/// How many are kept unless the run says otherwise: the newest, and one before it.
pub const KEPT: usize = 2;

/// SHA-256 of a savepoint's other files, as `sha256sum` writes and checks them.
const SUMS: &str = "SHA256SUMS";

const STATE: &str = "state.json";
const TENSORS: &str = "tensors.safetensors";

/// When a run keeps savepoints, how many, and whether it goes on from one.
#[derive(Debug, Clone, Copy)]
pub struct SavePolicy {
    /// A savepoint at the first end of a step after so long; none keeps only the one at a stop.
    pub every: Option<Duration>,
    /// How many stay, at least one; the oldest goes once the newest is whole.
    pub keep: usize,
    /// Go on where the run in that folder stopped.
    pub resume: bool,
    /// Go on after this step instead, whose savepoint is kept; what came after it is done again.
    pub from: Option<usize>,
}

impl Default for SavePolicy {
    fn default() -> Self {
        Self {
            every: Some(Duration::from_secs(600)),
            keep: KEPT,
            resume: false,
            from: None,
        }
    }
}

/// Everything that moves during a run.
pub struct Savepoint {
    /// Steps that are done.
    pub step: usize,
    /// Counters, positions in the data, figures so far.
    pub state: Value,
    /// Weights, moments and averages, by group and name.
    pub tensors: BTreeMap<String, Tensor>,
}

impl Savepoint {
    /// A savepoint without tensors.
    pub fn new(step: usize, state: &impl Serialize) -> Self {
        Self {
            step,
            state: serde_json::to_value(state).unwrap_or_default(),
            tensors: BTreeMap::new(),
        }
    }

    /// Adds a group of tensors.
    pub fn put(&mut self, group: &str, tensors: impl IntoIterator<Item = (String, Tensor)>) {
        let named = tensors
            .into_iter()
            .map(|(name, tensor)| (format!("{group}/{name}"), tensor));
        self.tensors.extend(named);
    }

    /// The tensors of a group.
    pub fn group(&self, group: &str) -> BTreeMap<String, Tensor> {
        let prefix = format!("{group}/");
        self.tensors
            .iter()
            .filter_map(|(name, tensor)| {
                let name = name.strip_prefix(&prefix)?;
                Some((name.to_owned(), tensor.clone()))
            })
            .collect()
    }

    /// The savepoint itself, if a run of `total` steps can have it.
    ///
    /// # Errors
    /// A sentence with both numbers.
    pub fn within(&self, total: usize) -> Result<&Self> {
        match self.step <= total {
            true => Ok(self),
            false => {
                let message = format!("is after {} steps of a run of {total}", self.step);
                Err(TrainerError::checkpoint(Path::new("savepoint"), message))
            }
        }
    }

    /// The state as its type.
    ///
    /// # Errors
    /// When another version of the program wrote it.
    pub fn state_as<S: DeserializeOwned>(&self) -> Result<S> {
        serde_json::from_value(self.state.clone()).map_err(|error| {
            let message = format!("cannot be read by this version of the program: {error}");
            TrainerError::checkpoint(Path::new("state.json"), message)
        })
    }
}

/// What tells one run from another: two runs with the same identity make the same.
///
/// # Errors
/// When a file cannot be read.
pub fn identity(
    kind: &str,
    config: &impl Serialize,
    files: &[&Path],
    models: &[&Path],
) -> Result<String> {
    let hashes = files.iter().map(|file| sha256(file));
    let weights = models.iter().map(|folder| sha256_of_weights(folder));
    // What shapes a model, and what makes tokens of text.
    let settings = models.iter().flat_map(|folder| {
        [
            "config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "chat_template.jinja",
        ]
        .map(|name| folder.join(name))
    });
    let settings = settings.filter(|path| path.exists());
    let parts = json!({
        "kind": kind,
        "config": config,
        "files": hashes.collect::<Result<Vec<_>>>()?,
        "models": weights.collect::<Result<Vec<_>>>()?,
        "settings": settings.map(|path| sha256(&path)).collect::<Result<Vec<_>>>()?,
    });
    Ok(hex::encode(Sha256::digest(parts.to_string())))
}

/// `state.json` of a savepoint.
#[derive(Serialize, Deserialize)]
struct Header {
    program: String,
    identity: String,
    /// Bytes of the run's other files at that moment; what came after is cut off when it goes on.
    lengths: BTreeMap<String, u64>,
    step: usize,
    state: Value,
}

/// The savepoints of a run.
pub struct Savepoints {
    folder: PathBuf,
    identity: String,
    every: Option<Duration>,
    keep: usize,
    from: Option<usize>,
    last: Instant,
}

impl Savepoints {
    /// Those of the run in `out`.
    pub fn new(out: &Path, identity: String, policy: SavePolicy) -> Self {
        Self {
            folder: out.join("savepoints"),
            identity,
            every: policy.every,
            keep: policy.keep.max(1),
            from: policy.from,
            last: Instant::now(),
        }
    }

    /// Whether the last one is long enough ago.
    pub fn is_due(&self) -> bool {
        self.every.is_some_and(|every| self.last.elapsed() >= every)
    }

    /// Keeps one, and lets the older ones go.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn save(&mut self, point: &Savepoint, lengths: BTreeMap<String, u64>) -> Result<()> {
        let place = self.folder.join(format!("{:010}", point.step));
        if place.exists() {
            return Ok(());
        }
        write_atomically(&place, |folder| {
            disk::write_tensors(&folder.join(TENSORS), &point.tensors, None)?;
            let header = Header {
                program: env!("CARGO_PKG_VERSION").to_owned(),
                identity: self.identity.clone(),
                lengths,
                step: point.step,
                state: point.state.clone(),
            };
            let path = folder.join(STATE);
            let text = serde_json::to_vec(&header)
                .map_err(std::io::Error::from)
                .at(&path)?;
            disk::write(&path, &text)?;
            disk::write(&folder.join(SUMS), sums(folder)?.as_bytes())
        })?;
        self.last = Instant::now();
        for (_, old) in self.list()?.into_iter().skip(self.keep) {
            disk::remove_folder(&old)?;
        }
        Ok(())
    }

    /// The one to go on from, with the lengths of the run's other files: of the step that was asked
    /// for, or else the newest that is whole, with a remark on each that is not; those go.
    ///
    /// # Errors
    /// A sentence when it belongs to another run, there is none of the step that was asked for, or
    /// it cannot be read although it may be whole.
    pub fn start(
        &self,
        remarks: &mut Vec<String>,
    ) -> Result<Option<(Savepoint, BTreeMap<String, u64>)>> {
        match self.from {
            Some(step) => self.of_step(step, remarks).map(Some),
            None => self.newest(remarks),
        }
    }

    fn of_step(
        &self,
        step: usize,
        remarks: &mut Vec<String>,
    ) -> Result<(Savepoint, BTreeMap<String, u64>)> {
        let kept = self.list()?;
        let Some((_, place)) = kept.iter().find(|(own, _)| *own == step) else {
            let steps: Vec<String> = kept.iter().map(|(step, _)| step.to_string()).collect();
            let steps = match steps.is_empty() {
                true => "none is kept".to_owned(),
                false => format!("kept are {}", steps.join(", ")),
            };
            return Err(TrainerError::Config {
                field: "from".into(),
                message: format!("there is no savepoint of step {step}; {steps}"),
            });
        };
        let found = self.read(place)?;
        // The run comes by those steps again, and its other files are cut to this one's lengths.
        for (own, later) in &kept {
            if *own > step {
                remarks.push(format!(
                    "the savepoint of step {own} goes: it is made again"
                ));
                disk::remove_folder(later)?;
            }
        }
        Ok(found)
    }

    fn newest(
        &self,
        remarks: &mut Vec<String>,
    ) -> Result<Option<(Savepoint, BTreeMap<String, u64>)>> {
        for (_, place) in self.list()? {
            match self.read(&place) {
                Ok(found) => return Ok(Some(found)),
                Err(error @ TrainerError::Checkpoint { .. }) => {
                    remarks.push(format!("passed over a damaged savepoint: {error}"));
                    // It would stand in the way of the one that this step will have.
                    disk::remove_folder(&place)?;
                }
                // It may be whole, and only cannot be read now.
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn read(&self, place: &Path) -> Result<(Savepoint, BTreeMap<String, u64>)> {
        let torn = |path: &Path, message: String| TrainerError::checkpoint(path, message);
        for name in [SUMS, STATE, TENSORS] {
            if !place.join(name).is_file() {
                return Err(torn(place, format!("is damaged: it has no {name}")));
            }
        }
        let path = place.join(SUMS);
        if std::fs::read(&path).at(&path)? != sums(place)?.as_bytes() {
            return Err(torn(place, "is damaged: a SHA-256 is another".to_owned()));
        }
        let path = place.join(STATE);
        let header: Header = serde_json::from_slice(&std::fs::read(&path).at(&path)?)
            .map_err(|error| torn(&path, format!("is damaged: {error}")))?;
        if header.identity != self.identity {
            let message = format!(
                "{} was kept by a run with other settings, data or models: resume with those, or \
                 choose another folder",
                place.display()
            );
            return Err(TrainerError::Config {
                field: "resume".into(),
                message,
            });
        }
        let path = place.join(TENSORS);
        let tensors = candle_core::safetensors::load(&path, &Device::Cpu)
            .map_err(|error| torn(&path, format!("is damaged: {error}")))?;
        let point = Savepoint {
            step: header.step,
            state: header.state,
            tensors: tensors.into_iter().collect(),
        };
        Ok((point, header.lengths))
    }

    /// Savepoints by their steps, newest first. What a killed program left half-written goes.
    fn list(&self) -> Result<Vec<(usize, PathBuf)>> {
        if !self.folder.is_dir() {
            return Ok(Vec::new());
        }
        disk::remove_torn(&self.folder)?;
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.folder).at(&self.folder)? {
            let path = entry.at(&self.folder)?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            if let Some(step) = name.and_then(|name| name.parse().ok()) {
                found.push((step, path));
            }
        }
        found.sort_by_key(|(step, _)| std::cmp::Reverse(*step));
        Ok(found)
    }

    /// Lets all go, once the run has written what it was for.
    ///
    /// # Errors
    /// When they cannot be removed.
    pub fn clear(&self) -> Result<()> {
        match self.folder.is_dir() {
            true => disk::remove_folder(&self.folder),
            false => Ok(()),
        }
    }
}

/// What [`SUMS`] must hold for a folder.
fn sums(place: &Path) -> Result<String> {
    let mut lines = String::new();
    for name in [STATE, TENSORS] {
        lines.push_str(&format!("{}  {name}\n", sha256(&place.join(name))?));
    }
    Ok(lines)
}
