//! Step two: the K-wise reward model (InstructGPT, section 3.5 and C.2).
//!
//! 1. Read the rankings and split them by prompt.
//! 2. Check the model.
//! 3. For each batch of prompts: one forward pass for each completion, the loss over all pairs of
//!    a prompt as one element, backward, step.
//! 4. Measure held-out accuracy beside what length alone predicts.
//! 5. Shift the scores so that demonstrations (or, without any, training completions) score mean
//!    0, and write.

mod accuracy;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use candle_core::{Device, Tensor};
use rand::seq::SliceRandom;

pub use self::accuracy::{Accuracy, bootstrap, by_prompt, count_right, mean_and_deviation};
use self::accuracy::{count_by_length, difference};
use crate::checkpoint::{self, CheckpointKind, Lineage, sha256};
use crate::config::RewardConfig;
use crate::error::{Result, TrainerError};
use crate::loss::{kwise_loss, strict_pairs, with_gradient};
use crate::model::attention::Pass;
use crate::model::batch::TokenBatch;
use crate::model::heads::RewardModel;
use crate::model::llama::LlamaConfig;
use crate::optim::{AdamW, Gradients};
use crate::progress::{Event, Progress};
use crate::records::{self, DemonstrationRecord, Prompt, RankedPrompt};
use crate::rng::stream;
use crate::run_folder::RunFolder;
use crate::self_check;
use crate::sft::{Outcome, training_notes};
use crate::text::TextCodec;

/// Output of frozen blocks is kept for later passes up to this many bytes.
const LOWER_CACHE_BYTES: usize = 2 << 30;

/// Prompts that pass through the trunk together, each with all its completions: few enough for
/// memory, enough that adding up gradients costs little.
const MICRO_PROMPTS: usize = 4;

/// Training prompts whose completions stand in for missing demonstrations: with K = 5, about the
/// 256 samples that lm-human-preferences takes.
const REFERENCE_PROMPTS: usize = 51;

/// Rows that pass through the trunk side by side.
const MICRO_ROWS: usize = 8;

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
}

/// One ranking as tokens.
struct Group {
    prompt_id: String,
    /// `train` or `validation` where the file says so.
    split: Option<String>,
    ranks: Vec<u32>,
    /// Prompt, completion and EOS.
    rows: Vec<Vec<u32>>,
    /// Length of each completion in tokens.
    lengths: Vec<usize>,
    /// Kept output of the frozen blocks for each row, `[tokens, hidden]`.
    lowers: Vec<Option<Tensor>>,
}

