//! Operations of a transformer block for f32 on CPU, each one pass over memory where candle's own
//! take several, each with a written-out backward pass. Whoever calls them falls back to candle's
//! own elsewhere; [`is_fused`] decides. Sums run in a fixed order, so results repeat to the bit.

use candle_core::{CpuStorage, DType, Layout, Tensor};

pub mod attention;
pub mod backward;
pub mod in_place;
pub mod linear;
pub mod paged_attention;
pub mod rms_norm;
pub mod simd;
pub mod swiglu;
pub mod tiles;
pub mod token_rows;

/// Whether these operations serve `x`.
pub fn is_fused(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

/// The numbers of a contiguous tensor.
fn numbers<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => candle_core::bail!("a fused operation needs contiguous tensors"),
    }
}

#[cfg(test)]
pub(crate) mod test_support {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use candle_core::{Device, Tensor, Var};

    use crate::rng::{standard_normal, stream};

    /// Standard normal numbers.
    pub(crate) fn random(name: &str, shape: &[usize]) -> Tensor {
        let mut rng = stream(1, name, 0);
        let n = shape.iter().product();
        let values: Vec<f32> = (0..n).map(|_| standard_normal(&mut rng)).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    /// Largest difference between the elements of two tensors.
    pub(crate) fn distance(a: &Tensor, b: &Tensor) -> f32 {
        let difference = (a - b).unwrap().abs().unwrap();
        difference.max_all().unwrap().to_scalar().unwrap()
    }

    type Operation<'a> = &'a dyn Fn(&[Tensor]) -> Tensor;

    /// Holds `fused` against `plain` in value and gradients, and its gradients against finite
    /// differences.
    pub(crate) fn assert_same(inputs: &[Tensor], fused: Operation, plain: Operation) {
        let value = fused(inputs);
        let weights = random("projection", value.dims());
        let project = |operation: Operation, inputs: &[Tensor]| {
            (operation(inputs) * &weights).unwrap().sum_all().unwrap()
        };
        assert!(distance(&value, &plain(inputs)) < 1e-5);
        let variables: Vec<Var> = inputs
            .iter()
            .map(|x| Var::from_tensor(x).unwrap())
            .collect();
        let tracked: Vec<Tensor> = variables.iter().map(|v| v.as_tensor().clone()).collect();
        let ours = project(fused, &tracked).backward().unwrap();
        let theirs = project(plain, &tracked).backward().unwrap();
        for (index, variable) in variables.iter().enumerate() {
            let gradient = ours.get(variable).unwrap();
            let d = distance(gradient, theirs.get(variable).unwrap());
            assert!(d < 1e-4, "input {index}: {d:e} from the plain gradient");
            let direction = random(&format!("direction {index}"), variable.dims());
            let moved = |step: f64| {
                let mut moved = inputs.to_vec();
                moved[index] = (&inputs[index] + (&direction * step).unwrap()).unwrap();
                let products = (fused(&moved) * &weights).unwrap().flatten_all().unwrap();
                let products: Vec<f32> = products.to_vec1().unwrap();
                products.into_iter().map(f64::from).sum::<f64>()
            };
            let slope = (moved(1e-3) - moved(-1e-3)) / 2e-3;
            let along = (gradient * &direction).unwrap().sum_all().unwrap();
            let along = f64::from(along.to_scalar::<f32>().unwrap());
            let d = (slope - along).abs();
            assert!(
                d < 2e-2 * slope.abs().max(1.0),
                "input {index}: {slope} and {along}"
            );
        }
    }
}
