//! Phase 6: a round's episodes in minibatches, each a step of both optimisers. A stop after any of
//! them loses nothing: how far the round is stands in [`Learning`].

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::Learner;
use super::credit::whiten_minibatch;
use super::episode::{Episode, by_prompt, mean};
use super::order::PromptOrder;
use super::report::{Figures, PolicyFigures};
use super::state::Good;
use super::sums::{PolicySums, ValueSums};
use super::watch::Stop;
use crate::advantage::AdvantageWhitening;
use crate::config::PpoConfig;
use crate::error::{Result, TrainerError};
use crate::optim::Gradients;
use crate::progress::Progress;
use crate::rng::stream;

/// A round whose episodes are drawn, and how far it has learnt from them.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Learning {
    pub(super) episodes: Vec<Episode>,
    /// Their prompts.
    pub(super) chosen: Vec<usize>,
    /// The place among the prompts after them.
    pub(super) order: PromptOrder,
    /// Of the policy that drew them, where it was the turn.
    pub(super) text_loss_held_out: Option<f64>,
    /// Passes that are done, and minibatches of the one that is not.
    passes: usize,
    minibatch: usize,
    /// Of the pass that is not done, and of those that are.
    pass: PolicySums,
    policy: PolicySums,
    value: ValueSums,
    /// Sums over the steps so far.
    steps: f64,
    policy_norm: f64,
    value_norm: f64,
    text_losses: Vec<f64>,
}

/// The shares of both learning rates that a round takes its steps with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rates {
    pub(super) policy: f64,
    pub(super) value: f64,
}

impl Rates {
    /// Those of an iteration. The policy's schedule begins when the policy does.
    pub(super) fn new(config: &PpoConfig, iteration: usize) -> Self {
        let own = config.value_schedule.as_ref();
        let waits = config.policy_waits;
        let (n, left) = (config.iterations, config.iterations.saturating_sub(waits));
        let of_value = own.unwrap_or(&config.schedule).factor(iteration, n);
        let of_policy = config
            .schedule
            .factor(iteration.saturating_sub(waits), left);
        Self {
            policy: of_policy,
            value: of_value,
        }
    }
}

impl Learning {
    pub(super) fn new(episodes: Vec<Episode>) -> Self {
        Self {
            episodes,
            ..Self::default()
        }
    }

    /// Steps that are taken.
    pub(super) fn n_steps(&self) -> usize {
        self.steps as usize
    }

    /// Whether a round of these settings over `n` prompts can be here. What a savepoint holds is
    /// not taken on trust.
    pub(super) fn is_of(&self, config: &PpoConfig, n: usize) -> bool {
        let is_whole = |episode: &Episode| {
            let lists = [
                &episode.old,
                &episode.values,
                &episode.raw_advantages,
                &episode.advantages,
                &episode.returns,
                &episode.rewards,
                &episode.reference,
                &episode.drawn,
                &episode.entropy,
            ];
            let end = episode.start.checked_add(episode.n);
            episode.start > 0
                && episode.n > 0
                && end.is_some_and(|end| end <= episode.tokens.len())
                && lists.iter().all(|list| list.len() == episode.n)
        };
        self.episodes.len() == config.batch_episodes
            && self.chosen.len() == self.episodes.len()
            && self.chosen.iter().all(|prompt| *prompt < n)
            && self.order.is_within(n)
            && self.passes < config.inner_epochs
            && self.minibatch < config.minibatches
            && self.episodes.iter().all(is_whole)
    }

    fn figures(&self) -> Figures {
        let learns_policy = self.policy.tokens > 0.0;
        let norm = self.policy_norm / self.steps;
        Figures {
            policy: learns_policy.then(|| PolicyFigures::new(&self.policy, norm)),
            value_loss: self.value.loss / self.value.tokens,
            clipped_values_share: self.value.clipped / self.value.tokens,
            value_norm: self.value_norm / self.steps,
            passes: self.passes,
            // Without texts there is no such loss, and a 0 would look like one.
            text_loss: (!self.text_losses.is_empty())
                .then(|| mean(self.text_losses.iter().copied())),
            text_loss_held_out: self.text_loss_held_out,
            tokens_per_second: None,
        }
    }
}

/// `n` parts of a list, whose lengths differ by at most one.
fn even_parts<T>(list: &[T], n: usize) -> Vec<&[T]> {
    let mut rest = list;
    (0..n)
        .map(|index| {
            let (part, others) = rest.split_at(rest.len().div_ceil(n - index));
            rest = others;
            part
        })
        .collect()
}

