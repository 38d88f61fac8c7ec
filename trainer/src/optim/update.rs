//! What an optimiser does to every number of a model, in one pass over memory each: for f32 on CPU
//! where the numbers lie, elsewhere on copies. Sums run in a fixed order, whatever the cores.

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Storage, Tensor, Var};
use rayon::prelude::*;

use super::flat;
use crate::nn::in_place::{CHUNK, both};
use crate::nn::is_fused;

/// First and second moment of a parameter.
#[derive(Default)]
pub(super) struct Moments {
    pub(super) first: Vec<f32>,
    pub(super) second: Vec<f32>,
}

/// The numbers of one step, the same for every parameter.
pub(super) struct Update {
    pub(super) clip: f32,
    pub(super) beta1: f32,
    pub(super) beta2: f32,
    pub(super) epsilon: f32,
    pub(super) step_length: f32,
    pub(super) root_scale: f32,
    pub(super) keep: f32,
}

/// The sum of the squares of all numbers.
pub(super) fn sum_of_squares(tensor: &Tensor) -> crate::error::Result<f64> {
    let of = |numbers: &[f32]| -> f64 {
        let parts = numbers.par_chunks(CHUNK);
        let parts: Vec<f64> = parts.map(squares).collect();
        parts.iter().sum()
    };
    if is_fused(tensor) {
        let (storage, layout) = tensor.storage_and_layout();
        if let (Storage::Cpu(storage), Some(range)) = (&*storage, layout.contiguous_offsets()) {
            return Ok(of(&storage.as_slice::<f32>()?[range.0..range.1]));
        }
    }
    Ok(of(&flat(tensor)?))
}

fn squares(numbers: &[f32]) -> f64 {
    /// So many sums run beside each other.
    const LANES: usize = 8;
    let mut lanes = [0.0_f64; LANES];
    let (chunks, rest) = numbers.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(*x) * f64::from(*x);
        }
    }
    let rest = rest.iter().map(|x| f64::from(*x).powi(2));
    lanes.into_iter().sum::<f64>() + rest.sum::<f64>()
}

/// One update of one parameter.
struct Step<'a> {
    update: &'a Update,
    moments: Mutex<&'a mut Moments>,
    keep: f32,
}

impl InplaceOp2 for Step<'_> {
    fn name(&self) -> &'static str {
        "adam-in-place"
    }

    fn cpu_fwd(
        &self,
        weights: &mut CpuStorage,
        weights_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> Result<()> {
        let (weights, gradient) = both((weights, weights_layout), (gradient, gradient_layout))?;
        let mut moments = self.moments.lock().unwrap_or_else(PoisonError::into_inner);
        self.update
            .apply_to(weights, &mut moments, gradient, self.keep);
        Ok(())
    }
}

impl Update {
    /// Moves a parameter along its gradient; one that `decays` shrinks first.
    pub(super) fn apply(
        &self,
        variable: &Var,
        moments: &mut Moments,
        gradient: &Tensor,
        decays: bool,
    ) -> crate::error::Result<()> {
        moments.first.resize(variable.elem_count(), 0.0);
        moments.second.resize(variable.elem_count(), 0.0);
        let keep = if decays { self.keep } else { 1.0 };
        let gradient = gradient.contiguous()?;
        if is_fused(variable) && is_fused(&gradient) && variable.is_contiguous() {
            let step = Step {
                update: self,
                moments: Mutex::new(moments),
                keep,
            };
            return Ok(variable.inplace_op2(&gradient, &step)?);
        }
        let mut weights = flat(variable.as_tensor())?;
        self.apply_to(&mut weights, moments, &flat(&gradient)?, keep);
        let (shape, device) = (variable.shape(), variable.device());
        Ok(variable.set(&Tensor::from_vec(weights, shape, device)?)?)
    }

    fn apply_to(&self, weights: &mut [f32], moments: &mut Moments, gradient: &[f32], keep: f32) {
        weights
            .par_chunks_mut(CHUNK)
            .zip(moments.first.par_chunks_mut(CHUNK))
            .zip(moments.second.par_chunks_mut(CHUNK))
            .zip(gradient.par_chunks(CHUNK))
            .for_each(|(((weights, first), second), gradient)| {
                for (index, weight) in weights.iter_mut().enumerate() {
                    let slope = gradient[index] * self.clip;
                    first[index] = self.beta1 * first[index] + (1.0 - self.beta1) * slope;
                    second[index] = self.beta2 * second[index] + (1.0 - self.beta2) * slope * slope;
                    let root = second[index].sqrt() * self.root_scale + self.epsilon;
                    *weight = *weight * keep - self.step_length * first[index] / root;
                }
            });
    }
}
