//! What a labeler writes: a demonstration, parsed from a form or from JSON, and the conversations that
//! a model learns from it.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use trainer::records::{Message as Turn, Prompt};

use crate::domain::few_shot::{PAIRS, Pair, recombine, turn};
use crate::domain::form::Form;
use crate::domain::prompt::CATEGORIES;
use crate::domain::ranking::LONGEST_NOTE;
use crate::domain::task::BriefKind;
use crate::error::FieldError;
use crate::message::Message;

/// Longest text of a demonstration, in characters: some 2,500 tokens, where the paper keeps prompts and
/// responses of 1,000 (appendix C).
pub const LONGEST_TEXT: usize = 10_000;

/// Longest text of a draft, in characters: what is too long is kept until it is made shorter.
pub const LONGEST_DRAFT: usize = 100_000;

/// What a task of writing asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Brief {
    /// How the demonstration comes about.
    pub kind: BriefKind,
    /// The instruction of a few-shot demonstration, where it is given; otherwise the labeler writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instruction: Option<String>,
    /// What a customer wants to use the model for: a user-based demonstration is written from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub use_case: Option<String>,
}

impl Brief {
    /// A brief with nothing given.
    pub fn new(kind: BriefKind) -> Self {
        Self {
            kind,
            instruction: None,
            use_case: None,
        }
    }

    /// Reads a task's brief; without one, a prompt is answered.
    ///
    /// # Errors
    /// When the stored brief cannot be read.
    pub fn read(stored: Option<Value>) -> serde_json::Result<Self> {
        match stored {
            None => Ok(Self::new(BriefKind::Plain)),
            Some(value) => serde_json::from_value(value),
        }
    }

    /// The text that it gives, if any: an instruction or a use case.
    pub fn text(&self) -> Option<&str> {
        self.instruction.as_deref().or(self.use_case.as_deref())
    }
}

/// A demonstration as it comes in, as a submission or a draft. Which texts a task asks for, its brief
/// says; the others stay out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WritingInput {
    /// The prompt, where the task gives none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prompt: String,
    /// The response to the prompt; not of a few-shot demonstration.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub response: String,
    /// Of a few-shot demonstration whose brief gives none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instruction: String,
    /// Of a few-shot demonstration: 2 to 10. Pairs with nothing in them do not count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pairs: Vec<Pair>,
    /// Use-case category of a prompt that the labeler writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Language of a prompt that the labeler writes: a key of the form's languages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Anything the labeler wants to add.
    #[serde(default)]
    pub note: String,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Text {
    /// The answer to a given prompt.
    Answer {
        /// The answer.
        response: String,
    },
    /// A prompt and its answer.
    Own {
        /// The prompt.
        prompt: String,
        /// Its answer.
        response: String,
    },
    /// An instruction with pairs that follow it.
    FewShot {
        /// The instruction.
        instruction: String,
        /// The pairs, as many as [`PAIRS`] admits.
        pairs: Vec<Pair>,
    },
}

/// What a labeler says of a prompt that they wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct About {
    /// One of the ten categories.
    pub category: String,
    /// Primary language tag.
    pub language: String,
}

/// A demonstration, complete and within all limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Writing {
    /// What was written.
    #[serde(flatten)]
    pub text: Text,
    /// Where the labeler wrote the prompt.
    #[serde(flatten)]
    pub about: Option<About>,
    /// Anything the labeler wanted to add.
    #[serde(skip)]
    pub note: String,
}

/// Which fields a task asks for.
struct Asked {
    prompt: bool,
    response: bool,
    instruction: bool,
    pairs: bool,
}

impl Asked {
    fn of(brief: &Brief, has_prompt: bool) -> Self {
        let is_few_shot = brief.kind == BriefKind::FewShot;
        Self {
            prompt: !is_few_shot && !has_prompt,
            response: !is_few_shot,
            instruction: is_few_shot && brief.instruction.is_none(),
            pairs: is_few_shot,
        }
    }

    /// Whether the labeler writes what is asked, and so knows what it is.
    fn about(&self) -> bool {
        self.prompt || self.pairs
    }
}

