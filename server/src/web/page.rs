//! What every page knows: language, visitor, title. Templates call it for all text.

use axum::extract::FromRequestParts;
use axum::http::Method;
use axum::http::header::ACCEPT_LANGUAGE;
use axum::http::request::Parts;
use axum::response::Html;
use chrono::{DateTime, Datelike, Utc};

use crate::auth::session::read_cookie;
use crate::auth::visitor::Visitor;
use crate::error::{AppError, AppResult, FieldError};
use crate::i18n::{Lang, find, text};
use crate::message::Message;
use crate::web::nav::{self, NavGroup};
use crate::web::submitted::Submitted;

/// The cookie that remembers the chosen language.
pub const LANG_COOKIE: &str = "lang";

/// The cookie that remembers the chosen theme.
pub const THEME_COOKIE: &str = "theme";

/// Whether pages are light or dark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Theme {
    /// As the visitor's system has it.
    #[default]
    System,
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
}

impl Theme {
    /// Every one, in the order pages list them.
    pub const ALL: [Self; 3] = [Self::System, Self::Light, Self::Dark];

    /// The word in the cookie and in the page's root element.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }

    /// The theme of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|theme| theme.as_str() == word)
    }
}

/// What every page knows; a field `page` of each template.
#[derive(Debug, Clone)]
pub struct Page {
    /// The visitor's language.
    pub lang: Lang,
    /// Whether it is light or dark.
    pub theme: Theme,
    /// The page's title.
    pub title: String,
    /// Who is signed in.
    pub visitor: Option<Visitor>,
    /// The path asked for.
    pub path: String,
    /// Where the switch of the language leads: this page, or the nearest one that can be asked for.
    pub back: String,
    /// What they submitted a moment ago, where this page follows.
    pub submitted: Option<Submitted>,
}

impl Page {
    /// The text of a message.
    pub fn t(&self, key: &str) -> String {
        text(self.lang, key, &[])
    }

