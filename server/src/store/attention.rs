//! Signs that a labeler did not look closely, as the view `attention` of the database says what they are:
//! the order that was shown, submitted as it was, and less time than anybody needs. They are shown to
//! admins and never refuse anything.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;

use crate::domain::ids::{AccountId, AssignmentId, ProjectId, TaskId};

/// A submission that bears a sign.
#[derive(Debug)]
pub struct Sign {
    /// The assignment; later ones have later keys.
    pub assignment_id: AssignmentId,
    /// Its task.
    pub task_id: TaskId,
    /// The prompt's id in its file; empty where the labeler wrote the prompt.
    pub external_id: String,
    /// The prompt.
    pub body: Value,
    /// Who submitted.
    pub name: String,
    /// The ranks are the order shown.
    pub is_untouched: bool,
    /// Less time than anybody needs.
    pub is_too_fast: bool,
    /// Milliseconds of activity until the first version, where they were counted.
    pub active_ms: Option<i64>,
    /// Milliseconds from opening to the first version.
    pub elapsed_ms: i64,
    /// When.
    pub ended_at: DateTime<Utc>,
}

/// What a list of signs is narrowed to.
#[derive(Debug, Default, Clone)]
pub struct Filter {
    /// `untouched`, `too-fast`, or empty for both.
    pub sign: String,
    /// One labeler; all where none.
    pub labeler_id: Option<AccountId>,
    /// Older than this.
    pub before: Option<AssignmentId>,
}

/// Submissions of a project that bear a sign, newest first.
pub async fn list(
    db: &mut PgConnection,
    project_id: ProjectId,
    filter: &Filter,
    limit: i64,
) -> sqlx::Result<Vec<Sign>> {
    sqlx::query_as!(
        Sign,
        r#"
        SELECT x.assignment_id AS "assignment_id!: AssignmentId", x.task_id AS "task_id!: TaskId",
               coalesce(p.external_id, '') AS "external_id!", coalesce(p.body, 'null') AS "body!", u.name,
               x.is_untouched AS "is_untouched!", coalesce(x.is_too_fast, FALSE) AS "is_too_fast!",
               x.active_ms, x.elapsed_ms AS "elapsed_ms!", x.ended_at AS "ended_at!"
        FROM attention x
        JOIN tasks t ON t.id = x.task_id
        JOIN accounts u ON u.id = x.labeler_id
        LEFT JOIN prompts p ON p.id = t.prompt_id
        -- What candidates answered is looked at on the page of their screening.
        WHERE x.project_id = $1 AND t.purpose <> 'screening'
          AND CASE $2 WHEN 'untouched' THEN x.is_untouched
                      WHEN 'too-fast' THEN x.is_too_fast
                      ELSE x.is_untouched OR x.is_too_fast END
          AND ($3::UUID IS NULL OR x.labeler_id = $3)
          AND ($4::UUID IS NULL OR x.assignment_id < $4)
        ORDER BY x.assignment_id DESC
        LIMIT $5
        "#,
        project_id.0,
        filter.sign,
        filter.labeler_id.map(|id| id.0),
        filter.before.map(|id| id.0),
        limit
    )
    .fetch_all(db)
    .await
}

/// How often a labeler's submissions bear signs.
#[derive(Debug)]
pub struct LabelerSigns {
    /// Who.
    pub labeler_id: AccountId,
    /// Their name.
    pub name: String,
    /// Submissions.
    pub n: i64,
    /// Those that are rankings of more than two.
    pub n_rankings: i64,
    /// Of these, in the order shown.
    pub n_untouched: i64,
    /// Of these, how many would be so by chance: one order of K! each.
    pub n_by_chance: f64,
    /// Of all, those in less time than anybody needs.
    pub n_too_fast: i64,
}

/// Every labeler of a project with submissions, by name.
pub async fn list_labelers(
    db: &mut PgConnection,
    project_id: ProjectId,
) -> sqlx::Result<Vec<LabelerSigns>> {
    sqlx::query_as!(
        LabelerSigns,
        r#"
        SELECT u.id AS "labeler_id: AccountId", u.name, count(*) AS "n!",
               count(*) FILTER (WHERE x.can_be_untouched) AS "n_rankings!",
               count(*) FILTER (WHERE x.is_untouched) AS "n_untouched!",
               coalesce(sum(1.0 / factorial(x.n_candidates)) FILTER (WHERE x.can_be_untouched), 0)::DOUBLE PRECISION
                   AS "n_by_chance!",
               count(*) FILTER (WHERE x.is_too_fast) AS "n_too_fast!"
        FROM attention x
        JOIN tasks t ON t.id = x.task_id
        JOIN accounts u ON u.id = x.labeler_id
        WHERE x.project_id = $1 AND t.purpose <> 'screening'
        GROUP BY u.id, u.name
        ORDER BY u.name, u.id
        "#,
        project_id.0
    )
    .fetch_all(db)
    .await
}
