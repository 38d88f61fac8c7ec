//! A candidate's whole way in a real Chromium: the link, the tests, the text that people grade without knowing
//! whose it is, and the role; and the way of one who does not reach it.

use server::domain::role::Role;
use server::store;
use sqlx::PgPool;
use thirtyfour::prelude::*;

use crate::gold::tasks;
use crate::screening::make_screening_task;
use crate::screening_browser::{make_accounts, rank_backwards, tour};
use crate::support::browser::{
    Chrome, Kind, check_accessible, click, look, wait_for, wait_for_address, wait_for_text,
};
use crate::support::program::Program;
use crate::support::{TestApp, fake};

/// Invites somebody on the page of screenings, and returns the link that it shows once.
async fn invite(admin: &WebDriver, program: &Program, name: &str) -> String {
    let address = format!("{}/screening", program.url);
    admin.goto(&address).await.unwrap();
    let email = wait_for(admin, "#email").await;
    email
        .send_keys(format!("{name}@example.org"))
        .await
        .unwrap();
    let field = wait_for(admin, "#name").await;
    field.send_keys(name).await.unwrap();
    click(admin, "form[action='/screening/candidates'] button").await;
    let link = wait_for(admin, "#invite-link").await.text().await.unwrap();
    assert!(
        link.starts_with(&format!("{}/sign-in/", program.url)),
        "{link}"
    );
    link
}

/// Follows the link and does what is asked: one ranking, backwards or as the answer has it, and one text.
async fn take_the_test(candidate: &WebDriver, link: &str, knows: bool, text: &str) {
    candidate.goto(link).await.unwrap();
    check_accessible(candidate).await;
    click(candidate, "main form button").await;
    // Nothing to do but the screening: home says so.
    wait_for(candidate, "main a[href='/screening']").await;
    click(candidate, "main a[href='/screening']").await;
    wait_for_address(candidate, "/screening/").await;
    click(candidate, "input[name='topics'][value='religion']").await;
    click(candidate, "input[name='read']").await;
    click(candidate, "main form[action$='/start'] button").await;
    match knows {
        true => rank_as_known(candidate, 4).await,
        false => rank_backwards(candidate, 4).await,
    }
    wait_for_address(candidate, "/demonstrate/").await;
    let area = wait_for(candidate, "textarea[name='response']").await;
    area.send_keys(text).await.unwrap();
    click(candidate, "#submit").await;
    wait_for_address(candidate, "/screening/").await;
}

