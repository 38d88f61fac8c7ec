//! LaTeX as MathML Core, by the crate `math-core`.
//!
//! Of the three crates there are, `latex2mathml` has had no release for years and knows little;
//! `pulldown-latex` is as fast, but writes the names of operators without escaping them, knows neither
//! `\boxed` nor `\mbox` nor `\bm`, and expands macros that a text defines. `math-core` escapes, knows what KaTeX
//! knows but for rare commands, and has no macros but those that we give it. Releases after 0.7 need a newer
//! Rust than ours.
//!
//! What it writes is written anew here, tag by tag: only elements and attributes of MathML Core pass, its
//! inline styles become classes, and lengths are bounded. A formula that is too long, too deep or strange
//! has no MathML, and is shown as it is written.

use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;

use math_core::{LatexToMathML, MathCoreConfig, MathDisplay};

use super::marks::{Marker, View};

/// Longest formula, in bytes.
pub(super) const LONGEST: usize = 4_000;

/// Deepest nesting of groups.
const DEEPEST: usize = 40;

/// Most commands of a formula. Each may call the parser again for what follows it; with the groups that makes
/// less than half of a thread's stack (a test holds that).
const MOST_COMMANDS: usize = 400;

/// Largest length, in em: wider would push things out of sight.
const WIDEST: f64 = 4.0;

/// Commands that hide something or bring their own macros, and those that we use ourselves.
const REFUSED: [&str; 9] = [
    "phantom",
    "hphantom",
    "vphantom",
    "smash",
    "def",
    "newcommand",
    "renewcommand",
    "href",
    "eqref",
];

/// Other names for what `math-core` knows, as (what is written, what it becomes).
const ALIASES: [(&str, &str); 8] = [
    ("mbox", "text"),
    ("hbox", "text"),
    ("textnormal", "text"),
    ("pmb", "bm"),
    ("hdots", "dots"),
    ("tag", "plackettTag"),
    ("thinspace", ","),
    ("eqalign", "aligned"),
];

/// Environments without equation numbers, which would start anew in each formula.
const ENVIRONMENTS: [(&str, &str); 11] = [
    ("align", "aligned"),
    ("align*", "aligned"),
    ("split", "aligned"),
    ("eqnarray", "aligned"),
    ("eqnarray*", "aligned"),
    ("gather", "gathered"),
    ("gather*", "gathered"),
    ("multline", "gathered"),
    ("multline*", "gathered"),
    ("equation", "gathered"),
    ("equation*", "gathered"),
];

/// `\phantom` in a text is refused, so an `mphantom` of the output is a box.
static CONVERTER: LazyLock<Option<LatexToMathML>> = LazyLock::new(|| {
    let macros = [
        ("boxed", r"\phantom{#1}"),
        ("plackettTag", r"\qquad(#1)"),
        ("textcolor", "{#2}"),
    ];
    let macros = macros.map(|(name, body)| (name.to_owned(), body.to_owned()));
    LatexToMathML::new(MathCoreConfig {
        macros: macros.into(),
        ..MathCoreConfig::default()
    })
    .inspect_err(|error| tracing::error!(?error, "the macros for formulas cannot be read"))
    .ok()
});

/// The formula as a `math` element; none where it cannot or must not be laid out.
pub(super) fn render(latex: &str, is_display: bool) -> Option<String> {
    if latex.len() > LONGEST || latex.trim().is_empty() || is_deep(latex) {
        return None;
    }
    if !Marker::new(View::Raw).is_plain(latex) {
        return None;
    }
    let latex = rename(latex)?;
    let display = match is_display {
        true => MathDisplay::Block,
        false => MathDisplay::Inline,
    };
    let converter = CONVERTER.as_ref()?;
    // A formula that the crate stumbles over costs the reader that formula, not the page.
    let converted = catch_unwind(AssertUnwindSafe(|| {
        converter.convert_with_local_state(&latex, display)
    }));
    let mathml = converted.ok()?.ok()?.mathml;
    // Ten times as long is usual, beside short ones; `x…` is fifty times.
    let is_short = mathml.len() <= 30 * latex.len() + 2_000;
    is_short.then(|| rewrite(&mathml))?
}

