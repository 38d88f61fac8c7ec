//! The demo project: prompts, candidates drawn beforehand, demonstrations and one account for each
//! role, so that labeling starts at once. Its files are compiled into the program.

use std::io::Cursor;
use std::path::Path;

use anyhow::Context;
use rust_embed::RustEmbed;
use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool};

use crate::commands::sentence;
use crate::domain::role::Role;
use crate::exchange::import::{FileFormat, import};
use crate::exchange::records::ImportKind;
use crate::store;
use crate::store::projects::Project;

#[derive(RustEmbed)]
#[folder = "demo"]
struct DemoFiles;

/// Short name of the demo project.
pub const DEMO_SLUG: &str = "demo";

/// How many labelers each task of the demo is given to, and how long a lease lasts in seconds.
const OVERLAP_AND_LEASE: (i16, i32) = (1, 3600);

/// How long the printed sign-in links work.
const LINK_HOURS: i32 = 24;

/// The account of each role.
const ACCOUNTS: [(Role, &str, &str); 3] = [
    (Role::Labeler, "labeler@plackett.example", "Demo labeler"),
    (Role::Admin, "admin@plackett.example", "Demo admin"),
    (Role::Operator, "operator@plackett.example", "Demo operator"),
];

/// Seeds the demo project and its accounts; does nothing where the project exists, or where
/// another project does. `models_dir` is only looked at, to say when no model has been fetched.
///
/// # Errors
/// When a file of the demo is missing or wrong, or the database fails; then nothing is seeded.
pub async fn seed(pool: &PgPool, models_dir: &Path) -> anyhow::Result<()> {
    let mut db = pool.begin().await?;
    if !store::projects::list(&mut db).await?.is_empty() {
        return Ok(());
    }
    let (overlap, lease) = OVERLAP_AND_LEASE;
    let name = "Demo: a small assistant";
    let id = store::projects::insert(&mut db, DEMO_SLUG, name, overlap, lease).await?;
    seed_rules(&mut db, id).await?;
    let project = store::projects::find(&mut db, id)
        .await?
        .context("the demo project vanished")?;
    for (kind, file) in [
        (ImportKind::Prompts, "prompts.jsonl"),
        (ImportKind::Candidates, "candidates.jsonl"),
        (ImportKind::Demonstrations, "demonstrations.jsonl"),
        (ImportKind::Texts, "texts.jsonl"),
    ] {
        seed_file(&mut db, &project, kind, file).await?;
    }
    for (role, email, name) in ACCOUNTS {
        if store::accounts::find_by_email(&mut db, email)
            .await?
            .is_none()
        {
            store::accounts::insert(&mut db, email, name, &[role], false)
                .await
                .map_err(sentence)?;
        }
    }
    db.commit().await?;
    tracing::info!("seeded the demo project");
    if !models_dir.is_dir() {
        tracing::warn!("no model yet: plackett model pull smollm2-135m-instruct");
    }
    Ok(())
}

/// Guidelines in both languages, and the standard form.
async fn seed_rules(
    db: &mut PgConnection,
    project_id: crate::domain::ids::ProjectId,
) -> anyhow::Result<()> {
    let markdown = json!({
        "en": demo_text("guidelines.en.md")?,
        "zh": demo_text("guidelines.zh.md")?,
    });
    store::projects::insert_guidelines(db, project_id, &markdown, None).await?;
    let form: Value =
        serde_json::from_str(&demo_text("form.json")?).context("demo/form.json is wrong")?;
    store::projects::insert_form(db, project_id, &form).await?;
    Ok(())
}

fn demo_text(name: &str) -> anyhow::Result<String> {
    let file = DemoFiles::get(name)
        .with_context(|| format!("the program was built without demo/{name}"))?;
    String::from_utf8(file.data.into_owned()).with_context(|| format!("demo/{name} is not UTF-8"))
}

async fn seed_file(
    db: &mut PgConnection,
    project: &Project,
    kind: ImportKind,
    name: &str,
) -> anyhow::Result<()> {
    if kind == ImportKind::Candidates && DemoFiles::get(name).is_none() {
        tracing::warn!("built without demo/{name}: start a generation run to have tasks");
        return Ok(());
    }
    let source = Cursor::new(demo_text(name)?.into_bytes());
    let report = import(db, project, kind, FileFormat::Jsonl, source).await?;
    match report.problems.first() {
        None => Ok(()),
        Some(problem) => anyhow::bail!(
            "demo/{name}, line {}, field {}: {}",
            problem.line,
            problem.field,
            problem.message
        ),
    }
}

/// Prints one fresh sign-in link for each role of the demo.
///
/// # Errors
/// When the system has no randomness or the database fails.
pub async fn print_links(pool: &PgPool, public_url: &str) -> anyhow::Result<()> {
    let mut db = pool.acquire().await?;
    println!("Sign in with one of these links. Each works once, within {LINK_HOURS} hours:");
    for (role, email, _) in ACCOUNTS {
        let Some(account) = store::accounts::find_by_email(&mut db, email).await? else {
            continue;
        };
        let token = store::sign_in_links::create(&mut db, account.id, None, LINK_HOURS).await?;
        let url = public_url.trim_end_matches('/');
        println!("  {:<9} {url}/sign-in/{}", role.as_str(), token.reveal());
    }
    Ok(())
}
