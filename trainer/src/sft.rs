//! Step one: supervised fine-tuning on demonstrations (InstructGPT, section 3.5 and C.1).
//!
//! 1. Read the demonstrations and split them by prompt.
//! 2. Check the model.
//! 3. For each batch: loss on the answer's tokens and its EOS only, backward, step.
//! 4. Measure the held-out loss.
//! 5. Write.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::adapter;
use crate::checkpoint::{self, CheckpointKind, Lineage, sha256, sha256_of_weights};
use crate::config::SftConfig;
use crate::error::{Result, TrainerError};
use crate::model::attention::Pass;
use crate::model::batch::TokenBatch;
use crate::model::lora::{self, Fresh};
use crate::model::token_log_probs;
use crate::model::transformer::{EMBEDDING, Transformer, TransformerConfig};
use crate::optim::{AdamW, Gradients, set_values, values};
use crate::progress::{Event, Progress};
use crate::records::{self, DemonstrationRecord, Placed, Prompt, name_lines};
use crate::rng::stream;
use crate::run_folder::RunFolder;
use crate::savepoint::{self, SavePolicy, Savepoint};
use crate::self_check;
use crate::split;
use crate::text::TextCodec;

/// What a run made.
#[derive(Debug)]
pub struct Outcome {
    /// The checkpoint's folder.
    pub checkpoint: PathBuf,
    /// Final figures.
    pub summary: BTreeMap<String, f64>,
}

/// What to run.
pub struct SftJob {
    /// Settings.
    pub config: SftConfig,
    /// Demonstrations, JSONL.
    pub data: PathBuf,
    /// The model to start from.
    pub base: PathBuf,
    /// The run's folder.
    pub out: PathBuf,
    /// When savepoints are kept, and whether to go on from one.
    pub saving: SavePolicy,
}

/// What of a run is no tensor.
#[derive(Serialize, Deserialize)]
struct State {
    held_out_before: Option<f64>,
}

/// A token row whose tokens from `start` on are to be learnt.
pub struct LearningRow {
    /// The tokens.
    pub tokens: Vec<u32>,
    /// First token that counts.
    pub start: usize,
}

impl LearningRow {
    /// What is given: for a demonstration the prompt, as the model reads it.
    pub fn given(&self) -> &[u32] {
        &self.tokens[..self.start]
    }
}

