//! The report on a reward model, as the run's page shows it: pictures, and the numbers beside them.

use std::collections::BTreeMap;

use sqlx::PgConnection;
use trainer::reward::{Accuracy, Agreement, Calibration, Distances, Report, Slice, Source, Spread};

use crate::domain::ids::RunId;
use crate::store;
use crate::web::diagram::{Bar, Point, Reliability};
use crate::web::page::Page;

/// The report as the page shows it.
pub struct ReportView {
    /// Whose scores these are.
    pub about: String,
    /// Confidence against accuracy.
    pub reliability: Reliability,
    /// The numbers of that picture.
    pub bins: Vec<BinRow>,
    /// Distances as the model is and with a temperature.
    pub fits: Vec<FitRow>,
    /// What the temperature is.
    pub temperature: String,
    /// Accuracies, one table for each way to look at them.
    pub tables: Vec<Table>,
    /// Whether rankings tell how far labelers agree, which bars then mark.
    pub has_agreement: bool,
    /// Correlations of reward with length.
    pub correlations: Vec<CorrelationRow>,
}

/// A bin of the reliability diagram.
pub struct BinRow {
    /// Mean confidence.
    pub confidence: String,
    /// How often the model is right.
    pub accuracy: String,
    /// The interval of that.
    pub interval: String,
    /// Pairs.
    pub n_pairs: usize,
    /// Prompts.
    pub n_prompts: usize,
}

/// Distances between probabilities and what came.
pub struct FitRow {
    /// As it is, or with a temperature.
    pub name: String,
    /// Expected calibration error.
    pub ece: String,
    /// Brier score.
    pub brier: String,
    /// Negative log-likelihood.
    pub nll: String,
}

/// Accuracies under a title.
pub struct Table {
    /// The table's id on the page.
    pub id: &'static str,
    /// Its title.
    pub title: String,
    /// One for each part.
    pub rows: Vec<Row>,
}

/// An accuracy, as a picture and in numbers.
pub struct Row {
    /// What it is of.
    pub name: String,
    /// The picture.
    pub bar: Bar,
    /// The share.
    pub value: String,
    /// How sure it is.
    pub interval: String,
    /// What length alone reaches on the same pairs; may be empty.
    pub length_only: String,
    /// Prompts; empty for a mean over folds.
    pub n_prompts: String,
    /// Pairs; empty for a mean over folds.
    pub n_pairs: String,
}

/// A correlation of reward with length.
pub struct CorrelationRow {
    /// Over all completions, or within a prompt.
    pub name: String,
    /// Pearson's.
    pub pearson: String,
    /// Spearman's.
    pub spearman: String,
}

/// The report of a run, if it has told one by event `up_to`. Labelers are named, since whoever may
/// see a run may know them; what leaves the house has their ids.
///
/// # Errors
/// When the database does not answer.
pub async fn find(
    db: &mut PgConnection,
    page: &Page,
    id: RunId,
    up_to: i64,
) -> sqlx::Result<Option<ReportView>> {
    let events = store::run_events::list_kind(&mut *db, id, "report", up_to, 1).await?;
    let Some(event) = events.first() else {
        return Ok(None);
    };
    let report: Report = match serde_json::from_value(event.data["data"].clone()) {
        Ok(report) => report,
        Err(error) => {
            tracing::warn!(%id, %error, "the report is of another version of the program");
            return Ok(None);
        }
    };
    let accounts = store::accounts::list(db).await?.into_iter();
    let names = accounts.map(|account| (account.id.to_string(), account.name));
    Ok(Some(
        View {
            page,
            names: names.collect(),
        }
        .of(&report),
    ))
}

/// What turns a report into texts.
struct View<'a> {
    page: &'a Page,
    /// Names of labelers by their ids.
    names: BTreeMap<String, String>,
}

