//! What labelers said in a project, as the figures of agreement and of models read it: rows with small
//! numbers in the place of ids, so that the statistics can take them as they are.

use std::collections::HashMap;

use chrono::{DateTime, Datelike, Days, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use crate::domain::gold::{Facts, GoldAnswer};
use crate::domain::ids::{AccountId, CheckpointId, CompletionId, PromptId, RankingId, TaskId};
use crate::domain::prompt::CATEGORIES;
use crate::domain::task::{Purpose, TaskKind};
use crate::error::FieldError;
use crate::message::Message;
use crate::stats::labels;

/// Longest language tag that is read.
const LONGEST_TAG: usize = 35;

/// Which labels are looked at. Everything may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    /// Said on this day, UTC, or later.
    pub since: Option<NaiveDate>,
    /// Said on this day, UTC, or before.
    pub until: Option<NaiveDate>,
    /// Use-case category of the prompt.
    pub category: Option<String>,
    /// Language of the prompt.
    pub language: Option<String>,
    /// What was done.
    pub kind: Option<TaskKind>,
    /// Version of the form.
    pub form_version: Option<i32>,
    /// Whether what simulated labelers said is looked at too.
    pub with_simulated: bool,
}

/// A filter as an address has it; what is empty does not narrow.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterInput {
    /// A day, as 2026-11-26.
    #[serde(default)]
    pub since: String,
    /// A day, as 2026-11-26.
    #[serde(default)]
    pub until: String,
    /// A category.
    #[serde(default)]
    pub category: String,
    /// A language tag.
    #[serde(default)]
    pub language: String,
    /// `rank` or `compare`.
    #[serde(default)]
    pub kind: String,
    /// A number.
    #[serde(default)]
    pub form_version: String,
    /// `true` to look at simulated labelers too.
    #[serde(default)]
    pub simulated: String,
}

impl FilterInput {
    /// The filter that it says.
    ///
    /// # Errors
    /// Every field that is wrong.
    pub fn parse(&self) -> Result<Filter, Vec<FieldError>> {
        let mut errors = Vec::new();
        let mut refuse = |field: &str, key: &'static str| {
            errors.push(FieldError::new(field, Message::new(key)));
        };
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let mut day = |field: &str, text: &str| {
            let day = given(text).map(|text| text.parse::<NaiveDate>().ok());
            // Past these years a day is a slip, and the database refuses it.
            let day = day.map(|day| day.filter(|day| (1970..=9999).contains(&day.year())));
            if day == Some(None) {
                refuse(field, "error-not-a-day");
            }
            day.flatten()
        };
        let (since, until) = (day("since", &self.since), day("until", &self.until));
        if matches!((since, until), (Some(since), Some(until)) if until < since) {
            refuse("until", "error-until-before-since");
        }
        let category = given(&self.category);
        if category
            .as_deref()
            .is_some_and(|word| !CATEGORIES.contains(&word))
        {
            refuse("category", "error-unknown-choice");
        }
        let kind = given(&self.kind).map(|word| word.parse().ok());
        if !matches!(kind, None | Some(Some(TaskKind::Rank | TaskKind::Compare))) {
            refuse("kind", "error-unknown-choice");
        }
        let language = given(&self.language);
        let is_tag = |tag: &str| {
            tag.len() <= LONGEST_TAG
                && tag
                    .chars()
                    .all(|own| own.is_ascii_alphanumeric() || own == '-')
        };
        if language.as_deref().is_some_and(|tag| !is_tag(tag)) {
            refuse("language", "error-unknown-choice");
        }
        let form_version = given(&self.form_version).map(|text| text.parse().ok());
        if form_version == Some(None) {
            refuse("form_version", "error-not-a-number");
        }
        if !["", "true", "false"].contains(&self.simulated.as_str()) {
            refuse("simulated", "error-unknown-choice");
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Filter {
            since,
            until,
            category,
            language,
            kind: kind.flatten(),
            form_version: form_version.flatten(),
            with_simulated: self.simulated == "true",
        })
    }
}

/// Somebody who said something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Labeler {
    /// Whose account.
    pub id: AccountId,
    /// The name shown.
    pub name: String,
    /// Whether it is a program.
    pub is_simulated: bool,
}

/// A completion that was ranked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// Key.
    pub id: CompletionId,
    /// Which prompt it answers, a number.
    pub prompt: usize,
    /// Its place among the ranked completions of its prompt.
    pub place: usize,
    /// Bytes of its text; which of two is longer is all that counts.
    pub length: usize,
    /// Which model made it, a number.
    pub model: usize,
}

/// What made a completion. Never told to labelers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Model {
    /// The name it was stored with.
    pub name: String,
    /// Its checkpoint, where it has one here.
    pub checkpoint_id: Option<CheckpointId>,
}

/// What was said of one completion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Which completion, a number.
    pub completion: usize,
    /// Its slot in the task.
    pub slot: i16,
    /// Its rank; none where it could not be judged.
    pub rank: Option<i16>,
    /// Answered scales by number; the overall rating is number 0.
    pub scales: Vec<(usize, i16)>,
    /// Answered flags by number.
    pub flags: Vec<(usize, bool)>,
}

