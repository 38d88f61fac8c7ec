//! How often two labelers order a pair alike, which is what a reward model's accuracy is to be held
//! against (InstructGPT, section 3.4: 72.6 ± 1.5 % among its training labelers).

use std::collections::{BTreeMap, BTreeSet};

use super::accuracy::Accuracy;
use super::groups::Group;
use super::measured::{Measured, accuracy};

/// How often two labelers order a pair alike.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Agreement {
    /// Share of the pairs that two labelers both ordered strictly; a pair that three ordered counts
    /// three times. Over all rankings, those that were trained on among them.
    pub accuracy: Accuracy,
    /// The model's accuracy on the prompts of these pairs; none where it was measured on none.
    pub model: Option<Accuracy>,
    /// Labelers who have a pair with another one.
    pub n_labelers: usize,
}

/// A ranking by a named labeler.
struct Said<'a> {
    labeler: &'a str,
    /// Ranks by what was ranked; none for a completion that came twice.
    ranks: BTreeMap<&'a [u32], Option<u32>>,
}

impl Agreement {
    /// None where no two labelers ordered the same pair. Completions are the same where their
    /// tokens are, whatever their ids; rankings without a labeler are passed over, since they may
    /// be of one person.
    pub(super) fn of<'a>(
        groups: impl Iterator<Item = &'a Group>,
        measured: &[Measured],
        seed: u64,
    ) -> Option<Self> {
        let mut prompts: BTreeMap<&str, Vec<Said<'_>>> = BTreeMap::new();
        for group in groups {
            let Some(labeler) = group.labeler.as_deref() else {
                continue;
            };
            let mut ranks = BTreeMap::new();
            for (row, rank) in group.rows.iter().zip(&group.ranks) {
                let first = ranks.insert(row.as_slice(), Some(*rank));
                if first.is_some() {
                    ranks.insert(row.as_slice(), None);
                }
            }
            let said = prompts.entry(&group.prompt_id).or_default();
            said.push(Said { labeler, ranks });
        }
        let (mut counts, mut labelers) = (Vec::new(), BTreeSet::new());
        for (prompt, said) in &prompts {
            for (index, one) in said.iter().enumerate() {
                for other in &said[index + 1..] {
                    let count = compare(one, other);
                    if count.1 > 0 {
                        counts.push((*prompt, count));
                        labelers.extend([one.labeler, other.labeler]);
                    }
                }
            }
        }
        let compared: BTreeSet<&str> = counts.iter().map(|(prompt, _)| *prompt).collect();
        let same = measured.iter().map(|one| (one.prompt_id.as_str(), one));
        let same = same.filter(|(prompt, _)| compared.contains(prompt));
        Some(Self {
            accuracy: accuracy(counts.iter().copied(), seed)?,
            model: accuracy(same.map(|(prompt, one)| (prompt, one.by_model())), seed),
            n_labelers: labelers.len(),
        })
    }
}

/// Pairs that both ordered alike, and pairs that both ordered strictly.
fn compare(one: &Said<'_>, other: &Said<'_>) -> (f64, usize) {
    if one.labeler == other.labeler {
        return (0.0, 0);
    }
    let both = one.ranks.iter().filter_map(|(row, rank)| {
        let second = other.ranks.get(row).copied().flatten()?;
        Some(((*rank)?, second))
    });
    let both: Vec<(u32, u32)> = both.collect();
    let (mut alike, mut pairs) = (0.0, 0);
    for (index, a) in both.iter().enumerate() {
        for b in &both[index + 1..] {
            let (first, second) = (a.0.cmp(&b.0), a.1.cmp(&b.1));
            if first.is_ne() && second.is_ne() {
                pairs += 1;
                alike += f64::from(u8::from(first == second));
            }
        }
    }
    (alike, pairs)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn group(prompt: &str, labeler: Option<&str>, rows: &[u32], ranks: &[u32]) -> Group {
        Group {
            labeler: labeler.map(str::to_owned),
            ranks: ranks.to_vec(),
            rows: rows.iter().map(|token| vec![*token]).collect(),
            ..Group::new(prompt)
        }
    }

    #[test]
    fn pairs_that_two_labelers_ordered_strictly_are_counted() {
        let groups = [
            group("p", Some("ada"), &[1, 2, 3], &[1, 2, 3]),
            // In another order of the file, and one more completion: 1 before 3 as Ada has it, 2
            // before 1 not, 2 before 3 as Ada has it.
            group("p", Some("bob"), &[3, 4, 2, 1], &[4, 2, 1, 3]),
            // Ties 1 and 2, and has 3 first: two pairs with each of the others.
            group("p", Some("cem"), &[1, 2, 3], &[2, 2, 1]),
            // What nobody else ranked, what has no name, and Ada once more say nothing.
            group("q", Some("ada"), &[7, 8], &[1, 2]),
            group("p", None, &[1, 2, 3], &[1, 2, 3]),
            group("p", Some("ada"), &[7, 8], &[1, 2]),
        ];
        let found = Agreement::of(groups.iter(), &[], 1).unwrap();
        // Ada and Bob 2 of 3; Ada and Cem 0 of 2; Bob and Cem 0 of 2.
        assert_eq!((found.accuracy.n_pairs, found.n_labelers), (7, 3));
        assert!((found.accuracy.value - 2.0 / 7.0).abs() < 1e-12);
        assert_eq!(
            (found.accuracy.n_prompts, found.accuracy.interval),
            (1, None)
        );
        assert_eq!(found.model, None);
    }

    #[test]
    fn there_is_none_where_no_prompt_has_two_labelers() {
        let groups = [
            group("p", Some("ada"), &[1, 2], &[1, 2]),
            group("p", Some("ada"), &[1, 2], &[1, 2]),
            group("q", Some("bob"), &[1, 2], &[1, 2]),
        ];
        assert_eq!(Agreement::of(groups.iter(), &[], 1), None);
    }

    /// Which of two equal texts is meant cannot be told.
    #[test]
    fn a_completion_that_comes_twice_is_passed_over() {
        let groups = [
            group("p", Some("ada"), &[1, 2, 1], &[1, 2, 3]),
            group("p", Some("bob"), &[1, 2], &[1, 2]),
        ];
        assert_eq!(Agreement::of(groups.iter(), &[], 1), None);
    }
}
