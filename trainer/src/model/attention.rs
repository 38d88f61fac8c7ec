//! Operations of a transformer block. For f32 on CPU they are our own, [`crate::nn`]; elsewhere
//! each has two forms: one with a backward pass, and candle's fused one for frozen parts. candle's
//! fused softmax, norms and rotary embedding return tensors without history and raise no error, so
//! a trainable part must never use them.

use std::sync::Arc;

use candle_core::{D, DType, Device, Tensor};
use candle_nn::ops;

use crate::error::Result;
use crate::model::transformer_config::{Activation, RopeScaling};
use crate::nn;
use crate::nn::attention::Table;

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
    if nn::is_fused(x) {
        return Ok(nn::rms_norm::rms_norm(x, weight, epsilon)?);
    }
    match pass {
        Pass::Tracked => {
            let variance = x.sqr()?.mean_keepdim(D::Minus1)?;
            let scale = (variance + epsilon)?.sqrt()?;
            Ok(x.broadcast_div(&scale)?.broadcast_mul(weight)?)
        }
        Pass::Frozen => Ok(ops::rms_norm(&x.contiguous()?, weight, epsilon as f32)?),
    }
}

/// Norm by mean and variance over the last dimension (Ba et al., arXiv 1607.06450), with history.
///
/// # Errors
/// On shapes that do not fit.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let scale = (variance + epsilon)?.sqrt()?;
    let normed = centred.broadcast_div(&scale)?.broadcast_mul(weight)?;
    Ok(normed.broadcast_add(bias)?)
}

/// The function of a feed-forward layer without a gate.
///
/// # Errors
/// When the device has no memory.
pub fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    Ok(match activation {
        Activation::Silu => x.silu()?,
        Activation::Gelu => x.gelu_erf()?,
        Activation::GeluTanh => x.gelu()?,
        Activation::Relu => x.relu()?,
    })
}

/// Cosines and sines of the rotary embedding (Su et al., arXiv 2104.09864), `[positions, dim/2]`.
#[derive(Clone)]
pub struct Rotary {
    cos: Tensor,
    sin: Tensor,
    /// The same for our own operation, on CPU.
    pub(crate) table: Option<Arc<Table>>,
}

impl Rotary {
    /// For head dimension `dim`, base `theta`, frequencies stretched by `scaling`, positions
    /// `0..longest`.
    ///
    /// # Errors
    /// When the device has no memory.
    pub fn new(
        dim: usize,
        theta: f64,
        scaling: RopeScaling,
        longest: usize,
        device: &Device,
    ) -> Result<Self> {
        let frequencies: Vec<f32> = (0..dim / 2)
            .map(|i| scaling.stretch(theta.powf(-2.0 * i as f64 / dim as f64)) as f32)
            .collect();
        let frequencies = Tensor::from_vec(frequencies, (1, dim / 2), device)?;
        let positions = Tensor::arange(0, longest as u32, device)?.to_dtype(DType::F32)?;
        let angles = positions.reshape((longest, 1))?.matmul(&frequencies)?;
        let (cos, sin) = (angles.cos()?, angles.sin()?);
        let table = match nn::is_fused(&cos) {
            true => Some(Arc::new(Table {
                cos: cos.flatten_all()?.to_vec1()?,
                sin: sin.flatten_all()?.to_vec1()?,
            })),
            false => None,
        };
        Ok(Self { cos, sin, table })
    }

    /// Cosines and sines for the positions `start..start + n`, `[1, 1, n, dim/2]`.
    ///
    /// # Errors
    /// When a position is beyond the longest.
    pub fn range(&self, start: usize, n: usize) -> Result<Rotation> {
        let pick = |table: &Tensor| table.narrow(0, start, n)?.unsqueeze(0)?.unsqueeze(0);
        Ok(Rotation {
            cos: pick(&self.cos)?,
            sin: pick(&self.sin)?,
        })
    }

    /// Cosines and sines for one position of each row, `[batch, 1, time, dim/2]`.
    ///
    /// # Errors
    /// When a position is beyond the longest.
    pub fn positions(&self, positions: &Tensor) -> Result<Rotation> {
        let (batch, time) = positions.dims2()?;
        let flat = positions.flatten_all()?;
        let pick = |table: &Tensor| -> Result<Tensor> {
            let half = table.dim(1)?;
            Ok(table
                .index_select(&flat, 0)?
                .reshape((batch, 1, time, half))?)
        };
        Ok(Rotation {
            cos: pick(&self.cos)?,
            sin: pick(&self.sin)?,
        })
    }
}

/// Cosines and sines of some positions, `[batch or 1, 1, time, dim/2]`.
#[derive(Clone)]
pub struct Rotation {
    cos: Tensor,
    sin: Tensor,
}

