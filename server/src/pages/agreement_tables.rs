//! The figures of agreement as sections of pages: pictures, tables and what they mean.

use crate::domain::agreement::{Agreement, FlagFigures, Overall, Part, Positions};
use crate::domain::form::{Form, text_in};
use crate::pages::figure_sections::{Section, TimelineView};
use crate::pages::figure_tables::{Column, FigureTable, Row, Unit, Words, p_value};
use crate::stats::agreement::TiePolicy;
use crate::store::labels::OVERALL;
use crate::web::timeline::{Timeline, Week};

/// What InstructGPT (section 3.4) reports of labelers who worked on the training data: 72.6 ± 1.5 %.
const TRAINING_LABELERS: f64 = 0.726;

/// And of held-out labelers, who had not: 77.3 ± 1.3 %.
const HELD_OUT_LABELERS: f64 = 0.773;

/// Weeks on the page.
const MOST_WEEKS: usize = 26;

/// What makes sections of figures.
pub struct View<'a> {
    /// Texts.
    pub words: Words<'a>,
    /// How ties count in what is drawn.
    pub policy: TiePolicy,
    /// By what labelers are sorted: one of [`SORTS`](crate::pages::agreement_labelers::SORTS).
    pub sort: &'a str,
    /// The newest form, for the names of flags and scales.
    pub form: &'a Form,
    /// Active seconds under which a ranking is called too fast.
    pub least_seconds: i16,
    /// The rest of an address that keeps the filter, from `?` on.
    pub query: &'a str,
    /// Whether every row is shown, not only those that a page has room for.
    pub is_whole: bool,
}

