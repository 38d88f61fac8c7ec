//! The keys of the labeling pages as data: an account says which key does what, out of fixed lists of
//! both. Nothing else that somebody typed ever reaches a page this way.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a single key does on a labeling page. Digits are not among the keys: they rank, and with Shift
/// they rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Go to the next candidate.
    Next,
    /// Go to the candidate before.
    Previous,
    /// Move the candidate up in the ranking.
    Up,
    /// Move it down.
    Down,
    /// Tie it with the one above.
    Tie,
    /// Say that it cannot be judged.
    Cannot,
    /// Say that all are bad.
    AllBad,
    /// Open the candidate's questions.
    Questions,
    /// Answer a question with yes.
    Yes,
    /// Answer it with no.
    No,
    /// Take the answer back.
    Unanswer,
    /// Write a note on the candidate.
    Note,
    /// Show how the candidate differs from another.
    Differences,
    /// Take a break.
    Break,
    /// Go back to the last submission.
    Last,
    /// Show the keys.
    Help,
}

/// Every action, its word in the database, in forms and in messages, and its key at first.
const ACTIONS: [(Action, &str, &str); 16] = [
    (Action::Next, "next", "j"),
    (Action::Previous, "previous", "k"),
    (Action::Up, "up", "w"),
    (Action::Down, "down", "s"),
    (Action::Tie, "tie", "e"),
    (Action::Cannot, "cannot", "c"),
    (Action::AllBad, "all-bad", "x"),
    (Action::Questions, "questions", "f"),
    (Action::Yes, "yes", "y"),
    (Action::No, "no", "n"),
    (Action::Unanswer, "unanswer", "u"),
    (Action::Note, "note", "m"),
    (Action::Differences, "differences", "d"),
    (Action::Break, "break", "b"),
    (Action::Last, "last", "z"),
    (Action::Help, "help", "?"),
];

/// The keys that can be chosen, as a browser names them (`KeyboardEvent.key`, in lower case). Digits are
/// taken, and keys that browsers or screen readers use by themselves are left to them.
const KEYS: [&str; 38] = [
    "a",
    "b",
    "c",
    "d",
    "e",
    "f",
    "g",
    "h",
    "i",
    "j",
    "k",
    "l",
    "m",
    "n",
    "o",
    "p",
    "q",
    "r",
    "s",
    "t",
    "u",
    "v",
    "w",
    "x",
    "y",
    "z",
    ",",
    ".",
    ";",
    "/",
    "[",
    "]",
    "-",
    "=",
    "+",
    "*",
    "?",
    "backspace",
];

impl Action {
    /// Every one, in the order pages list them.
    pub fn all() -> impl Iterator<Item = Self> {
        ACTIONS.iter().map(|(action, ..)| *action)
    }

    /// The word in the database, in forms and in the keys of messages.
    pub fn as_str(self) -> &'static str {
        ACTIONS[self as usize].1
    }

    /// Whether it orders candidates, which a comparison of two has no use for.
    pub fn is_of_ranking(self) -> bool {
        matches!(self, Self::Up | Self::Down | Self::Tie | Self::Cannot)
    }

    fn from_word(word: &str) -> Option<Self> {
        let found = ACTIONS.iter().find(|(_, known, _)| *known == word);
        found.map(|(action, ..)| *action)
    }
}

/// A key out of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(&'static str);

impl Key {
    /// Every key that can be chosen.
    pub fn all() -> impl Iterator<Item = Self> {
        KEYS.iter().copied().map(Self)
    }

    /// The key of that name; none for anything that is not on the list.
    pub fn from_name(name: &str) -> Option<Self> {
        let found = KEYS.iter().find(|known| **known == name);
        found.map(|known| Self(known))
    }

    /// The name, in lower case.
    pub fn name(self) -> &'static str {
        self.0
    }

    /// What is printed on the key.
    pub fn cap(self) -> String {
        match self.0 {
            "backspace" => "Backspace".to_owned(),
            name => name.to_uppercase(),
        }
    }
}

/// Which key does what for an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bindings {
    keys: BTreeMap<Action, Key>,
    /// Whether single keys do anything. Whoever speaks to the computer, or hits keys by mistake,
    /// switches them off (WCAG 2.2, 2.1.4).
    pub are_on: bool,
}

