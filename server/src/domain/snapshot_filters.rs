//! Which tasks and labelers a snapshot leaves out on purpose, and how many that were.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::agreement::Agreement;
use crate::domain::ids::{AccountId, TaskId};
use crate::stats::agreement::{Counts, TiePolicy};

/// What a snapshot leaves out. Kept with it, so that a reader learns how it was chosen. Labels that were
/// withdrawn are left out whatever is chosen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Filters {
    /// Of rankings: tasks whose labelers agree on less than this share of pairs, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least_agreement: Option<f64>,
    /// How a tie counts in that share and in `least_gold`: `left_out`, `half` or `category`.
    #[schema(value_type = String)]
    pub ties: TiePolicy,
    /// With `least_agreement`: also tasks of which no agreement can be told, with one label for example.
    #[serde(skip_serializing_if = "is_false")]
    pub without_single: bool,
    /// Labelers who agree with gold on less than this share of pairs, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least_gold: Option<f64>,
    /// Labelers whose quality is below this, 0 to 1; 0.5 is who guesses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least_quality: Option<f64>,
    /// With either: also labelers of whom too little is known to tell it.
    #[serde(skip_serializing_if = "is_false")]
    pub without_unproven: bool,
    /// Labelers who are named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub without_labelers: Vec<AccountId>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape that serde wants"
)]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape that serde wants"
)]
fn is_zero(n: &i64) -> bool {
    *n == 0
}

impl Filters {
    /// Whether nothing but withdrawn labels is left out.
    pub fn is_empty(&self) -> bool {
        self.least_agreement.is_none()
            && self.least_gold.is_none()
            && self.least_quality.is_none()
            && self.without_labelers.is_empty()
    }

    /// The fields that cannot be meant: a share outside 0 to 1.
    pub fn wrong_fields(&self) -> Vec<&'static str> {
        let shares = [
            ("least_agreement", self.least_agreement),
            ("least_gold", self.least_gold),
            ("least_quality", self.least_quality),
        ];
        let wrong = shares
            .into_iter()
            .filter(|(_, share)| share.is_some_and(|share| !(0.0..=1.0).contains(&share)));
        wrong.map(|(field, _)| field).collect()
    }

    /// Whether figures of labelers decide.
    pub fn needs_figures(&self) -> bool {
        self.least_gold.is_some() || self.least_quality.is_some()
    }

    /// Labelers whose figure is below what is wanted: by gold first, by quality then.
    pub fn poor_labelers(&self, figures: &Agreement) -> (Vec<AccountId>, Vec<AccountId>) {
        let is_poor = |least: Option<f64>, value: Option<f64>| match (least, value) {
            (None, _) => false,
            (Some(least), Some(value)) => value < least,
            (Some(_), None) => self.without_unproven,
        };
        let (mut by_gold, mut by_quality) = (Vec::new(), Vec::new());
        for labeler in &figures.labelers {
            if is_poor(self.least_gold, labeler.gold.value) {
                by_gold.push(labeler.labeler_id);
            } else if is_poor(self.least_quality, labeler.quality.value) {
                by_quality.push(labeler.labeler_id);
            }
        }
        (by_gold, by_quality)
    }
}

/// How many were left out, by reason; a labeler counts for the first that fits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct LeftOut {
    /// Labelers whose labels are withdrawn.
    #[serde(skip_serializing_if = "is_zero")]
    pub labelers_withdrawn: i64,
    /// Labelers who were named.
    #[serde(skip_serializing_if = "is_zero")]
    pub labelers_named: i64,
    /// Labelers who agree too little with gold.
    #[serde(skip_serializing_if = "is_zero")]
    pub labelers_gold: i64,
    /// Labelers of too little quality.
    #[serde(skip_serializing_if = "is_zero")]
    pub labelers_quality: i64,
    /// Tasks on which labelers agree too little.
    #[serde(skip_serializing_if = "is_zero")]
    pub tasks_agreement: i64,
    /// Tasks of which no agreement can be told.
    #[serde(skip_serializing_if = "is_zero")]
    pub tasks_single: i64,
}

impl LeftOut {
    /// Each reason with how many, where there are any.
    pub fn reasons(&self) -> Vec<(&'static str, i64)> {
        let all = [
            ("labelers-withdrawn", self.labelers_withdrawn),
            ("labelers-named", self.labelers_named),
            ("labelers-gold", self.labelers_gold),
            ("labelers-quality", self.labelers_quality),
            ("tasks-agreement", self.tasks_agreement),
            ("tasks-single", self.tasks_single),
        ];
        all.into_iter().filter(|(_, n)| *n > 0).collect()
    }
}

/// What stays out of a snapshot.
#[derive(Debug, Clone, Default)]
pub struct Exclusions {
    /// Whoever said it.
    pub labelers: Vec<AccountId>,
    /// Whole tasks.
    pub tasks: Vec<TaskId>,
    /// How many, by reason.
    pub left_out: LeftOut,
}

