//! How far rewards go with length.

use super::accuracy::Accuracy;
use super::correlation::{Correlations, Series, overall, within};
use super::measured::{Measured, Pair, accuracy};

/// Two lengths are near each other when they differ by at most this share of the longer.
const NEAR: f64 = 0.1;

/// How far rewards go with length in tokens.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LengthBias {
    /// Completions, each as often as it was ranked.
    pub n_completions: usize,
    /// Over all completions. Rewards count from the mean of the model that gave them.
    pub overall: Correlations,
    /// Among the completions of one prompt.
    pub within_prompt: Correlations,
    /// Accuracy where the better one is shorter; none where that never is.
    pub better_is_shorter: Option<Accuracy>,
    /// Accuracy where the better one is longer.
    pub better_is_longer: Option<Accuracy>,
    /// Accuracy where lengths differ by at most a tenth of the longer.
    pub near_in_length: Option<Accuracy>,
}

impl LengthBias {
    pub(super) fn of(rankings: &[Measured], seed: u64) -> Self {
        let zeros = zeros(rankings);
        let groups: Vec<Series> = rankings
            .iter()
            .map(|ranking| {
                let scores = ranking.scores.iter();
                let rewards = scores.map(|score| f64::from(*score) - zeros[ranking.model]);
                let lengths = ranking.lengths.iter().map(|length| *length as f64);
                (rewards.collect(), lengths.collect())
            })
            .collect();
        let rewards: Vec<f64> = groups.iter().flat_map(|group| group.0.clone()).collect();
        let lengths: Vec<f64> = groups.iter().flat_map(|group| group.1.clone()).collect();
        let where_it_is = |wanted: fn(&Pair<'_>) -> bool| {
            let pairs = rankings.iter().flat_map(Measured::pairs).filter(wanted);
            accuracy(pairs.map(|pair| (pair.prompt_id, (pair.right(), 1))), seed)
        };
        Self {
            n_completions: rewards.len(),
            overall: overall(&rewards, &lengths),
            within_prompt: within(&groups),
            better_is_shorter: where_it_is(|pair| pair.better < pair.worse),
            better_is_longer: where_it_is(|pair| pair.better > pair.worse),
            near_in_length: where_it_is(is_near),
        }
    }
}

fn is_near(pair: &Pair<'_>) -> bool {
    let (shorter, longer) = (pair.better.min(pair.worse), pair.better.max(pair.worse));
    (longer - shorter) as f64 <= NEAR * longer as f64
}

/// The mean score of each model.
fn zeros(rankings: &[Measured]) -> Vec<f64> {
    let n_models = rankings.iter().map(|ranking| ranking.model + 1).max();
    let mut sums = vec![(0.0, 0.0); n_models.unwrap_or(0)];
    for ranking in rankings {
        let sum = &mut sums[ranking.model];
        sum.0 += ranking.scores.iter().copied().map(f64::from).sum::<f64>();
        sum.1 += ranking.scores.len() as f64;
    }
    sums.into_iter().map(|(sum, n)| sum / n.max(1.0)).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn ranking(prompt: &str, scores: [f32; 3], lengths: [usize; 3], model: usize) -> Measured {
        Measured {
            prompt_id: prompt.to_owned(),
            labeler: None,
            category: None,
            ranks: vec![1, 2, 2],
            scores: scores.to_vec(),
            lengths: lengths.to_vec(),
            by_length: (0.0, 2),
            model,
        }
    }

    #[test]
    fn pairs_are_told_apart_by_which_is_shorter_and_by_a_tenth() {
        let rankings = [
            // The better one is shorter than one and as long as the other within a tenth.
            ranking("a", [1.0, 0.0, 2.0], [10, 20, 11], 0),
            // The better one is longer than one, by more than a tenth, and equal to the other.
            ranking("b", [1.0, 0.0, 1.0], [12, 10, 12], 0),
        ];
        let bias = LengthBias::of(&rankings, 1);
        let shorter = bias.better_is_shorter.unwrap();
        assert_eq!((shorter.value, shorter.n_pairs), (0.5, 2));
        assert_eq!((shorter.interval, shorter.n_prompts), (None, 1));
        let longer = bias.better_is_longer.unwrap();
        assert_eq!((longer.value, longer.n_pairs), (1.0, 1));
        // 10 and 11 differ by a eleventh of the longer; 12 and 12 by nothing.
        let near = bias.near_in_length.unwrap();
        assert_eq!((near.value, near.n_pairs, near.n_prompts), (0.25, 2, 2));
    }

    /// Two models whose scores have zeros far apart.
    #[test]
    fn scores_of_two_models_are_compared_from_their_means() {
        let rankings = [
            ranking("a", [1.0, 2.0, 3.0], [1, 2, 3], 0),
            ranking("b", [101.0, 102.0, 103.0], [1, 2, 3], 1),
        ];
        let bias = LengthBias::of(&rankings, 1);
        assert!((bias.overall.pearson.unwrap() - 1.0).abs() < 1e-9);
        assert!((bias.within_prompt.spearman.unwrap() - 1.0).abs() < 1e-9);
        assert_eq!(bias.n_completions, 6);
    }
}
