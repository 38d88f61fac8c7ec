//! The labeling page as each labeler has it, in a real Chromium: languages, colours and sizes, keys of one's own,
//! what it weighs, and its room.

use serde_json::{Value, json};
use sqlx::PgPool;
use thirtyfour::prelude::*;

use crate::browser::{sign_in, start};
use crate::ranking_browser::{
    ADA, go_to_work, open, press, run, submit, wait_for_next, wait_until_saved,
};
use crate::support::browser::{
    Chrome, Kind, check_accessible, click, look, wait_for, wait_for_text,
};
use crate::support::fake;

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn right_to_left_texts_both_languages_dark_and_double_size_keep_the_page_whole(db: PgPool) {
    let project = fake::project(&db, 0, 5, 1, 3600).await;
    let texts = [
        "العاصمة هي **باريس**، وهي مدينة كبيرة على نهر السين.\n\n- أولاً\n- ثانياً".to_owned(),
        "首都是**巴黎**，塞纳河畔的大城市。".repeat(12),
        "It is **Paris**.".to_owned(),
        "Paris, the capital of France, lies on the Seine. ".repeat(20),
        "a".repeat(400),
    ];
    let mut connection = db.acquire().await.unwrap();
    fake::insert_task(&mut connection, project, "p", "ما هي عاصمة فرنسا؟", &texts).await;
    drop(connection);
    let mut form: Value = serde_json::to_value(server::domain::form::Form::default()).unwrap();
    form["scales"] = json!([
        {"key": "truthful", "min": 1, "max": 5, "label": {"en": "Truthful", "zh": "真实"},
         "low": {"en": "invented", "zh": "编造"}, "high": {"en": "true", "zh": "属实"}},
        {"key": "helpful", "min": 1, "max": 5, "label": {"en": "Helpful", "zh": "有用"}},
    ]);
    sqlx::query("INSERT INTO forms (project_id, version, fields) SELECT id, 2, $1 FROM projects")
        .bind(&form)
        .execute(&db)
        .await
        .unwrap();
    let program = start(&db, &["--no-worker"]).await;
    let chrome = Chrome::start().await;
    for (kind, size) in [(Kind::Desktop, "wide"), (Kind::Phone, "narrow")] {
        let browser = open(&chrome, kind, &db, &program).await;
        press(&browser, "3j1j1").await;
        click(
            &browser,
            "[data-position='2'] .choice:has([name='scale-2-truthful'][value='4'])",
        )
        .await;
        wait_until_saved(&browser).await;
        let direction = "const text = [...document.querySelectorAll('.candidate .rendered > *')] \
            .find((one) => one.textContent.includes('باريس')); return getComputedStyle(text).direction";
        assert_eq!(run(&browser, direction).await, "rtl");
        let prompt =
            "return getComputedStyle(document.querySelector('.prompt .rendered > *')).direction";
        assert_eq!(run(&browser, prompt).await, "rtl");
        look(&browser, &format!("rank-scales-{size}-en")).await;
        check_accessible(&browser).await;
        click(&browser, "button[name='lang'][value='zh']").await;
        wait_for_text(&browser, "h1", "为候选回答排序").await;
        wait_for(&browser, "#board .chip").await;
        look(&browser, &format!("rank-scales-{size}-zh")).await;
        check_accessible(&browser).await;
        let rank = browser.current_url().await.unwrap();
        browser
            .goto(format!("{}/account", program.url))
            .await
            .unwrap();
        click(&browser, "button[name='theme'][value='dark']").await;
        wait_for(&browser, "[data-theme='dark'] #theme").await;
        browser.goto(rank.as_str()).await.unwrap();
        wait_for(&browser, "#board .chip").await;
        look(&browser, &format!("rank-scales-{size}-dark")).await;
        check_accessible(&browser).await;
        click(&browser, "button[name='lang'][value='en']").await;
        wait_for_text(&browser, "h1", "Rank the candidates").await;
        if kind == Kind::Desktop {
            // 200 % zoom: half the pixels of CSS.
            let tools = browser.cdp();
            let metrics =
                json!({"width": 640, "height": 450, "deviceScaleFactor": 2, "mobile": false});
            tools
                .send_raw("Emulation.setDeviceMetricsOverride", metrics)
                .await
                .unwrap();
            look(&browser, "rank-scales-zoomed").await;
            check_accessible(&browser).await;
        }
        browser.quit().await.unwrap();
    }
    let answers: Value =
        sqlx::query_scalar("SELECT draft #> '{candidates,1,scales}' FROM assignments")
            .fetch_one(&db)
            .await
            .unwrap();
    assert_eq!(answers, json!({"truthful": 4}));
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn keys_that_were_chosen_work_and_can_be_switched_off(db: PgPool) {
    fake::project(&db, 1, 4, 1, 3600).await;
    let program = start(&db, &["--no-worker"]).await;
    let chrome = Chrome::start().await;
    let browser = open(&chrome, Kind::Desktop, &db, &program).await;
    let rank = browser.current_url().await.unwrap();
    browser
        .goto(format!("{}/account/keys", program.url))
        .await
        .unwrap();
    wait_for(&browser, "#key-next").await;
    look(&browser, "account-keys").await;
    check_accessible(&browser).await;
    click(&browser, "#key-next option[value='n']").await;
    click(&browser, "main form button:not([name])").await;
    wait_for_text(&browser, "#errors", "N would do two things").await;
    look(&browser, "account-keys-clash").await;
    check_accessible(&browser).await;
    click(&browser, "#key-no option[value='=']").await;
    click(&browser, "main form button:not([name])").await;
    wait_for_text(&browser, "[role='status']", "Saved.").await;
    browser.goto(rank.as_str()).await.unwrap();
    wait_for(&browser, "#board .chip").await;
    press(&browser, "n1").await;
    wait_for(&browser, "#rank-2 input[value='1']:checked").await;
    press(&browser, "f=").await;
    wait_for_text(&browser, "#flags-2 > summary", "1 of 11 answered").await;
    press(&browser, "?").await;
    wait_for_text(&browser, "#help[open]", "=").await;
    look(&browser, "rank-keys").await;
    check_accessible(&browser).await;
    browser
        .goto(format!("{}/account/keys", program.url))
        .await
        .unwrap();
    click(&browser, "input[name='are_on']").await;
    click(&browser, "main form button:not([name])").await;
    wait_for_text(&browser, "[role='status']", "Saved.").await;
    browser.goto(rank.as_str()).await.unwrap();
    wait_for(&browser, "#board .chip").await;
    press(&browser, "n3").await;
    click(&browser, "#help-button").await;
    wait_for_text(&browser, "#help[open]", "switched off").await;
    assert!(
        browser
            .find(By::Css("#rank-1 input:checked"))
            .await
            .is_err()
    );
    browser.quit().await.unwrap();
}

/// Kilobytes over the wire, with headers: of the page and everything that it loaded since `after` (in
/// the browser's milliseconds), the next task that is fetched ahead included.
async fn kilobytes(browser: &WebDriver, after: f64) -> f64 {
    let script = format!(
        "const all = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]; \
         return all.filter((one) => one.startTime >= {after}).reduce((sum, one) => sum + one.transferSize, 0) / 1000"
    );
    run(browser, &script).await.as_f64().unwrap()
}

/// The candidates of the demo's prompts, in the order of its file.
fn demo_tasks() -> Vec<(String, Vec<String>)> {
    let file = include_str!("../demo/candidates.jsonl");
    let read = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let texts = line["completions"].as_array().unwrap().iter();
        let texts = texts.map(|one| one["text"].as_str().unwrap().to_owned());
        let prompt = match &line["prompt"] {
            Value::String(prompt) => prompt.clone(),
            turns => turns.to_string(),
        };
        (prompt, texts.collect())
    };
    file.lines().map(read).collect()
}

