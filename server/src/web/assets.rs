//! The files of `static/`, compiled in. A page links to them below a folder named by a hash of them all,
//! so that a browser may keep them for ever and still see a new version at once, and a module finds those
//! that it imports beside itself.

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
    Ok((headers, file.data).into_response())
}
