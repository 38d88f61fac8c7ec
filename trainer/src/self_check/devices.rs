//! Whether a network computes the same on two devices: everything that training and sampling are made
//! of, on tokens that are the same everywhere. Operations differ from device to device, see
//! [`crate::nn`], and sums run in another order, so numbers are compared and not bits.

use std::path::Path;

use candle_core::{Device, Tensor};

use super::largest;
use crate::config::{Preset, SftConfig};
use crate::error::Result;
use crate::model::attention::Pass;
use crate::model::batch::TokenBatch;
use crate::model::segments::Segment;
use crate::model::transformer::{Transformer, pages_for};
use crate::model::weights::Trainable;
use crate::optim::{AdamConfig, AdamW, Gradients};
use crate::sft::{LearningRow, add_gradient};

/// How far numbers may be apart, as a part of the largest of them.
pub const ALLOWED: f64 = 1e-4;

/// Tokens of each row.
const LENGTHS: [usize; 3] = [24, 17, 9];

/// Something that was compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// The largest difference, as a part of the largest number; NaN where one of them is.
    pub difference: f64,
}

impl Figure {
    /// Whether it is as near as it must be.
    pub fn holds(&self) -> bool {
        self.difference <= ALLOWED
    }
}

/// Computes with the model in `folder` on both devices: logits, the loss and the gradients of a step of
/// supervised fine-tuning, the weights after it, and the output of decoding.
///
/// # Errors
/// A sentence about the folder, or about a device that cannot compute.
pub fn compare(folder: &Path, one: &Device, other: &Device) -> Result<Vec<Figure>> {
    let (expected, found) = (compute(folder, one)?, compute(folder, other)?);
    let figures = expected.iter().zip(&found).map(|(expected, found)| Figure {
        name: expected.name.clone(),
        difference: difference(&found.numbers, &expected.numbers, expected.least),
    });
    Ok(figures.collect())
}

/// Numbers that a device came to.
struct Numbers {
    name: String,
    numbers: Vec<f32>,
    /// What the largest of them counts as, at least.
    least: f64,
}

impl Numbers {
    fn new(name: &str, tensor: &Tensor) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            numbers: tensor.flatten_all()?.to_vec1()?,
            least: 0.0,
        })
    }
}

fn compute(folder: &Path, device: &Device) -> Result<Vec<Numbers>> {
    let model = Transformer::load(folder, device, Trainable::Everything)?;
    let rows = rows(&model);
    let mut all = Vec::new();

    let batch = TokenBatch::new(&rows, 0, device)?;
    // Where operations are not our own, frozen and tracked passes run different ones.
    for (name, pass) in [
        ("logits", Pass::Tracked),
        ("logits of a frozen pass", Pass::Frozen),
    ] {
        all.push(Numbers::new(name, &logits(&model, &batch, pass)?)?);
    }
    let texts = rows.iter().map(|row| Segment::alone(row)).collect();
    let packed = TokenBatch::packed(&[texts], 0, device)?;
    let logits = logits(&model, &packed, Pass::Tracked)?;
    all.push(Numbers::new("logits of rows in one", &logits)?);
    all.push(Numbers::new("decoding", &decoded(&model, &rows)?)?);

    all.extend(step(&model, rows)?);
    Ok(all)
}

/// Rows of tokens, as long as the context allows.
fn rows(model: &Transformer) -> Vec<Vec<u32>> {
    let context = model.config.max_position_embeddings;
    let token = |row: usize, at: usize| ((31 * row + 7 * at + 3) % model.config.vocab_size) as u32;
    let row = |(row, length): (usize, usize)| {
        (0..length.min(context))
            .map(|at| token(row, at))
            .collect::<Vec<u32>>()
    };
    LENGTHS.into_iter().enumerate().map(row).collect()
}

fn logits(model: &Transformer, batch: &TokenBatch, pass: Pass) -> Result<Tensor> {
    let hidden = model.hidden(batch, pass)?.detach();
    Ok(model.logits(&hidden.flatten(0, 1)?)?.detach())
}

/// The network's output for the last token of each row, the others being read before.
fn decoded(model: &Transformer, rows: &[Vec<u32>]) -> Result<Tensor> {
    let pages = rows.iter().map(|row| pages_for(row.len())).sum();
    let mut cache = model.new_cache(pages)?;
    let split = rows.iter().filter_map(|row| row.split_last());
    let (last, before): (Vec<u32>, Vec<&[u32]>) = split.map(|(last, it)| (*last, it)).unzip();
    let (ids, read) = model.read(&before, &mut cache)?;
    let stepped = model.step(&ids, &last, &mut cache)?;
    Ok(Tensor::cat(&[read, stepped], 0)?)
}

