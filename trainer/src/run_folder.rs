//! A run's folder: `config.json` with every setting resolved, `metrics.jsonl`, `samples.jsonl`,
//! TensorBoard events, `report.json` where there is one, and the checkpoint in `checkpoint/`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::json;

use crate::disk;
use crate::error::{AtPath, Result, TrainerError};
use crate::events::{EVENTS, EventWriter};
use crate::progress::{Event, Progress};
use crate::savepoint::{SavePolicy, Savepoint, Savepoints};

/// Passes events on and keeps them in the run's folder.
pub struct RunFolder<'a> {
    listener: &'a mut dyn Progress,
    metrics: File,
    samples: File,
    events: EventWriter,
    /// The first write that failed, told at the next step: a full disk ends the run with a sentence.
    failure: Option<(PathBuf, std::io::Error)>,
    folder: PathBuf,
    savepoints: Savepoints,
    /// Held for as long as the run works.
    _lock: File,
}

const METRICS: &str = "metrics.jsonl";
const SAMPLES: &str = "samples.jsonl";
const REPORT: &str = "report.json";
const LOCK: &str = "run.lock";

/// Refuses a folder in which a run would write elsewhere, through a link, or among what is not its
/// own: a new one may find its data there, and the lock of a program that got no further.
fn check_contents(folder: &Path, resume: bool) -> Result<()> {
    let refuse = |message: String| Err(TrainerError::checkpoint(folder, message));
    if folder.is_symlink() {
        return refuse("is a link; name the folder that it points to".to_owned());
    }
    if !folder.exists() {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder).at(folder)? {
        let entry = entry.at(folder)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_data = name.ends_with(".jsonl") && ![METRICS, SAMPLES].contains(&name.as_str());
        if is_data || (name == LOCK && !entry.path().is_symlink()) {
            continue;
        }
        if entry.path().is_symlink() {
            return refuse(format!(
                "holds the link {name:?}, and a run writes through none"
            ));
        }
        if !resume {
            return refuse(format!(
                "is not empty: it holds {name:?}; choose another folder"
            ));
        }
    }
    Ok(())
}

/// Keeps every other program out of the folder: a worker that was given up may still be at work
/// when another one goes on.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    let file = File::create(&path).at(&path)?;
    file.try_lock().map_err(|_| {
        TrainerError::checkpoint(
            folder,
            "belongs to a run that another program is working on",
        )
    })?;
    Ok(file)
}

/// The files that grow during a run, and how long they are.
fn lengths(folder: &Path) -> Result<BTreeMap<String, u64>> {
    let mut lengths = BTreeMap::new();
    for entry in std::fs::read_dir(folder).at(folder)? {
        let entry = entry.at(folder)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if [METRICS, SAMPLES].contains(&name.as_str()) || name.starts_with(EVENTS) {
            lengths.insert(name, entry.metadata().at(folder)?.len());
        }
    }
    Ok(lengths)
}

/// Cuts those files to the lengths that they had at a savepoint.
fn cut(folder: &Path, wanted: &BTreeMap<String, u64>) -> Result<()> {
    for name in lengths(folder)?.into_keys() {
        let path = folder.join(&name);
        match wanted.get(&name) {
            Some(length) => File::options()
                .write(true)
                .open(&path)
                .and_then(|file| file.set_len(*length))
                .at(&path)?,
            None => std::fs::remove_file(&path).at(&path)?,
        }
    }
    Ok(())
}

impl<'a> RunFolder<'a> {
    /// Makes the folder and writes the resolved configuration; or, where the run is to go on, opens
    /// it, cuts off what came after its newest savepoint, and returns that. Called only once the
    /// data was read and found good, so that a bad file leaves nothing behind.
    ///
    /// # Errors
    /// When it holds a run already, another one than is to go on, or cannot be written.
    pub fn open(
        folder: &Path,
        config: &impl Serialize,
        identity: String,
        policy: SavePolicy,
        listener: &'a mut dyn Progress,
    ) -> Result<(Self, Option<Savepoint>)> {
        let path = folder.join("config.json");
        let refuse = |message: &str| Err(TrainerError::checkpoint(folder, message));
        if path.exists() && !policy.resume {
            return refuse(
                "holds a run or a model already; choose another folder, or resume the run",
            );
        }
        if folder.join("checkpoint").exists() {
            return refuse("holds the checkpoint of a run that has ended");
        }
        check_contents(folder, policy.resume)?;
        disk::create_folder(folder)?;
        let lock = lock(folder)?;
        disk::remove_torn(folder)?;
        let savepoints = Savepoints::new(folder, identity, policy);
        let mut remarks = Vec::new();
        let found = savepoints.start(&mut remarks)?;
        let (point, lengths) = match found {
            Some((point, lengths)) => (Some(point), lengths),
            None => (None, BTreeMap::new()),
        };
        if let Some(point) = &point {
            remarks.push(format!("going on after step {}", point.step));
        } else if policy.resume {
            remarks.push("there is no savepoint to go on from: starting anew".to_owned());
        }
        cut(folder, &lengths)?;
        let text = serde_json::to_vec_pretty(config)
            .map_err(std::io::Error::from)
            .at(&path)?;
        disk::write(&path, &text)?;
        let open = |name: &str| {
            let path = folder.join(name);
            let mut options = File::options();
            options.create(true).append(true).open(&path).at(&path)
        };
        let mut opened = Self {
            listener,
            metrics: open(METRICS)?,
            samples: open(SAMPLES)?,
            events: EventWriter::create(folder)?,
            savepoints,
            _lock: lock,
            failure: None,
            folder: folder.to_owned(),
        };
        for remark in remarks {
            (&mut opened as &mut dyn Progress).log(remark);
        }
        Ok((opened, point))
    }

