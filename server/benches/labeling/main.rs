//! `make bench-labeling`: how fast labelers get and submit tasks, and how fast tasks come in, beside
//! pgbench on the same Postgres. Prints one JSON line for each case, as `plackett bench` does for the
//! trainer, and writes them up with `--document`.
//!
//! It is no subcommand of the program: it makes databases and accounts, drops them, and speaks HTTP
//! from outside; none of that belongs on an operator's machine. The server runs as a process of its
//! own on a fresh copy of a filled database, so that no case sees what another left.

mod document;
mod imports;
mod load;
mod machine;
mod postgres;
mod program;
mod tasks;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Parser;
use serde_json::{Value, json};

use crate::imports::File;
use crate::load::check::check;
use crate::load::labelers::{Plan, Way, work};
use crate::machine::Cpu;
use crate::postgres::Postgres;
use crate::program::Server;

/// Measures labeling. Run it through `.ci/with-postgres --durable`.
#[derive(Debug, Parser)]
struct Settings {
    /// Times that each case is measured.
    #[arg(long, default_value_t = 3)]
    runs: usize,

    /// How long a case is measured.
    #[arg(long, default_value_t = 10)]
    seconds: u64,

    /// How long it runs before that.
    #[arg(long, default_value_t = 2)]
    warm_up_seconds: u64,

    /// Numbers of labelers that work at once.
    #[arg(long, value_delimiter = ',', default_value = "1,8,32,64")]
    labelers: Vec<usize>,

    /// Numbers of open tasks.
    #[arg(long, value_delimiter = ',', default_value = "10000,100000")]
    tasks: Vec<usize>,

    /// How labelers work.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "api,pages")]
    ways: Vec<Way>,

    /// Measure imports and nothing else.
    #[arg(long)]
    imports_only: bool,

    /// Write the lines up in this file's part on labeling.
    #[arg(long, value_name = "FILE")]
    document: Option<PathBuf>,

    /// Measure nothing: write up the lines of an earlier run.
    #[arg(long, value_name = "FILE", requires = "document")]
    from: Option<PathBuf>,

    /// What cargo says to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What a task takes somebody who hardly looks at it.
const THINK: Duration = Duration::from_secs(2);

/// Part of a project's tasks that one case may use up.
const USED: f64 = 0.9;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let settings = Settings::parse();
    let lines = match &settings.from {
        Some(path) => std::fs::read_to_string(path)?
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?,
        None => measure(&settings).await?,
    };
    if let Some(path) = &settings.document {
        // Cargo runs benches in their package's folder.
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
        document::write(&path, &lines)?;
        eprintln!("{} is written", path.display());
    }
    Ok(())
}

/// Every case, in turn.
async fn measure(settings: &Settings) -> anyhow::Result<Vec<Value>> {
    let postgres = Postgres::connect().await?;
    let mut lines = Lines::default();
    lines.add(
        "environment",
        &json!({}),
        &describe(&postgres, settings).await?,
    );
    let folder = tempfile::tempdir()?;
    for n_tasks in &settings.tasks {
        import_all(&postgres, settings, *n_tasks, folder.path(), &mut lines).await?;
    }
    if settings.imports_only {
        return Ok(lines.0);
    }
    postgres.prepare_pgbench().await?;
    for run in 1..=settings.runs {
        for n_labelers in &settings.labelers {
            let told = json!({"run": run, "clients": n_labelers});
            let line = postgres
                .measure_pgbench(*n_labelers, settings.warm_up_seconds, settings.seconds)
                .await?;
            lines.add("pgbench", &told, &line);
            for n_tasks in &settings.tasks {
                for way in &settings.ways {
                    let told = json!({
                        "run": run, "tasks": n_tasks, "way": way.as_str(), "labelers": n_labelers,
                    });
                    let case = (*n_tasks, *way, *n_labelers);
                    let line = measure_loop(&postgres, settings, case, Duration::ZERO).await?;
                    lines.add("loop", &told, &line);
                }
            }
        }
        paced(&postgres, settings, run, &mut lines).await?;
    }
    Ok(lines.0)
}

/// The most labelers over the most tasks, at the pace of people who are very fast.
async fn paced(
    postgres: &Postgres,
    settings: &Settings,
    run: usize,
    lines: &mut Lines,
) -> anyhow::Result<()> {
    let most = |values: &[usize]| values.iter().copied().max().unwrap_or(1);
    let (n_labelers, n_tasks) = (most(&settings.labelers), most(&settings.tasks));
    for way in &settings.ways {
        let told = json!({
            "run": run, "tasks": n_tasks, "way": way.as_str(), "labelers": n_labelers, "think_ms": THINK.as_millis() as u64,
        });
        let case = (n_tasks, *way, n_labelers);
        let line = measure_loop(postgres, settings, case, THINK).await?;
        lines.add("paced", &told, &line);
    }
    Ok(())
}

/// What was found, printed as it comes.
#[derive(Default)]
struct Lines(Vec<Value>);

impl Lines {
    fn add(&mut self, case: &str, told: &Value, found: &Value) {
        let mut line = json!({"case": case});
        if let Value::Object(line) = &mut line {
            for part in [told, found] {
                line.extend(part.as_object().cloned().unwrap_or_default());
            }
        }
        println!("{line}");
        self.0.push(line);
    }
}