/// A step of supervised fine-tuning: its loss, the gradient by each parameter, and the weights after it.
fn step(model: &Transformer, rows: Vec<Vec<u32>>) -> Result<Vec<Numbers>> {
    let rows: Vec<LearningRow> = rows
        .into_iter()
        .map(|tokens| LearningRow { tokens, start: 1 })
        .collect();
    let n: usize = rows.iter().map(LearningRow::n_learnt).sum();
    let mut gradients = Gradients::default();
    let loss = add_gradient(model, &rows, 0, 1.0 / n as f64, &mut gradients)?;
    let mut all = vec![Numbers {
        name: "loss".to_owned(),
        numbers: vec![loss as f32],
        least: 0.0,
    }];

    let variables = model.weights().variables();
    for (name, variable) in variables {
        let missing = variable.as_tensor().zeros_like()?;
        let gradient = gradients.get(name).unwrap_or(&missing);
        all.push(Numbers::new(&format!("gradient of {name}"), gradient)?);
    }
    // Some gradients are zero but for rounding, that of a key's bias for one, since softmax takes no
    // notice of what all scores share.
    let of_all = largest(all[1..].iter().map(|it| highest(&it.numbers)));
    all[1..].iter_mut().for_each(|it| it.least = 0.01 * of_all);

    AdamW::new(smooth()).step(variables, &gradients, 1.0)?;
    let mut weights = Vec::new();
    for variable in variables.values() {
        weights.extend(variable.flatten_all()?.to_vec1::<f32>()?);
    }
    all.push(Numbers {
        name: "weights after the step".to_owned(),
        numbers: weights,
        least: 0.0,
    });
    Ok(all)
}

/// Settings with which a step grows with its gradient. With a small epsilon its length would be the same
/// for every gradient, also for one of which nothing but its rounding is known.
fn smooth() -> AdamConfig {
    AdamConfig {
        learning_rate: 1.0,
        epsilon: 1.0,
        max_grad_norm: 0.0,
        ..SftConfig::preset(Preset::Tiny).optimiser
    }
}

fn difference(found: &[f32], expected: &[f32], least: f64) -> f64 {
    let pairs = found.iter().zip(expected);
    let apart = largest(pairs.map(|(found, expected)| f64::from((found - expected).abs())));
    let highest = highest(expected).max(least);
    match apart > 0.0 && highest > 0.0 {
        true => apart / highest,
        false => apart,
    }
}

fn highest(numbers: &[f32]) -> f64 {
    largest(numbers.iter().map(|it| f64::from(it.abs())))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::path::PathBuf;

    use super::*;
    use crate::device;

    fn fixture(name: &str) -> PathBuf {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        fixtures.join(name)
    }

    #[test]
    fn the_cpu_computes_the_same_to_the_bit_as_the_cpu() {
        for name in ["tiny", "families/qwen2", "families/gpt2"] {
            let figures = compare(&fixture(name), &Device::Cpu, &Device::Cpu).unwrap();
            let gradients = figures
                .iter()
                .filter(|it| it.name.starts_with("gradient of"));
            assert!(gradients.count() > 10);
            for figure in figures {
                assert_eq!(figure.difference, 0.0, "{name}: {}", figure.name);
                assert!(figure.holds());
            }
        }
    }

    #[test]
    fn numbers_that_differ_or_are_none_do_not_hold() {
        let of = |found: &[f32], least| Figure {
            name: String::new(),
            difference: difference(found, &[2.0, -4.0], least),
        };
        assert_eq!(of(&[2.0, -3.0], 0.0).difference, 0.25);
        assert_eq!(of(&[2.0, -3.0], 100.0).difference, 0.01);
        assert!(!of(&[2.0, -4.001], 0.0).holds());
        assert!(of(&[2.0, -4.0001], 0.0).holds());
        let none = of(&[f32::NAN, -4.0], 0.0);
        assert!(none.difference.is_nan() && !none.holds());
    }

    /// Runs where the program has CUDA and the machine a GPU.
    #[test]
    fn a_gpu_computes_what_the_cpu_does() {
        let gpu = match device::cuda() {
            Ok(gpu) => gpu,
            Err(reason) => {
                println!("skipped: {reason}");
                return;
            }
        };
        for name in ["tiny", "families/qwen2", "families/gpt2"] {
            for figure in compare(&fixture(name), &Device::Cpu, &gpu).unwrap() {
                assert!(figure.holds(), "{name}: {figure:?}");
            }
        }
    }
}
