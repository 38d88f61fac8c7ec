//! How tasks come into being at an admin's word: what is ordered, and which completions of a prompt
//! become the candidates of which task.

use rand::SeedableRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha12Rng;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::domain::ids::{CompletionId, PromptId};
use crate::domain::language::primary_tag;
use crate::domain::prompt::category_complaint;
use crate::domain::ranking::CANDIDATES;
use crate::domain::task::{BriefKind, TaskKind, words};
use crate::domain::writing::{Brief, LONGEST_TEXT};
use crate::error::FieldError;
use crate::message::Message;

/// Most tasks that are opened at once.
pub const MOST_TASKS: usize = 100_000;

/// Most labelers that a task is given to.
pub const MOST_OVERLAP: i16 = 100;

words! {
    /// What labelers are to do.
    Work ("kind of work") {
        /// Rank completions of a prompt.
        Rank = "rank",
        /// Compare two completions of a prompt.
        Compare = "compare",
        /// Answer a prompt.
        Answer = "answer",
        /// Write a prompt and its answer.
        Own = "own",
        /// Write pairs that follow an instruction.
        FewShot = "few_shot",
        /// Write a prompt that fits a use case, and its answer.
        UserBased = "user_based",
        /// Say what a prompt is.
        Review = "review",
    }
}

impl Work {
    /// The kind of task that it is done in.
    pub fn kind(self) -> TaskKind {
        match self {
            Self::Rank => TaskKind::Rank,
            Self::Compare => TaskKind::Compare,
            Self::Answer | Self::Own | Self::FewShot | Self::UserBased => TaskKind::Demonstrate,
            Self::Review => TaskKind::Review,
        }
    }

    /// Whether there is a task for each of some prompts; otherwise for each of some texts.
    pub fn is_of_prompts(self) -> bool {
        matches!(
            self,
            Self::Rank | Self::Compare | Self::Answer | Self::Review
        )
    }

    /// Whether the tasks have candidates.
    pub fn has_candidates(self) -> bool {
        matches!(self, Self::Rank | Self::Compare)
    }

    /// How the demonstration comes about, where one is written.
    pub fn brief_kind(self) -> Option<BriefKind> {
        match self {
            Self::Answer | Self::Own => Some(BriefKind::Plain),
            Self::FewShot => Some(BriefKind::FewShot),
            Self::UserBased => Some(BriefKind::UserBased),
            Self::Rank | Self::Compare | Self::Review => None,
        }
    }
}

/// A text that a task of writing begins with: an instruction or a use case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenText {
    /// The text.
    pub text: String,
    /// Its language, where it says so itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
}

/// What an admin orders.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// What labelers are to do.
    pub work: Work,
    /// Of prompts: only these categories; empty is all.
    pub categories: Vec<String>,
    /// Of prompts: only this language. Of other tasks: the language of those who may take them.
    pub language: Option<String>,
    /// Of prompts: only from this source.
    pub source: Option<String>,
    /// At most so many prompts; of tasks without prompts and texts, so many.
    pub most: Option<usize>,
    /// Only prompts, or texts, without such a task.
    pub only_new: bool,
    /// Candidates: so many at random; none is all completions of the prompt.
    pub n_candidates: Option<usize>,
    /// Of comparisons: one pair at random instead of all pairs.
    pub one_pair: bool,
    /// Instructions or use cases, one for each task.
    pub texts: Vec<GivenText>,
    /// Labelers of each task; none is as the project has it for the prompt's category.
    pub overlap: Option<i16>,
}

