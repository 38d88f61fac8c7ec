//! What a run reads, the model that it begins with, and how its batches are taken apart.

use candle_core::Device;

use super::RewardJob;
use super::groups::{Group, read_demonstrations, read_groups};
use super::learner::{MICRO_PROMPTS, MICRO_ROWS};
use crate::config::RewardConfig;
use crate::error::Result;
use crate::memory::{self, Plan, ranked::RankedRows};
use crate::model::heads::{Beginning, RewardModel};
use crate::model::transformer::TransformerConfig;
use crate::records::{self, Placed, RankedPrompt};
use crate::text::TextCodec;

/// What a run reads.
pub(super) struct Data {
    pub(super) groups: Vec<Group>,
    pub(super) demonstrations: Vec<Group>,
    pub(super) remarks: Vec<String>,
}

impl Data {
    pub(super) fn read(
        job: &RewardJob,
        codec: &TextCodec,
        shape: &TransformerConfig,
    ) -> Result<Self> {
        let records: Vec<Placed<RankedPrompt>> = records::read_placed(&job.data)?;
        let longest = job.config.max_tokens.min(shape.max_position_embeddings);
        let from_ties = job.config.loss.learns_from_ties();
        let (groups, mut remarks) = read_groups(&job.data, &records, codec, longest, from_ties)?;
        let (demonstrations, remark) = read_demonstrations(job, codec, longest)?;
        remarks.extend(remark);
        Ok(Self {
            groups,
            demonstrations,
            remarks,
        })
    }
}

/// How a run would take its batches apart, and what memory it would need, without training.
///
/// # Errors
/// As [`super::run`] says of data and settings, and when nothing fits the limit.
pub fn estimate(job: &RewardJob) -> Result<Plan> {
    job.config.check()?;
    let codec = TextCodec::load(&job.base)?;
    let shape = TransformerConfig::read(&job.base)?;
    let data = Data::read(job, &codec, &shape)?;
    plan(&job.config, &shape, &data.groups, &data.demonstrations)
}

pub(super) fn plan(
    config: &RewardConfig,
    shape: &TransformerConfig,
    groups: &[Group],
    demonstrations: &[Group],
) -> Result<Plan> {
    let others = demonstrations.iter().flat_map(|group| &group.rows);
    let data = RankedRows {
        rankings: groups.iter().map(|group| group.ranked(false)).collect(),
        others: others.map(Vec::len).sum(),
    };
    let prompts = memory::halves(config.micro_prompts, MICRO_PROMPTS);
    let rows = memory::halves(config.micro_rows, MICRO_ROWS);
    // What is kept depends on the prompts; the rows that pass together matter where little is.
    let kept = prompts.iter().map(|prompts| (*prompts, rows[0], false));
    let again = prompts.iter().map(|prompts| (*prompts, rows[0], true));
    let fewer = rows[1..]
        .iter()
        .map(|rows| (prompts[prompts.len() - 1], *rows, true));
    let candidates: Vec<(usize, usize, bool)> = match config.recompute_activations {
        true => again.chain(fewer).collect(),
        false => kept.chain(again).chain(fewer).collect(),
    };
    Plan::choose(
        config.memory_limit_gib,
        &candidates,
        |prompts, rows, recomputes| {
            memory::ranked::reward(shape, config, &data, prompts, rows, recomputes)
        },
    )
}

/// A model with fresh heads, and a fresh adapter where it learns by one, on the run's base.
pub(super) fn fresh_model(job: &RewardJob, recomputes: bool) -> Result<RewardModel> {
    let config = &job.config;
    let beginning = Beginning {
        trainable: config.trainable(),
        lora: config.lora.as_ref(),
        members: config.members,
        seed: config.seed,
    };
    let mut model = RewardModel::begin(&job.base, &Device::Cpu, beginning)?;
    model.trunk.set_recompute(recomputes);
    Ok(model)
}