/// Trains.
///
/// # Errors
/// A sentence about data, model or settings; `Refused` by a check; `Cancelled`.
pub fn run(job: &SftJob, listener: &mut dyn Progress) -> Result<Outcome> {
    job.config.check()?;
    let config = &job.config;

    // 1. Read the demonstrations and split them by prompt.
    let codec = TextCodec::load(&job.base)?;
    let context = TransformerConfig::read(&job.base)?.max_position_embeddings;
    let longest = config.max_tokens.min(context);
    let (rows, remark) = read_demonstrations(&job.data, &codec, longest)?;
    let (share, seed) = (config.held_out_share, config.seed);
    let (mut rows, held_out) = split::hold_out(rows, LearningRow::given, share, seed);

    // 2. Check the model.
    let fresh = config.lora.as_ref().map(|lora| Fresh {
        config: lora,
        seed,
        purpose: "adapter",
    });
    let model = Transformer::load_adapted(&job.base, &Device::Cpu, config.trainable(), fresh)?;
    codec.check_fits(&job.base, model.config.vocab_size)?;
    let identity = savepoint::identity("sft", config, &[&job.data], &[&job.base])?;
    let (mut folder, resumed) = RunFolder::open(&job.out, config, identity, job.saving, listener)?;
    let progress: &mut dyn Progress = &mut folder;
    if let Some(remark) = remark {
        progress.log(remark);
    }
    progress.log(format!(
        "training {}{} of {} layers on {} demonstrations, {} held out",
        adapters_of(&model),
        model.config.num_hidden_layers - model.n_frozen(),
        model.config.num_hidden_layers,
        rows.len(),
        held_out.len()
    ));
    self_check::padding_invariance("model", &model, &rows[0].tokens, codec.pad_id, progress)?;
    let variables = model.weights().variables();
    let mut gradients = Gradients::default();
    lora::while_open(variables, || {
        add_gradient(&model, &rows[..1], codec.pad_id, 1.0, &mut gradients)
    })?;
    self_check::gradient_coverage("model", variables, &gradients, progress)?;

    // 3. Train.
    let steps_per_epoch = rows.len().div_ceil(config.batch_size);
    let total = steps_per_epoch * config.epochs;
    let mut optimiser = AdamW::new(config.optimiser.clone());
    let (first, before) = match &resumed {
        Some(point) => {
            set_values(variables, &point.group("model"))?;
            optimiser.restore(&point.group("optimiser"), variables)?;
            (point.step, point.state_as::<State>()?.held_out_before)
        }
        None => {
            let before = held_out_loss(&model, &held_out, codec.pad_id, progress)?;
            report_held_out(0, before, progress);
            (0, before)
        }
    };
    let savepoint = |step: usize, optimiser: &AdamW| -> Result<Savepoint> {
        let held_out_before = before;
        let mut point = Savepoint::new(step, &State { held_out_before });
        point.put("model", values(variables));
        point.put("optimiser", optimiser.state()?);
        Ok(point)
    };
    let mut step = 0;
    for epoch in 0..config.epochs {
        rows.shuffle(&mut stream(config.seed, "shuffle", epoch as u64));
        for batch in rows.chunks(config.batch_size) {
            if step < first {
                step += 1;
                continue;
            }
            progress.phase("training", step, total);
            let gradients = batch_gradient(&model, batch, codec.pad_id, progress);
            let (gradients, loss) = match gradients {
                // Nothing has moved since the last step.
                Err(TrainerError::Cancelled) => {
                    progress.save(&savepoint(step, &optimiser)?)?;
                    return Err(TrainerError::Cancelled);
                }
                gradients => gradients?,
            };
            let factor = config.schedule.factor(step, total);
            let norm = optimiser.step(variables, &gradients, factor)?;
            step += 1;
            let rate = config.optimiser.learning_rate * factor;
            progress.metrics(
                step as u64,
                [
                    ("train/loss", loss),
                    ("train/grad_norm", norm),
                    ("train/learning_rate", rate),
                ],
            );
            if progress.wants_savepoint() {
                progress.save(&savepoint(step, &optimiser)?)?;
            }
        }
    }

    // 4. Measure the held-out loss.
    let after = held_out_loss(&model, &held_out, codec.pad_id, progress)?;
    report_held_out(step as u64, after, progress);
    progress.phase("writing", total, total);
    (&mut folder as &mut dyn Progress).go_on()?;

    // 5. Write.
    let mut summary = BTreeMap::from([
        ("n_train".to_owned(), rows.len() as f64),
        ("n_held_out".to_owned(), held_out.len() as f64),
    ]);
    summary.extend(before.map(|loss| ("held_out_loss_before".to_owned(), loss)));
    summary.extend(after.map(|loss| ("held_out_loss".to_owned(), loss)));
    let mut lineage = Lineage::new(CheckpointKind::Sft);
    let base = sha256_of_weights(&job.base)?;
    lineage.parents.insert("base".to_owned(), base.clone());
    lineage
        .data
        .insert("demonstrations".to_owned(), sha256(&job.data)?);
    lineage.template = codec.template_hash();
    lineage.config = serde_json::to_value(config).unwrap_or_default();
    lineage.summary = summary.clone();
    lineage.notes = training_notes(&model);
    let place = job.out.join("checkpoint");
    let merged = model.weights().merged()?;
    checkpoint::write_with(&place, &job.base, &merged, None, &lineage, |folder| {
        adapter::write(folder, model.weights(), &model.config, None, &base)
    })?;
    folder.finish()?;
    folder.record(Event::Checkpoint {
        path: place.clone(),
    });
    Ok(Outcome {
        checkpoint: place,
        summary,
    })
}

/// The gradient of the mean loss of a batch's learnt tokens, and that loss.
fn batch_gradient(
    model: &Transformer,
    batch: &[LearningRow],
    pad_id: u32,
    progress: &mut dyn Progress,
) -> Result<(Gradients, f64)> {
    let n_tokens: usize = batch.iter().map(|row| row.tokens.len() - row.start).sum();
    let weight = 1.0 / n_tokens as f64;
    let mut gradients = Gradients::default();
    let mut loss = 0.0;
    for micro in batch.chunks(4) {
        progress.go_on()?;
        loss += add_gradient(model, micro, pad_id, weight, &mut gradients)?;
    }
    Ok((gradients, loss))
}

/// Words before the number of layers that are trained: what of them is, where that is not all.
pub fn adapters_of(model: &Transformer) -> String {
    let adapter = model.weights().adapter();
    adapter.map_or(String::new(), |lora| {
        format!("adapters of rank {} on ", lora.rank)
    })
}

