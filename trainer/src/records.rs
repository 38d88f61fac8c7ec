//! The lines of the files a run reads: rankings, demonstrations, prompts and plain texts, one JSON object a line.
//!
//! A file is read whole before anything is written, and a bad line is named with file, line and field, so that the
//! person who made it can mend it. Fields this program does not know are left alone: exports carry more than runs read.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Result, TrainerError};

/// What somebody asks of the model: one text, or the turns of a conversation so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Prompt {
    /// One text; becomes a single user turn where the model has a chat template.
    Text(String),
    /// The turns so far, oldest first.
    Conversation(Vec<Message>),
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
}

/// One completion of a ranked prompt.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RankedCompletion {
    /// Unique within its prompt.
    pub id: String,
    /// The completion itself, without the prompt.
    pub text: String,
    /// Which model made it; empty when unknown.
    pub model: String,
    /// 1 is best; equal ranks are ties.
    pub rank: u32,
    /// The Likert score, 1 to 7, when the labeler gave one.
    pub rating: Option<u8>,
}

/// A line of a rankings file: one prompt with its ranked completions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RankedPrompt {
    /// Names the prompt; several labelers may rank the same one.
    pub id: String,
    /// What was asked.
    pub prompt: Prompt,
    /// At least two.
    pub completions: Vec<RankedCompletion>,
    /// Who ranked them; empty when unknown.
    pub labeler: String,
    /// Use-case category; empty when unknown.
    pub category: String,
    /// `train` or `validation` when the file decides the split itself.
    pub split: Option<String>,
}

/// A line of a demonstrations file: a conversation that ends with the assistant's turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DemonstrationRecord {
    /// Names the demonstration.
    pub id: String,
    /// The turns before the answer.
    pub prompt: Vec<Message>,
    /// The answer that the labeler wrote.
    pub completion: String,
}

/// A line of a prompts file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PromptRecord {
    /// Names the prompt.
    pub id: String,
    /// What is asked.
    pub prompt: Prompt,
    /// Use-case category; empty when unknown.
    pub category: String,
}

/// A line of a file of plain texts, e.g. pretraining text for the ptx term.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TextRecord {
    /// Names the text.
    pub id: String,
    /// The text.
    pub text: String,
}

/// Something that can be read from one line.
pub trait Record: Sized {
    /// What a file of them is called in a message.
    const KIND: &'static str;
    /// Reads the fields of one line.
    ///
    /// # Errors
    /// The first field that is missing or wrong.
    fn from_fields(fields: &Fields<'_>) -> std::result::Result<Self, FieldError>;
}

/// Reads every record of `path`.
///
/// # Errors
/// A file that can't be opened, holds no record, or has a bad line; the message names the first bad line and counts
/// the others.
pub fn read_records<R: Record>(path: &Path) -> Result<Vec<R>> {
    let io_error = |source| TrainerError::Io {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(io_error)?;
    let (mut records, mut bad_lines) = (Vec::new(), Vec::new());
    for (index, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(io_error)?;
        if line.trim().is_empty() {
            continue;
        }
        match parse_line::<R>(&line) {
            Ok(record) => records.push(record),
            Err(error) => bad_lines.push((index as u64 + 1, error)),
        }
    }
    if let Some((line, error)) = bad_lines.first() {
        return Err(input_error(
            path,
            *line,
            &error.field,
            &name_the_others(&error.message, &bad_lines[1..]),
        ));
    }
    if records.is_empty() {
        return Err(input_error(
            path,
            0,
            "",
            &format!("the file holds no {}", R::KIND),
        ));
    }
    Ok(records)
}

fn name_the_others(message: &str, others: &[(u64, FieldError)]) -> String {
    const NAMED: usize = 20;
    if others.is_empty() {
        return message.to_owned();
    }
    let lines: Vec<String> = others
        .iter()
        .take(NAMED)
        .map(|(line, _)| line.to_string())
        .collect();
    let more = if others.len() > NAMED {
        format!(" and {} more", others.len() - NAMED)
    } else {
        String::new()
    };
    format!("{message} (also bad: line {}{more})", lines.join(", "))
}

fn parse_line<R: Record>(line: &str) -> std::result::Result<R, FieldError> {
    let value: Value = serde_json::from_str(line)
        .map_err(|error| FieldError::new("", format!("not JSON: {error}")))?;
    let Value::Object(object) = value else {
        return Err(FieldError::new("", "not a JSON object".to_owned()));
    };
    R::from_fields(&Fields {
        object: &object,
        path: String::new(),
    })
}

/// The error for `field` in `line` of `path`.
#[must_use]
pub fn input_error(path: &Path, line: u64, field: &str, message: &str) -> TrainerError {
    TrainerError::Input {
        file: path.to_owned(),
        line,
        field: field.to_owned(),
        message: message.to_owned(),
    }
}

/// A field that is missing or wrong.
#[derive(Debug)]
pub struct FieldError {
    /// Its path within the line, e.g. `completions[2].rank`.
    pub field: String,
    /// What is wrong.
    pub message: String,
}

impl FieldError {
    fn new(field: impl Into<String>, message: String) -> Self {
        Self {
            field: field.into(),
            message,
        }
    }
}

/// The fields of one JSON object, with the path to it for messages.
#[derive(Debug)]
pub struct Fields<'a> {
    object: &'a Map<String, Value>,
    path: String,
}

impl Fields<'_> {
    fn path_of(&self, field: &str) -> String {
        if self.path.is_empty() {
            field.to_owned()
        } else {
            format!("{}.{field}", self.path)
        }
    }

