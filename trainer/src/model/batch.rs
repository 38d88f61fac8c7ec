//! Token rows of different lengths as one tensor: padded on the right, or in one packed row in which
//! what some have in common at their beginning is there once. With causal attention padding comes
//! after everything real, so no real position can see it; whatever reads the result goes by `lengths`
//! and [`TokenBatch::flat_index`].

use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::error::Result;
use crate::model::segments::{Segment, Segments};

/// Rows padded on the right, or in one row.
pub struct TokenBatch {
    /// Token ids, `[batch, time]`, u32.
    pub ids: Tensor,
    /// Real tokens of each row, also where all lie in one.
    pub lengths: Vec<usize>,
    /// The longest row; where all lie in one, its tokens.
    pub time: usize,
    /// How the rows are divided, where they hold several texts each.
    pub(crate) segments: Option<Arc<Segments>>,
    /// Where the rows lie, where all lie in one.
    shared: Option<Shared>,
}

/// Rows in one, see [`TokenBatch::sharing`].
struct Shared {
    /// A place for each row.
    places: Vec<Place>,
    /// What the one row is put together from, in its order: so many tokens of a row from one on.
    pieces: Vec<Piece>,
}

/// Where a row lies that shares its beginning with others.
struct Place {
    /// Tokens of its beginning that others have too, and where they are.
    common: usize,
    start: usize,
    /// Where its other tokens are.
    own: usize,
    /// Their segment.
    segment: usize,
}

struct Piece {
    row: usize,
    from: usize,
    n: usize,
}

/// How many tokens some rows have in common at their beginning, though each keeps one at least for
/// itself; 0 of a single row.
pub fn common_prefix(rows: &[&[u32]]) -> usize {
    let Some((first, others)) = rows.split_first().filter(|(_, others)| !others.is_empty()) else {
        return 0;
    };
    let shortest = rows.iter().map(|row| row.len()).min().unwrap_or(0);
    let common = |other: &&[u32]| first.iter().zip(*other).take_while(|(a, b)| a == b).count();
    let common = others.iter().map(common).min().unwrap_or(0);
    common.min(shortest.saturating_sub(1))
}

impl TokenBatch {
    /// Pads `rows` to the longest.
    ///
    /// # Errors
    /// When the device has no memory.
    pub fn new(rows: &[Vec<u32>], pad_id: u32, device: &Device) -> Result<Self> {
        let lengths: Vec<usize> = rows.iter().map(Vec::len).collect();
        let time = lengths.iter().copied().max().unwrap_or(0);
        let mut flat = Vec::with_capacity(rows.len() * time);
        for row in rows {
            flat.extend_from_slice(row);
            flat.resize(flat.len() + time - row.len(), pad_id);
        }
        let ids = Tensor::from_vec(flat, (rows.len(), time), device)?;
        Ok(Self {
            ids,
            lengths,
            time,
            segments: None,
            shared: None,
        })
    }

    /// Rows of several texts each, which do not see each other; see [`Segment`].
    ///
    /// # Errors
    /// When a segment is empty, or goes on from none before it.
    pub fn packed(rows: &[Vec<Segment>], pad_id: u32, device: &Device) -> Result<Self> {
        let joined = rows.iter().map(|row| {
            let parts: Vec<&[u32]> = row.iter().map(|segment| segment.tokens).collect();
            parts.concat()
        });
        let batch = Self::new(&joined.collect::<Vec<_>>(), pad_id, device)?;
        let segments = Segments::new(rows, batch.time)?;
        Ok(Self {
            segments: Some(Arc::new(segments)),
            ..batch
        })
    }