/// Whether groups nest deeper, or commands are more, than the parser's stack should bear.
fn is_deep(latex: &str) -> bool {
    let mut depth = 0_usize;
    let mut n_commands = 0;
    let mut bytes = latex.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                n_commands += 1;
                bytes.next();
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEEPEST || n_commands > MOST_COMMANDS {
            return true;
        }
    }
    false
}

/// The formula in the words of `math-core`; none where it has a comment, which would hide text, or a
/// command that is refused.
fn rename(latex: &str) -> Option<String> {
    let mut renamed = String::with_capacity(latex.len() + 16);
    let mut rest = latex;
    while let Some(index) = rest.find(['\\', '%']) {
        renamed.push_str(&rest[..index]);
        let after = rest[index..].strip_prefix('\\')?;
        let length = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (name, after) = after.split_at(length);
        renamed.push('\\');
        match name {
            "" => {
                let sign = after.chars().next()?;
                renamed.push(sign);
                rest = &after[sign.len_utf8()..];
                if sign == '\\' {
                    rest = after_space_of_row(rest);
                }
            }
            "begin" | "end" => {
                let (environment, after) = after.trim_start().strip_prefix('{')?.split_once('}')?;
                let known = ENVIRONMENTS
                    .iter()
                    .find(|(theirs, _)| *theirs == environment);
                let environment = known.map_or(environment, |(_, ours)| ours);
                let _ = write!(renamed, "{name}{{{environment}}}");
                rest = after;
            }
            name if REFUSED.contains(&name) || name.starts_with("plackett") => return None,
            name => {
                let known = ALIASES.iter().find(|(theirs, _)| *theirs == name);
                renamed.push_str(known.map_or(name, |(_, ours)| ours));
                rest = after;
            }
        }
    }
    renamed.push_str(rest);
    Some(renamed)
}

