//! Rankings that were given elsewhere, with their prompts, completions, tasks and assignments. All
//! of it happens inside the import's transaction.
//!
//! An imported ranking belongs to an account of its own, switched off and named as in the file, so
//! that a file can never put words into the mouth of somebody who signs in here.

use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::form::Form;
use crate::domain::ids::{
    AccountId, AssignmentId, CompletionId, ProjectId, PromptId, RankingId, TaskId,
};
use crate::domain::ranking::Ranking;
use crate::domain::task::ChosenBy;
use crate::store::completions::{self, NewCompletion};
use crate::store::imports::{Refusal, find_or_insert_prompt};
use crate::store::projects::{self, Project};
use crate::store::prompts::NewPrompt;
use crate::store::tasks;

/// Most labelers of one task: the bound of `tasks_overlap_range`.
const MOST_LABELERS: i16 = 100;

/// A ranking that was given elsewhere.
#[derive(Debug)]
pub struct NewRanking {
    /// The prompt.
    pub prompt: NewPrompt,
    /// 2 to 9 completions.
    pub completions: Vec<NewCompletion>,
    /// Judgements by index into the completions.
    pub ranking: Ranking,
    /// Indexes in the order shown.
    pub display_order: Vec<i16>,
    /// Who ranked, as the file names them.
    pub labeler: String,
    /// Whether a program ranked.
    pub is_simulated: bool,
    /// The ranking's key where it was given, if the file says.
    pub ranking_id: Option<Uuid>,
    /// A decision between labels, which holds no place.
    pub is_adjudication: bool,
    /// Why the labeler got the task, if the file says.
    pub chosen_by: Option<ChosenBy>,
    /// Of reward models over the completions then, if the file says.
    pub disagreement: Option<f32>,
}

/// The rules that imported rankings are stored under: the project's newest.
#[derive(Debug)]
pub struct Versions {
    /// Version of the guidelines; 0 when the project has none.
    pub guidelines: i32,
    /// Version of the form; 0 for the standard form.
    pub form_version: i32,
    /// The form.
    pub form: Form,
}

/// The newest guidelines and form of a project.
///
/// # Errors
/// When the stored form cannot be read.
pub async fn find_versions(
    db: &mut PgConnection,
    project_id: ProjectId,
) -> anyhow::Result<Versions> {
    let guidelines = projects::find_guidelines(db, project_id).await?;
    let (form_version, form) = match projects::find_form(db, project_id).await? {
        Some((version, fields)) => (version, serde_json::from_value(fields)?),
        None => (0, Form::default()),
    };
    Ok(Versions {
        guidelines: guidelines.map_or(0, |(version, _)| version),
        form_version,
        form,
    })
}

/// Stores a ranking with its prompt, completions, task, assignment, ratings and comparisons.
pub async fn insert_ranking(
    db: &mut PgConnection,
    project: &Project,
    versions: &Versions,
    row: &NewRanking,
) -> sqlx::Result<Option<Refusal>> {
    if is_known_ranking(db, row.ranking_id).await? {
        return Ok(Some(Refusal::RankedAlready));
    }
    let prompt_id = match find_or_insert_prompt(db, project.id, &row.prompt).await? {
        Ok(prompt) => prompt.id,
        Err(refusal) => return Ok(Some(refusal)),
    };
    let labeler_id = find_or_insert_labeler(db, &row.labeler, row.is_simulated).await?;
    let (task_id, completions) = find_or_insert_task(db, project, prompt_id, row).await?;
    let place = match take_place(db, task_id, labeler_id, row.is_adjudication).await? {
        Ok(place) => place,
        Err(refusal) => return Ok(Some(refusal)),
    };
    let assignment_id = AssignmentId::new();
    sqlx::query!(
        r#"
        INSERT INTO assignments (id, task_id, labeler_id, place, status, display_order, guidelines_version,
                                 form_version, lease_until, ended_at, is_adjudication, chosen_by, disagreement)
        VALUES ($1, $2, $3, $4, 'submitted', $5, $6, $7, now(), now(), $8, $9, $10)
        "#,
        assignment_id.0,
        task_id.0,
        labeler_id.0,
        place,
        &row.display_order,
        versions.guidelines,
        versions.form_version,
        row.is_adjudication,
        row.chosen_by.map(ChosenBy::as_str),
        row.disagreement
    )
    .execute(&mut *db)
    .await?;
    insert_judgements(db, assignment_id, &row.ranking, &completions).await?;
    Ok(None)
}

