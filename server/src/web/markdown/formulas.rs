//! Finding formulas: `$...$`, `$$...$$`, `\(...\)` and `\[...\]`.
//!
//! They are taken out before Markdown is read, since its rules would eat backslashes and take `_`, `*` and
//! `+` for signs of its own, and put back where Markdown left their placeholders. Where a placeholder ends
//! up in code, the source comes back, so finding code here need not be exact.
//!
//! A lone `$` is as often money as mathematics. Between two of them stands a formula only if it looks like one:
//! see [`is_formula`].

use std::borrow::Cow;

use super::mathml::{self, LONGEST};

/// What stands around a placeholder's number. Both are noncharacters, which no text needs; a text that has them
/// all the same has no formulas.
pub(super) const OPEN: char = '\u{FDD0}';
/// See [`OPEN`].
pub(super) const CLOSE: char = '\u{FDD1}';

/// Most bytes of formulas that one text has laid out; later ones are shown as they are written.
const MOST_LATEX: usize = 32_000;

/// Most bytes of MathML of one text.
const MOST_MATHML: usize = 600_000;

/// A formula longer than this gets a line of its own that scrolls, since MathML does not wrap.
const LONGEST_INLINE: usize = 60;

/// A formula of a text.
#[derive(Debug)]
pub(super) struct Formula<'text> {
    /// As it is written, with its signs around.
    pub(super) source: &'text str,
    /// As HTML; none where it is to be shown as it is written.
    pub(super) mathml: Option<String>,
    /// Whether it stands on a line of its own.
    pub(super) is_block: bool,
}

/// A text whose formulas are placeholders.
#[derive(Debug)]
pub(super) struct Protected<'text> {
    pub(super) text: Cow<'text, str>,
    pub(super) formulas: Vec<Formula<'text>>,
}

/// Takes the formulas out of a text.
pub(super) fn protect(text: &str) -> Protected<'_> {
    let mut formulas = Vec::new();
    if !text.contains(['$', '\\']) || text.contains([OPEN, CLOSE]) {
        let text = Cow::Borrowed(text);
        return Protected { text, formulas };
    }
    let mut protected = String::with_capacity(text.len());
    let mut written = 0;
    let mut latex_left = MOST_LATEX;
    let mut mathml_left = MOST_MATHML;
    let mut scanner = Scanner::new(text);
    while let Some(found) = scanner.next_candidate() {
        let source = &text[found.start..found.end];
        let latex = &text[found.start + found.width..found.end - found.width];
        let latex = without_prefixes(latex, scanner.quote_depth);
        let mathml = match latex.len() <= latex_left {
            true => mathml::render(&latex, found.is_display),
            false => None,
        };
        let mathml = mathml.filter(|mathml| mathml.len() <= mathml_left);
        // A lone `$` that is not TeX is left to Markdown, as if it had never been looked at.
        if mathml.is_none() && found.width == 1 && !latex.contains('\\') {
            scanner.index = found.start + 1;
            continue;
        }
        latex_left = latex_left.saturating_sub(latex.len());
        mathml_left -= mathml.as_ref().map_or(0, String::len);
        protected.push_str(&text[written..found.start]);
        protected.push_str(&format!("{OPEN}{}{CLOSE}", formulas.len()));
        written = found.end;
        scanner.index = found.end;
        formulas.push(Formula {
            source,
            mathml,
            is_block: found.is_display || latex.len() > LONGEST_INLINE,
        });
    }
    protected.push_str(&text[written..]);
    let text = Cow::Owned(protected);
    Protected { text, formulas }
}

/// The lines of a formula without the signs of the quote and the indentation of the list around it.
fn without_prefixes(latex: &str, quote_depth: usize) -> Cow<'_, str> {
    if quote_depth == 0 || !latex.contains('\n') {
        return Cow::Borrowed(latex);
    }
    let strip = |line: &str| {
        let mut line = line.trim_start().to_owned();
        for _ in 0..quote_depth {
            line = line
                .strip_prefix('>')
                .unwrap_or(&line)
                .trim_start()
                .to_owned();
        }
        line
    };
    Cow::Owned(latex.lines().map(strip).collect::<Vec<_>>().join("\n"))
}

