//! Accuracy on parts of the rankings: by category, by labeler, by how many completions were ranked.

use std::collections::BTreeMap;

use super::accuracy::Accuracy;
use super::measured::{Measured, accuracy};

/// A part of the rankings.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Slice {
    /// The category, the labeler as the file names them, or the number of completions; none for
    /// rankings that do not say.
    pub name: Option<String>,
    /// Of the model. A part of one prompt has no interval.
    pub accuracy: Accuracy,
    /// Of length alone on the same pairs.
    pub length_only: Accuracy,
}

/// Accuracy by what the rankings say of themselves. A list is empty where no ranking says it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Slices {
    /// By use-case category.
    pub category: Vec<Slice>,
    /// By who ranked.
    pub labeler: Vec<Slice>,
    /// By K, the number of completions in a ranking.
    pub completions: Vec<Slice>,
}

impl Slices {
    pub(super) fn of(rankings: &[Measured], seed: u64) -> Self {
        let mut completions = by(rankings, seed, |ranking| {
            Some(format!("{:>4}", ranking.ranks.len()))
        });
        for slice in &mut completions {
            let name = slice.name.as_deref().map(str::trim);
            slice.name = name.map(str::to_owned);
        }
        Self {
            category: by(rankings, seed, |ranking| ranking.category.clone()),
            labeler: by(rankings, seed, |ranking| ranking.labeler.clone()),
            completions,
        }
    }
}

/// Parts in the order of their names, those that do not say last.
fn by(
    rankings: &[Measured],
    seed: u64,
    name_of: impl Fn(&Measured) -> Option<String>,
) -> Vec<Slice> {
    let mut parts: BTreeMap<(bool, Option<String>), Vec<&Measured>> = BTreeMap::new();
    for ranking in rankings {
        let name = name_of(ranking);
        let part = parts.entry((name.is_none(), name)).or_default();
        part.push(ranking);
    }
    if parts.keys().all(|(is_unnamed, _)| *is_unnamed) {
        return Vec::new();
    }
    let slice = |(_, name), part: Vec<&Measured>| {
        let measured = |count: fn(&Measured) -> (f64, usize)| {
            let part = part.iter();
            accuracy(part.map(|one| (one.prompt_id.as_str(), count(one))), seed)
        };
        Some(Slice {
            name,
            accuracy: measured(Measured::by_model)?,
            length_only: measured(|ranking| ranking.by_length)?,
        })
    };
    let slices = parts.into_iter();
    slices
        .filter_map(|(name, part)| slice(name, part))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranking(prompt: &str, category: Option<&str>, right: bool, k: usize) -> Measured {
        let sign = if right { -1.0 } else { 1.0 };
        Measured {
            prompt_id: prompt.to_owned(),
            labeler: None,
            category: category.map(str::to_owned),
            ranks: (1..=k as u32).collect(),
            scores: (0..k).map(|place| sign * place as f32).collect(),
            lengths: vec![1; k],
            by_length: ((k * (k - 1)) as f64 / 4.0, k * (k - 1) / 2),
            model: 0,
        }
    }

    #[test]
    fn each_part_has_its_own_accuracy_and_says_how_many_prompts_it_is_of() {
        let rankings = [
            ranking("a", Some("chat"), true, 4),
            ranking("b", Some("chat"), false, 4),
            ranking("c", None, true, 10),
            // A second ranking of a prompt is no second prompt.
            ranking("c", Some("list"), true, 9),
            ranking("c", Some("list"), true, 9),
        ];
        let slices = Slices::of(&rankings, 1);
        assert_eq!(slices.labeler, []);
        let told = |slices: &[Slice]| -> Vec<(Option<String>, f64, usize, bool)> {
            let tell = |slice: &Slice| {
                let Slice { name, accuracy, .. } = slice;
                let has_interval = accuracy.interval.is_some();
                (
                    name.clone(),
                    accuracy.value,
                    accuracy.n_prompts,
                    has_interval,
                )
            };
            slices.iter().map(tell).collect()
        };
        assert_eq!(
            told(&slices.category),
            [
                (Some("chat".to_owned()), 0.5, 2, true),
                (Some("list".to_owned()), 1.0, 1, false),
                (None, 1.0, 1, false),
            ]
        );
        let names: Vec<_> = told(&slices.completions)
            .into_iter()
            .map(|one| one.0)
            .collect();
        let expected = ["4", "9", "10"].map(|name| Some(name.to_owned()));
        assert_eq!(names, expected);
        assert_eq!(slices.category[1].length_only.value, 0.5);
        assert_eq!(slices.category[1].accuracy.n_pairs, 72);
    }
}
