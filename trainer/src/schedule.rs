//! How the learning rate moves over a run.

use serde::{Deserialize, Serialize};

/// The shape of the learning rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// Down a half cosine to a share of the peak (InstructGPT: 0.1 for SFT and reward models).
    Cosine {
        /// Share of the peak at the end.
        floor: f64,
    },
    /// Down a straight line to a share of the peak (lm-human-preferences and
    /// summarize_from_feedback_details: 0).
    Linear {
        /// Share of the peak at the end.
        floor: f64,
    },
    /// Up from a share of the peak over the first steps, then constant (InstructGPT's PPO: from
    /// 0.1 over 10 iterations).
    Constant {
        /// Steps of the way up.
        warmup: usize,
        /// Share of the peak at the start.
        from: f64,
    },
}

impl Schedule {
    /// The share of the peak at `step` of `total`, counted from 0.
    pub fn factor(&self, step: usize, total: usize) -> f64 {
        match self {
            Self::Cosine { floor } => {
                let progress = step as f64 / total.max(1) as f64;
                floor + (1.0 - floor) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
            }
            Self::Linear { floor } => {
                let progress = step as f64 / total.max(1) as f64;
                floor + (1.0 - floor) * (1.0 - progress)
            }
            Self::Constant { warmup, from } if step < *warmup => {
                from + (1.0 - from) * step as f64 / *warmup as f64
            }
            Self::Constant { .. } => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Item 39 of the checklist, among others.
    #[test]
    fn schedules_start_and_end_where_they_should() {
        let cosine = Schedule::Cosine { floor: 0.1 };
        assert_eq!(cosine.factor(0, 100), 1.0);
        assert!((cosine.factor(50, 100) - 0.55).abs() < 1e-12);
        assert!((cosine.factor(100, 100) - 0.1).abs() < 1e-12);
        let linear = Schedule::Linear { floor: 0.0 };
        assert_eq!(linear.factor(0, 100), 1.0);
        assert!((linear.factor(25, 100) - 0.75).abs() < 1e-12);
        assert!((linear.factor(99, 100) - 0.01).abs() < 1e-12);
        let constant = Schedule::Constant {
            warmup: 10,
            from: 0.1,
        };
        assert_eq!(constant.factor(0, 100), 0.1);
        assert_eq!(constant.factor(10, 100), 1.0);
    }
}
