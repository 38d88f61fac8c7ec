//! Decoding with a key-value cache: prompts first, in one packed pass, then the next position of each
//! row.
//!
//! The cache is made of pages, see [`crate::nn::paged_attention`]. Rows are of any length, come when
//! there is room and go when they end; one that goes on from another's tokens reads its pages. A cache
//! has two forms that compute the same: the fused one, on CPU, reads pages where they lie; the plain
//! one, elsewhere, gathers them for candle's operations and hides what is not filled with a mask.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{DType, Tensor};

use super::packed::Division;
use super::{Transformer, embed};
use crate::error::Result;
use crate::model::attention::{Pass, Rotation, Sight, attend, merge_heads, split_heads};
use crate::model::batch::TokenBatch;
use crate::model::segments::Segment;
use crate::nn;
use crate::nn::paged_attention::{self, PAGE, Rows};

/// Pages that so many positions of a row take.
pub fn pages_for(positions: usize) -> usize {
    positions.div_ceil(PAGE)
}

/// Keys and values of the positions seen so far.
pub struct KvCache {
    /// Of each block, `[pages, key_heads, PAGE, dim]`.
    layers: Vec<(Tensor, Tensor)>,
    /// How many rows read each page.
    readers: Vec<u32>,
    free: Vec<u32>,
    rows: BTreeMap<u64, Row>,
    /// Rows that there were; none has another's number.
    n_rows: u64,
    /// The form, see the head of this file. The cache holds it rather than asking the device each
    /// time, so that a test can run the plain one on CPU.
    is_fused: bool,
}

/// A row of a cache, until it is let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowId(u64);

#[derive(Debug, Clone)]
struct Row {
    pages: Vec<u32>,
    /// Positions that are filled.
    length: usize,
}

/// Positions that are filled now, and for the plain form what it needs to write them.
struct Writing {
    places: Vec<u32>,
    positions: Vec<u32>,
    plain: Option<(Tensor, Option<Rotation>)>,
}

/// What the newest position of each row sees.
enum Seen {
    Fused(Arc<Rows>),
    /// The pages of all rows, as many for each, one row after another; what is not filled; and the
    /// rotation of the queries.
    Plain(Tensor, Tensor, Option<Rotation>),
}

impl KvCache {
    /// Pages that no row reads.
    pub fn n_free(&self) -> usize {
        self.free.len()
    }

    /// Pages in all.
    pub fn n_pages(&self) -> usize {
        self.readers.len()
    }

    fn row(&self, id: RowId) -> Result<&Row> {
        let row = self.rows.get(&id.0);
        Ok(row.ok_or_else(|| candle_core::Error::Msg("a row of the cache was let go".to_owned()))?)
    }

    fn add(&mut self, row: Row) -> RowId {
        let id = self.n_rows;
        self.n_rows += 1;
        self.rows.insert(id, row);
        RowId(id)
    }

    /// Takes pages that nobody reads: all of them, or none.
    fn take_pages(&mut self, n: usize) -> Result<Vec<u32>> {
        let Some(left) = self.free.len().checked_sub(n) else {
            let message = format!("all {} pages of the cache are filled", self.n_pages());
            return Err(candle_core::Error::Msg(message).into());
        };
        let pages = self.free.split_off(left);
        for page in &pages {
            self.readers[*page as usize] = 1;
        }
        Ok(pages)
    }

    /// Makes rows longer by `n` positions each, and says where the new ones lie: all rows, or none.
    fn extend(&mut self, ids: &[RowId], n: &[usize]) -> Result<Vec<u32>> {
        let wanted = |(id, n): (&RowId, &usize)| {
            let row = self.row(*id)?;
            Ok(pages_for(row.length + n) - row.pages.len())
        };
        let wanted: Vec<usize> = ids.iter().zip(n).map(wanted).collect::<Result<_>>()?;
        let mut pages = self.take_pages(wanted.iter().sum())?;
        let mut places = Vec::new();
        for ((id, n), wanted) in ids.iter().zip(n).zip(wanted) {
            let Some(row) = self.rows.get_mut(&id.0) else {
                continue;
            };
            row.pages.extend(pages.drain(..wanted));
            let own = row.length..row.length + n;
            row.length = own.end;
            let place = |at: usize| row.pages[at / PAGE] * PAGE as u32 + (at % PAGE) as u32;
            places.extend(own.map(place));
        }
        Ok(places)
    }

