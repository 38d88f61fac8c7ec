//! Files in and out, streaming.

pub mod card;
pub mod exclusions;
pub mod export;
pub mod export_file;
pub mod formats;
pub mod import;
pub mod lines;
pub mod mean_ranking;
pub mod parquet;
pub mod records;
pub mod rows;