impl Order {
    /// Everything that is wrong with it.
    pub fn complaints(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut complain = |field: &str, message: Message| {
            errors.push(FieldError::new(field, message));
        };
        if let Some(message) = self
            .categories
            .iter()
            .find_map(|word| category_complaint(word))
        {
            complain("categories", message);
        }
        let outside = |low: usize, high: usize| {
            Message::new("error-outside")
                .with("low", low)
                .with("high", high)
        };
        if self
            .most
            .is_some_and(|most| !(1..=MOST_TASKS).contains(&most))
        {
            complain("most", outside(1, MOST_TASKS));
        }
        if let Some(overlap) = self.overlap
            && !(1..=MOST_OVERLAP).contains(&overlap)
        {
            complain("overlap", outside(1, MOST_OVERLAP as usize));
        }
        let n_candidates = self.fitting();
        if let Some(n) = self.n_candidates
            && self.work.has_candidates()
            && !n_candidates.contains(&n)
        {
            complain(
                "n_candidates",
                outside(*n_candidates.start(), *n_candidates.end()),
            );
        }
        let needs_texts = self.work == Work::UserBased && self.texts.is_empty();
        if needs_texts {
            complain("texts", Message::new("error-needs-use-cases"));
        }
        let takes_texts = matches!(self.work, Work::FewShot | Work::UserBased);
        if !takes_texts && !self.texts.is_empty() {
            complain("texts", Message::new("error-not-asked"));
        }
        let counts =
            self.work == Work::Own || (self.work == Work::FewShot && self.texts.is_empty());
        if counts && self.most.is_none() {
            complain("most", Message::new("error-say-how-many"));
        }
        errors
    }

    /// How many completions a prompt must have: as many as can be candidates together, or as are drawn
    /// from at random. A comparison's pairs are drawn from up to nine.
    pub fn fitting(&self) -> std::ops::RangeInclusive<usize> {
        match self.work {
            Work::Rank => CANDIDATES,
            Work::Compare => 2..=*CANDIDATES.end(),
            _ => 0..=usize::MAX,
        }
    }

    /// Fewest and most completions of a prompt that tasks can be made of.
    pub fn completions(&self) -> std::ops::RangeInclusive<usize> {
        match self.n_candidates {
            Some(n) if self.work.has_candidates() => n..=usize::MAX,
            _ => self.fitting(),
        }
    }

    /// The candidates of each task over a prompt's completions; without candidates, one task with none.
    /// What is drawn depends on `key` and the prompt alone, so that what is shown before is what is
    /// written after.
    pub fn groups(
        &self,
        key: &str,
        prompt_id: PromptId,
        completions: &[CompletionId],
    ) -> Vec<Vec<CompletionId>> {
        if !self.work.has_candidates() {
            return vec![Vec::new()];
        }
        let seed = Sha256::digest(format!("{key} {prompt_id}"));
        let mut rng = ChaCha12Rng::from_seed(seed.into());
        let mut pool: Vec<CompletionId> = match self.n_candidates {
            Some(n) => completions.choose_multiple(&mut rng, n).copied().collect(),
            None => completions.to_vec(),
        };
        pool.sort_unstable();
        if self.work == Work::Rank {
            return vec![pool];
        }
        if self.one_pair {
            pool.shuffle(&mut rng);
            pool.truncate(2);
        }
        let pairs = (0..pool.len()).flat_map(|first| {
            let others = pool[first + 1..].iter();
            others.map(move |other| (first, *other))
        });
        pairs
            .map(|(first, other)| vec![pool[first], other])
            .collect()
    }

    /// The briefs of tasks that are made of texts, each with the language of those who may take it.
    pub fn briefs(&self) -> Vec<(Brief, Option<String>)> {
        let Some(kind) = self.work.brief_kind() else {
            return Vec::new();
        };
        if self.texts.is_empty() {
            let n = self.most.unwrap_or_default();
            return vec![(Brief::new(kind), self.language.clone()); n];
        }
        let brief = |given: &GivenText| {
            let mut brief = Brief::new(kind);
            match kind {
                BriefKind::FewShot => brief.instruction = Some(given.text.clone()),
                _ => brief.use_case = Some(given.text.clone()),
            }
            let language = given.language.clone().or_else(|| self.language.clone());
            (brief, language)
        };
        self.texts.iter().map(brief).collect()
    }
}