    /// A new row that goes on from what another holds. It reads that one's pages, but has the last one
    /// for itself where that is filled in part.
    ///
    /// # Errors
    /// When the cache is full, or the row was let go.
    pub fn branch(&mut self, id: RowId) -> Result<RowId> {
        let mut row = self.row(id)?.clone();
        let n_whole = row.length / PAGE;
        if let Some(last) = row.pages.get(n_whole).copied() {
            let own = self.take_pages(1)?;
            for cache in self.layers.iter().flat_map(|(keys, values)| [keys, values]) {
                let copy = cache.narrow(0, last as usize, 1)?.copy()?;
                cache.slice_set(&copy, 0, own[0] as usize)?;
            }
            row.pages.truncate(n_whole);
            row.pages.extend(own);
        }
        for page in &row.pages[..n_whole] {
            self.readers[*page as usize] += 1;
        }
        Ok(self.add(row))
    }

    /// Lets a row go. Pages that nobody else reads are free again.
    pub fn release(&mut self, id: RowId) {
        let Some(row) = self.rows.remove(&id.0) else {
            return;
        };
        for page in row.pages {
            let readers = &mut self.readers[page as usize];
            *readers -= 1;
            if *readers == 0 {
                self.free.push(page);
            }
        }
    }

    /// Keys `k` and values `v` `[.., .., key_heads * dim]` of positions that are filled now.
    fn write(
        &self,
        layer: usize,
        (k, v): (&Tensor, &Tensor),
        writing: &Writing,
        model: &Transformer,
    ) -> Result<()> {
        let (keys, values) = &self.layers[layer];
        let Some((index, rotation)) = &writing.plain else {
            let at = (&writing.places[..], &writing.positions[..]);
            let table = model.rotary_table();
            let table = table.map(|table| &**table);
            paged_attention::append(keys, &k.flatten(0, 1)?, at, table)?;
            return Ok(paged_attention::append(
                values,
                &v.flatten(0, 1)?,
                at,
                None,
            )?);
        };
        let (_, heads, _, dim) = keys.dims4()?;
        let n = writing.places.len();
        for (cache, new, rotation) in [(keys, k, rotation.as_ref()), (values, v, None)] {
            let new = new.reshape((1, n, heads * dim))?;
            let new = merge_heads(&split_heads(&new, heads, rotation)?)?;
            let new = new.reshape((n * heads, dim))?.contiguous()?;
            let lines = cache.reshape((cache.elem_count() / dim, dim))?;
            lines.scatter_set(index, &new, 0)?;
        }
        Ok(())
    }

    /// Attention of one query for each row, `q` `[rows, 1, heads * dim]`.
    fn attend(&self, layer: usize, q: &Tensor, seen: &Seen, model: &Transformer) -> Result<Tensor> {
        let (keys, values) = &self.layers[layer];
        let (rows, _, width) = q.dims3()?;
        match seen {
            Seen::Fused(seen) => {
                let q = q.reshape((rows, width))?;
                let table = model.rotary_table();
                let out = paged_attention::attend(&q, (keys, values), seen, table)?;
                Ok(out.reshape((rows, 1, width))?)
            }
            Seen::Plain(pages, mask, rotation) => {
                let (_, heads, page, dim) = keys.dims4()?;
                let n = pages.elem_count() / rows;
                let gathered = |cache: &Tensor| -> Result<Tensor> {
                    let picked = cache.index_select(pages, 0)?;
                    let picked = picked.reshape((rows, n, heads, page, dim))?;
                    let picked = picked.transpose(1, 2)?.contiguous()?;
                    Ok(picked.reshape((rows, heads, n * page, dim))?)
                };
                let q = split_heads(q, width / dim, rotation.as_ref())?;
                let (keys, values) = (gathered(keys)?, gathered(values)?);
                merge_heads(&attend(
                    &q,
                    &keys,
                    &values,
                    Sight::Mask(mask),
                    Pass::Frozen,
                )?)
            }
        }
    }

    /// What the newest position of each of `ids` sees.
    fn seen(&self, ids: &[RowId], model: &Transformer) -> Result<Seen> {
        let rows: Vec<&Row> = ids.iter().map(|id| self.row(*id)).collect::<Result<_>>()?;
        let lengths: Vec<usize> = rows.iter().map(|row| row.length).collect();
        if self.is_fused {
            let pages = rows.iter().map(|row| row.pages.clone()).collect();
            return Ok(Seen::Fused(Arc::new(Rows { pages, lengths })));
        }
        let most = rows.iter().map(|row| row.pages.len()).max().unwrap_or(0);
        let mut pages = Vec::with_capacity(rows.len() * most);
        let mut mask = vec![f32::NEG_INFINITY; rows.len() * most * PAGE];
        for (index, row) in rows.iter().enumerate() {
            pages.extend_from_slice(&row.pages);
            pages.resize((index + 1) * most, row.pages[0]);
            mask[index * most * PAGE..][..row.length].fill(0.0);
        }
        let device = &model.device;
        let mask = Tensor::from_vec(mask, (rows.len(), 1, 1, 1, most * PAGE), device)?;
        let positions = lengths.iter().map(|length| *length as u32 - 1).collect();
        let positions = Tensor::from_vec(positions, (rows.len(), 1), device)?;
        Ok(Seen::Plain(
            Tensor::from_vec(pages, rows.len() * most, device)?,
            mask,
            model.rotation_at(&positions)?,
        ))
    }
}

