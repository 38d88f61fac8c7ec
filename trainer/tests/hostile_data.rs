//! Data files from anywhere: whatever is wrong with one ends a run in one sentence that names
//! file, line and field, and leaves nothing behind.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod place;
mod refusal;
#[expect(dead_code, reason = "other tests use the rest")]
mod tiny;

use std::path::Path;

use place::{Place, demonstrations, prompts, rankings, weights};
use refusal::assert_refused;
use serde_json::{Value, json};
use tiny::Kept;
use trainer::error::Result;
use trainer::sft::Outcome;
use trainer::{dpo, ppo, reward, sft};

/// A kind of data file, with the run that reads it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Demonstrations,
    Rankings,
    /// Rankings that a policy learns from directly.
    Preferences,
    Prompts,
    Texts,
}

impl Kind {
    const ALL: [Self; 5] = [
        Self::Demonstrations,
        Self::Rankings,
        Self::Preferences,
        Self::Prompts,
        Self::Texts,
    ];

    /// Runs what reads the file at `path`; PPO needs a reward model, trained as `judge`.
    fn run(self, place: &Place, path: &Path) -> Result<Outcome> {
        let mut progress = Kept::default();
        let mut ppo = place.ppo(&place.path("judge/checkpoint"), "out");
        match self {
            Self::Demonstrations => {
                let mut job = place.sft("out");
                job.data = path.to_owned();
                sft::run(&job, &mut progress)
            }
            Self::Rankings => {
                let mut job = place.reward("out");
                job.data = path.to_owned();
                reward::run(&job, &mut progress)
            }
            Self::Preferences => {
                let mut job = place.dpo("out");
                job.data = path.to_owned();
                dpo::run(&job, &mut progress)
            }
            Self::Prompts => {
                ppo.prompts = path.to_owned();
                ppo::run(&ppo, &mut progress)
            }
            Self::Texts => {
                ppo.texts = Some(path.to_owned());
                ppo::run(&ppo, &mut progress)
            }
        }
    }
}

/// A good line of each kind of file.
fn good(kind: Kind) -> Value {
    let mut lines = match kind {
        Kind::Demonstrations => demonstrations(1),
        Kind::Rankings | Kind::Preferences => rankings(1),
        Kind::Prompts => prompts(1),
        Kind::Texts => vec![json!({"id": "t", "text": "one two three"})],
    };
    lines.remove(0)
}

/// Writes `bytes` as the run's file of that kind, and holds the run's last words against `words`.
fn assert_line_refused(place: &Place, kind: Kind, bytes: impl AsRef<[u8]>, words: &[&str]) {
    let path = place.path("hostile.jsonl");
    std::fs::write(&path, bytes).unwrap();
    let mut all = vec!["hostile.jsonl"];
    all.extend(words);
    assert_refused(place, &all, |place| kind.run(place, &path));
}

#[test]
fn a_file_that_is_no_json_lines_is_refused_by_line_and_field() {
    let place = Place::new();
    place.trained_reward("judge");
    for kind in Kind::ALL {
        let good = good(kind);
        let refused = |bytes: &[u8], words: &[&str]| {
            assert_line_refused(&place, kind, bytes, words);
        };
        let second = |bad: &[u8]| [format!("{good}\n").as_bytes(), bad, b"\n"].concat();
        let line = good.to_string();
        refused(
            &second(b"nonsense"),
            &["line 2: is not a JSON object with the fields of a record: expected"],
        );
        refused(&second(b"{\"id\":"), &["line 2"]);
        refused(&second(b"[1, 2]"), &["line 2"]);
        refused(
            &second(b"5"),
            &["line 2: is not a JSON object with the fields of a record: invalid type"],
        );
        refused(
            &second(format!("{line} {line}").as_bytes()),
            &["line 2: is not a JSON object with the fields of a record: trailing"],
        );
        let utf8 = "line 2: is not valid UTF-8 at byte 3";
        refused(&second(b"{\"\xff\"}"), &[utf8]);
        refused(
            &second(b"\0"),
            &["line 2: is not a JSON object with the fields of a record: expected"],
        );
        let inside = line.replacen("\"id\":\"", "\"id\":\"\0", 1);
        refused(
            &second(inside.as_bytes()),
            &["line 2, field id: control character"],
        );
        let deep = "[".repeat(200_000);
        refused(&second(deep.as_bytes()), &["line 2"]);
        // Also within a field that nothing reads.
        let deep = line.replacen('{', &format!("{{\"x\":{deep},"), 1);
        refused(&second(deep.as_bytes()), &["line 2"]);
        let twice = line.replacen('{', "{\"id\":\"x\",", 1);
        refused(
            &second(twice.as_bytes()),
            &["line 2", "duplicate field `id`"],
        );
        refused(
            &[b"\xEF\xBB\xBF", line.as_bytes()].concat(),
            &["line 1: begins with a byte-order mark"],
        );
        refused(b"\xFF\xFE{\0}\0", &["line 1: looks like UTF-16"]);
        // One line, to those who end lines with a carriage return alone.
        refused(
            format!("{line}\r{line}\r").as_bytes(),
            &["line 1: is not a JSON object with the fields of a record: trailing"],
        );
        refused(b"", &["hostile.jsonl: has no records"]);
        refused(b"\n \n\r\n", &["hostile.jsonl: has no records"]);
    }
}

