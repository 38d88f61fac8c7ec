//! The figures of an iteration. Means are over real tokens or over episodes, never over padding.

use std::collections::BTreeMap;

use super::episode::{Episode, mean};
use super::sums::PolicySums;
use crate::kl::estimators;
use crate::progress::{Event, Progress};

/// Figures of an iteration's learning, over real tokens only.
pub(super) struct Figures {
    /// None while the policy waits.
    pub(super) policy: Option<PolicyFigures>,
    pub(super) value_loss: f64,
    pub(super) clipped_values_share: f64,
    pub(super) value_norm: f64,
    /// Passes over the episodes.
    pub(super) passes: usize,
    /// Of the pretraining term, where it is on.
    pub(super) text_loss: Option<f64>,
    /// On the texts kept out of it, by the policy that drew the episodes, where it is the turn.
    pub(super) text_loss_held_out: Option<f64>,
    /// Tokens of prompts and completions by the time of the whole iteration.
    pub(super) tokens_per_second: Option<f64>,
}

/// Those of the policy's loss.
pub(super) struct PolicyFigures {
    pub(super) loss: f64,
    pub(super) clipped_share: f64,
    pub(super) approximate_kl: f64,
    pub(super) ratio: f64,
    pub(super) lowest_ratio: f64,
    pub(super) highest_ratio: f64,
    /// Of the gradient before clipping, mean over steps.
    pub(super) norm: f64,
}

impl PolicyFigures {
    pub(super) fn new(sums: &PolicySums, norm: f64) -> Self {
        Self {
            loss: sums.loss / sums.tokens,
            clipped_share: sums.clipped / sums.tokens,
            approximate_kl: sums.approximate_kl / sums.tokens,
            ratio: sums.ratio / sums.tokens,
            lowest_ratio: sums.lowest_ratio,
            highest_ratio: sums.highest_ratio,
            norm,
        }
    }

    fn named(&self) -> [(&'static str, f64); 7] {
        [
            ("policy/loss", self.loss),
            ("policy/ratio", self.ratio),
            ("policy/lowest_ratio", self.lowest_ratio),
            ("policy/highest_ratio", self.highest_ratio),
            ("policy/clipped_share", self.clipped_share),
            ("policy/approximate_kl", self.approximate_kl),
            ("policy/grad_norm", self.norm),
        ]
    }
}

/// Mean and (biased) standard deviation.
pub(super) fn spread(values: &[f64]) -> (f64, f64) {
    let average = mean(values.iter().copied());
    let variance = mean(values.iter().map(|value| (value - average).powi(2)));
    (average, variance.sqrt())
}

/// The second opinion of each episode, where there is one.
pub(super) fn gold(episodes: &[Episode]) -> Option<Vec<f64>> {
    episodes.iter().map(|episode| episode.gold).collect()
}

/// What can be said of a batch before anything is learnt from it.
pub(super) fn batch_figures(
    episodes: &[Episode],
    kl_coefficient: f64,
) -> BTreeMap<&'static str, f64> {
    let each = |read: &dyn Fn(&Episode) -> f64| mean(episodes.iter().map(read));
    let scores: Vec<f64> = episodes.iter().map(|episode| episode.score).collect();
    let kl = each(&Episode::kl);
    let k3 = episodes.iter().flat_map(Episode::log_ratios);
    let entropy = episodes.iter().flat_map(|e| e.entropy.iter().copied());
    let gaps = episodes
        .iter()
        .flat_map(|e| e.drawn.iter().zip(&e.old).map(|(a, b)| (a - b).abs()));
    let mut figures = BTreeMap::from([
        ("objective/score", spread(&scores).0),
        ("objective/score_std", spread(&scores).1),
        ("objective/kl", kl),
        ("objective/root_kl", kl.max(0.0).sqrt()),
        (
            "objective/kl_k3_per_token",
            mean(k3.map(|d| estimators(d).2)),
        ),
        ("objective/kl_coefficient", kl_coefficient),
        (
            "objective/score_minus_kl",
            each(&|episode| episode.score - kl_coefficient * episode.kl()),
        ),
        ("objective/entropy", mean(entropy)),
        (
            "objective/response_length",
            each(&|episode| episode.n as f64),
        ),
        (
            "objective/longest_response",
            episodes.iter().map(|e| e.n as f64).fold(0.0, f64::max),
        ),
        (
            "objective/eos_rate",
            each(&|episode| f64::from(u8::from(episode.is_finished))),
        ),
        ("policy/drawing_gap", gaps.fold(0.0, f64::max)),
    ]);
    if let Some(gold) = gold(episodes) {
        figures.insert("objective/gold", spread(&gold).0);
        figures.insert("objective/gold_std", spread(&gold).1);
    }
    figures
}

/// 1 - var(R - V) / var(R) over tokens, as lm-human-preferences has it: 1 is a value model that
/// knows the returns, 0 one that knows their mean.
fn explained_variance(episodes: &[Episode]) -> f64 {
    let returns: Vec<f64> = episodes.iter().flat_map(|e| e.returns.clone()).collect();
    let values = episodes.iter().flat_map(|e| &e.values);
    let errors: Vec<f64> = returns.iter().zip(values).map(|(r, v)| r - v).collect();
    1.0 - spread(&errors).1.powi(2) / spread(&returns).1.powi(2).max(1e-12)
}

