//! Passes over rows however they are divided, also with dropout. Where rows hold several texts
//! each, attention stays within each text, and the texts that it goes on from.

use std::ops::Range;
use std::sync::Arc;

use candle_core::Tensor;

use super::Transformer;
use crate::error::Result;
use crate::model::attention::{Pass, Rotation, Sight, attend, merge_heads, split_heads};
use crate::model::batch::TokenBatch;
use crate::model::dropout::Dropout;
use crate::model::recompute;
use crate::model::segments::{Group, Segments};
use crate::nn;

/// Rotations of a group's queries and keys, where positions rotate.
pub(super) struct Rotations {
    queries: Option<Arc<Rotation>>,
    keys: Option<Arc<Rotation>>,
}

/// How the texts of a batch attend, worked out once for all blocks.
pub(super) enum Division {
    /// By our own operation.
    Fused(Arc<nn::attention::Sight>),
    /// Rows of one text each, by candle's operations.
    Rows(Option<Rotation>),
    /// Rows of several texts, by candle's operations: the groups, and the way back from them.
    Groups(Vec<(Group, Rotations)>, Tensor),
}

impl Division {
    pub(super) fn new(
        model: &Transformer,
        x: &Tensor,
        segments: Option<&Arc<Segments>>,
        is_fused: bool,
    ) -> Result<Self> {
        let (rows, time, _) = x.dims3()?;
        match segments {
            Some(segments) if is_fused => Ok(Self::Fused(Arc::new(segments.sight()?))),
            None if is_fused => {
                let sight = nn::attention::Sight::rows(rows, time)?;
                Ok(Self::Fused(Arc::new(sight)))
            }
            Some(segments) => Self::groups(model, segments),
            None => Ok(Self::Rows(model.rotation(0, time)?)),
        }
    }

    fn groups(model: &Transformer, segments: &Segments) -> Result<Self> {
        let rotations = |group: &Group| -> Result<Rotations> {
            // Keys are the tokens of positions 0, 1, ...
            let keys = model.rotation(0, group.n_keys)?.map(Arc::new);
            let queries = match &group.behind {
                Some((_, positions)) => model.rotation_at(positions)?.map(Arc::new),
                None => keys.clone(),
            };
            Ok(Rotations { queries, keys })
        };
        let (groups, order) = segments.groups(&model.device)?;
        let groups = groups.into_iter().map(|group| {
            let rotations = rotations(&group)?;
            Ok((group, rotations))
        });
        Ok(Self::Groups(groups.collect::<Result<_>>()?, order))
    }
}

impl Transformer {
    /// Output of the trainable blocks and the final norm, `[batch, time, hidden]`.
    ///
    /// # Errors
    /// On shapes that do not fit.
    pub fn upper_of(&self, lower: &Tensor, batch: &TokenBatch, pass: Pass) -> Result<Tensor> {
        self.upper_from_of(lower, self.n_frozen, batch, pass)
    }

    /// The same through this model's blocks `n..`, for a model with nothing to train that shares the
    /// `lower` of one whose first `n` blocks are frozen.
    ///
    /// # Errors
    /// On shapes that do not fit.
    pub fn upper_from_of(
        &self,
        lower: &Tensor,
        n: usize,
        batch: &TokenBatch,
        pass: Pass,
    ) -> Result<Tensor> {
        let (range, segments) = (n..self.blocks.len(), batch.segments.as_ref());
        let top = self.run(lower.clone(), range, segments, pass, None)?;
        self.finish(&top, pass)
    }

