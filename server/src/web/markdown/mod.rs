//! Prompts and completions are hostile input: Markdown is laid out here, on the server, as HTML that can
//! do nothing. No element loads, leads away, asks, or bears a name; what a text tries of that is shown as
//! text, so that a labeler sees what the model wrote.
//!
//! 1. `formulas` takes the mathematics out, and `mathml` lays it out.
//! 2. `comrak` reads the Markdown.
//! 3. `html` writes it: a writer of its own, with `marks` for invisible characters and `code` for colours.
//! 4. `clean` parses that as a browser would and keeps what is on its lists: the second wall.
//!
//! Everything is bounded: a text that is too long, or makes too many elements, is not laid out but shown as
//! it is written. Measured on one core: 2 kB of prose, code, a table and formulas take 0.1 ms; the worst of
//! eighty hostile texts of 128 kB 35 ms; a megabyte, which is never laid out, at most 6 ms. So nothing is kept
//! between pages: the ten texts of a task take a millisecond.

mod clean;
mod code;
mod formulas;
mod html;
mod languages;
pub mod marks;
mod mathml;

use std::cell::Cell;
use std::sync::LazyLock;

use comrak::{Arena, Options, try_parse_document};

use marks::{Marker, View};

/// Longest text that is laid out, in bytes: four times what a large context of a model can answer is
/// shown as it is written.
pub const LONGEST: usize = 128 * 1024;

/// Most steps of the Markdown parser (each some dozens of nodes), for a text's length in bytes. A real text
/// of the longest length takes 200 and a list of single letters 3,500; five kilobytes that draw a table of
/// half a million empty cells take 11,000.
fn most_steps(length: usize) -> usize {
    (50 + length / 40).min(1_500)
}

/// Most escaped characters: each costs the second wall a microsecond.
const MOST_ESCAPES: usize = 30_000;

/// A text, laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// Safe to put into a page.
    pub html: String,
    /// Whether every letter and digit of the text is in it. Markdown itself hides some things: what a
    /// link's definition says, a table's surplus cells.
    pub shows_all: bool,
}

static OPTIONS: LazyLock<Options<'static>> = LazyLock::new(|| {
    let mut options = Options::default();
    options.extension.table = true;
    options.extension.strikethrough = true;
    options.extension.autolink = true;
    options.extension.tasklist = true;
    options.extension.footnotes = true;
    // Chinese and Japanese have no spaces around what is emphasised.
    options.extension.cjk_friendly_emphasis = true;
    // A note that nothing refers to must be seen too.
    options.parse.leave_footnote_definitions = true;
    options
});

/// Lays a text out; none when it is too much for that, and must be shown as it is written.
pub fn render(markdown: &str) -> Option<Rendered> {
    if markdown.len() > LONGEST {
        return None;
    }
    let protected = formulas::protect(markdown);
    let arena = Arena::new();
    let most_steps = most_steps(markdown.len());
    let steps = Cell::new(0);
    let is_over = || {
        steps.set(steps.get() + 1);
        steps.get() > most_steps
    };
    let root = try_parse_document(&arena, &protected.text, &OPTIONS, &is_over).ok()?;
    let (html, n_written) = html::write(root, &protected.formulas, markdown.len()).ok()?;
    if html.bytes().filter(|byte| *byte == b'&').count() > MOST_ESCAPES {
        return None;
    }
    Some(Rendered {
        html: clean::clean(&html),
        shows_all: n_written + letters_of_entities(markdown) >= html::count(markdown),
    })
}

/// How many letters and digits stand in what may be the name of a character, such as `&copy;`.
fn letters_of_entities(text: &str) -> usize {
    let mut letters = 0;
    for part in text.split('&').skip(1) {
        let is_name = |char: char| char.is_ascii_alphanumeric() || char == '#';
        let name = part.split(|char| !is_name(char)).next().unwrap_or_default();
        if name.len() <= 32 && part[name.len()..].starts_with(';') {
            letters += html::count(name);
        }
    }
    letters
}

/// Markdown as clean HTML; as it is written where it is too much to lay out.
pub fn to_html(markdown: &str) -> String {
    match render(markdown) {
        Some(rendered) => rendered.html,
        None => format!("<pre dir=\"auto\">{}</pre>", escape(markdown, View::Raw)),
    }
}

/// A text as it is written, with its invisible characters marked: safe as an element's content.
pub fn escape(text: &str, view: View) -> String {
    let mut html = String::with_capacity(text.len() + text.len() / 8);
    Marker::new(view).push(text, &mut html);
    html
}

#[cfg(test)]
mod tests;
