//! The second wall: whatever the renderer writes is parsed as a browser would and written anew, of the
//! elements and attributes below and nothing else. They are exactly what the renderer makes; a test holds
//! that every text's rendering passes unchanged, and fuzzes both walls with fragments of markup.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use ammonia::Builder;

use super::mathml;

/// Elements of HTML. None leads away, loads, asks or names anything: no `a`, `img`, `form`, `input`, `style`.
pub(super) const ELEMENTS: [&str; 27] = [
    "p",
    "br",
    "hr",
    "em",
    "strong",
    "del",
    "sup",
    "code",
    "pre",
    "blockquote",
    "ul",
    "ol",
    "li",
    "h4",
    "h5",
    "h6",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "figure",
    "figcaption",
    "div",
    "span",
    "math",
];

/// Elements and the values that their attributes may have. `class` is in [`CLASSES`].
pub(super) const ATTRIBUTES: [(&str, &str, &[&str]); 14] = [
    ("p", "dir", &["auto"]),
    ("blockquote", "dir", &["auto"]),
    ("ul", "dir", &["auto"]),
    ("ol", "dir", &["auto"]),
    ("h4", "dir", &["auto"]),
    ("h5", "dir", &["auto"]),
    ("h6", "dir", &["auto"]),
    ("div", "dir", &["auto"]),
    ("table", "dir", &["auto"]),
    ("figure", "dir", &["ltr"]),
    ("code", "dir", &["ltr"]),
    ("span", "dir", &["ltr"]),
    ("span", "tabindex", &["0"]),
    ("div", "tabindex", &["0"]),
];

/// Attributes with a number, and with any text.
pub(super) const NUMBERED: [(&str, &str); 2] = [("ol", "start"), ("li", "value")];
/// The name of an invisible character.
pub(super) const TEXTUAL: [(&str, &str); 1] = [("span", "title")];

/// Classes of HTML elements.
pub(super) const CLASSES: [(&str, &[&str]); 8] = [
    (
        "span",
        &[
            "k", "s", "c", "n", "f", "added", "removed", "mark", "address", "formula",
        ],
    ),
    ("figure", &["code"]),
    ("p", &["markup"]),
    ("li", &["task"]),
    ("ol", &["far"]),
    ("div", &["sideways", "footnote"]),
    ("th", &["right", "center"]),
    ("td", &["right", "center"]),
];

static CLEANER: LazyLock<Builder<'static>> = LazyLock::new(|| {
    let mut cleaner = Builder::empty();
    let mut tags = HashSet::from(ELEMENTS);
    tags.extend(mathml::ELEMENTS);
    let mut values: HashMap<&str, HashMap<&str, HashSet<&str>>> = HashMap::new();
    for (tag, attribute, allowed) in ATTRIBUTES {
        let of_tag = values.entry(tag).or_default();
        of_tag.insert(attribute, allowed.iter().copied().collect());
    }
    let mut attributes: HashMap<&str, HashSet<&str>> = HashMap::new();
    for (tag, attribute) in NUMBERED.into_iter().chain(TEXTUAL) {
        attributes.entry(tag).or_default().insert(attribute);
    }
    let mut classes: HashMap<&str, HashSet<&str>> = HashMap::new();
    for (tag, names) in CLASSES {
        classes.entry(tag).or_default().extend(names);
    }
    for tag in mathml::ELEMENTS {
        for (word, allowed) in mathml::WORDS {
            let of_tag = values.entry(tag).or_default();
            of_tag.insert(word, allowed.iter().copied().collect());
        }
        attributes.entry(tag).or_default().extend(mathml::LENGTHS);
        classes.entry(tag).or_default().extend(mathml::CLASSES);
    }
    cleaner
        .tags(tags)
        .tag_attributes(attributes)
        .tag_attribute_values(values)
        .allowed_classes(classes)
        .clean_content_tags(HashSet::from(["script", "style"]))
        .attribute_filter(filter);
    cleaner
});

/// Keeps a number or a length only where it is one.
fn filter<'value>(element: &str, attribute: &str, value: &'value str) -> Option<Cow<'value, str>> {
    let is_fine = if NUMBERED.contains(&(element, attribute)) {
        value.len() <= 9 && value.bytes().all(|byte| byte.is_ascii_digit())
    } else if mathml::LENGTHS.contains(&attribute) {
        mathml::is_length(value)
    } else {
        true
    };
    is_fine.then_some(Cow::Borrowed(value))
}

/// The allowed part of some HTML.
pub(super) fn clean(html: &str) -> String {
    CLEANER.clean(html).to_string()
}
