//! The queue of runs: one worker for each run, events without gaps, streams that lose nothing,
//! and workers that die.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::StatusCode;
use serde_json::{Value, json};
use server::config::DataConfig;
use server::domain::ids::{CheckpointId, ProjectId, RunId, SnapshotId};
use server::domain::role::Role;
use server::store;
use server::store::runs::{Ending, NewRun, Run};
use server::worker::claim::Worker;
use server::worker::supervise::{Supervisor, WorkerProgram};
use sqlx::PgPool;

use crate::support::{TestApp, fake};

/// Queues `n` runs of one project, which no worker could carry out.
pub(crate) async fn queue(db: &PgPool, n: usize) -> Vec<RunId> {
    let project_id = fake::project(db, 1, 4, 1, 60).await;
    let checkpoint = CheckpointId::new();
    sqlx::query("INSERT INTO checkpoints (id, kind, name, path, architecture, n_parameters, sha256) VALUES ($1, 'base', 'none', '/nowhere', 'LlamaForCausalLM', 1, '')")
        .bind(checkpoint.0)
        .execute(db)
        .await
        .unwrap();
    let mut connection = db.acquire().await.unwrap();
    let snapshot = snapshot_of_nothing(&mut connection, project_id).await;
    let mut ids = Vec::new();
    for number in 0..n {
        let run = NewRun {
            project_id,
            kind: "sft",
            name: &format!("run {number}"),
            preset: "tiny",
            config: &json!({}),
            snapshot_id: snapshot,
            texts_snapshot_id: None,
            demonstrations_snapshot_id: None,
            base_checkpoint_id: checkpoint,
            reward_checkpoint_id: None,
            gold_checkpoint_id: None,
            created_by: None,
        };
        ids.push(store::runs::insert(&mut connection, &run).await.unwrap());
    }
    ids
}

async fn snapshot_of_nothing(db: &mut sqlx::PgConnection, project_id: ProjectId) -> SnapshotId {
    let id = SnapshotId::new();
    sqlx::query("INSERT INTO snapshots (id, project_id, kind, name, n_items, n_prompts, sha256) VALUES ($1, $2, 'demonstrations', 'none', 0, 0, repeat('0', 64))")
        .bind(id.0)
        .bind(project_id.0)
        .execute(db)
        .await
        .unwrap();
    id
}

pub(crate) fn worker(db: &PgPool, name: &str) -> Worker {
    let data = DataConfig {
        database_url: None,
        data_dir: Some(std::env::temp_dir().join("plackett-runs-test")),
    };
    Worker {
        db: db.clone(),
        data,
        name: name.to_owned(),
    }
}

async fn find(db: &PgPool, id: RunId) -> Run {
    let mut connection = db.acquire().await.unwrap();
    store::runs::find(&mut connection, id)
        .await
        .unwrap()
        .unwrap()
}

fn lines(from: usize, to: usize) -> Vec<(String, Value)> {
    (from..to)
        .map(|number| {
            (
                "log".to_owned(),
                json!({"message": format!("line {number}")}),
            )
        })
        .collect()
}

pub(crate) async fn record(
    db: &PgPool,
    id: RunId,
    worker: &str,
    events: &[(String, Value)],
) -> Option<bool> {
    let mut transaction = db.begin().await.unwrap();
    let asked = store::runs::record(&mut transaction, id, worker, events)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    asked
}