#[test]
fn a_line_of_a_hundred_megabytes_is_refused_unread() {
    let place = Place::new();
    let long = "a".repeat(100 << 20);
    let good = good(Kind::Demonstrations);
    for bad in [long.clone(), good.to_string().replacen("d0", &long, 1)] {
        let words = ["line 2: is longer than 16 MiB"];
        let text = format!("{good}\n{bad}\n");
        assert_line_refused(&place, Kind::Demonstrations, text, &words);
    }
}

#[test]
fn what_is_no_file_is_refused() {
    let place = Place::new();
    place.trained_reward("judge");
    for kind in Kind::ALL {
        for (path, words) in [
            (place.path("base"), "base: is a folder"),
            (place.path("none.jsonl"), "none.jsonl: No such file"),
            ("/dev/zero".into(), "/dev/zero: is no regular file"),
        ] {
            assert_refused(&place, &[words], |place| kind.run(place, &path));
        }
    }
}

/// Two lines that differ in how they end are the same data.
#[test]
fn carriage_returns_before_line_ends_change_nothing() {
    let place = Place::new();
    let straight = sft::run(&place.sft("straight"), &mut Kept::default()).unwrap();
    let text = std::fs::read_to_string(place.path("demonstrations.jsonl")).unwrap();
    let mut job = place.sft("windows");
    job.data = place.path("windows.jsonl");
    std::fs::write(&job.data, text.replace('\n', "\r\n")).unwrap();
    let ended = sft::run(&job, &mut Kept::default()).unwrap();
    assert!(weights(&ended.checkpoint) == weights(&straight.checkpoint));
}