/// Where a formula may be: `width` bytes of signs at either end.
struct Candidate {
    start: usize,
    end: usize,
    width: usize,
    is_display: bool,
}

/// Walks over a text once. Every search ahead is remembered, so that no text makes it quadratic.
struct Scanner<'text> {
    text: &'text str,
    index: usize,
    /// End of the paragraph last looked at.
    paragraph_end: usize,
    /// How many `>` stand before the current line.
    quote_depth: usize,
    /// The sign and length of the fence of the code block that the index is in.
    fence: Option<(u8, usize)>,
    /// Where the next `\)`, `\]` and `$$` stand, as (searched from, found).
    closers: [(usize, Option<usize>); 3],
    /// For a run of so many backticks: up to where there is none.
    no_backticks: [usize; 32],
}

const CLOSERS: [&str; 3] = ["\\)", "\\]", "$$"];

impl<'text> Scanner<'text> {
    fn new(text: &'text str) -> Self {
        let mut scanner = Self {
            text,
            index: 0,
            paragraph_end: 0,
            quote_depth: 0,
            fence: None,
            closers: [(usize::MAX, None); 3],
            no_backticks: [0; 32],
        };
        scanner.start_line();
        scanner
    }

    /// The next place that has the signs of a formula around it and looks like one.
    fn next_candidate(&mut self) -> Option<Candidate> {
        let bytes = self.text.as_bytes();
        while let Some(byte) = bytes.get(self.index) {
            match byte {
                b'\n' => {
                    self.index += 1;
                    self.start_line();
                }
                b'`' => self.skip_code(),
                b'\\' => {
                    let closer = match bytes.get(self.index + 1) {
                        Some(b'(') => 0,
                        Some(b'[') => 1,
                        Some(b'\n') | None => {
                            self.index += 1;
                            continue;
                        }
                        _ => {
                            self.index += 2;
                            continue;
                        }
                    };
                    match self.delimited(closer) {
                        Some(found) => return Some(found),
                        None => self.index += 2,
                    }
                }
                b'$' => match self.run_of(b'$') {
                    1 => match self.between_dollars() {
                        Some(found) => return Some(found),
                        None => self.index += 1,
                    },
                    2 => match self.delimited(2) {
                        Some(found) => return Some(found),
                        None => self.index += 2,
                    },
                    run => self.index += run,
                },
                _ => self.index += 1,
            }
        }
        None
    }

    /// How often a byte stands here in a row.
    fn run_of(&self, byte: u8) -> usize {
        let rest = &self.text.as_bytes()[self.index..];
        rest.iter().take_while(|next| **next == byte).count()
    }

    /// Reads what stands before a line's text. Lines of a fenced code block are skipped.
    fn start_line(&mut self) {
        loop {
            let line = &self.text[self.index..];
            let line = &line[..line.find('\n').unwrap_or(line.len())];
            let text = line.trim_start_matches([' ', '\t', '>']);
            self.quote_depth = line[..line.len() - text.len()].matches('>').count();
            // A fence may be the first thing of a list's item.
            let text = text.trim_start_matches(['-', '*', '+', ' ']);
            let sign = text
                .bytes()
                .next()
                .filter(|sign| matches!(sign, b'`' | b'~'));
            let run = sign.map_or(0, |sign| {
                text.bytes().take_while(|next| *next == sign).count()
            });
            let is_bare = text[run..].trim().is_empty();
            self.fence = match (self.fence, sign) {
                (Some((open, length)), Some(sign)) if sign == open && run >= length && is_bare => {
                    None
                }
                (None, Some(sign)) if run >= 3 && !(sign == b'`' && text[run..].contains('`')) => {
                    Some((sign, run))
                }
                (fence, _) if fence.is_some() => fence,
                _ => return,
            };
            self.index += line.len();
            if self.index >= self.text.len() {
                return;
            }
            self.index += 1;
        }
    }

