//! Screenings: who is invited to become a labeler of a project, what they are asked, and the copies of it
//! that they get. Their work on these is in `screening_work.rs`, grades and the decision in
//! `screening_grades.rs`.

use chrono::{DateTime, Utc};
use rand::Rng;
use rand::seq::SliceRandom;
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{Connection, PgConnection};

use crate::domain::ids::{AccountId, ProjectId, ScreeningId, TaskId};
use crate::domain::role::Role;
use crate::domain::screening::{LONGEST_WORDS, Outcome, Rules, TOPICS};
use crate::error::{AppError, AppResult, OnConstraint};
use crate::message::Message;
use crate::store::members::Subject;
use crate::store::{accounts, gold, members, projects, screening_grades};

/// What a project's candidates must reach.
pub async fn find_rules(db: &mut PgConnection, project_id: ProjectId) -> sqlx::Result<Rules> {
    let rules = sqlx::query_as!(
        Rules,
        "SELECT least_flags, least_ranks, least_demonstrations, graders FROM screening_rules WHERE project_id = $1",
        project_id.0
    )
    .fetch_optional(db)
    .await?;
    Ok(rules.unwrap_or_default())
}

/// Changes what candidates must reach. Decisions that were made stay; a candidate who waited for more grades
/// than are needed now is decided at once. The caller holds a transaction.
///
/// # Errors
/// When a stored answer cannot be read.
pub async fn set_rules(
    db: &mut PgConnection,
    project_id: ProjectId,
    rules: &Rules,
) -> AppResult<()> {
    sqlx::query!(
        r#"
        INSERT INTO screening_rules (project_id, least_flags, least_ranks, least_demonstrations, graders)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (project_id) DO UPDATE
            SET least_flags = EXCLUDED.least_flags, least_ranks = EXCLUDED.least_ranks,
                least_demonstrations = EXCLUDED.least_demonstrations, graders = EXCLUDED.graders
        "#,
        project_id.0,
        rules.least_flags,
        rules.least_ranks,
        rules.least_demonstrations,
        rules.graders
    )
    .execute(&mut *db)
    .await?;
    let waiting = sqlx::query_scalar!(
        "SELECT id FROM screenings WHERE project_id = $1 AND status = 'waiting' ORDER BY id",
        project_id.0
    )
    .fetch_all(&mut *db)
    .await?;
    for id in waiting {
        screening_grades::decide(db, ScreeningId(id)).await?;
    }
    Ok(())
}

/// A screening task of a project, of which candidates get copies.
#[derive(Debug)]
pub struct Source {
    /// Key.
    pub task_id: TaskId,
    /// The prompt's id in its file.
    pub external_id: String,
    /// The prompt.
    pub body: Value,
    /// What is done in it.
    pub kind: String,
    /// Pairs whose order is known.
    pub n_pairs: usize,
    /// Flags that are known.
    pub n_flags: usize,
    /// Screenings that asked it.
    pub n_asked: i64,
}

/// The screening tasks that new candidates are asked: rankings before texts.
///
/// # Errors
/// When a stored answer cannot be read.
pub async fn list_sources(db: &mut PgConnection, project_id: ProjectId) -> AppResult<Vec<Source>> {
    let rows = sqlx::query!(
        r#"
        SELECT t.id, coalesce(p.external_id, '') AS "external_id!", coalesce(p.body, 'null') AS "body!", t.kind,
               (SELECT g.answer FROM gold_answers g WHERE g.task_id = t.id ORDER BY g.version DESC LIMIT 1)
                   AS answer,
               (SELECT count(*) FROM screening_items i WHERE i.source_id = t.id) AS "n_asked!"
        FROM tasks t
        LEFT JOIN prompts p ON p.id = t.prompt_id
        WHERE t.project_id = $1 AND t.purpose = 'screening' AND t.only_for IS NULL AND t.closed_at IS NULL
        ORDER BY t.kind = 'demonstrate', t.id
        "#,
        project_id.0
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            let answer = row.answer.map(gold::read).transpose()?.unwrap_or_default();
            Ok(Source {
                task_id: TaskId(row.id),
                external_id: row.external_id,
                body: row.body,
                kind: row.kind,
                n_pairs: answer.n_pairs(),
                n_flags: answer.n_flags(),
                n_asked: row.n_asked,
            })
        })
        .collect()
}

/// Makes a screening task in which a candidate answers a prompt of the project.
///
/// # Errors
/// `Invalid` where the project has no such prompt or asks it already.
pub async fn add_demonstration(
    db: &mut PgConnection,
    project_id: ProjectId,
    external_id: &str,
) -> AppResult<TaskId> {
    let id = TaskId::new();
    let done = sqlx::query!(
        r#"
        INSERT INTO tasks (id, project_id, prompt_id, kind, purpose, overlap, language)
        SELECT $1, p.project_id, p.id, 'demonstrate', 'screening', $4, p.language
        FROM prompts p
        WHERE p.project_id = $2 AND p.external_id = $3
          AND NOT EXISTS (SELECT 1 FROM tasks t
                          WHERE t.prompt_id = p.id AND t.kind = 'demonstrate' AND t.purpose = 'screening'
                            AND t.only_for IS NULL AND t.closed_at IS NULL)
        "#,
        id.0,
        project_id.0,
        external_id.trim(),
        gold::EVERYBODY
    )
    .execute(db)
    .await?;
    match done.rows_affected() {
        1 => Ok(id),
        _ => Err(AppError::invalid(
            "prompt",
            Message::new("error-screening-prompt"),
        )),
    }
}

