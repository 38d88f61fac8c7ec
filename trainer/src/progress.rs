//! What a run tells while it works. The server turns events into rows; the command line prints
//! them; the run folder keeps them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Result, TrainerError};
use crate::savepoint::Savepoint;

/// One thing that happened in a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// A part of the run began or moved on.
    Phase {
        /// What it does.
        name: String,
        /// How far it is.
        step: u64,
        /// How far it goes.
        total: u64,
    },
    /// Numbers of a step.
    Metrics {
        /// The step, counted from 1; 0 is before training.
        step: u64,
        /// Values by name.
        values: BTreeMap<String, f64>,
    },
    /// A line for people.
    Log {
        /// The line.
        message: String,
    },
    /// A check at the start of the run.
    Check {
        /// What was checked.
        name: String,
        /// Whether it holds.
        passed: bool,
        /// The numbers behind it.
        detail: String,
    },
    /// A completion to look at.
    Sample {
        /// The step it was drawn at.
        step: u64,
        /// Prompt, completion, reward.
        data: Value,
    },
    /// What is to be known of the model, at the end.
    Report {
        /// As in `report.json`.
        data: Value,
    },
    /// A checkpoint was written.
    Checkpoint {
        /// Its folder.
        path: PathBuf,
    },
}

/// Hears events, and knows whether the run is to stop.
pub trait Progress {
    /// Hears an event.
    fn record(&mut self, event: Event);

    /// Whether somebody asked the run to stop.
    fn is_cancelled(&self) -> bool {
        false
    }

    /// Why what was heard could not be kept, if so: a full disk, for one.
    fn failure(&self) -> Option<TrainerError> {
        None
    }

    /// Whether it is time to keep a savepoint.
    fn wants_savepoint(&self) -> bool {
        false
    }

    /// Keeps a savepoint, where such are kept.
    ///
    /// # Errors
    /// When the disk is full.
    fn save(&mut self, _point: &Savepoint) -> Result<()> {
        Ok(())
    }
}

/// Shorthands for those who report.
impl dyn Progress + '_ {
    /// A line for people.
    pub fn log(&mut self, message: impl Into<String>) {
        self.record(Event::Log {
            message: message.into(),
        });
    }

    /// Numbers of a step.
    pub fn metrics<const N: usize>(&mut self, step: u64, values: [(&str, f64); N]) {
        let values = values
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        self.record(Event::Metrics { step, values });
    }

    /// How far a part is.
    pub fn phase(&mut self, name: &str, step: usize, total: usize) {
        self.record(Event::Phase {
            name: name.to_owned(),
            step: step as u64,
            total: total as u64,
        });
    }

    /// A check; a failed one ends the run.
    ///
    /// # Errors
    /// `Refused` when it does not hold.
    pub fn check(&mut self, name: &str, passed: bool, detail: impl Into<String>) -> Result<()> {
        let detail = detail.into();
        self.record(Event::Check {
            name: name.to_owned(),
            passed,
            detail: detail.clone(),
        });
        if passed {
            Ok(())
        } else {
            Err(TrainerError::Refused(format!("{name}: {detail}")))
        }
    }

    /// Stops here if somebody asked for it, or if what the run tells can no longer be kept.
    ///
    /// # Errors
    /// `Cancelled`, or what the system said.
    pub fn go_on(&self) -> Result<()> {
        if self.is_cancelled() {
            return Err(TrainerError::Cancelled);
        }
        self.failure().map_or(Ok(()), Err)
    }
}

/// Hears nothing.
pub struct Silent;

impl Progress for Silent {
    fn record(&mut self, _: Event) {}
}
