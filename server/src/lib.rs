//! Everything of Plackett that speaks HTTP or SQL.
//!
//! A request goes `router` -> `pages` or `api` -> `store` -> `domain`; a run goes
//! `worker` -> `store`, `exchange`, `trainer`. Imports run one way, and `tests/` checks it.

pub mod commands;
pub mod config;
pub mod figures;
pub mod local_postgres;
pub mod router;
pub mod state;

pub mod api;
pub mod pages;

pub mod auth;
pub mod error;
pub mod i18n;
pub mod message;
pub mod web;

pub mod exchange;
pub mod worker;

pub mod domain;
pub mod stats;
pub mod store;

/// The migrations of `migrations/`, compiled in and run at every start.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");
