//! Writes the lines up: a part of a Markdown file between two marks, so that what people wrote around
//! it stays.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::Context;
use serde_json::Value;

const BEGIN: &str = "<!-- make bench-labeling writes from here -->";
const END: &str = "<!-- to here -->";

/// What a new file begins with.
const NEW_FILE: &str = "# Benchmarks\n\n## Labeling\n\n";

/// Processor seconds of a loop of Label Studio, and what we aim at: a hundredth.
const THEIR_CPU: f64 = 0.23;
const MOST_CPU: f64 = THEIR_CPU / 100.0;

/// Least part of pgbench's transactions: a loop is two.
const LEAST_OF_PGBENCH: f64 = 0.5;

/// Longest p99, in milliseconds, at so many labelers.
const LONGEST_P99: (f64, u64) = (50.0, 64);

/// Most memory of an idle server, in MB.
const MOST_MEMORY: f64 = 40.0;

/// Longest import of 100,000 tasks, in seconds.
const LONGEST_IMPORT: (f64, u64) = (10.0, 100_000);

/// Most memory that an import may add, in MB, to be called flat.
const MOST_GROWTH: f64 = 32.0;

/// Two rates are the same when the smaller is at least this part of the other: what two runs of one
/// case differ by on a shared machine.
const SAME: f64 = 0.9;

/// Puts the write-up of `lines` between the marks of the file at `path`, which is made where there is
/// none.
pub(crate) fn write(path: &Path, lines: &[Value]) -> anyhow::Result<()> {
    let part = write_up(lines)?;
    let old = match path.exists() {
        true => std::fs::read_to_string(path)?,
        false => format!("{NEW_FILE}{BEGIN}\n{END}\n"),
    };
    let (before, rest) = old
        .split_once(BEGIN)
        .with_context(|| format!("{} has no line {BEGIN}", path.display()))?;
    let (_, after) = rest
        .split_once(END)
        .with_context(|| format!("{} has no line {END}", path.display()))?;
    let new = format!("{before}{BEGIN}\n\n{part}\n{END}{after}");
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, new).with_context(|| format!("{} cannot be written", path.display()))
}

/// The figures of one thing over its runs.
#[derive(Debug, Clone)]
struct Runs(Vec<f64>);

impl Runs {
    /// What stands at `place` (names joined by dots) in the lines that match.
    fn new<'l>(lines: impl IntoIterator<Item = &'l Value>, place: &str) -> Self {
        let mut found: Vec<f64> = lines
            .into_iter()
            .filter_map(|line| at(line, place)?.as_f64())
            .collect();
        found.sort_by(f64::total_cmp);
        Self(found)
    }

    /// The middle one; of an even number the lower of the two.
    fn median(&self) -> f64 {
        match self.0.len() {
            0 => f64::NAN,
            n => self.0[(n - 1) / 2],
        }
    }

    /// The median with the range.
    fn show(&self, digits: usize) -> String {
        match self.0.as_slice() {
            [] => "-".to_owned(),
            [only] => format!("{only:.digits$}"),
            [first, .., last] => {
                format!(
                    "**{:.digits$}** ({first:.digits$}-{last:.digits$})",
                    self.median()
                )
            }
        }
    }
}

fn at<'l>(line: &'l Value, place: &str) -> Option<&'l Value> {
    place
        .split('.')
        .try_fold(line, |value, name| value.get(name))
}

/// Lines of one case whose words and numbers are as told.
fn select<'l>(lines: &'l [Value], told: &[(&str, Value)]) -> Vec<&'l Value> {
    let is_told = |line: &&Value| {
        told.iter()
            .all(|(name, value)| line.get(name) == Some(value))
    };
    lines.iter().filter(is_told).collect()
}

