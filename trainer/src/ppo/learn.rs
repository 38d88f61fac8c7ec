//! Phase 6: a round's episodes in minibatches, each a step of both optimisers.

use rand::seq::SliceRandom;

use super::Learner;
use super::credit::whiten_minibatch;
use super::episode::{Episode, mean};
use super::report::{Figures, PolicyFigures};
use super::sums::{PolicySums, ValueSums};
use super::watch::Stop;
use crate::advantage::AdvantageWhitening;
use crate::error::TrainerError;
use crate::optim::Gradients;
use crate::progress::Progress;
use crate::rng::stream;

impl Learner<'_> {
    /// Learns, and makes sure that what was learnt computes. Where numbers are not finite the policy
    /// is as it was before, and the run ends with it; in the first iteration there is nothing to end
    /// with.
    ///
    /// # Errors
    /// As [`Learner::learn`].
    pub(super) fn learn_or_go_back(
        &mut self,
        episodes: &mut [Episode],
        iteration: usize,
        factor: f64,
        progress: &mut dyn Progress,
    ) -> crate::error::Result<Result<Figures, Stop>> {
        let good = self.keep()?;
        let learnt = self.learn(episodes, iteration, factor, progress);
        let learnt = learnt.and_then(|figures| self.prove(episodes).map(|()| figures));
        match learnt {
            Err(TrainerError::Diverged(message)) if iteration > 0 => {
                self.go_back(&good)?;
                Ok(Err(Stop::diverged(iteration + 1, &message)))
            }
            learnt => learnt.map(Ok),
        }
    }

    /// Passes over the episodes in minibatches, each a step of both optimisers. While the policy
    /// waits only the value model learns.
    pub(super) fn learn(
        &mut self,
        episodes: &mut [Episode],
        iteration: usize,
        factor: f64,
        progress: &mut dyn Progress,
    ) -> crate::error::Result<Figures> {
        let config = self.config;
        let learns_policy = iteration >= config.policy_waits;
        let (mut policy_sums, mut value_sums) = (PolicySums::default(), ValueSums::default());
        let (mut policy_norm, mut value_norm, mut steps) = (0.0, 0.0, 0.0);
        let mut text_losses = Vec::new();
        let mut passes = 0;
        for inner in 0..config.inner_epochs {
            let mut order: Vec<usize> = (0..episodes.len()).collect();
            let index = (iteration * config.inner_epochs + inner) as u64;
            order.shuffle(&mut stream(config.seed, "minibatches", index));
            let mut pass = PolicySums::default();
            for minibatch in order.chunks(episodes.len().div_ceil(config.minibatches)) {
                if config.whiten_advantages == AdvantageWhitening::Minibatch {
                    whiten_minibatch(episodes, minibatch);
                }
                let chosen: Vec<&Episode> =
                    minibatch.iter().map(|index| &episodes[*index]).collect();
                let tokens: usize = chosen.iter().map(|episode| episode.n).sum();
                let weight = 1.0 / tokens as f64;
                let (mut policy, mut value) = (Gradients::default(), Gradients::default());
                for micro in chosen.chunks(self.micro_rows) {
                    progress.go_on()?;
                    if learns_policy {
                        pass.add(&self.policy_gradient(micro, weight, &mut policy)?);
                    }
                    value_sums.add(&self.value_gradient(micro, weight, &mut value)?);
                }
                if learns_policy {
                    // The pretraining gradient is accumulated into the same step (C.4).
                    text_losses.extend(self.text_gradient(chosen.len(), &mut policy, progress)?);
                }
                // A step that is not finite is not taken. The value model's comes first, so that
                // the policy stays as it is then too.
                let variables = self.models.value.trunk.weights().variables();
                value_norm += self.value_optimiser.step(variables, &value, factor)?;
                if learns_policy {
                    let variables = self.models.policy.weights().variables();
                    policy_norm += self.policy_optimiser.step(variables, &policy, factor)?;
                    if let Some(average) = &mut self.average {
                        average.update(variables)?;
                    }
                }
                steps += 1.0;
            }
            policy_sums.add(&pass);
            passes += 1;
            let target = config.approximate_kl_target;
            if target > 0.0 && pass.approximate_kl > target * pass.tokens {
                break;
            }
        }
        Ok(Figures {
            policy: learns_policy.then(|| PolicyFigures::new(&policy_sums, policy_norm / steps)),
            value_loss: value_sums.loss / value_sums.tokens,
            clipped_values_share: value_sums.clipped / value_sums.tokens,
            value_norm: value_norm / steps,
            passes,
            // Without texts there is no such loss, and a 0 would look like one.
            text_loss: (!text_losses.is_empty()).then(|| mean(text_losses.into_iter())),
            text_loss_held_out: None,
            tokens_per_second: None,
        })
    }
}
