//! What people say in tests: texts that a test chooses, and submissions made of them.

use std::cell::Cell;

use serde_json::{Value, json};

/// Texts, one after the other and then again.
pub(crate) struct Texts {
    all: Vec<String>,
    at: Cell<usize>,
    /// What models are called.
    pub(crate) models: [String; 3],
    /// Whether labels of the form are such texts, too.
    pub(crate) in_form: bool,
}

impl Texts {
    pub(crate) fn new(all: Vec<String>, models: [String; 3], in_form: bool) -> Self {
        let at = Cell::new(0);
        Self {
            all,
            at,
            models,
            in_form,
        }
    }

    /// The next with at most so many characters and something to see.
    pub(crate) fn next(&self, most: usize) -> &str {
        for _ in 0..=self.all.len() {
            let at = self.at.get();
            self.at.set(at + 1);
            let text = &self.all[at % self.all.len()];
            if !text.trim().is_empty() && text.chars().count() <= most {
                return text;
            }
        }
        panic!("no text is that short");
    }

    pub(crate) fn several(&self, n: usize, most: usize) -> Vec<&str> {
        (0..n).map(|_| self.next(most)).collect()
    }

    /// In one line, as a name is.
    pub(crate) fn name(&self, most: usize) -> String {
        let words: Vec<&str> = self.next(most).split_whitespace().collect();
        words.join(" ")
    }
}

/// A prompt of several turns.
pub(crate) fn turns(texts: &[String]) -> Value {
    let turn = |(index, text): (usize, &String)| {
        let role = ["user", "assistant", "system", "\"><b>tool"][index % 4];
        json!({"role": role, "content": text})
    };
    Value::Array(texts.iter().enumerate().map(turn).collect())
}

/// A ranking that the second labeler gives the other way round.
pub(crate) fn ranking(texts: &Texts, n: usize, is_reversed: bool) -> Value {
    let candidates = (1..=n).map(|position| {
        let rank = if is_reversed {
            n + 1 - position
        } else {
            position
        };
        json!({
            "position": position, "rank": rank, "rating": 1 + position % 7, "note": texts.next(900),
            "flags": {"hallucination": is_reversed, "fails_instruction": true},
        })
    });
    let strength = (n == 2).then_some(2);
    json!({"candidates": candidates.collect::<Vec<_>>(), "note": texts.next(3_000), "strength": strength})
}

pub(crate) fn review(texts: &Texts) -> Value {
    json!({
        "category": "chat", "language": "en", "flags": {"ambiguous": true}, "personal_data": true,
        "found": [{"kind": "email", "passage": texts.next(400)}, {"kind": "name", "passage": texts.next(400)}],
        "note": texts.next(3_000),
    })
}

pub(crate) fn few_shot(texts: &Texts) -> Value {
    let pair = || json!({"query": texts.next(9_000), "response": texts.next(9_000)});
    json!({"instruction": texts.next(9_000), "pairs": [pair(), pair()], "category": "chat", "language": "en"})
}

pub(crate) fn own(texts: &Texts) -> Value {
    json!({
        "prompt": texts.next(9_000), "response": texts.next(9_000), "category": "chat", "language": "en",
        "note": texts.next(3_000),
    })
}