impl Transformer {
    /// An empty cache of so many pages.
    ///
    /// # Errors
    /// When the device has no memory.
    pub fn new_cache(&self, pages: usize) -> Result<KvCache> {
        let shape = (
            pages,
            self.config.num_key_value_heads,
            PAGE,
            self.config.head_dim,
        );
        let zeros = || Tensor::zeros(shape, DType::F32, &self.device);
        let layers = (0..self.blocks.len())
            .map(|_| Ok((zeros()?, zeros()?)))
            .collect::<Result<_>>()?;
        Ok(KvCache {
            layers,
            readers: vec![0; pages],
            free: (0..pages as u32).rev().collect(),
            rows: BTreeMap::new(),
            n_rows: 0,
            is_fused: nn::is_fused(&self.embedding),
        })
    }

    /// Bytes of a cache's page, over all blocks.
    pub fn page_bytes(&self) -> usize {
        let numbers = self.config.num_key_value_heads * self.config.head_dim * PAGE;
        2 * self.blocks.len() * numbers * size_of::<f32>()
    }

    /// Reads prompts into new rows of the cache, in one pass without padding. Returns the rows, and the
    /// output of each one's last position after the final norm, `[prompts, hidden]`, without history.
    ///
    /// # Errors
    /// When the cache is full, or a prompt is empty or longer than the context.
    pub fn read(&self, prompts: &[&[u32]], cache: &mut KvCache) -> Result<(Vec<RowId>, Tensor)> {
        let texts = prompts
            .iter()
            .map(|tokens| Segment::alone(tokens))
            .collect();
        let batch = TokenBatch::packed(&[texts], 0, &self.device)?;
        let mut x = self.embedded(&batch)?.detach();
        let lengths: Vec<usize> = prompts.iter().map(|tokens| tokens.len()).collect();
        let positions = lengths
            .iter()
            .flat_map(|length| 0..*length as u32)
            .collect();
        let ends = lengths.iter().enumerate();
        let ends: Vec<u32> = ends
            .map(|(index, length)| batch.segment_index(0, index, length - 1))
            .collect();
        let empty = || Row {
            pages: Vec::new(),
            length: 0,
        };
        let ids: Vec<RowId> = prompts.iter().map(|_| cache.add(empty())).collect();
        let places = match cache.extend(&ids, &lengths) {
            Ok(places) => places,
            Err(error) => {
                ids.into_iter().for_each(|id| cache.release(id));
                return Err(error);
            }
        };
        let writing = self.writing(places, positions, cache)?;
        let division = Division::new(self, &x, batch.segments.as_ref(), cache.is_fused)?;
        for (index, block) in self.blocks.iter().enumerate() {
            let normed = self.before_attention(block, &x, Pass::Frozen)?;
            let q = self.query_rows(block, &normed, Pass::Frozen)?;
            let (k, v) = self.key_and_value_rows(block, &normed, Pass::Frozen)?;
            cache.write(index, (&k.detach(), &v.detach()), &writing, self)?;
            let merged = self.attend_divided(&division, (&q, &k, &v), Pass::Frozen)?;
            x = self.add_to_stream(block, &x, &merged, Pass::Frozen, None)?;
            x = x.detach();
        }
        let ends = Tensor::new(ends, &self.device)?;
        let last = x.flatten(0, 1)?.index_select(&ends, 0)?;
        Ok((ids, self.finish(&last, Pass::Frozen)?.detach()))
    }

