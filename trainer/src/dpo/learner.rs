//! Passes over rankings: log-probabilities of completions, the gradient of the preference loss,
//! and an epoch.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use rand::seq::SliceRandom;

use super::measure::Measure;
use crate::config::DpoConfig;
use crate::error::{Result, TrainerError};
use crate::memory::LOWER_CACHE_BYTES;
use crate::model::attention::Pass;
use crate::model::token_log_probs;
use crate::model::transformer::Transformer;
use crate::nn::backward::backward;
use crate::optim::{AdamW, Gradients, set_values, values};
use crate::progress::Progress;
use crate::reward::groups::Group;
use crate::reward::passes::{lower_of, passes};
use crate::rng::stream;
use crate::savepoint::Savepoint;
use crate::self_check::largest;
use crate::sft::{LearningRow, learning_positions};

/// Completions that pass through the network together, unless a setting or a limit asks for fewer: as
/// many as a labeler ranks at once, so that their prompt is there once. The activations of all of a
/// prompt's are held until its loss has told its gradient.
pub(super) const MICRO_ROWS: usize = 9;

/// A ranking to learn from.
pub(super) struct Ranking {
    pub(super) group: Group,
    /// Log-probability of each completion and its EOS under the reference, in nats.
    pub(super) reference: Vec<f64>,
}

impl Ranking {
    /// How many of the row's tokens are the completion's, its EOS among them.
    fn n_learnt(&self, row: usize) -> usize {
        self.group.lengths[row] + 1
    }

    /// What the reference said of these rankings, for a savepoint.
    pub(super) fn references(rankings: &[Self]) -> Result<Tensor> {
        let all = rankings.iter().flat_map(|ranking| &ranking.reference);
        let all: Vec<f64> = all.copied().collect();
        let n = all.len();
        Ok(Tensor::from_vec(all, n, &Device::Cpu)?)
    }

    /// Takes back what [`Self::references`] gave of the same rankings.
    pub(super) fn restore_references(rankings: &mut [Self], kept: Option<&Tensor>) -> Result<()> {
        let kept: Vec<f64> = kept.map_or(Ok(Vec::new()), Tensor::to_vec1)?;
        let n: usize = rankings.iter().map(|one| one.group.rows.len()).sum();
        if kept.len() != n {
            let message = format!("holds {} of {n} reference log-probabilities", kept.len());
            return Err(TrainerError::checkpoint(Path::new("savepoint"), message));
        }
        let mut kept = kept.into_iter();
        for ranking in rankings {
            ranking.reference = kept.by_ref().take(ranking.group.rows.len()).collect();
        }
        Ok(())
    }

    fn learning_rows(&self) -> impl Iterator<Item = LearningRow> + '_ {
        let rows = self.group.rows.iter().enumerate();
        rows.map(|(index, tokens)| LearningRow {
            tokens: tokens.clone(),
            start: tokens.len() - self.n_learnt(index),
        })
    }
}

/// A policy while it is being trained.
pub(super) struct Fit {
    pub(super) policy: Transformer,
    optimiser: AdamW,
    /// What the reference said, for savepoints.
    reference: BTreeMap<String, Tensor>,
    /// Steps that are done.
    pub(super) n_done: usize,
    /// Epochs whose held-out figures are told.
    pub(super) n_measured: usize,
    /// Batches that came by, those of steps done before the run was stopped among them.
    n_seen: usize,
}

impl Fit {
    pub(super) fn new(
        policy: Transformer,
        config: &DpoConfig,
        reference: BTreeMap<String, Tensor>,
    ) -> Self {
        Self {
            policy,
            optimiser: AdamW::new(config.optimiser.clone()),
            reference,
            n_done: 0,
            n_measured: 0,
            n_seen: 0,
        }
    }

    /// All that moves, after the last step, and what the reference said, which no longer exists.
    pub(super) fn savepoint(&self) -> Result<Savepoint> {
        let mut point = Savepoint::new(self.n_done, &self.n_measured);
        point.put("policy", values(self.policy.weights().variables()));
        point.put("optimiser", self.optimiser.state()?);
        point.put("reference", self.reference.clone());
        Ok(point)
    }

    pub(super) fn restore(&mut self, point: &Savepoint) -> Result<()> {
        let variables = self.policy.weights().variables();
        set_values(variables, &point.group("policy"))?;
        self.optimiser
            .restore(&point.group("optimiser"), variables)?;
        self.n_done = point.step;
        self.n_measured = point.state_as()?;
        Ok(())
    }
}

/// Figures of a step.
pub(super) struct Step {
    /// Counted from 1.
    pub(super) number: usize,
    /// How many there will be.
    pub(super) n_steps: usize,
    /// Of what was learnt from, before learning.
    pub(super) measure: Measure,
    pub(super) norm: f64,
    pub(super) learning_rate: f64,
}

