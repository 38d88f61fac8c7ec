//! Pictures of shares between 0 and 1 as SVG: bars with intervals, and a reliability diagram. Each
//! stands beside its numbers.

/// A share with its interval as a bar of 200 x 20, and others marked on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    value: f64,
    interval: Option<(f64, f64)>,
    /// Marked by a line across: what length alone reaches.
    baseline: Option<f64>,
    /// Marked by a dashed line across: how far labelers agree.
    ceiling: Option<f64>,
}

/// A line of a picture, as texts for its ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where it begins.
    pub x1: String,
    /// Where it begins.
    pub y1: String,
    /// Where it ends.
    pub x2: String,
    /// Where it ends.
    pub y2: String,
}

/// Width of a bar of 1.
const FULL: f64 = 200.0;

impl Bar {
    /// A bar with what is known beside it.
    pub fn new(
        value: f64,
        interval: Option<(f64, f64)>,
        baseline: Option<f64>,
        ceiling: Option<f64>,
    ) -> Self {
        Self {
            value,
            interval,
            baseline,
            ceiling,
        }
    }

    /// How wide the bar is.
    pub fn width(&self) -> String {
        along(self.value)
    }

    /// The interval.
    pub fn whisker(&self) -> Option<Line> {
        self.interval.map(|(low, high)| Line {
            x1: along(low),
            y1: "10".to_owned(),
            x2: along(high),
            y2: "10".to_owned(),
        })
    }

    /// Where length alone is.
    pub fn baseline(&self) -> Option<String> {
        self.baseline.map(along)
    }

    /// Where the labelers' agreement is.
    pub fn ceiling(&self) -> Option<String> {
        self.ceiling.map(along)
    }
}

fn along(share: f64) -> String {
    format!("{:.1}", FULL * share.clamp(0.0, 1.0))
}

/// Confidence from one half to 1 across, accuracy from 0 to 1 upwards, in a picture of 360 x 240.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reliability {
    points: Vec<Point>,
}

/// A bin of pairs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// How sure the model is.
    pub confidence: f64,
    /// How often it is right.
    pub accuracy: f64,
    /// The interval of that.
    pub interval: Option<(f64, f64)>,
}

/// Left, right, top and bottom of the plot.
const PLOT: (f64, f64, f64, f64) = (40.0, 350.0, 10.0, 210.0);

impl Reliability {
    /// A diagram of these bins.
    pub fn new(points: Vec<Point>) -> Self {
        Self { points }
    }

    /// The points of a polyline through the bins.
    pub fn polyline(&self) -> String {
        let points = self.dots();
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x},{y}")).collect();
        points.join(" ")
    }

    /// The bins, as texts for `cx` and `cy`.
    pub fn dots(&self) -> Vec<(String, String)> {
        let points = self.points.iter();
        points
            .map(|point| place(point.confidence, point.accuracy))
            .collect()
    }

    /// The intervals of the bins that have one.
    pub fn whiskers(&self) -> Vec<Line> {
        let with_interval = self.points.iter().filter_map(|point| {
            let (low, high) = point.interval?;
            let (x1, y1) = place(point.confidence, low);
            let (x2, y2) = place(point.confidence, high);
            Some(Line { x1, y1, x2, y2 })
        });
        with_interval.collect()
    }
}

/// A point's place in the picture.
fn place(confidence: f64, accuracy: f64) -> (String, String) {
    let (left, right, top, bottom) = PLOT;
    let x = left + (right - left) * (2.0 * confidence - 1.0).clamp(0.0, 1.0);
    let y = bottom - (bottom - top) * accuracy.clamp(0.0, 1.0);
    (format!("{x:.1}"), format!("{y:.1}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(x1: &str, y1: &str, x2: &str, y2: &str) -> Line {
        let [x1, y1, x2, y2] = [x1, y1, x2, y2].map(str::to_owned);
        Line { x1, y1, x2, y2 }
    }

    #[test]
    fn a_bar_goes_as_far_as_its_share_and_only_an_interval_has_a_whisker() {
        let bar = Bar::new(0.75, Some((0.5, 0.9)), Some(0.55), None);
        assert_eq!(bar.width(), "150.0");
        assert_eq!(bar.whisker(), Some(line("100.0", "10", "180.0", "10")));
        assert_eq!(
            (bar.baseline(), bar.ceiling()),
            (Some("110.0".to_owned()), None)
        );
        assert_eq!(Bar::new(0.5, None, None, None).whisker(), None);
    }

    /// The template draws the diagonal from (40, 110) to (350, 10).
    #[test]
    fn a_bin_that_is_as_right_as_it_is_sure_lies_on_the_diagonal() {
        let point = |confidence, accuracy, interval| Point {
            confidence,
            accuracy,
            interval,
        };
        let diagram = Reliability::new(vec![
            point(0.5, 0.5, None),
            point(0.75, 0.75, Some((0.5, 1.0))),
            point(1.0, 1.0, None),
        ]);
        assert_eq!(diagram.polyline(), "40.0,110.0 195.0,60.0 350.0,10.0");
        assert_eq!(
            diagram.whiskers(),
            [line("195.0", "110.0", "195.0", "10.0")]
        );
    }
}
