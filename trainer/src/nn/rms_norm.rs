//! Root-mean-square norm over the last dimension: y = w x / sqrt(mean(x^2) + epsilon).

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{numbers, simd};

/// Rows summed by one thread at a time; fixed, so that sums do not depend on the cores.
const ROWS: usize = 64;

/// `x` `[.., width]`, `weight` `[width]`.
///
/// # Errors
/// On shapes that do not fit.
pub fn rms_norm(x: &Tensor, weight: &Tensor, epsilon: f64) -> Result<Tensor> {
    x.contiguous()?.apply_op2(weight, RmsNorm(epsilon as f32))
}

struct RmsNorm(f32);
struct ByInput(f32);
struct ByWeight(f32);

fn inverse_scale(row: &[f32], epsilon: f32) -> f32 {
    (simd::dot(row, row) / row.len() as f32 + epsilon)
        .sqrt()
        .recip()
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (numbers(x, x_layout)?, numbers(weight, weight_layout)?);
        let width = weight.len();
        let mut out = vec![0.0; x.len()];
        out.par_chunks_mut(width * ROWS)
            .zip(x.par_chunks(width * ROWS))
            .for_each(|(out, x)| {
                for (out, x) in out.chunks_mut(width).zip(x.chunks(width)) {
                    let scale = inverse_scale(x, self.0);
                    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
                        *out = x * scale * weight;
                    }
                }
            });
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (x_values, gradient) = (x.detach(), gradient.contiguous()?.detach());
        let by_input = match x.track_op() {
            true => {
                Some(x_values.apply_op3_no_bwd(&weight.detach(), &gradient, &ByInput(self.0))?)
            }
            false => None,
        };
        let by_weight = match weight.track_op() {
            true => Some(x_values.apply_op2_no_bwd(&gradient, &ByWeight(self.0))?),
            false => None,
        };
        Ok((by_input, by_weight))
    }
}

impl CustomOp3 for ByInput {
    fn name(&self) -> &'static str {
        "rms-norm-by-input"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (numbers(x, x_layout)?, numbers(weight, weight_layout)?);
        let gradient = numbers(gradient, gradient_layout)?;
        let width = weight.len();
        let mut out = vec![0.0; x.len()];
        out.par_chunks_mut(width)
            .zip(x.par_chunks(width).zip(gradient.par_chunks(width)))
            .with_min_len(ROWS)
            .for_each(|(out, (x, gradient))| {
                let scale = inverse_scale(x, self.0);
                let mut along = 0.0;
                for ((x, weight), gradient) in x.iter().zip(weight).zip(gradient) {
                    along += x * weight * gradient;
                }
                let pull = along * scale * scale * scale / width as f32;
                for (i, out) in out.iter_mut().enumerate() {
                    *out = gradient[i] * weight[i] * scale - x[i] * pull;
                }
            });
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }
}

impl CustomOp2 for ByWeight {
    fn name(&self) -> &'static str {
        "rms-norm-by-weight"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, gradient) = (numbers(x, x_layout)?, numbers(gradient, gradient_layout)?);
        let width = x_layout.dims().last().copied().unwrap_or(1);
        let parts: Vec<Vec<f32>> = x
            .par_chunks(width * ROWS)
            .zip(gradient.par_chunks(width * ROWS))
            .map(|(x, gradient)| {
                let mut sum = vec![0.0; width];
                for (x, gradient) in x.chunks(width).zip(gradient.chunks(width)) {
                    let scale = inverse_scale(x, self.0);
                    for ((sum, x), gradient) in sum.iter_mut().zip(x).zip(gradient) {
                        *sum += x * scale * gradient;
                    }
                }
                sum
            })
            .collect();
        let mut total = vec![0.0; width];
        for part in parts {
            for (total, part) in total.iter_mut().zip(part) {
                *total += part;
            }
        }
        Ok((CpuStorage::F32(total), Shape::from(width)))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use candle_core::D;

    use super::*;
    use crate::nn::test_support::{assert_same, random};

    #[test]
    fn it_equals_the_plain_norm_and_its_finite_differences() {
        let inputs = [random("x", &[3, 50, 8]), random("weight", &[8])];
        assert_same(&inputs, &|x| rms_norm(&x[0], &x[1], 1e-5).unwrap(), &|x| {
            let mean = x[0].sqr().unwrap().mean_keepdim(D::Minus1).unwrap();
            let scale = (mean + 1e-5).unwrap().sqrt().unwrap();
            let normed = x[0].broadcast_div(&scale).unwrap();
            normed.broadcast_mul(&x[1]).unwrap()
        });
    }
}
