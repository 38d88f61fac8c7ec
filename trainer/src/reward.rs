//! Step two: the K-wise reward model (InstructGPT, section 3.5 and C.2).
//!
//! 1. Read the rankings and split them by prompt.
//! 2. Check the model.
//! 3. Cross-validate, where asked: how well do such models order prompts they never saw, and as
//!    labelers would that they never heard?
//! 4. Train: for each batch of prompts one forward pass of each prompt with all its completions, the
//!    loss over all pairs of a prompt as one element, backward, step; measure held-out accuracy.
//! 5. Report: compare it with what length alone predicts and with how far labelers agree.
//! 6. Shift the scores so that demonstrations (or, without any, training completions) score mean
//!    0, and write.

pub(crate) mod accuracy;
mod agreement;
mod bench;
mod calibration;
mod card;
mod correlation;
mod data;
mod disagreement;
pub(crate) mod groups;
mod labeler_folds;
mod learner;
mod length;
mod measured;
pub(crate) mod passes;
mod report;
mod slices;
mod units;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

pub use self::accuracy::{
    Accuracy, Interval, Place, UnitCount, bootstrap, bootstrap_mean, bootstrap_units, by_prompt,
    by_unit, count_right, mean_and_deviation,
};
use self::accuracy::{count_by_length, count_by_scores, difference, longer_is_better};
pub use self::agreement::Agreement;
pub use self::bench::{StepBench, StepShape};
pub use self::calibration::{Bin, Calibration, Distances};
pub use self::correlation::Correlations;
use self::data::Data;
pub use self::data::estimate;
use self::disagreement::Area;
use self::groups::{Group, count_units, fold_of_unit, hold_out_fold, split_by_prompt};
pub use self::labeler_folds::{LabelerFold, LabelerFolds, Spread};
use self::learner::{Fit, Learner, Step};
pub use self::length::LengthBias;
use self::measured::Measured;
pub use self::report::{Report, Source};
pub use self::slices::{Slice, Slices};
pub use self::units::units;
use crate::adapter;
use crate::checkpoint::{self, CheckpointKind, Lineage, sha256, sha256_of_weights};
use crate::config::RewardConfig;
use crate::config::sources::{self, Kind};
use crate::error::{Result, TrainerError};
use crate::memory::PeakWatch;
use crate::model::architecture::SCORE;
use crate::model::attention::Pass;
use crate::model::batch::TokenBatch;
use crate::model::heads::RewardModel;
use crate::model::lora;
use crate::model::transformer::TransformerConfig;
use crate::optim::Gradients;
use crate::progress::{Event, Progress};
use crate::rng::stream;
use crate::run_folder::RunFolder;
use crate::savepoint::{self, SavePolicy};
use crate::self_check;
use crate::sft::{Outcome, adapters_of, training_notes};
use crate::text::TextCodec;

/// Training prompts whose completions stand in for missing demonstrations: with K = 5, about the
/// 256 samples that lm-human-preferences takes.
const REFERENCE_PROMPTS: usize = 51;

/// What to run.
pub struct RewardJob {
    /// Settings.
    pub config: RewardConfig,
    /// Rankings, JSONL.
    pub data: PathBuf,
    /// Demonstrations, JSONL, that shall score mean 0 (section 3.5); without them the training
    /// completions do.
    pub demonstrations: Option<PathBuf>,
    /// The model to start from.
    pub base: PathBuf,
    /// The run's folder.
    pub out: PathBuf,
    /// When savepoints are kept, and whether to go on from one.
    pub saving: SavePolicy,
}

/// What of a run is no tensor.
#[derive(Clone, Serialize, Deserialize)]
struct State {
    /// Of the cross-validation.
    figures: BTreeMap<String, f64>,
    /// Held-out accuracy before training.
    before: Accuracy,
    /// Of the labelers' folds.
    #[serde(default)]
    labeler_folds: Option<LabelerFolds>,
    /// Of the cross-validation, where there was one.
    #[serde(default)]
    report: Option<Report>,
    /// Epochs whose held-out accuracy was told.
    #[serde(default)]
    n_measured: usize,
}

