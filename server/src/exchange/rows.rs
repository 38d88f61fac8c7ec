//! The records of a snapshot, one after the other as the database sends them, and what each becomes in
//! the format that was chosen.

use std::collections::BTreeMap;
use std::pin::pin;

use anyhow::Context;
use async_stream::try_stream;
use futures_util::{Stream, StreamExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::PgConnection;
use trainer::records::{
    DemonstrationRecord, Prompt, PromptRecord, RankedCompletion, RankedPrompt, TextRecord,
};

use crate::domain::export::{Aggregation, ExportChoice, ExportFormat};
use crate::domain::ids::SnapshotId;
use crate::domain::snapshot::{SnapshotKind, split_of};
use crate::exchange::formats;
use crate::exchange::mean_ranking::{MeanRanking, mean_rankings};
use crate::store::snapshots::{self, RankingItem};

/// A completion as our own format has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct CompletionLine {
    id: String,
    text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    /// Null where the labeler left it unranked.
    rank: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rating: Option<u8>,
    #[serde(default)]
    flags: BTreeMap<String, bool>,
    /// Answers to the form's further scales.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    scales: BTreeMap<String, i16>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    note: String,
}

impl CompletionLine {
    /// As every other format has it; none for one without a rank.
    fn ranked(&self) -> Option<RankedCompletion> {
        Some(RankedCompletion {
            id: self.id.clone(),
            text: self.text.clone(),
            model: self.model.clone(),
            rank: self.rank?,
            rating: self.rating,
            flags: self.flags.clone(),
        })
    }
}

/// A line of a rankings export: the contract's fields, and what traces the label.
#[derive(Debug)]
pub struct RankingLine {
    /// Without the completions that were left unranked.
    ranked: RankedPrompt,
    /// All completions, in slot order.
    completions: Vec<CompletionLine>,
    ranking_id: uuid::Uuid,
    display_order: Vec<i16>,
    form_version: i32,
    guidelines_version: i32,
    note: String,
    simulated: bool,
    /// A decision between labels.
    adjudication: bool,
    /// Why the labeler got the task.
    chosen_by: Option<String>,
    /// Of reward models over the candidates when the labeler got the task.
    disagreement: Option<f32>,
    /// Of a comparison of two: how much better the preferred one is.
    strength: Option<i16>,
    /// None of the candidates is any good.
    all_bad: bool,
    active_ms: Option<i64>,
    idle_ms: Option<i64>,
}

impl Serialize for RankingLine {
    /// Fields in the order of every export before: bytes of a snapshot never change.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct OwnLine<'a> {
            id: &'a str,
            prompt: &'a Prompt,
            completions: &'a [CompletionLine],
            #[serde(skip_serializing_if = "Option::is_none")]
            labeler: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            category: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            customer: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            split: Option<&'a str>,
            ranking_id: uuid::Uuid,
            #[serde(skip_serializing_if = "<[i16]>::is_empty")]
            display_order: &'a [i16],
            form_version: i32,
            guidelines_version: i32,
            #[serde(skip_serializing_if = "str::is_empty")]
            note: &'a str,
            #[serde(skip_serializing_if = "is_false")]
            simulated: bool,
            #[serde(skip_serializing_if = "is_false")]
            adjudication: bool,
            #[serde(skip_serializing_if = "Option::is_none")]
            chosen_by: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            disagreement: Option<f32>,
            #[serde(skip_serializing_if = "Option::is_none")]
            strength: Option<i16>,
            #[serde(skip_serializing_if = "is_false")]
            all_bad: bool,
            #[serde(skip_serializing_if = "Option::is_none")]
            active_ms: Option<i64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            idle_ms: Option<i64>,
        }
        let line = OwnLine {
            id: &self.ranked.id,
            prompt: &self.ranked.prompt,
            completions: &self.completions,
            labeler: self.ranked.labeler.as_deref(),
            category: self.ranked.category.as_deref(),
            customer: self.ranked.customer.as_deref(),
            split: self.ranked.split.as_deref(),
            ranking_id: self.ranking_id,
            display_order: &self.display_order,
            form_version: self.form_version,
            guidelines_version: self.guidelines_version,
            note: &self.note,
            simulated: self.simulated,
            adjudication: self.adjudication,
            chosen_by: self.chosen_by.as_deref(),
            disagreement: self.disagreement,
            strength: self.strength,
            all_bad: self.all_bad,
            active_ms: self.active_ms,
            idle_ms: self.idle_ms,
        };
        line.serialize(serializer)
    }
}

