//! Tables of figures, each drawn beside its number, its interval and what it rests on; and the same
//! tables as CSV. The pages of agreement and of models are made of them.

use axum::http::HeaderValue;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

use crate::domain::agreement::{Chance, Figure};
use crate::error::{AppError, AppResult};
use crate::message::Message;
use crate::web::diagram::Bar;
use crate::web::gauge::Gauge;
use crate::web::page::Page;

/// What a figure's n counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Pairs of completions, of so many prompts.
    Pairs,
    /// Pairs of rankings, of so many prompts.
    RankingPairs,
    /// Rankings.
    Rankings,
    /// Tasks.
    Tasks,
    /// Completions, of so many prompts.
    Completions,
    /// Answers, of so many prompts.
    Answers,
    /// Pairs of answers by two labelers, of so many prompts.
    AnswerPairs,
    /// Comparisons of models, of so many prompts.
    Comparisons,
    /// Rankings, of so many prompts.
    RankingsOfPrompts,
    /// Prompts.
    Prompts,
}

impl Unit {
    fn key(self) -> &'static str {
        match self {
            Self::Pairs => "figures-n-pairs",
            Self::RankingPairs => "figures-n-ranking-pairs",
            Self::Rankings => "figures-n-rankings",
            Self::Tasks => "figures-n-tasks",
            Self::Completions => "figures-n-completions",
            Self::Answers => "figures-n-answers",
            Self::AnswerPairs => "figures-n-answer-pairs",
            Self::Comparisons => "figures-n-comparisons",
            Self::Prompts => "figures-n-prompts",
            Self::RankingsOfPrompts => "figures-n-rankings-of-prompts",
        }
    }
}

/// A picture of a figure.
#[derive(Debug, Clone, PartialEq)]
pub enum Picture {
    /// A share from 0 to 1.
    Bar(Bar),
    /// A figure on another scale.
    Gauge(Gauge),
}

/// A figure as texts.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// The picture, where there is a value.
    pub picture: Option<Picture>,
    /// The value, or that there is too little to tell.
    pub value: String,
    /// The interval; may be empty.
    pub interval: String,
    /// What it rests on.
    pub n: String,
    /// Whether there is too little to tell.
    pub is_few: bool,
    raw: Figure,
}

/// What stands in a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// What it is called in a file.
    pub key: &'static str,
    /// Its title.
    pub title: String,
    /// What it means, in one sentence; may be empty.
    pub meaning: String,
}

/// A row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    key: String,
    /// What it is of.
    pub name: String,
    /// Where that is; may be empty.
    pub href: String,
    /// What else is to be said of it; may be empty.
    pub note: String,
    /// Whether a program is meant.
    pub is_simulated: bool,
    /// The figures, one for each column.
    pub cells: Vec<Cell>,
}

impl Row {
    /// A row; `key` is what it is called in a file.
    pub fn new(key: impl Into<String>, name: impl Into<String>, cells: Vec<Cell>) -> Self {
        Self {
            key: key.into(),
            name: name.into(),
            href: String::new(),
            note: String::new(),
            is_simulated: false,
            cells,
        }
    }

    /// What it is called in a file.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// With a sentence below its name.
    #[must_use]
    pub fn noted(mut self, note: String) -> Self {
        self.note = note;
        self
    }

    /// Marked where a program is meant.
    #[must_use]
    pub fn simulated(mut self, is_simulated: bool) -> Self {
        self.is_simulated = is_simulated;
        self
    }

    /// With an address behind its name.
    #[must_use]
    pub fn linked(mut self, href: String) -> Self {
        self.href = href;
        self
    }
}

/// A table.
#[derive(Debug, Clone, PartialEq)]
pub struct FigureTable {
    /// Its id on the page, and its name as a file.
    pub id: &'static str,
    /// Its title.
    pub title: String,
    /// What the first column holds.
    pub of: String,
    /// The columns of figures.
    pub columns: Vec<Column>,
    /// The rows.
    pub rows: Vec<Row>,
}

impl FigureTable {
    /// Whether a column says what it means.
    pub fn has_meanings(&self) -> bool {
        self.columns.iter().any(|column| !column.meaning.is_empty())
    }

