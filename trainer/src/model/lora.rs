//! Low-rank adapters (Hu et al., arXiv 2106.09685): y = W x + (alpha / rank) B A x, where W stays
//! as it is and only A `[rank, in]` and B `[out, rank]` learn. B starts at zero, so that a fresh
//! adapter changes nothing.
//!
//! An adapter's tensors lie among the others in [`Weights`], under the name of what they are added
//! to: `model.layers.0.self_attn.q_proj.lora_A.weight`. Several networks over one base share its
//! tensors and differ in these.

use std::collections::BTreeMap;

use candle_core::{Tensor, Var};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::error::{Result, TrainerError};
use crate::model::architecture::SCORE;
use crate::model::attention::linear;
use crate::model::transformer_config::TransformerConfig;
use crate::model::weights::Weights;
use crate::rng::{standard_normal, stream};

/// End of the name of an adapter's inner tensor, A.
const INNER: &str = ".lora_A.weight";
/// End of the name of its outer tensor, B.
const OUTER: &str = ".lora_B.weight";

/// A projection of a block that an adapter can be put on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoraTarget {
    /// Attention's queries.
    Query,
    /// Attention's keys.
    Key,
    /// Attention's values.
    Value,
    /// Attention's output.
    Output,
    /// What the feed-forward layer's inside is multiplied with. GPT has none.
    Gate,
    /// Into the feed-forward layer.
    Up,
    /// Out of the feed-forward layer.
    Down,
}

impl LoraTarget {
    /// Every projection of a block.
    pub const ALL: [Self; 7] = [
        Self::Query,
        Self::Key,
        Self::Value,
        Self::Output,
        Self::Gate,
        Self::Up,
        Self::Down,
    ];

    /// Its name within a block, ours.
    pub fn part(self) -> &'static str {
        match self {
            Self::Query => "self_attn.q_proj",
            Self::Key => "self_attn.k_proj",
            Self::Value => "self_attn.v_proj",
            Self::Output => "self_attn.o_proj",
            Self::Gate => "mlp.gate_proj",
            Self::Up => "mlp.up_proj",
            Self::Down => "mlp.down_proj",
        }
    }

    /// Its weight's shape in a network, `[out, in]`.
    pub fn shape(self, config: &TransformerConfig) -> [usize; 2] {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let queries = config.num_attention_heads * config.head_dim;
        let keys = config.num_key_value_heads * config.head_dim;
        match self {
            Self::Query => [queries, hidden],
            Self::Key | Self::Value => [keys, hidden],
            Self::Output => [hidden, queries],
            Self::Gate | Self::Up => [inner, hidden],
            Self::Down => [hidden, inner],
        }
    }
}

/// Shape of an adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoraConfig {
    /// Rows of A and columns of B (8, PEFT's default).
    pub rank: usize,
    /// The adapter's output is multiplied by alpha / rank (16, QLoRA's, arXiv 2305.14314).
    pub alpha: f64,
    /// Projections with an adapter, in each block that is trained (all of them, as QLoRA, section
    /// 4, found necessary to match full fine-tuning; the paper took query and value). One that the
    /// architecture lacks, the gate of GPT, is passed over.
    pub targets: Vec<LoraTarget>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            rank: 8,
            alpha: 16.0,
            targets: LoraTarget::ALL.to_vec(),
        }
    }
}

impl LoraConfig {
    /// What the product of both matrices is multiplied by.
    pub fn scale(&self) -> f64 {
        self.alpha / self.rank as f64
    }
}

/// How a fresh adapter is made.
#[derive(Clone, Copy)]
pub struct Fresh<'a> {
    /// Its shape.
    pub config: &'a LoraConfig,
    /// Seed of A.
    pub seed: u64,
    /// What it is for: each purpose draws from streams of its own.
    pub purpose: &'a str,
}

/// A trained adapter apart from its base.
pub struct Adapter {
    /// Its shape.
    pub config: LoraConfig,
    /// A and B of each projection, and a reward model's head, by our names.
    pub tensors: BTreeMap<String, Tensor>,
}

impl Adapter {
    /// The one that lies in `weights`, sharing its tensors; none where there is none.
    pub fn of(weights: &Weights) -> Option<Self> {
        let config = weights.adapter()?.clone();
        let own = weights
            .tensors()
            .iter()
            .filter(|(name, _)| is_adapter(name) || *name == SCORE);
        let tensors = own.map(|(name, tensor)| (name.clone(), tensor.detach()));
        Some(Self {
            config,
            tensors: tensors.collect(),
        })
    }
}

