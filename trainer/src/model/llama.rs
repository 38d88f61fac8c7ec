//! The Llama architecture (SmolLM2) written for training: blocks below the trainable ones run
//! without history and their output, `lower`, can be computed once and shared by every model
//! that has the same frozen blocks. Decoding with a cache is in `llama/decode.rs`.

mod decode;

use std::path::Path;

use candle_core::{Device, Tensor};

pub use self::decode::KvCache;
use crate::error::{Result, TrainerError};
use crate::model::attention::{
    Pass, Rotary, Rotation, Sight, attend, linear, merge_heads, rms_norm, split_heads, swiglu,
};
use crate::model::batch::TokenBatch;
pub use crate::model::llama_config::LlamaConfig;
use crate::model::weights::{Trainable, Weights};

/// Name of the embedding's tensor.
pub const EMBEDDING: &str = "model.embed_tokens.weight";

/// One block's weights.
struct Block {
    input_norm: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    feed_forward_norm: Tensor,
    gate: Tensor,
    up: Tensor,
    down: Tensor,
}

impl Block {
    fn new(weights: &Weights, index: usize, config: &LlamaConfig) -> Result<Self> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let queries = config.num_attention_heads * config.head_dim();
        let keys = config.num_key_value_heads * config.head_dim();
        let get = |name: &str, shape: &[usize]| {
            weights.get(&format!("model.layers.{index}.{name}.weight"), shape)
        };
        Ok(Self {
            input_norm: get("input_layernorm", &[hidden])?,
            query: get("self_attn.q_proj", &[queries, hidden])?,
            key: get("self_attn.k_proj", &[keys, hidden])?,
            value: get("self_attn.v_proj", &[keys, hidden])?,
            output: get("self_attn.o_proj", &[hidden, queries])?,
            feed_forward_norm: get("post_attention_layernorm", &[hidden])?,
            gate: get("mlp.gate_proj", &[inner, hidden])?,
            up: get("mlp.up_proj", &[inner, hidden])?,
            down: get("mlp.down_proj", &[hidden, inner])?,
        })
    }
}

/// A Llama language model, or the trunk of a reward or value model.
pub struct Llama {
    /// Shape of the network.
    pub config: LlamaConfig,
    /// Where it computes.
    pub device: Device,
    weights: Weights,
    embedding: Tensor,
    blocks: Vec<Block>,
    final_norm: Tensor,
    head: Tensor,
    rotary: Rotary,
    n_frozen: usize,
}

impl Llama {
    /// Reads a model folder.
    ///
    /// # Errors
    /// A sentence about the folder.
    pub fn load(folder: &Path, device: &Device, trainable: Trainable) -> Result<Self> {
        let config = LlamaConfig::read(folder)?;
        let weights = Weights::read(folder, device)?;
        if !config.tie_word_embeddings && !weights.has("lm_head.weight") {
            let message = "has no lm_head.weight, so it is no language model";
            return Err(TrainerError::checkpoint(folder, message));
        }
        Self::from_weights(config, weights, device, trainable)
    }

    /// A model over given weights.
    ///
    /// # Errors
    /// When a tensor is missing or has the wrong shape, or more layers are to be trained than
    /// there are.
    pub fn from_weights(
        config: LlamaConfig,
        mut weights: Weights,
        device: &Device,
        trainable: Trainable,
    ) -> Result<Self> {
        let n_layers = config.num_hidden_layers;
        let n_frozen = match trainable {
            Trainable::Nothing => n_layers,
            Trainable::Everything => 0,
            Trainable::UpperLayers(n) if (1..=n_layers).contains(&n) => n_layers - n,
            Trainable::UpperLayers(n) => {
                let message = format!("is {n}, but the model has {n_layers} layers");
                return Err(TrainerError::Config {
                    field: "train_layers".into(),
                    message,
                });
            }
        };
        // Some writers store the rotary frequencies, which follow from the configuration.
        weights.remove_all(|name| name.ends_with("rotary_emb.inv_freq"));
        if config.tie_word_embeddings {
            // Some writers store the tied head as well; one of the two is enough.
            weights.remove("lm_head.weight");
        }
        let surplus = weights
            .tensors()
            .keys()
            .find(|name| !is_ours(name, n_layers));
        if let Some(name) = surplus {
            let message = format!("holds a tensor that the architecture does not have: {name}");
            let path = Path::new("model.safetensors");
            return Err(TrainerError::checkpoint(path, message));
        }
        weights.make_trainable(|name| match trainable {
            Trainable::Nothing => false,
            Trainable::Everything => true,
            Trainable::UpperLayers(_) => layer_of(name).map_or(
                name == "model.norm.weight" || name == "score.weight",
                |layer| layer >= n_frozen,
            ),
        })?;
        let vocabulary = [config.vocab_size, config.hidden_size];
        let embedding = weights.get(EMBEDDING, &vocabulary)?;
        let head = match config.tie_word_embeddings || !weights.has("lm_head.weight") {
            true => embedding.clone(),
            false => weights.get("lm_head.weight", &vocabulary)?,
        };
        Ok(Self {
            blocks: (0..n_layers)
                .map(|index| Block::new(&weights, index, &config))
                .collect::<Result<_>>()?,
            final_norm: weights.get("model.norm.weight", &[config.hidden_size])?,
            rotary: Rotary::new(
                config.head_dim(),
                config.rope_theta,
                config.max_position_embeddings,
                device,
            )?,
            device: device.clone(),
            config,
            weights,
            embedding,
            head,
            n_frozen,
        })
    }

