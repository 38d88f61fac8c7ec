//! AdamW with f32 moments, clipping by the global norm, and a state that can be kept; the moving
//! average of weights.
//!
//! candle's own AdamW keeps its moments in the type of the weights and shows neither its state nor
//! the norm. This one updates in one pass over the weights. Parameters are visited in the order of
//! their names, so that a sum over them is the same sum in every run.

mod average;
mod update;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use serde::{Deserialize, Serialize};

pub use self::average::WeightAverage;
use self::update::{Moments, Update, sum_of_squares};
use crate::error::{Result, TrainerError};
use crate::nn::in_place;

/// Where epsilon stands in the update; it matters for small gradients. With |g| = 1e-6 and epsilon
/// 1e-5 the first step is 29 times as long with torch's placement as with TensorFlow's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EpsilonPlacement {
    /// `rate / (1 - b1^t) * m / (sqrt(v / (1 - b2^t)) + epsilon)`.
    Torch,
    /// `rate * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + epsilon)`, as lm-human-preferences.
    Tensorflow,
}

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
    /// Where it is added (not printed; torch).
    pub epsilon_placement: EpsilonPlacement,
    /// Decoupled weight decay, on matrices only: never on norms and other vectors (not printed;
    /// 0).
    pub weight_decay: f64,
    /// Largest global norm of the gradient; 0 is off (not printed; 1 from OpenRLHF).
    pub max_grad_norm: f64,
}

/// Gradients by parameter name, summed over micro-batches.
#[derive(Default)]
pub struct Gradients {
    sums: BTreeMap<String, Sum>,
}

/// The sum so far.
struct Sum {
    tensor: Tensor,
    /// Nobody else has it, so that it can grow where it is.
    is_own: bool,
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
            let gradient = gradient.detach();
            let sum = match self.sums.remove(name) {
                Some(sum) if sum.is_own && in_place::add(&sum.tensor, &gradient, scale)? => sum,
                Some(sum) => Sum {
                    tensor: (sum.tensor + (gradient * scale)?)?,
                    is_own: true,
                },
                // The store has it too, which is not ours to change.
                None if scale == 1.0 => Sum {
                    tensor: gradient,
                    is_own: false,
                },
                None => Sum {
                    tensor: (gradient * scale)?,
                    is_own: true,
                },
            };
            self.sums.insert(name.clone(), sum);
        }
        Ok(())
    }

    /// The gradient of a parameter.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.sums.get(name).map(|sum| &sum.tensor)
    }
}

/// AdamW (Loshchilov and Hutter, arXiv 1711.05101).
pub struct AdamW {
    config: AdamConfig,
    step: u32,
    moments: BTreeMap<String, Moments>,
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
    /// norm before clipping. A parameter without a gradient stays as it is.
    ///
    /// # Errors
    /// When a gradient is not finite: nothing is changed then.
    pub fn step(
        &mut self,
        variables: &BTreeMap<String, Var>,
        gradients: &Gradients,
        factor: f64,
    ) -> Result<f64> {
        let mut present = Vec::with_capacity(variables.len());
        let mut squares = 0.0;
        for (name, variable) in variables {
            if let Some(gradient) = gradients.get(name) {
                squares += sum_of_squares(gradient)?;
                present.push((name, variable, gradient));
            }
        }
        let norm = squares.sqrt();
        if !norm.is_finite() {
            return Err(TrainerError::Diverged(format!(
                "the gradient of step {} is not finite; lower the learning rate",
                self.step.saturating_add(1)
            )));
        }
        self.step = self.step.saturating_add(1);
        let update = self.update(factor, norm);
        for (name, variable, gradient) in present {
            let moments = self.moments.entry(name.clone()).or_default();
            let decays = variable.rank() > 1;
            update.apply(variable, moments, gradient, decays)?;
        }
        Ok(norm)
    }

