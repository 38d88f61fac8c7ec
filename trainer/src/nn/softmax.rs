//! Softmax of attention scores where a position looks only at itself and what came before. Scale,
//! mask and softmax are one pass, and no mask tensor exists.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{numbers, simd};

/// `scores` `[.., n * time, time]`: `n` groups of `time` queries each over the same keys. Returns
/// the softmax of `scale` times the scores, 0 after each query's own position.
///
/// # Errors
/// On shapes that do not fit.
pub fn causal_softmax(scores: &Tensor, scale: f32) -> Result<Tensor> {
    scores.contiguous()?.apply_op1(CausalSoftmax(scale))
}

struct CausalSoftmax(f32);
struct ByScores(f32);

impl CustomOp1 for CausalSoftmax {
    fn name(&self) -> &'static str {
        "causal-softmax"
    }

    fn cpu_fwd(&self, scores: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let scores = numbers(scores, layout)?;
        let time = layout.dims().last().copied().unwrap_or(1);
        let mut out = vec![0.0; scores.len()];
        out.par_chunks_mut(time * time)
            .zip(scores.par_chunks(time * time))
            .for_each(|(out, scores)| {
                for (query, (out, scores)) in
                    out.chunks_mut(time).zip(scores.chunks(time)).enumerate()
                {
                    seen_softmax(&mut out[..=query], &scores[..=query], self.0);
                }
            });
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, _scores: &Tensor, result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let gradient = gradient.contiguous()?.detach();
        let by_scores = ByScores(self.0);
        Ok(Some(
            result.detach().apply_op2_no_bwd(&gradient, &by_scores)?,
        ))
    }
}

fn seen_softmax(out: &mut [f32], scores: &[f32], scale: f32) {
    out.copy_from_slice(scores);
    let sum = simd::exp_in_place(out, simd::highest(scores), scale);
    let share = (sum as f32).recip();
    for out in out {
        *out *= share;
    }
}

impl CustomOp2 for ByScores {
    fn name(&self) -> &'static str {
        "causal-softmax-by-scores"
    }

    fn cpu_fwd(
        &self,
        weights: &CpuStorage,
        weights_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let weights = numbers(weights, weights_layout)?;
        let gradient = numbers(gradient, gradient_layout)?;
        let time = weights_layout.dims().last().copied().unwrap_or(1);
        let square = time * time;
        let mut out = vec![0.0; weights.len()];
        out.par_chunks_mut(square)
            .zip(weights.par_chunks(square).zip(gradient.par_chunks(square)))
            .for_each(|(out, (weights, gradient))| {
                for query in 0..out.len() / time {
                    let seen = query * time..query * time + query + 1;
                    let (weights, gradient) = (&weights[seen.clone()], &gradient[seen.clone()]);
                    let along = simd::dot(weights, gradient);
                    for ((out, w), g) in out[seen].iter_mut().zip(weights).zip(gradient) {
                        *out = self.0 * w * (g - along);
                    }
                }
            });
        Ok((CpuStorage::F32(out), weights_layout.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use candle_core::{D, Device};

    use super::*;
    use crate::model::attention::causal_mask;
    use crate::nn::test_support::{assert_same, random};

    #[test]
    fn it_equals_a_masked_softmax_and_its_finite_differences() {
        let (groups, time) = (3, 5);
        let inputs = [random("scores", &[2, 2, groups * time, time])];
        let mask = causal_mask(time, &Device::Cpu).unwrap();
        assert_same(&inputs, &|x| causal_softmax(&x[0], 0.5).unwrap(), &|x| {
            let scores = x[0].reshape((2, 2, groups, time, time)).unwrap();
            let masked = (scores * 0.5).unwrap().broadcast_add(&mask).unwrap();
            let weights = candle_nn::ops::softmax(&masked, D::Minus1).unwrap();
            weights.reshape((2, 2, groups * time, time)).unwrap()
        });
    }
}
