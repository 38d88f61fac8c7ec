//! Files in and out, streaming.

pub mod export;
pub mod import;
pub mod lines;
pub mod records;
pub mod trl;
