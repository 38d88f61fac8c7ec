//! The final figures of a run, and what the log says of them.

use std::collections::BTreeMap;

use super::evaluation::Evaluation;
use super::over_optimisation::{fit, peak_interval};
use super::state::State;
use super::watch::{Stop, gold_points};
use crate::progress::Progress;

/// What is known once training is over.
pub(super) struct End<'a> {
    pub(super) state: &'a State,
    pub(super) stop: Option<&'a Stop>,
    /// The same prompts as before training.
    pub(super) after: &'a Evaluation,
    /// Whether they were kept out of training.
    pub(super) are_kept_out: bool,
    /// Of the texts kept out.
    pub(super) text_loss: Option<f64>,
    pub(super) seed: u64,
}

impl End<'_> {
    /// Every final figure by name; what can be put into a sentence is told too.
    pub(super) fn summary(&self, progress: &mut dyn Progress) -> BTreeMap<String, f64> {
        let n = self.after.rewards.len();
        let kl_last = self.state.trail.last().map(|batch| batch.kl);
        let mut summary = BTreeMap::from([
            ("n_iterations".to_owned(), self.state.n_done as f64),
            ("n_evaluation_prompts".to_owned(), n as f64),
            (
                "evaluation_prompts_kept_out".to_owned(),
                f64::from(u8::from(self.are_kept_out)),
            ),
        ]);
        let best = self.state.best;
        let optional = [
            ("kept_iteration", best.map(|best| best.iteration as f64)),
            ("kl_after", (n > 0).then_some(self.after.kl)),
            ("kl_last_batch", kl_last),
            ("text_loss_held_out_before", self.state.text_loss_before),
            ("text_loss_held_out", self.text_loss),
        ];
        for (name, value) in optional {
            summary.extend(value.map(|value| (name.to_owned(), value)));
        }
        if let Some(stop) = self.stop {
            progress.log(stop.sentence.clone());
            summary.insert(stop.reason.figure().to_owned(), 1.0);
        }
        let kept_out = match self.are_kept_out {
            true => "kept out of training",
            false => "not kept out of training, since there are too few",
        };
        for (name, gain) in self.after.gains_over(&self.state.before, self.seed) {
            progress.log(format!(
                "mean {name} on {n} prompts ({kept_out}): {:.4} before, {:.4} after, gain {}",
                gain.before, gain.after, gain.gain,
            ));
            summary.extend(gain.figures(name));
        }
        summary.extend(self.over_optimisation(progress));
        summary
    }

    /// How far it paid, and would have paid, to optimise, by the second opinion.
    fn over_optimisation(&self, progress: &mut dyn Progress) -> BTreeMap<String, f64> {
        let points = gold_points(&self.state.trail).unwrap_or_default();
        let (Some(curve), Some(within)) = (fit(&points), peak_interval(&points, self.seed)) else {
            return BTreeMap::new();
        };
        let mut figures = BTreeMap::from([
            ("gold_alpha".to_owned(), curve.alpha),
            ("gold_beta".to_owned(), curve.beta),
            ("gold_fit_r_squared".to_owned(), curve.r_squared),
        ]);
        let fitted = format!(
            "by the second opinion the gain follows d ({:.3} - {:.3} ln d), in deviations of the first \
             batch, with d the square root of KL (R^2 {:.2} over {} batches)",
            curve.alpha, curve.beta, curve.r_squared, curve.n
        );
        let farthest = points.iter().map(|(d, _)| *d).fold(0.0, f64::max);
        match curve.peak() {
            None => progress.log(format!("{fitted}: it has no peak")),
            Some(peak) => {
                let (distance, gain) = (peak.distance, peak.gain);
                let (low, high) = within;
                let high = match high.is_finite() {
                    true => format!("{high:.2}"),
                    false => "no limit".to_owned(),
                };
                let place = match distance > farthest {
                    true => "beyond where the run went,",
                    false => "within the run, which went as far as",
                };
                progress.log(format!(
                    "{fitted}: it is highest at d = {distance:.2} [{low:.2}, {high}], a KL of {:.2} \
                     nats, with a gain of {gain:.3}; that is {place} d = {farthest:.2}",
                    distance * distance
                ));
                figures.insert("gold_peak_root_kl_low".to_owned(), within.0);
                if within.1.is_finite() {
                    figures.insert("gold_peak_root_kl_high".to_owned(), within.1);
                }
                figures.insert("gold_peak_root_kl".to_owned(), distance);
                figures.insert("gold_peak_gain".to_owned(), gain);
            }
        }
        figures
    }
}
