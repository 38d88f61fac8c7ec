//! Phases 4 and 5: from scores and log-probabilities to the advantages and returns of each token.

use super::Learner;
use super::episode::Episode;
use crate::advantage::{gae, whiten};

impl Learner<'_> {
    /// Shapes rewards, then estimates advantages and whitens them over the batch; returns are
    /// taken before whitening.
    pub(super) fn credit(&self, episodes: &mut [Episode]) {
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
}
