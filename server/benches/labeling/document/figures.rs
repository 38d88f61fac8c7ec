//! The lines of cases, and the figures of one thing over its runs.

use serde_json::Value;

/// The figures of one thing over its runs.
#[derive(Debug, Clone)]
pub(super) struct Runs(pub(super) Vec<f64>);

impl Runs {
    /// What stands at `place` (names joined by dots) in the lines that match.
    pub(super) fn new<'l>(lines: impl IntoIterator<Item = &'l Value>, place: &str) -> Self {
        let mut found: Vec<f64> = lines
            .into_iter()
            .filter_map(|line| at(line, place)?.as_f64())
            .collect();
        found.sort_by(f64::total_cmp);
        Self(found)
    }

    /// The middle one; of an even number the lower of the two.
    pub(super) fn median(&self) -> f64 {
        match self.0.len() {
            0 => f64::NAN,
            n => self.0[(n - 1) / 2],
        }
    }

    /// The median with the range.
    pub(super) fn show(&self, digits: usize) -> String {
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

pub(super) fn at<'l>(line: &'l Value, place: &str) -> Option<&'l Value> {
    place
        .split('.')
        .try_fold(line, |value, name| value.get(name))
}

/// Lines of one case whose words and numbers are as told.
pub(super) fn select<'l>(lines: &'l [Value], told: &[(&str, Value)]) -> Vec<&'l Value> {
    let is_told = |line: &&Value| {
        told.iter()
            .all(|(name, value)| line.get(name) == Some(value))
    };
    lines.iter().filter(is_told).collect()
}

/// Every different value of a field, in order.
pub(super) fn values(lines: &[Value], case: &str, field: &str) -> Vec<u64> {
    let of_case = lines.iter().filter(|line| line["case"] == case);
    let mut found: Vec<u64> = of_case.filter_map(|line| line[field].as_u64()).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Lines of loops by tasks, way and labelers.
pub(super) fn loop_lines<'l>(
    lines: &'l [Value],
    tasks: u64,
    way: &str,
    labelers: u64,
) -> Vec<&'l Value> {
    let told = [
        ("case", "loop".into()),
        ("tasks", tasks.into()),
        ("way", way.into()),
        ("labelers", labelers.into()),
    ];
    select(lines, &told)
}

/// Server and Postgres together, in seconds a loop.
pub(super) fn cpu(lines: &[&Value]) -> Runs {
    let sum = |line: &&Value| {
        let part = |name: &str| at(line, &format!("cpu_seconds_per_loop.{name}"))?.as_f64();
        Some(part("server")? + part("postgres")?)
    };
    let mut found: Vec<f64> = lines.iter().filter_map(sum).collect();
    found.sort_by(f64::total_cmp);
    Runs(found)
}

/// Twice the loops over pgbench's transactions, each run by its own.
pub(super) fn of_pgbench(lines: &[Value], found: &[&Value]) -> Runs {
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
