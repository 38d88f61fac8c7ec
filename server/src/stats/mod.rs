//! Agreement, preference models, intervals: pure functions over slices.
