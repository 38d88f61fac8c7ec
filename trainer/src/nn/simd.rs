//! Inner loops over slices, in the widest instructions that the processor has (crate pulp). Sums
//! run in a fixed order for a given width, so results repeat to the bit on one kind of processor.

use pulp::{Arch, Simd, WithSimd};

/// Runs `work` compiled for the widest instructions. What it calls must be inlined into it.
pub fn widest<R>(work: impl FnOnce() -> R) -> R {
    Arch::new().dispatch(work)
}

/// e to the x, within 2 units in the last place for x from -87 to 88; 0 below, and e to the 88
/// above, which no softmax and no sigmoid tells from infinity. Unlike the
/// standard library's, a loop over it becomes vector instructions.
///
/// exp(x) = 2^n exp(r) with r = x - n ln 2 in [-ln 2 / 2, ln 2 / 2], and exp(r) by its Taylor
/// polynomial of degree 7, whose error there is below 6e-9.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// ln 2 in two parts: the first has few digits, so that n times it is exact.
    const LN_2: (f32, f32) = (0.693_359_4, -2.121_944_4e-4);
    /// Adding it rounds to a whole number, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.0, 88.0);
    let shifted = clamped.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN_2.1, n.mul_add(-LN_2.0, clamped));
    let mut y = r.mul_add(1.0 / 5040.0, 1.0 / 720.0);
    for coefficient in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        y = y.mul_add(r, coefficient);
    }
    // 2^n by writing n into the exponent.
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    if x < -87.0 { 0.0 } else { y * power }
}

/// The largest number; minus infinity for none.
pub fn highest(row: &[f32]) -> f32 {
    /// So many maxima run beside each other.
    const LANES: usize = 16;
    widest(
        #[inline(always)]
        || {
            let mut lanes = [f32::NEG_INFINITY; LANES];
            let (chunks, rest) = row.as_chunks::<LANES>();
            for chunk in chunks {
                for (lane, x) in lanes.iter_mut().zip(chunk) {
                    *lane = if *x > *lane { *x } else { *lane };
                }
            }
            lanes
                .iter()
                .chain(rest)
                .copied()
                .fold(f32::NEG_INFINITY, f32::max)
        },
    )
}

/// Sums of so many numbers are taken in f32, their total in f64.
const PIECE: usize = 256;

/// Each x of the row becomes exp((x - highest) * scale); returns their sum.
pub fn exp_in_place(row: &mut [f32], highest: f32, scale: f32) -> f64 {
    widest(
        #[inline(always)]
        || {
            let mut total = 0.0;
            for piece in row.chunks_mut(PIECE) {
                for x in &mut *piece {
                    *x = exp((*x - highest) * scale);
                }
                total += f64::from(sum(piece));
            }
            total
        },
    )
}

/// With x = (logit - highest) * scale for each logit of the row, the sums of exp(x) and of x exp(x).
pub fn exp_sums(row: &[f32], highest: f32, scale: f32) -> (f64, f64) {
    widest(
        #[inline(always)]
        || {
            let (mut total, mut weighted) = (0.0, 0.0);
            let (mut powers, mut products) = ([0.0; PIECE], [0.0; PIECE]);
            for piece in row.chunks(PIECE) {
                let n = piece.len();
                for ((power, product), logit) in powers.iter_mut().zip(&mut products).zip(piece) {
                    let x = (logit - highest) * scale;
                    *power = exp(x);
                    *product = x * *power;
                }
                total += f64::from(sum(&powers[..n]));
                weighted += f64::from(sum(&products[..n]));
            }
            (total, weighted)
        },
    )
}

/// The sum, in sixteen lanes.
#[inline(always)]
fn sum(row: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 16];
    let (chunks, rest) = row.as_chunks::<16>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += x;
        }
    }
    lanes.iter().chain(rest).sum()
}

/// Sums of products of each of `x`'s rows with each of `weight`'s, all of length `width`, into
/// `out` `[rows, weight rows]`.
pub fn dots(x: &[f32], weight: &[f32], width: usize, out: &mut [f32]) {
    Arch::new().dispatch(Dots {
        x,
        weight,
        width,
        out,
    });
}

/// The sum of products of two slices of one length.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut out = [0.0];
    dots(a, b, a.len(), &mut out);
    out[0]
}

struct Dots<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    width: usize,
    out: &'a mut [f32],
}

/// Rows of `x` and of the weight that are multiplied together: their 12 sums, and what they are
/// made of, fit the 16 registers of AVX2.
const BLOCK: (usize, usize) = (4, 3);