    /// Where the paragraph ends that the index is in: at a line of nothing but spaces and `>`.
    fn end_of_paragraph(&mut self) -> usize {
        if self.paragraph_end > self.index {
            return self.paragraph_end;
        }
        let mut end = self.index;
        for line in self.text[self.index..].split_inclusive('\n') {
            if end > self.index && line.trim_matches([' ', '\t', '>', '\r', '\n']).is_empty() {
                break;
            }
            end += line.len();
        }
        self.paragraph_end = end;
        end
    }

    /// Skips a run of backticks, and the code up to the next run of that length.
    fn skip_code(&mut self) {
        let run = self.run_of(b'`');
        let start = self.index + run;
        let end = self.end_of_paragraph();
        self.index = start;
        if self
            .no_backticks
            .get(run)
            .is_none_or(|none_until| *none_until >= end)
        {
            return;
        }
        let bytes = self.text.as_bytes();
        let mut index = start;
        while index < end {
            let length = bytes[index..end]
                .iter()
                .take_while(|byte| **byte == b'`')
                .count();
            if length == run {
                self.index = index + run;
                return;
            }
            index += length.max(1);
        }
        self.no_backticks[run] = end;
    }

    /// A formula from here to the next of [`CLOSERS`], within the paragraph.
    fn delimited(&mut self, closer: usize) -> Option<Candidate> {
        let from = self.index + 2;
        let end = self.end_of_paragraph();
        let close = self
            .find_closer(closer, from)
            .filter(|close| *close < end)?;
        let is_short = close - from <= LONGEST && !self.text[from..close].trim().is_empty();
        is_short.then_some(Candidate {
            start: self.index,
            end: close + 2,
            width: 2,
            is_display: closer != 0,
        })
    }

    fn find_closer(&mut self, closer: usize, from: usize) -> Option<usize> {
        let (searched, found) = self.closers[closer];
        if searched <= from && found.is_none_or(|found| found >= from) {
            return found;
        }
        let bytes = self.text.as_bytes();
        let sign = CLOSERS[closer].as_bytes();
        let mut index = from;
        let mut next = None;
        while index + 1 < bytes.len() {
            if bytes[index..].starts_with(sign) {
                next = Some(index);
                break;
            }
            index += if bytes[index] == b'\\' { 2 } else { 1 };
        }
        self.closers[closer] = (from, next);
        next
    }

    /// A formula from here to the next `$`, if what stands between looks like one.
    fn between_dollars(&mut self) -> Option<Candidate> {
        let bytes = self.text.as_bytes();
        let start = self.index;
        let end = self.end_of_paragraph().min(start + 1 + LONGEST);
        let mut close = start + 1;
        while close < end && bytes[close] != b'$' {
            close += if bytes[close] == b'\\' { 2 } else { 1 };
        }
        if close >= end {
            return None;
        }
        let before = self.text[..start].chars().next_back();
        let after = self.text[close + 1..].chars().next();
        is_formula(before, &self.text[start + 1..close], after).then_some(Candidate {
            start,
            end: close + 1,
            width: 1,
            is_display: false,
        })
    }
}

