//! Line charts as SVG, drawn on the server so that a page without JavaScript has them;
//! `static/js/chart.js` draws the same geometry when points arrive.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

/// Most points drawn; a longer curve is thinned, and keeps its first and last point.
const MAX_POINTS: usize = 400;

/// Left, right, top and bottom of the plot within the 360 x 150 picture.
const PLOT: (f64, f64, f64, f64) = (50.0, 352.0, 10.0, 126.0);

/// Metrics that people look for first, in this order: rewards and accuracies, how far the policy
/// strayed, losses, lengths.
const MAIN: [&str; 15] = [
    "objective/score",
    "objective/kl",
    "held_out/accuracy",
    "held_out/reward",
    "held_out/loss",
    "held_out/margin",
    "train/loss",
    "train/accuracy",
    "cross_validation/accuracy",
    "policy/loss",
    "value/loss",
    "ptx/loss",
    "objective/response_length",
    "completions/finished_share",
    "completions/mean_tokens",
];

/// One metric over the steps of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// The metric's name.
    pub name: String,
    /// Step and value, by step.
    pub points: Vec<(f64, f64)>,
}

impl Chart {
    /// Charts from the data of metrics events, those that people look for first.
    pub fn from_metrics<'a>(events: impl IntoIterator<Item = &'a Value>) -> Vec<Self> {
        let mut curves: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
        for data in events {
            let Some(step) = data["step"].as_f64() else {
                continue;
            };
            for (name, value) in data["values"].as_object().into_iter().flatten() {
                if let Some(value) = value.as_f64() {
                    let points = curves.entry(name).or_default();
                    // A run that goes on after a stop repeats the steps after its savepoint.
                    while points.last().is_some_and(|(last, _)| *last >= step) {
                        points.pop();
                    }
                    points.push((step, value));
                }
            }
        }
        let curves = curves.into_iter();
        let mut charts: Vec<Self> = curves
            .map(|(name, points)| Self {
                name: name.to_owned(),
                points: thin(points),
            })
            .collect();
        let place = |name: &str| MAIN.iter().position(|main| *main == name);
        charts.sort_by_key(|chart| place(&chart.name).unwrap_or(MAIN.len()));
        charts
    }

    /// Whether it is one of those that people look for first.
    pub fn is_main(&self) -> bool {
        MAIN.contains(&self.name.as_str())
    }

    /// The points for the script, as JSON.
    pub fn json(&self) -> String {
        json!(self.points).to_string()
    }

    /// The newest value, short.
    pub fn last(&self) -> String {
        self.points
            .last()
            .map_or(String::new(), |(_, value)| short(*value))
    }

    /// The highest value, short.
    pub fn highest(&self) -> String {
        short(self.values().fold(f64::NEG_INFINITY, f64::max))
    }

    /// The lowest value, short.
    pub fn lowest(&self) -> String {
        short(self.values().fold(f64::INFINITY, f64::min))
    }

    /// The first step.
    pub fn first_step(&self) -> f64 {
        self.points.first().map_or(0.0, |(step, _)| *step)
    }

    /// The last step.
    pub fn last_step(&self) -> f64 {
        self.points.last().map_or(0.0, |(step, _)| *step)
    }

    /// The curve as the `points` of a polyline.
    pub fn polyline(&self) -> String {
        let mut line = String::new();
        for point in &self.points {
            let (x, y) = self.place(*point);
            // Writing to a text does not fail.
            let _ = write!(line, "{x:.1},{y:.1} ");
        }
        line.truncate(line.trim_end().len());
        line
    }

    /// Where the newest point is, as texts for `cx` and `cy`.
    pub fn dot(&self) -> (String, String) {
        let last = self.points.last().copied().unwrap_or_default();
        let (x, y) = self.place(last);
        (format!("{x:.1}"), format!("{y:.1}"))
    }

    fn values(&self) -> impl Iterator<Item = f64> {
        self.points.iter().map(|(_, value)| *value)
    }

    /// A point's place in the picture; a curve of one value lies in the middle.
    fn place(&self, (step, value): (f64, f64)) -> (f64, f64) {
        let (left, right, top, bottom) = PLOT;
        let low = self.values().fold(f64::INFINITY, f64::min);
        let high = self.values().fold(f64::NEG_INFINITY, f64::max);
        let share = |at: f64, from: f64, to: f64, otherwise: f64| {
            if to > from {
                (at - from) / (to - from)
            } else {
                otherwise
            }
        };
        let x = left + (right - left) * share(step, self.first_step(), self.last_step(), 0.0);
        let y = bottom - (bottom - top) * share(value, low, high, 0.5);
        (x, y)
    }
}

fn thin(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    if points.len() <= MAX_POINTS {
        return points;
    }
    let last = points.len() - 1;
    (0..MAX_POINTS)
        .map(|index| points[index * last / (MAX_POINTS - 1)])
        .collect()
}

/// Four significant digits.
fn short(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-3..1e5).contains(&size) {
        return format!("{value:.2e}");
    }
    let decimals = match size {
        size if size >= 1000.0 => 0,
        size if size >= 100.0 => 1,
        size if size >= 10.0 => 2,
        size if size >= 1.0 => 3,
        _ => 4,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_fills_the_plot_and_a_number_that_is_none_is_left_out() {
        let events = [
            json!({"step": 0, "values": {"a/b": 2.0, "objective/score": -1.0}}),
            json!({"step": 5, "values": {"a/b": null, "objective/score": 3.0}}),
            json!({"step": 10, "values": {"objective/score": 1.0}}),
        ];
        let charts = Chart::from_metrics(&events);
        let names: Vec<_> = charts.iter().map(|chart| chart.name.as_str()).collect();
        assert_eq!(names, ["objective/score", "a/b"]);
        assert!(charts[0].is_main() && !charts[1].is_main());
        assert_eq!(charts[0].polyline(), "50.0,126.0 201.0,10.0 352.0,68.0");
        assert_eq!(charts[1].polyline(), "50.0,68.0");
        assert_eq!(
            (charts[0].last(), charts[0].highest()),
            ("1.000".into(), "3.000".into())
        );
    }

    #[test]
    fn a_long_curve_is_thinned_and_keeps_its_ends() {
        let points: Vec<(f64, f64)> = (0..5000).map(|i| (f64::from(i), 0.0)).collect();
        let thinned = thin(points);
        assert_eq!(thinned.len(), MAX_POINTS);
        assert_eq!((thinned[0].0, thinned[MAX_POINTS - 1].0), (0.0, 4999.0));
    }
}
