//! Flags: how rare each is, how far labelers agree on it, and who tells it well.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::Sample;
use super::figure::Figure;
use crate::domain::ids::AccountId;
use crate::stats::dawid_skene::{Priors, dawid_skene_by};
use crate::stats::labels::Rating;
use crate::stats::reliability::{Kappa, fleiss_kappa_by, gwet_ac1_by};

/// A flag. Unanswered is not "no": only answers count.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct FlagFigures {
    /// Its key in the form.
    pub flag: String,
    /// Share of answers that are yes; n counts answers.
    pub prevalence: Figure,
    /// Share of two labelers' answers on a completion that are the same; n counts such pairs of answers.
    pub same: Figure,
    /// Gwet's AC1; n counts completions that two or more labelers answered for.
    pub ac1: Figure,
    /// Fleiss' kappa, which falls towards 0 where nearly all answers are the same; n as for AC1.
    pub kappa: Figure,
    /// Each labeler by Dawid and Skene's model; empty where no two answered for the same completion.
    pub labelers: Vec<FlagLabeler>,
}

/// How well a labeler tells a flag, by Dawid and Skene's model.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct FlagLabeler {
    /// Whose account.
    #[schema(value_type = String, format = Uuid)]
    pub labeler_id: AccountId,
    /// The name shown.
    pub name: String,
    /// How probably they flag what is to be flagged; n is how many such completions they probably saw.
    pub sensitivity: Figure,
    /// How probably they leave what is not to be flagged; n as before.
    pub specificity: Figure,
}

/// An answer.
struct Answer {
    prompt: usize,
    rating: Rating,
}

impl Sample<'_> {
    /// Each flag that was answered, the most often answered first.
    pub(super) fn flags(&self) -> Vec<FlagFigures> {
        let mut answers: Vec<Vec<Answer>> = self.labels.flags.iter().map(|_| Vec::new()).collect();
        // Oldest first: of two answers by one labeler the later one counts.
        for label in self.own.iter().rev() {
            for said in &label.said {
                for (flag, value) in &said.flags {
                    answers[*flag].push(Answer {
                        prompt: label.prompt,
                        rating: Rating {
                            unit: said.completion,
                            labeler: label.labeler,
                            value: i32::from(*value),
                        },
                    });
                }
            }
        }
        let flags = self.labels.flags.iter().zip(answers).enumerate();
        let answered = flags.filter(|(_, (_, answers))| !answers.is_empty());
        let mut figures: Vec<FlagFigures> = answered
            .map(|(index, (flag, answers))| self.flag(index as u64, flag, &answers))
            .collect();
        figures.sort_by_key(|own| std::cmp::Reverse(own.prevalence.n));
        figures
    }

    fn flag(&self, index: u64, flag: &str, answers: &[Answer]) -> FlagFigures {
        let ratings: Vec<Rating> = answers.iter().map(|own| own.rating).collect();
        let prompt = |unit: usize| self.labels.completions[unit].prompt;
        let beyond_chance = |found: Option<Kappa>| {
            let n_prompts = found.map_or(0, |found| found.n_clusters);
            Figure::of(found.map(|found| found.estimate), n_prompts)
        };
        FlagFigures {
            flag: flag.to_owned(),
            prevalence: self.share_of_answers(("flag", index), &prevalence(answers)),
            same: self.share_of_answers(("same flag", index), &same(answers)),
            ac1: beyond_chance(gwet_ac1_by(&ratings, 2, prompt)),
            kappa: beyond_chance(fleiss_kappa_by(&ratings, prompt)),
            labelers: self.flag_labelers(&ratings),
        }
    }

    fn share_of_answers(
        &self,
        (name, index): (&str, u64),
        prompts: &BTreeMap<usize, (f64, f64)>,
    ) -> Figure {
        let units: Vec<(f64, f64)> = prompts.values().copied().collect();
        Figure::of(self.bootstrap.share(name, index, &units), units.len())
    }

    fn flag_labelers(&self, ratings: &[Rating]) -> Vec<FlagLabeler> {
        let prompt = |unit: usize| self.labels.completions[unit].prompt;
        let Some(found) = dawid_skene_by(ratings, 2, &Priors::default(), prompt) else {
            return Vec::new();
        };
        let labelers = found.labelers.iter().map(|own| {
            let labeler = &self.labels.labelers[own.labeler];
            FlagLabeler {
                labeler_id: labeler.id,
                name: labeler.name.clone(),
                sensitivity: Figure::of(own.sensitivity(), own.clusters_of_flag(1)),
                specificity: Figure::of(own.specificity(), own.clusters_of_flag(0)),
            }
        });
        labelers.collect()
    }
}

/// By prompt: answers that are yes, and all.
fn prevalence(answers: &[Answer]) -> BTreeMap<usize, (f64, f64)> {
    let mut prompts: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
    for own in answers {
        let sum = prompts.entry(own.prompt).or_default();
        *sum = (sum.0 + f64::from(own.rating.value), sum.1 + 1.0);
    }
    prompts
}

/// By prompt: pairs of answers by different labelers on a completion that are the same, and all.
fn same(answers: &[Answer]) -> BTreeMap<usize, (f64, f64)> {
    let mut units: BTreeMap<usize, (usize, BTreeMap<usize, i32>)> = BTreeMap::new();
    for own in answers {
        let (_, said) = units
            .entry(own.rating.unit)
            .or_insert_with(|| (own.prompt, BTreeMap::new()));
        said.insert(own.rating.labeler, own.rating.value);
    }
    let mut prompts: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
    for (prompt, said) in units.into_values().filter(|(_, said)| said.len() > 1) {
        let n = said.len() as f64;
        let yes = said.values().filter(|value| **value == 1).count() as f64;
        let pairs = |n: f64| n * (n - 1.0) / 2.0;
        let sum = prompts.entry(prompt).or_default();
        *sum = (sum.0 + pairs(yes) + pairs(n - yes), sum.1 + pairs(n));
    }
    prompts
}
