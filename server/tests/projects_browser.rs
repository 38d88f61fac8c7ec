//! The pages of projects, members, guidelines, the audit log and the home, in a real Chromium: on a desk
//! and on a phone, in both languages, without JavaScript, and with nothing that shuts anybody out.

use server::domain::ids::{AccountId, ProjectId};
use server::domain::role::{MemberRole, Role};
use server::store;
use sqlx::PgPool;
use thirtyfour::prelude::*;

use crate::browser::sign_in;
use crate::support::browser::{
    Chrome, Kind, check_accessible, check_reach, choose, click, look, wait_for, wait_for_address,
    wait_for_text,
};
use crate::support::fake;
use crate::support::program::Program;

/// A project with people, work done, versions and a log.
async fn world(db: &PgPool) -> ProjectId {
    let id = fake::project(db, 8, 4, 2, 3600).await;
    let mut connection = db.acquire().await.unwrap();
    let db = &mut *connection;
    let mut made = Vec::new();
    for (name, roles) in [
        ("ada", vec![Role::Labeler]),
        ("bob", vec![Role::Labeler]),
        ("alice", vec![Role::Admin]),
        ("paula", vec![]),
    ] {
        let email = format!("{name}@example.org");
        made.push(
            store::accounts::insert(&mut *db, &email, name, &roles, false)
                .await
                .unwrap(),
        );
    }
    let [ada, bob, alice, paula] = made.try_into().unwrap();
    let languages = ["en".to_owned(), "zh".to_owned()];
    store::members::assign(&mut *db, id, ada, &languages, Some(alice))
        .await
        .unwrap();
    store::members::assign(&mut *db, id, bob, &[], Some(alice))
        .await
        .unwrap();
    store::members::assign(&mut *db, id, paula, &[], Some(alice))
        .await
        .unwrap();
    store::members::set_role(&mut *db, id, paula, MemberRole::Admin)
        .await
        .unwrap();
    for version in 1..=2 {
        let subject = store::members::Subject::Guidelines;
        store::members::acknowledge(&mut *db, ada, id, subject, version)
            .await
            .unwrap();
        let texts = [
            (
                "en",
                format!(
                    "# Be fair\n\nRead **all** of it.\n\nRule {version}.\n\nAnd rest now and then."
                ),
            ),
            (
                "zh",
                format!("# 公平\n\n请**全部**读完。\n\n第 {version} 条规则。\n\n请适时休息。"),
            ),
        ];
        let texts = texts.map(|(lang, text)| (lang.to_owned(), text)).into();
        let subjects = [
            store::members::Subject::Guidelines,
            store::members::Subject::Consent,
        ];
        for subject in subjects {
            store::rules::publish(&mut *db, id, subject, &texts, alice)
                .await
                .unwrap();
        }
    }
    work(db, ada).await;
    id
}

/// Two weeks of work.
async fn work(db: &mut sqlx::PgConnection, who: AccountId) {
    sqlx::query(
        "INSERT INTO assignments (id, task_id, labeler_id, place, status, display_order, guidelines_version, form_version,
                                  leased_at, lease_until, ended_at, active_ms, idle_ms)
         SELECT gen_random_uuid(), id, $1, 0, 'submitted', '{0,1,2,3}', 1, 1, ended - interval '10 min', ended + interval '1 h',
                ended, 60000 * n, 20000 * n
         FROM (SELECT id, row_number() OVER () AS n, now() - interval '1 day' * (row_number() OVER () - 1) AS ended
               FROM (SELECT id FROM tasks ORDER BY id LIMIT 6) AS t) AS t",
    )
    .bind(who.0)
    .execute(db)
    .await
    .unwrap();
}

