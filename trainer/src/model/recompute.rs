//! Activation recomputation (Chen et al., arXiv 1604.06174): of a part of the network only its input
//! is kept, and the part runs a second time in the backward pass. That costs about one more forward
//! pass and saves what every operation of the part would keep for its gradient.
//!
//! candle has nothing of the kind. Here a part stands in the graph as one operation. Its backward
//! pass runs the part again, with history, and takes the gradient of the product of its output with
//! the gradient that came from above. That gives the gradient by the input, which candle passes on,
//! and those by the part's own weights, which [`backward`](crate::nn::backward::backward) adds up. The same
//! operations run in the same order, so gradients are those of a kept pass to the bit.

use candle_core::{Tensor, Var};

use crate::error::{Result, TrainerError};
use crate::nn::backward::{give, is_open, made};

type Gradients = (Option<Tensor>, Option<Tensor>);

/// Runs `part` on `x` and keeps `x` alone for the backward pass, which must be
/// [`backward`](crate::nn::backward::backward). What
/// `part` computes may depend on nothing but `x` and weights: the second run must repeat the first.
///
/// # Errors
/// What the part says.
pub fn segment(
    x: &Tensor,
    part: impl Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    let result = part(&x.detach())?.detach();
    // Makes candle visit the operation even where `x` itself has no history.
    let anchor = Var::zeros((), x.dtype(), x.device())?;
    Ok(made(
        x,
        anchor.as_tensor(),
        result,
        move |x, _, gradient| gradients_again(&part, x, gradient).map_err(candle_core::Error::wrap),
    )?)
}

/// Runs the part again with history; gives its weights' gradients away and returns that by `x`.
fn gradients_again(
    part: impl Fn(&Tensor) -> Result<Tensor>,
    x: &Tensor,
    gradient: &Tensor,
) -> Result<Gradients> {
    if !is_open() {
        return Err(TrainerError::Refused(
            "a recomputed pass needs nn::backward::backward, or its weights would learn nothing"
                .to_owned(),
        ));
    }
    // Where nothing below learns, the gradient by the input would be computed for nothing.
    let input = match x.track_op() {
        true => Some(Var::from_tensor(&x.detach())?),
        false => None,
    };
    let again = match &input {
        Some(input) => part(input.as_tensor()),
        None => part(&x.detach()),
    }?;
    let scalar = (&again * gradient.detach())?.sum_all()?;
    let mut store = scalar.backward()?;
    let by_input = input.as_ref().and_then(|input| store.remove(input));
    for node in again.sorted_nodes() {
        if node.is_variable()
            && let Some(gradient) = store.remove(node)
        {
            give(node, gradient)?;
        }
    }
    Ok((by_input, None))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::nn::backward::backward;
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
                .contains("backward::backward")
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
