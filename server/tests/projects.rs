//! What researchers set by page: settings and the order of the queue, the form, guidelines and consent,
//! members; and what each of these does for labelers.

use std::io::Cursor;

use axum::http::StatusCode;
use serde_json::{Value, json};
use server::domain::ids::CheckpointId;
use server::domain::role::Role;
use server::domain::snapshot::{Selection, SnapshotKind};
use server::exchange::export::create_snapshot;
use server::exchange::import::{FileFormat, import};
use server::exchange::records::ImportKind;
use server::store;
use sqlx::PgPool;

use crate::support::{Answer, TestApp, fake};

/// A settings form with some fields changed.
pub(crate) fn settings(changes: &[(&str, &str)]) -> String {
    let defaults = [
        ("name", "Study"),
        ("candidates", "4"),
        ("overlap", "1"),
        ("lease_seconds", "3600"),
        ("least_seconds", "10"),
        ("gold_percent", "0"),
        ("repeat_percent", "0"),
        ("repeat_after_days", "7"),
        ("evaluation_percent", "20"),
        ("next_task", "oldest"),
        ("is_open", "true"),
    ];
    let mut fields: Vec<(&str, &str)> = defaults.to_vec();
    for (name, value) in changes {
        fields.retain(|(known, _)| known != name);
        fields.push((name, value));
    }
    encode(&fields)
}

/// Fields as a browser sends them.
pub(crate) fn encode(fields: &[(&str, &str)]) -> String {
    let mut url = reqwest::Url::parse("http://localhost/").unwrap();
    url.query_pairs_mut().extend_pairs(fields);
    url.query().unwrap_or_default().to_owned()
}

pub(crate) fn found(answer: &Answer) -> &str {
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
    answer.location.as_deref().unwrap()
}

async fn import_candidates(db: &PgPool, lines: &str) {
    let mut transaction = db.begin().await.unwrap();
    let project = store::projects::find_by_slug(&mut transaction, "study")
        .await
        .unwrap()
        .unwrap();
    let source = Cursor::new(lines.as_bytes().to_vec());
    let (kind, format) = (ImportKind::Candidates, FileFormat::Jsonl);
    let report = import(&mut transaction, &project, kind, format, source)
        .await
        .unwrap();
    assert!(report.is_clean(), "{:?}", report.problems);
    transaction.commit().await.unwrap();
}

