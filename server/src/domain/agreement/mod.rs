//! How far labelers agree, how well and how fast each works, and what decides besides the texts: all
//! figures of a project, from what labelers said. A figure that would rest on too few prompts is not
//! told: see [`FEWEST`].

mod figure;
mod flags;
mod labelers;
mod position;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

pub use self::figure::{Chance, FEWEST, Figure, Shares};
pub use self::flags::{FlagFigures, FlagLabeler};
pub use self::labelers::{History, LabelerFigures, PairFigures};
pub use self::position::{Positions, Slot, Table};

use crate::domain::labels::{Label, Labels};
use crate::domain::task::Purpose;
use crate::stats::agreement::Agreed;
use crate::stats::correlation::kendall_w;
use crate::stats::interval::Bootstrap;
use crate::stats::labels::{Ranking, Rating};
use crate::stats::length::LengthBias;
use crate::stats::median::median;
use crate::stats::reliability::{Alpha, Scale, alpha_of_ranks, krippendorff_alpha_by};

/// Decides the resamples of every interval: the same labels give the same figures.
const SEED: u64 = 1;

/// Pairs of labelers that are told; those that share most prompts.
const MOST_PAIRS: usize = 1000;

/// All figures.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Agreement {
    /// Rankings that the figures rest on: the newest version of each, without gold tasks, repeats and
    /// decisions of admins.
    pub n_rankings: usize,
    /// Prompts that they are of.
    pub n_prompts: usize,
    /// Rankings of gold tasks.
    pub n_gold: usize,
    /// Rankings of repeated tasks.
    pub n_repeats: usize,
    /// Decisions of admins between conflicting rankings.
    pub n_adjudications: usize,
    /// When the newest ranking that passes the filter was given.
    pub newest: Option<DateTime<Utc>>,
    /// Whether there are older rankings that were not read, because there are too many.
    pub is_cut: bool,
    /// Active seconds under which a ranking is called too fast.
    pub least_seconds: i16,
    /// Fewest prompts, or rankings, that a figure is told from; its value is null below that.
    pub fewest: usize,
    /// Of all labelers together.
    pub overall: Overall,
    /// By week of the last ranking of each prompt; named by its Monday, UTC.
    pub weeks: Vec<Part>,
    /// By category of the prompt.
    pub categories: Vec<Part>,
    /// By version of the form that both labelers had.
    pub form_versions: Vec<Part>,
    /// Each labeler.
    pub labelers: Vec<LabelerFigures>,
    /// Two labelers each, those that share most prompts first; 1,000 at most.
    pub pairs: Vec<PairFigures>,
    /// Each flag that was answered, the most often answered first.
    pub flags: Vec<FlagFigures>,
    /// Whether the place on the page decides.
    pub position: Positions,
}

/// Figures of all labelers together.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Overall {
    /// How often two labelers order two completions alike, and Kendall's tau-b.
    pub agreement: Shares,
    /// Kendall's W, the mean over tasks that three or more labelers ranked; n counts tasks. At random it
    /// would be 1 / labelers.
    pub w: Figure,
    /// Krippendorff's ordinal alpha of ranks; n counts completions.
    pub alpha_of_ranks: Figure,
    /// Krippendorff's ordinal alpha of the ratings on each scale; the first is the overall rating.
    pub alpha_of_ratings: Vec<ScaleAlpha>,
    /// Share of pairs of a ranking that are tied.
    pub ties: Figure,
    /// Share of rankings of more than two whose ranks are the order shown, first to last.
    pub untouched: Figure,
    /// Share of rankings that took less than `least_seconds` until first submitted: of active time, or since
    /// the page was opened where that is less.
    pub too_fast: Figure,
    /// Median of active seconds; n counts rankings whose time was counted.
    pub seconds: Figure,
    /// Share of pairs, of different rank and length, in which the longer one is preferred.
    pub longer: Figure,
}

/// Krippendorff's alpha of the ratings on a scale; n counts completions that two or more labelers rated.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ScaleAlpha {
    /// Key of the scale in the form; `overall` for the overall rating.
    pub scale: String,
    /// Alpha.
    pub alpha: Figure,
}

