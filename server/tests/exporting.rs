//! Snapshots as files: built in the background, whole or not there, the same bytes each time, and
//! downloaded in pieces.

use std::io::Read;

use axum::body::Body;
use axum::http::StatusCode;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use serde_json::{Value, json};
use server::domain::export::{Aggregation, Container, ExportChoice, ExportFormat, Margin};
use server::domain::ids::SnapshotId;
use server::domain::role::Role;
use server::domain::snapshot::{Selection, SnapshotKind};
use server::exchange::export::create_snapshot;
use server::exchange::export_file::build;
use server::store;
use server::worker::exports::build_next;
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use trainer::records::Prompt;

use crate::support::{Client, TestApp, fake};

/// A snapshot of rankings by three simulated labelers over 40 tasks.
async fn snapshot(db: &PgPool) -> SnapshotId {
    let id = fake::project(db, 40, 4, 3, 3600).await;
    let mut connection = db.acquire().await.unwrap();
    let project = store::projects::find(&mut connection, id)
        .await
        .unwrap()
        .unwrap();
    drop(connection);
    server::commands::simulate::simulate(db, &project, 3, 0.2, 1, 120)
        .await
        .unwrap();
    let selection = Selection {
        project_id: id,
        kind: SnapshotKind::Rankings,
        name: "May".to_owned(),
        categories: Vec::new(),
        include_simulated: true,
        reviewed_categories: false,
        include_personal: false,
        labels: server::domain::snapshot::Labels::default(),
        filters: server::domain::snapshot_filters::Filters::default(),
    };
    create_snapshot(db, &selection, None).await.unwrap()
}

/// Has an export built and returns what the API says of it.
pub(crate) async fn built(app: &TestApp, admin: &Client<'_>, id: SnapshotId, query: &str) -> Value {
    let path = format!("/api/v1/snapshots/{id}/exports?{query}");
    let wanted = admin.send_json("POST", &path, &[], &json!({})).await;
    assert_eq!(wanted.status, StatusCode::ACCEPTED, "{}", wanted.body);
    while build_next(&app.state.db, &app.state.data.data_dir())
        .await
        .unwrap()
    {}
    let export = admin.get(wanted.location.as_deref().unwrap()).await.json();
    assert_eq!(export["status"], "ready", "{export}");
    export
}

pub(crate) fn file_of(app: &TestApp, export: &Value, extension: &str) -> Vec<u8> {
    let name = format!("{}.{extension}", export["id"].as_str().unwrap());
    std::fs::read(app.state.data.data_dir().join("exports").join(name)).unwrap()
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_file_is_built_once_checksummed_and_downloaded_in_pieces(db: PgPool) {
    let id = snapshot(&db).await;
    let app = TestApp::new(db.clone());
    let admin = app.program("alice", &[Role::Admin]).await;
    let export = built(&app, &admin, id, "format=trl&margin=ranks").await;
    let bytes = file_of(&app, &export, "jsonl");
    assert_eq!(export["sha256"], hex::encode(Sha256::digest(&bytes)));
    assert_eq!(export["n_bytes"], bytes.len());
    assert_eq!(export["n_done"], export["n_items"], "{export}");
    let whole = String::from_utf8(bytes).unwrap();
    assert_eq!(export["n_rows"], whole.lines().count());
    assert!(whole.lines().all(|line| line.contains("\"margin\":")));

    let path = format!("/api/v1/exports/{}/file", export["id"].as_str().unwrap());
    let answer = admin.get(&path).await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (StatusCode::OK, whole.as_str())
    );
    assert_eq!(
        answer.headers["etag"],
        format!("\"{}\"", export["sha256"].as_str().unwrap())
    );
    assert!(
        answer.headers["content-disposition"]
            .to_str()
            .unwrap()
            .ends_with("trl.jsonl\"")
    );
    let request = admin.request("GET", &path).header("range", "bytes=1000-");
    let rest = admin.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(
        (rest.status, rest.body.as_str()),
        (StatusCode::PARTIAL_CONTENT, &whole[1000..])
    );

    // Asked for again it is the same, and nothing is built.
    let again = built(&app, &admin, id, "format=trl&margin=ranks").await;
    assert_eq!(again["id"], export["id"]);
    // With its file gone it is built again, to the same bytes.
    std::fs::remove_dir_all(app.state.data.data_dir().join("exports")).unwrap();
    assert_eq!(admin.get(&path).await.status, StatusCode::CONFLICT);
    let rebuilt = built(&app, &admin, id, "format=trl&margin=ranks").await;
    assert_eq!(rebuilt["sha256"], export["sha256"]);
}

