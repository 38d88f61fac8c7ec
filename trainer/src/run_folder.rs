//! The folder of one run: `config.json` with every setting resolved, `metrics.jsonl`, `samples.jsonl`, TensorBoard
//! events, and the checkpoint in `checkpoint/`.
//!
//! A [`Recorder`] writes each event to the folder and hands it on, so that the folder and the operator's page never
//! tell different stories. The folder is created only after the data was read and found good.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::error::{Result, TrainerError};
use crate::progress::{Event, Level, Progress, stop_if_cancelled};
use crate::tensorboard::EventFile;

/// The files of one run.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    metrics: File,
    samples: File,
    events: EventFile,
}

impl RunFolder {
    /// Creates `path` with its files; `settings` becomes `config.json`.
    ///
    /// # Errors
    /// A folder that already holds a run, or can't be written.
    pub fn create(path: &Path, settings: &Value) -> Result<Self> {
        let config_path = path.join("config.json");
        if config_path.exists() {
            return Err(TrainerError::Refused(format!(
                "{} already holds a run; choose another folder",
                path.display()
            )));
        }
        fs::create_dir_all(path).map_err(|source| io_error(path, source))?;
        let text = serde_json::to_string_pretty(settings).unwrap_or_default() + "\n";
        fs::write(&config_path, text).map_err(|source| io_error(&config_path, source))?;
        let now = seconds_since_1970();
        let events_path = path.join(format!("events.out.tfevents.{}.plackett", now as u64));
        Ok(Self {
            path: path.to_owned(),
            metrics: create(&path.join("metrics.jsonl"))?,
            samples: create(&path.join("samples.jsonl"))?,
            events: EventFile::create(&events_path, now)
                .map_err(|source| io_error(&events_path, source))?,
        })
    }

    /// Where the checkpoint goes.
    #[must_use]
    pub fn checkpoint(&self) -> PathBuf {
        self.path.join("checkpoint")
    }

    fn write(&mut self, event: &Event) -> Result<()> {
        let written = match event {
            Event::Metrics { step, values } => self.write_metrics(*step, values),
            Event::Sample { step, data } => {
                write_line(&mut self.samples, &json!({"step": step, "data": data}))
            }
            _ => Ok(()),
        };
        written.map_err(|source| io_error(&self.path, source))
    }

    fn write_metrics(&mut self, step: u64, values: &BTreeMap<String, f64>) -> std::io::Result<()> {
        let time = seconds_since_1970();
        let mut line = Map::new();
        line.insert("step".to_owned(), json!(step));
        line.insert("time".to_owned(), json!(time));
        line.extend(
            values
                .iter()
                .map(|(name, value)| (name.clone(), json!(value))),
        );
        write_line(&mut self.metrics, &Value::Object(line))?;
        self.events.write_scalars(time, step, values)
    }
}

fn create(path: &Path) -> Result<File> {
    File::create(path).map_err(|source| io_error(path, source))
}

fn io_error(path: &Path, source: std::io::Error) -> TrainerError {
    TrainerError::Io {
        path: path.to_owned(),
        source,
    }
}

fn write_line(file: &mut File, value: &impl Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    file.write_all(&line)
}

fn seconds_since_1970() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |elapsed| elapsed.as_secs_f64())
}

/// Writes events to the run folder and hands them on.
pub struct Recorder<'a> {
    folder: RunFolder,
    progress: &'a mut dyn Progress,
}

impl<'a> Recorder<'a> {
    /// Records into `folder` and `progress`.
    pub fn new(folder: RunFolder, progress: &'a mut dyn Progress) -> Self {
        Self { folder, progress }
    }

    /// The folder it writes to.
    #[must_use]
    pub fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// Records one event.
    ///
    /// # Errors
    /// A run folder that can't be written any more.
    pub fn record(&mut self, event: Event) -> Result<()> {
        self.folder.write(&event)?;
        self.progress.record(event);
        Ok(())
    }

    /// Records that `step` of `total` units of phase `name` are done, and ends the run if somebody asked for it.
    ///
    /// # Errors
    /// A cancelled run, or a run folder that can't be written any more.
    pub fn phase(&mut self, name: &str, step: usize, total: usize) -> Result<()> {
        self.record(Event::Phase {
            name: name.to_owned(),
            step: step as u64,
            total: total as u64,
        })?;
        self.stop_if_cancelled()
    }

    /// Ends the run if somebody asked for it.
    ///
    /// # Errors
    /// A cancelled run.
    pub fn stop_if_cancelled(&self) -> Result<()> {
        stop_if_cancelled(self.progress)
    }

    /// Whether somebody asked the run to stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.progress.is_cancelled()
    }

    /// Records a log line.
    ///
    /// # Errors
    /// A run folder that can't be written any more.
    pub fn log(&mut self, level: Level, message: impl Into<String>) -> Result<()> {
        self.record(Event::Log {
            level,
            message: message.into(),
        })
    }

    /// Records the numbers of one step. A number that is not finite is left out and named in a warning, since JSON
    /// and the curves have no place for it.
    ///
    /// # Errors
    /// A run folder that can't be written any more.
    pub fn metrics(&mut self, step: usize, values: &[(&str, f64)]) -> Result<()> {
        let broken: Vec<&str> = values
            .iter()
            .filter(|(_, value)| !value.is_finite())
            .map(|(name, _)| *name)
            .collect();
        if !broken.is_empty() {
            self.log(
                Level::Warning,
                format!("not finite at step {step}: {}", broken.join(", ")),
            )?;
        }
        let finite = values.iter().filter(|(_, value)| value.is_finite());
        let values = finite
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect();
        self.record(Event::Metrics {
            step: step as u64,
            values,
        })
    }

    /// Records a sample.
    ///
    /// # Errors
    /// A run folder that can't be written any more.
    pub fn sample(&mut self, step: usize, data: Value) -> Result<()> {
        self.record(Event::Sample {
            step: step as u64,
            data,
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::progress::Collected;

    #[test]
    fn metrics_land_in_the_folder_and_in_the_progress() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("run");
        let mut progress = Collected::default();
        let folder = RunFolder::create(&path, &json!({"seed": 1})).unwrap();
        let mut recorder = Recorder::new(folder, &mut progress);
        recorder
            .metrics(2, &[("loss", 0.5), ("broken", f64::NAN)])
            .unwrap();
        recorder.sample(2, json!({"kind": "after"})).unwrap();
        let line: Value =
            serde_json::from_str(&fs::read_to_string(path.join("metrics.jsonl")).unwrap()).unwrap();
        assert_eq!(
            (
                line["step"].clone(),
                line["loss"].clone(),
                line.get("broken")
            ),
            (json!(2), json!(0.5), None)
        );
        assert!(line["time"].as_f64().unwrap() > 1e9);
        assert!(
            fs::read_to_string(path.join("samples.jsonl"))
                .unwrap()
                .contains("after")
        );
        assert_eq!(progress.metric("loss"), [0.5]);
        assert!(
            matches!(&progress.events[0], Event::Log { message, .. } if message.contains("broken"))
        );
    }

    #[test]
    fn a_folder_with_a_run_in_it_is_left_alone() {
        let parent = tempfile::tempdir().unwrap();
        RunFolder::create(parent.path(), &json!({})).unwrap();
        let error = RunFolder::create(parent.path(), &json!({})).unwrap_err();
        assert!(error.to_string().contains("already holds a run"), "{error}");
    }
}
