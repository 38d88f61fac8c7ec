//! Several labelers' rankings of the same completions as one.

use std::collections::BTreeMap;

use serde::Serialize;
use trainer::records::{RankedCompletion, RankedPrompt};

/// Several labelers' rankings of the same completions as one.
#[derive(Debug, Serialize)]
pub struct MeanRanking {
    /// Whose labeler is nobody.
    #[serde(flatten)]
    pub ranked: RankedPrompt,
    /// How many rankings it is made of.
    pub labelers: usize,
}

/// The rankings of a prompt as one for each set of completions, in the order of the first of each: by
/// the mean of the ranks that a completion has (Borda's method), equal means being ties; ratings as
/// their rounded mean; a flag as more than half of those who answered it said.
pub fn mean_rankings(rankings: impl IntoIterator<Item = RankedPrompt>) -> Vec<MeanRanking> {
    let mut sets: Vec<Vec<RankedPrompt>> = Vec::new();
    for ranked in rankings {
        let same = sets
            .iter_mut()
            .find(|set| same_completions(&set[0], &ranked));
        match same {
            Some(set) => set.push(ranked),
            None => sets.push(vec![ranked]),
        }
    }
    sets.iter().filter_map(|set| mean_of(set)).collect()
}

fn ids(ranked: &RankedPrompt) -> Vec<&str> {
    let mut ids: Vec<&str> = ranked
        .completions
        .iter()
        .map(|item| item.id.as_str())
        .collect();
    ids.sort_unstable();
    ids
}

fn same_completions(one: &RankedPrompt, other: &RankedPrompt) -> bool {
    ids(one) == ids(other)
}

fn mean_of(set: &[RankedPrompt]) -> Option<MeanRanking> {
    let labelers = set.len();
    let said = |id: &str| -> Vec<&RankedCompletion> {
        let all = set.iter().flat_map(|ranked| &ranked.completions);
        all.filter(|item| item.id == id).collect()
    };
    let mut ranked = set.first()?.clone();
    // Sums of ranks are whole numbers, so that equal means are exactly equal.
    let sums: Vec<u32> = ranked
        .completions
        .iter()
        .map(|item| said(&item.id).iter().map(|item| item.rank).sum())
        .collect();
    for (item, sum) in ranked.completions.iter_mut().zip(&sums) {
        let mut better: Vec<u32> = sums.iter().copied().filter(|other| other < sum).collect();
        better.sort_unstable();
        better.dedup();
        item.rank = better.len() as u32 + 1;
        let answers = said(&item.id);
        let ratings: Vec<u32> = answers
            .iter()
            .filter_map(|item| item.rating.map(u32::from))
            .collect();
        item.rating = match ratings.len() as u32 {
            0 => None,
            n => u8::try_from((2 * ratings.iter().sum::<u32>() + n) / (2 * n)).ok(),
        };
        item.flags = majority(&answers);
    }
    ranked.labeler = None;
    Some(MeanRanking { ranked, labelers })
}

/// Flags that more than half of those who answered them set, or did not; an even split says nothing.
fn majority(answers: &[&RankedCompletion]) -> BTreeMap<String, bool> {
    let mut votes: BTreeMap<&str, i32> = BTreeMap::new();
    for (key, value) in answers.iter().flat_map(|item| &item.flags) {
        *votes.entry(key).or_default() += if *value { 1 } else { -1 };
    }
    let decided = votes.into_iter().filter(|(_, vote)| *vote != 0);
    decided
        .map(|(key, vote)| (key.to_owned(), vote > 0))
        .collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn ranking(ranks: [u32; 3], flag: bool) -> RankedPrompt {
        let completions = ["a", "b", "c"].iter().zip(ranks);
        let completions = completions.map(|(id, rank)| {
            serde_json::json!({
                "id": id, "text": id, "rank": rank, "rating": 8 - rank,
                "flags": { "hallucination": flag },
            })
        });
        let completions: Vec<_> = completions.collect();
        let line = serde_json::json!({
            "id": "p", "prompt": "Hi", "completions": completions, "labeler": "ada",
        });
        serde_json::from_value(line).unwrap()
    }

    #[test]
    fn rankings_of_the_same_completions_become_one_by_mean_rank() {
        let means = mean_rankings(vec![
            ranking([1, 2, 3], true),
            ranking([2, 1, 3], true),
            ranking([1, 2, 3], false),
        ]);
        assert_eq!(means.len(), 1);
        let ranks: Vec<u32> = means[0]
            .ranked
            .completions
            .iter()
            .map(|item| item.rank)
            .collect();
        assert_eq!((ranks, means[0].labelers), (vec![1, 2, 3], 3));
        assert!(means[0].ranked.completions[0].flags["hallucination"]);
        let tied = mean_rankings(vec![ranking([1, 2, 3], true), ranking([2, 1, 3], false)]);
        let ranks: Vec<u32> = tied[0]
            .ranked
            .completions
            .iter()
            .map(|item| item.rank)
            .collect();
        assert_eq!(ranks, [1, 1, 2]);
        assert!(tied[0].ranked.completions[0].flags.is_empty());
        assert_eq!(tied[0].ranked.completions[0].rating, Some(7));
    }

    #[test]
    fn other_completions_of_the_prompt_are_another_ranking() {
        let mut other = ranking([1, 2, 3], true);
        other.completions[0].id = "z".to_owned();
        assert_eq!(
            mean_rankings(vec![ranking([1, 2, 3], true), other]).len(),
            2
        );
    }
}
