//! What a run must do that cannot be: end in one sentence, and leave everything as it was.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use trainer::error::Result;

use crate::place::Place;

/// Every file and folder below `folder`, with its length and the time of its last change.
fn everything(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let data = path.symlink_metadata().unwrap();
            let state = format!("{:?} {:?}", data.file_type(), (data.len(), data.modified()));
            all.insert(path.clone(), state);
            if data.is_dir() {
                folders.push(path);
            }
        }
    }
    all
}

/// One sentence: a line that a person can read.
pub(crate) fn assert_sentence(said: &str) {
    let is_one = !said.is_empty() && said.chars().count() < 1500;
    assert!(is_one && !said.contains(char::is_control), "{said:?}");
}

/// Holds the last words of `run` against `words`, and that it left nothing behind.
pub(crate) fn assert_refused<T>(
    place: &Place,
    words: &[&str],
    run: impl FnOnce(&Place) -> Result<T>,
) {
    let before = everything(&place.path(""));
    let Err(error) = run(place) else {
        panic!("nothing was refused for {words:?}");
    };
    let said = error.to_string();
    assert_sentence(&said);
    for word in words {
        assert!(said.contains(word), "not {word:?}, but {said}");
    }
    assert_eq!(everything(&place.path("")), before, "{said}");
}
