//! How well a reward model does on labelers it has not learnt from (InstructGPT, appendix E.2: five
//! groups of labelers, 72.4 ± 0.4 % on those learnt from, 69.6 ± 0.9 % on the others).
//!
//! Prompts are divided too, as in cross-validation, so that no prompt that is measured was learnt
//! from: in each part a model learns from the other labelers' rankings of the other prompts, and is
//! measured on this part's prompts, apart for labelers that it learnt from and for those of this
//! part.

use std::collections::{BTreeMap, BTreeSet};

use rand::seq::SliceRandom;

use super::accuracy::{Accuracy, bootstrap, count_by_scores};
use super::groups::{Group, count_units, fold_of_unit};
use super::learner::Learner;
use super::{RewardJob, train_apart};
use crate::error::{Result, TrainerError};
use crate::progress::Progress;
use crate::rng::stream;

/// Accuracy on labelers that were learnt from and on others.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LabelerFolds {
    /// One for each part of the labelers.
    pub folds: Vec<LabelerFold>,
    /// Over the folds, on labelers that were learnt from.
    pub training_labelers: Option<Spread>,
    /// Over the folds, on the others.
    pub held_out_labelers: Option<Spread>,
    /// Rankings without a labeler, which took no part.
    pub n_unnamed: usize,
}

/// One part of the labelers.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LabelerFold {
    /// The labelers held out, as the file names them.
    pub labelers: Vec<String>,
    /// Rankings trained on.
    pub n_train: usize,
    /// On rankings by labelers that were learnt from; none where there are none of these prompts.
    pub training_labelers: Option<Accuracy>,
    /// On rankings by those held out.
    pub held_out_labelers: Option<Accuracy>,
}

/// Mean and deviation over folds.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Spread {
    /// Mean.
    pub mean: f64,
    /// Standard deviation (n - 1); none for a single fold.
    pub deviation: Option<f64>,
    /// Folds that have a value.
    pub n: usize,
}

impl Spread {
    /// None without values.
    fn of(values: &[f64]) -> Option<Self> {
        let n = values.len();
        let mean = values.iter().sum::<f64>() / n as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (n > 1).then(|| (squares / (n as f64 - 1.0)).sqrt());
        (n > 0).then_some(Self { mean, deviation, n })
    }
}

/// The part, of `n`, in which each labeler is held out: parts drawn by the seed, whose sizes differ
/// by one at most.
fn fold_of_labeler(groups: &[Group], n: usize, seed: u64) -> BTreeMap<String, usize> {
    let names = groups.iter().filter_map(|group| group.labeler.clone());
    let names: BTreeSet<String> = names.collect();
    let mut names: Vec<String> = names.into_iter().collect();
    names.shuffle(&mut stream(seed, "labelers", 0));
    let names = names.into_iter().enumerate();
    names.map(|(place, name)| (name, place % n)).collect()
}

/// Checks that there are labelers to divide.
///
/// # Errors
/// Names the setting where there are fewer than two.
pub(super) fn check(groups: &[Group], n_folds: usize) -> Result<()> {
    let n_labelers = fold_of_labeler(groups, 1, 0).len();
    if n_folds == 0 || n_labelers >= 2 {
        return Ok(());
    }
    Err(TrainerError::Config {
        field: "labeler_folds".into(),
        message: format!(
            "needs rankings by two labelers at least, and these name {n_labelers}; set it to 0"
        ),
    })
}

/// What a fold does with a ranking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Train,
    /// Measured; by a labeler that is not held out.
    Known,
    /// Measured; by a labeler that was held out.
    New,
    /// A held-out labeler's ranking of a prompt that is learnt from, or one without a labeler.
    Nothing,
}

/// Which parts labelers and prompts are in.
struct Folds {
    n: usize,
    labelers: BTreeMap<String, usize>,
    units: BTreeMap<String, usize>,
}

impl Folds {
    fn draw(groups: &[Group], n: usize, seed: u64) -> Self {
        let labelers = fold_of_labeler(groups, n, seed);
        let n = n.min(labelers.len()).min(count_units(groups));
        Self {
            n,
            labelers: fold_of_labeler(groups, n, seed),
            units: fold_of_unit(groups, n, seed),
        }
    }

    fn use_of(&self, group: &Group, fold: usize) -> Use {
        let labeler = group.labeler.as_ref();
        let Some(labeler) = labeler.and_then(|name| self.labelers.get(name)) else {
            return Use::Nothing;
        };
        let is_measured = self.units.get(&group.unit) == Some(&fold);
        match (is_measured, *labeler == fold) {
            (true, true) => Use::New,
            (true, false) => Use::Known,
            (false, true) => Use::Nothing,
            (false, false) => Use::Train,
        }
    }
}

