//! The figures of labelers: a list of them, each two, and one on their own page.

use std::cmp::Ordering;

use crate::domain::agreement::{Agreement, FEWEST, Figure, History, LabelerFigures, PairFigures};
use crate::domain::ids::AccountId;
use crate::pages::agreement_tables::View;
use crate::pages::figure_sections::{Matrix, MatrixCell, MatrixRow, Section};
use crate::pages::figure_tables::{Cell, Column, FigureTable, Row, Unit};

/// Labelers whose pairs are shown as a matrix, at most.
const MOST_IN_MATRIX: usize = 12;

/// Pairs on the page.
const MOST_PAIRS: usize = 20;

/// By what the list of labelers can be sorted.
pub const SORTS: [&str; 12] = [
    "agreement",
    "quality",
    "gold",
    "repeats",
    "rankings",
    "name",
    "ties",
    "untouched",
    "too_fast",
    "seconds",
    "longer",
    "position",
];

impl View<'_> {
    /// Each labeler: how well, and how they work.
    pub(super) fn labelers(&self, found: &Agreement, all: Option<f64>) -> Vec<FigureTable> {
        let mut labelers: Vec<&LabelerFigures> = found.labelers.iter().collect();
        labelers.sort_by(|a, b| self.compare(a, b));
        let row = |own: &&LabelerFigures, cells| {
            let n = self
                .words
                .page
                .t_with("agreement-n-rankings", "n", own.n_rankings);
            let row = Row::new(own.labeler_id.to_string(), &own.name, cells).noted(n);
            row.linked(self.address(own.labeler_id))
                .simulated(own.is_simulated)
        };
        let quality = labelers
            .iter()
            .map(|own| row(own, self.quality_cells(own, all)));
        let work = labelers.iter().map(|own| row(own, self.work_cells(own)));
        let of = "agreement-labeler";
        let title = self.t("agreement-how-well");
        vec![
            FigureTable {
                title,
                ..self.table("labelers", of, self.quality_columns(), quality.collect())
            },
            self.table("work", of, self.work_columns(), work.collect()),
        ]
    }

    /// The page of a labeler.
    pub fn address(&self, id: AccountId) -> String {
        format!("/agreement/labelers/{id}{}", self.query)
    }

    fn quality_columns(&self) -> Vec<Column> {
        let columns = [
            ("agreement", "agreement-with-others"),
            ("quality", "agreement-quality"),
            ("gold", "agreement-gold"),
            ("repeats", "agreement-repeats"),
        ];
        columns
            .map(|(key, title)| self.words.column(key, title))
            .into()
    }

    fn quality_cells(&self, own: &LabelerFigures, all: Option<f64>) -> Vec<Cell> {
        let words = &self.words;
        vec![
            words.share(own.agreement.by(self.policy), Unit::Pairs, (None, all)),
            self.quality_cell(&own.quality),
            words.share(&own.gold, Unit::Pairs, (None, None)),
            words.share(own.repeats.by(self.policy), Unit::Pairs, (None, None)),
        ]
    }

    fn quality_cell(&self, quality: &Figure) -> Cell {
        let mut cell = self.words.share(quality, Unit::Pairs, (None, Some(0.5)));
        // There are prompts enough, and still the data do not tell one labeler from the other.
        if cell.is_few && quality.n_prompts >= FEWEST {
            cell.value = self.t("agreement-quality-untold");
        }
        cell
    }

    fn work_columns(&self) -> Vec<Column> {
        let columns = [
            ("ties", "agreement-ties"),
            ("untouched", "agreement-untouched"),
            ("too_fast", "agreement-too-fast"),
            ("seconds", "agreement-seconds"),
            ("longer", "agreement-longer"),
            ("position", "agreement-position-p"),
        ];
        let columns = columns.map(|(key, title)| Column {
            meaning: self.meaning(title),
            ..self.words.plain_column(key, title)
        });
        columns.into()
    }

    fn work_cells(&self, own: &LabelerFigures) -> Vec<Cell> {
        let words = &self.words;
        let plain = (None, None);
        vec![
            words.share(&own.ties, Unit::Pairs, plain),
            words.share(&own.untouched, Unit::Rankings, plain),
            words.share(&own.too_fast, Unit::Rankings, plain),
            words.seconds(&own.seconds),
            words.share(&own.longer, Unit::Pairs, (None, Some(0.5))),
            words.chance(own.position.as_ref(), own.n_position),
        ]
    }

    /// The order of the list: the highest figure first, who has none last; of p values the lowest.
    fn compare(&self, a: &LabelerFigures, b: &LabelerFigures) -> Ordering {
        let figure = |own: &LabelerFigures| match self.sort {
            "quality" => own.quality.value,
            "gold" => own.gold.value,
            "repeats" => own.repeats.by(self.policy).value,
            "rankings" => Some(own.n_rankings as f64),
            "ties" => own.ties.value,
            "untouched" => own.untouched.value,
            "too_fast" => own.too_fast.value,
            "seconds" => own.seconds.value,
            "longer" => own.longer.value,
            "position" => own.position.map(|test| -test.p),
            "name" => None,
            _ => own.agreement.by(self.policy).value,
        };
        let rank = |own| figure(own).unwrap_or(f64::NEG_INFINITY);
        rank(b)
            .total_cmp(&rank(a))
            .then_with(|| a.name.cmp(&b.name))
    }

    pub(super) fn pairs(&self, pairs: &[PairFigures], all: Option<f64>) -> FigureTable {
        let words = &self.words;
        let most = if self.is_whole {
            usize::MAX
        } else {
            MOST_PAIRS
        };
        let rows = pairs.iter().take(most).map(|pair| {
            let key = format!("{} {}", pair.first_id, pair.second_id);
            let cells = vec![
                words.share(pair.agreement.by(self.policy), Unit::Pairs, (None, all)),
                words.coefficient(&pair.agreement.tau_b, Unit::RankingPairs),
            ];
            Row::new(key, format!("{} · {}", pair.first, pair.second), cells)
        });
        let columns = vec![
            words.plain_column("agreement", "agreement-pairwise"),
            words.plain_column("tau_b", "agreement-tau-b"),
        ];
        self.table("pairs", "agreement-two-labelers", columns, rows.collect())
    }

    /// Each two labelers, where they are few.
    pub(super) fn matrix(&self, found: &Agreement) -> Option<Matrix> {
        let labelers = found.labelers.iter().filter(|own| own.n_rankings > 0);
        let labelers: Vec<&LabelerFigures> = labelers.collect();
        if !(3..=MOST_IN_MATRIX).contains(&labelers.len()) {
            return None;
        }
        let cell = |a: AccountId, b: AccountId| {
            let pair = found
                .pairs
                .iter()
                .find(|pair| [(a, b), (b, a)].contains(&(pair.first_id, pair.second_id)));
            let figure = pair.map(|pair| *pair.agreement.by(self.policy));
            let cell = MatrixCell::new(&figure.unwrap_or_default(), [0.6, 0.7, 0.8, 0.9]);
            (a != b).then_some(cell)
        };
        let rows = labelers.iter().map(|one| MatrixRow {
            name: one.name.clone(),
            cells: labelers
                .iter()
                .map(|other| cell(one.labeler_id, other.labeler_id))
                .collect(),
        });
        Some(Matrix {
            title: self.t("agreement-matrix"),
            rows: rows.collect(),
        })
    }

    /// The sections of a labeler's own page.
    pub fn of_labeler(
        &self,
        found: &Agreement,
        own: &LabelerFigures,
        history: &History,
    ) -> Vec<Section> {
        let all = found.overall.agreement.by(self.policy).value;
        let quality = self
            .quality_columns()
            .into_iter()
            .zip(self.quality_cells(own, all));
        let work = self.work_columns().into_iter().zip(self.work_cells(own));
        let rows = quality.chain(work).map(|(column, cell)| {
            Row::new(column.key, column.title.clone(), vec![cell]).noted(column.meaning)
        });
        let mut rows: Vec<Row> = rows.collect();
        let flags = self
            .words
            .share(&own.gold_flags, Unit::Answers, (None, None));
        let row = Row::new("gold_flags", self.t("agreement-gold-flags"), vec![flags]);
        rows.insert(3, row.noted(self.t("agreement-gold-flags-meaning")));
        let columns = vec![self.words.plain_column("figure", "agreement-figure")];
        let overall = self.table("overall", "agreement-what", columns, rows);
        let is_own =
            |pair: &&PairFigures| [pair.first_id, pair.second_id].contains(&own.labeler_id);
        let pairs: Vec<PairFigures> = found.pairs.iter().filter(is_own).cloned().collect();
        let flags = found.flags.iter().filter_map(|flag| {
            let labeler = flag
                .labelers
                .iter()
                .find(|one| one.labeler_id == own.labeler_id)?;
            let cells = [&labeler.sensitivity, &labeler.specificity];
            let cells = cells.map(|own| self.words.share(own, Unit::Completions, (None, None)));
            Some(Row::new(&flag.flag, self.flag(&flag.flag), cells.into()))
        });
        let flags = self.table(
            "flags",
            "agreement-flag",
            self.told_columns(),
            flags.collect(),
        );
        let marks = (None, all);
        vec![
            Section {
                help: self.t("agreement-own-help"),
                ..self.section("overall", vec![overall])
            },
            self.folded(Section {
                timeline: self.timeline(&history.weeks),
                ..self.section(
                    "weeks",
                    vec![self.parts("weeks", "agreement-week", &history.weeks, marks)],
                )
            }),
            self.section(
                "categories",
                vec![self.parts(
                    "categories",
                    "agreement-category",
                    &history.categories,
                    marks,
                )],
            ),
            self.section("pairs", vec![self.pairs(&pairs, all)]),
            Section {
                help: self.t("agreement-told-help"),
                ..self.section("flags", vec![flags])
            },
            self.positions(&history.position),
        ]
    }
}
