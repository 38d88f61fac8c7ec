//! Two windows and two versions: a window that has not seen the newest draft submits nothing over it, a
//! correction says what is in sight, and a sign stays when it is corrected.

use axum::http::StatusCode;
use serde_json::{Value, json};
use server::domain::role::Role;
use server::domain::task::TaskKind;
use sqlx::PgPool;

use crate::support::{Client, TestApp, encode, fake};

/// Ranks by place, the first shown first.
fn ranking(ranks: [i16; 4]) -> Value {
    let items = ranks.iter().enumerate();
    let items = items.map(|(index, rank)| json!({"position": index + 1, "rank": rank}));
    json!({"candidates": items.collect::<Vec<_>>()})
}

/// The same with further members.
fn with(mut body: Value, more: &[(&str, Value)]) -> Value {
    for (name, value) in more {
        body[*name] = value.clone();
    }
    body
}

/// The address of the assignment of a page.
fn api_of(page: &str) -> String {
    let id = page.rsplit('/').next().unwrap();
    format!("/api/v1/assignments/{id}")
}

async fn send(
    by: &Client<'_>,
    path: &str,
    key: &str,
    body: &Value,
) -> (StatusCode, Option<String>) {
    let headers = [("idempotency-key", key)];
    let answer = by.send_json("POST", path, &headers, body).await;
    let said = answer.json();
    (answer.status, said["detail"].as_str().map(str::to_owned))
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_stale_window_submits_nothing_over_a_newer_draft(db: PgPool) {
    fake::project(&db, 1, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let page = ada.open_task().await;
    let path = api_of(&page);
    let submission = format!("{path}/submission");
    let newer = with(ranking([4, 3, 2, 1]), &[("revision", json!(0))]);
    let saved = ada
        .send_json("PUT", &format!("{path}/draft"), &[], &newer)
        .await;
    assert_eq!(saved.status, StatusCode::OK, "{}", saved.body);

    // By a program, and by the page: nothing is written, and the page has both.
    let stale = with(ranking([2, 1, 3, 4]), &[("revision", json!(0))]);
    let (status, detail) = send(&ada, &submission, "k1", &stale).await;
    assert_eq!(status, StatusCode::CONFLICT, "{detail:?}");
    let form = "rank-1=2&rank-2=1&rank-3=3&rank-4=4&revision=0&idempotency_key=k2&action=submit";
    let refused = ada.post(&page, form).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(refused.body.contains("saved a newer draft of this task"));
    let newer = r#"The newer draft says: <span class="order">D &#62; C &#62; B &#62; A</span>"#;
    assert!(refused.body.contains(newer), "{}", refused.body);
    assert!(refused.body.contains(r#"name="rank-1" value="2" checked"#));
    assert!(
        refused.body.contains(r#"name="revision" value="1""#),
        "{}",
        refused.body
    );
    let n: i64 = sqlx::query_scalar("SELECT count(*) FROM rankings")
        .fetch_one(&db)
        .await
        .unwrap();
    assert_eq!(n, 0);

    // What the newer draft says is no conflict, whoever saved it: the answer to a save may be lost.
    let same = with(ranking([4, 3, 2, 1]), &[("revision", json!(0))]);
    let (status, detail) = send(&ada, &submission, "k3", &same).await;
    assert_eq!(status, StatusCode::CREATED, "{detail:?}");
    // Sent again, it is the same submission, though the revision has gone on.
    let (status, _) = send(&ada, &submission, "k3", &same).await;
    assert_eq!(status, StatusCode::CREATED);
    // A correction looks, too; and a client that does not look goes on as before.
    let correction = format!("{submission}?replaces=1");
    let (status, _) = send(&ada, &correction, "k4", &stale).await;
    assert_eq!(status, StatusCode::CONFLICT);
    let (status, detail) = send(&ada, &correction, "k5", &ranking([1, 2, 2, 3])).await;
    assert_eq!(status, StatusCode::CREATED, "{detail:?}");
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_stale_window_of_a_demonstration_keeps_what_was_typed(db: PgPool) {
    let project = fake::project(&db, 0, 4, 1, 3600).await;
    fake::task(&db, project, TaskKind::Demonstrate, Some("Why?"), None).await;
    let app = TestApp::new(db);
    let ada = app.labeler("ada").await;
    let page = ada.open_task().await;
    let draft = json!({"response": "Newer.", "revision": 0});
    let saved = ada
        .send_json("PUT", &format!("{}/draft", api_of(&page)), &[], &draft)
        .await;
    assert_eq!(saved.status, StatusCode::OK, "{}", saved.body);
    let fields = [
        ("response", "Older."),
        ("revision", "0"),
        ("idempotency_key", "k"),
        ("action", "submit"),
    ];
    let refused = ada.post(&page, &encode(&fields)).await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.body);
    assert!(refused.body.contains("Older.") && refused.body.contains("newer draft"));
    let newer = r#"<dt>Response</dt><dd class="raw" dir="auto">Newer.</dd>"#;
    assert!(refused.body.contains(newer), "{}", refused.body);
    // Said once, it is the labeler's choice.
    let fields = [
        ("response", "Older."),
        ("revision", "1"),
        ("idempotency_key", "k"),
        ("action", "submit"),
    ];
    let sent = ada.post(&page, &encode(&fields)).await;
    assert_eq!(sent.status, StatusCode::SEE_OTHER, "{}", sent.body);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn time_that_has_not_passed_is_not_believed(db: PgPool) {
    fake::project(&db, 1, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let path = api_of(&ada.open_task().await);
    let ago = "UPDATE assignments SET opened_at = now() - interval '100 s', leased_at = now() - interval '1 h'";
    sqlx::query(ago).execute(&db).await.unwrap();
    let times = async || -> (i64, i64) {
        sqlx::query_as("SELECT active_ms, idle_ms FROM assignments")
            .fetch_one(&db)
            .await
            .unwrap()
    };
    let claims = |active: i64, idle: i64| json!({"active_ms": active, "idle_ms": idle});
    let honest = with(ranking([1, 2, 3, 3]), &[("time", claims(40_000, 20_000))]);
    let draft = format!("{path}/draft");
    let saved = ada.send_json("PUT", &draft, &[], &honest).await;
    assert_eq!(saved.status, StatusCode::OK, "{}", saved.body);
    assert_eq!(times().await, (40_000, 20_000));
    let week = 7 * 24 * 3600 * 1000;
    let claimed = with(ranking([1, 2, 3, 3]), &[("time", claims(week, week))]);
    let (status, _) = send(&ada, &format!("{path}/submission"), "k", &claimed).await;
    assert_eq!(status, StatusCode::CREATED);
    let (active, idle) = times().await;
    assert!((100_000..130_000).contains(&active), "{active} ms active");
    assert_eq!(idle, 20_000);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_correction_says_which_version_is_in_sight(db: PgPool) {
    let project = fake::project(&db, 1, 4, 1, 3600).await;
    fake::task(&db, project, TaskKind::Demonstrate, Some("Why?"), None).await;
    let app = TestApp::new(db);
    let ada = app.labeler("ada").await;
    for (first, second) in [
        (ranking([2, 1, 3, 4]), ranking([2, 1, 4, 3])),
        (json!({"response": "So."}), json!({"response": "So it is."})),
    ] {
        let page = ada.open_task().await;
        let path = api_of(&page);
        let submission = format!("{path}/submission");
        let (status, detail) = send(&ada, &submission, "k1", &first).await;
        assert_eq!(status, StatusCode::CREATED, "{detail:?}");
        let shown = ada.get(&page).await.body;
        let submitted = r#"<p id="edit-submitted">What you see is version 1, as you submitted it. Saving a change writes version 2"#;
        assert!(shown.contains(submitted), "{shown}");
        assert!(shown.contains(r#"<p id="edit-draft" hidden>"#), "{shown}");
        assert!(shown.contains("Save as version 2"), "{shown}");
        let revision = json!(1);
        let draft = with(second.clone(), &[("revision", revision)]);
        let saved = ada
            .send_json("PUT", &format!("{path}/draft"), &[], &draft)
            .await;
        assert_eq!(saved.status, StatusCode::OK, "{}", saved.body);
        let shown = ada.get(&page).await.body;
        let of_draft = r#"<p id="edit-draft">What you see is your draft of a correction, which is not submitted yet. Saving it writes version 2 in the place of version 1"#;
        assert!(shown.contains(of_draft), "{shown}");
        let (status, _) = send(&ada, &format!("{submission}?replaces=1"), "k2", &second).await;
        assert_eq!(status, StatusCode::CREATED);
        let shown = ada.get(&page).await.body;
        assert!(
            shown.contains("What you see is version 2, as you submitted it"),
            "{shown}"
        );
    }
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_correction_does_not_take_the_sign_of_an_untouched_order_away(db: PgPool) {
    let project = fake::project(&db, 2, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let ada = app.program("ada", &[Role::Labeler]).await;
    // As shown and then not; and the other way round.
    for (first, second) in [([1, 2, 3, 4], [2, 1, 3, 4]), ([2, 1, 3, 4], [1, 2, 3, 4])] {
        let path = format!("/api/v1/projects/{project}/assignments");
        let lease = ada.send_json("POST", &path, &[], &json!({})).await;
        let path = lease.headers["location"].to_str().unwrap().to_owned();
        let submission = format!("{path}/submission");
        let (status, _) = send(&ada, &submission, "k1", &ranking(first)).await;
        assert_eq!(status, StatusCode::CREATED);
        let correction = format!("{submission}?replaces=1");
        let (status, _) = send(&ada, &correction, "k2", &ranking(second)).await;
        assert_eq!(status, StatusCode::CREATED);
    }
    let signs: Vec<(bool, bool)> =
        sqlx::query_as("SELECT is_untouched, can_be_untouched FROM attention")
            .fetch_all(&db)
            .await
            .unwrap();
    assert_eq!(signs, [(true, true), (true, true)]);
}
