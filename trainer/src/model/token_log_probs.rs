//! Log-probabilities of chosen tokens over a large vocabulary, a few rows at a time, so that all
//! logits are never held at once.
//!
//! The backward pass is written out: with p = softmax(logits / T), the gradient of log p(target)
//! by the logits is (onehot - p) / T. A loss is a function of the log-probabilities; its gradient
//! by them is handed to [`surrogate`], or worked out on the way by [`learn`], whose own gradient by the hidden states (and by the output
//! projection where that is trained) is the loss's. That is exact, because a gradient needs only
//! the value of each factor.

use std::sync::{Mutex, PoisonError};

use candle_core::{D, DType, Tensor};
use candle_nn::ops;

use crate::error::Result;
use crate::model::attention::linear;
use crate::nn;
use crate::nn::backward::{give, made};

/// Rows whose logits are held at once (a row of 49,152 f32 logits takes 192 KiB).
pub const CHUNK: usize = 256;

/// Log-probability and entropy of each row, in nats.
pub struct TokenLogProbs {
    /// Log-probability of the target, `[n]`.
    pub log_prob: Tensor,
    /// Entropy of the distribution, `[n]`.
    pub entropy: Tensor,
}

/// For `hidden` `[n, hidden]`, `head` `[vocabulary, hidden]`, `targets` `[n]` (u32): without
/// history.
///
/// # Errors
/// On shapes that do not fit.
pub fn evaluate(
    hidden: &Tensor,
    head: &Tensor,
    targets: &Tensor,
    temperature: f64,
) -> Result<TokenLogProbs> {
    let (hidden, head) = (hidden.detach(), head.detach());
    let mut parts = (Vec::new(), Vec::new());
    for_chunks(hidden.dim(0)?, |start, n| {
        if nn::is_fused(&hidden) {
            let logits = linear(&hidden.narrow(0, start, n)?, &head)?;
            let targets = targets.narrow(0, start, n)?;
            let both = nn::token_rows::log_prob_and_entropy(&logits, &targets, temperature)?;
            parts.0.push(both.narrow(1, 0, 1)?.squeeze(1)?);
            parts.1.push(both.narrow(1, 1, 1)?.squeeze(1)?);
            return Ok(());
        }
        let log_probs = log_softmax(&hidden.narrow(0, start, n)?, &head, temperature)?;
        let target = targets.narrow(0, start, n)?.unsqueeze(1)?;
        parts.0.push(log_probs.gather(&target, 1)?.squeeze(1)?);
        parts
            .1
            .push((log_probs.exp()? * &log_probs)?.sum(D::Minus1)?.neg()?);
        Ok(())
    })?;
    Ok(TokenLogProbs {
        log_prob: Tensor::cat(&parts.0, 0)?,
        entropy: Tensor::cat(&parts.1, 0)?,
    })
}

/// A scalar whose gradient by `hidden` and `head` is that of a loss with gradient `by_log_prob`
/// `[n]` by the log-probabilities. Its value means nothing.
///
/// # Errors
/// On shapes that do not fit.
pub fn surrogate(
    hidden: &Tensor,
    head: &Tensor,
    targets: &Tensor,
    temperature: f64,
    by_log_prob: &Tensor,
) -> Result<Tensor> {
    let mut back = Back::new(hidden, head);
    for_chunks(hidden.dim(0)?, |start, n| {
        let weight = by_log_prob.detach().narrow(0, start, n)?;
        let targets = targets.narrow(0, start, n)?;
        let rows = back.hidden.narrow(0, start, n)?;
        let by_logits = by_logits(&rows, &back.head, &targets, temperature, &weight)?;
        back.add(&rows, &by_logits)
    })?;
    back.scalar(hidden, head)
}

