//! Attention as one operation, from projections to attended values, `[tokens, heads * dim]` each:
//! rotary embedding, scores, mask, softmax and the sum over values (Vaswani et al., arXiv
//! 1706.03762). What a text sees is told by [`Sight`], so texts of any length lie in one row, and the
//! completions of a prompt see that prompt where it lies, once.
//!
//! Probabilities exist for a block of 64 queries of a head at a time and are worked out again in the
//! backward pass (Dao et al., arXiv 2205.14135, without the tiles over keys: on CPU a block's
//! probabilities stay in the cache). Query heads that share a key head share its keys. What a query
//! comes to has the same bits wherever the keys lie that it sees, and whatever lies beside them.

mod backward;
mod sight;

use std::ops::Range;
use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Storage, Tensor};
use rayon::prelude::*;

pub use self::sight::{Sight, Text};
use super::tiles::{Left, Right, Size, product};
use super::{numbers, simd};

/// Queries whose probabilities exist together.
const BLOCK: usize = 64;

/// Cosines and sines of the rotary embedding, by position, `[positions, dim / 2]` each.
#[derive(Debug)]
pub struct Table {
    /// Cosines.
    pub cos: Vec<f32>,
    /// Sines.
    pub sin: Vec<f32>,
}

impl Table {
    /// How many positions there are, for heads of so many numbers.
    pub(super) fn positions(&self, dim: usize) -> usize {
        2 * self.cos.len() / dim
    }

    /// Rotates a head for a position (Su et al., arXiv 2104.09864); backwards for a `direction` of -1.
    pub(super) fn rotate(&self, from: &[f32], to: &mut [f32], position: usize, direction: f32) {
        let half = from.len() / 2;
        let start = position * half;
        let (cos, sin) = (&self.cos[start..][..half], &self.sin[start..][..half]);
        let (first, second) = from.split_at(half);
        let (to_first, to_second) = to.split_at_mut(half);
        for i in 0..half {
            let sin = sin[i] * direction;
            to_first[i] = first[i] * cos[i] - second[i] * sin;
            to_second[i] = second[i] * cos[i] + first[i] * sin;
        }
    }
}

/// Queries `q` `[queries, heads * dim]` attend to keys `k` and values `v` `[keys, key_heads * dim]`;
/// returns the shape of `q`, zeros where a row is of no text. With a `table`, queries and keys are
/// rotated first, by their positions.
///
/// # Errors
/// On shapes that do not fit.
pub fn attend(
    (q, k, v): (&Tensor, &Tensor, &Tensor),
    dim: usize,
    sight: &Arc<Sight>,
    table: Option<&Arc<Table>>,
) -> Result<Tensor> {
    let attention = Attention {
        dim,
        sight: Arc::clone(sight),
        table: table.cloned(),
    };
    q.contiguous()?
        .apply_op3(&k.contiguous()?, &v.contiguous()?, attention)
}

struct Attention {
    dim: usize,
    sight: Arc<Sight>,
    table: Option<Arc<Table>>,
}

/// What both passes go by.
#[derive(Clone, Copy)]
struct Plan<'a> {
    sight: &'a Sight,
    table: Option<&'a Table>,
    dim: usize,
    heads: usize,
    key_heads: usize,
}

/// Keys of one tree and key head, and for the backward pass values, in the forms that products want.
struct Keys {
    /// Rotated, `[keys, dim]`.
    rows: Vec<f32>,
    /// The same by columns, `[dim, stride]`.
    columns: Vec<f32>,
    /// The values by columns; empty where they are not wanted.
    values: Vec<f32>,
    stride: usize,
}

/// Some neighbouring queries of a text.
struct Block {
    /// Among all queries.
    queries: Range<usize>,
    /// Keys that the first of them sees, of the text's keys in their order.
    seen: usize,
    /// Keys that the last one sees.
    columns: usize,
}

/// What work on a block needs, kept from one to the next.
#[derive(Default)]
struct Scratch {
    /// Queries, rotated and scaled, `[queries, dim]`.
    q: Vec<f32>,
    /// `[queries, columns]`.
    scores: Vec<f32>,
    /// One over each query's sum of powers.
    shares: Vec<f32>,
}

