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

mod episode;
#[cfg(test)]
mod parity;
mod report;
mod rollout;
mod setup;
#[cfg(test)]
mod sharing;
mod state;
mod update;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use serde_json::json;

use self::episode::{Episode, mean};
use self::report::Figures;
use self::setup::{
    Prompts, check_models, frozen_hashes, load_models, read_prompts, read_texts, write,
};
use self::state::State;
use self::update::TokenSums;
use crate::advantage::{gae, whiten};
use crate::config::PpoConfig;
use crate::error::{Result, TrainerError};
use crate::model::attention::Pass;
use crate::model::heads::RewardModel;
use crate::model::lora;
use crate::model::transformer::Transformer;
use crate::optim::{AdamW, Gradients, WeightAverage};
use crate::progress::{Event, Progress};
use crate::records::{Prompt, name_lines};
use crate::reward::bootstrap;
use crate::rng::stream;
use crate::run_folder::RunFolder;
use crate::savepoint::{self, SavePolicy};
use crate::self_check;
use crate::sft::{LearningRow, Outcome};
use crate::text::TextCodec;

/// Rows that pass through the trunk together.
const MICRO_ROWS: usize = 8;

/// What to run.
pub struct PpoJob {
    /// Settings.
    pub config: PpoConfig,
    /// Prompts, JSONL.
    pub prompts: PathBuf,
    /// Plain texts of the pretraining term, JSONL; none switches the term off.
    pub texts: Option<PathBuf>,
    /// The policy to start from, which is also the reference.
    pub base: PathBuf,
    /// The reward model, which is also the start of the value model.
    pub reward: PathBuf,
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
    let codec = TextCodec::load(&job.base)?;
    let texts = read_texts(job, &codec)?;
    let models = load_models(job, &codec)?;
    let Prompts {
        tokens: prompts,
        written,
        too_long,
    } = read_prompts(job, &codec, &models)?;
    let files: Vec<&Path> = std::iter::once(&job.prompts)
        .chain(&job.texts)
        .map(PathBuf::as_path)
        .collect();
    let identity = savepoint::identity("ppo", config, &files, &[&job.base, &job.reward])?;
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
    check_models(job, &codec, &models, progress)?;
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
        config,
        codec: &codec,
        models: &models,
        written: &written,
        texts: &texts,
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
            .sample(&prompts, &chosen, "rollout", first_stream, progress)
            .and_then(|mut episodes| {
                learner.appraise(&mut episodes, progress)?;
                Ok(episodes)
            });
        if let Err(TrainerError::Cancelled) = &drawn {
            // Nothing has moved since the last iteration.
            progress.save(&learner.savepoint(&state)?)?;
        }
        let mut episodes = drawn?;
        // 4. and 5. Rewards and advantages.
        learner.credit(&mut episodes);
        if iteration == 0 {
            learner.check_first_batch(&episodes, progress)?;
        }
        let kl = mean(episodes.iter().map(Episode::kl));
        if kl > config.kl_budget {
            state.kl_last = kl;
            let reward = mean(episodes.iter().map(|episode| episode.reward));
            progress.metrics(
                iteration as u64 + 1,
                [("objective/kl", kl), ("objective/score", reward)],
            );
            progress.log(format!(
                "stopped early, before learning from iteration {}: KL {kl:.2} exceeds its budget of {} nats",
                iteration + 1,
                config.kl_budget
            ));
            break;
        }
        // 6. Learn.
        let factor = config.schedule.factor(iteration, config.iterations);
        let figures = learner.learn(&mut episodes, iteration, factor, progress)?;
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
    progress.phase("writing", config.iterations, config.iterations);
    let gains: Vec<(f64, usize)> = after
        .rewards
        .iter()
        .zip(&before.rewards)
        .map(|(after, before)| (after - before, 1))
        .collect();
    let gain = bootstrap(&gains, config.seed);
    let are_kept_out = !evaluation.is_empty() && training.start == evaluation.end;
    let kept_out = match are_kept_out {
        true => "kept out of training",
        false => "not kept out of training, since there are too few",
    };
    let n = evaluation.len();
    progress.log(format!(
        "mean reward on {n} prompts ({kept_out}): {:.4} before, {:.4} after, gain {:.4} [{:.4}, {:.4}]",
        before.reward(),
        after.reward(),
        gain.value,
        gain.low,
        gain.high,
    ));
    let summary = BTreeMap::from([
        ("reward_before".to_owned(), before.reward()),
        ("reward_after".to_owned(), after.reward()),
        ("reward_gain".to_owned(), gain.value),
        ("reward_gain_low".to_owned(), gain.low),
        ("reward_gain_high".to_owned(), gain.high),
        ("kl_after".to_owned(), after.kl),
        ("kl_last_batch".to_owned(), kl_last),
        ("n_iterations".to_owned(), n_done as f64),
        ("n_evaluation_prompts".to_owned(), evaluation.len() as f64),
        (
            "evaluation_prompts_kept_out".to_owned(),
            f64::from(u8::from(are_kept_out)),
        ),
    ]);
    (&mut folder as &mut dyn Progress).go_on()?;
    let place = write(job, &codec, &models, &summary)?;
    folder.finish()?;
    folder.record(Event::Checkpoint {
        path: place.clone(),
    });
    Ok(Outcome {
        checkpoint: place,
        summary,
    })
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

/// What answers to the evaluation prompts are worth.
#[derive(Clone, Serialize, Deserialize)]
struct Evaluation {
    /// The reward model's score of each.
    rewards: Vec<f64>,
    /// Mean KL of a sequence, in nats.
    kl: f64,
}

impl Evaluation {
    fn reward(&self) -> f64 {
        mean(self.rewards.iter().copied())
    }
}

/// Everything that moves during training.
struct Learner<'a> {
    config: &'a PpoConfig,
    codec: &'a TextCodec,
    models: &'a Models,
    /// The prompts as people wrote them, to show beside what was answered.
    written: &'a [Prompt],
    texts: &'a [LearningRow],
    policy_optimiser: AdamW,
    value_optimiser: AdamW,
    /// Decayed average of the policy's trainable weights.
    average: Option<WeightAverage>,
    kl_coefficient: f64,
    next_text: usize,
}

