//! A figure with its interval on a scale, as SVG of 200 x 20: a dot with a whisker. It stands beside its
//! numbers.

/// A figure on a scale.
#[derive(Debug, Clone, PartialEq)]
pub struct Gauge {
    /// Both ends of the scale.
    scale: (f64, f64),
    value: f64,
    interval: Option<(f64, f64)>,
    /// A line across: what nothing at all would give.
    zero: Option<f64>,
}

/// Room beside the scale, so that a dot at its end is whole.
const EDGE: f64 = 4.0;

/// Width of the picture.
const FULL: f64 = 200.0;

impl Gauge {
    /// A figure between the ends of a scale, the first below the second.
    pub fn new(
        scale: (f64, f64),
        value: f64,
        interval: Option<(f64, f64)>,
        zero: Option<f64>,
    ) -> Self {
        Self {
            scale,
            value,
            interval,
            zero,
        }
    }

    /// The scale that holds all of these figures with their intervals, and 0.
    pub fn scale<'a>(figures: impl Iterator<Item = &'a (f64, Option<(f64, f64)>)>) -> (f64, f64) {
        let ends = figures.flat_map(|(value, interval)| {
            let (low, high) = interval.unwrap_or((*value, *value));
            [low.min(*value), high.max(*value)]
        });
        let whole = |(low, high): (f64, f64), end: f64| (low.min(end), high.max(end));
        match ends.fold((0.0, 0.0), whole) {
            (low, high) if high > low => (low, high),
            _ => (-1.0, 1.0),
        }
    }

    /// Where the dot is.
    pub fn dot(&self) -> String {
        self.along(self.value)
    }

    /// Both ends of the whisker.
    pub fn whisker(&self) -> Option<(String, String)> {
        let (low, high) = self.interval?;
        Some((self.along(low), self.along(high)))
    }

    /// Where the line across is.
    pub fn zero(&self) -> Option<String> {
        self.zero.map(|zero| self.along(zero))
    }

    fn along(&self, value: f64) -> String {
        let (low, high) = self.scale;
        let share = ((value - low) / (high - low)).clamp(0.0, 1.0);
        format!("{:.1}", EDGE + (FULL - 2.0 * EDGE) * share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_stands_where_its_value_is_on_the_scale() {
        let gauge = Gauge::new((-1.0, 1.0), 0.5, Some((0.0, 2.0)), Some(0.0));
        assert_eq!(
            (gauge.dot(), gauge.zero()),
            ("148.0".into(), Some("100.0".into()))
        );
        assert_eq!(gauge.whisker(), Some(("100.0".into(), "196.0".into())));
        assert_eq!(Gauge::new((0.0, 1.0), 0.0, None, None).whisker(), None);
    }

    #[test]
    fn a_scale_holds_every_interval_and_zero() {
        let figures = [
            (0.4, Some((0.1, 0.9))),
            (1.5, None),
            (-0.2, Some((-0.5, 0.0))),
        ];
        assert_eq!(Gauge::scale(figures.iter()), (-0.5, 1.5));
        assert_eq!(Gauge::scale([].iter()), (-1.0, 1.0));
        assert_eq!(Gauge::scale([(0.0, None)].iter()), (-1.0, 1.0));
    }
}
