//! The fields of the ranking page's form: `rank-2=1`, `rating-2=6`, `flag-2-hallucination=yes`,
//! `note`, `revision`, `action` (save, submit or skip), and for skipping `reason` and `skip_note`.

use crate::domain::ranking::{CandidateInput, RankingInput};
use crate::error::FieldError;
use crate::message::Message;

/// The form as it was sent.
#[derive(Debug, serde::Deserialize)]
pub struct RankForm(Vec<(String, String)>);

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

    /// What the labeler said so far: an entry for each of the `n` candidates, in the order shown.
    ///
    /// # Errors
    /// Every field that cannot be read.
    pub fn input(&self, n: usize) -> Result<RankingInput, Vec<FieldError>> {
        let mut candidates: Vec<CandidateInput> = (1..=n)
            .map(|position| CandidateInput {
                position,
                ..Default::default()
            })
            .collect();
        let mut errors = Vec::new();
        for (key, value) in self.0.iter().filter(|(_, value)| !value.is_empty()) {
            let mut parts = key.splitn(3, '-');
            let (kind, position) = (parts.next().unwrap_or(""), parts.next());
            if !matches!(kind, "rank" | "rating" | "flag") {
                continue;
            }
            let index = position
                .and_then(|text| text.parse::<usize>().ok())
                .and_then(|position| position.checked_sub(1));
            let Some(item) = index.and_then(|index| candidates.get_mut(index)) else {
                let message = Message::new("error-no-such-candidate");
                errors.push(FieldError::new(key, message));
                continue;
            };
            match (kind, value.parse::<i16>(), value.as_str(), parts.next()) {
                ("rank", Ok(rank), _, None) => item.rank = Some(rank),
                ("rating", Ok(rating), _, None) => item.rating = Some(rating),
                ("flag", _, "yes" | "no", Some(flag)) => {
                    item.flags.insert(flag.to_owned(), value == "yes");
                }
                _ => errors.push(FieldError::new(key, Message::new("error-unreadable"))),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(RankingInput {
            candidates,
            note: self.get("note").to_owned(),
            ..Default::default()
        })
    }
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
    fn fields_that_cannot_be_read_are_named() {
        let sent = form(&[
            ("rank-3", "1"),
            ("rank-0", "1"),
            ("rating-1", "good"),
            ("flag-1", "yes"),
        ]);
        let errors = sent.input(2).expect_err("unreadable");
        let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["rank-3", "rank-0", "rating-1", "flag-1"]);
    }
}
