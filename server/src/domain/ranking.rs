//! What a labeler says of a task's candidates, parsed from a form or from JSON: a ranking with its
//! ratings, valid by construction.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::form::Form;
use crate::error::FieldError;
use crate::message::Message;

/// Fewest and most candidates of a ranking task (InstructGPT: 4 to 9).
pub const CANDIDATES: std::ops::RangeInclusive<usize> = 4..=9;

/// Longest note, in characters.
pub const LONGEST_NOTE: usize = 4000;

/// One candidate's part of a submission or draft; what is not answered is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CandidateInput {
    /// Place of the candidate on the page, 1 for the first shown.
    pub position: usize,
    /// 1 is best; equal ranks are ties.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<i16>,
    /// Overall quality, 1 to 7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rating: Option<i16>,
    /// Answered flags only.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub flags: BTreeMap<String, bool>,
}

/// A submission or draft as it comes in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RankingInput {
    /// One entry for each candidate.
    #[serde(default)]
    pub candidates: Vec<CandidateInput>,
    /// Anything the labeler wants to add.
    #[serde(default)]
    pub note: String,
}

/// A candidate's judgement, by its slot in storage.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// The candidate's slot.
    pub slot: i16,
    /// 1 is best, without gaps: ranks 1, 1, 3 as typed become 1, 1, 2.
    pub rank: i16,
    /// Overall quality, 1 to 7, where it was given.
    pub rating: Option<i16>,
    /// Answered flags only.
    pub flags: BTreeMap<String, bool>,
}

/// A complete weak order with its ratings.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranking {
    /// One judgement for each candidate, in slot order.
    pub judgements: Vec<Judgement>,
    /// Anything the labeler wanted to add.
    pub note: String,
}

/// A pair derived from a ranking, by slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comparison {
    /// The better one; for a tie the one with the lower slot.
    pub preferred: i16,
    /// The other one.
    pub other: i16,
    /// Whether both have the same rank.
    pub is_tie: bool,
}

