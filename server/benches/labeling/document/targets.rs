//! What we aim at, and whether it was met.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;

use super::figures::{Runs, cpu, loop_lines, of_pgbench, select, values};

/// Processor seconds of a loop of Label Studio, and what we aim at: a hundredth.
const THEIR_CPU: f64 = 0.23;
const MOST_CPU: f64 = THEIR_CPU / 100.0;

/// Least part of pgbench's transactions: a loop is two.
const LEAST_OF_PGBENCH: f64 = 0.5;

/// Longest p99, in milliseconds, at so many labelers.
pub(super) const LONGEST_P99: (f64, u64) = (50.0, 64);

/// Most memory of an idle server, in MB.
const MOST_MEMORY: f64 = 40.0;

/// Longest import of 100,000 tasks, in seconds.
const LONGEST_IMPORT: (f64, u64) = (10.0, 100_000);

/// Most memory that an import may add, in MB, to be called flat.
const MOST_GROWTH: f64 = 32.0;

/// Two rates are the same when the smaller is at least this part of the other: what two runs of one
/// case differ by on a shared machine.
const SAME: f64 = 0.9;

/// A target, what was measured, and whether it is met.
fn target(text: &mut String, what: &str, measured: &str, met: bool) -> std::fmt::Result {
    let said = if met { "met" } else { "**missed**" };
    writeln!(text, "| {what} | {measured} | {said} |")
}

pub(super) fn targets(text: &mut String, lines: &[Value]) -> std::fmt::Result {
    writeln!(
        text,
        "### Targets\n\n| target | measured (medians) | |\n|---|---|---|"
    )?;
    let all = values(lines, "loop", "labelers");
    let sizes = values(lines, "loop", "tasks");
    for (way, by) in [("api", "API"), ("pages", "pages")] {
        let mut groups: BTreeMap<(u64, u64), Vec<&Value>> = BTreeMap::new();
        for tasks in &sizes {
            for labelers in &all {
                let found = loop_lines(lines, *tasks, way, *labelers);
                if !found.is_empty() {
                    groups.insert((*tasks, *labelers), found);
                }
            }
        }
        if groups.is_empty() {
            continue;
        }
        cpu_target(text, by, &groups)?;
        pgbench_target(text, by, lines, &groups)?;
        p99_target(text, by, &groups)?;
        same_target(text, by, &sizes, &groups)?;
    }
    let told = [("case", Value::from("loop"))];
    let idle = Runs::new(select(lines, &told), "memory_mb.idle");
    let what = format!("server below {MOST_MEMORY:.0} MB idle");
    target(
        text,
        &what,
        &format!("{:.1} MB", idle.median()),
        idle.median() < MOST_MEMORY,
    )?;
    let told = [
        ("case", "import".into()),
        ("how", "page".into()),
        ("tasks", LONGEST_IMPORT.1.into()),
    ];
    let found = select(lines, &told);
    if !found.is_empty() {
        let runs = |place: &str| Runs::new(found.iter().copied(), place).median();
        let seconds = runs("seconds");
        let grown = runs("memory_mb.peak") - runs("memory_mb.before");
        let what = format!(
            "import of {} tasks in one request under {:.0} s, in flat memory (at most {MOST_GROWTH:.0} MB more)",
            LONGEST_IMPORT.1, LONGEST_IMPORT.0
        );
        let measured = format!("{seconds:.1} s, and {grown:.0} MB more memory at its most");
        let met = seconds < LONGEST_IMPORT.0 && grown <= MOST_GROWTH;
        target(text, &what, &measured, met)?;
    }
    writeln!(text)
}

type Groups<'l> = BTreeMap<(u64, u64), Vec<&'l Value>>;

fn cpu_target(text: &mut String, by: &str, groups: &Groups<'_>) -> std::fmt::Result {
    let medians: Vec<f64> = groups.values().map(|found| cpu(found).median()).collect();
    let most = medians.iter().copied().fold(f64::NAN, f64::max);
    let least = medians.iter().copied().fold(f64::NAN, f64::min);
    let what = format!(
        "{by}: at most {:.1} ms of CPU a loop, server and Postgres",
        1e3 * MOST_CPU
    );
    let measured = format!(
        "{:.2} to {:.2} ms, {:.0} to {:.0} times less than Label Studio's {:.0}",
        1e3 * least,
        1e3 * most,
        THEIR_CPU / most,
        THEIR_CPU / least,
        1e3 * THEIR_CPU
    );
    target(text, &what, &measured, most <= MOST_CPU)
}

fn pgbench_target(
    text: &mut String,
    by: &str,
    lines: &[Value],
    groups: &Groups<'_>,
) -> std::fmt::Result {
    let mut said = Vec::new();
    let mut is_met = true;
    for ((tasks, labelers), found) in groups {
        let ratio = of_pgbench(lines, found).median();
        is_met &= ratio >= LEAST_OF_PGBENCH;
        said.push(format!("{ratio:.2} ({labelers} labelers, {tasks} tasks)"));
    }
    let what = format!("{by}: loops x 2 at least {LEAST_OF_PGBENCH} of pgbench's transactions");
    target(text, &what, &said.join(", "), is_met)
}

fn p99_target(text: &mut String, by: &str, groups: &Groups<'_>) -> std::fmt::Result {
    let mut said = Vec::new();
    let mut is_met = true;
    for ((tasks, labelers), found) in groups {
        if *labelers != LONGEST_P99.1 {
            continue;
        }
        let p99 = |name: &str| Runs::new(found.iter().copied(), &format!("{name}.p99")).median();
        let (next, submit) = (p99("next_ms"), p99("submit_ms"));
        is_met &= next < LONGEST_P99.0 && submit < LONGEST_P99.0;
        said.push(format!(
            "next {next:.1}, submit {submit:.1} ms ({tasks} tasks)"
        ));
    }
    if said.is_empty() {
        return Ok(());
    }
    let what = format!(
        "{by}: p99 below {:.0} ms at {} labelers",
        LONGEST_P99.0, LONGEST_P99.1
    );
    target(text, &what, &said.join(", "), is_met)
}

fn same_target(
    text: &mut String,
    by: &str,
    sizes: &[u64],
    groups: &Groups<'_>,
) -> std::fmt::Result {
    let (Some(small), Some(large)) = (sizes.first(), sizes.last()) else {
        return Ok(());
    };
    let mut said = Vec::new();
    let mut is_met = true;
    for ((tasks, labelers), found) in groups {
        let Some(others) = groups.get(&(*large, *labelers)) else {
            continue;
        };
        if tasks != small || small == large {
            continue;
        }
        let rate = |found: &[&Value]| Runs::new(found.iter().copied(), "loops_per_second").median();
        let ratio = rate(others) / rate(found);
        is_met &= ratio >= SAME;
        said.push(format!("{ratio:.2} ({labelers} labelers)"));
    }
    if said.is_empty() {
        return Ok(());
    }
    let what =
        format!("{by}: the same with {large} tasks as with {small} (at least {SAME} of the loops)");
    target(text, &what, &said.join(", "), is_met)
}
