//! Questions about the task at hand: asked without leaving it, answered in place, published without names.

use axum::http::StatusCode;
use server::domain::role::Role;
use server::domain::task::TaskKind;
use sqlx::PgPool;

use crate::gold::{lease, make_gold, set_shares, tasks};
use crate::support::{Client, TestApp, fake};

/// The part of a page that asks, as its fields.
fn key_of(page: &str) -> String {
    let html = scraper::Html::parse_document(page);
    let css = scraper::Selector::parse("#questions input[name='key']").unwrap();
    let input = html.select(&css).next().expect("the part that asks");
    input.value().attr("value").unwrap().to_owned()
}

async fn ask(by: &Client<'_>, path: &str, text: &str) -> String {
    let page = by.get(path).await;
    let key = key_of(&page.body);
    let id = path.rsplit('/').next().unwrap();
    let form = format!("assignment_id={id}&key={key}&question={text}");
    let answer = by.post("/questions", &form).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
    // A second press of the button is the same question.
    let again = by.post("/questions", &form).await;
    assert_eq!(again.location, answer.location);
    let place = answer.location.unwrap();
    place.split("#question-").nth(1).unwrap().to_owned()
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_question_is_answered_in_place_and_its_asker_hears_of_it(db: PgPool) {
    fake::project(&db, 2, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let (ada, bob, admin) = (
        app.labeler("ada").await,
        app.labeler("bob").await,
        app.admin().await,
    );
    let path = ada.open_task().await;
    let text = "Is+%2A%2Ashort%2A%2A+better%3F+%3Cscript%3Ealert%281%29%3C%2Fscript%3E";
    let id = ask(&ada, &path, text).await;
    let n: i64 = sqlx::query_scalar("SELECT count(*) FROM questions")
        .fetch_one(&db)
        .await
        .unwrap();
    assert_eq!(n, 1);

    // The task goes on, and shows the question; nobody else's page does.
    let page = ada.get(&path).await;
    assert!(
        page.body.contains("<strong>short</strong>"),
        "{}",
        page.body
    );
    assert!(!page.body.contains("<script>alert"));
    let others = bob.open_task().await;
    assert!(
        !bob.get(&others)
            .await
            .body
            .contains("<strong>short</strong>")
    );
    assert!(
        !bob.get("/questions")
            .await
            .body
            .contains("<strong>short</strong>")
    );

    // Admins hear of it, see the task's prompt, and answer.
    let home = admin.get("/").await;
    assert!(home.body.contains("1 question waits"), "{}", home.body);
    assert!(home.body.contains("id=\"nav-news\">1 new"), "{}", home.body);
    let open = admin.get("/questions").await;
    assert!(open.body.contains("<strong>short</strong>") && open.body.contains("What is 0 + 1?"));
    let answers = format!("/questions/{id}/answers");
    let empty = admin.post(&answers, "answer=+").await;
    assert_eq!(empty.status, StatusCode::UNPROCESSABLE_ENTITY);
    let answered = admin.post(&answers, "answer=Only+if+%2Acomplete%2A.").await;
    assert_eq!(answered.status, StatusCode::SEE_OTHER, "{}", answered.body);
    let open = admin.get("/questions").await;
    assert!(
        !open.body.contains("<strong>short</strong>"),
        "no longer open"
    );
    assert!(!open.body.contains("nav-news"));

    // The asker is told until they say that they have read it, on the task, at home and in the list.
    for place in ["/", "/questions", path.as_str()] {
        let page = ada.get(place).await;
        assert!(page.body.contains("id=\"nav-news\">1 new"), "{place}");
    }
    let page = ada.get(&path).await;
    assert!(page.body.contains("<em>complete</em>") && page.body.contains("1 new answer"));
    // Reading a page changes nothing; the button does.
    assert!(ada.get("/questions").await.body.contains("nav-news"));
    let read = ada.post("/questions/read", "").await;
    assert_eq!(read.location.as_deref(), Some("/questions"));
    assert!(!ada.get("/questions").await.body.contains("nav-news"));

    // Rows are only added.
    for statement in ["UPDATE questions SET markdown = 'x'", "DELETE FROM answers"] {
        assert!(
            sqlx::query(statement).execute(&db).await.is_err(),
            "{statement}"
        );
    }
    let more = admin.post(&answers, "answer=And+true.").await;
    assert_eq!(more.status, StatusCode::SEE_OTHER);
    let page = ada.get("/questions").await;
    assert!(page.body.contains("<em>complete</em>") && page.body.contains("And true."));
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_published_answer_names_nobody_and_can_be_taken_back(db: PgPool) {
    fake::project(&db, 2, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let (ada, bob, admin) = (
        app.labeler("ada").await,
        app.labeler("bob").await,
        app.admin().await,
    );
    let path = ada.open_task().await;
    let id = ask(&ada, &path, "I+am+ada.+Ties%3F").await;
    let answers = format!("/questions/{id}/answers");
    let nothing = "answer=Allowed.&publish=true&published_question=";
    let refused = admin.post(&answers, nothing).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        refused.body.contains(">Allowed.</textarea>"),
        "what was typed stays"
    );
    let form = "answer=Allowed.&publish=true&published_question=Are+ties+allowed%3F";
    let answered = admin.post(&answers, form).await;
    assert_eq!(answered.status, StatusCode::SEE_OTHER, "{}", answered.body);
    let page = bob.get("/guidelines").await;
    assert!(page.body.contains("Are ties allowed?") && page.body.contains("Allowed."));
    assert!(!page.body.contains("I am ada") && !page.body.contains("admin"));
    // Whoever asked reads their own words.
    assert!(ada.get("/questions").await.body.contains("I am ada"));

    let answer: uuid::Uuid = sqlx::query_scalar("SELECT id FROM answers")
        .fetch_one(&db)
        .await
        .unwrap();
    let withdraw = format!("/answers/{answer}/withdraw");
    assert_eq!(ada.post(&withdraw, "").await.status, StatusCode::FORBIDDEN);
    let done = admin.post(&withdraw, "").await;
    assert_eq!(done.status, StatusCode::SEE_OTHER);
    assert!(
        !bob.get("/guidelines")
            .await
            .body
            .contains("Are ties allowed?")
    );
    assert!(ada.get("/questions").await.body.contains("Allowed."));
    // Both deeds are logged, and taking back what is taken back is none.
    let again = admin.post(&withdraw, "").await;
    assert_eq!(again.status, StatusCode::SEE_OTHER);
    assert_eq!(
        crate::audit::actions(&db).await,
        ["question_answered", "answer_withdrawn"]
    );
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn only_the_labeler_of_a_task_asks_about_it_and_only_admins_answer(db: PgPool) {
    fake::project(&db, 2, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let (ada, bob, olga) = (
        app.labeler("ada").await,
        app.labeler("bob").await,
        app.operator().await,
    );
    let path = ada.open_task().await;
    let id = path.rsplit('/').next().unwrap();
    let form = format!("assignment_id={id}&key=k&question=Why%3F");
    assert_eq!(
        bob.post("/questions", &form).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        olga.post("/questions", &form).await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(olga.get("/questions").await.status, StatusCode::FORBIDDEN);
    let question = ask(&ada, &path, "Why%3F").await;
    let answers = format!("/questions/{question}/answers");
    for other in [&ada, &bob, &olga] {
        let refused = other.post(&answers, "answer=So.").await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
    }
    let nothing = format!("assignment_id={id}&key=other&question=");
    let refused = ada.post("/questions", &nothing).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    let admin = app.client("boss", &[Role::Admin]).await;
    let unknown = format!("/questions/{}/answers", uuid::Uuid::now_v7());
    let refused = admin.post(&unknown, "answer=So.").await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn every_kind_of_task_has_a_place_to_ask(db: PgPool) {
    let app = TestApp::new(db.clone());
    let project = fake::project(&db, 1, 4, 1, 3600).await;
    let kinds = [TaskKind::Demonstrate, TaskKind::Review];
    for kind in kinds {
        fake::task(&db, project, kind, Some("Why?"), None).await;
    }
    let admin = app.admin().await;
    let mut seen = Vec::new();
    for name in ["ada", "bob", "cho"] {
        let labeler = app.labeler(name).await;
        let path = labeler.open_task().await;
        let id = ask(&labeler, &path, &format!("Says+{name}%3F")).await;
        let page = labeler.get(&path).await;
        assert!(
            page.body.contains(&format!("Says {name}?")),
            "{}",
            page.body
        );
        let answers = format!("/questions/{id}/answers");
        let answered = admin.post(&answers, &format!("answer=Dear+{name}.")).await;
        assert_eq!(answered.status, StatusCode::SEE_OTHER, "{}", answered.body);
        let page = labeler.get(&path).await;
        assert!(
            page.body.contains(&format!("Dear {name}.")),
            "{}",
            page.body
        );
        seen.push(path.split('/').nth(1).unwrap().to_owned());
    }
    seen.sort_unstable();
    assert_eq!(seen, ["demonstrate", "rank", "review"]);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn only_admins_read_that_a_question_is_about_a_gold_task(db: PgPool) {
    let project = fake::project(&db, 2, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    let source = tasks(&db).await[1];
    make_gold(&admin, source, "rank-1=1&rank-2=2").await;
    set_shares(&db, 0.5, 0.0).await;
    let ada = app.labeler("ada").await;
    let who = ada.account_id.unwrap();
    let (id, gold) = lease(&db, project, who, "gold").await.unwrap();
    let path = format!("/rank/{id}");
    let question = ask(&ada, &path, "Is+this+a+test%3F").await;
    let answers = format!("/questions/{question}/answers");
    let answered = admin.post(&answers, "answer=Judge+it+as+any+other.").await;
    assert_eq!(answered.status, StatusCode::SEE_OTHER, "{}", answered.body);
    let list = admin.get("/questions?state=all").await;
    assert!(list.body.contains(">gold</span>"), "{}", list.body);
    // Neither before it is submitted nor after, in any list of their own.
    let form = "rank-1=2&rank-2=1&rank-3=3&rank-4=4&idempotency_key=k&action=submit&confirmed=yes";
    for is_submitted in [false, true] {
        if is_submitted {
            let sent = ada.post(&path, form).await;
            assert_eq!(sent.status, StatusCode::SEE_OTHER, "{}", sent.body);
        }
        for page in ["/questions", "/work/history", "/", path.as_str()] {
            let page = ada.get(page).await;
            assert_eq!(page.status, StatusCode::OK, "{}", page.body);
            for word in ["gold", "purpose", &gold.to_string(), &source.to_string()] {
                assert!(!page.body.contains(word), "{word} in {}", page.body);
            }
        }
    }
    let history = ada.get("/work/history").await;
    assert!(history.body.contains(&path), "corrected as any other");
}
