//! Sampling completions in batches with a key-value cache.
//!
//! Prompts of one batch are padded on the left, so that all rows write to the same place of the
//! cache; each row has positions of its own and does not see its padding. A prompt is read once
//! for all its samples. Rows that have ended leave the batch.

use candle_core::Tensor;

use crate::error::{Result, TrainerError};
use crate::model::transformer::{KvCache, Transformer};
use crate::rng::stream;
use crate::sampling::{SamplingConfig, draw};

/// Rows decoded together at most: each step reads all weights once, for however many rows.
const ROWS_AT_ONCE: usize = 160;

/// The cache of the rows decoded together takes at most this many bytes.
const CACHE_BYTES: usize = 1 << 30;

/// Rows that are decoded together, where each takes so many bytes of cache.
pub fn rows_at_once(cache_bytes: usize) -> usize {
    (CACHE_BYTES / cache_bytes.max(1)).clamp(1, ROWS_AT_ONCE)
}

/// A sampled completion.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Index of its prompt.
    pub prompt: usize,
    /// Its tokens, with EOS at the end if it ended by itself.
    pub tokens: Vec<u32>,
    /// How likely each was when it was drawn, in nats.
    pub log_probs: Vec<f64>,
    /// Whether it ended with EOS rather than at the limit.
    pub is_finished: bool,
}

/// What to sample: a prompt, and the number of its random stream.
#[derive(Debug, Clone)]
pub struct SampleRequest {
    /// Index into the prompts.
    pub prompt: usize,
    /// Number of the random stream under the seed.
    pub stream: u64,
}

/// Draws one completion for each request, in the order of the requests. `progress` hears how many
/// requests are done and says whether to go on.
///
/// # Errors
/// `Cancelled`, or a prompt that leaves no room in the context.
pub fn generate(
    model: &Transformer,
    prompts: &[Vec<u32>],
    requests: &[SampleRequest],
    config: &SamplingConfig,
    eos_id: u32,
    progress: &mut dyn FnMut(usize) -> bool,
) -> Result<Vec<Sample>> {
    let room = model.config.max_position_embeddings;
    for request in requests {
        let needed = prompts[request.prompt].len() + config.max_new_tokens;
        if needed > room {
            let message = format!(
                "holds {room} tokens; prompt {} and its completion need {needed}",
                request.prompt + 1
            );
            return Err(TrainerError::Config {
                field: "context".into(),
                message,
            });
        }
    }
    // Prompts of similar length together waste little on padding.
    let mut order: Vec<usize> = (0..requests.len()).collect();
    order.sort_by_key(|index| {
        (
            prompts[requests[*index].prompt].len(),
            requests[*index].prompt,
            *index,
        )
    });
    let mut samples: Vec<Option<Sample>> = vec![None; requests.len()];
    let mut done = 0;
    let longest = requests.iter().map(|request| prompts[request.prompt].len());
    let capacity = longest.max().unwrap_or(0) + config.max_new_tokens;
    for chunk in order.chunks(rows_at_once(model.cache_bytes(capacity))) {
        let mut group = Group::start(model, prompts, requests, chunk, config)?;
        while !group.rows.is_empty() {
            if !progress(done) {
                return Err(TrainerError::Cancelled);
            }
            for (index, sample) in group.advance(model, config, eos_id)? {
                samples[index] = Some(sample);
                done += 1;
            }
        }
    }
    Ok(samples.into_iter().flatten().collect())
}

/// One row being decoded.
struct Row {
    request: usize,
    prompt: usize,
    rng: rand_chacha::ChaCha12Rng,
    tokens: Vec<u32>,
    log_probs: Vec<f64>,
}

/// Rows decoded together.
struct Group {
    rows: Vec<Row>,
    cache: KvCache,
    /// Output of the last position of each row, `[rows, hidden]`.
    hidden: Tensor,
}

