//! Questions that labelers ask about the task at hand, and what admins answer. Rows are only added.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::types::Json;
use sqlx::{Connection, PgConnection};

use crate::domain::audit::AuditAction;
use crate::domain::ids::{AccountId, AnswerId, AssignmentId, ProjectId, QuestionId, TaskId};
use crate::error::{AppError, AppResult};
use crate::message::Message;
use crate::store::assignments;
use crate::store::audit_events::{self, NewEvent};

/// Longest question, in characters.
pub const LONGEST_QUESTION: usize = 4000;

/// Longest answer, in characters.
pub const LONGEST_ANSWER: usize = 10_000;

/// A text that says something and is not too long.
fn check_text(field: &str, text: &str, most: usize) -> AppResult<String> {
    let text = text.trim();
    match text.chars().count() {
        0 => Err(AppError::invalid(
            field,
            Message::new("error-length").with("most", most),
        )),
        n if n > most => Err(AppError::invalid(
            field,
            Message::new("error-longer-than").with("most", most),
        )),
        _ => Ok(text.to_owned()),
    }
}

/// Asks about a task that the labeler holds or held. The same key again is the same question.
///
/// # Errors
/// `NotFound` for an assignment of somebody else, `Invalid` for a question that says nothing.
pub async fn ask(
    db: &mut PgConnection,
    id: AssignmentId,
    labeler_id: AccountId,
    markdown: &str,
    key: &str,
) -> AppResult<QuestionId> {
    let assignment = assignments::find(db, id, labeler_id).await?;
    let markdown = check_text("question", markdown, LONGEST_QUESTION)?;
    if key.is_empty() || key.len() > 200 {
        let message = Message::new("error-length").with("most", 200);
        return Err(AppError::invalid("key", message));
    }
    let question = sqlx::query_scalar!(
        r#"
        WITH made AS (
            INSERT INTO questions (id, project_id, task_id, assignment_id, asked_by, markdown, idempotency_key)
            VALUES ($1, $2, $3, $4, $5, $6, $7)
            ON CONFLICT ON CONSTRAINT questions_idempotency_key DO NOTHING
            RETURNING id
        )
        SELECT id AS "id!: QuestionId" FROM made
        UNION ALL
        SELECT id FROM questions WHERE assignment_id = $4 AND idempotency_key = $7
        LIMIT 1
        "#,
        QuestionId::new().0,
        assignment.project_id.0,
        assignment.task_id.0,
        id.0,
        labeler_id.0,
        markdown,
        key
    )
    .fetch_optional(db)
    .await?;
    // Of two of one key at one moment, neither may see the other's row yet.
    question.ok_or(AppError::conflict("error-busy-account"))
}

/// An answer.
#[derive(Debug, Clone, serde::Deserialize)]
pub struct Answer {
    /// Key.
    pub id: AnswerId,
    /// What it says.
    pub markdown: String,
    /// Who answered.
    pub by: String,
    /// When.
    pub at: DateTime<Utc>,
    /// Whether the asker has not said yet that they read it.
    pub is_unread: bool,
    /// The question as everybody reads it; none where only the asker does.
    pub published_question: Option<String>,
}

/// A question with its answers.
#[derive(Debug, Clone)]
pub struct Question {
    /// Key; later questions have later keys.
    pub id: QuestionId,
    /// The project's short name.
    pub project_slug: String,
    /// The task it is about.
    pub task_id: TaskId,
    /// What is done in it.
    pub kind: String,
    /// What it is there for; for admins alone.
    pub purpose: String,
    /// Of whose work it was asked.
    pub assignment_id: AssignmentId,
    /// Whether that work goes on.
    pub is_open: bool,
    /// The prompt: a string or turns; null where the labeler writes one.
    pub body: Value,
    /// The prompt's language, where known.
    pub language: Option<String>,
    /// What is asked.
    pub markdown: String,
    /// Who asks.
    pub by: String,
    /// When.
    pub at: DateTime<Utc>,
    /// Oldest first.
    pub answers: Json<Vec<Answer>>,
}

