//! Whatever is changed in the database after a snapshot was taken: either the database refuses it, or the
//! snapshot is still written out as the same bytes.

use server::domain::export::{Container, ExportChoice, ExportFormat};
use server::domain::ids::{ProjectId, SnapshotId};
use server::domain::snapshot::{Labels, Selection, SnapshotKind};
use server::domain::snapshot_filters::Filters;
use server::exchange::export::{create_snapshot, write_snapshot};
use server::exchange::export_file::build;
use server::exchange::import::{FileFormat, import};
use server::exchange::records::ImportKind;
use server::store;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};

use crate::every_page::ordinary;
use crate::support::sayings::Texts;
use crate::support::world;
use crate::support::{TestApp, fake};

/// A snapshot of each kind, in the order of [`SnapshotKind::ALL`], of a project in which everything was said,
/// with whatever can be asked for.
pub(crate) async fn snapshots(db: &PgPool) -> Vec<SnapshotId> {
    let app = TestApp::new(db.clone());
    let models = ["one", "two", "three"].map(str::to_owned);
    let texts = Texts::new(ordinary(), models, false);
    let project = world::build(db, &app, &[ordinary()], &texts).await.project;
    for (kind, line) in [
        (
            ImportKind::Prompts,
            r#"{"id":"file","prompt":"one","customer":"acme"}"#,
        ),
        (
            ImportKind::Demonstrations,
            r#"{"id":"file","writing":"w","messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}"#,
        ),
        (ImportKind::Texts, r#"{"id":"file","text":"one"}"#),
    ] {
        let mut transaction = db.begin().await.unwrap();
        let found = store::projects::find(&mut transaction, project).await;
        let source = std::io::Cursor::new(line);
        let found = found.unwrap().unwrap();
        let report = import(&mut transaction, &found, kind, FileFormat::Jsonl, source).await;
        assert!(report.as_ref().unwrap().is_clean(), "{report:?}");
        transaction.commit().await.unwrap();
    }
    let mut taken = Vec::new();
    for kind in SnapshotKind::ALL {
        taken.push(take(db, project, kind).await);
    }
    taken
}

async fn take(db: &PgPool, project_id: ProjectId, kind: SnapshotKind) -> SnapshotId {
    let selection = Selection {
        project_id,
        kind,
        name: format!("all {kind}"),
        categories: Vec::new(),
        include_simulated: true,
        reviewed_categories: true,
        include_personal: true,
        labels: Labels::All,
        filters: Filters::default(),
    };
    create_snapshot(db, &selection, None).await.unwrap()
}

/// What the snapshots are written as, and their cards; none where that fails.
async fn written(db: &mut PgConnection, snapshots: &[SnapshotId]) -> Option<Vec<Vec<u8>>> {
    let folder = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    for id in snapshots {
        let mut bytes = Vec::new();
        write_snapshot(db, *id, &mut bytes).await.ok()?;
        all.push(bytes);
        let choice = ExportChoice {
            container: Container::Dataset,
            ..ExportChoice::lines(ExportFormat::Plackett)
        };
        let path = folder.path().join("file");
        build(db, *id, &choice, &path, &mut |_| ()).await.ok()?;
        all.push(std::fs::read(&path).unwrap());
    }
    Some(all)
}

/// Another value for a column of a type.
fn other(column: &str, kind: &str) -> Option<String> {
    Some(match kind {
        "text" => format!("coalesce({column}, '') || 'x'"),
        "int2" | "int4" | "int8" => format!("coalesce({column}, 0) + 1"),
        "float4" | "float8" => format!("coalesce({column}, 0) / 2 + 0.125"),
        "bool" => format!("NOT coalesce({column}, FALSE)"),
        "timestamptz" => format!("coalesce({column}, now()) + INTERVAL '1 day'"),
        "uuid" => "gen_random_uuid()".to_owned(),
        "jsonb" => r#"'{"other": 1}'"#.to_owned(),
        "bytea" => "'\\x00'".to_owned(),
        "_int2" => format!(
            "ARRAY(SELECT n FROM unnest({column}) n ORDER BY n DESC) || '{{0}}'::SMALLINT[]"
        ),
        "_text" => "'{}'".to_owned(),
        _ => return None,
    })
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_change_of_any_column_is_refused_or_changes_no_byte(db: PgPool) {
    let snapshots = snapshots(&db).await;
    let mut connection = db.acquire().await.unwrap();
    let before = written(&mut connection, &snapshots).await.unwrap();
    drop(connection);
    for (bytes, part) in [
        (0, "\"note\":\""),
        (4, "\"customer\":\"acme\""),
        (4, "\"review\":{"),
    ] {
        let text = String::from_utf8_lossy(&before[bytes]);
        assert!(text.contains(part), "{part} in {text}");
    }
    let columns: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT c.table_name, c.column_name, c.udt_name FROM information_schema.columns c
         JOIN information_schema.tables t USING (table_schema, table_name)
         WHERE c.table_schema = 'public' AND t.table_type = 'BASE TABLE' AND c.is_generated = 'NEVER'
           AND c.table_name <> '_sqlx_migrations'
         ORDER BY 1, 2",
    )
    .fetch_all(&db)
    .await
    .unwrap();
    let mut changes = Vec::new();
    for (table, column, kind) in &columns {
        let Some(value) = other(column, kind) else {
            panic!("{table}.{column} has the type {kind}, which this test does not know")
        };
        // Of one row, so that no two rows get the same key.
        let row = format!("ctid = (SELECT min(ctid) FROM {table})");
        changes.push(format!("UPDATE {table} SET {column} = {value}"));
        changes.push(format!("UPDATE {table} SET {column} = {value} WHERE {row}"));
        changes.push(format!("UPDATE {table} SET {column} = NULL"));
        changes.push(format!("DELETE FROM {table} WHERE {row}"));
        changes.push(format!("DELETE FROM {table}"));
    }
    changes.sort();
    changes.dedup();
    changes.push("INSERT INTO snapshot_items (snapshot_id, position, item_id, review_id) SELECT snapshot_id, position + 1000, item_id, review_id FROM snapshot_items".to_owned());
    let (mut n_refused, mut wrong) = (0, Vec::new());
    for change in &changes {
        let mut transaction = db.begin().await.unwrap();
        let done = sqlx::query(AssertSqlSafe(change.clone()))
            .execute(&mut *transaction)
            .await;
        match done {
            Err(_) => n_refused += 1,
            Ok(done) if done.rows_affected() == 0 => (),
            Ok(_) => {
                if written(&mut transaction, &snapshots).await.as_ref() != Some(&before) {
                    wrong.push(change);
                }
            }
        }
        transaction.rollback().await.unwrap();
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(n_refused > 100, "{n_refused} of {}", changes.len());
}

/// A task that nobody has ranked goes with its candidates; candidates alone stay.
#[sqlx::test(migrator = "server::MIGRATOR")]
async fn candidates_go_with_a_task_without_labels_alone(db: PgPool) {
    // One is ranked, the next one is leased, and one is left.
    fake::project(&db, 3, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let task = ada.open_task().await;
    let ranks =
        "rank-1=2&rank-2=3&rank-3=1&rank-4=4&note=&action=submit&idempotency_key=k&confirmed=yes";
    let sent = ada.post(&task, ranks).await;
    assert_eq!(
        sent.status,
        axum::http::StatusCode::SEE_OTHER,
        "{}",
        sent.body
    );
    let labelled = "id IN (SELECT task_id FROM assignments)";
    for refused in [
        "UPDATE candidates SET slot = slot + 4".to_owned(),
        "DELETE FROM candidates".to_owned(),
        format!("DELETE FROM tasks WHERE {labelled}"),
        "DELETE FROM prompts".to_owned(),
    ] {
        let done = sqlx::query(AssertSqlSafe(refused.clone()))
            .execute(&db)
            .await;
        assert!(done.is_err(), "{refused}");
    }
    let free = format!("DELETE FROM tasks WHERE NOT {labelled}");
    let done = sqlx::query(AssertSqlSafe(free)).execute(&db).await.unwrap();
    assert_eq!(done.rows_affected(), 1);
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM candidates")
        .fetch_one(&db)
        .await
        .unwrap();
    assert_eq!(left, 8);
}
