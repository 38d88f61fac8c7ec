//! How many numbers a network has, and how many a pass through it keeps for the backward pass, from
//! its shape alone. All counts are of f32 numbers, and of the operations for CPU ([`crate::nn`]).
//! What each operation keeps follows from candle: a result lives as long as the graph, together
//! with what it was computed from.
//!
//! Numbers of weights fit their type, since [`TransformerConfig`] is bounded. What a pass keeps may
//! not, for rows as long as no machine holds them; it is then the most that there is.

use crate::model::architecture::Architecture;
use crate::model::lora::{LoraConfig, LoraTarget};
use crate::model::transformer_config::{Positions, TransformerConfig};
use crate::model::weights::Trainable;
use crate::nn::paged_attention::PAGE;

/// A network and which part of it learns.
#[derive(Clone, Copy)]
pub struct Network<'a> {
    /// Its shape.
    pub config: &'a TransformerConfig,
    /// Which part learns.
    pub trainable: Trainable,
    /// Heads of one number each in place of the projection to the vocabulary: one, or one for each
    /// member of an ensemble. 0 is a language model.
    pub heads: usize,
    /// The adapter on the blocks that learn, which learns in their place.
    pub lora: Option<&'a LoraConfig>,
}

/// Rows of tokens that pass together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rows {
    /// How many rows.
    pub n: usize,
    /// Tokens of all of them, padding included, and once what is there once for several.
    pub tokens: usize,
    /// The pass draws dropout.
    pub drops: bool,
}

impl Rows {
    /// Rows padded to `time`.
    pub fn new(n: usize, time: usize) -> Self {
        Self::sharing(n, n.saturating_mul(time))
    }

    /// Rows in one, of so many tokens together.
    pub fn sharing(n: usize, tokens: usize) -> Self {
        Self {
            n,
            tokens,
            drops: false,
        }
    }
}

