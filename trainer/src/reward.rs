//! Step two: the K-wise reward model (InstructGPT, section 3.5 and C.2).
//!
//! 1. Read the rankings and split them by prompt.
//! 2. Check the model.
//! 3. Cross-validate, where asked: how well do such models order prompts they never saw?
//! 4. Train: for each batch of prompts one forward pass for each completion, the loss over all
//!    pairs of a prompt as one element, backward, step; measure held-out accuracy.
//! 5. Compare it with what length alone predicts.
//! 6. Shift the scores so that demonstrations (or, without any, training completions) score mean
//!    0, and write.

pub(crate) mod accuracy;
pub(crate) mod groups;
mod learner;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::Device;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

pub use self::accuracy::{Accuracy, bootstrap, by_prompt, count_right, mean_and_deviation};
use self::accuracy::{count_by_length, difference};
use self::groups::{
    Group, count_prompts, fold_of_prompt, read_demonstrations, read_groups, split_by_prompt,
};
use self::learner::{Fit, Learner, Step};
use crate::checkpoint::{self, CheckpointKind, Lineage, sha256, sha256_of_weights};
use crate::config::RewardConfig;
use crate::error::{Result, TrainerError};
use crate::model::attention::Pass;
use crate::model::batch::TokenBatch;
use crate::model::heads::RewardModel;
use crate::model::transformer::TransformerConfig;
use crate::optim::Gradients;
use crate::progress::{Event, Progress};
use crate::records::{self, Placed, RankedPrompt};
use crate::rng::stream;
use crate::run_folder::RunFolder;
use crate::savepoint::{self, SavePolicy};
use crate::self_check;
use crate::sft::{Outcome, training_notes};
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
}