impl Group {
    fn start(
        model: &Transformer,
        prompts: &[Vec<u32>],
        requests: &[SampleRequest],
        chunk: &[usize],
        config: &SamplingConfig,
    ) -> Result<Self> {
        let mut distinct: Vec<usize> = chunk.iter().map(|index| requests[*index].prompt).collect();
        distinct.dedup();
        let longest = distinct
            .iter()
            .map(|prompt| prompts[*prompt].len())
            .max()
            .unwrap_or(0);
        let mut ids = Vec::with_capacity(distinct.len() * longest);
        let mut paddings = Vec::with_capacity(distinct.len());
        for prompt in &distinct {
            let tokens = &prompts[*prompt];
            let padding = longest - tokens.len();
            ids.extend(std::iter::repeat_n(
                tokens.first().copied().unwrap_or(0),
                padding,
            ));
            ids.extend_from_slice(tokens);
            paddings.push(padding);
        }
        let mut cache = model.new_cache(paddings, longest + config.max_new_tokens)?;
        let ids = Tensor::from_vec(ids, (distinct.len(), longest), &model.device)?;
        let hidden = model.step(&ids, &mut cache)?;
        // One row for each sample from one row for each prompt.
        let mut rows = Vec::with_capacity(chunk.len());
        let mut sources = Vec::with_capacity(chunk.len());
        for index in chunk {
            let request = &requests[*index];
            let source = distinct
                .iter()
                .position(|prompt| *prompt == request.prompt)
                .unwrap_or(0);
            sources.push(source);
            rows.push(Row {
                request: *index,
                prompt: request.prompt,
                rng: stream(config.seed, "sample", request.stream),
                tokens: Vec::with_capacity(config.max_new_tokens),
                log_probs: Vec::with_capacity(config.max_new_tokens),
            });
        }
        cache.copy_rows(&sources)?;
        let sources: Vec<u32> = sources.iter().map(|source| *source as u32).collect();
        let sources = Tensor::from_vec(sources, rows.len(), &model.device)?;
        Ok(Self {
            rows,
            hidden: hidden.index_select(&sources, 0)?,
            cache,
        })
    }

    /// Draws a token for each row, lets ended rows go, and computes the next position of the rest.
    fn advance(
        &mut self,
        model: &Transformer,
        config: &SamplingConfig,
        eos_id: u32,
    ) -> Result<Vec<(usize, Sample)>> {
        let logits: Vec<Vec<f32>> = model.logits(&self.hidden)?.to_vec2()?;
        use rayon::prelude::*;
        self.rows
            .par_iter_mut()
            .zip(&logits)
            .for_each(|(row, logits)| {
                let (token, log_prob) = draw(logits, config, &mut row.rng);
                row.tokens.push(token);
                row.log_probs.push(log_prob);
            });
        let mut ended = Vec::new();
        let mut going = Vec::new();
        let mut kept = Vec::new();
        for (index, row) in std::mem::take(&mut self.rows).into_iter().enumerate() {
            let is_finished = row.tokens.last() == Some(&eos_id);
            if is_finished || row.tokens.len() == config.max_new_tokens {
                ended.push((
                    row.request,
                    Sample {
                        prompt: row.prompt,
                        tokens: row.tokens,
                        log_probs: row.log_probs,
                        is_finished,
                    },
                ));
            } else {
                going.push(index);
                kept.push(row);
            }
        }
        self.rows = kept;
        if self.rows.is_empty() {
            return Ok(ended);
        }
        if !ended.is_empty() {
            self.cache.keep_rows(&going)?;
        }
        self.compute_next(model)?;
        Ok(ended)
    }

    fn compute_next(&mut self, model: &Transformer) -> Result<()> {
        let last = self.rows.iter().map(|row| row.tokens.last().copied());
        let ids: Vec<u32> = last.map(|token| token.unwrap_or(0)).collect();
        let ids = Tensor::from_vec(ids, (self.rows.len(), 1), &model.device)?;
        self.hidden = model.step(&ids, &mut self.cache)?;
        Ok(())
    }
}