/// A line of a prompts export: the contract's fields, and whose prompt it is and what a reviewer said of
/// it, where that is known.
#[derive(Debug, Serialize)]
pub struct PromptLine {
    #[serde(flatten)]
    record: PromptRecord,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    review: Option<Value>,
    /// What stays on one side of a split.
    #[serde(skip)]
    unit: String,
}

/// A record of a snapshot.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Record {
    /// One labeler's ranking.
    Ranking(RankingLine),
    /// The mean of several.
    Mean(MeanRanking),
    /// A demonstration.
    Demonstration(DemonstrationRecord),
    /// A prompt.
    Prompt(PromptLine),
    /// A text.
    Text(TextRecord),
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape that serde wants"
)]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// Which side of a split a ranking is on, as its line says.
fn side_of(ranked: &RankedPrompt) -> &'static str {
    match ranked.split.as_deref() {
        Some("train") => "train",
        Some("validation") => "validation",
        _ => split_of(&ranked.id),
    }
}

impl Record {
    /// Which side of a split it is on: `train` or `validation`.
    pub fn split(&self) -> &'static str {
        match self {
            Self::Ranking(line) => side_of(&line.ranked),
            Self::Mean(line) => side_of(&line.ranked),
            // All of one writing, whose examples show each other's answers.
            Self::Demonstration(record) => split_of(record.writing.as_ref().unwrap_or(&record.id)),
            Self::Prompt(line) => split_of(&line.unit),
            Self::Text(record) => split_of(&record.id),
        }
    }

    /// The ranking, where it is one.
    pub fn ranked(&self) -> Option<&RankedPrompt> {
        match self {
            Self::Ranking(line) => Some(&line.ranked),
            Self::Mean(line) => Some(&line.ranked),
            _ => None,
        }
    }

    /// Whether it is a decision between labels, and no label of its own.
    pub fn is_decision(&self) -> bool {
        matches!(self, Self::Ranking(line) if line.adjudication)
    }

    /// Of one labeler's ranking: how many completions were left unranked.
    pub fn n_unranked(&self) -> usize {
        match self {
            Self::Ranking(line) => line.completions.len() - line.ranked.completions.len(),
            _ => 0,
        }
    }

    /// Its use-case category, where it has one.
    pub fn category(&self) -> Option<&str> {
        match self {
            Self::Prompt(line) => line.record.category.as_deref(),
            _ => self.ranked().and_then(|ranked| ranked.category.as_deref()),
        }
    }

    /// Of one labeler's ranking: the versions of the guidelines and of the form.
    pub fn versions(&self) -> Option<(i32, i32)> {
        match self {
            Self::Ranking(line) => Some((line.guidelines_version, line.form_version)),
            _ => None,
        }
    }

    /// The JSON lines that it gives, appended to `out`. Returns how many.
    ///
    /// # Errors
    /// Never in practice: every record can be written as JSON.
    pub fn write_lines(
        &self,
        choice: &ExportChoice,
        out: &mut Vec<u8>,
    ) -> serde_json::Result<usize> {
        if choice.format == ExportFormat::Plackett {
            serde_json::to_writer(&mut *out, self)?;
            out.push(b'\n');
            return Ok(1);
        }
        let lines = self.in_format(choice);
        for line in &lines {
            serde_json::to_writer(&mut *out, line)?;
            out.push(b'\n');
        }
        Ok(lines.len())
    }

    /// The rows that it gives in a table, whose columns have one type each.
    pub fn table_rows(&self, choice: &ExportChoice) -> Vec<Value> {
        if choice.format != ExportFormat::Plackett {
            return self.in_format(choice);
        }
        let mut row = serde_json::to_value(self).unwrap_or_default();
        match self {
            Self::Ranking(line) => {
                row["prompt"] = json!(line.ranked.prompt.messages());
                list_answers(&mut row["completions"]);
            }
            Self::Mean(line) => {
                row["prompt"] = json!(line.ranked.prompt.messages());
                list_answers(&mut row["completions"]);
            }
            Self::Prompt(line) => {
                row["prompt"] = json!(line.record.prompt.messages());
                if let Some(flags) = row.pointer_mut("/review/flags") {
                    *flags = pairs(flags);
                }
            }
            Self::Demonstration(_) | Self::Text(_) => (),
        }
        vec![row]
    }

    fn in_format(&self, choice: &ExportChoice) -> Vec<Value> {
        match self {
            Self::Ranking(RankingLine { ranked, .. }) | Self::Mean(MeanRanking { ranked, .. }) => {
                formats::of_ranking(ranked, choice.format, choice.margin)
            }
            Self::Demonstration(record) => vec![formats::of_demonstration(record, choice.format)],
            Self::Prompt(line) => vec![formats::of_prompt(&line.record.prompt)],
            Self::Text(record) => vec![json!(record)],
        }
    }
}