/// At most 60 kB at first and 15 kB for each task after it, whatever is said of nine candidates.
#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_labeling_page_weighs_little_at_first_and_less_after(db: PgPool) {
    let project = fake::project(&db, 0, 4, 1, 3600).await;
    let program = start(&db, &["--no-worker"]).await;
    let chrome = Chrome::start().await;
    let demo = demo_tasks();
    for (kind, k) in [("rank", 4), ("rank", 9), ("compare", 2)] {
        sqlx::query("UPDATE tasks SET closed_at = now()")
            .execute(&db)
            .await
            .unwrap();
        sqlx::query("UPDATE assignments SET status = 'expired', place = NULL, ended_at = now() WHERE status = 'leased'")
            .execute(&db)
            .await
            .unwrap();
        let mut connection = db.acquire().await.unwrap();
        for n in 0..3 {
            // As many different texts as the task needs, of one prompt after another.
            let (prompt, _) = &demo[n * 7];
            let texts: Vec<String> = demo[n * 7..]
                .iter()
                .flat_map(|(_, texts)| texts.clone())
                .take(k)
                .collect();
            let name = format!("{kind}-{k}-{n}");
            fake::insert_task(&mut connection, project, &name, prompt, &texts).await;
        }
        drop(connection);
        sqlx::query("UPDATE tasks SET kind = $1 WHERE closed_at IS NULL")
            .bind(kind)
            .execute(&db)
            .await
            .unwrap();
        let browser = chrome.open(Kind::Desktop, program.folder.path()).await;
        sign_in(&browser, &db, &program, ADA).await;
        go_to_work(&browser, &program).await;
        let page = browser.current_url().await.unwrap();
        browser.goto("about:blank").await.unwrap();
        browser
            .cdp()
            .send_raw("Network.clearBrowserCache", json!({}))
            .await
            .unwrap();
        browser.goto(page.as_str()).await.unwrap();
        wait_for(&browser, ".has-script #rank-form").await;
        wait_for_next(&db).await;
        wait_for_fetched(&browser, 1).await;
        let first = kilobytes(&browser, 0.0).await;
        let from = run(&browser, "return performance.now()")
            .await
            .as_f64()
            .unwrap();
        press(&browser, if kind == "compare" { "6" } else { "2j1j3j4" }).await;
        for _ in 4..k {
            press(&browser, "j5").await;
        }
        wait_until_saved(&browser).await;
        look(&browser, &format!("{kind}-demo-{k}")).await;
        submit(&browser).await;
        wait_for_text(&browser, "#notices", "Submitted.").await;
        wait_for_fetched(&browser, 2).await;
        let after = kilobytes(&browser, from).await;
        println!("{kind} of {k}: {first:.1} kB at first, {after:.1} kB for the next task");
        assert!(first <= 60.0, "{kind} of {k}: {first} kB at first");
        assert!(after <= 15.0, "{kind} of {k}: {after} kB after");
        browser.quit().await.unwrap();
    }
}

