//! Lines that must be refused, each with the field it is refused for.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;

fn refused(kind: ImportKind, line: &str) -> Complaint {
    match parse_line(kind, line, &Form::default()) {
        Ok(row) => panic!("{line} was taken: {row:?}"),
        Err(complaint) => complaint,
    }
}

fn field(kind: ImportKind, line: &str) -> String {
    refused(kind, line).0
}

#[test]
fn the_wrong_field_of_a_prompt_is_named() {
    let kind = ImportKind::Prompts;
    assert_eq!(field(kind, "[1]"), "");
    assert_eq!(field(kind, r#"{"id":"a""#), "");
    assert_eq!(field(kind, r#"{"prompt":"x"}"#), "id");
    assert_eq!(field(kind, r#"{"id":7,"prompt":"x"}"#), "id");
    assert_eq!(field(kind, r#"{"id":"a","prompt":" "}"#), "prompt");
    assert_eq!(field(kind, r#"{"id":"a","prompt":{}}"#), "prompt");
    assert_eq!(
        field(kind, r#"{"id":"a","prompt":"x","catgory":"chat"}"#),
        "catgory"
    );
    assert_eq!(field(kind, r#"{"id":"a","prompt":"x\u0000"}"#), "prompt");
    let (name, message) = refused(kind, r#"{"id":"a","prompt":"x","category":"poetry"}"#);
    assert_eq!(name, "category");
    assert!(message.is("error-unknown-category"), "{message}");
    let turn = r#"{"id":"a","prompt":[{"role":"user","content":"x","name":"Bo"}]}"#;
    assert_eq!(field(kind, turn), "prompt[1].name");
    let role = r#"{"id":"a","prompt":[{"role":"robot","content":"x"}]}"#;
    assert!(refused(kind, role).1.is("import-unknown-role"));
}

#[test]
fn a_backslash_before_u0000_is_only_text() {
    let line = r#"{"id":"a","prompt":"\\u0000"}"#;
    assert!(parse_line(ImportKind::Prompts, line, &Form::default()).is_ok());
}

#[test]
fn a_demonstration_ends_with_the_assistant() {
    let line = r#"{"id":"a","messages":[{"role":"assistant","content":"x"},{"role":"user","content":"y"}]}"#;
    assert_eq!(field(ImportKind::Demonstrations, line), "messages");
}

#[test]
fn a_task_has_four_to_nine_candidates() {
    let line = |n: usize| {
        let items: Vec<String> = (0..n)
            .map(|index| format!(r#"{{"id":"{index}","text":"t{index}","model":"m"}}"#))
            .collect();
        format!(
            r#"{{"id":"a","prompt":"x","completions":[{}]}}"#,
            items.join(",")
        )
    };
    let kind = ImportKind::Candidates;
    assert_eq!(field(kind, &line(3)), "completions");
    assert_eq!(field(kind, &line(10)), "completions");
    assert!(parse_line(kind, &line(9), &Form::default()).is_ok());
    let twice = line(4).replace(r#""id":"3""#, r#""id":"0""#);
    assert!(refused(kind, &twice).1.is("import-id-twice"));
}

#[test]
fn ranks_close_up_and_ratings_and_flags_follow_the_form() {
    let line = |ranks: [u32; 3], extra: &str| {
        let items: Vec<String> = ranks
            .iter()
            .enumerate()
            .map(|(index, rank)| format!(r#"{{"id":"{index}","text":"t","rank":{rank}{extra}}}"#))
            .collect();
        format!(
            r#"{{"id":"a","prompt":"x","completions":[{}]}}"#,
            items.join(",")
        )
    };
    let kind = ImportKind::Rankings;
    let row = parse_line(kind, &line([5, 2, 5], ""), &Form::default()).unwrap();
    let Row::Ranking(row) = row else {
        panic!("{row:?}")
    };
    let ranks: Vec<i16> = row
        .ranking
        .judgements
        .iter()
        .map(|item| item.rank.unwrap())
        .collect();
    assert_eq!(ranks, [2, 1, 2]);
    assert!(
        row.display_order.is_empty(),
        "the file's order was not shown"
    );
    assert_eq!(field(kind, &line([1, 0, 2], "")), "rank");
    assert_eq!(
        field(kind, &line([1, 2, 3], r#","rating":8"#)),
        "completions[1].rating"
    );
    let flag = line([1, 2, 3], r#","flags":{"is_funny":true}"#);
    assert_eq!(field(kind, &flag), "completions[1].flags.is_funny");
    let order = line([1, 2, 3], "").replace(r#""id":"a""#, r#""id":"a","display_order":[0,0,1]"#);
    assert_eq!(field(kind, &order), "display_order");
}

#[test]
fn further_answers_of_a_ranking_are_read_and_wrong_ones_are_named() {
    let mut form = Form::default();
    let scale = serde_json::json!([{"key": "truthful", "min": 1, "max": 5, "label": {"en": "T"}}]);
    form.scales = serde_json::from_value(scale).unwrap();
    let line = |n: usize, ranks: &str, item: &str, rest: &str| {
        let items: Vec<String> = (0..n)
            .map(|index| {
                let rank = &ranks[index..=index];
                format!(r#"{{"id":"{index}","text":"t","rank":{rank}{item}}}"#)
            })
            .collect();
        let items = items.join(",");
        let line = format!(r#"{{"id":"a","prompt":"x","completions":[{items}]{rest}}}"#);
        parse_line(ImportKind::Rankings, &line, &form)
    };
    let item = r#","scales":{"truthful":4},"note":"fine""#;
    let rest = r#","strength":2,"all_bad":true,"active_ms":1500,"idle_ms":0"#;
    let Row::Ranking(row) = line(2, "12", item, rest).unwrap() else {
        panic!("no ranking")
    };
    let judged = &row.ranking.judgements[0];
    assert_eq!((judged.scales["truthful"], &*judged.note), (4, "fine"));
    assert_eq!(
        (row.ranking.strength, row.ranking.is_all_bad),
        (Some(2), true)
    );
    assert_eq!((row.active_ms, row.idle_ms), (Some(1500), Some(0)));
    let long = format!(r#","note":"{}""#, "x".repeat(1001));
    for (n, ranks, item, rest, field, key) in [
        (
            3,
            "123",
            "",
            r#","strength":2"#,
            "strength",
            "error-strength-of-two",
        ),
        (
            2,
            "11",
            "",
            r#","strength":2"#,
            "strength",
            "error-strength-of-tie",
        ),
        (2, "12", "", r#","strength":5"#, "strength", "error-outside"),
        (
            2,
            "12",
            "",
            r#","active_ms":-1"#,
            "active_ms",
            "import-negative",
        ),
        (
            2,
            "12",
            "",
            r#","idle_ms":"long""#,
            "idle_ms",
            "import-unfit",
        ),
        (
            2,
            "12",
            r#","scales":{"truthful":6}"#,
            "",
            "completions[1].scales.truthful",
            "error-outside",
        ),
        (
            2,
            "12",
            r#","scales":{"kind":1}"#,
            "",
            "completions[1].scales.kind",
            "import-no-such-scale",
        ),
        (
            2,
            "12",
            &*long,
            "",
            "completions[1].note",
            "error-longer-than",
        ),
    ] {
        let (name, message) = line(n, ranks, item, rest).unwrap_err();
        assert!(name == field && message.is(key), "{name}: {message}");
    }
}
