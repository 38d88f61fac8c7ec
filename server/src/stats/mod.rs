//! Agreement, preference models, intervals: pure functions over slices.

pub mod agreement;
pub mod correlation;
pub mod interval;
pub mod labels;
pub mod reliability;

mod linear;

#[cfg(test)]
mod fixtures;
