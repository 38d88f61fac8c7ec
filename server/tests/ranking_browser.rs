//! Ranking and comparing in a real Chromium: by keys, by tap, by dragging and without JavaScript.

use serde_json::{Value, json};
use sqlx::PgPool;
use thirtyfour::prelude::*;

use crate::browser::{ranks, sign_in, start};
use crate::support::browser::{
    Browser, Chrome, Kind, check_accessible, click, look, wait_for, wait_for_text,
};
use crate::support::fake;
use crate::support::program::Program;

pub(crate) const ADA: &str = "ada@example.org";

/// A signed-in labeler with the first task on the screen.
pub(crate) async fn open(chrome: &Chrome, kind: Kind, db: &PgPool, program: &Program) -> Browser {
    let browser = chrome.open(kind, program.folder.path()).await;
    sign_in(&browser, db, program, ADA).await;
    go_to_work(&browser, program).await;
    browser
}

pub(crate) async fn go_to_work(browser: &WebDriver, program: &Program) {
    browser.goto(format!("{}/work", program.url)).await.unwrap();
    if let Ok(button) = browser
        .find(By::Css("main form[action='/work'] button"))
        .await
    {
        button.click().await.unwrap();
    }
    wait_for(browser, "#rank-form").await;
}

pub(crate) async fn press(browser: &WebDriver, keys: &str) {
    for key in keys.chars() {
        let chain = browser.action_chain().send_keys(key.to_string());
        chain.perform().await.unwrap();
    }
}

pub(crate) async fn submit(browser: &WebDriver) {
    let chain = browser
        .action_chain()
        .key_down(Key::Control)
        .send_keys(Key::Enter);
    chain.key_up(Key::Control).perform().await.unwrap();
}

pub(crate) async fn run(browser: &WebDriver, script: &str) -> Value {
    let found = browser.execute(script, Vec::new()).await.unwrap();
    found.json().clone()
}

/// Waits until everything that was said is on the server.
pub(crate) async fn wait_until_saved(browser: &WebDriver) {
    wait_for(browser, "#draft-status[data-state='saved']").await;
}

/// Waits until the next task was fetched ahead.
pub(crate) async fn wait_for_next(db: &PgPool) {
    for _ in 0..600 {
        let n: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM assignments WHERE status = 'leased' AND opened_at IS NULL",
        )
        .fetch_one(db)
        .await
        .unwrap();
        if n == 1 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("no task was leased ahead");
}

pub(crate) async fn n_rankings(db: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM rankings")
        .fetch_one(db)
        .await
        .unwrap()
}

