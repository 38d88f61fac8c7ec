//! Each labeler, and each two.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::figure::{Figure, Shares};
use super::position::Positions;
use super::{Chance, Part, SEED, Sample};
use crate::domain::ids::AccountId;
use crate::domain::labels::{Gold, Label, Labels};
use crate::domain::task::Purpose;
use crate::stats::agreement::{Agreed, Agreement};
use crate::stats::crowd_bt::{Priors, crowd_bt};
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
    /// How probably this labeler orders a pair as it truly is, by the Crowd-BT model: 0.5 is who guesses.
    pub quality: Figure,
    /// How far this labeler agrees with what is known to be right of gold tasks.
    pub gold: Shares,
    /// Share of flags that are known of gold tasks which this labeler answered in the same way; n counts
    /// flags.
    pub gold_flags: Figure,
    /// How far this labeler agrees with what they said of the same task before.
    pub repeats: Shares,
    /// Share of pairs that are tied.
    pub ties: Figure,
    /// Share of rankings whose ranks are the order shown.
    pub untouched: Figure,
    /// Share of rankings that took less than the project's least seconds.
    pub too_fast: Figure,
    /// Median of active seconds.
    pub seconds: Figure,
    /// Share of pairs in which the longer one is preferred.
    pub longer: Figure,
    /// Whether the place on the page decides who comes first; null where there are too few rankings.
    pub position: Option<Chance>,
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
    pub fn of(labels: &Labels, least_seconds: i16, labeler: usize) -> Self {
        let sample = Sample::new(labels, least_seconds);
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
        let (gold, gold_flags) = (self.gold(), self.gold_flags());
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
                LabelerFigures {
                    labeler_id: labeler.id,
                    name: labeler.name.clone(),
                    is_simulated: labeler.is_simulated,
                    n_rankings: own.len(),
                    agreement: shares(agreement.labeler(number)),
                    quality: Figure::of(
                        quality.map(|own| own.eta),
                        quality.map_or(0, |own| own.n_prompts),
                    ),
                    gold: shares(gold.pair(number, RIGHT)),
                    gold_flags: gold_flags.get(&number).copied().unwrap_or_default(),
                    repeats: shares(repeats.pair(number, RIGHT)),
                    ties: self.ties(own, "ties of a labeler", index),
                    untouched: self.untouched(own, "untouched by a labeler", index),
                    too_fast: self.too_fast(own, "too fast labeler", index),
                    seconds: self.seconds(own),
                    longer: Figure::of(longer.copied(), self.n_prompts(own)),
                    position: Positions::of(own).test,
                }
            })
            .collect();
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

    /// With what is known of gold tasks.
    fn gold(&self) -> Agreement {
        let held = self.gold_rankings().map(|(label, known)| {
            let own = label.said.iter().map(|said| said.rank);
            let right = label.said.iter().map(|said| known.get(&said.slot)?.rank);
            Held {
                labeler: label.labeler,
                own: own.collect(),
                against: right.collect(),
            }
        });
        Self::against(held.collect())
    }

    fn gold_rankings(&self) -> impl Iterator<Item = (&Label, &Gold)> {
        let gold = self.labels.of(Purpose::Gold);
        gold.filter_map(|label| Some((label, self.labels.gold.get(&label.task)?)))
    }

    /// Flags as they are known of gold tasks, by labeler.
    fn gold_flags(&self) -> BTreeMap<usize, Figure> {
        let mut units: BTreeMap<usize, Vec<(f64, f64)>> = BTreeMap::new();
        for (label, known) in self.gold_rankings() {
            let (mut same, mut all) = (0.0, 0.0);
            for said in &label.said {
                let right = known.get(&said.slot);
                let right = right.map_or(&[][..], |right| right.flags.as_slice());
                for (flag, right) in right {
                    let own = said.flags.iter().find(|(own, _)| own == flag);
                    if let Some((_, own)) = own {
                        all += 1.0;
                        same += f64::from(u8::from(own == right));
                    }
                }
            }
            if all > 0.0 {
                units.entry(label.labeler).or_default().push((same, all));
            }
        }
        let figures = units.into_iter().map(|(labeler, units)| {
            let share = self.bootstrap.share("gold flags", labeler as u64, &units);
            (labeler, Figure::of(share, units.len()))
        });
        figures.collect()
    }

    /// With what the same labeler said of the task before.
    fn repeats(&self) -> Agreement {
        let originals = self.labels.originals.iter().chain(&self.labels.labels);
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
