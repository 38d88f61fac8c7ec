//! How the reward of a PPO run moved with the distance from where the policy began, as the run's
//! page shows it: by the reward model that it was trained against, and by a second opinion where
//! there is one.

use std::collections::BTreeMap;

use serde_json::Value;
use trainer::ppo::over_optimisation::{Curve, fit, gains, peak_interval};

use crate::web::chart::{MAX_POINTS, MAX_ROWS};
use crate::web::fewer::{evenly, thin};
use crate::web::page::Page;
use crate::web::scatter::{Scatter, Series};

/// The step of the first batch.
pub const FIRST_BATCH: u64 = 1;

/// A metric that every batch has.
pub const DISTANCE: &str = "objective/root_kl";

/// Fewest batches that make a picture.
const LEAST_BATCHES: usize = 3;

/// The picture and what it says.
pub struct Frontier {
    /// Gain against the square root of KL.
    pub scatter: Scatter,
    /// One for each judge, in the order of the picture's series.
    pub judges: Vec<JudgeRow>,
    /// Some of the batches, at even distances.
    pub rows: Vec<BatchRow>,
    n_batches: usize,
}

impl Frontier {
    /// How many batches there are.
    pub fn n_batches(&self) -> usize {
        self.n_batches
    }
}

/// A batch as texts.
pub struct BatchRow {
    /// Its step.
    pub step: u64,
    /// Its distance from where the policy began.
    pub distance: String,
    /// Its gain, by each judge.
    pub gains: Vec<String>,
}

/// What one judge's points say.
pub struct JudgeRow {
    /// Who judges.
    pub name: String,
    /// The same where there is little room.
    pub short: String,
    /// Gain in the newest batch.
    pub newest: String,
    /// The fitted curve; empty where nothing could be fitted.
    pub curve: String,
    /// Where it is highest; empty likewise.
    pub peak: String,
}

/// The figures of one batch that are needed.
struct Batch {
    step: u64,
    distance: f64,
    score: (f64, f64),
    gold: Option<(f64, f64)>,
}

/// The picture of a run's metrics, where they are those of PPO and begin with its first batch, which
/// gains are measured from.
pub fn find<'a>(page: &Page, metrics: impl IntoIterator<Item = &'a Value>) -> Option<Frontier> {
    let batches = batches(metrics);
    if batches.len() < LEAST_BATCHES || batches.first()?.step != FIRST_BATCH {
        return None;
    }
    let scores: Vec<(f64, f64)> = batches.iter().map(|batch| batch.score).collect();
    let gold: Option<Vec<(f64, f64)>> = batches.iter().map(|batch| batch.gold).collect();
    let distances: Vec<f64> = batches.iter().map(|batch| batch.distance).collect();
    let judges = [
        ("runs-judge-reward", Some(scores)),
        ("runs-judge-gold", gold),
    ];
    let (mut series, mut judged) = (Vec::new(), Vec::new());
    let mut rows: Vec<BatchRow> = evenly(batches.len(), MAX_ROWS)
        .map(|index| BatchRow {
            step: batches[index].step,
            distance: format!("{:.3}", batches[index].distance),
            gains: Vec::new(),
        })
        .collect();
    for (key, found) in judges {
        let Some(points) = found.and_then(|found| points(&distances, &found)) else {
            continue;
        };
        let curve = fit(&points);
        judged.push(row(page, key, &points, curve));
        for (row, index) in rows.iter_mut().zip(evenly(points.len(), MAX_ROWS)) {
            row.gains.push(format!("{:+.3}", points[index].1));
        }
        series.push(Series {
            line: curve
                .map(|curve| trace(&distances, curve))
                .unwrap_or_default(),
            mark: curve
                .and_then(|curve| curve.peak())
                .map(|peak| peak.distance),
            points: thin(&points, MAX_POINTS),
        });
    }
    let scatter = Scatter::new(series)?;
    Some(Frontier {
        scatter,
        judges: judged,
        rows,
        n_batches: batches.len(),
    })
}

