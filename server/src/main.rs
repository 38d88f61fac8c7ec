//! The command line: one subcommand, one function.

use std::io::IsTerminal;

use clap::{Parser, Subcommand};
use server::commands;
use server::config::{DataConfig, ServeConfig};
use tracing_subscriber::EnvFilter;

/// Rank model outputs, train a reward model on the rankings, and improve the model with PPO.
#[derive(Parser)]
#[command(name = "plackett", version, about)]
struct Cli {
    #[command(flatten)]
    data: DataConfig,

    /// Log lines as JSON.
    #[arg(long, env = "PLACKETT_LOG_JSON", global = true)]
    log_json: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the web pages and the API.
    Serve(ServeConfig),
    /// Carry out runs from the queue.
    Worker(commands::worker::WorkerCommand),
    /// Train a model from files, without a database.
    Train(commands::train::TrainCommand),
    /// Draw completions for prompts from a file, without a database.
    Generate(commands::generate::GenerateCommand),
    /// Fetch, import and list models.
    #[command(subcommand)]
    Model(commands::model::ModelCommand),
    /// Score the completions of a rankings file with a reward model, or measure how far several disagree
    /// over a project's open tasks.
    Score(commands::score::ScoreCommand),
    /// Measure a reward model against the rankings of a file.
    Evaluate(commands::evaluate::EvaluateCommand),
    /// Make accounts, sign-in links and API tokens.
    #[command(subcommand)]
    User(commands::user::UserCommand),
    /// Import prompts, demonstrations, texts, rankings or candidates.
    Import(commands::import::ImportArgs),
    /// Write a snapshot to a file.
    Export(commands::export::ExportArgs),
    /// Rank open tasks with simulated labelers.
    Simulate(commands::simulate::SimulateArgs),
    /// Measure how fast the trainer is on this machine.
    Bench(commands::bench::BenchCommand),
    /// Hold what a GPU computes against what the CPU does.
    CheckDevice(commands::check_device::CheckDeviceCommand),
    /// Bring the database to this program's schema.
    Migrate,
}

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    start_logging(cli.log_json);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("plackett: cannot start: {error}");
            return std::process::ExitCode::FAILURE;
        }
    };
    match runtime.block_on(dispatch(cli)) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("plackett: {}", sentence(&error));
            std::process::ExitCode::FAILURE
        }
    }
}

async fn dispatch(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Serve(config) => commands::serve::run(cli.data, config).await,
        Command::Worker(command) => commands::worker::run(&cli.data, command).await,
        Command::Train(command) => commands::train::run(&cli.data, command).await,
        Command::Generate(command) => commands::generate::run(&cli.data, command).await,
        Command::Model(command) => commands::model::run(&cli.data, command).await,
        Command::Score(command) => commands::score::run(&cli.data, command).await,
        Command::Evaluate(command) => commands::evaluate::run(&cli.data, command).await,
        Command::User(command) => commands::user::run(&cli.data, command).await,
        Command::Import(args) => commands::import::run(&cli.data, args).await,
        Command::Export(args) => commands::export::run(&cli.data, args).await,
        Command::Simulate(args) => commands::simulate::run(&cli.data, args).await,
        Command::Bench(command) => commands::bench::run(&cli.data, command).await,
        Command::CheckDevice(command) => commands::check_device::run(&cli.data, command).await,
        Command::Migrate => commands::migrate::run(&cli.data).await,
    }
}

/// An error with its causes; a cause that the error names already is not said again.
fn sentence(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if said.is_empty() {
            said = cause;
        } else if !said.contains(&cause) {
            said = format!("{said}: {cause}");
        }
    }
    said
}

/// Logs go to standard error; `RUST_LOG` chooses what is logged.
fn start_logging(json: bool) {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn"));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    if json {
        logs.json().init();
    } else {
        logs.init();
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let io = || std::io::Error::other("the disk is gone");
        let error = anyhow::Error::from(trainer::TrainerError::Io {
            path: "data.jsonl".into(),
            source: io(),
        });
        assert_eq!(sentence(&error), "data.jsonl: the disk is gone");
        let error = anyhow::Error::from(io()).context("x cannot be written");
        assert_eq!(sentence(&error), "x cannot be written: the disk is gone");
    }

    #[test]
    fn no_two_options_of_a_subcommand_have_one_name() {
        Cli::command().debug_assert();
    }
}
