//! The nouns and their rules: no SQL, no HTTP.

pub mod agreement;
pub mod assignment;
pub mod form;
pub mod ids;
pub mod labels;
pub mod models;
pub mod prompt;
pub mod ranking;
pub mod role;
pub mod run;
pub mod simulation;
pub mod snapshot;
pub mod submission;
pub mod task;