    /// `rows` in one row, without padding: the longest beginning that the rows of a set have in common
    /// is there once, and each row goes on from it. `sets` name every row once, by its index. In all
    /// else they are the rows of [`TokenBatch::new`].
    ///
    /// # Errors
    /// When a row is empty.
    pub fn sharing(rows: &[&[u32]], sets: &[Vec<usize>], device: &Device) -> Result<Self> {
        let (mut segments, mut pieces) = (Vec::new(), Vec::with_capacity(rows.len() + sets.len()));
        let mut places: Vec<(usize, Place)> = Vec::with_capacity(rows.len());
        let mut time = 0;
        let mut push = |row: usize, from: usize, n: usize, prefix: Option<usize>| {
            segments.push(Segment {
                tokens: &rows[row][from..from + n],
                prefix,
            });
            pieces.push(Piece { row, from, n });
            time += n;
            (time - n, segments.len() - 1)
        };
        for set in sets {
            let own: Vec<&[u32]> = set.iter().map(|row| rows[*row]).collect();
            let common = common_prefix(&own);
            let prefix = (common > 0).then(|| push(set[0], 0, common, None));
            for row in set {
                let n = rows[*row].len() - common;
                let (own, segment) = push(*row, common, n, prefix.map(|(_, segment)| segment));
                let start = prefix.map_or(own, |(start, _)| start);
                let place = Place {
                    common,
                    start,
                    own,
                    segment,
                };
                places.push((*row, place));
            }
        }
        places.sort_by_key(|(row, _)| *row);
        if !places.iter().map(|(row, _)| *row).eq(0..rows.len()) {
            let message = "rows that share a beginning are not each in one set".to_owned();
            return Err(candle_core::Error::Msg(message).into());
        }
        let batch = Self::packed(&[segments], 0, device)?;
        Ok(Self {
            lengths: rows.iter().map(|row| row.len()).collect(),
            shared: Some(Shared {
                places: places.into_iter().map(|(_, place)| place).collect(),
                pieces,
            }),
            ..batch
        })
    }

    /// Rows that are to share a beginning if they have one in common.
    ///
    /// # Errors
    /// When a row is empty.
    pub fn alike(rows: &[Vec<u32>], device: &Device) -> Result<Self> {
        let views: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        Self::sharing(&views, &[(0..rows.len()).collect()], device)
    }

    /// The segments of the rows' last tokens, where all rows lie in one.
    pub(crate) fn last_segments(&self) -> Option<Vec<usize>> {
        let shared = self.shared.as_ref()?;
        Some(shared.places.iter().map(|place| place.segment).collect())
    }

    /// Tokens of the longest text, which the context must hold.
    pub fn longest_text(&self) -> usize {
        let segments = self.segments.as_ref();
        segments.map_or(self.time, |segments| segments.longest)
    }

    /// Index in `[batch * time]` of token `offset` of a segment; a row that is not packed is one.
    pub fn segment_index(&self, row: usize, segment: usize, offset: usize) -> u32 {
        match &self.segments {
            Some(segments) => segments.flat_index(row, segment, offset),
            None => self.flat_index(row, offset),
        }
    }

    /// Index of row `row`, position `position` in `[batch * time]`.
    pub fn flat_index(&self, row: usize, position: usize) -> u32 {
        let at = match &self.shared {
            None => row * self.time + position,
            Some(shared) => {
                let place = &shared.places[row];
                match position.checked_sub(place.common) {
                    None => place.start + position,
                    Some(beyond) => place.own + beyond,
                }
            }
        };
        at as u32
    }

    /// The last real position of each row of `all` `[batch, time, width]`, `[rows, width]`.
    ///
    /// # Errors
    /// On shapes that do not fit.
    pub fn last(&self, all: &Tensor) -> Result<Tensor> {
        let ends = self.lengths.iter().enumerate();
        let last: Vec<u32> = ends
            .map(|(row, length)| self.flat_index(row, length - 1))
            .collect();
        let last = Tensor::from_vec(last, self.lengths.len(), all.device())?;
        Ok(all.flatten(0, 1)?.index_select(&last, 0)?)
    }

    /// The last real position of each row, `[batch, 1]`, u32.
    ///
    /// # Errors
    /// When the device has no memory.
    pub fn last_positions(&self, device: &Device) -> Result<Tensor> {
        let last: Vec<u32> = self
            .lengths
            .iter()
            .map(|length| *length as u32 - 1)
            .collect();
        Ok(Tensor::from_vec(last, (self.lengths.len(), 1), device)?)
    }

    /// Additive mask `[batch, 1, 1, 1, time]`: 0 at real positions, minus infinity at padding.
    ///
    /// # Errors
    /// When the device has no memory.
    pub fn length_mask(&self, device: &Device) -> Result<Tensor> {
        let mut mask = vec![f32::NEG_INFINITY; self.lengths.len() * self.time];
        for (row, length) in mask.chunks_mut(self.time.max(1)).zip(&self.lengths) {
            row[..*length].fill(0.0);
        }
        Ok(Tensor::from_vec(
            mask,
            (self.lengths.len(), 1, 1, 1, self.time),
            device,
        )?)
    }

