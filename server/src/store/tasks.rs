//! Tasks and their candidates.

use serde_json::Value;
use sqlx::PgConnection;
use sqlx::types::Json;

use crate::domain::ids::{AccountId, CompletionId, ProjectId, PromptId, RunId, TaskId};
use crate::domain::task::TaskKind;

/// What a labeler sees of a task: nothing of the models behind it.
#[derive(Debug)]
pub struct TaskView {
    /// The prompt: a string or turns; null where the labeler is to write one.
    pub prompt: Value,
    /// Use-case category.
    pub category: String,
    /// Its language, where known.
    pub language: Option<String>,
    /// Of a demonstration: what to write.
    pub brief: Option<Value>,
    /// Texts of the candidates in slot order.
    pub texts: Vec<String>,
}

/// Opens a task over completions of one prompt, with the overlap that the project has for the
/// prompt's category.
pub async fn insert(
    db: &mut PgConnection,
    project_id: ProjectId,
    prompt_id: PromptId,
    kind: TaskKind,
    run_id: Option<RunId>,
    completions: &[CompletionId],
) -> sqlx::Result<TaskId> {
    let id = TaskId::new();
    sqlx::query!(
        r#"
        INSERT INTO tasks (id, project_id, prompt_id, kind, overlap, run_id, language)
        SELECT $1, p.id, q.id, $5, coalesce((p.overlap_by_category ->> q.category)::SMALLINT, p.overlap), $4, q.language
        FROM projects p
        JOIN prompts q ON q.id = $3
        WHERE p.id = $2
        "#,
        id.0,
        project_id.0,
        prompt_id.0,
        run_id.map(|run| run.0),
        kind.as_str()
    )
    .execute(&mut *db)
    .await?;
    let slots: Vec<i16> = (0..completions.len() as i16).collect();
    let completions: Vec<uuid::Uuid> = completions.iter().map(|completion| completion.0).collect();
    sqlx::query!(
        r#"
        INSERT INTO candidates (task_id, slot, completion_id)
        SELECT $1, slot, completion_id FROM unnest($2::SMALLINT[], $3::UUID[]) AS c (slot, completion_id)
        "#,
        id.0,
        &slots,
        &completions
    )
    .execute(db)
    .await?;
    Ok(id)
}

/// The prompt and the candidates' texts of a task.
pub async fn find_view(db: &mut PgConnection, id: TaskId) -> sqlx::Result<TaskView> {
    let task = sqlx::query!(
        r#"
        SELECT p.body AS "body?", p.category AS "category?", t.language, t.brief,
               ARRAY(SELECT c.text FROM candidates k JOIN completions c ON c.id = k.completion_id
                     WHERE k.task_id = t.id ORDER BY k.slot) AS "texts!"
        FROM tasks t
        LEFT JOIN prompts p ON p.id = t.prompt_id
        WHERE t.id = $1
        "#,
        id.0
    )
    .fetch_one(db)
    .await?;
    Ok(TaskView {
        prompt: task.body.unwrap_or_default(),
        category: task.category.unwrap_or_default(),
        language: task.language,
        brief: task.brief,
        texts: task.texts,
    })
}

/// How many tasks a labeler has submitted since the day began, UTC, those of a screening left out. A page that
/// is shown all day counts no more than that.
pub async fn count_today(db: &mut PgConnection, labeler_id: AccountId) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"
        WITH today AS (
            SELECT a.task_id
            FROM assignments a
            WHERE a.labeler_id = $1 AND a.status = 'submitted' AND NOT a.is_adjudication
              AND a.ended_at >= date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
        )
        SELECT (SELECT count(*) FROM today)
               -- Looked up from their few screenings, since most of a day's tasks are none of a screening.
               - (SELECT count(*)
                  FROM screenings s
                  JOIN screening_items i ON i.screening_id = s.id
                  WHERE s.account_id = $1 AND i.task_id IN (SELECT task_id FROM today)) AS "n!"
        "#,
        labeler_id.0
    )
    .fetch_one(db)
    .await
}

