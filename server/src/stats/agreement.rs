//! How often two labelers order a pair of completions alike.
//!
//! For each two labelers of a prompt every pair of completions that both ranked is looked at. Where
//! neither ties the pair, they order it the same way or the opposite way; how ties count is a
//! policy, and all three are given ([`TiePolicy`]). InstructGPT (section 3.4) reports 72.6 ± 1.5 %
//! among its training labelers. Intervals resample prompts, since the pairs of one prompt hang
//! together (see [`Bootstrap::share`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::correlation::tau_b_of_counts;
use super::interval::{Bootstrap, Estimate, all_alike, percentiles};
use super::labels::{Ranking, by_prompt};

/// How a pair counts that at least one of two labelers ties.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TiePolicy {
    #[default]
    /// Not at all: the share of pairs that both order strictly.
    LeftOut,
    /// A tie against a strict order is half alike; two ties are alike.
    Half,
    /// First better, second better and tie are three answers: alike only where they are the same.
    Category,
}

impl TiePolicy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::LeftOut, Self::Half, Self::Category];
}

/// Pairs of completions that two labelers both ranked, by what they said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Both strict, the same one better.
    pub same: u64,
    /// Both strict, not the same one better.
    pub opposite: u64,
    /// One tie, one strict.
    pub one_tie: u64,
    /// Both tie.
    pub both_tie: u64,
}

impl Counts {
    /// What two weak orders of the same completions have in common.
    pub fn of(a: &[Option<i16>], b: &[Option<i16>]) -> Self {
        Compared::of(a, b).counts()
    }

    /// The share of pairs that are alike; none where the policy counts none.
    pub fn share(&self, policy: TiePolicy) -> Option<f64> {
        let whole = self.n(policy);
        (whole > 0).then(|| self.alike(policy) / whole as f64)
    }

    /// The pairs that the policy counts.
    pub fn n(&self, policy: TiePolicy) -> u64 {
        let strict = self.same + self.opposite;
        match policy {
            TiePolicy::LeftOut => strict,
            TiePolicy::Half | TiePolicy::Category => strict + self.one_tie + self.both_tie,
        }
    }

    /// The pairs of them that are alike.
    fn alike(&self, policy: TiePolicy) -> f64 {
        match policy {
            TiePolicy::LeftOut => self.same as f64,
            TiePolicy::Half => (self.same + self.both_tie) as f64 + self.one_tie as f64 / 2.0,
            TiePolicy::Category => (self.same + self.both_tie) as f64,
        }
    }
}

/// How far labelers agree.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Agreed {
    /// The pairs, by what was said of them; a pair that three labelers ranked is in it three times.
    pub counts: Counts,
    /// Prompts that have such pairs.
    pub n_prompts: usize,
    /// Prompts that have a pair which both order strictly: what `ties_left_out` rests on.
    pub n_prompts_strict: usize,
    /// Prompts that have two rankings with a tau-b.
    pub n_prompts_tau_b: usize,
    /// Pairs of rankings that were compared.
    pub n_ranking_pairs: usize,
    /// The share alike with ties left out; n counts pairs of completions.
    pub ties_left_out: Option<Estimate>,
    /// The share alike where a tie against a strict order counts half; n counts pairs of
    /// completions.
    pub ties_half: Option<Estimate>,
    /// The share alike where a tie is a third answer; n counts pairs of completions.
    pub ties_category: Option<Estimate>,
    /// Kendall's tau-b, the mean over pairs of rankings that have one; n counts those.
    pub tau_b: Option<Estimate>,
}

impl Agreed {
    /// Over all pairs of rankings by different labelers: [`Agreement::overall`] without what is told of
    /// each labeler, for a part of the rankings.
    pub fn of(rankings: &[Ranking], bootstrap: &Bootstrap) -> Self {
        let mut prompts = Vec::new();
        by_prompt(rankings, |_, own| {
            let mut all = Sums::default();
            for (index, one) in own.iter().enumerate() {
                let others = own[index + 1..].iter();
                for other in others.filter(|other| other.labeler != one.labeler) {
                    all.add(&Sums::of(&Compared::of(&one.ranks, &other.ranks)));
                }
            }
            prompts.push(all);
        });
        agreed(&prompts, bootstrap, "agreement", 0)
    }

    /// The share of pairs that are alike.
    pub fn share(&self, policy: TiePolicy) -> Option<Estimate> {
        match policy {
            TiePolicy::LeftOut => self.ties_left_out,
            TiePolicy::Half => self.ties_half,
            TiePolicy::Category => self.ties_category,
        }
    }
}

