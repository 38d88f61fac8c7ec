//! Rankings as token rows, one group for each, and how prompts are divided between training and
//! measuring.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::Tensor;
use rand::seq::SliceRandom;

use super::RewardJob;
use crate::config::RewardConfig;
use crate::error::{Result, TrainerError};
use crate::loss::strict_pairs;
use crate::records::{self, DemonstrationRecord, Prompt, RankedPrompt};
use crate::rng::stream;
use crate::text::TextCodec;

/// One ranking as tokens.
pub(super) struct Group {
    pub(super) prompt_id: String,
    /// `train` or `validation` where the file says so.
    pub(super) split: Option<String>,
    pub(super) ranks: Vec<u32>,
    /// Prompt, completion and EOS.
    pub(super) rows: Vec<Vec<u32>>,
    /// Length of each completion in tokens.
    pub(super) lengths: Vec<usize>,
    /// Kept output of the frozen blocks for each row, `[tokens, hidden]`.
    pub(super) lowers: Vec<Option<Tensor>>,
}

/// The rankings that can be learnt from, and remarks on those that cannot.
pub(super) fn read_groups(
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
pub(super) fn read_demonstrations(
    job: &RewardJob,
    codec: &TextCodec,
    longest: usize,
) -> Result<Vec<Group>> {
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
pub(super) fn split_by_prompt(
    groups: Vec<Group>,
    config: &RewardConfig,
) -> (Vec<Group>, Vec<Group>) {
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
    let ids = shuffled_ids(&groups, config.seed);
    let n = ((ids.len() as f64 * config.held_out_share).round() as usize).max(1);
    let held_out: BTreeSet<String> = ids.into_iter().take(n).collect();
    groups
        .into_iter()
        .partition(|group| !held_out.contains(&group.prompt_id))
}

/// The part, of `n`, in which each prompt is held out by cross-validation.
pub(super) fn fold_of_prompt(groups: &[Group], n: usize, seed: u64) -> BTreeMap<String, usize> {
    let ids = shuffled_ids(groups, seed).into_iter().enumerate();
    ids.map(|(place, id)| (id, place % n)).collect()
}

/// How many prompts the groups are of.
pub(super) fn count_prompts(groups: &[Group]) -> usize {
    let ids: BTreeSet<&str> = groups
        .iter()
        .map(|group| group.prompt_id.as_str())
        .collect();
    ids.len()
}

/// The prompts' ids in an order drawn by the seed, whatever order the file has.
fn shuffled_ids(groups: &[Group], seed: u64) -> Vec<String> {
    let ids: BTreeSet<&str> = groups
        .iter()
        .map(|group| group.prompt_id.as_str())
        .collect();
    let mut ids: Vec<String> = ids.into_iter().map(str::to_owned).collect();
    ids.shuffle(&mut stream(seed, "split", 0));
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(id: usize) -> Group {
        Group {
            prompt_id: format!("p{}", id / 3),
            split: None,
            ranks: vec![1, 2],
            rows: vec![vec![1], vec![2]],
            lengths: vec![1, 1],
            lowers: vec![None, None],
        }
    }

    #[test]
    fn no_prompt_is_on_both_sides() {
        let config = RewardConfig::preset(crate::config::Preset::Tiny);
        let (train, held_out) = split_by_prompt((0..60).map(group).collect(), &config);
        assert_eq!((train.len(), held_out.len()), (48, 12));
        assert!(
            held_out
                .iter()
                .all(|a| train.iter().all(|b| a.prompt_id != b.prompt_id))
        );
    }

    #[test]
    fn folds_hold_every_prompt_once_and_are_of_one_size() {
        let groups: Vec<Group> = (0..60).map(group).collect();
        let folds = fold_of_prompt(&groups, 5, 1);
        assert_eq!(folds.len(), 20);
        for fold in 0..5 {
            assert_eq!(folds.values().filter(|own| **own == fold).count(), 4);
        }
    }
}
