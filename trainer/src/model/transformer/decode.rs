//! Decoding with a key-value cache: all of the prompts first, then the next positions of each row.
//!
//! A cache has two forms that compute the same. The fused one, on CPU, leaves rows where they lie
//! and finds them by their slots; the plain one, elsewhere, moves the rows together and hides
//! padding with a mask.

use candle_core::{DType, Device, Tensor};

use super::{Transformer, embed};
use crate::error::Result;
use crate::model::attention::{Pass, Sight, attend};
use crate::nn;
use crate::nn::cached_attention::Places;

/// Keys and values of the positions seen so far, one pair for each block.
pub struct KvCache {
    layers: Vec<(Tensor, Tensor)>,
    places: Places,
    /// The form, see the head of this file. The cache holds it rather than asking the device each
    /// time, so that a test can run the plain one on CPU.
    is_fused: bool,
}

impl KvCache {
    /// Makes a cache of one row for each prompt serve the samples that `rows` names by their
    /// prompt; a prompt may come more than once.
    ///
    /// # Errors
    /// When the device has no memory.
    pub fn copy_rows(&mut self, rows: &[usize]) -> Result<()> {
        let slots = rows.iter().map(|row| self.places.slots[*row] as u32);
        let slots: Vec<u32> = slots.collect();
        for (keys, values) in &mut self.layers {
            let slots = Tensor::new(slots.as_slice(), keys.device())?;
            *keys = keys.index_select(&slots, 0)?;
            *values = values.index_select(&slots, 0)?;
        }
        self.places.slots = (0..rows.len()).collect();
        self.places.paddings = rows.iter().map(|row| self.places.paddings[*row]).collect();
        Ok(())
    }

    /// Lets every row go that `rows`, ascending, does not name.
    ///
    /// # Errors
    /// When the device has no memory.
    pub fn keep_rows(&mut self, rows: &[usize]) -> Result<()> {
        if !self.is_fused {
            return self.copy_rows(rows);
        }
        // Nothing is copied: the rows that go on stay where they lie.
        let kept = |values: &[usize]| rows.iter().map(|row| values[*row]).collect();
        self.places.slots = kept(&self.places.slots);
        self.places.paddings = kept(&self.places.paddings);
        Ok(())
    }
}

impl Transformer {
    /// An empty cache of up to `capacity` positions for rows that are padded on the left by
    /// `paddings` positions.
    ///
    /// # Errors
    /// When the device has no memory.
    pub fn new_cache(&self, paddings: Vec<usize>, capacity: usize) -> Result<KvCache> {
        let shape = (
            paddings.len(),
            self.config.num_key_value_heads,
            capacity,
            self.config.head_dim,
        );
        let zeros = || Tensor::zeros(shape, DType::F32, &self.device);
        let layers = (0..self.blocks.len())
            .map(|_| Ok((zeros()?, zeros()?)))
            .collect::<Result<_>>()?;
        let places = Places {
            slots: (0..paddings.len()).collect(),
            paddings,
            start: 0,
        };
        Ok(KvCache {
            layers,
            places,
            is_fused: nn::is_fused(&self.embedding),
        })
    }

    /// Bytes that a cache takes for each row of up to `capacity` positions.
    pub fn cache_bytes(&self, capacity: usize) -> usize {
        let numbers = self.config.num_key_value_heads * self.config.head_dim * capacity;
        2 * self.blocks.len() * numbers * size_of::<f32>()
    }

