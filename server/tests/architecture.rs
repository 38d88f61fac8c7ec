//! The house's rules, checked by reading it: imports run one way, files stay short, every folder of
//! templates has its page module.

use std::path::{Path, PathBuf};

/// A part of the server and what it must not know.
const RULES: [(&str, &[&str]); 8] = [
    (
        "server/src/domain",
        &[
            "axum",
            "askama",
            "sqlx::query",
            "crate::store",
            "crate::pages",
            "crate::api",
            "crate::web",
            "crate::worker",
        ],
    ),
    // What everything may say must not know the web.
    (
        "server/src/message.rs",
        &[
            "axum",
            "askama",
            "sqlx",
            "crate::web",
            "crate::store",
            "crate::pages",
        ],
    ),
    ("server/src/stats", &["axum", "askama", "sqlx", "crate::"]),
    (
        "server/src/store",
        &[
            "axum",
            "askama",
            "crate::pages",
            "crate::api",
            "crate::web",
            "crate::worker",
            "crate::commands",
        ],
    ),
    (
        "server/src/exchange",
        &[
            "axum",
            "askama",
            "crate::pages",
            "crate::api",
            "crate::web",
            "crate::worker",
            "crate::commands",
        ],
    ),
    (
        "server/src/worker",
        &[
            "axum",
            "askama",
            "crate::pages",
            "crate::api",
            "crate::web",
            "crate::commands",
            "sqlx::query",
        ],
    ),
    (
        "server/src/pages",
        &["sqlx::query", "crate::commands", "crate::api"],
    ),
    ("trainer/src", &["axum", "sqlx", "tokio::", "server::"]),
];

/// Most lines of a source file.
const LONGEST: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    if folder.is_file() {
        return vec![folder.to_owned()];
    }
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|end| end == extension) {
            found.push(path);
        }
    }
    found
}

#[test]
fn imports_run_one_way() {
    let mut broken = Vec::new();
    for (folder, forbidden) in RULES {
        for path in files(&root().join(folder), "rs") {
            let source = std::fs::read_to_string(&path).unwrap();
            let code = source.split("#[cfg(test)]").next().unwrap_or_default();
            for (index, line) in code.lines().enumerate() {
                let is_comment = line.trim_start().starts_with("//");
                if let Some(word) = forbidden
                    .iter()
                    .find(|word| !is_comment && line.contains(**word))
                {
                    broken.push(format!(
                        "{folder} must not know {word}: {}:{}",
                        path.display(),
                        index + 1
                    ));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn no_file_is_longer_than_six_hundred_lines_and_each_says_what_it_is() {
    for folder in ["server/src", "trainer/src"] {
        for path in files(&root().join(folder), "rs") {
            let source = std::fs::read_to_string(&path).unwrap();
            assert!(
                source.lines().count() <= LONGEST,
                "{} is too long",
                path.display()
            );
            assert!(
                source.starts_with("//!"),
                "{} does not say what it is",
                path.display()
            );
        }
    }
}

#[test]
fn every_folder_of_templates_has_its_page_module() {
    for entry in std::fs::read_dir(root().join("templates")).unwrap() {
        let path = entry.unwrap().path();
        // Parts that several pages share belong to none of them.
        if path.is_dir() && !path.ends_with("fragments") {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let module = root().join(format!("server/src/pages/{name}.rs"));
            assert!(
                module.exists(),
                "templates/{name} has no {}",
                module.display()
            );
        }
    }
}
