//! The report in words, for the model card. Labelers stand there as the rankings file names them.

use super::accuracy::Accuracy;
use super::labeler_folds::Spread;
use super::report::{Report, Source};
use super::slices::Slice;

/// The sections of the model card, each with its lines of Markdown.
pub(super) fn sections(report: &Report) -> Vec<(String, Vec<String>)> {
    let mut sections = vec![
        ("Accuracy".to_owned(), accuracy_lines(report)),
        ("Calibration".to_owned(), calibration_lines(report)),
        ("Length".to_owned(), length_lines(report)),
    ];
    for (title, column, slices) in [
        ("Accuracy by category", "category", &report.slices.category),
        ("Accuracy by labeler", "labeler", &report.slices.labeler),
        (
            "Accuracy by number of completions",
            "completions",
            &report.slices.completions,
        ),
    ] {
        if !slices.is_empty() {
            sections.push((title.to_owned(), table(column, slices)));
        }
    }
    sections
}

/// Value, interval, and what it is of.
fn told(accuracy: &Accuracy) -> String {
    let n = |n: usize, noun: &str| format!("{n} {noun}{}", if n == 1 { "" } else { "s" });
    format!(
        "{accuracy} over {}, {}",
        n(accuracy.n_prompts, "prompt"),
        n(accuracy.n_pairs, "pair")
    )
}

fn accuracy_lines(report: &Report) -> Vec<String> {
    let of = match report.source {
        Source::HeldOut => "of this model on held-out prompts",
        Source::CrossValidation => {
            "of models of the same settings in cross-validation, on prompts that each had not seen"
        }
    };
    let mut lines = vec![
        "Share of strict pairs in the labeler's order, with 95 % intervals by bootstrap over \
         prompts."
            .to_owned(),
        String::new(),
        format!("- accuracy {of}: {}", told(&report.accuracy)),
        format!("- length alone: {}", report.length_only),
        format!("- gain over length alone: {}", report.over_length),
    ];
    match &report.agreement {
        Some(agreement) => {
            let mut line = format!(
                "- agreement of {} labelers with each other: {}",
                agreement.n_labelers,
                told(&agreement.accuracy)
            );
            if let Some(model) = &agreement.model {
                line.push_str(&format!("; the model on these prompts: {model}"));
            }
            lines.push(line);
        }
        None => lines.push("- agreement of labelers: no prompt was ranked by two".to_owned()),
    }
    if let Some(folds) = &report.labeler_folds {
        let told = |spread: Option<Spread>| match spread {
            Some(Spread {
                mean,
                deviation: Some(deviation),
                n,
            }) => format!("{mean:.3} ± {deviation:.3} (deviation over {n} folds)"),
            Some(Spread { mean, .. }) => format!("{mean:.3} (one fold)"),
            None => "not measured".to_owned(),
        };
        lines.push(format!(
            "- on labelers learnt from, in {} folds by labeler: {}",
            folds.folds.len(),
            told(folds.training_labelers)
        ));
        lines.push(format!(
            "- on labelers held out: {}",
            told(folds.held_out_labelers)
        ));
    }
    lines
}

fn calibration_lines(report: &Report) -> Vec<String> {
    let calibration = &report.calibration;
    let raw = calibration.raw;
    let mut lines = vec![format!(
        "With p = sigmoid(reward difference): expected calibration error {:.4}, Brier {:.4}, NLL \
         {:.4}.",
        raw.ece, raw.brier, raw.nll
    )];
    match calibration.temperature {
        Some(temperature) => lines.push(format!(
            "Differences are best divided by a temperature of {temperature:.3}."
        )),
        None => lines.push("No finite temperature fits these pairs best.".to_owned()),
    }
    if let Some(scaled) = calibration.scaled {
        lines.push(format!(
            "With a temperature fitted on one half of the prompts and measured on the other: \
             expected calibration error {:.4}, Brier {:.4}, NLL {:.4}.",
            scaled.ece, scaled.brier, scaled.nll
        ));
    }
    lines.extend([
        String::new(),
        "| confidence | accuracy | 95 % interval | pairs | prompts |".to_owned(),
        "|---|---|---|---|---|".to_owned(),
    ]);
    for bin in &calibration.bins {
        let accuracy = &bin.accuracy;
        lines.push(format!(
            "| {:.3} | {:.3} | {} | {} | {} |",
            bin.confidence,
            accuracy.value,
            interval(accuracy),
            accuracy.n_pairs,
            accuracy.n_prompts
        ));
    }
    lines
}

fn length_lines(report: &Report) -> Vec<String> {
    let length = &report.length;
    let number =
        |value: Option<f64>| value.map_or("none".to_owned(), |value| format!("{value:.3}"));
    let mut lines = Vec::new();
    for (of, found) in [
        ("over all completions", length.overall),
        ("within a prompt", length.within_prompt),
    ] {
        lines.push(format!(
            "- correlation of reward with length in tokens, {of}: Pearson {}, Spearman {}",
            number(found.pearson),
            number(found.spearman)
        ));
    }
    for (of, found) in [
        ("where the better one is shorter", &length.better_is_shorter),
        ("where the better one is longer", &length.better_is_longer),
        (
            "where lengths differ by at most 10 %",
            &length.near_in_length,
        ),
    ] {
        let found = found.as_ref().map_or("no such pair".to_owned(), told);
        lines.push(format!("- accuracy {of}: {found}"));
    }
    lines
}

fn interval(accuracy: &Accuracy) -> String {
    match accuracy.interval {
        Some(interval) => format!("{:.3} to {:.3}", interval.low, interval.high),
        None => "none".to_owned(),
    }
}

fn table(column: &str, slices: &[Slice]) -> Vec<String> {
    let mut lines = vec![
        format!("| {column} | accuracy | 95 % interval | length alone | pairs | prompts |"),
        "|---|---|---|---|---|---|".to_owned(),
    ];
    for slice in slices {
        let accuracy = &slice.accuracy;
        lines.push(format!(
            "| {} | {:.3} | {} | {:.3} | {} | {} |",
            cell(slice.name.as_deref().unwrap_or("(not stated)")),
            accuracy.value,
            interval(accuracy),
            slice.length_only.value,
            accuracy.n_pairs,
            accuracy.n_prompts
        ));
    }
    lines
}

/// A name from a file as text of one table cell: no mark-up, no line break.
fn cell(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        match letter {
            letter if letter.is_control() => text.push(' '),
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '&' | '!' | '#' | '~' => {
                text.push('\\');
                text.push(letter);
            }
            letter => text.push(letter),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file may call a labeler anything.
    #[test]
    fn a_name_stays_in_its_cell() {
        assert_eq!(cell("a|b\n<script>`x`"), "a\\|b \\<script\\>\\`x\\`");
        assert_eq!(cell("李雷 019a-4"), "李雷 019a-4");
    }
}
