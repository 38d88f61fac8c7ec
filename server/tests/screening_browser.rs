//! The pages that make labels defensible, in a real Chromium: gold, attention, questions, adjudication and
//! screening, wide and on a phone, in both languages, with axe-core.

use serde_json::json;
use server::domain::role::Role;
use server::store;
use sqlx::PgPool;
use thirtyfour::prelude::*;

use crate::browser::sign_in;
use crate::gold::{lease, make_gold, set_shares, submit, tasks};
use crate::screening::{invite, make_screening_task};
use crate::support::browser::{
    Chrome, Kind, check_accessible, check_reach, click, look, wait_for, wait_for_text,
};
use crate::support::program::Program;
use crate::support::{TestApp, fake};

/// Looks at pages in both languages.
pub(crate) async fn tour(
    browser: &WebDriver,
    program: &Program,
    pages: &[(&str, &str)],
    size: &str,
) {
    for (path, name) in pages {
        for lang in ["en", "zh"] {
            let address = format!("{}{path}", program.url);
            browser.goto(&address).await.unwrap();
            let current = wait_for(browser, "html").await.attr("lang").await.unwrap();
            if current.as_deref() != Some(lang) {
                click(browser, &format!("button[name='lang'][value='{lang}']")).await;
                wait_for(browser, &format!("html[lang='{lang}']")).await;
                browser.goto(&address).await.unwrap();
            }
            wait_for(browser, "h1").await;
            // Everything unfolded, as it is looked at and checked.
            let unfold = "document.querySelectorAll('main details').forEach((part) => { part.open = true; })";
            browser.execute(unfold, Vec::new()).await.unwrap();
            look_whole(browser, &format!("{name}-{lang}-{size}")).await;
            check_reach(browser, path).await;
            check_accessible(browser).await;
        }
    }
}

/// Keeps a picture of the whole page, however long.
async fn look_whole(browser: &WebDriver, name: &str) {
    look(browser, name).await;
    let script = "return Math.ceil(document.documentElement.scrollHeight / innerHeight)";
    let n: i64 = browser
        .execute(script, Vec::new())
        .await
        .unwrap()
        .convert()
        .unwrap();
    if std::env::var("PLACKETT_SCREENSHOTS").is_err() {
        return;
    }
    for part in 1..n.min(4) {
        let script = "scrollTo({top: arguments[0] * innerHeight, behavior: 'instant'})";
        browser.execute(script, vec![json!(part)]).await.unwrap();
        look(browser, &format!("{name}-{part}")).await;
    }
}

