//! Several texts in one row. Each has positions of its own and sees nothing of its neighbours; one
//! may go on from another of the same row, as the completions of a prompt that is there once.
//!
//! All that works token by token runs on the rows as they are, with hardly any padding. Attention
//! alone gathers each text's queries, and its keys with those of the texts before it, into blocks
//! of similar length. So no mask over whole rows exists, and the cost is that of the texts.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::error::{Result, TrainerError};

/// One text of a row, or a part of one that others go on from.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    /// Its own tokens, one at least.
    pub tokens: &'a [u32],
    /// Index, in the row, of the earlier segment that it goes on from: it sees all of that one, and
    /// whatever that one goes on from, and its positions are counted on.
    pub prefix: Option<usize>,
}

impl<'a> Segment<'a> {
    /// A text that stands alone.
    pub fn alone(tokens: &'a [u32]) -> Self {
        Self {
            tokens,
            prefix: None,
        }
    }
}

/// Where a segment lies.
struct Place {
    /// Its first token, over all rows.
    start: usize,
    length: usize,
    /// Position of its first token: how many tokens it sees before that.
    before: usize,
    prefix: Option<usize>,
}

/// Texts of similar length, whose attention is computed together.
pub(crate) struct Group {
    /// Where each query lies in the rows, `[n * time]`; behind a text's end, its last token again.
    pub(crate) queries: Tensor,
    /// Where each key lies, `[n * keys]`.
    pub(crate) keys: Tensor,
    /// How many texts.
    pub(crate) n: usize,
    /// Queries of each text.
    pub(crate) time: usize,
    /// Keys of each text.
    pub(crate) n_keys: usize,
    /// Where some go on from others: the keys before each one's first query, and the queries'
    /// positions `[n, time]`.
    pub(crate) behind: Option<(Arc<[usize]>, Tensor)>,
}

/// How the rows of a batch are divided.
pub struct Segments {
    rows: Vec<Vec<Place>>,
    /// Position of each token in its own text, `[rows * time]`.
    pub(crate) positions: Tensor,
    /// Tokens of the longest text, with those that it goes on from.
    pub(crate) longest: usize,
    pub(crate) groups: Vec<Group>,
    /// Where each token's output lies in the groups' outputs, one group after another,
    /// `[rows * time]`.
    pub(crate) order: Tensor,
}

impl Segments {
    /// Lays out rows that are padded to `time`.
    ///
    /// # Errors
    /// When a segment is empty or goes on from none before it.
    pub(crate) fn new(rows: &[Vec<Segment>], time: usize, device: &Device) -> Result<Self> {
        let rows = rows.iter().enumerate();
        let rows: Vec<Vec<Place>> = rows
            .map(|(row, segments)| lay_out(segments, row * time))
            .collect::<Result<_>>()?;
        let all = rows.len() * time;
        let mut positions = vec![0; all];
        for place in rows.iter().flatten() {
            for offset in 0..place.length {
                positions[place.start + offset] = (place.before + offset) as u32;
            }
        }
        let longest = rows.iter().flatten().map(|p| p.before + p.length).max();
        let mut order = vec![0; all];
        let groups = group(&rows, &mut order, device)?;
        Ok(Self {
            rows,
            positions: Tensor::from_vec(positions, all, device)?,
            longest: longest.unwrap_or(0),
            groups,
            order: Tensor::from_vec(order, all, device)?,
        })
    }

    /// Index in `[rows * time]` of a segment's token.
    pub(crate) fn flat_index(&self, row: usize, segment: usize, offset: usize) -> u32 {
        (self.rows[row][segment].start + offset) as u32
    }
}

fn lay_out(segments: &[Segment], mut start: usize) -> Result<Vec<Place>> {
    let mut places: Vec<Place> = Vec::with_capacity(segments.len());
    for segment in segments {
        let prefix = segment.prefix.map(|index| places.get(index));
        let before = match prefix {
            Some(None) => return Err(wrong("goes on from none before it")),
            Some(Some(prefix)) => prefix.before + prefix.length,
            None => 0,
        };
        let length = segment.tokens.len();
        if length == 0 {
            return Err(wrong("is empty"));
        }
        places.push(Place {
            start,
            length,
            before,
            prefix: segment.prefix,
        });
        start += length;
    }
    Ok(places)
}

fn wrong(message: &str) -> TrainerError {
    TrainerError::Tensor(candle_core::Error::Msg(format!(
        "a segment of a packed row {message}"
    )))
}

