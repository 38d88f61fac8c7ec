//! Snapshots as files: built in the background, whole or not there, the same bytes each time, and
//! downloaded in pieces.

use std::io::Read;

use axum::body::Body;
use axum::http::StatusCode;
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::{Value, json};
use server::domain::ids::SnapshotId;
use server::domain::role::Role;
use server::domain::snapshot::{Selection, SnapshotKind};
use server::exchange::export::create_snapshot;
use server::store;
use server::worker::exports::build_next;
use sha2::{Digest, Sha256};
use sqlx::PgPool;

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

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn parquet_holds_the_rows_of_the_lines(db: PgPool) {
    let id = snapshot(&db).await;
    let app = TestApp::new(db.clone());
    let admin = app.program("alice", &[Role::Admin]).await;
    for format in [
        "rankings",
        "trl",
        "trl-implicit",
        "trl-unpaired",
        "nectar",
        "hh",
        "summarize",
    ] {
        let lines = built(&app, &admin, id, &format!("format={format}")).await;
        let table = built(
            &app,
            &admin,
            id,
            &format!("format={format}&container=parquet"),
        )
        .await;
        assert_eq!(table["n_rows"], lines["n_rows"], "{format}");
        let bytes = bytes::Bytes::from(file_of(&app, &table, "parquet"));
        let reader = SerializedFileReader::new(bytes).unwrap();
        let rows = reader.get_row_iter(None).unwrap().map(Result::unwrap);
        // No column is empty, but for what nobody said.
        let first = rows.take(1).next().unwrap().to_string();
        let may_be_empty = [
            "adjudication",
            "customer",
            "disagreement",
            "note",
            "rating",
            "simulated",
        ];
        for part in first.split(", ").filter(|part| part.ends_with(": null")) {
            let name = part.trim_start_matches('{').trim_end_matches(": null");
            assert!(may_be_empty.contains(&name), "{format}: {first}");
        }
    }
    let means = built(&app, &admin, id, "aggregation=mean-rank").await;
    assert_eq!(
        means["n_rows"], 40,
        "three labelers' rankings of a prompt are one"
    );
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
