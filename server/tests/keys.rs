//! Keys as data, and light or dark.

use axum::http::StatusCode;
use sqlx::PgPool;

use crate::support::{TestApp, fake};

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn chosen_keys_stand_on_the_labeling_page_and_clashes_are_refused_by_name(db: PgPool) {
    fake::project(&db, 1, 4, 1, 3600).await;
    let app = TestApp::new(db);
    let ada = app.labeler("ada").await;
    let path = ada.open_task().await;
    let page = ada.get(&path).await.body;
    assert!(page.contains(r#"data-keys="next=j previous=k "#), "{page}");
    assert!(page.contains(r#"data-keys-on="true""#));
    let refused = ada.post("/account/keys", "are_on=yes&up=s").await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    let said = "S would do two things: move the candidate up, and move it down.";
    assert!(refused.body.contains(said), "{}", refused.body);
    let saved = ada.post("/account/keys", "up=i&down=k&previous=o").await;
    assert_eq!(saved.status, StatusCode::SEE_OTHER, "{}", saved.body);
    let page = ada.get(&path).await.body;
    assert!(
        page.contains(r#"data-keys="next=j previous=o up=i down=k "#),
        "{page}"
    );
    assert!(page.contains(r#"data-keys-on="false""#));
    assert!(
        page.contains("<kbd>I</kbd>"),
        "the list shows the same data"
    );
    ada.post("/account/keys", "are_on=yes&up=i&reset=yes").await;
    assert!(ada.get(&path).await.body.contains(" up=w "));
}

/// CVE-2026-22033: keys that a user types freely end in the pages of others.
#[sqlx::test(migrator = "server::MIGRATOR")]
async fn nothing_but_keys_of_the_list_is_taken_and_only_for_oneself(db: PgPool) {
    fake::project(&db, 1, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let (ada, bob) = (app.labeler("ada").await, app.labeler("bob").await);
    for wrong in ["up=%3Cscript%3E", "up=1", "up=", "up=enter", "help=Q"] {
        let refused = ada.post("/account/keys", wrong).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong}");
    }
    let bob_id = bob.account_id.unwrap();
    let form = format!("are_on=yes&up=i&account_id={bob_id}&account={bob_id}&%3Cb%3E=q");
    ada.post("/account/keys", &form).await;
    let rows: Vec<(uuid::Uuid, serde_json::Value)> =
        sqlx::query_as("SELECT account_id, keys FROM key_bindings")
            .fetch_all(&db)
            .await
            .unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].0, ada.account_id.unwrap().0);
    assert!(!rows[0].1.to_string().contains("<b>"), "{}", rows[0].1);
    // Even a row that was spoilt by hand says nothing on a page.
    sqlx::query("UPDATE key_bindings SET keys = '{\"up\": \"<img src=x onerror=alert(1)>\"}'")
        .execute(&db)
        .await
        .unwrap();
    let path = ada.open_task().await;
    let page = ada.get(&path).await.body;
    assert!(
        page.contains(" up=w ") && !page.contains("onerror"),
        "{page}"
    );
    let admin = app.admin().await;
    assert_eq!(
        admin.get("/account/keys").await.status,
        StatusCode::FORBIDDEN
    );
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn the_theme_chosen_is_in_the_page_itself_so_that_nothing_flashes(db: PgPool) {
    let app = TestApp::new(db);
    let ada = app.labeler("ada").await;
    assert!(
        ada.get("/account")
            .await
            .body
            .contains(r#"data-theme="system""#)
    );
    let answer = ada.post("/theme", "theme=dark").await;
    assert!(
        answer.cookies[0].starts_with("theme=dark;"),
        "{:?}",
        answer.cookies
    );
    let request = ada
        .request("GET", "/account")
        .header("cookie", "theme=dark");
    let page = ada
        .send(request.body(axum::body::Body::empty()).unwrap())
        .await;
    assert!(page.body.contains(r#"data-theme="dark""#), "{}", page.body);
    let refused = ada.post("/theme", "theme=%22%3E").await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
}
