//! Each labeler, and each two.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use utoipa::ToSchema;

use super::figure::{Figure, Shares};
use super::position::Positions;
use super::{Chance, Part, SEED, Sample};
use crate::domain::gold::{GoldScore, Tally};
use crate::domain::ids::AccountId;
use crate::domain::labels::{Label, Labels};
use crate::domain::task::Purpose;
use crate::stats::agreement::{Agreed, Agreement};
use crate::stats::crowd_bt::{Priors, Quality, crowd_bt};
use crate::stats::interval::Bootstrap;
use crate::stats::labels::Ranking;
use crate::stats::length::LengthBias;

/// The number of what is known to be right, among labelers.
const RIGHT: usize = usize::MAX;

/// A labeler.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct LabelerFigures {
    /// Whose account.
    #[schema(value_type = String, format = Uuid)]
    pub labeler_id: AccountId,
    /// The name shown.
    pub name: String,
    /// Whether it is a program.
    pub is_simulated: bool,
    /// Rankings.
    pub n_rankings: usize,
    /// How far this labeler agrees with all others.
    pub agreement: Shares,
    /// How probably this labeler orders a pair as it truly is where they do not tie it, by the Crowd-BT model:
    /// 0.5 is who guesses. Null, too, where the data cannot tell it: of two labelers who met nobody else, only
    /// how often they agree is known.
    pub quality: Figure,
    /// Share of pairs that are known of gold tasks, and that this labeler ranked, which they order rightly in the
    /// first version; a tie is half right. n counts pairs; tasks are resampled.
    pub gold: Figure,
    /// Share of flags that are known of gold tasks which this labeler answered in the same way, in the first
    /// version; n counts flags.
    pub gold_flags: Figure,
    /// How far this labeler agrees with what they said of the same task before, both in the first version.
    pub repeats: Shares,
    /// Share of pairs that are tied.
    pub ties: Figure,
    /// Share of rankings of more than two whose ranks are the order shown.
    pub untouched: Figure,
    /// Share of rankings that took less than the project's least seconds.
    pub too_fast: Figure,
    /// Median of active seconds.
    pub seconds: Figure,
    /// Share of pairs in which the longer one is preferred.
    pub longer: Figure,
    /// Whether the place on the page decides who comes first; null where there are too few rankings.
    pub position: Option<Chance>,
    /// Rankings that `position` rests on.
    pub n_position: usize,
}

/// Two labelers.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct PairFigures {
    /// One.
    #[schema(value_type = String, format = Uuid)]
    pub first_id: AccountId,
    /// Their name.
    pub first: String,
    /// The other.
    #[schema(value_type = String, format = Uuid)]
    pub second_id: AccountId,
    /// Their name.
    pub second: String,
    /// How far they agree.
    pub agreement: Shares,
}

/// More of one labeler.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct History {
    /// Agreement with the others by week of the last ranking of each prompt.
    pub weeks: Vec<Part>,
    /// Agreement with the others by category.
    pub categories: Vec<Part>,
    /// Whether the place on the page decides.
    pub position: Positions,
}

impl History {
    /// From what was said; `labeler` is a number of [`Labels::labelers`].
    pub fn of(labels: &Labels, labeler: usize) -> Self {
        let sample = Sample::new(labels);
        let own = sample.own.iter().copied();
        let own: Vec<&Label> = own.filter(|label| label.labeler == labeler).collect();
        let mut is_seen = vec![false; sample.places.len()];
        own.iter().for_each(|label| is_seen[label.prompt] = true);
        let around = sample.own.iter().copied();
        let around: Vec<&Label> = around.filter(|label| is_seen[label.prompt]).collect();
        let part = |(name, around): (String, Vec<&Label>)| {
            let own = around.iter().copied();
            let own: Vec<&Label> = own.filter(|label| label.labeler == labeler).collect();
            let found = Agreement::of(&sample.rankings(&around), &sample.bootstrap);
            let agreed = found.labeler(labeler).map(Shares::of);
            Part {
                agreement: agreed.unwrap_or_default(),
                ..sample.part(name, &own)
            }
        };
        let mut weeks: BTreeMap<_, _> = BTreeMap::new();
        for label in &around {
            let week = weeks.entry(label.prompt).or_insert_with(|| label.week());
            *week = label.week().max(*week);
        }
        let by = |key: &dyn Fn(&Label) -> String| {
            let mut parts: BTreeMap<String, Vec<&Label>> = BTreeMap::new();
            for label in &around {
                parts.entry(key(label)).or_default().push(label);
            }
            parts.into_iter().map(part).collect()
        };
        Self {
            weeks: by(&|label| weeks[&label.prompt].to_string()),
            categories: by(&|label| labels.categories[label.prompt].clone()),
            position: Positions::of(&own),
        }
    }
}

/// Two rankings of the same completions that are not of two labelers who happened to meet: one of
/// a labeler and what it is held against.
struct Held {
    labeler: usize,
    own: Vec<Option<i16>>,
    against: Vec<Option<i16>>,
}