impl WritingInput {
    /// Everything that is wrong with a draft, which may be half done, and too long within
    /// [`LONGEST_DRAFT`]. Fields are named as in the JSON: `pairs[0].query` is of the first entry.
    pub fn complaints(&self, form: &Form) -> Vec<FieldError> {
        self.wrong(LONGEST_DRAFT, form)
    }

    /// Everything that is wrong where texts have at most so many characters.
    fn wrong(&self, most: usize, form: &Form) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let pairs = self.pairs.iter().enumerate();
        let texts = [
            ("prompt".to_owned(), &self.prompt),
            ("response".to_owned(), &self.response),
            ("instruction".to_owned(), &self.instruction),
        ]
        .into_iter()
        .chain(pairs.flat_map(|(index, pair)| {
            let at = |name: &str| format!("pairs[{index}].{name}");
            [(at("query"), &pair.query), (at("response"), &pair.response)]
        }));
        for (field, text) in texts {
            errors.extend(too_long(field, text, most));
        }
        if self.pairs.len() > *PAIRS.end() {
            let message = Message::new("error-most-pairs").with("most", PAIRS.end());
            errors.push(FieldError::new("pairs", message));
        }
        errors.extend(unknown_category(self.category.as_deref()));
        errors.extend(unknown_language(self.language.as_deref(), form));
        errors.extend(too_long("note".to_owned(), &self.note, LONGEST_NOTE));
        errors
    }

    /// The demonstration, if all that the task asks for is there and nothing else. `has_prompt` where
    /// the task gives the prompt.
    ///
    /// # Errors
    /// Every wrong or missing field.
    pub fn parse(
        &self,
        brief: &Brief,
        has_prompt: bool,
        form: &Form,
    ) -> Result<Writing, Vec<FieldError>> {
        let asked = Asked::of(brief, has_prompt);
        let mut errors = self.wrong(LONGEST_TEXT, form);
        errors.extend(self.missing(&asked));
        if !errors.is_empty() {
            return Err(errors);
        }
        let instruction = brief.instruction.as_deref().unwrap_or(&self.instruction);
        let text = if asked.pairs {
            Text::FewShot {
                instruction: tidy(instruction),
                pairs: self
                    .written_pairs()
                    .map(|(_, pair)| tidy_pair(pair))
                    .collect(),
            }
        } else if asked.prompt {
            Text::Own {
                prompt: tidy(&self.prompt),
                response: tidy(&self.response),
            }
        } else {
            Text::Answer {
                response: tidy(&self.response),
            }
        };
        let about = asked.about().then(|| About {
            category: self.category.clone().unwrap_or_default(),
            language: self.language.clone().unwrap_or_default(),
        });
        Ok(Writing {
            text,
            about,
            note: self.note.trim().to_owned(),
        })
    }

    /// The pairs that hold something, with their places.
    fn written_pairs(&self) -> impl Iterator<Item = (usize, &Pair)> {
        let pairs = self.pairs.iter().enumerate();
        pairs.filter(|(_, pair)| !pair.is_blank())
    }

    /// What a submission needs and this has not, and what it has without being asked.
    fn missing(&self, asked: &Asked) -> Vec<FieldError> {
        let mut errors = Vec::new();
        for (field, is_asked, text) in [
            ("prompt", asked.prompt, &self.prompt),
            ("instruction", asked.instruction, &self.instruction),
            ("response", asked.response, &self.response),
        ] {
            let is_there = !text.trim().is_empty();
            errors.extend(asked_complaint(field, is_asked, is_there, "error-is-empty"));
        }
        for (index, pair) in self.written_pairs().filter(|_| asked.pairs) {
            for (name, text) in [("query", &pair.query), ("response", &pair.response)] {
                let (field, is_there) = (format!("pairs[{index}].{name}"), !text.trim().is_empty());
                errors.extend(asked_complaint(&field, true, is_there, "error-is-empty"));
            }
        }
        let n = self.written_pairs().count();
        if !asked.pairs {
            errors.extend(asked_complaint("pairs", false, n > 0, "error-is-empty"));
        } else if n < *PAIRS.start() {
            let message = Message::new("error-fewest-pairs").with("fewest", PAIRS.start());
            errors.push(FieldError::new("pairs", message));
        }
        for (field, text) in [("category", &self.category), ("language", &self.language)] {
            let is_there = text.is_some();
            errors.extend(asked_complaint(
                field,
                asked.about(),
                is_there,
                "error-choose-one",
            ));
        }
        errors
    }
}