/// Whether a tensor of this name (ours) belongs to an adapter.
pub fn is_adapter(name: &str) -> bool {
    name.ends_with(INNER) || name.ends_with(OUTER)
}

/// Names of A and B for the projection `name`, ours without `.weight`.
pub fn names(name: &str) -> [String; 2] {
    [format!("{name}{INNER}"), format!("{name}{OUTER}")]
}

/// A and B of one projection.
#[derive(Clone)]
pub struct LowRank {
    inner: Tensor,
    outer: Tensor,
    scale: f64,
}

impl LowRank {
    /// The adapter of the projection `name` of `shape` `[out, in]`; none where there is none.
    ///
    /// # Errors
    /// When one half is missing or has the wrong shape.
    pub fn find(weights: &Weights, name: &str, shape: [usize; 2]) -> Result<Option<Self>> {
        let [inner, outer] = names(name);
        let Some(config) = weights.adapter().filter(|_| weights.has(&inner)) else {
            return Ok(None);
        };
        Ok(Some(Self {
            inner: weights.get(&inner, &[config.rank, shape[1]])?,
            outer: weights.get(&outer, &[shape[0], config.rank])?,
            scale: config.scale(),
        }))
    }

    /// What it adds to the projection of `x` `[.., in]`, `[.., out]`.
    ///
    /// # Errors
    /// On shapes that do not fit.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let narrow = (linear(x, &self.inner)? * self.scale)?;
        linear(&narrow, &self.outer)
    }
}

impl Weights {
    /// Puts a fresh adapter on the blocks from `first` on. A is uniform within 1/sqrt(in), which is
    /// Kaiming's with a = sqrt(5): what the paper's code draws (loralib) and PEFT after it; the text
    /// says Gaussian. B is zero.
    ///
    /// # Errors
    /// When the rank is larger than a projection, or no target is there.
    pub fn put_on_fresh(
        &mut self,
        shape: &TransformerConfig,
        first: usize,
        fresh: Fresh,
    ) -> Result<()> {
        let Fresh {
            config,
            seed,
            purpose,
        } = fresh;
        let mut n = 0;
        for layer in first..shape.num_hidden_layers {
            for target in &config.targets {
                let name = format!("model.layers.{layer}.{}", target.part());
                let Some(weight) = self.tensors().get(&format!("{name}.weight")) else {
                    continue;
                };
                let (outputs, width) = weight.dims2()?;
                let device = weight.device().clone();
                if config.rank > outputs.min(width) {
                    let message = format!(
                        "is {}; {name} is {outputs} by {width}, so it must be at most {}",
                        config.rank,
                        outputs.min(width)
                    );
                    return Err(refuse("lora.rank", message));
                }
                let mut rng = stream(seed, &format!("{purpose} {name}"), 0);
                let bound = (1.0 / width as f32).sqrt();
                let values: Vec<f32> = (0..config.rank * width)
                    .map(|_| rng.random_range(-bound..bound))
                    .collect();
                let inner = Tensor::from_vec(values, (config.rank, width), &device)?;
                let outer = Tensor::zeros((outputs, config.rank), inner.dtype(), &device)?;
                let [inner_name, outer_name] = names(&name);
                self.insert(&inner_name, inner);
                self.insert(&outer_name, outer);
                n += 1;
            }
        }
        if n == 0 {
            let message = "names no projection that this model has".to_owned();
            return Err(refuse("lora.targets", message));
        }
        self.set_adapter(Some(config.clone()));
        Ok(())
    }

    /// Puts on an adapter that was trained before, whose tensors are shared.
    pub fn put_on(&mut self, adapter: &Adapter) {
        for (name, tensor) in &adapter.tensors {
            self.insert(name, tensor.clone());
        }
        self.set_adapter(Some(adapter.config.clone()));
    }

