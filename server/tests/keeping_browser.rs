//! What a labeler said is kept in the browser until the server has it, whatever comes between: in a real Chromium.
//! And the page stands still, and hides nothing that has the focus.

use serde_json::{Value, json};
use sqlx::PgPool;
use thirtyfour::prelude::*;

use crate::browser::{sign_in, start};
use crate::support::browser::{
    Browser, Chrome, Kind, check_accessible, click, look, set_network, wait_for, wait_for_text,
};
use crate::support::fake;
use crate::support::program::Program;

const ADA: &str = "ada@example.org";

/// Requests that never arrive, by patterns of their addresses.
async fn block(browser: &WebDriver, patterns: &[&str]) {
    let tools = browser.cdp();
    tools.send_raw("Network.enable", json!({})).await.unwrap();
    let blocked = json!({"urls": patterns});
    tools
        .send_raw("Network.setBlockedURLs", blocked)
        .await
        .unwrap();
}

const DRAFTS: &str = "*/api/v1/assignments/*/draft";
const SUBMISSIONS: &str = "*/api/v1/assignments/*/submission";

/// A labeler with the first task on the screen, and its address.
async fn open(chrome: &Chrome, kind: Kind, db: &PgPool, program: &Program) -> (Browser, String) {
    let browser = chrome.open(kind, program.folder.path()).await;
    sign_in(&browser, db, program, ADA).await;
    browser.goto(format!("{}/work", program.url)).await.unwrap();
    click(&browser, "main form[action='/work'] button").await;
    wait_for(&browser, "#rank-form").await;
    let page = browser.current_url().await.unwrap().to_string();
    (browser, page)
}

/// Ranks the candidates in this order.
async fn rank(browser: &WebDriver, ranks: &[usize]) {
    for (index, rank) in ranks.iter().enumerate() {
        let css = format!("#rank-{} input[value='{rank}']", index + 1);
        click(browser, &css).await;
    }
}

async fn run(browser: &WebDriver, script: &str) -> Value {
    let found = browser.execute(script, Vec::new()).await.unwrap();
    found.json().clone()
}

async fn n_kept(browser: &WebDriver) -> Value {
    run(browser, "return localStorage.length").await
}

