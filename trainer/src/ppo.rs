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

mod best;
mod credit;
mod episode;
mod evaluation;
mod first_batch;
mod gold;
mod learn;
mod models;
mod order;
pub mod over_optimisation;
#[cfg(test)]
mod parity;
#[cfg(test)]
mod promises;
mod report;
mod rollout;
mod setup;
#[cfg(test)]
mod sharing;
#[cfg(test)]
mod stand;
mod state;
mod summary;
mod sums;
mod texts;
mod token_samples;
mod update;
mod watch;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::Tensor;

use self::evaluation::Evaluation;
use self::gold::GoldJudge;
pub use self::gold::{Gold, Utility};
use self::learn::{Learning, Rates};
use self::models::{frozen_hashes, load_models};
use self::order::PromptOrder;
use self::report::{batch_figures, tell};
use self::rollout::{check_finite, truncate_token};
use self::setup::{Prompts, Shapes, check_models, describe_models, read_prompts, write};
use self::state::State;
use self::summary::End;
use self::texts::{Texts, read_texts};
use self::watch::{Batch, stop};
use crate::checkpoint::check_writes;
use crate::config::PpoConfig;
use crate::config::sources::{self, Kind};
use crate::error::{Result, TrainerError};
use crate::memory::{PeakWatch, Plan};
use crate::model::heads::RewardModel;
use crate::model::transformer::Transformer;
use crate::optim::{AdamW, WeightAverage};
use crate::progress::{Event, Progress};
use crate::records::{Prompt, name_lines};
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
    check_writes(&job.base)?;
    let config = &job.config;
    let watch = PeakWatch::start();
    let codec = TextCodec::load(&job.base)?;
    let texts = read_texts(job, &codec)?;
    let shapes = Shapes::read(job)?;
    best::check(job)?;
    let gold = GoldJudge::load(job, &codec)?;
    let truncate_at = truncate_token(config, &codec)?;
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
    sources::write(&job.out, Kind::Ppo, config)?;
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
    if let Some(gold) = &gold {
        gold.check(job, progress)?;
    }
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
        best: None,
        micro_rows: plan.rows,
        truncate_at,
        config,
        codec: &codec,
        models: &models,
        written: &written,
        texts: &texts,
        gold: gold.as_ref(),
    };
    let (evaluation, training) = split_prompts(prompts.len(), config.evaluation_prompts);
    let mut good = None;
    let mut state = match &resumed {
        Some(point) => {
            let (state, kept) = learner.restore(point)?;
            good = kept;
            state
        }
        None => State {
            n_done: 0,
            order: PromptOrder::default(),
            kl_coefficient: config.kl_coefficient,
            next_text: 0,
            trail: Vec::new(),
            before: learner.evaluate(&prompts, evaluation.clone(), 0, "before", progress)?,
            text_loss_before: learner.held_out_text_loss(progress)?,
            best: None,
            learning: None,
        },
    };
    let mut stopped = None;
    for iteration in state.n_done..config.iterations {
        let began = Instant::now();
        progress.phase("training", iteration, config.iterations);
        let step = iteration as u64 + 1;
        let is_resumed_within = state.learning.is_some();
        let mut learning = match state.learning.take() {
            Some(learning) => learning,
            None => {
                let drawn = learner
                    .compare_in_turn(&prompts, &evaluation, &mut state, progress)
                    .and_then(|()| {
                        learner.open_iteration(iteration, &prompts, &training, &state, progress)
                    });
                if let Err(TrainerError::Cancelled) = &drawn {
                    // Nothing has moved since the last iteration.
                    progress.save(&learner.savepoint(&state)?)?;
                }
                let learning = drawn?;
                // A run that strays too far or collapses ends before it learns from what shows it.
                let figures = batch_figures(&learning.episodes, learner.kl_coefficient);
                state.trail.push(Batch::new(&figures));
                stopped = stop(&state.trail, config);
                if stopped.is_some() {
                    learner.tell_last(step, figures, &learning, progress)?;
                    break;
                }
                learning
            }
        };
        // 6. Learn. A step that is not finite is not taken, and those that led to it are taken back.
        let before = match good.take() {
            Some(before) => before,
            None => learner.keep()?,
        };
        let rates = Rates::new(config, iteration);
        let learnt = learner.learn_or_go_back(&mut learning, &before, iteration, rates, progress);
        if let Err(TrainerError::Cancelled) = &learnt {
            progress.save(&learner.savepoint_within(&state, &learning, &before)?)?;
        }
        let episodes = &learning.episodes;
        let mut figures = match learnt? {
            Ok(figures) => figures,
            Err(stop) => {
                let figures = batch_figures(episodes, learner.kl_coefficient);
                learner.tell_last(step, figures, &learning, progress)?;
                stopped = Some(stop);
                break;
            }
        };
        let n_tokens: usize = episodes.iter().map(|episode| episode.tokens.len()).sum();
        // The time before a stop is not known.
        figures.tokens_per_second =
            (!is_resumed_within).then(|| n_tokens as f64 / began.elapsed().as_secs_f64());
        figures.report(step, episodes, learner.kl_coefficient, progress);
        learner.show_tokens(episodes, &learning.chosen, iteration, progress)?;
        // 7. Control KL; it says nothing of a policy that waits.
        if iteration >= config.policy_waits {
            let kl = state.trail.last().map_or(0.0, |batch| batch.kl);
            let (control, n) = (&config.kl_control, episodes.len());
            learner.kl_coefficient = control.update(learner.kl_coefficient, kl, n);
        }
        state = State {
            n_done: iteration + 1,
            order: learning.order,
            kl_coefficient: learner.kl_coefficient,
            next_text: learner.next_text,
            ..state
        };
        if progress.wants_savepoint() || progress.is_cancelled() {
            progress.save(&learner.savepoint(&state)?)?;
        }
        progress.go_on()?;
    }
    // 8. Answer the same prompts, and write.
    let ended = learner.conclude(&prompts, &evaluation, &mut state, &frozen_before, progress);
    if let Err(TrainerError::Cancelled) = &ended
        && stopped.is_none()
    {
        progress.save(&learner.savepoint(&state)?)?;
    }
    let (after, text_loss) = ended?;
    let are_kept_out = !evaluation.is_empty() && training.start == evaluation.end;
    let end = End {
        state: &state,
        stop: stopped.as_ref(),
        after: &after,
        are_kept_out,
        text_loss,
        seed: config.seed,
    };
    let mut summary = end.summary(progress);
    let place = write(job, &codec, &models, &summary, stopped.as_ref())?;
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