/// Which questions to list.
#[derive(Debug, Default, Clone, Copy)]
pub struct Filter {
    /// Of one project; of all where none.
    pub project_id: Option<ProjectId>,
    /// Of the projects that somebody may administer; of all where none.
    pub administered_by: Option<AccountId>,
    /// Of one labeler; of all where none.
    pub asked_by: Option<AccountId>,
    /// Of one assignment; of all where none.
    pub assignment_id: Option<AssignmentId>,
    /// Only those with, or only those without, an answer; both where none.
    pub is_answered: Option<bool>,
    /// Asked before this one.
    pub before: Option<QuestionId>,
}

/// Whether anything was asked about an assignment. Seldom so, and far cheaper to know than [`list`], whose plan
/// is made anew each time.
pub async fn has_any(db: &mut PgConnection, id: AssignmentId) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT 1 FROM questions WHERE assignment_id = $1) AS "has_any!""#,
        id.0
    )
    .fetch_one(db)
    .await
}

/// Questions, newest first.
pub async fn list(
    db: &mut PgConnection,
    filter: Filter,
    limit: i64,
) -> sqlx::Result<Vec<Question>> {
    sqlx::query_as!(
        Question,
        r#"
        SELECT q.id AS "id: QuestionId", j.slug AS project_slug, q.task_id AS "task_id: TaskId", t.kind, t.purpose,
               q.assignment_id AS "assignment_id: AssignmentId", s.status IN ('leased', 'expired') AS "is_open!",
               coalesce(p.body, 'null') AS "body!", t.language, q.markdown, u.name AS "by", q.created_at AS "at",
               w.answers AS "answers!: Json<Vec<Answer>>"
        FROM questions q
        JOIN projects j ON j.id = q.project_id
        JOIN tasks t ON t.id = q.task_id
        JOIN assignments s ON s.id = q.assignment_id
        JOIN accounts u ON u.id = q.asked_by
        LEFT JOIN prompts p ON p.id = t.prompt_id
        CROSS JOIN LATERAL (
            SELECT count(*) AS n,
                   coalesce(jsonb_agg(jsonb_build_object(
                       'id', a.id, 'markdown', a.markdown, 'by', b.name, 'at', a.created_at,
                       'is_unread', NOT EXISTS (SELECT 1 FROM answer_reads r
                                                WHERE r.answer_id = a.id AND r.account_id = q.asked_by),
                       'published_question', CASE WHEN NOT EXISTS (
                            SELECT 1 FROM answer_withdrawals d WHERE d.answer_id = a.id) THEN a.published_question END
                   ) ORDER BY a.created_at, a.id), '[]') AS answers
            FROM answers a
            JOIN accounts b ON b.id = a.answered_by
            WHERE a.question_id = q.id
        ) w
        WHERE ($1::UUID IS NULL OR q.project_id = $1)
          AND ($2::UUID IS NULL OR q.asked_by = $2)
          AND ($3::UUID IS NULL OR q.assignment_id = $3)
          AND ($4::BOOLEAN IS NULL OR (w.n > 0) = $4)
          AND ($5::UUID IS NULL OR q.id < $5)
          AND ($7::UUID IS NULL OR may_administer($7, q.project_id))
        ORDER BY q.id DESC
        LIMIT $6
        "#,
        filter.project_id.map(|id| id.0),
        filter.asked_by.map(|id| id.0),
        filter.assignment_id.map(|id| id.0),
        filter.is_answered,
        filter.before.map(|id| id.0),
        limit,
        filter.administered_by.map(|id| id.0)
    )
    .fetch_all(db)
    .await
}

