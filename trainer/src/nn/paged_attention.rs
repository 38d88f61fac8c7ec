//! Attention over a key-value cache while decoding. The cache is made of pages of [`PAGE`] positions,
//! `[pages, key_heads, PAGE, dim]`, and each row has a list of them (Kwon et al., arXiv 2309.06180), so
//! that rows of any lengths lie side by side, several rows read the pages of a prompt that they have in
//! common, and a row that ends costs nothing.
//!
//! What a query comes to has the same bits wherever its pages lie and whoever decodes beside it. For f32
//! on CPU; elsewhere [`crate::model::transformer`] gathers pages for candle's operations.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp3, InplaceOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::attention::Table;
use super::{numbers, simd};

/// Positions of a page: few, since the last page of each row is filled in part only, and it is what a
/// row copies of a prompt that it shares.
pub const PAGE: usize = 16;

/// What the newest token of each row sees.
#[derive(Debug, Clone)]
pub struct Rows {
    /// The pages of each row, in the order of its positions.
    pub pages: Vec<Vec<u32>>,
    /// Positions that it sees, its own among them.
    pub lengths: Vec<usize>,
}

/// Writes `new` `[tokens, key_heads * dim]` into `cache`: each token to the place in `places`, which is
/// its page times [`PAGE`] and its position there. With a `table`, rotated by `positions` on the way.
///
/// # Errors
/// On shapes that do not fit, or places that the cache does not have.
pub fn append(
    cache: &Tensor,
    new: &Tensor,
    (places, positions): (&[u32], &[u32]),
    table: Option<&Table>,
) -> Result<()> {
    let append = Append {
        places,
        positions,
        table,
    };
    cache.inplace_op2(&new.contiguous()?, &append)
}

/// For `q` `[rows, heads * dim]`, one query for each row, over `keys` and `values`; with a `table`,
/// queries are rotated first, by their positions. Returns the shape of `q`, without history.
///
/// # Errors
/// On shapes that do not fit.
pub fn attend(
    q: &Tensor,
    (keys, values): (&Tensor, &Tensor),
    rows: &Arc<Rows>,
    table: Option<&Arc<Table>>,
) -> Result<Tensor> {
    let attend = Attend {
        rows: Arc::clone(rows),
        table: table.cloned(),
    };
    q.contiguous()?.apply_op3_no_bwd(keys, values, &attend)
}

struct Append<'a> {
    places: &'a [u32],
    positions: &'a [u32],
    table: Option<&'a Table>,
}

struct Attend {
    rows: Arc<Rows>,
    table: Option<Arc<Table>>,
}

/// Whether a position can be rotated.
fn knows(table: Option<&Table>, position: usize, dim: usize) -> bool {
    table.is_none_or(|table| position < table.positions(dim))
}

/// Copies a head, rotated for a position where there is a table.
fn rotated(table: Option<&Table>, from: &[f32], to: &mut [f32], position: usize) {
    match table {
        Some(table) => table.rotate(from, to, position, 1.0),
        None => to.copy_from_slice(from),
    }
}

impl InplaceOp2 for Append<'_> {
    fn name(&self) -> &'static str {
        "append-to-pages"
    }

    fn cpu_fwd(
        &self,
        cache: &mut CpuStorage,
        cache_layout: &Layout,
        new: &CpuStorage,
        new_layout: &Layout,
    ) -> Result<()> {
        let (pages, heads, page, dim) = cache_layout.shape().dims4()?;
        let (tokens, width) = new_layout.shape().dims2()?;
        let new = numbers(new, new_layout)?;
        let fits = width == heads * dim
            && page == PAGE
            && self.places.len() == tokens
            && self.positions.len() == tokens
            && self.places.iter().all(|at| (*at as usize) < pages * PAGE)
            && self
                .positions
                .iter()
                .all(|at| knows(self.table, *at as usize, dim));
        let (CpuStorage::F32(cache), Some((0, _)), true) =
            (cache, cache_layout.contiguous_offsets(), fits)
        else {
            candle_core::bail!("a cache must be contiguous f32 and have every page")
        };
        let places = self.places.iter().zip(self.positions);
        for (token, (place, position)) in new.chunks_exact(width).zip(places) {
            let (page, at) = (*place as usize / PAGE, *place as usize % PAGE);
            for (head, from) in token.chunks_exact(dim).enumerate() {
                let to = ((page * heads + head) * PAGE + at) * dim;
                let to = &mut cache[to..][..dim];
                rotated(self.table, from, to, *position as usize);
            }
        }
        Ok(())
    }
}

