//! Token rows of different lengths as one tensor, padded on the right. With causal attention the
//! padding comes after everything real, so no real position can see it; whatever reads the result
//! goes by `lengths`.

use candle_core::{Device, Tensor};

use crate::error::Result;

/// Rows padded on the right.
pub struct TokenBatch {
    /// Token ids, `[batch, time]`, u32.
    pub ids: Tensor,
    /// Real tokens of each row.
    pub lengths: Vec<usize>,
    /// The longest row.
    pub time: usize,
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
        Ok(Self { ids, lengths, time })
    }

    /// Index of row `row`, position `position` in `[batch * time]`.
    pub fn flat_index(&self, row: usize, position: usize) -> u32 {
        (row * self.time + position) as u32
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