/// Goes to a page in a language.
async fn visit(browser: &WebDriver, program: &Program, page: &str, lang: &str) {
    let address = format!("{}{page}", program.url);
    browser.goto(&address).await.unwrap();
    let current = wait_for(browser, "html").await.attr("lang").await.unwrap();
    if current.as_deref() != Some(lang) {
        click(browser, &format!("button[name='lang'][value='{lang}']")).await;
        wait_for(browser, &format!("html[lang='{lang}']")).await;
        browser.goto(&address).await.unwrap();
    }
    wait_for(browser, "h1").await;
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn every_page_of_a_project_fits_reads_well_and_shuts_nobody_out(db: PgPool) {
    let id = world(&db).await;
    let program = Program::start(&db, &["--no-worker"]).await;
    let chrome = Chrome::start().await;
    let project = format!("/projects/{id}");
    for (kind, size) in [(Kind::Desktop, "wide"), (Kind::Phone, "narrow")] {
        let browser = chrome.open(kind, program.folder.path()).await;
        for (who, pages) in [
            ("ada", vec![("/", "home"), ("/guidelines", "guidelines")]),
            (
                "alice",
                vec![
                    ("/", "home"),
                    ("/projects", "list"),
                    ("/projects/new", "new"),
                    (project.as_str(), "show"),
                    (&format!("{project}/form"), "form"),
                    (&format!("{project}/rules/guidelines"), "rules"),
                    (&format!("{project}/rules/consent"), "consent"),
                    (&format!("{project}/members"), "members"),
                    ("/tasks", "tasks"),
                    ("/audit", "audit"),
                ],
            ),
            (
                "paula",
                vec![("/", "home"), (&format!("{project}/members"), "members")],
            ),
        ] {
            sign_in(&browser, &db, &program, &format!("{who}@example.org")).await;
            for (page, name) in pages {
                for lang in ["en", "zh"] {
                    visit(&browser, &program, page, lang).await;
                    look(&browser, &format!("{who}-{name}-{lang}-{size}")).await;
                    check_reach(&browser, page).await;
                    check_accessible(&browser).await;
                }
            }
            click(&browser, "form[action='/sign-out'] button").await;
            wait_for_address(&browser, "/sign-in").await;
        }
        browser.quit().await.unwrap();
    }
}

async fn fill(browser: &WebDriver, css: &str, text: &str) {
    let field = wait_for(browser, css).await;
    field.clear().await.unwrap();
    field.send_keys(text).await.unwrap();
}

/// A whole campaign: a project, a question of its own, rules, a member; then the member's first minutes.
async fn carry_out(browser: &WebDriver, db: &PgPool, program: &Program, name: &str) {
    sign_in(browser, db, program, "alice@example.org").await;
    let home = &program.url;
    browser.goto(format!("{home}/projects/new")).await.unwrap();
    fill(browser, "#name", "A pilot").await;
    fill(browser, "#slug", &format!("pilot-{name}")).await;
    fill(browser, "#overlap_chat", "3").await;
    click(browser, "input[name='is_open'][value='false']").await;
    click(browser, "form[action='/projects'] button").await;
    wait_for_text(browser, "h1", "A pilot").await;
    let project = browser.current_url().await.unwrap().to_string();
    wait_for(browser, "#overlap_chat[value='3']").await;
    look(browser, &format!("project-{name}")).await;

    browser.goto(format!("{project}/form")).await.unwrap();
    click(browser, "button[value='flags-add']").await;
    wait_for(browser, "#flags-11 details[open]").await;
    fill(browser, "#flags-11-key", "Cites sources").await;
    fill(browser, "#flags-11-label-en", "Cites a source").await;
    click(browser, "button[value='flags-up-11']").await;
    wait_for(browser, "#flags-10-label-en[value='Cites a source']").await;
    click(browser, "button[value='check']").await;
    wait_for_text(browser, "[role='alert']", "use lower-case letters").await;
    look(browser, &format!("form-wrong-{name}")).await;
    fill(browser, "#flags-10-key", "cites_sources").await;
    click(browser, "button[value='check']").await;
    wait_for_text(browser, "#changes", "cites_sources: new").await;
    look(browser, &format!("form-changes-{name}")).await;
    click(browser, "button[value='publish']").await;
    wait_for_text(browser, "#versions tbody tr", "cites_sources: new").await;

    browser
        .goto(format!("{project}/rules/consent"))
        .await
        .unwrap();
    fill(browser, "#en", "We keep **what you say**.").await;
    click(browser, "button[value='preview']").await;
    wait_for_text(browser, "#preview strong", "what you say").await;
    look(browser, &format!("rules-preview-{name}")).await;
    click(browser, "button[value='publish']").await;
    wait_for_text(browser, "#versions tbody tr", "alice").await;

    browser.goto(format!("{project}/members")).await.unwrap();
    fill(browser, "#who", "bob@example.org").await;
    fill(browser, "#languages", "en").await;
    click(browser, "#assign form button").await;
    wait_for_text(browser, "table tbody tr", "bob@example.org").await;
    fill(
        browser,
        "#lines",
        &format!("new-{name}@example.org, New Person"),
    )
    .await;
    click(browser, "#import form button").await;
    wait_for_text(browser, "#imported", "One has a new account").await;
    look(browser, &format!("members-imported-{name}")).await;
    browser.goto(format!("{home}/audit")).await.unwrap();
    wait_for_text(browser, "table tbody", "published a form").await;
    choose(browser, "#action", "consent_published").await;
    click(browser, "form[action='/audit'] button").await;
    wait_for_address(browser, "action=consent_published").await;
    click(browser, "form[action='/sign-out'] button").await;
    // Else the answer to signing out may come after the next one has signed in.
    wait_for_address(browser, "/sign-in").await;

    // What is to be read is asked for where there is something to do.
    let task = "WITH prompt AS (
            INSERT INTO prompts (id, project_id, external_id, body)
            SELECT gen_random_uuid(), id, 'p', '\"Hi\"' FROM projects WHERE name = 'A pilot'
            RETURNING id, project_id)
        INSERT INTO tasks (id, project_id, prompt_id, kind, overlap)
        SELECT gen_random_uuid(), project_id, id, 'review', 1 FROM prompt";
    sqlx::query(task).execute(db).await.unwrap();
    sign_in(browser, db, program, "bob@example.org").await;
    wait_for_text(browser, ".alert-warn", "A pilot: a new consent").await;
    look(browser, &format!("home-news-{name}")).await;
    click(browser, ".alert-warn a").await;
    wait_for_text(browser, "article h2", "A pilot").await;
    look(browser, &format!("guidelines-due-{name}")).await;
    click(
        browser,
        "form[action='/guidelines/acknowledgements'] button",
    )
    .await;
    // There is nothing else to read.
    wait_for_address(browser, "/work").await;
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM acknowledgements k JOIN accounts u ON u.id = k.account_id WHERE u.name = 'bob' AND subject = 'consent'")
        .fetch_one(db)
        .await
        .unwrap();
    assert_eq!(left, 1);
    click(browser, "form[action='/sign-out'] button").await;
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn an_admin_sets_up_a_campaign_on_a_phone(db: PgPool) {
    world(&db).await;
    sqlx::query("UPDATE projects SET archived_at = now()")
        .execute(&db)
        .await
        .unwrap();
    let program = Program::start(&db, &["--no-worker"]).await;
    let chrome = Chrome::start().await;
    let browser = chrome.open(Kind::Phone, program.folder.path()).await;
    carry_out(&browser, &db, &program, "phone").await;
    browser.quit().await.unwrap();
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn an_admin_sets_up_a_campaign_without_javascript(db: PgPool) {
    world(&db).await;
    sqlx::query("UPDATE projects SET archived_at = now()")
        .execute(&db)
        .await
        .unwrap();
    let program = Program::start(&db, &["--no-worker"]).await;
    let chrome = Chrome::start().await;
    let browser = chrome
        .open(Kind::WithoutScript, program.folder.path())
        .await;
    carry_out(&browser, &db, &program, "without-script").await;
    browser.quit().await.unwrap();
}
