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

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::{Device, Tensor};
use rand::seq::SliceRandom;
use serde_json::json;

use crate::advantage::{gae, whiten};
use crate::checkpoint::{self, CheckpointKind, Lineage, sha256};
use crate::config::PpoConfig;
use crate::error::{Result, TrainerError};
use crate::generate::{SampleRequest, generate};
use crate::kl::estimators;
use crate::loss::with_gradient;
use crate::model::attention::Pass;
use crate::model::batch::TokenBatch;
use crate::model::heads::RewardModel;
use crate::model::llama::Llama;
use crate::model::token_log_probs;
use crate::model::weights::Trainable;
use crate::optim::{AdamW, Gradients, WeightAverage};
use crate::progress::{Event, Progress};
use crate::records::{self, PromptRecord, TextRecord};
use crate::rng::stream;
use crate::run_folder::RunFolder;
use crate::sampling::SamplingConfig;
use crate::self_check;
use crate::sft::{LearningRow, Outcome, add_gradient, training_notes};
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
}

/// The four networks.
struct Models {
    policy: Llama,
    reference: Llama,
    reward: RewardModel,
    value: RewardModel,
    /// Policy and reward model have the same frozen blocks, so one pass serves all four.
    shared: bool,
}

/// One prompt and its sampled completion, with what the models say of it.
struct Episode {
    /// Prompt, completion, and EOS even where the completion lacks one: the reward model reads
    /// its score there.
    tokens: Vec<u32>,
    start: usize,
    /// Tokens of the completion, its own EOS included.
    n: usize,
    is_finished: bool,
    /// Output of the frozen blocks, `[tokens, hidden]`: for the policy, and for the value model
    /// where that differs.
    policy_lower: Option<Tensor>,
    value_lower: Option<Tensor>,
    old: Vec<f64>,
    reference: Vec<f64>,
    entropy: Vec<f64>,
    values: Vec<f64>,
    /// What the reward model says, and what training sees: the same unless EOS is missing.
    reward: f64,
    score: f64,
    advantages: Vec<f64>,
    returns: Vec<f64>,
}

impl Episode {
    fn kl(&self) -> f64 {
        self.old
            .iter()
            .zip(&self.reference)
            .map(|(old, reference)| old - reference)
            .sum()
    }
}