impl Attention {
    fn plan(&self, q: &Layout, k: &Layout, v: &Layout) -> Result<Plan<'_>> {
        let ((queries, width), (keys, key_width)) = (q.shape().dims2()?, k.shape().dims2()?);
        let (heads, key_heads) = (width / self.dim, key_width / self.dim);
        let fits = k.shape() == v.shape()
            && self.sight.fits(queries, keys)
            && key_heads > 0
            && (heads * self.dim, key_heads * self.dim) == (width, key_width)
            && heads % key_heads == 0;
        if !fits {
            candle_core::bail!(
                "queries {:?}, keys {:?} and values {:?} do not fit what they see",
                q.shape(),
                k.shape(),
                v.shape()
            );
        }
        if let Some(table) = &self.table {
            let positions = table.positions(self.dim);
            if self.sight.highest_position() >= positions {
                candle_core::bail!("a text is longer than the {positions} positions there are");
            }
        }
        Ok(Plan {
            sight: &self.sight,
            table: self.table.as_deref(),
            dim: self.dim,
            heads,
            key_heads,
        })
    }
}

impl Plan<'_> {
    fn width(&self) -> usize {
        self.heads * self.dim
    }

    fn key_width(&self) -> usize {
        self.key_heads * self.dim
    }

    fn scale(&self) -> f32 {
        (self.dim as f32).sqrt().recip()
    }

    /// The key head of a query head.
    fn key_head(&self, head: usize) -> usize {
        head * self.key_heads / self.heads
    }

    /// `work` for each tree and each of `heads` heads, on all cores; one tree after the other.
    fn for_each<T: Send>(
        &self,
        heads: usize,
        work: impl Fn(usize, usize) -> T + Send + Sync,
    ) -> Vec<T> {
        let n = self.sight.trees.len() * heads;
        let all = (0..n).into_par_iter();
        all.map(|index| work(index / heads, index % heads))
            .collect()
    }

    /// Rotates `from` for a position; backwards for a `direction` of -1.
    fn rotate(&self, from: &[f32], to: &mut [f32], position: u32, direction: f32) {
        match self.table {
            Some(table) => table.rotate(from, to, position as usize, direction),
            None => to.copy_from_slice(from),
        }
    }

    /// The keys of each tree and key head; the values too where `v` is given.
    fn keys(&self, k: &[f32], v: Option<&[f32]>) -> Vec<Keys> {
        let dim = self.dim;
        self.for_each(self.key_heads, |tree, head| {
            let range = self.sight.trees[tree].keys.clone();
            let n = range.len();
            // An odd number of cache lines: rows that are a power of two apart would push each other
            // out of the cache.
            let stride = n.next_multiple_of(16) | 16;
            let mut rows = vec![0.0; n * dim];
            for (key, to) in range.clone().zip(rows.chunks_mut(dim)) {
                let from = &k[key * self.key_width() + head * dim..][..dim];
                self.rotate(from, to, self.sight.key_positions[key], 1.0);
            }
            let columns = by_columns(&rows, (dim, dim), stride);
            let values = v.map_or(Vec::new(), |v| {
                let first = range.start * self.key_width() + head * dim;
                let end = first + (n - 1) * self.key_width() + dim;
                by_columns(&v[first..end], (dim, self.key_width()), stride)
            });
            Keys {
                // The backward pass alone reads them.
                rows: if v.is_some() { rows } else { Vec::new() },
                columns,
                values,
                stride,
            }
        })
    }

    /// Blocks of a text's queries.
    fn blocks(text: &Text) -> impl Iterator<Item = Block> {
        let first = text.n_keys() - text.queries.len();
        let queries = text.queries.clone();
        queries.clone().step_by(BLOCK).map(move |start| {
            let end = (start + BLOCK).min(queries.end);
            let before = first + start - queries.start;
            Block {
                queries: start..end,
                seen: before + 1,
                columns: before + end - start,
            }
        })
    }

    /// The powers of a block's scores, 0 where a query does not look, and each query's share.
    fn powers(
        &self,
        (q, head): (&[f32], usize),
        keys: &Keys,
        (text, block): (&Text, &Block),
        tree: usize,
        scratch: &mut Scratch,
    ) {
        let (dim, rows) = (self.dim, block.queries.len());
        let Scratch {
            q: own,
            scores,
            shares,
        } = scratch;
        own.resize(rows * dim, 0.0);
        for (query, to) in block.queries.clone().zip(own.chunks_mut(dim)) {
            let from = &q[query * self.width() + head * dim..][..dim];
            self.rotate(from, to, self.sight.query_positions[query], 1.0);
            for x in to {
                *x *= self.scale();
            }
        }
        scores.resize(rows * block.columns, 0.0);
        for (column, span) in text.spans(block.columns) {
            let size = Size {
                rows,
                depth: dim,
                columns: span.len(),
            };
            let first = span.start - self.sight.trees[tree].keys.start;
            let right = Right(&keys.columns[first..], keys.stride);
            let out = (&mut scores[column..], block.columns);
            product(Left::Rows(own, dim), right, out, size, false);
        }
        shares.clear();
        for (row, line) in scores.chunks_mut(block.columns).take(rows).enumerate() {
            let (seen, beyond) = line.split_at_mut(block.seen + row);
            let highest = simd::highest(seen);
            let sum = simd::exp_in_place(seen, highest, 1.0);
            beyond.fill(0.0);
            shares.push((sum as f32).recip());
        }
    }

    /// What the values of one tree and head come to, `[queries, dim]`, text after text.
    fn attended(
        &self,
        q: &[f32],
        keys: &[Keys],
        v: &[f32],
        (tree, head): (usize, usize),
    ) -> Vec<f32> {
        let (dim, key_head) = (self.dim, self.key_head(head));
        let keys = &keys[tree * self.key_heads + key_head];
        let mut scratch = Scratch::default();
        let texts = &self.sight.trees[tree].texts;
        let mut out = vec![0.0; texts.iter().map(|text| text.queries.len() * dim).sum()];
        let mut rest = out.as_mut_slice();
        for text in texts {
            for block in Self::blocks(text) {
                let own;
                (own, rest) = rest.split_at_mut(block.queries.len() * dim);
                self.powers((q, head), keys, (text, &block), tree, &mut scratch);
                for (column, span) in text.spans(block.columns) {
                    let size = Size {
                        rows: block.queries.len(),
                        depth: span.len(),
                        columns: dim,
                    };
                    let left = Left::Rows(&scratch.scores[column..], block.columns);
                    let first = span.start * self.key_width() + key_head * dim;
                    let right = Right(&v[first..], self.key_width());
                    product(left, right, (&mut *own, dim), size, true);
                }
                for (line, share) in own.chunks_mut(dim).zip(&scratch.shares) {
                    for x in line {
                        *x *= share;
                    }
                }
            }
        }
        out
    }

    /// Puts the parts of trees and heads side by side, `[queries, heads * dim]`.
    fn beside(&self, parts: &[Vec<f32>]) -> Vec<f32> {
        let dim = self.dim;
        let mut out = vec![0.0; self.sight.query_places.len() * self.width()];
        out.par_chunks_mut(self.width())
            .with_min_len(16)
            .zip(&self.sight.query_places)
            .for_each(|(line, place)| {
                let Some((tree, at)) = place.map(sight::wide) else {
                    return;
                };
                for (head, to) in line.chunks_mut(dim).enumerate() {
                    to.copy_from_slice(&parts[tree * self.heads + head][at * dim..][..dim]);
                }
            });
        out
    }
}

