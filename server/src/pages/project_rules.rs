//! `/projects/{id}/rules/{subject}`: guidelines and consent of a project, version by version: what each
//! changed, a preview of the next, and publishing it.

use std::fmt;

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum_extra::extract::Form as HtmlForm;
use serde_json::json;

use crate::auth::visitor::ProjectAdmin;
use crate::domain::audit::AuditAction;
use crate::domain::diff::{Line, diff};
use crate::domain::form::{Texts, text_in};
use crate::domain::form_draft::LANGUAGES;
use crate::domain::ids::ProjectId;
use crate::error::{AppError, AppResult, FieldError};
use crate::message::Message;
use crate::pages::projects::status_of;
use crate::state::AppState;
use crate::store;
use crate::store::audit_events::NewEvent;
use crate::store::members::Subject;
use crate::store::projects::Project;
use crate::store::rules::RuleVersion;
use crate::web::markdown;
use crate::web::page::{Page, render};

/// Longest text of a version in one language, in characters.
pub const LONGEST: usize = 100_000;

/// One line of a comparison, as it is shown.
pub(crate) struct DiffLine {
    /// `same`, `removed`, `added` or `skipped`: also the class.
    pub(crate) kind: &'static str,
    /// The line, or how many were left out.
    pub(crate) text: String,
}

/// The lines of a comparison of two texts.
pub(crate) fn diff_lines(old: &str, new: &str) -> Vec<DiffLine> {
    let line = |line: Line<'_>| {
        let (kind, text) = match line {
            Line::Same(text) => ("same", text.to_owned()),
            Line::Removed(text) => ("removed", text.to_owned()),
            Line::Added(text) => ("added", text.to_owned()),
            Line::Skipped(n) => ("skipped", n.to_string()),
        };
        DiffLine { kind, text }
    };
    diff(old, new).into_iter().map(line).collect()
}

/// What one version changed of another, in one language.
struct Comparison {
    lang: &'static str,
    lines: Vec<DiffLine>,
}

/// Every language in which two versions differ.
fn compare(old: &Texts, new: &Texts) -> Vec<Comparison> {
    let text = |texts: &'_ Texts, lang: &str| texts.get(lang).cloned().unwrap_or_default();
    let compared = LANGUAGES.map(|lang| Comparison {
        lang,
        lines: diff_lines(&text(old, lang), &text(new, lang)),
    });
    let differing = compared.into_iter().filter(|one| !one.lines.is_empty());
    differing.collect()
}

