//! What is to be known of a data file and is no reason to refuse it: fields that nothing reads, and
//! texts that the tokenizer takes for marks of its own.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde_json::Value;

use crate::error::{AtPath, Result, one_sentence};
use crate::progress::Progress;
use crate::text::TextCodec;

/// Fields by their place in a line, `[]` standing for each item of a list. What the server's export
/// writes for other readers is among them.
const RANKING: &[&str] = &[
    "id",
    "prompt",
    "prompt[].role",
    "prompt[].content",
    "completions",
    "completions[].id",
    "completions[].text",
    "completions[].model",
    "completions[].rank",
    "completions[].rating",
    "completions[].flags",
    "completions[].scales",
    "completions[].note",
    "labeler",
    "category",
    "customer",
    "split",
    "language",
    "simulated",
    "display_order",
    "form_version",
    "guidelines_version",
    "note",
    "ranking_id",
    "adjudication",
    "chosen_by",
    "disagreement",
    "strength",
    "all_bad",
    "active_ms",
    "idle_ms",
];
const DEMONSTRATION: &[&str] = &[
    "id",
    "messages",
    "messages[].role",
    "messages[].content",
    "category",
    "writing",
];
const PROMPT: &[&str] = &[
    "id",
    "prompt",
    "prompt[].role",
    "prompt[].content",
    "category",
    "language",
    "customer",
    "review",
];
/// Objects whose fields others name.
const FREE: [&str; 3] = ["flags", "scales", "review"];
const TEXT: &[&str] = &["id", "text"];

/// The fields that are read of a line, by what it is.
fn known(line: &Value) -> &'static [&'static str] {
    let has = |name: &str| !line[name].is_null();
    match (has("completions"), has("messages"), has("prompt")) {
        (true, ..) => RANKING,
        (_, true, _) => DEMONSTRATION,
        (.., true) => PROMPT,
        _ => TEXT,
    }
}

/// Things that were found, the first by its place.
#[derive(Debug, Default)]
struct Found {
    n: usize,
    line: usize,
    place: String,
}

impl Found {
    fn count(&mut self, line: usize, place: &str) {
        if self.n == 0 {
            (self.line, self.place) = (line, place.to_owned());
        }
        self.n += 1;
    }
}

/// Tells, once for each field that is not read, how many lines have it; and how many texts hold what
/// the tokenizer reads as a special token, wherever it stands: an end of text within a text ends it
/// for the model.
///
/// # Errors
/// When the file cannot be read.
pub fn tell(data: &Path, codec: &TextCodec, progress: &mut dyn Progress) -> Result<()> {
    let special = codec.special_tokens();
    let mut unread: BTreeMap<String, Found> = BTreeMap::new();
    let (mut marked, mut mark) = (Found::default(), String::new());
    for (index, line) in BufReader::new(File::open(data).at(data)?)
        .lines()
        .enumerate()
    {
        let (number, line) = (index + 1, line.at(data)?);
        // Lines were read before; what is no JSON was refused then.
        let Ok(line) = serde_json::from_str::<Value>(&line) else {
            continue;
        };
        let mut seen = Vec::new();
        unknown(&line, "", known(&line), &mut seen);
        for name in seen {
            unread.entry(name).or_default().count(number, "");
        }
        texts(&line, &mut |place, text| {
            if let Some(token) = special.iter().find(|token| text.contains(token.as_str())) {
                if marked.n == 0 {
                    mark.clone_from(token);
                }
                marked.count(number, place);
            }
        });
    }
    let file = data.file_name().unwrap_or_default().to_string_lossy();
    for (name, Found { n, line, .. }) in unread {
        let name = one_sentence(&name);
        progress.log(format!(
            "{file}: nothing reads the field {name}, which {n} lines have, the first line {line}"
        ));
    }
    if marked.n > 0 {
        let Found { n, line, place } = marked;
        progress.log(format!(
            "{file}: {n} texts hold special tokens, which the model reads as such and not as text: \
             the first is {mark:?} in line {line}, field {place}"
        ));
    }
    Ok(())
}

/// Adds the fields of `value` that are not known, each once, as far down as what is known goes.
fn unknown(value: &Value, place: &str, known: &[&str], found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let inner = match place {
                    "" => name.clone(),
                    place => format!("{place}.{name}"),
                };
                if !known.contains(&inner.as_str()) {
                    if !found.contains(&inner) {
                        found.push(inner);
                    }
                } else if !FREE.contains(&name.as_str()) {
                    unknown(value, &inner, known, found);
                }
            }
        }
        Value::Array(items) => {
            let place = format!("{place}[]");
            for item in items {
                unknown(item, &place, known, found);
            }
        }
        _ => (),
    }
}

