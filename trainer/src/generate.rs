//! Sampling completions in batches with a key-value cache.
//!
//! A prompt is read once for all its samples, which share its pages of the cache. A row that has ended
//! leaves the batch, and the next request enters in its place (continuous batching: Yu et al., Orca,
//! OSDI 2022). Each sample has a random stream of its own, and on CPU what it computes has the same bits
//! whoever decodes beside it, so that it draws the same.

use std::collections::{BTreeMap, VecDeque};

use candle_core::Tensor;
use rayon::prelude::*;

use crate::error::{Result, TrainerError};
use crate::model::transformer::{KvCache, RowId, Transformer, pages_for};
use crate::nn::paged_attention::PAGE;
use crate::rng::stream;
use crate::sampling::{SamplingConfig, draw};

/// Rows decoded together at most: each step reads all weights once, for however many rows.
pub const ROWS_AT_ONCE: usize = 160;

/// The cache of the rows decoded together takes at most this many bytes, if one row fits.
const CACHE_BYTES: usize = 1 << 30;

/// Tokens of prompts that are read in one pass, if one prompt is no longer.
pub const READ_AT_ONCE: usize = 4096;

/// Pages of a prompt of so many tokens, with a completion of at most `new` beside the prompt itself, of
/// which other completions may go on.
fn pages_of(prompt: usize, new: usize) -> usize {
    pages_for(prompt) + pages_of_branch(prompt, new)
}

/// Pages of a completion that shares its prompt's.
fn pages_of_branch(prompt: usize, new: usize) -> usize {
    pages_for(prompt + new) - prompt / PAGE
}

/// Pages of the cache for so many requests at once, whose prompts have at most `longest` tokens.
pub fn cache_pages(requests: usize, longest: usize, new: usize, page_bytes: usize) -> usize {
    // Of any prompt: a shorter one that does not fill its last page takes no more than this.
    let each = pages_for(longest + new) + 1;
    let most = each.saturating_mul(requests.min(ROWS_AT_ONCE));
    most.min(CACHE_BYTES / page_bytes.max(1)).max(each)
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
    if config.max_new_tokens == 0 {
        return Err(TrainerError::Config {
            field: "max_new_tokens".into(),
            message: "must be 1 at least".to_owned(),
        });
    }
    let longest = requests.iter().map(|request| prompts[request.prompt].len());
    let pages = cache_pages(
        requests.len(),
        longest.max().unwrap_or(0),
        config.max_new_tokens,
        model.page_bytes(),
    );
    let cache = model.new_cache(pages)?;
    let mut decoding = Decoding::new(model, prompts, requests, config, cache);
    let mut samples: Vec<Option<Sample>> = vec![None; requests.len()];
    let mut done = 0;
    while decoding.enter(&mut || progress(done))? {
        if !progress(done) {
            return Err(TrainerError::Cancelled);
        }
        for (index, sample) in decoding.advance(eos_id)? {
            samples[index] = Some(sample);
            done += 1;
        }
    }
    let all: Option<Vec<Sample>> = samples.into_iter().collect();
    all.ok_or_else(|| fault("a request was never answered"))
}

/// A fault of our own.
fn fault(message: &str) -> TrainerError {
    candle_core::Error::Msg(message.to_owned()).into()
}

/// How many requests each prompt has.
fn count(requests: &[SampleRequest]) -> BTreeMap<usize, usize> {
    let mut counts = BTreeMap::new();
    for request in requests {
        *counts.entry(request.prompt).or_default() += 1;
    }
    counts
}

/// One row being decoded.
struct Row {
    request: usize,
    id: RowId,
    rng: rand_chacha::ChaCha12Rng,
    tokens: Vec<u32>,
    log_probs: Vec<f64>,
}

/// A prompt that was read and for which more requests wait.
#[derive(Clone)]
struct Read {
    id: RowId,
    /// Output of its last position, `[1, hidden]`.
    output: Tensor,
}

/// Rows that are decoded together, and requests that wait.
struct Decoding<'a> {
    model: &'a Transformer,
    prompts: &'a [Vec<u32>],
    requests: &'a [SampleRequest],
    config: &'a SamplingConfig,
    cache: KvCache,
    waiting: VecDeque<usize>,
    /// Requests of each prompt that have no row yet.
    left: BTreeMap<usize, usize>,
    read: BTreeMap<usize, Read>,
    rows: Vec<Row>,
    /// Outputs of the rows' last positions, `[.., hidden]`, one after another.
    outputs: Vec<Tensor>,
}

