//! Demonstrations by page and by API: what is written, what becomes of it, and what is refused.

use axum::http::StatusCode;
use serde_json::{Value, json};
use server::domain::ids::ProjectId;
use server::domain::role::Role;
use server::domain::snapshot::{Selection, SnapshotKind};
use server::domain::task::TaskKind;
use server::exchange::export::{create_snapshot, write_snapshot};
use sqlx::PgPool;

use crate::support::{TestApp, encode, fake};

const KIND: TaskKind = TaskKind::Demonstrate;

/// A project without ranking tasks.
async fn project(db: &PgPool) -> ProjectId {
    fake::project(db, 0, 4, 1, 3600).await
}

fn few_shot() -> Option<Value> {
    Some(json!({"kind": "few_shot"}))
}

fn user_based() -> Option<Value> {
    Some(
        json!({"kind": "user_based", "use_case": "A bakery answers <b>letters</b> of its guests."}),
    )
}

/// The fields of a few-shot demonstration with three pairs, of which one is left empty.
const FEW_SHOT: [(&str, &str); 11] = [
    ("instruction", "Give the capital."),
    ("category", "open_qa"),
    ("language", "en"),
    ("pairs[0].query", "France"),
    ("pairs[0].response", "Paris"),
    ("pairs[1].query", ""),
    ("pairs[1].response", " "),
    ("pairs[2].query", "Peru"),
    ("pairs[2].response", "Lima"),
    ("action", "submit"),
    ("idempotency_key", "k1"),
];

