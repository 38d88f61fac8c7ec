//! A run that is carried out twice, stopped, or goes on where it stopped.

use axum::http::StatusCode;
use server::domain::snapshot::SnapshotKind;
use server::store;
use server::store::runs::Run;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::support::TestApp;
use crate::training::{Place, assert_named};

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn the_same_run_twice_gives_the_same_checkpoint_and_its_files(db: PgPool) {
    let app = TestApp::new(db.clone());
    let place = Place::new(&app).await;
    let snapshot = place.snapshot(SnapshotKind::Demonstrations).await;
    let settings = "settings=%7B%22epochs%22%3A+1%7D";
    let form = format!("kind=sft&snapshot={snapshot}&{settings}");
    let (first, second) = (place.carry_out(&form).await, place.carry_out(&form).await);
    for run in [&first, &second] {
        assert_eq!((run.status.as_str(), &run.error), ("finished", &None));
        assert_eq!(run.config["epochs"], 1);
    }
    let mut connection = db.acquire().await.unwrap();
    let made = store::checkpoints::list(&mut connection).await.unwrap();
    let hashes: Vec<&str> = made
        .iter()
        .filter(|checkpoint| checkpoint.kind == "sft")
        .map(|checkpoint| checkpoint.sha256.as_str())
        .collect();
    assert_eq!(hashes.len(), 2);
    assert_eq!(hashes[0], hashes[1]);
    assert_named(&place.page(&first).await);

    let events = store::run_events::list_after(&mut connection, first.id, 0, 10_000)
        .await
        .unwrap();
    drop(connection);
    let numbers: Vec<i64> = events.iter().map(|event| event.seq).collect();
    assert_eq!(numbers, (1..=events.len() as i64).collect::<Vec<_>>());
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!((kinds[0], kinds[1]), ("status", "status"));
    assert_eq!(kinds[kinds.len() - 2..], ["checkpoint", "status"]);
    for kind in ["phase", "metrics", "log", "check"] {
        assert!(kinds.contains(&kind), "no {kind} in {kinds:?}");
    }
    let path = format!("/runs/{}/files", first.id);
    let config = place.operator.get(&format!("{path}/config.json")).await;
    assert_eq!(config.json()["epochs"], 1);
    let metrics = place.operator.get(&format!("{path}/metrics.jsonl")).await;
    assert!(metrics.body.lines().count() > 3);
    assert!(
        metrics.headers["content-disposition"]
            .to_str()
            .unwrap()
            .contains("attachment")
    );
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_running_run_stops_when_asked(db: PgPool) {
    let app = TestApp::new(db.clone());
    let place = Place::new(&app).await;
    let snapshot = place.snapshot(SnapshotKind::Demonstrations).await;
    let settings = "settings=%7B%22epochs%22%3A+1000%7D";
    let id = place
        .start(&format!("kind=sft&snapshot={snapshot}&{settings}"))
        .await;
    let mut follower = app.state.run_feed.follow(id);
    let worker = place.worker();
    let working = tokio::spawn(async move { worker.run(&CancellationToken::new(), true).await });
    while place.find(id).await.phase != "training" {
        assert!(
            !place.find(id).await.is_over(),
            "{:?}",
            place.find(id).await.error
        );
        follower.wait().await;
    }
    let answer = place.operator.post(&format!("/runs/{id}/cancel"), "").await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    working.await.unwrap().unwrap();
    let run = place.find(id).await;
    assert_eq!((run.status.as_str(), run.error), ("cancelled", None));
    let mut connection = db.acquire().await.unwrap();
    assert_eq!(
        store::checkpoints::find_of_run(&mut connection, id)
            .await
            .unwrap(),
        None
    );
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_run_that_was_stopped_goes_on_and_makes_what_it_would_have_made(db: PgPool) {
    let app = TestApp::new(db.clone());
    let place = Place::new(&app).await;
    let snapshot = place.snapshot(SnapshotKind::Demonstrations).await;
    let settings = "settings=%7B%22epochs%22%3A+40%7D";
    let form = format!("kind=sft&snapshot={snapshot}&{settings}");
    let straight = place.carry_out(&form).await;
    let refused = place
        .operator
        .post(&format!("/runs/{}/resume", straight.id), "")
        .await;
    assert_eq!(refused.status, StatusCode::CONFLICT);

    let id = place.start(&form).await;
    let mut follower = app.state.run_feed.follow(id);
    let worker = place.worker();
    let working = tokio::spawn(async move { worker.run(&CancellationToken::new(), true).await });
    while place.find(id).await.phase != "training" {
        follower.wait().await;
    }
    place.operator.post(&format!("/runs/{id}/cancel"), "").await;
    working.await.unwrap().unwrap();
    assert_eq!(place.find(id).await.status, "cancelled");
    let page = place.operator.get(&format!("/runs/{id}")).await.body;
    assert!(page.contains(&format!("/runs/{id}/resume")), "{page}");

    let again = place.operator.post(&format!("/runs/{id}/resume"), "").await;
    assert_eq!(again.status, StatusCode::SEE_OTHER, "{}", again.body);
    let worker = place.worker();
    worker.run(&CancellationToken::new(), true).await.unwrap();
    let run = place.find(id).await;
    assert_eq!((run.status.as_str(), &run.error), ("finished", &None));
    let mut connection = db.acquire().await.unwrap();
    let events = store::run_events::list_after(&mut connection, id, 0, 10_000)
        .await
        .unwrap();
    let went_on = |event: &store::run_events::RunEvent| {
        let line = event.data["message"].as_str();
        line.is_some_and(|line| line.starts_with("going on after step"))
    };
    assert!(events.iter().any(went_on), "it started anew");
    let made = store::checkpoints::list(&mut connection).await.unwrap();
    let hashes: Vec<&str> = made
        .iter()
        .filter(|checkpoint| checkpoint.kind == "sft")
        .map(|checkpoint| checkpoint.sha256.as_str())
        .collect();
    assert_eq!(hashes.len(), 2);
    assert_eq!(hashes[0], hashes[1]);
}

/// Postgres was away when the run came to its end, or its worker was killed then: the folder has a
/// whole checkpoint, and the database knows of none.
#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_run_that_trained_to_its_end_unheard_is_finished_without_training_again(db: PgPool) {
    let app = TestApp::new(db.clone());
    let place = Place::new(&app).await;
    let snapshot = place.snapshot(SnapshotKind::Demonstrations).await;
    let run = place
        .carry_out(&format!("kind=sft&snapshot={snapshot}"))
        .await;
    assert_eq!((run.status.as_str(), &run.error), ("finished", &None));
    let sha256 = find_sha256(&db, &run).await.unwrap();

    let last = forget_the_end(&db, &run).await;
    assert_eq!(find_sha256(&db, &run).await, None);
    go_on(&place, &run).await;
    let again = place.find(run.id).await;
    assert_eq!((again.status.as_str(), &again.error), ("finished", &None));
    assert_eq!(find_sha256(&db, &run).await, Some(sha256));
    for figure in ["held_out_loss", "n_train"] {
        assert!(again.summary[figure].is_f64(), "no {figure}");
        assert_eq!(again.summary[figure], run.summary[figure]);
    }
    let mut connection = db.acquire().await.unwrap();
    let events = store::run_events::list_after(&mut connection, run.id, last, 10_000)
        .await
        .unwrap();
    drop(connection);
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["status", "status", "log", "checkpoint", "status"]);

    // A folder that holds what another run made is not taken for this run's.
    forget_the_end(&db, &run).await;
    sqlx::query("UPDATE runs SET config = jsonb_set(config, '{seed}', '77')")
        .execute(&db)
        .await
        .unwrap();
    go_on(&place, &run).await;
    let other = place.find(run.id).await;
    assert_eq!(other.status, "failed");
    let error = other.error.unwrap();
    assert!(
        error.contains("other settings, data or models than this run's"),
        "{error}"
    );
    assert_eq!(find_sha256(&db, &run).await, None);
}

