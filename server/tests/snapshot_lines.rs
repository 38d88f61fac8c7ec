//! Lines of our own format say all that was answered, training reads them, and they come back.

use axum::http::StatusCode;
use serde_json::{Value, json};
use server::domain::form::Form;
use server::domain::ids::{ProjectId, SnapshotId};
use server::domain::role::Role;
use server::domain::snapshot::{Labels, Selection, SnapshotKind};
use server::domain::snapshot_filters::Filters;
use server::domain::task::TaskKind;
use server::exchange::export::{create_snapshot, write_snapshot};
use server::exchange::import::{FileFormat, Report, import};
use server::exchange::records::ImportKind;
use server::store;
use sqlx::PgPool;
use trainer::records::RankedPrompt;

use crate::support::{TestApp, encode, fake};

/// The standard form with a further scale.
fn form() -> Value {
    let mut form = serde_json::to_value(Form::default()).unwrap();
    form["scales"] = json!([{"key": "truthful", "min": 1, "max": 5, "label": {"en": "Truthful"}}]);
    form
}

async fn set_form(db: &PgPool, project: ProjectId) {
    let mut connection = db.acquire().await.unwrap();
    store::projects::insert_form(&mut connection, project, &form())
        .await
        .unwrap();
}

async fn take(db: &PgPool, project_id: ProjectId) -> (SnapshotId, Vec<Value>) {
    let selection = Selection {
        project_id,
        kind: SnapshotKind::Rankings,
        name: "all".to_owned(),
        categories: Vec::new(),
        include_simulated: true,
        reviewed_categories: false,
        include_personal: false,
        labels: Labels::default(),
        filters: Filters::default(),
    };
    let id = create_snapshot(db, &selection, None).await.unwrap();
    (id, lines(db, id).await)
}

async fn lines(db: &PgPool, id: SnapshotId) -> Vec<Value> {
    let (mut connection, mut bytes) = (db.acquire().await.unwrap(), Vec::new());
    write_snapshot(&mut connection, id, &mut bytes)
        .await
        .unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let parse = |line| serde_json::from_str(line).unwrap();
    text.lines().map(parse).collect()
}

async fn bring(db: &PgPool, slug: &str, lines: &[Value]) -> (ProjectId, Report) {
    let mut transaction = db.begin().await.unwrap();
    let project = match store::projects::find_by_slug(&mut transaction, slug).await {
        Ok(Some(project)) => project,
        _ => {
            let id = store::projects::insert(&mut transaction, slug, slug, 1, 60)
                .await
                .unwrap();
            store::projects::insert_form(&mut transaction, id, &form())
                .await
                .unwrap();
            let found = store::projects::find(&mut transaction, id).await;
            found.unwrap().unwrap()
        }
    };
    let text: Vec<String> = lines.iter().map(Value::to_string).collect();
    let source = std::io::Cursor::new(text.join("\n").into_bytes());
    let kind = ImportKind::Rankings;
    let report = import(&mut transaction, &project, kind, FileFormat::Jsonl, source)
        .await
        .unwrap();
    if report.is_clean() {
        transaction.commit().await.unwrap();
    }
    (project.id, report)
}

