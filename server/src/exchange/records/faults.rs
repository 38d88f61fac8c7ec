//! What the trainer finds wrong with a record, as sentences of the catalogue.

use trainer::records::Fault;

use crate::message::Message;

/// The sentence of a fault.
pub(super) fn message(fault: &Fault) -> Message {
    match fault {
        Fault::Empty => Message::new("error-is-empty"),
        Fault::UnknownRole(role) => Message::new("import-unknown-role").with("role", role),
        Fault::EmptyTurn => Message::new("import-empty-turn"),
        Fault::NotUsersTurn => Message::new("import-not-users-turn"),
        Fault::TooFew => Message::new("import-too-few"),
        Fault::TooMany { n, most } => Message::new("import-too-many")
            .with("n", n)
            .with("most", most),
        Fault::EmptyCompletion(number) => {
            Message::new("import-empty-completion").with("number", number)
        }
        Fault::IdTwice(id) => Message::new("import-id-twice").with("id", id),
        Fault::RankZero => Message::new("import-rank-zero"),
        Fault::EmptyCustomer => Message::new("import-empty-customer"),
        Fault::UnknownSplit(split) => Message::new("import-unknown-split").with("split", split),
        Fault::OtherRole => Message::new("import-other-role"),
        Fault::NotAssistantsTurn => Message::new("import-not-assistants-turn"),
        Fault::EmptyAnswer => Message::new("import-empty-answer"),
        // The turns before an answer have their roles looked at first, so that two faults are left.
        Fault::BeforeAnswer(fault) => match **fault {
            Fault::EmptyTurn => Message::new("import-empty-turn-before-answer"),
            _ => Message::new("import-not-users-turn-before-answer"),
        },
        Fault::NothingAsked => Message::new("import-nothing-asked"),
    }
}
