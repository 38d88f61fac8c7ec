//! A task that was submitted, open again: what its page says of the versions, whatever its kind.

use sqlx::PgConnection;

use crate::domain::assignment::AssignmentStatus;
use crate::error::AppResult;
use crate::store;
use crate::store::assignments::Assignment;
use crate::web::page::Page;

/// What is corrected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Correcting {
    /// The newest version, which a submission takes the place of.
    pub newest: i32,
    /// Whether what is in sight is the draft of a correction, and not that version.
    pub is_draft: bool,
}

impl Correcting {
    /// Of an assignment that was submitted; none of one that is open.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find(db: &mut PgConnection, assignment: &Assignment) -> AppResult<Option<Self>> {
        if assignment.status != AssignmentStatus::Submitted {
            return Ok(None);
        }
        Ok(Some(Self {
            newest: store::submissions::newest_version(&mut *db, assignment.id).await?,
            is_draft: store::submissions::is_being_corrected(db, assignment).await?,
        }))
    }

    /// The version that a submission becomes.
    pub fn next(&self) -> i32 {
        self.newest + 1
    }

    /// A message with both.
    pub fn say(&self, page: &Page, key: &str) -> String {
        let versions = [
            ("newest", self.newest.to_string()),
            ("next", self.next().to_string()),
        ];
        page.t_args(key, &versions)
    }
}