/// What a labeler has done and what waits for them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// All submissions.
    pub done: i64,
    /// Tasks that they may take, counted up to [`MOST_COUNTED`].
    pub waiting: i64,
}

/// Waiting tasks are counted up to this: a page has no time to count a whole queue.
pub const MOST_COUNTED: i64 = 500;

/// Counts over all projects that are open to this labeler or theirs.
///
/// What waits goes down by one with each lease, of a gold task or a repeat too, which the queue does not
/// count: otherwise the figure that stands still would tell which task was one.
pub async fn progress(db: &mut PgConnection, labeler_id: AccountId) -> sqlx::Result<Progress> {
    let row = sqlx::query!(
        r#"
        SELECT
            (SELECT count(*) FROM assignments a JOIN tasks t ON t.id = a.task_id
             WHERE a.labeler_id = $1 AND a.status = 'submitted' AND NOT a.is_adjudication
               AND t.purpose <> 'screening') AS "done!",
            (SELECT count(*) FROM assignments a JOIN tasks t ON t.id = a.task_id
             WHERE a.labeler_id = $1 AND a.status <> 'expired' AND t.purpose IN ('gold', 'repeat')
               AND a.leased_at >= date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC') AS "unseen!",
            (SELECT count(*) FROM (
                SELECT t.id
                FROM projects p
                LEFT JOIN members m ON m.project_id = p.id AND m.account_id = $1
                CROSS JOIN LATERAL waiting_tasks(p.id) t
                WHERE p.archived_at IS NULL AND (p.is_open OR m.account_id IS NOT NULL) AND NOT has_refused($1, p.id)
                  AND (t.language IS NULL OR coalesce(cardinality(m.languages), 0) = 0
                       OR t.language = ANY (m.languages))
                  AND NOT EXISTS (SELECT 1 FROM assignments a
                                  WHERE a.task_id = t.id AND a.labeler_id = $1 AND a.status <> 'expired'
                                    AND NOT (a.status = 'leased' AND a.lease_until <= now()))
                LIMIT $2) w) AS "waiting!"
        "#,
        labeler_id.0,
        MOST_COUNTED
    )
    .fetch_one(db)
    .await?;
    Ok(Progress {
        done: row.done,
        waiting: shown_waiting(row.waiting, row.unseen),
    })
}

/// The first task of a project's dataset that ranks the completions of a prompt, by the prompt's id in its file.
pub async fn find_of_prompt(
    db: &mut PgConnection,
    project_id: ProjectId,
    external_id: &str,
) -> sqlx::Result<Option<TaskId>> {
    let id = sqlx::query_scalar!(
        r#"
        SELECT t.id FROM tasks t
        JOIN prompts p ON p.id = t.prompt_id
        WHERE t.project_id = $1 AND p.external_id = $2 AND t.kind = 'rank' AND t.purpose = 'label'
        ORDER BY t.id LIMIT 1
        "#,
        project_id.0,
        external_id
    )
    .fetch_optional(db)
    .await?;
    Ok(id.map(TaskId))
}

/// Of `counted` tasks that wait, what is shown to somebody who had `unseen` tasks today that the queue does
/// not count. Never none where there is one.
pub(super) fn shown_waiting(counted: i64, unseen: i64) -> i64 {
    match counted {
        // One that is not counted to its end does not go down with a lease either.
        MOST_COUNTED | 0 => counted,
        _ => (counted - unseen).max(1),
    }
}

/// A task as the list of an admin shows it.
#[derive(Debug)]
pub struct TaskItem {
    /// Key; later tasks have later keys.
    pub id: TaskId,
    /// The prompt's id in its file.
    pub external_id: String,
    /// The prompt: a string or turns; null where the labeler writes one.
    pub body: Value,
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
    /// How many candidates it has.
    pub n_candidates: i64,
    /// Submitted assignments.
    pub n_submitted: i64,
    /// Whether it was closed.
    pub is_closed: bool,
    /// Who holds it now, has submitted or has skipped it.
    pub holders: Json<Vec<Holder>>,
}

/// A labeler of a task.
#[derive(Debug, serde::Deserialize)]
pub struct Holder {
    /// The name shown.
    pub name: String,
    /// `leased`, `submitted` or `skipped`.
    pub status: String,
    /// Key of the reason, where it was skipped.
    pub skip_reason: Option<String>,
    /// What the labeler wrote beside the ranking or the reason.
    pub note: String,
    /// Whether a program ranks.
    pub is_simulated: bool,
}

/// What a list of tasks is narrowed to.
#[derive(Debug, Clone, Default)]
pub struct TaskFilter {
    /// A state; empty for any.
    pub state: String,
    /// What is done in it; none for anything.
    pub kind: Option<TaskKind>,
    /// Text that the prompt, its id or what is given to write from holds, or the task's own id; empty for any.
    pub search: String,
    /// Use-case category of the prompt; empty for any.
    pub category: String,
    /// Only tasks older than this one: the last of the page before.
    pub before: Option<TaskId>,
}

/// A project's tasks that pass a filter, newest first. States are `open` (a place is free), `held` (somebody works on
/// it), `done` (all places submitted), `closed`, those of a purpose (`gold`, `repeat`, `screening`), or the
/// empty word for any. What each candidate of a screening got is left to its own page.
pub async fn list(
    db: &mut PgConnection,
    project_id: ProjectId,
    filter: &TaskFilter,
    limit: i64,
) -> sqlx::Result<Vec<TaskItem>> {
    sqlx::query_as!(
        TaskItem,
        r#"
        SELECT t.id AS "id: TaskId", coalesce(p.external_id, '') AS "external_id!",
               coalesce(p.body, 'null') AS "body!", t.brief, t.kind, t.purpose, t.overlap, t.n_held,
               t.closed_at IS NOT NULL AS "is_closed!",
               (SELECT count(*) FROM candidates k WHERE k.task_id = t.id) AS "n_candidates!",
               n.n_submitted AS "n_submitted!", n.holders AS "holders!: Json<Vec<Holder>>"
        FROM tasks t
        LEFT JOIN prompts p ON p.id = t.prompt_id
        CROSS JOIN LATERAL (
            SELECT count(*) FILTER (WHERE a.status = 'submitted' AND NOT a.is_adjudication) AS n_submitted,
                   count(*) FILTER (WHERE a.status = 'leased') AS n_leased,
                   coalesce(jsonb_agg(jsonb_build_object('name', u.name, 'status', a.status,
                                                         'is_simulated', u.is_simulated,
                                                         'skip_reason', a.skip_reason,
                                                         'note', coalesce(a.skip_note, (
                                                             SELECT s.note
                                                             FROM (SELECT note, version FROM rankings WHERE assignment_id = a.id
                                                                   UNION ALL
                                                                   SELECT note, version FROM writings WHERE assignment_id = a.id
                                                                   UNION ALL
                                                                   SELECT note, version FROM reviews WHERE assignment_id = a.id) s
                                                             ORDER BY s.version DESC LIMIT 1), '')) ORDER BY a.id)
                            FILTER (WHERE a.status IN ('leased', 'submitted', 'skipped')
                                    AND NOT a.is_adjudication), '[]') AS holders
            FROM assignments a
            JOIN accounts u ON u.id = a.labeler_id
            WHERE a.task_id = t.id
        ) n
        WHERE t.project_id = $1
          AND NOT (t.purpose = 'screening' AND t.only_for IS NOT NULL)
          AND ($3::uuid IS NULL OR t.id < $3)
          AND ($5::TEXT IS NULL OR t.kind = $5)
          AND ($6 = '' OR p.category = $6)
          AND ($7 = '' OR strpos(lower(p.external_id), lower($7)) > 0
               OR strpos(lower(prompt_text(p.body)), lower($7)) > 0
               OR strpos(lower(coalesce(t.brief ->> 'instruction', t.brief ->> 'use_case')), lower($7)) > 0
               OR t.id::TEXT = lower($7))
          AND CASE $2
              WHEN 'open' THEN t.closed_at IS NULL AND t.n_held < t.overlap
              WHEN 'held' THEN n.n_leased > 0
              WHEN 'done' THEN n.n_submitted >= t.overlap
              WHEN 'closed' THEN t.closed_at IS NOT NULL
              WHEN 'gold' THEN t.purpose = 'gold'
              WHEN 'repeat' THEN t.purpose = 'repeat'
              WHEN 'screening' THEN t.purpose = 'screening'
              ELSE true END
        ORDER BY t.id DESC
        LIMIT $4
        "#,
        project_id.0,
        filter.state,
        filter.before.map(|task| task.0),
        limit,
        filter.kind.map(TaskKind::as_str),
        filter.category,
        filter.search
    )
    .fetch_all(db)
    .await
}

/// Closes a task: nobody leases it any more; those who hold it may still submit. False when there
/// is no such task.
pub async fn close(db: &mut PgConnection, id: TaskId) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "UPDATE tasks SET closed_at = coalesce(closed_at, now()) WHERE id = $1",
        id.0
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Opens a closed task for the dataset again: its free places are leased once more, in the order that
/// its project has now. False when there is no such task.
pub async fn reopen(
    db: &mut PgConnection,
    project_id: ProjectId,
    id: TaskId,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "UPDATE tasks SET closed_at = NULL WHERE id = $1 AND project_id = $2 AND purpose = 'label'",
        id.0,
        project_id.0
    )
    .execute(&mut *db)
    .await?;
    super::queue_order::place_all(db, project_id).await?;
    Ok(done.rows_affected() == 1)
}

