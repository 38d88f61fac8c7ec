//! What changed between two versions of a form, by key, and whether a key keeps its meaning.

use crate::domain::form::{Choice, Flag, Form, Scale, Texts};

/// A part of a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Section {
    /// The overall rating: one scale without a key.
    Overall,
    /// Further scales.
    Scales,
    /// Yes/no questions.
    Flags,
    /// Reasons to skip.
    Reasons,
    /// Yes/no questions about a prompt, in its review.
    PromptFlags,
    /// Kinds of personal data that a review names.
    PiiKinds,
    /// Languages that a review chooses from.
    Languages,
}

impl Section {
    /// Every one, in the order pages list them.
    pub const ALL: [Self; 7] = [
        Self::Overall,
        Self::Scales,
        Self::Flags,
        Self::Reasons,
        Self::PromptFlags,
        Self::PiiKinds,
        Self::Languages,
    ];

    /// The word in names of inputs and keys of messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Overall => "overall",
            Self::Scales => "scales",
            Self::Flags => "flags",
            Self::Reasons => "reasons",
            Self::PromptFlags => "promptflags",
            Self::PiiKinds => "pii",
            Self::Languages => "languages",
        }
    }

    /// Whether its entries are scales.
    pub fn has_bounds(self) -> bool {
        matches!(self, Self::Overall | Self::Scales)
    }
}

/// How an entry differs.
#[derive(Debug, Clone, PartialEq)]
pub enum ChangeKind {
    /// A new key.
    Added,
    /// A key that is no more.
    Removed,
    /// The same key asks in other words.
    Reworded {
        /// What it said.
        old: Texts,
        /// What it says now.
        new: Texts,
    },
    /// The same key has other explanations.
    Explained,
    /// The same key has other bounds.
    Rescaled {
        /// Lowest and highest value before.
        old: (i16, i16),
        /// Lowest and highest value now.
        new: (i16, i16),
    },
    /// The keys of the section stand in another order.
    Reordered,
}

/// One difference.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Where.
    pub section: Section,
    /// Of which key; empty of the overall rating and of an order.
    pub key: String,
    /// What.
    pub kind: ChangeKind,
}

impl Change {
    /// Whether answers before and after may mean different things under the same key.
    pub fn is_of_meaning(&self) -> bool {
        matches!(
            self.kind,
            ChangeKind::Reworded { .. } | ChangeKind::Rescaled { .. }
        )
    }
}

/// An entry of any section.
struct Entry<'a> {
    key: &'a str,
    label: &'a Texts,
    explanations: Vec<&'a Texts>,
    bounds: Option<(i16, i16)>,
}

fn of_scale<'a>(key: &'a str, scale: &'a Scale) -> Entry<'a> {
    Entry {
        key,
        label: &scale.label,
        explanations: vec![&scale.low, &scale.high],
        bounds: Some((scale.min, scale.max)),
    }
}

fn of_flags(flags: &[Flag]) -> Vec<Entry<'_>> {
    let entries = flags.iter().map(|flag| Entry {
        key: &flag.key,
        label: &flag.label,
        explanations: vec![&flag.help],
        bounds: None,
    });
    entries.collect()
}

fn of_choices(choices: &[Choice]) -> Vec<Entry<'_>> {
    let entries = choices.iter().map(|choice| Entry {
        key: &choice.key,
        label: &choice.label,
        explanations: Vec::new(),
        bounds: None,
    });
    entries.collect()
}

fn entries(form: &Form, section: Section) -> Vec<Entry<'_>> {
    match section {
        Section::Overall => vec![of_scale("", &form.overall)],
        Section::Scales => {
            let scales = form.scales.iter();
            scales.map(|one| of_scale(&one.key, &one.scale)).collect()
        }
        Section::Flags => of_flags(&form.flags),
        Section::PromptFlags => of_flags(&form.prompt_flags),
        Section::PiiKinds => of_choices(&form.pii_kinds),
        Section::Languages => of_choices(&form.languages),
        Section::Reasons => {
            let reasons = form.skip_reasons.iter().map(|reason| Entry {
                key: &reason.key,
                label: &reason.label,
                explanations: Vec::new(),
                bounds: None,
            });
            reasons.collect()
        }
    }
}

/// Texts that say something: a blank one is as good as none.
fn written(texts: &Texts) -> Vec<(&str, &str)> {
    let texts = texts
        .iter()
        .map(|(lang, text)| (lang.as_str(), text.trim()));
    texts.filter(|(_, text)| !text.is_empty()).collect()
}