    /// Runs new positions, `ids` `[batch, time]`, through all blocks with the cache. Returns the
    /// last position's output after the final norm, `[batch, hidden]`. Without history.
    ///
    /// # Errors
    /// When the cache is full.
    pub fn step(&self, ids: &Tensor, cache: &mut KvCache) -> Result<Tensor> {
        let time = ids.dim(1)?;
        let places = &cache.places;
        let at = positions(places, time, ids.device())?;
        let mut x = embed(&self.embedding.detach(), ids)?;
        if let Some(learned) = &self.positions {
            x = (x + embed(&learned.detach(), &at)?)?;
        }
        let rotation = self.rotation_at(&at)?;
        let mask = match cache.is_fused {
            true => None,
            false => Some(padding_mask(places, time, ids.device())?),
        };
        for (block, (keys, values)) in self.blocks.iter().zip(&cache.layers) {
            let normed = self.before_attention(block, &x, Pass::Frozen)?;
            let (q, k, v) = self.project(block, &normed, rotation.as_ref(), Pass::Frozen)?;
            let (q, k, v) = (q.detach(), k.detach(), v.detach());
            let attended = match &mask {
                None => {
                    nn::cached_attention::append(keys, &k, places)?;
                    nn::cached_attention::append(values, &v, places)?;
                    nn::cached_attention::attend(&q, keys, values, places)?
                }
                Some(mask) => {
                    keys.slice_set(&k.contiguous()?, 2, places.start)?;
                    values.slice_set(&v.contiguous()?, 2, places.start)?;
                    let seen = |cache: &Tensor| cache.narrow(2, 0, places.start + time);
                    let sight = Sight::Mask(mask);
                    attend(&q, &seen(keys)?, &seen(values)?, sight, Pass::Frozen)?
                }
            };
            x = self
                .finish_block(block, &x, &attended, Pass::Frozen)?
                .detach();
        }
        cache.places.start += time;
        let last = x.narrow(1, time - 1, 1)?.squeeze(1)?.contiguous()?;
        Ok(self.finish(&last, Pass::Frozen)?.detach())
    }
}

/// Position of each new token in its own row, `[rows, time]`, counted from the padding's end.
fn positions(places: &Places, time: usize, device: &Device) -> Result<Tensor> {
    let own = |padding: &usize| {
        let padding = *padding;
        (places.start..places.start + time).map(move |at| at.saturating_sub(padding) as u32)
    };
    let positions: Vec<u32> = places.paddings.iter().flat_map(own).collect();
    Ok(Tensor::from_vec(
        positions,
        (places.paddings.len(), time),
        device,
    )?)
}

