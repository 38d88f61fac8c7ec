//! How strong items are, such as the models behind the completions, from comparisons and rankings.
//!
//! - [`bradley_terry`]: pairs; the odds that a is preferred to b are exp(a - b).
//! - [`davidson`]: the same where ties say something of their own.
//! - [`plackett_luce`]: whole rankings, as choices of the best of what is left.
//! - [`WinRates`]: what was counted, without a model.
//!
//! Strengths are log odds with the mean 0 over the items. All three models are fitted the same way:
//! the likelihood is that of choices among a few options, which is concave, so Newton's method
//! finds its one maximum; the same that Hunter's MM steps (Annals of Statistics 2004) approach, but
//! in few steps, so that a bootstrap of a thousand fits takes no time. A weak Gaussian prior keeps
//! it finite ([`Settings::prior`]).
//!
//! Items that nothing connects cannot be compared: then there is no fit but
//! [`Unfit::Disconnected`]. Items are few: the work of a fit grows with their third power.

mod choice;
mod plackett_luce;
mod win_rates;

use std::collections::BTreeSet;

use serde::Serialize;

pub use self::plackett_luce::{LONGEST_TIE, plackett_luce};
pub use self::win_rates::{WinRate, WinRates};

use self::choice::{Builder, Choices};
use super::interval::{Bootstrap, Estimate, percentiles};
use super::labels::Comparison;

/// Most items of a fit.
pub const MOST_ITEMS: usize = 500;

/// How a fit is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Precision of the Gaussian prior around 0 on each strength: 1 / variance. 0 is maximum
    /// likelihood, which has no solution where some items never lose to the others
    /// ([`Unfit::Undetermined`]).
    pub prior: f64,
    /// For the intervals; resamples prompts.
    pub bootstrap: Bootstrap,
}

impl Settings {
    /// The precision that does not say otherwise: a standard deviation of 10 in log odds, which a
    /// handful of comparisons outweighs.
    pub const PRIOR: f64 = 0.01;

    /// With the usual prior and 1,000 resamples.
    pub fn new(seed: u64) -> Self {
        Self {
            prior: Self::PRIOR,
            bootstrap: Bootstrap::new(seed),
        }
    }
}

/// Why there are no strengths.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// There are no two items that were compared.
    #[error("no two items were compared")]
    TooFew,
    /// There are more than [`MOST_ITEMS`].
    #[error("there are more than {MOST_ITEMS} items")]
    TooMany,
    /// These groups of items were never compared with each other, so nothing tells which is better.
    #[error("groups of items were never compared with each other: {0:?}")]
    Disconnected(Vec<Vec<usize>>),
    /// Without a prior: some items never lost to the others, so they would be infinitely better.
    #[error(
        "some items never lost to the others, so only a prior can tell by how much they are better"
    )]
    Undetermined,
    /// Davidson's model needs a comparison that is not a tie.
    #[error("every comparison is a tie")]
    OnlyTies,
    /// A ranking ties more items than [`LONGEST_TIE`].
    #[error("a ranking ties more than {LONGEST_TIE} items")]
    TieTooLong,
    /// The prior is negative or not a number, or the fit does not end.
    #[error("the fit does not end")]
    NoEnd,
}

/// What a tie counts in [`bradley_terry`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ties {
    /// Nothing.
    LeftOut,
    /// Half a win for each.
    Half,
}

/// The strength of an item.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Strength {
    /// Which item.
    pub item: usize,
    /// Its log odds against an item of the mean strength. n counts its comparisons, or its rankings
    /// for [`plackett_luce`]. The interval is a percentile bootstrap over prompts; two items are
    /// told apart by [`Strengths::difference`], not by whether their intervals overlap.
    pub value: Estimate,
}

