//! A large import sets the look-up of foreign keys aside where its role may, and writes the same rows
//! where it may not.

use std::io::Cursor;

use server::exchange::import::{FileFormat, Report, import};
use server::exchange::records::ImportKind;
use server::store;
use sqlx::{PgConnection, PgPool};

use crate::support::fake;

/// Tables whose rows are written with the look-ups set aside.
const TABLES: [&str; 3] = ["completions", "tasks", "candidates"];

fn line(id: &str) -> String {
    let texts: Vec<String> = (1..=4)
        .map(|n| format!(r#"{{"text":"answer {n} of {id}","model":"m"}}"#))
        .collect();
    let texts = texts.join(",");
    format!(
        "{{\"id\":\"{id}\",\"prompt\":\"ask {id}\",\"language\":\"zh\",\"completions\":[{texts}]}}\n"
    )
}

/// More lines than one batch has; the first prompts are in the project already.
async fn import_many(db: &mut PgConnection) -> Report {
    let project = store::projects::find_by_slug(&mut *db, "study")
        .await
        .unwrap()
        .unwrap();
    let known: String = (0..20)
        .map(|n| format!("{{\"id\":\"p{n}\",\"prompt\":\"ask p{n}\",\"language\":\"zh\"}}\n"))
        .collect();
    let lines: String = (0..1300).map(|n| line(&format!("p{n}"))).collect();
    let mut report = Report::default();
    for (kind, text) in [
        (ImportKind::Prompts, known),
        (ImportKind::Candidates, lines),
    ] {
        let source = Cursor::new(text.into_bytes());
        report = import(&mut *db, &project, kind, FileFormat::Jsonl, source)
            .await
            .unwrap();
        assert!(report.is_clean(), "{report:?}");
    }
    report
}

async fn count(db: &mut PgConnection, what: &'static str) -> i64 {
    let statement = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {what}"));
    sqlx::query_scalar(statement).fetch_one(db).await.unwrap()
}

/// Everything that 1,300 lines with four completions each make.
async fn check_rows(db: &mut PgConnection) {
    assert_eq!(count(db, "prompts").await, 1300);
    assert_eq!(
        count(db, "tasks WHERE overlap = 2 AND language = 'zh'").await,
        1300
    );
    assert_eq!(count(db, "completions").await, 5200);
    let whole = "tasks t JOIN candidates k ON k.task_id = t.id
         JOIN completions c ON c.id = k.completion_id AND c.prompt_id = t.prompt_id
         JOIN prompts p ON p.id = t.prompt_id AND p.project_id = t.project_id
         WHERE c.text = format('answer %s of %s', k.slot + 1, p.external_id)";
    assert_eq!(count(db, whole).await, 5200);
    let early = "tasks t JOIN prompts p ON p.id = t.prompt_id
         JOIN tasks u ON (u.sort_key, u.id) < (t.sort_key, t.id)
         JOIN prompts q ON q.id = u.prompt_id
         WHERE substr(q.external_id, 2)::INT > substr(p.external_id, 2)::INT";
    assert_eq!(
        count(db, early).await,
        0,
        "the queue is in the file's order"
    );
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn every_key_of_an_import_leads_somewhere(db: PgPool) {
    fake::project(&db, 0, 4, 2, 3600).await;
    let mut transaction = db.begin().await.unwrap();
    import_many(&mut transaction).await;
    let role: String = sqlx::query_scalar("SHOW session_replication_role")
        .fetch_one(&mut *transaction)
        .await
        .unwrap();
    assert_eq!(role, "origin", "keys are minded again");
    transaction.commit().await.unwrap();
    let mut connection = db.acquire().await.unwrap();
    check_rows(&mut connection).await;

    // Postgres checks all rows when a key is made.
    let keys: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT conrelid::regclass::text, conname::text, pg_get_constraintdef(oid) FROM pg_constraint
         WHERE contype = 'f' AND conrelid::regclass::text = ANY ($1)",
    )
    .bind(TABLES)
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    assert!(keys.len() >= 7, "{keys:?}");
    for (table, name, definition) in keys {
        let statement = format!(
            "ALTER TABLE {table} DROP CONSTRAINT {name}, ADD CONSTRAINT {name} {definition}"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
            .execute(&mut *connection)
            .await
            .unwrap();
    }
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_role_that_may_not_set_keys_aside_imports_the_same(db: PgPool) {
    fake::project(&db, 0, 4, 2, 3600).await;
    let mut transaction = db.begin().await.unwrap();
    // Undone with the transaction, as the import is.
    sqlx::raw_sql(
        "CREATE ROLE modest; GRANT ALL ON ALL TABLES IN SCHEMA public TO modest; SET LOCAL ROLE modest",
    )
    .execute(&mut *transaction)
    .await
    .unwrap();
    let may: bool = sqlx::query_scalar("SELECT current_setting('is_superuser') = 'on'")
        .fetch_one(&mut *transaction)
        .await
        .unwrap();
    assert!(!may);
    import_many(&mut transaction).await;
    check_rows(&mut transaction).await;
    transaction.rollback().await.unwrap();
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn no_trigger_of_ours_would_be_set_aside_with_them(db: PgPool) {
    let triggers: Vec<String> = sqlx::query_scalar(
        "SELECT tgname::text FROM pg_trigger
         WHERE tgrelid::regclass::text = ANY ($1) AND NOT tgisinternal AND tgtype & 4 <> 0",
    )
    .bind(TABLES)
    .fetch_all(&db)
    .await
    .unwrap();
    assert!(
        triggers.is_empty(),
        "store/copy.rs sets {triggers:?} aside: let imports of these tables mind their triggers"
    );
}

/// Whoever imports second waits, and finds what the first one opened.
#[sqlx::test(migrator = "server::MIGRATOR")]
async fn two_imports_of_one_file_at_once_open_each_task_once(db: PgPool) {
    fake::project(&db, 0, 4, 2, 3600).await;
    let prompts: String = (0..5)
        .map(|n| format!("{{\"id\":\"p{n}\",\"prompt\":\"ask p{n}\"}}\n"))
        .collect();
    run_import(&db, ImportKind::Prompts, prompts).await;
    let lines = || (0..5).map(|n| line(&format!("p{n}"))).collect::<String>();
    let (first, second) = tokio::join!(
        run_import(&db, ImportKind::Candidates, lines()),
        run_import(&db, ImportKind::Candidates, lines()),
    );
    let mut connection = db.acquire().await.unwrap();
    assert_eq!(count(&mut connection, "tasks").await, 5);
    assert!(
        first.is_clean() != second.is_clean(),
        "{first:?} {second:?}"
    );
}

/// In a transaction of its own, which is kept where nothing was refused.
async fn run_import(db: &PgPool, kind: ImportKind, text: String) -> Report {
    let mut transaction = db.begin().await.unwrap();
    let project = store::projects::find_by_slug(&mut transaction, "study")
        .await
        .unwrap()
        .unwrap();
    let source = Cursor::new(text.into_bytes());
    let report = import(&mut transaction, &project, kind, FileFormat::Jsonl, source)
        .await
        .unwrap();
    if report.is_clean() {
        transaction.commit().await.unwrap();
    }
    report
}
