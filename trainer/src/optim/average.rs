//! The moving average of weights.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Tensor, Var};

use crate::error::{Result, TrainerError};

/// Moving average of weights: `average = decay * average + (1 - decay) * weights` after each step
/// (InstructGPT C.4: 0.992).
pub struct WeightAverage {
    decay: f64,
    averages: BTreeMap<String, Tensor>,
}

impl WeightAverage {
    /// Starts at the weights as they are before the first step.
    ///
    /// # Errors
    /// When the device has no memory.
    pub fn new(variables: &BTreeMap<String, Var>, decay: f64) -> Result<Self> {
        let mut averages = BTreeMap::new();
        for (name, variable) in variables {
            averages.insert(name.clone(), variable.as_tensor().detach().copy()?);
        }
        Ok(Self { decay, averages })
    }

    /// Takes in the weights after a step.
    ///
    /// # Errors
    /// When the device has no memory.
    pub fn update(&mut self, variables: &BTreeMap<String, Var>) -> Result<()> {
        for (name, average) in &mut self.averages {
            if let Some(variable) = variables.get(name) {
                let now = (variable.as_tensor().detach() * (1.0 - self.decay))?;
                *average = ((&*average * self.decay)? + now)?;
            }
        }
        Ok(())
    }

    /// The averages, for a savepoint.
    pub fn values(&self) -> &BTreeMap<String, Tensor> {
        &self.averages
    }

    /// Takes over what [`WeightAverage::values`] gave.
    ///
    /// # Errors
    /// A sentence when one is missing or has another shape.
    pub fn restore(&mut self, values: &BTreeMap<String, Tensor>) -> Result<()> {
        for (name, average) in &mut self.averages {
            let value = values.get(name);
            let value = value.filter(|value| value.dims() == average.dims());
            let value = value.ok_or_else(|| {
                let message = format!("has no average of {name}, or one of another shape");
                TrainerError::checkpoint(Path::new("savepoint"), message)
            })?;
            *average = value.to_device(average.device())?;
        }
        Ok(())
    }

    /// Puts the averages in the place of the weights.
    ///
    /// # Errors
    /// On shapes that do not fit.
    pub fn adopt(&self, variables: &BTreeMap<String, Var>) -> Result<()> {
        for (name, average) in &self.averages {
            if let Some(variable) = variables.get(name) {
                variable.set(average)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use candle_core::Device;

    use super::*;

    /// Item 42: the first average is .992 of the weights before and .008 of those after.
    #[test]
    fn the_weight_average_starts_before_the_first_step() {
        let one = Var::new(&[1.0_f32], &Device::Cpu).unwrap();
        let variables = BTreeMap::from([("w".to_owned(), one)]);
        let mut average = WeightAverage::new(&variables, 0.992).unwrap();
        variables["w"]
            .set(&Tensor::new(&[2.0_f32], &Device::Cpu).unwrap())
            .unwrap();
        average.update(&variables).unwrap();
        average.adopt(&variables).unwrap();
        assert!((variables["w"].to_vec1::<f32>().unwrap()[0] - (0.992 + 0.008 * 2.0)).abs() < 1e-6);
    }
}