    /// Output of the embedding and the frozen blocks, `[batch, time, hidden]`, without history
    /// unless the embedding itself is trained.
    ///
    /// # Errors
    /// When a row is longer than the context.
    pub fn lower(&self, batch: &TokenBatch) -> Result<Tensor> {
        let (rows, time) = batch.ids.dims2()?;
        if time > self.config.max_position_embeddings {
            let message = format!(
                "holds {} tokens, a row has {time}",
                self.config.max_position_embeddings
            );
            return Err(TrainerError::Config {
                field: "context".into(),
                message,
            });
        }
        let ids = batch.ids.flatten_all()?;
        let embedded =
            self.embedding
                .index_select(&ids, 0)?
                .reshape((rows, time, self.config.hidden_size))?;
        self.run_blocks(embedded, 0..self.n_frozen, Pass::Frozen)
    }

    /// Output of the trainable blocks and the final norm, `[batch, time, hidden]`.
    ///
    /// # Errors
    /// On shapes that do not fit.
    pub fn upper(&self, lower: &Tensor, pass: Pass) -> Result<Tensor> {
        let top = self.run_blocks(lower.clone(), self.n_frozen..self.blocks.len(), pass)?;
        rms_norm(&top, &self.final_norm, self.config.rms_norm_eps, pass)
    }

    /// Like [`Self::upper`] for the last real position of each row only, `[batch, hidden]`: all
    /// that a score reads. The top block computes keys and values for every position and the rest
    /// for one, which saves nearly all of its work.
    ///
    /// # Errors
    /// On shapes that do not fit.
    pub fn upper_last(&self, lower: &Tensor, batch: &TokenBatch, pass: Pass) -> Result<Tensor> {
        let top = self.blocks.len() - 1;
        if self.n_frozen > top {
            return batch.last(&self.upper(lower, pass)?);
        }
        let x = self.run_blocks(lower.clone(), self.n_frozen..top, pass)?;
        let (rows, time, width) = x.dims3()?;
        let block = &self.blocks[top];
        let (heads, key_heads) = (
            self.config.num_attention_heads,
            self.config.num_key_value_heads,
        );
        let normed = rms_norm(&x, &block.input_norm, self.config.rms_norm_eps, pass)?;
        let rotation = self.rotary.range(0, time)?;
        let k = split_heads(&linear(&normed, &block.key)?, key_heads, Some(&rotation))?;
        let v = split_heads(&linear(&normed, &block.value)?, key_heads, None)?;
        let one = (rows, 1, width);
        let (x, normed) = (
            batch.last(&x)?.reshape(one)?,
            batch.last(&normed)?.reshape(one)?,
        );
        let rotation = self
            .rotary
            .positions(&batch.last_positions(&self.device)?)?;
        let q = split_heads(&linear(&normed, &block.query)?, heads, Some(&rotation))?;
        let mask = batch.length_mask(&self.device)?;
        let attended = attend(&q, &k, &v, Sight::Mask(&mask), pass)?;
        let top = self.finish_block(block, &x, &attended, pass)?.squeeze(1)?;
        rms_norm(&top, &self.final_norm, self.config.rms_norm_eps, pass)
    }

    /// Both halves, `[batch, time, hidden]`.
    ///
    /// # Errors
    /// When a row is longer than the context.
    pub fn hidden(&self, batch: &TokenBatch, pass: Pass) -> Result<Tensor> {
        self.upper(&self.lower(batch)?, pass)
    }

    /// The same through this model's blocks `n..`, for a model with nothing to train that shares
    /// the `lower` of one whose first `n` blocks are frozen.
    ///
    /// # Errors
    /// On shapes that do not fit.
    pub fn upper_from(&self, lower: &Tensor, n: usize, pass: Pass) -> Result<Tensor> {
        let top = self.run_blocks(lower.clone(), n..self.blocks.len(), pass)?;
        rms_norm(&top, &self.final_norm, self.config.rms_norm_eps, pass)
    }