/// Trains and measures each part. Returns the groups in the file's order, and what was found.
///
/// # Errors
/// As training.
pub(super) fn measure(
    job: &RewardJob,
    learner: &mut Learner,
    mut groups: Vec<Group>,
    progress: &mut dyn Progress,
) -> Result<(Vec<Group>, LabelerFolds)> {
    let seed = job.config.seed;
    let n_unnamed = groups.iter().filter(|one| one.labeler.is_none()).count();
    let folds = Folds::draw(&groups, job.config.labeler_folds, seed);
    let mut found = Vec::with_capacity(folds.n);
    for fold in 0..folds.n {
        groups.sort_by_key(|group| group.index);
        let mut parts: [Vec<Group>; 4] = Default::default();
        for group in groups {
            parts[folds.use_of(&group, fold) as usize].push(group);
        }
        let [mut train, known, mut new, mut rest] = parts;
        // With few rankings, all of a labeler may be of prompts that are measured.
        let learnt_from: BTreeSet<&Option<String>> = train.iter().map(|one| &one.labeler).collect();
        let (mut known, unknown): (Vec<Group>, Vec<Group>) = known
            .into_iter()
            .partition(|one| learnt_from.contains(&one.labeler));
        rest.extend(unknown);
        let mut own = LabelerFold {
            labelers: folds
                .labelers
                .iter()
                .filter(|(_, part)| **part == fold)
                .map(|(name, _)| name.clone())
                .collect(),
            n_train: train.len(),
            training_labelers: None,
            held_out_labelers: None,
        };
        if !train.is_empty() {
            let place = ("measuring held-out labelers", fold, folds.n);
            let model = train_apart(job, learner, &mut train, place, progress)?;
            let mut accuracy = |part: &mut [Group]| -> Result<Option<Accuracy>> {
                let scores = learner.measure(&model, part, progress)?;
                let accuracy = bootstrap(&count_by_scores(part, &scores), seed);
                Ok((accuracy.n_pairs > 0).then_some(accuracy))
            };
            own.training_labelers = accuracy(&mut known)?;
            own.held_out_labelers = accuracy(&mut new)?;
        }
        found.push(own);
        groups = [train, known, new, rest].into_iter().flatten().collect();
    }
    groups.sort_by_key(|group| group.index);
    let spread = |pick: fn(&LabelerFold) -> Option<Accuracy>| {
        let values: Vec<f64> = found.iter().filter_map(pick).map(|one| one.value).collect();
        Spread::of(&values)
    };
    let found = LabelerFolds {
        training_labelers: spread(|fold| fold.training_labelers),
        held_out_labelers: spread(|fold| fold.held_out_labelers),
        folds: found,
        n_unnamed,
    };
    Ok((groups, found))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    /// Forty prompts of ten customers, each ranked by two of seven labelers.
    fn groups() -> Vec<Group> {
        let group = |index: usize| Group {
            index,
            labeler: Some(format!("l{}", (index * 3 + index / 7) % 7)),
            unit: format!("customer {}", index / 8),
            ..Group::new(&format!("p{}", index / 2))
        };
        (0..80).map(group).collect()
    }

    /// Item 16 of the checklist.
    #[test]
    fn no_prompt_and_no_customer_is_both_trained_on_and_measured_and_no_held_out_labeler_is_trained_on()
     {
        let groups = groups();
        let folds = Folds::draw(&groups, 5, 1);
        assert_eq!(folds.n, 5);
        let (mut n_known, mut n_new) = (0, 0);
        for fold in 0..5 {
            let of = |wanted: &[Use]| -> Vec<&Group> {
                let found = groups.iter();
                found
                    .filter(|group| wanted.contains(&folds.use_of(group, fold)))
                    .collect()
            };
            let (train, new) = (of(&[Use::Train]), of(&[Use::New]));
            let measured = of(&[Use::Known, Use::New]);
            for (learnt, asked) in train
                .iter()
                .flat_map(|a| measured.iter().map(move |b| (a, b)))
            {
                assert_ne!(learnt.prompt_id, asked.prompt_id);
                assert_ne!(learnt.unit, asked.unit);
            }
            let labelers = |groups: &[&Group]| -> BTreeSet<String> {
                groups
                    .iter()
                    .filter_map(|one| one.labeler.clone())
                    .collect()
            };
            assert!(labelers(&train).is_disjoint(&labelers(&new)));
            n_new += new.len();
            n_known += measured.len() - new.len();
        }
        assert_eq!(n_known + n_new, 80, "each ranking is measured once");
        assert!(n_new > 0);
    }

    #[test]
    fn labelers_are_divided_by_the_seed_into_parts_of_one_size() {
        let groups = groups();
        let folds = fold_of_labeler(&groups, 3, 1);
        let size = |part| folds.values().filter(|own| **own == part).count();
        assert_eq!([size(0), size(1), size(2)], [3, 2, 2]);
        let backwards: Vec<Group> = self::groups().into_iter().rev().collect();
        assert_eq!(fold_of_labeler(&backwards, 3, 1), folds);
        assert!((2..20).any(|seed| fold_of_labeler(&groups, 3, seed) != folds));
    }

    #[test]
    fn the_deviation_is_that_of_a_sample() {
        let spread = Spread::of(&[0.6, 0.7, 0.8]).unwrap();
        assert!((spread.mean - 0.7).abs() < 1e-12);
        assert!((spread.deviation.unwrap() - 0.1).abs() < 1e-12);
        assert_eq!(Spread::of(&[0.6]).unwrap().deviation, None);
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn one_labeler_cannot_be_divided() {
        let mut groups = groups();
        check(&groups, 5).unwrap();
        groups.iter_mut().for_each(|one| one.labeler = None);
        groups[0].labeler = Some("ada".to_owned());
        check(&groups, 0).unwrap();
        let error = check(&groups, 5).unwrap_err().to_string();
        assert!(
            error.contains("labeler_folds") && error.contains("name 1"),
            "{error}"
        );
    }
}