/// Every different value of a field, in order.
fn values(lines: &[Value], case: &str, field: &str) -> Vec<u64> {
    let of_case = lines.iter().filter(|line| line["case"] == case);
    let mut found: Vec<u64> = of_case.filter_map(|line| line[field].as_u64()).collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn write_up(lines: &[Value]) -> anyhow::Result<String> {
    let environment = lines
        .iter()
        .find(|line| line["case"] == "environment")
        .context("no line says what was measured on")?;
    let mut text = String::new();
    conditions(&mut text, environment)?;
    targets(&mut text, lines)?;
    for (way, title) in [("api", "through the API"), ("pages", "through the pages")] {
        loops(&mut text, lines, way, title)?;
    }
    beside_pgbench(&mut text, lines)?;
    paced(&mut text, lines)?;
    memory(&mut text, lines)?;
    imports(&mut text, lines)?;
    label_studio(&mut text, lines)?;
    Ok(text)
}

fn conditions(text: &mut String, environment: &Value) -> std::fmt::Result {
    let word = |place: &str| match at(environment, place) {
        Some(Value::String(word)) => word.clone(),
        Some(value) => value.to_string(),
        None => "?".to_owned(),
    };
    let changed = match environment["changed_since_commit"] == true {
        true => " with changes that were not committed",
        false => "",
    };
    writeln!(
        text,
        "Written by `make bench-labeling` on {}, commit {}{changed}; `cargo bench -p server --bench labeling -- --help` \
         says what can be chosen. {}, {} cores, {} GiB, Linux {}. Postgres {} on the same cores, reached by a Unix socket: \
         fsync {}, synchronous_commit {}, full_page_writes {}, shared_buffers {}. Server, Postgres and the load share \
         the cores.\n",
        word("date"),
        word("commit"),
        word("machine.processor"),
        word("machine.cores"),
        word("machine.memory_gib"),
        word("machine.kernel"),
        word("postgres.server_version"),
        word("postgres.fsync"),
        word("postgres.synchronous_commit"),
        word("postgres.full_page_writes"),
        word("postgres.shared_buffers"),
    )?;
    writeln!(
        text,
        "A loop is a lease and a submission, with no pause for thought unless it says so. By the API: `POST …/assignments`, then \
         `POST …/submission` with an `Idempotency-Key`. By the pages, as a browser without script: *submit* is \
         `POST /rank/{{id}}`, which also leases the next task, and *next* is the page it leads to, compressed. A task has {} \
         candidates and about 3.4 kB. Each case has a server process and a copy of the database of its own, and runs for {} s \
         after {} s that are not counted; figures are medians of {} runs with their range. After each case the database \
         is asked: every acknowledged submission was there once, no task was above its overlap, and no labeler had a task \
         twice. *Others* is what other programs took of the two cores while it was measured, in percent of one core.\n",
        word("candidates"),
        word("seconds"),
        word("warm_up_seconds"),
        word("runs"),
    )
}

/// Lines of loops by tasks, way and labelers.
fn loop_lines<'l>(lines: &'l [Value], tasks: u64, way: &str, labelers: u64) -> Vec<&'l Value> {
    let told = [
        ("case", "loop".into()),
        ("tasks", tasks.into()),
        ("way", way.into()),
        ("labelers", labelers.into()),
    ];
    select(lines, &told)
}

/// Server and Postgres together, in seconds a loop.
fn cpu(lines: &[&Value]) -> Runs {
    let sum = |line: &&Value| {
        let part = |name: &str| at(line, &format!("cpu_seconds_per_loop.{name}"))?.as_f64();
        Some(part("server")? + part("postgres")?)
    };
    let mut found: Vec<f64> = lines.iter().filter_map(sum).collect();
    found.sort_by(f64::total_cmp);
    Runs(found)
}

/// Twice the loops over pgbench's transactions, each run by its own.
fn of_pgbench(lines: &[Value], found: &[&Value]) -> Runs {
    let ratio = |line: &&Value| {
        let told = [
            ("case", "pgbench".into()),
            ("run", line["run"].clone()),
            ("clients", line["labelers"].clone()),
        ];
        let tps = select(lines, &told).first()?.get("tps")?.as_f64()?;
        Some(2.0 * line["loops_per_second"].as_f64()? / tps)
    };
    let mut found: Vec<f64> = found.iter().filter_map(ratio).collect();
    found.sort_by(f64::total_cmp);
    Runs(found)
}

fn loops(text: &mut String, lines: &[Value], way: &str, title: &str) -> std::fmt::Result {
    let of_way: Vec<Value> = lines
        .iter()
        .filter(|line| line["way"] == way)
        .cloned()
        .collect();
    if of_way.is_empty() {
        return Ok(());
    }
    writeln!(text, "### Loops {title}\n")?;
    writeln!(
        text,
        "| tasks | labelers | loops/s | next p50 / p95 / p99, ms | submit p50 / p95 / p99, ms | CPU-ms a loop: server + Postgres | of the load | loops x 2 / pgbench | others, % | load before |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|---|---|---|---|")?;
    for tasks in values(&of_way, "loop", "tasks") {
        for labelers in values(&of_way, "loop", "labelers") {
            let found = loop_lines(lines, tasks, way, labelers);
            if found.is_empty() {
                continue;
            }
            let median = |place: &str| Runs::new(found.iter().copied(), place).median();
            let three = |name: &str| {
                let of = |rank: &str| median(&format!("{name}.{rank}"));
                format!("{:.1} / {:.1} / {:.1}", of("p50"), of("p95"), of("p99"))
            };
            let millis = |name: &str| 1e3 * median(&format!("cpu_seconds_per_loop.{name}"));
            writeln!(
                text,
                "| {tasks} | {labelers} | {} | {} | {} | {:.2} + {:.2} | {:.2} | {} | {:.0} | {:.1} |",
                Runs::new(found.iter().copied(), "loops_per_second").show(0),
                three("next_ms"),
                three("submit_ms"),
                millis("server"),
                millis("postgres"),
                millis("client"),
                of_pgbench(lines, &found).show(2),
                median("others_percent"),
                median("load_average_before"),
            )?;
        }
    }
    writeln!(text)
}

