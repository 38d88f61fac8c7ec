//! How many numbers a network has, and how many a pass through it keeps for the backward pass, from
//! its shape alone. All counts are of f32 numbers, and of the operations for CPU ([`crate::nn`]).
//! What each operation keeps follows from candle: a result lives as long as the graph, together
//! with what it was computed from.

use crate::model::architecture::Architecture;
use crate::model::transformer_config::{Positions, TransformerConfig};
use crate::model::weights::Trainable;

/// A network and which part of it learns.
#[derive(Clone, Copy)]
pub struct Network<'a> {
    /// Its shape.
    pub config: &'a TransformerConfig,
    /// Which part learns.
    pub trainable: Trainable,
    /// A head of one number in place of the projection to the vocabulary.
    pub is_scorer: bool,
}

/// Rows of tokens padded to one length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rows {
    /// How many rows.
    pub n: usize,
    /// Their length, in tokens.
    pub time: usize,
    /// They are texts that share rows, see [`crate::model::segments`].
    pub is_packed: bool,
    /// The pass draws dropout.
    pub drops: bool,
}

impl Rows {
    /// Rows side by side.
    pub fn new(n: usize, time: usize) -> Self {
        Self {
            n,
            time,
            is_packed: false,
            drops: false,
        }
    }

    /// A packed row of so many tokens. Texts of the longest kind attend to most, so it is taken for
    /// one of them alone.
    pub fn packed(tokens: usize, longest: usize) -> Self {
        let n = (tokens / longest.max(1)).max(1);
        Self {
            is_packed: true,
            ..Self::new(n, tokens.max(longest) / n)
        }
    }

    fn tokens(self) -> usize {
        self.n * self.time
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
        match self.is_scorer {
            true => self.config.hidden_size,
            false => 0,
        }
    }

