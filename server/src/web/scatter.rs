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
    /// A place across that is marked by a line upwards; left out beyond the picture.
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

    /// The picture's series, each as texts for its points, for a polyline and for the mark.
    pub fn drawn(&self) -> Vec<Drawn> {
        let drawn = |(index, one): (usize, &Series)| Drawn {
            dots: one.points.iter().map(|point| self.place(*point)).collect(),
            line: {
                let places = one.line.iter().map(|point| self.place(*point));
                let texts: Vec<String> = places.map(|(x, y)| format!("{x},{y}")).collect();
                texts.join(" ")
            },
            mark: one
                .mark
                .filter(|x| *x <= self.right)
                .map(|x| self.mark(index, x)),
        };
        self.series.iter().enumerate().map(drawn).collect()
    }

    /// A mark of a series, with room for its words on the side where there is more. Each series has
    /// a line of its own for them.
    fn mark(&self, series: usize, x: f64) -> Mark {
        const LINE: usize = 14;
        let is_right = x > self.right / 2.0;
        let aside = |by: f64| format!("{:.1}", self.across(x) + by);
        Mark {
            x: aside(0.0),
            text_x: aside(if is_right { -4.0 } else { 4.0 }),
            text_y: (PLOT.2 as usize + 10 + LINE * series).to_string(),
            anchor: if is_right { "end" } else { "start" },
        }
    }

    /// Where 0 lies upwards.
    pub fn zero(&self) -> String {
        self.place((0.0, 0.0)).1
    }

    /// The base line of the word for 0; none where an end of the axis stands too near, or is 0.
    pub fn zero_label(&self) -> Option<String> {
        const LINE: f64 = 12.0;
        let zero = self.upwards(0.0);
        let is_free = zero - PLOT.2 > LINE && PLOT.3 - zero > LINE;
        is_free.then(|| format!("{:.1}", zero + 4.0))
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
        let (x, y) = (self.across(x), self.upwards(y));
        (format!("{x:.1}"), format!("{y:.1}"))
    }

    fn across(&self, x: f64) -> f64 {
        PLOT.0 + (PLOT.1 - PLOT.0) * x / self.right
    }

    fn upwards(&self, y: f64) -> f64 {
        PLOT.3 - (PLOT.3 - PLOT.2) * (y - self.low) / (self.high - self.low)
    }
}

/// A series as texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drawn {
    /// Where the points are.
    pub dots: Vec<(String, String)>,
    /// For `points` of a polyline.
    pub line: String,
    /// The place that is marked.
    pub mark: Option<Mark>,
}

/// A mark as texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// For `x1` and `x2` of its line.
    pub x: String,
    /// For `x` of its words.
    pub text_x: String,
    /// For `y` of its words.
    pub text_y: String,
    /// For `text-anchor` of its words.
    pub anchor: &'static str,
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
        let mark = drawn[0].mark.as_ref().unwrap();
        assert_eq!((mark.x.as_str(), mark.text_x.as_str()), ("195.0", "199.0"));
        assert_eq!(drawn[1].mark, None);
        assert_eq!(picture.zero(), "160.0");
        assert_eq!(picture.zero_label().as_deref(), Some("164.0"));
        assert_eq!(
            (picture.highest(), picture.lowest()),
            ("+3.0".into(), "-1.0".into())
        );
    }

    #[test]
    fn marks_near_each_other_have_words_of_their_own_and_an_end_at_0_is_not_named_twice() {
        let series = |mark| Series {
            points: vec![(0.0, 0.0), (4.0, 3.0)],
            mark: Some(mark),
            ..Series::default()
        };
        let picture = Scatter::new(vec![series(1.0), series(3.9)]).unwrap();
        let marks: Vec<Mark> = picture
            .drawn()
            .into_iter()
            .filter_map(|one| one.mark)
            .collect();
        assert_eq!((marks[0].anchor, marks[1].anchor), ("start", "end"));
        assert_ne!(marks[0].text_y, marks[1].text_y);
        assert_eq!(picture.zero_label(), None);
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