impl Learner<'_> {
    /// Phases 2 to 5: draws the episodes of an iteration and credits them.
    fn open_iteration(
        &self,
        iteration: usize,
        prompts: &[Vec<u32>],
        training: &Range<usize>,
        state: &State,
        progress: &mut dyn Progress,
    ) -> Result<Learning> {
        let config = self.config;
        // 2. Sample. Prompts come back only when all have been used.
        let mut order = state.order.clone();
        let chosen = order.next_batch(config, training);
        let first_stream = (iteration * config.batch_episodes) as u64;
        // 3. Old log-probabilities, reference, values, scores.
        let mut episodes = self.draw(prompts, &chosen, first_stream, progress)?;
        let before = state.text_loss_before;
        let text_loss_held_out = self.text_loss_in_turn(iteration, before, progress)?;
        // 4. and 5. Rewards and advantages.
        self.credit(&mut episodes);
        if iteration == 0 {
            self.check_first_batch(&episodes, progress)?;
        }
        check_finite(&episodes)?;
        let mut learning = Learning::new(episodes);
        learning.chosen = chosen;
        learning.order = order;
        learning.text_loss_held_out = text_loss_held_out;
        Ok(learning)
    }

    /// Tells of a batch that is not learnt from, or whose learning was taken back.
    fn tell_last(
        &self,
        step: u64,
        mut figures: BTreeMap<&'static str, f64>,
        learning: &Learning,
        progress: &mut dyn Progress,
    ) -> Result<()> {
        let loss = learning.text_loss_held_out;
        figures.extend(loss.map(|loss| ("objective/text_loss_held_out", loss)));
        tell(step, figures, progress);
        self.show_tokens(
            &learning.episodes,
            &learning.chosen,
            step as usize - 1,
            progress,
        )
    }

    /// Phase 8: takes the average of weights or the best policy as the policy, and answers the same prompts as before.
    /// Where that is cancelled the policy is the one that was trained again.
    fn conclude(
        &mut self,
        prompts: &[Vec<u32>],
        evaluation: &Range<usize>,
        state: &mut State,
        frozen_before: &[String; 2],
        progress: &mut dyn Progress,
    ) -> Result<(Evaluation, Option<f64>)> {
        self.compare(prompts, evaluation, state, progress)?;
        let trained = self.keep()?;
        if let Some(average) = &self.average {
            average.adopt(self.models.policy.weights().variables())?;
        }
        self.adopt_best(state, progress)?;
        progress.check(
            "reference and reward model did not change",
            frozen_hashes(self.models)? == *frozen_before,
            "SHA-256 of their weights before and after training",
        )?;
        let step = state.n_done as u64;
        let answered = self
            .evaluate(prompts, evaluation.clone(), step, "after", progress)
            .and_then(|after| {
                let text_loss = self.held_out_text_loss(progress)?;
                let n = self.config.iterations;
                progress.phase("writing", n, n);
                progress.go_on()?;
                Ok((after, text_loss))
            });
        if let Err(TrainerError::Cancelled) = &answered {
            self.go_back(&trained)?;
        }
        answered
    }
}

/// How a run would take its batches apart, and what memory it would need, without training.
///
/// # Errors
/// As [`run`] says of data and settings, and when nothing fits the limit.
pub fn estimate(job: &PpoJob) -> Result<Plan> {
    job.config.check()?;
    check_writes(&job.base)?;
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
    /// Weights of the policy whose answers were best so far, where they are compared.
    best: Option<BTreeMap<String, Tensor>>,
    /// Rows that pass through a network together.
    micro_rows: usize,
    /// The token that ends a completion as EOS does.
    truncate_at: Option<u32>,
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
