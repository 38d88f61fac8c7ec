//! Parts of a page of figures: pictures over weeks, each two of some on shades, and tables.

use crate::domain::agreement::Figure;
use crate::pages::figure_tables::FigureTable;
use crate::web::timeline::{Level, Timeline};

/// A part of the page.
pub struct Section {
    /// Its id.
    pub id: &'static str,
    /// Its title.
    pub title: String,
    /// What it is about, and how it is to be read.
    pub help: String,
    /// A course over weeks.
    pub timeline: Option<TimelineView>,
    /// Each two labelers.
    pub matrix: Option<Matrix>,
    /// Tables in sight.
    pub tables: Vec<FigureTable>,
    /// Tables to open.
    pub more: Vec<FigureTable>,
}

impl Section {
    /// Whether there is any figure in it.
    pub fn has_rows(&self) -> bool {
        self.tables.iter().any(|table| !table.rows.is_empty())
    }
}

/// A picture over weeks with what is marked on it.
pub struct TimelineView {
    /// The picture.
    pub timeline: Timeline,
    /// Levels that InstructGPT reports, with a word for each.
    pub marks: Vec<(Level, String)>,
}

/// Each two of some, as numbers on shades.
pub struct Matrix {
    /// What the rows and columns are.
    pub title: String,
    /// The names in order; columns have their numbers.
    pub rows: Vec<MatrixRow>,
}

/// A row of a matrix.
pub struct MatrixRow {
    /// Of whom.
    pub name: String,
    /// One for each column; none on the diagonal.
    pub cells: Vec<Option<MatrixCell>>,
}

/// Two of a matrix.
pub struct MatrixCell {
    /// The value in percent, or that there is too little to tell.
    pub value: String,
    /// What it rests on.
    pub n: String,
    /// 1, the lightest, to 5; 0 without a value.
    pub shade: usize,
}

impl MatrixCell {
    /// A share; it is darker with each of the four limits that it reaches.
    pub fn new(figure: &Figure, limits: [f64; 4]) -> Self {
        let shade = |share: f64| 1 + limits.iter().filter(|limit| share >= **limit).count();
        Self {
            value: figure
                .value
                .map_or("–".to_owned(), |share| format!("{:.0}", 100.0 * share)),
            n: figure.n_prompts.to_string(),
            shade: figure.value.map_or(0, shade),
        }
    }
}
