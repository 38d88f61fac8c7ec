//! The nouns and their rules: no SQL, no HTTP.

pub mod assignment;
pub mod audit;
pub mod diff;
pub mod export;
pub mod few_shot;
pub mod form;
pub mod form_draft;
pub mod form_versions;
pub mod gold_pairs;
pub mod ids;
pub mod keys;
pub mod member_list;
pub mod opening;
pub mod project;
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
