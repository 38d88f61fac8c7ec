//! An export as a file that is whole or not there: JSON lines, Parquet, or a dataset in the layout of
//! the Hugging Face hub. Rows stream through; the same snapshot and choice give the same bytes.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};

use anyhow::Context;
use futures_util::{Stream, StreamExt};
use sha2::{Digest, Sha256};
use sqlx::PgConnection;

use crate::domain::export::{Container, ExportChoice};
use crate::domain::ids::SnapshotId;
use crate::exchange::card::{self, DataFile, Facts};
use crate::exchange::parquet::{ParquetWriter, schema};
use crate::exchange::rows::{self, Record};
use crate::store::snapshots::{self, Snapshot};

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// Lines or table rows.
    pub n_rows: u64,
    /// Bytes of the file.
    pub n_bytes: u64,
    /// Of the file, in lower-case hex.
    pub sha256: String,
}

/// The splits of a dataset, in the order of its files.
const SPLITS: [&str; 2] = ["train", "validation"];

/// Records between two reports of progress.
const REPORT_EVERY: u64 = 500;

/// Writes an export beside `path` and puts it there when it is whole. `progress` is told how many
/// records are done. It reads and writes files: call it where that may block.
///
/// # Errors
/// When the snapshot does not exist, the database fails, the file cannot be written, or the rows are
/// no longer those that were hashed.
pub async fn build(
    db: &mut PgConnection,
    id: SnapshotId,
    choice: &ExportChoice,
    path: &Path,
    progress: &mut (dyn FnMut(u64) + Send),
) -> anyhow::Result<Built> {
    let snapshot = snapshots::find(db, id).await?;
    let snapshot = snapshot.with_context(|| format!("there is no snapshot {id}"))?;
    let unwritable = || format!("{} cannot be written", path.display());
    let folder = path.parent().with_context(unwritable)?;
    // Removed when anything fails.
    let part = tempfile::NamedTempFile::new_in(folder).with_context(unwritable)?;
    let out = HashingWriter::new(BufWriter::new(part));
    let kind = snapshot.parsed_kind()?;
    let records = pin!(rows::stream(db, id, kind, choice.aggregation));
    let (n_rows, out) = write(&snapshot, choice, records, out, progress).await?;
    let (part, n_bytes, sha256) = out.finish().with_context(unwritable)?;
    let part = part
        .into_inner()
        .map_err(|error| error.into_error())
        .with_context(unwritable)?;
    anyhow::ensure!(
        !choice.is_canonical() || sha256 == snapshot.sha256,
        "snapshot {id} was taken with the SHA-256 {}, but its rows now give {sha256}",
        snapshot.sha256
    );
    part.as_file().sync_all().with_context(unwritable)?;
    part.persist(path).with_context(unwritable)?;
    Ok(Built {
        n_rows,
        n_bytes,
        sha256,
    })
}

