//! What can be wrong with a record, apart from its words, so that others can say it in other languages.

use std::fmt;

/// What is wrong with a field of a record. Printed, it is a sentence that goes on after the field's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// There is no text.
    Empty,
    /// A turn of somebody whom no template knows.
    UnknownRole(String),
    /// A turn without a text.
    EmptyTurn,
    /// The user's turn is not the last.
    NotUsersTurn,
    /// Fewer than two completions.
    TooFew,
    /// More completions than a ranking holds.
    TooMany {
        /// Completions.
        n: usize,
        /// Completions that it may hold.
        most: usize,
    },
    /// The completion of this number, from 1, has no text.
    EmptyCompletion(usize),
    /// Two completions have this id.
    IdTwice(String),
    /// A rank of 0.
    RankZero,
    /// A customer without a name.
    EmptyCustomer,
    /// A split of another name.
    UnknownSplit(String),
    /// A role that a demonstration has not.
    OtherRole,
    /// The assistant's turn is not the last.
    NotAssistantsTurn,
    /// The last turn has no text.
    EmptyAnswer,
    /// What is wrong with the turns before the answer.
    BeforeAnswer(Box<Fault>),
    /// A single turn, or none.
    NothingAsked,
}

impl fmt::Display for Fault {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => to.write_str("is empty"),
            Self::UnknownRole(role) => {
                write!(to, "unknown role {role:?}: use system, user or assistant")
            }
            Self::EmptyTurn => to.write_str("has an empty turn"),
            Self::NotUsersTurn => to.write_str("must end with a turn of the user"),
            Self::TooFew => to.write_str("a ranking needs at least 2"),
            Self::TooMany { n, most } => write!(to, "has {n}; a ranking holds at most {most}"),
            Self::EmptyCompletion(number) => write!(to, "completion {number} is empty"),
            Self::IdTwice(id) => write!(to, "the id {id:?} comes twice"),
            Self::RankZero => to.write_str("ranks count from 1"),
            Self::EmptyCustomer => to.write_str("is empty: leave it out where it is not known"),
            Self::UnknownSplit(split) => {
                write!(to, "is {split:?}: use train or validation, or leave it out")
            }
            Self::OtherRole => to.write_str("roles are system, user and assistant"),
            Self::NotAssistantsTurn => to.write_str("must end with a turn of the assistant"),
            Self::EmptyAnswer => to.write_str("the answer is empty"),
            Self::BeforeAnswer(fault) => write!(to, "what comes before the answer {fault}"),
            Self::NothingAsked => to.write_str("needs a request and an answer"),
        }
    }
}
