//! A decoder-only network written for training: Llama and its kin, Qwen, GPT. Blocks below the
//! trainable ones run without history and their output, `lower`, can be computed once and shared by
//! every model that has the same frozen blocks. Decoding with a cache is in `transformer/decode.rs`.

mod decode;
mod packed;
mod sharing;

use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor};

pub use self::decode::{KvCache, RowId, pages_for};
use crate::error::{Result, TrainerError};
pub use crate::model::architecture::EMBEDDING;
use crate::model::architecture::{FINAL_NORM, OUTPUT, POSITIONS, SCORE, split_our_name};
use crate::model::attention::{Pass, Rotary, Rotation, activate, linear, rms_norm, split_heads};
use crate::model::batch::TokenBatch;
use crate::model::dropout::Dropout;
use crate::model::layers::{Linear, Norm};
use crate::model::lora::{Fresh, is_adapter};
pub use crate::model::transformer_config::TransformerConfig;
use crate::model::transformer_config::{Activation, Positions};
use crate::model::weights::{Trainable, Weights};
use crate::nn;

/// One block's weights.
#[derive(Clone)]
struct Block {
    input_norm: Norm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    /// Norms of queries and keys within each head.
    head_norms: Option<(Tensor, Tensor)>,
    feed_forward_norm: Norm,
    /// What `up` is multiplied with; without it, `up` goes through the activation.
    gate: Option<Linear>,
    up: Linear,
    down: Linear,
}

impl Block {
    fn new(weights: &Weights, index: usize, config: &TransformerConfig) -> Result<Self> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let queries = config.num_attention_heads * config.head_dim;
        let keys = config.num_key_value_heads * config.head_dim;
        let biases = config.biases;
        let place = |part: &str| format!("model.layers.{index}.{part}");
        let linear = |part: &str, shape: [usize; 2], has_bias: bool| {
            Linear::new(weights, &place(part), shape, has_bias)
        };
        let norm = |part: &str| config.norm(weights, &place(part));
        let head_norm =
            |part: &str| weights.get(&format!("{}.weight", place(part)), &[config.head_dim]);
        Ok(Self {
            input_norm: norm("input_layernorm")?,
            query: linear("self_attn.q_proj", [queries, hidden], biases.attention_in)?,
            key: linear("self_attn.k_proj", [keys, hidden], biases.attention_in)?,
            value: linear("self_attn.v_proj", [keys, hidden], biases.attention_in)?,
            output: linear("self_attn.o_proj", [hidden, queries], biases.attention_out)?,
            head_norms: match config.architecture.norms_heads() {
                true => Some((
                    head_norm("self_attn.q_norm")?,
                    head_norm("self_attn.k_norm")?,
                )),
                false => None,
            },
            feed_forward_norm: norm("post_attention_layernorm")?,
            gate: match config.architecture.is_gpt() {
                true => None,
                false => Some(linear(
                    "mlp.gate_proj",
                    [inner, hidden],
                    biases.feed_forward,
                )?),
            },
            up: linear("mlp.up_proj", [inner, hidden], biases.feed_forward)?,
            down: linear("mlp.down_proj", [hidden, inner], biases.feed_forward)?,
        })
    }

    /// The gated layer, or the plain one.
    fn feed_forward(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        let up = self.up.apply(x)?;
        match &self.gate {
            Some(gate) => self.down.apply_gated(&gate.apply(x)?, &up),
            None => self.down.apply(&activate(&up, activation)?),
        }
    }
}

impl TransformerConfig {
    fn norm(&self, weights: &Weights, name: &str) -> Result<Norm> {
        let is_layer_norm = self.architecture.is_gpt();
        Norm::new(
            weights,
            name,
            self.hidden_size,
            self.norm_epsilon,
            is_layer_norm,
        )
    }
}

/// A language model, or the trunk of a reward or value model. A clone shares all weights.
#[derive(Clone)]
pub struct Transformer {
    /// Shape of the network.
    pub config: TransformerConfig,
    /// Where it computes.
    pub device: Device,
    weights: Weights,
    embedding: Tensor,
    /// Learned positions, `[context, hidden]`.
    positions: Option<Tensor>,
    blocks: Vec<Block>,
    final_norm: Option<Norm>,
    head: Tensor,
    rotary: Option<Rotary>,
    n_frozen: usize,
    recomputes: bool,
}

impl Transformer {
    /// Reads a model folder.
    ///
    /// # Errors
    /// A sentence about the folder.
    pub fn load(folder: &Path, device: &Device, trainable: Trainable) -> Result<Self> {
        Self::load_adapted(folder, device, trainable, None)
    }

