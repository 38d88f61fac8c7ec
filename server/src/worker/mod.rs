//! Claims runs, calls the trainer, reports. A run reads only its snapshots and writes only its
//! folder; what it made and that it finished become visible in one transaction.

pub mod claim;
pub mod ended;
pub mod exports;
pub mod generation;
pub mod report;
pub mod supervise;
pub mod train;