/// Takes a screening task away from the candidates to come. False when there is none.
pub async fn remove_source(db: &mut PgConnection, id: TaskId) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"
        UPDATE tasks SET closed_at = coalesce(closed_at, now())
        WHERE id = $1 AND purpose = 'screening' AND only_for IS NULL
        "#,
        id.0
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Makes an account without any role, for somebody who is to be screened. The caller holds a transaction.
///
/// # Errors
/// `Invalid` when the address is taken or is none.
pub async fn insert_candidate(
    db: &mut PgConnection,
    email: &str,
    name: &str,
) -> AppResult<AccountId> {
    let id = accounts::insert(db, email, name, &[Role::Labeler], false).await?;
    accounts::set_roles(db, id, &[]).await?;
    Ok(id)
}

/// Invites somebody to the screening of a project; again after one that was decided.
///
/// # Errors
/// `Conflict` for somebody who is a labeler or is invited already.
pub async fn invite(
    db: &mut PgConnection,
    project_id: ProjectId,
    account_id: AccountId,
    by: AccountId,
) -> AppResult<ScreeningId> {
    let id = ScreeningId::new();
    let made = sqlx::query!(
        r#"
        INSERT INTO screenings (id, project_id, account_id, invited_by)
        SELECT $1, $2, a.id, $4
        FROM accounts a
        WHERE a.id = $3 AND NOT 'labeler' = ANY (a.roles) AND a.disabled_at IS NULL AND NOT a.is_simulated
        "#,
        id.0,
        project_id.0,
        account_id.0,
        by.0
    )
    .execute(&mut *db)
    .await
    .on_constraint("screenings_open_key", || {
        AppError::conflict("error-screening-invited")
    })?;
    if made.rows_affected() == 0 {
        return Err(AppError::conflict("error-screening-labeler"));
    }
    Ok(id)
}

/// Takes an invitation back that was not begun. False when there is none.
pub async fn withdraw(db: &mut PgConnection, id: ScreeningId) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "UPDATE screenings SET status = 'withdrawn' WHERE id = $1 AND status = 'invited'",
        id.0
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// A screening with how far it is.
#[derive(Debug, Clone)]
pub struct Screening {
    /// Key.
    pub id: ScreeningId,
    /// Of which project.
    pub project_id: ProjectId,
    /// The project's short name.
    pub project_slug: String,
    /// The project's name.
    pub project: String,
    /// The candidate.
    pub account_id: AccountId,
    /// Their name.
    pub name: String,
    /// Their address.
    pub email: String,
    /// `invited`, `started`, `waiting`, `passed`, `failed` or `withdrawn`.
    pub status: String,
    /// What they are comfortable to judge, in their own view.
    pub topics: Vec<String>,
    /// The same in their own words.
    pub words: String,
    /// The numbers that decided.
    pub outcome: Option<Json<Outcome>>,
    /// When they were invited.
    pub invited_at: DateTime<Utc>,
    /// Tasks that were asked.
    pub n_items: i64,
    /// Of these, done or skipped.
    pub n_done: i64,
}

/// Whose screenings to list.
#[derive(Debug, Default, Clone, Copy)]
pub struct Whose {
    /// One.
    pub id: Option<ScreeningId>,
    /// Of one project; of all where none.
    pub project_id: Option<ProjectId>,
    /// Of one account; of all where none.
    pub account_id: Option<AccountId>,
}

/// Screenings, the newest first.
pub async fn list(db: &mut PgConnection, whose: Whose) -> sqlx::Result<Vec<Screening>> {
    sqlx::query_as!(
        Screening,
        r#"
        SELECT s.id AS "id: ScreeningId", s.project_id AS "project_id: ProjectId", p.slug AS project_slug,
               p.name AS project, s.account_id AS "account_id: AccountId", u.name, u.email, s.status, s.topics,
               s.words, s.outcome AS "outcome: Json<Outcome>", s.invited_at, i.n AS "n_items!",
               i.n_done AS "n_done!"
        FROM screenings s
        JOIN projects p ON p.id = s.project_id
        JOIN accounts u ON u.id = s.account_id
        CROSS JOIN LATERAL (
            SELECT count(*) AS n, count(*) FILTER (WHERE a.status IN ('submitted', 'skipped')) AS n_done
            FROM screening_items i
            LEFT JOIN assignments a ON a.task_id = i.task_id AND a.labeler_id = s.account_id
            WHERE i.screening_id = s.id
        ) i
        WHERE ($1::UUID IS NULL OR s.id = $1)
          AND ($2::UUID IS NULL OR s.project_id = $2)
          AND ($3::UUID IS NULL OR s.account_id = $3)
        ORDER BY s.id DESC
        "#,
        whose.id.map(|id| id.0),
        whose.project_id.map(|id| id.0),
        whose.account_id.map(|id| id.0)
    )
    .fetch_all(db)
    .await
}