/// Trains.
///
/// # Errors
/// A sentence about data, models or settings; `Refused` by a check; `Cancelled`.
pub fn run(job: &PpoJob, listener: &mut dyn Progress) -> Result<Outcome> {
    job.config.check()?;
    let config = &job.config;
    let codec = TextCodec::load(&job.base)?;
    let (prompts, n_too_long) = read_prompts(job, &codec)?;
    let texts = read_texts(job, &codec)?;
    let models = load_models(job)?;
    let mut folder = RunFolder::create(&job.out, config, listener)?;
    let progress: &mut dyn Progress = &mut folder;

    // 1. Load and check.
    if n_too_long > 0 {
        progress.log(format!(
            "{n_too_long} prompts are longer than {} tokens and are left out",
            config.max_prompt_tokens
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
        texts: &texts,
    };
    let evaluation: Vec<usize> = (0..prompts.len().min(config.evaluation_prompts)).collect();
    let before = learner.evaluate(&prompts, &evaluation, 0, "before", progress)?;

    let mut order = Vec::new();
    let mut epoch = 0;
    let mut last = Figures::default();
    for iteration in 0..config.iterations {
        progress.phase("training", iteration, config.iterations);
        // 2. Sample. Prompts come back only when all have been used.
        while order.len() < config.batch_episodes {
            let mut all: Vec<usize> = (0..prompts.len()).collect();
            all.shuffle(&mut stream(config.seed, "prompts", epoch));
            order.extend(all);
            epoch += 1;
        }
        let chosen: Vec<usize> = order.drain(..config.batch_episodes).collect();
        let first_stream = (iteration * config.batch_episodes) as u64;
        let mut episodes = learner.sample(&prompts, &chosen, "rollout", first_stream, progress)?;
        // 3. Old log-probabilities, reference, values, scores.
        learner.appraise(&mut episodes, progress)?;
        // 4. and 5. Rewards and advantages.
        learner.credit(&mut episodes);
        if iteration == 0 {
            learner.check_first_batch(&episodes, progress)?;
        }
        // 6. Learn.
        let factor = config.schedule.factor(iteration, config.iterations);
        last = learner.learn(&mut episodes, iteration, factor, progress)?;
        last.report(
            iteration as u64 + 1,
            &episodes,
            learner.kl_coefficient,
            progress,
        );
        // 7. Control KL.
        let kl = mean(episodes.iter().map(Episode::kl));
        learner.kl_coefficient =
            config
                .kl_control
                .update(learner.kl_coefficient, kl, episodes.len());
        progress.go_on()?;
        if kl > config.kl_budget {
            progress.log(format!(
                "stopped early: KL {kl:.2} exceeds its budget of {} nats",
                config.kl_budget
            ));
            break;
        }
    }
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
        &evaluation,
        config.iterations as u64,
        "after",
        progress,
    )?;
    progress.phase("writing", config.iterations, config.iterations);
    progress.log(format!(
        "mean reward on {} prompts: {:.4} before, {:.4} after",
        evaluation.len(),
        before.0,
        after.0
    ));
    let summary = BTreeMap::from([
        ("reward_before".to_owned(), before.0),
        ("reward_after".to_owned(), after.0),
        ("kl_after".to_owned(), after.1),
        ("kl_last_batch".to_owned(), last.kl),
        ("n_evaluation_prompts".to_owned(), evaluation.len() as f64),
    ]);
    folder.check_written()?;
    let place = write(job, &codec, &models, &summary)?;
    folder.record(Event::Checkpoint {
        path: place.clone(),
    });
    Ok(Outcome {
        checkpoint: place,
        summary,
    })
}

fn write(
    job: &PpoJob,
    codec: &TextCodec,
    models: &Models,
    summary: &BTreeMap<String, f64>,
) -> Result<PathBuf> {
    let mut lineage = Lineage::new(CheckpointKind::Policy);
    lineage.parents.insert(
        "base".to_owned(),
        sha256(&job.base.join("model.safetensors"))?,
    );
    lineage.parents.insert(
        "reward".to_owned(),
        sha256(&job.reward.join("model.safetensors"))?,
    );
    lineage
        .data
        .insert("prompts".to_owned(), sha256(&job.prompts)?);
    if let Some(texts) = &job.texts {
        lineage.data.insert("texts".to_owned(), sha256(texts)?);
    }
    lineage.template = codec.template_hash();
    lineage.config = serde_json::to_value(&job.config).unwrap_or_default();
    lineage.summary = summary.clone();
    lineage.notes = training_notes(&models.policy);
    let place = job.out.join("checkpoint");
    checkpoint::write(
        &place,
        &job.base,
        models.policy.weights().tensors(),
        None,
        &lineage,
    )?;
    Ok(place)
}

/// The prompts as tokens, and how many were too long.
fn read_prompts(job: &PpoJob, codec: &TextCodec) -> Result<(Vec<Vec<u32>>, usize)> {
    let records: Vec<PromptRecord> = records::read(&job.prompts)?;
    let mut prompts = Vec::new();
    for record in &records {
        let tokens = codec.encode_prompt(&record.prompt)?;
        if tokens.len() <= job.config.max_prompt_tokens {
            prompts.push(tokens);
        }
    }
    if prompts.is_empty() {
        let message = format!(
            "every prompt is longer than {} tokens",
            job.config.max_prompt_tokens
        );
        return Err(TrainerError::input(&job.prompts, 1, "prompt", message));
    }
    let n_too_long = records.len() - prompts.len();
    Ok((prompts, n_too_long))
}

/// Texts cut to rows of the configured length.
fn read_texts(job: &PpoJob, codec: &TextCodec) -> Result<Vec<LearningRow>> {
    let Some(path) = job
        .texts
        .as_ref()
        .filter(|_| job.config.ptx_coefficient > 0.0)
    else {
        return Ok(Vec::new());
    };
    let records: Vec<TextRecord> = records::read(path)?;
    let mut rows = Vec::new();
    for record in &records {
        let tokens = codec.encode(&record.text)?;
        for chunk in tokens
            .chunks(job.config.ptx_tokens)
            .filter(|chunk| chunk.len() > 1)
        {
            rows.push(LearningRow {
                tokens: chunk.to_vec(),
                start: 1,
            });
        }
    }
    rows.shuffle(&mut stream(job.config.seed, "texts", 0));
    Ok(rows)
}

fn load_models(job: &PpoJob) -> Result<Models> {
    let trainable = job.config.trainable();
    let policy = Llama::load(&job.base, &Device::Cpu, trainable)?;
    let reference = policy.frozen_copy()?;
    let reward = RewardModel::load(&job.reward, &Device::Cpu, Trainable::Nothing)?;
    let value = RewardModel::load(&job.reward, &Device::Cpu, trainable)?;
    let n = policy.n_frozen();
    let shared = n > 0 && value.trunk.n_frozen() == n && policy.shares_lower(&reward.trunk, n)?;
    Ok(Models {
        policy,
        reference,
        reward,
        value,
        shared,
    })
}

/// What must hold between the models, and what the operator should know of them.
fn check_models(
    job: &PpoJob,
    codec: &TextCodec,
    models: &Models,
    progress: &mut dyn Progress,
) -> Result<()> {
    let theirs = TextCodec::load(&job.reward)?;
    progress.check(
        "vocabulary",
        codec.vocab_hash() == theirs.vocab_hash(),
        "policy and reward model must have the same tokenizer.json",
    )?;
    progress.check(
        "chat template",
        codec.template_hash() == theirs.template_hash(),
        "policy and reward model must have the same chat template",
    )?;
    let (n, n_layers) = (
        models.policy.n_frozen(),
        models.policy.config.num_hidden_layers,
    );
    progress.log(format!(
        "training the upper {} of {n_layers} layers of policy and value model",
        n_layers - n
    ));
    if models.shared {
        progress.log(format!(
            "the lower {n} layers are the same in all four models and run once"
        ));
    }
    Ok(())
}

/// SHA-256 of the reference's and the reward model's weights.
fn frozen_hashes(models: &Models) -> Result<[String; 2]> {
    Ok([
        models.reference.weights().hash()?,
        models.reward.trunk.weights().hash()?,
    ])
}

/// Reads a scalar of each completion token of a padded batch: its row-major positions.
fn token_positions(batch: &TokenBatch, episodes: &[&Episode]) -> (Vec<u32>, Vec<u32>) {
    let (mut positions, mut targets) = (Vec::new(), Vec::new());
    for (row, episode) in episodes.iter().enumerate() {
        for t in 0..episode.n {
            // The position before a token is the state it was chosen in.
            positions.push(batch.flat_index(row, episode.start + t - 1));
            targets.push(episode.tokens[episode.start + t]);
        }
    }
    (positions, targets)
}

/// Pads `[tokens, hidden]` tensors to one `[rows, time, hidden]`.
fn stack(lowers: &[&Tensor], time: usize) -> Result<Tensor> {
    let mut rows = Vec::with_capacity(lowers.len());
    for lower in lowers {
        let n = lower.dim(0)?;
        rows.push(lower.pad_with_zeros(0, 0, time - n)?);
    }
    Ok(Tensor::stack(&rows, 0)?)
}

/// Cuts `[rows, time, hidden]` back to the rows' own lengths.
fn unstack(lower: &Tensor, batch: &TokenBatch) -> Result<Vec<Tensor>> {
    let cut = |(row, length): (usize, &usize)| {
        Ok(lower
            .get(row)?
            .narrow(0, 0, *length)?
            .contiguous()?
            .detach())
    };
    batch.lengths.iter().enumerate().map(cut).collect()
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0.0), |(sum, n), value| (sum + value, n + 1.0));
    if n > 0.0 { sum / n } else { 0.0 }
}