/// Trains.
///
/// # Errors
/// A sentence about data, model or settings; `Refused` by a check; `Cancelled`.
pub fn run(job: &RewardJob, listener: &mut dyn Progress) -> Result<Outcome> {
    job.config.check()?;
    let config = &job.config;
    let watch = PeakWatch::start();

    // 1. Read the rankings and split them by prompt.
    let codec = TextCodec::load(&job.base)?;
    let shape = TransformerConfig::read(&job.base)?;
    let Data {
        groups,
        mut demonstrations,
        remarks,
    } = Data::read(job, &codec, &shape)?;
    labeler_folds::check(&groups, config.labeler_folds)?;
    let plan = data::plan(config, &shape, &groups, &demonstrations)?;
    let (share, seed) = (config.held_out_share, config.seed);
    let (mut train, mut held_out) = split_by_prompt(groups, share, seed);
    if train.is_empty() || held_out.is_empty() {
        return Err(TrainerError::input(
            &job.data,
            1,
            "file",
            "has too few ranked prompts to train and to hold some out",
        ));
    }
    let telling = telling(&train).ok_or_else(|| {
        let message = "are the same in each ranking to train on: nothing can be learnt from them";
        TrainerError::input(&job.data, 1, "completions", message)
    })?;

    // 2. Check the model.
    let model = data::fresh_model(job, plan.recomputes)?;
    codec.check_fits(&job.base, model.trunk.config.vocab_size)?;
    codec.padding_of_a_reward_model(&job.base)?;
    let files: Vec<&Path> = std::iter::once(&job.data)
        .chain(&job.demonstrations)
        .map(PathBuf::as_path)
        .collect();
    let identity = savepoint::identity("reward", config, &files, &[&job.base])?;
    let (mut folder, resumed) = RunFolder::open(&job.out, config, identity, job.saving, listener)?;
    sources::write(&job.out, Kind::Reward, config)?;
    let progress: &mut dyn Progress = &mut folder;
    for remark in remarks {
        progress.log(remark);
    }
    let n_layers = model.trunk.config.num_hidden_layers;
    progress.log(format!(
        "training {}the upper {} of {n_layers} layers and {} on {} rankings, {} held out",
        adapters_of(&model.trunk),
        n_layers - model.trunk.n_frozen(),
        match config.members {
            1 => "the head".to_owned(),
            n => format!("{n} heads"),
        },
        train.len(),
        held_out.len()
    ));
    progress.log(format!(
        "these are of {} and {} units that share no prompt, no text and no customer",
        count_units(&train),
        count_units(&held_out)
    ));
    plan.report(config.memory_limit_gib, progress);
    self_check::files::origin("base", &job.base, &codec, progress)?;
    self_check::files::round_trip(&job.data, &codec, progress)?;
    if let Some(demonstrations) = &job.demonstrations {
        self_check::data::tell(demonstrations, &codec, progress)?;
    }
    self_check::files::finite_weights("reward model", model.trunk.weights(), progress)?;
    self_check::files::head_survives("reward model", model.heads(), &job.out, progress)?;
    self_check::padding_invariance(
        "reward model",
        &model.trunk,
        &train[0].rows[0],
        codec.pad_id,
        progress,
    )?;
    check_scores_beside_others(&model, &train[0].rows, progress)?;
    let mut learner = Learner::new(config, &plan);
    let mut gradients = Gradients::default();
    let variables = model.trunk.weights().variables();
    lora::while_open(variables, || {
        learner.learn_groups(&model, &mut train[telling..=telling], 1.0, &mut gradients)
    })?;
    self_check::gradient_coverage("reward model", variables, &gradients, progress)?;
    drop(gradients);

    // 3. Cross-validate.
    let mut figures = BTreeMap::new();
    let (mut report, mut by_labelers) = (None, None);
    let has_folds = config.labeler_folds > 0 || config.cross_validation_folds > 0;
    if has_folds && resumed.is_none() {
        progress
            .log("folds keep no savepoints: a run that is stopped within them begins them anew");
    }
    if config.labeler_folds > 0 && resumed.is_none() {
        let all: Vec<Group> = train.into_iter().chain(held_out).collect();
        let (all, found) = labeler_folds::measure(job, &mut learner, all, progress)?;
        by_labelers = Some(found);
        (train, held_out) = split_by_prompt(all, share, seed);
    }
    if config.cross_validation_folds > 0 && resumed.is_none() {
        let mut all: Vec<Group> = train.into_iter().chain(held_out).collect();
        let crossed;
        (all, crossed) = cross_validate(job, &mut learner, all, progress)?;
        figures = crossed.figures;
        // In the file's order, as without cross-validation.
        all.sort_by_key(|group| group.index);
        let (source, folds) = (Source::CrossValidation, by_labelers.clone());
        report = Report::of(source, &crossed.measured, all.iter(), folds, seed);
        (train, held_out) = split_by_prompt(all, share, seed);
    }

    // 4. Train.
    let by_length = count_by_length(&train, &held_out);
    let length = bootstrap_units(&by_length, config.seed);
    let mut fit = Fit::new(model, config);
    let n_steps_an_epoch = train.len().div_ceil(config.batch_prompts);
    let n_steps = config.epochs * n_steps_an_epoch;
    let mut state = match &resumed {
        Some(point) => {
            fit.restore(point.within(n_steps)?)?;
            point.state_as()?
        }
        None => {
            progress.phase("measuring held-out accuracy", 0, 1);
            let before = learner.measure(&fit.model, &mut held_out, progress)?;
            let before = bootstrap_units(&count_by_scores(&held_out, &before), config.seed);
            report_accuracy(0, before, length, progress);
            State {
                figures,
                before,
                labeler_folds: by_labelers,
                report,
                n_measured: 0,
            }
        }
    };
    let mut scores = Vec::new();
    for epoch in 0..config.epochs {
        let mut report = |progress: &mut dyn Progress, step: &Step, fit: &Fit| {
            report_step(step, progress);
            match progress.wants_savepoint() {
                true => progress.save(&fit.savepoint(&state)?),
                false => Ok(()),
            }
        };
        let n_steps = (epoch + 1) * n_steps_an_epoch;
        let trained = learner.epoch(&mut fit, &mut train, epoch, progress, &mut report);
        // Told before the run was stopped, unless it is the last one, whose scores are needed again.
        let is_told = epoch < state.n_measured;
        if !is_told || epoch + 1 == config.epochs {
            let found = trained.and_then(|()| learner.measure(&fit.model, &mut held_out, progress));
            scores = keep_at_stop(found, &fit, &state, progress)?;
        } else {
            keep_at_stop(trained, &fit, &state, progress)?;
        }
        if !is_told {
            let now = bootstrap_units(&count_by_scores(&held_out, &scores), config.seed);
            report_accuracy(n_steps as u64, now, length, progress);
            state.n_measured = epoch + 1;
        }
    }

    // 5. Compare held-out accuracy with what length alone predicts, and report.
    let counts = count_by_scores(&held_out, &scores);
    let after = bootstrap_units(&counts, config.seed);
    let over_length = difference(&counts, &by_length, config.seed);
    progress.log(format!(
        "held-out accuracy {after} over {} pairs; length alone {length}; difference {over_length}",
        after.n_pairs
    ));
    let report = state.report.clone().or_else(|| {
        let measured = Measured::all(&held_out, scores, longer_is_better(&train), 0);
        let all = train.iter().chain(&held_out);
        let folds = state.labeler_folds.clone();
        Report::of(Source::HeldOut, &measured, all, folds, config.seed)
    });
    if report.is_none() {
        progress.log("no strict pair was held out: there is nothing to report on the model");
    }

    let doubt = measure_doubt(&mut learner, &fit.model, &mut held_out, config, progress);
    let doubt = keep_at_stop(doubt, &fit, &state, progress)?;
    let n_train = train.len();

    // 6. Shift the scores to mean 0 and write.
    progress.phase("writing", n_steps, n_steps);
    let (reference, at_zero) = match demonstrations.is_empty() {
        true => {
            train.shuffle(&mut stream(config.seed, "reference", 0));
            train.truncate(REFERENCE_PROMPTS);
            (
                &mut train,
                "training completions (no demonstrations were given)",
            )
        }
        false => (&mut demonstrations, "demonstrations"),
    };
    let biases = learner.mean_scores(&fit.model, reference, progress);
    let biases = keep_at_stop(biases, &fit, &state, progress)?;
    progress.log(format!("scores are shifted so that {at_zero} score mean 0"));
    fit.model.set_biases(biases);
    let model = &fit.model;
    let mut summary = BTreeMap::from([
        ("held_out_accuracy_before".to_owned(), state.before.value),
        ("n_held_out_pairs".to_owned(), after.n_pairs as f64),
        ("n_train".to_owned(), n_train as f64),
        ("n_held_out".to_owned(), held_out.len() as f64),
    ]);
    summary.extend(after.figures("held_out_accuracy"));
    summary.extend(length.figures("length_only_accuracy"));
    summary.extend(over_length.figures("accuracy_over_length"));
    summary.extend(state.figures.clone());
    summary.extend(doubt);
    summary.extend(report.iter().flat_map(Report::figures));
    let mut lineage = Lineage::new(CheckpointKind::Reward);
    let base = sha256_of_weights(&job.base)?;
    lineage.parents.insert("base".to_owned(), base.clone());
    lineage
        .data
        .insert("rankings".to_owned(), sha256(&job.data)?);
    lineage.template = codec.template_hash();
    lineage.config = serde_json::to_value(config).unwrap_or_default();
    lineage.summary = summary.clone();
    lineage.notes = training_notes(&model.trunk);
    if let Some(path) = &job.demonstrations {
        lineage
            .data
            .insert("demonstrations".to_owned(), sha256(path)?);
    }
    lineage.notes.push(format!(
        "Scores are shifted by reward_bias (config.json), so that {at_zero} score mean 0; a \
         program that ignores it gets the same order."
    ));
    let members = model.members();
    if let Some(members) = &members {
        lineage.notes.push(format!(
            "An ensemble of {} heads: score.weight is their mean, members.safetensors has each.",
            members.biases.len()
        ));
    }
    if let Some(report) = &report {
        let data = serde_json::to_value(report).unwrap_or_default();
        lineage.sections = card::sections(report);
        lineage.files.insert("report.json".to_owned(), data.clone());
        folder.record(Event::Report { data });
    }
    let goes_on = (&mut folder as &mut dyn Progress).go_on();
    keep_at_stop(goes_on, &fit, &state, &mut folder)?;
    let place = job.out.join("checkpoint");
    let weights = model.trunk.weights();
    let head = model.mean_head()?.detach();
    let mut tensors = weights.merged()?;
    tensors.insert(SCORE.to_owned(), head.clone());
    let bias = Some(model.bias);
    checkpoint::write_with(&place, &job.base, &tensors, bias, &lineage, |folder| {
        if let Some(members) = &members {
            members.write(folder)?;
        }
        adapter::write(folder, weights, &model.trunk.config, Some(head), &base)
    })?;
    folder.finish()?;
    watch.conclude(&plan.estimate, &mut summary, &mut folder);
    folder.record(Event::Checkpoint {
        path: place.clone(),
    });
    Ok(Outcome {
        checkpoint: place,
        summary,
    })
}

