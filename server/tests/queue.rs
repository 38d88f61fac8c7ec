//! The queue under load: 64 programs label 500 tasks with overlap 3 while the server is killed in
//! the middle. No place is held twice, no labeler twice on a task, no accepted submission is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::SeedableRng;
use serde_json::{Value, json};
use server::domain::ids::ProjectId;
use server::domain::role::Role;
use server::store;
use sqlx::PgPool;

use crate::support::fake;
use crate::support::program::Program;

const CLIENTS: usize = 64;
const TASKS: usize = 500;
const OVERLAP: i16 = 3;

async fn make_tokens(db: &PgPool) -> Vec<String> {
    let mut connection = db.acquire().await.unwrap();
    let mut tokens = Vec::new();
    for index in 0..CLIENTS {
        let email = format!("labeler{index}@example.org");
        let id = store::accounts::insert(&mut connection, &email, "L", &[Role::Labeler], false)
            .await
            .unwrap();
        let token = store::api_tokens::create(&mut connection, id, "test")
            .await
            .unwrap();
        tokens.push(token.reveal().to_owned());
    }
    drop(connection);
    fake::acknowledge(db).await;
    tokens
}

/// One program's day: lease, submit, repeat until every place is done. Repeats what got no answer.
async fn label(
    url: String,
    project: ProjectId,
    token: String,
    accepted: Arc<std::sync::Mutex<Vec<String>>>,
    n_accepted: Arc<AtomicUsize>,
) {
    let client = reqwest::Client::new();
    let post = |path: String| client.post(format!("{url}{path}")).bearer_auth(&token);
    while n_accepted.load(Ordering::SeqCst) < TASKS * OVERLAP as usize {
        let leased = post(format!("/api/v1/projects/{project}/assignments"))
            .send()
            .await;
        let Ok(leased) = leased else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        if leased.status() == 204 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        }
        assert_eq!(leased.status(), 201, "{}", leased.text().await.unwrap());
        let Ok(assignment) = leased.json::<Value>().await else {
            continue;
        };
        let id = assignment["id"].as_str().unwrap().to_owned();
        let ranks = (1..=4).map(|position| json!({"position": position, "rank": position.min(3)}));
        let body = json!({"candidates": ranks.collect::<Vec<_>>()});
        loop {
            let path = format!("/api/v1/assignments/{id}/submission");
            let answer = post(path)
                .header("idempotency-key", &id)
                .json(&body)
                .send()
                .await;
            let Ok(answer) = answer else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
            if let Ok(submitted) = answer.json::<Value>().await {
                accepted
                    .lock()
                    .unwrap()
                    .push(submitted["ranking_id"].as_str().unwrap().to_owned());
                n_accepted.fetch_add(1, Ordering::SeqCst);
                break;
            }
        }
    }
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn sixty_four_clients_and_a_killed_server_lose_and_double_nothing(db: PgPool) {
    // Short leases, so that those whose answer the kill swallowed come back.
    let project = fake::project(&db, TASKS, 4, OVERLAP, 3).await;
    let mut tokens = make_tokens(&db).await;
    // One labeler works with two programs at once.
    tokens.push(tokens[0].clone());
    let mut program = Program::start(&db, &["--no-worker"]).await;
    let accepted = Arc::new(std::sync::Mutex::new(Vec::new()));
    let n_accepted = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = tokens
        .into_iter()
        .map(|token| {
            tokio::spawn(label(
                program.url.clone(),
                project,
                token,
                accepted.clone(),
                n_accepted.clone(),
            ))
        })
        .collect();
    while n_accepted.load(Ordering::SeqCst) < TASKS {
        assert!(
            clients.iter().all(|client| !client.is_finished()),
            "a client failed before the kill"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    program.kill_and_restart(&db, &["--no-worker"]).await;
    for client in clients {
        client.await.unwrap();
    }

    let count = |sql: &'static str| {
        let db = db.clone();
        async move {
            sqlx::query_scalar::<_, i64>(sql)
                .fetch_one(&db)
                .await
                .unwrap()
        }
    };
    let accepted = accepted.lock().unwrap().clone();
    let kept: Vec<String> = sqlx::query_scalar("SELECT id::text FROM rankings")
        .fetch_all(&db)
        .await
        .unwrap();
    for id in &accepted {
        assert!(kept.contains(id), "accepted submission {id} is missing");
    }
    // Every assignment counts once, although submissions were repeated.
    assert_eq!(
        count("SELECT count(DISTINCT assignment_id) FROM rankings").await,
        kept.len() as i64
    );
    assert_eq!(
        count("SELECT count(*) FROM comparisons").await,
        kept.len() as i64 * 6
    );
    let over = "SELECT count(*) FROM (SELECT task_id FROM assignments WHERE place IS NOT NULL \
                GROUP BY task_id HAVING count(*) > 3 OR count(DISTINCT place) <> count(*)) AS t";
    assert_eq!(
        count(over).await,
        0,
        "a place is held twice, or a task has too many holders"
    );
    let twice = "SELECT count(*) FROM (SELECT 1 FROM assignments GROUP BY task_id, labeler_id HAVING count(*) > 1) AS t";
    assert_eq!(count(twice).await, 0, "a labeler has a task twice");
    let drift = "SELECT count(*) FROM tasks t WHERE n_held <> \
                 (SELECT count(*) FROM assignments a WHERE a.task_id = t.id AND a.place IS NOT NULL)";
    assert_eq!(
        count(drift).await,
        0,
        "n_held does not equal the places held"
    );
    let submitted =
        count("SELECT count(*) FROM assignments WHERE status = 'submitted' AND place IS NOT NULL")
            .await;
    assert!(
        submitted >= (TASKS * OVERLAP as usize) as i64 - CLIENTS as i64,
        "{submitted}"
    );
}

/// A task that was taken ahead and never opened comes again under the rules of that moment; one with a draft
/// keeps the form that the draft belongs to.
#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_task_that_comes_again_is_labelled_under_the_rules_in_force(db: PgPool) {
    let project = fake::project(&db, 1, 4, 2, 3600).await;
    let mut connection = db.acquire().await.unwrap();
    let mut rng = rand_chacha::ChaCha12Rng::seed_from_u64(1);
    let mut leases = Vec::new();
    for (name, draft) in [("ada", None), ("bob", Some(json!({"note": "half done"})))] {
        let email = format!("{name}@example.org");
        let id = store::accounts::insert(&mut connection, &email, name, &[Role::Labeler], false)
            .await
            .unwrap();
        fake::acknowledge(&db).await;
        let lease = store::queue::lease(&mut connection, project, id, &mut rng)
            .await
            .unwrap()
            .unwrap();
        sqlx::query("UPDATE assignments SET draft = $2 WHERE id = $1")
            .bind(lease.assignment_id.0)
            .bind(draft)
            .execute(&db)
            .await
            .unwrap();
        leases.push((id, lease.assignment_id));
    }
    sqlx::query("UPDATE assignments SET lease_until = now() - interval '1 second'")
        .execute(&db)
        .await
        .unwrap();
    let mut transaction = db.begin().await.unwrap();
    let words = json!({"en": "Be fair, and kind."});
    store::projects::insert_guidelines(&mut transaction, project, &words, None)
        .await
        .unwrap();
    store::projects::insert_form(&mut transaction, project, &json!({}))
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    fake::acknowledge(&db).await;
    for ((labeler, before), rules) in leases.into_iter().zip([(2, 2), (2, 1)]) {
        let again = store::queue::lease(&mut connection, project, labeler, &mut rng)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(again.assignment_id, before);
        let found: (i32, i32) = sqlx::query_as(
            "SELECT guidelines_version, form_version FROM assignments WHERE id = $1",
        )
        .bind(before.0)
        .fetch_one(&db)
        .await
        .unwrap();
        assert_eq!(found, rules);
    }
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn one_labeler_with_four_programs_gets_another_task_with_each_lease(db: PgPool) {
    let project = fake::project(&db, 40, 4, 2, 3600).await;
    let mut connection = db.acquire().await.unwrap();
    let roles = [Role::Labeler];
    let ada = store::accounts::insert(&mut connection, "ada@example.org", "Ada", &roles, false)
        .await
        .unwrap();
    drop(connection);
    fake::acknowledge(&db).await;
    let leasing = (0..4).map(|seed| {
        let db = db.clone();
        tokio::spawn(async move {
            let mut rng = rand_chacha::ChaCha12Rng::seed_from_u64(seed);
            let mut tasks = Vec::new();
            for _ in 0..10 {
                let mut connection = db.acquire().await.unwrap();
                let lease = store::queue::lease(&mut connection, project, ada, &mut rng)
                    .await
                    .unwrap()
                    .unwrap();
                tasks.push(lease.task_id);
                // Given back at once: an account holds few leases at a time.
                let id = lease.assignment_id;
                store::assignments::skip(&mut connection, id, ada, "unclear_prompt", "")
                    .await
                    .unwrap();
            }
            tasks
        })
    });
    let mut tasks = Vec::new();
    for one in leasing.collect::<Vec<_>>() {
        tasks.extend(one.await.unwrap());
    }
    tasks.sort_by_key(|id| id.0);
    tasks.dedup();
    assert_eq!(tasks.len(), 40, "every lease is of another task");
}

/// Counted by Postgres some time after the fact: a connection that rests tells it within ten seconds.
async fn deadlocks(db: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        .fetch_one(db)
        .await
        .unwrap()
}

/// A lease holds its account and waits for the last task, which somebody else holds; they wait for the account.
/// Postgres ends the lease's transaction, and the lease is tried again.
#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_lease_that_postgres_ended_for_a_deadlock_is_tried_again(db: PgPool) {
    let project = fake::project(&db, 1, 4, 1, 3600).await;
    let mut connection = db.acquire().await.unwrap();
    let roles = [Role::Labeler];
    let ada = store::accounts::insert(&mut connection, "ada@example.org", "Ada", &roles, false)
        .await
        .unwrap();
    drop(connection);
    fake::acknowledge(&db).await;
    let before = deadlocks(&db).await;

    let mut other = db.begin().await.unwrap();
    // The lease, which looks for a deadlock after the usual second, finds it first.
    sqlx::query("SET LOCAL deadlock_timeout = '60s'")
        .execute(&mut *other)
        .await
        .unwrap();
    sqlx::query("SELECT 1 FROM tasks FOR UPDATE")
        .execute(&mut *other)
        .await
        .unwrap();
    let pool = db.clone();
    let lease = tokio::spawn(async move {
        let mut connection = pool.acquire().await.unwrap();
        let mut rng = rand_chacha::ChaCha12Rng::seed_from_u64(1);
        store::queue::lease(&mut connection, project, ada, &mut rng).await
    });
    // Asked outside the transaction, which would see the same activity for ever.
    let waiting = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while sqlx::query_scalar::<_, i64>(waiting)
        .fetch_one(&db)
        .await
        .unwrap()
        == 0
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    sqlx::query("SELECT 1 FROM accounts WHERE id = $1 FOR UPDATE")
        .bind(ada.0)
        .execute(&mut *other)
        .await
        .expect("the other side goes on");
    other.rollback().await.unwrap();

    let lease = lease.await.unwrap().unwrap();
    assert!(lease.is_some(), "the task was free again");
    let held: i64 = sqlx::query_scalar("SELECT count(*) FROM assignments WHERE status = 'leased'")
        .fetch_one(&db)
        .await
        .unwrap();
    assert_eq!(held, 1);
    for _ in 0..1200 {
        if deadlocks(&db).await > before {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("there was no deadlock: this test shows nothing");
}