    /// The same, with a fresh adapter on the trainable blocks where one is given; then only the
    /// adapter learns.
    ///
    /// # Errors
    /// A sentence about the folder or the adapter's shape.
    pub fn load_adapted(
        folder: &Path,
        device: &Device,
        trainable: Trainable,
        adapter: Option<Fresh>,
    ) -> Result<Self> {
        let config = TransformerConfig::read(folder)?;
        let mut weights = Weights::read(folder, &config, device)?;
        if let Some(fresh) = adapter {
            let first = trainable.n_frozen(config.num_hidden_layers)?;
            weights.put_on_fresh(&config, first, fresh)?;
        }
        if !config.tie_word_embeddings && !weights.has(OUTPUT) {
            let message = format!("has no {OUTPUT}, so it is no language model");
            return Err(TrainerError::checkpoint(folder, message));
        }
        Self::from_weights(config, weights, device, trainable)
    }

    /// A model over given weights, by our names.
    ///
    /// # Errors
    /// When a tensor is missing or has the wrong shape, or more layers are to be trained than
    /// there are.
    pub fn from_weights(
        config: TransformerConfig,
        mut weights: Weights,
        device: &Device,
        trainable: Trainable,
    ) -> Result<Self> {
        let n_layers = config.num_hidden_layers;
        let n_frozen = trainable.n_frozen(n_layers)?;
        let has_adapter = weights.adapter().is_some();
        weights.make_trainable(|name| match trainable {
            Trainable::Nothing => false,
            // With an adapter, that and a reward model's head learn, and nothing else.
            _ if has_adapter && !is_adapter(name) && name != SCORE => false,
            Trainable::Everything => true,
            Trainable::UpperLayers(_) => match split_our_name(name) {
                Some((layer, ..)) => layer >= n_frozen,
                None => name == SCORE || name.starts_with(FINAL_NORM),
            },
        })?;
        let vocabulary = [config.vocab_size, config.hidden_size];
        let embedding = weights.get(EMBEDDING, &vocabulary)?;
        let head = match config.tie_word_embeddings || !weights.has(OUTPUT) {
            true => embedding.clone(),
            false => weights.get(OUTPUT, &vocabulary)?,
        };
        let context = config.max_position_embeddings;
        let (positions, rotary) = match config.positions {
            Positions::Learned => {
                let shape = [context, config.hidden_size];
                (Some(weights.get(POSITIONS, &shape)?), None)
            }
            Positions::Rotary { theta, scaling } => {
                let rotary = Rotary::new(config.head_dim, theta, scaling, context, device)?;
                (None, Some(rotary))
            }
        };
        Ok(Self {
            blocks: (0..n_layers)
                .map(|index| Block::new(&weights, index, &config))
                .collect::<Result<_>>()?,
            final_norm: match config.architecture.norms_after() {
                true => None,
                false => Some(config.norm(&weights, FINAL_NORM)?),
            },
            positions,
            rotary,
            device: device.clone(),
            config,
            weights,
            embedding,
            head,
            n_frozen,
            recomputes: false,
        })
    }

    /// Output of the embedding and the frozen blocks, `[batch, time, hidden]`, without history
    /// unless the embedding itself is trained.
    ///
    /// # Errors
    /// When a row is longer than the context.
    pub fn lower(&self, batch: &TokenBatch) -> Result<Tensor> {
        self.lower_with(batch, None)
    }

    /// Refuses what is longer than the context.
    fn check_context(&self, time: usize) -> Result<()> {
        let holds = self.config.max_position_embeddings;
        if time > holds {
            return Err(TrainerError::Config {
                field: "context".into(),
                message: format!("holds {holds} tokens, a row has {time}"),
            });
        }
        Ok(())
    }

    /// Tokens and, where they are learned, positions, `[batch, time, hidden]`.
    fn embedded(&self, batch: &TokenBatch) -> Result<Tensor> {
        self.check_context(batch.longest_text())?;
        let embedded = embed(&self.embedding, &batch.ids)?;
        let Some(positions) = &self.positions else {
            return Ok(embedded);
        };
        Ok(match &batch.segments {
            Some(segments) => {
                let own = positions.index_select(&segments.positions(&self.device)?, 0)?;
                (&embedded + own.reshape(embedded.shape())?)?
            }
            None => embedded.broadcast_add(&positions.narrow(0, 0, batch.time)?)?,
        })
    }

    fn lower_with(&self, batch: &TokenBatch, dropout: Option<&Dropout>) -> Result<Tensor> {
        let mut embedded = self.embedded(batch)?;
        if let Some(dropout) = dropout {
            embedded = dropout.apply(&embedded, 0)?;
        }
        let segments = batch.segments.as_ref();
        self.run(embedded, 0..self.n_frozen, segments, Pass::Frozen, dropout)
    }

    /// Both halves, `[batch, time, hidden]`.
    ///
    /// # Errors
    /// When a row is longer than the context.
    pub fn hidden(&self, batch: &TokenBatch, pass: Pass) -> Result<Tensor> {
        self.hidden_with(batch, pass, None)
    }

    fn finish(&self, top: &Tensor, pass: Pass) -> Result<Tensor> {
        match &self.final_norm {
            Some(norm) => norm.apply(top, pass),
            None => Ok(top.clone()),
        }
    }

