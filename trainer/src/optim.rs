//! Gradients summed over micro-batches, and the AdamW that applies them.
//!
//! candle's own AdamW keeps its moments in the type of the weights, has no clipping, no access to its state and one
//! place for epsilon. This one keeps f32 moments, updates in one pass over the weights, clips by the global norm and
//! reports the norm before clipping, and its state goes to a safetensors file. Parameters are always visited in the
//! order of their names, so that a sum over them is the same sum in every run.
//!
//! Where epsilon stands matters for small gradients (checklist item 40 of the trainer's notes): torch divides by
//! `sqrt(v / (1 - b2^t)) + eps`, TensorFlow scales the rate by `sqrt(1 - b2^t) / (1 - b1^t)` and divides by
//! `sqrt(v) + eps`.

use std::collections::HashMap;
use std::path::Path;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{Result, TrainerError};

/// Where epsilon stands in the update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EpsilonPlacement {
    /// Beside the bias-corrected root, as PyTorch does.
    Torch,
    /// Beside the uncorrected root, as TensorFlow does (openai/lm-human-preferences).
    Tensorflow,
}

/// The constants of AdamW that stay the same for a whole run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWSettings {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Where it is added.
    pub epsilon_placement: EpsilonPlacement,
    /// Decoupled weight decay per unit of learning rate, on matrices only: never on norms, biases and other vectors.
    pub weight_decay: f64,
    /// Gradients with a larger global norm are scaled down to this one; 0 turns clipping off.
    pub max_gradient_norm: f64,
}

/// Named trainable parameters, sorted by name.
pub type Parameters = Vec<(String, Var)>;

/// The sum of the gradients of several micro-batches, one tensor for each parameter that got any.
#[derive(Debug, Default)]
pub struct Gradients {
    sums: HashMap<String, Tensor>,
}

impl Gradients {
    /// Adds `scale` times the gradients that one backward pass left in `store`.
    ///
    /// # Errors
    /// Only what the tensor library reports.
    pub fn add(&mut self, parameters: &Parameters, store: &GradStore, scale: f64) -> Result<()> {
        for (name, variable) in parameters {
            let Some(gradient) = store.get(variable.as_tensor()) else {
                continue;
            };
            let mut gradient = gradient.detach();
            if (scale - 1.0).abs() > f64::EPSILON {
                gradient = (gradient * scale)?;
            }
            let sum = match self.sums.get(name) {
                Some(sum) => (sum + gradient)?,
                None => gradient,
            };
            self.sums.insert(name.clone(), sum);
        }
        Ok(())
    }

    /// The summed gradient of one parameter, if any micro-batch gave it one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.sums.get(name)
    }
}

/// The first and second moment of one parameter, and whether weight decay applies to it.
#[derive(Debug)]
struct Moments {
    first: Vec<f32>,
    second: Vec<f32>,
    decays: bool,
}

/// AdamW over a fixed set of parameters.
#[derive(Debug)]
pub struct AdamW {
    parameters: Parameters,
    moments: Vec<Moments>,
    settings: AdamWSettings,
    steps: u64,
}

impl AdamW {
    /// Starts with moments of zero for `parameters`, which must be sorted by name.
    #[must_use]
    pub fn new(parameters: Parameters, settings: AdamWSettings) -> Self {
        let moments = |(_, variable): &(String, Var)| {
            let count = variable.elem_count();
            Moments {
                first: vec![0.0; count],
                second: vec![0.0; count],
                decays: variable.rank() > 1,
            }
        };
        Self {
            moments: parameters.iter().map(moments).collect(),
            parameters,
            settings,
            steps: 0,
        }
    }