fn beside_pgbench(text: &mut String, lines: &[Value]) -> std::fmt::Result {
    writeln!(text, "### pgbench, the limit\n")?;
    writeln!(
        text,
        "`pgbench -M prepared` (TPC-B-like, scale 64, after the same warm-up) on the same Postgres, in turn with the cases above.\n"
    )?;
    writeln!(
        text,
        "| clients | transactions/s | average latency, ms | Postgres CPU-ms a transaction | load before |"
    )?;
    writeln!(text, "|---|---|---|---|---|")?;
    for clients in values(lines, "pgbench", "clients") {
        let told = [("case", "pgbench".into()), ("clients", clients.into())];
        let found = select(lines, &told);
        let runs = |place: &str| Runs::new(found.iter().copied(), place);
        writeln!(
            text,
            "| {clients} | {} | {} | {:.2} | {:.1} |",
            runs("tps").show(0),
            runs("latency_ms").show(1),
            1e3 * runs("postgres_cpu_seconds_per_transaction").median(),
            runs("load_average_before").median(),
        )?;
    }
    writeln!(text)
}

/// What labelers wait for when they think about their tasks.
fn paced(text: &mut String, lines: &[Value]) -> std::fmt::Result {
    let found = select(lines, &[("case", "paced".into())]);
    let Some(first) = found.first() else {
        return Ok(());
    };
    let count = |name: &str| first[name].as_u64().unwrap_or_default();
    writeln!(
        text,
        "### At the pace of people\n\nAbove nobody thinks: as many requests are always under way as there are labelers, and what is \
         waited for is the queue of the two cores. Here {} labelers over {} tasks think {} to {} s about each.\n",
        count("labelers"),
        count("tasks"),
        count("think_ms") as f64 / 2e3,
        count("think_ms") as f64 * 1.5e-3,
    )?;
    writeln!(
        text,
        "| by | loops/s | next p50 / p95 / p99, ms | submit p50 / p95 / p99, ms | p99 below {:.0} ms |",
        LONGEST_P99.0
    )?;
    writeln!(text, "|---|---|---|---|---|")?;
    for (way, by) in [("api", "API"), ("pages", "pages")] {
        let found = select(lines, &[("case", "paced".into()), ("way", way.into())]);
        if found.is_empty() {
            continue;
        }
        let median = |place: &str| Runs::new(found.iter().copied(), place).median();
        let three = |name: &str| {
            let of = |rank: &str| median(&format!("{name}.{rank}"));
            format!("{:.1} / {:.1} / {:.1}", of("p50"), of("p95"), of("p99"))
        };
        let met = median("next_ms.p99").max(median("submit_ms.p99")) < LONGEST_P99.0;
        writeln!(
            text,
            "| {by} | {} | {} | {} | {} |",
            Runs::new(found.iter().copied(), "loops_per_second").show(1),
            three("next_ms"),
            three("submit_ms"),
            if met { "met" } else { "**missed**" },
        )?;
    }
    writeln!(text)
}

fn memory(text: &mut String, lines: &[Value]) -> std::fmt::Result {
    let told = [("case", Value::from("loop"))];
    let found = select(lines, &told);
    let runs = |place: &str| Runs::new(found.iter().copied(), place);
    writeln!(text, "### Start and memory\n")?;
    writeln!(
        text,
        "From the start of the process to the first answer of `/healthz`, on a database with this schema: {} s. Resident \
         memory of the server: {} MB idle after the start, {} MB after a case (medians over {} cases; the most after any case \
         was {:.1} MB).\n",
        runs("start_seconds").show(3),
        runs("memory_mb.idle").show(1),
        runs("memory_mb.end").show(1),
        found.len(),
        runs("memory_mb.end").0.last().copied().unwrap_or(f64::NAN),
    )
}

