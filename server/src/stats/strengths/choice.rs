//! Choices among a few options, each of which weighs exp(the strength of its item): what
//! Bradley-Terry, Davidson's and Plackett-Luce's models have in common. In Davidson's a pair has a
//! third option, a tie, whose log weight is half of both strengths and a parameter of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::super::linear::Cholesky;

/// Most steps of Newton's method. It needs about 5.
const MOST_STEPS: usize = 100;

/// Halvings of a step that does not go up.
const MOST_HALVINGS: usize = 40;

/// What a log weight adds up: parameters with factors.
type Features = Vec<(usize, f64)>;

/// Collects what was chosen.
pub(super) struct Builder {
    items: Vec<usize>,
    has_ties: bool,
    /// The items of each set, by place.
    sets: Vec<Vec<usize>>,
    known: HashMap<Vec<usize>, usize>,
    prompts: BTreeMap<usize, Said>,
    times: Vec<usize>,
    n: usize,
}

/// What a prompt adds.
#[derive(Default)]
struct Said {
    /// Sets, and how often each was chosen from.
    sets: BTreeMap<usize, f64>,
    /// What the chosen options add to each parameter.
    chosen: BTreeMap<usize, f64>,
    /// Who was preferred to whom, as preferred · items + other.
    preferred: BTreeSet<usize>,
}

/// The same in a form that is quick to add up.
struct Prompt {
    sets: Vec<(usize, f64)>,
    chosen: Vec<(usize, f64)>,
    preferred: Vec<usize>,
}

impl Builder {
    pub(super) fn new(items: BTreeSet<usize>, has_ties: bool) -> Self {
        Self {
            times: vec![0; items.len()],
            items: items.into_iter().collect(),
            has_ties,
            sets: Vec::new(),
            known: HashMap::new(),
            prompts: BTreeMap::new(),
            n: 0,
        }
    }

    /// A choice among these items, an item as often as it is offered; `chosen` holds what was
    /// chosen with weights, such as 1 for one item.
    pub(super) fn choose(&mut self, prompt: usize, among: &[usize], chosen: &[(usize, f64)]) {
        let members = self.places(among);
        let set = self.set(&members);
        let n_items = self.items.len();
        let chosen: Vec<_> = chosen
            .iter()
            .map(|(item, w)| (self.place(*item), *w))
            .collect();
        let said = self.prompts.entry(prompt).or_default();
        for (place, weight) in chosen {
            *said.sets.entry(set).or_default() += weight;
            *said.chosen.entry(place).or_default() += weight;
            let others = members.iter().filter(|other| **other != place);
            said.preferred
                .extend(others.map(|other| place * n_items + other));
        }
    }

    /// A tie of two different items, where the model has ties.
    pub(super) fn tie(&mut self, prompt: usize, first: usize, second: usize) {
        let members = self.places(&[first, second]);
        let set = self.set(&members);
        let n_items = self.items.len();
        let said = self.prompts.entry(prompt).or_default();
        *said.sets.entry(set).or_default() += 1.0;
        for (parameter, factor) in tie_of(&members, n_items) {
            *said.chosen.entry(parameter).or_default() += factor;
        }
        let (a, b) = (members[0], members[1]);
        said.preferred.extend([a * n_items + b, b * n_items + a]);
    }

    /// Counts a comparison or ranking of these items.
    pub(super) fn count(&mut self, items: impl Iterator<Item = usize>) {
        self.n += 1;
        for item in items.collect::<BTreeSet<_>>() {
            let place = self.place(item);
            self.times[place] += 1;
        }
    }

    pub(super) fn done(self) -> Choices {
        let option = |place: &usize| vec![(*place, 1.0)];
        let n_items = self.items.len();
        let sets = self.sets.iter().map(|members| {
            let mut options: Vec<Features> = members.iter().map(option).collect();
            if self.has_ties {
                options.push(tie_of(members, n_items));
            }
            let all = options.iter().flatten().map(|(parameter, _)| *parameter);
            let parameters: BTreeSet<usize> = all.collect();
            Set {
                parameters: parameters.into_iter().collect(),
                options,
            }
        });
        let prompts = self.prompts.into_values().map(|said| Prompt {
            sets: said.sets.into_iter().collect(),
            chosen: said.chosen.into_iter().collect(),
            preferred: said.preferred.into_iter().collect(),
        });
        Choices {
            sets: sets.collect(),
            prompts: prompts.collect(),
            items: self.items,
            has_ties: self.has_ties,
            times: self.times,
            n: self.n,
        }
    }

    fn place(&self, item: usize) -> usize {
        self.items.partition_point(|other| *other < item)
    }

