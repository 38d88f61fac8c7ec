//! `plackett export`: a snapshot into a file.

use std::path::PathBuf;

use anyhow::Context;
use serde_json::json;
use sqlx::PgPool;

use crate::commands::database::Database;
use crate::commands::sentence;
use crate::config::DataConfig;
use crate::domain::audit::AuditAction;
use crate::domain::export::{Aggregation, Container, ExportChoice, ExportFormat, Margin};
use crate::domain::ids::SnapshotId;
use crate::domain::snapshot::{Labels, Selection, SnapshotKind};
use crate::domain::snapshot_filters::Filters;
use crate::exchange::{export, export_file};
use crate::stats::agreement::TiePolicy;
use crate::store;
use crate::store::audit_events::NewEvent;

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

    /// With --project: of rankings that somebody decided between, adjudicated (the decision in place of the
    /// labels), all (labels and decisions) or labels (no decisions).
    #[arg(long, requires = "project", default_value = "adjudicated")]
    labels: Labels,

    /// With --project: leave out tasks on which labelers agree on less than this percentage of pairs (of
    /// rankings, over each two rankings of the task).
    #[arg(long, requires = "project", value_name = "PERCENT", value_parser = percent)]
    least_agreement: Option<f64>,

    /// How a tie counts in that agreement and in --least-gold: left_out (ties are left out), half (a tie against
    /// an order is half alike) or category (a tie is a third answer).
    #[arg(long, requires = "project", default_value = "left_out", value_parser = ties)]
    ties: TiePolicy,

    /// With --least-agreement: leave out tasks of which no agreement can be told, too, as with a single label.
    #[arg(long, requires = "least_agreement")]
    without_single: bool,

    /// With --project: leave out labelers who agree with gold on less than this percentage of pairs.
    #[arg(long, requires = "project", value_name = "PERCENT", value_parser = percent)]
    least_gold: Option<f64>,

    /// With --project: leave out labelers whose quality (Crowd-BT) is below this percentage; 50 is who guesses.
    #[arg(long, requires = "project", value_name = "PERCENT", value_parser = percent)]
    least_quality: Option<f64>,

    /// With --least-gold or --least-quality: leave out labelers of whom too little is known to tell it, too.
    #[arg(long, requires = "project")]
    without_unproven: bool,

    /// With --project: leave out what this labeler said; may be given several times.
    #[arg(long = "without-labeler", requires = "project", value_name = "EMAIL")]
    without_labelers: Vec<String>,

    /// The snapshot's own format (rankings, demonstrations, prompts, texts, named after its kind) or
    /// one of another trainer. Rankings: trl, trl-implicit, trl-unpaired, nectar, hh, summarize.
    /// Demonstrations: alpaca, sharegpt. Prompts: trl. Default: its own.
    #[arg(long)]
    format: Option<String>,

    /// jsonl, parquet, or dataset: a tar archive with Parquet files by split, a card and checksums.
    #[arg(long, default_value = "jsonl")]
    container: Container,

    /// The margin that TRL's pairs carry: none, ranks or ratings.
    #[arg(long, default_value = "none")]
    margin: Margin,

    /// Several labelers' rankings each for itself (labelers), or as one (mean-rank).
    #[arg(long, default_value = "labelers")]
    aggregation: Aggregation,

    /// The file to write; it appears only when it is whole.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// A share out of a percentage.
fn percent(text: &str) -> Result<f64, String> {
    let percent: Result<f64, _> = text.trim_end_matches('%').parse();
    match percent {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err("use a number from 0 to 100".to_owned()),
    }
}

fn ties(word: &str) -> Result<TiePolicy, String> {
    match word {
        "left_out" => Ok(TiePolicy::LeftOut),
        "half" => Ok(TiePolicy::Half),
        "category" => Ok(TiePolicy::Category),
        _ => Err("use left_out, half or category".to_owned()),
    }
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
    let snapshot = snapshot.with_context(|| format!("there is no snapshot {id}"))?;
    let kind = snapshot.parsed_kind()?;
    let format = match &args.format {
        Some(word) => ExportFormat::parse(word, kind).map_err(anyhow::Error::msg)?,
        None => ExportFormat::Plackett,
    };
    let choice = ExportChoice {
        format,
        container: args.container,
        margin: args.margin,
        aggregation: args.aggregation,
    };
    let event = NewEvent::by_command_line(AuditAction::Export);
    let event = event.to("snapshot", id.0).within(snapshot.project_id);
    let event = event.with(json!({"format": format.word(kind), "items": snapshot.n_items}));
    store::audit_events::record(&mut db, event).await?;
    let out = std::path::absolute(&args.out)?;
    let built = export_file::build(&mut db, id, &choice, &out, &mut |_| ()).await?;
    Ok((id, built.sha256))
}

async fn take_snapshot(pool: &PgPool, args: &ExportArgs) -> anyhow::Result<SnapshotId> {
    let (Some(slug), Some(kind)) = (&args.project, args.kind) else {
        anyhow::bail!("give --snapshot, or --project with --kind");
    };
    let mut db = pool.acquire().await?;
    let project = store::projects::find_by_slug(&mut db, slug)
        .await?
        .with_context(|| format!("no project has the short name {slug}"))?;
    let mut without_labelers = Vec::new();
    for email in &args.without_labelers {
        let account = store::accounts::find_by_email(&mut db, email).await?;
        let account = account.with_context(|| format!("no account has the address {email}"))?;
        without_labelers.push(account.id);
    }
    drop(db);
    let filters = Filters {
        least_agreement: args.least_agreement,
        ties: args.ties,
        without_single: args.without_single,
        least_gold: args.least_gold,
        least_quality: args.least_quality,
        without_unproven: args.without_unproven,
        without_labelers,
    };
    let selection = Selection {
        filters,
        project_id: project.id,
        kind,
        name: format!("{slug} {kind}"),
        categories: Vec::new(),
        include_simulated: args.include_simulated,
        reviewed_categories: args.reviewed_categories,
        include_personal: args.include_personal,
        labels: args.labels,
    };
    export::create_snapshot(pool, &selection, None)
        .await
        .map_err(sentence)
}