    /// Numbers of the whole network.
    pub fn weights(&self) -> usize {
        let config = self.config;
        let positions = match config.positions {
            Positions::Learned => config.max_position_embeddings * config.hidden_size,
            Positions::Rotary { .. } => 0,
        };
        let output = match self.is_scorer || config.tie_word_embeddings {
            true => 0,
            false => self.vocabulary(),
        };
        self.vocabulary()
            + positions
            + output
            + config.num_hidden_layers * self.block()
            + self.final_norm()
            + self.top()
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
            Trainable::UpperLayers(_) => block,
            Trainable::Everything => block.max(self.vocabulary()),
        }
    }

    /// Whether the projection to the vocabulary learns.
    pub fn trains_projection(&self) -> bool {
        !self.is_scorer && self.trainable == Trainable::Everything
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

    /// Keys and values of one token: projected, normed, split into heads.
    fn keys_and_values(&self) -> usize {
        let (keys, biases) = (self.keys(), self.config.biases);
        let normed = match self.config.architecture.norms_heads() {
            true => keys,
            false => 0,
        };
        2 * Self::projection(keys, biases.attention_in) + normed + 2 * keys
    }

    /// Queries and everything after attention of one token: what a block keeps besides its norm,
    /// keys, values and scores.
    fn rest_of_block(&self) -> usize {
        let config = self.config;
        let (hidden, inner, queries) =
            (config.hidden_size, config.intermediate_size, self.queries());
        let biases = config.biases;
        let normed = match config.architecture.norms_heads() {
            true => queries,
            false => 0,
        };
        // Projected, normed, split; the attended values, and those with heads side by side.
        let attention = Self::projection(queries, biases.attention_in) + normed + 3 * queries;
        let output = Self::projection(hidden, biases.attention_out) + hidden;
        let n_inner = if config.architecture.is_gpt() { 1 } else { 2 };
        let feed_forward = n_inner * Self::projection(inner, biases.feed_forward)
            + inner
            + Self::projection(hidden, biases.feed_forward)
            + hidden;
        attention + output + self.norm(hidden) + feed_forward
    }

    /// Attention's scores and their softmax.
    fn scores(&self, queries: usize, rows: Rows) -> usize {
        2 * rows.n * self.config.num_attention_heads * queries * rows.time
    }

    /// What one block keeps, without its input. Its last result is the next one's input.
    pub fn block_pass(&self, rows: Rows) -> usize {
        self.block_pass_without_scores(rows) + self.scores(rows.time, rows)
    }

    /// The same over a cache, where scores are never held.
    pub fn block_pass_without_scores(&self, rows: Rows) -> usize {
        let hidden = self.config.hidden_size;
        // Picked from the rows, put together again, and brought into their order.
        let packing = match rows.is_packed {
            true => 3 * self.queries() + 2 * self.keys(),
            false => 0,
        };
        // A mask and a product after attention and after the feed-forward layer.
        let dropout = if rows.drops { 4 * hidden } else { 0 };
        let token = self.norm(hidden) + self.keys_and_values() + self.rest_of_block();
        rows.tokens() * (token + packing + dropout)
    }

    /// What the block under a score keeps: keys and values of every position, the rest of one.
    fn last_block_pass(&self, rows: Rows) -> usize {
        let norm = self.norm(self.config.hidden_size);
        // GPT's first norm follows attention, and so is of one position too.
        let (before, after) = match self.config.architecture.norms_after() {
            true => (0, norm),
            false => (norm, 0),
        };
        let every = before + self.keys_and_values();
        // A softmax of plain operations: scores, masked, less the highest, powers, shares.
        let scores = 5 * rows.n * self.config.num_attention_heads * rows.time;
        rows.tokens() * every + rows.n * (after + self.rest_of_block()) + scores
    }

    /// What a pass with history keeps, up to the final norm and its input included. With
    /// `reads_last`, only the last position of each row is read, as scores are.
    pub fn pass(&self, rows: Rows, reads_last: bool, recomputes: bool) -> usize {
        let stream = rows.tokens() * self.config.hidden_size;
        let n_blocks = self.n_trained_blocks();
        let embedded = match (self.trainable, self.config.positions) {
            (Trainable::Everything, Positions::Learned) => 2 * stream,
            _ => stream,
        };
        let embedded = match rows.drops && self.trainable == Trainable::Everything {
            true => embedded + 2 * stream,
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
                (n_blocks - 1) * block + self.last_block_pass(rows),
                rows.n * 4 * self.config.hidden_size,
            ),
            false => (n_blocks * block, rows.tokens() * final_norm),
        };
        // A LayerNorm of what has no history keeps only what follows its division.
        let first_block_is_kept = !recomputes || (reads_last && n_blocks == 1);
        let bare = matches!(self.trainable, Trainable::UpperLayers(_))
            && self.config.architecture == Architecture::Gpt2
            && first_block_is_kept;
        let unkept = match bare {
            true => rows.tokens() * (2 * self.config.hidden_size + 6),
            false => 0,
        };
        embedded + blocks + ends - unkept
    }

    /// What the backward pass of one block works with at its worst moment, `rows` being those that
    /// pass together: candle adds each gradient to zeros, so that three or four tensors of a kind
    /// live side by side.
    pub fn backward_of_block(&self, rows: Rows, recomputes: bool) -> usize {
        let (hidden, inner) = (self.config.hidden_size, self.config.intermediate_size);
        let feed_forward = 6 * rows.tokens() * inner;
        let weights = rows.tokens() * (4 * inner + 2 * hidden) + 4 * hidden * inner;
        let attention = 2 * self.scores(rows.time, rows);
        let norms = match self.config.architecture.is_gpt() {
            true => 4 * rows.tokens() * hidden,
            false => 0,
        };
        let again = match recomputes {
            true => self.block_pass(rows) + 2 * rows.tokens() * hidden,
            false => 0,
        };
        again + 4 * rows.tokens() * hidden + norms + feed_forward.max(weights).max(attention)
    }

    /// Bytes that a key-value cache takes for each row of up to `capacity` positions.
    pub fn cache_bytes(&self, capacity: usize) -> usize {
        2 * self.config.num_hidden_layers * self.keys() * capacity * size_of::<f32>()
    }
}
