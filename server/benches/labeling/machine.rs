//! What `/proc` says of processes and of the machine.

use std::fs::read_to_string;

use anyhow::Context;
use serde_json::{Value, json};

/// Ticks a second of the times in `/proc`: `USER_HZ`, 100 on Linux whatever the kernel's own clock.
const TICKS: f64 = 100.0;

/// Processor seconds so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cpu {
    /// Of the server.
    pub(crate) server: f64,
    /// Of Postgres with all its processes.
    pub(crate) postgres: f64,
    /// Of this program.
    pub(crate) client: f64,
    /// Of the whole machine, these included.
    pub(crate) machine: f64,
}

impl Cpu {
    /// Reads them all. `server` may be 0 where there is none.
    pub(crate) fn read(server: u32, postmaster: u32) -> anyhow::Result<Self> {
        Ok(Self {
            server: match server {
                0 => 0.0,
                id => Process::read(id)?.seconds,
            },
            postgres: of_postgres(postmaster)?,
            client: Process::read(std::process::id())?.seconds,
            machine: of_machine()?,
        })
    }

    /// What was used since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            server: self.server - earlier.server,
            postgres: self.postgres - earlier.postgres,
            client: self.client - earlier.client,
            machine: self.machine - earlier.machine,
        }
    }

    /// What others on this machine used, in percent of one core.
    pub(crate) fn others_percent(self, seconds: f64) -> f64 {
        let others = self.machine - self.server - self.postgres - self.client;
        (100.0 * others / seconds).max(0.0)
    }
}

/// A line of `/proc/<id>/stat`.
struct Process {
    parent: u32,
    seconds: f64,
    seconds_of_ended_children: f64,
}

impl Process {
    fn read(id: u32) -> anyhow::Result<Self> {
        let stat = read_to_string(format!("/proc/{id}/stat"))?;
        // The name, in brackets, may hold anything.
        let (_, rest) = stat.rsplit_once(')').context("no name in stat")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |place: usize| -> anyhow::Result<f64> {
            Ok(fields.get(place).context("stat is short")?.parse()?)
        };
        Ok(Self {
            parent: number(1)? as u32,
            seconds: (number(11)? + number(12)?) / TICKS,
            seconds_of_ended_children: (number(13)? + number(14)?) / TICKS,
        })
    }
}

/// Postgres makes a process for each connection, a child of the first.
fn of_postgres(postmaster: u32) -> anyhow::Result<f64> {
    let first = Process::read(postmaster)?;
    let mut seconds = first.seconds + first.seconds_of_ended_children;
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Ok(id) = name.to_string_lossy().parse::<u32>() else {
            continue;
        };
        // One that ended meanwhile was counted with the first, or will be.
        if let Ok(process) = Process::read(id)
            && process.parent == postmaster
        {
            seconds += process.seconds;
        }
    }
    Ok(seconds)
}

/// The parent of a process.
pub(crate) fn parent(id: u32) -> anyhow::Result<u32> {
    Ok(Process::read(id)?.parent)
}

fn of_machine() -> anyhow::Result<f64> {
    let stat = read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("stat is empty")?;
    let ticks: Vec<f64> = line
        .split_whitespace()
        .skip(1)
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    // user, nice, system, idle, iowait, irq, softirq: all but the two that wait.
    let busy = [0, 1, 2, 5, 6].map(|place| ticks.get(place).copied().unwrap_or(0.0));
    Ok(busy.iter().sum::<f64>() / TICKS)
}

/// A field of `/proc/<id>/status` that is in kB, in MB (10^6 bytes): `VmRSS` is what is resident,
/// `VmHWM` the most that was.
pub(crate) fn memory_mb(id: u32, field: &str) -> anyhow::Result<f64> {
    let status = read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib: f64 = line
        .and_then(|rest| rest.trim_start_matches(':').split_whitespace().next())
        .with_context(|| format!("no {field}"))?
        .parse()?;
    Ok(kib * 1024.0 / 1e6)
}

/// Lets `VmHWM` begin again at what is resident now.
pub(crate) fn forget_peak(id: u32) -> anyhow::Result<()> {
    std::fs::write(format!("/proc/{id}/clear_refs"), "5").context("clear_refs")
}

/// How many processes ran or wanted to, on average over the last minute.
pub(crate) fn load_average() -> anyhow::Result<f64> {
    let text = read_to_string("/proc/loadavg")?;
    Ok(text
        .split(' ')
        .next()
        .context("loadavg is empty")?
        .parse()?)
}

/// What the figures were measured on.
pub(crate) fn describe() -> anyhow::Result<Value> {
    let cpu = read_to_string("/proc/cpuinfo")?;
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name"));
    let memory = read_to_string("/proc/meminfo")?;
    let kib = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    let kernel = read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(json!({
        "processor": model.unwrap_or_default().trim_start_matches([' ', '\t', ':']),
        "cores": std::thread::available_parallelism()?.get(),
        "memory_gib": kib.map(|kib| (kib / 1024.0 / 1024.0).round()),
        "kernel": kernel.trim(),
    }))
}
