//! The files that training reads, one JSON object a line. A wrong line is an error that names
//! file, line and field, also where it shows later, as a text that the tokenizer refuses; nothing
//! is skipped silently.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use serde::de::{DeserializeOwned, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{AtPath, Result, TrainerError, WHOLE_FILE, WHOLE_LINE};

mod fault;

pub use self::fault::Fault;

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
}

/// What a model is asked: a text, or a conversation that ends with the user's turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "must be a text, or a list of turns with role and content"
)]
pub enum Prompt {
    /// A single request.
    Text(String),
    /// Turns so far.
    Conversation(Vec<Message>),
}

impl Prompt {
    /// The turns, a text being one turn of the user.
    pub fn messages(&self) -> Vec<Message> {
        match self {
            Self::Text(text) => vec![Message {
                role: "user".to_owned(),
                content: text.clone(),
            }],
            Self::Conversation(messages) => messages.clone(),
        }
    }

    /// Says why the prompt cannot be used, if so.
    pub fn complaint(&self) -> Option<Fault> {
        match self {
            Self::Text(text) if text.trim().is_empty() => Some(Fault::Empty),
            Self::Text(_) => None,
            Self::Conversation(turns) => {
                if let Some(turn) = turns.iter().find(|turn| !is_known_role(&turn.role)) {
                    return Some(Fault::UnknownRole(turn.role.clone()));
                }
                if turns.iter().any(|turn| turn.content.trim().is_empty()) {
                    return Some(Fault::EmptyTurn);
                }
                match turns.last() {
                    Some(turn) if turn.role == "user" => None,
                    _ => Some(Fault::NotUsersTurn),
                }
            }
        }
    }
}

fn is_known_role(role: &str) -> bool {
    matches!(role, "system" | "user" | "assistant")
}

/// A completion with its rank.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RankedCompletion {
    /// Its id.
    pub id: String,
    /// Its text.
    pub text: String,
    /// The model that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// 1 is best; equal ranks are ties.
    pub rank: u32,
    /// Overall rating, 1 to 7, where it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rating: Option<u8>,
    /// Answered flags only.
    #[serde(default, deserialize_with = "read_flags")]
    pub flags: BTreeMap<String, bool>,
}

/// One labeler's ranking of a prompt's completions: a line of a rankings file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RankedPrompt {
    /// Id of the prompt; lines of the same prompt share it.
    pub id: String,
    /// The prompt.
    pub prompt: Prompt,
    /// Its completions, two or more. One whose rank is null was left unranked: it is not read.
    #[serde(deserialize_with = "read_ranked")]
    pub completions: Vec<RankedCompletion>,
    /// Who ranked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labeler: Option<String>,
    /// Use-case category.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Whose prompt it is, where that is known: all prompts of a customer are trained on or all
    /// held out (InstructGPT, section 3.2, splits by user). One line of a prompt may say it for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
    /// `train` or `validation`, where the file decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
}

/// A demonstration: turns that end with the assistant's.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DemonstrationRecord {
    /// Its id.
    pub id: String,
    /// The turns.
    pub messages: Vec<Message>,
    /// What it was made of, with others, as the examples of one few-shot demonstration are: all of one
    /// writing are learnt or all held out, since each shows what the others ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writing: Option<String>,
}

/// A prompt to answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PromptRecord {
    /// Its id.
    pub id: String,
    /// The prompt.
    pub prompt: Prompt,
    /// Use-case category.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
}

/// A plain text of the pretraining mix.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TextRecord {
    /// Its id.
    #[serde(default)]
    pub id: String,
    /// The text.
    pub text: String,
}

