//! Residual dropout (Srivastava et al., JMLR 15, 2014; InstructGPT, C.1): what attention and
//! feed-forward layers add to the residual stream, and the embedding as in GPT-2, lose a share of
//! their numbers in each training pass, and the others grow so that the mean stays.

use candle_core::Tensor;
use rand::Rng;

use crate::error::Result;
use crate::rng::stream;

/// The dropout of one pass. The same one drops the same numbers again.
#[derive(Debug, Clone)]
pub struct Dropout {
    share: f64,
    seed: u64,
    purpose: String,
}

impl Dropout {
    /// Drops a `share` of the numbers, at least 0 and below 1, drawn for micro-batch `part` of step
    /// `step` under `seed`. None where the share is 0.
    pub fn new(share: f64, seed: u64, step: usize, part: usize) -> Option<Self> {
        (share > 0.0).then(|| Self {
            share,
            seed,
            purpose: format!("dropout {step} {part}"),
        })
    }

    /// Drops from `x`; `place` numbers the places of a pass, each of which draws for itself.
    ///
    /// # Errors
    /// When the device has no memory.
    pub fn apply(&self, x: &Tensor, place: usize) -> Result<Tensor> {
        let mut rng = stream(self.seed, &self.purpose, place as u64);
        let limit = (self.share * 2f64.powi(32)) as u32;
        let kept = (1.0 / (1.0 - self.share)) as f32;
        let mask = (0..x.elem_count()).map(|_| match rng.random::<u32>() < limit {
            true => 0.0,
            false => kept,
        });
        let mask = Tensor::from_vec(mask.collect::<Vec<f32>>(), x.shape(), x.device())?;
        Ok((x * mask.to_dtype(x.dtype())?)?)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use candle_core::{DType, Device};

    use super::*;

    #[test]
    fn a_share_is_dropped_and_the_mean_stays() {
        let ones = Tensor::ones(100_000, DType::F32, &Device::Cpu).unwrap();
        let dropout = Dropout::new(0.2, 1, 3, 0).unwrap();
        let values = dropout.apply(&ones, 0).unwrap().to_vec1::<f32>().unwrap();
        let zeros = values.iter().filter(|value| **value == 0.0).count();
        assert!((zeros as f64 / 1e5 - 0.2).abs() < 0.005, "{zeros}");
        assert!(values.iter().all(|value| [0.0, 1.25].contains(value)));
    }

    #[test]
    fn the_same_pass_drops_the_same_and_every_other_others() {
        let ones = Tensor::ones(64, DType::F32, &Device::Cpu).unwrap();
        let drop = |seed, step, part, place| {
            let dropout = Dropout::new(0.5, seed, step, part).unwrap();
            dropout
                .apply(&ones, place)
                .unwrap()
                .to_vec1::<f32>()
                .unwrap()
        };
        let one = drop(1, 2, 3, 4);
        assert_eq!(one, drop(1, 2, 3, 4));
        for other in [
            drop(2, 2, 3, 4),
            drop(1, 1, 3, 4),
            drop(1, 2, 2, 4),
            drop(1, 2, 3, 5),
        ] {
            assert_ne!(one, other);
        }
        assert!(Dropout::new(0.0, 1, 2, 3).is_none());
    }
}
