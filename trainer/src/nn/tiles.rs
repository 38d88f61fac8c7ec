//! Products of matrices that lie in the cache, on one core: what attention is made of. A tile of the
//! result stays in registers while both factors pass by, and nothing is copied on the way.

use pulp::{Arch, Simd, WithSimd};

/// The left factor of a product.
#[derive(Clone, Copy)]
pub enum Left<'a> {
    /// Its rows, each so far from the one before.
    Rows(&'a [f32], usize),
    /// Its columns, each so far from the one before: the transpose of what lies there.
    Columns(&'a [f32], usize),
}

/// The right factor, by rows, each so far from the one before.
#[derive(Clone, Copy)]
pub struct Right<'a>(pub &'a [f32], pub usize);

/// The sizes of a product.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Rows of the left factor and of the result.
    pub rows: usize,
    /// Columns of the left factor, rows of the right one.
    pub depth: usize,
    /// Columns of the right factor and of the result.
    pub columns: usize,
}

/// Writes `left` times `right` to `out`, whose rows are `stride` apart; with `adds`, goes on from what
/// stands there: a product in several parts, one after the other, comes to the same bits as in one.
///
/// # Panics
/// When a slice is shorter than the sizes say.
pub fn product(
    left: Left,
    right: Right,
    (out, stride): (&mut [f32], usize),
    size: Size,
    adds: bool,
) {
    let span = |lines: usize, apart: usize, width: usize| lines.saturating_sub(1) * apart + width;
    assert!(right.0.len() >= span(size.depth, right.1, size.columns));
    match left {
        Left::Rows(numbers, apart) => assert!(numbers.len() >= span(size.rows, apart, size.depth)),
        Left::Columns(numbers, apart) => {
            assert!(numbers.len() >= span(size.depth, apart, size.rows));
        }
    }
    Arch::new().dispatch(Product {
        left,
        right,
        out,
        stride,
        size,
        adds,
    });
}

/// Rows of a tile: with two vectors each, their sums and what they are made of fit the 16 registers
/// of AVX2.
const ROWS: usize = 6;

struct Product<'a> {
    left: Left<'a>,
    right: Right<'a>,
    out: &'a mut [f32],
    stride: usize,
    size: Size,
    adds: bool,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let lanes = S::F32_LANES;
        let mut column = 0;
        while column < self.size.columns {
            let left = self.size.columns - column;
            // A few columns of the right factor stay in the cache while all rows pass.
            if left >= 2 * lanes {
                self.columns::<S, 2>(simd, column, 2 * lanes);
                column += 2 * lanes;
            } else if left >= lanes {
                self.columns::<S, 1>(simd, column, lanes);
                column += lanes;
            } else {
                self.columns::<S, 0>(simd, column, left);
                column += left;
            }
        }
    }
}

impl Product<'_> {
    /// All rows of `width` columns: of `V` whole vectors, or, where that is 0, of a part of one.
    #[inline(always)]
    fn columns<S: Simd, const V: usize>(&mut self, simd: S, column: usize, width: usize) {
        let mut first = 0;
        while first < self.size.rows {
            let n = (self.size.rows - first).min(ROWS);
            match n {
                6 => self.tile::<S, V, 6>(simd, first, column, width),
                5 => self.tile::<S, V, 5>(simd, first, column, width),
                4 => self.tile::<S, V, 4>(simd, first, column, width),
                3 => self.tile::<S, V, 3>(simd, first, column, width),
                2 => self.tile::<S, V, 2>(simd, first, column, width),
                _ => self.tile::<S, V, 1>(simd, first, column, width),
            }
            first += n;
        }
    }

    /// `R` rows of those columns. Loops instead of closures: what is not inlined is not compiled for
    /// the wide instructions.
    #[expect(
        clippy::needless_range_loop,
        clippy::manual_memcpy,
        reason = "loops of a known length over what stays in registers"
    )]
    #[inline(always)]
    fn tile<S: Simd, const V: usize, const R: usize>(
        &mut self,
        simd: S,
        first: usize,
        column: usize,
        width: usize,
    ) {
        let depth = self.size.depth;
        let zero = simd.splat_f32s(0.0);
        let mut sums = [[zero; 2]; R];
        if self.adds {
            for r in 0..R {
                let out = &self.out[(first + r) * self.stride + column..][..width];
                if V == 0 {
                    sums[r][0] = simd.partial_load_f32s(out);
                }
                let (out, _) = S::as_simd_f32s(out);
                for v in 0..V {
                    sums[r][v] = out[v];
                }
            }
        }
        let right = self.right.0[column..].chunks(self.right.1);
        match self.left {
            Left::Rows(numbers, stride) => {
                let mut rows = [numbers; R];
                for r in 0..R {
                    rows[r] = &numbers[(first + r) * stride..][..depth];
                }
                for (k, right) in (0..depth).zip(right) {
                    let mut x = [0.0; R];
                    for r in 0..R {
                        x[r] = rows[r][k];
                    }
                    step::<S, V, R>(simd, &x, &right[..width], &mut sums);
                }
            }
            Left::Columns(numbers, stride) => {
                let columns = numbers[first..].chunks(stride);
                for (x, right) in columns.zip(right).take(depth) {
                    let mut own = [0.0; R];
                    own.copy_from_slice(&x[..R]);
                    step::<S, V, R>(simd, &own, &right[..width], &mut sums);
                }
            }
        }
        for r in 0..R {
            let out = &mut self.out[(first + r) * self.stride + column..][..width];
            if V == 0 {
                simd.partial_store_f32s(out, sums[r][0]);
            }
            let (out, _) = S::as_mut_simd_f32s(out);
            for v in 0..V {
                out[v] = sums[r][v];
            }
        }
    }
}

