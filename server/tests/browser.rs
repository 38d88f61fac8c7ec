//! The whole loop in a real Chromium: ranking by keyboard and without JavaScript, a reward run and
//! a PPO run on a tiny model, and an export.

use std::path::Path;
use std::time::Duration;

use server::commands::simulate::simulate;
use server::domain::role::Role;
use server::store;
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use thirtyfour::prelude::*;

use crate::runs::{queue, record, worker};
use crate::support::browser::{
    Chrome, Kind, check_accessible, check_reach, choose, click, find_barriers, look, wait_for,
    wait_for_address, wait_for_text,
};
use crate::support::fake;
use crate::support::program::Program;
use crate::tiny::write_model;

/// Signs in by a single-use link, as the demo prints it.
pub(crate) async fn sign_in(browser: &WebDriver, db: &PgPool, program: &Program, email: &str) {
    let mut connection = db.acquire().await.unwrap();
    let account = store::accounts::find_by_email(&mut connection, email)
        .await
        .unwrap()
        .unwrap();
    let link = store::sign_in_links::create(&mut connection, account.id, None, 1)
        .await
        .unwrap();
    browser
        .goto(format!("{}/sign-in/{}", program.url, link.reveal()))
        .await
        .unwrap();
    click(browser, "main form button").await;
    wait_for(browser, "form[action='/sign-out']").await;
}

pub(crate) async fn make_accounts(db: &PgPool) {
    let mut connection = db.acquire().await.unwrap();
    for (name, role) in [
        ("ada", Role::Labeler),
        ("bob", Role::Labeler),
        ("alice", Role::Admin),
        ("olga", Role::Operator),
    ] {
        let email = format!("{name}@example.org");
        store::accounts::insert(&mut connection, &email, name, &[role], false)
            .await
            .unwrap();
    }
    drop(connection);
    fake::acknowledge(db).await;
}

pub(crate) async fn start(db: &PgPool, flags: &[&str]) -> Program {
    let folder = tempfile::tempdir().unwrap();
    write_model(&folder.path().join("models/tiny"));
    make_accounts(db).await;
    Program::start_in(db, folder, flags).await
}

