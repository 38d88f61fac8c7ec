//! Tasks that an admin opens: counted first, then written whole or not at all, and once for each key.

use std::collections::HashSet;

use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::domain::audit::AuditAction;
use crate::domain::ids::{AccountId, CompletionId, OpeningId, ProjectId, PromptId, TaskId};
use crate::domain::opening::{GivenText, MOST_TASKS, Order};
use crate::domain::task::BriefKind;
use crate::domain::writing::Brief;
use crate::error::{AppError, AppResult};
use crate::message::Message;
use crate::store::audit_events::{self, NewEvent};
use crate::store::imports::Refusal;
use crate::store::projects::{self, Project};

/// Tasks that are written with one statement.
const BATCH: usize = 1000;

/// What an order comes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Tasks that it opens.
    pub tasks: usize,
    /// Prompts or texts that they are made of; none where labelers write on nothing.
    pub from: usize,
    /// Prompts that match but have too few or too many completions.
    pub unfit: usize,
    /// Prompts or texts that match but have such a task already.
    pub known: usize,
}

/// A task to open.
struct Planned {
    prompt_id: Option<PromptId>,
    completions: Vec<CompletionId>,
    brief: Option<Value>,
    language: Option<String>,
}

/// Counts what an order would open, and writes nothing. `key` decides what is drawn at random.
///
/// # Errors
/// `Invalid` with every wrong field, or when it comes to more than [`MOST_TASKS`].
pub async fn count(
    db: &mut PgConnection,
    project_id: ProjectId,
    order: &Order,
    key: &str,
) -> AppResult<Count> {
    let (_, count) = plan(db, project_id, order, key).await?;
    Ok(count)
}

/// What became of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// So many tasks were opened, by this request or by the same one before.
    Tasks(i64),
    /// Nothing was opened, because it no longer comes to what was shown.
    Changed(Count),
}

/// Opens the tasks of an order in one transaction. The same key again is the same order.
///
/// # Errors
/// `Invalid` as [`count`], or when there is nothing to open; `Conflict` when the key was used for another
/// order.
pub async fn open(
    db: &mut PgConnection,
    project_id: ProjectId,
    order: &Order,
    key: &str,
    shown: usize,
    created_by: AccountId,
) -> AppResult<Opened> {
    let request = serde_json::to_value(order).map_err(anyhow::Error::from)?;
    let mut db = db.begin().await?;
    projects::lock(&mut db, project_id).await?;
    if let Some(found) = find_by_key(&mut db, project_id, key).await? {
        return match found.request == request {
            true => Ok(Opened::Tasks(found.n_tasks)),
            false => Err(AppError::conflict("error-order-key-used")),
        };
    }
    let (tasks, count) = plan(&mut db, project_id, order, key).await?;
    if tasks.is_empty() {
        return Err(AppError::invalid("work", Message::new("error-no-tasks")));
    }
    if count.tasks != shown {
        return Ok(Opened::Changed(count));
    }
    let id = OpeningId::new();
    sqlx::query!(
        r#"
        INSERT INTO openings (id, project_id, idempotency_key, request, n_tasks, created_by)
        VALUES ($1, $2, $3, $4, $5, $6)
        "#,
        id.0,
        project_id.0,
        key,
        request,
        tasks.len() as i64,
        created_by.0
    )
    .execute(&mut *db)
    .await?;
    for batch in tasks.chunks(BATCH) {
        insert_tasks(&mut db, project_id, id, order, batch).await?;
    }
    super::queue_order::place_new(&mut db, project_id).await?;
    let event = NewEvent::by(created_by, AuditAction::TasksOpened).within(project_id);
    let event = event.with(json!({"work": order.work.to_string(), "tasks": tasks.len()}));
    audit_events::record(&mut db, event).await?;
    db.commit().await?;
    Ok(Opened::Tasks(tasks.len() as i64))
}

struct Found {
    request: Value,
    n_tasks: i64,
}

async fn find_by_key(
    db: &mut PgConnection,
    project_id: ProjectId,
    key: &str,
) -> sqlx::Result<Option<Found>> {
    sqlx::query_as!(
        Found,
        "SELECT request, n_tasks FROM openings WHERE project_id = $1 AND idempotency_key = $2",
        project_id.0,
        key
    )
    .fetch_optional(db)
    .await
}

/// The tasks of an order, and how many they are.
async fn plan(
    db: &mut PgConnection,
    project_id: ProjectId,
    order: &Order,
    key: &str,
) -> AppResult<(Vec<Planned>, Count)> {
    let errors = order.complaints();
    if !errors.is_empty() {
        return Err(AppError::Invalid(errors));
    }
    let (tasks, count) = match order.work.is_of_prompts() {
        true => plan_prompts(db, project_id, order, key).await?,
        false => plan_texts(db, project_id, order).await?,
    };
    if tasks.len() > MOST_TASKS {
        let message = Message::new("error-too-many-tasks").with("n", tasks.len());
        return Err(AppError::invalid("most", message.with("most", MOST_TASKS)));
    }
    Ok((tasks, count))
}

