//! Where to compute, as the command line names it.

use trainer::Device;

/// A device by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum DeviceName {
    /// The processor.
    Cpu,
    /// The first of NVIDIA's GPUs.
    Cuda,
}

impl DeviceName {
    /// The device.
    ///
    /// # Errors
    /// A sentence: this program cannot use one, or there is none.
    pub fn open(self) -> trainer::Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda => trainer::device::cuda(),
        }
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}
