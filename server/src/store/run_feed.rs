//! Wakes those who follow runs. One connection listens for all of them; a notification carries no
//! data and only says "look again", so a lost one delays a page and loses nothing.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::domain::ids::RunId;
use crate::store::run_events::CHANNEL;

/// Followers look at least this often even when nothing wakes them.
const LOOK_ANYWAY: Duration = Duration::from_secs(15);

/// How long to wait before connecting again.
const RETRY: Duration = Duration::from_secs(2);

/// The shared listener. It connects for the first follower and leaves with the last.
#[derive(Debug)]
pub struct RunFeed {
    db: PgPool,
    sender: Mutex<Option<broadcast::Sender<Option<RunId>>>>,
    closed: CancellationToken,
}

/// One follower of a run.
#[derive(Debug)]
pub struct Follower {
    run_id: RunId,
    wakes: broadcast::Receiver<Option<RunId>>,
    closed: CancellationToken,
}

impl RunFeed {
    /// A feed over the pool; nothing connects yet.
    pub fn new(db: PgPool) -> Self {
        Self {
            db,
            sender: Mutex::new(None),
            closed: CancellationToken::new(),
        }
    }

    /// Follows a run. Subscribe first and read the events then, so that nothing falls between.
    pub fn follow(&self, run_id: RunId) -> Follower {
        let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let wakes = match sender.as_ref().filter(|sender| sender.receiver_count() > 0) {
            Some(sender) => sender.subscribe(),
            None => {
                let (fresh, wakes) = broadcast::channel(64);
                tokio::spawn(listen(self.db.clone(), fresh.clone()));
                *sender = Some(fresh);
                wakes
            }
        };
        Follower {
            run_id,
            wakes,
            closed: self.closed.clone(),
        }
    }

    /// Ends every follower, for the server's own end.
    pub fn close(&self) {
        self.closed.cancel();
    }
}

impl Follower {
    /// Waits until the run may have new events. False when the server is ending.
    pub async fn wait(&mut self) -> bool {
        let run_id = self.run_id;
        let wakes = &mut self.wakes;
        let woken = async {
            loop {
                match wakes.recv().await {
                    Ok(Some(id)) if id != run_id => (),
                    Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
                    _ => return,
                }
            }
        };
        tokio::select! {
            () = self.closed.cancelled() => false,
            _ = tokio::time::timeout(LOOK_ANYWAY, woken) => true,
        }
    }
}

/// Passes notifications on until nobody follows any more.
async fn listen(db: PgPool, sender: broadcast::Sender<Option<RunId>>) {
    tokio::select! {
        () = sender.closed() => (),
        () = listen_for_ever(&db, &sender) => (),
    }
}

async fn listen_for_ever(db: &PgPool, sender: &broadcast::Sender<Option<RunId>>) {
    loop {
        if let Err(error) = listen_once(db, sender).await {
            tracing::warn!(%error, "listening for events of runs failed, trying again");
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn listen_once(db: &PgPool, sender: &broadcast::Sender<Option<RunId>>) -> sqlx::Result<()> {
    let mut listener = PgListener::connect_with(db).await?;
    listener.listen(CHANNEL).await?;
    loop {
        // What happened while nobody listened wakes nobody, so everybody looks once.
        let _ = sender.send(None);
        while let Some(notification) = listener.try_recv().await? {
            let _ = sender.send(notification.payload().parse().ok());
        }
    }
}
