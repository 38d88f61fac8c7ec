//! `/projects/{id}/form`: the labeling form, edited as rows. Every button sends the whole form and gets
//! the page back with it, so nothing needs JavaScript and nothing is kept before it is published.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum_extra::extract::Form as HtmlForm;
use serde_json::{Value, json};

use crate::auth::visitor::ProjectAdmin;
use crate::domain::audit::AuditAction;
use crate::domain::form::{Form, Texts, text_in};
use crate::domain::form_draft::{Complaint, FormDraft, LANGUAGES, Row};
use crate::domain::form_versions::{Change, ChangeKind, Section, changes, changes_of_meaning};
use crate::domain::ids::ProjectId;
use crate::error::AppResult;
use crate::pages::projects::status_of;
use crate::state::AppState;
use crate::store;
use crate::store::audit_events::NewEvent;
use crate::store::forms::FormVersion;
use crate::store::projects::Project;
use crate::web::page::{Page, render};

/// A version as the list shows it.
struct VersionRow {
    version: FormVersion,
    changes: Vec<String>,
}

#[derive(Template)]
#[template(path = "projects/form.html")]
struct FormPage {
    page: Page,
    project: Project,
    draft: FormDraft,
    /// The newest version.
    newest: i32,
    /// The newest version that the reader has seen or compared theirs with; as they sent it, where it is that.
    last: String,
    complaints: Vec<Complaint>,
    /// Somebody published a version since the page was opened.
    is_outdated: bool,
    /// What publishing would change; none before it was asked for.
    changes: Option<Vec<Change>>,
    /// Keys that would mean something else.
    of_meaning: Vec<Change>,
    /// The row that was moved or added last.
    touched: Option<(Section, usize)>,
    versions: Vec<VersionRow>,
}

impl FormPage {
    fn sections(&self) -> [Section; 7] {
        Section::ALL
    }

    fn section_title(&self, section: &Section) -> String {
        let key = format!("projects-form-{}", section.as_str());
        self.page.t(&key)
    }

    fn section_help(&self, section: &Section) -> String {
        let key = format!("projects-form-{}-help", section.as_str());
        self.page.t(&key)
    }

    fn add_text(&self, section: &Section) -> String {
        let key = format!("projects-form-{}-add", section.as_str());
        self.page.t(&key)
    }

    fn rows(&self, section: &Section) -> &[Row] {
        self.draft.rows(*section)
    }

    /// What a row is called in sentences: its key, or its place.
    fn row_name(&self, section: &Section, index: &usize) -> String {
        let row = &self.draft.rows(*section)[*index];
        match row.key.as_str() {
            "" if *section == Section::Overall => self.section_title(section),
            "" => self.page.t_with("projects-form-row", "n", index + 1),
            key => key.to_owned(),
        }
    }

    fn text<'a>(&self, texts: &'a Texts, lang: &str) -> &'a str {
        Row::text(texts, lang)
    }

    fn said(&self, texts: &Texts) -> String {
        text_in(texts, self.page.lang.tag())
    }

    /// The texts that a row of a part has, each with its name in the form.
    fn texts<'a>(&self, section: &Section, row: &'a Row) -> Vec<(&'static str, &'a Texts)> {
        match section {
            Section::Overall | Section::Scales => {
                vec![
                    ("label", &row.label),
                    ("low", &row.low),
                    ("high", &row.high),
                ]
            }
            Section::Flags | Section::PromptFlags => {
                vec![("label", &row.label), ("help", &row.help)]
            }
            Section::Reasons | Section::PiiKinds | Section::Languages => {
                vec![("label", &row.label)]
            }
        }
    }

    fn languages(&self) -> [&'static str; 2] {
        LANGUAGES
    }

    /// The words above an input: what it holds, and in which language.
    fn label(&self, field: &str, lang: &str) -> String {
        let field = self.page.t(&format!("projects-form-{field}"));
        let lang = self.page.t(&format!("language-{lang}"));
        self.page
            .t_args("projects-form-in", &[("field", field), ("language", lang)])
    }

    fn is_touched(&self, section: &Section, index: &usize) -> bool {
        self.touched == Some((*section, *index)) || self.has_complaint(section, index)
    }

    fn has_complaint(&self, section: &Section, index: &usize) -> bool {
        let mut complaints = self.complaints.iter();
        complaints.any(|one| one.section == *section && one.index == *index)
    }

    /// What is wrong with a field of a row.
    fn error_of(&self, section: &Section, index: &usize, field: &str) -> Option<String> {
        let mut complaints = self.complaints.iter();
        let wrong = complaints
            .find(|one| one.section == *section && one.index == *index && one.field == field);
        wrong.map(|one| self.page.say(&one.message))
    }

    /// A complaint as a sentence of the summary.
    fn complaint(&self, one: &Complaint) -> String {
        let mut place = vec![self.section_title(&one.section)];
        if !one.field.is_empty() {
            if one.section != Section::Overall {
                place.push(self.row_name(&one.section, &one.index));
            }
            place.push(self.page.t(&format!("projects-form-{}", one.field)));
        }
        let message = self.page.say(&one.message);
        self.page.t_args(
            "error-field",
            &[("field", place.join(" · ")), ("message", message)],
        )
    }

    /// The input that a complaint is about.
    fn anchor(&self, one: &Complaint) -> String {
        let section = one.section.as_str();
        match one.field {
            "" => section.to_owned(),
            field @ ("key" | "min" | "max") => format!("{section}-{}-{field}", one.index),
            field => format!("{section}-{}-{field}-en", one.index),
        }
    }

    fn change(&self, change: &Change) -> String {
        tell(&self.page, change)
    }
}