/// What is asked must be there, otherwise it is `missing`; what is not asked must not.
fn asked_complaint(
    field: &str,
    is_asked: bool,
    is_there: bool,
    missing: &'static str,
) -> Option<FieldError> {
    let key = match (is_asked, is_there) {
        (true, false) => missing,
        (false, true) => "error-not-asked",
        _ => return None,
    };
    Some(FieldError::new(field, Message::new(key)))
}

/// A text that is longer than it may be.
pub(super) fn too_long(field: String, text: &str, most: usize) -> Option<FieldError> {
    (text.chars().count() > most).then(|| {
        let message = Message::new("error-longer-than").with("most", most);
        FieldError::new(field, message)
    })
}

/// A word that is none of the ten categories.
pub(super) fn unknown_category(word: Option<&str>) -> Option<FieldError> {
    let is_unknown = word.is_some_and(|word| !CATEGORIES.contains(&word));
    is_unknown.then(|| FieldError::new("category", Message::new("error-unknown-choice")))
}

/// A language that the form does not have.
pub(super) fn unknown_language(tag: Option<&str>, form: &Form) -> Option<FieldError> {
    let is_unknown = tag.is_some_and(|tag| !form.has_language(tag));
    is_unknown.then(|| FieldError::new("language", Message::new("error-unknown-choice")))
}

/// Without the blank lines and spaces around it.
fn tidy(text: &str) -> String {
    text.trim().to_owned()
}

fn tidy_pair(pair: &Pair) -> Pair {
    Pair {
        query: tidy(&pair.query),
        response: tidy(&pair.response),
    }
}

impl Writing {
    /// The conversations to learn from: one, or one for each pair of a few-shot demonstration. `prompt`
    /// is the task's, where it gives one; `seed` decides the order of the pairs in context.
    ///
    /// # Errors
    /// When the stored prompt cannot be read.
    pub fn conversations(&self, prompt: &Value, seed: &[u8]) -> serde_json::Result<Vec<Vec<Turn>>> {
        let (mut turns, response) = match &self.text {
            Text::FewShot { instruction, pairs } => {
                return Ok(recombine(instruction, pairs, seed));
            }
            Text::Own { prompt, response } => (vec![turn("user", prompt.clone())], response),
            Text::Answer { response } => {
                let prompt: Prompt = serde_json::from_value(prompt.clone())?;
                (prompt.messages(), response)
            }
        };
        turns.push(turn("assistant", response.clone()));
        Ok(vec![turns])
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use serde_json::json;

    use super::*;

    fn brief(kind: BriefKind) -> Brief {
        Brief::new(kind)
    }

    fn pair(query: &str, response: &str) -> Pair {
        Pair {
            query: query.to_owned(),
            response: response.to_owned(),
        }
    }

    /// The fields that are complained of.
    fn fields(input: &WritingInput, brief: &Brief, has_prompt: bool) -> Vec<String> {
        match input.parse(brief, has_prompt, &Form::default()) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.into_iter().map(|error| error.field).collect(),
        }
    }

