//! Where rankings of the same candidates contradict each other.

use std::collections::BTreeMap;

/// A weak order by slot: lower is better, equal ranks are ties, none where it was not judged.
pub type Ranks = BTreeMap<i16, Option<i16>>;

/// A pair of candidates with how many labelers prefer each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The one that more prefer (the lower slot where as many prefer the other), and how many do.
    pub first: (i16, usize),
    /// The other one, and how many prefer it.
    pub second: (i16, usize),
    /// How many tie the two.
    pub n_ties: usize,
}

/// The pairs of which some labelers prefer one and some the other, the most divided first.
pub fn conflicts(rankings: &[Ranks]) -> Vec<Conflict> {
    let mut slots: Vec<i16> = rankings
        .iter()
        .flat_map(|ranks| ranks.keys().copied())
        .collect();
    slots.sort_unstable();
    slots.dedup();
    let mut found = Vec::new();
    for (a, b) in pairs_of(&slots) {
        let orders = || rankings.iter().filter_map(|ranks| order(ranks, a, b));
        let n_a = orders().filter(|order| order.is_lt()).count();
        let n_b = orders().filter(|order| order.is_gt()).count();
        if n_a > 0 && n_b > 0 {
            let (first, second) = match n_b > n_a {
                true => ((b, n_b), (a, n_a)),
                false => ((a, n_a), (b, n_b)),
            };
            let n_ties = orders().filter(|order| order.is_eq()).count();
            found.push(Conflict {
                first,
                second,
                n_ties,
            });
        }
    }
    found.sort_by_key(|conflict| conflict.first.1 - conflict.second.1);
    found
}

/// How a ranking orders two slots; none where it did not judge both.
fn order(ranks: &Ranks, a: i16, b: i16) -> Option<std::cmp::Ordering> {
    let rank = |slot: i16| ranks.get(&slot).copied().flatten();
    Some(rank(a)?.cmp(&rank(b)?))
}

/// All pairs of sorted slots.
fn pairs_of(slots: &[i16]) -> Vec<(i16, i16)> {
    let mut pairs = Vec::new();
    for (index, a) in slots.iter().enumerate() {
        pairs.extend(slots[index + 1..].iter().map(|b| (*a, *b)));
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranks(given: &[Option<i16>]) -> Ranks {
        (0..).zip(given.iter().copied()).collect()
    }

    #[test]
    fn a_pair_is_in_conflict_only_where_both_orders_were_said() {
        let rankings = [
            ranks(&[Some(1), Some(2), Some(3)]),
            ranks(&[Some(1), Some(3), Some(2)]),
            ranks(&[Some(1), Some(3), Some(2)]),
            ranks(&[Some(1), Some(1), Some(1)]),
        ];
        // 0 is never worse; 1 and 2 are divided, one against two.
        let expected = Conflict {
            first: (2, 2),
            second: (1, 1),
            n_ties: 1,
        };
        assert_eq!(conflicts(&rankings), [expected]);
        assert!(conflicts(&rankings[1..]).is_empty());
        assert!(conflicts(&[]).is_empty());
    }

    #[test]
    fn the_most_divided_pair_comes_first() {
        let mut rankings = vec![ranks(&[Some(1), Some(2), Some(3)]); 3];
        rankings.push(ranks(&[Some(2), Some(1), Some(3)]));
        rankings.push(ranks(&[Some(2), Some(1), Some(3)]));
        rankings.push(ranks(&[Some(3), Some(1), Some(2)]));
        // 0-1: three against three; 0-2: five against one; 1-2: all alike.
        let slots: Vec<(i16, i16)> = conflicts(&rankings)
            .iter()
            .map(|found| (found.first.0, found.second.0))
            .collect();
        assert_eq!(slots, [(0, 1), (0, 2)]);
    }
}