/// The machine, the program and Postgres.
async fn describe(postgres: &Postgres, settings: &Settings) -> anyhow::Result<Value> {
    let git = |arguments: &[&str]| -> Option<String> {
        let output = std::process::Command::new("git")
            .args(arguments)
            .output()
            .ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_default();
    let is_changed = git(&["status", "--porcelain", "--untracked-files=no"])
        .is_some_and(|status| !status.is_empty());
    let temporary = std::env::temp_dir();
    Ok(json!({
        "machine": machine::describe()?,
        "postgres": postgres.describe().await?,
        "commit": commit,
        "changed_since_commit": is_changed,
        "version": env!("CARGO_PKG_VERSION"),
        "date": chrono::Utc::now().format("%Y-%m-%d").to_string(),
        "runs": settings.runs,
        "seconds": settings.seconds,
        "warm_up_seconds": settings.warm_up_seconds,
        "candidates": tasks::K,
        "folder": temporary.display().to_string(),
    }))
}

/// The database that cases with so many tasks are copied from.
fn base(n_tasks: usize) -> String {
    format!("base_{n_tasks}")
}

/// Imports a file of tasks again and again, each time into a fresh database, and keeps the last one
/// for the other cases.
async fn import_all(
    postgres: &Postgres,
    settings: &Settings,
    n_tasks: usize,
    folder: &Path,
    lines: &mut Lines,
) -> anyhow::Result<()> {
    let path = folder.join("tasks.jsonl");
    let file = File {
        n_bytes: tasks::write(&path, n_tasks)?,
        path: &path,
        n_tasks,
    };
    let base = base(n_tasks);
    for run in 1..=settings.runs {
        for by_page in [false, true] {
            postgres.drop(&base).await?;
            postgres.create(&base).await?;
            let db = postgres.open(&base).await?;
            imports::create_project(&db).await?;
            db.close().await;
            let line = match by_page {
                true => imports::by_page(postgres, &base, &file, folder).await?,
                false => imports::by_command(postgres, &base, &file, folder).await?,
            };
            let told = json!({"run": run, "tasks": n_tasks, "bytes": file.n_bytes});
            lines.add("import", &told, &line);
        }
    }
    // As it would be a minute later, when autovacuum has passed: it leaves empty tables alone. To have
    // vacuumed them would tell the planner that they are certainly empty, and the plans that it makes
    // then read the whole table once there are rows.
    let db = postgres.open(&base).await?;
    sqlx::raw_sql("VACUUM ANALYZE prompts, completions, tasks, candidates")
        .execute(&db)
        .await?;
    db.close().await;
    Ok(())
}

/// Labelers at work on a fresh copy.
async fn measure_loop(
    postgres: &Postgres,
    settings: &Settings,
    (n_tasks, way, n_labelers): (usize, Way, usize),
    think: Duration,
) -> anyhow::Result<Value> {
    const DATABASE: &str = "loops";
    postgres.drop(DATABASE).await?;
    postgres.copy(&base(n_tasks), DATABASE).await?;
    let db = postgres.open(DATABASE).await?;
    let project_id = sqlx::query_scalar("SELECT id FROM projects")
        .fetch_one(&db)
        .await?;
    let folder = tempfile::tempdir()?;
    let server = Server::start(&postgres.url(DATABASE), folder.path()).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let idle = machine::memory_mb(server.id(), "VmRSS")?;
    let load_average = machine::load_average()?;
    let plan = Plan {
        address: server.address,
        way,
        project_id,
        n_labelers,
        think,
        // Past the first task of each, which all ask for at one moment.
        warm_up: Duration::from_secs(settings.warm_up_seconds) + think * 2,
        measured: Duration::from_secs(settings.seconds),
        most_loops: (n_tasks as f64 * USED) as usize,
    };
    let mut readings = Vec::new();
    let done = work(&db, plan, |_| {
        readings.push(Cpu::read(server.id(), postgres.postmaster));
    })
    .await?;
    let end = machine::memory_mb(server.id(), "VmRSS")?;
    let mut readings = readings.into_iter();
    let earlier = readings.next().context("measuring did not begin")??;
    let used = readings
        .next()
        .context("measuring did not end")??
        .since(earlier);
    let start_seconds = server.start_seconds;
    drop(server);
    let found = check(&db, &done.acknowledged).await?;
    db.close().await;
    ensure!(found.holds(), "a promise is broken: {found:?}");
    ensure!(
        done.errors.is_empty(),
        "{} labelers were refused: {:?}",
        done.errors.len(),
        done.errors
    );
    let n = done.next.len();
    ensure!(n > 0, "no loop ended while it was measured");
    Ok(json!({
        "loops": n,
        "seconds": done.seconds,
        "loops_per_second": n as f64 / done.seconds,
        "next_ms": percentiles(done.next),
        "submit_ms": percentiles(done.submit),
        "cpu_seconds_per_loop": {
            "server": used.server / n as f64,
            "postgres": used.postgres / n as f64,
            "client": used.client / n as f64,
        },
        "others_percent": used.others_percent(done.seconds),
        "load_average_before": load_average,
        "start_seconds": start_seconds,
        "memory_mb": {"idle": idle, "end": end},
        "acknowledged": found.acknowledged,
        "stored": found.stored,
        "errors": done.errors.len(),
    }))
}

/// Nearest-rank percentiles, in milliseconds.
fn percentiles(mut times: Vec<Duration>) -> Value {
    times.sort_unstable();
    let at = |percent: usize| {
        let rank = (times.len() * percent).div_ceil(100).max(1);
        times[rank - 1].as_secs_f64() * 1e3
    };
    json!({"p50": at(50), "p95": at(95), "p99": at(99)})
}