impl View<'_> {
    pub(super) fn t(&self, key: &str) -> String {
        self.words.page.t(key)
    }

    /// What a figure means, in one sentence.
    pub(super) fn meaning(&self, key: &str) -> String {
        let key = format!("{key}-meaning");
        self.words.page.t_with(&key, "least", self.least_seconds)
    }

    pub(super) fn table(
        &self,
        id: &'static str,
        of: &str,
        columns: Vec<Column>,
        rows: Vec<Row>,
    ) -> FigureTable {
        FigureTable {
            id,
            title: self.t(&format!("agreement-{}", id.replace('_', "-"))),
            of: self.t(of),
            columns,
            rows,
        }
    }

    pub(super) fn section(&self, id: &'static str, tables: Vec<FigureTable>) -> Section {
        let key = format!("agreement-{}", id.replace('_', "-"));
        Section {
            id,
            title: self.t(&key),
            help: self.t(&format!("{key}-help")),
            timeline: None,
            matrix: None,
            tables,
            more: Vec::new(),
        }
    }

    /// A section whose tables are there to be opened, where a picture says the same.
    pub(super) fn folded(&self, mut section: Section) -> Section {
        if section.timeline.is_some() || section.matrix.is_some() {
            let title = self.t(&format!("agreement-{}-numbers", section.id));
            let tables = section.tables.drain(..);
            let title = |table| FigureTable {
                title: title.clone(),
                ..table
            };
            section.more.extend(tables.map(title));
        }
        section
    }

    /// All sections of the page.
    pub fn sections(&self, found: &Agreement) -> Vec<Section> {
        let all = found.overall.agreement.by(self.policy).value;
        let weeks = self.parts("weeks", "agreement-week", &found.weeks, (None, None));
        let parts = |id, of: &str, parts: &[Part]| {
            let tables = vec![self.parts(id, of, parts, (None, all))];
            self.section(id, tables)
        };
        vec![
            self.section("overall", vec![self.overall(&found.overall)]),
            self.folded(Section {
                timeline: self.timeline(&found.weeks),
                ..self.section("weeks", vec![weeks])
            }),
            parts("categories", "agreement-category", &found.categories),
            parts(
                "form_versions",
                "agreement-form-version",
                &found.form_versions,
            ),
            self.section("labelers", self.labelers(found, all)),
            self.folded(Section {
                matrix: self.matrix(found),
                ..self.section("pairs", vec![self.pairs(&found.pairs, all)])
            }),
            self.flags(&found.flags),
            self.positions(&found.position),
        ]
    }

    fn overall(&self, found: &Overall) -> FigureTable {
        let paper = (Some(TRAINING_LABELERS), Some(HELD_OUT_LABELERS));
        let words = &self.words;
        let agreed = &found.agreement;
        let row = |key: &str, cell| {
            let name = format!("agreement-{}", key.replace('_', "-"));
            Row::new(key, self.t(&name), vec![cell]).noted(self.meaning(&name))
        };
        let mut rows = vec![
            row(
                "ties_left_out",
                words.share(&agreed.ties_left_out, Unit::Pairs, paper),
            ),
            row(
                "ties_half",
                words.share(&agreed.ties_half, Unit::Pairs, paper),
            ),
            row(
                "ties_category",
                words.share(&agreed.ties_category, Unit::Pairs, paper),
            ),
            row(
                "tau_b",
                words.coefficient(&agreed.tau_b, Unit::RankingPairs),
            ),
            row("w", words.concordance(&found.w, Unit::Tasks)),
            row(
                "alpha_of_ranks",
                words.coefficient(&found.alpha_of_ranks, Unit::Completions),
            ),
        ];
        for own in &found.alpha_of_ratings {
            let cell = words.coefficient(&own.alpha, Unit::Completions);
            let name = words.page.t_with(
                "agreement-alpha-of-ratings",
                "scale",
                self.scale(&own.scale),
            );
            let note = self.t("agreement-alpha-of-ratings-meaning");
            rows.push(Row::new(format!("alpha_{}", own.scale), name, vec![cell]).noted(note));
        }
        let plain = (None, None);
        rows.extend([
            row("ties", words.share(&found.ties, Unit::Pairs, plain)),
            row(
                "untouched",
                words.share(&found.untouched, Unit::RankingsOfPrompts, plain),
            ),
            row(
                "too_fast",
                words.share(&found.too_fast, Unit::RankingsOfPrompts, plain),
            ),
            row("seconds", words.seconds(&found.seconds)),
            row(
                "longer",
                words.share(&found.longer, Unit::Pairs, (None, Some(0.5))),
            ),
        ]);
        let columns = vec![words.plain_column("figure", "agreement-figure")];
        self.table("overall", "agreement-what", columns, rows)
    }

    /// What the form calls a scale.
    fn scale(&self, key: &str) -> String {
        let label = match self.form.scale(key) {
            Some(scale) => &scale.label,
            None if key == OVERALL => &self.form.overall.label,
            None => return key.to_owned(),
        };
        text_in(label, self.words.page.lang.tag())
    }

    /// What the form calls a flag.
    pub(super) fn flag(&self, key: &str) -> String {
        let known = self.form.flags.iter().find(|flag| flag.key == key);
        known.map_or_else(
            || key.to_owned(),
            |flag| text_in(&flag.label, self.words.page.lang.tag()),
        )
    }

    pub(super) fn parts(
        &self,
        id: &'static str,
        of: &str,
        parts: &[Part],
        marks: (Option<f64>, Option<f64>),
    ) -> FigureTable {
        let words = &self.words;
        let row = |part: &Part| {
            let cells = vec![
                words.share(part.agreement.by(self.policy), Unit::Pairs, marks),
                words.coefficient(&part.agreement.tau_b, Unit::RankingPairs),
                words.share(&part.ties, Unit::Pairs, (None, None)),
                words.seconds(&part.seconds),
            ];
            let n = self
                .words
                .page
                .t_with("agreement-n-rankings", "n", part.n_rankings);
            let name = match id {
                "categories" => words.page.category(&part.name),
                _ => part.name.clone(),
            };
            Row::new(&part.name, name, cells).noted(n)
        };
        let columns = vec![
            words.plain_column("agreement", "agreement-pairwise"),
            words.plain_column("tau_b", "agreement-tau-b"),
            words.plain_column("ties", "agreement-ties"),
            words.plain_column("seconds", "agreement-seconds"),
        ];
        // The newest week first, as it is what one comes for.
        let newest_first = parts.iter().rev().map(row);
        let rows: Vec<Row> = match id {
            "weeks" if self.is_whole => newest_first.collect(),
            "weeks" => newest_first.take(MOST_WEEKS).collect(),
            _ => parts.iter().map(row).collect(),
        };
        self.table(id, of, columns, rows)
    }

    pub(super) fn timeline(&self, weeks: &[Part]) -> Option<TimelineView> {
        let newest = weeks.len().saturating_sub(MOST_WEEKS);
        let weeks = weeks[newest..].iter().filter_map(|part| {
            let figure = part.agreement.by(self.policy);
            Some(Week {
                monday: part.name.parse().ok()?,
                value: figure.value?,
                interval: figure.interval(),
            })
        });
        let timeline = Timeline::new(weeks.collect())?;
        let marks = [TRAINING_LABELERS, HELD_OUT_LABELERS];
        let marks = marks.map(|share| {
            let level = timeline.level(share);
            (level, format!("{:.1} %", 100.0 * share))
        });
        Some(TimelineView {
            marks: marks.into(),
            timeline,
        })
    }

    fn flags(&self, flags: &[FlagFigures]) -> Section {
        let words = &self.words;
        let rows = flags.iter().map(|own| {
            let cells = vec![
                words.share(&own.prevalence, Unit::Answers, (None, None)),
                words.share(&own.same, Unit::AnswerPairs, (None, None)),
                words.coefficient(&own.ac1, Unit::Completions),
                words.coefficient(&own.kappa, Unit::Completions),
            ];
            Row::new(&own.flag, self.flag(&own.flag), cells)
        });
        let columns = [
            ("prevalence", "agreement-prevalence"),
            ("same", "agreement-same"),
            ("ac1", "agreement-ac1"),
            ("kappa", "agreement-kappa"),
        ];
        let columns = columns.map(|(key, title)| words.column(key, title));
        let table = self.table("flags", "agreement-flag", columns.into(), rows.collect());
        let told = flags.iter().filter(|own| !own.labelers.is_empty());
        let more = told.map(|own| FigureTable {
            title: words
                .page
                .t_with("agreement-flag-by-labeler", "flag", self.flag(&own.flag)),
            ..self.flag_labelers(own)
        });
        Section {
            more: if self.is_whole {
                vec![self.all_flag_labelers(flags)]
            } else {
                more.collect()
            },
            ..self.section("flags", vec![table])
        }
    }

    pub(super) fn told_columns(&self) -> Vec<Column> {
        vec![
            self.words.column("sensitivity", "agreement-sensitivity"),
            self.words.column("specificity", "agreement-specificity"),
        ]
    }

    fn flag_labelers(&self, own: &FlagFigures) -> FigureTable {
        let rows = own.labelers.iter().map(|labeler| {
            let cells = [&labeler.sensitivity, &labeler.specificity];
            let cells = cells.map(|own| self.words.share(own, Unit::Completions, (None, None)));
            let row = Row::new(labeler.labeler_id.to_string(), &labeler.name, cells.into());
            row.linked(self.address(labeler.labeler_id))
        });
        let columns = self.told_columns();
        self.table(
            "flag_labelers",
            "agreement-labeler",
            columns,
            rows.collect(),
        )
    }

    /// Of all flags in one table, as a file has it.
    fn all_flag_labelers(&self, flags: &[FlagFigures]) -> FigureTable {
        let rows = flags.iter().flat_map(|flag| {
            let own = self.flag_labelers(flag).rows.into_iter();
            own.map(|row| {
                let name = format!("{}: {}", flag.flag, row.name);
                Row::new(format!("{} {}", flag.flag, row.key()), name, row.cells)
            })
        });
        let columns = self.told_columns();
        self.table(
            "flag_labelers",
            "agreement-labeler",
            columns,
            rows.collect(),
        )
    }

    pub(super) fn positions(&self, found: &Positions) -> Section {
        let words = &self.words;
        let tables = found.tables.iter().map(|table| {
            let rows = table.slots.iter().map(|slot| {
                let marks = (None, Some(table.expected));
                let cells = vec![
                    words.share(&slot.first, Unit::Rankings, marks),
                    words.number(&slot.mean_rank, Unit::Rankings),
                ];
                let name = words.page.t_with("agreement-slot", "n", slot.position);
                Row::new(format!("{}/{}", slot.position, table.k), name, cells)
            });
            let columns = vec![
                words.column("first", "agreement-first"),
                words.column("mean_rank", "agreement-mean-rank"),
            ];
            let mut made = self.table("position", "agreement-place", columns, rows.collect());
            let test = match &table.test {
                None => self.t("agreement-position-few"),
                Some(test) => {
                    let values = [
                        ("chi", format!("{:.1}", test.chi_square)),
                        ("freedom", test.freedom.to_string()),
                        ("p", p_value(test.p)),
                    ];
                    words.page.t_args("agreement-position-test", &values)
                }
            };
            let values = [("k", table.k.to_string()), ("n", table.n.to_string())];
            let title = words.page.t_args("agreement-position-of", &values);
            made.title = format!("{title} {test}");
            made
        });
        let mut tables: Vec<FigureTable> = tables.collect();
        if self.is_whole {
            let rows = tables.drain(..).flat_map(|table| table.rows).collect();
            let columns = vec![
                words.column("first", "agreement-first"),
                words.column("mean_rank", "agreement-mean-rank"),
            ];
            tables = vec![self.table("position", "agreement-place", columns, rows)];
        }
        let mut section = self.section("position", tables);
        if found.n_without_order > 0 {
            let n = found.n_without_order;
            let note = self.words.page.t_with("agreement-without-order", "n", n);
            section.help = format!("{} {note}", section.help);
        }
        section
    }
}
