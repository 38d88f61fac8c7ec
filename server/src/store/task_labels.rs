//! What labelers said of one task, for admins: every assignment with the newest version of its ranking, and
//! every version of what was written or said of a prompt.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use sqlx::types::Json;

use crate::domain::ids::{AccountId, AssignmentId, ProjectId, TaskId};
use crate::error::{AppError, AppResult};

/// A task as its own page shows it.
#[derive(Debug, Clone)]
pub struct TaskDetail {
    /// Key.
    pub id: TaskId,
    /// Its project.
    pub project_id: ProjectId,
    /// The project's short name.
    pub project_slug: String,
    /// The prompt's id in its file; empty where the labeler writes the prompt.
    pub external_id: String,
    /// The prompt: a string or turns; null where the labeler writes one.
    pub body: Value,
    /// Use-case category; empty where there is no prompt.
    pub category: String,
    /// Its language, where known.
    pub language: Option<String>,
    /// Of a demonstration: what to write.
    pub brief: Option<Value>,
    /// What is done in it.
    pub kind: String,
    /// What it is there for.
    pub purpose: String,
    /// How many labelers it is given to.
    pub overlap: i16,
    /// Places held now.
    pub n_held: i16,
    /// Why it stands where it stands in the queue.
    pub chosen_by: String,
    /// Of reward models over its candidates, where it was measured.
    pub disagreement: Option<f32>,
    /// The task whose copy it is.
    pub copy_of: Option<TaskId>,
    /// The task that it repeats.
    pub repeat_of: Option<TaskId>,
    /// The gold task that was made of it and is mixed in.
    pub gold_id: Option<TaskId>,
    /// Whether it was closed.
    pub is_closed: bool,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Texts of the candidates in slot order.
    pub texts: Vec<String>,
}

/// Finds a task.
///
/// # Errors
/// `NotFound`.
pub async fn find_task(db: &mut PgConnection, id: TaskId) -> AppResult<TaskDetail> {
    sqlx::query_as!(
        TaskDetail,
        r#"
        SELECT t.id AS "id: TaskId", t.project_id AS "project_id: ProjectId", j.slug AS project_slug,
               coalesce(p.external_id, '') AS "external_id!", coalesce(p.body, 'null') AS "body!",
               coalesce(p.category, '') AS "category!", t.language, t.brief, t.kind, t.purpose, t.overlap, t.n_held,
               t.chosen_by, t.disagreement, t.copy_of AS "copy_of: TaskId", t.repeat_of AS "repeat_of: TaskId",
               (SELECT g.id FROM tasks g WHERE g.copy_of = t.id AND g.purpose = 'gold' AND g.closed_at IS NULL)
                   AS "gold_id: TaskId",
               t.closed_at IS NOT NULL AS "is_closed!", t.created_at,
               ARRAY(SELECT c.text FROM candidates k JOIN completions c ON c.id = k.completion_id
                     WHERE k.task_id = t.id ORDER BY k.slot) AS "texts!"
        FROM tasks t
        JOIN projects j ON j.id = t.project_id
        LEFT JOIN prompts p ON p.id = t.prompt_id
        WHERE t.id = $1
        "#,
        id.0
    )
    .fetch_optional(db)
    .await?
    .ok_or(AppError::NotFound("task"))
}

/// What was said of one candidate.
#[derive(Debug, Clone, serde::Deserialize)]
pub struct Said {
    /// Its slot.
    pub slot: i16,
    /// 1 is best; none where it could not be judged.
    pub rank: Option<i16>,
    /// Overall quality.
    pub rating: Option<i16>,
    /// Answers to the form's further scales.
    pub scales: BTreeMap<String, i16>,
    /// Answered flags only.
    pub flags: BTreeMap<String, bool>,
    /// Anything said of it.
    pub note: String,
}

