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

use crate::domain::export::{ExportFormat, Margin};
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

/// The columns of a format.
pub fn schema(kind: SnapshotKind, format: ExportFormat, margin: Margin) -> Schema {
    let mut fields = match (kind, format) {
        (SnapshotKind::Rankings, ExportFormat::Plackett) => own_ranking(),
        (SnapshotKind::Prompts, ExportFormat::Trl) => vec![turns("prompt")],
        (_, ExportFormat::Trl) => vec![turns("prompt"), turns("chosen"), turns("rejected")],
        (_, ExportFormat::TrlImplicit) => vec![turns("chosen"), turns("rejected")],
        (_, ExportFormat::TrlUnpaired) => vec![
            turns("prompt"),
            turns("completion"),
            Field::new("label", DataType::Boolean, true),
        ],
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
            vec![text("id"), turns("messages"), text("writing")]
        }
        (SnapshotKind::Prompts, ExportFormat::Plackett) => vec![
            text("id"),
            turns("prompt"),
            text("category"),
            text("customer"),
        ],
        (SnapshotKind::Texts, ExportFormat::Plackett) => vec![text("id"), text("text")],
    };
    if format.has_margin() && kind == SnapshotKind::Rankings && margin != Margin::Nothing {
        fields.push(Field::new("margin", DataType::Float64, true));
    }
    Schema::new(fields)
}

/// The columns of our own rankings: the prompt always as turns and flags as a list, since a column has
/// one type.
fn own_ranking() -> Vec<Field> {
    let flag = structure(vec![
        text("key"),
        Field::new("value", DataType::Boolean, true),
    ]);
    let completion = structure(vec![
        text("id"),
        text("text"),
        text("model"),
        integer("rank"),
        integer("rating"),
        list("flags", flag),
    ]);
    vec![
        text("id"),
        turns("prompt"),
        list("completions", completion),
        text("labeler"),
        text("category"),
        text("customer"),
        text("split"),
        text("ranking_id"),
        list("display_order", DataType::Int64),
        integer("form_version"),
        integer("guidelines_version"),
        text("note"),
        Field::new("simulated", DataType::Boolean, true),
        Field::new("adjudication", DataType::Boolean, true),
        text("chosen_by"),
        Field::new("disagreement", DataType::Float64, true),
    ]
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
            let schema = schema(SnapshotKind::Rankings, ExportFormat::Trl, Margin::Ranks);
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
                assert!(!schema(kind, *format, Margin::Nothing).fields().is_empty());
            }
        }
    }
}