/// Figures of some of the rankings.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Part {
    /// Which part: a Monday, a category, a version.
    pub name: String,
    /// Rankings.
    pub n_rankings: usize,
    /// How far two labelers agree.
    pub agreement: Shares,
    /// Share of pairs of a ranking that are tied.
    pub ties: Figure,
    /// Median of active seconds.
    pub seconds: Figure,
}

impl Agreement {
    /// From what was said. Takes a second or two for the most rankings that are read.
    pub fn of(labels: &Labels, least_seconds: i16) -> Self {
        let sample = Sample::new(labels);
        let n = |purpose| labels.of(purpose).count();
        let own: Vec<&Label> = sample.own.clone();
        let (labelers, mut pairs) = sample.labelers();
        pairs.truncate(MOST_PAIRS);
        let mut prompts: Vec<usize> = own.iter().map(|label| label.prompt).collect();
        prompts.sort_unstable();
        prompts.dedup();
        Self {
            n_rankings: own.len(),
            n_prompts: prompts.len(),
            n_gold: n(Purpose::Gold),
            n_repeats: n(Purpose::Repeat),
            n_adjudications: labels
                .labels
                .iter()
                .filter(|label| label.is_adjudication)
                .count(),
            newest: labels.newest(),
            is_cut: labels.is_cut,
            least_seconds,
            fewest: FEWEST,
            overall: sample.overall(),
            weeks: sample.weeks(&own),
            categories: sample.parts(&own, |label| labels.categories[label.prompt].clone()),
            form_versions: {
                let mut parts = sample.parts(&own, |label| label.form_version);
                parts.reverse();
                parts
            },
            labelers,
            pairs,
            flags: sample.flags(),
            position: Positions::of(&own),
        }
    }
}

/// What was said, ready for the statistics.
struct Sample<'a> {
    labels: &'a Labels,
    /// Rankings for the dataset.
    own: Vec<&'a Label>,
    /// Completions of each prompt.
    places: Vec<usize>,
    bootstrap: Bootstrap,
}

impl<'a> Sample<'a> {
    fn new(labels: &'a Labels) -> Self {
        Self {
            labels,
            own: labels.labels().collect(),
            places: labels.places(),
            bootstrap: Bootstrap::new(SEED),
        }
    }

    fn rankings(&self, labels: &[&Label]) -> Vec<Ranking> {
        let ranking = |label: &&Label| self.labels.ranking(label, &self.places);
        labels.iter().map(ranking).collect()
    }

    fn overall(&self) -> Overall {
        let rankings = self.rankings(&self.own);
        let alpha = alpha_of_ranks(&rankings, &self.bootstrap);
        Overall {
            agreement: Shares::of(&Agreed::of(&rankings, &self.bootstrap)),
            w: self.concordance(),
            alpha_of_ranks: figure_of_alpha(alpha),
            alpha_of_ratings: self.alphas(),
            ties: self.ties(&self.own, "ties", 0),
            untouched: self.untouched(&self.own, "untouched", 0),
            too_fast: self.too_fast(&self.own, "too fast", 0),
            seconds: self.seconds(&self.own),
            longer: {
                let found = LengthBias::of(&rankings, self.lengths(), &self.bootstrap);
                let n_prompts = found.as_ref().map_or(0, |found| found.n_prompts);
                Figure::of(found.map(|found| found.overall), n_prompts)
            },
        }
    }

    /// The length of each completion by prompt and place.
    fn lengths(&self) -> impl Fn(usize, usize) -> Option<usize> + use<> {
        let mut lengths: Vec<Vec<usize>> = self.places.iter().map(|n| vec![0; *n]).collect();
        for own in &self.labels.completions {
            lengths[own.prompt][own.place] = own.length;
        }
        move |prompt, place| lengths.get(prompt)?.get(place).copied()
    }

    /// Kendall's W over tasks.
    fn concordance(&self) -> Figure {
        let mut tasks: BTreeMap<_, Vec<&Label>> = BTreeMap::new();
        for label in &self.own {
            tasks.entry(label.task).or_default().push(label);
        }
        let found = tasks.values().filter_map(|own| {
            let ranks: Vec<_> = self
                .rankings(own)
                .into_iter()
                .map(|own| own.ranks)
                .collect();
            Some(kendall_w(&ranks)?.w)
        });
        let found: Vec<f64> = found.collect();
        Figure::of_units(self.bootstrap.mean("concordance", 0, &found))
    }