/// Additive mask `[rows, 1, 1, time, start + time]`: a position sees itself and what came before,
/// but not its row's padding. A padding position sees itself, since a row of minus infinities
/// would become NaN.
fn padding_mask(places: &Places, time: usize, device: &Device) -> Result<Tensor> {
    let keys = places.start + time;
    let rows = places.paddings.len();
    let mut mask = vec![f32::NEG_INFINITY; rows * time * keys];
    for (row, padding) in places.paddings.iter().enumerate() {
        for query in 0..time {
            let own = places.start + query;
            let line = &mut mask[(row * time + query) * keys..][..keys];
            line[(*padding).min(own)..=own].fill(0.0);
        }
    }
    Ok(Tensor::from_vec(mask, (rows, 1, 1, time, keys), device)?)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::batch::TokenBatch;
    use crate::model::transformer::{EMBEDDING, TransformerConfig};
    use crate::model::weights::{Trainable, Weights};
    use crate::nn::test_support::{distance, random};

    const HIDDEN: usize = 32;
    const INNER: usize = 48;
    const LAYERS: usize = 2;
    const VOCABULARY: usize = 11;

    /// Weights small enough that attention is spread over many positions: where it rests on one,
    /// another one that should be hidden would hardly show.
    fn tiny() -> Transformer {
        let config = TransformerConfig::parse(&serde_json::json!({
            "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": INNER,
            "num_hidden_layers": LAYERS, "num_attention_heads": 4, "num_key_value_heads": 2,
            "vocab_size": VOCABULARY, "max_position_embeddings": 16, "rms_norm_eps": 1e-5,
            "tie_word_embeddings": true,
        }))
        .unwrap();
        let mut tensors = BTreeMap::new();
        let mut draw = |name: &str, shape: &[usize], mean: f64| {
            let tensor = random(name, shape).affine(0.15, mean).unwrap();
            tensors.insert(name.to_owned(), tensor);
        };
        draw(EMBEDDING, &[VOCABULARY, HIDDEN], 0.0);
        draw("model.norm.weight", &[HIDDEN], 1.0);
        for layer in 0..LAYERS {
            let parts: [(&str, &[usize], f64); 9] = [
                ("input_layernorm", &[HIDDEN], 1.0),
                ("self_attn.q_proj", &[HIDDEN, HIDDEN], 0.0),
                ("self_attn.k_proj", &[HIDDEN / 2, HIDDEN], 0.0),
                ("self_attn.v_proj", &[HIDDEN / 2, HIDDEN], 0.0),
                ("self_attn.o_proj", &[HIDDEN, HIDDEN], 0.0),
                ("post_attention_layernorm", &[HIDDEN], 1.0),
                ("mlp.gate_proj", &[INNER, HIDDEN], 0.0),
                ("mlp.up_proj", &[INNER, HIDDEN], 0.0),
                ("mlp.down_proj", &[HIDDEN, INNER], 0.0),
            ];
            for (part, shape, mean) in parts {
                draw(&format!("model.layers.{layer}.{part}.weight"), shape, mean);
            }
        }
        let weights = Weights::from_tensors(tensors);
        Transformer::from_weights(config, weights, &Device::Cpu, Trainable::Nothing).unwrap()
    }

    /// Rows decoded by both forms side by side, and the real tokens of each row so far.
    struct Decoding {
        model: Transformer,
        fused: KvCache,
        plain: KvCache,
        rows: Vec<Vec<u32>>,
    }

    impl Decoding {
        /// Reads `rows`, the shorter ones padded on the left.
        fn start(rows: &[&[u32]], capacity: usize) -> Self {
            let model = tiny();
            let longest = rows.iter().map(|row| row.len()).max().unwrap();
            let paddings: Vec<usize> = rows.iter().map(|row| longest - row.len()).collect();
            let cache = |is_fused| KvCache {
                is_fused,
                ..model.new_cache(paddings.clone(), capacity).unwrap()
            };
            let mut decoding = Self {
                fused: cache(true),
                plain: cache(false),
                rows: rows.iter().map(|row| row.to_vec()).collect(),
                model,
            };
            // A token that a row really holds, so that padding which is seen shows.
            let padded = rows.iter().zip(&paddings);
            let padded = padded.map(|(row, padding)| [vec![7; *padding], row.to_vec()].concat());
            decoding.step(&padded.collect::<Vec<_>>());
            decoding
        }

        /// Adds the same number of tokens to each row.
        fn append(&mut self, new: &[&[u32]]) {
            for (row, new) in self.rows.iter_mut().zip(new) {
                row.extend_from_slice(new);
            }
            let new: Vec<Vec<u32>> = new.iter().map(|new| new.to_vec()).collect();
            self.step(&new);
        }

        /// Runs `ids` through both forms and holds their logits against each other, and against
        /// those of a pass without a cache, where the shorter rows are padded on the right.
        fn step(&mut self, ids: &[Vec<u32>]) {
            let ids = Tensor::new(ids.to_vec(), &Device::Cpu).unwrap();
            let logits = |hidden: &Tensor| self.model.logits(hidden).unwrap();
            let fused = logits(&self.model.step(&ids, &mut self.fused).unwrap());
            let plain = logits(&self.model.step(&ids, &mut self.plain).unwrap());
            let batch = TokenBatch::new(&self.rows, 7, &Device::Cpu).unwrap();
            let whole = self.model.hidden(&batch, Pass::Tracked).unwrap();
            let whole = logits(&batch.last(&whole).unwrap());
            assert_eq!(fused.dims(), [self.rows.len(), VOCABULARY]);
            let d = distance(&fused, &plain);
            assert!(d < 1e-5, "the forms differ by {d:e}");
            let d = distance(&plain, &whole);
            assert!(d < 1e-4, "{d:e} from a pass without a cache");
        }

        fn choose(
            &mut self,
            rows: &[usize],
            choice: impl Fn(&mut KvCache, &[usize]) -> Result<()>,
        ) {
            choice(&mut self.fused, rows).unwrap();
            choice(&mut self.plain, rows).unwrap();
            self.rows = rows.iter().map(|row| self.rows[*row].clone()).collect();
        }
    }

    #[test]
    fn both_forms_of_the_cache_give_the_logits_of_a_pass_without_one() {
        let rows: [&[u32]; 3] = [&[1, 2, 3, 4, 5], &[6, 7], &[8, 9, 10, 1]];
        let mut decoding = Decoding::start(&rows, 9);
        // Several samples of a prompt, in an order that is not that of the prompts.
        decoding.choose(&[2, 0, 1, 1], KvCache::copy_rows);
        decoding.append(&[&[3], &[0], &[4], &[5]]);
        // A row ends: the forms now keep the others at different places.
        decoding.choose(&[0, 2, 3], KvCache::keep_rows);
        decoding.append(&[&[2], &[2], &[9]]);
        decoding.choose(&[1, 2], KvCache::keep_rows);
        assert_eq!(decoding.fused.places.slots, [2, 3]);
        assert_eq!(decoding.plain.places.slots, [0, 1]);
        // Two positions at once behind filled ones.
        decoding.append(&[&[10, 1], &[8, 6]]);
    }
}