async fn is_known_ranking(db: &mut PgConnection, id: Option<Uuid>) -> sqlx::Result<bool> {
    let Some(id) = id else {
        return Ok(false);
    };
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT 1 FROM rankings WHERE id = $1) AS "known!""#,
        id
    )
    .fetch_one(db)
    .await
}

/// The account of somebody who ranked elsewhere: the same name is the same account.
async fn find_or_insert_labeler(
    db: &mut PgConnection,
    name: &str,
    is_simulated: bool,
) -> sqlx::Result<AccountId> {
    let kind = if is_simulated { "simulated" } else { "person" };
    let digest = Sha256::digest(format!("{kind}:{name}"));
    let email = format!("{}@imported.invalid", hex::encode(&digest[..8]));
    let shown: String = name.chars().take(100).collect();
    let id = sqlx::query_scalar!(
        r#"
        INSERT INTO accounts (id, email, name, roles, is_simulated, disabled_at)
        VALUES ($1, $2, $3, ARRAY['labeler'], $4, now())
        ON CONFLICT (email) DO UPDATE SET email = excluded.email
        RETURNING id
        "#,
        AccountId::new().0,
        email,
        shown,
        is_simulated
    )
    .fetch_one(db)
    .await?;
    Ok(AccountId(id))
}

/// The closed task that holds exactly these completions, made on the first line that has them.
async fn find_or_insert_task(
    db: &mut PgConnection,
    project: &Project,
    prompt_id: PromptId,
    row: &NewRanking,
) -> sqlx::Result<(TaskId, Vec<CompletionId>)> {
    if let Some(found) = find_task(db, prompt_id, &row.completions).await? {
        return Ok(found);
    }
    let rows = &row.completions;
    let id = completions::insert_task(db, project.id, prompt_id, rows, Some(1), None).await?;
    tasks::close(db, id).await?;
    find_task(db, prompt_id, rows)
        .await?
        .ok_or(sqlx::Error::RowNotFound)
}

async fn find_task(
    db: &mut PgConnection,
    prompt_id: PromptId,
    completions: &[NewCompletion],
) -> sqlx::Result<Option<(TaskId, Vec<CompletionId>)>> {
    let texts: Vec<String> = completions.iter().map(|item| item.text.clone()).collect();
    let models: Vec<String> = completions.iter().map(|item| item.model.clone()).collect();
    let found = sqlx::query!(
        r#"
        SELECT t.id, array_agg(c.id ORDER BY k.slot) AS "completions!"
        FROM tasks t
        JOIN candidates k ON k.task_id = t.id
        JOIN completions c ON c.id = k.completion_id
        WHERE t.prompt_id = $1 AND t.run_id IS NULL AND t.closed_at IS NOT NULL
        GROUP BY t.id
        HAVING array_agg(c.text ORDER BY k.slot) = $2 AND array_agg(c.model ORDER BY k.slot) = $3
        ORDER BY t.id
        LIMIT 1
        "#,
        prompt_id.0,
        &texts,
        &models
    )
    .fetch_optional(db)
    .await?;
    Ok(found.map(|row| {
        let completions = row.completions.into_iter().map(CompletionId).collect();
        (TaskId(row.id), completions)
    }))
}