impl CustomOp3 for Attend {
    fn name(&self) -> &'static str {
        "attend-to-pages"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        keys: &CpuStorage,
        keys_layout: &Layout,
        values: &CpuStorage,
        values_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (n, width) = q_layout.shape().dims2()?;
        let (pages, key_heads, page, dim) = keys_layout.shape().dims4()?;
        let Rows {
            pages: lists,
            lengths,
        } = &*self.rows;
        let is_there = |(list, length): (&Vec<u32>, &usize)| {
            *length > 0
                && knows(self.table.as_deref(), *length - 1, dim)
                && list.len() * PAGE >= *length
                && list.iter().all(|page| (*page as usize) < pages)
        };
        let fits = page == PAGE
            && width % (key_heads * dim) == 0
            && keys_layout.shape() == values_layout.shape()
            && (lists.len(), lengths.len()) == (n, n)
            && lists.iter().zip(lengths).all(is_there);
        if !fits {
            candle_core::bail!("{n} rows do not fit the {pages} pages of the cache");
        }
        let (q, keys) = (numbers(q, q_layout)?, numbers(keys, keys_layout)?);
        let values = numbers(values, values_layout)?;
        let group = width / key_heads;
        let mut out = vec![0.0; q.len()];
        out.par_chunks_mut(group)
            .zip(q.par_chunks(group))
            .enumerate()
            .for_each_init(Scratch::default, |scratch, (index, (out, q))| {
                let (row, head) = (index / key_heads, index % key_heads);
                let seen = Seen {
                    list: &lists[row],
                    length: lengths[row],
                    head,
                    key_heads,
                    dim,
                };
                let table = self.table.as_deref();
                attend_group(q, (keys, values), &seen, table, scratch, out);
            });
        Ok((CpuStorage::F32(out), q_layout.shape().clone()))
    }
}

/// What the queries that share a key head see of the cache.
struct Seen<'a> {
    list: &'a [u32],
    length: usize,
    head: usize,
    key_heads: usize,
    dim: usize,
}

impl Seen<'_> {
    /// The part of a cache that each page holds of this head, the last one as far as it is filled.
    fn parts<'a>(&self, cache: &'a [f32]) -> impl Iterator<Item = &'a [f32]> {
        let (length, head, key_heads, dim) = (self.length, self.head, self.key_heads, self.dim);
        let pages = self.list.iter().take(length.div_ceil(PAGE)).enumerate();
        pages.map(move |(index, page)| {
            let filled = (length - index * PAGE).min(PAGE);
            let from = (*page as usize * key_heads + head) * PAGE * dim;
            &cache[from..][..filled * dim]
        })
    }
}

/// What work on a group needs, kept from one to the next.
#[derive(Default)]
struct Scratch {
    /// Rotated queries, `[group, dim]`.
    q: Vec<f32>,
    /// Scores of one page, `[group, PAGE]`.
    page: Vec<f32>,
    /// `[group, length]`.
    scores: Vec<f32>,
}