/// A line of a file of texts. Its text stands under the name of what it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TextLine {
    #[serde(alias = "instruction")]
    use_case: String,
    #[serde(default)]
    language: Option<String>,
}

/// Reads texts, one a line: as they are, or as JSON objects `{"use_case": "…", "language": "en"}` with
/// `instruction` for an instruction. Empty lines are passed over.
///
/// # Errors
/// The lines that cannot be read, all under the field `texts`.
pub fn read_texts(lines: &str) -> Result<Vec<GivenText>, Vec<FieldError>> {
    let (mut texts, mut errors) = (Vec::new(), Vec::new());
    for (index, line) in lines.lines().enumerate() {
        let line = line.trim().trim_start_matches('\u{feff}');
        if line.is_empty() {
            continue;
        }
        let read = match line.starts_with('{') {
            true => read_object(line),
            false => Ok(GivenText {
                text: line.to_owned(),
                language: None,
            }),
        };
        match read.and_then(check_text) {
            Ok(text) => texts.push(text),
            Err(reason) => {
                let message = Message::new("error-line").with("line", index + 1);
                errors.push(FieldError::new("texts", message.with("reason", reason)));
            }
        }
    }
    match errors.is_empty() {
        true => Ok(texts),
        false => Err(errors),
    }
}

fn read_object(line: &str) -> Result<GivenText, Message> {
    let read: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let line: TextLine = serde_json::from_value(read).map_err(|error| error.to_string())?;
    let language = match line.language {
        Some(tag) => Some(primary_tag(&tag).ok_or(Message::new("error-not-language"))?),
        None => None,
    };
    Ok(GivenText {
        text: line.use_case.trim().to_owned(),
        language,
    })
}

