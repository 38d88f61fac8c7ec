//! The files of `static/`, compiled in. A page links to them with a hash of their content, so
//! that a browser may keep them for ever and still see a new version at once.

use std::collections::HashMap;
use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use rust_embed::RustEmbed;

use crate::error::{AppError, AppResult};

#[derive(RustEmbed)]
#[folder = "../static"]
struct Assets;

static VERSIONS: LazyLock<HashMap<String, String>> = LazyLock::new(|| {
    Assets::iter()
        .filter_map(|name| {
            let file = Assets::get(&name)?;
            Some((
                name.to_string(),
                hex::encode(&file.metadata.sha256_hash()[..6]),
            ))
        })
        .collect()
});

/// The URL of a file of `static/`, with its content's hash.
pub fn url(name: &str) -> String {
    let version = VERSIONS.get(name).map_or("", String::as_str);
    format!("/static/{name}?v={version}")
}

/// `GET /static/{*path}`.
pub async fn serve(Path(path): Path<String>) -> AppResult<Response> {
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
        (
            CACHE_CONTROL,
            "public, max-age=31536000, immutable".to_owned(),
        ),
    ];
    Ok((headers, file.data).into_response())
}
