//! Step three: PPO against the reward model, with the pretraining term (InstructGPT, section 3.5
//! and C.4).
//!
//! 1. Load policy, reference, reward and value model and check them. Then, for each iteration:
//! 2. sample an episode for each of a batch of prompts;
//! 3. take old log-probabilities, those of the reference, values and scores;
//! 4. shape the rewards: minus the KL term at each token, plus the score at the last;
//! 5. estimate and whiten advantages;
//! 6. for each minibatch: clipped policy and value losses, plus the pretraining gradient, step;
//! 7. control KL.
//! 8. At the end answer the same prompts as before, and write.

mod credit;
mod episode;
mod evaluation;
mod first_batch;
mod gold;
mod learn;
#[cfg(test)]
mod parity;
mod report;
mod rollout;
mod setup;
mod state;
mod texts;
mod update;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use rand::seq::SliceRandom;

use self::episode::{Episode, mean};
use self::gold::GoldJudge;
pub use self::gold::{Gold, Utility};
use self::report::mean_gold;
use self::setup::{
    Prompts, Shapes, check_models, describe_models, frozen_hashes, load_models, read_prompts, write,
};
use self::state::State;
use self::texts::{Texts, read_texts};
use crate::config::PpoConfig;
use crate::error::{Result, TrainerError};
use crate::memory::{PeakWatch, Plan};
use crate::model::heads::RewardModel;
use crate::model::transformer::Transformer;
use crate::optim::{AdamW, WeightAverage};
use crate::progress::{Event, Progress};
use crate::records::{Prompt, name_lines};
use crate::rng::stream;
use crate::run_folder::RunFolder;
use crate::savepoint::{self, SavePolicy};
use crate::sft::Outcome;
use crate::text::TextCodec;

/// Rows that pass through the trunk together, unless a setting or a limit asks for fewer.
const MICRO_ROWS: usize = 8;

/// What to run.
pub struct PpoJob {
    /// Settings.
    pub config: PpoConfig,
    /// Prompts, JSONL.
    pub prompts: PathBuf,
    /// Plain texts, JSONL: some are kept out to measure what the policy forgets, the others are
    /// those of the pretraining term, which is off without them.
    pub texts: Option<PathBuf>,
    /// The policy to start from, which is also the reference.
    pub base: PathBuf,
    /// The reward model, which is also the start of the value model.
    pub reward: PathBuf,
    /// A second opinion of the completions, which training never sees.
    pub gold: Option<Gold>,
    /// The run's folder.
    pub out: PathBuf,
    /// When savepoints are kept, and whether to go on from one.
    pub saving: SavePolicy,
}

/// The four networks.
struct Models {
    policy: Transformer,
    reference: Transformer,
    reward: RewardModel,
    value: RewardModel,
    /// Policy and reward model have the same frozen blocks, so one pass serves all four.
    shared: bool,
}

