//! The gate of the feed-forward layer: silu(gate) up, with silu(x) = x sigmoid(x) (Shazeer,
//! arXiv 2002.05202).

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::backward::give;
use super::{linear, numbers, simd};

/// Elements one thread takes at a time.
const PIECE: usize = 16_384;

/// `gate` and `up` of one shape.
///
/// # Errors
/// On shapes that do not fit.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.contiguous()?.apply_op2(&up.contiguous()?, SwiGlu)
}

/// That of `gate` and `up` `[rows, in]`, times the transpose of `weight` `[out, in]`. What is multiplied
/// is worked out again in the backward pass rather than kept: it is the widest of a block's results,
/// and takes a hundredth of the product's time.
///
/// # Errors
/// On shapes that do not fit.
pub fn gated_linear(gate: &Tensor, up: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (gate, up) = (gate.contiguous()?, up.contiguous()?);
    gate.apply_op3(&up, &weight.contiguous()?, GatedLinear)
}

struct SwiGlu;
struct GatedLinear;
struct Gradients;

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    (1.0 + simd::exp(-x)).recip()
}

impl CustomOp2 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        gate_layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (numbers(gate, gate_layout)?, numbers(up, up_layout)?);
        let mut out = vec![0.0; gate.len()];
        out.par_chunks_mut(PIECE)
            .zip(gate.par_chunks(PIECE).zip(up.par_chunks(PIECE)))
            .for_each(|(out, (gate, up))| {
                simd::widest(
                    #[inline(always)]
                    || {
                        for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                            *out = gate * sigmoid(*gate) * up;
                        }
                    },
                );
            });
        Ok((CpuStorage::F32(out), gate_layout.shape().clone()))
    }

    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        _result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let both = gate.detach().apply_op3_no_bwd(
            &up.detach(),
            &gradient.contiguous()?.detach(),
            &Gradients,
        )?;
        Ok((Some(both.get(0)?), Some(both.get(1)?)))
    }
}

impl CustomOp3 for GatedLinear {
    fn name(&self) -> &'static str {
        "gated-linear"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        gate_layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = gate_layout.shape().dims2()?;
        let (outputs, weight_width) = weight_layout.shape().dims2()?;
        if width != weight_width {
            candle_core::bail!("rows of {width} numbers do not fit a weight of {weight_width}");
        }
        let (inner, _) = SwiGlu.cpu_fwd(gate, gate_layout, up, up_layout)?;
        let weight = numbers(weight, weight_layout)?;
        let out = linear::product(inner.as_slice::<f32>()?, weight, width);
        Ok((CpuStorage::F32(out), Shape::from((rows, outputs))))
    }

    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        weight: &Tensor,
        _result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (frozen_gate, frozen_up) = (gate.detach(), up.detach());
        let gradient = gradient.detach();
        let by_weight = match weight.track_op() {
            true => {
                let inner = frozen_gate.apply_op2_no_bwd(&frozen_up, &SwiGlu)?;
                give(weight, gradient.t()?.matmul(&inner)?)?
            }
            false => None,
        };
        if !gate.track_op() && !up.track_op() {
            return Ok((None, None, by_weight));
        }
        let by_inner = gradient.matmul(&weight.detach())?;
        let both = frozen_gate.apply_op3_no_bwd(&frozen_up, &by_inner, &Gradients)?;
        Ok((Some(both.get(0)?), Some(both.get(1)?), by_weight))
    }
}

impl CustomOp3 for Gradients {
    fn name(&self) -> &'static str {
        "swiglu-gradients"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        gate_layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (numbers(gate, gate_layout)?, numbers(up, up_layout)?);
        let gradient = numbers(gradient, gradient_layout)?;
        let mut out = vec![0.0; 2 * gate.len()];
        let (by_gate, by_up) = out.split_at_mut(gate.len());
        by_gate
            .par_chunks_mut(PIECE)
            .zip(by_up.par_chunks_mut(PIECE))
            .zip(gate.par_chunks(PIECE).zip(up.par_chunks(PIECE)))
            .zip(gradient.par_chunks(PIECE))
            .for_each(|(((by_gate, by_up), (gate, up)), gradient)| {
                let inputs = gate.iter().zip(up).zip(gradient);
                let outputs = by_gate.iter_mut().zip(by_up);
                simd::widest(
                    #[inline(always)]
                    || {
                        for ((by_gate, by_up), ((gate, up), gradient)) in outputs.zip(inputs) {
                            let open = sigmoid(*gate);
                            *by_gate = gradient * up * open * (1.0 + gate * (1.0 - open));
                            *by_up = gradient * gate * open;
                        }
                    },
                );
            });
        let mut shape = vec![2];
        shape.extend_from_slice(gate_layout.dims());
        Ok((CpuStorage::F32(out), Shape::from(shape)))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::nn::test_support::{assert_same, random};

    #[test]
    fn it_equals_the_plain_gate_and_its_finite_differences() {
        let inputs = [random("gate", &[2, 5, 6]), random("up", &[2, 5, 6])];
        assert_same(&inputs, &|x| swiglu(&x[0], &x[1]).unwrap(), &|x| {
            (x[0].silu().unwrap() * &x[1]).unwrap()
        });
    }
    #[test]
    fn with_the_product_after_it_too() {
        let inputs = [
            random("gate", &[7, 6]),
            random("up", &[7, 6]),
            random("weight", &[5, 6]),
        ];
        assert_same(
            &inputs,
            &|x| gated_linear(&x[0], &x[1], &x[2]).unwrap(),
            &|x| {
                let inner = (x[0].silu().unwrap() * &x[1]).unwrap();
                inner.matmul(&x[2].t().unwrap()).unwrap()
            },
        );
        assert!(gated_linear(&inputs[0], &inputs[1], &random("w", &[5, 7])).is_err());
    }
}