    /// Each column with the cell of a row.
    pub fn cells<'a>(&'a self, row: &'a Row) -> impl Iterator<Item = (&'a Column, &'a Cell)> {
        self.columns.iter().zip(&row.cells)
    }

    /// The table as CSV: of each figure the value, the ends of the interval, and what it rests on.
    ///
    /// # Errors
    /// When the writer fails, which in memory it does not.
    pub fn to_csv(&self) -> anyhow::Result<Vec<u8>> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let mut head = vec!["id".to_owned(), "name".to_owned()];
        for column in &self.columns {
            let parts = ["", "_low", "_high", "_n", "_n_prompts"];
            head.extend(parts.map(|part| format!("{}{part}", column.key)));
        }
        writer.write_record(&head)?;
        for row in &self.rows {
            let number =
                |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
            let mut record = vec![harmless(&row.key), harmless(&row.name)];
            for Cell { raw, .. } in &row.cells {
                record.extend([raw.value, raw.low, raw.high].map(number));
                record.extend([raw.n, raw.n_prompts].map(|n| n.to_string()));
            }
            writer.write_record(&record)?;
        }
        Ok(writer.into_inner()?)
    }
}

/// A text that no spreadsheet takes for a formula.
fn harmless(text: &str) -> String {
    match text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        true => format!("'{text}"),
        false => text.to_owned(),
    }
}

/// The one of these tables that has the name, as a download.
///
/// # Errors
/// `Invalid` when none has it.
pub fn download(tables: &[FigureTable], name: &str, project: &str) -> AppResult<Response> {
    let table = tables.iter().find(|table| table.id == name);
    let table =
        table.ok_or_else(|| AppError::invalid("table", Message::new("error-unknown-choice")))?;
    let mut response = table.to_csv()?.into_response();
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/csv; charset=utf-8"),
    );
    let disposition = format!("attachment; filename=\"{project}-{name}.csv\"");
    if let Ok(value) = HeaderValue::from_str(&disposition) {
        headers.insert(CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

/// What turns figures into texts in the visitor's language.
#[derive(Clone, Copy)]
pub struct Words<'a> {
    /// The page.
    pub page: &'a Page,
}

impl Words<'_> {
    /// A column under a title of the catalogue; its meaning is under the same key with `-meaning`.
    pub fn column(&self, key: &'static str, title: &str) -> Column {
        Column {
            key,
            title: self.page.t(title),
            meaning: self.page.t(&format!("{title}-meaning")),
        }
    }

    /// A column that needs no explanation.
    pub fn plain_column(&self, key: &'static str, title: &str) -> Column {
        Column {
            key,
            title: self.page.t(title),
            meaning: String::new(),
        }
    }

    /// A share, with what it is compared to: a thick line across and a dashed one.
    pub fn share(&self, figure: &Figure, unit: Unit, marks: (Option<f64>, Option<f64>)) -> Cell {
        let percent = |share: f64| format!("{:.1}", 100.0 * share);
        let picture = |value| Picture::Bar(Bar::new(value, figure.interval(), marks.0, marks.1));
        let interval = figure.interval();
        let interval =
            interval.map(|(low, high)| format!("[{}, {}] %", percent(low), percent(high)));
        let value = figure.value.map(|value| format!("{} %", percent(value)));
        self.cell(figure, unit, figure.value.map(picture), value, interval)
    }

    /// A coefficient from -1 to 1.
    pub fn coefficient(&self, figure: &Figure, unit: Unit) -> Cell {
        self.on_scale(figure, unit, (-1.0, 1.0))
    }

    /// A coefficient from 0 to 1.
    pub fn concordance(&self, figure: &Figure, unit: Unit) -> Cell {
        let picture = |value| Picture::Bar(Bar::new(value, figure.interval(), None, None));
        let (value, interval) = (figure.value.map(decimals), self.decimal_interval(figure));
        self.cell(figure, unit, figure.value.map(picture), value, interval)
    }

    /// A figure on a scale that holds 0.
    pub fn on_scale(&self, figure: &Figure, unit: Unit, scale: (f64, f64)) -> Cell {
        let gauge = |value| Gauge::new(scale, value, figure.interval(), Some(0.0));
        let picture = figure.value.map(|value| Picture::Gauge(gauge(value)));
        let (value, interval) = (figure.value.map(decimals), self.decimal_interval(figure));
        self.cell(figure, unit, picture, value, interval)
    }

    /// A number without a picture.
    pub fn number(&self, figure: &Figure, unit: Unit) -> Cell {
        let (value, interval) = (figure.value.map(decimals), self.decimal_interval(figure));
        self.cell(figure, unit, None, value, interval)
    }

    /// Seconds.
    pub fn seconds(&self, figure: &Figure) -> Cell {
        let value = figure.value;
        let value = value.map(|value| self.page.t_with("figures-seconds", "n", round(value)));
        let interval = figure.interval();
        let interval = interval.map(|(low, high)| format!("[{}, {}]", round(low), round(high)));
        self.cell(figure, Unit::Rankings, None, value, interval)
    }

    /// The p value of a test over `n` rankings.
    pub fn chance(&self, test: Option<&Chance>, n: usize) -> Cell {
        let raw = Figure {
            value: test.map(|test| test.p),
            n,
            n_prompts: n,
            ..Figure::default()
        };
        let value = test.map(|test| p_value(test.p));
        let interval = test.map(|test| format!("χ²({}) = {:.1}", test.freedom, test.chi_square));
        self.cell(&raw, Unit::Rankings, None, value, interval)
    }

    fn decimal_interval(&self, figure: &Figure) -> Option<String> {
        let interval = figure.interval();
        interval.map(|(low, high)| format!("[{}, {}]", decimals(low), decimals(high)))
    }

    fn cell(
        &self,
        figure: &Figure,
        unit: Unit,
        picture: Option<Picture>,
        value: Option<String>,
        interval: Option<String>,
    ) -> Cell {
        let counts = [("n", figure.n), ("prompts", figure.n_prompts)];
        let counts = counts.map(|(name, n)| (name, n.to_string()));
        let is_few = value.is_none();
        Cell {
            picture,
            value: value.unwrap_or_else(|| self.page.t("figures-too-few")),
            interval: match interval {
                Some(interval) => interval,
                None if is_few => String::new(),
                None => self.page.t("figures-no-interval"),
            },
            n: self.page.t_args(unit.key(), &counts),
            is_few,
            raw: *figure,
        }
    }
}

