//! How much memory a run needs, before it starts, from shapes alone; and how much it took, after.
//!
//! An estimate depends on the model's shape, the settings and the lengths of the data, never on the
//! machine: the same configuration always gives the same estimate, so a run that was fitted to a
//! limit makes the same bytes on every machine with the same kind of processor. It is one of the
//! operations for CPU.

pub mod network;
pub mod ranked;
pub mod runs;

use std::collections::BTreeMap;
use std::fmt;

use crate::error::{Result, TrainerError};
use crate::progress::Progress;

/// The output of frozen blocks is kept for later passes up to this many bytes.
pub const LOWER_CACHE_BYTES: usize = 2 << 30;

/// Sampled answers that a fine-tuning run's judge scores side by side.
pub const JUDGED_ROWS: usize = 8;

const GIB: f64 = (1_u64 << 30) as f64;

/// A part of a run's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// What it is.
    pub name: &'static str,
    /// How large it is.
    pub bytes: u64,
    /// What makes it smaller.
    pub remedy: &'static str,
}

/// What a run takes at its worst moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Estimate {
    /// What it does then.
    pub phase: &'static str,
    /// What memory is taken by then.
    pub parts: Vec<Part>,
}

impl Estimate {
    /// The phase that needs most, each together with what is `always` there.
    fn highest(always: &[Part], phases: Vec<(&'static str, Vec<Part>)>) -> Self {
        let mut highest = Self {
            phase: "the whole run",
            parts: always.to_vec(),
        };
        for (phase, own) in phases {
            let parts = always.iter().copied().chain(own).collect();
            let estimate = Self { phase, parts };
            if estimate.total() > highest.total() {
                highest = estimate;
            }
        }
        highest.parts.retain(|part| part.bytes > 0);
        highest
    }

    /// All parts together, in bytes.
    pub fn total(&self) -> u64 {
        let bytes = self.parts.iter().map(|part| part.bytes);
        bytes.fold(0, u64::saturating_add)
    }

    /// All parts together, in GiB.
    pub fn gib(&self) -> f64 {
        self.total() as f64 / GIB
    }

    /// Parts, the largest first; the order of equal ones stays.
    fn largest_first(&self) -> Vec<Part> {
        let mut parts = self.parts.clone();
        parts.sort_by_key(|part| std::cmp::Reverse(part.bytes));
        parts
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.largest_first();
        let parts: Vec<String> = parts
            .iter()
            .map(|part| format!("{} {}", part.name, amount(part.bytes)))
            .collect();
        let total = amount(self.total());
        write!(
            formatter,
            "about {total} while {}: {}",
            self.phase,
            parts.join(", ")
        )
    }
}

/// Bytes as people read them.
fn amount(bytes: u64) -> String {
    let gib = bytes as f64 / GIB;
    match gib >= 0.1 {
        true => format!("{gib:.2} GiB"),
        false => format!("{:.1} MiB", gib * 1024.0),
    }
}

/// How a run takes its batches apart, and what it needs then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Prompts, each with all its completions, in one backward pass: a reward model's. 1 elsewhere.
    pub prompts: usize,
    /// Rows that pass through the network together; where they are packed, tokens of a packed row.
    pub rows: usize,
    /// Whether rows share one.
    pub is_packed: bool,
    /// Whether blocks run again in the backward pass instead of keeping what it needs.
    pub recomputes: bool,
    /// What the run needs then.
    pub estimate: Estimate,
}

impl Plan {
    /// The first of `candidates` (prompts, rows, recomputation), best first, whose estimate is within
    /// the limit; without a limit the first.
    ///
    /// # Errors
    /// `Config` when none fits: a sentence with the largest parts of the smallest one, and what
    /// makes them smaller.
    pub fn choose(
        limit_gib: Option<f64>,
        candidates: &[(usize, usize, bool)],
        estimate: impl Fn(usize, usize, bool) -> Estimate,
    ) -> Result<Self> {
        let mut smallest: Option<Self> = None;
        for &(prompts, rows, recomputes) in candidates {
            let plan = Self {
                prompts,
                rows,
                is_packed: false,
                recomputes,
                estimate: estimate(prompts, rows, recomputes),
            };
            if limit_gib.is_none_or(|limit| plan.estimate.gib() <= limit) {
                return Ok(plan);
            }
            let best = smallest.as_ref().map(|plan| plan.estimate.total());
            if best.is_none_or(|best| plan.estimate.total() < best) {
                smallest = Some(plan);
            }
        }
        let (needs, remedies) = match &smallest {
            Some(plan) => {
                let parts = plan.estimate.largest_first();
                let mut remedies: Vec<&str> = Vec::new();
                for part in parts.iter().take(3) {
                    if !remedies.contains(&part.remedy) {
                        remedies.push(part.remedy);
                    }
                }
                (plan.estimate.to_string(), remedies.join("; "))
            }
            None => ("nothing that can be estimated".to_owned(), String::new()),
        };
        let limit = limit_gib.unwrap_or_default();
        Err(TrainerError::Config {
            field: "memory_limit_gib".into(),
            message: format!(
                "is {limit} GiB, but even in the smallest micro-batches that the settings allow \
                 the run needs {needs}. What would help: {remedies}"
            ),
        })
    }