    /// The network itself, for parts that run again in the backward pass, where they do.
    fn to_recompute(&self, pass: Pass) -> Option<Arc<Self>> {
        (self.recomputes && pass == Pass::Tracked).then(|| Arc::new(self.clone()))
    }

    /// Whether tracked passes keep only each block's input and run the block again in the backward
    /// pass, which must then be [`nn::backward::backward`].
    pub fn set_recompute(&mut self, recomputes: bool) {
        self.recomputes = recomputes;
    }

    /// Cosines and sines for our own operations, where positions rotate.
    fn rotary_table(&self) -> Option<&Arc<nn::attention::Table>> {
        self.rotary.as_ref()?.table.as_ref()
    }

    /// The rotation of the positions `start..start + n`, where positions rotate.
    fn rotation(&self, start: usize, n: usize) -> Result<Option<Rotation>> {
        let rotary = self.rotary.as_ref();
        rotary.map(|rotary| rotary.range(start, n)).transpose()
    }

    /// The rotation of given positions `[batch, time]`, where positions rotate.
    fn rotation_at(&self, positions: &Tensor) -> Result<Option<Rotation>> {
        let rotary = self.rotary.as_ref();
        rotary.map(|rotary| rotary.positions(positions)).transpose()
    }

    fn before_attention(&self, block: &Block, x: &Tensor, pass: Pass) -> Result<Tensor> {
        match self.config.architecture.norms_after() {
            true => Ok(x.clone()),
            false => block.input_norm.apply(x, pass),
        }
    }

    fn queries(
        &self,
        block: &Block,
        normed: &Tensor,
        rotation: Option<&Rotation>,
        pass: Pass,
    ) -> Result<Tensor> {
        let heads = self.config.num_attention_heads;
        split_heads(&self.query_rows(block, normed, pass)?, heads, rotation)
    }

    /// Queries before they are split into heads, `[batch, time, width]`.
    fn query_rows(&self, block: &Block, normed: &Tensor, pass: Pass) -> Result<Tensor> {
        let norm = block.head_norms.as_ref().map(|(queries, _)| queries);
        self.norm_heads(block.query.apply(normed)?, norm, pass)
    }

    fn keys_and_values(
        &self,
        block: &Block,
        normed: &Tensor,
        rotation: Option<&Rotation>,
        pass: Pass,
    ) -> Result<(Tensor, Tensor)> {
        let heads = self.config.num_key_value_heads;
        let (k, v) = self.key_and_value_rows(block, normed, pass)?;
        Ok((
            split_heads(&k, heads, rotation)?,
            split_heads(&v, heads, None)?,
        ))
    }

    fn key_and_value_rows(
        &self,
        block: &Block,
        normed: &Tensor,
        pass: Pass,
    ) -> Result<(Tensor, Tensor)> {
        let norm = block.head_norms.as_ref().map(|(_, keys)| keys);
        let k = self.norm_heads(block.key.apply(normed)?, norm, pass)?;
        Ok((k, block.value.apply(normed)?))
    }

    /// Norms each head of `x` `[batch, time, heads * dim]` by itself, where the family does so.
    fn norm_heads(&self, x: Tensor, weight: Option<&Tensor>, pass: Pass) -> Result<Tensor> {
        let Some(weight) = weight else {
            return Ok(x);
        };
        let (batch, time, width) = x.dims3()?;
        let dim = self.config.head_dim;
        let heads = x.reshape((batch, time, width / dim, dim))?;
        let normed = rms_norm(&heads, weight, self.config.norm_epsilon, pass)?;
        Ok(normed.reshape((batch, time, width))?)
    }

    /// Adds attention's output `[batch, time, width]` and the feed-forward layer to the residual stream,
    /// with the dropout of a training pass and the block's index.
    fn add_to_stream(
        &self,
        block: &Block,
        x: &Tensor,
        merged: &Tensor,
        pass: Pass,
        dropout: Option<(&Dropout, usize)>,
    ) -> Result<Tensor> {
        let activation = self.config.activation;
        // Place 0 is the embedding.
        let drop = |added: Tensor, half: usize| match dropout {
            Some((dropout, index)) => dropout.apply(&added, 1 + 2 * index + half),
            None => Ok(added),
        };
        let x = match dropout {
            Some(_) => (x + drop(block.output.apply(merged)?, 0)?)?,
            None => block.output.apply_onto(x, merged)?,
        };
        if self.config.architecture.norms_after() {
            let x = block.input_norm.apply(&x, pass)?;
            let x = (&x + drop(block.feed_forward(&x, activation)?, 1)?)?;
            return block.feed_forward_norm.apply(&x, pass);
        }
        let normed = block.feed_forward_norm.apply(&x, pass)?;
        Ok((x + drop(block.feed_forward(&normed, activation)?, 1)?)?)
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
}

/// The rows of a table that `ids` `[batch, time]` name, `[batch, time, width]`.
fn embed(table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let (rows, time) = ids.dims2()?;
    let picked = nn::backward::rows(table, &ids.flatten_all()?)?;
    Ok(picked.reshape((rows, time, table.dim(1)?))?)
}
