//! From rows of logits over the vocabulary to what training reads of them, in one or two passes
//! over each row: log-probability and entropy, and the gradient in place.

use candle_core::{CpuStorage, CustomOp2, InplaceOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{numbers, simd};

/// Log-probability of the target and entropy of each row in nats, `[n, 2]`, for `logits`
/// `[n, vocabulary]` and `targets` `[n]` (u32).
///
/// # Errors
/// On shapes that do not fit, or a target beyond the vocabulary.
pub fn log_prob_and_entropy(logits: &Tensor, targets: &Tensor, temperature: f64) -> Result<Tensor> {
    let read = Read(temperature.recip() as f32);
    logits.apply_op2_no_bwd(&targets.contiguous()?, &read)
}

/// Turns `logits` in place into `weight * (onehot(target) - softmax(logits / temperature)) /
/// temperature`, the gradient of the weighted log-probabilities by the logits.
///
/// # Errors
/// On shapes that do not fit, or a target beyond the vocabulary.
pub fn into_gradient(
    logits: &Tensor,
    targets: &Tensor,
    weights: &Tensor,
    temperature: f64,
) -> Result<()> {
    let gradient = Gradient(temperature.recip() as f32);
    logits.inplace_op3(&targets.contiguous()?, &weights.contiguous()?, &gradient)
}

struct Read(f32);
struct Gradient(f32);

fn chosen<'a>(storage: &'a CpuStorage, layout: &Layout, vocabulary: usize) -> Result<&'a [u32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        candle_core::bail!("targets must be contiguous")
    };
    let targets = &storage.as_slice::<u32>()?[start..end];
    match targets
        .iter()
        .find(|target| **target as usize >= vocabulary)
    {
        Some(target) => {
            candle_core::bail!("token {target} is beyond the vocabulary of {vocabulary}")
        }
        None => Ok(targets),
    }
}

impl CustomOp2 for Read {
    fn name(&self) -> &'static str {
        "log-prob-and-entropy"
    }

    fn cpu_fwd(
        &self,
        logits: &CpuStorage,
        logits_layout: &Layout,
        targets: &CpuStorage,
        targets_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (n, vocabulary) = logits_layout.shape().dims2()?;
        let logits = numbers(logits, logits_layout)?;
        let targets = chosen(targets, targets_layout, vocabulary)?;
        let mut out = vec![0.0; n * 2];
        out.par_chunks_mut(2)
            .zip(logits.par_chunks(vocabulary).zip(targets))
            .for_each(|(out, (row, target))| {
                let highest = simd::highest(row);
                let (sum, weighted) = simd::exp_sums(row, highest, self.0);
                let log_sum = sum.ln();
                let x = f64::from((row[*target as usize] - highest) * self.0);
                out[0] = (x - log_sum) as f32;
                out[1] = (log_sum - weighted / sum) as f32;
            });
        Ok((CpuStorage::F32(out), Shape::from((n, 2))))
    }
}

impl InplaceOp3 for Gradient {
    fn name(&self) -> &'static str {
        "log-prob-gradient"
    }

    fn cpu_fwd(
        &self,
        logits: &mut CpuStorage,
        logits_layout: &Layout,
        targets: &CpuStorage,
        targets_layout: &Layout,
        weights: &CpuStorage,
        weights_layout: &Layout,
    ) -> Result<()> {
        let (_, vocabulary) = logits_layout.shape().dims2()?;
        let targets = chosen(targets, targets_layout, vocabulary)?;
        let weights = numbers(weights, weights_layout)?;
        let (CpuStorage::F32(logits), Some((start, end))) =
            (logits, logits_layout.contiguous_offsets())
        else {
            candle_core::bail!("logits must be contiguous f32")
        };
        logits[start..end]
            .par_chunks_mut(vocabulary)
            .zip(targets.par_iter().zip(weights))
            .for_each(|(row, (target, weight))| {
                let highest = simd::highest(row);
                let sum = simd::exp_in_place(row, highest, self.0);
                let weight = weight * self.0;
                let share = weight / sum as f32;
                for value in &mut *row {
                    *value *= -share;
                }
                row[*target as usize] += weight;
            });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use candle_core::{Device, Var};

    use super::*;
    use crate::nn::test_support::{distance, random};

    #[test]
    fn values_and_gradient_equal_the_plain_computation() {
        let (n, vocabulary, temperature) = (6, 11, 0.7);
        let logits =
            Var::from_tensor(&(random("logits", &[n, vocabulary]) * 5.0).unwrap()).unwrap();
        let targets: Vec<u32> = (0..n as u32).map(|i| i * 2 % 11).collect();
        let targets = Tensor::from_vec(targets, n, &Device::Cpu).unwrap();
        let weights = random("weights", &[n]);
        let log_probs =
            candle_nn::ops::log_softmax(&(logits.as_tensor() / temperature).unwrap(), 1).unwrap();
        let plain = log_probs.gather(&targets.unsqueeze(1).unwrap(), 1).unwrap();
        let plain = plain.squeeze(1).unwrap();
        let entropy = (log_probs.exp().unwrap() * &log_probs).unwrap();
        let entropy = entropy.sum(1).unwrap().neg().unwrap();
        let loss = (&plain * &weights).unwrap().sum_all().unwrap();
        let expected = loss.backward().unwrap().get(&logits).unwrap().clone();

        let copy = logits.as_detached_tensor().copy().unwrap();
        let both = log_prob_and_entropy(&copy, &targets, temperature).unwrap();
        assert!(distance(&both.get_on_dim(1, 0).unwrap(), &plain) < 1e-5);
        assert!(distance(&both.get_on_dim(1, 1).unwrap(), &entropy) < 1e-5);
        into_gradient(&copy, &targets, &weights, temperature).unwrap();
        assert!(distance(&copy, &expected) < 1e-5);
    }

    #[test]
    fn a_target_beyond_the_vocabulary_is_an_error() {
        let targets = Tensor::new(&[0_u32, 4], &Device::Cpu).unwrap();
        let error = log_prob_and_entropy(&random("logits", &[2, 4]), &targets, 1.0).unwrap_err();
        assert!(error.to_string().contains("token 4 is beyond"));
    }
}