/// `width` numbers of each row of `x`, whose rows are some distance apart, as `[width, stride]`.
fn by_columns(x: &[f32], (width, apart): (usize, usize), stride: usize) -> Vec<f32> {
    /// Rows that become columns together, so that each cache line is written whole.
    const ROWS: usize = 16;
    let mut out = vec![0.0; width * stride];
    let n = x.len().div_ceil(apart);
    for first in (0..n).step_by(ROWS) {
        let rows = ROWS.min(n - first);
        for column in 0..width {
            let to = &mut out[column * stride + first..][..rows];
            for (row, to) in to.iter_mut().enumerate() {
                *to = x[(first + row) * apart + column];
            }
        }
    }
    out
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let plan = self.plan(q_layout, k_layout, v_layout)?;
        let (q, k) = (numbers(q, q_layout)?, numbers(k, k_layout)?);
        let v = numbers(v, v_layout)?;
        let keys = plan.keys(k, None);
        let parts = plan.for_each(plan.heads, |tree, head| {
            plan.attended(q, &keys, v, (tree, head))
        });
        let out = plan.beside(&parts);
        Ok((CpuStorage::F32(out), q_layout.shape().clone()))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let plan = self.plan(q.layout(), k.layout(), v.layout())?;
        let gradient = gradient.contiguous()?;
        let all = [q, k, v, result, &gradient].map(Tensor::storage_and_layout);
        let mut slices: [&[f32]; 5] = [&[]; 5];
        for (slice, (storage, layout)) in slices.iter_mut().zip(&all) {
            let Storage::Cpu(storage) = &**storage else {
                candle_core::bail!("attention moved its input to another device")
            };
            *slice = numbers(storage, layout)?;
        }
        let [own_q, own_k, own_v, result, gradient] = slices;
        let found = backward::gradients(&plan, [own_q, own_k, own_v], result, gradient);
        drop(all);
        // The gradient of what has no history would stay to the end of the pass.
        let tensor = |values: Vec<f32>, like: &Tensor| match like.track_op() {
            true => Tensor::from_vec(values, like.shape(), like.device()).map(Some),
            false => Ok(None),
        };
        let [by_q, by_k, by_v] = found;
        Ok((tensor(by_q, q)?, tensor(by_k, k)?, tensor(by_v, v)?))
    }
}

#[cfg(test)]
mod tests;
