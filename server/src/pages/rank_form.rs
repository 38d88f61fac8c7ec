//! The fields of the labeling page's form: `rank-2=1` (or `cannot`), `rating-2=6`, `scale-2-truthful=3`,
//! `flag-2-hallucination=yes`, `note-2`, of a comparison `preference=2-4` (the second is far better) or
//! `tie`; `all_bad`, `note`, `revision`, `action` (save, submit or skip), `confirmed`, `replaces`,
//! `active_ms`, `idle_ms`, and for skipping `reason` and `skip_note`.

use crate::domain::ranking::{CandidateInput, RankingInput};
use crate::domain::submission::TimeSpent;
use crate::error::FieldError;
use crate::message::Message;

/// The form as it was sent.
#[derive(Debug, serde::Deserialize)]
pub struct RankForm(Vec<(String, String)>);

/// Which version a submission corrects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaces {
    /// None: it is the first.
    Nothing,
    /// This one.
    Version(i32),
    /// Whichever is there: the labeler saw that another window submitted, and wants this instead.
    Newest,
}

impl RankForm {
    /// The value of a field; empty where it was not sent.
    pub fn get(&self, name: &str) -> &str {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map_or("", |(_, value)| value)
    }

    /// The revision of the draft that the page showed.
    pub fn revision(&self) -> Option<i64> {
        self.get("revision").parse().ok()
    }

    /// The version that is corrected.
    pub fn replaces(&self) -> Replaces {
        match self.get("replaces") {
            "newest" => Replaces::Newest,
            version => version.parse().map_or(Replaces::Nothing, Replaces::Version),
        }
    }

    /// How the time in the task was spent, where a script counted it.
    pub fn time(&self) -> TimeSpent {
        TimeSpent {
            active_ms: self.get("active_ms").parse().unwrap_or(0),
            idle_ms: self.get("idle_ms").parse().unwrap_or(0),
        }
    }

    /// What the labeler said so far: an entry for each of the `n` candidates, in the order shown.
    ///
    /// # Errors
    /// Every field that cannot be read.
    pub fn input(&self, n: usize) -> Result<RankingInput, Vec<FieldError>> {
        let candidates = (1..=n).map(|position| CandidateInput {
            position,
            ..Default::default()
        });
        let mut input = RankingInput {
            candidates: candidates.collect(),
            all_bad: !self.get("all_bad").is_empty(),
            note: self.get("note").to_owned(),
            ..Default::default()
        };
        let mut errors = Vec::new();
        for (key, value) in self.0.iter().filter(|(_, value)| !value.is_empty()) {
            if let Err(message) = read(&mut input, key, value) {
                errors.push(FieldError::new(key, message));
            }
        }
        match errors.is_empty() {
            true => Ok(input),
            false => Err(errors),
        }
    }
}

/// Reads one field into what was said; those that say nothing of the candidates are passed over.
fn read(input: &mut RankingInput, key: &str, value: &str) -> Result<(), Message> {
    let unreadable = || Message::new("error-unreadable");
    if key == "preference" {
        return read_preference(input, value).ok_or_else(unreadable);
    }
    let mut parts = key.splitn(3, '-');
    let (kind, position, name) = (parts.next().unwrap_or(""), parts.next(), parts.next());
    if !matches!(kind, "rank" | "rating" | "scale" | "flag")
        && (kind != "note" || position.is_none())
    {
        return Ok(());
    }
    let index = position
        .and_then(|text| text.parse::<usize>().ok())
        .and_then(|position| position.checked_sub(1));
    let item = index
        .and_then(|index| input.candidates.get_mut(index))
        .ok_or_else(|| Message::new("error-no-such-candidate"))?;
    match (kind, name, value.parse::<i16>(), value) {
        ("rank", None, _, "cannot") => item.cannot_judge = true,
        ("rank", None, Ok(rank), _) => item.rank = Some(rank),
        ("rating", None, Ok(rating), _) => item.rating = Some(rating),
        ("scale", Some(scale), Ok(answer), _) => {
            item.scales.insert(scale.to_owned(), answer);
        }
        ("flag", Some(flag), _, "yes" | "no") => {
            item.flags.insert(flag.to_owned(), value == "yes");
        }
        ("note", None, _, note) => item.note = note.to_owned(),
        _ => return Err(unreadable()),
    }
    Ok(())
}

