//! What labelers wrote in a task, or said of its prompt: a part of the page of a task, shown by
//! `templates/fragments/submission.html`. Every version is there, the newest first.

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::domain::form::{Choice, Flag, Form, text_in};
use crate::domain::review::ReviewInput;
use crate::domain::writing::WritingInput;
use crate::pages::labels::Column;
use crate::store::task_labels::{TaskDetail, Version};
use crate::web::page::Page;
use crate::web::text_view::TextView;

/// What one labeler submitted.
pub struct SubmissionView {
    /// Who, and how they worked.
    pub column: Column,
    /// Newest first.
    pub versions: Vec<VersionView>,
}

/// One version of it.
pub struct VersionView {
    /// 1 for the first.
    pub version: i32,
    /// When it was submitted.
    pub at: DateTime<Utc>,
    /// Seconds of activity until then.
    pub seconds: i64,
    /// Texts under what they are.
    pub texts: Vec<(String, TextView)>,
    /// What was chosen, under what was asked.
    pub facts: Vec<(String, String)>,
    /// Passages that were quoted, under what they are.
    pub quotes: Vec<(String, String)>,
    /// What was written beside it.
    pub note: Option<TextView>,
}

/// Takes those who wrote or reviewed out of `others`, with what they submitted.
pub fn submissions(
    page: &Page,
    task: &TaskDetail,
    form: &Form,
    others: &mut Vec<Column>,
    versions: &[Version],
) -> Vec<SubmissionView> {
    let of = |column: &Column| -> Vec<VersionView> {
        let id = column.label.assignment_id;
        let own = versions.iter().filter(|one| one.assignment_id == id);
        own.map(|one| VersionView::new(page, task, form, one))
            .collect()
    };
    let mut found = Vec::new();
    for column in std::mem::take(others) {
        match of(&column) {
            versions if versions.is_empty() => others.push(column),
            versions => found.push(SubmissionView { column, versions }),
        }
    }
    found
}

impl SubmissionView {
    /// Versions that corrections have replaced.
    pub fn earlier(&self) -> &[VersionView] {
        self.versions.get(1..).unwrap_or_default()
    }
}

impl VersionView {
    fn new(page: &Page, task: &TaskDetail, form: &Form, said: &Version) -> Self {
        let mut view = Self {
            version: said.version,
            at: said.said_at,
            seconds: said.active_ms / 1000,
            texts: Vec::new(),
            facts: Vec::new(),
            quotes: Vec::new(),
            note: (!said.note.is_empty()).then(|| TextView::new(&said.note, None)),
        };
        match task.kind.as_str() {
            "review" => view.add_review(page, form, &said.content),
            _ => view.add_writing(page, task, form, &said.content),
        }
        view
    }

    fn add_writing(&mut self, page: &Page, task: &TaskDetail, form: &Form, content: &Value) {
        // What was stored is of this shape, and what is not shown by it could not be said.
        let said: WritingInput = serde_json::from_value(content.clone()).unwrap_or_default();
        let language = said.language.as_deref();
        let mut add = |title: String, text: &str| {
            if !text.is_empty() {
                self.texts.push((title, TextView::new(text, language)));
            }
        };
        add(page.t("demonstrate-prompt"), &said.prompt);
        let is_given = task
            .brief
            .as_ref()
            .is_some_and(|brief| !brief["instruction"].is_null());
        if !is_given {
            add(page.t("demonstrate-instruction"), &said.instruction);
        }
        for (index, pair) in said.pairs.iter().enumerate() {
            let number = index + 1;
            let title = |key: &str| page.t_with(key, "n", number);
            add(title("demonstrate-field-pairs-query"), &pair.query);
            add(title("demonstrate-field-pairs-response"), &pair.response);
        }
        add(page.t("demonstrate-response"), &said.response);
        self.add_about(page, form, said.category.as_deref(), language);
    }

    fn add_review(&mut self, page: &Page, form: &Form, content: &Value) {
        let said: ReviewInput = serde_json::from_value(content.clone()).unwrap_or_default();
        let lang = page.lang.tag();
        self.add_about(
            page,
            form,
            said.category.as_deref(),
            said.language.as_deref(),
        );
        let answer = |yes: bool| page.t(if yes { "answer-yes" } else { "answer-no" });
        for (key, yes) in &said.flags {
            let asked = flag_label(&form.prompt_flags, key, lang);
            self.facts.push((asked, answer(*yes)));
        }
        if let Some(yes) = said.personal_data {
            self.facts
                .push((page.t("review-personal-data"), answer(yes)));
        }
        for found in &said.found {
            let kind = choice_label(&form.pii_kinds, &found.kind, lang);
            self.quotes.push((kind, found.passage.clone()));
        }
    }

    fn add_about(&mut self, page: &Page, form: &Form, category: Option<&str>, tag: Option<&str>) {
        if let Some(category) = category {
            let word = page.category(category);
            self.facts.push((page.t("answer-category"), word));
        }
        if let Some(tag) = tag {
            let word = choice_label(&form.languages, tag, page.lang.tag());
            self.facts.push((page.t("answer-language"), word));
        }
    }
}

/// What a question asks; its key where the form no longer asks it.
fn flag_label(flags: &[Flag], key: &str, lang: &str) -> String {
    let flag = flags.iter().find(|flag| flag.key == key);
    flag.map_or_else(|| key.to_owned(), |flag| text_in(&flag.label, lang))
}

/// What a choice says; its key where the form no longer has it.
fn choice_label(choices: &[Choice], key: &str, lang: &str) -> String {
    let choice = choices.iter().find(|choice| choice.key == key);
    choice.map_or_else(|| key.to_owned(), |choice| text_in(&choice.label, lang))
}