    fn places(&self, items: &[usize]) -> Vec<usize> {
        let mut places: Vec<usize> = items.iter().map(|item| self.place(*item)).collect();
        places.sort_unstable();
        places
    }

    fn set(&mut self, members: &[usize]) -> usize {
        if let Some(set) = self.known.get(members) {
            return *set;
        }
        self.sets.push(members.to_vec());
        self.known.insert(members.to_vec(), self.sets.len() - 1);
        self.sets.len() - 1
    }
}

fn tie_of(members: &[usize], n_items: usize) -> Features {
    let mut features: Features = members.iter().map(|place| (*place, 0.5)).collect();
    features.push((n_items, 1.0));
    features
}

/// What was chosen, by prompt.
pub(super) struct Choices {
    /// The items, ascending; a place in here is a parameter.
    pub(super) items: Vec<usize>,
    /// Whether a pair may tie; the parameter of ties comes after those of the items.
    pub(super) has_ties: bool,
    /// In how many comparisons or rankings each item is.
    pub(super) times: Vec<usize>,
    /// Comparisons or rankings.
    pub(super) n: usize,
    sets: Vec<Set>,
    prompts: Vec<Prompt>,
}

/// What can be chosen from.
struct Set {
    options: Vec<Features>,
    /// Every parameter of an option, once.
    parameters: Vec<usize>,
}

/// Sums over prompts.
pub(super) struct Totals {
    sets: Vec<f64>,
    chosen: Vec<f64>,
    /// Who was preferred to whom at least once: a square of items by items.
    preferred: Vec<bool>,
}

impl Choices {
    pub(super) fn n_prompts(&self) -> usize {
        self.prompts.len()
    }

    pub(super) fn n_parameters(&self) -> usize {
        self.items.len() + usize::from(self.has_ties)
    }

    /// What these prompts add up to, each as often as it comes.
    pub(super) fn total(&self, prompts: impl Iterator<Item = usize>) -> Totals {
        let n_items = self.items.len();
        let mut total = Totals {
            sets: vec![0.0; self.sets.len()],
            chosen: vec![0.0; self.n_parameters()],
            preferred: vec![false; n_items * n_items],
        };
        for prompt in prompts.filter_map(|prompt| self.prompts.get(prompt)) {
            for (set, weight) in &prompt.sets {
                total.sets[*set] += weight;
            }
            for (parameter, weight) in &prompt.chosen {
                total.chosen[*parameter] += weight;
            }
            for pair in &prompt.preferred {
                total.preferred[*pair] = true;
            }
        }
        total
    }

    /// Groups of items that were compared with each other, directly or through others, by place.
    pub(super) fn groups(&self, total: &Totals) -> Vec<Vec<usize>> {
        let n = self.items.len();
        let is_edge = |a: usize, b: usize| total.preferred[a * n + b] || total.preferred[b * n + a];
        let mut left: BTreeSet<usize> = (0..n).collect();
        let mut groups = Vec::new();
        while let Some(first) = left.first() {
            let group = reached(n, *first, is_edge);
            left.retain(|place| !group.contains(place));
            groups.push(group.into_iter().collect());
        }
        groups
    }

    /// Whether the data alone tell all strengths: each item was preferred to each other one,
    /// directly or through others (Ford 1957; Hunter 2004, assumption 1), and, where a pair may
    /// tie, not all do.
    pub(super) fn is_determined(&self, total: &Totals) -> bool {
        let n = self.items.len();
        let everywhere = |edge: &dyn Fn(usize, usize) -> bool| reached(n, 0, edge).len() == n;
        everywhere(&|a, b| total.preferred[a * n + b])
            && everywhere(&|a, b| total.preferred[b * n + a])
            && self.has_strict(total)
    }

    /// Whether not all are ties that a model with ties cannot be fitted to.
    pub(super) fn has_strict(&self, total: &Totals) -> bool {
        let all: f64 = total.sets.iter().sum();
        !self.has_ties || total.chosen[self.items.len()] < all
    }