/// What a pass over rankings showed.
struct Seen {
    /// Output at the positions before each learnt token, `[tokens, hidden]`.
    hidden: Tensor,
    /// The learnt tokens, `[tokens]`.
    targets: Tensor,
    /// Log-probability of each completion, one ranking after the other.
    log_probs: Vec<f64>,
}

/// What every pass needs.
pub(super) struct Learner<'a> {
    config: &'a DpoConfig,
    micro_rows: usize,
    /// Bytes left for the output of frozen blocks.
    room: usize,
}

impl<'a> Learner<'a> {
    pub(super) fn new(config: &'a DpoConfig, micro_rows: usize) -> Self {
        Self {
            config,
            micro_rows,
            room: LOWER_CACHE_BYTES,
        }
    }

    /// Asks `model`, which nothing has trained yet, for the log-probabilities that the policy will
    /// be held against.
    pub(super) fn refer(
        &mut self,
        model: &Transformer,
        rankings: &mut [Ranking],
        progress: &mut dyn Progress,
    ) -> Result<()> {
        let n = rankings.len();
        let mut done = 0;
        while done < n {
            progress.go_on()?;
            progress.phase("asking the reference", done, n);
            let micro = next_micro(&mut rankings[done..], self.micro_rows);
            let mut found = self.pass(model, micro, Pass::Frozen)?.log_probs.into_iter();
            for ranking in &mut *micro {
                ranking.reference = found.by_ref().take(ranking.group.rows.len()).collect();
            }
            done += micro.len();
        }
        Ok(())
    }

    /// The figures of each ranking under `policy`.
    pub(super) fn measure(
        &mut self,
        policy: &Transformer,
        rankings: &mut [Ranking],
        progress: &mut dyn Progress,
    ) -> Result<Vec<Measure>> {
        let mut measures = Vec::with_capacity(rankings.len());
        while measures.len() < rankings.len() {
            progress.go_on()?;
            let micro = next_micro(&mut rankings[measures.len()..], self.micro_rows);
            let log_probs = self.pass(policy, micro, Pass::Frozen)?.log_probs;
            let mut rest = log_probs.as_slice();
            for ranking in &*micro {
                let (own, others) = rest.split_at(ranking.group.rows.len());
                rest = others;
                measures.push(Measure::of(ranking, own, self.config).0);
            }
        }
        Ok(measures)
    }

    /// One pass over `train` in an order drawn for `epoch`: for each batch of prompts one pass of
    /// the policy over each prompt with all its completions, the loss over all pairs of a prompt as
    /// one element, backward, step. `report` hears each step's figures. Batches whose steps are done
    /// are passed over.
    pub(super) fn epoch(
        &mut self,
        fit: &mut Fit,
        train: &mut [Ranking],
        epoch: usize,
        progress: &mut dyn Progress,
        report: &mut dyn FnMut(&mut dyn Progress, &Step, &Fit) -> Result<()>,
    ) -> Result<()> {
        let config = self.config;
        let n_steps = train.len().div_ceil(config.batch_prompts) * config.epochs;
        train.shuffle(&mut stream(config.seed, "shuffle", epoch as u64));
        for batch in train.chunks_mut(config.batch_prompts) {
            fit.n_seen += 1;
            if fit.n_seen <= fit.n_done {
                continue;
            }
            let step = self.step(fit, batch, n_steps, progress)?;
            report(progress, &step, fit)?;
        }
        Ok(())
    }

    /// Learns from one batch.
    pub(super) fn step(
        &mut self,
        fit: &mut Fit,
        batch: &mut [Ranking],
        n_steps: usize,
        progress: &mut dyn Progress,
    ) -> Result<Step> {
        let mut gradients = Gradients::default();
        let weight = 1.0 / batch.len() as f64;
        let mut measure = Measure::default();
        let mut rest = batch;
        while !rest.is_empty() {
            progress.go_on()?;
            let n = next_micro(rest, self.micro_rows).len();
            let (micro, others) = rest.split_at_mut(n);
            measure.add(self.learn(&fit.policy, micro, weight, &mut gradients)?);
            rest = others;
        }
        let factor = self.config.schedule.factor(fit.n_done, n_steps);
        let variables = fit.policy.weights().variables();
        let norm = fit.optimiser.step(variables, &gradients, factor)?;
        fit.n_done += 1;
        Ok(Step {
            number: fit.n_done,
            n_steps,
            measure,
            norm,
            learning_rate: self.config.optimiser.learning_rate * factor,
        })
    }