impl Learner<'_> {
    /// Shapes rewards, then estimates advantages and whitens them over the batch; returns are
    /// taken before whitening.
    fn credit(&self, episodes: &mut [Episode]) {
        let mut all = Vec::new();
        for episode in &mut *episodes {
            let kl = episode
                .old
                .iter()
                .zip(&episode.reference)
                .map(|(old, reference)| old - reference);
            let mut rewards: Vec<f64> = kl.map(|kl| -self.kl_coefficient * kl).collect();
            if let Some(last) = rewards.last_mut() {
                *last += episode.score;
            }
            let (advantages, returns) = gae(
                &rewards,
                &episode.values,
                self.config.gamma,
                self.config.lambda,
            );
            all.extend(&advantages);
            episode.returns = returns;
        }
        whiten(&mut all);
        let mut rest = all.as_slice();
        for episode in episodes {
            let (own, others) = rest.split_at(episode.n);
            episode.advantages = own.to_vec();
            rest = others;
        }
    }

    /// What must hold before the first step.
    fn check_first_batch(&self, episodes: &[Episode], progress: &mut dyn Progress) -> Result<()> {
        let models = self.models;
        let row = &episodes[0].tokens;
        let pad = self.codec.pad_id;
        self_check::padding_invariance("policy", &models.policy, row, pad, progress)?;
        self_check::padding_invariance("reward model", &models.reward.trunk, row, pad, progress)?;
        self_check::padding_invariance("value model", &models.value.trunk, row, pad, progress)?;

        let kl = episodes
            .iter()
            .flat_map(|e| e.old.iter().zip(&e.reference).map(|(a, b)| (a - b).abs()));
        let kl = kl.fold(0.0, f64::max);
        progress.check(
            "KL is 0 before the first step",
            kl < 1e-3,
            format!("largest log-ratio of a token to the reference {kl:.2e}"),
        )?;

        let views: Vec<&Episode> = episodes.iter().take(MICRO_ROWS).collect();
        let figures = self.policy_gradient(&views, 1.0, &mut Gradients::default())?;
        let deviation = (figures.highest_ratio - 1.0).max(1.0 - figures.lowest_ratio);
        progress.check(
            "ratio is 1 before the first step",
            deviation < 1e-3,
            format!("the ratio of no token differs from 1 by more than {deviation:.2e}"),
        )?;
        let variables = models.policy.weights().variables();
        let mut gradients = Gradients::default();
        lora::while_open(variables, || {
            self.policy_gradient(&views, 1.0, &mut gradients)
        })?;
        self_check::gradient_coverage("policy", variables, &gradients, progress)?;

        let variables = models.value.trunk.weights().variables();
        let mut gradients = Gradients::default();
        lora::while_open(variables, || {
            self.value_gradient(&views, 1.0, &mut gradients)
        })?;
        self_check::gradient_coverage("value model", variables, &gradients, progress)?;

        let batch = self.batch(&views)?;
        let values = models
            .value
            .scores(&models.value.trunk.hidden(&batch, Pass::Tracked)?, &batch)?
            .to_vec1::<f32>()?;
        let distances = views
            .iter()
            .zip(&values)
            .map(|(episode, value)| (episode.reward - f64::from(*value)).abs());
        let distance = distances.fold(0.0, f64::max);
        progress.check(
            "value equals reward at the last token",
            distance < 1e-3,
            format!("largest difference {distance:.2e}"),
        )
    }

    /// One pass over the episodes in minibatches, each a step of both optimisers.
    fn learn(
        &mut self,
        episodes: &mut [Episode],
        iteration: usize,
        factor: f64,
        progress: &mut dyn Progress,
    ) -> Result<Figures> {
        let mut figures = Figures {
            kl: mean(episodes.iter().map(Episode::kl)),
            ..Figures::default()
        };
        let mut steps = 0.0;
        let mut sums = TokenSums::default();
        let mut text_losses = Vec::new();
        for inner in 0..self.config.inner_epochs {
            let mut order: Vec<usize> = (0..episodes.len()).collect();
            let index = (iteration * self.config.inner_epochs + inner) as u64;
            order.shuffle(&mut stream(self.config.seed, "minibatches", index));
            for minibatch in order.chunks(episodes.len().div_ceil(self.config.minibatches)) {
                let chosen: Vec<&Episode> =
                    minibatch.iter().map(|index| &episodes[*index]).collect();
                let tokens: usize = chosen.iter().map(|episode| episode.n).sum();
                let weight = 1.0 / tokens as f64;
                let (mut policy, mut value) = (Gradients::default(), Gradients::default());
                for micro in chosen.chunks(MICRO_ROWS) {
                    progress.go_on()?;
                    sums.add(&self.policy_gradient(micro, weight, &mut policy)?);
                    let (loss, clipped) = self.value_gradient(micro, weight, &mut value)?;
                    sums.value_loss += loss;
                    sums.clipped_values += clipped;
                }
                // The pretraining gradient is accumulated into the same step (C.4).
                text_losses.extend(self.text_gradient(chosen.len(), &mut policy, progress)?);
                let variables = self.models.policy.weights().variables();
                figures.policy_norm += self.policy_optimiser.step(variables, &policy, factor)?;
                let variables = self.models.value.trunk.weights().variables();
                figures.value_norm += self.value_optimiser.step(variables, &value, factor)?;
                if let Some(average) = &mut self.average {
                    average.update(self.models.policy.weights().variables())?;
                }
                steps += 1.0;
            }
        }
        figures.policy_loss = sums.policy_loss / sums.tokens;
        figures.value_loss = sums.value_loss / sums.tokens;
        figures.clipped_share = sums.clipped / sums.tokens;
        figures.approximate_kl = sums.approximate_kl / sums.tokens;
        figures.ratio = sums.ratio_sum / sums.tokens;
        figures.lowest_ratio = sums.lowest_ratio;
        figures.highest_ratio = sums.highest_ratio;
        figures.clipped_values_share = sums.clipped_values / sums.tokens;
        figures.policy_norm /= steps;
        figures.value_norm /= steps;
        // Without texts there is no such loss, and a 0 would look like one.
        figures.text_loss = (!text_losses.is_empty()).then(|| mean(text_losses.into_iter()));
        Ok(figures)
    }

    /// Answers fixed prompts with fixed draws.
    fn evaluate(
        &self,
        prompts: &[Vec<u32>],
        chosen: Range<usize>,
        step: u64,
        moment: &str,
        progress: &mut dyn Progress,
    ) -> Result<Evaluation> {
        let chosen: Vec<usize> = chosen.collect();
        progress.phase(
            &format!("answering prompts {moment} training"),
            0,
            chosen.len(),
        );
        let mut episodes = self.sample(prompts, &chosen, "evaluation", 0, progress)?;
        self.appraise(&mut episodes, progress)?;
        for (index, (episode, prompt)) in episodes.iter().zip(&chosen).enumerate() {
            let data = json!({
                "kind": moment,
                "moment": moment,
                "prompt_index": index,
                "prompt": self.written[*prompt],
                "completion": self.codec.decode(&episode.tokens[episode.start..episode.start + episode.n])?,
                "reward": episode.reward,
                "kl": episode.kl(),
                "is_finished": episode.is_finished,
            });
            progress.record(Event::Sample { step, data });
        }
        Ok(Evaluation {
            rewards: episodes.iter().map(|episode| episode.reward).collect(),
            kl: mean(episodes.iter().map(Episode::kl)),
        })
    }
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
