//! What an event of the audit log says more, in the reader's language. In the database and in the download it
//! is a JSON object, whose names and words stay English, so that programs can rely on them.

use serde_json::Value;

use crate::i18n::find;
use crate::web::page::Page;

/// Each member of an event's object: its name and its value as they are read.
pub fn details(page: &Page, data: &Value) -> Vec<(String, String)> {
    let members = data.as_object().into_iter().flatten();
    members
        .map(|(name, value)| (title(page, name), detail(page, name, value)))
        .collect()
}

/// A noun that something was done to.
pub fn noun(page: &Page, kind: &str) -> String {
    let found = find(page.lang, &format!("audit-noun-{kind}"));
    found.unwrap_or_else(|| kind.to_owned())
}

/// The name of a member: one of the log's own, otherwise that of the form's field that was changed.
fn title(page: &Page, name: &str) -> String {
    if let Some(category) = name.strip_prefix("overlap_") {
        let category = page.t(&format!("category-{category}"));
        return page.t_with("projects-overlap-of", "category", category);
    }
    let key = format!("audit-detail-{}", name.replace('_', "-"));
    find(page.lang, &key).unwrap_or_else(|| page.field(name))
}

/// A value as it is read: a change as what was and what is.
fn detail(page: &Page, name: &str, value: &Value) -> String {
    match value {
        Value::String(text) => word(page, name, text),
        Value::Bool(true) => page.t("rank-yes"),
        Value::Bool(false) => page.t("rank-no"),
        Value::Array(items) => {
            let items = items.iter().map(|item| detail(page, name, item));
            items.collect::<Vec<_>>().join(", ")
        }
        Value::Object(change) if change.contains_key("from") && change.contains_key("to") => {
            let side = |end: &str| match detail(page, name, &change[end]) {
                text if text.is_empty() => "–".to_owned(),
                text => text,
            };
            format!("{} → {}", side("from"), side("to"))
        }
        Value::Object(_) => {
            let parts = details(page, value).into_iter();
            let parts = parts.map(|(name, value)| format!("{name}: {value}"));
            parts.collect::<Vec<_>>().join("; ")
        }
        other => other.to_string(),
    }
}

/// A word of ours in the reader's language; what somebody typed, and what has no translation, as it is.
fn word(page: &Page, name: &str, text: &str) -> String {
    let prefixes: &[&str] = match name {
        "by" => &["audit-by"],
        "is_open" => &["audit-is-open"],
        "kind" => &["prompts-kind", "runs-kind"],
        "next_task" => &["projects-next"],
        "role" | "roles" => &["role"],
        "work" => &["tasks-work"],
        _ => &[],
    };
    let text_key = text.replace(['_', ' '], "-");
    let keys = prefixes.iter().map(|prefix| format!("{prefix}-{text_key}"));
    let mut found = keys.filter_map(|key| find(page.lang, &key));
    found.next().unwrap_or_else(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::i18n::Lang;
    use crate::web::page::Theme;

    fn page(lang: Lang) -> Page {
        Page {
            lang,
            theme: Theme::default(),
            title: String::new(),
            visitor: None,
            path: String::new(),
            back: String::new(),
            submitted: None,
        }
    }

    #[test]
    fn a_change_is_told_as_what_was_and_what_is_in_the_readers_language() {
        let (en, zh) = (page(Lang::En), page(Lang::Zh));
        let change = json!({"from": "", "to": "3"});
        assert_eq!(detail(&en, "candidates", &change), "– → 3");
        let roles = json!({"from": ["labeler"], "to": ["labeler", "admin"]});
        assert_eq!(detail(&en, "roles", &roles), "labeler → labeler, admin");
        assert_eq!(detail(&zh, "roles", &roles), "标注员 → 标注员, 管理员");
        assert_eq!(detail(&zh, "items", &json!(7)), "7");
        assert_eq!(detail(&zh, "by", &json!("command line")), "命令行");
        // What somebody typed is no word of ours.
        assert_eq!(detail(&zh, "name", &json!("admin")), "admin");
        let data = json!({"overlap_chat": {"from": "1", "to": "3"}});
        let told = details(&en, &data);
        assert_eq!(told[0].1, "1 → 3");
        assert!(!told[0].0.contains("overlap_"), "{told:?}");
        let nested = json!({"left_out": {"labelers_gold": 2}});
        assert!(!details(&zh, &nested)[0].1.contains("labelers_gold"));
    }

    #[test]
    fn every_member_that_is_written_has_its_name_in_both_languages() {
        let names = [
            "by",
            "candidates",
            "container",
            "error_rates",
            "evaluation_percent",
            "filters",
            "format",
            "gold_percent",
            "is_open",
            "items",
            "kind",
            "label",
            "labelers",
            "languages",
            "lease_seconds",
            "least_agreement",
            "least_gold",
            "least_quality",
            "least_seconds",
            "left_out",
            "name",
            "next_task",
            "overlap",
            "overlap_chat",
            "published",
            "records",
            "repeat_after_days",
            "repeat_percent",
            "role",
            "roles",
            "screening",
            "seed",
            "tasks",
            "version",
            "without_labelers",
            "without_unproven",
            "work",
        ];
        for lang in Lang::ALL {
            for name in names {
                let key = name.replace('_', "-");
                let own = [format!("audit-detail-{key}"), format!("field-{key}")];
                let has_words = own.iter().any(|key| find(lang, key).is_some());
                let is_known = has_words || name.starts_with("overlap_");
                assert!(is_known, "{name} has no name in {lang}");
            }
            for kind in [
                "account", "audit", "project", "question", "run", "snapshot", "task",
            ] {
                assert!(
                    find(lang, &format!("audit-noun-{kind}")).is_some(),
                    "{kind}"
                );
            }
        }
    }
}
