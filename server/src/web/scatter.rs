//! Points of several series with a line through each, as SVG in a picture of 360 x 240.

/// Left, right, top and bottom of the plot.
const PLOT: (f64, f64, f64, f64) = (40.0, 350.0, 10.0, 210.0);

/// The points of one series.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    /// What was measured.
    pub points: Vec<(f64, f64)>,
    /// A line, from left to right; may be empty.
    pub line: Vec<(f64, f64)>,
    /// A place that is marked by a line upwards; left out beyond the picture.
    pub mark: Option<f64>,
}

/// The series with their scales.
#[derive(Debug, Clone, PartialEq)]
pub struct Scatter {
    series: Vec<Series>,
    right: f64,
    low: f64,
    high: f64,
}

impl Scatter {
    /// A picture from 0 to the rightmost point, of the height of all points and lines; none without
    /// points to the right of 0.
    pub fn new(series: Vec<Series>) -> Option<Self> {
        let points = || {
            series
                .iter()
                .flat_map(|one| one.points.iter().chain(&one.line))
        };
        let right = points().map(|(x, _)| *x).fold(0.0, f64::max);
        let low = points().map(|(_, y)| *y).fold(0.0, f64::min);
        let high = points().map(|(_, y)| *y).fold(0.0, f64::max);
        let is_drawable = right > 0.0 && high > low && (right + low + high).is_finite();
        is_drawable.then_some(Self {
            series,
            right,
            low,
            high,
        })
    }

    /// The picture's series, each as texts for circles, for a polyline and for the mark.
    pub fn drawn(&self) -> Vec<Drawn> {
        let drawn = |one: &Series| Drawn {
            dots: one.points.iter().map(|point| self.place(*point)).collect(),
            line: {
                let places = one.line.iter().map(|point| self.place(*point));
                let texts: Vec<String> = places.map(|(x, y)| format!("{x},{y}")).collect();
                texts.join(" ")
            },
            mark: one
                .mark
                .filter(|x| *x <= self.right)
                .map(|x| self.place((x, 0.0)).0),
        };
        self.series.iter().map(drawn).collect()
    }

    /// Where 0 lies upwards.
    pub fn zero(&self) -> String {
        self.place((0.0, 0.0)).1
    }

    /// The end of the axis across.
    pub fn rightmost(&self) -> String {
        format!("{:.2}", self.right)
    }

    /// The upper end of the axis upwards.
    pub fn highest(&self) -> String {
        format!("{:+.1}", self.high)
    }

    /// Its lower end.
    pub fn lowest(&self) -> String {
        format!("{:+.1}", self.low)
    }

    fn place(&self, (x, y): (f64, f64)) -> (String, String) {
        let (left, right, top, bottom) = PLOT;
        let x = left + (right - left) * x / self.right;
        let y = bottom - (bottom - top) * (y - self.low) / (self.high - self.low);
        (format!("{x:.1}"), format!("{y:.1}"))
    }
}

/// A series as texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drawn {
    /// For `cx` and `cy`.
    pub dots: Vec<(String, String)>,
    /// For `points` of a polyline.
    pub line: String,
    /// For `x1` and `x2`.
    pub mark: Option<String>,
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn points_lie_between_the_ends_of_the_axes_and_a_mark_beyond_them_is_left_out() {
        let series = |mark| Series {
            points: vec![(0.0, 0.0), (2.0, -1.0), (4.0, 3.0)],
            line: vec![(0.0, 0.0), (4.0, 1.0)],
            mark: Some(mark),
        };
        let picture = Scatter::new(vec![series(2.0), series(5.0)]).unwrap();
        let drawn = picture.drawn();
        let texts = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            let own = |(x, y): &(&str, &str)| ((*x).to_owned(), (*y).to_owned());
            pairs.iter().map(own).collect()
        };
        assert_eq!(
            drawn[0].dots,
            texts(&[("40.0", "160.0"), ("195.0", "210.0"), ("350.0", "10.0")])
        );
        assert_eq!(drawn[0].line, "40.0,160.0 350.0,110.0");
        assert_eq!(drawn[0].mark.as_deref(), Some("195.0"));
        assert_eq!(drawn[1].mark, None);
        assert_eq!(picture.zero(), "160.0");
        assert_eq!(
            (picture.highest(), picture.lowest()),
            ("+3.0".into(), "-1.0".into())
        );
    }

    #[test]
    fn without_a_spread_there_is_no_picture() {
        assert_eq!(Scatter::new(Vec::new()), None);
        let at_start = Series {
            points: vec![(0.0, 1.0)],
            ..Series::default()
        };
        assert_eq!(Scatter::new(vec![at_start]), None);
    }
}
