//! Passes over rows however they are divided, also with dropout. Where rows hold several texts
//! each, attention stays within each text, and the texts that it goes on from.

use std::ops::Range;
use std::sync::Arc;

use candle_core::Tensor;

use super::{Block, Transformer};
use crate::error::Result;
use crate::model::attention::{Pass, Rotation, Sight, attend, merge_heads, split_heads};
use crate::model::batch::TokenBatch;
use crate::model::dropout::Dropout;
use crate::model::recompute;
use crate::model::segments::{Group, Segments};

/// Rotations of a group's queries and keys, where positions rotate.
struct Rotations {
    queries: Option<Arc<Rotation>>,
    keys: Option<Arc<Rotation>>,
}

/// The division of a batch's rows, with what is computed once for all blocks.
struct Division {
    segments: Arc<Segments>,
    rotations: Vec<Rotations>,
}

impl Division {
    fn new(model: &Transformer, segments: &Arc<Segments>) -> Result<Self> {
        let rotations = |group: &Group| -> Result<Rotations> {
            // Keys are the tokens of positions 0, 1, ...
            let keys = model.rotation(0, group.n_keys)?.map(Arc::new);
            let queries = match &group.behind {
                Some((_, positions)) => model.rotation_at(positions)?.map(Arc::new),
                None => keys.clone(),
            };
            Ok(Rotations { queries, keys })
        };
        Ok(Self {
            segments: Arc::clone(segments),
            rotations: segments
                .groups
                .iter()
                .map(rotations)
                .collect::<Result<_>>()?,
        })
    }
}

impl Transformer {
    /// Like [`Self::upper`], also for rows of several texts.
    ///
    /// # Errors
    /// On shapes that do not fit.
    pub fn upper_of(&self, lower: &Tensor, batch: &TokenBatch, pass: Pass) -> Result<Tensor> {
        let range = self.n_frozen..self.blocks.len();
        let top = self.run(lower.clone(), range, batch, pass, None)?;
        self.finish(&top, pass)
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
        let top = self.run(
            lower,
            self.n_frozen..self.blocks.len(),
            batch,
            pass,
            dropout,
        )?;
        self.finish(&top, pass)
    }

    /// Blocks over the rows of a batch, however they are divided.
    pub(super) fn run(
        &self,
        mut x: Tensor,
        range: Range<usize>,
        batch: &TokenBatch,
        pass: Pass,
        dropout: Option<&Dropout>,
    ) -> Result<Tensor> {
        let Some(segments) = &batch.segments else {
            return self.run_blocks(x, range, pass, dropout);
        };
        let division = Arc::new(Division::new(self, segments)?);
        let own = self.to_recompute(pass);
        for index in range {
            x = match &own {
                None => self.run_divided_block(index, &x, &division, pass, dropout)?,
                Some(own) => {
                    let (own, division) = (Arc::clone(own), Arc::clone(&division));
                    let dropout = dropout.cloned();
                    recompute::segment(&x, move |x| {
                        own.run_divided_block(index, x, &division, pass, dropout.as_ref())
                    })?
                }
            };
            if pass == Pass::Frozen {
                // As in rows of one text each.
                x = x.detach();
            }
        }
        Ok(x)
    }

    fn run_divided_block(
        &self,
        index: usize,
        x: &Tensor,
        division: &Division,
        pass: Pass,
        dropout: Option<&Dropout>,
    ) -> Result<Tensor> {
        let block = &self.blocks[index];
        let merged = self.attend_within(division, block, x, pass)?;
        let dropout = dropout.map(|dropout| (dropout, index));
        self.add_to_stream(block, x, &merged, pass, dropout)
    }

    /// What a block's attention says to each token, `[batch, time, width]`, from the block's input.
    fn attend_within(
        &self,
        division: &Division,
        block: &Block,
        x: &Tensor,
        pass: Pass,
    ) -> Result<Tensor> {
        let (rows, time, _) = x.dims3()?;
        let normed = self.before_attention(block, x, pass)?;
        let flat = |x: Tensor| -> Result<Tensor> { Ok(x.flatten(0, 1)?.contiguous()?) };
        let q = flat(self.query_rows(block, &normed, pass)?)?;
        let (k, v) = self.key_and_value_rows(block, &normed, pass)?;
        let (k, v) = (flat(k)?, flat(v)?);
        let (heads, key_heads) = (
            self.config.num_attention_heads,
            self.config.num_key_value_heads,
        );
        let mut parts = Vec::with_capacity(division.rotations.len());
        let groups = division.segments.groups.iter().zip(&division.rotations);
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
        let own = all.index_select(&division.segments.order, 0)?;
        Ok(own.reshape((rows, time, own.dim(1)?))?)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::path::Path;

    use candle_core::{DType, Device};

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

    /// The form that is our own, and the one of other devices and types.
    #[test]
    fn both_forms_of_attention_see_the_same_keys_behind_a_prefix() {
        let q = random("q", &[2, 4, 3, 8]);
        let (k, v) = (random("k", &[2, 2, 7, 8]), random("v", &[2, 2, 7, 8]));
        let behind: Arc<[usize]> = [2, 4].into();
        let double = |x: &Tensor| x.to_dtype(DType::F64).unwrap();
        let sight = Sight::Behind(&behind);
        let ours = attend(&q, &k, &v, sight, Pass::Tracked).unwrap();
        for pass in [Pass::Tracked, Pass::Frozen] {
            let plain = attend(&double(&q), &double(&k), &double(&v), sight, pass).unwrap();
            assert!(distance(&plain.to_dtype(DType::F32).unwrap(), &ours) < 1e-5);
        }
    }
}