/// Agreement between labelers, of all, of each and of each two.
#[derive(Debug, Clone, PartialEq)]
pub struct Agreement {
    /// Over all pairs of rankings by different labelers.
    pub overall: Agreed,
    /// Of each labeler with all others, by labeler.
    labelers: BTreeMap<usize, Agreed>,
    /// Of each two, the lower number first.
    pairs: BTreeMap<(usize, usize), Agreed>,
    /// Of each labeler's rankings of the same prompt with each other.
    repeats: BTreeMap<usize, Agreed>,
}

impl Agreement {
    /// From all rankings, in any order.
    pub fn of(rankings: &[Ranking], bootstrap: &Bootstrap) -> Self {
        let mut overall = Vec::new();
        let mut labelers: BTreeMap<usize, Vec<Sums>> = BTreeMap::new();
        let mut pairs: BTreeMap<(usize, usize), Vec<Sums>> = BTreeMap::new();
        let mut repeats: BTreeMap<usize, Vec<Sums>> = BTreeMap::new();
        by_prompt(rankings, |_, own| {
            let (mut all, mut by_labeler) = (Sums::default(), BTreeMap::new());
            let (mut by_pair, mut by_itself) = (BTreeMap::new(), BTreeMap::new());
            for (index, one) in own.iter().enumerate() {
                for other in &own[index + 1..] {
                    let sums = Sums::of(&Compared::of(&one.ranks, &other.ranks));
                    let (a, b) = ordered(one.labeler, other.labeler);
                    if a == b {
                        add(&mut by_itself, a, &sums);
                    } else {
                        all.add(&sums);
                        add(&mut by_pair, (a, b), &sums);
                        add(&mut by_labeler, a, &sums);
                        add(&mut by_labeler, b, &sums);
                    }
                }
            }
            overall.push(all);
            append(&mut labelers, by_labeler);
            append(&mut pairs, by_pair);
            append(&mut repeats, by_itself);
        });
        Self {
            overall: agreed(&overall, bootstrap, "agreement", 0),
            labelers: each(&labelers, bootstrap, "agreement of a labeler", |labeler| {
                *labeler as u64
            }),
            pairs: each(&pairs, bootstrap, "agreement of a pair", |(a, b)| {
                ((*a as u64) << 32) ^ *b as u64
            }),
            repeats: each(&repeats, bootstrap, "agreement with oneself", |labeler| {
                *labeler as u64
            }),
        }
    }

    /// Each labeler who ranked a completion pair that another one ranked too, with how far they
    /// agree with all others, in ascending order.
    pub fn labelers(&self) -> impl Iterator<Item = (usize, &Agreed)> {
        self.labelers.iter().map(|(labeler, own)| (*labeler, own))
    }

    /// How far one labeler agrees with all others.
    pub fn labeler(&self, labeler: usize) -> Option<&Agreed> {
        self.labelers.get(&labeler)
    }

    /// Each two labelers who ranked the same pair of completions, the lower number first, in
    /// ascending order.
    pub fn pairs(&self) -> impl Iterator<Item = ((usize, usize), &Agreed)> {
        self.pairs.iter().map(|(pair, own)| (*pair, own))
    }

    /// How far two labelers agree, in either order. A gold ranking is a labeler like any other:
    /// give it a number of its own.
    pub fn pair(&self, a: usize, b: usize) -> Option<&Agreed> {
        self.pairs.get(&ordered(a, b))
    }

    /// Each labeler who ranked a prompt more than once, with how far these rankings agree.
    pub fn repeats(&self) -> impl Iterator<Item = (usize, &Agreed)> {
        self.repeats.iter().map(|(labeler, own)| (*labeler, own))
    }

    /// How far a labeler's rankings of the same prompt agree with each other.
    pub fn repeat(&self, labeler: usize) -> Option<&Agreed> {
        self.repeats.get(&labeler)
    }
}

fn ordered(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

/// Two weak orders, pair by pair.
#[derive(Debug, Clone, Copy, Default)]
struct Compared {
    same: u64,
    opposite: u64,
    /// Tied by the first only.
    first_ties: u64,
    /// Tied by the second only.
    second_ties: u64,
    both_tie: u64,
}

impl Compared {
    fn of(a: &[Option<i16>], b: &[Option<i16>]) -> Self {
        let both = a.iter().zip(b).filter_map(|(a, b)| Some(((*a)?, (*b)?)));
        let both: Vec<(i16, i16)> = both.collect();
        let mut found = Self::default();
        for (index, one) in both.iter().enumerate() {
            for other in &both[index + 1..] {
                let (first, second) = (one.0.cmp(&other.0), one.1.cmp(&other.1));
                *match (first.is_eq(), second.is_eq()) {
                    (true, true) => &mut found.both_tie,
                    (true, false) => &mut found.first_ties,
                    (false, true) => &mut found.second_ties,
                    (false, false) if first == second => &mut found.same,
                    (false, false) => &mut found.opposite,
                } += 1;
            }
        }
        found
    }

    fn counts(&self) -> Counts {
        Counts {
            same: self.same,
            opposite: self.opposite,
            one_tie: self.first_ties + self.second_ties,
            both_tie: self.both_tie,
        }
    }

    fn tau_b(&self) -> Option<f64> {
        tau_b_of_counts(self.same, self.opposite, self.first_ties, self.second_ties)
    }
}

/// What a prompt adds to a figure.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    counts: Counts,
    rankings: usize,
    /// Sum of tau-b, and how many there are.
    tau: (f64, u64),
}