    /// Like [`Self::upper_of`] for the last real position of each row only, `[rows, hidden]`: all
    /// that a score reads. The top block computes keys and values for every position and the rest
    /// for one, which saves nearly all of its work.
    ///
    /// # Errors
    /// On shapes that do not fit.
    pub fn upper_last(&self, lower: &Tensor, batch: &TokenBatch, pass: Pass) -> Result<Tensor> {
        let top = self.blocks.len() - 1;
        let last = batch.last_segments();
        let is_fused = nn::is_fused(lower);
        // Rows in one are known by their segments; of others that hold several texts no row is.
        let is_known = match batch.segments {
            Some(_) => is_fused && last.is_some(),
            None => true,
        };
        if self.n_frozen > top || !is_known {
            return batch.last(&self.upper_of(lower, batch, pass)?);
        }
        let (range, segments) = (self.n_frozen..top, batch.segments.as_ref());
        let x = self.run(lower.clone(), range, segments, pass, None)?;
        let (_, time, _) = x.dims3()?;
        let block = &self.blocks[top];
        let normed = self.before_attention(block, &x, pass)?;
        let one = |all: &Tensor| -> Result<Tensor> { Ok(batch.last(all)?.unsqueeze(1)?) };
        let merged = if is_fused {
            let sight = match (segments, &last) {
                (Some(segments), Some(last)) => segments.sight_of_ends(last)?,
                _ => nn::attention::Sight::ends(&batch.lengths, time)?,
            };
            let q = self.query_rows(block, &one(&normed)?, pass)?;
            let (k, v) = self.key_and_value_rows(block, &normed, pass)?;
            self.attend_fused((&q, &k, &v), &Arc::new(sight))?
        } else {
            let rotation = self.rotation(0, time)?;
            let (k, v) = self.keys_and_values(block, &normed, rotation.as_ref(), pass)?;
            let rotation = self.rotation_at(&batch.last_positions(&self.device)?)?;
            let q = self.queries(block, &one(&normed)?, rotation.as_ref(), pass)?;
            let mask = batch.length_mask(&self.device)?;
            merge_heads(&attend(&q, &k, &v, Sight::Mask(&mask), pass)?)?
        };
        let top = self.add_to_stream(block, &one(&x)?, &merged, pass, None)?;
        self.finish(&top.squeeze(1)?, pass)
    }

    /// [`Transformer::hidden`] with dropout in every block, also in frozen ones, as in a training pass of PyTorch.
    ///
    /// # Errors
    /// When a row is longer than the context.
    pub fn hidden_with(
        &self,
        batch: &TokenBatch,
        pass: Pass,
        dropout: Option<&Dropout>,
    ) -> Result<Tensor> {
        let lower = self.lower_with(batch, dropout)?;
        let (range, segments) = (self.n_frozen..self.blocks.len(), batch.segments.as_ref());
        let top = self.run(lower, range, segments, pass, dropout)?;
        self.finish(&top, pass)
    }

    /// Blocks over rows, which hold one text each where they are not divided.
    pub(super) fn run(
        &self,
        x: Tensor,
        range: Range<usize>,
        segments: Option<&Arc<Segments>>,
        pass: Pass,
        dropout: Option<&Dropout>,
    ) -> Result<Tensor> {
        if range.is_empty() {
            return Ok(x);
        }
        let division = Division::new(self, &x, segments, nn::is_fused(&x))?;
        self.run_divided(x, range, division, pass, dropout)
    }

    fn run_divided(
        &self,
        mut x: Tensor,
        range: Range<usize>,
        division: Division,
        pass: Pass,
        dropout: Option<&Dropout>,
    ) -> Result<Tensor> {
        let division = Arc::new(division);
        let own = self.to_recompute(pass);
        for index in range {
            x = match &own {
                None => self.run_block(index, &x, &division, pass, dropout)?,
                Some(own) => {
                    let (own, division) = (Arc::clone(own), Arc::clone(&division));
                    let dropout = dropout.cloned();
                    recompute::segment(&x, move |x| {
                        own.run_block(index, x, &division, pass, dropout.as_ref())
                    })?
                }
            };
            if pass == Pass::Frozen {
                // Weights that learn would make our own operations keep history all the same.
                x = x.detach();
            }
        }
        Ok(x)
    }

    fn run_block(
        &self,
        index: usize,
        x: &Tensor,
        division: &Division,
        pass: Pass,
        dropout: Option<&Dropout>,
    ) -> Result<Tensor> {
        let block = &self.blocks[index];
        let normed = self.before_attention(block, x, pass)?;
        let q = self.query_rows(block, &normed, pass)?;
        let (k, v) = self.key_and_value_rows(block, &normed, pass)?;
        let merged = self.attend_divided(division, (&q, &k, &v), pass)?;
        let dropout = dropout.map(|dropout| (dropout, index));
        self.add_to_stream(block, x, &merged, pass, dropout)
    }

