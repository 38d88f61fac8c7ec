//! Colours for code: words, strings, comments and numbers, by a table for each language.
//!
//! Written here because libraries cost more than the rest of the server: `syntect` takes 10 to 60 ms and 5 to 13 MB
//! for the first block of each language, 87 MB for twelve, and 3 ms for 1.5 kB; tree-sitter grammars are megabytes
//! of C each. A labeler reads short snippets, and needs to see at a glance where a string or comment ends.
//! This needs no memory, starts at once, and no text makes it slower than one walk over it.

use super::languages::{Kind, LANGUAGES, Language, Quote};

/// What a piece of code is; each has a class of its own in `app.css`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    Plain,
    Keyword,
    String,
    Comment,
    Number,
    /// What is named or called: a function, a key, an attribute, a variable with its sign.
    Name,
    Added,
    Removed,
}

impl Token {
    /// Its class; plain code has none.
    pub(super) fn class(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Keyword => Some("k"),
            Self::String => Some("s"),
            Self::Comment => Some("c"),
            Self::Number => Some("n"),
            Self::Name => Some("f"),
            Self::Added => Some("added"),
            Self::Removed => Some("removed"),
        }
    }
}

/// The language that a code block's first line names, such as `python` or `{.rust .numberLines}`.
pub(super) fn find_language(info: &str) -> Option<&'static Language> {
    let is_part =
        |char: char| char.is_ascii_alphanumeric() || matches!(char, '+' | '#' | '-' | '_');
    let name = info.trim_start_matches(['{', '.', ' ']);
    let name = name
        .split(|char| !is_part(char))
        .next()?
        .to_ascii_lowercase();
    let knows = |language: &&Language| language.names.contains(&name.as_str());
    LANGUAGES.iter().find(knows)
}

/// Splits code into pieces; together they are the code.
pub(super) fn tokens<'code>(language: &Language, code: &'code str) -> Vec<(Token, &'code str)> {
    let mut lexer = Lexer {
        language,
        code,
        index: 0,
        tokens: Vec::new(),
        plain_from: 0,
    };
    match language.kind {
        Kind::Code => lexer.read_code(),
        Kind::Markup => lexer.read_markup(),
        Kind::Diff => lexer.read_diff(),
    }
    lexer.push(Token::Plain, code.len());
    lexer.tokens
}

struct Lexer<'a, 'code> {
    language: &'a Language,
    code: &'code str,
    index: usize,
    tokens: Vec<(Token, &'code str)>,
    /// Where the piece began that nothing was said about yet.
    plain_from: usize,
}

impl Lexer<'_, '_> {
    /// Ends a piece at `end`; what stands between the last one and the index is plain.
    fn push(&mut self, token: Token, end: usize) {
        let start = if token == Token::Plain {
            end
        } else {
            self.index
        };
        if start > self.plain_from {
            let plain = &self.code[self.plain_from..start];
            self.tokens.push((Token::Plain, plain));
        }
        if end > start {
            self.tokens.push((token, &self.code[start..end]));
        }
        self.index = end;
        self.plain_from = end;
    }

    fn rest(&self) -> &str {
        &self.code[self.index..]
    }

    /// The end of the next `mark` from an index on, or of the code.
    fn end_of(&self, from: usize, mark: &str) -> usize {
        let rest = &self.code[from..];
        rest.find(mark)
            .map_or(self.code.len(), |at| from + at + mark.len())
    }

    fn end_of_line(&self) -> usize {
        self.index + self.rest().find('\n').unwrap_or(self.rest().len())
    }

    fn read_code(&mut self) {
        let mut is_line_start = true;
        while let Some(char) = self.rest().chars().next() {
            let was_space =
                self.code[..self.index].ends_with(char::is_whitespace) || self.index == 0;
            if char.is_whitespace() {
                is_line_start |= char == '\n';
                self.index += char.len_utf8();
                continue;
            }
            let starts_line = std::mem::take(&mut is_line_start);
            if let Some(end) = self.comment_end(was_space) {
                self.push(Token::Comment, end);
            } else if let Some(end) = self.string_end() {
                let token = match self.is_key(end) {
                    true => Token::Name,
                    false => Token::String,
                };
                self.push(token, end);
            } else if char.is_ascii_digit() {
                let end = self.index
                    + self.length_of(|char| char.is_alphanumeric() || matches!(char, '.' | '_'));
                self.push(Token::Number, end);
            } else if self.language.is_word(char) {
                self.read_word();
            } else if self.language.sigils.contains(char) {
                self.read_sigil(char);
            } else if starts_line && char == '[' && self.language.key_sign == Some('=') {
                // A section of a settings file.
                self.push(Token::Keyword, self.end_of_line());
            } else {
                self.index += char.len_utf8();
            }
        }
    }

