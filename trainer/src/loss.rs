//! The K-wise reward loss of InstructGPT, section 3.5: all pairs of a prompt's completions as one
//! batch element.

pub mod direct;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::error::{Result, TrainerError};

/// log sigmoid(x) without overflow: min(x, 0) - ln(1 + exp(-|x|)).
pub fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}

/// The strict pairs (better, worse) of a weak order given as ranks, 1 being best. Ties make no
/// pair (appendix C.2).
pub fn strict_pairs(ranks: &[u32]) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    for (better, rank) in ranks.iter().enumerate() {
        for (worse, other) in ranks.iter().enumerate() {
            if rank < other {
                pairs.push((better, worse));
            }
        }
    }
    pairs
}

/// Loss of one prompt and its gradient by the rewards:
/// -1/P * sum over pairs of log sigmoid(r_better - r_worse), P being the number of strict pairs.
///
/// The paper divides by C(K, 2) and drops ties without saying whether they still count in the
/// divisor; dividing by the strict pairs keeps the weight of prompts equal. Without ties both are
/// the same. None when all are tied.
pub fn kwise_loss(rewards: &[f32], ranks: &[u32]) -> Option<(f64, Vec<f32>)> {
    RankingLoss::default().evaluate(rewards, ranks, &[])
}

/// How a ranking becomes a loss. The default is InstructGPT's; everything else is an option that
/// the paper does not have.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RankingLoss {
    /// What the probability of a ranking is.
    pub model: PreferenceModel,
    /// Chance that a labeler answered a pair at random (Christiano et al. 2017, arXiv 1706.03741:
    /// 0.1; here 0). For `pairs` only.
    pub label_noise: f64,
    /// Margin for each point by which the better one's rating is higher (Llama 2, arXiv 2307.09288,
    /// has margins by strength of preference; here 0). For `pairs` only; pairs without both ratings
    /// have none.
    pub rating_margin: f64,
    /// Weight of the mean of (r_better + r_worse)^2 over strict pairs, which keeps rewards around 0
    /// (TRL suggests 0.01; here 0).
    pub centring: f64,
}

/// The probability of a ranking, given rewards.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum PreferenceModel {
    /// Of each strict pair by Bradley and Terry (1952); ties are dropped (C.2).
    #[default]
    Pairs,
    /// Of each pair, ties included, by Rao and Kupper (1967): a tie is a difference that is not
    /// noticed.
    RaoKupper {
        /// The least difference of rewards that is, above 0.
        threshold: f64,
    },
    /// Of each pair, ties included, by Davidson (1970).
    Davidson {
        /// How likely ties are, above 0: between equals, `nu / (2 + nu)` of the pairs.
        nu: f64,
    },
    /// Of the whole list by Plackett (1975) and Luce (1959): the best of all, then the best of the
    /// rest. Those tied are drawn from the same rest (Breslow 1974); those tied at the end are not
    /// drawn at all, since nothing is below them. So the best of K, the others tied, is one choice
    /// among K, as lm-human-preferences has it. The sum over the list is not divided.
    PlackettLuce,
}