/// A ranking: the newest version, and of gold tasks and repeats the first, which is what the labeler said
/// before anything could tell them more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Key.
    pub id: RankingId,
    /// Whose, a number.
    pub labeler: usize,
    /// Of which prompt, a number.
    pub prompt: usize,
    /// Its task.
    pub task: TaskId,
    /// The task that this one repeats.
    pub repeat_of: Option<TaskId>,
    /// What the task is there for.
    pub purpose: Purpose,
    /// A decision between conflicting labels.
    pub is_adjudication: bool,
    /// Of the form it was given under.
    pub form_version: i32,
    /// When it was said.
    pub at: DateTime<Utc>,
    /// Milliseconds of work until first submitted, as the browser counted; none where nothing counted them.
    pub active_ms: Option<i64>,
    /// The ranks are the order shown; none where that says nothing: of two, of an import, of a program.
    pub is_untouched: Option<bool>,
    /// It took less time than anybody needs; none of an import and of a program.
    pub is_too_fast: Option<bool>,
    /// Slots in the order shown; empty where that is not known, of a file that does not say.
    pub display_order: Vec<i16>,
    /// One for each candidate, by slot.
    pub said: Vec<Said>,
}

/// All that was said and passed the filter.
#[derive(Debug, Clone, Default)]
pub struct Labels {
    /// The rankings, newest first.
    pub labels: Vec<Label>,
    /// The rankings that repeated ones are compared with, whether they passed the filter or not.
    pub originals: Vec<Label>,
    /// By number.
    pub labelers: Vec<Labeler>,
    /// Categories of prompts, by number.
    pub categories: Vec<String>,
    /// By number.
    pub completions: Vec<Completion>,
    /// By number.
    pub models: Vec<Model>,
    /// Keys of flags, by number.
    pub flags: Vec<String>,
    /// Keys of scales, by number; the first is the overall rating.
    pub scales: Vec<String>,
    /// What is right, by gold task.
    pub gold: HashMap<TaskId, GoldAnswer>,
    /// Whether there are more that were not read.
    pub is_cut: bool,
}

impl Labels {
    /// When the newest of these was said.
    pub fn newest(&self) -> Option<DateTime<Utc>> {
        self.labels.iter().map(|label| label.at).max()
    }

    /// Rankings for the dataset: no gold, no repeats, no decisions of admins.
    pub fn labels(&self) -> impl Iterator<Item = &Label> {
        self.of(Purpose::Label)
    }

    /// Rankings of tasks of a purpose, without decisions of admins.
    pub fn of(&self, purpose: Purpose) -> impl Iterator<Item = &Label> {
        let own = self.labels.iter();
        own.filter(move |label| label.purpose == purpose && !label.is_adjudication)
    }

    /// How many completions of each prompt were ranked.
    pub fn places(&self) -> Vec<usize> {
        let mut places = vec![0; self.categories.len()];
        for completion in &self.completions {
            let own = &mut places[completion.prompt];
            *own = (*own).max(completion.place + 1);
        }
        places
    }

    /// What a ranking says, as it is held against what is known.
    pub fn facts(&self, label: &Label) -> Vec<Facts> {
        let facts = label.said.iter().map(|said| {
            let flags = said.flags.iter();
            let flags = flags.filter_map(|(flag, value)| Some((self.flags.get(*flag)?, *value)));
            Facts {
                slot: said.slot,
                rank: said.rank,
                flags: flags.map(|(flag, value)| (flag.clone(), value)).collect(),
            }
        });
        facts.collect()
    }

    /// A ranking as the statistics read it; `places` is [`Labels::places`].
    pub fn ranking(&self, label: &Label, places: &[usize]) -> labels::Ranking {
        let mut ranks = vec![None; places[label.prompt]];
        for said in &label.said {
            ranks[self.completions[said.completion].place] = said.rank;
        }
        labels::Ranking {
            prompt: label.prompt,
            labeler: label.labeler,
            ranks,
        }
    }
}

impl Label {
    /// The ranks in the order shown; none where one could not be judged or the order is not known.
    pub fn ranks_as_shown(&self) -> Option<Vec<i16>> {
        if self.display_order.is_empty() {
            return None;
        }
        let rank = |slot: &i16| self.said.iter().find(|said| said.slot == *slot)?.rank;
        self.display_order.iter().map(rank).collect()
    }

    /// Pairs of candidates with the same rank, and all pairs.
    pub fn ties(&self) -> (usize, usize) {
        let ranks: Vec<i16> = self.said.iter().filter_map(|said| said.rank).collect();
        let pairs = (0..ranks.len()).flat_map(|a| (a + 1..ranks.len()).map(move |b| (a, b)));
        pairs.fold((0, 0), |(ties, all), (a, b)| {
            (ties + usize::from(ranks[a] == ranks[b]), all + 1)
        })
    }

