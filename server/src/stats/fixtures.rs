//! Reads the independent numbers that tests compare with (`tests/fixtures/statistics.py` makes
//! them).
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use serde_json::Value;

/// The file.
pub(super) fn made() -> Value {
    serde_json::from_str(include_str!("../../tests/fixtures/statistics.json")).unwrap()
}

/// Rows of numbers.
pub(super) fn numbers(rows: &Value) -> Vec<Vec<f64>> {
    serde_json::from_value(rows.clone()).unwrap()
}

/// Two numbers differ by at most `most`.
#[track_caller]
pub(super) fn close(found: f64, expected: f64, most: f64) {
    assert!(
        (found - expected).abs() <= most,
        "{found} is not {expected}"
    );
}
