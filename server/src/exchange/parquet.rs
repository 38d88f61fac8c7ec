//! Rows as a Parquet file. A batch of rows is in memory at a time, and a row group is written as soon
//! as it is full, so memory stays flat however long the file is.

use std::io::Write;
use std::sync::Arc;

use anyhow::Context;
use arrow_json::ReaderBuilder;
use arrow_json::reader::Decoder;
use arrow_schema::{DataType, Field, Fields, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use serde_json::Value;

use crate::domain::export::{Aggregation, ExportChoice, ExportFormat, Margin};
use crate::domain::snapshot::SnapshotKind;

/// Rows that are turned into columns at once.
const BATCH: usize = 256;

/// Bytes of a row group, about: small enough that a viewer can page and memory stays small.
const GROUP_BYTES: usize = 8 * 1024 * 1024;

/// Writes JSON objects of one shape as a Parquet file, compressed with Snappy.
pub struct ParquetWriter<W: Write + Send> {
    writer: ArrowWriter<W>,
    decoder: Decoder,
    waiting: Vec<Value>,
}

impl<W: Write + Send> ParquetWriter<W> {
    /// Begins a file of rows of this shape.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn new(out: W, schema: Schema) -> anyhow::Result<Self> {
        let schema = Arc::new(schema);
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_created_by("plackett".to_owned())
            .build();
        Ok(Self {
            writer: ArrowWriter::try_new(out, schema.clone(), Some(properties))?,
            decoder: ReaderBuilder::new(schema)
                .with_batch_size(BATCH)
                .build_decoder()?,
            waiting: Vec::with_capacity(BATCH),
        })
    }

    /// Adds a row.
    ///
    /// # Errors
    /// When the row has another shape or the file cannot be written.
    pub fn push(&mut self, row: Value) -> anyhow::Result<()> {
        self.waiting.push(row);
        match self.waiting.len() {
            BATCH => self.write_batch(),
            _ => Ok(()),
        }
    }

    fn write_batch(&mut self) -> anyhow::Result<()> {
        self.decoder.serialize(&self.waiting)?;
        self.waiting.clear();
        if let Some(batch) = self.decoder.flush().context("a row has another shape")? {
            self.writer.write(&batch)?;
        }
        if self.writer.in_progress_size() >= GROUP_BYTES {
            self.writer.flush()?;
        }
        Ok(())
    }

    /// Ends the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> anyhow::Result<W> {
        if !self.waiting.is_empty() {
            self.write_batch()?;
        }
        Ok(self.writer.into_inner()?)
    }
}

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true)
}

fn integer(name: &str) -> Field {
    Field::new(name, DataType::Int64, true)
}

fn list(name: &str, of: DataType) -> Field {
    let item = Field::new("item", of, true);
    Field::new(name, DataType::List(Arc::new(item)), true)
}

fn structure(fields: Vec<Field>) -> DataType {
    DataType::Struct(Fields::from(fields))
}

/// Turns of a conversation.
fn turns(name: &str) -> Field {
    list(name, structure(vec![text("role"), text("content")]))
}

/// The columns of a choice. Of our own formats they are what the lines of the snapshot have: a snapshot that was
/// sealed before a field was exported has no column for it, so that its table stays the same when fields are added.
/// Columns of a new field belong behind its `line_format` here.
pub fn schema(kind: SnapshotKind, choice: &ExportChoice, line_format: i16) -> Schema {
    let mut fields = match (kind, choice.format) {
        (SnapshotKind::Rankings, ExportFormat::Plackett) => match choice.aggregation {
            Aggregation::Labelers => own_ranking(line_format),
            Aggregation::MeanRank => mean_ranking(),
        },
        (SnapshotKind::Prompts, ExportFormat::Trl) => vec![turns("prompt")],
        (_, ExportFormat::Trl) => vec![turns("prompt"), turns("chosen"), turns("rejected")],
        (_, ExportFormat::TrlImplicit) => vec![turns("chosen"), turns("rejected")],
        (_, ExportFormat::TrlUnpaired) => {
            vec![turns("prompt"), turns("completion"), boolean("label")]
        }
        (_, ExportFormat::Hh) => vec![text("chosen"), text("rejected")],
        (_, ExportFormat::Summarize) => vec![
            Field::new("info", structure(vec![text("id"), text("post")]), true),
            list(
                "summaries",
                structure(vec![text("text"), text("policy"), text("note")]),
            ),
            integer("choice"),
            text("worker"),
            text("batch"),
            text("split"),
        ],
        (_, ExportFormat::Nectar) => vec![
            text("prompt"),
            list(
                "answers",
                structure(vec![
                    text("answer"),
                    text("model"),
                    Field::new("rank", DataType::Float64, true),
                ]),
            ),
            integer("turns"),
            integer("num_responses"),
            list("source", DataType::Utf8),
        ],
        (_, ExportFormat::Alpaca) => vec![text("instruction"), text("input"), text("output")],
        (_, ExportFormat::ShareGpt) => vec![
            text("id"),
            list(
                "conversations",
                structure(vec![text("from"), text("value")]),
            ),
        ],
        (SnapshotKind::Demonstrations, ExportFormat::Plackett) => {
            let mut fields = vec![text("id"), turns("messages")];
            if line_format >= 4 {
                fields.push(text("writing"));
            }
            fields
        }
        (SnapshotKind::Prompts, ExportFormat::Plackett) => vec![
            text("id"),
            turns("prompt"),
            text("category"),
            text("customer"),
            Field::new("review", review(), true),
        ],
        (SnapshotKind::Texts, ExportFormat::Plackett) => vec![text("id"), text("text")],
    };
    let has_margin = choice.format.has_margin() && choice.margin != Margin::Nothing;
    if has_margin && kind == SnapshotKind::Rankings {
        fields.push(Field::new("margin", DataType::Float64, true));
    }
    Schema::new(fields)
}

