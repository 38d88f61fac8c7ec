//! The rows of a snapshot in the formats of other trainers. Every function here is pure: one ranking,
//! demonstration or prompt in, JSON objects out, fields in a fixed order.

use serde_json::{Map, Value, json};
use trainer::records::{DemonstrationRecord, Message, Prompt, RankedCompletion, RankedPrompt};

use crate::domain::export::{ExportFormat, Margin};

/// The lines of a ranking; pairs of equal rank give none.
pub fn of_ranking(ranked: &RankedPrompt, format: ExportFormat, margin: Margin) -> Vec<Value> {
    match format {
        ExportFormat::TrlUnpaired => unpaired(ranked),
        ExportFormat::Nectar => vec![nectar(ranked)],
        ExportFormat::Summarize => strict_pairs(ranked)
            .map(|(better, worse)| summarize(ranked, better, worse))
            .collect(),
        ExportFormat::Hh => strict_pairs(ranked)
            .map(|(better, worse)| {
                let side = |item: &RankedCompletion| {
                    transcript(&ranked.prompt.messages()) + "\n\nAssistant: " + item.text.as_str()
                };
                json!({"chosen": side(better), "rejected": side(worse)})
            })
            .collect(),
        _ => strict_pairs(ranked)
            .map(|(better, worse)| preference(ranked, better, worse, format, margin))
            .collect(),
    }
}

/// The pairs in which one is strictly better, best first, each with the worse one.
fn strict_pairs(
    ranked: &RankedPrompt,
) -> impl Iterator<Item = (&RankedCompletion, &RankedCompletion)> {
    let mut by_rank: Vec<&RankedCompletion> = ranked.completions.iter().collect();
    by_rank.sort_by_key(|completion| completion.rank);
    let n = by_rank.len();
    (0..n)
        .flat_map(move |better| (better + 1..n).map(move |worse| (better, worse)))
        .map(move |(better, worse)| (by_rank[better], by_rank[worse]))
        .filter(|(better, worse)| better.rank < worse.rank)
}

/// A preference pair as TRL reads it.
fn preference(
    ranked: &RankedPrompt,
    better: &RankedCompletion,
    worse: &RankedCompletion,
    format: ExportFormat,
    margin: Margin,
) -> Value {
    let prompt = ranked.prompt.messages();
    let mut line = Map::new();
    if format == ExportFormat::TrlImplicit {
        let side = |item: &RankedCompletion| {
            let answer = std::iter::once(answer(&item.text));
            prompt.iter().cloned().chain(answer).collect::<Vec<_>>()
        };
        line.insert("chosen".to_owned(), json!(side(better)));
        line.insert("rejected".to_owned(), json!(side(worse)));
    } else {
        line.insert("prompt".to_owned(), json!(prompt));
        line.insert("chosen".to_owned(), json!([answer(&better.text)]));
        line.insert("rejected".to_owned(), json!([answer(&worse.text)]));
    }
    let points = match margin {
        Margin::Nothing => None,
        Margin::Ranks => Some(f64::from(worse.rank) - f64::from(better.rank)),
        Margin::Ratings => {
            let gap = better.rating.zip(worse.rating);
            Some(gap.map_or(0.0, |(high, low)| f64::from(high.saturating_sub(low))))
        }
    };
    if let Some(points) = points {
        line.insert("margin".to_owned(), json!(points));
    }
    Value::Object(line)
}

fn answer(text: &str) -> Message {
    Message {
        role: "assistant".to_owned(),
        content: text.to_owned(),
    }
}

/// First places are good and last places are not; what lies between says nothing and is left out, as
/// is everything where all are tied.
fn unpaired(ranked: &RankedPrompt) -> Vec<Value> {
    let ranks = ranked.completions.iter().map(|item| item.rank);
    let (Some(first), Some(last)) = (ranks.clone().min(), ranks.max()) else {
        return Vec::new();
    };
    let prompt = ranked.prompt.messages();
    ranked
        .completions
        .iter()
        .filter(|item| first < last && (item.rank == first || item.rank == last))
        .map(|item| {
            json!({
                "prompt": prompt,
                "completion": [answer(&item.text)],
                "label": item.rank == first,
            })
        })
        .collect()
}

