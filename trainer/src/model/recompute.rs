//! Activation recomputation (Chen et al., arXiv 1604.06174): of a part of the network only its input
//! is kept, and the part runs a second time in the backward pass. That costs about one more forward
//! pass and saves what every operation of the part would keep for its gradient.
//!
//! candle has nothing of the kind. Here a part stands in the graph as one operation. Its backward
//! pass runs the part again, with history, and takes the gradient of the product of its output with
//! the gradient that came from above. That gives the gradient by the input, which candle passes on,
//! and those by the part's own weights, which [`backward`] adds to what candle found. The same
//! operations run in the same order, so gradients are those of a kept pass to the bit.

use std::cell::RefCell;
use std::sync::{Mutex, PoisonError};

use candle_core::backend::BackendStorage;
use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, CudaStorage, CustomOp2, Layout, Shape, Storage, Tensor, Var, bail};

use crate::error::{Result, TrainerError};

type Part = dyn Fn(&Tensor) -> Result<Tensor> + Send + Sync;

thread_local! {
    /// Gradients of the parts' weights, as variable and the sum so far, while [`backward`] is at work.
    static FOUND: RefCell<Option<Vec<(Tensor, Tensor)>>> = const { RefCell::new(None) };
}

/// Runs `part` on `x` and keeps `x` alone for the backward pass, which must be [`backward`]. What
/// `part` computes may depend on nothing but `x` and weights: the second run must repeat the first.
///
/// # Errors
/// What the part says.
pub fn segment(
    x: &Tensor,
    part: impl Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    let result = part(&x.detach())?.detach();
    let segment = Segment {
        part: Box::new(part),
        result: Mutex::new(Some(result)),
    };
    // Makes candle visit the operation even where `x` itself has no history.
    let anchor = Var::zeros((), x.dtype(), x.device())?;
    Ok(x.apply_op2(anchor.as_tensor(), segment)?)
}

/// The gradients of a scalar, as `scalar.backward()` gives them, through recomputed parts too.
///
/// # Errors
/// When the device has no memory.
pub fn backward(scalar: &Tensor) -> Result<GradStore> {
    FOUND.with_borrow_mut(|found| *found = Some(Vec::new()));
    let store = scalar.backward();
    let found = FOUND.with_borrow_mut(Option::take).unwrap_or_default();
    let mut store = store?;
    for (variable, gradient) in found {
        let sum = match store.remove(&variable) {
            Some(sum) => (sum + gradient)?,
            None => gradient,
        };
        store.insert(&variable, sum);
    }
    Ok(store)
}

/// Adds a weight's gradient to what is there. A part of several passes that share a backward pass
/// has one for each: kept apart until the end, they would take the memory that recomputation saves.
fn add(
    found: &mut Vec<(Tensor, Tensor)>,
    variable: Tensor,
    gradient: Tensor,
) -> candle_core::Result<()> {
    let sum = found
        .iter_mut()
        .find(|(known, _)| known.id() == variable.id());
    match sum {
        Some((_, sum)) => *sum = (&*sum + gradient)?,
        None => found.push((variable, gradient)),
    }
    Ok(())
}

struct Segment {
    part: Box<Part>,
    /// Output of the first run, until the operation hands it on.
    result: Mutex<Option<Tensor>>,
}

impl Segment {
    fn take_result(&self) -> candle_core::Result<Tensor> {
        let mut result = self.result.lock().unwrap_or_else(PoisonError::into_inner);
        match result.take() {
            Some(result) if result.is_contiguous() && result.layout().start_offset() == 0 => {
                Ok(result)
            }
            Some(result) => result.force_contiguous(),
            None => bail!("a recomputed part runs forward once"),
        }
    }
}

