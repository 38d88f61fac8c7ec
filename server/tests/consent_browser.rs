//! What labelers agree to, and what snapshots leave out, in a real Chromium: wide in English, on a phone in
//! Chinese, with axe-core.

use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use server::domain::ids::{AccountId, ProjectId};
use server::domain::role::MemberRole;
use server::store;
use sqlx::PgPool;
use thirtyfour::prelude::*;

use crate::support::browser::{
    Chrome, Kind, check_accessible, check_reach, click, look, wait_for, wait_for_address,
    wait_for_text,
};
use crate::support::crowd::{self, Ways};
use crate::support::fake;
use crate::support::program::Program;

async fn sign_in(browser: &WebDriver, db: &PgPool, program: &Program, id: AccountId) {
    let mut connection = db.acquire().await.unwrap();
    let link = store::sign_in_links::create(&mut connection, id, None, 1)
        .await
        .unwrap();
    let address = format!("{}/sign-in/{}", program.url, link.reveal());
    browser.goto(address).await.unwrap();
    click(browser, "main form button").await;
    wait_for(browser, "form[action='/sign-out']").await;
}

async fn admin_of(db: &PgPool, project: ProjectId) -> AccountId {
    let mut connection = db.acquire().await.unwrap();
    let id = store::accounts::insert(&mut connection, "paula@example.org", "Paula", &[], false)
        .await
        .unwrap();
    store::members::assign(&mut connection, project, id, &[], None)
        .await
        .unwrap();
    store::members::set_role(&mut connection, project, id, MemberRole::Admin)
        .await
        .unwrap();
    id
}

/// A project with twelve tasks that two labelers ranked, and one that is only open.
async fn study(db: &PgPool) -> (ProjectId, AccountId) {
    let mut rng = ChaCha12Rng::seed_from_u64(5);
    let project = crowd::project(db, 12, &["a", "b", "c", "d"], 2, &mut rng).await;
    let ada = crowd::labeler(db, "Ada Lovelace").await;
    let blaise = crowd::labeler(db, "Blaise Pascal").await;
    let rough = Ways {
        error: 2.0,
        ..Ways::default()
    };
    while crowd::work(db, project, ada, &Ways::default(), &mut rng).await {}
    while crowd::work(db, project, blaise, &rough, &mut rng).await {}
    let other = fake::project(db, 2, 4, 1, 3600).await;
    sqlx::query(
        "INSERT INTO consents (project_id, version, markdown)
         SELECT id, 1, jsonb_build_object('en', 'We keep your **labels** and the time they took, under a random id.',
                                          'zh', '我们以随机编号保存您的**标注**及其用时。') FROM projects",
    )
    .execute(db)
    .await
    .unwrap();
    // Already agreed to in the first project.
    sqlx::query(
        "INSERT INTO acknowledgements (account_id, project_id, subject, version)
         SELECT $1, $2, 'consent', 1",
    )
    .bind(ada.0)
    .bind(project.0)
    .execute(db)
    .await
    .unwrap();
    fake::acknowledge(db).await;
    let _ = other;
    (project, ada)
}

