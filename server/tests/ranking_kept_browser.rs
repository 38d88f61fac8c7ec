//! What a labeler has said is kept, in a real Chromium: drafts in two windows, lost connections, ended leases and
//! breaks.

use sqlx::PgPool;
use thirtyfour::prelude::*;

use crate::browser::{ranks, sign_in, start};
use crate::ranking_browser::{
    ADA, go_to_work, n_rankings, open, press, run, submit, wait_for_next, wait_until_saved,
};
use crate::support::browser::{
    Chrome, Kind, check_accessible, click, look, set_network, wait_for, wait_for_text,
};
use crate::support::fake;

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