/// Every text of a demonstration, ranking, prompt or plain text, with its place.
fn texts(line: &Value, hear: &mut dyn FnMut(&str, &str)) {
    for name in ["prompt", "text"] {
        if let Some(text) = line[name].as_str() {
            hear(name, text);
        }
    }
    for (list, name) in [
        ("prompt", "content"),
        ("messages", "content"),
        ("completions", "text"),
    ] {
        for (index, item) in line[list].as_array().into_iter().flatten().enumerate() {
            if let Some(text) = item[name].as_str() {
                hear(&format!("{list}[{index}].{name}"), text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use serde_json::json;

    use super::*;
    use crate::progress::Event;
    use crate::records::{DemonstrationRecord, PromptRecord, RankedPrompt, Record, TextRecord};

    struct Logs(Vec<String>);

    impl Progress for Logs {
        fn record(&mut self, event: Event) {
            if let Event::Log { message } = event {
                self.0.push(message);
            }
        }
    }

    fn told(lines: &[Value]) -> Vec<String> {
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny");
        let codec = TextCodec::load(&base).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("data.jsonl");
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(&file, text).unwrap();
        let mut logs = Logs(Vec::new());
        tell(&file, &codec, &mut logs).unwrap();
        logs.0
    }

    /// What a record is written with is known, and what is known is read.
    #[test]
    fn the_fields_of_every_record_are_known() {
        fn round<R: Record + serde::Serialize>(line: &Value) -> Value {
            serde_json::to_value(serde_json::from_value::<R>(line.clone()).unwrap()).unwrap()
        }
        let turns =
            json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]);
        let completion = json!({"id": "1", "text": "a", "model": "m", "rank": 1, "rating": 2,
                                "flags": {"any": true}});
        let ranking = json!({"id": "1", "prompt": turns, "completions": [completion],
                             "labeler": "l", "category": "c", "customer": "u", "split": "train"});
        let lines = [
            (round::<RankedPrompt>(&ranking), ranking.clone()),
            {
                let line = json!({"id": "1", "messages": turns});
                (round::<DemonstrationRecord>(&line), line)
            },
            {
                let line = json!({"id": "1", "prompt": "a", "category": "c"});
                (round::<PromptRecord>(&line), line)
            },
            {
                let line = json!({"id": "1", "text": "a"});
                (round::<TextRecord>(&line), line)
            },
        ];
        for (back, line) in lines {
            assert_eq!(
                back, line,
                "a field is lost, or the test names none that there is"
            );
            assert_eq!(told(&[line]), Vec::<String>::new());
        }
    }

    /// As the server exports them.
    #[test]
    fn what_is_written_for_other_readers_is_known() {
        let completion = json!({"id": "1", "text": "a", "rank": null, "flags": {"any": true},
                                "scales": {"truthful": 4}, "note": "n"});
        let ranking = json!({"id": "1", "prompt": "a", "completions": [completion], "strength": 2,
                             "all_bad": true, "active_ms": 1500, "idle_ms": 0, "display_order": [0]});
        let turns = json!([{"role": "user", "content": "a"}]);
        let demonstration = json!({"id": "1", "messages": turns, "writing": "w"});
        let prompt = json!({"id": "1", "prompt": "a", "review": {"flags": {"ambiguous": true}}});
        assert_eq!(
            told(&[ranking, demonstration, prompt]),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_field_that_nothing_reads_is_told_once() {
        let line = |extra: &str| {
            let mut line = json!({"id": "1", "prompt": "a", "completions": [
                {"id": "1", "text": "a", "rank": 1, "score": 2},
                {"id": "2", "text": "b", "rank": 2, "score": 1},
            ]});
            if !extra.is_empty() {
                line[extra] = json!({"inner": 1});
            }
            line
        };
        let logs = told(&[line(""), line("rnak"), line("rnak"), line("spilt")]);
        assert_eq!(logs.len(), 3, "{logs:?}");
        let has = |words: &str| logs.iter().any(|log| log.contains(words));
        assert!(
            has("field completions[].score, which 4 lines have, the first line 1"),
            "{logs:?}"
        );
        assert!(
            has("field rnak, which 2 lines have, the first line 2"),
            "{logs:?}"
        );
        assert!(
            has("field spilt, which 1 lines have, the first line 4"),
            "{logs:?}"
        );
    }

    #[test]
    fn texts_that_hold_special_tokens_are_counted_and_the_first_is_named() {
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny");
        let codec = TextCodec::load(&base).unwrap();
        let special = codec.special_tokens();
        let eos = codec.decode_all(&[codec.eos_id]).unwrap();
        assert!(special.contains(&eos), "{special:?}");
        let text = format!("the end {eos} is not");
        assert!(
            codec.encode(&text).unwrap().contains(&codec.eos_id),
            "it is read as text"
        );
        let turns =
            json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": text}]);
        let logs = told(&[
            json!({"text": "good"}),
            json!({"messages": turns}),
            json!({"text": text}),
        ]);
        assert_eq!(logs.len(), 1, "{logs:?}");
        assert!(
            logs[0].contains("2 texts") && logs[0].contains(&eos),
            "{logs:?}"
        );
        assert!(
            logs[0].ends_with("line 2, field messages[1].content"),
            "{logs:?}"
        );
    }
}