/// What a model card says of the part that was trained.
pub fn training_notes(model: &Transformer) -> Vec<String> {
    let n_layers = model.config.num_hidden_layers;
    if model.weights().adapter().is_some() {
        let n = n_layers - model.n_frozen();
        let adapters = adapters_of(model);
        return vec![
            format!("Only {adapters}the upper {n} of {n_layers} layers were trained (LoRA)."),
            "The weights have them added; alone, for PEFT, they are in adapter/.".to_owned(),
        ];
    }
    match model.n_frozen() {
        0 if model.weights().variables().contains_key(EMBEDDING) => vec![format!(
            "All {n_layers} layers and the embedding were trained."
        )],
        n => vec![format!(
            "Only the upper {} of {n_layers} layers were trained.",
            n_layers - n
        )],
    }
}

/// The demonstrations of a file that are at most `longest` tokens long, and a remark on the others.
///
/// # Errors
/// The first one that cannot be read, by line and field; or that all are too long.
pub(crate) fn read_demonstrations(
    path: &Path,
    codec: &TextCodec,
    longest: usize,
) -> Result<(Vec<LearningRow>, Option<String>)> {
    let records: Vec<Placed<DemonstrationRecord>> = records::read_placed(path)?;
    let (mut rows, mut long) = (Vec::new(), Vec::new());
    for placed in &records {
        let row = learning_row(codec, placed)?;
        match row.tokens.len() <= longest {
            true => rows.push(row),
            false => long.push(placed.line),
        }
    }
    if rows.is_empty() {
        let message = format!("is longer than {longest} tokens, as is every other demonstration");
        return Err(records[0].error("messages", message));
    }
    let remark = (!long.is_empty()).then(|| {
        format!(
            "{} demonstrations are longer than {longest} tokens: {} are left out",
            long.len(),
            name_lines(&long)
        )
    });
    Ok((rows, remark))
}

/// A demonstration as tokens: everything before the last answer is given, the answer and its EOS
/// are learnt.
fn learning_row(codec: &TextCodec, placed: &Placed<DemonstrationRecord>) -> Result<LearningRow> {
    const FIELD: &str = "messages";
    let messages = placed.record.messages.split_last();
    let (answer, given) = messages.ok_or_else(|| placed.error(FIELD, "is empty"))?;
    let prompt = Prompt::Conversation(given.to_vec());
    let mut tokens = placed.at_field(FIELD, codec.encode_prompt(&prompt))?;
    let start = tokens.len();
    tokens.extend(placed.at_field(FIELD, codec.encode_completion(&answer.content))?);
    Ok(LearningRow { tokens, start })
}

/// Positions whose next token is learnt, and those tokens, over a padded batch.
pub fn learning_positions(batch: &TokenBatch, rows: &[LearningRow]) -> (Vec<u32>, Vec<u32>) {
    let (mut positions, mut targets) = (Vec::new(), Vec::new());
    for (index, row) in rows.iter().enumerate() {
        for position in row.start.max(1)..row.tokens.len() {
            positions.push(batch.flat_index(index, position - 1));
            targets.push(row.tokens[position]);
        }
    }
    (positions, targets)
}

/// Adds `weight` times the gradient of the summed negative log-likelihood of the rows' learnt
/// tokens; returns `weight` times that sum.
///
/// # Errors
/// When the device has no memory.
pub fn add_gradient(
    model: &Transformer,
    rows: &[LearningRow],
    pad_id: u32,
    weight: f64,
    gradients: &mut Gradients,
) -> Result<f64> {
    let (hidden, targets) = learnt_hidden(model, rows, pad_id, Pass::Tracked)?;
    let log_probs = token_log_probs::evaluate(&hidden, model.head(), &targets, 1.0)?.log_prob;
    let by_log_prob = (log_probs.ones_like()? * -weight)?;
    let scalar = token_log_probs::surrogate(&hidden, model.head(), &targets, 1.0, &by_log_prob)?;
    gradients.add(&scalar.backward()?, model.weights().variables(), 1.0)?;
    Ok(-weight * f64::from(log_probs.sum_all()?.to_scalar::<f32>()?))
}