pub(crate) async fn finish(db: &PgPool, id: RunId, worker: &str, ending: Ending) -> bool {
    let mut transaction = db.begin().await.unwrap();
    let is_ours = store::runs::finish(&mut transaction, id, worker, &ending)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    is_ours
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn two_workers_never_claim_the_same_run(db: PgPool) {
    let queued: BTreeSet<RunId> = queue(&db, 40).await.into_iter().collect();
    let claiming = (0..8).map(|number| {
        let worker = worker(&db, &format!("worker {number}"));
        tokio::spawn(async move {
            let mut claimed = Vec::new();
            while let Some(run) = worker.claim_next().await.unwrap() {
                assert_eq!(run.worker.as_deref(), Some(worker.name.as_str()));
                claimed.push(run.id);
            }
            claimed
        })
    });
    let mut all = Vec::new();
    for claimed in claiming.collect::<Vec<_>>() {
        all.extend(claimed.await.unwrap());
    }
    assert_eq!(all.len(), 40, "no run was claimed twice");
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>(), queued);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn events_of_writers_at_once_are_numbered_without_gaps(db: PgPool) {
    let id = queue(&db, 1).await[0];
    worker(&db, "w").claim_next().await.unwrap().unwrap();
    let writers = (0..8).map(|writer| {
        let db = db.clone();
        tokio::spawn(async move {
            for batch in 0..10 {
                let mut transaction = db.begin().await.unwrap();
                let events = lines(batch * 3, batch * 3 + 3);
                store::runs::record(&mut transaction, id, "w", &events)
                    .await
                    .unwrap();
                // A transaction that does not come to its end must not use up numbers.
                match (writer + batch) % 4 {
                    0 => transaction.rollback().await.unwrap(),
                    _ => transaction.commit().await.unwrap(),
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let mut connection = db.acquire().await.unwrap();
    let events = store::run_events::list_after(&mut connection, id, 0, 10_000)
        .await
        .unwrap();
    let numbers: Vec<i64> = events.iter().map(|event| event.seq).collect();
    assert_eq!(numbers, (1..=2 + 60 * 3).collect::<Vec<i64>>());
}

/// The ids and kinds of a stream's events.
fn parse_stream(body: &str) -> Vec<(Option<i64>, String)> {
    let blocks = body.split("\n\n").filter(|block| block.contains("event:"));
    blocks
        .map(|block| {
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
            let id = field("id:").map(|id| id.trim().parse().unwrap());
            (id, field("event:").unwrap().trim().to_owned())
        })
        .collect()
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_broken_stream_goes_on_after_the_last_event_seen(db: PgPool) {
    let id = queue(&db, 1).await[0];
    worker(&db, "w").claim_next().await.unwrap().unwrap();
    record(&db, id, "w", &lines(0, 1200)).await;
    finish(&db, id, "w", Ending::Finished(json!({"n": 1}))).await;
    let app = TestApp::new(db);
    let operator = app.operator().await;
    let path = format!("/runs/{id}/events");

    let whole = parse_stream(&operator.get(&path).await.body);
    let ids: Vec<i64> = whole.iter().filter_map(|(id, _)| *id).collect();
    assert_eq!(ids, (1..=1203).collect::<Vec<i64>>());
    assert_eq!(whole.last(), Some(&(None, "end".to_owned())));

    let request = operator
        .request("GET", &format!("{path}?after=3"))
        .header("last-event-id", "700");
    let rest = operator.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(rest.headers["content-type"], "text/event-stream");
    let rest = parse_stream(&rest.body);
    assert_eq!(rest, whole[700..]);
    let after = parse_stream(&operator.get(&format!("{path}?after=1203")).await.body);
    assert_eq!(after, [(None, "end".to_owned())]);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn an_open_stream_hears_what_happens_later_and_ends_with_the_run(db: PgPool) {
    let id = queue(&db, 1).await[0];
    worker(&db, "w").claim_next().await.unwrap().unwrap();
    let app = TestApp::new(db.clone());
    let operator = app.operator().await;
    let path = format!("/runs/{id}/events?after=2");
    let writing = async {
        for number in 0..50 {
            record(&db, id, "w", &lines(number, number + 1)).await;
        }
        finish(&db, id, "w", Ending::Failed("no more\u{0} disk".to_owned())).await;
    };
    let (stream, ()) = tokio::join!(operator.get(&path), writing);
    let events = parse_stream(&stream.body);
    let ids: Vec<i64> = events.iter().filter_map(|(id, _)| *id).collect();
    assert_eq!(ids, (3..=53).collect::<Vec<i64>>());
    assert_eq!(events[50].1, "status");
    assert!(stream.body.contains("no more"));
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_silent_worker_loses_its_run_and_cannot_come_back(db: PgPool) {
    let id = queue(&db, 1).await[0];
    let (lost, other) = (worker(&db, "lost"), worker(&db, "other"));
    lost.claim_next().await.unwrap().unwrap();
    assert!(other.claim_next().await.unwrap().is_none());
    assert_eq!(find(&db, id).await.status, "running");

    sqlx::query("UPDATE runs SET heartbeat_at = now() - interval '31 seconds'")
        .execute(&db)
        .await
        .unwrap();
    assert!(other.claim_next().await.unwrap().is_none());
    let run = find(&db, id).await;
    assert_eq!(run.status, "failed");
    assert_eq!(run.error.as_deref(), Some("the worker stopped reporting"));

    assert_eq!(record(&db, id, "lost", &lines(0, 1)).await, None);
    assert!(!finish(&db, id, "lost", Ending::Finished(json!({}))).await);
    assert_eq!(find(&db, id).await.status, "failed");
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_worker_that_is_busy_gives_up_the_run_of_a_silent_one_too(db: PgPool) {
    let ids = queue(&db, 2).await;
    let (lost, busy) = (worker(&db, "lost"), worker(&db, "busy"));
    lost.claim_next().await.unwrap().unwrap();
    busy.claim_next().await.unwrap().unwrap();
    sqlx::query(
        "UPDATE runs SET heartbeat_at = now() - interval '31 seconds' WHERE worker = 'lost'",
    )
    .execute(&db)
    .await
    .unwrap();
    busy.watch_others().await.unwrap();
    assert_eq!(find(&db, ids[0]).await.status, "failed");
    assert_eq!(find(&db, ids[1]).await.status, "running");
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_queued_run_is_cancelled_at_once_and_a_running_one_hears_of_it(db: PgPool) {
    let ids = queue(&db, 2).await;
    let app = TestApp::new(db.clone());
    let operator = app.operator().await;
    let running = worker(&db, "w").claim_next().await.unwrap().unwrap();
    assert_eq!(running.id, ids[0], "the oldest comes first");

    for id in &ids {
        let answer = operator.post(&format!("/runs/{id}/cancel"), "").await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER);
    }
    assert_eq!(find(&db, ids[1]).await.status, "cancelled");
    assert!(worker(&db, "w").claim_next().await.unwrap().is_none());
    assert_eq!(find(&db, ids[0]).await.status, "running");
    assert_eq!(record(&db, ids[0], "w", &lines(0, 1)).await, Some(true));
    let mut connection = db.acquire().await.unwrap();
    let asked = store::runs::heartbeat(&mut connection, ids[0], "w")
        .await
        .unwrap();
    assert_eq!(asked, Some(true));

    finish(&db, ids[0], "w", Ending::Cancelled).await;
    let again = operator.post(&format!("/runs/{}/cancel", ids[0]), "").await;
    assert_eq!(again.status, StatusCode::CONFLICT);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_run_that_cannot_start_fails_with_a_sentence(db: PgPool) {
    let id = queue(&db, 1).await[0];
    worker(&db, "w")
        .run(&Default::default(), true)
        .await
        .unwrap();
    let run = find(&db, id).await;
    assert_eq!(run.status, "failed");
    let error = run.error.unwrap();
    assert!(
        error.contains("SHA-256") || error.contains("bytes"),
        "{error}"
    );
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_worker_that_dies_leaves_its_last_words_on_its_run(db: PgPool) {
    let id = queue(&db, 1).await[0];
    let app = TestApp::new(db.clone());
    let folder = tempfile::tempdir().unwrap();
    let pipe = |name: &str| {
        let path = folder.path().join(name);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        path
    };
    let (names, go) = (pipe("names"), pipe("go"));
    // Says its name, waits until it has a run, and dies.
    let script = r#"printf %s "$PLACKETT_WORKER_NAME" > "$0"; read -r line < "$1"
        echo "reading weights" >&2; echo "memory is full" >&2; kill -9 $$"#;
    let program = WorkerProgram {
        program: "/bin/sh".into(),
        arguments: vec![
            "-c".into(),
            script.into(),
            names.clone().into(),
            go.clone().into(),
        ],
        environment: Vec::new(),
    };
    let mut follower = app.state.run_feed.follow(id);
    let supervisor = Supervisor::start(db.clone(), program);
    let name = tokio::fs::read_to_string(&names).await.unwrap();
    let claimed = worker(&db, &name).claim_next().await.unwrap().unwrap();
    assert_eq!(claimed.id, id);
    tokio::fs::write(&go, "go\n").await.unwrap();
    while !find(&db, id).await.is_over() {
        follower.wait().await;
    }
    let run = find(&db, id).await;
    assert_eq!(run.status, "failed");
    let error = run.error.unwrap();
    assert!(
        error.ends_with("reading weights\nmemory is full"),
        "{error}"
    );
    assert!(error.contains("signal: 9"), "{error}");
    let page = app.operator().await.get(&format!("/runs/{id}")).await;
    assert!(page.body.contains("memory is full"), "{}", page.body);
    supervisor.stop().await;
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_worker_keeps_its_pipe_until_the_server_ends(db: PgPool) {
    let folder = tempfile::tempdir().unwrap();
    let answer = folder.path().join("answer");
    nix::unistd::mkfifo(&answer, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // `timeout` says 124 when the pipe is still open, 0 when it is closed. The last line ends
    // when the pipe does.
    let script = r#"timeout 0.3 cat; printf %s $? > "$0"; cat"#;
    let program = WorkerProgram {
        program: "/bin/sh".into(),
        arguments: vec!["-c".into(), script.into(), answer.clone().into()],
        environment: Vec::new(),
    };
    let supervisor = Supervisor::start(db, program);
    let said = tokio::fs::read_to_string(&answer).await.unwrap();
    assert_eq!(said, "124");
    supervisor.stop().await;
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn runs_and_checkpoints_are_for_operators(db: PgPool) {
    let id = queue(&db, 1).await[0];
    let app = TestApp::new(db);
    let outsider = app.client("ada", &[Role::Labeler, Role::Admin]).await;
    let operator = app.operator().await;
    let run = format!("/runs/{id}");
    for path in ["/runs", "/runs/new?kind=ppo", run.as_str(), "/checkpoints"] {
        assert_eq!(
            outsider.get(path).await.status,
            StatusCode::FORBIDDEN,
            "{path}"
        );
        assert_eq!(operator.get(path).await.status, StatusCode::OK, "{path}");
    }
    for path in [format!("{run}/events"), format!("{run}/files/config.json")] {
        assert_eq!(
            outsider.get(&path).await.status,
            StatusCode::FORBIDDEN,
            "{path}"
        );
    }
    let nothing = format!("/runs/{}", RunId::new());
    for path in [
        nothing.clone(),
        format!("{nothing}/events"),
        format!("{run}/files/passwd"),
    ] {
        assert_eq!(
            operator.get(&path).await.status,
            StatusCode::NOT_FOUND,
            "{path}"
        );
    }
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn what_simulated_labelers_said_is_marked_wherever_a_run_reads_it(db: PgPool) {
    let id = queue(&db, 1).await[0];
    let app = TestApp::new(db.clone());
    let operator = app.operator().await;
    sqlx::query("UPDATE checkpoints SET run_id = $1")
        .bind(id.0)
        .execute(&db)
        .await
        .unwrap();
    let checkpoint: uuid::Uuid = sqlx::query_scalar("SELECT id FROM checkpoints")
        .fetch_one(&db)
        .await
        .unwrap();
    let pages = [
        "/runs/new?kind=sft".to_owned(),
        format!("/runs/{id}"),
        format!("/checkpoints/{checkpoint}"),
    ];
    for includes in [false, true] {
        let change = format!("UPDATE snapshots SET includes_simulated = {includes}");
        fake::rewrite(&db, &change).await;
        for path in &pages {
            let page = operator.get(path).await;
            assert_eq!(page.status, StatusCode::OK, "{path}");
            let is_marked = page.body.contains("with simulated");
            assert_eq!(is_marked, includes, "{path}");
        }
    }
}
