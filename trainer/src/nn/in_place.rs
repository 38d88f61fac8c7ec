//! Sums where they lie, for f32 on CPU.

use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor};
use rayon::prelude::*;

use super::is_fused;

/// Numbers that a core takes at a time.
pub const CHUNK: usize = 1 << 15;

/// Adds `scale` times a tensor to `sum`, where that lies in memory; false where it cannot be done so.
///
/// # Errors
/// On shapes that do not fit.
pub fn add(sum: &Tensor, other: &Tensor, scale: f64) -> Result<bool> {
    if !is_fused(sum) || !sum.is_contiguous() || !other.is_contiguous() {
        return Ok(false);
    }
    sum.inplace_op2(other, &Add(scale as f32))?;
    Ok(true)
}

/// The numbers of two contiguous tensors, the first to be changed.
///
/// # Errors
/// When they are not contiguous f32 of one shape.
pub fn both<'a>(
    (to, to_layout): (&'a mut CpuStorage, &Layout),
    (from, from_layout): (&'a CpuStorage, &Layout),
) -> Result<(&'a mut [f32], &'a [f32])> {
    let ranges = (
        to_layout.contiguous_offsets(),
        from_layout.contiguous_offsets(),
    );
    match (to, from, ranges) {
        (CpuStorage::F32(to), CpuStorage::F32(from), (Some(own), Some(other)))
            if to_layout.shape() == from_layout.shape() =>
        {
            Ok((&mut to[own.0..own.1], &from[other.0..other.1]))
        }
        _ => candle_core::bail!("what changes in place must be contiguous f32 of one shape"),
    }
}

struct Add(f32);

impl InplaceOp2 for Add {
    fn name(&self) -> &'static str {
        "add-in-place"
    }

    fn cpu_fwd(
        &self,
        sum: &mut CpuStorage,
        sum_layout: &Layout,
        other: &CpuStorage,
        other_layout: &Layout,
    ) -> Result<()> {
        let (sum, other) = both((sum, sum_layout), (other, other_layout))?;
        sum.par_chunks_mut(CHUNK)
            .zip(other.par_chunks(CHUNK))
            .for_each(|(sum, other)| {
                for (sum, other) in sum.iter_mut().zip(other) {
                    *sum += self.0 * other;
                }
            });
        Ok(())
    }
}
