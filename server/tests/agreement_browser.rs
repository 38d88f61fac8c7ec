//! The researcher's figures in a real Chromium: what a project of some hundred rankings looks like, wide and
//! on a phone, in both languages, and that nobody is shut out.

use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use server::commands::simulate::simulate;
use server::domain::ids::{AccountId, ProjectId};
use server::domain::role::Role;
use server::store;
use sqlx::PgPool;
use thirtyfour::prelude::*;

use crate::support::browser::{
    Chrome, Kind, check_accessible, check_reach, choose, click, look, wait_for, wait_for_address,
    wait_for_text,
};
use crate::support::crowd::{self, Ways};
use crate::support::program::Program;

/// Seven labelers with ways of their own, gold tasks and repeats, over seven weeks.
async fn crowd_at_work(db: &PgPool) -> ProjectId {
    let mut rng = ChaCha12Rng::seed_from_u64(11);
    let models = ["gpt-sft-1.3b", "ppo-step-400", "ppo-step-200", "base-1.3b"];
    let project = crowd::project(db, 220, &models, 3, &mut rng).await;
    crowd::make_gold(db, project, 10).await;
    sqlx::query(
        "UPDATE projects SET gold_share = 0.12, repeat_share = 0.12, repeat_after_days = 0",
    )
    .execute(db)
    .await
    .unwrap();
    let plain = Ways::default();
    let ways = [
        (
            "Ada Lovelace",
            Ways {
                error: 0.3,
                ..plain
            },
        ),
        ("Blaise Pascal", plain),
        (
            "陈景润",
            Ways {
                seconds: 110.0,
                ..plain
            },
        ),
        (
            "Dorothy Vaughan",
            Ways {
                length: 1.2,
                ..plain
            },
        ),
        (
            "Emmy Noether",
            Ways {
                place: 0.7,
                tie: 0.1,
                ..plain
            },
        ),
        (
            "Felix Klein",
            Ways {
                error: 3.0,
                seconds: 7.0,
                flag_error: 0.3,
                ..plain
            },
        ),
        ("Grace Hopper", Ways { tie: 1.2, ..plain }),
    ];
    let mut labelers: Vec<(AccountId, Ways)> = Vec::new();
    for (name, ways) in ways {
        labelers.push((crowd::labeler(db, name).await, ways));
    }
    let mut is_idle = false;
    while !is_idle {
        is_idle = true;
        for (labeler, ways) in &labelers {
            is_idle &= !crowd::work(db, project, *labeler, ways, &mut rng).await;
        }
    }
    crowd::spread_over_days(db, 48.0).await;
    project
}

async fn sign_in(browser: &WebDriver, db: &PgPool, program: &Program, roles: &[Role]) {
    let mut connection = db.acquire().await.unwrap();
    let email = format!("{}@example.org", uuid::Uuid::now_v7());
    let id = store::accounts::insert(&mut connection, &email, "Alice", roles, false)
        .await
        .unwrap();
    let link = store::sign_in_links::create(&mut connection, id, None, 1)
        .await
        .unwrap();
    let address = format!("{}/sign-in/{}", program.url, link.reveal());
    browser.goto(address).await.unwrap();
    click(browser, "main form button").await;
    wait_for(browser, "form[action='/sign-out']").await;
}

