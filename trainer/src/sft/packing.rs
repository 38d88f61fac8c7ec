//! Which rows of tokens go through the network together.

/// Indexes of rows that share one row of at most `limit` tokens, first-fit by falling length: each
/// goes into the first that has room, and one that is longer than the limit has a row of its own.
/// At most 11/9 of the fewest possible rows, and one (Johnson, 1973).
pub(super) fn first_fit(lengths: &[usize], limit: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    // Stable, so that rows of one length stay in their order.
    order.sort_by_key(|index| std::cmp::Reverse(lengths[*index]));
    let mut packed: Vec<(usize, Vec<usize>)> = Vec::new();
    for index in order {
        let length = lengths[index];
        match packed.iter_mut().find(|(sum, _)| sum + length <= limit) {
            Some((sum, indexes)) => {
                *sum += length;
                indexes.push(index);
            }
            None => packed.push((length, vec![index])),
        }
    }
    packed.into_iter().map(|(_, indexes)| indexes).collect()
}

/// The micro-batches of rows: packed ones up to `limit` tokens, or `n` padded ones each.
pub(super) fn micro_batches(lengths: &[usize], limit: Option<usize>, n: usize) -> Vec<Vec<usize>> {
    match limit {
        Some(limit) => first_fit(lengths, limit),
        None => {
            let indexes: Vec<usize> = (0..lengths.len()).collect();
            indexes.chunks(n).map(<[_]>::to_vec).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;
    use crate::rng::stream;

    #[test]
    fn the_longest_come_first_and_each_goes_where_it_first_fits() {
        assert_eq!(
            first_fit(&[3, 8, 2, 5, 4, 2, 12], 10),
            [vec![6], vec![1, 2], vec![3, 4], vec![0, 5]]
        );
        assert!(first_fit(&[], 10).is_empty());
    }

    #[test]
    fn nothing_is_lost_and_no_row_is_longer_than_its_limit() {
        let mut rng = stream(1, "packing", 0);
        let lengths: Vec<usize> = (0..300).map(|_| rng.random_range(1..60)).collect();
        let packed = first_fit(&lengths, 64);
        let mut all = packed.concat();
        all.sort_unstable();
        assert_eq!(all, (0..300).collect::<Vec<_>>());
        let sum = |row: &Vec<usize>| row.iter().map(|index| lengths[*index]).sum::<usize>();
        assert!(packed.iter().all(|row| sum(row) <= 64));
        let least = lengths.iter().sum::<usize>().div_ceil(64);
        assert!(
            packed.len() <= least * 11 / 9 + 1,
            "{} {least}",
            packed.len()
        );
    }

    #[test]
    fn without_packing_a_few_go_together_in_their_order() {
        let batches = micro_batches(&[1; 6], None, 4);
        assert_eq!(batches, [vec![0, 1, 2, 3], vec![4, 5]]);
    }
}
