//! Small bar charts as SVG, drawn on the server: one bar for each day.

/// Left, right, top and bottom of the plot within the 360 x 120 picture.
const PLOT: (f64, f64, f64, f64) = (50.0, 352.0, 14.0, 96.0);

/// How much of its place a bar takes.
const SHARE: f64 = 0.7;

/// One bar, placed.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// Left edge.
    pub x: String,
    /// Upper edge.
    pub y: String,
    /// Width.
    pub width: String,
    /// Height; 0 of nothing.
    pub height: String,
}

/// Bars beside each other, as high as their values say.
#[derive(Debug, Clone, PartialEq)]
pub struct Bars {
    /// The bars, in the order given.
    pub bars: Vec<Bar>,
    /// The highest value; 0 where there is none above.
    pub highest: f64,
}

impl Bars {
    /// Places bars for values that are not negative; the highest fills the plot.
    pub fn new(values: &[f64]) -> Self {
        let (left, right, top, bottom) = PLOT;
        let highest = values.iter().copied().fold(0.0, f64::max);
        let room = (right - left) / values.len().max(1) as f64;
        let bar = |(index, value): (usize, &f64)| {
            let share = if highest > 0.0 { value / highest } else { 0.0 };
            let height = (bottom - top) * share;
            Bar {
                x: format!("{:.1}", left + room * (index as f64 + (1.0 - SHARE) / 2.0)),
                y: format!("{:.1}", bottom - height),
                width: format!("{:.1}", room * SHARE),
                height: format!("{height:.1}"),
            }
        };
        Self {
            bars: values.iter().enumerate().map(bar).collect(),
            highest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_bar_fills_the_plot_and_nothing_has_no_height() {
        let bars = Bars::new(&[0.0, 2.0, 4.0]);
        let heights: Vec<&str> = bars.bars.iter().map(|bar| bar.height.as_str()).collect();
        assert_eq!(heights, ["0.0", "41.0", "82.0"]);
        assert_eq!(bars.bars[2].y, "14.0");
        assert_eq!(bars.bars[1].y, "55.0");
        let empty = Bars::new(&[0.0, 0.0]);
        assert!(empty.highest == 0.0 && empty.bars.iter().all(|bar| bar.height == "0.0"));
    }
}
