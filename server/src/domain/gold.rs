//! What is known to be right of a task, and how far a labeler agrees with it.
//!
//! Only what is known counts. Of ranks: each pair of candidates that the answer orders strictly. A labeler
//! who orders it the same way agrees, one who ties it half agrees, one who orders it the other way does not;
//! pairs that the answer ties are left out, since nobody is asked to tie. Of flags: each flag that the answer
//! sets, yes or no. What a labeler left open is counted apart: whether that is a fault depends on who asks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::form::Form;
use crate::domain::ranking::RankingInput;
use crate::error::FieldError;
use crate::message::Message;

/// What is known, or was said, of one candidate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The candidate's slot.
    pub slot: i16,
    /// 1 is best; equal ranks are ties.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<i16>,
    /// Answered flags only.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub flags: BTreeMap<String, bool>,
}

/// What is known to be right of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldAnswer {
    /// Candidates of which something is known, by slot.
    pub candidates: Vec<Facts>,
}

impl GoldAnswer {
    /// What a form says is known of candidates in the order of their slots, right or wrong.
    pub fn typed(input: &RankingInput) -> Self {
        let known = input.candidates.iter().filter_map(|item| {
            let slot = i16::try_from(item.position).ok()?.checked_sub(1)?;
            (item.rank.is_some() || !item.flags.is_empty()).then(|| Facts {
                slot,
                rank: item.rank,
                flags: item.flags.clone(),
            })
        });
        Self {
            candidates: known.collect(),
        }
    }

    /// The same of `n` candidates, if it can be held against what labelers say.
    ///
    /// # Errors
    /// Every wrong field; `candidates` where nothing is known that a labeler could agree with.
    pub fn of_input(input: &RankingInput, n: usize, form: &Form) -> Result<Self, Vec<FieldError>> {
        let complaints = input.complaints(n, form);
        if !complaints.is_empty() {
            return Err(complaints);
        }
        let answer = Self::typed(input);
        if answer.n_pairs() + answer.n_flags() == 0 {
            let message = Message::new("error-gold-empty");
            return Err(vec![FieldError::new("candidates", message)]);
        }
        Ok(answer)
    }

    /// Pairs that it orders strictly, the better one first, by slots.
    fn pairs(&self) -> impl Iterator<Item = (i16, i16)> + '_ {
        self.candidates.iter().flat_map(move |better| {
            let worse = self.candidates.iter().filter(move |worse| {
                matches!((better.rank, worse.rank), (Some(own), Some(other)) if own < other)
            });
            worse.map(move |worse| (better.slot, worse.slot))
        })
    }

    /// How many pairs it orders strictly.
    pub fn n_pairs(&self) -> usize {
        self.pairs().count()
    }

    /// How many flags it sets.
    pub fn n_flags(&self) -> usize {
        self.candidates.iter().map(|known| known.flags.len()).sum()
    }

    /// What it says of a slot.
    pub fn of_slot(&self, slot: i16) -> Option<&Facts> {
        self.candidates.iter().find(|known| known.slot == slot)
    }

    /// How far a labeler agrees with it.
    pub fn score(&self, said: &[Facts]) -> GoldScore {
        let of = |slot: i16| said.iter().find(|facts| facts.slot == slot);
        let rank = |slot: i16| of(slot).and_then(|facts| facts.rank);
        let mut score = GoldScore::default();
        for (better, worse) in self.pairs() {
            score.ranks.count(match (rank(better), rank(worse)) {
                (Some(better), Some(worse)) => Some(match better.cmp(&worse) {
                    std::cmp::Ordering::Less => 1.0,
                    std::cmp::Ordering::Equal => 0.5,
                    std::cmp::Ordering::Greater => 0.0,
                }),
                _ => None,
            });
        }
        for known in &self.candidates {
            for (key, value) in &known.flags {
                let answer = of(known.slot).and_then(|facts| facts.flags.get(key));
                score
                    .flags
                    .count(answer.map(|answer| f64::from(answer == value)));
            }
        }
        score
    }
}

/// How many things that are known a labeler agreed with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Agreements; a tie where the answer has none is half of one.
    pub agreed: f64,
    /// Things that are known and that the labeler answered.
    pub n: u32,
    /// Things that are known and that the labeler left open.
    pub n_open: u32,
}

impl Tally {
    /// One more thing: how far the labeler agrees, none where they left it open.
    fn count(&mut self, agreed: Option<f64>) {
        match agreed {
            Some(agreed) => {
                self.agreed += agreed;
                self.n += 1;
            }
            None => self.n_open += 1,
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            agreed: self.agreed + other.agreed,
            n: self.n + other.n,
            n_open: self.n_open + other.n_open,
        }
    }

    /// Share of the answered that agree, 0 to 1; none where nothing was answered.
    pub fn share(&self) -> Option<f64> {
        (self.n > 0).then(|| self.agreed / f64::from(self.n))
    }

    /// Share of all that agree, 0 to 1, so that nobody gains by leaving the hard ones open; none where
    /// nothing is known.
    pub fn share_of_all(&self) -> Option<f64> {
        let all = self.n + self.n_open;
        (all > 0).then(|| self.agreed / f64::from(all))
    }

