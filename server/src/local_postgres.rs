//! The private Postgres cluster: made and started in the data folder when no `DATABASE_URL` is
//! given. It listens on a Unix socket only, keeps fsync on, and outlives a killed server: the
//! next start finds it running and goes on.

use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{Gid, Uid, User};
use sha2::{Digest, Sha256};
use sqlx::postgres::PgConnectOptions;

/// Database and superuser name inside the private cluster.
const NAME: &str = "plackett";

/// A socket path longer than this does not fit `sockaddr_un` (108 bytes, with room for
/// `/.s.PGSQL.5432` and the closing zero).
const LONGEST_SOCKET_DIR: usize = 90;

/// A running private cluster.
pub struct LocalPostgres {
    binaries: PathBuf,
    cluster: PathBuf,
    socket_dir: PathBuf,
    owner: Option<(Uid, Gid)>,
}

impl LocalPostgres {
    /// Finds the installed binaries, makes the cluster on first use, and starts it unless it runs.
    ///
    /// # Errors
    /// One sentence that says what to install or which folder to change.
    pub fn start(data_dir: &Path) -> anyhow::Result<Self> {
        let binaries = find_binaries()?;
        let owner = owner_for_root()?;
        let folder = data_dir.join("postgres");
        make_folder(data_dir, &folder, owner)?;
        let socket_dir = socket_dir(&folder, owner)?;
        let postgres = Self {
            binaries,
            cluster: folder.join("cluster"),
            socket_dir,
            owner,
        };

        // Two programs may start at once (`serve` and `user add`): one makes, the other waits.
        let lock = std::fs::File::create(data_dir.join("postgres.lock"))?;
        let _held = Flock::lock(lock, FlockArg::LockExclusive)
            .map_err(|(_, error)| anyhow::anyhow!("cannot lock the data folder: {error}"))?;
        if !postgres.cluster.join("PG_VERSION").exists() {
            postgres.initialise()?;
        }
        if !postgres.is_running()? {
            postgres.launch(&folder.join("postgres.log"))?;
        }
        Ok(postgres)
    }

    /// How to connect to the database of the cluster.
    pub fn connect_options(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(&self.socket_dir)
            .username(NAME)
            .database(NAME)
            .port(5432)
    }

    /// Stops the cluster, letting connections end at their next statement.
    pub fn stop(&self) -> anyhow::Result<()> {
        self.run(
            self.command("pg_ctl")
                .args(["stop", "-w", "-m", "fast", "-D"])
                .arg(&self.cluster),
            "stop Postgres",
        )
    }

    fn initialise(&self) -> anyhow::Result<()> {
        // A half-made cluster of an interrupted first start has no PG_VERSION and nobody's data.
        if self.cluster.exists() {
            std::fs::remove_dir_all(&self.cluster)?;
        }
        self.run(
            self.command("initdb")
                .args([
                    "-A",
                    "trust",
                    "-E",
                    "UTF8",
                    "--locale=C.UTF-8",
                    "-U",
                    NAME,
                    "-D",
                ])
                .arg(&self.cluster),
            "make a Postgres cluster",
        )
    }

    fn is_running(&self) -> anyhow::Result<bool> {
        let status = self
            .command("pg_ctl")
            .args(["status", "-D"])
            .arg(&self.cluster)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .context("cannot run pg_ctl")?;
        Ok(status.success())
    }

    fn launch(&self, log: &Path) -> anyhow::Result<()> {
        let options = format!(
            "-k '{}' -c listen_addresses='' -c unix_socket_permissions=0700 -c fsync=on -c max_connections=200",
            self.socket_dir.display()
        );
        self.run(
            self.command("pg_ctl")
                .args(["start", "-w", "-t", "120", "-o", &options, "-l"])
                .arg(log)
                .arg("-D")
                .arg(&self.cluster),
            "start Postgres",
        )
        .with_context(|| format!("Postgres did not start; its log is {}", log.display()))?;
        self.create_database()
    }

    fn create_database(&self) -> anyhow::Result<()> {
        let exists = self
            .command("psql")
            .arg("-h")
            .arg(&self.socket_dir)
            .args(["-U", NAME, "-d", "postgres", "-Atc"])
            .arg(format!(
                "SELECT 1 FROM pg_database WHERE datname = '{NAME}'"
            ))
            .output()
            .context("cannot run psql")?;
        if exists.stdout.starts_with(b"1") {
            return Ok(());
        }
        self.run(
            self.command("createdb")
                .arg("-h")
                .arg(&self.socket_dir)
                .args(["-U", NAME, NAME]),
            "create the database",
        )
    }

