//! Files in and out, streaming.

pub mod export;
pub mod import;
pub mod trl;