impl Learner<'_> {
    /// Learns, and makes sure that what was learnt computes. Where numbers are not finite the policy
    /// is as it was before, and the run ends with it; in the first iteration there is nothing to end
    /// with.
    ///
    /// # Errors
    /// As [`Learner::learn`].
    pub(super) fn learn_or_go_back(
        &mut self,
        learning: &mut Learning,
        good: &Good,
        iteration: usize,
        rates: Rates,
        progress: &mut dyn Progress,
    ) -> Result<std::result::Result<Figures, Stop>> {
        let learnt = self.learn(learning, iteration, rates, progress);
        let learnt = learnt.and_then(|figures| self.prove(&learning.episodes).map(|()| figures));
        match learnt {
            Err(TrainerError::Diverged(message)) if iteration > 0 => {
                self.go_back(good)?;
                Ok(Err(Stop::diverged(iteration + 1, &message)))
            }
            learnt => learnt.map(Ok),
        }
    }

    /// Passes over the episodes in minibatches, each a step of both optimisers, from where
    /// `learning` is. While the policy waits only the value model learns.
    ///
    /// # Errors
    /// `Cancelled`, between two steps; `Diverged`, when a step would not be finite.
    pub(super) fn learn(
        &mut self,
        learning: &mut Learning,
        iteration: usize,
        rates: Rates,
        progress: &mut dyn Progress,
    ) -> Result<Figures> {
        let config = self.config;
        while learning.passes < config.inner_epochs {
            let mut order: Vec<usize> = (0..learning.episodes.len()).collect();
            let index = (iteration * config.inner_epochs + learning.passes) as u64;
            order.shuffle(&mut stream(config.seed, "minibatches", index));
            let parts = even_parts(&order, config.minibatches.min(order.len()));
            for part in &parts[learning.minibatch..] {
                let next_text = self.next_text;
                let learns_policy = iteration >= config.policy_waits;
                let taken = self.learn_minibatch(learning, part, learns_policy, rates, progress);
                if taken.is_err() {
                    // Its texts come again with it.
                    self.next_text = next_text;
                }
                taken?;
                learning.minibatch += 1;
            }
            let pass = std::mem::take(&mut learning.pass);
            learning.policy.add(&pass);
            learning.passes += 1;
            learning.minibatch = 0;
            let target = config.approximate_kl_target;
            if target > 0.0 && pass.approximate_kl > target * pass.tokens {
                break;
            }
        }
        Ok(learning.figures())
    }

    /// A step of both optimisers, or none.
    fn learn_minibatch(
        &mut self,
        learning: &mut Learning,
        minibatch: &[usize],
        learns_policy: bool,
        rates: Rates,
        progress: &mut dyn Progress,
    ) -> Result<()> {
        if self.config.whiten_advantages == AdvantageWhitening::Minibatch {
            whiten_minibatch(&mut learning.episodes, minibatch);
        }
        let chosen = minibatch.iter().map(|index| &learning.episodes[*index]);
        let chosen: Vec<&Episode> = chosen.collect();
        // Those of a prompt pass together.
        let order = by_prompt(&chosen).concat();
        let chosen: Vec<&Episode> = order.into_iter().map(|index| chosen[index]).collect();
        let tokens: usize = chosen.iter().map(|episode| episode.n).sum();
        let weight = 1.0 / tokens as f64;
        let (mut policy, mut value) = (Gradients::default(), Gradients::default());
        let (mut policy_sums, mut value_sums) = (PolicySums::default(), ValueSums::default());
        for micro in chosen.chunks(self.micro_rows) {
            progress.go_on()?;
            if learns_policy {
                policy_sums.add(&self.policy_gradient(micro, weight, &mut policy)?);
            }
            value_sums.add(&self.value_gradient(micro, weight, &mut value)?);
        }
        let mut text_loss = None;
        if learns_policy {
            // The pretraining gradient is accumulated into the same step (C.4).
            text_loss = self.text_gradient(chosen.len(), &mut policy, progress)?;
        }
        // A step that is not finite is not taken. The value model's comes first, so that the policy
        // stays as it is then too.
        let variables = self.models.value.trunk.weights().variables();
        learning.value_norm += self.value_optimiser.step(variables, &value, rates.value)?;
        if learns_policy {
            let variables = self.models.policy.weights().variables();
            learning.policy_norm += self
                .policy_optimiser
                .step(variables, &policy, rates.policy)?;
            if let Some(average) = &mut self.average {
                average.update(variables)?;
            }
        }
        learning.pass.add(&policy_sums);
        learning.value.add(&value_sums);
        learning.text_losses.extend(text_loss);
        learning.steps += 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Preset;
    use crate::schedule::Schedule;

    #[test]
    fn minibatches_are_as_many_as_were_asked_for_and_of_nearly_one_size() {
        let sizes = |n: usize, parts: usize| -> Vec<usize> {
            let list: Vec<usize> = (0..n).collect();
            let parts = even_parts(&list, parts);
            assert_eq!(parts.concat(), list);
            parts.iter().map(|part| part.len()).collect()
        };
        assert_eq!(sizes(512, 8), [64; 8]);
        assert_eq!(sizes(9, 4), [3, 2, 2, 2]);
        assert_eq!(sizes(10, 4), [3, 3, 2, 2]);
        assert_eq!(sizes(4, 4), [1; 4]);
    }

    /// Item 39: by iterations, the policy's from where it begins; the value model's is fixed in the
    /// paper.
    #[test]
    fn the_policys_rate_rises_when_it_begins_and_the_value_models_is_its_own() {
        let mut config = PpoConfig::preset(Preset::Instructgpt);
        let rates = |config: &PpoConfig, iteration| {
            let rates = Rates::new(config, iteration);
            (rates.policy, rates.value)
        };
        assert_eq!(rates(&config, 0), (0.1, 1.0));
        assert_eq!(rates(&config, 10), (1.0, 1.0));
        config.policy_waits = 10;
        assert_eq!(rates(&config, 10), (0.1, 1.0));
        assert_eq!(rates(&config, 20), (1.0, 1.0));
        config.value_schedule = None;
        assert_eq!(rates(&config, 10), (0.1, 1.0));
        config.schedule = Schedule::Linear { floor: 0.0 };
        config.iterations = 30;
        let (policy, value) = rates(&config, 20);
        assert!((policy - 0.5).abs() < 1e-12 && (value - 1.0 / 3.0).abs() < 1e-12);
    }
}
