//! Phase 6: the gradients of policy, value model and plain texts.

use candle_core::Tensor;

use super::Learner;
use super::episode::{Episode, token_positions};
use super::sums::{PolicySums, ValueSums};
use crate::error::{Result, TrainerError};
use crate::loss::with_gradient;
use crate::model::attention::Pass;
use crate::model::batch::TokenBatch;
use crate::model::token_log_probs;
use crate::model::transformer::Transformer;
use crate::nn::backward::backward;
use crate::optim::Gradients;
use crate::progress::Progress;
use crate::sft::{LearningRow, add_gradient};

/// Numbers that are not finite would hide in a clipped loss.
fn check_finite(what: &str, values: &[f32]) -> Result<()> {
    match values.iter().all(|value| value.is_finite()) {
        true => Ok(()),
        false => Err(TrainerError::Diverged(format!("{what} are not finite"))),
    }
}

/// A loss that is not finite would hide too: beyond the clip its gradient is 0.
fn check_loss(whose: &str, loss: f64) -> Result<()> {
    match loss.is_finite() {
        true => Ok(()),
        false => Err(TrainerError::Diverged(format!(
            "the {whose} loss is not finite"
        ))),
    }
}

impl Learner<'_> {
    /// Adds `weight` times the gradient of the episodes' summed policy loss.
    pub(super) fn policy_gradient(
        &self,
        episodes: &[&Episode],
        weight: f64,
        gradients: &mut Gradients,
    ) -> Result<PolicySums> {
        let policy = &self.models.policy;
        let (hidden, targets) = self.hidden_before_tokens(episodes)?;
        let mut old = episodes
            .iter()
            .flat_map(|episode| episode.old.iter().zip(&episode.advantages));
        let mut sums = PolicySums::default();
        let slopes = |_, new: &[f32]| {
            check_finite("the policy's log-probabilities", new)?;
            let slopes = new.iter().zip(&mut old).map(|(new, (old, advantage))| {
                let slope = sums.take(f64::from(*new), *old, *advantage, self.config);
                (weight * slope) as f32
            });
            Ok(slopes.collect())
        };
        let temperature = self.config.temperature;
        let (_, scalar) =
            token_log_probs::learn(&hidden, policy.head(), &targets, temperature, slopes)?;
        check_loss("policy", sums.loss)?;
        gradients.add(&backward(&scalar)?, policy.weights().variables(), 1.0)?;
        Ok(sums)
    }

    /// Adds `weight` times the gradient of the episodes' summed value loss.
    pub(super) fn value_gradient(
        &self,
        episodes: &[&Episode],
        weight: f64,
        gradients: &mut Gradients,
    ) -> Result<ValueSums> {
        let model = &self.models.value;
        let (values, values_now) = self.values_now(episodes)?;
        let mut sums = ValueSums::default();
        let mut by_value = Vec::with_capacity(values_now.len());
        let old = episodes
            .iter()
            .flat_map(|episode| episode.values.iter().zip(&episode.returns));
        for (new, (old, target)) in values_now.iter().zip(old) {
            let slope = sums.take(f64::from(*new), *old, *target, self.config.value_clip);
            by_value.push((weight * slope) as f32);
        }
        check_loss("value", sums.loss)?;
        let by_value = Tensor::from_vec(by_value, values_now.len(), &model.trunk.device)?;
        let scalar = with_gradient(&values, &by_value)?;
        gradients.add(&backward(&scalar)?, model.trunk.weights().variables(), 1.0)?;
        Ok(sums)
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

    /// Whether what was learnt still computes: every weight, and a pass of policy and value model over
    /// a few episodes.
    ///
    /// # Errors
    /// `Diverged`, when it gives numbers that are not finite.
    pub(super) fn prove(&self, episodes: &[Episode]) -> Result<()> {
        let models = self.models;
        for (whose, weights) in [
            ("policy", models.policy.weights()),
            ("value model", models.value.trunk.weights()),
        ] {
            if let Some(name) = weights.not_finite()? {
                let message = format!("weights of the {whose} are not finite, {name} among them");
                return Err(TrainerError::Diverged(message));
            }
        }
        let views: Vec<&Episode> = episodes.iter().take(self.micro_rows).collect();
        self.prove_policy(&views)?;
        self.values_now(&views)?;
        Ok(())
    }

    /// A pass of its own, that nothing of it is kept beside the value model's.
    fn prove_policy(&self, episodes: &[&Episode]) -> Result<()> {
        let (hidden, targets) = self.hidden_before_tokens(episodes)?;
        let (head, temperature) = (self.models.policy.head(), self.config.temperature);
        let now = token_log_probs::evaluate(&hidden, head, &targets, temperature)?.log_prob;
        check_finite("the policy's log-probabilities", &now.to_vec1::<f32>()?)
    }

    /// The policy's output before each token of the episodes, with history, `[tokens, hidden]`, and
    /// those tokens.
    fn hidden_before_tokens(&self, episodes: &[&Episode]) -> Result<(Tensor, Tensor)> {
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
        let positions = Tensor::from_vec(positions, n, &policy.device)?;
        Ok((hidden.index_select(&positions, 0)?, targets))
    }

    /// The value before each token of the episodes, with history and as numbers.
    fn values_now(&self, episodes: &[&Episode]) -> Result<(Tensor, Vec<f32>)> {
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
        let values_now = values.to_vec1::<f32>()?;
        check_finite("the values", &values_now)?;
        Ok((values, values_now))
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
            Some(lowers) => trunk.upper_of(&batch.stack(&lowers)?, batch, Pass::Tracked),
            None => trunk.hidden(batch, Pass::Tracked),
        }
    }
}
