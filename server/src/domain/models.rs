//! Models compared by the rankings of their completions: strengths, win rates, by category. Never for the
//! eyes of labelers.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::agreement::{FEWEST, Figure};
use crate::domain::ids::CheckpointId;
use crate::domain::labels::{Label, Labels};
use crate::stats::labels::{Comparison, ItemRanking};
use crate::stats::strengths::{
    Settings, Strengths, Unfit, WinRate, WinRates, davidson, plackett_luce,
};

/// Decides the resamples of every interval: the same labels give the same figures.
const SEED: u64 = 1;

/// Pairs of models that are told; those that were compared on most prompts.
const MOST_PAIRS: usize = 1000;

/// All figures.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Models {
    /// Rankings that the figures rest on: the newest version of each, without gold tasks, repeats and
    /// decisions of admins.
    pub n_rankings: usize,
    /// Prompts that they are of.
    pub n_prompts: usize,
    /// When the newest ranking that passes the filter was given.
    pub newest: Option<DateTime<Utc>>,
    /// Whether there are older rankings that were not read, because there are too many.
    pub is_cut: bool,
    /// Fewest prompts that a figure is told from; its value is null below that.
    pub fewest: usize,
    /// The models, the strongest first, group by group.
    pub models: Vec<ModelFigures>,
    /// Groups of models that were compared with each other, directly or through others. Strengths of
    /// different groups cannot be compared.
    pub n_groups: usize,
    /// Davidson's ν of each group: how often models of the same strength tie, as odds against either
    /// winning.
    pub ties: Vec<Figure>,
    /// Whether some model never lost, so that only a weak prior says how much better it is.
    pub is_undetermined: bool,
    /// Two models each, those compared on most prompts first; 1,000 at most.
    pub pairs: Vec<PairOfModels>,
    /// The same by category of the prompt, of those with enough prompts.
    pub categories: Vec<CategoryModels>,
}

/// A model.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ModelFigures {
    /// Its name.
    pub name: String,
    /// Its checkpoint, where it has one here.
    #[schema(value_type = Option<String>, format = Uuid)]
    pub checkpoint_id: Option<CheckpointId>,
    /// Which group of models, counted from 1; strengths are log odds against the mean of the group.
    pub group: usize,
    /// Rankings that one of its completions is in.
    pub n_rankings: usize,
    /// Share of comparisons with other models that it wins, a tie counting half; n counts comparisons.
    pub win_rate: Figure,
    /// Whether the data alone tell the strengths of the model's group. Where some model of it never lost to
    /// the others, a weak prior says how much better that is: strengths then tell the order and no more, and
    /// have no interval.
    pub is_determined: bool,
    /// Davidson's strength: Bradley-Terry with ties; n counts comparisons.
    pub davidson: Figure,
    /// Plackett-Luce strength, from whole rankings; n counts rankings.
    pub plackett_luce: Figure,
}

/// How often one model is preferred to another.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct PairOfModels {
    /// Place of one in `models`.
    pub first: usize,
    /// Place of the other.
    pub second: usize,
    /// Comparisons that the first wins.
    pub wins: usize,
    /// Ties.
    pub ties: usize,
    /// Comparisons that the second wins.
    pub losses: usize,
    /// Share that the first wins, a tie counting half; n counts comparisons. Wilson's interval for as many
    /// trials as there are prompts.
    pub rate: Figure,
    /// By how much the first is stronger, in log odds by Davidson's model, whomever both met; n counts the
    /// prompts of their group. They differ where the interval does not hold 0. Null where some model of the
    /// group never lost, so that the prior would say it.
    pub difference: Figure,
}

/// Models on prompts of a category.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct CategoryModels {
    /// The category.
    pub category: String,
    /// Prompts.
    pub n_prompts: usize,
    /// Rankings.
    pub n_rankings: usize,
    /// Whether some model never lost there, so that only a weak prior says how much better it is.
    pub is_undetermined: bool,
    /// The models that were ranked there, as in the whole.
    pub models: Vec<ModelFigures>,
}