/// Answers a question; with `published_question`, for every labeler of the project, beside the guidelines.
///
/// # Errors
/// `NotFound` for a question of a project that they may not administer; `Invalid` for a text that says nothing.
pub async fn answer(
    db: &mut PgConnection,
    id: QuestionId,
    by: AccountId,
    markdown: &str,
    published_question: Option<&str>,
) -> AppResult<AnswerId> {
    let markdown = check_text("answer", markdown, LONGEST_ANSWER)?;
    let published = published_question
        .map(|text| check_text("published_question", text, LONGEST_QUESTION))
        .transpose()?;
    let answer = AnswerId::new();
    let mut transaction = db.begin().await?;
    let project = sqlx::query_scalar!(
        r#"
        WITH asked AS (
            SELECT id, project_id FROM questions WHERE id = $2 AND may_administer($3, project_id)
        ), made AS (
            INSERT INTO answers (id, question_id, answered_by, markdown, published_question)
            SELECT $1, id, $3, $4, $5 FROM asked
        )
        SELECT project_id AS "project_id!" FROM asked
        "#,
        answer.0,
        id.0,
        by.0,
        markdown,
        published
    )
    .fetch_optional(&mut *transaction)
    .await?
    .ok_or(AppError::NotFound("question"))?;
    let event = NewEvent::by(by, AuditAction::QuestionAnswered).to("question", id.0);
    let event = event.within(ProjectId(project));
    let event = event.with(json!({"published": published.is_some()}));
    audit_events::record(&mut transaction, event).await?;
    transaction.commit().await?;
    Ok(answer)
}

/// Takes a published answer back: only the asker reads it then. False when it was not published, or in a project
/// that they may not administer.
pub async fn withdraw(db: &mut PgConnection, id: AnswerId, by: AccountId) -> sqlx::Result<bool> {
    let mut transaction = db.begin().await?;
    let found = sqlx::query!(
        r#"
        WITH found AS (
            SELECT a.id, a.question_id, q.project_id
            FROM answers a
            JOIN questions q ON q.id = a.question_id
            WHERE a.id = $1 AND a.published_question IS NOT NULL AND may_administer($2, q.project_id)
        ), done AS (
            INSERT INTO answer_withdrawals (answer_id, withdrawn_by)
            SELECT id, $2 FROM found
            ON CONFLICT (answer_id) DO NOTHING
            RETURNING answer_id
        )
        SELECT question_id AS "question_id!", project_id AS "project_id!",
               EXISTS (SELECT 1 FROM done) AS "is_new!"
        FROM found
        "#,
        id.0,
        by.0
    )
    .fetch_optional(&mut *transaction)
    .await?;
    if let Some(found) = found.as_ref().filter(|found| found.is_new) {
        let event = NewEvent::by(by, AuditAction::AnswerWithdrawn);
        let event = event.to("question", found.question_id);
        let event = event.within(ProjectId(found.project_id));
        audit_events::record(&mut transaction, event).await?;
    }
    transaction.commit().await?;
    Ok(found.is_some())
}

/// Notes that a labeler has read every answer to their questions.
pub async fn mark_read(db: &mut PgConnection, labeler_id: AccountId) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        INSERT INTO answer_reads (answer_id, account_id)
        SELECT a.id, $1 FROM answers a JOIN questions q ON q.id = a.question_id WHERE q.asked_by = $1
        ON CONFLICT DO NOTHING
        "#,
        labeler_id.0
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A question and its answer as every labeler of the project reads them.
#[derive(Debug)]
pub struct Published {
    /// What was asked, without who did.
    pub question: String,
    /// The answer.
    pub answer: String,
    /// When it was answered.
    pub at: DateTime<Utc>,
}

/// The published answers of a project, newest first.
pub async fn list_published(
    db: &mut PgConnection,
    project_id: ProjectId,
) -> sqlx::Result<Vec<Published>> {
    sqlx::query_as!(
        Published,
        r#"
        SELECT a.published_question AS "question!", a.markdown AS answer, a.created_at AS "at"
        FROM answers a
        JOIN questions q ON q.id = a.question_id
        WHERE q.project_id = $1 AND a.published_question IS NOT NULL
          AND NOT EXISTS (SELECT 1 FROM answer_withdrawals d WHERE d.answer_id = a.id)
        ORDER BY a.created_at DESC, a.id DESC
        "#,
        project_id.0
    )
    .fetch_all(db)
    .await
}
