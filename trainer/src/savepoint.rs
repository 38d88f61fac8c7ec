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
use crate::error::{AtPath, Result, TrainerError};

/// How many are kept: the newest, and one before it.
const KEPT: usize = 2;

/// Folders whose writing was cut off.
const TORN: &str = ".writing-";

/// When a run keeps savepoints, and whether it goes on from the newest.
#[derive(Debug, Clone, Copy)]
pub struct SavePolicy {
    /// A savepoint at the first end of a step after so long; none keeps only the one at a stop.
    pub every: Option<Duration>,
    /// Go on where the run in that folder stopped.
    pub resume: bool,
}

impl Default for SavePolicy {
    fn default() -> Self {
        Self {
            every: Some(Duration::from_secs(600)),
            resume: false,
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
    let parts = json!({
        "kind": kind,
        "config": config,
        "files": hashes.collect::<Result<Vec<_>>>()?,
        "models": weights.collect::<Result<Vec<_>>>()?,
    });
    Ok(hex::encode(Sha256::digest(parts.to_string())))
}

/// `state.json` of a savepoint.
#[derive(Serialize, Deserialize)]
struct Header {
    program: String,
    identity: String,
    /// Of `tensors.safetensors`.
    sha256: String,
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
    last: Instant,
}

impl Savepoints {
    /// Those of the run in `out`.
    pub fn new(out: &Path, identity: String, policy: SavePolicy) -> Self {
        Self {
            folder: out.join("savepoints"),
            identity,
            every: policy.every,
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
            let path = folder.join("tensors.safetensors");
            safetensors::serialize_to_file(&point.tensors, None, &path).map_err(|error| {
                TrainerError::checkpoint(&path, format!("cannot be written: {error}"))
            })?;
            let header = Header {
                program: env!("CARGO_PKG_VERSION").to_owned(),
                identity: self.identity.clone(),
                sha256: sha256(&path)?,
                lengths,
                step: point.step,
                state: point.state.clone(),
            };
            let path = folder.join("state.json");
            let text = serde_json::to_vec(&header)
                .map_err(std::io::Error::from)
                .at(&path)?;
            std::fs::write(&path, text).at(&path)
        })?;
        self.last = Instant::now();
        for (_, old) in self.list()?.into_iter().skip(KEPT) {
            std::fs::remove_dir_all(&old).at(&old)?;
        }
        Ok(())
    }

    /// The newest one that is whole, with the lengths of the run's other files, and a remark on each
    /// that is not; those go.
    ///
    /// # Errors
    /// A sentence when it belongs to another run.
    pub fn newest(
        &self,
        remarks: &mut Vec<String>,
    ) -> Result<Option<(Savepoint, BTreeMap<String, u64>)>> {
        for (_, place) in self.list()? {
            match self.read(&place) {
                Ok(found) => return Ok(Some(found)),
                Err(error @ TrainerError::Config { .. }) => return Err(error),
                Err(error) => {
                    remarks.push(format!("passed over a damaged savepoint: {error}"));
                    // It would stand in the way of the one that this step will have.
                    std::fs::remove_dir_all(&place).at(&place)?;
                }
            }
        }
        Ok(None)
    }

    fn read(&self, place: &Path) -> Result<(Savepoint, BTreeMap<String, u64>)> {
        let path = place.join("state.json");
        let torn = |path: &Path, message: String| TrainerError::checkpoint(path, message);
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
        let path = place.join("tensors.safetensors");
        if sha256(&path)? != header.sha256 {
            return Err(torn(&path, "is damaged: its SHA-256 is another".to_owned()));
        }
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
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.folder).at(&self.folder)? {
            let path = entry.at(&self.folder)?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let name = name.unwrap_or_default();
            if name.starts_with(TORN) {
                std::fs::remove_dir_all(&path).at(&path)?;
            } else if let Ok(step) = name.parse() {
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
            true => std::fs::remove_dir_all(&self.folder).at(&self.folder),
            false => Ok(()),
        }
    }
}
