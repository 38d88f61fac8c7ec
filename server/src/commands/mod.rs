//! The command line: one subcommand, one file, one function.

pub mod bench;
pub mod best_of_n;
pub mod check_device;
pub mod database;
pub mod demo;
pub mod device;
pub mod disagreement;
pub mod evaluate;
pub mod export;
pub mod generate;
pub mod import;
pub mod migrate;
pub mod model;
pub mod new_model;
mod out_file;
pub mod score;
pub mod serve;
pub mod simulate;
pub mod train;
pub mod user;
pub mod worker;

/// An error of the web side as a sentence for the command line, its cause included.
pub(crate) fn sentence(error: crate::error::AppError) -> anyhow::Error {
    match error {
        crate::error::AppError::Internal(cause) => anyhow::anyhow!("{cause:#}"),
        other => anyhow::anyhow!("{other}"),
    }
}
