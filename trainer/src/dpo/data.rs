//! What a run reads, and how its batches are taken apart to fit into memory.

use super::DpoJob;
use super::learner::MICRO_ROWS;
use crate::checkpoint::check_writes;
use crate::config::DpoConfig;
use crate::error::{Result, TrainerError};
use crate::memory::ranked::RankedRows;
use crate::memory::{self, Plan};
use crate::model::transformer::TransformerConfig;
use crate::records::{self, Placed, RankedPrompt};
use crate::reward::groups::{Group, read_groups, split_by_prompt};
use crate::text::TextCodec;

/// The rankings of a run.
pub(super) struct Data {
    pub(super) train: Vec<Group>,
    pub(super) held_out: Vec<Group>,
    /// On what was left out.
    pub(super) remarks: Vec<String>,
}

impl Data {
    /// Reads the rankings, split by prompt.
    pub(super) fn read(job: &DpoJob, codec: &TextCodec, shape: &TransformerConfig) -> Result<Self> {
        let config = &job.config;
        check_writes(&job.base)?;
        let records: Vec<Placed<RankedPrompt>> = records::read_placed(&job.data)?;
        let longest = config.max_tokens.min(shape.max_position_embeddings);
        let (groups, remarks) = read_groups(&job.data, &records, codec, longest, false)?;
        let (train, held_out) = split_by_prompt(groups, config.held_out_share, config.seed);
        if train.is_empty() || held_out.is_empty() {
            return Err(TrainerError::input(
                &job.data,
                1,
                "file",
                "has too few ranked prompts to train and to hold some out",
            ));
        }
        Ok(Self {
            train,
            held_out,
            remarks,
        })
    }

    /// How batches of these rankings are taken apart, and what memory the run needs.
    pub(super) fn plan(&self, config: &DpoConfig, shape: &TransformerConfig) -> Result<Plan> {
        let all = self.train.iter().chain(&self.held_out);
        let data = RankedRows {
            rankings: all.map(|group| group.ranked(true)).collect(),
            others: 0,
        };
        let sizes = memory::halves(config.micro_rows, MICRO_ROWS);
        let candidates = memory::in_turn(&sizes, config.recompute_activations);
        Plan::choose(
            config.memory_limit_gib,
            &candidates,
            |_, rows, recomputes| memory::ranked::dpo(shape, config, &data, rows, recomputes),
        )
    }
}

/// How a run would take its batches apart, and what memory it would need, without training.
///
/// # Errors
/// As [`super::run`] says of data and settings, and when nothing fits the limit.
pub fn estimate(job: &DpoJob) -> Result<Plan> {
    job.config.check()?;
    let codec = TextCodec::load(&job.base)?;
    let shape = TransformerConfig::read(&job.base)?;
    Data::read(job, &codec, &shape)?.plan(&job.config, &shape)
}
