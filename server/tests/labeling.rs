//! A labeler's day by page and by API: drafts, submissions, skips, late work, and what must never
//! reach their browser.

use axum::http::StatusCode;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use server::domain::role::Role;
use sqlx::PgPool;

use crate::support::{TestApp, fake};

const FORM: &str = "rank-1=2&rank-2=1&rank-3=2&rank-4=3&rating-1=5&flag-1-hallucination=yes\
    &flag-1-expresses_opinion=no&flag-2-hallucination=&note=fine&action=submit&idempotency_key=k1";

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_ranking_its_ratings_and_comparisons_are_written_from_a_plain_form(db: PgPool) {
    fake::project(&db, 1, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let path = ada.open_task().await;
    let page = ada.get(&path).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(
        !page.body.contains("secret-model"),
        "the model's name reached the browser"
    );
    assert!(page.body.contains("What is 0 + 1?"));
    assert_eq!(
        ada.post(&path, FORM).await.location.as_deref(),
        Some("/work?submitted=in-time")
    );

    let order: Vec<i16> = sqlx::query_scalar("SELECT display_order FROM assignments")
        .fetch_one(&db)
        .await
        .unwrap();
    let ratings: Vec<(i16, i16, Option<i16>, Value)> =
        sqlx::query_as("SELECT slot, rank, overall, flags FROM ratings ORDER BY slot")
            .fetch_all(&db)
            .await
            .unwrap();
    let by_position: Vec<_> = order.iter().map(|slot| &ratings[*slot as usize]).collect();
    assert_eq!(
        by_position
            .iter()
            .map(|rating| rating.1)
            .collect::<Vec<_>>(),
        [2, 1, 2, 3]
    );
    assert_eq!((by_position[0].2, by_position[1].2), (Some(5), None));
    // Unanswered is not "no": the third choice of a flag leaves no key.
    assert_eq!(
        by_position[0].3,
        json!({"hallucination": true, "expresses_opinion": false})
    );
    assert_eq!(by_position[1].3, json!({}));
    let pairs: Vec<bool> = sqlx::query_scalar("SELECT is_tie FROM comparisons")
        .fetch_all(&db)
        .await
        .unwrap();
    assert_eq!(
        (pairs.len(), pairs.iter().filter(|tie| **tie).count()),
        (6, 1)
    );
    // Sent again by an impatient click: the same submission.
    let again = ada.post(&path, FORM).await;
    assert_eq!(again.status, StatusCode::SEE_OTHER);
    let n: i64 = sqlx::query_scalar("SELECT count(*) FROM rankings")
        .fetch_one(&db)
        .await
        .unwrap();
    assert_eq!(n, 1);
}

/// An outbox sends again what it does not know to have arrived.
#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_submission_that_is_sent_again_is_counted_once(db: PgPool) {
    let recorder = PrometheusBuilder::new().build_recorder();
    // Holds on this thread, which is the only one of a test.
    let _counting = metrics::set_default_local_recorder(&recorder);
    fake::project(&db, 2, 4, 1, 3600).await;
    let app = TestApp::new(db);
    let ada = app.labeler("ada").await;
    for n in 1..=2 {
        let path = ada.open_task().await;
        for _ in 0..3 {
            let sent = ada.post(&path, FORM).await;
            assert_eq!(sent.status, StatusCode::SEE_OTHER);
        }
        let figures = recorder.handle().render();
        let line = format!("plackett_submissions_total {n}");
        assert!(figures.lines().any(|own| own == line), "{figures}");
    }
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn looking_at_the_queue_leases_nothing_and_each_submission_leads_to_the_next_task(
    db: PgPool,
) {
    fake::project(&db, 3, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let page = ada.get("/work").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.body.contains("3 tasks are waiting"), "{}", page.body);
    let leased: i64 = sqlx::query_scalar("SELECT count(*) FROM assignments")
        .fetch_one(&db)
        .await
        .unwrap();
    assert_eq!(leased, 0);

    let first = ada.open_task().await;
    assert_eq!(
        ada.open_task().await,
        first,
        "an open assignment comes first"
    );
    assert_eq!(ada.get("/work").await.location, Some(first.clone()));
    let second = ada.post(&first, FORM).await.location.unwrap();
    assert!(second.starts_with("/rank/") && second != first, "{second}");
    let skip = "action=skip&reason=unclear_prompt";
    let third = ada.post(&second, skip).await.location.unwrap();
    assert!(third.starts_with("/rank/") && third != second, "{third}");
    let after = ada.post(&third, FORM).await.location.unwrap();
    assert_eq!(after, "/work?submitted=in-time");
    assert!(ada.get("/work").await.body.contains("Nothing is waiting"));
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_form_with_a_missing_rank_comes_back_with_the_work_kept(db: PgPool) {
    fake::project(&db, 1, 4, 1, 3600).await;
    let app = TestApp::new(db);
    let ada = app.labeler("ada").await;
    let path = ada.open_task().await;
    let answer = ada.post(&path, &FORM.replace("rank-4=3&", "")).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(answer.body.contains("Candidate D, rank"));
    assert!(answer.body.contains(r#"name="rating-1" value="5" checked"#));
    assert!(answer.body.contains(">fine</textarea>"));
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn drafts_are_kept_and_two_windows_do_not_overwrite_each_other(db: PgPool) {
    let project = fake::project(&db, 1, 4, 1, 3600).await;
    let app = TestApp::new(db);
    let robot = app.program("robot", &[Role::Labeler]).await;
    let path = format!("/api/v1/projects/{project}/assignments");
    let leased = robot.send_json("POST", &path, &[], &json!({})).await;
    assert_eq!(leased.status, StatusCode::CREATED);
    let id = leased.json()["id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/assignments/{id}/draft");
    let draft = json!({"candidates": [{"position": 2, "rank": 1}], "revision": 0});
    let saved = robot.send_json("PUT", &path, &[], &draft).await;
    assert_eq!(
        (saved.status, saved.json()["revision"].as_i64()),
        (StatusCode::OK, Some(1))
    );
    // Sent again because the answer was lost: it is there already, and conflicts with nothing.
    let again = robot.send_json("PUT", &path, &[], &draft).await;
    assert_eq!(
        (again.status, again.json()["revision"].as_i64()),
        (StatusCode::OK, Some(1))
    );
    let other = json!({"candidates": [{"position": 3, "rank": 1}], "revision": 0});
    let stale = robot.send_json("PUT", &path, &[], &other).await;
    assert_eq!(stale.status, StatusCode::CONFLICT);
    let page = robot.get(&format!("/rank/{id}")).await;
    assert!(page.body.contains(r#"name="rank-2" value="1" checked"#));
    let wrong = json!({"candidates": [{"position": 9, "rank": 1}], "surprise": 1});
    assert_eq!(
        robot.send_json("PUT", &path, &[], &wrong).await.status,
        StatusCode::UNPROCESSABLE_ENTITY
    );
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_skip_gives_the_place_to_somebody_else_and_needs_a_reason(db: PgPool) {
    fake::project(&db, 1, 4, 1, 3600).await;
    let app = TestApp::new(db);
    let (ada, bob) = (app.labeler("ada").await, app.labeler("bob").await);
    let path = ada.open_task().await;
    assert_eq!(
        bob.post("/work", "").await.location.as_deref(),
        Some("/work"),
        "nothing is waiting for bob"
    );
    assert_eq!(
        bob.get(&path).await.status,
        StatusCode::NOT_FOUND,
        "ada's assignment is not bob's"
    );
    let answer = ada.post(&path, "action=skip&reason=").await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        ada.post(&path, "action=skip&reason=unclear_prompt")
            .await
            .status,
        StatusCode::SEE_OTHER
    );
    assert_eq!(
        ada.post("/work", "").await.location.as_deref(),
        Some("/work"),
        "ada never gets it again"
    );
    assert!(bob.open_task().await.starts_with("/rank/"));
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn late_work_is_kept_beside_the_one_who_took_the_place(db: PgPool) {
    fake::project(&db, 1, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let (ada, bob) = (app.labeler("ada").await, app.labeler("bob").await);
    let path = ada.open_task().await;
    sqlx::query("UPDATE assignments SET lease_until = now() - interval '1 second'")
        .execute(&db)
        .await
        .unwrap();
    let theirs = bob.open_task().await;
    assert_eq!(ada.post(&path, FORM).await.status, StatusCode::SEE_OTHER);
    assert_eq!(bob.post(&theirs, FORM).await.status, StatusCode::SEE_OTHER);
    let rows: Vec<(bool, Option<i16>)> = sqlx::query_as(
        "SELECT is_late, place FROM assignments WHERE status = 'submitted' ORDER BY is_late",
    )
    .fetch_all(&db)
    .await
    .unwrap();
    assert_eq!(rows, [(false, Some(0)), (true, None)]);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn an_expired_lease_comes_back_to_its_labeler_with_the_draft(db: PgPool) {
    fake::project(&db, 1, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let path = ada.open_task().await;
    ada.post(&path, &FORM.replace("submit", "save")).await;
    sqlx::query("UPDATE assignments SET lease_until = now() - interval '1 second'")
        .execute(&db)
        .await
        .unwrap();
    assert_eq!(ada.open_task().await, path);
    assert!(
        ada.get(&path)
            .await
            .body
            .contains(r#"name="rating-1" value="5" checked"#)
    );
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn time_spent_before_a_lease_was_renewed_counts_on(db: PgPool) {
    fake::project(&db, 1, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let path = ada.open_task().await;
    // Half an hour later, 25 minutes of it at work, the lease is over; it is renewed five minutes ago.
    let earlier =
        "UPDATE assignments SET opened_at = now() - interval '30 minutes', active_ms = 1500000,
        lease_until = now() - interval '1 second'";
    sqlx::query(earlier).execute(&db).await.unwrap();
    assert_eq!(ada.open_task().await, path);
    ada.get(&path).await;
    sqlx::query("UPDATE assignments SET opened_at = now() - interval '5 minutes'")
        .execute(&db)
        .await
        .unwrap();
    let form = format!("{FORM}&active_ms=1740000&idle_ms=3600000");
    assert_eq!(ada.post(&path, &form).await.status, StatusCode::SEE_OTHER);
    let (active, all): (i64, i64) =
        sqlx::query_as("SELECT active_ms, active_ms + idle_ms FROM rankings")
            .fetch_one(&db)
            .await
            .unwrap();
    assert_eq!(active, 29 * 60_000);
    assert!((30 * 60_000..31 * 60_000).contains(&all), "{all}");
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn what_a_labeler_said_cannot_be_changed_or_deleted(db: PgPool) {
    fake::project(&db, 1, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let path = ada.open_task().await;
    ada.post(&path, FORM).await;
    for statement in [
        "UPDATE ratings SET rank = 1",
        "DELETE FROM ratings",
        "DELETE FROM rankings",
        "UPDATE candidates SET slot = slot + 1",
    ] {
        let error = sqlx::query(statement).execute(&db).await.unwrap_err();
        assert!(
            error.to_string().contains("never changed"),
            "{statement}: {error}"
        );
    }
}

/// Whatever writes it: a rating is of a candidate of the task that was ranked, in its slot.
#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_rating_of_what_was_not_shown_is_refused(db: PgPool) {
    fake::project(&db, 2, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let path = ada.open_task().await;
    ada.post(&path, FORM).await;
    let other = "INSERT INTO ratings (ranking_id, completion_id, slot, rank)
        SELECT r.id, c.completion_id, c.slot, 1
        FROM rankings r
        JOIN assignments a ON a.id = r.assignment_id
        JOIN candidates c ON c.task_id <> a.task_id
        LIMIT 1";
    let error = sqlx::query(other).execute(&db).await.unwrap_err();
    assert!(
        error.to_string().contains("of a candidate of its task"),
        "{error}"
    );
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_text_that_the_database_cannot_hold_is_refused_in_words(db: PgPool) {
    fake::project(&db, 1, 4, 1, 3600).await;
    let app = TestApp::new(db);
    let ada = app.labeler("ada").await;
    let path = ada.open_task().await;
    for form in [
        FORM.replace("note=fine", "note=%00"),
        "action=skip&reason=unclear_prompt&skip_note=%00".to_owned(),
    ] {
        let answer = ada.post(&path, &form).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(answer.body.contains("U+0000"), "{}", answer.body);
    }
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn the_api_is_described_and_refuses_in_problem_json(db: PgPool) {
    let project = fake::project(&db, 1, 4, 1, 3600).await;
    let app = TestApp::new(db);
    let description = app.anonymous().get("/api/v1/openapi.json").await.json();
    for path in [
        "/api/v1/projects/{id}/assignments",
        "/api/v1/assignments/{id}/draft",
        "/api/v1/assignments/{id}/submission",
    ] {
        assert!(description["paths"][path].is_object(), "{path}");
    }
    let robot = app.program("robot", &[Role::Labeler]).await;
    let answer = robot
        .send_json("POST", "/api/v1/assignments/nonsense/skip", &[], &json!({}))
        .await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.headers["content-type"], "application/problem+json");

    let path = format!("/api/v1/projects/{project}/assignments");
    let leased = robot.send_json("POST", &path, &[], &json!({})).await;
    let path = format!(
        "{}/submission",
        leased.headers["location"].to_str().unwrap()
    );
    for (body, field) in [
        (
            json!({"candidates": [{"position": 1, "rank": "first"}]}),
            "candidates[0].rank",
        ),
        (json!({"candidates": [], "surprise": 1}), "surprise"),
        (
            json!({"candidates": [{"rank": 1}]}),
            "candidates[0].position",
        ),
    ] {
        let answer = robot.send_json("POST", &path, &[], &body).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        let problem = answer.json();
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
        assert!(problem["errors"][0]["message"].is_string(), "{problem}");
    }
}