/// The project of a task.
pub async fn find_project(db: &mut PgConnection, id: TaskId) -> sqlx::Result<Option<ProjectId>> {
    let found = sqlx::query_scalar!("SELECT project_id FROM tasks WHERE id = $1", id.0)
        .fetch_optional(db)
        .await?;
    Ok(found.map(ProjectId))
}

/// A candidate as a program that ranks sees it.
#[derive(Debug)]
pub struct CandidateText {
    /// Its slot.
    pub slot: i16,
    /// Its text.
    pub text: String,
}

/// The candidates of a task in slot order.
pub async fn find_candidates(
    db: &mut PgConnection,
    id: TaskId,
) -> sqlx::Result<Vec<CandidateText>> {
    sqlx::query_as!(
        CandidateText,
        r#"
        SELECT k.slot, c.text
        FROM candidates k
        JOIN completions c ON c.id = k.completion_id
        WHERE k.task_id = $1
        ORDER BY k.slot
        "#,
        id.0
    )
    .fetch_all(db)
    .await
}

/// Prompts and candidates of a project, at most `limit` candidates: what a program measures its
/// scale on.
pub async fn sample_candidates(
    db: &mut PgConnection,
    project_id: ProjectId,
    limit: i64,
) -> sqlx::Result<Vec<(Value, CandidateText)>> {
    let rows = sqlx::query!(
        r#"
        SELECT p.body, k.slot, c.text
        FROM tasks t
        JOIN prompts p ON p.id = t.prompt_id
        JOIN candidates k ON k.task_id = t.id
        JOIN completions c ON c.id = k.completion_id
        WHERE t.project_id = $1
        ORDER BY t.id, k.slot
        LIMIT $2
        "#,
        project_id.0,
        limit
    )
    .fetch_all(db)
    .await?;
    let items = rows.into_iter().map(|row| {
        let candidate = CandidateText {
            slot: row.slot,
            text: row.text,
        };
        (row.body, candidate)
    });
    Ok(items.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_goes_down_with_every_task_and_is_none_only_when_nothing_waits() {
        // Ten wait; the second of four leases is of a gold task.
        let shown = [(10, 0), (9, 0), (9, 1), (8, 1), (7, 1)];
        let shown = shown.map(|(counted, unseen)| shown_waiting(counted, unseen));
        assert_eq!(shown, [10, 9, 8, 7, 6]);
        assert_eq!((shown_waiting(2, 5), shown_waiting(0, 5)), (1, 0));
        assert_eq!(shown_waiting(MOST_COUNTED, 5), MOST_COUNTED);
    }
}
