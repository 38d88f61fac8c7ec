//! What stays on one side of every split. A model that has learnt from a prompt does better on it, so
//! all rankings of a prompt are one unit, whatever ids it has; so are all prompts of a customer
//! (InstructGPT, section 3.2, splits by user).

use std::collections::BTreeMap;

use crate::error::Result;
use crate::records::{Message, Placed, RankedPrompt};
use crate::split::Sets;

/// What joins two rankings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tie<'a> {
    Id(&'a str),
    Prompt(&'a [Message]),
    Customer(&'a str),
}

/// The unit of each record: rankings that share an id, a prompt or a customer are of one, and so on
/// from one to the next. Prompts are compared as they were written: a tokenizer that lacks words
/// makes the same tokens of different ones. It has the name of its first
/// customer or, without one, of its first id, in alphabetical order, so that the order of the file
/// does not matter.
///
/// # Errors
/// The first record whose id has another prompt or customer before it, by line and field; and one
/// that the file wants on another side than its unit.
pub fn units(records: &[Placed<RankedPrompt>]) -> Result<Vec<String>> {
    let prompts = records.iter().map(|placed| placed.record.prompt.messages());
    let prompts: Vec<Vec<Message>> = prompts.collect();
    check_ids(records, &prompts)?;
    let mut sets = Sets::new(records.len());
    let mut first: BTreeMap<Tie<'_>, usize> = BTreeMap::new();
    for (index, (placed, prompt)) in records.iter().zip(&prompts).enumerate() {
        let customer = placed.record.customer.as_deref().map(Tie::Customer);
        let ties = [Tie::Id(&placed.record.id), Tie::Prompt(prompt)];
        for tie in ties.into_iter().chain(customer) {
            let known = *first.entry(tie).or_insert(index);
            sets.join(known, index);
        }
    }
    let mut names: BTreeMap<usize, String> = BTreeMap::new();
    // In their order: ids first, which customers then replace, each of them the first of its kind.
    let mut is_named = BTreeMap::new();
    for (tie, index) in &first {
        let root = sets.root(*index);
        let (kind, name) = match tie {
            Tie::Id(id) => ("id", (*id).to_owned()),
            Tie::Customer(customer) => ("customer", format!("customer {customer}")),
            Tie::Prompt(_) => continue,
        };
        if is_named.insert(root, kind) != Some(kind) {
            names.insert(root, name);
        }
    }
    let mut units = Vec::with_capacity(records.len());
    for index in 0..records.len() {
        units.push(names.get(&sets.root(index)).cloned().unwrap_or_default());
    }
    check_sides(records)?;
    Ok(units)
}

/// An id has one prompt and at most one customer.
fn check_ids(records: &[Placed<RankedPrompt>], prompts: &[Vec<Message>]) -> Result<()> {
    let mut known: BTreeMap<&str, (usize, &[Message])> = BTreeMap::new();
    let mut customers: BTreeMap<&str, &str> = BTreeMap::new();
    for (placed, prompt) in records.iter().zip(prompts) {
        let id = placed.record.id.as_str();
        let (line, first) = *known.entry(id).or_insert((placed.line, prompt));
        if first != prompt.as_slice() {
            let message =
                format!("is another text than that of line {line}, which has the same id");
            return Err(placed.error("prompt", message));
        }
        let Some(customer) = placed.record.customer.as_deref() else {
            continue;
        };
        let first = *customers.entry(id).or_insert(customer);
        if first != customer {
            let message =
                format!("is {customer:?}, but an earlier line of the prompt has {first:?}");
            return Err(placed.error("customer", message));
        }
    }
    Ok(())
}

/// No prompt is to be on both sides. Prompts of one unit may be: an export that decides by each prompt's
/// id knows nothing of units. They are then all held out.
fn check_sides(records: &[Placed<RankedPrompt>]) -> Result<()> {
    let mut sides: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    for placed in records {
        let Some(side) = placed.record.split.as_deref() else {
            continue;
        };
        let (line, first) = *sides
            .entry(&placed.record.id)
            .or_insert((placed.line, side));
        if first != side {
            let message = format!("is {side:?}, but line {line} says {first:?} of the same prompt");
            return Err(placed.error("split", message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use serde_json::{Value, json};

    use super::*;

    fn read(lines: &[Value]) -> Vec<Placed<RankedPrompt>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        let ranked = lines.iter().map(|line| {
            let mut line = line.clone();
            let completion = |id: &str| json!({"id": id, "text": "x", "rank": 1});
            line["completions"] = json!([completion("1"), completion("2")]);
            format!("{line}\n")
        });
        std::fs::write(file.path(), ranked.collect::<String>()).unwrap();
        crate::records::read_placed(file.path()).unwrap()
    }

    fn units_of(lines: &[Value]) -> Result<Vec<String>> {
        units(&read(lines))
    }

    /// Item 16 of the checklist.
    #[test]
    fn rankings_that_share_an_id_a_text_or_a_customer_are_one_unit() {
        let lines = [
            json!({"id": "b", "prompt": "same"}),
            json!({"id": "c", "prompt": "other"}),
            json!({"id": "a", "prompt": "same"}),
            // Joined by a customer, and that one to a third prompt by its text.
            json!({"id": "d", "prompt": "one", "customer": "zoe"}),
            json!({"id": "e", "prompt": "two", "customer": "zoe"}),
            json!({"id": "f", "prompt": "two", "customer": "adam"}),
            json!({"id": "d", "prompt": "one"}),
        ];
        let expected = [
            "a",
            "c",
            "a",
            "customer adam",
            "customer adam",
            "customer adam",
        ];
        let found = units_of(&lines).unwrap();
        assert_eq!(found[..6], expected);
        assert_eq!(found[6], "customer adam");
        // Backwards they are the same.
        let mut backwards = lines.to_vec();
        backwards.reverse();
        let mut found_backwards = units_of(&backwards).unwrap();
        found_backwards.reverse();
        assert_eq!(found_backwards, found);
    }

    #[test]
    fn an_id_with_two_prompts_or_two_customers_is_refused_by_line_and_field() {
        let said = |lines: &[Value]| units_of(lines).unwrap_err().to_string();
        let error = said(&[
            json!({"id": "a", "prompt": "one"}),
            json!({"id": "b", "prompt": "two"}),
            json!({"id": "a", "prompt": "two"}),
        ]);
        let words = "line 3, field prompt: is another text than that of line 1";
        assert!(error.contains(words), "{error}");
        let error = said(&[
            json!({"id": "a", "prompt": "one", "customer": "acme"}),
            json!({"id": "a", "prompt": "one"}),
            json!({"id": "a", "prompt": "one", "customer": "other"}),
        ]);
        let words = "line 3, field customer: is \"other\"";
        assert!(error.contains(words), "{error}");
    }

    #[test]
    fn a_prompt_that_is_wanted_on_both_sides_is_refused_by_line_and_field() {
        let line = |id: &str, prompt: &str, split: Value| {
            let mut line = json!({"id": id, "prompt": prompt});
            if !split.is_null() {
                line["split"] = split;
            }
            line
        };
        let both = |second: Value| {
            [
                line("a", "one", json!("train")),
                line("a", "one", Value::Null),
                line("b", "two", json!("validation")),
                second,
            ]
        };
        units_of(&both(line("a", "one", json!("train")))).unwrap();
        let error = units_of(&both(line("a", "one", json!("validation"))));
        let error = error.unwrap_err().to_string();
        let words = "line 4, field split: is \"validation\", but line 1 says \"train\"";
        assert!(error.contains(words), "{error}");
        // As an export says it that decides by ids.
        let units = units_of(&both(line("c", "one", json!("validation")))).unwrap();
        assert_eq!(units[0], units[3]);
    }
}
