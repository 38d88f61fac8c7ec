//! The backward pass. candle's own makes zeros for each operand of an operation and adds the gradient
//! to them in new memory: three passes over memory where a weight's gradient needs none. Here our
//! operations hand the gradients of weights to `give`, which adds them up where they lie, and
//! [`backward`] puts them beside those that candle found.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use candle_core::backend::BackendStorage;
use candle_core::backprop::GradStore;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp2, InplaceOp3, Layout, Result, Shape, Storage, Tensor,
    TensorId, bail,
};

use super::{in_place, is_fused, numbers};

/// Gradients of weights so far, each with its weight.
type Found = HashMap<TensorId, (Tensor, Tensor)>;

thread_local! {
    /// What was given while [`backward`] is at work.
    static FOUND: RefCell<Option<Found>> = const { RefCell::new(None) };
}

/// Takes what was given, also where the pass ends by an error or a panic.
struct Open;

impl Open {
    fn new() -> Self {
        FOUND.set(Some(Found::new()));
        Self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        FOUND.take();
    }
}

/// The gradients of a scalar, as `scalar.backward()` gives them, through recomputed parts too. None
/// carries history, which would keep activations alive.
///
/// # Errors
/// When the device has no memory.
pub fn backward(scalar: &Tensor) -> crate::error::Result<GradStore> {
    let open = Open::new();
    let mut store = scalar.backward()?;
    let found = FOUND.take().unwrap_or_default();
    drop(open);
    for (weight, gradient) in found.into_values() {
        let sum = match store.remove(&weight) {
            Some(sum) => (sum + gradient)?,
            None => gradient,
        };
        store.insert(&weight, sum);
    }
    Ok(store)
}

/// Whether [`backward`] is at work, so that weights' gradients given are not lost.
pub(crate) fn is_open() -> bool {
    FOUND.with_borrow(Option::is_some)
}

/// Adds `gradient`, which nobody else holds, to that of `weight`. Given back, for candle to add, where
/// `weight` is no variable or [`backward`] is not at work.
///
/// # Errors
/// On shapes that do not fit.
pub(crate) fn give(weight: &Tensor, gradient: Tensor) -> Result<Option<Tensor>> {
    if !weight.is_variable() {
        return Ok(Some(gradient));
    }
    FOUND.with_borrow_mut(|found| {
        let Some(found) = found else {
            return Ok(Some(gradient));
        };
        let gradient = gradient.detach();
        let Some((_, sum)) = found.get_mut(&weight.id()) else {
            found.insert(weight.id(), (weight.clone(), gradient));
            return Ok(None);
        };
        if !in_place::add(sum, &gradient, 1.0)? {
            *sum = (&*sum + gradient)?;
        }
        Ok(None)
    })
}

/// The rows of `table` `[n, width]` that `ids` `[rows]` (u32) name, `[rows, width]`.
///
/// # Errors
/// When an id is beyond the table.
pub fn rows(table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let picked = table.detach().index_select(ids, 0)?;
    made(table, ids, picked, |table, ids, gradient| {
        if is_fused(table) && table.is_variable() && is_open() {
            give_rows(table, ids, gradient)?;
            return Ok((None, None));
        }
        let zeros = table.zeros_like()?;
        Ok((Some(zeros.index_add(ids, gradient, 0)?), None))
    })
}

/// Adds a row of `gradient` to the row of the table's gradient that each id names.
fn give_rows(table: &Tensor, ids: &Tensor, gradient: &Tensor) -> Result<()> {
    FOUND.with_borrow_mut(|found| {
        let Some(found) = found else {
            bail!("no backward pass is at work")
        };
        let sum = match found.get(&table.id()) {
            Some((_, sum)) => sum.clone(),
            None => {
                let zeros = table.zeros_like()?.detach();
                found.insert(table.id(), (table.clone(), zeros.clone()));
                zeros
            }
        };
        sum.inplace_op3(&ids.contiguous()?, &gradient.contiguous()?, &AddRows)
    })
}

struct AddRows;

impl InplaceOp3 for AddRows {
    fn name(&self) -> &'static str {
        "add-rows"
    }

    fn cpu_fwd(
        &self,
        sum: &mut CpuStorage,
        sum_layout: &Layout,
        ids: &CpuStorage,
        ids_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> Result<()> {
        let (n, width) = sum_layout.shape().dims2()?;
        let gradient = numbers(gradient, gradient_layout)?;
        let (CpuStorage::F32(sum), Some((start, end)), Some(own)) = (
            sum,
            sum_layout.contiguous_offsets(),
            ids_layout.contiguous_offsets(),
        ) else {
            bail!("rows are added to contiguous f32")
        };
        let (sum, ids) = (&mut sum[start..end], &ids.as_slice::<u32>()?[own.0..own.1]);
        for (id, gradient) in ids.iter().zip(gradient.chunks(width)) {
            let id = *id as usize;
            if id >= n {
                bail!("row {id} is beyond a table of {n}")
            }
            for (sum, gradient) in sum[id * width..][..width].iter_mut().zip(gradient) {
                *sum += gradient;
            }
        }
        Ok(())
    }
}

