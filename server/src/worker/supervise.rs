//! Keeps one worker process alive beside the server. When it dies, the run it had is marked as
//! failed with its last words, and another is started, later each time it dies young.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use sqlx::PgPool;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::DataConfig;
use crate::store;

/// Lines of the worker's standard error that are kept.
const LAST_LINES: usize = 20;

/// First and longest wait before another worker is started.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// A worker that lived this long was healthy: the next one starts after the first wait.
const HEALTHY: Duration = Duration::from_secs(60);

/// How long a worker may take to end its run when the server ends.
const GRACE: Duration = Duration::from_secs(15);

/// The variable that gives a worker its name.
pub const NAME_VARIABLE: &str = "PLACKETT_WORKER_NAME";

/// How to start a worker.
#[derive(Debug, Clone)]
pub struct WorkerProgram {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables added to its environment.
    pub environment: Vec<(String, OsString)>,
}

impl WorkerProgram {
    /// This very program, as a worker on the same data. The database's address goes through the
    /// environment, since arguments are visible to every user of the machine.
    ///
    /// # Errors
    /// When the system does not say where this program is.
    pub fn own(data: &DataConfig) -> anyhow::Result<Self> {
        let mut environment = vec![("PLACKETT_DATA".to_owned(), data.data_dir().into_os_string())];
        if let Some(url) = &data.database_url {
            environment.push(("DATABASE_URL".to_owned(), url.into()));
        }
        Ok(Self {
            program: std::env::current_exe().context("cannot find this program's own file")?,
            arguments: vec!["worker".into(), "--exit-with-parent".into()],
            environment,
        })
    }
}

/// A supervised worker.
pub struct Supervisor {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Supervisor {
    /// Starts a worker and keeps one alive.
    pub fn start(db: PgPool, program: WorkerProgram) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(keep_alive(db, program, stop.clone()));
        Self { stop, task }
    }

    /// Ends the worker: it may end its run first.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the supervisor of the worker ended");
        }
    }
}

async fn keep_alive(db: PgPool, program: WorkerProgram, stop: CancellationToken) {
    let mut wait = BACKOFF.0;
    while !stop.is_cancelled() {
        let started = Instant::now();
        let name = format!("{}-{}", std::process::id(), uuid::Uuid::now_v7());
        let words = match run_once(&program, &name, &stop).await {
            Ok(words) => words,
            Err(error) => format!("the worker cannot be started: {error:#}"),
        };
        if let Err(error) = bury(&db, &name, &words).await {
            tracing::error!(%error, "the worker's run is not marked as failed");
        }
        if stop.is_cancelled() {
            return;
        }
        if started.elapsed() > HEALTHY {
            wait = BACKOFF.0;
        }
        tracing::error!(?wait, "{words}; another is started after a wait");
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => (),
        }
        wait = (wait * 2).min(BACKOFF.1);
    }
}

/// Runs one worker to its end and returns its last words.
async fn run_once(
    program: &WorkerProgram,
    name: &str,
    stop: &CancellationToken,
) -> anyhow::Result<String> {
    let mut child = Command::new(&program.program)
        .args(&program.arguments)
        .envs(program.environment.iter().cloned())
        .env(NAME_VARIABLE, name)
        // Its last words are shown on a page, where colours would be noise.
        .env("NO_COLOR", "1")
        // The worker reads its end of this pipe: when this process dies, however, it sees so.
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| program.program.display().to_string())?;
    // Held here, because waiting for a child closes the pipe that the child still holds.
    let pipe = child.stdin.take();
    let stderr = child.stderr.take().context("no standard error")?;
    let listening = tokio::spawn(keep_last_lines(stderr));
    let status = tokio::select! {
        status = child.wait() => status?,
        () = stop.cancelled() => {
            drop(pipe);
            end(&mut child).await?
        }
    };
    let lines = listening.await.unwrap_or_default();
    Ok(last_words(status, &lines))
}

/// Waits for the end that the closed pipe asks for, and kills the worker when it does not come.
async fn end(child: &mut Child) -> std::io::Result<ExitStatus> {
    match tokio::time::timeout(GRACE, child.wait()).await {
        Ok(status) => status,
        Err(_) => {
            child.kill().await?;
            child.wait().await
        }
    }
}

/// Passes the worker's standard error on and keeps its end.
async fn keep_last_lines(stderr: ChildStderr) -> Vec<String> {
    let mut reader = BufReader::new(stderr);
    let mut last = VecDeque::with_capacity(LAST_LINES);
    let mut line = Vec::new();
    while matches!(reader.read_until(b'\n', &mut line).await, Ok(n) if n > 0) {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        eprintln!("{text}");
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(text);
        line.clear();
    }
    last.into()
}

fn last_words(status: ExitStatus, lines: &[String]) -> String {
    if lines.is_empty() {
        return format!("the worker ended ({status}) without a word");
    }
    format!(
        "the worker ended ({status}); its last words:\n{}",
        lines.join("\n")
    )
}

async fn bury(db: &PgPool, name: &str, words: &str) -> sqlx::Result<()> {
    let mut transaction = db.begin().await?;
    store::runs::fail_of_worker(&mut transaction, name, words).await?;
    transaction.commit().await
}