    fn alphas(&self) -> Vec<ScaleAlpha> {
        let mut ratings: Vec<Vec<Rating>> = vec![Vec::new(); self.labels.scales.len()];
        // Oldest first: of two ratings by one labeler the later one counts.
        for label in self.own.iter().rev() {
            for said in &label.said {
                for (scale, value) in &said.scales {
                    ratings[*scale].push(Rating {
                        unit: said.completion,
                        labeler: label.labeler,
                        value: i32::from(*value),
                    });
                }
            }
        }
        let scales = self.labels.scales.iter().zip(ratings);
        let alpha = |(scale, ratings): (&String, Vec<Rating>)| {
            let prompt = |unit: usize| self.labels.completions[unit].prompt;
            let found = krippendorff_alpha_by(&ratings, Scale::Ordinal, prompt, &self.bootstrap);
            ScaleAlpha {
                scale: scale.clone(),
                alpha: figure_of_alpha(found),
            }
        };
        scales.map(alpha).collect()
    }

    /// A share of a whole, by prompt.
    fn share(
        &self,
        labels: &[&Label],
        (name, index): (&str, u64),
        count: impl Fn(&Label) -> (f64, f64),
    ) -> Figure {
        let mut prompts: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
        for label in labels {
            let (part, whole) = count(label);
            let sum = prompts.entry(label.prompt).or_default();
            *sum = (sum.0 + part, sum.1 + whole);
        }
        let prompts: Vec<(f64, f64)> = prompts.into_values().filter(|own| own.1 > 0.0).collect();
        Figure::of(self.bootstrap.share(name, index, &prompts), prompts.len())
    }

    fn ties(&self, labels: &[&Label], name: &str, index: u64) -> Figure {
        self.share(labels, (name, index), |label| {
            let (ties, pairs) = label.ties();
            (ties as f64, pairs as f64)
        })
    }

    fn untouched(&self, labels: &[&Label], name: &str, index: u64) -> Figure {
        self.share(labels, (name, index), |label| sign(label.is_untouched))
    }

    fn too_fast(&self, labels: &[&Label], name: &str, index: u64) -> Figure {
        self.share(labels, (name, index), |label| sign(label.is_too_fast))
    }

    fn seconds(&self, labels: &[&Label]) -> Figure {
        let times = labels.iter().filter_map(|label| label.active_ms);
        let times: Vec<f64> = times.map(|time| time as f64 / 1000.0).collect();
        Figure::of_units(median(&times))
    }

    fn part(&self, name: String, labels: &[&Label]) -> Part {
        Part {
            name,
            n_rankings: labels.len(),
            agreement: Shares::of(&Agreed::of(&self.rankings(labels), &self.bootstrap)),
            ties: self.ties(labels, "ties", 0),
            seconds: self.seconds(labels),
        }
    }

    /// Parts by what a function says of each ranking, in its order.
    fn parts<K: Ord + ToString>(&self, labels: &[&Label], key: impl Fn(&Label) -> K) -> Vec<Part> {
        let mut parts: BTreeMap<K, Vec<&Label>> = BTreeMap::new();
        for label in labels {
            parts.entry(key(label)).or_default().push(label);
        }
        let parts = parts.into_iter();
        parts
            .map(|(key, own)| self.part(key.to_string(), &own))
            .collect()
    }

    /// By week, oldest first. All rankings of a prompt count in the week of the last one, so that no two
    /// that can be compared are parted.
    fn weeks(&self, labels: &[&Label]) -> Vec<Part> {
        let mut last = BTreeMap::new();
        for label in labels {
            let week = last.entry(label.prompt).or_insert_with(|| label.week());
            *week = label.week().max(*week);
        }
        self.parts(labels, |label| last[&label.prompt])
    }
}

/// Alpha, told where there are prompts enough.
fn figure_of_alpha(found: Option<Alpha>) -> Figure {
    let n_prompts = found.map_or(0, |found| found.n_clusters);
    Figure::of(found.map(|found| found.estimate), n_prompts)
}

/// What a ranking adds to the share of those that bear a sign: the part and the whole.
fn sign(is_set: Option<bool>) -> (f64, f64) {
    is_set.map_or((0.0, 0.0), |own| (f64::from(u8::from(own)), 1.0))
}

#[cfg(test)]
mod tests;