/// Gradients by the two operands, from the operands and the gradient by the result.
type Backward =
    dyn Fn(&Tensor, &Tensor, &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> + Send + Sync;

/// An operation of `x` and `y` whose `result` is known already and whose backward pass is `backward`.
///
/// # Errors
/// When the device has no memory.
pub(crate) fn made(
    x: &Tensor,
    y: &Tensor,
    result: Tensor,
    backward: impl Fn(&Tensor, &Tensor, &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)>
    + Send
    + Sync
    + 'static,
) -> Result<Tensor> {
    let made = Made {
        result: Mutex::new(Some(result)),
        backward: Box::new(backward),
    };
    x.apply_op2(y, made)
}

struct Made {
    /// The result, until the operation hands it on.
    result: Mutex<Option<Tensor>>,
    backward: Box<Backward>,
}

impl Made {
    fn take_result(&self) -> Result<Tensor> {
        let mut result = self.result.lock().unwrap_or_else(PoisonError::into_inner);
        match result.take() {
            Some(result) if result.is_contiguous() && result.layout().start_offset() == 0 => {
                Ok(result)
            }
            Some(result) => result.force_contiguous(),
            None => bail!("an operation of a known result runs forward once"),
        }
    }
}

impl CustomOp2 for Made {
    fn name(&self) -> &'static str {
        "made"
    }

    fn cpu_fwd(
        &self,
        _x: &CpuStorage,
        _x_layout: &Layout,
        _y: &CpuStorage,
        _y_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let result = self.take_result()?;
        let (storage, layout) = result.storage_and_layout();
        match &*storage {
            Storage::Cpu(storage) => Ok((storage.try_clone(layout)?, layout.shape().clone())),
            _ => bail!("an operation's result lies on another device than its operands"),
        }
    }

    fn cuda_fwd(
        &self,
        _x: &CudaStorage,
        _x_layout: &Layout,
        _y: &CudaStorage,
        _y_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let result = self.take_result()?;
        let (storage, layout) = result.storage_and_layout();
        match &*storage {
            Storage::Cuda(storage) => Ok((storage.try_clone(layout)?, layout.shape().clone())),
            _ => bail!("an operation's result lies on another device than its operands"),
        }
    }

    fn bwd(
        &self,
        x: &Tensor,
        y: &Tensor,
        _result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        (self.backward)(x, y, gradient)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use candle_core::{Device, Var};

    use super::*;
    use crate::nn::linear::linear;
    use crate::nn::test_support::{distance, random};

    /// A table that is read by row and by product, as tied embeddings are, and a weight used twice.
    fn loss(table: &Var, weight: &Var) -> Tensor {
        let ids = Tensor::new(&[3_u32, 0, 3, 5], &Device::Cpu).unwrap();
        let x = rows(table.as_tensor(), &ids).unwrap();
        let x = linear(&x, weight.as_tensor()).unwrap();
        let x = linear(&x.tanh().unwrap(), weight.as_tensor()).unwrap();
        let scores = linear(&x, table.as_tensor()).unwrap();
        scores.sqr().unwrap().sum_all().unwrap()
    }

    #[test]
    fn gradients_that_are_given_are_those_that_candle_adds_up() {
        let table = Var::from_tensor(&random("table", &[7, 6])).unwrap();
        let weight = Var::from_tensor(&random("weight", &[6, 6])).unwrap();
        let loss = loss(&table, &weight);
        let (ours, candles) = (backward(&loss).unwrap(), loss.backward().unwrap());
        for variable in [&table, &weight] {
            let (ours, candles) = (ours.get(variable).unwrap(), candles.get(variable).unwrap());
            let largest: f32 = candles
                .abs()
                .unwrap()
                .max_all()
                .unwrap()
                .to_scalar()
                .unwrap();
            assert!(distance(ours, candles) < 1e-5 * largest);
            assert!(!ours.track_op());
        }
        assert!(!is_open());
    }

    #[test]
    fn an_error_on_the_way_leaves_nothing_open() {
        let weight = Var::from_tensor(&random("weight", &[2, 2])).unwrap();
        let x = weight.as_tensor();
        let broken = made(x, x, x.detach(), |_, _, _| bail!("on the way back")).unwrap();
        let error = backward(&broken.sum_all().unwrap()).unwrap_err();
        assert!(error.to_string().contains("on the way back"), "{error}");
        assert!(!is_open());
    }

    #[test]
    fn a_row_beyond_the_table_is_an_error() {
        let ids = Tensor::new(&[7_u32], &Device::Cpu).unwrap();
        assert!(rows(&random("table", &[7, 2]), &ids).is_err());
    }
}