/// The projects that an account is or was screened for.
pub async fn list_projects(
    db: &mut PgConnection,
    account_id: AccountId,
) -> sqlx::Result<Vec<ProjectId>> {
    let ids = sqlx::query_scalar!(
        "SELECT DISTINCT project_id FROM screenings WHERE account_id = $1 AND status <> 'withdrawn'",
        account_id.0
    )
    .fetch_all(db)
    .await?;
    Ok(ids.into_iter().map(ProjectId).collect())
}

/// One screening.
///
/// # Errors
/// `NotFound`.
pub async fn find(db: &mut PgConnection, id: ScreeningId) -> AppResult<Screening> {
    let whose = Whose {
        id: Some(id),
        ..Default::default()
    };
    let found = list(db, whose).await?.into_iter().next();
    found.ok_or(AppError::NotFound("screening"))
}

/// What a candidate says when they begin.
#[derive(Debug, Default, Clone)]
pub struct SelfAssessment {
    /// Of [`TOPICS`]: what they are comfortable to judge.
    pub topics: Vec<String>,
    /// The same in their own words.
    pub words: String,
}

impl SelfAssessment {
    fn complaints(&self) -> Result<(), AppError> {
        if self
            .topics
            .iter()
            .any(|topic| !TOPICS.contains(&topic.as_str()))
        {
            let message = Message::new("error-unknown-choice");
            return Err(AppError::invalid("topics", message));
        }
        if self.words.chars().count() > LONGEST_WORDS {
            let message = Message::new("error-longer-than").with("most", LONGEST_WORDS);
            return Err(AppError::invalid("words", message));
        }
        Ok(())
    }
}

/// Begins a screening: the candidate has read the guidelines, says what they are comfortable with, and gets
/// copies of the screening tasks: rankings in an order of their own, then texts. Beginning again changes
/// nothing.
///
/// # Errors
/// `NotFound` for a screening of somebody else; `Invalid` for a wrong self-assessment; `Conflict` where it
/// cannot begin any more, or the project asks nothing.
pub async fn start(
    db: &mut PgConnection,
    id: ScreeningId,
    account_id: AccountId,
    said: &SelfAssessment,
    rng: &mut impl Rng,
) -> AppResult<()> {
    said.complaints()?;
    let mut transaction = db.begin().await?;
    let row = sqlx::query!(
        "SELECT project_id, status FROM screenings WHERE id = $1 AND account_id = $2 FOR UPDATE",
        id.0,
        account_id.0
    )
    .fetch_optional(&mut *transaction)
    .await?
    .ok_or(AppError::NotFound("screening"))?;
    match row.status.as_str() {
        "invited" => (),
        "started" => return Ok(()),
        _ => return Err(AppError::conflict("error-screening-over")),
    }
    let project_id = ProjectId(row.project_id);
    if let Some((version, _)) = projects::find_guidelines(&mut transaction, project_id).await? {
        let subject = Subject::Guidelines;
        members::acknowledge(&mut transaction, account_id, project_id, subject, version).await?;
    }
    let mut sources = list_sources(&mut transaction, project_id).await?;
    if sources.is_empty() {
        return Err(AppError::conflict("error-screening-empty"));
    }
    sources.shuffle(rng);
    sources.sort_by_key(|source| source.kind == "demonstrate");
    for (position, source) in (0i16..).zip(&sources) {
        copy(&mut transaction, id, account_id, position, source.task_id).await?;
    }
    sqlx::query!(
        "UPDATE screenings SET status = 'started', started_at = now(), topics = $2, words = $3 WHERE id = $1",
        id.0,
        &said.topics,
        said.words.trim()
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}

/// A copy of a screening task for one candidate. It names the task for the dataset that the screening task
/// was made of, so that a labeler is not given that one later.
async fn copy(
    db: &mut PgConnection,
    id: ScreeningId,
    account_id: AccountId,
    position: i16,
    source: TaskId,
) -> sqlx::Result<()> {
    let task_id = TaskId::new();
    sqlx::query!(
        r#"
        INSERT INTO tasks (id, project_id, prompt_id, kind, purpose, overlap, language, brief, copy_of, only_for)
        SELECT $1, project_id, prompt_id, kind, 'screening', 1, language, brief, copy_of, $3
        FROM tasks WHERE id = $2
        "#,
        task_id.0,
        source.0,
        account_id.0
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        r#"
        INSERT INTO candidates (task_id, slot, completion_id)
        SELECT $1, slot, completion_id FROM candidates WHERE task_id = $2
        "#,
        task_id.0,
        source.0
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        "INSERT INTO screening_items (screening_id, position, task_id, source_id) VALUES ($1, $2, $3, $4)",
        id.0,
        position,
        task_id.0,
        source.0
    )
    .execute(db)
    .await?;
    Ok(())
}
