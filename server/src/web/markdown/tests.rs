//! What texts become, and that nothing else gets through.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use proptest::prelude::*;
use scraper::{ElementRef, Html};
use serde::Deserialize;

use super::*;

/// An adversarial text of the corpus.
#[derive(Deserialize)]
struct Hostile {
    name: String,
    why: String,
    /// The text, or what is repeated in it.
    #[serde(default)]
    text: String,
    #[serde(default)]
    before: String,
    #[serde(default)]
    after: String,
    times: Option<usize>,
}

impl Hostile {
    fn text(&self) -> String {
        let middle = self.text.repeat(self.times.unwrap_or(1));
        format!("{}{middle}{}", self.before, self.after)
    }
}

fn corpus() -> Vec<Hostile> {
    let json = include_str!("../../../tests/fixtures/hostile_texts.json");
    serde_json::from_str(json).unwrap()
}

/// Each element but the frame that the parser puts around.
fn elements(html: &Html) -> impl Iterator<Item = ElementRef<'_>> {
    html.root_element().descendent_elements().skip(1)
}

/// Says what is wrong with an element, if anything: the same lists as the cleaner's, read from what a
/// parser makes of the result.
fn complaint(element: ElementRef<'_>) -> Option<String> {
    let name = element.value().name();
    if !clean::ELEMENTS.contains(&name) && !mathml::ELEMENTS.contains(&name) {
        return Some(format!("<{name}>"));
    }
    let is_math = mathml::ELEMENTS.contains(&name);
    let wrong = element.value().attrs().find(|(key, value)| {
        let is_fine = match *key {
            "class" => {
                let html = clean::CLASSES
                    .iter()
                    .filter(|(of, _)| *of == name)
                    .flat_map(|(_, classes)| *classes);
                let math = mathml::CLASSES.iter().filter(|_| is_math);
                let known: Vec<&str> = html.chain(math).copied().collect();
                value
                    .split(' ')
                    .all(|class| class.is_empty() || known.contains(&class))
            }
            // What is too much to lay out.
            "dir" if name == "pre" => *value == "auto",
            "start" => name == "ol" && value.parse::<u32>().is_ok(),
            "value" => name == "li" && value.parse::<u32>().is_ok(),
            "title" => name == "span",
            key if is_math && mathml::LENGTHS.contains(&key) => mathml::is_length(value),
            key => {
                let html = clean::ATTRIBUTES.iter().any(|(of, allowed, values)| {
                    *of == name && *allowed == key && values.contains(value)
                });
                let math = mathml::WORDS
                    .iter()
                    .any(|(allowed, values)| *allowed == key && values.contains(value));
                html || (is_math && math)
            }
        };
        !is_fine
    });
    wrong.map(|(key, value)| format!("<{name} {key}={value:?}>"))
}

/// Checks some HTML, with the text that it is of for the complaint.
fn check(markdown: &str, html: &str) -> Result<(), String> {
    let parsed = Html::parse_fragment(html);
    let short = |text: &str| text.chars().take(500).collect::<String>();
    let about = || format!("of {:?} in {}", short(markdown), short(html));
    if let Some(complaint) = elements(&parsed).find_map(complaint) {
        return Err(format!("{complaint} {}", about()));
    }
    let turns = [
        '\u{202A}', '\u{202B}', '\u{202D}', '\u{202E}', '\u{2066}', '\u{2067}', '\u{2068}',
        '\u{200B}',
    ];
    match html.contains(turns) {
        true => Err(format!("an invisible character {}", about())),
        false => Ok(()),
    }
}

/// The start tags and end tags of some HTML.
fn tags(html: &str) -> Vec<&str> {
    html.split('<')
        .skip(1)
        .filter_map(|part| part.split('>').next())
        .collect()
}

