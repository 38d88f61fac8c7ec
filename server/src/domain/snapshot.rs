//! What a snapshot freezes.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::domain::ids::ProjectId;
use crate::domain::snapshot_filters::Filters;

/// What a snapshot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SnapshotKind {
    /// The newest version of each submitted ranking.
    Rankings,
    /// Demonstrations.
    Demonstrations,
    /// Prompts alone.
    Prompts,
    /// Plain texts of the pretraining mix.
    Texts,
}

impl SnapshotKind {
    /// Every kind, in the order pages list them.
    pub const ALL: [Self; 4] = [
        Self::Rankings,
        Self::Demonstrations,
        Self::Prompts,
        Self::Texts,
    ];

    /// The word stored in the database and used in URLs and forms.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rankings => "rankings",
            Self::Demonstrations => "demonstrations",
            Self::Prompts => "prompts",
            Self::Texts => "texts",
        }
    }
}

impl fmt::Display for SnapshotKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for SnapshotKind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| {
                format!("unknown kind {text:?}: use rankings, demonstrations, prompts or texts")
            })
    }
}

/// Which labels a snapshot of rankings takes, where somebody decided between labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Labels {
    /// The newest decision of a task in place of its labels; labels where there is none.
    #[default]
    Adjudicated,
    /// Labels and decisions.
    All,
    /// Labels alone.
    Labels,
}

impl Labels {
    /// Every choice, in the order pages list them.
    pub const ALL: [Self; 3] = [Self::Adjudicated, Self::All, Self::Labels];

    /// The word stored in the database and used in forms.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Adjudicated => "adjudicated",
            Self::All => "all",
            Self::Labels => "labels",
        }
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Labels {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|labels| labels.as_str() == text)
            .ok_or_else(|| {
                format!("unknown choice of labels {text:?}: use adjudicated, all or labels")
            })
    }
}

/// Which rows a snapshot freezes.
#[derive(Debug, Clone)]
pub struct Selection {
    /// The project they belong to.
    pub project_id: ProjectId,
    /// What to freeze.
    pub kind: SnapshotKind,
    /// The name shown and used for files; one that is taken gets a number.
    pub name: String,
    /// Only these categories; empty for all. Texts have none.
    pub categories: Vec<String>,
    /// Whether what simulated labelers said is taken too.
    pub include_simulated: bool,
    /// Whether a prompt's category is that of its newest review, where it has one; then `categories`
    /// chooses by it, too. Demonstrations keep theirs.
    pub reviewed_categories: bool,
    /// Whether prompts in which a reviewer found personal data are taken too, with their rankings and
    /// demonstrations.
    pub include_personal: bool,
    /// Of rankings: what becomes of labels that somebody decided between.
    pub labels: Labels,
    /// Which tasks and labelers are left out.
    pub filters: Filters,
}

/// The name wanted, or with the first number that makes it one that no other snapshot has: taking
/// the same selection again is everyday work, and two of one name could not be told apart.
pub fn free_name(wanted: &str, taken: &[String]) -> String {
    let mut name = wanted.to_owned();
    let mut number = 2;
    while taken.contains(&name) {
        name = format!("{wanted} ({number})");
        number += 1;
    }
    name
}

/// Of ten prompts, this many are held out for validation: a fifth, as the trainer does by itself,
/// since with less a small study's accuracy says little.
const HELD_OUT_IN_TEN: u8 = 2;

/// `train` or `validation`, decided by the name of a unit alone, so that all of it falls on the same side in
/// every snapshot: a customer, whose prompts resemble each other, or a prompt where no customer is known.
pub fn split_of(unit: &str) -> &'static str {
    let digest = Sha256::digest(unit.as_bytes());
    if digest[0] % 10 < HELD_OUT_IN_TEN {
        "validation"
    } else {
        "train"
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn a_kind_is_read_as_it_is_written() {
        for kind in SnapshotKind::ALL {
            assert_eq!(kind.as_str().parse::<SnapshotKind>().unwrap(), kind);
        }
    }

    #[test]
    fn a_name_that_is_taken_gets_the_first_free_number() {
        let taken = ["May", "May (3)", "May be"].map(str::to_owned);
        assert_eq!(free_name("June", &taken), "June");
        assert_eq!(free_name("May", &taken), "May (2)");
        let more = [&taken[..], &["May (2)".to_owned()]].concat();
        assert_eq!(free_name("May", &more), "May (4)");
    }

    #[test]
    fn about_a_fifth_of_the_prompts_is_held_out() {
        let held_out = (0..2000)
            .filter(|index| split_of(&format!("prompt-{index}")) == "validation")
            .count();
        assert!((330..=480).contains(&held_out), "{held_out}");
    }
}
