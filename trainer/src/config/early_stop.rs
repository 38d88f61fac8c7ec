//! When a run of PPO ends by itself, besides its KL budget.

use serde::{Deserialize, Serialize};

use super::in_range;
use crate::error::Result;

/// Signs of collapse that end a run before it learns from the batch that shows them. A rule whose
/// number is 0 is off.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EarlyStop {
    /// The mean score of an iteration lies below that of the first by more than this many of the
    /// first one's standard deviations.
    pub reward_drop: f64,
    /// Less than this share of an iteration's completions ends by itself.
    pub eos_floor: f64,
    /// The standard deviation of an iteration's scores is less than this share of the first one's:
    /// all completions have become alike.
    pub spread_floor: f64,
    /// Iterations running for which one of these holds before the run ends.
    pub patience: usize,
}

impl EarlyStop {
    /// Checks the ranges.
    pub(super) fn check(&self) -> Result<()> {
        in_range("stop.reward_drop", self.reward_drop, 0.0, 1e6)?;
        in_range("stop.eos_floor", self.eos_floor, 0.0, 1.0)?;
        in_range("stop.spread_floor", self.spread_floor, 0.0, 1.0)?;
        let is_on = self.reward_drop > 0.0 || self.eos_floor > 0.0 || self.spread_floor > 0.0;
        let least = if is_on { 1.0 } else { 0.0 };
        in_range("stop.patience", self.patience as f64, least, 1e6)
    }
}