/// A ranking with everything answered, one with nothing but ranks, and a comparison.
async fn said(db: &PgPool) -> ProjectId {
    let project = fake::project(db, 2, 4, 1, 3600).await;
    set_form(db, project).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let all = [
        ("rank-1", "2"),
        ("rank-2", "1"),
        ("rank-3", "cannot"),
        ("rank-4", "2"),
        ("scale-1-truthful", "4"),
        ("note-2", "the best of these"),
        ("all_bad", "on"),
        ("active_ms", "61500"),
        ("idle_ms", "500"),
        ("action", "submit"),
        ("idempotency_key", "k"),
        ("confirmed", "yes"),
    ];
    let bare = "rank-1=1&rank-2=2&rank-3=3&rank-4=3&action=submit&idempotency_key=k&confirmed=yes";
    for sent in [encode(&all), bare.to_owned()] {
        let path = ada.open_task().await;
        // Nobody is active for longer than the page is open.
        let long_ago =
            "UPDATE assignments SET opened_at = now() - INTERVAL '1 hour' WHERE status = 'leased'";
        sqlx::query(long_ago).execute(db).await.unwrap();
        let done = ada.post(&path, &sent).await;
        assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
    }
    let mut transaction = db.begin().await.unwrap();
    let texts = ["one".to_owned(), "other".to_owned()];
    fake::insert_task(&mut transaction, project, "pair", "Which?", &texts).await;
    transaction.commit().await.unwrap();
    let kind = TaskKind::Compare.as_str();
    sqlx::query(
        "UPDATE tasks SET kind = $1 WHERE id = (SELECT id FROM tasks ORDER BY id DESC LIMIT 1)",
    )
    .bind(kind)
    .execute(db)
    .await
    .unwrap();
    let path = ada.open_task().await;
    let sent = encode(&[
        ("preference", "2-3"),
        ("action", "submit"),
        ("idempotency_key", "k"),
        ("confirmed", "yes"),
    ]);
    let done = ada.post(&path, &sent).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
    project
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn all_that_was_answered_is_in_the_lines_and_comes_back(db: PgPool) {
    let project = said(&db).await;
    let (id, own) = take(&db, project).await;
    assert_eq!(own.len(), 3);
    let by_id = |id: &str| own.iter().find(|line| line["id"] == id).unwrap();
    let whole = own.iter().find(|line| line["all_bad"] == true).unwrap();
    assert_eq!(
        (&whole["active_ms"], &whole["idle_ms"]),
        (&json!(61500), &json!(500))
    );
    let items = whole["completions"].as_array().unwrap();
    let told =
        |name: &str| -> Vec<&Value> { items.iter().filter_map(|item| item.get(name)).collect() };
    assert_eq!(told("scales"), [&json!({"truthful": 4})]);
    assert_eq!(told("note"), [&json!("the best of these")]);
    let pair = by_id("pair");
    assert_eq!(pair["strength"], 3);
    // What nobody answered is not there.
    let bare = own
        .iter()
        .find(|line| line["id"] != "pair" && line.get("all_bad").is_none())
        .unwrap();
    for name in ["strength", "all_bad", "active_ms", "idle_ms"] {
        assert!(bare.get(name).is_none(), "{name} in {bare}");
    }
    assert!(!bare.to_string().contains("scales") && !bare.to_string().contains("\"note\""));

    // The trainer reads the lines.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rankings.jsonl");
    let text: Vec<String> = own.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(&file, text.concat()).unwrap();
    let read = trainer::records::read::<RankedPrompt>(&file).unwrap();
    let sizes: Vec<usize> = read.iter().map(|line| line.completions.len()).collect();
    assert_eq!(sizes.iter().sum::<usize>(), 3 + 4 + 2);

    // Elsewhere it says the same.
    let strip = |line: &Value| {
        let mut line = line.clone();
        let fields = line.as_object_mut().unwrap();
        for name in [
            "ranking_id",
            "labeler",
            "form_version",
            "guidelines_version",
        ] {
            fields.shift_remove(name);
        }
        for item in fields["completions"].as_array_mut().unwrap() {
            item.as_object_mut().unwrap().shift_remove("id");
        }
        line
    };
    let mut brought = own.clone();
    for line in &mut brought {
        line.as_object_mut().unwrap().shift_remove("ranking_id");
    }
    let (other, report) = bring(&db, "copy", &brought).await;
    assert!(report.is_clean(), "{report:?}");
    let (_, again) = take(&db, other).await;
    let both = [&own, &again].map(|lines| lines.iter().map(strip).collect::<Vec<_>>());
    assert_eq!(both[0], both[1]);

    // A snapshot that was sealed before keeps its lines.
    let mut older = String::new();
    for mut line in own.clone() {
        let fields = line.as_object_mut().unwrap();
        for name in ["strength", "all_bad", "active_ms", "idle_ms"] {
            fields.shift_remove(name);
        }
        for item in fields["completions"].as_array_mut().unwrap() {
            let item = item.as_object_mut().unwrap();
            item.shift_remove("scales");
            item.shift_remove("note");
        }
        older += &format!("{line}\n");
    }
    let sha256 = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&older));
    let sealed =
        format!("UPDATE snapshots SET line_format = 4, sha256 = '{sha256}' WHERE id = '{id}'");
    fake::rewrite(&db, &sealed).await;
    let written: Vec<String> = lines(&db, id)
        .await
        .iter()
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(written.concat(), older);
}

/// The order of the lines of a file is not what somebody saw.
#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_ranking_of_a_file_has_the_order_that_the_file_says_or_none(db: PgPool) {
    let line = |id: &str, order: Option<[i16; 3]>| {
        let items: Vec<Value> = (0..3)
            .map(|n| json!({"id": n.to_string(), "text": format!("text {n}"), "rank": n + 1}))
            .collect();
        let mut line = json!({"id": id, "prompt": "ask", "labeler": "ada", "completions": items});
        if let Some(order) = order {
            line["display_order"] = json!(order);
        }
        line
    };
    let file = [line("said", Some([2, 0, 1])), line("unsaid", None)];
    let (project, report) = bring(&db, "files", &file).await;
    assert!(report.is_clean(), "{report:?}");
    let (_, lines) = take(&db, project).await;
    assert_eq!(lines[0]["display_order"], json!([2, 0, 1]));
    assert!(lines[1].get("display_order").is_none(), "{}", lines[1]);
    let app = TestApp::new(db);
    let alice = app.program("alice", &[Role::Admin]).await;
    let address = format!("/api/v1/projects/{project}/agreement");
    let figures = alice.get(&address).await.json();
    let position = &figures["position"];
    assert_eq!(position["tables"][0]["n"], 1, "{position}");
    assert_eq!(position["n_without_order"], 1, "{position}");
    let page = alice.get("/agreement?project=files").await.body;
    assert!(
        page.contains("1 ranking came in a file that does not say"),
        "{page}"
    );
}
