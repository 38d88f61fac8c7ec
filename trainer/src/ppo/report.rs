//! The figures of an iteration. Means are over real tokens or over episodes, never over padding.

use super::episode::{Episode, mean};
use crate::kl::estimators;
use crate::progress::Progress;

/// Figures of an iteration's learning, over real tokens only.
#[derive(Default)]
pub(super) struct Figures {
    pub(super) kl: f64,
    pub(super) policy_loss: f64,
    pub(super) value_loss: f64,
    pub(super) clipped_share: f64,
    pub(super) approximate_kl: f64,
    pub(super) ratio: f64,
    pub(super) lowest_ratio: f64,
    pub(super) highest_ratio: f64,
    pub(super) clipped_values_share: f64,
    pub(super) policy_norm: f64,
    pub(super) value_norm: f64,
    /// Of the pretraining term, where it is on.
    pub(super) text_loss: Option<f64>,
}

impl Figures {
    pub(super) fn report(
        &self,
        step: u64,
        episodes: &[Episode],
        kl_coefficient: f64,
        progress: &mut dyn Progress,
    ) {
        let each = |read: &dyn Fn(&Episode) -> f64| mean(episodes.iter().map(read));
        let tokens = |read: &dyn Fn(&Episode) -> Vec<f64>| mean(episodes.iter().flat_map(read));
        let k3 = tokens(&|episode| {
            let pairs = episode.old.iter().zip(&episode.reference);
            pairs
                .map(|(old, reference)| estimators(old - reference).2)
                .collect()
        });
        let returns: Vec<f32> = episodes
            .iter()
            .flat_map(|e| e.returns.iter().map(|x| *x as f32))
            .collect();
        let errors: Vec<f32> = episodes
            .iter()
            .flat_map(|e| e.returns.iter().zip(&e.values).map(|(r, v)| (r - v) as f32))
            .collect();
        let scores: Vec<f32> = episodes.iter().map(|e| e.score as f32).collect();
        let score_deviation = crate::reward::mean_and_deviation(&scores).1;
        let longest = episodes.iter().map(|e| e.n as f64).fold(0.0, f64::max);
        let variance = |values: &[f32]| crate::reward::mean_and_deviation(values).1.powi(2);
        progress.metrics(
            step,
            [
                ("objective/score", each(&|episode| episode.score)),
                ("objective/score_std", score_deviation),
                ("objective/kl", self.kl),
                ("objective/root_kl", self.kl.max(0.0).sqrt()),
                ("objective/kl_k3_per_token", k3),
                ("objective/kl_coefficient", kl_coefficient),
                (
                    "objective/score_minus_kl",
                    each(&|episode| episode.score - kl_coefficient * episode.kl()),
                ),
                (
                    "objective/entropy",
                    tokens(&|episode| episode.entropy.clone()),
                ),
                (
                    "objective/response_length",
                    each(&|episode| episode.n as f64),
                ),
                ("objective/longest_response", longest),
                (
                    "objective/eos_rate",
                    each(&|episode| f64::from(u8::from(episode.is_finished))),
                ),
                ("policy/loss", self.policy_loss),
                ("policy/ratio", self.ratio),
                ("policy/lowest_ratio", self.lowest_ratio),
                ("policy/highest_ratio", self.highest_ratio),
                ("policy/clipped_share", self.clipped_share),
                ("policy/approximate_kl", self.approximate_kl),
                ("policy/grad_norm", self.policy_norm),
                ("value/loss", self.value_loss),
                ("value/clipped_share", self.clipped_values_share),
                (
                    "value/explained_variance",
                    1.0 - variance(&errors) / variance(&returns).max(1e-12),
                ),
                ("value/grad_norm", self.value_norm),
            ],
        );
        if episodes.iter().any(|episode| episode.deviation.is_some()) {
            let deviation = mean(episodes.iter().filter_map(|episode| episode.deviation));
            progress.metrics(step, [("objective/member_deviation", deviation)]);
        }
        if let Some(loss) = self.text_loss {
            progress.metrics(step, [("ptx/loss", loss)]);
        }
    }
}
