//! Phase 6: the clipped losses of PPO, and the gradients of policy, value model and plain texts.

use candle_core::Tensor;

use super::Learner;
use super::episode::{Episode, token_positions};
use crate::error::{Result, TrainerError};
use crate::kl::estimators;
use crate::loss::with_gradient;
use crate::model::attention::Pass;
use crate::model::batch::TokenBatch;
use crate::model::transformer::Transformer;
use crate::model::{recompute, token_log_probs};
use crate::optim::Gradients;
use crate::progress::Progress;
use crate::sft::{LearningRow, add_gradient};

/// The clipped policy loss of a token and its gradient by the new log-probability:
/// max(-A * ratio, -A * clip(ratio, 1 - c, 1 + c)) (Schulman et al., arXiv 1707.06347).
pub(super) fn policy_loss(new: f64, old: f64, advantage: f64, clip: f64) -> (f64, f64) {
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
pub(super) fn value_loss(new: f64, old: f64, target: f64, clip: f64) -> (f64, f64) {
    let limited = new.max(old - clip).min(old + clip);
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

/// Numbers that are not finite would hide in a clipped loss.
fn check_finite(what: &str, values: &[f32]) -> Result<()> {
    match values.iter().all(|value| value.is_finite()) {
        true => Ok(()),
        false => Err(TrainerError::Diverged(format!("{what} are not finite"))),
    }
}

/// Sums over real tokens.
pub(super) struct TokenSums {
    pub(super) tokens: f64,
    pub(super) policy_loss: f64,
    pub(super) value_loss: f64,
    pub(super) ratio_sum: f64,
    pub(super) lowest_ratio: f64,
    pub(super) highest_ratio: f64,
    pub(super) approximate_kl: f64,
    pub(super) clipped: f64,
    pub(super) clipped_values: f64,
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
    pub(super) fn add(&mut self, other: &Self) {
        self.tokens += other.tokens;
        self.policy_loss += other.policy_loss;
        self.ratio_sum += other.ratio_sum;
        self.lowest_ratio = self.lowest_ratio.min(other.lowest_ratio);
        self.highest_ratio = self.highest_ratio.max(other.highest_ratio);
        self.approximate_kl += other.approximate_kl;
        self.clipped += other.clipped;
    }
}

impl Learner<'_> {
    /// Adds `weight` times the gradient of the episodes' summed policy loss.
    pub(super) fn policy_gradient(
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
        check_finite("the policy's log-probabilities", &new)?;
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
        gradients.add(
            &recompute::backward(&scalar)?,
            policy.weights().variables(),
            1.0,
        )?;
        Ok(sums)
    }

    /// Adds `weight` times the gradient of the episodes' summed value loss; returns that sum and
    /// the number of values beyond the clip.
    pub(super) fn value_gradient(
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
        let values_now = values.to_vec1::<f32>()?;
        check_finite("the values", &values_now)?;
        for (new, (old, target)) in values_now.iter().zip(old) {
            let (loss, slope) = value_loss(f64::from(*new), *old, *target, self.config.value_clip);
            sum += loss;
            let moved = (f64::from(*new) - old).abs();
            clipped += f64::from(u8::from(moved > self.config.value_clip));
            by_value.push((weight * slope) as f32);
        }
        let by_value = Tensor::from_vec(by_value, n, &model.trunk.device)?;
        let scalar = with_gradient(&values, &by_value)?;
        gradients.add(
            &recompute::backward(&scalar)?,
            model.trunk.weights().variables(),
            1.0,
        )?;
        Ok((sum, clipped))
    }

    /// Adds the pretraining gradient that goes with `episodes` episodes; returns the mean negative
    /// log-likelihood of its tokens, or none where there are no texts.
    pub(super) fn text_gradient(
        &mut self,
        episodes: usize,
        gradients: &mut Gradients,
        progress: &dyn Progress,
    ) -> Result<Option<f64>> {
        let wanted = (episodes as f64 * self.config.ptx_examples_per_episode).round() as usize;
        if self.texts.learnt.is_empty() || wanted == 0 {
            return Ok(None);
        }
        let rows: Vec<LearningRow> = (0..wanted)
            .map(|index| &self.texts.learnt[(self.next_text + index) % self.texts.learnt.len()])
            .map(|row| LearningRow {
                tokens: row.tokens.clone(),
                start: row.start,
            })
            .collect();
        self.next_text += wanted;
        let tokens: usize = rows.iter().map(|row| row.tokens.len() - row.start).sum();
        let weight = self.config.ptx_coefficient / tokens as f64;
        let mut loss = 0.0;
        for micro in rows.chunks(self.micro_rows) {
            progress.go_on()?;
            loss += add_gradient(
                &self.models.policy,
                micro,
                self.codec.pad_id,
                weight,
                gradients,
            )?;
        }
        Ok(Some(loss / self.config.ptx_coefficient))
    }

    /// Output of a model's trunk over episodes, with history, from the kept output of frozen
    /// blocks where there is one.
    pub(super) fn hidden(
        &self,
        trunk: &Transformer,
        lowers: &[Option<&Tensor>],
        batch: &TokenBatch,
    ) -> Result<Tensor> {
        match lowers.iter().copied().collect::<Option<Vec<&Tensor>>>() {
            Some(lowers) => trunk.upper(&batch.stack(&lowers)?, Pass::Tracked),
            None => trunk.hidden(batch, Pass::Tracked),
        }
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
