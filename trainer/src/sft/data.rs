//! What a run learns from, and how it is taken apart to fit into memory.

use super::{LearningRow, SftJob, pretraining, read_demonstrations, read_texts};
use crate::config::Learn;
use crate::error::{Result, TrainerError};
use crate::memory::runs::Demonstrations;
use crate::memory::{self, Plan};
use crate::model::transformer::TransformerConfig;
use crate::split;
use crate::text::TextCodec;

/// Demonstrations that pass through the network together where they are not packed and neither
/// setting nor limit asks for fewer.
const MICRO_ROWS: usize = 4;

/// The rows of a run.
pub(super) struct Data {
    pub(super) rows: Vec<LearningRow>,
    pub(super) held_out: Vec<LearningRow>,
    /// Texts that are mixed in.
    pub(super) texts: Vec<LearningRow>,
    /// On what was left out.
    pub(super) remark: Option<String>,
}

impl Data {
    /// Reads the demonstrations, split by prompt, or texts to pretrain on, split by text.
    pub(super) fn read(job: &SftJob, codec: &TextCodec, shape: &TransformerConfig) -> Result<Self> {
        let config = &job.config;
        if config.learn == Learn::Everything && (job.texts.is_some() || job.reward.is_some()) {
            return Err(TrainerError::Config {
                field: "learn".into(),
                message: "is everything: the data are texts themselves, so neither texts to mix \
                          in nor a reward model to score answers fits it"
                    .to_owned(),
            });
        }
        let context = shape.max_position_embeddings;
        let longest = config.max_tokens.min(context);
        let (share, seed) = (config.held_out_share, config.seed);
        let (rows, held_out, remark) = match config.learn {
            Learn::Answers => {
                let (rows, remark) = read_demonstrations(&job.data, codec, longest)?;
                let (rows, held_out) = split::hold_out(rows, LearningRow::given, share, seed);
                (rows, held_out, remark)
            }
            Learn::Everything => {
                let (rows, held_out) = pretraining::read(&job.data, codec, longest, share, seed)?;
                (rows, held_out, None)
            }
        };
        let texts = match &job.texts {
            Some(path) => read_texts(path, codec, config.pretraining_tokens.min(context))?,
            None => Vec::new(),
        };
        Ok(Self {
            rows,
            held_out,
            texts,
            remark,
        })
    }
}

/// How a run would take its batches apart, and what memory it would need, without training.
///
/// # Errors
/// As [`super::run`] says of data and settings, and when nothing fits the limit.
pub fn estimate(job: &SftJob) -> Result<Plan> {
    job.config.check()?;
    let codec = TextCodec::load(&job.base)?;
    let shape = TransformerConfig::read(&job.base)?;
    let data = Data::read(job, &codec, &shape)?;
    let all = data.rows.iter().chain(&data.held_out).chain(&data.texts);
    plan(job, &shape, all)
}

/// How batches of these rows are taken apart, and what memory the run needs.
pub(super) fn plan<'a>(
    job: &SftJob,
    shape: &TransformerConfig,
    rows: impl Iterator<Item = &'a LearningRow>,
) -> Result<Plan> {
    let config = &job.config;
    let (mut lengths, mut learnt) = (Vec::new(), 0);
    for row in rows {
        lengths.push(row.tokens.len());
        learnt = learnt.max(row.n_learnt());
    }
    lengths.sort_unstable();
    let longest = lengths.last().copied().unwrap_or(0);
    let judge = match &job.reward {
        Some(folder) => Some(TransformerConfig::read(folder)?),
        None => None,
    };
    let data = Demonstrations {
        longest,
        learnt,
        batch: lengths.iter().rev().take(config.batch_size).sum(),
        judge: judge.as_ref(),
    };
    let sizes = match config.pack_tokens {
        // A packed row is as long as its longest text at least.
        Some(tokens) => {
            let mut sizes = memory::halves(None, tokens);
            sizes.retain(|size| *size > longest);
            if sizes.is_empty() || config.memory_limit_gib.is_some() {
                sizes.push(longest.min(tokens));
            }
            sizes
        }
        None => memory::halves(config.micro_rows, MICRO_ROWS),
    };
    let candidates = memory::in_turn(&sizes, config.recompute_activations);
    let limit = config.memory_limit_gib;
    let plan = Plan::choose(limit, &candidates, |_, rows, recomputes| {
        memory::runs::sft(shape, config, &data, rows, recomputes)
    })?;
    Ok(Plan {
        is_packed: config.pack_tokens.is_some(),
        ..plan
    })
}