impl<'a> Decoding<'a> {
    fn new(
        model: &'a Transformer,
        prompts: &'a [Vec<u32>],
        requests: &'a [SampleRequest],
        config: &'a SamplingConfig,
        cache: KvCache,
    ) -> Self {
        // Samples of one prompt follow each other.
        let mut order: Vec<usize> = (0..requests.len()).collect();
        order.sort_by_key(|index| requests[*index].prompt);
        Self {
            model,
            prompts,
            requests,
            config,
            cache,
            waiting: order.into(),
            left: count(requests),
            read: BTreeMap::new(),
            rows: Vec::new(),
            outputs: Vec::new(),
        }
    }

    /// Lets requests in while there is room, and asks before each pass over prompts whether to go on.
    /// False when nothing is left to decode.
    fn enter(&mut self, goes_on: &mut dyn FnMut() -> bool) -> Result<bool> {
        loop {
            let (entering, unread) = self.choose();
            if entering.is_empty() {
                break;
            }
            if !goes_on() {
                return Err(TrainerError::Cancelled);
            }
            if !unread.is_empty() {
                let prompts = unread.iter().map(|prompt| &self.prompts[*prompt][..]);
                let prompts: Vec<&[u32]> = prompts.collect();
                let (ids, outputs) = self.model.read(&prompts, &mut self.cache)?;
                for (index, (prompt, id)) in unread.into_iter().zip(ids).enumerate() {
                    let output = outputs.narrow(0, index, 1)?;
                    self.read.insert(prompt, Read { id, output });
                }
            }
            for request in entering {
                self.begin(request)?;
            }
        }
        match (self.rows.is_empty(), self.waiting.is_empty()) {
            (false, _) => Ok(true),
            (true, true) => Ok(false),
            (true, false) => Err(fault("the cache has no room for a single completion")),
        }
    }

    /// Pages that a row may still take.
    fn wanted(&self, row: &Row) -> usize {
        let prompt = self.prompts[self.requests[row.request].prompt].len();
        pages_for(prompt + self.config.max_new_tokens) - pages_for(prompt + row.tokens.len())
    }

    /// The next requests for which there is room, taken from those that wait, and the prompts among
    /// them that are yet to be read.
    fn choose(&mut self) -> (Vec<usize>, Vec<usize>) {
        let new = self.config.max_new_tokens;
        let wanted: usize = self.rows.iter().map(|row| self.wanted(row)).sum();
        let mut free = self.cache.n_free().saturating_sub(wanted);
        let (mut entering, mut unread) = (Vec::new(), Vec::new());
        let mut tokens = 0;
        while let Some(request) = self.waiting.front().copied() {
            let prompt = self.requests[request].prompt;
            let length = self.prompts[prompt].len();
            let is_read = self.read.contains_key(&prompt) || unread.contains(&prompt);
            let pages = match is_read {
                true => pages_of_branch(length, new),
                false => pages_of(length, new),
            };
            let is_too_long = !is_read && tokens > 0 && tokens + length > READ_AT_ONCE;
            if self.rows.len() + entering.len() == ROWS_AT_ONCE || pages > free || is_too_long {
                break;
            }
            free -= pages;
            if !is_read {
                tokens += length;
                unread.push(prompt);
            }
            entering.push(request);
            self.waiting.pop_front();
        }
        (entering, unread)
    }

    /// Adds a row for a request whose prompt was read: a branch of the prompt's row, or, for the last
    /// request of that prompt, the row itself.
    fn begin(&mut self, request: usize) -> Result<()> {
        let SampleRequest {
            prompt,
            stream: own,
        } = self.requests[request];
        let left = self.left.entry(prompt).or_default();
        *left = left.saturating_sub(1);
        let Some(Read { id, output }) = self.read.get(&prompt).cloned() else {
            return Err(fault("a prompt was not read"));
        };
        let id = match *left {
            0 => {
                self.read.remove(&prompt);
                id
            }
            _ => self.cache.branch(id)?,
        };
        self.rows.push(Row {
            request,
            id,
            rng: stream(self.config.seed, "sample", own),
            tokens: Vec::with_capacity(self.config.max_new_tokens),
            log_probs: Vec::with_capacity(self.config.max_new_tokens),
        });
        self.outputs.push(output);
        Ok(())
    }

