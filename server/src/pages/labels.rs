//! What labelers said of a task, side by side: a part of the pages of a task and of an adjudication, shown
//! by `templates/fragments/labels.html`. Labelers are numbers there unless an admin asks for names.

use crate::domain::form::{Form, text_in};
use crate::store::task_labels::{Label, Said, TaskDetail};
use crate::web::page::Page;
use crate::web::text_view::TextView;

/// A candidate with what each labeler said of it.
pub struct Row {
    /// 1 for the first slot.
    pub number: usize,
    /// Its text.
    pub text: TextView,
    /// One for each column.
    pub cells: Vec<Cell>,
}

/// What one labeler said of one candidate.
pub struct Cell {
    /// Who.
    pub title: String,
    /// Whether a program acted as them.
    pub is_simulated: bool,
    /// 1 is best; none where it could not be judged.
    pub rank: Option<i16>,
    /// Overall quality.
    pub rating: Option<i16>,
    /// Answers to further scales, by what they ask.
    pub scales: Vec<(String, i16)>,
    /// Flags answered yes, by what they ask.
    pub yes: Vec<String>,
    /// Flags answered no.
    pub n_no: usize,
    /// Anything said of it.
    pub note: String,
    /// The letter under which the labeler saw it; none where a file brought the ranking and did not say.
    pub letter: Option<char>,
}

/// One labeler.
pub struct Column {
    /// "Labeler 1", or a name.
    pub title: String,
    /// What they did.
    pub label: Label,
}

/// Labels side by side.
pub struct LabelsView {
    /// Rankings and decisions, in that order.
    pub columns: Vec<Column>,
    /// Candidates in slot order.
    pub rows: Vec<Row>,
    /// Assignments without a ranking: at work, skipped, expired.
    pub others: Vec<Column>,
    /// Whether names are shown.
    pub has_names: bool,
}

impl LabelsView {
    /// The labels of a task. The form is the newest: a flag that it no longer asks keeps its key.
    pub fn new(
        page: &Page,
        task: &TaskDetail,
        labels: Vec<Label>,
        form: &Form,
        has_names: bool,
    ) -> Self {
        let mut columns = Vec::new();
        let mut others = Vec::new();
        for (index, label) in labels.into_iter().enumerate() {
            let title = match (has_names, label.is_adjudication) {
                (true, _) => label.name.clone(),
                (false, true) => page.t("labels-decision"),
                (false, false) => page.t_with("labels-labeler", "n", index + 1),
            };
            let column = Column { title, label };
            match column.label.version {
                Some(_) => columns.push(column),
                None => others.push(column),
            }
        }
        let rows = task.texts.iter().enumerate().map(|(index, text)| Row {
            number: index + 1,
            text: TextView::new(text, task.language.as_deref()),
            cells: columns
                .iter()
                .map(|column| cell(page, column, index as i16, form))
                .collect(),
        });
        Self {
            rows: rows.collect(),
            columns,
            others,
            has_names,
        }
    }
}

impl Column {
    /// The ranking in one line, best first, by the numbers of the candidates: `2 > 1 = 3`.
    pub fn order(&self) -> String {
        let said = self.label.said.0.iter();
        order(said.filter_map(|said| Some((said.rank?, said.slot + 1))))
    }

    /// Seconds of activity, or of the page being open where activity was not counted.
    pub fn seconds(&self) -> Option<i64> {
        let ms = self.label.active_ms.or(self.label.elapsed_ms);
        ms.map(|ms| ms / 1000)
    }

    /// Whether its seconds are of activity.
    pub fn is_active_time(&self) -> bool {
        self.label.active_ms.is_some()
    }
}

/// Numbers by their ranks, best first; `=` between ties.
fn order(ranked: impl Iterator<Item = (i16, i16)>) -> String {
    let mut ranked: Vec<(i16, i16)> = ranked.collect();
    ranked.sort_unstable();
    let mut line = String::new();
    let mut last = None;
    for (rank, number) in ranked {
        line.push_str(match last {
            None => "",
            Some(other) if other == rank => " = ",
            Some(_) => " > ",
        });
        line.push_str(&number.to_string());
        last = Some(rank);
    }
    line
}

/// The letter of the candidate that a labeler saw at `index`.
fn letter(index: usize) -> char {
    char::from(b'A' + index as u8)
}

fn cell(page: &Page, column: &Column, slot: i16, form: &Form) -> Cell {
    let label = &column.label;
    let place = label.display_order.iter().position(|shown| *shown == slot);
    let nothing = Said {
        slot,
        rank: None,
        rating: None,
        scales: Default::default(),
        flags: Default::default(),
        note: String::new(),
    };
    let said = label.of(slot).unwrap_or(&nothing);
    let yes = said.flags.iter().filter(|(_, answer)| **answer);
    let lang = page.lang.tag();
    Cell {
        title: column.title.clone(),
        is_simulated: label.is_simulated,
        rank: said.rank,
        rating: said.rating,
        scales: said
            .scales
            .iter()
            .map(|(key, value)| (scale_label(form, key, lang), *value))
            .collect(),
        yes: yes.map(|(key, _)| flag_label(form, key, lang)).collect(),
        n_no: said.flags.values().filter(|answer| !**answer).count(),
        note: said.note.clone(),
        letter: place.map(letter),
    }
}

/// What a flag asks; its key where the form does not ask it.
pub fn flag_label(form: &Form, key: &str, lang: &str) -> String {
    let flag = form.flags.iter().find(|flag| flag.key == key);
    flag.map_or_else(|| key.to_owned(), |flag| text_in(&flag.label, lang))
}

fn scale_label(form: &Form, key: &str, lang: &str) -> String {
    let label = form.scale(key).map(|scale| text_in(&scale.label, lang));
    label.unwrap_or_else(|| key.to_owned())
}

/// What a reason to skip says; its key where the form does not have it.
pub fn reason_label(form: &Form, key: &str, lang: &str) -> String {
    let reason = form.skip_reasons.iter().find(|reason| reason.key == key);
    reason.map_or_else(|| key.to_owned(), |reason| text_in(&reason.label, lang))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ranking_is_one_line_with_its_ties() {
        let ranked = [(2, 1), (1, 2), (2, 3), (4, 4)];
        assert_eq!(order(ranked.into_iter()), "2 > 1 = 3 > 4");
        assert_eq!(order(std::iter::empty()), "");
    }
}
