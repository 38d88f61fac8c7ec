//! How far one labeler's ranks agree with those known to be right, pair by pair: the simple figure that
//! labelers see of themselves.

use super::gold::{Facts, GoldAnswer};

/// A share of pairs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct GoldPairs {
    /// Gold tasks that count.
    pub n_tasks: usize,
    /// Pairs of candidates that a gold answer puts in an order and that the labeler ranked.
    pub n: usize,
    /// Of those, in agreement; a tie of the labeler's is half of one.
    pub agreed: f64,
}

impl GoldPairs {
    /// Counts one task: `answer` as `gold_answers.answer` has it, `ranks` as slot and rank. How a pair counts
    /// is said in [`gold`](super::gold).
    pub fn add(&mut self, answer: &GoldAnswer, ranks: &[(i16, i16)]) {
        let said = ranks.iter().map(|(slot, rank)| Facts {
            slot: *slot,
            rank: Some(*rank),
            ..Default::default()
        });
        let tally = answer.score(&said.collect::<Vec<_>>()).ranks;
        self.n += tally.n as usize;
        self.agreed += tally.agreed;
        self.n_tasks += usize::from(tally.n > 0);
    }

    /// The share in agreement, in percent; none before `least` tasks.
    pub fn percent(&self, least: usize) -> Option<f64> {
        (self.n_tasks >= least && self.n > 0).then(|| 100.0 * self.agreed / self.n as f64)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pairs_that_gold_orders_count_and_a_tie_is_half() {
        let answer = json!({"candidates": [
            {"slot": 0, "rank": 1}, {"slot": 1, "rank": 2}, {"slot": 2, "rank": 2}, {"slot": 3, "flags": {}},
        ]});
        let answer: GoldAnswer = serde_json::from_value(answer).unwrap_or_default();
        let mut pairs = GoldPairs::default();
        // 0 before 1 is right; 0 and 2 are tied; gold says nothing of 1 and 2, nor of 3.
        pairs.add(&answer, &[(0, 1), (1, 3), (2, 1), (3, 2)]);
        assert_eq!((pairs.n_tasks, pairs.n, pairs.agreed), (1, 2, 1.5));
        // Of a slot that could not be judged nothing is said.
        pairs.add(&answer, &[(1, 1), (2, 2)]);
        assert_eq!((pairs.n_tasks, pairs.n), (1, 2));
        assert_eq!((pairs.percent(1), pairs.percent(2)), (Some(75.0), None));
    }
}