/// A change as a sentence.
fn tell(page: &Page, change: &Change) -> String {
    let section = page.t(&format!("projects-form-{}", change.section.as_str()));
    let place = match change.key.as_str() {
        "" => section,
        key => format!("{section} · {key}"),
    };
    let bounds = |(low, high): (i16, i16)| format!("{low}–{high}");
    let in_own = |texts: &Texts| text_in(texts, page.lang.tag());
    let say = |key: &str, old: String, new: String| {
        page.t_args(key, &[("place", place.clone()), ("old", old), ("new", new)])
    };
    let none = String::new;
    match &change.kind {
        ChangeKind::Added => say("projects-form-added", none(), none()),
        ChangeKind::Removed => say("projects-form-removed", none(), none()),
        ChangeKind::Reworded { old, new } => {
            let (was, is) = (in_own(old), in_own(new));
            // Only the other language was changed.
            match was == is {
                true => say("projects-form-reworded-elsewhere", none(), none()),
                false => say("projects-form-reworded", was, is),
            }
        }
        ChangeKind::Explained => say("projects-form-explained", none(), none()),
        ChangeKind::Rescaled { old, new } => {
            say("projects-form-rescaled", bounds(*old), bounds(*new))
        }
        ChangeKind::Reordered => say("projects-form-reordered", none(), none()),
    }
}

fn read_form(fields: &Value) -> AppResult<Form> {
    Ok(serde_json::from_value(fields.clone()).map_err(anyhow::Error::from)?)
}

/// The versions of a project's form, newest first, with what each changed of the one before.
fn version_rows(page: &Page, versions: Vec<FormVersion>) -> AppResult<Vec<VersionRow>> {
    let forms = versions.iter().map(|version| read_form(&version.fields));
    let forms = forms.collect::<AppResult<Vec<Form>>>()?;
    let rows = versions.into_iter().enumerate().map(|(index, version)| {
        let changes = forms.get(index + 1).map_or_else(Vec::new, |before| {
            let changes = changes(before, &forms[index]);
            changes.iter().map(|change| tell(page, change)).collect()
        });
        VersionRow { version, changes }
    });
    Ok(rows.collect())
}

/// `GET /projects/{id}/form`.
pub async fn index(
    State(state): State<AppState>,
    page: Page,
    ProjectAdmin(visitor): ProjectAdmin,
    Path(id): Path<ProjectId>,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let project = store::members::find_administered(&mut db, visitor.account_id, id).await?;
    let versions = store::forms::list(&mut db, id).await?;
    drop(db);
    let newest = match versions.first() {
        Some(newest) => read_form(&newest.fields)?,
        None => Form::default(),
    };
    let last = versions.first().map_or(0, |newest| newest.version);
    let view = FormPage {
        draft: FormDraft::of(&newest),
        newest: last,
        last: last.to_string(),
        is_outdated: false,
        complaints: Vec::new(),
        changes: None,
        of_meaning: Vec::new(),
        touched: None,
        versions: version_rows(&page, versions)?,
        page: page.titled("projects-form-title"),
        project,
    };
    Ok(render(&view)?.into_response())
}

