//! Passes over groups of completions: scores, the K-wise gradient, an epoch, and the measures.

use std::collections::BTreeMap;

use candle_core::Tensor;
use rand::seq::SliceRandom;
use serde::Serialize;

use super::accuracy::{count_right, mean_and_deviation};
use super::disagreement::{Draws, PairDoubt, doubts};
use super::groups::Group;
use super::passes::{lower_of, passes};
use crate::config::RewardConfig;
use crate::error::{Result, TrainerError};
use crate::loss::with_gradient;
use crate::memory::{LOWER_CACHE_BYTES, Plan};
use crate::model::attention::Pass;
use crate::model::heads::RewardModel;
use crate::nn::backward::backward;
use crate::optim::{AdamW, Gradients, set_values, values};
use crate::progress::Progress;
use crate::rng::stream;
use crate::savepoint::Savepoint;

/// Prompts that pass through the trunk together, each with all its completions: few enough for
/// memory, enough that adding up gradients costs little. Fewer where a setting or a limit asks for it.
pub(super) const MICRO_PROMPTS: usize = 4;

/// Completions that pass through the trunk together, unless a setting or a limit asks for fewer: as
/// many as a labeler ranks at once (InstructGPT, section 3.4), so that their prompt is there once.
pub(super) const MICRO_ROWS: usize = 9;

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
    micro_prompts: usize,
    micro_rows: usize,
    /// Whether models run their blocks again in the backward pass.
    pub(super) recomputes: bool,
    /// Bytes left for the output of frozen blocks.
    room: usize,
    /// Completions that went through the network so far.
    n_passes: usize,
    /// Of the epoch that is under way.
    draws: Draws,
}

/// The mean of the members' scores of each row.
fn means(scores: &[Vec<f32>]) -> Vec<f32> {
    let mean = |members: &Vec<f32>| {
        let sum: f64 = members.iter().map(|score| f64::from(*score)).sum();
        (sum / members.len() as f64) as f32
    };
    scores.iter().map(mean).collect()
}

impl<'a> Learner<'a> {
    pub(super) fn new(config: &'a RewardConfig, plan: &Plan) -> Self {
        Self {
            config,
            micro_prompts: plan.prompts,
            micro_rows: plan.rows,
            recomputes: plan.recomputes,
            room: LOWER_CACHE_BYTES,
            n_passes: 0,
            draws: Draws::default(),
        }
    }

    /// One pass over `train` in an order drawn for `epoch`: for each batch of prompts one forward
    /// pass of each prompt with all its completions, the loss over all pairs of a prompt as one
    /// element, backward, step. `report` hears each step's figures. Batches whose steps are done are
    /// passed over.
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
        self.draws = Draws::new(train, fit.model.n_members(), config.seed);
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

    /// Every member's scores of the completions of several groups, one group after the other,
    /// `[rows, members]`. The output of frozen blocks is kept while there is room, since later passes
    /// need it again.
    fn scores(&mut self, model: &RewardModel, groups: &mut [Group], pass: Pass) -> Result<Tensor> {
        let mut groups: Vec<&mut Group> = groups.iter_mut().collect();
        let sizes: Vec<usize> = groups.iter().map(|group| group.rows.len()).collect();
        let mut parts = Vec::new();
        for bundles in passes(sizes, self.micro_rows) {
            let (batch, lower) = lower_of(&model.trunk, &mut groups, &bundles, &mut self.room)?;
            parts.push(model.member_scores_from(&lower, &batch, pass)?);
            self.n_passes += batch.lengths.len();
        }
        Ok(Tensor::cat(&parts, 0)?)
    }

    /// Adds `weight` times the gradient of each group's loss, all in one forward and backward pass.
    /// The loss of an ensemble is the mean of its members', each of which counts a ranking as often as
    /// it drew its unit.
    pub(super) fn learn_groups(
        &mut self,
        model: &RewardModel,
        groups: &mut [Group],
        weight: f64,
        gradients: &mut Gradients,
    ) -> Result<Learnt> {
        let scores = self.scores(model, groups, Pass::Tracked)?;
        let by_member: Vec<Vec<f32>> = scores.to_vec2()?;
        let rewards = means(&by_member);
        let n = model.n_members();
        let mut by_score = vec![0.0; by_member.len() * n];
        let mut learnt = Learnt::default();
        let mut start = 0;
        for group in groups {
            let range = start..start + group.rows.len();
            start = range.end;
            for member in 0..n {
                let share = self.draws.count(&group.unit, member) / n as f64;
                let own = by_member[range.clone()].iter().map(|scores| scores[member]);
                let own: Vec<f32> = own.collect();
                let found = self
                    .config
                    .loss
                    .evaluate(&own, &group.ranks, &group.ratings);
                if let Some((loss, slopes)) = found {
                    learnt.loss += share * loss;
                    for (row, slope) in range.clone().zip(slopes) {
                        by_score[row * n + member] = (weight * share) as f32 * slope;
                    }
                }
            }
            let (right, pairs) = count_right(&rewards[range], &group.ranks);
            learnt.right += right;
            learnt.pairs += pairs;
        }
        let by_score = Tensor::from_vec(by_score, (rewards.len(), n), &model.trunk.device)?;
        let scalar = with_gradient(&scores, &by_score)?;
        let variables = model.trunk.weights().variables();
        gradients.add(&backward(&scalar)?, variables, 1.0)?;
        learnt.rewards = rewards;
        Ok(learnt)
    }

