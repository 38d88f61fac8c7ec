//! What labelers said, as the statistics read it. Prompts, labelers, units and items are numbers
//! that the caller chooses: small and dense is quickest, gaps do no harm.

/// A weak order of a prompt's completions by one labeler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranking {
    /// Which prompt.
    pub prompt: usize,
    /// Which labeler.
    pub labeler: usize,
    /// The rank of each completion, in an order that is the same for all rankings of the prompt;
    /// lower is better, equal ranks are ties, none where it was not ranked. Only the order of ranks
    /// counts, not their distance. What is missing at the end counts as not ranked.
    pub ranks: Vec<Option<i16>>,
}

impl Ranking {
    /// A ranking of all completions.
    pub fn complete(prompt: usize, labeler: usize, ranks: &[i16]) -> Self {
        Self {
            prompt,
            labeler,
            ranks: ranks.iter().copied().map(Some).collect(),
        }
    }
}

/// What a labeler said of one unit: a Likert value, a flag (0 or 1), a category's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rating {
    /// What was rated: a completion, a prompt.
    pub unit: usize,
    /// Who rated it.
    pub labeler: usize,
    /// The value.
    pub value: i32,
}

/// A pair of items, such as the models that made two completions of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comparison {
    /// Which prompt it was said of.
    pub prompt: usize,
    /// The better item; for a tie either.
    pub preferred: usize,
    /// The other one.
    pub other: usize,
    /// Whether both are as good.
    pub is_tie: bool,
}

/// A weak order of some items, such as the models that made a prompt's completions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemRanking {
    /// Which prompt it was said of.
    pub prompt: usize,
    /// Items with their ranks; lower is better, equal ranks are ties. What is not here was not
    /// seen: nothing is said of it. An item may come twice, as two completions of one model.
    pub ranks: Vec<(usize, i16)>,
}

impl ItemRanking {
    /// All pairs of different items.
    pub fn comparisons(&self) -> impl Iterator<Item = Comparison> + '_ {
        self.ranks.iter().enumerate().flat_map(|(index, first)| {
            let others = self.ranks[index + 1..].iter();
            others
                .filter(|second| second.0 != first.0)
                .map(|second| self.compare(first, second))
        })
    }

    fn compare(&self, first: &(usize, i16), second: &(usize, i16)) -> Comparison {
        let (better, worse) = if second.1 < first.1 {
            (second, first)
        } else {
            (first, second)
        };
        Comparison {
            prompt: self.prompt,
            preferred: better.0,
            other: worse.0,
            is_tie: better.1 == worse.1,
        }
    }
}

/// Calls `each` with a prompt and its rankings, prompts in ascending order and the rankings of one
/// in the order given.
pub(super) fn by_prompt<'a>(rankings: &'a [Ranking], mut each: impl FnMut(usize, &[&'a Ranking])) {
    let mut sorted: Vec<&Ranking> = rankings.iter().collect();
    sorted.sort_by_key(|ranking| ranking.prompt);
    for own in sorted.chunk_by(|a, b| a.prompt == b.prompt) {
        each(own[0].prompt, own);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ranking_of_items_gives_every_pair_of_different_items_once() {
        let ranking = ItemRanking {
            prompt: 3,
            ranks: vec![(7, 2), (8, 1), (9, 2), (8, 4)],
        };
        let found: Vec<(usize, usize, bool)> = ranking
            .comparisons()
            .map(|own| (own.preferred, own.other, own.is_tie))
            .collect();
        let expected = [
            (8, 7, false),
            (7, 9, true),
            (7, 8, false),
            (8, 9, false),
            (9, 8, false),
        ];
        assert_eq!(found, expected);
        assert!(ranking.comparisons().all(|own| own.prompt == 3));
    }
}
