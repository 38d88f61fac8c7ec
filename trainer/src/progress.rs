//! What a run tells the world while it works, and how the world tells it to stop.
//!
//! The trainer knows no database and no terminal: it hands [`Event`]s to a [`Progress`], and asks it between two
//! micro-batches whether it shall stop. Events are plain data, so that a worker can store them as they are.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Result, TrainerError};

/// One thing that happened in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A phase moved on: `step` of `total` units of `name` are done.
    Phase {
        /// The phase, in words for the operator.
        name: String,
        /// Units done.
        step: u64,
        /// Units in all.
        total: u64,
    },
    /// Numbers of one step.
    Metrics {
        /// The optimiser step (or PPO iteration) they belong to.
        step: u64,
        /// Name to value; always finite.
        values: BTreeMap<String, f64>,
    },
    /// A line for the operator.
    Log {
        /// How serious it is.
        level: Level,
        /// One sentence.
        message: String,
    },
    /// A self-check that was made before training.
    Check {
        /// What was checked.
        name: String,
        /// Whether it holds.
        passed: bool,
        /// The measured value, in words.
        detail: String,
    },
    /// A text worth reading, e.g. a fixed prompt answered before and after PPO.
    Sample {
        /// The step it was drawn at.
        step: u64,
        /// Its fields; `kind` says what it is.
        data: serde_json::Value,
    },
    /// A checkpoint is complete on disk.
    Checkpoint {
        /// Its folder.
        path: PathBuf,
    },
}

/// How serious a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Worth knowing.
    Info,
    /// Worth acting on.
    Warning,
}

/// Where a run reports to.
pub trait Progress {
    /// Takes one event.
    fn record(&mut self, event: Event);
    /// Whether somebody asked the run to stop; asked between micro-batches.
    fn is_cancelled(&self) -> bool;
}

/// Ends the run with [`TrainerError::Cancelled`] when somebody asked for it.
///
/// # Errors
/// Exactly when [`Progress::is_cancelled`] says so.
pub fn stop_if_cancelled(progress: &dyn Progress) -> Result<()> {
    if progress.is_cancelled() {
        return Err(TrainerError::Cancelled);
    }
    Ok(())
}

/// Keeps every event in memory; stops the run after `cancel_after` events when that is set.
#[derive(Debug, Default)]
pub struct Collected {
    /// The events so far, oldest first.
    pub events: Vec<Event>,
    /// Ask the run to stop once this many events are here.
    pub cancel_after: Option<usize>,
}

impl Collected {
    /// The values of one metric over the run, in order.
    #[must_use]
    pub fn metric(&self, name: &str) -> Vec<f64> {
        let values_of = |event: &Event| match event {
            Event::Metrics { values, .. } => values.get(name).copied(),
            _ => None,
        };
        self.events.iter().filter_map(values_of).collect()
    }
}

impl Progress for Collected {
    fn record(&mut self, event: Event) {
        self.events.push(event);
    }

    fn is_cancelled(&self) -> bool {
        self.cancel_after
            .is_some_and(|limit| self.events.len() >= limit)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn an_event_survives_json() {
        let event = Event::Metrics {
            step: 3,
            values: BTreeMap::from([("loss".to_owned(), 0.5)]),
        };
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(
            text,
            r#"{"event":"metrics","step":3,"values":{"loss":0.5}}"#
        );
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    }

    #[test]
    fn a_cancelled_run_ends_with_its_own_error() {
        let mut progress = Collected {
            cancel_after: Some(1),
            ..Collected::default()
        };
        stop_if_cancelled(&progress).unwrap();
        progress.record(Event::Log {
            level: Level::Info,
            message: "started".to_owned(),
        });
        assert!(matches!(
            stop_if_cancelled(&progress),
            Err(TrainerError::Cancelled)
        ));
    }
}
