//! Dividing data between training and measuring by prompt: everything that belongs to a prompt
//! stays on one side, since a model that has learnt from a prompt does better on it than on those
//! that it will meet.

use std::collections::{BTreeMap, BTreeSet};

use rand::seq::SliceRandom;

use crate::rng::stream;

/// What to train on, and what to hold out: all items of a `share` of the prompts, of one prompt at
/// least where the share is above 0, and never of every prompt. Both keep the order of `items`.
pub fn hold_out<T, P: Ord + ToOwned<Owned: Ord> + ?Sized>(
    items: Vec<T>,
    prompt_of: impl Fn(&T) -> &P,
    share: f64,
    seed: u64,
) -> (Vec<T>, Vec<T>) {
    let prompts = in_drawn_order(items.iter().map(&prompt_of), seed);
    let n = (prompts.len() as f64 * share).round() as usize;
    let least = usize::from(share > 0.0);
    let n = n.max(least).min(prompts.len().saturating_sub(1));
    let held_out = prompts.into_iter().take(n);
    let held_out: BTreeSet<P::Owned> = held_out.map(ToOwned::to_owned).collect();
    items
        .into_iter()
        .partition(|item| !held_out.contains(prompt_of(item)))
}

/// The different prompts in an order drawn by the seed, whatever order they come in.
pub fn in_drawn_order<'a, P: Ord + ?Sized>(
    prompts: impl Iterator<Item = &'a P>,
    seed: u64,
) -> Vec<&'a P> {
    let prompts: BTreeSet<&P> = prompts.collect();
    let mut prompts: Vec<&P> = prompts.into_iter().collect();
    prompts.shuffle(&mut stream(seed, "split", 0));
    prompts
}

/// Sets that grow together (Tarjan, 1975).
pub struct Sets {
    parents: Vec<usize>,
}

impl Sets {
    /// Each of `n` for itself.
    pub fn new(n: usize) -> Self {
        let parents = (0..n).collect();
        Self { parents }
    }

    /// The first of the set that `one` is in.
    pub fn root(&mut self, mut one: usize) -> usize {
        while self.parents[one] != one {
            self.parents[one] = self.parents[self.parents[one]];
            one = self.parents[one];
        }
        one
    }

    /// Makes one set of those that both are in.
    pub fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.root(one), self.root(other));
        self.parents[one.max(other)] = one.min(other);
    }
}

/// Of each thing, the first one that it belongs with: one that has a key in common with it, and so on from one
/// to the next.
pub fn joined<K: Ord>(things: impl ExactSizeIterator<Item = Vec<K>>) -> Vec<usize> {
    let mut sets = Sets::new(things.len());
    let mut first = BTreeMap::new();
    let n = things.len();
    for (index, keys) in things.enumerate() {
        for key in keys {
            let known = *first.entry(key).or_insert(index);
            sets.join(known, index);
        }
    }
    (0..n).map(|index| sets.root(index)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three items for each of `n` prompts, not side by side.
    fn items(n: usize) -> Vec<(String, usize)> {
        let item = |index| (format!("p{}", index % n), index);
        (0..3 * n).map(item).collect()
    }

    type Items = Vec<(String, usize)>;

    fn split(n: usize, share: f64, seed: u64) -> (Items, Items) {
        hold_out(items(n), |item| item.0.as_str(), share, seed)
    }

    #[test]
    fn no_prompt_is_on_both_sides_and_nothing_is_lost() {
        let (train, held_out) = split(20, 0.2, 1);
        assert_eq!((train.len(), held_out.len()), (48, 12));
        assert!(held_out.iter().all(|a| train.iter().all(|b| a.0 != b.0)));
        let mut all = [train, held_out].concat();
        all.sort_by_key(|item| item.1);
        assert_eq!(all, items(20));
    }

    #[test]
    fn the_seed_draws_which_prompts_are_held_out_whatever_order_the_file_has() {
        let held_out = |mut items: Vec<(String, usize)>| {
            items = hold_out(items, |item| item.0.as_str(), 0.2, 1).1;
            items.sort_by_key(|item| item.1);
            items
        };
        let backwards = items(20).into_iter().rev().collect();
        assert_eq!(held_out(items(20)), held_out(backwards));
        assert_ne!(split(20, 0.2, 1).1, split(20, 0.2, 2).1);
    }

    #[test]
    fn a_share_holds_out_one_prompt_at_least_and_never_all() {
        let n_held_out = |n, share| split(n, share, 1).1.len() / 3;
        assert_eq!(n_held_out(20, 0.0), 0);
        assert_eq!(n_held_out(4, 0.1), 1);
        assert_eq!(n_held_out(2, 0.9), 1);
        assert_eq!(n_held_out(1, 0.9), 0);
        assert_eq!(
            hold_out(Vec::<String>::new(), String::as_str, 0.5, 1),
            (vec![], vec![])
        );
    }
}