/// The clipped policy loss of a token and its gradient by the new log-probability:
/// max(-A * ratio, -A * clip(ratio, 1 - c, 1 + c)) (Schulman et al., arXiv 1707.06347).
pub fn policy_loss(new: f64, old: f64, advantage: f64, clip: f64) -> (f64, f64) {
    let ratio = (new - old).exp();
    let free = -advantage * ratio;
    let clipped = -advantage * ratio.clamp(1.0 - clip, 1.0 + clip);
    if free >= clipped {
        (free, free)
    } else {
        (clipped, 0.0)
    }
}

/// The clipped value loss of a token and its gradient by the new value:
/// half of max((V - R)^2, (clip(V, old - c, old + c) - R)^2).
pub fn value_loss(new: f64, old: f64, target: f64, clip: f64) -> (f64, f64) {
    let limited = new.clamp(old - clip, old + clip);
    let (free, clipped) = (
        (new - target).powi(2) / 2.0,
        (limited - target).powi(2) / 2.0,
    );
    if free >= clipped {
        (free, new - target)
    } else {
        (clipped, 0.0)
    }
}

/// Figures of an iteration's learning, over real tokens only.
#[derive(Default)]
struct Figures {
    kl: f64,
    policy_loss: f64,
    value_loss: f64,
    clipped_share: f64,
    approximate_kl: f64,
    ratio: f64,
    lowest_ratio: f64,
    highest_ratio: f64,
    clipped_values_share: f64,
    policy_norm: f64,
    value_norm: f64,
    text_loss: f64,
}