/// Trains.
///
/// # Errors
/// A sentence about data, models or settings; `Refused` by a check; `Cancelled`.
pub fn run(job: &PpoJob, listener: &mut dyn Progress) -> Result<Outcome> {
    job.config.check()?;
    let config = &job.config;
    let watch = PeakWatch::start();
    let codec = TextCodec::load(&job.base)?;
    let texts = read_texts(job, &codec)?;
    let shapes = Shapes::read(job)?;
    let gold = GoldJudge::load(job, &codec)?;
    let Prompts {
        tokens: prompts,
        written,
        too_long,
    } = read_prompts(job, &codec, &shapes, gold.as_ref())?;
    let plan = shapes.plan(config, &prompts, !texts.learnt.is_empty())?;
    let models = load_models(job, &codec, plan.recomputes)?;
    check_models(job, &codec, &models, listener)?;
    let files: Vec<&Path> = std::iter::once(&job.prompts)
        .chain(&job.texts)
        .map(PathBuf::as_path)
        .collect();
    let folders = [&job.base, &job.reward]
        .into_iter()
        .chain(job.gold_folder());
    let folders: Vec<&Path> = folders.map(PathBuf::as_path).collect();
    let identity = savepoint::identity("ppo", config, &files, &folders)?;
    let (mut folder, resumed) = RunFolder::open(&job.out, config, identity, job.saving, listener)?;
    let progress: &mut dyn Progress = &mut folder;

    // 1. Load and check.
    if !too_long.is_empty() {
        progress.log(format!(
            "{} prompts are longer than {} tokens, or leave no room for a completion: {} are left \
             out",
            too_long.len(),
            config.max_prompt_tokens,
            name_lines(&too_long)
        ));
    }
    plan.report(config.memory_limit_gib, progress);
    describe_models(job, &codec, &models, progress)?;
    let frozen_before = frozen_hashes(&models)?;
    let mut learner = Learner {
        policy_optimiser: AdamW::new(config.policy_optimiser.clone()),
        value_optimiser: AdamW::new(config.value_optimiser.clone()),
        average: match config.ema_decay > 0.0 {
            true => Some(WeightAverage::new(
                models.policy.weights().variables(),
                config.ema_decay,
            )?),
            false => None,
        },
        kl_coefficient: config.kl_coefficient,
        next_text: 0,
        micro_rows: plan.rows,
        config,
        codec: &codec,
        models: &models,
        written: &written,
        texts: &texts,
        gold: gold.as_ref(),
    };
    let (evaluation, training) = split_prompts(prompts.len(), config.evaluation_prompts);
    let mut state = match &resumed {
        Some(point) => learner.restore(point)?,
        None => State {
            n_done: 0,
            epoch: 0,
            order: Vec::new(),
            kl_coefficient: config.kl_coefficient,
            next_text: 0,
            kl_last: 0.0,
            before: learner.evaluate(&prompts, evaluation.clone(), 0, "before", progress)?,
            text_loss_before: learner.held_out_text_loss(progress)?,
        },
    };
    for iteration in state.n_done..config.iterations {
        let (mut order, mut epoch) = (state.order.clone(), state.epoch);
        progress.phase("training", iteration, config.iterations);
        // 2. Sample. Prompts come back only when all have been used.
        while order.len() < config.batch_episodes {
            let mut all: Vec<usize> = training.clone().collect();
            all.shuffle(&mut stream(config.seed, "prompts", epoch));
            order.extend(all);
            epoch += 1;
        }
        let chosen: Vec<usize> = order.drain(..config.batch_episodes).collect();
        let first_stream = (iteration * config.batch_episodes) as u64;
        // 3. Old log-probabilities, reference, values, scores.
        let drawn = learner
            .draw(&prompts, &chosen, first_stream, progress)
            .and_then(|episodes| {
                let before = state.text_loss_before;
                Ok((
                    episodes,
                    learner.text_loss_in_turn(iteration, before, progress)?,
                ))
            });
        if let Err(TrainerError::Cancelled) = &drawn {
            // Nothing has moved since the last iteration.
            progress.save(&learner.savepoint(&state)?)?;
        }
        let (mut episodes, text_loss_held_out) = drawn?;
        // 4. and 5. Rewards and advantages.
        learner.credit(&mut episodes);
        if iteration == 0 {
            learner.check_first_batch(&episodes, progress)?;
        }
        let kl = mean(episodes.iter().map(Episode::kl));
        if kl > config.kl_budget {
            state.kl_last = kl;
            let reward = mean(episodes.iter().map(|episode| episode.reward));
            let step = iteration as u64 + 1;
            progress.metrics(step, [("objective/kl", kl), ("objective/score", reward)]);
            if let Some(gold) = mean_gold(&episodes) {
                progress.metrics(step, [("objective/gold", gold)]);
            }
            progress.log(format!(
                "stopped early, before learning from iteration {}: KL {kl:.2} exceeds its budget of {} nats",
                iteration + 1,
                config.kl_budget
            ));
            break;
        }
        // 6. Learn.
        let factor = config.schedule.factor(iteration, config.iterations);
        let mut figures = learner.learn(&mut episodes, iteration, factor, progress)?;
        figures.text_loss_held_out = text_loss_held_out;
        figures.report(
            iteration as u64 + 1,
            &episodes,
            learner.kl_coefficient,
            progress,
        );
        // 7. Control KL.
        learner.kl_coefficient =
            config
                .kl_control
                .update(learner.kl_coefficient, kl, episodes.len());
        state = State {
            n_done: iteration + 1,
            epoch,
            order,
            kl_coefficient: learner.kl_coefficient,
            next_text: learner.next_text,
            kl_last: kl,
            before: state.before,
            text_loss_before: state.text_loss_before,
        };
        if progress.wants_savepoint() || progress.is_cancelled() {
            progress.save(&learner.savepoint(&state)?)?;
        }
        progress.go_on()?;
    }
    let State {
        n_done,
        kl_last,
        before,
        text_loss_before,
        ..
    } = state;
    if let Some(average) = &learner.average {
        average.adopt(models.policy.weights().variables())?;
    }
    progress.check(
        "reference and reward model did not change",
        frozen_hashes(&models)? == frozen_before,
        "SHA-256 of their weights before and after training",
    )?;

    // 8. Answer the same prompts, and write.
    let after = learner.evaluate(
        &prompts,
        evaluation.clone(),
        n_done as u64,
        "after",
        progress,
    )?;
    let text_loss = learner.held_out_text_loss(progress)?;
    progress.phase("writing", config.iterations, config.iterations);
    let are_kept_out = !evaluation.is_empty() && training.start == evaluation.end;
    let mut summary = BTreeMap::from([
        ("kl_after".to_owned(), after.kl),
        ("kl_last_batch".to_owned(), kl_last),
        ("n_iterations".to_owned(), n_done as f64),
        ("n_evaluation_prompts".to_owned(), evaluation.len() as f64),
        (
            "evaluation_prompts_kept_out".to_owned(),
            f64::from(u8::from(are_kept_out)),
        ),
    ]);
    let losses = [
        ("text_loss_held_out_before", text_loss_before),
        ("text_loss_held_out", text_loss),
    ];
    let losses = losses.into_iter();
    summary.extend(losses.filter_map(|(name, loss)| Some((name.to_owned(), loss?))));
    let kept_out = match are_kept_out {
        true => "kept out of training",
        false => "not kept out of training, since there are too few",
    };
    for (name, gain) in after.gains_over(&before, config.seed) {
        progress.log(format!(
            "mean {name} on {} prompts ({kept_out}): {:.4} before, {:.4} after, gain {}",
            evaluation.len(),
            gain.before,
            gain.after,
            gain.gain,
        ));
        summary.extend(gain.figures(name));
    }
    (&mut folder as &mut dyn Progress).go_on()?;
    let place = write(job, &codec, &models, &summary)?;
    folder.finish()?;
    watch.conclude(&plan.estimate, &mut summary, &mut folder);
    folder.record(Event::Checkpoint {
        path: place.clone(),
    });
    Ok(Outcome {
        checkpoint: place,
        summary,
    })
}