/// What another version of the program built is another export: it keeps its bytes and is built no second time.
#[sqlx::test(migrator = "server::MIGRATOR")]
async fn an_export_of_another_revision_is_another_export(db: PgPool) {
    let id = snapshot(&db).await;
    let app = TestApp::new(db.clone());
    let admin = app.program("alice", &[Role::Admin]).await;
    let before = built(&app, &admin, id, "format=hh").await;
    let was_built_before = "UPDATE exports SET revision = revision - 1";
    sqlx::query(was_built_before).execute(&db).await.unwrap();
    let now = built(&app, &admin, id, "format=hh").await;
    assert_ne!(before["id"], now["id"]);
    assert_eq!(now["revision"], before["revision"]);
    let file = format!("/api/v1/exports/{}/file", before["id"].as_str().unwrap());
    assert_eq!(admin.get(&file).await.status, StatusCode::OK);

    // One that waited while the program was replaced is not built otherwise than it was asked for.
    let path = format!("/api/v1/snapshots/{id}/exports?format=nectar");
    let wanted = admin.send_json("POST", &path, &[], &json!({})).await;
    sqlx::query(was_built_before).execute(&db).await.unwrap();
    while build_next(&app.state.db, &app.state.data.data_dir())
        .await
        .unwrap()
    {}
    let export = admin.get(wanted.location.as_deref().unwrap()).await.json();
    assert_eq!(export["status"], "failed");
    let why = export["error"].as_str().unwrap();
    assert!(why.ends_with("ask for it again"), "{why}");
    built(&app, &admin, id, "format=nectar").await;
}

/// A value of a table, as JSON has it.
fn as_json(field: &Field) -> Value {
    let object = |row: &Row| -> Value {
        let columns = row.get_column_iter();
        columns
            .map(|(name, field)| (name.clone(), as_json(field)))
            .collect()
    };
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => json!(value),
        Field::Long(value) => json!(value),
        Field::Double(value) => json!(value),
        Field::Str(value) => json!(value),
        Field::Group(row) => object(row),
        Field::ListInternal(list) => list.elements().iter().map(as_json).collect(),
        other => panic!("a column of another type: {other:?}"),
    }
}

/// A line as a table can hold it: a prompt as turns, objects of unknown keys as lists, no field that is null,
/// and none that is always empty.
fn as_row(value: Value) -> Value {
    let Value::Object(fields) = value else {
        return match value {
            Value::Array(items) => items.into_iter().map(as_row).collect(),
            other => other,
        };
    };
    let fields = fields
        .into_iter()
        .filter(|(name, value)| !value.is_null() && name != "extra");
    let fields = fields.map(|(name, value)| {
        let value = match (name.as_str(), value) {
            ("flags" | "scales", Value::Object(answers)) => {
                let pairs = answers.into_iter();
                pairs
                    .map(|(key, value)| json!({"key": key, "value": value}))
                    .collect()
            }
            (_, value) => as_row(value),
        };
        (name, value)
    });
    fields.collect()
}