/// Flags and scales of completions as lists, since a column has one type.
fn list_answers(completions: &mut Value) {
    for item in completions.as_array_mut().into_iter().flatten() {
        for name in ["flags", "scales"] {
            if let Some(answers) = item.get_mut(name) {
                *answers = pairs(answers);
            }
        }
    }
}

/// The fields of an object as a list of keys and values.
fn pairs(object: &Value) -> Value {
    let fields = object.as_object().into_iter().flatten();
    fields
        .map(|(key, value)| json!({"key": key, "value": value}))
        .collect()
}

/// The records of a snapshot in its order; rankings of the same completions as one where that is asked.
pub fn stream(
    db: &mut PgConnection,
    id: SnapshotId,
    kind: SnapshotKind,
    aggregation: Aggregation,
) -> impl Stream<Item = anyhow::Result<Record>> + Send {
    try_stream! {
        match kind {
            SnapshotKind::Rankings => {
                let mut rows = pin!(snapshots::stream_rankings(db, id));
                let mut group: Vec<RankedPrompt> = Vec::new();
                while let Some(row) = rows.next().await {
                    let line = ranking_line(row?)?;
                    if aggregation == Aggregation::Labelers {
                        yield Record::Ranking(line);
                        continue;
                    }
                    // A snapshot's rankings stand by prompt.
                    if group.first().is_some_and(|first| first.id != line.ranked.id) {
                        for mean in mean_rankings(std::mem::take(&mut group)) {
                            yield Record::Mean(mean);
                        }
                    }
                    group.push(line.ranked);
                }
                for mean in mean_rankings(group) {
                    yield Record::Mean(mean);
                }
            }
            SnapshotKind::Demonstrations => {
                let mut rows = pin!(snapshots::stream_demonstrations(db, id));
                while let Some(row) = rows.next().await {
                    let row = row?;
                    yield Record::Demonstration(DemonstrationRecord {
                        id: row.external_id,
                        messages: serde_json::from_value(row.messages)?,
                        writing: row.writing,
                    });
                }
            }
            SnapshotKind::Prompts => {
                let mut rows = pin!(snapshots::stream_prompts(db, id));
                while let Some(row) = rows.next().await {
                    let row = row?;
                    yield Record::Prompt(PromptLine {
                        record: PromptRecord {
                            id: row.external_id,
                            prompt: serde_json::from_value(row.body)?,
                            category: Some(row.category),
                        },
                        customer: row.customer,
                        review: row.review,
                        unit: row.unit,
                    });
                }
            }
            SnapshotKind::Texts => {
                let mut rows = pin!(snapshots::stream_texts(db, id));
                while let Some(row) = rows.next().await {
                    let row = row?;
                    yield Record::Text(TextRecord {
                        id: row.external_id,
                        text: row.body,
                    });
                }
            }
        }
    }
}

fn ranking_line(row: RankingItem) -> anyhow::Result<RankingLine> {
    let completions: Vec<CompletionLine> = serde_json::from_value(row.completions)
        .with_context(|| format!("ranking {} cannot be read", row.ranking_id))?;
    let split = split_of(&row.unit).to_owned();
    Ok(RankingLine {
        ranked: RankedPrompt {
            id: row.external_id,
            prompt: serde_json::from_value(row.body)?,
            completions: completions
                .iter()
                .filter_map(CompletionLine::ranked)
                .collect(),
            labeler: Some(row.labeler_id.to_string()),
            category: Some(row.category),
            customer: row.customer,
            split: Some(split),
        },
        completions,
        ranking_id: row.ranking_id,
        display_order: row.display_order,
        form_version: row.form_version,
        guidelines_version: row.guidelines_version,
        note: row.note,
        simulated: row.is_simulated,
        adjudication: row.is_adjudication,
        chosen_by: row.chosen_by,
        disagreement: row.disagreement,
        strength: row.strength,
        all_bad: row.is_all_bad,
        active_ms: row.active_ms,
        idle_ms: row.idle_ms,
    })
}

