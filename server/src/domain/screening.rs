//! The test that makes somebody a labeler (InstructGPT, appendix B.1): flags and rankings held against what
//! is known, texts graded by people, and cut-offs.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::domain::gold::Tally;

/// What a candidate may say that they are comfortable to judge.
pub const TOPICS: [&str; 12] = [
    "race",
    "religion",
    "gender",
    "orientation",
    "disability",
    "age",
    "migration",
    "politics",
    "violence",
    "sexual",
    "self_harm",
    "children",
];

/// Longest self-assessment in one's own words, in characters.
pub const LONGEST_WORDS: usize = 2000;

/// Grades of a text.
pub const GRADES: std::ops::RangeInclusive<i16> = 1..=7;

/// How much less than a cut-off still reaches it: what a decimal loses as a binary number.
const TOLERANCE: f64 = 1e-9;

/// Where a screening stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScreeningStatus {
    /// Not begun.
    Invited,
    /// Being worked on.
    Started,
    /// All is done but the grades.
    Waiting,
    /// The candidate is a labeler.
    Passed,
    /// The cut-offs were not reached.
    Failed,
    /// The invitation was taken back.
    Withdrawn,
}

impl ScreeningStatus {
    /// The word stored in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invited => "invited",
            Self::Started => "started",
            Self::Waiting => "waiting",
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Withdrawn => "withdrawn",
        }
    }
}

impl std::str::FromStr for ScreeningStatus {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [
            Self::Invited,
            Self::Started,
            Self::Waiting,
            Self::Passed,
            Self::Failed,
            Self::Withdrawn,
        ];
        let found = all.into_iter().find(|status| status.as_str() == text);
        found.ok_or_else(|| format!("unknown status of a screening {text:?}"))
    }
}

/// What a candidate must reach.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// Share of known flags that they agree with, 0 to 1.
    pub least_flags: f64,
    /// Share of known pairs that they order alike, 0 to 1.
    pub least_ranks: f64,
    /// Mean grade of their texts, 1 to 7.
    pub least_demonstrations: f64,
    /// How many admins grade each text.
    pub graders: i16,
}

impl Rules {
    /// The numbers in one word, by which a page knows whether they are still those that it showed.
    pub fn fingerprint(&self) -> String {
        let Self {
            least_flags,
            least_ranks,
            least_demonstrations,
            graders,
        } = self;
        format!("{least_flags}_{least_ranks}_{least_demonstrations}_{graders}")
    }

    /// What differs, for the audit log: from what to what, by field.
    pub fn changes(&self, old: &Self) -> Value {
        let numbers = |rules: &Self| {
            [
                ("least_flags", rules.least_flags),
                ("least_ranks", rules.least_ranks),
                ("least_demonstrations", rules.least_demonstrations),
                ("graders", f64::from(rules.graders)),
            ]
        };
        let both = numbers(old).into_iter().zip(numbers(self));
        let differing = both.filter(|((_, before), (_, after))| before != after);
        let changes = differing.map(|((name, before), (_, after))| {
            let change = json!({"from": before.to_string(), "to": after.to_string()});
            (name.to_owned(), change)
        });
        Value::Object(changes.collect())
    }
}

/// The paper's "soft cut-offs": 75 % and 6 of 7.
impl Default for Rules {
    fn default() -> Self {
        Self {
            least_flags: 0.75,
            least_ranks: 0.75,
            least_demonstrations: 6.0,
            graders: 1,
        }
    }
}

/// The grades of a candidate's texts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Grades {
    /// Sum over texts of the mean of each one's grades.
    pub sum: f64,
    /// Texts that were asked for.
    pub n: u32,
    /// Grades of all of them.
    pub n_grades: u32,
}

impl Grades {
    /// From the grades of each text that was asked for. A text that was not written, and so has no grade,
    /// counts as the lowest one.
    pub fn of(texts: &[Vec<i16>]) -> Self {
        let mean = |grades: &Vec<i16>| match grades.is_empty() {
            true => f64::from(*GRADES.start()),
            false => {
                grades.iter().map(|grade| f64::from(*grade)).sum::<f64>() / grades.len() as f64
            }
        };
        Self {
            sum: texts.iter().map(mean).sum(),
            n: texts.len() as u32,
            n_grades: texts.iter().map(|grades| grades.len() as u32).sum(),
        }
    }

