//! How far ratings by several labelers can be relied on: agreement beyond what chance would give.
//!
//! - [`krippendorff_alpha`]: any scale, any number of labelers, missing values; the choice for
//!   Likert ratings and, by [`alpha_of_ranks`], for rankings.
//! - [`cohen_kappa`]: two labelers, categories.
//! - [`fleiss_kappa`]: any number of labelers, categories.
//! - [`gwet_ac1`]: as Fleiss' kappa, but steady where nearly all answers are the same, as with rare
//!   flags: there the kappas fall to 0 although labelers almost always agree.
//!
//! Where a labeler rated a unit more than once, the last rating in the slice counts.

mod alpha;
mod kappa;

pub use self::alpha::{Alpha, Scale, alpha_of_ranks, krippendorff_alpha, krippendorff_alpha_by};
pub use self::kappa::{
    Kappa, cohen_kappa, fleiss_kappa, fleiss_kappa_by, gwet_ac1, gwet_ac1_by, rated_by_both,
};

use super::labels::Rating;

/// Values of each unit, one for each labeler who rated it; units in ascending order.
fn by_unit(ratings: &[Rating]) -> Vec<(usize, Vec<i32>)> {
    let mut sorted: Vec<&Rating> = ratings.iter().collect();
    // Stable: of one labeler the last stays last.
    sorted.sort_by_key(|rating| (rating.unit, rating.labeler));
    let units = sorted.chunk_by(|a, b| a.unit == b.unit);
    units
        .map(|own| {
            let labelers = own.chunk_by(|a, b| a.labeler == b.labeler);
            let values = labelers.filter_map(|said| said.last().map(|rating| rating.value));
            (own[0].unit, values.collect())
        })
        .collect()
}

/// The different values, in ascending order.
fn categories(units: &[(usize, Vec<i32>)]) -> Vec<i32> {
    let all = units.iter().flat_map(|(_, values)| values).copied();
    let mut categories: Vec<i32> = all.collect();
    categories.sort_unstable();
    categories.dedup();
    categories
}

/// The place of a value among the categories that hold it.
fn place(categories: &[i32], value: i32) -> usize {
    categories.partition_point(|category| *category < value)
}

#[cfg(test)]
mod tests;
