//! Text as HTML, with its invisible characters made visible.
//!
//! A text may turn the reading direction around (Unicode Technical Report 36, section 2.4; the "Trojan
//! Source" trick, CVE-2021-42574), hide words between letters, or carry a message in characters that no
//! screen shows. Such a character becomes a small mark with its code point, and loses its effect. What
//! writing needs stays: joiners inside emoji, Arabic and Indic words, variation selectors after emoji.

use std::fmt::Write;

/// Most marks of one text; later ones become U+FFFD, so that a text of nothing else stays small.
const MOST_MARKS: usize = 2_000;

/// Which view a text is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// Markdown, laid out: the marks of direction that good text needs (U+200E, U+200F, U+061C) stay, since
    /// they turn nothing around.
    Rendered,
    /// The text as it is: they are shown too.
    Raw,
}

/// Writes texts of one view into HTML.
#[derive(Debug)]
pub struct Marker {
    view: View,
    marks_left: usize,
}

impl Marker {
    /// For one text.
    pub fn new(view: View) -> Self {
        Self {
            view,
            marks_left: MOST_MARKS,
        }
    }

    /// Appends `text`, escaped: safe as an element's content, not within a tag.
    pub fn push(&mut self, text: &str, html: &mut String) {
        let bytes = text.as_bytes();
        let mut written = 0;
        let mut index = 0;
        while let Some(byte) = bytes.get(index) {
            let (replacement, length) = match byte {
                b'&' => ("&amp;", 1),
                b'<' => ("&lt;", 1),
                b'>' => ("&gt;", 1),
                b'\t' | b'\n' | b' '..=b'~' => {
                    index += 1;
                    continue;
                }
                // A line's end as Windows writes it.
                b'\r' if bytes.get(index + 1) == Some(&b'\n') => ("", 1),
                _ => {
                    let Some(char) = text[index..].chars().next() else {
                        break;
                    };
                    let Some(name) =
                        self.name(char, &text[..index], &text[index + char.len_utf8()..])
                    else {
                        index += char.len_utf8();
                        continue;
                    };
                    html.push_str(&text[written..index]);
                    let run = text[index..]
                        .chars()
                        .take_while(|next| *next == char)
                        .count();
                    self.push_mark(char, name, run, html);
                    index += run * char.len_utf8();
                    written = index;
                    continue;
                }
            };
            html.push_str(&text[written..index]);
            html.push_str(replacement);
            index += length;
            written = index;
        }
        html.push_str(&text[written..]);
    }

    /// Whether a text has no character that would become a mark.
    pub fn is_plain(&self, text: &str) -> bool {
        text.bytes().all(|byte| matches!(byte, b'\n' | b' '..=b'~'))
            || text.char_indices().all(|(index, char)| {
                matches!(char, '\t' | '\n' | '\r')
                    || self
                        .name(char, &text[..index], &text[index + char.len_utf8()..])
                        .is_none()
            })
    }

    fn push_mark(&mut self, char: char, name: &str, run: usize, html: &mut String) {
        if self.marks_left == 0 {
            html.push('\u{FFFD}');
            return;
        }
        self.marks_left -= 1;
        let code = u32::from(char);
        // Writing to a String cannot fail.
        let _ = write!(html, "<span class=\"mark\" title=\"{name}\">U+{code:04X}");
        if run > 1 {
            let _ = write!(html, " ×{run}");
        }
        html.push_str("</span>");
    }

    /// What a character is called that must not stay as it is.
    fn name(&self, char: char, before: &str, after: &str) -> Option<&'static str> {
        let name = match char {
            '\0'..='\u{8}' | '\u{B}'..='\u{1F}' | '\u{7F}'..='\u{9F}' => "CONTROL CHARACTER",
            // Most texts have nothing beyond these but letters.
            '\u{A0}'..='\u{AC}' | '\u{AE}'..='\u{34E}' => return None,
            '\u{AD}' => "SOFT HYPHEN",
            '\u{34F}' => "COMBINING GRAPHEME JOINER",
            '\u{200E}' | '\u{200F}' | '\u{61C}' if self.view == View::Rendered => return None,
            '\u{200E}' => "LEFT-TO-RIGHT MARK",
            '\u{200F}' => "RIGHT-TO-LEFT MARK",
            '\u{61C}' => "ARABIC LETTER MARK",
            '\u{115F}' | '\u{1160}' | '\u{3164}' | '\u{FFA0}' => "HANGUL FILLER",
            '\u{17B4}' | '\u{17B5}' => "KHMER INHERENT VOWEL",
            '\u{180B}'..='\u{180F}' => "MONGOLIAN SEPARATOR",
            '\u{200B}' => "ZERO WIDTH SPACE",
            '\u{200C}' | '\u{200D}' if joins(before, after) => return None,
            '\u{200C}' => "ZERO WIDTH NON-JOINER",
            '\u{200D}' => "ZERO WIDTH JOINER",
            '\u{2028}' => "LINE SEPARATOR",
            '\u{2029}' => "PARAGRAPH SEPARATOR",
            '\u{202A}' => "LEFT-TO-RIGHT EMBEDDING",
            '\u{202B}' => "RIGHT-TO-LEFT EMBEDDING",
            '\u{202C}' => "POP DIRECTIONAL FORMATTING",
            '\u{202D}' => "LEFT-TO-RIGHT OVERRIDE",
            '\u{202E}' => "RIGHT-TO-LEFT OVERRIDE",
            '\u{2060}' => "WORD JOINER",
            '\u{2061}'..='\u{2064}' => "INVISIBLE OPERATOR",
            '\u{2066}' => "LEFT-TO-RIGHT ISOLATE",
            '\u{2067}' => "RIGHT-TO-LEFT ISOLATE",
            '\u{2068}' => "FIRST STRONG ISOLATE",
            '\u{2069}' => "POP DIRECTIONAL ISOLATE",
            '\u{2065}' | '\u{206A}'..='\u{206F}' => "DEPRECATED FORMATTING CHARACTER",
            '\u{FE00}'..='\u{FE0F}' if is_varied(before) => return None,
            '\u{FE00}'..='\u{FE0F}' | '\u{E0100}'..='\u{E01EF}' => "VARIATION SELECTOR",
            '\u{FEFF}' => "ZERO WIDTH NO-BREAK SPACE",
            '\u{FFF0}'..='\u{FFFB}' => "INTERLINEAR ANNOTATION",
            '\u{FDD0}'..='\u{FDEF}' | '\u{FFFE}' | '\u{FFFF}' => "NONCHARACTER",
            '\u{1BCA0}'..='\u{1BCA3}' => "SHORTHAND FORMAT CONTROL",
            '\u{1D173}'..='\u{1D17A}' => "MUSICAL FORMAT CONTROL",
            '\u{E0000}'..='\u{E0FFF}' => "TAG CHARACTER",
            _ => return None,
        };
        Some(name)
    }
}