/// `POST /projects/{id}/form`: a button of the page. `action` is `check`, `publish`, or a change of rows.
pub async fn update(
    State(state): State<AppState>,
    page: Page,
    ProjectAdmin(visitor): ProjectAdmin,
    Path(id): Path<ProjectId>,
    HtmlForm(fields): HtmlForm<Vec<(String, String)>>,
) -> AppResult<Response> {
    let mut transaction = state.db.begin().await?;
    let project =
        store::members::find_administered(&mut transaction, visitor.account_id, id).await?;
    let value = |name: &str| {
        let found = fields.iter().find(|(own, _)| own == name);
        found.map_or("", |(_, value)| value.as_str())
    };
    let pairs = fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let mut draft = FormDraft::read(pairs);
    // Of two who publish at once the second sees what the first published.
    store::projects::lock(&mut transaction, id).await?;
    let versions = store::forms::list(&mut transaction, id).await?;
    let newest = versions.first();
    let fields_of_last = match newest {
        Some(newest) => newest.fields.clone(),
        None => serde_json::to_value(Form::default()).map_err(anyhow::Error::from)?,
    };
    let last = newest.map_or(0, |newest| newest.version);
    let action = value("action");
    let mut view = FormPage {
        page: page.titled("projects-form-title"),
        project,
        newest: last,
        last: value("last").to_owned(),
        is_outdated: value("last") != last.to_string(),
        complaints: Vec::new(),
        changes: None,
        of_meaning: Vec::new(),
        touched: None,
        versions: Vec::new(),
        draft: FormDraft::default(),
    };
    if !matches!(action, "check" | "publish") {
        view.touched = draft.change(action);
    } else {
        match draft.finish(&fields_of_last) {
            Err(complaints) => view.complaints = complaints,
            Ok(finished) => {
                let form = read_form(&finished)?;
                let earlier = versions.iter().map(|version| read_form(&version.fields));
                let earlier = earlier.collect::<AppResult<Vec<Form>>>()?;
                let before = read_form(&fields_of_last)?;
                let changes = changes(&before, &form);
                view.of_meaning = changes_of_meaning(&earlier, &form);
                let is_confirmed = view.of_meaning.is_empty() || value("same_meaning") == "yes";
                let is_change = !changes.is_empty() || newest.is_none();
                if action == "publish" && is_confirmed && is_change && !view.is_outdated {
                    let by = visitor.account_id;
                    let version =
                        store::forms::publish(&mut transaction, id, last, &finished, by).await?;
                    let event = NewEvent::by(by, AuditAction::FormPublished).within(id);
                    let event = event.with(json!({"version": version}));
                    store::audit_events::record(&mut transaction, event).await?;
                    transaction.commit().await?;
                    let next = format!("/projects/{id}/form#versions");
                    return Ok(Redirect::to(&next).into_response());
                }
                view.changes = Some(changes);
            }
        }
    }
    drop(transaction);
    let must_confirm = action == "publish" && !view.of_meaning.is_empty();
    let status = match (view.is_outdated, must_confirm) {
        (true, _) => StatusCode::CONFLICT,
        (_, true) => StatusCode::UNPROCESSABLE_ENTITY,
        _ => status_of(&view.complaints),
    };
    // Only the changes show what somebody else published; rows that move, and what is wrong, come without them.
    if view.changes.is_some() {
        view.last = last.to_string();
    }
    view.versions = version_rows(&view.page, versions)?;
    view.draft = draft;
    Ok((status, render(&view)?).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::i18n::{Lang, find};

    #[test]
    fn every_part_and_field_has_its_words_in_both_languages() {
        let mut keys = Vec::new();
        for section in Section::ALL {
            let section = section.as_str();
            keys.extend(["", "-help"].map(|end| format!("projects-form-{section}{end}")));
        }
        for section in [
            "scales",
            "flags",
            "reasons",
            "promptflags",
            "pii",
            "languages",
        ] {
            keys.push(format!("projects-form-{section}-add"));
        }
        for field in ["key", "label", "help", "low", "high", "min", "max"] {
            keys.push(format!("projects-form-{field}"));
        }
        keys.extend(LANGUAGES.map(|lang| format!("language-{lang}")));
        for word in [
            "added",
            "removed",
            "reworded",
            "reworded-elsewhere",
            "explained",
            "rescaled",
            "reordered",
        ] {
            keys.push(format!("projects-form-{word}"));
        }
        for lang in Lang::ALL {
            for key in &keys {
                assert!(find(lang, key).is_some(), "no {key} in {lang}");
            }
        }
    }
}