    /// Makes the folder of a run that keeps no savepoints.
    ///
    /// # Errors
    /// As [`RunFolder::open`].
    pub fn create(
        folder: &Path,
        config: &impl Serialize,
        listener: &'a mut dyn Progress,
    ) -> Result<Self> {
        let never = SavePolicy {
            every: None,
            ..SavePolicy::default()
        };
        Self::open(folder, config, String::new(), never, listener).map(|(opened, _)| opened)
    }

    /// Lets the savepoints go: the run has written its checkpoint.
    ///
    /// # Errors
    /// When they cannot be removed.
    pub fn finish(&self) -> Result<()> {
        self.savepoints.clear()
    }

    fn write(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Metrics { step, values } => {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                let mut line = serde_json::Map::new();
                line.insert("step".to_owned(), json!(step));
                line.insert(
                    "time".to_owned(),
                    json!(now.map_or(0.0, |since| since.as_secs_f64())),
                );
                for (name, value) in values {
                    line.insert(name.clone(), json!(value));
                    self.events.scalar(*step, name, *value)?;
                }
                writeln!(self.metrics, "{}", serde_json::Value::Object(line))
                    .at(&self.folder.join(METRICS))
            }
            Event::Sample { step, data } => {
                writeln!(self.samples, "{}", json!({"step": step, "sample": data}))
                    .at(&self.folder.join(SAMPLES))
            }
            Event::Report { data } => {
                crate::disk::write(&self.folder.join(REPORT), format!("{data:#}\n").as_bytes())
            }
            _ => Ok(()),
        }
    }
}

impl Progress for RunFolder<'_> {
    fn record(&mut self, event: Event) {
        if let Err(TrainerError::Io { path, source }) = self.write(&event) {
            self.failure.get_or_insert((path, source));
        }
        self.listener.record(event);
    }

    fn is_cancelled(&self) -> bool {
        self.listener.is_cancelled()
    }

    fn wants_savepoint(&self) -> bool {
        self.savepoints.is_due()
    }

    fn save(&mut self, point: &Savepoint) -> Result<()> {
        // A run that went on from here would lack what could not be written.
        self.failure().map_or(Ok(()), Err)?;
        let lengths = lengths(&self.folder)?;
        self.savepoints.save(point, lengths)
    }

    fn failure(&self) -> Option<TrainerError> {
        let (path, error) = self.failure.as_ref()?;
        Some(TrainerError::Io {
            path: path.clone(),
            source: std::io::Error::new(error.kind(), error.to_string()),
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::progress::Silent;

    /// What a run that went on from there would lack, nobody would miss.
    #[test]
    fn no_savepoint_is_kept_after_figures_that_could_not_be() {
        let place = tempfile::tempdir().unwrap();
        let out = place.path().join("out");
        let mut listener = Silent;
        let policy = SavePolicy::default();
        let (mut folder, _) =
            RunFolder::open(&out, &json!({}), String::new(), policy, &mut listener).unwrap();
        let point = Savepoint::new(1, &json!({}));
        folder.save(&point).unwrap();
        // No more can be written to it.
        folder.metrics = File::open(out.join(METRICS)).unwrap();
        (&mut folder as &mut dyn Progress).metrics(1, [("loss", 0.5)]);
        let said = folder.save(&Savepoint::new(2, &json!({}))).unwrap_err();
        assert!(said.to_string().contains(METRICS), "{said}");
        assert!((&mut folder as &mut dyn Progress).go_on().is_err());
        let kept = std::fs::read_dir(out.join("savepoints")).unwrap();
        assert_eq!(kept.count(), 1);
    }
}