    /// As if everything that was answered had been left open too: of a task that was skipped.
    #[must_use]
    pub fn all_open(self) -> Self {
        Self {
            agreed: 0.0,
            n: 0,
            n_open: self.n + self.n_open,
        }
    }
}

/// How far a labeler agrees with what is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct GoldScore {
    /// Pairs of candidates.
    pub ranks: Tally,
    /// Flags.
    pub flags: Tally,
}

impl GoldScore {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            ranks: self.ranks.plus(other.ranks),
            flags: self.flags.plus(other.flags),
        }
    }
}

impl std::iter::Sum for GoldScore {
    fn sum<I: Iterator<Item = Self>>(scores: I) -> Self {
        scores.fold(Self::default(), Self::plus)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::domain::ranking::CandidateInput;

    fn facts(ranks: &[Option<i16>]) -> Vec<Facts> {
        let of = |(slot, rank): (i16, &Option<i16>)| Facts {
            slot,
            rank: *rank,
            ..Default::default()
        };
        (0..).zip(ranks).map(of).collect()
    }

    fn gold(ranks: &[Option<i16>]) -> GoldAnswer {
        GoldAnswer {
            candidates: facts(ranks),
        }
    }

    #[test]
    fn a_pair_counts_where_the_answer_is_strict_and_a_tie_agrees_by_half() {
        // Known: 0 before 1 and 2, which are tied; nothing of 3. So two pairs.
        let answer = gold(&[Some(1), Some(2), Some(2), None]);
        assert_eq!(answer.n_pairs(), 2);
        let ranks = |said: &[Option<i16>]| answer.score(&facts(said)).ranks;
        let right = ranks(&[Some(1), Some(3), Some(2), Some(1)]);
        assert_eq!((right.agreed, right.n, right.n_open), (2.0, 2, 0));
        let half = ranks(&[Some(2), Some(2), Some(1), Some(1)]);
        assert_eq!((half.agreed, half.n), (0.5, 2));
        assert_eq!(half.share(), Some(0.25));
        // What could not be judged is open: of the answered all are right, of all one half.
        let open = ranks(&[Some(1), None, Some(2), Some(3)]);
        assert_eq!((open.agreed, open.n, open.n_open), (1.0, 1, 1));
        assert_eq!((open.share(), open.share_of_all()), (Some(1.0), Some(0.5)));
        assert_eq!(right.all_open().share_of_all(), Some(0.0));
        assert_eq!(Tally::default().share(), None);
    }

    #[test]
    fn only_flags_that_are_known_count_and_unanswered_is_not_no() {
        let flags = |pairs: &[(&str, bool)]| -> BTreeMap<String, bool> {
            pairs
                .iter()
                .map(|(key, on)| ((*key).to_owned(), *on))
                .collect()
        };
        let mut answer = gold(&[None, None]);
        answer.candidates[1].flags = flags(&[("a", true), ("b", false), ("c", false)]);
        assert_eq!((answer.n_pairs(), answer.n_flags()), (0, 3));
        let mut said = facts(&[Some(1), Some(2)]);
        said[0].flags = flags(&[("a", true), ("c", true)]);
        said[1].flags = flags(&[("a", true), ("c", true), ("d", true)]);
        let score = answer.score(&said).flags;
        assert_eq!((score.agreed, score.n, score.n_open), (1.0, 2, 1));
    }

    #[test]
    fn an_answer_that_knows_nothing_is_refused_and_one_rank_alone_is_nothing() {
        let form = Form::default();
        let mut input = RankingInput::default();
        for position in 1..=4 {
            input.candidates.push(CandidateInput {
                position,
                ..Default::default()
            });
        }
        let fields = |input: &RankingInput| {
            let refused = GoldAnswer::of_input(input, 4, &form).unwrap_err();
            refused
                .into_iter()
                .map(|error| error.field)
                .collect::<Vec<_>>()
        };
        assert_eq!(fields(&input), ["candidates"]);
        input.candidates[2].rank = Some(1);
        assert_eq!(fields(&input), ["candidates"]);
        input.candidates[3].rank = Some(9);
        assert_eq!(fields(&input), ["candidates[3].rank"]);
        input.candidates[3].rank = Some(2);
        let answer = GoldAnswer::of_input(&input, 4, &form).unwrap();
        let slots: Vec<i16> = answer.candidates.iter().map(|known| known.slot).collect();
        assert_eq!((slots, answer.n_pairs()), (vec![2, 3], 1));
        let json = serde_json::to_value(&answer).unwrap();
        assert_eq!(
            json["candidates"][0],
            serde_json::json!({"slot": 2, "rank": 1})
        );
        assert_eq!(serde_json::from_value::<GoldAnswer>(json).unwrap(), answer);
    }

    #[test]
    fn scores_add_up_over_tasks() {
        let answer = gold(&[Some(1), Some(2)]);
        let scores =
            [[1, 2], [2, 1], [1, 1]].map(|[a, b]| answer.score(&facts(&[Some(a), Some(b)])));
        let sum: GoldScore = scores.into_iter().sum();
        assert_eq!((sum.ranks.agreed, sum.ranks.n), (1.5, 3));
    }
}
