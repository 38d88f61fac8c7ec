//! Between a projection's output, `[batch, time, heads * dim]`, and attention's layout,
//! `[batch, heads, time, dim]`. Queries and keys are rotated on the way, so that the move and the
//! rotary embedding cost one pass together.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::numbers;

/// Cosines and sines, `[rows, time, dim / 2]`; one row serves every row of a batch.
#[derive(Debug)]
pub struct Turn {
    /// Cosines.
    pub cos: Vec<f32>,
    /// Sines.
    pub sin: Vec<f32>,
    /// How many rows there are, 1 or the batch.
    pub rows: usize,
}

/// Splits the last dimension of `x` `[batch, time, heads * dim]` into heads, `[batch, heads, time,
/// dim]`, and rotates each by `turn`.
///
/// # Errors
/// On shapes that do not fit.
pub fn split_heads(x: &Tensor, heads: usize, turn: Option<Arc<Turn>>) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Split { heads, turn })
}

/// The way back: `x` `[batch, heads, time, dim]` as `[batch, time, heads * dim]`.
///
/// # Errors
/// On shapes that do not fit.
pub fn merge_heads(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Merge { turn: None })
}

struct Split {
    heads: usize,
    turn: Option<Arc<Turn>>,
}

/// Merges; with a turn, rotates backwards first, which is the gradient of rotating forwards.
struct Merge {
    turn: Option<Arc<Turn>>,
}

impl Turn {
    /// Writes `from` to `to`, rotated for position `at` of `time` in `row`; backwards for a
    /// `direction` of -1.
    fn apply(
        &self,
        from: &[f32],
        to: &mut [f32],
        row: usize,
        at: usize,
        time: usize,
        direction: f32,
    ) {
        let half = from.len() / 2;
        let start = ((row % self.rows) * time + at) * half;
        let (cos, sin) = (
            &self.cos[start..start + half],
            &self.sin[start..start + half],
        );
        let (first, second) = from.split_at(half);
        let (to_first, to_second) = to.split_at_mut(half);
        for i in 0..half {
            let sin = sin[i] * direction;
            to_first[i] = first[i] * cos[i] - second[i] * sin;
            to_second[i] = second[i] * cos[i] + first[i] * sin;
        }
    }
}

fn place(
    turn: Option<&Turn>,
    from: &[f32],
    to: &mut [f32],
    (row, at, time): (usize, usize, usize),
    direction: f32,
) {
    match turn {
        Some(turn) => turn.apply(from, to, row, at, time, direction),
        None => to.copy_from_slice(from),
    }
}

impl CustomOp1 for Split {
    fn name(&self) -> &'static str {
        "split-heads"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, time, width) = layout.shape().dims3()?;
        let (x, heads, dim) = (numbers(x, layout)?, self.heads, width / self.heads);
        let mut out = vec![0.0; x.len()];
        out.par_chunks_mut(time * dim)
            .enumerate()
            .for_each(|(index, out)| {
                let (row, head) = (index / heads, index % heads);
                for (at, to) in out.chunks_mut(dim).enumerate() {
                    let from = &x[(row * time + at) * width + head * dim..][..dim];
                    place(self.turn.as_deref(), from, to, (row, at, time), 1.0);
                }
            });
        Ok((CpuStorage::F32(out), Shape::from((batch, heads, time, dim))))
    }

    fn bwd(&self, _x: &Tensor, _result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let merge = Merge {
            turn: self.turn.clone(),
        };
        Ok(Some(
            gradient.contiguous()?.detach().apply_op1_no_bwd(&merge)?,
        ))
    }
}

impl CustomOp1 for Merge {
    fn name(&self) -> &'static str {
        "merge-heads"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, heads, time, dim) = layout.shape().dims4()?;
        let x = numbers(x, layout)?;
        let mut out = vec![0.0; x.len()];
        out.par_chunks_mut(heads * dim)
            .with_min_len(16)
            .enumerate()
            .for_each(|(index, out)| {
                let (row, at) = (index / time, index % time);
                for (head, to) in out.chunks_mut(dim).enumerate() {
                    let from = &x[((row * heads + head) * time + at) * dim..][..dim];
                    place(self.turn.as_deref(), from, to, (row, at, time), -1.0);
                }
            });
        Ok((
            CpuStorage::F32(out),
            Shape::from((batch, time, heads * dim)),
        ))
    }

    fn bwd(&self, x: &Tensor, _result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let split = Split {
            heads: x.dim(1)?,
            turn: self.turn.clone(),
        };
        Ok(Some(
            gradient.contiguous()?.detach().apply_op1_no_bwd(&split)?,
        ))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::model::attention::{Rotary, rotate};
    use crate::model::transformer_config::RopeScaling;
    use crate::nn::test_support::{assert_same, random};

    #[test]
    fn splitting_equals_transposing_and_rotating() {
        let rotary = Rotary::new(4, 100.0, RopeScaling::None, 16, &Device::Cpu).unwrap();
        let positions = Tensor::new(&[[0_u32, 0, 1], [3, 4, 5]], &Device::Cpu).unwrap();
        for rotation in [
            rotary.range(2, 3).unwrap(),
            rotary.positions(&positions).unwrap(),
        ] {
            assert_same(
                &[random("x", &[2, 3, 8])],
                &|x| split_heads(&x[0], 2, rotation.turn.clone()).unwrap(),
                &|x| {
                    let heads = x[0].reshape((2, 3, 2, 4)).unwrap();
                    rotate(&heads.transpose(1, 2).unwrap(), &rotation).unwrap()
                },
            );
        }
    }

    #[test]
    fn merging_undoes_splitting() {
        assert_same(
            &[random("x", &[2, 3, 8])],
            &|x| merge_heads(&split_heads(&x[0], 2, None).unwrap()).unwrap(),
            &|x| (&x[0] * 1.0).unwrap(),
        );
    }
}
