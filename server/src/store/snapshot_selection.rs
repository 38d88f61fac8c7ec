//! What goes into a snapshot: the rows of a selection, but for those that its filters leave out.

use futures_util::Stream;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::ids::{AccountId, SnapshotId, TaskId};
use crate::domain::snapshot::{Selection, SnapshotKind};
use crate::domain::snapshot_filters::Exclusions;

fn keys(ids: &[AccountId]) -> Vec<Uuid> {
    ids.iter().map(|id| id.0).collect()
}

/// What a labeler said of a task.
#[derive(Debug)]
pub struct TaskRanking {
    /// The task.
    pub task_id: TaskId,
    /// In slot order; none for a candidate that was left unranked.
    pub ranks: Vec<Option<i16>>,
}

/// The newest version of each submitted ranking of a project that is for the dataset, those of a task one
/// after the other; without decisions, and without what these labelers said.
pub fn stream_task_rankings<'db>(
    db: &'db mut PgConnection,
    selection: &Selection,
    without: &[AccountId],
) -> impl Stream<Item = sqlx::Result<TaskRanking>> + Send + use<'db> {
    sqlx::query_as!(
        TaskRanking,
        r#"
        SELECT t.id AS "task_id: TaskId",
               ARRAY(SELECT g.rank FROM ratings g WHERE g.ranking_id = r.id ORDER BY g.slot) AS "ranks!: Vec<Option<i16>>"
        FROM rankings r
        JOIN assignments a ON a.id = r.assignment_id
        JOIN accounts u ON u.id = a.labeler_id
        JOIN tasks t ON t.id = a.task_id
        WHERE t.project_id = $1 AND t.purpose = 'label' AND a.status = 'submitted' AND NOT a.is_adjudication
          AND NOT EXISTS (SELECT 1 FROM rankings n WHERE n.assignment_id = a.id AND n.version > r.version)
          AND ($2 OR NOT u.is_simulated)
          AND a.labeler_id <> ALL($3)
        ORDER BY t.id, r.id
        "#,
        selection.project_id.0,
        selection.include_simulated,
        &keys(without)
    )
    .fetch(db)
}

/// What a snapshot was filled with.
#[derive(Debug, Clone, Copy)]
pub struct Frozen {
    /// Rows.
    pub n_items: i64,
    /// Rows that were selected but left out, because their prompt has personal data.
    pub n_left_out: i64,
}

/// Fills a snapshot with the selected rows.
pub async fn freeze(
    db: &mut PgConnection,
    id: SnapshotId,
    selection: &Selection,
    exclusions: &Exclusions,
) -> sqlx::Result<Frozen> {
    match selection.kind {
        SnapshotKind::Rankings => freeze_rankings(db, id, selection, exclusions).await,
        SnapshotKind::Demonstrations => freeze_demonstrations(db, id, selection, exclusions).await,
        SnapshotKind::Prompts => freeze_prompts(db, id, selection, exclusions).await,
        SnapshotKind::Texts => freeze_texts(db, id, selection).await,
    }
}

/// Fills snapshot `$1` with the rows of a query that gives `id`, `external_id`, `review_id` and `is_personal`;
/// those with personal data only where `$2` says so. `$3` is the project, `$4` the labelers left out, and
/// `reviewed` what reviews say of its prompts. A macro, since the queries are checked when they are compiled.
macro_rules! freeze {
    ($rows:literal, $($argument:expr),+) => {
        sqlx::query_as!(
            Frozen,
            r#"
            WITH reviewed AS MATERIALIZED (
                SELECT * FROM reviewed_prompts($3, $4)
            ), selected AS MATERIALIZED (
            "# + $rows + r#"
            ), taken AS (
                INSERT INTO snapshot_items (snapshot_id, position, item_id, review_id)
                SELECT $1, row_number() OVER (ORDER BY external_id COLLATE "C", id) - 1, id, review_id
                FROM selected
                WHERE $2 OR NOT is_personal
                RETURNING 1
            )
            SELECT (SELECT count(*) FROM taken) AS "n_items!",
                   (SELECT count(*) FROM selected WHERE is_personal AND NOT $2) AS "n_left_out!"
            "#,
            $($argument),+
        )
    };
}