/// Every demonstration of the project that a snapshot takes now.
async fn snapshot(db: &PgPool, project_id: ProjectId) -> Vec<Value> {
    let selection = Selection {
        project_id,
        kind: SnapshotKind::Demonstrations,
        name: "all".to_owned(),
        categories: Vec::new(),
        include_simulated: false,
        reviewed_categories: false,
        include_personal: false,
        labels: server::domain::snapshot::Labels::default(),
        filters: server::domain::snapshot_filters::Filters::default(),
    };
    let Ok(id) = create_snapshot(db, &selection, None).await else {
        return Vec::new();
    };
    let (mut connection, mut bytes) = (db.acquire().await.unwrap(), Vec::new());
    write_snapshot(&mut connection, id, &mut bytes)
        .await
        .unwrap();
    let lines = String::from_utf8(bytes).unwrap();
    let parse = |line| serde_json::from_str(line).unwrap();
    lines.lines().map(parse).collect()
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn an_answer_becomes_a_demonstration_and_its_correction_takes_its_place(db: PgPool) {
    let project = project(&db).await;
    fake::task(&db, project, KIND, Some("Why is the sea salty?"), None).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let path = ada.open_task().await;
    assert!(path.starts_with("/demonstrate/"), "{path}");
    let page = ada.get(&path).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.body.contains("Why is the sea salty?"));
    assert!(page.body.contains("0 submitted today"), "{}", page.body);
    for asked in ["name=\"category\"", "name=\"prompt\"", "pairs[0]"] {
        assert!(!page.body.contains(asked), "{asked} is not asked here");
    }
    let answer = [
        ("response", "Rivers bring it.\r\nSun leaves it."),
        ("note", "sure"),
        ("active_ms", "5000"),
        ("idempotency_key", "k1"),
        ("action", "submit"),
    ];
    let opened = "UPDATE assignments SET opened_at = now() - interval '1 minute'";
    sqlx::query(opened).execute(&db).await.unwrap();
    let sent = ada.post(&path, &encode(&answer)).await;
    let work = Some("/work?submitted=in-time");
    assert_eq!(sent.location.as_deref(), work, "{}", sent.body);
    // An impatient second click.
    let again = ada.post(&path, &encode(&answer)).await;
    assert_eq!(again.status, StatusCode::SEE_OTHER);
    let page = ada.get(&path).await;
    assert!(page.body.contains("1 submitted today"), "{}", page.body);
    let row: (Value, String, i64, String, Value, String) = sqlx::query_as(
        "SELECT w.content, w.note, w.active_ms, d.source, d.messages, d.category
         FROM writings w JOIN demonstrations d ON d.writing_id = w.id
         JOIN assignments a ON a.id = w.assignment_id AND a.labeler_id = d.labeler_id",
    )
    .fetch_one(&db)
    .await
    .unwrap();
    let text = "Rivers bring it.\nSun leaves it.";
    assert_eq!(row.0, json!({"response": text}));
    assert_eq!(
        (row.1.as_str(), row.2, row.3.as_str()),
        ("sure", 5000, "labeler")
    );
    let turns = json!([{"role": "user", "content": "Why is the sea salty?"},
                       {"role": "assistant", "content": text}]);
    assert_eq!((row.4, row.5.as_str()), (turns, "other"));

    // The same page corrects it, beginning with what was said.
    let page = ada.get(&path).await;
    assert!(page.body.contains("Rivers bring it."), "{}", page.body);
    assert!(
        page.body.contains(r#"name="replaces" value="1""#),
        "{}",
        page.body
    );
    let correction = [
        ("response", "Rivers bring salt."),
        ("idempotency_key", "k2"),
        ("replaces", "1"),
        ("action", "submit"),
    ];
    let sent = ada.post(&path, &encode(&correction)).await;
    assert_eq!(sent.status, StatusCode::SEE_OTHER, "{}", sent.body);
    let taken = snapshot(&db, project).await;
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0]["messages"][1]["content"], "Rivers bring salt.");
    let versions: Vec<i32> = sqlx::query_scalar("SELECT version FROM writings ORDER BY version")
        .fetch_all(&db)
        .await
        .unwrap();
    assert_eq!(versions, [1, 2]);
    for statement in ["UPDATE writings SET note = 'x'", "DELETE FROM writings"] {
        let error = sqlx::query(statement).execute(&db).await.unwrap_err();
        assert!(error.to_string().contains("never changed"), "{error}");
    }
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn k_pairs_become_k_demonstrations_each_with_the_others_in_context(db: PgPool) {
    let project = project(&db).await;
    fake::task(&db, project, KIND, None, few_shot()).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let path = ada.open_task().await;
    let sent = ada.post(&path, &encode(&FEW_SHOT)).await;
    assert_eq!(sent.status, StatusCode::SEE_OTHER, "{}", sent.body);
    let writing: uuid::Uuid = sqlx::query_scalar("SELECT id FROM writings")
        .fetch_one(&db)
        .await
        .unwrap();
    let taken = snapshot(&db, project).await;
    let said = |line: &Value| -> Vec<String> {
        let turns = line["messages"].as_array().unwrap().iter();
        turns
            .map(|turn| turn["content"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(taken.len(), 2);
    assert_eq!(taken[0]["id"], format!("{writing}-1"));
    assert_eq!(
        said(&taken[0]),
        ["Give the capital.\n\nPeru", "Lima", "France", "Paris"]
    );
    assert_eq!(
        said(&taken[1]),
        ["Give the capital.\n\nFrance", "Paris", "Peru", "Lima"]
    );
    let categories: Vec<String> =
        sqlx::query_scalar("SELECT DISTINCT category FROM demonstrations")
            .fetch_all(&db)
            .await
            .unwrap();
    assert_eq!(categories, ["open_qa"]);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn without_scripts_a_button_adds_a_pair_and_another_takes_one_away(db: PgPool) {
    let project = project(&db).await;
    fake::task(&db, project, KIND, None, few_shot()).await;
    let app = TestApp::new(db);
    let ada = app.labeler("ada").await;
    let path = ada.open_task().await;
    let page = ada.get(&path).await.body;
    assert!(
        page.contains(r#"name="pairs[1].query""#) && !page.contains(r#"name="pairs[2].query""#)
    );
    let mut fields = FEW_SHOT.map(|(name, value)| match name {
        "action" => (name, "add_pair"),
        _ => (name, value),
    });
    let added = ada.post(&path, &encode(&fields)).await;
    assert_eq!(
        added.location,
        Some(format!("{path}#pairs[3].query")),
        "{}",
        added.body
    );
    let page = ada.get(&path).await.body;
    assert!(page.contains(r#"name="pairs[3].query""#) && page.contains(">Lima</textarea>"));
    fields[9] = ("action", "remove_pair-2");
    let removed = ada.post(&path, &encode(&fields)).await;
    assert_eq!(removed.location, Some(format!("{path}#pairs")));
    let page = ada.get(&path).await.body;
    let peru = page.find(">Peru</textarea>").unwrap();
    assert!(
        page[..peru].rfind(r#"name="pairs[1].query""#)
            > page[..peru].rfind(r#"name="pairs[0].query""#)
    );
    assert!(!page.contains(r#"name="pairs[2].query""#));
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn every_complaint_is_named_beside_its_field_and_what_was_typed_is_kept(db: PgPool) {
    let project = project(&db).await;
    fake::task(&db, project, KIND, None, few_shot()).await;
    let app = TestApp::new(db);
    let ada = app.labeler("ada").await;
    let path = ada.open_task().await;
    let fields = [
        ("pairs[0].query", "France"),
        ("pairs[0].response", ""),
        ("note", "wait"),
        ("action", "submit"),
        ("idempotency_key", "k"),
    ];
    let refused = ada.post(&path, &encode(&fields)).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    for part in [
        r##"<a href="#pairs[0].response">Pair 1, response: is empty</a>"##,
        r##"<a href="#pairs">Pairs: write at least 2 pairs</a>"##,
        r##"<a href="#category">Category: choose one</a>"##,
        r##"<p class="wrong" id="wrong-pairs[0].response">is empty</p>"##,
        r##"<p class="wrong" id="wrong-instruction">is empty</p>"##,
        r##"wrong-language""##,
        ">France</textarea>",
        ">wait</textarea>",
    ] {
        assert!(refused.body.contains(part), "no {part} in {}", refused.body);
    }
    let request = ada
        .request("POST", &path)
        .header("content-type", "application/x-www-form-urlencoded")
        .header("accept-language", "zh-CN");
    let refused = ada
        .send(request.body(encode(&fields).into()).unwrap())
        .await;
    assert!(
        refused.body.contains("第 1 组，回答：为空"),
        "{}",
        refused.body
    );
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn whoever_writes_from_a_use_case_sees_it_and_says_what_they_wrote(db: PgPool) {
    let project = project(&db).await;
    fake::task(&db, project, KIND, None, user_based()).await;
    fake::task(&db, project, KIND, None, Some(json!({"kind": "plain"}))).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let first = ada.open_task().await;
    let page = ada.get(&first).await.body;
    assert!(
        page.contains("A bakery answers &#60;b&#62;letters")
            || page.contains("A bakery answers &lt;b&gt;letters"),
        "{page}"
    );
    let fields = [
        ("prompt", "A guest found a hair in a cake. Write a reply."),
        ("response", "We are sorry."),
        ("category", "generation"),
        ("language", "en"),
        ("action", "submit"),
        ("idempotency_key", "k"),
    ];
    let second = ada.post(&first, &encode(&fields)).await.location.unwrap();
    assert!(
        second.starts_with("/demonstrate/") && second != first,
        "{second}"
    );
    let done = ada.post(&second, &encode(&fields)).await;
    let work = Some("/work?submitted=in-time");
    assert_eq!(done.location.as_deref(), work, "{}", done.body);
    let taken = snapshot(&db, project).await;
    assert_eq!(taken.len(), 2);
    assert_eq!(taken[0]["messages"][0]["content"], fields[0].1);
    let languages: Vec<Value> = sqlx::query_scalar("SELECT content -> 'language' FROM writings")
        .fetch_all(&db)
        .await
        .unwrap();
    assert_eq!(languages, ["en", "en"]);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_program_writes_by_the_same_rules(db: PgPool) {
    let project = project(&db).await;
    fake::task(&db, project, KIND, None, user_based()).await;
    let app = TestApp::new(db);
    let robot = app.program("robot", &[Role::Labeler]).await;
    let path = format!("/api/v1/projects/{project}/assignments");
    let leased = robot.send_json("POST", &path, &[], &json!({})).await;
    assert_eq!(leased.status, StatusCode::CREATED, "{}", leased.body);
    let view = leased.json();
    assert_eq!(
        (&view["kind"], &view["prompt"]),
        (&json!("demonstrate"), &Value::Null)
    );
    assert_eq!(view["brief"], user_based().unwrap());
    let path = leased.headers["location"].to_str().unwrap().to_owned();
    let draft = json!({"prompt": "half", "time": {"active_ms": 10, "idle_ms": 0}, "revision": 0});
    let saved = robot
        .send_json("PUT", &format!("{path}/draft"), &[], &draft)
        .await;
    assert_eq!(saved.status, StatusCode::OK, "{}", saved.body);
    let submit = format!("{path}/submission");
    let fields = |answer: &crate::support::Answer| -> Vec<String> {
        let problem = answer.json();
        let errors = problem["errors"].as_array().unwrap().iter();
        errors
            .map(|error| error["field"].as_str().unwrap().to_owned())
            .collect()
    };
    let key = [("idempotency-key", "k1")];
    for (body, expected) in [
        (json!({"prompt": "p", "response": 1}), vec!["response"]),
        (json!({"candidates": []}), vec!["candidates"]),
        (
            json!({"prompt": "p", "pairs": [{"query": "q", "response": "r"}], "category": "chat"}),
            vec!["response", "pairs", "language"],
        ),
        (
            json!({"prompt": "p", "response": "r", "category": "chat", "language": "qq"}),
            vec!["language"],
        ),
    ] {
        let refused = robot.send_json("POST", &submit, &key, &body).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
        assert_eq!(fields(&refused), expected);
    }
    let body = json!({"prompt": "p", "response": "r", "category": "chat", "language": "ar"});
    let written = robot.send_json("POST", &submit, &key, &body).await;
    assert_eq!(written.status, StatusCode::CREATED, "{}", written.body);
    assert_eq!(written.json()["version"], 1);
    assert!(written.json().get("ranking_id").is_none());
    let again = robot.send_json("POST", &submit, &key, &body).await;
    assert_eq!(again.json(), written.json());
    let mut other = body.clone();
    other["response"] = json!("s");
    let refused = robot.send_json("POST", &submit, &key, &other).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    let correct = format!("{submit}?replaces=1");
    let key = [("idempotency-key", "k2")];
    let corrected = robot.send_json("POST", &correct, &key, &other).await;
    assert_eq!(corrected.json()["version"], 2, "{}", corrected.body);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn only_what_is_for_the_dataset_reaches_a_snapshot(db: PgPool) {
    let project = project(&db).await;
    fake::task(&db, project, KIND, Some("One?"), None).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let path = ada.open_task().await;
    let answer = [
        ("response", "One."),
        ("action", "submit"),
        ("idempotency_key", "k"),
    ];
    ada.post(&path, &encode(&answer)).await;
    assert_eq!(snapshot(&db, project).await.len(), 1);
    sqlx::query("UPDATE tasks SET purpose = 'screening'")
        .execute(&db)
        .await
        .unwrap();
    assert!(snapshot(&db, project).await.is_empty());
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn late_work_is_kept_and_a_page_of_another_kind_leads_to_its_own(db: PgPool) {
    let project = project(&db).await;
    fake::task(&db, project, KIND, Some("One?"), None).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let path = ada.open_task().await;
    let elsewhere = path.replace("/demonstrate/", "/review/");
    let led = ada.get(&elsewhere).await;
    assert_eq!(led.location.as_ref(), Some(&path));
    // Whoever posts there is told, and nothing is written.
    let sent = ada.post(
        &elsewhere,
        "category=chat&language=en&action=submit&idempotency_key=k",
    );
    assert_eq!(sent.await.status, StatusCode::CONFLICT);
    sqlx::query("UPDATE assignments SET status = 'expired', place = NULL, lease_until = now() - interval '1 second'")
        .execute(&db)
        .await
        .unwrap();
    let page = ada.get(&path).await.body;
    assert!(page.contains("has run out"), "{page}");
    let answer = [
        ("response", "One."),
        ("action", "submit"),
        ("idempotency_key", "k"),
    ];
    let sent = ada.post(&path, &encode(&answer)).await;
    assert_eq!(sent.status, StatusCode::SEE_OTHER, "{}", sent.body);
    let is_late: bool =
        sqlx::query_scalar("SELECT is_late FROM assignments WHERE status = 'submitted'")
            .fetch_one(&db)
            .await
            .unwrap();
    assert!(is_late);
    assert_eq!(snapshot(&db, project).await.len(), 1);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn two_windows_do_not_overwrite_each_other(db: PgPool) {
    let project = project(&db).await;
    fake::task(&db, project, KIND, Some("One?"), None).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let path = ada.open_task().await;
    let save = |text: &str| encode(&[("response", text), ("action", "save"), ("revision", "0")]);
    let saved = ada.post(&path, &save("first")).await;
    assert_eq!(saved.location, Some(format!("{path}?saved=true")));
    let refused = ada.post(&path, &save("second")).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(refused.body.contains("Another window saved a newer draft"));
    assert!(
        refused.body.contains(">second</textarea>"),
        "typed work is lost"
    );
    assert!(ada.get(&path).await.body.contains(">first</textarea>"));
    // Submitted in one window, the other keeps what it has and offers it as a correction.
    let submit = |text: &str, key: &str| {
        encode(&[
            ("response", text),
            ("action", "submit"),
            ("idempotency_key", key),
        ])
    };
    ada.post(&path, &submit("first", "k1")).await;
    let refused = ada.post(&path, &submit("second", "k2")).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(
        refused.body.contains("submitted already"),
        "{}",
        refused.body
    );
    assert!(refused.body.contains(">second</textarea>"));
    assert!(refused.body.contains(r#"name="replaces" value="1""#));
    // A skip needs a reason that the form has.
    let skipped = ada.post(&path, "action=skip&reason=unclear_prompt").await;
    assert_eq!(skipped.status, StatusCode::CONFLICT);
}