fn decimals(value: f64) -> String {
    let text = format!("{value:.2}");
    // A typographic minus, as wide as a plus; and no minus before nothing.
    match text.strip_prefix('-') {
        Some("0.00") => "0.00".to_owned(),
        Some(rest) => format!("−{rest}"),
        None => text,
    }
}

fn round(seconds: f64) -> String {
    match seconds < 10.0 {
        true => format!("{seconds:.1}"),
        false => format!("{seconds:.0}"),
    }
}

/// A p value.
pub fn p_value(p: f64) -> String {
    match p < 0.001 {
        true => "p < 0.001".to_owned(),
        false => format!("p = {p:.3}"),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::i18n::Lang;

    fn page() -> Page {
        Page {
            lang: Lang::En,
            title: String::new(),
            visitor: None,
            back: "/".to_owned(),
            path: "/agreement".to_owned(),
            theme: Default::default(),
            submitted: None,
        }
    }

    fn figure(value: Option<f64>, interval: Option<(f64, f64)>) -> Figure {
        Figure {
            value,
            low: interval.map(|own| own.0),
            high: interval.map(|own| own.1),
            n: 600,
            n_prompts: 100,
        }
    }

    #[test]
    fn a_figure_says_what_it_rests_on_and_too_few_say_so() {
        let page = page();
        let words = Words { page: &page };
        let told = figure(Some(0.726), Some((0.711, 0.741)));
        let cell = words.share(&told, Unit::Pairs, (None, None));
        assert_eq!(
            (cell.value.as_str(), cell.interval.as_str()),
            ("72.6 %", "[71.1, 74.1] %")
        );
        assert_eq!(cell.n, "n = 600 pairs, 100 prompts");
        let few = words.share(&figure(None, None), Unit::Pairs, (None, None));
        assert_eq!((few.value.as_str(), few.interval.as_str()), ("too few", ""));
        assert!(few.is_few && few.picture.is_none());
        let alone = words.coefficient(&figure(Some(-0.001), None), Unit::Completions);
        assert_eq!(
            (alone.value.as_str(), alone.interval.as_str()),
            ("0.00", "no interval")
        );
    }

    #[test]
    fn a_file_has_the_numbers_and_no_formula() {
        let page = page();
        let words = Words { page: &page };
        let cells = vec![
            words.share(
                &figure(Some(0.5), Some((0.25, 0.75))),
                Unit::Pairs,
                (None, None),
            ),
            words.share(&figure(None, None), Unit::Pairs, (None, None)),
        ];
        let table = FigureTable {
            id: "labelers",
            title: String::new(),
            of: String::new(),
            columns: vec![
                words.plain_column("agreement", "figures-too-few"),
                words.plain_column("gold", "figures-too-few"),
            ],
            rows: vec![Row::new("a1", "=1+1", cells)],
        };
        let csv = String::from_utf8(table.to_csv().unwrap()).unwrap();
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(
            lines[0],
            "id,name,agreement,agreement_low,agreement_high,agreement_n,agreement_n_prompts,gold,gold_low,gold_high,gold_n,gold_n_prompts"
        );
        assert_eq!(lines[1], "a1,'=1+1,0.5,0.25,0.75,600,100,,,,600,100");
        assert!(download(&[table], "passwords", "study").is_err());
    }
}
