//! Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290): a policy learns from
//! the rankings that a reward model learns from, without one and without sampling. It is not in
//! InstructGPT; it is the baseline that a PPO run has to beat.
//!
//! 1. Read the rankings and split them by prompt.
//! 2. Check the model.
//! 3. Ask the reference, which is the model as it came, for the log-probability of each completion,
//!    once; then check that the policy agrees.
//! 4. Train: for each batch of prompts one pass of the policy for each completion, the loss over
//!    all pairs of a prompt as one element, backward, step; measure held-out accuracy.
//! 5. Compare it with what length alone predicts.
//! 6. Write.

mod data;
mod learner;
mod measure;
#[cfg(test)]
mod parity;

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::Device;

use self::data::Data;
pub use self::data::estimate;
use self::learner::{Fit, Learner, Ranking, Step, next_micro};
use self::measure::HeldOut;
use crate::checkpoint::{self, CheckpointKind, Lineage, sha256, sha256_of_weights};
use crate::config::DpoConfig;
use crate::config::sources::{self, Kind};
use crate::error::{Result, TrainerError};
use crate::memory::PeakWatch;
use crate::model::transformer::{Transformer, TransformerConfig};
use crate::optim::Gradients;
use crate::progress::{Event, Progress};
use crate::reward::accuracy::{count_by_length, difference};
use crate::reward::groups::Group;
use crate::reward::{Accuracy, bootstrap_units, telling};
use crate::run_folder::RunFolder;
use crate::savepoint::{self, SavePolicy};
use crate::self_check;
use crate::sft::{Outcome, training_notes};
use crate::text::TextCodec;

/// What to run.
pub struct DpoJob {
    /// Settings.
    pub config: DpoConfig,
    /// Rankings, JSONL.
    pub data: PathBuf,
    /// The policy to start from, which is also the reference.
    pub base: PathBuf,
    /// The run's folder.
    pub out: PathBuf,
    /// When savepoints are kept, and whether to go on from one.
    pub saving: SavePolicy,
}