/// Strengths of items that were compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Strengths {
    /// All items that were compared with another one, in ascending order.
    pub items: Vec<Strength>,
    /// Davidson's ν: how often items of the same strength tie, as odds of a tie against either
    /// winning; n counts comparisons. None for the other models.
    pub ties: Option<Estimate>,
    /// Prompts that say something.
    pub n_prompts: usize,
    /// Comparisons, or rankings for [`plackett_luce`].
    pub n: usize,
    /// Whether the data alone tell all strengths. Where they do not, because some items never lost
    /// to the others, only the prior says how much better those are.
    pub is_determined: bool,
    /// Resamples that the intervals rest on. Fewer than asked for where some told nothing of an
    /// item.
    pub n_resamples: usize,
    resamples: usize,
    fitted: Fitted,
    /// The fits of the resamples.
    drawn: Vec<Fitted>,
}

/// What one fit says.
#[derive(Debug, Clone, PartialEq)]
struct Fitted {
    /// By the place of the item; with the mean 0.
    strengths: Vec<f64>,
    /// ν; 0 for models without ties.
    ties: f64,
}

impl Fitted {
    /// The chance that the first is preferred, a tie counting half.
    fn probability(&self, first: usize, second: usize) -> f64 {
        let difference = self.strengths[first] - self.strengths[second];
        let (win, loss) = ((difference / 2.0).exp(), (-difference / 2.0).exp());
        // Past the range of numbers one of the two is certain.
        if win.is_infinite() || loss.is_infinite() {
            return if win > loss { 1.0 } else { 0.0 };
        }
        (win + self.ties / 2.0) / (win + loss + self.ties)
    }
}

impl Strengths {
    /// The strength of an item; none where it was compared with none.
    pub fn item(&self, item: usize) -> Option<&Strength> {
        self.place(item).map(|place| &self.items[place])
    }

    /// By how much the first is stronger than the second, in log odds; n counts prompts. They
    /// differ where the interval does not hold 0.
    pub fn difference(&self, first: usize, second: usize) -> Option<Estimate> {
        self.told(first, second, |fitted, first, second| {
            fitted.strengths[first] - fitted.strengths[second]
        })
    }

    /// How probable it is that the first is preferred to the second, a tie counting half; n counts
    /// prompts.
    pub fn win_probability(&self, first: usize, second: usize) -> Option<Estimate> {
        self.told(first, second, Fitted::probability)
    }

    fn place(&self, item: usize) -> Option<usize> {
        let found = self.items.binary_search_by_key(&item, |own| own.item);
        found.ok()
    }

    fn told(
        &self,
        first: usize,
        second: usize,
        figure: impl Fn(&Fitted, usize, usize) -> f64,
    ) -> Option<Estimate> {
        let (first, second) = (self.place(first)?, self.place(second)?);
        let drawn = self
            .drawn
            .iter()
            .map(|fitted| figure(fitted, first, second));
        let interval = percentiles(drawn.collect(), self.resamples);
        Estimate::new(
            figure(&self.fitted, first, second),
            interval,
            self.n_prompts,
        )
    }
}

/// Strengths by Bradley and Terry (1952).
///
/// # Errors
/// See [`Unfit`].
pub fn bradley_terry(
    comparisons: &[Comparison],
    ties: Ties,
    settings: &Settings,
) -> Result<Strengths, Unfit> {
    let is_counted = |own: &&Comparison| !own.is_tie || ties == Ties::Half;
    let counted: Vec<&Comparison> = of_two_items(comparisons).filter(is_counted).collect();
    let mut choices = Builder::new(items(&counted), false);
    for own in counted {
        let pair = [own.preferred, own.other];
        if own.is_tie {
            choices.choose(own.prompt, &pair, &pair.map(|item| (item, 0.5)));
        } else {
            choices.choose(own.prompt, &pair, &[(own.preferred, 1.0)]);
        }
        choices.count(pair.into_iter());
    }
    fit(&choices.done(), settings)
}