/// How a run would take its batches apart, and what memory it would need, without training.
///
/// # Errors
/// As [`run`] says of data and settings, and when nothing fits the limit.
pub fn estimate(job: &PpoJob) -> Result<Plan> {
    job.config.check()?;
    let codec = TextCodec::load(&job.base)?;
    let has_texts = !read_texts(job, &codec)?.learnt.is_empty();
    let shapes = Shapes::read(job)?;
    let gold = GoldJudge::load(job, &codec)?;
    let prompts = read_prompts(job, &codec, &shapes, gold.as_ref())?;
    shapes.plan(&job.config, &prompts.tokens, has_texts)
}

/// Which prompts are answered before and after, and which are trained on: others, unless there are
/// too few.
fn split_prompts(n: usize, n_evaluation: usize) -> (Range<usize>, Range<usize>) {
    let n_evaluation = n_evaluation.min(n);
    match 2 * n_evaluation <= n {
        true => (0..n_evaluation, n_evaluation..n),
        false => (0..n_evaluation, 0..n),
    }
}

/// Everything that moves during training.
struct Learner<'a> {
    config: &'a PpoConfig,
    codec: &'a TextCodec,
    models: &'a Models,
    /// The prompts as people wrote them, to show beside what was answered.
    written: &'a [Prompt],
    texts: &'a Texts,
    /// The second opinion, where there is one.
    gold: Option<&'a GoldJudge<'a>>,
    policy_optimiser: AdamW,
    value_optimiser: AdamW,
    /// Decayed average of the policy's trainable weights.
    average: Option<WeightAverage>,
    kl_coefficient: f64,
    next_text: usize,
    /// Rows that pass through a network together.
    micro_rows: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evaluation_prompts_are_kept_out_of_training_unless_there_are_too_few() {
        assert_eq!(split_prompts(100, 16), (0..16, 16..100));
        assert_eq!(split_prompts(20, 16), (0..16, 0..20));
        assert_eq!(split_prompts(8, 16), (0..8, 0..8));
        assert_eq!(split_prompts(8, 0), (0..0, 0..8));
    }
}
