//! The members of an ensemble: which units each one learns from, and how well their disagreement
//! tells the pairs that their mean orders wrongly from those that it orders rightly.

use std::collections::BTreeMap;
use std::fmt;

use rand::Rng;

use super::accuracy::{Interval, percentile_interval};
use super::groups::Group;
use crate::loss::strict_pairs;
use crate::model::ensemble::mean_and_deviation;
use crate::rng::stream;
use crate::split::in_drawn_order;

/// How often each member learns from the rankings of a unit.
#[derive(Default)]
pub(super) struct Draws {
    /// One count for each member; a unit that is not here counts once for each.
    counts: BTreeMap<String, Vec<f64>>,
}

impl Draws {
    /// For each member as many units as there are, drawn with replacement (Christiano et al.,
    /// arXiv 1706.03741, section 2.2.3), whatever order the groups come in. One member alone
    /// learns from every unit once.
    pub(super) fn new(groups: &[Group], n_members: usize, seed: u64) -> Self {
        let mut draws = Self::default();
        if n_members < 2 {
            return draws;
        }
        let units = in_drawn_order(groups.iter().map(|group| group.unit.as_str()), seed);
        for unit in &units {
            let counts = vec![0.0; n_members];
            draws.counts.insert((*unit).to_owned(), counts);
        }
        for member in 0..n_members {
            let mut rng = stream(seed, "member draw", member as u64);
            for _ in &units {
                let drawn = units[rng.random_range(0..units.len())];
                if let Some(counts) = draws.counts.get_mut(drawn) {
                    counts[member] += 1.0;
                }
            }
        }
        draws
    }

    /// How often `member` learns from a unit.
    pub(super) fn count(&self, unit: &str, member: usize) -> f64 {
        let counts = self.counts.get(unit);
        counts
            .and_then(|counts| counts.get(member))
            .copied()
            .unwrap_or(1.0)
    }
}

/// A held-out pair: how far the members disagree on it, and whether their mean is wrong.
#[derive(Clone, Copy)]
pub(super) struct PairDoubt {
    /// Deviation between the members of the difference of both scores.
    deviation: f64,
    is_wrong: bool,
}

/// The pairs of a ranking from `scores`, one list of the members' for each completion. Pairs that
/// the mean scores alike are neither right nor wrong and left out.
pub(super) fn doubts(scores: &[Vec<f32>], ranks: &[u32]) -> Vec<PairDoubt> {
    let doubt = |(better, worse): (usize, usize)| {
        let both = scores[better].iter().zip(&scores[worse]);
        let differences: Vec<f64> = both.map(|(a, b)| f64::from(*a) - f64::from(*b)).collect();
        let (mean, deviation) = mean_and_deviation(&differences);
        (mean != 0.0).then_some(PairDoubt {
            deviation,
            is_wrong: mean < 0.0,
        })
    };
    strict_pairs(ranks).into_iter().filter_map(doubt).collect()
}

/// How likely it is that the members disagree more on a wrong pair than on a right one: 0.5 says
/// that their deviation tells nothing (the area under the ROC curve; Hanley and McNeil, 1982; equal
/// deviations count one half). None where all pairs are right, or all wrong.
fn area(pairs: impl Iterator<Item = PairDoubt>) -> Option<f64> {
    let mut pairs: Vec<PairDoubt> = pairs.collect();
    pairs.sort_by(|a, b| a.deviation.total_cmp(&b.deviation));
    let (mut lower_right, mut sum) = (0.0, 0.0);
    for same in pairs.chunk_by(|a, b| a.deviation == b.deviation) {
        let wrong = same.iter().filter(|pair| pair.is_wrong).count() as f64;
        let right = same.len() as f64 - wrong;
        sum += wrong * (lower_right + right / 2.0);
        lower_right += right;
    }
    let n_wrong = pairs.iter().filter(|pair| pair.is_wrong).count() as f64;
    let n = n_wrong * lower_right;
    (n > 0.0).then_some(sum / n)
}

/// [`area`] over the pairs of all units, one list for each; none where it cannot be told.
pub(super) struct Area {
    pub(super) value: f64,
    /// By resampling units; none where they cannot tell one.
    pub(super) interval: Option<Interval>,
}

impl Area {
    pub(super) fn of(units: &[Vec<PairDoubt>], seed: u64) -> Option<Self> {
        let value = area(units.iter().flatten().copied())?;
        let interval = percentile_interval(units.len(), seed, &mut |chosen| {
            area(chosen.iter().flat_map(|index| &units[*index]).copied())
        });
        Some(Self { value, interval })
    }