impl Network<'_> {
    /// Numbers of one block.
    fn block(&self) -> usize {
        let config = self.config;
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let (queries, keys) = (self.queries(), self.keys());
        let is_gpt = config.architecture.is_gpt();
        let biases = config.biases;
        let bias = |has: bool, width: usize| if has { width } else { 0 };
        let norms = if is_gpt { 4 * hidden } else { 2 * hidden };
        let head_norms = bias(config.architecture.norms_heads(), 2 * config.head_dim);
        let attention = hidden * (2 * queries + 2 * keys)
            + bias(biases.attention_in, queries + 2 * keys)
            + bias(biases.attention_out, hidden);
        let n_inner = if is_gpt { 1 } else { 2 };
        let feed_forward =
            (n_inner + 1) * hidden * inner + bias(biases.feed_forward, n_inner * inner + hidden);
        norms + head_norms + attention + feed_forward
    }

    fn queries(&self) -> usize {
        self.config.num_attention_heads * self.config.head_dim
    }

    fn keys(&self) -> usize {
        self.config.num_key_value_heads * self.config.head_dim
    }

    /// Numbers of the embedding, and of the projection to the vocabulary.
    pub fn vocabulary(&self) -> usize {
        self.config.vocab_size * self.config.hidden_size
    }

    fn final_norm(&self) -> usize {
        match (
            self.config.architecture.norms_after(),
            self.config.architecture.is_gpt(),
        ) {
            (true, _) => 0,
            (false, true) => 2 * self.config.hidden_size,
            (false, false) => self.config.hidden_size,
        }
    }

    fn top(&self) -> usize {
        self.heads * self.config.hidden_size
    }

    /// Shapes `[out, in]` of a block's projections with an adapter, and its rank.
    fn adapted(&self) -> impl Iterator<Item = ([usize; 2], usize)> {
        let targets = self.lora.iter().flat_map(|lora| {
            let own = lora.targets.iter();
            own.map(|target| (*target, lora.rank))
        });
        let targets = targets.filter(|(target, _)| self.has(*target));
        targets.map(|(target, rank)| (target.shape(self.config), rank))
    }

    fn has(&self, target: LoraTarget) -> bool {
        target != LoraTarget::Gate || !self.config.architecture.is_gpt()
    }

    /// Numbers of all adapters.
    pub fn adapters(&self) -> usize {
        let own = self.adapted();
        let block: usize = own.map(|([out, width], rank)| rank * (out + width)).sum();
        self.n_trained_blocks() * block
    }

    /// Numbers of the matrices that have an adapter, and of the largest of them: what is made anew
    /// when adapters are merged, and what that works with.
    pub fn merged(&self) -> usize {
        let sizes = self.adapted().map(|([out, width], _)| out * width);
        let (block, largest) = sizes.fold((0, 0), |(sum, largest), own| {
            (sum + own, usize::max(largest, own))
        });
        self.n_trained_blocks() * block + 2 * largest
    }

    /// Numbers of the whole network, adapters included.
    pub fn weights(&self) -> usize {
        self.base() + self.top() + self.adapters()
    }

    /// Numbers of the network without adapters and heads.
    pub fn base(&self) -> usize {
        let config = self.config;
        let positions = match config.positions {
            Positions::Learned => config.max_position_embeddings * config.hidden_size,
            Positions::Rotary { .. } => 0,
        };
        let output = match self.heads > 0 || config.tie_word_embeddings {
            true => 0,
            false => self.vocabulary(),
        };
        self.vocabulary()
            + positions
            + output
            + config.num_hidden_layers * self.block()
            + self.final_norm()
    }

    /// Blocks that learn.
    pub fn n_trained_blocks(&self) -> usize {
        match self.trainable {
            Trainable::Nothing => 0,
            Trainable::UpperLayers(n) => n.min(self.config.num_hidden_layers),
            Trainable::Everything => self.config.num_hidden_layers,
        }
    }

    /// Blocks below those, whose output can be computed once and kept.
    pub fn n_frozen_blocks(&self) -> usize {
        self.config.num_hidden_layers - self.n_trained_blocks()
    }

    /// Numbers that learn.
    pub fn trained(&self) -> usize {
        match self.trainable {
            Trainable::Nothing => 0,
            _ if self.lora.is_some() => self.adapters() + self.top(),
            Trainable::UpperLayers(_) => {
                self.n_trained_blocks() * self.block() + self.final_norm() + self.top()
            }
            Trainable::Everything => self.weights(),
        }
    }

    /// Numbers of the largest tensor that learns.
    pub fn largest_trained(&self) -> usize {
        let block = self.config.hidden_size * self.config.intermediate_size.max(self.queries());
        match self.trainable {
            Trainable::Nothing => 0,
            _ if self.lora.is_some() => {
                let own = self.adapted();
                let own = own.map(|([out, width], rank)| rank * out.max(width));
                own.max().unwrap_or(0).max(self.top())
            }
            Trainable::UpperLayers(_) => block,
            Trainable::Everything => block.max(self.vocabulary()),
        }
    }

    /// Whether the embedding learns.
    fn trains_embedding(&self) -> bool {
        self.trainable == Trainable::Everything && self.lora.is_none()
    }

    /// Whether the projection to the vocabulary learns.
    pub fn trains_projection(&self) -> bool {
        self.heads == 0 && self.trains_embedding()
    }

    /// What the adapters of one token keep besides: their inner result, once more where it is scaled,
    /// their output, and the sum of both. `wanted` are the projections that a pass goes through.
    fn beside(&self, wanted: &[LoraTarget]) -> usize {
        let Some(lora) = self.lora else { return 0 };
        let own = lora.targets.iter();
        let own = own.filter(|target| wanted.contains(target) && self.has(**target));
        own.map(|target| 2 * (target.shape(self.config)[0] + lora.rank))
            .sum()
    }

    /// A norm over `width` numbers of each token. LayerNorm is made of plain operations: five results
    /// as wide as its input, and six of one number.
    fn norm(&self, width: usize) -> usize {
        match self.config.architecture.is_gpt() {
            true => 5 * width + 6,
            false => width,
        }
    }

    /// A projection's output, once more where a bias is added.
    fn projection(width: usize, has_bias: bool) -> usize {
        width * if has_bias { 2 } else { 1 }
    }

    /// Whether nothing is added to a projection's product.
    fn is_bare(&self, target: LoraTarget, has_bias: bool) -> bool {
        let is_adapted = self.lora.is_some_and(|lora| lora.targets.contains(&target));
        !has_bias && !is_adapted
    }

    /// Keys and values of one token: projected, normed.
    fn keys_and_values(&self) -> usize {
        let (keys, biases) = (self.keys(), self.config.biases);
        let normed = match self.config.architecture.norms_heads() {
            true => keys,
            false => 0,
        };
        let beside = self.beside(&[LoraTarget::Key, LoraTarget::Value]);
        2 * Self::projection(keys, biases.attention_in) + normed + beside
    }

    /// Queries and everything after attention of one token: what a block keeps besides its norm, keys
    /// and values.
    fn rest_of_block(&self) -> usize {
        let config = self.config;
        let (hidden, inner, queries) =
            (config.hidden_size, config.intermediate_size, self.queries());
        let biases = config.biases;
        let normed = match config.architecture.norms_heads() {
            true => queries,
            false => 0,
        };
        // Projected, normed; the attended values.
        let attention = Self::projection(queries, biases.attention_in) + normed + queries;
        // A bare product is joined with what lies around it.
        let output = match self.is_bare(LoraTarget::Output, biases.attention_out) {
            true => hidden,
            false => Self::projection(hidden, biases.attention_out) + hidden,
        };
        let is_gpt = config.architecture.is_gpt();
        let n_inner = if is_gpt { 1 } else { 2 };
        let joins = !is_gpt && self.is_bare(LoraTarget::Down, biases.feed_forward);
        let activated = if joins { 0 } else { inner };
        let feed_forward = n_inner * Self::projection(inner, biases.feed_forward)
            + activated
            + Self::projection(hidden, biases.feed_forward)
            + hidden;
        let beside = self.beside(&[
            LoraTarget::Query,
            LoraTarget::Output,
            LoraTarget::Gate,
            LoraTarget::Up,
            LoraTarget::Down,
        ]);
        attention + output + self.norm(hidden) + feed_forward + beside
    }

    /// What one block keeps, without its input. Its last result is the next one's input.
    pub fn block_pass(&self, rows: Rows) -> usize {
        let hidden = self.config.hidden_size;
        // A mask and a product after attention and after the feed-forward layer, and what is then not
        // joined with the stream.
        let has_bias = self.config.biases.attention_out;
        let apart = usize::from(self.is_bare(LoraTarget::Output, has_bias));
        let dropout = if rows.drops { (4 + apart) * hidden } else { 0 };
        let token = self.norm(hidden) + self.keys_and_values() + self.rest_of_block();
        rows.tokens.saturating_mul(token + dropout)
    }

    /// What the block under a score keeps: keys and values of every position, the rest of one.
    fn last_block_pass(&self, rows: Rows) -> usize {
        let norm = self.norm(self.config.hidden_size);
        // GPT's first norm follows attention, and so is of one position too.
        let (before, after) = match self.config.architecture.norms_after() {
            true => (0, norm),
            false => (norm, 0),
        };
        let every = rows.tokens.saturating_mul(before + self.keys_and_values());
        let one = rows.n.saturating_mul(after + self.rest_of_block());
        every.saturating_add(one)
    }

    /// What a pass with history keeps, up to the final norm and its input included. With
    /// `reads_last`, only the last position of each row is read, as scores are.
    pub fn pass(&self, rows: Rows, reads_last: bool, recomputes: bool) -> usize {
        let stream = rows.tokens.saturating_mul(self.config.hidden_size);
        let n_blocks = self.n_trained_blocks();
        let embedded = match (self.trains_embedding(), self.config.positions) {
            (true, Positions::Learned) => stream.saturating_mul(2),
            _ => stream,
        };
        let embedded = match rows.drops && self.trains_embedding() {
            true => embedded.saturating_add(stream.saturating_mul(2)),
            false => embedded,
        };
        let block = match recomputes {
            true => stream,
            false => self.block_pass(rows),
        };
        let final_norm = match self.config.architecture.norms_after() {
            true => 0,
            false => self.norm(self.config.hidden_size),
        };
        let (blocks, ends) = match reads_last && n_blocks > 0 {
            true => (
                block
                    .saturating_mul(n_blocks - 1)
                    .saturating_add(self.last_block_pass(rows)),
                rows.n.saturating_mul(4 * self.config.hidden_size),
            ),
            false => (
                block.saturating_mul(n_blocks),
                rows.tokens.saturating_mul(final_norm),
            ),
        };
        // A LayerNorm of what has no history keeps only what follows its division, and, where its
        // weights do not learn, its result alone.
        let first_block_is_kept = !recomputes || (reads_last && n_blocks == 1);
        let bare = !self.trains_embedding()
            && n_blocks > 0
            && self.config.architecture == Architecture::Gpt2
            && first_block_is_kept;
        let results = if self.lora.is_some() { 4 } else { 2 };
        let unkept = match bare {
            true => rows
                .tokens
                .saturating_mul(results * self.config.hidden_size + 6),
            false => 0,
        };
        // Nor does the norm then need what it was given, where the residual stream goes on from the
        // last positions alone.
        let is_needed = self.lora.is_none()
            || !(reads_last && n_blocks == 1)
            || self.config.architecture.norms_after();
        let embedded = if is_needed { embedded } else { 0 };
        // What each token sees, as a query and as a key: a position and a place among the texts; once
        // more as a key for the last positions.
        let sight = match (n_blocks, reads_last) {
            (0, _) => 0,
            (_, false) => rows.tokens.saturating_mul(8),
            (1, true) => rows.tokens.saturating_mul(4),
            (_, true) => rows.tokens.saturating_mul(12),
        };
        let kept = embedded.saturating_add(blocks).saturating_add(ends);
        let kept = kept.saturating_add(sight);
        kept.saturating_sub(unkept)
    }

    /// What the backward pass of one block works with at its worst moment, `rows` being those that
    /// pass together: candle adds each gradient by a token to zeros, so that several tensors of a kind
    /// live side by side. Gradients of weights are added where they lie.
    pub fn backward_of_block(&self, rows: Rows, recomputes: bool) -> usize {
        let (hidden, inner) = (self.config.hidden_size, self.config.intermediate_size);
        let of_tokens = |numbers: usize| rows.tokens.saturating_mul(numbers);
        let feed_forward = of_tokens(5 * inner);
        let weights = match self.lora {
            None => of_tokens(4 * inner + 2 * hidden),
            // The gradient of a sum goes to both of its parts.
            Some(lora) => {
                of_tokens(6 * inner + 2 * hidden).saturating_add(2 * lora.rank * (hidden + inner))
            }
        };
        // By queries, keys and values of each head apart, and of all together.
        let attention = of_tokens(6 * self.queries() + 2 * self.keys());
        let norms = match self.config.architecture.is_gpt() {
            true => of_tokens(4 * hidden),
            false => 0,
        };
        let again = match recomputes {
            true => self.block_pass(rows).saturating_add(of_tokens(2 * hidden)),
            false => 0,
        };
        let parts = [
            of_tokens(4 * hidden),
            norms,
            feed_forward.max(weights).max(attention),
        ];
        parts.into_iter().fold(again, usize::saturating_add)
    }

    /// Bytes that a page of a key-value cache takes.
    pub fn page_bytes(&self) -> usize {
        2 * self.config.num_hidden_layers * self.keys() * PAGE * size_of::<f32>()
    }
}
