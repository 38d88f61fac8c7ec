//! The gate of the feed-forward layer: silu(gate) up, with silu(x) = x sigmoid(x) (Shazeer,
//! arXiv 2002.05202).

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{numbers, simd};

/// Elements one thread takes at a time.
const PIECE: usize = 16_384;

/// `gate` and `up` of one shape.
///
/// # Errors
/// On shapes that do not fit.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.contiguous()?.apply_op2(&up.contiguous()?, SwiGlu)
}

struct SwiGlu;
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
}