    fn length_of(&self, is_part: impl Fn(char) -> bool) -> usize {
        let rest = self.rest();
        rest.find(|char| !is_part(char)).unwrap_or(rest.len())
    }

    /// Where the comment ends that begins here, if one does.
    fn comment_end(&self, is_after_space: bool) -> Option<usize> {
        let language = self.language;
        // The longer sign first: a comment of many lines may begin with that of one.
        let block = language
            .block_comments
            .iter()
            .find(|(open, _)| self.rest().starts_with(open));
        if let Some((open, close)) = block {
            return Some(self.end_of(self.index + open.len(), close));
        }
        let is_line = language
            .line_comments
            .iter()
            .any(|sign| self.rest().starts_with(sign));
        // In a shell `a#b` is a word, and in YAML too.
        let is_comment = is_line && (is_after_space || !language.comment_after_space);
        is_comment.then(|| self.end_of_line())
    }

    /// Where the string ends that begins here, if one does.
    fn string_end(&self) -> Option<usize> {
        let language = self.language;
        let quote = language
            .quotes
            .iter()
            .find(|quote| self.rest().starts_with(quote.open))?;
        let start = self.index + quote.open.len();
        if quote.is_char {
            return self.char_end(start);
        }
        Some(self.quote_end(quote, start))
    }

    fn quote_end(&self, quote: &Quote, start: usize) -> usize {
        let bytes = self.code.as_bytes();
        let close = quote.close.as_bytes();
        let mut index = start;
        while index < bytes.len() {
            match bytes[index] {
                b'\\' if quote.has_escapes => index += 1,
                b'\n' if !quote.is_multiline => return index,
                _ if bytes[index..].starts_with(close) => return index + close.len(),
                _ => {}
            }
            index += 1;
        }
        // An escape at the end of the code.
        self.code.len()
    }

    /// The end of `'x'` or `'\n'`; a quote that is none, as in `'a` of Rust or `10'000` of C++, is nothing.
    fn char_end(&self, start: usize) -> Option<usize> {
        let rest = &self.code[start..];
        let first = rest.chars().next()?;
        let end = match first {
            '\\' => 2 + rest.get(2..)?.find('\'')?,
            '\n' | '\'' => return None,
            first => first.len_utf8(),
        };
        (end <= 12 && rest[end..].starts_with('\'')).then(|| start + end + 1)
    }

    /// Whether a key ends there, as in `"key": 1` or `key = 1`.
    fn is_key(&self, end: usize) -> bool {
        let after = self.code[end..].trim_start_matches([' ', '\t']);
        let sign = self.language.key_sign;
        sign.is_some_and(|sign| after.starts_with(sign) && !after[1..].starts_with([':', '=', '/']))
    }

    fn read_word(&mut self) {
        let end = self.index
            + self.length_of(|char| self.language.is_word(char) || char.is_ascii_digit());
        let word = &self.code[self.index..end];
        let token = if self.language.is_keyword(word) {
            Token::Keyword
        } else if self.code[end..].starts_with('(') || self.is_key(end) {
            Token::Name
        } else {
            self.index = end;
            return;
        };
        self.push(token, end);
    }

    /// A word with its sign: `@decorator`, `$variable`, `#include`, `\command`.
    fn read_sigil(&mut self, sign: char) {
        let after = &self.rest()[sign.len_utf8()..];
        let is_part = |char: char| self.language.is_word(char) || char.is_ascii_digit();
        let length = after.find(|char| !is_part(char)).unwrap_or(after.len());
        if length == 0 {
            self.index += sign.len_utf8();
            return;
        }
        self.push(Token::Name, self.index + sign.len_utf8() + length);
    }

    /// HTML, XML and their like.
    fn read_markup(&mut self) {
        while let Some(at) = self.rest().find(['<', '&']) {
            self.index += at;
            let rest = self.rest();
            if rest.starts_with("<!--") {
                self.push(Token::Comment, self.end_of(self.index + 4, "-->"));
            } else if let Some(name) = rest.strip_prefix('&') {
                let is_name = |char: char| char.is_ascii_alphanumeric() || char == '#';
                let length = name.find(|char| !is_name(char)).unwrap_or(0);
                match length > 0 && name[length..].starts_with(';') {
                    true => self.push(Token::Number, self.index + length + 2),
                    false => self.index += 1,
                }
            } else if rest[1..].starts_with(|char: char| {
                char.is_ascii_alphabetic() || matches!(char, '/' | '!' | '?')
            }) {
                self.read_tag();
            } else {
                self.index += 1;
            }
        }
    }

