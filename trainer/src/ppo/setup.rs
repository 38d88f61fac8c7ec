//! Before and after the loop: reading data and models, the checks between the models, and writing
//! the checkpoint.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use candle_core::Device;
use rand::seq::SliceRandom;

use super::{Models, PpoJob};
use crate::checkpoint::{self, CheckpointKind, Lineage, sha256, sha256_of_weights};
use crate::error::{Result, TrainerError};
use crate::model::heads::RewardModel;
use crate::model::transformer::Transformer;
use crate::model::weights::Trainable;
use crate::progress::Progress;
use crate::records::{self, Placed, Prompt, PromptRecord, TextRecord};
use crate::rng::stream;
use crate::sft::{LearningRow, training_notes};
use crate::text::TextCodec;

pub(super) fn load_models(job: &PpoJob, codec: &TextCodec) -> Result<Models> {
    let trainable = job.config.trainable();
    let policy = Transformer::load(&job.base, &Device::Cpu, trainable)?;
    codec.check_fits(&job.base, policy.config.vocab_size)?;
    let reference = policy.frozen_copy()?;
    let reward = RewardModel::load(&job.reward, &Device::Cpu, Trainable::Nothing)?;
    codec.check_fits(&job.reward, reward.trunk.config.vocab_size)?;
    let value = RewardModel::load(&job.reward, &Device::Cpu, trainable)?;
    let n = policy.n_frozen();
    let shared = n > 0 && value.trunk.n_frozen() == n && policy.shares_lower(&reward.trunk, n)?;
    Ok(Models {
        policy,
        reference,
        reward,
        value,
        shared,
    })
}

/// What must hold between the models, and what the operator should know of them.
pub(super) fn check_models(
    job: &PpoJob,
    codec: &TextCodec,
    models: &Models,
    progress: &mut dyn Progress,
) -> Result<()> {
    let theirs = TextCodec::load(&job.reward)?;
    progress.check(
        "vocabulary",
        codec.vocab_hash() == theirs.vocab_hash(),
        "policy and reward model must have the same tokenizer.json",
    )?;
    progress.check(
        "chat template",
        codec.template_hash() == theirs.template_hash(),
        "policy and reward model must have the same chat template",
    )?;
    progress.check(
        "end of text",
        codec.eos_id == theirs.eos_id,
        "policy and reward model must end a completion with the same token",
    )?;
    let (n, n_layers) = (
        models.policy.n_frozen(),
        models.policy.config.num_hidden_layers,
    );
    progress.log(format!(
        "training the upper {} of {n_layers} layers of policy and value model",
        n_layers - n
    ));
    if models.shared {
        progress.log(format!(
            "the lower {n} layers are the same in all four models and run once"
        ));
    }
    Ok(())
}

/// SHA-256 of the reference's and the reward model's weights.
pub(super) fn frozen_hashes(models: &Models) -> Result<[String; 2]> {
    Ok([
        models.reference.weights().hash()?,
        models.reward.trunk.weights().hash()?,
    ])
}

/// The different prompts in an order drawn by the seed.
pub(super) struct Prompts {
    /// As the model reads them.
    pub(super) tokens: Vec<Vec<u32>>,
    /// As people wrote them, in the same order.
    pub(super) written: Vec<Prompt>,
    /// Lines of those that were too long and are left out.
    pub(super) too_long: Vec<usize>,
}

/// Reads each different prompt once.
pub(super) fn read_prompts(job: &PpoJob, codec: &TextCodec, models: &Models) -> Result<Prompts> {
    let records: Vec<Placed<PromptRecord>> = records::read_placed(&job.prompts)?;
    let context = |model: &Transformer| model.config.max_position_embeddings;
    let context = context(&models.policy).min(context(&models.reward.trunk));
    // The completion follows, and EOS where it has none of its own.
    let room = context.saturating_sub(job.config.max_new_tokens + 1);
    let longest = job.config.max_prompt_tokens.min(room);
    let mut prompts = Vec::new();
    let mut known = HashSet::new();
    let mut too_long = Vec::new();
    for placed in records {
        let prompt = &placed.record.prompt;
        let tokens = placed.at_field("prompt", codec.encode_prompt(prompt))?;
        if tokens.len() > longest {
            too_long.push(placed.line);
        } else if known.insert(tokens.clone()) {
            prompts.push((tokens, placed.record.prompt));
        }
    }
    if prompts.is_empty() {
        let message = format!("is longer than {longest} tokens, as is every other prompt");
        let line = too_long[0];
        return Err(TrainerError::input(&job.prompts, line, "prompt", message));
    }
    prompts.shuffle(&mut stream(job.config.seed, "prompts of the run", 0));
    let (tokens, written) = prompts.into_iter().unzip();
    Ok(Prompts {
        tokens,
        written,
        too_long,
    })
}

/// Texts cut to rows of the configured length.
pub(super) fn read_texts(job: &PpoJob, codec: &TextCodec) -> Result<Vec<LearningRow>> {
    let Some(path) = job
        .texts
        .as_ref()
        .filter(|_| job.config.ptx_coefficient > 0.0)
    else {
        return Ok(Vec::new());
    };
    let records: Vec<Placed<TextRecord>> = records::read_placed(path)?;
    let mut rows = Vec::new();
    for placed in &records {
        let tokens = placed.at_field("text", codec.encode(&placed.record.text))?;
        for chunk in tokens
            .chunks(job.config.ptx_tokens)
            .filter(|chunk| chunk.len() > 1)
        {
            rows.push(LearningRow {
                tokens: chunk.to_vec(),
                start: 1,
            });
        }
    }
    // Without a row the pretraining term would be off, though texts were given.
    if rows.is_empty() {
        let message = "has fewer than 2 tokens, as has every other text";
        return Err(records[0].error("text", message));
    }
    rows.shuffle(&mut stream(job.config.seed, "texts", 0));
    Ok(rows)
}

pub(super) fn write(
    job: &PpoJob,
    codec: &TextCodec,
    models: &Models,
    summary: &BTreeMap<String, f64>,
) -> Result<PathBuf> {
    let mut lineage = Lineage::new(CheckpointKind::Policy);
    lineage
        .parents
        .insert("base".to_owned(), sha256_of_weights(&job.base)?);
    lineage
        .parents
        .insert("reward".to_owned(), sha256_of_weights(&job.reward)?);
    lineage
        .data
        .insert("prompts".to_owned(), sha256(&job.prompts)?);
    if let Some(texts) = &job.texts {
        lineage.data.insert("texts".to_owned(), sha256(texts)?);
    }
    lineage.template = codec.template_hash();
    lineage.config = serde_json::to_value(&job.config).unwrap_or_default();
    lineage.summary = summary.clone();
    lineage.notes = training_notes(&models.policy);
    let place = job.out.join("checkpoint");
    checkpoint::write(
        &place,
        &job.base,
        models.policy.weights().tensors(),
        None,
        &lineage,
    )?;
    Ok(place)
}