/// What was found; or, where the run is to stop, a savepoint is kept first. Nothing has moved since the
/// last step.
fn keep_at_stop<T>(
    found: Result<T>,
    fit: &Fit,
    state: &State,
    progress: &mut dyn Progress,
) -> Result<T> {
    if let Err(TrainerError::Cancelled) = &found {
        progress.save(&fit.savepoint(state)?)?;
    }
    found
}

/// The first ranking with two completions that differ: of completions that are all the same, no
/// gradient reaches the head, whatever the model.
pub(crate) fn telling<'a>(groups: impl IntoIterator<Item = &'a Group>) -> Option<usize> {
    let differs = |group: &Group| group.rows.iter().any(|row| *row != group.rows[0]);
    groups.into_iter().position(differs)
}

/// Two completions of a prompt that is there once score what each scores by itself.
fn check_scores_beside_others(
    model: &RewardModel,
    rows: &[Vec<u32>],
    progress: &mut dyn Progress,
) -> Result<()> {
    let scores = |rows: &[Vec<u32>]| -> Result<Vec<f32>> {
        let batch = TokenBatch::alike(rows, &model.trunk.device)?;
        let lower = model.trunk.lower(&batch)?;
        let scores = model.scores_from(&lower, &batch, Pass::Tracked)?;
        Ok(scores.to_vec1::<f32>()?)
    };
    let two = &rows[..rows.len().min(2)];
    let mut distances = Vec::with_capacity(two.len());
    for (row, together) in two.iter().zip(scores(two)?) {
        let alone = scores(std::slice::from_ref(row))?;
        distances.extend(alone.iter().map(|alone| f64::from(alone - together).abs()));
    }
    let difference = self_check::largest(distances);
    progress.check(
        "a prompt shared by its completions: score",
        difference < 1e-3,
        format!("largest difference {difference:.2e}, at most 1e-3 allowed"),
    )
}

