//! Intervals of Dawid and Skene's model.

use std::collections::BTreeMap;

use super::super::interval::{Interval, two_sided};
use super::super::linear::Cholesky;

/// The interval of a probability whose log odds move with the free parameters by these weights.
pub(super) fn interval(
    value: f64,
    weights: &[(usize, f64)],
    spread: Option<&Spread>,
) -> Option<Interval> {
    let Spread {
        information,
        slopes,
    } = spread?;
    let mut column = vec![0.0; information.n()];
    weights
        .iter()
        .for_each(|(place, weight)| column[*place] = *weight);
    information.solve(&mut column);
    let variance: f64 = weights
        .iter()
        .map(|(place, weight)| weight * column[*place])
        .sum();
    let moves = slopes.iter().map(|own| {
        let moves = own.iter().map(|(place, slope)| slope * column[*place]);
        moves.sum::<f64>().powi(2)
    });
    let n = slopes.len() as f64;
    let sandwich = if n > 1.0 {
        moves.sum::<f64>() * n / (n - 1.0)
    } else {
        0.0
    };
    let variance = variance.max(sandwich);
    let odds = (value / (1.0 - value)).ln();
    let interval = Interval::around(odds, variance.sqrt(), two_sided())?;
    Some(interval.map(|odds| 1.0 / (1.0 + (-odds).exp())))
}

/// What the intervals are from.
pub(super) struct Spread {
    pub(super) information: Cholesky,
    /// The slopes of the likelihood of each cluster, at the parameters found, by free parameter; none
    /// where units are independent.
    pub(super) slopes: Vec<BTreeMap<usize, f64>>,
}

/// Takes `weight` times the product of the vector with itself from a matrix of `n` rows.
pub(super) fn subtract(matrix: &mut [f64], n: usize, vector: &BTreeMap<usize, f64>, weight: f64) {
    for (row, value) in vector {
        for (column, other) in vector {
            matrix[row * n + column] -= weight * value * other;
        }
    }
}