fn check_text(given: GivenText) -> Result<GivenText, Message> {
    match given.text.chars().count() {
        0 => Err(Message::new("error-is-empty")),
        n if n > LONGEST_TEXT => Err(Message::new("error-longer-than").with("most", LONGEST_TEXT)),
        _ => Ok(given),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn order(work: Work) -> Order {
        Order {
            work,
            categories: Vec::new(),
            language: None,
            source: None,
            most: None,
            only_new: true,
            n_candidates: None,
            one_pair: false,
            texts: Vec::new(),
            overlap: None,
        }
    }

    fn completions(n: usize) -> Vec<CompletionId> {
        (0..n).map(|_| CompletionId::new()).collect()
    }

    fn fields(order: &Order) -> Vec<String> {
        let errors = order.complaints();
        errors.into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn each_work_needs_its_own_and_refuses_what_is_not_asked() {
        assert!(fields(&order(Work::Review)).is_empty());
        assert_eq!(fields(&order(Work::Own)), ["most"]);
        assert_eq!(fields(&order(Work::FewShot)), ["most"]);
        assert_eq!(fields(&order(Work::UserBased)), ["texts"]);
        let text = GivenText {
            text: "A shop wants slogans.".to_owned(),
            language: None,
        };
        let wrong = Order {
            categories: vec!["Chat".to_owned()],
            most: Some(0),
            n_candidates: Some(3),
            texts: vec![text.clone()],
            overlap: Some(101),
            ..order(Work::Rank)
        };
        let expected = ["categories", "most", "overlap", "n_candidates", "texts"];
        assert_eq!(fields(&wrong), expected);
        let few_shot = Order {
            texts: vec![text],
            ..order(Work::FewShot)
        };
        assert!(fields(&few_shot).is_empty());
        let briefs = few_shot.briefs();
        let given = briefs[0].0.instruction.as_deref();
        assert_eq!(given, Some("A shop wants slogans."));
    }

    #[test]
    fn tasks_without_texts_are_as_many_as_were_ordered() {
        let own = Order {
            most: Some(3),
            language: Some("zh".to_owned()),
            ..order(Work::Own)
        };
        let briefs = own.briefs();
        assert_eq!(briefs.len(), 3);
        assert_eq!(
            briefs[0],
            (Brief::new(BriefKind::Plain), Some("zh".to_owned()))
        );
    }

    #[test]
    fn texts_are_lines_or_objects_and_wrong_lines_are_numbered() {
        let texts = read_texts(
            "A shop wants slogans.\r\n\n{\"use_case\": \" two\\nlines \", \"language\": \"en\"}\n",
        );
        let texts = texts.unwrap();
        assert_eq!(texts[0].text, "A shop wants slogans.");
        assert_eq!(
            (texts[1].text.as_str(), texts[1].language.as_deref()),
            ("two\nlines", Some("en"))
        );
        let wrong = read_texts("fine\n{\"usecase\": \"x\"}\n{\"instruction\": \" \"}").unwrap_err();
        let said: Vec<String> = wrong
            .iter()
            .map(|error| error.message.to_string())
            .collect();
        assert!(said[0].starts_with("line 2: "), "{said:?}");
        assert_eq!(said[1], "line 3: is empty");
    }

    #[test]
    fn a_prompt_must_have_as_many_completions_as_are_drawn_or_can_be_ranked_together() {
        assert_eq!(order(Work::Rank).completions(), 4..=9);
        assert_eq!(order(Work::Compare).completions(), 2..=9);
        let drawn = Order {
            n_candidates: Some(5),
            ..order(Work::Rank)
        };
        assert_eq!(drawn.completions(), 5..=usize::MAX);
    }

    proptest! {
        #[test]
        fn comparisons_are_all_pairs_once_or_one_of_them(n in 2_usize..=9, key in "[a-z]{0,8}") {
            let (prompt, all) = (PromptId::new(), completions(n));
            let compare = order(Work::Compare);
            let pairs = compare.groups(&key, prompt, &all);
            let different: BTreeSet<Vec<CompletionId>> = pairs
                .iter()
                .map(|pair| {
                    let mut pair = pair.clone();
                    pair.sort_unstable();
                    pair
                })
                .collect();
            prop_assert_eq!(different.len(), n * (n - 1) / 2);
            prop_assert_eq!(pairs.len(), different.len());
            prop_assert!(different.iter().all(|pair| pair.len() == 2 && pair[0] != pair[1]));
            let one = Order { one_pair: true, ..compare };
            let drawn = one.groups(&key, prompt, &all);
            prop_assert_eq!(drawn.len(), 1);
            prop_assert_eq!(&drawn, &one.groups(&key, prompt, &all));
            let mut pair = drawn[0].clone();
            pair.sort_unstable();
            prop_assert!(different.contains(&pair));
        }

        #[test]
        fn candidates_drawn_at_random_are_different_completions_and_the_same_again(n in 4_usize..=30, k in 4_usize..=9) {
            prop_assume!(k <= n);
            let (prompt, all) = (PromptId::new(), completions(n));
            let rank = Order { n_candidates: Some(k), ..order(Work::Rank) };
            let groups = rank.groups("key", prompt, &all);
            prop_assert_eq!(groups.len(), 1);
            let different: BTreeSet<&CompletionId> = groups[0].iter().collect();
            prop_assert_eq!(different.len(), k);
            prop_assert!(different.iter().all(|id| all.contains(id)));
            prop_assert_eq!(&groups, &rank.groups("key", prompt, &all));
        }
    }

    #[test]
    fn every_pair_has_the_same_chance() {
        let all = completions(4);
        let one = Order {
            one_pair: true,
            ..order(Work::Compare)
        };
        let mut seen = std::collections::BTreeMap::new();
        for _ in 0..600 {
            let mut pair = one.groups("key", PromptId::new(), &all).remove(0);
            pair.sort_unstable();
            *seen.entry(pair).or_insert(0) += 1;
        }
        assert_eq!(seen.len(), 6);
        // 100 expected of each; 40 is 6 standard deviations away.
        assert!(seen.values().all(|n| (40..=160).contains(n)), "{seen:?}");
    }
}