    /// As figures of a summary, the ends of the interval where there is one.
    pub(super) fn figures(&self) -> Vec<(String, f64)> {
        let mut figures = vec![("disagreement_area".to_owned(), self.value)];
        if let Some(Interval { low, high }) = self.interval {
            figures.push(("disagreement_area_low".to_owned(), low));
            figures.push(("disagreement_area_high".to_owned(), high));
        }
        figures
    }
}

impl fmt::Display for Area {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:.3} ", self.value)?;
        match self.interval {
            Some(Interval { low, high }) => write!(formatter, "[{low:.3}, {high:.3}]"),
            None => formatter.write_str("(no interval)"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn pair(deviation: f64, is_wrong: bool) -> PairDoubt {
        PairDoubt {
            deviation,
            is_wrong,
        }
    }

    #[test]
    fn the_area_counts_how_often_a_wrong_pair_has_the_larger_deviation() {
        let of = |pairs: &[PairDoubt]| area(pairs.iter().copied());
        assert_eq!(of(&[pair(1.0, false), pair(2.0, true)]), Some(1.0));
        assert_eq!(of(&[pair(2.0, false), pair(1.0, true)]), Some(0.0));
        assert_eq!(of(&[pair(1.0, false), pair(1.0, true)]), Some(0.5));
        // Of six comparisons, the wrong 3 wins two and ties one, the wrong 1 wins none of three.
        let mixed = [
            pair(1.0, true),
            pair(2.0, false),
            pair(2.5, false),
            pair(3.0, false),
            pair(3.0, true),
        ];
        assert_eq!(of(&mixed), Some(2.5 / 6.0));
        assert_eq!(of(&[pair(1.0, true)]), None);
        assert!(Area::of(&[vec![pair(1.0, false)]], 1).is_none());
        let units: Vec<Vec<PairDoubt>> = (0..30)
            .map(|i| vec![pair(f64::from(i % 7), i % 3 == 0), pair(3.5, false)])
            .collect();
        let found = Area::of(&units, 1).unwrap();
        let Interval { low, high } = found.interval.unwrap();
        assert!(low < found.value && found.value < high);
        assert_eq!(found.figures().len(), 3);
        // A single unit says nothing about others.
        let one = Area::of(&[mixed.to_vec()], 1).unwrap();
        assert_eq!((one.value, one.figures().len()), (2.5 / 6.0, 1));
        assert!(one.interval.is_none() && one.to_string().ends_with("(no interval)"));
    }

    #[test]
    fn a_pair_is_doubtful_by_its_difference_and_not_by_where_a_member_puts_zero() {
        // Both members agree on the difference and lie 10 apart.
        let agreed = doubts(&[vec![1.0, 11.0], vec![0.0, 10.0]], &[1, 2]);
        assert!(agreed[0].deviation < 1e-12 && !agreed[0].is_wrong);
        // Differences 1 and -3: mean -1, deviation 2.
        let split = doubts(&[vec![1.0, 0.0], vec![0.0, 3.0]], &[1, 2]);
        assert!((split[0].deviation - 2.0).abs() < 1e-12 && split[0].is_wrong);
        assert!(doubts(&[vec![1.0, 1.0], vec![1.0, 1.0]], &[1, 2]).is_empty());
    }

    #[test]
    fn each_member_draws_as_many_units_as_there_are_and_a_different_set() {
        let groups: Vec<Group> = (0..40)
            .map(|index| Group {
                unit: format!("u{}", index / 3),
                ..Group::new(&format!("p{index}"))
            })
            .collect();
        let draws = Draws::new(&groups, 3, 1);
        let of = |member: usize| -> Vec<f64> {
            let units: std::collections::BTreeSet<&str> =
                groups.iter().map(|group| group.unit.as_str()).collect();
            assert_eq!(units.len(), 14);
            let counts = units.into_iter().map(|unit| draws.count(unit, member));
            counts.collect()
        };
        for member in 0..3 {
            assert_eq!(of(member).iter().sum::<f64>(), of(member).len() as f64);
            assert!(
                of(member).contains(&0.0),
                "with replacement, some are left out"
            );
            assert_ne!(of(member), of((member + 1) % 3));
        }
        let alone = Draws::new(&groups, 1, 1);
        assert_eq!(alone.count("u0", 0), 1.0);
    }
}
