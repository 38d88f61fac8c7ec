//! Claims runs, calls the trainer, reports.

pub mod claim;
pub mod generation;
pub mod supervise;
pub mod train;