    /// The parameters it updates, sorted by name.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Steps taken so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Applies one update with `learning_rate` and returns the global norm of the gradients before clipping.
    /// A parameter without a gradient is treated as having one of zero.
    ///
    /// # Errors
    /// Gradients that are not finite, which no update may follow.
    pub fn step(&mut self, gradients: &Gradients, learning_rate: f64) -> Result<f64> {
        let mut flat = Vec::with_capacity(self.parameters.len());
        for (name, _) in &self.parameters {
            flat.push(gradients.get(name).map(flatten).transpose()?);
        }
        let norm = flat
            .iter()
            .flatten()
            .map(|values| sum_of_squares(values))
            .sum::<f64>()
            .sqrt();
        if !norm.is_finite() {
            return Err(TrainerError::Model(format!(
                "the gradients of step {} are not finite: lower the learning rate or look for broken weights",
                self.steps + 1
            )));
        }
        self.steps += 1;
        let update = self.update_of_this_step(learning_rate, norm);
        for (((_, variable), moments), gradient) in
            self.parameters.iter().zip(&mut self.moments).zip(&flat)
        {
            let mut weights = flatten(variable.as_tensor())?;
            update.apply(&mut weights, moments, gradient.as_deref());
            let weights = Tensor::from_vec(weights, variable.shape(), variable.device())?;
            variable.set(&weights.to_dtype(variable.dtype())?)?;
        }
        Ok(norm)
    }

    fn update_of_this_step(&self, learning_rate: f64, norm: f64) -> Update {
        let settings = self.settings;
        let clip = settings.max_gradient_norm;
        let first_correction = 1.0 - settings.beta1.powf(self.steps as f64);
        let second_correction = 1.0 - settings.beta2.powf(self.steps as f64);
        let rate = learning_rate / first_correction;
        let (rate, root_scale) = match settings.epsilon_placement {
            EpsilonPlacement::Torch => (rate, 1.0 / second_correction.sqrt()),
            EpsilonPlacement::Tensorflow => (rate * second_correction.sqrt(), 1.0),
        };
        Update {
            gradient_scale: if clip > 0.0 && norm > clip {
                (clip / norm) as f32
            } else {
                1.0
            },
            beta1: settings.beta1 as f32,
            beta2: settings.beta2 as f32,
            epsilon: settings.epsilon as f32,
            rate: rate as f32,
            root_scale: root_scale as f32,
            decay: (learning_rate * settings.weight_decay) as f32,
        }
    }

    /// Writes moments and step count to a safetensors file.
    ///
    /// # Errors
    /// A file that can't be written.
    pub fn save_state(&self, path: &Path) -> Result<()> {
        let mut tensors = HashMap::new();
        for ((name, _), moments) in self.parameters.iter().zip(&self.moments) {
            let count = moments.first.len();
            tensors.insert(
                format!("first.{name}"),
                Tensor::from_slice(&moments.first, count, &Device::Cpu)?,
            );
            tensors.insert(
                format!("second.{name}"),
                Tensor::from_slice(&moments.second, count, &Device::Cpu)?,
            );
        }
        tensors.insert(
            "steps".to_owned(),
            Tensor::new(&[self.steps as i64], &Device::Cpu)?,
        );
        Ok(candle_core::safetensors::save(&tensors, path)?)
    }

    /// Reads what [`AdamW::save_state`] wrote.
    ///
    /// # Errors
    /// A file that is not there, or that belongs to other parameters.
    pub fn load_state(&mut self, path: &Path) -> Result<()> {
        let tensors = candle_core::safetensors::load(path, &Device::Cpu)?;
        let read = |key: String, count: usize| match tensors.get(&key) {
            Some(tensor) if tensor.elem_count() == count => flatten(tensor),
            _ => Err(TrainerError::Checkpoint(format!(
                "{} has no fitting `{key}`",
                path.display()
            ))),
        };
        for ((name, _), moments) in self.parameters.iter().zip(&mut self.moments) {
            moments.first = read(format!("first.{name}"), moments.first.len())?;
            moments.second = read(format!("second.{name}"), moments.second.len())?;
        }
        let steps = tensors
            .get("steps")
            .map(Tensor::to_vec1::<i64>)
            .transpose()?;
        self.steps = steps
            .and_then(|steps| steps.first().copied())
            .unwrap_or(0)
            .unsigned_abs();
        Ok(())
    }
}