/// One labeler's assignment of a task, with what they said.
#[derive(Debug, Clone)]
pub struct Label {
    /// Key.
    pub assignment_id: AssignmentId,
    /// Who.
    pub labeler_id: AccountId,
    /// Their name.
    pub name: String,
    /// Whether a program labelled.
    pub is_simulated: bool,
    /// `leased`, `submitted`, `skipped` or `expired`.
    pub status: String,
    /// A decision between labels.
    pub is_adjudication: bool,
    /// Whether it came in after its lease.
    pub is_late: bool,
    /// Slots in the order shown.
    pub display_order: Vec<i16>,
    /// The guidelines in force.
    pub guidelines_version: i32,
    /// The form that was filled in.
    pub form_version: i32,
    /// Key of the reason, where it was skipped.
    pub skip_reason: Option<String>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// When the newest version was submitted.
    pub said_at: Option<DateTime<Utc>>,
    /// The newest version; none where no ranking was submitted.
    pub version: Option<i32>,
    /// What was written beside it, or beside the reason to skip.
    pub note: String,
    /// Of a comparison of two.
    pub strength: Option<i16>,
    /// None of the candidates is any good.
    pub is_all_bad: bool,
    /// The ranks are the order shown.
    pub is_untouched: bool,
    /// Less time than anybody needs.
    pub is_too_fast: bool,
    /// Milliseconds of activity until the first version, where they were counted.
    pub active_ms: Option<i64>,
    /// Milliseconds from opening to the first version.
    pub elapsed_ms: Option<i64>,
    /// By slot.
    pub said: Json<Vec<Said>>,
}

impl Label {
    /// What was said of a slot.
    pub fn of(&self, slot: i16) -> Option<&Said> {
        self.said.0.iter().find(|said| said.slot == slot)
    }
}

/// The assignments of a task, oldest first; decisions after the labels.
pub async fn list(db: &mut PgConnection, id: TaskId) -> sqlx::Result<Vec<Label>> {
    sqlx::query_as!(
        Label,
        r#"
        SELECT a.id AS "assignment_id: AssignmentId", a.labeler_id AS "labeler_id: AccountId", u.name,
               u.is_simulated, a.status, a.is_adjudication, a.is_late, a.display_order, a.guidelines_version,
               a.form_version, a.skip_reason, a.ended_at,
               r.created_at AS "said_at?", r.version AS "version?",
               coalesce(r.note, a.skip_note, '') AS "note!", r.strength AS "strength?",
               coalesce(r.is_all_bad, FALSE) AS "is_all_bad!", coalesce(x.is_untouched, FALSE) AS "is_untouched!",
               coalesce(x.is_too_fast, FALSE) AS "is_too_fast!", x.active_ms AS "active_ms?",
               x.elapsed_ms AS "elapsed_ms?",
               (SELECT coalesce(jsonb_agg(jsonb_build_object('slot', g.slot, 'rank', g.rank, 'rating', g.overall,
                           'scales', g.scales, 'flags', g.flags, 'note', g.note) ORDER BY g.slot), '[]')
                FROM ratings g WHERE g.ranking_id = r.id) AS "said!: Json<Vec<Said>>"
        FROM assignments a
        JOIN accounts u ON u.id = a.labeler_id
        LEFT JOIN attention x ON x.assignment_id = a.id
        LEFT JOIN LATERAL (
            SELECT * FROM rankings r WHERE r.assignment_id = a.id ORDER BY r.version DESC LIMIT 1
        ) r ON TRUE
        WHERE a.task_id = $1
        ORDER BY a.is_adjudication, a.id
        "#,
        id.0
    )
    .fetch_all(db)
    .await
}

/// One version of a writing or of a review.
#[derive(Debug, Clone)]
pub struct Version {
    /// Whose.
    pub assignment_id: AssignmentId,
    /// 1 for the first, one more for each correction.
    pub version: i32,
    /// What was said, as its kind of task keeps it.
    pub content: Value,
    /// What was written beside it.
    pub note: String,
    /// Milliseconds of activity until it was submitted.
    pub active_ms: i64,
    /// When it was submitted.
    pub said_at: DateTime<Utc>,
}

/// Every version of every writing or review of a task: by assignment, oldest first, and of one assignment the
/// newest first. None for a task in which candidates are ranked.
pub async fn list_versions(db: &mut PgConnection, id: TaskId) -> sqlx::Result<Vec<Version>> {
    sqlx::query_as!(
        Version,
        r#"
        SELECT a.id AS "assignment_id: AssignmentId", s.version AS "version!", s.content AS "content!",
               s.note AS "note!", s.active_ms AS "active_ms!", s.created_at AS "said_at!"
        FROM assignments a
        JOIN LATERAL (
            SELECT version, content, note, active_ms, created_at FROM writings w WHERE w.assignment_id = a.id
            UNION ALL
            SELECT version, content, note, active_ms, created_at FROM reviews r WHERE r.assignment_id = a.id
        ) s ON TRUE
        WHERE a.task_id = $1
        ORDER BY a.id, s.version DESC
        "#,
        id.0
    )
    .fetch_all(db)
    .await
}