/// The SHA-256 of the checkpoint that the database knows of the run.
async fn find_sha256(db: &PgPool, run: &Run) -> Option<String> {
    sqlx::query_scalar("SELECT sha256 FROM checkpoints WHERE run_id = $1")
        .bind(run.id.0)
        .fetch_optional(db)
        .await
        .unwrap()
}

/// Leaves the run as if its end had never been written down; returns its last event's number.
async fn forget_the_end(db: &PgPool, run: &Run) -> i64 {
    let forgotten = [
        "DELETE FROM checkpoints WHERE run_id = $1",
        "UPDATE runs SET status = 'failed', error = 'the worker stopped reporting', summary = '{}' WHERE id = $1",
    ];
    for statement in forgotten {
        sqlx::query(statement)
            .bind(run.id.0)
            .execute(db)
            .await
            .unwrap();
    }
    let mut connection = db.acquire().await.unwrap();
    store::run_events::last_seq(&mut connection, run.id)
        .await
        .unwrap()
}

/// Presses "go on" on the run's page and lets a worker do it.
async fn go_on(place: &Place<'_>, run: &Run) {
    let path = format!("/runs/{}/resume", run.id);
    let answer = place.operator.post(&path, "").await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
    let worker = place.worker();
    worker.run(&CancellationToken::new(), true).await.unwrap();
}
