//! How well each labeler ranks, told from the rankings alone, after Crowd-BT (Chen, Bennett,
//! Collins-Thompson and Horvitz, WSDM 2013), for a whole batch.
//!
//! In Crowd-BT labeler k orders a pair as it truly is with probability η, and the other way round
//! otherwise; each completion has a score, and the truth follows Bradley and Terry's model:
//!
//! P(k prefers a to b) = η σ(a - b) + (1 - η) σ(b - a)
//!
//! η = 1 is who is always right, ½ who guesses, 0 who turns every pair around. Two labelers who err
//! independently agree on ½ + ½(2η - 1)(2η′ - 1) of the pairs. A tie says nothing of either side, so
//! it is no vote: who ties what is hard is not the worse for it.
//!
//! As the data hold only such products of two labelers, a labeler's own η is in them only where the
//! labelers who shared pairs hold a circle of an odd number: of three who met each other each is
//! known, of two only the product ([`Quality::is_identified`]).
//!
//! The paper looks for scores and η that are most probable together. With a few votes for each pair
//! that does not work: as scores have as much freedom as the votes, they follow whoever voted, and
//! η goes to 1 even for poor labelers (Neyman and Scott 1948). So it is done in two steps:
//!
//! 1. η alone, with the truth of each pair summed over both cases and a Beta prior, by expectation
//!    and maximisation: how probable is each case given η, and how often was each labeler right
//!    given that? Pairs of a prompt are taken one by one (a composite likelihood: consistent, and
//!    the intervals allow for what pairs of a prompt have in common).
//! 2. The scores, given η, that are most probable under the model above and a Gaussian prior (in
//!    the place of the paper's virtual node), by steps of Newton's method for each prompt.
//!
//! Only pairs that two or more labelers ordered strictly say anything.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde::Serialize;

use super::interval::{Estimate, Interval, two_sided};
use super::labels::{Ranking, by_prompt};
use super::linear::Cholesky;

/// Most rounds of expectation and maximisation.
const MOST_ROUNDS: usize = 1000;

/// Rounds end when no η moves by more.
const STILL: f64 = 1e-7;

/// Most steps of Newton's method on the scores of a prompt, and where they end.
const MOST_STEPS: usize = 100;
const STILL_SCORES: f64 = 1e-6;

/// Most labelers that have intervals: the work grows with their third power.
const MOST_WITH_INTERVALS: usize = 1000;

/// What is held to be probable before anybody ranked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Priors {
    /// Pairs that each labeler is imagined to have ordered beforehand: rightly, and wrongly. The
    /// prior of η is Beta(1 + the first, 1 + the second). That more are right also tells a crowd
    /// from its mirror image.
    pub quality: (f64, f64),
    /// Standard deviation of the scores, in log odds.
    pub spread: f64,
}

impl Default for Priors {
    /// Three right and one wrong; scores with a standard deviation of 2.
    fn default() -> Self {
        Self {
            quality: (3.0, 1.0),
            spread: 2.0,
        }
    }
}

/// How well a labeler ranks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quality {
    /// Which labeler.
    pub labeler: usize,
    /// η; n counts pairs of completions. The interval is a sandwich estimate (Godambe 1960) on log
    /// odds that takes all pairs of a prompt as one observation, or that of the inverse information
    /// where it is wider: of what the data hardly hold, slopes do not differ and the sandwich knows
    /// nothing. None for a single prompt and for crowds of more than 1,000.
    pub eta: Estimate,
    /// Prompts of which this labeler and another one ordered a pair.
    pub n_prompts: usize,
    /// Whether the data tell η. Where they do not, because nobody of those whom the labeler met,
    /// directly or through others, closes a circle of an odd number, the prior alone parts the
    /// product of two labelers between them, and η is not to be shown.
    pub is_identified: bool,
}

/// What the rankings tell of labelers and completions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CrowdBt {
    /// Labelers who ordered a pair that another one ordered too, in ascending order.
    pub labelers: Vec<Quality>,
    /// Scores of the completions of each prompt of which two or more labelers ordered a pair, in the
    /// order of its rankings, with the mean 0; 0 for a completion that is in no such pair.
    pub scores: BTreeMap<usize, Vec<f64>>,
    /// Whether the rounds ended by themselves.
    pub has_converged: bool,
}

