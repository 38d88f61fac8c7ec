//! Attention over a key-value cache while decoding. The rows of a batch need not lie at the same
//! rows of the cache: `slots` says where each lies, so that a row which ends costs nothing.

use candle_core::{CpuStorage, CustomOp3, InplaceOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{numbers, simd};

/// Where the rows of a batch lie in the cache.
#[derive(Debug, Clone)]
pub struct Places {
    /// Row of the cache for each row of the batch.
    pub slots: Vec<usize>,
    /// Padding positions on the left of each row, which it does not see.
    pub paddings: Vec<usize>,
    /// Positions filled before these.
    pub start: usize,
}

/// Writes `new` `[batch, heads, time, dim]` into `cache` `[slots, heads, capacity, dim]` behind
/// the filled positions.
///
/// # Errors
/// On shapes that do not fit, or a full cache.
pub fn append(cache: &Tensor, new: &Tensor, places: &Places) -> Result<()> {
    cache.inplace_op2(&new.contiguous()?, &Append(places))
}

/// For `q` `[batch, heads, time, dim]` over `keys` and `values` `[slots, key_heads, capacity,
/// dim]`, where position t of the new ones sees the padding's end up to itself. A padding position
/// sees itself alone. Returns the shape of `q`, without history.
///
/// # Errors
/// On shapes that do not fit.
pub fn attend(q: &Tensor, keys: &Tensor, values: &Tensor, places: &Places) -> Result<Tensor> {
    let attend = Attend(places.clone());
    q.contiguous()?.apply_op3_no_bwd(keys, values, &attend)
}

struct Append<'a>(&'a Places);
struct Attend(Places);

impl InplaceOp2 for Append<'_> {
    fn name(&self) -> &'static str {
        "append-to-cache"
    }

    fn cpu_fwd(
        &self,
        cache: &mut CpuStorage,
        cache_layout: &Layout,
        new: &CpuStorage,
        new_layout: &Layout,
    ) -> Result<()> {
        let (batch, heads, time, dim) = new_layout.shape().dims4()?;
        let (slots, _, capacity, _) = cache_layout.shape().dims4()?;
        let Places {
            slots: own,
            start,
            paddings: _,
        } = self.0;
        let new = numbers(new, new_layout)?;
        let fits = own.len() == batch && own.iter().all(|slot| *slot < slots);
        let (CpuStorage::F32(cache), Some((0, _)), true) =
            (cache, cache_layout.contiguous_offsets(), fits)
        else {
            candle_core::bail!("a cache must be contiguous f32 and hold every slot")
        };
        if start + time > capacity {
            candle_core::bail!("{capacity} positions of the cache are filled");
        }
        for (index, line) in new.chunks_exact(time * dim).enumerate() {
            let (row, head) = (index / heads, index % heads);
            let to = ((own[row] * heads + head) * capacity + start) * dim;
            cache[to..][..time * dim].copy_from_slice(line);
        }
        Ok(())
    }
}

impl CustomOp3 for Attend {
    fn name(&self) -> &'static str {
        "attend-to-cache"
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
        let (batch, heads, time, dim) = q_layout.shape().dims4()?;
        let (_, key_heads, capacity, _) = keys_layout.shape().dims4()?;
        let Places {
            slots,
            paddings,
            start,
        } = &self.0;
        if slots.len() != batch || paddings.len() != batch || start + time > capacity {
            candle_core::bail!("{batch} rows and {time} positions do not fit the cache");
        }
        let (q, keys) = (numbers(q, q_layout)?, numbers(keys, keys_layout)?);
        let values = numbers(values, values_layout)?;
        let scale = (dim as f32).sqrt().recip();
        let group = heads / key_heads;
        let mut out = vec![0.0; q.len()];
        out.par_chunks_mut(time * dim)
            .zip(q.par_chunks(time * dim))
            .enumerate()
            .for_each(|(index, (out, q))| {
                let (row, head) = (index / heads, index % heads);
                let from = (slots[row] * key_heads + head / group) * capacity * dim;
                let mut scores = Vec::with_capacity(start + time);
                for (t, (out, q)) in out.chunks_mut(dim).zip(q.chunks(dim)).enumerate() {
                    let own = start + t;
                    let seen = paddings[row].min(own)..own + 1;
                    let seen = from + seen.start * dim..from + seen.end * dim;
                    attend_one(
                        q,
                        &keys[seen.clone()],
                        &values[seen],
                        scale,
                        &mut scores,
                        out,
                    );
                }
            });
        Ok((CpuStorage::F32(out), q_layout.shape().clone()))
    }
}

/// One query over the keys and values it sees, `[n, dim]` each.
fn attend_one(
    q: &[f32],
    keys: &[f32],
    values: &[f32],
    scale: f32,
    scores: &mut Vec<f32>,
    out: &mut [f32],
) {
    let dim = q.len();
    scores.clear();
    scores.resize(keys.len() / dim, 0.0);
    simd::dots(q, keys, dim, scores);
    let highest = simd::highest(scores);
    let sum = simd::exp_in_place(scores, highest, scale);
    let share = (sum as f32).recip();
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use candle_core::{DType, Device};

    use super::*;
    use crate::model::attention::{Pass, Sight};
    use crate::nn::test_support::{distance, random};

    #[test]
    fn rows_that_lie_anywhere_in_the_cache_see_what_a_mask_would_show_them() {
        let (heads, key_heads, dim, capacity, filled, time) = (4, 2, 8, 7, 3, 2);
        let places = |start| Places {
            slots: vec![2, 0],
            paddings: vec![1, 0],
            start,
        };
        let fill = |name: &str| {
            let cache = Tensor::zeros((3, key_heads, capacity, dim), DType::F32, &Device::Cpu);
            let cache = cache.unwrap();
            let old = random(&format!("old {name}"), &[2, key_heads, filled, dim]);
            let new = random(&format!("new {name}"), &[2, key_heads, time, dim]);
            append(&cache, &old, &places(0)).unwrap();
            append(&cache, &new, &places(filled)).unwrap();
            (cache, Tensor::cat(&[old, new], 2).unwrap())
        };
        let (keys, plain_keys) = fill("keys");
        let (values, plain_values) = fill("values");
        let q = random("q", &[2, heads, time, dim]);
        let hidden = f32::NEG_INFINITY;
        #[rustfmt::skip]
        let mask = [
            hidden, 0.0, 0.0, 0.0, hidden,   hidden, 0.0, 0.0, 0.0, 0.0,
            0.0, 0.0, 0.0, 0.0, hidden,      0.0, 0.0, 0.0, 0.0, 0.0,
        ];
        let mask = Tensor::new(&mask, &Device::Cpu).unwrap();
        let mask = mask.reshape((2, 1, 1, time, filled + time)).unwrap();
        let sight = Sight::Mask(&mask);
        let expected =
            crate::model::attention::attend(&q, &plain_keys, &plain_values, sight, Pass::Tracked);
        let found = attend(&q, &keys, &values, &places(filled)).unwrap();
        assert!(distance(&found, &expected.unwrap()) < 1e-5);
    }

    #[test]
    fn a_full_cache_is_an_error() {
        let cache = Tensor::zeros((1, 1, 2, 4), DType::F32, &Device::Cpu).unwrap();
        let places = Places {
            slots: vec![0],
            paddings: vec![0],
            start: 2,
        };
        let error = append(&cache, &random("new", &[1, 1, 1, 4]), &places).unwrap_err();
        assert!(error.to_string().contains("2 positions"), "{error}");
    }
}
