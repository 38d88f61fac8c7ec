//! The demo project: prompts, candidates drawn beforehand, demonstrations and one account for each
//! role, so that labeling starts at once, and four simulated labelers who have ranked a part of it, so that
//! there are figures to look at. Its files are compiled into the program.

use std::io::Cursor;
use std::path::Path;

use anyhow::Context;
use rust_embed::RustEmbed;
use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool};

use crate::commands::sentence;
use crate::commands::simulate::{Crowd, rank_open_tasks};
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

/// How many labelers each task of the demo is given to, but for those that simulated labelers rank, and how
/// long a lease lasts in seconds.
const OVERLAP_AND_LEASE: (i16, i32) = (1, 3600);

/// Share of the demo's leases that are gold, until a labeler has had every gold task.
const GOLD_SHARE: f32 = 0.05;

/// The share while simulated labelers rank, so that each of them meets all gold tasks.
const GOLD_SHARE_AT_FIRST: f32 = 0.5;

/// The simulated labelers: how probably each judges a pair wrongly. Four, since of three of whom one mostly
/// guesses the model of quality cannot well tell the better one from the middle one. Their numbers follow those that
/// `plackett simulate` can make, so that it does not rank under their names with another error rate.
const ERROR_RATES: [f64; 4] = [0.05, 0.05, 0.2, 0.4];
const FIRST_SIMULATED: u32 = 101;

/// Rankings that all simulated labelers make, those included that wait for a person, too.
const SIMULATED_TASKS: usize = 30;

/// Decides what simulated labelers say, so that every demo begins alike.
const SEED: u64 = 20_261_126;

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

/// Rankings that come before the other kinds of work. Simulated labelers have ranked these, too, and one
/// place is left for a person, who so sees themselves among the figures.
const RANKINGS_FIRST: usize = 2;

/// Tasks: two rankings, then one of each other kind of work, so that a newcomer meets them soon, then the
/// other rankings. A few rankings are gold, too, and mixed in now and then; and simulated labelers have ranked
/// some that nobody else gets.
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
    let (first, others) = split_lines(&candidates, RANKINGS_FIRST);
    let (simulated, others) = split_lines(others, SIMULATED_TASKS - RANKINGS_FIRST);
    let kind = ImportKind::Candidates;
    let n_simulated = ERROR_RATES.len() as i16;
    for (overlap, lines) in [(n_simulated + 1, first), (n_simulated, simulated)] {
        change_settings(db, project, |settings| settings.overlap = overlap).await?;
        seed_text(db, project, kind, FILE, lines.to_owned()).await?;
    }
    change_settings(db, project, |settings| {
        (settings.overlap, settings.gold_share) = (project.overlap, GOLD_SHARE_AT_FIRST);
    })
    .await?;
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
    let n_gold = work.gold.len();
    for gold in work.gold {
        let prompt = &gold.prompt;
        let task = store::tasks::find_of_prompt(db, project.id, prompt).await?;
        let task = task.with_context(|| format!("demo/work.json: no task ranks {prompt}"))?;
        let answer = GoldAnswer {
            candidates: gold.candidates,
        };
        store::gold::make(db, task, Purpose::Gold, &answer, admin)
            .await
            .map_err(sentence)?;
    }
    simulate(db, project, SIMULATED_TASKS + n_gold).await?;
    change_settings(db, project, |settings| settings.gold_share = GOLD_SHARE).await
}

/// The first lines of a text, and the others.
fn split_lines(text: &str, n: usize) -> (&str, &str) {
    let end = n.checked_sub(1);
    let end = end.and_then(|last| text.match_indices('\n').nth(last));
    text.split_at(end.map_or(0, |(at, _)| at + 1))
}

/// Changes what the project sets.
async fn change_settings(
    db: &mut PgConnection,
    project: &Project,
    change: impl FnOnce(&mut Settings),
) -> anyhow::Result<()> {
    let settings = store::projects::find_settings(db, project.id).await?;
    let mut settings = settings.context("the demo project vanished")?;
    change(&mut settings);
    store::projects::update_settings(db, project.id, &settings).await?;
    Ok(())
}

/// Lets the simulated labelers rank as many tasks each, under names that say what they are.
async fn simulate(db: &mut PgConnection, project: &Project, n_each: usize) -> anyhow::Result<()> {
    let crowd = Crowd {
        first: FIRST_SIMULATED,
        error_rates: ERROR_RATES.to_vec(),
    };
    for (number, error_rate) in (FIRST_SIMULATED..).zip(ERROR_RATES) {
        let email = Crowd::address(number);
        if store::accounts::find_by_email(db, &email).await?.is_none() {
            let letter = char::from(b'A' + (number - FIRST_SIMULATED) as u8);
            let percent = 100.0 * error_rate;
            let name = format!("Simulated labeler {letter}, wrong in {percent:.0} %");
            store::accounts::insert(db, &email, &name, &[Role::Labeler], true)
                .await
                .map_err(sentence)?;
        }
    }
    let limit = (ERROR_RATES.len() * n_each) as u64;
    rank_open_tasks(db, project, &crowd, SEED, limit).await?;
    Ok(())
}

/// What is in `demo/work.json`.
#[derive(serde::Deserialize)]
struct DemoWork {
    few_shot: Vec<GivenText>,
    gold: Vec<DemoGold>,
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