    /// Adds one token to each of some rows. Returns its output after the final norm, `[rows, hidden]`,
    /// without history.
    ///
    /// # Errors
    /// When the cache is full, a row was let go, or one is as long as the context.
    pub fn step(&self, rows: &[RowId], tokens: &[u32], cache: &mut KvCache) -> Result<Tensor> {
        let mut positions = Vec::with_capacity(rows.len());
        for id in rows {
            let position = cache.row(*id)?.length;
            self.check_context(position + 1)?;
            positions.push(position as u32);
        }
        let places = cache.extend(rows, &vec![1; rows.len()])?;
        let seen = cache.seen(rows, self)?;
        let ids = Tensor::from_slice(tokens, (rows.len(), 1), &self.device)?;
        let mut x = embed(&self.embedding.detach(), &ids)?;
        if let Some(learned) = &self.positions {
            let at = Tensor::from_slice(&positions, (rows.len(), 1), &self.device)?;
            x = (x + embed(&learned.detach(), &at)?)?;
        }
        let writing = self.writing(places, positions, cache)?;
        for (index, block) in self.blocks.iter().enumerate() {
            let normed = self.before_attention(block, &x, Pass::Frozen)?;
            let q = self.query_rows(block, &normed, Pass::Frozen)?.detach();
            let (k, v) = self.key_and_value_rows(block, &normed, Pass::Frozen)?;
            cache.write(index, (&k.detach(), &v.detach()), &writing, self)?;
            let merged = cache.attend(index, &q, &seen, self)?;
            x = self.add_to_stream(block, &x, &merged, Pass::Frozen, None)?;
            x = x.detach();
        }
        let last = x.squeeze(1)?;
        Ok(self.finish(&last, Pass::Frozen)?.detach())
    }

    fn writing(&self, places: Vec<u32>, positions: Vec<u32>, cache: &KvCache) -> Result<Writing> {
        let plain = match cache.is_fused {
            true => None,
            false => {
                let at = Tensor::from_slice(&positions, (1, positions.len()), &self.device)?;
                Some((self.lines(&places)?, self.rotation_at(&at)?))
            }
        };
        Ok(Writing {
            places,
            positions,
            plain,
        })
    }

