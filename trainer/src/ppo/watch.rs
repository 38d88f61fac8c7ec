//! Whether a run should end before it is done, and what became of its reward.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::over_optimisation::{self, Curve};
use crate::config::PpoConfig;

/// What is remembered of each batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Batch {
    /// To the reference, mean of a completion, in nats.
    pub(super) kl: f64,
    /// Mean and standard deviation of the scores.
    pub(super) score: (f64, f64),
    /// The same of the second opinion, where there is one.
    pub(super) gold: Option<(f64, f64)>,
    pub(super) eos_rate: f64,
}

impl Batch {
    pub(super) fn new(figures: &BTreeMap<&'static str, f64>) -> Self {
        let read = |name: &str| figures.get(name).copied();
        let both = |name: &str| Some((read(name)?, read(&format!("{name}_std"))?));
        Self {
            kl: read("objective/kl").unwrap_or(f64::NAN),
            score: both("objective/score").unwrap_or((f64::NAN, f64::NAN)),
            gold: both("objective/gold"),
            eos_rate: read("objective/eos_rate").unwrap_or(f64::NAN),
        }
    }
}

/// Why a run ended before it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    KlBudget,
    RewardDrop,
    EosFloor,
    SpreadFloor,
    Divergence,
}

impl Reason {
    /// The figure of the run's summary that is 1 then.
    pub(super) fn figure(self) -> &'static str {
        match self {
            Self::KlBudget => "stopped_by_kl_budget",
            Self::RewardDrop => "stopped_by_reward_drop",
            Self::EosFloor => "stopped_by_eos_floor",
            Self::SpreadFloor => "stopped_by_spread_floor",
            Self::Divergence => "stopped_by_divergence",
        }
    }
}

/// The end of a run before it is done.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stop {
    pub(super) reason: Reason,
    /// For people.
    pub(super) sentence: String,
}

impl Stop {
    /// Iteration `n`, counted from 1, gave numbers that are not finite.
    pub(super) fn diverged(n: usize, message: &str) -> Self {
        Self {
            reason: Reason::Divergence,
            sentence: format!(
                "stopped early: in iteration {n} {message}; its steps are taken back"
            ),
        }
    }
}

/// Whether a run ends before it learns from its newest batch.
pub(super) fn stop(trail: &[Batch], config: &PpoConfig) -> Option<Stop> {
    let (first, newest) = (trail.first()?, trail.last()?);
    let stopped = |reason: Reason, what: String| {
        let n = trail.len();
        Some(Stop {
            reason,
            sentence: format!("stopped early, before learning from iteration {n}: {what}"),
        })
    };
    if newest.kl > config.kl_budget {
        let (kl, budget) = (newest.kl, config.kl_budget);
        let what = format!("KL {kl:.2} exceeds its budget of {budget} nats");
        return stopped(Reason::KlBudget, what);
    }
    let rules = &config.stop;
    let patience = rules.patience.max(1);
    // The first batch is what others are held against.
    let recent = trail[1..].len().checked_sub(patience)?;
    let recent = &trail[1 + recent..];
    let (mean, deviation) = first.score;
    let floor = mean - rules.reward_drop * deviation;
    if rules.reward_drop > 0.0 && recent.iter().all(|batch| batch.score.0 < floor) {
        let what = format!(
            "the mean score was below {floor:.4}, which is {} standard deviations below that of the \
             first iteration, for {patience} iterations running",
            rules.reward_drop
        );
        return stopped(Reason::RewardDrop, what);
    }
    if recent.iter().all(|batch| batch.eos_rate < rules.eos_floor) {
        let what = format!(
            "less than {} of the completions ended by themselves for {patience} iterations running",
            rules.eos_floor
        );
        return stopped(Reason::EosFloor, what);
    }
    let floor = rules.spread_floor * deviation;
    if recent.iter().all(|batch| batch.score.1 < floor) {
        let what = format!(
            "the standard deviation of the scores was below {floor:.4}, which is {} of that of the \
             first iteration, for {patience} iterations running",
            rules.spread_floor
        );
        return stopped(Reason::SpreadFloor, what);
    }
    None
}