/// What follows `\\` without an extra space such as `[2pt]`, which has no effect here.
fn after_space_of_row(rest: &str) -> &str {
    let Some((space, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) else {
        return rest;
    };
    let number = space.trim_end_matches(|char: char| char.is_ascii_lowercase());
    match number.trim().parse::<f64>() {
        Ok(_) if space.len() > number.len() => after,
        _ => rest,
    }
}

/// Elements of MathML Core that a formula may be made of. `annotation`, `annotation-xml`, `semantics` and
/// `maction` are not among them.
pub(super) const ELEMENTS: [&str; 22] = [
    "math",
    "mrow",
    "mi",
    "mn",
    "mo",
    "mtext",
    "mspace",
    "msub",
    "msup",
    "msubsup",
    "munder",
    "mover",
    "munderover",
    "mmultiscripts",
    "mprescripts",
    "mfrac",
    "msqrt",
    "mroot",
    "mtable",
    "mtr",
    "mtd",
    "mpadded",
];

/// Their attributes that name one of a few words.
pub(super) const WORDS: [(&str, &[&str]); 10] = [
    ("display", &["block"]),
    ("displaystyle", &["true", "false"]),
    ("scriptlevel", &["0", "1", "2"]),
    ("mathvariant", &["normal"]),
    ("stretchy", &["true", "false"]),
    ("symmetric", &["true"]),
    ("movablelimits", &["true", "false"]),
    ("form", &["prefix", "postfix"]),
    ("accent", &["true"]),
    ("accentunder", &["true"]),
];

/// Their attributes that hold a length.
pub(super) const LENGTHS: [&str; 6] = [
    "lspace",
    "rspace",
    "minsize",
    "maxsize",
    "linethickness",
    "width",
];

/// Their classes: what stands in a box or is struck through, and how the cells of a table stand.
pub(super) const CLASSES: [&str; 8] = [
    "boxed",
    "struck",
    "left",
    "right",
    "ruled-above",
    "ruled-right",
    "tight",
    "apart",
];

/// What `math-core` wrote, of allowed parts only; none where a length is too large.
fn rewrite(mathml: &str) -> Option<String> {
    let mut html = String::with_capacity(mathml.len());
    let mut rest = mathml;
    while let Some((text, tag)) = rest.split_once('<') {
        html.push_str(text);
        let (tag, after) = tag.split_once('>')?;
        rest = after;
        // `math-core` draws the lines of a struck part as empty rows of its own.
        if tag.starts_with("mrow class=\"menclose-") {
            rest = after.strip_prefix("</mrow>")?;
            continue;
        }
        push_tag(tag, &mut html)?;
    }
    html.push_str(rest);
    Some(html)
}

/// Writes a tag's allowed part; an element that is not allowed leaves its content.
fn push_tag(tag: &str, html: &mut String) -> Option<()> {
    if let Some(name) = tag.strip_prefix('/') {
        let name = match name {
            "mphantom" | "menclose" => "mrow",
            name => name,
        };
        if ELEMENTS.contains(&name) {
            let _ = write!(html, "</{name}>");
        }
        return Some(());
    }
    let is_empty = tag.ends_with('/');
    let tag = tag.trim_end_matches('/');
    let (name, mut attributes) = tag.split_once(' ').unwrap_or((tag, ""));
    let (name, mut classes) = match name {
        "mphantom" => ("mrow", vec!["boxed"]),
        "menclose" => ("mrow", vec!["struck"]),
        name => (name, Vec::new()),
    };
    if !ELEMENTS.contains(&name) {
        return Some(());
    }
    let _ = write!(html, "<{name}");
    while let Some((key, value, after)) = next_attribute(attributes) {
        attributes = after;
        let words = WORDS.iter().find(|(known, _)| *known == key);
        if key == "style" {
            classes.extend(classes_of(value));
        } else if words.is_some_and(|(_, words)| words.contains(&value)) {
            let _ = write!(html, " {key}=\"{value}\"");
        } else if LENGTHS.contains(&key) && name != "mpadded" {
            if !is_length(value) {
                return None;
            }
            let _ = write!(html, " {key}=\"{value}\"");
        }
    }
    if !classes.is_empty() {
        let _ = write!(html, " class=\"{}\"", classes.join(" "));
    }
    html.push('>');
    if is_empty {
        let _ = write!(html, "</{name}>");
    }
    Some(())
}

/// The first `key="value"` and what follows it.
fn next_attribute(attributes: &str) -> Option<(&str, &str, &str)> {
    let (key, rest) = attributes.trim_start().split_once("=\"")?;
    let (value, rest) = rest.split_once('"')?;
    Some((key, value, rest))
}

/// Whether a value is a length that moves nothing out of sight, such as `0.2778em`.
pub(super) fn is_length(value: &str) -> bool {
    let unit =
        value.trim_start_matches(|char: char| char.is_ascii_digit() || matches!(char, '.' | '-'));
    let number = value[..value.len() - unit.len()].parse::<f64>();
    let em = match unit {
        "" | "em" | "rem" => 1.0,
        "ex" => 0.5,
        "px" => 1.0 / 16.0,
        "pt" => 1.0 / 12.0,
        "mm" => 0.24,
        "cm" => 2.4,
        "in" => 6.0,
        _ => return false,
    };
    number.is_ok_and(|number| (-WIDEST..=WIDEST).contains(&(number * em)))
}

/// The classes that stand for an inline style of `math-core`: how a cell stands, and lines beside it. Colours
/// have none: they would break the contrast.
fn classes_of(style: &str) -> Vec<&'static str> {
    let known = [
        ("text-align: left", "left"),
        ("text-align: right", "right"),
        ("border-top:", "ruled-above"),
        ("border-right:", "ruled-right"),
        ("padding-right: 0", "tight"),
        ("padding-left: 0", "tight"),
        ("padding-left:1em", "apart"),
    ];
    let found = known.iter().filter(|(words, _)| style.contains(words));
    found.map(|(_, class)| *class).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn formulas_become_mathml() {
        let html = render(r"\frac{a}{b} \le \sqrt{x^2}", false).unwrap();
        assert_eq!(
            html,
            "<math><mfrac><mi>a</mi><mi>b</mi></mfrac><mo>≤</mo><msqrt><msup><mi>x</mi><mn>2</mn></msup></msqrt></math>"
        );
        assert!(
            render("x", true)
                .unwrap()
                .starts_with("<math display=\"block\">")
        );
    }

    #[test]
    fn what_people_write_in_answers_is_known() {
        for latex in [
            r"\boxed{42}",
            r"x \tag{1}",
            r"\mbox{if } x",
            r"\begin{align} a &= b \\[2pt] &= c \tag{2} \end{align}",
            r"\begin{cases} 1 & x > 0 \\ 0 & \text{otherwise} \end{cases}",
            r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}",
            r"\begin{array}{c|c} a & b \\ \hline c & d \end{array}",
            r"\cancel{x} \textcolor{red}{y} \mathbb{E}[X] \operatorname*{arg\,max}_x",
            r"\left( \frac{1}{2} \right) \overbrace{a}^{b} \hat{x} \vec{v} \mathrm{d}x",
            r"\text{中文} \$5 \% \#",
        ] {
            let html = render(latex, true).unwrap_or_else(|| panic!("{latex}"));
            assert!(
                !html.contains(" style=") && !html.contains("phantom"),
                "{html}"
            );
        }
        assert!(
            render(r"\boxed{42}", false)
                .unwrap()
                .contains("<mrow class=\"boxed\"><mn>42</mn></mrow>")
        );
        assert!(
            render(r"\cancel{x}", false)
                .unwrap()
                .contains("<mrow class=\"struck\"><mi>x</mi></mrow>")
        );
        assert!(
            !render(r"\begin{align} a \end{align}", true)
                .unwrap()
                .contains("(1)")
        );
    }

    #[test]
    fn what_hides_defines_or_leads_away_has_no_mathml() {
        for latex in [
            r"\phantom{secret}",
            r"a % secret",
            r"\def\a{\a\a}\a",
            r"\newcommand{\a}{b}\a",
            r"\href{javascript:alert(1)}{x}",
            r"\eqref{x}",
            r"\hspace{1000em} x",
            r"\genfrac(){99em}{}{a}{b}",
            r"\unknown{x}",
            r"\plackettTag{x}",
            "a \u{202E} b",
            "a\u{200B}b",
            r"{",
            r"a & b",
            "",
            "  ",
        ] {
            assert_eq!(render(latex, true), None, "{latex}");
        }
    }

    #[test]
    fn the_deepest_allowed_formula_needs_half_of_a_threads_stack_at_most() {
        let chains = [r"\hat", r"\bm", r"\sqrt", r"\frac1", r"\not", r"\frac{a}"];
        let chain = |unit: &str| {
            let n = MOST_COMMANDS.min((LONGEST - 1 - 2 * DEEPEST) / unit.len());
            let (open, close) = ("{".repeat(DEEPEST - 1), "}".repeat(DEEPEST - 1));
            format!("{open}{} x{close}", unit.repeat(n))
        };
        let left = format!("{}x{}", r"\left(".repeat(200), r"\right)".repeat(200));
        let formulas: Vec<String> = chains.into_iter().map(chain).chain([left]).collect();
        // Threads of the server have 2 MiB. Debug builds need more stack than others.
        let thread = std::thread::Builder::new().stack_size(1 << 20);
        let done = thread.spawn(move || {
            formulas
                .iter()
                .filter(|f| render(f, true).is_some())
                .count()
        });
        assert!(done.unwrap().join().unwrap() > 3);
    }

    #[test]
    fn deeper_and_longer_formulas_are_refused_at_once() {
        for latex in [
            format!("{}{}", "{".repeat(41), "}".repeat(41)),
            r"\sqrt".repeat(401) + "x",
            "x".repeat(4_001),
        ] {
            assert_eq!(render(&latex, true), None);
        }
    }

    #[test]
    fn lengths_are_numbers_with_a_unit_and_bounded() {
        for good in ["0", "0.2778em", "-0.1667em", "12pt", "1in"] {
            assert_eq!(is_length(good), good != "1in", "{good}");
        }
        for bad in [
            "",
            "5em",
            "1e3em",
            "NaN",
            "inf",
            "1vw",
            "100%",
            "1em;color:red",
            "--1em",
        ] {
            assert!(!is_length(bad), "{bad}");
        }
    }
}