impl RankingLoss {
    /// Checks the ranges.
    ///
    /// # Errors
    /// Names the setting.
    pub fn check(&self) -> Result<()> {
        let in_range = |field: &'static str, value: f64, low: f64, high: f64| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(TrainerError::Config {
                field: field.into(),
                message: format!("is {value}; it must be {low} to {high}"),
            })
        };
        in_range("loss.label_noise", self.label_noise, 0.0, 0.99)?;
        in_range("loss.rating_margin", self.rating_margin, 0.0, 100.0)?;
        in_range("loss.centring", self.centring, 0.0, 100.0)?;
        match self.model {
            PreferenceModel::Pairs => return Ok(()),
            PreferenceModel::RaoKupper { threshold } => {
                in_range("loss.model.threshold", threshold, 1e-6, 100.0)?;
            }
            PreferenceModel::Davidson { nu } => in_range("loss.model.nu", nu, 1e-6, 1e6)?,
            PreferenceModel::PlackettLuce => (),
        }
        for (field, value) in [
            ("loss.label_noise", self.label_noise),
            ("loss.rating_margin", self.rating_margin),
        ] {
            if value != 0.0 {
                return Err(TrainerError::Config {
                    field: field.into(),
                    message: "belongs to the model \"pairs\" only".to_owned(),
                });
            }
        }
        Ok(())
    }

    /// Whether a ranking that ties everything says something.
    pub fn learns_from_ties(&self) -> bool {
        matches!(
            self.model,
            PreferenceModel::RaoKupper { .. } | PreferenceModel::Davidson { .. }
        )
    }

    /// Loss of one prompt and its gradient by the rewards; none when there is nothing to learn.
    /// `ratings` may be shorter than `ranks`, or hold none.
    pub fn evaluate(
        &self,
        rewards: &[f32],
        ranks: &[u32],
        ratings: &[Option<f64>],
    ) -> Option<(f64, Vec<f32>)> {
        let strict = strict_pairs(ranks);
        if strict.is_empty() && !self.learns_from_ties() {
            return None;
        }
        let rewards: Vec<f64> = rewards.iter().map(|reward| f64::from(*reward)).collect();
        let mut sum = Sum::new(rewards.len());
        match self.model {
            PreferenceModel::Pairs => {
                let weight = 1.0 / strict.len() as f64;
                for (better, worse) in &strict {
                    let margin = self.margin(ratings, *better, *worse);
                    let by = rewards[*better] - rewards[*worse] - margin;
                    sum.add_pair(*better, *worse, weight, noisy_win(by, self.label_noise));
                }
            }
            PreferenceModel::RaoKupper { threshold } => {
                sum.add_every_pair(&rewards, ranks, |by, is_tie| match is_tie {
                    true => unnoticed(by, threshold),
                    false => noisy_win(by - threshold, 0.0),
                });
            }
            PreferenceModel::Davidson { nu } => {
                sum.add_every_pair(&rewards, ranks, |by, is_tie| davidson(by, nu, is_tie));
            }
            PreferenceModel::PlackettLuce => sum.add_list(&rewards, ranks),
        }
        if self.centring > 0.0 && !strict.is_empty() {
            let weight = self.centring / strict.len() as f64;
            for (better, worse) in strict {
                let both = rewards[better] + rewards[worse];
                sum.loss += weight * both * both;
                sum.gradient[better] += 2.0 * weight * both;
                sum.gradient[worse] += 2.0 * weight * both;
            }
        }
        let gradient = sum.gradient.into_iter();
        Some((sum.loss, gradient.map(|value| value as f32).collect()))
    }

    fn margin(&self, ratings: &[Option<f64>], better: usize, worse: usize) -> f64 {
        let rating = |index: usize| ratings.get(index).copied().flatten();
        match (rating(better), rating(worse)) {
            (Some(better), Some(worse)) => self.rating_margin * (better - worse).max(0.0),
            _ => 0.0,
        }
    }
}

/// A loss so far and its gradient.
struct Sum {
    loss: f64,
    gradient: Vec<f64>,
}

impl Sum {
    fn new(n: usize) -> Self {
        Self {
            loss: 0.0,
            gradient: vec![0.0; n],
        }
    }

    /// Adds a pair's loss and its slope by the difference of the rewards.
    fn add_pair(&mut self, first: usize, second: usize, weight: f64, (loss, slope): (f64, f64)) {
        self.loss += weight * loss;
        self.gradient[first] += weight * slope;
        self.gradient[second] -= weight * slope;
    }

    /// The mean over all C(K, 2) pairs, the better one first; `pair` takes the difference of the
    /// rewards and whether it is a tie.
    fn add_every_pair(
        &mut self,
        rewards: &[f64],
        ranks: &[u32],
        pair: impl Fn(f64, bool) -> (f64, f64),
    ) {
        let n = ranks.len();
        let weight = 2.0 / (n * (n - 1)) as f64;
        for first in 0..n {
            for second in first + 1..n {
                let (better, worse) = match ranks[second] < ranks[first] {
                    true => (second, first),
                    false => (first, second),
                };
                let is_tie = ranks[first] == ranks[second];
                let found = pair(rewards[better] - rewards[worse], is_tie);
                self.add_pair(better, worse, weight, found);
            }
        }
    }