    /// Puts the rows' own `[tokens, hidden]` together to one `[batch, time, hidden]`. What rows have in
    /// common is taken of the first of them.
    ///
    /// # Errors
    /// On shapes that do not fit.
    pub fn stack(&self, own: &[&Tensor]) -> Result<Tensor> {
        if let Some(shared) = &self.shared {
            let pieces = shared.pieces.iter();
            let pieces = pieces.map(|piece| own[piece.row].narrow(0, piece.from, piece.n));
            let pieces: candle_core::Result<Vec<Tensor>> = pieces.collect();
            return Ok(Tensor::cat(&pieces?, 0)?.unsqueeze(0)?);
        }
        let pad = |own: &&Tensor| own.pad_with_zeros(0, 0, self.time - own.dim(0)?);
        let padded: candle_core::Result<Vec<Tensor>> = own.iter().map(pad).collect();
        Ok(Tensor::stack(&padded?, 0)?)
    }

    /// Cuts `[batch, time, hidden]` into the rows' own `[tokens, hidden]`, without history and
    /// with memory of their own, so that what is padding is not kept.
    ///
    /// # Errors
    /// On shapes that do not fit.
    pub fn unstack(&self, all: &Tensor) -> Result<Vec<Tensor>> {
        let cut = |(row, length): (usize, &usize)| {
            let own = match &self.shared {
                // A copy, that the rest be let go.
                None => all.get(row)?.narrow(0, 0, *length)?.force_contiguous()?,
                Some(shared) => {
                    let place = &shared.places[row];
                    let all = all.get(0)?;
                    let common = all.narrow(0, place.start, place.common)?;
                    let own = all.narrow(0, place.own, length - place.common)?;
                    Tensor::cat(&[common, own], 0)?
                }
            };
            Ok(own.detach())
        };
        self.lengths.iter().enumerate().map(cut).collect()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::nn::test_support::{distance, random};

    #[test]
    fn the_common_beginning_leaves_each_row_a_token() {
        let of = |rows: &[&[u32]]| common_prefix(rows);
        assert_eq!(of(&[&[1, 2, 3], &[1, 2, 4, 5], &[1, 2, 3, 9]]), 2);
        assert_eq!(of(&[&[1, 2], &[1, 2, 4]]), 1);
        assert_eq!(of(&[&[1, 2, 3], &[1, 2, 3]]), 2);
        assert_eq!(of(&[&[1, 2], &[3, 2]]), 0);
        assert_eq!(of(&[&[1, 2]]), 0);
        assert_eq!(of(&[&[], &[1]]), 0);
        assert_eq!(of(&[]), 0);
    }

    /// Rows of two prompts in turn, one that stands alone, and two that are the same.
    fn rows() -> (Vec<Vec<u32>>, Vec<Vec<usize>>) {
        let rows = [
            vec![7, 8, 9, 1],
            vec![3, 4, 5, 6, 2],
            vec![7, 8, 1],
            vec![3, 4, 2],
            vec![11, 12],
            vec![21, 22, 2],
            vec![21, 22, 2],
        ];
        (
            rows.to_vec(),
            vec![vec![0, 2], vec![1, 3], vec![4], vec![5, 6]],
        )
    }

    #[test]
    fn every_token_is_found_where_it_lies_and_common_ones_are_there_once() {
        let (rows, sets) = rows();
        let views: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        let batch = TokenBatch::sharing(&views, &sets, &Device::Cpu).unwrap();
        let ids = batch.ids.flatten_all().unwrap().to_vec1::<u32>().unwrap();
        let expected = [7, 8, 9, 1, 1, 3, 4, 5, 6, 2, 2, 11, 12, 21, 22, 2, 2];
        assert_eq!(ids, expected);
        for (row, tokens) in rows.iter().enumerate() {
            for (position, token) in tokens.iter().enumerate() {
                assert_eq!(ids[batch.flat_index(row, position) as usize], *token);
            }
        }
        assert_eq!(batch.longest_text(), 5);
        let numbers = random("all", &[1, expected.len(), 3]);
        let last = batch.last(&numbers).unwrap();
        for (row, at) in [3, 9, 4, 10, 12, 15, 16].into_iter().enumerate() {
            let wanted = numbers.get(0).unwrap().get(at).unwrap();
            assert_eq!(distance(&last.get(row).unwrap(), &wanted), 0.0);
        }
    }

    #[test]
    fn what_is_cut_into_rows_is_put_together_again() {
        let (rows, sets) = rows();
        let views: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        let batch = TokenBatch::sharing(&views, &sets, &Device::Cpu).unwrap();
        let all = random("all", &[1, 17, 3]);
        let own = batch.unstack(&all).unwrap();
        for (own, row) in own.iter().zip(&rows) {
            assert_eq!(own.dims(), [row.len(), 3]);
        }
        let again = batch.stack(&own.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(distance(&again, &all), 0.0);
    }
}