impl Default for Bindings {
    fn default() -> Self {
        let known = |(action, _, name): &(Action, &str, &'static str)| (*action, Key(name));
        Self {
            keys: ACTIONS.iter().map(known).collect(),
            are_on: true,
        }
    }
}

/// Bindings as they are stored: only what is known is read, so that a list that changes with the
/// program hurts nobody.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Stored(BTreeMap<String, String>);

/// Two actions that were given the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clash {
    /// The key.
    pub key: Key,
    /// What it does first in the list.
    pub first: Action,
    /// What it would do too.
    pub second: Action,
}

impl Bindings {
    /// The key of an action.
    pub fn key(&self, action: Action) -> Key {
        let first = Key(ACTIONS[action as usize].2);
        self.keys.get(&action).copied().unwrap_or(first)
    }

    /// With these keys instead of those at first.
    ///
    /// # Errors
    /// Every key that would do two things.
    pub fn choose(keys: BTreeMap<Action, Key>, are_on: bool) -> Result<Self, Vec<Clash>> {
        let mut bindings = Self {
            are_on,
            ..Self::default()
        };
        bindings.keys.extend(keys);
        let mut clashes = Vec::new();
        for second in Action::all() {
            let key = bindings.key(second);
            let before = Action::all().take_while(|action| *action != second);
            if let Some(first) = { before }.find(|first| bindings.key(*first) == key) {
                clashes.push(Clash { key, first, second });
            }
        }
        match clashes.is_empty() {
            true => Ok(bindings),
            false => Err(clashes),
        }
    }

    /// As stored in the database.
    pub fn to_stored(&self) -> Stored {
        let word = |action: Action| {
            (
                action.as_str().to_owned(),
                self.key(action).name().to_owned(),
            )
        };
        Stored(Action::all().map(word).collect())
    }

    /// From the database; those at first where what is stored makes no sense any more.
    pub fn from_stored(stored: &Stored, are_on: bool) -> Self {
        let known = stored
            .0
            .iter()
            .filter_map(|(action, key)| Some((Action::from_word(action)?, Key::from_name(key)?)));
        let fallback = Self {
            are_on,
            ..Self::default()
        };
        Self::choose(known.collect(), are_on).unwrap_or(fallback)
    }

    /// For the page's script: `next=j previous=k ...`. Words and keys come from fixed lists without
    /// spaces.
    pub fn to_words(&self) -> String {
        let word = |action: Action| format!("{}={}", action.as_str(), self.key(action).name());
        Action::all().map(word).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_stands_at_its_place_and_starts_with_a_key_of_the_list_that_no_other_has() {
        for (index, (action, word, key)) in ACTIONS.iter().enumerate() {
            assert_eq!(*action as usize, index);
            assert_eq!(Action::from_word(word), Some(*action));
            assert!(Key::from_name(key).is_some(), "{key}");
        }
        assert_eq!(
            Bindings::choose(BTreeMap::new(), true),
            Ok(Bindings::default())
        );
    }

    #[test]
    fn a_key_that_would_do_two_things_is_named_with_both() {
        let key = |name: &str| Key::from_name(name).expect("on the list");
        let wanted = BTreeMap::from([(Action::Down, key("w")), (Action::Help, key("h"))]);
        let clash = Clash {
            key: key("w"),
            first: Action::Up,
            second: Action::Down,
        };
        assert_eq!(Bindings::choose(wanted, true), Err(vec![clash]));
        let swapped = BTreeMap::from([(Action::Down, key("w")), (Action::Up, key("s"))]);
        let swapped = Bindings::choose(swapped, false).expect("no clash");
        assert_eq!(
            (swapped.key(Action::Up).cap(), swapped.are_on),
            ("S".to_owned(), false)
        );
    }

    #[test]
    fn what_is_stored_comes_back_and_what_is_not_on_the_lists_never_does() {
        let key = Key::from_name("q").expect("on the list");
        let chosen = Bindings::choose(BTreeMap::from([(Action::Next, key)]), false);
        let chosen = chosen.expect("no clash");
        assert_eq!(Bindings::from_stored(&chosen.to_stored(), false), chosen);
        let hostile = serde_json::json!({"next": "\"><script>", "<b>": "q", "up": "1", "tie": "t"});
        let stored: Stored = serde_json::from_value(hostile).expect("words");
        let read = Bindings::from_stored(&stored, true);
        assert!(
            read.to_words()
                .starts_with("next=j previous=k up=w down=s tie=t ")
        );
        assert!(!read.to_words().contains(['<', '"']));
    }
}