impl Sample<'_> {
    /// Each labeler by name, and each two by the prompts they share.
    pub(super) fn labelers(&self) -> (Vec<LabelerFigures>, Vec<PairFigures>) {
        let rankings = self.rankings(&self.own);
        let agreement = Agreement::of(&rankings, &self.bootstrap);
        let crowd = crowd_bt(&rankings, &Priors::default());
        let longer = LengthBias::of(&rankings, self.lengths(), &self.bootstrap);
        let gold = self.gold();
        let repeats = self.repeats();
        let mut own: Vec<Vec<&Label>> = vec![Vec::new(); self.labels.labelers.len()];
        for label in &self.own {
            own[label.labeler].push(label);
        }
        let shares = |agreed: Option<&Agreed>| agreed.map(Shares::of).unwrap_or_default();
        let labelers = self.labels.labelers.iter().zip(&own).enumerate();
        let mut labelers: Vec<LabelerFigures> = labelers
            .map(|(number, (labeler, own))| {
                let quality = crowd.as_ref().and_then(|crowd| crowd.labeler(number));
                let longer = longer.as_ref().and_then(|longer| longer.labeler(number));
                let index = number as u64;
                let scores = gold.get(&number).map_or(&[][..], Vec::as_slice);
                let ranks = scores.iter().map(|score| score.ranks);
                let flags = scores.iter().map(|score| score.flags);
                let position = Positions::of(own);
                LabelerFigures {
                    labeler_id: labeler.id,
                    name: labeler.name.clone(),
                    is_simulated: labeler.is_simulated,
                    n_rankings: own.len(),
                    agreement: shares(agreement.labeler(number)),
                    quality: quality.map(quality_of).unwrap_or_default(),
                    gold: self.gold_share("gold", index, ranks),
                    gold_flags: self.gold_share("gold flags", index, flags),
                    repeats: shares(repeats.pair(number, RIGHT)),
                    ties: self.ties(own, "ties of a labeler", index),
                    untouched: self.untouched(own, "untouched by a labeler", index),
                    too_fast: self.too_fast(own, "too fast labeler", index),
                    seconds: self.seconds(own),
                    longer: Figure::of(longer.map(|own| own.0), longer.map_or(0, |own| own.1)),
                    position: position.test,
                    n_position: position.n,
                }
            })
            .collect();
        // Who only decided between the labels of others is no labeler.
        let said = self.labels.labels.iter();
        let said = said.filter(|label| !label.is_adjudication);
        let said: BTreeSet<AccountId> = said
            .map(|label| self.labels.labelers[label.labeler].id)
            .collect();
        labelers.retain(|own| said.contains(&own.labeler_id));
        labelers.sort_by(|a, b| (&a.name, a.labeler_id).cmp(&(&b.name, b.labeler_id)));
        let mut pairs: Vec<_> = agreement.pairs().collect();
        pairs.sort_by_key(|(pair, agreed)| (std::cmp::Reverse(agreed.n_prompts), *pair));
        let pairs = pairs.into_iter().map(|((first, second), agreed)| {
            let (first, second) = (&self.labels.labelers[first], &self.labels.labelers[second]);
            PairFigures {
                first_id: first.id,
                first: first.name.clone(),
                second_id: second.id,
                second: second.name.clone(),
                agreement: Shares::of(agreed),
            }
        });
        (labelers, pairs.collect())
    }

    /// Agreement of each labeler with [`RIGHT`], what their rankings are held against.
    fn against(held: Vec<Held>) -> Agreement {
        // Each two are a prompt of their own: nobody is held against anybody else.
        let each = held.into_iter().enumerate().flat_map(|(prompt, held)| {
            let ranking = |labeler, ranks| Ranking {
                prompt,
                labeler,
                ranks,
            };
            [
                ranking(held.labeler, held.own),
                ranking(RIGHT, held.against),
            ]
        });
        Agreement::of(&each.collect::<Vec<_>>(), &Bootstrap::new(SEED))
    }

    /// How far each label of a gold task agrees with what is known, by labeler.
    fn gold(&self) -> BTreeMap<usize, Vec<GoldScore>> {
        let mut scores: BTreeMap<usize, Vec<GoldScore>> = BTreeMap::new();
        for label in self.labels.of(Purpose::Gold) {
            if let Some(known) = self.labels.gold.get(&label.task) {
                let score = known.score(&self.labels.facts(label));
                scores.entry(label.labeler).or_default().push(score);
            }
        }
        scores
    }

    /// The share of what is known, and was answered, that agrees.
    fn gold_share(&self, name: &str, index: u64, tallies: impl Iterator<Item = Tally>) -> Figure {
        let units = tallies.map(|own| (own.agreed, f64::from(own.n)));
        let units: Vec<(f64, f64)> = units.filter(|own| own.1 > 0.0).collect();
        Figure::of(self.bootstrap.share(name, index, &units), units.len())
    }

    /// With what the same labeler said of the task before.
    fn repeats(&self) -> Agreement {
        let originals = self.labels.originals.iter();
        let originals: BTreeMap<_, &Label> = originals
            .map(|label| ((label.task, label.labeler), label))
            .collect();
        let repeats = self.labels.of(Purpose::Repeat).filter_map(|label| {
            let before = originals.get(&(label.repeat_of?, label.labeler))?;
            let rank = |completion: usize| {
                let said = before
                    .said
                    .iter()
                    .find(|said| said.completion == completion);
                said.and_then(|said| said.rank)
            };
            Some(Held {
                labeler: label.labeler,
                own: label.said.iter().map(|said| said.rank).collect(),
                against: label
                    .said
                    .iter()
                    .map(|said| rank(said.completion))
                    .collect(),
            })
        });
        Self::against(repeats.collect())
    }
}

/// A labeler's quality, told where the data tell it.
fn quality_of(own: &Quality) -> Figure {
    let told = Figure::of(Some(own.eta), own.n_prompts);
    if own.is_identified {
        return told;
    }
    Figure {
        value: None,
        low: None,
        high: None,
        ..told
    }
}