fn boolean(name: &str) -> Field {
    Field::new(name, DataType::Boolean, true)
}

/// An object whose keys nobody knows beforehand, as a list, since a column has one type.
fn answers(name: &str, value: DataType) -> Field {
    let value = Field::new("value", value, true);
    list(name, structure(vec![text("key"), value]))
}

fn completion() -> Vec<Field> {
    vec![
        text("id"),
        text("text"),
        text("model"),
        integer("rank"),
        integer("rating"),
        answers("flags", DataType::Boolean),
    ]
}

/// What a reviewer said of a prompt.
fn review() -> DataType {
    let found = structure(vec![text("kind"), text("passage")]);
    structure(vec![
        text("category"),
        text("language"),
        answers("flags", DataType::Boolean),
        boolean("personal_data"),
        list("found", found),
    ])
}

/// The columns of several labelers' rankings as one.
fn mean_ranking() -> Vec<Field> {
    vec![
        text("id"),
        turns("prompt"),
        list("completions", structure(completion())),
        text("category"),
        text("customer"),
        text("split"),
        integer("labelers"),
    ]
}

/// The columns of our own rankings; the prompt is always turns.
fn own_ranking(line_format: i16) -> Vec<Field> {
    let mut completion = completion();
    if line_format >= 5 {
        completion.extend([answers("scales", DataType::Int64), text("note")]);
    }
    let mut fields = vec![
        text("id"),
        turns("prompt"),
        list("completions", structure(completion)),
        text("labeler"),
        text("category"),
        text("customer"),
        text("split"),
        text("ranking_id"),
        list("display_order", DataType::Int64),
        integer("form_version"),
        integer("guidelines_version"),
        text("note"),
        boolean("simulated"),
    ];
    if line_format >= 3 {
        fields.extend([
            boolean("adjudication"),
            text("chosen_by"),
            Field::new("disagreement", DataType::Float64, true),
        ]);
    }
    if line_format >= 5 {
        fields.extend([
            integer("strength"),
            boolean("all_bad"),
            integer("active_ms"),
            integer("idle_ms"),
        ]);
    }
    fields
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_come_back_as_they_went_in_and_the_same_rows_give_the_same_bytes() {
        let write = || {
            let choice = ExportChoice {
                margin: Margin::Ranks,
                ..ExportChoice::lines(ExportFormat::Trl)
            };
            let schema = schema(SnapshotKind::Rankings, &choice, 5);
            let mut writer = ParquetWriter::new(Vec::new(), schema).unwrap();
            for index in 0..600 {
                let row = json!({
                    "prompt": [{"role": "user", "content": format!("number {index}")}],
                    "chosen": [{"role": "assistant", "content": "好"}],
                    "rejected": [{"role": "assistant", "content": ""}],
                    "margin": 2.0,
                });
                writer.push(row).unwrap();
            }
            writer.finish().unwrap()
        };
        let bytes = write();
        assert_eq!(bytes, write());
        let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
        let rows: Vec<_> = reader
            .get_row_iter(None)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(rows.len(), 600);
        assert_eq!(
            rows[599].to_string(),
            r#"{prompt: [{role: "user", content: "number 599"}], chosen: [{role: "assistant", content: "好"}], rejected: [{role: "assistant", content: ""}], margin: 2.0}"#
        );
    }

    #[test]
    fn every_format_has_columns() {
        for kind in SnapshotKind::ALL {
            for format in ExportFormat::of(kind) {
                let choice = ExportChoice::lines(*format);
                assert!(!schema(kind, &choice, 5).fields().is_empty());
            }
        }
    }

    /// What is sealed keeps its table, whatever later snapshots say more.
    #[test]
    fn a_snapshot_has_the_columns_of_its_lines() {
        let own = ExportChoice::lines(ExportFormat::Plackett);
        let columns = |kind, line_format| schema(kind, &own, line_format).fields().len();
        let rankings = [1, 2, 3, 4, 5].map(|n| columns(SnapshotKind::Rankings, n));
        assert_eq!(rankings, [13, 13, 16, 16, 20]);
        let demonstrations = [3, 4].map(|n| columns(SnapshotKind::Demonstrations, n));
        assert_eq!(demonstrations, [2, 3]);
        let has_scales = |line_format| {
            let schema = schema(SnapshotKind::Rankings, &own, line_format);
            let completions = schema.field(2).data_type().to_string();
            completions.contains("scales")
        };
        assert!(!has_scales(4) && has_scales(5));
    }
}
