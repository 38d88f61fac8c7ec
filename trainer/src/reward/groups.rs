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
    /// What stays on one side of every split: the customer's prompts where the file names one, else
    /// the prompt alone.
    pub(crate) unit: String,
    pub(crate) labeler: Option<String>,
    pub(crate) category: Option<String>,
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
    let customers = customers(records)?;
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
                unit: match customers.get(record.id.as_str()) {
                    Some(customer) => format!("customer {customer}"),
                    None => record.id.clone(),
                },
                labeler: record.labeler.clone(),
                category: record.category.clone(),
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
    if let (true, Some(first)) = (groups.is_empty(), records.first()) {
        let (line, field, message) = match (tied.first(), long.first()) {
            (None, Some(line)) => {
                let message = format!("holds more than {longest} tokens in a row");
                (*line, "completions", message)
            }
            (_, None) => (first.line, "rank", "ties everything".to_owned()),
            _ => {
                let message = "ties everything or is too long for max_tokens";
                (first.line, "rank", message.to_owned())
            }
        };
        let message = format!("{message}, as does every other ranking");
        return Err(TrainerError::input(data, line, field, message));
    }
    Ok((groups, remarks))
}

/// The customer of each prompt that has one.
fn customers(records: &[Placed<RankedPrompt>]) -> Result<BTreeMap<&str, &str>> {
    let mut customers: BTreeMap<&str, &str> = BTreeMap::new();
    for placed in records {
        let Some(customer) = placed.record.customer.as_deref() else {
            continue;
        };
        let first = *customers.entry(&placed.record.id).or_insert(customer);
        if first != customer {
            let message =
                format!("is {customer:?}, but an earlier line of the prompt has {first:?}");
            return Err(placed.error("customer", message));
        }
    }
    Ok(customers)
}

/// Demonstrations as groups of one completion, in the form that the reward model reads, and a
/// remark on those that are too long.
pub(super) fn read_demonstrations(
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
        unit: String::new(),
        labeler: None,
        category: None,
        split: None,
        ranks: vec![1],
        ratings: vec![None],
        lengths: vec![row.tokens.len() - row.start - 1],
        rows: vec![row.tokens],
        lowers: vec![None],
    };
    Ok((rows.into_iter().map(group).collect(), remark))
}

/// All rankings of a prompt stay on one side, and all prompts of a customer: the one that the file
/// names for any of them, or a drawn one where it names none.
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
            .map(|group| group.unit.clone())
            .collect();
        return groups
            .into_iter()
            .partition(|group| !named.contains(&group.unit));
    }
    split::hold_out(groups, |group| group.unit.as_str(), share, seed)
}

/// The part, of `n`, in which each unit (a prompt, or a customer's prompts) is held out by
/// cross-validation.
pub(super) fn fold_of_unit(groups: &[Group], n: usize, seed: u64) -> BTreeMap<String, usize> {
    let units = groups.iter().map(|group| group.unit.as_str());
    let units = split::in_drawn_order(units, seed).into_iter().enumerate();
    units
        .map(|(place, unit)| (unit.to_owned(), place % n))
        .collect()
}

/// How many units the groups are of.
pub(super) fn count_units(groups: &[Group]) -> usize {
    let units: BTreeSet<&str> = groups.iter().map(|group| group.unit.as_str()).collect();
    units.len()
}