async fn see(chrome: &Chrome, browser: &WebDriver, width: u32, name: &str) {
    check_accessible(browser).await;
    check_reach(browser, name).await;
    chrome.stretch(browser, width).await;
    look(browser, name).await;
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn consent_is_declined_and_withdrawn_and_snapshots_leave_out_what_is_chosen(db: PgPool) {
    let (project, ada) = study(&db).await;
    let paula = admin_of(&db, project).await;
    let program = Program::start(&db, &["--no-worker"]).await;
    let chrome = Chrome::start().await;
    let browser = chrome.open(Kind::Desktop, program.folder.path()).await;
    let at = |path: &str| format!("{}{path}", program.url);

    sign_in(&browser, &db, &program, ada).await;
    browser.goto(at("/guidelines")).await.unwrap();
    wait_for_text(&browser, "main", "I do not agree").await;
    see(&chrome, &browser, 1280, "guidelines-consent").await;
    click(&browser, "form[action='/guidelines/refusals'] button.quiet").await;
    wait_for_text(&browser, "main", "You do not agree to this").await;
    click(&browser, "details summary").await;
    see(&chrome, &browser, 1280, "guidelines-declined").await;
    click(
        &browser,
        "form[action='/guidelines/refusals'] button.danger",
    )
    .await;
    wait_for_address(&browser, "#consent-").await;
    let open: i64 = sqlx::query_scalar("SELECT count(*) FROM label_withdrawals")
        .fetch_one(&db)
        .await
        .unwrap();
    assert_eq!(open, 1);

    browser.delete_all_cookies().await.unwrap();
    sign_in(&browser, &db, &program, paula).await;
    browser.goto(at("/projects")).await.unwrap();
    click(&browser, "main table a, main article a").await;
    wait_for(&browser, "main nav a[href$='/withdrawals']").await;
    see(&chrome, &browser, 1280, "project-as-its-admin").await;
    click(&browser, "main nav a[href$='/withdrawals']").await;
    wait_for_text(&browser, "main", "by withdrawing their consent").await;
    click(&browser, "main form button.danger").await;
    wait_for(&browser, "form[action$='/end']").await;
    see(&chrome, &browser, 1280, "withdrawals").await;
    click(&browser, "form[action$='/end'] button").await;
    // He can be chosen again.
    wait_for(&browser, "#account_id").await;

    browser.goto(at("/snapshots")).await.unwrap();
    let name = wait_for(&browser, "#name").await;
    name.send_keys("agreed on").await.unwrap();
    let details = "details:has(#least_agreement) summary";
    click(&browser, details).await;
    let least = wait_for(&browser, "#least_agreement").await;
    least.send_keys("70").await.unwrap();
    click(&browser, "input[name=without_single]").await;
    see(&chrome, &browser, 1280, "snapshot-filters").await;
    // Ada's labels are withdrawn, so that each task has one label: nothing is left.
    click(&browser, "form[action='/snapshots'] div > button").await;
    wait_for_text(
        &browser,
        ".alert-error",
        "everything that matches is left out",
    )
    .await;
    click(&browser, "input[name=without_single]").await;
    click(&browser, "form[action='/snapshots'] div > button").await;
    wait_for_text(&browser, "main", "whose labels are withdrawn").await;
    see(&chrome, &browser, 1280, "snapshot-filtered").await;
    browser.goto(at("/audit")).await.unwrap();
    wait_for_text(&browser, "main table", "withdrew their consent").await;
    see(&chrome, &browser, 1280, "audit-of-a-project").await;
    browser.quit().await.unwrap();

    let phone = chrome.open(Kind::Phone, program.folder.path()).await;
    sign_in(&phone, &db, &program, paula).await;
    click(&phone, "form[action='/language'] button").await;
    wait_for(&phone, "html[lang=zh]").await;
    for (path, name) in [
        (format!("/projects/{project}/withdrawals"), "withdrawals-zh"),
        ("/snapshots".to_owned(), "snapshots-zh"),
        ("/audit".to_owned(), "audit-zh"),
    ] {
        phone.goto(at(&path)).await.unwrap();
        wait_for(&phone, "main h1").await;
        if let Ok(summary) = phone
            .find(By::Css("details:has(#least_agreement) summary"))
            .await
        {
            summary.click().await.unwrap();
        }
        see(&chrome, &phone, 390, name).await;
    }
    phone.delete_all_cookies().await.unwrap();
    sign_in(&phone, &db, &program, ada).await;
    click(&phone, "form[action='/language'] button").await;
    wait_for(&phone, "html[lang=zh]").await;
    phone.goto(at("/guidelines")).await.unwrap();
    wait_for(&phone, "form[action='/guidelines/acknowledgements']").await;
    see(&chrome, &phone, 390, "guidelines-zh").await;
    phone.quit().await.unwrap();
}