/// All answers of a prompt with their ranks.
fn nectar(ranked: &RankedPrompt) -> Value {
    let messages = ranked.prompt.messages();
    let answers: Vec<Value> = ranked
        .completions
        .iter()
        .map(|item| {
            json!({
                "answer": item.text,
                "model": item.model.as_deref().unwrap_or_default(),
                "rank": f64::from(item.rank),
            })
        })
        .collect();
    json!({
        "prompt": transcript(&messages) + "\n\nAssistant: ",
        "answers": answers,
        "turns": messages.iter().filter(|turn| turn.role == "user").count(),
        "num_responses": ranked.completions.len(),
        "source": [ranked.id],
    })
}

/// Two texts in the order they are stored in, and which is better.
fn summarize(ranked: &RankedPrompt, better: &RankedCompletion, worse: &RankedCompletion) -> Value {
    let place = |item: &RankedCompletion| {
        let found = ranked
            .completions
            .iter()
            .position(|other| other.id == item.id);
        found.unwrap_or_default()
    };
    let is_first = place(better) < place(worse);
    let (first, second) = if is_first {
        (better, worse)
    } else {
        (worse, better)
    };
    let summary = |item: &RankedCompletion| {
        json!({
            "text": item.text,
            "policy": item.model.as_deref().unwrap_or_default(),
            "note": "",
        })
    };
    let split = match ranked.split.as_deref() {
        Some("validation") => "valid1",
        _ => "train",
    };
    json!({
        "info": {"id": ranked.id, "post": transcript(&ranked.prompt.messages()).trim_start()},
        "summaries": [summary(first), summary(second)],
        "choice": u8::from(!is_first),
        "worker": ranked.labeler.as_deref().unwrap_or_default(),
        "batch": "",
        "split": split,
        "extra": {},
    })
}

/// Turns as a transcript of `Human` and `Assistant`, each after an empty line.
fn transcript(messages: &[Message]) -> String {
    let turn = |message: &Message| {
        let who = match message.role.as_str() {
            "assistant" => "Assistant",
            "system" => "System",
            _ => "Human",
        };
        format!("\n\n{who}: {}", message.content)
    };
    messages.iter().map(turn).collect()
}

/// A demonstration in a format of other trainers.
pub fn of_demonstration(record: &DemonstrationRecord, format: ExportFormat) -> Value {
    match format {
        ExportFormat::ShareGpt => {
            let turn = |message: &Message| {
                let from = match message.role.as_str() {
                    "assistant" => "gpt",
                    "system" => "system",
                    _ => "human",
                };
                json!({"from": from, "value": message.content})
            };
            let turns: Vec<Value> = record.messages.iter().map(turn).collect();
            json!({"id": record.id, "conversations": turns})
        }
        _ => {
            // The last request is the instruction; what came before it is the input.
            let (output, before) = match record.messages.split_last() {
                Some((last, before)) => (last.content.as_str(), before),
                None => ("", &[][..]),
            };
            let (instruction, context) = match before.split_last() {
                Some((last, context)) => (last.content.as_str(), context),
                None => ("", &[][..]),
            };
            let input = transcript(context);
            json!({"instruction": instruction, "input": input.trim_start(), "output": output})
        }
    }
}

