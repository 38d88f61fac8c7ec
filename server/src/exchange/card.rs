//! The card of an exported dataset: what a stranger must know of it, counted from its own rows, with
//! the front matter that the Hugging Face hub reads.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use trainer::records::RankedPrompt;

use crate::domain::agreement::FEWEST;
use crate::domain::export::{Aggregation, ExportChoice, Margin, REVISION};
use crate::domain::snapshot::SnapshotKind;
use crate::exchange::rows::Record;
use crate::stats::agreement::TiePolicy;
use crate::stats::interval::{Bootstrap, Interval};
use crate::store::snapshots::Snapshot;

/// A file of the dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    /// `train` or `validation`.
    pub split: &'static str,
    /// Its path in the archive.
    pub path: String,
    /// Its rows.
    pub n_rows: u64,
    /// Its bytes.
    pub n_bytes: u64,
    /// In lower-case hex.
    pub sha256: String,
}

/// What is counted while rows go by.
#[derive(Debug, Default)]
pub struct Facts {
    n_records: u64,
    categories: BTreeMap<String, u64>,
    sizes: BTreeMap<usize, u64>,
    labelers: BTreeSet<String>,
    n_decisions: u64,
    guidelines: BTreeSet<i32>,
    forms: BTreeSet<i32>,
    n_pairs: u64,
    n_ties: u64,
    /// Rankings of the prompt at hand; a snapshot's rankings stand by prompt.
    of_prompt: Vec<RankedPrompt>,
    /// By prompt: pairs that two labelers ranked strictly, and in how many they agree.
    compared: Vec<(f64, f64)>,
    n_unranked: u64,
}

/// Seed of the interval, so that the same snapshot has the same card.
const SEED: u64 = 1;

/// Rankings of one prompt that are compared with each other, at most.
const MOST_COMPARED: usize = 50;

impl Facts {
    /// Counts a record.
    pub fn count(&mut self, record: &Record) {
        self.n_records += 1;
        if let Some(category) = record.category() {
            *self.categories.entry(category.to_owned()).or_default() += 1;
        }
        if let Some((guidelines, form)) = record.versions() {
            self.guidelines.insert(guidelines);
            self.forms.insert(form);
        }
        let Some(ranked) = record.ranked() else {
            return;
        };
        *self.sizes.entry(ranked.completions.len()).or_default() += 1;
        // Who decides between labels is no labeler, and agrees or disagrees with nobody.
        let is_decision = record.is_decision();
        self.n_decisions += u64::from(is_decision);
        if let Some(labeler) = ranked.labeler.as_ref().filter(|_| !is_decision) {
            self.labelers.insert(labeler.clone());
        }
        for (index, one) in ranked.completions.iter().enumerate() {
            for other in &ranked.completions[index + 1..] {
                self.n_pairs += 1;
                self.n_ties += u64::from(one.rank == other.rank);
            }
        }
        if self
            .of_prompt
            .first()
            .is_some_and(|first| first.id != ranked.id)
        {
            self.of_prompt.clear();
        }
        self.n_unranked += record.n_unranked() as u64;
        if is_decision {
            return;
        }
        if self.of_prompt.is_empty() {
            self.compared.push((0.0, 0.0));
        }
        for before in &self.of_prompt {
            let (compared, agreed) = compare(before, ranked);
            if let Some((same, all)) = self.compared.last_mut() {
                *same += agreed as f64;
                *all += compared as f64;
            }
        }
        if self.of_prompt.len() < MOST_COMPARED {
            self.of_prompt.push(ranked.clone());
        }
    }
}

/// Pairs that both rank strictly, and in how many of them they agree.
fn compare(one: &RankedPrompt, other: &RankedPrompt) -> (u64, u64) {
    let ranks: BTreeMap<&str, u32> = other
        .completions
        .iter()
        .map(|item| (item.id.as_str(), item.rank))
        .collect();
    let shared: Vec<(u32, u32)> = one
        .completions
        .iter()
        .filter_map(|item| Some((item.rank, *ranks.get(item.id.as_str())?)))
        .collect();
    let (mut compared, mut agreed) = (0, 0);
    for (index, first) in shared.iter().enumerate() {
        for second in &shared[index + 1..] {
            if first.0 != second.0 && first.1 != second.1 {
                compared += 1;
                agreed += u64::from((first.0 < second.0) == (first.1 < second.1));
            }
        }
    }
    (compared, agreed)
}

/// The size class of the hub for so many rows.
fn size_category(n: u64) -> &'static str {
    match n {
        0..1_000 => "n<1K",
        1_000..10_000 => "1K<n<10K",
        10_000..100_000 => "10K<n<100K",
        100_000..1_000_000 => "100K<n<1M",
        _ => "1M<n<10M",
    }
}

