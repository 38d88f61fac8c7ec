//! `plackett bench`: how fast the trainer is on this machine, one JSON line for each case. Compare
//! lines of one run: machines are noisy, and a single figure says little.

mod ppo;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::json;
use trainer::Device;
use trainer::config::{LoraConfig, Preset, SftConfig};
use trainer::generate::{SampleRequest, generate};
use trainer::memory::PeakWatch;
use trainer::model::attention::Pass;
use trainer::model::batch::TokenBatch;
use trainer::model::transformer::Transformer;
use trainer::model::weights::Trainable;
use trainer::optim::{AdamW, Gradients};
use trainer::reward::{StepBench, StepShape};
use trainer::sampling::SamplingConfig;
use trainer::sft::{LearningRow, add_gradient};

use crate::commands::device::DeviceName;
use crate::config::DataConfig;

/// Rows and tokens of a forward pass and a training step.
const BATCH: (usize, usize) = (4, 256);

/// Settings of `plackett bench`.
#[derive(Debug, Clone, clap::Args)]
pub struct BenchCommand {
    /// The model's folder. Default: smollm2-135m-instruct in the data folder.
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,

    /// Repeats of each case, after one that is not counted.
    #[arg(long, default_value_t = 3)]
    pub repeats: usize,

    /// Only cases whose names begin so, for example reward.
    #[arg(long, value_name = "NAME", default_value = "")]
    pub only: String,

    /// Where it computes. cuda needs a program that was built by `make build-cuda`, and a GPU.
    #[arg(long, value_enum, default_value_t = DeviceName::Cpu)]
    pub device: DeviceName,
}

/// How often each case is measured, which are, and where.
struct Wanted {
    repeats: usize,
    only: String,
    device_name: DeviceName,
    device: Device,
    /// Cases that were measured.
    n_told: Cell<usize>,
}

impl Wanted {
    fn has(&self, case: &str) -> bool {
        case.starts_with(&self.only)
    }
}

/// Measures and prints.
///
/// # Errors
/// When the model cannot be loaded, or there is no such device.
pub async fn run(data: &DataConfig, command: BenchCommand) -> anyhow::Result<()> {
    let default = data.models_dir().join("smollm2-135m-instruct");
    let folder = command.model.unwrap_or(default);
    let wanted = Wanted {
        repeats: command.repeats.max(1),
        only: command.only,
        device_name: command.device,
        device: command.device.open()?,
        n_told: Cell::new(0),
    };
    tokio::task::spawn_blocking(move || {
        measure_all(&folder, &wanted)?;
        measure_rewards(&folder, &wanted)?;
        match wanted.device_name {
            DeviceName::Cpu => measure_ppo(&folder, &wanted)?,
            // Whole runs take no device.
            DeviceName::Cuda => eprintln!("cases of PPO are left out: its runs compute on the CPU"),
        }
        let told = wanted.n_told.get();
        ensure!(
            told > 0,
            "no case has a name that begins with {:?}",
            wanted.only
        );
        Ok(())
    })
    .await?
}

/// Iterations of PPO over 8 episodes, all layers learning or adapters alone.
fn measure_ppo(folder: &Path, wanted: &Wanted) -> anyhow::Result<()> {
    for (case, lora) in [
        ("ppo_step", None),
        ("ppo_lora", Some(LoraConfig::default())),
    ] {
        if !wanted.has(case) {
            continue;
        }
        let measured = ppo::measure(folder, wanted.repeats, lora);
        let measured = measured.with_context(|| format!("case {case}"))?;
        tell(
            case,
            measured.n_tokens,
            &measured.took,
            measured.peak,
            wanted,
        );
    }
    Ok(())
}

/// Steps of reward training: 4 prompts with K completions of 128 tokens. In each case first with a pass
/// of its own for each completion, prompt and all (`apart_`), then with the prompt there once.
fn measure_rewards(folder: &Path, wanted: &Wanted) -> anyhow::Result<()> {
    for (completions, prompt_tokens) in [(5, 64), (9, 64), (5, 256), (9, 256)] {
        let shape = StepShape {
            prompts: 4,
            completions,
            prompt_tokens,
            completion_tokens: 128,
        };
        for (how, rows) in [("apart_", 1), ("", completions)] {
            let case = format!("{how}reward_k{completions}_prompt{prompt_tokens}");
            if wanted.has(&case) {
                let mut step = StepBench::new(folder, &wanted.device, shape, rows)?;
                report(&case, shape.n_tokens(), wanted, || step.step())?;
            }
        }
    }
    Ok(())
}

