//! The parts of `make bench-labeling` that can be wrong: the load itself, what it checks, and the
//! write-up.

use std::time::Duration;

use rand::SeedableRng;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::document;
use crate::load::check::check;
use crate::load::labelers::{Plan, Way, work};
use crate::load::page_form::PageForm;
use crate::support::fake;
use crate::support::program::Program;

/// Lets five labelers do three rankings each of 60 tasks with two places.
async fn five_labelers(db: &PgPool, way: Way) {
    let project_id = fake::project(db, 60, 5, 2, 3600).await;
    let program = Program::start(db, &["--no-worker"]).await;
    let address = program.url.trim_start_matches("http://").parse().unwrap();
    let plan = Plan {
        address,
        way,
        project_id: project_id.0,
        n_labelers: 5,
        think: Duration::ZERO,
        warm_up: Duration::ZERO,
        measured: Duration::from_secs(60),
        most_loops: 100,
    };
    let mut readings = Vec::new();
    let done = work(db, plan, |begins| readings.push(begins))
        .await
        .unwrap();
    assert_eq!(done.errors, Vec::<String>::new());
    assert_eq!(readings, [true, false]);
    assert!(done.seconds > 0.0 && done.seconds < 60.0);
    assert!(done.acknowledged.len() >= 90, "{}", done.acknowledged.len());
    assert!(done.next.len() == done.submit.len() && done.next.len() > 1);
    let found = check(db, &done.acknowledged).await.unwrap();
    assert!(found.holds(), "{found:?}");
    assert_eq!(found.stored, done.acknowledged.len());

    // The check sees what it is there to see.
    let mut twice = done.acknowledged.clone();
    twice.push(twice[0]);
    assert_eq!(check(db, &twice).await.unwrap().doubled, 1);
    let more = [done.acknowledged[0], uuid::Uuid::new_v4()];
    assert_eq!(check(db, &more).await.unwrap().lost, 1);
    fake::rewrite(db, "UPDATE ratings SET rank = NULL").await;
    let found = check(db, &done.acknowledged).await.unwrap();
    assert_eq!(found.halves, done.acknowledged.len() as i64);
    assert!(!found.holds());
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_load_by_the_api_is_acknowledged_and_stored_once(db: PgPool) {
    five_labelers(&db, Way::Api).await;
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_load_by_the_pages_is_acknowledged_and_stored_once(db: PgPool) {
    five_labelers(&db, Way::Pages).await;
    // What was chosen on the page has arrived.
    let rated: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM ratings WHERE overall IS NOT NULL AND flags <> '{}'",
    )
    .fetch_one(&db)
    .await
    .unwrap();
    assert!(rated > 100, "{rated}");
}

#[test]
fn a_form_is_read_from_a_page_and_filled_in() {
    let html = r#"<input name="q"><form id="rank-form" method="post"><input type="hidden" name="revision" value="3">
        <input type="hidden" name="idempotency_key" value="page's">
        <label><input type="radio" name="rank-1" value="1" checked></label>
        <input type="radio" name="rank-1" value="2"><input type="radio" name="rank-1" value="cannot">
        <input type="radio" name="rank-2" value="1"><input type="radio" name="rank-2" value="2">
        <input type="checkbox" name="all_bad" value="yes"><textarea id="note" name="note" rows="2"></textarea>
        <input type="checkbox" id="nameless"></form><input name="elsewhere">"#;
    let form = PageForm::read(html).unwrap();
    let mut rng = rand_chacha::ChaCha12Rng::seed_from_u64(1);
    let body = form.fill_in("a key&", &mut rng);
    let expected = ["1", "2"].map(|rank| {
        format!("revision=3&idempotency_key=a+key%26&rank-1=2&rank-2={rank}&note=&action=submit")
    });
    assert!(expected.contains(&body), "{body}");
    assert!(PageForm::read("<form></form>").is_none());
}

fn a_loop(run: u64, labelers: u64, tasks: u64, rate: f64, p99: f64) -> Value {
    json!({
        "case": "loop", "run": run, "tasks": tasks, "way": "api", "labelers": labelers,
        "loops_per_second": rate,
        "next_ms": {"p50": 1.0, "p95": 2.0, "p99": p99}, "submit_ms": {"p50": 1.5, "p95": 2.5, "p99": 3.5},
        "cpu_seconds_per_loop": {"server": 0.0005, "postgres": 0.0015, "client": 0.0001},
        "others_percent": 7.0, "load_average_before": 0.4, "start_seconds": 0.02,
        "memory_mb": {"idle": 15.0, "end": 20.0},
    })
}

#[test]
fn figures_are_written_up_between_the_marks_with_targets_met_and_missed() {
    let mut lines = vec![json!({"case": "environment", "commit": "abc", "date": "2026-11-26"})];
    for (run, rate) in [(1, 900.0), (2, 1000.0), (3, 700.0)] {
        lines.push(json!({"case": "pgbench", "run": run, "clients": 64, "tps": 4.0 * rate, "latency_ms": 1.0,
            "postgres_cpu_seconds_per_transaction": 0.0002, "load_average_before": 0.1}));
        lines.push(a_loop(run, 64, 10_000, rate, 49.0));
        lines.push(a_loop(run, 64, 100_000, rate / 2.0, 51.0));
        lines.push(json!({"case": "import", "run": run, "tasks": 100_000, "bytes": 338_000_000, "how": "page",
            "seconds": 8.0, "memory_mb": {"before": 15.0, "peak": 30.0}, "load_average_before": 0.1}));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("benchmarks.md");
    document::write(&path, &lines).unwrap();
    let first = std::fs::read_to_string(&path).unwrap();
    for part in [
        "commit abc",
        "| 10000 | 64 | **900** (700-1000) | 1.0 / 2.0 / 49.0 | 1.5 / 2.5 / 3.5 | 0.50 + 1.50 | 0.10 | **0.50** (0.50-0.50) |",
        "2.00 to 2.00 ms, 115 to 115 times less than Label Studio's 230 | met |",
        "0.50 (64 labelers, 10000 tasks), 0.25 (64 labelers, 100000 tasks) | **missed** |",
        "next 49.0, submit 3.5 ms (10000 tasks), next 51.0, submit 3.5 ms (100000 tasks) | **missed** |",
        "0.50 (64 labelers) | **missed** |",
        "15.0 MB | met |",
        "8.0 s, and 15 MB more memory at its most | met |",
        "| 100000 | 338 | one request | **8.0** (8.0-8.0) |",
        "Measured elsewhere, not in this run",
    ] {
        assert!(first.contains(part), "{part}\n{first}");
    }
    // What people wrote around it stays, and nothing is written twice.
    let around = first.replace("# Benchmarks", "# By hand") + "\nAn afterword.\n";
    std::fs::write(&path, &around).unwrap();
    document::write(&path, &lines).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), around);
    std::fs::write(&path, "no marks").unwrap();
    assert!(document::write(&path, &lines).is_err());
}
