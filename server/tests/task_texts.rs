//! The page of a task shows everything that was written in it or said of its prompt, and the switch of the
//! language leads from any page to a page.

use axum::http::StatusCode;
use serde_json::json;
use server::domain::ids::{ProjectId, TaskId};
use server::domain::role::Role;
use server::domain::task::TaskKind;
use sqlx::PgPool;

use crate::support::{Client, TestApp, encode, fake};

async fn submit(by: &Client<'_>, path: &str, fields: &[(&str, &str)]) {
    let more = [("action", "submit"), ("active_ms", "61000")];
    let fields = [fields, &more].concat();
    // Nobody is active for longer than the page is open.
    let opened = "UPDATE assignments SET opened_at = now() - interval '2 minutes'";
    sqlx::query(opened).execute(by.db()).await.unwrap();
    let sent = by.post(path, &encode(&fields)).await;
    assert_eq!(sent.status, StatusCode::SEE_OTHER, "{}", sent.body);
}

/// The texts of a page's elements, in order.
fn texts(page: &str, css: &str) -> Vec<String> {
    let html = scraper::Html::parse_document(page);
    let css = scraper::Selector::parse(css).unwrap();
    let text =
        |element: scraper::ElementRef<'_>| element.text().collect::<String>().trim().to_owned();
    html.select(&css).map(text).collect()
}

async fn project(db: &PgPool) -> ProjectId {
    fake::project(db, 0, 4, 1, 3600).await
}