/// A record that can say what is wrong with it.
pub trait Record: DeserializeOwned {
    /// The wrong field and what is wrong with it, if anything is.
    fn complaint(&self) -> Option<(&'static str, Fault)>;
}

impl Record for RankedPrompt {
    fn complaint(&self) -> Option<(&'static str, Fault)> {
        if let Some(fault) = self.prompt.complaint() {
            return Some(("prompt", fault));
        }
        let (n, most) = (self.completions.len(), MOST_COMPLETIONS);
        if n < 2 {
            return Some(("completions", Fault::TooFew));
        }
        if n > most {
            return Some(("completions", Fault::TooMany { n, most }));
        }
        if let Some(index) = self
            .completions
            .iter()
            .position(|item| item.text.trim().is_empty())
        {
            return Some(("completions", Fault::EmptyCompletion(index + 1)));
        }
        let mut ids = BTreeSet::new();
        let named = self.completions.iter().filter(|item| !item.id.is_empty());
        if let Some(item) = named.into_iter().find(|item| !ids.insert(&item.id)) {
            return Some(("completions", Fault::IdTwice(item.id.clone())));
        }
        if self.completions.iter().any(|item| item.rank == 0) {
            return Some(("rank", Fault::RankZero));
        }
        if self
            .customer
            .as_deref()
            .is_some_and(|name| name.trim().is_empty())
        {
            return Some(("customer", Fault::EmptyCustomer));
        }
        match self.split.as_deref() {
            None | Some("train" | "validation") => None,
            Some(split) => Some(("split", Fault::UnknownSplit(split.to_owned()))),
        }
    }
}

impl Record for DemonstrationRecord {
    fn complaint(&self) -> Option<(&'static str, Fault)> {
        if self.messages.iter().any(|turn| !is_known_role(&turn.role)) {
            return Some(("messages", Fault::OtherRole));
        }
        match self.messages.last() {
            Some(turn) if turn.role != "assistant" => Some(("messages", Fault::NotAssistantsTurn)),
            Some(turn) if turn.content.trim().is_empty() => Some(("messages", Fault::EmptyAnswer)),
            Some(_) if self.messages.len() >= 2 => {
                let asked = self.messages[..self.messages.len() - 1].to_vec();
                let fault = Prompt::Conversation(asked).complaint()?;
                Some(("messages", Fault::BeforeAnswer(Box::new(fault))))
            }
            _ => Some(("messages", Fault::NothingAsked)),
        }
    }
}

impl Record for PromptRecord {
    fn complaint(&self) -> Option<(&'static str, Fault)> {
        self.prompt.complaint().map(|fault| ("prompt", fault))
    }
}

impl Record for TextRecord {
    fn complaint(&self) -> Option<(&'static str, Fault)> {
        self.text
            .trim()
            .is_empty()
            .then_some(("text", Fault::Empty))
    }
}

/// A record and where it stands.
#[derive(Debug)]
pub struct Placed<R> {
    /// The record.
    pub record: R,
    /// Its line, 1-based.
    pub line: usize,
    file: Arc<Path>,
}

impl<R> Placed<R> {
    /// An error about one of the record's fields.
    pub fn error(&self, field: &str, message: impl Into<String>) -> TrainerError {
        TrainerError::input(&self.file, self.line, field, message)
    }

    /// Names one of the record's fields in the error that working on it gave.
    ///
    /// # Errors
    /// That one.
    pub fn at_field<T>(&self, field: &str, result: Result<T>) -> Result<T> {
        result.map_err(|error| self.error(field, error.to_string()))
    }
}

/// Names lines in a remark on several records: the first few, and how many more.
pub fn name_lines(lines: &[usize]) -> String {
    const NAMED: usize = 5;
    let word = if lines.len() == 1 { "line" } else { "lines" };
    let named: Vec<String> = lines.iter().take(NAMED).map(usize::to_string).collect();
    let named = named.join(", ");
    match lines.len().saturating_sub(NAMED) {
        0 => format!("{word} {named}"),
        more => format!("{word} {named} and {more} more"),
    }
}

/// Reads every line of `path`, for callers to whom it does not matter where a record stands.
///
/// # Errors
/// As [`read_placed`].
pub fn read<R: Record>(path: &Path) -> Result<Vec<R>> {
    let placed = read_placed(path)?.into_iter();
    Ok(placed.map(|placed| placed.record).collect())
}

/// Longest line that is read, in bytes: more than any context holds, and little enough to keep.
const LONGEST_LINE: usize = 16 << 20;

/// Most completions of a ranking: a million pairs come of twice as many, and labelers rank nine.
const MOST_COMPLETIONS: usize = 1000;

/// A completion as a line has it.
#[derive(Deserialize)]
struct GivenCompletion {
    id: String,
    text: String,
    #[serde(default)]
    model: Option<String>,
    /// Null is unranked; a line that says nothing is wrong.
    #[serde(deserialize_with = "Option::deserialize")]
    rank: Option<u32>,
    #[serde(default)]
    rating: Option<u8>,
    #[serde(default, deserialize_with = "read_flags")]
    flags: BTreeMap<String, bool>,
}

/// The completions that have a rank.
fn read_ranked<'de, D: Deserializer<'de>>(
    source: D,
) -> std::result::Result<Vec<RankedCompletion>, D::Error> {
    let given = Vec::<GivenCompletion>::deserialize(source)?;
    let ranked = given.into_iter().filter_map(|item| {
        Some(RankedCompletion {
            id: item.id,
            text: item.text,
            model: item.model,
            rank: item.rank?,
            rating: item.rating,
            flags: item.flags,
        })
    });
    Ok(ranked.collect())
}

/// Flags by name; one that is answered twice is an error, as any other field is.
fn read_flags<'de, D: Deserializer<'de>>(
    source: D,
) -> std::result::Result<BTreeMap<String, bool>, D::Error> {
    type Read<T, E> = std::result::Result<T, E>;
    struct Flags;
    impl<'de> Visitor<'de> for Flags {
        type Value = BTreeMap<String, bool>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("flags, each true or false")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Read<Self::Value, A::Error> {
            let mut flags = BTreeMap::new();
            while let Some((name, value)) = map.next_entry::<String, bool>()? {
                if flags.contains_key(&name) {
                    return Err(A::Error::custom(format!("duplicate field `{name}`")));
                }
                flags.insert(name, value);
            }
            Ok(flags)
        }
    }
    source.deserialize_map(Flags)
}

/// Opens a file of lines.
fn open(path: &Path) -> Result<BufReader<File>> {
    let kind = std::fs::metadata(path).at(path)?.file_type();
    let what = match (kind.is_dir(), kind.is_file()) {
        (_, true) => return Ok(BufReader::new(File::open(path).at(path)?)),
        (true, _) => "is a folder, not a file of JSON lines",
        // It is read twice: its hash names what a checkpoint was trained on.
        _ => "is no regular file, so it cannot be read twice",
    };
    Err(TrainerError::checkpoint(path, what))
}

/// The next line of `source` in `line`, without its end; none at the end of the file. Never more
/// than [`LONGEST_LINE`] is kept.
///
/// # Errors
/// What the system said; or, inside, what is wrong with the line.
fn next_line<'a>(
    source: &mut impl BufRead,
    line: &'a mut Vec<u8>,
    is_first: bool,
) -> std::io::Result<Option<std::result::Result<&'a str, String>>> {
    line.clear();
    let n = source
        .take(LONGEST_LINE as u64 + 1)
        .read_until(b'\n', line)?;
    if n == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    let wrong = |message: &str| Ok(Some(Err(message.to_owned())));
    if line.len() > LONGEST_LINE {
        return Ok(Some(Err(format!(
            "is longer than {} MiB",
            LONGEST_LINE >> 20
        ))));
    }
    if is_first && line.starts_with(b"\xEF\xBB\xBF") {
        return wrong("begins with a byte-order mark: save the file as UTF-8 without one");
    }
    if is_first && (line.starts_with(b"\xFF\xFE") || line.starts_with(b"\xFE\xFF")) {
        return wrong("looks like UTF-16: save the file as UTF-8");
    }
    Ok(Some(std::str::from_utf8(line).map_err(|error| {
        format!("is not valid UTF-8 at byte {}", error.valid_up_to() + 1)
    })))
}

