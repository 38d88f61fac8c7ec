//! Passes over groups of completions: scores, the K-wise gradient, an epoch, and the measures.

use candle_core::Tensor;
use rand::seq::SliceRandom;
use serde::Serialize;

use super::accuracy::{count_right, mean_and_deviation};
use super::groups::Group;
use crate::config::RewardConfig;
use crate::error::{Result, TrainerError};
use crate::loss::with_gradient;
use crate::memory::{LOWER_CACHE_BYTES, Plan};
use crate::model::attention::Pass;
use crate::model::batch::TokenBatch;
use crate::model::heads::RewardModel;
use crate::model::recompute;
use crate::optim::{AdamW, Gradients, set_values, values};
use crate::progress::Progress;
use crate::rng::stream;
use crate::savepoint::Savepoint;

/// Prompts that pass through the trunk together, each with all its completions: few enough for
/// memory, enough that adding up gradients costs little. Fewer where a setting or a limit asks for it.
pub(super) const MICRO_PROMPTS: usize = 4;

/// Rows that pass through the trunk side by side, unless a setting or a limit asks for fewer.
pub(super) const MICRO_ROWS: usize = 8;

/// A model while it is being trained.
pub(super) struct Fit {
    pub(super) model: RewardModel,
    optimiser: AdamW,
    /// Steps that are done.
    pub(super) n_done: usize,
    /// Batches that came by, those of steps done before the run was stopped among them.
    n_seen: usize,
}

impl Fit {
    pub(super) fn new(model: RewardModel, config: &RewardConfig) -> Self {
        Self {
            model,
            optimiser: AdamW::new(config.optimiser.clone()),
            n_done: 0,
            n_seen: 0,
        }
    }
}

impl Fit {
    /// All that moves, after the last step.
    pub(super) fn savepoint(&self, state: &impl Serialize) -> Result<Savepoint> {
        let mut point = Savepoint::new(self.n_done, state);
        point.put("model", values(self.model.trunk.weights().variables()));
        point.put("optimiser", self.optimiser.state()?);
        Ok(point)
    }

    pub(super) fn restore(&mut self, point: &Savepoint) -> Result<()> {
        let variables = self.model.trunk.weights().variables();
        set_values(variables, &point.group("model"))?;
        self.optimiser
            .restore(&point.group("optimiser"), variables)?;
        self.n_done = point.step;
        Ok(())
    }
}

/// Figures of a step.
pub(super) struct Step {
    /// Counted from 1.
    pub(super) number: usize,
    /// How many there will be.
    pub(super) n_steps: usize,
    pub(super) loss: f64,
    /// Of the pairs that were learnt from, before learning.
    pub(super) accuracy: f64,
    pub(super) norm: f64,
    pub(super) learning_rate: f64,
    pub(super) rewards: Vec<f32>,
}

/// What a forward pass over several groups showed: sums over groups and pairs.
#[derive(Default)]
pub(super) struct Learnt {
    loss: f64,
    right: f64,
    pairs: usize,
    rewards: Vec<f32>,
}

/// What every pass needs.
pub(super) struct Learner<'a> {
    config: &'a RewardConfig,
    pad_id: u32,
    micro_prompts: usize,
    micro_rows: usize,
    /// Whether models run their blocks again in the backward pass.
    pub(super) recomputes: bool,
    /// Bytes left for the output of frozen blocks.
    room: usize,
    /// Completions that went through the network so far.
    n_passes: usize,
}

impl<'a> Learner<'a> {
    pub(super) fn new(config: &'a RewardConfig, pad_id: u32, plan: &Plan) -> Self {
        Self {
            config,
            pad_id,
            micro_prompts: plan.prompts,
            micro_rows: plan.rows,
            recomputes: plan.recomputes,
            room: LOWER_CACHE_BYTES,
            n_passes: 0,
        }
    }