fn flatten(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

fn sum_of_squares(values: &[f32]) -> f64 {
    values
        .iter()
        .map(|value| f64::from(*value) * f64::from(*value))
        .sum()
}

/// The numbers of one step, the same for every parameter.
struct Update {
    gradient_scale: f32,
    beta1: f32,
    beta2: f32,
    epsilon: f32,
    rate: f32,
    root_scale: f32,
    decay: f32,
}

impl Update {
    fn apply(&self, weights: &mut [f32], moments: &mut Moments, gradient: Option<&[f32]>) {
        const CHUNK: usize = 1 << 16;
        let keep = if moments.decays {
            1.0 - self.decay
        } else {
            1.0
        };
        let chunks = weights
            .par_chunks_mut(CHUNK)
            .zip(moments.first.par_chunks_mut(CHUNK));
        let chunks = chunks.zip(moments.second.par_chunks_mut(CHUNK)).enumerate();
        chunks.for_each(|(chunk, ((weights, first), second))| {
            let offset = chunk * CHUNK;
            for index in 0..weights.len() {
                let gradient =
                    gradient.map_or(0.0, |gradient| gradient[offset + index]) * self.gradient_scale;
                first[index] = self.beta1 * first[index] + (1.0 - self.beta1) * gradient;
                second[index] =
                    self.beta2 * second[index] + (1.0 - self.beta2) * gradient * gradient;
                let root = second[index].sqrt() * self.root_scale + self.epsilon;
                weights[index] = weights[index] * keep - self.rate * first[index] / root;
            }
        });
    }
}

/// A moving average of the weights: `average = decay * average + (1 - decay) * weights` after each step
/// (InstructGPT C.4: 0.992).
#[derive(Debug)]
pub struct WeightAverage {
    parameters: Parameters,
    averages: Vec<Tensor>,
    decay: f64,
}

impl WeightAverage {
    /// Starts at the present weights.
    ///
    /// # Errors
    /// Only what the tensor library reports.
    pub fn new(parameters: Parameters, decay: f64) -> Result<Self> {
        let mut averages = Vec::with_capacity(parameters.len());
        for (_, variable) in &parameters {
            averages.push(variable.as_detached_tensor().copy()?);
        }
        Ok(Self {
            parameters,
            averages,
            decay,
        })
    }

    /// Takes in the present weights.
    ///
    /// # Errors
    /// Only what the tensor library reports.
    pub fn update(&mut self) -> Result<()> {
        for ((_, variable), average) in self.parameters.iter().zip(&mut self.averages) {
            let weights = variable.as_detached_tensor();
            *average = ((&*average * self.decay)? + (weights * (1.0 - self.decay))?)?;
        }
        Ok(())
    }

    /// Puts the averages in the place of the weights, for good.
    ///
    /// # Errors
    /// Only what the tensor library reports.
    pub fn write_into_weights(&self) -> Result<()> {
        for ((_, variable), average) in self.parameters.iter().zip(&self.averages) {
            variable.set(average)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    const SETTINGS: AdamWSettings = AdamWSettings {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-5,
        epsilon_placement: EpsilonPlacement::Torch,
        weight_decay: 0.0,
        max_gradient_norm: 0.0,
    };

    fn parameter(values: &[f32]) -> Parameters {
        let tensor = Tensor::from_slice(values, values.len(), &Device::Cpu).unwrap();
        vec![("w".to_owned(), Var::from_tensor(&tensor).unwrap())]
    }

    fn values(parameters: &Parameters) -> Vec<f32> {
        parameters[0].1.to_vec1().unwrap()
    }

    /// Gradients of `sum(w * slope)`, i.e. `slope`.
    fn gradients(parameters: &Parameters, slope: &[f32]) -> Gradients {
        let slope = Tensor::from_slice(slope, slope.len(), &Device::Cpu).unwrap();
        let loss = (parameters[0].1.as_tensor() * slope)
            .unwrap()
            .sum_all()
            .unwrap();
        let mut gradients = Gradients::default();
        gradients
            .add(parameters, &loss.backward().unwrap(), 1.0)
            .unwrap();
        gradients
    }

    #[test]
    fn the_first_step_matches_the_reference_for_both_places_of_epsilon() {
        let cases = [
            (1e-6, 0.0909, 0.00315),
            (1e-3, 0.990, 0.760),
            (1.0, 1.0, 1.0),
        ];
        for (slope, torch, tensorflow) in cases {
            for (placement, expected) in [
                (EpsilonPlacement::Torch, torch),
                (EpsilonPlacement::Tensorflow, tensorflow),
            ] {
                let parameters = parameter(&[0.0]);
                let settings = AdamWSettings {
                    epsilon_placement: placement,
                    ..SETTINGS
                };
                AdamW::new(parameters.clone(), settings)
                    .step(&gradients(&parameters, &[slope]), 1.0)
                    .unwrap();
                let update = f64::from(-values(&parameters)[0]);
                assert!(
                    (update - expected).abs() < 6e-4,
                    "{placement:?} {slope}: {update} is not {expected}"
                );
            }
        }
    }

    #[test]
    fn clipping_scales_to_the_limit_and_reports_the_norm_before() {
        let parameters = parameter(&[0.0, 0.0]);
        let settings = AdamWSettings {
            max_gradient_norm: 1.0,
            beta1: 0.0,
            beta2: 0.0,
            epsilon: 1.0,
            ..SETTINGS
        };
        let norm = AdamW::new(parameters.clone(), settings)
            .step(&gradients(&parameters, &[3.0, 4.0]), 1.0)
            .unwrap();
        assert!((norm - 5.0).abs() < 1e-6);
        assert!((values(&parameters)[0] + 0.6 / 1.6).abs() < 1e-6);
    }

    #[test]
    fn weight_decay_leaves_vectors_alone() {
        let vector = parameter(&[1.0]);
        let matrix = Tensor::ones((1, 1), DType::F32, &Device::Cpu).unwrap();
        let parameters = vec![
            ("m".to_owned(), Var::from_tensor(&matrix).unwrap()),
            vector[0].clone(),
        ];
        let settings = AdamWSettings {
            weight_decay: 0.5,
            ..SETTINGS
        };
        AdamW::new(parameters.clone(), settings)
            .step(&Gradients::default(), 0.1)
            .unwrap();
        assert!((parameters[0].1.to_vec2::<f32>().unwrap()[0][0] - 0.95).abs() < 1e-6);
        assert!((values(&vector)[0] - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_broken_gradient_changes_nothing() {
        let parameters = parameter(&[1.0]);
        let mut optimiser = AdamW::new(parameters.clone(), SETTINGS);
        assert!(
            optimiser
                .step(&gradients(&parameters, &[f32::NAN]), 0.1)
                .is_err()
        );
        assert_eq!(values(&parameters), [1.0]);
        assert_eq!(optimiser.steps(), 0);
    }

    #[test]
    fn a_restarted_optimiser_goes_on_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("optimizer.safetensors");
        let (straight, stopped) = (parameter(&[1.0, -2.0]), parameter(&[1.0, -2.0]));
        let mut first = AdamW::new(straight.clone(), SETTINGS);
        let mut second = AdamW::new(stopped.clone(), SETTINGS);
        first.step(&gradients(&straight, &[0.5, 1.0]), 0.1).unwrap();
        second.step(&gradients(&stopped, &[0.5, 1.0]), 0.1).unwrap();
        second.save_state(&path).unwrap();
        let mut third = AdamW::new(stopped.clone(), SETTINGS);
        third.load_state(&path).unwrap();
        first
            .step(&gradients(&straight, &[-0.3, 2.0]), 0.1)
            .unwrap();
        third.step(&gradients(&stopped, &[-0.3, 2.0]), 0.1).unwrap();
        assert_eq!(values(&straight), values(&stopped));
    }

    #[test]
    fn the_weight_average_matches_the_reference() {
        let parameters = parameter(&[1.0]);
        let mut average = WeightAverage::new(parameters.clone(), 0.992).unwrap();
        parameters[0]
            .1
            .set(&Tensor::new(&[2.0f32], &Device::Cpu).unwrap())
            .unwrap();
        average.update().unwrap();
        average.write_into_weights().unwrap();
        assert!((values(&parameters)[0] - (0.992 + 0.008 * 2.0)).abs() < 1e-6);
    }

    #[test]
    fn scaled_gradients_add_up() {
        let parameters = parameter(&[0.0]);
        let loss = parameters[0].1.as_tensor().sum_all().unwrap();
        let mut gradients = Gradients::default();
        gradients
            .add(&parameters, &loss.backward().unwrap(), 1.0)
            .unwrap();
        gradients
            .add(&parameters, &loss.backward().unwrap(), 27.8)
            .unwrap();
        assert!((gradients.get("w").unwrap().to_vec1::<f32>().unwrap()[0] - 28.8).abs() < 1e-5);
    }
}