impl CustomOp2 for Segment {
    fn name(&self) -> &'static str {
        "recomputed"
    }

    fn cpu_fwd(
        &self,
        _x: &CpuStorage,
        _x_layout: &Layout,
        _anchor: &CpuStorage,
        _anchor_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let result = self.take_result()?;
        let (storage, layout) = result.storage_and_layout();
        match &*storage {
            Storage::Cpu(storage) => Ok((storage.try_clone(layout)?, layout.shape().clone())),
            _ => bail!("a recomputed part moved its input to another device"),
        }
    }

    fn cuda_fwd(
        &self,
        _x: &CudaStorage,
        _x_layout: &Layout,
        _anchor: &CudaStorage,
        _anchor_layout: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        let result = self.take_result()?;
        let (storage, layout) = result.storage_and_layout();
        match &*storage {
            Storage::Cuda(storage) => Ok((storage.try_clone(layout)?, layout.shape().clone())),
            _ => bail!("a recomputed part moved its input to another device"),
        }
    }

    fn bwd(
        &self,
        x: &Tensor,
        _anchor: &Tensor,
        _result: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        // Where nothing below learns, the gradient by the input would be computed for nothing.
        let input = match x.track_op() {
            true => Some(Var::from_tensor(&x.detach())?),
            false => None,
        };
        let again = match &input {
            Some(input) => (self.part)(input.as_tensor()),
            None => (self.part)(&x.detach()),
        };
        let again = again.map_err(candle_core::Error::wrap)?;
        let scalar = (&again * gradient.detach())?.sum_all()?;
        let mut store = scalar.backward()?;
        let by_input = input.as_ref().and_then(|input| store.remove(input));
        let mut own = Vec::new();
        for node in again.sorted_nodes() {
            if node.is_variable()
                && let Some(gradient) = store.remove(node)
            {
                own.push((node.clone(), gradient.detach()));
            }
        }
        FOUND.with_borrow_mut(|found| match found {
            Some(found) => {
                for (variable, gradient) in own {
                    add(found, variable, gradient)?;
                }
                Ok((by_input, None))
            }
            None => Err(candle_core::Error::wrap(TrainerError::Refused(
                "a recomputed pass needs recompute::backward, or its weights would learn nothing"
                    .to_owned(),
            ))),
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::nn::test_support::{distance, random};

    fn layer(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        Ok((x.matmul(weight)?.tanh()? + x)?)
    }

    /// Two layers of one weight each, used twice, so that gradients add up.
    fn loss(x: &Tensor, weights: &[Var; 2], recompute: bool) -> Tensor {
        let mut sum = Tensor::zeros((), x.dtype(), x.device()).unwrap();
        for scale in [1.0, 0.5] {
            let mut h = (x * scale).unwrap();
            for weight in weights {
                let weight = weight.as_tensor().clone();
                h = match recompute {
                    true => segment(&h, move |x| layer(x, &weight)).unwrap(),
                    false => layer(&h, &weight).unwrap(),
                };
            }
            sum = (sum + h.sqr().unwrap().sum_all().unwrap()).unwrap();
        }
        sum
    }

    #[test]
    fn gradients_are_those_of_a_kept_pass_to_the_bit() {
        let weights = ["first", "second"].map(|name| Var::from_tensor(&random(name, &[6, 6])));
        let weights = weights.map(candle_core::Result::unwrap);
        for x in [
            random("x", &[5, 6]),
            Var::from_tensor(&random("x", &[5, 6]))
                .unwrap()
                .as_tensor()
                .clone(),
        ] {
            let kept = loss(&x, &weights, false);
            let again = loss(&x, &weights, true);
            assert_eq!(distance(&kept, &again), 0.0);
            let (kept, again) = (kept.backward().unwrap(), backward(&again).unwrap());
            for weight in &weights {
                let (kept, again) = (kept.get(weight).unwrap(), again.get(weight).unwrap());
                assert_eq!(distance(kept, again), 0.0);
                assert!(
                    !again.track_op(),
                    "a gradient with history keeps activations"
                );
            }
            assert_eq!(kept.get(&x).is_some(), x.track_op());
            if let Some(by_x) = kept.get(&x) {
                assert_eq!(distance(by_x, again.get(&x).unwrap()), 0.0);
            }
        }
    }

    #[test]
    fn candles_own_backward_is_refused() {
        let weights = ["a", "b"].map(|name| Var::from_tensor(&random(name, &[4, 4])).unwrap());
        let error = loss(&random("x", &[2, 4]), &weights, true).backward();
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("recompute::backward")
        );
    }

    #[test]
    fn an_error_of_the_second_run_is_told() {
        let first = std::sync::atomic::AtomicBool::new(true);
        let weight = Var::from_tensor(&random("w", &[4, 4])).unwrap();
        let x = random("x", &[2, 4]);
        let h = segment(&x, move |x| {
            match first.swap(false, std::sync::atomic::Ordering::Relaxed) {
                true => layer(x, weight.as_tensor()),
                false => Err(TrainerError::Diverged("on the way back".to_owned())),
            }
        });
        let error = backward(&h.unwrap().sum_all().unwrap()).unwrap_err();
        assert!(error.to_string().contains("on the way back"), "{error}");
    }
}
