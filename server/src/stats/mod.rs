//! Agreement, preference models, intervals: pure functions over slices.

pub mod interval;
pub mod labels;

mod linear;

#[cfg(test)]
mod fixtures;