#[test]
fn a_field_that_means_nothing_is_refused_by_name() {
    let place = Place::new();
    place.trained_reward("judge");
    let changed = |kind: Kind, change: &dyn Fn(&mut Value)| {
        let mut line = good(kind);
        change(&mut line);
        format!("{}\n{line}\n", good(kind))
    };
    let refused = |kind: Kind, change: &dyn Fn(&mut Value), words: &[&str]| {
        assert_line_refused(&place, kind, changed(kind, change), words);
    };
    let robot = json!([{"role": "robot", "content": "x"}]);
    let many = |n: usize| -> Value {
        let item = |n: usize| json!({"id": n.to_string(), "text": "red", "rank": n + 1});
        (0..n).map(item).collect()
    };

    let kind = Kind::Rankings;
    let at = |field: &str| format!("line 2, field {field}");
    refused(
        kind,
        &|line| line["completions"] = many(1),
        &[&at("completions: a ranking needs at least 2")],
    );
    refused(
        kind,
        &|line| line["completions"] = json!([]),
        &[&at("completions: a ranking needs at least 2")],
    );
    refused(
        kind,
        &|line| line["completions"] = many(1001),
        &[&at("completions: has 1001")],
    );
    refused(
        kind,
        &|line| line["completions"][1]["text"] = json!(" \n"),
        &[&at("completions: completion 2 is empty")],
    );
    refused(
        kind,
        &|line| line["completions"][1]["rank"] = json!(0),
        &[&at("rank: ranks count from 1")],
    );
    for rank in [json!(-1), json!(1.5), json!("1"), json!(1e300), json!([1])] {
        refused(
            kind,
            &|line| line["completions"][1]["rank"] = rank.clone(),
            &[&at("completions[1].rank: invalid")],
        );
    }
    refused(
        kind,
        &|line| line["completions"][0]["rating"] = json!(256),
        &[&at("completions[0].rating: invalid")],
    );
    refused(
        kind,
        &|line| line["completions"][0]["rating"] = json!(8),
        &[&at("completions[0].rating: is 8: ratings are 1 to 7")],
    );
    // An id that an earlier line has, for another prompt.
    refused(
        kind,
        &|line| line["prompt"] = json!("say something else"),
        &[&at("prompt: is another text than that of line 1")],
    );
    let both = |line: &mut Value| line["split"] = json!("validation");
    let train = changed(kind, &both).replacen('{', "{\"split\":\"train\",", 1);
    assert_line_refused(
        &place,
        kind,
        train,
        &[&at("split: is \"validation\", but line 1")],
    );
    refused(
        kind,
        &|line| line["prompt"] = robot.clone(),
        &[&at("prompt: unknown role \"robot\"")],
    );
    refused(
        kind,
        &|line| line["prompt"] = json!(7),
        &[&at("prompt: must be a text")],
    );
    refused(
        kind,
        &|line| line["prompt"] = json!(""),
        &[&at("prompt: is empty")],
    );
    refused(
        kind,
        &|line| line["split"] = json!("test"),
        &[&at("split: is \"test\"")],
    );
    let twice = changed(kind, &|_| ()).replacen(
        "{\"id\":\"0\"",
        "{\"flags\":{\"a\":true,\"a\":false},\"id\":\"0\"",
        1,
    );
    assert_line_refused(
        &place,
        kind,
        twice,
        &["line 1, field completions[0].flags", "duplicate field `a`"],
    );
    let quoted = "x".repeat(1 << 20);
    refused(
        kind,
        &|line| line["completions"][1]["rank"] = json!(quoted),
        &[&at("completions[1].rank: invalid"), "…"],
    );

    let kind = Kind::Demonstrations;
    refused(
        kind,
        &|line| line["messages"][1]["content"] = json!("\t"),
        &[&at("messages: the answer is empty")],
    );
    refused(
        kind,
        &|line| line["messages"] = robot.clone(),
        &[&at("messages: roles are")],
    );
    refused(
        kind,
        &|line| line["messages"][0]["content"] = json!(" "),
        &[&at(
            "messages: what comes before the answer has an empty turn",
        )],
    );
    refused(
        kind,
        &|line| line["messages"] = json!([]),
        &[&at("messages: needs a request")],
    );
    refused(
        kind,
        &|line| line["messages"][0]["role"] = json!(3),
        &[&at("messages[0].role: invalid type")],
    );

    refused(
        Kind::Prompts,
        &|line| line["prompt"] = robot.clone(),
        &[&at("prompt: unknown role")],
    );
    refused(
        Kind::Prompts,
        &|line| line["prompt"] = json!([]),
        &[&at("prompt: must end with a turn of the user")],
    );
    refused(
        Kind::Texts,
        &|line| line["text"] = json!(" "),
        &[&at("text: is empty")],
    );
}

/// What is too long in part is left out and counted; a file in which everything is has nothing
/// to learn from.
#[test]
fn a_file_of_ties_or_of_texts_beyond_the_context_is_refused() {
    let place = Place::new();
    place.trained_reward("judge");
    let long = "say ".repeat(200);
    let refused = |kind: Kind, line: Value, words: &str| {
        assert_line_refused(&place, kind, format!("\n{line}\n"), &[words]);
    };
    for kind in [Kind::Rankings, Kind::Preferences] {
        let mut line = good(kind);
        for item in line["completions"].as_array_mut().unwrap() {
            item["rank"] = json!(3);
        }
        let words = "line 2, field rank: ties everything, as does";
        refused(kind, line, words);
        let mut line = good(kind);
        line["prompt"] = json!(long);
        let words = "line 2, field completions: holds more than 128 tokens";
        refused(kind, line, words);
    }
    let mut line = good(Kind::Prompts);
    line["prompt"] = json!(long);
    refused(
        Kind::Prompts,
        line,
        "line 2, field prompt: is longer than 119 tokens",
    );
    let mut line = good(Kind::Demonstrations);
    line["messages"][0]["content"] = json!(long);
    refused(
        Kind::Demonstrations,
        line,
        "line 2, field messages: is longer than 128 tokens",
    );
    refused(
        Kind::Texts,
        json!({"text": "one"}),
        "line 2, field text: has fewer than 2 tokens",
    );
}
