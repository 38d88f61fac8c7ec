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

/// Longest note of a candidate, in characters.
pub const LONGEST_CANDIDATE_NOTE: usize = 1000;

/// How much better the preferred one of two is: 1 barely, 2 slightly, 3 clearly, 4 far better.
pub const STRENGTHS: std::ops::RangeInclusive<i16> = 1..=4;

/// One candidate's part of a submission or draft; what is not answered is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CandidateInput {
    /// Place of the candidate on the page, 1 for the first shown.
    pub position: usize,
    /// 1 is best; equal ranks are ties.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<i16>,
    /// The labeler cannot say where this one belongs; it then has no rank.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cannot_judge: bool,
    /// Overall quality, 1 to 7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rating: Option<i16>,
    /// Answers to the form's further scales.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scales: BTreeMap<String, i16>,
    /// Answered flags only.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub flags: BTreeMap<String, bool>,
    /// Anything to say of this candidate.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// A ranking as it comes in, as a submission or a draft.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RankingInput {
    /// One entry for each candidate.
    #[serde(default)]
    pub candidates: Vec<CandidateInput>,
    /// Of a comparison of two: how much better the preferred one is, 1 (barely) to 4 (far).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strength: Option<i16>,
    /// None of the candidates is any good. Ranks may then be left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all_bad: bool,
    /// Anything the labeler wants to add.
    #[serde(default)]
    pub note: String,
}

/// A candidate's judgement, by its slot in storage.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// The candidate's slot.
    pub slot: i16,
    /// 1 is best, without gaps: ranks 1, 1, 3 as typed become 1, 1, 2. None where the labeler could
    /// not judge it.
    pub rank: Option<i16>,
    /// Overall quality, 1 to 7, where it was given.
    pub rating: Option<i16>,
    /// Answered further scales only.
    pub scales: BTreeMap<String, i16>,
    /// Answered flags only.
    pub flags: BTreeMap<String, bool>,
    /// Anything the labeler said of it.
    pub note: String,
}

