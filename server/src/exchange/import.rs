//! Importing a file: every wrong line is reported with its number and field, and the file is
//! stored whole or not at all. A thread reads and checks lines; rows travel to the database in
//! batches over a bounded channel, so that memory stays flat however large the file is.
//!
//! Good rows are written even after a wrong line was found (the caller then rolls back): this way
//! the database's own constraints find ids that come twice, in the file or in the project.

use std::io::{BufRead, BufReader, ErrorKind, Read};

use anyhow::Context;
use sqlx::PgConnection;
use tokio::sync::mpsc;

use crate::domain::form::Form;
use crate::domain::opening::GivenText;
use crate::exchange::lines::{Bounded, Lines, open_quote, read_utf8, skip_byte_order_mark};
use crate::exchange::records::{Complaint, ImportKind, Row, parse_cells, parse_line};
use crate::message::Message;
use crate::store;
use crate::store::imports::Refusal;
use crate::store::projects::Project;

/// Problems that are listed; further ones are only counted.
pub const MOST_PROBLEMS: usize = 1000;

/// Rows that are written to the database at a time.
const BATCH: usize = 256;

/// Most bytes of rows that wait for the database in one batch.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// How the file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum FileFormat {
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated with a header line; prompts only.
    Csv,
}

impl FileFormat {
    /// By the ending of a file's name; JSONL unless it is `.csv`.
    pub fn of_name(name: &str) -> Self {
        if name.to_lowercase().ends_with(".csv") {
            Self::Csv
        } else {
            Self::Jsonl
        }
    }
}

/// A wrong line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its number, from 1; 0 where the whole file is wrong.
    pub line: usize,
    /// The wrong field; empty where the whole line is wrong.
    pub field: String,
    /// What is wrong with it.
    pub message: Message,
}

impl Problem {
    /// Where it is, for a sentence that begins with a file's name: `, line 3, field id`.
    pub fn place(&self) -> String {
        match (self.line, self.field.as_str()) {
            (0, _) => String::new(),
            (line, "") => format!(", line {line}"),
            (line, field) => format!(", line {line}, field {field}"),
        }
    }
}

/// What became of an import. Nothing may be committed while there are problems.
#[derive(Debug, Default)]
pub struct Report {
    /// Records that are right.
    pub n_records: usize,
    /// The first [`MOST_PROBLEMS`] wrong lines, by number.
    pub problems: Vec<Problem>,
    /// Further wrong lines.
    pub n_more: usize,
}

impl Report {
    /// Whether every line is right.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// How many lines are wrong.
    pub fn n_problems(&self) -> usize {
        self.problems.len() + self.n_more
    }

    fn add(&mut self, line: usize, (field, message): Complaint) {
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(Problem {
                line,
                field,
                message,
            });
        } else {
            self.n_more += 1;
        }
    }
}

/// A line as the reading thread hands it over.
type Parsed = (usize, Result<Row, Complaint>);

/// Reads `source` and writes its records through `db`, which must be in a transaction: the caller
/// commits when the report is clean and rolls back otherwise.
///
/// # Errors
/// When the source cannot be read or the database fails; wrong lines are in the report.
pub async fn import(
    db: &mut PgConnection,
    project: &Project,
    kind: ImportKind,
    format: FileFormat,
    source: impl Read + Send + 'static,
) -> anyhow::Result<Report> {
    let mut report = Report::default();
    if format == FileFormat::Csv && kind != ImportKind::Prompts {
        let message = Message::new("import-only-prompts-csv").with("kind", kind.as_str());
        report.add(0, (String::new(), message));
        return Ok(report);
    }
    store::projects::lock(db, project.id).await?;
    let versions = store::imported_rankings::find_versions(db, project.id).await?;
    let form = versions.form.clone();
    let (sender, mut receiver) = mpsc::channel::<Vec<Parsed>>(2);
    let reading = tokio::task::spawn_blocking(move || {
        let batches = Batches::new(sender);
        match format {
            FileFormat::Jsonl => read_jsonl(source, kind, &form, batches),
            FileFormat::Csv => read_csv(source, batches),
        }
    });
    let mut seen_any = false;
    while let Some(batch) = receiver.recv().await {
        seen_any = true;
        store_batch(db, project, &versions, batch, &mut report).await?;
    }
    reading.await.context("the reading thread ended")??;
    if kind == ImportKind::Rankings {
        store::adjudication::measure_imported(db, project.id).await?;
    }
    if !seen_any {
        report.add(0, (String::new(), Message::new("import-no-records")));
    }
    report.problems.sort_by_key(|problem| problem.line);
    store::queue_order::place_new(db, project.id).await?;
    Ok(report)
}