    fn run_blocks(
        &self,
        mut x: Tensor,
        range: std::ops::Range<usize>,
        pass: Pass,
    ) -> Result<Tensor> {
        let time = x.dim(1)?;
        let rotation = self.rotary.range(0, time)?;
        for block in &self.blocks[range] {
            let (q, k, v) = self.project(block, &x, &rotation, pass)?;
            let attended = attend(&q, &k, &v, Sight::Causal, pass)?;
            x = self.finish_block(block, &x, &attended, pass)?;
        }
        Ok(x)
    }

    /// Queries, keys and values of a block, rotated, `[batch, heads, time, dim]`.
    fn project(
        &self,
        block: &Block,
        x: &Tensor,
        rotation: &Rotation,
        pass: Pass,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        let normed = rms_norm(x, &block.input_norm, self.config.rms_norm_eps, pass)?;
        let (heads, key_heads) = (
            self.config.num_attention_heads,
            self.config.num_key_value_heads,
        );
        let q = split_heads(&linear(&normed, &block.query)?, heads, Some(rotation))?;
        let k = split_heads(&linear(&normed, &block.key)?, key_heads, Some(rotation))?;
        let v = split_heads(&linear(&normed, &block.value)?, key_heads, None)?;
        Ok((q, k, v))
    }

    /// Adds attention's output and the gated feed-forward layer to the residual stream.
    fn finish_block(
        &self,
        block: &Block,
        x: &Tensor,
        attended: &Tensor,
        pass: Pass,
    ) -> Result<Tensor> {
        let merged = merge_heads(attended)?;
        let x = (x + linear(&merged, &block.output)?)?;
        let normed = rms_norm(&x, &block.feed_forward_norm, self.config.rms_norm_eps, pass)?;
        let inner = swiglu(&linear(&normed, &block.gate)?, &linear(&normed, &block.up)?)?;
        Ok((x + linear(&inner, &block.down)?)?)
    }

    /// Scores of every token, `[n, vocabulary]`, for `hidden` `[n, hidden]`.
    ///
    /// # Errors
    /// On shapes that do not fit.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        linear(hidden, &self.head)
    }

    /// The output projection, `[vocabulary, hidden]`.
    pub fn head(&self) -> &Tensor {
        &self.head
    }

    /// The weights.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// How many blocks, from below, are frozen.
    pub fn n_frozen(&self) -> usize {
        self.n_frozen
    }

    /// A copy with nothing to train, that shares frozen tensors with this one.
    ///
    /// # Errors
    /// When the device has no memory.
    pub fn frozen_copy(&self) -> Result<Self> {
        let weights = self.weights.frozen_copy()?;
        Self::from_weights(
            self.config.clone(),
            weights,
            &self.device,
            Trainable::Nothing,
        )
    }

    /// Whether the embedding and the first `n` blocks of both hold the same numbers, so that
    /// `lower` of one serves the other.
    ///
    /// # Errors
    /// When a tensor cannot be read.
    pub fn shares_lower(&self, other: &Self, n: usize) -> Result<bool> {
        for (name, tensor) in self.weights.tensors() {
            let is_lower = name == EMBEDDING || layer_of(name).is_some_and(|layer| layer < n);
            if !is_lower {
                continue;
            }
            let Some(theirs) = other.weights.tensors().get(name) else {
                return Ok(false);
            };
            if tensor.dims() != theirs.dims() {
                return Ok(false);
            }
            let differing = tensor
                .ne(theirs)?
                .to_dtype(candle_core::DType::F32)?
                .sum_all()?;
            if differing.to_scalar::<f32>()? != 0.0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Whether the network reads a tensor of this name.
fn is_ours(name: &str, n_layers: usize) -> bool {
    const WHOLE: [&str; 4] = [
        EMBEDDING,
        "model.norm.weight",
        "lm_head.weight",
        "score.weight",
    ];
    const OF_A_BLOCK: [&str; 9] = [
        "input_layernorm.weight",
        "self_attn.q_proj.weight",
        "self_attn.k_proj.weight",
        "self_attn.v_proj.weight",
        "self_attn.o_proj.weight",
        "post_attention_layernorm.weight",
        "mlp.gate_proj.weight",
        "mlp.up_proj.weight",
        "mlp.down_proj.weight",
    ];
    let of_a_block = layer_of(name)
        .is_some_and(|layer| layer < n_layers && OF_A_BLOCK.iter().any(|own| name.ends_with(own)));
    WHOLE.contains(&name) || of_a_block
}

/// The block that a tensor's name belongs to.
fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix("model.layers.")?
        .split('.')
        .next()?
        .parse()
        .ok()
}