async fn page(admin: &Client<'_>, task: TaskId, query: &str) -> String {
    let page = admin.get(&format!("/tasks/{task}{query}")).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);
    page.body
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn every_version_of_a_demonstration_is_read_on_the_page_of_its_task(db: PgPool) {
    let project = project(&db).await;
    let kind = TaskKind::Demonstrate;
    let prompt = format!("Why is the sea **salty**? {}", "Say more. ".repeat(60));
    let task = fake::task(&db, project, kind, Some(&prompt), None).await;
    let app = TestApp::new(db.clone());
    let (ada, admin) = (app.labeler("ada").await, app.admin().await);
    assert!(
        page(&admin, task, "")
            .await
            .contains("Nobody has submitted")
    );
    let path = ada.open_task().await;
    let first = [
        ("response", "Rivers bring *it*."),
        ("idempotency_key", "k1"),
        ("note", "half\u{202E} sure"),
    ];
    submit(&ada, &path, &first).await;
    let second = [
        ("response", "# Salt\n\n<script>no</script>"),
        ("idempotency_key", "k2"),
        ("replaces", "1"),
    ];
    submit(&ada, &path, &second).await;

    let shown = page(&admin, task, "").await;
    // The whole prompt, the newest version first, and each as it is.
    assert!(texts(&shown, ".turn .raw")[0] == prompt.trim(), "{shown}");
    let raw = texts(&shown, ".submission .raw");
    assert_eq!(raw[0], "# Salt\n\n<script>no</script>");
    assert_eq!(raw[1], "Rivers bring *it*.");
    assert_eq!(
        texts(&shown, ".submission h5, .submission .rendered h4"),
        ["Salt"]
    );
    assert!(!shown.contains("<script>no"), "{shown}");
    assert!(raw[2].contains("U+202E"), "{raw:?}");
    assert!(
        shown.contains("Version 1 of") && shown.contains("61 s active"),
        "{shown}"
    );
    // Nobody is named unasked.
    assert!(!shown.contains(">ada"), "{shown}");
    let named = page(&admin, task, "?names=true").await;
    assert!(named.contains("<h3><bdi>ada</bdi>"), "{named}");
    assert!(!shown.contains("Nobody has submitted"));

    // The list leads here, narrowed to the kind.
    let list = admin.get("/tasks?kind=demonstrate&state=done").await;
    assert!(list.body.contains(&format!("href=\"/tasks/{task}\"")));
    // And nobody else reads it.
    assert_eq!(
        ada.get(&format!("/tasks/{task}")).await.status,
        StatusCode::FORBIDDEN
    );
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn what_a_demonstration_was_written_from_and_all_its_pairs_are_shown(db: PgPool) {
    let project = project(&db).await;
    let kind = TaskKind::Demonstrate;
    let given = json!({"kind": "few_shot", "instruction": "Give the **capital**."});
    let few_shot = fake::task(&db, project, kind, None, Some(given)).await;
    let app = TestApp::new(db.clone());
    let (ada, admin) = (app.labeler("ada").await, app.admin().await);
    let path = ada.open_task().await;
    let pairs = [
        ("category", "open_qa"),
        ("language", "en"),
        ("pairs[0].query", "France"),
        ("pairs[0].response", "Paris"),
        ("pairs[1].query", "Peru"),
        ("pairs[1].response", "Lima"),
        ("idempotency_key", "k1"),
    ];
    submit(&ada, &path, &pairs).await;
    let shown = page(&admin, few_shot, "").await;
    assert!(
        shown.contains("Give the <strong>capital</strong>."),
        "{shown}"
    );
    let raw = texts(&shown, ".submission .raw");
    assert_eq!(raw, ["France", "Paris", "Peru", "Lima"]);
    let titles = texts(&shown, ".submission .said > h4");
    assert_eq!(titles[3], "Pair 2, response");
    let facts = texts(&shown, ".submission dd");
    assert_eq!(facts, ["open question", "English"], "{shown}");

    let given = json!({"kind": "user_based", "use_case": "A bakery answers letters."});
    let user_based = fake::task(&db, project, kind, None, Some(given)).await;
    let path = ada.open_task().await;
    let written = [
        ("prompt", "Thank a guest."),
        ("response", "Thank you!"),
        ("category", "generation"),
        ("language", "en"),
        ("idempotency_key", "k2"),
    ];
    submit(&ada, &path, &written).await;
    let shown = page(&admin, user_based, "").await;
    assert!(shown.contains("Use case") && shown.contains("A bakery answers letters."));
    assert_eq!(
        texts(&shown, ".submission .raw"),
        ["Thank a guest.", "Thank you!"]
    );
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_review_is_shown_with_its_answers_and_what_it_quotes(db: PgPool) {
    let project = project(&db).await;
    let prompt = Some("Write to ada@example.org.");
    let task = fake::task(&db, project, TaskKind::Review, prompt, None).await;
    let app = TestApp::new(db.clone());
    let (bob, admin) = (app.labeler("bob").await, app.admin().await);
    let path = bob.open_task().await;
    let said = [
        ("category", "generation"),
        ("language", "en"),
        ("flags.ambiguous", "yes"),
        ("flags.requests_advice", "no"),
        ("personal_data", "yes"),
        ("found[0].kind", "email"),
        ("found[0].passage", "ada@<b>example.org"),
        ("note", "an **address**"),
        ("idempotency_key", "k1"),
    ];
    submit(&bob, &path, &said).await;
    let shown = page(&admin, task, "").await;
    let facts = texts(&shown, ".submission dd");
    assert_eq!(facts.len(), 6, "{facts:?}");
    assert_eq!(facts[1..5], ["English", "Yes", "No", "Yes"]);
    assert_eq!(facts[5], "ada@<b>example.org");
    assert!(!shown.contains("ada@<b>"), "{shown}");
    assert!(shown.contains("an <strong>address</strong>"), "{shown}");
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn from_the_answer_to_a_form_the_switch_of_the_language_leads_to_a_page(db: PgPool) {
    fake::project(&db, 1, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let admin = app.client("alice", &[Role::Admin]).await;
    let back = |page: &str| {
        let html = scraper::Html::parse_document(page);
        let css = scraper::Selector::parse("form[action='/language'] [name='back']").unwrap();
        let field = html.select(&css).next().unwrap();
        field.attr("value").unwrap().to_owned()
    };
    // A page that was asked for keeps what it was narrowed to.
    let tasks = admin.get("/tasks?project=study&state=open").await;
    assert_eq!(back(&tasks.body), "/tasks?project=study&state=open");
    let task = crate::gold::tasks(&db).await[0];
    for (path, form, expected) in [
        ("/projects".to_owned(), "name=", "/projects"),
        (
            "/snapshots".to_owned(),
            "name=&kind=prompts&project=study",
            "/snapshots",
        ),
        (
            format!("/tasks/{task}/gold"),
            "purpose=gold",
            &format!("/tasks/{task}"),
        ),
        (
            format!("/tasks/{task}/nothing"),
            "",
            &format!("/tasks/{task}"),
        ),
        (
            "/screening/candidates".to_owned(),
            "project=study&email=x",
            "/screening",
        ),
        ("/prompts/import".to_owned(), "", "/prompts"),
    ] {
        let answer = admin.post(&path, form).await;
        assert!(answer.status.is_client_error(), "{path}: {}", answer.status);
        let back = back(&answer.body);
        assert_eq!(back, expected, "{path}");
        let form = encode(&[("lang", "zh"), ("back", &back)]);
        let switched = admin.post("/language", &form).await;
        assert_eq!(switched.location.as_deref(), Some(expected));
        assert_eq!(
            admin.get(expected).await.status,
            StatusCode::OK,
            "{expected}"
        );
    }
}