    /// What attention says to each token, `[rows, time, width]`, of queries, keys and values of that
    /// shape, in rows of several texts.
    pub(super) fn attend_divided(
        &self,
        division: &Division,
        (q, k, v): (&Tensor, &Tensor, &Tensor),
        pass: Pass,
    ) -> Result<Tensor> {
        match division {
            Division::Fused(sight) => self.attend_fused((q, k, v), sight),
            Division::Groups(groups, order) => {
                self.attend_in_groups(groups, order, (q, k, v), pass)
            }
            Division::Rows(rotation) => {
                let (heads, key_heads) = (
                    self.config.num_attention_heads,
                    self.config.num_key_value_heads,
                );
                let q = split_heads(q, heads, rotation.as_ref())?;
                let k = split_heads(k, key_heads, rotation.as_ref())?;
                let v = split_heads(v, key_heads, None)?;
                merge_heads(&attend(&q, &k, &v, Sight::Causal, pass)?)
            }
        }
    }

    /// Our own operation over queries, keys and values `[rows, time, width]`.
    fn attend_fused(
        &self,
        (q, k, v): (&Tensor, &Tensor, &Tensor),
        sight: &Arc<nn::attention::Sight>,
    ) -> Result<Tensor> {
        let (shape, dim) = (q.shape(), self.config.head_dim);
        let table = self.rotary_table();
        let (q, k, v) = (q.flatten(0, 1)?, k.flatten(0, 1)?, v.flatten(0, 1)?);
        let merged = nn::attention::attend((&q, &k, &v), dim, sight, table)?;
        Ok(merged.reshape(shape)?)
    }

