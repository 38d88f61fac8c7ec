//! The real program, started as a process, on a database of the test's own.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sqlx::{ConnectOptions, PgPool};

/// A running `plackett serve`, killed with the test.
pub(crate) struct Program {
    child: Child,
    pub(crate) url: String,
    pub(crate) folder: tempfile::TempDir,
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// The program with the test's database and a data folder of its own.
pub(crate) fn command(db: &PgPool, folder: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plackett"));
    command
        .env(
            "DATABASE_URL",
            db.connect_options().to_url_lossy().to_string(),
        )
        .env("PLACKETT_DATA", folder)
        .env("RUST_LOG", "warn");
    command
}

impl Program {
    pub(crate) async fn start(db: &PgPool, flags: &[&str]) -> Self {
        Self::start_in(db, tempfile::tempdir().unwrap(), flags).await
    }

    /// In a data folder that holds something already.
    pub(crate) async fn start_in(db: &PgPool, folder: tempfile::TempDir, flags: &[&str]) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let child = spawn(db, folder.path(), &address, flags);
        let program = Self {
            child,
            url: format!("http://{address}"),
            folder,
        };
        program.wait_until_ready().await;
        program
    }

    /// As a crash does: no chance to clean up. Then starts again at the same address.
    pub(crate) async fn kill_and_restart(&mut self, db: &PgPool, flags: &[&str]) {
        self.kill();
        self.restart(db, flags).await;
    }

    /// As a crash does: no chance to clean up.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts again at the same address.
    pub(crate) async fn restart(&mut self, db: &PgPool, flags: &[&str]) {
        let address = self.url.trim_start_matches("http://").to_owned();
        self.child = spawn(db, self.folder.path(), &address, flags);
        self.wait_until_ready().await;
    }

    /// Asks it to stop.
    pub(crate) fn terminate(&self) {
        let id = nix::unistd::Pid::from_raw(self.child.id() as i32);
        let _ = nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM);
    }

    /// Whether it has ended, as it should.
    pub(crate) fn has_ended(&mut self) -> bool {
        let status = self.child.try_wait().unwrap();
        status.is_some_and(|status| {
            assert!(status.success(), "{status}");
            true
        })
    }

    async fn wait_until_ready(&self) {
        for _ in 0..600 {
            if let Ok(answer) = reqwest::get(format!("{}/readyz", self.url)).await
                && answer.status().is_success()
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the program did not get ready");
    }
}

fn spawn(db: &PgPool, folder: &std::path::Path, address: &str, flags: &[&str]) -> Child {
    command(db, folder)
        .args(["serve", "--listen", address])
        .args(flags)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

impl Drop for Program {
    fn drop(&mut self) {
        // A stop signal first, so that its worker ends with it.
        self.terminate();
        for _ in 0..100 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