impl View<'_> {
    fn of(&self, report: &Report) -> ReportView {
        let bins = &report.calibration.bins;
        ReportView {
            about: self.about(report),
            reliability: Reliability::new(
                bins.iter()
                    .map(|bin| Point {
                        confidence: bin.confidence,
                        accuracy: bin.accuracy.value,
                        interval: ends(&bin.accuracy),
                    })
                    .collect(),
            ),
            bins: bins
                .iter()
                .map(|bin| BinRow {
                    confidence: format!("{:.3}", bin.confidence),
                    accuracy: format!("{:.3}", bin.accuracy.value),
                    interval: self.interval(&bin.accuracy),
                    n_pairs: bin.accuracy.n_pairs,
                    n_prompts: bin.accuracy.n_prompts,
                })
                .collect(),
            fits: self.fits(&report.calibration),
            temperature: self.temperature(&report.calibration),
            tables: self.tables(report),
            has_agreement: report.agreement.is_some(),
            correlations: [
                ("report-over-all", report.length.overall),
                ("report-within-prompt", report.length.within_prompt),
            ]
            .map(|(key, found)| CorrelationRow {
                name: self.page.t(key),
                pearson: self.correlation(found.pearson),
                spearman: self.correlation(found.spearman),
            })
            .into(),
        }
    }

    fn about(&self, report: &Report) -> String {
        let key = match report.source {
            Source::HeldOut => "report-of-held-out",
            Source::CrossValidation => "report-of-cross-validation",
        };
        let values = [
            ("rankings", report.n_rankings),
            ("prompts", report.accuracy.n_prompts),
            ("pairs", report.accuracy.n_pairs),
        ];
        let values = values.map(|(name, n)| (name, n.to_string()));
        self.page.t_args(key, &values)
    }

    fn fits(&self, calibration: &Calibration) -> Vec<FitRow> {
        let row = |key: &str, fit: Distances| FitRow {
            name: self.page.t(key),
            ece: format!("{:.4}", fit.ece),
            brier: format!("{:.4}", fit.brier),
            nll: format!("{:.4}", fit.nll),
        };
        let scaled = calibration.scaled;
        let scaled = scaled.map(|fit| row("report-with-temperature", fit));
        let raw = row("report-as-it-is", calibration.raw);
        std::iter::once(raw).chain(scaled).collect()
    }

    fn temperature(&self, calibration: &Calibration) -> String {
        match calibration.temperature {
            Some(found) => {
                let found = format!("{found:.3}");
                self.page.t_with("report-temperature", "temperature", found)
            }
            None => self.page.t("report-no-temperature"),
        }
    }

    fn tables(&self, report: &Report) -> Vec<Table> {
        let ceiling = report.agreement.as_ref().map(|found| found.accuracy.value);
        let table = |id, key: &str, rows: Vec<Row>| Table {
            id,
            title: self.page.t(key),
            rows,
        };
        let slices = |slices: &[Slice], name: &dyn Fn(&str) -> String| {
            let rows = slices.iter().map(|slice| {
                let name = match slice.name.as_deref() {
                    Some(text) => name(text),
                    None => self.page.t("report-not-stated"),
                };
                self.row(name, &slice.accuracy, Some(&slice.length_only), ceiling)
            });
            rows.collect::<Vec<_>>()
        };
        let named = |id: &str| self.names.get(id).cloned().unwrap_or_else(|| id.to_owned());
        let as_it_is = str::to_owned;
        let tables = vec![
            table(
                "report-all",
                "report-accuracy",
                self.main_rows(report, ceiling),
            ),
            table(
                "report-category",
                "report-by-category",
                slices(&report.slices.category, &|word| self.page.category(word)),
            ),
            table(
                "report-labeler",
                "report-by-labeler",
                slices(&report.slices.labeler, &named),
            ),
            table(
                "report-completions",
                "report-by-completions",
                slices(&report.slices.completions, &as_it_is),
            ),
            table(
                "report-length",
                "report-by-length",
                self.length_rows(report, ceiling),
            ),
        ];
        let filled = tables.into_iter().filter(|table| !table.rows.is_empty());
        filled.collect()
    }

    fn main_rows(&self, report: &Report, ceiling: Option<f64>) -> Vec<Row> {
        let plain = |key: &str, accuracy| self.row(self.page.t(key), accuracy, None, None);
        let mut rows = vec![
            self.row(
                self.page.t("report-model"),
                &report.accuracy,
                Some(&report.length_only),
                ceiling,
            ),
            plain("report-length-alone", &report.length_only),
        ];
        if let Some(Agreement {
            accuracy,
            model,
            n_labelers,
        }) = &report.agreement
        {
            let name = self.page.t_with("report-agreement", "n", n_labelers);
            rows.push(self.row(name, accuracy, None, None));
            if let Some(model) = model {
                let name = self.page.t("report-model-on-these");
                rows.push(self.row(name, model, None, ceiling));
            }
        }
        if let Some(folds) = &report.labeler_folds {
            let known = ("report-known-labelers", folds.training_labelers);
            let new = ("report-new-labelers", folds.held_out_labelers);
            rows.extend([known, new].into_iter().filter_map(|(key, spread)| {
                Some(self.fold_row(self.page.t(key), spread?, ceiling))
            }));
        }
        rows
    }

    fn length_rows(&self, report: &Report, ceiling: Option<f64>) -> Vec<Row> {
        let length = &report.length;
        let rows = [
            ("report-better-is-shorter", &length.better_is_shorter),
            ("report-better-is-longer", &length.better_is_longer),
            ("report-near-in-length", &length.near_in_length),
        ];
        let rows = rows.into_iter().filter_map(|(key, found)| {
            Some(self.row(self.page.t(key), found.as_ref()?, None, ceiling))
        });
        rows.collect()
    }

    fn row(
        &self,
        name: String,
        accuracy: &Accuracy,
        length_only: Option<&Accuracy>,
        ceiling: Option<f64>,
    ) -> Row {
        let baseline = length_only.map(|found| found.value);
        Row {
            name,
            bar: Bar::new(accuracy.value, ends(accuracy), baseline, ceiling),
            value: format!("{:.3}", accuracy.value),
            interval: self.interval(accuracy),
            length_only: baseline.map_or(String::new(), |value| format!("{value:.3}")),
            n_prompts: accuracy.n_prompts.to_string(),
            n_pairs: accuracy.n_pairs.to_string(),
        }
    }

    /// A mean over folds, whose deviation is no interval.
    fn fold_row(&self, name: String, spread: Spread, ceiling: Option<f64>) -> Row {
        let folds = self.page.t_with("report-folds", "n", spread.n);
        let interval = match spread.deviation {
            Some(deviation) => format!("± {deviation:.3} ({folds})"),
            None => folds,
        };
        Row {
            name,
            bar: Bar::new(spread.mean, None, None, ceiling),
            value: format!("{:.3}", spread.mean),
            interval,
            length_only: String::new(),
            n_prompts: String::new(),
            n_pairs: String::new(),
        }
    }

    fn interval(&self, accuracy: &Accuracy) -> String {
        match ends(accuracy) {
            Some((low, high)) => format!("[{low:.3}, {high:.3}]"),
            None => self.page.t("report-no-interval"),
        }
    }

    fn correlation(&self, value: Option<f64>) -> String {
        match value {
            Some(value) => format!("{value:+.3}"),
            None => self.page.t("report-no-correlation"),
        }
    }
}

fn ends(accuracy: &Accuracy) -> Option<(f64, f64)> {
    accuracy.interval.map(|found| (found.low, found.high))
}