    /// The mean over texts, 1 to 7; none where none was asked for.
    pub fn mean(&self) -> Option<f64> {
        (self.n > 0).then(|| self.sum / f64::from(self.n))
    }
}

/// The numbers that decide, and the rules they are held against. What was not asked for decides nothing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Flags. What was left open counts as not agreed.
    pub flags: Tally,
    /// Pairs of candidates. What was left open counts as not agreed.
    pub ranks: Tally,
    /// Texts.
    pub demonstrations: Grades,
    /// The cut-offs.
    pub rules: Rules,
}

impl Outcome {
    /// Whether enough flags agree; none where no flag was asked.
    pub fn flags_passed(&self) -> Option<bool> {
        let share = self.flags.share_of_all();
        share.map(|share| share + TOLERANCE >= self.rules.least_flags)
    }

    /// Whether enough pairs agree; none where nothing was ranked.
    pub fn ranks_passed(&self) -> Option<bool> {
        let share = self.ranks.share_of_all();
        share.map(|share| share + TOLERANCE >= self.rules.least_ranks)
    }

    /// Whether the texts are good enough; none where none was asked for.
    pub fn demonstrations_passed(&self) -> Option<bool> {
        let mean = self.demonstrations.mean();
        mean.map(|mean| mean + TOLERANCE >= self.rules.least_demonstrations)
    }

    /// Whether every test that was asked is passed. Nobody passes who was asked nothing.
    pub fn passed(&self) -> bool {
        let tests = [
            self.flags_passed(),
            self.ranks_passed(),
            self.demonstrations_passed(),
        ];
        let asked: Vec<bool> = tests.into_iter().flatten().collect();
        !asked.is_empty() && asked.into_iter().all(|passed| passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(agreed: f64, n: u32, n_open: u32) -> Tally {
        Tally { agreed, n, n_open }
    }

    fn outcome(flags: Tally, ranks: Tally, texts: &[Vec<i16>]) -> Outcome {
        Outcome {
            flags,
            ranks,
            demonstrations: Grades::of(texts),
            rules: Rules::default(),
        }
    }

    #[test]
    fn each_test_that_was_asked_must_be_passed_and_the_cut_off_itself_passes() {
        let good = [vec![6], vec![6, 7, 5]];
        let enough = tally(3.0, 4, 0);
        assert!(outcome(enough, enough, &good).passed());
        assert!(!outcome(tally(2.9, 4, 0), enough, &good).passed());
        assert!(!outcome(enough, tally(2.5, 4, 0), &good).passed());
        assert!(!outcome(enough, enough, &[vec![6], vec![5]]).passed());
        // Not asked is not failed; nothing asked is not passed.
        let nothing = Tally::default();
        assert!(outcome(nothing, enough, &[]).passed());
        assert_eq!(outcome(nothing, enough, &[]).flags_passed(), None);
        assert!(!outcome(nothing, nothing, &[]).passed());
    }

    #[test]
    fn nobody_gains_by_leaving_things_open() {
        // All that was answered is right, but half was left open; a text that was not written counts 1.
        assert!(!outcome(tally(2.0, 2, 2), Tally::default(), &[]).passed());
        let grades = Grades::of(&[vec![7, 7], Vec::new()]);
        assert_eq!(
            (grades.mean(), grades.n, grades.n_grades),
            (Some(4.0), 2, 2)
        );
    }

    #[test]
    fn a_cut_off_is_reached_whatever_its_decimals_lose() {
        let mut close = outcome(tally(0.7 * 10.0, 10, 0), Tally::default(), &[]);
        close.rules.least_flags = 0.7;
        assert!(close.passed());
        // A text with two graders counts once: by its mean.
        let grades = Grades::of(&[vec![5, 7], vec![6]]);
        assert_eq!(grades.mean(), Some(6.0));
    }
}