pub(crate) async fn ranks(db: &PgPool, email: &str) -> Vec<i16> {
    // In the order shown, so that a test can compare with what it typed.
    sqlx::query_scalar(
        "SELECT r.rank FROM ratings r
         JOIN rankings k ON k.id = r.ranking_id
         JOIN assignments a ON a.id = k.assignment_id
         JOIN accounts b ON b.id = a.labeler_id
         WHERE b.email = $1
         ORDER BY k.created_at, array_position(a.display_order, r.slot)",
    )
    .bind(email)
    .fetch_all(db)
    .await
    .unwrap()
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_labeler_ranks_by_keyboard_alone_and_the_draft_saves_itself(db: PgPool) {
    fake::project(&db, 2, 4, 1, 3600).await;
    let program = start(&db, &["--no-worker"]).await;
    let chrome = Chrome::start().await;
    let browser = chrome.open(Kind::Desktop, program.folder.path()).await;
    sign_in(&browser, &db, &program, "ada@example.org").await;
    look(&browser, "home-labeler").await;
    click(&browser, "main form[action='/work'] button").await;
    wait_for(&browser, ".has-script #rank-form").await;
    look(&browser, "rank").await;
    check_accessible(&browser).await;
    // The checker has teeth.
    let script = "document.querySelector('#submit').textContent = ''";
    browser.execute(script, Vec::new()).await.unwrap();
    if let Some(found) = find_barriers(&browser).await {
        assert!(found[0].starts_with("button-name"), "{found:?}");
    }
    let script = "document.querySelector('#submit').textContent = 'Submit'";
    browser.execute(script, Vec::new()).await.unwrap();
    assert!(!browser.source().await.unwrap().contains("secret-model"));

    let body = browser.find(By::Css("body")).await.unwrap();
    body.send_keys("?").await.unwrap();
    wait_for(&browser, "dialog[open]").await;
    look(&browser, "rank-keys").await;
    browser
        .find(By::Css("dialog[open]"))
        .await
        .unwrap()
        .send_keys(Key::Escape)
        .await
        .unwrap();
    // Ranks 2, 1, 2, 4 with a tie; K goes back and changes the third to 3, then back to 2.
    for keys in ["2", "j", "1", "j", "3", "j", "4", "k", "2"] {
        browser
            .action_chain()
            .send_keys(keys)
            .perform()
            .await
            .unwrap();
    }
    // Candidate C is rated 6; its first two questions are answered no and yes, the third stays open.
    browser
        .action_chain()
        .key_down(Key::Shift)
        .send_keys("6")
        .key_up(Key::Shift)
        .send_keys("fny")
        .perform()
        .await
        .unwrap();
    wait_for(&browser, "#rating-3 input[value='6']:checked").await;
    wait_for_text(&browser, "#flags-3 > summary", "2 of 11 answered").await;
    wait_for(
        &browser,
        "#flags-3 .flag:nth-child(2) input[value='yes']:checked",
    )
    .await;
    // A digit on a focused rating is a rating and leaves the ranks alone.
    let rating = browser.find(By::Css("#rating-1 input[value='1']")).await;
    rating.unwrap().send_keys("7").await.unwrap();
    wait_for(&browser, "#rating-1 input[value='7']:checked").await;
    wait_for_text(&browser, "#candidate-1 .place", "Rank 2").await;
    wait_for_text(&browser, "#draft-status", "Draft saved").await;
    wait_for_text(&browser, "#board [data-rank='1']", "B").await;
    // Another window saves first. What is here is kept, and takes its place when the labeler says so.
    let choice = browser.find(By::Css("#draft-choice")).await.unwrap();
    assert!(!choice.is_displayed().await.unwrap());
    sqlx::query("UPDATE assignments SET draft_revision = draft_revision + 1")
        .execute(&db)
        .await
        .unwrap();
    browser
        .action_chain()
        .send_keys("6")
        .perform()
        .await
        .unwrap();
    wait_for_text(&browser, "#draft-status", "newer draft").await;
    look(&browser, "rank-conflict").await;
    click(&browser, "#keep-mine").await;
    wait_for_text(&browser, "#draft-status", "Draft saved").await;
    let rating: i64 =
        sqlx::query_scalar("SELECT (draft #>> '{candidates,0,rating}')::bigint FROM assignments WHERE opened_at IS NOT NULL")
            .fetch_one(&db)
            .await
            .unwrap();
    assert_eq!(rating, 6);
    let chain = browser
        .action_chain()
        .key_down(Key::Control)
        .send_keys(Key::Enter);
    chain.key_up(Key::Control).perform().await.unwrap();
    // The next task follows at once.
    wait_for_text(&browser, "main", "1 submitted").await;
    assert_eq!(ranks(&db, "ada@example.org").await, [2, 1, 2, 3]);
    browser.quit().await.unwrap();
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_labeler_ranks_without_javascript(db: PgPool) {
    fake::project(&db, 1, 5, 1, 3600).await;
    let program = start(&db, &["--no-worker"]).await;
    let chrome = Chrome::start().await;
    let browser = chrome
        .open(Kind::WithoutScript, program.folder.path())
        .await;
    sign_in(&browser, &db, &program, "bob@example.org").await;
    browser.goto(format!("{}/work", program.url)).await.unwrap();
    click(&browser, "main form[action='/work'] button").await;
    wait_for(&browser, "#rank-form").await;
    // Only where no script ran is the button that saves by hand in sight.
    assert!(
        browser
            .find(By::Css("button[value='save']"))
            .await
            .unwrap()
            .is_displayed()
            .await
            .unwrap()
    );
    for (position, rank) in [(1, 3), (2, 1), (3, 1), (4, 5), (5, 2)] {
        click(
            &browser,
            &format!("input[name='rank-{position}'][value='{rank}']"),
        )
        .await;
    }
    click(&browser, "input[name='rating-2'][value='6']").await;
    click(&browser, "button[value='save']").await;
    wait_for(&browser, "input[name='rating-2'][value='6'][checked]").await;
    look(&browser, "rank-without-script").await;
    click(&browser, "#submit").await;
    wait_for_text(&browser, "h1", "Nothing is waiting").await;
    assert_eq!(ranks(&db, "bob@example.org").await, [3, 1, 1, 4, 2]);
    browser.quit().await.unwrap();
}

/// Takes a snapshot by its page and returns to the list.
async fn take_snapshot(browser: &WebDriver, program: &Program, kind: &str) {
    browser
        .goto(format!("{}/snapshots", program.url))
        .await
        .unwrap();
    wait_for(browser, "#name")
        .await
        .send_keys(format!("all {kind}"))
        .await
        .unwrap();
    choose(browser, "#kind", kind).await;
    if kind == "rankings" {
        click(browser, "input[name='include_simulated']").await;
    }
    click(browser, "main form[action='/snapshots'] button").await;
    wait_for_address(browser, "/snapshots/").await;
}

/// Starts a run with the `tiny` preset and waits for its end.
async fn carry_out(browser: &WebDriver, program: &Program, kind: &str) {
    browser
        .goto(format!("{}/runs/new?kind={kind}", program.url))
        .await
        .unwrap();
    wait_for(browser, "#name")
        .await
        .send_keys(format!("first {kind}"))
        .await
        .unwrap();
    click(browser, "input[name='preset'][value='tiny']").await;
    look(browser, &format!("run-new-{kind}")).await;
    click(browser, "main form[action='/runs'] button:not([name])").await;
    wait_for_address(browser, "/runs/").await;
    wait_for(browser, "#run-status:is(.badge-finished, .badge-failed)").await;
    if let Ok(error) = browser.find(By::Css("#run-error")).await {
        panic!("the {kind} run failed: {}", error.text().await.unwrap());
    }
    wait_for(browser, ".chart-line").await;
    // What is known only at the end arrives by itself too.
    wait_for_text(browser, "#run-about", "Ended").await;
    wait_for_text(browser, "#run-about", "metrics.jsonl").await;
    assert!(
        browser.find(By::Css(".badge-failed")).await.is_err(),
        "a check failed"
    );
    look(browser, &format!("run-{kind}")).await;
}

async fn downloaded(folder: &Path) -> Vec<u8> {
    for _ in 0..600 {
        let file = std::fs::read_dir(folder)
            .unwrap()
            .filter_map(|entry| entry.ok().map(|entry| entry.path()));
        let done = file.into_iter().find(|path| {
            path.extension()
                .is_some_and(|extension| extension == "jsonl")
        });
        if let Some(path) = done {
            return std::fs::read(path).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("no download in {}", folder.display());
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn an_operator_trains_and_an_admin_exports(db: PgPool) {
    let project = fake::project(&db, 24, 4, 1, 3600).await;
    let mut connection = db.acquire().await.unwrap();
    let project = store::projects::find(&mut connection, project)
        .await
        .unwrap()
        .unwrap();
    drop(connection);
    simulate(&db, &project, 2, 0.1, 1, 1000).await.unwrap();
    let program = start(&db, &[]).await;
    let chrome = Chrome::start().await;
    let browser = chrome.open(Kind::Desktop, program.folder.path()).await;

    sign_in(&browser, &db, &program, "olga@example.org").await;
    take_snapshot(&browser, &program, "rankings").await;
    take_snapshot(&browser, &program, "prompts").await;
    carry_out(&browser, &program, "reward").await;
    let reward = browser.current_url().await.unwrap();
    // The report arrives by itself too.
    wait_for(&browser, "#report-reliability svg circle").await;
    carry_out(&browser, &program, "ppo").await;
    wait_for(&browser, ".sample-before").await;
    wait_for(&browser, ".sample-after").await;
    for (path, name) in [
        ("/", "home-operator"),
        ("/runs", "runs"),
        ("/checkpoints", "checkpoints"),
    ] {
        browser
            .goto(format!("{}{path}", program.url))
            .await
            .unwrap();
        wait_for(&browser, "h1").await;
        look(&browser, name).await;
    }
    click(&browser, "main td a").await;
    wait_for(&browser, "dl.facts").await;
    look(&browser, "checkpoint").await;
    browser.quit().await.unwrap();

    // The report's tables and pictures fit a phone.
    let phone = chrome.open(Kind::Phone, program.folder.path()).await;
    sign_in(&phone, &db, &program, "olga@example.org").await;
    for lang in ["en", "zh"] {
        phone.goto(reward.as_str()).await.unwrap();
        if lang == "zh" {
            click(&phone, "button[name='lang'][value='zh']").await;
            wait_for(&phone, "html[lang='zh']").await;
        }
        look(&phone, &format!("run-reward-narrow-{lang}")).await;
        let summary = wait_for(&phone, "#report-bins summary").await;
        summary.send_keys(Key::Enter).await.unwrap();
        wait_for(&phone, "#report-bins[open]").await;
        for part in ["report-bins", "report-all", "report-labeler"] {
            let script =
                "document.getElementById(arguments[0]).scrollIntoView({behavior: 'instant'})";
            let part = vec![serde_json::json!(part)];
            phone.execute(script, part.clone()).await.unwrap();
            look(&phone, &format!("run-{}-{lang}", part[0].as_str().unwrap())).await;
        }
    }
    phone.quit().await.unwrap();

    let downloads = tempfile::tempdir().unwrap();
    let browser = chrome.open(Kind::Desktop, downloads.path()).await;
    sign_in(&browser, &db, &program, "alice@example.org").await;
    browser
        .goto(format!("{}/snapshots", program.url))
        .await
        .unwrap();
    look(&browser, "snapshots").await;
    let link = browser
        .find(By::XPath("//td/a[text()='all rankings']"))
        .await
        .unwrap();
    let script = "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})";
    let arguments = vec![link.to_json().unwrap()];
    browser.execute(script, arguments).await.unwrap();
    link.click().await.unwrap();
    let sha256 = wait_for(&browser, "dl.facts dd code")
        .await
        .text()
        .await
        .unwrap();
    look(&browser, "snapshot").await;
    click(&browser, "a[href$='/export']").await;
    let bytes = downloaded(downloads.path()).await;
    assert_eq!(hex::encode(Sha256::digest(&bytes)), sha256);
    assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 24);
    browser.quit().await.unwrap();
}

/// A batch of PPO, as the trainer tells it.
fn batch(step: u64) -> (String, serde_json::Value) {
    let d = (step - 1) as f64 / 4.0;
    let values = serde_json::json!({
        "objective/root_kl": d, "objective/score": d, "objective/score_std": 1.0,
        "objective/gold": d * (1.0 - d), "objective/gold_std": 1.0,
    });
    let data = serde_json::json!({"step": step, "values": values});
    ("metrics".to_owned(), data)
}

/// The server fits and draws it, so nothing but the page's own asking makes it move.
#[sqlx::test(migrator = "server::MIGRATOR")]
async fn over_optimisation_appears_and_moves_while_a_run_goes_on(db: PgPool) {
    let program = start(&db, &["--no-worker"]).await;
    let id = queue(&db, 1).await[0];
    sqlx::query("UPDATE runs SET kind = 'ppo'")
        .execute(&db)
        .await
        .unwrap();
    worker(&db, "w").claim_next().await.unwrap().unwrap();
    record(&db, id, "w", &[batch(1)]).await;
    let chrome = Chrome::start().await;
    let browser = chrome.open(Kind::Desktop, program.folder.path()).await;
    sign_in(&browser, &db, &program, "olga@example.org").await;
    let page = format!("{}/runs/{id}", program.url);
    browser.goto(&page).await.unwrap();
    // It follows the run, and knows the curves already.
    record(&db, id, "w", &[batch(2)]).await;
    let curve = "[data-metric='objective/score']";
    wait_for_text(&browser, &format!("{curve} output"), "0.2500").await;
    let summary = wait_for(&browser, &format!("{curve} summary")).await;
    summary.send_keys(Key::Enter).await.unwrap();
    assert!(browser.find(By::Css("#run-frontier")).await.is_err());

    record(&db, id, "w", &[batch(3), batch(4)]).await;
    // What is unfolded grows with the curve.
    wait_for_text(
        &browser,
        &format!("{curve} tbody tr:nth-child(4)"),
        "0.7500",
    )
    .await;
    wait_for(&browser, "#run-frontier > svg circle:nth-of-type(4)").await;
    record(&db, id, "w", &[batch(5), batch(6)]).await;
    wait_for(&browser, "#run-frontier > svg circle:nth-of-type(6)").await;
    wait_for(&browser, "#run-status.badge-running").await;
    wait_for(&browser, &format!("{curve} details[open]")).await;
    browser.quit().await.unwrap();
    for (kind, size) in [(Kind::Phone, "narrow"), (Kind::Desktop, "wide")] {
        let browser = chrome.open(kind, program.folder.path()).await;
        sign_in(&browser, &db, &program, "olga@example.org").await;
        browser.goto(&page).await.unwrap();
        let summary = wait_for(&browser, "#run-frontier-numbers summary").await;
        summary.send_keys(Key::Enter).await.unwrap();
        wait_for(&browser, "#run-frontier-numbers[open]").await;
        let script = "document.getElementById('run-over-optimisation').scrollIntoView({behavior: 'instant'})";
        browser.execute(script, Vec::new()).await.unwrap();
        look(&browser, &format!("run-over-optimisation-{size}")).await;
        browser.quit().await.unwrap();
    }
}

/// Before there is anything to see; `every_page` looks at all pages with something on them, in English at a desk and
/// in Chinese on a phone.
#[sqlx::test(migrator = "server::MIGRATOR")]
async fn empty_pages_fit_a_phone_in_english_and_a_desk_in_chinese(db: PgPool) {
    fake::project(&db, 3, 6, 1, 3600).await;
    let program = start(&db, &["--no-worker"]).await;
    let chrome = Chrome::start().await;
    for (kind, size, lang) in [(Kind::Phone, "narrow", "en"), (Kind::Desktop, "wide", "zh")] {
        let browser = chrome.open(kind, program.folder.path()).await;
        browser
            .goto(format!("{}/sign-in", program.url))
            .await
            .unwrap();
        look(&browser, &format!("sign-in-{size}")).await;
        for (who, pages) in [
            (
                "ada",
                vec!["/", "/work", "/guidelines", "/account", "/nowhere"],
            ),
            ("bob", vec!["/work"]),
            (
                "alice",
                vec![
                    "/",
                    "/prompts",
                    "/tasks",
                    "/snapshots",
                    "/accounts",
                    "/guidelines",
                ],
            ),
            (
                "olga",
                vec![
                    "/",
                    "/runs",
                    "/runs/new?kind=sft",
                    "/runs/new?kind=reward",
                    "/runs/new?kind=ppo",
                    "/runs/new?kind=generation",
                    "/checkpoints",
                ],
            ),
        ] {
            sign_in(&browser, &db, &program, &format!("{who}@example.org")).await;
            // Ada has an assignment open; bob sees how many tasks are waiting.
            if who == "ada" {
                click(&browser, "main form[action='/work'] button").await;
                wait_for(&browser, "#rank-form").await;
            }
            for page in &pages {
                browser
                    .goto(format!("{}{page}", program.url))
                    .await
                    .unwrap();
                let current = wait_for(&browser, "html").await.attr("lang").await.unwrap();
                if current.as_deref() != Some(lang) {
                    click(&browser, &format!("button[name='lang'][value='{lang}']")).await;
                    wait_for(&browser, &format!("html[lang='{lang}']")).await;
                    browser
                        .goto(format!("{}{page}", program.url))
                        .await
                        .unwrap();
                }
                wait_for(&browser, "h1").await;
                let name = page.replace(['/', '?', '='], "-");
                look(&browser, &format!("{who}{name}-{lang}-{size}")).await;
                check_reach(&browser, page).await;
            }
            click(&browser, "form[action='/sign-out'] button").await;
            wait_for_address(&browser, "/sign-in").await;
        }
        browser.quit().await.unwrap();
    }
}
