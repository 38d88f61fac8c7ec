//! Several texts in one row. Each has positions of its own and sees nothing of its neighbours; one
//! may go on from another of the same row, as the completions of a prompt that is there once.
//!
//! All that works token by token runs on the rows as they are, with hardly any padding, and attention
//! is told where each text's keys lie. Where it is made of candle's operations, each text's queries,
//! and its keys with those of the texts before it, are gathered into blocks of similar length. Either
//! way no mask over whole rows exists, and the cost is that of the texts.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::error::{Result, TrainerError};
use crate::nn::attention::{Sight, Text};

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

/// Texts of similar length, whose attention is computed together where it is made of candle's
/// operations.
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
    /// Tokens of all rows, padding among them.
    n_tokens: usize,
    /// Tokens of the longest text, with those that it goes on from.
    pub(crate) longest: usize,
}

impl Segments {
    /// Lays out rows that are padded to `time`.
    ///
    /// # Errors
    /// When a segment is empty or goes on from none before it.
    pub(crate) fn new(rows: &[Vec<Segment>], time: usize) -> Result<Self> {
        let rows = rows.iter().enumerate();
        let rows: Vec<Vec<Place>> = rows
            .map(|(row, segments)| lay_out(segments, row * time))
            .collect::<Result<_>>()?;
        let longest = rows.iter().flatten().map(|p| p.before + p.length).max();
        Ok(Self {
            n_tokens: rows.len() * time,
            rows,
            longest: longest.unwrap_or(0),
        })
    }

    /// Index in `[rows * time]` of a segment's token.
    pub(crate) fn flat_index(&self, row: usize, segment: usize, offset: usize) -> u32 {
        (self.rows[row][segment].start + offset) as u32
    }

    /// Position of each token in its own text, `[rows * time]`.
    ///
    /// # Errors
    /// When the device has no memory.
    pub(crate) fn positions(&self, device: &Device) -> Result<Tensor> {
        let mut positions = vec![0; self.n_tokens];
        for place in self.rows.iter().flatten() {
            for offset in 0..place.length {
                positions[place.start + offset] = (place.before + offset) as u32;
            }
        }
        Ok(Tensor::from_vec(positions, self.n_tokens, device)?)
    }

    /// What every token sees.
    ///
    /// # Errors
    /// Never, of rows that are laid out.
    pub(crate) fn sight(&self) -> Result<Sight> {
        let mut texts = Vec::new();
        for row in &self.rows {
            for tree in trees(row) {
                let text = |place: &Place| Text {
                    queries: place.start..place.start + place.length,
                    keys: seen(row, place),
                };
                texts.push(row[tree].iter().map(text).collect());
            }
        }
        Ok(Sight::new(texts, self.n_tokens, self.n_tokens)?)
    }

    /// What the last tokens of some segments of the first row see, in their order.
    ///
    /// # Errors
    /// When there are no such segments.
    pub(crate) fn sight_of_ends(&self, segments: &[usize]) -> Result<Sight> {
        let row = self.rows.first().map_or(&[][..], Vec::as_slice);
        let texts = trees(row).into_iter().map(|tree| {
            let own = segments.iter().enumerate();
            let own = own.filter(|(_, segment)| tree.contains(segment));
            let text = |(query, segment): (usize, &usize)| Text {
                queries: query..query + 1,
                keys: seen(row, &row[*segment]),
            };
            own.map(text).collect()
        });
        Ok(Sight::new(texts.collect(), segments.len(), self.n_tokens)?)
    }

    /// The texts in groups, and where each token's output lies in the groups' outputs, one group
    /// after another, `[rows * time]`.
    ///
    /// # Errors
    /// When the device has no memory.
    pub(crate) fn groups(&self, device: &Device) -> Result<(Vec<Group>, Tensor)> {
        let mut order = vec![0; self.n_tokens];
        let groups = group(&self.rows, &mut order, device)?;
        Ok((groups, Tensor::from_vec(order, self.n_tokens, device)?))
    }
}

/// Neighbouring segments in runs, as short as may be, so that none goes on from one of another run.
fn trees(row: &[Place]) -> Vec<Range<usize>> {
    let mut starts: Vec<usize> = Vec::new();
    for (index, place) in row.iter().enumerate() {
        match place.prefix {
            None => starts.push(index),
            // Whatever stands between belongs to them.
            Some(prefix) => {
                while starts.last().is_some_and(|start| *start > prefix) {
                    starts.pop();
                }
            }
        }
    }
    let ends = starts.iter().skip(1).copied().chain([row.len()]);
    starts
        .iter()
        .copied()
        .zip(ends)
        .map(|(start, end)| start..end)
        .collect()
}

/// Where the tokens lie that a segment's last one sees, in the order of their positions.
fn seen(row: &[Place], place: &Place) -> Vec<Range<usize>> {
    let mut spans = match place.prefix {
        Some(prefix) => seen(row, &row[prefix]),
        None => Vec::new(),
    };
    let own = place.start..place.start + place.length;
    match spans.last_mut().filter(|span| span.end == own.start) {
        Some(span) => span.end = own.end,
        None => spans.push(own),
    }
    spans
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
            keys.extend(seen(row, place).into_iter().flatten().map(|at| at as u32));
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
        let segments = Segments::new(&rows, 10).unwrap();
        let positions = segments.positions(&Device::Cpu).unwrap();
        let positions = positions.to_vec1::<u32>().unwrap();
        assert_eq!(positions[..3], [0, 1, 2]);
        assert_eq!(positions[10..], [0, 1, 2, 0, 1, 2, 3, 4, 3, 5]);
        assert_eq!(segments.longest, 6);
        assert_eq!(segments.flat_index(1, 2, 1), 17);

        let (groups, _) = segments.groups(&Device::Cpu).unwrap();
        let found: Vec<_> = groups
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
        let keys = groups[1].keys.to_vec1::<u32>().unwrap();
        assert_eq!(keys[..6], [13, 14, 15, 18, 18, 18]);
        assert_eq!(keys[6..], [13, 14, 15, 16, 17, 19]);
    }

    /// The second goes on from the first, though another stands between them.
    #[test]
    fn segments_that_see_each_other_are_one_tree_with_all_between_them() {
        let tokens = [0; 4];
        let segment = |n: usize, prefix| Segment {
            tokens: &tokens[..n],
            prefix,
        };
        let row = vec![
            segment(2, None),
            segment(1, None),
            segment(3, Some(0)),
            segment(1, Some(2)),
            segment(4, None),
            segment(2, Some(4)),
        ];
        let row = lay_out(&row, 5).unwrap();
        assert_eq!(trees(&row), [0..4, 4..6]);
        assert_eq!(seen(&row, &row[3]), [5..7, 8..12]);
        assert_eq!(seen(&row, &row[5]), vec![12..18]);
    }

    #[test]
    fn a_segment_without_tokens_or_with_no_prefix_before_it_is_refused() {
        let error = |segment: Segment| {
            let made = Segments::new(&[vec![segment]], 4);
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
