//! A few records of every kind that never change, as the database sends them: what formats make of them is known to
//! the byte.

use serde_json::{Value, json};
use trainer::records::{DemonstrationRecord, Message, Prompt, PromptRecord, TextRecord};
use uuid::Uuid;

use crate::domain::export::Aggregation;
use crate::domain::snapshot::SnapshotKind;
use crate::exchange::mean_ranking::mean_rankings;
use crate::exchange::rows::{PromptLine, RankingLine, Record, ranking_line};
use crate::store::snapshots::RankingItem;

/// Records of a kind, on both sides of the split.
pub(in crate::exchange) fn records(kind: SnapshotKind, aggregation: Aggregation) -> Vec<Record> {
    match (kind, aggregation) {
        (SnapshotKind::Rankings, Aggregation::Labelers) => {
            rankings().into_iter().map(Record::Ranking).collect()
        }
        (SnapshotKind::Rankings, Aggregation::MeanRank) => {
            let ranked = rankings().into_iter().map(|line| line.ranked);
            mean_rankings(ranked)
                .into_iter()
                .map(Record::Mean)
                .collect()
        }
        (SnapshotKind::Demonstrations, _) => demonstrations(),
        (SnapshotKind::Prompts, _) => prompts(),
        (SnapshotKind::Texts, _) => ["text-1", "text-2"]
            .map(|id| {
                Record::Text(TextRecord {
                    id: id.to_owned(),
                    text: format!("A \"text\" of several lines:\n{id}, 好."),
                })
            })
            .into(),
    }
}

/// Two labelers and a decision on one prompt, and one labeler on another who says nothing that need not be said.
fn rankings() -> Vec<RankingLine> {
    let full = |n: u128, ranks: [Option<u32>; 3]| RankingItem {
        ranking_id: Uuid::from_u128(n),
        external_id: "prompt-1".to_owned(),
        body: json!([
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Wie geht's? <b>\"好\"</b>"},
        ]),
        category: "open_qa".to_owned(),
        customer: Some("customer-1".to_owned()),
        unit: "customer-1".to_owned(),
        labeler_id: Uuid::from_u128(100 + n),
        is_simulated: n == 2,
        display_order: vec![2, 0, 1],
        guidelines_version: 3,
        form_version: 2,
        note: "Close.".to_owned(),
        is_adjudication: n == 3,
        chosen_by: Some("disagreement".to_owned()),
        disagreement: Some(0.25),
        strength: None,
        is_all_bad: n == 1,
        active_ms: Some(61_000),
        idle_ms: Some(500),
        completions: completions(ranks),
    };
    let bare = RankingItem {
        ranking_id: Uuid::from_u128(4),
        external_id: HELD_OUT.to_owned(),
        body: json!("Which of two?"),
        category: "generation".to_owned(),
        customer: None,
        unit: HELD_OUT.to_owned(),
        display_order: Vec::new(),
        note: String::new(),
        chosen_by: None,
        disagreement: None,
        strength: Some(2),
        active_ms: None,
        idle_ms: None,
        completions: json!([
            {"id": Uuid::from_u128(21), "text": "this", "model": null, "rank": 1, "rating": null, "scales": {},
             "flags": {}, "note": ""},
            {"id": Uuid::from_u128(22), "text": "that", "model": null, "rank": 2, "rating": null, "scales": {},
             "flags": {}, "note": ""},
        ]),
        ..full(4, [None; 3])
    };
    let items = [
        full(1, [Some(1), Some(2), None]),
        full(2, [Some(1), Some(3), Some(2)]),
        full(3, [Some(2), Some(1), Some(2)]),
        bare,
    ];
    let lines = items.into_iter().map(ranking_line);
    lines.map(Result::unwrap).collect()
}

/// An id that is held out.
const HELD_OUT: &str = "prompt-3";

fn completions(ranks: [Option<u32>; 3]) -> Value {
    let item = |(n, rank): (usize, Option<u32>)| {
        json!({
            "id": Uuid::from_u128(11 + n as u128),
            "text": format!("Answer {n}.\n\tIn \"two\" lines."),
            "model": format!("model-{n}"),
            "rank": rank,
            "rating": rank.map(|rank| 8 - rank),
            "scales": {"helpful": 5, "true": n + 1},
            "flags": {"hallucination": n == 1, "sexual": false},
            "note": if n == 0 { "Good." } else { "" },
        })
    };
    ranks.into_iter().enumerate().map(item).collect()
}

fn turn(role: &str, content: &str) -> Message {
    Message {
        role: role.to_owned(),
        content: content.to_owned(),
    }
}

fn demonstrations() -> Vec<Record> {
    let demonstration = |id: &str, writing: Option<&str>| {
        Record::Demonstration(DemonstrationRecord {
            id: id.to_owned(),
            messages: vec![
                turn("system", "Be brief."),
                turn("user", "One?"),
                turn("assistant", "Two."),
                turn("user", "And then?"),
                turn("assistant", "Three, 好."),
            ],
            writing: writing.map(str::to_owned),
        })
    };
    vec![
        demonstration("demonstration-2", Some("writing-1")),
        demonstration("demonstration-1", None),
    ]
}

fn prompts() -> Vec<Record> {
    let prompt = |id: &str, customer: Option<&str>, review: Option<Value>| {
        Record::Prompt(PromptLine {
            record: PromptRecord {
                id: id.to_owned(),
                prompt: Prompt::Text(format!("What is {id}?")),
                category: Some("closed_qa".to_owned()),
            },
            customer: customer.map(str::to_owned),
            review,
            unit: customer.unwrap_or(id).to_owned(),
        })
    };
    let review = json!({
        "category": "open_qa",
        "language": "de",
        "flags": {"sensitive": true},
        "personal_data": true,
        "found": [{"kind": "name", "passage": "Ada"}],
    });
    vec![
        prompt("prompt-1", Some("customer-1"), Some(review)),
        prompt(HELD_OUT, None, None),
    ]
}
