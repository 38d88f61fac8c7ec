//! Agreement, preference models, intervals: pure functions over slices.

pub mod agreement;
pub mod correlation;
pub mod crowd_bt;
pub mod dawid_skene;
pub mod interval;
pub mod labels;
pub mod reliability;
pub mod strengths;

mod linear;

#[cfg(test)]
mod fixtures;
