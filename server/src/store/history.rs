//! What a labeler submitted lately, and its versions: where undoing begins.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;

use crate::domain::ids::{AccountId, AssignmentId};
use crate::domain::task::TaskKind;
use crate::error::AppResult;
use crate::store::submissions::CORRECTABLE;

/// One of a labeler's last submissions.
#[derive(Debug)]
pub struct Past {
    /// The assignment.
    pub id: AssignmentId,
    /// What was done in it.
    pub kind: TaskKind,
    /// When it was submitted first.
    pub ended_at: DateTime<Utc>,
    /// The prompt: a string or turns; null where the labeler wrote one.
    pub prompt: Value,
    /// Of a demonstration: what to write.
    pub brief: Option<Value>,
    /// How often it was submitted: 1, and one more for each correction.
    pub n_versions: i64,
    /// Whether it came after its lease had ended.
    pub is_late: bool,
}

/// The submissions that a labeler can correct, newest first: at most [`CORRECTABLE`].
///
/// # Errors
/// Only our own failures.
pub async fn list(db: &mut PgConnection, labeler_id: AccountId) -> AppResult<Vec<Past>> {
    let rows = sqlx::query!(
        r#"
        SELECT a.id AS "id!", t.kind AS "kind!", a.ended_at AS "ended_at!", p.body AS "body?", a.is_late AS "is_late!",
               t.brief,
               (SELECT count(*) FROM rankings r WHERE r.assignment_id = a.id)
                   + (SELECT count(*) FROM writings w WHERE w.assignment_id = a.id)
                   + (SELECT count(*) FROM reviews v WHERE v.assignment_id = a.id) AS "n_versions!"
        FROM correctable_assignments($1, $2) c
        JOIN assignments a ON a.id = c.id
        JOIN tasks t ON t.id = a.task_id
        LEFT JOIN prompts p ON p.id = t.prompt_id
        ORDER BY a.ended_at DESC, a.id DESC
        "#,
        labeler_id.0,
        CORRECTABLE
    )
    .fetch_all(db)
    .await?;
    let past = rows.into_iter().map(|row| {
        let kind = row.kind.parse();
        Ok(Past {
            id: AssignmentId(row.id),
            kind: kind.map_err(|message: String| anyhow::anyhow!(message))?,
            ended_at: row.ended_at,
            prompt: row.body.unwrap_or_default(),
            brief: row.brief,
            n_versions: row.n_versions,
            is_late: row.is_late,
        })
    });
    past.collect()
}

/// One version of a ranking.
#[derive(Debug)]
pub struct Version {
    /// 1, 2, 3 ...
    pub version: i32,
    /// When it was submitted.
    pub created_at: DateTime<Utc>,
    /// The rank of each slot; none where it was not judged.
    pub ranks: Vec<Option<i16>>,
    /// Of a comparison of two: how much better the preferred one is.
    pub strength: Option<i16>,
    /// None of the candidates was any good.
    pub is_all_bad: bool,
}

/// Every version of an assignment's ranking, the newest first.
pub async fn list_versions(db: &mut PgConnection, id: AssignmentId) -> sqlx::Result<Vec<Version>> {
    sqlx::query_as!(
        Version,
        r#"
        SELECT r.version, r.created_at, r.strength, r.is_all_bad,
               ARRAY(SELECT g.rank FROM ratings g WHERE g.ranking_id = r.id ORDER BY g.slot)
                   AS "ranks!: Vec<Option<i16>>"
        FROM rankings r
        WHERE r.assignment_id = $1
        ORDER BY r.version DESC
        "#,
        id.0
    )
    .fetch_all(db)
    .await
}
