//! Fewer points to draw, and fewer rows to read, than were measured.

/// At most `most` of the points (an even number, 4 at least), in their order: the first, the last, and
/// of each stretch between them the lowest and the highest, so that no peak is lost.
pub fn thin(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    let [first, inner @ .., last] = points else {
        return points.to_vec();
    };
    if points.len() <= most {
        return points.to_vec();
    }
    let n = (most - 2) / 2;
    let mut kept = vec![*first];
    for stretch in 0..n {
        let places = stretch * inner.len() / n..(stretch + 1) * inner.len() / n;
        let by_value = |a: &usize, b: &usize| inner[*a].1.total_cmp(&inner[*b].1);
        let ends = [
            places.clone().min_by(by_value),
            places.clone().max_by(by_value),
        ];
        let mut ends: Vec<usize> = ends.into_iter().flatten().collect();
        ends.sort_unstable();
        ends.dedup();
        kept.extend(ends.into_iter().map(|place| inner[place]));
    }
    kept.push(*last);
    kept
}

/// At most `most` (2 at least) of `n` places at even distances, with the first and the last.
pub fn evenly(n: usize, most: usize) -> impl Iterator<Item = usize> {
    let chosen = n.min(most);
    (0..chosen).map(move |index| match chosen {
        1 => 0,
        _ => index * (n - 1) / (chosen - 1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_curve_is_thinned_and_keeps_its_ends_its_peak_and_its_lowest_point() {
        let value = |index: u32| match index {
            1_234 => 9.0,
            4_321 => -9.0,
            _ => f64::from(index % 7),
        };
        let points: Vec<(f64, f64)> = (0..5000).map(|i| (f64::from(i), value(i))).collect();
        let thinned = thin(&points, 400);
        assert!(thinned.len() <= 400, "{}", thinned.len());
        assert!(thinned.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(
            (thinned[0], thinned[thinned.len() - 1]),
            (points[0], points[4999])
        );
        assert!(thinned.contains(&(1234.0, 9.0)) && thinned.contains(&(4321.0, -9.0)));
    }

    #[test]
    fn a_short_curve_stays_as_it_is_and_a_flat_one_keeps_one_point_of_a_stretch() {
        let flat: Vec<(f64, f64)> = (0..9).map(|i| (f64::from(i), 0.0)).collect();
        assert_eq!(thin(&flat, 10), flat);
        assert_eq!(thin(&flat[..1], 10), flat[..1]);
        assert_eq!(thin(&[], 10), []);
        let thinned = thin(&flat, 4);
        assert_eq!((thinned[0], thinned[thinned.len() - 1]), (flat[0], flat[8]));
        assert!(thinned.len() <= 4);
    }

    #[test]
    fn places_are_even_and_reach_both_ends() {
        let places = |n, most| evenly(n, most).collect::<Vec<_>>();
        assert!(places(0, 5).is_empty());
        assert_eq!(places(1, 5), [0]);
        assert_eq!(places(3, 5), [0, 1, 2]);
        assert_eq!(places(9, 5), [0, 2, 4, 6, 8]);
        assert_eq!(places(1000, 2), [0, 999]);
    }
}