impl Figures {
    fn report(
        &self,
        step: u64,
        episodes: &[Episode],
        kl_coefficient: f64,
        progress: &mut dyn Progress,
    ) {
        let each = |read: &dyn Fn(&Episode) -> f64| mean(episodes.iter().map(read));
        let tokens = |read: &dyn Fn(&Episode) -> Vec<f64>| mean(episodes.iter().flat_map(read));
        let k3 = tokens(&|episode| {
            let pairs = episode.old.iter().zip(&episode.reference);
            pairs
                .map(|(old, reference)| estimators(old - reference).2)
                .collect()
        });
        let returns: Vec<f32> = episodes
            .iter()
            .flat_map(|e| e.returns.iter().map(|x| *x as f32))
            .collect();
        let errors: Vec<f32> = episodes
            .iter()
            .flat_map(|e| e.returns.iter().zip(&e.values).map(|(r, v)| (r - v) as f32))
            .collect();
        let scores: Vec<f32> = episodes.iter().map(|e| e.score as f32).collect();
        let score_deviation = crate::reward::mean_and_deviation(&scores).1;
        let longest = episodes.iter().map(|e| e.n as f64).fold(0.0, f64::max);
        let variance = |values: &[f32]| crate::reward::mean_and_deviation(values).1.powi(2);
        progress.metrics(
            step,
            [
                ("objective/score", each(&|episode| episode.score)),
                ("objective/score_std", score_deviation),
                ("objective/kl", self.kl),
                ("objective/root_kl", self.kl.max(0.0).sqrt()),
                ("objective/kl_k3_per_token", k3),
                ("objective/kl_coefficient", kl_coefficient),
                (
                    "objective/score_minus_kl",
                    each(&|episode| episode.score - kl_coefficient * episode.kl()),
                ),
                (
                    "objective/entropy",
                    tokens(&|episode| episode.entropy.clone()),
                ),
                (
                    "objective/response_length",
                    each(&|episode| episode.n as f64),
                ),
                ("objective/longest_response", longest),
                (
                    "objective/eos_rate",
                    each(&|episode| f64::from(u8::from(episode.is_finished))),
                ),
                ("policy/loss", self.policy_loss),
                ("policy/ratio", self.ratio),
                ("policy/lowest_ratio", self.lowest_ratio),
                ("policy/highest_ratio", self.highest_ratio),
                ("policy/clipped_share", self.clipped_share),
                ("policy/approximate_kl", self.approximate_kl),
                ("policy/grad_norm", self.policy_norm),
                ("value/loss", self.value_loss),
                ("value/clipped_share", self.clipped_values_share),
                (
                    "value/explained_variance",
                    1.0 - variance(&errors) / variance(&returns).max(1e-12),
                ),
                ("value/grad_norm", self.value_norm),
                ("ptx/loss", self.text_loss),
            ],
        );
    }
}

