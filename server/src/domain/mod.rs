//! The nouns and their rules: no SQL, no HTTP.

pub mod assignment;
pub mod few_shot;
pub mod form;
pub mod ids;
pub mod opening;
pub mod prompt;
pub mod ranking;
pub mod review;
pub mod role;
pub mod run;
pub mod simulation;
pub mod snapshot;
pub mod submission;
pub mod task;
pub mod writing;