    /// What attention says to each token, `[batch, time, width]`, of queries, keys and values of that
    /// shape.
    fn attend_in_groups(
        &self,
        groups: &[(Group, Rotations)],
        order: &Tensor,
        (q, k, v): (&Tensor, &Tensor, &Tensor),
        pass: Pass,
    ) -> Result<Tensor> {
        let (rows, time, _) = q.dims3()?;
        let flat = |x: &Tensor| -> Result<Tensor> { Ok(x.flatten(0, 1)?.contiguous()?) };
        let (q, k, v) = (flat(q)?, flat(k)?, flat(v)?);
        let (heads, key_heads) = (
            self.config.num_attention_heads,
            self.config.num_key_value_heads,
        );
        let mut parts = Vec::with_capacity(groups.len());
        for (group, rotations) in groups {
            let pick = |x: &Tensor, at: &Tensor, length: usize| -> Result<Tensor> {
                let picked = x.index_select(at, 0)?;
                Ok(picked.reshape((group.n, length, x.dim(1)?))?)
            };
            let q = pick(&q, &group.queries, group.time)?;
            let k = pick(&k, &group.keys, group.n_keys)?;
            let v = pick(&v, &group.keys, group.n_keys)?;
            let q = split_heads(&q, heads, rotations.queries.as_deref())?;
            let k = split_heads(&k, key_heads, rotations.keys.as_deref())?;
            let v = split_heads(&v, key_heads, None)?;
            let sight = match &group.behind {
                Some((behind, _)) => Sight::Behind(behind),
                None => Sight::Causal,
            };
            let merged = merge_heads(&attend(&q, &k, &v, sight, pass)?)?;
            parts.push(merged.flatten(0, 1)?);
        }
        let all = Tensor::cat(&parts, 0)?;
        let own = all.index_select(order, 0)?;
        Ok(own.reshape((rows, time, own.dim(1)?))?)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::path::Path;

    use candle_core::Device;

    use super::*;
    use crate::model::segments::Segment;
    use crate::model::weights::Trainable;
    use crate::nn::test_support::{distance, random};

    const PROMPT: [u32; 5] = [3, 9, 27, 20, 1];
    const ANSWERS: [&[u32]; 3] = [&[8, 15, 4, 11, 30, 2, 7], &[5, 1], &[40, 41, 42, 1]];

    /// A row of one text, and one of a prompt that is there once for all its answers, of which the
    /// last is gone on from.
    fn batch() -> (TokenBatch, Vec<Vec<u32>>) {
        let prompt = Segment::alone(&PROMPT);
        let answer = |index: usize| Segment {
            tokens: ANSWERS[index],
            prefix: Some(0),
        };
        let more = Segment {
            tokens: &PROMPT,
            prefix: Some(3),
        };
        let alone = Segment::alone(ANSWERS[0]);
        let rows = [
            vec![alone],
            vec![prompt, answer(0), answer(1), answer(2), more],
        ];
        let joined = |answer: &[u32]| [&PROMPT, answer].concat();
        let mut whole = vec![ANSWERS[0].to_vec(), PROMPT.to_vec()];
        whole.extend(ANSWERS.map(joined));
        whole.push([&joined(ANSWERS[2])[..], &PROMPT].concat());
        (TokenBatch::packed(&rows, 0, &Device::Cpu).unwrap(), whole)
    }

    /// In networks with rotating and with learned positions, with norms of heads, and with norms
    /// after each layer; in value and in gradient.
    #[test]
    fn answers_that_share_their_prompt_are_what_each_is_alone() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let (batch, whole) = batch();
        let at = [(0, 0), (1, 0), (1, 1), (1, 2), (1, 3), (1, 4)];
        for name in [
            "tiny",
            "families/gpt2",
            "families/qwen3",
            "families/openai-gpt",
        ] {
            for trainable in [Trainable::Everything, Trainable::UpperLayers(1)] {
                let model = Transformer::load(&fixtures.join(name), &Device::Cpu, trainable);
                let model = model.unwrap();
                let width = model.config.hidden_size;
                let hidden = model.hidden(&batch, Pass::Tracked).unwrap();
                let halves = model.lower(&batch).unwrap();
                let halves = model.upper_of(&halves, &batch, Pass::Frozen).unwrap();
                assert!(distance(&halves, &hidden) < 1e-5);
                let flat = hidden.flatten(0, 1).unwrap();
                let (mut shared, mut alone) = (Vec::new(), Vec::new());
                for (text, (row, segment)) in whole.iter().zip(at) {
                    // Weights of a loss over a segment's own tokens.
                    let n = match segment {
                        0 => text.len(),
                        4 => PROMPT.len(),
                        _ => text.len() - PROMPT.len(),
                    };
                    let weights = random(&format!("{row} {segment}"), &[n, width]);
                    let start = batch.segment_index(row, segment, 0) as usize;
                    let own = flat.narrow(0, start, n).unwrap();
                    let by_itself =
                        TokenBatch::new(std::slice::from_ref(text), 0, &Device::Cpu).unwrap();
                    let by_itself = model.hidden(&by_itself, Pass::Tracked).unwrap();
                    let by_itself = by_itself.get(0).unwrap();
                    let by_itself = by_itself.narrow(0, text.len() - n, n).unwrap();
                    let d = distance(&own, &by_itself);
                    assert!(d < 1e-4, "{name}, segment {segment} of row {row}: {d:e}");
                    shared.push((own * &weights).unwrap().sum_all().unwrap());
                    alone.push((by_itself * &weights).unwrap().sum_all().unwrap());
                }
                let gradients = |parts: &[Tensor]| {
                    let sum = Tensor::stack(parts, 0).unwrap().sum_all().unwrap();
                    sum.backward().unwrap()
                };
                let (shared, alone) = (gradients(&shared), gradients(&alone));
                let largest = |of: &Tensor| -> f32 {
                    let largest = of.abs().unwrap().max_all().unwrap();
                    largest.to_scalar().unwrap()
                };
                // Nothing is learnt of an unused position, and nothing but rounding of a key's bias.
                let variables = model.weights().variables();
                let found = variables.iter().filter_map(|(name, variable)| {
                    Some((name, shared.get(variable)?, alone.get(variable)?))
                });
                let found: Vec<_> = found.collect();
                assert!(found.len() > 8, "{} gradients", found.len());
                let least = found.iter().map(|(_, _, expected)| largest(expected));
                let least = 0.01 * least.fold(0.0, f32::max);
                for (name, shared, expected) in found {
                    let d = distance(shared, expected) / largest(expected).max(least);
                    assert!(d < 1e-5, "{name}: {d:e}");
                }
            }
        }
    }

