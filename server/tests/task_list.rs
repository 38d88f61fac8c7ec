//! The list of tasks: found by what they are about, and read page by page.

use axum::http::StatusCode;
use scraper::{Html, Selector};
use serde_json::json;
use server::domain::ids::TaskId;
use server::domain::task::TaskKind;
use sqlx::PgPool;

use crate::projects::encode;
use crate::support::{TestApp, fake};

/// Ids of the prompts on the page, and the last task of it where there is another page.
fn read(body: &str) -> (Vec<String>, Option<String>) {
    let html = Html::parse_document(body);
    let (ids, next) = (
        Selector::parse("main tbody code").unwrap(),
        Selector::parse("button[name=before]").unwrap(),
    );
    let ids = html.select(&ids).map(|id| id.text().collect()).collect();
    let next = html.select(&next).next();
    let next = next.and_then(|button| button.value().attr("value").map(str::to_owned));
    (ids, next)
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn tasks_are_found_by_text_id_category_and_state_page_by_page(db: PgPool) {
    fake::project(&db, 120, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    let list = async |fields: &[(&str, &str)]| {
        let answer = admin.get(&format!("/tasks?{}", encode(fields))).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        read(&answer.body)
    };
    // "What is 117 + 1?" is of the prompt p117.
    assert_eq!(list(&[("search", " what is 117 ")]).await.0, ["p117"]);
    assert_eq!(list(&[("search", "P117")]).await.0, ["p117"]);
    assert!(list(&[("search", "100 % of")]).await.0.is_empty());
    let id: TaskId = sqlx::query_scalar::<_, uuid::Uuid>(
        "SELECT t.id FROM tasks t JOIN prompts p ON p.id = t.prompt_id WHERE p.external_id = 'p5'",
    )
    .fetch_one(&db)
    .await
    .map(TaskId)
    .unwrap();
    assert_eq!(list(&[("search", &id.to_string())]).await.0, ["p5"]);

    for statement in [
        "UPDATE prompts SET category = 'chat' WHERE external_id LIKE 'p1%'",
        "UPDATE tasks SET closed_at = now() WHERE id IN (
             SELECT t.id FROM tasks t JOIN prompts p ON p.id = t.prompt_id WHERE p.external_id = 'p10')",
    ] {
        fake::rewrite(&db, statement).await;
    }
    // p1, p10 to p19 and p100 to p119 are 31; the search stays on the second page of all that hold a 1.
    let chat = list(&[("category", "chat")]).await;
    assert_eq!((chat.0.len(), chat.1), (31, None));
    let closed = list(&[("category", "chat"), ("state", "closed"), ("search", "p1")]).await;
    assert_eq!(closed.0, ["p10"]);
    let first = list(&[("search", "p")]).await;
    assert_eq!(first.0.len(), 50);
    let next = first.1.unwrap();
    let second = list(&[("search", "p"), ("before", &next)]).await;
    assert_eq!(second.0.len(), 50);
    assert!(second.0.iter().all(|id| !first.0.contains(id)));
    let wrong = admin.get("/tasks?category=gossip").await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_search_looks_into_what_a_reader_sees_and_takes_every_letter_as_it_is(db: PgPool) {
    let project = fake::project(&db, 0, 4, 1, 3600).await;
    let text = "Say \"hi\" in C:\\temp,\nto 100% of_them";
    let kind = TaskKind::Demonstrate;
    let single = fake::task(&db, project, kind, Some(text), None).await;
    let turns = fake::task(&db, project, kind, Some(""), None).await;
    let conversation = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Why?\n\"Because\" is short."},
        {"role": "assistant", "content": "So it is."},
    ]);
    let turned =
        format!("UPDATE prompts SET body = '{conversation}' WHERE external_id = '{turns}'");
    fake::rewrite(&db, &turned).await;
    let brief = json!({"kind": "user_based", "use_case": "The \"Bakery\" answers."});
    fake::task(&db, project, kind, None, Some(brief)).await;

    let app = TestApp::new(db);
    let admin = app.admin().await;
    let list = async |page: &str, search: &str| {
        let answer = admin
            .get(&format!("{page}?{}", encode(&[("search", search)])))
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        let html = Html::parse_document(&answer.body);
        let rows = html
            .select(&Selector::parse("main tbody tr").unwrap())
            .count();
        (read(&answer.body).0, rows)
    };
    let (single, turns) = (single.to_string(), turns.to_string());
    for page in ["/tasks", "/prompts"] {
        for words in ["say \"HI\"", "c:\\temp", "100% of_them", "%", "_"] {
            let found = (vec![single.clone()], 1);
            assert_eq!(list(page, words).await, found, "{words}");
        }
        for words in ["be brief", "\"because\"", "so it is"] {
            let found = (vec![turns.clone()], 1);
            assert_eq!(list(page, words).await, found, "{words}");
        }
        // Words of the format and escapes of JSON are nothing that anybody wrote.
        for words in [
            "role",
            "user",
            "content",
            "assistant",
            "use_case",
            "kind",
            "\\n",
            "\\\"",
            "s%y",
            "S_y",
        ] {
            assert_eq!(list(page, words).await.1, 0, "{words}");
        }
    }
    // Where the labeler writes the prompt, it is found by what they write it from.
    assert_eq!(list("/tasks", "the \"bakery\"").await.1, 1);
}
