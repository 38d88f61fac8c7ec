//! What a labeler hands in for a task, of whatever kind.

use serde_json::Value;

use crate::domain::form::Form;
use crate::domain::ranking::RankingInput;
use crate::domain::review::ReviewInput;
use crate::domain::task::TaskKind;
use crate::domain::writing::WritingInput;
use crate::error::FieldError;

/// How a labeler's time in a task was spent, as the browser counted it.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
)]
#[serde(deny_unknown_fields)]
pub struct TimeSpent {
    /// Milliseconds with the page in sight and keys or pointer used within the last minute.
    pub active_ms: i64,
    /// Milliseconds open but not active.
    pub idle_ms: i64,
}

impl TimeSpent {
    /// The same within what can be true of a task that has been in sight for `elapsed_ms`: nobody is at work
    /// for longer than that, and what is active is not idle.
    #[must_use]
    pub fn within(self, elapsed_ms: i64) -> Self {
        let elapsed = elapsed_ms.max(0);
        let active_ms = self.active_ms.clamp(0, elapsed);
        Self {
            active_ms,
            idle_ms: self.idle_ms.clamp(0, elapsed - active_ms),
        }
    }
}

/// A submission or draft, as it comes in.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Of a ranking or a comparison of two.
    Ranking(RankingInput),
    /// Of a demonstration.
    Writing(WritingInput),
    /// Of a review of a prompt.
    Review(ReviewInput),
}

impl Input {
    /// Reads the JSON of a draft or submission for a kind of task.
    ///
    /// # Errors
    /// The field that cannot be read, and why.
    pub fn from_json(kind: TaskKind, json: Value) -> Result<Self, FieldError> {
        match kind {
            TaskKind::Rank | TaskKind::Compare => read(json).map(Self::Ranking),
            TaskKind::Demonstrate => read(json).map(Self::Writing),
            TaskKind::Review => read(json).map(Self::Review),
        }
    }

    /// The same as JSON, to be kept as a draft.
    ///
    /// # Errors
    /// Never in practice: it holds nothing that JSON has not.
    pub fn to_json(&self) -> serde_json::Result<Value> {
        match self {
            Self::Ranking(input) => serde_json::to_value(input),
            Self::Writing(input) => serde_json::to_value(input),
            Self::Review(input) => serde_json::to_value(input),
        }
    }

    /// Everything that is wrong, but for what is missing: only a submission must be complete. `n` is
    /// the number of candidates.
    pub fn complaints(&self, n: usize, form: &Form) -> Vec<FieldError> {
        match self {
            Self::Ranking(input) => input.complaints(n, form),
            Self::Writing(input) => input.complaints(form),
            Self::Review(input) => input.complaints(form),
        }
    }
}

/// Reads JSON and names the field that is wrong.
fn read<T: serde::de::DeserializeOwned>(json: Value) -> Result<T, FieldError> {
    serde_path_to_error::deserialize(json)
        .map_err(|error| FieldError::of_json(&error.path().to_string(), error.inner()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn time_is_believed_up_to_what_has_passed() {
        let within = |active_ms, idle_ms, elapsed| {
            let time = TimeSpent { active_ms, idle_ms }.within(elapsed);
            (time.active_ms, time.idle_ms)
        };
        assert_eq!(within(4, 5, 10), (4, 5));
        assert_eq!(within(4, 50, 10), (4, 6));
        assert_eq!(within(40, 5, 10), (10, 0));
        assert_eq!(within(-4, -5, 10), (0, 0));
        // Clocks that disagree.
        assert_eq!(within(4, 5, -1), (0, 0));
    }

    #[test]
    fn each_kind_of_task_takes_its_own_json_and_gives_it_back() {
        for (kind, json) in [
            (TaskKind::Rank, json!({"candidates": [], "note": ""})),
            (
                TaskKind::Demonstrate,
                json!({"pairs": [{"query": "a", "response": ""}], "note": "n"}),
            ),
            (
                TaskKind::Review,
                json!({"flags": {"ambiguous": false}, "note": ""}),
            ),
        ] {
            let input = Input::from_json(kind, json.clone()).map(|input| input.to_json().ok());
            assert_eq!(input.ok().flatten(), Some(json), "{kind}");
        }
        let wrong = Input::from_json(TaskKind::Demonstrate, json!({"pairs": [{"query": 1}]}));
        assert_eq!(
            wrong.err().map(|error| error.field).as_deref(),
            Some("pairs[0].query")
        );
        let other = Input::from_json(TaskKind::Review, json!({"candidates": []}));
        assert_eq!(
            other.err().map(|error| error.field).as_deref(),
            Some("candidates")
        );
    }
}
