//! Losses of direct preference optimisation: a ranking says something about the policy itself,
//! whose log-ratio to the reference takes the place of a reward (Rafailov et al. 2023,
//! arXiv 2305.18290). As in [`super::kwise_loss`], all strict pairs of a prompt are one element.

use serde::{Deserialize, Serialize};

use super::{log_sigmoid, strict_pairs};
use crate::error::{Result, TrainerError};

/// The loss of a pair as a function of h, by how much the log-ratio of the better completion
/// exceeds that of the worse one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum DirectLoss {
    /// -(1 - e) log sigmoid(beta h) - e log sigmoid(-beta h) (Rafailov et al., equation 7, for
    /// e = 0).
    Sigmoid {
        /// e, the chance that a label is the wrong way round: conservative DPO (Mitchell 2023, "A
        /// note on DPO with noisy preferences"); 0 is DPO.
        #[serde(default)]
        label_smoothing: f64,
    },
    /// (h - 1 / (2 beta))^2: identity preference optimisation, whose optimum stays near the
    /// reference where all labels agree (Azar et al. 2023, arXiv 2310.12036, equation 17, which
    /// calls beta tau).
    Ipo,
}

impl Default for DirectLoss {
    fn default() -> Self {
        Self::Sigmoid {
            label_smoothing: 0.0,
        }
    }
}

impl DirectLoss {
    /// Checks the ranges.
    ///
    /// # Errors
    /// Names the setting.
    pub fn check(&self) -> Result<()> {
        match self {
            // From one half on, the loss would teach the opposite or nothing.
            Self::Sigmoid { label_smoothing } if !(0.0..0.5).contains(label_smoothing) => {
                Err(TrainerError::Config {
                    field: "loss.label_smoothing".into(),
                    message: format!("is {label_smoothing}; it must be 0 or more and below 0.5"),
                })
            }
            _ => Ok(()),
        }
    }

    /// Mean loss of a prompt's strict pairs, and its gradient by the log-ratios; none when all are
    /// tied. `log_ratios` are log pi(y|x) - log pi_ref(y|x) of each completion, in nats, summed
    /// over its tokens; `ranks` are its ranks, 1 being best.
    pub fn evaluate(
        &self,
        log_ratios: &[f64],
        ranks: &[u32],
        beta: f64,
    ) -> Option<(f64, Vec<f64>)> {
        let pairs = strict_pairs(ranks);
        if pairs.is_empty() {
            return None;
        }
        let weight = 1.0 / pairs.len() as f64;
        let (mut sum, mut gradient) = (0.0, vec![0.0; log_ratios.len()]);
        for (better, worse) in pairs {
            let (loss, slope) = self.of_pair(log_ratios[better] - log_ratios[worse], beta);
            sum += weight * loss;
            gradient[better] += weight * slope;
            gradient[worse] -= weight * slope;
        }
        Some((sum, gradient))
    }