/// Trains a model that is only measured; `place` says what for, and which of how many it is.
fn train_apart(
    job: &RewardJob,
    learner: &mut Learner,
    train: &mut [Group],
    place: (&str, usize, usize),
    progress: &mut dyn Progress,
) -> Result<RewardModel> {
    let config = &job.config;
    let (phase, fold, n) = place;
    let mut fit = Fit::new(data::fresh_model(job, learner.recomputes)?, config);
    for epoch in 0..config.epochs {
        learner.epoch(
            &mut fit,
            train,
            epoch,
            progress,
            &mut |progress, step, _| {
                let done = fold * step.n_steps + step.number;
                progress.phase(phase, done, n * step.n_steps);
                Ok(())
            },
        )?;
    }
    Ok(fit.model)
}

/// What cross-validation finds.
struct Crossed {
    /// What the models made of the rankings.
    measured: Vec<Measured>,
    figures: BTreeMap<String, f64>,
}

/// How well models of the same settings, each trained without one of several parts of the
/// prompts, order the prompts of that part: an accuracy over all prompts, none of which the model that was
/// asked had seen. Returns the groups too.
fn cross_validate(
    job: &RewardJob,
    learner: &mut Learner,
    mut groups: Vec<Group>,
    progress: &mut dyn Progress,
) -> Result<(Vec<Group>, Crossed)> {
    let config = &job.config;
    // A part without a prompt would measure nothing.
    let n = config.cross_validation_folds.min(count_units(&groups));
    let folds = fold_of_unit(&groups, n, config.seed);
    let (mut counts, mut by_length, mut measured) = (Vec::new(), Vec::new(), Vec::new());
    for fold in 0..n {
        let (mut train, mut held_out) = hold_out_fold(groups, &folds, fold);
        let place = ("cross-validating", fold, n);
        let model = train_apart(job, learner, &mut train, place, progress)?;
        let scores = learner.measure(&model, &mut held_out, progress)?;
        let own = count_by_scores(&held_out, &scores);
        let accuracy = bootstrap_units(&own, config.seed).value;
        progress.metrics(fold as u64 + 1, [("cross_validation/accuracy", accuracy)]);
        counts.extend(own);
        by_length.extend(count_by_length(&train, &held_out));
        let longer = longer_is_better(&train);
        measured.extend(Measured::all(&held_out, scores, longer, fold));
        train.append(&mut held_out);
        groups = train;
    }
    let found = [
        (
            "cross_validated_accuracy",
            bootstrap_units(&counts, config.seed),
        ),
        (
            "cross_validated_length_only",
            bootstrap_units(&by_length, config.seed),
        ),
        (
            "cross_validated_over_length",
            difference(&counts, &by_length, config.seed),
        ),
    ];
    progress.log(format!(
        "{n}-fold cross-validation over {} prompts, {} pairs: accuracy {}; length alone {}; \
         difference {}",
        found[0].1.n_prompts, found[0].1.n_pairs, found[0].1, found[1].1, found[2].1
    ));
    let figures = found.iter().flat_map(|(name, found)| found.figures(name));
    let figures = figures.collect();
    Ok((groups, Crossed { measured, figures }))
}

