//! Phases 4 and 5: from scores and log-probabilities to the advantages and returns of each token.
//!
//! The score comes with the last real token of a completion: its own EOS where it has one, and where
//! the limit or `truncate_at` ended it the last token that was drawn, as in lm-human-preferences.
//! (summarize_from_feedback_details and TRL put it one position later where there is room. Nothing is
//! drawn there, so there is no decision that could be rewarded.) The EOS that only the reward model
//! reads has no reward, no value and no KL.

use super::Learner;
use super::episode::Episode;
use crate::advantage::{AdvantageWhitening, gae, whiten, whiten_around_mean};

impl Learner<'_> {
    /// Shapes rewards, then estimates advantages and whitens them; returns are taken before that.
    pub(super) fn credit(&self, episodes: &mut [Episode]) {
        let config = self.config;
        for episode in &mut *episodes {
            let ratios = episode.log_ratios();
            let penalties = ratios.map(|d| config.kl_estimator.of(d, config.kl_clamp));
            episode.rewards = shape(penalties, self.kl_coefficient, episode.score);
        }
        if config.whiten_rewards {
            over_all_tokens(episodes, |one| &mut one.rewards, whiten_around_mean);
        }
        for episode in &mut *episodes {
            let (rewards, values) = (&episode.rewards, &episode.values);
            let (advantages, returns) = gae(rewards, values, config.gamma, config.lambda);
            episode.advantages.clone_from(&advantages);
            episode.raw_advantages = advantages;
            episode.returns = returns;
        }
        if config.whiten_advantages == AdvantageWhitening::Batch {
            over_all_tokens(episodes, |one| &mut one.advantages, whiten);
        }
    }
}

/// What each token is rewarded with: minus `coefficient` times its penalty, and the score with the
/// last.
fn shape(penalties: impl Iterator<Item = f64>, coefficient: f64, score: f64) -> Vec<f64> {
    let mut rewards: Vec<f64> = penalties.map(|penalty| -coefficient * penalty).collect();
    if let Some(last) = rewards.last_mut() {
        *last += score;
    }
    rewards
}

/// Whitens the estimated advantages over the episodes of a minibatch.
pub(super) fn whiten_minibatch(episodes: &mut [Episode], minibatch: &[usize]) {
    let raw = minibatch
        .iter()
        .map(|index| &episodes[*index].raw_advantages);
    let mut all: Vec<f64> = raw.flatten().copied().collect();
    whiten(&mut all);
    let mut rest = all.as_slice();
    for index in minibatch {
        let episode = &mut episodes[*index];
        let (own, others) = rest.split_at(episode.n);
        episode.advantages = own.to_vec();
        rest = others;
    }
}

/// Changes the numbers of all tokens together, whatever episode they belong to.
fn over_all_tokens(
    episodes: &mut [Episode],
    of: impl Fn(&mut Episode) -> &mut Vec<f64>,
    change: impl Fn(&mut [f64]),
) {
    let mut all = Vec::new();
    for episode in &mut *episodes {
        all.extend_from_slice(of(episode));
    }
    change(&mut all);
    let mut rest = all.as_slice();
    for episode in episodes {
        let own = of(episode);
        let (changed, others) = rest.split_at(own.len());
        own.copy_from_slice(changed);
        rest = others;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Item 25 of the checklist.
    #[test]
    fn the_rewards_of_an_episode_add_up_to_its_score_less_its_kl() {
        let penalties = [0.5, -0.25, 1.0];
        let rewards = shape(penalties.into_iter(), 0.1, 3.0);
        assert_eq!(rewards[..2], [-0.05, 0.025]);
        assert!((rewards[2] - 2.9).abs() < 1e-12);
        assert!((rewards.iter().sum::<f64>() - (3.0 - 0.1 * 1.25)).abs() < 1e-12);
    }

    fn episode(advantages: &[f64]) -> Episode {
        let completion = vec![7; advantages.len()];
        let mut episode = Episode::new(&[3], &completion, false, 1);
        episode.raw_advantages = advantages.to_vec();
        episode.rewards = advantages.to_vec();
        episode
    }

    /// Item 34: of a minibatch, whatever the others are.
    #[test]
    fn advantages_of_a_minibatch_are_whitened_over_its_tokens() {
        let mut episodes = vec![
            episode(&[1.0, 2.0, 3.0, 4.0]),
            episode(&[1000.0]),
            episode(&[5.0, 6.0, 7.0, 8.0, 9.0]),
        ];
        whiten_minibatch(&mut episodes, &[2, 0]);
        assert!((episodes[0].advantages[0] + 1.549_193).abs() < 1e-6);
        assert!((episodes[2].advantages[4] - 1.549_193).abs() < 1e-6);
        assert_eq!(episodes[2].advantages.len(), 5);
        assert!(episodes[1].advantages.is_empty());
        assert_eq!(episodes[0].raw_advantages[3], 4.0);
    }

    /// Item 31: over the tokens of a batch, each episode keeping its own.
    #[test]
    fn rewards_are_whitened_over_the_tokens_of_a_batch() {
        let mut episodes = vec![
            episode(&[1.0, 2.0, 3.0, 4.0]),
            episode(&[5.0, 6.0, 7.0, 8.0, 9.0]),
        ];
        over_all_tokens(&mut episodes, |one| &mut one.rewards, whiten_around_mean);
        assert!((episodes[0].rewards[0] - 3.450_807).abs() < 1e-6);
        assert!((episodes[1].rewards[0] - 5.0).abs() < 1e-9);
        assert!((episodes[1].rewards[4] - 6.549_193).abs() < 1e-6);
    }
}
