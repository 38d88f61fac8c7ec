//! Agreement, preference models, intervals: pure functions over slices.

pub mod agreement;
pub mod correlation;
pub mod interval;
pub mod labels;

mod linear;

#[cfg(test)]
mod fixtures;
