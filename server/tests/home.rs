//! A labeler's home: what waits, what they did and how long it took, how fast they are, and how far they
//! agree with what is known.

use chrono::{Duration, Utc};
use serde_json::json;
use server::domain::ids::{AccountId, ProjectId};
use server::store;
use sqlx::PgPool;

use crate::support::{TestApp, fake};

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn what_waits_is_told_by_project_and_kind(db: PgPool) {
    fake::project(&db, 3, 4, 1, 3600).await;
    sqlx::query("UPDATE projects SET slug = 'first', name = 'First'")
        .execute(&db)
        .await
        .unwrap();
    let id = fake::project(&db, 4, 4, 1, 3600).await;
    sqlx::query("UPDATE tasks SET kind = 'review' WHERE project_id = $1 AND id IN (SELECT id FROM tasks WHERE project_id = $1 LIMIT 1)")
        .bind(id.0)
        .execute(&db)
        .await
        .unwrap();
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let home = ada.get("/").await.body;
    let text = words(&home);
    assert!(text.contains("First 3 to rank"), "{text}");
    assert!(text.contains("Study 3 to rank · 1 to review"), "{text}");
    assert!(text.contains("0 submitted today"), "{text}");
    assert!(text.contains("Shown once you have done 5 tasks"), "{text}");
    ada.open_task().await;
    let text = words(&ada.get("/").await.body);
    assert!(
        text.contains("You have a task in hand.") && text.contains("Go on with your task"),
        "{text}"
    );
    assert!(text.contains("First 2 to rank"), "{text}");
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn what_waits_goes_down_with_a_gold_task_as_with_any_other(db: PgPool) {
    let project = fake::project(&db, 4, 4, 1, 3600).await;
    let one = "UPDATE tasks SET purpose = 'gold' WHERE id = (SELECT id FROM tasks WHERE project_id = $1 LIMIT 1)";
    sqlx::query(one).bind(project.0).execute(&db).await.unwrap();
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let before = words(&ada.get("/").await.body);
    assert!(before.contains("Study 3 to rank"), "{before}");
    sqlx::query(
        "INSERT INTO assignments (id, task_id, labeler_id, place, display_order, guidelines_version, form_version, lease_until)
         SELECT $1, t.id, a.id, 0, '{0,1,2,3}', 1, 1, now() + interval '1 hour'
         FROM tasks t CROSS JOIN accounts a
         WHERE t.purpose = 'gold' AND a.email LIKE 'ada%'",
    )
    .bind(uuid::Uuid::now_v7())
    .execute(&db)
    .await
    .unwrap();
    let after = words(&ada.get("/").await.body);
    assert!(after.contains("Study 2 to rank"), "{after}");
}

/// The words of a page's main part, with single blanks.
fn words(body: &str) -> String {
    let page = scraper::Html::parse_document(body);
    let main = scraper::Selector::parse("main").unwrap();
    let text: String = page
        .select(&main)
        .flat_map(|main| main.text())
        .collect::<Vec<_>>()
        .join(" ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A submission that ended so long ago, with its times in seconds.
async fn submitted(
    db: &PgPool,
    task: uuid::Uuid,
    who: AccountId,
    ago: Duration,
    times: (i64, i64, i64),
) -> uuid::Uuid {
    let id = uuid::Uuid::now_v7();
    let (active, idle, leased) = times;
    let ended = Utc::now() - ago;
    sqlx::query(
        "INSERT INTO assignments (id, task_id, labeler_id, place, status, display_order, guidelines_version, form_version,
                                  leased_at, lease_until, ended_at, active_ms, idle_ms)
         VALUES ($1, $2, $3, (SELECT n_held FROM tasks WHERE id = $2), 'submitted', '{0,1,2,3}', 1, 1, $4, $5, $6, $7, $8)",
    )
    .bind(id)
    .bind(task)
    .bind(who.0)
    .bind(ended - Duration::seconds(leased))
    .bind(ended + Duration::hours(1))
    .bind(ended)
    .bind(active * 1000)
    .bind(idle * 1000)
    .execute(db)
    .await
    .unwrap();
    id
}

async fn tasks(db: &PgPool, project: ProjectId) -> Vec<uuid::Uuid> {
    sqlx::query_scalar("SELECT id FROM tasks WHERE project_id = $1 ORDER BY sort_key")
        .bind(project.0)
        .fetch_all(db)
        .await
        .unwrap()
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn time_is_told_as_it_was_spent_and_pace_is_the_median(db: PgPool) {
    let project = fake::project(&db, 6, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let who = ada.account_id.unwrap();
    let tasks = tasks(&db, project).await;
    let now = Duration::zero();
    submitted(&db, tasks[0], who, now, (60, 30, 120)).await;
    submitted(&db, tasks[1], who, now, (30, 0, 40)).await;
    submitted(&db, tasks[2], who, Duration::days(3), (100, 5, 200)).await;
    // Older than the page looks back, and without a counted time.
    submitted(&db, tasks[3], who, Duration::days(30), (0, 0, 50)).await;
    // Skipped today: its time counts, its task does not.
    let skipped = submitted(&db, tasks[4], who, now, (20, 10, 60)).await;
    sqlx::query("UPDATE assignments SET status = 'skipped', place = NULL, skip_reason = 'other' WHERE id = $1")
        .bind(skipped)
        .execute(&db)
        .await
        .unwrap();
    let mut connection = db.acquire().await.unwrap();
    let days = store::home::list_days(&mut connection, who).await.unwrap();
    assert_eq!(days.len(), 14);
    assert_eq!(days[13].day, Utc::now().date_naive());
    let of = |day: &store::home::Day| (day.submitted, day.active_ms, day.idle_ms, day.leased_ms);
    assert_eq!(of(&days[13]), (2, 110_000, 40_000, 220_000));
    assert_eq!(of(&days[10]), (1, 100_000, 5_000, 200_000));
    assert_eq!(of(&days[12]), (0, 0, 0, 0));
    let paces = store::home::list_paces(&mut connection, who).await.unwrap();
    assert_eq!(paces.len(), 1);
    assert_eq!(
        (paces[0].kind.as_str(), paces[0].n, paces[0].median_ms),
        ("rank", 3, 60_000.0)
    );
    let text = words(&ada.get("/").await.body);
    assert!(text.contains("2 submitted today"), "{text}");
    assert!(
        text.contains("Active 1 min 50 s Idle 40 s Held 3 min 40 s"),
        "{text}"
    );
    assert!(text.contains("to rank 1 min median of 3"), "{text}");
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_lease_that_ran_out_was_held_no_longer_than_it_lasted(db: PgPool) {
    fake::project(&db, 1, 4, 1, 60).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    ada.open_task().await;
    sqlx::query("UPDATE assignments SET leased_at = now() - interval '100 s', lease_until = now() - interval '40 s'")
        .execute(&db)
        .await
        .unwrap();
    let mut connection = db.acquire().await.unwrap();
    let days = store::home::list_days(&mut connection, ada.account_id.unwrap())
        .await
        .unwrap();
    let leased: i64 = days.iter().map(|day| day.leased_ms).sum();
    assert_eq!(leased, 60_000);
}

/// A gold task whose answer is 1, 2, 3, 4, ranked by somebody.
async fn gold(db: &PgPool, task: uuid::Uuid, who: AccountId, ago: Duration, ranks: [i16; 4]) {
    sqlx::query("UPDATE tasks SET purpose = 'gold' WHERE id = $1")
        .bind(task)
        .execute(db)
        .await
        .unwrap();
    let answer = json!({"candidates": [{"slot": 0, "rank": 1}, {"slot": 1, "rank": 2}, {"slot": 2, "rank": 3}, {"slot": 3, "rank": 4}]});
    sqlx::query("INSERT INTO gold_answers (task_id, version, answer) VALUES ($1, 1, $2)")
        .bind(task)
        .bind(answer)
        .execute(db)
        .await
        .unwrap();
    let assignment = submitted(db, task, who, ago, (10, 0, 10)).await;
    let ranking = uuid::Uuid::now_v7();
    sqlx::query("INSERT INTO rankings (id, assignment_id, version, idempotency_key, request_sha256) VALUES ($1, $2, 1, 'k', '')")
        .bind(ranking)
        .bind(assignment)
        .execute(db)
        .await
        .unwrap();
    sqlx::query(
        "INSERT INTO ratings (ranking_id, completion_id, slot, rank)
         SELECT $1, c.completion_id, c.slot, ($3::SMALLINT[])[c.slot + 1] FROM candidates c WHERE c.task_id = $2",
    )
    .bind(ranking)
    .bind(task)
    .bind(&ranks[..])
    .execute(db)
    .await
    .unwrap();
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn agreement_with_gold_is_shown_from_five_tasks_and_never_moves_within_a_day(db: PgPool) {
    let project = fake::project(&db, 6, 4, 10, 3600).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let who = ada.account_id.unwrap();
    let tasks = tasks(&db, project).await;
    let days_ago = Duration::days(2);
    for task in &tasks[..4] {
        gold(&db, *task, who, days_ago, [1, 2, 3, 4]).await;
    }
    assert!(words(&ada.get("/").await.body).contains("Shown once you have done 5"));
    // Today's is wrong in everything, and does not show before tomorrow: which tasks are gold stays unknown.
    gold(&db, tasks[4], who, Duration::zero(), [4, 3, 2, 1]).await;
    assert!(words(&ada.get("/").await.body).contains("Shown once you have done 5"));
    // One of its six pairs is reversed, and one is tied.
    gold(&db, tasks[5], who, days_ago, [2, 1, 2, 3]).await;
    let own = store::home::find_gold(&mut db.acquire().await.unwrap(), who)
        .await
        .unwrap();
    assert_eq!(
        (own.n_tasks, own.ranks.n, own.ranks.agreed),
        (5, 30, 24.0 + 4.5)
    );
    let text = words(&ada.get("/").await.body);
    assert!(text.contains("95 % of 30 pairs in 5 tasks"), "{text}");
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn guidelines_come_first_only_where_a_task_waits(db: PgPool) {
    let project = fake::project(&db, 1, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let mut connection = db.acquire().await.unwrap();
    let text = json!({"en": "# Be fairer"});
    store::projects::insert_guidelines(&mut connection, project, &text, None)
        .await
        .unwrap();
    drop(connection);
    let first = "Read these before your next task";
    let text = words(&ada.get("/").await.body);
    assert!(text.contains(first), "{text}");
    assert!(ada.open_task().await.starts_with("/guidelines#"));
    sqlx::query("UPDATE tasks SET closed_at = now()")
        .execute(&db)
        .await
        .unwrap();
    let text = words(&ada.get("/").await.body);
    assert!(!text.contains(first), "{text}");
    assert_eq!(ada.open_task().await, "/work");
    // They are there to be read all the same.
    let page = ada.get("/guidelines").await.body;
    assert!(page.contains("Be fairer"), "{page}");
    assert!(!page.contains("waits to be read"), "{page}");
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn what_was_answered_in_a_screening_is_no_work(db: PgPool) {
    let project = fake::project(&db, 3, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let who = ada.account_id.unwrap();
    let tasks = tasks(&db, project).await;
    let now = Duration::zero();
    submitted(&db, tasks[0], who, now, (60, 30, 120)).await;
    submitted(&db, tasks[1], who, now, (600, 300, 1200)).await;
    for statement in [
        "UPDATE tasks SET purpose = 'screening' WHERE id = $1",
        "WITH screening AS (
             INSERT INTO screenings (id, project_id, account_id, status, started_at)
             SELECT gen_random_uuid(), t.project_id, a.labeler_id, 'started', now()
             FROM tasks t JOIN assignments a ON a.task_id = t.id
             WHERE t.id = $1
             RETURNING id
         )
         INSERT INTO screening_items (screening_id, position, task_id, source_id)
         SELECT id, 0, $1, $1 FROM screening",
    ] {
        let statement = sqlx::query(statement).bind(tasks[1]);
        statement.execute(&db).await.unwrap();
    }
    let text = words(&ada.get("/").await.body);
    assert!(text.contains("1 submitted today"), "{text}");
    assert!(text.contains("Active 1 min Idle 30 s"), "{text}");
    assert!(text.contains("to rank 1 min median of 1"), "{text}");
    let page = words(&ada.get(&ada.open_task().await).await.body);
    assert!(page.contains("1 submitted today"), "{page}");
}