/// Whether what stands between two `$` is a formula rather than text between two sums of money or the names of two
/// variables. It begins and ends without a space (as Pandoc has it), no digit follows, and it is
/// either TeX by its signs, or short enough in words: `$5 and 10$` is not, `$n + 1$` is.
fn is_formula(before: Option<char>, inner: &str, after: Option<char>) -> bool {
    let is_word = |char: Option<char>| char.is_some_and(|char| char.is_ascii_alphanumeric());
    let is_digit = |char: Option<char>| char.is_some_and(|char| char.is_ascii_digit());
    let edges = inner
        .chars()
        .next()
        .into_iter()
        .chain(inner.chars().next_back());
    if inner.is_empty()
        || edges.into_iter().any(char::is_whitespace)
        || inner.contains('`')
        || is_word(before)
        || is_digit(after)
        || after == Some('$')
    {
        return false;
    }
    if inner.contains(['\\', '^', '{']) {
        return true;
    }
    let starts_with_digit = inner.starts_with(|char: char| char.is_ascii_digit());
    let words = inner.split(|char: char| !char.is_alphabetic());
    let n_words = words.filter(|word| word.chars().count() > 1).count();
    let has_operator = inner.contains(['=', '<', '>', '+', '_', '|']);
    match (starts_with_digit, n_words) {
        (true, 0) | (false, 0) => true,
        // `$5 and 10$` and the shell's `$HOME$PATH`.
        (true, _) => false,
        (false, 1) => !is_word(after),
        (false, _) => has_operator && !is_word(after),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sources of the formulas that were laid out.
    fn laid_out(text: &str) -> Vec<&str> {
        let found = protect(text).formulas;
        let laid_out = found.into_iter().filter(|formula| formula.mathml.is_some());
        laid_out.map(|formula| formula.source).collect()
    }

    #[test]
    fn all_four_ways_to_write_a_formula_are_found() {
        let text = r"$x^2$, $$y$$, \(a_1 + b_2\) and
\[
  z = 1
\]
end";
        let display = "\\[\n  z = 1\n\\]";
        assert_eq!(
            laid_out(text),
            ["$x^2$", "$$y$$", r"\(a_1 + b_2\)", display]
        );
        let protected = protect("a $x$ b");
        assert_eq!(protected.text, format!("a {OPEN}0{CLOSE} b"));
        for text in [
            "$n$-th",
            "the $n$th",
            "其中$x$是",
            "($x$)",
            "$5$",
            "$n + 1$",
            "$x = y$",
            "$P(A|B)$",
            "$2n$",
            "**$x$**",
        ] {
            assert_eq!(laid_out(text).len(), 1, "{text}");
        }
    }

    #[test]
    fn money_and_variables_are_no_formulas() {
        for text in [
            "It costs $5 and $10.",
            "$5, or 3$ less",
            "$5-$10",
            "($5) or ($6)",
            "US$5 and US$6",
            "$5/month or $7/month",
            "**$5** and **$ten**",
            "$1,000 to $2,000",
            "about $5 and 10$ more",
            "echo $HOME$PATH",
            "$PATH:$HOME",
            "$ 5 $",
            "a$b$c",
            "$this is no formula$",
            r"\$5 and \$6",
            "$$$ cheap $$$",
            "$5 `a$`",
            "$x\n\ny$",
        ] {
            assert_eq!(laid_out(text), Vec::<&str>::new(), "{text}");
        }
    }

    #[test]
    fn code_is_left_alone() {
        for text in [
            "`$x$`",
            "``a ` $x$``",
            "```\n$x$\n```",
            "- ```sh\n  echo $a $b$\n  ```",
            "> ~~~\n> \\(x\\)\n> ~~~",
            "````\n```\n$x$\n````",
        ] {
            assert!(protect(text).formulas.is_empty(), "{text}");
        }
        assert_eq!(laid_out("```\n$x$\n```\n$y$"), ["$y$"]);
        assert_eq!(laid_out("a ` $y$"), ["$y$"]);
    }

    #[test]
    fn a_formula_in_a_quote_loses_the_signs_of_the_quote() {
        let found = protect("> $$\n> x > y\n> $$").formulas;
        let mathml = found[0].mathml.as_deref().unwrap_or_default();
        assert_eq!(mathml.matches("&gt;").count(), 1, "{mathml}");
    }

    #[test]
    fn what_cannot_be_read_is_kept_as_it_is_written() {
        let found = protect(r"\[ \unknown{x} \] and $\foo$ and $a & b$").formulas;
        let sources: Vec<&str> = found.iter().map(|formula| formula.source).collect();
        assert_eq!(sources, [r"\[ \unknown{x} \]", r"$\foo$"]);
        assert!(found.iter().all(|formula| formula.mathml.is_none()));
    }

    #[test]
    fn formulas_beyond_the_bound_are_not_laid_out() {
        let text = format!("${}$ ", "x+".repeat(900) + "x").repeat(40);
        let n = laid_out(&text).len();
        assert!((5..30).contains(&n), "{n}");
    }
}
