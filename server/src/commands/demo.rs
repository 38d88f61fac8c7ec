//! The demo project: prompts, candidates drawn beforehand, demonstrations and one account for each
//! role, so that labeling starts at once. Its files are compiled into the program.

use std::io::Cursor;
use std::path::Path;

use anyhow::Context;
use rust_embed::RustEmbed;
use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool};

use crate::commands::sentence;
use crate::domain::gold::{Facts, GoldAnswer};
use crate::domain::ids::AccountId;
use crate::domain::opening::{GivenText, Order, Work};
use crate::domain::role::Role;
use crate::domain::task::Purpose;
use crate::exchange::import::{FileFormat, import};
use crate::exchange::records::ImportKind;
use crate::store;
use crate::store::projects::{Project, Settings};

#[derive(RustEmbed)]
#[folder = "demo"]
struct DemoFiles;

/// Short name of the demo project.
pub const DEMO_SLUG: &str = "demo";

/// How many labelers each task of the demo is given to, and how long a lease lasts in seconds.
const OVERLAP_AND_LEASE: (i16, i32) = (1, 3600);

/// Share of the demo's leases that are its gold task, until a labeler has had it.
const GOLD_SHARE: f32 = 0.05;

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
    let mut admin = None;
    for (role, email, name) in ACCOUNTS {
        let known = store::accounts::find_by_email(&mut db, email).await?;
        let id = match known {
            Some(account) => account.id,
            None => store::accounts::insert(&mut db, email, name, &[role], false)
                .await
                .map_err(sentence)?,
        };
        if role == Role::Admin {
            admin = Some(id);
        }
    }
    for (kind, file) in [
        (ImportKind::Prompts, "prompts.jsonl"),
        (ImportKind::Demonstrations, "demonstrations.jsonl"),
        (ImportKind::Texts, "texts.jsonl"),
    ] {
        seed_text(&mut db, &project, kind, file, demo_text(file)?).await?;
    }
    seed_tasks(&mut db, &project, admin.context("the demo has no admin")?).await?;
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

/// Rankings that come before the other kinds of work.
const RANKINGS_FIRST: usize = 2;

/// Tasks: two rankings, then one of each other kind of work, so that a newcomer meets them soon, then the
/// other rankings. One ranking is gold, too, and mixed in now and then.
async fn seed_tasks(
    db: &mut PgConnection,
    project: &Project,
    admin: AccountId,
) -> anyhow::Result<()> {
    const FILE: &str = "candidates.jsonl";
    if DemoFiles::get(FILE).is_none() {
        tracing::warn!("built without demo/{FILE}: start a generation run to have tasks");
        return Ok(());
    }
    let candidates = demo_text(FILE)?;
    let end = candidates.match_indices('\n').nth(RANKINGS_FIRST - 1);
    let (first, others) = candidates.split_at(end.map_or(0, |(at, _)| at + 1));
    let kind = ImportKind::Candidates;
    seed_text(db, project, kind, FILE, first.to_owned()).await?;
    let work: DemoWork =
        serde_json::from_str(&demo_text("work.json")?).context("demo/work.json is wrong")?;
    for work_kind in [Work::Compare, Work::Own, Work::FewShot, Work::Review] {
        let order = Order {
            work: work_kind,
            categories: Vec::new(),
            language: None,
            source: None,
            most: (work_kind != Work::FewShot).then_some(1),
            only_new: work_kind.is_of_prompts(),
            n_candidates: None,
            one_pair: true,
            texts: match work_kind {
                Work::FewShot => work.few_shot.clone(),
                _ => Vec::new(),
            },
            overlap: None,
        };
        let key = format!("demo {work_kind}");
        let count = store::openings::count(db, project.id, &order, &key)
            .await
            .map_err(sentence)?;
        store::openings::open(db, project.id, &order, &key, count.tasks, admin)
            .await
            .map_err(sentence)?;
    }
    seed_text(db, project, kind, FILE, others.to_owned()).await?;
    let prompt = &work.gold.prompt;
    let task = store::tasks::find_of_prompt(db, project.id, prompt).await?;
    let task = task.with_context(|| format!("demo/work.json: no task ranks {prompt}"))?;
    let answer = GoldAnswer {
        candidates: work.gold.candidates,
    };
    store::gold::make(db, task, Purpose::Gold, &answer, admin)
        .await
        .map_err(sentence)?;
    let settings = store::projects::find_settings(db, project.id).await?;
    let settings = settings.context("the demo project vanished")?;
    let settings = Settings {
        gold_share: GOLD_SHARE,
        ..settings
    };
    store::projects::update_settings(db, project.id, &settings).await?;
    Ok(())
}

/// What is in `demo/work.json`.
#[derive(serde::Deserialize)]
struct DemoWork {
    few_shot: Vec<GivenText>,
    gold: DemoGold,
}

/// A prompt whose ranking is known in part.
#[derive(serde::Deserialize)]
struct DemoGold {
    prompt: String,
    candidates: Vec<Facts>,
}

async fn seed_text(
    db: &mut PgConnection,
    project: &Project,
    kind: ImportKind,
    name: &str,
    text: String,
) -> anyhow::Result<()> {
    let source = Cursor::new(text.into_bytes());
    let report = import(db, project, kind, FileFormat::Jsonl, source).await?;
    match report.problems.first() {
        None => Ok(()),
        Some(problem) => anyhow::bail!("demo/{name}{}: {}", problem.place(), problem.message),
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
