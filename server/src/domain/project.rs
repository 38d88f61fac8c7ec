//! What a researcher may set for a project. The same bounds stand in the database's constraints.

use std::ops::RangeInclusive;

/// Labelers of a task.
pub const OVERLAPS: RangeInclusive<i16> = 1..=100;

/// How long a lease lasts, in seconds: up to a week.
pub const LEASE_SECONDS: RangeInclusive<i32> = 1..=604_800;

/// Days after which a task may come back to its labeler.
pub const REPEAT_AFTER_DAYS: RangeInclusive<i16> = 0..=365;

/// Active seconds under which a submission is called too fast.
pub const LEAST_SECONDS: RangeInclusive<i16> = 0..=3600;

/// Percent of leases that may be gold tasks, and as many that may be repeats.
pub const MIXED_IN_PERCENT: RangeInclusive<f32> = 0.0..=50.0;

/// Longest name of a project, in characters.
pub const LONGEST_NAME: usize = 100;

/// Longest short name of a project.
pub const LONGEST_SLUG: usize = 40;

/// Whether a text can be a project's short name: lower-case letters, digits and single hyphens, so that
/// it needs no escaping in an address, on the command line or as a file's name.
pub fn is_slug(text: &str) -> bool {
    let is_part = |part: &str| {
        let mut letters = part.bytes();
        !part.is_empty() && letters.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    text.len() <= LONGEST_SLUG && text.split('-').all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_name_needs_no_escaping_anywhere() {
        for fit in ["study", "study-2", "2026-pilot"] {
            assert!(is_slug(fit), "{fit}");
        }
        let long = "x".repeat(41);
        for unfit in ["", "Study", "a b", "-a", "a-", "a--b", "a/b", "ä", &long] {
            assert!(!is_slug(unfit), "{unfit}");
        }
    }

    #[test]
    fn the_bounds_are_those_of_the_database() {
        let first =
            include_str!("../../../migrations/20261123140100_create_projects_and_prompts.sql");
        let rules =
            include_str!("../../../migrations/20261126170000_give_projects_their_rules.sql");
        let (overlaps, leases) = (OVERLAPS, LEASE_SECONDS);
        let bounds = [
            (
                first,
                "overlap",
                overlaps.start().to_string(),
                overlaps.end().to_string(),
            ),
            (
                first,
                "lease_seconds",
                leases.start().to_string(),
                leases.end().to_string(),
            ),
            (
                rules,
                "repeat_after_days",
                REPEAT_AFTER_DAYS.start().to_string(),
                REPEAT_AFTER_DAYS.end().to_string(),
            ),
            (
                rules,
                "least_seconds",
                LEAST_SECONDS.start().to_string(),
                LEAST_SECONDS.end().to_string(),
            ),
            (rules, "gold_share", "0".to_owned(), "0.5".to_owned()),
        ];
        for (sql, column, low, high) in bounds {
            let check = format!("CHECK ({column} BETWEEN {low} AND {high})");
            assert!(sql.contains(&check), "{check}");
        }
    }
}