    /// Loss of a pair and its slope by h.
    fn of_pair(&self, h: f64, beta: f64) -> (f64, f64) {
        match self {
            Self::Sigmoid { label_smoothing: e } => {
                let (win, lose) = (log_sigmoid(beta * h), log_sigmoid(-beta * h));
                // d/dx of log sigmoid(x) is sigmoid(-x).
                let slope = beta * (e * win.exp() - (1.0 - e) * lose.exp());
                (-(1.0 - e) * win - e * lose, slope)
            }
            Self::Ipo => {
                let off = h - 0.5 / beta;
                (off * off, 2.0 * off)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use proptest::prelude::*;

    use super::*;

    const DPO: DirectLoss = DirectLoss::Sigmoid {
        label_smoothing: 0.0,
    };

    fn smoothed(label_smoothing: f64) -> DirectLoss {
        DirectLoss::Sigmoid { label_smoothing }
    }

    /// With beta 1 the log-ratios are rewards: the vector of the reward model's loss.
    #[test]
    fn dpo_with_beta_one_is_the_kwise_loss_of_its_log_ratios() {
        let found = DPO.evaluate(&[2.0, 1.0, 0.0, -1.0], &[1, 2, 3, 4], 1.0);
        let (loss, gradient) = found.unwrap();
        assert!((loss - 0.207_038_1).abs() < 1e-7, "{loss}");
        let expected = [-0.072_595_0, -0.019_867_2, 0.019_867_2, 0.072_595_0];
        for (found, expected) in gradient.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-7, "{gradient:?}");
        }
    }

    /// By hand: h = 5, so beta h = 0.5; -log sigmoid(0.5) = 0.4740770, sigmoid(-0.5) = 0.3775407.
    #[test]
    fn the_loss_and_gradient_of_a_pair() {
        let (loss, gradient) = DPO.evaluate(&[2.0, -3.0], &[1, 2], 0.1).unwrap();
        assert!((loss - 0.474_077_0).abs() < 1e-7, "{loss}");
        assert!((gradient[0] + 0.037_754_07).abs() < 1e-8, "{gradient:?}");
        assert_eq!(gradient[0], -gradient[1]);
        // 0.9 * 0.4740770 + 0.1 * 0.9740770, and 0.1 * (0.1 * 0.6224593 - 0.9 * 0.3775407).
        let (loss, gradient) = smoothed(0.1).evaluate(&[2.0, -3.0], &[1, 2], 0.1).unwrap();
        assert!((loss - 0.524_077_0).abs() < 1e-7, "{loss}");
        assert!((gradient[0] + 0.027_754_07).abs() < 1e-8, "{gradient:?}");
        let ipo = DirectLoss::Ipo.evaluate(&[2.0, -3.0], &[1, 2], 0.25);
        assert_eq!(ipo.unwrap(), (9.0, vec![6.0, -6.0]));
    }

    #[test]
    fn at_the_reference_every_pair_costs_log_two_and_ties_say_nothing() {
        for ranks in [[1, 2, 3], [1, 1, 2], [2, 1, 2]] {
            let (loss, gradient) = DPO.evaluate(&[0.0; 3], &ranks, 0.1).unwrap();
            assert!((loss - std::f64::consts::LN_2).abs() < 1e-12);
            assert!(gradient.iter().sum::<f64>().abs() < 1e-15, "{gradient:?}");
        }
        assert!(DPO.evaluate(&[0.3, 0.1], &[1, 1], 0.1).is_none());
    }

    /// Where nobody contradicts, DPO pulls for ever, and the others have had enough at some point:
    /// conservative DPO where sigmoid(beta h) = 1 - e, IPO at h = 1 / (2 beta).
    #[test]
    fn conservative_dpo_and_ipo_have_a_best_distance_and_dpo_has_none() {
        let slope = |loss: DirectLoss, h: f64| {
            let (_, gradient) = loss.evaluate(&[h, 0.0], &[1, 2], 0.1).unwrap();
            gradient[0]
        };
        let best = (0.9_f64 / 0.1).ln() / 0.1;
        assert!(slope(smoothed(0.1), best).abs() < 1e-12);
        assert!(slope(smoothed(0.1), best + 1.0) > 0.0);
        assert_eq!(slope(DirectLoss::Ipo, 5.0), 0.0);
        assert!(slope(DPO, 200.0) < 0.0);
    }

    #[test]
    fn far_out_the_loss_is_finite() {
        let (loss, gradient) = DPO.evaluate(&[-1e5, 0.0], &[1, 2], 0.1).unwrap();
        assert_eq!((loss, gradient), (1e4, vec![-0.1, 0.1]));
    }

    #[test]
    fn a_label_that_says_nothing_is_refused_by_name() {
        for wrong in [-0.1, 0.5, f64::NAN] {
            let error = smoothed(wrong).check().unwrap_err().to_string();
            assert!(error.contains("loss.label_smoothing"), "{error}");
        }
        smoothed(0.49).check().unwrap();
    }

    proptest! {
        #[test]
        fn the_gradient_is_that_of_finite_differences(
            log_ratios in proptest::collection::vec(-20.0_f64..20.0, 5),
            ranks in proptest::collection::vec(1_u32..5, 5),
            beta in 0.01_f64..1.0,
        ) {
            for loss in [DPO, smoothed(0.2), DirectLoss::Ipo] {
                let Some((_, gradient)) = loss.evaluate(&log_ratios, &ranks, beta) else {
                    continue;
                };
                for i in 0..log_ratios.len() {
                    let shifted = |by: f64| {
                        let mut moved = log_ratios.clone();
                        moved[i] += by;
                        loss.evaluate(&moved, &ranks, beta).unwrap().0
                    };
                    let slope = (shifted(1e-4) - shifted(-1e-4)) / 2e-4;
                    prop_assert!((slope - gradient[i]).abs() < 1e-5, "{loss:?}");
                }
            }
        }
    }
}
