//! Several reward heads over one trunk: the members of an ensemble. Where they disagree, their mean
//! is not to be trusted.
//!
//! A checkpoint's `score.weight` is the mean of the members' heads, whose score is the mean of
//! their scores, since a head is linear; the members lie beside it in `members.safetensors`.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::disk;
use crate::error::{Result, TrainerError};
use crate::foreign;
use crate::model::architecture::SCORE;

/// The file of the members' heads.
pub const MEMBERS: &str = "members.safetensors";

/// Name of what is subtracted from each member's scores.
const BIAS: &str = "bias";

/// How the members' scores of a completion become the one that PPO sees (Coste et al.,
/// arXiv 2310.02743, section 3).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum EnsembleScore {
    /// Their mean.
    Mean,
    /// The lowest (worst-case optimisation, WCO).
    Worst,
    /// Their mean less their variance, the biased one, times a weight (uncertainty-weighted
    /// optimisation, UWO).
    Uncertainty {
        /// The weight, lambda in that paper.
        weight: f64,
    },
}

impl EnsembleScore {
    /// One score from those of the members, of which there is at least one.
    pub fn of(self, members: &[f64]) -> f64 {
        let (mean, deviation) = mean_and_deviation(members);
        match self {
            Self::Mean => mean,
            Self::Worst => members.iter().copied().fold(f64::INFINITY, f64::min),
            Self::Uncertainty { weight } => mean - weight * deviation.powi(2),
        }
    }
}

/// Mean of the members' scores, and the (biased) deviation between them.
pub fn mean_and_deviation(members: &[f64]) -> (f64, f64) {
    let n = members.len() as f64;
    let mean = members.iter().sum::<f64>() / n;
    let squares = members.iter().map(|score| (score - mean).powi(2));
    (mean, (squares.sum::<f64>() / n).sqrt())
}

/// Members' heads and biases.
pub struct Members {
    /// One row for each, `[members, hidden]`.
    pub heads: Tensor,
    /// Subtracted from each one's scores.
    pub biases: Vec<f64>,
}

impl Members {
    /// Those in a checkpoint's folder, for heads of `width`; none where it holds no ensemble.
    ///
    /// # Errors
    /// A sentence when the file is torn or of another model.
    pub fn read(folder: &Path, width: usize, device: &Device) -> Result<Option<Self>> {
        let path = folder.join(MEMBERS);
        if !path.exists() {
            return Ok(None);
        }
        let wrong = |message: String| TrainerError::checkpoint(&path, message);
        let unread = |message: String| wrong(format!("cannot be read: {message}"));
        let loaded = foreign::call(|| candle_core::safetensors::load(&path, &Device::Cpu));
        let mut tensors = loaded.map_err(unread)?;
        let mut take = |name: &str, dtype: DType| {
            let found = tensors.remove(name);
            let found = found.ok_or_else(|| wrong(format!("has no tensor {name}")))?;
            foreign::call(|| found.to_dtype(dtype)).map_err(unread)
        };
        let (heads, biases) = (take(SCORE, DType::F32)?, take(BIAS, DType::F64)?);
        let biases = foreign::call(|| biases.to_vec1::<f64>()).map_err(unread)?;
        if heads.dims() != [biases.len(), width] || biases.is_empty() {
            let message = format!(
                "holds heads of {:?} and {} biases; the model is {width} wide",
                heads.dims(),
                biases.len()
            );
            return Err(wrong(message));
        }
        let sum = heads.abs()?.sum_all()?.to_scalar::<f32>()?;
        if !sum.is_finite() || biases.iter().any(|bias| !(*bias as f32).is_finite()) {
            return Err(wrong("holds values that are not finite".to_owned()));
        }
        let heads = heads.to_device(device)?;
        Ok(Some(Self { heads, biases }))
    }

    /// Writes them into a checkpoint's folder.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let biases = Tensor::new(self.biases.as_slice(), &Device::Cpu)?;
        let heads = self.heads.clone();
        let tensors = BTreeMap::from([(SCORE.to_owned(), heads), (BIAS.to_owned(), biases)]);
        disk::write_tensors(&folder.join(MEMBERS), &tensors, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores 1, 2, 6: mean 3, squares of distances 4, 1, 9, variance 14/3.
    #[test]
    fn the_lowest_score_and_the_mean_less_the_weighted_variance() {
        let members = [1.0, 2.0, 6.0];
        assert_eq!(EnsembleScore::Mean.of(&members), 3.0);
        assert_eq!(EnsembleScore::Worst.of(&members), 1.0);
        let found = EnsembleScore::Uncertainty { weight: 0.3 }.of(&members);
        assert!((found - (3.0 - 0.3 * 14.0 / 3.0)).abs() < 1e-12, "{found}");
        let weightless = EnsembleScore::Uncertainty { weight: 0.0 };
        assert_eq!(weightless.of(&members), 3.0);
        for kind in [
            EnsembleScore::Mean,
            EnsembleScore::Worst,
            EnsembleScore::Uncertainty { weight: 5.0 },
        ] {
            assert_eq!(kind.of(&[0.7]), 0.7, "one member cannot disagree");
        }
    }
}
