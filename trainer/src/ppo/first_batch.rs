//! What must hold of the first batch, before the first step.

use super::Learner;
use super::episode::Episode;
use crate::error::Result;
use crate::model::attention::Pass;
use crate::model::lora;
use crate::optim::Gradients;
use crate::progress::Progress;
use crate::self_check;

impl Learner<'_> {
    /// What must hold before the first step.
    pub(super) fn check_first_batch(
        &self,
        episodes: &[Episode],
        progress: &mut dyn Progress,
    ) -> Result<()> {
        let models = self.models;
        let row = &episodes[0].tokens;
        let pad = self.codec.pad_id;
        self_check::padding_invariance("policy", &models.policy, row, pad, progress)?;
        self_check::padding_invariance("reward model", &models.reward.trunk, row, pad, progress)?;
        self_check::padding_invariance("value model", &models.value.trunk, row, pad, progress)?;
        // Another completion of the same prompt beside it, as `samples_per_prompt` makes them.
        let other = &episodes[episodes.len() - 1];
        let mut beside = episodes[0].prompt().to_vec();
        beside.extend_from_slice(other.completion());
        let room = models.policy.config.max_position_embeddings;
        beside.truncate(room.min(models.value.trunk.config.max_position_embeddings));
        let two = [row.clone(), beside];
        self_check::sharing_invariance("policy", &models.policy, &two, progress)?;
        self_check::sharing_invariance("value model", &models.value.trunk, &two, progress)?;

        let kl = episodes
            .iter()
            .flat_map(|e| e.old.iter().zip(&e.reference).map(|(a, b)| (a - b).abs()));
        let kl = self_check::largest(kl);
        progress.check(
            "KL is 0 before the first step",
            kl < 1e-3,
            format!("largest log-ratio of a token to the reference {kl:.2e}"),
        )?;

        // Top-p or top-k would draw from another distribution than the one whose KL is taken.
        let gaps = episodes
            .iter()
            .flat_map(|e| e.drawn.iter().zip(&e.old).map(|(a, b)| (a - b).abs()));
        let gap = self_check::largest(gaps);
        progress.check(
            "tokens are drawn from the distribution that training sees",
            gap < 1e-2,
            format!("largest difference between a token's two log-probabilities {gap:.2e}"),
        )?;

        let views: Vec<&Episode> = episodes.iter().take(self.micro_rows).collect();
        let figures = self.policy_gradient(&views, 1.0, &mut Gradients::default())?;
        // Advantages are about 0 on average, so this is the policy loss of the batch.
        let advantages = views.iter().flat_map(|episode| &episode.advantages);
        let loss = (figures.loss + advantages.sum::<f64>()).abs() / figures.tokens;
        let approximate_kl = figures.approximate_kl / figures.tokens;
        progress.check(
            "policy loss, approximate KL and clipped share are 0 before the first step",
            loss < 1e-3 && approximate_kl < 1e-6 && figures.clipped == 0.0,
            format!(
                "loss besides the mean advantage {loss:.2e}, approximate KL {approximate_kl:.2e}, \
                 clipped tokens {}",
                figures.clipped
            ),
        )?;
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
        let distance = self_check::largest(distances);
        progress.check(
            "value equals reward at the last token",
            distance < 1e-3,
            format!("largest difference {distance:.2e}"),
        )
    }
}