/// A task, or several comparisons, for each prompt that fits.
async fn plan_prompts(
    db: &mut PgConnection,
    project_id: ProjectId,
    order: &Order,
    key: &str,
) -> AppResult<(Vec<Planned>, Count)> {
    let fitting = order.completions();
    let (fewest, most) = (to_i64(*fitting.start()), to_i64(*fitting.end()));
    let brief = order.work.brief_kind().map(Brief::new);
    let brief = brief.map(serde_json::to_value).transpose();
    let brief = brief.map_err(anyhow::Error::from)?;
    let rows = sqlx::query!(
        r#"
        SELECT q.id, CASE WHEN $9 THEN ARRAY(SELECT c.id FROM completions c WHERE c.prompt_id = q.id ORDER BY c.id)
                     ELSE '{}' END AS "completions!"
        FROM prompts q
        WHERE q.project_id = $1
          AND (cardinality($2::TEXT[]) = 0 OR q.category = ANY ($2))
          AND ($3::TEXT IS NULL OR q.language = $3)
          AND ($4::TEXT IS NULL OR q.source = $4)
          AND NOT ($5 AND EXISTS (SELECT 1 FROM tasks t WHERE t.prompt_id = q.id AND t.kind = $6 AND t.purpose = 'label'))
          AND (NOT $9 OR (SELECT count(*) FROM completions c WHERE c.prompt_id = q.id) BETWEEN $7 AND $8)
        ORDER BY q.id
        LIMIT $10
        "#,
        project_id.0,
        &order.categories,
        order.language,
        order.source,
        order.only_new,
        order.work.kind().as_str(),
        fewest,
        most,
        order.work.has_candidates(),
        to_i64(order.most.unwrap_or(MOST_TASKS + 1))
    )
    .fetch_all(&mut *db)
    .await?;
    let rest = sqlx::query!(
        r#"
        SELECT count(*) FILTER (WHERE m.is_known AND $5) AS "known!",
               count(*) FILTER (WHERE NOT (m.is_known AND $5) AND $9 AND m.n NOT BETWEEN $7 AND $8) AS "unfit!"
        FROM (
            SELECT EXISTS (SELECT 1 FROM tasks t
                           WHERE t.prompt_id = q.id AND t.kind = $6 AND t.purpose = 'label') AS is_known,
                   CASE WHEN $9 THEN (SELECT count(*) FROM completions c WHERE c.prompt_id = q.id) ELSE 0 END AS n
            FROM prompts q
            WHERE q.project_id = $1
              AND (cardinality($2::TEXT[]) = 0 OR q.category = ANY ($2))
              AND ($3::TEXT IS NULL OR q.language = $3)
              AND ($4::TEXT IS NULL OR q.source = $4)) AS m
        "#,
        project_id.0,
        &order.categories,
        order.language,
        order.source,
        order.only_new,
        order.work.kind().as_str(),
        fewest,
        most,
        order.work.has_candidates()
    )
    .fetch_one(db)
    .await?;
    let mut tasks = Vec::new();
    let from = rows.len();
    for row in rows {
        let prompt_id = PromptId(row.id);
        let completions: Vec<CompletionId> =
            row.completions.into_iter().map(CompletionId).collect();
        for completions in order.groups(key, prompt_id, &completions) {
            tasks.push(Planned {
                prompt_id: Some(prompt_id),
                completions,
                brief: brief.clone(),
                language: None,
            });
        }
    }
    let count = Count {
        tasks: tasks.len(),
        from,
        unfit: rest.unfit as usize,
        known: rest.known as usize,
    };
    Ok((tasks, count))
}