impl WithSimd for Dots<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let outputs = self.weight.len() / self.width;
        let rows = self.x.len() / self.width;
        let row = |index: usize| &self.x[index * self.width..][..self.width];
        let column = |index: usize| &self.weight[index * self.width..][..self.width];
        // The weight is read once from memory; the rows of `x` stay in the cache.
        let mut output = 0;
        while output < outputs {
            let wide = output + BLOCK.1 <= outputs;
            let mut first = 0;
            while first < rows {
                let tall = first + BLOCK.0 <= rows;
                let at = (first, output, outputs);
                if wide && tall {
                    let x = std::array::from_fn(|i| row(first + i));
                    let w = std::array::from_fn(|i| column(output + i));
                    store(self.out, block::<S, 4, 3>(simd, x, w), at);
                } else if wide {
                    let w = std::array::from_fn(|i| column(output + i));
                    store(self.out, block::<S, 1, 3>(simd, [row(first)], w), at);
                } else if tall {
                    let x = std::array::from_fn(|i| row(first + i));
                    store(self.out, block::<S, 4, 1>(simd, x, [column(output)]), at);
                } else {
                    let sums = block::<S, 1, 1>(simd, [row(first)], [column(output)]);
                    store(self.out, sums, at);
                }
                first += if tall { BLOCK.0 } else { 1 };
            }
            output += if wide { BLOCK.1 } else { 1 };
        }
    }
}

#[inline(always)]
fn store<const R: usize, const C: usize>(
    out: &mut [f32],
    sums: [[f32; C]; R],
    (first, output, outputs): (usize, usize, usize),
) {
    for (row, sums) in sums.iter().enumerate() {
        out[(first + row) * outputs + output..][..C].copy_from_slice(sums);
    }
}

/// Sums of products of `R` rows with `C` rows. Loops instead of closures: what is not inlined is
/// not compiled for the wide instructions.
#[inline(always)]
fn block<S: Simd, const R: usize, const C: usize>(
    simd: S,
    x: [&[f32]; R],
    weight: [&[f32]; C],
) -> [[f32; C]; R] {
    let n = x[0].len() / S::F32_LANES;
    let (empty, rest): (&[S::f32s], &[f32]) = S::as_simd_f32s(&[]);
    let (mut x_vectors, mut x_rest) = ([empty; R], [rest; R]);
    for r in 0..R {
        let (vectors, rest) = S::as_simd_f32s(x[r]);
        (x_vectors[r], x_rest[r]) = (&vectors[..n], rest);
    }
    let (mut weight_vectors, mut weight_rest) = ([empty; C], [rest; C]);
    for c in 0..C {
        let (vectors, rest) = S::as_simd_f32s(weight[c]);
        (weight_vectors[c], weight_rest[c]) = (&vectors[..n], rest);
    }
    let zero = simd.splat_f32s(0.0);
    let mut sums = [[zero; C]; R];
    for i in 0..n {
        let mut w = [zero; C];
        for c in 0..C {
            w[c] = weight_vectors[c][i];
        }
        for r in 0..R {
            let x = x_vectors[r][i];
            for c in 0..C {
                sums[r][c] = simd.mul_add_e_f32s(x, w[c], sums[r][c]);
            }
        }
    }
    let mut out = [[0.0; C]; R];
    for r in 0..R {
        for c in 0..C {
            let mut sum = simd.reduce_sum_f32s(sums[r][c]);
            for (x, w) in x_rest[r].iter().zip(weight_rest[c]) {
                sum += x * w;
            }
            out[r][c] = sum;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_that_of_the_standard_library() {
        let mut worst = 0.0_f64;
        for step in -8700..8800 {
            let x = step as f32 / 100.0 + 0.003;
            let expected = f64::from(x).exp();
            let relative = (f64::from(exp(x)) - expected).abs() / expected;
            worst = worst.max(relative);
        }
        assert!(worst < 2.5e-7, "{worst:e}");
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-88.0), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(f32::INFINITY), exp(88.0));
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn highest_of_any_length() {
        for n in [1, 15, 16, 17, 40] {
            for at in 0..n {
                let mut row = vec![-2.0; n];
                row[at] = -1.0;
                assert_eq!(highest(&row), -1.0);
            }
        }
        assert_eq!(highest(&[]), f32::NEG_INFINITY);
    }

    #[test]
    fn dots_of_every_shape_of_block_equal_plain_sums() {
        for (rows, outputs, width) in [(1, 1, 5), (4, 3, 16), (9, 7, 37), (6, 5, 64), (3, 2, 100)] {
            let number = |i: usize| ((i * 7919 % 113) as f32 - 56.0) / 50.0;
            let x: Vec<f32> = (0..rows * width).map(number).collect();
            let weight: Vec<f32> = (0..outputs * width).map(|i| number(i + 31)).collect();
            let mut out = vec![0.0; rows * outputs];
            dots(&x, &weight, width, &mut out);
            for row in 0..rows {
                for output in 0..outputs {
                    let products = x[row * width..][..width]
                        .iter()
                        .zip(&weight[output * width..]);
                    let expected: f64 = products.map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
                    let found = f64::from(out[row * outputs + output]);
                    assert!((found - expected).abs() < 1e-4, "{found} {expected}");
                }
            }
        }
    }
}
