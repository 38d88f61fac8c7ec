//! Rankings as token rows, one group for each, and how prompts are divided between training and
//! measuring.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::Path;

use candle_core::Tensor;

use super::RewardJob;
use super::accuracy::Place;
use super::units::units;
use crate::error::{Result, TrainerError};
use crate::loss::strict_pairs;
use crate::memory::ranked::Ranked;
use crate::model::batch::common_prefix;
use crate::records::{Placed, RankedPrompt, name_lines};
use crate::sft::{self, Demonstration};
use crate::split;
use crate::text::TextCodec;

/// Overall ratings, a Likert scale (InstructGPT, table 3).
const RATINGS: RangeInclusive<u8> = 1..=7;

/// One ranking as tokens.
pub(crate) struct Group {
    /// Its place among those of the file, to put them back in order.
    pub(crate) index: usize,
    pub(crate) prompt_id: String,
    /// What stays on one side of every split, see [`super::units`].
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
    /// Kept output of the frozen blocks, `[tokens, hidden]`, for each part of the rows that passes
    /// together, see [`super::passes`]; of these there are no more than rows.
    pub(crate) lowers: Vec<Option<Tensor>>,
}

impl Group {
    /// The lengths of its rows. With `learns_tokens`, completions and their EOS are learnt token by
    /// token.
    pub(crate) fn ranked(&self, learns_tokens: bool) -> Ranked {
        let rows: Vec<&[u32]> = self.rows.iter().map(Vec::as_slice).collect();
        let learnt = self.lengths.iter().map(|completion| completion + 1);
        Ranked {
            common: common_prefix(&rows),
            rows: rows.iter().map(|row| row.len()).collect(),
            learnt: if learns_tokens { learnt.sum() } else { 0 },
        }
    }