/// The share of pairs of completions that the labelers of one task order alike, over each two of its
/// rankings: the pairwise agreement of `docs/agreement.md`, of one task. None where the policy on ties counts
/// no pair, as with a single ranking.
pub fn agreement_of_task(rankings: &[Vec<Option<i16>>], ties: TiePolicy) -> Option<f64> {
    let mut all = Counts::default();
    for (index, one) in rankings.iter().enumerate() {
        for other in &rankings[index + 1..] {
            let counts = Counts::of(one, other);
            all.same += counts.same;
            all.opposite += counts.opposite;
            all.one_tie += counts.one_tie;
            all.both_tie += counts.both_tie;
        }
    }
    all.share(ties)
}

/// Sees the rankings of a project, those of a task one after the other, and keeps which tasks to leave out.
pub struct Sieve<'a> {
    filters: &'a Filters,
    least: f64,
    task: Option<TaskId>,
    rankings: Vec<Vec<Option<i16>>>,
}

impl<'a> Sieve<'a> {
    /// None where agreement does not decide.
    pub fn new(filters: &'a Filters) -> Option<Self> {
        Some(Self {
            filters,
            least: filters.least_agreement?,
            task: None,
            rankings: Vec::new(),
        })
    }

    /// The next ranking: ranks in slot order, none for a candidate that was left unranked.
    pub fn see(&mut self, task: TaskId, ranks: Vec<Option<i16>>, exclusions: &mut Exclusions) {
        if self.task != Some(task) {
            self.end(exclusions);
            self.task = Some(task);
        }
        self.rankings.push(ranks);
    }

    /// No ranking of the task comes after this.
    pub fn end(&mut self, exclusions: &mut Exclusions) {
        let rankings = std::mem::take(&mut self.rankings);
        let Some(task) = self.task.take() else {
            return;
        };
        match agreement_of_task(&rankings, self.filters.ties) {
            Some(share) if share < self.least => exclusions.left_out.tasks_agreement += 1,
            None if self.filters.without_single => exclusions.left_out.tasks_single += 1,
            _ => return,
        }
        exclusions.tasks.push(task);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn ranks(ranks: &[i16]) -> Vec<Option<i16>> {
        ranks
            .iter()
            .map(|rank| (*rank > 0).then_some(*rank))
            .collect()
    }

    #[test]
    fn agreement_of_a_task_is_the_share_of_pairs_over_each_two_of_its_rankings() {
        let all = [ranks(&[1, 2, 3]), ranks(&[1, 3, 2]), ranks(&[1, 2, 3])];
        // Of nine pairs, the first and second ranking differ in one, the second and third in one.
        let share = agreement_of_task(&all, TiePolicy::LeftOut).unwrap();
        assert!((share - 7.0 / 9.0).abs() < 1e-12, "{share}");
        let tied = [ranks(&[1, 1, 2]), ranks(&[1, 2, 3])];
        assert_eq!(agreement_of_task(&tied, TiePolicy::LeftOut), Some(1.0));
        assert_eq!(agreement_of_task(&tied, TiePolicy::Half), Some(2.5 / 3.0));
        assert_eq!(
            agreement_of_task(&tied, TiePolicy::Category),
            Some(2.0 / 3.0)
        );
        // What one left unranked is in no pair.
        let part = [ranks(&[1, 2, 0]), ranks(&[1, 2, 3])];
        assert_eq!(agreement_of_task(&part, TiePolicy::LeftOut), Some(1.0));
    }

    #[test]
    fn what_has_no_pair_has_no_agreement() {
        assert_eq!(agreement_of_task(&[ranks(&[1, 2])], TiePolicy::Half), None);
        let tied = [ranks(&[1, 1]), ranks(&[1, 1])];
        assert_eq!(agreement_of_task(&tied, TiePolicy::LeftOut), None);
        assert_eq!(agreement_of_task(&tied, TiePolicy::Half), Some(1.0));
    }

    #[test]
    fn a_sieve_leaves_out_who_agrees_too_little_and_single_labels_only_where_that_is_asked() {
        let (alone, alike, apart) = (TaskId::new(), TaskId::new(), TaskId::new());
        let seen = |filters: &Filters| {
            let mut found = Exclusions::default();
            let mut sieve = Sieve::new(filters).unwrap();
            sieve.see(alone, ranks(&[1, 2]), &mut found);
            sieve.see(alike, ranks(&[1, 2]), &mut found);
            sieve.see(alike, ranks(&[1, 2]), &mut found);
            sieve.see(apart, ranks(&[1, 2]), &mut found);
            sieve.see(apart, ranks(&[2, 1]), &mut found);
            sieve.end(&mut found);
            found
        };
        let half = Filters {
            least_agreement: Some(0.5),
            ..Filters::default()
        };
        assert_eq!(seen(&half).tasks, [apart]);
        let strict = Filters {
            without_single: true,
            ..half
        };
        let found = seen(&strict);
        assert_eq!(found.tasks, [alone, apart]);
        assert_eq!(
            (found.left_out.tasks_single, found.left_out.tasks_agreement),
            (1, 1)
        );
        assert!(Sieve::new(&Filters::default()).is_none());
    }

    #[test]
    fn a_share_is_from_nought_to_one_and_the_field_is_named() {
        let filters = Filters {
            least_agreement: Some(70.0),
            least_gold: Some(0.7),
            least_quality: Some(f64::NAN),
            ..Filters::default()
        };
        assert_eq!(filters.wrong_fields(), ["least_agreement", "least_quality"]);
    }
}
