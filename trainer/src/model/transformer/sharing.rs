//! Networks that share tensors: copies with nothing to train, and what two of them have in common.

use super::Transformer;
use crate::error::Result;
use crate::model::architecture::{EMBEDDING, POSITIONS, split_our_name};
use crate::model::weights::{Trainable, address};

impl Transformer {
    /// A copy with nothing to train, that shares frozen tensors with this one.
    ///
    /// # Errors
    /// When the device has no memory.
    pub fn frozen_copy(&self) -> Result<Self> {
        let weights = self.weights.frozen_copy()?;
        Self::from_weights(
            self.config.clone(),
            weights,
            &self.device,
            Trainable::Nothing,
        )
    }

    /// This network without its adapter, with nothing to train, sharing every tensor with it.
    ///
    /// # Errors
    /// When the device has no memory.
    pub fn without_adapter(&self) -> Result<Self> {
        let (config, weights) = (self.config.clone(), self.weights.base()?);
        Self::from_weights(config, weights, &self.device, Trainable::Nothing)
    }

    /// Whether the embedding and the first `n` blocks of both hold the same numbers, so that
    /// `lower` of one serves the other.
    ///
    /// # Errors
    /// When a tensor cannot be read.
    pub fn shares_lower(&self, other: &Self, n: usize) -> Result<bool> {
        let is_lower = |name: &str| {
            [EMBEDDING, POSITIONS].contains(&name)
                || split_our_name(name).is_some_and(|(layer, ..)| layer < n)
        };
        let count = |own: &Self| {
            let names = own.weights.tensors().keys();
            names.filter(|name| is_lower(name)).count()
        };
        // One of them may have an adapter there.
        if count(self) != count(other) {
            return Ok(false);
        }
        for (name, tensor) in self.weights.tensors() {
            if !is_lower(name) {
                continue;
            }
            let Some(theirs) = other.weights.tensors().get(name) else {
                return Ok(false);
            };
            if address(tensor) == address(theirs) {
                continue;
            }
            if tensor.dims() != theirs.dims() {
                return Ok(false);
            }
            let differing = tensor
                .ne(theirs)?
                .to_dtype(candle_core::DType::F32)?
                .sum_all()?;
            if differing.to_scalar::<f32>()? != 0.0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