/// The card, as Markdown with YAML front matter.
pub fn write(
    snapshot: &Snapshot,
    kind: SnapshotKind,
    choice: &ExportChoice,
    facts: &Facts,
    files: &[DataFile],
) -> String {
    let n_rows: u64 = files.iter().map(|file| file.n_rows).sum();
    let mut card = String::from("---\n");
    let mut line = |text: String| {
        card.push_str(&text);
        card.push('\n');
    };
    line(format!("pretty_name: {}", quoted(&snapshot.name)));
    line(format!("size_categories:\n- {}", size_category(n_rows)));
    line("tags:\n- human-feedback\n- rlhf\n- plackett".to_owned());
    line("configs:\n- config_name: default\n  data_files:".to_owned());
    for file in files {
        line(format!(
            "  - split: {}\n    path: {}",
            file.split, file.path
        ));
    }
    line("dataset_info:\n  splits:".to_owned());
    for file in files {
        line(format!(
            "  - name: {}\n    num_bytes: {}\n    num_examples: {}",
            file.split, file.n_bytes, file.n_rows
        ));
    }
    let bytes: u64 = files.iter().map(|file| file.n_bytes).sum();
    line(format!(
        "  download_size: {bytes}\n  dataset_size: {bytes}\n---\n"
    ));
    line(format!("# {}\n", snapshot.name.replace(['\n', '\r'], " ")));
    line(format!(
        "A frozen selection of {kind} of the project `{}`, written by Plackett in the format `{}`, revision {REVISION}.\n",
        snapshot.project_slug,
        choice.format.word(kind)
    ));
    line("| | |\n|---|---|".to_owned());
    line(format!("| snapshot | `{}` |", snapshot.id));
    line(format!(
        "| SHA-256 of its JSON lines | `{}` |",
        snapshot.sha256
    ));
    line(format!(
        "| taken | {} |",
        snapshot.created_at.format("%Y-%m-%d %H:%M UTC")
    ));
    line(format!(
        "| rows | {n_rows}, of {} {kind} |",
        facts.n_records
    ));
    if kind == SnapshotKind::Rankings {
        describe_rankings(&mut card, snapshot, choice, facts);
    }
    if !facts.categories.is_empty() {
        card.push_str("\n## Categories\n\n| category | records |\n|---|---|\n");
        for (category, n) in &facts.categories {
            let _ = writeln!(card, "| {category} | {n} |");
        }
    }
    card.push_str(
        "\n## Splits\n\nA prompt is held out by a hash of its id alone, about one in five: all rankings of a \
         prompt fall on the same side, in this snapshot and in every later one.\n\n| file | rows | SHA-256 |\n|---|---|---|\n",
    );
    for file in files {
        let _ = writeln!(
            card,
            "| {} | {} | `{}` |",
            file.path, file.n_rows, file.sha256
        );
    }
    card
}

/// The rows of the table that are about labelers and their rankings.
fn describe_rankings(card: &mut String, snapshot: &Snapshot, choice: &ExportChoice, facts: &Facts) {
    let share = |part: u64, whole: u64| match whole {
        0 => "none to compare".to_owned(),
        _ => format!(
            "{:.1} % of {whole} pairs",
            100.0 * part as f64 / whole as f64
        ),
    };
    let list = |versions: &BTreeSet<i32>| {
        let words: Vec<String> = versions.iter().map(i32::to_string).collect();
        words.join(", ")
    };
    let sizes: Vec<String> = facts
        .sizes
        .iter()
        .map(|(k, n)| format!("{n} of {k} completions"))
        .collect();
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(card, "| {name} | {value} |");
    };
    row("prompts", &snapshot.n_prompts.to_string());
    row("rankings", &sizes.join(", "));
    if choice.aggregation == Aggregation::Labelers {
        row("labelers", &facts.labelers.len().to_string());
        if facts.n_decisions > 0 {
            let words = "between labels, by admins: no labels of their own";
            row("decisions", &format!("{} {words}", facts.n_decisions));
        }
        row("agreement", &agreement(&facts.compared));
        row("guidelines, versions", &list(&facts.guidelines));
        row("form, versions", &list(&facts.forms));
    } else {
        row(
            "labelers",
            "several as one, by mean rank; equal means are ties",
        );
    }
    row("ties", &share(facts.n_ties, facts.n_pairs));
    if facts.n_unranked > 0 {
        row(
            "left unranked",
            &format!("{} completions", facts.n_unranked),
        );
    }
    describe_filters(&mut row, snapshot);
    if choice.margin != Margin::Nothing {
        row("margin", choice.margin.as_str());
    }
    let simulated = match snapshot.includes_simulated {
        true => "included: some of this was said by programs",
        false => "left out",
    };
    row("simulated labelers", simulated);
    card.push_str(
        "\nAgreement is the share of pairs of completions that two labelers both ranked strictly in which they \
         prefer the same one; ties are left out. Its 95 % interval resamples prompts (1,000 draws of a seeded \
         percentile bootstrap). Labelers are named by random ids.\n",
    );
}

