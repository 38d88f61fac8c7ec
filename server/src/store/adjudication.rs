//! Adjudication: where labelers contradict each other, and the decisions between them. A decision is a label
//! of its own beside theirs; it holds no place, and the newest one of a task stands.

use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::{Connection, PgConnection};

use crate::domain::ids::{AccountId, AssignmentId, ProjectId, TaskId};
use crate::domain::ranking::RankingInput;
use crate::domain::submission::TimeSpent;
use crate::domain::task::Purpose;
use crate::error::{AppError, AppResult};
use crate::message::Message;
use crate::store::submissions::{Head, Submitted};
use crate::store::{assignments, projects, rankings, submissions};

/// Measures the tasks of a project that have more rankings than were measured: what an import brought.
pub async fn measure_imported(db: &mut PgConnection, project_id: ProjectId) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        SELECT measure_conflicts(ARRAY(
            SELECT t.id
            FROM tasks t
            LEFT JOIN conflicts c ON c.task_id = t.id
            WHERE t.project_id = $1 AND t.purpose = 'label' AND t.overlap > 1
              AND (SELECT count(*) FROM assignments a
                   WHERE a.task_id = t.id AND a.status = 'submitted' AND NOT a.is_adjudication)
                  > coalesce(c.n_rankings, 1)))
        "#,
        project_id.0
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A task whose rankings contradict each other.
#[derive(Debug)]
pub struct Case {
    /// Key.
    pub task_id: TaskId,
    /// The prompt's id in its file.
    pub external_id: String,
    /// The prompt.
    pub body: Value,
    /// Use-case category.
    pub category: String,
    /// What is done in it.
    pub kind: String,
    /// Rankings by labelers.
    pub n_rankings: i32,
    /// Pairs of candidates that at least two labelers judged.
    pub n_pairs: i32,
    /// Of these, in conflict.
    pub n_conflicts: i32,
    /// Whether labelers may still submit rankings of it.
    pub is_open: bool,
    /// Whether somebody has decided.
    pub is_decided: bool,
}

/// What the list of cases is narrowed to.
#[derive(Debug, Default, Clone)]
pub struct Filter {
    /// Only those that were, or only those that were not, decided; both where none.
    pub is_decided: Option<bool>,
    /// A use-case category, or empty.
    pub category: String,
    /// `rank`, `compare`, or empty.
    pub kind: String,
}

/// The cases of a project, those with the largest share of pairs in conflict first.
pub async fn list(
    db: &mut PgConnection,
    project_id: ProjectId,
    filter: &Filter,
    offset: i64,
    limit: i64,
) -> sqlx::Result<Vec<Case>> {
    sqlx::query_as!(
        Case,
        r#"
        SELECT t.id AS "task_id: TaskId", p.external_id, p.body, p.category, t.kind, c.n_rankings, c.n_pairs,
               c.n_conflicts, t.closed_at IS NULL AND c.n_rankings < t.overlap AS "is_open!",
               d.is_decided AS "is_decided!"
        FROM conflicts c
        JOIN tasks t ON t.id = c.task_id
        JOIN prompts p ON p.id = t.prompt_id
        CROSS JOIN LATERAL (SELECT EXISTS (
            SELECT 1 FROM assignments a WHERE a.task_id = t.id AND a.is_adjudication) AS is_decided) d
        WHERE c.project_id = $1 AND c.n_conflicts > 0
          AND ($2::BOOLEAN IS NULL OR d.is_decided = $2)
          AND ($3 = '' OR p.category = $3)
          AND ($4 = '' OR t.kind = $4)
        ORDER BY c.share DESC, c.task_id
        OFFSET $5 LIMIT $6
        "#,
        project_id.0,
        filter.is_decided,
        filter.category,
        filter.kind,
        offset,
        limit
    )
    .fetch_all(db)
    .await
}

/// How many tasks of a project were measured, are in conflict, and were decided.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    /// Tasks with two rankings or more.
    pub n_tasks: i64,
    /// Of these, with a pair in conflict.
    pub n_conflicts: i64,
    /// Of these, decided.
    pub n_decided: i64,
}