    /// Which prompt it is of.
    pub(crate) fn place(&self) -> Place<'_> {
        Place {
            unit: &self.unit,
            prompt: &self.prompt_id,
        }
    }
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
    let mut twice = Vec::new();
    let prompts = records
        .iter()
        .map(|placed| placed.at_field("prompt", codec.encode_prompt(&placed.record.prompt)));
    let prompts = prompts.collect::<Result<Vec<_>>>()?;
    let units = units(records)?;
    for ((placed, prompt), unit) in records.iter().zip(&prompts).zip(units) {
        let record = &placed.record;
        let ranks: Vec<u32> = record.completions.iter().map(|item| item.rank).collect();
        let (mut rows, mut lengths) = (Vec::new(), Vec::new());
        for (index, item) in record.completions.iter().enumerate() {
            if let Some(rating) = item.rating.filter(|rating| !RATINGS.contains(rating)) {
                let field = format!("completions[{index}].rating");
                let (low, high) = (RATINGS.start(), RATINGS.end());
                let message = format!("is {rating}: ratings are {low} to {high}");
                return Err(placed.error(&field, message));
            }
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
            if strict_pairs(&ranks)
                .iter()
                .any(|(a, b)| rows[*a] == rows[*b])
            {
                twice.push(placed.line);
            }
            groups.push(Group {
                index: groups.len(),
                prompt_id: record.id.clone(),
                unit,
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
    if !twice.is_empty() {
        remarks.push(format!(
            "{} rankings prefer one of two completions that are the same: nothing can be learnt from \
             such a pair: {}",
            twice.len(),
            name_lines(&twice)
        ));
    }
    let is_train = |group: &Group| group.split.as_deref() == Some("train");
    if !groups.is_empty() && groups.iter().all(is_train) {
        remarks.push(
            "every ranking says that it is for training, so some are held out all the same: without \
             them nothing could be measured"
                .to_owned(),
        );
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
    let group = |Demonstration { row, .. }: Demonstration| Group {
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

/// All rankings of a unit stay on one side: that which the file names for any of them. Where it names
/// none to hold out, some are drawn of those of which it says nothing, or, where it says `train` of
/// all, of all.
pub(crate) fn split_by_prompt(
    groups: Vec<Group>,
    share: f64,
    seed: u64,
) -> (Vec<Group>, Vec<Group>) {
    let units_that_say = |word: &str| -> BTreeSet<String> {
        let named = groups
            .iter()
            .filter(|group| group.split.as_deref() == Some(word));
        named.map(|group| group.unit.clone()).collect()
    };
    let (held_out, fixed) = (units_that_say("validation"), units_that_say("train"));
    if !held_out.is_empty() {
        return groups
            .into_iter()
            .partition(|group| !held_out.contains(&group.unit));
    }
    let n = count_units(&groups);
    let (fixed, open): (Vec<Group>, Vec<Group>) = groups
        .into_iter()
        .partition(|group| fixed.len() < n && fixed.contains(&group.unit));
    // The share is one of all prompts.
    let share = match fixed.is_empty() {
        true => share,
        false => (share * n as f64 / count_units(&open).max(1) as f64).min(1.0),
    };
    let (mut train, held_out) = split::hold_out(open, |group| group.unit.as_str(), share, seed);
    train.extend(fixed);
    train.sort_by_key(|group| group.index);
    (train, held_out)
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

/// What is trained on and what is held out in one of those parts, both in the file's order, whatever
/// order the groups come in: a fold does not depend on what the one before did to them.
pub(super) fn hold_out_fold(
    mut groups: Vec<Group>,
    folds: &BTreeMap<String, usize>,
    fold: usize,
) -> (Vec<Group>, Vec<Group>) {
    groups.sort_by_key(|group| group.index);
    groups
        .into_iter()
        .partition(|group| folds.get(&group.unit) != Some(&fold))
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
            .map(|(rank, text)| json!({"id": format!("c{rank}"), "text": text, "rank": rank}));
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
    fn a_fold_has_the_files_order_whatever_the_one_before_left() {
        let groups: Vec<Group> = (0..60).map(group).collect();
        let folds = fold_of_unit(&groups, 4, 1);
        let places =
            |groups: &[Group]| -> Vec<usize> { groups.iter().map(|group| group.index).collect() };
        let (train, held_out) = hold_out_fold(groups, &folds, 2);
        let expected = (places(&train), places(&held_out));
        assert_eq!((train.len(), held_out.len()), (45, 15));
        assert!(train.is_sorted_by_key(|group| group.index));
        assert!(held_out.is_sorted_by_key(|group| group.index));
        assert!(held_out.iter().all(|group| folds[&group.unit] == 2));
        let mixed = held_out.into_iter().rev().chain(train).collect();
        let (train, held_out) = hold_out_fold(mixed, &folds, 2);
        assert_eq!((places(&train), places(&held_out)), expected);
    }

    /// What the file says is done, and what it leaves open is drawn.
    #[test]
    fn both_words_of_the_file_are_honoured() {
        let split = |words: &dyn Fn(usize) -> Option<&'static str>| {
            let groups = (0..60).map(|index| Group {
                split: words(index / 3).map(str::to_owned),
                ..group(index)
            });
            let (train, held_out) = split_by_prompt(groups.collect(), 0.2, 1);
            let ids = |groups: &[Group]| -> BTreeSet<String> {
                groups.iter().map(|group| group.prompt_id.clone()).collect()
            };
            let (train, held_out) = (ids(&train), ids(&held_out));
            assert!(train.is_disjoint(&held_out));
            assert_eq!(train.len() + held_out.len(), 20);
            held_out
        };
        let drawn = split(&|_| None);
        assert_eq!(drawn.len(), 4);
        // Those that are to be held out, and no others.
        let held_out = split(&|prompt| (prompt < 2).then_some("validation"));
        assert_eq!(held_out, BTreeSet::from(["p0".to_owned(), "p1".to_owned()]));
        // Only of training prompts something is said: of the others a fifth of all is drawn.
        let held_out = split(&|prompt| (prompt < 12).then_some("train"));
        assert_eq!(held_out.len(), 4);
        let is_open = |id: &String| id[1..].parse::<usize>().unwrap() >= 12;
        assert!(held_out.iter().all(is_open), "{held_out:?}");
        // Nothing is left over to measure on, so the words cannot all be kept.
        assert_eq!(split(&|_| Some("train")), drawn);
    }
}
