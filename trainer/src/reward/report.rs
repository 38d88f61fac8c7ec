//! The report on a reward model: `report.json` of the run's folder and of the checkpoint, and the
//! figures of it that stand among the run's.

use serde::{Deserialize, Serialize};

use super::accuracy::{Accuracy, by_prompt, difference};
use super::agreement::Agreement;
use super::calibration::Calibration;
use super::groups::Group;
use super::labeler_folds::LabelerFolds;
use super::length::LengthBias;
use super::measured::{Measured, Pair, accuracy};
use super::slices::Slices;

/// Whose scores are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The checkpoint's, on the prompts held out.
    HeldOut,
    /// Those of cross-validation's models, on all prompts, each by the model that had not learnt
    /// from it: the same settings, and more prompts.
    CrossValidation,
}

/// What is to be known of a reward model. Intervals are of 95 %, by bootstrap over prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Whose scores these are.
    pub source: Source,
    /// Rankings measured.
    pub n_rankings: usize,
    /// How often the model orders a strict pair as the labeler did.
    pub accuracy: Accuracy,
    /// How often length alone does.
    pub length_only: Accuracy,
    /// By how much the model is more accurate.
    pub over_length: Accuracy,
    /// Whether it is as sure as it is right.
    pub calibration: Calibration,
    /// How far it goes by length.
    pub length: LengthBias,
    /// Accuracy on parts of the rankings.
    pub slices: Slices,
    /// How often two labelers agree; none where none ranked the same.
    pub agreement: Option<Agreement>,
    /// How well it does on labelers it has not learnt from, where that was asked for.
    pub labeler_folds: Option<LabelerFolds>,
}

impl Report {
    /// None where no strict pair was measured. `groups` are all rankings of the run.
    pub(super) fn of<'a>(
        source: Source,
        measured: &[Measured],
        groups: impl Iterator<Item = &'a Group>,
        labeler_folds: Option<LabelerFolds>,
        seed: u64,
    ) -> Option<Self> {
        let all = |count: fn(&Measured) -> (f64, usize)| {
            let counts = measured.iter();
            counts.map(move |one| (one.prompt_id.as_str(), count(one)))
        };
        let sums = |count: fn(&Measured) -> (f64, usize)| {
            let (ids, counts): (Vec<&str>, Vec<_>) = all(count).unzip();
            by_prompt(ids.into_iter(), &counts)
        };
        let by_length = |one: &Measured| one.by_length;
        let pairs: Vec<Pair<'_>> = measured.iter().flat_map(Measured::pairs).collect();
        Some(Self {
            source,
            n_rankings: measured.len(),
            accuracy: accuracy(all(Measured::by_model), seed)?,
            length_only: accuracy(all(by_length), seed)?,
            over_length: difference(&sums(Measured::by_model), &sums(by_length), seed),
            calibration: Calibration::of(&pairs, seed)?,
            length: LengthBias::of(measured, seed),
            slices: Slices::of(measured, seed),
            agreement: Agreement::of(groups, measured, seed),
            labeler_folds,
        })
    }

    /// The figures that stand among the run's final ones.
    pub(super) fn figures(&self) -> Vec<(String, f64)> {
        let calibration = &self.calibration;
        let mut figures = vec![
            ("calibration_error".to_owned(), calibration.raw.ece),
            ("pair_nll".to_owned(), calibration.raw.nll),
        ];
        let mut add = |name: &str, value: Option<f64>| {
            figures.extend(value.map(|value| (name.to_owned(), value)));
        };
        add("temperature", calibration.temperature);
        add(
            "calibration_error_with_temperature",
            calibration.scaled.map(|fit| fit.ece),
        );
        if let Some(folds) = &self.labeler_folds {
            for (name, spread) in [
                ("training_labelers_accuracy", folds.training_labelers),
                ("held_out_labelers_accuracy", folds.held_out_labelers),
            ] {
                add(name, spread.map(|spread| spread.mean));
                let deviation = spread.and_then(|spread| spread.deviation);
                add(&format!("{name}_deviation"), deviation);
            }
        }
        if let Some(agreement) = &self.agreement {
            figures.extend(agreement.accuracy.figures("labeler_agreement"));
        }
        figures
    }
}