impl Models {
    /// From what was said.
    pub fn of(labels: &Labels) -> Self {
        let own: Vec<&Label> = labels.labels().collect();
        let fitted = Fitted::of(labels, &own);
        let rates = WinRates::of(&fitted.comparisons);
        // The models of the list, by number.
        let order: Vec<usize> = fitted.order();
        let mut pairs: Vec<PairOfModels> = Vec::new();
        for (first, a) in order.iter().enumerate() {
            for (second, b) in order.iter().enumerate().skip(first + 1) {
                let Some(rate) = rates.pair(*a, *b) else {
                    continue;
                };
                pairs.push(PairOfModels {
                    first,
                    second,
                    wins: rate.wins,
                    ties: rate.ties,
                    losses: rate.losses,
                    rate: figure(&rate),
                    difference: fitted.difference(*a, *b),
                });
            }
        }
        pairs.sort_by_key(|pair| std::cmp::Reverse(pair.rate.n_prompts));
        pairs.truncate(MOST_PAIRS);
        Self {
            n_rankings: own.len(),
            n_prompts: fitted.n_prompts,
            newest: labels.newest(),
            is_cut: labels.is_cut,
            fewest: FEWEST,
            n_groups: fitted.groups.len(),
            ties: fitted.groups.iter().map(Group::ties).collect(),
            is_undetermined: fitted.groups.iter().any(Group::is_undetermined),
            models: fitted.figures(&rates),
            pairs,
            categories: categories(labels, &own),
        }
    }
}

fn categories(labels: &Labels, own: &[&Label]) -> Vec<CategoryModels> {
    let mut parts: BTreeMap<&str, Vec<&Label>> = BTreeMap::new();
    for label in own {
        let category = labels.categories[label.prompt].as_str();
        parts.entry(category).or_default().push(label);
    }
    let parts = parts.into_iter().map(|(category, own)| {
        let fitted = Fitted::of(labels, &own);
        CategoryModels {
            category: category.to_owned(),
            n_prompts: fitted.n_prompts,
            n_rankings: own.len(),
            is_undetermined: fitted.groups.iter().any(Group::is_undetermined),
            models: fitted.figures(&WinRates::of(&fitted.comparisons)),
        }
    });
    parts.filter(|part| part.n_prompts >= FEWEST).collect()
}

fn figure(rate: &WinRate) -> Figure {
    Figure::of(Some(rate.rate), rate.n_prompts)
}

/// Models that were compared with each other.
struct Group {
    members: Vec<usize>,
    davidson: Option<Strengths>,
    plackett_luce: Option<Strengths>,
}

/// Fits to some rankings.
struct Fitted<'a> {
    labels: &'a Labels,
    comparisons: Vec<Comparison>,
    /// Rankings that each model is in, by number.
    n_rankings: Vec<usize>,
    n_prompts: usize,
    groups: Vec<Group>,
}

impl<'a> Fitted<'a> {
    fn of(labels: &'a Labels, own: &[&Label]) -> Self {
        let rankings: Vec<ItemRanking> = own.iter().map(|label| items(labels, label)).collect();
        let comparisons: Vec<Comparison> =
            rankings.iter().flat_map(|own| own.comparisons()).collect();
        let mut n_rankings = vec![0; labels.models.len()];
        for ranking in &rankings {
            let mut seen: Vec<usize> = ranking.ranks.iter().map(|(item, _)| *item).collect();
            seen.sort_unstable();
            seen.dedup();
            seen.into_iter().for_each(|item| n_rankings[item] += 1);
        }
        let mut prompts: Vec<usize> = own.iter().map(|label| label.prompt).collect();
        prompts.sort_unstable();
        prompts.dedup();
        let whole: Vec<usize> = (0..labels.models.len()).collect();
        let groups = match davidson(&comparisons, &settings()) {
            Err(Unfit::Disconnected(groups)) => {
                let mut groups: Vec<Group> = groups
                    .into_iter()
                    .map(|members| Group::of(members, &comparisons, &rankings))
                    .collect();
                groups.sort_by_key(|own| std::cmp::Reverse(own.n_prompts()));
                groups
            }
            Err(Unfit::TooFew) => Vec::new(),
            found => vec![Group {
                davidson: found.ok(),
                plackett_luce: plackett_luce(&rankings, &settings()).ok(),
                members: whole,
            }],
        };
        Self {
            labels,
            comparisons,
            n_rankings,
            n_prompts: prompts.len(),
            groups,
        }
    }