    /// Draws a token for each row, lets ended rows go, and computes the next position of the rest.
    fn advance(&mut self, eos_id: u32) -> Result<Vec<(usize, Sample)>> {
        let outputs = Tensor::cat(&self.outputs, 0)?;
        self.outputs.clear();
        let logits: Vec<Vec<f32>> = self.model.logits(&outputs)?.to_vec2()?;
        self.rows
            .par_iter_mut()
            .zip(&logits)
            .for_each(|(row, logits)| {
                let (token, log_prob) = draw(logits, self.config, &mut row.rng);
                row.tokens.push(token);
                row.log_probs.push(log_prob);
            });
        let most = self.config.max_new_tokens;
        let has_eos = |row: &Row| row.tokens.last() == Some(&eos_id);
        let rows = std::mem::take(&mut self.rows);
        let (ended, going) = rows
            .into_iter()
            .partition::<Vec<Row>, _>(|row| has_eos(row) || row.tokens.len() >= most);
        self.rows = going;
        let mut samples = Vec::with_capacity(ended.len());
        for row in ended {
            self.cache.release(row.id);
            let is_finished = has_eos(&row);
            let sample = Sample {
                prompt: self.requests[row.request].prompt,
                tokens: row.tokens,
                log_probs: row.log_probs,
                is_finished,
            };
            samples.push((row.request, sample));
        }
        if !self.rows.is_empty() {
            let ids: Vec<RowId> = self.rows.iter().map(|row| row.id).collect();
            let last = self
                .rows
                .iter()
                .filter_map(|row| row.tokens.last().copied());
            let last: Vec<u32> = last.collect();
            let outputs = self.model.step(&ids, &last, &mut self.cache)?;
            self.outputs.push(outputs);
        }
        Ok(samples)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::path::Path;

    use candle_core::Device;

    use super::*;
    use crate::model::weights::Trainable;

    const EOS: u32 = 2;

    fn model() -> Transformer {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny");
        Transformer::load(&folder, &Device::Cpu, Trainable::Nothing).unwrap()
    }

    /// Prompts whose lengths differ, with one to three samples each.
    fn asked() -> (Vec<Vec<u32>>, Vec<SampleRequest>) {
        let prompt = |n: u32| (0..n).map(|i| (i * 13 + n * 5) % 40 + 3).collect();
        let prompts: Vec<Vec<u32>> = [5, 16, 3, 17, 1, 20].map(prompt).to_vec();
        let mut requests = Vec::new();
        for (index, n) in [3, 2, 1, 3, 1, 2].into_iter().enumerate() {
            for _ in 0..n {
                let stream = requests.len() as u64;
                // Not those of one prompt together.
                let at = (requests.len() * 7) % (requests.len() + 1);
                requests.insert(
                    at,
                    SampleRequest {
                        prompt: index,
                        stream,
                    },
                );
            }
        }
        (prompts, requests)
    }

    fn config() -> SamplingConfig {
        SamplingConfig {
            temperature: 1.0,
            top_p: 1.0,
            max_new_tokens: 14,
            seed: 3,
        }
    }

    /// With hardly more pages than one row takes, requests wait for each other; with more, rows enter
    /// while others go on. What is drawn has the same bits, and no page is lost.
    #[test]
    fn however_much_room_there_is_the_same_is_drawn() {
        let model = model();
        let (prompts, requests) = asked();
        let config = config();
        let all = generate(&model, &prompts, &requests, &config, EOS, &mut |_| true).unwrap();
        assert!(all.iter().any(|sample| sample.is_finished));
        assert!(all.iter().any(|sample| !sample.is_finished));
        let least = pages_for(20 + config.max_new_tokens) + 1;
        for pages in [least, least + 1, least + 4, 3 * least] {
            let cache = model.new_cache(pages).unwrap();
            let mut decoding = Decoding::new(&model, &prompts, &requests, &config, cache);
            let mut most = 0;
            let mut n = 0;
            while decoding.enter(&mut || true).unwrap() {
                most = most.max(decoding.rows.len());
                for (index, sample) in decoding.advance(EOS).unwrap() {
                    assert_eq!(sample.tokens, all[index].tokens, "request {index}");
                    assert_eq!(sample.log_probs, all[index].log_probs);
                    n += 1;
                }
            }
            assert_eq!(n, requests.len());
            assert_eq!(decoding.cache.n_free(), pages, "pages were lost");
            assert!(most > 1 && (most > 3 || pages < 3 * least), "{most} rows");
        }
    }

    /// A prompt that fills its pages needs fewer than a shorter one that does not.
    #[test]
    fn a_cache_that_holds_one_row_holds_any_of_the_prompts() {
        let model = model();
        let prompts = vec![vec![5; 16], vec![6; 15], vec![7; 1]];
        let requests: Vec<SampleRequest> = (0..3)
            .map(|prompt| SampleRequest { prompt, stream: 0 })
            .collect();
        let config = SamplingConfig {
            max_new_tokens: 2,
            ..config()
        };
        let pages = cache_pages(3, 16, 2, CACHE_BYTES);
        assert!(pages_of(15, 2) > pages_of(16, 2));
        let begin = |pages| {
            let cache = model.new_cache(pages).unwrap();
            Decoding::new(&model, &prompts, &requests, &config, cache)
        };
        let mut decoding = begin(pages);
        let mut n = 0;
        while decoding.enter(&mut || true).unwrap() {
            n += decoding.advance(EOS).unwrap().len();
        }
        assert_eq!(n, 3);
        // Nobody is left out unseen.
        let mut decoding = begin(pages - 1);
        let mut ended = Ok(true);
        while matches!(ended, Ok(true)) {
            ended = decoding.enter(&mut || true);
            if ended.as_ref().is_ok_and(|goes_on| *goes_on) {
                decoding.advance(EOS).unwrap();
            }
        }
        let error = ended.unwrap_err().to_string();
        assert!(error.contains("no room"), "{error}");
    }

    #[test]
    fn the_cache_has_room_for_one_row_at_least_and_for_no_more_than_are_asked_for() {
        assert_eq!(cache_pages(1, 40, 30, 1), 6);
        assert_eq!(cache_pages(3, 40, 30, 1), 18);
        assert_eq!(cache_pages(3, 40, 30, CACHE_BYTES), 6);
        assert_eq!(cache_pages(9999, 1, 1, CACHE_BYTES / 200), 200);
        for (length, new) in (1..40).flat_map(|length| (1..40).map(move |new| (length, new))) {
            assert!(pages_of(length, new) <= cache_pages(1, length, new, 1));
        }
    }

    #[test]
    fn as_many_rows_and_tokens_are_taken_at_once_as_the_limits_say() {
        let model = model();
        let length = READ_AT_ONCE / ROWS_AT_ONCE + 5;
        let n = ROWS_AT_ONCE + 40;
        let prompts = vec![vec![5; length]; n];
        let requests: Vec<SampleRequest> = (0..n)
            .map(|prompt| SampleRequest {
                prompt,
                stream: prompt as u64,
            })
            .collect();
        let config = config();
        let cache = model.new_cache(n * pages_of(length, config.max_new_tokens));
        let cache = cache.unwrap();
        let mut decoding = Decoding::new(&model, &prompts, &requests, &config, cache);
        let (entering, unread) = decoding.choose();
        assert_eq!(unread.len(), READ_AT_ONCE / length);
        assert_eq!(entering, unread);
        decoding.waiting = (0..n).collect();
        assert!(decoding.enter(&mut || true).unwrap());
        assert_eq!(decoding.rows.len(), ROWS_AT_ONCE);
        assert_eq!(decoding.waiting.len(), n - ROWS_AT_ONCE);
    }

    #[test]
    fn no_new_tokens_are_refused_by_name() {
        let config = SamplingConfig {
            max_new_tokens: 0,
            ..config()
        };
        let (prompts, requests) = asked();
        let error = generate(&model(), &prompts, &requests, &config, EOS, &mut |_| true);
        assert!(error.unwrap_err().to_string().contains("max_new_tokens"));
    }
}
