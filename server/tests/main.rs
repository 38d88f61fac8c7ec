//! Flows through the whole server on a real Postgres, in one test program (one link step).
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

#[path = "../../trainer/tests/tiny/mod.rs"]
#[expect(dead_code, reason = "the trainer's own tests use the rest")]
mod tiny;

#[path = "../benches/labeling/document/mod.rs"]
mod document;
#[path = "../benches/labeling/load/mod.rs"]
mod load;

mod adjudication;
mod agreement;
mod agreement_browser;
mod ahead;
mod api;
mod architecture;
mod audit;
mod best_of_n;
mod browser;
mod candidates_browser;
mod consent;
mod consent_browser;
mod corrections;
mod demo;
mod demonstrations;
mod demonstrations_browser;
mod every_page;
mod exporting;
mod figures;
mod gold;
mod home;
mod hostile_pages;
mod hostile_texts;
mod import_keys;
mod importing;
mod informative;
mod keeping_browser;
mod keys;
mod killed_training;
mod labeling;
mod labeling_load;
mod navigation_browser;
mod project_access;
mod project_edits;
mod project_forms;
mod project_people;
mod project_routes;
mod projects;
mod projects_browser;
mod questions;
mod queue;
mod rank_page;
mod ranking_browser;
mod ranking_kept_browser;
mod ranking_page_browser;
mod reviews;
mod run_forms;
mod run_pages;
mod runs;
mod screening;
mod screening_browser;
mod screening_grading;
mod signing_in;
mod snapshot_filters;
mod snapshot_guards;
mod snapshot_lines;
mod snapshots;
mod task_list;
mod task_opening;
mod task_texts;
mod training;
mod training_again;
