//! What is told of rankings under a policy: the loss, how often the implicit reward orders a pair
//! as the labeler did, by what margin, and how likely the two completions are.

use super::learner::Ranking;
use crate::config::DpoConfig;
use crate::loss::strict_pairs;
use crate::reward::{Accuracy, UnitCount, bootstrap_mean, bootstrap_units, by_unit, count_right};

/// Sums over rankings and over their strict pairs. The implicit reward of a completion is beta
/// times its log-ratio to the reference (Rafailov et al., section 5).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Measure {
    /// Of each ranking, the mean loss of its pairs.
    loss: f64,
    n_rankings: usize,
    /// Pairs in the right order, equal rewards counting one half.
    right: f64,
    /// By how much the better completion's reward exceeds the other's.
    margin: f64,
    /// Log-probability of the better completion, in nats.
    chosen: f64,
    /// Of the worse one.
    rejected: f64,
    n_pairs: usize,
}

impl Measure {
    /// Of one ranking whose completions have these log-probabilities under the policy, and the
    /// gradient of its loss by them.
    pub(super) fn of(ranking: &Ranking, log_probs: &[f64], config: &DpoConfig) -> (Self, Vec<f64>) {
        let ranks = &ranking.group.ranks;
        let both = log_probs.iter().zip(&ranking.reference);
        let log_ratios: Vec<f64> = both.map(|(policy, reference)| policy - reference).collect();
        let rewards: Vec<f32> = log_ratios
            .iter()
            .map(|log_ratio| (config.beta * log_ratio) as f32)
            .collect();
        let (right, n_pairs) = count_right(&rewards, ranks);
        let mut measure = Self {
            right,
            n_pairs,
            n_rankings: 1,
            ..Self::default()
        };
        for (better, worse) in strict_pairs(ranks) {
            measure.margin += config.beta * (log_ratios[better] - log_ratios[worse]);
            measure.chosen += log_probs[better];
            measure.rejected += log_probs[worse];
        }
        let found = config.loss.evaluate(&log_ratios, ranks, config.beta);
        // Rankings without a pair were left out when they were read.
        let (loss, slopes) = found.unwrap_or_else(|| (0.0, vec![0.0; log_ratios.len()]));
        measure.loss = loss;
        (measure, slopes)
    }

    pub(super) fn add(&mut self, other: Self) {
        self.loss += other.loss;
        self.n_rankings += other.n_rankings;
        self.right += other.right;
        self.margin += other.margin;
        self.chosen += other.chosen;
        self.rejected += other.rejected;
        self.n_pairs += other.n_pairs;
    }

    /// Mean loss of a ranking.
    pub(super) fn loss(&self) -> f64 {
        self.loss / self.n_rankings.max(1) as f64
    }

    /// Share of pairs in the right order.
    pub(super) fn accuracy(&self) -> f64 {
        self.of_pair(self.right)
    }

    /// Mean margin of a pair.
    pub(super) fn margin(&self) -> f64 {
        self.of_pair(self.margin)
    }

    /// Mean log-probability of a pair's better completion.
    pub(super) fn chosen(&self) -> f64 {
        self.of_pair(self.chosen)
    }

    /// Mean log-probability of a pair's worse completion.
    pub(super) fn rejected(&self) -> f64 {
        self.of_pair(self.rejected)
    }

    fn of_pair(&self, sum: f64) -> f64 {
        sum / self.n_pairs.max(1) as f64
    }
}

/// What held-out rankings show.
pub(super) struct HeldOut {
    /// Over all of them.
    pub(super) all: Measure,
    /// Pairs in the right order, and pairs, of each unit.
    pub(super) counts: Vec<UnitCount>,
    /// Share of pairs in the right order, with its interval over units.
    pub(super) accuracy: Accuracy,
    /// Mean margin of a pair, likewise.
    pub(super) margin: Accuracy,
}

impl HeldOut {
    /// From the figures of each ranking.
    pub(super) fn new(rankings: &[Ranking], measures: &[Measure], seed: u64) -> Self {
        let mut all = Measure::default();
        measures.iter().for_each(|measure| all.add(*measure));
        let of_units = |pick: fn(&Measure) -> f64| {
            let sums = measures.iter().map(|one| (pick(one), one.n_pairs));
            by_unit(rankings.iter().map(|one| one.group.place()).zip(sums))
        };
        let counts = of_units(|measure| measure.right);
        let margins = of_units(|measure| measure.margin);
        let margins: Vec<(f64, usize)> = margins.iter().map(|one| (one.right, one.pairs)).collect();
        Self {
            all,
            accuracy: bootstrap_units(&counts, seed),
            margin: bootstrap_mean(&margins, seed),
            counts,
        }
    }

    /// Before the first step, when the policy says what the reference says.
    pub(super) fn before(rankings: &[Ranking], config: &DpoConfig) -> Self {
        let measures = rankings.iter();
        let measures: Vec<Measure> = measures
            .map(|ranking| Measure::of(ranking, &ranking.reference, config).0)
            .collect();
        Self::new(rankings, &measures, config.seed)
    }
}