fn to_i64(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// A task for each text, or as many as were ordered without any.
async fn plan_texts(
    db: &mut PgConnection,
    project_id: ProjectId,
    order: &Order,
) -> AppResult<(Vec<Planned>, Count)> {
    let mut tasks = Vec::new();
    for (brief, language) in order.briefs() {
        tasks.push(Planned {
            prompt_id: None,
            completions: Vec::new(),
            brief: Some(serde_json::to_value(brief).map_err(anyhow::Error::from)?),
            language,
        });
    }
    let mut count = Count::default();
    if !order.texts.is_empty() {
        let before = tasks.len();
        if order.only_new {
            let briefs: Vec<Value> = tasks.iter().filter_map(|task| task.brief.clone()).collect();
            let known = find_known(db, project_id, &briefs).await?;
            let mut seen = HashSet::new();
            tasks.retain(|task| {
                let text = task
                    .brief
                    .as_ref()
                    .map(Value::to_string)
                    .unwrap_or_default();
                !task
                    .brief
                    .as_ref()
                    .is_some_and(|brief| known.contains(brief))
                    && seen.insert(text)
            });
        }
        count.known = before - tasks.len();
        count.from = tasks.len();
    }
    count.tasks = tasks.len();
    Ok((tasks, count))
}

/// Which of these briefs a task of the project has already.
async fn find_known(
    db: &mut PgConnection,
    project_id: ProjectId,
    briefs: &[Value],
) -> sqlx::Result<Vec<Value>> {
    sqlx::query_scalar!(
        r#"
        SELECT DISTINCT t.brief AS "brief!"
        FROM unnest($2::JSONB[]) AS n (brief)
        JOIN tasks t ON t.project_id = $1 AND t.kind = 'demonstrate' AND t.prompt_id IS NULL
                        AND t.purpose = 'label' AND md5(t.brief::TEXT) = md5(n.brief::TEXT)
        "#,
        project_id.0,
        briefs
    )
    .fetch_all(db)
    .await
}

/// Opens a task for each use case of a file, with the project's overlap; returns the indexes of those that
/// have one already. The caller holds the transaction.
pub async fn insert_use_cases(
    db: &mut PgConnection,
    project: &Project,
    rows: &[GivenText],
) -> AppResult<Vec<(usize, Refusal)>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let mut briefs = Vec::with_capacity(rows.len());
    for row in rows {
        let mut brief = Brief::new(BriefKind::UserBased);
        brief.use_case = Some(row.text.clone());
        briefs.push(serde_json::to_value(brief).map_err(anyhow::Error::from)?);
    }
    let known = find_known(&mut *db, project.id, &briefs).await?;
    let mut seen: HashSet<String> = known.iter().map(Value::to_string).collect();
    let is_new: Vec<bool> = briefs
        .iter()
        .map(|brief| seen.insert(brief.to_string()))
        .collect();
    let of_new = |index: &usize| is_new[*index];
    let new: Vec<usize> = (0..rows.len()).filter(of_new).collect();
    let ids: Vec<Uuid> = new.iter().map(|_| TaskId::new().0).collect();
    let new_briefs: Vec<Value> = new.iter().map(|index| briefs[*index].clone()).collect();
    let languages: Vec<Option<String>> = new
        .iter()
        .map(|index| rows[*index].language.clone())
        .collect();
    sqlx::query!(
        r#"
        INSERT INTO tasks (id, project_id, kind, overlap, language, brief)
        SELECT n.id, $1, 'demonstrate', $2, n.language, n.brief
        FROM unnest($3::UUID[], $4::JSONB[], $5::TEXT[]) WITH ORDINALITY AS n (id, brief, language, place)
        ORDER BY n.place
        "#,
        project.id.0,
        project.overlap,
        &ids,
        &new_briefs,
        &languages as &[Option<String>]
    )
    .execute(db)
    .await?;
    let refused = (0..rows.len()).filter(|index| !is_new[*index]);
    Ok(refused
        .map(|index| (index, Refusal::KnownUseCase))
        .collect())
}

/// Writes tasks with their candidates, in their order.
async fn insert_tasks(
    db: &mut PgConnection,
    project_id: ProjectId,
    opening_id: OpeningId,
    order: &Order,
    tasks: &[Planned],
) -> sqlx::Result<()> {
    let ids: Vec<Uuid> = tasks.iter().map(|_| TaskId::new().0).collect();
    let prompts: Vec<Option<Uuid>> = tasks
        .iter()
        .map(|task| task.prompt_id.map(|id| id.0))
        .collect();
    let briefs: Vec<Option<Value>> = tasks.iter().map(|task| task.brief.clone()).collect();
    let languages: Vec<Option<String>> = tasks.iter().map(|task| task.language.clone()).collect();
    sqlx::query!(
        r#"
        INSERT INTO tasks (id, project_id, prompt_id, kind, overlap, language, brief, opening_id)
        SELECT n.id, p.id, n.prompt_id, $3,
               coalesce($4, (p.overlap_by_category ->> q.category)::SMALLINT, p.overlap),
               coalesce(n.language, q.language), n.brief, $2
        FROM unnest($5::UUID[], $6::UUID[], $7::JSONB[], $8::TEXT[])
             WITH ORDINALITY AS n (id, prompt_id, brief, language, place)
        JOIN projects p ON p.id = $1
        LEFT JOIN prompts q ON q.id = n.prompt_id
        ORDER BY n.place
        "#,
        project_id.0,
        opening_id.0,
        order.work.kind().as_str(),
        order.overlap,
        &ids,
        &prompts as &[Option<Uuid>],
        &briefs as &[Option<Value>],
        &languages as &[Option<String>]
    )
    .execute(&mut *db)
    .await?;
    let (mut of_task, mut slots, mut completions) = (Vec::new(), Vec::new(), Vec::new());
    for (id, task) in ids.iter().zip(tasks) {
        for (slot, completion) in (0_i16..).zip(&task.completions) {
            of_task.push(*id);
            slots.push(slot);
            completions.push(completion.0);
        }
    }
    sqlx::query!(
        r#"
        INSERT INTO candidates (task_id, slot, completion_id)
        SELECT task_id, slot, completion_id
        FROM unnest($1::UUID[], $2::SMALLINT[], $3::UUID[]) AS c (task_id, slot, completion_id)
        "#,
        &of_task,
        &slots,
        &completions
    )
    .execute(db)
    .await?;
    Ok(())
}