    /// A Postgres program as the unprivileged owner, cut off from our terminal's signals.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.join(program));
        command
            .process_group(0)
            .current_dir("/")
            .env("LC_ALL", "C.UTF-8")
            .env_remove("PGDATABASE");
        if let Some((uid, gid)) = self.owner {
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
        command
    }

    fn run(&self, command: &mut Command, purpose: &str) -> anyhow::Result<()> {
        // pg_ctl's child keeps inherited pipes open for ever, so output goes to a file.
        let mut output = tempfile::tempfile()?;
        let status = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output.try_clone()?)
            .status()
            .with_context(|| format!("cannot {purpose}"))?;
        if !status.success() {
            use std::io::{Read, Seek};
            let mut text = String::new();
            output.rewind()?;
            output.read_to_string(&mut text)?;
            bail!("cannot {purpose}: {}", text.trim());
        }
        Ok(())
    }
}

/// The folder of `initdb` and `pg_ctl`: the newest Debian version, else what `PATH` has.
fn find_binaries() -> anyhow::Result<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort();
    let debian = versions.into_iter().rev().map(|(_, path)| path);
    let path = std::env::var_os("PATH").unwrap_or_default();
    debian
        .chain(std::env::split_paths(&path))
        .find(|folder| folder.join("initdb").exists() && folder.join("pg_ctl").exists())
        .context(
            "no Postgres found: install it (on Debian and Ubuntu: apt-get install postgresql), \
             or set DATABASE_URL to one that runs",
        )
}

/// Postgres refuses root, so for root another account owns and runs the cluster.
fn owner_for_root() -> anyhow::Result<Option<(Uid, Gid)>> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(Some((user.uid, user.gid)));
        }
    }
    bail!("Postgres refuses to run as root, and there is neither a user postgres nor nobody")
}

fn make_folder(data_dir: &Path, folder: &Path, owner: Option<(Uid, Gid)>) -> anyhow::Result<()> {
    let cannot = |path: &Path| format!("cannot make the folder {}", path.display());
    std::fs::create_dir_all(data_dir).with_context(|| cannot(data_dir))?;
    if !folder.exists() {
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(folder)
            .with_context(|| cannot(folder))?;
    }
    let Some((uid, gid)) = owner else {
        return Ok(());
    };
    std::os::unix::fs::chown(folder, Some(uid.as_raw()), Some(gid.as_raw()))?;
    for ancestor in data_dir.ancestors() {
        let about = std::fs::metadata(ancestor)?;
        let passable = about.mode() & 0o001 != 0 || about.uid() == uid.as_raw();
        if !passable {
            bail!(
                "the account that runs Postgres cannot enter {}: choose another data folder with \
                 --data-dir or PLACKETT_DATA, for example /var/lib/plackett",
                ancestor.display()
            );
        }
    }
    Ok(())
}

/// The folder of the socket: inside the data folder, or in /tmp when that path is too long.
fn socket_dir(folder: &Path, owner: Option<(Uid, Gid)>) -> anyhow::Result<PathBuf> {
    let wanted = folder.join("socket");
    let chosen = if wanted.as_os_str().len() <= LONGEST_SOCKET_DIR {
        wanted
    } else {
        let digest = hex::encode(Sha256::digest(folder.as_os_str().as_encoded_bytes()));
        std::env::temp_dir().join(format!("plackett-{}", &digest[..16]))
    };
    if !chosen.exists() {
        std::fs::DirBuilder::new().mode(0o700).create(&chosen)?;
        if let Some((uid, gid)) = owner {
            std::os::unix::fs::chown(&chosen, Some(uid.as_raw()), Some(gid.as_raw()))?;
        }
    }
    let about = std::fs::symlink_metadata(&chosen)?;
    let expected = owner.map_or_else(|| nix::unistd::geteuid().as_raw(), |(uid, _)| uid.as_raw());
    if !about.is_dir() || about.uid() != expected || about.mode() & 0o077 != 0 {
        bail!(
            "the socket folder {} belongs to somebody else",
            chosen.display()
        );
    }
    Ok(chosen)
}
