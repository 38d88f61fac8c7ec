//! Best of n: of n completions drawn for a prompt, the one that a reward model scores highest. It
//! needs no training, and is what a trained policy has to beat at the same distance from the model
//! (Stiennon et al. 2020, arXiv 2009.01325; Nakano et al. 2021, arXiv 2112.09332; Gao et al. 2022,
//! arXiv 2210.10760).
//!
//! 1. Read the prompts; leave out those that leave no room for a completion.
//! 2. For each block of prompts: draw n completions of each, score them, keep the best.
//! 3. Work out what fewer samples would have reached, from all of them.

use std::path::PathBuf;

use candle_core::Device;
use serde_json::json;

use crate::checkpoint::check_writes;
use crate::error::{Result, TrainerError};
use crate::generate::{SampleRequest, generate};
use crate::judge::Judge;
use crate::model::transformer::Transformer;
use crate::model::weights::Trainable;
use crate::progress::{Event, Progress};
use crate::records::{self, Placed, Prompt, PromptRecord, name_lines};
use crate::reward::{Accuracy, bootstrap_mean};
use crate::sampling::SamplingConfig;
use crate::text::TextCodec;

/// Most samples of a prompt; also the number of random streams set aside for each.
pub const MAX_SAMPLES: usize = 1 << 16;

/// Completions drawn before they are scored: enough to fill the decoder's rows, few enough to
/// report often.
const SAMPLES_AT_ONCE: usize = 320;

/// What to draw.
pub struct BestOfNJob {
    /// Completions of each prompt.
    pub n: usize,
    /// How they are drawn.
    pub sampling: SamplingConfig,
    /// The model's folder.
    pub model: PathBuf,
    /// The reward model that chooses, the proxy.
    pub reward: PathBuf,
    /// Another one that only looks on at what is chosen: whether it agrees is what a proxy cannot
    /// tell of itself (Gao et al. call it gold).
    pub gold: Option<PathBuf>,
    /// Prompts, JSONL.
    pub prompts: PathBuf,
}

/// The best completion of a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    /// The prompt's id in the file.
    pub id: String,
    /// The prompt.
    pub prompt: Prompt,
    /// The completion's text.
    pub text: String,
    /// Its random stream.
    pub stream: u64,
    /// False when the token limit cut it off.
    pub is_finished: bool,
    /// What the reward model says of it.
    pub score: f64,
    /// What the other one says of it.
    pub gold: Option<f64>,
}

/// What the best of so many samples is like.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    /// Samples of each prompt.
    pub n: usize,
    /// See [`kl_bound`].
    pub kl_bound: f64,
    /// Mean score of the best, with its interval over prompts.
    pub reward: Accuracy,
    /// Mean of what the other reward model says of the same completions.
    pub gold: Option<Accuracy>,
}

/// What was drawn.
#[derive(Debug)]
pub struct Drawn {
    /// The best of each prompt, in the file's order.
    pub chosen: Vec<Chosen>,
    /// The best of 1, 2, 4, ... and of all n samples.
    pub curve: Vec<Point>,
}

/// KL(best of n || model) in nats is at most log n - (n - 1) / n. That is what it is where no
/// completion is drawn twice and no two score the same (Stiennon et al., appendix G.3); where a
/// prompt has few different answers it is less (Beirami et al. 2024, arXiv 2401.01879).
pub fn kl_bound(n: usize) -> f64 {
    let n = n as f64;
    n.ln() - (n - 1.0) / n
}

/// The expectation, over all subsets of `k` of the samples, of the `value` of the one with the
/// highest `score`: an unbiased estimate of what the best of `k` samples is worth, from all samples
/// at once (Nakano et al., appendix I). Those that score the same are equally likely to be taken.
/// `k` is 1 to the number of samples; both slices are of one length.
pub fn expected_best(scores: &[f64], values: &[f64], k: usize) -> f64 {
    let n = scores.len();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    // The sample of place i from the top, counted from 0, is the best of C(n - 1 - i, k - 1) of the
    // C(n, k) subsets; the quotients of neighbours stay within what a number can hold.
    let mut weight = k as f64 / n as f64;
    let (mut sum, mut place) = (0.0, 0);
    while place < n {
        let ties = order[place..].iter();
        let n_ties = ties
            .take_while(|index| scores[**index] == scores[order[place]])
            .count()
            .max(1);
        let (mut of_ties, mut total) = (0.0, 0.0);
        for index in &order[place..place + n_ties] {
            of_ties += weight;
            total += values[*index];
            let below = n - 1 - place;
            weight *= match below {
                0 => 0.0,
                _ => (below as f64 - k as f64 + 1.0).max(0.0) / below as f64,
            };
            place += 1;
        }
        sum += of_ties * total / n_ties as f64;
    }
    sum
}

