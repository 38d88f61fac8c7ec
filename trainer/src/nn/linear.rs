//! `x` times the transpose of a weight `[out, in]`, the layout of Hugging Face's files. Few rows,
//! as in decoding, are too little work for a matrix product to split by itself: the outputs are
//! divided among the cores. The gradient by the weight comes out in the weight's own layout.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// Up to this many rows the outputs are divided by hand.
const FEW_ROWS: usize = 64;
/// Outputs that are worth another core.
const LEAST_OUTPUTS: usize = 64;

/// `x` `[rows, in]`, `weight` `[out, in]`; returns `[rows, out]`.
///
/// # Errors
/// On shapes that do not fit.
pub fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op2(weight, Linear)
}

struct Linear;

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
        let shape = Shape::from((rows, outputs));
        let multiply = |start: usize, n: usize| {
            let part = weight_layout.narrow(0, start, n)?.transpose(0, 1)?;
            x.matmul(weight, (1, rows, n, width), x_layout, &part)
        };
        let pieces = rayon::current_num_threads().min(outputs / LEAST_OUTPUTS);
        if rows > FEW_ROWS || pieces < 2 {
            return Ok((multiply(0, outputs)?, shape));
        }
        let size = outputs.div_ceil(pieces);
        let parts: Vec<CpuStorage> = (0..outputs.div_ceil(size))
            .into_par_iter()
            .map(|piece| multiply(piece * size, size.min(outputs - piece * size)))
            .collect::<Result<_>>()?;
        let parts: Vec<&[f32]> = parts
            .iter()
            .map(CpuStorage::as_slice)
            .collect::<Result<_>>()?;
        let mut out = Vec::with_capacity(rows * outputs);
        for row in 0..rows {
            for part in &parts {
                let n = part.len() / rows;
                out.extend_from_slice(&part[row * n..(row + 1) * n]);
            }
        }
        Ok((CpuStorage::F32(out), shape))
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
            true => Some(gradient.matmul(&weight.detach())?),
            false => None,
        };
        let by_weight = match weight.track_op() {
            true => Some(gradient.t()?.matmul(&x.detach())?),
            false => None,
        };
        Ok((by_input, by_weight))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::nn::test_support::{assert_same, random};

    #[test]
    fn few_and_many_rows_equal_the_plain_product_and_its_finite_differences() {
        for rows in [1, 7, FEW_ROWS + 6] {
            assert_same(
                &[
                    random("x", &[rows, 9]),
                    random("weight", &[2 * LEAST_OUTPUTS + 3, 9]),
                ],
                &|x| linear(&x[0], &x[1]).unwrap(),
                &|x| x[0].matmul(&x[1].t().unwrap()).unwrap(),
            );
        }
    }
}