/// Ranks by what the texts say: the first candidate is known to be the best of all, and to hallucinate.
async fn rank_as_known(browser: &WebDriver, n: usize) {
    wait_for(browser, "#rank-form").await;
    for position in 1..=n {
        let card = format!("section:has(> #candidate-{position})");
        let text = wait_for(browser, &card).await.text().await.unwrap();
        let is_best = text.contains("says 0.");
        let rank = if is_best { 1 } else { 2 };
        let rank = format!("input[name='rank-{position}'][value='{rank}']");
        click(browser, &rank).await;
        if is_best {
            click(browser, &format!("#flags-{position} > summary")).await;
            let yes = format!("input[name='flag-{position}-hallucination'][value='yes']");
            click(browser, &yes).await;
        }
    }
    click(browser, "#submit").await;
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn from_the_link_over_a_graded_text_to_the_role_and_for_another_to_a_kind_no(db: PgPool) {
    let project = fake::project(&db, 2, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let maker = app.client("maker", &[Role::Admin]).await;
    let all = tasks(&db).await;
    let known = "rank-1=1&rank-2=2&rank-3=2&rank-4=2&flag-1-hallucination=yes";
    make_screening_task(&maker, all[1], known).await;
    fake::prompt(&db, project, "letter", "Comfort a friend whose cat died.").await;
    let asked = "project=study&prompt=letter";
    let added = maker.post("/screening/demonstrations", asked).await;
    assert_eq!(added.status, axum::http::StatusCode::SEE_OTHER);
    make_accounts(&db).await;
    let program = Program::start(&db, &["--no-worker"]).await;
    let chrome = Chrome::start().await;
    let admin = chrome.open(Kind::Desktop, program.folder.path()).await;
    crate::browser::sign_in(&admin, &db, &program, "alice@example.org").await;
    let zoe = invite(&admin, &program, "zoe").await;
    look(&admin, "screening-invite-link").await;
    check_accessible(&admin).await;
    let yan = invite(&admin, &program, "yan").await;

    let good = "She had a good long life with you, and that was your doing.";
    let phone = chrome.open(Kind::Phone, program.folder.path()).await;
    take_the_test(&phone, &zoe, true, good).await;
    wait_for_text(&phone, "main", "People are reading").await;
    let waiting = [("/screening", "screening-waiting")];
    tour(&phone, &program, &waiting, "narrow").await;
    let desk = chrome.open(Kind::Desktop, program.folder.path()).await;
    take_the_test(&desk, &yan, false, "It was only a cat.").await;
    wait_for_text(&desk, "main", "People are reading").await;

    // The admin reads texts, not names, and grades each by what it says.
    tour(
        &admin,
        &program,
        &[("/screening/grading", "grading")],
        "wide",
    )
    .await;
    click(&admin, "button[name='lang'][value='en']").await;
    wait_for(&admin, "html[lang='en']").await;
    for _ in 0..2 {
        let address = format!("{}/screening/grading", program.url);
        admin.goto(&address).await.unwrap();
        let page = admin.source().await.unwrap();
        for hidden in ["zoe", "yan"] {
            assert!(!page.contains(hidden), "{hidden} in {page}");
        }
        let grade = if page.contains("good long life") {
            7
        } else {
            2
        };
        click(&admin, &format!("input[name='grade'][value='{grade}']")).await;
        let note = wait_for(&admin, "#note").await;
        note.send_keys(format!("worth a {grade}")).await.unwrap();
        click(&admin, "form[action='/screening/grading'] button").await;
        wait_for(&admin, "h1").await;
    }
    wait_for_text(&admin, "main", "No text waits").await;
    let narrow = chrome.open(Kind::Phone, program.folder.path()).await;
    crate::browser::sign_in(&narrow, &db, &program, "alice@example.org").await;
    let pages = [("/screening/grading", "grading-none")];
    tour(&narrow, &program, &pages, "narrow").await;
    narrow.quit().await.unwrap();

    // The one is a labeler at once, and begins; of the other the numbers say why not.
    phone
        .goto(format!("{}/screening", program.url))
        .await
        .unwrap();
    click(&phone, "button[name='lang'][value='en']").await;
    wait_for_text(&phone, "main", "You have passed").await;
    look(&phone, "screening-passed-graded").await;
    click(&phone, "main a[href='/work']").await;
    click(&phone, "main form[action='/work'] button").await;
    wait_for(&phone, "#rank-form").await;
    desk.goto(format!("{}/screening", program.url))
        .await
        .unwrap();
    wait_for_text(&desk, "main", "Thank you for the time").await;
    look(&desk, "screening-failed-graded").await;
    check_accessible(&desk).await;
    assert!(desk.find(By::Css("nav a[href='/work']")).await.is_err());

    // Of each the admin sees numbers, answers, grades and notes.
    let mut connection = db.acquire().await.unwrap();
    let own = store::screenings::list(&mut connection, Default::default()).await;
    for screening in own.unwrap() {
        let status = match screening.name.as_str() {
            "zoe" => "passed",
            _ => "failed",
        };
        assert_eq!(screening.status, status, "{}", screening.name);
        let path = format!("/screening/{}", screening.id);
        let name = format!("candidate-{}", screening.name);
        tour(&admin, &program, &[(path.as_str(), name.as_str())], "wide").await;
        wait_for_text(&admin, "main", "worth a").await;
    }
    admin
        .goto(format!("{}/screening", program.url))
        .await
        .unwrap();
    click(&admin, "button[name='lang'][value='en']").await;
    wait_for(&admin, "html[lang='en']").await;
    chrome.stretch(&admin, 1280).await;
    look(&admin, "screening-whole").await;
    for browser in [phone, desk, admin] {
        browser.quit().await.unwrap();
    }
}