/// Counts them.
pub async fn figures(db: &mut PgConnection, project_id: ProjectId) -> sqlx::Result<Figures> {
    sqlx::query_as!(
        Figures,
        r#"
        SELECT count(*) AS "n_tasks!", count(*) FILTER (WHERE c.n_conflicts > 0) AS "n_conflicts!",
               count(*) FILTER (WHERE c.n_conflicts > 0 AND EXISTS (
                   SELECT 1 FROM assignments a WHERE a.task_id = c.task_id AND a.is_adjudication)) AS "n_decided!"
        FROM conflicts c
        WHERE c.project_id = $1
        "#,
        project_id.0
    )
    .fetch_one(db)
    .await
}

/// Decides between the rankings of a task: writes a ranking of the admin's own, whose positions are the slots
/// in their order. Deciding again writes a new version; what labelers said stays. The same key and content
/// again is the same decision.
///
/// # Errors
/// `NotFound`; `Invalid` with every wrong field; `Conflict` where fewer than two rankings were submitted, or
/// where this admin had the task as a labeler.
pub async fn decide(
    db: &mut PgConnection,
    task_id: TaskId,
    by: AccountId,
    input: &RankingInput,
    key: &str,
) -> AppResult<Submitted> {
    if key.is_empty() || key.len() > 200 {
        let message = Message::new("error-length").with("most", 200);
        return Err(AppError::invalid("idempotency_key", message));
    }
    let mut transaction = db.begin().await?;
    let id = find_or_insert(&mut transaction, task_id, by).await?;
    let assignment = assignments::find(&mut transaction, id, by).await?;
    let form = assignments::find_form(&mut transaction, &assignment).await?;
    let ranking = input
        .parse(&assignment.display_order, &form)
        .map_err(AppError::Invalid)?;
    let content = serde_json::to_vec(input).map_err(anyhow::Error::from)?;
    let digest = Sha256::digest(&content).to_vec();
    if let Some(existing) = submissions::find_by_key(&mut transaction, id, key).await? {
        return match existing.request_sha256 == digest {
            true => Ok(existing.submitted),
            false => Err(AppError::conflict("error-key-used")),
        };
    }
    let head = Head {
        version: submissions::newest_version(&mut transaction, id).await? + 1,
        key,
        digest: &digest,
        time: TimeSpent::default(),
    };
    let written = rankings::insert(&mut transaction, id, &head, &ranking).await?;
    transaction.commit().await?;
    Ok(written)
}

/// The assignment under which an admin decides a task; the task is locked.
async fn find_or_insert(
    db: &mut PgConnection,
    task_id: TaskId,
    by: AccountId,
) -> AppResult<AssignmentId> {
    let task = sqlx::query!(
        r#"
        SELECT t.project_id, t.purpose,
               (SELECT count(*) FROM assignments a
                WHERE a.task_id = t.id AND a.status = 'submitted' AND NOT a.is_adjudication) AS "n_labels!",
               ARRAY(SELECT slot FROM candidates WHERE task_id = t.id ORDER BY slot) AS "slots!"
        FROM tasks t
        WHERE t.id = $1
        FOR UPDATE OF t
        "#,
        task_id.0
    )
    .fetch_optional(&mut *db)
    .await?
    .ok_or(AppError::NotFound("task"))?;
    if task.purpose != Purpose::Label.as_str() || task.slots.is_empty() {
        return Err(AppError::NotFound("task"));
    }
    if task.n_labels < 2 {
        return Err(AppError::conflict("error-adjudicate-two"));
    }
    let own = sqlx::query!(
        "SELECT id, is_adjudication FROM assignments WHERE task_id = $1 AND labeler_id = $2",
        task_id.0,
        by.0
    )
    .fetch_optional(&mut *db)
    .await?;
    match own {
        Some(own) if own.is_adjudication => return Ok(AssignmentId(own.id)),
        // Who judged as one of the labelers does not judge between them.
        Some(_) => return Err(AppError::conflict("error-adjudicate-own")),
        None => (),
    }
    let project_id = ProjectId(task.project_id);
    let guidelines = projects::find_guidelines(db, project_id).await?;
    let form = projects::find_form(db, project_id).await?;
    let id = AssignmentId::new();
    sqlx::query!(
        r#"
        INSERT INTO assignments (id, task_id, labeler_id, status, is_adjudication, display_order,
                                 guidelines_version, form_version, lease_until, ended_at)
        VALUES ($1, $2, $3, 'submitted', TRUE, $4, $5, $6, now(), now())
        "#,
        id.0,
        task_id.0,
        by.0,
        &task.slots,
        guidelines.map_or(0, |(version, _)| version),
        form.map_or(0, |(version, _)| version)
    )
    .execute(db)
    .await?;
    Ok(id)
}