    /// What `look` finds at each group, given every member's scores of its completions.
    fn look_at<T>(
        &mut self,
        model: &RewardModel,
        groups: &mut [Group],
        progress: &mut dyn Progress,
        mut look: impl FnMut(&Group, &[Vec<f32>]) -> T,
    ) -> Result<Vec<T>> {
        let mut found = Vec::with_capacity(groups.len());
        for micro in groups.chunks_mut(self.micro_prompts) {
            progress.go_on()?;
            let scores: Vec<Vec<f32>> = self.scores(model, micro, Pass::Frozen)?.to_vec2()?;
            if scores.iter().flatten().any(|score| !score.is_finite()) {
                let message = "a score of a measured completion is not finite".to_owned();
                return Err(TrainerError::Diverged(message));
            }
            let mut rest = scores.as_slice();
            for group in micro {
                let (own, others) = rest.split_at(group.rows.len());
                found.push(look(group, own));
                rest = others;
            }
        }
        Ok(found)
    }

    /// The scores of each group's completions: of an ensemble, the members' means.
    pub(super) fn measure(
        &mut self,
        model: &RewardModel,
        groups: &mut [Group],
        progress: &mut dyn Progress,
    ) -> Result<Vec<Vec<f32>>> {
        self.look_at(model, groups, progress, |_, scores| means(scores))
    }

    /// How far the members disagree on the pairs of each unit.
    pub(super) fn doubts(
        &mut self,
        model: &RewardModel,
        groups: &mut [Group],
        progress: &mut dyn Progress,
    ) -> Result<Vec<Vec<PairDoubt>>> {
        let found = self.look_at(model, groups, progress, |group, scores| {
            doubts(scores, &group.ranks)
        })?;
        let mut by_unit: BTreeMap<&str, Vec<PairDoubt>> = BTreeMap::new();
        for (group, found) in groups.iter().zip(found) {
            by_unit.entry(&group.unit).or_default().extend(found);
        }
        Ok(by_unit.into_values().collect())
    }