/// A weak order with its ratings, complete but for candidates that could not be judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranking {
    /// One judgement for each candidate, in slot order.
    pub judgements: Vec<Judgement>,
    /// How much better the preferred one of two is.
    pub strength: Option<i16>,
    /// None of the candidates is any good.
    pub is_all_bad: bool,
    /// The ranks are the order shown, first to last.
    pub is_untouched: bool,
    /// Anything the labeler wanted to add.
    pub note: String,
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
            for (key, value) in &item.scales {
                let field = at(&format!("scales.{key}"));
                match form.scale(key) {
                    None => complain(field, Message::new("error-no-such-scale")),
                    Some(scale) if !(scale.min..=scale.max).contains(value) => {
                        let message = Message::new("error-outside");
                        complain(
                            field,
                            message.with("low", scale.min).with("high", scale.max),
                        );
                    }
                    Some(_) => (),
                }
            }
            for key in item.flags.keys().filter(|key| !form.has_flag(key)) {
                let field = at(&format!("flags.{key}"));
                complain(field, Message::new("error-no-such-flag"));
            }
            if item.rank.is_some() && item.cannot_judge {
                complain(at("rank"), Message::new("error-rank-or-cannot-judge"));
            }
            if item.note.chars().count() > LONGEST_CANDIDATE_NOTE {
                let message = Message::new("error-longer-than");
                complain(at("note"), message.with("most", LONGEST_CANDIDATE_NOTE));
            }
        }
        if let Some(strength) = self.strength {
            let (low, high) = (*STRENGTHS.start(), *STRENGTHS.end());
            if n != 2 {
                complain("strength".to_owned(), Message::new("error-strength-of-two"));
            } else if !STRENGTHS.contains(&strength) {
                let message = Message::new("error-outside").with("low", low);
                complain("strength".to_owned(), message.with("high", high));
            }
        }
        if self.note.chars().count() > LONGEST_NOTE {
            let message = Message::new("error-longer-than").with("most", LONGEST_NOTE);
            complain("note".to_owned(), message);
        }
        errors
    }

    /// The ranking, if every candidate has a rank or cannot be judged, or all are bad. `display_order`
    /// holds slots as shown.
    ///
    /// # Errors
    /// Every wrong or missing field.
    pub fn parse(&self, display_order: &[i16], form: &Form) -> Result<Ranking, Vec<FieldError>> {
        let n = display_order.len();
        let mut errors = self.complaints(n, form);
        errors.extend(self.missing(n));
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
        let close_gaps =
            |rank: i16| used.iter().take_while(|other| **other < rank).count() as i16 + 1;
        let mut judgements: Vec<Judgement> = self
            .candidates
            .iter()
            .map(|item| Judgement {
                slot: display_order[item.position - 1],
                rank: item.rank.map(close_gaps),
                rating: item.rating,
                scales: item.scales.clone(),
                flags: item.flags.clone(),
                note: item.note.trim().to_owned(),
            })
            .collect();
        judgements.sort_by_key(|judgement| judgement.slot);
        Ok(Ranking {
            judgements,
            strength: self.strength,
            is_all_bad: self.all_bad,
            is_untouched: self.is_untouched(n),
            note: self.note.trim().to_owned(),
        })
    }

    /// Whether the ranks of all `n` candidates are 1, 2, 3 ... in the order shown. Of two candidates
    /// half of all answers are.
    pub fn is_untouched(&self, n: usize) -> bool {
        let as_shown = |item: &CandidateInput| item.rank == i16::try_from(item.position).ok();
        n > 2 && self.candidates.len() == n && self.candidates.iter().all(as_shown)
    }

    /// Where ranks and overall ratings contradict each other: positions (better, worse) of candidates
    /// of which the one that is ranked better is rated lower.
    pub fn contradictions(&self) -> Vec<(usize, usize)> {
        let judged = |item: &CandidateInput| Some((item.position, item.rank?, item.rating?));
        let judged: Vec<_> = self.candidates.iter().filter_map(judged).collect();
        let mut found = Vec::new();
        for (better, rank, rating) in &judged {
            for (worse, lower, other) in &judged {
                if rank < lower && rating < other {
                    found.push((*better, *worse));
                }
            }
        }
        found
    }

    /// What a submission needs and this has not.
    fn missing(&self, n: usize) -> Vec<FieldError> {
        let mut errors = Vec::new();
        for position in 1..=n {
            let entry = self
                .candidates
                .iter()
                .enumerate()
                .find(|(_, item)| item.position == position);
            match entry {
                Some((_, item)) if item.rank.is_some() || item.cannot_judge || self.all_bad => (),
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
        let ranks: Vec<i16> = self
            .candidates
            .iter()
            .filter_map(|item| item.rank)
            .collect();
        if errors.is_empty() && ranks.len() < 2 && !self.all_bad {
            let message = Message::new("error-two-ranks");
            errors.push(FieldError::new("candidates", message));
        }
        if n == 2 && errors.is_empty() {
            let is_strict = ranks.len() == 2 && ranks[0] != ranks[1];
            match self.strength {
                None if is_strict => {
                    let message = Message::new("error-needs-strength");
                    errors.push(FieldError::new("strength", message));
                }
                Some(_) if !is_strict => {
                    let message = Message::new("error-strength-of-tie");
                    errors.push(FieldError::new("strength", message));
                }
                _ => (),
            }
        }
        errors
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
            ..Default::default()
        }
    }

    #[test]
    fn positions_become_slots_and_gaps_close() {
        let ranking = input(&[4, 1, 1, 2])
            .parse(&[2, 0, 3, 1], &Form::default())
            .unwrap();
        let ranks: Vec<(i16, Option<i16>)> = ranking
            .judgements
            .iter()
            .map(|item| (item.slot, item.rank))
            .collect();
        assert_eq!(
            ranks,
            [(0, Some(1)), (1, Some(2)), (2, Some(3)), (3, Some(1))]
        );
        assert!(!ranking.is_untouched);
        let as_shown = input(&[1, 2, 3, 4]).parse(&[2, 0, 3, 1], &Form::default());
        assert!(as_shown.unwrap().is_untouched);
    }

    #[test]
    fn a_better_rank_with_a_lower_rating_is_a_contradiction_and_a_tie_or_a_missing_rating_is_none()
    {
        let mut said = input(&[1, 2, 2, 3]);
        for (item, rating) in said
            .candidates
            .iter_mut()
            .zip([Some(4), Some(6), Some(3), None])
        {
            item.rating = rating;
        }
        assert_eq!(said.contradictions(), [(1, 2)]);
        said.candidates[3].rating = Some(4);
        assert_eq!(said.contradictions(), [(1, 2), (3, 4)]);
        said.candidates[0].rank = None;
        assert_eq!(said.contradictions(), [(3, 4)]);
    }

    #[test]
    fn a_candidate_that_cannot_be_judged_has_no_rank() {
        let order = [2, 0, 3, 1];
        let mut partial = input(&[1, 2, 2, 4]);
        partial.candidates[3].rank = None;
        partial.candidates[3].cannot_judge = true;
        let ranking = partial.parse(&order, &Form::default()).unwrap();
        let ranks: Vec<Option<i16>> = ranking.judgements.iter().map(|item| item.rank).collect();
        assert_eq!(ranks, [Some(2), None, Some(1), Some(2)]);
        partial.candidates[3].rank = Some(3);
        let errors = partial.parse(&order, &Form::default()).unwrap_err();
        assert_eq!(errors[0].field, "candidates[3].rank");
        let mut alone = input(&[1, 1, 1, 1]);
        for item in &mut alone.candidates[1..] {
            item.rank = None;
            item.cannot_judge = true;
        }
        let errors = alone.parse(&order, &Form::default()).unwrap_err();
        assert_eq!(errors[0].field, "candidates");
        alone.candidates[0].rank = None;
        alone.all_bad = true;
        let ranking = alone.parse(&order, &Form::default()).unwrap();
        assert!(ranking.is_all_bad && ranking.judgements.iter().all(|item| item.rank.is_none()));
    }

    #[test]
    fn a_preference_between_two_says_how_strong_it_is_and_a_tie_does_not() {
        let form = Form::default();
        let fields = |input: &RankingInput| match input.parse(&[1, 0], &form) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.into_iter().map(|error| error.field).collect(),
        };
        let mut two = input(&[1, 2]);
        assert_eq!(fields(&two), ["strength"]);
        two.strength = Some(5);
        assert_eq!(fields(&two), ["strength"]);
        two.strength = Some(4);
        assert!(fields(&two).is_empty());
        two.candidates[1].rank = Some(1);
        assert_eq!(fields(&two), ["strength"]);
        two.strength = None;
        assert!(fields(&two).is_empty());
        let mut four = input(&[1, 2, 3, 4]);
        four.strength = Some(1);
        let errors = four.parse(&[0, 1, 2, 3], &form).unwrap_err();
        assert_eq!(errors[0].field, "strength");
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
        fn a_ranking_orders_every_two_as_they_were_ranked(ranks in proptest::collection::vec(1_i16..5, 4..=9)) {
            let order: Vec<i16> = (0..ranks.len() as i16).collect();
            let ranking = input(&ranks).parse(&order, &Form::default()).unwrap();
            prop_assert_eq!(ranking.judgements.len(), ranks.len());
            for (a, first) in ranking.judgements.iter().zip(&ranks) {
                for (b, second) in ranking.judgements.iter().zip(&ranks) {
                    prop_assert_eq!(a.rank.cmp(&b.rank), first.cmp(second));
                }
            }
        }
    }
}
