//! Builds exports into files, one after the other, beside the requests of a server.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use sqlx::PgPool;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::domain::export::REVISION;
use crate::domain::ids::ExportId;
use crate::exchange::export_file::{Built, build, folder};
use crate::store;
use crate::store::exports::{Claim, Outcome};

/// Time between looks at the queue when nobody calls, and after a failure.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Time between two reports of how far a building is.
const REPORT_EVERY: Duration = Duration::from_millis(500);

/// Builds what is wanted, as soon as `wanted` calls, for ever.
pub async fn run(pool: PgPool, data_dir: PathBuf, wanted: Arc<Notify>) {
    loop {
        match build_next(&pool, &data_dir).await {
            Ok(true) => continue,
            Ok(false) => (),
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "exports cannot be built now");
            }
        }
        let _ = tokio::time::timeout(LOOK_EVERY, wanted.notified()).await;
    }
}

/// Builds the next export; false when none is wanted. One that fails says so in its row.
///
/// # Errors
/// When the database fails.
pub async fn build_next(pool: &PgPool, data_dir: &Path) -> anyhow::Result<bool> {
    let mut db = pool.acquire().await?;
    let Some(claim) = store::exports::claim(&mut db).await? else {
        return Ok(false);
    };
    drop(db);
    let done = Arc::new(AtomicU64::new(0));
    let building = tokio::spawn(build_one(
        pool.clone(),
        data_dir.to_owned(),
        claim.id,
        done.clone(),
    ));
    tokio::pin!(building);
    let built = loop {
        match tokio::time::timeout(REPORT_EVERY, &mut building).await {
            Ok(built) => break built.map_err(anyhow::Error::from).flatten(),
            Err(_) => {
                let n = done.load(Ordering::Relaxed) as i64;
                // Building goes on where a report fails: the next one tells more.
                if let Err(error) = report(pool, claim, n).await {
                    tracing::warn!(id = %claim.id, error = format!("{error:#}"), "cannot report an export");
                }
            }
        }
    };
    let failure;
    let outcome = match &built {
        Ok(built) => Outcome::Ready {
            n_rows: built.n_rows as i64,
            n_bytes: built.n_bytes as i64,
            sha256: &built.sha256,
        },
        Err(error) => {
            failure = format!("{error:#}");
            tracing::error!(id = %claim.id, error = failure, "an export failed");
            Outcome::Failed(&failure)
        }
    };
    store::exports::finish(&mut *pool.acquire().await?, claim, &outcome).await?;
    Ok(true)
}

async fn report(pool: &PgPool, claim: Claim, n: i64) -> sqlx::Result<()> {
    store::exports::report(&mut *pool.acquire().await?, claim, n).await
}

/// Writes the file on a thread that may wait for the disk.
async fn build_one(
    pool: PgPool,
    data_dir: PathBuf,
    id: ExportId,
    done: Arc<AtomicU64>,
) -> anyhow::Result<Built> {
    let handle = Handle::current();
    tokio::task::spawn_blocking(move || {
        handle.block_on(async {
            let mut db = pool.acquire().await?;
            let export = store::exports::find(&mut db, id).await?;
            let export = export.with_context(|| format!("export {id} is gone"))?;
            anyhow::ensure!(
                export.revision == REVISION,
                "it was asked for by another version of this program: ask for it again"
            );
            let path = folder(&data_dir)?.join(export.file_name()?);
            let choice = export.choice()?;
            let mut progress = |n| done.store(n, Ordering::Relaxed);
            build(&mut db, export.snapshot_id, &choice, &path, &mut progress).await
        })
    })
    .await?
}
