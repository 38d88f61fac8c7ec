//! Writing snapshots out as JSON lines. Lines stream from the database to the writer and into the
//! hash; nothing is kept. The same snapshot gives the same bytes: rows of a snapshot never change,
//! their order is stored with it, and every field is written in a fixed order.

use std::pin::pin;

use anyhow::Context;
use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, PgPool};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::domain::audit::AuditAction;
use crate::domain::export::{ExportChoice, ExportFormat};
use crate::domain::ids::{AccountId, SnapshotId};
use crate::domain::prompt::category_complaint;
use crate::domain::snapshot::{Selection, SnapshotKind, free_name};
use crate::error::{AppError, AppResult, OnConstraint};
use crate::exchange::{exclusions, rows};
use crate::message::Message;
use crate::store::audit_events::{self, NewEvent};
use crate::store::{snapshot_selection, snapshots};

/// Bytes that are collected before they are written.
const CHUNK: usize = 64 * 1024;

/// Takes a snapshot: selects, freezes, counts and hashes in one repeatable-read transaction.
///
/// # Errors
/// `Invalid` when a field of the selection is wrong or nothing matches it.
pub async fn create_snapshot(
    pool: &PgPool,
    selection: &Selection,
    created_by: Option<AccountId>,
) -> AppResult<SnapshotId> {
    let name = selection.name.trim();
    if name.is_empty() || name.chars().count() > 100 {
        return Err(AppError::invalid(
            "name",
            Message::new("error-length").with("most", 100),
        ));
    }
    if let Some(message) = selection
        .categories
        .iter()
        .find_map(|word| category_complaint(word))
    {
        return Err(AppError::invalid("categories", message));
    }
    if let Some(field) = selection.filters.wrong_fields().first() {
        return Err(AppError::invalid(
            *field,
            Message::new("error-not-a-percentage"),
        ));
    }
    let mut db = pool
        .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ")
        .await?;
    let taken = snapshots::list_names(&mut db, selection.project_id, name).await?;
    let name = free_name(name, &taken);
    let id = snapshots::insert(&mut db, selection, &name, created_by)
        .await
        // Somebody takes one of this name at the same moment.
        .on_constraint("snapshots_project_id_name_key", || {
            AppError::invalid("name", Message::new("snapshots-name-taken"))
        })?;
    let exclusions = exclusions::find(&mut db, selection).await?;
    let frozen = snapshot_selection::freeze(&mut db, id, selection, &exclusions).await?;
    if frozen.n_items == 0 {
        let message = match frozen.n_left_out {
            0 if !exclusions.labelers.is_empty() || !exclusions.tasks.is_empty() => {
                Message::new("error-all-left-out")
            }
            0 => Message::new("error-nothing-selected"),
            n => Message::new("error-only-personal").with("n", n),
        };
        return Err(AppError::invalid("kind", message));
    }
    let n_prompts = match selection.kind {
        SnapshotKind::Rankings => snapshots::count_ranked_prompts(&mut db, id).await?,
        SnapshotKind::Demonstrations | SnapshotKind::Prompts => frozen.n_items,
        SnapshotKind::Texts => 0,
    };
    let out = &mut tokio::io::sink();
    let own = ExportChoice::lines(ExportFormat::Plackett);
    let sha256 = write(&mut db, id, selection.kind, &own, out).await?;
    snapshots::seal(
        &mut db,
        id,
        frozen,
        &exclusions.left_out,
        n_prompts,
        &sha256,
    )
    .await?;
    let event = NewEvent::by_either(created_by, AuditAction::SnapshotTaken);
    let event = event.to("snapshot", id.0).within(selection.project_id);
    let event = event.with(serde_json::json!({"items": frozen.n_items}));
    let event = match selection.filters.is_empty() {
        true => event,
        false => event.with(serde_json::json!({"filters": selection.filters})),
    };
    let event = match exclusions.left_out.reasons().is_empty() {
        true => event,
        false => event.with(serde_json::json!({"left_out": exclusions.left_out})),
    };
    audit_events::record(&mut db, event).await?;
    db.commit().await?;
    Ok(id)
}

/// Writes a snapshot in its own format and returns the SHA-256 of what was written.
///
/// # Errors
/// When the snapshot does not exist, the database or the writer fails, or the bytes are no longer
/// those that were hashed when it was taken.
pub async fn write_snapshot(
    db: &mut PgConnection,
    id: SnapshotId,
    out: &mut (impl AsyncWrite + Unpin),
) -> anyhow::Result<String> {
    write_as(db, id, &ExportChoice::lines(ExportFormat::Plackett), out).await
}

/// Writes a snapshot as JSON lines and returns the SHA-256 of what was written. The container of the
/// choice is not looked at.
///
/// # Errors
/// As [`write_snapshot`].
pub async fn write_as(
    db: &mut PgConnection,
    id: SnapshotId,
    choice: &ExportChoice,
    out: &mut (impl AsyncWrite + Unpin),
) -> anyhow::Result<String> {
    let snapshot = snapshots::find(db, id).await?;
    let snapshot = snapshot.with_context(|| format!("there is no snapshot {id}"))?;
    let sha256 = write(db, id, snapshot.parsed_kind()?, choice, out).await?;
    anyhow::ensure!(
        !choice.is_canonical() || sha256 == snapshot.sha256,
        "snapshot {id} was taken with the SHA-256 {}, but its rows now give {sha256}",
        snapshot.sha256
    );
    Ok(sha256)
}

async fn write(
    db: &mut PgConnection,
    id: SnapshotId,
    kind: SnapshotKind,
    choice: &ExportChoice,
    out: &mut (impl AsyncWrite + Unpin),
) -> anyhow::Result<String> {
    let mut hasher = Sha256::new();
    let mut chunk = Vec::with_capacity(2 * CHUNK);
    let mut records = pin!(rows::stream(db, id, kind, choice.aggregation));
    while let Some(record) = records.next().await {
        record?.write_lines(choice, &mut chunk)?;
        if chunk.len() >= CHUNK {
            hasher.update(&chunk);
            out.write_all(&chunk).await?;
            chunk.clear();
        }
    }
    hasher.update(&chunk);
    out.write_all(&chunk).await?;
    out.flush().await?;
    Ok(hex::encode(hasher.finalize()))
}