    /// The text of a message with one value in it.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "templates pass numbers as they are"
    )]
    pub fn t_with(&self, key: &str, name: &str, value: impl ToString) -> String {
        text(self.lang, key, &[(name, value.to_string())])
    }

    /// The text of a message with several values in it.
    pub fn t_args(&self, key: &str, args: &[(&str, String)]) -> String {
        text(self.lang, key, args)
    }

    /// What a refusal says, in the visitor's language.
    pub fn say(&self, message: &Message) -> String {
        message.text(self.lang)
    }

    /// The name of a form's field in the visitor's language; the field's own name where it has none.
    pub fn field(&self, name: &str) -> String {
        let key = format!("field-{}", name.replace('_', "-"));
        find(self.lang, &key).unwrap_or_else(|| name.to_owned())
    }

    /// A wrong field and what to change in it, in the visitor's language.
    pub fn complaint(&self, error: &FieldError) -> String {
        let field = self.field(&error.field);
        self.t_args(
            "error-field",
            &[("field", field), ("message", self.say(&error.message))],
        )
    }

    /// The same page under a title from the catalogue.
    #[must_use]
    pub fn titled(mut self, key: &str) -> Self {
        self.title = self.t(key);
        self
    }

    /// The URL of a file of `static/`.
    pub fn asset(&self, name: &str) -> String {
        crate::web::assets::url(name)
    }

    /// Now by the server's clock, which leases go by.
    pub fn now(&self) -> String {
        Utc::now().to_rfc3339()
    }

    /// A moment as text, in UTC.
    pub fn time(&self, at: &DateTime<Utc>) -> String {
        at.format("%Y-%m-%d %H:%M UTC").to_string()
    }

    /// A moment to the second, in UTC.
    pub fn precise_time(&self, at: &DateTime<Utc>) -> String {
        at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
    }

    /// The hour and minute of a moment, in UTC.
    pub fn clock(&self, at: &DateTime<Utc>) -> String {
        at.format("%H:%M").to_string()
    }

    /// A moment as a short text, in UTC, for where there is little room.
    pub fn short_time(&self, at: &DateTime<Utc>) -> String {
        let is_this_year = at.year() == Utc::now().year();
        let format = match (self.lang, is_this_year) {
            (Lang::En, true) => "%-d %b %H:%M",
            (Lang::En, false) => "%-d %b %Y %H:%M",
            (Lang::Zh, true) => "%-m月%-d日 %H:%M",
            (Lang::Zh, false) => "%Y年%-m月%-d日 %H:%M",
        };
        at.format(format).to_string()
    }

    /// A use-case category in the reader's language. One that is none of ours, in a run's data, stays as it is
    /// written.
    pub fn category(&self, word: &str) -> String {
        crate::i18n::find(self.lang, &format!("category-{word}")).unwrap_or_else(|| word.to_owned())
    }

    /// Whether the path is at or below `prefix`, to mark the current place in the navigation.
    pub fn is_at(&self, prefix: &str) -> bool {
        self.path == prefix
            || self
                .path
                .strip_prefix(prefix)
                .is_some_and(|rest| rest.starts_with('/'))
    }

    /// What the visitor finds in the navigation; nothing where nobody is signed in.
    pub fn navigation(&self) -> Vec<NavGroup> {
        let visitor = self.visitor.as_ref();
        visitor.map_or_else(Vec::new, |visitor| nav::groups(self, visitor))
    }

    /// Whether the browser may hold a labeler's or a candidate's submission that was not sent yet.
    pub fn may_have_outbox(&self) -> bool {
        self.visitor
            .as_ref()
            .is_none_or(|visitor| visitor.is_labeler || visitor.news.is_candidate)
    }

    /// The visitor's account; empty where nobody is signed in.
    pub fn account(&self) -> String {
        let visitor = self.visitor.as_ref();
        visitor.map_or_else(String::new, |visitor| visitor.account_id.to_string())
    }

    /// From the parts of any request.
    pub fn from_parts(parts: &Parts) -> Self {
        let header = parts
            .headers
            .get(ACCEPT_LANGUAGE)
            .and_then(|value| value.to_str().ok());
        let lang = read_cookie(&parts.headers, LANG_COOKIE)
            .and_then(Lang::from_tag)
            .or_else(|| header.and_then(Lang::from_accept_language))
            .unwrap_or_default();
        let theme = read_cookie(&parts.headers, THEME_COOKIE).and_then(Theme::from_word);
        Self {
            lang,
            theme: theme.unwrap_or_default(),
            title: "Plackett".to_owned(),
            visitor: parts.extensions.get::<Visitor>().cloned(),
            path: parts.uri.path().to_owned(),
            back: way_back(parts),
            submitted: parts.uri.query().and_then(Submitted::from_query),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Page {
    type Rejection = AppError;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, AppError> {
        Ok(Self::from_parts(parts))
    }
}

/// The page itself with what it was narrowed to, where it was asked for; where it answers a form, the page
/// that the form stands on, or one above it.
fn way_back(parts: &Parts) -> String {
    if matches!(parts.method, Method::GET | Method::HEAD) {
        let asked = parts.uri.path_and_query();
        return asked.map_or_else(|| "/".to_owned(), ToString::to_string);
    }
    page_above(parts.uri.path())
}

/// The page that a form stands on which is sent to this path. Forms are sent to their own page or to something
/// below it; of the parts below a list, only those of these kinds have pages of their own.
fn page_above(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match parts.as_slice() {
        ["answers", ..] => "/questions".to_owned(),
        ["projects", id, part @ ("members" | "withdrawals"), ..] => {
            format!("/projects/{id}/{part}")
        }
        ["projects", _, "form"] | ["projects", _, "rules", _] => path.to_owned(),
        ["account", "keys"] | ["screening", "grading"] | ["tasks" | "runs" | "projects", "new"] => {
            path.to_owned()
        }
        [
            first @ ("adjudication" | "demonstrate" | "projects" | "rank" | "review" | "runs"
            | "screening" | "snapshots" | "tasks"),
            id,
            ..,
        ] if id.parse::<uuid::Uuid>().is_ok() => format!("/{first}/{id}"),
        ["csp-reports" | "language" | "sign-out" | "theme", ..] => "/".to_owned(),
        [first, ..] => format!("/{first}"),
        [] => "/".to_owned(),
    }
}

/// Renders a template to a response body.
///
/// # Errors
/// Only when a template's own expression fails.
pub fn render(template: &impl askama::Template) -> AppResult<Html<String>> {
    Ok(Html(template.render()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paths of the site map, each with whether it can be asked for and whether a form is sent to it.
    fn routes() -> Vec<(String, bool, bool)> {
        let source: String = include_str!("../router.rs")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        let routes = source.split(".route(").skip(1);
        let route = |text: &str| {
            let path = text.split('"').nth(1).unwrap_or_default();
            (
                path.to_owned(),
                text.contains("get("),
                text.contains("post("),
            )
        };
        routes.map(route).collect()
    }

    #[test]
    fn from_the_answer_to_any_form_the_switch_of_the_language_leads_to_a_page() {
        let routes = routes();
        let id = "0198c0de-0000-7000-8000-000000000000";
        let pages: Vec<&str> = routes
            .iter()
            .filter(|(_, can_be_asked_for, _)| *can_be_asked_for)
            .map(|(path, ..)| path.as_str())
            .collect();
        let mut n_forms = 0;
        for (path, _, takes_forms) in &routes {
            if path.starts_with("/api/") || !takes_forms {
                continue;
            }
            n_forms += 1;
            let fill = |path: &str| {
                let filled = path.replace("{subject}", "guidelines");
                let parts = filled.split('/').map(|part| match part.starts_with('{') {
                    true => id,
                    false => part,
                });
                parts.collect::<Vec<_>>().join("/")
            };
            let back = page_above(&fill(path));
            let is_page = pages.iter().any(|page| fill(page) == back);
            assert!(is_page, "{path} leads to {back}");
        }
        assert!(n_forms > 20, "the site map was read: {n_forms}");
    }
}