    /// Numbers of all models that were ranked, the strongest of a group first; last those that were
    /// compared with no other.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = Vec::new();
        for group in &self.groups {
            let mut members: Vec<usize> = group.members.clone();
            members.retain(|own| self.n_rankings[*own] > 0);
            let strength = |own: usize| group.strength(own).unwrap_or(f64::NEG_INFINITY);
            members.sort_by(|a, b| strength(*b).total_cmp(&strength(*a)));
            order.extend(members);
        }
        let rest = (0..self.n_rankings.len()).filter(|own| self.n_rankings[*own] > 0);
        let rest: Vec<usize> = rest.filter(|own| !order.contains(own)).collect();
        order.extend(rest);
        order
    }

    /// By how much one model is stronger than another.
    fn difference(&self, first: usize, second: usize) -> Figure {
        let is_in = |group: &&Group| group.members.contains(&first);
        let group = self.groups.iter().find(is_in);
        let fit = group.filter(|own| !own.is_undetermined());
        let fit = fit.and_then(|own| own.davidson.as_ref());
        let difference = fit.and_then(|own| own.difference(first, second));
        Figure::of(difference, fit.map_or(0, |own| own.n_prompts))
    }

    fn figures(&self, rates: &WinRates) -> Vec<ModelFigures> {
        let figures = self.order().into_iter().map(|number| {
            let model = &self.labels.models[number];
            let place = self
                .groups
                .iter()
                .position(|own| own.members.contains(&number));
            let group = place.map(|place| &self.groups[place]);
            let rate = rates.item(number);
            let n_prompts = rate.map_or(0, |own| own.n_prompts);
            let strength = |fit: Option<&Strengths>| {
                let found = fit.and_then(|fit| fit.item(number));
                let figure = Figure::of(found.map(|own| own.value), n_prompts);
                match fit {
                    // A resample of it is as much the prior's.
                    Some(fit) if !fit.is_determined => Figure {
                        low: None,
                        high: None,
                        ..figure
                    },
                    _ => figure,
                }
            };
            ModelFigures {
                name: model.name.clone(),
                checkpoint_id: model.checkpoint_id,
                group: place.unwrap_or(self.groups.len()) + 1,
                n_rankings: self.n_rankings[number],
                win_rate: rate.map(figure).unwrap_or_default(),
                is_determined: group.is_some_and(|own| !own.is_undetermined()),
                davidson: strength(group.and_then(|own| own.davidson.as_ref())),
                plackett_luce: strength(group.and_then(|own| own.plackett_luce.as_ref())),
            }
        });
        figures.collect()
    }
}

impl Group {
    fn of(members: Vec<usize>, comparisons: &[Comparison], rankings: &[ItemRanking]) -> Self {
        let is_member = |item: usize| members.contains(&item);
        let own = comparisons.iter().filter(|own| is_member(own.preferred));
        let own: Vec<Comparison> = own.copied().collect();
        let rankings = rankings.iter().map(|own| ItemRanking {
            prompt: own.prompt,
            ranks: own
                .ranks
                .iter()
                .copied()
                .filter(|(item, _)| is_member(*item))
                .collect(),
        });
        let rankings: Vec<ItemRanking> = rankings.collect();
        Self {
            davidson: davidson(&own, &settings()).ok(),
            plackett_luce: plackett_luce(&rankings, &settings()).ok(),
            members,
        }
    }

    fn n_prompts(&self) -> usize {
        self.davidson.as_ref().map_or(0, |own| own.n_prompts)
    }

    fn strength(&self, number: usize) -> Option<f64> {
        let fit = self.davidson.as_ref().or(self.plackett_luce.as_ref())?;
        Some(fit.item(number)?.value.value)
    }

    fn ties(&self) -> Figure {
        let ties = self.davidson.as_ref().and_then(|own| own.ties);
        Figure::of(ties, self.n_prompts())
    }

    fn is_undetermined(&self) -> bool {
        let fits = [self.davidson.as_ref(), self.plackett_luce.as_ref()];
        fits.into_iter().flatten().any(|own| !own.is_determined)
    }
}

fn settings() -> Settings {
    Settings::new(SEED)
}

/// A ranking of models; what could not be judged is left out.
fn items(labels: &Labels, label: &Label) -> ItemRanking {
    let ranked = label
        .said
        .iter()
        .filter_map(|said| Some((labels.completions[said.completion].model, said.rank?)));
    ItemRanking {
        prompt: label.prompt,
        ranks: ranked.collect(),
    }
}

#[cfg(test)]
mod tests;
