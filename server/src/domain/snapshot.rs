//! What a snapshot freezes and in which formats it is written out.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::domain::ids::ProjectId;

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

    /// The formats this kind can be written in; the first is the one that is hashed.
    pub fn formats(self) -> &'static [ExportFormat] {
        match self {
            Self::Rankings => &[ExportFormat::Plackett, ExportFormat::Trl],
            _ => &[ExportFormat::Plackett],
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

/// How a snapshot is written out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// Our own JSONL, named after the snapshot's kind: what the trainer reads and the hash covers.
    Plackett,
    /// Preference pairs as TRL reads them.
    Trl,
}

impl ExportFormat {
    /// The word for URLs and `--format`.
    pub fn word(self, kind: SnapshotKind) -> &'static str {
        match self {
            Self::Plackett => kind.as_str(),
            Self::Trl => "trl",
        }
    }

    /// The format of a word for a snapshot of `kind`.
    ///
    /// # Errors
    /// A sentence that lists the words this kind takes.
    pub fn parse(word: &str, kind: SnapshotKind) -> Result<Self, String> {
        let formats = kind.formats();
        let found = formats.iter().find(|format| format.word(kind) == word);
        found.copied().ok_or_else(|| {
            let words: Vec<_> = formats.iter().map(|format| format.word(kind)).collect();
            format!(
                "a snapshot of {kind} has no format {word:?}: use {}",
                words.join(" or ")
            )
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

/// `train` or `validation`, decided by the prompt's id alone, so that every ranking of a prompt
/// falls on the same side in every snapshot.
pub fn split_of(prompt_external_id: &str) -> &'static str {
    let digest = Sha256::digest(prompt_external_id.as_bytes());
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
    fn each_kind_takes_its_own_format_and_only_rankings_take_trl() {
        for kind in SnapshotKind::ALL {
            assert_eq!(kind.as_str().parse::<SnapshotKind>().unwrap(), kind);
            let own = ExportFormat::parse(kind.as_str(), kind).unwrap();
            assert_eq!(own, ExportFormat::Plackett);
        }
        assert!(ExportFormat::parse("trl", SnapshotKind::Rankings).is_ok());
        let message = ExportFormat::parse("trl", SnapshotKind::Prompts).unwrap_err();
        assert!(message.ends_with("use prompts"), "{message}");
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
