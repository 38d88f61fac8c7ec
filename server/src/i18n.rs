//! The message catalogue: every sentence of a page, in English and Chinese.
//!
//! `server/locales/<language>/*.ftl` hold the texts, one file for each page module and one for refusals, compiled
//! in.
//! A test checks that both languages have the same keys and that templates use no other.

use std::fmt;
use std::sync::LazyLock;

use fluent_bundle::concurrent::FluentBundle;
use fluent_bundle::{FluentArgs, FluentResource};
use rust_embed::RustEmbed;
use unic_langid::LanguageIdentifier;

#[derive(RustEmbed)]
#[folder = "locales"]
struct Locales;

/// A language of the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lang {
    /// English.
    #[default]
    En,
    /// Simplified Chinese.
    Zh,
}

impl Lang {
    /// Both languages.
    pub const ALL: [Self; 2] = [Self::En, Self::Zh];

    /// The tag for `lang=` and folders.
    pub fn tag(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Zh => "zh",
        }
    }

    /// The language of a tag such as `zh-CN`, if it is one of ours.
    pub fn from_tag(tag: &str) -> Option<Self> {
        let primary = tag.trim().split(['-', '_', ';']).next()?;
        Self::ALL
            .into_iter()
            .find(|lang| primary.eq_ignore_ascii_case(lang.tag()))
    }

    /// The first of ours in an `Accept-Language` header (browsers list the preferred one first).
    pub fn from_accept_language(header: &str) -> Option<Self> {
        header.split(',').find_map(Self::from_tag)
    }
}

impl fmt::Display for Lang {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.tag())
    }
}

static BUNDLES: LazyLock<[FluentBundle<FluentResource>; 2]> =
    LazyLock::new(|| Lang::ALL.map(bundle));

fn bundle(lang: Lang) -> FluentBundle<FluentResource> {
    let identifier: LanguageIdentifier = lang.tag().parse().unwrap_or_default();
    let mut bundle = FluentBundle::new_concurrent(vec![identifier]);
    // Isolation marks are invisible characters that would land in attributes and tests.
    bundle.set_use_isolating(false);
    let folder = format!("{}/", lang.tag());
    for path in Locales::iter().filter(|path| path.starts_with(&folder)) {
        let Some(file) = Locales::get(&path) else {
            continue;
        };
        let text = String::from_utf8_lossy(&file.data).into_owned();
        match FluentResource::try_new(text) {
            Ok(resource) => {
                if let Err(errors) = bundle.add_resource(resource) {
                    tracing::error!(%path, ?errors, "a message is defined twice");
                }
            }
            Err((_, errors)) => tracing::error!(%path, ?errors, "a message file cannot be read"),
        }
    }
    bundle
}

/// The text of `key` in `lang`, if there is such a message without values.
pub fn find(lang: Lang, key: &str) -> Option<String> {
    let known = BUNDLES[lang as usize].has_message(key);
    known.then(|| text(lang, key, &[]))
}

/// The text of `key` in `lang`; the key itself when there is none (a test keeps that from
/// happening).
pub fn text(lang: Lang, key: &str, args: &[(&str, String)]) -> String {
    let bundle = &BUNDLES[lang as usize];
    let Some(pattern) = bundle.get_message(key).and_then(|message| message.value()) else {
        return key.to_owned();
    };
    let mut values = FluentArgs::new();
    for (name, value) in args {
        match count(value) {
            Some(number) => values.set(*name, number),
            None => values.set(*name, value.clone()),
        }
    }
    let mut errors = Vec::new();
    bundle
        .format_pattern(pattern, Some(&values), &mut errors)
        .into_owned()
}