async fn wait_until_kept(browser: &WebDriver, n: usize) {
    for _ in 0..600 {
        if n_kept(browser).await == n {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{} are kept, not {n}", n_kept(browser).await);
}

async fn wait_until_saved(browser: &WebDriver) {
    wait_for(browser, "#draft-status[data-state='saved']").await;
}

async fn note(browser: &WebDriver, text: &str) {
    let field = wait_for(browser, "#note").await;
    field.send_keys(text).await.unwrap();
}

async fn wait_for_note(browser: &WebDriver, text: &str) {
    let script = "return document.querySelector('#note')?.value";
    for _ in 0..600 {
        if run(browser, script).await == text {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the note is {}", run(browser, script).await);
}

/// Closes the window in sight and goes on in another, whose network is whole.
async fn close_and_open(browser: &WebDriver) {
    let other = browser.new_tab().await.unwrap();
    browser.close_window().await.unwrap();
    browser.switch_to_window(other).await.unwrap();
}

async fn draft(db: &PgPool) -> Value {
    let draft: Option<Value> =
        sqlx::query_scalar("SELECT draft FROM assignments WHERE opened_at IS NOT NULL")
            .fetch_one(db)
            .await
            .unwrap();
    draft.unwrap_or_default()
}

async fn n_rankings(db: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM rankings")
        .fetch_one(db)
        .await
        .unwrap()
}

/// As another window does.
async fn save_newer(db: &PgPool) {
    sqlx::query(
        "UPDATE assignments SET draft_revision = draft_revision + 1,
         draft = coalesce(draft, '{\"candidates\": []}') || '{\"note\": \"newer\"}' WHERE opened_at IS NOT NULL",
    )
    .execute(db)
    .await
    .unwrap();
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn what_was_submitted_is_in_the_form_while_it_waits_and_a_click_takes_back_no_more(
    db: PgPool,
) {
    fake::project(&db, 1, 4, 1, 3600).await;
    let program = start(&db, &["--no-worker"]).await;
    let chrome = Chrome::start().await;
    let (browser, page) = open(&chrome, Kind::Desktop, &db, &program).await;
    rank(&browser, &[2, 1, 3, 4]).await;
    wait_until_saved(&browser).await;
    block(&browser, &[DRAFTS, SUBMISSIONS]).await;
    rank(&browser, &[2, 1, 3, 3]).await;
    click(&browser, "#submit").await;
    wait_for_text(&browser, "#draft-status", "kept in this browser").await;
    close_and_open(&browser).await;
    block(&browser, &[SUBMISSIONS]).await;
    browser.goto(&page).await.unwrap();
    wait_for(&browser, "#rank-4 input[value='3']:checked").await;
    wait_for_text(&browser, "#draft-status", "kept in this browser").await;
    assert_eq!(draft(&db).await["candidates"][3]["rank"], 4);
    click(&browser, "#rank-1 input[value='4']").await;
    wait_until_saved(&browser).await;
    wait_until_kept(&browser, 0).await;
    let said = draft(&db).await;
    let ranks = [0, 1, 2, 3].map(|index| said["candidates"][index]["rank"].clone());
    assert_eq!(ranks, [4, 1, 3, 3].map(Value::from));
    assert_eq!(n_rankings(&db).await, 0);
    browser.quit().await.unwrap();
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn two_windows_keep_each_its_own_and_none_sees_to_that_of_one_still_open(db: PgPool) {
    fake::project(&db, 1, 4, 1, 3600).await;
    let program = start(&db, &["--no-worker"]).await;
    let chrome = Chrome::start().await;
    let (browser, page) = open(&chrome, Kind::Desktop, &db, &program).await;
    block(&browser, &[DRAFTS]).await;
    note(&browser, "first").await;
    wait_for_text(&browser, "#draft-status", "No connection").await;
    let first = browser.window().await.unwrap();
    let second = browser.new_tab().await.unwrap();
    browser.switch_to_window(second.clone()).await.unwrap();
    browser.goto(&page).await.unwrap();
    wait_for(&browser, ".has-script #rank-form").await;
    wait_for_note(&browser, "").await;
    note(&browser, "second").await;
    wait_until_saved(&browser).await;
    assert_eq!(draft(&db).await["note"], "second");
    assert_eq!(n_kept(&browser).await, 1);
    let account = format!("{}/account", program.url);
    browser.goto(&account).await.unwrap();
    wait_for(&browser, "#announcer").await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(browser.find(By::Css("main .alert")).await.is_err());
    // Once it is closed, what it kept is seen to.
    browser.switch_to_window(first).await.unwrap();
    browser.close_window().await.unwrap();
    browser.switch_to_window(second).await.unwrap();
    wait_for_text(&browser, "main", "a newer draft stands there").await;
    assert_eq!(n_kept(&browser).await, 1);
    browser.goto(&page).await.unwrap();
    wait_for_note(&browser, "first").await;
    wait_for(&browser, "#draft-choice:not([hidden])").await;
    look(&browser, "keeping-choice").await;
    check_accessible(&browser).await;
    // The link in another window leaves this one as it is.
    let link = browser.find(By::Css("#draft-choice a")).await.unwrap();
    let chain = browser.action_chain().key_down(Key::Control);
    let chain = chain.click_element(&link).key_up(Key::Control);
    chain.perform().await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(n_kept(&browser).await, 1);
    // The focus stays where the choice was.
    let mine = browser.find(By::Css("#keep-mine")).await.unwrap();
    mine.send_keys(Key::Enter).await.unwrap();
    wait_until_saved(&browser).await;
    wait_until_kept(&browser, 0).await;
    let focused = run(&browser, "return document.activeElement.id").await;
    assert_eq!(focused, "draft-status");
    assert_eq!(draft(&db).await["note"], "first");
    browser.quit().await.unwrap();
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn nothing_is_sent_in_the_name_of_somebody_else_who_signs_in(db: PgPool) {
    fake::project(&db, 1, 4, 1, 3600).await;
    let program = start(&db, &["--no-worker"]).await;
    let chrome = Chrome::start().await;
    let (browser, _) = open(&chrome, Kind::Desktop, &db, &program).await;
    rank(&browser, &[2, 1, 3, 4]).await;
    wait_until_saved(&browser).await;
    sqlx::query("DELETE FROM sessions")
        .execute(&db)
        .await
        .unwrap();
    click(&browser, "#submit").await;
    wait_for_text(&browser, "#draft-status", "You are signed out").await;
    let first = browser.window().await.unwrap();
    let second = browser.new_tab().await.unwrap();
    browser.switch_to_window(second.clone()).await.unwrap();
    sign_in(&browser, &db, &program, "bob@example.org").await;
    browser.switch_to_window(first.clone()).await.unwrap();
    // It tries again at once.
    run(&browser, "dispatchEvent(new Event('online'))").await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    wait_for_text(&browser, "#draft-status", "You are signed out").await;
    assert_eq!(n_kept(&browser).await, 1);
    browser.switch_to_window(second).await.unwrap();
    sign_in(&browser, &db, &program, ADA).await;
    browser.switch_to_window(first).await.unwrap();
    run(&browser, "dispatchEvent(new Event('online'))").await;
    wait_for_text(&browser, "h1", "Nothing is waiting").await;
    assert_eq!(n_rankings(&db).await, 1);
    assert_eq!(n_kept(&browser).await, 0);
    browser.quit().await.unwrap();
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn what_is_refused_stays_kept_until_the_labeler_has_chosen(db: PgPool) {
    fake::project(&db, 1, 4, 1, 3600).await;
    let program = start(&db, &["--no-worker"]).await;
    let chrome = Chrome::start().await;
    let (browser, page) = open(&chrome, Kind::Desktop, &db, &program).await;
    rank(&browser, &[2, 1, 3, 4]).await;
    wait_until_saved(&browser).await;
    // Another window saves first, and the page that would say so never comes.
    block(&browser, &[DRAFTS]).await;
    let elsewhere = "document.querySelector('#rank-form').setAttribute('action', '/nowhere')";
    run(&browser, elsewhere).await;
    save_newer(&db).await;
    note(&browser, "mine").await;
    click(&browser, "#submit").await;
    wait_until_gone(&browser, "#rank-form").await;
    close_and_open(&browser).await;
    browser.goto(&page).await.unwrap();
    wait_for_note(&browser, "mine").await;
    wait_for(&browser, "#draft-choice:not([hidden])").await;
    assert_eq!(draft(&db).await["note"], "newer");

    // Now it comes; whoever goes away from it without a word has both, too.
    click(&browser, "#submit").await;
    wait_for_text(&browser, "#errors", "The newer draft says").await;
    wait_for(&browser, "#draft-choice:not([hidden])").await;
    wait_until_kept(&browser, 1).await;
    look(&browser, "keeping-refused").await;
    check_accessible(&browser).await;
    close_and_open(&browser).await;
    browser.goto(&page).await.unwrap();
    wait_for_note(&browser, "mine").await;
    wait_for(&browser, "#draft-choice:not([hidden])").await;
    assert_eq!(draft(&db).await["note"], "newer");

    // Submitted once more, it counts.
    click(&browser, "#submit").await;
    wait_for_text(&browser, "#errors", "The newer draft says").await;
    wait_for(&browser, "#draft-choice:not([hidden])").await;
    click(&browser, "#submit").await;
    wait_for_text(&browser, "h1", "Nothing is waiting").await;
    wait_until_kept(&browser, 0).await;
    assert_eq!(n_rankings(&db).await, 1);
    browser.quit().await.unwrap();
}

async fn wait_until_gone(browser: &WebDriver, css: &str) {
    for _ in 0..600 {
        if browser.find(By::Css(css)).await.is_err() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{css} is still there");
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_task_that_could_not_be_given_back_keeps_its_draft(db: PgPool) {
    fake::project(&db, 1, 4, 1, 3600).await;
    let program = start(&db, &["--no-worker"]).await;
    let chrome = Chrome::start().await;
    let (browser, page) = open(&chrome, Kind::Desktop, &db, &program).await;
    let skip = async || {
        note(&browser, "mine").await;
        wait_for_text(&browser, "#draft-status", "No connection").await;
        click(&browser, "#skip summary").await;
        click(&browser, "#reason option:nth-child(2)").await;
        click(&browser, "#skip button").await;
        wait_until_gone(&browser, "#rank-form").await;
    };
    set_network(&browser, true).await;
    skip().await;
    close_and_open(&browser).await;
    browser
        .goto(format!("{}/account", program.url))
        .await
        .unwrap();
    wait_until_kept(&browser, 0).await;
    assert_eq!(draft(&db).await["note"], "mine");
    // Where it is given back, nothing of it is left.
    browser.goto(&page).await.unwrap();
    wait_for_note(&browser, "mine").await;
    block(&browser, &[DRAFTS]).await;
    skip().await;
    block(&browser, &[]).await;
    wait_for_text(&browser, "h1", "Nothing is waiting").await;
    browser.refresh().await.unwrap();
    wait_until_kept(&browser, 0).await;
    assert!(browser.find(By::Css("main .alert")).await.is_err());
    assert_eq!(draft(&db).await["note"], "mine");
    browser.quit().await.unwrap();
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn without_a_script_the_next_page_says_what_became_of_a_submission(db: PgPool) {
    fake::project(&db, 2, 4, 1, 3600).await;
    let program = start(&db, &["--no-worker"]).await;
    let chrome = Chrome::start().await;
    let (browser, page) = open(&chrome, Kind::WithoutScript, &db, &program).await;
    let submit = async || {
        for (position, rank) in [(1, 2), (2, 1), (3, 3), (4, 4)] {
            let css = format!("input[name='rank-{position}'][value='{rank}']");
            click(&browser, &css).await;
        }
        click(&browser, "#submit").await;
    };
    submit().await;
    wait_for_text(&browser, "main > [role='status']", "Submitted.").await;
    look(&browser, "submitted-without-script").await;
    sqlx::query(
        "UPDATE assignments SET lease_until = now() - interval '1 second' WHERE ended_at IS NULL",
    )
    .execute(&db)
    .await
    .unwrap();
    submit().await;
    wait_for_text(&browser, "main > [role='status']", "after its lease").await;
    browser.goto(&page).await.unwrap();
    assert!(browser.find(By::Css("#submitted")).await.is_err());
    submit().await;
    wait_for_text(&browser, "main > [role='status']", "a new version").await;
    browser.quit().await.unwrap();
}

/// Shows the page in a window of this size, in which nothing moves by itself.
async fn resize(browser: &WebDriver, width: u32, height: u32) {
    let tools = browser.cdp();
    let metrics =
        json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
    tools
        .send_raw("Emulation.setDeviceMetricsOverride", metrics)
        .await
        .unwrap();
    let features = json!({"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]});
    tools
        .send_raw("Emulation.setEmulatedMedia", features)
        .await
        .unwrap();
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_page_that_nobody_touches_stands_still(db: PgPool) {
    fake::project(&db, 1, 7, 1, 3600).await;
    let program = start(&db, &["--no-worker"]).await;
    let chrome = Chrome::start().await;
    let (browser, _) = open(&chrome, Kind::Desktop, &db, &program).await;
    let wait = |ms| tokio::time::sleep(std::time::Duration::from_millis(ms));
    run(
        &browser,
        "window.n = 0; addEventListener('scroll', () => { window.n += 1; })",
    )
    .await;
    for width in [1000, 1100, 1280] {
        resize(&browser, width, 700).await;
        for y in [40, 150, 200, 400] {
            run(&browser, &format!("scrollTo(0, {y})")).await;
            wait(400).await;
            run(&browser, "window.n = 0").await;
            wait(600).await;
            let n = run(&browser, "return window.n").await;
            assert_eq!(n, 0, "{width} wide at {y}");
        }
    }
    wait_for(&browser, ".prompt.is-small").await;
    look(&browser, "keeping-still").await;
    // Its button is hidden where all of it is in sight, and gives the focus on.
    let more = wait_for(&browser, "#prompt-more").await;
    if more.is_displayed().await.unwrap() {
        run(
            &browser,
            "document.querySelector('#prompt-more').focus({preventScroll: true})",
        )
        .await;
        run(&browser, "scrollTo(0, 0)").await;
        wait_for(&browser, ".prompt:focus").await;
    }
    browser.quit().await.unwrap();
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn the_bar_hides_nothing_that_has_the_focus_however_many_are_tied(db: PgPool) {
    fake::project(&db, 1, 7, 1, 3600).await;
    let program = start(&db, &["--no-worker"]).await;
    let chrome = Chrome::start().await;
    let (browser, _) = open(&chrome, Kind::Desktop, &db, &program).await;
    // What the focus is on, and how far it lies under the bar or the prompt.
    let script = "const focused = document.activeElement; \
        if (focused.closest('.finish')) return focused.id === 'break-button' ? 'end' : 0; \
        if (!focused.closest('.candidate')) return 0; \
        const place = (part) => part.getBoundingClientRect(); \
        const seen = focused.matches('input') ? focused.closest('label') : focused; \
        const [{top, bottom}, bar] = [place(seen), place(document.querySelector('.finish'))]; \
        return Math.max(0, bottom - bar.top) < 1 ? 0 : `${seen.outerHTML} ${top} to ${bottom}, bar at ${bar.top}`";
    for (width, height, ranks, most) in [
        (390, 844, [1; 7], 250.0),
        (1000, 800, [1, 1, 1, 1, 2, 3, 4], 130.0),
    ] {
        resize(&browser, width, height).await;
        rank(&browser, &ranks).await;
        wait_until_saved(&browser).await;
        let bar = "return document.querySelector('.finish').offsetHeight";
        let bar = run(&browser, bar).await.as_f64().unwrap();
        println!("a bar of {bar} px at {width} x {height}");
        look(&browser, &format!("keeping-bar-{width}")).await;
        check_accessible(&browser).await;
        assert!(bar < most, "{bar} px at {width} x {height}");
        run(
            &browser,
            "scrollTo(0, 0); document.querySelector('#title').focus()",
        )
        .await;
        let mut n = 0;
        loop {
            let chain = browser.action_chain().send_keys(Key::Tab);
            chain.perform().await.unwrap();
            n += 1;
            match run(&browser, script).await {
                Value::String(end) if end == "end" => break,
                found => assert_eq!(found, 0, "{width} x {height}"),
            }
            assert!(n < 400, "the bar is never reached");
        }
        assert!(n > 30, "{n} stops");
    }
    browser.quit().await.unwrap();
}