/// A prompt alone, as TRL's online trainers read it.
pub fn of_prompt(prompt: &Prompt) -> Value {
    json!({"prompt": prompt.messages()})
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn ranked() -> RankedPrompt {
        let line = r#"{"id":"p","prompt":"Hi","labeler":"ada","split":"validation","completions":[
            {"id":"1","text":"bad","model":"m","rank":3,"rating":2},
            {"id":"2","text":"good","rank":1,"rating":6},
            {"id":"3","text":"fair","rank":2,"rating":7}]}"#;
        serde_json::from_str(line).unwrap()
    }

    fn texts(lines: &[Value]) -> Vec<String> {
        lines.iter().map(Value::to_string).collect()
    }

    #[test]
    fn each_strict_pair_is_one_line_and_ties_give_none() {
        let mut tied = ranked();
        tied.completions[2].rank = 3;
        let lines = of_ranking(&tied, ExportFormat::Trl, Margin::Nothing);
        let line = |worse: &str| {
            format!(
                r#"{{"prompt":[{{"role":"user","content":"Hi"}}],"chosen":[{{"role":"assistant","content":"good"}}],"rejected":[{{"role":"assistant","content":"{worse}"}}]}}"#
            )
        };
        assert_eq!(texts(&lines), [line("bad"), line("fair")]);
    }

    #[test]
    fn a_margin_counts_ranks_or_points_and_a_contradiction_is_zero() {
        let margins = |margin| -> Vec<f64> {
            let lines = of_ranking(&ranked(), ExportFormat::TrlImplicit, margin);
            lines
                .iter()
                .map(|line| line["margin"].as_f64().unwrap())
                .collect()
        };
        assert_eq!(margins(Margin::Ranks), [1.0, 2.0, 1.0]);
        assert_eq!(margins(Margin::Ratings), [0.0, 4.0, 5.0]);
        let lines = of_ranking(&ranked(), ExportFormat::TrlImplicit, Margin::Nothing);
        assert!(lines[0].get("margin").is_none());
        assert_eq!(lines[0]["chosen"][0]["role"], "user");
        assert_eq!(lines[0]["chosen"][1]["content"], "good");
    }

    #[test]
    fn unpaired_lines_are_the_first_and_the_last_place() {
        let lines = of_ranking(&ranked(), ExportFormat::TrlUnpaired, Margin::Nothing);
        let labels: Vec<(&str, bool)> = lines
            .iter()
            .map(|line| {
                let text = line["completion"][0]["content"].as_str().unwrap();
                (text, line["label"].as_bool().unwrap())
            })
            .collect();
        assert_eq!(labels, [("bad", false), ("good", true)]);
        let mut tied = ranked();
        for item in &mut tied.completions {
            item.rank = 1;
        }
        assert!(of_ranking(&tied, ExportFormat::TrlUnpaired, Margin::Nothing).is_empty());
    }

    #[test]
    fn transcripts_nectar_and_summaries_have_their_published_shapes() {
        let hh = of_ranking(&ranked(), ExportFormat::Hh, Margin::Nothing);
        assert_eq!(hh[0]["chosen"], "\n\nHuman: Hi\n\nAssistant: good");
        let nectar = &of_ranking(&ranked(), ExportFormat::Nectar, Margin::Nothing)[0];
        assert_eq!(nectar["prompt"], "\n\nHuman: Hi\n\nAssistant: ");
        assert_eq!(
            nectar["answers"][0],
            json!({"answer": "bad", "model": "m", "rank": 3.0})
        );
        assert_eq!(
            (&nectar["turns"], &nectar["num_responses"]),
            (&json!(1), &json!(3))
        );
        let pairs = of_ranking(&ranked(), ExportFormat::Summarize, Margin::Nothing);
        // "good" against "fair", then both against "bad", which is stored first.
        let choices: Vec<&Value> = pairs.iter().map(|pair| &pair["choice"]).collect();
        assert_eq!(choices, [&json!(0), &json!(1), &json!(1)]);
        assert_eq!(pairs[0]["split"], "valid1");
        assert_eq!(pairs[1]["summaries"][0]["text"], "bad");
    }

    #[test]
    fn a_demonstration_becomes_an_instruction_or_a_conversation() {
        let line = r#"{"id":"d","messages":[{"role":"system","content":"S"},{"role":"user","content":"U"},{"role":"assistant","content":"A"}]}"#;
        let record: DemonstrationRecord = serde_json::from_str(line).unwrap();
        assert_eq!(
            of_demonstration(&record, ExportFormat::Alpaca),
            json!({"instruction": "U", "input": "System: S", "output": "A"})
        );
        let conversation = of_demonstration(&record, ExportFormat::ShareGpt);
        assert_eq!(
            conversation["conversations"][2],
            json!({"from": "gpt", "value": "A"})
        );
    }
}
