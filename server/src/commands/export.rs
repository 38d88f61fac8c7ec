//! `plackett export`: a snapshot into a file.

use std::path::{Path, PathBuf};

use anyhow::Context;
use sqlx::PgPool;

use crate::commands::database::Database;
use crate::commands::sentence;
use crate::config::DataConfig;
use crate::domain::ids::SnapshotId;
use crate::domain::snapshot::{ExportFormat, Selection, SnapshotKind};
use crate::exchange::export;
use crate::store;

/// What to write and where.
#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    /// The snapshot's id, from its page.
    #[arg(long, required_unless_present = "project")]
    snapshot: Option<SnapshotId>,

    /// Take a new snapshot of this project instead.
    #[arg(
        long,
        value_name = "SLUG",
        conflicts_with = "snapshot",
        requires = "kind"
    )]
    project: Option<String>,

    /// With --project: rankings, demonstrations, prompts or texts.
    #[arg(long)]
    kind: Option<SnapshotKind>,

    /// With --project: take what simulated labelers said, too.
    #[arg(long, requires = "project")]
    include_simulated: bool,

    /// With --project: a prompt's category is that of its newest review, where it has one.
    #[arg(long, requires = "project")]
    reviewed_categories: bool,

    /// With --project: take prompts in which a reviewer found personal data, too, with their rankings
    /// and demonstrations.
    #[arg(long, requires = "project")]
    include_personal: bool,

    /// The snapshot's own format (rankings, demonstrations, prompts, texts) or, for rankings,
    /// trl. Default: its own.
    #[arg(long)]
    format: Option<String>,

    /// The file to write; it appears only when it is whole.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Writes the file and prints its SHA-256.
///
/// # Errors
/// When the snapshot is unknown, the format does not fit it, or the file cannot be written.
pub async fn run(data: &DataConfig, args: ExportArgs) -> anyhow::Result<()> {
    let database = Database::open(data, 2).await?;
    let done = carry_out(&database.pool, &args).await;
    database.close().await;
    let (id, sha256) = done?;
    println!("{sha256}  {}  (snapshot {id})", args.out.display());
    Ok(())
}

async fn carry_out(pool: &PgPool, args: &ExportArgs) -> anyhow::Result<(SnapshotId, String)> {
    let id = match args.snapshot {
        Some(id) => id,
        None => take_snapshot(pool, args).await?,
    };
    let mut db = pool.acquire().await?;
    let snapshot = store::snapshots::find(&mut db, id).await?;
    let kind = snapshot
        .with_context(|| format!("there is no snapshot {id}"))?
        .parsed_kind()?;
    let format = match &args.format {
        Some(word) => ExportFormat::parse(word, kind).map_err(anyhow::Error::msg)?,
        None => ExportFormat::Plackett,
    };
    let sha256 = write_file(&mut db, id, format, &args.out).await?;
    Ok((id, sha256))
}

async fn take_snapshot(pool: &PgPool, args: &ExportArgs) -> anyhow::Result<SnapshotId> {
    let (Some(slug), Some(kind)) = (&args.project, args.kind) else {
        anyhow::bail!("give --snapshot, or --project with --kind");
    };
    let mut db = pool.acquire().await?;
    let project = store::projects::find_by_slug(&mut db, slug)
        .await?
        .with_context(|| format!("no project has the short name {slug}"))?;
    drop(db);
    let selection = Selection {
        project_id: project.id,
        kind,
        name: format!("{slug} {kind}"),
        categories: Vec::new(),
        include_simulated: args.include_simulated,
        reviewed_categories: args.reviewed_categories,
        include_personal: args.include_personal,
    };
    export::create_snapshot(pool, &selection, None)
        .await
        .map_err(sentence)
}

/// Writes beside the target and renames, so that a file that is there is whole.
async fn write_file(
    db: &mut sqlx::PgConnection,
    id: SnapshotId,
    format: ExportFormat,
    out: &Path,
) -> anyhow::Result<String> {
    let unwritable = || format!("{} cannot be written", out.display());
    let mut name = out.file_name().with_context(unwritable)?.to_owned();
    name.push(".part");
    let part = out.with_file_name(name);
    let mut file = tokio::fs::File::create(&part)
        .await
        .with_context(unwritable)?;
    let written = async {
        let sha256 = export::write_as(db, id, format, &mut file).await?;
        file.sync_all().await.with_context(unwritable)?;
        tokio::fs::rename(&part, out)
            .await
            .with_context(unwritable)?;
        anyhow::Ok(sha256)
    };
    match written.await {
        Ok(sha256) => Ok(sha256),
        Err(error) => {
            // The error that matters is the one above; a leftover part is harmless.
            let _ = tokio::fs::remove_file(&part).await;
            Err(error)
        }
    }
}
