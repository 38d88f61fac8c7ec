//! The statistics of labeling: pure functions over slices and small structs, which know no SQL and
//! no page. What goes in is in [`labels`]; prompts, labelers and items are numbers that the caller
//! chooses. What comes out is an [`interval::Estimate`] or holds some: a value, how many it rests
//! on, and a 95 % interval where the data can tell one. Empty or degenerate input gives none, never
//! NaN and no panic.
//!
//! | question | file |
//! |---|---|
//! | How often do labelers order a pair alike: all, each, each two, and each with themselves? | [`agreement`] |
//! | How far do two rankings go together (tau-b, rho), or three and more (W)? | [`correlation`] |
//! | Do ratings, flags and ranks agree beyond chance (alpha, kappa, AC1)? | [`reliability`] |
//! | Which model is better, by how much, how surely (Bradley-Terry, Davidson, Plackett-Luce, win rates)? | [`strengths`] |
//! | Which labeler ranks well, told from the rankings alone? | [`crowd_bt`] |
//! | Which labeler flags well (sensitivity, specificity), and what is probably true? | [`dawid_skene`] |
//! | Does the place on the page decide who comes first? | [`position`] |
//! | Is the longer text preferred? | [`length`] |
//! | How long does it take, in the middle? | [`median`] |
//! | How sure is a share or a mean (Wilson, bootstrap)? | [`interval`] |
//!
//! Intervals resample or cluster by prompt wherever several figures come from one, since they hang
//! together. A bootstrap is seeded: the same labels and seed give the same interval. The numbers
//! are checked against published examples and against other programs
//! (`tests/fixtures/statistics.py`).

pub mod agreement;
pub mod correlation;
pub mod crowd_bt;
pub mod dawid_skene;
pub mod interval;
pub mod labels;
pub mod length;
pub mod median;
pub mod position;
pub mod reliability;
pub mod strengths;

mod linear;

#[cfg(test)]
mod fixtures;