    /// The sum over the list of the log of the rest's exponentials, minus the chosen one's reward.
    fn add_list(&mut self, rewards: &[f64], ranks: &[u32]) {
        for (chosen, rank) in ranks.iter().enumerate() {
            // Among the last nobody has said which is better; a choice would pull them together.
            if !ranks.iter().any(|other| other > rank) {
                continue;
            }
            let rest = || (0..ranks.len()).filter(|other| ranks[*other] >= *rank);
            let highest = rest().map(|other| rewards[other]).fold(f64::MIN, f64::max);
            let total: f64 = rest().map(|other| (rewards[other] - highest).exp()).sum();
            self.loss += highest + total.ln() - rewards[chosen];
            for other in rest() {
                self.gradient[other] += (rewards[other] - highest).exp() / total;
            }
            self.gradient[chosen] -= 1.0;
        }
    }
}

/// -log of (1 - noise) sigmoid(x) + noise / 2, and its slope by x.
fn noisy_win(x: f64, noise: f64) -> (f64, f64) {
    if noise == 0.0 {
        // d/dx of -log sigmoid(x) is -sigmoid(-x).
        return (-log_sigmoid(x), -log_sigmoid(-x).exp());
    }
    let (win, lose) = (log_sigmoid(x).exp(), log_sigmoid(-x).exp());
    let seen = (1.0 - noise) * win + noise / 2.0;
    (-seen.ln(), -(1.0 - noise) * win * lose / seen)
}

/// -log of the probability of a tie by Rao and Kupper, and its slope:
/// (e^2t - 1) sigmoid(x - t) sigmoid(-x - t).
fn unnoticed(x: f64, threshold: f64) -> (f64, f64) {
    let loss =
        -(2.0 * threshold).exp_m1().ln() - log_sigmoid(x - threshold) - log_sigmoid(-x - threshold);
    let slope = log_sigmoid(x + threshold).exp() - log_sigmoid(threshold - x).exp();
    (loss, slope)
}

/// -log of e^(x/2) / z, or of nu / z for a tie, with z = e^(x/2) + e^(-x/2) + nu; and its slope.
fn davidson(x: f64, nu: f64, is_tie: bool) -> (f64, f64) {
    let half = x.abs() / 2.0;
    let (small, middle) = ((-2.0 * half).exp(), nu * (-half).exp());
    let z = 1.0 + small + middle;
    let log_z = half + z.ln();
    let slope_of_z = x.signum() * (1.0 - small) / (2.0 * z);
    match is_tie {
        true => (log_z - nu.ln(), slope_of_z),
        false => (log_z - x / 2.0, slope_of_z - 0.5),
    }
}