/// The next place of a task, which grows by one when all are held; none for a decision.
async fn take_place(
    db: &mut PgConnection,
    task_id: TaskId,
    labeler_id: AccountId,
    is_adjudication: bool,
) -> sqlx::Result<Result<Option<i16>, Refusal>> {
    let task = sqlx::query!(
        r#"
        SELECT coalesce(max(place) + 1, 0)::smallint AS "place!",
               coalesce(bool_or(labeler_id = $2), false) AS "is_here!"
        FROM assignments
        WHERE task_id = $1
        "#,
        task_id.0,
        labeler_id.0
    )
    .fetch_one(&mut *db)
    .await?;
    if task.is_here {
        return Ok(Err(Refusal::RankedAlready));
    }
    if is_adjudication {
        return Ok(Ok(None));
    }
    if task.place >= MOST_LABELERS {
        return Ok(Err(Refusal::TooManyLabelers));
    }
    sqlx::query!(
        "UPDATE tasks SET overlap = greatest(overlap, $2) WHERE id = $1",
        task_id.0,
        task.place + 1
    )
    .execute(db)
    .await?;
    Ok(Ok(Some(task.place)))
}

/// Writes a ranking with its ratings and comparisons.
async fn insert_judgements(
    db: &mut PgConnection,
    assignment_id: AssignmentId,
    ranking: &Ranking,
    completions: &[CompletionId],
) -> sqlx::Result<()> {
    let ranking_id = RankingId::new();
    let said = format!("{ranking:?}");
    sqlx::query!(
        r#"
        INSERT INTO rankings (id, assignment_id, version, idempotency_key, request_sha256, note)
        VALUES ($1, $2, 1, 'import', $3, $4)
        "#,
        ranking_id.0,
        assignment_id.0,
        Sha256::digest(said).to_vec(),
        ranking.note
    )
    .execute(&mut *db)
    .await?;
    insert_ratings(db, ranking_id, ranking, completions).await?;
    let id_of = |slot: i16| completions[slot as usize].0;
    let pairs = ranking.comparisons();
    let preferred: Vec<Uuid> = pairs.iter().map(|pair| id_of(pair.preferred)).collect();
    let other: Vec<Uuid> = pairs.iter().map(|pair| id_of(pair.other)).collect();
    let ties: Vec<bool> = pairs.iter().map(|pair| pair.is_tie).collect();
    sqlx::query!(
        r#"
        INSERT INTO comparisons (ranking_id, preferred_id, other_id, is_tie)
        SELECT $1, n.preferred_id, n.other_id, n.is_tie
        FROM unnest($2::uuid[], $3::uuid[], $4::boolean[]) AS n (preferred_id, other_id, is_tie)
        "#,
        ranking_id.0,
        &preferred,
        &other,
        &ties
    )
    .execute(db)
    .await?;
    Ok(())
}

async fn insert_ratings(
    db: &mut PgConnection,
    ranking_id: RankingId,
    ranking: &Ranking,
    completions: &[CompletionId],
) -> sqlx::Result<()> {
    let items = &ranking.judgements;
    let slots: Vec<i16> = items.iter().map(|item| item.slot).collect();
    let keys: Vec<Uuid> = slots
        .iter()
        .map(|slot| completions[*slot as usize].0)
        .collect();
    let ranks: Vec<Option<i16>> = items.iter().map(|item| item.rank).collect();
    let ratings: Vec<Option<i16>> = items.iter().map(|item| item.rating).collect();
    let flags: Vec<Value> = items
        .iter()
        .map(|item| serde_json::json!(item.flags))
        .collect();
    sqlx::query!(
        r#"
        INSERT INTO ratings (ranking_id, completion_id, slot, rank, overall, flags)
        SELECT $1, n.id, n.slot, n.rank, n.overall, n.flags
        FROM unnest($2::uuid[], $3::smallint[], $4::smallint[], $5::smallint[], $6::jsonb[])
             AS n (id, slot, rank, overall, flags)
        "#,
        ranking_id.0,
        &keys,
        &slots,
        &ranks as &[Option<i16>],
        &ratings as &[Option<i16>],
        &flags
    )
    .execute(db)
    .await?;
    Ok(())
}
