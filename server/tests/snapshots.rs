//! Snapshots and exports: frozen, hashed, the same bytes every time; simulated labelers stay out
//! unless asked for.

use axum::http::StatusCode;
use server::domain::ids::{ProjectId, SnapshotId};
use server::domain::role::Role;
use server::domain::snapshot::{Selection, SnapshotKind};
use server::exchange::export::{create_snapshot, write_snapshot};
use server::exchange::import::{FileFormat, import};
use server::exchange::records::ImportKind;
use server::store;
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use trainer::records::RankedPrompt;

use crate::support::{TestApp, fake};

async fn simulate(db: &PgPool, n: u64) -> u64 {
    let mut connection = db.acquire().await.unwrap();
    let project = store::projects::find_by_slug(&mut connection, "study")
        .await
        .unwrap()
        .unwrap();
    drop(connection);
    server::commands::simulate::simulate(db, &project, 2, 0.1, 1, n)
        .await
        .unwrap()
}

fn selection(project_id: ProjectId, include_simulated: bool) -> Selection {
    Selection {
        project_id,
        kind: SnapshotKind::Rankings,
        name: "first / try".to_owned(),
        categories: Vec::new(),
        include_simulated,
        reviewed_categories: false,
        include_personal: false,
        labels: server::domain::snapshot::Labels::default(),
        filters: server::domain::snapshot_filters::Filters::default(),
    }
}

async fn written(db: &PgPool, id: SnapshotId) -> (String, String) {
    let mut connection = db.acquire().await.unwrap();
    let mut bytes = Vec::new();
    let sha256 = write_snapshot(&mut connection, id, &mut bytes)
        .await
        .unwrap();
    assert_eq!(sha256, hex::encode(Sha256::digest(&bytes)));
    (sha256, String::from_utf8(bytes).unwrap())
}