    /// Every tensor of the network without adapters that computes the same: the adapters are
    /// multiplied out and added to what they adapt. What has none is shared.
    ///
    /// # Errors
    /// When the device has no memory.
    pub fn merged(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut merged = BTreeMap::new();
        for (name, tensor) in self.tensors().iter().filter(|(name, _)| !is_adapter(name)) {
            let adapter = match name.strip_suffix(".weight") {
                Some(place) if tensor.rank() == 2 => {
                    let (outputs, width) = tensor.dims2()?;
                    LowRank::find(self, place, [outputs, width])?
                }
                _ => None,
            };
            let tensor = match adapter {
                Some(LowRank {
                    inner,
                    outer,
                    scale,
                }) => {
                    let product = outer.detach().matmul(&inner.detach())?;
                    (tensor + (product * scale)?)?
                }
                None => tensor.clone(),
            };
            merged.insert(name.clone(), tensor);
        }
        Ok(merged)
    }
}

fn refuse(field: &'static str, message: String) -> TrainerError {
    TrainerError::Config {
        field: field.into(),
        message,
    }
}

/// Deviation of what takes the place of a zero B while gradients are checked: small enough that no
/// ratio of PPO leaves its clip.
const OPEN_DEVIATION: f32 = 1e-3;

/// What `compute` gives while every B among `variables` that is all zero holds small drawn numbers;
/// they are zero again afterwards. The gradient by A goes through B: it is exactly zero as long as B
/// is, which says nothing about whether A can learn.
///
/// # Errors
/// Those of `compute`, or when the device has no memory.
pub fn while_open<T>(
    variables: &BTreeMap<String, Var>,
    compute: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let mut opened = Vec::new();
    for (name, variable) in variables.iter().filter(|(name, _)| name.ends_with(OUTER)) {
        let largest = variable.abs()?.max_all()?.to_scalar::<f32>()?;
        if largest == 0.0 {
            let mut rng = stream(0, &format!("open {name}"), 0);
            let values: Vec<f32> = (0..variable.elem_count())
                .map(|_| standard_normal(&mut rng) * OPEN_DEVIATION)
                .collect();
            let values = Tensor::from_vec(values, variable.shape(), variable.device())?;
            variable.set(&values)?;
            opened.push(variable);
        }
    }
    let found = compute();
    for variable in opened {
        variable.set(&variable.as_tensor().zeros_like()?)?;
    }
    found
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::nn::test_support::{assert_same, random};

    /// Against candle's own products, and against finite differences, by x, W, A and B.
    #[test]
    fn an_adapted_projection_and_its_gradients_are_those_of_the_formula() {
        let inputs = [
            random("x", &[5, 9]),
            random("weight", &[7, 9]),
            random("A", &[3, 9]),
            random("B", &[7, 3]),
        ];
        let adapted = |x: &[Tensor]| {
            let adapter = LowRank {
                inner: x[2].clone(),
                outer: x[3].clone(),
                scale: 0.75,
            };
            (linear(&x[0], &x[1]).unwrap() + adapter.apply(&x[0]).unwrap()).unwrap()
        };
        let plain = |x: &[Tensor]| {
            let product = (x[3].matmul(&x[2]).unwrap() * 0.75).unwrap();
            let whole = (&x[1] + product).unwrap();
            x[0].matmul(&whole.t().unwrap()).unwrap()
        };
        assert_same(&inputs, &adapted, &plain);
    }

    #[test]
    fn a_zero_b_is_open_only_while_gradients_are_checked() {
        let zero = Tensor::zeros((2, 3), candle_core::DType::F32, &candle_core::Device::Cpu);
        let trained = random("B", &[2, 3]);
        let variables = BTreeMap::from([
            (
                "a.lora_B.weight".to_owned(),
                Var::from_tensor(&zero.unwrap()).unwrap(),
            ),
            (
                "b.lora_B.weight".to_owned(),
                Var::from_tensor(&trained).unwrap(),
            ),
        ]);
        let sums = || -> Vec<f32> {
            let sum = |variable: &Var| variable.abs().unwrap().sum_all().unwrap();
            let sums = variables.values().map(sum);
            sums.map(|sum| sum.to_scalar().unwrap()).collect()
        };
        let before = sums();
        assert_eq!(before[0], 0.0);
        let inside = while_open(&variables, || Ok(sums())).unwrap();
        assert!(inside[0] > 0.0 && inside[1] == before[1]);
        let failed: Result<()> = while_open(&variables, || Err(TrainerError::Cancelled));
        assert!(failed.is_err());
        assert_eq!(sums(), before);
    }
}