/// The rows of an export in a container, each as a table can hold it.
async fn rows_of(db: &PgPool, id: SnapshotId, choice: ExportChoice) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let mut connection = db.acquire().await.unwrap();
    let done = build(&mut connection, id, &choice, &path, &mut |_| ())
        .await
        .unwrap();
    let bytes = bytes::Bytes::from(std::fs::read(&path).unwrap());
    let rows: Vec<Value> = match choice.container {
        Container::Jsonl => {
            let lines = std::str::from_utf8(&bytes).unwrap().lines();
            let parse = |line| -> Value {
                let mut line: Value = serde_json::from_str(line).unwrap();
                if choice.format == ExportFormat::Plackett && line.get("prompt").is_some() {
                    let prompt: Prompt = serde_json::from_value(line["prompt"].take()).unwrap();
                    line["prompt"] = json!(prompt.messages());
                }
                line
            };
            lines.map(parse).map(as_row).collect()
        }
        _ => {
            let reader = SerializedFileReader::new(bytes).unwrap();
            let rows = reader.get_row_iter(None).unwrap().map(Result::unwrap);
            rows.map(|row| as_row(as_json(&Field::Group(row))))
                .collect()
        }
    };
    assert_eq!(done.n_rows, rows.len() as u64);
    rows
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn parquet_holds_the_rows_of_the_lines(db: PgPool) {
    let snapshots = crate::snapshot_guards::snapshots(&db).await;
    let mut seen = String::new();
    for (kind, id) in SnapshotKind::ALL.into_iter().zip(snapshots) {
        for format in ExportFormat::of(kind) {
            for margin in Margin::ALL {
                for aggregation in Aggregation::ALL {
                    let lines = ExportChoice {
                        margin: *margin,
                        aggregation: *aggregation,
                        ..ExportChoice::lines(*format)
                    };
                    let table = ExportChoice {
                        container: Container::Parquet,
                        ..lines
                    };
                    let lines = rows_of(&db, id, lines).await;
                    assert!(!lines.is_empty(), "{kind} {format:?}");
                    assert_eq!(lines, rows_of(&db, id, table).await, "{kind} {format:?}");
                    seen += &json!(lines).to_string();
                }
            }
        }
    }
    // What is said now and then was said.
    for name in [
        "\"review\":{",
        "\"note\":\"",
        "\"labelers\":2",
        "\"customer\":",
        "\"strength\":2",
        "\"margin\":",
        "\"writing\":",
        "\"found\":[{",
        "\"adjudication\":true",
    ] {
        assert!(seen.contains(name), "{name}");
    }
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn several_labelers_of_a_prompt_are_one_by_mean_rank(db: PgPool) {
    let id = snapshot(&db).await;
    let app = TestApp::new(db.clone());
    let admin = app.program("alice", &[Role::Admin]).await;
    let means = built(&app, &admin, id, "aggregation=mean-rank").await;
    assert_eq!(
        means["n_rows"], 40,
        "three labelers' rankings of a prompt are one"
    );
}

/// Whoever has the bytes is told so; whoever has a part goes on only where they are the same.
#[sqlx::test(migrator = "server::MIGRATOR")]
async fn who_has_an_export_is_not_sent_it_again(db: PgPool) {
    let id = snapshot(&db).await;
    let app = TestApp::new(db.clone());
    let admin = app.program("alice", &[Role::Admin]).await;
    let ask = async |path: &str, headers: &[(&str, &str)]| {
        let mut request = admin.request("GET", path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        admin.send(request.body(Body::empty()).unwrap()).await
    };
    let export = built(&app, &admin, id, "format=hh").await;
    let file = format!("/api/v1/exports/{}/file", export["id"].as_str().unwrap());
    let mut tags = std::collections::BTreeSet::new();
    for path in [
        format!("/api/v1/snapshots/{id}/export"),
        format!("/api/v1/snapshots/{id}/export?format=hh"),
        format!("/api/v1/snapshots/{id}/export?format=trl"),
        format!("/api/v1/snapshots/{id}/export?format=trl&margin=ranks"),
        format!("/api/v1/snapshots/{id}/export?format=trl&aggregation=mean-rank"),
        file.clone(),
    ] {
        let whole = ask(&path, &[]).await;
        let tag = whole.headers["etag"].to_str().unwrap().to_owned();
        assert!(tag.starts_with('"'), "{tag} names the very bytes");
        let before = exports_noted(&db).await;
        for list in [tag.clone(), format!("\"other\", W/{tag}"), "*".to_owned()] {
            let same = ask(&path, &[("if-none-match", &list)]).await;
            assert_eq!(same.status, StatusCode::NOT_MODIFIED, "{path}");
            assert_eq!(same.headers["etag"], tag);
            assert_eq!(same.body, "");
        }
        assert_eq!(exports_noted(&db).await, before, "nothing left the house");
        let changed = ask(&path, &[("if-none-match", "\"other\"")]).await;
        assert_eq!(
            (changed.status, &changed.body),
            (StatusCode::OK, &whole.body)
        );
        let gone = ask(&path, &[("if-match", "\"other\"")]).await;
        assert_eq!(gone.status, StatusCode::PRECONDITION_FAILED);
        // Packed on the way the bytes are others, and nobody goes on in their middle.
        let packed = ask(&path, &[("accept-encoding", "gzip")]).await;
        assert_eq!(packed.headers["content-encoding"], "gzip");
        assert_eq!(packed.headers["etag"], format!("W/{tag}"));
        tags.insert(tag);
    }
    assert_eq!(tags.len(), 6, "each choice has a tag of its own");
    let description = admin.get("/api/v1/openapi.json").await.json();
    for path in ["/api/v1/snapshots/{id}/export", "/api/v1/exports/{id}/file"] {
        let responses = &description["paths"][path]["get"]["responses"];
        assert!(responses["412"].is_object(), "{path}");
    }

    let whole = ask(&file, &[]).await;
    let tag = whole.headers["etag"].to_str().unwrap();
    let rest = ask(&file, &[("range", "bytes=1000-"), ("if-range", tag)]).await;
    assert_eq!(
        (rest.status, rest.body.as_str()),
        (StatusCode::PARTIAL_CONTENT, &whole.body[1000..])
    );
    for other in ["\"other\"", "Thu, 26 Nov 2026 12:00:00 GMT"] {
        let all = ask(&file, &[("range", "bytes=1000-"), ("if-range", other)]).await;
        assert_eq!((all.status, &all.body), (StatusCode::OK, &whole.body));
    }
}

async fn exports_noted(db: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM audit_events WHERE action = 'export'")
        .fetch_one(db)
        .await
        .unwrap()
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_dataset_has_its_card_its_splits_and_their_checksums(db: PgPool) {
    let id = snapshot(&db).await;
    let app = TestApp::new(db.clone());
    let admin = app.program("alice", &[Role::Admin]).await;
    let export = built(&app, &admin, id, "format=trl&container=dataset").await;
    let bytes = file_of(&app, &export, "tar");
    let mut files = std::collections::BTreeMap::new();
    for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        let mut contents = Vec::new();
        entry.read_to_end(&mut contents).unwrap();
        files.insert(path, contents);
    }
    let sums = String::from_utf8(files.remove("SHA256SUMS").unwrap()).unwrap();
    assert_eq!(sums.lines().count(), files.len());
    for line in sums.lines() {
        let (sum, path) = line.split_once("  ").unwrap();
        assert_eq!(sum, hex::encode(Sha256::digest(&files[path])), "{path}");
    }
    let card = String::from_utf8(files["README.md"].clone()).unwrap();
    for part in [
        "  - split: train\n    path: data/train-00000-of-00001.parquet",
        "| rankings | 120 of 4 completions |",
        "| labelers | 3 |",
        "| agreement | ",
        "| simulated labelers | included",
    ] {
        assert!(card.contains(part), "{part} in {card}");
    }
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn exports_are_for_admins_and_wrong_words_are_named(db: PgPool) {
    let id = snapshot(&db).await;
    let app = TestApp::new(db.clone());
    let admin = app.program("alice", &[Role::Admin]).await;
    for (query, field) in [
        ("format=alpaca", "format"),
        ("container=zip", "container"),
        ("margin=1", "margin"),
        ("aggregation=best", "aggregation"),
    ] {
        let path = format!("/api/v1/snapshots/{id}/exports?{query}");
        let refused = admin.send_json("POST", &path, &[], &json!({})).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(refused.json()["errors"][0]["field"], field);
    }
    let export = built(&app, &admin, id, "").await;
    let path = format!("/api/v1/exports/{}/file", export["id"].as_str().unwrap());
    for role in [Role::Labeler, Role::Operator] {
        let other = app.program(role.as_str(), &[role]).await;
        assert_eq!(other.get(&path).await.status, StatusCode::FORBIDDEN);
    }
    let page = app.admin().await;
    let shown = page.get(&format!("/snapshots/{id}")).await;
    assert!(
        shown.body.contains(export["sha256"].as_str().unwrap()),
        "{}",
        shown.body
    );
    let form = page
        .post(
            &format!("/snapshots/{id}/exports"),
            "format=hh&container=parquet",
        )
        .await;
    assert_eq!(form.status, StatusCode::SEE_OTHER);
    let shown = page.get(&format!("/snapshots/{id}")).await;
    assert!(shown.body.contains("data-underway"), "{}", shown.body);
}