#[test]
fn ordinary_markdown_is_laid_out() {
    for (markdown, expected) in [
        (
            "# Title\n## a\n### b",
            "<h4 dir=\"auto\">Title</h4>\n<h5 dir=\"auto\">a</h5>\n<h6 dir=\"auto\">b</h6>\n",
        ),
        (
            "a *b* **c** ~~d~~ `e`",
            "<p dir=\"auto\">a <em>b</em> <strong>c</strong> <del>d</del> <code dir=\"ltr\">e</code></p>\n",
        ),
        (
            "- a\n- b\n  1. c",
            "<ul dir=\"auto\"><li>a</li>\n<li>b<ol><li>c</li>\n</ol>\n</li>\n</ul>\n",
        ),
        (
            "- [x] a\n- [ ] b",
            "<ul dir=\"auto\"><li class=\"task\">☑ a</li>\n<li class=\"task\">☐ b</li>\n</ul>\n",
        ),
        (
            "7. a\n9. b",
            "<ol start=\"7\" dir=\"auto\"><li>a</li>\n<li value=\"9\">b</li>\n</ol>\n",
        ),
        ("a\nb", "<p dir=\"auto\">a<br>\nb</p>\n"),
        ("> a", "<blockquote dir=\"auto\"><p>a</p>\n</blockquote>\n"),
        (
            "a[^n]\n\n[^n]: b",
            "<p dir=\"auto\">a<sup>[n]</sup></p>\n<div class=\"footnote\" dir=\"auto\"><sup>[n]</sup> <p>b</p>\n</div>\n",
        ),
        (
            "**你好。**世界",
            "<p dir=\"auto\"><strong>你好。</strong>世界</p>\n",
        ),
        (
            "| a | b |\n|:-:|--:|\n| 1 | 2 |",
            "<div class=\"sideways\" tabindex=\"0\"><table dir=\"auto\"><thead><tr><th class=\"center\">a</th><th class=\"right\">b</th></tr></thead>\n\
             <tbody><tr><td class=\"center\">1</td><td class=\"right\">2</td></tr>\n</tbody></table></div>\n",
        ),
        (
            "```py x\nif a: # b\n```",
            "<figure class=\"code\" dir=\"ltr\"><figcaption>py x</figcaption><pre><code>\
             <span class=\"k\">if</span> a: <span class=\"c\"># b</span>\n</code></pre></figure>\n",
        ),
        (
            "$x$ of $5 and $6",
            "<p dir=\"auto\"><math><mi>x</mi></math> of $5 and $6</p>\n",
        ),
        (
            "`$x$` and $\\foo$",
            "<p dir=\"auto\"><code dir=\"ltr\">$x$</code> and <code dir=\"ltr\">$\\foo$</code></p>\n",
        ),
    ] {
        assert_eq!(to_html(markdown), expected, "{markdown}");
    }
}

#[test]
fn links_images_and_markup_are_shown_as_text() {
    for (markdown, expected) in [
        (
            "[a](javascript:alert(1))",
            "a <span class=\"address\" dir=\"ltr\">(javascript:alert(1))</span>",
        ),
        (
            "[a](http://b \"c\")",
            "a <span class=\"address\" dir=\"ltr\">(http://b \"c\")</span>",
        ),
        (
            "![a](http://b)",
            "<span class=\"address\" dir=\"ltr\">![a](http://b)</span>",
        ),
        ("<http://b> www.c.org d@e.org", "http://b www.c.org d@e.org"),
        (
            "[http://bank.example](http://evil.example)",
            "http://bank.example <span class=\"address\" dir=\"ltr\">(http://evil.example)</span>",
        ),
        (
            "a <img src=x onerror=alert(1)> b",
            "a &lt;img src=x onerror=alert(1)&gt; b",
        ),
        ("a <!-- b --> c", "a &lt;!-- b --&gt; c"),
    ] {
        assert_eq!(
            to_html(markdown),
            format!("<p dir=\"auto\">{expected}</p>\n"),
            "{markdown}"
        );
    }
    let block = "<script>\nalert(1)\n</script>";
    assert_eq!(
        to_html(block),
        "<p class=\"markup\" dir=\"auto\">&lt;script&gt;\nalert(1)\n&lt;/script&gt;</p>\n"
    );
}

#[test]
fn a_text_says_when_markdown_hides_a_part_of_it() {
    for shown in [
        "# a\n\n1. b\n2. c\n\n- [x] d\n\n[e](f \"g\") ![h](i) <b> &amp; `j` \\[k\\]\n\n```rust l\nm\n```\n\nn[^o]\n\n[^o]: p",
        "[^unused]: note",
        "| a |\n|---|\n| b |",
        "$x^2$ and \\(\\foo\\) 中文 \u{202E}x",
    ] {
        assert!(render(shown).unwrap().shows_all, "{shown}");
    }
    for hidden in [
        "a\n\n[//]: # (a secret comment)",
        "[a]: http://b.example",
        "| a |\n|---|\n| b | surplus |",
    ] {
        assert!(!render(hidden).unwrap().shows_all, "{hidden}");
    }
}