/// Reads every line of `path`. A carriage return before a line's end is white space, as in JSON.
///
/// # Errors
/// The first wrong line, by number and field; or that the file has no lines.
pub fn read_placed<R: Record>(path: &Path) -> Result<Vec<Placed<R>>> {
    let file: Arc<Path> = Arc::from(path);
    let mut records = Vec::new();
    let (mut source, mut buffer, mut number) = (open(path)?, Vec::new(), 0);
    while let Some(line) = next_line(&mut source, &mut buffer, number == 0).at(path)? {
        number += 1;
        let line =
            line.map_err(|message| TrainerError::input(path, number, WHOLE_LINE, message))?;
        if line.trim().is_empty() {
            continue;
        }
        let mut source = serde_json::Deserializer::from_str(line);
        let record: R = serde_path_to_error::deserialize(&mut source).map_err(|error| {
            let field = field_of(&error);
            let message = match field.as_str() {
                WHOLE_LINE => no_object(error.inner()),
                _ => error.inner().to_string(),
            };
            TrainerError::input(path, number, &field, message)
        })?;
        source
            .end()
            .map_err(|error| TrainerError::input(path, number, WHOLE_LINE, no_object(&error)))?;
        if let Some((field, fault)) = record.complaint() {
            return Err(TrainerError::input(path, number, field, fault.to_string()));
        }
        records.push(Placed {
            record,
            line: number,
            file: Arc::clone(&file),
        });
    }
    if records.is_empty() {
        return Err(TrainerError::input(path, 1, WHOLE_FILE, "has no records"));
    }
    Ok(records)
}

/// A line is read alone, so that its own number would be taken for one of the file's.
fn no_object(error: &serde_json::Error) -> String {
    let message = error
        .to_string()
        .replace(" at line 1 column ", " at column ");
    format!("is not a JSON object with the fields of a record: {message}")
}

