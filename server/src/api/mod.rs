//! JSON under `/api/v1`: one file for each noun in a URL.

pub mod address;
pub mod agreement;
pub mod assignments;
pub mod exports;
pub mod json;
pub mod models;
pub mod openapi;
pub mod projects;
pub mod snapshots;
