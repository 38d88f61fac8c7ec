//! Token rows of different lengths as one tensor, padded on the right. With causal attention the
//! padding comes after everything real, so no real position can see it; whatever reads the result
//! goes by `lengths`.

use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::error::Result;
use crate::model::segments::{Segment, Segments};

/// Rows padded on the right.
pub struct TokenBatch {
    /// Token ids, `[batch, time]`, u32.
    pub ids: Tensor,
    /// Real tokens of each row.
    pub lengths: Vec<usize>,
    /// The longest row.
    pub time: usize,
    /// How the rows are divided, where they hold several texts each.
    pub(crate) segments: Option<Arc<Segments>>,
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
        let segments = Segments::new(rows, batch.time, device)?;
        Ok(Self {
            segments: Some(Arc::new(segments)),
            ..batch
        })
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
        (row * self.time + position) as u32
    }

    /// The last real position of each row of `all` `[batch, time, width]`, `[batch, width]`.
    ///
    /// # Errors
    /// On shapes that do not fit.
    pub fn last(&self, all: &Tensor) -> Result<Tensor> {
        let (rows, time, width) = all.dims3()?;
        let ends = self.lengths.iter().enumerate();
        let last: Vec<u32> = ends
            .map(|(row, length)| self.flat_index(row, length - 1))
            .collect();
        let last = Tensor::from_vec(last, rows, all.device())?;
        Ok(all.reshape((rows * time, width))?.index_select(&last, 0)?)
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

    /// Pads the rows' own `[tokens, hidden]` to one `[batch, time, hidden]`.
    ///
    /// # Errors
    /// On shapes that do not fit.
    pub fn stack(&self, own: &[&Tensor]) -> Result<Tensor> {
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
            let own = all.get(row)?.narrow(0, 0, *length)?;
            Ok(own.force_contiguous()?.detach())
        };
        self.lengths.iter().enumerate().map(cut).collect()
    }
}