/// The field that serde complains about: the one it stopped in, or a missing one by its message.
fn field_of(error: &serde_path_to_error::Error<serde_json::Error>) -> String {
    let message = error.inner().to_string();
    let named = message
        .starts_with("missing field")
        .then(|| message.split('`').nth(1))
        .flatten();
    match (error.path().to_string(), named) {
        (path, Some(name)) if path == "." => name.to_owned(),
        (path, Some(name)) => format!("{path}.{name}"),
        (path, None) if path == "." => WHOLE_LINE.to_owned(),
        (path, None) => path,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::io::Write;

    use super::*;

    fn complaint(lines: &str) -> String {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(lines.as_bytes()).unwrap();
        let error = read::<RankedPrompt>(file.path()).unwrap_err();
        error
            .to_string()
            .replace(&file.path().display().to_string(), "FILE")
    }

    #[test]
    fn every_bad_line_is_named_by_number_and_field() {
        let good = r#"{"id":"a","prompt":"p","completions":[{"id":"1","text":"x","rank":1},{"id":"2","text":"y","rank":2}]}"#;
        let one = r#"{"id":"a","prompt":"p","completions":[{"id":"1","text":"x","rank":1}]}"#;
        assert_eq!(
            complaint(&format!("{good}\n{one}\n")),
            "FILE, line 2, field completions: a ranking needs at least 2"
        );
        assert!(complaint("{\"id\":").starts_with("FILE, line 1"));
        let nonsense = "FILE, line 1: is not a JSON object with the fields of a record: expected";
        assert!(complaint("nonsense").starts_with(nonsense));
        let text = good.replace("\"rank\":2", "\"rank\":\"first\"");
        let field = "FILE, line 1, field completions[1].rank: invalid type";
        assert!(complaint(&text).starts_with(field), "{}", complaint(&text));
        let split = good.replace("\"prompt\"", "\"split\":\"val\",\"prompt\"");
        assert!(complaint(&split).starts_with("FILE, line 1, field split: is \"val\""));
        let prompt = good.replace("\"p\"", "5");
        assert!(complaint(&prompt).starts_with("FILE, line 1, field prompt: must be a text"));
        let no_prompt = r#"{"id":"a","completions":[]}"#;
        assert!(complaint(no_prompt).starts_with("FILE, line 1, field prompt: missing field"));
        let empty = good.replace("\"y\"", "\" \"");
        assert_eq!(
            complaint(&empty),
            "FILE, line 1, field completions: completion 2 is empty"
        );
        let role = r#"{"id":"a","prompt":[{"role":"robot","content":"x"}],"completions":[]}"#;
        assert!(complaint(role).contains("field prompt: unknown role \"robot\""));
        assert_eq!(complaint("\n"), "FILE: has no records");
    }

    /// What a labeler's answer follows is read by the model as a prompt is.
    #[test]
    fn the_turns_before_an_answer_are_checked_as_a_prompt_is() {
        let turn = |role: &str, content: &str| Message {
            role: role.to_owned(),
            content: content.to_owned(),
        };
        let said = |asked: &[Message]| {
            let messages = [asked, &[turn("assistant", "yes")]].concat();
            let id = "a".to_owned();
            DemonstrationRecord {
                id,
                messages,
                writing: None,
            }
            .complaint()
        };
        let begin = [turn("system", "be brief"), turn("user", "why?")];
        assert_eq!(said(&begin), None);
        let told = |asked: &[Message]| said(asked).unwrap();
        for (extra, words) in [
            (turn("assistant", "so"), "must end with a turn of the user"),
            (turn("user", " "), "has an empty turn"),
        ] {
            let (field, fault) = told(&[begin.as_slice(), &[extra]].concat());
            assert_eq!(field, "messages");
            assert_eq!(
                fault.to_string(),
                format!("what comes before the answer {words}")
            );
        }
        let not_asked = Fault::BeforeAnswer(Box::new(Fault::NotUsersTurn));
        assert_eq!(told(&begin[..1]).1, not_asked);
        assert_eq!(told(&[]).1, Fault::NothingAsked);
    }

    #[test]
    fn what_is_found_wrong_after_reading_is_named_too() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"{\"text\":\"a\"}\n\n{\"text\":\"b\"}\n")
            .unwrap();
        let records = read_placed::<TextRecord>(file.path()).unwrap();
        let lines: Vec<usize> = records.iter().map(|placed| placed.line).collect();
        assert_eq!(lines, [1, 3]);
        let refused: Result<()> = Err(TrainerError::Refused("no".to_owned()));
        assert_eq!(
            records[1]
                .at_field("text", refused)
                .unwrap_err()
                .to_string(),
            format!(
                "{}, line 3, field text: a check of the run failed: no",
                file.path().display()
            )
        );
        assert_eq!(records[1].at_field("text", Ok(5)).unwrap(), 5);
    }

    #[test]
    fn a_remark_names_the_first_lines() {
        assert_eq!(name_lines(&[4]), "line 4");
        assert_eq!(name_lines(&[4, 9]), "lines 4, 9");
        assert_eq!(
            name_lines(&[1, 2, 3, 4, 5, 6, 7]),
            "lines 1, 2, 3, 4, 5 and 2 more"
        );
    }
}