/// Strengths by Davidson (1970): a and b tie with odds of ν·√(exp(a)·exp(b)) against exp(a) and
/// exp(b), and ν is estimated too.
///
/// # Errors
/// See [`Unfit`].
pub fn davidson(comparisons: &[Comparison], settings: &Settings) -> Result<Strengths, Unfit> {
    let counted: Vec<&Comparison> = of_two_items(comparisons).collect();
    let mut choices = Builder::new(items(&counted), true);
    for own in counted {
        let pair = [own.preferred, own.other];
        if own.is_tie {
            choices.tie(own.prompt, own.preferred, own.other);
        } else {
            choices.choose(own.prompt, &pair, &[(own.preferred, 1.0)]);
        }
        choices.count(pair.into_iter());
    }
    fit(&choices.done(), settings)
}

fn of_two_items(comparisons: &[Comparison]) -> impl Iterator<Item = &Comparison> {
    comparisons.iter().filter(|own| own.preferred != own.other)
}

fn items(comparisons: &[&Comparison]) -> BTreeSet<usize> {
    let both = comparisons.iter();
    both.flat_map(|own| [own.preferred, own.other]).collect()
}

/// The strengths that the choices tell.
fn fit(choices: &Choices, settings: &Settings) -> Result<Strengths, Unfit> {
    if choices.items.len() < 2 {
        return Err(Unfit::TooFew);
    }
    if choices.items.len() > MOST_ITEMS {
        return Err(Unfit::TooMany);
    }
    let prior = settings.prior;
    if !(prior >= 0.0 && prior.is_finite()) {
        return Err(Unfit::NoEnd);
    }
    let n_prompts = choices.n_prompts();
    let total = choices.total(0..n_prompts);
    let groups = choices.groups(&total);
    if groups.len() > 1 {
        let of = |group: Vec<usize>| {
            group
                .into_iter()
                .map(|place| choices.items[place])
                .collect()
        };
        return Err(Unfit::Disconnected(groups.into_iter().map(of).collect()));
    }
    if !choices.has_strict(&total) {
        return Err(Unfit::OnlyTies);
    }
    let is_determined = choices.is_determined(&total);
    if prior == 0.0 && !is_determined {
        return Err(Unfit::Undetermined);
    }
    let start = vec![0.0; choices.n_parameters()];
    let best = choices
        .maximise(&total, &start, prior)
        .ok_or(Unfit::NoEnd)?;
    let mut drawn: Vec<Fitted> = Vec::new();
    let bootstrap = &settings.bootstrap;
    bootstrap.resample("strengths", 0, n_prompts, |prompts| {
        let total = choices.total(prompts.iter().map(|prompt| *prompt as usize));
        let is_told = choices.groups(&total).len() == 1
            && (prior > 0.0 || choices.is_determined(&total))
            && choices.has_strict(&total);
        let found = is_told.then(|| choices.maximise(&total, &best, prior));
        drawn.extend(found.flatten().map(|found| fitted(choices, &found)));
    });
    let fitted = fitted(choices, &best);
    let estimate = |n: usize, figure: &dyn Fn(&Fitted) -> f64| {
        let interval = percentiles(drawn.iter().map(figure).collect(), bootstrap.resamples);
        Estimate::new(figure(&fitted), interval, n).ok_or(Unfit::NoEnd)
    };
    let n = choices.n;
    let items = choices.items.iter().enumerate();
    let items = items.map(|(place, item)| {
        let n = choices.times[place];
        let value = estimate(n, &|fitted| fitted.strengths[place])?;
        Ok(Strength { item: *item, value })
    });
    let items = items.collect::<Result<_, Unfit>>()?;
    let ties = choices.has_ties.then(|| estimate(n, &|fitted| fitted.ties));
    Ok(Strengths {
        items,
        ties: ties.transpose()?,
        n_prompts,
        n,
        is_determined,
        n_resamples: drawn.len(),
        resamples: bootstrap.resamples,
        fitted,
        drawn,
    })
}

fn fitted(choices: &Choices, parameters: &[f64]) -> Fitted {
    let n = choices.items.len();
    let mean = parameters[..n].iter().sum::<f64>() / n as f64;
    Fitted {
        strengths: parameters[..n].iter().map(|own| own - mean).collect(),
        ties: parameters.get(n).map_or(0.0, |log| log.exp()),
    }
}

#[cfg(test)]
mod tests;