fn candidates(id: &str, category: &str) -> String {
    let completions = ["a", "b", "c", "d"].map(|text| json!({"text": text, "model": "m"}));
    let line = json!({"id": id, "prompt": id, "category": category, "completions": completions});
    format!("{line}\n")
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn an_admin_makes_a_project_and_changes_its_settings(db: PgPool) {
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    assert_eq!(admin.get("/projects/new").await.status, StatusCode::OK);
    let wrong = format!("slug=A%20b&{}", settings(&[("overlap", "0"), ("name", "")]));
    let refused = admin.post("/projects", &wrong).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    for id in ["slug", "overlap", "name"] {
        assert!(refused.body.contains(&format!("href=\"#{id}\"")), "{id}");
    }
    let made = admin
        .post("/projects", &format!("slug=pilot&{}", settings(&[])))
        .await;
    let path = found(&made).to_owned();
    let taken = admin
        .post("/projects", &format!("slug=pilot&{}", settings(&[])))
        .await;
    assert_eq!(taken.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(taken.body.contains("another project has this short name"));

    let form = settings(&[
        ("name", "The pilot"),
        ("candidates", "6"),
        ("gold_percent", "2.5"),
        ("overlap_chat", "3"),
        ("is_open", "false"),
    ]);
    let saved = admin.post(&path, &form).await;
    let page = admin.get(found(&saved)).await;
    assert!(page.body.contains("Saved.") && page.body.contains("value=\"2.5\""));
    let row: (String, i16, f32, Value, bool) = sqlx::query_as(
        "SELECT name, candidates, gold_share, overlap_by_category, is_open FROM projects",
    )
    .fetch_one(&db)
    .await
    .unwrap();
    assert_eq!(
        row,
        ("The pilot".to_owned(), 6, 0.025, json!({"chat": 3}), false)
    );

    let refused = admin
        .post(
            &path,
            &settings(&[("lease_seconds", "604801"), ("overlap_chat", "x")]),
        )
        .await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.body.contains("must be 1 to 604800"));
    assert!(
        refused
            .body
            .contains("Labelers of a task, chat: this is not a number")
    );
    // What was typed is still there, and nothing was changed.
    assert!(refused.body.contains("value=\"604801\""));
    let name: String = sqlx::query_scalar("SELECT name FROM projects")
        .fetch_one(&db)
        .await
        .unwrap();
    assert_eq!(name, "The pilot");
    // A project of the page has the standard form from the beginning.
    let versions: Vec<i32> = sqlx::query_scalar("SELECT version FROM forms")
        .fetch_all(&db)
        .await
        .unwrap();
    assert_eq!(versions, [1]);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn the_page_of_a_new_project_shows_what_the_table_begins_with(db: PgPool) {
    let id = fake::project(&db, 0, 4, 1, 3600).await;
    let mut connection = db.acquire().await.unwrap();
    let found = store::projects::find_settings(&mut connection, id)
        .await
        .unwrap()
        .unwrap();
    let new = store::projects::Settings::new("Study");
    assert_eq!(format!("{found:?}"), format!("{new:?}"));
}

/// Prompts in the order of the queue, with the reason for their place.
async fn queue(db: &PgPool) -> Vec<(String, String)> {
    sqlx::query_as(
        "SELECT p.external_id, t.chosen_by FROM tasks t JOIN prompts p ON p.id = t.prompt_id
         WHERE t.closed_at IS NULL ORDER BY t.sort_key, t.id",
    )
    .fetch_all(db)
    .await
    .unwrap()
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn the_order_of_the_queue_can_be_drawn_and_undone(db: PgPool) {
    let id = fake::project(&db, 40, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    let by_age = queue(&db).await;
    let path = format!("/projects/{id}");
    found(
        &admin
            .post(&path, &settings(&[("next_task", "random")]))
            .await,
    );
    let drawn = queue(&db).await;
    assert!(drawn.iter().all(|(_, why)| why == "random"));
    let ids = |queue: &[(String, String)]| -> Vec<String> {
        queue.iter().map(|one| one.0.clone()).collect()
    };
    assert_ne!(ids(&drawn), ids(&by_age));
    let mut sorted = (ids(&drawn), ids(&by_age));
    sorted.0.sort();
    sorted.1.sort();
    assert_eq!(sorted.0, sorted.1);

    // The first of the queue is what a labeler gets.
    let ada = app.labeler("ada").await;
    let task = ada.open_task().await;
    let prompt: String = sqlx::query_scalar("SELECT p.external_id FROM assignments a JOIN tasks t ON t.id = a.task_id JOIN prompts p ON p.id = t.prompt_id")
        .fetch_one(&db)
        .await
        .unwrap();
    assert_eq!(prompt, drawn[0].0, "{task}");

    // Those that come later fall into their places of the same order, and do not move the others.
    let more: String = (0..20)
        .map(|n| candidates(&format!("new-{n}"), "chat"))
        .collect();
    import_candidates(&db, &more).await;
    let mixed = ids(&queue(&db).await);
    let last_old = mixed.iter().rposition(|id| id.starts_with('p')).unwrap();
    let first_new = mixed.iter().position(|id| id.starts_with("new")).unwrap();
    assert!(first_new < last_old, "new tasks stand behind all others");
    let old: Vec<String> = mixed
        .iter()
        .filter(|id| id.starts_with('p'))
        .cloned()
        .collect();
    assert_eq!(old, ids(&drawn));

    // Where disagreement was measured, its places are kept; those that were drawn go by age.
    sqlx::query("UPDATE tasks SET chosen_by = 'informative', sort_key = -1 WHERE id = (SELECT id FROM tasks ORDER BY id DESC LIMIT 1)")
        .execute(&db)
        .await
        .unwrap();
    found(
        &admin
            .post(&path, &settings(&[("next_task", "informative")]))
            .await,
    );
    let informative = queue(&db).await;
    assert_eq!(
        informative[0],
        ("new-19".to_owned(), "informative".to_owned())
    );
    assert!(informative[1..].iter().all(|(_, why)| why == "oldest"));
    found(&admin.post(&path, &settings(&[])).await);
    let again = queue(&db).await;
    assert!(again.iter().all(|(_, why)| why == "oldest"));
    assert_eq!(ids(&again)[..40], ids(&by_age)[..]);
    found(
        &admin
            .post(&path, &settings(&[("next_task", "random")]))
            .await,
    );
    assert_eq!(ids(&queue(&db).await), mixed, "the order is drawn once");
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn the_draw_of_tasks_is_uniform(db: PgPool) {
    // Of 10,000 keys each tenth has 1,000 but for chance; 100 is more than three deviations.
    let counts: Vec<i64> = sqlx::query_scalar(
        "SELECT count(*) FROM generate_series(1, 10000) n GROUP BY floor(10 * random_key(md5(n::text)::uuid))",
    )
    .fetch_all(&db)
    .await
    .unwrap();
    assert_eq!(counts.len(), 10);
    assert!(counts.iter().all(|n| (n - 1000).abs() < 100), "{counts:?}");
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_new_task_has_the_overlap_of_its_category(db: PgPool) {
    let id = fake::project(&db, 1, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    let form = settings(&[
        ("overlap", "2"),
        ("overlap_chat", "3"),
        ("overlap_extract", "5"),
    ]);
    found(&admin.post(&format!("/projects/{id}"), &form).await);
    let lines = [("a", "chat"), ("b", "extract"), ("c", "rewrite")];
    let lines: String = lines
        .map(|(id, category)| candidates(id, category))
        .concat();
    import_candidates(&db, &lines).await;
    let overlaps: Vec<(String, i16)> = sqlx::query_as(
        "SELECT p.external_id, t.overlap FROM tasks t JOIN prompts p ON p.id = t.prompt_id ORDER BY 1",
    )
    .fetch_all(&db)
    .await
    .unwrap();
    let expected = [("a", 3), ("b", 5), ("c", 2), ("p0", 1)];
    assert_eq!(overlaps, expected.map(|(id, n)| (id.to_owned(), n)));
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_generation_run_follows_the_project_where_it_says_nothing_else(db: PgPool) {
    let id = fake::project(&db, 2, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    let form = settings(&[("candidates", "6"), ("overlap", "3")]);
    found(&admin.post(&format!("/projects/{id}"), &form).await);
    let selection = Selection {
        project_id: id,
        kind: SnapshotKind::Prompts,
        name: "all".to_owned(),
        categories: Vec::new(),
        include_simulated: false,
        reviewed_categories: false,
        include_personal: false,
        labels: server::domain::snapshot::Labels::default(),
        filters: server::domain::snapshot_filters::Filters::default(),
    };
    let snapshot = create_snapshot(&db, &selection, None).await.unwrap();
    let base = CheckpointId::new();
    sqlx::query("INSERT INTO checkpoints (id, kind, name, path, architecture, n_parameters, sha256) VALUES ($1, 'base', 'none', '/nowhere', 'LlamaForCausalLM', 1, '')")
        .bind(base.0)
        .execute(&db)
        .await
        .unwrap();
    let operator = app.operator().await;
    for typed in [
        "candidates=&overlap=",
        "candidates=5&overlap=2",
        "settings=%7B%22candidates%22%3A%207%7D",
    ] {
        let form = format!("kind=generation&name=g&snapshot={snapshot}&base={base}&{typed}");
        found(&operator.post("/runs", &form).await);
    }
    let configs: Vec<(Value, Option<Value>)> =
        sqlx::query_as("SELECT config -> 'candidates', config -> 'overlap' FROM runs ORDER BY id")
            .fetch_all(&db)
            .await
            .unwrap();
    let expected = [
        (json!(6), None),
        (json!(5), Some(json!(2))),
        (json!(7), None),
    ];
    assert_eq!(configs, expected);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn an_archived_project_is_out_of_sight_and_comes_back_whole(db: PgPool) {
    let id = fake::project(&db, 2, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    let ada = app.labeler("ada").await;
    let path = format!("/projects/{id}/archived");
    found(&admin.post(&path, "archived=true").await);
    assert_eq!(ada.open_task().await, "/work");
    assert!(!ada.get("/guidelines").await.body.contains("Be fair"));
    assert!(
        ada.get("/")
            .await
            .body
            .contains("Nothing is waiting for you")
    );
    assert!(admin.get("/projects").await.body.contains("archived"));
    assert_eq!(
        admin.get(&format!("/projects/{id}")).await.status,
        StatusCode::OK
    );
    let robot = app.program("robot", &[Role::Labeler]).await;
    assert_eq!(robot.get("/api/v1/projects").await.json(), json!([]));
    found(&admin.post(&path, "archived=false").await);
    assert!(ada.open_task().await.starts_with("/rank/"));
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_closed_task_is_opened_again_in_its_place(db: PgPool) {
    let id = fake::project(&db, 2, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    let tasks: Vec<(uuid::Uuid,)> = sqlx::query_as("SELECT id FROM tasks ORDER BY sort_key")
        .fetch_all(&db)
        .await
        .unwrap();
    for (task,) in &tasks {
        found(&admin.post(&format!("/tasks/{task}/close"), "").await);
    }
    let ada = app.labeler("ada").await;
    assert_eq!(ada.open_task().await, "/work");
    // The order changes while both are closed; what is opened again follows it.
    found(
        &admin
            .post(
                &format!("/projects/{id}"),
                &settings(&[("next_task", "random")]),
            )
            .await,
    );
    let page = admin.get("/tasks?state=closed").await.body;
    assert!(page.contains("/reopen"));
    assert_eq!(
        found(
            &admin
                .post(&format!("/tasks/{}/reopen", tasks[1].0), "")
                .await
        ),
        "/tasks?project=study"
    );
    assert_eq!(queue(&db).await, [("p1".to_owned(), "random".to_owned())]);
    assert!(ada.open_task().await.starts_with("/rank/"));
    let unknown = admin.post(&format!("/tasks/{id}/reopen"), "").await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
}