#[test]
fn the_corpus_is_large_and_each_text_says_why_it_is_there() {
    let corpus = corpus();
    assert!(corpus.len() >= 60, "{}", corpus.len());
    let names: std::collections::HashSet<&str> =
        corpus.iter().map(|text| text.name.as_str()).collect();
    assert_eq!(names.len(), corpus.len(), "two have one name");
    assert!(
        corpus
            .iter()
            .all(|text| text.why.len() > 10 && !text.text().is_empty())
    );
}

#[test]
fn no_text_of_the_corpus_becomes_more_than_text() {
    for hostile in corpus() {
        let text = hostile.text();
        check(&text, &to_html(&text)).unwrap_or_else(|error| panic!("{}: {error}", hostile.name));
        check("", &escape(&text, View::Raw))
            .unwrap_or_else(|error| panic!("{}: {error}", hostile.name));
    }
}

#[test]
fn no_text_of_the_corpus_loses_a_letter_unless_it_says_so() {
    for hostile in corpus() {
        let text = hostile.text();
        let Some(rendered) = render(&text) else {
            continue;
        };
        let shown: String = Html::parse_fragment(&rendered.html)
            .root_element()
            .text()
            .collect();
        let n_shown = html::count(&shown);
        // Formulas have other letters than their source.
        if rendered.shows_all && !rendered.html.contains("<math") {
            let n_entities = letters_of_entities(&text);
            // Numbers of lists are drawn by the browser.
            let n_numbers = html::count(&tags(&rendered.html).join(""));
            assert!(
                n_shown + n_entities + n_numbers >= html::count(&text),
                "{}",
                hostile.name
            );
        }
    }
}

#[test]
fn the_second_wall_takes_nothing_away_from_what_the_first_makes() {
    let good = "# a\n\n- [x] b\n\n3. c\n5. d\n\n> e\n\n| f | g |\n|:-:|--:|\n| h | i |\n\n```rust\nfn j() {} // k \"l\"\n```\n\n\
        ```diff\n+m\n-n\n```\n\n[o](p) ![q](r) <s> ~~t~~ *u* **v** `w`\n\n<div>\nx\n</div>\n\n---\n\ny[^z]\n\n[^z]: \u{202E}a\n\n\
        $\\boxed{\\cancel{x}}$ $$\\begin{array}{l|r} a & b \\\\ \\hline c & d \\end{array} \\quad \\bigl( \\hat y \\bigr)$$";
    let ordinary = include_str!("../../../tests/fixtures/ordinary_answer.md");
    let all: Vec<String> = corpus()
        .iter()
        .map(Hostile::text)
        .chain([good, ordinary].map(str::to_owned))
        .collect();
    for text in all.iter().filter(|text| text.len() <= LONGEST) {
        let protected = formulas::protect(text);
        let arena = Arena::new();
        let root = comrak::parse_document(&arena, &protected.text, &OPTIONS);
        let Ok((html, _)) = html::write(root, &protected.formulas, text.len()) else {
            continue;
        };
        let cleaned = clean::clean(&html);
        assert_eq!(tags(&html), tags(&cleaned), "{text}");
        assert_eq!(clean::clean(&cleaned), cleaned, "{text}");
    }
}

#[test]
fn the_lists_hold_nothing_that_the_renderer_never_makes() {
    let markdown =
        include_str!("../../../tests/fixtures/every_part.md").replace("TURN", "\u{202E}");
    let html = render(&markdown).unwrap().html;
    let parsed = Html::parse_fragment(&html);
    let mut seen = std::collections::HashSet::new();
    for element in elements(&parsed) {
        let name = element.value().name();
        seen.insert(name.to_owned());
        for (key, value) in element.value().attrs() {
            // MathML has its attributes and classes in common.
            let name = match mathml::ELEMENTS.contains(&name) {
                true => "math",
                false => name,
            };
            for word in value.split(' ') {
                seen.insert(format!("{name} {key}={word}"));
            }
            seen.insert(format!("{name} {key}"));
        }
    }
    let elements = clean::ELEMENTS.iter().chain(&mathml::ELEMENTS);
    let mut listed: Vec<String> = elements.map(|name| (*name).to_owned()).collect();
    for (name, key, values) in clean::ATTRIBUTES {
        listed.extend(values.iter().map(|value| format!("{name} {key}={value}")));
    }
    for (name, key) in clean::NUMBERED.into_iter().chain(clean::TEXTUAL) {
        listed.push(format!("{name} {key}"));
    }
    for (name, classes) in clean::CLASSES {
        listed.extend(classes.iter().map(|class| format!("{name} class={class}")));
    }
    for (key, values) in mathml::WORDS {
        listed.extend(values.iter().map(|value| format!("math {key}={value}")));
    }
    listed.extend(mathml::LENGTHS.iter().map(|key| format!("math {key}")));
    listed.extend(
        mathml::CLASSES
            .iter()
            .map(|class| format!("math class={class}")),
    );
    let unused: Vec<&String> = listed.iter().filter(|part| !seen.contains(*part)).collect();
    assert!(unused.is_empty(), "{unused:?}");
}