/// A value as a whole number, so that plural rules work. One that is written in another way, with a sign
/// or with decimals, stays as it is written.
fn count(value: &str) -> Option<i64> {
    let number: i64 = value.parse().ok()?;
    // Beyond that a message's numbers, which are floating, would not be exact.
    (number.unsigned_abs() < 1 << 53 && number.to_string() == value).then_some(number)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn keys(lang: Lang) -> BTreeSet<String> {
        let folder = format!("{}/", lang.tag());
        let mut keys = BTreeSet::new();
        for path in Locales::iter().filter(|path| path.starts_with(&folder)) {
            let file = Locales::get(&path).expect("listed");
            let source = String::from_utf8(file.data.to_vec()).expect("UTF-8");
            let resource = FluentResource::try_new(source)
                .unwrap_or_else(|(_, errors)| panic!("{path}: {errors:?}"));
            for entry in resource.entries() {
                if let fluent_bundle_entry::Entry::Message(message) = entry {
                    assert!(
                        keys.insert(message.id.name.to_owned()),
                        "{path}: {} twice",
                        message.id.name
                    );
                }
            }
        }
        keys
    }

    use fluent_syntax::ast as fluent_bundle_entry;

    #[test]
    fn both_languages_have_the_same_messages() {
        let (english, chinese) = (keys(Lang::En), keys(Lang::Zh));
        let missing: Vec<_> = english.symmetric_difference(&chinese).collect();
        assert!(missing.is_empty(), "in one language only: {missing:?}");
        assert!(english.len() > 20);
    }

    /// Every word in quotes that follows one of `calls` in the files below a folder.
    fn named_in(folder: &str, calls: &[&str]) -> Vec<String> {
        let mut folders = vec![std::path::PathBuf::from(folder)];
        let mut found = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("entry").path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let source = std::fs::read_to_string(&path).expect("UTF-8");
                for call in calls {
                    let after = source.split(call).skip(1);
                    found
                        .extend(after.filter_map(|part| part.split('"').next().map(str::to_owned)));
                }
            }
        }
        found
    }

    #[test]
    fn every_message_that_a_template_or_a_refusal_names_exists() {
        let known = keys(Lang::En);
        let in_templates = named_in("../templates", &[".t(\"", ".t_with(\"", ".t_args(\""]);
        let in_refusals = named_in("src", &["Message::new(\"", "AppError::conflict(\""]);
        assert!(in_templates.len() > 20 && in_refusals.len() > 20);
        for key in in_templates.iter().chain(&in_refusals) {
            assert!(known.contains(key), "no message {key:?}");
        }
    }

    #[test]
    fn counts_follow_plural_rules_and_other_numbers_stay_as_they_are_written() {
        let say =
            |key: &str, name: &str, value: &str| text(Lang::En, key, &[(name, value.to_owned())]);
        assert_eq!(say("runs-more-samples", "n", "1"), "1 more sample");
        assert_eq!(say("runs-more-samples", "n", "30000"), "30000 more samples");
        for value in [
            "+0.35",
            "4.00",
            "+5",
            "007",
            "0.10",
            "1e3",
            "9007199254740993",
        ] {
            let said = say("runs-kl-budget", "budget", value);
            assert_eq!(said, format!("of {value} nats allowed"));
        }
    }

    /// The values that the messages of a language name.
    fn values(lang: Lang) -> BTreeSet<String> {
        let folder = format!("{}/", lang.tag());
        let mut names = BTreeSet::new();
        for path in Locales::iter().filter(|path| path.starts_with(&folder)) {
            let file = Locales::get(&path).expect("listed");
            let source = String::from_utf8(file.data.to_vec()).expect("UTF-8");
            let after = source.split('$').skip(1);
            names.extend(after.map(|rest| {
                let is_name = |sign: &char| sign.is_alphanumeric() || *sign == '_';
                rest.chars().take_while(is_name).collect::<String>()
            }));
        }
        names
    }

    #[test]
    fn one_of_anything_is_said_in_the_singular() {
        // Bounds of the program that are never one, a number that is not the noun's, and names.
        let others = [
            "demonstrate-limit",
            "error-fewest-pairs",
            "error-length",
            "error-longer-than",
            "error-most-pairs",
            "error-most-passages",
            "error-password-long",
            "error-password-short",
            "error-too-many-lines",
            "error-too-many-tasks",
            "error-too-old-to-correct",
            "figures-cut",
            "figures-simulated-alone",
            "import-longer-bytes",
            "import-too-many-labelers",
            "agreement-intervals",
            "agreement-position-of",
            "demonstrate-pairs-help",
            "models-groups",
            "projects-form-bounds",
            "projects-form-rows",
            "tasks-most-help",
            "text-long",
        ];
        let names = values(Lang::En);
        let ones: Vec<(&str, String)> = names
            .iter()
            .map(|name| (name.as_str(), "1".to_owned()))
            .collect();
        // Verbs, and a unit of figures that are not whole.
        let no_nouns = ["comes", "does", "fits", "means", "nats"];
        let mut wrong = Vec::new();
        for key in keys(Lang::En) {
            let said = text(Lang::En, &key, &ones);
            let words: Vec<&str> = said.split_whitespace().collect();
            let is_plural = words.windows(2).any(|pair| {
                let noun = pair[1].trim_end_matches(|sign: char| !sign.is_alphanumeric());
                let is_noun = noun.len() > 3 && noun.chars().all(|sign| sign.is_ascii_lowercase());
                let is_plural = noun.ends_with('s') && !noun.ends_with("ss");
                pair[0] == "1" && is_noun && is_plural && !no_nouns.contains(&noun)
            });
            if is_plural && !others.contains(&key.as_str()) {
                wrong.push(said);
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn every_category_has_a_word_in_both_languages() {
        for lang in Lang::ALL {
            for word in crate::domain::prompt::CATEGORIES {
                let key = format!("category-{word}");
                assert!(find(lang, &key).is_some(), "no {key} in {lang}");
            }
        }
    }

    #[test]
    fn the_browsers_first_known_language_wins() {
        assert_eq!(
            Lang::from_accept_language("fr-FR,zh-CN;q=0.8,en;q=0.5"),
            Some(Lang::Zh)
        );
        assert_eq!(Lang::from_accept_language("fr"), None);
    }
}