/// Collects parsed lines and sends them on in batches.
struct Batches {
    sender: mpsc::Sender<Vec<Parsed>>,
    waiting: Vec<Parsed>,
    n_bytes: usize,
}

impl Batches {
    fn new(sender: mpsc::Sender<Vec<Parsed>>) -> Self {
        Self {
            sender,
            waiting: Vec::new(),
            n_bytes: 0,
        }
    }

    /// Takes a line; false when nobody listens any more.
    fn push(&mut self, parsed: Parsed, n_bytes: usize) -> bool {
        self.waiting.push(parsed);
        self.n_bytes += n_bytes;
        if self.waiting.len() < BATCH && self.n_bytes < BATCH_BYTES {
            return true;
        }
        self.flush()
    }

    fn flush(&mut self) -> bool {
        self.n_bytes = 0;
        let batch = std::mem::take(&mut self.waiting);
        batch.is_empty() || self.sender.blocking_send(batch).is_ok()
    }
}

fn read_jsonl(
    source: impl Read,
    kind: ImportKind,
    form: &Form,
    mut batches: Batches,
) -> anyhow::Result<()> {
    let mut lines = Lines::new(BufReader::new(source));
    while let Some((number, line)) = lines.next_line().context("the file cannot be read")? {
        let n_bytes = line.as_ref().map_or(0, |line| line.len());
        let row = match line {
            Ok(line) => parse_line(kind, line, form),
            Err(message) => Err((String::new(), message)),
        };
        if !batches.push((number, row), n_bytes) {
            return Ok(());
        }
    }
    batches.flush();
    Ok(())
}

fn read_csv(source: impl Read, mut batches: Batches) -> anyhow::Result<()> {
    let mut source = BufReader::new(source);
    skip_byte_order_mark(&mut source).context("the file cannot be read")?;
    if source
        .fill_buf()
        .context("the file cannot be read")?
        .is_empty()
    {
        return Ok(());
    }
    let (source, since_record) = Bounded::new(source);
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(source);
    let header = match reader.byte_headers().map_err(csv_complaint) {
        Ok(header) => read_header(header),
        Err(complaint) => Err(complaint),
    };
    let header = match header {
        Ok(header) => header,
        Err(complaint) => {
            batches.push((1, Err(complaint)), 0);
            batches.flush();
            return Ok(());
        }
    };
    let mut record = csv::ByteRecord::new();
    loop {
        since_record.store(0, std::sync::atomic::Ordering::Relaxed);
        let at = reader.position().line() as usize;
        let row = match reader.read_byte_record(&mut record) {
            Ok(false) => break,
            Ok(true) => parse_record(&header, &record),
            Err(error) => {
                batches.push((at, Err(csv_complaint(error))), 0);
                break;
            }
        };
        let number = record.position().map_or(at, |place| place.line() as usize);
        if !batches.push((number, row), record.as_slice().len()) {
            return Ok(());
        }
    }
    batches.flush();
    Ok(())
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err wants"
)]
fn csv_complaint(error: csv::Error) -> Complaint {
    let message = match error.kind() {
        csv::ErrorKind::Io(own) if own.kind() == ErrorKind::FileTooLarge => open_quote(),
        _ => Message::new("import-csv").with("reason", &error),
    };
    (String::new(), message)
}

fn read_header(header: &csv::ByteRecord) -> Result<Vec<String>, Complaint> {
    let known = ImportKind::Prompts.fields();
    let complain = |message: Message| Err(("header".to_owned(), message));
    let mut names: Vec<String> = Vec::new();
    for cell in header {
        let name = read_utf8(cell).map_err(|message| ("header".to_owned(), message))?;
        let name = name.trim();
        if !known.contains(&name) {
            let message = Message::new("import-unknown-column").with("name", name);
            return complain(message.with("known", known.join(", ")));
        }
        if names.iter().any(|seen| seen == name) {
            return complain(Message::new("import-column-twice").with("name", name));
        }
        names.push(name.to_owned());
    }
    for name in ["id", "prompt"] {
        if !names.iter().any(|seen| seen == name) {
            return complain(Message::new("import-column-missing").with("name", name));
        }
    }
    Ok(names)
}