/// How one entry became another of the same key.
fn compare(section: Section, old: &Entry<'_>, new: &Entry<'_>) -> Vec<Change> {
    let mut kinds = Vec::new();
    if written(old.label) != written(new.label) {
        kinds.push(ChangeKind::Reworded {
            old: old.label.clone(),
            new: new.label.clone(),
        });
    }
    if let (Some(old), Some(new)) = (old.bounds, new.bounds)
        && old != new
    {
        kinds.push(ChangeKind::Rescaled { old, new });
    }
    let explained = |entry: &Entry<'_>| -> Vec<Vec<(String, String)>> {
        let owned = |texts: &&Texts| {
            let texts = written(texts).into_iter();
            texts
                .map(|(lang, text)| (lang.to_owned(), text.to_owned()))
                .collect()
        };
        entry.explanations.iter().map(owned).collect()
    };
    if explained(old) != explained(new) {
        kinds.push(ChangeKind::Explained);
    }
    let change = |kind| Change {
        section,
        key: new.key.to_owned(),
        kind,
    };
    kinds.into_iter().map(change).collect()
}

/// What the newer form has otherwise than the older one, section by section.
pub fn changes(old: &Form, new: &Form) -> Vec<Change> {
    let mut found = Vec::new();
    for section in Section::ALL {
        let (before, after) = (entries(old, section), entries(new, section));
        let has = |list: &[Entry<'_>], key: &str| list.iter().any(|entry| entry.key == key);
        let mut note = |key: &str, kind| {
            found.push(Change {
                section,
                key: key.to_owned(),
                kind,
            });
        };
        for entry in before.iter().filter(|entry| !has(&after, entry.key)) {
            note(entry.key, ChangeKind::Removed);
        }
        for entry in after.iter().filter(|entry| !has(&before, entry.key)) {
            note(entry.key, ChangeKind::Added);
        }
        let kept = |list: &[Entry<'_>], other: &[Entry<'_>]| -> Vec<String> {
            let kept = list.iter().filter(|entry| has(other, entry.key));
            kept.map(|entry| entry.key.to_owned()).collect()
        };
        if kept(&before, &after) != kept(&after, &before) {
            note("", ChangeKind::Reordered);
        }
        for entry in &after {
            if let Some(earlier) = before.iter().find(|earlier| earlier.key == entry.key) {
                found.extend(compare(section, earlier, entry));
            }
        }
    }
    found
}

/// Keys whose meaning a new form would change: each is compared with the last version that had it, also
/// one that was removed since, because labels of that version are still there. `earlier` is newest first.
pub fn changes_of_meaning(earlier: &[Form], new: &Form) -> Vec<Change> {
    let mut found = Vec::new();
    for section in Section::ALL {
        for entry in entries(new, section) {
            let last = earlier.iter().find_map(|form| {
                let mut candidates = entries(form, section).into_iter();
                candidates.find(|candidate| candidate.key == entry.key)
            });
            if let Some(last) = last {
                let changes = compare(section, &last, &entry);
                found.extend(changes.into_iter().filter(Change::is_of_meaning));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn told(changes: &[Change]) -> Vec<String> {
        let word = |change: &Change| match &change.kind {
            ChangeKind::Added => "added".to_owned(),
            ChangeKind::Removed => "removed".to_owned(),
            ChangeKind::Reworded { old, new } => {
                format!("{:?} to {:?}", old.get("en"), new.get("en"))
            }
            ChangeKind::Explained => "explained".to_owned(),
            ChangeKind::Rescaled { old, new } => format!("{old:?} to {new:?}"),
            ChangeKind::Reordered => "reordered".to_owned(),
        };
        let line = |change: &Change| {
            format!(
                "{} {}: {}",
                change.section.as_str(),
                change.key,
                word(change)
            )
        };
        changes.iter().map(line).collect()
    }

    #[test]
    fn what_changed_is_told_by_key() {
        let old = Form::default();
        let mut new = old.clone();
        assert_eq!(changes(&old, &new), []);
        new.overall.max = 5;
        new.flags.swap(0, 1);
        new.flags[2]
            .label
            .insert("en".to_owned(), "Invents".to_owned());
        new.flags[3].help.clear();
        let gone = new.flags.pop().unwrap().key;
        new.skip_reasons[0].key = "other_word".to_owned();
        let reason = &old.skip_reasons[0].key;
        let expected = [
            "overall : (1, 7) to (1, 5)".to_owned(),
            format!("flags {gone}: removed"),
            "flags : reordered".to_owned(),
            "flags hallucination: Some(\"Makes something up\") to Some(\"Invents\")".to_owned(),
            "flags satisfies_constraint: explained".to_owned(),
            format!("reasons {reason}: removed"),
            "reasons other_word: added".to_owned(),
        ];
        assert_eq!(told(&changes(&old, &new)), expected);
    }

    #[test]
    fn a_key_that_comes_back_with_other_words_is_noticed() {
        let first = Form::default();
        let mut second = first.clone();
        second.flags.remove(0);
        let mut third = first.clone();
        third.flags[0]
            .label
            .insert("en".to_owned(), "Something else".to_owned());
        // Against the newest version alone it would look like a new key.
        assert_eq!(told(&changes(&second, &third)).len(), 1);
        let risky = changes_of_meaning(&[second.clone(), first.clone()], &third);
        assert_eq!(risky.len(), 1);
        assert_eq!(risky[0].key, first.flags[0].key);
        assert_eq!(changes_of_meaning(&[second, first.clone()], &first), []);
    }
}
