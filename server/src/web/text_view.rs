//! The component for texts that models and strangers wrote: prompts, turns of conversations,
//! completions. `templates/fragments/text.html` shows it; every page that shows such a text uses both.

use serde_json::Value;

use crate::i18n::find;
use crate::web::markdown::marks::{Marker, View};
use crate::web::markdown::{self, LONGEST, Rendered, escape};
use crate::web::page::Page;

/// From so many bytes on a text shows its beginning first, and says so: some ten screens.
const LONG: usize = 16 * 1024;

/// The same for lines.
const MANY_LINES: usize = 400;

/// Longest piece of a long text, in bytes.
const PIECE: usize = 4 * 1024;

/// A text as shown: laid out, and as it is.
#[derive(Debug, Clone)]
pub struct TextView {
    /// Laid out; none where that would be too much, and the text is shown as it is only.
    pub html: Option<String>,
    /// As it is, as HTML, with a mark for each invisible character.
    pub raw: String,
    /// The tag of its language, where known.
    pub language: Option<String>,
    /// How long it is, in characters.
    pub n_chars: usize,
    /// Whether only its beginning is shown at first.
    pub is_long: bool,
    /// Whether the laid-out view has every letter of it.
    pub shows_all: bool,
}

impl TextView {
    /// A text, and its language where known.
    pub fn new(text: &str, language: Option<&str>) -> Self {
        Self::within(text, language, &mut { LONGEST })
    }

    /// The same, laid out only while `left` bytes suffice.
    fn within(text: &str, language: Option<&str>, left: &mut usize) -> Self {
        let rendered = match text.len() <= *left {
            true => markdown::render(text),
            false => None,
        };
        *left = left.saturating_sub(text.len());
        let (html, shows_all) = match rendered {
            Some(Rendered { html, shows_all }) => (Some(html), shows_all),
            None => (None, true),
        };
        Self {
            html,
            raw: raw_html(text),
            language: language.filter(|tag| is_tag(tag)).map(str::to_owned),
            n_chars: text.chars().count(),
            is_long: text.len() > LONG || text.lines().nth(MANY_LINES).is_some(),
            shows_all,
        }
    }
}

/// A text as it is. A long one comes in pieces, of which a browser lays out only those in sight: a line of a
/// megabyte takes it half a second otherwise. A line that is longer than a piece breaks there.
fn raw_html(text: &str) -> String {
    if text.len() <= LONG {
        return escape(text, View::Raw);
    }
    let mut html = String::with_capacity(text.len() + text.len() / 8);
    let mut marker = Marker::new(View::Raw);
    let mut rest = text;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(end_of_piece(rest));
        html.push_str("<span class=\"piece\">");
        marker.push(piece, &mut html);
        html.push_str("</span>");
        rest = after;
    }
    html
}

/// Where the first piece of a text ends: after a line, else after a word, else anywhere.
fn end_of_piece(text: &str) -> usize {
    if text.len() <= PIECE {
        return text.len();
    }
    let head = &text[..text.floor_char_boundary(PIECE)];
    let end = head
        .rfind('\n')
        .or_else(|| head.rfind(' '))
        .map(|index| index + 1);
    end.unwrap_or(head.len())
}

/// Whether a text may stand in `lang`: letters and digits with hyphens between, as RFC 5646 has them.
fn is_tag(tag: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty() && part.len() <= 8 && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    tag.len() <= 35 && tag.split('-').all(is_part)
}

/// One turn of a conversation.
#[derive(Debug, Clone)]
pub struct Turn {
    /// Who speaks, as the file says it.
    role: String,
    /// What is said.
    pub text: TextView,
}

impl Turn {
    /// The speaker's kind, for the turn's class: one of four words, since a file may call a role anything.
    pub fn kind(&self) -> &'static str {
        match self.role.as_str() {
            "user" => "user",
            "assistant" => "assistant",
            "system" => "system",
            _ => "other",
        }
    }

    /// Who speaks, in the reader's language, as HTML.
    pub fn speaker(&self, page: &Page) -> String {
        match self.kind() {
            "other" => format!("<bdi>{}</bdi>", escape(&self.role, View::Raw)),
            kind => find(page.lang, &format!("text-role-{kind}")).unwrap_or_default(),
        }
    }
}

/// A prompt: a text, or the turns of a conversation.
#[derive(Debug, Clone, Default)]
pub struct Conversation {
    /// Its turns, in order.
    pub turns: Vec<Turn>,
}

impl Conversation {
    /// A prompt as files and tables hold it: a string, or an array of objects with `role` and `content`.
    pub fn new(prompt: &Value, language: Option<&str>) -> Self {
        // Together they are bounded as one text is.
        let mut left = LONGEST;
        let mut turn = |role: &str, content: &Value| {
            let text = match content {
                Value::String(text) => TextView::within(text, language, &mut left),
                Value::Null => TextView::within("", language, &mut left),
                // Content in parts, or whatever else a file brought.
                other => TextView::within(&other.to_string(), language, &mut left),
            };
            Turn {
                role: role.to_owned(),
                text,
            }
        };
        let turns = match prompt {
            // The labeler writes it.
            Value::Null => Vec::new(),
            Value::Array(turns) => turns
                .iter()
                .map(|of| turn(of["role"].as_str().unwrap_or("user"), &of["content"]))
                .collect(),
            text => vec![turn("user", text)],
        };
        Self { turns }
    }

