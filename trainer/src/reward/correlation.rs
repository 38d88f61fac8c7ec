//! Correlation of two series.

/// Pearson's and Spearman's coefficients; none where a series does not vary.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Correlations {
    /// Of the values.
    pub pearson: Option<f64>,
    /// Of their ranks.
    pub spearman: Option<f64>,
}

/// Pearson's coefficient; none where a series does not vary.
pub(super) fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    let (x, y) = (centred(x), centred(y));
    let product = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let scale = (product(&x, &x) * product(&y, &y)).sqrt();
    (scale > 0.0).then(|| (product(&x, &y) / scale).clamp(-1.0, 1.0))
}

/// The values less their mean. Equal values give exact zeros, whatever rounding does to their mean.
pub(super) fn centred(values: &[f64]) -> Vec<f64> {
    let first = values.first().copied().unwrap_or_default();
    let n = values.len().max(1) as f64;
    let mean = values.iter().map(|value| value - first).sum::<f64>() / n;
    values.iter().map(|value| (value - first) - mean).collect()
}

/// Ranks from 1; equal values share the mean of the places they take.
pub(super) fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    for tied in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let before = order.partition_point(|other| values[*other] < values[tied[0]]);
        let rank = before as f64 + (tied.len() + 1) as f64 / 2.0;
        for index in tied {
            ranks[*index] = rank;
        }
    }
    ranks
}

/// Both coefficients over all values.
pub(super) fn overall(x: &[f64], y: &[f64]) -> Correlations {
    Correlations {
        pearson: pearson(x, y),
        spearman: pearson(&ranks(x), &ranks(y)),
    }
}

/// Two series of a group.
pub(super) type Series = (Vec<f64>, Vec<f64>);

/// Both coefficients within groups: each group's values (or their ranks in it) less their mean,
/// then all groups together, so that what differs between groups does not count.
pub(super) fn within(groups: &[Series]) -> Correlations {
    let pooled = |form: fn(&[f64]) -> Vec<f64>| {
        let of = |pick: fn(&Series) -> &Vec<f64>| -> Vec<f64> {
            let centred = groups.iter().flat_map(|group| centred(&form(pick(group))));
            centred.collect()
        };
        pearson(&of(|group| &group.0), &of(|group| &group.1))
    };
    Correlations {
        pearson: pooled(<[f64]>::to_vec),
        spearman: pooled(ranks),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn a_line_has_1_and_a_series_that_does_not_vary_has_none() {
        let x = [1.0, 2.0, 3.0, 10.0];
        let falling: Vec<f64> = x.iter().map(|x| 0.3 - 0.1 * x).collect();
        let found = overall(&x, &falling);
        assert!((found.pearson.unwrap() + 1.0).abs() < 1e-12);
        assert!((found.spearman.unwrap() + 1.0).abs() < 1e-12);
        // Their mean is not exactly 0.1.
        assert_eq!(pearson(&x, &[0.1; 4]), None);
        assert_eq!(overall(&[], &[]).spearman, None);
    }

    /// Against scipy, see `make_report.py`; with ties on both sides.
    #[test]
    fn coefficients_are_those_of_scipy() {
        let made: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/fixtures/report.json")).unwrap();
        let made = &made["correlation"];
        let groups: Vec<(Vec<f64>, Vec<f64>)> =
            serde_json::from_value(made["groups"].clone()).unwrap();
        let (x, y): (Vec<Vec<f64>>, Vec<Vec<f64>>) = groups.iter().cloned().unzip();
        let (whole, inside) = (overall(&x.concat(), &y.concat()), within(&groups));
        for (name, found) in [
            ("pearson", whole.pearson),
            ("spearman", whole.spearman),
            ("pearson_within", inside.pearson),
            ("spearman_within", inside.spearman),
        ] {
            let expected = made[name].as_f64().unwrap();
            assert!(
                (found.unwrap() - expected).abs() < 1e-12,
                "{name}: {found:?}"
            );
        }
    }

    #[test]
    fn equal_values_share_their_places() {
        assert_eq!(ranks(&[5.0, 1.0, 5.0, 7.0]), [2.5, 1.0, 2.5, 4.0]);
    }

    /// Longer answers go with worse prompts, but within each prompt longer is better.
    #[test]
    fn within_groups_what_differs_between_them_does_not_count() {
        let groups = [
            (vec![1.0, 2.0], vec![10.0, 11.0]),
            (vec![11.0, 12.0], vec![0.0, 1.0]),
        ];
        let found = within(&groups);
        assert!((found.pearson.unwrap() - 1.0).abs() < 1e-12);
        assert!((found.spearman.unwrap() - 1.0).abs() < 1e-12);
        let x: Vec<f64> = groups.iter().flat_map(|group| group.0.clone()).collect();
        let y: Vec<f64> = groups.iter().flat_map(|group| group.1.clone()).collect();
        assert!(pearson(&x, &y).unwrap() < -0.9);
    }
}
