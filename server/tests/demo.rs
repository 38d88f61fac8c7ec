//! The demo at its first start: four simulated labelers of known quality have ranked a part of it, so that there is
//! something true to see on every page, and the rest waits for people.

use axum::http::StatusCode;
use serde_json::Value;
use server::commands::simulate::{Crowd, study};
use server::domain::role::Role;
use server::domain::simulation::utility;
use server::store;
use sqlx::PgPool;

use crate::support::TestApp;

async fn seeded(db: &PgPool) -> TestApp {
    let folder = tempfile::tempdir().unwrap();
    server::commands::demo::seed(db, folder.path())
        .await
        .unwrap();
    TestApp::new(db.clone())
}

async fn count(db: &PgPool, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement).fetch_one(db).await.unwrap()
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn simulated_labelers_have_ranked_a_part_and_the_rest_waits_for_people(db: PgPool) {
    let _app = seeded(&db).await;
    // Each has ranked the same thirty tasks and every gold task.
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(
        "SELECT u.name, count(*) FILTER (WHERE t.purpose = 'label'), count(*) FILTER (WHERE t.purpose = 'gold')
         FROM assignments a JOIN accounts u ON u.id = a.labeler_id JOIN tasks t ON t.id = a.task_id
         WHERE a.status = 'submitted' GROUP BY u.name ORDER BY u.name",
    )
    .fetch_all(&db)
    .await
    .unwrap();
    let names = [
        "A, wrong in 5 %",
        "B, wrong in 5 %",
        "C, wrong in 20 %",
        "D, wrong in 40 %",
    ];
    let expected = names.map(|name| (format!("Simulated labeler {name}"), 30, 4));
    assert_eq!(rows, expected);
    let waiting = "SELECT count(*) FROM tasks WHERE purpose = 'label' AND n_held < overlap";
    assert!(count(&db, waiting).await > 160);
    let gold = "SELECT count(*) FROM tasks WHERE purpose = 'gold'";
    assert_eq!(count(&db, gold).await, 4);
    // New tasks are for one labeler again, and little of the work is gold.
    let settings: (i16, f32) = sqlx::query_as("SELECT overlap, gold_share FROM projects")
        .fetch_one(&db)
        .await
        .unwrap();
    assert_eq!(settings, (1, 0.05));
    let told = "SELECT count(*) FROM audit_events WHERE action = 'simulated'";
    assert_eq!(count(&db, told).await, 1);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn what_is_told_of_them_is_what_they_are(db: PgPool) {
    let _app = seeded(&db).await;
    let mut connection = db.acquire().await.unwrap();
    let project = store::projects::find_by_slug(&mut connection, "demo")
        .await
        .unwrap()
        .unwrap();
    let crowd = Crowd {
        first: 101,
        error_rates: vec![0.05, 0.05, 0.2, 0.4],
    };
    let found = study(&db, &project, &crowd).await.unwrap();
    assert_eq!(found.labelers.len(), 4);
    // Of four 95 % intervals one may miss what is to be expected.
    let holds = found.labelers.iter().filter(|own| {
        let (low, high) = own.told.interval().unwrap();
        (low..=high).contains(&own.expected.unwrap())
    });
    assert!(holds.count() >= 3, "{:?}", found.labelers);
    let told = found.labelers.iter().map(|own| own.told.value.unwrap());
    let told: Vec<f64> = told.collect();
    assert!(
        told[0].min(told[1]) > told[2] && told[2] > told[3],
        "{told:?}"
    );
}

/// What is known of the gold tasks is what simulated labelers hold to be better, too: else a careful one would
/// look like a poor one.
#[test]
fn simulated_labelers_can_be_right_about_the_gold_tasks() {
    let work: Value = serde_json::from_str(include_str!("../demo/work.json")).unwrap();
    let lines = include_str!("../demo/candidates.jsonl").lines();
    let prompts: Vec<Value> = lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let gold = work["gold"].as_array().unwrap();
    assert!(gold.len() > 2);
    for task in gold {
        let prompt = prompts.iter().find(|prompt| prompt["id"] == task["prompt"]);
        let prompt = prompt.unwrap();
        let worth = |known: &Value| {
            let slot = known["slot"].as_u64().unwrap() as usize;
            let text = prompt["completions"][slot]["text"].as_str().unwrap();
            utility(prompt["prompt"].as_str().unwrap(), text)
        };
        let known = task["candidates"].as_array().unwrap();
        for better in known {
            for worse in known {
                if better["rank"].as_u64() < worse["rank"].as_u64() {
                    assert!(worth(better) > worth(worse), "{}", task["prompt"]);
                }
            }
        }
    }
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn the_first_pages_show_figures_and_say_who_made_them(db: PgPool) {
    let app = seeded(&db).await;
    let admin = app.client("zoe", &[Role::Admin, Role::Operator]).await;
    for path in ["/agreement", "/models"] {
        let page = admin.get(path).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.body);
        assert!(
            page.body.contains("rest on what simulated labelers said"),
            "{path}: {}",
            page.body
        );
        let people = admin.get(&format!("{path}?simulated=false")).await;
        assert!(people.body.contains("is left out of these figures"));
    }
    let agreement = admin.get("/agreement").await.body;
    assert!(agreement.contains("120 rankings of 30 prompts by 4 labelers"));
    assert!(agreement.contains("badge-simulated"));
    let models = admin.get("/models").await.body;
    assert!(models.contains("2 models in 120 rankings"), "{models}");
    let cases = admin.get("/adjudication").await.body;
    assert!(cases.contains("Simulated labelers have ranked here too"));
    assert!(!cases.contains("No task with these properties"));
    let case = cases.split("href=\"/adjudication/").nth(1).unwrap();
    let case = case.split('"').next().unwrap();
    let case = admin.get(&format!("/adjudication/{case}")).await.body;
    assert!(case.contains("badge-simulated"));
    let gold = admin.get("/gold").await.body;
    assert!(gold.contains("demo-0055") && gold.contains("badge-simulated"));
    let guidelines = admin.get("/guidelines").await.body;
    assert!(guidelines.contains("Ask a question about this task"));
}
