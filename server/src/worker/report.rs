//! From the trainer's events to rows. The trainer runs on a blocking thread and never waits for
//! the database: it sends events to a task that writes them in order, several in a transaction.

use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use sqlx::PgPool;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use trainer::progress::{Event, Progress};

use crate::domain::ids::RunId;
use crate::store;

/// Moves within a phase are kept this far apart: a row for every token would tell nobody more.
const PHASE_INTERVAL: Duration = Duration::from_millis(500);

/// Events written in one transaction at most.
const BATCH: usize = 200;

/// Tries to write something, one second apart and then doubling, before the run is given up.
const TRIES: u32 = 6;

/// Whether a run is to stop; shared by the trainer's thread, the heartbeat and the writer.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Asks the run to stop.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the run is to stop.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Hears the trainer and passes on what is worth a row.
pub struct Reporter {
    sender: UnboundedSender<(String, Value)>,
    stop: StopFlag,
    phase: Option<(String, Instant)>,
}

impl Reporter {
    /// A reporter that sends to a task that runs [`write_events`].
    pub fn new(sender: UnboundedSender<(String, Value)>, stop: StopFlag) -> Self {
        Self {
            sender,
            stop,
            phase: None,
        }
    }

    /// Whether this event is only a small move within the current phase.
    fn is_small_move(&mut self, event: &Event) -> bool {
        let Event::Phase { name, step, total } = event else {
            return false;
        };
        let recent = self
            .phase
            .as_ref()
            .is_some_and(|(last, at)| last == name && at.elapsed() < PHASE_INTERVAL);
        if recent && step < total {
            return true;
        }
        self.phase = Some((name.clone(), Instant::now()));
        false
    }
}

impl Progress for Reporter {
    fn record(&mut self, event: Event) {
        if self.is_small_move(&event) {
            return;
        }
        if let Some(row) = to_row(&event) {
            // The writer is gone only when the run is lost; then the stop flag is raised.
            let _ = self.sender.send(row);
        }
    }

    fn is_cancelled(&self) -> bool {
        self.stop.is_raised()
    }
}

/// An event as the kind and the data of a row. The checkpoint's row has an id and comes later,
/// with the run's end.
fn to_row(event: &Event) -> Option<(String, Value)> {
    match event {
        Event::Checkpoint { .. } => return None,
        // Token by token an episode is for the file: pages show completions.
        Event::Sample { data, .. } if data["kind"] == "tokens" => return None,
        _ => (),
    }
    let mut data = serde_json::to_value(event).ok()?;
    let kind = data.as_object_mut()?.remove("kind")?;
    Some((kind.as_str()?.to_owned(), data))
}

/// Writes events until every sender is gone. Raises the flag when somebody asks the run to stop,
/// when it is no longer this worker's, or when the database does not come back.
pub async fn write_events(
    db: PgPool,
    id: RunId,
    worker: String,
    mut events: UnboundedReceiver<(String, Value)>,
    stop: StopFlag,
) {
    let mut batch = Vec::with_capacity(BATCH);
    while events.recv_many(&mut batch, BATCH).await > 0 {
        match write_batch(&db, id, &worker, &batch).await {
            Ok(Some(false)) => (),
            Ok(Some(true)) => stop.raise(),
            Ok(None) => {
                stop.raise();
                return;
            }
            Err(error) => {
                tracing::error!(%id, %error, "events of the run cannot be written");
                stop.raise();
                return;
            }
        }
        batch.clear();
    }
}

async fn write_batch(
    db: &PgPool,
    id: RunId,
    worker: &str,
    batch: &[(String, Value)],
) -> sqlx::Result<Option<bool>> {
    persist(id, || try_batch(db, id, worker, batch)).await
}

/// Tries to write something of a run until it succeeds, with half a minute of waits between: a database
/// that is started anew must not cost a run its work.
///
/// # Errors
/// That of the last try.
pub async fn persist<T, E, F>(id: RunId, mut attempt: impl FnMut() -> F) -> Result<T, E>
where
    E: Display,
    F: Future<Output = Result<T, E>>,
{
    let mut wait = Duration::from_secs(1);
    for _ in 1..TRIES {
        match attempt().await {
            Err(error) => tracing::warn!(%id, %error, "writing failed, trying again"),
            written => return written,
        }
        tokio::time::sleep(wait).await;
        wait *= 2;
    }
    attempt().await
}

async fn try_batch(
    db: &PgPool,
    id: RunId,
    worker: &str,
    batch: &[(String, Value)],
) -> sqlx::Result<Option<bool>> {
    let mut transaction = db.begin().await?;
    let asked = store::runs::record(&mut transaction, id, worker, batch).await?;
    transaction.commit().await?;
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn small_moves_within_a_phase_are_left_out_but_its_begin_and_end_are_kept() {
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        let mut reporter = Reporter::new(sender, StopFlag::default());
        for step in 0..=1000 {
            let progress: &mut dyn Progress = &mut reporter;
            progress.phase("training", step, 1000);
        }
        drop(reporter);
        let mut steps = Vec::new();
        while let Ok((kind, data)) = receiver.try_recv() {
            assert_eq!(
                (kind.as_str(), &data["name"]),
                ("phase", &json!("training"))
            );
            steps.push(data["step"].clone());
        }
        assert!(steps.len() < 1000);
        assert_eq!(
            (steps.first(), steps.last()),
            (Some(&json!(0)), Some(&json!(1000)))
        );
    }

    #[test]
    fn a_number_that_json_cannot_hold_becomes_null() {
        let values = [("loss".to_owned(), f64::NAN)].into();
        let row = to_row(&Event::Metrics { step: 3, values });
        let data = json!({"step": 3, "values": {"loss": null}});
        assert_eq!(row, Some(("metrics".to_owned(), data)));
    }

    #[test]
    fn an_episode_token_by_token_stays_in_the_runs_folder() {
        let sample = |kind: &str| {
            to_row(&Event::Sample {
                step: 1,
                data: json!({"kind": kind}),
            })
        };
        assert_eq!(sample("tokens"), None);
        assert!(sample("before").is_some());
    }

    #[tokio::test]
    async fn what_fails_once_is_written_by_the_next_try() {
        let mut tries = 0;
        let written = persist(RunId::new(), || {
            tries += 1;
            let result = if tries == 1 {
                Err("no connection")
            } else {
                Ok(tries)
            };
            async move { result }
        });
        assert_eq!(written.await, Ok(2));
    }
}
