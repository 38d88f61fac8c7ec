//! What a prompt may be: its use-case category (the ten of InstructGPT's Table 1) and its source.
//! The same words stand in the database's `prompts_category_known` constraint.

use crate::message::Message;

/// The ten use-case categories of InstructGPT's Table 1, most frequent first.
pub const CATEGORIES: [&str; 10] = [
    "generation",
    "open_qa",
    "brainstorming",
    "chat",
    "rewrite",
    "summarization",
    "classification",
    "other",
    "closed_qa",
    "extract",
];

/// The category of a prompt that states none.
pub const DEFAULT_CATEGORY: &str = "other";

/// Longest id that a file may give to a record, in bytes.
pub const LONGEST_ID: usize = 200;

/// Says why a word is no category, if so.
pub fn category_complaint(word: &str) -> Option<Message> {
    (!CATEGORIES.contains(&word)).then(|| {
        Message::new("error-unknown-category")
            .with("word", word)
            .with("known", CATEGORIES.join(", "))
    })
}

/// Says why an id of a file cannot be used, if so.
pub fn id_complaint(id: &str) -> Option<Message> {
    if id.trim().is_empty() {
        return Some(Message::new("error-is-empty"));
    }
    (id.len() > LONGEST_ID).then(|| Message::new("import-longer-bytes").with("most", LONGEST_ID))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_categories_are_those_of_the_database() {
        let sql =
            include_str!("../../../migrations/20261123140100_create_projects_and_prompts.sql");
        for category in CATEGORIES {
            assert!(sql.contains(&format!("'{category}'")), "{category}");
            assert_eq!(category_complaint(category), None);
        }
        assert!(
            category_complaint("Chat")
                .is_some_and(|message| message.to_string().contains("brainstorming"))
        );
    }

    #[test]
    fn an_id_is_neither_empty_nor_a_text() {
        assert!(id_complaint(" ").is_some());
        assert!(id_complaint(&"x".repeat(201)).is_some());
        assert_eq!(id_complaint("a-1"), None);
    }
}
