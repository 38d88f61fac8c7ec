//! Before and after the loop: reading data and models, the checks between the models, and writing
//! the checkpoint.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;

use candle_core::Device;
use rand::seq::SliceRandom;

use super::{Models, PpoJob};
use crate::adapter;
use crate::checkpoint::{self, CheckpointKind, Lineage, sha256, sha256_of_weights};
use crate::error::{Result, TrainerError};
use crate::model::ensemble::{EnsembleScore, Members};
use crate::model::heads::{RewardModel, read_bias};
use crate::model::lora::Fresh;
use crate::model::transformer::{EMBEDDING, Transformer};
use crate::model::weights::{Trainable, Weights, address, bytes_of};
use crate::progress::Progress;
use crate::records::{self, Placed, Prompt, PromptRecord, TextRecord};
use crate::rng::stream;
use crate::sft::{LearningRow, adapters_of, training_notes};
use crate::text::TextCodec;

pub(super) fn load_models(job: &PpoJob, codec: &TextCodec) -> Result<Models> {
    let config = &job.config;
    let trainable = config.trainable();
    let fresh = |purpose| {
        config.lora.as_ref().map(|lora| Fresh {
            config: lora,
            seed: config.seed,
            purpose,
        })
    };
    let adapter = fresh("policy adapter");
    let policy = Transformer::load_adapted(&job.base, &Device::Cpu, trainable, adapter)?;
    codec.check_fits(&job.base, policy.config.vocab_size)?;
    let reference = match adapter {
        Some(_) => policy.without_adapter()?,
        None => policy.frozen_copy()?,
    };
    let (reward, value) = match fresh("value adapter") {
        Some(fresh) => load_judges(job, &reference, fresh)?,
        None => {
            let value = RewardModel::load(&job.reward, &Device::Cpu, trainable)?;
            (RewardModel::load_members(&job.reward, &Device::Cpu)?, value)
        }
    };
    codec.check_fits(&job.reward, reward.trunk.config.vocab_size)?;
    if config.ensemble != EnsembleScore::Mean && reward.n_members() == 1 {
        return Err(TrainerError::Config {
            field: "ensemble".into(),
            message: "asks for an ensemble, and the reward model is a single one".to_owned(),
        });
    }
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

/// Reward and value model beside a policy that learns by an adapter. Where the reward model was
/// trained by one on the same base, as the hash says, both are that base with the reward model's
/// adapter and head; the value model learns by its own copies. Otherwise the reward model's weights
/// are in memory once, and the value model learns by a fresh adapter on them.
fn load_judges(
    job: &PpoJob,
    base: &Transformer,
    fresh: Fresh,
) -> Result<(RewardModel, RewardModel)> {
    let trainable = job.config.trainable();
    let own = adapter::read_for(&job.reward, &sha256_of_weights(&job.base)?, &base.config)?;
    let Some(own) = own else {
        let reward = RewardModel::load_members(&job.reward, &Device::Cpu)?;
        let value = reward.with_fresh_adapter(trainable, fresh)?;
        return Ok((reward, value));
    };
    let bias = read_bias(&job.reward)?;
    let reward = RewardModel::on_base(base, &own, bias, Trainable::Nothing)?;
    let value = RewardModel::on_base(base, &own, bias, trainable)?;
    let members = Members::read(&job.reward, base.config.hidden_size, &base.device)?;
    let reward = match members {
        Some(members) => reward.with_members(members)?,
        None => reward,
    };
    Ok((reward, value))
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
        "training {}the upper {} of {n_layers} layers of policy and value model",
        adapters_of(&models.policy),
        n_layers - n
    ));
    let megabytes = models.bytes() as f64 / 1e6;
    progress.log(match models.bases() {
        1 => format!("the weights of all four models take {megabytes:.1} MB over one base"),
        n => format!("the weights of all four models take {megabytes:.1} MB over {n} bases"),
    });
    if models.shared {
        progress.log(format!(
            "the lower {n} layers are the same in all four models and run once"
        ));
    }
    Ok(())
}

impl Models {
    fn weights(&self) -> [&Weights; 4] {
        [
            self.policy.weights(),
            self.reference.weights(),
            self.reward.trunk.weights(),
            self.value.trunk.weights(),
        ]
    }

    /// Bytes of the weights of all four, what they share counted once.
    pub(super) fn bytes(&self) -> usize {
        bytes_of(&self.weights())
    }

    /// How many embeddings are in memory: with each comes the rest of a base.
    pub(super) fn bases(&self) -> usize {
        let embeddings = self
            .weights()
            .map(|weights| weights.tensors().get(EMBEDDING));
        let places = embeddings.into_iter().flatten().map(address);
        places.collect::<BTreeSet<_>>().len()
    }
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
    let base = sha256_of_weights(&job.base)?;
    lineage.parents.insert("base".to_owned(), base.clone());
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
    let (weights, shape) = (models.policy.weights(), &models.policy.config);
    let merged = weights.merged()?;
    checkpoint::write_with(&place, &job.base, &merged, None, &lineage, |folder| {
        adapter::write(folder, weights, shape, None, &base)
    })?;
    Ok(place)
}
