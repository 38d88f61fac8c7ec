//! `plackett check-device`: whether a GPU computes what the CPU does, one line for each figure.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::ensure;
use trainer::Device;
use trainer::self_check::devices::{ALLOWED, compare};

use crate::commands::device::DeviceName;
use crate::config::DataConfig;

/// Settings of `plackett check-device`.
#[derive(Debug, Clone, clap::Args)]
pub struct CheckDeviceCommand {
    /// The model that computes, a folder or a name. Default: smollm2-135m-instruct in the data folder.
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,

    /// What is held against the CPU.
    #[arg(long, value_enum, default_value_t = DeviceName::Cuda)]
    pub device: DeviceName,
}

/// Compares and prints. Where there is no such device it says why, and that is no failure.
///
/// # Errors
/// When the devices differ, or the model cannot be loaded.
pub async fn run(data: &DataConfig, command: CheckDeviceCommand) -> anyhow::Result<()> {
    let default = || PathBuf::from("smollm2-135m-instruct");
    let folder = data.find_model(command.model.unwrap_or_else(default));
    let check = move || check(&folder, command.device, &mut std::io::stdout().lock());
    tokio::task::spawn_blocking(check).await?
}

fn check(folder: &Path, name: DeviceName, out: &mut dyn Write) -> anyhow::Result<()> {
    let device = match name.open() {
        Ok(device) => device,
        Err(reason) => {
            writeln!(out, "skipped: {reason}")?;
            return Ok(());
        }
    };
    let figures = compare(folder, &Device::Cpu, &device)?;
    for figure in &figures {
        let verdict = match figure.holds() {
            true => "",
            false => "  TOO FAR",
        };
        writeln!(out, "{:.2e}  {}{verdict}", figure.difference, figure.name)?;
    }
    let apart = figures.iter().filter(|figure| !figure.holds()).count();
    let (n, name) = (figures.len(), name.as_str());
    ensure!(
        apart == 0,
        "{apart} of {n} figures of cpu and {name} differ by more than {ALLOWED:e} of the largest number"
    );
    writeln!(
        out,
        "cpu and {name} agree: {n} figures, {ALLOWED:e} of the largest number allowed"
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn said(device: DeviceName) -> String {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut out = Vec::new();
        let model = crates.join("trainer/tests/fixtures/tiny");
        check(&model, device, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_cpu_agrees_with_itself_to_the_bit() {
        let said = said(DeviceName::Cpu);
        let (verdict, figures) = said
            .trim_end()
            .rsplit_once('\n')
            .map(|(a, b)| (b, a))
            .unwrap();
        assert!(verdict.starts_with("cpu and cpu agree"), "{verdict}");
        for figure in figures.lines() {
            assert!(figure.starts_with("0.00e0  "), "{figure}");
        }
        assert!(figures.contains("gradient of model.layers.0.self_attn.q_proj.weight"));
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn without_cuda_the_reason_is_printed() {
        let said = said(DeviceName::Cuda);
        assert!(said.starts_with("skipped: "), "{said}");
        assert!(said.contains("built without CUDA"), "{said}");
    }
}
