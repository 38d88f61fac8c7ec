//! Softmax of attention scores where a position looks only at itself and what came before. Scale,
//! mask and softmax are one pass, and no mask tensor exists.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{numbers, simd};

/// `scores` `[.., n * time, time]`: `n` groups of `time` queries each over the same keys. Returns
/// the softmax of `scale` times the scores, 0 after each query's own position.
///
/// # Errors
/// On shapes that do not fit.
pub fn causal_softmax(scores: &Tensor, scale: f32) -> Result<Tensor> {
    let softmax = CausalSoftmax {
        scale,
        behind: None,
    };
    scores.contiguous()?.apply_op1(softmax)
}

/// The same where the queries are not the first of their keys: `scores` `[rows, key_heads, n *
/// time, keys]`, where query t of a row sees `behind` of that row keys, and t + 1 more.
///
/// # Errors
/// On shapes that do not fit.
pub fn causal_softmax_behind(
    scores: &Tensor,
    time: usize,
    behind: &Arc<[usize]>,
    scale: f32,
) -> Result<Tensor> {
    let (rows, _, folded, _) = scores.dims4()?;
    if rows != behind.len() || folded % time.max(1) != 0 {
        candle_core::bail!("{rows} rows of {folded} queries do not fit {behind:?} and {time}");
    }
    let softmax = CausalSoftmax {
        scale,
        behind: Some((behind.clone(), time)),
    };
    scores.contiguous()?.apply_op1(softmax)
}

#[derive(Clone)]
struct CausalSoftmax {
    scale: f32,
    /// Keys before each row's first query, and queries of a group; none where queries and keys are
    /// the same positions.
    behind: Option<(Arc<[usize]>, usize)>,
}

struct ByScores(CausalSoftmax);

impl CausalSoftmax {
    /// Keys, and queries of a group.
    fn sizes(&self, layout: &Layout) -> (usize, usize) {
        let keys = layout.dims().last().copied().unwrap_or(1);
        (keys, self.behind.as_ref().map_or(keys, |(_, time)| *time))
    }

    /// How many keys the first query sees, in group number `group` of `groups`.
    fn seen(&self, group: usize, groups: usize) -> usize {
        let behind = self.behind.as_ref();
        behind.map_or(1, |(behind, _)| behind[group * behind.len() / groups] + 1)
    }
}

impl CustomOp1 for CausalSoftmax {
    fn name(&self) -> &'static str {
        "causal-softmax"
    }

    fn cpu_fwd(&self, scores: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let scores = numbers(scores, layout)?;
        let (keys, time) = self.sizes(layout);
        let groups = scores.len() / (time * keys).max(1);
        let mut out = vec![0.0; scores.len()];
        out.par_chunks_mut(time * keys)
            .zip(scores.par_chunks(time * keys))
            .enumerate()
            .for_each(|(group, (out, scores))| {
                let first = self.seen(group, groups);
                for (query, (out, scores)) in
                    out.chunks_mut(keys).zip(scores.chunks(keys)).enumerate()
                {
                    let seen = (first + query).min(keys);
                    seen_softmax(&mut out[..seen], &scores[..seen], self.scale);
                }
            });
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, _scores: &Tensor, result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let gradient = gradient.contiguous()?.detach();
        let by_scores = ByScores(self.clone());
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
        let (keys, time) = self.0.sizes(weights_layout);
        let size = time * keys;
        let groups = weights.len() / size.max(1);
        let mut out = vec![0.0; weights.len()];
        out.par_chunks_mut(size)
            .zip(weights.par_chunks(size).zip(gradient.par_chunks(size)))
            .enumerate()
            .for_each(|(group, (out, (weights, gradient)))| {
                let first = self.0.seen(group, groups);
                for query in 0..time {
                    let start = query * keys;
                    let seen = start..start + (first + query).min(keys);
                    let (weights, gradient) = (&weights[seen.clone()], &gradient[seen.clone()]);
                    let along = simd::dot(weights, gradient);
                    for ((out, w), g) in out[seen].iter_mut().zip(weights).zip(gradient) {
                        *out = self.0.scale * w * (g - along);
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
    use crate::model::attention::{behind_mask, causal_mask};
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

    #[test]
    fn so_does_one_over_queries_behind_other_keys() {
        let (groups, time, keys) = (3, 2, 5);
        let inputs = [random("scores", &[3, 2, groups * time, keys])];
        // The last row's second query is padding and sees all keys.
        let behind: Arc<[usize]> = [0, 2, 4].into();
        let mask = behind_mask(&behind, time, keys, &Device::Cpu).unwrap();
        let fused = |x: &[Tensor]| causal_softmax_behind(&x[0], time, &behind, 0.5).unwrap();
        assert_same(&inputs, &fused, &|x| {
            let scores = x[0].reshape((3, 2, groups, time, keys)).unwrap();
            let masked = (scores * 0.5).unwrap().broadcast_add(&mask).unwrap();
            let weights = candle_nn::ops::softmax(&masked, D::Minus1).unwrap();
            weights.reshape((3, 2, groups * time, keys)).unwrap()
        });
    }
}
