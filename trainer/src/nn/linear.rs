//! `x` times the transpose of a weight `[out, in]`, the layout of Hugging Face's files. Rows of
//! both lie in memory as they are multiplied, so nothing is packed and a weight is read once, and a
//! row comes to the same bits whatever lies beside it. The products of the backward pass are left to
//! candle (crate gemm), whose tiles take a third less time where there are many rows.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, InplaceOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::backward::give;
use super::tiles::{Left, Right, Size};
use super::{in_place, numbers, simd, tiles};

/// Rows of the weight that a core takes at a time.
const OUTPUTS: usize = 96;
/// Rows of `x` that meet them at a time: few enough to stay in a core's cache.
const ROWS: usize = 64;

/// `x` `[rows, in]`, `weight` `[out, in]`; returns `[rows, out]`.
///
/// # Errors
/// On shapes that do not fit.
pub fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op2(&weight.contiguous()?, Linear)
}

/// `stream` `[rows, out]` plus `x` `[rows, in]` times the transpose of `weight` `[out, in]`: the
/// product by itself is not kept, as an operand of a sum would be.
///
/// # Errors
/// On shapes that do not fit.
pub fn linear_onto(stream: &Tensor, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (stream, weight) = (stream.contiguous()?, weight.contiguous()?);
    stream.apply_op3(&x.contiguous()?, &weight, LinearOnto)
}

/// Adds the transpose of `gradient` `[rows, out]` times `x` `[rows, in]` to `sum` `[out, in]`, where it
/// lies: the gradient by a weight of which a few rows are known at a time.
///
/// # Errors
/// On shapes that do not fit.
pub fn add_by_weight(sum: &Tensor, gradient: &Tensor, x: &Tensor) -> Result<()> {
    sum.inplace_op3(&gradient.contiguous()?, &x.contiguous()?, &AddByWeight)
}

struct Linear;
struct LinearOnto;
struct AddByWeight;

/// `x` `[rows, width]` times the transpose of `weight` `[outputs, width]`.
pub(super) fn product(x: &[f32], weight: &[f32], width: usize) -> Vec<f32> {
    let (rows, outputs) = (x.len() / width, weight.len() / width);
    let parts: Vec<Vec<f32>> = weight
        .par_chunks(OUTPUTS * width)
        .map(|weight| {
            let outputs = weight.len() / width;
            let mut part = vec![0.0; rows * outputs];
            for (out, x) in part.chunks_mut(ROWS * outputs).zip(x.chunks(ROWS * width)) {
                simd::dots(x, weight, width, out);
            }
            part
        })
        .collect();
    let mut out = vec![0.0; rows * outputs];
    out.par_chunks_mut(outputs)
        .enumerate()
        .for_each(|(row, out)| {
            for (out, part) in out.chunks_mut(OUTPUTS).zip(&parts) {
                out.copy_from_slice(&part[row * out.len()..][..out.len()]);
            }
        });
    out
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = x_layout.shape().dims2()?;
        let (outputs, weight_width) = weight_layout.shape().dims2()?;
        if width != weight_width {
            candle_core::bail!("rows of {width} numbers do not fit a weight of {weight_width}");
        }
        let out = product(
            numbers(x, x_layout)?,
            numbers(weight, weight_layout)?,
            width,
        );
        Ok((CpuStorage::F32(out), Shape::from((rows, outputs))))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        gradients(x, weight, gradient)
    }
}

/// Gradients of a product by `x` and by the weight, where they learn.
fn gradients(
    x: &Tensor,
    weight: &Tensor,
    gradient: &Tensor,
) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let gradient = gradient.detach();
    let by_input = match x.track_op() {
        true => Some(gradient.matmul(&weight.detach())?),
        false => None,
    };
    let by_weight = match weight.track_op() {
        true => give(weight, gradient.t()?.matmul(&x.detach())?)?,
        false => None,
    };
    Ok((by_input, by_weight))
}

impl CustomOp3 for LinearOnto {
    fn name(&self) -> &'static str {
        "linear-onto"
    }

    fn cpu_fwd(
        &self,
        stream: &CpuStorage,
        stream_layout: &Layout,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (storage, shape) = Linear.cpu_fwd(x, x_layout, weight, weight_layout)?;
        let (CpuStorage::F32(mut out), true) = (storage, stream_layout.shape() == &shape) else {
            candle_core::bail!("a product of {shape:?} does not fit what it is added to")
        };
        let stream = numbers(stream, stream_layout)?;
        out.par_chunks_mut(in_place::CHUNK)
            .zip(stream.par_chunks(in_place::CHUNK))
            .for_each(|(out, stream)| {
                for (out, stream) in out.iter_mut().zip(stream) {
                    *out += stream;
                }
            });
        Ok((CpuStorage::F32(out), shape))
    }

    fn bwd(
        &self,
        stream: &Tensor,
        x: &Tensor,
        weight: &Tensor,
        _result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (by_input, by_weight) = gradients(x, weight, gradient)?;
        let by_stream = stream.track_op().then(|| gradient.detach());
        Ok((by_stream, by_input, by_weight))
    }
}

