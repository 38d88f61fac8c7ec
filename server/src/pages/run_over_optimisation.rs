//! How the reward of a PPO run moved with the distance from where the policy began, as the run's
//! page shows it: by the reward model that it was trained against, and by a second opinion where
//! there is one.

use std::collections::BTreeMap;

use serde_json::Value;
use trainer::ppo::over_optimisation::{Curve, fit, gains};

use crate::web::page::Page;
use crate::web::scatter::{Scatter, Series};

/// Fewest batches that make a picture.
const LEAST_BATCHES: usize = 3;

/// The picture and what it says.
pub struct Frontier {
    /// Gain against the square root of KL.
    pub scatter: Scatter,
    /// One for each judge, in the order of the picture's series.
    pub judges: Vec<JudgeRow>,
}

/// What one judge's points say.
pub struct JudgeRow {
    /// Who judges.
    pub name: String,
    /// Gain in the newest batch.
    pub newest: String,
    /// The fitted curve; empty where nothing could be fitted.
    pub curve: String,
    /// Where it is highest; empty likewise.
    pub peak: String,
}

/// The figures of one batch that are needed.
struct Batch {
    distance: f64,
    score: (f64, f64),
    gold: Option<(f64, f64)>,
}

/// The picture of a run's metrics, where they are those of PPO.
pub fn find<'a>(page: &Page, metrics: impl IntoIterator<Item = &'a Value>) -> Option<Frontier> {
    let batches = batches(metrics);
    if batches.len() < LEAST_BATCHES {
        return None;
    }
    let scores: Vec<(f64, f64)> = batches.iter().map(|batch| batch.score).collect();
    let gold: Option<Vec<(f64, f64)>> = batches.iter().map(|batch| batch.gold).collect();
    let distances: Vec<f64> = batches.iter().map(|batch| batch.distance).collect();
    let judges = [
        ("runs-judge-reward", Some(scores)),
        ("runs-judge-gold", gold),
    ];
    let (mut series, mut rows) = (Vec::new(), Vec::new());
    for (key, found) in judges {
        let Some((name, points)) =
            found.and_then(|found| Some((page.t(key), points(&distances, &found)?)))
        else {
            continue;
        };
        let curve = fit(&points);
        rows.push(row(page, name, &points, curve));
        series.push(Series {
            line: curve
                .map(|curve| trace(&distances, curve))
                .unwrap_or_default(),
            mark: curve
                .and_then(|curve| curve.peak())
                .map(|peak| peak.distance),
            points,
        });
    }
    let scatter = Scatter::new(series)?;
    Some(Frontier {
        scatter,
        judges: rows,
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
            read("objective/root_kl"),
            both("objective/score"),
        ) else {
            continue;
        };
        let gold = both("objective/gold");
        found.insert(
            step,
            Batch {
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

fn row(page: &Page, name: String, points: &[(f64, f64)], curve: Option<Curve>) -> JudgeRow {
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
            let values = [
                ("distance", format!("{:.2}", peak.distance)),
                ("kl", format!("{:.2}", peak.distance * peak.distance)),
                ("gain", format!("{:+.2}", peak.gain)),
            ];
            page.t_args("runs-peak", &values)
        }
    });
    JudgeRow {
        name,
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
