//! Handlers of the pages: one file for each folder of `templates/`, thin.

pub mod account;
pub mod accounts;
pub mod answer;
pub mod answer_form;
pub mod checkpoints;
pub mod demonstrate;
pub mod guidelines;
pub mod health;
pub mod home;
pub mod language;
pub mod prompts;
pub mod rank;
pub mod rank_form;
pub mod review;
pub mod run_events;
pub mod run_figures;
pub mod run_form;
pub mod run_over_optimisation;
pub mod run_report;
pub mod run_samples;
pub mod run_settings;
pub mod runs;
pub mod sign_in;
pub mod snapshots;
pub mod tasks;
pub mod work;