    /// The lines of a cache, `[places * key_heads, dim]`, that are written for some places: each
    /// line's number, once for every number of it.
    fn lines(&self, places: &[u32]) -> Result<Tensor> {
        let (heads, dim) = (self.config.num_key_value_heads, self.config.head_dim);
        let page = PAGE as u32;
        let of = |place: u32| {
            let (page, at) = (place / page, place % page);
            (0..heads as u32).map(move |head| (page * heads as u32 + head) * PAGE as u32 + at)
        };
        let lines: Vec<u32> = places.iter().flat_map(|place| of(*place)).collect();
        let n = lines.len();
        let lines = Tensor::from_vec(lines, (n, 1), &self.device)?;
        Ok(lines.broadcast_as((n, dim))?.contiguous()?)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use candle_core::Device;

    use super::*;
    use crate::model::transformer::{EMBEDDING, TransformerConfig};
    use crate::model::weights::{Trainable, Weights};
    use crate::nn::test_support::{distance, random};

    const HIDDEN: usize = 32;
    const INNER: usize = 48;
    const LAYERS: usize = 2;
    const VOCABULARY: usize = 11;
    const CONTEXT: usize = 60;

    /// Weights small enough that attention is spread over many positions: where it rests on one,
    /// another one that should be hidden would hardly show.
    fn tiny() -> Transformer {
        let config = TransformerConfig::parse(&serde_json::json!({
            "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": INNER,
            "num_hidden_layers": LAYERS, "num_attention_heads": 4, "num_key_value_heads": 2,
            "vocab_size": VOCABULARY, "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-5,
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

    /// Rows decoded by both forms side by side, and the tokens of each row so far.
    struct Decoding {
        model: Transformer,
        fused: KvCache,
        plain: KvCache,
        rows: Vec<(RowId, Vec<u32>)>,
    }

    impl Decoding {
        fn new(pages: usize) -> Self {
            let model = tiny();
            let cache = |is_fused| KvCache {
                is_fused,
                ..model.new_cache(pages).unwrap()
            };
            Self {
                fused: cache(true),
                plain: cache(false),
                rows: Vec::new(),
                model,
            }
        }

        fn read(&mut self, prompts: &[&[u32]]) {
            let (ids, fused) = self.model.read(prompts, &mut self.fused).unwrap();
            let (same, plain) = self.model.read(prompts, &mut self.plain).unwrap();
            assert_eq!(ids, same);
            let rows = prompts.iter().map(|tokens| tokens.to_vec());
            let rows: Vec<_> = ids.into_iter().zip(rows).collect();
            self.compare(&rows, [&fused, &plain]);
            self.rows.extend(rows);
        }

        /// Adds a token to each row.
        fn step(&mut self, new: &[u32]) {
            let ids: Vec<RowId> = self.rows.iter().map(|(id, _)| *id).collect();
            let fused = self.model.step(&ids, new, &mut self.fused).unwrap();
            let plain = self.model.step(&ids, new, &mut self.plain).unwrap();
            for ((_, row), new) in self.rows.iter_mut().zip(new) {
                row.push(*new);
            }
            self.compare(&self.rows, [&fused, &plain]);
        }

        /// Holds the logits of both forms against each other, and against those of a pass without a
        /// cache.
        fn compare(&self, rows: &[(RowId, Vec<u32>)], [fused, plain]: [&Tensor; 2]) {
            let logits = |hidden: &Tensor| self.model.logits(hidden).unwrap();
            let (fused, plain) = (logits(fused), logits(plain));
            let tokens: Vec<Vec<u32>> = rows.iter().map(|(_, tokens)| tokens.clone()).collect();
            let batch = TokenBatch::new(&tokens, 7, &Device::Cpu).unwrap();
            let whole = self.model.hidden(&batch, Pass::Tracked).unwrap();
            let whole = logits(&batch.last(&whole).unwrap());
            assert_eq!(fused.dims(), [rows.len(), VOCABULARY]);
            let d = distance(&fused, &plain);
            assert!(d < 1e-5, "the forms differ by {d:e}");
            let d = distance(&plain, &whole);
            assert!(d < 1e-4, "{d:e} from a pass without a cache");
        }

        fn branch(&mut self, row: usize) {
            let (id, tokens) = self.rows[row].clone();
            let own = self.fused.branch(id).unwrap();
            assert_eq!(own, self.plain.branch(id).unwrap());
            self.rows.push((own, tokens));
        }

        fn release(&mut self, row: usize) {
            let (id, _) = self.rows.remove(row);
            self.fused.release(id);
            self.plain.release(id);
        }
    }

    /// Rows of several lengths; samples of a prompt that fills its last page and of one that does not;
    /// a row that ends and one that comes later, into its pages.
    #[test]
    fn both_forms_of_the_cache_give_the_logits_of_a_pass_without_one() {
        let mut decoding = Decoding::new(16);
        let long: Vec<u32> = (0..2 * PAGE as u32).map(|i| i * 7 % 11).collect();
        decoding.read(&[&[1, 2, 3, 4, 5], &long, &[6, 7]]);
        decoding.branch(0);
        decoding.branch(1);
        decoding.step(&[3, 0, 4, 5, 9]);
        decoding.step(&[2, 2, 9, 1, 0]);
        // The prompt goes before one of its samples does.
        decoding.release(1);
        decoding.step(&[10, 1, 8, 6]);
        decoding.release(2);
        assert_eq!(decoding.fused.n_free(), 16 - 5);
        decoding.read(&[&long[..PAGE + 1], &[8]]);
        for token in 0..PAGE as u32 + 1 {
            decoding.step(&[token % 11; 5]);
            if token == 3 {
                decoding.release(1);
                decoding.branch(0);
            }
        }
        while !decoding.rows.is_empty() {
            decoding.release(0);
        }
        assert_eq!(decoding.fused.n_free(), 16);
        assert!(decoding.fused.readers.iter().all(|readers| *readers == 0));
    }

    #[test]
    fn a_full_cache_and_a_row_that_was_let_go_are_errors() {
        let model = tiny();
        let mut cache = model.new_cache(2).unwrap();
        let (ids, _) = model.read(&[&[1, 2], &[3]], &mut cache).unwrap();
        let error = cache.branch(ids[0]).unwrap_err().to_string();
        assert!(error.contains("all 2 pages"), "{error}");
        cache.release(ids[1]);
        let own = cache.branch(ids[0]).unwrap();
        cache.release(own);
        cache.release(own);
        let error = model
            .step(&[own], &[1], &mut cache)
            .unwrap_err()
            .to_string();
        assert!(error.contains("let go"), "{error}");
        // Neither of two rows is longer where there is room for one, and a prompt that does not fit
        // leaves nothing behind.
        let mut cache = model.new_cache(3).unwrap();
        let whole = [1; PAGE];
        let (ids, _) = model.read(&[&whole, &whole], &mut cache).unwrap();
        assert!(model.step(&ids, &[1, 1], &mut cache).is_err());
        assert!(model.read(&[&[1], &whole], &mut cache).is_err());
        assert_eq!(cache.n_free(), 1);
        model.step(&ids[..1], &[1], &mut cache).unwrap();
        let long = [1; CONTEXT + 1];
        let error = model.read(&[&long], &mut model.new_cache(9).unwrap());
        assert!(error.is_err_and(|error| error.to_string().contains("context")));
    }
}