    /// The parameters of the highest likelihood times prior, searched from `start`; none where the
    /// search does not end.
    pub(super) fn maximise(&self, total: &Totals, start: &[f64], prior: f64) -> Option<Vec<f64>> {
        let (n_items, n) = (self.items.len(), self.n_parameters());
        let mut at = start.to_vec();
        // Without a tie the likelihood rises as ties get rarer: they have no weight at all.
        let frozen = self.has_ties && total.chosen[n_items] == 0.0;
        if frozen {
            at[n_items] = f64::NEG_INFINITY;
        } else if let Some(ties) = at.get_mut(n_items).filter(|own| !own.is_finite()) {
            *ties = 0.0;
        }
        let weight: f64 = total.sets.iter().sum();
        let mut height = self.height(total, &at, prior);
        for _ in 0..MOST_STEPS {
            let (mut slope, mut curve) = self.slope(total, &at, prior);
            if frozen {
                slope[n_items] = 0.0;
                for other in 0..n {
                    curve[n_items * n + other] = 0.0;
                    curve[other * n + n_items] = 0.0;
                }
                curve[n_items * n + n_items] = 1.0;
            }
            if slope.iter().all(|own| own.abs() <= 1e-10 * (1.0 + weight)) {
                return at
                    .iter()
                    .take(n_items)
                    .all(|own| own.is_finite())
                    .then_some(at);
            }
            if prior == 0.0 {
                // Only differences of strengths are told: hold their mean.
                let scale = weight / (n_items * n_items) as f64;
                for row in 0..n_items {
                    for column in 0..n_items {
                        curve[row * n + column] += scale;
                    }
                }
            }
            let mut step = slope;
            Cholesky::of(curve, n)?.solve(&mut step);
            let mut reach = 1.0;
            let mut next = None;
            for _ in 0..MOST_HALVINGS {
                let there = at.iter().zip(&step).map(|(at, step)| at + reach * step);
                let there: Vec<f64> = there.collect();
                let found = self.height(total, &there, prior);
                if found >= height - 1e-12 * height.abs() {
                    next = Some((there, found));
                    break;
                }
                reach /= 2.0;
            }
            (at, height) = next?;
        }
        None
    }

    /// The logarithm of likelihood times prior.
    fn height(&self, total: &Totals, at: &[f64], prior: f64) -> f64 {
        let chosen = at.iter().zip(&total.chosen).filter(|(_, sum)| **sum != 0.0);
        let mut height: f64 = chosen.map(|(at, sum)| at * sum).sum();
        let mut shares = Vec::new();
        for (set, weight) in self.chosen_from(total) {
            height -= weight * set.shares(at, &mut shares);
        }
        let items = &at[..self.items.len()];
        height - prior / 2.0 * items.iter().map(|own| own * own).sum::<f64>()
    }

    /// Its first derivatives, and the negative of its second.
    fn slope(&self, total: &Totals, at: &[f64], prior: f64) -> (Vec<f64>, Vec<f64>) {
        let n = self.n_parameters();
        let (mut slope, mut curve) = (total.chosen.clone(), vec![0.0; n * n]);
        let mut mean = vec![0.0; n];
        let mut shares = Vec::new();
        for (set, weight) in self.chosen_from(total) {
            set.shares(at, &mut shares);
            for (option, share) in set.options.iter().zip(&shares) {
                for (parameter, factor) in option {
                    mean[*parameter] += share * factor;
                    for (other, times) in option {
                        curve[parameter * n + other] += weight * share * factor * times;
                    }
                }
            }
            for parameter in &set.parameters {
                slope[*parameter] -= weight * mean[*parameter];
                for other in &set.parameters {
                    curve[parameter * n + other] -= weight * mean[*parameter] * mean[*other];
                }
            }
            for parameter in &set.parameters {
                mean[*parameter] = 0.0;
            }
        }
        for place in 0..self.items.len() {
            slope[place] -= prior * at[place];
            curve[place * n + place] += prior;
        }
        (slope, curve)
    }

    /// Sets that were chosen from, with how often.
    fn chosen_from<'a>(&'a self, total: &'a Totals) -> impl Iterator<Item = (&'a Set, f64)> {
        let both = self.sets.iter().zip(total.sets.iter().copied());
        both.filter(|(_, weight)| *weight > 0.0)
    }
}

impl Set {
    /// Puts the probability of each option into `shares`; the logarithm of the sum of all weights.
    fn shares(&self, at: &[f64], shares: &mut Vec<f64>) -> f64 {
        shares.clear();
        let log_weight = |option: &Features| -> f64 {
            let features = option.iter();
            features
                .map(|(parameter, factor)| factor * at[*parameter])
                .sum()
        };
        shares.extend(self.options.iter().map(log_weight));
        let most = shares.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut sum = 0.0;
        for share in shares.iter_mut() {
            *share = (*share - most).exp();
            sum += *share;
        }
        shares.iter_mut().for_each(|share| *share /= sum);
        most + sum.ln()
    }
}

/// What can be reached from the first of `n`.
fn reached(n: usize, first: usize, is_edge: impl Fn(usize, usize) -> bool) -> BTreeSet<usize> {
    let (mut found, mut open) = (BTreeSet::from([first]), vec![first]);
    while let Some(from) = open.pop() {
        for to in 0..n {
            if is_edge(from, to) && found.insert(to) {
                open.push(to);
            }
        }
    }
    found
}