/// The batches of a run by step; a run that goes on after a stop tells some of them twice.
fn batches<'a>(metrics: impl IntoIterator<Item = &'a Value>) -> Vec<Batch> {
    let mut found: BTreeMap<u64, Batch> = BTreeMap::new();
    for data in metrics {
        let read = |name: &str| data["values"][name].as_f64();
        let both = |name: &str| Some((read(name)?, read(&format!("{name}_std"))?));
        let (Some(step), Some(distance), Some(score)) = (
            data["step"].as_u64(),
            read(DISTANCE),
            // Runs of earlier versions told only the score that is made of it.
            both("objective/reward").or_else(|| both("objective/score")),
        ) else {
            continue;
        };
        let gold = both("objective/gold");
        found.insert(
            step,
            Batch {
                step,
                distance,
                score,
                gold,
            },
        );
    }
    found.into_values().collect()
}

/// Distance and gain of each batch, in deviations of the first one.
fn points(distances: &[f64], judged: &[(f64, f64)]) -> Option<Vec<(f64, f64)>> {
    let means: Vec<f64> = judged.iter().map(|(mean, _)| *mean).collect();
    let gains = gains(&means, judged.first()?.1)?;
    Some(distances.iter().copied().zip(gains).collect())
}

/// The curve as far as the run went.
fn trace(distances: &[f64], curve: Curve) -> Vec<(f64, f64)> {
    const PIECES: usize = 60;
    let farthest = distances.iter().copied().fold(0.0, f64::max);
    let place = |piece: usize| farthest * piece as f64 / PIECES as f64;
    (0..=PIECES)
        .map(|piece| (place(piece), curve.at(place(piece))))
        .collect()
}

fn row(page: &Page, key: &str, points: &[(f64, f64)], curve: Option<Curve>) -> JudgeRow {
    let newest = points.last().map_or(f64::NAN, |(_, gain)| *gain);
    let fitted = curve.map(|curve| {
        format!(
            "d ({:.3} {} {:.3} ln d), R² {:.2}",
            curve.alpha,
            if curve.beta < 0.0 { '+' } else { '−' },
            curve.beta.abs(),
            curve.r_squared
        )
    });
    let peak = curve.map(|curve| match curve.peak() {
        None => page.t("runs-no-peak"),
        Some(peak) => {
            let within = peak_interval(points, 1).unwrap_or((0.0, f64::INFINITY));
            let high = match within.1.is_finite() {
                true => format!("{:.2}", within.1),
                false => page.t("runs-no-limit"),
            };
            let values = [
                ("distance", format!("{:.2}", peak.distance)),
                ("kl", format!("{:.2}", peak.distance * peak.distance)),
                ("gain", format!("{:+.2}", peak.gain)),
                ("low", format!("{:.2}", within.0)),
                ("high", high),
            ];
            page.t_args("runs-peak", &values)
        }
    });
    JudgeRow {
        name: page.t(key),
        short: page.t(&format!("{key}-short")),
        newest: format!("{newest:+.2}"),
        curve: fitted.unwrap_or_default(),
        peak: peak.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(step: u64, d: f64, score: f64, gold: Option<f64>) -> Value {
        let mut values = json!({
            "objective/root_kl": d, "objective/score": score, "objective/score_std": 2.0,
        });
        if let Some(gold) = gold {
            values["objective/gold"] = json!(gold);
            values["objective/gold_std"] = json!(4.0);
        }
        json!({"step": step, "values": values})
    }

    #[test]
    fn batches_come_by_step_and_what_is_told_again_counts_once() {
        let events = [
            told(1, 0.0, 1.0, None),
            told(2, 0.5, 2.0, None),
            json!({"step": 2, "values": {"train/loss": 1.0}}),
            told(3, 9.0, 9.0, None),
            told(3, 1.0, 3.0, None),
        ];
        let found = batches(&events);
        assert_eq!(found.len(), 3);
        assert_eq!((found[2].distance, found[2].score), (1.0, (3.0, 2.0)));
        let judged: Vec<(f64, f64)> = found.iter().map(|batch| batch.score).collect();
        let distances: Vec<f64> = found.iter().map(|batch| batch.distance).collect();
        let expected = vec![(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)];
        assert_eq!(points(&distances, &judged), Some(expected));
        assert!(found.iter().all(|batch| batch.gold.is_none()));
    }

    #[test]
    fn a_second_opinion_counts_where_every_batch_has_one() {
        let both = batches(&[told(1, 0.0, 1.0, Some(3.0)), told(2, 0.5, 2.0, Some(5.0))]);
        assert!(both.iter().all(|batch| batch.gold.is_some()));
    }
}