impl CrowdBt {
    /// The quality of a labeler.
    pub fn labeler(&self, labeler: usize) -> Option<&Quality> {
        let found = self
            .labelers
            .binary_search_by_key(&labeler, |own| own.labeler);
        found.ok().map(|place| &self.labelers[place])
    }
}

/// A labeler's word on a pair of completions of a prompt.
struct Vote {
    /// By place.
    labeler: usize,
    /// 1 where the first of the pair is preferred, 0 where the second is.
    first: f64,
}

/// A pair of completions that two or more labelers ordered.
struct Pair {
    first: usize,
    second: usize,
    votes: Range<usize>,
}

/// A prompt with such pairs.
struct Prompt {
    prompt: usize,
    n_items: usize,
    pairs: Range<usize>,
}

/// All votes; those of a pair and the pairs of a prompt are together.
struct Crowd {
    labelers: Vec<usize>,
    prompts: Vec<Prompt>,
    pairs: Vec<Pair>,
    votes: Vec<Vote>,
}

/// What the rankings tell; none where no two labelers ordered the same pair, and for priors that are
/// not positive numbers.
pub fn crowd_bt(rankings: &[Ranking], priors: &Priors) -> Option<CrowdBt> {
    let (right, wrong) = priors.quality;
    let all = [right, wrong, priors.spread];
    if !all.iter().all(|own| *own > 0.0 && own.is_finite()) {
        return None;
    }
    let crowd = Crowd::read(rankings);
    if crowd.labelers.is_empty() {
        return None;
    }
    let mut eta = vec![right / (right + wrong); crowd.labelers.len()];
    let mut has_converged = false;
    for _ in 0..MOST_ROUNDS {
        let next = crowd.round(&eta, priors);
        let moves = eta.iter().zip(&next).map(|(old, new)| (old - new).abs());
        has_converged = moves.fold(0.0, f64::max) < STILL;
        eta = next;
        if has_converged {
            break;
        }
    }
    let scores = crowd.prompts.iter();
    let scores = scores.map(|prompt| (prompt.prompt, crowd.scores(prompt, &eta, priors.spread)));
    Some(CrowdBt {
        scores: scores.collect(),
        labelers: crowd.qualities(&eta, priors),
        has_converged,
    })
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn log_odds(share: f64) -> f64 {
    (share / (1.0 - share)).ln()
}

impl Crowd {
    fn read(rankings: &[Ranking]) -> Self {
        let mut crowd = Self {
            labelers: Vec::new(),
            prompts: Vec::new(),
            pairs: Vec::new(),
            votes: Vec::new(),
        };
        by_prompt(rankings, |prompt, own| crowd.add(prompt, own));
        let mut labelers: Vec<usize> = crowd.votes.iter().map(|vote| vote.labeler).collect();
        labelers.sort_unstable();
        labelers.dedup();
        for vote in &mut crowd.votes {
            vote.labeler = labelers.partition_point(|other| *other < vote.labeler);
        }
        Self { labelers, ..crowd }
    }

    fn add(&mut self, prompt: usize, rankings: &[&Ranking]) {
        if rankings
            .iter()
            .all(|own| own.labeler == rankings[0].labeler)
        {
            return;
        }
        let n_items = rankings
            .iter()
            .map(|own| own.ranks.len())
            .max()
            .unwrap_or(0);
        let before = self.pairs.len();
        for first in 0..n_items {
            for second in first + 1..n_items {
                let start = self.votes.len();
                self.votes.extend(rankings.iter().filter_map(|own| {
                    let rank = |place: usize| own.ranks.get(place).copied().flatten();
                    let first = match rank(first)?.cmp(&rank(second)?) {
                        Ordering::Less => 1.0,
                        Ordering::Equal => return None,
                        Ordering::Greater => 0.0,
                    };
                    let labeler = own.labeler;
                    Some(Vote { labeler, first })
                }));
                let votes = start..self.votes.len();
                let own = &self.votes[start..];
                if own.iter().any(|vote| vote.labeler != own[0].labeler) {
                    self.pairs.push(Pair {
                        first,
                        second,
                        votes,
                    });
                } else {
                    self.votes.truncate(start);
                }
            }
        }
        let pairs = before..self.pairs.len();
        if !pairs.is_empty() {
            self.prompts.push(Prompt {
                prompt,
                n_items,
                pairs,
            });
        }
    }

    fn votes(&self, pair: &Pair) -> &[Vote] {
        &self.votes[pair.votes.clone()]
    }

    /// How probable it is that the first of a pair is truly better, given each labeler's log odds
    /// of being right.
    fn truth(&self, pair: &Pair, odds: &[f64]) -> f64 {
        let votes = self.votes(pair).iter();
        sigmoid(
            votes
                .map(|vote| (2.0 * vote.first - 1.0) * odds[vote.labeler])
                .sum(),
        )
    }

    /// One round on η.
    fn round(&self, eta: &[f64], priors: &Priors) -> Vec<f64> {
        let odds: Vec<f64> = eta.iter().copied().map(log_odds).collect();
        let (right, wrong) = priors.quality;
        // Pairs that each labeler ordered rightly, and pairs.
        let mut sums = vec![(right, right + wrong); eta.len()];
        for pair in &self.pairs {
            let truth = self.truth(pair, &odds);
            for vote in self.votes(pair) {
                let sum = &mut sums[vote.labeler];
                sum.0 += vote.is_right(truth);
                sum.1 += 1.0;
            }
        }
        sums.iter().map(|(right, pairs)| right / pairs).collect()
    }

    /// The scores of a prompt.
    fn scores(&self, prompt: &Prompt, eta: &[f64], spread: f64) -> Vec<f64> {
        let (n, precision) = (prompt.n_items, spread.powi(-2));
        let mut scores = vec![0.0; n];
        for _ in 0..MOST_STEPS {
            let mut slope: Vec<f64> = scores.iter().map(|own| -precision * own).collect();
            let mut curve = vec![0.0; n * n];
            for place in 0..n {
                curve[place * n + place] = precision;
            }
            for pair in &self.pairs[prompt.pairs.clone()] {
                let (a, b) = (pair.first, pair.second);
                let better = sigmoid(scores[a] - scores[b]);
                let votes = self.votes(pair);
                // How much of the votes says that the first is better, where a labeler who is taken
                // to have been wrong says the contrary.
                let said = votes
                    .iter()
                    .map(|vote| vote.says_first(eta[vote.labeler], better));
                let rise = said.sum::<f64>() - votes.len() as f64 * better;
                slope[a] += rise;
                slope[b] -= rise;
                let bend = votes.len() as f64 * better * (1.0 - better);
                curve[a * n + a] += bend;
                curve[b * n + b] += bend;
                curve[a * n + b] -= bend;
                curve[b * n + a] -= bend;
            }
            let Some(curve) = Cholesky::of(curve, n) else {
                break;
            };
            curve.solve(&mut slope);
            // Far from the best scores a whole step may overshoot.
            let steps: Vec<f64> = slope.iter().map(|step| step.clamp(-2.0, 2.0)).collect();
            for (score, step) in scores.iter_mut().zip(&steps) {
                *score += step;
            }
            if steps.iter().all(|step| step.abs() < STILL_SCORES) {
                break;
            }
        }
        scores
    }

    /// Each labeler's η with its interval.
    fn qualities(&self, eta: &[f64], priors: &Priors) -> Vec<Quality> {
        let mut counts = vec![(0, 0); eta.len()];
        for prompt in &self.prompts {
            let pairs = &self.pairs[prompt.pairs.clone()];
            let mut seen: Vec<usize> = Vec::new();
            for vote in pairs.iter().flat_map(|pair| self.votes(pair)) {
                counts[vote.labeler].0 += 1;
                seen.push(vote.labeler);
            }
            seen.sort_unstable();
            seen.dedup();
            seen.into_iter().for_each(|labeler| counts[labeler].1 += 1);
        }
        let errors = self.standard_errors(eta, priors).unwrap_or_default();
        let identified = self.identified();
        let each = self.labelers.iter().zip(eta).zip(counts).enumerate();
        each.filter_map(|(place, ((labeler, eta), (pairs, n_prompts)))| {
            let error = errors.get(place).copied().filter(|_| n_prompts > 1);
            let odds = error.and_then(|own| Interval::around(log_odds(*eta), own, two_sided()));
            Some(Quality {
                labeler: *labeler,
                eta: Estimate::new(*eta, odds.map(|own| own.map(sigmoid)), pairs)?,
                n_prompts,
                is_identified: identified[place],
            })
        })
        .collect()
    }

    /// Which labelers are identified: those whose part of the graph of who voted on the same pair
    /// cannot be parted into two sides that only met each other. Then it has a circle of an odd
    /// number, whose products tell each of its members, and through them everybody they met.
    fn identified(&self) -> Vec<bool> {
        let n = self.labelers.len();
        let mut met: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); n];
        for pair in &self.pairs {
            let mut own: Vec<usize> = self.votes(pair).iter().map(|vote| vote.labeler).collect();
            own.sort_unstable();
            own.dedup();
            for one in &own {
                met[*one].extend(own.iter().filter(|other| *other != one));
            }
        }
        let mut identified = vec![false; n];
        let mut sides: Vec<Option<bool>> = vec![None; n];
        for start in 0..n {
            if sides[start].is_some() {
                continue;
            }
            sides[start] = Some(true);
            let (mut part, mut at, mut has_odd_circle) = (vec![start], 0, false);
            while let Some(one) = part.get(at).copied() {
                at += 1;
                for other in &met[one] {
                    match sides[*other] {
                        None => {
                            sides[*other] = sides[one].map(|side| !side);
                            part.push(*other);
                        }
                        side => has_odd_circle |= side == sides[one],
                    }
                }
            }
            part.iter()
                .for_each(|own| identified[*own] = has_odd_circle);
        }
        identified
    }

    /// The standard error of each labeler's log odds: of the inverse of the information on both
    /// sides of the spread of the prompts' slopes, or of that inverse alone where it is larger.
    fn standard_errors(&self, eta: &[f64], priors: &Priors) -> Option<Vec<f64>> {
        let n = eta.len();
        if n > MOST_WITH_INTERVALS {
            return None;
        }
        let odds: Vec<f64> = eta.iter().copied().map(log_odds).collect();
        let imagined = priors.quality.0 + priors.quality.1;
        let mut information = vec![0.0; n * n];
        for (place, eta) in eta.iter().enumerate() {
            information[place * n + place] = imagined * eta * (1.0 - eta);
        }
        let mut spread = vec![0.0; n * n];
        for prompt in &self.prompts {
            let mut slopes: BTreeMap<usize, f64> = BTreeMap::new();
            for pair in &self.pairs[prompt.pairs.clone()] {
                let truth = self.truth(pair, &odds);
                let votes = self.votes(pair);
                for vote in votes {
                    let (place, eta) = (vote.labeler, eta[vote.labeler]);
                    *slopes.entry(place).or_default() += vote.is_right(truth) - eta;
                    // If the truth were known, a coin's information; less what is unknown of it
                    // (Louis 1982), which all who voted on the pair share.
                    information[place * n + place] += eta * (1.0 - eta);
                    for other in votes {
                        let both = (2.0 * vote.first - 1.0) * (2.0 * other.first - 1.0);
                        information[place * n + other.labeler] -= truth * (1.0 - truth) * both;
                    }
                }
            }
            for (place, slope) in &slopes {
                for (other, its) in &slopes {
                    spread[place * n + other] += slope * its;
                }
            }
        }
        let information = Cholesky::of(information, n)?;
        let prompts = self.prompts.len() as f64;
        let errors = (0..n).map(|place| {
            let mut column = vec![0.0; n];
            column[place] = 1.0;
            information.solve(&mut column);
            let rows = spread.chunks_exact(n).zip(&column);
            let variance: f64 = rows
                .map(|(row, weight)| {
                    let both = row.iter().zip(&column);
                    weight * both.map(|(spread, weight)| spread * weight).sum::<f64>()
                })
                .sum();
            let sandwich = variance * prompts / (prompts - 1.0);
            sandwich.max(column[place]).sqrt()
        });
        Some(errors.collect())
    }
}

impl Vote {
    /// The share of this vote that is right where the first is truly better with this probability.
    fn is_right(&self, truth: f64) -> f64 {
        self.first * truth + (1.0 - self.first) * (1.0 - truth)
    }

    /// The share of this vote that says that the first is truly better, by a labeler who is right
    /// with probability `eta`, where by the scores it is so with probability `better`.
    fn says_first(&self, eta: f64, better: f64) -> f64 {
        // Given that the labeler prefers the first, and given that the second is preferred.
        let first = eta * better / (eta * better + (1.0 - eta) * (1.0 - better));
        let second = (1.0 - eta) * better / ((1.0 - eta) * better + eta * (1.0 - better));
        self.first * first + (1.0 - self.first) * second
    }
}

#[cfg(test)]
mod tests;