/// Of two candidates: which is better and how much, as ranks and a strength.
fn read_preference(input: &mut RankingInput, value: &str) -> Option<()> {
    let [first, second] = input.candidates.as_mut_slice() else {
        return None;
    };
    if value == "tie" {
        (first.rank, second.rank) = (Some(1), Some(1));
        return Some(());
    }
    let (better, strength) = value.split_once('-')?;
    (first.rank, second.rank) = match better {
        "1" => (Some(1), Some(2)),
        "2" => (Some(2), Some(1)),
        _ => return None,
    };
    input.strength = Some(strength.parse().ok()?);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(fields: &[(&str, &str)]) -> RankForm {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        RankForm(fields.iter().map(own).collect())
    }

    #[test]
    fn every_candidate_has_an_entry_and_unanswered_stays_unanswered() {
        let sent = form(&[
            ("rank-2", "1"),
            ("rating-2", "6"),
            ("flag-1-hallucination", "no"),
            ("flag-2-hallucination", ""),
            ("note", "hm"),
            ("revision", "7"),
        ]);
        let input = sent.input(2).expect("readable");
        assert!(!input.candidates[0].flags["hallucination"]);
        assert_eq!(input.candidates[0].rank, None);
        assert_eq!(input.candidates[1].rank, Some(1));
        assert_eq!(input.candidates[1].rating, Some(6));
        assert!(input.candidates[1].flags.is_empty());
        assert_eq!((input.note.as_str(), sent.revision()), ("hm", Some(7)));
    }

    #[test]
    fn whatever_can_be_said_of_a_candidate_is_read() {
        let sent = form(&[
            ("rank-1", "cannot"),
            ("scale-2-truthful", "3"),
            ("note-2", "too long"),
            ("all_bad", "on"),
            ("active_ms", "1500"),
            ("replaces", "2"),
        ]);
        let input = sent.input(2).expect("readable");
        assert!(input.candidates[0].cannot_judge && input.all_bad);
        assert_eq!(input.candidates[1].scales["truthful"], 3);
        assert_eq!(input.candidates[1].note, "too long");
        assert_eq!(sent.time().active_ms, 1500);
        assert_eq!(sent.replaces(), Replaces::Version(2));
        assert_eq!(form(&[("replaces", "newest")]).replaces(), Replaces::Newest);
        assert_eq!(form(&[("replaces", "")]).replaces(), Replaces::Nothing);
    }

    #[test]
    fn a_preference_is_two_ranks_and_a_strength_and_a_tie_has_none() {
        let said = |value: &str| {
            let input = form(&[("preference", value)]).input(2).expect("readable");
            (
                input.candidates[0].rank,
                input.candidates[1].rank,
                input.strength,
            )
        };
        assert_eq!(said("1-4"), (Some(1), Some(2), Some(4)));
        assert_eq!(said("2-1"), (Some(2), Some(1), Some(1)));
        assert_eq!(said("tie"), (Some(1), Some(1), None));
        assert_eq!(said(""), (None, None, None));
    }

    #[test]
    fn fields_that_cannot_be_read_are_named() {
        let sent = form(&[
            ("rank-3", "1"),
            ("rank-0", "1"),
            ("rating-1", "good"),
            ("flag-1", "yes"),
            ("scale-1-truthful", "very"),
            ("note-1-x", "y"),
            ("preference", "3-1"),
        ]);
        let errors = sent.input(2).expect_err("unreadable");
        let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        let wrong = [
            "rank-3",
            "rank-0",
            "rating-1",
            "flag-1",
            "scale-1-truthful",
            "note-1-x",
            "preference",
        ];
        assert_eq!(fields, wrong);
        assert!(form(&[("preference", "tie")]).input(4).is_err());
    }
}
