//! What an account may do, everywhere and in single projects. One account may have several roles.

use std::fmt;
use std::str::FromStr;

use crate::domain::task::words;

words! {
    /// What a member does in a project.
    MemberRole ("role in a project") {
        /// Does its tasks.
        Labeler = "labeler",
        /// Also sets its rules, sees its labels and exports them.
        Admin = "admin",
    }
}

/// What an account may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Ranks candidates and writes demonstrations.
    Labeler,
    /// Imports prompts, invites people, exports datasets.
    Admin,
    /// Starts and watches runs.
    Operator,
}

impl Role {
    /// Every role, in the order pages list them.
    pub const ALL: [Self; 3] = [Self::Labeler, Self::Admin, Self::Operator];

    /// The word stored in the database and used in URLs and forms.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Labeler => "labeler",
            Self::Admin => "admin",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| format!("unknown role {text:?}: use labeler, admin or operator"))
    }
}