/// The records of a snapshot, one after the other.
type Records<'a> = Pin<&'a mut (dyn Stream<Item = anyhow::Result<Record>> + Send + 'a)>;

/// Writes the records of a snapshot into the container of the choice. Returns how many rows that were.
async fn write<W: Write + Send>(
    snapshot: &Snapshot,
    choice: &ExportChoice,
    records: Records<'_>,
    out: HashingWriter<W>,
    progress: &mut (dyn FnMut(u64) + Send),
) -> anyhow::Result<(u64, HashingWriter<W>)> {
    match choice.container {
        Container::Jsonl => write_lines(choice, records, out, progress).await,
        Container::Parquet => write_parquet(snapshot, choice, records, out, progress).await,
        Container::Dataset => write_dataset(snapshot, choice, records, out, progress).await,
    }
}

/// Sees every record, and reports their number now and then.
async fn each(
    mut records: Records<'_>,
    progress: &mut (dyn FnMut(u64) + Send),
    see: &mut (dyn FnMut(&Record) -> anyhow::Result<()> + Send),
) -> anyhow::Result<()> {
    let mut n = 0;
    while let Some(record) = records.next().await {
        see(&record?)?;
        n += 1;
        if n % REPORT_EVERY == 0 {
            progress(n);
        }
    }
    progress(n);
    Ok(())
}

async fn write_lines<W: Write + Send>(
    choice: &ExportChoice,
    records: Records<'_>,
    mut out: HashingWriter<W>,
    progress: &mut (dyn FnMut(u64) + Send),
) -> anyhow::Result<(u64, HashingWriter<W>)> {
    let mut lines = Vec::new();
    let mut n_rows = 0;
    each(records, progress, &mut |record| {
        n_rows += record.write_lines(choice, &mut lines)? as u64;
        out.write_all(&lines)?;
        lines.clear();
        Ok(())
    })
    .await?;
    Ok((n_rows, out))
}

async fn write_parquet<W: Write + Send>(
    snapshot: &Snapshot,
    choice: &ExportChoice,
    records: Records<'_>,
    out: HashingWriter<W>,
    progress: &mut (dyn FnMut(u64) + Send),
) -> anyhow::Result<(u64, HashingWriter<W>)> {
    let schema = schema(snapshot.parsed_kind()?, choice, snapshot.line_format);
    let mut table = ParquetWriter::new(out, schema)?;
    let mut n_rows = 0;
    each(records, progress, &mut |record| {
        for row in record.table_rows(choice) {
            table.push(row)?;
            n_rows += 1;
        }
        Ok(())
    })
    .await?;
    Ok((n_rows, table.finish()?))
}

/// A file of a split while it is written.
struct SplitFile {
    split: &'static str,
    table: ParquetWriter<HashingWriter<BufWriter<File>>>,
    n_rows: u64,
}

async fn write_dataset<W: Write + Send>(
    snapshot: &Snapshot,
    choice: &ExportChoice,
    records: Records<'_>,
    out: HashingWriter<W>,
    progress: &mut (dyn FnMut(u64) + Send),
) -> anyhow::Result<(u64, HashingWriter<W>)> {
    let kind = snapshot.parsed_kind()?;
    let mut splits = Vec::new();
    for split in SPLITS {
        let file = HashingWriter::new(BufWriter::new(tempfile::tempfile()?));
        let schema = schema(kind, choice, snapshot.line_format);
        let table = ParquetWriter::new(file, schema)?;
        splits.push(SplitFile {
            split,
            table,
            n_rows: 0,
        });
    }
    let mut facts = Facts::default();
    each(records, progress, &mut |record| {
        facts.count(record);
        let file = splits.iter_mut().find(|file| file.split == record.split());
        let file = file.with_context(|| format!("there is no split {}", record.split()))?;
        for row in record.table_rows(choice) {
            file.table.push(row)?;
            file.n_rows += 1;
        }
        Ok(())
    })
    .await?;
    let mut data = Vec::new();
    // A split without rows has no file: the hub refuses an empty one.
    for file in splits.into_iter().filter(|file| file.n_rows > 0) {
        let (contents, n_bytes, sha256) = file.table.finish()?.finish()?;
        let described = DataFile {
            split: file.split,
            path: format!("data/{}-00000-of-00001.parquet", file.split),
            n_rows: file.n_rows,
            n_bytes,
            sha256,
        };
        let contents = contents.into_inner().map_err(|error| error.into_error())?;
        data.push((described, contents));
    }
    let files: Vec<DataFile> = data.iter().map(|(file, _)| file.clone()).collect();
    let card = card::write(snapshot, kind, choice, &facts, &files);
    let out = pack(out, &card, data)?;
    Ok((files.iter().map(|file| file.n_rows).sum(), out))
}

/// Packs the card, the files and their checksums. Owners and times are left out, so that the same
/// contents give the same archive.
fn pack<W: Write>(out: W, card: &str, data: Vec<(DataFile, File)>) -> anyhow::Result<W> {
    let mut archive = tar::Builder::new(out);
    let mut sums = format!("{}  README.md\n", hex::encode(Sha256::digest(card)));
    append(
        &mut archive,
        "README.md",
        card.len() as u64,
        card.as_bytes(),
    )?;
    for (file, mut contents) in data {
        sums.push_str(&format!("{}  {}\n", file.sha256, file.path));
        contents.rewind()?;
        append(&mut archive, &file.path, file.n_bytes, contents)?;
    }
    append(
        &mut archive,
        "SHA256SUMS",
        sums.len() as u64,
        sums.as_bytes(),
    )?;
    Ok(archive.into_inner()?)
}

fn append<W: Write>(
    archive: &mut tar::Builder<W>,
    path: &str,
    n_bytes: u64,
    contents: impl Read,
) -> anyhow::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(n_bytes);
    header.set_mode(0o644);
    archive.append_data(&mut header, path, contents)?;
    Ok(())
}

/// The folder of finished exports below a data folder, made where it is missing.
///
/// # Errors
/// When it cannot be made.
pub fn folder(data_dir: &Path) -> std::io::Result<PathBuf> {
    let folder = data_dir.join("exports");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Counts and hashes what goes through it.
struct HashingWriter<W> {
    out: W,
    hasher: Sha256,
    n_bytes: u64,
}

impl<W: Write> HashingWriter<W> {
    fn new(out: W) -> Self {
        Self {
            out,
            hasher: Sha256::new(),
            n_bytes: 0,
        }
    }

    /// What it wrote to, the bytes, and their SHA-256 in lower-case hex.
    fn finish(mut self) -> std::io::Result<(W, u64, String)> {
        self.out.flush()?;
        Ok((self.out, self.n_bytes, hex::encode(self.hasher.finalize())))
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.n_bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod golden;
