//! The files of `static/`, compiled in. A page links to them below a folder named by a hash of them all,
//! so that a browser may keep them for ever and still see a new version at once, and a module finds those
//! that it imports beside itself.

use std::borrow::Cow;
use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use rust_embed::RustEmbed;
use sha2::{Digest, Sha256};

use crate::error::{AppError, AppResult};

#[derive(RustEmbed)]
#[folder = "../static"]
struct Assets;

/// Names the files as they are in this program.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut names: Vec<_> = Assets::iter().collect();
    names.sort_unstable();
    let mut hash = Sha256::new();
    for name in names {
        if let Some(file) = Assets::get(&name) {
            hash.update(name.as_bytes());
            hash.update(file.metadata.sha256_hash());
        }
    }
    hex::encode(&hash.finalize()[..6])
});

/// The URL of a file of `static/`.
pub fn url(name: &str) -> String {
    format!("/static/{}/{name}", *VERSION)
}

/// `GET /static/{version}/{*path}`. Asked by the page of another version of this program, it answers with
/// the files of this one, which the browser must not keep under that name.
pub async fn serve(Path((version, path)): Path<(String, String)>) -> AppResult<Response> {
    let keep = match version == *VERSION {
        true => "public, max-age=31536000, immutable",
        false => "no-store",
    };
    let file = Assets::get(&path).ok_or(AppError::NotFound("file"))?;
    let kind = mime_guess::from_path(&path).first_or_octet_stream();
    let data = without_comments(&path, file.data);
    let headers = [
        (
            CONTENT_TYPE,
            format!(
                "{kind}{}",
                if kind.type_() == "text" {
                    "; charset=utf-8"
                } else {
                    ""
                }
            ),
        ),
        (CACHE_CONTROL, keep.to_owned()),
    ];
    Ok((headers, data).into_response())
}

/// A script or a style sheet without its comments, which are a quarter of what goes over the wire. Every line stays
/// where it is, so that what a browser complains of is found in the file.
fn without_comments(path: &str, data: Cow<'static, [u8]>) -> Cow<'static, [u8]> {
    let Ok(text) = std::str::from_utf8(&data) else {
        return data;
    };
    let rest = match path.rsplit('.').next() {
        Some("js") => without_lines(text),
        Some("css") => without_blocks(text),
        _ => return data,
    };
    rest.into_bytes().into()
}

/// Without lines that are a comment. One after code stays.
fn without_lines(text: &str) -> String {
    let is_comment = |line: &str| line.trim_start().starts_with("//");
    let lines = text.lines().map(|line| match is_comment(line) {
        true => "\n".to_owned(),
        false => format!("{line}\n"),
    });
    lines.collect()
}

fn without_blocks(text: &str) -> String {
    let mut parts = text.split("/*");
    let mut rest = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (comment, after) = part.split_once("*/").unwrap_or((part, ""));
        rest.extend(comment.chars().filter(|char| *char == '\n'));
        rest.push_str(after);
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(extension: &str) -> Vec<String> {
        let names = Assets::iter().filter(|name| name.ends_with(extension));
        let texts = names.filter_map(|name| Assets::get(&name));
        let texts = texts.map(|file| String::from_utf8_lossy(&file.data).into_owned());
        texts.collect()
    }

    #[test]
    fn of_a_script_only_comments_are_left_out_and_lines_keep_their_numbers() {
        let scripts = all(".js");
        assert!(scripts.len() > 10);
        for text in scripts {
            // A line of a text that runs over several would look like a comment.
            let mut n_quotes = 0;
            for line in text.lines() {
                match line.trim_start().starts_with("//") {
                    true => assert!(n_quotes % 2 == 0, "in a text: {line}"),
                    false => n_quotes += line.matches('`').count(),
                }
            }
            assert_eq!(without_lines(&text).lines().count(), text.lines().count());
        }
    }

    #[test]
    fn of_a_style_sheet_only_comments_are_left_out_and_lines_keep_their_numbers() {
        let sheet = "a {\n  /* one\n two */ b: c;\n}\n/* three */\n";
        assert_eq!(without_blocks(sheet), "a {\n  \n b: c;\n}\n\n");
        for text in all(".css") {
            let rest = without_blocks(&text);
            assert_eq!(rest.lines().count(), text.lines().count());
            assert_eq!(rest.matches('{').count(), rest.matches('}').count());
        }
    }
}