/// Trains.
///
/// # Errors
/// A sentence about data, model or settings; `Refused` by a check; `Cancelled`.
pub fn run(job: &RewardJob, listener: &mut dyn Progress) -> Result<Outcome> {
    job.config.check()?;
    let config = &job.config;

    // 1. Read the rankings and split them by prompt.
    let records: Vec<Placed<RankedPrompt>> = records::read_placed(&job.data)?;
    let codec = TextCodec::load(&job.base)?;
    let context = TransformerConfig::read(&job.base)?.max_position_embeddings;
    let longest = config.max_tokens.min(context);
    let from_ties = config.loss.learns_from_ties();
    let (groups, mut remarks) = read_groups(&job.data, &records, &codec, longest, from_ties)?;
    let (mut demonstrations, remark) = read_demonstrations(job, &codec, longest)?;
    remarks.extend(remark);
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

    // 2. Check the model.
    let model =
        RewardModel::from_language_model(&job.base, &Device::Cpu, config.trainable(), config.seed)?;
    codec.check_fits(&job.base, model.trunk.config.vocab_size)?;
    codec.padding_of_a_reward_model(&job.base)?;
    let files: Vec<&Path> = std::iter::once(&job.data)
        .chain(&job.demonstrations)
        .map(PathBuf::as_path)
        .collect();
    let identity = savepoint::identity("reward", config, &files, &[&job.base])?;
    let (mut folder, resumed) = RunFolder::open(&job.out, config, identity, job.saving, listener)?;
    let progress: &mut dyn Progress = &mut folder;
    for remark in remarks {
        progress.log(remark);
    }
    let n_layers = model.trunk.config.num_hidden_layers;
    progress.log(format!(
        "training the upper {} of {n_layers} layers and the head on {} rankings, {} held out",
        n_layers - model.trunk.n_frozen(),
        train.len(),
        held_out.len()
    ));
    self_check::padding_invariance(
        "reward model",
        &model.trunk,
        &train[0].rows[0],
        codec.pad_id,
        progress,
    )?;
    check_scores_beside_padding(&model, &train[0].rows[0], codec.pad_id, progress)?;
    let mut learner = Learner::new(config, codec.pad_id);
    let mut gradients = Gradients::default();
    learner.learn_groups(&model, &mut train[..1], 1.0, &mut gradients)?;
    self_check::gradient_coverage(
        "reward model",
        model.trunk.weights().variables(),
        &gradients,
        progress,
    )?;

    // 3. Cross-validate.
    let mut figures = BTreeMap::new();
    if config.cross_validation_folds > 0 && resumed.is_none() {
        let mut all: Vec<Group> = train.into_iter().chain(held_out).collect();
        (all, figures) = cross_validate(job, &mut learner, all, progress)?;
        // In the file's order, as without cross-validation.
        all.sort_by_key(|group| group.index);
        (train, held_out) = split_by_prompt(all, share, seed);
    }

    // 4. Train.
    let by_length = count_by_length(&train, &held_out);
    let length = bootstrap(&by_length, config.seed);
    let mut fit = Fit::new(model, config);
    let state = match &resumed {
        Some(point) => {
            fit.restore(point)?;
            point.state_as()?
        }
        None => {
            progress.phase("measuring held-out accuracy", 0, 1);
            let before = learner.measure(&fit.model, &mut held_out, progress)?;
            let before = bootstrap(&before, config.seed);
            report_accuracy(0, before, length, progress);
            State { figures, before }
        }
    };
    let n_steps_an_epoch = train.len().div_ceil(config.batch_prompts);
    let n_before = fit.n_done;
    let mut counts = Vec::new();
    for epoch in 0..config.epochs {
        let mut report = |progress: &mut dyn Progress, step: &Step, fit: &Fit| {
            report_step(step, progress);
            match progress.wants_savepoint() {
                true => progress.save(&fit.savepoint(&state)?),
                false => Ok(()),
            }
        };
        let n_steps = (epoch + 1) * n_steps_an_epoch;
        let result = learner
            .epoch(&mut fit, &mut train, epoch, progress, &mut report)
            .and_then(|()| match n_steps < n_before {
                // Measured before the run was stopped.
                true => Ok(()),
                false => {
                    counts = learner.measure(&fit.model, &mut held_out, progress)?;
                    let now = bootstrap(&counts, config.seed);
                    report_accuracy(n_steps as u64, now, length, progress);
                    Ok(())
                }
            });
        if let Err(TrainerError::Cancelled) = &result {
            // Nothing has moved since the last step.
            progress.save(&fit.savepoint(&state)?)?;
        }
        result?;
    }
    let n_steps = config.epochs * n_steps_an_epoch;
    let State { figures, before } = state;
    let mut model = fit.model;

    // 5. Compare held-out accuracy with what length alone predicts.
    let after = bootstrap(&counts, config.seed);
    let over_length = difference(&counts, &by_length, config.seed);
    progress.log(format!(
        "held-out accuracy {after} over {} pairs; length alone {length}; difference {over_length}",
        after.n_pairs
    ));

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
    model.bias = learner.mean_score(&model, reference)?;
    progress.log(format!("scores are shifted so that {at_zero} score mean 0"));
    (&mut folder as &mut dyn Progress).go_on()?;
    let mut summary = BTreeMap::from([
        ("held_out_accuracy".to_owned(), after.value),
        ("held_out_accuracy_low".to_owned(), after.low),
        ("held_out_accuracy_high".to_owned(), after.high),
        ("held_out_accuracy_before".to_owned(), before.value),
        ("length_only_accuracy".to_owned(), length.value),
        ("length_only_accuracy_low".to_owned(), length.low),
        ("length_only_accuracy_high".to_owned(), length.high),
        ("accuracy_over_length".to_owned(), over_length.value),
        ("accuracy_over_length_low".to_owned(), over_length.low),
        ("accuracy_over_length_high".to_owned(), over_length.high),
        ("n_held_out_pairs".to_owned(), after.n_pairs as f64),
        ("n_train".to_owned(), n_train as f64),
        ("n_held_out".to_owned(), held_out.len() as f64),
    ]);
    summary.extend(figures);
    let mut lineage = Lineage::new(CheckpointKind::Reward);
    lineage
        .parents
        .insert("base".to_owned(), sha256_of_weights(&job.base)?);
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
    let place = job.out.join("checkpoint");
    checkpoint::write(
        &place,
        &job.base,
        model.trunk.weights().tensors(),
        Some(model.bias),
        &lineage,
    )?;
    folder.finish()?;
    folder.record(Event::Checkpoint {
        path: place.clone(),
    });
    Ok(Outcome {
        checkpoint: place,
        summary,
    })
}