/// The newest version of each submitted ranking; where somebody decided between those of a task, as the
/// selection says.
async fn freeze_rankings(
    db: &mut PgConnection,
    id: SnapshotId,
    selection: &Selection,
    exclusions: &Exclusions,
) -> sqlx::Result<Frozen> {
    let tasks: Vec<Uuid> = exclusions.tasks.iter().map(|id| id.0).collect();
    freeze!(
        r#"
        SELECT r.id, p.external_id, v.review_id, coalesce(v.is_personal, FALSE) AS is_personal
        FROM rankings r
        JOIN assignments a ON a.id = r.assignment_id
        JOIN accounts u ON u.id = a.labeler_id
        JOIN tasks t ON t.id = a.task_id
        JOIN prompts p ON p.id = t.prompt_id
        LEFT JOIN reviewed v ON v.prompt_id = p.id
        WHERE t.project_id = $3
          AND a.status = 'submitted'
          AND t.purpose = 'label'
          AND (SELECT count(*) FROM ratings g WHERE g.ranking_id = r.id AND g.rank IS NOT NULL) >= 2
          AND NOT EXISTS (SELECT 1 FROM rankings n WHERE n.assignment_id = a.id AND n.version > r.version)
          AND (cardinality($5::TEXT[]) = 0
               OR CASE WHEN $6 THEN coalesce(v.category, p.category) ELSE p.category END = ANY ($5))
          AND ($7 OR NOT u.is_simulated)
          AND a.labeler_id <> ALL ($4)
          -- A decision settles what labelers did not agree on.
          AND (t.id NOT IN (SELECT unnest($9::UUID[])) OR $8 = 'adjudicated' AND a.is_adjudication)
          AND CASE $8
              WHEN 'all' THEN TRUE
              WHEN 'labels' THEN NOT a.is_adjudication
              ELSE NOT EXISTS (
                  SELECT 1 FROM assignments d JOIN rankings s ON s.assignment_id = d.id
                  WHERE d.task_id = t.id AND d.is_adjudication AND d.labeler_id <> ALL ($4)
                    AND (NOT a.is_adjudication OR (s.created_at, s.id) > (r.created_at, r.id))) END
        "#,
        id.0,
        selection.include_personal,
        selection.project_id.0,
        &keys(&exclusions.labelers),
        &selection.categories,
        selection.reviewed_categories,
        selection.include_simulated,
        selection.labels.as_str(),
        &tasks
    )
    .fetch_one(db)
    .await
}

/// Demonstrations of files, and those of the newest version of each writing that is for the dataset.
async fn freeze_demonstrations(
    db: &mut PgConnection,
    id: SnapshotId,
    selection: &Selection,
    exclusions: &Exclusions,
) -> sqlx::Result<Frozen> {
    freeze!(
        r#"
        SELECT d.id, d.external_id, NULL::UUID AS review_id, coalesce(v.is_personal, FALSE) AS is_personal
        FROM demonstrations d
        LEFT JOIN accounts u ON u.id = d.labeler_id
        LEFT JOIN writings w ON w.id = d.writing_id
        LEFT JOIN assignments a ON a.id = w.assignment_id
        LEFT JOIN tasks t ON t.id = a.task_id
        LEFT JOIN reviewed v ON v.prompt_id = t.prompt_id
        WHERE d.project_id = $3
          AND (d.writing_id IS NULL
               OR a.status = 'submitted' AND t.purpose = 'label'
                  AND NOT EXISTS (SELECT 1 FROM writings n
                                  WHERE n.assignment_id = w.assignment_id AND n.version > w.version))
          AND (cardinality($5::TEXT[]) = 0 OR d.category = ANY ($5))
          AND ($6 OR NOT coalesce(u.is_simulated, FALSE))
          AND (d.labeler_id IS NULL OR d.labeler_id <> ALL ($4))
        "#,
        id.0,
        selection.include_personal,
        selection.project_id.0,
        &keys(&exclusions.labelers),
        &selection.categories,
        selection.include_simulated
    )
    .fetch_one(db)
    .await
}

async fn freeze_prompts(
    db: &mut PgConnection,
    id: SnapshotId,
    selection: &Selection,
    exclusions: &Exclusions,
) -> sqlx::Result<Frozen> {
    freeze!(
        r#"
        SELECT p.id, p.external_id, v.review_id, coalesce(v.is_personal, FALSE) AS is_personal
        FROM prompts p
        LEFT JOIN reviewed v ON v.prompt_id = p.id
        WHERE p.project_id = $3
          AND (cardinality($5::TEXT[]) = 0
               OR CASE WHEN $6 THEN coalesce(v.category, p.category) ELSE p.category END = ANY ($5))
        "#,
        id.0,
        selection.include_personal,
        selection.project_id.0,
        &keys(&exclusions.labelers),
        &selection.categories,
        selection.reviewed_categories
    )
    .fetch_one(db)
    .await
}

async fn freeze_texts(
    db: &mut PgConnection,
    id: SnapshotId,
    selection: &Selection,
) -> sqlx::Result<Frozen> {
    let done = sqlx::query!(
        r#"
        INSERT INTO snapshot_items (snapshot_id, position, item_id)
        SELECT $1, row_number() OVER (ORDER BY external_id COLLATE "C") - 1, id
        FROM texts
        WHERE project_id = $2
        "#,
        id.0,
        selection.project_id.0
    )
    .execute(db)
    .await?;
    Ok(Frozen {
        n_items: done.rows_affected() as i64,
        n_left_out: 0,
    })
}
