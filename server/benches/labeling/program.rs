//! The program that is measured, as a process of its own.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::load::http::Connection;

/// A running `plackett serve`, stopped when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    /// From its start to the first answer of `/healthz`.
    pub(crate) start_seconds: f64,
}

/// The program on a database, with a data folder of its own; what it says goes to a file there.
pub(crate) fn command(database_url: &str, folder: &Path) -> anyhow::Result<Command> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(folder.join("log"))?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_plackett"));
    command
        .env("DATABASE_URL", database_url)
        .env("PLACKETT_DATA", folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    Ok(command)
}

impl Server {
    /// Starts it without a worker and waits until it answers.
    pub(crate) async fn start(database_url: &str, folder: &Path) -> anyhow::Result<Self> {
        let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let begun = Instant::now();
        let child = command(database_url, folder)?
            .args(["serve", "--no-worker", "--listen", &address.to_string()])
            .args(["--max-upload-mib", "1024"])
            .spawn()
            .context("the program does not start")?;
        let mut server = Self {
            child,
            address,
            start_seconds: 0.0,
        };
        let mut connection = Connection::new(address);
        loop {
            if let Ok(answer) = connection.send("GET", "/healthz", "", "").await
                && answer.status == 200
            {
                server.start_seconds = begun.elapsed().as_secs_f64();
                return Ok(server);
            }
            let has_ended = server.child.try_wait()?.is_some();
            let log = folder.join("log");
            ensure!(!has_ended, "the program ended: see {}", log.display());
            ensure!(
                begun.elapsed().as_secs() < 60,
                "the program does not answer"
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        for _ in 0..400 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