fn learnt_hidden(
    model: &Transformer,
    rows: &[LearningRow],
    pad_id: u32,
    pass: Pass,
) -> Result<(Tensor, Tensor)> {
    let tokens: Vec<Vec<u32>> = rows.iter().map(|row| row.tokens.clone()).collect();
    let batch = TokenBatch::new(&tokens, pad_id, &model.device)?;
    let (positions, targets) = learning_positions(&batch, rows);
    let n = positions.len();
    let hidden = model.hidden(&batch, pass)?.flatten(0, 1)?;
    let hidden = hidden.index_select(&Tensor::from_vec(positions, n, &model.device)?, 0)?;
    Ok((hidden, Tensor::from_vec(targets, n, &model.device)?))
}

/// Mean negative log-likelihood of a learnt token, in nats; none where nothing is held out.
fn held_out_loss(
    model: &Transformer,
    rows: &[LearningRow],
    pad_id: u32,
    progress: &mut dyn Progress,
) -> Result<Option<f64>> {
    let (mut sum, mut n) = (0.0, 0);
    for micro in rows.chunks(4) {
        progress.go_on()?;
        let (hidden, targets) = learnt_hidden(model, micro, pad_id, Pass::Frozen)?;
        let log_probs = token_log_probs::evaluate(&hidden, model.head(), &targets, 1.0)?.log_prob;
        n += log_probs.dim(0)?;
        sum -= f64::from(log_probs.sum_all()?.to_scalar::<f32>()?);
    }
    match n {
        0 => Ok(None),
        n => Ok(Some(sum / n as f64)),
    }
}

/// Without held-out demonstrations there is no such loss, and a 0 would look like one.
fn report_held_out(step: u64, loss: Option<f64>, progress: &mut dyn Progress) {
    if let Some(loss) = loss {
        progress.metrics(step, [("held_out/loss", loss)]);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    /// Item 9 of the checklist: the answer and its EOS are learnt, the prompt is not.
    #[test]
    fn only_the_answer_is_learnt_and_padding_never() {
        let row = |tokens: &[u32], start| LearningRow {
            tokens: tokens.to_vec(),
            start,
        };
        let rows = [row(&[5, 6, 7, 1], 2), row(&[5, 1], 1)];
        let tokens: Vec<Vec<u32>> = rows.iter().map(|row| row.tokens.clone()).collect();
        let batch = TokenBatch::new(&tokens, 1, &Device::Cpu).unwrap();
        let (positions, targets) = learning_positions(&batch, &rows);
        assert_eq!(targets, [7, 1, 1]);
        assert_eq!(positions, [1, 2, 4]);
    }

    /// Item 50: micro-batches, weighted by tokens, are one large batch.
    #[test]
    fn gradients_added_up_are_those_of_one_large_batch() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny");
        let everything = crate::model::weights::Trainable::Everything;
        let model = Transformer::load(&folder, &Device::Cpu, everything).unwrap();
        let row = |i: u32| LearningRow {
            tokens: (0..4 + i % 5).map(|t| 3 + (7 * i + 11 * t) % 290).collect(),
            start: 1 + i as usize % 3,
        };
        let rows: Vec<LearningRow> = (0..10).map(row).collect();
        let silent = &mut crate::progress::Silent;
        let (parts, loss) = batch_gradient(&model, &rows, 2, silent).unwrap();
        let n: usize = rows.iter().map(|row| row.tokens.len() - row.start).sum();
        let mut whole = Gradients::default();
        let at_once = add_gradient(&model, &rows, 2, 1.0 / n as f64, &mut whole).unwrap();
        assert!((loss - at_once).abs() < 1e-5);
        let largest = |tensor: &Tensor| -> f32 {
            let largest = tensor.abs().unwrap().max_all().unwrap();
            largest.to_scalar().unwrap()
        };
        for name in model.weights().variables().keys() {
            let (part, all) = (parts.get(name).unwrap(), whole.get(name).unwrap());
            let relative = largest(&(part - all).unwrap()) / largest(all);
            assert!(relative < 1e-5, "{name}: {relative:e}");
        }
    }

    /// Two labelers may answer the same prompt.
    #[test]
    fn no_prompt_is_learnt_and_held_out() {
        let row = |index: u32| LearningRow {
            tokens: vec![5, index % 10, 6, index, 1],
            start: 3,
        };
        let rows: Vec<LearningRow> = (0..30).map(row).collect();
        let (train, held_out) = split::hold_out(rows, LearningRow::given, 0.2, 1);
        assert_eq!((train.len(), held_out.len()), (24, 6));
        let mut pairs = held_out
            .iter()
            .flat_map(|a| train.iter().map(move |b| (a, b)));
        assert!(pairs.all(|(a, b)| a.given() != b.given()));
    }
}