    /// Tells how the run will work and what it needs.
    pub fn report(&self, limit_gib: Option<f64>, progress: &mut dyn Progress) {
        progress.log(self.to_string());
        if let Some(limit) = limit_gib {
            progress.log(format!("this was chosen to stay within {limit} GiB"));
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prompts = match self.prompts {
            1 => String::new(),
            n => format!("{n} prompts in a backward pass, "),
        };
        let rows = match (self.is_packed, self.rows) {
            (true, n) => format!("rows packed up to {n} tokens"),
            (false, 1) => "1 row at a time".to_owned(),
            (false, n) => format!("{n} rows together"),
        };
        let activations = match self.recomputes {
            true => "recomputed",
            false => "kept",
        };
        write!(
            formatter,
            "micro-batches: {prompts}{rows}, activations {activations}; memory: {}",
            self.estimate
        )
    }
}

/// `largest` halved down to 1: sizes of micro-batches to try. A `wanted` size is the only one.
pub fn halves(wanted: Option<usize>, largest: usize) -> Vec<usize> {
    match wanted {
        Some(wanted) => vec![wanted],
        None => std::iter::successors(Some(largest), |n| (*n > 1).then_some(n / 2)).collect(),
    }
}

/// Every size of `rows` in turn, first with activations kept, unless they shall be recomputed; a
/// smaller micro-batch costs less time than a second forward pass.
pub fn in_turn(rows: &[usize], recomputes: bool) -> Vec<(usize, usize, bool)> {
    let all = |recomputes: bool| rows.iter().map(move |rows| (1, *rows, recomputes));
    match recomputes {
        true => all(true).collect(),
        false => all(false).chain(all(true)).collect(),
    }
}

/// Measures the highest memory of this process from now on.
pub struct PeakWatch {
    /// The count began anew; otherwise it holds what came before, too.
    is_own: bool,
}

impl PeakWatch {
    /// Begins.
    pub fn start() -> Self {
        // Linux: 5 sets the peak back to what is taken now (proc(5)).
        let is_own = std::fs::write("/proc/self/clear_refs", "5").is_ok();
        Self { is_own }
    }

    /// The highest resident memory since then, in bytes; none where the system does not tell.
    pub fn bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
        let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib * 1024)
    }

    /// Tells the peak beside the estimate, and adds both to the figures of a run. They are no part of
    /// a checkpoint, which is the same to the bit however the machine counts.
    pub fn conclude(
        &self,
        estimate: &Estimate,
        summary: &mut BTreeMap<String, f64>,
        progress: &mut dyn Progress,
    ) {
        summary.insert("memory_estimate_gib".to_owned(), estimate.gib());
        let Some(peak) = self.bytes() else {
            return;
        };
        let gib = peak as f64 / GIB;
        let earlier = match self.is_own {
            true => "",
            false => " (earlier work of this process included)",
        };
        progress.log(format!(
            "peak memory {gib:.2} GiB{earlier}; the estimate was {:.2} GiB",
            estimate.gib()
        ));
        summary.insert("memory_peak_gib".to_owned(), gib);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn part(name: &'static str, mib: u64) -> Part {
        Part {
            name,
            bytes: mib << 20,
            remedy: "less of it",
        }
    }

    fn estimate(rows: usize, recomputes: bool) -> Estimate {
        let activations = 512 * rows as u64 / if recomputes { 4 } else { 1 };
        let phases = vec![
            ("training", vec![part("activations", activations)]),
            ("loading", vec![part("file", 100)]),
        ];
        Estimate::highest(&[part("weights", 1024)], phases)
    }

    fn choose(limit: Option<f64>, wanted: Option<usize>, recomputes: bool) -> Result<Plan> {
        let candidates = in_turn(&halves(wanted, 4), recomputes);
        Plan::choose(limit, &candidates, |_, rows, recomputes| {
            estimate(rows, recomputes)
        })
    }

    #[test]
    fn the_largest_micro_batch_within_the_limit_is_chosen_and_recomputation_only_where_it_must_be()
    {
        let found = |limit, wanted, recomputes| {
            let plan = choose(limit, wanted, recomputes).unwrap();
            (plan.rows, plan.recomputes)
        };
        assert_eq!(found(None, None, false), (4, false));
        assert_eq!(found(None, Some(7), true), (7, true));
        assert_eq!(found(Some(3.0), None, false), (4, false));
        assert_eq!(found(Some(2.5), None, false), (2, false));
        assert_eq!(found(Some(1.5), None, false), (1, false));
        assert_eq!(found(Some(1.3), None, false), (2, true));
        assert_eq!(found(Some(2.5), Some(4), false), (4, true));
        assert_eq!(found(Some(3.0), None, true), (4, true));
    }

    #[test]
    fn a_limit_that_nothing_fits_is_refused_with_the_largest_parts() {
        let error = choose(Some(1.1), None, false).unwrap_err().to_string();
        for words in [
            "memory_limit_gib",
            "weights 1.00 GiB",
            "less of it",
            "1.12 GiB",
        ] {
            assert!(error.contains(words), "{words}: {error}");
        }
    }

    #[test]
    fn the_phase_that_needs_most_is_named() {
        assert_eq!(estimate(4, false).phase, "training");
        let phases = vec![("training", vec![]), ("loading", vec![part("file", 1)])];
        assert_eq!(Estimate::highest(&[], phases).phase, "loading");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_peak_sees_memory_that_was_taken_and_given_back() {
        let is_seen = || {
            let watch = PeakWatch::start();
            let before = watch.bytes().unwrap();
            let taken = std::hint::black_box(vec![1_u8; 200 << 20]);
            drop(taken);
            watch.bytes().unwrap() > before + (100 << 20)
        };
        // Runs that other tests of this process begin count anew, or give memory back, meanwhile.
        assert!((0..20).any(|_| is_seen()));
    }
}