/// A version that was typed and not yet published.
struct Preview {
    html: Vec<(&'static str, String)>,
    changes: Vec<Comparison>,
    n_asked: i64,
}

#[derive(Template)]
#[template(path = "projects/rules.html")]
struct RulesPage {
    page: Page,
    project: Project,
    subject: Subject,
    texts: Texts,
    errors: Vec<FieldError>,
    /// The newest version that the reader has seen or compared theirs with.
    last: i32,
    /// Somebody published a version since.
    is_outdated: bool,
    preview: Option<Preview>,
    versions: Vec<RuleVersion>,
    /// The two versions that are compared, older first.
    compared: Option<(i32, i32)>,
    comparison: Vec<Comparison>,
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl RulesPage {
    /// The newest version; 0 where there is none.
    fn newest_version(&self) -> i32 {
        self.versions.first().map_or(0, |newest| newest.version)
    }

    fn word(&self, key: &str) -> String {
        self.page.t(&format!("projects-{}-{key}", self.subject))
    }

    fn languages(&self) -> [(&'static str, String); 2] {
        LANGUAGES.map(|lang| (lang, self.page.t(&format!("language-{lang}"))))
    }

    fn language(&self, lang: &str) -> String {
        self.page.t(&format!("language-{lang}"))
    }

    fn text(&self, lang: &str) -> &str {
        self.texts.get(lang).map_or("", String::as_str)
    }

    fn error_of(&self, field: &str) -> Option<String> {
        let error = self.errors.iter().find(|error| error.field == field);
        error.map(|error| self.page.say(&error.message))
    }

    /// The newest version as it is read.
    fn newest(&self) -> Option<(i32, String)> {
        let newest = self.versions.first()?;
        let text = text_in(&newest.texts.0, self.page.lang.tag());
        Some((newest.version, markdown::to_html(&text)))
    }

    fn is_compared(&self, version: &i32, is_older: bool) -> bool {
        let chosen = self
            .compared
            .map(|(older, newer)| if is_older { older } else { newer });
        chosen == Some(*version)
    }
}

/// The two versions to compare.
#[derive(Debug, Default, serde::Deserialize)]
pub struct CompareQuery {
    from: Option<i32>,
    to: Option<i32>,
}

impl CompareQuery {
    /// The versions asked for, older first; without any, the last two.
    fn choose(&self, newest: i32) -> Option<(i32, i32)> {
        let (from, to) = match (self.from, self.to) {
            (Some(from), Some(to)) => (from.min(to), from.max(to)),
            _ => (newest - 1, newest),
        };
        (from >= 1 && from < to && to <= newest).then_some((from, to))
    }
}

fn read_subject(word: &str) -> AppResult<Subject> {
    word.parse().map_err(|_: String| AppError::NotFound("page"))
}

/// `GET /projects/{id}/rules/{subject}`.
pub async fn index(
    State(state): State<AppState>,
    page: Page,
    ProjectAdmin(visitor): ProjectAdmin,
    Path((id, word)): Path<(ProjectId, String)>,
    Query(query): Query<CompareQuery>,
) -> AppResult<Response> {
    let subject = read_subject(&word)?;
    let mut db = state.db.acquire().await?;
    let project = store::members::find_administered(&mut db, visitor.account_id, id).await?;
    let versions = store::rules::list(&mut db, id, subject).await?;
    drop(db);
    let newest = versions.first();
    let texts = newest
        .map(|newest| newest.texts.0.clone())
        .unwrap_or_default();
    let compared = query.choose(newest.map_or(0, |newest| newest.version));
    let find = |number: i32| versions.iter().find(|version| version.version == number);
    let comparison = compared
        .and_then(|(from, to)| Some(compare(&find(from)?.texts.0, &find(to)?.texts.0)))
        .unwrap_or_default();
    let title = format!("projects-{subject}-title");
    let view = RulesPage {
        page: page.titled(&title),
        project,
        subject,
        texts,
        errors: Vec::new(),
        last: versions.first().map_or(0, |newest| newest.version),
        is_outdated: false,
        preview: None,
        versions,
        compared,
        comparison,
    };
    Ok(render(&view)?.into_response())
}

/// The form that previews or publishes a version.
#[derive(serde::Deserialize)]
pub struct RulesForm {
    #[serde(default)]
    en: String,
    #[serde(default)]
    zh: String,
    #[serde(default)]
    action: String,
    /// The newest version when the page was opened. Who does not say, as a program may, is not asked.
    #[serde(default)]
    last: Option<i32>,
}

impl RulesForm {
    /// What was typed, with line ends as files have them: forms send two letters for each.
    fn texts(&self) -> Texts {
        let typed = [("en", &self.en), ("zh", &self.zh)];
        let written = typed.map(|(lang, text)| (lang.to_owned(), text.replace("\r\n", "\n")));
        let written = written.into_iter();
        written
            .filter(|(_, text)| !text.trim().is_empty())
            .collect()
    }

    fn complaints(texts: &Texts) -> Vec<FieldError> {
        if texts.is_empty() {
            let message = Message::new("error-guidelines-empty");
            return vec![FieldError::new("en", message)];
        }
        let too_long = texts
            .iter()
            .filter(|(_, text)| text.chars().count() > LONGEST);
        let message = Message::new("error-longer-than").with("most", LONGEST);
        too_long
            .map(|(lang, _)| FieldError::new(lang, message.clone()))
            .collect()
    }
}

/// `POST /projects/{id}/rules/{subject}`: previews a version, or publishes it. Labelers acknowledge it
/// before their next task; old labels keep theirs. Where somebody else published one since the page was opened,
/// what was typed is compared with that one first.
pub async fn update(
    State(state): State<AppState>,
    page: Page,
    ProjectAdmin(visitor): ProjectAdmin,
    Path((id, word)): Path<(ProjectId, String)>,
    HtmlForm(form): HtmlForm<RulesForm>,
) -> AppResult<Response> {
    let subject = read_subject(&word)?;
    let mut transaction = state.db.begin().await?;
    let project =
        store::members::find_administered(&mut transaction, visitor.account_id, id).await?;
    // Of two who publish at once the second sees what the first published.
    store::projects::lock(&mut transaction, id).await?;
    let texts = form.texts();
    let mut errors = RulesForm::complaints(&texts);
    let versions = store::rules::list(&mut transaction, id, subject).await?;
    let before = versions.first().map(|newest| newest.texts.0.clone());
    if before.as_ref() == Some(&texts) {
        errors.push(FieldError::new("en", Message::new("error-nothing-changed")));
    }
    let newest = versions.first().map_or(0, |newest| newest.version);
    let is_outdated = form.last.is_some_and(|last| last != newest);
    if errors.is_empty() && form.action == "publish" && !is_outdated {
        let by = visitor.account_id;
        let version = store::rules::publish(&mut transaction, id, subject, &texts, by).await?;
        let action = match subject {
            Subject::Guidelines => AuditAction::GuidelinesPublished,
            Subject::Consent => AuditAction::ConsentPublished,
        };
        let event = NewEvent::by(by, action).within(id);
        let event = event.with(json!({"version": version}));
        store::audit_events::record(&mut transaction, event).await?;
        transaction.commit().await?;
        let next = format!("/projects/{id}/rules/{subject}");
        return Ok(Redirect::to(&next).into_response());
    }
    let n_asked = store::members::count_asked(&mut transaction, id).await?;
    drop(transaction);
    let html = texts.iter().filter_map(|(own, text)| {
        let lang = LANGUAGES.into_iter().find(|lang| lang == own)?;
        Some((lang, markdown::to_html(text)))
    });
    let preview = errors.is_empty().then(|| Preview {
        html: html.collect(),
        changes: compare(&before.unwrap_or_default(), &texts),
        n_asked,
    });
    // Only a comparison shows what somebody else published: what is wrong hides it, and is mended first.
    let last = match preview {
        Some(_) => newest,
        None => form.last.unwrap_or(newest),
    };
    let title = format!("projects-{subject}-title");
    let status = match is_outdated {
        true => StatusCode::CONFLICT,
        false => status_of(&errors),
    };
    let view = RulesPage {
        page: page.titled(&title),
        project,
        subject,
        texts,
        errors,
        last,
        is_outdated,
        preview,
        versions,
        compared: None,
        comparison: Vec::new(),
    };
    Ok((status, render(&view)?).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::i18n::{Lang, find};

    #[test]
    fn without_a_choice_the_last_two_versions_are_compared() {
        let choose = |from, to, newest| CompareQuery { from, to }.choose(newest);
        assert_eq!(choose(None, None, 3), Some((2, 3)));
        assert_eq!(choose(Some(3), Some(1), 3), Some((1, 3)));
        assert_eq!(choose(None, None, 1), None);
        assert_eq!(choose(Some(1), Some(4), 3), None);
        assert_eq!(choose(Some(2), Some(2), 3), None);
    }

    #[test]
    fn both_subjects_have_their_words_in_both_languages() {
        for lang in Lang::ALL {
            for subject in [Subject::Guidelines, Subject::Consent] {
                for word in ["title", "help", "none", "published"] {
                    let key = format!("projects-{subject}-{word}");
                    assert!(find(lang, &key).is_some(), "no {key} in {lang}");
                }
            }
        }
    }
}
