//! A parsed text as HTML.
//!
//! Written here rather than by `comrak`, whose HTML has links, images, check boxes, ids and anchors; this
//! has none. What a text cannot do is shown as text: raw HTML, images and links with their addresses. It
//! is bounded: in depth, in elements.

use std::fmt::Write;

use comrak::arena_tree::NodeEdge;
use comrak::nodes::{
    AstNode, ListType, Node, NodeCodeBlock, NodeLink, NodeList, NodeValue, TableAlignment,
};

use super::code;
use super::formulas::{CLOSE, Formula, OPEN};
use super::marks::{Marker, View};

/// Deepest nesting of elements. What is deeper is written without elements of its own: on a phone there is no
/// room for more, and browsers make everything beyond 512 flat.
const DEEPEST: usize = 20;

/// Most elements of one text; a page holds several.
const MOST_ELEMENTS: usize = 20_000;

/// Longest code that is coloured, in bytes.
const LONGEST_COLOURED: usize = 32_768;

/// The text is too much for this view.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMuch;

/// Writes one text.
struct Writer<'text> {
    html: String,
    marker: Marker,
    formulas: &'text [Formula<'text>],
    /// What ends each node that is open, in order; empty for one that has no element of its own.
    ends: Vec<&'static str>,
    /// How many of them have an element.
    depth: usize,
    n_elements: usize,
    /// Letters and digits written so far, to tell whether any of the text is missing.
    n_written: usize,
    /// The numbers that the items of the open ordered lists would have.
    numbers: Vec<Option<usize>>,
    /// Whether the table that we are in has elements, and which column comes next. Tables do not nest.
    in_table: bool,
    column: usize,
}

/// How many letters and digits a text has.
pub(super) fn count(text: &str) -> usize {
    if text.is_ascii() {
        return text.bytes().filter(u8::is_ascii_alphanumeric).count();
    }
    text.chars().filter(|char| char.is_alphanumeric()).count()
}

/// The HTML of a parsed text, and how many letters and digits it shows.
pub(super) fn write<'a>(
    root: Node<'a>,
    formulas: &[Formula<'_>],
    size: usize,
) -> Result<(String, usize), TooMuch> {
    let mut writer = Writer {
        html: String::with_capacity(size + size / 2),
        marker: Marker::new(View::Rendered),
        formulas,
        ends: Vec::new(),
        depth: 0,
        n_elements: 0,
        n_written: 0,
        numbers: Vec::new(),
        in_table: false,
        column: 0,
    };
    for edge in root.traverse() {
        match edge {
            NodeEdge::Start(node) => writer.start(node),
            NodeEdge::End(node) => writer.end(node),
        }
        if writer.n_elements > MOST_ELEMENTS {
            return Err(TooMuch);
        }
    }
    Ok((writer.html, writer.n_written))
}

