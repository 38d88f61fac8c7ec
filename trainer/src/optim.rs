//! AdamW with f32 moments, clipping by the global norm, and a state that can be read.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// Settings of the optimiser.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdamConfig {
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Decay of the first moment (InstructGPT: 0.9).
    pub beta1: f64,
    /// Decay of the second moment (InstructGPT: 0.95).
    pub beta2: f64,
    /// Added to the denominator (not printed in the paper; 1e-5 from lm-human-preferences, where
    /// it is known to matter).
    pub epsilon: f64,
    /// Decoupled weight decay (not printed; 0).
    pub weight_decay: f64,
    /// Largest global norm of the gradient; 0 is off (not printed; 1 from OpenRLHF).
    pub max_grad_norm: f64,
}

/// Gradients by parameter name, summed over micro-batches.
#[derive(Default)]
pub struct Gradients {
    sums: BTreeMap<String, Tensor>,
}

impl Gradients {
    /// Adds what `store` holds for `variables`, times `scale`. The sums carry no history, which
    /// would keep the activations of every micro-batch alive.
    ///
    /// # Errors
    /// When the device has no memory.
    pub fn add(
        &mut self,
        store: &GradStore,
        variables: &BTreeMap<String, Var>,
        scale: f64,
    ) -> Result<()> {
        for (name, variable) in variables {
            let Some(gradient) = store.get(variable) else {
                continue;
            };
            let gradient = (gradient.detach() * scale)?;
            let sum = match self.sums.remove(name) {
                Some(sum) => (sum + gradient)?,
                None => gradient,
            };
            self.sums.insert(name.clone(), sum);
        }
        Ok(())
    }

    /// The gradient of a parameter.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.sums.get(name)
    }

    /// The norm over all parameters.
    ///
    /// # Errors
    /// When a tensor cannot be read.
    pub fn norm(&self) -> Result<f64> {
        let mut sum = 0.0;
        for gradient in self.sums.values() {
            sum += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
        }
        Ok(sum.sqrt())
    }
}

/// AdamW (Loshchilov and Hutter, arXiv 1711.05101), denominator sqrt(v_hat) + epsilon.
pub struct AdamW {
    config: AdamConfig,
    step: i32,
    moments: BTreeMap<String, (Tensor, Tensor)>,
}

impl AdamW {
    /// A fresh optimiser.
    pub fn new(config: AdamConfig) -> Self {
        Self {
            config,
            step: 0,
            moments: BTreeMap::new(),
        }
    }

    /// Updates `variables` in place, with the learning rate times `factor`. Returns the gradient's
    /// norm before clipping.
    ///
    /// # Errors
    /// When the device has no memory.
    pub fn step(
        &mut self,
        variables: &BTreeMap<String, Var>,
        gradients: &Gradients,
        factor: f64,
    ) -> Result<f64> {
        self.step += 1;
        let AdamConfig {
            beta1,
            beta2,
            epsilon,
            weight_decay,
            max_grad_norm,
            ..
        } = self.config;
        let norm = gradients.norm()?;
        let clip = if max_grad_norm > 0.0 && norm > max_grad_norm {
            max_grad_norm / norm
        } else {
            1.0
        };
        let rate = self.config.learning_rate * factor;
        let (correct1, correct2) = (1.0 - beta1.powi(self.step), 1.0 - beta2.powi(self.step));
        for (name, variable) in variables {
            let Some(gradient) = gradients.get(name) else {
                continue;
            };
            let gradient = (gradient * clip)?;
            let zeros = gradient.zeros_like()?;
            let (first, second) = self.moments.remove(name).unwrap_or((zeros.clone(), zeros));
            let first = ((first * beta1)? + (&gradient * (1.0 - beta1))?)?;
            let second = ((second * beta2)? + (gradient.sqr()? * (1.0 - beta2))?)?;
            let denominator = ((&second / correct2)?.sqrt()? + epsilon)?;
            let direction = ((&first / correct1)? / denominator)?;
            let current = variable.as_tensor().detach();
            let decayed = (&current * (1.0 - rate * weight_decay))?;
            variable.set(&(decayed - (direction * rate)?)?)?;
            self.moments.insert(name.clone(), (first, second));
        }
        Ok(norm)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use candle_core::Device;

    use super::*;

    /// First step over learning rate for betas (.9, .999), epsilon 1e-5: |g| = 1e-6 gives 0.0909,
    /// 1e-3 gives 0.990, 1 gives 1 (torch's placement of epsilon).
    #[test]
    fn the_first_step_is_that_of_torch() {
        for (gradient, expected) in [(1e-6_f32, 0.0909), (1e-3, 0.990), (1.0, 1.0)] {
            let variable = Var::new(&[0.0_f32], &Device::Cpu).unwrap();
            let variables = BTreeMap::from([("w".to_owned(), variable.clone())]);
            let loss = (variable.as_tensor() * f64::from(gradient))
                .unwrap()
                .sum_all()
                .unwrap();
            let mut gradients = Gradients::default();
            gradients
                .add(&loss.backward().unwrap(), &variables, 1.0)
                .unwrap();
            let mut optimiser = AdamW::new(AdamConfig {
                learning_rate: 1.0,
                beta1: 0.9,
                beta2: 0.999,
                epsilon: 1e-5,
                weight_decay: 0.0,
                max_grad_norm: 0.0,
            });
            optimiser.step(&variables, &gradients, 1.0).unwrap();
            let moved = -variable.as_tensor().to_vec1::<f32>().unwrap()[0];
            assert!((moved - expected).abs() < 5e-4, "{gradient}: {moved}");
        }
    }

    #[test]
    fn clipping_scales_the_gradient_and_reports_its_norm_before() {
        let variable = Var::new(&[0.0_f32, 0.0], &Device::Cpu).unwrap();
        let variables = BTreeMap::from([("w".to_owned(), variable.clone())]);
        let weights = Tensor::new(&[3.0_f32, 4.0], &Device::Cpu).unwrap();
        let loss = (variable.as_tensor() * weights).unwrap().sum_all().unwrap();
        let mut gradients = Gradients::default();
        gradients
            .add(&loss.backward().unwrap(), &variables, 1.0)
            .unwrap();
        assert!((gradients.norm().unwrap() - 5.0).abs() < 1e-6);
    }
}
