//! Weights that belong together: a projection with its bias, a norm with its kind.

use candle_core::Tensor;

use crate::error::Result;
use crate::model::attention::{self, Pass};
use crate::model::weights::Weights;

/// A projection, `x` times the transpose of `weight` `[out, in]`, plus `bias` `[out]`.
#[derive(Clone)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// The tensors `name.weight` and, where there is one, `name.bias`.
    ///
    /// # Errors
    /// When one is missing or has the wrong shape.
    pub fn new(weights: &Weights, name: &str, shape: [usize; 2], has_bias: bool) -> Result<Self> {
        let bias = match has_bias {
            true => Some(weights.get(&format!("{name}.bias"), &shape[..1])?),
            false => None,
        };
        Ok(Self {
            weight: weights.get(&format!("{name}.weight"), &shape)?,
            bias,
        })
    }

    /// `x` is `[.., in]`.
    ///
    /// # Errors
    /// On shapes that do not fit.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let product = attention::linear(x, &self.weight)?;
        match &self.bias {
            Some(bias) => Ok(product.broadcast_add(bias)?),
            None => Ok(product),
        }
    }
}

/// A norm over the last dimension: by the root mean square, or, with a bias, LayerNorm.
#[derive(Clone)]
pub struct Norm {
    weight: Tensor,
    bias: Option<Tensor>,
    epsilon: f64,
}

impl Norm {
    /// The tensor `name.weight` and, for LayerNorm, `name.bias`.
    ///
    /// # Errors
    /// When one is missing or has the wrong shape.
    pub fn new(
        weights: &Weights,
        name: &str,
        width: usize,
        epsilon: f64,
        is_layer_norm: bool,
    ) -> Result<Self> {
        let bias = match is_layer_norm {
            true => Some(weights.get(&format!("{name}.bias"), &[width])?),
            false => None,
        };
        Ok(Self {
            weight: weights.get(&format!("{name}.weight"), &[width])?,
            bias,
            epsilon,
        })
    }

    /// `x` is `[.., width]`.
    ///
    /// # Errors
    /// On shapes that do not fit.
    pub fn apply(&self, x: &Tensor, pass: Pass) -> Result<Tensor> {
        match &self.bias {
            Some(bias) => attention::layer_norm(x, &self.weight, bias, self.epsilon),
            None => attention::rms_norm(x, &self.weight, self.epsilon, pass),
        }
    }
}