    /// Adds `weight` times the gradient of each ranking's loss. The gradient by the completions'
    /// log-probabilities is worked out first, so that one forward and one backward pass suffice and
    /// no logits are kept between them.
    pub(super) fn learn(
        &mut self,
        policy: &Transformer,
        rankings: &mut [Ranking],
        weight: f64,
        gradients: &mut Gradients,
    ) -> Result<Measure> {
        let seen = self.pass(policy, rankings, Pass::Tracked)?;
        let mut measure = Measure::default();
        let mut by_token: Vec<f32> = Vec::with_capacity(seen.targets.dim(0)?);
        let mut rest = seen.log_probs.as_slice();
        for ranking in rankings {
            let (own, others) = rest.split_at(ranking.group.rows.len());
            rest = others;
            let (found, by_completion) = Measure::of(ranking, own, self.config);
            measure.add(found);
            for (row, slope) in by_completion.into_iter().enumerate() {
                // A completion's log-probability is the sum over its tokens.
                let tokens = std::iter::repeat_n((weight * slope) as f32, ranking.n_learnt(row));
                by_token.extend(tokens);
            }
        }
        let by_token = Tensor::from_vec(by_token, seen.targets.shape(), &policy.device)?;
        let (hidden, head) = (&seen.hidden, policy.head());
        let scalar = token_log_probs::surrogate(hidden, head, &seen.targets, 1.0, &by_token)?;
        let variables = policy.weights().variables();
        gradients.add(&backward(&scalar)?, variables, 1.0)?;
        Ok(measure)
    }

    /// By how much the policy's pass that trains differs from what the reference said, for the
    /// token that differs most on average over its completion, in nats.
    pub(super) fn largest_log_ratio(
        &mut self,
        policy: &Transformer,
        rankings: &mut [Ranking],
    ) -> Result<f64> {
        let found = self.pass(policy, rankings, Pass::Tracked)?.log_probs;
        let wanted = rankings.iter().flat_map(|ranking| {
            let lengths = (0..ranking.group.rows.len()).map(|row| ranking.n_learnt(row) as f64);
            ranking.reference.iter().zip(lengths)
        });
        let off = found.iter().zip(wanted);
        let off = off.map(|(found, (wanted, length))| (found - wanted).abs() / length);
        Ok(largest(off))
    }

    /// One forward pass of each ranking's prompt with all its completions.
    fn pass(&mut self, model: &Transformer, rankings: &mut [Ranking], pass: Pass) -> Result<Seen> {
        let rows: Vec<LearningRow> = rankings.iter().flat_map(Ranking::learning_rows).collect();
        let mut groups: Vec<&mut Group> = rankings.iter_mut().map(|one| &mut one.group).collect();
        let sizes: Vec<usize> = groups.iter().map(|group| group.rows.len()).collect();
        let (mut hidden, mut targets) = (Vec::new(), Vec::new());
        let mut rest = rows.as_slice();
        for bundles in passes(sizes, self.micro_rows) {
            let (batch, lower) = lower_of(model, &mut groups, &bundles, &mut self.room)?;
            let (rows, others) = rest.split_at(batch.lengths.len());
            rest = others;
            let (positions, own) = learning_positions(&batch, rows);
            let n = positions.len();
            let positions = Tensor::from_vec(positions, n, &model.device)?;
            let all = model.upper_of(&lower, &batch, pass)?.flatten(0, 1)?;
            hidden.push(all.index_select(&positions, 0)?);
            targets.extend(own);
        }
        let hidden = Tensor::cat(&hidden, 0)?;
        let n = targets.len();
        let targets = Tensor::from_vec(targets, n, &model.device)?;
        let found = token_log_probs::evaluate(&hidden, model.head(), &targets, 1.0)?.log_prob;
        let found: Vec<f32> = found.to_vec1()?;
        let mut rest = found.as_slice();
        let mut log_probs = Vec::with_capacity(rows.len());
        for row in &rows {
            let (own, others) = rest.split_at(row.tokens.len() - row.start);
            rest = others;
            log_probs.push(own.iter().map(|log_prob| f64::from(*log_prob)).sum());
        }
        if !log_probs.iter().all(|log_prob: &f64| log_prob.is_finite()) {
            return Err(TrainerError::Diverged(
                "the log-probability of a completion is not finite".to_owned(),
            ));
        }
        Ok(Seen {
            hidden,
            targets,
            log_probs,
        })
    }
}

/// The first rankings that share a backward pass: one, and more while they have no more than `rows`
/// completions together.
pub(super) fn next_micro(rankings: &mut [Ranking], rows: usize) -> &mut [Ranking] {
    let mut n_rows = 0;
    let fitting = rankings.iter().take_while(|ranking| {
        n_rows += ranking.group.rows.len();
        n_rows <= rows
    });
    let n = fitting.count().max(1).min(rankings.len());
    &mut rankings[..n]
}
