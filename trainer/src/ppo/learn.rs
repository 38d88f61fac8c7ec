//! Phase 6: a round's episodes in minibatches, each a step of both optimisers.

use rand::seq::SliceRandom;

use super::Learner;
use super::episode::{Episode, mean};
use super::report::Figures;
use super::update::TokenSums;
use crate::error::Result;
use crate::optim::Gradients;
use crate::progress::Progress;
use crate::rng::stream;

impl Learner<'_> {
    /// One pass over the episodes in minibatches, each a step of both optimisers.
    pub(super) fn learn(
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
                for micro in chosen.chunks(self.micro_rows) {
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
}
