//! Importing tasks: by the page, as one request with a file, and by the command line.

use std::path::Path;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use server::auth::token::Token;
use server::domain::form::Form;
use server::domain::role::Role;
use server::store;
use sqlx::PgPool;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::load::http::read_answer;
use crate::machine::{self, Cpu};
use crate::postgres::Postgres;
use crate::program::{Server, command};
use crate::tasks::K;

/// Short name of the project that tasks go to.
pub(crate) const PROJECT: &str = "bench";

/// Overlap and lease of the project.
const OVERLAP_AND_LEASE: (i16, i32) = (1, 3600);

/// A file to import.
pub(crate) struct File<'p> {
    pub(crate) path: &'p Path,
    pub(crate) n_tasks: usize,
    pub(crate) n_bytes: u64,
}

/// Makes the project that a file is imported into, with guidelines and the standard form, as projects
/// have.
pub(crate) async fn create_project(db: &PgPool) -> anyhow::Result<()> {
    let (overlap, lease) = OVERLAP_AND_LEASE;
    let mut db = db.acquire().await?;
    let id = store::projects::insert(&mut db, PROJECT, "Bench", overlap, lease).await?;
    let guidelines = json!({"en": "# Be fair"});
    store::projects::insert_guidelines(&mut db, id, &guidelines, None).await?;
    let form = serde_json::to_value(Form::default())?;
    store::projects::insert_form(&mut db, id, &form).await?;
    Ok(())
}

/// Posts the file to the page, as the form does, to a server of its own.
pub(crate) async fn by_page(
    postgres: &Postgres,
    database: &str,
    file: &File<'_>,
    folder: &Path,
) -> anyhow::Result<Value> {
    let db = postgres.open(database).await?;
    let cookie = admin(&db).await?;
    postgres.settle().await?;
    let server = Server::start(&postgres.url(database), folder).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let load_average = machine::load_average()?;
    machine::forget_peak(server.id())?;
    let before = machine::memory_mb(server.id(), "VmRSS")?;
    let earlier = Cpu::read(server.id(), postgres.postmaster)?;
    let begun = Instant::now();
    let page = post(&server, &cookie, file).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let used = Cpu::read(server.id(), postgres.postmaster)?.since(earlier);
    let peak = machine::memory_mb(server.id(), "VmHWM")?;
    ensure!(
        page.status == 200,
        "status {}: {}",
        page.status,
        page.text()
    );
    check(&db, file).await?;
    db.close().await;
    Ok(json!({
        "how": "page",
        "seconds": seconds,
        "cpu_seconds": {"server": used.server, "postgres": used.postgres},
        "others_percent": used.others_percent(seconds),
        "memory_mb": {"before": before, "peak": peak},
        "load_average_before": load_average,
    }))
}

/// Runs `plackett import`.
pub(crate) async fn by_command(
    postgres: &Postgres,
    database: &str,
    file: &File<'_>,
    folder: &Path,
) -> anyhow::Result<Value> {
    postgres.settle().await?;
    let load_average = machine::load_average()?;
    let earlier = Cpu::read(0, postgres.postmaster)?;
    let begun = Instant::now();
    let mut child = command(&postgres.url(database), folder)?
        .args(["import", "--project", PROJECT, "--kind", "candidates"])
        .arg(file.path)
        .spawn()?;
    let (status, peak) = tokio::task::spawn_blocking(move || wait_and_watch(&mut child)).await??;
    let seconds = begun.elapsed().as_secs_f64();
    let used = Cpu::read(0, postgres.postmaster)?.since(earlier);
    let log = folder.join("log");
    ensure!(status.success(), "the import failed: see {}", log.display());
    let db = postgres.open(database).await?;
    check(&db, file).await?;
    db.close().await;
    Ok(json!({
        "how": "command",
        "seconds": seconds,
        "cpu_seconds": {"postgres": used.postgres},
        "memory_mb": {"peak": peak},
        "load_average_before": load_average,
    }))
}

/// Waits for a program's end, and says the most memory that it was seen with.
fn wait_and_watch(child: &mut Child) -> anyhow::Result<(ExitStatus, f64)> {
    let mut peak = 0.0f64;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((status, peak));
        }
        // None any more between its end and our noticing.
        peak = peak.max(machine::memory_mb(child.id(), "VmHWM").unwrap_or(0.0));
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An admin's session, as a cookie.
async fn admin(db: &PgPool) -> anyhow::Result<String> {
    let mut db = db.acquire().await?;
    let id = store::accounts::insert(
        &mut db,
        "admin@bench.invalid",
        "admin",
        &[Role::Admin],
        false,
    )
    .await
    .map_err(|error| anyhow::anyhow!("{error}"))?;
    let token = Token::generate()?;
    store::sessions::insert(&mut db, &token.hash(), id, "bench", 1).await?;
    Ok(token.reveal().to_owned())
}

/// Sends the form of the prompts page with the file, read as it goes.
async fn post(
    server: &Server,
    cookie: &str,
    file: &File<'_>,
) -> anyhow::Result<crate::load::http::Answer> {
    let part = |head: &str, body: &str| {
        format!("--frontier\r\ncontent-disposition: form-data; {head}\r\n\r\n{body}")
    };
    let first = [
        part("name=\"project\"", &format!("{PROJECT}\r\n")),
        part("name=\"kind\"", "candidates\r\n"),
        part("name=\"format\"", "\r\n"),
        part("name=\"file\"; filename=\"tasks.jsonl\"", ""),
    ]
    .concat();
    let last = format!("\r\n{}--frontier--\r\n", part("name=\"lines\"", "\r\n"));
    let length = first.len() as u64 + file.n_bytes + last.len() as u64;
    let address = server.address;
    let head = format!(
        "POST /prompts/import HTTP/1.1\r\nhost: {address}\r\norigin: http://{address}\r\ncookie: plackett={cookie}\r\n\
         content-type: multipart/form-data; boundary=frontier\r\ncontent-length: {length}\r\n\r\n"
    );
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(first.as_bytes()).await?;
    let mut source = tokio::fs::File::open(file.path).await?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = source.read(&mut buffer).await?;
        if n == 0 {
            break;
        }
        stream.write_all(&buffer[..n]).await.context("the upload")?;
    }
    stream.write_all(last.as_bytes()).await?;
    let (answer, _) = read_answer(&mut stream, &mut Vec::new()).await?;
    Ok(answer)
}

/// Everything is there.
async fn check(db: &PgPool, file: &File<'_>) -> anyhow::Result<()> {
    let n = file.n_tasks;
    for (table, expected) in [
        ("prompts", n),
        ("tasks", n),
        ("completions", n * K),
        ("candidates", n * K),
    ] {
        let statement = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        let found: i64 = sqlx::query_scalar(statement).fetch_one(db).await?;
        ensure!(found == expected as i64, "{found} {table}, not {expected}");
    }
    Ok(())
}
