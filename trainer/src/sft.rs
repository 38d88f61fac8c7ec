//! Step one: supervised fine-tuning on demonstrations (InstructGPT, section 3.5 and C.1).
//!
//! 1. Read the demonstrations and split them by prompt (to pretrain: texts, and split them by text);
//!    read the texts that are mixed in.
//! 2. Check the model, and the reward model where one is to judge.
//! 3. For each batch: loss on the answer's tokens and its EOS only, and on the texts that go with
//!    them, backward, step. To pretrain, every token is learnt.
//! 4. After each epoch: measure the held-out loss, and the reward of sampled answers.
//! 5. Write the weights of the epoch that is to be kept.

mod data;
mod epochs;
mod gradient;
mod packing;
mod pretraining;
mod texts;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use self::data::Data;
pub use self::data::estimate;
use self::epochs::{Figures, Judge, kept, reason};
pub(crate) use self::gradient::held_out_loss;
use self::gradient::{Batch, Feeding};
pub use self::gradient::{Feed, LearningRow, add_gradient, add_gradient_of, learning_positions};
pub(crate) use self::texts::read_texts;
use self::texts::{TextPlace, Texts};
use crate::adapter;
use crate::checkpoint::{self, CheckpointKind, Lineage, check_writes, sha256, sha256_of_weights};
use crate::config::sources::{self, Kind};
use crate::config::{Keep, Learn, SftConfig};
use crate::error::{Result, TrainerError};
use crate::memory::PeakWatch;
use crate::model::lora::{self, Fresh};
use crate::model::transformer::{EMBEDDING, Transformer, TransformerConfig};
use crate::optim::{AdamW, Gradients, set_values, values};
use crate::progress::{Event, Progress};
use crate::records::{self, DemonstrationRecord, Placed, Prompt, name_lines};
use crate::rng::stream;
use crate::run_folder::RunFolder;
use crate::savepoint::{self, SavePolicy, Savepoint};
use crate::self_check;
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
    /// Demonstrations, JSONL; texts where everything is learnt.
    pub data: PathBuf,
    /// Plain texts that are mixed in, JSONL; none mixes none in.
    pub texts: Option<PathBuf>,
    /// The model to start from.
    pub base: PathBuf,
    /// A reward model that scores sampled answers to held-out prompts after each epoch.
    pub reward: Option<PathBuf>,
    /// The run's folder.
    pub out: PathBuf,
    /// When savepoints are kept, and whether to go on from one.
    pub saving: SavePolicy,
}

/// What of a run is no tensor.
#[derive(Serialize, Deserialize)]
struct State {
    before: Figures,
    /// Of each epoch that has ended.
    epochs: Vec<Figures>,
    texts: TextPlace,
}

/// What a run works with, and all that moves in it.
struct Learner<'a> {
    config: &'a SftConfig,
    model: Transformer,
    feeding: Feeding,
    held_out: Vec<LearningRow>,
    judge: Option<Judge>,
    texts: Texts,
    optimiser: AdamW,
    /// Steps that are done.
    step: usize,
    state: State,
    /// The weights of the epoch to keep, where that is not the last so far.
    best: BTreeMap<String, Tensor>,
}