fn imports(text: &mut String, lines: &[Value]) -> std::fmt::Result {
    writeln!(text, "### Import\n")?;
    writeln!(
        text,
        "A JSONL file of prompts with five completions each, in one request (`POST /prompts/import`, the form of the page) or \
         by `plackett import`, into an empty project, as one transaction: from the first byte sent to the last received.\n"
    )?;
    writeln!(
        text,
        "| tasks | file, MB | how | s | server before, MB | most during, MB | load before |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|---|")?;
    for tasks in values(lines, "import", "tasks") {
        for (how, title) in [("page", "one request"), ("command", "command")] {
            let told = [
                ("case", "import".into()),
                ("tasks", tasks.into()),
                ("how", how.into()),
            ];
            let found = select(lines, &told);
            if found.is_empty() {
                continue;
            }
            let runs = |place: &str| Runs::new(found.iter().copied(), place);
            writeln!(
                text,
                "| {tasks} | {:.0} | {title} | {} | {} | {} | {:.1} |",
                runs("bytes").median() / 1e6,
                runs("seconds").show(1),
                runs("memory_mb.before").show(0),
                runs("memory_mb.peak").show(0),
                runs("load_average_before").median(),
            )?;
        }
    }
    writeln!(text)
}

/// A target, what was measured, and whether it is met.
fn target(text: &mut String, what: &str, measured: &str, met: bool) -> std::fmt::Result {
    let said = if met { "met" } else { "**missed**" };
    writeln!(text, "| {what} | {measured} | {said} |")
}

fn targets(text: &mut String, lines: &[Value]) -> std::fmt::Result {
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

/// What others measured, beside it.
fn label_studio(text: &mut String, lines: &[Value]) -> std::fmt::Result {
    let told = [("case", Value::from("loop"))];
    let found = select(lines, &told);
    let idle = Runs::new(found.iter().copied(), "memory_mb.idle").median();
    let start = Runs::new(found.iter().copied(), "start_seconds").median();
    let import = |tasks: u64| {
        let told = [
            ("case", "import".into()),
            ("how", "page".into()),
            ("tasks", tasks.into()),
        ];
        match Runs::new(select(lines, &told), "seconds").median() {
            seconds if seconds.is_nan() => "-".to_owned(),
            seconds => format!("{seconds:.1} s"),
        }
    };
    let rate = |tasks: u64, labelers: u64| {
        let found = loop_lines(lines, tasks, "api", labelers);
        match Runs::new(found, "loops_per_second").median() {
            rate if rate.is_nan() => "-".to_owned(),
            rate => format!("{rate:.0}"),
        }
    };
    let cpu = |tasks: u64, labelers: u64| match cpu(&loop_lines(lines, tasks, "api", labelers))
        .median()
    {
        seconds if seconds.is_nan() => "-".to_owned(),
        seconds => format!("{seconds:.4}"),
    };
    let p50 = |name: &str| {
        let found = loop_lines(lines, 10_000, "api", 8);
        match Runs::new(found, &format!("{name}.p50")).median() {
            millis if millis.is_nan() => "-".to_owned(),
            millis => format!("{millis:.1}"),
        }
    };
    writeln!(
        text,
        "### Beside Label Studio\n\nLabel Studio 1.23.2 on a Postgres 15 with default settings, served as its Docker image \
         serves it (four uWSGI processes), by its API with 32 annotators, the same size of task. **Measured elsewhere, not in this \
         run**: on a machine of the same kind at another time, so the order of magnitude counts, not the digits.\n"
    )?;
    writeln!(
        text,
        "| | Label Studio | Plackett, by the API |\n|---|---|---|"
    )?;
    let rows = [
        ("loops/s, 1 labeler, 10,000 tasks", "4.22", rate(10_000, 1)),
        ("loops/s, 8 labelers, 10,000 tasks", "8.11", rate(10_000, 8)),
        (
            "loops/s, 32 labelers, 10,000 tasks",
            "6.24",
            rate(10_000, 32),
        ),
        (
            "loops/s, 8 labelers, 100,000 tasks (theirs: 1 run)",
            "5.48",
            rate(100_000, 8),
        ),
        (
            "next, p50, ms, 8 labelers, 10,000 tasks",
            "483",
            p50("next_ms"),
        ),
        (
            "submit, p50, ms, 8 labelers, 10,000 tasks",
            "491",
            p50("submit_ms"),
        ),
        (
            "CPU-s a loop with Postgres, 8 labelers, 10,000 tasks",
            "0.234",
            cpu(10_000, 8),
        ),
        (
            "CPU-s a loop with Postgres, 8 labelers, 100,000 tasks",
            "0.347",
            cpu(100_000, 8),
        ),
        (
            "memory idle, without Postgres",
            "802 MB",
            format!("{idle:.1} MB"),
        ),
        (
            "start to the first answer of its health page",
            "8.5 s",
            format!("{start:.3} s"),
        ),
        (
            "import of 10,000 tasks in one request",
            "9.7 s",
            import(10_000),
        ),
        (
            "import of 100,000 tasks in one request",
            "fails (HTTP 500)",
            import(100_000),
        ),
    ];
    for (what, theirs, ours) in rows {
        writeln!(text, "| {what} | {theirs} | {ours} |")?;
    }
    Ok(())
}