/// Waits until so many pages were fetched ahead.
async fn wait_for_fetched(browser: &WebDriver, n: usize) {
    let script = "return performance.getEntriesByType('resource').filter((one) => one.name.endsWith('ahead=true') && one.responseEnd > 0).length";
    for _ in 0..200 {
        if run(browser, script).await == n {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("the next task's page was not fetched");
}

/// Where a part of the page is, as `[top, bottom]` in the window.
async fn place(browser: &WebDriver, css: &str) -> [f64; 2] {
    let script = format!(
        "const {{top, bottom}} = document.querySelector('{css}').getBoundingClientRect(); return [top, bottom]"
    );
    serde_json::from_value(run(browser, &script).await).unwrap()
}

async fn scroll_to(browser: &WebDriver, y: u32) {
    let script = format!("scrollTo({{top: {y}, behavior: 'instant'}})");
    browser.execute(script, Vec::new()).await.unwrap();
    // Folding goes by the event that follows.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn the_room_is_the_candidates_at_a_desk_and_the_button_stays_in_sight_on_a_phone(db: PgPool) {
    let project = fake::project(&db, 0, 4, 1, 3600).await;
    let mut connection = db.acquire().await.unwrap();
    let prompt = "Explain to a child why the sea is salty. ".repeat(40);
    let texts: Vec<String> = (1..=7)
        .map(|n| format!("Rivers bring it, says {n}. ").repeat(30))
        .collect();
    fake::insert_task(&mut connection, project, "p", &prompt, &texts).await;
    drop(connection);
    let program = start(&db, &["--no-worker"]).await;
    let chrome = Chrome::start().await;
    let browser = open(&chrome, Kind::Desktop, &db, &program).await;
    let metrics = json!({"width": 1280, "height": 757, "deviceScaleFactor": 1, "mobile": false});
    browser
        .cdp()
        .send_raw("Emulation.setDeviceMetricsOverride", metrics)
        .await
        .unwrap();
    look(&browser, "rank-desk").await;
    wait_for(&browser, "#prompt-more[hidden]").await;
    let before = place(&browser, "#candidate-1").await[0];
    scroll_to(&browser, 120).await;
    // It gives way, covers nothing, and nothing jumps.
    let prompt = place(&browser, ".prompt").await;
    assert!(prompt[1] <= place(&browser, "#differences").await[0]);
    let moved = place(&browser, "#candidate-1").await[0];
    assert!((before - moved - 120.0).abs() < 1.5, "{before} to {moved}");
    scroll_to(&browser, 700).await;
    look(&browser, "rank-desk-scrolled").await;
    check_accessible(&browser).await;
    let (prompt, bar) = (
        place(&browser, ".prompt").await,
        place(&browser, ".finish").await,
    );
    let room = bar[0] - prompt[1];
    assert!(room > 580.0, "{room} px for the candidates");
    // The rest is a button away.
    // Where it is: to scroll to its place in the page would unfold it.
    let more = wait_for(&browser, "#prompt-more").await;
    more.click().await.unwrap();
    wait_for(&browser, "#prompt-more[aria-expanded='true']").await;
    let opened = place(&browser, ".prompt").await;
    assert!(opened[1] - opened[0] > 150.0, "{opened:?}");
    look(&browser, "rank-desk-opened").await;
    more.click().await.unwrap();
    wait_for(&browser, "#prompt-more[aria-expanded='false']").await;
    // A key brings a card below the prompt, not under it.
    press(&browser, "jjjj").await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let card = place(&browser, ".candidate.is-current").await;
    let prompt = place(&browser, ".prompt").await;
    assert!(card[0] >= prompt[1], "{card:?} under {prompt:?}");
    browser.quit().await.unwrap();

    let browser = open(&chrome, Kind::Phone, &db, &program).await;
    wait_for_text(&browser, "#lease-left", "min left").await;
    for y in [0, 900] {
        scroll_to(&browser, y).await;
        for css in ["#submit", "#lease-left", "#board"] {
            let [top, bottom] = place(&browser, css).await;
            assert!(top > 400.0 && bottom <= 844.5, "{css} at {top} to {bottom}");
        }
        look(&browser, &format!("rank-phone-{y}")).await;
    }
    check_accessible(&browser).await;
    click(&browser, "button[name='lang'][value='zh']").await;
    wait_for(&browser, "html[lang='zh'] #board .chip").await;
    scroll_to(&browser, 900).await;
    look(&browser, "rank-phone-900-zh").await;
    browser.quit().await.unwrap();
}