    /// Item 27's twin for packed rows: what stands beside a text does not reach it.
    #[test]
    fn a_neighbour_changes_nothing_to_the_bit() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/families/gpt2");
        let model = Transformer::load(&folder, &Device::Cpu, Trainable::Nothing).unwrap();
        let first = |neighbour: &[u32]| {
            let row = vec![Segment::alone(neighbour), Segment::alone(ANSWERS[0])];
            let batch = TokenBatch::packed(&[row], 0, &Device::Cpu).unwrap();
            let hidden = model.hidden(&batch, Pass::Frozen).unwrap().get(0).unwrap();
            hidden.narrow(0, 6, ANSWERS[0].len()).unwrap()
        };
        let found = distance(
            &first(&[1, 2, 3, 4, 5, 6]),
            &first(&[50, 51, 52, 53, 54, 55]),
        );
        assert_eq!(found, 0.0);
    }

    #[test]
    fn a_text_is_limited_by_the_context_and_a_row_is_not() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/families/gpt2");
        let model = Transformer::load(&folder, &Device::Cpu, Trainable::Nothing).unwrap();
        assert_eq!(model.config.max_position_embeddings, 32);
        let hidden = |rows: Vec<Segment>| {
            let batch = TokenBatch::packed(&[rows], 0, &Device::Cpu).unwrap();
            model.hidden(&batch, Pass::Frozen)
        };
        let long = [7; 32];
        hidden(vec![Segment::alone(&long); 3]).unwrap();
        let on = Segment {
            tokens: &[1],
            prefix: Some(0),
        };
        let error = hidden(vec![Segment::alone(&long), on]).unwrap_err();
        assert!(error.to_string().contains("a row has 33"), "{error}");
    }

    /// Of rows of one text each, and of several: what other devices compute with.
    #[test]
    fn candles_operations_come_to_the_same_as_our_own() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let (packed, whole) = batch();
        let rows = TokenBatch::new(&whole, 0, &Device::Cpu).unwrap();
        for name in ["tiny", "families/gpt2", "families/qwen3"] {
            let folder = fixtures.join(name);
            let model = Transformer::load(&folder, &Device::Cpu, Trainable::Everything).unwrap();
            for batch in [&packed, &rows] {
                let lower = model.lower(batch).unwrap();
                let segments = batch.segments.as_ref();
                let run = |is_fused| {
                    let division = Division::new(&model, &lower, segments, is_fused).unwrap();
                    let range = 0..model.blocks.len();
                    let run =
                        model.run_divided(lower.clone(), range, division, Pass::Tracked, None);
                    run.unwrap()
                };
                let (ours, plain) = (run(true), run(false));
                for (row, length) in batch.lengths.iter().enumerate() {
                    let own = |all: &Tensor| all.get(row).unwrap().narrow(0, 0, *length).unwrap();
                    let d = distance(&own(&ours), &own(&plain));
                    assert!(d < 1e-4, "{name}: {d:e}");
                }
            }
        }
    }

    /// Rows in one give what they give side by side: their last positions, and every other.
    #[test]
    fn rows_that_share_a_beginning_are_what_they_are_side_by_side() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let (_, rows) = batch();
        let views: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        // The first is of another prompt.
        let sets = [vec![0], (1..rows.len()).collect::<Vec<usize>>()];
        let shared = TokenBatch::sharing(&views, &sets, &Device::Cpu).unwrap();
        let padded = TokenBatch::new(&rows, 0, &Device::Cpu).unwrap();
        for name in ["tiny", "families/gpt2", "families/openai-gpt"] {
            for trainable in [Trainable::Everything, Trainable::UpperLayers(1)] {
                let folder = fixtures.join(name);
                let model = Transformer::load(&folder, &Device::Cpu, trainable).unwrap();
                let pass = |batch: &TokenBatch| {
                    let lower = model.lower(batch).unwrap();
                    let last = model.upper_last(&lower, batch, Pass::Tracked).unwrap();
                    let hidden = model.hidden(batch, Pass::Tracked).unwrap();
                    let d = distance(&last, &batch.last(&hidden).unwrap());
                    assert!(d < 1e-5, "{name}: {d:e}");
                    (last, batch.unstack(&hidden).unwrap())
                };
                // To the bit: the same sums in the same order.
                let (shared, padded) = (pass(&shared), pass(&padded));
                assert_eq!(distance(&shared.0, &padded.0), 0.0, "{name}");
                for (shared, padded) in shared.1.iter().zip(&padded.1) {
                    assert_eq!(distance(shared, padded), 0.0, "{name}");
                }
            }
        }
    }
}