impl InplaceOp3 for AddByWeight {
    fn name(&self) -> &'static str {
        "linear-add-by-weight"
    }

    fn cpu_fwd(
        &self,
        sum: &mut CpuStorage,
        sum_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
        x: &CpuStorage,
        x_layout: &Layout,
    ) -> Result<()> {
        let (outputs, width) = sum_layout.shape().dims2()?;
        let (rows, _) = x_layout.shape().dims2()?;
        let fits = gradient_layout.dims() == [rows, outputs] && x_layout.dims() == [rows, width];
        let (CpuStorage::F32(sum), Some((start, end)), true) =
            (sum, sum_layout.contiguous_offsets(), fits)
        else {
            candle_core::bail!("a gradient by a weight is added to contiguous f32 of its shape")
        };
        let (gradient, x) = (numbers(gradient, gradient_layout)?, numbers(x, x_layout)?);
        sum[start..end]
            .par_chunks_mut(OUTPUTS * width)
            .enumerate()
            .for_each(|(part, sum)| add_outputs(sum, part * OUTPUTS, gradient, x, width));
        Ok(())
    }
}

/// The part of that for the outputs from `first` on that `sum` has room for. Both factors are copied a
/// piece at a time to lie side by side: their rows are pages apart.
fn add_outputs(sum: &mut [f32], first: usize, gradient: &[f32], x: &[f32], width: usize) {
    /// Rows that are added up at a time, and columns of `x` that meet all outputs.
    const PIECE: (usize, usize) = (256, 16);
    let (n, rows) = (sum.len() / width, x.len() / width);
    let outputs = gradient.len() / rows.max(1);
    let mut left = vec![0.0; PIECE.0 * n];
    let mut right = vec![0.0; PIECE.0 * PIECE.1];
    for start in (0..rows).step_by(PIECE.0) {
        let depth = PIECE.0.min(rows - start);
        for row in 0..depth {
            let line = &gradient[(start + row) * outputs + first..][..n];
            for (to, from) in left[row..].iter_mut().step_by(PIECE.0).zip(line) {
                *to = *from;
            }
        }
        for column in (0..width).step_by(PIECE.1) {
            let columns = PIECE.1.min(width - column);
            let lines = x[start * width..].chunks(width).take(depth);
            for (to, line) in right.chunks_mut(PIECE.1).zip(lines) {
                to[..columns].copy_from_slice(&line[column..column + columns]);
            }
            let size = Size {
                rows: n,
                depth,
                columns,
            };
            let (left, right) = (Left::Rows(&left, PIECE.0), Right(&right, PIECE.1));
            tiles::product(left, right, (&mut sum[column..], width), size, true);
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::nn::test_support::{assert_same, distance, random};

    #[test]
    fn any_number_of_rows_equals_the_plain_product_and_its_finite_differences() {
        for rows in [1, 7, ROWS + 6] {
            assert_same(
                &[random("x", &[rows, 9]), random("weight", &[OUTPUTS + 5, 9])],
                &|x| linear(&x[0], &x[1]).unwrap(),
                &|x| x[0].matmul(&x[1].t().unwrap()).unwrap(),
            );
        }
    }
    #[test]
    fn a_product_added_to_a_stream_equals_the_plain_sum_and_its_finite_differences() {
        let inputs = [
            random("stream", &[7, 5]),
            random("x", &[7, 9]),
            random("weight", &[5, 9]),
        ];
        assert_same(
            &inputs,
            &|x| linear_onto(&x[0], &x[1], &x[2]).unwrap(),
            &|x| (&x[0] + x[1].matmul(&x[2].t().unwrap()).unwrap()).unwrap(),
        );
        assert!(linear_onto(&inputs[1], &inputs[1], &inputs[2]).is_err());
    }

    #[test]
    fn a_gradient_by_the_weight_adds_to_what_is_there() {
        for (rows, outputs, width) in [(1, 3, 5), (300, OUTPUTS + 5, 37)] {
            let (gradient, x) = (random("g", &[rows, outputs]), random("x", &[rows, width]));
            let before = random("sum", &[outputs, width]);
            let sum = before.copy().unwrap();
            add_by_weight(&sum, &gradient, &x).unwrap();
            let expected = (before + gradient.t().unwrap().matmul(&x).unwrap()).unwrap();
            assert!(distance(&sum, &expected) < 1e-4);
            assert!(add_by_weight(&sum.t().unwrap(), &gradient, &x).is_err());
        }
    }
}