/// Trains.
///
/// # Errors
/// A sentence about data, model or settings; `Refused` by a check; `Cancelled`.
pub fn run(job: &DpoJob, listener: &mut dyn Progress) -> Result<Outcome> {
    job.config.check()?;
    let config = &job.config;
    let watch = PeakWatch::start();

    // 1. Read the rankings and split them by prompt.
    let codec = TextCodec::load(&job.base)?;
    let shape = TransformerConfig::read(&job.base)?;
    let data = Data::read(job, &codec, &shape)?;
    let plan = data.plan(config, &shape)?;
    let Data {
        train,
        held_out,
        remarks,
    } = data;
    let by_length = count_by_length(&train, &held_out);
    let length = bootstrap_units(&by_length, config.seed);
    // Of completions that are all the same nothing can be learnt.
    let telling = telling(&train).ok_or_else(|| {
        let message = "holds no ranking to train on whose completions differ".to_owned();
        TrainerError::input(&job.data, 1, "completions", message)
    })?;
    let ranking = |group: Group| Ranking {
        group,
        reference: Vec::new(),
    };
    let mut train: Vec<Ranking> = train.into_iter().map(ranking).collect();
    let mut held_out: Vec<Ranking> = held_out.into_iter().map(ranking).collect();

    // 2. Check the model.
    let mut policy = Transformer::load(&job.base, &Device::Cpu, config.trainable())?;
    policy.set_recompute(plan.recomputes);
    codec.check_fits(&job.base, policy.config.vocab_size)?;
    let identity = savepoint::identity("dpo", config, &[&job.data], &[&job.base])?;
    let (mut folder, resumed) = RunFolder::open(&job.out, config, identity, job.saving, listener)?;
    sources::write(&job.out, Kind::Dpo, config)?;
    let progress: &mut dyn Progress = &mut folder;
    for remark in remarks {
        progress.log(remark);
    }
    let n_layers = policy.config.num_hidden_layers;
    progress.log(format!(
        "training the upper {} of {n_layers} layers on {} rankings, {} held out",
        n_layers - policy.n_frozen(),
        train.len(),
        held_out.len()
    ));
    plan.report(config.memory_limit_gib, progress);
    self_check::files::origin("base", &job.base, &codec, progress)?;
    self_check::files::round_trip(&job.data, &codec, progress)?;
    self_check::files::finite_weights("policy", policy.weights(), progress)?;
    let row = &train[0].group.rows[0];
    self_check::padding_invariance("policy", &policy, row, codec.pad_id, progress)?;
    let two = &train[0].group.rows;
    self_check::sharing_invariance("policy", &policy, &two[..two.len().min(2)], progress)?;

    // 3. Ask the reference.
    let mut learner = Learner::new(config, plan.rows);
    match &resumed {
        Some(point) if policy.n_frozen() == 0 => {
            let kept = point.group("reference");
            Ranking::restore_references(&mut train, kept.get("train"))?;
            Ranking::restore_references(&mut held_out, kept.get("held_out"))?;
        }
        // Frozen blocks are asked again in the same order as the first time, since what they say is
        // kept.
        _ => {
            learner.refer(&policy, &mut train, progress)?;
            learner.refer(&policy, &mut held_out, progress)?;
        }
    }
    let reference = BTreeMap::from([
        ("train".to_owned(), Ranking::references(&train)?),
        ("held_out".to_owned(), Ranking::references(&held_out)?),
    ]);
    let first = next_micro(&mut train[telling..], plan.rows);
    check_first_batch(&mut learner, &policy, first, progress)?;

    // 4. Train.
    let mut fit = Fit::new(policy, config, reference);
    let before = HeldOut::before(&held_out, config);
    let n_steps_an_epoch = train.len().div_ceil(config.batch_prompts);
    let n_steps = config.epochs * n_steps_an_epoch;
    match &resumed {
        Some(point) => fit.restore(point.within(n_steps)?)?,
        None => report_held_out(0, &before, length, progress),
    }
    let n_before = fit.n_done;
    let mut after = None;
    for epoch in 0..config.epochs {
        let n_steps = (epoch + 1) * n_steps_an_epoch;
        let result = learner
            .epoch(&mut fit, &mut train, epoch, progress, &mut report_step)
            .and_then(|()| match n_steps < n_before {
                // Measured before the run was stopped.
                true => Ok(()),
                false => {
                    let measures = learner.measure(&fit.policy, &mut held_out, progress)?;
                    let now = HeldOut::new(&held_out, &measures, config.seed);
                    // Told, where the run was stopped right after.
                    if epoch >= fit.n_measured {
                        report_held_out(n_steps as u64, &now, length, progress);
                        fit.n_measured = epoch + 1;
                    }
                    after = Some(now);
                    Ok(())
                }
            });
        if let Err(TrainerError::Cancelled) = &result {
            // Nothing has moved since the last step.
            progress.save(&fit.savepoint()?)?;
        }
        result?;
    }
    let after = after.as_ref().unwrap_or(&before);

    // 5. Compare held-out accuracy with what length alone predicts.
    let over_length = difference(&after.counts, &by_length, config.seed);
    progress.log(format!(
        "held-out accuracy of the implicit reward {} over {} pairs; length alone {length}; \
         difference {over_length}",
        after.accuracy, after.accuracy.n_pairs
    ));

    // 6. Write.
    progress.phase("writing", n_steps, n_steps);
    if let Err(error) = progress.go_on() {
        if matches!(error, TrainerError::Cancelled) {
            progress.save(&fit.savepoint()?)?;
        }
        return Err(error);
    }
    let mut summary = summarise(&before, after);
    for (name, figure) in [
        ("held_out_accuracy", after.accuracy),
        ("held_out_margin", after.margin),
        ("length_only_accuracy", length),
        ("accuracy_over_length", over_length),
    ] {
        summary.extend(figure.figures(name));
    }
    summary.insert("n_train".to_owned(), train.len() as f64);
    summary.insert("n_held_out".to_owned(), held_out.len() as f64);
    let place = write(job, &codec, &fit.policy, &summary)?;
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

/// What must hold before the first step, seen on the first rankings.
fn check_first_batch(
    learner: &mut Learner,
    policy: &Transformer,
    rankings: &mut [Ranking],
    progress: &mut dyn Progress,
) -> Result<()> {
    let largest = learner.largest_log_ratio(policy, rankings)?;
    progress.check(
        "log-ratio is 0 before the first step",
        largest < 1e-3,
        format!("largest mean log-ratio of a completion's tokens to the reference {largest:.2e}"),
    )?;
    let mut gradients = Gradients::default();
    learner.learn(policy, rankings, 1.0, &mut gradients)?;
    let variables = policy.weights().variables();
    self_check::gradient_coverage("policy", variables, &gradients, progress)
}

fn report_step(progress: &mut dyn Progress, step: &Step, fit: &Fit) -> Result<()> {
    progress.phase("training", step.number, step.n_steps);
    let measure = &step.measure;
    progress.metrics(
        step.number as u64,
        [
            ("train/loss", measure.loss()),
            ("train/accuracy", measure.accuracy()),
            ("train/margin", measure.margin()),
            ("train/log_prob_chosen", measure.chosen()),
            ("train/log_prob_rejected", measure.rejected()),
            ("train/grad_norm", step.norm),
            ("train/learning_rate", step.learning_rate),
        ],
    );
    match progress.wants_savepoint() {
        true => progress.save(&fit.savepoint()?),
        false => Ok(()),
    }
}

fn report_held_out(step: u64, now: &HeldOut, length: Accuracy, progress: &mut dyn Progress) {
    let figures = [
        ("held_out/loss", now.all.loss()),
        ("held_out/length_only_accuracy", length.value),
        ("held_out/log_prob_chosen", now.all.chosen()),
        ("held_out/log_prob_rejected", now.all.rejected()),
    ];
    let figures = figures.map(|(name, value)| (name.to_owned(), value));
    let mut values: BTreeMap<String, f64> = figures.into();
    values.extend(now.accuracy.figures("held_out/accuracy"));
    values.extend(now.margin.figures("held_out/margin"));
    progress.record(Event::Metrics { step, values });
}

/// Both log-probabilities are told from before and after: that of the better completions falls too
/// where the policy only learns to tell them apart.
fn summarise(before: &HeldOut, after: &HeldOut) -> BTreeMap<String, f64> {
    let figures = [
        ("held_out_loss_before", before.all.loss()),
        ("held_out_loss", after.all.loss()),
        ("log_prob_chosen_before", before.all.chosen()),
        ("log_prob_chosen", after.all.chosen()),
        ("log_prob_rejected_before", before.all.rejected()),
        ("log_prob_rejected", after.all.rejected()),
        ("n_held_out_pairs", after.accuracy.n_pairs as f64),
    ];
    figures.map(|(name, value)| (name.to_owned(), value)).into()
}

fn write(
    job: &DpoJob,
    codec: &TextCodec,
    policy: &Transformer,
    summary: &BTreeMap<String, f64>,
) -> Result<PathBuf> {
    let mut lineage = Lineage::new(CheckpointKind::Policy);
    let base = sha256_of_weights(&job.base)?;
    lineage.parents.insert("base".to_owned(), base);
    let rankings = sha256(&job.data)?;
    lineage.data.insert("rankings".to_owned(), rankings);
    lineage.template = codec.template_hash();
    lineage.config = serde_json::to_value(&job.config).unwrap_or_default();
    lineage.summary = summary.clone();
    lineage.notes = training_notes(policy);
    lineage.notes.push(
        "Trained by direct preference optimisation, with the model it was made from as reference."
            .to_owned(),
    );
    let place = job.out.join("checkpoint");
    let tensors = policy.weights().tensors();
    checkpoint::write(&place, &job.base, tensors, None, &lineage)?;
    Ok(place)
}