/// Everything that moves during training.
struct Learner<'a> {
    config: &'a PpoConfig,
    codec: &'a TextCodec,
    models: &'a Models,
    texts: &'a [LearningRow],
    policy_optimiser: AdamW,
    value_optimiser: AdamW,
    /// Decayed average of the policy's trainable weights.
    average: Option<WeightAverage>,
    kl_coefficient: f64,
    next_text: usize,
}

impl Learner<'_> {
    /// Samples one completion for each chosen prompt.
    fn sample(
        &self,
        prompts: &[Vec<u32>],
        chosen: &[usize],
        purpose: &str,
        first_stream: u64,
        progress: &mut dyn Progress,
    ) -> Result<Vec<Episode>> {
        let requests: Vec<SampleRequest> = chosen
            .iter()
            .enumerate()
            .map(|(index, prompt)| SampleRequest {
                prompt: *prompt,
                stream: first_stream + index as u64,
            })
            .collect();
        // Evaluation draws from a seed of its own, the same before and after.
        let seed = if purpose == "rollout" {
            self.config.seed
        } else {
            self.config.seed ^ 0x5eed
        };
        let sampling = SamplingConfig {
            temperature: self.config.temperature,
            top_p: 1.0,
            max_new_tokens: self.config.max_new_tokens,
            seed,
        };
        let samples = generate(
            &self.models.policy,
            prompts,
            &requests,
            &sampling,
            self.codec.eos_id,
            &mut |_| !progress.is_cancelled(),
        )?;
        let episodes = samples.into_iter().map(|sample| {
            let mut tokens = prompts[sample.prompt].clone();
            let (start, n) = (tokens.len(), sample.tokens.len());
            tokens.extend(&sample.tokens);
            if !sample.is_finished {
                tokens.push(self.codec.eos_id);
            }
            Episode {
                tokens,
                start,
                n,
                is_finished: sample.is_finished,
                policy_lower: None,
                value_lower: None,
                old: Vec::new(),
                reference: Vec::new(),
                entropy: Vec::new(),
                values: Vec::new(),
                reward: 0.0,
                score: 0.0,
                advantages: Vec::new(),
                returns: Vec::new(),
            }
        });
        Ok(episodes.collect())
    }

    fn batch(&self, episodes: &[&Episode]) -> Result<TokenBatch> {
        let rows: Vec<Vec<u32>> = episodes
            .iter()
            .map(|episode| episode.tokens.clone())
            .collect();
        TokenBatch::new(&rows, self.codec.pad_id, &self.models.policy.device)
    }

    /// Fills in old log-probabilities, those of the reference, values and scores, all by the same
    /// forward pass that training uses.
    fn appraise(&self, episodes: &mut [Episode], progress: &mut dyn Progress) -> Result<()> {
        let models = self.models;
        let n = models.policy.n_frozen();
        for micro in episodes.chunks_mut(MICRO_ROWS) {
            progress.go_on()?;
            let views: Vec<&Episode> = micro.iter().collect();
            let batch = self.batch(&views)?;
            let (positions, targets) = token_positions(&batch, &views);
            let count = positions.len();
            let positions = Tensor::from_vec(positions, count, &models.policy.device)?;
            let targets = Tensor::from_vec(targets, count, &models.policy.device)?;

            let lower = models.policy.lower(&batch)?.detach();
            let reference_lower = if n > 0 {
                lower.clone()
            } else {
                models.reference.lower(&batch)?
            };
            let reference_hidden = match n {
                0 => models.reference.upper(&reference_lower, Pass::Frozen)?,
                n => models.reference.upper_from(&lower, n, Pass::Tracked)?,
            };
            // The tracked pass, so that the old log-probabilities are those that training sees.
            let policy_hidden = models.policy.upper(&lower, Pass::Tracked)?.detach();
            let pick = |hidden: &Tensor| hidden.flatten(0, 1)?.index_select(&positions, 0);
            let temperature = self.config.temperature;
            let ours = token_log_probs::evaluate(
                &pick(&policy_hidden)?,
                models.policy.head(),
                &targets,
                temperature,
            )?;
            let theirs = token_log_probs::evaluate(
                &pick(&reference_hidden)?,
                models.reference.head(),
                &targets,
                temperature,
            )?;

            let value_lower = if models.shared {
                lower.clone()
            } else {
                models.value.trunk.lower(&batch)?.detach()
            };
            let value_hidden = models
                .value
                .trunk
                .upper(&value_lower, Pass::Tracked)?
                .detach();
            let values = models
                .value
                .values(&value_hidden)?
                .flatten_all()?
                .index_select(&positions, 0)?;
            let reward_hidden = match models.shared {
                true => models.reward.trunk.upper_from(&lower, n, Pass::Tracked)?,
                false => models.reward.trunk.hidden(&batch, Pass::Frozen)?,
            };
            let scores: Vec<f32> = models.reward.scores(&reward_hidden, &batch)?.to_vec1()?;

            let numbers = |tensor: &Tensor| -> Result<Vec<f64>> {
                Ok(tensor
                    .to_vec1::<f32>()?
                    .into_iter()
                    .map(f64::from)
                    .collect())
            };
            let (old, entropy) = (numbers(&ours.log_prob)?, numbers(&ours.entropy)?);
            let (reference, values) = (numbers(&theirs.log_prob)?, numbers(&values)?);
            let lowers = if n > 0 {
                Some((unstack(&lower, &batch)?, unstack(&value_lower, &batch)?))
            } else {
                None
            };
            let mut offset = 0;
            for (row, episode) in micro.iter_mut().enumerate() {
                let range = offset..offset + episode.n;
                offset = range.end;
                episode.old = old[range.clone()].to_vec();
                episode.entropy = entropy[range.clone()].to_vec();
                episode.reference = reference[range.clone()].to_vec();
                episode.values = values[range].to_vec();
                episode.reward = f64::from(scores[row]);
                episode.score = match episode.is_finished {
                    true => episode.reward,
                    false => self
                        .config
                        .missing_eos
                        .apply(episode.reward, self.config.missing_eos_penalty),
                };
                if let Some((policy_lowers, value_lowers)) = &lowers {
                    episode.policy_lower = Some(policy_lowers[row].clone());
                    episode.value_lower = Some(value_lowers[row].clone());
                }
            }
        }
        Ok(())
    }

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
        let mut gradients = Gradients::default();
        let figures = self.policy_gradient(&views, 1.0, &mut gradients)?;
        let deviation = (figures.highest_ratio - 1.0).max(1.0 - figures.lowest_ratio);
        progress.check(
            "ratio is 1 before the first step",
            deviation < 1e-3,
            format!("the ratio of no token differs from 1 by more than {deviation:.2e}"),
        )?;
        self_check::gradient_coverage(
            "policy",
            models.policy.weights().variables(),
            &gradients,
            progress,
        )?;

        let mut gradients = Gradients::default();
        self.value_gradient(&views, 1.0, &mut gradients)?;
        self_check::gradient_coverage(
            "value model",
            models.value.trunk.weights().variables(),
            &gradients,
            progress,
        )?;

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
                figures.text_loss += self.text_gradient(chosen.len(), &mut policy, progress)?;
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
        figures.text_loss /= steps;
        Ok(figures)
    }

    /// Output of a model's trunk over episodes, with history, from the kept output of frozen
    /// blocks where there is one.
    fn hidden(
        &self,
        trunk: &Llama,
        lowers: &[Option<&Tensor>],
        batch: &TokenBatch,
    ) -> Result<Tensor> {
        match lowers.iter().copied().collect::<Option<Vec<&Tensor>>>() {
            Some(lowers) => trunk.upper(&stack(&lowers, batch.time)?, Pass::Tracked),
            None => trunk.hidden(batch, Pass::Tracked),
        }
    }

    /// Adds `weight` times the gradient of the episodes' summed policy loss.
    fn policy_gradient(
        &self,
        episodes: &[&Episode],
        weight: f64,
        gradients: &mut Gradients,
    ) -> Result<TokenSums> {
        let policy = &self.models.policy;
        let batch = self.batch(episodes)?;
        let (positions, targets) = token_positions(&batch, episodes);
        let n = positions.len();
        let targets = Tensor::from_vec(targets, n, &policy.device)?;
        let lowers: Vec<Option<&Tensor>> = episodes
            .iter()
            .map(|episode| episode.policy_lower.as_ref())
            .collect();
        let hidden = self.hidden(policy, &lowers, &batch)?.flatten(0, 1)?;
        let hidden = hidden.index_select(&Tensor::from_vec(positions, n, &policy.device)?, 0)?;
        let temperature = self.config.temperature;
        let new = token_log_probs::evaluate(&hidden, policy.head(), &targets, temperature)?
            .log_prob
            .to_vec1::<f32>()?;
        let mut sums = TokenSums {
            tokens: n as f64,
            ..TokenSums::default()
        };
        let mut by_log_prob = Vec::with_capacity(n);
        let old = episodes
            .iter()
            .flat_map(|episode| episode.old.iter().zip(&episode.advantages));
        for (new, (old, advantage)) in new.iter().zip(old) {
            let new = f64::from(*new);
            let (loss, slope) = policy_loss(new, *old, *advantage, self.config.clip);
            let ratio = (new - old).exp();
            sums.policy_loss += loss;
            sums.ratio_sum += ratio;
            sums.lowest_ratio = sums.lowest_ratio.min(ratio);
            sums.highest_ratio = sums.highest_ratio.max(ratio);
            sums.approximate_kl += estimators(old - new).1;
            sums.clipped += f64::from(u8::from((ratio - 1.0).abs() > self.config.clip));
            by_log_prob.push((weight * slope) as f32);
        }
        let by_log_prob = Tensor::from_vec(by_log_prob, n, &policy.device)?;
        let scalar = token_log_probs::surrogate(
            &hidden,
            policy.head(),
            &targets,
            temperature,
            &by_log_prob,
        )?;
        gradients.add(&scalar.backward()?, policy.weights().variables(), 1.0)?;
        Ok(sums)
    }

    /// Adds `weight` times the gradient of the episodes' summed value loss; returns that sum and
    /// the number of values beyond the clip.
    fn value_gradient(
        &self,
        episodes: &[&Episode],
        weight: f64,
        gradients: &mut Gradients,
    ) -> Result<(f64, f64)> {
        let model = &self.models.value;
        let batch = self.batch(episodes)?;
        let (positions, _) = token_positions(&batch, episodes);
        let n = positions.len();
        let lowers: Vec<Option<&Tensor>> = episodes
            .iter()
            .map(|episode| episode.value_lower.as_ref())
            .collect();
        let hidden = self.hidden(&model.trunk, &lowers, &batch)?;
        let positions = Tensor::from_vec(positions, n, &model.trunk.device)?;
        let values = model
            .values(&hidden)?
            .flatten_all()?
            .index_select(&positions, 0)?;
        let (mut sum, mut clipped) = (0.0, 0.0);
        let mut by_value = Vec::with_capacity(n);
        let old = episodes
            .iter()
            .flat_map(|episode| episode.values.iter().zip(&episode.returns));
        for (new, (old, target)) in values.to_vec1::<f32>()?.iter().zip(old) {
            let (loss, slope) = value_loss(f64::from(*new), *old, *target, self.config.value_clip);
            sum += loss;
            let moved = (f64::from(*new) - old).abs();
            clipped += f64::from(u8::from(moved > self.config.value_clip));
            by_value.push((weight * slope) as f32);
        }
        let by_value = Tensor::from_vec(by_value, n, &model.trunk.device)?;
        let scalar = with_gradient(&values, &by_value)?;
        gradients.add(&scalar.backward()?, model.trunk.weights().variables(), 1.0)?;
        Ok((sum, clipped))
    }

    /// Adds the pretraining gradient that goes with `episodes` episodes; returns the mean negative
    /// log-likelihood of its tokens.
    fn text_gradient(
        &mut self,
        episodes: usize,
        gradients: &mut Gradients,
        progress: &dyn Progress,
    ) -> Result<f64> {
        let wanted = (episodes as f64 * self.config.ptx_examples_per_episode).round() as usize;
        if self.texts.is_empty() || wanted == 0 {
            return Ok(0.0);
        }
        let rows: Vec<LearningRow> = (0..wanted)
            .map(|index| &self.texts[(self.next_text + index) % self.texts.len()])
            .map(|row| LearningRow {
                tokens: row.tokens.clone(),
                start: row.start,
            })
            .collect();
        self.next_text += wanted;
        let tokens: usize = rows.iter().map(|row| row.tokens.len() - row.start).sum();
        let weight = self.config.ptx_coefficient / tokens as f64;
        let mut loss = 0.0;
        for micro in rows.chunks(MICRO_ROWS) {
            progress.go_on()?;
            loss += add_gradient(
                &self.models.policy,
                micro,
                self.codec.pad_id,
                weight,
                gradients,
            )?;
        }
        Ok(loss / self.config.ptx_coefficient)
    }

    /// Answers fixed prompts with fixed draws; returns mean reward and mean KL.
    fn evaluate(
        &self,
        prompts: &[Vec<u32>],
        chosen: &[usize],
        step: u64,
        moment: &str,
        progress: &mut dyn Progress,
    ) -> Result<(f64, f64)> {
        progress.phase(
            &format!("answering prompts {moment} training"),
            0,
            chosen.len(),
        );
        let mut episodes = self.sample(prompts, chosen, "evaluation", 0, progress)?;
        self.appraise(&mut episodes, progress)?;
        for (index, episode) in episodes.iter().enumerate() {
            let data = json!({
                "kind": moment,
                "moment": moment,
                "prompt_index": index,
                "prompt": self.codec.decode(&episode.tokens[..episode.start])?,
                "completion": self.codec.decode(&episode.tokens[episode.start..episode.start + episode.n])?,
                "reward": episode.reward,
                "kl": episode.kl(),
                "is_finished": episode.is_finished,
            });
            progress.record(Event::Sample { step, data });
        }
        Ok((
            mean(episodes.iter().map(|episode| episode.reward)),
            mean(episodes.iter().map(Episode::kl)),
        ))
    }
}

