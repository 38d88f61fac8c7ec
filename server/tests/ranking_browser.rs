//! The labeler's day in a real Chromium: ranking and comparing by keys, by tap, by dragging and without
//! JavaScript; drafts, lost connections, ended leases, the next task and the way back.

use serde_json::{Value, json};
use sqlx::PgPool;
use thirtyfour::prelude::*;

use crate::browser::{ranks, sign_in, start};
use crate::support::browser::{
    Browser, Chrome, Kind, check_accessible, click, look, set_network, wait_for, wait_for_text,
};
use crate::support::fake;
use crate::support::program::Program;

const ADA: &str = "ada@example.org";

/// A signed-in labeler with the first task on the screen.
async fn open(chrome: &Chrome, kind: Kind, db: &PgPool, program: &Program) -> Browser {
    let browser = chrome.open(kind, program.folder.path()).await;
    sign_in(&browser, db, program, ADA).await;
    go_to_work(&browser, program).await;
    browser
}

async fn go_to_work(browser: &WebDriver, program: &Program) {
    browser.goto(format!("{}/work", program.url)).await.unwrap();
    if let Ok(button) = browser
        .find(By::Css("main form[action='/work'] button"))
        .await
    {
        button.click().await.unwrap();
    }
    wait_for(browser, "#rank-form").await;
}

async fn press(browser: &WebDriver, keys: &str) {
    for key in keys.chars() {
        let chain = browser.action_chain().send_keys(key.to_string());
        chain.perform().await.unwrap();
    }
}

async fn submit(browser: &WebDriver) {
    let chain = browser
        .action_chain()
        .key_down(Key::Control)
        .send_keys(Key::Enter);
    chain.key_up(Key::Control).perform().await.unwrap();
}

async fn run(browser: &WebDriver, script: &str) -> Value {
    let found = browser.execute(script, Vec::new()).await.unwrap();
    found.json().clone()
}

/// Waits until everything that was said is on the server.
async fn wait_until_saved(browser: &WebDriver) {
    wait_for(browser, "#draft-status[data-state='saved']").await;
}

