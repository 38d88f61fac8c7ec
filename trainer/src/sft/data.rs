//! What a run learns from, and how it is taken apart to fit into memory.

use super::{Demonstration, LearningRow, SftJob, pretraining, read_demonstrations, read_texts};
use crate::checkpoint::check_writes;
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
    /// Reads the demonstrations, split by prompt and writing, or texts to pretrain on, split by text.
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
                let (rows, held_out) = hold_out(rows, share, seed);
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

/// What to train on, and what to hold out: all demonstrations of a prompt and all of a writing on one side.
/// The examples of a few-shot demonstration show each other's answers: held out alone, one would be known.
fn hold_out(
    demonstrations: Vec<Demonstration>,
    share: f64,
    seed: u64,
) -> (Vec<LearningRow>, Vec<LearningRow>) {
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    enum Tie<'a> {
        Prompt(&'a [u32]),
        Writing(&'a str),
    }
    let ties = demonstrations.iter().map(|own| {
        let prompt = Tie::Prompt(own.row.given());
        let writing = own.writing.as_deref().map(Tie::Writing);
        std::iter::once(prompt).chain(writing).collect()
    });
    let firsts = split::joined(ties);
    // A unit has the name of its least prompt, so that the order of the file does not matter and a file
    // without writings is split by its prompts.
    let mut names: Vec<Option<Vec<u32>>> = vec![None; demonstrations.len()];
    for (own, first) in demonstrations.iter().zip(&firsts) {
        let given = own.row.given();
        if names[*first].as_deref().is_none_or(|least| given < least) {
            names[*first] = Some(given.to_vec());
        }
    }
    let rows = demonstrations.into_iter().zip(&firsts);
    let rows = rows.map(|(own, first)| (own.row, names[*first].clone().unwrap_or_default()));
    let split = split::hold_out(rows.collect(), |(_, name)| name.as_slice(), share, seed);
    let rows = |side: Vec<(LearningRow, Vec<u32>)>| side.into_iter().map(|(row, _)| row).collect();
    (rows(split.0), rows(split.1))
}

/// How a run would take its batches apart, and what memory it would need, without training.
///
/// # Errors
/// As [`super::run`] says of data and settings, and when nothing fits the limit.
pub fn estimate(job: &SftJob) -> Result<Plan> {
    job.config.check()?;
    check_writes(&job.base)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The index is the learnt token.
    fn demonstration(index: u32, prompt: u32, writing: Option<&str>) -> Demonstration {
        Demonstration {
            row: LearningRow {
                tokens: vec![5, prompt, 6, index, 1],
                start: 3,
            },
            writing: writing.map(str::to_owned),
        }
    }

    fn indexes(rows: &[LearningRow]) -> Vec<u32> {
        rows.iter().map(|row| row.tokens[3]).collect()
    }

    #[test]
    fn all_examples_of_a_few_shot_writing_are_learnt_or_all_held_out() {
        for seed in 0..20 {
            // Ten writings of four examples, whose prompts all differ.
            let all = (0..40).map(|index| {
                let writing = format!("writing {}", index % 10);
                demonstration(index, 100 + index, Some(&writing))
            });
            let (train, held_out) = hold_out(all.collect(), 0.2, seed);
            let (train, held_out) = (indexes(&train), indexes(&held_out));
            assert_eq!((train.len(), held_out.len()), (32, 8));
            let mut pairs = held_out
                .iter()
                .flat_map(|a| train.iter().map(move |b| (a, b)));
            assert!(pairs.all(|(a, b)| a % 10 != b % 10), "seed {seed}");
        }
    }

    #[test]
    fn a_prompt_joins_two_writings_and_without_writings_the_draw_is_that_of_prompts() {
        let joined = || {
            let mut all = vec![
                demonstration(0, 50, Some("a")),
                demonstration(1, 51, Some("a")),
                demonstration(2, 51, Some("b")),
                demonstration(3, 52, Some("b")),
            ];
            all.extend((4..8).map(|index| demonstration(index, 60 + index, None)));
            all
        };
        for seed in 0..20 {
            let held_out = indexes(&hold_out(joined(), 0.2, seed).1);
            let n = held_out.iter().filter(|index| **index < 4).count();
            assert!(n == 0 || n == 4, "seed {seed}: {held_out:?}");
        }
        let plain = || (0..30).map(|index| demonstration(index, index % 10, None));
        let rows = plain().map(|own| own.row).collect();
        let by_prompt = split::hold_out(rows, LearningRow::given, 0.2, 7).1;
        let own = hold_out(plain().collect(), 0.2, 7).1;
        assert_eq!(indexes(&own), indexes(&by_prompt));
    }
}
