//! Grades of what candidates wrote, given without knowing who wrote it, and the decision of a screening, which
//! makes somebody a labeler in the transaction that decides.

use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::domain::audit::AuditAction;
use crate::domain::gold::GoldScore;
use crate::domain::ids::{AccountId, GradeId, ProjectId, ScreeningId, TaskId};
use crate::domain::ranking::LONGEST_NOTE;
use crate::domain::screening::{GRADES, Grades, Outcome};
use crate::error::{AppError, AppResult, OnConstraint};
use crate::message::Message;
use crate::store::audit_events::{self, NewEvent};
use crate::store::screening_work::Item;
use crate::store::{screening_work, screenings};

/// Decides a screening that waits, where nothing is missing: the numbers, the status, and of somebody who
/// passed the role and the membership, all in the caller's transaction.
pub(super) async fn decide(db: &mut PgConnection, id: ScreeningId) -> AppResult<()> {
    let row = sqlx::query!(
        "SELECT project_id, account_id FROM screenings WHERE id = $1 AND status = 'waiting' FOR UPDATE",
        id.0
    )
    .fetch_optional(&mut *db)
    .await?;
    let Some(row) = row else {
        return Ok(());
    };
    let (project_id, account_id) = (ProjectId(row.project_id), AccountId(row.account_id));
    let rules = screenings::find_rules(db, project_id).await?;
    let items = screening_work::list_items(db, id).await?;
    let texts = items.iter().filter(|item| item.kind == "demonstrate");
    let is_missing = |item: &Item| {
        item.status == "submitted" && item.grades.len() < usize::from(rules.graders.unsigned_abs())
    };
    if texts.clone().any(is_missing) {
        return Ok(());
    }
    let grades: Vec<Vec<i16>> = texts.map(|item| item.grades.clone()).collect();
    let score: GoldScore = items.iter().map(|item| item.score).sum();
    let outcome = Outcome {
        flags: score.flags,
        ranks: score.ranks,
        demonstrations: Grades::of(&grades),
        rules,
    };
    let status = match outcome.passed() {
        true => "passed",
        false => "failed",
    };
    sqlx::query!(
        "UPDATE screenings SET status = $2, outcome = $3, decided_at = now() WHERE id = $1",
        id.0,
        status,
        serde_json::to_value(outcome).map_err(anyhow::Error::from)?
    )
    .execute(&mut *db)
    .await?;
    if outcome.passed() {
        admit(db, project_id, account_id).await?;
    }
    let action = match outcome.passed() {
        true => AuditAction::ScreeningPassed,
        false => AuditAction::ScreeningFailed,
    };
    let event = NewEvent::by_nobody(action).to("account", account_id.0);
    let event = event.within(project_id).with(json!({"screening": id.0}));
    audit_events::record(db, event).await?;
    Ok(())
}

/// Makes a labeler of somebody, and a member of the project.
async fn admit(
    db: &mut PgConnection,
    project_id: ProjectId,
    account_id: AccountId,
) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE accounts SET roles = array_append(roles, 'labeler') WHERE id = $1 AND NOT 'labeler' = ANY (roles)",
        account_id.0
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        "INSERT INTO members (project_id, account_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        project_id.0,
        account_id.0
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A text that waits for a grade, without who wrote it.
#[derive(Debug)]
pub struct Text {
    /// The candidate's copy of the task.
    pub task_id: TaskId,
    /// The prompt that it answers: a string or turns.
    pub body: Value,
    /// The prompt's language, where known.
    pub language: Option<String>,
    /// What was written: `{"response"}`.
    pub content: Value,
    /// Texts that wait for this admin, this one among them.
    pub n_waiting: i64,
}

/// The next text for an admin to grade: of a screening that waits for grades, which nobody can correct any
/// more, not graded by them, not their own, and without enough grades. In an order drawn for each admin, so
/// that the texts of one candidate do not come one after the other.
pub async fn next_text(db: &mut PgConnection, grader: AccountId) -> sqlx::Result<Option<Text>> {
    sqlx::query_as!(
        Text,
        r#"
        SELECT i.task_id AS "task_id: TaskId", p.body, t.language, w.content, count(*) OVER () AS "n_waiting!"
        FROM screenings s
        JOIN screening_items i ON i.screening_id = s.id
        JOIN tasks t ON t.id = i.task_id AND t.kind = 'demonstrate'
        JOIN prompts p ON p.id = t.prompt_id
        JOIN assignments a ON a.task_id = t.id AND a.labeler_id = s.account_id AND a.status = 'submitted'
        JOIN LATERAL (
            SELECT content FROM writings w WHERE w.assignment_id = a.id ORDER BY w.version DESC LIMIT 1
        ) w ON TRUE
        LEFT JOIN screening_rules r ON r.project_id = s.project_id
        WHERE s.status = 'waiting' AND s.account_id <> $1 AND may_administer($1, s.project_id)
          AND NOT EXISTS (SELECT 1 FROM grades g WHERE g.task_id = i.task_id AND g.graded_by = $1)
          AND (SELECT count(*) FROM grades g WHERE g.task_id = i.task_id) < coalesce(r.graders, 1)
        ORDER BY md5(i.task_id::TEXT || $1::TEXT)
        LIMIT 1
        "#,
        grader.0
    )
    .fetch_optional(db)
    .await
}

/// Grades a text; when it was the last grade that was missing, the screening is decided.
///
/// # Errors
/// `Invalid` for a grade that is none; `NotFound` where no such text waits for this admin; `Conflict` where
/// they graded it already.
pub async fn grade(
    db: &mut PgConnection,
    task_id: TaskId,
    grader: AccountId,
    grade: i16,
    note: &str,
) -> AppResult<()> {
    if !GRADES.contains(&grade) {
        let message = Message::new("error-outside").with("low", GRADES.start());
        return Err(AppError::invalid(
            "grade",
            message.with("high", GRADES.end()),
        ));
    }
    let note: String = note.trim().chars().take(LONGEST_NOTE).collect();
    let mut transaction = db.begin().await?;
    let screening = sqlx::query!(
        r#"
        SELECT s.id, s.project_id
        FROM screening_items i
        JOIN screenings s ON s.id = i.screening_id
        JOIN tasks t ON t.id = i.task_id
        JOIN assignments a ON a.task_id = i.task_id AND a.labeler_id = s.account_id
        WHERE i.task_id = $1 AND s.status = 'waiting' AND s.account_id <> $2 AND t.kind = 'demonstrate'
          AND a.status = 'submitted' AND may_administer($2, s.project_id)
        FOR UPDATE OF s
        "#,
        task_id.0,
        grader.0
    )
    .fetch_optional(&mut *transaction)
    .await?
    .ok_or(AppError::NotFound("text"))?;
    sqlx::query!(
        "INSERT INTO grades (id, task_id, grade, note, graded_by) VALUES ($1, $2, $3, $4, $5)",
        GradeId::new().0,
        task_id.0,
        grade,
        note,
        grader.0
    )
    .execute(&mut *transaction)
    .await
    .on_constraint("grades_once_key", || {
        AppError::conflict("error-screening-graded")
    })?;
    // Neither the grade nor whose text it is: who grades next is not to know the one, nor anybody the other.
    let event = NewEvent::by(grader, AuditAction::ScreeningGraded).to("task", task_id.0);
    let event = event.within(ProjectId(screening.project_id));
    audit_events::record(&mut transaction, event).await?;
    decide(&mut transaction, ScreeningId(screening.id)).await?;
    transaction.commit().await?;
    Ok(())
}
