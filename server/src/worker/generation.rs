//! Draws K different completions for each prompt. The worker and `plackett generate` share this.
//!
//! Every draw has a random stream of its own, numbered by its prompt's place and its turn, so the
//! same prompts, model, settings and seed give the same completions however they are batched.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use trainer::checkpoint::check_writes;
use trainer::generate::{SampleRequest, generate};
use trainer::model::transformer::Transformer;
use trainer::model::weights::Trainable;
use trainer::progress::{Event, Progress};
use trainer::records::{self, Prompt, PromptRecord};
use trainer::text::TextCodec;
use trainer::{Device, Result, TrainerError};

use crate::domain::run::{GenerationConfig, MIN_CANDIDATES};

/// Prompts worked on together: enough to fill the decoder's rows, few enough to report often.
const PROMPTS_AT_ONCE: usize = 32;

/// Stream numbers set aside for each prompt; more than any number of draws for one prompt.
const STREAMS_PER_PROMPT: u64 = 64;

/// Draws for one prompt at most, as a multiple of its candidates. A model that is sure of its
/// answer repeats itself, and drawing for ever would not change that.
const DRAWS_PER_CANDIDATE: usize = 4;

/// What to draw.
#[derive(Debug, Clone)]
pub struct GenerationJob {
    /// Settings.
    pub config: GenerationConfig,
    /// The model's folder.
    pub model: PathBuf,
    /// Prompts, JSONL.
    pub prompts: PathBuf,
}

/// A completion as it was drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drawn {
    /// Its text.
    pub text: String,
    /// Its random stream.
    pub stream: u64,
    /// False when the token limit cut it off.
    pub is_finished: bool,
    /// Its length in tokens.
    pub n_tokens: usize,
}

/// A prompt with its different completions, at least [`MIN_CANDIDATES`].
#[derive(Debug, Clone)]
pub struct Answered {
    /// Its place in the file, from 0.
    pub index: usize,
    /// Its id in the file.
    pub id: String,
    /// The prompt.
    pub prompt: Prompt,
    /// The completions, in the order of their streams.
    pub completions: Vec<Drawn>,
}

impl GenerationConfig {
    /// How a completion was drawn, as it is stored and exported beside it.
    pub fn describe(&self, stream: u64) -> Value {
        json!({
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_new_tokens": self.max_new_tokens,
            "seed": self.seed,
            "stream": stream,
        })
    }
}

/// Draws. Prompts that the model cannot read, or that get too few different completions, are
/// named in the log and left out.
///
/// # Errors
/// A sentence about prompts, model or settings; `Cancelled`.
pub fn draw_candidates(job: &GenerationJob, progress: &mut dyn Progress) -> Result<Vec<Answered>> {
    if let Some((field, message)) = job.config.complaint() {
        return Err(TrainerError::Config {
            field: field.into(),
            message,
        });
    }
    check_writes(&job.model)?;
    let records: Vec<PromptRecord> = records::read(&job.prompts)?;
    let artist = Artist::load(&job.model, &job.config)?;
    let mut answered = Vec::with_capacity(records.len());
    let total = records.len() * job.config.candidates;
    for (block, records) in records.chunks(PROMPTS_AT_ONCE).enumerate() {
        let first = block * PROMPTS_AT_ONCE;
        let done = first * job.config.candidates;
        let drawn = artist.draw_block(first, records, done, total, progress)?;
        report_block(block, &drawn, progress);
        answered.extend(drawn);
    }
    progress.phase("drawing completions", total, total);
    let left_out = records.len() - answered.len();
    progress.log(format!(
        "{} prompts have {MIN_CANDIDATES} to {} different completions; {left_out} are left out",
        answered.len(),
        job.config.candidates
    ));
    if answered.is_empty() {
        let prompts = job.prompts.display();
        return Err(TrainerError::Config {
            field: "candidates".into(),
            message: format!(
                "no prompt of {prompts} got {MIN_CANDIDATES} different completions, so there is nothing to \
                 rank: prompts may be too long for the model, or a higher temperature, top_p or \
                 max_new_tokens may be needed"
            ),
        });
    }
    Ok(answered)
}

/// Figures of a block, and one answer to look at.
fn report_block(block: usize, drawn: &[Answered], progress: &mut dyn Progress) {
    let all: Vec<&Drawn> = drawn
        .iter()
        .flat_map(|prompt| &prompt.completions)
        .collect();
    let n = all.len().max(1) as f64;
    let finished = all.iter().filter(|one| one.is_finished).count() as f64;
    let tokens = all.iter().map(|one| one.n_tokens).sum::<usize>() as f64;
    let step = block as u64 + 1;
    progress.metrics(
        step,
        [
            ("completions/finished_share", finished / n),
            ("completions/mean_tokens", tokens / n),
        ],
    );
    if let Some(prompt) = drawn.first() {
        let data = json!({"prompt": prompt.prompt, "completion": prompt.completions[0].text});
        progress.record(Event::Sample { step, data });
    }
}