/// Trains.
///
/// # Errors
/// A sentence about data, model or settings; `Refused` by a check; `Cancelled`.
pub fn run(job: &RewardJob, listener: &mut dyn Progress) -> Result<Outcome> {
    job.config.check()?;
    let config = &job.config;

    // 1. Read the rankings and split them by prompt.
    let records: Vec<RankedPrompt> = records::read(&job.data)?;
    let codec = TextCodec::load(&job.base)?;
    let context = LlamaConfig::read(&job.base)?.max_position_embeddings;
    let longest = config.max_tokens.min(context);
    let (groups, remarks) = read_groups(job, &records, &codec, longest)?;
    let mut demonstrations = read_demonstrations(job, &codec, longest)?;
    let (mut train, mut held_out) = split_by_prompt(groups, config);
    if train.is_empty() || held_out.is_empty() {
        return Err(TrainerError::input(
            &job.data,
            1,
            "file",
            "has too few ranked prompts to train and to hold some out",
        ));
    }

    // 2. Check the model.
    let mut model =
        RewardModel::from_language_model(&job.base, &Device::Cpu, config.trainable(), config.seed)?;
    codec.check_fits(&job.base, model.trunk.config.vocab_size)?;
    let mut folder = RunFolder::create(&job.out, config, listener)?;
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
    let mut gradients = Gradients::default();
    let mut room = LOWER_CACHE_BYTES;
    let first = train
        .iter()
        .position(|group| !strict_pairs(&group.ranks).is_empty())
        .unwrap_or(0);
    learn_groups(
        &model,
        &mut train[first..=first],
        codec.pad_id,
        1.0,
        &mut room,
        &mut gradients,
    )?;
    self_check::gradient_coverage(
        "reward model",
        model.trunk.weights().variables(),
        &gradients,
        progress,
    )?;

    // 3. Train.
    let before = measure(&model, &mut held_out, codec.pad_id, &mut room, progress)?;
    let by_length = count_by_length(&train, &held_out);
    let length = bootstrap(&by_length, config.seed);
    let before = bootstrap(&before, config.seed);
    report_accuracy(0, before, length, progress);
    let total = train.len().div_ceil(config.batch_prompts) * config.epochs;
    let mut optimiser = AdamW::new(config.optimiser.clone());
    let mut step = 0;
    let mut counts = Vec::new();
    for epoch in 0..config.epochs {
        train.shuffle(&mut stream(config.seed, "shuffle", epoch as u64));
        for batch in train.chunks_mut(config.batch_prompts) {
            progress.phase("training", step, total);
            let mut gradients = Gradients::default();
            let weight = 1.0 / batch.len() as f64;
            let (mut loss, mut rewards, mut right, mut pairs) = (0.0, Vec::new(), 0.0, 0);
            for micro in batch.chunks_mut(MICRO_PROMPTS) {
                progress.go_on()?;
                let learnt = learn_groups(
                    &model,
                    micro,
                    codec.pad_id,
                    weight,
                    &mut room,
                    &mut gradients,
                )?;
                loss += weight * learnt.loss;
                right += learnt.right;
                pairs += learnt.pairs;
                rewards.extend(learnt.rewards);
            }
            let factor = config.schedule.factor(step, total);
            let norm = optimiser.step(model.trunk.weights().variables(), &gradients, factor)?;
            step += 1;
            let (mean, deviation) = mean_and_deviation(&rewards);
            progress.metrics(
                step as u64,
                [
                    ("train/loss", loss),
                    ("train/accuracy", right / f64::from(pairs.max(1) as u32)),
                    ("train/grad_norm", norm),
                    (
                        "train/learning_rate",
                        config.optimiser.learning_rate * factor,
                    ),
                    ("train/reward_mean", mean),
                    ("train/reward_std", deviation),
                ],
            );
        }
        counts = measure(&model, &mut held_out, codec.pad_id, &mut room, progress)?;
        let now = bootstrap(&counts, config.seed);
        report_accuracy(step as u64, now, length, progress);
    }

    // 4. Compare held-out accuracy with what length alone predicts.
    let after = bootstrap(&counts, config.seed);
    let over_length = difference(&counts, &by_length, config.seed);
    progress.log(format!(
        "held-out accuracy {:.3} [{:.3}, {:.3}] over {} pairs; length alone {:.3} [{:.3}, {:.3}]; \
         difference {:.3} [{:.3}, {:.3}]",
        after.value,
        after.low,
        after.high,
        after.n_pairs,
        length.value,
        length.low,
        length.high,
        over_length.value,
        over_length.low,
        over_length.high,
    ));

    // 5. Shift the scores to mean 0 and write.
    let n_train = train.len();
    progress.phase("writing", total, total);
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
    model.bias = mean_score(&model, reference, codec.pad_id, &mut room)?;
    progress.log(format!("scores are shifted so that {at_zero} score mean 0"));
    (&mut folder as &mut dyn Progress).go_on()?;
    let summary = BTreeMap::from([
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
    let mut lineage = Lineage::new(CheckpointKind::Reward);
    lineage.parents.insert(
        "base".to_owned(),
        sha256(&job.base.join("model.safetensors"))?,
    );
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
    folder.record(Event::Checkpoint {
        path: place.clone(),
    });
    Ok(Outcome {
        checkpoint: place,
        summary,
    })
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

fn read_groups(
    job: &RewardJob,
    records: &[RankedPrompt],
    codec: &TextCodec,
    longest: usize,
) -> Result<(Vec<Group>, Vec<String>)> {
    let (mut groups, mut tied, mut long) = (Vec::new(), 0, 0);
    for record in records {
        let prompt = codec.encode_prompt(&record.prompt)?;
        let ranks: Vec<u32> = record.completions.iter().map(|item| item.rank).collect();
        let (mut rows, mut lengths) = (Vec::new(), Vec::new());
        for item in &record.completions {
            let completion = codec.encode(&item.text)?;
            let mut row = prompt.clone();
            row.extend(&completion);
            row.push(codec.eos_id);
            lengths.push(completion.len());
            rows.push(row);
        }
        if strict_pairs(&ranks).is_empty() {
            tied += 1;
        } else if rows.iter().any(|row| row.len() > longest) {
            long += 1;
        } else {
            groups.push(Group {
                prompt_id: record.id.clone(),
                split: record.split.clone(),
                ranks,
                lowers: vec![None; rows.len()],
                rows,
                lengths,
            });
        }
    }
    let mut remarks = Vec::new();
    if tied > 0 {
        remarks.push(format!(
            "{tied} rankings tie all completions and say nothing about order: left out"
        ));
    }
    if long > 0 {
        remarks.push(format!(
            "{long} rankings hold more than {longest} tokens in a row: left out"
        ));
    }
    if groups.is_empty() {
        return Err(TrainerError::input(
            &job.data,
            1,
            "rank",
            "every ranking is all tied or too long",
        ));
    }
    Ok((groups, remarks))
}

/// Demonstrations as groups of one completion, in the form that the reward model reads.
fn read_demonstrations(job: &RewardJob, codec: &TextCodec, longest: usize) -> Result<Vec<Group>> {
    let Some(path) = &job.demonstrations else {
        return Ok(Vec::new());
    };
    let records: Vec<DemonstrationRecord> = records::read(path)?;
    let mut groups = Vec::new();
    for record in &records {
        let Some((answer, given)) = record.messages.split_last() else {
            continue;
        };
        let mut row = codec.encode_prompt(&Prompt::Conversation(given.to_vec()))?;
        let completion = codec.encode(&answer.content)?;
        row.extend(&completion);
        row.push(codec.eos_id);
        if row.len() <= longest {
            groups.push(Group {
                prompt_id: record.id.clone(),
                split: None,
                ranks: vec![1],
                lengths: vec![completion.len()],
                rows: vec![row],
                lowers: vec![None],
            });
        }
    }
    if groups.is_empty() {
        let message = format!("has no demonstration of at most {longest} tokens");
        return Err(TrainerError::input(path, 1, "messages", message));
    }
    Ok(groups)
}

/// All rankings of a prompt stay on one side: the one the file names, or a drawn one where it
/// names none.
fn split_by_prompt(groups: Vec<Group>, config: &RewardConfig) -> (Vec<Group>, Vec<Group>) {
    let is_held_out = |group: &Group| group.split.as_deref() == Some("validation");
    if groups.iter().any(is_held_out) {
        let named: BTreeSet<String> = groups
            .iter()
            .filter(|group| is_held_out(group))
            .map(|group| group.prompt_id.clone())
            .collect();
        return groups
            .into_iter()
            .partition(|group| !named.contains(&group.prompt_id));
    }
    let ids: BTreeSet<&str> = groups
        .iter()
        .map(|group| group.prompt_id.as_str())
        .collect();
    let mut ids: Vec<String> = ids.into_iter().map(str::to_owned).collect();
    ids.shuffle(&mut stream(config.seed, "split", 0));
    let n = ((ids.len() as f64 * config.held_out_share).round() as usize).max(1);
    let held_out: BTreeSet<String> = ids.into_iter().take(n).collect();
    groups
        .into_iter()
        .partition(|group| !held_out.contains(&group.prompt_id))
}

/// Scores of the completions of several groups, one group after the other, `[rows]`. Rows pass
/// through the trunk with others of similar length, so that little is padded; the output of frozen
/// blocks is kept while there is room, since later passes need it again.
fn scores(
    model: &RewardModel,
    groups: &mut [Group],
    pad_id: u32,
    room: &mut usize,
    pass: Pass,
) -> Result<Tensor> {
    let all = groups.iter().enumerate();
    let mut places: Vec<(usize, usize)> = all
        .flat_map(|(index, group)| (0..group.rows.len()).map(move |row| (index, row)))
        .collect();
    let n = places.len();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by_key(|index| {
        let (group, row) = places[*index];
        groups[group].rows[row].len()
    });
    places = order.iter().map(|index| places[*index]).collect();
    let mut parts = Vec::with_capacity(n.div_ceil(MICRO_ROWS));
    for places in places.chunks(MICRO_ROWS) {
        let rows: Vec<Vec<u32>> = places
            .iter()
            .map(|(group, row)| groups[*group].rows[*row].clone())
            .collect();
        let batch = TokenBatch::new(&rows, pad_id, &model.trunk.device)?;
        let lower = lower_of(model, groups, places, &batch, room)?;
        let hidden = model.trunk.upper(&lower, pass)?;
        parts.push(model.scores(&hidden, &batch)?);
    }
    let mut back = vec![0; n];
    for (place, index) in order.into_iter().enumerate() {
        back[index] = place as u32;
    }
    let back = Tensor::from_vec(back, n, &model.trunk.device)?;
    Ok(Tensor::cat(&parts, 0)?.index_select(&back, 0)?)
}

/// Output of the frozen blocks for the rows at `places`, `[rows, time, hidden]`: the kept one, or a
/// new one that is kept while there is room.
fn lower_of(
    model: &RewardModel,
    groups: &mut [Group],
    places: &[(usize, usize)],
    batch: &TokenBatch,
    room: &mut usize,
) -> Result<Tensor> {
    let kept = places.iter();
    let kept: Option<Vec<&Tensor>> = kept
        .map(|(group, row)| groups[*group].lowers[*row].as_ref())
        .collect();
    if let Some(kept) = kept {
        return batch.stack(&kept);
    }
    let lower = model.trunk.lower(batch)?;
    if model.trunk.n_frozen() > 0 {
        for ((group, row), own) in places.iter().zip(batch.unstack(&lower)?) {
            let bytes = own.elem_count() * size_of::<f32>();
            let slot = &mut groups[*group].lowers[*row];
            if slot.is_none() && bytes <= *room {
                *room -= bytes;
                *slot = Some(own);
            }
        }
    }
    Ok(lower)
}

/// What a forward pass over several groups showed: sums over groups and pairs.
#[derive(Default)]
struct Learnt {
    loss: f64,
    right: f64,
    pairs: usize,
    rewards: Vec<f32>,
}

/// Adds `weight` times the gradient of each group's loss, all in one forward and backward pass.
fn learn_groups(
    model: &RewardModel,
    groups: &mut [Group],
    pad_id: u32,
    weight: f64,
    room: &mut usize,
    gradients: &mut Gradients,
) -> Result<Learnt> {
    let scores = scores(model, groups, pad_id, room, Pass::Tracked)?;
    let rewards: Vec<f32> = scores.to_vec1()?;
    let mut by_reward = Vec::with_capacity(rewards.len());
    let mut learnt = Learnt::default();
    let mut rest = rewards.as_slice();
    for group in groups {
        let (own, others) = rest.split_at(group.rows.len());
        rest = others;
        match kwise_loss(own, &group.ranks) {
            Some((loss, slopes)) => {
                learnt.loss += loss;
                by_reward.extend(slopes);
            }
            None => by_reward.resize(by_reward.len() + own.len(), 0.0),
        }
        let (right, pairs) = count_right(own, &group.ranks);
        learnt.right += right;
        learnt.pairs += pairs;
    }
    let by_reward = Tensor::from_vec(by_reward, rewards.len(), &model.trunk.device)?;
    let scalar = with_gradient(&scores, &by_reward)?;
    let variables = model.trunk.weights().variables();
    gradients.add(&scalar.backward()?, variables, weight)?;
    learnt.rewards = rewards;
    Ok(learnt)
}

/// Pairs in the right order, and pairs, of each prompt.
fn measure(
    model: &RewardModel,
    groups: &mut [Group],
    pad_id: u32,
    room: &mut usize,
    progress: &mut dyn Progress,
) -> Result<Vec<(f64, usize)>> {
    let mut counts = Vec::with_capacity(groups.len());
    let n = groups.len();
    for (index, micro) in groups.chunks_mut(MICRO_PROMPTS).enumerate() {
        progress.go_on()?;
        progress.phase("measuring held-out accuracy", index * MICRO_PROMPTS, n);
        let rewards: Vec<f32> = scores(model, micro, pad_id, room, Pass::Frozen)?.to_vec1()?;
        let mut rest = rewards.as_slice();
        for group in micro {
            let (own, others) = rest.split_at(group.rows.len());
            counts.push(count_right(own, &group.ranks));
            rest = others;
        }
    }
    let ids = groups.iter().map(|group| group.prompt_id.as_str());
    Ok(by_prompt(ids, &counts))
}

/// Mean score of every completion.
fn mean_score(
    model: &RewardModel,
    groups: &mut [Group],
    pad_id: u32,
    room: &mut usize,
) -> Result<f64> {
    let mut all = Vec::new();
    for micro in groups.chunks_mut(MICRO_PROMPTS) {
        all.extend(scores(model, micro, pad_id, room, Pass::Frozen)?.to_vec1::<f32>()?);
    }
    Ok(mean_and_deviation(&all).0)
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

    #[test]
    fn no_prompt_is_on_both_sides() {
        let group = |id: usize| Group {
            prompt_id: format!("p{}", id / 3),
            split: None,
            ranks: vec![1, 2],
            rows: vec![vec![1], vec![2]],
            lengths: vec![1, 1],
            lowers: vec![None, None],
        };
        let config = RewardConfig::preset(crate::config::Preset::Tiny);
        let (train, held_out) = split_by_prompt((0..60).map(group).collect(), &config);
        assert_eq!((train.len(), held_out.len()), (48, 12));
        assert!(
            held_out
                .iter()
                .all(|a| train.iter().all(|b| a.prompt_id != b.prompt_id))
        );
    }
}