/// A scalar whose gradient by `values` is `by_values`: how a gradient that was worked out by hand
/// enters the backward pass. Its value means nothing.
///
/// # Errors
/// On shapes that do not fit.
pub fn with_gradient(values: &Tensor, by_values: &Tensor) -> Result<Tensor> {
    Ok((values * by_values.detach())?.sum_all()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Computed in double precision from the formula; also in the mission's test vectors.
    #[test]
    fn the_loss_and_gradient_of_four_ranked_rewards() {
        let (loss, gradient) = kwise_loss(&[2.0, 1.0, 0.0, -1.0], &[1, 2, 3, 4]).expect("pairs");
        assert!((loss - 0.207_038_1).abs() < 1e-7, "{loss}");
        let expected = [-0.072_595_0, -0.019_867_2, 0.019_867_2, 0.072_595_0];
        for (found, expected) in gradient.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-7, "{gradient:?}");
        }
    }

    #[test]
    fn ties_make_no_pair_and_all_tied_is_no_loss() {
        assert_eq!(strict_pairs(&[1, 1, 2]), [(0, 2), (1, 2)]);
        assert!(kwise_loss(&[0.3, 0.1], &[1, 1]).is_none());
        let (loss, gradient) = kwise_loss(&[0.5, 0.5, 0.5], &[1, 1, 2]).expect("pairs");
        assert!((loss - std::f64::consts::LN_2).abs() < 1e-12);
        assert_eq!(gradient, [-0.25, -0.25, 0.5]);
    }

    /// Item 14: 64 prompts of nine completions.
    #[test]
    fn nine_ranked_completions_make_thirty_six_pairs() {
        let ranks: Vec<u32> = (1..=9).collect();
        assert_eq!(64 * strict_pairs(&ranks).len(), 2304);
    }

    #[test]
    fn log_sigmoid_is_finite_far_out() {
        assert_eq!(log_sigmoid(1e4), 0.0);
        assert_eq!(log_sigmoid(-1e4), -1e4);
    }

    fn loss(model: PreferenceModel) -> RankingLoss {
        RankingLoss {
            model,
            ..RankingLoss::default()
        }
    }

    /// Item 13: the value that the checklist gives.
    #[test]
    fn plackett_and_luce_have_their_likelihood_of_four_ranked_rewards() {
        let loss = loss(PreferenceModel::PlackettLuce);
        let found = loss.evaluate(&[2.0, 1.0, 0.0, -1.0], &[1, 2, 3, 4], &[]);
        assert!((found.expect("a list").0 - 1.161_057_4).abs() < 1e-7);
    }

    /// The softmax's cross-entropy, as of a labeler who only picks the best.
    #[test]
    fn the_best_of_four_is_one_choice_and_leaves_the_others_order_open() {
        let loss = loss(PreferenceModel::PlackettLuce);
        let found = loss.evaluate(&[2.0, 1.0, 0.0, -1.0], &[1, 2, 2, 2], &[]);
        let (value, gradient) = found.expect("a list");
        assert!((value - 0.440_189_7).abs() < 1e-7, "{value}");
        // Minus 1 at the chosen one, plus the softmax.
        let softmax = [0.643_914_3, 0.236_882_8, 0.087_144_3, 0.032_058_6];
        for (index, wanted) in softmax.into_iter().enumerate() {
            let wanted = wanted - f64::from(u8::from(index == 0));
            let off = f64::from(gradient[index]) - wanted;
            assert!(off.abs() < 1e-6, "{gradient:?}");
        }
    }

    /// Win, loss and tie of a pair are all that can happen.
    #[test]
    fn the_tie_aware_probabilities_add_up_to_one() {
        for model in [
            PreferenceModel::RaoKupper { threshold: 0.7 },
            PreferenceModel::Davidson { nu: 0.4 },
        ] {
            let loss = loss(model);
            for rewards in [[0.0, 0.0], [1.5, -0.5], [-30.0, 30.0]] {
                let outcomes = [[1, 2], [2, 1], [1, 1]];
                let all = outcomes.map(|ranks| loss.evaluate(&rewards, &ranks, &[]));
                let total: f64 = all.iter().flatten().map(|(loss, _)| (-loss).exp()).sum();
                assert!((total - 1.0).abs() < 1e-9, "{model:?} {rewards:?}: {total}");
            }
        }
        let equals = loss(PreferenceModel::Davidson { nu: 0.5 });
        let (tie, _) = equals.evaluate(&[1.0, 1.0], &[1, 1], &[]).expect("a tie");
        assert!(((-tie).exp() - 0.5 / 2.5).abs() < 1e-12);
    }

    /// With one answer in ten at random, no pair costs more than -log 0.05.
    #[test]
    fn noise_bounds_what_a_wrong_label_costs() {
        let loss = RankingLoss {
            label_noise: 0.1,
            ..RankingLoss::default()
        };
        let (far, slope) = loss.evaluate(&[-50.0, 50.0], &[1, 2], &[]).expect("a pair");
        assert!((far + 0.05_f64.ln()).abs() < 1e-9);
        assert!(slope[0].abs() < 1e-9);
        let (even, _) = loss.evaluate(&[0.0, 0.0], &[1, 2], &[]).expect("a pair");
        assert!((even - std::f64::consts::LN_2).abs() < 1e-12);
    }

    #[test]
    fn a_margin_counts_where_both_are_rated_and_centring_pulls_towards_zero() {
        let margin = RankingLoss {
            rating_margin: 0.5,
            ..RankingLoss::default()
        };
        let rated = [Some(6.0), Some(2.0)];
        let (with, _) = margin
            .evaluate(&[3.0, 0.0], &[1, 2], &rated)
            .expect("a pair");
        assert!((with + log_sigmoid(1.0)).abs() < 1e-12);
        let (without, _) = margin.evaluate(&[3.0, 0.0], &[1, 2], &[]).expect("a pair");
        assert!((without + log_sigmoid(3.0)).abs() < 1e-12);
        let centred = RankingLoss {
            centring: 0.01,
            ..RankingLoss::default()
        };
        let (loss, _) = centred.evaluate(&[3.0, 1.0], &[1, 2], &[]).expect("a pair");
        assert!((loss + log_sigmoid(2.0) - 0.16).abs() < 1e-12);
    }

    #[test]
    fn options_that_do_not_go_together_are_refused_by_name() {
        let mut wrong = loss(PreferenceModel::PlackettLuce);
        wrong.label_noise = 0.1;
        let error = wrong.check().expect_err("noise is for pairs").to_string();
        assert!(error.contains("loss.label_noise"), "{error}");
        let wrong = loss(PreferenceModel::Davidson { nu: 0.0 });
        let error = wrong.check().expect_err("no ties at all").to_string();
        assert!(error.contains("loss.model.nu"), "{error}");
    }

    proptest! {
        #[test]
        fn every_options_gradient_is_that_of_finite_differences(
            rewards in proptest::collection::vec(-3.0_f32..3.0, 5),
            ranks in proptest::collection::vec(1_u32..5, 5),
            ratings in proptest::collection::vec(proptest::option::of(1.0_f64..7.0), 5),
        ) {
            let options = [
                RankingLoss { label_noise: 0.1, rating_margin: 0.3, centring: 0.02, ..RankingLoss::default() },
                loss(PreferenceModel::RaoKupper { threshold: 0.5 }),
                loss(PreferenceModel::Davidson { nu: 0.8 }),
                RankingLoss { centring: 0.05, ..loss(PreferenceModel::PlackettLuce) },
            ];
            for option in options {
                let Some((_, gradient)) = option.evaluate(&rewards, &ranks, &ratings) else {
                    continue;
                };
                for i in 0..rewards.len() {
                    let shifted = |by: f32| {
                        let mut moved = rewards.clone();
                        moved[i] += by;
                        option.evaluate(&moved, &ranks, &ratings).map_or(0.0, |(loss, _)| loss)
                    };
                    let slope = (shifted(0.01) - shifted(-0.01)) / 0.02;
                    prop_assert!((slope - f64::from(gradient[i])).abs() < 5e-4, "{option:?}");
                }
            }
        }

        #[test]
        fn the_gradient_is_that_of_finite_differences(
            rewards in proptest::collection::vec(-3.0_f32..3.0, 5),
            ranks in proptest::collection::vec(1_u32..5, 5),
        ) {
            if let Some((_, gradient)) = kwise_loss(&rewards, &ranks) {
                for i in 0..rewards.len() {
                    let shifted = |by: f32| {
                        let mut moved = rewards.clone();
                        moved[i] += by;
                        kwise_loss(&moved, &ranks).map_or(0.0, |(loss, _)| loss)
                    };
                    let slope = (shifted(0.01) - shifted(-0.01)) / 0.02;
                    prop_assert!((slope - f64::from(gradient[i])).abs() < 1e-4);
                }
            }
        }
    }
}