#[cfg(test)]
pub(super) mod fixtures;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn line(ranks: [u32; 3], flag: bool) -> RankingLine {
        let completions = ["a", "b", "c"]
            .iter()
            .zip(ranks)
            .map(|(id, rank)| CompletionLine {
                id: (*id).to_owned(),
                text: (*id).to_owned(),
                model: None,
                rank: (rank > 0).then_some(rank),
                rating: Some(8 - rank as u8),
                flags: BTreeMap::from([("hallucination".to_owned(), flag)]),
                scales: BTreeMap::new(),
                note: String::new(),
            });
        let completions: Vec<CompletionLine> = completions.collect();
        RankingLine {
            ranked: RankedPrompt {
                id: "p".to_owned(),
                prompt: trainer::records::Prompt::Text("Hi".to_owned()),
                completions: completions
                    .iter()
                    .filter_map(CompletionLine::ranked)
                    .collect(),
                labeler: Some("ada".to_owned()),
                category: None,
                customer: None,
                split: None,
            },
            completions,
            ranking_id: uuid::Uuid::nil(),
            display_order: vec![0, 1, 2],
            form_version: 1,
            guidelines_version: 1,
            note: String::new(),
            simulated: false,
            adjudication: false,
            chosen_by: None,
            disagreement: None,
            strength: None,
            all_bad: false,
            active_ms: None,
            idle_ms: None,
        }
    }

    #[test]
    fn a_table_row_has_turns_and_a_list_of_flags() {
        let record = Record::Ranking(line([1, 2, 3], true));
        let choice = ExportChoice::lines(ExportFormat::Plackett);
        let row = &record.table_rows(&choice)[0];
        assert_eq!(row["prompt"][0]["content"], "Hi");
        assert_eq!(row["completions"][0]["flags"][0]["key"], "hallucination");
        let mut own = Vec::new();
        assert_eq!(record.write_lines(&choice, &mut own).unwrap(), 1);
        assert!(
            String::from_utf8(own)
                .unwrap()
                .starts_with(r#"{"id":"p","prompt":"Hi""#)
        );
    }

    /// Candidate b was left unranked.
    #[test]
    fn an_unranked_completion_has_a_null_rank_in_our_format_and_is_in_no_other() {
        let record = Record::Ranking(line([1, 0, 2], true));
        let own = ExportChoice::lines(ExportFormat::Plackett);
        let mut lines = Vec::new();
        record.write_lines(&own, &mut lines).unwrap();
        let written: Value = serde_json::from_slice(&lines).unwrap();
        assert_eq!(written["completions"][1]["id"], "b");
        assert_eq!(written["completions"][1]["rank"], Value::Null);
        assert!(
            written["completions"][1]
                .as_object()
                .unwrap()
                .contains_key("rank")
        );
        assert_eq!(record.n_unranked(), 1);
        // The trainer reads the two that have a rank.
        let read: RankedPrompt = serde_json::from_slice(&lines).unwrap();
        let ids: Vec<&str> = read.completions.iter().map(|item| &*item.id).collect();
        assert_eq!(ids, ["a", "c"]);
        let row = &record.table_rows(&own)[0];
        assert_eq!(row["completions"][1]["flags"][0]["key"], "hallucination");
        let pairs = ExportChoice::lines(ExportFormat::Trl);
        assert_eq!(record.table_rows(&pairs).len(), 1);
    }

    #[test]
    fn the_examples_of_one_writing_are_on_one_side() {
        let side = |id: usize, writing: Option<&str>| {
            let record = DemonstrationRecord {
                id: format!("demonstration {id}"),
                messages: Vec::new(),
                writing: writing.map(str::to_owned),
            };
            Record::Demonstration(record).split()
        };
        let alone: std::collections::BTreeSet<_> = (0..40).map(|id| side(id, None)).collect();
        assert_eq!(alone.len(), 2);
        for writing in ["one", "two", "three", "four", "five", "six"] {
            let sides = (0..40).map(|id| side(id, Some(writing)));
            let sides: std::collections::BTreeSet<_> = sides.collect();
            assert_eq!(sides.len(), 1, "{writing}");
        }
    }
}
