//! Rankings as token rows, one group for each, and how prompts are divided between training and
//! measuring.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use candle_core::Tensor;

use super::RewardJob;
use crate::error::{Result, TrainerError};
use crate::loss::strict_pairs;
use crate::records::{Placed, RankedPrompt, name_lines};
use crate::sft::{self, LearningRow};
use crate::split;
use crate::text::TextCodec;

/// One ranking as tokens.
pub(crate) struct Group {
    /// Its place among those of the file, to put them back in order.
    pub(crate) index: usize,
    pub(crate) prompt_id: String,
    /// `train` or `validation` where the file says so.
    pub(crate) split: Option<String>,
    pub(crate) ranks: Vec<u32>,
    /// Overall quality, where it was rated.
    pub(crate) ratings: Vec<Option<f64>>,
    /// Prompt, completion and EOS.
    pub(crate) rows: Vec<Vec<u32>>,
    /// Length of each completion in tokens.
    pub(crate) lengths: Vec<usize>,
    /// Kept output of the frozen blocks for each row, `[tokens, hidden]`.
    pub(crate) lowers: Vec<Option<Tensor>>,
}

/// The rankings of the file `data` that can be learnt from, and remarks on those that cannot:
/// those that tie everything, unless the loss learns from ties, and those with a row of more than
/// `longest` tokens.
pub(crate) fn read_groups(
    data: &Path,
    records: &[Placed<RankedPrompt>],
    codec: &TextCodec,
    longest: usize,
    learns_from_ties: bool,
) -> Result<(Vec<Group>, Vec<String>)> {
    let (mut groups, mut tied, mut long) = (Vec::new(), Vec::new(), Vec::new());
    for placed in records {
        let record = &placed.record;
        let prompt = placed.at_field("prompt", codec.encode_prompt(&record.prompt))?;
        let ranks: Vec<u32> = record.completions.iter().map(|item| item.rank).collect();
        let (mut rows, mut lengths) = (Vec::new(), Vec::new());
        for (index, item) in record.completions.iter().enumerate() {
            let field = format!("completions[{index}].text");
            let completion = placed.at_field(&field, codec.encode_completion(&item.text))?;
            // EOS is no part of the length that a labeler sees.
            lengths.push(completion.len() - 1);
            rows.push([prompt.as_slice(), &completion].concat());
        }
        if strict_pairs(&ranks).is_empty() && !learns_from_ties {
            tied.push(placed.line);
        } else if rows.iter().any(|row| row.len() > longest) {
            long.push(placed.line);
        } else {
            groups.push(Group {
                index: groups.len(),
                prompt_id: record.id.clone(),
                split: record.split.clone(),
                ratings: record
                    .completions
                    .iter()
                    .map(|item| item.rating.map(f64::from))
                    .collect(),
                ranks,
                lowers: vec![None; rows.len()],
                rows,
                lengths,
            });
        }
    }
    let mut remarks = Vec::new();
    if !tied.is_empty() {
        remarks.push(format!(
            "{} rankings tie all completions and say nothing about order: {} are left out",
            tied.len(),
            name_lines(&tied)
        ));
    }
    if !long.is_empty() {
        remarks.push(format!(
            "{} rankings hold more than {longest} tokens in a row: {} are left out",
            long.len(),
            name_lines(&long)
        ));
    }
    if groups.is_empty() {
        return Err(TrainerError::input(
            data,
            1,
            "rank",
            "ties everything or is too long for max_tokens, as does every other ranking",
        ));
    }
    Ok((groups, remarks))
}

/// Demonstrations as groups of one completion, in the form that the reward model reads, and a
/// remark on those that are too long.
pub(crate) fn read_demonstrations(
    job: &RewardJob,
    codec: &TextCodec,
    longest: usize,
) -> Result<(Vec<Group>, Option<String>)> {
    let Some(path) = &job.demonstrations else {
        return Ok((Vec::new(), None));
    };
    let (rows, remark) = sft::read_demonstrations(path, codec, longest)?;
    let group = |row: LearningRow| Group {
        index: 0,
        // They are scored and never split, so nothing asks for their prompts.
        prompt_id: String::new(),
        split: None,
        ranks: vec![1],
        ratings: vec![None],
        lengths: vec![row.tokens.len() - row.start - 1],
        rows: vec![row.tokens],
        lowers: vec![None],
    };
    Ok((rows.into_iter().map(group).collect(), remark))
}

/// All rankings of a prompt stay on one side: the one the file names, or a drawn one where it
/// names none.
pub(crate) fn split_by_prompt(
    groups: Vec<Group>,
    share: f64,
    seed: u64,
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
    split::hold_out(groups, |group| group.prompt_id.as_str(), share, seed)
}

/// The part, of `n`, in which each prompt is held out by cross-validation.
pub(crate) fn fold_of_prompt(groups: &[Group], n: usize, seed: u64) -> BTreeMap<String, usize> {
    let ids = groups.iter().map(|group| group.prompt_id.as_str());
    let ids = split::in_drawn_order(ids, seed).into_iter().enumerate();
    ids.map(|(place, id)| (id.to_owned(), place % n)).collect()
}

/// How many prompts the groups are of.
pub(crate) fn count_prompts(groups: &[Group]) -> usize {
    let ids: BTreeSet<&str> = groups
        .iter()
        .map(|group| group.prompt_id.as_str())
        .collect();
    ids.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(id: usize) -> Group {
        Group {
            index: id,
            prompt_id: format!("p{}", id / 3),
            split: None,
            ranks: vec![1, 2],
            ratings: vec![None, None],
            rows: vec![vec![1], vec![2]],
            lengths: vec![1, 1],
            lowers: vec![None, None],
        }
    }

    #[test]
    fn no_prompt_is_on_both_sides() {
        let (train, held_out) = split_by_prompt((0..60).map(group).collect(), 0.2, 1);
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
