//! The fields of the pages on which labelers write and review. Their names are paths into the JSON of a
//! submission: `response`, `flags.ambiguous`, `pairs[0].query`. Beside them stand `revision`, `replaces`,
//! `idempotency_key`, `active_ms`, `idle_ms` and `action`, and for skipping `reason` and `skip_note`.

use serde_json::{Map, Value};

use crate::domain::submission::TimeSpent;

/// Fields that are no part of what is said.
const BESIDE: [&str; 8] = [
    "revision",
    "replaces",
    "idempotency_key",
    "active_ms",
    "idle_ms",
    "action",
    "reason",
    "skip_note",
];

/// Longest list that a form may hold; the rules of each page admit fewer.
const LONGEST_LIST: usize = 100;

/// The form as it was sent.
#[derive(Debug, serde::Deserialize)]
pub struct AnswerForm(Vec<(String, String)>);

impl AnswerForm {
    /// The value of a field; empty where it was not sent.
    pub fn get(&self, name: &str) -> &str {
        let field = self.0.iter().find(|(key, _)| key == name);
        field.map_or("", |(_, value)| value)
    }

    /// The revision of the draft that the page showed.
    pub fn revision(&self) -> Option<i64> {
        self.get("revision").parse().ok()
    }

    /// The version that the page corrects.
    pub fn replaces(&self) -> Option<i32> {
        self.get("replaces").parse().ok()
    }

    /// How the time in the task was spent, where a script counted it.
    pub fn time(&self) -> TimeSpent {
        let read = |name: &str| self.get(name).parse().unwrap_or_default();
        TimeSpent {
            active_ms: read("active_ms"),
            idle_ms: read("idle_ms"),
        }
    }

    /// What the labeler said so far, as JSON. Fields that are empty are left out, but for those of a
    /// list, whose entries keep their places.
    pub fn json(&self) -> Value {
        let mut said = Map::new();
        for (name, value) in &self.0 {
            if !BESIDE.contains(&name.as_str()) {
                // A browser ends lines as the network does.
                put(&mut said, name, value.replace("\r\n", "\n"));
            }
        }
        Value::Object(said)
    }
}

/// Puts a value where its name leads.
fn put(said: &mut Map<String, Value>, name: &str, value: String) {
    if let Some((list, index, member)) = in_list(name) {
        let entries = said.entry(list).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(entries) = entries {
            if entries.len() <= index {
                entries.resize(index + 1, Value::Object(Map::new()));
            }
            entries[index][member] = Value::String(value);
        }
        return;
    }
    if value.is_empty() {
        return;
    }
    match name.split_once('.') {
        Some((object, member)) => {
            let object = said
                .entry(object)
                .or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(members) = object {
                members.insert(member.to_owned(), answer(value));
            }
        }
        None if name == "personal_data" => {
            said.insert(name.to_owned(), answer(value));
        }
        None => {
            said.insert(name.to_owned(), Value::String(value));
        }
    }
}

/// The list, place and member of a name such as `pairs[0].query`.
fn in_list(name: &str) -> Option<(&str, usize, &str)> {
    let (list, rest) = name.split_once('[')?;
    let (index, member) = rest.split_once("].")?;
    let index = index.parse().ok().filter(|index| *index < LONGEST_LIST)?;
    (!list.contains('.')).then_some((list, index, member))
}

/// The answer to a yes/no question.
fn answer(value: String) -> Value {
    match value.as_str() {
        "yes" => Value::Bool(true),
        "no" => Value::Bool(false),
        _ => Value::String(value),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn form(fields: &[(&str, &str)]) -> AnswerForm {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        AnswerForm(fields.iter().map(own).collect())
    }

    #[test]
    fn names_lead_into_the_json_and_unanswered_stays_unanswered() {
        let sent = form(&[
            ("category", "chat"),
            ("language", ""),
            ("flags.ambiguous", "no"),
            ("flags.intent_unclear", ""),
            ("personal_data", "yes"),
            ("found[0].kind", "email"),
            ("found[0].passage", "a@b.c"),
            ("note", "two\r\nlines"),
            ("revision", "7"),
            ("action", "submit"),
            ("active_ms", "1200"),
        ]);
        let expected = json!({
            "category": "chat", "flags": {"ambiguous": false}, "personal_data": true,
            "found": [{"kind": "email", "passage": "a@b.c"}], "note": "two\nlines",
        });
        assert_eq!(sent.json(), expected);
        assert_eq!((sent.revision(), sent.time().active_ms), (Some(7), 1200));
    }

    #[test]
    fn entries_of_a_list_keep_their_places_though_they_are_empty() {
        let sent = form(&[("pairs[1].query", ""), ("pairs[1].response", "r")]);
        let expected = json!({"pairs": [{}, {"query": "", "response": "r"}]});
        assert_eq!(sent.json(), expected);
    }

    #[test]
    fn a_name_that_leads_nowhere_is_kept_so_that_it_can_be_refused() {
        let sent = form(&[
            ("pairs[999999999].query", "x"),
            ("flags", "x"),
            ("flags.a", "yes"),
        ]);
        let expected = json!({"pairs[999999999]": {"query": "x"}, "flags": "x"});
        assert_eq!(sent.json(), expected);
    }
}