    fn update(&self, factor: f64, norm: f64) -> Update {
        let config = &self.config;
        let steps = f64::from(self.step);
        let rate = config.learning_rate * factor;
        let correct1 = 1.0 - config.beta1.powf(steps);
        let correct2 = 1.0 - config.beta2.powf(steps);
        let (step_length, root_scale) = match config.epsilon_placement {
            EpsilonPlacement::Torch => (rate / correct1, 1.0 / correct2.sqrt()),
            EpsilonPlacement::Tensorflow => (rate * correct2.sqrt() / correct1, 1.0),
        };
        let is_clipped = config.max_grad_norm > 0.0 && norm > config.max_grad_norm;
        Update {
            clip: if is_clipped {
                (config.max_grad_norm / norm) as f32
            } else {
                1.0
            },
            beta1: config.beta1 as f32,
            beta2: config.beta2 as f32,
            epsilon: config.epsilon as f32,
            step_length: step_length as f32,
            root_scale: root_scale as f32,
            keep: (1.0 - rate * config.weight_decay) as f32,
        }
    }

    /// Steps taken, and moments by kind and parameter: what [`AdamW::restore`] takes.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut tensors = BTreeMap::new();
        for (name, moments) in &self.moments {
            for (kind, values) in [("first", &moments.first), ("second", &moments.second)] {
                let tensor = Tensor::from_slice(values, values.len(), &Device::Cpu)?;
                tensors.insert(format!("{kind}.{name}"), tensor);
            }
        }
        tensors.insert("step".to_owned(), Tensor::new(&[self.step], &Device::Cpu)?);
        Ok(tensors)
    }

    /// Takes over what [`AdamW::state`] gave, for these variables.
    ///
    /// # Errors
    /// A sentence when it is not the state of an optimiser of these variables.
    pub fn restore(
        &mut self,
        state: &BTreeMap<String, Tensor>,
        variables: &BTreeMap<String, Var>,
    ) -> Result<()> {
        let wrong =
            |message: String| TrainerError::checkpoint(Path::new("the optimiser's state"), message);
        let step = state
            .get("step")
            .ok_or_else(|| wrong("has no count of steps".to_owned()))?
            .to_vec1::<u32>()?;
        self.step = step.first().copied().unwrap_or(0);
        self.moments.clear();
        for (key, tensor) in state {
            let Some((kind @ ("first" | "second"), name)) = key.split_once('.') else {
                continue;
            };
            let fits = variables
                .get(name)
                .is_some_and(|variable| variable.elem_count() == tensor.elem_count());
            if !fits {
                return Err(wrong(format!("{key} fits no parameter")));
            }
            let moments = self.moments.entry(name.to_owned()).or_default();
            match kind {
                "first" => moments.first = flat(tensor)?,
                _ => moments.second = flat(tensor)?,
            }
        }
        Ok(())
    }
}

/// The values of variables, for a savepoint.
pub fn values(variables: &BTreeMap<String, Var>) -> BTreeMap<String, Tensor> {
    let value = |variable: &Var| variable.as_tensor().detach();
    variables
        .iter()
        .map(|(name, variable)| (name.clone(), value(variable)))
        .collect()
}

/// Sets variables to what [`values`] gave.
///
/// # Errors
/// A sentence when one is missing or has another shape.
pub fn set_values(
    variables: &BTreeMap<String, Var>,
    values: &BTreeMap<String, Tensor>,
) -> Result<()> {
    for (name, variable) in variables {
        let value = values
            .get(name)
            .filter(|value| value.dims() == variable.dims());
        let Some(value) = value else {
            let message = format!("has no {name} of shape {:?}", variable.dims());
            return Err(TrainerError::checkpoint(Path::new("savepoint"), message));
        };
        variable.set(&value.to_device(variable.device())?)?;
    }
    Ok(())
}