fn measure_all(folder: &Path, wanted: &Wanted) -> anyhow::Result<()> {
    let device = &wanted.device;
    let (rows, time) = BATCH;
    let tokens: Vec<Vec<u32>> = (0..rows)
        .map(|row| {
            (0..time)
                .map(|i| ((row * 31 + i * 7) % 97) as u32 + 100)
                .collect()
        })
        .collect();
    for (case, trainable) in [
        ("train_upper_4", Trainable::UpperLayers(4)),
        ("train_everything", Trainable::Everything),
    ] {
        if !wanted.has(case) {
            continue;
        }
        let model = Transformer::load(folder, device, trainable)?;
        report(case, rows * time, wanted, || {
            let mut gradients = Gradients::default();
            add_gradient(&model, &learning_rows(&tokens), 0, 1e-3, &mut gradients)?;
            Ok(())
        })?;
    }
    if wanted.has("sft_step") {
        let model = Transformer::load(folder, device, Trainable::Everything)?;
        let config = SftConfig::preset(Preset::Tiny);
        let mut optimiser = AdamW::new(config.optimiser);
        report("sft_step", rows * time, wanted, || {
            let mut gradients = Gradients::default();
            add_gradient(&model, &learning_rows(&tokens), 0, 1e-3, &mut gradients)?;
            optimiser.step(model.weights().variables(), &gradients, 1.0)?;
            Ok(())
        })?;
    }
    let of_frozen = ["forward", "generate_8_prompts", "generate_8_samples"];
    if !of_frozen.iter().any(|case| wanted.has(case)) {
        return Ok(());
    }
    let model = Transformer::load(folder, device, Trainable::Nothing)?;
    let batch = TokenBatch::new(&tokens, 0, device)?;
    report("forward", rows * time, wanted, || {
        model.hidden(&batch, Pass::Frozen)?;
        Ok(())
    })?;
    for (case, n_prompts, n_samples, length) in [
        ("generate_8_prompts", 8, 1, 64),
        ("generate_8_samples", 1, 8, 256),
    ] {
        let prompts: Vec<Vec<u32>> = tokens
            .iter()
            .cycle()
            .take(n_prompts)
            .map(|row| row[..length].to_vec())
            .collect();
        let requests: Vec<SampleRequest> = (0..n_prompts * n_samples)
            .map(|index| SampleRequest {
                prompt: index / n_samples,
                stream: index as u64,
            })
            .collect();
        let sampling = SamplingConfig {
            temperature: 1.0,
            top_p: 1.0,
            max_new_tokens: 64,
            seed: 1,
        };
        // No token ends a completion here, so that every repeat does the same work.
        report(
            case,
            requests.len() * sampling.max_new_tokens,
            wanted,
            || {
                generate(
                    &model,
                    &prompts,
                    &requests,
                    &sampling,
                    u32::MAX,
                    &mut |_| true,
                )?;
                Ok(())
            },
        )?;
    }
    Ok(())
}

/// Rows of which every token but the first is learnt.
fn learning_rows(tokens: &[Vec<u32>]) -> Vec<LearningRow> {
    let rows = tokens.iter().map(|row| LearningRow {
        tokens: row.clone(),
        start: 1,
    });
    rows.collect()
}

/// Measures and prints a case, where it is wanted.
fn report(
    case: &str,
    n_tokens: usize,
    wanted: &Wanted,
    mut work: impl FnMut() -> trainer::Result<()>,
) -> anyhow::Result<()> {
    if !wanted.has(case) {
        return Ok(());
    }
    let watch = PeakWatch::start();
    let mut took = Vec::with_capacity(wanted.repeats);
    work().with_context(|| format!("case {case}"))?;
    wanted.device.synchronize()?;
    for _ in 0..wanted.repeats {
        let started = Instant::now();
        work()?;
        // A GPU may still be at it.
        wanted.device.synchronize()?;
        took.push(started.elapsed());
    }
    tell(case, n_tokens, &took, watch.bytes(), wanted);
    Ok(())
}

/// Prints what was measured of a case. The peak is that of the whole process while it was measured,
/// without the memory of a GPU.
fn tell(case: &str, n_tokens: usize, took: &[Duration], peak: Option<u64>, wanted: &Wanted) {
    wanted.n_told.set(wanted.n_told.get() + 1);
    let mut seconds: Vec<f64> = took.iter().map(Duration::as_secs_f64).collect();
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    let line = json!({
        "case": case,
        "device": wanted.device_name.as_str(),
        "tokens": n_tokens,
        "repeats": seconds.len(),
        "seconds_median": median,
        "seconds_min": seconds[0],
        "seconds_max": seconds[seconds.len() - 1],
        "tokens_per_second": n_tokens as f64 / median,
        "peak_mib": peak.map(|bytes| bytes >> 20),
        "version": env!("CARGO_PKG_VERSION"),
    });
    println!("{line}");
}