/// Tells figures of a step as one event.
pub(super) fn tell(step: u64, figures: BTreeMap<&str, f64>, progress: &mut dyn Progress) {
    let named = |(name, value): (&str, f64)| (name.to_owned(), value);
    let values = figures.into_iter().map(named).collect();
    progress.record(Event::Metrics { step, values });
}

impl Figures {
    /// All of an iteration, with those of its batch.
    pub(super) fn report(
        &self,
        step: u64,
        episodes: &[Episode],
        kl_coefficient: f64,
        progress: &mut dyn Progress,
    ) {
        let mut figures = batch_figures(episodes, kl_coefficient);
        figures.extend([
            ("value/loss", self.value_loss),
            ("value/clipped_share", self.clipped_values_share),
            ("value/explained_variance", explained_variance(episodes)),
            ("value/grad_norm", self.value_norm),
            ("value/passes", self.passes as f64),
        ]);
        figures.extend(self.policy.iter().flat_map(PolicyFigures::named));
        // What was not asked for is left out: a 0 would look like a figure.
        let optional = [
            ("objective/text_loss_held_out", self.text_loss_held_out),
            ("ptx/loss", self.text_loss),
            ("time/tokens_per_second", self.tokens_per_second),
        ];
        let optional = optional.into_iter();
        figures.extend(optional.filter_map(|(name, value)| Some((name, value?))));
        tell(step, figures, progress);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn episode(old: &[f64], reference: &[f64], score: f64) -> Episode {
        let mut episode = Episode::new(&[3, 4], &vec![7; old.len()], false, 1);
        episode.old = old.to_vec();
        episode.drawn = old.iter().map(|old| old + 0.001).collect();
        episode.reference = reference.to_vec();
        episode.score = score;
        episode
    }

    /// Items 51 and 52 of the checklist: three tokens and one, computed by hand. A mean over a
    /// padded batch, or of the episodes' means, would be others.
    #[test]
    fn figures_of_a_batch_are_means_over_its_tokens_or_its_episodes() {
        let mut long = episode(&[-1.0, -2.0, -0.5], &[-1.5, -2.0, -1.0], 2.0);
        long.entropy = vec![1.0, 2.0, 3.0];
        long.returns = vec![1.0, 2.0, 3.0];
        long.values = vec![1.0, 1.0, 1.0];
        let mut short = episode(&[-3.0], &[-2.0], 4.0);
        short.entropy = vec![6.0];
        short.returns = vec![6.0];
        short.values = vec![1.0];
        short.is_finished = true;
        let episodes = [long, short];
        let figures = batch_figures(&episodes, 0.5);
        let near = |name: &str, wanted: f64| {
            let found = figures[name];
            assert!(
                (found - wanted).abs() < 1e-9,
                "{name}: {found}, not {wanted}"
            );
        };
        // KL of the episodes: 1 and -1.
        near("objective/kl", 0.0);
        near("objective/root_kl", 0.0);
        near("objective/entropy", 3.0);
        near("objective/score", 3.0);
        near("objective/score_std", 1.0);
        near("objective/score_minus_kl", 3.0);
        near("objective/response_length", 2.0);
        near("objective/longest_response", 3.0);
        near("objective/eos_rate", 0.5);
        near("policy/drawing_gap", 0.001);
        // k3 of 0.5, 0, 0.5 and -1.
        let k3 = (2.0 * 0.106_530_659_712_6 + 0.718_281_828_459_0) / 4.0;
        near("objective/kl_k3_per_token", k3);
        // Returns 1, 2, 3, 6 less values of 1: the same variance, so nothing is explained.
        assert!(explained_variance(&episodes).abs() < 1e-12);
        assert!(!figures.contains_key("objective/gold"));
    }

    #[test]
    fn explained_variance_is_over_tokens() {
        let mut one = episode(&[0.0, 0.0], &[0.0, 0.0], 0.0);
        (one.returns, one.values) = (vec![0.0, 4.0], vec![1.0, 3.0]);
        let mut other = episode(&[0.0], &[0.0], 0.0);
        (other.returns, other.values) = (vec![2.0], vec![2.0]);
        // Variance 8/3 of the returns, 2/3 of the errors -1, 1, 0.
        assert!((explained_variance(&[one, other]) - 0.75).abs() < 1e-12);
    }

    #[test]
    fn the_second_opinion_is_told_where_every_episode_has_one() {
        let mut episodes = [
            episode(&[-1.0], &[-1.0], 0.0),
            episode(&[-1.0], &[-1.0], 0.0),
        ];
        episodes[0].gold = Some(1.0);
        assert!(!batch_figures(&episodes, 0.0).contains_key("objective/gold"));
        episodes[1].gold = Some(5.0);
        let figures = batch_figures(&episodes, 0.0);
        assert_eq!(
            (figures["objective/gold"], figures["objective/gold_std"]),
            (3.0, 2.0)
        );
    }
}
