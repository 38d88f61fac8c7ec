//! A run's folder: `config.json` with every setting resolved, `metrics.jsonl`, `samples.jsonl`,
//! TensorBoard events, and the checkpoint in `checkpoint/`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::json;

use crate::error::{AtPath, Result, TrainerError};
use crate::events::EventWriter;
use crate::progress::{Event, Progress};

/// Passes events on and keeps them in the run's folder.
pub struct RunFolder<'a> {
    listener: &'a mut dyn Progress,
    metrics: File,
    samples: File,
    events: EventWriter,
    /// The first write that failed, told at the next step: a full disk ends the run with a sentence.
    failure: Option<std::io::Error>,
    folder: PathBuf,
}

impl<'a> RunFolder<'a> {
    /// Makes the folder and writes the resolved configuration. Called only once the data was read
    /// and found good, so that a bad file leaves nothing behind.
    ///
    /// # Errors
    /// When it holds a run already, or cannot be written.
    pub fn create(
        folder: &Path,
        config: &impl Serialize,
        listener: &'a mut dyn Progress,
    ) -> Result<Self> {
        let path = folder.join("config.json");
        if path.exists() {
            return Err(TrainerError::checkpoint(
                folder,
                "holds a run or a model already; choose another folder",
            ));
        }
        std::fs::create_dir_all(folder).at(folder)?;
        let text = serde_json::to_vec_pretty(config)
            .map_err(std::io::Error::from)
            .at(&path)?;
        std::fs::write(&path, text).at(&path)?;
        let open = |name: &str| {
            let path = folder.join(name);
            File::create(&path).at(&path)
        };
        Ok(Self {
            listener,
            metrics: open("metrics.jsonl")?,
            samples: open("samples.jsonl")?,
            events: EventWriter::create(folder)?,
            failure: None,
            folder: folder.to_owned(),
        })
    }

    fn write(&mut self, event: &Event) -> std::io::Result<()> {
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
                    self.events
                        .scalar(*step, name, *value)
                        .map_err(std::io::Error::other)?;
                }
                writeln!(self.metrics, "{}", serde_json::Value::Object(line))
            }
            Event::Sample { step, data } => {
                writeln!(self.samples, "{}", json!({"step": step, "sample": data}))
            }
            _ => Ok(()),
        }
    }
}

impl Progress for RunFolder<'_> {
    fn record(&mut self, event: Event) {
        if let Err(error) = self.write(&event) {
            self.failure.get_or_insert(error);
        }
        self.listener.record(event);
    }

    fn is_cancelled(&self) -> bool {
        self.listener.is_cancelled()
    }

    fn failure(&self) -> Option<TrainerError> {
        let error = self.failure.as_ref()?;
        Some(TrainerError::Io {
            path: self.folder.clone(),
            source: std::io::Error::new(error.kind(), error.to_string()),
        })
    }
}