/// Adds the products of one column of the left factor with one row of the right one.
#[expect(
    clippy::manual_memcpy,
    reason = "loops of a known length over what stays in registers"
)]
#[inline(always)]
fn step<S: Simd, const V: usize, const R: usize>(
    simd: S,
    left: &[f32; R],
    right: &[f32],
    sums: &mut [[S::f32s; 2]; R],
) {
    if V == 0 {
        let own = simd.partial_load_f32s(right);
        for r in 0..R {
            sums[r][0] = simd.mul_add_e_f32s(simd.splat_f32s(left[r]), own, sums[r][0]);
        }
        return;
    }
    let (vectors, _) = S::as_simd_f32s(right);
    let mut own = [simd.splat_f32s(0.0); 2];
    for v in 0..V {
        own[v] = vectors[v];
    }
    for r in 0..R {
        let x = simd.splat_f32s(left[r]);
        for v in 0..V {
            sums[r][v] = simd.mul_add_e_f32s(x, own[v], sums[r][v]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_in_parts_has_the_bits_of_the_whole() {
        let (rows, depth, columns) = (13, 50, 70);
        let (left, right) = (numbers(rows * depth, 1), numbers(depth * columns, 2));
        let made = |cuts: &[usize]| {
            let mut out = vec![0.0; rows * columns];
            for part in cuts.windows(2) {
                let size = Size {
                    rows,
                    depth: part[1] - part[0],
                    columns,
                };
                let left = Left::Rows(&left[part[0]..], depth);
                let right = Right(&right[part[0] * columns..], columns);
                product(left, right, (&mut out, columns), size, true);
            }
            out.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        assert_eq!(made(&[0, 7, 20, depth]), made(&[0, depth]));
    }

    fn number(i: usize) -> f32 {
        ((i * 7919 % 113) as f32 - 56.0) / 50.0
    }

    fn numbers(n: usize, from: usize) -> Vec<f32> {
        (from..from + n).map(number).collect()
    }

    /// Sizes that leave rows and columns over, and factors and results that are parts of wider ones.
    #[test]
    fn products_of_every_shape_of_tile_equal_plain_sums() {
        for (rows, depth, columns) in [(1, 1, 1), (6, 5, 32), (13, 3, 70), (5, 64, 17), (8, 9, 100)]
        {
            let size = Size {
                rows,
                depth,
                columns,
            };
            let (wide, tall, far) = (depth + 3, rows + 2, columns + 5);
            let (by_rows, by_columns) = (numbers(rows * wide, 1), numbers(depth * tall, 2));
            let right = numbers(depth * far, 3);
            for is_transposed in [false, true] {
                let left = match is_transposed {
                    false => Left::Rows(&by_rows[..(rows - 1) * wide + depth], wide),
                    true => Left::Columns(&by_columns[..(depth - 1) * tall + rows], tall),
                };
                let right = Right(&right[..(depth - 1) * far + columns], far);
                for adds in [false, true] {
                    let mut out = numbers(rows * far, 4);
                    let before = out.clone();
                    product(left, right, (&mut out, far), size, adds);
                    for row in 0..rows {
                        for column in 0..far {
                            let at = row * far + column;
                            let found = f64::from(out[at]);
                            if column >= columns {
                                assert_eq!(out[at], before[at], "beyond the result");
                                continue;
                            }
                            let of = |k: usize| match is_transposed {
                                false => by_rows[row * wide + k],
                                true => by_columns[k * tall + row],
                            };
                            let products = (0..depth)
                                .map(|k| f64::from(of(k)) * f64::from(right.0[k * far + column]));
                            let start = if adds { f64::from(before[at]) } else { 0.0 };
                            let expected = products.sum::<f64>() + start;
                            assert!((found - expected).abs() < 1e-4, "{found} {expected}");
                        }
                    }
                }
            }
        }
    }
}
