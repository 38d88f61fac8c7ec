//! `x` times the transpose of a weight `[out, in]`, the layout of Hugging Face's files. Rows of
//! both lie in memory as they are multiplied, so nothing is packed and a weight is read once; the
//! backward products are brought to the same form by transposing. The gradient by the weight comes
//! out in the weight's own layout.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{numbers, simd};

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

struct Linear;

/// The gradient by the input, from the gradient by the output and the weight.
struct ByInput;

/// The gradient by the weight, from the gradient by the output and the input.
struct ByWeight;

/// `x` `[rows, width]` times the transpose of `weight` `[outputs, width]`.
fn product(x: &[f32], weight: &[f32], width: usize) -> Vec<f32> {
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

/// `x` `[rows, width]` as `[width, rows]`.
fn transposed(x: &[f32], width: usize) -> Vec<f32> {
    /// Columns that become rows together, so that each cache line read is used whole.
    const COLUMNS: usize = 16;
    let rows = x.len() / width;
    let mut out = vec![0.0; x.len()];
    out.par_chunks_mut(COLUMNS * rows)
        .enumerate()
        .for_each(|(piece, out)| {
            for row in 0..rows {
                let line = &x[row * width + piece * COLUMNS..];
                for (column, to) in out[row..].iter_mut().step_by(rows).enumerate() {
                    *to = line[column];
                }
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
        let gradient = gradient.contiguous()?.detach();
        let by_input = match x.track_op() {
            true => Some(gradient.apply_op2_no_bwd(&weight.detach(), &ByInput)?),
            false => None,
        };
        let by_weight = match weight.track_op() {
            true => Some(gradient.apply_op2_no_bwd(&x.detach(), &ByWeight)?),
            false => None,
        };
        Ok((by_input, by_weight))
    }
}

impl CustomOp2 for ByInput {
    fn name(&self) -> &'static str {
        "linear-by-input"
    }

    fn cpu_fwd(
        &self,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, outputs) = gradient_layout.shape().dims2()?;
        let (_, width) = weight_layout.shape().dims2()?;
        let weight = transposed(numbers(weight, weight_layout)?, width);
        let out = product(numbers(gradient, gradient_layout)?, &weight, outputs);
        Ok((CpuStorage::F32(out), Shape::from((rows, width))))
    }
}

impl CustomOp2 for ByWeight {
    fn name(&self) -> &'static str {
        "linear-by-weight"
    }

    fn cpu_fwd(
        &self,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
        x: &CpuStorage,
        x_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, outputs) = gradient_layout.shape().dims2()?;
        let (_, width) = x_layout.shape().dims2()?;
        let gradient = transposed(numbers(gradient, gradient_layout)?, outputs);
        let x = transposed(numbers(x, x_layout)?, width);
        let out = product(&gradient, &x, rows);
        Ok((CpuStorage::F32(out), Shape::from((outputs, width))))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::nn::test_support::{assert_same, random};

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
}