/// Waits until the next task was fetched ahead.
async fn wait_for_next(db: &PgPool) {
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

async fn n_rankings(db: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM rankings")
        .fetch_one(db)
        .await
        .unwrap()
}

/// Makes every task a comparison of two.
async fn compare_only(db: &PgPool) {
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
    press(&browser, "x").await;
    wait_for(&browser, "input[name='all_bad']:checked").await;
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

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_draft_goes_on_in_another_browser_and_two_windows_never_fight(db: PgPool) {
    fake::project(&db, 1, 4, 1, 3600).await;
    let program = start(&db, &["--no-worker"]).await;
    let chrome = Chrome::start().await;
    let first = open(&chrome, Kind::Desktop, &db, &program).await;
    press(&first, "3j1").await;
    click(&first, "textarea[name='note']").await;
    press(&first, "hm").await;
    wait_until_saved(&first).await;
    let second = open(&chrome, Kind::Phone, &db, &program).await;
    wait_for(&second, "#rank-1 input[value='3']:checked").await;
    wait_for_text(&second, "#board [data-rank='1'] .chips", "B").await;
    click(&second, "#rank-3 .choice:nth-child(2)").await;
    wait_until_saved(&second).await;
    // The first window is told, and both choices stand there.
    click(&first, "#rank-4 input[value='4']").await;
    wait_for_text(&first, "#draft-status", "newer draft").await;
    wait_for(&first, "#draft-choice:not([hidden]) a[href^='/rank/']").await;
    click(&first, "#keep-mine").await;
    wait_until_saved(&first).await;
    click(&first, "#rank-3 input[value='2']").await;
    wait_until_saved(&first).await;
    click(&first, "#submit").await;
    wait_for_text(&first, "h1", "Nothing is waiting").await;
    // The second one's submission is not lost: it may become a new version.
    click(&second, "#rank-4 .choice:nth-child(1)").await;
    click(&second, "#submit").await;
    wait_for_text(
        &second,
        "#errors",
        "Another window submitted this task first",
    )
    .await;
    look(&second, "rank-submitted-elsewhere").await;
    check_accessible(&second).await;
    wait_for(&second, "#rank-4 input[value='1']:checked").await;
    click(&second, "#submit").await;
    wait_for_text(&second, "h1", "Nothing is waiting").await;
    assert_eq!(ranks(&db, ADA).await, [3, 1, 2, 4, 3, 1, 2, 1]);
    first.quit().await.unwrap();
    second.quit().await.unwrap();
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_submission_survives_a_lost_connection_a_stopped_server_and_the_end_of_a_session(
    db: PgPool,
) {
    fake::project(&db, 3, 4, 1, 3600).await;
    let mut program = start(&db, &["--no-worker"]).await;
    let chrome = Chrome::start().await;
    let browser = open(&chrome, Kind::Desktop, &db, &program).await;
    press(&browser, "2j1j3j4").await;
    wait_until_saved(&browser).await;
    wait_for_next(&db).await;
    set_network(&browser, true).await;
    submit(&browser).await;
    wait_for_text(&browser, "#draft-status", "kept in this browser").await;
    look(&browser, "rank-offline").await;
    assert_eq!(n_rankings(&db).await, 0);
    set_network(&browser, false).await;
    wait_for_text(&browser, "main", "1 submitted today").await;
    assert_eq!(n_rankings(&db).await, 1);

    // The server goes away, the page too; what was said stays in the browser.
    press(&browser, "2j1j3j4").await;
    wait_until_saved(&browser).await;
    program.kill();
    submit(&browser).await;
    wait_for_text(&browser, "#draft-status", "kept in this browser").await;
    browser.goto("about:blank").await.unwrap();
    program.restart(&db, &["--no-worker"]).await;
    assert_eq!(n_rankings(&db).await, 1);
    browser
        .goto(format!("{}/account", program.url))
        .await
        .unwrap();
    wait_for_text(&browser, "main", "has been submitted").await;
    look(&browser, "outbox-sent").await;
    check_accessible(&browser).await;
    assert_eq!(n_rankings(&db).await, 2);

    // Signed out, it says so and keeps.
    go_to_work(&browser, &program).await;
    press(&browser, "2j1j3j4").await;
    wait_until_saved(&browser).await;
    sqlx::query("DELETE FROM sessions")
        .execute(&db)
        .await
        .unwrap();
    submit(&browser).await;
    wait_for_text(&browser, "#draft-status", "You are signed out").await;
    browser
        .goto(format!("{}/sign-in", program.url))
        .await
        .unwrap();
    wait_for_text(&browser, "main", "will be sent when you sign in").await;
    assert_eq!(n_rankings(&db).await, 2);
    sign_in(&browser, &db, &program, ADA).await;
    wait_for_text(&browser, "main", "has been submitted").await;
    assert_eq!(n_rankings(&db).await, 3);
    assert_eq!(run(&browser, "return localStorage.length").await, 0);
    browser.quit().await.unwrap();
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_lease_that_ends_is_said_renewed_by_a_change_and_late_work_is_kept(db: PgPool) {
    fake::project(&db, 1, 4, 1, 4).await;
    let program = start(&db, &["--no-worker"]).await;
    let chrome = Chrome::start().await;
    let browser = open(&chrome, Kind::Desktop, &db, &program).await;
    wait_for_text(&browser, "#lease-left", "less than 2 min left").await;
    wait_for_text(&browser, "#notices", "The lease has ended").await;
    look(&browser, "rank-lease-ended").await;
    check_accessible(&browser).await;
    // Nobody took it: a change renews it.
    press(&browser, "2j1j3j4").await;
    wait_until_saved(&browser).await;
    wait_for_text(&browser, "#lease-left", "less than 2 min left").await;
    assert!(
        browser
            .find(By::Css("[data-notice='lease']"))
            .await
            .is_err()
    );
    wait_for_text(&browser, "#notices", "The lease has ended").await;
    // Now somebody else takes it.
    let bob = chrome.open(Kind::Desktop, program.folder.path()).await;
    sign_in(&bob, &db, &program, "bob@example.org").await;
    go_to_work(&bob, &program).await;
    submit(&browser).await;
    wait_for_text(&browser, "h1", "Nothing is waiting").await;
    let late: (String, bool) = sqlx::query_as(
        "SELECT a.status, a.is_late FROM assignments a JOIN accounts u ON u.id = a.labeler_id WHERE u.email = $1",
    )
    .bind(ADA)
    .fetch_one(&db)
    .await
    .unwrap();
    assert_eq!(late, ("submitted".to_owned(), true));
    browser.quit().await.unwrap();
    bob.quit().await.unwrap();
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_break_stops_the_clock_keeps_the_draft_and_shows_the_lease(db: PgPool) {
    fake::project(&db, 1, 4, 1, 3600).await;
    let program = start(&db, &["--no-worker"]).await;
    let chrome = Chrome::start().await;
    let browser = open(&chrome, Kind::Desktop, &db, &program).await;
    press(&browser, "2b").await;
    wait_for(&browser, "#break[open]").await;
    wait_for_text(&browser, "#break-lease", "59 min left").await;
    wait_until_saved(&browser).await;
    look(&browser, "rank-break").await;
    check_accessible(&browser).await;
    let spent = "const time = document.querySelector('#rank-form').elements; \
                 return Number(time.active_ms.value) + Number(time.idle_ms.value)";
    let before = run(&browser, spent).await.as_i64().unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let after = run(&browser, spent).await.as_i64().unwrap();
    assert_eq!(before, after);
    click(&browser, "#break button").await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert!(run(&browser, spent).await.as_i64().unwrap() > after);
    browser.quit().await.unwrap();
}

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