/// The pass that trains looks at the last token only; it must not see padding either.
fn check_scores_beside_padding(
    model: &RewardModel,
    row: &[u32],
    pad_id: u32,
    progress: &mut dyn Progress,
) -> Result<()> {
    let score = |rows: &[Vec<u32>]| -> Result<f32> {
        let batch = TokenBatch::new(rows, pad_id, &model.trunk.device)?;
        let lower = model.trunk.lower(&batch)?;
        let scores = model.scores_from(&lower, &batch, Pass::Tracked)?;
        Ok(scores.to_vec1::<f32>()?[0])
    };
    let room = model.trunk.config.max_position_embeddings - row.len();
    let longer = [row, &vec![pad_id; room.min(7)]].concat();
    let difference = (score(&[row.to_vec()])? - score(&[row.to_vec(), longer])?).abs();
    progress.check(
        "padding invariance: score",
        difference < 1e-3,
        format!("difference {difference:.2e}, at most 1e-3 allowed"),
    )
}

/// How well models of the same settings, each trained without one of several parts of the
/// prompts, order the prompts of that part: an accuracy over all prompts, none of which the model that was
/// asked had seen. Returns the groups and the figures.
fn cross_validate(
    job: &RewardJob,
    learner: &mut Learner,
    mut groups: Vec<Group>,
    progress: &mut dyn Progress,
) -> Result<(Vec<Group>, BTreeMap<String, f64>)> {
    let config = &job.config;
    let n_prompts = count_prompts(&groups);
    // A part without a prompt would measure nothing.
    let n = config.cross_validation_folds.min(n_prompts);
    let folds = fold_of_prompt(&groups, n, config.seed);
    let (mut counts, mut by_length) = (Vec::new(), Vec::new());
    for fold in 0..n {
        let (mut held_out, mut train): (Vec<Group>, Vec<Group>) = groups
            .into_iter()
            .partition(|group| folds.get(&group.prompt_id) == Some(&fold));
        let model = RewardModel::from_language_model(
            &job.base,
            &Device::Cpu,
            config.trainable(),
            config.seed,
        )?;
        let mut fit = Fit::new(model, config);
        for epoch in 0..config.epochs {
            learner.epoch(
                &mut fit,
                &mut train,
                epoch,
                progress,
                &mut |progress, step, _| {
                    let done = fold * step.n_steps + step.number;
                    progress.phase("cross-validating", done, n * step.n_steps);
                    Ok(())
                },
            )?;
        }
        let own = learner.measure(&fit.model, &mut held_out, progress)?;
        let accuracy = bootstrap(&own, config.seed).value;
        progress.metrics(fold as u64 + 1, [("cross_validation/accuracy", accuracy)]);
        counts.extend(own);
        by_length.extend(count_by_length(&train, &held_out));
        train.append(&mut held_out);
        groups = train;
    }
    let found = [
        ("cross_validated_accuracy", bootstrap(&counts, config.seed)),
        (
            "cross_validated_length_only",
            bootstrap(&by_length, config.seed),
        ),
        (
            "cross_validated_over_length",
            difference(&counts, &by_length, config.seed),
        ),
    ];
    progress.log(format!(
        "{n}-fold cross-validation over {} prompts, {} pairs: accuracy {}; length alone {}; \
         difference {}",
        counts.len(),
        found[0].1.n_pairs,
        found[0].1,
        found[1].1,
        found[2].1
    ));
    let mut figures = BTreeMap::new();
    for (name, accuracy) in found {
        figures.insert(name.to_owned(), accuracy.value);
        figures.insert(format!("{name}_low"), accuracy.low);
        figures.insert(format!("{name}_high"), accuracy.high);
    }
    Ok((groups, figures))
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
    progress.metrics(
        step,
        [
            ("held_out/accuracy", now.value),
            ("held_out/accuracy_low", now.low),
            ("held_out/accuracy_high", now.high),
            ("held_out/length_only_accuracy", length.value),
        ],
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_scores_count_one_half_and_ties_do_not_count() {
        assert_eq!(count_right(&[1.0, 0.0, 0.0], &[1, 2, 3]), (2.5, 3));
        assert_eq!(count_right(&[1.0, 0.0], &[1, 1]), (0.0, 0));
    }

    #[test]
    fn the_interval_holds_the_value() {
        let counts: Vec<(f64, usize)> = (0..40).map(|i| (f64::from(i % 7), 6)).collect();
        let accuracy = bootstrap(&counts, 1);
        assert!(
            accuracy.low < accuracy.value && accuracy.value < accuracy.high,
            "{accuracy:?}"
        );
    }
}
