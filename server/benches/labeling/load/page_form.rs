//! The form of a task's page, read from its HTML as a browser reads it: which fields there are, and
//! what may be chosen in each.

use rand::Rng;
use rand::seq::IndexedRandom;

/// The rank of a candidate that cannot be judged: these labelers judge all.
const CANNOT_JUDGE: &str = "cannot";

/// What a field may hold.
#[derive(Debug, PartialEq)]
enum Content {
    /// As the page has it.
    Fixed(String),
    /// One of the values of a group of radio buttons.
    OneOf(Vec<String>),
}

/// The fields of a form in the order of the page.
#[derive(Debug)]
pub(crate) struct PageForm {
    fields: Vec<(String, Content)>,
}

impl PageForm {
    /// Reads the form that the labeler submits; none when the page has no such form.
    pub(crate) fn read(html: &str) -> Option<Self> {
        let form = html.split("id=\"rank-form\"").nth(1)?;
        let form = form.split("</form>").next()?;
        let mut fields: Vec<(String, Content)> = Vec::new();
        for part in form.split('<').skip(1) {
            let tag = part.split('>').next().unwrap_or_default();
            let is_input = tag.starts_with("input");
            if !is_input && !tag.starts_with("textarea") {
                continue;
            }
            let Some(name) = attribute(tag, "name") else {
                continue;
            };
            let value = attribute(tag, "value").unwrap_or_default().to_owned();
            match attribute(tag, "type") {
                Some("radio") => (),
                // Sent only where it is ticked.
                Some("checkbox") => continue,
                _ => {
                    fields.push((name.to_owned(), Content::Fixed(value)));
                    continue;
                }
            }
            if value == CANNOT_JUDGE {
                continue;
            }
            match fields.iter_mut().find(|(known, _)| known == name) {
                Some((_, Content::OneOf(values))) => values.push(value),
                _ => fields.push((name.to_owned(), Content::OneOf(vec![value]))),
            }
        }
        Some(Self { fields })
    }

    /// The form filled in, for a press of the submit button, with an idempotency key of its own.
    pub(crate) fn fill_in(&self, key: &str, rng: &mut impl Rng) -> String {
        let mut body = String::with_capacity(4096);
        let mut is_first_rank = true;
        for (name, content) in &self.fields {
            let value = match content {
                Content::Fixed(_) if name == "idempotency_key" => key,
                Content::Fixed(value) => value,
                // Never first: the page asks once more about an order that was left as it is shown.
                Content::OneOf(values) if is_first_rank && name.starts_with("rank-") => {
                    is_first_rank = false;
                    let lower = values.get(1..).unwrap_or_default();
                    lower.choose(rng).map_or("", String::as_str)
                }
                Content::OneOf(values) => values.choose(rng).map_or("", String::as_str),
            };
            encode(name, &mut body);
            body.push('=');
            encode(value, &mut body);
            body.push('&');
        }
        body.push_str("action=submit");
        body
    }
}

/// The value of an attribute of a tag; our pages quote them all.
fn attribute<'t>(tag: &'t str, name: &str) -> Option<&'t str> {
    let rest = tag.split(&format!(" {name}=\"")).nth(1)?;
    rest.split('"').next()
}

/// Form encoding (URL Standard, 5.2).
fn encode(text: &str, into: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => {
                into.push(char::from(byte));
            }
            b' ' => into.push('+'),
            _ => into.push_str(&format!("%{byte:02X}")),
        }
    }
}
