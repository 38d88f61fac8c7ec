//! The task that waits behind the one in sight, and the way back to the last ones.

use axum::http::StatusCode;
use sqlx::PgPool;

use crate::support::{Client, TestApp, fake};

const RANKS: &str = "rank-1=2&rank-2=1&rank-3=2&rank-4=3&action=submit&idempotency_key=";

/// The path of the waiting task.
async fn ahead(client: &Client<'_>) -> Option<String> {
    let answer = client.post("/work/ahead", "").await;
    match answer.status {
        StatusCode::NO_CONTENT => None,
        StatusCode::CREATED => Some(answer.json()["path"].as_str().unwrap().to_owned()),
        status => panic!("{status}: {}", answer.body),
    }
}

/// Seconds left of a lease, and whether its page was shown.
async fn lease(db: &PgPool, path: &str) -> (f64, bool) {
    let id: uuid::Uuid = path.trim_start_matches("/rank/").parse().unwrap();
    sqlx::query_as(
        "SELECT extract(epoch FROM lease_until - now())::float8, opened_at IS NOT NULL FROM assignments WHERE id = $1",
    )
    .bind(id)
    .fetch_one(db)
    .await
    .unwrap()
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn one_task_waits_under_a_short_lease_and_opening_it_makes_the_lease_long(db: PgPool) {
    fake::project(&db, 3, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let first = ada.open_task().await;
    ada.get(&first).await;
    let next = ahead(&ada).await.unwrap();
    assert_ne!(next, first);
    assert_eq!(ahead(&ada).await.as_ref(), Some(&next), "never two");
    // Fetched, it is not opened.
    let page = ada.get(&format!("{next}?ahead=true")).await;
    assert!(page.body.contains(r#"id="rank-form""#), "{}", page.body);
    let (left, is_opened) = lease(&db, &next).await;
    assert!(left <= 300.0 && !is_opened, "{left} s left");
    // A second window gets the task in sight, and not the one behind it.
    assert_eq!(ada.open_task().await, first);
    let opened = ada
        .post(&format!("{}/open", next.replace("/rank/", "/work/")), "")
        .await;
    assert_eq!(opened.json()["is_held"], true, "{}", opened.body);
    let (left, is_opened) = lease(&db, &next).await;
    assert!(left > 3500.0 && is_opened, "{left} s left");
    // Now another one waits behind both, and after it none is left.
    let last = ahead(&ada).await.unwrap();
    assert!(last != first && last != next);
    sqlx::query("UPDATE assignments SET opened_at = now()")
        .execute(&db)
        .await
        .unwrap();
    assert_eq!(ahead(&ada).await, None);
    // Nobody opens another's.
    let bob = app.labeler("bob").await;
    let path = format!("{}/open", next.replace("/rank/", "/work/"));
    assert_eq!(bob.post(&path, "").await.status, StatusCode::NOT_FOUND);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn windows_that_ask_at_the_same_moment_get_the_same_waiting_task(db: PgPool) {
    fake::project(&db, 12, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let first = ada.open_task().await;
    ada.get(&first).await;
    let asked = futures_util::future::join_all((0..6).map(|_| ahead(&ada))).await;
    let waiting: Vec<uuid::Uuid> = sqlx::query_scalar(
        "SELECT id FROM assignments WHERE status = 'leased' AND opened_at IS NULL",
    )
    .fetch_all(&db)
    .await
    .unwrap();
    assert_eq!(waiting.len(), 1, "{asked:?}");
    assert!(asked.contains(&Some(format!("/rank/{}", waiting[0]))));
    // What was leased too much is free for others: 12 tasks, of which ada holds two.
    let bob = app.labeler("bob").await;
    let mut held = 0;
    while ahead(&bob).await.is_some() {
        held += 1;
        sqlx::query("UPDATE assignments SET opened_at = coalesce(opened_at, now()), status = 'submitted', ended_at = now() WHERE labeler_id = $1 AND status = 'leased'")
            .bind(bob.account_id.unwrap().0)
            .execute(&db)
            .await
            .unwrap();
    }
    assert_eq!(held, 10);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_waiting_task_that_is_never_opened_comes_back_and_a_submission_leads_to_it(db: PgPool) {
    fake::project(&db, 2, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let (ada, bob) = (app.labeler("ada").await, app.labeler("bob").await);
    let first = ada.open_task().await;
    ada.get(&first).await;
    let next = ahead(&ada).await.unwrap();
    // While it waits, nobody else gets it.
    assert_eq!(bob.open_task().await, "/work");
    let after = ada.post(&first, &format!("{RANKS}k")).await.location;
    assert_eq!(
        after,
        Some(format!("{next}?submitted=in-time")),
        "without a script it is the next one too"
    );
    // As one that was never opened, whose short lease ran out.
    sqlx::query(
        "UPDATE assignments SET opened_at = NULL, lease_until = now() - interval '1 second' WHERE status = 'leased'",
    )
    .execute(&db)
    .await
    .unwrap();
    assert!(bob.open_task().await.starts_with("/rank/"));
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn the_last_submissions_open_again_and_a_correction_is_a_new_version(db: PgPool) {
    fake::project(&db, 2, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    assert_eq!(
        ada.get("/work/last").await.location.as_deref(),
        Some("/work/history")
    );
    let first = ada.open_task().await;
    ada.post(&first, &format!("{RANKS}k1")).await;
    assert_eq!(ada.get("/work/last").await.location, Some(first.clone()));
    let list = ada.get("/work/history").await.body;
    assert!(list.contains(&format!(r#"href="{first}""#)), "{list}");
    assert!(list.contains("What is 0 + 1?"), "{list}");
    let page = ada.get(&first).await.body;
    assert!(
        page.contains(r#"name="rank-2" value="1" checked"#),
        "{page}"
    );
    assert!(page.contains(r#"name="replaces" value="1""#), "{page}");
    assert!(page.contains("B &#62; A = C &#62; D"), "{page}");
    let form = "rank-1=1&rank-2=1&rank-3=2&rank-4=cannot&note-4=odd&action=submit&idempotency_key=k2&replaces=1";
    let after = ada.post(&first, form).await;
    // Back to the work: the other task.
    assert!(after.location.unwrap().starts_with("/rank/"));
    let versions: Vec<(i32, i64)> = sqlx::query_as(
        "SELECT k.version, count(r.rank) FROM rankings k JOIN ratings r ON r.ranking_id = k.id GROUP BY k.version ORDER BY k.version",
    )
    .fetch_all(&db)
    .await
    .unwrap();
    assert_eq!(versions, [(1, 4), (2, 3)]);
    // A window that still shows the first version is told, with what was typed there.
    let late = ada
        .post(&first, &form.replace("k2", "k3").replace("odd", "strange"))
        .await;
    assert_eq!(late.status, StatusCode::CONFLICT);
    assert!(
        late.body.contains("Another window submitted") && late.body.contains(">strange</textarea>")
    );
    assert!(late.body.contains(r#"name="replaces" value="newest""#));
    let form = form
        .replace("k2", "k4")
        .replace("replaces=1", "replaces=newest");
    assert_eq!(ada.post(&first, &form).await.status, StatusCode::SEE_OTHER);
    let page = ada.get(&first).await.body;
    assert!(page.contains(r#"name="replaces" value="3""#), "{page}");
    // Somebody else's does not exist.
    let bob = app.labeler("bob").await;
    assert_eq!(bob.get(&first).await.status, StatusCode::NOT_FOUND);
    assert!(!bob.get("/work/history").await.body.contains("What is"));
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_task_that_waits_under_old_guidelines_is_given_back_before_it_is_shown(db: PgPool) {
    let project = fake::project(&db, 3, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let in_hand = ada.open_task().await;
    let waiting = ada.post("/work/ahead", "").await;
    assert_eq!(waiting.status, StatusCode::CREATED);
    let waiting = waiting.json()["path"].as_str().unwrap().to_owned();
    let mut transaction = db.begin().await.unwrap();
    let words = serde_json::json!({"en": "Be fair, and kind."});
    server::store::projects::insert_guidelines(&mut transaction, project, &words, None)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    let id = waiting.replace("/rank/", "");
    let opened = ada.post(&format!("/work/{id}/open"), "").await.json();
    assert_eq!(opened["is_held"], false, "{opened}");
    // What is in sight is finished under the version that it began with.
    assert_eq!(ada.open_task().await, in_hand);
    let status: Vec<String> =
        sqlx::query_scalar("SELECT status FROM assignments ORDER BY leased_at")
            .fetch_all(&db)
            .await
            .unwrap();
    assert_eq!(status, ["leased", "expired"]);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn looking_at_a_task_changes_nothing(db: PgPool) {
    fake::project(&db, 1, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let path = ada.post("/work/ahead", "").await.json()["path"]
        .as_str()
        .unwrap()
        .to_owned();
    let state = async || -> (Option<chrono::DateTime<chrono::Utc>>, chrono::DateTime<chrono::Utc>) {
        sqlx::query_as("SELECT opened_at, lease_until FROM assignments")
            .fetch_one(&db)
            .await
            .unwrap()
    };
    let before = state().await;
    assert_eq!(ada.get(&path).await.status, StatusCode::OK);
    assert_eq!(state().await, before);
    // The button on /work does.
    assert_eq!(ada.open_task().await, path);
    assert!(state().await.0.is_some());
}