/// How well the disagreement of an ensemble's members tells wrong held-out pairs from right ones,
/// as figures; none for a single head, or where all pairs are right or all wrong.
fn measure_doubt(
    learner: &mut Learner,
    model: &RewardModel,
    held_out: &mut [Group],
    config: &RewardConfig,
    progress: &mut dyn Progress,
) -> Result<Vec<(String, f64)>> {
    if model.n_members() == 1 {
        return Ok(Vec::new());
    }
    let doubts = learner.doubts(model, held_out, progress)?;
    let Some(area) = Area::of(&doubts, config.seed) else {
        progress.log("every held-out pair is right, or every one wrong: nothing to tell apart");
        return Ok(Vec::new());
    };
    progress.log(format!(
        "a wrong held-out pair divides the members more than a right one with probability {area}; \
         0.5 would tell nothing"
    ));
    Ok(area.figures())
}

fn report_step(step: &Step, progress: &mut dyn Progress) {
    progress.phase("training", step.number, step.n_steps);
    let (mean, deviation) = mean_and_deviation(&step.rewards);
    progress.metrics(
        step.number as u64,
        [
            ("train/loss", step.loss),
            ("train/accuracy", step.accuracy),
            ("train/grad_norm", step.norm),
            ("train/learning_rate", step.learning_rate),
            ("train/reward_mean", mean),
            ("train/reward_std", deviation),
        ],
    );
}

fn report_accuracy(step: u64, now: Accuracy, length: Accuracy, progress: &mut dyn Progress) {
    let mut values: BTreeMap<String, f64> = now.figures("held_out/accuracy").into_iter().collect();
    values.insert("held_out/length_only_accuracy".to_owned(), length.value);
    progress.record(Event::Metrics { step, values });
}