/// Texts whose queries and keys are as many to within a factor of two share a group. `order` hears
/// where each token's output will lie.
fn group(rows: &[Vec<Place>], order: &mut [u32], device: &Device) -> Result<Vec<Group>> {
    let mut alike: BTreeMap<_, Vec<(&[Place], &Place)>> = BTreeMap::new();
    for row in rows {
        for place in row {
            let key = (
                place.before > 0,
                place.length.ilog2(),
                (place.before + place.length).ilog2(),
            );
            alike.entry(key).or_default().push((row, place));
        }
    }
    let mut first = 0;
    let mut groups = Vec::with_capacity(alike.len());
    for ((has_prefix, ..), texts) in alike {
        let most = |of: &dyn Fn(&Place) -> usize| texts.iter().map(|(_, place)| of(place)).max();
        let time = most(&|place| place.length).unwrap_or(0);
        let n_keys = most(&|place| place.before + place.length).unwrap_or(0);
        let (mut queries, mut keys, mut positions) = (Vec::new(), Vec::new(), Vec::new());
        for (row, place) in &texts {
            let last = place.length - 1;
            for offset in 0..time {
                let own = offset.min(last);
                queries.push((place.start + own) as u32);
                positions.push((place.before + own) as u32);
            }
            for offset in 0..place.length {
                order[place.start + offset] = (first + offset) as u32;
            }
            first += time;
            let end = keys.len() + n_keys;
            push_seen(row, place, &mut keys);
            keys.resize(end, (place.start + last) as u32);
        }
        let n = texts.len();
        let behind = match has_prefix {
            true => {
                let before = texts.iter().map(|(_, place)| place.before).collect();
                Some((before, Tensor::from_vec(positions, (n, time), device)?))
            }
            false => None,
        };
        groups.push(Group {
            queries: Tensor::from_vec(queries, n * time, device)?,
            keys: Tensor::from_vec(keys, n * n_keys, device)?,
            n,
            time,
            n_keys,
            behind,
        });
    }
    Ok(groups)
}

/// The tokens that a segment sees, in the order of their positions.
fn push_seen(row: &[Place], place: &Place, keys: &mut Vec<u32>) {
    if let Some(prefix) = place.prefix {
        push_seen(row, &row[prefix], keys);
    }
    keys.extend((place.start..place.start + place.length).map(|at| at as u32));
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn positions_restart_and_go_on_from_a_prefix_and_keys_are_the_tokens_before() {
        let tokens = [0; 4];
        let alone = Segment::alone(&tokens[..3]);
        let on = |n: usize, prefix| Segment {
            tokens: &tokens[..n],
            prefix: Some(prefix),
        };
        // A text, and beside it a prompt with two answers, of which one is gone on from.
        let rows = [
            vec![alone],
            vec![alone, alone, on(2, 1), on(1, 1), on(1, 2)],
        ];
        let segments = Segments::new(&rows, 10, &Device::Cpu).unwrap();
        let positions = segments.positions.to_vec1::<u32>().unwrap();
        assert_eq!(positions[..3], [0, 1, 2]);
        assert_eq!(positions[10..], [0, 1, 2, 0, 1, 2, 3, 4, 3, 5]);
        assert_eq!(segments.longest, 6);
        assert_eq!(segments.flat_index(1, 2, 1), 17);

        let found: Vec<_> = segments
            .groups
            .iter()
            .map(|group| {
                let before = group.behind.as_ref().map(|(before, _)| before.to_vec());
                (group.n, group.time, group.n_keys, before)
            })
            .collect();
        // Those of 4 and of 6 keys are alike to within a factor of two.
        let expected = [
            (3, 3, 3, None),
            (2, 1, 6, Some(vec![3, 5])),
            (1, 2, 5, Some(vec![3])),
        ];
        assert_eq!(found, expected);
        let keys = segments.groups[1].keys.to_vec1::<u32>().unwrap();
        assert_eq!(keys[..6], [13, 14, 15, 18, 18, 18]);
        assert_eq!(keys[6..], [13, 14, 15, 16, 17, 19]);
    }

    #[test]
    fn a_segment_without_tokens_or_with_no_prefix_before_it_is_refused() {
        let error = |segment: Segment| {
            let made = Segments::new(&[vec![segment]], 4, &Device::Cpu);
            made.err().unwrap().to_string()
        };
        assert!(error(Segment::alone(&[])).contains("is empty"));
        let on = Segment {
            tokens: &[1],
            prefix: Some(0),
        };
        assert!(error(on).contains("none before it"));
    }
}