fn flat(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor
        .to_dtype(DType::F32)?
        .flatten_all()?
        .to_vec1::<f32>()?)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn settings() -> AdamConfig {
        AdamConfig {
            learning_rate: 1.0,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-5,
            epsilon_placement: EpsilonPlacement::Torch,
            weight_decay: 0.0,
            max_grad_norm: 0.0,
        }
    }

    fn variables(values: &[f32]) -> BTreeMap<String, Var> {
        BTreeMap::from([("w".to_owned(), Var::new(values, &Device::Cpu).unwrap())])
    }

    fn values(variables: &BTreeMap<String, Var>) -> Vec<f32> {
        variables["w"].to_vec1().unwrap()
    }

    /// Gradients of `sum(w * slope)`: the slope.
    fn gradients(variables: &BTreeMap<String, Var>, slope: &[f32], scale: f64) -> Gradients {
        let slope = Tensor::new(slope, &Device::Cpu).unwrap();
        let product = (variables["w"].as_tensor() * slope).unwrap();
        let store = product.sum_all().unwrap().backward().unwrap();
        let mut gradients = Gradients::default();
        gradients.add(&store, variables, scale).unwrap();
        gradients
    }

    /// Item 40 of the checklist: first step over learning rate for betas (.9, .999), epsilon 1e-5.
    #[test]
    fn the_first_step_has_the_length_that_its_placement_of_epsilon_gives() {
        for (slope, torch, tensorflow) in [
            (1e-6, 0.0909, 0.00315),
            (1e-3, 0.990, 0.760),
            (1.0, 1.0, 1.0),
        ] {
            for (epsilon_placement, expected) in [
                (EpsilonPlacement::Torch, torch),
                (EpsilonPlacement::Tensorflow, tensorflow),
            ] {
                let variables = variables(&[0.0]);
                let config = AdamConfig {
                    epsilon_placement,
                    ..settings()
                };
                let gradients = gradients(&variables, &[slope], 1.0);
                AdamW::new(config)
                    .step(&variables, &gradients, 1.0)
                    .unwrap();
                let moved = f64::from(-values(&variables)[0]);
                assert!(
                    (moved - expected).abs() < 5e-4 * expected.max(0.02) * 10.0,
                    "{epsilon_placement:?} {slope}: {moved} is not {expected}"
                );
            }
        }
    }

    #[test]
    fn clipping_scales_the_gradient_and_reports_its_norm_before() {
        let variables = variables(&[0.0, 0.0]);
        let config = AdamConfig {
            beta1: 0.0,
            beta2: 0.0,
            epsilon: 1.0,
            max_grad_norm: 1.0,
            ..settings()
        };
        let gradients = gradients(&variables, &[3.0, 4.0], 1.0);
        let norm = AdamW::new(config)
            .step(&variables, &gradients, 1.0)
            .unwrap();
        assert!((norm - 5.0).abs() < 1e-6);
        // Clipped to 0.6; step 0.6 / (0.6 + epsilon).
        assert!((values(&variables)[0] + 0.6 / 1.6).abs() < 1e-6);
    }

    #[test]
    fn weight_decay_leaves_vectors_alone() {
        let mut variables = variables(&[1.0]);
        let matrix = Var::new(&[[1.0_f32]], &Device::Cpu).unwrap();
        variables.insert("matrix".to_owned(), matrix);
        let nothing = (variables["w"].as_tensor().sum_all().unwrap()
            + variables["matrix"].as_tensor().sum_all().unwrap())
        .unwrap();
        let mut gradients = Gradients::default();
        gradients
            .add(&nothing.backward().unwrap(), &variables, 0.0)
            .unwrap();
        let config = AdamConfig {
            weight_decay: 0.5,
            ..settings()
        };
        AdamW::new(config)
            .step(&variables, &gradients, 0.1)
            .unwrap();
        assert_eq!(values(&variables), [1.0]);
        let matrix = variables["matrix"].to_vec2::<f32>().unwrap();
        assert!((matrix[0][0] - 0.95).abs() < 1e-6);
    }

    #[test]
    fn a_gradient_that_is_not_finite_changes_nothing() {
        let variables = variables(&[1.0]);
        let gradients = gradients(&variables, &[f32::NAN], 1.0);
        let error = AdamW::new(settings()).step(&variables, &gradients, 1.0);
        assert!(error.unwrap_err().to_string().contains("not finite"));
        assert_eq!(values(&variables), [1.0]);
    }

    /// A step along the gradient of `slope` times the sum of squares of every parameter.
    fn advance(optimiser: &mut AdamW, variables: &BTreeMap<String, Var>, slope: f64) {
        let mut gradients = Gradients::default();
        for variable in variables.values() {
            let squares = variable.as_tensor().sqr().unwrap().sum_all().unwrap();
            let store = squares.backward().unwrap();
            gradients.add(&store, variables, slope).unwrap();
        }
        optimiser.step(variables, &gradients, 0.1).unwrap();
    }

    /// With decay and clipping, and a matrix whose name has dots as those of real ones have.
    #[test]
    fn an_optimiser_that_was_kept_goes_on_to_the_bit() {
        let fresh = || {
            AdamW::new(AdamConfig {
                weight_decay: 0.1,
                max_grad_norm: 3.0,
                ..settings()
            })
        };
        let begin = || {
            let mut variables = variables(&[1.0, -2.0]);
            let matrix = Var::new(&[[0.5_f32, -0.25], [3.0, 0.125]], &Device::Cpu).unwrap();
            variables.insert("model.layers.0.q.weight".to_owned(), matrix);
            let mut optimiser = fresh();
            advance(&mut optimiser, &variables, 0.3);
            advance(&mut optimiser, &variables, -0.7);
            (optimiser, variables)
        };
        let go_on = |mut optimiser: AdamW, variables: &BTreeMap<String, Var>| -> Vec<u32> {
            advance(&mut optimiser, variables, 0.2);
            advance(&mut optimiser, variables, 0.5);
            let values = variables.values().map(|one| flat(one.as_tensor()).unwrap());
            values.flatten().map(f32::to_bits).collect()
        };
        let (optimiser, variables) = begin();
        let straight = go_on(optimiser, &variables);

        let (optimiser, variables) = begin();
        let mut resumed = fresh();
        resumed
            .restore(&optimiser.state().unwrap(), &variables)
            .unwrap();
        assert_eq!(go_on(resumed, &variables), straight);

        // The state matters: without it the same steps lead elsewhere.
        let (_, variables) = begin();
        assert_ne!(go_on(fresh(), &variables), straight);
    }

    #[test]
    fn a_state_that_is_no_optimisers_or_of_other_parameters_is_refused() {
        let variables = variables(&[1.0, 2.0]);
        let complain = |state: &BTreeMap<String, Tensor>| {
            let error = AdamW::new(settings())
                .restore(state, &variables)
                .unwrap_err();
            error.to_string()
        };
        let said = complain(&BTreeMap::new());
        assert!(said.contains("no count of steps"), "{said}");
        let mut state = AdamW::new(settings()).state().unwrap();
        let short = Tensor::new(&[1.0_f32], &Device::Cpu).unwrap();
        state.insert("first.w".to_owned(), short);
        let said = complain(&state);
        assert!(said.contains("first.w fits no parameter"), "{said}");
    }

    /// Item 43: a pretraining gradient enters with its weight.
    #[test]
    fn gradients_with_weights_add_up() {
        let variables = variables(&[0.0]);
        let mut sum = gradients(&variables, &[1.0], 1.0);
        let store = variables["w"]
            .as_tensor()
            .sum_all()
            .unwrap()
            .backward()
            .unwrap();
        sum.add(&store, &variables, 27.8).unwrap();
        let sum = sum.get("w").unwrap().to_vec1::<f32>().unwrap();
        assert!((sum[0] - 28.8).abs() < 1e-5);
    }
}
