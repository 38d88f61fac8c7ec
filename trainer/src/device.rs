//! Where a network computes. Runs compute on the CPU; what is measured or checked may ask for a GPU.

pub use candle_core::Device;

use crate::error::{Result, TrainerError};

/// The first of NVIDIA's GPUs.
///
/// # Errors
/// A sentence: this program was built without CUDA, or the machine has no GPU that it can use.
pub fn cuda() -> Result<Device> {
    let refuse = |message: String| TrainerError::Config {
        field: "device".into(),
        message,
    };
    if !cfg!(feature = "cuda") {
        return Err(refuse(
            "this program was built without CUDA; `make build-cuda` builds one that has it"
                .to_owned(),
        ));
    }
    Device::new_cuda(0).map_err(|error| refuse(format!("no GPU can be used: {error}")))
}

#[cfg(all(test, not(feature = "cuda")))]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn a_program_without_cuda_says_how_to_build_one_that_has_it() {
        let said = cuda().unwrap_err().to_string();
        assert!(said.contains("make build-cuda"), "{said}");
    }
}