/// 1, 2, 4, ... below `n`, and `n`.
fn sizes(n: usize) -> Vec<usize> {
    let doubled = std::iter::successors(Some(1), |size| Some(2 * size));
    doubled.take_while(|size| *size < n).chain([n]).collect()
}

/// The samples of one prompt.
struct Samples {
    scores: Vec<f64>,
    golds: Option<Vec<f64>>,
}

/// Draws, scores and chooses.
///
/// # Errors
/// A sentence about prompts, models or settings; `Cancelled`.
pub fn run(job: &BestOfNJob, progress: &mut dyn Progress) -> Result<Drawn> {
    check(job)?;
    let judge = Judge::load(&job.reward)?;
    let gold = job.gold.as_deref().map(Judge::load).transpose()?;
    let codec = TextCodec::load(&job.model)?;
    check_writes(&job.model)?;
    let model = Transformer::load(&job.model, &Device::Cpu, Trainable::Nothing)?;
    codec.check_fits(&job.model, model.config.vocab_size)?;

    // 1. Read the prompts.
    let contexts = [model.config.max_position_embeddings, judge.room()];
    let contexts = contexts.into_iter().chain(gold.as_ref().map(Judge::room));
    let prompts = read_prompts(job, &codec, contexts.min().unwrap_or(0), progress)?;

    // 2. Draw, score and keep the best.
    let total = prompts.len() * job.n;
    let (mut chosen, mut all) = (Vec::new(), Vec::new());
    for block in prompts.chunks((SAMPLES_AT_ONCE / job.n).max(1)) {
        let done = chosen.len() * job.n;
        let drawn = draw(job, &codec, &model, block, &mut |n| {
            progress.phase("drawing completions", done + n, total);
            !progress.is_cancelled()
        })?;
        for (one, drawn) in block.iter().zip(drawn.chunks(job.n)) {
            progress.go_on()?;
            let samples = Samples {
                scores: ask(&judge, one, drawn, progress)?,
                golds: gold
                    .as_ref()
                    .map(|gold| ask(gold, one, drawn, progress))
                    .transpose()?,
            };
            chosen.push(choose(one, drawn, &samples));
            all.push(samples);
        }
        report_block(&chosen, progress);
    }
    progress.phase("drawing completions", total, total);

    // 3. What fewer samples would have reached.
    let sizes = sizes(job.n).into_iter();
    let curve = sizes.map(|n| point(&all, n, job)).collect();
    Ok(Drawn { chosen, curve })
}

/// A completion as it was drawn.
struct Sampled {
    text: String,
    stream: u64,
    is_finished: bool,
}

/// Draws n completions of each prompt, one prompt's after the other's.
fn draw(
    job: &BestOfNJob,
    codec: &TextCodec,
    model: &Transformer,
    prompts: &[Open],
    progress: &mut dyn FnMut(usize) -> bool,
) -> Result<Vec<Sampled>> {
    let rows: Vec<Vec<u32>> = prompts.iter().map(|one| one.tokens.clone()).collect();
    let mut requests = Vec::with_capacity(prompts.len() * job.n);
    for (prompt, one) in prompts.iter().enumerate() {
        // By the place in the file, so that a prompt's samples depend on no other's.
        let first = (one.index * MAX_SAMPLES) as u64;
        let streams = first..first + job.n as u64;
        requests.extend(streams.map(|stream| SampleRequest { prompt, stream }));
    }
    let eos = codec.eos_id;
    let samples = generate(model, &rows, &requests, &job.sampling, eos, progress)?;
    let samples = requests.iter().zip(samples);
    samples
        .map(|(request, sample)| {
            let mut text = codec.decode(&sample.tokens)?;
            if !sample.is_finished {
                // The limit may have cut a letter in two.
                let whole = text.trim_end_matches(char::REPLACEMENT_CHARACTER).len();
                text.truncate(whole);
            }
            Ok(Sampled {
                text,
                stream: request.stream,
                is_finished: sample.is_finished,
            })
        })
        .collect()
}