    /// Whether it says who speaks: not where a user alone does.
    pub fn has_speakers(&self) -> bool {
        self.turns.len() > 1 || self.turns.iter().any(|turn| turn.kind() != "user")
    }
}

impl Page {
    /// The beginning of a text, or a name, as HTML for a line of the page's own: its invisible characters are
    /// marked. Templates put `bdi` around, so that it keeps its direction to itself.
    pub fn marked(&self, text: &str) -> String {
        escape(text, View::Raw)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use askama::Template;
    use serde_json::json;

    use super::*;
    use crate::i18n::Lang;

    #[derive(Template)]
    #[template(
        source = r#"{% import "fragments/text.html" as texts %}{% call texts::conversation(page, conversation) %}{% endcall %}"#,
        ext = "html"
    )]
    struct Shown {
        page: Page,
        conversation: Conversation,
    }

    fn show(prompt: &Value, language: Option<&str>) -> String {
        let page = Page {
            lang: Lang::En,
            title: String::new(),
            visitor: None,
            path: "/".to_owned(),
            back: "/".to_owned(),
            theme: Default::default(),
            submitted: None,
        };
        let conversation = Conversation::new(prompt, language);
        Shown { page, conversation }.render().unwrap()
    }

    #[test]
    fn a_prompt_is_shown_laid_out_and_as_it_is() {
        let html = show(&json!("**a** <b>\u{202E}"), Some("ar-EG"));
        assert!(html.contains("class=\"turn turn-user\""), "{html}");
        assert!(
            html.contains("<div class=\"text\" lang=\"ar-EG\">"),
            "{html}"
        );
        assert!(html.contains("<strong>a</strong> &lt;b&gt;"), "{html}");
        assert!(
            html.contains("<pre class=\"raw\" dir=\"auto\">**a** &lt;b&gt;<span class=\"mark\""),
            "{html}"
        );
        assert!(
            !html.contains("class=\"muted\""),
            "nobody needs to be told who speaks alone: {html}"
        );
    }

    #[test]
    fn a_conversation_names_its_speakers_whatever_they_are_called() {
        let html = show(
            &json!([
                {"role": "system", "content": "a"},
                {"role": "user", "content": "b"},
                {"role": "assistant", "content": "c"},
                {"role": "x\" class=\"alert\u{202E}", "content": [{"type": "text", "text": "d"}]},
            ]),
            Some("\"><script>"),
        );
        for part in [
            "turn-system\"><p class=\"muted\">system</p>",
            "turn-user\"><p class=\"muted\">user</p>",
            "turn-assistant\"><p class=\"muted\">assistant</p>",
            "turn-other\"><p class=\"muted\"><bdi>x\" class=\"alert<span class=\"mark\"",
            "&quot;type&quot;",
        ] {
            assert!(
                html.contains(part) || html.contains(&part.replace("&quot;", "\"")),
                "{part} in {html}"
            );
        }
        assert!(
            !html.contains("lang=\"\"") && !html.contains("<script>"),
            "{html}"
        );
    }

    #[test]
    fn a_long_text_folds_and_says_so_and_too_long_a_one_is_shown_as_it_is() {
        let long = show(&json!("word ".repeat(4_000)), None);
        assert!(
            long.contains("<details class=\"long\"><summary>") && long.contains("20000 characters"),
            "{}",
            &long[..900]
        );
        assert!(long.contains("class=\"rendered\""));
        let huge = show(&json!("x".repeat(1_000_000)), None);
        assert!(!huge.contains("class=\"rendered\""));
        assert!(
            huge.len() < 1_020_000,
            "a text is not sent twice: {}",
            huge.len()
        );
    }

    #[test]
    fn a_long_text_comes_in_pieces_that_end_with_a_line_or_a_word_and_are_all_of_it() {
        for unit in ["a line\n", "word ", "x", "中"] {
            let text = unit.repeat(40_000 / unit.len());
            let html = raw_html(&text);
            let pieces: Vec<&str> = html
                .split("<span class=\"piece\">")
                .skip(1)
                .map(|piece| piece.strip_suffix("</span>").unwrap())
                .collect();
            assert_eq!(pieces.concat(), text);
            let (_, whole) = pieces.split_last().unwrap();
            let last = unit.chars().next_back();
            assert!(
                whole
                    .iter()
                    .all(|piece| piece.len() <= PIECE && piece.chars().next_back() == last)
            );
        }
    }

    #[test]
    fn many_turns_are_bounded_together() {
        let turn = json!({"role": "user", "content": "*a* ".repeat(5_000)});
        let html = show(&Value::Array(vec![turn; 40]), None);
        let n_laid_out = html.matches("class=\"rendered\"").count();
        assert!((3..10).contains(&n_laid_out), "{n_laid_out}");
    }

    #[test]
    fn what_markdown_hides_is_in_sight_below() {
        let html = show(&json!("a\n\n[//]: # (hidden)"), None);
        assert!(html.contains("<details open>"), "{html}");
    }

    #[test]
    fn a_language_is_a_tag_or_nothing() {
        assert!(is_tag("en") && is_tag("zh-Hant-TW"));
        for bad in ["", "-", "en_US", "en-", "a\"b", "verylongpart"] {
            assert!(!is_tag(bad), "{bad}");
        }
    }
}
