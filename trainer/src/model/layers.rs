//! Weights that belong together: a projection with its bias, a norm with its kind.

use candle_core::{D, Tensor};

use crate::error::Result;
use crate::model::attention::{self, Pass};
use crate::model::lora::LowRank;
use crate::model::weights::Weights;
use crate::nn;

/// A projection, `x` times the transpose of `weight` `[out, in]`, plus what an adapter adds, plus
/// `bias` `[out]`.
#[derive(Clone)]
pub struct Linear {
    weight: Tensor,
    adapter: Option<LowRank>,
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
            adapter: LowRank::find(weights, name, shape)?,
            bias,
        })
    }

    /// `x` is `[.., in]`.
    ///
    /// # Errors
    /// On shapes that do not fit.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let mut product = attention::linear(x, &self.weight)?;
        if let Some(adapter) = &self.adapter {
            product = (product + adapter.apply(x)?)?;
        }
        match &self.bias {
            Some(bias) => Ok(product.broadcast_add(bias)?),
            None => Ok(product),
        }
    }

    /// Whether it is a product alone, which our own operations join with what lies around it.
    fn is_bare(&self, x: &Tensor) -> bool {
        self.adapter.is_none() && self.bias.is_none() && nn::is_fused(x)
    }

    /// `stream` `[.., out]` plus what is made of `x` `[.., in]`.
    ///
    /// # Errors
    /// On shapes that do not fit.
    pub fn apply_onto(&self, stream: &Tensor, x: &Tensor) -> Result<Tensor> {
        if !self.is_bare(x) {
            return Ok((stream + self.apply(x)?)?);
        }
        let sum = nn::linear::linear_onto(&flat(stream)?, &flat(x)?, &self.weight)?;
        Ok(sum.reshape(stream.shape())?)
    }

    /// What is made of the gated product of `gate` and `up`, `[.., in]` each.
    ///
    /// # Errors
    /// On shapes that do not fit.
    pub fn apply_gated(&self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        if !self.is_bare(gate) {
            return self.apply(&attention::swiglu(gate, up)?);
        }
        let product = nn::swiglu::gated_linear(&flat(gate)?, &flat(up)?, &self.weight)?;
        let mut shape = gate.dims().to_vec();
        shape.pop();
        shape.push(self.weight.dim(0)?);
        Ok(product.reshape(shape)?)
    }
}

/// `[.., width]` as `[rows, width]`.
fn flat(x: &Tensor) -> Result<Tensor> {
    let width = x.dim(D::Minus1)?;
    Ok(x.reshape(((), width))?)
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