pub(crate) async fn make_accounts(db: &PgPool) {
    let mut connection = db.acquire().await.unwrap();
    for (name, role) in [("lena", Role::Labeler), ("alice", Role::Admin)] {
        let email = format!("{name}@example.org");
        store::accounts::insert(&mut connection, &email, name, &[role], false)
            .await
            .unwrap();
    }
    drop(connection);
    fake::acknowledge(db).await;
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn the_pages_of_gold_attention_and_adjudication_fit_and_shut_nobody_out(db: PgPool) {
    let project = fake::project(&db, 3, 5, 2, 3600).await;
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    let all = tasks(&db).await;
    let flags = json!({"1": {"hallucination": true, "expresses_opinion": false}});
    let gold = make_gold(&admin, all[2], "rank-1=1&rank-2=2&flag-3-hallucination=yes").await;
    set_shares(&db, 0.5, 0.0).await;
    for (name, ranks) in [("ada", [1, 2, 3, 4, 5]), ("bob", [5, 3, 4, 2, 2])] {
        let by = app.program(name, &[Role::Labeler]).await;
        let who = by.account_id.unwrap();
        for purpose in ["label", "gold", "label"] {
            let (id, _) = lease(&db, project, who, purpose).await.unwrap();
            submit(&db, &by, id, &ranks, flags.clone()).await;
        }
    }
    // One task stands where it stands because reward models disagree on it.
    let mut connection = db.acquire().await.unwrap();
    store::informative::set_disagreement(&mut connection, &[(all[1], 0.0421)])
        .await
        .unwrap();
    sqlx::query("UPDATE projects SET next_task = 'informative', evaluation_share = 0")
        .execute(&db)
        .await
        .unwrap();
    let n = store::queue_order::place_all(&mut connection, project)
        .await
        .unwrap();
    assert_eq!(n, 1);
    drop(connection);
    make_accounts(&db).await;
    let program = Program::start(&db, &["--no-worker"]).await;
    let chrome = Chrome::start().await;
    let doubtful = format!("/tasks/{}", all[1]);
    let (task, gold, case) = (
        format!("/tasks/{}", all[0]),
        format!("/tasks/{gold}"),
        format!("/adjudication/{}", all[0]),
    );
    let pages = [
        ("/tasks", "tasks"),
        (task.as_str(), "task"),
        (doubtful.as_str(), "task-informative"),
        (gold.as_str(), "gold-task"),
        ("/gold", "gold"),
        ("/attention", "attention"),
        ("/adjudication", "adjudication"),
        (case.as_str(), "adjudication-case"),
        ("/snapshots", "snapshots-labels"),
    ];
    for (kind, size) in [(Kind::Desktop, "wide"), (Kind::Phone, "narrow")] {
        let browser = chrome.open(kind, program.folder.path()).await;
        sign_in(&browser, &db, &program, "alice@example.org").await;
        tour(&browser, &program, &pages, size).await;
        browser.quit().await.unwrap();
    }
    // Once in the dark.
    let browser = chrome.open(Kind::Desktop, program.folder.path()).await;
    sign_in(&browser, &db, &program, "alice@example.org").await;
    browser
        .goto(format!("{}/account", program.url))
        .await
        .unwrap();
    click(&browser, "button[name='theme'][value='dark']").await;
    wait_for(&browser, "html[data-theme='dark']").await;
    tour(&browser, &program, &pages, "dark").await;
    click(&browser, "button[name='lang'][value='en']").await;
    wait_for(&browser, "html[lang='en']").await;
    browser
        .goto(format!("{}{doubtful}", program.url))
        .await
        .unwrap();
    wait_for_text(&browser, "#task-chosen", "disagree").await;
    // A decision by the page.
    let address = format!("{}{case}", program.url);
    browser.goto(&address).await.unwrap();
    for number in 1..=5 {
        let rank = format!("input[name='rank-{number}'][value='{}']", 6 - number);
        click(&browser, &rank).await;
    }
    click(&browser, "#decision form > div button").await;
    wait_for_text(&browser, "#adjudication-figures", "1 of these is decided").await;
    browser.quit().await.unwrap();
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_question_is_asked_beside_the_task_with_and_without_script(db: PgPool) {
    fake::project(&db, 2, 4, 1, 3600).await;
    make_accounts(&db).await;
    let program = Program::start(&db, &["--no-worker"]).await;
    let chrome = Chrome::start().await;
    let browser = chrome.open(Kind::Desktop, program.folder.path()).await;
    sign_in(&browser, &db, &program, "lena@example.org").await;
    browser.goto(format!("{}/work", program.url)).await.unwrap();
    click(&browser, "main form[action='/work'] button").await;
    wait_for(&browser, "#rank-form").await;
    let path = browser.current_url().await.unwrap().path().to_owned();
    click(&browser, "input[name='rank-1'][value='3']").await;
    click(&browser, "#questions summary").await;
    let text = wait_for(&browser, "#question").await;
    text.send_keys("Does **style** count 3 or 4?")
        .await
        .unwrap();
    click(&browser, "#questions form button").await;
    wait_for_text(&browser, "#questions-asked", "Does style count 3 or 4?").await;
    wait_for_text(&browser, "#questions-status", "Sent").await;
    // The page is the same, with what was chosen.
    wait_for(&browser, "input[name='rank-1'][value='3']:checked").await;
    look(&browser, "question-asked").await;
    check_accessible(&browser).await;
    // Keys that rank are only letters in a question.
    assert!(
        browser
            .find(By::Css("input[name='rank-1'][value='4']:checked"))
            .await
            .is_err()
    );
    // The next task takes this one's place without another document, and asks in place as well.
    browser
        .execute("window.isSame = true", Vec::new())
        .await
        .unwrap();
    rank_backwards(&browser, 4).await;
    let own = path.trim_start_matches("/rank/");
    let other = format!("#questions input[name='assignment_id']:not([value='{own}'])");
    wait_for(&browser, &other).await;
    click(&browser, "#questions summary").await;
    let text = wait_for(&browser, "#question").await;
    text.send_keys("And here?").await.unwrap();
    click(&browser, "#questions form button").await;
    wait_for_text(&browser, "#questions-asked", "And here?").await;
    let next = browser.current_url().await.unwrap().path().to_owned();
    assert!(next.starts_with("/rank/"), "{next}");
    let is_same = browser
        .execute("return Boolean(window.isSame)", Vec::new())
        .await
        .unwrap();
    assert!(is_same.convert::<bool>().unwrap(), "no other document");
    browser.quit().await.unwrap();

    // Without script the form opens a window of its own, and the task stays where it is.
    let plain = chrome
        .open(Kind::WithoutScript, program.folder.path())
        .await;
    sign_in(&plain, &db, &program, "lena@example.org").await;
    plain.goto(format!("{}{path}", program.url)).await.unwrap();
    click(&plain, "input[name='rank-2'][value='1']").await;
    wait_for(&plain, "#questions summary")
        .await
        .click()
        .await
        .unwrap();
    let text = wait_for(&plain, "#question").await;
    text.send_keys("And length?").await.unwrap();
    let here = plain.window().await.unwrap();
    wait_for(&plain, "#questions form button")
        .await
        .click()
        .await
        .unwrap();
    let mut windows = plain.windows().await.unwrap();
    for _ in 0..100 {
        if windows.len() == 2 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        windows = plain.windows().await.unwrap();
    }
    assert_eq!(windows.len(), 2);
    let other = windows.into_iter().find(|window| *window != here).unwrap();
    plain.switch_to_window(other).await.unwrap();
    wait_for_text(&plain, "main", "And length?").await;
    plain.switch_to_window(here).await.unwrap();
    let chosen = wait_for(&plain, "input[name='rank-2'][value='1']").await;
    assert!(chosen.is_selected().await.unwrap());
    plain.quit().await.unwrap();

    let browser = chrome.open(Kind::Desktop, program.folder.path()).await;
    sign_in(&browser, &db, &program, "alice@example.org").await;
    tour(
        &browser,
        &program,
        &[("/questions", "questions-admin")],
        "wide",
    )
    .await;
    click(&browser, "button[name='lang'][value='en']").await;
    wait_for(&browser, "html[lang='en']").await;
    let area = wait_for(&browser, ".question textarea[name='answer']").await;
    area.send_keys("Only *clarity*.").await.unwrap();
    click(&browser, ".question form details summary").await;
    click(&browser, ".question input[name='publish']").await;
    click(&browser, ".question form > div > button").await;
    wait_for_text(&browser, "main", "Only clarity.").await;
    browser.quit().await.unwrap();
    for (kind, size) in [(Kind::Desktop, "wide"), (Kind::Phone, "narrow")] {
        let browser = chrome.open(kind, program.folder.path()).await;
        sign_in(&browser, &db, &program, "alice@example.org").await;
        let pages = [("/questions?state=all", "questions-all")];
        tour(&browser, &program, &pages, size).await;
        browser.quit().await.unwrap();
        let browser = chrome.open(kind, program.folder.path()).await;
        sign_in(&browser, &db, &program, "lena@example.org").await;
        let pages = [
            ("/questions", "questions-labeler"),
            (path.as_str(), "rank-questions"),
            ("/", "home-answers"),
        ];
        tour(&browser, &program, &pages, size).await;
        browser.quit().await.unwrap();
    }
}

/// Ranks the candidates in the order shown, backwards, and submits.
pub(crate) async fn rank_backwards(browser: &WebDriver, n: usize) {
    wait_for(browser, "#rank-form").await;
    for position in 1..=n {
        let rank = n + 1 - position;
        click(
            browser,
            &format!("input[name='rank-{position}'][value='{rank}']"),
        )
        .await;
    }
    click(browser, "#submit").await;
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_candidate_takes_the_test_by_page_and_everybody_sees_how_it_went(db: PgPool) {
    fake::project(&db, 3, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    let all = tasks(&db).await;
    let known = "rank-1=1&rank-2=2&rank-3=3&flag-1-hallucination=yes&flag-2-hallucination=no";
    for task in &all[1..] {
        make_screening_task(&admin, *task, known).await;
    }
    make_accounts(&db).await;
    for name in ["zoe", "yan", "xia"] {
        invite(&app, &admin, name).await;
    }
    let program = Program::start(&db, &["--no-worker"]).await;
    let chrome = Chrome::start().await;
    for (kind, size) in [(Kind::Desktop, "wide"), (Kind::Phone, "narrow")] {
        let browser = chrome.open(kind, program.folder.path()).await;
        sign_in(&browser, &db, &program, "zoe@example.org").await;
        let pages = [("/", "home-candidate"), ("/screening", "screening-invited")];
        tour(&browser, &program, &pages, size).await;
        browser.quit().await.unwrap();
    }
    // One on a phone, one without script: both get to the end, whatever comes of it.
    for (kind, who) in [(Kind::Phone, "zoe"), (Kind::WithoutScript, "yan")] {
        let browser = chrome.open(kind, program.folder.path()).await;
        sign_in(&browser, &db, &program, &format!("{who}@example.org")).await;
        browser
            .goto(format!("{}/screening", program.url))
            .await
            .unwrap();
        click(&browser, "input[name='topics'][value='politics']").await;
        click(&browser, "input[name='read']").await;
        click(&browser, "main form button").await;
        rank_backwards(&browser, 4).await;
        wait_for_text(&browser, "main", "1 submitted").await;
        if kind == Kind::Phone {
            tour(
                &browser,
                &program,
                &[("/screening", "screening-begun")],
                "narrow",
            )
            .await;
            click(&browser, "main form button").await;
        }
        rank_backwards(&browser, 4).await;
        wait_for(&browser, "main table").await;
        browser.quit().await.unwrap();
    }
    // Whoever passed has the navigation of a labeler at once.
    let rules = "project=study&least_flags=0&least_ranks=0&least_demonstrations=6&graders=1";
    let saved = admin.post("/screening/rules", rules).await;
    assert_eq!(saved.status, axum::http::StatusCode::SEE_OTHER);
    let browser = chrome.open(Kind::Desktop, program.folder.path()).await;
    sign_in(&browser, &db, &program, "xia@example.org").await;
    browser
        .goto(format!("{}/screening", program.url))
        .await
        .unwrap();
    click(&browser, "input[name='read']").await;
    click(&browser, "main form button").await;
    rank_backwards(&browser, 4).await;
    wait_for_text(&browser, "main", "1 submitted").await;
    rank_backwards(&browser, 4).await;
    wait_for_text(&browser, "main", "You have passed").await;
    wait_for(&browser, "nav a[href='/work']").await;
    tour(
        &browser,
        &program,
        &[("/screening", "screening-passed")],
        "wide",
    )
    .await;
    browser.quit().await.unwrap();

    let (failed, of): (uuid::Uuid, i64) = sqlx::query_as(
        "SELECT id, count(*) OVER () FROM screenings WHERE status = 'failed' ORDER BY id LIMIT 1",
    )
    .fetch_one(&db)
    .await
    .unwrap();
    assert_eq!(of, 2, "flags were left open");
    let one = format!("/screening/{failed}");
    let pages = [
        ("/screening", "screening-admin"),
        (one.as_str(), "screening-candidate"),
    ];
    for (kind, size) in [(Kind::Desktop, "wide"), (Kind::Phone, "narrow")] {
        let browser = chrome.open(kind, program.folder.path()).await;
        sign_in(&browser, &db, &program, "alice@example.org").await;
        tour(&browser, &program, &pages, size).await;
        browser.quit().await.unwrap();
        let browser = chrome.open(kind, program.folder.path()).await;
        sign_in(&browser, &db, &program, "yan@example.org").await;
        tour(
            &browser,
            &program,
            &[(one.as_str(), "screening-failed")],
            size,
        )
        .await;
        browser.quit().await.unwrap();
    }
}