/// Ranks the next task as somebody, through the API.
async fn rank(app: &TestApp, name: &str, project: ProjectId) {
    let robot = app.program(name, &[Role::Labeler]).await;
    let path = format!("/api/v1/projects/{project}/assignments");
    let lease = robot
        .send_json("POST", &path, &[], &serde_json::json!({}))
        .await;
    assert_eq!(lease.status, StatusCode::CREATED, "{}", lease.body);
    let id = lease.json()["id"].as_str().unwrap().to_owned();
    let candidates: Vec<_> = (1..=4)
        .map(|position| serde_json::json!({"position": position, "rank": position.min(3)}))
        .collect();
    let path = format!("/api/v1/assignments/{id}/submission");
    let body = serde_json::json!({"candidates": candidates, "note": "a close call"});
    let answer = robot
        .send_json("POST", &path, &[("idempotency-key", "k1")], &body)
        .await;
    assert!(answer.status.is_success(), "{}", answer.body);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn the_same_snapshot_is_the_same_bytes_whatever_happens_later(db: PgPool) {
    let project = fake::project(&db, 6, 4, 2, 3600).await;
    let app = TestApp::new(db.clone());
    rank(&app, "ada", project).await;
    rank(&app, "bob", project).await;
    let id = create_snapshot(&db, &selection(project, false), None)
        .await
        .unwrap();
    let (sha256, text) = written(&db, id).await;
    assert_eq!(text.lines().count(), 2);
    rank(&app, "cleo", project).await;
    simulate(&db, 4).await;
    assert_eq!(written(&db, id).await, (sha256.clone(), text.clone()));
    let mut connection = db.acquire().await.unwrap();
    let snapshot = store::snapshots::find(&mut connection, id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(snapshot.sha256, sha256);
    assert_eq!((snapshot.n_items, snapshot.n_prompts), (2, 1));

    let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(line["id"], "p0");
    assert_eq!(line["form_version"], 1);
    assert_eq!(line["guidelines_version"], 1);
    assert!(line.get("simulated").is_none());
    assert_eq!(line["display_order"].as_array().unwrap().len(), 4);
    let ranked: RankedPrompt = serde_json::from_value(line).unwrap();
    assert_eq!(ranked.completions.len(), 4);
    let mut ranks: Vec<u32> = ranked.completions.iter().map(|item| item.rank).collect();
    ranks.sort_unstable();
    assert_eq!(ranks, [1, 2, 3, 3]);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn simulated_rankings_are_left_out_unless_asked_for_and_marked_where_they_are(db: PgPool) {
    let project = fake::project(&db, 5, 4, 2, 3600).await;
    let app = TestApp::new(db.clone());
    rank(&app, "ada", project).await;
    assert_eq!(simulate(&db, 100).await, 9, "every place that was left");
    let people = create_snapshot(&db, &selection(project, false), None)
        .await
        .unwrap();
    let all = create_snapshot(&db, &selection(project, true), None)
        .await
        .unwrap();
    let (_, people) = written(&db, people).await;
    let (_, all) = written(&db, all).await;
    assert_eq!((people.lines().count(), all.lines().count()), (1, 10));
    assert_eq!(all.matches("\"simulated\":true").count(), 9);
    let n: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM accounts WHERE is_simulated AND password_hash IS NULL",
    )
    .fetch_one(&db)
    .await
    .unwrap();
    assert_eq!(n, 2);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn an_empty_selection_is_refused(db: PgPool) {
    let project = fake::project(&db, 1, 4, 1, 3600).await;
    let refused = create_snapshot(&db, &selection(project, true), None).await;
    let refusal = refused.unwrap_err().to_string();
    assert!(refusal.contains("nothing matches"), "{refusal}");
    let n: i64 = sqlx::query_scalar("SELECT count(*) FROM snapshots")
        .fetch_one(&db)
        .await
        .unwrap();
    assert_eq!(n, 0);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn an_export_can_be_imported_and_says_the_same(db: PgPool) {
    let project = fake::project(&db, 3, 4, 1, 3600).await;
    simulate(&db, 3).await;
    let id = create_snapshot(&db, &selection(project, true), None)
        .await
        .unwrap();
    let (_, text) = written(&db, id).await;
    // Without the key that tells this database that it has the ranking already.
    let mut lines = String::new();
    for line in text.lines() {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        line.as_object_mut().unwrap().shift_remove("ranking_id");
        lines += &format!("{line}\n");
    }
    let mut transaction = db.begin().await.unwrap();
    let other = store::projects::insert(&mut transaction, "copy", "Copy", 1, 60)
        .await
        .unwrap();
    let copy = store::projects::find(&mut transaction, other)
        .await
        .unwrap()
        .unwrap();
    let source = std::io::Cursor::new(lines.into_bytes());
    let kind = ImportKind::Rankings;
    let report = import(&mut transaction, &copy, kind, FileFormat::Jsonl, source)
        .await
        .unwrap();
    assert!(report.is_clean(), "{report:?}");
    transaction.commit().await.unwrap();

    let people = create_snapshot(&db, &selection(other, false), None).await;
    assert!(people.is_err(), "what was simulated stays simulated");
    let id = create_snapshot(&db, &selection(other, true), None)
        .await
        .unwrap();
    let (_, again) = written(&db, id).await;
    let said = |text: &str| -> Vec<String> {
        let parse = |line| serde_json::from_str::<RankedPrompt>(line).unwrap();
        let ranked = text.lines().map(parse);
        let words = |item: &trainer::records::RankedCompletion| {
            format!(
                "{} {:?} {} {:?} {:?}",
                item.text, item.model, item.rank, item.rating, item.flags
            )
        };
        ranked
            .map(|line| {
                let items: Vec<String> = line.completions.iter().map(words).collect();
                format!(
                    "{} {:?} {:?} {}",
                    line.id,
                    line.prompt,
                    line.split,
                    items.join("|")
                )
            })
            .collect()
    };
    assert_eq!(said(&text), said(&again));
    let mut transaction = db.begin().await.unwrap();
    let source = std::io::Cursor::new(text.into_bytes());
    let twice = import(&mut transaction, &copy, kind, FileFormat::Jsonl, source)
        .await
        .unwrap();
    assert_eq!(twice.problems.len(), 3);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn an_admin_takes_a_snapshot_and_downloads_it_in_both_formats(db: PgPool) {
    let project = fake::project(&db, 2, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    rank(&app, "ada", project).await;
    let admin = app.admin().await;
    let form = "project=study&name=May+be+%22x%22&kind=rankings";
    let made = admin.post("/snapshots", form).await;
    assert_eq!(made.status, StatusCode::SEE_OTHER, "{}", made.body);
    let path = made.location.unwrap();
    let id: SnapshotId = path.rsplit('/').next().unwrap().parse().unwrap();
    let (sha256, text) = written(&db, id).await;
    let page = admin.get(&path).await;
    assert!(page.body.contains(&sha256), "{}", page.body);
    assert!(admin.get("/snapshots").await.body.contains(&sha256[..12]));

    let file = admin.get(&format!("{path}/export?format=rankings")).await;
    assert_eq!((file.status, &file.body), (StatusCode::OK, &text));
    let name = file.headers["content-disposition"].to_str().unwrap();
    assert!(
        name.starts_with("attachment; filename=\"study-May-be--x--"),
        "{name}"
    );
    // Ranks 1, 2, 3, 3: five strict pairs.
    let pairs = admin.get(&format!("{path}/export?format=trl")).await.body;
    assert_eq!(pairs.lines().count(), 5);
    for line in pairs.lines() {
        let pair: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(pair["prompt"][0]["content"], "What is 0 + 1?");
        assert_ne!(pair["chosen"][0]["content"], pair["rejected"][0]["content"]);
    }
    let wrong = admin.get(&format!("{path}/export?format=parquet")).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    let empty = admin
        .post("/snapshots", "project=study&name=x&kind=texts")
        .await;
    assert_eq!(empty.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(empty.body.contains("nothing matches"));
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn labelers_see_no_snapshot_and_operators_no_export(db: PgPool) {
    let project = fake::project(&db, 1, 4, 1, 3600).await;
    simulate(&db, 1).await;
    let id = create_snapshot(&db, &selection(project, true), None)
        .await
        .unwrap();
    let app = TestApp::new(db);
    let ada = app.labeler("ada").await;
    let operator = app.operator().await;
    for path in ["/snapshots".to_owned(), format!("/snapshots/{id}")] {
        assert_eq!(ada.get(&path).await.status, StatusCode::FORBIDDEN);
        assert_eq!(operator.get(&path).await.status, StatusCode::OK);
    }
    let export = format!("/snapshots/{id}/export");
    assert_eq!(ada.get(&export).await.status, StatusCode::FORBIDDEN);
    assert_eq!(operator.get(&export).await.status, StatusCode::FORBIDDEN);
    let robot = app.program("robot", &[Role::Admin]).await;
    let listed = robot.get("/api/v1/snapshots").await.json();
    assert_eq!(listed[0]["id"], id.to_string());
    let file = robot.get(&format!("/api/v1{export}")).await;
    assert_eq!(file.body.lines().count(), 1);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn the_demo_is_seeded_once_and_its_links_sign_in(db: PgPool) {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        server::commands::demo::seed(&db, folder.path())
            .await
            .unwrap();
    }
    let count = async |statement: &'static str| -> i64 {
        sqlx::query_scalar(statement).fetch_one(&db).await.unwrap()
    };
    assert_eq!(count("SELECT count(*) FROM projects").await, 1);
    assert!(count("SELECT count(*) FROM prompts").await >= 80);
    assert!(count("SELECT count(DISTINCT category) FROM prompts").await == 10);
    assert!(count("SELECT count(*) FROM demonstrations").await >= 60);
    assert!(count("SELECT count(*) FROM texts").await > 0);
    let people = "SELECT count(*) FROM accounts WHERE NOT is_simulated";
    assert_eq!(count(people).await, 3);
    // A newcomer meets each kind of work among the first tasks that have a place for them.
    let first: Vec<String> = sqlx::query_scalar(
        "SELECT kind FROM tasks WHERE purpose = 'label' AND n_held < overlap ORDER BY sort_key, id LIMIT 8",
    )
    .fetch_all(&db)
    .await
    .unwrap();
    let expected = [
        "rank",
        "rank",
        "compare",
        "demonstrate",
        "demonstrate",
        "review",
        "rank",
        "rank",
    ];
    assert_eq!(first, expected);
    let few_shot = "SELECT count(*) FROM tasks WHERE brief ->> 'kind' = 'few_shot'";
    assert_eq!(count(few_shot).await, 1);
    server::commands::demo::print_links(&db, "http://127.0.0.1:8080")
        .await
        .unwrap();
    assert_eq!(count("SELECT count(*) FROM sign_in_links").await, 3);
}

/// A snapshot of before notes were exported: its lines, and with them its hash, stay.
#[sqlx::test(migrator = "server::MIGRATOR")]
async fn notes_are_exported_and_older_snapshots_keep_their_bytes(db: PgPool) {
    let project = fake::project(&db, 1, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    rank(&app, "ada", project).await;
    let id = create_snapshot(&db, &selection(project, false), None)
        .await
        .unwrap();
    let (_, lines) = written(&db, id).await;
    let note = r#","note":"a close call""#;
    assert!(lines.contains(note), "{lines}");
    let chosen = r#","chosen_by":"oldest""#;
    assert!(lines.contains(chosen), "{lines}");
    let older = lines.replace(note, "").replace(chosen, "");
    let sha256 = hex::encode(Sha256::digest(&older));
    let sealed = format!("UPDATE snapshots SET line_format = 1, sha256 = '{sha256}'");
    fake::rewrite(&db, &sealed).await;
    assert_eq!(written(&db, id).await.1, older);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_name_that_is_taken_gets_a_number(db: PgPool) {
    let project = fake::project(&db, 2, 4, 1, 3600).await;
    simulate(&db, 2).await;
    let app = TestApp::new(db.clone());
    let operator = app.operator().await;
    let form = "project=study&name=+May+&kind=rankings&include_simulated=true";
    for name in ["May", "May (2)", "May (3)"] {
        let made = operator.post("/snapshots", form).await;
        assert_eq!(made.status, StatusCode::SEE_OTHER, "{}", made.body);
        let page = operator.get(&made.location.unwrap()).await;
        assert!(page.body.contains(&format!("<h1>{name} <")), "no {name}");
    }
    // Those who take one at the same moment are told so, and none of them gets the other's name.
    let selection = selection(project, true);
    let all =
        futures_util::future::join_all((0..4).map(|_| create_snapshot(&db, &selection, None)));
    let all = all.await;
    assert!(all.iter().any(Result::is_ok), "{all:?}");
    for refusal in all.into_iter().filter_map(Result::err) {
        let message = refusal.to_string();
        assert!(message.contains("at the same moment"), "{message}");
    }
    let n_twins: i64 =
        sqlx::query_scalar("SELECT count(*) - count(DISTINCT (project_id, name)) FROM snapshots")
            .fetch_one(&db)
            .await
            .unwrap();
    assert_eq!(n_twins, 0);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn twins_from_before_names_were_unique_are_numbered(db: PgPool) {
    let project = fake::project(&db, 0, 4, 1, 3600).await;
    sqlx::raw_sql(
        "ALTER TABLE snapshots DROP CONSTRAINT snapshots_project_id_name_key;
         DROP TRIGGER snapshots_stay_as_sealed ON snapshots",
    )
    .execute(&db)
    .await
    .unwrap();
    for name in ["all", "all", "all (2)", "all"] {
        sqlx::query("INSERT INTO snapshots (id, project_id, kind, name, n_items, n_prompts, sha256) VALUES ($1, $2, 'prompts', $3, 1, 1, 'x')")
            .bind(SnapshotId::new().0)
            .bind(project.0)
            .bind(name)
            .execute(&db)
            .await
            .unwrap();
    }
    sqlx::raw_sql(include_str!(
        "../../migrations/20261125010000_make_snapshot_names_unique.sql"
    ))
    .execute(&db)
    .await
    .unwrap();
    let names: Vec<String> = sqlx::query_scalar("SELECT name FROM snapshots ORDER BY id")
        .fetch_all(&db)
        .await
        .unwrap();
    assert_eq!(names, ["all", "all (3)", "all (2)", "all (4)"]);
}