/// The share of compared pairs that are alike, with its interval over prompts where there are enough.
fn agreement(prompts: &[(f64, f64)]) -> String {
    let units: Vec<(f64, f64)> = prompts.iter().copied().filter(|own| own.1 > 0.0).collect();
    let (same, all) = units
        .iter()
        .fold((0.0, 0.0), |sum, own| (sum.0 + own.0, sum.1 + own.1));
    if units.is_empty() {
        return "none to compare".to_owned();
    }
    let estimate = Bootstrap::new(SEED).share("agreement", 0, &units);
    let interval = estimate.and_then(|own| own.interval);
    let interval = match interval.filter(|_| units.len() >= FEWEST) {
        Some(Interval { low, high }) => {
            format!("95 % interval {:.1} to {:.1} %", 100.0 * low, 100.0 * high)
        }
        None => "too few prompts for an interval".to_owned(),
    };
    let share = 100.0 * same / all;
    format!(
        "{share:.1} % of {all} pairs of {} prompts; {interval}",
        units.len()
    )
}

/// What the snapshot leaves out on purpose.
fn describe_filters(row: &mut impl FnMut(&str, &str), snapshot: &Snapshot) {
    let filters = &snapshot.filters.0;
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let ties = match filters.ties {
        TiePolicy::LeftOut => "ties left out",
        TiePolicy::Half => "a tie against an order counts half",
        TiePolicy::Category => "a tie is a third answer",
    };
    if let Some(least) = filters.least_agreement {
        let single = match filters.without_single {
            true => "; tasks of which none can be told are left out",
            false => "; tasks of which none can be told are kept",
        };
        let least = percent(least);
        row(
            "least agreement on a task",
            &format!("{least} of pairs, {ties}{single}"),
        );
    }
    if let Some(least) = filters.least_gold {
        let least = percent(least);
        row(
            "least agreement of a labeler with gold",
            &format!("{least} of pairs, {ties}"),
        );
    }
    if let Some(least) = filters.least_quality {
        row("least quality of a labeler (Crowd-BT)", &percent(least));
    }
    for (reason, n) in snapshot.left_out.0.reasons() {
        let reason = match reason {
            "labelers-withdrawn" => "labelers whose labels are withdrawn",
            "labelers-named" => "labelers who were named",
            "labelers-gold" => "labelers who agree too little with gold",
            "labelers-quality" => "labelers of too little quality",
            "tasks-agreement" => "tasks with too little agreement",
            _ => "tasks of which no agreement can be told",
        };
        row("left out", &format!("{n} {reason}"));
    }
}

/// A YAML string that no name can break out of.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn agreement_counts_pairs_that_both_rank_strictly() {
        let ranked = |ranks: [u32; 3]| -> RankedPrompt {
            let completions: Vec<String> = ranks
                .iter()
                .enumerate()
                .map(|(id, rank)| format!(r#"{{"id":"{id}","text":"x","rank":{rank}}}"#))
                .collect();
            let line = format!(
                r#"{{"id":"p","prompt":"q","completions":[{}]}}"#,
                completions.join(",")
            );
            serde_json::from_str(&line).unwrap()
        };
        assert_eq!(compare(&ranked([1, 2, 3]), &ranked([1, 3, 2])), (3, 2));
        assert_eq!(compare(&ranked([1, 1, 2]), &ranked([1, 2, 3])), (2, 2));
        assert_eq!(compare(&ranked([1, 1, 1]), &ranked([1, 2, 3])), (0, 0));
    }

    #[test]
    fn agreement_has_an_interval_over_prompts_where_there_are_enough() {
        assert_eq!(agreement(&[(0.0, 0.0)]), "none to compare");
        let few = agreement(&[(2.0, 3.0); 9]);
        assert_eq!(
            few,
            "66.7 % of 27 pairs of 9 prompts; too few prompts for an interval"
        );
        let many: Vec<(f64, f64)> = (0..40).map(|n| (f64::from(n % 4), 3.0)).collect();
        let told = agreement(&many);
        assert_eq!(told, agreement(&many), "the same rows give the same card");
        let (start, interval) = told.split_once("; 95 % interval ").unwrap();
        assert_eq!(start, "50.0 % of 120 pairs of 40 prompts");
        let ends: Vec<f64> = interval
            .trim_end_matches(" %")
            .split(" to ")
            .map(|end| end.parse().unwrap())
            .collect();
        assert!(ends[0] < 50.0 && ends[1] > 50.0 && ends[0] > 25.0 && ends[1] < 75.0);
    }

    #[test]
    fn a_name_cannot_break_out_of_the_front_matter() {
        assert_eq!(quoted("a: \"b\"\n---"), r#""a: \"b\"\n---""#);
    }
}
