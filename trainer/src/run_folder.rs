//! A run's folder: `config.json` with every setting resolved, `metrics.jsonl`, `samples.jsonl`,
//! TensorBoard events, `report.json` where there is one, and the checkpoint in `checkpoint/`.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};

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

const CONFIG: &str = "config.json";
const SOURCES: &str = "config_sources.json";
const SAVEPOINTS: &str = "savepoints";
const METRICS: &str = "metrics.jsonl";
const SAMPLES: &str = "samples.jsonl";
const REPORT: &str = "report.json";
const LOCK: &str = "run.lock";

/// Refuses a folder in which a run would write elsewhere, through a link, or among what is not its
/// own: a new one may find its data there, and the lock and a half-written file of a program that got
/// no further.
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
        let is_left_over = name == LOCK || name.starts_with(disk::TORN);
        if is_data || (is_left_over && !entry.path().is_symlink()) {
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

/// Refuses to go on in a folder that is no run's. One without a savepoint would be written anew from
/// the start, and a model's folder or anybody's papers would be lost by a mistyped name.
fn check_is_run(folder: &Path) -> Result<()> {
    let refuse = |message: String| Err(TrainerError::checkpoint(folder, message));
    if has_savepoint(folder)? || !folder.exists() {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder).at(folder)? {
        let name = entry.at(folder)?.file_name().to_string_lossy().into_owned();
        let is_own = [CONFIG, SOURCES, SAVEPOINTS, REPORT, LOCK].contains(&name.as_str())
            || name.ends_with(".jsonl")
            || name.starts_with(EVENTS)
            || name.starts_with(disk::TORN);
        if !is_own {
            return refuse(format!(
                "holds no savepoint to go on from, and {name:?}, which is no run's: choose another \
                 folder"
            ));
        }
    }
    let path = folder.join(CONFIG);
    if !path.exists() {
        return Ok(());
    }
    let config: Option<Value> = serde_json::from_slice(&std::fs::read(&path).at(&path)?).ok();
    let settings = config.as_ref().and_then(Value::as_object);
    match settings.is_some_and(|all| !all.contains_key("model_type")) {
        true => Ok(()),
        false => refuse(format!(
            "holds no savepoint to go on from, and its {CONFIG} has no settings of a run: choose \
             another folder"
        )),
    }
}

/// Whether the folder holds a savepoint, damaged or not. Each is named by its step.
fn has_savepoint(folder: &Path) -> Result<bool> {
    let folder = folder.join(SAVEPOINTS);
    if !folder.is_dir() {
        return Ok(false);
    }
    for entry in std::fs::read_dir(&folder).at(&folder)? {
        let name = entry.at(&folder)?.file_name();
        if name
            .to_string_lossy()
            .starts_with(|first: char| first.is_ascii_digit())
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Keeps every other program out of the folder: a worker that was given up may still be at work
/// when another one goes on.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    let file = File::create(&path).at(&path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(TrainerError::checkpoint(
            folder,
            "belongs to a run that another program is working on",
        )),
        // As on file systems that know no locks.
        Err(TryLockError::Error(source)) => Err(TrainerError::Io { path, source }),
    }
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

/// The same, once all of them would outlive a power failure: a savepoint that says how long they are
/// must not outlive what they held.
fn lengths_on_disk(folder: &Path) -> Result<BTreeMap<String, u64>> {
    let lengths = lengths(folder)?;
    for name in lengths.keys() {
        disk::sync(&folder.join(name))?;
    }
    disk::sync(folder)?;
    Ok(lengths)
}

/// Cuts those files to the lengths that they had at a savepoint, which are no longer than theirs.
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
        let path = folder.join(CONFIG);
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
        if policy.resume {
            check_is_run(folder)?;
        }
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
            remarks.push(match point.part {
                0 => format!("going on after step {}", point.step),
                _ => format!("going on within the step after {}", point.step),
            });
        } else if policy.resume {
            remarks.push("there is no savepoint to go on from: starting anew".to_owned());
        }
        cut(folder, &lengths)?;
        let text = serde_json::to_vec_pretty(config)
            .map_err(std::io::Error::from)
            .at(&path)?;
        disk::replace(&path, &text)?;
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
        let lengths = lengths_on_disk(&self.folder)?;
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

    /// As after a power failure, which may keep the savepoint and lose the figures.
    #[test]
    fn a_savepoint_whose_figures_are_lost_is_passed_over_for_the_one_before_it() {
        let place = tempfile::tempdir().unwrap();
        let out = place.path().join("out");
        let open = |resume: bool, listener: &mut dyn Progress| {
            let policy = SavePolicy {
                resume,
                ..SavePolicy::default()
            };
            let config = json!({});
            let (mut folder, point) =
                RunFolder::open(&out, &config, String::new(), policy, listener).unwrap();
            for step in 1..3 {
                if !resume {
                    (&mut folder as &mut dyn Progress).metrics(step, [("loss", 0.5)]);
                    folder
                        .save(&Savepoint::new(step as usize, &config))
                        .unwrap();
                }
            }
            point.map(|point| point.step)
        };
        assert_eq!(open(false, &mut Silent), None);
        let figures = File::options().write(true).open(out.join(METRICS)).unwrap();
        let length = figures.metadata().unwrap().len();
        figures.set_len(length - 1).unwrap();
        assert_eq!(open(true, &mut Silent), Some(1));
        let left = std::fs::read(out.join(METRICS)).unwrap();
        assert!(left.ends_with(b"\n") && !left.contains(&0));
        assert_eq!(left.iter().filter(|byte| **byte == b'\n').count(), 1);
        figures.set_len(1).unwrap();
        assert_eq!(open(true, &mut Silent), None);
        assert_eq!(std::fs::read(out.join(METRICS)).unwrap(), b"");
    }

    #[test]
    fn a_savepoint_of_another_version_is_used_and_that_is_told() {
        let place = tempfile::tempdir().unwrap();
        let out = place.path().join("out");
        let points = |resume| {
            let policy = SavePolicy {
                resume,
                ..SavePolicy::default()
            };
            crate::savepoint::Savepoints::new(&out, String::new(), policy)
        };
        points(false)
            .save(&Savepoint::new(3, &json!({})), BTreeMap::new())
            .unwrap();
        let said = |expected: usize| {
            let mut remarks = Vec::new();
            let (point, _) = points(true).start(&mut remarks).unwrap().unwrap();
            assert_eq!(point.step, 3);
            assert_eq!(remarks.len(), expected, "{remarks:?}");
            remarks.pop().unwrap_or_default()
        };
        said(0);
        let point = out.join("savepoints/0000000003");
        let state = std::fs::read_to_string(point.join("state.json")).unwrap();
        let own = format!("\"program\":\"{}\"", env!("CARGO_PKG_VERSION"));
        assert!(state.contains(&own), "{state}");
        std::fs::write(
            point.join("state.json"),
            state.replace(&own, "\"program\":\"0.0.7\""),
        )
        .unwrap();
        let sums = ["state.json", "tensors.safetensors"].map(|name| {
            let hash = crate::checkpoint::sha256(&point.join(name)).unwrap();
            format!("{hash}  {name}\n")
        });
        std::fs::write(point.join("SHA256SUMS"), sums.concat()).unwrap();
        assert!(said(1).contains("version 0.0.7"));
    }
}