/// Splits a projection's output `[batch, time, heads * dim]` into heads, `[batch, heads, time,
/// dim]`, rotated where a rotation is given.
///
/// # Errors
/// On shapes that do not fit.
pub fn split_heads(x: &Tensor, heads: usize, rotation: Option<&Rotation>) -> Result<Tensor> {
    let (batch, time, width) = x.dims3()?;
    let x = x.reshape((batch, time, heads, width / heads))?;
    let x = x.transpose(1, 2)?.contiguous()?;
    match rotation {
        Some(rotation) => rotate(&x, rotation),
        None => Ok(x),
    }
}

/// The way back, `[batch, heads, time, dim]` to `[batch, time, heads * dim]`.
///
/// # Errors
/// On shapes that do not fit.
pub fn merge_heads(x: &Tensor) -> Result<Tensor> {
    let (batch, heads, time, dim) = x.dims4()?;
    let x = x.transpose(1, 2)?.contiguous()?;
    Ok(x.reshape((batch, time, heads * dim))?)
}

/// silu(`gate`) times `up`.
///
/// # Errors
/// On shapes that do not fit.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    match nn::is_fused(gate) {
        true => Ok(nn::swiglu::swiglu(gate, up)?),
        false => Ok((gate.silu()? * up)?),
    }
}

/// Rotates the halves of the last dimension: `x` `[batch, heads, time, dim]`.
///
/// # Errors
/// On shapes that do not fit.
pub fn rotate(x: &Tensor, rotation: &Rotation) -> Result<Tensor> {
    let Rotation { cos, sin, .. } = rotation;
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

/// Additive mask `[rows, 1, 1, time, keys]`: query t of a row sees its row's number of keys in
/// `behind`, and t + 1 more.
///
/// # Errors
/// When the device has no memory.
pub fn behind_mask(behind: &[usize], time: usize, keys: usize, device: &Device) -> Result<Tensor> {
    let mut mask = vec![f32::NEG_INFINITY; behind.len() * time * keys];
    for (index, line) in mask.chunks_mut(keys).enumerate() {
        let seen = behind[index / time] + index % time + 1;
        line[..seen.min(keys)].fill(0.0);
    }
    Ok(Tensor::from_vec(
        mask,
        (behind.len(), 1, 1, time, keys),
        device,
    )?)
}

/// What a position may look at.
#[derive(Clone, Copy)]
pub enum Sight<'a> {
    /// Itself and what came before.
    Causal,
    /// Itself, what came before, and before that so many keys, a number for each row.
    Behind(&'a Arc<[usize]>),
    /// What the mask says; added to the scores, broadcast to `[batch, key_heads, group, time,
    /// keys]`.
    Mask(&'a Tensor),
}

/// Attention by candle's operations, with grouped key heads: `q` `[batch, heads, time, dim]`, `k` and
/// `v` `[batch, key_heads, keys, dim]`. The group of query heads that shares a key head is folded into
/// time, so keys are not copied. On CPU there is [`nn::attention`].
///
/// # Errors
/// On shapes that do not fit.
pub fn attend(q: &Tensor, k: &Tensor, v: &Tensor, sight: Sight, pass: Pass) -> Result<Tensor> {
    let (batch, heads, time, dim) = q.dims4()?;
    let (_, key_heads, keys, _) = k.dims4()?;
    let group = heads / key_heads;
    let scale = (dim as f64).powf(-0.5);
    let folded = (batch, key_heads, group * time, dim);
    let q = (q.contiguous()? * scale)?;
    let scores = q.reshape(folded)?.matmul(&k.transpose(2, 3)?)?;
    let made;
    let mask = match sight {
        Sight::Causal => {
            made = causal_mask(time, q.device())?.to_dtype(q.dtype())?;
            &made
        }
        Sight::Behind(behind) => {
            made = behind_mask(behind, time, keys, q.device())?.to_dtype(q.dtype())?;
            &made
        }
        Sight::Mask(mask) => mask,
    };
    let weights = masked_softmax(&scores, mask, group, pass)?;
    debug_assert_eq!(weights.dims(), [batch, key_heads, group * time, keys]);
    Ok(weights.matmul(v)?.reshape((batch, heads, time, dim))?)
}

fn masked_softmax(scores: &Tensor, mask: &Tensor, group: usize, pass: Pass) -> Result<Tensor> {
    let (batch, key_heads, folded, keys) = scores.dims4()?;
    let scores = scores
        .reshape((batch, key_heads, group, folded / group, keys))?
        .broadcast_add(mask)?
        .reshape((batch, key_heads, folded, keys))?;
    match pass {
        Pass::Tracked => Ok(ops::softmax(&scores, D::Minus1)?),
        Pass::Frozen => Ok(ops::softmax_last_dim(&scores)?),
    }
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
    let x = x.reshape((rows, width))?;
    let product = match nn::is_fused(&x) && nn::is_fused(weight) {
        true => nn::linear::linear(&x, weight)?,
        false => x.matmul(&weight.t()?)?,
    };
    Ok(product.reshape(shape)?)
}