/// Looks at the whole page, however long it is.
async fn look_at_all(chrome: &Chrome, browser: &WebDriver, width: u32, name: &str) {
    chrome.stretch(browser, width).await;
    look(browser, name).await;
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn figures_are_drawn_and_read_on_wide_and_narrow_windows_in_both_languages(db: PgPool) {
    let project = crowd_at_work(&db).await;
    let program = Program::start(&db, &["--no-worker"]).await;
    let chrome = Chrome::start().await;
    let browser = chrome.open(Kind::Desktop, program.folder.path()).await;
    sign_in(&browser, &db, &program, &[Role::Admin, Role::Operator]).await;
    let group = ".site-nav details:has(a[href='/agreement']) > summary";
    click(&browser, group).await;
    click(&browser, ".site-nav a[href='/agreement']").await;
    wait_for(&browser, "#labelers table.figures").await;
    wait_for(
        &browser,
        "#weeks figure svg circle.chart-dot:nth-of-type(6)",
    )
    .await;
    wait_for(&browser, "#pairs table.matrix td.shade-4").await;
    check_accessible(&browser).await;
    check_reach(&browser, "agreement").await;
    look_at_all(&chrome, &browser, 1280, "agreement").await;
    // Who errs most is last by quality, and every row says what it rests on.
    choose(&browser, "#sort", "quality").await;
    click(&browser, "form.filter button").await;
    wait_for_address(&browser, "sort=quality").await;
    wait_for_text(
        &browser,
        "#labelers .scroll tbody tr:last-child .named",
        "Felix Klein",
    )
    .await;
    let rows = browser
        .find_all(By::Css("#labelers td.told"))
        .await
        .unwrap();
    for cell in rows.iter().take(12) {
        let text = cell.text().await.unwrap();
        assert!(text.contains("n = "), "{text}");
    }
    // A filter stays while one goes on to a labeler and back.
    choose(&browser, "#category", "generation").await;
    click(&browser, "form.filter button").await;
    wait_for_address(&browser, "category=generation").await;
    click(&browser, "#labelers tbody tr:first-child a").await;
    wait_for_address(&browser, "/agreement/labelers/").await;
    wait_for_address(&browser, "category=generation").await;
    let address = browser.current_url().await.unwrap().to_string();
    let address = address.replace("category=generation", "category=");
    browser.goto(&address).await.unwrap();
    wait_for(&browser, "#overall table.figures").await;
    check_accessible(&browser).await;
    look_at_all(&chrome, &browser, 1280, "agreement-labeler").await;
    browser
        .goto(format!("{}/models", program.url))
        .await
        .unwrap();
    wait_for_text(
        &browser,
        "#strengths tbody tr:first-child .named",
        "gpt-sft-1.3b",
    )
    .await;
    check_accessible(&browser).await;
    look_at_all(&chrome, &browser, 1280, "models").await;

    // Simulated labelers only where they are asked for.
    let mut connection = db.acquire().await.unwrap();
    let found = store::projects::find(&mut connection, project)
        .await
        .unwrap()
        .unwrap();
    sqlx::query("UPDATE tasks SET overlap = 4 WHERE purpose = 'label'")
        .execute(&db)
        .await
        .unwrap();
    simulate(&db, &found, 1, 0.2, 1, 30).await.unwrap();
    browser
        .goto(format!("{}/agreement", program.url))
        .await
        .unwrap();
    wait_for(&browser, "#labelers table.figures").await;
    assert!(
        browser
            .find(By::Css("#labelers .badge-simulated"))
            .await
            .is_err()
    );
    choose(&browser, "#simulated", "true").await;
    click(&browser, "form.filter button").await;
    wait_for(&browser, "#labelers .badge-simulated").await;
    browser.quit().await.unwrap();

    let phone = chrome.open(Kind::Phone, program.folder.path()).await;
    sign_in(&phone, &db, &program, &[Role::Admin, Role::Operator]).await;
    phone
        .goto(format!("{}/agreement", program.url))
        .await
        .unwrap();
    wait_for(&phone, "#labelers table.figures").await;
    check_accessible(&phone).await;
    look_at_all(&chrome, &phone, 390, "agreement-phone").await;
    click(&phone, "button[name=lang]").await;
    wait_for(&phone, "html[lang=zh]").await;
    look_at_all(&chrome, &phone, 390, "agreement-phone-zh").await;
    phone.goto(format!("{}/models", program.url)).await.unwrap();
    wait_for(&phone, "#strengths").await;
    check_accessible(&phone).await;
    look_at_all(&chrome, &phone, 390, "models-phone-zh").await;
    phone.quit().await.unwrap();
}