/// Both at once, for a loss whose gradient by a token's log-probability is a function of that alone:
/// logits are computed once for a few rows at a time. `slope` gets the first row and the rows' values
/// and returns the gradient by their log-probabilities. Returns all values, and the scalar of
/// [`surrogate`].
///
/// # Errors
/// On shapes that do not fit, and what `slope` says.
pub fn learn(
    hidden: &Tensor,
    head: &Tensor,
    targets: &Tensor,
    temperature: f64,
    mut slope: impl FnMut(usize, &[f32]) -> Result<Vec<f32>>,
) -> Result<(Vec<f32>, Tensor)> {
    let mut back = Back::new(hidden, head);
    let mut all = Vec::with_capacity(hidden.dim(0)?);
    for_chunks(hidden.dim(0)?, |start, n| {
        let rows = back.hidden.narrow(0, start, n)?;
        let targets = targets.narrow(0, start, n)?;
        let (logits, log_probs) = if nn::is_fused(&rows) {
            let logits = linear(&rows, &back.head)?;
            let both = nn::token_rows::log_prob_and_entropy(&logits, &targets, temperature)?;
            (Some(logits), both.narrow(1, 0, 1)?.squeeze(1)?)
        } else {
            let read = evaluate(&rows, &back.head, &targets, temperature)?;
            (None, read.log_prob)
        };
        let log_probs: Vec<f32> = log_probs.to_dtype(DType::F32)?.to_vec1()?;
        let weight = slope(start, &log_probs)?;
        let weight = Tensor::from_vec(weight, n, rows.device())?.to_dtype(rows.dtype())?;
        all.extend(log_probs);
        let by_logits = match logits {
            Some(logits) => {
                nn::token_rows::into_gradient(&logits, &targets, &weight, temperature)?;
                logits
            }
            None => by_logits(&rows, &back.head, &targets, temperature, &weight)?,
        };
        back.add(&rows, &by_logits)
    })?;
    Ok((all, back.scalar(hidden, head)?))
}

/// Gradients by hidden states and output projection, as they are found.
struct Back {
    hidden: Tensor,
    head: Tensor,
    learns: bool,
    by_hidden: Vec<Tensor>,
    by_head: Option<Tensor>,
}

impl Back {
    fn new(hidden: &Tensor, head: &Tensor) -> Self {
        Self {
            hidden: hidden.detach(),
            head: head.detach(),
            learns: head.track_op(),
            by_hidden: Vec::new(),
            by_head: None,
        }
    }

    fn add(&mut self, rows: &Tensor, by_logits: &Tensor) -> Result<()> {
        self.by_hidden.push(by_logits.matmul(&self.head)?);
        if !self.learns {
            return Ok(());
        }
        let by_head = match self.by_head.take() {
            Some(sum) if nn::is_fused(&sum) => {
                nn::linear::add_by_weight(&sum, by_logits, rows)?;
                sum
            }
            Some(sum) => (sum + by_logits.t()?.matmul(rows)?)?,
            None => by_logits.t()?.matmul(rows)?,
        };
        self.by_head = Some(by_head);
        Ok(())
    }

    /// What has those gradients by `hidden` and `head`.
    fn scalar(self, hidden: &Tensor, head: &Tensor) -> Result<Tensor> {
        if self.by_hidden.is_empty() {
            return Ok((hidden.sum_all()? * 0.0)?);
        }
        let by_hidden = Tensor::cat(&self.by_hidden, 0)?;
        let by_head = Mutex::new(self.by_head);
        let zero = Tensor::zeros((), hidden.dtype(), hidden.device())?;
        let scalar = made(hidden, head, zero, move |hidden, head, gradient| {
            let by_hidden = match hidden.track_op() {
                true => Some(by_hidden.broadcast_mul(gradient)?),
                false => None,
            };
            let by_head = by_head
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            let by_head = match by_head {
                Some(by_head) => give(head, scaled(by_head, gradient)?)?,
                None => None,
            };
            Ok((by_hidden, by_head))
        })?;
        Ok(scalar)
    }
}

/// `tensor` times a scalar, which is 1 nearly always.
fn scaled(tensor: Tensor, scalar: &Tensor) -> candle_core::Result<Tensor> {
    match scalar.to_dtype(DType::F64)?.to_scalar::<f64>()? {
        1.0 => Ok(tensor),
        scale => tensor * scale,
    }
}