    #[test]
    fn an_answer_to_a_given_prompt_is_the_response_alone() {
        let plain = brief(BriefKind::Plain);
        let mut input = WritingInput {
            response: "  Salt, from rivers.\n".to_owned(),
            ..Default::default()
        };
        let writing = input.parse(&plain, true, &Form::default()).unwrap();
        let stored = serde_json::to_value(&writing).unwrap();
        assert_eq!(stored, json!({"response": "Salt, from rivers."}));
        let turns = json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"},
                           {"role": "user", "content": "Why is the sea salty?"}]);
        let conversations = writing.conversations(&turns, b"x").unwrap();
        assert_eq!((conversations.len(), conversations[0].len()), (1, 4));
        assert_eq!(conversations[0][3].content, "Salt, from rivers.");
        input.category = Some("chat".to_owned());
        assert_eq!(fields(&input, &plain, true), ["category"]);
    }

    #[test]
    fn whoever_writes_the_prompt_says_what_it_is() {
        for kind in [BriefKind::Plain, BriefKind::UserBased] {
            let nothing = WritingInput::default();
            let missing = ["prompt", "response", "category", "language"];
            assert_eq!(fields(&nothing, &brief(kind), false), missing);
            let input = WritingInput {
                prompt: "Name a colour.".to_owned(),
                response: "Blue.".to_owned(),
                category: Some("open_qa".to_owned()),
                language: Some("en".to_owned()),
                ..Default::default()
            };
            assert!(fields(&input, &brief(kind), false).is_empty());
            let writing = input.parse(&brief(kind), false, &Form::default()).unwrap();
            let stored = serde_json::to_value(&writing).unwrap();
            assert_eq!(stored["language"], "en");
            let wrong = WritingInput {
                category: Some("Chat".to_owned()),
                language: Some("klingon".to_owned()),
                ..input
            };
            assert_eq!(
                fields(&wrong, &brief(kind), false),
                ["category", "language"]
            );
        }
    }

    #[test]
    fn pairs_that_are_left_empty_do_not_count_and_half_ones_are_named_by_their_place() {
        let about = |pairs: Vec<Pair>| WritingInput {
            instruction: "Give the capital.".to_owned(),
            pairs,
            category: Some("open_qa".to_owned()),
            language: Some("en".to_owned()),
            ..Default::default()
        };
        let few_shot = brief(BriefKind::FewShot);
        let two = about(vec![
            pair("France", "Paris"),
            pair(" ", "\n"),
            pair("Peru", "Lima"),
        ]);
        let writing = two.parse(&few_shot, false, &Form::default()).unwrap();
        let stored = serde_json::to_value(&writing).unwrap();
        assert_eq!(stored["pairs"].as_array().unwrap().len(), 2);
        let half = about(vec![pair("France", "Paris"), pair("Peru", "")]);
        assert_eq!(fields(&half, &few_shot, false), ["pairs[1].response"]);
        let one = about(vec![pair("France", "Paris")]);
        assert_eq!(fields(&one, &few_shot, false), ["pairs"]);
        let eleven = about(vec![pair("France", "Paris"); 11]);
        assert_eq!(fields(&eleven, &few_shot, false), ["pairs"]);
        // An instruction that is given is not asked for.
        let given = Brief {
            instruction: Some("Give the capital.".to_owned()),
            ..few_shot
        };
        assert_eq!(fields(&two, &given, false), ["instruction"]);
        let without = WritingInput {
            instruction: String::new(),
            ..two
        };
        let writing = without.parse(&given, false, &Form::default()).unwrap();
        assert_eq!(serde_json::to_value(&writing).unwrap(), stored);
    }

    #[test]
    fn a_text_of_the_greatest_length_is_taken_and_one_character_more_is_not() {
        let plain = brief(BriefKind::Plain);
        let mut input = WritingInput {
            response: "字".repeat(LONGEST_TEXT),
            ..Default::default()
        };
        assert!(fields(&input, &plain, true).is_empty());
        input.response.push('字');
        assert_eq!(fields(&input, &plain, true), ["response"]);
        // As a draft it is kept.
        assert!(input.complaints(&Form::default()).is_empty());
        input.response = "字".repeat(LONGEST_DRAFT + 1);
        assert_eq!(input.complaints(&Form::default()).len(), 1);
    }

    #[test]
    fn a_draft_may_be_half_done_but_not_wrong() {
        let draft = WritingInput {
            pairs: vec![pair("", ""), pair("only a query", "")],
            ..Default::default()
        };
        assert!(draft.complaints(&Form::default()).is_empty());
    }
}