/// What a reward model says of a prompt's completions.
fn ask(
    judge: &Judge,
    prompt: &Open,
    drawn: &[Sampled],
    progress: &mut dyn Progress,
) -> Result<Vec<f64>> {
    let texts: Vec<&str> = drawn.iter().map(|sample| sample.text.as_str()).collect();
    let (scores, n_cut) = judge.score_texts(&prompt.prompt, &texts)?;
    if n_cut > 0 {
        progress.log(format!(
            "a reward model reads {} tokens: it saw {n_cut} of {} completions of {} without the \
             beginning of the prompt",
            judge.room(),
            drawn.len(),
            prompt.id
        ));
    }
    Ok(scores.into_iter().map(f64::from).collect())
}

/// The first of those that score highest.
fn choose(prompt: &Open, drawn: &[Sampled], samples: &Samples) -> Chosen {
    let better = |best: usize, index: usize| match samples.scores[index] > samples.scores[best] {
        true => index,
        false => best,
    };
    let best = (0..drawn.len()).fold(0, better);
    Chosen {
        id: prompt.id.clone(),
        prompt: prompt.prompt.clone(),
        text: drawn[best].text.clone(),
        stream: drawn[best].stream,
        is_finished: drawn[best].is_finished,
        score: samples.scores[best],
        gold: samples.golds.as_ref().map(|golds| golds[best]),
    }
}

fn check(job: &BestOfNJob) -> Result<()> {
    let wrong = |field: &'static str, message: String| {
        Err(TrainerError::Config {
            field: field.into(),
            message,
        })
    };
    if !(1..=MAX_SAMPLES).contains(&job.n) {
        return wrong("best_of", format!("must be 1 to {MAX_SAMPLES}"));
    }
    match job.sampling.complaint() {
        Some((field, message)) => wrong(field, message),
        None => Ok(()),
    }
}

fn point(all: &[Samples], n: usize, job: &BestOfNJob) -> Point {
    let interval = |values: Vec<f64>| {
        let values: Vec<(f64, usize)> = values.into_iter().map(|value| (value, 1)).collect();
        bootstrap_mean(&values, job.sampling.seed)
    };
    let rewards = all.iter();
    let rewards = rewards.map(|one| expected_best(&one.scores, &one.scores, n));
    let golds = all.iter();
    let golds = golds.map(|one| Some(expected_best(&one.scores, one.golds.as_ref()?, n)));
    Point {
        n,
        kl_bound: kl_bound(n),
        reward: interval(rewards.collect()),
        gold: golds.collect::<Option<Vec<f64>>>().map(interval),
    }
}

/// A prompt and what the model reads of it.
struct Open {
    /// Its place in the file.
    index: usize,
    id: String,
    prompt: Prompt,
    tokens: Vec<u32>,
}

fn read_prompts(
    job: &BestOfNJob,
    codec: &TextCodec,
    context: usize,
    progress: &mut dyn Progress,
) -> Result<Vec<Open>> {
    let records: Vec<Placed<PromptRecord>> = records::read_placed(&job.prompts)?;
    // The completion follows, and the EOS at which a reward model reads.
    let room = context.saturating_sub(job.sampling.max_new_tokens + 1);
    let (mut prompts, mut long) = (Vec::new(), Vec::new());
    for (index, placed) in records.into_iter().enumerate() {
        let tokens = placed.at_field("prompt", codec.encode_prompt(&placed.record.prompt))?;
        if tokens.len() > room {
            long.push(placed.line);
            continue;
        }
        prompts.push(Open {
            index,
            id: placed.record.id,
            prompt: placed.record.prompt,
            tokens,
        });
    }
    if prompts.is_empty() && room == 0 {
        return Err(TrainerError::Config {
            field: "max_new_tokens".into(),
            message: format!(
                "is {}, which leaves no room for a prompt in a context of {context} tokens",
                job.sampling.max_new_tokens
            ),
        });
    }
    if prompts.is_empty() {
        let message = format!("is longer than {room} tokens, as is every other prompt");
        return Err(TrainerError::input(
            &job.prompts,
            long[0],
            "prompt",
            message,
        ));
    }
    if !long.is_empty() {
        progress.log(format!(
            "{} prompts leave no room for {} tokens in {context}: {} are left out",
            long.len(),
            job.sampling.max_new_tokens,
            name_lines(&long)
        ));
    }
    Ok(prompts)
}