    /// One pass over `train` in an order drawn for `epoch`: for each batch of prompts one forward
    /// pass for each completion, the loss over all pairs of a prompt as one element, backward, step.
    /// `report` hears each step's figures. Batches whose steps are done are passed over.
    pub(super) fn epoch(
        &mut self,
        fit: &mut Fit,
        train: &mut [Group],
        epoch: usize,
        progress: &mut dyn Progress,
        report: &mut dyn FnMut(&mut dyn Progress, &Step, &Fit) -> Result<()>,
    ) -> Result<()> {
        let config = self.config;
        let n_steps = train.len().div_ceil(config.batch_prompts) * config.epochs;
        if config.shuffle {
            train.shuffle(&mut stream(config.seed, "shuffle", epoch as u64));
        }
        for batch in train.chunks_mut(config.batch_prompts) {
            fit.n_seen += 1;
            if fit.n_seen <= fit.n_done {
                continue;
            }
            let mut gradients = Gradients::default();
            let weight = 1.0 / batch.len() as f64;
            let (mut loss, mut rewards, mut right, mut pairs) = (0.0, Vec::new(), 0.0, 0);
            for micro in batch.chunks_mut(self.micro_prompts) {
                progress.go_on()?;
                let learnt = self.learn_groups(&fit.model, micro, weight, &mut gradients)?;
                loss += weight * learnt.loss;
                right += learnt.right;
                pairs += learnt.pairs;
                rewards.extend(learnt.rewards);
            }
            let factor = config.schedule.factor(fit.n_done, n_steps);
            let variables = fit.model.trunk.weights().variables();
            let norm = fit.optimiser.step(variables, &gradients, factor)?;
            fit.n_done += 1;
            let step = Step {
                number: fit.n_done,
                n_steps,
                loss,
                accuracy: right / f64::from(pairs.max(1) as u32),
                norm,
                learning_rate: config.optimiser.learning_rate * factor,
                rewards,
            };
            report(progress, &step, fit)?;
        }
        Ok(())
    }

    /// Scores of the completions of several groups, one group after the other, `[rows]`. Rows pass
    /// through the trunk with others of similar length, so that little is padded; the output of frozen
    /// blocks is kept while there is room, since later passes need it again.
    fn scores(&mut self, model: &RewardModel, groups: &mut [Group], pass: Pass) -> Result<Tensor> {
        let all = groups.iter().enumerate();
        let mut places: Vec<(usize, usize)> = all
            .flat_map(|(index, group)| (0..group.rows.len()).map(move |row| (index, row)))
            .collect();
        let n = places.len();
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by_key(|index| {
            let (group, row) = places[*index];
            groups[group].rows[row].len()
        });
        places = order.iter().map(|index| places[*index]).collect();
        let mut parts = Vec::with_capacity(n.div_ceil(self.micro_rows));
        for places in places.chunks(self.micro_rows) {
            let rows: Vec<Vec<u32>> = places
                .iter()
                .map(|(group, row)| groups[*group].rows[*row].clone())
                .collect();
            let batch = TokenBatch::new(&rows, self.pad_id, &model.trunk.device)?;
            let lower = self.lower_of(model, groups, places, &batch)?;
            parts.push(model.scores_from(&lower, &batch, pass)?);
            self.n_passes += places.len();
        }
        let mut back = vec![0; n];
        for (place, index) in order.into_iter().enumerate() {
            back[index] = place as u32;
        }
        let back = Tensor::from_vec(back, n, &model.trunk.device)?;
        Ok(Tensor::cat(&parts, 0)?.index_select(&back, 0)?)
    }

