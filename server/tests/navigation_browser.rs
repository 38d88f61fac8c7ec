//! The navigation of somebody who may do everything, in a real Chromium: one line in a window of 1280 pixels, on a
//! phone, by keyboard, without script, in both languages.

use server::domain::role::Role;
use server::store;
use sqlx::PgPool;
use thirtyfour::prelude::*;

use crate::support::browser::{
    Chrome, Kind, check_accessible, check_accessible_part, click, keep_picture, look, wait_for,
    wait_for_address,
};
use crate::support::fake;
use crate::support::program::Program;

/// Signs in with every role.
async fn sign_in(browser: &WebDriver, db: &PgPool, program: &Program) {
    let mut connection = db.acquire().await.unwrap();
    let email = "all@example.org";
    let known = store::accounts::find_by_email(&mut connection, email)
        .await
        .unwrap();
    let id = match known {
        Some(account) => account.id,
        None => store::accounts::insert(&mut connection, email, "All", &Role::ALL, false)
            .await
            .unwrap(),
    };
    let link = store::sign_in_links::create(&mut connection, id, None, 1)
        .await
        .unwrap();
    let address = format!("{}/sign-in/{}", program.url, link.reveal());
    browser.goto(address).await.unwrap();
    click(browser, "main form button").await;
    wait_for(browser, "form[action='/sign-out']").await;
}

fn summary_of(href: &str) -> String {
    format!(".site-nav details:has(a[href='{href}']) > summary")
}

async fn n_open(browser: &WebDriver) -> usize {
    let open = browser.find_all(By::Css(".nav-group[open]"));
    open.await.unwrap().len()
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn many_links_fit_in_groups_that_open_by_mouse_touch_and_keyboard(db: PgPool) {
    fake::project(&db, 3, 4, 1, 3600).await;
    let program = Program::start(&db, &["--no-worker"]).await;
    let chrome = Chrome::start().await;
    let desk = chrome.open(Kind::Desktop, program.folder.path()).await;
    sign_in(&desk, &db, &program).await;
    for lang in ["en", "zh"] {
        desk.goto(format!("{}/tasks", program.url)).await.unwrap();
        if lang == "zh" {
            click(&desk, "button[value='zh']").await;
            wait_for(&desk, "html[lang='zh']").await;
        }
        // Brand, groups and the way out stand in one line.
        let script = "return document.querySelector('.site-head').getBoundingClientRect().height";
        let height = desk.execute(script, Vec::new()).await.unwrap();
        let height: f64 = height.convert().unwrap();
        assert!(height < 80.0, "{lang}: the head is {height} high");
        wait_for(&desk, &format!("{}[aria-current]", summary_of("/tasks"))).await;
        check_accessible(&desk).await;
        click(&desk, &summary_of("/audit")).await;
        look(&desk, &format!("navigation-open-{lang}")).await;
        check_accessible_part(&desk, ".site-head").await;
        // Another one takes its place.
        click(&desk, &summary_of("/runs")).await;
        assert_eq!(n_open(&desk).await, 1);
        click(&desk, ".site-nav a[href='/runs']").await;
        wait_for_address(&desk, "/runs").await;
    }
    // By keyboard: Enter opens, Tab goes on to the first link, Escape closes and leaves the focus there.
    let summary = wait_for(&desk, &summary_of("/projects")).await;
    summary.focus().await.unwrap();
    summary.send_keys(Key::Enter).await.unwrap();
    assert_eq!(n_open(&desk).await, 1);
    summary.send_keys(Key::Tab).await.unwrap();
    let focused = desk.active_element().await.unwrap();
    let href = focused.attr("href").await.unwrap();
    assert_eq!(href.as_deref(), Some("/projects"));
    focused.send_keys(Key::Escape).await.unwrap();
    assert_eq!(n_open(&desk).await, 0);
    let focused = desk.active_element().await.unwrap();
    assert_eq!(focused.tag_name().await.unwrap(), "summary");
    // A click elsewhere closes, too.
    click(&desk, &summary_of("/projects")).await;
    click(&desk, "h1").await;
    assert_eq!(n_open(&desk).await, 0);
    desk.quit().await.unwrap();

    for kind in [Kind::Phone, Kind::WithoutScript] {
        let browser = chrome.open(kind, program.folder.path()).await;
        sign_in(&browser, &db, &program).await;
        for href in ["/audit", "/questions", "/snapshots"] {
            click(&browser, &summary_of(href)).await;
            if kind == Kind::Phone {
                look(&browser, "navigation-phone").await;
                keep_picture(
                    &browser,
                    &format!("navigation-phone{}", href.replace('/', "-")),
                )
                .await;
                check_accessible(&browser).await;
            }
            click(&browser, &format!(".site-nav a[href='{href}']")).await;
            wait_for_address(&browser, href).await;
        }
        browser.quit().await.unwrap();
    }
}