    fn required(&self, field: &str) -> std::result::Result<&Value, FieldError> {
        let value = self.object.get(field).filter(|value| !value.is_null());
        value.ok_or_else(|| FieldError::new(self.path_of(field), "the field is missing".to_owned()))
    }

    fn text(&self, field: &str) -> std::result::Result<String, FieldError> {
        let text = self.required(field)?.as_str();
        text.map(str::to_owned)
            .ok_or_else(|| FieldError::new(self.path_of(field), "must be a text".to_owned()))
    }

    fn filled_text(&self, field: &str) -> std::result::Result<String, FieldError> {
        let text = self.text(field)?;
        if text.trim().is_empty() {
            return Err(FieldError::new(
                self.path_of(field),
                "must not be empty".to_owned(),
            ));
        }
        Ok(text)
    }

    fn optional_text(&self, field: &str) -> std::result::Result<Option<String>, FieldError> {
        match self.object.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => self.text(field).map(Some),
        }
    }

    fn whole_number(
        &self,
        field: &str,
        lowest: u64,
        highest: u64,
    ) -> std::result::Result<u64, FieldError> {
        let number = self
            .required(field)?
            .as_u64()
            .filter(|number| (lowest..=highest).contains(number));
        let message = || format!("must be a whole number from {lowest} to {highest}");
        number.ok_or_else(|| FieldError::new(self.path_of(field), message()))
    }

    fn objects(&self, field: &str) -> std::result::Result<Vec<Fields<'_>>, FieldError> {
        let path = self.path_of(field);
        let list = self.required(field)?.as_array();
        let list = list.ok_or_else(|| FieldError::new(&*path, "must be a list".to_owned()))?;
        let mut items = Vec::with_capacity(list.len());
        for (index, value) in list.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let Some(object) = value.as_object() else {
                return Err(FieldError::new(path, "must be an object".to_owned()));
            };
            items.push(Fields { object, path });
        }
        Ok(items)
    }

    fn messages(&self, field: &str) -> std::result::Result<Vec<Message>, FieldError> {
        let turns = self.objects(field)?;
        if turns.is_empty() {
            return Err(FieldError::new(
                self.path_of(field),
                "must hold at least one turn".to_owned(),
            ));
        }
        turns.iter().map(message_from).collect()
    }

    fn prompt(&self, field: &str) -> std::result::Result<Prompt, FieldError> {
        match self.required(field)? {
            Value::String(_) => self.filled_text(field).map(Prompt::Text),
            Value::Array(_) => self.messages(field).map(Prompt::Conversation),
            _ => Err(FieldError::new(
                self.path_of(field),
                "must be a text or a list of turns".to_owned(),
            )),
        }
    }
}

fn message_from(fields: &Fields<'_>) -> std::result::Result<Message, FieldError> {
    let role = fields.text("role")?;
    if !["system", "user", "assistant"].contains(&role.as_str()) {
        return Err(FieldError::new(
            fields.path_of("role"),
            "must be system, user or assistant".to_owned(),
        ));
    }
    Ok(Message {
        role,
        content: fields.text("content")?,
    })
}

impl Record for RankedPrompt {
    const KIND: &'static str = "rankings";

    fn from_fields(fields: &Fields<'_>) -> std::result::Result<Self, FieldError> {
        let completions = fields.objects("completions")?;
        if completions.len() < 2 {
            return Err(FieldError::new(
                "completions",
                "must hold at least two completions".to_owned(),
            ));
        }
        let completions: std::result::Result<Vec<_>, _> =
            completions.iter().map(ranked_completion_from).collect();
        let completions = completions?;
        let mut seen = HashSet::new();
        if let Some(twice) = completions
            .iter()
            .find(|completion| !seen.insert(completion.id.as_str()))
        {
            return Err(FieldError::new(
                "completions",
                format!("the id `{}` stands there twice", twice.id),
            ));
        }
        let split = fields
            .optional_text("split")?
            .filter(|split| !split.is_empty());
        if split
            .as_deref()
            .is_some_and(|split| split != "train" && split != "validation")
        {
            return Err(FieldError::new(
                "split",
                "must be train or validation".to_owned(),
            ));
        }
        Ok(Self {
            id: fields.filled_text("id")?,
            prompt: fields.prompt("prompt")?,
            completions,
            labeler: fields.optional_text("labeler")?.unwrap_or_default(),
            category: fields.optional_text("category")?.unwrap_or_default(),
            split,
        })
    }
}

