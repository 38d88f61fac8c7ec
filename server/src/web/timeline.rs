//! Shares over weeks as SVG of 360 x 240: a dot with a whisker for each week, and a line through them. It
//! stands beside its numbers.

use chrono::NaiveDate;

use crate::web::diagram::Line;

/// Left, right, top and bottom of the plot.
const PLOT: (f64, f64, f64, f64) = (40.0, 350.0, 10.0, 210.0);

/// The axis begins here unless something is lower.
const LOWEST: f64 = 0.4;

/// A week.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Week {
    /// Its Monday.
    pub monday: NaiveDate,
    /// The share.
    pub value: f64,
    /// Its interval.
    pub interval: Option<(f64, f64)>,
}

/// The picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeline {
    weeks: Vec<Week>,
    low: f64,
}

/// A level that is marked across the picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    /// For `y` of its line.
    pub y: String,
    /// For `y` of its words.
    pub text_y: String,
    /// The level in percent.
    pub words: String,
}

impl Timeline {
    /// A picture of these weeks, oldest first; none for fewer than two.
    pub fn new(weeks: Vec<Week>) -> Option<Self> {
        let ends = weeks.iter().flat_map(|week| {
            let low = week.interval.map_or(week.value, |(low, _)| low);
            [week.value, low]
        });
        let low = ends.fold(LOWEST, f64::min);
        let low = (low * 10.0).floor().max(0.0) / 10.0;
        (weeks.len() > 1).then_some(Self { weeks, low })
    }

    /// The first and the last Monday.
    pub fn ends(&self) -> (String, String) {
        let day = |week: Option<&Week>| week.map_or(String::new(), |week| week.monday.to_string());
        (day(self.weeks.first()), day(self.weeks.last()))
    }

    /// For `points` of a polyline.
    pub fn polyline(&self) -> String {
        let points: Vec<String> = self
            .dots()
            .iter()
            .map(|(x, y)| format!("{x},{y}"))
            .collect();
        points.join(" ")
    }

    /// For `cx` and `cy` of dots.
    pub fn dots(&self) -> Vec<(String, String)> {
        let dots = self.weeks.iter();
        dots.map(|week| (self.across(week.monday), self.upwards(week.value)))
            .collect()
    }

    /// The intervals.
    pub fn whiskers(&self) -> Vec<Line> {
        let weeks = self.weeks.iter().filter_map(|week| {
            let (low, high) = week.interval?;
            let x = self.across(week.monday);
            Some(Line {
                x1: x.clone(),
                y1: self.upwards(low),
                x2: x,
                y2: self.upwards(high),
            })
        });
        weeks.collect()
    }

    /// Ends of the axis and the middle of the share, where two guess.
    pub fn levels(&self) -> Vec<Level> {
        let mut levels = vec![self.low, 1.0];
        if self.low < 0.45 {
            levels.push(0.5);
        }
        levels.into_iter().map(|level| self.level(level)).collect()
    }

    /// A level.
    pub fn level(&self, share: f64) -> Level {
        let (_, _, top, bottom) = PLOT;
        let y = self.height(share);
        Level {
            y: format!("{y:.1}"),
            text_y: format!("{:.1}", (y + 4.0).clamp(top + 6.0, bottom)),
            words: format!("{:.0} %", share * 100.0),
        }
    }

    fn across(&self, monday: NaiveDate) -> String {
        let (left, right, ..) = PLOT;
        let days = |day: NaiveDate| {
            let first = self.weeks.first().map_or(day, |week| week.monday);
            day.signed_duration_since(first).num_days() as f64
        };
        let all = days(self.weeks.last().map_or(monday, |week| week.monday)).max(1.0);
        // Room for the first and the last dot.
        format!(
            "{:.1}",
            left + 8.0 + (right - left - 16.0) * days(monday) / all
        )
    }

    fn upwards(&self, share: f64) -> String {
        format!("{:.1}", self.height(share))
    }

    fn height(&self, share: f64) -> f64 {
        let (_, _, top, bottom) = PLOT;
        let share = ((share - self.low) / (1.0 - self.low)).clamp(0.0, 1.0);
        bottom - (bottom - top) * share
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn week(monday: &str, value: f64, interval: Option<(f64, f64)>) -> Week {
        Week {
            monday: monday.parse().unwrap(),
            value,
            interval,
        }
    }

    #[test]
    fn weeks_stand_as_far_apart_as_they_are_and_the_axis_holds_every_interval() {
        let weeks = vec![
            week("2026-11-02", 0.7, Some((0.6, 0.8))),
            week("2026-11-09", 0.4, Some((0.25, 0.5))),
            week("2026-11-30", 1.0, None),
        ];
        let picture = Timeline::new(weeks).unwrap();
        let x: Vec<String> = picture.dots().into_iter().map(|(x, _)| x).collect();
        assert_eq!(x, ["48.0", "121.5", "342.0"]);
        assert_eq!(picture.dots()[2].1, "10.0");
        // From 20 % on.
        assert_eq!(picture.levels()[0].words, "20 %");
        assert_eq!(picture.whiskers().len(), 2);
        assert_eq!(picture.whiskers()[1].y2, "135.0");
        assert_eq!(picture.ends(), ("2026-11-02".into(), "2026-11-30".into()));
    }

    #[test]
    fn one_week_is_no_course() {
        assert_eq!(Timeline::new(vec![week("2026-11-02", 0.7, None)]), None);
    }
}
