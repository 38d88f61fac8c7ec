//! Writes the lines up: a part of a Markdown file between two marks, so that what people wrote around
//! it stays.

mod figures;
mod targets;

use std::fmt::Write;
use std::path::Path;

use anyhow::Context;
use serde_json::Value;

use figures::{Runs, at, cpu, loop_lines, of_pgbench, select, values};
use targets::{LONGEST_P99, targets};

const BEGIN: &str = "<!-- make bench-labeling writes from here -->";
const END: &str = "<!-- to here -->";

/// What a new file begins with.
const NEW_FILE: &str = "# Benchmarks\n\n## Labeling\n\n";

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