    /// Output of the frozen blocks for the rows at `places`, `[rows, time, hidden]`: the kept one, or a
    /// new one that is kept while there is room.
    fn lower_of(
        &mut self,
        model: &RewardModel,
        groups: &mut [Group],
        places: &[(usize, usize)],
        batch: &TokenBatch,
    ) -> Result<Tensor> {
        let kept = places.iter();
        let kept: Option<Vec<&Tensor>> = kept
            .map(|(group, row)| groups[*group].lowers[*row].as_ref())
            .collect();
        if let Some(kept) = kept {
            return batch.stack(&kept);
        }
        let lower = model.trunk.lower(batch)?;
        if model.trunk.n_frozen() > 0 {
            for ((group, row), own) in places.iter().zip(batch.unstack(&lower)?) {
                let bytes = own.elem_count() * size_of::<f32>();
                let slot = &mut groups[*group].lowers[*row];
                if slot.is_none() && bytes <= self.room {
                    self.room -= bytes;
                    *slot = Some(own);
                }
            }
        }
        Ok(lower)
    }

    /// Adds `weight` times the gradient of each group's loss, all in one forward and backward pass.
    pub(super) fn learn_groups(
        &mut self,
        model: &RewardModel,
        groups: &mut [Group],
        weight: f64,
        gradients: &mut Gradients,
    ) -> Result<Learnt> {
        let scores = self.scores(model, groups, Pass::Tracked)?;
        let rewards: Vec<f32> = scores.to_vec1()?;
        let mut by_reward = Vec::with_capacity(rewards.len());
        let mut learnt = Learnt::default();
        let mut rest = rewards.as_slice();
        for group in groups {
            let (own, others) = rest.split_at(group.rows.len());
            rest = others;
            match self.config.loss.evaluate(own, &group.ranks, &group.ratings) {
                Some((loss, slopes)) => {
                    learnt.loss += loss;
                    by_reward.extend(slopes);
                }
                None => by_reward.resize(by_reward.len() + own.len(), 0.0),
            }
            let (right, pairs) = count_right(own, &group.ranks);
            learnt.right += right;
            learnt.pairs += pairs;
        }
        let by_reward = Tensor::from_vec(by_reward, rewards.len(), &model.trunk.device)?;
        let scalar = with_gradient(&scores, &by_reward)?;
        let variables = model.trunk.weights().variables();
        gradients.add(&recompute::backward(&scalar)?, variables, weight)?;
        learnt.rewards = rewards;
        Ok(learnt)
    }

    /// The scores of each group's completions.
    pub(super) fn measure(
        &mut self,
        model: &RewardModel,
        groups: &mut [Group],
        progress: &mut dyn Progress,
    ) -> Result<Vec<Vec<f32>>> {
        let mut scores = Vec::with_capacity(groups.len());
        for micro in groups.chunks_mut(self.micro_prompts) {
            progress.go_on()?;
            let rewards: Vec<f32> = self.scores(model, micro, Pass::Frozen)?.to_vec1()?;
            if rewards.iter().any(|reward| !reward.is_finite()) {
                let message = "a score of a measured completion is not finite".to_owned();
                return Err(TrainerError::Diverged(message));
            }
            let mut rest = rewards.as_slice();
            for group in micro {
                let (own, others) = rest.split_at(group.rows.len());
                scores.push(own.to_vec());
                rest = others;
            }
        }
        Ok(scores)
    }