/// Sums over real tokens.
struct TokenSums {
    tokens: f64,
    policy_loss: f64,
    value_loss: f64,
    ratio_sum: f64,
    lowest_ratio: f64,
    highest_ratio: f64,
    approximate_kl: f64,
    clipped: f64,
    clipped_values: f64,
}

impl Default for TokenSums {
    fn default() -> Self {
        Self {
            tokens: 0.0,
            policy_loss: 0.0,
            value_loss: 0.0,
            ratio_sum: 0.0,
            lowest_ratio: f64::INFINITY,
            highest_ratio: f64::NEG_INFINITY,
            approximate_kl: 0.0,
            clipped: 0.0,
            clipped_values: 0.0,
        }
    }
}

impl TokenSums {
    fn add(&mut self, other: &Self) {
        self.tokens += other.tokens;
        self.policy_loss += other.policy_loss;
        self.ratio_sum += other.ratio_sum;
        self.lowest_ratio = self.lowest_ratio.min(other.lowest_ratio);
        self.highest_ratio = self.highest_ratio.max(other.highest_ratio);
        self.approximate_kl += other.approximate_kl;
        self.clipped += other.clipped;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_gradient_is_that_of_finite_differences_on_both_sides_of_the_clip() {
        for advantage in [-1.3, 0.7] {
            for new in [-2.5, -2.05, -2.0, -1.95, -1.4] {
                let (_, slope) = policy_loss(new, -2.0, advantage, 0.2);
                let shifted = |by: f64| policy_loss(new + by, -2.0, advantage, 0.2).0;
                let expected = (shifted(1e-6) - shifted(-1e-6)) / 2e-6;
                assert!(
                    (slope - expected).abs() < 1e-5,
                    "{advantage} {new}: {slope} {expected}"
                );
            }
        }
        assert_eq!(policy_loss(-1.0, -2.0, 0.0, 0.2).1, 0.0);
    }

    #[test]
    fn a_value_that_moved_too_far_towards_its_target_learns_nothing_more() {
        let (_, slope) = value_loss(0.5, 0.0, 1.0, 0.2);
        assert_eq!(slope, 0.0);
        let (loss, slope) = value_loss(0.1, 0.0, 1.0, 0.2);
        assert!((loss - 0.405).abs() < 1e-12 && (slope + 0.9).abs() < 1e-12);
    }
}
