//! The four networks: how they come from two folders, and what they share.

use std::collections::BTreeSet;

use candle_core::Device;

use super::{Models, PpoJob};
use crate::adapter;
use crate::checkpoint::sha256_of_weights;
use crate::error::{Result, TrainerError};
use crate::model::architecture::SCORE;
use crate::model::ensemble::{EnsembleScore, Members};
use crate::model::heads::{RewardModel, read_bias};
use crate::model::lora::Fresh;
use crate::model::transformer::{EMBEDDING, Transformer, TransformerConfig};
use crate::model::weights::{Trainable, Weights, address, bytes_of};
use crate::text::TextCodec;

pub(super) fn load_models(job: &PpoJob, codec: &TextCodec, recomputes: bool) -> Result<Models> {
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
    let mut policy = Transformer::load_adapted(&job.base, &Device::Cpu, trainable, adapter)?;
    policy.set_recompute(recomputes);
    codec.check_fits(&job.base, policy.config.vocab_size)?;
    let reference = match adapter {
        Some(_) => policy.without_adapter()?,
        None => policy.frozen_copy()?,
    };
    let (reward, mut value) = match fresh("value adapter") {
        Some(fresh) => load_judges(job, &reference, fresh)?,
        None => {
            let value = RewardModel::load(&job.reward, &Device::Cpu, trainable)?;
            // Frozen layers are there once.
            (value.frozen_copy()?, value)
        }
    };
    value.trunk.set_recompute(recomputes);
    // By its own tokenizer; whether that is the policy's is checked with the other things that must
    // hold between the models.
    let theirs = TextCodec::load(&job.reward)?;
    theirs.check_fits(&job.reward, reward.trunk.config.vocab_size)?;
    let members = Members::read(&job.reward, reward.trunk.config.hidden_size, &Device::Cpu)?;
    let reward = match members {
        Some(members) => reward.with_members(members)?,
        None => reward,
    };
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
    let own = match TransformerConfig::read(&job.reward)? == base.config {
        true => adapter::read_for(&job.reward, &sha256_of_weights(&job.base)?, &base.config)?,
        false => None,
    };
    let Some(own) = own else {
        let reward = RewardModel::load(&job.reward, &Device::Cpu, Trainable::Nothing)?;
        let value = reward.with_fresh_adapter(trainable, fresh)?;
        return Ok((reward, value));
    };
    if !own.tensors.contains_key(SCORE) {
        let message = "has no reward head, so it is no reward model's";
        let folder = job.reward.join(adapter::FOLDER);
        return Err(TrainerError::checkpoint(&folder, message));
    }
    let bias = read_bias(&job.reward)?;
    let reward = RewardModel::on_base(base, &own, bias, Trainable::Nothing)?;
    let value = RewardModel::on_base(base, &own, bias, trainable)?;
    Ok((reward, value))
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