    /// Mean score of every completion.
    pub(super) fn mean_score(&mut self, model: &RewardModel, groups: &mut [Group]) -> Result<f64> {
        let mut all = Vec::new();
        for micro in groups.chunks_mut(self.micro_prompts) {
            all.extend(self.scores(model, micro, Pass::Frozen)?.to_vec1::<f32>()?);
        }
        Ok(mean_and_deviation(&all).0)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::path::Path;

    use candle_core::Device;

    use super::*;
    use crate::config::Preset;
    use crate::memory::Estimate;
    use crate::model::weights::Trainable;

    fn group(index: u32) -> Group {
        let token = |k: u32, t: u32| 3 + (7 * index + 5 * k + t) % 290;
        let row = |k: u32| (0..5 + (index + 2 * k) % 6).map(|t| token(k, t)).collect();
        let rows: Vec<Vec<u32>> = (0..4).map(row).collect();
        Group {
            index: index as usize,
            ranks: vec![1, 2, 2, 3],
            ratings: vec![None; 4],
            lengths: vec![1; 4],
            lowers: vec![None; 4],
            rows,
            ..Group::new(&index.to_string())
        }
    }

    /// Item 50: one prompt at a time, few rows side by side, and blocks that run again, are one large
    /// batch.
    #[test]
    fn gradients_added_up_are_those_of_one_large_batch() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny");
        for part in [Trainable::Everything, Trainable::UpperLayers(1)] {
            let model = RewardModel::from_language_model(&folder, &Device::Cpu, part, 1);
            let mut model = model.unwrap();
            let config = RewardConfig::preset(Preset::Tiny);
            let names: Vec<String> = model.trunk.weights().variables().keys().cloned().collect();
            let mut added = |prompts: usize, rows: usize, recomputes: bool| {
                let estimate = Estimate {
                    phase: "a test",
                    parts: Vec::new(),
                };
                let plan = Plan {
                    prompts,
                    rows,
                    is_packed: false,
                    recomputes,
                    estimate,
                };
                model.trunk.set_recompute(recomputes);
                let mut learner = Learner::new(&config, 2, &plan);
                let mut groups: Vec<Group> = (0..5).map(group).collect();
                let mut sums = Gradients::default();
                let mut loss = 0.0;
                for micro in groups.chunks_mut(prompts) {
                    let learnt = learner.learn_groups(&model, micro, 0.2, &mut sums);
                    loss += learnt.unwrap().loss;
                }
                (sums, loss)
            };
            let (whole, at_once) = added(5, 20, false);
            for (prompts, rows, recomputes) in [(2, 8, false), (1, 8, true), (1, 1, true)] {
                let (parts, loss) = added(prompts, rows, recomputes);
                assert!((loss - at_once).abs() < 1e-5 * at_once);
                for name in &names {
                    let (part, all) = (parts.get(name).unwrap(), whole.get(name).unwrap());
                    let relative = largest(&(part - all).unwrap()) / largest(all);
                    assert!(relative < 1e-5, "{name}: {relative:e}");
                }
            }
        }
    }

    fn largest(tensor: &Tensor) -> f32 {
        let largest = tensor.abs().unwrap().max_all().unwrap();
        largest.to_scalar().unwrap()
    }

    /// Item 14 of the checklist: a pass for each completion, not for each pair.
    #[test]
    fn sixty_four_prompts_of_nine_completions_take_576_passes_for_2304_pairs() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny");
        let config = RewardConfig::preset(Preset::Tiny);
        let model =
            RewardModel::from_language_model(&folder, &Device::Cpu, config.trainable(), 1).unwrap();
        let group = |index: usize| Group {
            index,
            ranks: (1..=9).collect(),
            ratings: vec![None; 9],
            rows: (0..9)
                .map(|last| vec![5, index as u32, 70 + last])
                .collect(),
            lengths: vec![1; 9],
            lowers: vec![None; 9],
            ..Group::new(&index.to_string())
        };
        let mut groups: Vec<Group> = (0..64).map(group).collect();
        let plan = Plan {
            prompts: 4,
            rows: 8,
            is_packed: false,
            recomputes: false,
            estimate: Estimate {
                phase: "a test",
                parts: Vec::new(),
            },
        };
        let mut learner = Learner::new(&config, 0, &plan);
        let mut gradients = Gradients::default();
        let learnt = groups
            .chunks_mut(4)
            .map(|groups| learner.learn_groups(&model, groups, 1.0 / 64.0, &mut gradients));
        let n_pairs: usize = learnt.map(|learnt| learnt.unwrap().pairs).sum();
        assert_eq!((learner.n_passes, n_pairs), (576, 2304));
    }
}