/// Gradient by the logits of the log-probabilities weighted by `weight` `[n]`.
fn by_logits(
    rows: &Tensor,
    head: &Tensor,
    targets: &Tensor,
    temperature: f64,
    weight: &Tensor,
) -> Result<Tensor> {
    if nn::is_fused(rows) {
        let logits = linear(rows, head)?;
        nn::token_rows::into_gradient(&logits, targets, weight, temperature)?;
        return Ok(logits);
    }
    let probabilities = log_softmax(rows, head, temperature)?.exp()?;
    let n = targets.dim(0)?;
    let ones = Tensor::ones((n, 1), probabilities.dtype(), probabilities.device())?;
    let difference = probabilities
        .neg()?
        .scatter_add(&targets.unsqueeze(1)?, &ones, 1)?;
    Ok(difference.broadcast_mul(&(weight.unsqueeze(1)? / temperature)?)?)
}

fn log_softmax(hidden: &Tensor, head: &Tensor, temperature: f64) -> Result<Tensor> {
    let logits = (linear(hidden, head)? / temperature)?;
    Ok(ops::log_softmax(&logits, D::Minus1)?)
}

fn for_chunks(n: usize, mut chunk: impl FnMut(usize, usize) -> Result<()>) -> Result<()> {
    (0..n)
        .step_by(CHUNK)
        .try_for_each(|start| chunk(start, CHUNK.min(n - start)))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use candle_core::{Device, Var};

    use super::*;

    fn random(seed: u64, rows: usize, columns: usize) -> Tensor {
        let mut rng = crate::rng::stream(seed, "test", 0);
        let values: Vec<f64> = (0..rows * columns)
            .map(|_| f64::from(crate::rng::standard_normal(&mut rng)))
            .collect();
        Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
    }

    #[test]
    fn values_and_gradients_equal_the_plain_computation() {
        let (n, width, vocabulary, temperature) = (300, 5, 11, 0.7);
        let hidden = Var::from_tensor(&random(1, n, width)).unwrap();
        let head = Var::from_tensor(&random(2, vocabulary, width)).unwrap();
        let targets: Vec<u32> = (0..n as u32).map(|i| i % vocabulary as u32).collect();
        let targets = Tensor::from_vec(targets, n, &Device::Cpu).unwrap();
        let weights = random(3, 1, n).squeeze(0).unwrap();

        let logits = (linear(&hidden, &head).unwrap() / temperature).unwrap();
        let plain = ops::log_softmax(&logits, 1)
            .unwrap()
            .gather(&targets.unsqueeze(1).unwrap(), 1)
            .unwrap();
        let plain = plain.squeeze(1).unwrap();
        let loss = (plain.sqr().unwrap() * &weights)
            .unwrap()
            .sum_all()
            .unwrap();
        let expected = loss.backward().unwrap();

        let ours = evaluate(&hidden, &head, &targets, temperature).unwrap();
        let log_prob = Var::from_tensor(&ours.log_prob).unwrap();
        let loss = (log_prob.sqr().unwrap() * &weights)
            .unwrap()
            .sum_all()
            .unwrap();
        let by_log_prob = loss.backward().unwrap().get(&log_prob).unwrap().clone();
        let scalar = surrogate(&hidden, &head, &targets, temperature, &by_log_prob).unwrap();
        let found = scalar.backward().unwrap();

        let distance = |a: &Tensor, b: &Tensor| {
            (a - b)
                .unwrap()
                .abs()
                .unwrap()
                .max_all()
                .unwrap()
                .to_dtype(DType::F64)
                .unwrap()
                .to_scalar::<f64>()
                .unwrap()
        };
        assert!(distance(&ours.log_prob, &plain) < 1e-12);
        for variable in [&hidden, &head] {
            assert!(
                distance(
                    found.get(variable).unwrap(),
                    expected.get(variable).unwrap()
                ) < 1e-10
            );
        }
        let uniform = Tensor::zeros((2, width), DType::F64, &Device::Cpu).unwrap();
        let entropy = evaluate(&uniform, &head, &targets, 1.0)
            .unwrap()
            .entropy
            .to_vec1::<f64>()
            .unwrap();
        assert!((entropy[0] - (vocabulary as f64).ln()).abs() < 1e-12);
    }
}
