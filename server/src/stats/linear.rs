//! Symmetric systems of a few to a few hundred equations, by Cholesky's decomposition.

/// The lower triangle of Cholesky's decomposition.
pub(super) struct Cholesky {
    n: usize,
    lower: Vec<f64>,
}

impl Cholesky {
    /// Of a symmetric matrix of `n` rows, one after the other; none unless it is positive definite.
    pub(super) fn of(matrix: Vec<f64>, n: usize) -> Option<Self> {
        let mut lower = matrix;
        if lower.len() != n * n {
            return None;
        }
        for row in 0..n {
            for column in 0..=row {
                let (above, from) = lower.split_at(row * n);
                let pivot_row = if column == row {
                    &from[..column]
                } else {
                    &above[column * n..column * n + column]
                };
                let both = from[..column].iter().zip(pivot_row);
                let rest = from[column] - both.map(|(a, b)| a * b).sum::<f64>();
                let value = if column < row {
                    rest / lower[column * n + column]
                } else if rest > 0.0 && rest.is_finite() {
                    rest.sqrt()
                } else {
                    return None;
                };
                lower[row * n + column] = value;
            }
        }
        Some(Self { n, lower })
    }

    /// Rows of the matrix.
    pub(super) fn n(&self) -> usize {
        self.n
    }

    /// The solution of matrix · x = `right`, put in its place.
    pub(super) fn solve(&self, right: &mut [f64]) {
        let n = self.n;
        for row in 0..n {
            let own = &self.lower[row * n..row * n + row];
            let sum: f64 = own.iter().zip(&*right).map(|(a, b)| a * b).sum();
            right[row] = (right[row] - sum) / self.lower[row * n + row];
        }
        for row in (0..n).rev() {
            let below = row + 1..n;
            let sum: f64 = below
                .map(|other| self.lower[other * n + row] * right[other])
                .sum();
            right[row] = (right[row] - sum) / self.lower[row * n + row];
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_solution_solves(values in prop::collection::vec(-1.0f64..1.0, 30)) {
            // B·Bᵀ + I is positive definite.
            let n = 5;
            let mut matrix = vec![0.0; n * n];
            for row in 0..n {
                for column in 0..n {
                    let both = (0..n).map(|k| values[row * n + k] * values[column * n + k]);
                    let one = f64::from(u8::from(row == column));
                    matrix[row * n + column] = both.sum::<f64>() + one;
                }
            }
            let mut x = values[n * n..].to_vec();
            Cholesky::of(matrix.clone(), n).unwrap().solve(&mut x);
            for row in 0..n {
                let found: f64 = (0..n).map(|column| matrix[row * n + column] * x[column]).sum();
                prop_assert!((found - values[n * n + row]).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn a_matrix_that_is_not_positive_definite_has_none() {
        assert!(Cholesky::of(vec![1.0, 2.0, 2.0, 1.0], 2).is_none());
        assert!(Cholesky::of(vec![f64::NAN], 1).is_none());
        assert!(Cholesky::of(vec![1.0], 2).is_none());
    }
}