/// The queries of one row that share a key head, `[group, dim]`.
fn attend_group(
    q: &[f32],
    (keys, values): (&[f32], &[f32]),
    seen: &Seen,
    table: Option<&Table>,
    scratch: &mut Scratch,
    out: &mut [f32],
) {
    let (dim, length) = (seen.dim, seen.length);
    let group = q.len() / dim;
    let Scratch {
        q: own,
        page,
        scores,
    } = scratch;
    own.resize(q.len(), 0.0);
    for (from, to) in q.chunks_exact(dim).zip(own.chunks_exact_mut(dim)) {
        rotated(table, from, to, length - 1);
    }
    scores.resize(group * length, 0.0);
    for (index, keys) in seen.parts(keys).enumerate() {
        let n = keys.len() / dim;
        page.resize(group * n, 0.0);
        simd::dots(own, keys, dim, page);
        for (scores, page) in scores.chunks_exact_mut(length).zip(page.chunks_exact(n)) {
            scores[index * PAGE..][..n].copy_from_slice(page);
        }
    }
    let scale = (dim as f32).sqrt().recip();
    for (scores, out) in scores
        .chunks_exact_mut(length)
        .zip(out.chunks_exact_mut(dim))
    {
        let highest = simd::highest(scores);
        let sum = simd::exp_in_place(scores, highest, scale);
        let share = (sum as f32).recip();
        for (scores, values) in scores.chunks(PAGE).zip(seen.parts(values)) {
            simd::widest(
                #[inline(always)]
                || {
                    for (score, value) in scores.iter().zip(values.chunks_exact(dim)) {
                        let weight = score * share;
                        for (out, value) in out.iter_mut().zip(value) {
                            *out = value.mul_add(weight, *out);
                        }
                    }
                },
            );
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use candle_core::{DType, Device};

    use super::*;
    use crate::nn::attention::{Sight, Text};
    use crate::nn::test_support::{distance, random};

    const HEADS: usize = 6;
    const KEY_HEADS: usize = 2;
    const DIM: usize = 8;

    fn table(positions: usize) -> Arc<Table> {
        let angle = |i: usize| (i as f32 * 0.37).sin() * 3.0;
        let all = || (0..positions * DIM / 2).map(angle);
        Arc::new(Table {
            cos: all().map(f32::cos).collect(),
            sin: all().map(f32::sin).collect(),
        })
    }

    fn place(pages: &[u32], position: usize) -> u32 {
        pages[position / PAGE] * PAGE as u32 + (position % PAGE) as u32
    }

    /// Rows of several lengths, of which two have their first page in common, in pages that lie
    /// anywhere; against the operation over rows as they are.
    #[test]
    fn rows_see_their_pages_as_if_these_lay_side_by_side() {
        let lists: [&[u32]; 3] = [&[4, 0, 6], &[4, 2], &[5]];
        let lengths = [2 * PAGE + 3, PAGE + 1, 7];
        let width = KEY_HEADS * DIM;
        let n: usize = lengths.iter().sum();
        let make = |name: &str| {
            let all = random(name, &[n, width]);
            // The first page of the second row is that of the first.
            let shared = all.narrow(0, 0, PAGE).unwrap();
            let before = all.narrow(0, 0, lengths[0]).unwrap();
            let rest = lengths[0] + PAGE;
            let after = all.narrow(0, rest, n - rest).unwrap();
            Tensor::cat(&[before, shared, after], 0).unwrap()
        };
        let (keys, values) = (make("keys"), make("values"));
        for table in [None, Some(table(2 * PAGE + 3))] {
            let fill = |new: &Tensor, table: Option<&Table>| {
                let shape = (7, KEY_HEADS, PAGE, DIM);
                let cache = Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
                let positions: Vec<u32> = lengths
                    .iter()
                    .flat_map(|length| 0..*length as u32)
                    .collect();
                let mut places = Vec::new();
                for (pages, length) in lists.iter().zip(lengths) {
                    places.extend((0..length).map(|position| place(pages, position)));
                }
                append(&cache, new, (&places, &positions), table).unwrap();
                cache
            };
            let caches = (fill(&keys, table.as_deref()), fill(&values, None));
            let rows = Arc::new(Rows {
                pages: lists.map(<[u32]>::to_vec).to_vec(),
                lengths: lengths.to_vec(),
            });
            let q = random("q", &[3, HEADS * DIM]);
            let found = attend(&q, (&caches.0, &caches.1), &rows, table.as_ref()).unwrap();
            let mut first = 0;
            let text = |(row, length): (usize, usize)| {
                first += length;
                vec![Text {
                    queries: row..row + 1,
                    keys: std::iter::once(first - length..first).collect(),
                }]
            };
            let texts = lengths.into_iter().enumerate().map(text).collect();
            let sight = Arc::new(Sight::new(texts, 3, n).unwrap());
            let all = (&q, &keys, &values);
            let expected = crate::nn::attention::attend(all, DIM, &sight, table.as_ref());
            assert!(distance(&found, &expected.unwrap()) < 1e-5);

            // Alone, to the bit.
            for row in 0..3 {
                let alone = Arc::new(Rows {
                    pages: vec![lists[row].to_vec()],
                    lengths: vec![lengths[row]],
                });
                let q = q.narrow(0, row, 1).unwrap();
                let alone = attend(&q, (&caches.0, &caches.1), &alone, table.as_ref()).unwrap();
                let beside = found.narrow(0, row, 1).unwrap();
                assert_eq!(distance(&alone, &beside), 0.0);
            }
        }
    }

    #[test]
    fn a_page_that_is_not_there_is_an_error() {
        let shape = (2, KEY_HEADS, PAGE, DIM);
        let cache = Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        let new = random("new", &[1, KEY_HEADS * DIM]);
        let beyond = 2 * PAGE as u32;
        assert!(append(&cache, &new, (&[beyond], &[0]), None).is_err());
        let q = random("q", &[1, HEADS * DIM]);
        for (pages, length) in [(vec![2], 1), (vec![1], PAGE + 1), (vec![1], 0)] {
            let rows = Arc::new(Rows {
                pages: vec![pages],
                lengths: vec![length],
            });
            let error = attend(&q, (&cache, &cache), &rows, None).unwrap_err();
            assert!(error.to_string().contains("2 pages"), "{error}");
        }
    }
}
