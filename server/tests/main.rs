//! Flows through the whole server on a real Postgres, in one test program (one link step).
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

#[path = "../../trainer/tests/tiny/mod.rs"]
#[expect(dead_code, reason = "the trainer's own tests use the rest")]
mod tiny;

mod agreement;
mod agreement_browser;
mod api;
mod architecture;
mod best_of_n;
mod browser;
mod importing;
mod killed_training;
mod labeling;
mod queue;
mod rank_page;
mod run_pages;
mod runs;
mod signing_in;
mod snapshots;
mod training;