    /// Each member's mean score of every completion.
    pub(super) fn mean_scores(
        &mut self,
        model: &RewardModel,
        groups: &mut [Group],
        progress: &mut dyn Progress,
    ) -> Result<Vec<f64>> {
        let mut all = vec![Vec::new(); model.n_members()];
        for micro in groups.chunks_mut(self.micro_prompts) {
            progress.go_on()?;
            for scores in self.scores(model, micro, Pass::Frozen)?.to_vec2::<f32>()? {
                for (own, score) in all.iter_mut().zip(scores) {
                    own.push(score);
                }
            }
        }
        Ok(all.iter().map(|own| mean_and_deviation(own).0).collect())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::path::Path;

    use candle_core::Device;

    use super::*;
    use crate::config::{LoraConfig, Preset};
    use crate::memory::Estimate;
    use crate::model::heads::Beginning;
    use crate::model::lora;
    use crate::model::weights::Trainable;

    /// Completions of one prompt, of which two begin alike, and one is the beginning of another.
    fn group(index: u32) -> Group {
        let token = |k: u32, t: u32| 3 + (7 * index + 5 * k + t * t) % 50;
        let prompt: Vec<u32> = (0..3 + index).map(|t| token(9, t)).collect();
        let row = |k: u32| {
            let completion = (0..4 + (index + 2 * k) % 6).map(|t| token(k, t));
            prompt.iter().copied().chain(completion).collect()
        };
        let mut rows: Vec<Vec<u32>> = (0..4).map(row).collect();
        rows[2] = [&rows[1][..], &[8]].concat();
        if index == 3 {
            // Then all begin alike, beyond the prompt.
            let first = prompt.len();
            rows.iter_mut().for_each(|row| row[first] = 11);
        }
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

    /// What five rankings come to, `prompts` in a backward pass and `rows` completions in a pass: with
    /// 1, each completion has a pass of its own, prompt and all.
    fn added(
        model: &mut RewardModel,
        (prompts, rows, recomputes): (usize, usize, bool),
    ) -> (Gradients, f64, Vec<f32>) {
        let config = RewardConfig::preset(Preset::Tiny);
        let plan = Plan {
            prompts,
            rows,
            is_packed: false,
            recomputes,
            estimate: Estimate {
                phase: "a test",
                parts: Vec::new(),
            },
        };
        model.trunk.set_recompute(recomputes);
        let model = &*model;
        let mut learner = Learner::new(&config, &plan);
        let mut groups: Vec<Group> = (0..5).map(group).collect();
        let mut sums = Gradients::default();
        let (mut loss, mut rewards) = (0.0, Vec::new());
        // An adapter's B is zero at first, and then nothing would reach its A.
        lora::while_open(model.trunk.weights().variables(), || {
            for micro in groups.chunks_mut(prompts) {
                let learnt = learner.learn_groups(model, micro, 0.2, &mut sums)?;
                loss += learnt.loss;
                rewards.extend(learnt.rewards);
            }
            Ok(())
        })
        .unwrap();
        (sums, loss, rewards)
    }

    /// Item 50: one prompt at a time, few rows together, and blocks that run again, are one large
    /// batch. With rotating and with learned positions, and with norms after each layer.
    #[test]
    fn completions_that_share_their_prompt_teach_what_each_teaches_alone() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let adapter = LoraConfig {
            rank: 3,
            ..LoraConfig::default()
        };
        for name in ["tiny", "families/gpt2", "families/openai-gpt"] {
            for (trainable, lora) in [
                (Trainable::Everything, None),
                (Trainable::UpperLayers(1), None),
                (Trainable::UpperLayers(2), Some(&adapter)),
            ] {
                let beginning = Beginning {
                    trainable,
                    lora,
                    members: 1,
                    seed: 1,
                };
                let folder = fixtures.join(name);
                let mut model = RewardModel::begin(&folder, &Device::Cpu, beginning).unwrap();
                let whole = added(&mut model, (1, 1, false));
                let variables = model.trunk.weights().variables();
                let names: Vec<String> = variables.keys().cloned().collect();
                // Of a key's bias nothing is learnt but rounding.
                let least = names.iter().map(|name| largest(whole.0.get(name).unwrap()));
                let least = 0.01 * least.fold(0.0, f32::max);
                for way in [(5, 20, false), (2, 9, true), (2, 3, false), (1, 1, true)] {
                    let (parts, loss, rewards) = added(&mut model, way);
                    assert!((loss - whole.1).abs() < 1e-5 * whole.1);
                    for (found, wanted) in rewards.iter().zip(&whole.2) {
                        assert!((found - wanted).abs() < 1e-5, "{found} {wanted}");
                    }
                    for name in &names {
                        let (part, all) = (parts.get(name).unwrap(), whole.0.get(name).unwrap());
                        let relative = largest(&(part - all).unwrap()) / largest(all).max(least);
                        assert!(relative < 1e-5, "{name}, {way:?}: {relative:e}");
                    }
                }
            }
        }
    }

    /// Item 55 of the checklist: which rows pass together differs between a run and one that goes on
    /// in its middle. Sums of more than 512 numbers are taken in parts.
    #[test]
    fn what_is_kept_of_a_long_row_does_not_depend_on_the_rows_beside_it() {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny");
        let folder = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(fixture).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
        let path = folder.path().join("config.json");
        let config = std::fs::read_to_string(&path).unwrap();
        let longer = "\"max_position_embeddings\": 2048";
        std::fs::write(
            &path,
            config.replace("\"max_position_embeddings\": 128", longer),
        )
        .unwrap();
        let part = Trainable::UpperLayers(1);
        let model = RewardModel::from_language_model(folder.path(), &Device::Cpu, part, 1).unwrap();
        let group = |index: u32, length: u32| Group {
            rows: (0..2)
                .map(|k| {
                    (0..length)
                        .map(|t| 3 + (7 * index + 5 * k + t * t) % 290)
                        .collect()
                })
                .collect(),
            ..Group::new(&index.to_string())
        };
        let config = RewardConfig::preset(Preset::Tiny);
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
        let kept = |others: &[u32], room: usize| {
            let mut learner = Learner::new(&config, &plan);
            learner.room = room;
            let mut groups = vec![group(0, 700)];
            groups.extend(others.iter().map(|length| group(1, *length)));
            let scores = learner.scores(&model, &mut groups, Pass::Frozen).unwrap();
            let bits = |tensor: &Tensor| -> Vec<u32> {
                let all = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                all.into_iter().map(f32::to_bits).collect()
            };
            let lowers: Vec<_> = groups[0].lowers.iter().flatten().map(bits).collect();
            (lowers, bits(&scores))
        };
        let alone = kept(&[], LOWER_CACHE_BYTES);
        // Both rows pass together.
        assert_eq!(alone.0.len(), 1);
        assert!(
            kept(&[1500], LOWER_CACHE_BYTES).0 == alone.0,
            "something beside it reached it"
        );
        assert!(
            kept(&[900, 20], LOWER_CACHE_BYTES).0 == alone.0,
            "something beside it reached it"
        );
        // Nor does it matter whether there is room to keep it.
        let without = kept(&[1500], 0);
        assert!(without.0.is_empty());
        assert!(
            without.1 == kept(&[1500], LOWER_CACHE_BYTES).1,
            "keeping changes the scores"
        );
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
        let mut learner = Learner::new(&config, &plan);
        let mut gradients = Gradients::default();
        let learnt = groups
            .chunks_mut(4)
            .map(|groups| learner.learn_groups(&model, groups, 1.0 / 64.0, &mut gradients));
        let n_pairs: usize = learnt.map(|learnt| learnt.unwrap().pairs).sum();
        assert_eq!((learner.n_passes, n_pairs), (576, 2304));
    }
}