#[test]
fn the_second_wall_alone_keeps_nothing_that_runs_loads_or_names() {
    for html in [
        "<a href=\"http://x\">a</a>",
        "<img src=x onerror=alert(1)>",
        "<p id=submit name=x onclick=alert(1) style=color:red class=card>a</p>",
        "<math><maction actiontype=statusline xlink:href=javascript:alert(1)>x</maction></math>",
        "<math><mtext><table><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=1 onerror=alert(1)&gt;\">",
        "<math><annotation-xml encoding=\"text/html\"><p>x</p></annotation-xml></math>",
        "<math href=javascript:alert(1)><mi style=color:red>x</mi><mspace width=\"999em\"/></math>",
        "<svg><style><img src=x onerror=alert(1)></style></svg>",
        "<span tabindex=5 dir=rtl class=\"visually-hidden mark\">a</span>",
        "<ol start=-1><li value=1e9>a</li></ol>",
    ] {
        check(html, &clean::clean(html)).unwrap();
    }
}

/// Fragments that mean something to Markdown, HTML, MathML, LaTeX or a reader.
const FRAGMENTS: [&str; 96] = [
    "<",
    ">",
    "</",
    "/>",
    "<!--",
    "-->",
    "<![CDATA[",
    "]]>",
    "<?",
    "\"",
    "'",
    "`",
    "```",
    "~~~",
    "\n",
    "\n\n",
    "    ",
    "\t",
    "<math>",
    "</math>",
    "<mtext>",
    "<mi>",
    "<mglyph>",
    "<annotation-xml encoding=\"text/html\">",
    "<maction>",
    "<semantics>",
    "<svg>",
    "<style>",
    "</style>",
    "<script>",
    "</script>",
    "alert(1)",
    "<img src=x onerror=alert(1)>",
    "<table>",
    "<td>",
    "<p>",
    "</p>",
    "<form>",
    "<input name=submit>",
    "<textarea>",
    "</textarea>",
    "</pre>",
    "<a href=\"",
    "javascript:",
    "data:text/html,",
    " onload=",
    " style=",
    " id=x",
    " class=card",
    "&lt;",
    "&#60;",
    "&#x3c",
    "&amp;",
    "&Tab;",
    "&NewLine;",
    "[",
    "](",
    ")",
    "![",
    "[^1]",
    "[^1]: ",
    "[a]: ",
    "<http://",
    "www.",
    "@",
    "| ",
    "|-|-|\n",
    "> ",
    "- ",
    "1. ",
    "- [x] ",
    "# ",
    "---",
    "***",
    "**",
    "_",
    "~~",
    "\\",
    "$",
    "$$",
    "\\(",
    "\\)",
    "\\[",
    "\\]",
    "\\text{",
    "\\operatorname{",
    "\\boxed{",
    "}",
    "{",
    "^",
    "\\begin{matrix}",
    "&",
    "\u{202E}",
    "\u{FDD0}0\u{FDD1}",
    "\u{0}",
    "中文",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn whatever_fragments_are_put_together_only_allowed_parts_come_out(
        parts in prop::collection::vec(prop::sample::select(&FRAGMENTS[..]), 1..40)
    ) {
        let text = parts.concat();
        let html = to_html(&text);
        prop_assert_eq!(check(&text, &html), Ok(()));
        // A browser that parses and writes it again gets nothing else: no mutation.
        prop_assert_eq!(clean::clean(&html), html);
    }

    #[test]
    fn whatever_html_reaches_the_second_wall_only_allowed_parts_come_out(
        parts in prop::collection::vec(prop::sample::select(&FRAGMENTS[..]), 1..40)
    ) {
        let html = clean::clean(&parts.concat());
        let complaint = elements(&Html::parse_fragment(&html)).find_map(complaint);
        prop_assert_eq!(complaint, None);
    }

    #[test]
    fn any_characters_at_all_are_laid_out(text in "\\PC{0,200}") {
        prop_assert_eq!(check(&text, &to_html(&text)), Ok(()));
    }
}