impl Writer<'_> {
    /// Opens an element for a node.
    fn open(&mut self, tag: &str, end: &'static str) {
        if self.depth >= DEEPEST {
            self.ends.push("");
            // Words of neighbouring blocks must not run together.
            if end != "</em>" && end != "</strong>" && end != "</del>" {
                self.html.push(' ');
            }
            return;
        }
        self.depth += 1;
        self.n_elements += 1;
        self.html.push_str(tag);
        self.ends.push(end);
    }

    fn close(&mut self) {
        let end = self.ends.pop().unwrap_or_default();
        if !end.is_empty() {
            self.depth -= 1;
            self.html.push_str(end);
        }
    }

    /// Writes text, with formulas where their placeholders are.
    fn text(&mut self, text: &str) {
        self.pieces(text, true);
    }

    /// Writes text in which formulas are as they are written: code, addresses, markup.
    fn source(&mut self, text: &str) {
        self.pieces(text, false);
    }

    fn pieces(&mut self, text: &str, with_formulas: bool) {
        let mut rest = text;
        while let Some(index) = rest.find(OPEN) {
            let after = &rest[index + OPEN.len_utf8()..];
            let found = after.split_once(CLOSE).and_then(|(number, after)| {
                let number: usize = number.parse().ok()?;
                Some((self.formulas.get(number)?, after))
            });
            let Some((formula, after)) = found else { break };
            self.plain(&rest[..index]);
            match with_formulas {
                true => self.formula(formula),
                false => self.plain(formula.source),
            }
            rest = after;
        }
        self.plain(rest);
    }

    fn plain(&mut self, text: &str) {
        self.n_written += count(text);
        self.marker.push(text, &mut self.html);
    }

    fn formula(&mut self, formula: &Formula<'_>) {
        self.n_written += count(formula.source);
        let Some(mathml) = &formula.mathml else {
            self.n_elements += 1;
            self.html.push_str("<code dir=\"ltr\">");
            self.marker.push(formula.source, &mut self.html);
            self.html.push_str("</code>");
            return;
        };
        self.n_elements += mathml.matches("</").count();
        if formula.is_block {
            self.n_elements += 1;
            self.html
                .push_str("<span class=\"formula\" dir=\"ltr\" tabindex=\"0\">");
            self.html.push_str(mathml);
            self.html.push_str("</span>");
        } else {
            self.html.push_str(mathml);
        }
    }

    /// An element's tag. The outermost one takes its direction from its text, and what is within from it.
    fn tag(&self, name: &str) -> String {
        match self.depth {
            0 => format!("<{name} dir=\"auto\">"),
            _ => format!("<{name}>"),
        }
    }

    fn start(&mut self, node: Node<'_>) {
        let data = node.data();
        match &data.value {
            NodeValue::Text(text) => self.text(text),
            NodeValue::SoftBreak | NodeValue::LineBreak => {
                self.n_elements += 1;
                self.html.push_str("<br>\n");
            }
            NodeValue::Code(code) => {
                self.n_elements += 1;
                self.html.push_str("<code dir=\"ltr\">");
                self.source(&code.literal);
                self.html.push_str("</code>");
            }
            NodeValue::HtmlInline(markup) | NodeValue::Raw(markup) => self.source(markup),
            NodeValue::HtmlBlock(block) => {
                self.open(
                    &self.tag("p").replace("<p", "<p class=\"markup\""),
                    "</p>\n",
                );
                self.source(block.literal.trim_end());
            }
            NodeValue::CodeBlock(block) => self.code_block(block),
            NodeValue::ThematicBreak => {
                self.n_elements += 1;
                self.html.push_str("<hr>\n");
            }
            NodeValue::FootnoteReference(reference) => {
                self.n_elements += 1;
                self.html.push_str("<sup>[");
                self.source(&reference.name);
                self.html.push_str("]</sup>");
            }
            NodeValue::Image(_) => {
                self.open("<span class=\"address\" dir=\"ltr\">", "</span>");
                self.html.push_str("![");
            }
            value => self.open_element(node, value),
        }
    }

    /// Opens what has children of its own.
    fn open_element(&mut self, node: Node<'_>, value: &NodeValue) {
        match value {
            NodeValue::Paragraph if is_tight(node) => self.ends.push(""),
            NodeValue::Paragraph => self.open(&self.tag("p"), "</p>\n"),
            NodeValue::Heading(heading) => {
                // The page has the larger ones, and a text must not pose as it.
                let (name, end) = match heading.level {
                    1 => ("h4", "</h4>\n"),
                    2 => ("h5", "</h5>\n"),
                    _ => ("h6", "</h6>\n"),
                };
                self.open(&self.tag(name), end);
            }
            NodeValue::BlockQuote => self.open(&self.tag("blockquote"), "</blockquote>\n"),
            NodeValue::List(list) => self.open_list(node, list),
            NodeValue::Item(item) => self.open_item(item),
            NodeValue::TaskItem(item) => {
                self.open("<li class=\"task\">", "</li>\n");
                let (sign, n_letters) = match item.symbol {
                    Some(symbol) => ("☑ ", usize::from(symbol.is_alphanumeric())),
                    None => ("☐ ", 0),
                };
                self.n_written += n_letters;
                self.html.push_str(sign);
            }
            NodeValue::FootnoteDefinition(definition) => {
                self.open(
                    &self.tag("div").replace("<div", "<div class=\"footnote\""),
                    "</div>\n",
                );
                self.html.push_str("<sup>[");
                self.source(&definition.name);
                self.html.push_str("]</sup> ");
            }
            NodeValue::Table(_) => self.open_table(),
            NodeValue::TableRow(_) | NodeValue::TableCell if !self.in_table => {
                self.ends.push("");
                self.html.push(' ');
            }
            NodeValue::TableRow(is_header) => {
                self.column = 0;
                match is_header {
                    true => self.open("<thead><tr>", "</tr></thead>\n<tbody>"),
                    false => self.open("<tr>", "</tr>\n"),
                }
            }
            NodeValue::TableCell => self.open_cell(node),
            NodeValue::Emph => self.open("<em>", "</em>"),
            NodeValue::Strong => self.open("<strong>", "</strong>"),
            NodeValue::Strikethrough => self.open("<del>", "</del>"),
            _ => self.ends.push(""),
        }
    }

    fn open_list(&mut self, node: Node<'_>, list: &NodeList) {
        if list.list_type == ListType::Bullet {
            self.numbers.push(None);
            self.open(&self.tag("ul"), "</ul>\n");
            return;
        }
        self.numbers.push(Some(list.start));
        let numbers = node.children().map(|item| match &item.data().value {
            NodeValue::Item(item) => item.start,
            _ => 0,
        });
        let mut tag = "<ol".to_owned();
        // Numbers of many digits need more room than a list has beside it.
        if numbers.max().is_some_and(|largest| largest > 999) {
            tag.push_str(" class=\"far\"");
        }
        if list.start != 1 {
            let _ = write!(tag, " start=\"{}\"", list.start);
        }
        let tag = self.tag("ol").replace("<ol", &tag);
        self.open(&tag, "</ol>\n");
    }

    /// An item keeps the number that it was written with: Markdown would count on, and hide a mistake.
    fn open_item(&mut self, item: &NodeList) {
        let Some(Some(number)) = self.numbers.last_mut() else {
            self.open("<li>", "</li>\n");
            return;
        };
        let expected = *number;
        *number = item.start.saturating_add(1);
        self.n_written += item
            .start
            .checked_ilog10()
            .map_or(1, |digits| digits as usize + 1);
        match item.start == expected {
            true => self.open("<li>", "</li>\n"),
            false => self.open(&format!("<li value=\"{}\">", item.start), "</li>\n"),
        }
    }

    /// A table scrolls sideways where it is too wide.
    fn open_table(&mut self) {
        // With rows and cells, or not at all.
        self.in_table = self.depth + 4 <= DEEPEST;
        if !self.in_table {
            self.ends.push("");
            return;
        }
        let tag = self.tag("table");
        self.open(
            &format!("<div class=\"sideways\" tabindex=\"0\">{tag}"),
            "</tbody></table></div>\n",
        );
    }

    fn open_cell(&mut self, node: Node<'_>) {
        let is_header = node
            .parent()
            .is_some_and(|row| matches!(row.data().value, NodeValue::TableRow(true)));
        let (name, end) = match is_header {
            true => ("th", "</th>"),
            false => ("td", "</td>"),
        };
        let alignment = alignment_of(node, self.column);
        self.column += 1;
        let class = match alignment {
            TableAlignment::Right => " class=\"right\"",
            TableAlignment::Center => " class=\"center\"",
            _ => "",
        };
        self.open(&format!("<{name}{class}>"), end);
    }

    fn end(&mut self, node: Node<'_>) {
        let data = node.data();
        match &data.value {
            NodeValue::Text(_)
            | NodeValue::SoftBreak
            | NodeValue::LineBreak
            | NodeValue::Code(_)
            | NodeValue::HtmlInline(_)
            | NodeValue::Raw(_)
            | NodeValue::CodeBlock(_)
            | NodeValue::ThematicBreak
            | NodeValue::FootnoteReference(_) => {}
            NodeValue::Image(link) => {
                self.html.push(']');
                self.address(link);
                self.close();
            }
            NodeValue::Link(link) => {
                self.close();
                if !is_bare(node, link) {
                    self.html.push_str(" <span class=\"address\" dir=\"ltr\">");
                    self.n_elements += 1;
                    self.address(link);
                    self.html.push_str("</span>");
                }
            }
            NodeValue::List(_) => {
                self.numbers.pop();
                self.close();
            }
            _ => self.close(),
        }
    }

    fn address(&mut self, link: &NodeLink) {
        self.html.push('(');
        self.source(&link.url);
        if !link.title.is_empty() {
            self.html.push_str(" \"");
            self.source(&link.title);
            self.html.push('"');
        }
        self.html.push(')');
    }

    /// Code keeps its white space and shows what its first line says.
    fn code_block(&mut self, block: &NodeCodeBlock) {
        self.n_elements += 3;
        self.html.push_str("<figure class=\"code\" dir=\"ltr\">");
        if !block.info.is_empty() {
            self.html.push_str("<figcaption>");
            self.source(&block.info);
            self.html.push_str("</figcaption>");
        }
        self.html.push_str("<pre><code>");
        let language =
            code::find_language(&block.info).filter(|_| block.literal.len() <= LONGEST_COLOURED);
        match language {
            // A placeholder is not code of any language.
            Some(language) if !block.literal.contains(OPEN) => {
                for (token, text) in code::tokens(language, &block.literal) {
                    if let Some(class) = token.class() {
                        self.n_elements += 1;
                        let _ = write!(self.html, "<span class=\"{class}\">");
                        self.plain(text);
                        self.html.push_str("</span>");
                    } else {
                        self.plain(text);
                    }
                }
            }
            _ => self.source(&block.literal),
        }
        self.html.push_str("</code></pre></figure>\n");
    }
}

/// Whether a paragraph is an item of a list without space between items, where it has no element of its own.
fn is_tight(paragraph: Node<'_>) -> bool {
    let list = paragraph.parent().and_then(AstNode::parent);
    list.is_some_and(|list| matches!(&list.data().value, NodeValue::List(list) if list.tight))
}

/// Whether a link's words are its address: then it is written once.
fn is_bare(node: Node<'_>, link: &NodeLink) -> bool {
    let text = node
        .first_child()
        .filter(|child| child.next_sibling().is_none());
    text.is_some_and(|text| match &text.data().value {
        NodeValue::Text(text) if link.title.is_empty() => {
            let address = link.url.strip_suffix(text.as_ref());
            address.is_some_and(|scheme| ["", "http://", "https://", "mailto:"].contains(&scheme))
        }
        _ => false,
    })
}

fn alignment_of(cell: Node<'_>, column: usize) -> TableAlignment {
    let table = cell.parent().and_then(AstNode::parent);
    let alignment = table.and_then(|table| match &table.data().value {
        NodeValue::Table(table) => table.alignments.get(column).copied(),
        _ => None,
    });
    alignment.unwrap_or(TableAlignment::None)
}