fn parse_record(header: &[String], record: &csv::ByteRecord) -> Result<Row, Complaint> {
    if record.len() != header.len() {
        let message = Message::new("import-cells")
            .with("n", record.len())
            .with("header", header.len());
        return Err((String::new(), message));
    }
    let mut cells = Vec::new();
    for (name, cell) in header.iter().zip(record) {
        let text = read_utf8(cell).map_err(|message| (name.clone(), message))?;
        cells.push((name.as_str(), text));
    }
    parse_cells(cells.into_iter())
}

/// Writes the good rows of a batch and notes the others.
async fn store_batch(
    db: &mut PgConnection,
    project: &Project,
    versions: &store::imported_rankings::Versions,
    batch: Vec<Parsed>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut rows = Rows::default();
    for (line, parsed) in batch {
        match parsed {
            Err(complaint) => report.add(line, complaint),
            Ok(row) => {
                report.n_records += 1;
                rows.push(line, row);
            }
        }
    }
    for (line, refusal) in rows.store(db, project, versions).await? {
        report.n_records -= 1;
        report.add(line, (refusal.field().to_owned(), refusal.message()));
    }
    Ok(())
}

/// Rows of a batch by the table they go to, with their line numbers.
#[derive(Default)]
struct Rows {
    prompts: (Vec<usize>, Vec<store::prompts::NewPrompt>),
    demonstrations: (Vec<usize>, Vec<store::demonstrations::NewDemonstration>),
    texts: (Vec<usize>, Vec<store::texts::NewText>),
    rankings: (Vec<usize>, Vec<store::imported_rankings::NewRanking>),
    candidates: (Vec<usize>, Vec<store::imports::NewCandidates>),
    use_cases: (Vec<usize>, Vec<GivenText>),
}

impl Rows {
    fn push(&mut self, line: usize, row: Row) {
        match row {
            Row::Prompt(row) => push_both(&mut self.prompts, line, row),
            Row::Demonstration(row) => push_both(&mut self.demonstrations, line, row),
            Row::Text(row) => push_both(&mut self.texts, line, row),
            Row::Ranking(row) => push_both(&mut self.rankings, line, row),
            Row::Candidates(row) => push_both(&mut self.candidates, line, row),
            Row::UseCase(row) => push_both(&mut self.use_cases, line, row),
        }
    }

    /// Writes them; returns the lines that the database refused.
    async fn store(
        self,
        db: &mut PgConnection,
        project: &Project,
        versions: &store::imported_rankings::Versions,
    ) -> anyhow::Result<Vec<(usize, Refusal)>> {
        let id = project.id;
        let mut refused = Vec::new();
        let (lines, rows) = &self.prompts;
        let refusals = store::prompts::insert_all(db, id, rows).await?;
        refused.extend(refusals.into_iter().map(|(index, why)| (lines[index], why)));
        let (lines, rows) = &self.demonstrations;
        let refusals = store::demonstrations::insert_all(db, id, rows).await?;
        refused.extend(refusals.into_iter().map(|(index, why)| (lines[index], why)));
        let (lines, rows) = &self.texts;
        let refusals = store::texts::insert_all(db, id, rows).await?;
        refused.extend(refusals.into_iter().map(|(index, why)| (lines[index], why)));
        let (lines, rows) = &self.candidates;
        let refusals = store::imports::insert_candidates(db, project, rows).await?;
        refused.extend(refusals.into_iter().map(|(index, why)| (lines[index], why)));
        let (lines, rows) = &self.rankings;
        let refusals =
            store::imported_rankings::insert_rankings(db, project, versions, rows).await?;
        refused.extend(refusals.into_iter().map(|(index, why)| (lines[index], why)));
        let (lines, rows) = &self.use_cases;
        let known = store::openings::insert_use_cases(db, project, rows).await;
        let known = known.map_err(|error| anyhow::anyhow!("{error}"))?;
        refused.extend(known.into_iter().map(|(index, why)| (lines[index], why)));
        Ok(refused)
    }
}

fn push_both<T>((lines, rows): &mut (Vec<usize>, Vec<T>), line: usize, row: T) {
    lines.push(line);
    rows.push(row);
}