/// How the second opinion moved with the distance from the start, in deviations of the first batch;
/// none where there is none, or too little to say.
pub(super) fn gold_curve(trail: &[Batch]) -> Option<Curve> {
    let gold: Option<Vec<(f64, f64)>> = trail.iter().map(|batch| batch.gold).collect();
    let gold = gold?;
    let means: Vec<f64> = gold.iter().map(|(mean, _)| *mean).collect();
    let gains = over_optimisation::gains(&means, gold.first()?.1)?;
    let distances = trail.iter().map(|batch| batch.kl.max(0.0).sqrt());
    let points: Vec<(f64, f64)> = distances.zip(gains).collect();
    over_optimisation::fit(&points)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::config::{EarlyStop, Preset};

    fn batch(score: f64, deviation: f64, eos_rate: f64) -> Batch {
        Batch {
            kl: 1.0,
            score: (score, deviation),
            gold: None,
            eos_rate,
        }
    }

    fn config(stop: EarlyStop) -> PpoConfig {
        PpoConfig {
            stop,
            kl_budget: 10.0,
            ..PpoConfig::preset(Preset::Tiny)
        }
    }

    fn reason(trail: &[Batch], config: &PpoConfig) -> Option<Reason> {
        stop(trail, config).map(|stop| stop.reason)
    }

    #[test]
    fn a_batch_beyond_the_kl_budget_ends_the_run_at_once() {
        let config = config(EarlyStop::default());
        let mut trail = vec![batch(0.0, 1.0, 1.0)];
        assert_eq!(reason(&trail, &config), None);
        trail.push(Batch {
            kl: 10.1,
            ..batch(0.0, 1.0, 1.0)
        });
        let stop = stop(&trail, &config).unwrap();
        assert_eq!(stop.reason, Reason::KlBudget);
        assert!(stop.sentence.contains("iteration 2: KL 10.10"), "{stop:?}");
    }

    /// Item 53 of the checklist: a mean score below 5 - 2 * 0.5, three times running.
    #[test]
    fn a_reward_that_stays_down_ends_the_run_and_one_that_comes_back_does_not() {
        let config = config(EarlyStop {
            reward_drop: 2.0,
            patience: 3,
            ..EarlyStop::default()
        });
        let trail = |scores: &[f64]| -> Vec<Batch> {
            scores.iter().map(|score| batch(*score, 0.5, 1.0)).collect()
        };
        assert_eq!(reason(&trail(&[5.0, 3.9, 3.9]), &config), None);
        assert_eq!(reason(&trail(&[5.0, 3.9, 4.1, 3.9]), &config), None);
        assert_eq!(reason(&trail(&[5.0, 3.9, 4.1, 3.9, 3.9]), &config), None);
        let down = trail(&[5.0, 6.0, 3.9, 3.9, 3.9]);
        assert_eq!(reason(&down, &config), Some(Reason::RewardDrop));
    }

    #[test]
    fn completions_that_no_longer_end_and_scores_that_are_all_alike_end_the_run() {
        let rules = EarlyStop {
            eos_floor: 0.2,
            spread_floor: 0.1,
            patience: 2,
            ..EarlyStop::default()
        };
        let endless = [
            batch(0.0, 1.0, 0.1),
            batch(0.0, 1.0, 0.1),
            batch(0.0, 1.0, 0.1),
        ];
        assert_eq!(
            reason(&endless, &config(rules.clone())),
            Some(Reason::EosFloor)
        );
        assert_eq!(reason(&endless[..2], &config(rules.clone())), None);
        let alike = [
            batch(0.0, 1.0, 1.0),
            batch(0.0, 0.09, 1.0),
            batch(0.0, 0.09, 1.0),
        ];
        assert_eq!(reason(&alike, &config(rules)), Some(Reason::SpreadFloor));
    }

    #[test]
    fn rules_that_are_off_end_nothing() {
        let config = config(EarlyStop::default());
        let trail = [
            batch(9.0, 1.0, 1.0),
            batch(-99.0, 0.0, 0.0),
            batch(-99.0, 0.0, 0.0),
        ];
        assert_eq!(reason(&trail, &config), None);
    }

    #[test]
    fn the_second_opinions_curve_is_in_deviations_of_the_first_batch() {
        let batch = |d: f64| Batch {
            kl: d * d,
            gold: Some((7.0 + 3.0 * (d * (0.4 - 0.2 * d.max(1e-9).ln())), 3.0)),
            ..batch(0.0, 1.0, 1.0)
        };
        let trail: Vec<Batch> = [0.0, 0.5, 1.0, 2.0, 3.0, 4.0].map(batch).into();
        let curve = gold_curve(&trail).unwrap();
        assert!((curve.alpha - 0.4).abs() < 1e-6 && (curve.beta - 0.2).abs() < 1e-6);
        assert_eq!(
            gold_curve(&[Batch {
                gold: None,
                ..trail[0].clone()
            }]),
            None
        );
    }
}
