//! Plackett and Luce's model of rankings (Luce 1959, Plackett 1975): the best is chosen among all,
//! the next among the rest, and so on.

use std::collections::BTreeSet;

use super::super::labels::ItemRanking;
use super::choice::Builder;
use super::{Settings, Strengths, Unfit, fit};

/// Most items that may tie at one rank.
pub const LONGEST_TIE: usize = 10;

/// Strengths from full or partial rankings: one may leave out any items, of which it then says
/// nothing.
///
/// A tie of t items says that their order does not matter, so the log likelihood is the mean over
/// their t! orders. For two that is half a win for each, as in Bradley-Terry's model: tied items
/// are drawn together. (The sum of the likelihoods over the orders would be the other choice: it
/// holds that there is an order which was not told, and a tie of all items then says nothing.) The
/// mean is exact: the orders are taken together by which of the tied items are still to be chosen,
/// 2^t cases.
///
/// # Errors
/// See [`Unfit`].
pub fn plackett_luce(rankings: &[ItemRanking], settings: &Settings) -> Result<Strengths, Unfit> {
    let ranked = || rankings.iter().filter(|own| has_two_items(own));
    let all = ranked().flat_map(|own| own.ranks.iter().map(|(item, _)| *item));
    let mut choices = Builder::new(all.collect(), false);
    for ranking in ranked() {
        let mut ranks = ranking.ranks.clone();
        ranks.sort_by_key(|(_, rank)| *rank);
        let items: Vec<usize> = ranks.iter().map(|(item, _)| *item).collect();
        let mut before = 0;
        for tied in ranks.chunk_by(|a, b| a.1 == b.1) {
            let (tied, worse) = items[before..].split_at(tied.len());
            if tied.len() > LONGEST_TIE {
                return Err(Unfit::TieTooLong);
            }
            choose_all(&mut choices, ranking.prompt, tied, worse);
            before += tied.len();
        }
        choices.count(items.into_iter());
    }
    fit(&choices.done(), settings)
}

fn has_two_items(ranking: &ItemRanking) -> bool {
    let items: BTreeSet<usize> = ranking.ranks.iter().map(|(item, _)| *item).collect();
    items.len() >= 2
}

/// Chooses all tied items one after the other, in every order with the same weight.
fn choose_all(choices: &mut Builder, prompt: usize, tied: &[usize], worse: &[usize]) {
    let t = tied.len();
    for left in 1..1_u32 << t {
        let is_left = |index: &usize| left & (1 << index) != 0;
        let left: Vec<usize> = (0..t).filter(is_left).map(|index| tied[index]).collect();
        let among: Vec<usize> = left.iter().chain(worse).copied().collect();
        if among.iter().all(|item| *item == among[0]) {
            // Nothing is said where there is no other to choose.
            continue;
        }
        // As many of the orders leave these, and each of them is next in as many.
        let weight = 1.0 / (binomial(t, left.len()) * left.len() as f64);
        let chosen: Vec<(usize, f64)> = left.iter().map(|item| (*item, weight)).collect();
        choices.choose(prompt, &among, &chosen);
    }
}

fn binomial(n: usize, k: usize) -> f64 {
    (1..=k).map(|i| (n - k + i) as f64 / i as f64).product()
}