    fn read_tag(&mut self) {
        let is_name =
            |char: char| !char.is_whitespace() && !matches!(char, '>' | '=' | '"' | '\'' | '/');
        let name = &self.rest()[1..];
        let sign = name.len() - name.trim_start_matches(['/', '!', '?']).len();
        let length = name[sign..]
            .find(|char| !is_name(char))
            .unwrap_or(name.len() - sign);
        self.push(Token::Keyword, self.index + 1 + sign + length);
        while let Some(char) = self.rest().chars().next() {
            match char {
                '>' => {
                    self.push(Token::Keyword, self.index + 1);
                    return;
                }
                '<' => return,
                '"' | '\'' => {
                    let mark = char.to_string();
                    self.push(Token::String, self.end_of(self.index + 1, &mark));
                }
                char if is_name(char) => {
                    self.push(Token::Name, self.index + self.length_of(is_name));
                }
                char => self.index += char.len_utf8(),
            }
        }
    }

    /// The changes of a patch, line by line.
    fn read_diff(&mut self) {
        while self.index < self.code.len() {
            let end = self.end_of_line();
            let token = match self.rest().as_bytes().first() {
                Some(b'+') => Token::Added,
                Some(b'-') => Token::Removed,
                Some(b'@') => Token::Comment,
                _ => Token::Plain,
            };
            if token == Token::Plain {
                self.index = end;
            } else {
                self.push(token, end);
            }
            self.index = (end + 1).min(self.code.len());
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    /// Each piece that is not plain, with its class.
    fn marked(info: &str, code: &str) -> Vec<String> {
        let language = find_language(info).unwrap();
        let tokens = tokens(language, code);
        let whole: String = tokens.iter().map(|(_, text)| *text).collect();
        assert_eq!(whole, code, "{info}");
        let marked = tokens
            .iter()
            .filter_map(|(token, text)| Some((token.class()?, text)));
        marked
            .map(|(class, text)| format!("{class}:{text}"))
            .collect()
    }

    #[test]
    fn each_kind_of_language_is_read() {
        for (info, code, expected) in [
            (
                "python",
                "def f(x): # hi\n  return '''a\nb''' + 1",
                "k:def f:f c:# hi k:return s:'''a\nb''' n:1",
            ),
            (
                "rust",
                "fn f(x: &'a str) -> char { '\\n' } // x",
                "k:fn f:f k:str k:char s:'\\n' c:// x",
            ),
            ("js", "const a = `x${1}`; /* c", "k:const s:`x${1}` c:/* c"),
            (
                "json",
                "{\"a\": \"b\", \"c\": [1, true]}",
                "f:\"a\" s:\"b\" f:\"c\" n:1 k:true",
            ),
            (
                "bash",
                "echo \"$HOME\" $x # c\na#b",
                "k:echo s:\"$HOME\" f:$x c:# c",
            ),
            ("SQL", "select 'it''s' -- c", "k:select s:'it' s:'s' c:-- c"),
            (
                "html",
                "<a href=\"x\">&amp;<!-- c --></a>",
                "k:<a f:href s:\"x\" k:> n:&amp; c:<!-- c --> k:</a k:>",
            ),
            ("diff", "@@ 1\n-a\n+b\n c", "c:@@ 1 removed:-a added:+b"),
            ("yaml", "a: b # c\nurl: http://x", "f:a c:# c f:url"),
            ("toml", "[a]\nb = 'c'", "k:[a] f:b s:'c'"),
            (
                "c",
                "#include <x.h>\nint main(void) { return 0x1F; }",
                "f:#include k:int f:main k:void k:return n:0x1F",
            ),
            ("latex", "\\frac{a}{b} % c", "f:\\frac c:% c"),
            ("{.python .numberLines}", "x", ""),
            ("C++ title=x", "class A;", "k:class"),
        ] {
            let marked = marked(info, code);
            assert_eq!(marked.join(" "), expected, "{info}");
        }
        assert!(find_language("").is_none());
        assert!(find_language("nonsense").is_none());
        assert!(find_language("\"><script>").is_none());
    }

    #[test]
    fn no_two_languages_share_a_name_and_all_read_any_text() {
        let names: Vec<&str> = LANGUAGES
            .iter()
            .flat_map(|language| language.names)
            .copied()
            .collect();
        let unique: std::collections::HashSet<&str> = names.iter().copied().collect();
        assert_eq!(unique.len(), names.len());
        for name in names {
            for code in [
                "",
                "'",
                "\"\\",
                "/*",
                "<",
                "</",
                "<a '",
                "&#",
                "é'ü'",
                "\\",
                "#",
                "中文 = '字'\n'\\é'",
                "1é",
                "$",
                "\n\n-",
            ] {
                marked(name, code);
            }
        }
    }
}
