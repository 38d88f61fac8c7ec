//! Reviews of prompts by page and by API, and what they do to snapshots.

use axum::http::StatusCode;
use serde_json::{Value, json};
use server::domain::ids::ProjectId;
use server::domain::role::Role;
use server::domain::snapshot::{Selection, SnapshotKind};
use server::domain::task::TaskKind;
use server::exchange::export::{create_snapshot, write_snapshot};
use server::store;
use sqlx::PgPool;

use crate::support::{Client, TestApp, encode, fake};

const KIND: TaskKind = TaskKind::Review;

async fn project(db: &PgPool) -> ProjectId {
    fake::project(db, 0, 4, 1, 3600).await
}

fn selection(project_id: ProjectId, kind: SnapshotKind) -> Selection {
    Selection {
        project_id,
        kind,
        name: "all".to_owned(),
        categories: Vec::new(),
        include_simulated: true,
        reviewed_categories: false,
        include_personal: false,
        labels: server::domain::snapshot::Labels::default(),
        filters: server::domain::snapshot_filters::Filters::default(),
    }
}

/// Takes a snapshot; its lines, and how many records were left out.
async fn take(db: &PgPool, selection: &Selection) -> (Vec<Value>, i64) {
    let id = create_snapshot(db, selection, None).await.unwrap();
    let (mut connection, mut bytes) = (db.acquire().await.unwrap(), Vec::new());
    write_snapshot(&mut connection, id, &mut bytes)
        .await
        .unwrap();
    let snapshot = store::snapshots::find(&mut connection, id)
        .await
        .unwrap()
        .unwrap();
    let lines = String::from_utf8(bytes).unwrap();
    let parse = |line| serde_json::from_str(line).unwrap();
    (lines.lines().map(parse).collect(), snapshot.n_left_out)
}

const FIELDS: [(&str, &str); 10] = [
    ("category", "chat"),
    ("language", "zh"),
    ("flags.ambiguous", "no"),
    ("flags.intent_unclear", "yes"),
    ("flags.closed_domain", ""),
    ("personal_data", "yes"),
    ("found[0].kind", "email"),
    ("found[0].passage", " ada@example.org "),
    ("action", "submit"),
    ("idempotency_key", "k1"),
];

