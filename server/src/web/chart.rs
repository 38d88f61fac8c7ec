//! Line charts as SVG, drawn on the server so that a page without JavaScript has them;
//! `static/js/chart.js` draws the same geometry when points arrive.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use crate::web::fewer::{evenly, thin};

/// Most points drawn; a longer curve is thinned.
pub const MAX_POINTS: usize = 400;

/// Most rows of a curve's table.
pub const MAX_ROWS: usize = 50;

/// Left, right, top and bottom of the plot within the 360 x 150 picture.
const PLOT: (f64, f64, f64, f64) = (50.0, 352.0, 10.0, 126.0);

/// Metrics that people look for first, in this order: rewards and accuracies, how far the policy
/// strayed, losses, lengths.
const MAIN: [&str; 18] = [
    "objective/reward",
    "objective/score",
    "objective/gold",
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
    "objective/text_loss_held_out",
    "objective/response_length",
    "completions/finished_share",
    "completions/mean_tokens",
];

/// One metric over the steps of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// The metric's name.
    pub name: String,
    /// Step and value, by step: all of them.
    pub points: Vec<(f64, f64)>,
    low: f64,
    high: f64,
}

impl Chart {
    /// A metric's points, by step.
    fn new(name: &str, points: Vec<(f64, f64)>) -> Self {
        let values = || points.iter().map(|(_, value)| *value);
        Self {
            name: name.to_owned(),
            low: values().fold(f64::INFINITY, f64::min),
            high: values().fold(f64::NEG_INFINITY, f64::max),
            points,
        }
    }

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
            .map(|(name, points)| Self::new(name, points))
            .collect();
        let place = |name: &str| MAIN.iter().position(|main| *main == name);
        charts.sort_by_key(|chart| place(&chart.name).unwrap_or(MAIN.len()));
        charts
    }

    /// Whether it is one of those that people look for first.
    pub fn is_main(&self) -> bool {
        MAIN.contains(&self.name.as_str())
    }

    /// The points that are drawn, for the script, as JSON.
    pub fn json(&self) -> String {
        json!(thin(&self.points, MAX_POINTS)).to_string()
    }

    /// Steps and values as texts, at most [`MAX_ROWS`] at even distances.
    pub fn rows(&self) -> Vec<(String, String)> {
        let chosen = evenly(self.points.len(), MAX_ROWS).map(|index| self.points[index]);
        chosen
            .map(|(step, value)| (step.to_string(), short(value)))
            .collect()
    }

    /// The name as a part of an HTML id.
    pub fn slug(&self) -> String {
        self.name.replace('/', "-")
    }

    /// The newest value, short.
    pub fn last(&self) -> String {
        self.points
            .last()
            .map_or(String::new(), |(_, value)| short(*value))
    }

    /// The highest value, short.
    pub fn highest(&self) -> String {
        short(self.high)
    }

    /// The lowest value, short.
    pub fn lowest(&self) -> String {
        short(self.low)
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
        for point in thin(&self.points, MAX_POINTS) {
            let (x, y) = self.place(point);
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

    /// A point's place in the picture; a curve of one value lies in the middle.
    fn place(&self, (step, value): (f64, f64)) -> (f64, f64) {
        let (left, right, top, bottom) = PLOT;
        let share = |at: f64, from: f64, to: f64, otherwise: f64| {
            if to > from {
                (at - from) / (to - from)
            } else {
                otherwise
            }
        };
        let x = left + (right - left) * share(step, self.first_step(), self.last_step(), 0.0);
        let y = bottom - (bottom - top) * share(value, self.low, self.high, 0.5);
        (x, y)
    }
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
    fn a_long_curve_names_its_peak_draws_it_and_has_a_short_table() {
        // A single step of 5000 is the highest, and a single one the lowest.
        let value = |step: u32| match step {
            1_111 => 7.0,
            3_333 => -7.0,
            _ => 0.5,
        };
        let told = |step| json!({"step": step, "values": {"x": value(step)}});
        let events: Vec<Value> = (0..5000).map(told).collect();
        let chart = &Chart::from_metrics(&events)[0];
        assert_eq!(
            (chart.highest(), chart.lowest()),
            ("7.000".into(), "-7.000".into())
        );
        assert!(chart.json().contains("[1111.0,7.0]") && chart.json().contains("[3333.0,-7.0]"));
        let line = chart.polyline();
        assert!(line.contains(",10.0") && line.contains(",126.0"), "{line}");
        assert!(line.split(' ').count() <= MAX_POINTS);
        let rows = chart.rows();
        assert_eq!(rows.len(), MAX_ROWS);
        assert_eq!(
            (rows[0].0.as_str(), rows[MAX_ROWS - 1].0.as_str()),
            ("0", "4999")
        );
    }
}
