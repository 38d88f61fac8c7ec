//! What a newer draft says that another window saved, beside what is in the form: the labeler sees both before
//! they choose.

use std::collections::BTreeMap;

use serde_json::Value;

/// The fields in which a newer draft differs from what was said here, each with what it says there, empty where it
/// says nothing. Names are those of the page's form, such as `pairs[0].query`.
pub fn differences(newer: &Value, here: &Value) -> Vec<(String, Value)> {
    let (newer, here) = (fields(newer), fields(here));
    let mut names: Vec<&String> = newer.keys().chain(here.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let differs = names
        .into_iter()
        .filter(|name| newer.get(*name) != here.get(*name));
    differs
        .map(|name| (name.clone(), newer.get(name).cloned().unwrap_or_default()))
        .collect()
}

/// What stands in each field; those with nothing in them are left out.
fn fields(said: &Value) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    collect("", said, &mut found);
    found
}

fn collect(name: &str, value: &Value, found: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(members) => {
            for (member, value) in members {
                let name = match name {
                    "" => member.clone(),
                    _ => format!("{name}.{member}"),
                };
                collect(&name, value, found);
            }
        }
        Value::Array(entries) => {
            for (index, value) in entries.iter().enumerate() {
                collect(&format!("{name}[{index}]"), value, found);
            }
        }
        Value::Null => (),
        Value::String(text) if text.is_empty() => (),
        value => {
            found.insert(name.to_owned(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_differs_is_named_as_in_the_form_and_what_is_empty_says_nothing() {
        let newer = json!({"pairs": [{"query": "a", "response": "b"}], "note": "", "flags": {"ambiguous": true}});
        let here = json!({"pairs": [{"query": "a", "response": "c"}, {"query": "d"}], "flags": {}});
        let expected = [
            ("flags.ambiguous".to_owned(), json!(true)),
            ("pairs[0].response".to_owned(), json!("b")),
            ("pairs[1].query".to_owned(), Value::Null),
        ];
        assert_eq!(differences(&newer, &here), expected);
        assert!(differences(&newer, &newer).is_empty());
    }
}
