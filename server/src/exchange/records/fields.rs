//! The fields of one record, each taken out once and named in what is wrong with it. A field that
//! no line may have is refused, so that a misspelt one is noticed.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use trainer::records::{Message as Turn, Prompt};

use super::{Complaint, complaint};
use crate::domain::language::primary_tag;
use crate::domain::prompt::{DEFAULT_CATEGORY, category_complaint, id_complaint};
use crate::message::Message;

/// The fields of a line, each taken out once.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    pub(super) fn new(object: Map<String, Value>, known: &[&str]) -> Result<Self, Complaint> {
        for (name, value) in &object {
            if !known.contains(&name.as_str()) {
                return Err(complaint(name.clone(), unknown_field(known)));
            }
            if has_nul(value) {
                return Err(complaint(name.clone(), Message::new("import-nul")));
            }
        }
        Ok(Self(object))
    }

    /// A field that may be missing or null.
    pub(super) fn optional<T: DeserializeOwned>(
        &mut self,
        name: &str,
    ) -> Result<Option<T>, Complaint> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(name, value).map(Some),
        }
    }

    pub(super) fn required<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, Complaint> {
        self.optional(name)?
            .ok_or_else(|| complaint(name, Message::new("import-missing")))
    }

    pub(super) fn id(&mut self) -> Result<String, Complaint> {
        let id: String = self.required("id")?;
        match id_complaint(&id) {
            Some(message) => Err(complaint("id", message)),
            None => Ok(id),
        }
    }

    pub(super) fn category(&mut self) -> Result<String, Complaint> {
        let word = self.optional::<String>("category")?;
        let word = word.unwrap_or_else(|| DEFAULT_CATEGORY.to_owned());
        match category_complaint(&word) {
            Some(message) => Err(complaint("category", message)),
            None => Ok(word),
        }
    }

    /// Milliseconds, where the line says.
    pub(super) fn milliseconds(&mut self, name: &str) -> Result<Option<i64>, Complaint> {
        match self.optional::<i64>(name)? {
            Some(..0) => Err(complaint(name, Message::new("import-negative"))),
            given => Ok(given),
        }
    }

    /// Whose prompt it is, where the line says.
    pub(super) fn customer(&mut self) -> Result<Option<String>, Complaint> {
        let name = self.optional::<String>("customer")?;
        match name.as_deref().is_some_and(|name| name.trim().is_empty()) {
            true => Err(complaint("customer", Message::new("import-empty-customer"))),
            false => Ok(name),
        }
    }

    /// The primary tag of the text's language, where the line says: tasks find their labelers by it.
    pub(super) fn language(&mut self) -> Result<Option<String>, Complaint> {
        let Some(tag) = self.optional::<String>("language")? else {
            return Ok(None);
        };
        match primary_tag(&tag) {
            Some(tag) => Ok(Some(tag)),
            None => Err(complaint("language", Message::new("import-language"))),
        }
    }

    pub(super) fn prompt(&mut self) -> Result<Prompt, Complaint> {
        match self.required::<Value>("prompt")? {
            Value::String(text) => Ok(Prompt::Text(text)),
            Value::Array(turns) => Ok(Prompt::Conversation(messages("prompt", turns)?)),
            _ => Err(complaint("prompt", Message::new("import-prompt"))),
        }
    }
}

/// Reads a value, naming its field where it does not fit.
pub(super) fn read<T: DeserializeOwned>(name: &str, value: Value) -> Result<T, Complaint> {
    serde_json::from_value(value)
        .map_err(|error| complaint(name, Message::new("import-unfit").with("reason", error)))
}

fn unknown_field(known: &[&str]) -> Message {
    Message::new("import-unknown-field").with("known", known.join(", "))
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(object) => object
            .iter()
            .any(|(key, item)| key.contains('\0') || has_nul(item)),
        _ => false,
    }
}

/// Objects of a list, each with no other fields than the known ones.
pub(super) fn read_items<T: DeserializeOwned>(
    name: &str,
    items: Vec<Value>,
    known: &[&str],
) -> Result<Vec<T>, Complaint> {
    let read_one = |(index, item): (usize, Value)| {
        let at = format!("{name}[{}]", index + 1);
        let unknown = item
            .as_object()
            .and_then(|object| object.keys().find(|key| !known.contains(&key.as_str())));
        if let Some(key) = unknown {
            return Err(complaint(format!("{at}.{key}"), unknown_field(known)));
        }
        read(&at, item)
    };
    items.into_iter().enumerate().map(read_one).collect()
}

/// Turns, each with a role and a content and nothing else.
pub(super) fn messages(name: &str, turns: Vec<Value>) -> Result<Vec<Turn>, Complaint> {
    read_items(name, turns, &["role", "content"])
}
