//! The middle of values that have a long tail, such as times.

use super::interval::{Estimate, Interval, two_sided};

/// The median; n counts values. The interval is between two order statistics, whatever the values'
/// distribution (Conover, Practical Nonparametric Statistics, section 3.2): the places of the middle, one
/// half of n, ± 1.96 √n / 2; none for fewer than 6 values, of which no two are that far apart. Values that
/// are not finite are left out; none where no other is left.
pub fn median(values: &[f64]) -> Option<Estimate> {
    let mut sorted: Vec<f64> = values
        .iter()
        .copied()
        .filter(|value| value.is_finite())
        .collect();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    let middle = (sorted.get(n.checked_sub(1)? / 2)? + sorted.get(n / 2)?) / 2.0;
    let half = two_sided() * (n as f64).sqrt() / 2.0;
    // Counted from 1.
    let low = (n as f64 / 2.0 - half).floor();
    let high = (n as f64 / 2.0 + half).ceil() + 1.0;
    let interval = (low >= 1.0 && high <= n as f64).then(|| Interval {
        low: sorted[low as usize - 1],
        high: sorted[high as usize - 1],
    });
    Estimate::new(middle, interval, n)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_middle_lies_between_the_order_statistics_that_theory_says() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[f64::NAN]), None);
        let of = |n: usize| median(&(1..=n).rev().map(|i| i as f64).collect::<Vec<_>>()).unwrap();
        assert_eq!((of(4).value, of(4).interval, of(4).n), (2.5, None, 4));
        // 100 values: the 40th and the 61st, as tables of the binomial distribution have it.
        let found = of(100);
        assert_eq!((found.value, found.n), (50.5, 100));
        assert_eq!(
            found.interval,
            Some(Interval {
                low: 40.0,
                high: 61.0
            })
        );
    }

    proptest! {
        #[test]
        fn an_interval_holds_the_median(values in prop::collection::vec(-1e6f64..1e6, 1..200)) {
            let found = median(&values).unwrap();
            if let Some(interval) = found.interval {
                prop_assert!(interval.low <= found.value && found.value <= interval.high);
            }
        }
    }
}