/// Makes every task a comparison of two.
pub(crate) async fn compare_only(db: &PgPool) {
    sqlx::query("UPDATE tasks SET kind = 'compare'")
        .execute(db)
        .await
        .unwrap();
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn keys_alone_rank_and_the_next_task_is_there_without_another_document(db: PgPool) {
    fake::project(&db, 2, 5, 1, 3600).await;
    let program = start(&db, &["--no-worker"]).await;
    let chrome = Chrome::start().await;
    let browser = open(&chrome, Kind::Desktop, &db, &program).await;
    // B, then C below it, then A tied with C, then D up to the top; E cannot be judged.
    press(&browser, "jwjwkk").await;
    wait_for_text(&browser, "#board [data-rank='1']", "B").await;
    wait_for_text(&browser, "#board [data-rank='2']", "C").await;
    press(&browser, "e").await;
    wait_for(&browser, "#rank-1 input[value='2']:checked").await;
    wait_for_text(&browser, "#announcer", "A is now 2 of 5, tied with C").await;
    press(&browser, "jjjww").await;
    wait_for_text(&browser, "#announcer", "D is now 2 of 5").await;
    press(&browser, "w").await;
    wait_for_text(&browser, "#announcer", "D is now 1 of 5").await;
    // The buttons do the same, and the focus stays where it is.
    let up = browser
        .find(By::Css("#rank-2 [data-move='up']"))
        .await
        .unwrap();
    up.send_keys(Key::Enter).await.unwrap();
    wait_for_text(&browser, "#announcer", "B is now 1 of 5").await;
    let focused = run(&browser, "return document.activeElement.dataset.move").await;
    assert_eq!(focused, "up");
    // On a letter of the board arrow keys move it, and the focus follows.
    let chip = browser.find(By::XPath(
        "//button[@class='chip' or @class='chip is-current'][text()='D']",
    ));
    chip.await.unwrap().send_keys(Key::Left).await.unwrap();
    wait_for_text(&browser, "#announcer", "D is now 1 of 5").await;
    let focused = run(&browser, "return document.activeElement.textContent").await;
    assert_eq!(focused, "D");
    press(&browser, "jc").await;
    wait_for_text(&browser, "#candidate-5 .place", "Cannot judge").await;
    press(&browser, "m").await;
    press(&browser, "j1").await;
    wait_until_saved(&browser).await;
    let note = run(&browser, "return document.querySelector('#note-5').value").await;
    assert_eq!(note, "j1", "in a text, keys write");
    look(&browser, "rank-keys-done").await;
    check_accessible(&browser).await;
    wait_for_next(&db).await;
    // The page's script is the same as before after the next task is shown.
    run(&browser, "window.sameDocument = true").await;
    let first = browser.current_url().await.unwrap();
    submit(&browser).await;
    wait_for_text(&browser, "#notices", "Submitted.").await;
    assert_eq!(
        run(&browser, "return window.sameDocument === true").await,
        true
    );
    let second = browser.current_url().await.unwrap();
    assert_ne!(first, second);
    wait_for_text(&browser, ".prompt", "What is 1 + 1?").await;
    wait_for_text(&browser, "main", "1 submitted today").await;
    let focused = run(&browser, "return document.activeElement.id").await;
    assert_eq!(focused, "title");
    let n_opened: i64 =
        sqlx::query_scalar("SELECT count(*) FROM assignments WHERE opened_at IS NOT NULL AND lease_until > now() + interval '50 minutes'")
            .fetch_one(&db)
            .await
            .unwrap();
    assert_eq!(n_opened, 2);
    let said: Vec<Option<i16>> = sqlx::query_scalar(
        "SELECT r.rank FROM ratings r JOIN rankings k ON k.id = r.ranking_id
         JOIN assignments a ON a.id = k.assignment_id ORDER BY array_position(a.display_order, r.slot)",
    )
    .fetch_all(&db)
    .await
    .unwrap();
    assert_eq!(said, [Some(3), Some(2), Some(3), Some(1), None]);
    // Time was counted, and not to the server's cost.
    let active: i64 = sqlx::query_scalar("SELECT active_ms FROM rankings")
        .fetch_one(&db)
        .await
        .unwrap();
    assert!(active > 500, "{active} ms active");
    // Everything works on the page that was put in place, and Z leads back.
    press(&browser, "2j1j3j4j5").await;
    wait_until_saved(&browser).await;
    press(&browser, "z").await;
    wait_for_text(&browser, "h1", "Correct your submission").await;
    assert_eq!(browser.current_url().await.unwrap(), first);
    wait_for(&browser, "#rank-4 input[value='1']:checked").await;
    look(&browser, "rank-correction").await;
    check_accessible(&browser).await;
    press(&browser, "1").await;
    wait_until_saved(&browser).await;
    // What is in sight is no more what was submitted.
    wait_for_text(&browser, "#edit-draft", "your draft of a correction").await;
    wait_for(&browser, "#edit-submitted[hidden]").await;
    submit(&browser).await;
    wait_for_text(&browser, "#notices", "Version 2 saved.").await;
    assert_eq!(browser.current_url().await.unwrap(), second);
    wait_for(&browser, "#rank-3 input[value='3']:checked").await;
    let versions: Vec<i32> = sqlx::query_scalar("SELECT version FROM rankings ORDER BY version")
        .fetch_all(&db)
        .await
        .unwrap();
    assert_eq!(versions, [1, 2]);
    browser
        .goto(format!("{}/work/history", program.url))
        .await
        .unwrap();
    wait_for(&browser, "td a").await;
    look(&browser, "work-history").await;
    check_accessible(&browser).await;
    browser.quit().await.unwrap();
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn contradictions_show_at_once_an_untouched_order_asks_once_and_differences_are_marked(
    db: PgPool,
) {
    fake::project(&db, 1, 4, 1, 3600).await;
    let program = start(&db, &["--no-worker"]).await;
    let chrome = Chrome::start().await;
    let browser = open(&chrome, Kind::Desktop, &db, &program).await;
    press(&browser, "1j2j3j4").await;
    click(&browser, "input[name='rating-1'][value='3']").await;
    click(&browser, "input[name='rating-2'][value='5']").await;
    wait_for_text(
        &browser,
        "[data-position='1']",
        "Ranked above B, but rated lower.",
    )
    .await;
    wait_for_text(
        &browser,
        "[data-position='2']",
        "Ranked below A, but rated higher.",
    )
    .await;
    look(&browser, "rank-contradiction").await;
    check_accessible(&browser).await;
    click(&browser, "input[name='rating-1'][value='5']").await;
    wait_for(
        &browser,
        "[data-position='1'] .contradiction[data-side='above'][hidden]",
    )
    .await;

    press(&browser, "kd").await;
    wait_for(&browser, "#differences-shown mark").await;
    wait_for_text(&browser, "#differences-shown", "its own").await;
    look(&browser, "rank-differences").await;
    check_accessible(&browser).await;
    let source = browser.source().await.unwrap();
    assert!(!source.contains("secret-model"));

    wait_until_saved(&browser).await;
    submit(&browser).await;
    wait_for(&browser, "#untouched[open]").await;
    look(&browser, "rank-untouched").await;
    check_accessible(&browser).await;
    click(&browser, "#untouched button[value='no']").await;
    assert_eq!(n_rankings(&db).await, 0);
    submit(&browser).await;
    click(&browser, "#untouched[open] button[value='yes']").await;
    wait_for_text(&browser, "h1", "Nothing is waiting").await;
    let untouched: bool = sqlx::query_scalar("SELECT is_untouched FROM rankings")
        .fetch_one(&db)
        .await
        .unwrap();
    assert!(untouched);
    browser.quit().await.unwrap();
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_missing_rank_is_said_on_the_page_and_all_bad_needs_none(db: PgPool) {
    fake::project(&db, 1, 4, 1, 3600).await;
    let program = start(&db, &["--no-worker"]).await;
    let chrome = Chrome::start().await;
    let browser = open(&chrome, Kind::Desktop, &db, &program).await;
    press(&browser, "2j1").await;
    submit(&browser).await;
    wait_for_text(&browser, "#errors", "Candidate D, rank: needs a rank").await;
    wait_for(
        &browser,
        "#rank-3[aria-invalid='true'][aria-describedby='wrong-rank-3']",
    )
    .await;
    look(&browser, "rank-missing").await;
    check_accessible(&browser).await;
    // What is mended is complained of no more, line by line.
    press(&browser, "j3").await;
    wait_for(&browser, "#errors:not(:has(#wrong-rank-3)) #wrong-rank-4").await;
    press(&browser, "x").await;
    wait_for(&browser, "input[name='all_bad']:checked").await;
    wait_for(&browser, "body:not(:has(#errors))").await;
    wait_until_saved(&browser).await;
    submit(&browser).await;
    wait_for_text(&browser, "h1", "Nothing is waiting").await;
    let all_bad: bool = sqlx::query_scalar("SELECT is_all_bad FROM rankings")
        .fetch_one(&db)
        .await
        .unwrap();
    assert!(all_bad);
    browser.quit().await.unwrap();
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn fingers_rank_by_tap_and_by_drag_at_390_pixels(db: PgPool) {
    fake::project(&db, 2, 9, 1, 3600).await;
    let program = start(&db, &["--no-worker"]).await;
    let chrome = Chrome::start().await;
    let browser = open(&chrome, Kind::Phone, &db, &program).await;
    look(&browser, "rank-phone").await;
    check_accessible(&browser).await;
    // A tap on a letter chooses it, and a tap on a column places it.
    let tap = async |letter: char, rank: usize| {
        let chip = browser
            .find(By::XPath(format!(
                "//*[@id='board']//button[text()='{letter}']"
            )))
            .await
            .unwrap();
        chip.click().await.unwrap();
        let column = format!("#board [data-rank='{rank}'] > button");
        browser
            .find(By::Css(column))
            .await
            .unwrap()
            .click()
            .await
            .unwrap();
        wait_for_text(
            &browser,
            &format!("#board [data-rank='{rank}'] .chips"),
            &letter.to_string(),
        )
        .await;
    };
    for (letter, rank) in [
        ('A', 3),
        ('B', 1),
        ('C', 3),
        ('D', 4),
        ('E', 5),
        ('F', 6),
        ('G', 7),
        ('H', 8),
        ('I', 9),
    ] {
        tap(letter, rank).await;
    }
    look(&browser, "rank-phone-ranked").await;
    // Dragged to the left edge of the first column, D stands before B.
    let drag = "const chip = [...document.querySelectorAll('.chip')].find((one) => one.textContent === 'D');
        const from = chip.getBoundingClientRect();
        const to = document.querySelector('#board [data-rank=\"1\"]').getBoundingClientRect();
        return [from.left + from.width / 2, from.top + from.height / 2, to.left + 2, to.top + 40].map(Math.round)";
    let places: Vec<i64> = serde_json::from_value(run(&browser, drag).await).unwrap();
    let tools = browser.cdp();
    let touch = async |kind: &str, points: Value| {
        let params = json!({"type": kind, "touchPoints": points});
        tools
            .send_raw("Input.dispatchTouchEvent", params)
            .await
            .unwrap();
    };
    touch("touchStart", json!([{"x": places[0], "y": places[1]}])).await;
    touch("touchMove", json!([{"x": places[0] - 20, "y": places[1]}])).await;
    touch("touchMove", json!([{"x": places[2], "y": places[3]}])).await;
    wait_for(&browser, "#board [data-rank='1'][data-drop='before']").await;
    look(&browser, "rank-phone-drag").await;
    touch("touchEnd", json!([])).await;
    wait_for_text(&browser, "#board [data-rank='1'] .chips", "D").await;
    wait_for_text(&browser, "#board [data-rank='2'] .chips", "B").await;
    wait_until_saved(&browser).await;
    click(&browser, "#submit").await;
    wait_for_text(&browser, "main", "1 submitted today").await;
    assert_eq!(ranks(&db, ADA).await, [3, 2, 3, 1, 4, 5, 6, 7, 8]);
    browser.quit().await.unwrap();
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn two_are_compared_by_keys_and_both_may_be_bad(db: PgPool) {
    fake::project(&db, 3, 2, 1, 3600).await;
    compare_only(&db).await;
    let program = start(&db, &["--no-worker"]).await;
    let chrome = Chrome::start().await;
    let browser = open(&chrome, Kind::Desktop, &db, &program).await;
    wait_for_text(&browser, "h1", "Compare two candidates").await;
    press(&browser, "8").await;
    wait_for(&browser, "input[name='preference'][value='2-3']:checked").await;
    wait_for_text(&browser, ".preference .chosen", "B clearly better").await;
    click(&browser, "input[name='rating-1'][value='6']").await;
    click(&browser, "input[name='rating-2'][value='2']").await;
    wait_for_text(
        &browser,
        "[data-position='2']",
        "Ranked above A, but rated lower.",
    )
    .await;
    look(&browser, "compare").await;
    check_accessible(&browser).await;
    wait_until_saved(&browser).await;
    submit(&browser).await;
    wait_for_text(&browser, "main", "1 submitted today").await;
    submit(&browser).await;
    wait_for_text(&browser, "#errors", "Say which one is better").await;
    press(&browser, "5").await;
    wait_until_saved(&browser).await;
    submit(&browser).await;
    wait_for_text(&browser, "main", "2 submitted today").await;
    press(&browser, "x").await;
    wait_until_saved(&browser).await;
    submit(&browser).await;
    wait_for_text(&browser, "h1", "Nothing is waiting").await;
    let said: Vec<(Option<i16>, bool)> =
        sqlx::query_as("SELECT strength, is_all_bad FROM rankings ORDER BY created_at")
            .fetch_all(&db)
            .await
            .unwrap();
    assert_eq!(said, [(Some(3), false), (None, false), (None, true)]);
    browser.quit().await.unwrap();
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn without_javascript_everything_can_be_said_and_asked(db: PgPool) {
    fake::project(&db, 1, 4, 1, 3600).await;
    let program = start(&db, &["--no-worker"]).await;
    let chrome = Chrome::start().await;
    let browser = open(&chrome, Kind::WithoutScript, &db, &program).await;
    for (position, rank) in [(1, "1"), (2, "2"), (3, "3"), (4, "cannot")] {
        click(
            &browser,
            &format!("input[name='rank-{position}'][value='{rank}']"),
        )
        .await;
    }
    click(&browser, "input[name='rating-1'][value='2']").await;
    click(&browser, "input[name='rating-3'][value='5']").await;
    click(&browser, "button[value='save']").await;
    wait_for_text(
        &browser,
        "[data-position='1']",
        "Ranked above C, but rated lower.",
    )
    .await;
    click(&browser, "#differences > summary").await;
    click(&browser, "#differences-form button").await;
    wait_for(&browser, "main .compared mark").await;
    look(&browser, "differences-without-script").await;
    click(&browser, "main a[href^='/rank/']").await;
    click(&browser, "input[name='rank-4'][value='4']").await;
    click(&browser, "#submit").await;
    wait_for_text(&browser, "#errors", "exactly the order").await;
    look(&browser, "untouched-without-script").await;
    assert_eq!(n_rankings(&db).await, 0);
    click(&browser, "button[name='confirmed']").await;
    wait_for_text(&browser, "h1", "Nothing is waiting").await;
    assert_eq!(ranks(&db, ADA).await, [1, 2, 3, 4]);
    // The way back is a link.
    browser
        .goto(format!("{}/work/history", program.url))
        .await
        .unwrap();
    click(&browser, "td a").await;
    click(&browser, "input[name='rank-4'][value='1']").await;
    click(&browser, "#submit").await;
    wait_for_text(&browser, "h1", "Nothing is waiting").await;
    assert_eq!(n_rankings(&db).await, 2);
    browser.quit().await.unwrap();
}