/// The model, ready to draw.
struct Artist<'a> {
    config: &'a GenerationConfig,
    codec: TextCodec,
    model: Transformer,
}

/// A prompt while its completions are being drawn.
struct Open {
    tokens: Vec<u32>,
    n_drawn: usize,
    completions: Vec<Drawn>,
}

impl<'a> Artist<'a> {
    fn load(folder: &Path, config: &'a GenerationConfig) -> Result<Self> {
        Ok(Self {
            config,
            codec: TextCodec::load(folder)?,
            model: Transformer::load(folder, &Device::Cpu, Trainable::Nothing)?,
        })
    }

    /// Draws for prompts `first ..` of the file until each has enough or has had its draws.
    fn draw_block(
        &self,
        first: usize,
        records: &[PromptRecord],
        done: usize,
        total: usize,
        progress: &mut dyn Progress,
    ) -> Result<Vec<Answered>> {
        let mut open = Vec::with_capacity(records.len());
        for record in records {
            open.push(self.open(record, progress)?);
        }
        loop {
            let requests = self.missing(first, &mut open);
            if requests.is_empty() {
                break;
            }
            self.draw_round(first, &requests, &mut open, done, total, progress)?;
        }
        let mut answered = Vec::with_capacity(records.len());
        for (place, (record, mut open)) in records.iter().zip(open).enumerate() {
            open.completions.sort_by_key(|drawn| drawn.stream);
            if open.completions.len() < MIN_CANDIDATES {
                if open.n_drawn > 0 {
                    progress.log(format!(
                        "prompt {} has only {} different completions after {} draws and is left out",
                        record.id,
                        open.completions.len(),
                        open.n_drawn
                    ));
                }
                continue;
            }
            answered.push(Answered {
                index: first + place,
                id: record.id.clone(),
                prompt: record.prompt.clone(),
                completions: open.completions,
            });
        }
        Ok(answered)
    }

    /// The prompt's tokens; none, said in the log, when it leaves no room for a completion.
    fn open(&self, record: &PromptRecord, progress: &mut dyn Progress) -> Result<Open> {
        let mut tokens = self.codec.encode_prompt(&record.prompt)?;
        let room = self.model.config.max_position_embeddings;
        if tokens.len() + self.config.max_new_tokens > room {
            progress.log(format!(
                "prompt {} has {} tokens, which leaves no room for {} more in {room}; it is left out",
                record.id,
                tokens.len(),
                self.config.max_new_tokens
            ));
            tokens.clear();
        }
        Ok(Open {
            tokens,
            n_drawn: 0,
            completions: Vec::new(),
        })
    }

    /// One request for each completion that is still missing, with a new stream each.
    fn missing(&self, first: usize, open: &mut [Open]) -> Vec<SampleRequest> {
        let limit = DRAWS_PER_CANDIDATE * self.config.candidates;
        let mut requests = Vec::new();
        for (prompt, open) in open.iter_mut().enumerate() {
            if open.tokens.is_empty() {
                continue;
            }
            let missing = self.config.candidates - open.completions.len();
            for _ in 0..missing.min(limit - open.n_drawn) {
                let stream = (first + prompt) as u64 * STREAMS_PER_PROMPT + open.n_drawn as u64;
                requests.push(SampleRequest { prompt, stream });
                open.n_drawn += 1;
            }
        }
        requests
    }

    fn draw_round(
        &self,
        first: usize,
        requests: &[SampleRequest],
        open: &mut [Open],
        done: usize,
        total: usize,
        progress: &mut dyn Progress,
    ) -> Result<()> {
        let prompts: Vec<Vec<u32>> = open.iter().map(|open| open.tokens.clone()).collect();
        let sampling = self.config.sampling();
        let is_first_round = requests.iter().all(|request| {
            request.stream - (first + request.prompt) as u64 * STREAMS_PER_PROMPT
                < self.config.candidates as u64
        });
        let samples = generate(
            &self.model,
            &prompts,
            requests,
            &sampling,
            self.codec.eos_id,
            &mut |n| {
                if is_first_round {
                    progress.phase("drawing completions", done + n, total);
                }
                !progress.is_cancelled()
            },
        )?;
        for (request, sample) in requests.iter().zip(samples) {
            let mut text = self.codec.decode(&sample.tokens)?;
            if !sample.is_finished {
                // The limit may have cut a letter in two.
                let whole = text.trim_end_matches(char::REPLACEMENT_CHARACTER).len();
                text.truncate(whole);
            }
            let known = &mut open[request.prompt].completions;
            let is_repeat = known.iter().any(|one| one.text.trim() == text.trim());
            if !text.trim().is_empty() && !is_repeat {
                known.push(Drawn {
                    text,
                    stream: request.stream,
                    is_finished: sample.is_finished,
                    n_tokens: sample.tokens.len(),
                });
            }
        }
        Ok(())
    }
}
