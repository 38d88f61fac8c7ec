//! Writing snapshots out as JSON lines. Lines stream from the database to the writer and into the
//! hash; nothing is kept. The same snapshot gives the same bytes: rows of a snapshot never change,
//! their order is stored with it, and every field is written in a fixed order.

use std::pin::pin;

use anyhow::Context;
use futures_util::{Stream, StreamExt};
use serde::Serialize;
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, PgPool};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use trainer::records::{
    DemonstrationRecord, PromptRecord, RankedCompletion, RankedPrompt, TextRecord,
};

use crate::domain::ids::{AccountId, SnapshotId};
use crate::domain::prompt::category_complaint;
use crate::domain::snapshot::{ExportFormat, Selection, SnapshotKind, free_name, split_of};
use crate::error::{AppError, AppResult, OnConstraint};
use crate::exchange::trl;
use crate::message::Message;
use crate::store::snapshots::{self, RankingItem};

/// Bytes that are collected before they are written.
const CHUNK: usize = 64 * 1024;

/// A line of a rankings export: the contract's fields, and what traces the label.
#[derive(Serialize)]
struct RankingLine {
    #[serde(flatten)]
    ranked: RankedPrompt,
    ranking_id: uuid::Uuid,
    display_order: Vec<i16>,
    form_version: i32,
    guidelines_version: i32,
    #[serde(skip_serializing_if = "String::is_empty")]
    note: String,
    #[serde(skip_serializing_if = "is_false")]
    simulated: bool,
}

/// A line of a prompts export: the contract's fields, and whose prompt it is and what a reviewer said
/// of it, where that is known.
#[derive(Serialize)]
struct PromptLine {
    #[serde(flatten)]
    record: PromptRecord,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    review: Option<serde_json::Value>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape that serde wants"
)]
fn is_false(flag: &bool) -> bool {
    !flag
}

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
    let frozen = snapshots::freeze(&mut db, id, selection).await?;
    if frozen.n_items == 0 {
        let message = match frozen.n_left_out {
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
    let sha256 = write(&mut db, id, selection.kind, ExportFormat::Plackett, out).await?;
    snapshots::seal(&mut db, id, frozen, n_prompts, &sha256).await?;
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
    write_as(db, id, ExportFormat::Plackett, out).await
}

/// Writes a snapshot in a format and returns the SHA-256 of what was written.
///
/// # Errors
/// As [`write_snapshot`].
pub async fn write_as(
    db: &mut PgConnection,
    id: SnapshotId,
    format: ExportFormat,
    out: &mut (impl AsyncWrite + Unpin),
) -> anyhow::Result<String> {
    let snapshot = snapshots::find(db, id).await?;
    let snapshot = snapshot.with_context(|| format!("there is no snapshot {id}"))?;
    let sha256 = write(db, id, snapshot.parsed_kind()?, format, out).await?;
    anyhow::ensure!(
        format != ExportFormat::Plackett || sha256 == snapshot.sha256,
        "snapshot {id} was taken with the SHA-256 {}, but its rows now give {sha256}",
        snapshot.sha256
    );
    Ok(sha256)
}

async fn write(
    db: &mut PgConnection,
    id: SnapshotId,
    kind: SnapshotKind,
    format: ExportFormat,
    out: &mut (impl AsyncWrite + Unpin),
) -> anyhow::Result<String> {
    let lines = LineWriter::new(out);
    match (kind, format) {
        (SnapshotKind::Rankings, ExportFormat::Plackett) => {
            let rows = snapshots::stream_rankings(db, id);
            lines
                .write_all(rows, |row| Ok(vec![ranking_line(row)?]))
                .await
        }
        (SnapshotKind::Rankings, ExportFormat::Trl) => {
            let rows = snapshots::stream_rankings(db, id);
            let pairs = |row| Ok(trl::pairs(&ranking_line(row)?.ranked));
            lines.write_all(rows, pairs).await
        }
        (SnapshotKind::Demonstrations, _) => {
            let rows = snapshots::stream_demonstrations(db, id);
            let record = |row: snapshots::DemonstrationItem| {
                Ok(vec![DemonstrationRecord {
                    id: row.external_id,
                    messages: serde_json::from_value(row.messages)?,
                }])
            };
            lines.write_all(rows, record).await
        }
        (SnapshotKind::Prompts, _) => {
            let rows = snapshots::stream_prompts(db, id);
            let record = |row: snapshots::PromptItem| {
                Ok(vec![PromptLine {
                    record: PromptRecord {
                        id: row.external_id,
                        prompt: serde_json::from_value(row.body)?,
                        category: Some(row.category),
                    },
                    customer: row.customer,
                    review: row.review,
                }])
            };
            lines.write_all(rows, record).await
        }
        (SnapshotKind::Texts, _) => {
            let rows = snapshots::stream_texts(db, id);
            let record = |row: snapshots::TextItem| {
                Ok(vec![TextRecord {
                    id: row.external_id,
                    text: row.body,
                }])
            };
            lines.write_all(rows, record).await
        }
    }
}

fn ranking_line(row: RankingItem) -> anyhow::Result<RankingLine> {
    let completions: Vec<RankedCompletion> = serde_json::from_value(row.completions)
        .with_context(|| format!("ranking {} cannot be read", row.ranking_id))?;
    let split = split_of(&row.external_id).to_owned();
    Ok(RankingLine {
        ranked: RankedPrompt {
            id: row.external_id,
            prompt: serde_json::from_value(row.body)?,
            completions,
            labeler: Some(row.labeler_id.to_string()),
            category: Some(row.category),
            customer: row.customer,
            split: Some(split),
        },
        ranking_id: row.ranking_id,
        display_order: row.display_order,
        form_version: row.form_version,
        guidelines_version: row.guidelines_version,
        note: row.note,
        simulated: row.is_simulated,
    })
}

/// Writes JSON lines and hashes them on the way.
struct LineWriter<'out, W> {
    out: &'out mut W,
    hasher: Sha256,
    chunk: Vec<u8>,
}

impl<'out, W: AsyncWrite + Unpin> LineWriter<'out, W> {
    fn new(out: &'out mut W) -> Self {
        Self {
            out,
            hasher: Sha256::new(),
            chunk: Vec::with_capacity(CHUNK),
        }
    }

    /// Writes the records of each row and returns the hash of all lines.
    async fn write_all<Row, Line: Serialize>(
        mut self,
        rows: impl Stream<Item = sqlx::Result<Row>>,
        records: impl Fn(Row) -> anyhow::Result<Vec<Line>>,
    ) -> anyhow::Result<String> {
        let mut rows = pin!(rows);
        while let Some(row) = rows.next().await {
            for record in records(row?)? {
                serde_json::to_writer(&mut self.chunk, &record)?;
                self.chunk.push(b'\n');
            }
            if self.chunk.len() >= CHUNK {
                self.flush_chunk().await?;
            }
        }
        self.flush_chunk().await?;
        self.out.flush().await?;
        Ok(hex::encode(self.hasher.finalize()))
    }

    async fn flush_chunk(&mut self) -> anyhow::Result<()> {
        self.hasher.update(&self.chunk);
        self.out.write_all(&self.chunk).await?;
        self.chunk.clear();
        Ok(())
    }
}