impl RankingInput {
    /// Checks everything but completeness, which only a submission needs. Fields are named as in the
    /// JSON: `candidates[0].rank` is of the first entry, whatever its position.
    pub fn complaints(&self, n: usize, form: &Form) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut complain = |field: String, message: Message| {
            errors.push(FieldError::new(field, message));
        };
        let mut seen = vec![false; n];
        for (index, item) in self.candidates.iter().enumerate() {
            let at = |name: &str| format!("candidates[{index}].{name}");
            match item
                .position
                .checked_sub(1)
                .and_then(|position| seen.get_mut(position))
            {
                Some(seen) if !*seen => *seen = true,
                Some(_) => complain(at("position"), Message::new("error-comes-twice")),
                None => complain(at("position"), Message::new("error-no-such-candidate")),
            }
            if item.rank.is_some_and(|rank| rank < 1 || rank as usize > n) {
                let message = Message::new("error-outside").with("low", 1).with("high", n);
                complain(at("rank"), message);
            }
            let (low, high) = (form.overall.min, form.overall.max);
            if item
                .rating
                .is_some_and(|rating| !(low..=high).contains(&rating))
            {
                let message = Message::new("error-outside");
                complain(at("rating"), message.with("low", low).with("high", high));
            }
            for key in item.flags.keys().filter(|key| !form.has_flag(key)) {
                let field = at(&format!("flags.{key}"));
                complain(field, Message::new("error-no-such-flag"));
            }
        }
        if self.note.chars().count() > LONGEST_NOTE {
            let message = Message::new("error-longer-than").with("most", LONGEST_NOTE);
            complain("note".to_owned(), message);
        }
        errors
    }

    /// The ranking, if every candidate has a rank. `display_order` holds slots as shown.
    ///
    /// # Errors
    /// Every wrong or missing field.
    pub fn parse(&self, display_order: &[i16], form: &Form) -> Result<Ranking, Vec<FieldError>> {
        let n = display_order.len();
        let mut errors = self.complaints(n, form);
        for position in 1..=n {
            let entry = self
                .candidates
                .iter()
                .enumerate()
                .find(|(_, item)| item.position == position);
            match entry {
                Some((_, item)) if item.rank.is_some() => (),
                Some((index, _)) => {
                    let field = format!("candidates[{index}].rank");
                    errors.push(FieldError::new(field, Message::new("error-needs-rank")));
                }
                None => {
                    let message = Message::new("error-no-entry").with("position", position);
                    errors.push(FieldError::new("candidates", message));
                }
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let mut used: Vec<i16> = self
            .candidates
            .iter()
            .filter_map(|item| item.rank)
            .collect();
        used.sort_unstable();
        used.dedup();
        let mut judgements: Vec<Judgement> = self
            .candidates
            .iter()
            .map(|item| Judgement {
                slot: display_order[item.position - 1],
                rank: used
                    .iter()
                    .position(|rank| Some(*rank) == item.rank)
                    .map_or(1, |index| index as i16 + 1),
                rating: item.rating,
                flags: item.flags.clone(),
            })
            .collect();
        judgements.sort_by_key(|judgement| judgement.slot);
        Ok(Ranking {
            judgements,
            note: self.note.trim().to_owned(),
        })
    }
}

impl Ranking {
    /// All C(K, 2) pairs.
    pub fn comparisons(&self) -> Vec<Comparison> {
        let mut pairs = Vec::new();
        for (index, first) in self.judgements.iter().enumerate() {
            for second in &self.judgements[index + 1..] {
                let (preferred, other) = if second.rank < first.rank {
                    (second, first)
                } else {
                    (first, second)
                };
                pairs.push(Comparison {
                    preferred: preferred.slot,
                    other: other.slot,
                    is_tie: first.rank == second.rank,
                });
            }
        }
        pairs
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use proptest::prelude::*;

    use super::*;

    fn input(ranks: &[i16]) -> RankingInput {
        let candidates = ranks
            .iter()
            .enumerate()
            .map(|(index, rank)| CandidateInput {
                position: index + 1,
                rank: Some(*rank),
                ..Default::default()
            })
            .collect();
        RankingInput {
            candidates,
            note: String::new(),
        }
    }

    #[test]
    fn positions_become_slots_and_gaps_close() {
        let ranking = input(&[4, 1, 1, 2])
            .parse(&[2, 0, 3, 1], &Form::default())
            .unwrap();
        let ranks: Vec<(i16, i16)> = ranking
            .judgements
            .iter()
            .map(|item| (item.slot, item.rank))
            .collect();
        assert_eq!(ranks, [(0, 1), (1, 2), (2, 3), (3, 1)]);
    }

    #[test]
    fn every_missing_rank_and_wrong_field_is_named() {
        let mut wrong = input(&[1, 9, 2, 1]);
        wrong.candidates[0].rating = Some(8);
        wrong.candidates[2]
            .flags
            .insert("nonsense".to_owned(), true);
        wrong.candidates[3].rank = None;
        let errors = wrong.parse(&[0, 1, 2, 3], &Form::default()).unwrap_err();
        let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "candidates[0].rating",
                "candidates[1].rank",
                "candidates[2].flags.nonsense",
                "candidates[3].rank"
            ]
        );
    }

    #[test]
    fn a_field_is_named_by_its_place_in_the_json_and_a_missing_entry_by_its_position() {
        let mut turned = input(&[1, 2, 3, 4]);
        turned.candidates.reverse();
        turned.candidates[0].rank = None;
        turned.candidates.pop();
        let errors = turned.parse(&[0, 1, 2, 3], &Form::default()).unwrap_err();
        let said: Vec<String> = errors
            .iter()
            .map(|error| format!("{}: {}", error.field, error.message))
            .collect();
        assert_eq!(
            said,
            [
                "candidates: has no entry for position 1",
                "candidates[0].rank: needs a rank; equal ranks are ties"
            ]
        );
    }

    proptest! {
        #[test]
        fn a_ranking_has_all_pairs_and_each_agrees_with_the_ranks(ranks in proptest::collection::vec(1_i16..5, 4..=9)) {
            let order: Vec<i16> = (0..ranks.len() as i16).collect();
            let ranking = input(&ranks).parse(&order, &Form::default()).unwrap();
            let pairs = ranking.comparisons();
            prop_assert_eq!(pairs.len(), ranks.len() * (ranks.len() - 1) / 2);
            for pair in pairs {
                let (a, b) = (ranks[pair.preferred as usize], ranks[pair.other as usize]);
                prop_assert_eq!(pair.is_tie, a == b);
                prop_assert!(a <= b);
            }
        }
    }
}