/// Whether a joiner stands where writing needs one: inside an emoji, or a word of a script whose letters
/// join (Arabic, Syriac, Mongolian and the Indic ones).
fn joins(before: &str, after: &str) -> bool {
    let (Some(left), Some(right)) = (before.chars().next_back(), after.chars().next()) else {
        return false;
    };
    let is_joining = |char: char| {
        matches!(char, '\u{600}'..='\u{8FF}' | '\u{900}'..='\u{DFF}' | '\u{E80}'..='\u{109F}'
            | '\u{1780}'..='\u{18AF}' | '\u{FB50}'..='\u{FDCF}' | '\u{FE70}'..='\u{FEFC}')
    };
    let is_emoji = |char: char| matches!(char, '\u{2190}'..='\u{2BFF}' | '\u{FE0F}' | '\u{1F000}'..='\u{1FAFF}');
    (is_joining(left) && is_joining(right)) || (is_emoji(left) && is_emoji(right))
}

/// Whether a variation selector follows what has variants: an emoji, a keycap's digit, a symbol.
fn is_varied(before: &str) -> bool {
    matches!(
        before.chars().next_back(),
        Some(
            '#'
            | '*'
            | '0'..='9'
            | '©'
            | '®'
            | '\u{203C}'..='\u{3299}'
            | '\u{4E00}'..='\u{9FFF}'
            | '\u{1F000}'..='\u{1FAFF}',
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html(text: &str, view: View) -> String {
        let mut html = String::new();
        Marker::new(view).push(text, &mut html);
        html
    }

    #[test]
    fn a_text_without_odd_characters_is_only_escaped() {
        let text = "a < b & \"c\"\n\tд 中文 ‏שלום é 👍🏽";
        let expected = text.replace('&', "&amp;").replace('<', "&lt;");
        assert_eq!(html(text, View::Rendered), expected);
    }

    #[test]
    fn what_turns_the_reading_direction_around_becomes_a_mark_in_both_views() {
        for view in [View::Rendered, View::Raw] {
            let said = html("user\u{202E}nimda\u{2066}x\u{2069}", view);
            assert_eq!(
                said,
                "user<span class=\"mark\" title=\"RIGHT-TO-LEFT OVERRIDE\">U+202E</span>nimda\
                 <span class=\"mark\" title=\"LEFT-TO-RIGHT ISOLATE\">U+2066</span>x\
                 <span class=\"mark\" title=\"POP DIRECTIONAL ISOLATE\">U+2069</span>"
            );
        }
        assert!(html("\u{200F}", View::Raw).contains("U+200F"));
        assert_eq!(html("\u{200F}", View::Rendered), "\u{200F}");
    }

    #[test]
    fn joiners_stay_where_writing_needs_them_and_are_shown_elsewhere() {
        for good in [
            "👨\u{200D}👩\u{200D}👧",
            "می\u{200C}خواهم",
            "क\u{94D}\u{200D}ष",
            "❤\u{FE0F}",
            "1\u{FE0F}\u{20E3}",
        ] {
            assert_eq!(html(good, View::Raw), good);
        }
        for bad in [
            "pass\u{200D}word",
            "a\u{200C}b",
            "\u{200D}",
            "x\u{FE01}",
            "x\u{E0041}",
        ] {
            assert!(
                html(bad, View::Rendered).contains("class=\"mark\""),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn a_run_is_one_mark_and_a_text_of_nothing_else_stays_small() {
        let run = html(&"\u{200B}".repeat(7), View::Raw);
        assert!(run.ends_with("U+200B ×7</span>"), "{run}");
        let many = html(&"\u{200B}\u{2060}".repeat(150_000), View::Raw);
        assert!(many.len() < 1_100_000, "{}", many.len());
    }

    #[test]
    fn a_carriage_return_shows_only_where_it_ends_no_line() {
        assert_eq!(html("a\r\nb", View::Raw), "a\nb");
        assert!(html("a\rb", View::Raw).contains("U+000D"));
    }
}
