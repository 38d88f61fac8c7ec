//! Operations of a transformer block, each in two forms: one with a backward pass, and candle's
//! fused one for frozen parts. candle's fused softmax, norms and rotary embedding return tensors
//! without history and raise no error, so a trainable part must never use them.

use candle_core::{D, DType, Device, Tensor};
use candle_nn::ops;

use crate::error::Result;

/// Whether gradients flow through an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// With history for the backward pass.
    Tracked,
    /// Without: faster, for frozen parts and sampling.
    Frozen,
}

/// Root-mean-square norm over the last dimension (Zhang and Sennrich, arXiv 1910.07467).
///
/// # Errors
/// On shapes that do not fit.
pub fn rms_norm(x: &Tensor, weight: &Tensor, epsilon: f64, pass: Pass) -> Result<Tensor> {
    match pass {
        Pass::Tracked => {
            let variance = x.sqr()?.mean_keepdim(D::Minus1)?;
            let scale = (variance + epsilon)?.sqrt()?;
            Ok(x.broadcast_div(&scale)?.broadcast_mul(weight)?)
        }
        Pass::Frozen => Ok(ops::rms_norm(&x.contiguous()?, weight, epsilon as f32)?),
    }
}

/// Cosines and sines of the rotary embedding (Su et al., arXiv 2104.09864), `[positions, dim/2]`.
pub struct Rotary {
    cos: Tensor,
    sin: Tensor,
}

impl Rotary {
    /// For head dimension `dim`, base `theta`, positions `0..longest`.
    ///
    /// # Errors
    /// When the device has no memory.
    pub fn new(dim: usize, theta: f64, longest: usize, device: &Device) -> Result<Self> {
        let frequencies: Vec<f32> = (0..dim / 2)
            .map(|i| theta.powf(-2.0 * i as f64 / dim as f64) as f32)
            .collect();
        let frequencies = Tensor::from_vec(frequencies, (1, dim / 2), device)?;
        let positions = Tensor::arange(0, longest as u32, device)?.to_dtype(DType::F32)?;
        let angles = positions.reshape((longest, 1))?.matmul(&frequencies)?;
        Ok(Self {
            cos: angles.cos()?,
            sin: angles.sin()?,
        })
    }

    /// Cosines and sines for the positions `start..start + n`, `[1, 1, n, dim/2]`.
    ///
    /// # Errors
    /// When a position is beyond the longest.
    pub fn range(&self, start: usize, n: usize) -> Result<(Tensor, Tensor)> {
        let pick = |table: &Tensor| table.narrow(0, start, n)?.unsqueeze(0)?.unsqueeze(0);
        Ok((pick(&self.cos)?, pick(&self.sin)?))
    }

    /// Cosines and sines for one position of each row, `[batch, 1, time, dim/2]`.
    ///
    /// # Errors
    /// When a position is beyond the longest.
    pub fn positions(&self, positions: &Tensor) -> Result<(Tensor, Tensor)> {
        let (batch, time) = positions.dims2()?;
        let flat = positions.flatten_all()?;
        let pick = |table: &Tensor| -> Result<Tensor> {
            let half = table.dim(1)?;
            Ok(table
                .index_select(&flat, 0)?
                .reshape((batch, 1, time, half))?)
        };
        Ok((pick(&self.cos)?, pick(&self.sin)?))
    }
}

/// Rotates the halves of the last dimension: `x` `[batch, heads, time, dim]`.
///
/// # Errors
/// On shapes that do not fit.
pub fn rotate(x: &Tensor, (cos, sin): &(Tensor, Tensor)) -> Result<Tensor> {
    let half = x.dim(D::Minus1)? / 2;
    let (first, second) = (
        x.narrow(D::Minus1, 0, half)?,
        x.narrow(D::Minus1, half, half)?,
    );
    let rotated_first = (first.broadcast_mul(cos)? - second.broadcast_mul(sin)?)?;
    let rotated_second = (second.broadcast_mul(cos)? + first.broadcast_mul(sin)?)?;
    Ok(Tensor::cat(&[rotated_first, rotated_second], D::Minus1)?)
}

/// Additive mask `[time, time]`: 0 where a position may look, minus infinity after it.
///
/// # Errors
/// When the device has no memory.
pub fn causal_mask(time: usize, device: &Device) -> Result<Tensor> {
    let mask: Vec<f32> = (0..time)
        .flat_map(|query| {
            (0..time).map(move |key| if key <= query { 0.0 } else { f32::NEG_INFINITY })
        })
        .collect();
    Ok(Tensor::from_vec(mask, (time, time), device)?)
}

/// Attention with grouped key heads: `q` `[batch, heads, time, dim]`, `k` and `v`
/// `[batch, key_heads, keys, dim]`, `mask` broadcast to `[batch, key_heads, group, time, keys]`.
/// The group of query heads that shares a key head is folded into time, so keys are not copied.
///
/// # Errors
/// On shapes that do not fit.
pub fn attend(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    mask: Option<&Tensor>,
    pass: Pass,
) -> Result<Tensor> {
    let (batch, heads, time, dim) = q.dims4()?;
    let (_, key_heads, keys, _) = k.dims4()?;
    let group = heads / key_heads;
    let q = (q.contiguous()? * (dim as f64).powf(-0.5))?.reshape((
        batch,
        key_heads,
        group * time,
        dim,
    ))?;
    let scores = q.matmul(&k.transpose(2, 3)?)?; // [batch, key_heads, group * time, keys]
    let scores = match mask {
        None => scores,
        Some(mask) => scores
            .reshape((batch, key_heads, group, time, keys))?
            .broadcast_add(mask)?
            .reshape((batch, key_heads, group * time, keys))?,
    };
    let weights = match pass {
        Pass::Tracked => ops::softmax(&scores, D::Minus1)?,
        Pass::Frozen => ops::softmax_last_dim(&scores)?,
    };
    Ok(weights.matmul(v)?.reshape((batch, heads, time, dim))?)
}

/// `x` `[.., in]` times the transpose of `weight` `[out, in]`.
///
/// # Errors
/// On shapes that do not fit.
pub fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let mut shape = x.dims().to_vec();
    let width = shape.pop().unwrap_or(0);
    shape.push(weight.dim(0)?);
    let rows = x.elem_count() / width.max(1);
    Ok(x.reshape((rows, width))?
        .matmul(&weight.t()?)?
        .reshape(shape)?)
}