fn ranked_completion_from(
    fields: &Fields<'_>,
) -> std::result::Result<RankedCompletion, FieldError> {
    let rating = match fields.object.get("rating") {
        None | Some(Value::Null) => None,
        Some(_) => Some(fields.whole_number("rating", 1, 7)? as u8),
    };
    Ok(RankedCompletion {
        id: fields.filled_text("id")?,
        text: fields.text("text")?,
        model: fields.optional_text("model")?.unwrap_or_default(),
        rank: fields.whole_number("rank", 1, 1000)? as u32,
        rating,
    })
}

impl Record for DemonstrationRecord {
    const KIND: &'static str = "demonstrations";

    fn from_fields(fields: &Fields<'_>) -> std::result::Result<Self, FieldError> {
        let mut messages = fields.messages("messages")?;
        let answer = messages
            .pop()
            .filter(|turn| turn.role == "assistant" && !turn.content.trim().is_empty());
        let Some(answer) = answer else {
            return Err(FieldError::new(
                "messages",
                "must end with an assistant turn that says something".to_owned(),
            ));
        };
        if messages.is_empty() {
            return Err(FieldError::new(
                "messages",
                "must hold a turn before the assistant's".to_owned(),
            ));
        }
        Ok(Self {
            id: fields.filled_text("id")?,
            prompt: messages,
            completion: answer.content,
        })
    }
}

impl Record for PromptRecord {
    const KIND: &'static str = "prompts";

    fn from_fields(fields: &Fields<'_>) -> std::result::Result<Self, FieldError> {
        Ok(Self {
            id: fields.filled_text("id")?,
            prompt: fields.prompt("prompt")?,
            category: fields.optional_text("category")?.unwrap_or_default(),
        })
    }
}

impl Record for TextRecord {
    const KIND: &'static str = "texts";

    fn from_fields(fields: &Fields<'_>) -> std::result::Result<Self, FieldError> {
        Ok(Self {
            id: fields.filled_text("id")?,
            text: fields.filled_text("text")?,
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::io::Write;

    use super::*;

    fn file_with(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn complaint<R: Record + std::fmt::Debug>(text: &str) -> (u64, String, String) {
        let file = file_with(text);
        match read_records::<R>(file.path()).unwrap_err() {
            TrainerError::Input {
                line,
                field,
                message,
                ..
            } => (line, field, message),
            other => panic!("expected an input error, got {other}"),
        }
    }

    const GOOD: &str = r#"{"id":"p","prompt":"Hi","completions":[{"id":"a","text":"x","rank":1},{"id":"b","text":"y","rank":1,"rating":6,"flags":{}}],"labeler":"l","extra":1}"#;

    #[test]
    fn a_line_of_the_rankings_contract_is_read_with_its_ties() {
        let file = file_with(&format!("{GOOD}\n\n"));
        let records = read_records::<RankedPrompt>(file.path()).unwrap();
        assert_eq!(records.len(), 1);
        assert_eq!(
            records[0]
                .completions
                .iter()
                .map(|c| c.rank)
                .collect::<Vec<_>>(),
            [1, 1]
        );
        assert_eq!(records[0].completions[1].rating, Some(6));
    }

    #[test]
    fn a_bad_field_is_named_with_its_line_and_path() {
        let bad = GOOD.replace(r#""rank":1,"rating":6"#, r#""rank":0,"rating":6"#);
        let (line, field, message) = complaint::<RankedPrompt>(&format!("{GOOD}\n{bad}\n{{\n"));
        assert_eq!((line, field.as_str()), (2, "completions[1].rank"));
        assert!(
            message.contains("whole number") && message.contains("line 3"),
            "{message}"
        );
    }

    #[test]
    fn an_empty_file_says_what_it_should_hold() {
        let (_, _, message) = complaint::<PromptRecord>("\n");
        assert_eq!(message, "the file holds no prompts");
    }

    #[test]
    fn a_demonstration_must_end_with_an_answer() {
        let line = r#"{"id":"d","messages":[{"role":"user","content":"Hi"}]}"#;
        let (_, field, message) = complaint::<DemonstrationRecord>(line);
        assert_eq!(field, "messages");
        assert!(message.contains("assistant"));
    }

    #[test]
    fn a_conversation_is_a_prompt_too() {
        let file =
            file_with(r#"{"id":"p","prompt":[{"role":"user","content":"Hi"}],"category":"chat"}"#);
        let records = read_records::<PromptRecord>(file.path()).unwrap();
        assert!(matches!(&records[0].prompt, Prompt::Conversation(turns) if turns.len() == 1));
    }
}