    /// The Monday of the week in which it was said, UTC.
    pub fn week(&self) -> NaiveDate {
        let day = self.at.date_naive();
        let since_monday = Days::new(u64::from(day.weekday().num_days_from_monday()));
        day.checked_sub_days(since_monday).unwrap_or(day)
    }
}

/// Gives small numbers to things as they come.
#[derive(Debug)]
pub struct Numbers<T> {
    known: HashMap<T, usize>,
    /// The things, by number.
    pub all: Vec<T>,
}

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Self {
            known: HashMap::new(),
            all: Vec::new(),
        }
    }
}

impl<T: Clone + Eq + std::hash::Hash> Numbers<T> {
    /// The number of a thing.
    pub fn of(&mut self, thing: &T) -> usize {
        if let Some(number) = self.known.get(thing) {
            return *number;
        }
        let number = self.all.len();
        self.known.insert(thing.clone(), number);
        self.all.push(thing.clone());
        number
    }

    /// The number of a thing that has come.
    pub fn find(&self, thing: &T) -> Option<usize> {
        self.known.get(thing).copied()
    }
}

/// Numbers of prompts as they come.
pub type PromptNumbers = Numbers<PromptId>;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn an_empty_filter_narrows_nothing_and_every_wrong_field_is_named() {
        assert_eq!(FilterInput::default().parse().unwrap(), Filter::default());
        let input = FilterInput {
            since: "2026-11-02".to_owned(),
            until: "2026-11-29".to_owned(),
            category: "chat".to_owned(),
            language: "zh-Hans".to_owned(),
            kind: "compare".to_owned(),
            form_version: "3".to_owned(),
            simulated: "true".to_owned(),
        };
        let filter = input.parse().unwrap();
        assert_eq!(filter.since, NaiveDate::from_ymd_opt(2026, 11, 2));
        assert_eq!(filter.kind, Some(TaskKind::Compare));
        assert_eq!(
            (filter.form_version, filter.with_simulated),
            (Some(3), true)
        );
        let wrong = FilterInput {
            since: "yesterday".to_owned(),
            until: "2026-13-01".to_owned(),
            category: "poetry".to_owned(),
            language: "en'; DROP".to_owned(),
            kind: "review".to_owned(),
            form_version: "two".to_owned(),
            simulated: "perhaps".to_owned(),
        };
        let errors = wrong.parse().unwrap_err();
        let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        let expected = [
            "since",
            "until",
            "category",
            "kind",
            "language",
            "form_version",
            "simulated",
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn days_are_of_our_time_and_the_last_is_not_before_the_first() {
        let fields = |since: &str, until: &str| {
            let input = FilterInput {
                since: since.to_owned(),
                until: until.to_owned(),
                ..FilterInput::default()
            };
            let errors = input.parse().err().unwrap_or_default();
            errors
                .into_iter()
                .map(|error| error.field)
                .collect::<Vec<_>>()
        };
        assert_eq!(fields("2026-11-02", "2026-11-02"), [""; 0]);
        assert_eq!(fields("2026-11-03", "2026-11-02"), ["until"]);
        assert_eq!(fields("-5000-01-01", "2026-11-02"), ["since"]);
        assert_eq!(fields("1969-12-31", "+10000-01-01"), ["since", "until"]);
    }

    fn label(display_order: &[i16], ranks: &[Option<i16>], at: &str) -> Label {
        let said = |(slot, rank): (usize, &Option<i16>)| Said {
            completion: slot,
            slot: slot as i16,
            rank: *rank,
            scales: Vec::new(),
            flags: Vec::new(),
        };
        Label {
            id: RankingId::new(),
            labeler: 0,
            prompt: 0,
            task: TaskId::new(),
            repeat_of: None,
            purpose: Purpose::Label,
            is_adjudication: false,
            form_version: 1,
            at: at.parse().unwrap(),
            active_ms: None,
            is_untouched: None,
            is_too_fast: None,
            display_order: display_order.to_vec(),
            said: ranks.iter().enumerate().map(said).collect(),
        }
    }

    #[test]
    fn ranks_are_told_in_the_order_shown_and_a_week_begins_on_monday() {
        let own = label(
            &[2, 0, 1],
            &[Some(1), Some(2), Some(2)],
            "2026-11-29T23:59:59Z",
        );
        assert_eq!(own.ranks_as_shown(), Some(vec![2, 1, 2]));
        assert_eq!(own.ties(), (1, 3));
        assert_eq!(Some(own.week()), NaiveDate::from_ymd_opt(2026, 11, 23));
        let own = label(&[0, 1], &[Some(1), None], "2026-11-30T00:00:00Z");
        assert_eq!((own.ranks_as_shown(), own.ties()), (None, (0, 0)));
        let own = label(&[], &[Some(1), Some(2)], "2026-11-30T00:00:00Z");
        assert_eq!((own.ranks_as_shown(), own.ties()), (None, (0, 1)));
        assert_eq!(Some(own.week()), NaiveDate::from_ymd_opt(2026, 11, 30));
    }
}