impl Sums {
    fn of(compared: &Compared) -> Self {
        let tau_b = compared.tau_b();
        Self {
            counts: compared.counts(),
            rankings: usize::from(compared.counts().n(TiePolicy::Category) > 0),
            tau: (tau_b.unwrap_or(0.0), u64::from(tau_b.is_some())),
        }
    }

    fn add(&mut self, other: &Self) {
        self.counts.same += other.counts.same;
        self.counts.opposite += other.counts.opposite;
        self.counts.one_tie += other.counts.one_tie;
        self.counts.both_tie += other.counts.both_tie;
        self.rankings += other.rankings;
        self.tau.0 += other.tau.0;
        self.tau.1 += other.tau.1;
    }

    fn tau_b(&self) -> Option<f64> {
        (self.tau.1 > 0).then(|| self.tau.0 / self.tau.1 as f64)
    }
}

fn add<K: Ord>(sums: &mut BTreeMap<K, Sums>, key: K, more: &Sums) {
    sums.entry(key).or_default().add(more);
}

fn append<K: Ord>(to: &mut BTreeMap<K, Vec<Sums>>, from: BTreeMap<K, Sums>) {
    for (key, sums) in from {
        to.entry(key).or_default().push(sums);
    }
}

fn each<K: Ord + Copy>(
    all: &BTreeMap<K, Vec<Sums>>,
    bootstrap: &Bootstrap,
    name: &str,
    index: impl Fn(&K) -> u64,
) -> BTreeMap<K, Agreed> {
    let found = all
        .iter()
        .map(|(key, prompts)| (*key, agreed(prompts, bootstrap, name, index(key))));
    found.filter(|(_, agreed)| agreed.n_prompts > 0).collect()
}

/// The figures of these prompts, all intervals from the same resamples.
fn agreed(prompts: &[Sums], bootstrap: &Bootstrap, name: &str, index: u64) -> Agreed {
    let prompts: Vec<Sums> = prompts
        .iter()
        .filter(|sums| sums.rankings > 0)
        .copied()
        .collect();
    let sum = |sums: &mut Sums, more: &Sums| sums.add(more);
    let mut total = Sums::default();
    prompts.iter().for_each(|prompt| sum(&mut total, prompt));
    let mut found: [Vec<f64>; 4] = Default::default();
    bootstrap.resample(name, index, prompts.len(), |drawn| {
        let mut total = Sums::default();
        for prompt in drawn {
            sum(&mut total, &prompts[*prompt as usize]);
        }
        for (found, policy) in found.iter_mut().zip(TiePolicy::ALL) {
            found.extend(total.counts.share(policy));
        }
        found[3].extend(total.tau_b());
    });
    let [left_out, half, category, tau_b] = found;
    let count = |tells: &dyn Fn(&Sums) -> bool| prompts.iter().filter(|own| tells(own)).count();
    let share = |policy, found| {
        let value = total.counts.share(policy)?;
        let n_prompts = count(&|own| own.counts.n(policy) > 0);
        let interval = percentiles(found, bootstrap.resamples);
        let interval = interval.or_else(|| all_alike(value, n_prompts));
        Estimate::new(value, interval, total.counts.n(policy) as usize)
    };
    Agreed {
        counts: total.counts,
        n_prompts: prompts.len(),
        n_prompts_strict: count(&|own| own.counts.n(TiePolicy::LeftOut) > 0),
        n_prompts_tau_b: count(&|own| own.tau.1 > 0),
        n_ranking_pairs: total.rankings,
        ties_left_out: share(TiePolicy::LeftOut, left_out),
        ties_half: share(TiePolicy::Half, half),
        ties_category: share(TiePolicy::Category, category),
        tau_b: total.tau_b().and_then(|value| {
            Estimate::new(
                value,
                percentiles(tau_b, bootstrap.resamples),
                total.tau.1 as usize,
            )
        }),
    }
}

#[cfg(test)]
mod tests;
