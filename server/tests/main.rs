//! Flows through the whole server on a real Postgres, in one test program (one link step).
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed unwrap is a failed test"
)]

mod support;

mod importing;
mod labeling;
mod queue;
mod signing_in;
mod snapshots;
