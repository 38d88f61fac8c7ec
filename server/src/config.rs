//! Settings: each one a flag and an environment variable, documented once and shown by `--help`.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Where the data lives; shared by every subcommand.
#[derive(Debug, Clone, clap::Args)]
pub struct DataConfig {
    /// Postgres to use. Without it a private cluster in the data folder is started.
    #[arg(long, env = "DATABASE_URL", global = true, hide_env_values = true)]
    pub database_url: Option<String>,

    /// Folder for the private database, models and run folders.
    /// Default: /var/lib/plackett for root, otherwise ~/.local/share/plackett.
    #[arg(
        long = "data-dir",
        env = "PLACKETT_DATA",
        global = true,
        value_name = "DIR"
    )]
    pub data_dir: Option<PathBuf>,
}

impl DataConfig {
    /// The data folder, made absolute so that child processes agree on it.
    pub fn data_dir(&self) -> PathBuf {
        let chosen = self.data_dir.clone().unwrap_or_else(default_data_dir);
        std::path::absolute(&chosen).unwrap_or(chosen)
    }

    /// Folder of checkpoints that were pulled or imported.
    pub fn models_dir(&self) -> PathBuf {
        self.data_dir().join("models")
    }

    /// The folder of a model that was named by its path, or, where there is no such folder, by the
    /// name it was pulled or imported under.
    pub fn find_model(&self, named: PathBuf) -> PathBuf {
        let kept = self.models_dir().join(&named);
        match named.is_dir() || !kept.is_dir() {
            true => named,
            false => kept,
        }
    }

    /// Folder of run folders, one for each run.
    pub fn runs_dir(&self) -> PathBuf {
        self.data_dir().join("runs")
    }
}

fn default_data_dir() -> PathBuf {
    if nix::unistd::geteuid().is_root() {
        return PathBuf::from("/var/lib/plackett");
    }
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("."), PathBuf::from);
    std::env::var_os("XDG_DATA_HOME")
        .map_or_else(|| home.join(".local/share"), PathBuf::from)
        .join("plackett")
}

/// Settings of `plackett serve`.
#[derive(Debug, Clone, clap::Args)]
pub struct ServeConfig {
    /// Address and port to listen on.
    #[arg(long, env = "PLACKETT_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// The address people type, used in sign-in links; cookies are Secure when it is https.
    /// Default: http:// and the listen address.
    #[arg(long, env = "PLACKETT_PUBLIC_URL")]
    pub public_url: Option<String>,

    /// Do not start a worker as a child process (run `plackett worker` elsewhere).
    #[arg(long, env = "PLACKETT_NO_WORKER")]
    pub no_worker: bool,

    /// Seed the demo project on an empty database and print one sign-in link for each role.
    #[arg(long, env = "PLACKETT_DEMO")]
    pub demo: bool,

    /// Connections to Postgres at most. Default: 4 for each core, at least 12 and at most 32. More make
    /// it slower where it shares these cores: labelers then wait for each other's locks, not for work.
    #[arg(long, env = "PLACKETT_DATABASE_CONNECTIONS", value_parser = clap::value_parser!(u32).range(4..=1000))]
    pub database_connections: Option<u32>,

    /// A session ends after this many hours without a request.
    #[arg(long, env = "PLACKETT_SESSION_IDLE_HOURS", default_value_t = 12)]
    pub session_idle_hours: u32,

    /// A session ends after this many days whatever happens.
    #[arg(long, env = "PLACKETT_SESSION_DAYS", default_value_t = 14)]
    pub session_days: u32,

    /// Largest import accepted on a page, in mebibytes. It takes that much room for temporary files,
    /// and no more memory.
    #[arg(long, env = "PLACKETT_MAX_UPLOAD_MIB", default_value_t = 1024)]
    pub max_upload_mib: usize,

    /// Trust the X-Forwarded-For header of a proxy in front when throttling sign-ins.
    #[arg(long, env = "PLACKETT_TRUST_PROXY")]
    pub trust_proxy: bool,
}

impl ServeConfig {
    /// The address people type, without a trailing slash.
    pub fn public_url(&self) -> String {
        self.public_url
            .clone()
            .unwrap_or_else(|| format!("http://{}", self.listen))
            .trim_end_matches('/')
            .to_owned()
    }

    /// Connections to Postgres at most.
    pub fn database_connections(&self) -> u32 {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let usual = u32::try_from(4 * cores).unwrap_or(u32::MAX).clamp(12, 32);
        self.database_connections.unwrap_or(usual)
    }

    /// Whether browsers reach us by https, so that cookies may be Secure.
    pub fn is_https(&self) -> bool {
        self.public_url().starts_with("https://")
    }
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            public_url: None,
            no_worker: true,
            demo: false,
            database_connections: None,
            session_idle_hours: 12,
            session_days: 14,
            max_upload_mib: 1024,
            trust_proxy: false,
        }
    }
}