/// Trains.
///
/// # Errors
/// A sentence about data, model or settings; `Refused` by a check; `Cancelled`.
pub fn run(job: &SftJob, listener: &mut dyn Progress) -> Result<Outcome> {
    job.config.check()?;
    check_writes(&job.base)?;
    let config = &job.config;
    let watch = PeakWatch::start();

    // 1. Read the demonstrations and split them by prompt; read the pretraining texts.
    let codec = TextCodec::load(&job.base)?;
    let shape = TransformerConfig::read(&job.base)?;
    let Data {
        mut rows,
        held_out,
        texts,
        remark,
    } = Data::read(job, &codec, &shape)?;
    let plan = data::plan(job, &shape, rows.iter().chain(&held_out).chain(&texts))?;

    // 2. Check the model, and the reward model where one is to judge.
    let fresh = config.lora.as_ref().map(|lora| Fresh {
        config: lora,
        seed: config.seed,
        purpose: "adapter",
    });
    let mut model = Transformer::load_adapted(&job.base, &Device::Cpu, config.trainable(), fresh)?;
    model.set_recompute(plan.recomputes);
    codec.check_fits(&job.base, model.config.vocab_size)?;
    let judge = Judge::load(job, &codec, &model, &held_out)?;
    if let Some(folder) = &job.reward {
        self_check::same_language(&codec, folder, listener)?;
    }
    let identity = identity(job)?;
    let (mut folder, resumed) = RunFolder::open(&job.out, config, identity, job.saving, listener)?;
    sources::write(&job.out, Kind::Sft, config)?;
    let progress: &mut dyn Progress = &mut folder;
    if let Some(remark) = remark {
        progress.log(remark);
    }
    progress.log(format!(
        "training {}{} of {} layers on {} {}, {} held out",
        adapters_of(&model),
        model.config.num_hidden_layers - model.n_frozen(),
        model.config.num_hidden_layers,
        rows.len(),
        config.learn.rows(),
        held_out.len()
    ));
    if !texts.is_empty() {
        progress.log(texts_remark(config, texts.len()));
    }
    if let Some(judge) = judge.as_ref().filter(|judge| judge.too_long > 0) {
        progress.log(format!(
            "{} held-out prompts leave no room for an answer: no reward is measured on them",
            judge.too_long
        ));
    }
    plan.report(config.memory_limit_gib, progress);
    self_check::files::origin("base", &job.base, &codec, progress)?;
    self_check::files::round_trip(&job.data, &codec, progress)?;
    if let Some(texts) = &job.texts {
        self_check::data::tell(texts, &codec, progress)?;
    }
    self_check::files::finite_weights("model", model.weights(), progress)?;
    self_check::padding_invariance("model", &model, &rows[0].tokens, codec.pad_id, progress)?;
    if config.pack_tokens.is_some() {
        let few: Vec<&[u32]> = rows.iter().take(3).map(|row| &row.tokens[..]).collect();
        self_check::packing_invariance("model", &model, &few, codec.pad_id, progress)?;
    }
    let variables = model.weights().variables();
    let mut gradients = Gradients::default();
    lora::while_open(variables, || {
        add_gradient(&model, &rows[..1], codec.pad_id, 1.0, &mut gradients)
    })?;
    self_check::gradient_coverage("model", variables, &gradients, progress)?;
    drop(gradients);

    // 3. and 4. Train, and measure after each epoch.
    let mut learner = Learner {
        feeding: Feeding {
            pack_tokens: config.pack_tokens.map(|_| plan.rows),
            micro_rows: plan.rows,
            dropout: config.dropout,
            seed: config.seed,
            pad_id: codec.pad_id,
        },
        texts: Texts::new(texts, config.pretraining_share, config.seed),
        optimiser: AdamW::new(config.optimiser.clone()),
        step: 0,
        state: State {
            before: Figures::default(),
            epochs: Vec::new(),
            texts: TextPlace::default(),
        },
        best: BTreeMap::new(),
        config,
        model,
        held_out,
        judge,
    };
    let n_steps = rows.len().div_ceil(config.batch_size) * config.epochs;
    match &resumed {
        Some(point) => learner.restore(point.within(n_steps)?)?,
        None => learner.state.before = learner.measure(progress)?,
    }
    if let Err(error) = learner.train(&mut rows, progress) {
        if matches!(error, TrainerError::Cancelled) {
            // Nothing has moved since the last step.
            progress.save(&learner.savepoint()?)?;
        }
        return Err(error);
    }

    // 5. Write the weights of the epoch that is to be kept.
    let (n_train, n_held_out) = (rows.len(), learner.held_out.len());
    let mut summary = learner.keep_epoch(progress)?;
    summary.insert("n_train".to_owned(), n_train as f64);
    summary.insert("n_held_out".to_owned(), n_held_out as f64);
    let base = sha256_of_weights(&job.base)?;
    let lineage = learner.lineage(job, &codec, &summary, &base)?;
    let place = job.out.join("checkpoint");
    let (weights, shape) = (learner.model.weights(), &learner.model.config);
    let merged = weights.merged()?;
    checkpoint::write_with(&place, &job.base, &merged, None, &lineage, |folder| {
        adapter::write(folder, weights, shape, None, &base)
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

fn identity(job: &SftJob) -> Result<String> {
    let files: Vec<&Path> = [&job.data]
        .into_iter()
        .chain(&job.texts)
        .map(|p| &**p)
        .collect();
    let models: Vec<&Path> = [&job.base]
        .into_iter()
        .chain(&job.reward)
        .map(|p| &**p)
        .collect();
    savepoint::identity("sft", &job.config, &files, &models)
}

fn texts_remark(config: &SftConfig, n: usize) -> String {
    match config.pretraining_share > 0.0 {
        true => format!(
            "{:.0} % of the learnt tokens are from {n} rows of pretraining texts",
            100.0 * config.pretraining_share
        ),
        false => "pretraining_share is 0: the texts are not used".to_owned(),
    }
}

impl Learner<'_> {
    fn train(&mut self, rows: &mut [LearningRow], progress: &mut dyn Progress) -> Result<()> {
        let config = self.config;
        let total = rows.len().div_ceil(config.batch_size) * config.epochs;
        // Steps before a savepoint are gone through without a computation.
        let mut reached = 0;
        for epoch in 0..config.epochs {
            rows.shuffle(&mut stream(config.seed, "shuffle", epoch as u64));
            for batch in rows.chunks(config.batch_size) {
                if reached < self.step {
                    reached += 1;
                    continue;
                }
                progress.phase("training", self.step, total);
                let n_learnt = batch.iter().map(LearningRow::n_learnt).sum();
                let (drawn, place) = self.texts.draw(self.state.texts, n_learnt);
                let batch = Batch {
                    demonstrations: batch.iter().collect(),
                    texts: drawn
                        .iter()
                        .map(|index| &self.texts.rows()[*index])
                        .collect(),
                };
                let made = self
                    .feeding
                    .gradient(&self.model, &batch, self.step, progress)?;
                let (gradients, losses) = made;
                let factor = config.schedule.factor(self.step, total);
                let variables = self.model.weights().variables();
                let norm = self.optimiser.step(variables, &gradients, factor)?;
                self.state.texts = place;
                self.step += 1;
                reached += 1;
                let step = self.step as u64;
                let rate = config.optimiser.learning_rate * factor;
                progress.metrics(
                    step,
                    [
                        ("train/loss", losses.demonstrations),
                        ("train/grad_norm", norm),
                        ("train/learning_rate", rate),
                    ],
                );
                if let Some(loss) = losses.texts {
                    progress.metrics(step, [("ptx/loss", loss)]);
                }
                if progress.wants_savepoint() {
                    progress.save(&self.savepoint()?)?;
                }
            }
            if self.state.epochs.len() == epoch {
                let figures = self.measure(progress)?;
                self.end_epoch(figures)?;
            }
        }
        progress.phase("writing", total, total);
        progress.go_on()
    }

    /// Measures the weights as they are now, and reports it.
    fn measure(&self, progress: &mut dyn Progress) -> Result<Figures> {
        let loss = self
            .feeding
            .mean_loss(&self.model, &self.held_out, progress)?;
        let reward = match &self.judge {
            Some(judge) => Some(judge.mean_reward(&self.model, progress)?),
            None => None,
        };
        let figures = Figures { loss, reward };
        figures.report(self.step, progress);
        Ok(figures)
    }

    /// Puts the weights aside where they are the best so far.
    fn end_epoch(&mut self, figures: Figures) -> Result<()> {
        self.state.epochs.push(figures);
        let newest = self.state.epochs.len() - 1;
        let is_best = kept(self.config.keep, &self.state.epochs) == Some(newest);
        if self.config.keep != Keep::Last && is_best {
            // With memory of their own: a variable's changes in place.
            let variables = self.model.weights().variables();
            self.best = values(variables)
                .into_iter()
                .map(|(name, value)| Ok((name, value.copy()?)))
                .collect::<Result<_>>()?;
        }
        Ok(())
    }

    fn savepoint(&self) -> Result<Savepoint> {
        let mut point = Savepoint::new(self.step, &self.state);
        point.put("model", values(self.model.weights().variables()));
        point.put("optimiser", self.optimiser.state()?);
        point.put("best", self.best.clone());
        Ok(point)
    }

    fn restore(&mut self, point: &Savepoint) -> Result<()> {
        let variables = self.model.weights().variables();
        set_values(variables, &point.group("model"))?;
        self.optimiser
            .restore(&point.group("optimiser"), variables)?;
        self.best = point.group("best");
        self.state = point.state_as()?;
        self.step = point.step;
        Ok(())
    }

    /// Makes the weights those of the epoch to keep; returns the final figures, which are theirs.
    fn keep_epoch(&mut self, progress: &mut dyn Progress) -> Result<BTreeMap<String, f64>> {
        let State { before, epochs, .. } = &self.state;
        let mut summary = BTreeMap::new();
        if let Some(index) = kept(self.config.keep, epochs) {
            if !self.best.is_empty() {
                set_values(self.model.weights().variables(), &self.best)?;
            }
            progress.log(reason(self.config.keep, epochs, index));
            summary.insert("kept_epoch".to_owned(), (index + 1) as f64);
            for (name, value) in [
                ("held_out_loss_before", before.loss),
                ("held_out_loss", epochs[index].loss),
                ("held_out_reward_before", before.reward),
                ("held_out_reward", epochs[index].reward),
            ] {
                summary.extend(value.map(|value| (name.to_owned(), value)));
            }
        }
        if self.state.texts.rows > 0 {
            let learnt = self.state.texts.tokens as f64;
            let all = learnt + self.state.texts.beside as f64;
            summary.insert("pretraining_share".to_owned(), learnt / all);
        }
        Ok(summary)
    }

    fn lineage(
        &self,
        job: &SftJob,
        codec: &TextCodec,
        summary: &BTreeMap<String, f64>,
        base: &str,
    ) -> Result<Lineage> {
        let (kind, data) = match self.config.learn {
            Learn::Answers => (CheckpointKind::Sft, "demonstrations"),
            Learn::Everything => (CheckpointKind::Base, "texts"),
        };
        let mut lineage = Lineage::new(kind);
        lineage.parents.insert("base".to_owned(), base.to_owned());
        if let Some(folder) = &job.reward {
            let hash = sha256_of_weights(folder)?;
            lineage.parents.insert("reward".to_owned(), hash);
        }
        for (role, file) in [(data, Some(&job.data)), ("texts", job.texts.as_ref())] {
            if let Some(file) = file {
                lineage.data.insert(role.to_owned(), sha256(file)?);
            }
        }
        lineage.template = codec.template_hash();
        lineage.config = serde_json::to_value(self.config).unwrap_or_default();
        lineage.summary = summary.clone();
        lineage.notes = training_notes(&self.model);
        let epochs = &self.state.epochs;
        let kept = kept(self.config.keep, epochs);
        let kept = kept.map(|index| reason(self.config.keep, epochs, index));
        lineage.notes.extend(kept);
        Ok(lineage)
    }
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

/// A demonstration as tokens, and what it was made of.
pub(crate) struct Demonstration {
    pub(crate) row: LearningRow,
    writing: Option<String>,
}

/// The demonstrations of a file that are at most `longest` tokens long, and a remark on the others.
///
/// # Errors
/// The first one that cannot be read, by line and field; or that all are too long.
pub(crate) fn read_demonstrations(
    path: &Path,
    codec: &TextCodec,
    longest: usize,
) -> Result<(Vec<Demonstration>, Option<String>)> {
    let records: Vec<Placed<DemonstrationRecord>> = records::read_placed(path)?;
    let (mut rows, mut long) = (Vec::new(), Vec::new());
    for placed in &records {
        let row = learning_row(codec, placed)?;
        match row.tokens.len() <= longest {
            true => rows.push(Demonstration {
                row,
                writing: placed.record.writing.clone(),
            }),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::split;

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