/// Reviews the next task.
async fn review(labeler: &Client<'_>, fields: &[(&str, &str)]) -> String {
    let path = labeler.open_task().await;
    assert!(path.starts_with("/review/"), "{path}");
    let sent = labeler.post(&path, &encode(fields)).await;
    assert_eq!(sent.status, StatusCode::SEE_OTHER, "{}", sent.body);
    path
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_review_keeps_what_was_answered_and_a_correction_is_a_new_version(db: PgPool) {
    let project = project(&db).await;
    fake::task(&db, project, KIND, Some("Write to ada@example.org"), None).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let path = review(&ada, &FIELDS).await;
    let content: Value = sqlx::query_scalar("SELECT content FROM reviews")
        .fetch_one(&db)
        .await
        .unwrap();
    // Unanswered is not "no".
    let expected = json!({
        "category": "chat", "language": "zh", "flags": {"ambiguous": false, "intent_unclear": true},
        "personal_data": true, "found": [{"kind": "email", "passage": "ada@example.org"}],
    });
    assert_eq!(content, expected);
    let page = ada.get(&path).await.body;
    assert!(page.contains(r#"name="replaces" value="1""#), "{page}");
    assert!(page.contains(r#"name="flags.ambiguous" value="no" checked"#));
    assert!(page.contains(r#"name="flags.closed_domain" value="" checked"#));
    let mut fields = FIELDS.to_vec();
    fields[0] = ("category", "rewrite");
    fields[9] = ("idempotency_key", "k2");
    fields.push(("replaces", "1"));
    let sent = ada.post(&path, &encode(&fields)).await;
    assert_eq!(sent.status, StatusCode::SEE_OTHER, "{}", sent.body);
    let versions: Vec<(i32, Value)> =
        sqlx::query_as("SELECT version, content -> 'category' FROM reviews ORDER BY version")
            .fetch_all(&db)
            .await
            .unwrap();
    assert_eq!(versions, [(1, json!("chat")), (2, json!("rewrite"))]);
    let error = sqlx::query("UPDATE reviews SET note = 'x'")
        .execute(&db)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("never changed"), "{error}");
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn complaints_are_named_and_an_entry_can_be_added_without_scripts(db: PgPool) {
    let project = project(&db).await;
    fake::task(&db, project, KIND, Some("Hello"), None).await;
    let app = TestApp::new(db);
    let ada = app.labeler("ada").await;
    let path = ada.open_task().await;
    let wrong = [
        ("flags.ambiguous", "yes"),
        ("found[0].kind", "phone"),
        ("found[0].passage", ""),
        ("action", "submit"),
        ("idempotency_key", "k"),
    ];
    let refused = ada.post(&path, &encode(&wrong)).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    for part in [
        r##"<a href="#category">Category: choose one</a>"##,
        r##"<a href="#found[0].passage">Entry 1, the words in the prompt: is empty</a>"##,
        r##"<a href="#personal_data">Personal data: you quoted personal data below"##,
        r##"id="wrong-found[0].passage">is empty</p>"##,
        r##"name="flags.ambiguous" value="yes" checked"##,
    ] {
        assert!(refused.body.contains(part), "no {part} in {}", refused.body);
    }
    let add = wrong.map(|(name, value)| match name {
        "action" => (name, "add_found"),
        _ => (name, value),
    });
    let added = ada.post(&path, &encode(&add)).await;
    assert_eq!(
        added.location,
        Some(format!("{path}#found[1].kind")),
        "{}",
        added.body
    );
    let page = ada.get(&path).await.body;
    assert!(page.contains(r#"name="found[1].kind""#));
    assert!(page.contains(r#"<option value="phone" selected"#));
    // A field that no page has is refused by name.
    let odd = ada
        .post(&path, &encode(&[("surprise", "1"), ("action", "save")]))
        .await;
    assert_eq!(odd.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(odd.body.contains("surprise"), "{}", odd.body);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_program_reviews_by_the_same_rules_and_the_description_lists_the_keys(db: PgPool) {
    let project = project(&db).await;
    fake::task(&db, project, KIND, Some("Hello"), None).await;
    let app = TestApp::new(db);
    let robot = app.program("robot", &[Role::Labeler]).await;
    let path = format!("/api/v1/projects/{project}/assignments");
    let leased = robot.send_json("POST", &path, &[], &json!({})).await;
    let view = leased.json();
    assert_eq!(
        (&view["kind"], &view["prompt"]),
        (&json!("review"), &json!("Hello"))
    );
    assert!(view.get("brief").is_none());
    let submit = format!(
        "{}/submission",
        leased.headers["location"].to_str().unwrap()
    );
    let key = [("idempotency-key", "k")];
    let wrong = json!({"category": "chat", "language": "en", "flags": {"rude": true}});
    let refused = robot.send_json("POST", &submit, &key, &wrong).await;
    assert_eq!(
        refused.json()["errors"][0]["field"],
        "flags.rude",
        "{}",
        refused.body
    );
    let right = json!({"category": "chat", "language": "en", "flags": {"ambiguous": true}, "personal_data": false});
    let written = robot.send_json("POST", &submit, &key, &right).await;
    assert_eq!(written.status, StatusCode::CREATED, "{}", written.body);

    let description = app.anonymous().get("/api/v1/openapi.json").await.json();
    let schemas = &description["components"]["schemas"];
    let flags = &schemas["ReviewInput"]["properties"]["flags"]["propertyNames"]["examples"];
    assert_eq!(flags[0], "ambiguous");
    assert_eq!(schemas["PersonalData"]["examples"][1], "email");
    let of = &schemas["SubmissionInput"]["oneOf"];
    assert_eq!(of.as_array().map(Vec::len), Some(3), "{of}");
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn prompts_carry_their_newest_review_and_a_snapshot_stays_as_it_was_taken(db: PgPool) {
    let project = project(&db).await;
    let task = fake::task(&db, project, KIND, Some("Say hello"), None).await;
    sqlx::query("UPDATE tasks SET overlap = 2")
        .execute(&db)
        .await
        .unwrap();
    fake::prompt(&db, project, "zz", "Never reviewed").await;
    let app = TestApp::new(db.clone());
    let (ada, bob) = (app.labeler("ada").await, app.labeler("bob").await);
    let fields = [
        ("category", "chat"),
        ("language", "en"),
        ("flags.ambiguous", "no"),
        ("action", "submit"),
        ("idempotency_key", "k"),
    ];
    review(&ada, &fields).await;
    let prompts = selection(project, SnapshotKind::Prompts);
    let first = create_snapshot(&db, &prompts, None).await.unwrap();
    let (lines, _) = take(&db, &prompts).await;
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["id"], task.to_string());
    let expected = json!({"category": "chat", "language": "en", "flags": {"ambiguous": false}});
    assert_eq!(lines[0]["review"], expected);
    assert_eq!(lines[0]["category"], "other");
    assert!(lines[1].get("review").is_none());

    let mut other = fields;
    other[0] = ("category", "rewrite");
    review(&bob, &other).await;
    let reviewed = Selection {
        reviewed_categories: true,
        categories: vec!["rewrite".to_owned()],
        ..prompts.clone()
    };
    let (lines, _) = take(&db, &reviewed).await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["category"], "rewrite");
    assert_eq!(lines[0]["review"]["category"], "rewrite");
    let without = Selection {
        reviewed_categories: false,
        ..reviewed
    };
    assert!(
        create_snapshot(&db, &without, None).await.is_err(),
        "the prompts' own are all other"
    );
    // Writing the first one again checks its hash.
    let (mut connection, mut bytes) = (db.acquire().await.unwrap(), Vec::new());
    write_snapshot(&mut connection, first, &mut bytes)
        .await
        .unwrap();
    assert!(
        String::from_utf8(bytes)
            .unwrap()
            .contains(r#""category":"chat""#)
    );
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn prompts_with_personal_data_are_left_out_with_all_that_hangs_on_them(db: PgPool) {
    let project = fake::project(&db, 2, 4, 1, 3600).await;
    let mut connection = db.acquire().await.unwrap();
    let found = store::projects::find(&mut connection, project)
        .await
        .unwrap()
        .unwrap();
    drop(connection);
    server::commands::simulate::simulate(&db, &found, 1, 0.1, 1, 2)
        .await
        .unwrap();
    // The first prompt is answered and reviewed, too.
    for kind in ["demonstrate", "review"] {
        sqlx::query(
            "INSERT INTO tasks (id, project_id, prompt_id, kind, overlap)
             SELECT gen_random_uuid(), project_id, id, $1, 1 FROM prompts WHERE external_id = 'p0'",
        )
        .bind(kind)
        .execute(&db)
        .await
        .unwrap();
    }
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let path = ada.open_task().await;
    let answer = [
        ("response", "One."),
        ("action", "submit"),
        ("idempotency_key", "k"),
    ];
    let next = ada.post(&path, &encode(&answer)).await.location.unwrap();
    let kinds = [
        SnapshotKind::Prompts,
        SnapshotKind::Rankings,
        SnapshotKind::Demonstrations,
    ];
    for (kind, n) in kinds.into_iter().zip([2, 2, 1]) {
        let (lines, left_out) = take(&db, &selection(project, kind)).await;
        assert_eq!((lines.len(), left_out), (n, 0), "{kind}");
    }
    let sent = ada.post(&next, &encode(&FIELDS)).await;
    assert_eq!(sent.status, StatusCode::SEE_OTHER, "{}", sent.body);
    for (kind, n) in kinds.into_iter().zip([1, 1, 0]) {
        let chosen = selection(project, kind);
        if n == 0 {
            let refusal = create_snapshot(&db, &chosen, None).await.unwrap_err();
            assert!(refusal.to_string().contains("personal data"), "{refusal}");
            continue;
        }
        let (lines, left_out) = take(&db, &chosen).await;
        assert_eq!((lines.len(), left_out), (n, 1), "{kind}");
        assert_eq!(lines[0]["id"], "p1");
    }
    for (kind, n) in kinds.into_iter().zip([2, 2, 1]) {
        let asked = Selection {
            include_personal: true,
            ..selection(project, kind)
        };
        let (lines, left_out) = take(&db, &asked).await;
        assert_eq!((lines.len(), left_out), (n, 0), "{kind}");
    }
    // By the page, which says how many were left out.
    let admin = app.admin().await;
    let form = "project=study&name=clean&kind=prompts";
    let made = admin.post("/snapshots", form).await.location.unwrap();
    let page = admin.get(&made).await.body;
    assert!(page.contains("1 record, for personal data"), "{page}");
    let form = format!("{form}&include_personal=true&reviewed_categories=true");
    let made = admin.post("/snapshots", &form).await.location.unwrap();
    let page = admin.get(&made).await.body;
    assert!(
        page.contains("are included") && page.contains("as reviewed"),
        "{page}"
    );
    // Reviews that are there to learn about labelers decide nothing.
    sqlx::query("UPDATE tasks SET purpose = 'gold' WHERE kind = 'review'")
        .execute(&db)
        .await
        .unwrap();
    let (lines, left_out) = take(&db, &selection(project, SnapshotKind::Prompts)).await;
    assert_eq!((lines.len(), left_out), (2, 0));
}
