//! Model output is hostile input: Markdown is rendered and then cleaned on the server. Images and
//! links to elsewhere are shown as text, so a page never loads or leads anywhere.

use std::collections::HashSet;
use std::sync::LazyLock;

use ammonia::Builder;

static CLEANER: LazyLock<Builder<'static>> = LazyLock::new(|| {
    let mut cleaner = Builder::empty();
    let tags = [
        "p",
        "br",
        "hr",
        "em",
        "strong",
        "del",
        "code",
        "pre",
        "blockquote",
        "ul",
        "ol",
        "li",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "sub",
        "sup",
    ];
    cleaner
        .tags(HashSet::from(tags))
        .clean_content_tags(HashSet::from(["script", "style"]));
    cleaner
});

/// Markdown as clean HTML. Headings are moved down so that a text cannot pose as the page.
pub fn to_html(markdown: &str) -> String {
    let mut options = comrak::Options::default();
    options.extension.table = true;
    options.extension.strikethrough = true;
    options.render.hardbreaks = true;
    // Raw HTML is shown as text rather than dropped: a labeler must see what the model wrote.
    options.render.escape = true;
    let html = comrak::markdown_to_html(markdown, &options);
    let html = CLEANER.clean(&html).to_string();
    ["h3", "h2", "h1"].iter().fold(html, |html, tag| {
        let lower = match *tag {
            "h1" => "h4",
            "h2" => "h5",
            _ => "h6",
        };
        html.replace(&format!("<{tag}>"), &format!("<{lower}>"))
            .replace(&format!("</{tag}>"), &format!("</{lower}>"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_runs_and_nothing_is_loaded() {
        let hostile = "<script>alert(1)</script> <img src=x onerror=alert(1)> ![x](https://evil.example/x.png) \
            [click](javascript:alert(1)) <a href=\"https://evil.example\">x</a> <svg onload=alert(1)> `<b>`";
        let html = to_html(hostile);
        let tags: Vec<&str> = html
            .split('<')
            .skip(1)
            .map(|rest| rest.split('>').next().unwrap_or(""))
            .collect();
        for tag in tags {
            let name = tag.trim_start_matches('/');
            assert!(["p", "code"].contains(&name), "{tag} in {html}");
        }
    }

    #[test]
    fn ordinary_markdown_is_kept() {
        let html = to_html("# Title\n\n- one\n- **two**\n\n| a | b |\n|---|---|\n| 1 | 2 |\n");
        for part in [
            "<h4>Title</h4>",
            "<li>one</li>",
            "<strong>two</strong>",
            "<td>1</td>",
        ] {
            assert!(html.contains(part), "{part} in {html}");
        }
    }
}
