//! What a report is made from: rankings with the scores of a model that had not learnt from their
//! prompts.

use super::accuracy::{Accuracy, bootstrap, by_prompt, count_lengths, count_right};
use super::groups::Group;
use crate::loss::strict_pairs;

/// A ranking with the scores of a model that had not learnt from its prompt.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    pub(super) prompt_id: String,
    pub(super) labeler: Option<String>,
    pub(super) category: Option<String>,
    pub(super) ranks: Vec<u32>,
    /// In the order of `ranks`, as `lengths` is.
    pub(super) scores: Vec<f32>,
    /// In tokens.
    pub(super) lengths: Vec<usize>,
    /// Pairs in the order that length alone would give, and pairs.
    pub(super) by_length: (f64, usize),
    /// Which model scored it: scores of two models have no common zero.
    pub(super) model: usize,
}

/// A strict pair.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair<'a> {
    pub(super) prompt_id: &'a str,
    /// Score of the better one less that of the worse one.
    pub(super) difference: f64,
    /// Tokens of the better one.
    pub(super) better: usize,
    /// Tokens of the worse one.
    pub(super) worse: usize,
}

impl Measured {
    /// What `model` made of the groups; whether longer is better is what length alone goes by.
    pub(super) fn all(
        groups: &[Group],
        scores: Vec<Vec<f32>>,
        longer_is_better: bool,
        model: usize,
    ) -> Vec<Self> {
        let by_length = count_lengths(groups, longer_is_better);
        let scored = groups.iter().zip(scores).zip(by_length);
        scored
            .map(|((group, scores), by_length)| Self {
                prompt_id: group.prompt_id.clone(),
                labeler: group.labeler.clone(),
                category: group.category.clone(),
                ranks: group.ranks.clone(),
                scores,
                lengths: group.lengths.clone(),
                by_length,
                model,
            })
            .collect()
    }

    /// Pairs that the model has in the right order, and pairs.
    pub(super) fn by_model(&self) -> (f64, usize) {
        count_right(&self.scores, &self.ranks)
    }

    /// The strict pairs.
    pub(super) fn pairs(&self) -> impl Iterator<Item = Pair<'_>> {
        let pairs = strict_pairs(&self.ranks).into_iter();
        pairs.map(|(better, worse)| Pair {
            prompt_id: &self.prompt_id,
            difference: f64::from(self.scores[better]) - f64::from(self.scores[worse]),
            better: self.lengths[better],
            worse: self.lengths[worse],
        })
    }
}

impl Pair<'_> {
    /// 1 for a pair in the right order, one half for equal scores.
    pub(super) fn right(&self) -> f64 {
        match self.difference.partial_cmp(&0.0) {
            Some(std::cmp::Ordering::Greater) => 1.0,
            Some(std::cmp::Ordering::Equal) => 0.5,
            _ => 0.0,
        }
    }
}

/// Accuracy over counts of rankings or pairs, each beside its prompt; none without a pair.
pub(super) fn accuracy<'a>(
    counts: impl Iterator<Item = (&'a str, (f64, usize))>,
    seed: u64,
) -> Option<Accuracy> {
    let (ids, counts): (Vec<&str>, Vec<(f64, usize)>) = counts.unzip();
    let accuracy = bootstrap(&by_prompt(ids.into_iter(), &counts), seed);
    (accuracy.n_pairs > 0).then_some(accuracy)
}
