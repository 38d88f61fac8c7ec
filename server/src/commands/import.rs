//! `plackett import`: a file into a project, whole or not at all.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::json;
use sqlx::PgPool;

use crate::commands::database::Database;
use crate::config::DataConfig;
use crate::domain::audit::AuditAction;
use crate::domain::project::is_slug;
use crate::exchange::import::{FileFormat, Report, import};
use crate::exchange::records::ImportKind;
use crate::store;
use crate::store::audit_events::NewEvent;

/// Overlap and lease of a project made by `--create`; both can be changed later.
const NEW_PROJECT: (i16, i32) = (1, 3600);

/// What to import and where.
#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    /// Short name of the project.
    #[arg(long, value_name = "SLUG")]
    project: String,

    /// Make the project if none has this short name.
    #[arg(long)]
    create: bool,

    /// What the file holds.
    #[arg(long, value_enum)]
    kind: ImportKind,

    /// How the file is written. Default: by its ending, .csv or anything else.
    #[arg(long, value_enum)]
    format: Option<FileFormat>,

    /// The file.
    file: PathBuf,
}

/// Imports and says how much, or lists every wrong line and imports nothing.
///
/// # Errors
/// When a line is wrong, the project is unknown, or the file or the database cannot be used.
pub async fn run(data: &DataConfig, args: ImportArgs) -> anyhow::Result<()> {
    let file = std::fs::File::open(&args.file)
        .with_context(|| format!("{} cannot be opened", args.file.display()))?;
    let is_folder = file.metadata().is_ok_and(|metadata| metadata.is_dir());
    anyhow::ensure!(!is_folder, "{} is a folder", args.file.display());
    let database = Database::open(data, 2).await?;
    let done = carry_out(&database.pool, &args, file).await;
    database.close().await;
    report(&args.file, args.kind, &done?)
}

async fn carry_out(
    pool: &PgPool,
    args: &ImportArgs,
    file: std::fs::File,
) -> anyhow::Result<Report> {
    let format = args
        .format
        .unwrap_or_else(|| FileFormat::of_name(&args.file.to_string_lossy()));
    let mut db = pool.begin().await?;
    let mut project = store::projects::find_by_slug(&mut db, &args.project).await?;
    if project.is_none() && args.create {
        let (overlap, lease) = NEW_PROJECT;
        let slug = &args.project;
        anyhow::ensure!(
            is_slug(slug),
            "{slug:?} cannot be a short name: use lower-case letters, digits and hyphens"
        );
        let id = store::projects::insert(&mut db, slug, slug, overlap, lease).await?;
        let event = NewEvent::by_command_line(AuditAction::ProjectCreated).within(id);
        store::audit_events::record(&mut db, event).await?;
        project = store::projects::find_by_slug(&mut db, slug).await?;
    }
    let project = project.with_context(|| {
        let slug = &args.project;
        format!("no project has the short name {slug}: add --create to make it")
    })?;
    let report = import(&mut db, &project, args.kind, format, file).await?;
    if report.is_clean() {
        let event = NewEvent::by_command_line(AuditAction::Import).within(project.id);
        let records = json!({"kind": args.kind.as_str(), "records": report.n_records});
        store::audit_events::record(&mut db, event.with(records)).await?;
        db.commit().await?;
    }
    Ok(report)
}

fn report(file: &Path, kind: ImportKind, report: &Report) -> anyhow::Result<()> {
    if report.is_clean() {
        println!("Imported {} {}.", report.n_records, kind.as_str());
        return Ok(());
    }
    for problem in &report.problems {
        eprintln!("{}{}: {}", file.display(), problem.place(), problem.message);
    }
    if report.n_more > 0 {
        eprintln!("and {} more", report.n_more);
    }
    anyhow::bail!("nothing was imported: {} wrong lines", report.n_problems())
}