#[cfg(test)]
impl Group {
    /// A ranking of two completions of one token, by nobody.
    pub(crate) fn new(prompt_id: &str) -> Self {
        Self {
            index: 0,
            prompt_id: prompt_id.to_owned(),
            unit: prompt_id.to_owned(),
            labeler: None,
            category: None,
            split: None,
            ranks: vec![1, 2],
            ratings: vec![None, None],
            rows: vec![vec![1], vec![2]],
            lengths: vec![1, 1],
            lowers: vec![None, None],
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::records::{self, Prompt};

    fn group(index: usize) -> Group {
        Group {
            index,
            ..Group::new(&format!("p{}", index / 3))
        }
    }

    /// Two prompts for each customer.
    fn of_customer(index: usize) -> Group {
        Group {
            unit: format!("customer {}", index / 6),
            ..group(index)
        }
    }

    /// Item 8 of the checklist: what is judged ends with EOS, once, and is the prompt and the
    /// completion before it.
    #[test]
    fn completions_of_a_ranking_end_with_eos() {
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny");
        let codec = TextCodec::load(&base).expect("the tiny model");
        let place = tempfile::tempdir().expect("a folder");
        let data = place.path().join("rankings.jsonl");
        let texts = ["the cat sat", "no", "from best  to worst\n\n3"];
        let completions = (1..)
            .zip(texts)
            .map(|(rank, text)| json!({"id": "c", "text": text, "rank": rank}));
        let line =
            json!({"id": "p", "prompt": "why?", "completions": completions.collect::<Vec<_>>()});
        std::fs::write(&data, format!("{line}\n")).expect("a file");
        let records = records::read_placed(&data).expect("a ranking");
        let (groups, _) = read_groups(&data, &records, &codec, 100, false).expect("a group");
        let prompt = codec
            .encode_prompt(&Prompt::Text("why?".to_owned()))
            .expect("a prompt");
        for (row, text) in groups[0].rows.iter().zip(texts) {
            let (eos, before) = row.split_last().expect("tokens");
            assert_eq!(*eos, codec.eos_id);
            let completion = before.strip_prefix(prompt.as_slice()).expect("the prompt");
            assert!(!completion.contains(&codec.eos_id));
            assert_eq!(codec.decode(completion).expect("text"), text);
        }
        assert_eq!(groups[0].rows.len(), 3);
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

    /// Item 16 of the checklist; InstructGPT, section 3.2.
    #[test]
    fn no_customer_is_on_both_sides_whoever_draws_the_line() {
        let drawn: Vec<Group> = (0..60).map(of_customer).collect();
        let mut named: Vec<Group> = (0..60).map(of_customer).collect();
        named[7].split = Some("validation".to_owned());
        for (groups, expected) in [(drawn, (48, 12)), (named, (54, 6))] {
            let (train, held_out) = split_by_prompt(groups, 0.2, 1);
            assert_eq!((train.len(), held_out.len()), expected);
            assert!(
                held_out
                    .iter()
                    .all(|a| train.iter().all(|b| a.unit != b.unit))
            );
        }
    }

    #[test]
    fn folds_hold_every_prompt_once_and_are_of_one_size() {
        let groups: Vec<Group> = (0..60).map(group).collect();
        let folds = fold_of_unit(&groups, 5, 1);
        assert_eq!(folds.len(), 20);
        for fold in 0..5 {
            assert_eq!(folds.values().filter(|own| **own == fold).count(), 4);
        }
        let groups: Vec<Group> = (0..60).map(of_customer).collect();
        assert_eq!(fold_of_unit(&groups, 5, 1).len(), count_units(&groups));
    }

    #[test]
    fn a_prompt_has_one_customer() {
        let line = |customer: &str| {
            let completion = r#"{"id":"1","text":"x","rank":1}"#;
            format!(
                r#"{{"id":"a","prompt":"p",{customer}"completions":[{completion},{completion}]}}"#
            ) + "\n"
        };
        let read = |lines: [&str; 3]| {
            let file = tempfile::NamedTempFile::new().unwrap();
            let text: String = lines.into_iter().map(line).collect();
            std::fs::write(file.path(), text).unwrap();
            crate::records::read_placed::<RankedPrompt>(file.path()).unwrap()
        };
        let records = read(["", r#""customer":"acme","#, ""]);
        assert_eq!(customers(&records).unwrap()["a"], "acme");
        let records = read([r#""customer":"acme","#, "", r#""customer":"other","#]);
        let error = customers(&records).unwrap_err().to_string();
        assert!(
            error.contains("line 3, field customer: is \"other\""),
            "{error}"
        );
    }
}