fn report_block(chosen: &[Chosen], progress: &mut dyn Progress) {
    let Some(last) = chosen.last() else {
        return;
    };
    let data = json!({
        "prompt": last.prompt, "completion": last.text, "reward": last.score,
        "is_finished": last.is_finished,
    });
    let step = chosen.len() as u64;
    progress.record(Event::Sample { step, data });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition: every subset of k samples, one by one. Those that score the same share.
    fn over_all_subsets(scores: &[f64], values: &[f64], k: usize) -> f64 {
        let (mut sum, mut n_subsets) = (0.0, 0);
        for subset in 0_u32..1 << scores.len() {
            if subset.count_ones() as usize != k {
                continue;
            }
            let members = || (0..scores.len()).filter(|index| subset & (1 << index) != 0);
            let highest = members()
                .map(|index| scores[index])
                .fold(f64::MIN, f64::max);
            let best: Vec<usize> = members()
                .filter(|index| scores[*index] == highest)
                .collect();
            sum += best.iter().map(|index| values[*index]).sum::<f64>() / best.len() as f64;
            n_subsets += 1;
        }
        sum / f64::from(n_subsets)
    }

    #[test]
    fn the_best_of_two_of_three() {
        let scores = [1.0, 5.0, 2.0];
        // {1, 5}, {1, 2}, {5, 2}.
        assert!((expected_best(&scores, &scores, 2) - 4.0).abs() < 1e-12);
        assert!((expected_best(&scores, &[10.0, 20.0, 60.0], 2) - 100.0 / 3.0).abs() < 1e-12);
        assert_eq!(expected_best(&scores, &scores, 3), 5.0);
    }

    /// Vectors of the formula (n = 4, 16, 64), and its limits.
    #[test]
    fn the_bound_of_kl() {
        for (n, expected) in [(1, 0.0), (4, 0.6363), (16, 1.8351), (64, 3.1745)] {
            assert!(
                (kl_bound(n) - expected).abs() < 5e-5,
                "{n}: {}",
                kl_bound(n)
            );
        }
    }

    #[test]
    fn sizes_double_up_to_all_samples() {
        assert_eq!(sizes(1), [1]);
        assert_eq!(sizes(8), [1, 2, 4, 8]);
        assert_eq!(sizes(10), [1, 2, 4, 8, 10]);
    }

    #[test]
    fn many_samples_do_not_overflow() {
        let scores: Vec<f64> = (0..5000).map(f64::from).collect();
        // The highest of k of 1..=N is k (N + 1) / (k + 1) on average.
        for k in [1, 64, 2500, 5000] {
            let expected = k as f64 * 5001.0 / (k as f64 + 1.0) - 1.0;
            let found = expected_best(&scores, &scores, k);
            assert!((found - expected).abs() < 1e-6, "{k}: {found} {expected}");
        }
    }

    proptest! {
        #[test]
        fn the_estimate_is_the_mean_over_all_subsets(
            scores in proptest::collection::vec(0_u32..6, 1..9),
            seed in 0.1_f64..3.0,
        ) {
            // Few different scores, so that there are ties.
            let scores: Vec<f64> = scores.into_iter().map(f64::from).collect();
            let values: Vec<f64> = (0..scores.len()).map(|i| (seed * (i + 1) as f64).sin()).collect();
            for k in 1..=scores.len() {
                for values in [&scores, &values] {
                    let found = expected_best(&scores, values, k);
                    let expected = over_all_subsets(&scores, values, k);
                    prop_assert!((found - expected).abs() < 1e-12, "{k}: {found} {expected}");
                }
            }
        }
    }
}
